"""P10 files, folders, zip and tar files and instance records → an archive (spec/archive.md).

Two steps, of plain values, that any `concurrent.futures.Executor` can run: `ingest` takes files
apart and leaves what it found below ``incoming/``, sorted by study; `finish` makes or extends the
document of one study from that. One process alone holds in memory what it found, while that is
little. So memory is bounded by the largest study, whatever the order of the files.
"""

from __future__ import annotations

import contextlib
import gc
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

from dicomstudy import finishing
from dicomstudy.archive import create
from dicomstudy.disk import writing
from dicomstudy.elements import MAX_INLINE
from dicomstudy.errors import DicomStudyError, Problem
from dicomstudy.finishing import Finished
from dicomstudy.folder import Progress, at_work, other_archive, path_named, silent
from dicomstudy.ingestion import Ingested, Ingester, Settings
from dicomstudy.sources import find
from dicomstudy.unfinished import remove_tree

__all__ = ["Report", "convert"]

#: New objects after which the garbage collector looks for cycles; there are hardly any.
_COLLECT_AFTER = 500_000
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
class Report:
    """What a run did.

    Attributes:
        files: files that were looked at, those in zip and tar files one by one.
        skipped: files that are not DICOM.
        instances: instances that were added, or took the place of an equal one.
        studies: studies that those and the unchanged ones belong to.
        unchanged: instances that were there already, with equal content.
        quarantined: files that are kept whole because they belong to no study.
        bytes_in: bytes of the files that were taken in.
        bytes_out: bytes that were written to the archive.
        problems: defects, whether they kept a file out of the studies or not.
        refused: sources, files and studies of which something was not taken in at all.
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
        bulk: "copy" puts large values into the archive; "reference" leaves them in the files.
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
    with at_work(target.path), _COLLECTOR.seldom():
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

    executor: _Pool | None
    ingest: Callable[[list[tuple[str, int]]], Ingested]
    finish: Callable[[str], Finished]


@contextlib.contextmanager
def _steps(settings: Settings, jobs: int) -> Iterator[_Steps]:
    """The steps of one run; what waits is cancelled on an error."""
    if jobs == 1:
        ingester = Ingester(settings)

        def finish_held(study: str) -> Finished:
            return finishing.finish(settings, study, ingester.held(study))

        try:
            yield _Steps(None, ingester.ingest, finish_held)
        finally:
            with writing(settings.archive):
                ingester.close()
        return
    fork = sys.platform == "linux" and threading.active_count() == 1
    context = multiprocessing.get_context("fork" if fork else "spawn")
    pool = _Pool(jobs, context, initializer=_begin_worker)
    try:
        yield _Steps(pool, partial(ingest, settings), partial(finish, settings))
    except _NoWorker as error:
        why = (
            f"not all processes of this run could begin: {error.__cause__}. Run again with fewer "
            "jobs, or where memory, processes and open files are not as short"
        )
        raise DicomStudyError("convert/worker", why, source=str(settings.archive)) from error
    except BrokenProcessPool as error:
        why = (
            "a process of this run was killed, as systems do when memory is short: run again, "
            "with fewer jobs if it was"
        )
        if not fork:
            why += (
                ". Or it could not begin: where there are other threads, the script that calls "
                'this is imported anew, and needs `if __name__ == "__main__":` around what it does'
            )
        raise DicomStudyError("convert/worker", why, source=str(settings.archive)) from error
    finally:
        pool.end()


class _NoWorker(Exception):  # noqa: N818 (it says what there is, and becomes an error of ours)
    """The system has no process or thread to spare; the cause is what it said."""


class _Pool(ProcessPoolExecutor):
    """Processes that end with the run also where only some of them could begin.

    Of a pool without the thread that gives out its work, or whose thread has failed, no result
    ever comes, and its processes wait for ever.
    """

    @property
    def _thread(self) -> threading.Thread | None:
        """The one that gives out the work: a private attribute, which Python 3.9 to 3.13 have."""
        return cast("threading.Thread | None", self._executor_manager_thread)

    def submit(self, function: Callable[..., _Result], /, *given: Any, **named: Any) -> Any:
        try:
            return super().submit(function, *given, **named)
        except BrokenProcessPool:
            raise
        except (OSError, RuntimeError) as error:
            raise _NoWorker from error

    def wait(
        self, running: set[Future[_Result]]
    ) -> tuple[set[Future[_Result]], set[Future[_Result]]]:
        """Those of `running` that are done, one at least, and those that are not."""
        while True:
            is_lost = self._thread is None or not self._thread.is_alive()
            done, left = wait(running, 1, return_when=FIRST_COMPLETED)
            if done:
                return done, left
            if is_lost:
                raise _NoWorker from RuntimeError("the thread that gives out the work has ended")

    def end(self) -> None:
        """Return once all processes have ended; what waits is cancelled."""
        processes = [*(self._processes or {}).values()]
        has_begun = self._thread is not None and self._thread.ident is not None
        self.shutdown(wait=has_begun, cancel_futures=True)
        for process in processes:
            process.kill()  # nothing where it has ended
            process.join()


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
        for done in _map(steps.executor, steps.ingest, _tasks(sources, report, settings), jobs):
            report.files += done.files
            report.skipped += done.skipped
            report.quarantined += done.quarantined
            report.refused += done.refused
            report.bytes_in += done.bytes_in
            report.bytes_out += done.bytes_out
            report.problems += done.problems
            studies |= done.studies
            progress("files", report.files, None)
        work = _map(steps.executor, steps.finish, sorted(studies), jobs)
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


def _map(
    executor: _Pool | None,
    function: Callable[[_Given], _Result],
    values: Iterable[_Given],
    jobs: int,
) -> Iterator[_Result]:
    """The results of calls, in the order in which they are ready; few are under way at a time."""
    if executor is None:
        yield from map(function, values)
        return
    running: set[Future[_Result]] = set()
    for value in values:
        running.add(executor.submit(function, value))
        if len(running) >= 2 * jobs + 1:
            done, running = executor.wait(running)
            for future in done:
                yield future.result()
    while running:
        done, running = executor.wait(running)
        for future in done:
            yield future.result()


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for the process that waits for this one
    gc.set_threshold(_COLLECT_AFTER)
    with contextlib.suppress(RuntimeError):  # the system has no thread to spare: go on without
        threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when the one that gives it work is gone, which may have been killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class _Collector:
    """The garbage collector, which looks less often while a run is at work, in any thread.

    What is remembered would all be walked. There is one for the process, as its thresholds are.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs = 0
        self._before = gc.get_threshold()

    @contextlib.contextmanager
    def seldom(self) -> Iterator[None]:
        with self._lock:
            if not self._runs:
                self._before = often, *rest = gc.get_threshold()
                if often:  # otherwise it does not look at all
                    gc.set_threshold(max(often, _COLLECT_AFTER), *rest)
            self._runs += 1
        try:
            yield
        finally:
            with self._lock:
                self._runs -= 1
                if not self._runs:
                    gc.set_threshold(*self._before)


_COLLECTOR = _Collector()


def ingest(settings: Settings, task: list[tuple[str, int]]) -> Ingested:
    """Take files apart, in a worker, and leave their instances by study below ``incoming/``."""
    return _ingester(settings).ingest(task)


def finish(settings: Settings, study: str) -> Finished:
    """Make or extend the document of a study from what `ingest` left of it."""
    return finishing.finish(settings, study)


@lru_cache(maxsize=1)
def _ingester(settings: Settings) -> Ingester:
    """That of a worker, which has one run only."""
    return Ingester(settings)
