"""A Part 10 file taken apart: runs of elements, and what is around them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from operator import lt
from typing import NamedTuple

from dicomstudy.elements import PIXEL_DATA_TAGS, Buffer, Element, Encapsulated, Sequence, Span
from dicomstudy.errors import Problem
from dicomstudy.p10.headers import BIG, LITTLE, Header

#: What an element without items weighs at most, and what each of its fragments does.
_MOST_WEIGHT, _FRAGMENT = 268, 8
_ITEM_TAGS = frozenset((LITTLE.item_tag, BIG.item_tag))
#: The bytes of a preamble and of what stands behind it.
FRONT = 132


class Syntax(NamedTuple):
    """How the data set after the file meta information was found to be encoded."""

    explicit: bool
    big: bool = False
    deflated: bool = False


class Run:
    """Consecutive elements of a data set with the bytes that encode them.

    Compared by identity, so that work on a run that came again is not done again. A run of
    several elements is made of `singles`, runs of one element each, none a group length.
    `encoded` is empty if the bytes are not remembered. `low` and `high` are the least and the
    greatest tag; `group` is the group of all elements, -1 if they are of several.

    Args:
        head: the header of a run of one ordinary element.
        encoded: its bytes.
    """

    __slots__ = (
        *("_elements", "_weight", "ascending", "encoded", "group", "head", "high", "low"),
        *("singles", "size"),
    )

    def __init__(
        self,
        head: Header | None,
        encoded: bytes,
        elements: tuple[Element, ...] = (),
        size: int | None = None,
    ) -> None:
        self.head = head
        self.encoded = encoded
        self.size = len(encoded) if size is None else size
        self._weight: int | None = None
        self.low = self.high = elements[0].tag if head is None else head.tag
        self.group = self.low >> 16
        self.ascending = True
        self.singles: tuple[Run, ...] = ()
        self._elements = elements

    @classmethod
    def single(cls, element: Element, encoded: bytes, size: int) -> Run:
        """The run of one element that is not ordinary."""
        return cls(None, encoded, (element,), size)

    @classmethod
    def join(cls, singles: Iterable[Run]) -> Run:
        """The run of several."""
        parts = tuple(singles)
        elements = tuple([element for single in parts for element in single.elements])
        run = cls(None, b"".join([single.encoded for single in parts]), elements)
        run.singles = parts
        tags = [element.tag for element in run.elements]
        run.low, run.high = min(tags), max(tags)
        run.group = run.low >> 16 if run.low >> 16 == run.high >> 16 else -1
        run.ascending = all(map(lt, tags, tags[1:]))
        return run

    @property
    def elements(self) -> tuple[Element, ...]:
        """Its elements; that of an ordinary one is made when somebody asks."""
        head = self.head
        if head is not None and not self._elements:
            self._elements = (Element(head.tag, head.vr, self.encoded[head.size :]),)
        return self._elements

    @property
    def weight(self) -> int:
        """What it counts against the limit of a deflated data set (spec/p10.md)."""
        if self._weight is None:
            singles = self.singles
            self._weight = sum([one.weight for one in singles]) if singles else self._weigh()
        return self._weight

    def _weigh(self) -> int:
        (element,) = self.elements
        value = element.value
        if isinstance(value, Sequence) or _has_items(element):
            return self.size
        fragments = len(value.fragments) if isinstance(value, Encapsulated) else 0
        return min(self.size, _MOST_WEIGHT) + _FRAGMENT * fragments

    def size_of_first(self, group: int) -> int:
        """The bytes of its first elements that are of a group."""
        size = 0
        for single in self.singles or (self,):
            if single.low >> 16 != group:
                break
            size += single.size
        return size

    @property
    def tag(self) -> int:
        """That of its first element."""
        return self.singles[0].low if self.singles else self.low

    @property
    def last(self) -> int:
        """The tag of its last element."""
        return self.singles[-1].low if self.singles else self.low


def _has_items(element: Element) -> bool:
    """Whether the value of an element is bytes that are to be split into items."""
    if not isinstance(element.value, bytes) or element.tag in PIXEL_DATA_TAGS:
        return False
    return element.vr == "SQ" or (element.vr in {"", "UN"} and element.value[:4] in _ITEM_TAGS)


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
    def meta_starts(self) -> list[int]:
        """The offset of each of `meta`."""
        first = 0 if self.preamble is None else FRONT
        return list(accumulate([run.size for run in self.meta], initial=first))[:-1]

    @property
    def elements(self) -> list[Element]:
        """The elements of the data set, in their order."""
        return elements_of(self.runs)

    def find(self, tag: int) -> Element | None:
        """The last element of the data set with this tag."""
        found = None
        for run in self.runs:
            if run.low <= tag <= run.high:
                for element in run.elements:
                    if element.tag == tag:
                        found = element
        return found


def elements_of(runs: Iterable[Run]) -> list[Element]:
    """The elements of all runs, in their order."""
    return [element for run in runs for element in run.elements]
