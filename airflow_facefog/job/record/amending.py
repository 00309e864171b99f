"""What erasure and expiry share: amending one sealed run while others do the same, and only with the right key."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from airflow_facefog.core.errors import ConfigurationError

if TYPE_CHECKING:
    from airflow_facefog.audit.amendments import Amended, Cursor
    from airflow_facefog.audit.ledger import Ledger, SealedRun
    from airflow_facefog.audit.sealed import SigningKey
    from airflow_facefog.publish.store import Store

TRIES = 5
"""How often a run that others amend at the same time is read anew."""


def check_signer(ledger: Ledger, signer: SigningKey | None) -> None:
    """Raise ConfigurationError when a signed chain would get an unsigned entry."""
    if signer is None and any(entry.document["signed"] is True for entry in ledger.entries):
        raise ConfigurationError(
            "this audit is signed: an unsigned amendment would look like a forgery; give the signing key"
        )


def amend_run(
    store: Store, cursor: Cursor, run_key: str, generation: int, signer: SigningKey | None,
    change: Callable[[Cursor, SealedRun], Amended | None], known: SealedRun | None = None,
) -> Amended | None:  # fmt: skip
    """``change`` a sealed run as it is now; None when it is not sealed or nothing changed.

    ``known``: the run as the ledger behind ``cursor`` says it; looked up when others were faster. A run that a crash or an
    older release left outside of the chain gets its own entry first. Raises OvertakenError when others amend it again and
    again.
    """
    from airflow_facefog.audit.amendments import OvertakenError
    from airflow_facefog.audit.ledger import find_run
    from airflow_facefog.job.sealing import chain_run

    for left in reversed(range(TRIES)):
        run = known or find_run(store, run_key, generation)
        if run is None:
            return None
        if run.seq is None:
            chain_run(store, run, signer)
        try:
            return change(cursor, run)
        except OvertakenError:
            known = None
            if not left:
                raise
    return None


def unfinished(store: Store) -> list[str]:
    """Requests whose erasure was begun and not finished."""
    return [key.rpartition("/")[2].removesuffix(".json") for key in store.list("erasing")]
