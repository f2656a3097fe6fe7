"""What a DICOM data set is made of once its bytes are taken apart: no I/O, no decoding.

An `Element` is a tag, a value representation and the bytes of a value (PS3.5 section 7.1).
Bytes that are too many to carry around stay where they are and are named by a `Span`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from typing import NamedTuple, Protocol, TypeAlias, TypeGuard, runtime_checkable

__all__ = [
    "CHARACTER_SET_TAG",
    "ITEM",
    "ITEM_DELIMITATION",
    "LONGEST_SHORT",
    "LONG_VRS",
    "MAX_INLINE",
    "META_GROUP",
    "NUMBER_FORMATS",
    "PIXEL_DATA_TAGS",
    "SEQUENCE_DELIMITATION",
    "SHORT_VRS",
    "TEXT_VRS",
    "UNDEFINED_LENGTH",
    "WORD_SIZES",
    "Buffer",
    "Element",
    "Encapsulated",
    "Form",
    "Item",
    "Piece",
    "Sequence",
    "Span",
    "Value",
    "bare_uid",
    "chunks",
    "creator_of",
    "format_tag",
    "is_count",
    "is_creator",
    "is_delimiter",
    "is_private",
    "joined",
    "may_be_large",
    "private_tag",
    "sha256_and_size",
    "sha256_of",
]

#: The longest value with a length of 16 bits in its header (PS3.5 section 7.1.2).
LONGEST_SHORT = 0xFFFE
UNDEFINED_LENGTH = 0xFFFFFFFF

#: Explicit VRs whose header is 12 bytes long: 2 reserved bytes, then a 32-bit length
#: (PS3.5 section 7.1.2).
LONG_VRS = frozenset("OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
SHORT_VRS = frozenset("AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())

TEXT_VRS = frozenset("AE AS CS DA DS DT IS LO LT PN SH ST TM UC UI UR UT".split())

#: `struct` format of one number of each binary numeric VR, without the byte order.
NUMBER_FORMATS = {
    "US": "H",
    "SS": "h",
    "UL": "I",
    "SL": "i",
    "UV": "Q",
    "SV": "q",
    "FL": "f",
    "FD": "d",
}

#: Bytes that swap places between little and big endian, by VR (PS3.5 section 7.3).
WORD_SIZES = {
    "AT": 2,
    "US": 2,
    "SS": 2,
    "OW": 2,
    "UL": 4,
    "SL": 4,
    "FL": 4,
    "OF": 4,
    "OL": 4,
    "UV": 8,
    "SV": 8,
    "FD": 8,
    "OD": 8,
    "OV": 8,
}

#: Float, Double Float and (integer) Pixel Data.
PIXEL_DATA_TAGS = frozenset((0x7FE00008, 0x7FE00009, 0x7FE00010))

#: The group number of file meta information (PS3.10 section 7.1).
META_GROUP = 2

#: Items, and what ends one or all of them (PS3.5 section 7.5).
ITEM, ITEM_DELIMITATION, SEQUENCE_DELIMITATION = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
#: Specific Character Set; its keyword is `paths.CHARACTER_SET`.
CHARACTER_SET_TAG = 0x00080005
#: What a file is known by is never large: character set, SOP, study and series UID (and the file
#: meta information, and the command set). Nor is what others refer to it by, Referenced SOP
#: Instance UID. Nor is what other values are read by: Samples per Pixel, Photometric
#: Interpretation, Number of Frames, Rows, Columns, Bits Allocated, Pixel Representation (and
#: private creators).
_KNOWN_TAGS = frozenset(
    (
        *(CHARACTER_SET_TAG, 0x00080018, 0x00081155, 0x0020000D, 0x0020000E),
        *(0x00280002, 0x00280004, 0x00280008, 0x00280010, 0x00280011, 0x00280100, 0x00280103),
    )
)
#: Even these values are kept apart if they have more bytes.
_MOST_IDENTIFYING = 1 << 16
#: Values of more bytes are kept apart from documents, unless something else is asked for.
MAX_INLINE = 256
#: What may stand around a UID and is no part of it (spec/study.md).
_AROUND_UIDS = " \t\n\v\f\r\0"
_PRIVATE_KEY = re.compile("[0-9A-F]{3}[13579BDF][0-9A-F]{4}")
#: Bytes that are taken at once from a buffer that is not in memory.
_PIECE = 1 << 20
#: Pieces below so many bytes are put together.
_SMALL = 1 << 15


def may_be_large(tag: int, length: int, limit: int) -> bool:
    """Whether a value of `length` bytes is kept apart from its document (spec/record.md)."""
    if tag >> 16 in {0, META_GROUP} or tag in _KNOWN_TAGS or is_creator(tag):
        limit = _MOST_IDENTIFYING
    return length > limit


@runtime_checkable
class Buffer(Protocol):
    """Bytes that can be sliced: `bytes` itself, or a large file read in windows."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: slice, /) -> bytes: ...

    def find(self, wanted: bytes, start: int = ..., end: int = ..., /) -> int:
        """As `bytes.find`."""
        ...


class Span(NamedTuple):
    """`length` bytes from byte `offset` of the buffer that an element was read from."""

    offset: int
    length: int


class Encapsulated(NamedTuple):
    """Encapsulated pixel data: everything behind its header, delimiter included.

    `fragments` are the payloads of its items without their headers; the first one is the
    Basic Offset Table (PS3.5 section A.4). Offsets count from the start of the value.
    """

    offset: int
    length: int
    fragments: tuple[Span, ...]


class Form(StrEnum):
    """How an element's length was written; the letters are those of a layout (spec/layout.md)."""

    DEFINED = ""
    UNDEFINED = "~"  # undefined length; the value runs to the end of its delimiter
    DELIMITED = "$"  # undefined length; the value ends before its delimiter
    GROUP_LENGTH = "="  # (gggg,0000) with the right length, so that it need not be kept
    DECLARED = ":"  # the header says more bytes than there are


class Element(NamedTuple):
    """One element as it was written.

    `vr` is empty where the header was implicit. `value` is a `Sequence` only if the length
    was undefined; items of defined length are bytes until somebody asks for them.
    `declared` is the length field of `Form.DECLARED`, and that of the delimiter behind a value
    of `Form.DELIMITED`, which ought to be zero; so ought `reserved`, the two bytes after a long VR.
    """

    tag: int
    vr: str
    value: Value
    form: Form = Form.DEFINED
    declared: int = 0
    reserved: int = 0


class Item(NamedTuple):
    """One item of a sequence: its elements, and whether its length was undefined.

    `endless`: no delimiter ends its undefined length, but the end of its sequence does. `tag` is
    that of its header, which may be another than (FFFE,E000) where there are no elements.
    """

    elements: tuple[Element, ...]
    undefined: bool
    endless: bool = False
    tag: int = ITEM


class Sequence(NamedTuple):
    """The items of an element; `undefined`: it was closed by a delimiter, not by a length.

    `delimited`: although its length was defined, a delimiter stands at its end.
    """

    items: tuple[Item, ...]
    undefined: bool
    delimited: bool = False


Value: TypeAlias = bytes | Span | Encapsulated | Sequence
#: Some of the bytes of a value or a file, which comes in pieces so that it need not be in memory.
Piece: TypeAlias = bytes | bytearray | memoryview


def format_tag(tag: int) -> str:
    """Eight upper-case hexadecimal digits, as in the DICOM JSON model (PS3.18 F.2.2)."""
    return f"{tag:08X}"


def is_delimiter(tag: int) -> bool:
    """Whether a tag is that of an item or a delimiter, which are no attributes (PS3.5 7.5)."""
    return tag >> 16 == 0xFFFE


def is_private(tag: int) -> bool:
    """True for an odd group number (PS3.5 section 7.8)."""
    return bool(tag & 0x10000)


def private_tag(key: str) -> int | None:
    """The tag of a private attribute, of which the key is eight digits; None for other keys."""
    return int(key, 16) if _PRIVATE_KEY.fullmatch(key) else None


def creator_of(tag: int) -> int | None:
    """The tag of the private creator of a private element (PS3.5 section 7.8.1); None without."""
    element = tag & 0xFFFF
    return (tag & 0xFFFF0000) | element >> 8 if is_private(tag) and element > 0xFFF else None


def is_creator(tag: int) -> bool:
    """Whether an element is a private creator (PS3.5 section 7.8.1)."""
    return is_private(tag) and 0x10 <= tag & 0xFFFF <= 0xFF


def bare_uid(value: object) -> str:
    """A UID without white space and NULs around it, of which files have more than the standard.

    Empty if it is no text.
    """
    return value.strip(_AROUND_UIDS) if isinstance(value, str) else ""


def is_count(value: object) -> TypeGuard[int]:
    """Whether `value` is an int that a number of bytes or instances can be: 0 to 2^63 - 1."""
    return type(value) is int and 0 <= value < 1 << 63


def chunks(buffer: Buffer, span: Span) -> Iterator[bytes | memoryview]:
    """The bytes of `span`: at once and not copied where they are in memory, else in pieces."""
    offset, length = span[:2]
    if isinstance(buffer, bytes):
        yield memoryview(buffer)[offset : offset + length]
        return
    for start in range(offset, offset + length, _PIECE):
        yield buffer[start : min(start + _PIECE, offset + length)]


def joined(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """The bytes of pieces in fewer of them: small ones are put together."""
    small = bytearray()
    for piece in pieces:
        if len(piece) < _SMALL:
            small += piece
            if len(small) < _SMALL:
                continue
            yield small
            small = bytearray()
            continue
        if small:
            yield small
            small = bytearray()
        yield piece
    if small:
        yield small


def sha256_of(buffer: Buffer, span: Span | None = None) -> str:
    """The SHA-256 of a buffer, or of a span of it, in hexadecimal digits."""
    if span is not None and span.length <= _PIECE:
        return hashlib.sha256(buffer[span.offset : span.offset + span.length]).hexdigest()
    sha256, _ = sha256_and_size(chunks(buffer, span or Span(0, len(buffer))))
    return sha256


def sha256_and_size(
    pieces: Iterable[Piece], write: Callable[[Piece], object] | None = None
) -> tuple[str, int]:
    """The SHA-256, in hexadecimal digits, and the number of bytes of what comes in pieces.

    Args:
        pieces: the bytes; only one piece is held at a time.
        write: is given each piece, where they are to go somewhere too.
    """
    digest, size = hashlib.sha256(), 0
    for piece in pieces:
        digest.update(piece)
        size += len(piece)
        if write is not None:
            write(piece)
    return digest.hexdigest(), size
