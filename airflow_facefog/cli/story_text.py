"""One image's story as lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from airflow_facefog.cli.answers import printable

Row = Mapping[str, Any]


def lines(story: Row) -> Iterator[str]:
    """The story in order of time; control characters are replaced."""
    return map(printable, _lines(story))


def _lines(story: Row) -> Iterator[str]:
    for one in story["image_ids"]:
        yield f"image {one}"
    for ref in story["source_refs"]:
        name = story.get("sources", {}).get(ref)
        yield f"  item {ref}" + (f"  {name}" if name else "")
    for event in story["runs"]:
        yield ""
        yield from _event(event)
    for row in story["egress"]:
        yield ""
        yield (
            f"{row['sent_at']}  sent away: {row['kind']} to {row['host']}"
            + (f", project {row['project']}" if row["project"] else "")
            + f", {row['bytes']} bytes (run {row['run_key']}, attempt {row['attempt_id']})"
        )
    for row in story["amendments"]:
        yield ""
        yield (
            f"{row['at']}  record changed: {row['reason']} {row['request_id']} removed {row['rows_removed']} rows of"
            f" {row['part']} from run {row['run_key']}/{row['generation']}, chain entry {row['seq']} (it does not say whose)"
        )


def _event(event: Row) -> Iterator[str]:
    why = f" ({event['reason']})" if event["reason"] else ""
    yield f"{event['committed_at'] or event['listed_at']}  {event['status'].upper()}{why}"
    yield f"  run       {event['run_key']}/{event['generation']}  {event['dag_id']}  {event['run_id']}"
    yield f"  attempt   {event['attempt_id']}, try {event['try_number']}, batch {event['batch_id']}"
    yield f"  policy    {event['policy_name']}  {event['policy_hash']}"
    yield f"  model     {event['detector']}  {event['model_id']} {event['model_version']}  {event['model_sha256']}"
    yield f"  record    {_record(event)}"
    if event["error_class"]:
        yield f"  error     {event['error_class']}"
    if event["done_run_key"]:
        yield f"  done by   run {event['done_run_key']}"
    if event["duplicate_of"]:
        yield f"  same as   item {event['duplicate_of']}"
    for intent in event["intents"]:
        yield f"  intent    {intent['created_at']}  {intent['output_sha256']}  attempt {intent['attempt_id']}"
    yield from _output(event)
    for found in event["detections"]:
        yield f"  {_detection(found)}"
    if event["n_dropped"]:
        yield f"  and {event['n_dropped']} detections beyond the cap, none of them fogged"
    if event["status"] == "published" and not event["n_detections"]:
        yield "  no detection: published as it was seen"


def _record(event: Row) -> str:
    place = f"chain entry {event['seq']}" if event["seq"] else "its place in the chain is not known here"
    return f"{place}, manifest {event['manifest_sha256'] or 'none'}"


def _output(event: Row) -> Iterator[str]:
    if not event["output_uri"]:
        return
    shown = {True: "visible in the newest snapshot", False: "not in the newest snapshot", None: ""}[
        event["in_snapshot"]
    ]
    newest = "the newest word about this item" if event["newest"] else "a newer run decided otherwise"
    yield f"  output    {event['output_uri']}"
    yield f"            sha256 {event['output_sha256']}, {event['output_bytes']} bytes; {shown or newest}"
    checked = (
        "nothing to verify"
        if event["verify_coverage"] is None
        else f"verified, coverage {event['verify_coverage']:.3f}"
    )
    yield f"            {checked}{', fill replaced the first rendering' if event['refogged'] else ''}"


def _detection(row: Row) -> str:
    box = ", ".join(f"{row[name]:.1f}" for name in ("x1", "y1", "x2", "y2"))
    seen = f"{row['class_name']} {row['confidence']:.3f} (threshold {row['threshold']:.3f}) at [{box}] by {row['detector']}"
    if row["source"] == "human":
        seen += ", by a person"
    if row["action"] != "fogged":
        return f"visible   {seen}: {row['action']}"
    region = ", ".join(str(row[name]) for name in ("fx1", "fy1", "fx2", "fy2"))
    linkable = "" if row["irreversible"] else ", linkable"
    why = f", {row['reason']}" if row["reason"] else ""
    return f"fogged    {seen}: {row['method']} over [{region}]{linkable}{why}"
