"""A folder of one run alone, for files that it has not finished (spec/archive.md, "restore").

An archive has ``incoming/`` for them. Here they are beside what users have in a folder of theirs,
or where the system has temporary ones (spec/tables.md, "Temporary folders").
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import stat
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from dicomstudy.errors import DicomStudyError

__all__ = ["TemporaryFolder", "own_folder", "remove_tree"]

_PREFIX = ".dicomstudy-"
_LOCK, _PART = "dicomstudy.lock", ".part"
#: The names of temporary folders, and the one of them that has all but the lock.
_TEMPORARY = re.compile(r"dicomstudy-(?:sql|tables)-[a-z0-9_]{8}")
_FILES = "files"


@contextlib.contextmanager
def own_folder(parent: Path) -> Iterator[Path]:
    """A new folder in `parent`, on the same file system; it goes with what is left in it.

    Whoever made it holds the lock in it. So those of runs that were killed are known, and go too;
    they have nothing but the lock and files whose names end with ``.part``. Where a file system
    has no locks, they stay.

    Raises:
        OSError: it cannot be made.
    """
    for left in parent.glob(f"{_PREFIX}*"):
        _remove_left(left)
    folder, file = _made(parent, _PREFIX)
    try:
        yield folder
    finally:
        try:
            _remove(folder)
        finally:
            with contextlib.suppress(OSError):  # it has no content
                file.close()


def _made(parent: Path, prefix: str) -> tuple[Path, BinaryIO]:
    """A new folder, and its lock."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        file = _locked(folder)
        if file is not None:
            return folder, file


def _locked(folder: Path) -> BinaryIO | None:
    """The lock of a new folder; None if another run took that for one that is left.

    Raises:
        OSError: it cannot be made; nor is the folder there then.
    """
    path = folder / _LOCK
    try:
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(path.open("wb"))
            with contextlib.suppress(OSError):  # it has no locks
                fcntl.flock(file, fcntl.LOCK_EX)
            if _has_its_name(file, path):
                stack.pop_all()
                return file
    except FileNotFoundError:
        pass
    except OSError:
        path.unlink(missing_ok=True)
        folder.rmdir()
        raise
    return None


class TemporaryFolder:
    """A new folder where the system has those of programs; it goes with the process that made it.

    It stays if one goes that was forked from that. Those of this user whose processes were killed
    are removed before.

    Args:
        purpose: what is in it, "sql" or "tables".

    Raises:
        DicomStudyError: it cannot be made (``system/temporary``).

    Attributes:
        path: the folder.
    """

    def __init__(self, purpose: str) -> None:
        try:
            parent = Path(tempfile.gettempdir())
            _remove_temporary(parent)
            folder, file = _made(parent, f"dicomstudy-{purpose}-")
            self._removed = weakref.finalize(self, _remove_own, folder, file, os.getpid())
            try:
                self.path = _begun(folder, file)
            except BaseException:
                self.remove()
                raise
        except OSError as error:
            why = f"no folder for temporary files can be made: {error.strerror or error}"
            raise DicomStudyError("system/temporary", why) from error

    def remove(self) -> None:
        """Remove it, with all that is in it."""
        self._removed()


def _begun(folder: Path, file: BinaryIO) -> Path:
    """The part of a temporary folder for files, made; its lock says its name, if it is locked."""
    with contextlib.suppress(OSError):  # where there are no locks, nobody may take it for left
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.write(folder.name.encode())
    file.flush()
    path = folder / _FILES
    path.mkdir(0o700)
    return path


def _remove_own(folder: Path, file: BinaryIO, owner: int) -> None:
    with contextlib.closing(file):
        if os.getpid() == owner:
            _remove_files(folder)


def _remove_temporary(parent: Path) -> None:
    """Remove the temporary folders in `parent` of runs of this user that are at work no more."""
    with contextlib.suppress(OSError):  # it may not be listed
        for path in parent.iterdir():
            if _TEMPORARY.fullmatch(path.name):
                _remove_abandoned(path)


def _remove_abandoned(folder: Path) -> None:
    """Remove a temporary folder of a run, if it is one of this user that is at work no more.

    Only the lock of such a folder says its name: that of a copy says another one.
    """
    with contextlib.suppress(OSError):  # another run removes it, or may do so later
        status = folder.lstat()
        is_private = stat.S_ISDIR(status.st_mode) and not status.st_mode & 0o077
        if not is_private or status.st_uid != os.geteuid():
            return
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if file.read(len(folder.name) + 1) == folder.name.encode():
                _remove_files(folder)


def _remove_files(folder: Path) -> None:
    """Remove a temporary folder, the lock last."""
    remove_tree(folder / _FILES)
    _remove(folder)


def remove_tree(folder: Path) -> None:
    """Remove a folder as far as the system lets it; later runs remove what is left."""
    with contextlib.suppress(OSError):  # of some, Python 3.11 tells nevertheless
        shutil.rmtree(folder, ignore_errors=True)


def _has_its_name(file: BinaryIO, path: Path) -> bool:
    return path.stat().st_ino == os.fstat(file.fileno()).st_ino


def _remove(folder: Path) -> None:
    """Remove a folder, the lock last: what a run leaves that is killed meanwhile, others find."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if path.name != _LOCK:
                path.unlink()
        (folder / _LOCK).unlink()
        folder.rmdir()


def _remove_left(folder: Path) -> None:
    """Remove the folder of a run, if it is at work no more."""
    with contextlib.suppress(OSError):  # another run removes it, or may do so later
        names = {path.name for path in folder.iterdir()} - {_LOCK}
        if not all(name.endswith(_PART) for name in names):
            return  # somebody else's
        if not (folder / _LOCK).exists():
            folder.rmdir()
            return
        with (folder / _LOCK).open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(folder)
