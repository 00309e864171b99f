"""The same result in two stages: detect first, fog from the stored predictions. The published bytes are the same.

Use it when detection and fogging want different machines (``queue=``, ``pool=``), or to look at predictions before any
image is published. A batch that fails in one stage holds up no other batch.
"""

from airflow.sdk import Param, dag

from airflow_facefog.task_groups import fog_images

LAKE = "{{ var.value.get('facefog_lake', '/tmp/facefog') }}"


@dag(schedule=None, params={"min_confidence": Param(0.25, type="number", minimum=0.1, maximum=0.5)}, tags=["facefog"])
def fog_staged():
    fog_images(
        source=LAKE + "/raw/**/*.jpg",
        destination=LAKE + "/clean",
        audit=LAKE + "/audit",
        policy={"name": "staged", "rules": {"face": {"min_confidence": "{{ params.min_confidence }}"}}},
        detector="local",
        key_conn_id="facefog_key",
        staged=True,
        dataset="staged",
        batch_images=100,
    )


fog_staged()
