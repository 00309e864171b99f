"""Everything that an audit knows about one picture, found by hash lineage: in all runs and generations, sealed or not.

What is asked for is a raw file, a published file, the URI of either, or one of the ids: image_id, source_ref, item_id, or
the sha256 of an output. A picture is its bytes: every row with its image_id counts, of duplicates too, and rows of its
sources that hold no image_id. Who asks by source (URI, source_ref, item_id) means every picture that the source ever held.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.job.erased import Erasures
from airflow_facefog.job.model import Place, RootOpener, open_root_plain
from airflow_facefog.job.record.runs import RunPlace, run_places
from airflow_facefog.job.trace_rows import Kept, is_in, row_tables, values_of, without

if TYPE_CHECKING:
    from airflow_facefog.audit.ledger import Ledger
    from airflow_facefog.core.keys import KeyRing
    from airflow_facefog.publish.store import Store

ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for. ``files``: (image_id, sha256) of files that were read; ``ids``: of unknown kind."""

    files: frozenset[tuple[str, str]] = field(default=frozenset(), repr=False)
    source_refs: frozenset[str] = field(default=frozenset(), repr=False)
    ids: frozenset[str] = field(default=frozenset(), repr=False)
    uris: frozenset[str] = field(default=frozenset(), repr=False)

    @property
    def image_ids(self) -> frozenset[str]:
        """Ids of the files, were they raw ones."""
        return frozenset(image_id for image_id, _ in self.files)

    @property
    def tokens(self) -> list[str]:
        """All of it, sorted."""
        return sorted(self.image_ids | self.source_refs | self.ids | self.uris)


@dataclass(frozen=True, slots=True)
class Subject:
    """The pictures and sources that the question means.

    ``image_ids``: pictures; ``sources``: sources asked for as such; ``seen``: sources that held one of the pictures;
    ``items``: ids that no row knows: they may be items of which a dataset still tells when the rows have expired.
    ``kept``: rows that do not count although they are about the picture.
    """

    image_ids: frozenset[str] = field(repr=False)
    sources: frozenset[str] = field(repr=False)
    seen: frozenset[str] = field(repr=False)
    items: frozenset[str] = field(default=frozenset(), repr=False)
    kept: Kept | None = None

    def about(self, rows: Any) -> Any:
        """Mask of the rows of a ``pyarrow`` table or batch with source_ref and image_id that are about it."""
        import pyarrow.compute as pc

        image, source = rows["image_id"], rows["source_ref"]
        unread = pc.and_(pc.is_null(image), is_in(source, self.seen))
        mine = pc.or_(pc.or_(is_in(image, self.image_ids), is_in(source, self.sources)), unread)
        return mine if self.kept is None else pc.and_(mine, pc.invert(self.kept.holds(rows)))


NOTHING = Subject(frozenset(), frozenset(), frozenset())


@dataclass(frozen=True, slots=True)
class Found:
    """One row about the subject. ``output_key``: relative to the run's destination."""

    run: RunPlace
    source_ref: str = field(repr=False)
    image_id: str | None = field(repr=False)
    status: str
    output_key: str | None = field(repr=False)
    output_sha256: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Trace:
    """The subject, its rows, and sources that still have rows of other pictures."""

    subject: Subject
    rows: tuple[Found, ...]
    shared_sources: frozenset[str] = field(repr=False)
    shared_objects: frozenset[tuple[str, str]] = field(repr=False)
    other_key_ids: tuple[str, ...] = ()

    @property
    def forgotten(self) -> frozenset[str]:
        """Sources of which nothing may stay."""
        return (self.subject.seen | self.subject.sources) - self.shared_sources


def read_wanted(images: Sequence[str], keys: KeyRing, open_root: RootOpener = open_root_plain) -> Wanted:
    """Turn what a person gave into ids. Files are read, here only. Raises ConfigurationError for what is none of it."""
    parts = [_one(text, keys) for text in images]
    if not parts:
        raise ConfigurationError("no image is named; give a file, a URI or an id of 64 hex digits")
    names = ("files", "source_refs", "ids", "uris")
    return Wanted(*(frozenset().union(*(getattr(part, name) for part in parts)) for name in names))


def _one(text: str, keys: KeyRing) -> Wanted:
    if ID.fullmatch(text):
        return Wanted(ids=frozenset({text}))
    place = Place.parse(text)
    named = Wanted(source_refs=frozenset({keys.source_ref(place.uri)}), uris=frozenset({place.uri}))
    if not place.is_local:
        return named
    try:
        with open(place.local_path, "rb") as file:
            data = file.read()
    except OSError:  # gone already: its name is enough
        return named
    return replace(named, files=frozenset({(keys.image_id(data), hashlib.sha256(data).hexdigest())}))


def trace(audit: Store, ledger: Ledger, wanted: Wanted, keys: KeyRing, known: Subject = NOTHING) -> Trace:
    """Find it, and more of what is ``known`` already.

    Raises ConfigurationError when rows are found under another master key: their items cannot be named with this one.
    """
    return trace_subject(audit, ledger, _subject(audit, ledger, wanted, keys, known), keys)


def trace_subject(audit: Store, ledger: Ledger, subject: Subject, keys: KeyRing) -> Trace:
    """The rows of what is known already. Raises as ``trace`` does."""
    places = run_places(audit, ledger)
    rows: dict[Found, None] = {}
    for table in row_tables(audit, ledger):
        rows.update({_found(row, places): None for row in table.filter(subject.about(table)).to_pylist()})
    foreign = sorted({row.run.key_id for row in rows} - {keys.key_id})
    if foreign:
        raise ConfigurationError(
            f"the image was recorded under master key {', '.join(foreign)} and this key is {keys.key_id}; use that key"
        )
    shared: set[str] = set()
    objects: set[tuple[str, str]] = set()
    keys_found = {row.output_key for row in rows if row.output_key}
    for table in row_tables(audit, ledger) if rows else ():
        others = without(table, subject.about(table))
        shared.update(_refs(others, subject))
        objects.update(_outputs(others, keys_found, places))
    other_keys = sorted({place.key_id for place in places.values()} - {keys.key_id})
    return Trace(subject, tuple(rows), frozenset(shared), frozenset(objects), tuple(other_keys))


def _subject(audit: Store, ledger: Ledger, wanted: Wanted, keys: KeyRing, known: Subject) -> Subject:
    """From what was asked for to pictures, and from these to the sources that held them."""
    image_ids, explicit = set(known.image_ids), set(wanted.source_refs | known.sources)
    hashes = {sha256 for _, sha256 in wanted.files} | wanted.ids
    met: set[str] = set()
    published: dict[str, set[str]] = {}
    for table in row_tables(audit, ledger):
        met.update(values_of(table, "image_id", "image_id", wanted.ids | wanted.image_ids))
        _note_outputs(table, hashes, published)
        explicit.update(values_of(table, "source_ref", "source_ref", wanted.ids))
        image_ids.update(values_of(table, "source_ref", "image_id", explicit))
        if "output_uri" in table.column_names:
            image_ids.update(values_of(table, "output_uri", "image_id", wanted.uris))
    image_ids |= _pictures(wanted, met | known.image_ids, published, Erasures(audit, keys))
    left = wanted.ids - met - explicit - set(published)
    sources = _sources_of_items(audit, ledger, left, keys) if left else set()
    for table in row_tables(audit, ledger) if sources else ():
        image_ids.update(values_of(table, "source_ref", "image_id", sources))
    seen = set(known.seen)
    for table in row_tables(audit, ledger):
        seen.update(values_of(table, "image_id", "source_ref", image_ids))
    items = left - {keys.item_id(ref) for ref in sources}
    return Subject(frozenset(image_ids), frozenset(explicit | sources), frozenset(seen), items)


def _pictures(
    wanted: Wanted, met: Collection[str], published: Mapping[str, set[str]], erased: Erasures
) -> set[str]:  # fmt: skip
    """What files and ids stand for: bytes that were read are a raw picture, also where they equal an output of others
    (a picture without a face may be published as it was); so are bytes that were erased.
    """
    found: set[str] = set()
    for image_id, sha256 in wanted.files:
        raw = image_id in met or image_id in erased
        found |= {image_id} if raw else published.get(sha256, {image_id})
    for text in wanted.ids:
        found |= {text} if text in met else set() if text in erased else published.get(text, set())
    return found


def _note_outputs(table: Any, hashes: Iterable[str], published: dict[str, set[str]]) -> None:
    rows = table.select(["output_sha256", "image_id"]).filter(is_in(table["output_sha256"], hashes))
    for sha256, image_id in zip(*(column.to_pylist() for column in rows.columns), strict=True):
        published.setdefault(sha256, set()).add(image_id)


def _sources_of_items(audit: Store, ledger: Ledger, ids: frozenset[str], keys: KeyRing) -> set[str]:
    refs = {ref for table in row_tables(audit, ledger) for ref in table["source_ref"].unique().to_pylist()}
    return {ref for ref in refs if keys.item_id(ref) in ids}


def _found(row: Mapping[str, Any], places: Mapping[str, RunPlace]) -> Found:
    place = _place(row, places)
    key = row["output_key"] if "output_key" in row else place.key_of(row["output_uri"])
    return Found(place, row["source_ref"], row["image_id"], row["status"], key, row["output_sha256"])


def _place(row: Mapping[str, Any], places: Mapping[str, RunPlace]) -> RunPlace:
    home = f"{row['run_key']}/{row['generation']}"
    if home not in places:
        raise ConfigurationError(f"run {home} has left rows and neither plan nor manifest; restore the audit")
    return places[home]


def _outputs(rows: Any, wanted: Iterable[str], places: Mapping[str, RunPlace]) -> Iterator[tuple[str, str]]:
    """Those of some keys that these rows name too: (destination, key)."""
    destinations = {place.destination.uri.rstrip("/") for place in places.values()}
    if "output_key" in rows.column_names:
        found = rows.filter(is_in(rows["output_key"], wanted))
    else:
        found = rows.filter(is_in(rows["output_uri"], {f"{uri}/{key}" for uri in destinations for key in wanted}))
    for row in found.to_pylist():
        place = _place(row, places)
        key = row["output_key"] if "output_key" in row else place.key_of(row["output_uri"])
        if key is not None:
            yield place.destination.uri, key


def _refs(rows: Any, subject: Subject) -> list[str]:
    import pyarrow.compute as pc

    found: list[str] = pc.unique(rows["source_ref"].filter(is_in(rows["source_ref"], subject.seen))).to_pylist()
    return found
