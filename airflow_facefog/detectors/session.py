"""One onnxruntime session per model and process, made on first use.

Never at import and never inherited: a session does not survive ``fork`` (Airflow forks its task processes), so sessions
are keyed by process id and the lock is replaced in the child. One thread per session: on two cores, two single-threaded
callers were 1.3x as fast as one session with two threads, and spinning workers starve the other tasks of the host.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

from airflow_facefog.core.errors import DetectorError

_sessions: dict[tuple[int, str], Any] = {}
_lock = threading.Lock()


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def shared_session(key: str, load: Callable[[], bytes]) -> Any:
    """Return this process's ``onnxruntime.InferenceSession`` for ``key``; ``load`` gives the ONNX bytes when it is new.

    Raises DetectorError when onnxruntime cannot load the model.
    """
    name = (os.getpid(), key)
    session = _sessions.get(name)
    if session is not None:
        return session
    with _lock:
        if name not in _sessions:
            _sessions[name] = _make(load())
        return _sessions[name]


def _make(model: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # its warnings quote local paths
    try:
        return onnxruntime.InferenceSession(model, sess_options=options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a dozen unrelated classes here
        raise DetectorError(
            f"onnxruntime {onnxruntime.__version__} cannot load the detector model ({type(error).__name__}); "
            "give one self-contained ONNX file that this version supports"
        ) from None


def run_session(session: Any, feed: dict[str, Any], outputs: list[str] | None = None) -> list[Any]:
    """Run ``session``; thread-safe. Raises DetectorError without onnxruntime's message, which may quote data."""
    try:
        answer: list[Any] = session.run(outputs, feed)
    except Exception as error:  # onnxruntime raises a dozen unrelated classes here
        raise DetectorError(
            f"the detector model failed in onnxruntime ({type(error).__name__}); check that it takes this input size"
        ) from None
    return answer
