"""Thin operators: each calls exactly one step of ``job/``. Importing them loads no numpy, cv2, pyarrow or model code."""

from airflow_facefog.operators.batches import DetectImagesOperator, FogDetectedOperator, FogImagesOperator
from airflow_facefog.operators.listing import ListImagesOperator
from airflow_facefog.operators.prove import ProveOperator
from airflow_facefog.operators.publish import PublishOperator

__all__ = [
    "DetectImagesOperator",
    "FogDetectedOperator",
    "FogImagesOperator",
    "ListImagesOperator",
    "ProveOperator",
    "PublishOperator",
]
