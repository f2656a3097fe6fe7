"""Files → what they hold, sorted by study: in memory, or below ``incoming/`` (spec/archive.md)."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dicomstudy import definitions as definitions_
from dicomstudy import instance_record
from dicomstudy.archive import Archive
from dicomstudy.beside import Beside
from dicomstudy.bulk import BulkWriter
from dicomstudy.containers import Member, is_container, open_members
from dicomstudy.disk import entries, reading, writing
from dicomstudy.elements import Buffer, Span, bare_uid, chunks, sha256_of
from dicomstudy.errors import ArchiveError, DicomStudyError, Problem, RecordError
from dicomstudy.frames import pixel_words
from dicomstudy.grouping import Batch, Entry, Grouper, Pending, Source
from dicomstudy.inputs import Input, is_of_source, may_be_p10, not_taken, take_apart
from dicomstudy.p10 import PREFIX, Reader
from dicomstudy.quarantine import Quarantined, keep
from dicomstudy.record import Checker, Decoder, Encoder, Large, Record
from dicomstudy.sources import MAX_WHOLE, SourceFiles, Window, path_of, read_whole, uri_of

__all__ = [
    "Ingested",
    "Ingester",
    "Settings",
    "leave_on_disk",
    "left_on_disk",
    "study_folder",
]

#: Bulk files that one process keeps open.
_OPEN_BULK = 32
#: Files smaller than this are hashed sooner than a thread has begun.
_WORTH_A_THREAD = 1 << 16
#: Files that wait for their digest while one more is read.
_WAITING = 2
#: What one process at work holds in memory, about, before it leaves it on disk.
_MAX_HELD = 16 << 20
#: So many members of one zip or tar file are like a task of their own.
_MEMBERS = 256
_MAX_RECORD = 1 << 28
#: The end of the name of a file of what was found.
_BATCHES = ".batches"
_DICOMDIR = "1.2.840.10008.1.3.10"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the steps of one run have in common.

    `incoming` is a folder of this run alone; `alone`: only one process is at work.
    """

    archive: Path
    incoming: Path
    bulk: str
    max_inline: int
    alone: bool

    @property
    def by_reference(self) -> bool:
        """Whether large values stay in the files, if these can be referred to."""
        return self.bulk == "reference"


@dataclass(slots=True)
class Ingested:
    """What `ingest` did with its files; `studies` are the UIDs of those it found something of."""

    files: int = 0
    skipped: int = 0
    quarantined: int = 0
    refused: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    studies: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)


def study_folder(settings: Settings, study: str) -> Path:
    """Where a run leaves what it found of a study."""
    return settings.incoming / hashlib.sha256(study.encode("utf-8", "surrogatepass")).hexdigest()


class _Digest:
    """The SHA-256 of a file, once somebody has taken it or asks for it."""

    __slots__ = ("_next", "sha256")

    def __init__(self, next_: Callable[[], None]) -> None:
        self._next = next_
        self.sha256 = ""

    def __call__(self) -> str:
        while not self.sha256:
            self._next()
        return self.sha256


class _Digester:
    """Takes digests in a thread of its own, while the next files are taken apart.

    Few files wait for theirs: the memory of those that are done is used for the next ones,
    which costs less than new memory.
    """

    def __init__(self) -> None:
        self._beside = Beside(hashlib.sha256)
        self._waiting: deque[_Digest] = deque()

    def take(self, data: bytes) -> _Digest:
        """The digest of `data`, taken as soon as there is time; returns once few others wait."""
        digest = _Digest(self._next)
        self._beside.give(data)
        self._waiting.append(digest)
        if len(self._waiting) > _WAITING:
            self._next()
        return digest

    def _next(self) -> None:
        """Wait for the digest that has waited longest."""
        sha256 = self._beside.take()
        self._waiting.popleft().sha256 = sha256.hexdigest()

    def close(self) -> None:
        """End the thread."""
        self._beside.close()


class Ingester:
    """Ingests the tasks of one process; remembers what it has seen to be quick."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        definitions = definitions_.load()
        self._archive = Archive(settings.archive)
        self._reader = Reader(max_inline=settings.max_inline)
        self._decoder = Decoder(definitions, max_inline=settings.max_inline)
        self._by_offset = (
            Decoder(definitions, max_inline=settings.max_inline, by_offset=True)
            if settings.by_reference
            else self._decoder
        )
        self._checker = Checker(Encoder(definitions))
        self._grouper = Grouper(definitions)
        self._definitions = definitions
        self._bulk: OrderedDict[str, BulkWriter] = OrderedDict()
        self._stored: OrderedDict[tuple[str, str], dict[str, Any]] = OrderedDict()
        self._pending: dict[str, Pending] = {}
        self._result = Ingested()
        # a copy takes longer for its values than for their digests, and gains nothing
        self._digester = _Digester() if settings.alone and settings.by_reference else None

    def close(self) -> None:
        """Close the bulk files, and end the thread if there is one."""
        if self._digester is not None:
            self._digester.close()
        with contextlib.ExitStack() as stack:
            for writer in self._bulk.values():
                stack.callback(writer.close)

    def held(self, study: str) -> Batch | None:
        """What is held of a study that was not left on disk; it is held no longer."""
        pending = self._pending.pop(study, None)
        return None if pending is None else pending.batch

    def ingest(self, task: list[tuple[str, int]]) -> Ingested:
        """What was found in these files; the rest is held or left on disk."""
        result = self._result = Ingested()
        for name, size in task:
            try:
                self._file(name, size)
            except DicomStudyError as error:
                if isinstance(error, ArchiveError) and error.code != "archive/unreadable":
                    raise  # it is not this file's fault, and would be the same with the next
                self._refuse(error.problem(name))
            except OSError as error:
                message = f"cannot be read: {error.strerror or error}"
                self._refuse(Problem(name, "source/unreadable", message))
        self._settle()
        return result

    def _settle(self) -> None:
        """Settle what was found, and leave it on disk for others, or if it is much."""
        for study, pending in self._pending.items():
            pending.settle()
            self._result.studies.add(study)
        with writing(self._settings.archive):
            if not self._settings.alone or self._weight() > _MAX_HELD:
                self._flush()
            for writer in self._bulk.values():
                writer.flush()

    def _weight(self) -> int:
        return sum(pending.weight for pending in self._pending.values())

    def _refuse(self, problem: Problem) -> None:
        self._result.refused += 1
        self._result.problems.append(problem)

    def _file(self, name: str, size: int) -> None:
        if size > MAX_WHOLE:
            with Window(Path(name)) as window:
                self._contents(window, name, window.modified)
            return
        data, modified = read_whole(name)
        self._contents(data, name, modified)

    def _contents(self, data: Buffer, name: str, modified: int) -> None:
        head = data[:512]
        if head[128:132] != PREFIX:
            path = Path(name)
            if is_container(head):
                self._container(path)
                return
            if instance_record.is_record(head, path.suffix):
                self._result.files += 1
                self._record(data, path)
                return
        self._result.files += 1
        self._p10(Input(data, uri_of(name), name, modified))

    def _container(self, path: Path) -> None:
        """Take in the files inside a zip or tar file."""
        members = open_members(path, folder=self._settings.incoming)
        for number, member in enumerate(members, 1):
            self._member(path, member)
            if not number % _MEMBERS:
                self._settle()

    def _member(self, path: Path, member: Member) -> None:
        given = Input.of(member, path)
        if (problem := not_taken(member, path)) is not None:
            self._result.files += 1
            self._refuse(problem)
        elif given is not None:
            self._result.files += 1
            try:
                self._p10(given)
            except ArchiveError:
                raise
            except DicomStudyError as error:
                self._refuse(error.problem(given.source))
        elif member.is_other:  # some other compressed file
            self._result.files += 1
            self._result.skipped += 1
        elif member.problem is not None:
            self._refuse(member.problem)

    def _p10(self, given: Input) -> None:
        """Take in one file, or keep it whole in quarantine."""
        if not may_be_p10(given.data):
            self._result.skipped += 1
            return
        digest = self._digest(given.data)
        try:
            problem = self._take_in(given, digest)
        except ArchiveError:
            raise
        except DicomStudyError as error:
            if is_of_source(error):
                raise
            problem = error.problem(given.source)
        if problem is not None:
            self._quarantine(given, digest(), problem)

    def _take_in(self, given: Input, digest: Callable[[], str]) -> Problem | None:
        """Take in one file if it is one of a study; the problem if it is to be kept whole."""
        result = self._result
        decoder = self._decoder if given.modified is None else self._by_offset
        recalled = self._recalled(given, decoder)
        if recalled is not None:
            self._add(given, *recalled, digest)
            return None
        taken = take_apart(given, self._reader, decoder, self._grouper)
        if taken is None:
            result.skipped += 1
            return None
        _, record, uids = taken
        problems = [problem._replace(source=given.source) for problem in record.problems]
        if uids is None:
            problem = _no_study(record, problems, given.source)
        elif not self._checker.is_exact(record, given.data):
            problem = Problem(
                given.source,
                "convert/not-exact",
                "the file would not come back as it was; kept whole",
            )
        else:
            self._add(given, record, uids, digest)
            result.problems += problems
            return None
        result.problems += [each for each in problems if each != problem]
        return problem

    def _recalled(
        self, given: Input, decoder: Decoder
    ) -> tuple[Record, tuple[str, str, str]] | None:
        """The record and the UIDs of a file that is like those before it; None of others."""
        record = decoder.recall(given.data)
        if record is None or not self._checker.is_exact(record, given.data):
            return None
        uids = self._grouper.uids(record)
        return None if uids is None else (record, uids)

    def _digest(self, data: Buffer) -> Callable[[], str]:
        """Gives the SHA-256 of `data`, which a thread of its own may have taken until then."""
        if self._digester is None or not isinstance(data, bytes) or len(data) < _WORTH_A_THREAD:
            sha256 = sha256_of(data)
            return lambda: sha256
        return self._digester.take(data)

    def _add(
        self,
        given: Input,
        record: Record,
        uids: tuple[str, str, str],
        digest: Callable[[], str],
    ) -> None:
        study = uids[0]
        referring = self._settings.by_reference and given.modified is not None
        places = {
            large.sha256: {"dataOffset": large.span.offset}
            if referring and large.stored is None
            else self._copied(large, given.data, study, record)
            for large in record.large
            if large.sha256 is not None
        }
        given.check()
        pending = self._pending.setdefault(study, Pending())
        modified = given.modified if referring else None
        source = Source(given.uri, None, len(given.data), modified)
        self._grouper.add(pending, record, uids=uids, source=source, places=places, sha256=digest)
        self._result.bytes_in += len(given.data)

    def _copied(
        self, large: Large, data: Buffer, study: str, record: Record | None
    ) -> dict[str, Any]:
        """Where this run has a large value of a study, which is copied there unless it was before.

        Args:
            data: the file that has it.
            record: that of the file; None if it is no P10 file, so that the value is no pixel data.
        """
        key = (study, large.sha256 or "")
        known = self._stored.get(key)
        if known is not None:
            return known
        word, frame = large.word, 0
        if large.pixels and record is not None:
            image = {each.key: each.value for each in record.group("imagePixel")}
            word, frame = pixel_words(image)
        if large.stored is None:
            pieces: Iterable[bytes | memoryview] = chunks(data, large.span)
            length = large.span.length
        else:
            pieces, length = [large.stored], len(large.stored)
        with writing(self._settings.archive):
            writer = self._writer(study)
            place = writer.add(pieces, length, word=word, frame=frame)
        known = {**place.to_struct(), "part": writer.path.name}
        self._stored[key] = known
        if len(self._stored) > 1 << 16:
            self._stored.popitem(last=False)
        return known

    def _writer(self, study: str) -> BulkWriter:
        writer = self._bulk.get(study)
        if writer is None:
            folder = study_folder(self._settings, study)
            folder.mkdir(exist_ok=True)
            writer = self._bulk[study] = BulkWriter(folder / f"{os.getpid()}.bulk")
            if len(self._bulk) > _OPEN_BULK:
                _, oldest = self._bulk.popitem(last=False)
                oldest.close()
        return writer

    def _quarantine(self, given: Input, sha256: str, problem: Problem) -> None:
        """Keep a file whole, and why; again is nothing."""
        given.check()
        path, size = self._archive.quarantine / sha256, len(given.data)
        file = Quarantined(path, sha256, size, given.uri, problem.code, problem.message)
        result = self._result
        result.bytes_out += keep(file, given.pieces(), within=self._settings.incoming)
        result.problems.append(problem)
        result.quarantined += 1
        result.bytes_in += len(given.data)

    def _record(self, data: Buffer, path: Path) -> None:
        if len(data) > _MAX_RECORD:
            raise RecordError("record/too-large", f"a record has at most {_MAX_RECORD} bytes")
        with contextlib.ExitStack() as files:
            loaded = instance_record.load(
                data[0 : len(data)],
                self._definitions,
                source=str(path),
                opened=lambda source: self._original(source, files),
            )
            if loaded.original is not None:
                self._instead(loaded.original, loaded.source)
                return
        uids = self._grouper.uids(loaded.record)
        if uids is None:
            raise RecordError("record/no-uids", "the record lacks one of its three UIDs")
        self._result.bytes_in += len(data)
        pending = self._pending.setdefault(uids[0], Pending())
        self._grouper.add(
            pending,
            loaded.record,
            uids=uids,
            source=loaded.source,
            places={
                sha256: self._carried(sha256, place["data"], uids[0]) if "data" in place else place
                for sha256, place in loaded.places.items()
            },
        )

    def _original(self, source: Source, files: contextlib.ExitStack) -> Window | None:
        """The file of a record, if its values are to be copied and it is still there.

        It is closed with `files`.
        """
        if self._settings.by_reference:
            return None
        try:
            window = SourceFiles().open(source.uri, size=source.size, sha256=source.sha256)
        except DicomStudyError:
            return None
        return files.enter_context(window)

    def _instead(self, window: Window, source: Source) -> None:
        """Take in the file of a record, which has its large values too."""
        data = window[0 : len(window)] if len(window) <= MAX_WHOLE else window
        window.check()
        self._p10(Input(data, source.uri, str(path_of(source.uri)), window.modified))

    def _carried(self, sha256: str, data: bytes, study: str) -> dict[str, Any]:
        """The place of a value that a record has with it, which is what its digest says."""
        large = Large(sha256, Span(0, len(data)), data)
        return self._copied(large, data, study, None)

    def _flush(self) -> None:
        """Leave on disk for `finish` what was found."""
        for study, pending in self._pending.items():
            leave_on_disk(study_folder(self._settings, study), pending.batch)
        self._pending.clear()


def leave_on_disk(folder: Path, batch: Batch) -> None:
    """Leave a batch in the folder of its study, behind what this process left there before.

    Mirror of `left_on_disk`: that gives the batches that were left.
    """
    folder.mkdir(exist_ok=True)
    entries = [(*entry[:3], tuple(entry.source), *entry[4:]) for entry in batch.entries]
    content = (batch.contents, [tuple(row) for row in batch.rows], batch.bases, entries)
    with (folder / f"{os.getpid()}{_BATCHES}").open("ab") as file:
        pickle.dump(content, file, pickle.HIGHEST_PROTOCOL)


def left_on_disk(folder: Path) -> Iterator[Batch]:
    """The batches that the processes of a run left in the folder of a study.

    Mirror of `leave_on_disk`.

    Raises:
        ArchiveError: they cannot be read.
    """
    for path in entries(folder):
        if path.suffix != _BATCHES:
            continue
        with reading(path):
            file = path.open("rb")
        with file:
            while True:
                try:
                    with reading(path):
                        content = pickle.load(file)  # noqa: S301 (of this run, in its own folder)
                        contents, rows, bases, left = content
                except EOFError:
                    break
                batch = Batch(contents, rows, bases)
                batch.entries += [
                    Entry._make(entry)._replace(source=Source(*entry[3])) for entry in left
                ]
                yield batch


def _no_study(record: Record, problems: list[Problem], source: str) -> Problem:
    for attribute in record.group("fileMeta"):
        if attribute.key == "MediaStorageSOPClassUID" and bare_uid(attribute.value) == _DICOMDIR:
            return Problem(source, "convert/dicomdir", "a DICOMDIR belongs to no study; kept whole")
    for problem in problems:
        return problem
    return Problem(
        source,
        "convert/no-uids",
        "it lacks its Study, Series or SOP Instance UID, and so belongs to no study; kept whole",
    )
