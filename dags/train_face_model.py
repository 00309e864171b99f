"""From a public dataset to the model that fog_with_roboflow.py uses: download, upload, version, train, measure, gate.

Needs the connection ``roboflow_default`` and a project of your own (``project``). Every step may be retried or cleared: what
an earlier try did is found again. The model becomes the default, the Airflow variable ``facefog_model``, only if its mAP
is good enough.
"""

from datetime import timedelta

from airflow.sdk import Param, dag, task

from airflow_facefog.operators.border import FogRetryPolicy
from airflow_facefog.operators.roboflow import (
    RoboflowDownloadDatasetOperator,
    RoboflowGenerateVersionOperator,
    RoboflowModelMetricsOperator,
    RoboflowTrainOperator,
    RoboflowUploadImagesOperator,
)

LAKE = "{{ var.value.get('facefog_lake', '/tmp/facefog') }}"
DATASET = LAKE + "/datasets/{{ params.dataset | replace('/', '.') }}.{{ params.dataset_version }}"
RETRYING = {"retries": 2, "retry_delay": timedelta(minutes=1), "retry_policy": FogRetryPolicy()}

PARAMS = {
    "dataset": Param("universe-people/open-faces", type="string", description="workspace/project on Universe"),
    "dataset_version": Param(1, type="integer", minimum=1),
    "project": Param("faces", type="string", description="your project; workspace/project, or of the key's workspace"),
    "model_type": Param("rfdetr-medium", type="string"),
    "epochs": Param(100, type="integer", minimum=1),
    "min_map50": Param(0.8, type="number", minimum=0, maximum=1),
}


@dag(schedule=None, params=PARAMS, default_args=RETRYING, max_active_runs=1, tags=["facefog", "roboflow"])
def train_face_model():
    download = RoboflowDownloadDatasetOperator(
        task_id="download",
        project="{{ params.dataset }}",
        version="{{ params.dataset_version }}",
        dataset_format="voc",
        folder=DATASET,
    )
    upload = RoboflowUploadImagesOperator(
        task_id="upload",
        project="{{ params.project }}",
        privacy="private",  # refuses a public project
        source=DATASET + "/train",
        annotations=DATASET + "/train",
        audit=LAKE + "/audit",
        batch="{{ params.dataset }}",
    )
    version = RoboflowGenerateVersionOperator(task_id="version", project="{{ params.project }}", deferrable=True)
    train = RoboflowTrainOperator(
        task_id="train",
        project="{{ params.project }}",
        version=version.output,
        model_type="{{ params.model_type }}",
        epochs="{{ params.epochs }}",
        deferrable=True,
    )
    metrics = RoboflowModelMetricsOperator(
        task_id="metrics",
        project="{{ params.project }}",
        version=version.output,
        destination=LAKE + "/models/{{ params.project | replace('/', '.') }}.{{ ti.xcom_pull('version') }}",
    )

    @task
    def promote(scores, params=None):
        from airflow.sdk import Variable
        from airflow.sdk.exceptions import AirflowFailException

        if scores["map50"] < params["min_map50"]:
            raise AirflowFailException(f"mAP {scores['map50']:.3f} is below {params['min_map50']}; the old model stays")
        Variable.set("facefog_model", scores["model_id"])

    download >> upload >> version >> train >> metrics >> promote(metrics.output)


train_face_model()
