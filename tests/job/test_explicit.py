"""Runs over explicit images, as ``@task.fog`` names them: what overlaps is told by their own folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from jobkit import KEYS, World, picture, run, save

from airflow_facefog.audit.parquet import from_parquet
from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.job.model import Place, PlanRequest
from airflow_facefog.job.plan import make_plan, preview


def request_for(world: World, names: list[str], **changes: Any) -> PlanRequest:
    """A request over explicit pictures below the world's root, which are made."""
    paths = [save(world.root / name, picture(index, markers=[(40, 30, 72, 70)])) for index, name in enumerate(names)]
    return world.request(source=Place.parse(paths[0]), sources=tuple(map(str, paths)), **changes)


def sources_of(world: World) -> list[dict[str, Any]]:
    """Rows of the only table of sources."""
    (path,) = (world.audit / "sources").rglob("*.parquet")
    return from_parquet("facefog_source", path.read_bytes())


def test_folders_beside_the_destination_are_published(tmp_path: Path) -> None:
    """raw/, raw2/ and clean/ in one folder are apart: both pictures are published under names of their own."""
    world = World(tmp_path)
    request = request_for(world, ["raw/a.jpg", "raw2/a.jpg"])
    assert preview(request, KEYS)["listed"] == 2
    result = run(request)
    assert (result["counts"]["published"], result["counts"]["fogged"]) == (2, 2)
    assert len(world.published()) == 2
    uris = {row["source_uri"] for row in sources_of(world)}
    assert uris == {f"file://{tmp_path}/raw/a.jpg", f"file://{tmp_path}/raw2/a.jpg"}


@pytest.mark.parametrize(
    ("names", "places"),
    [
        (["raw/a.jpg", "clean/a.jpg"], {}),
        (["raw/a.jpg", "clean/data/deep/a.jpg"], {}),
        (["raw/a.jpg", "audit/a.jpg"], {}),
        (["raw/a.jpg", "a.jpg"], {}),
        (["raw/a.jpg", "raw2/a.jpg"], {"destination": "raw2/clean"}),
        (["raw/a.jpg", "raw2/a.jpg"], {"audit": "raw/audit"}),
        (["raw/a.jpg", "raw2/a.jpg"], {"audit": "clean/audit"}),
        (["raw/a.jpg", "link/a.jpg"], {}),
    ],
)
def test_one_image_in_an_overlapping_folder_refuses_all(
    tmp_path: Path, names: list[str], places: dict[str, str]
) -> None:
    """A single image in, above or (through a link) behind destination or audit: nothing is planned or previewed."""
    world = World(tmp_path)
    (tmp_path / "link").symlink_to(world.clean)
    changes = {name: Place.parse(tmp_path / folder) for name, folder in places.items()}
    request = request_for(world, names, **changes)
    for planner in (preview, make_plan):
        with pytest.raises(ConfigurationError, match=r"overlap|inside the destination"):
            planner(request, KEYS)
    assert not list(world.audit.rglob("plan.json"))


def test_an_image_at_the_top_of_the_disk_overlaps_everything(tmp_path: Path) -> None:
    """The folder of ``/a.jpg`` is the whole disk, not the working directory."""
    request = World(tmp_path).request(source=Place.parse("/a.jpg"), sources=("/a.jpg",))
    with pytest.raises(ConfigurationError, match="overlap"):
        preview(request, KEYS)
