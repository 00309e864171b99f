"""The life of the record: photos are erased on request, and once a week what is too old leaves the audit.

Both change the audit in the open: what goes is named by a signed entry of its chain, so that it still verifies. Variable
and connections as in fog_photos.py. ``erase_photos`` is started by hand, with the ids that ``facefog whois FILE --json``
tells (never with file names: Airflow keeps what is given to a run). It tells consumers of the clean photos by the same
asset as fog_photos.py, so that load_clean.py takes the rows out of its table.
"""

from datetime import datetime

from airflow.sdk import Asset, Param, dag

from airflow_facefog.operators.audit_life import EraseImagesOperator, ExpireAuditOperator

AUDIT = "{{ var.value.get('facefog_lake', '/tmp/facefog') }}/audit"
SIGNING_KEY = "facefog_signing_key"


@dag(
    schedule=None, catchup=False, tags=["facefog"],
    params={
        "images": Param([], type="array", items={"type": "string", "pattern": "^[0-9a-f]{64}$"}),
        "actor": Param("privacy desk", type="string"),
    },
)  # fmt: skip
def erase_photos():
    EraseImagesOperator(
        task_id="erase", images="{{ params.images | join(',') }}", audit=AUDIT, actor="{{ params.actor }}",
        key_conn_id="facefog_key", signing_conn_id=SIGNING_KEY, outlets=[Asset("clean_photos")],
    )  # fmt: skip


@dag(schedule="@weekly", start_date=datetime(2026, 1, 1), catchup=False, max_active_runs=1, tags=["facefog"])
def expire_audit():
    ExpireAuditOperator(
        task_id="expire", audit=AUDIT, work=30, detections=3 * 365, signing_conn_id=SIGNING_KEY, actor="expire_audit"
    )


erase_photos()
expire_audit()
