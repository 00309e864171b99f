"""Which runs met a file: its ids are made anew with the master key and looked up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_facefog.core.raw import sealed
from airflow_facefog.job.model import Place, RootOpener, open_root_plain
from airflow_facefog.job.plan import open_store
from airflow_facefog.job.record.erase_case import describe, open_case
from airflow_facefog.job.record.trace import read_wanted

if TYPE_CHECKING:
    from airflow_facefog.core.keys import KeyRing


@dataclass(frozen=True, slots=True)
class Whois:
    """``rows``: what runs recorded. ``key_id``: this key; ``run_key_ids``: keys of the audit's runs.

    ``erased``: the picture was erased from this audit. ``image_ids``: the file's ids under this key. ``expired``: how many
    runs have no image rows any more.
    """

    rows: list[dict[str, Any]]
    key_id: str
    run_key_ids: list[str]
    erased: bool
    image_ids: list[str]
    expired: int

    @property
    def other_key_ids(self) -> list[str]:
        """Keys under which the file may be known by another id."""
        return [key_id for key_id in self.run_key_ids if key_id != self.key_id]


@sealed
def whois(audit: Place, file: str, *, keys: KeyRing, open_root: RootOpener = open_root_plain) -> Whois:
    """Look up one raw or published file, URI or id. Raises ConfigurationError when the text is none of them, and when the
    rows that an id finds were made under another key.
    """
    from airflow_facefog.audit.ledger import open_ledger

    store = open_store(audit, open_root)
    wanted = read_wanted([file], keys)
    case = open_case(store, wanted, keys, None, open_ledger(store))
    rows = [row for row in describe(case) if row["status"] != "intent" or not row["sealed"]]
    key_ids = sorted({place.key_id for place in case.places.values()})
    expired = sum("image" not in run.parts for run in case.ledger.runs)
    return Whois(rows, keys.key_id, key_ids, _erased(store, wanted.image_ids, keys), sorted(wanted.image_ids), expired)


def _erased(store: Any, image_ids: frozenset[str], keys: KeyRing) -> bool:
    from airflow_facefog.job.erased import Erasures

    erasures = Erasures(store, keys)
    return any(image_id in erasures for image_id in image_ids)
