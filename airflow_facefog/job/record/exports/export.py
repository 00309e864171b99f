"""Export the newest snapshot of a dataset in one of the forms."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.core.raw import sealed
from airflow_facefog.job.model import Place, RootOpener, open_root_plain
from airflow_facefog.job.places import check_apart
from airflow_facefog.job.plan import open_store
from airflow_facefog.job.record.exports.files import Counts, Target
from airflow_facefog.job.record.exports.samples import Disclose, Published, read_samples
from airflow_facefog.job.record.exports.webdataset import SHARD_BYTES
from airflow_facefog.publish.dataset import DEFAULT, home

if TYPE_CHECKING:
    from airflow_facefog.publish.store import Store

NO_AUDIT = Place("memory://facefog-no-audit")


class Form(StrEnum):
    """Forms of an export."""

    PLAIN = "plain"
    COCO = "coco"
    FIFTYONE = "fiftyone"
    WEBDATASET = "webdataset"
    HF = "hf"


@sealed
def export(
    clean: Place, plain: Place, *, form: Form = Form.PLAIN, dataset: str = DEFAULT, audit: Place | None = None,
    disclose: Disclose = Disclose.FOGGED, shard_bytes: int = SHARD_BYTES, open_root: RootOpener = open_root_plain,
) -> dict[str, Any]:  # fmt: skip
    """Write the newest snapshot of ``dataset`` in ``clean`` to the folder ``plain``; published bytes only.

    Returns {"snapshot_seq", "format", "detections", "exported", "unchanged", "plain"}; samples are counted. ``audit``: where
    detections come from; None is the one that the dataset names. ``plain`` has no detections. Raises ConfigurationError
    (overlap, no snapshot, an audit without these images), PermanentError (an object was changed, other content in the way).
    """
    source, target = open_store(clean, open_root), open_store(plain, open_root)
    if form is Form.PLAIN:
        disclose = Disclose.NONE
    place = None if disclose is Disclose.NONE else audit or audit_of(source, dataset)
    _refuse_overlap(plain, clean, *(item for item in (place or audit,) if item))
    records = None if place is None else open_store(place, open_root)
    published = read_samples(source, dataset, records, disclose)
    counts = _write(published, Target(source, target), form, shard_bytes)
    return {
        "snapshot_seq": published.seq, "format": form.value, "detections": disclose.value, "exported": counts.exported,
        "unchanged": counts.unchanged, "plain": plain.uri,
    }  # fmt: skip


def audit_of(clean: Store, dataset: str = DEFAULT) -> Place:
    """The audit that a dataset names. Raises ConfigurationError when ``clean`` is no destination or has no such dataset."""
    data = clean.get(f"{home(dataset)}dataset.json")
    if data is None:
        raise ConfigurationError(
            f"this is no destination of facefog with a dataset {dataset!r} (no dataset.json); give the CLEAN folder"
        )
    return Place.parse(json.loads(data)["audit"])


def _write(published: Published, target: Target, form: Form, shard_bytes: int) -> Counts:
    from airflow_facefog.job.record.exports import coco, fiftyone, huggingface, webdataset

    if form is Form.PLAIN:
        return target.copy(published.samples, "")
    if form is Form.WEBDATASET:
        return webdataset.write(published, target, shard_bytes)
    writers = {Form.COCO: coco.write, Form.FIFTYONE: fiftyone.write, Form.HF: huggingface.write}
    return writers[form](published, target)


def _refuse_overlap(plain: Place, *others: Place) -> None:
    for other in others:
        try:
            check_apart(other, plain, NO_AUDIT)
        except ConfigurationError:
            raise ConfigurationError(
                "PLAIN overlaps CLEAN or the audit (links resolved); export to a folder of its own"
            ) from None
