"""Files that data come from: those in folders, and single ones.

Nothing here knows DICOM. A file is read whole if it is small; a large one is a `Window`.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, NamedTuple, Self, TypeAlias
from urllib.parse import quote, unquote_to_bytes, urlsplit

from dicomstudy.disk import ABSENT
from dicomstudy.elements import sha256_of
from dicomstudy.errors import BulkError, DicomStudyError, Problem

__all__ = [
    "MAX_WHOLE",
    "FileIdentity",
    "Found",
    "SourceFiles",
    "Window",
    "file_identity",
    "find",
    "identity_at",
    "listed",
    "path_of",
    "read_whole",
    "uri_of",
]

#: Files up to this size are read whole.
MAX_WHOLE = 64 << 20
_WINDOW = 1 << 20
#: So many files that were found are remembered.
_MAX_FOUND = 1 << 12


class Found(NamedTuple):
    """A file below a source, and its size; or the problem that there is with it.

    There are many, and most are opened at once: a path is a string.
    """

    path: str
    size: int
    problem: Problem | None = None


def listed(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
) -> Iterable[str | os.PathLike[str]]:
    """Paths one by one; a text is one path, not one for each of its characters."""
    return [paths] if isinstance(paths, str | os.PathLike) else paths


#: Gives the problem of a path, which is that of a folder or not.
_Refused: TypeAlias = Callable[[str, bool], Problem | None]


def _nothing(_path: str, _is_folder: bool) -> None:
    """No problem with any path."""


def find(
    sources: Iterable[str | os.PathLike[str]], *, refused: _Refused = _nothing
) -> Iterator[Found]:
    """Every file that is or lies below one of `sources`, folders in the order of their names.

    Symbolic links to files are followed, those to folders are not (they may form a ring); one
    that leads nowhere is a problem, for it may have been a file.

    Args:
        sources: files and folders.
        refused: is asked for the problem of each source, and of each folder below one, and told
            whether it is a folder. One that has a problem is not looked into.
    """
    for source in listed(sources):
        path = str(source if isinstance(source, Path) or source == "" else Path(source))
        try:
            status = os.stat(path)  # noqa: PTH116 (a Path costs more than the question)
            is_folder = stat.S_ISDIR(status.st_mode)
            if (problem := refused(path, is_folder)) is not None:
                yield Found(path, 0, problem)
            elif is_folder:
                yield from _walk(path, refused)
            elif stat.S_ISREG(status.st_mode):
                yield Found(path, status.st_size)
            else:
                message = "is neither a file nor a folder"
                yield Found(path, 0, Problem(path, "source/unreadable", message))
        except (OSError, ValueError) as error:  # a NUL is in no path
            yield _unreadable(path, error)


def _walk(folder: str, refused: _Refused) -> Iterator[Found]:
    """What lies below a folder, however deep: folders may nest deeper than calls."""
    try:
        waiting = _entries(folder)
    except OSError as error:
        yield _unreadable(folder, error)
        return
    while waiting:
        entry = waiting.pop()
        try:
            if entry.is_dir(follow_symlinks=False):
                if (problem := refused(entry.path, True)) is not None:
                    yield Found(entry.path, 0, problem)
                else:
                    waiting += _entries(entry)
            elif entry.is_file():
                yield Found(entry.path, entry.stat().st_size)
            elif entry.is_symlink():
                entry.stat()  # fails if it leads nowhere
        except OSError as error:
            yield _unreadable(entry.path, error)


def _entries(folder: str | os.DirEntry[str]) -> list[os.DirEntry[str]]:
    """What is in a folder, the first by name at the end."""
    with os.scandir(folder) as scan:
        return sorted(scan, key=lambda entry: entry.name, reverse=True)


def _unreadable(path: str, error: OSError | ValueError) -> Found:
    message = f"cannot be read: {getattr(error, 'strerror', None) or error}"
    return Found(path, 0, Problem(path, "source/unreadable", message))


def read_whole(path: str) -> tuple[bytes, int]:
    """The bytes of a file that is not large, and its time of modification in nanoseconds."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        status = os.fstat(descriptor)
        data = os.read(descriptor, status.st_size + 1)
        if len(data) != status.st_size:  # it is not on a disk, or is being written
            data += b"".join(iter(lambda: os.read(descriptor, 1 << 20), b""))
        return data, status.st_mtime_ns
    finally:
        os.close(descriptor)


FileIdentity: TypeAlias = tuple[int, int]


def file_identity(status: os.stat_result) -> FileIdentity:
    """What two paths have in common that lead to one file."""
    return status.st_dev, status.st_ino


class Window:
    """A large file as a `Buffer`: slices are read when they are asked for.

    A slice beyond `_WINDOW` bytes is read as it is; smaller ones come out of a window, but those
    that `part` is asked for.
    """

    def __init__(self, path: Path | IO[bytes]) -> None:
        if isinstance(path, Path):
            self._file: IO[bytes] = os.fdopen(_opened(path), "rb", buffering=0)
        else:
            self._file = path
        self._source = str(path) if isinstance(path, Path) else None
        status = os.fstat(self._file.fileno())
        self._size = status.st_size
        #: Its time of modification in nanoseconds.
        self.modified = status.st_mtime_ns
        self._start, self._data = 0, b""

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, key: slice) -> bytes:
        start, stop, _ = key.indices(self._size)
        if stop <= start:
            return b""
        if stop - start > _WINDOW:
            return self._read(start, stop - start)
        if start < self._start or stop > self._start + len(self._data):
            self._start = start
            self._data = self._read(start, min(_WINDOW, self._size - start))
        return self._data[start - self._start : stop - self._start]

    def part(self, start: int, stop: int) -> bytes:
        """Bytes `start` to `stop` of the file, which has them; no others are read."""
        return self._read(start, stop - start)

    def _read(self, start: int, length: int) -> bytes:
        data = bytearray()
        while len(data) < length:
            try:
                piece = os.pread(self._file.fileno(), length - len(data), start + len(data))
            except OSError as error:
                message = f"the file cannot be read on: {error.strerror}"
                raise DicomStudyError("source/unreadable", message, source=self._source) from error
            if not piece:
                message = "the file became shorter while it was read"
                raise DicomStudyError("source/changed", message, source=self._source)
            data += piece
        return bytes(data)

    def find(self, wanted: bytes, start: int = 0, end: int | None = None) -> int:
        """As `bytes.find`."""
        end = self._size if end is None else min(end, self._size)
        overlap = len(wanted) - 1
        for at in range(start, end, _WINDOW):
            place = self[at : min(at + _WINDOW, end)].find(wanted)
            if place < 0 and overlap:
                seam = max(at + _WINDOW - overlap, start)
                place = self[seam : min(seam + 2 * overlap, end)].find(wanted)
                if place >= 0:
                    return seam + place
            elif place >= 0:
                return at + place
        return -1

    @property
    def identity(self) -> FileIdentity:
        """Tells it from all other files of this machine."""
        return file_identity(os.fstat(self._file.fileno()))

    def check(self) -> None:
        """Make sure that what was read until now was all of one file.

        Raises:
            DicomStudyError: it was written to since it was opened (``source/changed``).
        """
        status = os.fstat(self._file.fileno())
        if (status.st_size, status.st_mtime_ns) != (self._size, self.modified):
            message = "the file was changed while it was read"
            raise DicomStudyError("source/changed", message, source=self._source)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _opened(path: Path) -> int:
    """The descriptor of a file; nobody waits for what is none, such as a pipe."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DicomStudyError("source/unreadable", "is no file", source=str(path))
    return descriptor


def identity_at(uri: str, size: int | None) -> set[FileIdentity]:
    """The file that a URI names, whether it can be opened or not; none if it has another size."""
    path = path_of(uri)
    if path is not None:
        with contextlib.suppress(OSError):
            status = path.stat()
            if size in {None, status.st_size}:
                return {file_identity(status)}
    return set()


def uri_of(path: str | os.PathLike[str], member: str = "") -> str:
    """The file URI of a path; of a member, with its name as the fragment."""
    folder, name = os.path.split(os.path.abspath(path))  # noqa: PTH100 (links are not followed)
    uri = _folder_uri(folder) + quote(os.fsencode(name))
    return f"{uri}#{quote(os.fsencode(member))}" if member else uri


@lru_cache(maxsize=64)
def _folder_uri(folder: str) -> str:
    return Path(folder).as_uri().removesuffix("/") + "/"


def path_of(uri: str) -> Path | None:
    """The path of a file URI; None if it names a member, or no file of this machine."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return None
    path = unquote_to_bytes(parts.path)
    is_file = parts.scheme == "file" and parts.netloc in {"", "localhost"}
    if not is_file or parts.fragment or b"\0" in path:
        return None
    return Path(os.fsdecode(path))


class SourceFiles:
    """P10 files that a document refers to, found again below other folders if they moved.

    Args:
        folders: where to look for files that are no longer where they were.
    """

    def __init__(self, folders: Iterable[str | os.PathLike[str]] = ()) -> None:
        self._folders = [*listed(folders)]
        self._below: _Below | None = None
        self._found: dict[tuple[str, Hashable], Path] = {}
        self._doubted: set[tuple[str, Hashable]] = set()

    def __getstate__(self) -> dict[str, Any]:
        """All but what was seen below the folders, which another process may see otherwise."""
        return self.__dict__ | {"_below": None}

    def open(
        self,
        uri: str,
        *,
        size: int | None,
        sha256: str | None,
        modified: int | None = None,
        has: Callable[[Window], bool] | None = None,
        doubted: bool = False,
    ) -> Window:
        """The file that was recorded: at `uri`, or wherever it is below the folders.

        At `uri` it is taken to be the same if its size and its time of modification (nanoseconds)
        are; otherwise, and everywhere else, its SHA-256 decides, which is taken once.

        Args:
            has: decides instead where the SHA-256 of the file is not known, once for all that
                is equal to it.
            doubted: what was read of it was not what it should be: its SHA-256 is taken anew, and
                size and time do not do for it from now on.

        Raises:
            BulkError: the file is gone (``bulk/source-missing``) or has changed
                (``bulk/source-changed``), and is not below the folders either.
            DicomStudyError: it cannot be read, and is not below the folders either.
        """
        key = uri, sha256 or has
        if doubted:
            self._doubted.add(key)
            self._found.pop(key, None)
        known = self._found.get(key)
        if known is not None:
            # it may be gone by now, and is looked for again then
            with contextlib.suppress(OSError, DicomStudyError):
                return Window(known)
        place = None if key in self._doubted else path_of(uri)
        problem: DicomStudyError | None = None
        for path, told in self._candidates(uri, size, sha256):
            try:
                window = Window(path)
            except (*ABSENT, DicomStudyError):  # a folder or pipe, say, is no file
                continue
            except OSError as error:
                message = f"the referenced file cannot be read: {error.strerror or error}"
                problem = problem or DicomStudyError("source/unreadable", message, source=uri)
                continue
            try:
                same = told and key not in self._doubted
                same |= sha256 is not None and path == place and window.modified == modified
                if size in {None, len(window)} and (same or _is_it(window, sha256, has)):
                    if len(self._found) > _MAX_FOUND:
                        self._found.clear()
                    self._found[key] = path
                    return window
                problem = problem or BulkError(
                    "bulk/source-changed",
                    "the referenced file is no longer the one that was converted; "
                    "name the folder that has it with --sources",
                    source=uri,
                )
            except DicomStudyError as error:
                problem = problem or error
            window.close()
        raise problem or BulkError(
            "bulk/source-missing",
            "the referenced file is gone; name the folder that has it with --sources"
            if uri
            else "the document does not name the file that has a large value",
            source=uri or None,
        )

    def _candidates(
        self, uri: str, size: int | None, sha256: str | None
    ) -> Iterator[tuple[Path, bool]]:
        """Paths that may be the file, and whether that was told by its SHA-256."""
        path = path_of(uri)
        if path is not None:
            yield path, False
        if not self._folders:
            return
        name = "" if path is None else path.name
        if self._below is None:
            self._below = _Below(self._folders)
        if sha256 is not None and size is not None:
            yield from ((each, True) for each in self._below.with_sha256(sha256, size, name))
        else:
            yield from ((each, False) for each in self._below.alike(size, name))


class _Below:
    """The files below some folders, by size and name, and by SHA-256, which is taken once."""

    def __init__(self, folders: Iterable[str | os.PathLike[str]]) -> None:
        self._by_size: dict[int, dict[str, list[str]]] = {}
        for found in find(folders):
            if found.problem is None:
                name = os.path.basename(found.path)  # noqa: PTH119 (as in `find`)
                names = self._by_size.setdefault(found.size, {})
                names.setdefault(name, []).append(found.path)
        #: Those that were not hashed yet.
        self._waiting = {
            size: {name: [*paths] for name, paths in names.items()}
            for size, names in self._by_size.items()
        }
        self._unreadable: dict[int, list[Path]] = {}
        self._by_sha256: dict[str, list[Path]] = {}
        self._lock = threading.Lock()

    def alike(self, size: int | None, name: str) -> Iterator[Path]:
        """Those of a size, of a name first; without a size, those of the name."""
        if size is None:
            for names in self._by_size.values():
                yield from map(Path, names.get(name, ()))
            return
        names = self._by_size.get(size, {})
        yield from map(Path, names.get(name, ()))
        for other, paths in names.items():
            if other != name:
                yield from map(Path, paths)

    def with_sha256(self, sha256: str, size: int, name: str) -> Iterator[Path]:
        """Those that have this SHA-256; files of the name are hashed first."""
        with self._lock:  # what could not be read may be readable by now
            for path in self._unreadable.pop(size, ()):
                self._waiting[size].setdefault(path.name, []).append(str(path))
        given = 0
        while True:
            with self._lock:
                same = self._by_sha256.setdefault(sha256, [])
                while len(same) == given:
                    if not self._hash_one(size, name):
                        return
            yield same[given]
            given += 1

    def _hash_one(self, size: int, name: str) -> bool:
        """Hash a file of a size that was not hashed yet, of a name if there is one."""
        names = self._waiting.get(size)
        if not names:
            return False
        if name not in names:
            name = next(iter(names))
        path = Path(names[name].pop())
        if not names[name]:
            del names[name]
        try:
            with Window(path) as window:
                self._by_sha256.setdefault(sha256_of(window), []).append(path)
        except (OSError, DicomStudyError):
            self._unreadable.setdefault(size, []).append(path)
        return True


def _is_it(window: Window, sha256: str | None, has: Callable[[Window], bool] | None) -> bool:
    """Whether a file is that of this SHA-256, or else has what it should have."""
    if sha256 is not None:
        return sha256_of(window) == sha256
    return has is None or has(window)
