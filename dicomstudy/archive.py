"""A folder of study documents (spec/archive.md).

    archive.ion                          what it is, and which definitions wrote it
    studies/<aa>/<study>.ion.zst         one document per study
    studies/<aa>/<study>.bulk            its large values
    quarantine/<sha256>, <sha256>.ion    files that are in no study, and why
    incoming/                            what a run has not finished; nothing refers to it

A document appears by rename after its bulk is on disk, so that it is whole at every moment.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, ItemsView, Iterable, Iterator, Mapping, ValuesView
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from dicomstudy import definitions
from dicomstudy.disk import entries
from dicomstudy.document import Document
from dicomstudy.errors import ArchiveError, DicomStudyError
from dicomstudy.folder import (
    DOCUMENT,
    Folder,
    Listed,
    bulk_beside,
    make,
    name_of,
    path_named,
)
from dicomstudy.meanwhile import Seen
from dicomstudy.quarantine import Quarantined, kept_in
from dicomstudy.sources import SourceFiles, listed

if TYPE_CHECKING:
    from dicomstudy.study import Study
    from dicomstudy.tables import Tables

__all__ = ["AnyArchive", "Archive", "create", "open_archive", "open_study", "opened"]


class Archive(Folder, Mapping[str, "Study"]):
    """The studies of an archive by their Study Instance UID, each loaded when asked for.

    Args:
        path: the folder.
        sources: folders that have the P10 files of an archive by reference, if they moved.

    Raises:
        ArchiveError: the folder is no archive, or of an unknown version.
    """

    def __repr__(self) -> str:
        return f"Archive({str(self.path)!r})"

    __hash__ = object.__hash__
    __eq__ = object.__eq__

    def __getitem__(self, uid: str) -> Study:
        if uid not in self:
            raise KeyError(uid)
        return self.open(self.document_path(uid))

    def items(self) -> ItemsView[str, Study]:
        """All UIDs with their studies, but for those that are collected meanwhile."""
        return _Items(self)

    def values(self) -> ValuesView[Study]:
        """All studies, but for those that are collected meanwhile."""
        return _Values(self)

    def studies(self) -> Iterator[tuple[Path, Study | DicomStudyError]]:
        """Every document, opened, or what is wrong with it; the caller closes it.

        A folder of documents that cannot be read is like one of them. A study that is collected
        meanwhile is left out.
        """
        yield from self._opened(self.listing())

    def all_studies(
        self, uids: Collection[str] | None = None
    ) -> Iterator[tuple[Path, Study | DicomStudyError, bool]]:
        """As `studies`, so that no instance is missed that another run moves meanwhile.

        A study that instances may have come to or gone from since it was given comes again as it
        is then, and True with it (spec/moving.md).

        Args:
            uids: those of the studies that are asked for; None for all.
        """
        seen = Seen(self, uids)
        coming: Iterable[Listed] = self.listing(uids)
        while coming:
            for path, study in self._opened(coming):
                document = None if isinstance(study, DicomStudyError) else study.document
                yield path, study, seen.add(path, document)
            coming = seen.again()

    def _opened(self, listed: Iterable[Listed]) -> Iterator[tuple[Path, Study | DicomStudyError]]:
        for path, unreadable in listed:
            if unreadable is not None:
                yield path, unreadable
                continue
            try:
                yield path, self.open(path)
            except DicomStudyError as error:
                if not self.is_gone(path):
                    yield path, error

    def __contains__(self, uid: object) -> bool:
        return isinstance(uid, str) and self.has(self.document_path(uid))

    def __iter__(self) -> Iterator[str]:
        """The UIDs of all studies whose documents can be opened (`studies` has the others)."""
        for path in self.documents():
            name = path.name.removesuffix(DOCUMENT)
            if name_of(name) == name:
                yield name
                continue
            with contextlib.suppress(DicomStudyError):
                document = Document(path)
                document.close()
                yield document.study

    def __len__(self) -> int:
        return sum(1 for _ in self.documents())

    def find(
        self, uid: str, *, damaged: list[DicomStudyError] | None = None
    ) -> list[tuple[Study, list[str]]]:
        """The studies that have a study, series or instance with this UID, and its instances.

        Reads the headers of all documents, and the chunks that may have it.

        Args:
            uid: what to look for.
            damaged: gets what is wrong with documents that could not be looked into.

        Raises:
            DicomStudyError: nothing was found, and a document that may have it is damaged.
        """
        if uid in self:
            whole = self[uid]
            return [(whole, list(whole))]
        found: dict[Path, tuple[Study, list[str]]] = {}
        errors: dict[Path, DicomStudyError] = {}
        for path, study, _ in self.all_studies():
            if path in found:  # as it was before
                found.pop(path)[0].close()
            errors.pop(path, None)
            if isinstance(study, DicomStudyError):
                errors[path] = study
                continue
            try:
                keys = study.keys_of(uid)
            except DicomStudyError as error:
                errors[path], keys = error, []
            if keys:
                found[path] = study, keys
            else:
                study.close()
        if errors and not found:
            raise next(iter(errors.values()))
        if damaged is not None:
            damaged += errors.values()
        return list(found.values())

    def not_found(self, study: str | Path) -> ArchiveError:
        """The error that there is no such study."""
        message = f"the archive has no study {study}"
        return ArchiveError("archive/not-found", message, source=str(self.path))

    def tables(self) -> Tables:
        """Tables of the documents as they are now, for questions (spec/tables.md).

        They are made in a temporary folder, which goes when they are closed. Ask often, or of
        many studies, and `export_tables` into a folder of your own is the better way.
        """
        from dicomstudy.tables import tables_of  # noqa: PLC0415 (pyarrow takes long to import)

        return tables_of(self)

    def quarantined(self) -> Iterator[Quarantined]:
        """The files in quarantine; the name of each is its SHA-256.

        Where there is no note that says why, as of a file that a run is just bringing or that
        one left that was killed, the code is ``archive/no-note``; where the note is damaged,
        ``archive/damaged``; where the system refuses to read it, ``archive/unreadable``.

        Raises:
            ArchiveError: the folder cannot be read (``archive/unreadable``), or the archive is
                gone (``archive/not-an-archive``).
        """
        paths = entries(self.quarantine)
        if not paths:
            self.check_there()
        yield from kept_in(self.quarantine, [path.name for path in paths])


class _Items(ItemsView[str, "Study"]):
    _mapping: Archive

    def __iter__(self) -> Iterator[tuple[str, Study]]:
        for uid in self._mapping:
            path = self._mapping.document_path(uid)
            try:
                study = self._mapping.open(path)
            except DicomStudyError:
                if self._mapping.is_gone(path):
                    continue
                raise
            yield uid, study


class _Values(ValuesView["Study"]):
    _mapping: Archive

    def __iter__(self) -> Iterator[Study]:
        for _, study in _Items(self._mapping):
            yield study


#: An archive, or the folder of one.
AnyArchive: TypeAlias = str | os.PathLike[str] | Archive


def open_archive(
    path: str | os.PathLike[str], *, sources: Iterable[str | os.PathLike[str]] = ()
) -> Archive:
    """The archive in a folder, for reading.

    Args:
        path: the folder.
        sources: folders to look in for the P10 files of an archive by reference that are no
            longer where they were, or one.

    Raises:
        ArchiveError: there is none, or of an unknown version.
    """
    return Archive(path_named(path), sources=sources)


def open_study(
    path: str | os.PathLike[str], *, sources: Iterable[str | os.PathLike[str]] = ()
) -> Study:
    """The study of a document, which need not be in an archive, for reading.

    The document may be in its readable form, too, or one of dicom-study-builder-js. If it has a
    bulk file, that is beside it: ``study.bulk`` of ``study.ion.zst`` or ``study.ion``
    (spec/study.md). It is missed only when a large value in it is asked for; that it is the one of
    another document is seen by what is proved, as `Instance.to_p10` is and frames are not.

    Args:
        path: the document.
        sources: as for `open_archive`.

    Raises:
        StudyError: there is none (``study/missing``), it is something else
            (``study/not-a-study``), it is damaged, or cannot be read.
        ArchiveError: `path` is none (``archive/no-path``).
    """
    from dicomstudy.study import Study  # noqa: PLC0415 (as in `Folder.open`)

    document = path_named(path)
    return Study(
        document,
        definitions=definitions.load(),
        bulk=bulk_beside(document),
        sources=SourceFiles(map(path_named, listed(sources))),
    )


def opened(archive: AnyArchive, *, sources: Iterable[str | os.PathLike[str]] = ()) -> Archive:
    """The archive in a folder, or the one that is open.

    Args:
        archive: one of both.
        sources: as for `open_archive`, of a folder; an archive that is open has its own.

    Raises:
        ArchiveError: there is none in the folder.
    """
    return archive if isinstance(archive, Archive) else open_archive(archive, sources=sources)


def create(path: Path) -> Archive:
    """The archive in a folder, made if the folder is empty or not there.

    Raises:
        ArchiveError: the folder has something else in it, or cannot be written.
    """
    make(path)
    return Archive(path)
