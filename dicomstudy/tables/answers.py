"""Files for answers: what may be replaced by one (spec/tables.md)."""

from __future__ import annotations

import os
from codecs import getincrementaldecoder
from pathlib import Path
from stat import S_ISREG

from dicomstudy.disk import status_of
from dicomstudy.errors import ArchiveError, TableError
from dicomstudy.folder import outside, path_named
from dicomstudy.tables import catalog

__all__ = ["place_for_answer"]

#: Of a file, so many bytes are looked at.
_START = 4096
#: How the names of answers in text end.
_SUFFIXES = frozenset(("", ".csv", ".json", ".txt"))


def place_for_answer(path: str | os.PathLike[str], *, text: bool) -> Path:
    """The path of a file for an answer, refused if another file would be lost.

    It stands in no archive and no folder of tables. Of files that are there, those are replaced
    that may be an earlier answer: what is in text does not tell.

    Args:
        path: the file.
        text: whether the answer is text, and not Parquet.

    Raises:
        ArchiveError: it is in an archive (``archive/inside``), or `path` is none
            (``archive/no-path``).
        TableError: it is in a folder of tables, something else is there, or it cannot be looked
            at (``tables/unwritable``).
    """
    file = path_named(path)
    try:
        there = status_of(file)
    except ArchiveError as error:
        raise TableError("tables/unwritable", error.message, source=str(path)) from error
    place = file.resolve()
    outside(place.parent)
    for folder in place.parents:
        if _has_tables(folder):
            message = f"{path} lies in the tables {folder}: name a file outside"
            raise TableError("tables/unwritable", message, source=str(path))
    if there is not None and S_ISREG(there.st_mode) and not _may_be_answer(file, text=text):
        message = f"{path} is no answer to a query, and is not replaced"
        raise TableError("tables/unwritable", message, source=str(path))
    return file


def _has_tables(folder: Path) -> bool:
    """Whether a folder has a catalog of tables, whole or not."""
    try:
        with (folder / catalog.NAME).open("rb") as file:
            return catalog.FORMAT.encode() in file.read(_START)
    except OSError:
        return False


def _may_be_answer(path: Path, *, text: bool) -> bool:
    """Whether a file is empty, Parquet, or, if `text`, UTF-8 named as such answers are."""
    try:
        with path.open("rb") as file:
            start = file.read(_START)
    except OSError as error:
        message = f"the file that would be replaced cannot be read: {error.strerror or error}"
        raise TableError("tables/unwritable", message, source=str(path)) from error
    if not start or start.startswith(b"PAR1"):
        return True
    try:
        found = getincrementaldecoder("utf-8")().decode(start)  # its last character may be cut
    except UnicodeDecodeError:
        return False
    return text and "\0" not in found and path.suffix.lower() in _SUFFIXES
