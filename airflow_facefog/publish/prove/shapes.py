"""What the JSON of our bookkeeping may say: these fields, each of a form that leaves no room for anything else.

Whoever can write the store can write these files, so a field that takes any text is a place for a picture in base64.
Readers ignore unknown fields (``publish.parts``); here they are a finding.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any

from airflow_facefog.publish.dataset import FORMAT as DATASET_FORMAT
from airflow_facefog.publish.erased import FORMAT as ERASED_FORMAT
from airflow_facefog.publish.snapshots import FORMAT as SNAPSHOT_FORMAT

Runs = Collection[tuple[str, int]]
Form = Callable[[Any], bool]

URI_LENGTH = 2_000
"""Characters of a URI: a bucket or folder and a key of at most 1,000 bytes."""

NUMBER = 2**53

OPTIONAL = frozenset({"listing_id", "kept_from", "erased"})


def problem(kind: str, body: Any, runs: Runs) -> str:
    """What is wrong with a body of a ``kind`` of ``SHAPES``, or nothing. ``runs``: all (run_key, generation) known.

    Raises nothing for any JSON value.
    """
    name = _wrong(body, SHAPES[kind])
    if name:
        return f"bookkeeping: its {name} is not what a run writes there"
    if {(run, generation) for run, generation in _named_runs(body)} - set(runs):
        return "bookkeeping of a run that the audit does not know"
    parts = body.get("parts", [body] if kind == "note" else [])
    places = [*parts, *([body["delta"]] if "delta" in body else [])]
    if len({place["uri"].removesuffix(place["key"]) for place in places}) > 1:
        return "bookkeeping: it names several places for one store"
    if any(not place["uri"].endswith(f"/{place['key']}") for place in places):
        return "bookkeeping: a URI and a key in it are not those of one object"
    return ""


def _named_runs(body: Mapping[str, Any]) -> list[tuple[str, int]]:
    named = [body, *body.get("parts", ())]
    found = [(entry["run_key"], entry["generation"]) for entry in named if "run_key" in entry]
    return found + [(run, generation) for entry in named for run, generation in entry.get("kept_from", ())]


def _wrong(body: Any, forms: Mapping[str, Form]) -> str:
    """The first field that is missing, unknown or of another form."""
    if not isinstance(body, dict):
        return "content"
    for name in forms:
        if name not in body and name not in OPTIONAL:
            return str(name)
    for name, value in body.items():
        if name not in forms:
            return "list of fields"
        if not forms[name](value):
            return str(name)
    return ""


def _text(pattern: str) -> Form:
    form = re.compile(pattern)
    return lambda value: isinstance(value, str) and form.fullmatch(value) is not None


def _number(value: Any) -> bool:
    return type(value) is int and 0 <= value < NUMBER


def _flag(value: Any) -> bool:
    return type(value) is bool


def _time(value: Any) -> bool:
    try:
        return isinstance(value, str) and len(value) <= 32 and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def _uri(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= URI_LENGTH and "://" in value


def _list(form: Form) -> Form:
    return lambda value: isinstance(value, list) and all(map(form, value))


def _run(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and RUN_KEY(value[0]) and _number(value[1])


def _of(forms: Mapping[str, Form]) -> Form:
    return lambda value: not _wrong(value, forms)


def _is(*values: str) -> Form:
    return lambda value: isinstance(value, str) and value in values


HEX64 = _text(r"[0-9a-f]{64}")
RUN_KEY = _text(r"[0-9a-f]{32}")
_TABLE = _text(
    r"_facefog/(datasets/[A-Za-z0-9][A-Za-z0-9_-]{0,63}/)?(runs/[0-9a-f]{32}/[0-9]{1,9}|withdrawals/[0-9a-f]{32})/"
    r"(part(-[0-9a-f]{16})?|delta-[0-9]{10})\.parquet"
)
_COUNTS = _of(dict.fromkeys(("added", "replaced", "withdrawn"), _number))
_DATASET = _text(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")

_PART: Mapping[str, Form] = {
    "key": _TABLE, "sha256": HEX64, "rows": _number, "run_key": RUN_KEY, "generation": _number, "listed_at": _time,
    "recipe_hash": HEX64, "listing_id": _text(r"[0-9a-f]{0,64}"), "kept_from": _list(_run), "uri": _uri,
}  # fmt: skip

SHAPES: Mapping[str, Mapping[str, Form]] = {
    "snapshot": {
        "format": _is(SNAPSHOT_FORMAT), "seq": _number, "dataset": _DATASET, "created_at": _time, "run_key": RUN_KEY,
        "generation": _number, "rows": _number, "delta": _of({"key": _TABLE, "uri": _uri, "counts": _COUNTS}),
        "parts": _list(_of(_PART)), "erased": _text(r"[0-9a-f]{32}-[0-9a-f]{12}"),
    },
    "note": _PART,
    "committed": {
        "seq": lambda value: value is None or _number(value), "delta_key": _TABLE, "changed": _flag, "counts": _COUNTS,
    },
    "erased": {"format": _is(ERASED_FORMAT), "dropped": _list(HEX64), "withdrawn": _list(HEX64)},
    "latest": {"seq": _number},
    "dataset": {
        "format": _is(DATASET_FORMAT), "dataset": _DATASET, "audit": _uri, "layout": _is("named", "content"),
        "id_scheme": _is("hmac-sha256", "sha256"), "key_id": _text(r"none|[0-9a-f]{8}"),
    },
}  # fmt: skip
"""Kind of bookkeeping → field → whether a value has the form that our writers give it."""
