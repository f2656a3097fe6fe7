"""Keep and ask DICOM archives: one Amazon Ion document per study, and every file bit for bit."""

from dicomstudy.archive import Archive, open_archive
from dicomstudy.convert import Report, convert
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
)
from dicomstudy.restore import restore, verify
from dicomstudy.study import Instance, Study

__all__ = [
    "Archive",
    "ArchiveError",
    "BulkError",
    "DefinitionsError",
    "DicomStudyError",
    "Instance",
    "IonError",
    "Location",
    "P10Error",
    "Problem",
    "RecordError",
    "Report",
    "Study",
    "StudyError",
    "convert",
    "open_archive",
    "restore",
    "verify",
]
