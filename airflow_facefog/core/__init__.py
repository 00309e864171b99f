"""The pure half: bytes, arrays, records, geometry. Never imports airflow.

Light modules (``errors``, ``records``, ``policy``, ``keys``, ``raw``, ``boxes``, ``regions``, ``detector``) are safe at
Dag-parse time; ``codec``, ``fog`` and ``verify`` load numpy and cv2 and are imported inside functions only.
"""
