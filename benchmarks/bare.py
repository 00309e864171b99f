"""The same steps called bare: what any careful program must do for one photo, with nothing around it.

Read, sha256, decode, detect, encode at the same quality and sampling, decode the output, compare the whole frame, sha256.
The functions are the very ones that the job calls. No fog, no write, no record. The comparison is OpenCV's L2 norm over
all pixels and channels, the cheapest one that gives a PSNR.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import simplejpeg

from airflow_facefog.core.codec.decode_jpeg import decode_strict
from airflow_facefog.core.detector import Detector
from benchmarks.photos import QUALITY, SAMPLING
from benchmarks.whole import POLICY


def bare(paths: Sequence[Path], detector: Detector, threads: int) -> None:
    """All steps, for every photo, on ``threads`` threads."""
    _each(paths, threads, lambda path: _all_steps(path, detector))


def core_only(paths: Sequence[Path], detector: Detector, threads: int) -> None:
    """Decode + detect + encode alone."""
    _each(paths, threads, lambda path: _encoded(path.read_bytes(), detector))


def _each(paths: Sequence[Path], threads: int, step: Callable[[Path], object]) -> None:
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(step, paths))


def _all_steps(path: Path, detector: Detector) -> float:
    data = path.read_bytes()
    hashlib.sha256(data).hexdigest()
    pixels, encoded = _encoded(data, detector)
    difference = cv2.norm(decode_strict(encoded, "BGR"), pixels, cv2.NORM_L2SQR)
    hashlib.sha256(encoded).hexdigest()
    return difference


def _encoded(data: bytes, detector: Detector) -> tuple[np.ndarray, bytes]:
    pixels = decode_strict(data, "BGR")
    detector.detect(pixels, POLICY.record_floor)
    return pixels, simplejpeg.encode_jpeg(pixels, QUALITY, "BGR", SAMPLING, fastdct=False)
