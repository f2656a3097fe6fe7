"""What nothing refers to any more goes (spec/history.md)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from dicomstudy.archive import AnyArchive, opened
from dicomstudy.bulk import MAGIC, BulkFile, BulkReader, append, check_file
from dicomstudy.change import Change, changing
from dicomstudy.current import as_it_is
from dicomstudy.disk import is_there, status_of, sync, writing
from dicomstudy.document import Document, encode_version, read_batch
from dicomstudy.errors import UNWRITABLE, DicomStudyError, Problem
from dicomstudy.folder import at_work, bulk_beside, document_beside, locked
from dicomstudy.grouping import Batch
from dicomstudy.lineage import History

__all__ = ["Collected", "collect"]


@dataclass(slots=True)
class Collected:
    """What `collect` removed, or would remove.

    Attributes:
        studies: studies that something goes of.
        versions: versions that can no longer be gone back to.
        instances: instances that only those versions have.
        files: bulk files that no document refers to.
        bytes: how much smaller the archive becomes; negative if it becomes larger, as a document
            may that has to name the version that is left.
        problems: one for every study, or folder of studies, that cannot be read; nothing goes of
            it.
    """

    studies: int = 0
    versions: int = 0
    instances: int = 0
    files: int = 0
    bytes: int = 0
    problems: list[Problem] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """True if every study that was asked for could be looked through."""
        return not self.problems


def collect(
    archive: AnyArchive,
    *,
    study: str | None = None,
    older_versions: bool = False,
    remove: bool = False,
    expect: int | None = None,
) -> Collected:
    """What nothing in an archive refers to; it is removed if `remove` is true.

    Each study is written anew at once, its large values before its document. Who opened it
    before reads what was there then.

    Args:
        archive: the archive, or its folder.
        study: only this study.
        older_versions: count older versions among what nothing refers to. The current version
            then becomes the only one: instances that only others have go, and studies without
            any; changed instances can no longer be restored as they came.
        remove: False only tells what would go.
        expect: the number of the version that `study` has, if it has to be a certain one.

    Raises:
        ArchiveError: there is no such archive or study, it is not as expected, or it cannot be
            written.
        DicomStudyError: the document of `study` is damaged, or its bulk file is missing, cut or
            unreadable (what that holds is not proved here); a version is expected of no study
            (``change/fields``).
    """
    archive = opened(archive)
    if expect is not None and study is None:
        raise DicomStudyError("change/fields", "a version is expected of one study: name it")
    if study is not None and study not in archive:
        raise archive.not_found(study)
    collected = Collected()
    only = None if study is None else archive.document_path(study)
    unread: set[Path] = set()

    @contextlib.contextmanager
    def going_on(document: Path) -> Iterator[None]:
        """Go on behind a study that cannot be read, if all are asked for."""
        try:
            yield
        except DicomStudyError as error:
            if only is not None or error.code in {*UNWRITABLE, "archive/not-an-archive"}:
                raise
            if error.code != "archive/not-found":  # otherwise another run has collected all of it
                unread.add(document)
                collected.problems.append(error.problem(str(document)))

    for path, unreadable in archive.listing() if only is None else [(only, None)]:
        with going_on(path):
            if unreadable is not None:
                raise unreadable
            with changing(archive, path, expect=expect) as change:
                _collect(change, collected, older_versions=older_versions, remove=remove)
    with at_work(archive.path):
        for path, unreadable in archive.bulk_files():
            document = path if unreadable is not None else document_beside(path)
            is_asked = only is None or document in {only, *only.parents}
            if not is_asked or unread & {document, *document.parents}:
                continue
            with going_on(document):
                if unreadable is not None:
                    raise unreadable
                with writing(archive.path), locked(document):
                    _collect_file(path, document, collected, remove=remove)
    return collected


class _Move(NamedTuple):
    """From where in a bulk file a large value goes, and its place then."""

    start: int
    place: dict[str, Any]


class _Plan(NamedTuple):
    """A study as it is to be left, and what goes of it.

    Attributes:
        frames: its document; none if it has no instances then.
        left: its bulk file; one of another number if the old one has bytes that go.
        moves: what comes into that of another number.
        versions, instances, bytes: as those of `Collected`.
    """

    frames: list[bytes]
    left: BulkFile
    moves: Mapping[str, _Move]
    versions: int
    instances: int
    bytes: int


def _collect(change: Change, collected: Collected, *, older_versions: bool, remove: bool) -> None:
    """Remove what goes of one study if `remove` is true, and count it."""
    plan = _plan(change, older_versions=older_versions)
    if plan is None:
        return
    if remove:
        _write(change, plan)
    collected.studies += 1
    collected.versions += plan.versions
    collected.instances += plan.instances
    collected.bytes += plan.bytes


def _plan(change: Change, *, older_versions: bool) -> _Plan | None:
    """What is to be left of a study; None if nothing goes."""
    document, history = change.document, change.history
    definitions, study = change.archive.definitions, document.study
    batch = read_batch(document, definitions)
    count, versions = len(batch.entries), 0
    older = older_versions and (len(history.versions) > 1 or bool(history.versions[0].brought))
    if older:
        versions = len(history.versions) - 1
        with change.archive.open(change.path) as opened_study:
            batch = as_it_is(opened_study)
        history = History(history.then("collect").versions[-1:])
    number, size = document.bulk.number, 0
    bulk = change.archive.bulk_path(study, number)
    if (there := status_of(bulk)) is not None:
        check_file(bulk, document.bulk.length)
        size = there.st_size
    moves, end = _moves(batch)
    if not older and end >= size:
        return None
    if end < size:
        number += 1
        places = {sha256: move.place for sha256, move in moves.items()}
        batch.entries = [entry.stored_at(places) for entry in batch.entries]
    frames: list[bytes] = []
    left = BulkFile(number, end)
    if batch.entries:
        frames += encode_version(study, batch, definitions, history=history, bulk=left)
    less = change.path.stat().st_size - sum(map(len, frames)) + size - end
    return _Plan(frames, left, moves, versions, count - len(batch.entries), less)


def _write(change: Change, plan: _Plan) -> None:
    """Leave a study as planned: large values are written before the document, and go behind it."""
    study, number = change.document.study, change.document.bulk.number
    bulk = change.archive.bulk_path(study, number)
    is_new = plan.left.number != number
    if is_new and plan.left.length:
        _copy(bulk, change.archive.bulk_path(study, plan.left.number), plan.moves)
    if plan.frames:
        change.write(plan.frames)
    else:
        change.path.unlink()
        sync(change.path.parent)
    if is_new:
        bulk.unlink()


def _moves(batch: Batch) -> tuple[dict[str, _Move], int]:
    """Where each large value goes that is referred to, by SHA-256, and where the last one ends."""
    moves: dict[str, _Move] = {}
    end = len(MAGIC)
    for entry in batch.entries:
        for sha256, place in entry.places.items():
            if "stored" in place and sha256 not in moves:
                moves[sha256] = _Move(place["offset"], {**place, "offset": end})
                end += sum(place["stored"])
    return moves, end if moves else 0


def _copy(old: Path, new: Path, moves: Mapping[str, _Move]) -> None:
    """Write the bulk file that has the values only that are referred to; it is on disk then."""
    new.unlink(missing_ok=True)  # the rest of a run that was killed
    try:
        with BulkReader(old) as reader:
            append(
                new,
                {sha256: (reader, {**m.place, "offset": m.start}) for sha256, m in moves.items()},
                0,
            )
    except BaseException:
        with contextlib.suppress(OSError):  # what ended it is to be said, and not this
            new.unlink()
        raise
    sync(new.parent)


def _collect_file(path: Path, document: Path, collected: Collected, *, remove: bool) -> None:
    """Remove a bulk file, if the document that it stands beside does not refer to it.

    If that refers to one that is not there, somebody may have given this another name.
    """
    if is_there(document):
        with contextlib.closing(Document(document)) as found:
            named = bulk_beside(document, found.bulk.number)
            if found.bulk.length and (path == named or not is_there(named)):
                return
    there = status_of(path)
    if there is None:  # another run has collected it
        return
    collected.files += 1
    collected.bytes += there.st_size
    if remove:
        path.unlink()
