"""Roboflow from Dags: search, download, upload, version, train, metrics, and a sensor. Light at import.

Every operator takes ``roboflow_conn_id`` (None: the worker's environment), fails at once on what a retry would repeat, and
may be retried: what an earlier try began is found again, what it finished is not done twice.
"""

from airflow_facefog.operators.roboflow.datasets import RoboflowDownloadDatasetOperator, RoboflowSearchUniverseOperator
from airflow_facefog.operators.roboflow.metrics import RoboflowModelMetricsOperator
from airflow_facefog.operators.roboflow.sensors import RoboflowModelVersionSensor
from airflow_facefog.operators.roboflow.training import RoboflowTrainOperator
from airflow_facefog.operators.roboflow.uploads import RoboflowUploadImagesOperator
from airflow_facefog.operators.roboflow.versions import RoboflowGenerateVersionOperator

__all__ = [
    "RoboflowDownloadDatasetOperator",
    "RoboflowGenerateVersionOperator",
    "RoboflowModelMetricsOperator",
    "RoboflowModelVersionSensor",
    "RoboflowSearchUniverseOperator",
    "RoboflowTrainOperator",
    "RoboflowUploadImagesOperator",
]
