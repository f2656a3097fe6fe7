"""A Part 10 file taken apart: runs of elements, and what is around them."""

from __future__ import annotations

from collections.abc import Iterable
from operator import lt
from typing import NamedTuple

from dicomstudy.elements import Buffer, Element, Span
from dicomstudy.errors import Problem
from dicomstudy.p10.headers import Header


class Syntax(NamedTuple):
    """How the data set after the file meta information was found to be encoded."""

    explicit: bool
    big: bool = False
    deflated: bool = False


class Run:
    """Consecutive elements of a data set with the bytes that encode them.

    `head` is the header of a run of one element if that is an ordinary one.

    Compared by identity, so that work on a run that came again is not done again. A group
    length inside a run of several elements has its whole group in the run.
    """

    __slots__ = (
        *("ascending", "elements", "encoded", "head", "high", "low", "parts", "size", "tag"),
    )

    def __init__(
        self, elements: tuple[Element, ...], parts: tuple[bytes, ...], encoded: bytes, size: int
    ) -> None:
        self.elements = elements
        self.parts = parts
        self.encoded = encoded
        self.size = size
        self.tag = self.low = self.high = elements[0].tag
        self.ascending = True
        self.head: Header | None = None

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
