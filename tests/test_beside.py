"""A thread beside the one that works."""

from __future__ import annotations

import threading

import pytest

from dicomstudy.beside import Beside


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
    def short(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", short)
    beside: Beside[int, float] = Beside(lambda number: 1 / number)
    beside.give(1)
    with pytest.raises(ZeroDivisionError):
        beside.give(0)
    beside.give(2)
    assert [beside.take(), beside.take()] == [1, 0.5]
    beside.close()


def test_what_the_function_raises_is_raised_for_whoever_asks() -> None:
    beside: Beside[int, float] = Beside(lambda number: 1 / number)
    for number in (1, 0, 2):
        beside.give(number)
    assert beside.take() == 1
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            beside.take()
    beside.close()
