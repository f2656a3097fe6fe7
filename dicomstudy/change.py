"""One change of a study: its lock is held, and its document replaced at once (spec/history.md).

What comes from another study brings its large values before.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dicomstudy.archive import AnyArchive, Archive, opened
from dicomstudy.bulk import BulkFile, Places, append
from dicomstudy.disk import is_there, sync, write_atomically, writing
from dicomstudy.document import Document, encode_version
from dicomstudy.errors import ArchiveError
from dicomstudy.folder import at_work, locked
from dicomstudy.grouping import Batch, Entry
from dicomstudy.lineage import History

if TYPE_CHECKING:
    from dicomstudy.study import Study

__all__ = ["Change", "bring_values", "changing", "held", "stored_in"]


@dataclass(frozen=True, slots=True)
class Change:
    """A study that is about to be changed, as it is before."""

    archive: Archive
    path: Path
    document: Document

    @property
    def history(self) -> History:
        """The versions of the study."""
        return self.document.history

    def write(self, frames: Iterable[bytes]) -> int:
        """Replace the document, and return the size of the new one."""
        return write_atomically(self.path, frames, within=self.archive.incoming)

    def write_version(self, batch: Batch, history: History, *, bulk: BulkFile | None = None) -> int:
        """Replace the document by that of a version, and return its size.

        Args:
            batch: the instances of all versions.
            history: the versions.
            bulk: its bulk file, if that is not as it was.
        """
        return self.write(
            encode_version(
                self.document.study,
                batch,
                self.archive.definitions,
                history=history,
                bulk=self.document.bulk if bulk is None else bulk,
            )
        )


def bring_values(
    entries: list[Entry], source: Study, batch: Batch, bulk: Path, end: int
) -> tuple[int, list[Entry]]:
    """Copy the large values of instances to the bulk file of another study, those it has not.

    Args:
        entries: the instances, with the places that the values have in the bulk file of `source`.
        source: the study that has them.
        batch: what is or was in the other study.
        bulk: its bulk file.
        end: how much of that file belongs to its document.

    Returns where the bulk file ends then, which is on disk, and the instances with places in it.
    """
    places = stored_in(batch.entries)
    wanted = {sha256: p for sha256, p in stored_in(entries).items() if sha256 not in places}
    if wanted:
        values = {sha256: (source.bulk, place) for sha256, place in wanted.items()}
        end, copied = append(bulk, values, end)
        places |= copied
        sync(bulk.parent)
    return end, [entry.stored_at(places) for entry in entries]


def stored_in(entries: Iterable[Entry]) -> Places:
    """The places of the large values of instances that lie in a bulk file, by SHA-256."""
    return {
        sha256: place
        for entry in entries
        for sha256, place in entry.places.items()
        if "stored" in place
    }


@contextlib.contextmanager
def changing(
    archive: AnyArchive, study: str | Path, *, expect: int | None = None
) -> Iterator[Change]:
    """Hold the lock of a study while it is changed; whoever else writes to it waits.

    Args:
        archive: the archive, or its folder.
        study: the Study Instance UID, or the path of the document.
        expect: the number of the version that is to be changed; None for whatever there is.

    Raises:
        ArchiveError: there is no such study, it is of another version than `expect`
            (``archive/moved-on``), or it cannot be written.
        StudyError: the document is damaged, or that of another study.
    """
    archive = opened(archive)
    path = _path_of(archive, study)
    if path is None or not archive.has(path):  # there may be no folder for a lock either
        raise archive.not_found(study)
    with at_work(archive.path), writing(archive.path), locked(path):
        if not is_there(path):
            raise archive.not_found(study)
        with held(archive, path) as change:
            current = change.history.current
            if expect not in {None, current}:
                raise ArchiveError(
                    "archive/moved-on",
                    f"the study is of version {current} by now, not of version {expect}: look "
                    "what changed, and try again",
                    source=str(path),
                )
            yield change


def _path_of(archive: Archive, study: object) -> Path | None:
    """The path of the document that is meant; None if that is no study.

    So it may be where no type checker looks, as with a UID that was not found.
    """
    if isinstance(study, str):
        return archive.document_path(study)
    return study if isinstance(study, Path) else None


@contextlib.contextmanager
def held(archive: Archive, path: Path) -> Iterator[Change]:
    """Change a study whose lock is held already, and whose document is at `path`.

    Raises:
        StudyError: the document is damaged, or that of another study.
    """
    with contextlib.closing(archive.document(path)) as document:
        yield Change(archive, path, document)
