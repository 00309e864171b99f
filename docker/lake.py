"""The three buckets: make them, prove who may do what, put photos in. Runs in the services ``lake-init`` and ``put``.

    python lake.py init     make the buckets, then check; nothing else of the stack starts when a check fails
    python lake.py check    hold the running store against RIGHTS, and against what publishing needs of it
    python lake.py put DIR  copy a folder into the raw bucket

``LAKE_URL`` names the store, ``LAKE_USERS`` a JSON file ``{user: {"access": …, "secret": …}}``.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

RIGHTS = {
    "uploader": {"raw": "Write List"},
    "fogger": {"raw": "Read List", "clean": "Read Write List", "audit": "Read Write List"},
    "consumer": {"clean": "Read List"},
    "auditor": {"audit": "Read List"},
}
"""Who may do what in which bucket. Nobody else may do anything, and nobody who may read ``clean`` alone sees ``raw``."""
BUCKETS = ("raw", "clean", "audit")
PROBE = "_rights/probe"
INNER_PORTS = (8080, 8888, 9333, 18080, 18888, 19333)
"""SeaweedFS's volume, filer and master servers: they ask nobody for a key, so nobody may reach them."""
RACERS = 8


class LakeError(Exception):
    """The store is not as RIGHTS says, or cannot be asked."""


def main(arguments: list[str]) -> int:
    """Run one command; 1 with the reason when it failed, 2 when there is no such command."""
    commands: dict[str, Callable[..., str]] = {"init": init, "check": check, "put": put}
    if not arguments or arguments[0] not in commands:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    try:
        sys.stdout.write(f"{commands[arguments[0]](*arguments[1:])}\n")
    except LakeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def init() -> str:
    """Make what is missing, then check."""
    admin = client("admin")
    there = {bucket["Name"] for bucket in admin.list_buckets()["Buckets"]}
    for bucket in BUCKETS:
        if bucket not in there:
            admin.create_bucket(Bucket=bucket)
    return check()


def check() -> str:
    """Raise LakeError unless each user has just the rights that it should have, and one of many writers wins."""
    admin = client("admin")
    wrong = list(open_doors())
    try:
        for bucket in BUCKETS:
            admin.put_object(Bucket=bucket, Key=PROBE, Body=b"nothing")
        wrong += [line for user in (*RIGHTS, "anonymous") for line in wrong_rights(user)]
        wrong += [line for bucket in ("clean", "audit") for line in lost_races(bucket)]
    finally:
        for bucket in BUCKETS:
            for item in admin.list_objects_v2(Bucket=bucket, Prefix="_rights/").get("Contents", []):
                admin.delete_object(Bucket=bucket, Key=item["Key"])
    if wrong:
        raise LakeError("the store is not safe to use:\n  " + "\n  ".join(wrong))
    return f"{len(RIGHTS)} users have their rights in {len(BUCKETS)} buckets and no others"


def put(folder: str) -> str:
    """Copy files that the raw bucket does not have yet, under their path below ``folder``."""
    uploader, root = client("uploader"), Path(folder)
    pages = uploader.get_paginator("list_objects_v2").paginate(Bucket="raw")
    there = {item["Key"]: item["Size"] for page in pages for item in page.get("Contents", [])}
    copied = 0
    for path in sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink()):
        key = path.relative_to(root).as_posix()
        if there.get(key) != path.stat().st_size:
            uploader.put_object(Bucket="raw", Key=key, Body=path.read_bytes())
            copied += 1
    return f"{copied} files copied, {len(there)} were in the bucket before"


def wrong_rights(user: str) -> Iterator[str]:
    """One line per bucket and right that ``user`` has and should not have, or the other way round."""
    store = client(user)
    for bucket in BUCKETS:
        tries: dict[str, Callable[[], Any]] = {
            "List": lambda bucket=bucket: store.list_objects_v2(Bucket=bucket, MaxKeys=1),
            "Read": lambda bucket=bucket: store.get_object(Bucket=bucket, Key=PROBE)["Body"].read(),
            "Write": lambda bucket=bucket: store.put_object(Bucket=bucket, Key=f"_rights/{user}", Body=b"nothing"),
        }
        wanted = RIGHTS.get(user, {}).get(bucket, "").split()
        for right, attempt in tries.items():
            if may(attempt) != (right in wanted):
                yield f"{user} {'may not' if right in wanted else 'may'} {right.lower()} {bucket}"


def lost_races(bucket: str) -> Iterator[str]:
    """A line unless exactly one of several exclusive creates of one key wins: publishing is built on it."""
    store = client("fogger")

    def create(number: int) -> bool:
        return may(lambda: store.put_object(Bucket=bucket, Key="_rights/race", Body=bytes([number]), IfNoneMatch="*"))

    with ThreadPoolExecutor(RACERS) as pool:
        winners = sum(pool.map(create, range(RACERS)))
    if winners != 1:
        yield f"{winners} of {RACERS} writers created the same object in {bucket}; it takes a store with If-None-Match"


def open_doors() -> Iterator[str]:
    """A line per inner port of the store that answers from here."""
    host = urlsplit(os.environ["LAKE_URL"]).hostname or ""
    for port in INNER_PORTS:
        try:
            socket.create_connection((host, port), timeout=2).close()
        except OSError:
            continue
        yield f"port {port} of the store answers: it asks for no key and shows all buckets"


def may(attempt: Callable[[], Any]) -> bool:
    """Whether the store lets it happen. Raises LakeError for everything that is neither yes nor no."""
    from botocore.exceptions import BotoCoreError, ClientError

    refused = {401, 403, 409, 412}
    try:
        attempt()
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if status in refused:
            return False
        raise LakeError(f"the store answered {status} where yes or no was expected") from None
    except BotoCoreError as error:
        raise LakeError(f"the store cannot be asked ({type(error).__name__})") from None
    return True


def client(user: str) -> Any:
    """An S3 client that signs as ``user``; as nobody for ``anonymous``."""
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config

    options: dict[str, Any] = {"s3": {"addressing_style": "path"}, "retries": {"max_attempts": 3}}
    keys: dict[str, str] = {}
    if user == "anonymous":
        options["signature_version"] = UNSIGNED
    else:
        known = json.loads(Path(os.environ["LAKE_USERS"]).read_text())[user]
        keys = {"aws_access_key_id": known["access"], "aws_secret_access_key": known["secret"]}
    return boto3.client(
        "s3", endpoint_url=os.environ["LAKE_URL"], region_name="us-east-1", config=Config(**options), **keys
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
