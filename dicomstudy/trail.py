"""Where instances of a study are that were moved, on their way through others (spec/moving.md)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from dicomstudy.disk import is_there
from dicomstudy.document import digest_of, source_of
from dicomstudy.errors import UNREADABLE, DicomStudyError
from dicomstudy.folder import Folder
from dicomstudy.grouping import Entry, Identity, Source
from dicomstudy.lineage import History

__all__ = ["Trail"]


@dataclass(frozen=True, slots=True)
class _Station:
    """A study, and of some instances that are or were in it the events, and where they are from.

    There are several of an instance that was in several series.
    """

    history: History
    stays: dict[Identity, list[tuple[Sequence[int], Source]]] = field(default_factory=dict)

    def note(self, identity: Identity, events: Sequence[int], source: Source) -> None:
        """Have one instance more."""
        self.stays.setdefault(identity, []).append((events, source))


class Trail:
    """The studies that some instances went to by moves, in any of the versions of each.

    Args:
        archive: the archive.
        study: the Study Instance UID of the first study.
        history: its versions.
        entries: what is or was in it.
        wanted: the instances that are asked about.

    Raises:
        DicomStudyError: one of these studies cannot be read for the moment (`UNREADABLE`).
    """

    def __init__(
        self,
        archive: Folder,
        study: str,
        history: History,
        entries: Iterable[Entry],
        wanted: AbstractSet[Identity],
    ) -> None:
        self._archive = archive
        self._first = study
        self._stations = {study: _Station(history)}
        for entry in entries:
            if entry.identity in wanted:
                self._stations[study].note(entry.identity, entry.events, entry.source)
        self._follow()

    def _follow(self) -> None:
        """Look into each study that a version says that instances went to."""
        first = self._stations[self._first]
        seen = {(self._first, identity) for identity in first.stays}
        waiting = [first]
        while waiting:
            station = waiting.pop()
            went: dict[str, set[Identity]] = {}
            for identity, several in station.stays.items():
                for events, _ in several:
                    for version in station.history.departures(events):
                        place = version.to_study, identity
                        if version.to_study and place not in seen:
                            seen.add(place)
                            went.setdefault(version.to_study, set()).add(identity)
            for study, some in went.items():
                try:
                    arrived = self._arrive(study, some)
                except DicomStudyError as error:
                    if error.code in UNREADABLE:
                        raise
                    continue  # what is damaged has none of them
                if arrived is not None:
                    waiting.append(arrived)

    def _arrive(self, study: str, wanted: AbstractSet[Identity]) -> _Station | None:
        """Find some instances in a study, if it is still there."""
        path = self._archive.document_path(study)
        if not is_there(path):
            return None
        with contextlib.closing(self._archive.document(path)) as document:
            found = _Station(document.history)
            for uid, instance in document.named({uid for uid, _ in wanted}):
                if (identity := (uid, digest_of(instance))) in wanted:
                    found.note(identity, instance.get("_versions", ()), source_of(instance))
        station = self._stations.setdefault(study, found)
        station.stays.update(found.stays)
        return found

    def leads_to(self, identity: Identity) -> bool:
        """Whether moves that were not reverted brought the instance to where it is now."""
        waiting, seen = [self._first], {self._first}
        while waiting:
            station = self._stations[waiting.pop()]
            for events, _ in station.stays.get(identity, ()):
                if station.history.since(events) is not None:
                    return True
                left = station.history.left(events)
                if left is not None and left.to_study in self._stations.keys() - seen:
                    seen.add(left.to_study)
                    waiting.append(left.to_study)
        return False

    def worse(self, best: Mapping[Identity, Source]) -> dict[str, set[Identity]]:
        """The instances that other studies have from a source that a better one is known of.

        Args:
            best: the best source that is known of each.
        """
        worse: dict[str, set[Identity]] = {}
        for study, station in self._stations.items():
            if study != self._first:
                for identity, several in station.stays.items():
                    if any(best[identity].is_better(source) for _, source in several):
                        worse.setdefault(study, set()).add(identity)
        return worse
