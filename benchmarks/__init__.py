"""Measurements, never tests: ratios within one run, interleaved, medians, CPU time. ``python -m benchmarks`` prints a table."""
