"""The benchmark suite: ``python -m benchmarks`` or ``make bench``; see ``docs/how-to/measure.md``."""
