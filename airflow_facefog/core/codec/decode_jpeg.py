"""JPEG pixels through libjpeg-turbo, strict: a short, cut or desynchronised scan is an error, never half a gray frame.

cv2 and Pillow return such files as pictures without a word (measured), so neither is ever asked. A flipped bit that
leaves the code words in step cannot be seen in a JPEG by anyone; what it decodes to is what gets looked at and published.
"""

from __future__ import annotations

import numpy as np
import simplejpeg

from airflow_facefog.core.codec.picture import Header, Pixels, corrupt, truncated, unsupported


def decode(data: bytes, header: Header) -> Pixels:
    """Stored frame as (h, w) gray, (h, w, 3) BGR or (h, w, 4) CMYK (0 = no ink), uint8.

    Raises ImageError: TRUNCATED, CORRUPT, UNSUPPORTED_FORMAT (a sampling that libjpeg-turbo cannot name).
    """
    colour = {1: "GRAY", 3: "BGR", 4: "CMYK"}[header.channels]
    try:
        pixels = decode_strict(data, colour)
    except ValueError as error:
        raise _refusal(str(error)) from None
    if header.inverted:
        np.subtract(255, pixels, out=pixels)
    return pixels[:, :, 0] if header.channels == 1 else pixels


def decode_strict(data: bytes, colour: str) -> Pixels:
    """(h, w, 1|3|4) in ``colour`` (GRAY, BGR, CMYK) with the accurate DCT and chroma filter that every viewer uses.

    Raises ValueError for whatever libjpeg would only have warned about.
    """
    return np.asarray(simplejpeg.decode_jpeg(data, colour, fastdct=False, fastupsample=False, strict=True), np.uint8)


def _refusal(said: str) -> Exception:
    if "Premature end of JPEG" in said:
        return truncated("this JPEG ends before its picture does")
    if "subsampling" in said.lower() or "sampling" in said.lower():
        return unsupported("this JPEG's chroma sampling is not read; convert it to 4:2:0 or 4:4:4 first")
    return corrupt("this JPEG's compressed data is damaged")
