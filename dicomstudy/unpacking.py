"""Compressed data → what it unpacks to, in pieces that are small however much that is.

No header is believed: the memory that is used has bounds, and every checksum is looked at.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Protocol

__all__ = ["BZIP2", "GZIP", "XZ", "DamagedError", "unpacked", "zip_unpacked"]

GZIP, XZ, BZIP2 = b"\x1f\x8b", b"\xfd7zXZ\0", b"BZh"
#: What a decompressor of LZMA may look back.
_MAX_DICTIONARY = 256 << 20
_PIECE = 1 << 20
#: What is read and unpacked at once of a file that is compressed as a whole: where it is damaged,
#: the libraries give nothing of what they unpacked since they were called.
_PACKED = 1 << 14
#: What is unpacked first: that tells what it is, whatever comes then.
_FIRST = 512


class DamagedError(Exception):
    """Why a compressed, zip or tar file, or a member of it, cannot be read on."""


class _Decompressor(Protocol):
    """What `bz2` and `lzma` have for one stream."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Inflating:
    """A decompressor for deflate; with 16 added to `bits`, for gzip, whose CRC-32 zlib checks."""

    def __init__(self, bits: int) -> None:
        self._inflating = zlib.decompressobj(bits)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._inflating.eof

    @property
    def unused_data(self) -> bytes:
        return self._inflating.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        rest = self._inflating.unconsumed_tail
        piece = self._inflating.decompress(rest + data, max_length)
        self.needs_input = len(piece) < max_length and not self._inflating.unconsumed_tail
        return piece


def _bzip2() -> _Decompressor:
    import bz2  # noqa: PLC0415 (hardly any file needs it)

    return bz2.BZ2Decompressor()


def _xz() -> _Decompressor:
    import lzma  # noqa: PLC0415 (hardly any file needs it)

    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MAX_DICTIONARY)


def _gzip() -> _Decompressor:
    return _Inflating(16 + zlib.MAX_WBITS)


def unpacked(file: IO[bytes], head: bytes) -> Iterator[bytes]:
    """A file as it is, or what all streams in it unpack to, which zeros may follow.

    The modules of Python for it take damage in the head of a later stream for its end.
    """
    for magic, opened in ((GZIP, _gzip), (BZIP2, _bzip2), (XZ, _xz)):
        if head.startswith(magic):
            return _streams(opened, file)
    return iter(lambda: file.read(_PIECE), b"")


def _streams(opened: Callable[[], _Decompressor], file: IO[bytes]) -> Iterator[bytes]:
    rest = file.read(_PACKED)
    while rest:
        decompressor = opened()
        yield from _stream(decompressor, rest, file, _PACKED)
        rest = decompressor.unused_data.lstrip(b"\0")
        while not rest:
            packed = file.read(_PACKED)
            if not packed:
                return
            rest = packed.lstrip(b"\0")


def _stream(
    decompressor: _Decompressor, packed: bytes, file: IO[bytes], most: int
) -> Iterator[bytes]:
    """What one stream unpacks to, in pieces of at most so many bytes."""
    length = _FIRST
    while not decompressor.eof:
        if decompressor.needs_input and not packed:
            packed = file.read(most)
            if not packed:
                raise DamagedError("what is compressed ends too soon")
        piece = decompressor.decompress(packed, length)
        packed, length = b"", most
        if piece:
            yield piece


def zip_unpacked(file: IO[bytes], method: int) -> Iterator[bytes]:
    """What a member unpacks to, by its method (APPNOTE.TXT section 4.4.5)."""
    decompressor: _Decompressor
    if method == 0:
        return iter(lambda: file.read(_PIECE), b"")
    if method == 8:
        decompressor = _Inflating(-zlib.MAX_WBITS)
    elif method == 12:
        decompressor = _bzip2()
    elif method == 14:
        decompressor = _raw_lzma(file)
    else:
        raise DamagedError(f"its compression method {method} is not supported")
    return _stream(decompressor, b"", file, _PIECE)


def _raw_lzma(file: IO[bytes]) -> _Decompressor:
    """A decompressor for what follows the properties in a zip file (APPNOTE.TXT section 5.8.8)."""
    import lzma  # noqa: PLC0415 (hardly any file needs it)

    _, length, first, dictionary = struct.unpack("<HHBI", file.read(9))
    if length != 5 or first >= 225:
        raise DamagedError("its LZMA properties are damaged")
    if dictionary > _MAX_DICTIONARY:
        raise DamagedError("to unpack it takes too much memory")
    properties = {"lc": first % 9, "lp": first // 9 % 5, "pb": first // 45}
    filters = [{"id": lzma.FILTER_LZMA1, "dict_size": dictionary, **properties}]
    return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters)
