"""What other runs move while the studies of an archive are read one after another (spec/moving.md).

What goes from a study that is not read yet to one that was is in neither of them, as they are read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from pathlib import Path

from dicomstudy.disk import mark_of
from dicomstudy.document import Document
from dicomstudy.errors import ArchiveError, DicomStudyError
from dicomstudy.folder import Folder, Listed

__all__ = ["MOST_LOOKS", "Seen", "changing"]

#: So often is an archive looked at again; then it is said that there is no end of it.
MOST_LOOKS = 16


class Seen:
    """The documents of an archive that were read, and what could not be read of it.

    Args:
        archive: what they are of.
        uids: those of the studies that are read; None for all.
    """

    def __init__(self, archive: Folder, uids: Collection[str] | None = None) -> None:
        self._archive = archive
        self._uids = uids
        #: Version and mark of each; version 0 of one that is new, and need not be read.
        self._documents: dict[str, tuple[int, int]] = {}
        self._failed: set[str] = set()
        self._looks = 0

    def add(self, path: Path, document: Document | None) -> bool:
        """Remember a document that is read now, None if it cannot be.

        Returns whether it was read before.
        """
        name = _name(path)
        version, _ = self._documents.get(name, (0, 0))
        if document is None:
            self._failed.add(name)
        else:
            mark = 0  # where the system does not tell it, this is to be read again
            with contextlib.suppress(DicomStudyError):
                mark = document.mark
            self._documents[name] = document.version, mark
        return version > 0

    def again(self) -> list[Listed]:
        """What is to be read again, as instances were moved since; at last, that there is no end.

        That they come by `convert` is no reason: nobody waits for those.
        """
        while True:
            there: set[str] = set()
            coming: list[Listed] = []
            for path, error in self._archive.listing(self._uids):
                there.add(_name(path))
                if self._is_to_be_read(path, error):
                    coming.append((path, error))
            gone = self._documents.keys() - there
            for name in gone:
                del self._documents[name]
            if coming or not gone:  # what went to another one and is gone may have passed by
                break
        self._looks += 1
        if not coming or self._looks <= MOST_LOOKS:
            return coming
        is_told = self._looks > MOST_LOOKS + 1
        return [] if is_told else [(self._archive.path, changing(self._archive.path))]

    def _is_to_be_read(self, path: Path, error: ArchiveError | None) -> bool:
        name = _name(path)
        if error is not None:
            return name not in self._failed
        version, mark = self._documents.get(name, (0, 0))
        with contextlib.suppress(OSError):  # the document says so itself
            if mark_of(path.stat()) == mark:
                return False
        try:
            with contextlib.closing(self._archive.document(path)) as document:
                # one of the same version was written otherwise, or made anew
                if document.version > version and not document.history.moved(version):
                    self._documents[name] = version, document.mark
                    return False
        except DicomStudyError:
            return name not in self._failed and not self._archive.is_gone(path)
        return True


def changing(path: Path) -> ArchiveError:
    """The error that other runs do not let an archive be read to its end."""
    message = (
        "other runs move instances while the archive is read, again and again, so that some may "
        "be missed: run this again when they are done"
    )
    return ArchiveError("archive/changing", message, source=str(path))


def _name(path: Path) -> str:
    """The path within the archive; that of a folder is that of no document."""
    return f"{path.parent.name}/{path.name}"
