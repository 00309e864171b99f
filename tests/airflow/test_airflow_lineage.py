"""OpenLineage through the real provider: its listener, its classes, its file transport; aggregates and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import attr
import pytest
from airflow.sdk import Asset
from fog_lake import Lake, events, fog_dag
from upath import UPath

from airflow_facefog.audit.parquet import from_parquet
from airflow_facefog.operators import lineage
from airflow_facefog.operators.lineage import Facts
from airflow_facefog.publish.snapshots import open_dataset

RunDag = Callable[..., Any]
COUNTS = {"listed": 4, "published": 3, "quarantined": 1, "failed": 0, "skipped": 0, "detections": 4, "fogged": 3}
FACTS = Facts(
    source="s3://raw-bucket/photos", destination="file:///clean", dataset="default", snapshot_seq=7, counts=COUNTS,
    objects=3, bytes=999, max_quarantined=0.5, policy_hash="p" * 64, recipe_hash="r" * 64, model_sha256="m" * 64,
    manifest_sha256="f" * 64, chain_head="3:" + "c" * 64, signed=True,
)  # fmt: skip


@pytest.fixture
def emitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Turn the provider on with a file transport, as a deployment does; returns what was emitted so far."""
    from airflow.providers.openlineage.plugins.listener import OpenLineageListener
    from airflow.sdk.listener import get_listener_manager

    manager = get_listener_manager()  # loads the provider's plugin while it is off: its own listener would emit twice
    log = tmp_path / "lineage.jsonl"
    transport = {"type": "file", "log_file_path": str(log), "append": True}
    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__TRANSPORT", json.dumps(transport))
    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__EXECUTE_IN_THREAD", "True")
    listener = OpenLineageListener()
    manager.pm.register(listener)
    yield lambda: [json.loads(line) for line in log.read_text().splitlines()]
    manager.pm.unregister(listener)


def completed(found: list[dict[str, Any]], task_id: str) -> dict[str, Any]:
    """The COMPLETE event of a task."""
    (event,) = (e for e in found if e["eventType"] == "COMPLETE" and e["job"]["name"].endswith(task_id))
    return event


def test_a_run_is_told(lake: Lake, run_dag: RunDag, emitted: Callable[[], list[dict[str, Any]]], session: Any) -> None:
    """The publish task's event holds both roots, statistics that agree with the store, and our facet, sealed by hashes."""
    lake.photos(3)
    lake.photo("broken.jpg", 200).write_bytes(b"\xff\xd8 no photo")
    run = run_dag(fog_dag("lineage", lake, policy={"max_quarantined": 0.5}, outlets=[Asset("lineage_clean")]))
    assert run.state == "success"
    event = completed(emitted(), "fog.publish")
    (source,), (clean,) = event["inputs"], event["outputs"]
    assert (source["namespace"], source["name"]) == ("file", str(lake.raw))
    assert (clean["namespace"], clean["name"]) == ("file", str(lake.clean))
    assert source["inputFacets"]["inputStatistics"]["rowCount"] == 4
    rows = open_dataset(UPath(lake.clean)).to_pylist()
    statistics = clean["outputFacets"]["outputStatistics"]
    assert (statistics["rowCount"], statistics["fileCount"]) == (3, 3)
    assert statistics["size"] == sum(row["size"] for row in rows) == sum(map(len, lake.objects().values()))
    assert all(a["success"] for a in source["inputFacets"]["dataQualityAssertions"]["assertions"])
    assert clean["facets"]["version"]["datasetVersion"] == "1"
    (field,) = clean["facets"]["columnLineage"]["fields"]["image"]["inputFields"]
    assert (field["name"], field["transformations"][0]["masking"]) == (str(lake.raw), True)
    ours = event["run"]["facets"]["facefog_anonymisation"]
    (extra,) = (e.extra for e in events(session, run))
    assert ours["counts"] == extra["counts"]
    assert (ours["manifestSha256"], ours["chainHead"]) == (extra["manifest_sha256"], extra["chain_head"])
    assert (ours["policyHash"], ours["signed"]) == (extra["policy_hash"], extra["signed"])
    assert ours["counts"]["quarantined"] == 1
    assert ours["_producer"].startswith("urn:airflow-facefog:")
    assert "facefog_anonymisation" in json.dumps(schema())
    assert ours["_schemaURL"].partition("#")[0] == schema()["$id"]


def schema() -> dict[str, Any]:
    """The schema of our facet, as shipped."""
    path = Path(lineage.__file__).with_name("facefog_anonymisation.schema.json")
    return dict(json.loads(path.read_text()))


def test_no_event_names_an_image(
    lake: Lake, run_dag: RunDag, emitted: Callable[[], list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a whole run, a failure with a talking message included: no file name, id, output key or secret in any event."""
    key = "5b" * 32
    monkeypatch.setenv("AIRFLOW_CONN_LINEAGE_KEY", json.dumps({"conn_type": "generic", "password": key}))
    lake.photos(4)
    lake.script({"crash": [30]})
    dag = fog_dag("lineage_leaks", lake, key_conn_id="lineage_key", retries=0, outlets=[Asset("lineage_leaks_clean")])
    assert run_dag(dag).state == "failed"
    lake.script({})
    assert run_dag(dag).state == "success"
    text = json.dumps(emitted())
    assert {e["eventType"] for e in emitted()} >= {"START", "COMPLETE", "FAIL"}
    assert "facefog_anonymisation" in text
    secrets = {"person-", ".jpg", key, "secret-name", *lake.objects()}
    for part in lake.audit.rglob("runs/*/*/image.parquet"):
        for row in from_parquet("facefog_image", part.read_bytes()):
            secrets |= {row["image_id"], row["source_ref"], row["output_sha256"]} - {None}
    secrets |= {row["item_id"] for row in open_dataset(UPath(lake.clean)).to_pylist()}
    assert len(secrets) > 16
    assert not [secret for secret in secrets if secret in text]


def test_without_the_provider_nothing_is_imported() -> None:
    """A fresh interpreter without it publishes: importing the operator and asking for facets loads no OpenLineage."""
    code = """
import sys
from importlib.abc import MetaPathFinder
import airflow.sdk  # asks every installed provider for its settings by itself
known = set(sys.modules)
sys.modules.pop("airflow.providers.openlineage", None)
class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.startswith(("airflow.providers.openlineage", "openlineage")):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
from airflow_facefog.operators import lineage
from airflow_facefog.operators.publish import PublishOperator
assert not lineage.wanted()
assert lineage.collect({}, None, None) is None
assert PublishOperator(task_id="p", plan="x").get_openlineage_facets_on_complete(None) is None
print([m for m in set(sys.modules) - known if "openlineage" in m or "lineage_facets" in m])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_provider_without_a_transport_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed and not configured: no part of the audit is read for it."""
    monkeypatch.setattr(lineage, "read_facts", lambda *_: pytest.fail("read"))
    assert lineage.collect({}, open, None) is None  # type: ignore[arg-type]


def test_a_store_that_is_down_costs_the_lineage_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is sealed by then: a warning, no failure; the message of the error is not repeated."""
    from airflow_facefog.core.errors import StoreError

    def broken(*_: object) -> Facts:
        raise StoreError("s3://secret/place")

    monkeypatch.setattr(lineage, "wanted", lambda: True)
    monkeypatch.setattr(lineage, "read_facts", broken)
    said: list[str] = []
    monkeypatch.setattr(lineage.log, "warning", lambda text, *args: said.append(text % args))
    assert lineage.collect({}, open, None) is None  # type: ignore[arg-type]
    assert "StoreError" in said[0]
    assert "secret" not in said[0]


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("file:///data/raw", ("file", "/data/raw")),
        ("file:///", ("file", "/")),
        ("s3://bucket/a/b", ("s3://bucket", "a/b")),
        ("s3://bucket", ("s3://bucket", "/")),
        ("gs://conn@bucket/a/", ("gs://bucket", "a")),
    ],
)
def test_names_follow_the_convention(uri: str, name: tuple[str, str]) -> None:
    """``file`` and the path, or bucket and key, without userinfo."""
    from airflow_facefog.operators.lineage_facets import dataset_name

    assert dataset_name(uri) == name


def test_assertions_say_what_the_gate_held() -> None:
    """One that does not hold is told as such; another dataset has a name of its own."""
    from airflow_facefog.operators.lineage_facets import operator_lineage

    good = operator_lineage(FACTS)
    bad = operator_lineage(replace(FACTS, max_quarantined=0.1, dataset="street"))
    kept = [[a.success for a in o.inputs[0].inputFacets["dataQualityAssertions"].assertions] for o in (good, bad)]
    assert kept == [[True, True], [True, False]]
    assert (good.outputs[0].name, bad.outputs[0].name) == ("/clean", "/clean/_facefog/datasets/street")


def test_our_facet_is_what_its_schema_says() -> None:
    """Every property of the schema is in the facet and the other way round; producer and schema URL are there."""
    from airflow_facefog.operators.lineage_facets import RUN_FACET, operator_lineage

    facet = operator_lineage(FACTS).run_facets[RUN_FACET]
    described = schema()["$defs"]["FacefogAnonymisationRunFacet"]["allOf"][1]
    values = attr.asdict(facet)
    assert set(described["properties"]) == set(described["required"]) == {k for k in values if not k.startswith("_")}
    assert values["_producer"]
    assert values["_schemaURL"].endswith("#/$defs/FacefogAnonymisationRunFacet")
