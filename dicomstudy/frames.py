"""Which bytes of the pixel data each frame is made of, without reading the frames (spec/frames.md).

The law: the bytes of the spans of `find`, joined, are the frames that pydicom gives of the
same file. Nothing is read but the offset tables and, where there is no table that is right,
the ends of the fragments.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple, TypeAlias, overload

from dicomstudy.elements import Span, bare_uid
from dicomstudy.errors import StudyError
from dicomstudy.p10 import BIG, LITTLE

__all__ = [
    "FrameSpans",
    "Read",
    "ahead",
    "check_fragments",
    "find",
    "fragments",
    "frame_bytes",
    "has_more",
    "pixel_words",
]

#: A value as attributes hold it: a reference to a large one, or its bytes.
Stored: TypeAlias = Mapping[str, Any] | bytes
#: Gives bytes `start` to `stop` of the large value that a reference stands for.
Read: TypeAlias = Callable[[Mapping[str, Any], int, int], bytes]

#: Bits of a sample of each kind of pixel data; 0 where Bits Allocated says it.
_SAMPLES = {"PixelData": 0, "FloatPixelData": 32, "DoubleFloatPixelData": 64}

#: Implicit and Explicit VR Little Endian, Deflated, and Explicit VR Big Endian.
_NATIVE = tuple(f"1.2.840.10008.1.2{rest}" for rest in ("", ".1", ".1.99", ".2"))
#: MPEG-2, MPEG-4 AVC and HEVC: all frames are one stream (PS3.5 section 8.2.5 to 8.2.11).
_VIDEO = re.compile(r"1\.2\.840\.10008\.1\.2\.4\.10[0-8](?:\.1)?")
#: Text of VR IS (PS3.5 section 6.2).
_INTEGER = re.compile(r"[+-]?[0-9]{1,12}")

_HEADER = 8
#: So many bytes are read at once where something of all fragments is looked at.
_READ_AHEAD = 1 << 20
#: But of fragments that are larger than this, nothing else.
_LARGE_FRAGMENT = 1 << 16
#: So many bytes are read at once where nobody knows how large fragments are.
_PAGE = 1 << 12
_ITEM_TAGS = {False: LITTLE.item_tag, True: BIG.item_tag}
#: So many bytes are the start of the tag of an item and of that of a delimiter.
_AMBIGUOUS = 2
_DELIMITERS = {False: LITTLE.sequence_delimiter, True: BIG.sequence_delimiter}
#: End of image in JPEG and JPEG-LS, end of codestream in JPEG 2000; padding may follow it.
_END_MARKER = b"\xff\xd9"
_END_LENGTH = 10


class FrameSpans(NamedTuple):
    """One frame: the bytes of `spans`, joined, of the value that `reference` is or stands for.

    Spans count from the start of the value. Those of frames whose size is not a whole number
    of bytes share a byte with their neighbours.
    """

    reference: Stored
    spans: tuple[Span, ...]


def pixel_words(attributes: Mapping[str, Any]) -> tuple[int, int]:
    """Bytes of one sample and of one frame of native pixel data, as image attributes say.

    It is how values are stored best, and no more: attributes that are wrong give other numbers.
    """
    bits, size = _bits(attributes)
    return bits // 8 if bits in {16, 32, 64} else 1, size // 8


def has_more(attributes: Mapping[str, Any]) -> bool:
    """Whether native Pixel Data is longer than its frames, as image attributes say, and padding."""
    value = attributes.get("PixelData")
    number = _integer(attributes.get("NumberOfFrames") or 1)
    size = _bits(attributes)[1] * (number if type(number) is int else 1)
    return value is not None and _length(value) > -(-size // 16) * 2


def _bits(attributes: Mapping[str, Any]) -> tuple[int, int]:
    """The bits of one sample and of one frame of native pixel data, as image attributes say."""
    bits, rows, columns, samples = (
        value if type(value := attributes.get(key)) is int else otherwise
        for key, otherwise in (
            *(("BitsAllocated", 8), ("Rows", 0), ("Columns", 0)),
            ("SamplesPerPixel", 1),
        )
    )
    return bits, rows * columns * samples * bits


class _Items(NamedTuple):
    """The items behind the Basic Offset Table: payloads, and item tags counted from the first."""

    payloads: list[Span]
    starts: list[int]


class _Value(NamedTuple):
    """Pixel data, and what is needed to read of it."""

    stored: Stored
    read: Read
    uid: str

    def bytes(self, start: int, stop: int) -> bytes:
        return _slice(self.stored, self.read, start, stop)

    @property
    def length(self) -> int:
        return _length(self.stored)

    def error(self, why: str) -> StudyError:
        return StudyError("study/frames", f"the frames of {self.uid} cannot be told apart: {why}")


def find(
    attributes: Mapping[str, Any], read: Read, *, big: bool, uid: str, word: int = 1
) -> Sequence[FrameSpans]:
    """The place of every frame, in their order.

    Encapsulated frames are cut by the Extended Offset Table if it is right, else by the Basic
    Offset Table, else one to a fragment if there are as many, else behind end markers of JPEG;
    a table is right if it names items that are there, as many as there are frames, and the
    extended one if these are all that have bytes. A video stream is one frame. Native frames are
    cut by the image attributes; of frames that are not whole bytes, such as those of 1 bit a
    sample, the span has every byte that they are in, and of those in words of a big-endian data
    set every word.

    Args:
        attributes: the values of an instance by keyword, as in documents.
        read: gives bytes of large values; only asked for tables, headers and markers.
        big: the byte order of the data set is big-endian.
        uid: the instance, for messages.
        word: bytes of the words that native pixel data was written in, if not byte by byte.

    Raises:
        StudyError: ``study/frames``, there is no pixel data, or it cannot be told where its
            frames start.

    PS3.5 section 8 and Annex A.4, PS3.3 C.7.6.3.1.8 and C.7.6.6.
    """
    found = _pixels(attributes, read, uid)
    if found is None:
        raise StudyError("study/frames", f"{uid} has no pixel data")
    value, bits = found
    number = _number_of_frames(attributes, value)
    lengths = _lengths(attributes, value, big=big)
    if lengths is None:
        return _native(attributes, value, bits, number or 1, word)
    if not _are_all(lengths, value, big=big):
        raise value.error("what is behind its fragments is none")
    frames = _encapsulated(attributes, value, lengths, number, big=big)
    return [FrameSpans(value.stored, spans) for spans in frames]


class Fragments(NamedTuple):
    """Encapsulated pixel data: its Basic Offset Table, and its fragments in their order.

    Both are places in the value; `table` has no bytes if there is none. `read` gives the bytes of
    the value from the one place to the other. `are_all`: the value has nothing else.
    """

    table: Span
    payloads: list[Span]
    read: Callable[[int, int], bytes]
    are_all: bool


def fragments(
    attributes: Mapping[str, Any], read: Read, *, big: bool, uid: str
) -> Fragments | None:
    """The parts of encapsulated pixel data; None if there is none, or it is native.

    Arguments and errors are those of `find`.
    """
    found = _pixels(attributes, read, uid)
    if found is None:
        return None
    value, _ = found
    lengths = _lengths(attributes, value, big=big)
    if lengths is None:
        return None
    table = Span(_HEADER, lengths[0]) if lengths else Span(0, 0)
    return Fragments(table, _payloads(lengths), value.bytes, _are_all(lengths, value, big=big))


def check_fragments(attributes: Mapping[str, Any], read: Read, *, big: bool, uid: str) -> None:
    """Compare the lengths of fragments that a reference says with the headers of the items.

    Arguments and errors are those of `find`.
    """
    found = _pixels(attributes, ahead(read, _READ_AHEAD), uid)
    if found is None:
        return
    value, _ = found
    if isinstance(value.stored, bytes) or "fragments" not in value.stored:
        return
    if _lengths(attributes, value, big=big) != _items(value, big=big):
        raise value.error("its fragments have other lengths")


def frame_bytes(frame: FrameSpans, read: Read) -> bytes:
    """The bytes of a frame, which are read at once if they lie together."""
    stored, spans = frame
    if len(spans) > 1:
        start, stop = spans[0].offset, spans[-1].offset + spans[-1].length
        if stop - start == sum(span.length + _HEADER for span in spans) - _HEADER:
            whole = memoryview(_slice(stored, read, start, stop))
            return b"".join(
                whole[offset - start : offset - start + length] for offset, length in spans
            )
    return b"".join(_slice(stored, read, offset, offset + length) for offset, length in spans)


def ahead(read: Read, size: int) -> Read:
    """What reads as `read` does, but at least `size` bytes: what is near each other at once.

    Only of one value.
    """
    kept, first = b"", 0

    def reading(reference: Mapping[str, Any], start: int, stop: int) -> bytes:
        nonlocal kept, first
        stop = min(stop, reference["length"])
        if not first <= start <= stop <= first + len(kept):
            first = start
            kept = read(reference, start, min(max(stop, start + size), reference["length"]))
        return kept[start - first : stop - first]

    return reading


def _pixels(attributes: Mapping[str, Any], read: Read, uid: str) -> tuple[_Value, int] | None:
    """The pixel data, and the bits of its samples, 0 if attributes say it."""
    for keyword, bits in _SAMPLES.items():
        stored = attributes.get(keyword)
        if isinstance(stored, Mapping | bytes) and _length(stored):
            return _Value(stored, read, uid), bits
    return None


def _slice(stored: Stored, read: Read, start: int, stop: int) -> bytes:
    return stored[start:stop] if isinstance(stored, bytes) else read(stored, start, stop)


def _length(stored: Stored) -> int:
    return len(stored) if isinstance(stored, bytes) else int(stored["length"])


def _number_of_frames(attributes: Mapping[str, Any], value: _Value) -> int | None:
    """Number of Frames (0028,0008); None if it is absent, empty or less than 1."""
    number = _integer(attributes.get("NumberOfFrames"))
    if number is None or number == "":
        return None
    if type(number) is not int:
        raise value.error(f"Number of Frames is {number!r:.40}")
    return max(number, 0) or None


def _integer(stored: object) -> object:
    """The number that a text of VR IS says; anything else as it is."""
    if isinstance(stored, str) and _INTEGER.fullmatch(stored.strip(" ")):
        return int(stored)
    return stored


# Native pixel data


class _NativeFrames(Sequence[FrameSpans]):
    """So many frames of so many bits in a value, of which each is made when it is asked for.

    Each has all words of so many bytes that it is in.
    """

    def __init__(self, stored: Stored, bits: int, number: int, word: int) -> None:
        self._stored = stored
        self._starts = range(0, bits * number, bits)
        self._bits = bits
        self._word = word

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> FrameSpans: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[FrameSpans]: ...

    def __getitem__(self, index: int | slice) -> FrameSpans | Sequence[FrameSpans]:
        if isinstance(index, slice):
            return [self[at] for at in range(len(self))[index]]
        start, word = self._starts[index], self._word
        first = start // (8 * word) * word
        end = min(-(-(start + self._bits) // (8 * word)) * word, _length(self._stored))
        return FrameSpans(self._stored, (Span(first, end - first),))


def _native(
    attributes: Mapping[str, Any], value: _Value, bits: int, number: int, word: int
) -> Sequence[FrameSpans]:
    size = bits or _positive(attributes, "BitsAllocated", value)
    for keyword in ("Rows", "Columns", "SamplesPerPixel"):
        size *= _positive(attributes, keyword, value)
    if attributes.get("PhotometricInterpretation") == "YBR_FULL_422":
        size = _of_subsampled(size, value, number)
    if value.length * 8 < size * number:
        raise value.error(
            f"{number} of {size / 8:g} bytes are more than the {value.length} of the pixel data"
        )
    return _NativeFrames(value.stored, size, number, word)


def _of_subsampled(size: int, value: _Value, number: int) -> int:
    """The bits of each frame if two pixels share their chrominance (PS3.3 C.7.6.3.1.2).

    One sample of three is left out. Where all of them are there, `size` bits for each frame, the
    interpretation was declared in error; unless there is room for one more frame of two samples.
    """
    more = value.length - -(-size * number // 8)
    if more > 1 and value.length * 8 >= size // 3 * 2 * (number + 1):
        raise value.error(f"of YBR_FULL_422 there are {more} bytes more than all samples have")
    return size if more >= 0 else size // 3 * 2


def _positive(attributes: Mapping[str, Any], keyword: str, value: _Value) -> int:
    number = _integer(attributes.get(keyword))
    if type(number) is int and number > 0:
        return number
    raise value.error(f"{keyword} is {number!r:.40}")


# Encapsulated pixel data


def _are_all(lengths: Sequence[int], value: _Value, *, big: bool) -> bool:
    """Whether these items are all that there is.

    Behind them is a delimiter, or what stands for it, or nothing; or zeros, which are padding. The
    header of one more item that is cut short is none of these.
    """
    end = sum(lengths) + _HEADER * len(lengths)
    behind = value.bytes(end, end + _HEADER)
    is_item = len(behind) > _AMBIGUOUS and _ITEM_TAGS[big].startswith(behind[:4])
    return not any(behind) or (value.length <= end + _HEADER and not is_item)


def _lengths(attributes: Mapping[str, Any], value: _Value, *, big: bool) -> list[int] | None:
    """The lengths of all items, the Basic Offset Table first; None if the value is native."""
    if not isinstance(value.stored, bytes) and "fragments" in value.stored:
        stored = value.stored["fragments"]
        if not all(type(length) is int and length >= 0 for length in stored):
            raise value.error("the lengths of its fragments are not numbers")
        if sum(stored) + _HEADER * len(stored) > value.length:
            raise value.error("its fragments have other lengths")
        return list(stored)
    if bare_uid(attributes.get("TransferSyntaxUID")) in _NATIVE:
        return None
    tag = _ITEM_TAGS[big]
    if value.bytes(0, len(tag)) != tag:
        return None
    return _items(value._replace(read=ahead(value.read, _PAGE)), big=big)


def _items(value: _Value, *, big: bool) -> list[int]:
    """The lengths of the items, as their headers say.

    The last one ends before the delimiter that ends the value, whatever its header says, and is
    none if it is longer than the value (spec/p10.md).
    """
    lengths: list[int] = []
    pos = 0
    while True:
        header = value.bytes(pos, pos + _HEADER)
        if len(header) < _HEADER or header[:4] != _ITEM_TAGS[big]:
            break
        lengths.append(int.from_bytes(header[4:], "big" if big else "little"))
        pos += _HEADER + lengths[-1]
    over = pos - (value.length - _HEADER)
    if over > _HEADER:
        lengths.pop()
    elif lengths and 0 < over <= lengths[-1]:
        at = value.length - _HEADER
        if value.bytes(at, at + 4) == _DELIMITERS[big]:
            lengths[-1] -= over
    return lengths


def _encapsulated(
    attributes: Mapping[str, Any],
    value: _Value,
    lengths: Sequence[int],
    number: int | None,
    *,
    big: bool,
) -> list[tuple[Span, ...]]:
    if len(lengths) < 2:
        raise value.error("there are no fragments")
    payloads = _payloads(lengths)
    first = payloads[0].offset
    items = _Items(payloads, [payload.offset - first for payload in payloads])
    frames = _by_extended_table(attributes, value, items, number)
    if frames is None:
        frames = _by_basic_table(value, lengths[0], items, number, big=big)
    if frames is None:
        frames = _by_count(attributes, value, items.payloads, number or 1)
    return frames


def _payloads(lengths: Sequence[int]) -> list[Span]:
    """Where the content of each item lies, of those behind the Basic Offset Table."""
    starts = accumulate(_HEADER + length for length in lengths)
    return [
        Span(start + _HEADER, length) for start, length in zip(starts, lengths[1:], strict=False)
    ]


def _by_extended_table(
    attributes: Mapping[str, Any], value: _Value, items: _Items, number: int | None
) -> list[tuple[Span, ...]] | None:
    """The frames by the Extended Offset Table, None if there is none that is right.

    Each of them is one fragment, in their order, without the byte of padding if the length leaves
    out one byte: what leaves out more is not believed.
    """
    offsets = _numbers(attributes.get("ExtendedOffsetTable"), value.read)
    lengths = _numbers(attributes.get("ExtendedOffsetTableLengths"), value.read)
    if not offsets or len(offsets) != len(lengths) or len(offsets) != (number or len(offsets)):
        return None
    if list(offsets) != items.starts[: len(offsets)]:
        return None
    if any(payload.length for payload in items.payloads[len(offsets) :]):
        return None
    pairs = list(zip(items.payloads, lengths, strict=False))
    if any(length > payload.length for payload, length in pairs):
        return None
    return [
        (Span(payload.offset, length) if length == payload.length - 1 else payload,)
        for payload, length in pairs
    ]


def _numbers(stored: object, read: Read) -> tuple[int, ...]:
    """A value of VR OV, which is little-endian in documents."""
    if not isinstance(stored, Mapping | bytes):
        return ()
    length = _length(stored)
    if length % 8:
        return ()
    return struct.unpack(f"<{length // 8}Q", _slice(stored, read, 0, length))


def _by_basic_table(
    value: _Value, length: int, items: _Items, number: int | None, *, big: bool
) -> list[tuple[Span, ...]] | None:
    """The frames by the Basic Offset Table, None if it is empty or not right."""
    if not length or length % 4:
        return None
    table = struct.unpack(
        f"{'>' if big else '<'}{length // 4}I", value.bytes(_HEADER, _HEADER + length)
    )
    if table[0] or len(table) != (number or len(table)):
        return None
    if any(start >= stop for start, stop in pairwise(table)):
        return None
    place = {start: index for index, start in enumerate(items.starts)}
    if any(offset not in place for offset in table):
        return None
    cuts = [place[offset] for offset in table] + [len(items.starts)]
    return [tuple(items.payloads[start:stop]) for start, stop in pairwise(cuts)]


def _by_count(
    attributes: Mapping[str, Any], value: _Value, payloads: list[Span], number: int
) -> list[tuple[Span, ...]]:
    """The frames without a table."""
    video = _VIDEO.fullmatch(bare_uid(attributes.get("TransferSyntaxUID")))
    if number == 1 or video:
        return [tuple(payloads)]
    kept = len(payloads)
    while kept > number and not payloads[kept - 1].length:
        kept -= 1  # padding
    payloads = payloads[:kept]
    if len(payloads) == number:
        return [(payload,) for payload in payloads]
    if len(payloads) > number:
        frames = list(_by_markers(value, payloads))
        if len(frames) == number:
            return frames
    raise value.error(
        f"{number} frames in {len(payloads)} fragments, without an offset table that is right"
    )


def _by_markers(value: _Value, payloads: Sequence[Span]) -> Iterator[tuple[Span, ...]]:
    """Fragments up to and with each one that ends an image."""
    if value.length < len(payloads) * _LARGE_FRAGMENT:
        value = value._replace(read=ahead(value.read, _READ_AHEAD))
    frame: list[Span] = []
    for payload in payloads:
        frame.append(payload)
        stop = payload.offset + payload.length
        if _END_MARKER in value.bytes(max(payload.offset, stop - _END_LENGTH), stop):
            yield tuple(frame)
            frame = []
    if frame:
        yield tuple(frame)
