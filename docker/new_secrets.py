"""Make the secrets of docker/compose.yaml once, in docker/secrets/: ``python docker/new_secrets.py``.

Needs Python 3.11 and nothing else. Refuses to run twice: another master key would give every photo another id, another
database password would lock the database out. The folder is 0700, so other users of this machine cannot enter it; the
files in it are 0444, because each container reads the ones that are mounted into it as a user of its own.
"""

from __future__ import annotations

import base64
import json
import secrets
import sys
from pathlib import Path
from typing import Any

from lake import RIGHTS  # beside this file

FOLDER = Path(__file__).resolve().parent / "secrets"
STORE = "http://store:8333"


def main() -> int:
    """Write all files; 2 when there are some already."""
    if FOLDER.exists():
        sys.stderr.write(f"{FOLDER} exists; secrets are made once. Remove it only together with the stack's volumes.\n")
        return 2
    files = secret_files()
    FOLDER.mkdir(mode=0o700)
    for name, content in files.items():
        path = FOLDER / name
        path.write_text(content)
        path.chmod(0o444)
    sys.stdout.write(
        f"wrote {len(files)} files to {FOLDER}; keep a copy of fog_connections.json: it holds the master key\n"
    )
    return 0


def secret_files() -> dict[str, str]:
    """File name → content, all freshly made."""
    users = {name: {"access": secrets.token_hex(10), "secret": secrets.token_hex(20)} for name in ("admin", *RIGHTS)}
    database, broker = secrets.token_hex(24), secrets.token_hex(24)
    fernet = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    return {
        "postgres_password": database,
        "sql_alchemy_conn": f"postgresql+psycopg2://airflow:{database}@postgres:5432/airflow",
        "redis.conf": f'requirepass {broker}\nsave ""\nappendonly no\nmaxmemory-policy noeviction\n',
        "redis_password": broker,
        "broker_url": f"redis://:{broker}@redis:6379/0",
        "result_backend": f"redis://:{broker}@redis:6379/1",
        "fernet_key": fernet,
        "jwt_secret": secrets.token_hex(32),
        "api_secret_key": secrets.token_hex(32),
        "ui_passwords.json": json.dumps({"admin": secrets.token_urlsafe(18)}),
        "s3_identities.json": json.dumps({"identities": identities(users)}, indent=1),
        "lake_users.json": json.dumps(users),
        "put_user.json": json.dumps({"uploader": users["uploader"]}),
        "fog_connections.json": json.dumps(fog_connections(users["fogger"])),
        "clean_connections.json": json.dumps({"clean_store": s3_connection(users["consumer"])}),
    }


def identities(users: dict[str, dict[str, str]]) -> list[dict[str, Any]]:
    """The store's users with their rights per bucket, as SeaweedFS reads them."""
    actions = {"admin": ["Admin"]}
    for user, buckets in RIGHTS.items():
        actions[user] = [f"{right}:{bucket}" for bucket, rights in buckets.items() for right in rights.split()]
    return [
        {
            "name": name,
            "credentials": [{"accessKey": keys["access"], "secretKey": keys["secret"]}],
            "actions": actions[name],
        }
        for name, keys in users.items()
    ]


def fog_connections(keys: dict[str, str]) -> dict[str, Any]:
    """Connections of the only worker that sees raw photos."""
    places = {name: s3_connection(keys) for name in ("raw_store", "clean_store", "audit_store")}
    return {
        **places,
        "roboflow_default": {"conn_type": "roboflow", "host": "http://inference:9001"},
        "facefog_key": {"conn_type": "generic", "password": secrets.token_hex(32)},
        "facefog_signing_key": {"conn_type": "generic", "password": ed25519_pem()},
    }


def ed25519_pem() -> str:
    """A new Ed25519 private key in PEM form: the fixed PKCS#8 header of RFC 8410, then 32 random bytes."""
    der = bytes.fromhex("302e020100300506 032b657004220420") + secrets.token_bytes(32)
    kind = "PRIVATE KEY"
    return f"-----BEGIN {kind}-----\n{base64.b64encode(der).decode()}\n-----END {kind}-----\n"


def s3_connection(keys: dict[str, str]) -> dict[str, Any]:
    """An Airflow connection to the store."""
    extra = {"endpoint_url": STORE, "region_name": "us-east-1"}
    return {"conn_type": "aws", "login": keys["access"], "password": keys["secret"], "extra": extra}


if __name__ == "__main__":
    sys.exit(main())
