"""``python tests/roboflow/standin --port 9001``: the stand-in until it is interrupted."""

from __future__ import annotations

import argparse
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from standin import GOOD_KEY, StandIn


def main() -> None:
    """Serve, and say where."""
    parser = argparse.ArgumentParser(prog="standin", description="Stand-in for Roboflow's servers")
    parser.add_argument("--port", type=int, default=9001, help="0 takes a free one")
    parser.add_argument("--host", default="127.0.0.1")
    arguments = parser.parse_args()
    with StandIn(arguments.port, arguments.host) as standin:
        print(f"{standin.url} key {GOOD_KEY}", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
