"""The whole run without Airflow: plan → batch → finalise. CLI and operators call exactly these three steps."""
