"""Take a picture out of everything that a run leaves in the audit besides its sealed parts.

Batches must go on adding up, also those of runs that are not sealed yet: a row that goes leaves one that says
``quarantined``, ``erased`` and nothing else, and a name in a list leaves a number. Commits are changed before the parts
that they name, so that a second call finds what a first one left undone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_facefog.audit.regions import folder
from airflow_facefog.core.records import Status
from airflow_facefog.job.erased import blank_row
from airflow_facefog.job.opening import make_item

if TYPE_CHECKING:
    from airflow_facefog.core.keys import KeyRing
    from airflow_facefog.job.record.runs import RunPlace
    from airflow_facefog.job.record.trace import Subject
    from airflow_facefog.publish.store import Store


@dataclass(frozen=True, slots=True)
class Edit:
    """One audit object and its new bytes; None: it goes."""

    key: str
    data: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Files:
    """What is looked for: the subject, and the sources of which nothing may stay."""

    audit: Store
    subject: Subject
    forgotten: frozenset[str] = field(repr=False)
    keys: KeyRing

    def edits(self, places: list[RunPlace]) -> Iterator[Edit]:
        """Every change that is still to be made, in an order that survives a crash. Reads all work files."""
        for place in places:
            if place.key_id != self.keys.key_id:
                continue  # there the same file has other ids: nothing of it can be told
            yield from self._attempts(place)
            yield from self._predictions(place)
            yield from self._lists(place)
        yield from self._shared()

    def rows(self, places: list[RunPlace]) -> Iterator[Edit]:
        """Of these changes those of attempts' rows alone."""
        for place in places:
            if place.key_id == self.keys.key_id:
                yield from self._attempts(place)

    def _attempts(self, place: RunPlace) -> Iterator[Edit]:
        parts = {}
        for key in self.audit.list(f"intents/{place.home}"):
            name = key.rpartition("/")[2]
            if name.endswith(".parquet"):
                data = self._part(key, f"facefog_{name.partition('.')[0].partition('-')[0]}")
                parts.update({key: data} if data is not None else {})
            elif name == "holds" and self.audit.read(key).decode() in self.forgotten:
                yield Edit(key, None)
        yield from self._commits(place, parts)
        yield from (Edit(key, data) for key, (data, _) in parts.items())

    def _part(self, key: str, table: str) -> tuple[bytes, int] | None:
        """New bytes and rows of an attempt's part, or None when it has no row of the subject."""
        import pyarrow.compute as pc

        from airflow_facefog.audit.parquet import read_arrow, to_parquet

        rows = read_arrow(table, self.audit.read(key))
        mine = self.subject.about(rows)
        if not pc.any(mine).as_py():
            return None
        if table != "facefog_image":
            left = rows.filter(pc.invert(mine))
            return to_parquet(table, left), left.num_rows
        records = [
            blank_row(row, key, index) if gone else row
            for index, (row, gone) in enumerate(zip(rows.to_pylist(), mine.to_pylist(), strict=True))
        ]
        return to_parquet(table, records), len(records)

    def _commits(self, place: RunPlace, parts: dict[str, tuple[bytes, int]]) -> Iterator[Edit]:
        for key in self.audit.list(f"commits/{place.home}") if parts else ():
            body = json.loads(self.audit.read(key))
            named = [body["image"], body["detection"], *body["intents"]]
            for part in named:
                if part["key"] in parts:
                    data, rows = parts[part["key"]]
                    part.update(sha256=hashlib.sha256(data).hexdigest(), rows=rows)
            if body["image"]["key"] in parts:
                body["counts"] = _counts(parts[body["image"]["key"]][0])
            data = json.dumps(body, sort_keys=True).encode()
            if data != self.audit.read(key):
                yield Edit(key, data)

    def _predictions(self, place: RunPlace) -> Iterator[Edit]:
        """Lines are ``source_ref entry``; the entry names the picture too."""
        names = [ref.encode() for ref in sorted(self.forgotten | self.subject.image_ids)]
        for key in self.audit.list(f"predictions/{place.home}"):
            lines = self.audit.read(key).split(b"\n")
            left = [line for line in lines if not any(name in line for name in names)]
            if left != lines:
                yield Edit(key, b"\n".join(left))

    def _lists(self, place: RunPlace) -> Iterator[Edit]:
        """File names: in the table of sources, and in the lists of batches that nobody has to read again."""
        import pyarrow.compute as pc

        from airflow_facefog.audit.parquet import read_arrow, to_parquet
        from airflow_facefog.job.trace_rows import is_in

        key = f"sources/{place.home}.parquet"
        data = self.audit.get(key)
        if data is not None:
            rows = read_arrow("facefog_source", data)
            gone = is_in(rows["source_ref"], self.forgotten)
            if pc.any(gone).as_py():
                yield Edit(key, to_parquet("facefog_source", rows.filter(pc.invert(gone))))
        for key in self.audit.list(f"plans/{place.home}/batches"):
            if place.sealed or self._committed(place, key):
                yield from self._list(place, key)

    def _committed(self, place: RunPlace, batch_key: str) -> bool:
        from airflow_facefog.publish.protocol import read_commit

        return read_commit(self.audit, f"commits/{place.home}/{batch_key.rpartition('/')[2]}") is not None

    def _list(self, place: RunPlace, key: str) -> Iterator[Edit]:
        body = json.loads(self.audit.read(key))
        changed = False
        for index, (name, size, etag) in enumerate(body["items"]):
            if place.source and make_item(place.source, name, size, etag, keys=self.keys).source_ref in self.forgotten:
                body["items"][index] = [f"erased-{index}", 0, ""]
                changed = True
        if changed:
            yield Edit(key, json.dumps(body).encode())

    def _shared(self) -> Iterator[Edit]:
        """Caches, reports and lists that no single run owns."""
        for image_id in sorted(self.subject.image_ids):
            yield from (Edit(key, None) for key in self.audit.list(folder(self.keys, image_id)))
        for key in self.audit.list("predictions/cache"):
            if key.rpartition("/")[2] in self.subject.image_ids:
                yield Edit(key, None)
        for key in self.audit.list("refusals"):
            ids = self.audit.read(key).decode().splitlines()
            left = [image_id for image_id in ids if image_id not in self.subject.image_ids]
            if left != ids:
                yield Edit(key, "\n".join(left).encode())
        for key in self.audit.list("egress"):
            data = self._part(key, "facefog_egress") if key.endswith(".parquet") else None
            if data is not None:
                yield Edit(key, data[0] if data[1] else None)


def recipients(audit: Store, subject: Subject) -> list[str]:
    """Hosts that the picture itself was sent to: who erases must tell them."""
    from airflow_facefog.audit.parquet import read_arrow

    found: set[str] = set()
    for key in audit.list("egress"):
        rows = read_arrow("facefog_egress", audit.read(key), ("source_ref", "image_id", "host"))
        found.update(rows["host"].filter(subject.about(rows)).to_pylist())
    return sorted(found)


def apply(audit: Store, edit: Edit) -> None:
    """Make one change."""
    if edit.data is None:
        audit.delete(edit.key)
    else:
        audit.replace(edit.key, edit.data)


def _counts(data: bytes) -> dict[str, int]:
    from airflow_facefog.audit.parquet import read_arrow

    statuses = read_arrow("facefog_image", data, ("status",))["status"].to_pylist()
    return {status.value: statuses.count(status.value) for status in Status}
