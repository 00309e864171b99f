"""Fog photos with a Roboflow model: the one that train_face_model.py made the default, or any other.

The connection ``roboflow_default`` says where the model runs. With your own inference server nothing leaves the network.
With Roboflow's hosted API every raw photo is sent there: only a person who may decide that switches on
``allow_remote_inference`` for a run. A retry asks only about photos that have no stored answer yet. It runs without a master
key, so that the tutorial needs one connection only; in production name one, as fog_photos.py does.
"""

from airflow.sdk import Param, dag

from airflow_facefog.task_groups import fog_images

LAKE = "{{ var.value.get('facefog_lake', '/tmp/facefog') }}"

PARAMS = {
    "allow_remote_inference": Param(
        False, type="boolean", description="Send raw photos, with the people in them, to a server outside this network"
    ),
    "model_id": Param("", type="string", description="project/3; empty: the Airflow variable facefog_model"),
}


@dag(schedule=None, params=PARAMS, max_active_runs=1, tags=["facefog", "roboflow"])
def fog_with_roboflow():
    fog_images(
        source=LAKE + "/raw",
        destination=LAKE + "/clean",
        audit=LAKE + "/audit",
        policy={
            "name": "roboflow",
            "rules": {"face": {"min_confidence": 0.20}},  # Roboflow models are not calibrated: fog early
            "other_rule": {"min_confidence": 0.20},
            "accept_no_canary": True,  # any model may come: with one of your own, give the detector a "canary" instead
            "allow_remote_inference": "{{ params.allow_remote_inference }}",
        },
        detector={
            "kind": "roboflow",
            "model_id": "{{ params.model_id or var.value.facefog_model }}",
            "conn_id": "roboflow_default",
        },
        dataset="roboflow",
    )


fog_with_roboflow()
