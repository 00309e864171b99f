"""Cover what was decided. Heavy (numpy, cv2): import it inside functions of the light half."""

from __future__ import annotations

from airflow_facefog.core.fog.layers import Layer, Patch, layers_of, render_layers
from airflow_facefog.core.fog.masks import Mask, Pixels
from airflow_facefog.core.keys import KeyRing
from airflow_facefog.core.policy import FogPolicy
from airflow_facefog.core.regions import FOG_VERSION, Decided

__all__ = ["FOG_VERSION", "Layer", "Mask", "Patch", "fog", "layers_of", "render_layers"]


def fog(pixels: Pixels, decided: Decided, policy: FogPolicy, keys: KeyRing, cid: bytes) -> Pixels:
    """Return a new array with every fogged decision covered, or ``pixels`` itself when there is none; it is not changed.

    ``pixels``: uint8 (h, w) grey, (h, w, 3) BGR or (h, w, 4) BGRA, upright. ``cid`` is ``keys.content_id`` of the source
    bytes. Inside a mask alpha becomes 255. All patches come from the original pixels, so order does not matter.
    """
    layers = layers_of(decided)
    if not layers:
        return pixels
    result = pixels.copy()
    for patch in render_layers(layers, pixels, policy, keys, cid):
        patch.paste(result)
    return result
