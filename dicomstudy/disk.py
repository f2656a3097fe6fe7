"""Files and folders on disk: `write_atomically` leaves a file whole, or not at all.

What the system refuses is an `OSError`, which `reading` and `writing` make an error of ours;
`entries`, `is_there` and `status_of` do so by themselves.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from dicomstudy.errors import ArchiveError, StudyError, unwritable

__all__ = [
    "ABSENT",
    "ReadOnly",
    "check_links",
    "entries",
    "is_there",
    "make_folder",
    "mark_of",
    "reading",
    "replacing",
    "status_of",
    "sync",
    "write_all",
    "write_atomically",
    "writing",
]

#: What says that a file cannot be opened as there is none, and not for anything else.
ABSENT = (FileNotFoundError, NotADirectoryError)
#: What file systems say that do not sync folders.
_NO_SYNC = frozenset((errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP))


def entries(folder: Path) -> list[Path]:
    """What is in a folder, by name; nothing if it is none.

    Raises:
        ArchiveError: it cannot be read, or is a link that leads to no folder
            (``archive/unreadable``).
    """
    with reading(folder):
        try:
            return sorted(folder.iterdir())
        except ABSENT:
            if folder.is_symlink():  # as to a disk that is not there for the moment
                raise
            return []


def check_links(*folders: Path) -> None:
    """Make sure that none is a link that leads nowhere, as `entries` does.

    Raises:
        ArchiveError: one is (``archive/unreadable``).
    """
    for folder in folders:
        with reading(folder):
            if folder.is_symlink():
                folder.stat()


def is_there(path: Path) -> bool:
    """Whether there is such a file. Errors as in `entries`.

    `Path.exists` says that there is none, in some versions of Python, whatever the system says.
    """
    return status_of(path) is not None


def status_of(path: Path) -> os.stat_result | None:
    """What the system says of a file; None if there is none. Errors as in `entries`."""
    with reading(path):
        try:
            return path.stat()
        except ABSENT:
            return None


def mark_of(status: os.stat_result) -> int:
    """What tells a file from those that were at its path before, as far as the system does."""
    return hash((status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size))


class ReadOnly:
    """A file that is read by position, and closed at the latest when nobody has it any more."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # nobody waits for what is no file, such as a pipe
        self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self.close = weakref.finalize(self, os.close, self._descriptor)

    def fileno(self) -> int:
        """The descriptor of the file, while it is open."""
        return self._descriptor if self.close.alive else -1

    def pread(self, length: int, offset: int) -> bytes:
        """`length` bytes from `offset` on, fewer only if the file ends before them.

        The system may give fewer for other reasons, such as an unreadable page behind them, of
        which only the next read tells.

        Raises:
            StudyError: it is closed (``study/closed``).
        """
        try:
            data = os.pread(self.fileno(), length, offset)
            while 0 < len(data) < length:
                more = os.pread(self.fileno(), length - len(data), offset + len(data))
                if not more:
                    break
                data += more
        except OSError as error:
            if self.close.alive:
                raise
            raise self._closed() from error
        return data

    def status(self) -> os.stat_result:
        """What the system says of the open file. Errors as in `pread`."""
        try:
            return os.fstat(self.fileno())
        except OSError as error:
            if self.close.alive:
                raise
            raise self._closed() from error

    def _closed(self) -> StudyError:
        message = "it is closed: ask while it is open, or open it again"
        return StudyError("study/closed", message, source=str(self._path))


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what the system says of a failed read into an error. Mirror of `writing`.

    Raises:
        ArchiveError: `path` could not be read (``archive/unreadable``).
    """
    try:
        yield
    except OSError as error:
        raise ArchiveError(
            "archive/unreadable",
            f"{path} cannot be read: {error.strerror or error}",
            source=str(path),
        ) from error


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the system says of a failed write into an error.

    Who reads meanwhile says so itself: a failed read of a document, bulk file or source is an
    error of its own.

    Raises:
        ArchiveError: something below `path` could not be written (`UNWRITABLE`).
    """
    try:
        yield
    except OSError as error:
        place = error.filename2 or error.filename
        what = f"{path} cannot be written"
        if isinstance(place, str | bytes) and os.fsdecode(place) != str(path):
            what += f" ({os.fsdecode(place)})"
        raise unwritable(what, error, source=str(path)) from error


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, if it is not there; names of new ones are on disk then."""
    try:
        path.mkdir()
    except FileNotFoundError:
        if path.parent == path:
            raise
        make_folder(path.parent)
        with contextlib.suppress(FileExistsError):
            path.mkdir()  # where that may not be, the system may say the same as before
    except OSError:
        if not path.is_dir():
            raise
        return
    with contextlib.suppress(PermissionError):  # whoever may write there may not read there
        sync(path.parent)


def write_atomically(path: Path, pieces: Iterable[bytes], *, within: Path | None = None) -> int:
    """Write a file that is there either whole or not at all, and return its size.

    Until it is whole it stands in the folder `within`, on the same file system.
    """
    size = 0
    with _whole(path, within or path.parent) as file:
        for piece in pieces:
            file.write(piece)
            size += len(piece)
    return size


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write in the place of another, which stays until this one is whole.

    It has the permissions of that. A pipe or device is written itself, and what a link leads to is
    replaced, not the link.
    """
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
        return
    place = path.resolve()
    with _whole(place, place.parent) as file:
        with contextlib.suppress(FileNotFoundError):
            os.fchmod(file.fileno(), stat.S_IMODE(place.stat().st_mode))
        yield file


@contextlib.contextmanager
def _whole(path: Path, within: Path) -> Iterator[BinaryIO]:
    """A file to write in a folder, which is at its path once it is whole and on disk."""
    part = within / f"{os.urandom(8).hex()}.part"
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):  # what ended it is to be said, and not this
            part.unlink()
        raise
    try:
        sync(path.parent)
    except OSError as error:
        error.strerror = f"{error.strerror or error}; {path} is there now, but may not be on disk"
        raise


def write_all(descriptor: int, data: bytes) -> None:
    """Write to a file without a buffer, which may take a part only."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def sync(path: Path) -> None:
    """Return once the bytes of a file, or the names in a folder, are on disk.

    Some file systems do that of files only; then there is nothing to wait for.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC or not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise
    finally:
        os.close(descriptor)
