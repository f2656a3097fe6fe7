"""Prints each ratio beside the bar that it has to reach; ends with 1 if one is missed.

    python -m tests.benchmarks [names] [--rounds 5]

No times: they depend on the machine, and ratios of what was taken in turns hardly do. The
files are those of a real CT study, if there is one, and otherwise made (`fixtures/make.py`).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.benchmarks import ratios


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("names", nargs="*", choices=[[], *ratios.BENCHMARKS], metavar="names")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    missed = 0
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        bench = ratios.Bench(Path(folder), rounds=chosen.rounds)
        sys.stdout.write(f"{bench.what}\n\n{'ratio':48} {'found':>8}   bar\n")
        for name, benchmark in ratios.BENCHMARKS.items():
            if chosen.names and name not in chosen.names:
                continue
            for ratio in benchmark(bench):
                missed += not ratio.reached
                mark = "" if ratio.reached else "   MISSED"
                sys.stdout.write(f"{ratio.what:48} {ratio.found:8.2f}   {ratio.bar}{mark}\n")
                sys.stdout.flush()
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
