"""Entry point ``apache_airflow_provider``: what Airflow may know about this package without importing the rest of it."""

from __future__ import annotations

from typing import Any

ROBOFLOW_OPERATORS = ("datasets", "metrics", "training", "uploads", "versions")


def _text(label: str, description: str, **schema: Any) -> dict[str, Any]:
    return {"label": label, "description": description, "schema": {"type": ["string", "null"], **schema}}


def _number(label: str, description: str, default: float, **schema: Any) -> dict[str, Any]:
    kind = "integer" if isinstance(default, int) else "number"
    return {
        "label": label,
        "description": description,
        "schema": {"type": [kind, "null"], "default": default, **schema},
    }


ROBOFLOW_CONNECTION: dict[str, Any] = {
    "connection-type": "roboflow",
    "hook-class-name": "airflow_facefog.hooks.roboflow.RoboflowHook",
    "hook-name": "Roboflow",
    "ui-field-behaviour": {
        "hidden-fields": ["schema", "port", "login", "extra"],
        "relabeling": {"password": "API key", "host": "Inference URL"},
        "placeholders": {"host": "https://serverless.roboflow.com, or your own server: http://host:9001"},
    },
    "conn-fields": {
        "api_url": _text("API URL", "Datasets and training. Empty: https://api.roboflow.com"),
        "workspace": _text("Workspace", "Slug of the workspace. Empty: the one that the key belongs to"),
        "model_id": _text("Default model", "project/3, workspace/project/3 or a Universe model address"),
        "timeout_s": _number("Timeout (s)", "Longest time for one request, first byte to last", 60, minimum=1),
        "connect_timeout_s": _number("Connect timeout (s)", "Longest time to connect", 10, minimum=1),
        "concurrency": _number("Concurrency", "Pictures asked about at once by one task", 8, minimum=1, maximum=64),
        "rate_per_s": _number("Requests per second", "Budget of one task process", 20, minimum=1),
        "auth": {
            "label": "Key transport",
            "description": "header: Bearer. query: in the URL, for inference servers before 1.5",
            "schema": {"type": "string", "enum": ["header", "query"], "default": "header"},
        },
        "allowed_hosts": _text(
            "Allowed hosts",
            "Names of servers that you run outside this network and that raw pictures may go to, with commas",
        ),
        "proxy": _text(
            "Proxy", "http://user:password@proxy:3128; the environment's proxies are ignored", format="password"
        ),
        "ca_file": _text("CA file", "PEM file of your own certificate authority, on every worker"),
    },
}
"""The form of the connection type ``roboflow``. Plain field names in ``extra``; ``hooks.roboflow`` reads them."""


def get_provider_info() -> dict[str, Any]:
    """Provider metadata, as ``airflow/provider_info.schema.json`` wants it."""
    return {
        "package-name": "airflow-facefog",
        "name": "Facefog",
        "description": "Detect and fog faces, licence plates and other sensitive regions in image batches, "
        "with an audit of every prediction.",
        "integrations": [
            {"integration-name": "Facefog", "tags": ["service"]},
            {"integration-name": "Roboflow", "external-doc-url": "https://docs.roboflow.com", "tags": ["service"]},
        ],
        "operators": [
            {
                "integration-name": "Facefog",
                "python-modules": [
                    "airflow_facefog.operators.listing",
                    "airflow_facefog.operators.batches",
                    "airflow_facefog.operators.publish",
                    "airflow_facefog.operators.audit_life",
                    "airflow_facefog.operators.audit_refog",
                    "airflow_facefog.operators.prove",
                    "airflow_facefog.operators.audit_load",
                    "airflow_facefog.operators.audit_check",
                    "airflow_facefog.operators.audit_verify",
                ],
            },
            {
                "integration-name": "Roboflow",
                "python-modules": [f"airflow_facefog.operators.roboflow.{name}" for name in ROBOFLOW_OPERATORS],
            },
        ],
        "sensors": [{"integration-name": "Roboflow", "python-modules": ["airflow_facefog.operators.roboflow.sensors"]}],
        "triggers": [{"integration-name": "Roboflow", "python-modules": ["airflow_facefog.triggers.roboflow"]}],
        "hooks": [
            {
                "integration-name": "Facefog",
                "python-modules": ["airflow_facefog.hooks.keys", "airflow_facefog.hooks.connections"],
            },
            {"integration-name": "Roboflow", "python-modules": ["airflow_facefog.hooks.roboflow"]},
        ],
        "connection-types": [ROBOFLOW_CONNECTION],
        "task-decorators": [{"name": "fog", "class-name": "airflow_facefog.decorators.fog_task"}],
    }
