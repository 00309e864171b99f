"""Deep: every object that a run published is hashed again where it lies."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from airflow_facefog.audit.ledger import SealedRun
from airflow_facefog.audit.objects import Objects
from airflow_facefog.audit.verifying.files import digest, opened
from airflow_facefog.audit.verifying.findings import Code, Findings
from airflow_facefog.audit.verifying.parts import open_parquet
from airflow_facefog.core.records import Status

ROWS = 2_000
"""Objects that are asked for at the same time."""

REMOTE_THREADS = 32
"""A round trip to an object store is not CPU."""

Output = tuple[str, str, int]
"""output_uri, output_sha256, output_bytes."""


def check_objects(
    audit: Objects, run: SealedRun, destination: Objects, findings: Findings, *, threads: int
) -> int:  # fmt: skip
    """Hash the objects of all rows that say ``published`` now; return how many are right.

    Rows that an erasure removed name no object any more. Superseded and withdrawn objects stay where they are: only
    erasure deletes.
    """
    prefix = destination.uri("x").removesuffix("x")

    def right(output: Output) -> bool:
        return _check(output, prefix, destination, findings)

    good = 0
    with ThreadPoolExecutor(threads if destination.local else REMOTE_THREADS) as pool:
        for outputs in _outputs(audit, run, findings):
            good += sum(pool.map(right, outputs))
    return good


def _check(output: Output, prefix: str, destination: Objects, findings: Findings) -> bool:
    uri, sha256, size = output
    if not uri.startswith(prefix):
        findings.add(Code.OBJECT_MISSING, uri, "the record puts this object outside of the run's destination")
        return False
    with opened(destination, uri.removeprefix(prefix)) as file:
        if file is None:
            findings.add(Code.OBJECT_MISSING, uri, "the record says that it was published, and it is not there")
            return False
        found = digest(file)
    if found != (sha256, size):
        findings.add(Code.OBJECT_CHANGED, uri, f"it holds {found[1]} bytes with another hash than was published")
        return False
    return True


def _outputs(audit: Objects, run: SealedRun, findings: Findings) -> Iterator[Sequence[Output]]:
    """Distinct outputs of published rows, some at a time."""
    import pyarrow.compute as pc

    part = run.parts.get("image")
    if part is None:
        findings.add(Code.NOT_CHECKED, run.manifest_key, "its image rows have expired; its objects were not hashed")
        return
    columns = ["output_uri", "output_sha256", "output_bytes"]
    seen: set[bytes] = set()
    with opened(audit, part.key) as file:
        for batch in open_parquet(file, "image").iter_batches(ROWS, columns=[*columns, "status"]):
            rows = batch.filter(pc.equal(batch["status"].cast("string"), Status.PUBLISHED.value))
            named = zip(*(rows[name].to_pylist() for name in columns), strict=True)
            outputs = [(uri or "", digest or "", size or 0) for uri, digest, size in named]
            yield [output for output in outputs if _new(output, seen)]


def _new(output: Output, seen: set[bytes]) -> bool:
    """Items with equal bytes share an object in the ``content`` layout."""
    name = hashlib.blake2b("\0".join(map(str, output)).encode("utf-8", "surrogatepass"), digest_size=12).digest()
    fresh = name not in seen
    seen.add(name)
    return fresh
