"""Zip and tar files → the files inside, one at a time (spec/archive.md).

Nothing here knows DICOM, and no header is believed: the memory that is used, and what is unpacked,
have bounds that only the size of the zip or tar file moves.
"""

from __future__ import annotations

import contextlib
import copy
import io
import os
import struct
import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

from dicomstudy.disk import write_all
from dicomstudy.errors import ArchiveError, DicomStudyError, Problem, unwritable
from dicomstudy.sources import MAX_WHOLE, Window
from dicomstudy.tars import Tar, is_tar
from dicomstudy.unpacking import BZIP2, GZIP, XZ, DamagedError, unpacked, zip_unpacked

if TYPE_CHECKING:
    import zipfile

    from _typeshed import WriteableBuffer

__all__ = ["Member", "holds_files", "is_container", "open_members"]

#: Members of zip and tar files beyond this are refused.
MAX_MEMBER = 8 << 30
#: Zip and tar files that unpack to more than so many times their size are not unpacked further.
MAX_RATIO = 1100
_BLOCK = 512
#: Enough of a compressed file for its first bytes, whatever compressed it.
_LONGEST_BLOCK = 1 << 20
_TOO_LARGE = "it is too large to be taken out of its zip or tar file"
_NO_BEGINNING = "it begins in another tar file"
_TOO_MUCH = f"it unpacks to more than {MAX_RATIO} times its size"
#: What zip files begin with, those too that were to be split into several.
_ZIP = (b"PK\x03\x04", b"PK\x07\x08PK\x03\x04", b"PK00PK\x03\x04")
#: Where the first member of a zip file stands: at its front, or behind the mark of a split one.
_FIRST_OFFSETS = frozenset({0, 4})
#: The record at the end of a zip file, to the number of its members; and that with more digits, in
#: front of it (APPNOTE.TXT sections 4.3.16 and 4.3.14).
_END, _END_64 = struct.Struct("<4s6xH"), struct.Struct("<4s28xQ")
_END_MARK, _END_64_MARK = b"PK\x05\x06", b"PK\x06\x06"
#: What the one says if only the other one does.
_NO_COUNT = 0xFFFF
#: Where they are: the comment behind them has fewer than 65,536 bytes.
_TAIL = (1 << 16) + 256
#: More compressed bytes than any method makes of nothing.
_OF_NOTHING = 64
#: Names of members that documents and programs have which are zip files.
_OF_DOCUMENTS = (b"[Content_Types].xml", b"META-INF/MANIFEST.MF", b"META-INF/container.xml")
#: What a document begins with that names its kind in its first member, behind the header of that.
_KIND = b"mimetype"
#: Bytes of a zip or tar file that are read at once.
_BUFFERED = 1 << 16


class _File(io.FileIO):
    """A file of which a failed read is no damage, also where a library takes any error for that."""

    def readinto(self, buffer: WriteableBuffer, /) -> int | None:
        """As that of a file, but for the error (``source/unreadable``)."""
        with self._reading():
            return super().readinto(buffer)

    def readall(self) -> bytes:
        """As that of a file, but for the error (``source/unreadable``)."""
        with self._reading():
            return super().readall()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise _unreadable(error, str(self.name)) from error


def _unreadable(error: OSError, source: str) -> DicomStudyError:
    message = f"cannot be read: {error.strerror or error}"
    return DicomStudyError("source/unreadable", message, source=source)


class Member(NamedTuple):
    """A file inside a zip or tar file; `data` is None if there is a problem.

    `is_other`: the problem is that of a compressed file that does not begin like a tar file.
    """

    name: str
    data: bytes | Window | None
    problem: Problem | None = None
    is_other: bool = False

    def source_in(self, path: str | os.PathLike[str]) -> str:
        """What problems call the member of the zip or tar file `path`."""
        return f"{os.fspath(path)}!{self.name}"


def is_container(head: bytes) -> bool:
    """Whether the first 512 bytes of a file may be those of a zip or tar file."""
    return head.startswith((*_ZIP, GZIP, XZ, BZIP2)) or is_tar(head)


def holds_files(data: bytes | Window) -> bool:
    """Whether a member may be a zip or tar file itself, and no document or program that is one."""
    head = data[:_BLOCK]
    if head.startswith(_ZIP):
        directory = data[max(len(data) - _BUFFERED, 0) : len(data)]
        is_document = head[30:].startswith(_KIND) or any(n in directory for n in _OF_DOCUMENTS)
        return not is_document
    if not is_container(head):
        return False
    with contextlib.suppress(Exception):  # of damage the libraries raise whatever they meet
        first = b""
        for piece in unpacked(io.BytesIO(data[:_LONGEST_BLOCK]), head):
            first = (first + piece)[:_BLOCK]
            if len(first) == _BLOCK:
                break
        return is_tar(first)
    return True


def open_members(path: Path, *, folder: Path | None = None) -> Iterator[Member]:
    """The files inside a zip or tar file (gzip, bzip2 and xz included), in their order.

    A member of more than `MAX_MEMBER` bytes is refused, whatever its header says. All members
    together, and all that a compressed tar file unpacks to, have at most `MAX_RATIO` times the
    bytes of the zip or tar file, and `MAX_WHOLE`.

    Args:
        path: the zip or tar file.
        folder: where large members stand while they are read.

    Yields:
        One member at a time; one with a problem for what cannot be read.

    Raises:
        ArchiveError: a large member cannot be written to `folder` (`UNWRITABLE`).
    """
    tar = None
    try:
        with _opened(path) as file:
            head = file.read(_BLOCK)
            file.seek(0)
            size = os.fstat(file.fileno()).st_size
            taking = _Taking(path, folder, MAX_WHOLE + MAX_RATIO * size)
            if head.startswith(_ZIP):
                yield from _zip_members(taking, file, size)
                return
            tar = Tar(_bounded(unpacked(file, head), taking.remaining))
            for name, pieces in tar.members():
                if pieces is None:
                    yield taking.refused(name, _NO_BEGINNING)
                    continue
                yield from _closing(taking.take(pieces, name))
                if not taking.remaining:  # of holes, a small file may have as many as it likes
                    raise DamagedError(_TOO_MUCH)  # noqa: TRY301 (as with all that is damaged)
    except (MemoryError, ArchiveError):
        raise
    except DicomStudyError as error:  # of what could not be read, nothing tells what it is
        yield Member("", None, error.problem(str(path)))
    except Exception as error:  # noqa: BLE001 (of damage the libraries raise whatever they meet)
        message = f"the zip or tar file cannot be read to its end: {error}"
        problem = Problem(str(path), "source/container", message)
        is_other = tar is not None and tar.is_tar is False
        yield Member("", None, problem, is_other=is_other)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    try:
        file = io.BufferedReader(_File(path), _BUFFERED)
    except OSError as error:
        raise _unreadable(error, str(path)) from error
    with file:
        yield file


class _Taking:
    """Takes members out of one zip or tar file, up to so many bytes."""

    def __init__(self, path: Path, folder: Path | None, remaining: int) -> None:
        self.path = path
        self._folder = folder
        #: What may still be taken out.
        self.remaining = remaining

    def take(self, pieces: Iterator[bytes], name: str) -> Member:
        """A member: in memory if it is small, otherwise in a file that has no name any more."""
        limit = min(MAX_MEMBER, self.remaining)
        kept: list[bytes] = []
        size = 0
        try:
            for piece in pieces:
                kept.append(piece)
                size += len(piece)
                if size > min(MAX_WHOLE, limit):
                    break
            else:
                return Member(name, b"".join(kept))
            if size > limit:
                return self.refused(name, _TOO_LARGE)
            import tempfile  # noqa: PLC0415 (it takes longer to import than a small change)

            with self._writing():
                large = tempfile.TemporaryFile(buffering=0, dir=self._folder)  # noqa: SIM115 (a Window's)
            try:
                size = 0
                for piece in chain(kept, pieces):
                    size += len(piece)
                    if size > limit:
                        large.close()
                        return self.refused(name, _TOO_LARGE)
                    with self._writing():
                        write_all(large.fileno(), piece)
                return Member(name, Window(large))
            except BaseException:
                large.close()
                raise
        finally:
            self.remaining -= min(size, self.remaining)  # damaged or not

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """What cannot be written is not the fault of the zip or tar file."""
        try:
            yield
        except OSError as error:
            source = None if self._folder is None else str(self._folder)
            raise unwritable("a large member cannot be written", error, source=source) from error

    def refused(self, name: str, why: str) -> Member:
        """The member that cannot be taken out."""
        member = Member(name, None)
        problem = Problem(member.source_in(self.path), "source/member", f"cannot be read: {why}")
        return member._replace(problem=problem)


def _closing(member: Member) -> Iterator[Member]:
    try:
        yield member
    finally:
        if isinstance(member.data, Window):
            member.data.close()


# -- zip files ---------------------------------------------------------------------------------
# What takes longer to import than a change of a study is imported where it is needed.


def _zip_members(taking: _Taking, file: IO[bytes], size: int) -> Iterator[Member]:
    import zipfile  # noqa: PLC0415 (as above)

    packed = 0
    with zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
        for info in infos:
            is_empty = not info.file_size and info.compress_size <= _OF_NOTHING
            if is_empty and info.filename.endswith("/"):  # a folder
                continue
            packed += info.compress_size
            if info.flag_bits & 1:
                yield taking.refused(info.filename, "it is encrypted")
                continue
            if info.file_size and not taking.remaining:
                yield taking.refused(info.filename, _TOO_LARGE)
                continue
            if packed > size:
                yield taking.refused(info.filename, "members overlap")
                continue
            try:
                member = taking.take(_zip_pieces(archive, info), info.filename)
            except (MemoryError, ArchiveError):
                raise
            except DicomStudyError as error:
                member = Member(info.filename, None)
                problem = error.problem()._replace(source=member.source_in(taking.path))
                member = member._replace(problem=problem)
            except Exception as error:  # noqa: BLE001 (as above)
                member = taking.refused(info.filename, str(error))
            yield from _closing(member)
        _check_all_named(infos, file, size)


def _check_all_named(infos: list[zipfile.ZipInfo], file: IO[bytes], size: int) -> None:
    """Refuse a zip file whose directory does not name what is at its front, or too few members."""
    first = min((info.header_offset for info in infos), default=size)
    if first not in _FIRST_OFFSETS or (len(infos) - _count(file, size)) % (1 << 16):
        raise DamagedError("its directory does not name all that is in it")


def _count(file: IO[bytes], size: int) -> int:
    """How many members a zip file has, as its end says."""
    file.seek(max(size - _TAIL, 0))
    tail = file.read()
    end = tail.rfind(_END_MARK)
    _, count = _END.unpack_from(tail, end)
    start = tail.rfind(_END_64_MARK, 0, end)
    if count == _NO_COUNT and start >= 0:
        _, count = _END_64.unpack_from(tail, start)
    return int(count)


def _zip_pieces(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    """The content of a member; `zipfile` itself bounds what it unpacks at once for deflate only."""
    raw = copy.copy(info)
    raw.compress_type, raw.file_size = 0, info.compress_size
    del raw.CRC  # it is that of the content
    left, crc = info.file_size, 0
    with archive.open(raw) as file:
        pieces = zip_unpacked(file, info.compress_type)
        while left:
            piece = next(pieces, b"")[:left]
            if not piece:
                break
            left -= len(piece)
            crc = zlib.crc32(piece, crc)
            yield piece
    if crc != info.CRC:
        raise DamagedError("bad CRC-32")
    if not info.file_size and info.compress_size > _OF_NOTHING:
        raise DamagedError("it has no size, but content")


def _bounded(pieces: Iterator[bytes], remaining: int) -> Iterator[bytes]:
    for piece in pieces:
        remaining -= len(piece)
        if remaining < 0:
            raise DamagedError(_TOO_MUCH)
        yield piece
