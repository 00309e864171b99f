"""AuditCheckOperator: gates a Dag on the audit, through the Parquet parts or a SQL connection."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_facefog.operators.audit_check import AuditCheckOperator


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An audit of one unsigned run with its SQLite database; a third of the images was refused."""
    from upath import UPath

    from airflow_facefog.audit import chain, sealed
    from airflow_facefog.audit.ledger import open_ledger
    from airflow_facefog.audit.parquet import to_parquet
    from airflow_facefog.audit.sql import SqlSink
    from airflow_facefog.job.record.load_audit import load
    from airflow_facefog.publish.store import Store

    root = tmp_path_factory.mktemp("recorded")
    audit, key = Store(UPath(root / "audit")), {"run_key": "a" * 32, "generation": 0}
    at = "2026-05-01T01:00:00.000000+00:00"
    same = key | {
        "batch_id": "b" * 16,
        "attempt_id": "t" * 36,
        "committed_at": at,
        "status": "quarantined",
        "reason": "corrupt",
    }
    zero = dict.fromkeys(("n_detections", "n_fogged", "n_dropped", "refogged"), 0)
    refused = [same | zero | {"source_ref": f"{n:064x}", "try_number": 1} for n in range(3)]
    shown = {
        "status": "published",
        "reason": None,
        "image_id": "c" * 64,
        "output_uri": "s3://x/a",
        "output_sha256": "d" * 64,
        "output_bytes": 1,
    }
    rows = {"image": [row | (shown if n else {}) for n, row in enumerate(refused)], "detection": [], "intent": []}
    rows["intent"] = [
        key | {"source_ref": row["source_ref"], "image_id": "c" * 64, "attempt_id": "t" * 36, "batch_id": "b" * 16,
               "output_key": "a", "output_sha256": "d" * 64, "created_at": at} for row in rows["image"][1:]
    ]  # fmt: skip
    parts = {}
    for name, found in rows.items():
        data = to_parquet(f"facefog_{name}", found)
        parts[name] = {"key": f"runs/{'a' * 32}/0/{name}.parquet", "sha256": sealed.sha256(data), "rows": len(found)}
        audit.create(parts[name]["key"], data)
    text = dict.fromkeys(
        ("policy_name", "recipe_hash", "detector", "model_id", "model_version", "model_sha256", "key_id"), "x"
    )
    run = key | text | {
        "dag_id": "street", "run_id": "r", "destination": "s3://x", "dataset": "default", "policy_hash": "p", "policy_json": "{}",
        "id_scheme": "sha256", "packages_json": "{}", "status": "final", "listed": 3, "published": 2, "quarantined": 1,
        "failed": 0, "skipped": 0, "detections": 0, "fogged": 0, "listed_at": at, "started_at": at, "finished_at": at,
    }  # fmt: skip
    manifest = {
        "format": "facefog-manifest/2",
        **key,
        "counts": {},
        "parts": parts,
        "run": run,
        "previous": {"seq": 0, "sha256": None},
    }
    data = sealed.seal(manifest, None)
    audit.create(f"runs/{'a' * 32}/0/manifest.json", data)
    about = {"key": f"runs/{'a' * 32}/0/manifest.json", "sha256": sealed.sha256(data)}
    chain.append(audit, {"kind": chain.RUN, **key, "manifest": about, "counts": {}}, None, same=lambda entry: False)
    sink = SqlSink(f"sqlite:///{root}/audit.db")
    load(audit, open_ledger(audit), sink)
    sink.close()
    return root


def check(**given: Any) -> dict[str, Any]:
    """Execute the operator."""
    return dict(AuditCheckOperator(task_id="check", **given).execute({}))


@pytest.fixture
def sql(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A SQL connection to the database."""
    monkeypatch.setenv("AIRFLOW_CONN_AUDIT_DB", json.dumps({"conn_type": "sqlite", "host": str(recorded / "audit.db")}))
    return "audit_db"


def test_it_passes_with_a_small_result(recorded: Path) -> None:
    """Standard checks with a limit; what it returns is JSON of names and counts."""
    result = check(audit=str(recorded / "audit"), options={"max_quarantined": 0.5})
    assert result["passed"] is True
    assert set(result["checks"].values()) == {0}
    assert len(json.dumps(result)) < 1000


@pytest.mark.parametrize("by_sql", [False, True])
def test_it_fails_with_the_names_of_what_failed(
    recorded: Path, sql: str, by_sql: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Airflow does not retry it; the rows are in the log, and no object's name is in the exception."""
    place = {"audit_sql_conn_id": sql} if by_sql else {"audit": str(recorded / "audit")}
    with caplog.at_level(logging.INFO), pytest.raises(AirflowFailException, match="quarantine-rate") as caught:
        check(**place, checks=["quarantine-rate", "counts-add-up"])
    assert "counts-add-up" not in str(caught.value)
    assert "s3://" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "name the audit"), ({"audit": "relative"}, "relative"), ({"checks": ["nope"]}, "no check"),
        ({"options": {"nope": 1}}, "no check option"), ({"audit": "/nonexistent/facefog"}, "no run is recorded"),
    ],
)  # fmt: skip
def test_wrong_settings_fail_at_once(recorded: Path, given: dict[str, Any], words: str) -> None:
    """A gate with a wrong name or place does not open."""
    place = {} if not given or "audit" in given else {"audit": str(recorded / "audit")}
    with pytest.raises(AirflowFailException, match=words):
        check(**place, **given)


def test_signatures_need_the_parquet_audit(recorded: Path, sql: str) -> None:
    """With a database alone the check is refused; with both it is answered."""
    with pytest.raises(AirflowFailException, match="Parquet"):
        check(audit_sql_conn_id=sql, checks=["all-signed"])
    with pytest.raises(AirflowFailException, match="does not hold: all-signed"):
        check(audit_sql_conn_id=sql, audit=str(recorded / "audit"), checks=["all-signed"])


def test_its_fields_are_templated() -> None:
    """Place, connections, names and limits may be rendered."""
    assert set(AuditCheckOperator.template_fields) == {
        "audit",
        "audit_conn_id",
        "audit_sql_conn_id",
        "checks",
        "options",
    }
