"""Detect and fog sensitive regions in images, from Airflow Dags, with an audit of every prediction.

Import what you need from its room: ``airflow_facefog.task_groups.fog_images`` for Dags,
``airflow_facefog.publish.snapshots.open_dataset`` for consumers. Importing this package loads nothing else.
"""

__version__ = "0.1.0"
