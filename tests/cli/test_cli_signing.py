"""Signing from the command line: the key's file, which runs are signed, ``audit seal`` and ``audit head``."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from cli_world import Terminal

from airflow_facefog import signing_keyfile
from airflow_facefog.audit import sealed
from airflow_facefog.audit.sealed import PublicKey, Signature, SigningKey
from airflow_facefog.core.errors import ConfigurationError


def make_key(terminal: Terminal, *more: object) -> tuple[Path, PublicKey]:
    """``facefog keys new --signing``: the private file and the public key beside it."""
    made = terminal.facefog("keys", "new", "--signing", "--json", *more)
    assert made.code == 0, made.err
    public = PublicKey.from_pem(Path(made.json["public_path"]).read_bytes())
    assert public.key_id == made.json["key_id"]
    return Path(made.json["path"]), public


def manifest_at(uri: str) -> dict[str, object]:
    """A sealed manifest."""
    return sealed.read_sealed(Path(uri.removeprefix("file://")).read_bytes(), "facefog-manifest/2")


def test_the_key_is_private_its_public_half_is_beside_it_and_neither_is_replaced(
    terminal: Terminal, config: Path
) -> None:
    """A 0600 PEM file at the default place and `.pub`; a second call leaves both alone; the key is not printed."""
    path, public = make_key(terminal)
    assert path == config / "facefog" / "signing.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert SigningKey.from_pem(path.read_bytes()).key_id == public.key_id
    assert sorted(p.name for p in path.parent.iterdir()) == ["signing.key", "signing.key.pub"]
    before = path.read_bytes()
    again = terminal.facefog("keys", "new", "--signing")
    assert (again.code, path.read_bytes()) == (2, before)
    path.unlink()
    assert terminal.facefog("keys", "new", "--signing").code == 2
    assert not path.exists()
    assert before.decode().splitlines()[1] not in again.out + again.err


def test_the_key_is_printed_when_asked(terminal: Terminal, tmp_path: Path) -> None:
    """For the password of an Airflow connection."""
    made = terminal.facefog("keys", "new", "--signing", "--print", "--file", tmp_path / "s" / "k.pem", "--json").json
    assert SigningKey.from_pem(made["key"].encode()).key_id == made["key_id"]
    assert made["public_path"] == str(tmp_path / "s" / "k.pem.pub")


def test_a_run_without_a_key_is_unsigned_and_says_so(terminal: Terminal, config: Path) -> None:
    """Signing is off until there is a key; none is made."""
    terminal.photos(1)
    done = terminal.run()
    assert (done.code, done.json["signed"]) == (0, False)
    assert "not signed" in done.err
    assert not (config / "facefog" / "signing.key").exists()


@pytest.mark.parametrize("how", ["option", "environment", "default"])
def test_a_named_key_signs(terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """By option, by environment, or because it lies at the default place; manifest and chain entry are signed."""
    file = tmp_path / "elsewhere" / "k.pem"
    path, public = make_key(terminal, *([] if how == "default" else ["--file", file]))
    if how == "environment":
        monkeypatch.setenv("FACEFOG_SIGNING_KEY_FILE", str(path))
    terminal.photos(1)
    done = terminal.run(*(["--signing-key", path] if how == "option" else []))
    assert (done.code, done.json["signed"], "not signed" in done.err) == (0, True, False)
    trusted = {public.key_id: public}
    assert sealed.check(manifest_at(done.json["manifest_uri"]), trusted) is Signature.VALID
    head = terminal.facefog("audit", "head", terminal.audit, "--json").json
    assert head["chain_head"] == done.json["chain_head"] == f"{head['seq']}:{head['sha256']}"


@pytest.mark.parametrize("wrong", ["missing", "missing_env", "open", "public", "audit", "source", "link"])
def test_a_key_that_cannot_be_used_stops_the_run(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    """Named and absent, open to others, no private key, or inside what it shall protect: exit 2, nothing planned."""
    places = {"audit": terminal.audit / "k.pem", "source": terminal.raw / "k.pem", "link": terminal.audit / "k.pem"}
    path, _ = make_key(terminal, "--file", places.get(wrong, tmp_path / "k.pem"))
    if wrong == "open":
        path.chmod(0o644)
    if wrong == "public":
        os.replace(f"{path}.pub", path)
        path.chmod(0o600)
    if wrong == "link":
        (tmp_path / "link").symlink_to(path)
        path = tmp_path / "link"
    named = tmp_path / "none.pem" if wrong.startswith("missing") else path
    if wrong == "missing_env":
        monkeypatch.setenv("FACEFOG_SIGNING_KEY_FILE", str(named))
    terminal.photos(1)
    done = terminal.run(*([] if wrong == "missing_env" else ["--signing-key", named]))
    assert done.code == 2
    assert not (terminal.audit / "plans").exists()


def test_a_key_file_never_shows_up_in_an_error(tmp_path: Path) -> None:
    """A damaged key is refused without a word of it."""
    path = tmp_path / "k.pem"
    path.write_text("-----BEGIN PRIVATE KEY-----\nSECRETSECRET\n-----END PRIVATE KEY-----\n")
    path.chmod(0o600)
    with pytest.raises(ConfigurationError) as caught:
        signing_keyfile.find_signing_key(path)
    assert "SECRET" not in str(caught.value)


def test_seal_appends_what_a_crash_left(terminal: Terminal) -> None:
    """Without its chain entry a run is outside; `audit seal` appends it once, signed; damage is named with exit 1."""
    terminal.photos(1)
    key, public = make_key(terminal)
    terminal.run()
    entry = terminal.audit / "chain" / "0000000001.json"
    entry.unlink()
    done = terminal.facefog("audit", "seal", terminal.audit, "--signing-key", key, "--json")
    assert (done.code, len(done.json["chained"]), done.json["damaged"]) == (0, 1, [])
    document = json.loads(entry.read_bytes())
    assert sealed.check(document, {public.key_id: public}) is Signature.VALID
    assert terminal.facefog("audit", "seal", terminal.audit, "--json").json["chained"] == []
    entry.unlink()
    (part,) = terminal.audit.glob("runs/*/*/image.parquet")
    part.unlink()
    damaged = terminal.facefog("audit", "seal", terminal.audit)
    assert damaged.code == 1
    assert "image.parquet is missing" in damaged.err
    assert not entry.exists()


def test_an_empty_audit_has_no_head(terminal: Terminal, tmp_path: Path) -> None:
    """Nothing sealed yet: sequence 0, not an error."""
    (tmp_path / "none").mkdir()
    assert terminal.facefog("audit", "head", tmp_path / "none", "--json").json["seq"] == 0
    assert terminal.facefog("audit", "seal", tmp_path / "none", "--json").json["chained"] == []
