"""docker/ as far as it can be proved without a Docker engine: parsed, compared with the code, and its store checks run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
DOCKER = ROOT / "docker"
TEXT = (DOCKER / "compose.yaml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (DOCKER / "Dockerfile").read_text()
SEES_RAW = {"worker-fog", "store", "lake-init", "inference", "put"}
OFFLINE = {name for name, network in COMPOSE["networks"].items() if network.get("internal")}
ROOT_AT_START = {"store", "inference", "inference-online"}
"""The store owns its volume and is then user seaweed; Roboflow's image has no user of its own. Neither has capabilities."""


def load(name: str) -> ModuleType:
    """A script of docker/ as a module."""
    sys.path.insert(0, str(DOCKER))
    try:
        return __import__(name)
    finally:
        sys.path.remove(str(DOCKER))


def secrets_of(service: str) -> set[str]:
    """Names of the secrets that a service is given."""
    given = SERVICES[service].get("secrets", [])
    return {item if isinstance(item, str) else item["source"] for item in given}


def pins(path: Path) -> dict[str, str]:
    """Normalised name → version. Fails for any line that is not one pin."""
    found = {}
    for line in path.read_text().splitlines():
        if line.startswith("#"):
            continue
        name, version = re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.!+]+)", line).groups()  # type: ignore[union-attr]
        found[re.sub(r"[-_.]+", "-", name).lower()] = version
    return found


@pytest.mark.parametrize(
    "image", sorted({s["image"] for s in SERVICES.values()} | set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.M)))
)
def test_images_are_pinned(image: str) -> None:
    """Every image names a version of its own, never a moving tag."""
    assert re.search(r":(slim-)?\d+\.\d+(\.\d+)?(-python\d\.\d+)?$", image)


def test_image_is_the_pinned_airflow() -> None:
    """The base image, its tag in the compose file and constraints.txt speak of one Airflow version."""
    version = pins(ROOT / "constraints.txt")["apache-airflow"]
    assert set(re.findall(r"^FROM apache/airflow:slim-([\d.]+)-python", DOCKERFILE, re.M)) == {version}
    assert {s["image"] for s in SERVICES.values() if "build" in s} == {f"airflow-facefog:{version}"}


def test_packages_are_pinned() -> None:
    """pip installs with constraints.txt and requirements.txt, which never say two things about one package."""
    assert "--constraint /tmp/pins/constraints.txt --requirement /tmp/pins/requirements.txt" in DOCKERFILE
    assert "pip check" in DOCKERFILE
    extra = pins(DOCKER / "requirements.txt")
    assert {"apache-airflow-providers-celery", "celery", "redis"} <= set(extra)
    assert not set(extra) & set(pins(ROOT / "constraints.txt"))


def test_copied_files_exist_and_are_let_in() -> None:
    """What the Dockerfile copies is in the repository, and the ignore file lets just that through."""
    ignore = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    copied = {
        path
        for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.M)
        for path in line.replace("--chown=airflow:0 ", "").split()[:-1]
    }
    assert all((ROOT / path).exists() for path in copied)
    assert ignore[1] == "*"
    assert {line[1:] for line in ignore if line.startswith("!")} == copied


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_hardened(service: str) -> None:
    """Every container: root file system read-only, no capabilities, no new privileges, no core dumps, no root user."""
    s = SERVICES[service]
    assert s["read_only"] is True
    assert s["cap_drop"] == ["ALL"]
    assert s["security_opt"] == ["no-new-privileges:true"]
    assert s["ulimits"] == {"core": 0}
    assert "privileged" not in s
    assert s.get("network_mode") is None
    if service in ROOT_AT_START:
        assert set(s.get("cap_add", [])) <= {"CHOWN", "SETGID", "SETUID"}
    else:
        assert int(s["user"].split(":")[0]) > 0
        assert "cap_add" not in s


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_healthchecks(service: str) -> None:
    """What runs for good has a health check; what ends is never restarted."""
    s = SERVICES[service]
    assert ("healthcheck" in s) or s["restart"] == "no"
    assert s["restart"] in ("no", "unless-stopped")


def test_dependencies_can_be_met() -> None:
    """Each dependency exists; to be healthy takes a health check, to complete takes a service that ends."""
    for s in SERVICES.values():
        for name, need in s.get("depends_on", {}).items():
            wanted = (
                "healthcheck" in SERVICES[name] if "healthy" in need["condition"] else SERVICES[name]["restart"] == "no"
            )
            assert wanted, name


def test_only_the_page_is_published() -> None:
    """One port reaches this machine, on its loopback; nothing shares the host's network."""
    published = {name: s["ports"] for name, s in SERVICES.items() if "ports" in s}
    assert published == {"api-server": ["127.0.0.1:${FACEFOG_UI_PORT:-8080}:8080"]}


@pytest.mark.parametrize("service", sorted(SEES_RAW))
def test_raw_photos_have_no_way_out(service: str) -> None:
    """Who can see raw photos is on networks without a way out of this machine only."""
    assert set(SERVICES[service]["networks"]) <= OFFLINE


def test_who_is_online_meets_no_photo() -> None:
    """The one service with internet shares no network with anybody who sees photos, and no volume but the weights."""
    online = {name for name, s in SERVICES.items() if "internet" in s["networks"]}
    assert online == {"inference-online"}
    near = set(SERVICES["inference-online"]["networks"])
    assert all(not near & set(SERVICES[name]["networks"]) for name in SEES_RAW)
    assert SERVICES["inference-online"]["volumes"] == ["models:/models"]
    assert SERVICES["inference-online"]["environment"]["OFFLINE_MODE"] == "False"
    assert SERVICES["inference"]["environment"]["OFFLINE_MODE"] == "True"
    assert "secrets" not in SERVICES["inference"]
    assert not any("KEY" in name for name in SERVICES["inference"]["environment"])


def test_inner_ports_of_the_store_are_shut() -> None:
    """Only S3 listens outside the store's container; its other servers ask nobody for a key."""
    command = SERVICES["store"]["command"][0]
    assert {"-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3.ip.bind=0.0.0.0", "-s3.iam=false"} <= set(command.split())
    assert "WEED_JWT_FILER_SIGNING_KEY" in command


def test_tasks_know_no_database() -> None:
    """Workers hold the broker and their own connections: neither the database nor the keys that sign tokens."""
    assert secrets_of("worker-fog") == {"broker_url", "result_backend", "fog_connections.json"}
    assert secrets_of("worker-clean") == {"broker_url", "result_backend", "clean_connections.json"}
    for name in ("worker-fog", "worker-clean"):
        assert not any(
            word in key for key in SERVICES[name]["environment"] for word in ("SQL_ALCHEMY", "JWT", "FERNET")
        )


def test_secrets_are_made() -> None:
    """new_secrets.py makes just the files that the compose file mounts."""
    declared = COMPOSE["secrets"]
    assert set(load("new_secrets").secret_files()) == set(declared)
    assert all(entry == {"file": f"./secrets/{name}"} for name, entry in declared.items())
    assert set.union(*(secrets_of(name) for name in SERVICES)) == set(declared)


def test_no_secret_is_written_down() -> None:
    """No file of docker/ holds a value that looks like one; what is secret comes from files or the shell."""
    for path in DOCKER.rglob("*"):
        if path.is_file() and "secrets" not in path.parts and path.suffix != ".pyc" and path.name != ".env":
            assert not re.search(r"[0-9a-fA-F]{24,}|[A-Za-z0-9+/]{40,}={0,2}(?![\w/.])", path.read_text()), path.name
    for s in SERVICES.values():
        for name, value in s.get("environment", {}).items():
            if re.search("KEY|PASSWORD|SECRET|TOKEN|CONN|BROKER", name) and not name.endswith(("_FILE", "BACKEND")):
                assert value is None or re.match(r"cat /run/secrets/\w|0$|\{\"connections_file_path", value), name
    example = (DOCKER / ".env.example").read_text()
    assert not re.search(r"^\w*(KEY|PASSWORD|SECRET|TOKEN)\w*=", example, re.M)
    ignored = (DOCKER / ".gitignore").read_text().split()
    assert {".env", "secrets/"} <= set(ignored)


def test_settings_are_documented() -> None:
    """Every variable of the compose file is in .env.example, and the other way round."""
    used = set(re.findall(r"(?<!\$)\$\{(FACEFOG_\w+)", TEXT))
    assert used == set(re.findall(r"^(FACEFOG_\w+)=", (DOCKER / ".env.example").read_text(), re.M))


def test_rights_of_the_store() -> None:
    """Only the fogger reads raw photos, the consumer reads the clean ones alone, and the store's file says the same."""
    made = load("new_secrets").secret_files()
    actions = {one["name"]: set(one["actions"]) for one in json.loads(made["s3_identities.json"])["identities"]}
    assert actions["consumer"] == {"Read:clean", "List:clean"}
    assert {name for name, may in actions.items() if "Read:raw" in may} == {"fogger"}
    assert {name for name, may in actions.items() if "Admin" in may} == {"admin"}
    keys = json.loads(made["lake_users.json"])
    assert json.loads(made["clean_connections.json"])["clean_store"]["login"] == keys["consumer"]["access"]
    assert {c["login"] for c in json.loads(made["fog_connections.json"]).values() if c["conn_type"] == "aws"} == {
        keys["fogger"]["access"]
    }


def test_mounts_exist() -> None:
    """Folders that are mounted from the repository are there, Dags read-only; other mounts are declared volumes."""
    for s in SERVICES.values():
        for mount in s.get("volumes", []):
            source, target = mount.replace("${FACEFOG_INBOX:-./inbox}", "inbox").split(":")[:2]
            assert source == "inbox" or source in COMPOSE["volumes"] or (DOCKER / source).is_dir()
            assert not target.startswith("/opt/facefog/dags") or mount.endswith(":ro")


def test_dags_load_and_stay_in_their_queues(tmp_path: Path) -> None:
    """Both Dags load; what touches raw photos runs in the queue of the one worker that may, and names its connections."""
    code = (
        "from airflow.dag_processing.dagbag import DagBag\n"
        "import sys; bag = DagBag(dag_folder=sys.argv[1]); assert not bag.import_errors, bag.import_errors\n"
        "print({dag_id: sorted({t.queue for t in dag.tasks}) for dag_id, dag in sorted(bag.dags.items())})"
    )
    env = {**os.environ, "AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = f"sqlite:///{tmp_path}/airflow.db"
    env["FACEFOG_DETECTOR"] = "roboflow:faces/1?conn_id=roboflow_default&classes=face"
    done = subprocess.run(
        [sys.executable, "-c", code, str(DOCKER / "dags")], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == "{'fog_buckets': ['fog'], 'read_clean': ['default']}"
    named = set(
        re.findall(
            r"s3://(\w+)@|(facefog(?:_signing)?_key)|conn_id=(roboflow_default)",
            (DOCKER / "dags" / "fog_buckets.py").read_text(),
        )
    )
    known = set(json.loads(load("new_secrets").secret_files()["fog_connections.json"]))
    assert {name for names in named for name in names if name} <= known


@pytest.fixture(scope="module")
def lake() -> Iterator[Any]:
    """An S3 server that enforces IAM policies; yields a function that sets the users' rights and returns lake.py's module."""
    import boto3
    import requests
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    root = {
        "aws_access_key_id": "setup",
        "aws_secret_access_key": "setup",
        "region_name": "us-east-1",
        "endpoint_url": url,
    }
    words = {"Read": "s3:GetObject", "Write": "s3:PutObject", "List": "s3:ListBucket", "Admin": "s3:*"}

    def with_rights(rights: dict[str, dict[str, str]], folder: Path) -> ModuleType:
        requests.post(f"{url}/moto-api/reset-auth", data=b"1000000000", timeout=10)
        requests.post(f"{url}/moto-api/reset", timeout=10)
        iam, users = boto3.client("iam", **root), {}
        for user, buckets in {"admin": {"*": "Admin"}, **rights}.items():
            iam.create_user(UserName=user)
            made = iam.create_access_key(UserName=user)["AccessKey"]
            users[user] = {"access": made["AccessKeyId"], "secret": made["SecretAccessKey"]}
            allow = [
                {
                    "Effect": "Allow",
                    "Action": words[right],
                    "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
                }
                for bucket, may in buckets.items()
                for right in may.split()
            ]
            policy = json.dumps({"Version": "2012-10-17", "Statement": allow})
            iam.put_user_policy(UserName=user, PolicyName="p", PolicyDocument=policy)
        requests.post(f"{url}/moto-api/reset-auth", data=b"0", timeout=10)
        (folder / "users.json").write_text(json.dumps(users))
        os.environ |= {"LAKE_URL": url, "LAKE_USERS": str(folder / "users.json")}
        return load("lake")

    def client(user: str) -> Any:
        """As lake.py's own; moto breaks on requests that nobody signed, so a stranger signs them."""
        return boto3.client("s3", **{**root, "aws_access_key_id": "stranger"}) if user == "anonymous" else real(user)

    real = load("lake").client
    load("lake").client = client

    yield with_rights
    load("lake").client = real
    requests.post(f"{url}/moto-api/reset-auth", data=b"1000000000", timeout=10)
    server.stop()
    for name in ("LAKE_URL", "LAKE_USERS"):
        os.environ.pop(name, None)


def test_lake_check_passes(lake: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With just the rights of RIGHTS, init makes the buckets and says so; a second time nothing changes."""
    module = lake(load("lake").RIGHTS, tmp_path)
    assert module.main(["init"]) == 0
    assert module.main(["init"]) == 0
    assert "4 users have their rights in 3 buckets" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("user", "buckets", "said"),
    [
        ("consumer", {"clean": "Read List", "raw": "Read"}, "consumer may read raw"),
        ("consumer", {"clean": "Read List Write"}, "consumer may write clean"),
        ("auditor", {"audit": "Read List", "clean": "List"}, "auditor may list clean"),
        ("fogger", {"raw": "Read", "clean": "Read Write List", "audit": "Read Write List"}, "fogger may not list raw"),
    ],
)
def test_lake_check_fails(
    lake: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], user: str, buckets: dict[str, str], said: str
) -> None:
    """One right too many or too few stops the stack, and says which."""
    module = lake({**load("lake").RIGHTS, user: buckets}, tmp_path)
    assert module.main(["init"]) == 1
    assert said in capsys.readouterr().err


def test_put_copies_once(lake: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``put`` copies what is new with a key that cannot read, follows no link, and names no file."""
    module = lake(load("lake").RIGHTS, tmp_path)
    assert module.main(["init"]) == 0
    inbox = tmp_path / "inbox"
    (inbox / "a").mkdir(parents=True)
    (inbox / "a" / "one.jpg").write_bytes(b"1")
    (inbox / "two.jpg").write_bytes(b"22")
    (inbox / "three.jpg").symlink_to(inbox / "two.jpg")
    assert module.main(["put", str(inbox)]) == 0
    assert module.main(["put", str(inbox)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[1:] == ["2 files copied, 0 were in the bucket before", "0 files copied, 2 were in the bucket before"]


def test_lake_check_sees_open_doors(lake: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An inner port that answers is found."""
    module = lake(load("lake").RIGHTS, tmp_path)
    port = int(os.environ["LAKE_URL"].rpartition(":")[2])
    monkeypatch.setattr(module, "INNER_PORTS", (port,))
    assert len(list(module.open_doors())) == 1
