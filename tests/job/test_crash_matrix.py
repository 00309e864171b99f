"""kill -9 at every write of a run, then a retry: what is visible is always recorded, and the end is as if nothing happened."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import faultkit
import pytest
from faultkit import check_invariants, die_at, ended, process, run_all, shown, small_photos, sql_rows
from jobkit import World
from upath import UPath

from airflow_facefog.audit.ledger import open_ledger
from airflow_facefog.publish.store import Store

BATCHES = {"batch_images": 3}
PLAN_WRITES = 5  # dataset.json, two batch files, plan.json, the source table
BATCH_WRITES = 8  # started, intent, 3 objects, image part, detection part, commit; then ``ended``
FINAL_WRITES = 12
"""4 parts, manifest, chain entry, run row, part, delta, snapshot, latest.json, committed.json; SQL is one transaction."""
WRITES = PLAN_WRITES + 2 * (BATCH_WRITES + 1) + FINAL_WRITES

AFTER = {
    "intent": PLAN_WRITES + 2, "second_object": PLAN_WRITES + 4, "commit": PLAN_WRITES + 8, "seal": WRITES - 7,
    "chain": WRITES - 6, "snapshot": WRITES - 2, "committed": WRITES,
}  # fmt: skip
POINTS = [pytest.param(n, "before", id=f"before_{n}") for n in range(1, WRITES + 1)]
POINTS += [pytest.param(n, "after", id=f"after_{name}") for name, n in AFTER.items()]


def make_world(root: Path) -> World:
    """Two batches of three small photos."""
    world = World(root)
    small_photos(world, 6)
    return world


def note_writes(root: str) -> None:
    """Child process: an undisturbed run that notes what it writes."""
    world = World(Path(root))
    paths: list[str] = []
    faultkit.count_writes(lambda _n, moment, path: paths.append(path) if moment == "before" else None)
    run_all(world, "calm", **BATCHES)
    (world.root / "writes.json").write_text(json.dumps(paths))


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world after an undisturbed run."""
    world = make_world(tmp_path_factory.mktemp("calm"))
    assert ended(process(note_writes, str(world.root))) == 0
    return world


def test_the_matrix_knows_every_write(calm: World) -> None:
    """The run writes what PROTOCOL says, in its order, so that the numbers below hit every protocol point."""
    paths = [Path(path).relative_to(calm.root) for path in json.loads((calm.root / "writes.json").read_text())]
    assert len(paths) == WRITES
    kinds = ["/".join((path.parts[0], path.parts[1])) if len(path.parts) > 1 else path.name for path in paths]
    batch = ["audit/intents"] * 2 + ["clean/data"] * 3 + ["audit/intents"] * 2 + ["audit/commits", "audit/intents"]
    assert kinds[PLAN_WRITES : PLAN_WRITES + 18] == batch * 2
    names = [path.name for path in paths[PLAN_WRITES + 18 :]]
    assert names[:7] == [
        "image.parquet", "detection.parquet", "intent.parquet", "leaf.parquet", "manifest.json",
        "0000000001.json", "run.parquet",
    ]  # fmt: skip
    chosen = {name: "/".join(paths[number - 1].parts[-2:]) for name, number in AFTER.items()}
    assert chosen["seal"].endswith("/manifest.json")
    assert (chosen["chain"], chosen["snapshot"]) == ("chain/0000000001.json", "snapshots/0000000001.json")
    assert paths[AFTER["intent"] - 1].name == "intent-0000.parquet"
    assert names[7:] == [
        "part.parquet", "delta-0000000001.parquet", "0000000001.json", "latest.json", "committed.json",
    ]  # fmt: skip


@pytest.mark.parametrize(("number", "moment"), POINTS)
def test_a_killed_run_is_finished_by_a_retry(calm: World, tmp_path: Path, number: int, moment: str) -> None:
    """Between kill and retry P1 and P2 hold; after the retry objects, commits, snapshot and SQL equal an undisturbed run."""
    world = make_world(tmp_path)
    assert ended(process(die_at, str(world.root), number, moment, BATCHES)) == -signal.SIGKILL
    check_invariants(world)
    before = shown(world)
    assert before in ({}, shown(calm)), "consumers saw a half-finished run"
    result = run_all(world, "retry", **BATCHES)
    check_invariants(world)
    assert faultkit.objects(world) == faultkit.objects(calm)
    assert shown(world) == shown(calm)
    assert len(list(world.audit.glob("commits/*/*/*.json"))) == 2
    assert world.snapshots() == calm.snapshots()
    assert (result["counts"]["published"], result["snapshot_seq"], result["changed"]) == (6, 1, True)
    assert sql_rows(world) == sql_rows(calm)
    (run,) = open_ledger(Store(UPath(world.audit))).runs
    assert (run.seq, result["chain_seq"]) == (1, 1)
    assert len(list(world.audit.glob("runs/*/*/*.parquet"))) == 5
