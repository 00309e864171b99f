"""The tables of docs/queries.md, from the code: views, reports and checks with their questions."""

from __future__ import annotations

from airflow_facefog.audit.checks import CHECKS
from airflow_facefog.audit.reports import REPORTS, Param
from airflow_facefog.audit.views import VIEWS


def markdown() -> str:
    """Three Markdown tables."""
    blocks = [
        ["### Views", "", "| view | question | columns |", "|---|---|---|"]
        + [
            f"| `{view.name}` | {view.question} | {', '.join(f'`{name}`' for name in view.columns)} |" for view in VIEWS
        ],
        ["### Reports", "", "| report | question | parameters |", "|---|---|---|"]
        + [f"| `{one.name}` | {one.question} | {'; '.join(map(_param, one.params))} |" for one in REPORTS.values()],
        ["### Checks", "", "| check | question | asked |", "|---|---|---|"]
        + [f"| `{one.name}` | {one.question} | {_when(one.standard, one.needs_parquet)} |" for one in CHECKS.values()],
    ]
    return "\n\n".join("\n".join(lines) for lines in blocks) + "\n"


def _param(param: Param) -> str:
    default = "needed" if param.default is None else "" if param.default in ("", "0000", "9999") else str(param.default)
    return f"`{param.name}`" + (f" ({default})" if default else "")


def _when(standard: bool, needs_parquet: bool) -> str:
    return ("always" if standard else "by name or with `--all`") + (
        "; needs the Parquet audit" if needs_parquet else ""
    )
