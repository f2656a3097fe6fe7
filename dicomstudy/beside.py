"""A thread beside the one that works, for what needs no lock of the interpreter."""

from __future__ import annotations

import weakref
from _thread import allocate_lock, start_new_thread
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Generic, NamedTuple, TypeAlias, TypeVar

__all__ = ["Beside", "aside"]

#: Seconds until what is asked aside is told again to stop.
_AGAIN = 0.1

_Given = TypeVar("_Given")
_Result = TypeVar("_Result")


class _Failed(NamedTuple):
    """Stands for the result of a call that raised."""

    error: BaseException


_Inbox: TypeAlias = "SimpleQueue[_Given | None]"
_Outbox: TypeAlias = "SimpleQueue[_Result | _Failed]"


class Beside(Generic[_Given, _Result]):
    """Calls a function in a thread of its own, on one thing after another.

    The thread has a queue at each end and no code of ours between them: hardly ever does it
    hold the lock of the interpreter, for which the other one would wait. It ends with its owner,
    too, should nobody close it. Where the system has no thread to spare, what is given is done at
    once, and what the function raises is raised there.

    Args:
        function: what is called; not on None.
    """

    def __init__(self, function: Callable[[_Given], _Result]) -> None:
        self._function = function
        self._given: _Inbox[_Given] = SimpleQueue()
        self._results: _Outbox[_Result] = SimpleQueue()
        weakref.finalize(self, self._given.put, None)
        work = (function, self._given, self._results)
        self._thread: Thread | None = Thread(target=_work, args=work, daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self._thread = None

    def give(self, given: _Given) -> None:
        """Let the function be called on `given` as soon as there is time."""
        if self._thread is None:
            self._results.put(self._function(given))
        else:
            self._given.put(given)

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

    def close(self, timeout: float | None = None) -> bool:
        """End the thread, once it has done all that it was given, or has failed.

        Whether it has ended, for which no more than `timeout` seconds are waited.
        """
        self._given.put(None)
        if self._thread is None:
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()


def aside(call: Callable[[], _Result], interrupt: Callable[[], object] = lambda: None) -> _Result:
    """What a function gives that knows nothing of signals, or has its own way with them.

    It is called in a thread of its own. What the handler of a signal raises, as Ctrl-C does, is
    raised here, and never in there: once the call has ended, which is told to `interrupt` until
    it does.
    """
    outcome: list[_Result | _Failed] = []
    ended = allocate_lock()
    ended.acquire()

    def work() -> None:
        try:
            outcome.append(call())
        except BaseException as error:  # noqa: BLE001 (it is raised where the result is awaited)
            outcome.append(_Failed(error))
        finally:
            ended.release()

    try:
        # A `Thread` calls Python when it is forgotten, where what handlers raise is lost.
        try:
            start_new_thread(work, ())
        except RuntimeError:  # there is none to spare
            work()
        ended.acquire()
    finally:
        while not outcome:
            interrupt()
            ended.acquire(timeout=_AGAIN)
    (result,) = outcome
    if isinstance(result, _Failed):
        raise result.error
    return result


def _work(
    function: Callable[[_Given], _Result], given: _Inbox[_Given], results: _Outbox[_Result]
) -> None:
    """What the thread does. It knows nothing of its owner, who may be forgotten."""
    try:
        deque(map(results.put, map(function, iter(given.get, None))), maxlen=0)
    except BaseException as error:  # noqa: BLE001 (it is raised where results are taken)
        results.put(_Failed(error))
