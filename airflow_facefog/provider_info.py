"""Entry point ``apache_airflow_provider``: what Airflow may know about this package without importing the rest of it."""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Provider metadata, as ``airflow/provider_info.schema.json`` wants it."""
    return {
        "package-name": "airflow-facefog",
        "name": "Facefog",
        "description": "Detect and fog faces, licence plates and other sensitive regions in image batches, "
        "with an audit of every prediction.",
        "integrations": [{"integration-name": "Facefog", "tags": ["service"]}],
        "operators": [
            {
                "integration-name": "Facefog",
                "python-modules": [
                    "airflow_facefog.operators.listing",
                    "airflow_facefog.operators.batches",
                    "airflow_facefog.operators.publish",
                ],
            }
        ],
        "hooks": [
            {
                "integration-name": "Facefog",
                "python-modules": ["airflow_facefog.hooks.keys", "airflow_facefog.hooks.connections"],
            }
        ],
        "task-decorators": [{"name": "fog", "class-name": "airflow_facefog.decorators.fog_task"}],
    }
