"""Runs that were planned and never sealed. Sealed parts cannot show them: their intents are not compacted yet.

A plan without a manifest is a finding until its source is listed and sealed again into the same dataset: then every item has
a newer word, and what the old run left are anonymised objects that no snapshot names.
"""

from __future__ import annotations

import json
from typing import Any

from airflow_facefog.audit.ledger import Ledger
from airflow_facefog.audit.objects import Objects
from airflow_facefog.audit.sealed import LedgerError

Row = dict[str, Any]

FAILED_RUNS = """
select f.run_key, f.generation, f.dag_id, f.run_id, f.status, f.listed_at from facefog_v_failed_runs f
where f.listed_at < :before and not exists (
 select 1 from facefog_run n where n.dag_id = f.dag_id and n.destination = f.destination and n.dataset = f.dataset
  and n.status = 'final' and n.listed_at > f.listed_at)
"""
"""What a database knows of them: runs whose gate refused and that nobody finished since."""


def plans(audit: Objects, ledger: Ledger, before: str) -> list[Row]:
    """Plans listed before this time (UTC, ISO-8601) that have no manifest and that no later run made good.

    Reads each such plan. Raises LedgerError for one that is no plan.
    """
    sealed = {run.home for run in ledger.runs}
    keys = [key.split("/") for key in audit.list("plans") if key.endswith("/plan.json") and key.count("/") == 3]
    open_plans = [
        _plan(audit, run_key, number) for _, run_key, number, _ in keys if f"{run_key}/{number}" not in sealed
    ]
    late = [plan for plan in open_plans if plan["listed_at"] < before]
    if not late:
        return []
    first = min(plan["listed_at"] for plan in late)
    homes = [
        run.home for run in ledger.runs if run.row["listed_at"] > first and audit.exists(f"plans/{run.home}/plan.json")
    ]
    made_good = [_plan(audit, *home.split("/")) for home in homes]
    return [_row(audit, plan) for plan in late if not any(_repeats(plan, other) for other in made_good)]


def _plan(audit: Objects, run_key: str, generation: str) -> Row:
    try:
        plan: Row = json.loads(audit.read(f"plans/{run_key}/{generation}/plan.json"))
        needed = ("run_key", "generation", "listed_at", "listing_id", "dataset", "identity", "destination")
        return {name: plan[name] for name in needed}
    except (ValueError, KeyError, TypeError):
        raise LedgerError(f"plans/{run_key}/{generation}/plan.json is no plan; restore the audit") from None


def _repeats(plan: Row, other: Row) -> bool:
    same = ("listing_id", "dataset", "destination")
    later = other["listed_at"] > plan["listed_at"]
    return later and all(plan[name] == other[name] for name in same)


def _row(audit: Objects, plan: Row) -> Row:
    home = f"{plan['run_key']}/{plan['generation']}"
    refused = audit.exists(f"runs/{home}/incomplete.json")
    return {
        "run_key": plan["run_key"], "generation": plan["generation"], "dag_id": plan["identity"]["dag_id"],
        "run_id": plan["identity"]["run_id"], "listed_at": plan["listed_at"],
        "problem": "refused_by_the_gate" if refused else "never_finalised",
    }  # fmt: skip
