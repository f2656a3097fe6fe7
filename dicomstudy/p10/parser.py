"""Bytes → elements: one data set, and the items inside it."""

from __future__ import annotations

from dicomstudy.elements import (
    ITEM,
    ITEM_DELIMITATION,
    LONG_VRS,
    PIXEL_DATA_TAGS,
    SEQUENCE_DELIMITATION,
    UNDEFINED_LENGTH,
    Buffer,
    Element,
    Encapsulated,
    Form,
    Item,
    Sequence,
    Span,
    Value,
    format_tag,
    may_be_large,
)
from dicomstudy.errors import P10Error, Problem
from dicomstudy.p10.headers import (
    BIG,
    LITTLE,
    VRS,
    Header,
    group_length,
    looks_explicit,
)

#: Sequences nested deeper than this stay raw bytes.
MAX_DEPTH = 64
#: Items of defined length beyond this stay where they are, as any large value does; those of
#: undefined length are not taken apart if they have more bytes in values.
_MAX_ITEMS = 1 << 28
#: The bytes of the shortest header.
_HEADER = 8
#: Items and elements that the value of one element may have inside.
MAX_INSIDE = 1 << 22


class Parser:
    """Takes elements off a buffer in one byte order."""

    __slots__ = (
        *("ahead", "big", "data", "flaws", "inside", "irregular", "limit", "looked", "order"),
        "taken",
    )

    def __init__(self, data: Buffer, *, big: bool, limit: int) -> None:
        self.data = data
        self.big = big
        self.order = BIG if big else LITTLE
        self.limit = limit
        self.irregular = False
        self.flaws: list[Problem] = []
        self.taken = 0
        self.inside = 0
        #: How many more headers may be looked at ahead of reading them, and whether any was.
        self.ahead = len(data) // _HEADER
        self.looked = False

    def element(
        self, pos: int, end: int, explicit: bool, depth: int, top: bool
    ) -> tuple[Element, int]:
        """The element at `pos`, and where the next one starts.

        Raises:
            P10Error: it does not end before `end` (and is not at the `top`, where a value may
                be cut short), or its items cannot be followed.
        """
        order = self.order
        start = pos + 8
        head = self.data[pos:start]
        if len(head) < 8 or start > end:
            raise P10Error("p10/truncated", "the file ends inside an element", offset=pos)
        vr, reserved = "", 0
        group, number, vr_bytes, length = order.explicit.unpack(head)
        if explicit:
            known = VRS.get(vr_bytes)
            if known is None:
                if looks_explicit(vr_bytes):
                    vr = vr_bytes.decode("ascii")
            else:
                vr, long_header = known
                if long_header:
                    reserved = length
                    start = pos + 12
                    if start > end:
                        raise P10Error(
                            "p10/truncated", "the file ends inside an element", offset=pos
                        )
                    (length,) = order.length.unpack(self.data[pos + 8 : start])
        if not vr:
            (length,) = order.length.unpack(head[4:])
        tag = group << 16 | number
        if length == UNDEFINED_LENGTH and (not vr or vr in LONG_VRS):
            value, form, after = self.undefined(tag, vr, start, end, explicit, depth, top)
            return Element(tag, vr, value, form, 0, reserved), after
        after = start + length
        if length <= self.limit and after <= end:
            return Element(tag, vr, self.data[start:after], Form.DEFINED, 0, reserved), after
        if after > end:
            if not top:
                raise P10Error(
                    "p10/truncated", "an element is longer than what holds it", offset=pos, tag=tag
                )
            value = self.take(tag, vr, start, end - start, depth)
            return Element(tag, vr, value, Form.DECLARED, length, reserved), end
        value = self.take(tag, vr, start, length, depth)
        return Element(tag, vr, value, Form.DEFINED, 0, reserved), after

    def again(self, head: Header, pos: int, end: int) -> int | None:
        """Where the element at `pos` ends, if it has this header, but for its length.

        As `element` would say, the work of which is already done. None if that has to be asked.
        """
        value_at = pos + head.size
        encoded = self.data[pos:value_at]
        if not encoded.startswith(head.start) or value_at > end:
            return None
        (length,) = head.length.unpack_from(encoded, len(head.start))
        after = value_at + length
        return None if length > self.limit or after > end else after

    def tag(self, pos: int) -> int:
        """The tag at `pos`, or 0 if the data end there."""
        head = self.data[pos : pos + 8]
        if len(head) < 8:
            return 0
        group, number, _ = self.order.implicit.unpack(head)
        return int(group << 16 | number)

    def take(self, tag: int, vr: str, start: int, length: int, depth: int) -> bytes | Span:
        """The bytes of a value; their place if they are many, not items and not in an item."""
        if depth:
            self.taken += length
            if self.taken > _MAX_ITEMS:
                raise P10Error("p10/too-large", "items have too many bytes to take apart", tag=tag)
        elif may_be_large(tag, length, self.limit):
            items = vr == "SQ" or (
                vr in {"", "UN"}
                and tag not in PIXEL_DATA_TAGS
                and self.data[start : start + 4] == self.order.item_tag
            )
            if not items or length > _MAX_ITEMS:
                return Span(start, length)
        return self.data[start : start + length]

    def undefined(
        self, tag: int, vr: str, start: int, end: int, explicit: bool, depth: int, top: bool
    ) -> tuple[Value, Form, int]:
        """The value of an element of undefined length, its form, and where it ends."""
        data, order = self.data, self.order
        if not depth:
            self.taken = self.inside = 0
        first = data[start : start + 4]
        bulk = tag in PIXEL_DATA_TAGS or vr in {"OB", "OW", "OD", "OF", "OL", "OV"}
        if first in {order.item_tag, order.sequence_delimiter}:
            if bulk:
                fragments, after, complete = self.fragments(start, end)
                if complete or top:
                    if not complete:
                        self.flaws.append(
                            Problem(
                                None,
                                "p10/no-delimiter",
                                "the pixel data ends with the file, inside a fragment or before "
                                "its delimiter",
                                start,
                                format_tag(tag),
                            )
                        )
                    if depth:
                        return data[start:after], Form.UNDEFINED, after
                    return Encapsulated(start, after - start, fragments), Form.UNDEFINED, after
            else:
                outer, self.irregular = self.irregular, False
                sequence, after = self.sequence(
                    start, end, explicit, depth + 1, undefined=True, unknown=vr == "UN"
                )
                irregular, self.irregular = self.irregular, outer or self.irregular
                if irregular:
                    self.flaws.append(
                        Problem(
                            None,
                            "p10/delimiter-length",
                            "a delimiter has a length; the items are kept as bytes",
                            start,
                            format_tag(tag),
                        )
                    )
                    return data[start:after], Form.UNDEFINED, after
                return sequence, Form.DEFINED, after
        found = data.find(order.sequence_delimiter, start, end)
        if found < 0 or found + 8 > end:
            raise P10Error(
                "p10/no-delimiter", "a value of undefined length has no end", offset=start, tag=tag
            )
        after = found + 8
        if may_be_large(tag, after - start, self.limit) and not depth:
            return Span(start, after - start), Form.UNDEFINED, after
        return data[start:after], Form.UNDEFINED, after

    def fragments(self, start: int, end: int) -> tuple[tuple[Span, ...], int, bool]:
        """The fragments of encapsulated pixel data, where they end, and whether all are there."""
        fragments: list[Span] = []
        pos = start
        item_tag, delimiter = self.order.item_tag, self.order.sequence_delimiter
        length_of = self.order.length.unpack_from
        while pos + 8 <= end:
            head = self.data[pos : pos + 8]
            if head[:4] == delimiter:
                return tuple(fragments), pos + 8, True
            (length,) = length_of(head, 4)
            if head[:4] != item_tag or pos + 8 + length > end:
                break
            fragments.append(Span(pos + 8 - start, length))
            pos += 8 + length
        found = self.data.find(delimiter, pos, end)
        if 0 <= found <= end - 8:
            return tuple(fragments), found + 8, True
        return tuple(fragments), end, False

    def sequence(
        self, pos: int, end: int, explicit: bool, depth: int, *, undefined: bool, unknown: bool
    ) -> tuple[Sequence, int]:
        """Items up to `end`, or up to a delimiter; and where they end.

        `unknown`: the sequence has VR UN.
        """
        if depth > MAX_DEPTH:
            raise P10Error(
                "p10/too-deep", f"sequences are nested deeper than {MAX_DEPTH}", offset=pos
            )
        items: list[Item] = []
        unpack = self.order.implicit.unpack
        while undefined or pos < end:
            self.count(pos)
            head = self.data[pos : pos + 8]
            if len(head) < 8 or pos + 8 > end:
                raise P10Error("p10/truncated", "a sequence ends inside an item", offset=pos)
            group, number, length = unpack(head)
            tag = group << 16 | number
            if tag == SEQUENCE_DELIMITATION and undefined:
                self.irregular |= length != 0
                return Sequence(tuple(items), True), pos + 8
            if tag == SEQUENCE_DELIMITATION and not length and pos + 8 == end:
                return Sequence(tuple(items), False, delimited=True), end
            if not length and tag not in {ITEM, SEQUENCE_DELIMITATION}:
                items.append(Item((), False, tag=tag))
                pos += 8
                continue
            if tag != ITEM:
                raise P10Error(
                    "p10/not-an-item",
                    f"expected an item, found ({group:04X},{number:04X})",
                    offset=pos,
                )
            if length == UNDEFINED_LENGTH:
                here = explicit and self.is_explicit(pos + 8, end, delimited=True, unknown=unknown)
                elements, pos, endless = self.item(
                    pos + 8, end, here, depth, delimited=True, may_be_endless=not undefined
                )
                items.append(Item(tuple(elements), True, endless))
            else:
                after = pos + 8 + length
                if after > end:
                    raise P10Error(
                        "p10/truncated", "an item is longer than its sequence", offset=pos
                    )
                here = explicit and self.is_explicit(
                    pos + 8, after, delimited=False, unknown=unknown
                )
                elements, pos, _ = self.item(pos + 8, after, here, depth, delimited=False)
                items.append(Item(tuple(elements), False))
        return Sequence(tuple(items), False), pos

    def count(self, pos: int) -> None:
        """Count one more item or element inside the element that is read."""
        self.inside += 1
        if self.inside > MAX_INSIDE:
            message = f"one element has more than {MAX_INSIDE} inside"
            raise P10Error("p10/too-many-elements", message, offset=pos)

    def is_explicit(self, pos: int, end: int, *, delimited: bool, unknown: bool) -> bool:
        """Whether the item whose elements start at `pos` is, in an explicit data set.

        Two capital letters may be half of the length in an implicit header, most of all inside
        UN (PS3.5 section 6.2.2).
        """
        vr = self.data[pos + 4 : pos + 6]
        if not looks_explicit(vr):
            return False
        if (vr in VRS and not unknown) or pos + 8 > end:
            return True
        self.looked = True
        return not self.end_of_implicit(pos, end, 0, delimited=delimited)

    def may_look(self) -> bool:
        """Count one more header that is looked at; whether it may be.

        So the time for it does not grow faster than the file.
        """
        self.ahead -= 1
        return self.ahead >= 0

    def end_of_implicit(self, pos: int, end: int, depth: int, *, delimited: bool) -> int:
        """Where the item ends whose elements start at `pos`, all implicit and in order; or 0."""
        unpack = self.order.implicit.unpack
        last = -1
        while delimited or pos < end:
            if pos + 8 > end or not self.may_look():
                return 0
            group, number, length = unpack(self.data[pos : pos + 8])
            tag = group << 16 | number
            pos += 8
            if delimited and tag == ITEM_DELIMITATION:
                return pos
            if tag <= last:
                return 0
            last = tag
            pos = self.end_of_items(pos, end, depth) if length == UNDEFINED_LENGTH else pos + length
            if not pos:
                return 0
        return pos if pos == end else 0

    def end_of_items(self, pos: int, end: int, depth: int) -> int:
        """Where the items of an implicit sequence of undefined length end; or 0.

        Stricter than `sequence`: what is no row of items as it should be tells nothing.
        """
        unpack = self.order.implicit.unpack
        while pos + 8 <= end and depth < MAX_DEPTH and self.may_look():
            group, number, length = unpack(self.data[pos : pos + 8])
            tag = group << 16 | number
            pos += 8
            if tag == SEQUENCE_DELIMITATION:
                return pos
            if tag == ITEM and length == UNDEFINED_LENGTH:
                pos = self.end_of_implicit(pos, end, depth + 1, delimited=True)
                if not pos:
                    return 0
            elif tag == ITEM:
                pos += length
            elif tag != ITEM_DELIMITATION or length:
                return 0
        return 0

    def item(
        self,
        pos: int,
        end: int,
        explicit: bool,
        depth: int,
        *,
        delimited: bool,
        may_be_endless: bool = False,
    ) -> tuple[list[Element], int, bool]:
        """The elements of an item, where the next item starts, and whether a delimiter is missing.

        `may_be_endless`: the item may end where its sequence does, instead of being `delimited`.
        """
        elements: list[Element] = []
        starts: list[int] = []
        delimiter = self.order.item_delimiter
        while pos < end or (delimited and not may_be_endless):
            if delimited and self.data[pos : pos + 4] == delimiter:
                tail = self.data[pos + 4 : pos + 8]
                if len(tail) < 4 or pos + 8 > end:
                    break
                self.irregular |= tail != b"\0\0\0\0"
                starts.append(pos)
                return settle_group_lengths(elements, starts, big=self.big), pos + 8, False
            self.count(pos)
            element, after = self.element(pos, end, explicit, depth, top=False)
            elements.append(element)
            starts.append(pos)
            pos = after
        if delimited and (pos < end or not may_be_endless):
            raise P10Error("p10/truncated", "an item has no end", offset=pos)
        starts.append(pos)
        return settle_group_lengths(elements, starts, big=self.big), pos, delimited


def settle_group_lengths(elements: list[Element], starts: list[int], *, big: bool) -> list[Element]:
    """`elements`, each right group length among them marked as `Form.GROUP_LENGTH`."""
    for index, element in enumerate(elements):
        if not element.tag & 0xFFFF:
            settle_group_length(elements, starts, index, big=big)
    return elements


def settle_group_length(
    elements: list[Element], starts: list[int], index: int, *, big: bool
) -> None:
    """Mark the group length at `index` as `Form.GROUP_LENGTH` if it is right."""
    element = elements[index]
    group = element.tag >> 16
    if index and elements[index - 1].tag >> 16 == group:
        return  # it is not the first of its group
    after = index + 1
    while after < len(elements) and elements[after].tag >> 16 == group:
        after += 1
    if is_group_length(element, starts[after] - starts[index + 1], big=big):
        elements[index] = Element(element.tag, element.vr, b"", Form.GROUP_LENGTH)


def is_group_length(element: Element, length: int, *, big: bool) -> bool:
    """Whether `element`, which is a (gggg,0000), says that its group has `length` bytes."""
    return (
        element.value == group_length(length, big=big) and not element.form and not element.reserved
    )


def read_items(data: bytes, vr: str, *, big: bool, depth: int = 0) -> Sequence:
    """Split the value of an element of defined length into items; `vr` is empty if implicit.

    Values inside are always bytes, whatever their length.

    Raises:
        P10Error: `data` is not a row of items that ends where `data` ends.
    """
    parser = Parser(data, big=big, limit=len(data))
    sequence, _ = parser.sequence(
        0, len(data), bool(vr), depth + 1, undefined=False, unknown=vr == "UN"
    )
    if parser.irregular:
        raise P10Error("p10/irregular", "a delimiter has a length")
    return sequence
