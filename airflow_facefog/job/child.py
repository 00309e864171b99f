"""The spawned child that runs images one by one after an attempt died without an exception.

Parent and child speak length-prefixed pickles over the child's stdin and stdout: raw bytes go through a pipe between our
own processes and nowhere else. A child that dies takes one image with it: ImageError(CRASHED), and a new child is spawned.
"""

from __future__ import annotations

import os
import pickle  # our own child at the other end of our own pipe
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from airflow_facefog.core import errors
from airflow_facefog.core.errors import FogError, ImageError
from airflow_facefog.core.raw import RawImage, sealed
from airflow_facefog.core.records import Reason
from airflow_facefog.job.engine import Egress, LocalEngine, Processed, add_egress

if TYPE_CHECKING:
    from airflow_facefog.core.keys import KeyRing
    from airflow_facefog.core.policy import FogPolicy
    from airflow_facefog.core.records import Detection
    from airflow_facefog.detectors.roboflow.access import Access

IMAGE_TIMEOUT_S = 300.0
"""An image that holds the child longer than this, for each member of a union, counts as a crash."""

_LENGTH = struct.Struct(">Q")


class ChildEngine:
    """Runs images in a child process; one at a time."""

    def __init__(
        self, detector_spec: Any, accesses: Mapping[str | None, Access], policy: FogPolicy, keys: KeyRing
    ) -> None:
        self._setup = (detector_spec, dict(accesses), policy, keys)
        self._members = len(detector_spec.get("of", ())) or 1 if isinstance(detector_spec, Mapping) else 1
        self._child: subprocess.Popen[bytes] | None = None
        self._sent: Egress = {}
        self._sent_by_dead: Egress = {}

    def __repr__(self) -> str:
        return "ChildEngine()"

    @sealed
    def process(self, raw: RawImage, stored: Sequence[Detection] | None, human: Sequence[Detection] = ()) -> Processed:
        """See Engine. A child that dies or hangs raises ImageError(CRASHED)."""
        answer = self._ask(("process", raw.data, raw.image_id, stored, tuple(human)))
        if answer is None:
            raise ImageError(Reason.CRASHED, "this image ended the process that worked on it")
        processed: Processed = _unpack(answer)
        return processed

    @sealed
    def check_canary(self) -> None:
        """See Engine."""
        answer = self._ask(("canary",))
        if answer is None:
            raise errors.DetectorError("the canary picture ended the child process; the detector cannot run here")
        _unpack(answer)

    def egress(self) -> Egress:
        """See Engine: of all children. What one sent for the image that killed it is not known."""
        return add_egress(self._sent_by_dead, self._sent)

    def close(self) -> None:
        """End the child."""
        child, self._child = self._child, None
        self._sent_by_dead, self._sent = self.egress(), {}
        if child is not None:
            child.kill()
            child.communicate()

    def _ask(self, message: tuple[Any, ...]) -> Any:
        return self._exchange(self._child or self._spawn(), message)

    def _exchange(self, child: subprocess.Popen[bytes], message: tuple[Any, ...]) -> Any:
        """The child's answer; None when it died or took too long."""
        assert child.stdin
        assert child.stdout
        answer = None
        with _time_limit(child, self._members) as expired:
            try:
                _send(child.stdin, message)
                answer, self._sent = _receive(child.stdout)
            except (BrokenPipeError, EOFError):
                answer = None
        if answer is None or expired.is_set():
            self.close()
            return None
        return answer

    def _spawn(self) -> subprocess.Popen[bytes]:
        """A child that is ready. One that cannot start fails the attempt: no image is to blame."""
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        child = subprocess.Popen(
            [sys.executable, "-m", "airflow_facefog.job.child"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment,
        )  # fmt: skip
        self._child = child
        answer = self._exchange(child, self._setup)
        if answer is None:
            raise errors.InternalError(
                "the child process does not start; its detector may hang or crash when it is made"
            )
        if answer[0] != "ok":
            self.close()
            _unpack(answer)
        return child


@contextmanager
def _time_limit(child: subprocess.Popen[bytes], members: int) -> Iterator[threading.Event]:
    """Kill a child that takes longer, whatever it hangs in: starting, taking the image or working on it."""
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        child.kill()

    timer = threading.Timer(IMAGE_TIMEOUT_S * members, expire)
    timer.daemon = True
    timer.start()
    try:
        yield expired
    finally:
        timer.cancel()
        timer.join()  # a kill after this would hit the next image


def _unpack(answer: tuple[Any, ...]) -> Any:
    if answer[0] == "ok":
        return answer[1]
    _, name, message, reason, retry_after_s = answer
    error_class = getattr(errors, name)
    if reason:
        raise error_class(Reason(reason), message)
    raise error_class(message, retry_after_s=retry_after_s) if retry_after_s else error_class(message)


def _send(stream: IO[bytes], message: Any) -> None:
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    stream.write(_LENGTH.pack(len(data)))
    stream.write(data)
    stream.flush()


def _receive(stream: IO[bytes]) -> Any:
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    (length,) = _LENGTH.unpack(head)
    data = stream.read(length)
    if len(data) < length:
        raise EOFError
    return pickle.loads(data)  # noqa: S301 - our own child


def _serve() -> None:
    """The child's loop: set up once, answer each message, end with the pipe."""
    from airflow_facefog.job.machine import calm_process, die_first

    stdin, stdout = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not mix with answers
    die_first()
    calm_process()
    try:
        engine = _start(*_receive(stdin))
    except FogError as error:
        _send(stdout, (_failure(error), {}))
        return
    _send(stdout, (("ok", None), {}))
    while True:
        try:
            message = _receive(stdin)
        except EOFError:
            return
        _send(stdout, (_answer(engine, message), engine.egress()))


@sealed
def _start(spec: Any, accesses: Mapping[str | None, Access], policy: FogPolicy, keys: KeyRing) -> LocalEngine:
    from airflow_facefog.detectors import resolve

    return LocalEngine(resolve(spec, accesses.__getitem__, policy.allow_remote_inference), policy, keys)


def _answer(engine: LocalEngine, message: tuple[Any, ...]) -> tuple[Any, ...]:
    try:
        return ("ok", _work(engine, *message))
    except FogError as error:
        return _failure(error)


@sealed
def _work(engine: LocalEngine, task: str, *image: Any) -> Processed | None:
    if task == "canary":
        engine.check_canary()
        return None
    data, image_id, stored, human = image
    return engine.process(RawImage(data, image_id), stored, human)


def _failure(error: FogError) -> tuple[Any, ...]:
    ours = next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == errors.__name__)
    reason, retry_after_s = (getattr(error, name, None) for name in ("reason", "retry_after_s"))
    return ("error", ours, str(error), reason, retry_after_s)


if __name__ == "__main__":
    _serve()
