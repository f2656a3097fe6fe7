"""The command line: arguments, progress and exit codes; all else is the library's.

Exit status: 0 all went in or came out, 1 something did not, 2 wrong usage, 130 Ctrl-C
(what else ends a run as Ctrl-C does is in `dicomstudy.__main__`).
What was asked for goes to standard output; progress, problems and errors to standard error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper

import click

from dicomstudy.cli import archives, changes, deidentification, moves, tables
from dicomstudy.cli.group import InterruptedRun, commands
from dicomstudy.cli.output import INCOMPLETE, hush, quietly, say
from dicomstudy.errors import DicomStudyError
from dicomstudy.printable import escape

__all__ = [
    "INCOMPLETE",
    "INTERRUPTED",
    "USAGE",
    "archives",
    "changes",
    "deidentification",
    "main",
    "moves",
    "tables",
]

USAGE, INTERRUPTED = 2, 130

#: Errors that lie in what was asked for, not in what was found there.
_USAGE_CODES = frozenset(
    (
        "archive/inside",
        "archive/no-path",
        "archive/no-version",
        "archive/not-an-archive",
        "archive/not-empty",
        "archive/not-found",
        "archive/unknown-version",
        "archive/unwritable",
        "change/conflict",
        "change/fields",
        "change/file",
        "change/group",
        "change/level",
        "change/no-creator",
        "change/no-item",
        "change/nothing",
        "change/place",
        "change/protected",
        "change/series",
        "change/study",
        "change/twice",
        "change/unknown-keyword",
        "change/value",
        "convert/bulk",
        "convert/options",
        "deidentify/key",
        "deidentify/option",
        "deidentify/options",
        "deidentify/profile",
        "records/options",
        "records/unwritable",
        "tables/no-column",
        "tables/no-extra",
        "tables/no-table",
        "tables/not-empty",
        "tables/not-tables",
        "tables/path",
        "tables/query",
        "tables/read-only",
        "tables/unknown-version",
        "tables/unwritable",
    )
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, and return its exit status.

    Args:
        arguments: those behind the program's name; those of this process if None.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # whoever started this process has closed it
            nowhere = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 (stays open)
            setattr(sys, name, nowhere)
        elif isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = commands.main(arguments, "dicomstudy", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        with quietly(sys.stderr):
            error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt, InterruptedRun) as error:
        why = error.__cause__ or error
        say("; ".join(["interrupted", *map(escape, getattr(why, "__notes__", ()))]))
        return INTERRUPTED
    except BrokenPipeError:
        hush(sys.stdout)  # whoever read it has gone
        return INCOMPLETE
    except (DicomStudyError, OSError) as error:
        return _failed(error)
    except (MemoryError, RuntimeError) as error:
        if not _is_short(error):
            raise
    else:
        return int(status or 0)
    # what the run held is let go of by now; nothing is imported, which there may be no memory for
    short = DicomStudyError(
        "system/memory",
        "the memory or the threads of this process did not suffice: run again where there are "
        "more, or with fewer jobs",
    )
    say(f"error: {short}")
    return INCOMPLETE


def _is_short(error: MemoryError | RuntimeError) -> bool:
    """Whether the system had something not to spare; no thread is said in words only."""
    return isinstance(error, MemoryError) or "can't start new thread" in str(error)


def _failed(error: DicomStudyError | OSError) -> int:
    """Show an error in one line, and return the exit status for it."""
    say(f"error: {escape(str(error))}")
    wrong = isinstance(error, DicomStudyError) and error.code in _USAGE_CODES
    return USAGE if wrong else INCOMPLETE
