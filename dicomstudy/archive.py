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
import fcntl
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dicomstudy import definitions as definitions_
from dicomstudy import ion
from dicomstudy.definitions import Definitions
from dicomstudy.document import Document
from dicomstudy.errors import ArchiveError, DicomStudyError, IonError
from dicomstudy.sources import SourceFiles
from dicomstudy.study import Study

__all__ = [
    "Archive",
    "Progress",
    "Quarantined",
    "create",
    "locked",
    "name_of",
    "open_archive",
    "sync_folder",
    "write_atomically",
    "writing",
]

#: Is told how far a run has come: the step, how much of it is done, and of how much if known.
Progress = Callable[[str, int, int | None], None]

FORMAT = "dicomstudy archive"
VERSION = 1
_MARKER = "archive.ion"
_DOCUMENT = ".ion.zst"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")


def name_of(uid: str) -> str:
    """A file name for a UID: itself if it is one (PS3.5 section 9.1), otherwise its SHA-256."""
    if len(uid) <= 64 and _UID.fullmatch(uid):
        return uid
    return "x" + hashlib.sha256(uid.encode("utf-8", "surrogatepass")).hexdigest()


def write_atomically(path: Path, pieces: Iterable[bytes], *, within: Path | None = None) -> int:
    """Write a file that is there either whole or not at all, and return its size.

    Until it is whole it stands in the folder `within`, on the same file system.
    """
    part = (within or path.parent) / f"{path.name}.{os.getpid()}.part"
    size = 0
    try:
        with part.open("wb") as file:
            for piece in pieces:
                file.write(piece)
                size += len(piece)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
    return size


def sync_folder(folder: Path) -> None:
    """Return once the names in `folder` are on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Quarantined(NamedTuple):
    """A file that is in no study: where it is kept, and why."""

    path: Path
    sha256: str
    size: int
    uri: str
    code: str
    message: str


class Archive(Mapping[str, Study]):
    """The studies of an archive by their Study Instance UID, each loaded when asked for.

    Args:
        path: the folder.
        sources: folders that have the P10 files of an archive by reference, if they moved.

    Raises:
        ArchiveError: the folder is no archive, or of an unknown version.
    """

    def __init__(self, path: Path, *, sources: Iterable[str | os.PathLike[str]] = ()) -> None:
        self.path = path
        self.sources = SourceFiles(sources)
        marker = path / _MARKER
        try:
            header = ion.loads(marker.read_bytes())
        except FileNotFoundError:
            raise ArchiveError(
                "archive/not-an-archive", "there is no archive in this folder", source=str(path)
            ) from None
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
    def definitions(self) -> Definitions:
        """The definitions that its documents are read by."""
        return definitions_.load()

    def __repr__(self) -> str:
        return f"Archive({str(self.path)!r})"

    def document_path(self, uid: str) -> Path:
        """Where the document of a study is, or would be."""
        name = name_of(uid)
        shard = hashlib.sha256(name.encode()).hexdigest()[:2]
        return self.path / "studies" / shard / (name + _DOCUMENT)

    def bulk_path(self, uid: str) -> Path:
        """Where the bulk file of a study is, or would be."""
        document = self.document_path(uid)
        return document.with_name(document.name.removesuffix(_DOCUMENT) + ".bulk")

    __hash__ = object.__hash__
    __eq__ = object.__eq__

    def __getitem__(self, uid: str) -> Study:
        if uid not in self:
            raise KeyError(uid)
        return self._open(self.document_path(uid))

    def _open(self, path: Path) -> Study:
        bulk = path.with_name(path.name.removesuffix(_DOCUMENT) + ".bulk")
        study = Study(
            path,
            definitions=self.definitions,
            bulk=bulk if bulk.exists() else None,
            sources=self.sources,
        )
        if self.document_path(study.uid) != path:
            study.close()
            raise ArchiveError(
                "archive/damaged",
                f"the document of study {study.uid} does not belong where it is",
                source=str(path),
            )
        return study

    def studies(self) -> Iterator[tuple[Path, Study | DicomStudyError]]:
        """Every document, opened, or what is wrong with it; the caller closes it."""
        for path in self._documents():
            try:
                yield path, self._open(path)
            except DicomStudyError as error:
                yield path, error

    def __contains__(self, uid: object) -> bool:
        return isinstance(uid, str) and self.document_path(uid).exists()

    def __iter__(self) -> Iterator[str]:
        """The UIDs of all studies whose documents can be opened (`studies` has the others)."""
        for path in self._documents():
            name = path.name.removesuffix(_DOCUMENT)
            if name_of(name) == name:
                yield name
                continue
            with contextlib.suppress(DicomStudyError):
                document = Document(path)
                document.close()
                yield document.study

    def __len__(self) -> int:
        return sum(1 for _ in self._documents())

    def _documents(self) -> Iterator[Path]:
        for shard in sorted((self.path / "studies").glob("[0-9a-f][0-9a-f]")):
            yield from sorted(shard.glob("*" + _DOCUMENT))

    def find(self, uid: str) -> list[tuple[Study, list[str]]]:
        """The studies that have a study, series or instance with this UID, and its instances.

        Reads the headers of all documents, and the chunks that may have it.
        """
        if uid in self:
            study = self[uid]
            return [(study, list(study))]
        found = []
        for name in self:
            study = self[name]
            keys = study.keys_of(uid)
            if keys:
                found.append((study, keys))
            else:
                study.close()
        return found

    def quarantined(self) -> Iterator[Quarantined]:
        """The files in quarantine; the name of each is its SHA-256.

        Where the note that says why is damaged, or missing because a run was killed before it
        wrote it, the code is ``archive/no-note``.
        """
        folder = self.path / "quarantine"
        names = {path.name.removesuffix(".ion") for path in folder.glob("*")}
        for name in sorted(filter(_SHA256.fullmatch, names)):
            yield _quarantined(folder / name)


def _quarantined(path: Path) -> Quarantined:
    size = path.stat().st_size if path.exists() else 0
    note = path.with_name(path.name + ".ion")
    try:
        fields: Any = ion.loads(note.read_bytes())
        uri, code, message = (str(fields[name]) for name in ("uri", "code", "message"))
    except (DicomStudyError, KeyError, TypeError, OSError) as error:
        message = f"the note that says why it is here cannot be read: {error}"
        return Quarantined(path, path.name, size, "", "archive/no-note", message)
    return Quarantined(path, path.name, size, uri, code, message)


def open_archive(
    path: str | os.PathLike[str], *, sources: Iterable[str | os.PathLike[str]] = ()
) -> Archive:
    """The archive in a folder, for reading.

    Args:
        path: the folder.
        sources: folders to look in for the P10 files of an archive by reference that are no
            longer where they were.

    Raises:
        ArchiveError: there is none, or of an unknown version.
    """
    return Archive(Path(path), sources=sources)


def _is_ours(name: str) -> bool:
    """Whether a run that was killed while it made an archive may have left `name`."""
    unfinished = name.startswith(_MARKER) and name.endswith(".part")
    return unfinished or name in {"studies", "quarantine", "incoming", "lock"}


def create(path: Path) -> Archive:
    """The archive in a folder, made if the folder is empty or not there.

    Raises:
        ArchiveError: the folder has something else in it, or cannot be written.
    """
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
        if not (path / _MARKER).exists():
            foreign = [entry.name for entry in path.iterdir() if not _is_ours(entry.name)]
            if foreign:
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
            (path / "incoming").mkdir(exist_ok=True)
            marker = [ion.dumps(header, text=True)]
            write_atomically(path / _MARKER, marker, within=path / "incoming")
        for folder in ("studies", "quarantine", "incoming"):
            (path / folder).mkdir(exist_ok=True)
    return Archive(path)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the system says of a failed write into an error.

    Raises:
        ArchiveError: something below `path` could not be written (``archive/unwritable``).
    """
    try:
        yield
    except OSError as error:
        raise ArchiveError(
            "archive/unwritable",
            f"{path} cannot be written: {error.strerror or error}",
            source=str(path),
        ) from error


@contextlib.contextmanager
def locked(archive: Archive) -> Iterator[None]:
    """Hold the archive's lock: one run writes at a time. A process that ends lets go of it.

    Raises:
        ArchiveError: another process holds it.
    """
    with (archive.path / "lock").open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ArchiveError(
                "archive/locked",
                "another run is writing to this archive",
                source=str(archive.path),
            ) from error
        yield
