"""The Parquet parts of a run: bytes, rows, and what their columns add up to. Reads few columns, a row group at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_facefog.audit.ledger import LedgerPart
from airflow_facefog.audit.objects import Objects
from airflow_facefog.audit.schema import TABLES
from airflow_facefog.audit.verifying.files import digest, opened
from airflow_facefog.audit.verifying.findings import Code, Findings
from airflow_facefog.core.records import Action, Status

COUNTED: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "image": ("status", ("n_detections", "n_fogged")),
    "detection": ("action", ()),
}
"""Part → the column whose values are counted, and those that are summed."""


@dataclass(frozen=True, slots=True)
class PartFacts:
    """What an intact part says: rows of its footer, how often each value occurs, sums of columns."""

    bytes: int
    rows: int
    values: Mapping[str, int] = field(default_factory=dict)
    sums: Mapping[str, int] = field(default_factory=dict)


def check_part(audit: Objects, part: LedgerPart, findings: Findings) -> PartFacts | None:
    """Hash a part and read what it says. None: it is missing, has other bytes or cannot be read, and was named."""
    with opened(audit, part.key) as file:
        if file is None:
            findings.add(Code.PART_MISSING, part.key, "the record names this part and it is not there; restore it")
            return None
        found, size = digest(file)
        if found != part.sha256 or part.bytes not in (None, size):
            detail = f"it holds {size} bytes with another hash than the record names; it was changed or cut"
            findings.add(Code.PART_CHANGED, part.key, detail)
            return None
        return _read(file, part, size, findings)


def check_counts(name: str, parts: Mapping[str, PartFacts], said: Mapping[str, Any], findings: Findings) -> None:
    """Compare the columns of a run that no amendment changed with the counts of its manifest ``name``."""
    for count, found in _recounted(parts):
        if said.get(count) != found:
            detail = f"it counts {said.get(count)!r} {count}, its parts hold {found}"
            findings.add(Code.COUNTS_WRONG, name, detail[:200])


def check_amended_counts(
    name: str, parts: Mapping[str, PartFacts], said: Mapping[str, Any], findings: Findings
) -> None:
    """After rows were removed nothing can be more than the manifest counted, and the parts still agree."""
    for count, found in _recounted(parts):
        sealed = said.get(count)
        if not isinstance(sealed, int) or found > sealed:
            detail = f"it counts {sealed!r} {count}, its amended parts hold more: {found}"
            findings.add(Code.COUNTS_WRONG, name, detail[:200])


def _recounted(parts: Mapping[str, PartFacts]) -> Iterable[tuple[str, int]]:
    """(name of a count of the manifest, what the columns say), from each part that was readable."""
    image, detection = parts.get("image"), parts.get("detection")
    if image is not None:
        yield "listed", image.rows
        yield from ((status.value, image.values.get(status.value, 0)) for status in Status)
        yield "detections", image.sums["n_detections"]
        yield "fogged", image.sums["n_fogged"]
    if detection is not None:
        yield "detections", detection.rows
        yield "fogged", detection.values.get(Action.FOGGED.value, 0)


def _read(file: Any, part: LedgerPart, size: int, findings: Findings) -> PartFacts | None:
    import pyarrow as pa

    try:
        parquet = open_parquet(file, part.name)
        facts = _facts(parquet, part.name, size)
    except (pa.ArrowException, ValueError, KeyError, OSError) as error:
        findings.add(Code.PART_DAMAGED, part.key, f"its hash is right but it is no {part.name} part: {_short(error)}")
        return None
    if facts.rows != part.rows:
        findings.add(Code.PART_ROWS_WRONG, part.key, f"the record says {part.rows} rows, it holds {facts.rows}")
    return facts


def open_parquet(file: Any, name: str, coded: Iterable[str] = ()) -> Any:
    """A part as ``pyarrow.parquet.ParquetFile``. Raises ValueError when it is no such part, ArrowException for damage.

    ``coded``: text columns to read as codes into a dictionary, beside the counted one.
    """
    import pyarrow.parquet as pq

    column = COUNTED.get(name, ("",))[0]
    parquet = pq.ParquetFile(file, read_dictionary=[*coded, column] if column else list(coded), pre_buffer=False)
    table = TABLES.get(f"facefog_{name}")
    needed = {"salt", "leaf"} if table is None else {c.name for c in table.columns if not c.nullable}
    missing = sorted(needed - set(parquet.schema.names))
    if missing:
        raise ValueError(f"column {missing[0]} is missing")
    return parquet


def _facts(parquet: Any, name: str, size: int) -> PartFacts:
    import pyarrow.compute as pc

    counted, summed = COUNTED.get(name, ("", ()))
    values: Counter[str] = Counter()
    sums = dict.fromkeys(summed, 0)
    for group in range(parquet.num_row_groups if counted else 0):
        table = parquet.read_row_group(group, columns=[counted, *summed], use_threads=False)
        for chunk in table[counted].chunks:
            values.update(_count(chunk))
        for column in summed:
            sums[column] += pc.sum(table[column]).as_py() or 0
    return PartFacts(size, parquet.metadata.num_rows, values, sums)


def _count(coded: Any) -> dict[str, int]:
    """How often each value of a dictionary array occurs: codes compared one value at a time, the last is what remains."""
    import numpy as np

    names: list[str] = coded.dictionary.to_pylist()
    codes = (coded.indices.fill_null(-1) if coded.null_count else coded.indices).to_numpy()
    counts = [int(np.count_nonzero(codes == code)) for code in range(len(names) - 1)]
    return dict(zip(names, [*counts, len(coded) - coded.null_count - sum(counts)], strict=True)) if names else {}


def _short(error: Exception) -> str:
    """Arrow's messages quote values at times; only ours are shown."""
    return str(error) if type(error) is ValueError else type(error).__name__
