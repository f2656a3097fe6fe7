"""A file of a shape that is known → its attributes, without taking it apart.

Most files of a series are like those before them, but for a few elements. A stencil is laid over
such a file: it has a hole where the template leaves an element open, and nothing but those elements
is read. All others are taken to be what they were, and to stand where the holes leave room.

Whether they do is not seen here but by a `Checker`, as for any record. If the file comes out of it
byte for byte, each element stands there as the record has it and begins where the one before it
ends: so it is what a `Reader` finds there, too. That holds of elements that say by themselves what
they are and where they end, and have nothing beside their values but what is looked for: there is
no stencil where others are. So a record that is exact is the one that `Decoder.decode` makes; one
that is not says nothing.
"""

from __future__ import annotations

from typing import NamedTuple

from dicomstudy.elements import (
    CHARACTER_SET_TAG,
    META_GROUP,
    Element,
    Encapsulated,
    Form,
    Span,
)
from dicomstudy.errors import P10Error
from dicomstudy.p10 import FRONT, LONGEST_KNOWN, TRANSFER_SYNTAX_UID, Header, P10File, Parser, Run
from dicomstudy.record.attributes import Attribute, Large
from dicomstudy.record.element_decoder import ElementDecoder, Memo
from dicomstudy.record.template import Record

__all__ = ["Stencil"]

#: What all others are read by: a file that has another one is of another shape.
_DECIDING = frozenset((CHARACTER_SET_TAG, TRANSFER_SYNTAX_UID))
#: So much of the elements may be open: with more, a `Reader` is to learn first what is not.
_MOST_OPEN = 0.5


class _Hole(NamedTuple):
    """An element that is left open, and what of the file stands between the one before and it.

    `number` is that of its attribute, `token` the one that this has in all files of the shape.
    `head` is its header, None if its value is a large one; `known` are attributes by the bytes of
    their elements, as `memo` has them.
    """

    gap: int
    number: int
    token: str
    memo: Memo
    head: Header | None
    known: dict[bytes, Attribute]


class Stencil:
    """Where files of one shape have what their template leaves open.

    Args:
        holes: in the order of the file.
        limit: values of more bytes are large.
    """

    def __init__(self, holes: list[_Hole], limit: int) -> None:
        self._holes = holes
        self._limit = limit

    @classmethod
    def of(
        cls, file: P10File, record: Record, memos: tuple[Memo, Memo], limit: int
    ) -> Stencil | None:
        """The stencil of usual files like this one; None if it would be of no use, or not do.

        Args:
            file: one of them, which is usual (`is_usual`).
            record: that of the file.
            memos: those of its file meta information and of its data set.
            limit: values of more bytes are large.
        """
        if record.template.large or record.template.repeated:
            return None
        # what may be a command set is told by what is behind it
        if any(run.group != META_GROUP for run in file.meta):
            return None
        if not (file.runs and file.runs[0].tag >> 16):
            return None
        holes: list[_Hole] = []
        gap, number, elements = FRONT, 0, 0
        for runs, memo in zip((file.meta, file.runs), memos, strict=True):
            for place, run in enumerate(runs):
                elements += len(run.singles) or 1
                if run.singles:
                    gap += run.size
                    continue
                attribute = record.variable[number]
                if _is_settled(run, attribute):
                    gap += run.size
                elif place and _is_open(run):
                    known = {} if run.head is None else memo.ordinary.setdefault(run.head, {})
                    holes.append(_Hole(gap, number, attribute.token, memo, run.head, known))
                    gap = 0
                else:
                    return None
                number += 1
        return cls(holes, limit) if len(holes) <= _MOST_OPEN * elements else None

    @staticmethod
    def is_usual(file: P10File, record: Record) -> bool:
        """Whether a file has nothing but elements that can be read, behind an empty preamble."""
        return not (
            file.preamble is None
            or any(file.preamble)
            or file.deflated is not None
            or file.trailing.length
            or record.problems
        )

    def see(self, data: bytes, last: Record, elements: ElementDecoder) -> Record | None:
        """The record of a file; None if that is not like the one that the stencil is of.

        Args:
            data: the file.
            last: the record of that other file.
            elements: decodes what was not there before.
        """
        variable = last.variable.copy()
        extra: list[Attribute] = []
        large: list[Large] = []
        pos, end, limit = 0, len(data), self._limit
        for gap, number, token, memo, head, known in self._holes:
            pos += gap
            if head is None:
                found = _large_at(pos, data, memo, limit, elements)
                if found is None:
                    return None
                attribute, pos = found
                large += attribute.large
            else:
                # as `Parser.again` would say: a call for each element takes longer than the rest
                value_at = pos + head.size
                encoded = data[pos:value_at]
                if value_at > end or not encoded.startswith(head.start):
                    return None
                (length,) = head.length.unpack_from(encoded, len(head.start))
                after = value_at + length
                if length > limit or after > min(end, pos + LONGEST_KNOWN):
                    return None
                encoded = data[pos:after]
                attribute = known.get(encoded) or elements.ordinary(memo, head, encoded)
                if not attribute.plain:
                    if attribute.flaw or attribute.large:
                        return None
                    extra += attribute.raw
                pos = after
            if attribute.token != token:
                return None
            variable[number] = attribute
        return Record(last.template, variable, extra, large)


def _is_settled(run: Run, attribute: Attribute) -> bool:
    """Whether an element is not read again, but has to be what it was.

    It has nothing beside its value then, as bytes that are not in it.
    """
    if not attribute.plain:
        return False
    if run.head is not None:
        return run.head.tag in _DECIDING
    if run.low & 0xFFFF == 0:
        return run.elements[0].form is Form.GROUP_LENGTH
    return bool(run.encoded)


def _is_open(run: Run) -> bool:
    """Whether an element may be another one in the next file.

    A group length that is wrong is neither open nor settled: the same bytes may be right there.
    """
    if run.head is not None:
        return run.head.tag not in _DECIDING and run.low & 0xFFFF != 0
    return _in_place(run.elements[0]) is not None


def _in_place(element: Element) -> Span | Encapsulated | None:
    """A value that stays in the file, if where it ends is told by what is inside it alone."""
    value = element.value
    if isinstance(value, Encapsulated) or (isinstance(value, Span) and not element.form):
        return value
    return None


def _large_at(
    pos: int, data: bytes, memo: Memo, limit: int, elements: ElementDecoder
) -> tuple[Attribute, int] | None:
    """The attribute of the large value at a place, and where that ends; None if it is none."""
    parser = Parser(data, big=memo.context.big, limit=limit)
    try:
        element, after = parser.element(pos, len(data), memo.explicit, 0, top=True)
    except P10Error:
        return None
    value = _in_place(element)
    if value is None or parser.flaws or parser.looked:
        return None
    return elements.large(memo, element, value, data), after
