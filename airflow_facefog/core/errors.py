"""Every error of the package, in one tree.

FogError
├── PermanentError            a retry repeats it: the task fails at once
│   ├── PolicyError           the policy is invalid, unsafe or cannot be carried out
│   ├── ConfigurationError    places, keys, detector or store are set up wrongly
│   ├── PlanMismatchError     plan and run disagree (another recipe, a changed dataset.json)
│   ├── DetectorError         the detector cannot be trusted (canary missed, wrong model file)
│   └── GateError             the run does not add up or breaches a limit: nothing is published
├── TransientError            a retry may help; ``retry_after_s`` says when
│   └── StoreError            the store answered with a fault
├── InternalError             a bug or a broken library; sealed so that it carries no pixels, names or keys
└── ImageError                one image: quarantined, the batch goes on
    └── SourceError           no decision could be made on one image: failed, tried again next run

Messages say what, which value and what to do. They never hold image content, file names, keys or full URLs.
The class name is ``error_class`` in the audit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_facefog.core.records import Reason


class FogError(Exception):
    """Base of all errors that this package raises on purpose."""


class PermanentError(FogError):
    """A retry repeats it: fail at once and let a person change something."""


class PolicyError(PermanentError):
    """The policy is invalid, unsafe or cannot be carried out. A retry does not help."""


class ConfigurationError(PermanentError):
    """A place, key, detector or store is set up wrongly. A retry does not help."""


class PlanMismatchError(PermanentError):
    """Plan and run disagree, for example another recipe. Clear the list task too; a retry does not help."""


class DetectorError(PermanentError):
    """The detector cannot be trusted: canary missed, wrong model file. A retry does not help."""


class GateError(PermanentError):
    """The run does not add up or breaches a limit; nothing is published. Clear what failed, then finalise again."""


class TransientError(FogError):
    """A retry may help.

    ``retry_after_s`` is the least wait in seconds that the other side asked for, or None.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StoreError(TransientError):
    """The audit or destination store answered with a fault. Nothing was published; a retry may help."""


class InternalError(FogError):
    """An unexpected exception, sealed: its class and place only. Fails the task; a retry may help if memory ran out."""


class ImageError(FogError):
    """One image cannot be made safe: it is quarantined and the batch goes on. ``reason`` is from the closed list."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class SourceError(ImageError):
    """No decision could be made on one image (gone, changed, unreadable): failed, and tried again by the next run."""
