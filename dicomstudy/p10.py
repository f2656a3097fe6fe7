"""Part 10 bytes ↔ elements, exactly (PS3.10 section 7, PS3.5 section 7; spec/p10.md).

`Reader.read` takes a file apart without decoding a value; `write` is its mirror:
``b"".join(write(read(data), data)) == data`` for every file it accepts. What cannot be taken
apart is kept as raw bytes from there on (`P10File.trailing`), with a `Problem` that says so.
"""

from __future__ import annotations

import zlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import accumulate, groupby
from operator import lt
from struct import Struct
from typing import NamedTuple

from dicomstudy.elements import (
    LONG_VRS,
    PIXEL_DATA_TAGS,
    SHORT_VRS,
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
)
from dicomstudy.errors import P10Error, Problem

__all__ = [
    "MAX_DEPTH",
    "MAX_INFLATED",
    "P10File",
    "Reader",
    "Syntax",
    "encode_element",
    "group_length",
    "inflate",
    "read",
    "read_items",
    "write",
]

#: Sequences nested deeper than this stay raw bytes.
MAX_DEPTH = 64
#: A deflated data set that grows beyond this is refused.
MAX_INFLATED = 1 << 30
#: Items of defined length beyond this stay where they are, as any large value does.
MAX_ITEMS = 1 << 28

PREFIX = b"DICM"
ITEM = 0xFFFEE000
ITEM_DELIMITATION = 0xFFFEE00D
SEQUENCE_DELIMITATION = 0xFFFEE0DD

TRANSFER_SYNTAX_UID = 0x00020010
IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_BIG_ENDIAN = "1.2.840.10008.1.2.2"
#: Deflated Explicit VR Little Endian, and the JPIP syntaxes whose data set is deflated too.
DEFLATED = frozenset(
    ("1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205")
)

META_GROUP = b"\2\0"
#: After so many files a `Reader` looks which runs it may join.
_FILES_TO_LEARN = 32
#: The longest encoded element that a `Reader` remembers from one file to the next.
_LONGEST_KNOWN = 1 << 16
_NEVER_IN_A_DATA_SET = frozenset((ITEM, ITEM_DELIMITATION, SEQUENCE_DELIMITATION))
#: VR bytes as they stand in a header: the VR, and whether its header is the long one.
_VRS = {vr.encode(): (vr, False) for vr in SHORT_VRS} | {vr.encode(): (vr, True) for vr in LONG_VRS}


class _Layout(NamedTuple):
    """The fixed parts of headers in one byte order."""

    explicit: Struct
    implicit: Struct
    length: Struct
    item_tag: bytes
    sequence_delimiter: bytes


_LITTLE = _Layout(
    Struct("<HH2sH"), Struct("<HHI"), Struct("<I"), b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
)
_BIG = _Layout(
    Struct(">HH2sH"), Struct(">HHI"), Struct(">I"), b"\xff\xfe\xe0\x00", b"\xff\xfe\xe0\xdd"
)


class Syntax(NamedTuple):
    """How the data set after the file meta information was found to be encoded."""

    explicit: bool
    big: bool = False
    deflated: bool = False


class Run:
    """Consecutive elements of a data set with the bytes that encode them.

    Compared by identity, so that work on a run that came again is not done again. A group
    length inside a run of several elements has its whole group in the run.
    """

    __slots__ = ("ascending", "elements", "encoded", "high", "low", "parts", "size", "tag")

    def __init__(
        self, elements: tuple[Element, ...], parts: tuple[bytes, ...], encoded: bytes, size: int
    ) -> None:
        self.elements = elements
        self.parts = parts
        self.encoded = encoded
        self.size = size
        self.tag = self.low = self.high = elements[0].tag
        self.ascending = True

    @classmethod
    def join(cls, elements: tuple[Element, ...], parts: tuple[bytes, ...]) -> Run:
        """The run of several elements, each with its bytes."""
        encoded = b"".join(parts)
        run = cls(elements, parts, encoded, len(encoded))
        tags = [element.tag for element in elements]
        run.low, run.high = min(tags), max(tags)
        run.ascending = all(map(lt, tags, tags[1:]))
        return run


class P10File(NamedTuple):
    """A Part 10 file taken apart.

    `starts` has the offset of each of `runs`, and one more: where they end. Offsets count
    from the start of the file; in a deflated file, those of the data set count from the
    start of the inflated data set, which is `body`.
    """

    preamble: bytes | None
    meta: list[Run]
    runs: list[Run]
    starts: list[int]
    syntax: Syntax
    body: Buffer
    trailing: Span
    deflated: Span | None
    problems: tuple[Problem, ...]

    @property
    def elements(self) -> list[Element]:
        """The elements of the data set, in their order."""
        return _elements(self.runs)

    def find(self, tag: int) -> Element | None:
        """The last element of the data set with this tag."""
        found = None
        for run in self.runs:
            if run.low <= tag <= run.high:
                for element in run.elements:
                    if element.tag == tag:
                        found = element
        return found


def _elements(runs: Iterable[Run]) -> list[Element]:
    return [element for run in runs for element in run.elements]


class _Parser:
    """Takes elements off a buffer in one byte order."""

    __slots__ = ("big", "data", "flaws", "irregular", "layout", "limit")

    def __init__(self, data: Buffer, *, big: bool, limit: int) -> None:
        self.data = data
        self.big = big
        self.layout = _BIG if big else _LITTLE
        self.limit = limit
        self.irregular = False
        self.flaws: list[Problem] = []

    def element(
        self, pos: int, end: int, explicit: bool, depth: int, top: bool
    ) -> tuple[Element, int]:
        """The element at `pos`, and where the next one starts.

        Raises:
            P10Error: it does not end before `end` (and is not at the `top`, where a value may
                be cut short), or its items cannot be followed.
        """
        layout = self.layout
        start = pos + 8
        head = self.data[pos:start]
        if len(head) < 8 or start > end:
            raise P10Error("p10/truncated", "the file ends inside an element", offset=pos)
        vr, reserved = "", 0
        if explicit:
            group, number, vr_bytes, length = layout.explicit.unpack(head)
            known = _VRS.get(vr_bytes)
            if known is None:
                if _looks_explicit(vr_bytes):
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
                    (length,) = layout.length.unpack(self.data[pos + 8 : start])
        if not vr:
            group, number, length = layout.implicit.unpack(head)
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

    def tag(self, pos: int) -> int:
        """The tag at `pos`, or 0 if the data end there."""
        head = self.data[pos : pos + 8]
        if len(head) < 8:
            return 0
        group, number, _ = self.layout.implicit.unpack(head)
        return int(group << 16 | number)

    def take(self, tag: int, vr: str, start: int, length: int, depth: int) -> bytes | Span:
        """The bytes of a value; their place if they are many, not items and not in an item."""
        if length > self.limit and not depth:
            items = vr == "SQ" or (
                vr in {"", "UN"}
                and tag not in PIXEL_DATA_TAGS
                and self.data[start : start + 4] == self.layout.item_tag
            )
            if not items or length > MAX_ITEMS:
                return Span(start, length)
        return self.data[start : start + length]

    def undefined(
        self, tag: int, vr: str, start: int, end: int, explicit: bool, depth: int, top: bool
    ) -> tuple[Value, Form, int]:
        """The value of an element of undefined length, its form, and where it ends."""
        data, layout = self.data, self.layout
        first = data[start : start + 4]
        bulk = tag in PIXEL_DATA_TAGS or vr in {"OB", "OW", "OD", "OF", "OL", "OV"}
        if first in {layout.item_tag, layout.sequence_delimiter}:
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
                sequence, after = self.sequence(start, end, explicit, depth + 1, undefined=True)
                irregular, self.irregular = self.irregular, outer or self.irregular
                if irregular:
                    return data[start:after], Form.UNDEFINED, after
                return sequence, Form.DEFINED, after
        found = data.find(layout.sequence_delimiter, start, end)
        if found < 0 or found + 8 > end:
            raise P10Error(
                "p10/no-delimiter", "a value of undefined length has no end", offset=start, tag=tag
            )
        after = found + 8
        if after - start > self.limit and not depth:
            return Span(start, after - start), Form.UNDEFINED, after
        return data[start:after], Form.UNDEFINED, after

    def fragments(self, start: int, end: int) -> tuple[tuple[Span, ...], int, bool]:
        """The fragments of encapsulated pixel data, where they end, and whether all are there."""
        fragments = []
        pos = start
        item_tag, delimiter = self.layout.item_tag, self.layout.sequence_delimiter
        length_of = self.layout.length.unpack_from
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
        self, pos: int, end: int, explicit: bool, depth: int, *, undefined: bool
    ) -> tuple[Sequence, int]:
        """Items up to `end`, or up to a delimiter; and where they end."""
        if depth > MAX_DEPTH:
            raise P10Error(
                "p10/too-deep", f"sequences are nested deeper than {MAX_DEPTH}", offset=pos
            )
        items = []
        unpack = self.layout.implicit.unpack
        while undefined or pos < end:
            head = self.data[pos : pos + 8]
            if len(head) < 8 or pos + 8 > end:
                raise P10Error("p10/truncated", "a sequence ends inside an item", offset=pos)
            group, number, length = unpack(head)
            tag = group << 16 | number
            if tag == SEQUENCE_DELIMITATION and undefined:
                self.irregular |= length != 0
                return Sequence(tuple(items), True), pos + 8
            if tag != ITEM:
                raise P10Error(
                    "p10/not-an-item",
                    f"expected an item, found ({group:04X},{number:04X})",
                    offset=pos,
                )
            if length == UNDEFINED_LENGTH:
                elements, _, pos = self.data_set(pos + 8, end, explicit, depth, delimited=True)
                items.append(Item(tuple(elements), True))
            else:
                after = pos + 8 + length
                if after > end:
                    raise P10Error(
                        "p10/truncated", "an item is longer than its sequence", offset=pos
                    )
                elements, _, pos = self.data_set(pos + 8, after, explicit, depth, delimited=False)
                items.append(Item(tuple(elements), False))
        return Sequence(tuple(items), False), pos

    def data_set(
        self, pos: int, end: int, explicit: bool, depth: int, *, delimited: bool
    ) -> tuple[list[Element], list[int], int]:
        """The elements of an item, their offsets, and where the next item starts."""
        explicit = explicit and _looks_explicit(self.data[pos + 4 : pos + 6])
        elements: list[Element] = []
        starts: list[int] = []
        delimiter = self.layout.item_tag[:2] + self.layout.explicit.pack(0, 0xE00D, b"", 0)[2:4]
        while delimited or pos < end:
            if delimited and self.data[pos : pos + 4] == delimiter:
                tail = self.data[pos + 4 : pos + 8]
                if len(tail) < 4 or pos + 8 > end:
                    break
                self.irregular |= tail != b"\0\0\0\0"
                starts.append(pos)
                return _settle_group_lengths(elements, starts, big=self.big), starts, pos + 8
            element, after = self.element(pos, end, explicit, depth, top=False)
            elements.append(element)
            starts.append(pos)
            pos = after
        if delimited:
            raise P10Error("p10/truncated", "an item has no end", offset=pos)
        starts.append(pos)
        return _settle_group_lengths(elements, starts, big=self.big), starts, pos


def _looks_explicit(vr: bytes) -> bool:
    """True if the two bytes after a tag are capital letters, or if there are none."""
    return len(vr) < 2 or (0x40 < vr[0] < 0x5B and 0x40 < vr[1] < 0x5B)


def _settle_group_lengths(
    elements: list[Element], starts: list[int], *, big: bool
) -> list[Element]:
    """`elements`, each right group length among them marked as `Form.GROUP_LENGTH`."""
    for index, element in enumerate(elements):
        if not element.tag & 0xFFFF:
            _settle_group_length(elements, starts, index, big=big)
    return elements


def _settle_group_length(
    elements: list[Element], starts: list[int], index: int, *, big: bool
) -> None:
    element = elements[index]
    group = element.tag >> 16
    after = index + 1
    while after < len(elements) and elements[after].tag >> 16 == group:
        after += 1
    if _is_group_length(element, starts[after] - starts[index + 1], big=big):
        elements[index] = Element(element.tag, element.vr, b"", Form.GROUP_LENGTH)


def _is_group_length(element: Element, length: int, *, big: bool) -> bool:
    """Whether `element`, which is a (gggg,0000), says that its group has `length` bytes."""
    return (
        element.value == group_length(length, big=big) and not element.form and not element.reserved
    )


def group_length(length: int, *, big: bool) -> bytes:
    """The value of a (gggg,0000) element: the bytes of its group behind it, as UL.

    The group ends with the next element of another group, or with the data set.
    """
    return (length & UNDEFINED_LENGTH).to_bytes(4, "big" if big else "little")


class _Known(NamedTuple):
    """What a `Reader` keeps of one kind of data set: the runs it expects, in their order."""

    runs: list[Run]
    stable: set[Run]
    files: list[int]


class Reader:
    """Reads one file after another, and the quicker the more they are alike.

    The runs of the last file are kept: where the bytes of one stand again, its elements are
    known and are not taken apart a second time. A run that no longer fits is split around
    the element that differs; runs that go on fitting are joined again. What is read never
    depends on what was read before.
    """

    def __init__(self, *, max_inline: int = 256) -> None:
        self.max_inline = max_inline
        self._known: dict[tuple[bool, bool, bool], _Known] = {}
        self._group_lengths: dict[Element, Run] = {}

    def read(self, data: Buffer, *, source: str | None = None) -> P10File:
        """Split a Part 10 file into elements without decoding any value.

        Mirror of `write`. Values longer than `max_inline` bytes that are not items become a
        `Span`. The preamble and the file meta information may be missing (PS3.10 section 7).
        """
        length = len(data)
        preamble = data[:128] if data[128:132] == PREFIX else None
        pos = 0 if preamble is None else 132
        parser = _Parser(data, big=False, limit=self.max_inline)
        explicit = _looks_explicit(data[pos + 4 : pos + 6])
        meta, starts, problems = self._read_runs(parser, pos, explicit, source, meta=True)
        pos = starts[-1]
        body, deflated, syntax = data, None, Syntax(explicit)
        runs: list[Run] = []
        if not problems:
            uid = _transfer_syntax_uid(meta)
            if uid in DEFLATED:
                try:
                    body = inflate(data[pos:length])
                    deflated, pos = Span(pos, length - pos), 0
                except P10Error as error:
                    problems.append(error.problem(source)._replace(offset=pos))
            if not problems:
                syntax = _find_syntax(uid, body[pos : pos + 8], deflated=deflated is not None)
                parser = _Parser(body, big=syntax.big, limit=self.max_inline)
                runs, starts, problems = self._read_runs(parser, pos, syntax.explicit, source)
        end = starts[-1]
        trailing = Span(end, len(body) - end)
        if trailing.length and not problems:
            problems = _trailing_problem(body, trailing, source)
        return P10File(
            preamble, meta, runs, starts, syntax, body, trailing, deflated, tuple(problems)
        )

    def _read_runs(
        self, parser: _Parser, pos: int, explicit: bool, source: str | None, *, meta: bool = False
    ) -> tuple[list[Run], list[int], list[Problem]]:
        """The runs from `pos` on, their offsets and where they end, and why they end there.

        Of the file meta information, if `meta`: up to the first element of another group.
        """
        data, end = parser.data, len(parser.data)
        state = self._known.setdefault((explicit, parser.big, meta), _Known([], set(), [0]))
        known = state.runs
        runs: list[Run] = []
        starts: list[int] = []
        problems: list[Problem] = []
        index = 0
        while pos < end:
            if index < len(known):
                run = known[index]
                if data[pos : pos + run.size] == run.encoded:
                    runs.append(run)
                    starts.append(pos)
                    pos += run.size
                    index += 1
                    continue
                if len(run.elements) > 1:
                    known[index : index + 1] = _split(
                        run, data[pos : pos + run.size], big=parser.big
                    )
                    continue
                if data[pos : pos + 4] != run.encoded[:4] and run.tag < parser.tag(pos):
                    index += 1
                    continue
            if meta and data[pos : pos + 2] != META_GROUP:
                break
            try:
                element, after = parser.element(pos, end, explicit, 0, top=not meta)
            except P10Error as error:
                problems.append(error.problem(source))
                break
            if parser.flaws:
                problems += [flaw._replace(source=source) for flaw in parser.flaws]
                parser.flaws.clear()
            if element.tag in _NEVER_IN_A_DATA_SET:
                break
            if element.tag == 0 and not any(data[pos : pos + 64]):
                break  # zero padding behind the data set
            size = after - pos
            if element.form is Form.DECLARED:
                problems.append(_truncated(element, end - pos, pos, source))
                run = Run((element,), (), b"", size)
            elif (
                size > _LONGEST_KNOWN
                or not element.tag  # the same bytes may be padding in another file
                or not isinstance(element.value, bytes | Sequence)
            ):
                run = Run((element,), (), b"", size)
            else:
                encoded = data[pos:after]
                run = Run((element,), (encoded,), encoded, size)
                if index < len(known) and known[index].tag == element.tag:
                    known[index] = run
                else:
                    known.insert(index, run)
                index += 1
            runs.append(run)
            starts.append(pos)
            pos = after
        starts.append(pos)
        self._learn(state, runs, big=parser.big)
        self._settle_group_lengths(runs, starts, big=parser.big)
        return runs, starts, problems

    def _learn(self, state: _Known, runs: list[Run], *, big: bool) -> None:
        """Every now and then, join what came in this file as it came some files ago."""
        files = state.files[0]
        state.files[0] += 1
        if files == 0:
            state.stable.update(runs)
        elif files % _FILES_TO_LEARN:
            return
        state.runs[:] = _join(runs, state.stable, big=big)
        state.stable.clear()
        state.stable.update(state.runs)

    def _settle_group_lengths(self, runs: list[Run], starts: list[int], *, big: bool) -> None:
        """Replace each group length that stands alone in its run, and is right."""
        for index, run in enumerate(runs):
            if run.tag & 0xFFFF or len(run.elements) > 1:
                continue
            (element,) = run.elements
            value = element.value
            if len(value) != 4 or type(value) is not bytes or element.form or element.reserved:
                continue
            end = starts[index + 1] + int.from_bytes(value, "big" if big else "little")
            if _ends_group(runs, starts, index, end):
                right = Element(element.tag, element.vr, b"", Form.GROUP_LENGTH)
                if right not in self._group_lengths:
                    self._group_lengths[right] = Run((right,), (), b"", run.size)
                runs[index] = self._group_lengths[right]


def _ends_group(runs: list[Run], starts: list[int], index: int, end: int) -> bool:
    """Whether the group of `runs[index]` ends at offset `end`."""
    group = runs[index].tag >> 16
    after = bisect_left(starts, end, index + 1)
    if after == len(starts) or not all(
        _is_of_group(run, group) for run in runs[index + 1 : after - 1]
    ):
        return False
    if starts[after] == end:
        inside = after == index + 1 or _is_of_group(runs[after - 1], group)
        return inside and (after == len(runs) or runs[after].tag >> 16 != group)
    last = runs[after - 1]
    pos = starts[after - 1]
    for element, part in zip(last.elements, last.parts, strict=False):
        if pos >= end or element.tag >> 16 != group:
            return pos == end and element.tag >> 16 != group
        pos += len(part)
    return False


def _is_of_group(run: Run, group: int) -> bool:
    return run.low >> 16 == group == run.high >> 16


def _split(run: Run, data: bytes, *, big: bool) -> list[Run]:
    """`run` around its first element whose bytes do not stand in `data`."""
    pos = 0
    for place, part in enumerate(run.parts):  # noqa: B007 (used behind the loop)
        if data[pos : pos + len(part)] != part:
            break
        pos += len(part)
    pieces = ((0, place), (place, place + 1), (place + 1, len(run.parts)))
    return [
        piece
        for start, stop in pieces
        for piece in _group_lengths_apart(run.elements[start:stop], run.parts[start:stop], big=big)
    ]


def _join(runs: list[Run], stable: set[Run], *, big: bool) -> list[Run]:
    """As few runs as may be: neighbours that are both `stable` become one."""
    joined: list[Run] = []
    for is_stable, neighbours in groupby(runs, stable.__contains__):
        kept = [run for run in neighbours if run.parts]
        if not is_stable:
            joined += kept
            continue
        elements = tuple(element for run in kept for element in run.elements)
        parts = tuple(part for run in kept for part in run.parts)
        joined += _group_lengths_apart(elements, parts, big=big)
    return joined


def _group_lengths_apart(
    elements: tuple[Element, ...], parts: tuple[bytes, ...], *, big: bool
) -> list[Run]:
    """Runs of `elements`, in which a group length either has its whole group or stands alone."""
    last = elements[-1].tag >> 16 if elements else 0
    runs = []
    start = 0
    settled = [
        Element(element.tag, element.vr, part[-4:])
        if element.form is Form.GROUP_LENGTH
        else element
        for element, part in zip(elements, parts, strict=True)
    ]
    sizes = [0, *accumulate(map(len, parts))]
    for place, element in enumerate(elements):
        if element.tag & 0xFFFF:
            continue
        if element.tag >> 16 != last:
            _settle_group_length(settled, sizes, place, big=big)
            if settled[place].form is Form.GROUP_LENGTH:
                continue
        runs += _run(settled[start:place], parts[start:place])
        runs += _run([settled[place]], parts[place : place + 1])
        start = place + 1
    return [*runs, *_run(settled[start:], parts[start:])]


def _run(elements: list[Element], parts: tuple[bytes, ...]) -> list[Run]:
    return [Run.join(tuple(elements), parts)] if elements else []


def _truncated(element: Element, remaining: int, pos: int, source: str | None) -> Problem:
    return Problem(
        source,
        "p10/truncated",
        f"the value should have {element.declared} bytes, but the file ends {remaining} bytes "
        "after its element starts",
        pos,
        format_tag(element.tag),
    )


def _trailing_problem(body: Buffer, trailing: Span, source: str | None) -> list[Problem]:
    """A problem if there is more than zero padding behind the data set."""
    end = trailing.offset + trailing.length
    if not any(body[trailing.offset : min(end, trailing.offset + 4096)]):
        return []
    return [
        Problem(
            source,
            "p10/trailing-bytes",
            f"{trailing.length} bytes after the data set were kept as they are",
            trailing.offset,
        )
    ]


def read(data: Buffer, *, max_inline: int = 256, source: str | None = None) -> P10File:
    """`Reader.read` of a single file."""
    return Reader(max_inline=max_inline).read(data, source=source)


def read_items(data: bytes, *, explicit: bool, big: bool, depth: int = 0) -> Sequence:
    """Split the value of an element of defined length into items.

    Values inside are always bytes, whatever their length.

    Raises:
        P10Error: `data` is not a row of items that ends where `data` ends.
    """
    parser = _Parser(data, big=big, limit=len(data))
    sequence, _ = parser.sequence(0, len(data), explicit, depth + 1, undefined=False)
    if parser.irregular:
        raise P10Error("p10/irregular", "a delimiter has a length")
    return sequence


def inflate(data: bytes) -> bytes:
    """The data set of a deflated file (PS3.5 section A.5), bytes behind its stream ignored.

    Raises:
        P10Error: not a deflate stream, or one that grows beyond `MAX_INFLATED`.
    """
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = stream.decompress(data, MAX_INFLATED)
    except zlib.error as error:
        raise P10Error("p10/deflate", f"the data set cannot be inflated: {error}") from error
    if stream.unconsumed_tail:
        raise P10Error("p10/deflate-too-large", "the deflated data set is too large to inflate")
    if not stream.eof:
        raise P10Error("p10/deflate", "the deflated data set is cut short")
    return inflated


def _transfer_syntax_uid(meta: list[Run]) -> str | None:
    for element in _elements(meta):
        if element.tag == TRANSFER_SYNTAX_UID and isinstance(element.value, bytes):
            return element.value.rstrip(b"\0 ").decode("latin-1")
    return None


def _find_syntax(uid: str | None, head: bytes, *, deflated: bool) -> Syntax:
    """What the transfer syntax says, corrected by what the first element looks like.

    Without a transfer syntax, a group number beyond 1024 is one whose bytes are swapped.
    """
    if uid is None:
        explicit = head[4:6] in _VRS
        return Syntax(explicit, big=explicit and head[1] >= 4)
    explicit = uid != IMPLICIT_LITTLE_ENDIAN if len(head) < 6 else _looks_explicit(head[4:6])
    return Syntax(explicit, big=uid == EXPLICIT_BIG_ENDIAN, deflated=deflated)


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
    layout = _BIG if big else _LITTLE
    if length is None:
        length = len(value)
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


class Header(NamedTuple):
    """The header of all elements of one tag and VR: `start`, then the length as `length` packs it."""

    start: bytes
    length: Struct


def header(tag: int, vr: str, *, big: bool) -> Header:
    """The header that `encode_element` writes, without the length."""
    encoded = encode_element(tag, vr, b"", big=big)
    if vr and vr not in LONG_VRS:
        return Header(encoded[:-2], Struct(">H" if big else "<H"))
    return Header(encoded[:-4], (_BIG if big else _LITTLE).length)


def encode_items(items: Iterable[tuple[bytes, bool]], *, undefined: bool, big: bool) -> bytes:
    """The value of a sequence: each item's encoded elements, and whether its length is undefined.

    Ends with a delimiter if `undefined` (PS3.5 section 7.5).
    """
    pack = (_BIG if big else _LITTLE).implicit.pack
    parts = []
    for encoded, item_undefined in items:
        length = UNDEFINED_LENGTH if item_undefined else len(encoded)
        parts += (pack(0xFFFE, 0xE000, length), encoded)
        if item_undefined:
            parts.append(pack(0xFFFE, 0xE00D, 0))
    if undefined:
        parts.append(pack(0xFFFE, 0xE0DD, 0))
    return b"".join(parts)


def write(file: P10File, data: Buffer) -> Iterator[bytes | Span]:
    """The file again: bytes, and spans of `data` that are to be copied.

    Mirror of `Reader.read`, `data` being what it read.
    """
    if file.preamble is not None:
        yield file.preamble + PREFIX
    yield from _write_elements(_elements(file.meta), big=False)
    if file.deflated is not None:
        yield file.deflated
        return
    yield from _write_elements(file.elements, big=file.syntax.big)
    if file.trailing.length:
        yield file.trailing


def _write_elements(elements: Iterable[Element], *, big: bool) -> list[bytes | Span]:
    segments: list[bytes | Span] = []
    pending: list[tuple[int, Element, int]] = []
    sizes: list[int] = []
    for element in elements:
        if element.form is Form.GROUP_LENGTH:
            pending.append((len(segments), element, len(sizes)))
            segments.append(b"")
            sizes.append(12 if element.vr in LONG_VRS else 8 + 4)
            continue
        added = _write_element(element, big=big)
        segments += added
        sizes.append(sum(part.length if isinstance(part, Span) else len(part) for part in added))
    tags = [element.tag >> 16 for element in elements]
    for place, element, index in pending:
        after = index + 1
        while after < len(tags) and tags[after] == tags[index]:
            after += 1
        value = group_length(sum(sizes[index + 1 : after]), big=big)
        segments[place] = encode_element(element.tag, element.vr, value, big=big)
    return segments


def _write_element(element: Element, *, big: bool) -> list[bytes | Span]:
    tag, vr, value, form, declared, reserved = element
    if isinstance(value, Sequence):
        items = [
            (b"".join(_only_bytes(_write_elements(item.elements, big=big))), item.undefined)
            for item in value.items
        ]
        encoded = encode_items(items, undefined=value.undefined, big=big)
        length = UNDEFINED_LENGTH if value.undefined else len(encoded)
        return [encode_element(tag, vr, encoded, big=big, length=length, reserved=reserved)]
    if isinstance(value, bytes):
        size, inline, rest = len(value), value, []
    else:
        size, inline, rest = value.length, b"", [Span(value.offset, value.length)]
    length = {Form.UNDEFINED: UNDEFINED_LENGTH, Form.DECLARED: declared}.get(form, size)
    return [encode_element(tag, vr, inline, big=big, length=length, reserved=reserved), *rest]


def _only_bytes(segments: Iterable[bytes | Span]) -> Iterator[bytes]:
    for segment in segments:
        if isinstance(segment, Span):
            raise P10Error("p10/span-in-item", "a value inside an item was left out")
        yield segment
