"""``facefog audit query | report | show | check | shell`` on a real audit."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from cli_world import Terminal

from airflow_facefog.audit.reports import REPORTS
from airflow_facefog.cli.app import run
from airflow_facefog.cli.query_commands import _print_checks
from airflow_facefog.cli.query_doc import markdown
from airflow_facefog.cli.story_text import lines


@pytest.fixture
def world(terminal: Terminal) -> Terminal:
    """Three photos and a broken one, run twice: published, quarantined, then skipped."""
    terminal.photos(3, broken=1)
    for _ in range(2):
        terminal.run("--policy", _policy(terminal.root))
    return terminal


def _policy(root: Path) -> Path:
    path = root / "policy.yaml"
    path.write_text("max_quarantined: 0.5\n")
    return path


def database(world: Terminal) -> str:
    """The SQL audit that a local run fills."""
    return f"sqlite:///{world.audit}/facefog.db"


def test_query_in_every_form(world: Terminal, tmp_path: Path) -> None:
    """The same rows as table, CSV, JSON and Parquet, from Parquet parts and from the database."""
    sql = "select status, count(*) as n from facefog_image where status <> :no group by status order by n, status"
    expected = [{"status": "quarantined", "n": 2}, {"status": "published", "n": 3}]
    for place in (("--audit", world.audit), ("--sql", database(world))):
        ask = ("audit", "query", sql, *place, "--param", "no=skipped")
        assert world.facefog(*ask, "--json").json["rows"] == expected
        assert world.facefog(*ask, "--format", "csv").out == "status,n\nquarantined,2\npublished,3\n"
        done = world.facefog(*ask, "--format", "parquet", "-o", tmp_path / "x.parquet")
        assert (done.code, done.out) == (0, "")
        assert pq.read_table(tmp_path / "x.parquet").to_pylist() == expected
        assert (tmp_path / "x.parquet").stat().st_mode & 0o777 == 0o600, "answers are as restricted as the audit"
        assert "quarantined   2" in world.facefog(*ask).out


def test_a_long_table_says_that_there_is_more(world: Terminal) -> None:
    """The limit is for people only."""
    shown = world.facefog(
        "audit", "query", "select source_ref from facefog_image", "--audit", world.audit, "--limit", 2
    )
    assert "first 2 rows" in shown.err
    everything = world.facefog(
        "audit", "query", "select source_ref from facefog_image", "--audit", world.audit, "--format", "csv"
    )
    assert len(everything.out.splitlines()) == 9


WRONG = [
    ("query", "drop table facefog_run"), ("query", "select nope"), ("query", "select 1; select 2"),
    ("query", "select * from read_csv('/etc/passwd')"), ("query", "select :x"), ("query", "select 1", "--param", "x"),
    ("query", "select 1", "--format", "parquet"), ("query", "select 1", "-o", "/nonexistent/x", "--format", "csv"),
    ("report", "nope"), ("report", "leaks", "--since", "soon"), ("report", "leaks", "--param", "x=1"),
    ("show", "abc"), ("show", "0" * 64), ("show", "/nonexistent.jpg"), ("check", "nope"), ("check", "--option", "x=1"),
    ("check", "counts-add-up", "--all"),
]  # fmt: skip


def test_wrong_use_is_one_line(world: Terminal) -> None:
    """Exit 2 and one line on stderr, whatever is wrong."""
    for argv in WRONG:
        done = world.facefog("audit", *argv, "--audit", world.audit)
        assert (done.code, done.out) == (2, ""), argv
        assert done.err.startswith("facefog: ")
        assert done.err.count("\n") == 1, argv


def test_a_place_must_be_named(world: Terminal) -> None:
    """Neither Parquet nor SQL: say so."""
    for argv in (("query", "select 1"), ("report", "leaks"), ("show", "0" * 64), ("check",), ("shell",)):
        done = world.facefog("audit", *argv)
        assert done.code == 2
        assert "--audit" in done.err


def test_reports_are_listed_and_asked(world: Terminal) -> None:
    """Every report is listed with its question; one by day counts what was published."""
    listed = world.facefog("audit", "report", "--list", "--json").json["reports"]
    assert [row["name"] for row in listed] == list(REPORTS)
    shown = world.facefog("audit", "report", "--list").out
    assert all(name in shown for name in REPORTS)
    for place in (("--audit", world.audit), ("--sql", database(world))):
        (day,) = world.facefog("audit", "report", "published-by-day", "--since", "2020-01-01", *place, "--json").json[
            "rows"
        ]
        assert (day["published"], day["fogged"], day["zero_detections"]) == (3, 3, 0)
        none = world.facefog("audit", "report", "published-by-day", "--until", "2020-01-01", *place, "--json").json
        assert none["rows"] == []


def test_show_tells_one_story_by_every_name(world: Terminal) -> None:
    """The raw file with its key, the fogged file, ids and prefixes, from both engines; names only when asked for."""
    raw, fogged = world.raw / "person-1.jpg", next(world.clean.glob("data/person-1*"))
    stories = []
    for place in (("--audit", world.audit), ("--sql", database(world))):
        for image in (raw, fogged):
            stories.append(world.facefog("audit", "show", image, *place, "--json").json)
    first = stories[0]
    for image in (
        first["image_id"],
        first["image_id"][:10],
        first["source_refs"][0],
        first["runs"][0]["output_sha256"],
    ):
        stories.append(world.facefog("audit", "show", image, "--audit", world.audit, "--json").json)
    without = [
        {
            key: [{**row, "seq": None} for row in value] if key == "runs" else value
            for key, value in one.items()
            if key != "found_by"
        }
        for one in stories
    ]
    assert all(one == without[0] for one in without)
    assert [row["status"] for row in first["runs"]] == ["published", "skipped"]
    assert [row["seq"] for row in first["runs"]] == [1, 2]
    assert first["runs"][0]["in_snapshot"] is True
    assert "person-1" not in json.dumps(first["source_refs"])
    named = world.facefog("audit", "show", raw, "--audit", world.audit, "--names", "--json").json
    assert [uri.endswith("/raw/person-1.jpg") for uri in named["sources"].values()] == [True]


def test_show_reads_as_text(world: Terminal) -> None:
    """What was seen, what was done, where it went and where the record is."""
    text = world.facefog("audit", "show", world.raw / "person-0.jpg", "--audit", world.audit).out
    for words in (
        "PUBLISHED",
        "SKIPPED (already_done)",
        "fogged    face 0.900",
        "fog over [",
        "chain entry 1",
        "newest snapshot",
    ):
        assert words in text
    refused = world.facefog("audit", "show", world.raw / "broken-0.jpg", "--audit", world.audit).out
    assert "QUARANTINED (truncated)" in refused


def test_show_needs_the_key_for_raw_files(world: Terminal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Another key gives another id: nothing is found, and the message says what it may be."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "other"))
    done = world.facefog("audit", "show", world.raw / "person-0.jpg", "--audit", world.audit)
    assert done.code == 2
    assert "master key" in done.err
    assert "person-0" not in done.err


def test_checks_pass_and_fail(world: Terminal) -> None:
    """Exit 0 when all hold; exit 1 names what failed when a row says more than the objects."""
    done = world.facefog("audit", "check", "--audit", world.audit, "--json", "--option", "max_quarantined=0.5")
    assert (done.code, done.json["passed"]) == (0, True)
    done = world.facefog("audit", "check", "all-signed", "quarantine-rate", "--audit", world.audit, "--json")
    assert (done.code, done.json["failed"]) == (1, ["all-signed", "quarantine-rate"])
    text = world.facefog("audit", "check", "all-signed", "--audit", world.audit)
    assert (text.code, "FAILED" in text.out, "run_is" in text.err or "not_signed" in text.err) == (1, True, True)
    assert world.facefog("audit", "check", "--all", "--sql", database(world), "--json").json["failed"] == [
        "quarantine-rate"
    ]


def test_an_empty_audit(terminal: Terminal) -> None:
    """Queries answer empty; a check of nothing is refused, because a gate that looks elsewhere must not open."""
    for audit in (terminal.root / "nowhere", terminal.raw):
        assert (
            terminal.facefog("audit", "query", "select * from facefog_v_current", "--audit", audit, "--json").json["n"]
            == 0
        )
        assert terminal.facefog("audit", "report", "run-summary", "--audit", audit, "--json").json["rows"] == []
        assert terminal.facefog("audit", "check", "--audit", audit).code == 2


class Piped(io.StringIO):
    """Standard input that is, or is not, a terminal."""

    def __init__(self, text: str, *, typed: bool = False) -> None:
        super().__init__(text)
        self.isatty = lambda: typed  # type: ignore[method-assign]


def test_the_shell_answers_a_pipe(world: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Statements over several lines, dot commands, an error that does not end it, and the last one without semicolon."""
    lines = [
        ".tables", ".views", ".schema facefog_run", ".schema current", ".reports", ".help", "", "select", " count(*) as answer",
        "from facefog_image;", "select nope;", ".report run-summary limit=1", ".report published-by-day since=2020-01-01",
        ".nope", ".schema nope", ".report", "select 41 + 1 as last",
    ]  # fmt: skip
    monkeypatch.setattr("sys.stdin", Piped("\n".join(lines)))
    done = world.facefog("audit", "shell", "--audit", world.audit)
    assert done.code == 1
    for words in ("facefog_egress", "facefog_v_leaks", "policy_json", "seen_listed_at", "near-threshold", "8", "42"):
        assert words in done.out
    assert done.err.count("refused") == 1
    assert "no command .nope" in done.err


def test_the_shell_answers_a_person(world: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts for the rest of a statement; Ctrl-C drops what was typed; .quit ends with 0 also after a mistake."""
    said: list[str] = []
    lines = iter(["select 1 +", KeyboardInterrupt, "select nope;", "select 40 +", "2 as answer;", ".quit"])

    def typed(prompt: str) -> str:
        said.append(prompt)
        line = next(lines)
        if not isinstance(line, str):
            raise line
        return line

    monkeypatch.setattr("sys.stdin", Piped("", typed=True))
    monkeypatch.setattr("builtins.input", typed)
    done = world.facefog("audit", "shell", "--audit", world.audit)
    assert done.code == 0
    assert "42" in done.out
    assert said == ["facefog> ", "    ...> ", "facefog> ", "facefog> ", "    ...> ", "facefog> "]


def test_hostile_text_does_not_reach_the_terminal(world: Terminal) -> None:
    """Escape sequences and markup in values and column names are shown as text."""
    sql = "select '\x1b[31mred' as \"[bold]name\x1b\""
    done = world.facefog("audit", "query", sql, "--sql", database(world))
    assert "\x1b" not in done.out
    assert "[bold]name" in done.out


def test_hostile_rows_of_a_check_and_a_story_are_printable(capsys: pytest.CaptureFixture[str]) -> None:
    """What a detector calls a class, or a file its name, may hold anything."""
    row = {"class_name": "face\x1b[2J\n", "problem": "region_misses_box", "none": None}
    about = {"name": "x", "question": "?", "passed": False, "rows": 1, "note": None}
    _print_checks({"checks": [{**about, "detail": [row]}]})
    assert "\x1b" not in capsys.readouterr().err
    story = {
        "image_ids": ["a\x1bb"],
        "source_refs": ["r"],
        "sources": {"r": "x\x1b\n"},
        "runs": [],
        "egress": [],
        "amendments": [],
    }
    assert not any("\x1b" in line or "\n" in line for line in lines(story))


def test_help_names_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """The group lists them."""
    assert run(["audit", "--help"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("query", "report", "show", "check", "shell"))


def test_the_documentation_lists_every_view_report_and_check() -> None:
    """The tables in docs/queries.md are the code's."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "queries.md").read_text()
    _, _, rest = text.partition("<!-- queries: made by airflow_facefog.cli.query_doc -->\n\n")
    assert rest.partition("\n<!-- end of queries -->")[0] == markdown()
