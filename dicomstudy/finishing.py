"""What was found of a study → its document and bulk file (spec/archive.md)."""

from __future__ import annotations

import os
import pickle
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from dicomstudy import definitions as definitions_
from dicomstudy.bulk import MAGIC, BulkReader, append
from dicomstudy.document import Document, encode_version, read_batch
from dicomstudy.errors import ArchiveError, DicomStudyError, Problem, StudyError
from dicomstudy.folder import Folder, locked, sync_folder, write_atomically, writing
from dicomstudy.grouping import Batch, Entry, Source
from dicomstudy.ingestion import Settings, study_folder

__all__ = ["Finished", "finish"]


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
    old, history, bulk_length, bulk_file = Batch(), None, 0, 0
    if path.exists():
        document = Document(path)
        if document.study != study:
            document.close()
            raise StudyError(
                "study/damaged", f"it is the document of study {document.study}", source=str(path)
            )
        old, history = read_batch(document, definitions), document.history
        bulk_length = int(document.header.get("bulkLength", 0))
        bulk_file = int(document.header.get("bulkFile", 0))
        document.close()
    known = {_name(entry): entry for entry in old.entries}
    present = {
        name for name, entry in known.items() if history and history.since(entry.events) is not None
    }
    fresh: dict[tuple[str, str, str], Entry] = {}
    back: set[tuple[str, str, str]] = set()
    for entry in sorted(new.entries, key=_name):
        name = _name(entry)
        before = fresh.get(name) or known.get(name)
        if before is None or _is_better(entry, before):
            fresh[name] = entry
        elif name not in present:
            back.add(name)
    back -= fresh.keys()  # they come in again as they are kept
    unchanged = len(new.entries) - len(fresh) - len(back)
    if not fresh and not back:
        return Finished(0, unchanged, 0)
    coming = len((fresh.keys() | back) - present)
    if history is not None and coming:
        history = history.then("convert", added=coming)
    for name, entry in fresh.items():
        events = known[name].events if name in known else ()
        if name not in present and history is not None:
            events = (*events, history.current)
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
    bulk_path = archive.bulk_path(study, bulk_file)
    bulk_end, added = _store(folder, bulk_path, list(fresh.values()), places, bulk_length)
    batch = Batch(new.contents, new.rows, new.bases, added)
    if old.entries:
        batch = Batch.join([old, batch])
    frames = encode_version(
        study, batch, definitions, history=history, bulk_length=bulk_end, bulk_file=bulk_file
    )
    written = write_atomically(path, frames, within=settings.incoming)
    shutil.rmtree(folder, ignore_errors=True)
    return Finished(len(added) + len(back), unchanged, written + bulk_end - bulk_length)


def _name(entry: Entry) -> tuple[str, str, str]:
    """What tells instances of a study apart: equal content under one UID is one instance."""
    return entry.instance, entry.digest, entry.series


def _is_better(entry: Entry, before: Entry) -> bool:
    """Whether an instance takes the place of an equal one.

    One that was compared with its file, of one that was not; one whose values are in the
    archive, of one whose values are in the file.
    """
    if entry.source.proved != before.source.proved:
        return entry.source.proved
    return entry.source.modified is None and before.source.modified is not None


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
    return end, [
        entry._replace(
            places={
                sha256: moved[sha256] if "part" in place else place
                for sha256, place in entry.places.items()
            }
        )
        for entry in fresh
    ]


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
