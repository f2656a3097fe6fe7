"""What was found of a study → its document and bulk file (spec/archive.md)."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias, TypeVar

from dicomstudy import definitions as definitions_
from dicomstudy.archive import Archive
from dicomstudy.bulk import BEYOND, MAGIC, BulkFile, BulkReader, Places, append, check_file
from dicomstudy.change import bring_values, changing, stored_in
from dicomstudy.definitions import Definitions
from dicomstudy.disk import is_there, make_folder, status_of, sync, write_atomically, writing
from dicomstudy.document import Document, encode_version, name_of_instance, read_batch, references
from dicomstudy.document.extension import extended, stored_places
from dicomstudy.errors import ArchiveError, BulkError, DicomStudyError, Problem
from dicomstudy.folder import Folder, locked
from dicomstudy.grouping import Batch, Entry, Identity, Name
from dicomstudy.ingestion import Settings, left_on_disk, study_folder
from dicomstudy.lineage import History
from dicomstudy.trail import Trail
from dicomstudy.unfinished import remove_tree

__all__ = ["Finished", "finish"]

#: By study: the instances that it has from a worse source than the study that was finished.
_Elsewhere: TypeAlias = Mapping[str, AbstractSet[Identity]]
_Key = TypeVar("_Key", bound=Hashable)

_IDENTITY, _NAME = attrgetter("identity"), attrgetter("name")
#: Instances are late if there are so many times as many in the study.
_LITTLE = 8


class Finished(NamedTuple):
    """What `finish` did with a study, and with others that its instances were moved to.

    A study that there is a problem with stays as it was.
    """

    added: int
    unchanged: int
    bytes_out: int
    problems: tuple[Problem, ...] = ()


def finish(settings: Settings, study: str, held: Batch | None = None) -> Finished:
    """Make or extend the document of a study from what was ingested of it.

    Args:
        held: what an `Ingester` held of it in memory; the rest was left on disk.
    """
    try:
        with writing(settings.archive):
            archive = Archive(settings.archive)
            make_folder(archive.document_path(study).parent)
            with locked(archive.document_path(study)):
                finished, elsewhere = _finish(settings, archive, study, held)
    except ArchiveError as error:
        if error.code != "archive/unreadable":
            raise  # the next study could not be written either
        # the message names the file, which may be one of this run alone
        return Finished(0, 0, 0, (error.problem()._replace(source=study),))
    except DicomStudyError as error:
        return Finished(0, 0, 0, (error.problem(study),))
    written, problems = finished.bytes_out, [*finished.problems]
    for target, names in elsewhere.items():
        try:
            size, more = _improve(archive, study, target, names)
        except ArchiveError as error:
            if error.code == "archive/unreadable":
                problems.append(error.problem()._replace(source=target))
            elif error.code != "archive/not-found":  # it was collected meanwhile
                raise
        except DicomStudyError as error:
            problems.append(error.problem(target))
        else:
            written += size
            problems += more
    return finished._replace(bytes_out=written, problems=tuple(problems))


def _finish(
    settings: Settings, archive: Archive, study: str, held: Batch | None
) -> tuple[Finished, _Elsewhere]:
    """Write one study; the other studies that have some of its instances are not yet written."""
    definitions = definitions_.load()
    folder = study_folder(settings, study)
    new = held or Batch()
    if stored := list(left_on_disk(folder)):
        new = Batch.join([*stored, new])
    path = archive.document_path(study)
    with contextlib.ExitStack() as stack:
        document = None
        if is_there(path):
            document = stack.enter_context(contextlib.closing(archive.document(path)))
        coming = _late(new, document) or _coming(new, document, definitions, archive)
        if not coming.fresh and not coming.back:
            return Finished(0, coming.unchanged, 0, coming.problems), coming.elsewhere
        before = BulkFile() if document is None else document.bulk
        bulk_path = archive.bulk_path(study, before.number)
        if document is not None:
            _check_bulk(document, bulk_path)
        end, added = _store(folder, bulk_path, coming.fresh, coming.places, before.length)
        frames = _frames(
            study,
            document,
            coming,
            Batch(new.contents, new.rows, new.bases, added),
            definitions,
            bulk=before._replace(length=end),
        )
        written = write_atomically(path, frames, within=settings.incoming)
    remove_tree(folder)
    count = len(new.entries) - coming.unchanged
    written += end - before.length
    return Finished(count, coming.unchanged, written, coming.problems), coming.elsewhere


class _Coming(NamedTuple):
    """What comes to a study.

    `fresh` are written, `old` are those that stay, with `back` of them that come in again; of a
    study whose instances need not be looked at, `old` is None. `places` are those of the large
    values that the archive has, by SHA-256. What is `elsewhere` has to become as good as here.
    """

    fresh: list[Entry]
    places: Places
    history: History | None = None
    old: Batch | None = None
    back: int = 0
    unchanged: int = 0
    problems: tuple[Problem, ...] = ()
    elsewhere: _Elsewhere = MappingProxyType({})


def _late(new: Batch, document: Document | None) -> _Coming | None:
    """What comes, if all of it is new and little beside what is there; None if not."""
    if document is None or not document.has_table:
        return None
    if len(new.entries) * _LITTLE > document.instances:
        return None
    places = stored_places(document, new)
    if places is None:
        return None
    history = document.history.then("convert", added=len(new.entries))
    fresh = [entry._replace(events=(history.current,)) for entry in sorted(new.entries, key=_rank)]
    return _Coming(fresh, places, history)


def _coming(
    new: Batch, document: Document | None, definitions: Definitions, archive: Folder
) -> _Coming:
    """What comes, compared with each instance that is there, or that was moved."""
    best = _best(sorted(new.entries, key=_rank), _NAME)
    if document is None:
        return _Coming([*best.values()], {}, unchanged=len(new.entries) - len(best))
    old, history = read_batch(document, definitions), document.history
    known = {entry.name: entry for entry in old.entries}
    present = {name for name, entry in known.items() if history.since(entry.events) is not None}
    trail = Trail(archive, document.study, history, old.entries, {name[:2] for name in best})
    gone = best.keys() & known.keys() - present
    came = best.keys() - present - {name for name in gone if trail.leads_to(name[:2])}
    replaced = _replaced(old.entries, best, history)
    fresh = {name: best[name] for name in best.keys() - known.keys()}
    fresh |= {entry.name: entry for _, entry in replaced.better}
    if came:
        history = history.then("convert", added=len(came))
    for name in came & fresh.keys():
        fresh[name] = _came(fresh[name], history)
    old.entries = [
        _came(entry, history) if entry.name in came else entry for entry in replaced.left
    ]
    every = _best([*old.entries, *fresh.values()], _IDENTITY)
    return _Coming(
        [fresh[name] for name in sorted(fresh)],
        stored_in(known.values()),
        history,
        old,
        back=len(came - fresh.keys()),
        unchanged=len(new.entries) - len(came | {name for name, _ in replaced.better}),
        problems=replaced.problems(document.path),
        elsewhere=trail.worse({identity: entry.source for identity, entry in every.items()}),
    )


def _best(entries: Iterable[Entry], key: Callable[[Entry], _Key]) -> dict[_Key, Entry]:
    """Of entries with equal keys, the one that takes the place of the others."""
    best: dict[_Key, Entry] = {}
    for entry in entries:
        before = best.get(key(entry))
        if before is None or entry.source.is_better(before.source):
            best[key(entry)] = entry
    return best


class _Replaced(NamedTuple):
    """What becomes of the entries of a study for which better ones come.

    Attributes:
        better: those that take the place of others, each with its name where it comes from.
        left: those that stay.
        kept: how many of these stay though there is a better one, as edits may need their values.
    """

    better: list[tuple[Name, Entry]]
    left: list[Entry]
    kept: int

    def problems(self, path: Path) -> tuple[Problem, ...]:
        """What there is to say of it, the study being that of the document at `path`."""
        if not self.kept:
            return ()
        message = (
            f"{self.kept} instances stay as they were: edits may refer to large values of them "
            "that are none with this max_inline; convert them with the one that they had"
        )
        return (Problem(str(path), "convert/max-inline", message),)


def _replaced(
    entries: Iterable[Entry], coming: Mapping[Name, Entry], history: History
) -> _Replaced:
    """Let better entries take the place of others, if these were converted or brought there.

    Where they stand stays, and the values that edits refer to.
    """
    anywhere = _best(coming.values(), _IDENTITY)
    edited = {*references([*history.all_edits()])}
    better, left, kept = [], [], 0
    for before in entries:
        name, identity = before.name, before.identity
        entry = coming.get(name)
        if entry is None and identity in anywhere and _is_brought(before, history):
            entry = anywhere[identity]
        if entry is None or not entry.source.is_better(before.source):
            left.append(before)
        elif _is_needed(before.places.keys() - entry.places.keys(), before, edited, history):
            left.append(before)
            kept += 1
        else:
            new = entry._replace(series=before.series, events=before.events)
            better.append((entry.name, new))
    return _Replaced(better, left, kept)


def _is_needed(
    values: AbstractSet[str], entry: Entry, edited: AbstractSet[str], history: History
) -> bool:
    """Whether edits may need large values of an instance: those here, or where it went."""
    went = any(version.to_study for version in history.departures(entry.events))
    return not values.isdisjoint(edited) or bool(values and went)


def _is_brought(entry: Entry, history: History) -> bool:
    """Whether an instance came from another study or series when it came for the last time."""
    name = name_of_instance(entry.instance, entry.digest)
    return bool(history.brought(history.arrival(entry.events), entry.series, name))


def _came(entry: Entry, history: History) -> Entry:
    """An instance that came in with the last version."""
    return entry._replace(events=(*entry.events, history.current))


def _improve(
    archive: Archive, study: str, target: str, wanted: AbstractSet[Identity]
) -> tuple[int, tuple[Problem, ...]]:
    """Let another study have instances as a study has them, where that is better.

    They come with their large values. Nothing else of them changes, so that there is no version.

    Returns how many bytes were written, and what could not be done.
    """
    definitions = archive.definitions
    with archive.open(archive.document_path(study)) as source, changing(archive, target) as change:
        mine, theirs = (
            read_batch(each, definitions) for each in (source.document, change.document)
        )
        coming = _best([e for e in mine.entries if e.identity in wanted], _NAME)
        replaced = _replaced(theirs.entries, coming, change.history)
        problems = replaced.problems(change.path)
        if not replaced.better:
            return 0, problems
        before = change.document.bulk
        path = archive.bulk_path(target, before.number)
        better = [entry for _, entry in replaced.better]
        end, mine.entries = bring_values(better, source, theirs, path, before.length)
        theirs.entries = replaced.left
        batch, bulk = Batch.join([theirs, mine]), before._replace(length=end)
        size = change.write_version(batch, change.history, bulk=bulk)
        return size + end - before.length, problems


def _frames(
    study: str,
    document: Document | None,
    coming: _Coming,
    batch: Batch,
    definitions: Definitions,
    *,
    bulk: BulkFile,
) -> Iterator[bytes]:
    """The document with what comes, frame by frame; `batch` has what is fresh, as stored."""
    history, old = coming.history, coming.old
    if document is not None and history is not None and old is None:
        frames = extended(document, batch, definitions, history=history, bulk_length=bulk.length)
        if frames is not None:
            return frames
        old = read_batch(document, definitions)
    if old is not None and old.entries:
        batch = Batch.join([old, batch])
    return encode_version(study, batch, definitions, history=history, bulk=bulk)


def _rank(entry: Entry) -> tuple[str, ...]:
    """The order of what was found, whichever process found it when."""
    return *entry.name, entry.source.uri


def _check_bulk(document: Document, path: Path) -> None:
    """Refuse to cut off what a document says wrongly is not its own.

    Raises:
        BulkError: it refers to what would be cut off, or the file is none.
    """
    there = status_of(path)
    if there is None or there.st_size <= document.bulk.length:
        return
    check_file(path, document.bulk.length)
    if document.bulk_end() > document.bulk.length:
        raise BulkError("bulk/place", BEYOND, source=str(document.path))


def _store(
    folder: Path,
    bulk_path: Path,
    fresh: list[Entry],
    known: Places,
    bulk_length: int,
) -> tuple[int, list[Entry]]:
    """Bring the values of new entries into the bulk file of the study, each once.

    Returns where the bulk file ends, and the entries with their places in it. All is on disk.
    """
    moved = dict(known)
    wanted: Places = {}
    for entry in fresh:
        for sha256, place in entry.places.items():
            if "part" in place and sha256 not in moved:
                wanted.setdefault(sha256, place)
    end = bulk_length
    if wanted:
        if not bulk_length:
            adopted = _adopt(folder, bulk_path, wanted)
            moved |= adopted
            end = _size(bulk_path) if adopted else 0
        rest = {sha256: place for sha256, place in wanted.items() if sha256 not in moved}
        end, appended = _append(folder, bulk_path, rest, end)
        moved |= appended
        sync(bulk_path.parent)
    elif bulk_length:
        _cut_off_rest(bulk_path, bulk_length)
    return end, [entry.stored_at(moved) for entry in fresh]


def _cut_off_rest(bulk_path: Path, bulk_length: int) -> None:
    """Take from a bulk file what a run that was killed left behind the end of it."""
    there = status_of(bulk_path)
    if there is not None and there.st_size > bulk_length:
        os.truncate(bulk_path, bulk_length)


def _adopt(folder: Path, bulk_path: Path, wanted: Places) -> Places:
    """Make the largest part that has nothing else than wanted values the bulk file."""
    sizes = Counter({part: len(MAGIC) for part in {place["part"] for place in wanted.values()}})
    for place in wanted.values():
        sizes[place["part"]] += sum(place["stored"])
    for part, size in sizes.most_common():
        if _size(folder / part) == size:
            (folder / part).replace(bulk_path)
            return {
                sha256: _without_part(place)
                for sha256, place in wanted.items()
                if place["part"] == part
            }
    return {}


def _append(folder: Path, bulk_path: Path, wanted: Places, bulk_length: int) -> tuple[int, Places]:
    """Copy values to the end of the bulk file, which is on disk then."""
    with contextlib.ExitStack() as stack:
        readers = {
            part: stack.enter_context(BulkReader(folder / part))
            for part in {place["part"] for place in wanted.values()}
        }
        values = {
            sha256: (readers[place["part"]], _without_part(place))
            for sha256, place in wanted.items()
        }
        return append(bulk_path, values, bulk_length)


def _without_part(place: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in place.items() if name != "part"}


def _size(path: Path) -> int:
    return path.stat().st_size
