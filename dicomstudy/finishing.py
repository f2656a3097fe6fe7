"""What was found of a study → its document and bulk file (spec/archive.md)."""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from dicomstudy import definitions as definitions_
from dicomstudy.bulk import MAGIC, BulkReader, append
from dicomstudy.definitions import Definitions
from dicomstudy.document import (
    Document,
    digest_of,
    encode_version,
    read_batch,
)
from dicomstudy.document.extension import extended, stored_places
from dicomstudy.errors import ArchiveError, DicomStudyError, Problem, StudyError
from dicomstudy.folder import Folder, locked, sync_folder, write_atomically, writing
from dicomstudy.grouping import Batch, Entry, Source
from dicomstudy.ingestion import Settings, study_folder
from dicomstudy.lineage import History

__all__ = ["Finished", "finish"]

#: What an instance is, in whatever study and series: its SOP Instance UID, and its digest.
_Identity: TypeAlias = tuple[str, str]
#: When instances came to a study and went (spec/history.md), in each series that they were in.
_Events: TypeAlias = dict[_Identity, list[Sequence[int]]]

#: Instances are late if there are so many times as many in the study.
_LITTLE = 8


class Finished(NamedTuple):
    """What `finish` did with a study; with a problem, nothing was added to it."""

    added: int
    unchanged: int
    bytes_out: int
    problem: Problem | None = None


def finish(settings: Settings, study: str, held: Batch | None = None) -> Finished:
    """Make or extend the document of a study from what was ingested of it.

    Args:
        held: what an `Ingester` held of it in memory; the rest was left on disk.
    """
    try:
        with writing(settings.archive):
            archive = Folder(settings.archive)
            archive.document_path(study).parent.mkdir(exist_ok=True)
            with locked(archive.document_path(study)):
                return _finish(settings, archive, study, held)
    except ArchiveError:
        raise  # the next study could not be written either
    except DicomStudyError as error:
        return Finished(0, 0, 0, error.problem(study))


def _finish(settings: Settings, archive: Folder, study: str, held: Batch | None) -> Finished:
    definitions = definitions_.load()
    folder = study_folder(settings, study)
    new = held or Batch()
    if stored := list(_batches(folder)):
        new = Batch.join([*stored, new])
    path = archive.document_path(study)
    with contextlib.ExitStack() as stack:
        document = None
        if path.exists():
            document = stack.enter_context(contextlib.closing(Document(path)))
            if document.study != study:
                raise StudyError(
                    "study/damaged",
                    f"it is the document of study {document.study}",
                    source=str(path),
                )
        coming = _late(new, document) or _coming(new, document, definitions, archive)
        if not coming.fresh and not coming.back:
            return Finished(0, coming.unchanged, 0)
        header = {} if document is None else document.header
        bulk_length, bulk_file = (header.get(name, 0) for name in ("bulkLength", "bulkFile"))
        bulk_path = archive.bulk_path(study, bulk_file)
        bulk_end, added = _store(folder, bulk_path, coming.fresh, coming.places, bulk_length)
        frames = _frames(
            study,
            document,
            coming,
            Batch(new.contents, new.rows, new.bases, added),
            definitions,
            bulk_length=bulk_end,
        )
        written = write_atomically(path, frames, within=settings.incoming)
    shutil.rmtree(folder, ignore_errors=True)
    return Finished(len(added) + coming.back, coming.unchanged, written + bulk_end - bulk_length)


class _Coming(NamedTuple):
    """What comes to a study.

    `fresh` are written, `old` are those that stay, with `back` of them that come in again; of a
    study whose instances need not be looked at, `old` is None. `places` are those of the large
    values that the archive has, by SHA-256.
    """

    fresh: list[Entry]
    places: dict[str, dict[str, Any]]
    history: History | None = None
    old: Batch | None = None
    back: int = 0
    unchanged: int = 0


def _late(new: Batch, document: Document | None) -> _Coming | None:
    """What comes, if all of it is new and little beside what is there; None if not."""
    if document is None or not document.has_table:
        return None
    count = sum(chunk["instances"] for chunk in document.chunks)
    if len(new.entries) * _LITTLE > count:
        return None
    places = stored_places(document, new)
    if places is None:
        return None
    history = document.history.then("convert", added=len(new.entries))
    fresh = [entry._replace(events=(history.current,)) for entry in sorted(new.entries, key=_name)]
    return _Coming(fresh, places, history)


def _coming(
    new: Batch, document: Document | None, definitions: Definitions, archive: Folder
) -> _Coming:
    """What comes, compared with each instance that is there, or that was moved."""
    old, history = Batch(), None
    if document is not None:
        old, history = read_batch(document, definitions), document.history
    known = {_name(entry): entry for entry in old.entries}
    present = {
        name for name, entry in known.items() if history and history.since(entry.events) is not None
    }
    gone = {name[:2] for name in {*map(_name, new.entries)} & (known.keys() - present)}
    moved = _moved(archive, history, old, gone) if history and gone else set()
    fresh: dict[tuple[str, str, str], Entry] = {}
    back: set[tuple[str, str, str]] = set()
    for entry in sorted(new.entries, key=_name):
        name = _name(entry)
        before = fresh.get(name) or known.get(name)
        if before is None or entry.source.is_better(before.source):
            fresh[name] = entry
        elif name not in present and name[:2] not in moved:
            back.add(name)
    back -= fresh.keys()  # they come in again as they are kept
    unchanged = len(new.entries) - len(fresh) - len(back)
    coming = len((fresh.keys() | back) - present)
    if history is not None and coming:
        history = history.then("convert", added=coming)
    for name, entry in fresh.items():
        events = known[name].events if name in known else ()
        if name not in present and history is not None:
            events = (*events, history.current)
        if events:
            fresh[name] = entry._replace(events=events)
    places = {
        sha256: place
        for entry in old.entries
        for sha256, place in entry.places.items()
        if "stored" in place
    }
    old.entries = [
        entry._replace(events=(*entry.events, history.current))
        if history is not None and _name(entry) in back
        else entry
        for entry in old.entries
        if _name(entry) not in fresh
    ]
    return _Coming(list(fresh.values()), places, history, old, len(back), unchanged)


def _moved(
    archive: Folder, history: History, batch: Batch, gone: AbstractSet[_Identity]
) -> set[_Identity]:
    """Those instances that are in a study or series that they were moved to (spec/moving.md).

    Args:
        history: the versions of the study that they name.
        batch: what is or was in it.
        gone: the instances that are asked about.
    """
    events: _Events = {}
    for entry in batch.entries:
        if (identity := (entry.instance, entry.digest)) in gone:
            events.setdefault(identity, []).append(entry.events)
    found: set[_Identity] = set()
    seen: set[tuple[str, _Identity]] = set()
    known = [(history, events)]
    while known:
        history, events = known.pop()
        went: dict[str, set[_Identity]] = {}
        for identity, every in events.items():
            if any(history.since(each) is not None for each in every):
                found.add(identity)
            for left in map(history.left, every):
                if left is not None and left.to_study and (left.to_study, identity) not in seen:
                    seen.add((left.to_study, identity))
                    went.setdefault(left.to_study, set()).add(identity)
        for study, some in went.items():
            with contextlib.suppress(DicomStudyError):  # what is damaged has none of them
                known += _arrivals(archive.document_path(study), some - found)
    return found


def _arrivals(path: Path, wanted: AbstractSet[_Identity]) -> list[tuple[History, _Events]]:
    """When instances came to a study and went, beside its versions; nothing if it is not there."""
    if not wanted or not path.exists():
        return []
    events: _Events = {}
    with contextlib.closing(Document(path)) as document:
        for uid, instance in document.named({uid for uid, _ in wanted}):
            if (identity := (uid, digest_of(instance))) in wanted:
                events.setdefault(identity, []).append(instance.get("_versions", ()))
        return [(document.history, events)]


def _frames(
    study: str,
    document: Document | None,
    coming: _Coming,
    batch: Batch,
    definitions: Definitions,
    *,
    bulk_length: int,
) -> Iterator[bytes]:
    """The document with what comes, frame by frame; `batch` has what is fresh, as stored."""
    history, old = coming.history, coming.old
    if document is not None and history is not None and old is None:
        frames = extended(document, batch, definitions, history=history, bulk_length=bulk_length)
        if frames is not None:
            return frames
        old = read_batch(document, definitions)
    if old is not None and old.entries:
        batch = Batch.join([old, batch])
    return encode_version(
        study,
        batch,
        definitions,
        history=history,
        bulk_length=bulk_length,
        bulk_file=0 if document is None else document.header.get("bulkFile", 0),
    )


def _name(entry: Entry) -> tuple[str, str, str]:
    """What tells instances of a study apart: equal content under one UID is one instance."""
    return entry.instance, entry.digest, entry.series


def _batches(folder: Path) -> Iterator[Batch]:
    for path in sorted(folder.glob("*.batches")):
        with path.open("rb") as file:
            while True:
                try:
                    # written by `Ingester` of this run, in a folder of its own
                    contents, rows, bases, entries = pickle.load(file)  # noqa: S301
                except EOFError:
                    break
                batch = Batch(contents, rows, bases)
                batch.entries += [
                    Entry._make(entry)._replace(source=Source(*entry[3])) for entry in entries
                ]
                yield batch


def _store(
    folder: Path,
    bulk_path: Path,
    fresh: list[Entry],
    known: dict[str, dict[str, Any]],
    bulk_length: int,
) -> tuple[int, list[Entry]]:
    """Bring the values of new entries into the bulk file of the study, each once.

    Returns where the bulk file ends, and the entries with their places in it. All is on disk.
    """
    moved = dict(known)
    wanted: dict[str, dict[str, Any]] = {}
    for entry in fresh:
        for sha256, place in entry.places.items():
            if "part" in place and sha256 not in moved:
                wanted.setdefault(sha256, place)
    end = bulk_length
    if not wanted and bulk_length and _size(bulk_path) > bulk_length:
        os.truncate(bulk_path, bulk_length)  # the rest of a run that was killed
    if wanted:
        if not bulk_length:
            adopted = _adopt(folder, bulk_path, wanted)
            moved |= adopted
            end = _size(bulk_path) if adopted else 0
        rest = {sha256: place for sha256, place in wanted.items() if sha256 not in moved}
        end, appended = _append(folder, bulk_path, rest, end)
        moved |= appended
        sync_folder(bulk_path.parent)
    return end, [entry.stored_at(moved) for entry in fresh]


def _adopt(
    folder: Path, bulk_path: Path, wanted: dict[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
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


def _append(
    folder: Path, bulk_path: Path, wanted: dict[str, dict[str, Any]], bulk_length: int
) -> tuple[int, dict[str, dict[str, Any]]]:
    """Copy values to the end of the bulk file, which is on disk then."""
    readers = {part: BulkReader(folder / part) for part in {p["part"] for p in wanted.values()}}
    values = {
        sha256: (readers[place["part"]], _without_part(place)) for sha256, place in wanted.items()
    }
    appended = append(bulk_path, values, bulk_length)
    for reader in readers.values():
        reader.close()
    return appended


def _without_part(place: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in place.items() if name != "part"}


def _size(path: Path) -> int:
    return path.stat().st_size
