"""Read what was published, on the worker that can read nothing else: its key opens the clean bucket alone."""

from airflow.sdk import Asset, dag, task


@dag(schedule=[Asset("clean_photos")], catchup=False, max_active_runs=1, tags=["facefog"])
def read_clean():
    """Starts after each publication."""

    @task
    def check_photos() -> dict[str, int]:
        """Fetch every photo of the newest snapshot; fail unless its bytes are the ones that were audited."""
        import hashlib

        from airflow_facefog.hooks.connections import open_root
        from airflow_facefog.publish.snapshots import open_dataset
        from airflow_facefog.publish.store import Store

        photos = open_dataset(Store(open_root("s3://clean/photos", "clean_store"))).to_pylist()
        for photo in photos:
            data = open_root(photo["uri"], "clean_store").read_bytes()
            if hashlib.sha256(data).hexdigest() != photo["sha256"]:
                raise ValueError("a photo in the clean bucket is not the one that was published")
        return {"photos": len(photos), "bytes": sum(photo["size"] for photo in photos)}

    check_photos()


read_clean()
