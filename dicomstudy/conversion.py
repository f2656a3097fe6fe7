"""P10 files, folders, zip and tar files and instance records → an archive (spec/archive.md).

Two steps, of plain values, that any `concurrent.futures.Executor` can run: `ingest` takes files
apart and leaves what it found below ``incoming/``, sorted by study; `finish` makes or extends the
document of one study from that. One process alone holds in memory what it found, while that is
little. So memory is bounded by the largest study, whatever the order of the files.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from dicomstudy.archive import create
from dicomstudy.disk import writing
from dicomstudy.elements import MAX_INLINE
from dicomstudy.errors import DicomStudyError, Problem
from dicomstudy.finishing import Finished, finish
from dicomstudy.folder import at_work, other_archive, path_named
from dicomstudy.ingestion import Ingested, Ingester, Settings
from dicomstudy.outcome import Outcome
from dicomstudy.progress import Progress, silent
from dicomstudy.sources import find
from dicomstudy.unfinished import remove_tree
from dicomstudy.workers import COLLECTOR, Workers, workers

__all__ = ["Report", "convert"]

#: A task has at most so many files, and ends with the file that reaches so many bytes.
_TASK_FILES, _TASK_BYTES = 256, 32 << 20
#: Where processes share the work, a task is one of so many parts of what was found before it, but
#: not less than so many bytes: none waits long for the last one, and few studies are divided.
_PARTS, _LEAST_TASK_BYTES = 8, 4 << 20
#: Processes for each processor: more would gain nothing, and all of them begin at once.
_PER_PROCESSOR = 4

_Given = TypeVar("_Given")
_Result = TypeVar("_Result")


@dataclass(slots=True)
class Report(Outcome):
    """What a run did.

    Attributes:
        files: files that were looked at, those in zip and tar files one by one.
        skipped: files that are not DICOM.
        instances: instances that were added, or took the place of an equal one.
        studies: studies that those and the unchanged ones belong to.
        unchanged: instances that were there already, with equal content.
        quarantined: files that are kept whole because they belong to no study.
        refused: sources, files and studies of which something was not taken in at all.
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
    refused: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    problems: list[Problem] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """True if every DICOM file is in a study."""
        return not self.refused and not self.quarantined


def convert(
    sources: Iterable[str | os.PathLike[str]],
    archive: str | os.PathLike[str],
    *,
    bulk: str = "copy",
    max_inline: int = MAX_INLINE,
    jobs: int = 1,
    progress: Progress | None = None,
) -> Report:
    """Take P10 files into an archive, which is made if it is not there. Mirror of `restore`.

    Equal content is taken in once; running again adds what is new. An interrupted run leaves
    the archive as it was, or with whole studies of what it was to add.

    Args:
        sources: files and folders; also zip and tar files of P10 files, and instance records.
        archive: the folder of the archive.
        bulk: "copy" puts large values into the archive, those of records too if their P10 files
            are still where they were; "reference" leaves them in the files.
        max_inline: values of more bytes than this are large.
        jobs: processes to use, at most four for each processor. A daemonic process, as those of
            `multiprocessing.Pool` are, may have none of its own, and does all of it by itself.
        progress: is called with the step, how much of it is done, and of how much if known.

    Raises:
        ArchiveError: the archive cannot be made or written.
        DicomStudyError: ``convert/bulk`` or ``convert/options``, an argument has no such value;
            ``convert/worker``, one of several processes was killed, or could not begin.

    The report tells of everything else that goes wrong (spec/archive.md).
    """
    if bulk not in {"copy", "reference"}:
        raise DicomStudyError("convert/bulk", f"bulk is 'copy' or 'reference', not {bulk!r}")
    if max_inline < 0 or jobs < 1:
        raise DicomStudyError("convert/options", "max_inline is at least 0, and jobs at least 1")
    if multiprocessing.current_process().daemon:
        jobs = 1  # it may have no processes of its own
    jobs = min(jobs, _PER_PROCESSOR * (os.cpu_count() or 1))
    target = create(path_named(archive))
    report = Report()
    with at_work(target.path), COLLECTOR.seldom():
        with writing(target.path):
            incoming = Path(tempfile.mkdtemp(dir=target.incoming))
        settings = Settings(target.path.resolve(), incoming.resolve(), bulk, max_inline, jobs == 1)
        try:
            _run(settings, sources, report, progress or silent, jobs)
        finally:
            remove_tree(incoming)
    report.problems.sort(key=lambda problem: (problem.source or "", problem.offset or 0))
    return report


class _Steps(NamedTuple):
    """The two steps, and what runs them: None for this process itself."""

    pool: Workers | None
    ingest: Callable[[list[tuple[str, int]]], Ingested]
    finish: Callable[[str], Finished]


@contextlib.contextmanager
def _steps(settings: Settings, jobs: int) -> Iterator[_Steps]:
    """The steps of one run."""
    if jobs == 1:
        ingester = Ingester(settings)

        def finish_held(study: str) -> Finished:
            return finish(settings, study, ingester.held(study))

        try:
            yield _Steps(None, ingester.ingest, finish_held)
        finally:
            with writing(settings.archive):
                ingester.close()
        return
    with workers(jobs, source=str(settings.archive)) as pool:
        yield _Steps(pool, partial(ingest, settings), partial(finish, settings))


def _run(
    settings: Settings,
    sources: Iterable[str | os.PathLike[str]],
    report: Report,
    progress: Progress,
    jobs: int,
) -> None:
    """Do both steps; what they remember is gone when this returns."""
    with _steps(settings, jobs) as steps:
        studies: set[str] = set()
        for done in _results(steps.pool, steps.ingest, _tasks(sources, report, settings)):
            report.files += done.files
            report.skipped += done.skipped
            report.quarantined += done.quarantined
            report.refused += done.refused
            report.bytes_in += done.bytes_in
            report.bytes_out += done.bytes_out
            report.problems += done.problems
            studies |= done.studies
            progress("files", report.files, None)
        work = _results(steps.pool, steps.finish, sorted(studies))
        for count, finished in enumerate(work, 1):
            report.instances += finished.added
            report.unchanged += finished.unchanged
            report.bytes_out += finished.bytes_out
            report.problems += finished.problems
            report.refused += len(finished.problems)
            progress("studies", count, len(studies))
        report.studies = len(studies)


def _tasks(
    sources: Iterable[str | os.PathLike[str]], report: Report, settings: Settings
) -> Iterator[list[tuple[str, int]]]:
    """Files in tasks: those of one folder are alike, and stay together where they can."""
    task: list[tuple[str, int]] = []
    size = before = 0
    last = ""
    for folder, path, length in _files(sources, report, settings):
        enough = _TASK_BYTES
        if not settings.alone:
            enough = min(enough, max(_LEAST_TASK_BYTES, before // _PARTS))
        full = size >= (enough if folder == last else enough // 4)
        if task and (full or len(task) >= _TASK_FILES):
            yield task
            before += size
            task, size = [], 0
        task.append((path, length))
        size += length
        last = folder
    if task:
        yield task


def _files(
    sources: Iterable[str | os.PathLike[str]], report: Report, settings: Settings
) -> Iterator[tuple[str, str, int]]:
    """Folder, path and length of each file; those of the archive itself are left out."""
    folder, inside = "", False
    refused = partial(other_archive, own=settings.archive)
    for found in find(sources, refused=refused):
        if found.problem is not None:
            report.problems.append(found.problem)
            report.refused += 1
            continue
        here = os.path.dirname(found.path) or "."  # noqa: PTH120 (as in `find`)
        if here != folder:
            folder = here
            inside = settings.archive in (Path(folder).resolve() / "_").parents
        if not inside:
            yield folder, found.path, found.size


def _results(
    pool: Workers | None, step: Callable[[_Given], _Result], values: Iterable[_Given]
) -> Iterator[_Result]:
    """The results of a step, in the order in which they are ready."""
    return map(step, values) if pool is None else pool.results(step, values)


def ingest(settings: Settings, task: list[tuple[str, int]]) -> Ingested:
    """Take files apart, in a worker, and leave their instances by study below ``incoming/``."""
    return _ingester(settings).ingest(task)


@lru_cache(maxsize=1)
def _ingester(settings: Settings) -> Ingester:
    """That of a worker, which has one run only."""
    return Ingester(settings)
