"""ExpireAuditOperator and EraseImagesOperator in real Dags and by themselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk import DAG, Asset, Param
from airflow.sdk.exceptions import AirflowFailException
from fog_lake import Lake, fog_dag, xcom

from airflow_facefog.audit.sealed import SigningKey
from airflow_facefog.core.keys import KeyRing
from airflow_facefog.operators.audit_life import EraseImagesOperator, ExpireAuditOperator
from airflow_facefog.operators.audit_refog import RefogImageOperator
from airflow_facefog.operators.audit_verify import AuditVerifyOperator
from airflow_facefog.publish.snapshots import open_dataset

KEY = SigningKey.generate()
RIGHTS = {"key_conn_id": "fog_life_key", "signing_conn_id": "fog_life_signer"}


@pytest.fixture
def published(lake: Lake, run_dag: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Lake:
    """Three photos after a signed run."""
    for name, secret in (("FOG_LIFE_SIGNER", KEY.pem.decode()), ("FOG_LIFE_KEY", "5b" * 32)):
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps({"conn_type": "generic", "password": secret}))
    lake.photos(3)
    assert run_dag(fog_dag("life_source", lake, **RIGHTS)).state == "success"
    return lake


def image_id(lake: Lake) -> str:
    """Id of the first photo."""
    return KeyRing.from_master(bytes.fromhex("5b" * 32)).image_id((lake.raw / "person-0.jpg").read_bytes())


def test_a_dag_erases_what_its_params_name_and_tells_consumers(
    published: Lake, run_dag: Callable[..., Any], session: Any
) -> None:
    """Ids come with the run; the asset event withdraws; the audit verifies afterwards."""
    clean = Asset(name="life_clean", uri=f"file://{published.clean}")
    with DAG("life_erase", schedule=None, params={"images": Param("", type="string")}) as dag:
        erase = EraseImagesOperator(
            task_id="erase", images="{{ params.images }}", audit=str(published.audit), actor="{{ run_id }}", outlets=[clean],
            **RIGHTS,
        )  # fmt: skip
        erase >> AuditVerifyOperator(
            task_id="verify",
            audit=str(published.audit),
            public_key=KEY.public.pem.decode(),
            require_signed=True,
            deep=True,
        )
    run = run_dag(dag, run_conf={"images": image_id(published)})
    assert run.state == "success"
    (result,) = xcom(session, run, "erase")
    assert (result["rows_removed"], result["objects_removed"]) == (1, 1)
    assert image_id(published) not in json.dumps(result)
    assert open_dataset(f"file://{published.clean}").num_rows == 2
    assert not [path for path in published.clean.rglob("*") if "person-0" in path.name]


def test_a_dag_fogs_a_picture_again_and_tells_consumers(
    published: Lake, run_dag: Callable[..., Any], session: Any
) -> None:
    """Id and boxes come with the run; the asset event says replaced; a later run keeps the box; the audit verifies."""
    clean = Asset(name="refog_clean", uri=f"file://{published.clean}")
    params = {"image": Param("", type="string"), "boxes": Param("", type="string")}
    with DAG("life_refog", schedule=None, params=params) as dag:
        RefogImageOperator(
            task_id="refog", image="{{ params.image }}", boxes="{{ params.boxes }}", audit=str(published.audit),
            actor="{{ run_id }}", outlets=[clean], **RIGHTS,
        ) >> AuditVerifyOperator(
            task_id="verify", audit=str(published.audit), public_key=KEY.public.pem.decode(), require_signed=True, deep=True
        )  # fmt: skip
    before = set(open_dataset(f"file://{published.clean}")["sha256"].to_pylist())
    run = run_dag(dag, run_conf={"image": image_id(published), "boxes": "66,2,94,26; 2,2,22,24,face"})
    assert run.state == "success"
    (result,) = xcom(session, run, "refog")
    assert (result["rows_removed"], result["objects_removed"], result["regions"]) == (1, 1, 2)
    assert [(one["replaced"], one["changed"]) for one in result["datasets"]] == [(1, True)]
    assert image_id(published) not in json.dumps(result)
    after = set(open_dataset(f"file://{published.clean}")["sha256"].to_pylist())
    assert (len(after), len(before & after)) == (3, 2)
    assert run_dag(fog_dag("life_night", published, **RIGHTS)).state == "success"
    assert set(open_dataset(f"file://{published.clean}")["sha256"].to_pylist()) == after


@pytest.mark.parametrize(
    ("image", "boxes", "message"),
    [
        ("person-0.jpg", "1,1,9,9", "64 hex digits"), ("0" * 64, "1,1,9,9", "nothing found"),
        (f"{'0' * 64},{'1' * 64}", "1,1,9,9", "one image"), ("ID", "1,1,nan,9", "is none"), ("ID", "", "no box"),
        ("ID", "999,1,1000,9", "outside"),
    ],
)  # fmt: skip
def test_what_cannot_be_fogged_again_fails_at_once(published: Lake, image: str, boxes: str, message: str) -> None:
    """Names, unknown and several pictures, wrong boxes."""
    image = image.replace("ID", image_id(published))
    operator = RefogImageOperator(task_id="refog", image=image, boxes=boxes, audit=str(published.audit), **RIGHTS)
    with pytest.raises(AirflowFailException, match=message):
        operator.execute({})  # type: ignore[arg-type]


@pytest.mark.parametrize("images", ["person-0.jpg", "", [], "/photos/x.jpg", "' or 1=1 --", ["0" * 63]])
def test_names_are_refused_and_not_quoted(published: Lake, images: Any) -> None:
    """Airflow keeps what it renders: only ids are taken."""
    operator = EraseImagesOperator(task_id="erase", images=images, audit=str(published.audit), **RIGHTS)
    with pytest.raises(AirflowFailException, match="ids of 64 hex digits") as caught:
        operator.execute({})  # type: ignore[arg-type]
    assert "person" not in str(caught.value)


def test_an_id_that_nobody_knows_fails_at_once(published: Lake) -> None:
    """No retry finds it."""
    operator = EraseImagesOperator(task_id="erase", images=["0" * 64], audit=str(published.audit), **RIGHTS)
    with pytest.raises(AirflowFailException, match="nothing found"):
        operator.execute({})  # type: ignore[arg-type]


def test_a_nightly_dag_expires(published: Lake, run_dag: Callable[..., Any], session: Any) -> None:
    """Everything is too old here; the chain says so and still verifies."""
    with DAG("life_expire", schedule=None) as dag:
        expire = ExpireAuditOperator(
            task_id="expire",
            audit=str(published.audit),
            sources=0,
            work=0,
            images=0,
            published=True,
            signing_conn_id="fog_life_signer",
        )
        expire >> AuditVerifyOperator(
            task_id="verify", audit=str(published.audit), public_key=KEY.public.pem.decode(), require_signed=True
        )
    run = run_dag(dag)
    assert run.state == "success"
    (result,) = xcom(session, run, "expire")
    assert (result["sources"], result["parts"], result["runs"]) == (3, 4, 1)
    assert open_dataset(f"file://{published.clean}").num_rows == 3


def test_a_signed_audit_is_not_amended_without_its_key(published: Lake) -> None:
    """An unsigned amendment would look like a forgery."""
    operator = ExpireAuditOperator(task_id="expire", audit=str(published.audit), images=0, published=True)
    with pytest.raises(AirflowFailException, match="signing key"):
        operator.execute({})  # type: ignore[arg-type]
