"""What makes instances those of another study, and lets references follow (spec/moving.md).

All of it is edits: those that instances had go with them, and those of the move come last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from dicomstudy.assignment import level_of_group
from dicomstudy.change import Change
from dicomstudy.definitions import Definitions
from dicomstudy.document import name_of_instance, references, without_places
from dicomstudy.errors import DicomStudyError
from dicomstudy.giving import Giver
from dicomstudy.grouping import Batch, freeze
from dicomstudy.lineage import Brought, History, Version
from dicomstudy.moving.referring import Referrer, Relocation
from dicomstudy.quality import ranked, sides_of
from dicomstudy.record import group_of
from dicomstudy.study import Instance, Study

__all__ = ["Adapter", "Participant", "brought", "modifications"]

#: The modifications of an instance: when each was made, and its edits.
_Made: TypeAlias = tuple[tuple[str, tuple[dict[str, Any], ...]], ...]


@dataclass(frozen=True)
class Participant:
    """A study that takes part, as it is before; one that is not there yet has no `study`.

    Attributes:
        uid: the Study Instance UID.
        path: where its document is.
        batch: its instances, those first that are in it.
        study: the same, for reading.
        change: what holds its lock.
    """

    uid: str
    path: Path
    batch: Batch = field(default_factory=Batch)
    study: Study | None = None
    change: Change | None = None

    @property
    def history(self) -> History | None:
        """Its versions."""
        return None if self.change is None else self.change.history

    @property
    def present(self) -> range:
        """The places in `batch` of the instances that are in it, in the order of `instances`."""
        return range(0 if self.study is None else len(self.study))

    def instances(self, places: Collection[int]) -> Iterable[tuple[int, Instance]]:
        """Some of the instances that are in it, by their places."""
        if self.study is not None and places:
            for place, instance in enumerate(self.study.values()):
                if place in places:
                    yield place, instance


class Arrival(NamedTuple):
    """Instances that come with the same edits: of each its series, and its name."""

    made: _Made
    instances: list[tuple[str, str]]


class Adapter:
    """Finds the edits that a relocation makes.

    Args:
        definitions: those of the format.
        relocation: what goes where.
    """

    def __init__(self, definitions: Definitions, relocation: Relocation) -> None:
        self._definitions = definitions
        self._relocation = relocation
        self._referrer = Referrer(relocation)

    def given(
        self, study: Study | None, source: Participant, coming: Collection[int]
    ) -> dict[str, Any] | None:
        """The attributes of the study level that a study gives; None if it says nothing.

        Args:
            study: the one that they come to.
            source: the one that they come from.
            coming: their places there.

        Raises:
            DicomStudyError: one of them cannot be given to what comes (``change/group``).
        """
        if study is None or not len(study):
            return None
        given: dict[str, Any] = {}
        for (series, group), some in sides_of(study).items():
            if series is None:
                side = ranked(some.values())[0]
                others = (instance for _, instance in source.instances(coming))
                what = None
                if any(references([side.content])):
                    what = f"the group {group} of the target has a large value"
                elif unfit := Giver(study[side.instances[0]]).unfit(side.content, others):
                    what = f"the VR of {unfit} does not hold the value that the target has"
                if what is not None:
                    raise DicomStudyError(
                        "change/group",
                        f"{what}, which cannot be given to other instances: keep the attributes "
                        "of those that are moved",
                    )
                given |= side.content
        given.pop("StudyInstanceUID", None)
        changes = self._referrer.followed((), given, study.uid)
        return {**given, **{key: value for key, value in changes.items() if value is not ...}}

    def arrivals(
        self,
        source: Participant,
        coming: Mapping[int, str],
        given: Mapping[str, Any] | None,
        when: str,
    ) -> list[Arrival]:
        """The instances that come, by what makes them what they are then.

        Args:
            source: the study that they come from.
            coming: their places, each with the series that it comes to.
            given: their attributes of the study level then; None for those that they have.
            when: the time of the move.
        """
        referrer = Referrer(self._relocation, moved=True)
        keys: set[str] = set()
        looked_at: set[str] = set()
        found: dict[object, tuple[dict[str, Any], dict[str, Any], Arrival]] = {}
        for place, instance in source.instances(coming):
            groups, own = instance.groups, instance.own
            changes = referrer.followed(groups, own, source.uid)
            if given is not None:
                changes = {key: new for key, new in changes.items() if not self._is_of_study(key)}
                for digest, _, content in groups:
                    if digest not in looked_at:
                        looked_at.add(digest)
                        keys.update(filter(self._is_of_study, content))
                keys.update(filter(self._is_of_study, own))
            uids = {"StudyInstanceUID": self._relocation.target}
            if instance.series != coming[place]:
                uids["SeriesInstanceUID"] = coming[place]
            # the history keeps all edits, so that no other one gets the id of one of them
            edits = tuple([id(edit) for _, edit in instance.edits()])
            case = (edits, *uids.values(), freeze(changes))
            if case not in found:
                found[case] = uids, changes, Arrival(modifications(instance), [])
            name = name_of_instance(instance.uid, instance.identity)
            found[case][2].instances.append((coming[place], name))
        given = given or {}
        gone = dict.fromkeys(sorted(keys - given.keys() - {"StudyInstanceUID"}), ...)
        return [
            Arrival((*made, (when, (_edit({**uids, **given, **gone, **changes}),))), instances)
            for uids, changes, (made, instances) in found.values()
        ]

    def _is_of_study(self, key: str) -> bool:
        """Whether an attribute is one of the study level."""
        return level_of_group(group_of(key, self._definitions)) == "study"

    def following(
        self, participant: Participant, *, leaving_out: Collection[int] = ()
    ) -> list[dict[str, Any]]:
        """The edits that let the references of a study follow, but for some of its instances."""
        study = participant.study
        if study is None or not study.document.mentions(self._relocation.uids):
            return []
        said: dict[str, list[tuple[str, dict[str, Any]]]] = {}
        for place, instance in enumerate(study.values()):
            if place not in leaving_out:
                changes = self._referrer.followed(instance.groups, instance.own, study.uid)
                name = name_of_instance(instance.uid, instance.identity)
                said.setdefault(instance.series, []).append((name, changes))
        return list(_scoped(said))


def modifications(instance: Instance) -> _Made:
    """The modifications of an instance, those that it brought from elsewhere first."""
    return tuple(
        (
            version.when,
            tuple(
                {name: value for name, value in edit.items() if name not in {"series", "instance"}}
                for _, edit in edits
            ),
        )
        for version, edits in _by_version(instance.edits())
    )


def _by_version(
    edits: Iterable[tuple[Version, Mapping[str, Any]]],
) -> Iterable[tuple[Version, list[tuple[Version, Mapping[str, Any]]]]]:
    for _, some in groupby(edits, key=lambda each: each[0].number):
        of_version = list(some)
        yield of_version[0][0], of_version


def _edit(changes: Mapping[str, Any]) -> dict[str, Any]:
    """The edit that gives attributes values; `...` removes one."""
    return {
        "set": {key: without_places(value) for key, value in changes.items() if value is not ...},
        "remove": [key for key, value in changes.items() if value is ...],
    }


def _scoped(
    said: Mapping[str, list[tuple[str, dict[str, Any]]]],
) -> Iterable[dict[str, Any]]:
    """One edit for a whole study or series, if all its instances change so, or one for each.

    Args:
        said: by series, the names of the instances and what changes in each.
    """
    rows = [changes for some in said.values() for _, changes in some]
    if len({freeze(changes) for changes in rows}) == 1:
        said, whole = {}, rows[0]
        if whole:
            yield _edit(whole)
    for series, some in said.items():
        if len({freeze(changes) for _, changes in some}) == 1:
            if some[0][1]:
                yield {"series": series, **_edit(some[0][1])}
            continue
        for name, changes in some:
            if changes:
                yield {"series": series, "instance": name, **_edit(changes)}


def brought(arrivals: list[Arrival]) -> tuple[Brought, ...]:
    """What came with instances; what most of them have stands last, for all others."""
    arrivals = sorted(arrivals, key=lambda arrival: len(arrival.instances))
    counts = Counter(series for arrival in arrivals for series, _ in arrival.instances)
    result = []
    for arrival in arrivals[:-1]:
        names: dict[str, list[str]] = {}
        for series, name in arrival.instances:
            names.setdefault(series, []).append(name)
        for series, some in names.items():
            only = None if len(some) == counts[series] else frozenset(some)
            result.append(Brought.of(arrival.made, series, only))
    return (*result, *(Brought.of(arrival.made) for arrival in arrivals[-1:]))
