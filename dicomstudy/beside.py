"""A thread beside the one that works, for what needs no lock of the interpreter."""

from __future__ import annotations

import contextlib
import weakref
from _thread import LockType, allocate_lock, start_new_thread
from collections import deque
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

__all__ = ["Beside", "aside"]

#: Seconds until what is asked aside is told again to stop.
_AGAIN = 0.1

_Given = TypeVar("_Given")
_Result = TypeVar("_Result")


class _Failed(NamedTuple):
    """Stands for the result of a call that raised."""

    error: BaseException


_Inbox: TypeAlias = "SimpleQueue[_Given | Any]"
_Outbox: TypeAlias = "SimpleQueue[_Result | _Failed]"


class Beside(Generic[_Given, _Result]):
    """Calls a function in a thread of its own, on one thing after another.

    The thread has a queue at each end and no code of ours between them: hardly ever does it
    hold the lock of the interpreter, for which the other one would wait. It ends with its owner,
    too, should nobody close it. Where the system has no thread to spare, what is given is done at
    once, and what the function raises is raised there.

    Args:
        function: what is called.
    """

    def __init__(self, function: Callable[[_Given], _Result]) -> None:
        self._function = function
        self._given: _Inbox[_Given] = SimpleQueue()
        self._results: _Outbox[_Result] = SimpleQueue()
        #: Ends the thread. It comes into the queue when nobody has the owner any more, by no code
        #: of Python in which what the handler of a signal raises would be lost.
        self._end: Any = weakref.ref(self, self._given.put)
        work = partial(_work, function, self._given, self._end, self._results)
        self._has_thread = True
        self._ended = allocate_lock()
        self._ended.acquire()
        try:
            start_new_thread(_run, (work, self._ended))
        except RuntimeError:
            self._has_thread = False
            self._ended.release()

    def give(self, given: _Given) -> None:
        """Let the function be called on `given` as soon as there is time."""
        if self._has_thread:
            self._given.put(given)
        else:
            self._results.put(self._function(given))

    def take(self) -> _Result:
        """The result of the first call of which it was not taken yet, once it is there.

        Never returns if there is no such call. What the function raises is raised here, whenever
        a result is asked for from then on.
        """
        result = self._results.get()
        if isinstance(result, _Failed):
            self._results.put(result)  # whoever asks again is not left waiting
            raise result.error
        return result

    def close(self) -> None:
        """End the thread, once it has done all that it was given, or has failed."""
        self._given.put(self._end)
        with self._ended:
            pass


def aside(
    call: Callable[[], _Result],
    interrupt: Callable[[], object] = lambda: None,
    is_over: Callable[[], bool] = lambda: False,
) -> _Result:
    """What a function gives that knows nothing of signals, or has its own way with them.

    It is called in a thread of its own. What the handler of a signal raises, as Ctrl-C does, is
    raised here, and never in there: once the call has ended, which is told to `interrupt` until
    it does. So it is once it `is_over`.
    """
    outcome: list[_Result | _Failed] = []

    def work() -> None:
        try:
            outcome.append(call())
        except BaseException as error:  # noqa: BLE001 (it is raised where the result is awaited)
            outcome.append(_Failed(error))

    has_begun = False
    ended = allocate_lock()
    ended.acquire()
    try:
        with contextlib.suppress(RuntimeError):  # there is no thread to spare
            start_new_thread(_run, (work, ended))
            has_begun = True
        while has_begun and not ended.acquire(timeout=_AGAIN):
            if is_over():
                interrupt()
    finally:
        while has_begun and not outcome:
            interrupt()
            ended.acquire(timeout=_AGAIN)
    if not has_begun:
        work()
    (result,) = outcome
    if isinstance(result, _Failed):
        raise result.error
    return result


def _run(work: Callable[[], object], ended: LockType) -> None:
    """What a thread does, as a `Thread` would.

    That calls Python while it is started, and when it is forgotten: what the handler of a signal
    raises there is lost, or the thread.
    """
    try:
        work()
    finally:
        ended.release()


def _work(
    function: Callable[[_Given], _Result],
    given: _Inbox[_Given],
    end: object,
    results: _Outbox[_Result],
) -> None:
    """What the thread does. It knows nothing of its owner, who may be forgotten."""
    try:
        deque(map(results.put, map(function, iter(given.get, end))), maxlen=0)
    except BaseException as error:  # noqa: BLE001 (it is raised where results are taken)
        results.put(_Failed(error))
