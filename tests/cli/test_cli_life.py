"""``facefog whois``, ``facefog erase`` and ``facefog audit expire`` as a person uses them."""

from __future__ import annotations

import json
import sqlite3

import pytest
from cli_world import Terminal

OTHER = "22" * 32


@pytest.fixture
def world(terminal: Terminal) -> Terminal:
    """Three photos after a run."""
    terminal.photos(3)
    assert terminal.run().code == 0
    return terminal


def audited(world: Terminal, command: str, *argv: object):
    """A command over this world's audit."""
    return world.facefog(command, *argv, "--audit", world.audit)


def test_whois_tells_every_run_that_met_a_file(world):
    """Raw file, published file and id; a table for people, one object for programs."""
    world.run()
    raw, published = world.raw / "person-1.jpg", next(world.clean.glob("data/person-1*"))
    for file in (raw, published):
        outcome = audited(world, "whois", file, "--json")
        assert outcome.code == 0
        (answer,) = outcome.json["files"]
        assert [row["status"] for row in answer["rows"]] == ["published", "skipped"]
    assert "published" in audited(world, "whois", raw).out
    (image_id,) = audited(world, "whois", raw, "--json").json["files"][0]["image_ids"]
    assert audited(world, "whois", image_id).code == 0


def test_whois_never_says_not_found_without_the_keys(world, monkeypatch):
    """A wrong key and none at all are named beside the key of the runs."""
    raw = world.raw / "person-1.jpg"
    right = audited(world, "whois", raw, "--json").json["files"][0]["key_id"]
    monkeypatch.setenv("FACEFOG_KEY", OTHER)
    wrong = audited(world, "whois", raw)
    assert wrong.code == 1
    assert right in wrong.err
    assert "which made no run here" in wrong.err
    keyless = audited(world, "whois", raw, "--keyless", "--json")
    assert keyless.code == 1
    assert keyless.json["files"][0]["run_key_ids"] == [right]


def test_whois_without_any_key_makes_none(world, monkeypatch, tmp_path):
    """A new key would find nothing, and for good."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "elsewhere"))
    outcome = audited(world, "whois", world.raw / "person-1.jpg")
    assert (outcome.code, "no master key" in outcome.err) == (2, True)
    assert not (tmp_path / "elsewhere").exists()


def test_whois_in_an_empty_audit_is_an_answer(world, tmp_path):
    """Not a traceback."""
    outcome = world.facefog("whois", world.raw / "person-1.jpg", "--audit", tmp_path / "nothing")
    assert (outcome.code, "no run" in outcome.err) == (1, True)


def test_erase_shows_first_then_does_then_has_nothing_left(world):
    """Dry run, erasure, second erasure, whois."""
    raw = world.raw / "person-1.jpg"
    dry = audited(world, "erase", raw, "--dry-run")
    assert dry.code == 0
    assert "data/person-1.jpg" in dry.out
    assert len(list(world.clean.glob("data/person-1*"))) == 1
    done = audited(world, "erase", raw, "--json", "--actor", "dpo", "--reason", "request 17")
    assert done.code == 0
    assert (done.json["rows_removed"], done.json["objects_removed"]) == (1, 1)
    assert not list(world.clean.glob("data/person-1*"))
    assert world.facefog("audit", "verify", world.audit, "--deep").code == 0
    assert audited(world, "erase", raw).code == 1
    gone = audited(world, "whois", raw)
    assert (gone.code, "was erased" in gone.err) == (1, True)
    rows = sqlite3.connect(world.audit / "facefog.db").execute("select distinct actor from facefog_erasure").fetchall()
    assert rows == [("dpo",)]


def test_certificates_of_other_images_hold_after_an_erasure(world):
    """One made before, and one made after."""
    assert world.facefog("keys", "new", "--signing").code == 0
    world.photo("late.jpg", 50)
    world.photo("later.jpg", 51)
    assert world.run().code == 0
    other = next(world.clean.glob("data/late.jpg*"))
    papers = []
    for name in ("before", "after"):
        paper = world.root / f"{name}.json"
        made = world.facefog("certificate", other, "--audit", world.audit, "--output", paper)
        assert made.code == 0, made.err
        papers.append(paper)
        if name == "before":
            assert audited(world, "erase", world.raw / "later.jpg").code == 0
    public = world.root / "config" / "facefog" / "signing.key.pub"
    for paper in papers:
        checked = world.facefog("certificate", "--check", paper, "--public-key", public, "--image", other)
        assert checked.code == 0, checked.err


def test_prove_still_explains_every_object(world):
    """No object of the clean store is unknown after an erasure."""
    audited(world, "erase", world.raw / "person-1.jpg")
    outcome = world.facefog("prove", world.clean, "--audit", world.audit, "--json")
    assert outcome.code == 0, outcome.out


def test_erase_raw_deletes_the_source_too(world):
    """Only when asked."""
    audited(world, "erase", world.raw / "person-0.jpg")
    assert (world.raw / "person-0.jpg").exists()
    assert audited(world, "erase", world.raw / "person-1.jpg", "--raw", "--json").json["raw_removed"] == 1
    assert not (world.raw / "person-1.jpg").exists()


@pytest.mark.parametrize("asked", ["0" * 64, "/nowhere.jpg", "'; drop table facefog_image; --"])
def test_nothing_found_is_exit_1(world, asked):
    """Dry or not."""
    for more in ((), ("--dry-run",)):
        outcome = audited(world, "erase", asked, *more)
        assert (outcome.code, "nothing found" in outcome.err) == (1, True)
    assert audited(world, "erase", asked, "--json").json["error_class"] == "PermanentError"


def test_expire_counts_and_the_newest_run_is_still_listed(world):
    """``ls --status`` reads sealed parts; where they have expired too it lists nothing."""
    counted = world.facefog("audit", "expire", world.audit, "--work", 0, "--sources", 0, "--dry-run", "--json").json
    assert (counted["sources"], counted["dry_run"]) == (3, True)
    done = world.facefog("audit", "expire", world.audit, "--work", 0, "--sources", 0, "--json")
    assert (done.code, done.json["sources"], done.json["work"]) == (0, 3, counted["work"])
    listed = world.facefog("ls", world.clean, "--status", "published", "--json")
    assert len(listed.json["images"]) == 3
    world.facefog("audit", "expire", world.audit, "--images", 0, "--published")
    assert world.facefog("ls", world.clean, "--status", "published", "--json").json["images"] == []
    assert world.facefog("audit", "verify", world.audit, "--deep").code == 0


def test_questions_about_an_expired_audit_have_empty_answers(world):
    """Reports, queries and one image's story."""
    world.facefog("audit", "expire", world.audit, "--images", 0, "--published", "--sources", 0)
    question = "select count(*) as n from facefog_image"
    outcome = world.facefog("audit", "query", question, "--audit", world.audit, "--format", "json")
    assert (outcome.code, json.loads(outcome.out)["rows"]) == (0, [{"n": 0}])
    assert "the rows of 1 runs have expired" in audited(world, "whois", world.raw / "person-0.jpg").err


def test_an_erasure_that_stopped_is_named_by_the_next_expiry(world):
    """The journal is still there."""
    (world.audit / "erasing").mkdir()
    (world.audit / "erasing" / f"{'a' * 32}.json").write_text("{}")
    outcome = world.facefog("audit", "expire", world.audit)
    assert (outcome.code, f"erasure {'a' * 32} was begun" in outcome.err) == (0, True)


def test_refog_keeps_the_picture_and_every_later_run_fogs_the_box(world):
    """Dry run, twice, a nightly run, diff-policy, and an erasure after it: the whole way of a reported face."""
    raw = world.raw / "person-1.jpg"
    box = ("--refog", "--box", "100,60,130,100", "--actor", "dpo")
    (old,) = world.clean.glob("data/person-1*")
    dry = audited(world, "erase", raw, *box, "--dry-run", "--json")
    assert (dry.code, dry.json["regions"]) == (0, [[100.0, 60.0, 130.0, 100.0, "face"]])
    done = audited(world, "erase", raw, *box, "--json")
    assert (done.code, done.json["rows_removed"], done.json["objects_removed"]) == (0, 1, 1)
    (new,) = world.clean.glob("data/person-1*")
    assert new.name != old.name
    again = audited(world, "erase", raw, *box)
    assert (again.code, "covers this already" in again.err) == (0, True)
    assert world.run().code == 0
    assert list(world.clean.glob("data/person-1*")) == [new]
    assert "by a person" in world.facefog("audit", "show", raw, "--audit", world.audit).out
    assert world.facefog("audit", "verify", world.audit, "--deep").code == 0
    assert world.facefog("prove", world.clean, "--audit", world.audit).code == 0
    assert audited(world, "erase", raw).code == 0
    assert not list(world.clean.glob("data/person-1*"))
    assert not [path for path in (world.audit / "regions").rglob("*") if path.is_file()]


WRONG = {
    "two images": (["a", "b", "--refog", "--box", "1,1,9,9"], "one image"),
    "raw too": (["a", "--refog", "--raw", "--box", "1,1,9,9"], "--raw"),
    "box alone": (["a", "--box", "1,1,9,9"], "belong to --refog"),
    "policy alone": (["a", "--policy", "x.yaml"], "belong to --refog"),
    "no box": (["person-1.jpg", "--refog"], "no box"),
    "no number": (["person-1.jpg", "--refog", "--box", "1,1,9"], "is none"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_refog_is_a_usage_error(world, wrong):
    """Exit 2 and what to do; nothing is written."""
    argv, message = WRONG[wrong]
    outcome = audited(world, "erase", *(world.raw / text if text.endswith(".jpg") else text for text in argv))
    assert (outcome.code, message in outcome.err) == (2, True), outcome.err
    assert not (world.audit / "regions").exists()
