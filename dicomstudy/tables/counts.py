"""How many instances refer to each group, and its VRs, for more groups than memory should hold.

Kept by SQLite in a file that goes with the run.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Self

from dicomstudy.errors import ArchiveError
from dicomstudy.tables.star import Known

__all__ = ["Counts"]

_PRAGMAS = (
    *("journal_mode = OFF", "synchronous = OFF", "locking_mode = EXCLUSIVE"),
    "cache_size = -8192",  # KiB
)
_ADD = """
    INSERT INTO counts (digest, count) VALUES (?, ?)
    ON CONFLICT (digest) DO UPDATE SET count = count + excluded.count
"""
_KNOW = """
    INSERT INTO counts (digest, count, said, row) VALUES (?, 0, ?, ?)
    ON CONFLICT (digest) DO UPDATE SET said = excluded.said, row = excluded.row
"""
_FIND = "SELECT count, said, row FROM counts WHERE digest = ?"


class Counts:
    """A number for each digest, negative ones too; 0 for those that are not in it.

    Args:
        path: of the file, which must not be there.

    Raises:
        ArchiveError: the file cannot be written (``archive/unwritable``), by any method.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        #: What is said of VRs is the same of very many groups.
        self._texts: list[str] = []
        self._numbers: dict[str, int] = {}
        with self._writing():
            self._connection = sqlite3.connect(path, isolation_level=None)
            for pragma in _PRAGMAS:
                self._connection.execute(f"PRAGMA {pragma}")
            self._connection.execute(
                "CREATE TABLE counts"
                " (digest BLOB PRIMARY KEY, count INTEGER, said INTEGER, row INTEGER) WITHOUT ROWID"
            )

    def add(self, counts: Mapping[str, int]) -> None:
        """Add to the numbers of digests, which are in it from now on."""
        with self._writing():
            self._connection.execute("BEGIN")
            rows = ((digest.encode(), count) for digest, count in counts.items())
            self._connection.executemany(_ADD, rows)
            self._connection.execute("COMMIT")

    def know(self, vrs: Mapping[str, Known]) -> None:
        """Keep the VRs of groups, which are in it from now on."""
        with self._writing():
            self._connection.execute("BEGIN")
            rows = (
                (digest.encode(), self._number(known.said), self._number(known.row))
                for digest, known in vrs.items()
            )
            self._connection.executemany(_KNOW, rows)
            self._connection.execute("COMMIT")

    def of(self, digests: Iterable[str]) -> list[int]:
        """The numbers of digests."""
        found = map(self._found, digests)
        return [0 if row is None else row[0] for row in found]

    def known(self, digest: str) -> Known | None:
        """The VRs of a group; None if they are not known."""
        _, said, row = self._found(digest) or (0, None, None)
        if row is None:
            return None
        return Known(None if said is None else self._texts[said], self._texts[row])

    def _found(self, digest: str) -> tuple[int, int | None, int | None] | None:
        with self._writing():
            row: tuple[int, int | None, int | None] | None = self._connection.execute(
                _FIND, (digest.encode(),)
            ).fetchone()
        return row

    def _number(self, text: str | None) -> int | None:
        """The number that stands for a text."""
        if text is None:
            return None
        number = self._numbers.setdefault(text, len(self._texts))
        if number == len(self._texts):
            self._texts.append(text)
        return number

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            is_full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
            raise ArchiveError(
                "archive/full" if is_full else "archive/unwritable",
                f"groups cannot be counted: {error}",
                source=str(self._path),
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
