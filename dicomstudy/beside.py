"""A thread beside the one that works, for what needs no lock of the interpreter."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Generic, NamedTuple, TypeVar

__all__ = ["Beside"]

_Given = TypeVar("_Given")
_Result = TypeVar("_Result")


class _Failed(NamedTuple):
    """Stands for the result of a call that raised."""

    error: BaseException


class Beside(Generic[_Given, _Result]):
    """Calls a function in a thread of its own, on one thing after another.

    The thread has a queue at each end and no code of ours between them: hardly ever does it
    hold the lock of the interpreter, for which the other one would wait. Where the system has no
    thread to spare, what is given is done at once, and what the function raises is raised there.

    Args:
        function: what is called; not on None.
    """

    def __init__(self, function: Callable[[_Given], _Result]) -> None:
        self._function = function
        self._given: SimpleQueue[_Given | None] = SimpleQueue()
        self._results: SimpleQueue[_Result | _Failed] = SimpleQueue()
        self._thread: Thread | None = Thread(target=self._work, daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self._thread = None

    def _work(self) -> None:
        try:
            results = map(self._function, iter(self._given.get, None))
            deque(map(self._results.put, results), maxlen=0)
        except BaseException as error:  # noqa: BLE001 (it is raised where results are taken)
            self._results.put(_Failed(error))

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

    def close(self) -> None:
        """End the thread, once it has done all that it was given, or has failed."""
        self._given.put(None)
        if self._thread is not None:
            self._thread.join()
