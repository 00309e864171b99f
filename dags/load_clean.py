"""Keep a SQL table in step with the clean photos: runs whenever fog_photos.py published something.

A Dag run may stand for several events, and an event may come twice or late. So: all events are looked at, each manifest
is applied once, in the order of snapshots; when one is missing in between, the table is filled from the snapshot itself.
Photos that were withdrawn (refused by a later policy, gone from a mirrored source) leave the table.

The connection ``clean_photos_db`` names the database.
"""

from __future__ import annotations

from airflow.sdk import Asset, dag, task

CLEAN = Asset("clean_photos")
DATABASE = "clean_photos_db"
LAKE_CONN_ID = None  # the connection of the destination, when it is a bucket

TABLES = (
    "create table if not exists clean_photo (item_id varchar(64) primary key, uri text not null, sha256 char(64) not null)",
    "create table if not exists clean_photo_load (manifest_sha256 char(64) primary key, snapshot_seq integer not null)",
)


@dag(schedule=[CLEAN], catchup=False, max_active_runs=1, tags=["facefog"])
def load_clean():
    @task(retries=2)
    def apply_deltas(triggering_asset_events):
        from airflow.sdk import BaseHook
        from sqlalchemy import text

        events = [event.extra for events in triggering_asset_events.values() for event in events]
        engine = BaseHook.get_connection(DATABASE).get_hook().get_sqlalchemy_engine()
        with engine.begin() as db:  # one transaction: all of it, or nothing
            for table in TABLES:
                db.execute(text(table))
            for event in sorted((e for e in events if e["changed"]), key=lambda e: e["snapshot_seq"]):
                apply(db, event)

    apply_deltas()


def apply(db, event) -> None:
    """Apply one event, unless its manifest was loaded before or a later snapshot already holds it."""
    from sqlalchemy import text

    loaded = set(db.execute(text("select manifest_sha256 from clean_photo_load")).scalars())
    newest = db.execute(text("select max(snapshot_seq) from clean_photo_load")).scalar() or 0
    if event["manifest_sha256"] in loaded:
        return
    if event["snapshot_seq"] == newest + 1:
        for row in delta(event):
            put(db, row["item_id"], None if row["change"] == "withdrawn" else row)
    elif event["snapshot_seq"] > newest:
        db.execute(text("delete from clean_photo"))
        for row in snapshot(event):
            put(db, row["item_id"], row)
    db.execute(text("insert into clean_photo_load values (:manifest_sha256, :snapshot_seq)"), event)


def put(db, item_id, row) -> None:
    """Make the table hold this row for the item, or nothing."""
    from sqlalchemy import text

    db.execute(text("delete from clean_photo where item_id = :item_id"), {"item_id": item_id})
    if row is not None:
        db.execute(text("insert into clean_photo values (:item_id, :uri, :sha256)"), row)


def delta(event) -> list[dict]:
    """Rows of the run's delta: ``change`` is added, replaced or withdrawn."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from airflow_facefog.hooks.connections import open_root

    data = open_root(event["delta_uri"], LAKE_CONN_ID).read_bytes()
    return pq.read_table(pa.BufferReader(data)).to_pylist()


def snapshot(event) -> list[dict]:
    """All rows of the dataset as it was after the event."""
    from airflow_facefog.hooks.connections import open_root
    from airflow_facefog.publish.snapshots import open_dataset

    destination = event["delta_uri"].rpartition("/_facefog/")[0]
    return open_dataset(open_root(destination, LAKE_CONN_ID), version=event["snapshot_seq"]).to_pylist()


load_clean()
