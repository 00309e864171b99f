"""``facefog …``: the same library as the operators, without Airflow. Parses, calls one function, prints; owns no logic."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the ``facefog`` script."""
    from airflow_facefog.cli.app import run

    sys.exit(run(sys.argv[1:]))
