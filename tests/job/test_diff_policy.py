"""diff-policy: what it predicts is what a run with the other policy really changes, and nothing is called certain that is not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jobkit
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jobkit import World

from airflow_facefog.audit.sealed import LedgerError
from airflow_facefog.core.detector import DetectorInfo
from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.core.policy import FogPolicy, load_policy
from airflow_facefog.core.records import Detection
from airflow_facefog.core.regions import Decided, decide
from airflow_facefog.detectors.canary import Canary
from airflow_facefog.job.model import Place
from airflow_facefog.job.record.diff_policy import Difference, diff_policy, utc
from airflow_facefog.job.record.refog_list import read_list, write_list
from airflow_facefog.job.record.replay import Doubt, Outcome, Verdict, replay

SIZE = (160, 120)
SEEN = {"kind": "python", "factory": "test_diff_policy:WrittenDetector"}


class WrittenDetector:
    """Answers by the picture's width from a file beside the photos: different widths, different answers."""

    def __init__(self, script: str) -> None:
        self._script: dict[str, list[Any]] = json.loads(Path(script).read_text())

    @property
    def info(self) -> DetectorInfo:
        """Identity of the test detector."""
        return DetectorInfo("written", "written", "1", "0" * 64, "written-1", None)

    def canary(self) -> Canary:
        """Any picture will do."""
        return Canary(jobkit.picture(999, (128, 128)), "face", 0.5)

    def detect(self, pixels: Any, floor: float) -> Sequence[Detection]:
        """What the file says about this width; a canary is one face."""
        rows = self._script.get(str(pixels.shape[1]), [[20, 20, 60, 60, 0.9, "face"]])
        found = [Detection(tuple(row[:4]), row[4], row[5], 0, None, "written") for row in rows]  # type: ignore[arg-type]
        return [detection.on_grid() for detection in found if detection.confidence >= floor]


ANSWERS: dict[str, list[Any]] = {
    "160": [[40, 30, 72, 70, 0.9, "face"]],
    "168": [[40, 30, 72, 70, 0.3, "face"], [100, 20, 130, 50, 0.8, "plate"]],
    "176": [[40, 30, 72, 70, 0.2, "face"]],
    "184": [[40, 30, 72, 70, 0.9, "face"], [44, 32, 76, 72, 0.4, "face"]],
    "192": [],
    "200": [[40, 30, 72, 70, 0.7, "face"], [44, 32, 76, 72, 0.2, "face"], [120, 60, 150, 90, 0.15, "sign"]],
    "208": [[30, 30, 90, 90, 0.8, "person"], [40, 34, 80, 80, 0.6, "face"]],
}  # fmt: skip

POLICIES: dict[str, dict[str, Any]] = {
    "same": {},
    "renamed": {"name": "other", "max_quarantined": 0.5},
    "high": {"rules": {"face": {"min_confidence": 0.45}}},
    "low": {"rules": {"face": {"min_confidence": 0.15}}},
    "fill": {"rules": {"face": {"method": "fill"}}},
    "colour": {"fill_color": [1, 2, 3]},
    "wide": {"rules": {"face": {"margin": {"sides": 0.6}}}},
    "ellipse": {"rules": {"face": {"shape": "ellipse"}}},
    "faces only": {"rules": {"face": {}}, "other_classes": "ignore"},
    "no plates": {"rules": {"plate": {"min_confidence": 0.9}}, "accept_high_threshold": True},
    "other low": {"other_rule": {"min_confidence": 0.1}},
    "png": {"output": {"format": "png"}},
    "floor": {"record_floor": 0.05},
    "deeper": {"record_floor": 0.05, "rules": {"face": {"min_confidence": 0.05}}},
    "few pixels": {"limits": {"max_pixels": 20_000}, "max_quarantined": 1.0},
    "plates filled": {"rules": {"plate": {"method": "fill"}}},
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Seven photos of different widths, fogged once under the default policy."""
    made = World(tmp_path_factory.mktemp("diff"))
    (made.root / "script.json").write_text(json.dumps(ANSWERS))
    for index, width in enumerate(ANSWERS):
        jobkit.save(made.raw / "a" / f"photo_{width}.jpg", jobkit.picture(index, (int(width), 120)))
    jobkit.run(request(made, "first", FogPolicy()))
    return made


def request(world: World, run_id: str, policy: FogPolicy, **more: Any) -> Any:
    """A plan request with the written detector."""
    detector = {**SEEN, "options": {"script": str(world.root / "script.json")}}
    return world.request(run_id, policy=policy, detector=detector, **more)


def diff(world: World, policy: FogPolicy, **more: Any) -> Difference:
    """Replay what this world publishes."""
    return diff_policy(Place.parse(world.audit), policy, **more)


def fogged(rows: Sequence[dict[str, Any]]) -> dict[str, list[tuple[Any, ...]]]:
    """source_ref → its fogged regions: what was covered and how (``params_hash`` tells shapes apart, and more)."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    for row in rows:
        if row["action"] == "fogged":
            region = (row["method"], row["fx1"], row["fy1"], row["fx2"], row["fy2"])
            found.setdefault(row["source_ref"], []).append(region)
    return {ref: sorted(regions) for ref, regions in found.items()}


@pytest.mark.parametrize("name", POLICIES)
def test_the_prediction_is_what_a_run_really_changes(
    name: str, world: World, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Run the other policy on the same photos: an image called changed is another file, one called unchanged is the same
    bytes; nothing that differs is missing from the list."""
    policy = load_policy(POLICIES[name])
    found = diff(world, policy)
    other = World(tmp_path_factory.mktemp("other"))
    there = {"destination": Place.parse(other.clean), "audit": Place.parse(other.audit)}
    result = jobkit.run(replace(request(world, "other", policy), **there))
    before = {row["source_ref"]: row for row in jobkit.audit_rows(world, first_result(world))}
    after = {row["source_ref"]: row for row in jobkit.audit_rows(other, result)}
    regions = [fogged(jobkit.audit_rows(w, r, "detection")) for w, r in ((world, first_result(world)), (other, result))]
    differs = {
        ref
        for ref in before
        if before[ref]["output_sha256"] != after[ref]["output_sha256"] or regions[0].get(ref) != regions[1].get(ref)
    }
    verdicts = {row["source_ref"]: row["verdict"] for row in found.images}
    certain = {ref for ref, verdict in verdicts.items() if verdict == Verdict.CHANGED}
    assert certain <= differs <= set(verdicts)
    expected = {"deeper", "high", "wide", "png", "low", "few pixels"}
    assert name in expected or certain == differs == set(verdicts), "nothing here is doubtful"


def first_result(world: World) -> dict[str, Any]:
    """The run of the fixture, as ``jobkit.audit_rows`` wants it."""
    (manifest,) = (path for path in (world.audit / "runs").glob("*/0/manifest.json"))
    return {"manifest_uri": f"file://{manifest}"}


@pytest.mark.parametrize(
    ("name", "verdicts", "reason"),
    [
        ("high", {"168": "changed", "184": "undecided"}, {"184": "members"}),
        ("low", {"176": "changed"}, {}),
        ("wide", {"160": "changed", "184": "changed", "200": "changed", "168": "changed"}, {}),
        ("png", dict.fromkeys(ANSWERS, "changed"), dict.fromkeys(ANSWERS, "file")),
        ("deeper", dict.fromkeys(["160", "192"], "undecided"), {"160": "record_floor", "192": "record_floor"}),
        ("few pixels", {"168": "changed", "208": "changed"}, {"168": "file", "208": "file"}),
    ],
)
def test_reasons_are_told(name: str, verdicts: dict[str, str], reason: dict[str, str], world: World) -> None:
    """What is certain and what the record cannot decide is said per image."""
    rows = {row["output_uri"].split("photo_")[1][:3]: row for row in diff(world, load_policy(POLICIES[name])).images}
    assert {width: rows[width]["verdict"] for width in verdicts} == verdicts
    assert {width: rows[width]["reason"] for width in reason if width in reason} == reason


def test_the_whole_way(tmp_path: Path) -> None:
    """Diff, fog exactly these again, diff again: nothing left; the snapshot moved for these alone, names stay."""
    world = World(tmp_path)
    (world.root / "script.json").write_text(json.dumps(ANSWERS))
    for index, width in enumerate(ANSWERS):
        jobkit.save(world.raw / "a" / f"photo_{width}.jpg", jobkit.picture(index, (int(width), 120)))
    jobkit.run(request(world, "first", FogPolicy()))
    policy = load_policy(POLICIES["high"])
    found = diff(world, policy)
    assert (found.totals["images_changed"], found.totals["images_undecided"]) == (1, 1)
    write_list(tmp_path / "list.txt", found.sources)
    sources = read_list(tmp_path / "list.txt")
    assert [Path(uri).name for uri in sources] == ["photo_168.jpg", "photo_184.jpg"]
    shown = paths(world)
    result = jobkit.run(request(world, "again", policy, sources=sources))
    assert result["counts"]["listed"] == 2
    assert result["snapshot_seq"] == 2
    now = paths(world)
    assert shown.keys() == now.keys()
    moved = {path for path in shown if shown[path] != now[path]}
    assert moved == {"a/photo_168.jpg", "a/photo_184.jpg"}
    again = diff(world, policy)
    assert (again.images, again.sources) == ([], ())
    assert again.totals["images_unchanged"] == len(ANSWERS)


def paths(world: World) -> dict[str, str]:
    """Plain path → hash of what the newest snapshot shows."""
    from upath import UPath

    from airflow_facefog.publish.snapshots import open_dataset

    return {row["path"]: row["sha256"] for row in open_dataset(UPath(world.clean)).to_pylist()}


def test_what_is_left_out_and_what_is_refused(world: World) -> None:
    """Since, run, destination and dataset choose; what fits nothing is an error, an empty audit is not."""
    policy = load_policy(POLICIES["fill"])
    run_key = first_result(world)["manifest_uri"].split("/")[-3]
    everything = diff(world, policy).images
    assert everything
    assert diff(world, policy, run_key=run_key, destination=str(world.clean), dataset="default").images == everything
    assert diff(world, policy, since="2999-01-01").images == []
    assert diff(world, policy, since="2020-01-01").images == everything
    assert diff(world, policy, run_key="0" * 32).images == []
    with pytest.raises(ConfigurationError, match="no sealed run"):
        diff(world, policy, dataset="other")
    with pytest.raises(ConfigurationError, match="no date"):
        diff(world, policy, since="yesterday")
    (world.root / "empty").mkdir(exist_ok=True)
    assert diff_policy(Place.parse(world.root / "empty"), policy).images == []
    with pytest.raises(ConfigurationError, match="no audit"):
        diff_policy(Place.parse(world.root / "nothing"), policy)


def test_a_moved_destination_is_found(world: World, tmp_path: Path) -> None:
    """A copy of the destination elsewhere is looked at when one says where."""
    import shutil

    shutil.copytree(world.clean, tmp_path / "copy")
    policy = load_policy(POLICIES["fill"])
    found = diff(world, policy, clean=Place.parse(tmp_path / "copy"))
    assert [row["source_ref"] for row in found.images] == [row["source_ref"] for row in diff(world, policy).images]


def test_sources_that_are_gone_are_reported(world: World, tmp_path: Path) -> None:
    """Past its retention a source is unknown: the image stays listed, its URI is in no list."""
    import shutil

    copy = tmp_path / "audit"
    shutil.copytree(world.audit, copy)
    shutil.rmtree(copy / "sources")
    found = diff_policy(Place.parse(copy), load_policy(POLICIES["fill"]))
    assert found.sources == ()
    assert {row["source"] for row in found.images} == {"unknown"}
    assert found.totals["unknown_sources"] == len(found.images) > 0


def test_expired_sources_are_not_used(world: World, tmp_path: Path) -> None:
    """A row past ``expires_at`` that nobody deleted yet counts as gone."""
    import shutil

    from airflow_facefog.audit.parquet import from_parquet, to_parquet

    copy = tmp_path / "audit"
    shutil.copytree(world.audit, copy)
    (table,) = (copy / "sources").rglob("*.parquet")
    rows = from_parquet("facefog_source", table.read_bytes())
    table.write_bytes(
        to_parquet("facefog_source", [{**row, "expires_at": "2020-01-01T00:00:00+00:00"} for row in rows])
    )
    assert diff_policy(Place.parse(copy), load_policy(POLICIES["fill"])).sources == ()


def test_a_changed_part_is_refused(world: World, tmp_path: Path) -> None:
    """A prediction from a record that was changed would be worth nothing."""
    import shutil

    copy = tmp_path / "audit"
    shutil.copytree(world.audit, copy)
    (part,) = copy.rglob("runs/*/0/detection.parquet")
    part.write_bytes(part.read_bytes() + b"x")
    with pytest.raises(LedgerError, match="detection"):
        diff_policy(Place.parse(copy), FogPolicy())


# --- replay alone, against the decisions themselves

CLASSES = ("face", "plate", "person")
whole = st.integers(0, 14).map(lambda v: v * 10.0)
confidences = st.sampled_from([0.1, 0.2, 0.25, 0.3, 0.4, 0.6, 0.9])


@st.composite
def detections(draw: st.DrawFn) -> Detection:
    """Boxes on a coarse grid: they often overlap, so clusters and merged regions are common."""
    x, y = draw(whole), draw(whole)
    side = draw(st.sampled_from([10.0, 30.0, 50.0]))
    return Detection((x, y, x + side, y + side), draw(confidences), draw(st.sampled_from(CLASSES)), 0, None, "d")


@st.composite
def policies(draw: st.DrawFn) -> FogPolicy:
    """Thresholds, margins, methods, shapes and classes of every kind."""

    def rule(*methods: str) -> st.SearchStrategy[dict[str, Any]]:
        return st.fixed_dictionaries(
            {"min_confidence": st.sampled_from([0.1, 0.25, 0.4, 0.8])},
            optional={
                "margin": st.sampled_from([{"sides": 0.3}, {"sides": 0.0, "top": 1.0}]),
                "method": st.sampled_from(["fog", "fill", *methods]),
                "shape": st.sampled_from(["box", "ellipse"]),
            },
        )

    names = draw(st.lists(st.sampled_from(CLASSES), unique=True, max_size=2))
    return load_policy(
        {
            "rules": {name: draw(rule() if name == "plate" else rule("pixelate")) for name in names},
            "other_classes": draw(st.sampled_from(["fog", "ignore"])),
            "other_rule": draw(rule("pixelate")),
            "accept_linkable": True,
            "accept_high_threshold": True,
            "accept_small_margins": True,
            "fill_color": draw(st.sampled_from([[128, 128, 128], [0, 0, 0]])),
            "max_recorded": draw(st.sampled_from([2, 300])),
        }
    )


def recorded(found: Sequence[Detection], policy: FogPolicy) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Image and detection rows as ``job.rows`` writes them."""
    decided = decide(found, policy, *SIZE, keyed=True)
    rows = []
    for d in decided.decisions:
        box = dict(zip(("x1", "y1", "x2", "y2"), d.xyxy, strict=True))
        region = dict(zip(("fx1", "fy1", "fx2", "fy2"), d.region or (None,) * 4, strict=True))
        rows.append(
            {
                "class_name": d.class_name, "confidence": d.confidence, "detector": d.detector, "polygon": None,
                "n_members": d.n_members, "action": d.action.value, "method": d.method and d.method.value,
                "params_hash": d.params_hash, "source": "model", **box, **region,
            }
        )  # fmt: skip
    image = {
        "n_detections": len(rows), "n_dropped": decided.n_dropped, "detect_floor": None, "refogged": 0,
        "width": SIZE[0], "height": SIZE[1], "output_uri": "file:///c/data/a.jpg",
    }  # fmt: skip
    return image, rows


def covered(decided: Decided, policy: FogPolicy) -> list[tuple[Any, ...]]:
    """What tells two outputs apart: each cluster with method, colour and the blocks that it covers."""
    from airflow_facefog.core.fog.masks import mask_of

    return sorted(
        (
            d.class_name, d.xyxy, d.confidence, str(d.method), policy.fill_color if d.method == "fill" else (),
            d.region, mask_of(d).grid.tobytes(),
        )
        for d in decided.fogged
    )  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(st.lists(detections(), max_size=7), policies(), policies())
def test_nothing_is_called_certain_that_is_not(found: list[Detection], old: FogPolicy, new: FogPolicy) -> None:
    """Unchanged means the same decisions, changed means others; images without lost members are always decided, unless
    rows were dropped."""
    image, rows = recorded(found, old)
    outcome = replay(image, rows, old, new, keyed=True)
    one, other = (covered(decide(found, policy, *SIZE, keyed=True), policy) for policy in (old, new))
    if outcome.verdict is Verdict.UNCHANGED:
        assert one == other
    if outcome.verdict is Verdict.CHANGED:
        assert one != other
    if not image["n_dropped"] and all(row["n_members"] == 1 for row in rows):
        assert outcome.verdict is (Verdict.UNCHANGED if one == other else Verdict.CHANGED)


@settings(max_examples=50, deadline=None)
@given(st.lists(detections(), max_size=9), policies())
def test_the_policy_that_made_the_rows_changes_nothing(found: list[Detection], policy: FogPolicy) -> None:
    """Whatever was seen, also with lost members and dropped rows."""
    outcome = replay(*recorded(found, policy), policy, policy, keyed=True)
    fogged_rows = len(decide(found, policy, *SIZE, keyed=True).fogged)
    assert outcome == Outcome(unchanged=fogged_rows)


@pytest.mark.parametrize(
    ("change", "doubt"),
    [
        ({"detect_floor": 0.3}, Doubt.DETECT_FLOOR),
        ({"n_dropped": 3}, None),
        ({"n_detections": 5}, Doubt.ROWS_MISSING),
    ],
)
def test_doubts_about_the_image(change: dict[str, Any], doubt: Doubt | None) -> None:
    """A detector's own floor, dropped rows and missing rows: in doubt only where they could matter."""
    image, rows = recorded([Detection((10, 10, 40, 40), 0.9, "face", 0, None, "d")], FogPolicy())
    lower = load_policy({"rules": {"face": {"min_confidence": 0.2}}})
    outcome = replay({**image, **change}, rows, FogPolicy(), lower, keyed=True)
    assert outcome.doubts == (() if doubt is None else (doubt,))


@pytest.mark.parametrize("broken", [{"fx2": 64}, {"method": "fill"}, {"params_hash": "0"}, {"source": "human"}])
def test_rows_that_the_policy_did_not_make_are_doubtful(broken: dict[str, Any]) -> None:
    """A row that the old policy would not have written, or a person wrote, is not replayed with certainty."""
    image, rows = recorded([Detection((10, 10, 40, 40), 0.9, "face", 0, None, "d")], FogPolicy())
    outcome = replay(image, [{**rows[0], **broken}], FogPolicy(), FogPolicy(), keyed=True)
    assert outcome.verdict is Verdict.UNDECIDED


def test_linkable_without_a_key_is_doubtful() -> None:
    """A policy that needs a key says nothing certain about a run without one."""
    image, rows = recorded([Detection((10, 10, 40, 40), 0.4, "plate", 0, None, "d")], FogPolicy())
    linkable = load_policy({"rules": {"face": {"method": "blur"}}, "accept_linkable": True})
    assert replay(image, rows, FogPolicy(), linkable, keyed=False).doubts == (Doubt.NO_KEY,)
    assert replay(image, rows, FogPolicy(), linkable, keyed=True).verdict is Verdict.UNCHANGED


def changed_copy(world: World, to: Path, **columns: Any) -> Place:
    """A copy of the audit whose plan says something else about its detector."""
    import shutil

    shutil.copytree(world.audit, to)
    (plan,) = to.rglob("plan.json")
    body = json.loads(plan.read_text())
    plan.chmod(0o644)
    plan.write_text(json.dumps({**body, "detector_info": {**body["detector_info"], **columns}}))
    return Place.parse(to)


def test_a_rule_for_another_detector_is_doubtful(world: World, tmp_path: Path) -> None:
    """With this detector the run would be refused; what another one sees, the record does not know."""
    new = load_policy({"rules": {"face": {}, "number_plate": {}}})
    assert diff(world, new).totals["images_unchanged"] == len(ANSWERS), "a detector of unknown classes may emit it"
    audit = changed_copy(world, tmp_path / "audit", classes=["face", "plate", "sign", "person"])
    found = diff_policy(audit, new)
    assert {row["reason"] for row in found.images} == {"unknown_class"}
    assert found.totals["images_undecided"] == len(ANSWERS)


def test_a_dataset_that_is_not_there_is_no_empty_one(world: World, tmp_path: Path) -> None:
    """A destination that cannot be seen from here must not read as "nothing would change"."""
    with pytest.raises(ConfigurationError, match="where the audit says"):
        diff(world, FogPolicy(), clean=Place.parse(tmp_path / "nowhere"))


def test_many_images_are_read_in_slices(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices change nothing of the answer."""
    policy = load_policy(POLICIES["high"])
    whole = diff(world, policy)
    monkeypatch.setattr("airflow_facefog.job.record.current.SLICE", 2)
    assert diff(world, policy) == whole
    assert whole.images


@pytest.mark.parametrize(("name", "verdict"), [("same", "unchanged"), ("fill", "undecided")])
def test_expired_detections(name: str, verdict: str, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without detection rows only the policy that made the images leaves them as they are."""
    from airflow_facefog.audit import ledger

    opened = ledger.open_ledger

    def without(audit: Any) -> ledger.Ledger:
        found = opened(audit)
        runs = (replace(r, parts={k: v for k, v in r.parts.items() if k != "detection"}) for r in found.runs)
        return replace(found, runs=tuple(runs))

    monkeypatch.setattr(ledger, "open_ledger", without)
    assert diff(world, load_policy(POLICIES[name])).totals[f"images_{verdict}"] == len(ANSWERS)


def test_an_image_that_verify_had_refused() -> None:
    """It was filled: it changes with the colour, and not by itself."""
    found = [Detection((10, 10, 40, 40), 0.9, "face", 0, None, "d")]
    image, rows = recorded(found, FogPolicy())
    from airflow_facefog.core.regions import with_fill

    (filled,) = with_fill(decide(found, FogPolicy(), *SIZE, keyed=True)).fogged
    rows = [{**rows[0], "method": "fill", "params_hash": filled.params_hash}]
    image = {**image, "refogged": 1}
    assert replay(image, rows, FogPolicy(), FogPolicy(), keyed=True).verdict is Verdict.UNCHANGED
    other = load_policy({"fill_color": [0, 0, 0]})
    assert replay(image, rows, FogPolicy(), other, keyed=True).other_method == 1


@pytest.mark.parametrize(
    "uri", ["file:///a b/ü.jpg", "file:///a\nb.jpg", '"quoted"', "#x", "file:///a\udc80.jpg", " spaced ", "s3://b/k"]
)
def test_any_name_comes_back_from_a_list(uri: str, tmp_path: Path) -> None:
    """Names with line ends, quotes and bytes that are no UTF-8 survive; the file is its owner's alone."""
    path = tmp_path / "list.txt"
    write_list(path, [uri, "file:///other", uri])
    assert set(read_list(path)) == {uri, "file:///other"}
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("text", ["", "# nothing\n\n", '"broken'])
def test_lists_that_say_nothing_are_refused(text: str, tmp_path: Path) -> None:
    """An empty list is a mistake, not a run over nothing."""
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(ConfigurationError):
        read_list(tmp_path / "list.txt")


def test_moments_compare_as_text() -> None:
    """Dates and moments of any zone become one form."""
    assert utc("2026-11-23") == "2026-11-23T00:00:00.000000+00:00"
    assert utc("2026-11-23T02:00:00+02:00") == utc("2026-11-23")


def test_places_that_are_no_folders(tmp_path: Path) -> None:
    """Keys are found in the URIs of an object store too, in whatever form the place was written."""
    from uuid import uuid4

    world = World(tmp_path)
    (world.root / "script.json").write_text(json.dumps(ANSWERS))
    jobkit.save(world.raw / "photo_160.jpg", jobkit.picture(0, (160, 120)))
    base = f"memory://facefog-{uuid4().hex}"
    places = {"destination": Place.parse(f"{base}/data/clean/"), "audit": Place.parse(f"{base}/audit")}
    jobkit.run(request(world, "first", FogPolicy(), **places))
    found = diff_policy(places["audit"], load_policy(POLICIES["fill"]))
    assert [row["verdict"] for row in found.images] == ["changed"]
    assert found.sources == (f"file://{world.raw}/photo_160.jpg",)
