"""Benchmarks. `python -m tests.benchmarks [names]` prints ratios beside what they have to reach."""
