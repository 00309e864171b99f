"""What a reported face is about: where the picture is shown, by which rows, from which raw file; which rows may stay."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_facefog.core.errors import ConfigurationError, PermanentError
from airflow_facefog.core.records import XYXY, Action, Detection, Status
from airflow_facefog.job.model import Place, Plan, RootOpener
from airflow_facefog.job.plan import open_store
from airflow_facefog.job.record import erase_raw
from airflow_facefog.job.record.current import read_current
from airflow_facefog.job.record.trace import Wanted
from airflow_facefog.job.reported import fogs
from airflow_facefog.job.trace_rows import Kept, is_in

if TYPE_CHECKING:
    from airflow_facefog.audit.ledger import Ledger, SealedRun
    from airflow_facefog.job.record.erase_case import Case
    from airflow_facefog.publish.store import Store

Row = Mapping[str, Any]
CLASS = "face"
NAME_LIMIT = 64


@dataclass(frozen=True, slots=True)
class Shown:
    """One row that consumers see of the picture. ``detections``: its recorded ones, None when they have expired."""

    place: Place
    dataset: str
    run: SealedRun = field(repr=False)
    image: Row = field(repr=False)
    detections: Sequence[Row] | None = field(repr=False)

    @property
    def fogged(self) -> list[tuple[int, int, int, int]]:
        """The regions that it covers, px."""
        return [region_of(row) for row in self.detections or () if row["action"] == Action.FOGGED]


def region_of(row: Row) -> tuple[int, int, int, int]:
    """The fogged pixels of a detection row."""
    return row["fx1"], row["fy1"], row["fx2"], row["fy2"]


def parse_box(text: str) -> tuple[XYXY, str]:
    """``x1,y1,x2,y2[,CLASS]``, upright px. Raises ConfigurationError for anything else."""
    parts = [part.strip() for part in text.split(",")]
    try:
        x1, y1, x2, y2 = map(float, parts[:4])
        name = ",".join(parts[4:]) or CLASS
        if not all(map(math.isfinite, (x1, y1, x2, y2))) or x2 <= x1 or y2 <= y1:
            raise ValueError
    except ValueError:
        raise ConfigurationError(
            f"box {text!r} is none; write x1,y1,x2,y2 or x1,y1,x2,y2,CLASS in pixels of the upright picture, x1 < x2, y1 < y2"
        ) from None
    if len(name) > NAME_LIMIT or not name.isprintable():
        raise ConfigurationError(f"the class of a box is a word of at most {NAME_LIMIT} characters")
    return (x1, y1, x2, y2), name


def clip(boxes: Iterable[tuple[XYXY, str]], image: Row) -> list[Detection]:
    """Reported regions inside of the picture. Raises ConfigurationError for a box that lies outside of it."""
    from airflow_facefog.audit.regions import region
    from airflow_facefog.core.boxes import intersection

    found = []
    frame = (0.0, 0.0, float(image["width"]), float(image["height"]))
    for box, name in boxes:
        inside = intersection(box, frame)
        if inside[2] <= inside[0] or inside[3] <= inside[1]:
            raise ConfigurationError(
                f"box {box} lies outside of the picture, which is {image['width']} x {image['height']} px when upright"
            )
        found.append(region(inside, name))
    if not found:
        raise ConfigurationError("no box is given; say where the face is: --box x1,y1,x2,y2")
    return found


def find_shown(
    audit: Store, ledger: Ledger, datasets: Iterable[tuple[Place, str]], image_ids: Iterable[str], open_root: RootOpener
) -> list[Shown]:
    """What the newest snapshots show of these pictures."""
    from airflow_facefog.publish.dataset import home

    ids, found = set(image_ids), []
    for place, name in datasets:
        clean = open_store(place, open_root)
        if not clean.exists(f"{home(name)}dataset.json"):
            continue
        for current in read_current(audit, ledger, clean, name):
            if current.run is not None:
                mine = current.images.filter(is_in(current.images["image_id"], ids))
                found += [Shown(place, name, current.run, *row) for row in _with_detections(mine, current.detections)]
    return found


def _with_detections(images: Any, detections: Any) -> Iterator[tuple[Row, list[Row] | None]]:
    for image in images.to_pylist():
        if detections is None:
            yield image, None
        else:
            yield image, detections.filter(is_in(detections["source_ref"], [image["source_ref"]])).to_pylist()


def the_picture(shown: Sequence[Shown], wanted: Wanted) -> str:
    """The one picture that is meant: its image_id. Raises PermanentError when no dataset shows it, ConfigurationError when
    several are meant: boxes belong to one picture.
    """
    ids: set[str] = {row.image["image_id"] for row in shown}
    ids = ids & wanted.image_ids or ids
    if not ids:
        raise PermanentError("no dataset shows this picture now: there is nothing to fog again; erase without --refog")
    if len(ids) > 1:
        raise ConfigurationError("this names several pictures; give the raw file of one, or its image_id")
    return ids.pop()


def find_raw(audit: Store, case: Case, row: Shown, wanted: Wanted, open_root: RootOpener) -> str:
    """The URI of the raw file that a shown row was made from. Raises PermanentError when it is gone or was changed."""
    ref, plan = row.image["source_ref"], case.places[row.run.home]
    conn_id = plan.source.conn_id if plan.source else None
    named = {(uri, conn_id) for uri in wanted.uris} | erase_raw.find(audit, case, frozenset({ref}))
    files = sorted((file for file in named if case.keys.source_ref(file[0]) == ref), key=str)
    held = [(file, erase_raw.image_id(file, case.keys, open_root)) for file in files]
    for (uri, _), image_id in held:
        if image_id == row.image["image_id"]:
            return uri
    if any(image_id for _, image_id in held):
        raise PermanentError("the raw file holds another picture by now; erase this one without --refog")
    raise PermanentError(
        "the raw file cannot be found: it is gone, or its name has expired; name the raw file itself where the run listed "
        "it, or erase without --refog"
    )


def read_plan(audit: Store, run: SealedRun) -> Plan:
    """How a run was made. Raises ConfigurationError when its plan is gone."""
    data = audit.get(f"plans/{run.home}/plan.json")
    if data is None:
        raise ConfigurationError("the plan of the run that published this picture is gone; erase without --refog")
    return Plan.from_json(json.loads(data))


def find_kept(audit: Store, ledger: Ledger, image_id: str, regions: Sequence[Detection]) -> Kept:
    """Runs whose output of the picture fogs these reported regions, and those outputs."""
    homes: set[str] = set()
    outputs: set[str] = set()
    made: list[tuple[str, set[str]]] = []
    for home, image_key, detection_key in _outputs(audit, ledger):
        images = [row for row in _about(audit, "image", image_key, image_id) if row["status"] == Status.PUBLISHED]
        made.append((home, {row["output_sha256"] for row in images}))
        rows = _about(audit, "detection", detection_key, image_id) if images else []
        by_source = [[row for row in rows if row["source_ref"] == image["source_ref"]] for image in images]
        if images and all(fogs(mine, regions) for mine in by_source):
            homes.add(home)
            outputs |= made[-1][1]
    same = {home for home, hashes in made if hashes and hashes <= outputs}  # the very bytes, made before the report
    return Kept(frozenset(homes | same), frozenset(outputs))


def _outputs(audit: Store, ledger: Ledger) -> Iterator[tuple[str, str, str | None]]:
    """Home, image part and detection part of sealed runs and of attempts."""
    for run in ledger.runs:
        if "image" in run.parts:
            yield run.home, run.parts["image"].key, run.parts["detection"].key if "detection" in run.parts else None
    for key in audit.list("intents"):
        folder, _, name = key.rpartition("/")
        if name == "image.parquet":
            yield "/".join(key.split("/")[1:3]), key, f"{folder}/detection.parquet"


def _about(audit: Store, name: str, key: str | None, image_id: str) -> list[dict[str, Any]]:
    from airflow_facefog.audit.parquet import read_arrow

    columns = {
        "image": ("source_ref", "image_id", "status", "output_sha256"),
        "detection": ("source_ref", "image_id", "source", "action", "class_name", "x1", "y1", "x2", "y2"),
    }
    data = None if key is None else audit.get(key)
    if data is None:
        return []
    rows = read_arrow(f"facefog_{name}", data, columns[name])
    found: list[dict[str, Any]] = rows.filter(is_in(rows["image_id"], [image_id])).to_pylist()
    return found
