"""Processes that share the work of one run, and end with it.

Also how seldom the garbage collector looks while a run is at work, in any process.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import BaseContext
from typing import Any, TypeVar, cast

from dicomstudy.errors import DicomStudyError

__all__ = ["COLLECTOR", "Workers", "workers"]

#: New objects after which the garbage collector looks for cycles; there are hardly any.
_COLLECT_AFTER = 500_000

_Given = TypeVar("_Given")
_Result = TypeVar("_Result")


@contextlib.contextmanager
def workers(jobs: int, *, source: str) -> Iterator[Workers]:
    """So many processes; what waits for them is cancelled on an error.

    Args:
        jobs: how many.
        source: what they work at, for errors.

    Raises:
        DicomStudyError: one of them was killed, or could not begin (``convert/worker``).
    """
    fork = sys.platform == "linux" and threading.active_count() == 1
    pool: Workers | None = None
    try:
        pool = Workers(jobs, multiprocessing.get_context("fork" if fork else "spawn"))
        yield pool
    except _NoWorker as error:
        why = (
            f"not all processes of this run could begin: {error.__cause__}. Run again with fewer "
            "jobs, or where memory, processes and open files are not as short"
        )
        raise DicomStudyError("convert/worker", why, source=source) from error
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
        raise DicomStudyError("convert/worker", why, source=source) from error
    finally:
        if pool is not None:
            pool.end()


class _NoWorker(Exception):  # noqa: N818 (it says what there is, and becomes an error of ours)
    """The system has no process or thread to spare; the cause is what it said."""


class Workers(ProcessPoolExecutor):
    """Processes that end with the run also where only some of them could begin.

    `submit` and `results` raise what only `workers` turns into an error of ours. Of a pool without
    the thread that gives out its work, or whose thread has failed, no result ever comes, and its
    processes wait for ever.
    """

    def __init__(self, jobs: int, context: BaseContext) -> None:
        try:
            super().__init__(jobs, context, initializer=_begin)
        except OSError as error:  # it has no open files to spare
            raise _NoWorker from error
        self._jobs = jobs

    @property
    def _thread(self) -> threading.Thread | None:
        """The one that gives out the work: a private attribute, which Python 3.9 to 3.13 have."""
        return cast("threading.Thread | None", self._executor_manager_thread)

    def submit(self, function: Callable[..., _Result], /, *given: Any, **named: Any) -> Any:
        """As `ProcessPoolExecutor.submit`, where there is a process and a thread for it."""
        try:
            return super().submit(function, *given, **named)
        except BrokenProcessPool:
            raise
        except (OSError, RuntimeError) as error:
            raise _NoWorker from error

    def results(
        self, function: Callable[[_Given], _Result], values: Iterable[_Given]
    ) -> Iterator[_Result]:
        """The results of calls, in the order in which they are ready; few are under way at once."""
        running: set[Future[_Result]] = set()
        for value in values:
            running.add(self.submit(function, value))
            if len(running) >= 2 * self._jobs + 1:
                done, running = self._wait(running)
                for future in done:
                    yield future.result()
        while running:
            done, running = self._wait(running)
            for future in done:
                yield future.result()

    def _wait(
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


def _begin() -> None:
    """Begin the life of a worker."""
    for number in (signal.SIGINT, signal.SIGHUP):  # for the process that waits for this one
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # what that does with it is not for this one
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
        """Let it look less often meanwhile."""
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


COLLECTOR = _Collector()
