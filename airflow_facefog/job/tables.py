"""The rows of one run generation, as columns: a run may hold millions of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from airflow_facefog.core.records import Action, Status

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Tables:
    """The rows of one run generation as ``pyarrow`` tables (compact form), in a fixed order."""

    images: Any
    detections: Any
    intents: Any

    def counts(self) -> dict[str, int]:
        """Counts of the run: listed = published + quarantined + failed + skipped."""
        statuses = count(self.images["status"])
        return {
            "listed": self.images.num_rows,
            **{status.value: statuses.get(status.value, 0) for status in Status},
            "detections": self.detections.num_rows,
            "fogged": count(self.detections["action"]).get(Action.FOGGED.value, 0),
        }


def count(column: Any) -> dict[str, int]:
    """How often each value of a column occurs."""
    return {entry["values"]: entry["counts"] for entry in column.value_counts().to_pylist()}
