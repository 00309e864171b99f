"""Every night: verify the audit, ask it the standard questions, bring SQL up to date, prove the clean store.

Variables: ``facefog_lake`` as in fog_photos.py; ``facefog_public_key``, the PEM text of the public key that the audit is
signed with (``facefog keys new --signing`` prints where it is), so that nobody who can write to the audit can pass for
the signer. Connections: ``facefog_key`` (master key: raw images are recognised by it) and ``facefog_audit_db``
(PostgreSQL for the analysts; see docs/sql.md for a role that may only read).

``verify`` compares with the chain's head that it saw the night before, which Airflow keeps in its own database: so it is
found when the newest runs were cut off. ``prove`` leaves its report for people in ``reports/``, as restricted as the audit.
"""

from datetime import datetime

from airflow.sdk import dag

from airflow_facefog.operators.audit_check import AuditCheckOperator
from airflow_facefog.operators.audit_load import AuditLoadOperator
from airflow_facefog.operators.audit_verify import AuditVerifyOperator
from airflow_facefog.operators.prove import ProveOperator

LAKE = "{{ var.value.get('facefog_lake', '/tmp/facefog') }}"
AUDIT = LAKE + "/audit"
KEY = "{{ var.value.facefog_public_key }}"
LAST_HEAD = "{{ (ti.xcom_pull(task_ids='verify', map_indexes=-1, include_prior_dates=True) or {}).get('head', '') }}"


@dag(schedule="@daily", start_date=datetime(2026, 1, 1), catchup=False, max_active_runs=1, tags=["facefog"])
def audit_nightly():
    verify = AuditVerifyOperator(
        task_id="verify", audit=AUDIT, public_key=KEY, require_signed=True, expect_head=LAST_HEAD
    )
    check = AuditCheckOperator(task_id="check", audit=AUDIT)
    load = AuditLoadOperator(task_id="load", audit=AUDIT, audit_sql_conn_id="facefog_audit_db")
    prove = ProveOperator(
        task_id="prove", store=LAKE + "/clean", audit=AUDIT, key_conn_id="facefog_key", public_keys=[KEY],
        report=LAKE + "/reports/{{ ds_nodash if ds_nodash is defined else run_id }}",
    )  # fmt: skip
    verify >> [check, load, prove]


audit_nightly()
