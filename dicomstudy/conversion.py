"""P10 files, folders, zip and tar files and instance records → an archive (spec/archive.md).

Two steps, each a function of plain values that any `concurrent.futures.Executor` can run:
`ingest` takes files apart and leaves what it found below ``incoming/``, sorted by study;
`finish` makes or extends the document of one study from that. Memory is bounded by the
largest study, whatever the order of the files.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import multiprocessing
import os
import pickle
import shutil
import signal
import sys
import tempfile
import threading
from threading import Lock
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from dicomstudy import definitions as definitions_, instance_record, ion
from dicomstudy.archive import (
    Archive,
    create,
    locked,
    sync_folder,
    write_atomically,
)
from dicomstudy.bulk import BulkReader, BulkWriter, Place
from dicomstudy.document import Document, encode, read_batch
from dicomstudy.elements import Buffer, Span, chunks
from dicomstudy.errors import DicomStudyError, Problem
from dicomstudy.grouping import Batch, Entry, Grouper, Pending, Source, cluster
from dicomstudy.p10 import PREFIX, Reader
from dicomstudy.ion import ion_hash_hex
from dicomstudy.record import Decoder, Encoder, Large, Record, Segment
from dicomstudy.sources import (
    MAX_WHOLE,
    Found,
    Window,
    find,
    is_container,
    open_members,
    uri_of,
)

__all__ = ["Progress", "Report", "convert"]

#: A task has at most so many files, and ends with the file that reaches so many bytes.
_TASK_FILES, _TASK_BYTES = 64, 16 << 20
#: Bulk files that one process keeps open.
_OPEN_BULK = 32
#: Files smaller than this are hashed sooner than a thread has begun.
_WORTH_A_THREAD = 1 << 16
_DICOMDIR = "1.2.840.10008.1.3.10"


@dataclass(slots=True)
class Report:
    """What a run did.

    Attributes:
        files: files that were looked at, those in zip and tar files one by one.
        skipped: files that are not DICOM.
        instances: instances that were added.
        studies: studies that those and the unchanged ones belong to.
        unchanged: instances that were there already, with equal content.
        quarantined: files that are kept whole because they belong to no study.
        bytes_in: bytes of the files that were taken in.
        bytes_out: bytes that were written to the archive.
        problems: defects, whether they kept a file out of the studies or not.
    """

    files: int = 0
    skipped: int = 0
    instances: int = 0
    studies: int = 0
    unchanged: int = 0
    quarantined: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    problems: list[Problem] = field(default_factory=list)
    refused: int = 0

    @property
    def complete(self) -> bool:
        """True if every DICOM file is in a study."""
        return not self.refused and not self.quarantined

    def to_json(self) -> str:
        """The report as JSON."""
        fields = {
            name: getattr(self, name)
            for name in (
                *("files", "skipped", "instances", "studies", "unchanged", "quarantined"),
                *("bytes_in", "bytes_out"),
            )
        }
        fields["problems"] = [problem._asdict() for problem in self.problems]
        return json.dumps(fields, indent=2) + "\n"


class Progress(Protocol):
    """Is told how far a run has come."""

    def __call__(self, step: str, done: int, total: int | None) -> None: ...


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


@dataclass(slots=True)
class Ingested:
    """What `ingest` did with its files; `studies` are the UIDs of those it left something for."""

    files: int = 0
    skipped: int = 0
    quarantined: int = 0
    refused: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    studies: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)


class Finished(NamedTuple):
    """What `finish` did with a study."""

    added: int
    unchanged: int
    bytes_out: int


def convert(
    sources: Iterable[str | os.PathLike[str]],
    archive: str | os.PathLike[str],
    *,
    bulk: str = "copy",
    max_inline: int = 256,
    jobs: int = 1,
    progress: Progress | None = None,
) -> Report:
    """Take P10 files into an archive, which is made if it is not there.

    Equal content is taken in once; running again adds what is new. An interrupted run leaves
    the archive as it was, or with whole studies of what it was to add.

    Args:
        sources: files and folders; also zip and tar files of P10 files, and instance records.
        archive: the folder of the archive.
        bulk: "copy" puts large values into the archive; "reference" leaves them in the files.
        max_inline: values of more bytes than this are large.
        jobs: processes to use.
        progress: is called while the work goes on.

    Raises:
        ArchiveError: the archive cannot be made, written or locked.
    """
    if bulk not in {"copy", "reference"}:
        raise DicomStudyError("convert/bulk", f"bulk is 'copy' or 'reference', not {bulk!r}")
    if max_inline < 0 or jobs < 1:
        raise DicomStudyError("convert/options", "max_inline is at least 0, and jobs at least 1")
    if isinstance(sources, str | os.PathLike):
        sources = [sources]
    target = create(Path(archive))
    report = Report()
    with locked(target):
        for stale in (target.path / "incoming").iterdir():
            shutil.rmtree(stale, ignore_errors=True)
        incoming = Path(tempfile.mkdtemp(dir=target.path / "incoming"))
        settings = Settings(
            target.path.absolute(), incoming.absolute(), bulk, max_inline, jobs == 1
        )
        try:
            with _executor(jobs) as executor:
                _run(executor, settings, sources, report, progress or _silent, jobs)
        finally:
            shutil.rmtree(incoming, ignore_errors=True)
            if jobs == 1:
                _ingester(settings).close()
            _ingester.cache_clear()
    report.problems.sort(key=lambda problem: (problem.source or "", problem.offset or 0))
    return report


def _silent(step: str, done: int, total: int | None) -> None:
    """Show no progress."""


def _run(
    executor: Executor | None,
    settings: Settings,
    sources: Iterable[str | os.PathLike[str]],
    report: Report,
    progress: Progress,
    jobs: int,
) -> None:
    studies: set[str] = set()
    inside = settings.archive
    tasks = ((ingest, settings, task) for task in _tasks(sources, report, inside))
    for done in _map(executor, tasks, jobs):
        report.files += done.files
        report.skipped += done.skipped
        report.quarantined += done.quarantined
        report.refused += done.refused
        report.bytes_in += done.bytes_in
        report.bytes_out += done.bytes_out
        report.problems += done.problems
        studies |= done.studies
        progress("files", report.files, None)
    work = ((finish, settings, uid) for uid in sorted(studies))
    for count, finished in enumerate(_map(executor, work, jobs), 1):
        report.instances += finished.added
        report.unchanged += finished.unchanged
        report.bytes_out += finished.bytes_out
        progress("studies", count, len(studies))
    report.studies = len(studies)


def _tasks(
    sources: Iterable[str | os.PathLike[str]], report: Report, archive: Path
) -> Iterator[list[tuple[str, int]]]:
    """Files in tasks; those of the archive itself are left out."""
    task: list[tuple[str, int]] = []
    size = 0
    for found in find(sources):
        if found.problem is not None:
            report.problems.append(found.problem)
            report.refused += 1
            continue
        if archive in found.path.absolute().parents:
            continue
        task.append((os.fspath(found.path), found.size))
        size += found.size
        if len(task) >= _TASK_FILES or size >= _TASK_BYTES:
            yield task
            task, size = [], 0
    if task:
        yield task


def _map(executor: Executor | None, tasks: Iterable[tuple[Any, ...]], jobs: int) -> Iterator[Any]:
    """The results of calls, in the order in which they are ready; few are under way at a time."""
    if executor is None:
        for function, *arguments in tasks:
            yield function(*arguments)
        return
    running: set[Future[Any]] = set()
    for function, *arguments in tasks:
        running.add(executor.submit(function, *arguments))
        if len(running) >= 2 * jobs + 1:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    while running:
        done, running = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            yield future.result()


class _executor:  # noqa: N801 (reads as the function that it is)
    """A pool of processes, or None for one job; what waits is cancelled on an error."""

    def __init__(self, jobs: int) -> None:
        self._pool: ProcessPoolExecutor | None = None
        if jobs > 1:
            fork = sys.platform == "linux" and threading.active_count() == 1
            context = multiprocessing.get_context("fork" if fork else "spawn")
            self._pool = ProcessPoolExecutor(jobs, context, initializer=_leave_interrupts_alone)

    def __enter__(self) -> ProcessPoolExecutor | None:
        return self._pool

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)


def _leave_interrupts_alone() -> None:
    """Ctrl-C is for the process that waits for this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def ingest(settings: Settings, task: list[tuple[str, int]]) -> Ingested:
    """Take files apart and leave their instances, sorted by study, below ``incoming/``."""
    with _seldom_collected():
        return _ingester(settings).ingest(task)


@contextlib.contextmanager
def _seldom_collected() -> Iterator[None]:
    """Let the garbage collector look less often: what is remembered would all be walked."""
    before = gc.get_threshold()
    gc.set_threshold(max(before[0], 50_000), *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


@lru_cache(maxsize=1)
def _ingester(settings: Settings) -> _Ingester:
    return _Ingester(settings)


def _study_folder(settings: Settings, study: str) -> Path:
    return settings.incoming / hashlib.sha256(study.encode("utf-8", "surrogatepass")).hexdigest()


@contextlib.contextmanager
def _digest_here(data: Buffer) -> Iterator[Callable[[], str]]:
    """Gives a function that gives the SHA-256 of `data`."""
    yield lambda: _sha256(data)


def _sha256(data: Buffer) -> str:
    if isinstance(data, bytes):
        return hashlib.sha256(data).hexdigest()
    digest = hashlib.sha256()
    for chunk in chunks(data, Span(0, len(data))):
        digest.update(chunk)
    return digest.hexdigest()


class _DigestAside:
    """As `_digest_here`, but a thread takes the digest while the file is taken apart.

    For runs of one process that store no bulk: there it halves the time. The thread is known
    to be at work, and not waiting for the interpreter, when the with block begins.
    """

    def __init__(self) -> None:
        self._wanted, self._begun, self._done = Lock(), Lock(), Lock()
        for lock in (self._wanted, self._begun, self._done):
            lock.acquire()
        self._data: bytes | None = b""
        self._sha256 = ""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            self._wanted.acquire()
            if self._data is None:
                return
            self._begun.release()
            self._sha256 = hashlib.sha256(self._data).hexdigest()
            self._done.release()

    @contextlib.contextmanager
    def __call__(self, data: Buffer) -> Iterator[Callable[[], str]]:
        if not isinstance(data, bytes) or len(data) < _WORTH_A_THREAD:
            yield lambda: _sha256(data)
            return
        self._data = data
        self._wanted.release()
        self._begun.acquire()
        running = True

        def result() -> str:
            nonlocal running
            if running:
                self._done.acquire()
                running = False
            return self._sha256

        try:
            yield result
        finally:
            result()

    def close(self) -> None:
        """End the thread."""
        self._data = None
        self._wanted.release()
        self._thread.join()


class _Ingester:
    """Ingests the tasks of one process; remembers what it has seen to be quick."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        definitions = definitions_.load()
        self._archive = Archive(settings.archive)
        self._reader = Reader(max_inline=settings.max_inline)
        self._decoder = Decoder(definitions, max_inline=settings.max_inline)
        by_reference = settings.bulk == "reference"
        self._by_offset = (
            Decoder(definitions, max_inline=settings.max_inline, by_offset=True)
            if by_reference
            else self._decoder
        )
        self._encoder = Encoder(definitions)
        self._grouper = Grouper(definitions)
        self._definitions = definitions
        self._bulk: OrderedDict[str, BulkWriter] = OrderedDict()
        self._stored: OrderedDict[tuple[str, str], dict[str, Any]] = OrderedDict()
        self._pending: dict[str, Pending] = {}
        self._result = Ingested()
        aside = by_reference and settings.alone
        self._digest = _DigestAside() if aside else _digest_here

    def close(self) -> None:
        """End the thread, if there is one."""
        if isinstance(self._digest, _DigestAside):
            self._digest.close()

    def ingest(self, task: list[tuple[str, int]]) -> Ingested:
        """See `ingest`."""
        result = self._result = Ingested()
        for name, size in task:
            path = Path(name)
            try:
                self._file(path, size)
            except DicomStudyError as error:
                self._refuse(error.problem(name))
            except OSError as error:
                message = f"cannot be read: {error.strerror or error}"
                self._refuse(Problem(name, "source/unreadable", message))
        self._flush()
        return result

    def _refuse(self, problem: Problem) -> None:
        self._result.refused += 1
        self._result.problems.append(problem)

    def _file(self, path: Path, size: int) -> None:
        if size > MAX_WHOLE:
            with Window(path) as window:
                self._contents(window, path)
            return
        with path.open("rb", buffering=0) as file:
            modified = os.fstat(file.fileno()).st_mtime_ns
            self._contents(file.readall(), path, modified)

    def _contents(self, data: Buffer, path: Path, modified: int | None = None) -> None:
        head = data[:512]
        if head[128:132] != PREFIX:
            if is_container(head):
                self._container(path, len(data))
                return
            if instance_record.is_record(head, path.suffix):
                self._result.files += 1
                self._record(data, path)
                return
        if modified is None:
            modified = path.stat().st_mtime_ns
        self._result.files += 1
        self._p10(data, uri_of(path), str(path), modified)

    def _container(self, path: Path, size: int) -> None:
        found = False
        for member in open_members(path):
            if member.data is None:
                if member.problem is not None and (found or member.name or path.suffix):
                    self._refuse(member.problem)
                continue
            found = True
            self._result.files += 1
            self._p10(member.data, uri_of(path, member.name), f"{path}!{member.name}", None)

    def _p10(self, data: Buffer, uri: str, source: str, modified: int | None) -> None:
        """Take in one file; `modified` is None if it can't be referred to."""
        result = self._result
        prefixed = data[128:132] == PREFIX
        if not prefixed and not _may_be_bare(data[:8]):
            result.skipped += 1
            return
        with self._digest(data) as sha256_of:
            self._take(data, uri, source, modified, prefixed, sha256_of)

    def _take(
        self,
        data: Buffer,
        uri: str,
        source: str,
        modified: int | None,
        prefixed: bool,
        sha256_of: Callable[[], str],
    ) -> None:
        result = self._result
        file = self._reader.read(data, source=source)
        decoder = self._decoder if modified is None else self._by_offset
        record = decoder.decode(file, data)
        uids = self._grouper.uids(record)
        problems = [problem._replace(source=source) for problem in record.problems]
        if not prefixed and (uids is None or problems):
            result.skipped += 1
            return
        result.bytes_in += len(data)
        problem = None
        if uids is None:
            problem = _no_study(record, problems, source)
        elif not self._is_exact(record, data):
            problem = Problem(
                source, "convert/not-exact", "the file would not come back as it was; kept whole"
            )
        if problem is not None:
            result.problems += [*(p for p in problems if p != problem), problem]
            self._quarantine(data, sha256_of(), uri, problem)
            return
        assert uids is not None  # otherwise there is a problem
        result.problems += problems
        study = uids[0]
        referring = self._settings.bulk == "reference" and modified is not None
        places = {
            large.sha256: self._place(large, data, study, record, referring=referring)
            for large in record.large
            if large.sha256 is not None
        }
        pending = self._pending.setdefault(study, Pending())
        self._grouper.add(
            pending,
            record,
            uids=uids,
            source=Source(uri, sha256_of(), len(data), modified if referring else None),
            places=places,
        )

    def _is_exact(self, record: Record, data: Buffer) -> bool:
        """Whether the file that comes out of a record is the one that it was made of.

        If parts of the file are in no value, the way through the groups of a document is
        taken as well.
        """
        if not _is_same(record.segments(), record, data):
            return False
        if not record.extra and not record.template.raw:
            return True
        own: dict[str, Any] = {}
        groups = []
        for name, attributes in record.groups.items():
            content = {attribute.key: attribute.value for attribute in attributes}
            if name in self._definitions.seed_groups:
                groups.append((ion_hash_hex(content), content))
            else:
                own |= content
        by_digest = {large.sha256: large for large in record.large}

        def resolve(reference: Mapping[str, Any]) -> bytes:
            large = by_digest[reference["sha256"]]
            start, length = large.span
            return data[start : start + length] if large.stored is None else large.stored

        try:
            segments = self._encoder.rebuild(groups, own, record.encoding, resolve)
        except DicomStudyError:
            return False
        return _is_same(segments, record, data)

    def _place(
        self, large: Large, data: Buffer, study: str, record: Record, *, referring: bool
    ) -> dict[str, Any]:
        """Where a large value lies, which is stored unless it can be referred to."""
        if referring and large.stored is None:
            return {"dataOffset": large.span.offset}
        key = (study, large.sha256 or "")
        known = self._stored.get(key)
        if known is not None:
            return known
        word, frame = (large.word, 0) if not large.pixels else _pixel_words(record)
        writer = self._writer(study)
        if large.stored is None:
            pieces: Iterable[bytes | memoryview] = chunks(data, large.span)
            length = large.span.length
        else:
            pieces, length = [large.stored], len(large.stored)
        place = writer.add(pieces, length, word=word, frame=frame)
        known = {**place.to_struct(), "part": writer.path.name}
        self._stored[key] = known
        if len(self._stored) > 1 << 16:
            self._stored.popitem(last=False)
        return known

    def _writer(self, study: str) -> BulkWriter:
        writer = self._bulk.get(study)
        if writer is None:
            folder = _study_folder(self._settings, study)
            folder.mkdir(exist_ok=True)
            writer = self._bulk[study] = BulkWriter(folder / f"{os.getpid()}.bulk")
            if len(self._bulk) > _OPEN_BULK:
                _, oldest = self._bulk.popitem(last=False)
                oldest.close()
        return writer

    def _quarantine(self, data: Buffer, sha256: str, uri: str, problem: Problem) -> None:
        path = self._archive.path / "quarantine" / sha256
        self._result.quarantined += 1
        note = path.with_name(path.name + ".ion")
        if note.exists():
            return
        pieces = (bytes(chunk) for chunk in chunks(data, Span(0, len(data))))
        self._result.bytes_out += write_atomically(path, pieces)
        fields = {"uri": uri, "sha256": sha256, "size": len(data)}
        fields |= {"code": problem.code, "message": problem.message}
        self._result.bytes_out += write_atomically(note, [ion.dumps(fields, text=True)])

    def _record(self, data: Buffer, path: Path) -> None:
        loaded = instance_record.load(data[0 : len(data)], self._definitions, source=str(path))
        uids = self._grouper.uids(loaded.record)
        if uids is None:
            raise DicomStudyError("record/no-uids", "the record lacks one of its three UIDs")
        self._result.bytes_in += len(data)
        pending = self._pending.setdefault(uids[0], Pending())
        self._grouper.add(
            pending,
            loaded.record,
            uids=uids,
            source=loaded.source,
            places=loaded.places,
        )

    def _flush(self) -> None:
        """Leave what was found for `finish`."""
        for study, pending in self._pending.items():
            folder = _study_folder(self._settings, study)
            folder.mkdir(exist_ok=True)
            batch = pending.batch
            entries = [(*entry[:3], tuple(entry.source), *entry[4:]) for entry in batch.entries]
            content = (batch.contents, [tuple(row) for row in batch.rows], batch.bases, entries)
            with (folder / f"{os.getpid()}.batches").open("ab") as file:
                pickle.dump(content, file, pickle.HIGHEST_PROTOCOL)
            self._result.studies.add(study)
        self._pending.clear()
        for writer in self._bulk.values():
            writer.flush()


def _is_same(segments: list[Segment], record: Record, data: Buffer) -> bool:
    """Whether the segments of a record are the bytes of `data`."""
    pos = 0
    for segment in segments:
        if isinstance(segment, bytes):
            if data[pos : pos + len(segment)] != segment:
                return False
            pos += len(segment)
            continue
        length = segment["length"]
        if "dataOffset" in segment:
            if segment["dataOffset"] != pos:
                return False
        elif not any(
            large.sha256 == segment["sha256"]
            and (
                large.span.offset == pos
                if large.stored is None
                else large.stored == data[pos : pos + length]
            )
            for large in record.large
        ):
            return False
        pos += length
    return pos == len(data)


def _may_be_bare(head: bytes) -> bool:
    """Whether a file may be a data set without preamble: it begins with group 2 or 8."""
    return head[:2] in {b"\2\0", b"\x08\0"} or head[:4] == b"\0\x08\0\x05"


def _no_study(record: Record, problems: list[Problem], source: str) -> Problem:
    for attribute in record.group("fileMeta"):
        if attribute.key == "MediaStorageSOPClassUID" and attribute.value == _DICOMDIR:
            return Problem(source, "convert/dicomdir", "a DICOMDIR belongs to no study; kept whole")
    for problem in problems:
        return problem
    return Problem(
        source,
        "convert/no-uids",
        "it has no Study, Series or SOP Instance UID, so that it belongs to no study; kept whole",
    )


def _pixel_words(record: Record) -> tuple[int, int]:
    """Bytes of one sample and of one frame of native pixel data, by the image attributes."""
    image = {
        attribute.key: attribute.value
        for attribute in record.group("imagePixel")
        if isinstance(attribute.value, int)
    }
    bits = image.get("BitsAllocated", 8)
    word = bits // 8 if bits in {16, 32, 64} else 1
    samples = image.get("Rows", 0) * image.get("Columns", 0) * image.get("SamplesPerPixel", 1)
    return word, samples * bits // 8


def finish(settings: Settings, study: str) -> Finished:
    """Make or extend the document of a study from what `ingest` left of it."""
    with _seldom_collected():
        return _finish(settings, study)


def _finish(settings: Settings, study: str) -> Finished:
    definitions = definitions_.load()
    archive = Archive(settings.archive)
    folder = _study_folder(settings, study)
    new = Batch.join(_batches(folder))
    path, bulk_path = archive.document_path(study), archive.bulk_path(study)
    path.parent.mkdir(exist_ok=True)
    old, bulk_length = Batch(), 0
    if path.exists():
        document = Document(path)
        old = read_batch(document, definitions)
        bulk_length = int(document.header.get("bulkLength", 0))
        document.close()
    known = {(entry.series, entry.instance, entry.digest) for entry in old.entries}
    fresh: list[Entry] = []
    for entry in sorted(new.entries, key=lambda entry: (entry.instance, entry.digest)):
        name = (entry.series, entry.instance, entry.digest)
        if name not in known:
            known.add(name)
            fresh.append(entry)
    unchanged = len(new.entries) - len(fresh)
    if not fresh:
        return Finished(0, unchanged, 0)
    places = {sha256: place for entry in old.entries for sha256, place in entry.places.items()}
    bulk_end, fresh = _store(folder, bulk_path, fresh, places, bulk_length)
    batch = Batch(new.contents, new.rows, new.bases, fresh)
    if old.entries:
        batch = Batch.join([old, batch])
    content = cluster(batch, definitions)
    written = write_atomically(path, encode(study, content, definitions, bulk_length=bulk_end))
    shutil.rmtree(folder, ignore_errors=True)
    return Finished(len(fresh), unchanged, written + bulk_end - bulk_length)


def _batches(folder: Path) -> Iterator[Batch]:
    for path in sorted(folder.glob("*.batches")):
        with path.open("rb") as file:
            while True:
                try:
                    # written by `_Ingester._flush` of this run, in a folder of its own
                    contents, rows, bases, entries = pickle.load(file)  # noqa: S301
                except EOFError:
                    break
                unpacked = [Entry(*e[:3], Source(*e[3]), *e[4:]) for e in entries]
                yield Batch(contents, rows, bases, unpacked)


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
    wanted: dict[str, dict[str, Any]] = {}
    for entry in fresh:
        for sha256, place in entry.places.items():
            if "part" in place and sha256 not in known:
                wanted.setdefault(sha256, place)
    moved = dict(known)
    end = bulk_length
    if wanted:
        parts = {place["part"] for place in wanted.values()}
        whole = sum(sum(place["stored"]) for place in wanted.values())
        (part, *others) = sorted(parts)
        if not bulk_length and not others and _size(folder / part) == whole + _MAGIC_LENGTH:
            end = _size(folder / part)
            with (folder / part).open("rb+") as file:
                os.fsync(file.fileno())
            (folder / part).replace(bulk_path)
            moved |= {sha256: _without_part(place) for sha256, place in wanted.items()}
        else:
            end, copied = _append(folder, bulk_path, wanted, bulk_length)
            moved |= copied
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


_MAGIC_LENGTH = 8


def _append(
    folder: Path, bulk_path: Path, wanted: dict[str, dict[str, Any]], bulk_length: int
) -> tuple[int, dict[str, dict[str, Any]]]:
    readers = {part: BulkReader(folder / part) for part in {p["part"] for p in wanted.values()}}
    copied = {}
    with BulkWriter(bulk_path, end=bulk_length) as writer:
        for sha256, place in wanted.items():
            stored = tuple(place["stored"])
            source = Place(place["offset"], 0, 0, 1, stored)
            offset = writer.copy(readers[place["part"]], source).offset
            copied[sha256] = {**_without_part(place), "offset": offset}
        writer.sync()
        end = writer.end
    for reader in readers.values():
        reader.close()
    return end, copied


def _without_part(place: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in place.items() if name != "part"}


def _size(path: Path) -> int:
    return path.stat().st_size
