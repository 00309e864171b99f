"""The master key from an Airflow connection: 64 hex digits or base64 in its password field. Never created here."""

from __future__ import annotations

from airflow_facefog.core.errors import ConfigurationError, FogError
from airflow_facefog.core.keys import KeyRing, parse_master
from airflow_facefog.hooks.connections import connection_failure


def key_ring(conn_id: str | None) -> KeyRing:
    """Derive all keys from the connection's password; None means keyless mode (the plan step warns of it).

    Raises ConfigurationError when the connection is missing or holds no key, StoreError when it cannot be read now.
    A missing connection is never read as "keyless": ids and outputs would silently change.
    """
    return KeyRing.from_master(None if conn_id is None else parse_master(_password(conn_id)))


def _password(conn_id: str) -> str:
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
        failure = ConfigurationError(
            f"connection {conn_id!r} has no password; put the master key there (`facefog keys new` makes one)"
        )
    raise failure
