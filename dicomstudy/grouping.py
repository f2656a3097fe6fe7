"""Records ↔ attribute groups named by their Ion Hash (spec/grouping.md).

A `Batch` holds instances whose seed groups and `encoding` are already hashed; `cluster` then
moves what is the same in all instances of a series into groups too. The mirror is
`Clustered.batch`: ``cluster(batch).batch() == batch``. Neither depends on the order in
which instances come.
"""

from __future__ import annotations

import marshal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, NamedTuple

from dicomstudy.definitions import Definitions
from dicomstudy.errors import DefinitionsError, RecordError
from dicomstudy.ion import ion_hash_hex
from dicomstudy.record import INSTANCE, Attribute

__all__ = [
    "ENCODING",
    "Batch",
    "Clustered",
    "ClusteredSeries",
    "Entry",
    "Grouper",
    "Row",
    "Source",
    "cluster",
    "freeze",
    "ordered",
    "uids_of",
    "ungroup",
]

ENCODING = "encoding"
_STUDY, _SERIES, _SOP = "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"
_MEMO_SIZE = 1 << 14
#: Rank of what is no attribute of the dictionary.
_LAST = 1 << 40


class Source(NamedTuple):
    """The file that an instance came from; `sha256` and `size` are None if it is not known.

    `modified` is its time of modification in nanoseconds since 1970, if it is referred to.
    """

    uri: str
    sha256: str | None = None
    size: int | None = None
    modified: int | None = None


class Entry(NamedTuple):
    """One instance: its groups by digest, its other attributes by their number in a batch.

    `digest` tells instances of one SOP Instance UID apart: the SHA-256 of the source, or of
    the record where there was no file. `places` says where large values lie, by SHA-256.
    """

    instance: str
    series: str
    digest: str
    source: Source
    groups: tuple[str, ...]
    own: tuple[int, ...]
    places: dict[str, dict[str, Any]]


class Row(NamedTuple):
    """An attribute outside the seed's groups, and the group that takes it if it is constant."""

    group: str
    key: str
    value: Any


@dataclass(slots=True)
class Batch:
    """Instances of one study. Equal content and equal attributes are kept once.

    `contents` has each group by digest, with its name; `rows` the other attributes, to which
    `Entry.own` refers.
    """

    contents: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)

    def _merge(self, other: Batch, numbers: dict[tuple[str, str, object], int]) -> None:
        renumbered = []
        for group, key, value in other.rows:
            name = (group, key, freeze(value))
            number = numbers.get(name)
            if number is None:
                number = numbers[name] = len(self.rows)
                self.rows.append(Row(group, key, value))
            renumbered.append(number)
        self.contents.update(other.contents)
        self.entries += [
            entry._replace(own=tuple([renumbered[number] for number in entry.own]))
            for entry in other.entries
        ]

    @classmethod
    def join(cls, batches: Iterable[Batch]) -> Batch:
        """One batch of the instances of all; equal rows become one."""
        whole = cls()
        numbers: dict[tuple[str, str, object], int] = {}
        for batch in batches:
            whole._merge(batch, numbers)
        return whole


def freeze(value: Any) -> object:
    """Something hashable that is equal for equal Ion values only."""
    kind = type(value)
    if kind is float:
        return (float, repr(value))
    if kind is list or kind is dict:
        return (kind, marshal.dumps(value, 2))
    return value


class Grouper:
    """Makes entries of records and hashes their groups, the quicker the more they repeat."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions
        self._fixed = frozenset(definitions.seed_groups)
        self._order = {name: at for at, name in enumerate(definitions.groups)}
        self._digests: dict[tuple[Attribute, ...], tuple[str, dict[str, Any]]] = {}
        self._encodings: dict[int, tuple[str, dict[str, Any]]] = {}

    def add(
        self,
        batch: Batch,
        numbers: dict[Attribute, int],
        groups: Mapping[str, tuple[Attribute, ...]],
        encoding: dict[str, Any] | None,
        *,
        uids: tuple[str, str, str],
        source: Source,
        places: dict[str, dict[str, Any]],
    ) -> Entry:
        """Add one instance to `batch`.

        Args:
            numbers: the attributes that `batch` has already, by identity; kept up by this.
            groups: `Record.groups`.
            encoding: `Record.encoding`; None if the file is not known.
            uids: of study, series and instance.
            places: where the large values lie.
        """
        digests = []
        own: list[Attribute] = []
        for name, attributes in groups.items():
            if name not in self._fixed:
                own += attributes
                continue
            found = self._digests.get(attributes)
            if found is None:
                if len(self._digests) > _MEMO_SIZE:
                    self._digests.clear()
                content = ordered(((a.key, a.value) for a in attributes), self._definitions)
                found = self._digests[attributes] = ion_hash_hex(content), content
            digest, content = found
            batch.contents[digest] = name, content
            digests.append((self._order[name], digest))
        if encoding is not None:
            digest = self._encoding_digest(encoding)
            batch.contents[digest] = ENCODING, encoding
            digests.append((self._order[ENCODING], digest))
        digests.sort()
        row = []
        for attribute in own:
            number = numbers.get(attribute)
            if number is None:
                number = numbers[attribute] = len(batch.rows)
                batch.rows.append(Row(attribute.group or INSTANCE, attribute.key, attribute.value))
            row.append(number)
        identity = source.sha256
        if identity is None:
            identity = ion_hash_hex({a.key: a.value for group in groups.values() for a in group})
        entry = Entry(
            uids[2],
            uids[1],
            identity,
            source,
            tuple([digest for _, digest in digests]),
            tuple(row),
            places,
        )
        batch.entries.append(entry)
        return entry

    def _encoding_digest(self, encoding: dict[str, Any]) -> str:
        known = self._encodings.get(id(encoding))
        if known is None or known[1] is not encoding:
            if len(self._encodings) > _MEMO_SIZE:
                self._encodings.clear()
            known = self._encodings[id(encoding)] = ion_hash_hex(encoding), encoding
        return known[0]


def ordered(pairs: Iterable[tuple[str, Any]], definitions: Definitions) -> dict[str, Any]:
    """A struct with its fields in the order of the definitions; those of ours come last."""
    ranked = [(rank(key, definitions), key, value) for key, value in pairs]
    ranked.sort(key=itemgetter(0, 1))
    return {key: value for _, key, value in ranked}


def rank(key: str, definitions: Definitions) -> int:
    """Where a field stands in a struct: what is no attribute comes last."""
    if key[0] != "_" and "#" not in key:
        try:
            return definitions.rank(key)
        except DefinitionsError:
            pass
    return _LAST


def uids_of(groups: Mapping[str, tuple[Attribute, ...]]) -> tuple[str, str, str] | None:
    """Study, series and SOP Instance UID of a record; None if one of them is no text."""
    found: dict[str, str] = {}
    for name, wanted in (("generalStudy", _STUDY), ("generalSeries", _SERIES), (INSTANCE, _SOP)):
        for attribute in groups.get(name, ()):
            if attribute.key == wanted and isinstance(attribute.value, str):
                found[wanted] = attribute.value.strip(" \0")
    study, series, instance = (found.get(key, "") for key in (_STUDY, _SERIES, _SOP))
    return (study, series, instance) if study and series and instance else None


class ClusteredSeries(NamedTuple):
    """One series: the groups that all its instances have, and its entries.

    `entries` are in the order of their SOP Instance UID and digest; their `groups` are those
    beyond the common ones, their `own` what was not constant, in the order of documents.
    """

    uid: str
    groups: tuple[str, ...]
    entries: list[Entry]


@dataclass(slots=True)
class Clustered:
    """A study in which what is constant over a series is in groups."""

    contents: dict[str, tuple[str, dict[str, Any]]]
    rows: list[Row]
    series: list[ClusteredSeries]


def row_order(rows: Sequence[Row], definitions: Definitions) -> list[int]:
    """The place of each row among all, in the order in which documents write attributes."""
    ranks = [(rank(row.key, definitions), row.key) for row in rows]
    places = [0] * len(rows)
    for place, number in enumerate(sorted(range(len(rows)), key=ranks.__getitem__)):
        places[number] = place
    return places


def cluster(batch: Batch, definitions: Definitions) -> Clustered:
    """Move what all instances of a series share into groups; the order of `batch` is forgotten."""
    by_series: dict[str, list[Entry]] = {}
    for entry in batch.entries:
        by_series.setdefault(entry.series, []).append(entry)
    contents: dict[str, tuple[str, dict[str, Any]]] = {}
    order = {name: at for at, name in enumerate(definitions.groups)}
    place_of = row_order(batch.rows, definitions).__getitem__
    series = []
    for uid, entries in sorted(by_series.items()):
        entries.sort(key=lambda entry: (entry.instance, entry.digest))
        constant = set(entries[0].own)
        for entry in entries:
            constant.intersection_update(entry.own)
        constant = {number for number in constant if batch.rows[number].group != INSTANCE}
        grouped: dict[str, list[Row]] = {}
        for number in constant:
            grouped.setdefault(batch.rows[number].group, []).append(batch.rows[number])
        common = set(entries[0].groups)
        for entry in entries:
            common.intersection_update(entry.groups)
        for entry in entries:
            for digest in entry.groups:
                contents[digest] = batch.contents[digest]
        shared = [(order[contents[digest][0]], digest) for digest in common]
        for name, rows in grouped.items():
            content = ordered(((row.key, row.value) for row in rows), definitions)
            digest = ion_hash_hex(content)
            contents[digest] = name, content
            shared.append((order[name], digest))
        shared.sort()
        kept = [
            entry._replace(
                groups=tuple([digest for digest in entry.groups if digest not in common]),
                own=tuple(sorted(set(entry.own) - constant, key=place_of)),
            )
            for entry in entries
        ]
        series.append(ClusteredSeries(uid, tuple([digest for _, digest in shared]), kept))
    return Clustered(contents, batch.rows, series)


def ungroup(
    groups: Iterable[tuple[str, Mapping[str, Any]]], own: Mapping[str, Any]
) -> dict[str, Any]:
    """All attributes of an instance: those of its groups and its own.

    Raises:
        RecordError: two of them give one attribute different values.
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
