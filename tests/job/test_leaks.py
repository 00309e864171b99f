"""What errors, logs, reprs and temporary files tell: never raw bytes, pixels, file names or keys (promises P5, P9)."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faultkit import TRIGGER_BGR, ended, process
from faultydetectors import faulty
from jobkit import MARKER, World, attempt, picture, save
from leakkit import captured, corpus_file, find_leaks
from test_stores import fails_at

from airflow_facefog.core.errors import ImageError
from airflow_facefog.core.keys import KeyRing
from airflow_facefog.core.policy import load_policy
from airflow_facefog.core.raw import RawImage
from airflow_facefog.job.batch import run_batch
from airflow_facefog.job.finalise import finalise
from airflow_facefog.job.model import Place, open_root_plain
from airflow_facefog.job.opening import open_job
from airflow_facefog.job.plan import make_plan, preview
from airflow_facefog.job.staged import detect_batch, fog_detected_batch

MASTER = bytes((i * 37 + 11) % 251 for i in range(32))
KEYS = KeyRing.from_master(MASTER)
SECRETS = {
    "master": MASTER, "k_fog": KEYS.fog, "k_pred": KEYS.pred, "k_id": KEYS.ids or b"", "k_src": KEYS.src or b"",
}  # fmt: skip


def private_world(root: Path) -> World:
    """Two photos with telling names, one of which breaks a faulty detector."""
    world = World(root)
    image = picture(1, markers=[(40, 30, 72, 70)])
    image[80:110, 100:140] = TRIGGER_BGR
    save(world.raw / "familie_muster" / "anna_muster_1.jpg", picture(0, markers=[(40, 30, 72, 70)]))
    save(world.raw / "familie_muster" / "anna_muster_2.jpg", image, quality=98)
    return world


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Photos with telling names."""
    return private_world(tmp_path)


Ref = dict[str, Any]
Step = Callable[[World, pytest.MonkeyPatch], Any]


def batch(world: World, detector: Any = MARKER, policy: Any = None, *, isolated: bool = False, workers: int = 2) -> Any:
    """Plan and run one batch."""
    request = world.request(detector=detector, policy=load_policy(policy), batch_images=100)
    (ref,) = make_plan(request, KEYS)
    if isolated:
        from test_isolation import mark_as_dead

        mark_as_dead(world, ref)
    return run_batch(ref["plan"], ref["batch"], attempt=attempt(), keys=KEYS, workers=workers)


def staged(world: World, fault: str) -> Any:
    """Look with a detector that breaks."""
    (ref,) = make_plan(world.request(detector=faulty(fault)), KEYS)
    return detect_batch(ref["plan"], ref["batch"], attempt=attempt(), keys=KEYS)


def finish(world: World, sql: Any = None) -> Any:
    """A whole run."""
    (ref,) = make_plan(world.request(), KEYS)
    run_batch(ref["plan"], ref["batch"], attempt=attempt(), keys=KEYS)
    return finalise(ref["plan"], attempt=attempt(), keys=KEYS, sql=sql)


class BrokenSql:
    """A SQL sink that fails and quotes what it was given."""

    def write_run(self, *values: Any, **more: Any) -> None:
        """Fail."""
        raise RuntimeError(f"constraint failed: {values} {more}")


def corrupt(world: World, _patch: Any) -> Any:
    """A truncated photo under ``on_bad_image: fail``."""
    data = next((world.raw / "familie_muster").iterdir()).read_bytes()
    (world.raw / "familie_muster" / "anna_muster_3.jpg").write_bytes(data[: len(data) // 2])
    return batch(world, policy={"on_bad_image": "fail"})


def verify_says_no(world: World, patch: pytest.MonkeyPatch) -> Any:
    """Not even fill verifies."""
    from airflow_facefog.core import verify

    patch.setattr(verify, "verify", lambda *_: verify.Verdict(False, 1.0, 9.0, 9.0, ("V3",)))
    return batch(world, policy={"on_bad_image": "fail"})


def breaks(module: str, name: str) -> Step:
    """A library call that raises and quotes its arguments."""

    def step(world: World, patch: pytest.MonkeyPatch) -> Any:
        def fail(*values: Any, **more: Any) -> Any:
            error = RuntimeError(f"bad {values} {more}")
            error.add_note(f"while working on {values}")
            raise error

        patch.setattr(f"{module}.{name}", fail)
        return finish(world)

    return step


def unreadable(world: World, patch: pytest.MonkeyPatch) -> Any:
    """The source cannot be listed."""
    patch.setattr("os.scandir", lambda path: (_ for _ in ()).throw(OSError(errno.EIO, "I/O error", str(path))))
    return batch(world)


def down(part: str) -> Step:
    """A store that fails for some keys."""

    def step(world: World, patch: pytest.MonkeyPatch) -> Any:
        fails_at(patch, part, errno.ENOSPC)
        return finish(world)

    return step


STEPS: dict[str, Step] = {
    "corrupt_image": corrupt,
    **{f"detector_{fault}": lambda world, _, fault=fault: batch(world, faulty(fault))
       for fault in ("value", "memory", "interrupt", "distrust")},
    **{f"detector_{fault}_one_thread": lambda world, _, fault=fault: batch(world, faulty(fault), workers=1)
       for fault in ("value", "memory", "interrupt")},
    **{f"detector_{fault}_in_child": lambda world, _, fault=fault: batch(world, faulty(fault), isolated=True)
       for fault in ("value", "memory")},
    "detector_value_staged": lambda world, _: staged(world, "value"),
    "detector_interrupt_staged": lambda world, _: staged(world, "interrupt"),
    "verify_says_no": verify_says_no,
    "verify_breaks": breaks("airflow_facefog.core.verify", "verify"),
    "decoder_breaks": breaks("airflow_facefog.core.codec", "decode"),
    "encoder_breaks": breaks("airflow_facefog.core.codec", "encode"),
    "fog_breaks": breaks("airflow_facefog.core.fog", "fog"),
    "rows_break": breaks("airflow_facefog.audit.parquet", "to_parquet"),
    "layout_breaks": breaks("airflow_facefog.publish.layout", "output_key"),
    "snapshot_breaks": breaks("airflow_facefog.publish.snapshots", "commit_snapshot"),
    "listing_fails": unreadable,
    "plan_store_full": down("/plans/"),
    "intent_store_full": down("intent-"),
    "object_store_full": down("/clean/data/"),
    "commit_store_full": down("/commits/"),
    "snapshot_store_full": down("/snapshots/"),
    "sql_breaks": lambda world, _: finish(world, BrokenSql()),
}  # fmt: skip


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS.keys())
def test_no_error_carries_what_it_worked_on(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, step: Step
) -> None:
    """Errors of every stage, captured with all locals, causes and contexts, hold no pixels, bytes, names or keys."""
    caplog.set_level(logging.DEBUG)
    with monkeypatch.context() as patch, pytest.raises(BaseException) as caught:  # noqa: PT011 - of any class
        step(world, patch)
    assert not re.search("AttributeError|NameError|TypeError|KeyError|ImportError|AssertionError", repr(caught.value))
    assert find_leaks(captured(caught.value), world, SECRETS) == []
    assert find_leaks(log_text(caplog), world, SECRETS) == []


def log_text(caplog: pytest.LogCaptureFixture) -> str:
    """All log records with their arguments and tracebacks."""
    return "\n".join(f"{r.getMessage()} {r.args!r} {r.exc_text} {r.exc_info}" for r in caplog.records)


def test_the_capture_finds_what_an_unsealed_error_holds(world: World) -> None:
    """The counter-check: without a seal, frames of the decoder hold raw bytes, and the search sees them, names and keys."""
    from airflow_facefog.core import codec

    path = next((world.raw / "familie_muster").iterdir())
    with pytest.raises(ImageError) as caught:
        codec.decode(RawImage(path.read_bytes()[:-40], "id"), load_policy(None).limits)
    assert "raw bytes" in find_leaks(captured(caught.value), world, SECRETS)
    text = f"{path} {MASTER!r} {KEYS.fog.hex()} {np.zeros((2, 2, 3), np.uint8)!r}"
    assert {found.partition(":")[0] for found in find_leaks(text, world, SECRETS)} == {
        "anna_muster", "familie_muster", "master", "k_fog", "pixels",
    }  # fmt: skip


def test_reprs_and_results_tell_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """What a caller can print of plans, jobs, engines, pictures and results holds no pixels, bytes, names or keys."""
    from jobkit import MarkerDetector

    from airflow_facefog.core.pipeline import cover, look
    from airflow_facefog.job.listing import list_source
    from airflow_facefog.job.opening import make_engine
    from airflow_facefog.publish.done import DoneIndex

    caplog.set_level(logging.DEBUG)
    photos = sorted((world.raw / "familie_muster").iterdir())
    request = world.request(source=Place.parse(photos[0]), sources=tuple(map(str, photos)))
    objects: list[Any] = [request, KEYS, preview(request, KEYS)]
    objects += [list_source(Place.parse(world.raw), None, open_root_plain)]
    (ref,) = make_plan(world.request(), KEYS)
    job = open_job(ref["plan"], ref["batch"], KEYS, open_root_plain, None)
    raw = job.source.read(job.items[0], KEYS)
    looked = look(raw, MarkerDetector(), job.plan.policy)
    covered = cover(raw, looked.picture, looked.detections, job.plan.policy, KEYS)
    engine = make_engine(job, isolate=False)
    objects += [ref, job, job.plan, job.items, raw, looked, looked.picture, looked.picture.header, covered, engine]
    objects += [
        engine.process(raw, None),
        make_engine(job, isolate=True),
        DoneIndex.load(job.destination, job.audit, "default", None, recipe_hash=job.plan.recipe_hash, source_refs=[]),
    ]
    seen = detect_batch(ref["plan"], ref["batch"], attempt=attempt(), keys=KEYS)
    objects += [seen, fog_detected_batch(ref["plan"], ref["batch"], seen["predictions"], attempt=attempt(), keys=KEYS)]
    objects += [finalise(ref["plan"], attempt=attempt(), keys=KEYS)]
    for value in objects:
        assert find_leaks(repr(value) + str(value), world, SECRETS) == [], type(value)
    assert find_leaks(log_text(caplog), world, SECRETS) == []


def note_writes(root: str, isolated: bool) -> None:
    """Child process: a run in which every file opened for writing is noted, without a temporary folder to write to."""
    import sys
    import tempfile

    world, written = World(Path(root)), []
    (world.root / "no_folder").write_text("a file: nothing can be created below it")
    os.environ["TMPDIR"], tempfile.tempdir = str(world.root / "no_folder" / "x"), str(world.root / "no_folder" / "x")

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(args[0], str) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            written.append(args[0])
        elif event.startswith("tempfile."):
            written.append(f"{event} {args}")

    sys.addaudithook(hook)
    batch(world, isolated=isolated)
    seen = list(written)
    (world.root / "written.json").write_text(json.dumps(seen))


@pytest.mark.parametrize("isolated", [False, True])
def test_nothing_raw_is_written_to_a_temporary_file(tmp_path: Path, isolated: bool) -> None:
    """Every file opened for writing lies in destination or audit; all formats work without any temporary folder."""
    world = private_world(tmp_path)
    formats = (
        "jpeg_444",
        "png_rgb",
        "png_rgb16",
        "webp_lossless",
        "tiff_rgb",
        "bmp_rgb",
        "avif_rgb",
        "heic_rgb",
        "jpeg_cmyk",
    )
    for name in formats:
        corpus_file(world.raw, name)
    assert ended(process(note_writes, str(world.root), isolated)) == 0
    written = [path for path in json.loads((world.root / "written.json").read_text()) if "__pycache__" not in path]
    allowed = (f"{world.clean}/", f"{world.audit}/", "/dev/null", "/proc/self/")
    assert [path for path in written if not path.startswith(allowed)] == []
    assert len([path for path in written if path.startswith(f"{world.clean}/data/")]) == len(formats) + 2
