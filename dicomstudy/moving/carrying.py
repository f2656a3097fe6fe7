"""Instances are carried from one document to another, with their edits (spec/moving.md).

They come as they are stored. What is written stands in one document at least at every moment:
the target is written first, then the studies that refer to it, then the source.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from dicomstudy import lineage
from dicomstudy.archive import Archive
from dicomstudy.bulk import BulkFile
from dicomstudy.change import bring_values, held
from dicomstudy.disk import is_there, write_atomically
from dicomstudy.document import encode_version
from dicomstudy.errors import DicomStudyError
from dicomstudy.grouping import Batch, Entry
from dicomstudy.lineage import History, Version
from dicomstudy.moving.adapting import Adapter, Participant, brought, modifications
from dicomstudy.moving.referring import Relocation
from dicomstudy.updating import changed_groups, edit_study

__all__ = ["Carrier"]


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
        self,
        archive: Archive,
        command: str,
        relocation: Relocation,
        source: Participant,
        target: Participant,
    ) -> None:
        self._archive = archive
        self._definitions = archive.definitions
        self._adapter = Adapter(archive.definitions, relocation)
        self._command = command
        self._source = source
        self._target = target
        self._when = lineage.moment()

    def carry(
        self, going: Mapping[int, str], others: Iterable[Path], *, keep: bool
    ) -> tuple[Version, Version]:
        """Write all studies, and return the new version of the source, and that of the target.

        Args:
            going: the places of the instances, each with the series that it comes to.
            others: the documents of studies that may refer to them, whose locks are held.
            keep: leave their attributes of the study level as they are.

        Raises:
            DicomStudyError: the target has an instance of them already, as another; or attributes
                that cannot be given to them. Nothing is written then.
        """
        source, target, adapter = self._source, self._target, self._adapter
        there = self._there(going)
        coming = {place: to for place, to in going.items() if place not in there}
        given = None if keep or source is target else adapter.given(target.study, source, coming)
        arrivals = adapter.arrivals(source, coming, given, self._when)
        stay = adapter.following(source, leaving_out=going)
        edits = adapter.following(target) if source is not target else stay
        following = [(path, self._following(path)) for path in others if is_there(path)]
        fields: dict[str, Any] = {
            "added": len(coming),
            "brought": brought(arrivals),
            "edits": tuple(edits),
            "groups": self._groups([*edits, *(arrival.made[-1][1][0] for arrival in arrivals)]),
        }
        if source is target:  # last, as it is the source too
            self._write_others(following)
            return (self._write_target(coming, {}, {**fields, "removed": len(going)}),) * 2
        came = self._write_target(coming, there, {**fields, "from_study": source.uid})
        self._write_others(following)
        return self._write_source(going, stay), came

    def _following(self, path: Path) -> list[dict[str, Any]]:
        """The edits that let the references of another study follow; it is open no longer then."""
        with held(self._archive, path) as change, self._archive.open(path) as study:
            return self._adapter.following(Participant(study.uid, path, study=study, change=change))

    def _write_others(self, following: Iterable[tuple[Path, list[dict[str, Any]]]]) -> None:
        """Write the studies whose references follow, each with its edits."""
        for path, edits in following:
            if edits:
                with held(self._archive, path) as change:
                    edit_study(change, self._command, edits)

    def _groups(self, edits: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
        return changed_groups(edits, self._definitions)

    def _there(self, going: Mapping[int, str]) -> dict[int, int]:
        """Those that the target has already, as they would come: their places, and those there."""
        entries, target = self._source.batch.entries, self._target
        names = {(*entries[place].identity, to): place for place, to in going.items()}
        if len(names) < len(going):
            raise _conflict("two of the instances are equal")
        present = {
            entry.name: place
            for place, entry in enumerate(target.batch.entries[: len(target.present)])
        }
        if self._source is target:
            if found := names.keys() & present.keys():
                raise _conflict(f"the series has {min(found)[0]} already")
            return {}
        elsewhere = {name[:2] for name in present} & {name[:2] for name in names}
        same = {place: present[name] for name, place in names.items() if name in present}
        if len(elsewhere - {entries[place].identity for place in same}):
            raise _conflict(f"the target has {min(elsewhere)[0]} in another series")
        theirs = dict(target.instances(set(same.values())))
        for place, instance in self._source.instances(same):
            made = modifications(instance)
            if modifications(theirs[same[place]])[: len(made)] != made:
                raise _conflict(f"the target has {instance.key} with other edits")
        return same

    def _write_target(
        self, coming: Mapping[int, str], there: Mapping[int, int], fields: Mapping[str, Any]
    ) -> Version:
        """Write the target, its large values first, and return its version.

        Args:
            coming: the places of the instances that come, each with its series.
            there: of those that are there already, as `_there` has them; that one of them takes
                the place of its equal makes no version.
            fields: those of the version.
        """
        participant, batch, source = self._target, self._target.batch, self._source.batch
        bulk = BulkFile() if participant.change is None else participant.change.document.bulk
        events: tuple[int, ...] = ()
        history = participant.history
        if history is None:
            history = History((Version(1, self._when, self._command, **fields),))
        elif coming or fields["edits"]:
            history = history.then(self._command, when=self._when, **fields)
            events = (history.current,)
        if participant is self._source:
            _retire(batch, coming, history.current)
        new = _arrived(source, batch, coming, there, events)
        if not new and history is participant.history:
            return history.versions[-1]
        if participant is not self._source and self._source.study is not None:
            path = self._archive.bulk_path(participant.uid, bulk.number)
            end, new = bring_values(new, self._source.study, batch, path, bulk.length)
            bulk = bulk._replace(length=end)
        carried = Batch(source.contents, source.rows, source.bases, new)
        frames = encode_version(
            participant.uid,
            Batch.join([batch, carried]),
            self._definitions,
            history=history,
            bulk=bulk,
        )
        write_atomically(participant.path, frames, within=self._archive.incoming)
        return history.versions[-1]

    def _write_source(self, going: Mapping[int, str], edits: list[dict[str, Any]]) -> Version:
        """Write the source without what went, and return its new version."""
        participant = self._source
        if participant.change is None:  # there is nothing to go of a study that is not there
            raise _conflict("the source is not there")
        history = participant.change.history.then(
            self._command,
            when=self._when,
            removed=len(going),
            to_study=self._target.uid,
            edits=tuple(edits),
            groups=self._groups(edits),
        )
        _retire(participant.batch, going, history.current)
        participant.change.write_version(participant.batch, history)
        return history.versions[-1]


def _conflict(message: str) -> DicomStudyError:
    return DicomStudyError("change/conflict", message)


def _arrived(
    source: Batch,
    target: Batch,
    coming: Mapping[int, str],
    there: Mapping[int, int],
    events: tuple[int, ...],
) -> list[Entry]:
    """Let instances of a batch come into another one; those that it had not so are returned.

    Of two equal ones, the better one is kept, as when a file is converted (spec/archive.md); but
    not if large values would be inline that edits of the target may refer to.
    """
    known = {entry.name: at for at, entry in enumerate(target.entries)}
    new: list[Entry] = []
    replaced: set[int] = set()
    for place in (*coming, *there):
        entry = source.entries[place]
        at = there[place] if place in there else known.get((*entry.identity, coming[place]))
        if at is None:
            new.append(entry._replace(series=coming[place], events=events))
            continue
        before = target.entries[at]
        if place in coming:
            before = target.entries[at] = before._replace(events=(*before.events, *events))
        has_all = before.places.keys() <= entry.places.keys()
        if has_all and entry.source.is_better(before.source):
            new.append(entry._replace(series=before.series, events=before.events))
            replaced.add(at)
    target.entries = [entry for at, entry in enumerate(target.entries) if at not in replaced]
    return new


def _retire(batch: Batch, places: Collection[int], version: int) -> None:
    """Let instances of a batch go out in a version."""
    batch.entries = [
        entry._replace(events=(*entry.events, -version)) if place in places else entry
        for place, entry in enumerate(batch.entries)
    ]
