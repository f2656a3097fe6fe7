"""Large values in one file per study, each found by its digest (spec/bulk.md).

A value is cut into chunks, each stored on its own: compressed with zstandard where that pays,
after its words were split into their bytes where they are 16 bit and wider. A range of a
value costs the chunks that it touches; a chunk is never larger than `MAX_CHUNK`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeAlias

import zstandard

from dicomstudy.disk import ABSENT, ReadOnly
from dicomstudy.elements import Piece, sha256_and_size
from dicomstudy.errors import BulkError

__all__ = [
    "BEYOND",
    "MAGIC",
    "MAX_CHUNK",
    "BulkFile",
    "BulkReader",
    "BulkWriter",
    "Place",
    "Places",
    "append",
    "check_file",
    "numbered",
    "shuffle",
    "unshuffle",
]

#: The first bytes of every bulk file.
MAGIC = b"DCMBULK1"
MAX_CHUNK = 1 << 20
#: The message of `bulk/place` for a place beyond what belongs to the document.
BEYOND = "a place is beyond what belongs to the document of its bulk file"
#: What chunks are cut to. Buffers of words fit the processor's cache; smaller ones would fill
#: documents with their sizes.
_WORD_CHUNK, _BYTE_CHUNK = 1 << 17, 1 << 18
#: zstandard levels: bytes split from words gain little by a higher one, and lose much time.
_WORD_LEVEL, _BYTE_LEVEL = -1, 3
#: So much of a value is compressed to find out whether compressing it pays.
_PROBE = 1 << 15
_PAYS = 0.95
#: Codecs that write each character below 256 as a little-endian word, by the size of the word.
_WIDER = {2: "utf-16-le", 4: "utf-32-le"}


class Place(NamedTuple):
    """Where a value lies in a bulk file.

    `stored` has the size of each chunk as stored; a chunk as long as its bytes are is stored
    as it is. All chunks but the last are of `chunk` bytes before they are stored. `word` is
    the size in bytes of the words that were split, 1 for none.
    """

    offset: int
    length: int
    chunk: int
    word: int
    stored: tuple[int, ...]

    @property
    def end(self) -> int:
        """Where the last chunk ends."""
        return self.offset + sum(self.stored)

    def to_struct(self) -> dict[str, Any]:
        """The fields that name this place in a document; mirror of `from_struct`."""
        struct: dict[str, Any] = {"offset": self.offset, "stored": list(self.stored)}
        if len(self.stored) > 1:
            struct["chunk"] = self.chunk
        if self.word > 1:
            struct["word"] = self.word
        return struct

    @classmethod
    def from_struct(cls, struct: Mapping[str, Any], length: int) -> Place:
        """The place that a document names for a value of `length` bytes.

        Raises:
            BulkError: fields are missing, or do not fit together.
        """
        offset: Any = struct.get("offset")
        stored: Any = struct.get("stored")
        chunk, word = struct.get("chunk", length), struct.get("word", 1)
        if type(stored) is not list or any(
            type(n) is not int for n in (offset, chunk, word, *stored)
        ):
            raise BulkError("bulk/place", "a place in a bulk file is incomplete")
        fits = (
            0 <= offset < 1 << 63
            and word in {1, 2, 4, 8}
            and (0 < chunk <= length or chunk == length == 0)
            and len(stored) == -(-length // max(chunk, 1))
            and all(
                0 < size <= min(chunk, length - at * chunk, MAX_CHUNK)
                for at, size in enumerate(stored)
            )
        )
        if not fits or min(chunk, length) > MAX_CHUNK:
            raise BulkError("bulk/place", "a place in a bulk file contradicts itself")
        return cls(offset, length, chunk, word, tuple(stored))


#: Where large values lie, by SHA-256: in a bulk file, or in P10 files (spec/bulk.md).
Places: TypeAlias = dict[str, dict[str, Any]]


class BulkFile(NamedTuple):
    """The number of the bulk file of a document, and how many of its bytes belong to that."""

    number: int = 0
    length: int = 0


def numbered(path: Path, number: int) -> Path:
    """The bulk file of a number, `path` being the first one, which has 0."""
    return path.with_name(f"{path.stem}-{number}{path.suffix}") if number else path


def shuffle(data: bytes | memoryview, word: int) -> bytes | memoryview:
    """The first bytes of all words, then the second ones; bytes behind the last word stay last.

    Mirror of `unshuffle`.
    """
    if word == 1 or len(data) < word:
        return data
    whole = bytes(data)  # slices with a step are quick of bytes only
    end = len(whole) - len(whole) % word
    return b"".join([*(whole[at:end:word] for at in range(word)), whole[end:]])


def unshuffle(data: bytes, word: int) -> bytes | bytearray:
    """Mirror of `shuffle`."""
    if word == 1 or len(data) < word:
        return data
    count = len(data) // word
    end = count * word
    if word in _WIDER:
        # the codec makes a word of each byte, much sooner than slices would put it in its place
        whole = bytearray(data[:count].decode("latin-1").encode(_WIDER[word]))
        whole += data[end:]
    else:
        whole = bytearray(len(data))
        whole[:end:word] = data[:count]
        whole[end:] = data[end:]
    for at in range(1, word):
        whole[at:end:word] = data[at * count : (at + 1) * count]
    return whole


class BulkWriter:
    """Appends values to a bulk file. Mirror of `BulkReader`: ``read(add(value)) == value``.

    Args:
        path: the file; made if it is not there.
        end: where to append, what lies behind is cut off (the rest of a run that was
            interrupted); None for the end of the file.

    Raises:
        BulkError: it is to be appended to what is no bulk file (``bulk/not-bulk``).
    """

    def __init__(self, path: Path, *, end: int | None = None) -> None:
        self.path = path
        try:
            self._file = path.open("r+b")
        except FileNotFoundError:
            self._file = path.open("w+b")
        size = os.fstat(self._file.fileno()).st_size
        kept = size if end is None else min(end, size)
        if kept >= len(MAGIC) and self._file.read(len(MAGIC)) != MAGIC:
            self._file.close()
            raise _not_bulk(path)
        if end is not None and end < size:
            self._file.truncate(end)
            size = end
        if size < len(MAGIC):
            self._file.truncate(0)
            self._file.write(MAGIC)
            size = len(MAGIC)
        self.end = size
        self._file.seek(size)

    def add(
        self,
        pieces: Iterable[bytes | memoryview],
        length: int,
        *,
        word: int = 1,
        frame: int = 0,
    ) -> Place:
        """Store a value.

        Args:
            pieces: its bytes, in pieces of any size.
            length: how many they are together.
            word: size of its words in bytes (2 for 16-bit pixels).
            frame: bytes of one frame, if the value is a row of frames.
        """
        chunk = _chunk_size(length, frame, word)
        offset = self.end
        try:
            stored, compressed = self._write(pieces, chunk, word)
        except BaseException:
            self._file.seek(offset)
            self._file.truncate()
            raise
        self.end += sum(stored)
        return Place(offset, length, chunk, word if compressed else 1, tuple(stored))

    def _write(
        self, pieces: Iterable[bytes | memoryview], chunk: int, word: int
    ) -> tuple[list[int], bool]:
        """Write chunks; returns their sizes, and whether any may be compressed."""
        compressor = _ZSTANDARD.compressor(_BYTE_LEVEL if word == 1 else _WORD_LEVEL)
        stored: list[int] = []
        compress = True
        for part in _rechunk(pieces, chunk):
            if not stored and word == 1:
                probe = part[:_PROBE]
                compress = len(compressor(probe)) < _PAYS * len(probe)
            written: bytes | memoryview = part
            if compress:
                small = compressor(shuffle(part, word))
                if len(small) < len(part):
                    written = small
            self._file.write(written)
            stored.append(len(written))
        return stored, compress

    def copy(self, source: BulkReader, place: Place) -> Place:
        """Append a value as it is stored in another bulk file."""
        source.check(place)
        offset = self.end
        remaining = sum(place.stored)
        position = place.offset
        while remaining:
            data = source.pread(min(remaining, MAX_CHUNK), position)
            self._file.write(data)
            remaining -= len(data)
            position += len(data)
        self.end += position - place.offset
        return place._replace(offset=offset)

    def flush(self) -> None:
        """Return once others can read all that was written."""
        self._file.flush()

    def sync(self) -> None:
        """Return once all that was written is on disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; what was added is written."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Zstandard(threading.local):
    """What compresses and decompresses: one for all files, but each thread has its own.

    The tables of a compressor are larger than most values; used by two threads at once, it
    writes something else or crashes.
    """

    def __init__(self) -> None:
        self._compressors: dict[int, zstandard.ZstdCompressor] = {}
        decompress = zstandard.ZstdDecompressor().decompress
        self.decompress = partial(decompress, allow_extra_data=False)

    def compressor(self, level: int) -> Callable[[bytes | memoryview], bytes]:
        """What compresses at a level."""
        found = self._compressors.get(level)
        if found is None:
            found = self._compressors[level] = zstandard.ZstdCompressor(level=level)
        return found.compress


_ZSTANDARD = _Zstandard()


def _chunk_size(length: int, frame: int, word: int) -> int:
    """Whole frames together if they are small, otherwise an even cut."""
    target = _BYTE_CHUNK if word == 1 else _WORD_CHUNK
    if 0 < frame <= target:
        target = frame * (target // frame)
    return max(1, min(target - target % word, length))


def _rechunk(pieces: Iterable[bytes | memoryview], size: int) -> Iterator[bytes | memoryview]:
    """The bytes of `pieces` in pieces of `size`, the last one perhaps shorter."""
    kept = bytearray()
    for piece in pieces:
        view = memoryview(piece)
        start = 0
        if kept:
            start = min(size - len(kept), len(view))
            kept += view[:start]
            if len(kept) < size:
                continue
            yield bytes(kept)
            kept.clear()
        while len(view) - start >= size:
            yield view[start : start + size]
            start += size
        kept += view[start:]
    if kept:
        yield bytes(kept)


class BulkReader:
    """Reads values, and ranges of values, from a bulk file. Mirror of `BulkWriter`.

    Args:
        path: the file.
        length: how much of it belongs to its document; None for all.

    Raises:
        BulkError: there is no such file (``bulk/missing``), it cannot be read
            (``bulk/unreadable``), or it is none (``bulk/not-bulk``).
    """

    def __init__(self, path: Path, *, length: int | None = None) -> None:
        self.path = path
        self._length = length
        try:
            self._file = ReadOnly(path)
        except OSError as error:
            code = "bulk/missing" if isinstance(error, ABSENT) else "bulk/unreadable"
            message = f"the bulk file cannot be opened: {error.strerror}"
            raise BulkError(code, message, source=str(path)) from error
        if self.pread(len(MAGIC), 0) != MAGIC:
            self._file.close()
            raise _not_bulk(path)

    def _error(self, code: str, message: str, offset: int) -> BulkError:
        return BulkError(code, message, source=str(self.path), offset=offset)

    def _unreadable(self, error: OSError, offset: int) -> BulkError:
        message = f"the bulk file cannot be read: {error.strerror}"
        return self._error("bulk/unreadable", message, offset)

    def check(self, place: Place) -> None:
        """Refuse a place beyond what belongs to the document (``bulk/place``)."""
        if self._length is not None and place.end > self._length:
            raise self._error("bulk/place", BEYOND, place.offset)

    def check_length(self) -> None:
        """Refuse a file that has not all that belongs to its document.

        Raises:
            BulkError: it has not (``bulk/truncated``), or the system does not say
                (``bulk/unreadable``).
        """
        try:
            size = self._file.status().st_size
        except OSError as error:
            raise self._unreadable(error, 0) from error
        if self._length is not None and size < self._length:
            message = f"the bulk file has {size} bytes, its document says {self._length}"
            raise self._error("bulk/truncated", message, size)

    def pread(self, length: int, offset: int) -> bytes:
        """`length` bytes from `offset` on.

        Raises:
            BulkError: the file ends before them, or cannot be read.
        """
        try:
            data = self._file.pread(length, offset)
        except OSError as error:
            raise self._unreadable(error, offset) from error
        if len(data) != length:
            raise self._error("bulk/truncated", "the bulk file ends inside a value", offset)
        return data

    def read(self, place: Place, start: int = 0, stop: int | None = None) -> bytes:
        """Bytes `start` to `stop` of a value; touches only the chunks that have them."""
        stop = place.length if stop is None else stop
        pieces = list(self.pieces(place, start, stop))
        return bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)

    def pieces(self, place: Place, start: int = 0, stop: int | None = None) -> Iterator[Piece]:
        """Bytes `start` to `stop` of a value, chunk by chunk.

        Raises:
            BulkError: the stored bytes are damaged, or beyond what belongs to the document.
        """
        self.check(place)
        length, chunk = place.length, place.chunk
        stop = length if stop is None else min(stop, length)
        passed = start // chunk if chunk else 0
        offset = place.offset + sum(place.stored[:passed])
        for at, size in enumerate(place.stored[passed:], passed):
            first = at * chunk
            if first >= stop:
                return
            expected = min(chunk, length - first)
            if first + expected > start:
                data = self._chunk(offset, size, expected, place.word)
                if first < start or first + expected > stop:
                    data = memoryview(data)[max(start - first, 0) : stop - first]
                yield data
            offset += size

    def _chunk(self, offset: int, size: int, expected: int, word: int) -> Piece:
        data = self.pread(size, offset)
        if size == expected:
            return data
        try:
            content = zstandard.get_frame_parameters(data).content_size
            if content != expected:
                message = "a chunk has another length than was recorded"
                raise self._error("bulk/damaged", message, offset)
            return unshuffle(_ZSTANDARD.decompress(data), word)
        except zstandard.ZstdError as error:
            message = f"a chunk cannot be decompressed: {error}"
            raise self._error("bulk/damaged", message, offset) from error

    def verify(self, place: Place, sha256: str) -> None:
        """Prove that a value is what its digest says.

        Raises:
            BulkError: it is not.
        """
        found, _ = sha256_and_size(self.pieces(place))
        if found != sha256:
            raise BulkError(
                "bulk/digest",
                "a value is not what its digest says",
                source=str(self.path),
                offset=place.offset,
            )

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check_file(path: Path, length: int) -> None:
    """Refuse a bulk file that has not all that belongs to its document, before it is written to.

    Args:
        path: the file.
        length: how much of it belongs to the document; of 0, it need not be there.

    Raises:
        BulkError: it is not there (``bulk/missing``), shorter (``bulk/truncated``) or none
            (``bulk/not-bulk``).
    """
    if not length:
        return
    with BulkReader(path, length=length) as reader:
        reader.check_length()


def _not_bulk(path: Path) -> BulkError:
    return BulkError("bulk/not-bulk", "this is not a bulk file", source=str(path))


def append(
    path: Path, values: Mapping[str, tuple[BulkReader, Mapping[str, Any]]], end: int
) -> tuple[int, Places]:
    """Copy values, as they are stored, to the end of a bulk file, which is on disk then.

    Args:
        path: the file; made if it is not there.
        values: by SHA-256, where each value is: a bulk file, and its place there.
        end: how much of the file belongs to its document; what lies behind is cut off.

    Returns where it ends then, and the place of each value in it.

    Raises:
        BulkError: the file is shorter than `end` or none, or another one is damaged.
    """
    check_file(path, end)
    places = {}
    with BulkWriter(path, end=end) as writer:
        for sha256, (reader, place) in values.items():
            stored = Place(place["offset"], 0, 0, 1, tuple(place["stored"]))
            places[sha256] = {**place, "offset": writer.copy(reader, stored).offset}
        writer.sync()
        return writer.end, places
