"""AuditVerifyOperator: a gate on the record, in a real Dag and by itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from fog_lake import Lake, fog_dag, xcom

from airflow_facefog.audit.sealed import SigningKey
from airflow_facefog.operators.audit_verify import AuditVerifyOperator

KEY = SigningKey.generate()
PUBLIC = KEY.public.pem.decode()


@pytest.fixture
def signed(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """A lake with two photos and a connection that holds the signing key."""
    monkeypatch.setenv("AIRFLOW_CONN_FOG_SIGNER", json.dumps({"conn_type": "generic", "password": KEY.pem.decode()}))
    lake.photos(2)
    return lake


@pytest.fixture
def published(signed: Lake, run_dag: Callable[..., Any]) -> Lake:
    """The same after a run."""
    assert run_dag(fog_dag("verify_source", signed, signing_conn_id="fog_signer")).state == "success"
    return signed


def operator(lake: Lake, **changes: Any) -> AuditVerifyOperator:
    """The operator over a lake's audit."""
    return AuditVerifyOperator(task_id="verify", audit=str(lake.audit), **{"public_key": PUBLIC, **changes})


def test_a_dag_verifies_what_it_published_against_its_own_anchor(
    signed: Lake, run_dag: Callable[..., Any], session: Any
) -> None:
    """The head travels through XCom, and counts come back."""
    dag = fog_dag("verified", signed, signing_conn_id="fog_signer")
    head = "{{ ti.xcom_pull('fog.publish')['chain_head'] }}"
    with dag:
        verify = operator(signed, expect_head=head, require_signed=True, deep=True)
        dag.get_task("fog.publish") >> verify
    run = run_dag(dag)
    assert run.state == "success"
    (result,) = xcom(session, run, "verify")
    (published,) = xcom(session, run, "fog.publish")
    assert result["head"] == published["chain_head"]
    assert (result["verified"], result["signed"], result["trust"], result["runs"]) == (True, "all", "pinned", 1)
    assert "findings" not in result


def test_damage_fails_the_task_at_once(published: Lake) -> None:
    """The part is named in the failure."""
    part = next((published.audit / "runs").rglob("detection.parquet"))
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(
        AirflowFailException, match=f"1 errors, first: error part_changed {part.relative_to(published.audit)}"
    ):
        operator(published).execute({})  # type: ignore[arg-type]


def test_a_head_that_is_gone_fails(published: Lake) -> None:
    """What an earlier run returned must still be there."""
    with pytest.raises(AirflowFailException, match="chain_truncated"):
        operator(published, expect_head=f"9:{'0' * 64}").execute({})  # type: ignore[arg-type]


def test_names_of_photos_stay_out_of_logs(published: Lake, capfd: pytest.CaptureFixture[str]) -> None:
    """Keys of published objects hold source names; a file that somebody added may be called anything."""
    for path in (published.clean / "data").rglob("*.jpg"):
        path.unlink()
    Path(published.audit / "runs" / "line\nbreak").write_bytes(b"")
    capfd.readouterr()
    with pytest.raises(AirflowFailException) as caught:
        operator(published, deep=True).execute({})  # type: ignore[arg-type]
    logged = "".join(capfd.readouterr())
    assert "object_missing" in logged
    assert "line?break" in logged
    assert "person" not in str(caught.value) + logged


@pytest.mark.parametrize(
    "changes", [{"public_key": "no key"}, {"expect_head": "7"}, {"audit": "audit"}, {"audit_conn_id": "nothing_there"}]
)
def test_wrong_settings_fail_at_once(lake: Lake, changes: dict[str, Any]) -> None:
    """No key, no head, a relative folder, a missing connection: permanent."""
    lake.audit.mkdir()
    with pytest.raises(AirflowFailException):
        AuditVerifyOperator(task_id="v", **{"audit": str(lake.audit), **changes}).execute({})  # type: ignore[arg-type]
