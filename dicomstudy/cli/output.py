"""What commands say: progress, problems and a summary."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self, TextIO

import click

from dicomstudy.errors import Problem
from dicomstudy.printable import escape

__all__ = [
    "INCOMPLETE",
    "IN_REPORT",
    "NO_REPORT",
    "STANDARD_OUTPUT",
    "Progress",
    "hush",
    "may_be_replaced",
    "quietly",
    "reported",
    "say",
    "show_problems",
    "summarize",
]

#: Exit status where something did not go in or come out.
INCOMPLETE = 1
#: The path that stands for standard output.
STANDARD_OUTPUT = Path("-")
#: Where all problems are, of a command that has reports.
IN_REPORT = "--report FILE.json lists all of them"
#: What is said of another file than a report.
NO_REPORT = "is no report, and is not replaced by one"
#: Fields of which a report has all those of one row, and hardly another file has.
_OF_REPORTS = {"bytes_out", "problems"}, {"groups", "values", "problems"}
_MOST_PROBLEMS = 50
_BAR = 24


def hush(stream: TextIO) -> None:
    """Let what is written to the file of a stream go nowhere from now on."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextlib.contextmanager
def quietly(stream: TextIO) -> Iterator[None]:
    """Hush a stream that cannot be written to: what was to be done matters more."""
    try:
        yield
    except OSError:
        with contextlib.suppress(OSError):  # it may have no file
            hush(stream)


def say(line: str) -> None:
    """Write a line to standard error, if that can be written."""
    with quietly(sys.stderr):
        click.echo(line, err=True)


class Progress:
    """How far a run has come: one line that changes on a terminal, else a line now and then."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty()
        self._pause = 0.1 if self._terminal else 5.0
        self._shown = time.monotonic()
        self._step = ""
        self._line = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._write()
        if self._terminal:
            self._put("\r\x1b[K")

    def __call__(self, step: str, done: int, total: int | None) -> None:
        """Show that `done` parts of a step are done, of `total` if that is known."""
        if step != self._step:
            self._write()  # how the step before ended, even if it was short
            self._step = step
        self._line = self._describe(step, done, total)
        now = time.monotonic()
        if now - self._shown >= self._pause:
            self._shown = now
            self._write()

    def _describe(self, step: str, done: int, total: int | None) -> str:
        if total is None:
            return f"{step}: {done:,}"
        if not self._terminal:
            return f"{step}: {done:,} of {total:,}"
        filled = _BAR * done // max(total, 1)
        return f"{step}: [{'#' * filled}{'-' * (_BAR - filled)}] {done:,} of {total:,}"

    def _write(self) -> None:
        if self._line:
            end = "" if self._terminal else "\n"
            start = "\r\x1b[K" if self._terminal else ""
            self._put(start + self._line + end)
            self._line = ""

    def _put(self, text: str) -> None:
        with quietly(self._stream):
            self._stream.write(text)
            self._stream.flush()


@contextlib.contextmanager
def reported(path: Path | None, to_json: Callable[[], str]) -> Iterator[None]:
    """Write a report, if there is a path, and then do what is inside.

    That it cannot be written is said last: by then it is said what was done. A report to standard
    output comes last itself, and nothing else goes there.
    """
    comes_last = path == STANDARD_OUTPUT
    failed = ""
    if path is not None and not comes_last:
        failed = _failed(lambda: _write_report(path, to_json()))
    with contextlib.ExitStack() as stack:
        if comes_last:
            stack.enter_context(quietly(sys.stderr))
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        yield
    if comes_last:
        failed = _failed(lambda: click.echo(to_json(), nl=False))
    if failed:
        name = "standard output" if comes_last else path
        raise click.BadParameter(f"{name} {failed}", param_hint="--report")


def _write_report(path: Path, report: str) -> str:
    """Write a report; why it is not written, if the run made some other file at its path."""
    from dicomstudy.disk import replacing

    if path.is_file() and not may_be_replaced(path):
        return NO_REPORT
    with replacing(path) as file:
        file.write(report.encode())
    return ""


def _failed(write: Callable[[], str | None]) -> str:
    """Why something is not written: what the system says, but that whoever read it has gone."""
    try:
        return write() or ""
    except BrokenPipeError:
        raise
    except OSError as error:
        return f"cannot be written: {error.strerror or error}"


def may_be_replaced(path: Path) -> bool:
    """Whether a file is empty, or a report that an earlier run wrote."""
    if not path.stat().st_size:
        return True
    with path.open("rb") as file:
        if file.read(1) != b"{":  # it may be a large one
            return False
    try:
        report: dict[str, object] = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return False
    has_fields = any(names <= report.keys() for names in _OF_REPORTS)
    return has_fields and isinstance(report["problems"], list)


def show_problems(problems: Sequence[Problem], *, more: str = "") -> None:
    """Write the first problems, one a line; `more` says where the others are."""
    for problem in problems[:_MOST_PROBLEMS]:
        line = "  ".join((problem.code, problem.source or "-", problem.message))
        say(escape(line))
    if len(problems) > _MOST_PROBLEMS:
        rest = f"... and {len(problems) - _MOST_PROBLEMS:,} problems more"
        say(f"{rest}; {more}" if more else rest)


def summarize(*parts: str) -> None:
    """Write what came of it, in one line."""
    click.echo("; ".join(parts))
