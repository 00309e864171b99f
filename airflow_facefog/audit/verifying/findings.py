"""What verification can find: a closed list of codes, each with one level, and the collector that never stops at the first."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

SHOWN_PER_CODE = 200
"""Findings of one code that are kept; the others are counted. A lost bucket must not fill the memory."""


class Level(StrEnum):
    """``ERROR``: the record or what it names is not as it says. ``NOTICE``: worth a look, proves nothing."""

    ERROR = "error"
    NOTICE = "notice"


class Code(StrEnum):
    """Everything that verification can say. ``docs/verify.md`` explains each."""

    CHAIN_GAP = "chain_gap"
    CHAIN_ENTRY_DAMAGED = "chain_entry_damaged"
    CHAIN_LINK_BROKEN = "chain_link_broken"
    CHAIN_TRUNCATED = "chain_truncated"
    CHAIN_REWRITTEN = "chain_rewritten"
    RUN_ENTERED_TWICE = "run_entered_twice"
    AMENDMENT_WRONG = "amendment_wrong"
    CLOCK_WENT_BACK = "clock_went_back"
    SIGNATURE_INVALID = "signature_invalid"
    SIGNER_UNKNOWN = "signer_unknown"
    DOWNGRADED = "downgraded"
    UNSIGNED = "unsigned"
    SIGNATURE_REQUIRED = "signature_required"
    KEY_DAMAGED = "key_damaged"
    KEYS_FROM_AUDIT = "keys_from_audit"
    MANIFEST_MISSING = "manifest_missing"
    MANIFEST_CHANGED = "manifest_changed"
    MANIFEST_DAMAGED = "manifest_damaged"
    MANIFEST_WRONG = "manifest_wrong"
    NOT_IN_CHAIN = "not_in_chain"
    REMOVED_FROM_CHAIN = "removed_from_chain"
    OUTSIDE_SIGNED_CHAIN = "outside_signed_chain"
    RUN_REMOVED = "run_removed"
    UNFINISHED = "unfinished"
    FOREIGN_FILE = "foreign_file"
    LEFTOVER = "leftover"
    PART_MISSING = "part_missing"
    PART_CHANGED = "part_changed"
    PART_DAMAGED = "part_damaged"
    PART_ROWS_WRONG = "part_rows_wrong"
    COUNTS_WRONG = "counts_wrong"
    ERASED_PART_STILL_THERE = "erased_part_still_there"
    RUN_ROW_MISSING = "run_row_missing"
    RUN_ROW_CHANGED = "run_row_changed"
    RUN_ROW_REWRITTEN = "run_row_rewritten"
    POLICY_CHANGED = "policy_changed"
    SQL_DIFFERS = "sql_differs"
    SQL_UNREADABLE = "sql_unreadable"
    TREE_WRONG = "tree_wrong"
    LEAVES_WRONG = "leaves_wrong"
    OBJECT_MISSING = "object_missing"
    OBJECT_CHANGED = "object_changed"
    SNAPSHOT_CHANGED = "snapshot_changed"
    DESTINATION_UNREACHABLE = "destination_unreachable"
    NOT_CHECKED = "not_checked"


NOTICES = frozenset(
    {
        Code.CLOCK_WENT_BACK, Code.UNSIGNED, Code.KEYS_FROM_AUDIT, Code.NOT_IN_CHAIN, Code.UNFINISHED, Code.LEFTOVER,
        Code.RUN_ROW_REWRITTEN, Code.NOT_CHECKED,
    }
)  # fmt: skip
"""Codes that do not fail a verification; all others do."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault. ``object``: key in the audit, or URI of what lies outside of it. ``detail``: what is wrong, in words."""

    code: Code
    object: str
    detail: str

    @property
    def level(self) -> Level:
        """The level of its code."""
        return Level.NOTICE if self.code in NOTICES else Level.ERROR

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"code": self.code.value, "level": self.level.value, "object": self.object, "detail": self.detail}


class Findings:
    """Collects findings from several threads: keeps the first ``SHOWN_PER_CODE`` of each code, counts all."""

    def __init__(self) -> None:
        self._kept: list[Finding] = []
        self._counts: Counter[Code] = Counter()
        self._lock = threading.Lock()

    def add(self, code: Code, name: str, detail: str) -> None:
        """Note a fault of the object ``name``."""
        with self._lock:
            self._counts[code] += 1
            if self._counts[code] <= SHOWN_PER_CODE:
                self._kept.append(Finding(code, name, detail))

    @property
    def kept(self) -> list[Finding]:
        """Errors first, then by object."""
        return sorted(self._kept, key=lambda found: (found.level != Level.ERROR, found.object, found.code))

    def count(self, level: Level) -> int:
        """How many of this level there are, kept or not."""
        notices = sum(n for code, n in self._counts.items() if code in NOTICES)
        return notices if level is Level.NOTICE else self._counts.total() - notices
