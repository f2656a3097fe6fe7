"""What is left of an archive when the process that changes it is killed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from dicomstudy.errors import ArchiveError

#: Names of functions that change something on disk, or say that it is there.
WRITES = frozenset(
    ("write", "flush", "close", "__exit__", "fsync", "replace", "rename", "unlink", "truncate",
     "ftruncate", "mkdir", "rmdir", "flock", "open")
)  # fmt: skip

Action = Callable[[Path], object]
#: What is below a folder: the bytes of each file, and None for a folder.
Tree = dict[Path, bytes | None]


def kill(*_: object) -> None:
    """Kill this process; stands for a function at which a run is killed."""
    os.kill(os.getpid(), signal.SIGKILL)


def forked(work: Callable[[], object]) -> int:
    """The exit status of a child that does the work, negative for the signal that ended it."""
    child = os.fork()
    if not child:
        status = 1
        try:
            work()
            status = 0
        except ArchiveError as error:
            status = 3 if error.code == "archive/full" else 4
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def tree_of(folder: Path) -> Tree:
    return {
        path.relative_to(folder): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def written(tree: Tree, folder: Path) -> Path:
    """A new folder with what is in a tree."""
    folder.mkdir()
    for path, data in tree.items():
        if data is None:
            (folder / path).mkdir()
        else:
            (folder / path).write_bytes(data)
    return folder


def trees_of(action: Action, archive: Path) -> tuple[int, list[Tree]]:
    """How many calls an action makes, and what is there before those that write and at the end.

    What is there more than once comes once. A kill leaves one of these: what is there changes
    with a call that writes.
    """
    count, trees = 0, []

    def look() -> None:
        tree = tree_of(archive)
        if tree not in trees:
            trees.append(tree)

    def note(_: FrameType, event: str, called: Any) -> None:
        nonlocal count
        if event in {"call", "c_call"}:
            count += 1
            if event == "c_call" and called.__name__ in WRITES:
                look()

    sys.setprofile(note)
    try:
        action(archive)
    finally:
        sys.setprofile(None)
    look()
    return count, trees


def killed(action: Action, archive: Path, moment: int) -> int:
    """Do something in a child that is killed before its n-th call."""
    count = 0

    def count_down(_frame: FrameType, event: str, _called: Any) -> None:
        nonlocal count
        if event in {"call", "c_call"}:
            count += 1
            if count == moment:
                kill()

    def work() -> None:
        sys.setprofile(count_down)
        action(archive)

    return forked(work)
