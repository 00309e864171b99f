"""Everything to sRGB (or plain gray), so that no output ever needs a colour profile.

A source's ICC bytes are never copied: a thumbnail survives in a private tag. Of the two safe ways, converting is the
simpler: no profile is written, so the walker accepts none, and detector, verifier and consumers read the same colours.
The price is a listed exception (``icc_to_srgb``) and ~10 ms per megapixel for files that carry another space.
"""

from __future__ import annotations

import hashlib
import threading
from io import BytesIO

import cv2
import numpy as np
from PIL import Image, ImageCms

from airflow_facefog.core.codec.picture import Header, Pixels

_SAME = 2
"""A profile whose 8-bit answers are all within this many levels of sRGB's is sRGB (rounding of lcms)."""
_KEPT = 8

_lock = threading.Lock()
_transforms: dict[bytes, ImageCms.ImageCmsTransform | None] = {}


def to_srgb(frame: Pixels, header: Header) -> tuple[Pixels, tuple[str, ...]]:
    """Convert a decoded frame by its profile: (h, w[, 3|4]) stays in its layout, CMYK (0 = no ink) becomes BGR.

    Returns the frame and the listed exceptions. A damaged or foreign profile is ignored: the frame is read as sRGB.
    """
    mode = "CMYK" if header.cmyk else "L" if frame.ndim == 2 else "RGB"
    changes: tuple[str, ...] = ()
    transform = None
    if header.icc is not None:
        try:
            transform = _transform(header.icc, mode)
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            changes = ("icc_ignored",)
    if mode == "CMYK":
        return _from_cmyk(frame, transform), ("cmyk_to_rgb", *changes)
    if transform is None:
        return frame, changes
    return _apply(frame, transform, mode), ("icc_to_srgb",)


def _transform(icc: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Transform from ``icc`` to sRGB for ``mode`` pixels; None when that would change nothing. Keeps the last few."""
    key = hashlib.sha256(mode.encode() + icc).digest()
    with _lock:
        if key in _transforms:
            return _transforms[key]
    made: ImageCms.ImageCmsTransform | None = ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(BytesIO(icc)), ImageCms.createProfile("sRGB"), mode, "RGB"
    )
    if made is not None and mode != "CMYK" and _is_identity(made, mode):
        made = None
    with _lock:
        while len(_transforms) >= _KEPT:
            _transforms.pop(next(iter(_transforms)))
        _transforms[key] = made
    return made


def _is_identity(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    levels = np.arange(0, 256, 17).astype(np.uint8)
    if mode == "L":
        probe = levels[None, :]
        expected = np.repeat(probe[:, :, None], 3, axis=2)
    else:
        grid = np.meshgrid(levels, levels, levels, indexing="ij")
        probe = expected = np.stack(grid, axis=-1).reshape(16, 256, 3)
    image = ImageCms.applyTransform(Image.fromarray(np.ascontiguousarray(probe)), transform)
    assert image is not None
    return int(np.abs(np.asarray(image, np.int16) - expected).max()) <= _SAME


def _apply(frame: Pixels, transform: ImageCms.ImageCmsTransform, mode: str) -> Pixels:
    source = frame if mode == "L" else cv2.cvtColor(frame[:, :, :3], cv2.COLOR_BGR2RGB)
    image = ImageCms.applyTransform(Image.fromarray(np.ascontiguousarray(source)), transform)
    assert image is not None
    converted = np.asarray(image)
    if mode == "L":
        return np.ascontiguousarray(converted[:, :, 1])
    bgr = np.asarray(cv2.cvtColor(converted, cv2.COLOR_RGB2BGR), np.uint8)
    return bgr if frame.shape[2] == 3 else np.dstack((bgr, frame[:, :, 3]))


def _from_cmyk(frame: Pixels, transform: ImageCms.ImageCmsTransform | None) -> Pixels:
    size = (frame.shape[1], frame.shape[0])
    image: Image.Image | None = Image.frombuffer("CMYK", size, np.ascontiguousarray(frame), "raw", "CMYK", 0, 1)
    assert image is not None
    image = image.convert("RGB") if transform is None else ImageCms.applyTransform(image, transform)
    assert image is not None
    return np.asarray(cv2.cvtColor(np.asarray(image), cv2.COLOR_RGB2BGR), np.uint8)
