"""Let the inference server fetch its model: one gray picture, nobody in it. Runs once, in the service ``warm``.

``FACEFOG_MODEL`` names the model, ``FACEFOG_ROBOFLOW_URL`` the server, ``FACEFOG_ROBOFLOW_API_KEY`` pays for the download.
"""

from __future__ import annotations

import os
import sys

from airflow_facefog.core.errors import FogError

SIDE = 640
GRAY = 128


def main() -> int:
    """Ask once; 1 with the reason when the server could not load the model."""
    import numpy as np

    from airflow_facefog.detectors.roboflow.access import access_from_env
    from airflow_facefog.detectors.roboflow.detector import RoboflowDetector

    model = os.environ["FACEFOG_MODEL"]
    try:
        RoboflowDetector(model, access_from_env()).detect(np.full((SIDE, SIDE, 3), GRAY, np.uint8), 0.5)
    except FogError as error:
        sys.stderr.write(f"{model} is not loaded: {error}\n")
        return 1
    sys.stdout.write(f"{model} is loaded; its weights are in the volume `models`\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
