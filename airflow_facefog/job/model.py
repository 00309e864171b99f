"""Plain values that pass between the three steps, and the frozen plan. Safe at Dag-parse time."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.core.policy import FogPolicy, load_policy

if TYPE_CHECKING:
    from upath import UPath

RootOpener = Callable[[str, str | None], "UPath"]
"""(uri without userinfo, connection id or None) → path. Operators pass one that resolves Airflow connections."""

LAYOUTS = ("named", "content")


def open_root_plain(uri: str, conn_id: str | None = None) -> UPath:
    """Open ``uri`` with ambient credentials. Raises ConfigurationError when a connection id is asked for."""
    from upath import UPath

    if conn_id:
        raise ConfigurationError(f"the plan names connection {conn_id!r}, which only Airflow can resolve; run it there")
    return UPath(uri)


@dataclass(frozen=True, slots=True)
class Place:
    """A storage location: canonical URI without userinfo, and the name of the connection that opens it."""

    uri: str
    conn_id: str | None = None

    @classmethod
    def parse(cls, text: object) -> Place:
        """Read ``s3://conn@bucket/x``, ``/local``, ``relative/path``, ``file:///x`` or a UPath.

        Raises ConfigurationError for chained URLs (they cache raw images on disk), for passwords and for queries.
        """
        conn_id = getattr(text, "conn_id", None)
        raw = str(text)
        if not raw.strip():
            raise ConfigurationError("a source, destination or audit place is empty; give a folder or URI")
        if "::" in raw:
            raise ConfigurationError(
                "chained URLs (`…::…`) are refused: they cache raw images on disk; give the plain URI"
            )
        if "://" not in raw:
            return cls("file://" + os.path.abspath(raw))
        parts = urlsplit(raw)
        if parts.scheme in ("file", "local"):
            if parts.netloc not in ("", "localhost"):
                raise ConfigurationError("a file URI needs three slashes and an absolute path: file:///folder")
            return cls("file://" + os.path.abspath(raw.split("://", 1)[1].removeprefix("localhost")))
        user, at, _ = parts.netloc.rpartition("@")
        if ":" in user or (parts.query and "=" in parts.query):
            raise ConfigurationError("credentials in a URI are refused: they would be recorded; use a connection id")
        rest = raw.split("://", 1)[1]
        uri = f"{parts.scheme}://{rest[len(user) + 1 :] if at else rest}".rstrip("/")
        return cls(uri if "://" in uri else f"{parts.scheme}://", conn_id or user or None)

    @property
    def is_local(self) -> bool:
        """Whether this is a folder of this machine."""
        return self.uri.startswith("file://")

    @property
    def local_path(self) -> str:
        """The absolute path of a local place."""
        return self.uri.removeprefix("file://")

    def child(self, *parts: str) -> Place:
        """The place below this one."""
        return Place("/".join([self.uri.rstrip("/"), *parts]), self.conn_id)


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """Which run this is. The first three make the run_key; the rest is recorded."""

    dag_id: str
    run_id: str
    task_id: str
    run_type: str | None = None
    logical_date: str | None = None
    data_date: str | None = None
    dag_version_id: str | None = None
    clear_number: int = 0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of one task. ``attempt_id`` is unique per try (Airflow: ``ti.id``); the rest is recorded, never a key."""

    attempt_id: str
    try_number: int = 1
    map_index: int = -1


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """Everything the plan step resolves once for the whole run.

    ``source`` is a folder, one file or a glob; ``sources`` (explicit URIs) takes its place when given: neither is printed,
    they may name files. ``detector`` is a
    JSON-able spec. A batch holds at most ``batch_images`` images and about ``batch_bytes`` bytes; both grow when there
    would be more than ``max_batches``. ``mirror`` withdraws what is gone under the listed prefix.
    """

    identity: RunIdentity
    source: Place = field(repr=False)
    destination: Place
    audit: Place
    policy: FogPolicy
    detector: Any
    layout: str = "named"
    dataset: str = "default"
    mirror: bool = False
    batch_images: int = 500
    batch_bytes: int = 2_000_000_000
    max_batches: int = 1024
    retry_quarantined: bool = False
    key_conn_id: str | None = None
    sources: tuple[str, ...] | None = field(repr=False, default=None)

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise ConfigurationError(f"layout {self.layout!r} is unknown; valid: {', '.join(LAYOUTS)}")
        if min(self.batch_images, self.batch_bytes, self.max_batches) < 1:
            raise ConfigurationError("batch_images, batch_bytes and max_batches must be at least 1")


@dataclass(frozen=True, slots=True)
class Plan:
    """A frozen plan, as written to ``plan.json``. Holds connection names, never credentials."""

    run_key: str
    generation: int
    identity: RunIdentity
    source: Place
    destination: Place
    audit: Place
    policy: FogPolicy
    policy_hash: str
    recipe_hash: str
    detector: Any
    detector_info: Mapping[str, Any]
    key_id: str
    key_conn_id: str | None
    id_scheme: str
    fog_version: str
    layout: str
    dataset: str
    mirror: bool
    listing_id: str
    retry_quarantined: bool
    base_snapshot: int | None
    listed_at: str
    listed: int
    batches: tuple[tuple[str, int], ...] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        data: dict[str, Any] = {"format": "facefog-plan/1"}
        for name in Plan.__slots__:
            data[name] = _plain(getattr(self, name))
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        """Read ``plan.json``. Raises ConfigurationError for another format."""
        if data.get("format") != "facefog-plan/1":
            raise ConfigurationError(
                f"plan format {data.get('format')!r} is not facefog-plan/1; use the version that wrote it"
            )
        values = {name: data[name] for name in Plan.__slots__}
        values["identity"] = RunIdentity(**values["identity"])
        for name in ("source", "destination", "audit"):
            values[name] = Place(**values[name])
        values["policy"] = load_policy(values["policy"])
        values["batches"] = tuple((batch_id, n) for batch_id, n in values["batches"])
        return cls(**values)

    # keys inside the audit store
    @property
    def home(self) -> str:
        """``<run_key>/<generation>``: the part of every audit key that names this plan."""
        return f"{self.run_key}/{self.generation}"

    def batch_key(self, batch_id: str) -> str:
        """Audit key of a batch file."""
        return f"plans/{self.home}/batches/{batch_id}.json"

    def commit_key(self, batch_id: str) -> str:
        """Audit key of a batch's commit."""
        return f"commits/{self.home}/{batch_id}.json"

    def attempt_prefix(self, batch_id: str, attempt_id: str = "") -> str:
        """Audit prefix of what an attempt writes before its commit."""
        prefix = f"intents/{self.home}/{batch_id}/"
        return f"{prefix}{attempt_id}/" if attempt_id else prefix


def _plain(value: Any) -> Any:
    if isinstance(value, Place):
        return {"uri": value.uri, "conn_id": value.conn_id}
    if isinstance(value, RunIdentity):
        return {name: getattr(value, name) for name in RunIdentity.__slots__}
    if isinstance(value, FogPolicy):
        return value.canonical()
    if isinstance(value, Mapping):
        return dict(value)
    return [list(pair) for pair in value] if isinstance(value, tuple) else value


def make_run_key(identity: RunIdentity, destination: Place, recipe_hash: str) -> str:
    """32 hex digits over dag, run, list task, destination and recipe: another policy is another run."""
    text = "\0".join(
        ("facefog/run/1", identity.dag_id, identity.run_id, identity.task_id, destination.uri, recipe_hash)
    )
    return hashlib.sha256(text.encode()).hexdigest()[:32]
