"""Rows that name images, wherever an audit has them, as ``pyarrow`` tables; and how they are filtered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_facefog.audit.ledger import Ledger
    from airflow_facefog.publish.store import Store

COLUMNS = ("run_key", "generation", "source_ref", "image_id", "status", "output_uri", "output_sha256")
INTENT_COLUMNS = ("run_key", "generation", "source_ref", "image_id", "output_key", "output_sha256")


def row_tables(audit: Store, ledger: Ledger) -> Iterator[Any]:
    """Image rows of sealed runs, and image and intent rows of everything that attempts left behind."""
    from airflow_facefog.audit.parquet import read_arrow

    for run in ledger.runs:
        if "image" in run.parts:
            yield read_arrow("facefog_image", audit.read(run.parts["image"].key), COLUMNS)
        if "intent" in run.parts:
            yield _as_images(read_arrow("facefog_intent", audit.read(run.parts["intent"].key), INTENT_COLUMNS))
    for key in audit.list("intents"):
        name = key.rpartition("/")[2]
        if name == "image.parquet":
            yield read_arrow("facefog_image", audit.read(key), COLUMNS)
        elif name.startswith("intent-"):
            yield _as_images(read_arrow("facefog_intent", audit.read(key), INTENT_COLUMNS))


def _as_images(intents: Any) -> Any:
    """Intents as image rows: an object may lie there although no row says so."""
    import pyarrow as pa

    return intents.append_column("status", pa.repeat("intent", intents.num_rows))


def values_of(table: Any, where: str, what: str, values: Iterable[str]) -> list[str]:
    """Different values of column ``what`` in rows whose column ``where`` is one of these."""
    import pyarrow.compute as pc

    found: list[str] = pc.unique(table[what].filter(is_in(table[where], values))).drop_null().to_pylist()
    return found


def is_in(column: Any, values: Iterable[str]) -> Any:
    """Mask of a text column, coded or not: which values are among these."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if column.type != pa.string():
        column = column.cast(pa.string())
    return pc.is_in(column, value_set=pa.array(sorted(values), pa.string()))


def without(table: Any, mask: Any) -> Any:
    """The rows where the mask is false."""
    import pyarrow.compute as pc

    return table.filter(pc.invert(mask))


@dataclass(frozen=True, slots=True)
class Kept:
    """Rows about a picture that stay: of runs (``homes``), as far as they name no output but these (sha256)."""

    homes: frozenset[str]
    outputs: frozenset[str] = field(repr=False)

    def holds(self, rows: Any) -> Any:
        """Mask of rows with run_key and generation. Rows without an output belong to their run."""
        import pyarrow as pa
        import pyarrow.compute as pc

        run = pc.binary_join_element_wise(*(rows[name].cast(pa.string()) for name in ("run_key", "generation")), "/")
        ours = is_in(run, self.homes)
        if "output_sha256" in rows.schema.names:
            output = rows["output_sha256"]
            ours = pc.and_(ours, pc.or_(pc.is_null(output), is_in(output, self.outputs)))
        return ours
