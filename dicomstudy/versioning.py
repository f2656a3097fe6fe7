"""The versions of a study, the way back to one of them, and deletion (spec/history.md)."""

from __future__ import annotations

from numbers import Integral
from typing import SupportsIndex

from dicomstudy.archive import AnyArchive, opened
from dicomstudy.change import Change, changing
from dicomstudy.document import is_named, read_batch, with_history
from dicomstudy.errors import ArchiveError, DicomStudyError
from dicomstudy.lineage import History, Version

__all__ = ["delete", "history", "revert"]


def history(archive: AnyArchive, study: str) -> tuple[Version, ...]:
    """The versions of a study, the oldest first; the last one is how it is now.

    Raises:
        ArchiveError: the archive has no such study.
        StudyError: its document is damaged.
    """
    archive = opened(archive)
    if study not in archive:
        raise archive.not_found(study)
    with archive[study] as found:
        return found.history.versions


def revert(
    archive: AnyArchive, study: str, *, to: SupportsIndex, expect: int | None = None
) -> tuple[Version, ...]:
    """Make a study what it was in version `to`, and return its versions, that of this included.

    The study has the digest of that version again, and each of its instances the groups, the
    attributes and the file. If it is like that already, nothing is written. Going back is a
    version too, which can be gone back from.

    Args:
        archive: the archive, or its folder.
        study: the Study Instance UID.
        to: the number of the version.
        expect: the number of the version that is changed, if it has to be a certain one.

    Raises:
        ArchiveError: there is no such study or version (``archive/no-version``), or the study
            is not as expected (``archive/moved-on``).
        DicomStudyError: `to` is no integer (``change/value``).
    """
    to = _number(to)
    with changing(archive, study, expect=expect) as change:
        before = change.history
        if not before.first <= to <= before.current:
            raise ArchiveError(
                "archive/no-version",
                f"the study has no version {to}: it has {before.first} to {before.current}",
                source=str(change.path),
            )
        apart = before.lineage(to) ^ before.lineage(before.current)
        if not apart:
            return before.versions
        if any(before[number].added or before[number].removed for number in apart):
            return _with_other_instances(change, to)
        after = before.then("revert", to=to)
        change.write(with_history(change.document, after))
        return after.versions


def delete(
    archive: AnyArchive,
    study: str,
    *,
    series: str | None = None,
    instance: str | None = None,
    expect: int | None = None,
) -> tuple[Version, ...]:
    """Take a study, series or instance out, and return the versions of the study.

    Older versions keep what is taken out, until they are collected; so it can be gone back to.

    Args:
        archive: the archive, or its folder.
        study: the Study Instance UID.
        series: only the series with this UID.
        instance: only the instances with this SOP Instance UID, or the one with this key.
        expect: the number of the version that is changed, if it has to be a certain one.

    Raises:
        ArchiveError: there is no such study, series or instance, or the study is not as expected.
    """
    with changing(archive, study, expect=expect) as change:
        batch, before = read_batch(change.document, change.archive.definitions), change.history
        gone = {
            place
            for place, entry in enumerate(batch.entries)
            if before.since(entry.events) is not None
            and series in {None, entry.series}
            and (instance is None or is_named(instance, entry.instance, entry.digest))
        }
        if not gone:
            raise ArchiveError("archive/not-found", "the study has nothing with these UIDs")
        after = before.then("delete", removed=len(gone))
        batch.entries = [
            entry._replace(events=(*entry.events, -after.current)) if place in gone else entry
            for place, entry in enumerate(batch.entries)
        ]
        change.write_version(batch, after)
        return after.versions


def _number(to: SupportsIndex) -> int:
    """The number of a version as an `int`, of whatever is an integer, and no truth value."""
    if isinstance(to, Integral) and not isinstance(to, bool):
        return int(to)
    raise DicomStudyError("change/value", f"{to!r:.80} is no number of a version")


def _with_other_instances(change: Change, to: int) -> tuple[Version, ...]:
    """Go back to a version that has other instances."""
    before = change.history
    batch = read_batch(change.document, change.archive.definitions)
    then = _present(before, [entry.events for entry in batch.entries], to)
    now = _present(before, [entry.events for entry in batch.entries], before.current)
    after = before.then("revert", to=to, added=len(then - now), removed=len(now - then))
    change.write_version(batch, after)
    return after.versions


def _present(history: History, all_events: list[tuple[int, ...]], number: int) -> set[int]:
    """The places of the instances that version `number` has."""
    lineage = history.lineage(number)
    return {
        place
        for place, events in enumerate(all_events)
        if history.since(events, lineage) is not None
    }
