"""Pictures with reported regions: what stands for them, what consumers see of them, and how they are fogged again."""

from __future__ import annotations

import cv2
import numpy as np
from jobkit import KEYS

from airflow_facefog.audit import regions
from airflow_facefog.audit.ledger import open_ledger
from airflow_facefog.audit.parquet import from_parquet
from airflow_facefog.job.record.refog import RefogOptions, refog_image
from airflow_facefog.job.record.verify_audit import VerifyRequest, verify_audit
from airflow_facefog.publish.snapshots import open_dataset

BOX = (96.0, 64.0, 128.0, 104.0)
TEXT = ",".join(str(int(value)) for value in BOX)


def report(lake, photo, *boxes, keys=KEYS, name="face"):
    """Let regions of a photo stand; returns their folder."""
    image_id = keys.image_id(photo.read_bytes())
    regions.stand(lake.store(lake.audit), keys, image_id, [regions.region(box, name) for box in boxes])
    return regions.folder(keys, image_id)


def shown(lake, photo, dataset="default"):
    """The pixels that consumers see of a photo, or None."""
    store = lake.store(lake.clean)
    ref = KEYS.item_id(KEYS.source_ref(f"file://{photo}"))
    rows = [row for row in open_dataset(store, None, dataset).to_pylist() if row["item_id"] == ref]
    if not rows:
        return None
    data = store.read(rows[0]["uri"].partition("/clean/")[2])
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


def touched(lake, photo, box=BOX, dataset="default"):
    """Mean change of the published picture inside a box: a face that is fogged changes much, JPEG noise little."""
    x1, y1, x2, y2 = map(int, box)
    raw, now = cv2.imread(str(photo)), shown(lake, photo, dataset)
    return float(np.abs(raw[y1:y2, x1:x2].astype(int) - now[y1:y2, x1:x2]).mean())


def human_rows(lake, result):
    """Rows of a run that came from people."""
    return [row for row in detections(lake, result) if row["source"] == "human"]


def detections(lake, result):
    """All detection rows of a run."""
    audit = lake.store(lake.audit)
    part = next(r for r in open_ledger(audit).runs if audit.uri(r.manifest_key) == result["manifest_uri"]).parts[
        "detection"
    ]
    return from_parquet("facefog_detection", audit.read(part.key))


def refog(lake, image, *boxes, keys=KEYS, signer=None, sql=None, **options):
    """Fog a picture again."""
    given = boxes or (TEXT,)
    return refog_image(
        lake.audit, str(image), given, keys=keys, signer=signer, sql=sql, options=RefogOptions(**options)
    )


def faults(lake):
    """What a deep verification finds wrong."""
    found = verify_audit(VerifyRequest(lake.audit, deep=True))["findings"]
    return [one for one in found if one["level"] == "error"]


def rows_of(lake, photo, version=None):
    """What a version shows of a photo."""
    item = KEYS.item_id(KEYS.source_ref(f"file://{photo}"))
    return [row for row in open_dataset(lake.store(lake.clean), version).to_pylist() if row["item_id"] == item]


def output(lake, photo, version=None):
    """Hash of a photo's published object."""
    (row,) = rows_of(lake, photo, version)
    return row["sha256"]


def image_id(photo, keys=KEYS):
    """The id of a photo."""
    return keys.image_id(photo.read_bytes())
