"""A tar file → the files inside, read once from its front to its end.

`tarfile` parses single headers. As a reader it ends quietly at a damaged one, believes whatever
sizes are in them, and keeps a list of all members.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from dicomstudy.unpacking import DamagedError

if TYPE_CHECKING:
    import tarfile

__all__ = ["Tar", "is_tar"]

#: What may stand in a tar file before the content of one member: its header, long names and such.
MAX_HEADERS = 1 << 20
_PIECE = 1 << 20
_BLOCK = 512

#: Kinds of members that have no content whatever their size says, and those whose content is names.
_EMPTY = frozenset({b"1", b"2", b"3", b"4", b"5", b"6"})
_NAMES = frozenset({b"D", b"N", b"V"})
_LONG_NAME, _LONG_LINK, _SPARSE, _GLOBAL, _CONTINUED = b"L", b"K", b"S", b"g", b"M"
_EXTENDED = frozenset({b"x", b"X"})
#: Says, of the member behind it, that it begins in another volume.
_VOLUME = re.compile(rb" GNU\.volume\.offset=(?!0*\n)")
_ZEROS = re.compile(rb"\0*")
_CHECK_SUM = re.compile(rb"[ \0]*[0-7]+[ \0]*")


def is_tar(head: bytes) -> bool:
    """Whether the first 512 bytes of a file are those of a tar file, as they or their sum say."""
    return head[257:262] == b"ustar" or (
        len(head) == _BLOCK
        and _CHECK_SUM.fullmatch(head[148:156]) is not None
        and _header(head) is not None
    )


class _File(NamedTuple):
    """A member of a tar file, as its headers have it."""

    name: str
    is_file: bool
    #: How many bytes the tar file has of it, without padding.
    stored: int
    #: Where these bytes are among zeros, as (offset, length), and how many there are with them.
    chunks: list[tuple[int, int]] | None = None
    size: int = 0
    #: Whether it begins in another tar file.
    is_rest: bool = False


class Tar:
    """A tar file (pax, GNU and older ones), read once from its front to its end."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._piece = b""
        self._at = 0
        self._position = 0
        self._headers_left = MAX_HEADERS
        #: Whether what comes first looks like a header; None as long as it was not read.
        self.is_tar: bool | None = None

    def members(self) -> Iterator[tuple[str, Iterator[bytes] | None]]:
        """The files in it, each with its content, of which the rest is passed over.

        The content of one that begins in another tar file is None.
        """
        while (file := self._next()) is not None:
            end = self._position + _padded(file.stored)
            if file.is_file:
                yield file.name, None if file.is_rest else self._content(file)
            for _ in self._take(end - self._position):
                pass

    def _content(self, file: _File) -> Iterator[bytes]:
        if file.chunks is None:
            yield from self._take(file.stored)
            return
        at = 0
        for offset, length in file.chunks:
            yield from _zeros(offset - at)
            yield from self._take(length)
            at = offset + length
        yield from _zeros(file.size - at)

    def _take(self, length: int) -> Iterator[bytes]:
        """So many bytes in pieces."""
        while length:
            if self._at == len(self._piece):
                self._piece, self._at = next(self._pieces, b""), 0
                if not self._piece:
                    raise DamagedError("it ends too soon")
            piece = self._piece[self._at : self._at + length]
            self._at += len(piece)
            self._position += len(piece)
            length -= len(piece)
            yield piece

    def _block(self) -> bytes:
        """The next block; fewer bytes at the end of the tar file."""
        block = self._piece[self._at : self._at + _BLOCK]
        while len(block) < _BLOCK:
            self._piece, self._at = next(self._pieces, b""), -len(block)
            if not self._piece:
                break
            block += self._piece[: _BLOCK - len(block)]
        self._at = min(self._at + _BLOCK, len(self._piece))
        self._position += len(block)
        return block

    def _within_headers(self, length: int) -> bytes:
        """So many bytes, padded to blocks, that belong to the headers of one member."""
        padded = _padded(length)
        self._headers_left -= padded
        if length < 0 or self._headers_left < 0:
            raise DamagedError("the headers of a member are too large")
        return b"".join(self._take(padded))[:length]

    def _next(self) -> _File | None:
        """The next member; None at the end, which is one block of zeros or more."""
        ended = False
        while True:
            block = self._block()
            if len(block) == _BLOCK and block.strip(b"\0"):
                break
            if len(block) < _BLOCK:
                self.is_tar = self.is_tar or False
                if not ended or block.strip(b"\0"):
                    raise DamagedError("it ends without a block of zeros, and may be cut")
                return None
            ended = True
            zeros = _ZEROS.match(self._piece, self._at)
            length = (zeros.end() - self._at) // _BLOCK * _BLOCK if zeros else 0
            self._at += length
            self._position += length
        self._headers_left = MAX_HEADERS
        long_name, records, is_rest = None, list[tuple[str, bytes]](), False
        while True:
            info = self._parsed(block)
            if info.type in _EXTENDED:
                records += _records(self._within_headers(info.size))
            elif info.type == _LONG_NAME:
                long_name = _text(self._within_headers(info.size).split(b"\0", 1)[0])
            elif info.type == _GLOBAL:  # what is of all files is no name or size
                is_rest = _VOLUME.search(self._within_headers(info.size)) is not None
            elif info.type == _LONG_LINK:
                self._within_headers(info.size)
            else:
                file = self._file(block, info, long_name, records)
                return file._replace(is_rest=is_rest or info.type == _CONTINUED)
            block = self._within_headers(_BLOCK)

    def _parsed(self, block: bytes) -> tarfile.TarInfo:
        if self.is_tar is None:
            self.is_tar = is_tar(block)
        info = _header(block)
        if info is None:
            raise DamagedError("a header in it is damaged")
        return info

    def _file(
        self,
        block: bytes,
        info: tarfile.TarInfo,
        long_name: str | None,
        records: list[tuple[str, bytes]],
    ) -> _File:
        """A member, of what its header and those before it say."""
        fields = dict(records)
        path = fields.get("GNU.sparse.name", fields.get("path"))
        name = _text(path) if path else long_name or info.name
        stored = int(fields.get("size", info.size))
        if stored < 0:
            raise DamagedError("a size in it is negative")
        if info.type in _EMPTY:
            return _File(name, is_file=False, stored=0)
        plain = _File(name, info.type not in _NAMES, stored)
        if info.type == _SPARSE:
            return _sparse(plain, self._old_map(block), _number(block[483:495]))
        if fields.get("GNU.sparse.major") == b"1":
            start = self._position
            chunks = self._map()
            rest = plain._replace(stored=stored - (self._position - start))
            return _sparse(rest, chunks, int(fields["GNU.sparse.realsize"]))
        if "GNU.sparse.size" in fields:
            if "GNU.sparse.map" in fields:
                numbers = [int(each) for each in fields["GNU.sparse.map"].split(b",")]
            else:
                keys = {"GNU.sparse.offset", "GNU.sparse.numbytes"}
                numbers = [int(value) for key, value in records if key in keys]
            return _sparse(plain, _pairs(numbers), int(fields["GNU.sparse.size"]))
        return plain

    def _old_map(self, block: bytes) -> list[tuple[int, int]]:
        """Where the content of a sparse file of GNU tar is, of its header and blocks behind it."""
        numbers = [_number(block[at : at + 12]) for at in range(386, 482, 12)]
        more = block[482]
        while more:
            block = self._within_headers(_BLOCK)
            numbers += [_number(block[at : at + 12]) for at in range(0, 504, 12)]
            more = block[504]
        return _pairs(numbers)

    def _map(self) -> list[tuple[int, int]]:
        """The map of version 1.0, in front of the content: lines of numbers, first their count."""
        numbers: list[int] = []
        rest = b""
        while not numbers or len(numbers) <= 2 * numbers[0]:
            *lines, rest = (rest + self._within_headers(_BLOCK)).split(b"\n")
            numbers += [int(line) for line in lines if line.strip(b"\0")]
            if len(rest) > _BLOCK:
                raise DamagedError("the map of a sparse file in it is damaged")
        return _pairs(numbers[1 : 2 * numbers[0] + 1])


def _header(block: bytes) -> tarfile.TarInfo | None:
    """What a header says; None if the block is none."""
    import tarfile  # noqa: PLC0415 (it takes longer to import than a small change)

    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return None


def _padded(length: int) -> int:
    return length + -length % _BLOCK


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _zeros(length: int) -> Iterator[bytes]:
    piece = bytes(min(length, _PIECE))
    while length:
        length -= len(piece)
        yield piece
        piece = piece[:length]


def _number(field: bytes) -> int:
    """A number in a header: octal, or binary if its first bit is set."""
    if field[0] & 0x80:
        return int.from_bytes(field[1:], "big")
    return int(field.split(b"\0", 1)[0].strip() or b"0", 8)


def _pairs(numbers: list[int]) -> list[tuple[int, int]]:
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _sparse(file: _File, chunks: list[tuple[int, int]], size: int) -> _File:
    """A file of `size` bytes that has only the `chunks`, in their order, and zeros between them."""
    chunks = [chunk for chunk in chunks if chunk[1]]
    ends = [0, *(offset + length for offset, length in chunks)]
    starts = [*(offset for offset, _ in chunks), size]
    is_ordered = all(end <= start for end, start in zip(ends, starts, strict=True))
    lengths = [length for _, length in chunks]
    if not is_ordered or min(lengths, default=0) < 0 or sum(lengths) > file.stored:
        raise DamagedError("the map of a sparse file in it is damaged")
    return file._replace(chunks=chunks, size=size)


def _records(content: bytes) -> Iterator[tuple[str, bytes]]:
    """The keywords and values of a pax header: lines, each with its length in front of it."""
    at = 0
    while at < len(content) and content[at]:
        space = content.find(b" ", at, at + 12)
        end = at + int(content[at:space])
        if space < 0 or not space < end <= len(content) or content[end - 1] != ord("\n"):
            raise DamagedError("a pax header in it is damaged")
        keyword, _, value = content[space + 1 : end - 1].partition(b"=")
        yield _text(keyword), value
        at = end
