"""Runs inside deface's environment: print what deface 1.5.0 with its defaults would cover in each picture.

usage: deface_masks.py OUTPUT_FOLDER PICTURE...   One PNG for each picture, 255 = covered.

deface's own code decides: its detector on the picture, then its own drawing on a frame of noise; what changed is covered.
"""

from __future__ import annotations

import sys
from pathlib import Path

import imageio.v2 as iio
import numpy as np
from deface.centerface import CenterFace
from deface.deface import anonymize_frame


def main(output: Path, pictures: list[Path]) -> None:
    """As ``deface PICTURE`` does it: threshold .2, mask scale 1.3, ellipses, blur, full resolution."""
    detector = CenterFace(in_shape=None, backend="auto")
    for number, path in enumerate(pictures):
        frame = iio.imread(path)
        colour = frame if frame.ndim == 3 else np.repeat(frame[:, :, None], 3, axis=2)
        found, _ = detector(np.ascontiguousarray(colour[:, :, :3]), threshold=0.2)
        noise = np.random.default_rng(0).integers(0, 256, (*frame.shape[:2], 3), np.uint8)
        drawn = noise.copy()
        anonymize_frame(
            found, drawn, mask_scale=1.3, replacewith="blur", ellipse=True, draw_scores=False, replaceimg=None,
            mosaicsize=20,
        )  # fmt: skip
        covered = (drawn != noise).any(axis=2)
        iio.imwrite(output / f"{number}.png", (covered * 255).astype(np.uint8))


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
