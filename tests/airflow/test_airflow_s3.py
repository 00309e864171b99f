"""A run whose places are buckets behind an Airflow connection: rights, recorded URIs and lineage."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from airflow.sdk import Asset
from fog_lake import Lake, events, fog_dag, xcom

RunDag = Callable[..., Any]
PLACES = {
    "source": "s3://fog_s3@fog-raw/in",
    "destination": "s3://fog_s3@fog-clean/out",
    "audit": "s3://fog_s3@fog-audit/a",
}


@pytest.fixture
def bucket(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A loopback object store with three photos, reachable through the connection ``fog_s3`` alone."""
    import boto3
    from airflow.sdk.io import store
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    extra = {"region_name": "us-east-1", "endpoint_url": endpoint}
    conn = {"conn_type": "aws", "login": "testing", "password": "testing-secret", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_FOG_S3", json.dumps(conn))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(store, "_STORE_CACHE", {})
    client = boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="testing",
        aws_secret_access_key="testing-secret",
    )  # fmt: skip
    for place in PLACES.values():
        client.create_bucket(Bucket=place.partition("@")[2].partition("/")[0])
    lake.photos(3)
    for path in lake.raw.iterdir():
        client.put_object(Bucket="fog-raw", Key=f"in/{path.name}", Body=path.read_bytes())
    yield client
    server.stop()


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A lineage collector that records, as with the OpenLineage provider installed."""
    import airflow.sdk.lineage as lineage

    recording = lineage.HookLineageCollector()
    monkeypatch.setattr(lineage, "get_hook_lineage_collector", lambda: recording)
    return recording


def reported(collector: Any) -> set[str]:
    """URIs that lineage would learn."""
    found = collector.collected_assets
    return {entry.asset.uri for entry in [*found.inputs, *found.outputs]}


def test_buckets_through_a_connection(lake: Lake, bucket: Any, run_dag: RunDag, session: Any) -> None:
    """Photos in a bucket are published into another; the connection's name stays out of every recorded URI."""
    run = run_dag(fog_dag("on_s3", lake, **PLACES, outlets=[Asset("s3_clean")]))
    assert run.state == "success"
    keys = [entry["Key"] for entry in bucket.list_objects_v2(Bucket="fog-clean", Prefix="out/data/")["Contents"]]
    assert len(keys) == 3
    (event,) = events(session, run)
    texts = [
        json.dumps(event.extra),
        *(json.dumps(xcom(session, run, name)) for name in ("fog.list_images", "fog.fog")),
    ]
    assert "s3://fog-clean/out/_facefog/" in texts[0]
    assert not any("fog_s3" in text or "testing-secret" in text for text in texts)


def test_no_image_is_reported_to_lineage(lake: Lake, bucket: Any, run_dag: RunDag, collector: Any) -> None:
    """``ObjectStoragePath.open`` would report each raw URI; the run reports nothing, while a plain read does."""
    from airflow.sdk import ObjectStoragePath

    run = run_dag(fog_dag("quiet_lineage", lake, **PLACES, staged=True))
    assert run.state == "success"
    assert reported(collector) == set()
    with ObjectStoragePath("s3://fog_s3@fog-raw/in/person-0.jpg").open("rb") as handle:
        handle.read()
    assert len(reported(collector)) == 1


def test_unknown_connection_fails_without_retry(lake: Lake, bucket: Any, run_dag: RunDag, session: Any) -> None:
    """A misspelt connection id never becomes "the worker's own rights": the list task fails at its first try."""
    run = run_dag(fog_dag("no_conn", lake, **{**PLACES, "source": "s3://fog_s4@fog-raw/in"}))
    (listing,) = [ti for ti in run.get_task_instances(session=session) if ti.task_id == "fog.list_images"]
    assert (str(listing.state), listing.try_number, listing.max_tries) == ("failed", 1, 2)
