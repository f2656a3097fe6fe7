"""Headers of elements and items, in both byte orders (PS3.5 sections 7.1 and 7.5)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from struct import Struct
from typing import NamedTuple

from dicomstudy.elements import LONG_VRS, SHORT_VRS, UNDEFINED_LENGTH
from dicomstudy.errors import P10Error

#: VR bytes as they stand in a header: the VR, and whether its header is the long one.
VRS = {vr.encode(): (vr, False) for vr in SHORT_VRS} | {vr.encode(): (vr, True) for vr in LONG_VRS}

#: The longest encoded element that is known again by its header or its bytes.
LONGEST_KNOWN = 1 << 16


class Order(NamedTuple):
    """The fixed parts of headers in one byte order."""

    explicit: Struct
    implicit: Struct
    length: Struct
    item_tag: bytes
    item_delimiter: bytes
    sequence_delimiter: bytes


LITTLE = Order(
    Struct("<HH2sH"),
    Struct("<HHI"),
    Struct("<I"),
    b"\xfe\xff\x00\xe0",
    b"\xfe\xff\x0d\xe0",
    b"\xfe\xff\xdd\xe0",
)
BIG = Order(
    Struct(">HH2sH"),
    Struct(">HHI"),
    Struct(">I"),
    b"\xff\xfe\xe0\x00",
    b"\xff\xfe\xe0\x0d",
    b"\xff\xfe\xe0\xdd",
)


def looks_explicit(vr: bytes) -> bool:
    """True if the two bytes after a tag are capital letters, or if there are none."""
    return len(vr) < 2 or (0x40 < vr[0] < 0x5B and 0x40 < vr[1] < 0x5B)


def group_length(length: int, *, big: bool) -> bytes:
    """The value of a (gggg,0000) element: the bytes of its group behind it, as UL.

    The group ends with the next element of another group, or with the data set.
    """
    return (length & UNDEFINED_LENGTH).to_bytes(4, "big" if big else "little")


def encode_element(
    tag: int,
    vr: str,
    value: bytes,
    *,
    big: bool,
    length: int | None = None,
    reserved: int = 0,
) -> bytes:
    """A header and `value`: explicit, or implicit where `vr` is empty (PS3.5 section 7.1).

    `length` goes into the header instead of the length of `value`.

    Raises:
        P10Error: the length does not fit a short header.
    """
    layout = BIG if big else LITTLE
    if length is None:
        length = len(value)
    if length > UNDEFINED_LENGTH:
        raise P10Error("p10/too-long", f"{length} bytes do not fit into an element", tag=tag)
    group, number = tag >> 16, tag & 0xFFFF
    if not vr:
        return layout.implicit.pack(group, number, length) + value
    encoded_vr = vr.encode("ascii")
    if vr in LONG_VRS:
        return (
            layout.explicit.pack(group, number, encoded_vr, reserved)
            + layout.length.pack(length)
            + value
        )
    if length > 0xFFFF:
        raise P10Error(
            "p10/too-long", f"{length} bytes do not fit into an element of VR {vr}", tag=tag
        )
    return layout.explicit.pack(group, number, encoded_vr, length) + value


def encode_delimiter(length: int, *, big: bool) -> bytes:
    """A sequence delimiter, as it ends a value of undefined length; `length` ought to be 0."""
    layout = BIG if big else LITTLE
    return layout.sequence_delimiter + layout.length.pack(length)


class Header:
    """The header of all elements of one tag and VR: `start`, then the length, packed.

    `size` is that of the whole header in bytes. Compared by identity; `header` makes them.
    """

    __slots__ = ("length", "size", "start", "tag", "vr")

    def __init__(self, tag: int, vr: str, *, big: bool) -> None:
        encoded = encode_element(tag, vr, b"", big=big)
        self.tag = tag
        self.vr = vr
        self.size = len(encoded)
        if vr and vr not in LONG_VRS:
            self.start, self.length = encoded[:-2], Struct(">H" if big else "<H")
        else:
            self.start, self.length = encoded[:-4], (BIG if big else LITTLE).length


@lru_cache(maxsize=1 << 14)
def header(tag: int, vr: str, *, big: bool) -> Header:
    """The header that `encode_element` writes, without the length."""
    return Header(tag, vr, big=big)


def encode_items(
    items: Iterable[tuple[bytes, bool, bool, int]], *, delimited: bool, big: bool
) -> bytes:
    """The value of a sequence, which ends with a delimiter if `delimited` (PS3.5 section 7.5).

    Of each item: its encoded elements, whether its length is undefined, whether it then has no
    delimiter, and the tag of its header.
    """
    pack = (BIG if big else LITTLE).implicit.pack
    parts: list[bytes] = []
    for encoded, item_undefined, endless, tag in items:
        length = UNDEFINED_LENGTH if item_undefined else len(encoded)
        parts += (pack(tag >> 16, tag & 0xFFFF, length), encoded)
        if item_undefined and not endless:
            parts.append(pack(0xFFFE, 0xE00D, 0))
    if delimited:
        parts.append(pack(0xFFFE, 0xE0DD, 0))
    return b"".join(parts)
