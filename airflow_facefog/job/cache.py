"""Predictions kept by content: a detector that costs money or network is asked once per image, whatever happens after.

Entries are sealed like all stored predictions and hold no pixels. They are named by image, model fingerprint and floor, so
another run, policy or Dag over the same audit finds them too.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from airflow_facefog.core.predictions import open_prediction, seal_prediction

if TYPE_CHECKING:
    from airflow_facefog.core.keys import KeyRing
    from airflow_facefog.core.records import Detection
    from airflow_facefog.job.model import Plan
    from airflow_facefog.publish.store import Store

ANY_SOURCE = "cache"
"""Stands for the source_ref: entries belong to bytes, not to a listed item."""


class PredictionCache:
    """Finds and keeps what the plan's detector saw. Does nothing unless the detector says it is ``cacheable``."""

    def __init__(self, plan: Plan, audit: Store, keys: KeyRing) -> None:
        info = plan.detector_info
        text = f"facefog/cache/1\0{info['fingerprint']}\0{plan.policy.record_floor}"
        self._name = hashlib.sha256(text.encode()).hexdigest()
        self._on = bool(info.get("cacheable"))
        self._audit = audit
        self._keys = keys

    def __repr__(self) -> str:
        return f"PredictionCache({'on' if self._on else 'off'})"

    def find(self, image_id: str) -> tuple[Detection, ...] | None:
        """What was seen in these bytes, or None: look again."""
        if not self._on:
            return None
        line = self._audit.get(self._key(image_id))
        return open_prediction(line, self._keys, source_ref=ANY_SOURCE, image_id=image_id, recipe_hash=self._name)

    def keep(self, image_id: str, width: int, height: int, detections: tuple[Detection, ...]) -> None:
        """Store what was seen in an upright picture of ``width`` x ``height`` px. A damaged entry is replaced."""
        if not self._on:
            return
        line = seal_prediction(
            self._keys, source_ref=ANY_SOURCE, image_id=image_id, width=width, height=height,
            recipe_hash=self._name, detections=detections,
        )  # fmt: skip
        self._audit.replace(self._key(image_id), line)

    def _key(self, image_id: str) -> str:
        return f"predictions/cache/{self._name[:32]}/{image_id[:2]}/{image_id}"
