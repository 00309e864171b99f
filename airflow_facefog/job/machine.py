"""How this process uses the machine: CPUs it may use, no core dumps, no memory returned page by page."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def usable_cpus() -> int:
    """CPUs of this process's affinity, cut to the cgroup's quota (v2 ``cpu.max``), at least 1."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text("ascii").split()[:2]
        if quota != "max":
            cpus = min(cpus, max(1, round(int(quota) / int(period))))
    return max(1, cpus)


def calm_process() -> None:
    """One cv2 and one BLAS thread per worker thread, no core dump with raw pixels, and large buffers kept by malloc."""
    import resource

    import cv2

    cv2.setNumThreads(1)
    _one_blas_thread()
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    _tune_malloc()


def die_first() -> None:
    """Ask the kernel to end this process before its parent when memory runs out (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", "ascii")


def _one_blas_thread() -> None:
    """OpenBLAS in numpy's wheel: no threads of its own, they spin for 100 ms after a product (measured: +7 ms an image)."""
    import ctypes

    import numpy as np

    for library in Path(np.__file__).parent.with_name("numpy.libs").glob("*openblas*"):
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(str(library)).scipy_openblas_set_num_threads64_(1)


def _tune_malloc() -> None:
    """glibc: serve megabyte buffers from one kept heap, not from fresh pages each time.

    Measured: -35 % decode CPU; one heap for all threads (theirs are returned to the kernel whole): -10 % CPU of the job and
    -40 % memory at 12 megapixels.
    """
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
        libc.mallopt(-8, 1)  # M_ARENA_MAX
