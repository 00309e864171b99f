"""From decisions to patches: which masks, in which order, from which pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from airflow_facefog.core.fog.linkable import render_blur, render_pixelate
from airflow_facefog.core.fog.masks import Mask, Pixels, covered_grid, expand, mask_of
from airflow_facefog.core.fog.noise import seed
from airflow_facefog.core.fog.published import Published
from airflow_facefog.core.fog.render import render_fill, render_fog
from airflow_facefog.core.keys import KeyRing
from airflow_facefog.core.policy import FogPolicy, Method, Shape
from airflow_facefog.core.records import IntXYXY
from airflow_facefog.core.regions import Decided, Decision

PASTE_ORDER = (Method.BLUR, Method.PIXELATE, Method.FOG, Method.FILL)
"""Where masks overlap the stronger method is pasted later and wins."""

NEUTRAL = 128


@dataclass(frozen=True, eq=False, slots=True)
class Layer:
    """One mask to cover and how."""

    method: Method
    mask: Mask


@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Patch:
    """A rendered layer: ``pixels`` for the whole box of the mask, of which only the covered ones are pasted."""

    layer: Layer
    pixels: Pixels

    def paste(self, target: Pixels, origin: tuple[int, int] = (0, 0)) -> None:
        """Write the covered pixels into ``target``, whose first pixel is at ``origin`` (x, y) of the picture."""
        x1, y1, x2, y2 = self.layer.mask.box
        box = _common(
            (x1, y1, x2, y2), (origin[0], origin[1], origin[0] + target.shape[1], origin[1] + target.shape[0])
        )
        if box[2] <= box[0] or box[3] <= box[1]:
            return
        there = target[box[1] - origin[1] : box[3] - origin[1], box[0] - origin[0] : box[2] - origin[0]]
        here = self.pixels[box[1] - y1 : box[3] - y1, box[0] - x1 : box[2] - x1]
        if self.layer.mask.full:
            there[...] = here
        else:
            there[...] = cv2.copyTo(here, expand(self.layer.mask.grid, (x1, y1), box), there.copy())


def layers_of(decided: Decided) -> tuple[Layer, ...]:
    """Distinct masks of the fogged decisions, in the order in which they are pasted."""
    distinct: dict[object, Decision] = {}
    for decision in decided.fogged:
        outline = None if decision.shape is Shape.BOX else (decision.margin_box, decision.hull, decision.polygon)
        distinct.setdefault((decision.method, decision.region, decision.shape, outline), decision)
    layers = [Layer(d.method, mask_of(d)) for d in distinct.values() if d.method is not None]
    return tuple(sorted(layers, key=lambda layer: PASTE_ORDER.index(layer.method)))


def render_layers(
    layers: Sequence[Layer], pixels: Pixels, policy: FogPolicy, keys: KeyRing, cid: bytes
) -> tuple[Patch, ...]:
    """Render every layer from the original ``pixels`` (h, w), (h, w, 3) BGR or (h, w, 4) BGRA.

    Fog and fill see published pixels only; mosaic and blur see their own box with the irreversible masks blanked.
    """
    height, width = pixels.shape[:2]
    base = Published(pixels, covered_grid((layer.mask for layer in layers), height, width))
    strong = covered_grid((layer.mask for layer in layers if not layer.method.linkable), height, width)
    seeds = {method: seed(keys.fog, method.value, cid) for method in {layer.method for layer in layers}}
    patches = []
    for layer in layers:
        if layer.method is Method.FOG:
            patch = render_fog(layer.mask, base, seeds[Method.FOG])
        elif layer.method is Method.FILL:
            patch = render_fill(layer.mask, base, policy.fill_color)
        else:
            draw = render_pixelate if layer.method is Method.PIXELATE else render_blur
            patch = draw(layer.mask, _inside(pixels, strong, layer.mask.box), seeds[layer.method])
        patches.append(Patch(layer, patch))
    return tuple(patches)


def _inside(pixels: Pixels, strong: Pixels, box: IntXYXY) -> Pixels:
    inside = pixels[box[1] : box[3], box[0] : box[2]].copy()
    inside[expand(strong, (0, 0), box) > 0] = NEUTRAL
    return np.ascontiguousarray(inside)


def _common(a: IntXYXY, b: IntXYXY) -> IntXYXY:
    return max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])
