"""The record's operators with every place in a bucket and the tables in PostgreSQL, through Airflow connections alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import s3kit
import sqlalchemy as sa
from airflow.sdk import DAG, Asset, Param
from fog_lake import Lake, events, fog_dag, xcom

from airflow_facefog.audit.sealed import SigningKey
from airflow_facefog.core.keys import KeyRing
from airflow_facefog.operators.audit_check import AuditCheckOperator
from airflow_facefog.operators.audit_life import EraseImagesOperator, ExpireAuditOperator
from airflow_facefog.operators.audit_load import AuditLoadOperator
from airflow_facefog.operators.audit_verify import AuditVerifyOperator
from airflow_facefog.operators.prove import ProveOperator

RunDag = Callable[..., Any]
SIGNER = SigningKey.generate()
MASTER = "5c" * 32
AUDIT, CLEAN, RAW = "s3://lake@fog-audit/a", "s3://lake@fog-clean/out", "s3://lake@fog-raw/in"
REPORTS = "s3://lake@fog-reports/proof"
RIGHTS = {"key_conn_id": "lake_key", "signing_conn_id": "lake_signer"}
TABLES = "lake_tables"
TRUST = {"public_keys": [SIGNER.public.pem.decode()], "require_signed": True}


@pytest.fixture
def buckets(lake: Lake, monkeypatch: pytest.MonkeyPatch, pg_url: str) -> Iterator[Any]:
    """Three photos in a bucket; a worker that has no rights but those of its connections."""
    from airflow.sdk.io import store

    monkeypatch.setattr(store, "_STORE_CACHE", {})
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    found = sa.make_url(pg_url)
    tables = {
        "conn_type": "postgres", "host": found.host or found.query["host"], "port": found.port or 5432,
        "login": found.username, "password": found.password, "schema": found.database,
    }  # fmt: skip
    with s3kit.serve() as server:
        connections = {
            "LAKE": server.connection(),
            "LAKE_TABLES": tables,
            "LAKE_KEY": {"conn_type": "generic", "password": MASTER},
            "LAKE_SIGNER": {"conn_type": "generic", "password": SIGNER.pem.decode()},
        }
        for name, connection in connections.items():
            monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps(connection))
        client = server.client()
        for bucket in ("fog-raw", "fog-clean", "fog-audit", "fog-reports"):
            client.create_bucket(Bucket=bucket)
        lake.photos(3)
        for path in lake.raw.iterdir():
            client.put_object(Bucket="fog-raw", Key=f"in/{path.name}", Body=path.read_bytes())
        yield client


def keys(client: Any, bucket: str, prefix: str = "") -> list[str]:
    """What a bucket shows."""
    return [entry["Key"] for entry in client.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])]


def night(dag_id: str, **verify: Any) -> DAG:
    """Verify with everything, load, ask both the parts and the tables, prove."""
    with DAG(dag_id, schedule=None) as dag:
        load = AuditLoadOperator(task_id="load", audit=AUDIT, audit_sql_conn_id=TABLES)
        check = AuditVerifyOperator(
            task_id="verify", audit=AUDIT, audit_sql_conn_id=TABLES, deep=True, **TRUST, **verify
        )
        asked = [
            AuditCheckOperator(task_id="check_parts", audit=AUDIT),
            AuditCheckOperator(task_id="check_tables", audit_sql_conn_id=TABLES),
        ]
        prove = ProveOperator(
            task_id="prove", store=CLEAN, audit=AUDIT, key_conn_id="lake_key", report=REPORTS, **TRUST
        )
        load >> check >> asked >> prove
    return dag


def test_the_record_lives_behind_connections(
    lake: Lake, buckets: Any, run_dag: RunDag, session: Any, states: Any, pg_url: str
) -> None:
    """Fogged into SQL, verified deeply against it, checked and proven; a picture erased and old work expired; and again."""
    fog = fog_dag(
        "s3_fog", lake, source=RAW, destination=CLEAN, audit=AUDIT, audit_sql_conn_id=TABLES, **RIGHTS
    )  # fmt: skip
    assert run_dag(fog).state == "success"
    run = run_dag(night("s3_night_1"))
    assert set(states(run).values()) == {"success"}, states(run)
    (loaded,), (proven,) = (xcom(session, run, name) for name in ("load", "prove"))
    assert (loaded["loaded"], loaded["present"]) == (0, 1)
    assert (proven["proven"], proven["trust"], proven["report_uri"]) == (
        3,
        "pinned",
        "s3://fog-reports/proof/proof.json",
    )
    (verified,) = xcom(session, run, "verify")

    image_id = KeyRing.from_master(bytes.fromhex(MASTER)).image_id((lake.raw / "person-0.jpg").read_bytes())
    with DAG("s3_life", schedule=None, params={"images": Param("", type="string")}) as life:
        erase = EraseImagesOperator(
            task_id="erase", images="{{ params.images }}", audit=AUDIT, raw=True, audit_sql_conn_id=TABLES,
            outlets=[Asset("s3_life_clean")], **RIGHTS,
        )  # fmt: skip
        erase >> ExpireAuditOperator(
            task_id="expire", audit=AUDIT, work=0, signing_conn_id="lake_signer", audit_sql_conn_id=TABLES
        )
    run = run_dag(life, run_conf={"images": image_id})
    assert set(states(run).values()) == {"success"}, states(run)
    (erased,), (expired,) = (xcom(session, run, name) for name in ("erase", "expire"))
    assert (erased["rows_removed"], erased["objects_removed"], erased["raw_removed"]) == (1, 1, 1)
    assert expired["work"] > 0
    (event,) = events(session, run)
    assert event.extra["counts"]["withdrawn"] == 1
    for bucket in ("fog-raw", "fog-clean", "fog-audit"):
        assert not [key for key in keys(buckets, bucket) if "person-0" in key]
    with sa.create_engine(pg_url, poolclass=sa.NullPool).connect() as tables:
        assert tables.exec_driver_sql("SELECT count(*) FROM facefog_image").scalar() == 2
        assert (
            tables.exec_driver_sql("SELECT sum(rows_removed) FROM facefog_erasure WHERE part = 'image'").scalar() == 1
        )

    run = run_dag(night("s3_night_2", expect_head=verified["head"]))
    assert set(states(run).values()) == {"success"}, states(run)
    assert xcom(session, run, "prove")[0]["proven"] == 2
    told = json.dumps([loaded, proven, verified, erased, expired, event.extra])
    assert not [text for text in ("lake@", s3kit.SECRET, MASTER, "person-", image_id) if text in told]


def test_a_raw_photo_in_the_bucket_fails_the_proof(
    lake: Lake, buckets: Any, run_dag: RunDag, states: Any, session: Any
) -> None:
    """Somebody copies an original into the clean bucket: prove fails at once, and its report lies in a bucket."""
    fog = fog_dag("s3_fog_again", lake, source=RAW, destination=CLEAN, audit=AUDIT, **RIGHTS)
    assert run_dag(fog).state == "success"
    buckets.copy_object(
        Bucket="fog-clean", Key="out/data/x.jpg", CopySource={"Bucket": "fog-raw", "Key": "in/person-1.jpg"}
    )
    with DAG("s3_gate", schedule=None) as gate:
        ProveOperator(task_id="prove", store=CLEAN, audit=AUDIT, key_conn_id="lake_key", report=REPORTS, **TRUST)
    assert states(run_dag(gate)) == {"prove": "failed"}
    report = json.loads(buckets.get_object(Bucket="fog-reports", Key="proof/proof.json")["Body"].read())
    assert [(found["class"], found["key"]) for found in report["findings"]] == [("raw-match", "data/x.jpg")]
