"""Random histories of a source and its runs against a model of what consumers must see after each run."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
from faultkit import check_invariants, shown
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st
from jobkit import KEYS, MarkerDetector, World, attempt, picture

from airflow_facefog.core.errors import GateError
from airflow_facefog.core.pipeline import cover, look
from airflow_facefog.core.policy import FogPolicy, load_policy
from airflow_facefog.core.raw import RawImage
from airflow_facefog.job.batch import run_batch
from airflow_facefog.job.finalise import finalise
from airflow_facefog.job.plan import make_plan

NAMES = ("a.png", "b.png", "sub/c.png", "sub/d.png")
BROKEN = -1
POLICIES = {
    name: load_policy({"max_quarantined": 1.0, "rules": {"face": {"method": method}}})
    for name, method in (("fog", "fog"), ("fill", "fill"))
}


@cache
def content(version: int) -> bytes:
    """A file: a small photo with a marker, or one that cannot be read."""
    image = picture(version + 7, (48, 32), markers=[(8 + version, 8, 24, 20)])
    data = cv2.imencode(".png", image)[1].tobytes()
    return data if version != BROKEN else data[:60]


@cache
def fogged(version: int, policy: str) -> str:
    """sha256 of what must be published, computed without the job."""
    raw, rules = RawImage(content(version), "id"), POLICIES[policy]
    seen = look(raw, MarkerDetector(), rules)
    return hashlib.sha256(cover(raw, seen.picture, seen.detections, rules, KEYS).encoded.data).hexdigest()


@dataclass(frozen=True)
class Listed:
    """A run that listed the source as number ``when`` and whose batches are done."""

    when: int
    files: dict[str, int]
    policy: str
    mirror: bool
    refs: list[dict[str, Any]]

    def may_finalise(self) -> bool:
        """The gate: a listing that is not empty must publish or skip something."""
        return not self.files or any(version != BROKEN for version in self.files.values())


class Model:
    """What is in the source, and for each path the newest listing that said something, with (version, policy) or None."""

    def __init__(self) -> None:
        self.files: dict[str, int] = {}
        self.newest: dict[str, tuple[int, tuple[int, str] | None]] = {}

    @property
    def visible(self) -> dict[str, tuple[int, str]]:
        """What consumers see."""
        return {name: row for name, (_, row) in self.newest.items() if row is not None}

    def finish(self, run: Listed) -> bool:
        """A run says how the files were; a skipped one counts like a published one. Whether consumers see a change."""
        before = self.visible
        said: dict[str, tuple[int, str] | None] = {
            name: None if version == BROKEN else (version, run.policy) for name, version in run.files.items()
        }
        if run.mirror:
            said |= {name: None for name in before if name not in run.files}
        for name, row in said.items():
            if self.newest.get(name, (-1, None))[0] < run.when:
                self.newest[name] = (run.when, row)
        return before != self.visible


class Life:
    """A world, its model, and what is done to both."""

    def __init__(self, root: Path, layout: str) -> None:
        self.world = World(root)
        self.model = Model()
        self.layout = layout
        self.runs = 0
        self.late: list[Listed] = []

    def put(self, name: str, version: int) -> None:
        """Add, change or break a file."""
        path = self.world.raw / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(version))
        self.model.files[name] = version

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        (self.world.raw / name).unlink(missing_ok=True)
        self.model.files.pop(name, None)

    def run(self, policy: str, mirror: bool, again: str) -> None:
        """A run, in which ``again`` says what is tried twice, and what must be seen after it."""
        before = self.seen()
        listed = self.look(policy, mirror, again)
        assert self.seen() == before, "consumers saw a run before it was finalised"
        self.finish(listed, again)

    def begin(self, policy: str, mirror: bool) -> None:
        """A run lists the source and does its batches; it finalises later."""
        self.late.append(self.look(policy, mirror, "nothing"))

    def end(self) -> None:
        """The last run that was begun finalises now, if there is one."""
        if self.late:
            event("a late run")
            self.finish(self.late.pop(), "nothing")

    def look(self, policy: str, mirror: bool, again: str) -> Listed:
        """Plan and batches."""
        self.runs += 1
        rules: FogPolicy = POLICIES[policy]
        request = self.world.request(
            f"run-{self.runs}", policy=rules, mirror=mirror, layout=self.layout, batch_images=3
        )
        refs = make_plan(request, KEYS)
        if again == "plan":
            assert make_plan(request, KEYS) == refs
        for ref in refs * 2 if again == "batches" else refs:
            run_batch(ref["plan"], ref["batch"], attempt=attempt(), keys=KEYS, workers=1)
        return Listed(self.runs, dict(self.model.files), policy, mirror, refs)

    def finish(self, run: Listed, again: str) -> None:
        """Finalise, and what must be seen after it."""
        before, refs = self.seen(), run.refs
        if not run.may_finalise():
            event("refused by the gate")
            self.finalise_refused(refs)
            assert self.seen() == before
            return
        result = finalise(refs[0]["plan"], attempt=attempt(), keys=KEYS)
        assert result["changed"] == self.model.finish(run)
        if again == "finalise":
            once = finalise(refs[0]["plan"], attempt=attempt(), keys=KEYS)
            assert (once["snapshot_seq"], once["manifest_sha256"]) == (
                result["snapshot_seq"],
                result["manifest_sha256"],
            )
        assert sum(result["counts"][name] for name in ("published", "quarantined", "failed", "skipped")) == len(
            run.files
        )
        event(f"changed {result['changed']}, skipped {result['counts']['skipped'] > 0}")

    def finalise_refused(self, refs: list[dict[str, Any]]) -> None:
        """The gate must refuse."""
        try:
            finalise(refs[0]["plan"], attempt=attempt(), keys=KEYS)
        except GateError:
            return
        raise AssertionError("the gate let a run pass that published nothing")

    def check(self) -> None:
        """Consumers see what the model says, and nothing is visible or claimed that must not be."""
        expected = sorted(fogged(*row) for row in self.model.visible.values())
        assert sorted(self.seen().values() if self.layout == "named" else self.seen_hashes()) == expected
        if self.layout == "named":
            assert self.seen() == {name: fogged(*row) for name, row in self.model.visible.items()}
        check_invariants(self.world)

    def seen(self) -> Any:
        """Path → sha256, or the sorted hashes where there are no paths."""
        return shown(self.world) if self.layout == "named" else self.seen_hashes()

    def seen_hashes(self) -> list[str]:
        """Hashes of all visible rows."""
        from airflow_facefog.publish.snapshots import open_dataset

        if not self.world.snapshots():
            return []
        return sorted(open_dataset(str(self.world.clean))["sha256"].to_pylist())


changes = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(NAMES), st.sampled_from([0, 0, 1, 2, BROKEN])),
    st.tuples(st.just("remove"), st.sampled_from(NAMES)),
    st.tuples(st.just("begin"), st.sampled_from(["fog", "fog", "fill"]), st.booleans()),
    st.tuples(st.just("end")),
)
runs = st.tuples(
    st.just("run"), st.sampled_from(["fog", "fog", "fill"]), st.booleans(),
    st.sampled_from(["nothing", "plan", "batches", "finalise"]),
)  # fmt: skip
histories = st.lists(st.tuples(st.lists(changes, min_size=1, max_size=4), runs), min_size=2, max_size=4)


RUN = ("run", "fog", False, "nothing")
A, B = NAMES[:2]
LATE = [("put", A, 1), ("begin", "fog", False), ("put", A, 0)]
"""A run that saw another version of a file, which then went back to what it was."""


@example(layout="named", history=[([], RUN), ([*LATE, ("put", B, 0)], RUN), ([("end",)], RUN)])
@example(layout="content", history=[([], RUN), (LATE, RUN), ([("end",)], RUN)])
@example(layout="named", history=[([], RUN), ([*LATE, ("begin", "fog", False)], RUN), ([("end",), ("end",)], RUN)])
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(layout=st.sampled_from(["named", "content"]), history=histories)
def test_consumers_see_what_the_model_says(layout: str, history: list[Any]) -> None:
    """Files come, change, break and go; either policy; mirrored, late, steps tried twice: the model holds."""
    with tempfile.TemporaryDirectory() as folder:
        life = Life(Path(folder), layout)
        life.put(NAMES[0], 0)
        for steps, last in history:
            for name, *values in [*steps, last]:
                getattr(life, name)(*values)
                if name in ("run", "end"):
                    life.check()
