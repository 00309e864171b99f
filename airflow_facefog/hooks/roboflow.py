"""The connection type ``roboflow``: Airflow connection → ``Access``, detector, management calls and the real client.

The API key is the password, the inference server the host; everything else stands in plain extra fields. Nothing heavy is
imported at module level.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook

from airflow_facefog.core.errors import ConfigurationError, FogError
from airflow_facefog.detectors.roboflow.access import HOSTED_API, HOSTED_INFERENCE, Access, Secret, access_from_env
from airflow_facefog.hooks.connections import connection_failure

if TYPE_CHECKING:
    from airflow_facefog.detectors.roboflow.detector import RoboflowDetector
    from airflow_facefog.hooks.roboflow_api import RoboflowApi

DEFAULT_CONN_ID = "roboflow_default"
_NUMBERS = {"timeout_s": float, "connect_timeout_s": float, "rate_per_s": float, "concurrency": int}
_TEXTS = ("workspace", "auth", "proxy", "ca_file")
FIELDS = ("api_url", "model_id", "allowed_hosts", *_TEXTS, *_NUMBERS)
"""Extra fields of the connection; others are refused, so that a misspelt limit is never silently the default."""


def access(conn_id: str | None) -> Access:
    """The ``AccessOpener`` of Airflow tasks: a connection id → Access; None: the environment.

    Raises ConfigurationError when the connection is missing or wrong, StoreError when it cannot be read now.
    """
    if conn_id is None:
        return access_from_env()
    failure: FogError
    try:
        connection: Any = BaseHook.get_connection(conn_id)
    except Exception as error:
        failure = connection_failure(conn_id, error)
    else:
        return access_of(connection, conn_id)
    raise failure


async def access_async(conn_id: str | None) -> Access:
    """As ``access``, from the event loop of a triggerer."""
    if conn_id is None:
        return access_from_env()
    failure: FogError
    try:
        connection: Any = await BaseHook.aget_connection(conn_id)
    except Exception as error:
        failure = connection_failure(conn_id, error)
    else:
        return access_of(connection, conn_id)
    raise failure


def access_of(connection: Any, conn_id: str) -> Access:
    """Access from a connection object; its secrets are masked in this process's logs from here on.

    Raises ConfigurationError that names connection and field, never a value.
    """
    key = (connection.password or "").strip()
    extra = _extra(connection, conn_id)
    _mask(key, str(extra.get("proxy") or ""))
    options: dict[str, Any] = {name: str(extra[name]) for name in _TEXTS if extra.get(name)}
    options |= {name: _number(conn_id, name, extra[name]) for name in _NUMBERS if extra.get(name) not in (None, "")}
    found = Access(
        api_key=Secret(key),
        inference_url=_url(connection) or HOSTED_INFERENCE,
        api_url=str(extra.get("api_url") or HOSTED_API),
        allowed_hosts=_hosts(extra.get("allowed_hosts")),
        **options,
    )
    if found.hosted and not found.api_key:
        raise ConfigurationError(
            f"connection {conn_id!r} has no API key; put it into the password, or give your own inference server as host"
        )
    return found


class RoboflowHook(BaseHook):
    """Roboflow behind one Airflow connection.

    :param roboflow_conn_id: connection of type ``roboflow``; None reads the environment (``FACEFOG_ROBOFLOW_…``).
    """

    conn_name_attr = "roboflow_conn_id"
    default_conn_name = DEFAULT_CONN_ID
    conn_type = "roboflow"
    hook_name = "Roboflow"

    def __init__(self, roboflow_conn_id: str | None = DEFAULT_CONN_ID, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.roboflow_conn_id = roboflow_conn_id

    def access(self) -> Access:
        """Addresses, key and limits. Raises as the function ``access`` does."""
        return access(self.roboflow_conn_id)

    def get_conn(self) -> Any:
        """The real ``roboflow.Roboflow`` for what our own management calls lack: see ``roboflow_client``.

        Its HTTP has time-outs and quotes no key; the calls that crash, block or ask questions are refused. For one thread.
        """
        from airflow_facefog.hooks.roboflow_client import open_client

        return open_client(self.access())

    def management(self) -> RoboflowApi:
        """Our own management calls: projects, versions, datasets, trainings."""
        from airflow_facefog.hooks.roboflow_api import RoboflowApi

        return RoboflowApi(self.access())

    def detector(self, model_id: str | None = None, **options: Any) -> RoboflowDetector:
        """The safe detector of a model; ``options`` as for ``RoboflowDetector``. None: the connection's model.

        Raises ConfigurationError when neither names a model.
        """
        from airflow_facefog.detectors.roboflow.detector import RoboflowDetector

        return RoboflowDetector(model_id or self.default_model(), self.access(), **options)

    def default_model(self) -> str:
        """``model_id`` of the connection. Raises ConfigurationError when it has none."""
        if self.roboflow_conn_id is not None:
            connection: Any = BaseHook.get_connection(self.roboflow_conn_id)
            named = _extra(connection, self.roboflow_conn_id).get("model_id")
            if named:
                return str(named)
        raise ConfigurationError("no Roboflow model named; give model_id, or set the connection's default model")

    def test_connection(self) -> tuple[bool, str]:
        """Ask once; say whether it works and if not why: bad key, no quota, unreachable, untrusted, self-hosted.

        A server that is not Roboflow's own, without an own API URL, is asked for its version; it does not know the key.
        """
        from airflow_facefog.hooks.roboflow_api import ask_once

        try:
            return True, ask_once(self.access())
        except FogError as error:
            return False, str(error)


def _extra(connection: Any, conn_id: str) -> Mapping[str, Any]:
    extra: Mapping[str, Any] = connection.extra_dejson or {}
    if unknown := sorted(set(extra) - set(FIELDS)):
        raise ConfigurationError(
            f"connection {conn_id!r}: unknown field {unknown[0]!r}; valid: {', '.join(sorted(FIELDS))}"
        )
    return extra


def _url(connection: Any) -> str:
    """The inference URL: the host as it is when it names a scheme, else https with the connection's port."""
    host = (connection.host or "").strip()
    if not host or "://" in host:
        return host
    return f"https://{host}" + (f":{connection.port}" if connection.port else "")


def _hosts(given: Any) -> tuple[str, ...]:
    names = given.replace(",", " ").split() if isinstance(given, str) else given or ()
    return tuple(str(name) for name in names)


def _number(conn_id: str, name: str, value: Any) -> float | int:
    try:
        converted: float | int = _NUMBERS[name](value)
    except (TypeError, ValueError):
        converted = 0
    if converted:
        return converted
    raise ConfigurationError(f"connection {conn_id!r}: {name} is not a positive number")


def _mask(key: str, proxy: str) -> None:
    """Tell Airflow's log masker the key, also as it would stand in a URL, and the proxy's password."""
    from urllib.parse import quote, urlsplit

    from airflow.sdk.log import mask_secret

    password = urlsplit(proxy).password if proxy else None
    for secret in {key, quote(key, safe=""), password} - {"", None}:
        mask_secret(secret)
