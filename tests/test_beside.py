"""A thread beside the one that works."""

from __future__ import annotations

import gc
import signal
import threading
import time
import weakref

import pytest

from dicomstudy.beside import Beside, aside


def test_results_come_in_the_order_of_what_was_given() -> None:
    beside: Beside[int, tuple[int, int]] = Beside(lambda n: (n * n, threading.get_ident()))
    for number in range(5):
        beside.give(number)
    results = [beside.take() for _ in range(5)]
    beside.close()
    assert [square for square, _ in results] == [0, 1, 4, 9, 16]
    assert threading.get_ident() not in {thread for _, thread in results}


def test_all_that_was_given_is_done_before_it_is_closed() -> None:
    done: list[int] = []
    beside = Beside(done.append)
    for number in range(1000):
        beside.give(number)
    beside.close()
    assert done == list(range(1000))


def test_without_a_thread_to_spare_all_is_done_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def short(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("dicomstudy.beside.start_new_thread", short)
    beside: Beside[int, float] = Beside(lambda number: 1 / number)
    beside.give(1)
    with pytest.raises(ZeroDivisionError):
        beside.give(0)
    beside.give(2)
    assert [beside.take(), beside.take()] == [1, 0.5]
    beside.close()


def test_the_thread_ends_with_an_owner_who_forgets_it() -> None:

    def work(number: int) -> int:
        return number

    known = weakref.ref(work)
    beside: Beside[int, int] = Beside(work)
    beside.give(1)
    assert beside.take() == 1
    del beside, work
    gc.collect()
    until = time.monotonic() + 10
    while known() is not None and time.monotonic() < until:
        time.sleep(0.01)
    assert known() is None


def test_aside_is_another_thread() -> None:
    assert aside(threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        aside(lambda: 1 // 0)


def test_aside_is_here_where_there_is_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def short(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("dicomstudy.beside.start_new_thread", short)
    assert aside(threading.get_ident) == threading.get_ident()


@pytest.mark.usefixtures("ctrl_c")
def test_what_is_aside_is_told_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a Ctrl-C, until it does; then that is raised."""
    told = threading.Semaphore(0)
    main = threading.get_ident()
    monkeypatch.setattr("dicomstudy.beside._AGAIN", 0.01)

    def work() -> None:
        signal.pthread_kill(main, signal.SIGINT)
        for _ in range(2):
            told.acquire()

    with pytest.raises(KeyboardInterrupt):
        aside(work, told.release)


def test_what_is_over_is_told_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    told = threading.Semaphore(0)
    monkeypatch.setattr("dicomstudy.beside._AGAIN", 0.01)
    over = iter([False, False, True])
    assert aside(lambda: told.acquire(timeout=10), told.release, lambda: next(over))


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("error", [RuntimeError, MemoryError])
def test_a_ctrl_c_where_there_is_no_thread_is_no_wait(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)
        raise error

    monkeypatch.setattr("dicomstudy.beside.start_new_thread", short)
    with pytest.raises(KeyboardInterrupt):
        aside(threading.get_ident)


def test_what_the_function_raises_is_raised_for_whoever_asks() -> None:
    beside: Beside[int, float] = Beside(lambda number: 1 / number)
    for number in (1, 0, 2):
        beside.give(number)
    assert beside.take() == 1
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            beside.take()
    beside.close()
