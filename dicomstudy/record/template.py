"""What the records of files of one shape have in common, and a record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

from dicomstudy import p10
from dicomstudy.errors import Problem, RecordError
from dicomstudy.p10 import Run
from dicomstudy.record.attributes import (
    DEFLATED,
    INSTANCE,
    PREAMBLE,
    RAW_GROUP,
    TRAILING,
    ZEROS,
    Attribute,
    Large,
    Segment,
)

__all__ = ["Part", "Record", "Template", "by_group"]

_AROUND = frozenset((PREAMBLE, TRAILING, DEFLATED))


class Part(NamedTuple):
    """The attributes of a run of several elements, ready to be joined with others.

    `groups` has the attributes that a record keeps, by the name of their group.
    """

    attributes: tuple[Attribute, ...]
    groups: dict[str, list[Attribute]]
    layout: str
    encoded: bytes
    raw: tuple[Attribute, ...]
    large: tuple[Large, ...]
    flaws: tuple[tuple[Attribute, int], ...]


def by_group(attributes: Iterable[Attribute]) -> dict[str, list[Attribute]]:
    """Attributes by the name of their group, but for those that are not kept."""
    groups: dict[str, list[Attribute]] = {}
    for attribute in attributes:
        if attribute.group is not None:
            groups.setdefault(attribute.group, []).append(attribute)
    return groups


class Template:
    """What the records of files of one shape have in common.

    A shape is the row of runs of a file, in which a run of one element counts by its layout
    alone. So a template has all attributes of the longer runs, and leaves the others open:
    where one of those stands, it has its number in `Record.variable`. Compared by identity.

    Attributes:
        groups: attributes by the name of their group, in the order of the file.
        encoding: the content of the `encoding` group.
        raw: attributes with bytes that do not come out of values.
        large: large values of the longer runs, by the place of their run.
        flaws: attributes of the longer runs that have one, with the place of their run and their
            offset in it.
        repeated: numbers of attributes that a later one of their tag replaces, each with its
            occurrence.
        keys: the keys of what is left open.
        pieces: the bytes of the runs; empty where they depend on what is left open.
        open: the places of attributes that are left open, each with the attribute's number.
        group_lengths: those that depend on what is left open, each with its place in front.
        meta: how many of the runs are file meta information.
        of_file: whether the records were read from files.
        outline: what a `Grouper` has worked out for it.
    """

    __slots__ = (
        *("encoding", "flaws", "group_lengths", "groups", "keys", "large", "meta", "of_file"),
        *("open", "outline", "pieces", "raw", "repeated"),
    )

    def __init__(
        self,
        runs: list[Run],
        row: list[Part | int],
        variable: list[Attribute],
        encoding: dict[str, Any],
        repeated: list[tuple[int, int]],
        meta: int,
    ) -> None:
        self.outline: object = None
        self.of_file = True
        self.encoding = encoding
        self.repeated = repeated
        self.meta = meta
        self.keys = [attribute.key for attribute in variable]
        for number, occurrence in repeated:
            self.keys[number] += f"#{occurrence}"
        self.open: list[tuple[int, int]] = []
        self.pieces = [b"" if isinstance(item, int) else item.encoded for item in row]
        self.raw: list[Attribute] = []
        self.large: list[tuple[int, Large]] = []
        self.flaws: list[tuple[int, Attribute, int]] = []
        self.group_lengths: list[tuple[int, _GroupLength]] = []
        renamed = {number for number, _ in repeated}
        groups: dict[str, list[Attribute | int]] = {}
        for place, item in enumerate(row):
            if isinstance(item, int):
                group = INSTANCE if item in renamed else variable[item].group
                if group is not None:
                    groups.setdefault(group, []).append(item)
                    self.open.append((place, item))
                    continue
                stop = meta if place < meta else len(runs)
                big = place >= meta and encoding["byteOrder"] == "big"
                length = _GroupLength.find(runs, row, place, stop, big=big)
                if length.open:
                    self.group_lengths.append((place, length))
                else:
                    self.pieces[place] = length.encode(())
                continue
            self.raw += item.raw
            self.large += [(place, large) for large in item.large]
            self.flaws += [(place, *flaw) for flaw in item.flaws]
            for name, attributes in item.groups.items():
                groups.setdefault(name, []).extend(attributes)
        self.groups = {name: tuple(some) for name, some in groups.items()}

    @classmethod
    def closed(
        cls, groups: Mapping[str, Iterable[Attribute]], encoding: dict[str, Any]
    ) -> Template:
        """A template that leaves nothing open: of a record that was not read from a file."""
        template = cls([], [], [], encoding, [], 0)
        template.of_file = False
        template.groups = {name: tuple(attributes) for name, attributes in groups.items()}
        return template

    def find(self, group: str, key: str) -> int | Attribute | None:
        """The attribute `key`, or its number where it is left open."""
        for item in self.groups.get(group, ()):
            if (self.keys[item] if isinstance(item, int) else item.key) == key:
                return item
        return None


class _GroupLength(NamedTuple):
    """A group length: how many bytes of its group are `known`, and the numbers of its open runs."""

    open: tuple[int, ...]
    known: int
    header: bytes
    big: bool

    @classmethod
    def find(
        cls, runs: list[Run], row: list[Part | int], place: int, stop: int, *, big: bool
    ) -> _GroupLength:
        """That at `place` of `runs`, of which `row` says what is left open."""
        (element,) = runs[place].elements
        group = element.tag >> 16
        end = place + 1
        while end < stop and runs[end].group == group:
            end += 1
        inside = row[place + 1 : end]
        open_ = [item for item in inside if isinstance(item, int)]
        known = sum([len(item.encoded) for item in inside if not isinstance(item, int)])
        if end < stop:
            known += runs[end].size_of_first(group)
        head = p10.encode_element(element.tag, element.vr, b"", big=big, length=4)
        return cls(tuple(open_), known, head, big)

    def encode(self, variable: Sequence[Attribute]) -> bytes:
        """The element, `variable` being the attributes that are left open."""
        length = self.known + sum([variable[number].size for number in self.open])
        return self.header + p10.group_length(length, big=self.big)


class Record:
    """One instance, decoded: its attributes, and how its file was written.

    Attributes:
        template: what it has in common with others.
        variable: its attributes that the template leaves open.
        extra: attributes with bytes of the file that are in no value.
        large: its large values, with their places in the source.
        problems: what was wrong with the file.
    """

    __slots__ = ("extra", "large", "problems", "template", "variable")

    def __init__(
        self,
        template: Template,
        variable: list[Attribute],
        extra: list[Attribute],
        large: list[Large],
        problems: tuple[Problem, ...] = (),
    ) -> None:
        self.template = template
        self.variable = variable
        self.extra = extra
        self.large = large
        self.problems = problems

    @property
    def encoding(self) -> dict[str, Any]:
        """The content of its `encoding` group: the same object for files written alike."""
        return self.template.encoding

    def group(self, name: str) -> list[Attribute]:
        """The attributes of one group in the order of the file; those of `RAW_GROUP` by their keys.

        Those of the instance itself are named by `INSTANCE`.
        """
        variable = self.variable
        found = [
            variable[item] if isinstance(item, int) else item
            for item in self.template.groups.get(name, ())
        ]
        if name != RAW_GROUP:
            return found
        return sorted((*found, *self.template.raw, *self.extra), key=attrgetter("key"))

    @property
    def groups(self) -> dict[str, list[Attribute]]:
        """All attributes by the name of their group, in the order of the file."""
        groups = {name: self.group(name) for name in self.template.groups}
        if self.template.raw or self.extra:
            groups[RAW_GROUP] = self.group(RAW_GROUP)
        return groups

    def attributes(self) -> dict[str, Any]:
        """All values by key."""
        return {
            attribute.key: attribute.value
            for attributes in self.groups.values()
            for attribute in attributes
        }

    def segments(self) -> list[Segment]:
        """The file as the values give it again: bytes, and references to be copied.

        Raises:
            RecordError: the record was not read from a file.
        """
        template = self.template
        if not template.of_file:
            raise RecordError("record/no-encoding", "the record was not read from a file")
        variable = self.variable
        pieces = template.pieces.copy()
        copies = {}
        for place, number in template.open:
            attribute = variable[number]
            pieces[place] = attribute.encoded
            if attribute.copied:
                copies[place] = attribute.copied
        for place, length in template.group_lengths:
            pieces[place] = length.encode(variable)
        around = {}
        for attribute in self.extra:
            if attribute.key in _AROUND:
                around[attribute.key] = attribute.value
        segments: list[Segment] = []
        if template.encoding["preamble"]:
            segments.append(around.get(PREAMBLE, ZEROS) + p10.PREFIX)
        if DEFLATED in around:
            return [*segments, *pieces[: template.meta], around[DEFLATED]]
        start = 0
        for place, copied in copies.items():
            segments += (b"".join(pieces[start : place + 1]), *copied)
            start = place + 1
        segments.append(b"".join(pieces[start:]))
        if TRAILING in around:
            segments.append(around[TRAILING])
        return segments
