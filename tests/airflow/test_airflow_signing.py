"""Signing from an Airflow connection: only the task that seals asks for the key, and a run is never signed by accident."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk import DAG, Asset, task
from fog_lake import Lake, events, fog_dag, rerun, xcom

from airflow_facefog.audit import sealed
from airflow_facefog.audit.sealed import SigningKey

RunDag = Callable[..., Any]
States = Callable[[Any], dict[str, str]]
KEY = SigningKey.generate()
PEM = KEY.pem.decode()


def manifest_of(lake: Lake, result: dict[str, Any]) -> dict[str, Any]:
    """The sealed manifest that a publish task returned."""
    path = lake.audit / result["manifest_uri"].partition("/audit/")[2]
    return sealed.read_sealed(path.read_bytes(), "facefog-manifest/2")


def connect(monkeypatch: pytest.MonkeyPatch, password: str | None) -> None:
    """Make the connection ``fog_signer``."""
    monkeypatch.setenv("AIRFLOW_CONN_FOG_SIGNER", json.dumps({"conn_type": "generic", "password": password}))


def test_a_dag_signs_and_anchors_the_chain_in_its_event(
    lake: Lake, run_dag: RunDag, session: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The manifest is signed, XCom and asset event carry the chain's head, and the key shows up nowhere."""
    connect(monkeypatch, PEM)
    lake.photos(2)
    dag = fog_dag("signed", lake, signing_conn_id="fog_signer", outlets=[Asset("signed_clean")])
    holders = {t.task_id for t in dag.tasks if getattr(t, "signing_conn_id", None)}
    assert holders == {"fog.publish"}
    run = run_dag(dag)
    (result,) = xcom(session, run, "fog.publish")
    assert sealed.check(manifest_of(lake, result), {KEY.key_id: KEY.public}) is sealed.Signature.VALID
    (event,) = events(session, run)
    assert (event.extra["chain_head"], event.extra["signed"]) == (result["chain_head"], True)
    secret = PEM.splitlines()[1]
    assert secret not in "".join(capfd.readouterr())
    assert not any(secret in path.read_text(errors="replace") for path in lake.audit.rglob("*") if path.is_file())


@pytest.mark.parametrize("text", [PEM.replace("\n", " "), PEM.replace("\n", "\\n"), PEM.replace("\n", "\r\n")])
def test_lost_line_breaks_are_put_back(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """A one-line form field or a URI loses the line breaks of a PEM text."""
    from airflow_facefog.hooks.keys import signing_key

    connect(monkeypatch, text)
    found = signing_key("fog_signer")
    assert found is not None
    assert found.key_id == KEY.key_id


@pytest.mark.parametrize("password", [None, "nonsense", KEY.public.pem.decode(), "ab" * 32])
def test_a_wrong_or_missing_key_seals_nothing(
    lake: Lake, run_dag: RunDag, states: States, monkeypatch: pytest.MonkeyPatch, password: str | None
) -> None:
    """A run that should be signed is never sealed unsigned: the publish task fails, and succeeds once the key is there."""
    if password is not None:
        connect(monkeypatch, password)
    lake.photos(1)
    dag = fog_dag("wrong_signer", lake, signing_conn_id="fog_signer")
    run = run_dag(dag)
    assert states(run)["fog.publish"] == "failed"
    assert not list(lake.audit.rglob("manifest.json"))
    connect(monkeypatch, PEM)
    assert states(rerun(dag, run, [("fog.publish", -1)]))["fog.publish"] == "success"


def test_task_fog_signs(lake: Lake, run_dag: RunDag, session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The decorator takes the same connection."""
    connect(monkeypatch, PEM)
    photo = lake.photo("person.jpg", 50)
    places = {key: value for key, value in lake.places.items() if key != "source"}
    with DAG("signed_portrait", schedule=None) as dag:

        @task.fog(**places, signing_conn_id="fog_signer")
        def portrait() -> list[str]:
            return [str(photo)]

        portrait()
    (result,) = xcom(session, run_dag(dag), "portrait")
    assert manifest_of(lake, result)["signer"] == {"algorithm": "ed25519", "key_id": KEY.key_id}
