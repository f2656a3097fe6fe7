"""What other runs move while the studies of an archive are read one after another (spec/moving.md).

What goes from a study that is not read yet to one that was is in neither of them, as they are read.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from dicomstudy.disk import mark_of
from dicomstudy.document import Document
from dicomstudy.errors import DicomStudyError
from dicomstudy.folder import Folder

__all__ = ["Seen"]


class Seen:
    """The documents of an archive that were read, each with the version that it was of.

    Args:
        archive: what they are of.
    """

    def __init__(self, archive: Folder) -> None:
        self._archive = archive
        self._documents: dict[str, tuple[int, int]] = {}
        #: Those that could not be opened, of which was told.
        self._failed: set[str] = set()

    def add(self, path: Path, document: Document | None) -> None:
        """Remember a document that is read now; None if it cannot be opened."""
        if document is None:
            self._failed.add(path.name)
        else:
            self._documents[path.name] = document.version, document.mark

    def again(self) -> list[tuple[Path, int]]:
        """Where instances came from elsewhere since: the documents that are to be read again.

        Of each, the version that was read; 0 if none was. That instances come by `convert` is not
        looked at: whoever reads need not wait for them.

        Raises:
            ArchiveError: as of `Folder.documents`.
        """
        since = ((path, self._since(path)) for path in self._archive.documents())
        return [(path, version) for path, version in since if version is not None]

    def _since(self, path: Path) -> int | None:
        """The version of a document after which instances came; None if none did."""
        version, mark = self._documents.get(path.name, (0, 0))
        with contextlib.suppress(OSError):  # the document says so itself
            if mark_of(path.stat()) == mark:
                return None
        try:
            with contextlib.closing(self._archive.document(path)) as document:
                if document.history.brings(version):
                    return version
                self._documents[path.name] = version, document.mark
        except DicomStudyError:
            is_told = path.name in self._failed or self._archive.is_gone(path)
            return None if is_told else 0
        return None
