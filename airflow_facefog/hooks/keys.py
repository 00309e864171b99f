"""Keys from Airflow connections, in the password field. Never created here.

The master key: 64 hex digits or base64. The signing key: its PEM text, which only the task that seals a run may ask for.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from airflow_facefog.core.errors import ConfigurationError, FogError
from airflow_facefog.core.keys import KeyRing, parse_master
from airflow_facefog.hooks.connections import connection_failure

if TYPE_CHECKING:
    from airflow_facefog.audit.sealed import SigningKey

MASTER = "the master key there (`facefog keys new` makes one)"
SIGNING = "the signing key's PEM text there (`facefog keys new --signing --print` shows it)"
PEM = re.compile(r"(-----BEGIN [A-Z ]+-----)(.*?)(-----END [A-Z ]+-----)", re.DOTALL)


def key_ring(conn_id: str | None) -> KeyRing:
    """Derive all keys from the connection's password; None means keyless mode (the plan step warns of it).

    Raises ConfigurationError when the connection is missing or holds no key, StoreError when it cannot be read now.
    A missing connection is never read as "keyless": ids and outputs would silently change.
    """
    return KeyRing.from_master(None if conn_id is None else parse_master(_password(conn_id, MASTER)))


def signing_key(conn_id: str | None) -> SigningKey | None:
    """The Ed25519 key whose PEM text is the connection's password; None means that runs are sealed unsigned.

    Line breaks that a form or a URI lost, or turned into ``\\n``, are put back. Raises ConfigurationError when the
    connection is missing or holds no such key, StoreError when it cannot be read now: a run that should be signed is never
    sealed unsigned.
    """
    if conn_id is None:
        return None
    from airflow.sdk.log import mask_secret

    from airflow_facefog.audit.sealed import SigningKey

    text = _password(conn_id, SIGNING)
    found = PEM.search(text.replace("\\n", "\n"))
    if found is not None:
        body = "".join(found.group(2).split())
        mask_secret(body)  # a log line would show this part of the key alone
        text = f"{found.group(1)}\n{body}\n{found.group(3)}\n"
    return SigningKey.from_pem(text.encode())


def _password(conn_id: str, what: str) -> str:
    from airflow.sdk import BaseHook
    from airflow.sdk.log import mask_secret

    failure: FogError
    try:
        password = BaseHook.get_connection(conn_id).password
    except Exception as error:
        failure = connection_failure(conn_id, error)
    else:
        if password:
            mask_secret(password)
            return password
        failure = ConfigurationError(f"connection {conn_id!r} has no password; put {what}")
    raise failure
