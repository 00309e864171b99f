"""``facefog audit verify``: what it prints, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_world import Terminal


@pytest.fixture
def signed(terminal: Terminal) -> Terminal:
    """A world with one signed run."""
    assert terminal.facefog("keys", "new", "--signing").code == 0
    terminal.photos(2)
    assert terminal.run().code == 0
    return terminal


def public_key(terminal: Terminal) -> Path:
    """The public half, which an auditor gets."""
    return terminal.root / "config" / "facefog" / "signing.key.pub"


def test_a_signed_audit_verifies_with_its_key_and_head(signed: Terminal) -> None:
    """Exit 0, one JSON object, nothing found; SQL beside the audit is compared too."""
    head = signed.facefog("audit", "head", signed.audit, "--json").json["chain_head"]
    options = ("--deep", "--require-signed", "--public-key", public_key(signed), "--head", head, "--json")
    done = signed.facefog("audit", "verify", signed.audit, *options)
    assert done.code == 0
    assert done.json["findings"] == []
    assert (done.json["verified"], done.json["signed"], done.json["trust"], done.json["head"]) == (
        True,
        "all",
        "pinned",
        head,
    )


def test_the_key_of_the_environment_is_pinned(signed: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """``FACEFOG_PUBLIC_KEY_FILE`` stands for ``--public-key``; without either the keys of the audit are used."""
    assert signed.facefog("audit", "verify", signed.audit, "--json").json["trust"] == "audit"
    monkeypatch.setenv("FACEFOG_PUBLIC_KEY_FILE", str(public_key(signed)))
    assert signed.facefog("audit", "verify", signed.audit, "--json").json["trust"] == "pinned"


def test_a_fault_is_printed_with_its_object(signed: Terminal) -> None:
    """Exit 1, and the table names code and object."""
    part = next((signed.audit / "runs").rglob("image.parquet"))
    part.write_bytes(part.read_bytes()[:-1])
    done = signed.facefog("audit", "verify", signed.audit)
    assert done.code == 1
    assert "part_changed" in done.out
    assert str(part.relative_to(signed.audit)) in done.out


def test_sql_beside_the_audit_is_compared(signed: Terminal) -> None:
    """A row that is missing in ``facefog.db`` is a fault."""
    import sqlite3

    with sqlite3.connect(signed.audit / "facefog.db") as database:
        database.execute("DELETE FROM facefog_image")
    done = signed.facefog("audit", "verify", signed.audit, "--json")
    assert done.code == 1
    assert [found["code"] for found in done.json["findings"] if found["level"] == "error"] == ["sql_differs"]


@pytest.mark.parametrize(
    "options",
    [
        ("--head", "3"),
        ("--since", "lately"),
        ("--public-key", "nothing.pub"),
        ("--public-key", "SIGNING"),
        ("--sql", "x:y"),
    ],
)
def test_wrong_use(signed: Terminal, options: tuple[str, str]) -> None:
    """Exit 2 with one line; a private key is not quoted."""
    private = public_key(signed).with_suffix("")
    given = [str(private) if option == "SIGNING" else option for option in options]
    done = signed.facefog("audit", "verify", signed.audit, *given, "--json")
    assert done.code == 2
    assert private.read_text().splitlines()[1] not in done.out + done.err
    assert set(json.loads(done.out)) == {"error_class", "error"}


def test_a_wrong_path_does_not_look_verified(terminal: Terminal) -> None:
    """A folder that is not there is wrong use; an empty one verifies and says that it is."""
    assert terminal.facefog("audit", "verify", terminal.root / "nowhere").code == 2
    (terminal.root / "empty").mkdir()
    done = terminal.facefog("audit", "verify", terminal.root / "empty", "--json")
    assert (done.code, done.json["entries"]) == (0, 0)
    assert [found["code"] for found in done.json["findings"]] == ["not_checked"]
