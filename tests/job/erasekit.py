"""A world in memory for erasure: snapshots of everything that is stored, a search of all of it, and a store that dies."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from jobkit import KEYS, World, run
from upath import UPath

from airflow_facefog.core.errors import StoreError
from airflow_facefog.job.model import Place
from airflow_facefog.job.record.erase import EraseOptions, erase_images
from airflow_facefog.publish.store import Store

_numbers = itertools.count()
MUTATIONS = ("create", "replace", "delete")


@dataclass
class Lake:
    """Raw photos on disk; destination and audit in memory, so that a state is saved and brought back at no cost."""

    root: Path
    name: str = field(default_factory=lambda: f"lake{next(_numbers)}")

    def __post_init__(self) -> None:
        self.world = World(self.root)

    @property
    def audit(self) -> Place:
        """The audit."""
        return Place(f"memory://{self.name}/audit")

    @property
    def clean(self) -> Place:
        """The destination."""
        return Place(f"memory://{self.name}/clean")

    def store(self, place: Place) -> Store:
        """A place as a store."""
        return Store(UPath(place.uri))

    def request(self, run_id: str, **changes: Any) -> Any:
        """A plan request over this lake."""
        return self.world.request(run_id, destination=self.clean, audit=self.audit, **changes)

    def run(self, run_id: str, **changes: Any) -> dict[str, Any]:
        """A whole run."""
        return run(self.request(run_id, **changes), workers=1)

    def erase(self, *images: object, **options: Any) -> dict[str, Any]:
        """Erase under the test key."""
        given = {name: options.pop(name) for name in ("signer", "sql", "keys") if name in options}
        given = {"keys": KEYS, **given}
        return erase_images(self.audit, [str(image) for image in images], options=EraseOptions(**options), **given)

    def state(self) -> dict[str, bytes]:
        """Every stored object."""
        fs = UPath(self.audit.uri).fs
        return {path: fs.cat_file(path) for path in fs.find(f"/{self.name}")}

    def restore(self, state: dict[str, bytes]) -> None:
        """Bring a state back."""
        fs = UPath(self.audit.uri).fs
        for path in fs.find(f"/{self.name}"):
            fs.rm_file(path)
        for path, data in state.items():
            fs.pipe_file(path, data)

    def holding(self, *needles: str) -> list[str]:
        """Objects whose name or content (Parquet decoded) holds one of the needles."""
        return sorted(path for path, data in self.state().items() if any(n in readable(path, data) for n in needles))


def readable(name: str, data: bytes) -> str:
    """Everything that a person can find in an object."""
    text = name + data.decode("latin-1")
    if name.endswith(".parquet"):
        text += str(pq.read_table(io.BytesIO(data)).to_pylist())
    return text


def needles(photo: Path) -> list[str]:
    """By what a photo could be found: ids, names, the hash of its bytes."""
    ref = KEYS.source_ref(Place.parse(photo).uri)
    return [KEYS.image_id(photo.read_bytes()), ref, KEYS.item_id(ref), photo.stem]


@contextmanager
def dies_at(monkeypatch: pytest.MonkeyPatch, n: int) -> Iterator[list[int]]:
    """Let the ``n``-th write or delete, and every later one, fail. Yields how many there were."""
    count = [0]

    def wrap(method: Any) -> Any:
        def mutate(self: Store, *args: Any) -> Any:
            count[0] += 1
            if count[0] >= n:
                raise StoreError("killed by the test")
            return method(self, *args)

        return mutate

    with monkeypatch.context() as patch:
        for name in MUTATIONS:
            patch.setattr(Store, name, wrap(getattr(Store, name)))
        yield count
