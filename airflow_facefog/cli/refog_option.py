"""``facefog erase --refog``: keep the picture, fogged again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_facefog.cli.screen import say, show
from airflow_facefog.job.model import Place

if TYPE_CHECKING:
    from airflow_facefog.audit.sealed import SigningKey
    from airflow_facefog.audit.sql import SqlSink
    from airflow_facefog.core.keys import KeyRing


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for on the command line."""

    image: str
    boxes: Sequence[str]
    actor: str | None
    reason: str | None
    policy: Path | None
    detector: Sequence[str] | None


def refog_one(
    audit: Place, wish: Wish, keys: KeyRing, signer: SigningKey | None, sql: SqlSink | None, *, dry_run: bool,
    as_json: bool,
) -> int:  # fmt: skip
    """Do it, or say what would be done. Returns the exit code."""
    from airflow_facefog.cli.detector_option import read_detector
    from airflow_facefog.core.policy import load_policy
    from airflow_facefog.job.record.refog import RefogOptions, preview_refog, refog_image

    policy = load_policy(wish.policy) if wish.policy else None
    detector = read_detector(wish.detector) if wish.detector else None
    options = RefogOptions(wish.actor, wish.reason, policy, detector)
    if dry_run:
        show(preview_refog(audit, wish.image, wish.boxes, keys=keys, options=options), as_json=as_json)
        return 0
    result = refog_image(audit, wish.image, wish.boxes, keys=keys, options=options, signer=signer, sql=sql)
    if not result["rows_removed"] and not result["objects_removed"]:
        say("what is shown covers this already: nothing was taken away, and the report stands for later runs")
    short = {name: len(value) if isinstance(value, list) else value for name, value in result.items()}
    show(result if as_json else short, as_json=as_json)
    return 0
