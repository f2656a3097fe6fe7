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
from dicomstudy.p10.group_lengths import settle_group_lengths
from dicomstudy.p10.headers import (
    BIG,
    LITTLE,
    LONGEST_KNOWN,
    VRS,
    Header,
    looks_explicit,
)
from dicomstudy.p10.lookahead import MAX_DEPTH, Lookahead

#: Items of defined length beyond this stay where they are, as any large value does; those of
#: undefined length are not taken apart if they have more bytes in values.
_MAX_ITEMS = 1 << 28
#: To copy so many bytes in vain counts as one header.
_BYTES_A_HEADER = 256
#: What says that a limit is exceeded, and nothing of what is read.
_LIMITS = frozenset(("p10/too-deep", "p10/too-large", "p10/too-many-elements"))
#: Items, elements and fragments that the value of one element may have inside.
MAX_INSIDE = 1 << 22


class Parser:
    """Takes elements off a buffer in one byte order.

    Values of more bytes than `limit` stay where they are, and that of one element has at most
    `inside` items, elements and fragments. Of arguments of its methods, `pos`, `start` and `end`
    are places in the buffer; `explicit` says whether headers have VRs, and `depth` how many
    sequences are around.

    Attributes:
        data: the buffer.
        big: its byte order, with what is written in that as `order`.
        flaws: what was wrong with what was read; whoever reads on takes it away before.
        looked: whether what was read depends on bytes behind it. The same element in another file
            may be followed by others, so such a one is not remembered; whoever reads on sets it
            back before.
        irregular: whether a delimiter has a length, so that items do not say how they were written.
    """

    __slots__ = (
        *("_ahead", "_inside", "_limit", "_met_stranger", "_most_inside", "_strangers", "_taken"),
        *("big", "data", "flaws", "irregular", "looked", "order"),
    )

    def __init__(self, data: Buffer, *, big: bool, limit: int, inside: int | None = None) -> None:
        self.data = data
        self.big = big
        self.order = BIG if big else LITTLE
        self._limit = limit
        self._most_inside = MAX_INSIDE if inside is None else min(inside, MAX_INSIDE)
        self.irregular = False
        self.flaws: list[Problem] = []
        self.looked = False
        #: Inside the element of undefined length that is read: bytes of values, and how many items
        #: and elements there are.
        self._taken = self._inside = 0
        self._ahead = Lookahead(data, self.order)
        #: Whether sequences may begin with an item of another tag, and whether one did.
        self._strangers, self._met_stranger = False, False

    def element(
        self, pos: int, end: int, explicit: bool, depth: int, top: bool
    ) -> tuple[Element, int]:
        """The element at `pos`, and where the next one starts.

        Raises:
            P10Error: it does not end before `end` (and is not at the `top`, where a value may
                be cut short), or its items cannot be followed.
        """
        tag, vr, reserved, start, length = self._header(pos, end, explicit)
        if length == UNDEFINED_LENGTH and (not vr or vr in LONG_VRS):
            value, form, after = self._undefined(tag, vr, start, end, explicit, depth, top)
            behind = self._length_at(after - 4) if form is Form.DELIMITED else 0
            return Element(tag, vr, value, form, behind, reserved), after
        after = start + length
        if length <= self._limit and after <= end:
            return Element(tag, vr, self.data[start:after], Form.DEFINED, 0, reserved), after
        if after > end:
            if not top:
                raise P10Error(
                    "p10/truncated", "an element is longer than what holds it", offset=pos, tag=tag
                )
            value = self._take(tag, vr, start, end - start, depth)
            return Element(tag, vr, value, Form.DECLARED, length, reserved), end
        value = self._take(tag, vr, start, length, depth)
        return Element(tag, vr, value, Form.DEFINED, 0, reserved), after

    def _header(self, pos: int, end: int, explicit: bool) -> tuple[int, str, int, int, int]:
        """Tag, VR and reserved bytes of the element at `pos`, where its value starts, its length.

        Raises:
            P10Error: the header does not end before `end`.
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
        return group << 16 | number, vr, reserved, start, length

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
        return None if length > self._limit or after > min(end, pos + LONGEST_KNOWN) else after

    def tag(self, pos: int) -> int:
        """The tag at `pos`, or 0 if the data end there."""
        head = self.data[pos : pos + 8]
        if len(head) < 8:
            return 0
        group, number, _ = self.order.implicit.unpack(head)
        return int(group << 16 | number)

    def _length_at(self, pos: int) -> int:
        """The length in a header, which stands at `pos`."""
        (length,) = self.order.length.unpack(self.data[pos : pos + 4])
        return int(length)

    def _take(self, tag: int, vr: str, start: int, length: int, depth: int) -> bytes | Span:
        """The bytes of a value; their place if they are many, not items and not in an item."""
        if depth:
            self._count_bytes(tag, length)
        elif may_be_large(tag, length, self._limit):
            items = vr == "SQ" or (
                vr in {"", "UN"}
                and tag not in PIXEL_DATA_TAGS
                and self.data[start : start + 4] == self.order.item_tag
            )
            if not items or length > _MAX_ITEMS:
                return Span(start, length)
        return self.data[start : start + length]

    def _undefined(
        self, tag: int, vr: str, start: int, end: int, explicit: bool, depth: int, top: bool
    ) -> tuple[Value, Form, int]:
        """The value of an element of undefined length, its form, and where it ends."""
        data, order = self.data, self.order
        if not depth:
            self._taken = self._inside = 0
            self._strangers, self._met_stranger = True, False
        first = data[start : start + 4]
        if holds_fragments(tag, vr):
            if first == order.item_tag or (
                first == order.sequence_delimiter and tag in PIXEL_DATA_TAGS
            ):
                fragments, after, complete = self._fragments(start, end)
                if depth:
                    self._inside += len(fragments)
                if complete or top:
                    if not complete:
                        message = (
                            "the pixel data ends with the file, inside a fragment or before its "
                            "delimiter"
                        )
                        self._flaw("p10/no-delimiter", message, start, tag)
                    if depth:
                        return self._in_item(tag, start, after), Form.UNDEFINED, after
                    return Encapsulated(start, after - start, fragments), Form.UNDEFINED, after
        elif self._holds_items(vr, start):
            noted, inside, taken = len(self.flaws), self._inside, self._taken
            try:
                return self._sequence_in(tag, vr, start, end, explicit, depth)
            except P10Error as error:
                if vr == "SQ" or error.code in _LIMITS:
                    raise
                if depth:
                    self._spend(self._inside - inside, self._taken - taken)
                after = self._ahead.end_of_items(start, end)
                if not after:
                    raise
                self.flaws[noted:] = [_as_bytes(error, tag)]
                return self._bytes(tag, start, after, depth)
        return self._bytes(tag, start, self._end_of_bytes(tag, start, end), depth)

    def _bytes(self, tag: int, start: int, after: int, depth: int) -> tuple[Value, Form, int]:
        """As `_undefined`, of what is not taken apart, and whose delimiter ends at `after`."""
        length = after - 8 - start
        if depth:
            return self._in_item(tag, start, after - 8), Form.DELIMITED, after
        if may_be_large(tag, length, self._limit):
            return Span(start, length), Form.DELIMITED, after
        return self.data[start : start + length], Form.DELIMITED, after

    def _in_item(self, tag: int, start: int, after: int) -> bytes:
        """The bytes of a value of undefined length in an item.

        Raises:
            P10Error: items have too many bytes.
        """
        if may_be_large(tag, after - start, self._limit):
            self._count_bytes(tag, after - start)
        return self.data[start:after]

    def _count_bytes(self, tag: int, length: int) -> None:
        """Count the bytes of a large value in an item of the element that is read."""
        self._taken += length
        if self._taken > _MAX_ITEMS:
            raise P10Error("p10/too-large", "items have too many bytes to take apart", tag=tag)

    def _spend(self, headers: int, taken: int) -> bool:
        """Count what was read in vain, so that nothing is again and again; whether more may be."""
        return self._ahead.spend(headers + taken // _BYTES_A_HEADER)

    def _sequence_in(
        self, tag: int, vr: str, start: int, end: int, explicit: bool, depth: int
    ) -> tuple[Value, Form, int]:
        """As `_undefined`, of a sequence."""
        try:
            return self._items(tag, vr, start, end, explicit, depth)
        except P10Error:
            if depth or not (self._met_stranger and self._ahead.may_go_on):
                raise
        # once more, as if no item had another tag
        self._strangers, self.looked = False, True
        self._taken = self._inside = 0
        self.flaws.clear()
        if not self._holds_items(vr, start):
            return self._bytes(tag, start, self._end_of_bytes(tag, start, end), depth)
        return self._items(tag, vr, start, end, explicit, depth)

    def _holds_items(self, vr: str, start: int) -> bool:
        """Whether a value of undefined length is a sequence, unless its items are fragments.

        It may begin with an item of another tag: of its group, as a delimiter that is left over is,
        or, that of an SQ, of any, as zeros are.
        """
        head = self.data[start : start + 8]
        if vr not in {"", "SQ", "UN"}:
            return False
        if head[:4] in {self.order.item_tag, self.order.sequence_delimiter}:
            return True
        may_be = vr == "SQ" or head[:2] == self.order.item_tag[:2]
        return may_be and len(head) == 8 and self._is_stranger(head, start)

    def _is_stranger(self, head: bytes, start: int) -> bool:
        """Whether a header that has not the tag of an item is one in its place all the same.

        Its length is zero or undefined, or leads to an item, a delimiter, or the same tag.
        """
        length = self._length_at(start + 4)
        if not length:
            return True
        if not self._strangers:
            return False
        behind = head[:4]
        if length != UNDEFINED_LENGTH:
            self.looked = True
            behind = self.data[start + 8 + length : start + 12 + length]
        is_one = behind in {head[:4], self.order.item_tag, self.order.sequence_delimiter}
        self._met_stranger |= is_one
        return is_one

    def _items(
        self, tag: int, vr: str, start: int, end: int, explicit: bool, depth: int
    ) -> tuple[Value, Form, int]:
        """As `_sequence_in`, with or without items of other tags."""
        outer, self.irregular = self.irregular, False
        unknown = vr == "UN"
        try:
            sequence, after = self.sequence(
                start, end, explicit, depth + 1, undefined=True, unknown=unknown
            )
        except P10Error as error:
            self.irregular = outer
            if depth:
                raise
            value, after = self._broken(error, tag, start, explicit, unknown=unknown)
            return value, Form.UNDEFINED, after
        irregular, self.irregular = self.irregular, outer or self.irregular
        if irregular:
            message = "a delimiter has a length; the items are kept as bytes"
            self._flaw("p10/delimiter-length", message, start, tag)
            return self.data[start:after], Form.UNDEFINED, after
        return sequence, Form.DEFINED, after

    def _flaw(self, code: str, message: str, pos: int, tag: int) -> None:
        """Note what is wrong with the element that is read."""
        self.flaws.append(Problem(None, code, message, pos, format_tag(tag)))

    def _broken(
        self, error: P10Error, tag: int, start: int, explicit: bool, *, unknown: bool
    ) -> tuple[bytes | Span, int]:
        """The bytes of a sequence of the top level that has an `error`, and where it ends.

        Raises:
            P10Error: `error`, if the sequence does not end leniently either.
        """
        if not self._spend(self._inside, self._taken):
            raise error
        read = self._inside
        try:
            after = self._end_leniently(start, explicit, unknown=unknown)
        except P10Error:
            self._spend(self._inside - read, 0)
            raise error from None
        self.flaws[:] = [_as_bytes(error, tag)]
        if may_be_large(tag, after - start, self._limit):
            return Span(start, after - start), after
        return self.data[start:after], after

    def _end_leniently(self, pos: int, explicit: bool, *, unknown: bool) -> int:
        """Where the items at `pos` end with a sequence delimiter, whatever is wrong with them.

        Sequences inside may be nested as deep as they like: nothing here calls itself.

        Raises:
            P10Error: the items lead behind the end of the data.
        """
        end = len(self.data)
        around: list[tuple[bool, bool, bool, int]] = []
        while True:
            self._count(pos)
            tag, _, _, pos, length = self._header(pos, end, False)
            if tag == SEQUENCE_DELIMITATION:
                if not around:
                    return pos
                explicit, unknown, here, after = around.pop()
            else:
                delimited = length == UNDEFINED_LENGTH
                after = end if delimited else min(pos + length, end)
                here = explicit and self._is_explicit(
                    pos, after, delimited=delimited, unknown=unknown
                )
            pos, opened = self._end_of_elements(pos, after, here)
            if opened is not None:
                around.append((explicit, unknown, here, after))
                explicit, unknown = here, opened == "UN"

    def _end_of_elements(self, pos: int, after: int, explicit: bool) -> tuple[int, str | None]:
        """Where the elements end that begin before `after`, or a sequence among them starts.

        Of the sequence, which is one of undefined length, also the VR.
        """
        end = len(self.data)
        while pos < after:
            self._count(pos)
            tag, vr, _, pos, length = self._header(pos, end, explicit)
            if tag == ITEM_DELIMITATION:
                break
            if length != UNDEFINED_LENGTH or (vr and vr not in LONG_VRS):
                pos += length
            elif not holds_fragments(tag, vr):
                if self._holds_items(vr, pos):
                    return pos, vr
                pos = self._end_of_bytes(tag, pos, end)
            else:
                _, behind, complete = self._fragments(pos, end)
                if not complete:
                    raise P10Error("p10/no-delimiter", "a value has no end", offset=pos, tag=tag)
                pos = behind
        return pos, None

    def _fragments(self, start: int, end: int) -> tuple[tuple[Span, ...], int, bool]:
        """The fragments of encapsulated pixel data, where they end, and whether all are there.

        The last one may be said to be longer than it is, so that it swallows the delimiter.
        """
        fragments: list[Span] = []
        pos = last = start
        item_tag, delimiter = self.order.item_tag, self.order.sequence_delimiter
        length_of = self.order.length.unpack_from
        while pos + 8 <= end:
            head = self.data[pos : pos + 8]
            if head[:4] == delimiter:
                return tuple(fragments), pos + 8, True
            if head[:4] != item_tag:
                break
            (length,) = length_of(head, 4)
            if len(fragments) == self._most_inside:
                raise self._too_many(pos)
            last = pos + 8
            fragments.append(Span(last - start, length))
            pos = last + length
        self.looked = True
        after = self._ahead.end_behind_zeros(pos, end) or self._ahead.end_of_delimiter(last, end)
        over = pos - (after - 8 if after else end)
        if 0 < over <= 8 and after:
            fragments.append(Span(last - start, fragments.pop().length - over))
        elif over > 0:
            fragments.pop()
        return tuple(fragments), after or end, bool(after)

    def _end_of_bytes(self, tag: int, pos: int, end: int) -> int:
        """Where a value of undefined length ends that is not taken apart.

        Its bytes may be items, though its VR says nothing of the kind, and those may hold
        delimiters.

        Raises:
            P10Error: there is no delimiter.
        """
        after = 0
        if self.data[pos : pos + 4] == self.order.item_tag:
            self.looked = True
            after = self._ahead.end_of_items(pos, end)
        after = after or self._ahead.end_of_delimiter(pos, end)
        if not after:
            message = "a value of undefined length has no end"
            raise P10Error("p10/no-delimiter", message, offset=pos, tag=tag)
        return after

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
            self._count(pos)
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
                here = explicit and self._is_explicit(pos + 8, end, delimited=True, unknown=unknown)
                elements, pos, endless = self._item(
                    pos + 8, end, here, depth, delimited=True, may_be_endless=not undefined
                )
                items.append(Item(tuple(elements), True, endless))
            else:
                after = pos + 8 + length
                if after > end:
                    raise P10Error(
                        "p10/truncated", "an item is longer than its sequence", offset=pos
                    )
                here = explicit and self._is_explicit(
                    pos + 8, after, delimited=False, unknown=unknown
                )
                elements, pos, _ = self._item(pos + 8, after, here, depth, delimited=False)
                items.append(Item(tuple(elements), False))
        return Sequence(tuple(items), False), pos

    def _count(self, pos: int) -> None:
        """Count one more item or element inside the element that is read."""
        self._inside += 1
        if self._inside > self._most_inside:
            raise self._too_many(pos)

    def _too_many(self, pos: int) -> P10Error:
        message = f"one element has more than {self._most_inside} inside"
        return P10Error("p10/too-many-elements", message, offset=pos)

    def _is_explicit(self, pos: int, end: int, *, delimited: bool, unknown: bool) -> bool:
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
        return not self._ahead.end_of_implicit(pos, end, delimited=delimited)

    def _item(
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
                settle_group_lengths(elements, starts, big=self.big)
                return elements, pos + 8, False
            self._count(pos)
            element, after = self.element(pos, end, explicit, depth, top=False)
            elements.append(element)
            starts.append(pos)
            pos = after
        if delimited and (pos < end or not may_be_endless):
            raise P10Error("p10/truncated", "an item has no end", offset=pos)
        starts.append(pos)
        settle_group_lengths(elements, starts, big=self.big)
        return elements, pos, delimited


def _as_bytes(error: P10Error, tag: int) -> Problem:
    """Why the items of an element are not taken apart."""
    problem = error.problem()
    message = f"{problem.message}; the items are kept as bytes"
    return problem._replace(message=message, tag=problem.tag or format_tag(tag))


def holds_fragments(tag: int, vr: str) -> bool:
    """Whether the items of a value of undefined length are fragments, not those of a sequence."""
    return tag in PIXEL_DATA_TAGS or vr in {"OB", "OW", "OD", "OF", "OL", "OV"}


def read_items(data: bytes, vr: str, *, explicit: bool, big: bool, depth: int = 0) -> Sequence:
    """Split the value of an element of defined length into items.

    Values inside are always bytes, whatever their length.

    Args:
        vr: of the element; empty where its header is implicit.
        explicit: whether the data set or item that it stands in is.
        depth: how many sequences are around it.

    Raises:
        P10Error: `data` is not a row of items that ends where `data` ends.
    """
    parser = Parser(data, big=big, limit=len(data))
    sequence, _ = parser.sequence(
        0, len(data), explicit, depth + 1, undefined=False, unknown=vr == "UN"
    )
    if parser.irregular:
        raise P10Error("p10/irregular", "a delimiter has a length")
    return sequence
