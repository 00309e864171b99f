"""``python -m benchmarks [--size ci|full] [--data DIR] [--only NAME]``: measure everything, print one table.

Exit code 0 also when a target is missed: these are measurements. 1 when one could not be made.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from benchmarks import (
    audit_queries,
    audit_share,
    coverage,
    deface_cost,
    finalise_scale,
    imports,
    job_cost,
    machine,
    memory,
    pg_load,
    prove_speed,
    two_workers,
    verify_speed,
)
from benchmarks.measure import Row, show


def main() -> int:
    """Run what was asked for."""
    options = _options()
    full = options.size == "full"
    measurements: dict[str, Callable[[], list[Row]]] = {
        "job_cost": lambda: job_cost.measure(full=full),
        "deface_cost": lambda: deface_cost.measure(full=full),
        "two_workers": lambda: two_workers.measure(full=full),
        "memory": lambda: memory.measure(full=full),
        "audit_share": lambda: audit_share.measure(full=full),
        "audit_queries": lambda: audit_queries.measure(full=full),
        "finalise_scale": lambda: finalise_scale.measure(full=full),
        "pg_load": lambda: pg_load.measure(full=full),
        "prove_speed": lambda: prove_speed.measure(full=full),
        "verify_speed": lambda: verify_speed.measure(full=full),
        "imports": lambda: imports.measure(full=full),
    }
    if options.data is not None:
        measurements["coverage"] = lambda: coverage.measure(options.data)
    rows: list[Row] = []
    broken = 0
    for name, measurement in measurements.items():
        if options.only and name not in options.only:
            continue
        started = time.perf_counter()
        try:
            new = measurement()
        except Exception:
            broken += 1
            traceback.print_exc()
            new = [Row(name, "failed", note="see above")]
        rows += new
        print(f"{name}: {time.perf_counter() - started:.0f} s", *new, sep="\n  ", file=sys.stderr, flush=True)
    print("\n".join(machine.lines()))
    show(rows, f"{options.size} size; ratios within one run, medians of interleaved rounds, CPU = user + system")
    return 1 if broken else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--size", choices=("ci", "full"), default="ci")
    parser.add_argument("--data", type=Path, help="folder with annotations.json (COCO) for the face coverage")
    parser.add_argument("--only", action="append", metavar="NAME", help="one measurement; may be repeated")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
