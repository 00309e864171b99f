"""Fog what is new in the raw bucket. Every task runs in the queue ``fog``: only that worker holds keys to raw photos.

``FACEFOG_DETECTOR`` in docker/.env says who looks: ``local`` (built in, faces), or the inference server beside this,
which has no canary: ``FACEFOG_ACCEPT_NO_CANARY=true`` there accepts that.
"""

import os
from datetime import datetime

from airflow.sdk import Asset, dag

from airflow_facefog.task_groups import fog_images


@dag(schedule="@hourly", start_date=datetime(2026, 1, 1), catchup=False, max_active_runs=1, tags=["facefog"])
def fog_buckets():
    """One run an hour; started by hand for the first time."""
    fog_images(
        source="s3://raw_store@raw",
        destination="s3://clean_store@clean/photos",
        audit="s3://audit_store@audit/photos",
        policy={
            "rules": {"face": {"min_confidence": 0.25}},
            "accept_no_canary": os.environ.get("FACEFOG_ACCEPT_NO_CANARY") == "true",
        },
        detector=os.environ.get("FACEFOG_DETECTOR") or "local",
        key_conn_id="facefog_key",
        signing_conn_id="facefog_signing_key",
        outlets=[Asset("clean_photos")],
        queue="fog",
    )


fog_buckets()
