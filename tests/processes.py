"""Scripts in processes of their own, and the memory they take. Imports nothing that takes any."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

#: Where a process has to be started so that it finds the package and the tests.
ROOT = Path(__file__).parents[1]


def run(script: str, *arguments: object, limit: float = 100) -> subprocess.CompletedProcess[str]:
    """The end of a Python script that was run with these arguments, for so many seconds."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(  # noqa: S603 (the scripts are those of the tests)
        command, capture_output=True, text=True, check=False, timeout=limit, cwd=ROOT
    )


def output(script: str, *arguments: object, limit: float = 100) -> str:
    """What a Python script prints, if it ends well within so many seconds."""
    done = run(script, *arguments, limit=limit)
    assert done.returncode == 0, done.stderr
    return done.stdout


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    """A Python script at work, in a group of processes of its own."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(  # noqa: S603 (the same)
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        cwd=ROOT,
    )


def peak_memory() -> float:
    """The most memory that this process has taken, in MB.

    On Linux not by `getrusage`, which counts the process that started this one, too.
    """
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1000
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
