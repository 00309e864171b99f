"""docs/roboflow-errors.md names every error that the Roboflow code can raise, with the class and the consequence it has."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_facefog.core import errors
from airflow_facefog.detectors.roboflow import faults
from airflow_facefog.detectors.roboflow.access import Secret
from airflow_facefog.hooks import roboflow_session

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "roboflow-errors.md").read_text()
PACKAGE = ROOT / "airflow_facefog"
CODE = sorted(
    [*(PACKAGE / "detectors" / "roboflow").glob("*.py"), *(PACKAGE / "hooks").glob("roboflow*.py"),
     *(PACKAGE / "operators" / "roboflow").glob("*.py"), *(PACKAGE / "triggers").glob("*.py")]
)  # fmt: skip
SEEN_AS = {"FaultError": "TransientError", "UnresolvedError": "TransientError", "TooLargeError": "DetectorError"}
"""Kinds inside the package that reach a task as their parent, or end there."""
SAID_ELSEWHERE = re.compile(
    r"^the Roboflow API answered …: "
    r"|^the Roboflow server answered …(, a redirect.*| 413:.*)?$"
    r"|^the Roboflow server answered (413|with)"
)
"""Messages of the table of statuses, and the frame around every ``_refused``."""
TASKS = {errors.PermanentError: "fails at once", errors.TransientError: "is retried", errors.ImageError: "goes on"}


def rows(columns: int, page: str = PAGE) -> list[list[str]]:
    """Body rows of all tables with so many columns."""
    found = []
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and len(cells) == columns and cells[0] not in ("answer", "message", "our error"):
            found.append(cells)
    return found


STATUSES, API_STATUSES = (rows(5, part) for part in PAGE.split("### By HTTP status, management API"))
MESSAGES = [(row[0].strip("`"), row[1].strip("`"), row[2]) for row in rows(4)]


def class_of(status: int) -> type[errors.FogError] | None:
    """What the code makes of a status."""
    problem = faults.failure_of(faults.Reply(status, {}, b""), Secret())
    return None if problem is None else type(problem)


def public(kind: type) -> str:
    """The name under which a class is in the page."""
    return SEEN_AS.get(kind.__name__, kind.__name__)


def consequence(name: str) -> str:
    """What a task does for an error class."""
    kind = getattr(errors, name)
    return next(words for parent, words in TASKS.items() if issubclass(kind, parent))


def text(node: ast.expr) -> str | None:
    """A message with ``…`` for each value, or None when it is no text."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)  # type: ignore[misc]
    return None


def raised() -> Iterator[tuple[str, str, str]]:
    """(file, class, message) of every error that the code can make."""
    known = {name for name in vars(errors) if name.endswith("Error")} | set(SEEN_AS) | {"_refused"}
    for path in CODE:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id not in known:
                continue
            kind = "PolicyError" if path.name == "guard.py" and node.func.id == "_refused" else node.func.id
            kind = "ImageError" if kind == "_refused" else kind
            for message in filter(None, map(text, node.args)):
                yield path.name, SEEN_AS.get(kind, kind), message


def says(fragment: str, message: str) -> bool:
    """Whether a row's fragment is in a message; ``…`` is any value."""
    return re.search(".*".join(map(re.escape, fragment.split("…"))), message) is not None


@pytest.mark.parametrize("status", range(300, 600))
def test_every_status_has_a_row(status: int) -> None:
    """Each status has one row (its own, or the one for the rest of its hundred) with the class and consequence it has."""
    own = [row for row in STATUSES if row[0] == str(status)]
    rest = [row for row in STATUSES if row[0].startswith(f"{status // 100}xx")]
    (row,) = own or rest
    kind = class_of(status)
    assert kind is not None
    assert row[2] == f"`{public(kind)}`"
    assert row[3].startswith(consequence(public(kind)))


def test_statuses_of_the_code_have_rows_of_their_own() -> None:
    """What the code knows by number is explained by number, and nothing else is."""
    named = {int(row[0]) for row in STATUSES if row[0].isdigit()}
    assert named == set(faults._PERMANENT) | set(faults.TRANSIENT) | {413}


def test_statuses_of_the_management_api() -> None:
    """Where a status means something else for datasets and training, a row of its own says so."""
    assert {int(row[0]) for row in API_STATUSES} == set(roboflow_session.MEANINGS)
    assert {row[2] for row in API_STATUSES} == {"`ConfigurationError`"}


def test_success_is_no_error() -> None:
    """2xx is never an error."""
    assert [status for status in range(200, 300) if class_of(status)] == []


@pytest.mark.parametrize(("fragment", "kind", "task"), MESSAGES, ids=[row[0][:50] for row in MESSAGES])
def test_every_row_is_true(fragment: str, kind: str, task: str) -> None:
    """Each row's message can be raised, with that class; the task does what the class means."""
    assert any(says(fragment, message) and kind == name for _, name, message in raised())
    assert task.startswith((consequence(kind), "breaks the Dag import", "*Test* says no"))


def test_every_message_has_a_row() -> None:
    """Each message in the code is explained, with its class."""
    missing = [
        f"{file}: {kind}: {message}"
        for file, kind, message in raised()
        if not SAID_ELSEWHERE.match(message)
        and not any(says(fragment, message) and kind == row_kind for fragment, row_kind, _ in MESSAGES)
    ]
    assert missing == []


def test_the_scan_sees_the_code() -> None:
    """The scan finds errors in every room that talks to Roboflow; else the tests above would prove nothing."""
    assert {"access.py", "answer.py", "faults.py", "guard.py", "http.py", "roboflow_api.py", "uploads.py"} <= {
        file for file, _, _ in raised()
    }


TUTORIAL = (ROOT / "docs" / "roboflow.md").read_text()


def test_operators_of_the_tutorial() -> None:
    """docs/roboflow.md has each operator once, with the keys that its docstring promises."""
    from airflow_facefog.operators import roboflow

    table = dict(re.findall(r"^\| `(Roboflow\w+)` \| (.*) \|$", TUTORIAL, re.MULTILINE))
    assert set(table) == set(roboflow.__all__)
    for name, returns in table.items():
        promised = re.findall(r'"(\w+)"', getattr(roboflow, name).__doc__.partition(":param")[0])
        assert re.findall(r"`(\w+)`", returns) == promised, name


@pytest.mark.parametrize("snippet", re.findall(r"^```python\n(.*?)^```", TUTORIAL, re.DOTALL | re.MULTILINE))
def test_dags_of_the_tutorial(snippet: str) -> None:
    """Dags shown in docs/roboflow.md can be built as they stand."""
    space: dict[str, object] = {}
    exec(compile(snippet, "roboflow.md", "exec"), space)
    (name,) = re.findall(r"^def (\w+)", snippet, re.MULTILINE)
    assert space[name].__wrapped__ is not None  # type: ignore[attr-defined]


def test_tasks_of_the_tutorial() -> None:
    """The tutorial's table of tasks is the example Dag's, in its order, with its operators."""
    source = (ROOT / "dags" / "train_face_model.py").read_text()
    built = re.findall(r'= (Roboflow\w+)\(\s*task_id="(\w+)"', source)
    shown = re.findall(r"^\| `(\w+)` \| `(Roboflow\w+)` \|", TUTORIAL, re.MULTILINE)
    assert [(task, operator) for operator, task in built] == shown
