"""The error tree, and where in which input an error lies.

    DicomStudyError
    ├── DefinitionsError    formats/ is missing, damaged or of an unknown version
    ├── IonError            bytes that are not Ion, or values that Ion cannot hold
    ├── P10Error            bytes that cannot be taken apart as a Part 10 file
    ├── RecordError         an instance record that is not one, or cannot be encoded
    ├── BulkError           a large value that is missing, changed or damaged
    ├── StudyError          a study document that is not one, or is damaged
    ├── TableError          a table that is not one, is damaged, or does not fit the others
    └── ArchiveError        a folder that is not an archive, or cannot be written

Every error has a stable `code` (listed in spec/errors.md), a message that a person can act
on, and a `Location`. What is tolerated comes back as `Problem` values in a report.
"""

from __future__ import annotations

import errno
from typing import NamedTuple

__all__ = [
    "UNREADABLE",
    "UNWRITABLE",
    "ArchiveError",
    "BulkError",
    "DefinitionsError",
    "DicomStudyError",
    "IonError",
    "Location",
    "P10Error",
    "Problem",
    "RecordError",
    "StudyError",
    "TableError",
    "unwritable",
]

#: Codes after which a run ends: what comes next could not be written either.
UNWRITABLE = frozenset(("archive/full", "archive/unwritable"))
#: Of a study that cannot be read for the moment: what it has is not known, and may be all there.
UNREADABLE = frozenset(("archive/unreadable", "study/unreadable"))
#: What the system says where there is no room for more.
_NO_ROOM = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


class Location(NamedTuple):
    """Where something lies: a source (path or URI), a byte offset in it, a DICOM tag."""

    source: str | None = None
    offset: int | None = None
    tag: int | None = None

    def __str__(self) -> str:
        parts = []
        if self.source is not None:
            parts.append(self.source)
        if self.offset is not None:
            parts.append(f"at byte {self.offset}")
        if self.tag is not None:
            parts.append(f"in ({self.tag >> 16:04X},{self.tag & 0xFFFF:04X})")
        return " ".join(parts)


class Problem(NamedTuple):
    """One defect of an input that did not stop the work: a line of the report.

    `source` is a path or URI, or a UID where an archive is read; `code` is listed in
    spec/errors.md; `offset` counts bytes from the start of the source, and `tag` is eight
    upper-case hexadecimal digits, each None if unknown.
    """

    source: str | None
    code: str
    message: str
    offset: int | None = None
    tag: str | None = None


class DicomStudyError(Exception):
    """Base of every error that this package raises on purpose."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        source: str | None = None,
        offset: int | None = None,
        tag: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.location = Location(source, offset, tag)

    def __str__(self) -> str:
        where = str(self.location)
        return f"{self.message} [{self.code}]" + (f" ({where})" if where else "")

    def __reduce__(self) -> tuple[object, ...]:
        """Survive the way back from a worker process."""
        return _rebuild, (type(self), self.code, self.message, self.location)

    def problem(self, source: str | None = None) -> Problem:
        """The defect as a line of a report; `source` fills a location without one."""
        where = self.location
        tag = None if where.tag is None else f"{where.tag:08X}"
        return Problem(where.source or source, self.code, self.message, where.offset, tag)


def _rebuild(
    kind: type[DicomStudyError], code: str, message: str, where: Location
) -> DicomStudyError:
    return kind(code, message, source=where.source, offset=where.offset, tag=where.tag)


class DefinitionsError(DicomStudyError):
    """formats/ is missing, damaged or of a version that this package does not know."""


class IonError(DicomStudyError):
    """Bytes that are not Ion, or a value that Ion cannot hold (spec/ion.md)."""


class P10Error(DicomStudyError):
    """Bytes that cannot be taken apart as a Part 10 file (spec/p10.md)."""


class RecordError(DicomStudyError):
    """An instance record that is not one, or that cannot be encoded (spec/record.md)."""


class BulkError(DicomStudyError):
    """A large value that is missing, changed or damaged (spec/bulk.md)."""


class StudyError(DicomStudyError):
    """A study document that is not one, or is damaged (spec/study.md)."""


class TableError(DicomStudyError):
    """A table that is not one, is damaged, or does not fit the others (spec/tables.md)."""


class ArchiveError(DicomStudyError):
    """A folder that is not an archive, or that cannot be written (spec/archive.md)."""


def unwritable(message: str, error: OSError, *, source: str | None) -> ArchiveError:
    """The error for a write that the system refused; its code is one of `UNWRITABLE`."""
    code = "archive/full" if error.errno in _NO_ROOM else "archive/unwritable"
    return ArchiveError(code, f"{message}: {error.strerror or error}", source=source)
