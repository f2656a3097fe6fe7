"""Keep and ask DICOM archives: one Amazon Ion document per study, and every file bit for bit.

`convert` files into an archive, `open_archive` it, `restore` the files: README.md shows the rest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dicomstudy.archive import Archive, open_archive, open_study
    from dicomstudy.collection import Collected, collect
    from dicomstudy.conversion import Report, convert
    from dicomstudy.deidentification import Deidentified, Risk, deidentify
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
    from dicomstudy.lineage import Version
    from dicomstudy.moving import Moved, merge, move, split
    from dicomstudy.quality import Conflict, Side, conflicts, resolve
    from dicomstudy.records import Recorded, write_records
    from dicomstudy.restoration import Restored, restore
    from dicomstudy.study import Instance, Study
    from dicomstudy.tables import Exported, Result, Table, Tables, export_tables, open_tables
    from dicomstudy.updating import update
    from dicomstudy.verification import Verified, verify
    from dicomstudy.versioning import delete, history, revert

__all__ = [
    "Archive",
    "ArchiveError",
    "BulkError",
    "Collected",
    "Conflict",
    "DefinitionsError",
    "Deidentified",
    "DicomStudyError",
    "Exported",
    "Instance",
    "IonError",
    "Location",
    "Moved",
    "P10Error",
    "Problem",
    "RecordError",
    "Recorded",
    "Report",
    "Restored",
    "Result",
    "Risk",
    "Side",
    "Study",
    "StudyError",
    "Table",
    "TableError",
    "Tables",
    "Verified",
    "Version",
    "collect",
    "conflicts",
    "convert",
    "deidentify",
    "delete",
    "export_tables",
    "history",
    "merge",
    "move",
    "open_archive",
    "open_study",
    "open_tables",
    "resolve",
    "restore",
    "revert",
    "split",
    "update",
    "verify",
    "write_records",
]

#: Imported when a name of theirs is asked for, so that the command line starts at once.
_MODULES = {
    "archive": ("Archive", "open_archive", "open_study"),
    "collection": ("Collected", "collect"),
    "conversion": ("Report", "convert"),
    "deidentification": ("Deidentified", "Risk", "deidentify"),
    "lineage": ("Version",),
    "moving": ("Moved", "merge", "move", "split"),
    "quality": ("Conflict", "Side", "conflicts", "resolve"),
    "records": ("Recorded", "write_records"),
    "restoration": ("Restored", "restore"),
    "study": ("Instance", "Study"),
    "updating": ("update",),
    "verification": ("Verified", "verify"),
    "versioning": ("delete", "history", "revert"),
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
