"""How many instances refer to each group, for more groups than memory should hold.

Kept by SQLite in a file that goes with the run.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Self

from dicomstudy.errors import ArchiveError

__all__ = ["Counts"]

_PRAGMAS = (
    *("journal_mode = OFF", "synchronous = OFF", "locking_mode = EXCLUSIVE"),
    "cache_size = -8192",  # KiB
)
_ADD = """
    INSERT INTO counts VALUES (?, ?)
    ON CONFLICT (digest) DO UPDATE SET count = count + excluded.count
"""
_FIND = "SELECT count FROM counts WHERE digest = ?"


class Counts:
    """A number for each digest, negative ones too; 0 for those that are not in it.

    Args:
        path: of the file, which must not be there.

    Raises:
        ArchiveError: the file cannot be written (``archive/unwritable``), by any method.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._writing():
            self._connection = sqlite3.connect(path, isolation_level=None)
            for pragma in _PRAGMAS:
                self._connection.execute(f"PRAGMA {pragma}")
            self._connection.execute(
                "CREATE TABLE counts (digest BLOB PRIMARY KEY, count INTEGER) WITHOUT ROWID"
            )

    def add(self, counts: Mapping[str, int]) -> None:
        """Add to the numbers of digests, which are in it from now on."""
        with self._writing():
            self._connection.execute("BEGIN")
            rows = ((digest.encode(), count) for digest, count in counts.items())
            self._connection.executemany(_ADD, rows)
            self._connection.execute("COMMIT")

    def of(self, digests: Iterable[str]) -> list[int]:
        """The numbers of digests."""
        return [self._found(digest) or 0 for digest in digests]

    def __contains__(self, digest: object) -> bool:
        return isinstance(digest, str) and self._found(digest) is not None

    def _found(self, digest: str) -> int | None:
        with self._writing():
            row = self._connection.execute(_FIND, (digest.encode(),)).fetchone()
        return None if row is None else int(row[0])

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise ArchiveError(
                "archive/unwritable", f"groups cannot be counted: {error}", source=str(self._path)
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
