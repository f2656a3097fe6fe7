"""Records → instances of attribute groups named by their Ion Hash (spec/grouping.md).

A `Batch` holds instances whose seed groups and `encoding` are already hashed. It does not
depend on the order in which they come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from dicomstudy.bulk import Places
from dicomstudy.definitions import Definitions
from dicomstudy.elements import bare_uid
from dicomstudy.errors import DefinitionsError, RecordError
from dicomstudy.ion import ion_hash_hex
from dicomstudy.record import INSTANCE, Attribute, group_of

if TYPE_CHECKING:
    from dicomstudy.record import Record, Template

__all__ = [
    "ENCODING",
    "Batch",
    "Entry",
    "Group",
    "Grouper",
    "HashedGroup",
    "Identity",
    "Name",
    "Pending",
    "Row",
    "Rows",
    "Source",
    "encoding_of",
    "formed",
    "freeze",
    "hashed",
    "ordered",
    "rank",
    "ungroup",
    "without_encoding",
]

ENCODING = "encoding"
#: Group and key of the UIDs of study, series and instance.
_UIDS = (
    ("generalStudy", "StudyInstanceUID"),
    ("generalSeries", "SeriesInstanceUID"),
    (INSTANCE, "SOPInstanceUID"),
)
_PLAIN_KINDS = frozenset((type(None), int, str, bytes))
_MEMO_SIZE = 1 << 10
#: What an entry, a row and the number of a row weigh.
_ENTRY_WEIGHT, _ROW_WEIGHT, _NUMBER_WEIGHT = 1 << 10, 1 << 9, 1 << 3
#: Rank of what is no attribute of the dictionary.
_LAST = 1 << 40


class Source(NamedTuple):
    """The file that an instance came from; `sha256` and `size` are None if it is not known.

    `modified` is its time of modification in nanoseconds since 1970, if it is referred to.
    `proved`: the instance was compared with the file; not so one that came from a record.
    """

    uri: str
    sha256: str | None = None
    size: int | None = None
    modified: int | None = None
    proved: bool = True

    def is_better(self, before: Source) -> bool:
        """Whether an instance takes the place of an equal one, for where it is from.

        One that was compared with its file, of one that was not; one whose values are in the
        archive, of one whose values are in the file.
        """
        if self.proved != before.proved:
            return self.proved
        return self.modified is None and before.modified is not None

    def located(self, place: dict[str, Any]) -> dict[str, Any]:
        """The place of a large value of the file so that it stands by itself.

        One in the file names the file; one in a bulk file, or that names its file, stays.
        """
        if "dataOffset" not in place or "uri" in place:
            return place
        uri, sha256, size, modified, _ = self
        file = {"uri": uri, "size": size, "source": sha256, "modified": modified}
        return {**place, **{name: value for name, value in file.items() if value is not None}}


#: The name of an attribute group, and its attributes.
Group: TypeAlias = tuple[str, dict[str, Any]]
#: The digest of a group, its name, and its attributes.
HashedGroup: TypeAlias = tuple[str, str, dict[str, Any]]
#: What an instance is, in whatever study and series: its SOP Instance UID, and its digest.
Identity: TypeAlias = tuple[str, str]
#: What tells instances of a study apart: SOP Instance UID, digest, and series.
Name: TypeAlias = tuple[str, str, str]


class Entry(NamedTuple):
    """One instance: its groups by digest, its other attributes by their numbers in a batch.

    `digest` tells instances of one SOP Instance UID apart: the SHA-256 of the source, or of
    the record where there was no file. Its attributes are those of the base with the number
    `base`, which it shares with others, and `own`. `places` says where large values lie, by
    SHA-256; `events` in which versions of the study the instance came in, and went out with a
    minus (spec/history.md).
    """

    instance: str
    series: str
    digest: str
    source: Source
    groups: tuple[str, ...]
    base: int
    own: tuple[int, ...]
    places: Places
    events: tuple[int, ...] = ()

    @property
    def identity(self) -> Identity:
        """What it is, wherever it stands."""
        return self.instance, self.digest

    @property
    def name(self) -> Name:
        """What tells it from others of its study: equal content under one UID is one instance."""
        return self.instance, self.digest, self.series

    def stored_at(self, places: Mapping[str, dict[str, Any]]) -> Entry:
        """The entry with its values that a bulk file has at other `places`, by SHA-256."""
        stored = {sha256: places[sha256] for sha256, p in self.places.items() if "stored" in p}
        return self._replace(places=self.places | stored) if stored else self


class Row(NamedTuple):
    """An attribute outside the seed's groups, and the group that may take it."""

    group: str
    key: str
    value: Any


class Rows:
    """Numbers the rows of a batch; equal ones have one number."""

    __slots__ = ("_numbers", "_rows")

    def __init__(self, rows: list[Row]) -> None:
        self._rows = rows
        self._numbers: dict[tuple[str, str, object], int] = {}

    def add(self, attributes: Iterable[tuple[str, str, Any]]) -> list[int]:
        """The numbers of attributes, given as rows are; those that are new are added."""
        numbers, rows, found = self._numbers, self._rows, []
        for group, key, value in attributes:
            name = (group, key, freeze(value))
            number = numbers.get(name)
            if number is None:
                number = numbers[name] = len(rows)
                rows.append(Row(group, key, value))
            found.append(number)
        return found


@dataclass(slots=True)
class Batch:
    """Instances of one study. Equal content and equal attributes are kept once.

    `contents` has each group by digest, with its name; `rows` the other attributes, to which
    `bases` and `Entry.own` refer by number.
    """

    contents: dict[str, Group] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    bases: list[tuple[int, ...]] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)

    @classmethod
    def join(cls, batches: Iterable[Batch]) -> Batch:
        """One batch of the instances of all; equal rows become one."""
        whole = cls()
        rows = Rows(whole.rows)
        bases: dict[tuple[int, ...], int] = {}
        for batch in batches:
            renumbered = rows.add(batch.rows)
            rebased = []
            for numbers_of_base in batch.bases:
                base = tuple([renumbered[number] for number in numbers_of_base])
                if base not in bases:
                    bases[base] = len(whole.bases)
                    whole.bases.append(base)
                rebased.append(bases[base])
            whole.contents.update(batch.contents)
            whole.entries += [
                entry._replace(
                    base=rebased[entry.base],
                    own=tuple([renumbered[number] for number in entry.own]),
                )
                for entry in batch.entries
            ]
        return whole

    def only(self, entries: Iterable[Entry]) -> Batch:
        """A batch of some of its entries, with the rows and groups that these have."""
        some = Batch(bases=[()])
        numbers: dict[int, int] = {}
        for entry in entries:
            own = (*self.bases[entry.base], *entry.own)
            for number in own:
                if number not in numbers:
                    numbers[number] = len(some.rows)
                    some.rows.append(self.rows[number])
            some.contents |= {digest: self.contents[digest] for digest in entry.groups}
            renumbered = tuple([numbers[number] for number in own])
            some.entries.append(entry._replace(base=0, own=renumbered))
        return some


def freeze(value: Any) -> object:
    """Something hashable that is equal for equal Ion values only."""
    kind = type(value)
    if kind is list:
        return (list, tuple([freeze(item) for item in value]))
    if kind is dict:
        return (dict, tuple([(key, freeze(value[key])) for key in sorted(value)]))
    if kind in _PLAIN_KINDS:
        return value
    return (kind, repr(value))


#: `Row._make` without its look at the length: there are many.
_new_row: Callable[[tuple[str, str, Any]], Row] = partial(tuple.__new__, Row)
#: A group by its digest, as in `Batch.contents`; `HashedGroup` is the same, flat.
_Content: TypeAlias = tuple[str, Group]


class _SeedGroup(NamedTuple):
    """A seed group in a template: its attributes, and which of them are left open."""

    name: str
    order: int
    items: tuple[Attribute | int, ...]
    open: tuple[int, ...]
    found: dict[tuple[Attribute, ...], _Content]


class _Outline(NamedTuple):
    """What a `Grouper` has worked out for all records of one template.

    `uids` are those of study, series and instance, or their numbers where they are left open.
    """

    definitions: Definitions
    template: Template
    seeds: list[_SeedGroup]
    encoding: _Content
    base: tuple[Attribute, ...]
    own: tuple[int, ...]
    uids: tuple[str | int, ...]


class Pending:
    """A batch in the making, with the numbers of what it has already.

    `awaited` gives the SHA-256 of the source of each entry that lacks it, by the entry's place;
    `weight` is about the bytes that the batch takes in memory.
    """

    __slots__ = ("_bases", "_known", "_numbers", "awaited", "batch", "weight")

    def __init__(self) -> None:
        self.batch = Batch()
        self.awaited: dict[int, Callable[[], str]] = {}
        self.weight = 0
        self._numbers: dict[Attribute, int] = {}
        self._known: dict[tuple[str, str, object], int] = {}
        self._bases: dict[Template, int] = {}

    def number(self, attribute: Attribute) -> int:
        """The row of an attribute, which is added if need be."""
        number = self._numbers.get(attribute)
        if number is None:
            group, key, value = attribute.group or INSTANCE, attribute.key, attribute.value
            frozen = value if type(value) in _PLAIN_KINDS else freeze(value)
            rows = self.batch.rows
            number = self._known.setdefault((group, key, frozen), len(rows))
            if number == len(rows):
                rows.append(_new_row((group, key, value)))
            self._numbers[attribute] = number
            self.weight += len(attribute.encoded) + _ROW_WEIGHT
        return number

    def number_all(self, attributes: Iterable[Attribute]) -> list[int]:
        """The rows of attributes."""
        known = self._numbers
        return [known[a] if a in known else self.number(a) for a in attributes]

    def base(self, outline: _Outline) -> int:
        """The number of the attributes that all records of a template have."""
        base = self._bases.get(outline.template)
        if base is None:
            base = self._bases[outline.template] = len(self.batch.bases)
            self.batch.bases.append(tuple(self.number_all(outline.base)))
            self.weight += _ROW_WEIGHT * len(outline.template.pieces)
        return base

    def settle(self) -> None:
        """Return once every SHA-256 is known."""
        entries = self.batch.entries
        for place, sha256 in self.awaited.items():
            entry, digest = entries[place], sha256()
            entries[place] = entry._replace(
                digest=digest, source=entry.source._replace(sha256=digest)
            )
        self.awaited.clear()


class Grouper:
    """Makes entries of records and hashes their groups, the quicker the more they repeat."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions
        self._seeds = frozenset(definitions.seed_groups)
        self._order = {name: at for at, name in enumerate(definitions.groups)}
        self._last: dict[str, tuple[object, _Content]] = {}

    def uids(self, record: Record) -> tuple[str, str, str] | None:
        """Study, series and SOP Instance UID of a record; None if one of them is no text."""
        found = []
        for item in self._outline(record.template).uids:
            uid = bare_uid(record.variable[item].value) if isinstance(item, int) else item
            if not uid:
                return None
            found.append(uid)
        study, series, instance = found
        return study, series, instance

    def add(
        self,
        pending: Pending,
        record: Record,
        *,
        uids: tuple[str, str, str],
        source: Source,
        places: Places,
        sha256: Callable[[], str] | None = None,
    ) -> None:
        """Add one instance to a batch.

        Args:
            uids: of study, series and instance.
            source: the file that the record was made of.
            places: where its large values lie.
            sha256: gives that of the source, if `source` does not; asked by `Pending.settle`.
        """
        variable = record.variable
        outline = self._outline(record.template)
        contents = pending.batch.contents
        digests = []
        for seed in outline.seeds:
            key = tuple([variable[number] for number in seed.open])
            found = seed.found.get(key)
            if found is None:
                if len(seed.found) > _MEMO_SIZE:
                    seed.found.clear()
                found = seed.found[key] = self._hashed(seed, variable)
            digest, content = found
            contents[digest] = content
            digests.append(digest)
        if record.encoding:
            digest, content = outline.encoding
            contents[digest] = content
            digests.append(digest)
        own = pending.number_all([variable[number] for number in outline.own])
        if record.extra:
            own += pending.number_all(record.extra)
        entries = pending.batch.entries
        identity = source.sha256 or ""
        if sha256 is not None:
            pending.awaited[len(entries)] = sha256
        elif not identity:
            identity = ion_hash_hex(record.attributes())
        entry = Entry(
            uids[2],
            uids[1],
            identity,
            source,
            tuple(digests),
            pending.base(outline),
            tuple(own),
            places,
        )
        entries.append(entry)
        pending.weight += _ENTRY_WEIGHT + _NUMBER_WEIGHT * len(own)

    def _hashed(self, seed: _SeedGroup, variable: Sequence[Attribute]) -> _Content:
        attributes = tuple([variable[i] if isinstance(i, int) else i for i in seed.items])

        def content() -> dict[str, Any]:
            return ordered(((a.key, a.value) for a in attributes), self._definitions)

        return self._as_last(seed.name, attributes, content)

    def _as_last(
        self, group: str, made_of: object, content: Callable[[], dict[str, Any]]
    ) -> _Content:
        """The digest and content of a group, known if it is made of the same as the last one."""
        last = self._last.get(group)
        if last is None or last[0] != made_of:
            made = content()
            last = self._last[group] = made_of, (ion_hash_hex(made), (group, made))
        return last[1]

    def _outline(self, template: Template) -> _Outline:
        outline = template.outline
        if not isinstance(outline, _Outline) or outline.definitions is not self._definitions:
            outline = template.outline = self._make_outline(template)
        return outline

    def _make_outline(self, template: Template) -> _Outline:
        seeds = []
        base: list[Attribute] = list(template.raw)
        own: list[int] = []
        for name, items in template.groups.items():
            numbers = tuple([item for item in items if isinstance(item, int)])
            if name in self._seeds:
                seeds.append(_SeedGroup(name, self._order[name], items, numbers, {}))
            else:
                base += [item for item in items if isinstance(item, Attribute)]
                own += numbers
        seeds.sort(key=lambda seed: seed.order)
        encoding = template.encoding
        found = [template.find(*name) for name in _UIDS]
        uids = [item if isinstance(item, int) else bare_uid(item and item.value) for item in found]
        return _Outline(
            self._definitions,
            template,
            seeds,
            self._as_last(ENCODING, encoding, lambda: encoding),
            tuple(base),
            tuple(own),
            tuple(uids),
        )


def ordered(pairs: Iterable[tuple[str, Any]], definitions: Definitions) -> dict[str, Any]:
    """A struct with its fields in the order of the definitions; those of ours come last."""
    ranked = [(rank(key, definitions), key, value) for key, value in pairs]
    ranked.sort(key=itemgetter(0, 1))
    return {key: value for _, key, value in ranked}


def hashed(group: str, rows: Iterable[Row], definitions: Definitions) -> HashedGroup:
    """The attribute group of this name that has these rows."""
    content = ordered(((row.key, row.value) for row in rows), definitions)
    return ion_hash_hex(content), group, content


def formed(
    groups: list[HashedGroup], own: Mapping[str, Any], definitions: Definitions
) -> tuple[list[HashedGroup], Mapping[str, Any]]:
    """Groups and own attributes of an instance; what the seed's groups list is in these.

    Another writer may have left attributes of them with the instance.

    Raises:
        RecordError: one is in a group as well (``record/ambiguous``).
    """
    loose: dict[str, dict[str, Any]] = {}
    for key, value in own.items():
        group = group_of(key, definitions)
        if definitions.is_seed(group):
            loose.setdefault(group, {})[key] = value
    for group, more in loose.items():
        there = [(digest, content) for digest, name, content in groups if name == group]
        rows = [Row(group, key, value) for key, value in ungroup(there, more).items()]
        groups = [each for each in groups if each[1] != group]
        groups.append(hashed(group, rows, definitions))
    taken = {key for more in loose.values() for key in more}
    return groups, {key: own[key] for key in own if key not in taken} if taken else own


@lru_cache(maxsize=1 << 15)
def rank(key: str, definitions: Definitions) -> int:
    """Where a field stands in a struct: what is no attribute comes last."""
    if key[0] != "_" and "#" not in key:
        try:
            return definitions.rank(key)
        except DefinitionsError:
            pass
    return _LAST


def encoding_of(groups: Iterable[HashedGroup]) -> dict[str, Any] | None:
    """The content of the `encoding` among the groups of an instance.

    None if there is none: then it is not known how its file was written.
    """
    return next((content for _, name, content in groups if name == ENCODING), None)


def without_encoding(groups: Iterable[HashedGroup]) -> list[tuple[str, dict[str, Any]]]:
    """Digest and content of all groups of an instance but its `encoding`: those of attributes."""
    return [(digest, content) for digest, name, content in groups if name != ENCODING]


def ungroup(
    groups: Iterable[tuple[str, Mapping[str, Any]]], own: Mapping[str, Any]
) -> dict[str, Any]:
    """All attributes of an instance: those of its groups and its own.

    Raises:
        RecordError: one attribute is in two of them, with whatever values.
    """
    merged: dict[str, Any] = {}
    count = len(own)
    for _, content in groups:
        merged.update(content)
        count += len(content)
    merged.update(own)
    if len(merged) != count:
        raise RecordError("record/ambiguous", "an attribute stands in two groups of one instance")
    return merged
