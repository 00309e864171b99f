"""Fog new photos every day in a single pass. Dags that read the clean photos start on the asset (see load_clean.py).

The Airflow variable ``facefog_lake`` names the folder or bucket prefix that holds ``raw/``; ``clean/`` and ``audit/`` are
made beside it. Images that an earlier run published under the same policy, model and key are skipped.

The connection ``facefog_key`` holds the master key in its password; ``facefog keys new --print`` makes one. Leave
``key_conn_id`` out to run without: then whoever holds a photo can ask the audit whether it was processed.

The connection ``facefog_signing_key`` holds the PEM text of the signing key in its password (``facefog keys new
--signing``); only the publish task reads it. Leave ``signing_conn_id`` out and the audit is sealed unsigned.
"""

from datetime import datetime

from airflow.sdk import Asset, dag

from airflow_facefog.task_groups import fog_images

LAKE = "{{ var.value.get('facefog_lake', '/tmp/facefog') }}"


@dag(schedule="@daily", start_date=datetime(2026, 1, 1), catchup=False, max_active_runs=1, tags=["facefog"])
def fog_photos():
    fog_images(
        source=LAKE + "/raw",
        destination=LAKE + "/clean",
        audit=LAKE + "/audit",
        policy="fog_policy.yaml",
        detector="local",
        key_conn_id="facefog_key",
        signing_conn_id="facefog_signing_key",
        outlets=[Asset("clean_photos")],
    )


fog_photos()
