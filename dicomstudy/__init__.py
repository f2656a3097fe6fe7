"""Keep and ask DICOM archives: one Amazon Ion document per study, and every file bit for bit.

What stands here is imported when it is asked for, so that the command line starts at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dicomstudy.archive import Archive, open_archive
    from dicomstudy.conversion import Report, convert
    from dicomstudy.errors import (
        ArchiveError,
        BulkError,
        DefinitionsError,
        DicomStudyError,
        IonError,
        Location,
        P10Error,
        Problem,
        RecordError,
        StudyError,
        TableError,
    )
    from dicomstudy.records import Recorded, write_records
    from dicomstudy.restoration import Restored, Verified, restore, verify
    from dicomstudy.study import Instance, Study
    from dicomstudy.tables import Exported, Result, Table, Tables, export_tables, open_tables

__all__ = [
    "Archive",
    "ArchiveError",
    "BulkError",
    "DefinitionsError",
    "DicomStudyError",
    "Exported",
    "Instance",
    "IonError",
    "Location",
    "P10Error",
    "Problem",
    "RecordError",
    "Recorded",
    "Report",
    "Restored",
    "Result",
    "Study",
    "StudyError",
    "Table",
    "TableError",
    "Tables",
    "Verified",
    "convert",
    "export_tables",
    "open_archive",
    "open_tables",
    "restore",
    "verify",
    "write_records",
]

_MODULES = {
    "archive": ("Archive", "open_archive"),
    "conversion": ("Report", "convert"),
    "records": ("Recorded", "write_records"),
    "restoration": ("Restored", "Verified", "restore", "verify"),
    "study": ("Instance", "Study"),
    "tables": ("Exported", "Result", "Table", "Tables", "export_tables", "open_tables"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
