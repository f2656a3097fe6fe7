"""Where something ends, found by its headers alone before it is read."""

from __future__ import annotations

from dicomstudy.elements import (
    ITEM,
    ITEM_DELIMITATION,
    SEQUENCE_DELIMITATION,
    UNDEFINED_LENGTH,
    Buffer,
)
from dicomstudy.p10.headers import Order

#: Sequences nested deeper than this stay raw bytes.
MAX_DEPTH = 64
#: So many zeros may stand between fragments and their delimiter.
_MOST_ZEROS = 1 << 12
#: The bytes of the shortest header.
_HEADER = 8


class Lookahead:
    """Follows headers in a buffer, but no more in all than it has room for, and finds delimiters.

    Headers that were read in vain count, too (`spend`). So the time for it does not grow faster
    than the buffer.

    Methods give 0 where there is no such end: what they follow is malformed or goes beyond their
    `end`, or there is no room for more headers.
    """

    __slots__ = ("_bare", "_data", "_left", "_order")

    def __init__(self, data: Buffer, order: Order) -> None:
        self._data = data
        self._order = order
        self._left = len(data) // _HEADER
        #: From where to where there is no sequence delimiter.
        self._bare = 0, 0

    def spend(self, headers: int = 1) -> bool:
        """Count headers that are looked at; whether they may be."""
        self._left -= headers
        return self._left >= 0

    @property
    def may_go_on(self) -> bool:
        """Whether no more headers were looked at than may be."""
        return self._left >= 0

    def end_of_implicit(self, pos: int, end: int, *, delimited: bool, depth: int = 0) -> int:
        """Where the item ends whose elements start at `pos`, all implicit and in order.

        There are `depth` sequences around it that are looked at, too.
        """
        unpack = self._order.implicit.unpack
        last = -1
        while delimited or pos < end:
            if pos + 8 > end or not self.spend():
                return 0
            group, number, length = unpack(self._data[pos : pos + 8])
            tag = group << 16 | number
            pos += 8
            if delimited and tag == ITEM_DELIMITATION:
                return pos
            if tag <= last:
                return 0
            last = tag
            undefined = length == UNDEFINED_LENGTH
            pos = self._end_of_implicit_items(pos, end, depth) if undefined else pos + length
            if not pos:
                return 0
        return pos if pos == end else 0

    def _end_of_implicit_items(self, pos: int, end: int, depth: int) -> int:
        """Where the items of an implicit sequence of undefined length end.

        Stricter than the reading of one: what is no row of items as it should be tells nothing.
        """
        unpack = self._order.implicit.unpack
        while pos + 8 <= end and depth < MAX_DEPTH and self.spend():
            group, number, length = unpack(self._data[pos : pos + 8])
            tag = group << 16 | number
            pos += 8
            if tag == SEQUENCE_DELIMITATION:
                return pos
            if tag == ITEM and length == UNDEFINED_LENGTH:
                pos = self.end_of_implicit(pos, end, delimited=True, depth=depth + 1)
                if not pos:
                    return 0
            elif tag == ITEM:
                pos += length
            elif tag != ITEM_DELIMITATION or length:
                return 0
        return 0

    def end_of_items(self, pos: int, end: int) -> int:
        """Where the delimiter ends to which the lengths of the items at `pos` lead."""
        order = self._order
        while pos + 8 <= end and self.spend():
            head = self._data[pos : pos + 8]
            pos += 8
            if head[:4] == order.sequence_delimiter:
                return pos
            if head[:4] != order.item_tag:
                return 0
            (length,) = order.length.unpack_from(head, 4)
            pos += length
        return 0

    def end_behind_zeros(self, pos: int, end: int) -> int:
        """Where the sequence delimiter ends that only zeros stand in front of."""
        near = self._data[pos : min(pos + _MOST_ZEROS + 8, end)]
        behind = near.lstrip(b"\0")
        is_one = len(behind) >= 8 and behind[:4] == self._order.sequence_delimiter
        return pos + len(near) - len(behind) + 8 if is_one else 0

    def end_of_delimiter(self, pos: int, end: int) -> int:
        """Where the next sequence delimiter ends, or what begins as one does."""
        bare_from, bare_to = self._bare
        if bare_from <= pos and end <= bare_to:
            return 0
        found = self._data.find(self._order.sequence_delimiter, pos, end)
        if 0 <= found <= end - 8:
            return found + 8
        self._bare = pos, end
        return 0
