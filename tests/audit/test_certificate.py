"""Certificates of a real, signed run: what they prove, that no change survives a check, and what they never show."""

from __future__ import annotations

import copy
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "job"))

from jobkit import KEYS, World, attempt

from airflow_facefog.audit.amendments import Cursor, Request, remove_parts, remove_rows
from airflow_facefog.audit.certificate import find_image, make_certificate
from airflow_facefog.audit.certificate_check import Verdict, check_certificate
from airflow_facefog.audit.ledger import open_ledger
from airflow_facefog.audit.parquet import from_parquet
from airflow_facefog.audit.schema import RUN
from airflow_facefog.audit.sealed import LedgerError, SigningKey, canonical, seal, sha256
from airflow_facefog.cli.app import run as facefog
from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.job.batch import run_batch
from airflow_facefog.job.finalise import finalise
from airflow_facefog.job.model import Place, open_root_plain
from airflow_facefog.job.plan import make_plan, open_store

KEY, OTHER = SigningKey.generate(), SigningKey.generate()
TRUST = {KEY.key_id: KEY.public}
ERASURE = Request("e" * 32, "erasure")
Json = dict[str, Any]


@dataclass
class Audited:
    """A world with sealed runs."""

    world: World

    @property
    def store(self) -> Any:
        """Its audit."""
        return open_store(Place.parse(self.world.audit), open_root_plain)

    def run(self, name: str, signer: SigningKey | None = KEY) -> str:
        """One whole run; its run_key."""
        refs = make_plan(self.world.request(name), KEYS)
        for ref in refs:
            run_batch(ref["plan"], ref["batch"], attempt=attempt(), keys=KEYS, workers=1)
        finalise(refs[0]["plan"], attempt=attempt(), keys=KEYS, signer=signer)
        return Path(refs[0]["plan"]).parts[-3]

    def rows(self, run_key: str, table: str = "image") -> list[Json]:
        """Rows of a run's part."""
        part = open_ledger(self.store).find(run_key, 0).parts[table]  # type: ignore[union-attr]
        return from_parquet(f"facefog_{table}", self.store.read(part.key))

    def make(self, *wanted: str, run: str | None = None) -> bytes:
        """A certificate."""
        return make_certificate(self.store, find_image(self.store, open_ledger(self.store), wanted, run))


def build(folder: Path) -> tuple[Audited, str]:
    """Five photos and a broken file, run once and signed."""
    audited = Audited(World(folder))
    audited.world.photos(5)
    (audited.world.raw / "broken.jpg").write_bytes(b"no image")
    return audited, audited.run("run-1")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Audited, str]:
    """A world that no test changes."""
    return build(tmp_path_factory.mktemp("certified"))


@pytest.fixture
def fresh(tmp_path: Path) -> tuple[Audited, str]:
    """A world of this test."""
    return build(tmp_path)


@pytest.fixture(scope="module")
def given(first: tuple[Audited, str]) -> bytes:
    """The certificate of a published photo with one detection."""
    audited, run_key = first
    return audited.make(published(audited, run_key)[2]["output_sha256"])


def published(audited: Audited, run_key: str) -> list[Json]:
    """The published rows."""
    return [row for row in audited.rows(run_key) if row["status"] == "published"]


def file_of(audited: Audited, row: Json) -> Path:
    """The published file of a row."""
    return next(
        p for p in audited.world.clean.rglob("*") if p.is_file() and sha256(p.read_bytes()) == row["output_sha256"]
    )


def failed(data: bytes, trusted: Any = TRUST, image: str | None = None) -> set[str]:
    """Names of the checks that fail."""
    return {f.check for f in check_certificate(data, trusted, image).findings if f.verdict is Verdict.FAILS}


def test_it_proves_a_published_image(first: tuple[Audited, str], given: bytes) -> None:
    """Every check holds, and it is authentic, with the signer's key and the published file."""
    row = json.loads(given)["image"]
    found = check_certificate(given, TRUST, row["output_sha256"])
    assert {finding.verdict for finding in found.findings} == {Verdict.HOLDS}
    assert found.authentic
    assert found.holds


def test_without_a_key_it_is_consistent_only(given: bytes) -> None:
    """Signatures that were not checked are open, and never called authentic."""
    found = check_certificate(given, {})
    assert found.holds
    assert not found.authentic
    opened = {finding.check for finding in found.findings if finding.verdict is Verdict.OPEN}
    assert opened == {"manifest signature", "chain signature", "image"}


def test_it_discloses_no_other_row_and_no_source(first: tuple[Audited, str], given: bytes) -> None:
    """No id, name, box or output of another image, no salt but its own, and no path of a source is in its text."""
    audited, run_key = first
    text = given.decode()
    own = json.loads(given)["image"]
    others = [row for row in audited.rows(run_key) if row["source_ref"] != own["source_ref"]]
    assert len(others) == 5
    for row in others:
        for name in ("source_ref", "image_id", "output_sha256", "output_uri", "source_etag"):
            assert row[name] is None or row[name] not in text, name
    assert str(audited.world.raw) not in text
    known = [salt.hex() for salt in salts_of(audited, run_key) if salt.hex() in text]
    assert known == [json.loads(given)["leaf"]["salt"]]


def salts_of(audited: Audited, run_key: str) -> list[bytes]:
    """Salts of a run."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = audited.store.read(f"runs/{run_key}/0/leaf.parquet")
    return list(pq.read_table(pa.BufferReader(data))["salt"].to_pylist())


def at(*path: Any, to: Any) -> Callable[[Json], None]:
    """A change of one value: ``to`` is the new value, or a function of the old one."""

    def change(document: Json) -> None:
        place: Any = document
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = to(place[path[-1]]) if callable(to) else to

    return change


def drop(*path: Any) -> Callable[[Json], None]:
    """A field or item is removed."""

    def change(document: Json) -> None:
        place: Any = document
        for step in path[:-1]:
            place = place[step]
        del place[path[-1]]

    return change


def more(document: Json) -> None:
    """A detection is added."""
    document["detections"].append({**document["detections"][0], "det_idx": 1})


def moved(document: Json) -> None:
    """A detection of another image is slipped in."""
    document["detections"][0]["source_ref"] = "0" * 64


def swapped_key(document: Json) -> None:
    """Another key signs and gives itself the name of the trusted one."""
    body = {**document["manifest"], "signer": {"algorithm": "ed25519", "key_id": KEY.key_id}}
    forged = json.loads(seal(body, OTHER))
    document["manifest"] = {**forged, "signer": body["signer"]}


def resealed(signer: SigningKey | None, **changes: Any) -> Callable[[Json], None]:
    """Manifest and chain entry are changed and sealed again, consistently."""

    def change(document: Json) -> None:
        manifest = seal({**document["manifest"], **changes}, signer)
        named = {**document["chain"]["manifest"], "sha256": sha256(manifest)}
        document["manifest"] = json.loads(manifest)
        document["chain"] = json.loads(seal({**document["chain"], "manifest": named}, signer))

    return change


def flip(text: str) -> str:
    """Another hexadecimal or base64 text."""
    return ("1" if text[0] != "1" else "2") + text[1:]


SIGNED = {"chain", "manifest signature"}
"""What fails whenever the manifest is changed."""

CHANGES: dict[str, tuple[Callable[[Json], None], set[str]]] = {
    "box moved": (at("detections", 0, "x1", to=lambda x: x + 1), {"leaf"}),
    "region moved": (at("detections", 0, "fx1", to=lambda x: x + 8), {"leaf"}),
    "confidence": (at("detections", 0, "confidence", to=0.1), {"leaf"}),
    "action": (at("detections", 0, "action", to="class_ignored"), {"leaf"}),
    "method": (at("detections", 0, "method", to="blur"), {"leaf"}),
    "detection dropped": (drop("detections", 0), {"leaf", "counts"}),
    "detection added": (more, {"leaf", "counts"}),
    "detection of another image": (moved, {"leaf"}),
    "status": (at("image", "status", to="quarantined"), {"leaf", "image"}),
    "output": (at("image", "output_sha256", to=flip), {"leaf", "image"}),
    "image id": (at("image", "image_id", to=flip), {"leaf"}),
    "coverage": (at("image", "verify_coverage", to=0.5), {"leaf"}),
    "column dropped": (drop("image", "encode_mode"), {"leaf"}),
    "column added": (at("image", "reason", to="refogged"), {"leaf"}),
    "unknown column": (at("image", "comment", to="all is well"), {"leaf"}),
    "index in the row": (at("image", "leaf_idx", to=0), {"leaf"}),
    "number as text": (at("image", "n_fogged", to=str), {"leaf"}),
    "float as text": (at("detections", 0, "confidence", to=repr), {"leaf"}),
    "column of nothing": (at("image", "reason", to=None), {"leaf"}),
    "salt in capitals": (at("leaf", "salt", to=str.upper), {"leaf"}),
    "proof in capitals": (at("leaf", "proof", 1, to=str.upper), {"proof"}),
    "unknown field in the leaf": (at("leaf", "comment", to="all is well"), {"leaf"}),
    "unknown field": (at("comment", to="all is well"), {"leaf"}),
    "salt": (at("leaf", "salt", to=flip), {"leaf"}),
    "leaf": (at("leaf", "hash", to=flip), {"leaf", "proof"}),
    "algorithm": (at("leaf", "algorithm", to="facefog-leaf/0"), {"leaf"}),
    "proof step": (at("leaf", "proof", 1, to=flip), {"proof"}),
    "proof cut": (drop("leaf", "proof", 0), {"proof"}),
    "index": (at("leaf", "index", to=lambda index: index ^ 1), {"proof"}),
    "index is text": (at("leaf", "index", to="2"), {"proof"}),
    "generation of rows": (at("image", "generation", to=1), {"leaf", "run"}),
    "tree size": (at("manifest", "tree", "size", to=7), {*SIGNED, "counts"}),
    "tree root": (at("manifest", "tree", "root", to=flip), {*SIGNED, "proof"}),
    "manifest count": (at("manifest", "counts", "published", to=6), {*SIGNED, "counts"}),
    "run count": (at("manifest", "run", "failed", to=1), {*SIGNED, "counts"}),
    "run key": (at("manifest", "run_key", to=flip), {*SIGNED, "run"}),
    "recipe": (at("manifest", "recipe_hash", to=flip), {*SIGNED, "run"}),
    "policy hash": (at("manifest", "policy_hash", to=flip), {*SIGNED, "policy"}),
    "policy": (at("manifest", "run", "policy_json", to=lambda text: text.replace("0.25", "0.99")), {*SIGNED, "policy"}),
    "model": (at("manifest", "run", "model_sha256", to=flip), SIGNED),
    "signature": (at("manifest", "signature", to=flip), SIGNED),
    "no signature": (at("manifest", "signature", to=None), SIGNED),
    "says unsigned": (at("manifest", "signed", to=False), SIGNED),
    "key swapped": (swapped_key, SIGNED),
    "chain time": (at("chain", "at", to="2020-01-01T00:00:00+00:00"), {"chain signature"}),
    "chain number": (at("chain", "seq", to=0), {"chain", "chain signature"}),
    "chain kind": (at("chain", "kind", to="amendment"), {"chain", "chain signature"}),
    "chain hash": (at("chain", "manifest", "sha256", to=flip), {"chain", "chain signature"}),
    "chain signature": (at("chain", "signature", to=flip), {"chain signature"}),
    "no chain entry": (at("chain", to=None), {"run", "counts", "chain", "chain signature"}),
    "no manifest": (drop("manifest"), {"leaf", "proof", "run", "counts", "chain", "policy", "manifest signature"}),
    "sealed by another": (resealed(OTHER), {"manifest signature", "chain signature"}),
    "sealed unsigned": (resealed(None), {"manifest signature", "chain signature"}),
    "other format": (resealed(KEY, format="facefog-manifest/3"), {"run"}),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_no_change_survives(given: bytes, name: str) -> None:
    """Whatever is changed, the checks that see it fail, and no other."""
    change, expected = CHANGES[name]
    document = copy.deepcopy(json.loads(given))
    digest = document["image"]["output_sha256"]
    change(document)
    assert canonical(document) != given
    assert failed(canonical(document), image=digest) == expected


def test_true_is_no_index(first: tuple[Audited, str]) -> None:
    """Python takes true for 1; a certificate does not."""
    audited, run_key = first
    (row,) = (row for row in audited.rows(run_key) if row["leaf_idx"] == 1)
    document = json.loads(audited.make(row["source_ref"]))
    assert not failed(canonical(document))
    at("leaf", "index", to=True)(document)
    assert failed(canonical(document)) == {"proof"}


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[]", b"\xff\xfe", b'{"format":"facefog-manifest/2"}', b"[" * 100_000, b'{"format":"\\ud800"}',
     b'{"format":"facefog-certificate/1","x":"\\ud800"}', b'{"format": "facefog-certificate/1"}'],
)  # fmt: skip
def test_what_is_no_certificate_fails(data: bytes) -> None:
    """Anything else is one finding, never an exception."""
    assert failed(data) == {"format"}


@pytest.mark.parametrize(
    "path", [("image",), ("detections",), ("leaf",), ("manifest",), ("chain",), ("manifest", "run")]
)
@pytest.mark.parametrize("value", [None, 1, "x", [], {}, [[]], {"a": {}}])
def test_malformed_documents_fail(given: bytes, path: tuple[str, ...], value: Any) -> None:
    """A field of another type is a failed check, never an exception."""
    document = json.loads(given)
    at(*path, to=value)(document)
    assert failed(canonical(document))


def test_two_rows_do_not_mix(first: tuple[Audited, str], given: bytes) -> None:
    """The proof of one row does not carry another, though both are in the tree."""
    audited, run_key = first
    other = json.loads(audited.make(published(audited, run_key)[3]["output_sha256"]))
    mixed = {**json.loads(given), "image": other["image"], "detections": other["detections"]}
    assert failed(canonical(mixed)) == {"leaf"}
    assert failed(given, image=other["image"]["output_sha256"]) == {"image"}


@pytest.mark.parametrize("name", ["image_id", "source_ref", "output_sha256"])
@pytest.mark.parametrize("digits", [8, 64])
def test_found_by_any_id(first: tuple[Audited, str], given: bytes, name: str, digits: int) -> None:
    """Whole or by its first digits: the same certificate."""
    audited, _ = first
    assert audited.make(json.loads(given)["image"][name][:digits]) == given


def test_what_is_not_found_or_not_unique(first: tuple[Audited, str]) -> None:
    """Both are said, with what to do; an unknown run too."""
    audited, _ = first
    with pytest.raises(LedgerError, match="no row of 1 sealed runs"):
        audited.make("0123456789")
    with pytest.raises(ConfigurationError, match="give more of them"):
        audited.make("")
    with pytest.raises(ConfigurationError, match="no sealed run"):
        audited.make("0" * 64, run="nothing")


def test_quarantined_images_have_one_too(first: tuple[Audited, str]) -> None:
    """It says that nothing was published; any file fails it."""
    audited, run_key = first
    row = next(row for row in audited.rows(run_key) if row["status"] == "quarantined")
    data = audited.make(row["image_id"])
    found = check_certificate(data, TRUST)
    assert found.authentic
    assert next(f for f in found.findings if f.check == "image").detail.startswith("nothing was published")
    assert failed(data, image="0" * 64) == {"image"}


def test_a_reused_image_leads_to_the_run_that_did_it(fresh: tuple[Audited, str]) -> None:
    """The newest row says skipped: the certificate is that of the first run, unless the run is chosen."""
    audited, run_key = fresh
    row = published(audited, run_key)[1]
    again = audited.run("run-2")
    assert {r["status"] for r in audited.rows(again)} == {"skipped", "quarantined"}
    for name in ("image_id", "source_ref", "output_sha256"):
        assert json.loads(audited.make(row[name]))["image"]["run_key"] == run_key
    chosen = audited.make(row["image_id"], run=again)
    assert json.loads(chosen)["image"]["status"] == "skipped"
    assert check_certificate(chosen, TRUST).authentic


def test_equal_bytes_lead_to_the_first(tmp_path: Path) -> None:
    """Of several items with equal bytes the one that the others point to; each source_ref has its own certificate."""
    audited = Audited(World(tmp_path))
    (photo,) = audited.world.photos(1)
    (audited.world.raw / "twin.jpg").write_bytes(photo.read_bytes())
    rows = audited.rows(audited.run("run-1"))
    found = find_image(audited.store, open_ledger(audited.store), [rows[0]["image_id"]])
    assert (found.row["duplicate_of"], found.others) == (None, 1)
    for row in rows:
        assert json.loads(audited.make(row["source_ref"]))["image"]["source_ref"] == row["source_ref"]


def test_after_an_erasure(fresh: tuple[Audited, str]) -> None:
    """The erased row has no certificate any more, others prove as before, and a copy given out before still holds."""
    import pyarrow.compute as pc

    audited, run_key = fresh
    rows = published(audited, run_key)
    before = {row["image_id"]: audited.make(row["image_id"]) for row in rows}
    gone, kept = rows[0]["image_id"], rows[1]["image_id"]
    ledger = open_ledger(audited.store)
    remove_rows(
        audited.store, Cursor.after(ledger), ledger.find(run_key, 0), ERASURE,  # type: ignore[arg-type]
        lambda table: pc.fill_null(pc.equal(table["image_id"], gone), False), KEY,
    )  # fmt: skip
    with pytest.raises(LedgerError, match="or it was erased or has expired"):
        audited.make(gone)
    assert audited.make(kept) == before[kept]
    assert check_certificate(before[gone], TRUST).authentic


@pytest.mark.parametrize(
    ("part", "message"), [("image", "erased or has expired"), ("detection", "expired"), ("leaf", "expired")]
)
def test_after_an_expiry(fresh: tuple[Audited, str], part: str, message: str) -> None:
    """A part that is gone is said, whichever it is."""
    audited, run_key = fresh
    row = published(audited, run_key)[0]
    ledger = open_ledger(audited.store)
    expiry = replace(ERASURE, reason="expiry")
    remove_parts(audited.store, Cursor.after(ledger), ledger.find(run_key, 0), expiry, [part], KEY)  # type: ignore[arg-type]
    with pytest.raises(LedgerError, match=message):
        audited.make(row["image_id"])


def test_runs_of_older_releases_say_so(first: tuple[Audited, str]) -> None:
    """Without a tree nothing can be proven row by row; outside of the chain nothing yet: both say what to do."""
    audited, run_key = first
    found = find_image(audited.store, open_ledger(audited.store), [published(audited, run_key)[0]["image_id"]])
    old = {**found.run.manifest, "format": "facefog-manifest/1"}
    del old["tree"]
    with pytest.raises(LedgerError, match=r"older release.*fog the image again"):
        make_certificate(audited.store, replace(found, run=replace(found.run, manifest=old)))
    with pytest.raises(LedgerError, match="facefog audit seal"):
        make_certificate(audited.store, replace(found, run=replace(found.run, seq=None)))


@pytest.mark.parametrize("part", ["image", "detection", "leaf"])
def test_a_damaged_audit_makes_no_certificate(fresh: tuple[Audited, str], part: str) -> None:
    """A part with other bytes than the manifest names is refused, and named."""
    audited, run_key = fresh
    row = published(audited, run_key)[0]
    path = audited.world.audit / "runs" / run_key / "0" / f"{part}.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(LedgerError, match=f"{part}.parquet"):
        audited.make(row["image_id"])


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs ``facefog certificate …`` with the test's master key; gives code, stdout, stderr."""
    monkeypatch.setenv("FACEFOG_KEY", bytes(range(32)).hex())
    monkeypatch.delenv("FACEFOG_PUBLIC_KEY_FILE", raising=False)

    def call(*argv: object) -> tuple[int, str, str]:
        code = facefog(["certificate", *map(str, argv)])
        streams = capsys.readouterr()
        return code, streams.out, streams.err

    return call


def test_command_makes_and_checks(first: tuple[Audited, str], tmp_path: Path, command: Any) -> None:
    """From the fogged file and from the raw one comes the same certificate, which holds for the fogged file alone."""
    audited, run_key = first
    row = published(audited, run_key)[0]
    raw = next(p for p in audited.world.raw.iterdir() if KEYS.image_id(p.read_bytes()) == row["image_id"])
    fogged, file, pem = file_of(audited, row), tmp_path / "c.json", tmp_path / "key.pub"
    pem.write_bytes(KEY.public.pem)
    code, out, err = command(raw, "--audit", audited.world.audit)
    assert (code, err) == (0, "")
    assert command(fogged, "--audit", audited.world.audit, "-o", file, "--json")[0] == 0
    assert out.encode().strip() == file.read_bytes()
    code, out, err = command("--check", file, "--public-key", pem, "--image", fogged, "--json")
    assert code == 0
    assert json.loads(out)["authentic"] is True
    assert json.loads(out)["certifies"]["output_sha256"] == row["output_sha256"]
    code, out, err = command("--check", file, "--public-key", pem, "--image", raw)
    assert code == 1
    assert "its sha256 is another" in out
    assert "does not hold" in err


def test_command_says_what_is_not_proven(tmp_path: Path, command: Any) -> None:
    """An unsigned run gives a certificate that says so when it is made and when it is checked; a key refuses it."""
    audited = Audited(World(tmp_path / "world"))
    audited.world.photos(1)
    row = audited.rows(audited.run("run-1", signer=None))[0]
    file, pem = tmp_path / "c.json", tmp_path / "key.pub"
    pem.write_bytes(KEY.public.pem)
    code, _, err = command(row["image_id"], "--audit", audited.world.audit, "-o", file)
    assert code == 0
    assert "does not prove who made it" in err
    code, out, err = command("--check", file)
    assert code == 0
    assert "could have made this up" in out
    assert "not proven: that the detector saw every face" in out
    assert "does not prove who made it" in err
    assert command("--check", file, "--public-key", pem)[0] == 1


@pytest.mark.parametrize(
    "argv",
    [[], ["a" * 64], ["no-file.jpg", "--audit", "x"], ["abc", "--audit", "x"], ["n" * 5000, "--audit", "x"],
     ["a" * 64, "--check", "x"],
     ["--check", "nowhere"], ["a" * 64, "--audit", "x", "--image", "y"]],
)  # fmt: skip
def test_command_refuses_wrong_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Any, argv: list[str]
) -> None:
    """Wrong combinations and unreadable files end with exit code 2 and one line."""
    monkeypatch.chdir(tmp_path)
    code, out, err = command(*argv)
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_command_on_an_empty_audit(tmp_path: Path, command: Any) -> None:
    """Nothing is found, in one line."""
    code, out, err = command("a" * 64, "--audit", tmp_path)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "no row of 0 sealed runs" in err


def test_the_guide_checks_by_hand(given: bytes, tmp_path: Path) -> None:
    """The program in the guide, with no code of ours, agrees: a good certificate holds, a changed one does not."""
    guide = (Path(__file__).parents[2] / "docs" / "certificate.md").read_text()
    program = tmp_path / "by_hand.py"
    program.write_text(guide.split("```python\n")[1].split("```")[0])
    assert "airflow_facefog" not in program.read_text()
    good, bad, pem = tmp_path / "good.json", tmp_path / "bad.json", tmp_path / "key.pub"
    document = json.loads(given)
    document["detections"][0]["x1"] += 1
    good.write_bytes(given)
    bad.write_bytes(canonical(document))
    pem.write_bytes(KEY.public.pem)
    for file, holds in ((good, True), (bad, False)):
        done = subprocess.run([sys.executable, program, file, pem], capture_output=True, text=True)
        assert (done.returncode == 0) is holds, done.stderr
    assert hashlib.sha256(given).hexdigest() == hashlib.sha256(good.read_bytes()).hexdigest()


def test_the_guide_says_what_is_given_away(given: bytes) -> None:
    """Every column of the run row, every field and every check is in the guide."""
    guide = (Path(__file__).parents[2] / "docs" / "certificate.md").read_text()
    names = {*RUN.column_names, *json.loads(given), *json.loads(given)["leaf"]}
    names |= {finding.check for finding in check_certificate(given, TRUST).findings}
    assert {name for name in names if f"`{name}`" not in guide} == set()
