"""Instances are carried from one document to another, with their edits (spec/moving.md).

They come as they are stored. What is written stands in one document at least at every moment:
the target is written first, then the studies that refer to it, then the source.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from dicomstudy.archive import Archive
from dicomstudy.assignment import level_of_group
from dicomstudy.bulk import append
from dicomstudy.change import Change
from dicomstudy.document import encode_version, references, without_places
from dicomstudy.errors import DicomStudyError
from dicomstudy.folder import sync_folder, write_atomically
from dicomstudy.grouping import Batch, Entry, freeze
from dicomstudy.lineage import Brought, History, Version, moment
from dicomstudy.quality import ranked, sides_of
from dicomstudy.record import group_of
from dicomstudy.referring import Referrer, Relocation
from dicomstudy.study import Instance, Study
from dicomstudy.updating import changed_groups, edit_study
from dicomstudy.versioning import write_version

__all__ = ["Carrier", "Side"]

#: The modifications of an instance: when each was made, and its edits.
_Made: TypeAlias = tuple[tuple[str, tuple[dict[str, Any], ...]], ...]


@dataclass(frozen=True)
class Side:
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


class _Arrival(NamedTuple):
    """Instances that come with the same edits: of each its series, and its name."""

    made: _Made
    instances: list[tuple[str, str]]


class Carrier:
    """Carries instances from one study to another.

    Args:
        archive: the archive.
        command: what versions say that made them.
        relocation: what goes where.
        source: the study that they are in.
        target: the one that they come to; the same, if they change their series.
    """

    def __init__(
        self, archive: Archive, command: str, relocation: Relocation, source: Side, target: Side
    ) -> None:
        self._archive = archive
        self._definitions = archive.definitions
        self._command = command
        self._relocation = relocation
        self._source = source
        self._target = target
        self._referrer = Referrer(relocation)

    def carry(
        self, going: Mapping[int, str], others: Iterable[Side], *, keep: bool
    ) -> tuple[Version, Version]:
        """Write all studies, and return the new version of the source, and that of the target.

        Args:
            going: the places of the instances, each with the series that it comes to.
            others: studies that may refer to them.
            keep: leave their attributes of the study level as they are.

        Raises:
            DicomStudyError: the target has an instance of them already, as another; or attributes
                that cannot be given to them. Nothing is written then.
        """
        source, target = self._source, self._target
        coming = {place: to for place, to in going.items() if place not in self._there(going)}
        given = None if keep or source is target else self._given()
        arrivals = self._arrivals(coming, given)
        stay = self._following(source, leaving_out=going)
        edits = self._following(target) if source is not target else stay
        following = [(other, self._following(other)) for other in others]
        fields: dict[str, Any] = {
            "added": len(coming),
            "brought": _brought(arrivals),
            "edits": tuple(edits),
            "groups": self._groups([*edits, *(arrival.made[-1][1][0] for arrival in arrivals)]),
        }
        when = moment()
        if source is target:
            fields["removed"] = len(going)
            return (self._write_target(coming, fields, when),) * 2
        came = target.history.versions[-1] if target.history is not None else None
        if coming or edits or came is None:
            came = self._write_target(coming, {**fields, "from_study": source.uid}, when)
        for other, its_edits in following:
            if other.change is not None and its_edits:
                edit_study(other.change, self._command, its_edits)
        return self._write_source(going, stay, when), came

    def _groups(self, edits: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
        return changed_groups(edits, self._definitions)

    # -- what is said of instances -----------------------------------------------------------

    def _there(self, going: Mapping[int, str]) -> set[int]:
        """The places of those that the target has already, as they would come."""
        entries, target = self._source.batch.entries, self._target
        names = {(*_identity(entries[place]), to): place for place, to in going.items()}
        if len(names) < len(going):
            raise _conflict("two of the instances are equal")
        present = {place: target.batch.entries[place] for place in target.present}
        if self._source is target:
            found = names.keys() & {(*_identity(e), e.series) for e in present.values()}
            if found:
                raise _conflict(f"the series has {next(iter(found))[0]} already")
            return set()
        wanted = {_identity(entries[place]): place for place in going}
        same = {place: e for place, e in present.items() if _identity(e) in wanted}
        theirs = {_identity(same[place]): each for place, each in target.instances(same)}
        ours = {wanted[_identity(entry)] for entry in same.values()}
        for place, instance in self._source.instances(ours):
            other = theirs[_identity(entries[place])]
            made = _modifications(instance)
            if other.series != going[place] or _modifications(other)[: len(made)] != made:
                raise _conflict(f"the target has {instance.key} with other edits")
        return ours

    def _given(self) -> dict[str, Any] | None:
        """The attributes of the study level of the target; None if it says nothing."""
        study = self._target.study
        if study is None or not len(study):
            return None
        given: dict[str, Any] = {}
        for (series, group), some in sides_of(study).items():
            if series is None:
                content = ranked(some.values())[0].content
                if any(references([content])):
                    raise DicomStudyError(
                        "change/group",
                        f"the group {group} of the target has a large value, which cannot be given "
                        "to other instances: keep the attributes of those that are moved",
                    )
                given |= content
        given.pop("StudyInstanceUID", None)
        changes = self._referrer.followed((), given, study.uid)
        return {**given, **{key: value for key, value in changes.items() if value is not ...}}

    def _arrivals(
        self, coming: Mapping[int, str], given: Mapping[str, Any] | None
    ) -> list[_Arrival]:
        """The instances that come, by what makes them what they are then."""
        referrer = Referrer(self._relocation, moved=True)
        keys: set[str] = set()
        looked_at: set[str] = set()
        found: dict[object, tuple[dict[str, Any], dict[str, Any], _Arrival]] = {}
        for place, instance in self._source.instances(coming):
            groups, own = instance.groups, instance.own
            changes = referrer.followed(groups, own, self._source.uid)
            if given is not None:
                changes = {key: new for key, new in changes.items() if not self._is_of_study(key)}
                for digest, _, content in groups:
                    if digest not in looked_at:
                        looked_at.add(digest)
                        keys.update(filter(self._is_of_study, content))
                keys.update(filter(self._is_of_study, own))
            uids = {"StudyInstanceUID": self._target.uid}
            if instance.series != coming[place]:
                uids["SeriesInstanceUID"] = coming[place]
            edits = instance.edits()
            case = (tuple([id(edit) for _, edit in edits]), *uids.values(), freeze(changes))
            if case not in found:
                found[case] = uids, changes, _Arrival(_modifications(instance), [])
            name = f"{instance.uid}#{instance.identity}"
            found[case][2].instances.append((coming[place], name))
        given = given or {}
        gone = dict.fromkeys(sorted(keys - given.keys() - {"StudyInstanceUID"}), ...)
        when = moment()
        return [
            _Arrival((*made, (when, (_edit({**uids, **given, **gone, **changes}),))), instances)
            for uids, changes, (made, instances) in found.values()
        ]

    def _is_of_study(self, key: str) -> bool:
        """Whether an attribute is one of the study level."""
        return level_of_group(group_of(key, self._definitions)) == "study"

    def _following(self, side: Side, *, leaving_out: Collection[int] = ()) -> list[dict[str, Any]]:
        """The edits that let the references of a study follow, but for some of its instances."""
        if side.study is None or not side.study.document.mentions(self._relocation.uids):
            return []
        said: dict[str, list[tuple[str, dict[str, Any]]]] = {}
        for place, instance in enumerate(side.study.values()):
            if place not in leaving_out:
                changes = self._referrer.followed(instance.groups, instance.own, side.uid)
                name = f"{instance.uid}#{instance.identity}"
                said.setdefault(instance.series, []).append((name, changes))
        return list(_scoped(said))

    # -- what is written ---------------------------------------------------------------------

    def _write_target(
        self, coming: Mapping[int, str], fields: Mapping[str, Any], when: str
    ) -> Version:
        """Write the target, its large values first, and return its new version."""
        side, batch = self._target, self._target.batch
        header: Mapping[str, Any] = {} if side.change is None else side.change.document.header
        number, length = header.get("bulkFile", 0), header.get("bulkLength", 0)
        if side.history is None:
            history = History((Version(1, when, self._command, **fields),))
            events: tuple[int, ...] = ()
        else:
            history = side.history.then(self._command, when=when, **fields)
            events = (history.current,)
        if side is self._source:
            _retire(batch, coming, history.current)
        known = {(*_identity(entry), entry.series): at for at, entry in enumerate(batch.entries)}
        new: list[Entry] = []
        for place, series in coming.items():
            entry = self._source.batch.entries[place]
            at = known.get((*_identity(entry), series))
            if at is None:
                new.append(entry._replace(series=series, events=events))
            else:
                back = batch.entries[at]
                batch.entries[at] = back._replace(events=(*back.events, *events))
        if side is not self._source:
            bulk = self._archive.bulk_path(side.uid, number)
            length, new = self._store(new, bulk, length)
        source = self._source.batch
        carried = Batch(source.contents, source.rows, source.bases, new)
        frames = encode_version(
            side.uid,
            Batch.join([batch, carried]),
            self._definitions,
            history=history,
            bulk_length=length,
            bulk_file=number,
        )
        write_atomically(side.path, frames, within=self._archive.path / "incoming")
        return history.versions[-1]

    def _store(self, new: list[Entry], bulk: Path, length: int) -> tuple[int, list[Entry]]:
        """Copy the large values that the target has not; the new end, and entries with places."""
        places = {
            sha256: place
            for entry in self._target.batch.entries
            for sha256, place in entry.places.items()
            if "stored" in place
        }
        wanted = {
            sha256: place
            for entry in new
            for sha256, place in entry.places.items()
            if "stored" in place and sha256 not in places
        }
        source = self._source.study
        if wanted and source is not None:
            values = {sha256: (source.bulk, place) for sha256, place in wanted.items()}
            length, copied = append(bulk, values, length)
            places |= copied
            sync_folder(bulk.parent)
        return length, [
            entry._replace(
                places={
                    sha256: places[sha256] if "stored" in place else place
                    for sha256, place in entry.places.items()
                }
            )
            for entry in new
        ]

    def _write_source(
        self, going: Mapping[int, str], edits: list[dict[str, Any]], when: str
    ) -> Version:
        """Write the source without what went, and return its new version."""
        side = self._source
        if side.change is None:  # there is nothing to go of a study that is not there
            raise _conflict("the source is not there")
        history = side.change.history.then(
            self._command,
            when=when,
            removed=len(going),
            to_study=self._target.uid,
            edits=tuple(edits),
            groups=self._groups(edits),
        )
        _retire(side.batch, going, history.current)
        write_version(side.change, side.batch, history)
        return history.versions[-1]


def _identity(entry: Entry) -> tuple[str, str]:
    """What an instance is, wherever it stands."""
    return entry.instance, entry.digest


def _conflict(message: str) -> DicomStudyError:
    return DicomStudyError("change/conflict", message)


def _retire(batch: Batch, places: Collection[int], version: int) -> None:
    """Let instances of a batch go out in a version."""
    batch.entries = [
        entry._replace(events=(*entry.events, -version)) if place in places else entry
        for place, entry in enumerate(batch.entries)
    ]


def _modifications(instance: Instance) -> _Made:
    """What was made of an instance, wherever that was."""
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


def _brought(arrivals: list[_Arrival]) -> tuple[Brought, ...]:
    """What came with instances; what most of them have stands last, for all others."""
    arrivals = sorted(arrivals, key=lambda arrival: len(arrival.instances))
    counts = Counter(series for arrival in arrivals for series, _ in arrival.instances)
    brought = []
    for arrival in arrivals[:-1]:
        names: dict[str, list[str]] = {}
        for series, name in arrival.instances:
            names.setdefault(series, []).append(name)
        for series, some in names.items():
            only = None if len(some) == counts[series] else frozenset(some)
            brought.append(Brought.of(arrival.made, series, only))
    return (*brought, *(Brought.of(arrival.made) for arrival in arrivals[-1:]))
