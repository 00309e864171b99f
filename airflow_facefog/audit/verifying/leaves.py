"""Deep: the leaf part makes the root that is signed, and the rows make their leaves."""

from __future__ import annotations

from typing import Any

from airflow_facefog.audit.ledger import SealedRun
from airflow_facefog.audit.objects import Objects
from airflow_facefog.audit.sealed import LedgerError
from airflow_facefog.audit.verifying.files import opened
from airflow_facefog.audit.verifying.findings import Code, Findings
from airflow_facefog.audit.verifying.parts import open_parquet
from airflow_facefog.core.errors import ConfigurationError


def check_leaves(audit: Objects, run: SealedRun, findings: Findings) -> None:
    """Compare leaf part → tree root and rows → leaves, for what has not expired. Nothing to do for old manifests."""
    import pyarrow as pa

    part, tree = run.parts.get("leaf"), run.manifest.get("tree")
    if tree is None:
        return
    if part is None:
        findings.add(Code.NOT_CHECKED, run.manifest_key, "its leaves have expired; rows cannot be compared with them")
        return
    try:
        leaves = _read(audit, run, "leaf")
        if _is_tree(leaves, tree):
            _check_rows(audit, run, leaves, findings)
        else:
            findings.add(Code.TREE_WRONG, part.key, "its leaves do not make the tree root that the manifest names")
    except (LedgerError, ConfigurationError, ValueError, pa.ArrowException) as error:
        detail = str(error) if isinstance(error, LedgerError) else f"rows cannot be read ({type(error).__name__})"
        findings.add(Code.LEAVES_WRONG, part.key, detail)


def _check_rows(audit: Objects, run: SealedRun, leaves: Any, findings: Findings) -> None:
    image, detection = run.parts.get("image"), run.parts.get("detection")
    if image is None or detection is None:
        findings.add(Code.NOT_CHECKED, run.manifest_key, "its rows have expired; they cannot be compared with leaves")
        return
    images = _read(audit, run, "image")
    wrong = _wrong_leaves(images, _read(audit, run, "detection"), leaves)
    if wrong:
        detail = f"{wrong} of {images.num_rows} rows do not make the leaf that is recorded"
        findings.add(Code.LEAVES_WRONG, image.key, detail)


def _is_tree(leaves: Any, tree: Any) -> bool:
    from airflow_facefog.audit.tree import ALGORITHM, root

    said = (tree.get("algorithm"), tree.get("size"))
    if said != (ALGORITHM, leaves.num_rows) or leaves["leaf"].null_count:
        return False
    return bool(root(_fixed(leaves["leaf"])).hex() == tree.get("root"))


def _wrong_leaves(images: Any, detections: Any, leaves: Any) -> int:
    """How many rows have another leaf than the one at their place, no salt, or no place of their own."""
    import pyarrow.compute as pc

    from airflow_facefog.audit.leaves import make_leaves

    places = images["leaf_idx"].combine_chunks()
    if places.null_count or pc.count_distinct(places).as_py() != len(places):
        return int(images.num_rows)
    numbers = places.to_numpy(zero_copy_only=False)
    if len(numbers) and not 0 <= int(numbers.min()) <= int(numbers.max()) < leaves.num_rows:
        return int(images.num_rows)
    found = leaves.take(places)
    if found["salt"].null_count:
        return int(found["salt"].null_count)
    made, recorded = make_leaves(images, detections, _fixed(found["salt"])), _fixed(found["leaf"])
    return sum(made[at : at + 32] != recorded[at : at + 32] for at in range(0, len(recorded), 32))


def _fixed(column: Any) -> bytes:
    """The bytes of a column of fixed-size binary without nulls, one after another."""
    whole = column.combine_chunks()
    width = whole.type.byte_width
    data = whole.buffers()[1]
    return bytes(data[whole.offset * width : (whole.offset + len(whole)) * width]) if data is not None else b""


def _read(audit: Objects, run: SealedRun, name: str) -> Any:
    from airflow_facefog.audit.ledger import read_part
    from airflow_facefog.audit.parquet import read_compact

    if name != "leaf":
        return read_compact(f"facefog_{name}", read_part(audit, run.parts[name]))
    with opened(audit, run.parts[name].key) as file:
        if file is None:
            raise LedgerError(f"{run.parts[name].key} was removed while it was verified")
        return open_parquet(file, name).read()
