"""The whole record with every place in a bucket: fog, verify, prove, certify, ask, load, erase, expire; and what it costs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import s3kit
from jobkit import picture, save

from airflow_facefog.cli.app import run

AUDIT, CLEAN, RAW = "s3://audit/a", "s3://clean/out", "s3://raw/in"
FACE = {"xyxy": [40, 30, 72, 70], "confidence": 0.9, "class_name": "face"}
STRICTER = "name: stricter\naccept_high_threshold: true\nrules:\n  face: {min_confidence: 0.95}\n"


@dataclass
class Desk:
    """A command line whose environment knows the buckets and both keys; ``root`` holds what a person has locally."""

    s3: s3kit.S3
    root: Path
    capture: pytest.CaptureFixture[str]

    def put(self, index: int, seed: int | None = None) -> Path:
        """Upload one photo; a copy stays here."""
        made = picture(index if seed is None else seed, markers=[(40, 30, 72, 70)])
        path = save(self.root / f"photo_{index:03d}.jpg", made)
        self.s3.client().put_object(Bucket="raw", Key=f"in/{path.name}", Body=path.read_bytes())
        return path

    def facefog(self, *argv: object, code: int = 0) -> str:
        """Run a command that must end with this exit code; its stdout, or stderr when it failed."""
        self.s3.reset()
        found = run([str(part) for part in argv])
        streams = self.capture.readouterr()
        assert found == code, (argv, found, streams.err, streams.out[-2000:])
        return streams.out if code in (0, 1) and streams.out else streams.err

    def ask(self, *argv: object, code: int = 0) -> dict[str, Any]:
        """The same with --json."""
        return dict(json.loads(self.facefog(*argv, "--json", code=code)))

    def fog(self) -> dict[str, Any]:
        """One run over all photos."""
        detector = f"scripted:{self.root / 'script.json'}"
        return self.ask("run", RAW, CLEAN, "--audit", AUDIT, "--detector", detector, "--workers", 2)

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        """What a bucket shows."""
        listed = self.s3.client().list_objects_v2(Bucket=bucket, Prefix=prefix)
        return [entry["Key"] for entry in listed.get("Contents", [])]

    def download(self, name: str) -> Path:
        """A published picture, by the name of its photo."""
        (key,) = [key for key in self.keys("clean", "out/data/") if name in key]
        path = self.root / "published.jpg"
        path.write_bytes(self.s3.client().get_object(Bucket="clean", Key=key)["Body"].read())
        return path


@pytest.fixture(scope="module")
def server() -> Iterator[s3kit.S3]:
    """One server for the file."""
    with s3kit.serve() as found:
        yield found


@pytest.fixture
def desk(
    server: s3kit.S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Desk]:
    """Empty buckets, a signing key, a detector that sees one face in every picture."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "FACEFOG_KEY", "FACEFOG_KEY_FILE", "FACEFOG_AUDIT_SQL"):
        monkeypatch.delenv(name, raising=False)
    signing = tmp_path / "signing.key"
    for name, value in {
        **server.environment,
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "FACEFOG_SIGNING_KEY_FILE": str(signing),
        "FACEFOG_PUBLIC_KEY_FILE": f"{signing}.pub",
    }.items():
        monkeypatch.setenv(name, value)
    client = server.client()
    for bucket in ("raw", "clean", "audit"):
        client.create_bucket(Bucket=bucket)
    (tmp_path / "script.json").write_text(json.dumps({"classes": ["face"], "images": {}, "default": [FACE]}))
    made = Desk(server, tmp_path, capsys)
    made.facefog("keys", "new", "--signing", "--file", signing)
    yield made
    server.forbid_deletes = False
    for bucket in ("raw", "clean", "audit"):
        for kind in ("Versions", "DeleteMarkers"):
            for entry in client.list_object_versions(Bucket=bucket).get(kind, []):
                client.delete_object(Bucket=bucket, Key=entry["Key"], VersionId=entry["VersionId"])
        client.delete_bucket(Bucket=bucket)


def test_a_record_lives_in_buckets(desk: Desk, pg_url: str) -> None:
    """Two signed runs; verified, proven, certified, asked, replayed, loaded; one picture erased, old work expired: all of it
    holds at every step, and the erased picture is nowhere.
    """
    photos = [desk.put(index) for index in range(4)]
    assert desk.fog()["published"] == 4
    desk.put(1, seed=77)
    desk.put(4)
    second = desk.fog()
    assert (second["published"], second["skipped"], second["signed"]) == (2, 3, True)

    verified = desk.ask("audit", "verify", AUDIT, "--deep", "--require-signed", "--head", second["chain_head"])
    assert (verified["verified"], verified["runs"], verified["findings"]) == (True, 2, [])
    proven = desk.ask("prove", CLEAN, "--audit", AUDIT, "--html", desk.root / "proof.html")
    assert (proven["proven"], proven["current"], proven["superseded"], proven["trust"]) == (6, 5, 1, "pinned")

    image, certificate = desk.download("photo_002"), desk.root / "certificate.json"
    desk.facefog("certificate", image, "--audit", AUDIT, "-o", certificate)
    assert desk.ask("certificate", "--check", certificate, "--image", image)["authentic"] is True
    assert f"{CLEAN}/data/photo_002" in desk.facefog("audit", "show", image, "--audit", AUDIT)
    assert len(desk.ask("audit", "report", "run-summary", "--audit", AUDIT)["rows"]) == 2
    counted = desk.ask("audit", "query", "SELECT count(*) AS n FROM facefog_image", "--audit", AUDIT)
    assert [row["n"] for row in counted["rows"]] == [9]
    (desk.root / "stricter.yaml").write_text(STRICTER)
    desk.facefog("audit", "diff-policy", desk.root / "stricter.yaml", "--audit", AUDIT, "--refog", desk.root / "again")
    assert (desk.root / "again").read_text().split() == [f"{RAW}/photo_{index:03d}.jpg" for index in range(5)]

    assert desk.ask("audit", "load", AUDIT, pg_url)["loaded"] == 2
    assert desk.ask("audit", "verify", AUDIT, "--sql", pg_url)["findings"] == []
    assert desk.ask("audit", "check", "--sql", pg_url)["failed"] == []

    erased = desk.ask("erase", photos[2], "--audit", AUDIT, "--sql", pg_url, "--raw", "--actor", "desk")
    assert (erased["rows_removed"], erased["objects_removed"], erased["raw_removed"]) == (2, 1, 1)
    expired = desk.ask("audit", "expire", AUDIT, "--work", "0", "--sql", pg_url)
    assert expired["work"] > 0
    after = desk.ask("audit", "verify", AUDIT, "--deep", "--sql", pg_url, "--head", second["chain_head"])
    assert (after["verified"], after["errors"]) == (True, 0)
    assert desk.ask("prove", CLEAN, "--audit", AUDIT)["proven"] == 5
    assert not [key for bucket in ("raw", "clean", "audit") for key in desk.keys(bucket) if "photo_002" in key]
    assert "no row of 2 sealed runs" in desk.facefog("certificate", image, "--audit", AUDIT, "-o", certificate, code=1)


def test_a_bucket_that_forbids_deletes_fails_an_erasure_until_it_allows_them(desk: Desk) -> None:
    """The first try says what is missing; consumers see the picture no more; with the right, the same command finishes.

    Fogging and proving need no deletes.
    """
    photos = [desk.put(index) for index in range(2)]
    desk.s3.forbid_deletes = True
    assert desk.fog()["published"] == 2
    assert desk.ask("prove", CLEAN, "--audit", AUDIT)["proven"] == 2
    said = desk.facefog("erase", photos[0], "--audit", AUDIT, code=2)
    assert "this user may not delete there; give it that right, then repeat" in said
    assert "photo_000" not in said
    (unfinished,) = desk.ask("audit", "expire", AUDIT, "--work", "30")["unfinished_erasures"]
    assert "may not delete" in desk.facefog("audit", "expire", AUDIT, "--work", "0", code=2)
    desk.s3.forbid_deletes = False
    finished = desk.ask("erase", photos[0], "--audit", AUDIT)
    assert (finished["request_id"], finished["objects_removed"]) == (unfinished, 1)
    assert desk.ask("audit", "verify", AUDIT, "--deep")["findings"] == []
    assert desk.ask("prove", CLEAN, "--audit", AUDIT)["proven"] == 1
    assert desk.ask("audit", "expire", AUDIT, "--work", "30")["unfinished_erasures"] == []


def test_the_probe_of_a_store_is_known_by_its_bytes_alone(desk: Desk) -> None:
    """It stays where a run wrote; a raw picture of that name is no bookkeeping."""
    photo = desk.put(0)
    desk.fog()
    assert desk.ask("prove", CLEAN, "--audit", AUDIT)["orphan"] == 0
    assert desk.keys("clean", "out/.facefog-probe") == ["out/.facefog-probe"]
    desk.s3.client().put_object(Bucket="clean", Key="out/.facefog-probe", Body=photo.read_bytes())
    found = desk.ask("prove", CLEAN, "--audit", AUDIT, code=1)
    assert (found["tampered"], found["raw"]) == (1, 1)


def test_a_versioned_bucket_keeps_what_was_erased(desk: Desk) -> None:
    """Erasure deletes what is current; older versions stay until a person removes them, as the documentation says."""
    client = desk.s3.client()
    for bucket in ("raw", "clean", "audit"):
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    photo = desk.put(0)
    desk.put(1)
    desk.fog()
    desk.ask("erase", photo, "--audit", AUDIT, "--raw")
    assert desk.ask("prove", CLEAN, "--audit", AUDIT)["proven"] == 1
    for bucket, prefix in (("raw", "in/photo_000"), ("clean", "out/data/photo_000")):
        assert desk.keys(bucket, prefix) == []
        kept = client.list_object_versions(Bucket=bucket, Prefix=prefix)
        assert (len(kept["Versions"]), len(kept["DeleteMarkers"])) == (1, 1)
    probes = client.list_object_versions(Bucket="clean", Prefix="out/.facefog-probe")
    assert (len(probes["Versions"]), "DeleteMarkers" in probes) == (1, False)


def test_requests_do_not_grow_with_the_images(desk: Desk) -> None:
    """Each picture is read once by --deep and by prove, and by nothing else that asks; one listing finds them all."""
    costs: dict[str, list[int]] = {"deep": [], "prove": [], "verify": [], "report": [], "whois": []}
    for start, more in ((0, 2), (2, 16)):
        photos = [desk.put(index) for index in range(start, start + more)]
        desk.fog()
        for name, command in {
            "deep": ("audit", "verify", AUDIT, "--deep"),
            "verify": ("audit", "verify", AUDIT),
            "prove": ("prove", CLEAN, "--audit", AUDIT),
            "report": ("audit", "report", "image-counts", "--audit", AUDIT),
            "whois": ("whois", photos[0], "--audit", AUDIT),
        }.items():
            desk.facefog(*command)
            costs[name].append(desk.s3.counts.total())
    grown = {name: after - before for name, (before, after) in costs.items()}
    a_run = 24
    assert 16 <= grown["deep"] <= 16 + 2 * a_run
    assert 16 <= grown["prove"] <= 16 + 3 * a_run
    assert max(grown["verify"], grown["report"]) <= a_run
    assert grown["whois"] <= 2 * a_run


@pytest.mark.parametrize("place", ["s3://audit/misspelt", "s3://no-such-bucket/a"])
def test_a_place_without_an_audit_is_named_and_not_verified(desk: Desk, place: str) -> None:
    """Nothing is wrong with nothing: a misspelt place would look verified for years, and nothing in it would expire."""
    database = f"sqlite:///{desk.root}/x.db"
    for command in (
        ("audit", "verify", place), ("audit", "head", place), ("audit", "seal", place), ("audit", "load", place, database),
        ("audit", "expire", place, "--work", "1"), ("prove", CLEAN, "--audit", place),
    ):  # fmt: skip
        assert "no audit at that place" in desk.facefog(*command, code=2)
