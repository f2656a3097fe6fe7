"""References follow instances that went to another study or series (spec/moving.md).

An item that has UIDs of study or series refers to what is below it; it comes apart where that
is in several places now. Nothing is guessed from what a sequence is called, but for two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from dicomstudy.elements import bare_uid
from dicomstudy.grouping import HashedGroup, freeze
from dicomstudy.paths import ORIGINALS

__all__ = ["Referrer", "Relocation"]

_STUDY, _SERIES, _INSTANCE = "StudyInstanceUID", "SeriesInstanceUID", "ReferencedSOPInstanceUID"
#: Sequences in which the SOP Instance UID is that of a study.
_OF_STUDIES = frozenset(("ReferencedStudySequence", "RTReferencedStudySequence"))
#: Sequences of items that are joined if they differ by what they refer to only.
_BELOW = frozenset(
    (
        *("ReferencedSeriesSequence", "ReferencedSOPSequence", "ReferencedInstanceSequence"),
        *("ReferencedImageSequence", "RTReferencedSeriesSequence", "ContourImageSequence"),
    )
)
#: What a data set refers to in its own study, and in others (PS3.3 section C.12.2).
_HERE, _ELSEWHERE = "ReferencedSeriesSequence", "StudiesContainingOtherReferencedInstancesSequence"
_MEMO_SIZE = 1 << 12


class _Where(NamedTuple):
    """A place in a reference: study and series, None where it does not say."""

    study: str | None
    series: str | None


_NOWHERE = _Where(None, None)
#: An item, and where is now what it refers to; None if it refers to nothing, or says so itself.
_Part = tuple[_Where | None, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Relocation:
    """Where instances of a study went.

    Attributes:
        source: the study that they were in.
        target: the one that they are in now; it may be the same.
        instances: by series and SOP Instance UID, the series now.
        series: of those that went as a whole, the series now.
        whole: whether all of the study went.
    """

    source: str
    target: str
    instances: Mapping[tuple[str, str], str]
    series: Mapping[str, str]
    whole: bool

    @property
    def uids(self) -> frozenset[str]:
        """The UIDs of study and series, one of which is in every reference that changes."""
        return frozenset((self.source, *self.series, *(series for series, _ in self.instances)))

    def instance(self, where: _Where, uid: str) -> _Where:
        """Where an instance is now that was referred to in a series."""
        now = self.instances.get((where.series or "", uid))
        if where.study not in {None, self.source}:
            return where
        return self.of_series(where) if now is None else self._at(where, now)

    def of_series(self, where: _Where) -> _Where:
        """Where a series is now."""
        if where.study not in {None, self.source} or where.series is None:
            return where
        if where.series in self.series:
            return self._at(where, self.series[where.series])
        return self._at(where, where.series) if self.whole else where

    def _at(self, before: _Where, series: str) -> _Where:
        return _Where(None if before.study is None else self.target, series)


class Referrer:
    """Finds what refers to instances that were relocated, and what it says then.

    Args:
        relocation: where they went.
        moved: whether those that refer are relocated themselves.
    """

    def __init__(self, relocation: Relocation, *, moved: bool = False) -> None:
        self._relocation = relocation
        self._moved = moved
        self._uids = relocation.uids
        self._concerned: dict[str, dict[str, Any]] = {}
        self._known: dict[object, dict[str, Any]] = {}

    def followed(
        self,
        groups: Iterable[HashedGroup],
        own: Mapping[str, Any],
        study: str,
    ) -> dict[str, Any]:
        """The sequences of an instance that become others, by key; `...` for one that goes.

        Args:
            groups: its groups; what was found out about one is known by its digest.
            own: its other attributes.
            study: the study that it is in; of one that is relocated itself, that it was in.
        """
        found: dict[str, Any] = {}
        for digest, _, content in groups:
            concerned = self._concerned.get(digest)
            if concerned is None:
                concerned = self._concerned[digest] = self._of(content)
            found.update(concerned)
        found.update(self._of(own))
        if not found:
            return {}
        case = (study, freeze(found))
        if case not in self._known:
            if len(self._known) > _MEMO_SIZE:
                self._known.clear()
            self._known[case] = self._changes(found, study)
        return self._known[case]

    def _of(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """The sequences that refer to something relocated, or may."""
        return {
            key: value
            for key, value in attributes.items()
            if type(value) is list
            and key != ORIGINALS
            and (key in {_HERE, _ELSEWHERE} or _mentions(value, self._uids))
        }

    def _changes(self, found: Mapping[str, Any], study: str) -> dict[str, Any]:
        changes: dict[str, Any] = {}
        for key, value in found.items():
            if key not in {_HERE, _ELSEWHERE}:
                parts = self._items(key, value, _NOWHERE)
                changes[key] = _joined(value, [item for _, item in parts])
        changes |= self._of_data_set(found, study)
        return {
            key: value or ...
            for key, value in changes.items()
            if freeze(value) != freeze(found.get(key, []))
        }

    def _of_data_set(self, found: Mapping[str, Any], study: str) -> dict[str, Any]:
        """What a data set says of series in its own study, and in others."""
        here, elsewhere = found.get(_HERE, []), found.get(_ELSEWHERE, [])
        now = self._relocation.target if self._moved else study
        inside = list(self._items(_HERE, here, _Where(study, None)))
        outside = [item for _, item in self._items(_ELSEWHERE, elsewhere, _NOWHERE)]
        same = outside == elsewhere and [item for _, item in inside] == here
        if same and now == study and all(w is None or w.study == study for w, _ in inside):
            return {}
        stay: list[dict[str, Any]] = []
        others: list[dict[str, Any]] = []
        for item in outside:
            if bare_uid(item.get(_STUDY)) == now and item.keys() == {_STUDY, _HERE} and item[_HERE]:
                stay += item[_HERE]
            else:
                others.append(item)
        at_home: list[dict[str, Any]] = []
        for where, item in inside:
            left = where is not None and where.study != now
            if where is not None and left and "ReferencedInstanceSequence" in item:
                others.append({_STUDY: where.study, _HERE: [item]})
            else:
                at_home.append(item)
        return {_HERE: _joined(here, [*at_home, *stay]), _ELSEWHERE: _joined(elsewhere, others)}

    def _items(
        self, sequence: str, items: Iterable[dict[str, Any]], context: _Where
    ) -> Iterator[_Part]:
        """The items of a sequence that stands in a reference to `context`."""
        for item in items:
            yield from self._parts(sequence, item, context)

    def _parts(self, sequence: str, item: dict[str, Any], context: _Where) -> list[_Part]:
        """An item, in as many parts as there are places of what it refers to."""
        key = _INSTANCE if sequence in _OF_STUDIES and _STUDY not in item else _STUDY
        study, series = bare_uid(item.get(key)), bare_uid(item.get(_SERIES))
        inner = _Where(study or context.study, series or (None if study else context.series))
        below = {
            name: list(self._items(name, value, inner))
            for name, value in item.items()
            if type(value) is list
        }
        places: dict[_Where | None, None] = dict.fromkeys(
            where if inner.series else _Where(where.study, None)
            for parts in below.values()
            for where, _ in parts
            if where is not None
        )
        if inner == _NOWHERE or not places:
            uid = "" if key == _INSTANCE else bare_uid(item.get(_INSTANCE))
            places = {self._named(inner, study, series, uid): None}
        result: list[_Part] = []
        for place in places:
            part = dict(item)
            for name, parts in below.items():
                mine = [each for where, each in parts if _is_at(where, place)]
                part[name] = _joined(item[name], mine)
                if parts and not part[name]:
                    del part[name]
            if place is not None and study:
                part[key] = item[key] if place.study == study else place.study
            if place is not None and series:
                part[_SERIES] = item[_SERIES] if place.series == series else place.series
            says_itself = study or (series and context.series)
            result.append((None if says_itself else place, part))
        return result

    def _named(self, inner: _Where, study: str, series: str, uid: str) -> _Where | None:
        """Where is now what an item names itself, or None if it names nothing."""
        if uid and inner.series:
            return self._relocation.instance(inner, uid)
        if series:
            return self._relocation.of_series(inner)
        if not study:
            return None
        gone = study == self._relocation.source and (self._relocation.whole or self._moved)
        return _Where(self._relocation.target if gone else study, None)


def _is_at(where: _Where | None, place: _Where | None) -> bool:
    """Whether what is at `where` belongs to the part of an item for a place."""
    if where is None or place is None:
        return True
    return where.study == place.study and place.series in {None, where.series}


def _mentions(value: Any, uids: frozenset[str]) -> bool:
    """Whether a text in a sequence is one of some UIDs."""
    if type(value) is list:
        return any(_mentions(inner, uids) for item in value for inner in item.values())
    return type(value) is str and bare_uid(value) in uids


def _joined(before: list[dict[str, Any]], items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Items that were `before`; where they changed, those are one that say no more than others."""
    if items == before:
        return before
    result: list[dict[str, Any]] = []
    places: dict[object, int] = {}
    for item in items:
        below = [name for name in item if name in _BELOW and type(item[name]) is list]
        rest = freeze({name: value for name, value in item.items() if name not in below})
        at = places.setdefault(rest, len(result)) if below else len(result)
        if at == len(result):
            result.append(item)
            continue
        whole = dict(result[at])
        for name in below:
            known = set(map(freeze, whole.get(name, [])))
            more = [each for each in item[name] if freeze(each) not in known]
            whole[name] = _joined([], [*whole.get(name, []), *more])
        result[at] = whole
    return result
