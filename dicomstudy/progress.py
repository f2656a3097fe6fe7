"""How far a run has come: who is told, and what becomes of an error of theirs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self, TypeAlias

__all__ = ["Progress", "Told", "silent"]

#: Is told how far a run has come: the step, how much of it is done, and of how much if known.
Progress: TypeAlias = Callable[[str, int, int | None], None]


def silent(step: str, done: int, total: int | None) -> None:
    """Progress that is not shown."""


class _Raised(BaseException):
    """Carries what was raised past all that would make another error of it."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class Told:
    """Who is told how far a run has come. What that raises is raised as it is.

    For runs that make something of the errors that they meet: of a disk that is full, say.
    """

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress or silent

    def __call__(self, step: str, done: int, total: int | None) -> None:
        """Tell it."""
        try:
            self._progress(step, done, total)
        except Exception as error:
            raise _Raised(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _type: object, raised: BaseException | None, _traceback: object) -> None:
        if isinstance(raised, _Raised):
            raise raised.error from raised.error.__cause__
