"""Bytes ↔ pixels: probe, decode, encode, decode_output, check_container. Heavy: imports numpy, cv2, Pillow.

Sources are judged by their bytes alone (magic, header limits, strict decoding); outputs are written from pixels alone.
"""

from airflow_facefog.core.codec.container import check_container
from airflow_facefog.core.codec.decode import decode
from airflow_facefog.core.codec.encode import decode_output, encode
from airflow_facefog.core.codec.picture import Encoded, Header, Picture, Pixels
from airflow_facefog.core.codec.probe import probe

__all__ = [
    "Encoded",
    "Header",
    "Picture",
    "Pixels",
    "check_container",
    "decode",
    "decode_output",
    "encode",
    "probe",
]
