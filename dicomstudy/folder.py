"""The folder of an archive: where documents stand in it, and who writes there (spec/archive.md)."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

from dicomstudy import definitions as definitions_
from dicomstudy import ion
from dicomstudy.bulk import numbered
from dicomstudy.definitions import Definitions
from dicomstudy.disk import (
    ABSENT,
    check_links,
    entries,
    is_there,
    make_folder,
    write_atomically,
    writing,
)
from dicomstudy.document import Document
from dicomstudy.errors import ArchiveError, IonError, Problem, StudyError
from dicomstudy.sources import SourceFiles, listed

if TYPE_CHECKING:
    from dicomstudy.study import Study

__all__ = [
    "DOCUMENT",
    "FORMAT",
    "MARKER",
    "VERSION",
    "Folder",
    "Listed",
    "at_work",
    "bulk_beside",
    "document_beside",
    "documents_in",
    "locked",
    "make",
    "make_new",
    "name_of",
    "other_archive",
    "outside",
    "path_named",
    "unlocking",
]

FORMAT = "dicomstudy archive"
VERSION = 1
MARKER = "archive.ion"
#: What says what an archive is has no more bytes than this.
_MAX_MARKER = 1 << 16
#: The end of the name of a document; outside of archives, that of one in readable form.
DOCUMENT = ".ion.zst"
_READABLE = ".ion"
_BULK = ".bulk"
_STUDIES, _QUARANTINE, _INCOMING = _FOLDERS = "studies", "quarantine", "incoming"
_LOCK = "lock"
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
_SHARD = re.compile(r"[0-9a-f]{2}")

#: Where a document is; or it, or a folder of documents, and why that cannot be read.
Listed: TypeAlias = tuple[Path, ArchiveError | None]


class Folder:
    """An archive on disk.

    Args:
        path: the folder.
        sources: folders that have the P10 files of an archive by reference, if they moved.

    Raises:
        ArchiveError: the folder is no archive, or of an unknown version.
    """

    def __init__(self, path: Path, *, sources: Iterable[str | os.PathLike[str]] = ()) -> None:
        self.path = path
        self.sources = SourceFiles(map(path_named, listed(sources)))
        marker = path / MARKER
        try:
            with marker.open("rb") as file:
                header = _said_by(file.read(_MAX_MARKER))
        except ABSENT:
            raise _no_archive(path) from None
        except OSError as error:
            raise ArchiveError(
                "archive/unreadable",
                f"the archive cannot be read: {error.strerror}",
                source=str(marker),
            ) from error
        except IonError as error:
            raise ArchiveError("archive/damaged", error.message, source=str(marker)) from error
        if not isinstance(header, dict) or header.get("format") != FORMAT:
            raise ArchiveError(
                "archive/not-an-archive", "this is not an archive", source=str(marker)
            )
        if header.get("version") != VERSION:
            raise ArchiveError(
                "archive/unknown-version",
                f"version {header.get('version')} of the archive is unknown to this program",
                source=str(marker),
            )

    @property
    def incoming(self) -> Path:
        """The folder of what a run has not finished."""
        return self.path / _INCOMING

    @property
    def quarantine(self) -> Path:
        """The folder of files that are in no study."""
        return self.path / _QUARANTINE

    @property
    def definitions(self) -> Definitions:
        """The definitions that its documents are read by."""
        return definitions_.load()

    def document_path(self, uid: str) -> Path:
        """Where the document of a study is, or would be."""
        name = name_of(uid)
        shard = hashlib.sha256(name.encode()).hexdigest()[:2]
        return self.path / _STUDIES / shard / (name + DOCUMENT)

    def bulk_path(self, uid: str, number: int = 0) -> Path:
        """Where the bulk file of a study is, or would be, that has this number."""
        return bulk_beside(self.document_path(uid), number)

    def document(self, path: Path) -> Document:
        """The document at `path`, opened; the caller closes it.

        Raises:
            StudyError: it is damaged, or that of another study.
        """
        document = Document(path)
        try:
            self._check_place(path, document.study)
        except StudyError:
            document.close()
            raise
        return document

    def _check_place(self, path: Path, uid: str) -> None:
        """Refuse a document that stands in the place of another study's (``study/damaged``)."""
        if self.document_path(uid) != path:
            message = f"the document of study {uid} does not belong where it is"
            raise StudyError("study/damaged", message, source=str(path))

    def documents(self) -> Iterator[Path]:
        """The documents of all studies.

        Raises:
            ArchiveError: a folder of them cannot be read (``archive/unreadable``).
        """
        for shard in self.shards():
            yield from documents_in(shard)

    def listing(self, uids: Iterable[str] | None = None) -> Iterator[Listed]:
        """The path of every document; of a folder of them that cannot be read, its own, and why.

        With `uids`, only of the studies that have these, as far as they are there.
        """
        if uids is None:
            yield from self._listing(DOCUMENT)
            return
        for uid in uids:
            path = self.document_path(uid)
            try:
                is_listed = self.has(path)
            except ArchiveError as error:
                yield path, error
            else:
                if is_listed:
                    yield path, None

    def bulk_files(self) -> Iterator[Listed]:
        """As `listing`, of all bulk files, those that no document refers to as well."""
        yield from self._listing(_BULK)

    def _listing(self, suffix: str) -> Iterator[Listed]:
        try:
            shards = self.shards()
        except ArchiveError as error:
            yield self.path / _STUDIES, error
            return
        for shard in shards:
            try:
                paths = entries(shard)
            except ArchiveError as error:
                yield shard, error
            else:
                yield from ((path, None) for path in paths if path.name.endswith(suffix))

    def shards(self) -> list[Path]:
        """The folders that have the documents. Errors as in `documents`.

        Raises:
            ArchiveError: the archive is no longer where it was (``archive/not-an-archive``).
        """
        found = [path for path in entries(self.path / _STUDIES) if _SHARD.fullmatch(path.name)]
        if not found:
            self.check_there()
        return found

    def hidden_documents(self) -> Iterator[Path]:
        """Documents in folders beside the `shards`, where nobody looks for them."""
        for folder in entries(self.path / _STUDIES):
            if not _SHARD.fullmatch(folder.name):
                with contextlib.suppress(ArchiveError):  # one that cannot be read hides no other
                    yield from documents_in(folder)

    def has(self, path: Path) -> bool:
        """Whether there is a document at `path`. Errors as in `shards`."""
        if is_there(path):
            return True
        check_links(path.parent, self.path / _STUDIES)
        self.check_there()
        return False

    def check_there(self) -> None:
        """Make sure that the archive is still there, before it is said to have nothing.

        Raises:
            ArchiveError: it is not (``archive/not-an-archive``), or cannot be read.
        """
        if not is_there(self.path / MARKER):
            raise _no_archive(self.path)

    def is_gone(self, document: Path) -> bool:
        """Whether a document that was there is no longer, as of a study that was collected.

        Not if more than that is missing.
        """
        try:
            document.lstat()
        except FileNotFoundError:
            with contextlib.suppress(ArchiveError):
                return is_there(document.parent) and is_there(self.path / MARKER)
        except OSError:
            pass
        return False

    def open(self, path: Path) -> Study:
        """The study of a document.

        Raises:
            StudyError: the document is damaged, or that of another study.
        """
        from dicomstudy.study import Study  # noqa: PLC0415 (a change of a study needs no instance)

        study = Study(
            path, definitions=self.definitions, bulk=bulk_beside(path), sources=self.sources
        )
        try:
            self._check_place(path, study.uid)
        except StudyError:
            study.close()
            raise
        return study


def path_named(path: str | os.PathLike[str]) -> Path:
    """The path that somebody named, from the root on: the current folder may be another later.

    Raises:
        ArchiveError: it is none (``archive/no-path``): it is empty, which is no name of the current
            folder, has a NUL in it, or is not text; or the current folder is gone.
    """
    text = os.fspath(path)
    if not isinstance(text, str):
        raise ArchiveError("archive/no-path", f"a path is text, not {text!r:.80}")
    if not text or "\0" in text:
        raise ArchiveError("archive/no-path", "a path is empty, or has a NUL in it")
    try:
        return Path(text).absolute()
    except OSError as error:
        message = f"there is no current folder: {error.strerror or error}"
        raise ArchiveError("archive/no-path", message, source=text) from error


def outside(path: str | os.PathLike[str]) -> Path:
    """The path of a folder that somebody named to write to, and that is in no archive.

    Raises:
        ArchiveError: it is in one, or one itself (``archive/inside``), or `path` is none
            (``archive/no-path``).
    """
    folder = path_named(path)
    place = Path(os.path.realpath(folder))  # a Path does not bear links that lead in a circle
    for archive in (place, *place.parents):
        if os.path.exists(archive / MARKER):  # noqa: PTH110 (what may not be looked into is none)
            raise ArchiveError(
                "archive/inside",
                f"the folder is in the archive {archive}: name one outside",
                source=str(path),
            )
    return folder


def other_archive(path: str, is_folder: bool, own: Path | None = None) -> Problem | None:
    """The problem that a source is an archive, or the `archive.ion` of one; None if it is not.

    What is named `archive.ion` and says something else makes no archive.

    Args:
        path: a file or folder.
        is_folder: which of both it is.
        own: an archive that is no problem, nor is one that lies in it.
    """
    # every source is asked, and a Path costs more than the question
    marker = os.path.join(path, MARKER) if is_folder else path  # noqa: PTH118 (as above)
    name = os.path.basename(marker)  # noqa: PTH119 (as above)
    if name != MARKER or not os.path.isfile(marker):  # noqa: PTH113 (as above)
        return None
    place = Path(marker).parent.resolve()
    if own in (place / MARKER).parents or not _is_archive(place):
        return None
    message = "this is an archive: `restore` it, and name the folder that has its files then"
    return Problem(path, "source/archive", message)


def _is_archive(path: Path) -> bool:
    """Whether a folder is an archive, of whatever version, and even if it cannot be opened."""
    try:
        Folder(path)
    except ArchiveError as error:
        is_damaged = error.code == "archive/damaged" and (path / _STUDIES).is_dir()
        return is_damaged or error.code in {"archive/unknown-version", "archive/unreadable"}
    return True


def _no_archive(path: Path) -> ArchiveError:
    found = os.path.exists(path)  # noqa: PTH110 (what may not be looked into is none)
    message = "this is no folder of an archive" if found else "there is no such folder"
    return ArchiveError("archive/not-an-archive", message, source=str(path))


def documents_in(shard: Path) -> list[Path]:
    """The documents in one of the `shards` of an archive. Errors as in `entries`."""
    return [path for path in entries(shard) if path.name.endswith(DOCUMENT)]


@lru_cache(maxsize=8)
def _said_by(marker: bytes) -> ion.Value:
    """What a file says that marks an archive: a run asks each time that it finishes a study."""
    return ion.loads(marker)


def bulk_beside(document: Path, number: int = 0) -> Path:
    """The bulk file with this number of the study that has its document at `document`."""
    name = document.name.removesuffix(DOCUMENT).removesuffix(_READABLE)
    return numbered(document.parent / (name + _BULK), number)


def document_beside(bulk: Path) -> Path:
    """The document of the study that has its bulk file at `bulk`. Mirror of `bulk_beside`."""
    return bulk.with_name(bulk.name.removesuffix(_BULK).partition("-")[0] + DOCUMENT)


def make(path: Path) -> None:
    """Make an archive in a folder that is empty or not there; do nothing if there is one.

    Raises:
        ArchiveError: the folder has something else in it, or cannot be written.
    """
    with writing(path):
        make_folder(path)
        if not is_there(path / MARKER):
            foreign = [entry.name for entry in path.iterdir() if not _is_ours(entry.name)]
            if foreign and not is_there(path / MARKER):  # else another run has made it meanwhile
                raise ArchiveError(
                    "archive/not-empty",
                    f"the folder has {foreign[0]!r} in it and is no archive: name an empty or "
                    "new one",
                    source=str(path),
                )
            definitions = definitions_.load()
            header = {
                "format": FORMAT,
                "version": VERSION,
                "definitions": {"version": definitions.version, "sha256": definitions.digest},
            }
            for name in _FOLDERS:
                (path / name).mkdir(exist_ok=True)
            marker = [ion.dumps(header, text=True)]
            try:
                write_atomically(path / MARKER, marker, within=path / _INCOMING)
            except FileNotFoundError:
                # another run has made the archive meanwhile, and emptied `incoming`
                if not is_there(path / MARKER):
                    raise
        for name in _FOLDERS:  # a backup may have no empty folders
            make_folder(path / name)


def make_new(path: Path) -> None:
    """Make an archive in a folder that is empty or not there; of several runs, one does.

    Raises:
        ArchiveError: the folder has anything in it (``archive/not-empty``), is in an archive
            (``archive/inside``), or cannot be written.
    """
    with writing(path):
        _check_empty(path)  # before there is a lock in it
        outside(path)
        make_folder(path)
        with unlocking((path / _LOCK).open("ab")) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise _not_empty(path) from None
            _check_empty(path)
            make(path)


def _check_empty(path: Path) -> None:
    """Refuse a folder with anything in it but the lock, which is an empty file."""
    for entry in path.iterdir() if is_there(path) else ():
        if entry.name != _LOCK or not entry.is_file() or entry.stat().st_size:
            raise _not_empty(path)


def _not_empty(path: Path) -> ArchiveError:
    return ArchiveError(
        "archive/not-empty",
        "the archive is made in a new or empty folder only, by one run",
        source=str(path),
    )


def _is_ours(name: str) -> bool:
    """Whether a run that was killed while it made an archive may have left `name`."""
    return name in {*_FOLDERS, _LOCK}


def name_of(uid: str) -> str:
    """A file name for a UID: itself if it is one (PS3.5 section 9.1), otherwise its SHA-256."""
    if len(uid) <= 64 and _UID.fullmatch(uid):
        return uid
    return "x" + hashlib.sha256(uid.encode("utf-8", "surrogatepass")).hexdigest()


@contextlib.contextmanager
def at_work(path: Path) -> Iterator[None]:
    """Be one of the runs that write to an archive; `incoming/` is emptied if it is the only one."""
    with writing(path):
        (path / _INCOMING).mkdir(exist_ok=True)  # a backup may have no empty folders
        file = (path / _LOCK).open("wb")
    with unlocking(file):
        with writing(path):
            _begin(file, path / _INCOMING)
        yield


@contextlib.contextmanager
def unlocking(file: BinaryIO) -> Iterator[BinaryIO]:
    """Let go of a lock at the end, and close its file: a process forked meanwhile has that too.

    Of an error nothing follows, as it has no content.
    """
    try:
        yield file
    finally:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_UN)
        with contextlib.suppress(OSError):
            file.close()


def _begin(file: BinaryIO, incoming: Path) -> None:
    """Lock the lock of an archive shared; whoever is the only one to do so empties `incoming`."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pass
    else:
        for stale in incoming.iterdir():
            if stale.is_dir():
                # it takes longer to import than a change of a study
                from dicomstudy.unfinished import remove_tree  # noqa: PLC0415 (so)

                remove_tree(stale)
            else:
                with contextlib.suppress(OSError):  # as in `remove_tree`
                    stale.unlink()
    fcntl.flock(file, fcntl.LOCK_SH)


@contextlib.contextmanager
def locked(document: Path) -> Iterator[None]:
    """Hold the lock of one study; whoever else wants it waits. A process that ends lets go.

    Args:
        document: where the document of the study is, or would be.
    """
    path = document.with_name(document.name.removesuffix(DOCUMENT) + ".lock")
    while True:
        with unlocking(path.open("wb")) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                there = path.stat().st_ino == os.fstat(file.fileno()).st_ino
            except FileNotFoundError:
                there = False
            if not there:  # whoever held it before has removed it
                continue
            try:
                yield
            finally:
                with contextlib.suppress(OSError):  # a file that is left is locked by the next one
                    path.unlink()
            return
