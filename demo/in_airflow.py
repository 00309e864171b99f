"""Run one Dag file in this process with Airflow's own machinery (metadata database, templates, task runner, assets).

Started by run_demo.py in an environment of its own. Exit 0 when the Dag run succeeded, 1 when it did not.
"""

from __future__ import annotations

import sys


def main(dag_file: str, dag_id: str) -> int:
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
    from airflow.utils import db

    db.initdb()
    DagBundlesManager().sync_bundles_to_db()
    bag = DagBag(dag_folder=dag_file)
    if dag_id not in bag.dags:
        print(f"{dag_id} could not be loaded: {bag.import_errors}")
        return 1
    sync_bag_to_db(bag, "dags-folder", None)
    run = bag.dags[dag_id].test()
    print(f"{dag_id}: {run.state}")
    return int(run.state != "success")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
