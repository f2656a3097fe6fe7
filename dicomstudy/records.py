"""P10 files → instance records as dicom2ion writes them, one Ion file for each (spec/record.md)."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path, PurePosixPath

from dicomstudy import definitions as definitions_
from dicomstudy import instance_record, ion
from dicomstudy.containers import Member, is_container, open_members
from dicomstudy.disk import ABSENT, write_atomically
from dicomstudy.elements import MAX_INLINE, Buffer, sha256_of
from dicomstudy.errors import ArchiveError, DicomStudyError, IonError, Problem
from dicomstudy.folder import other_archive, outside
from dicomstudy.grouping import Grouper, Source
from dicomstudy.inputs import Input, not_taken, take_apart
from dicomstudy.outcome import Outcome
from dicomstudy.p10 import PREFIX, Reader
from dicomstudy.progress import Progress, silent
from dicomstudy.record import Decoder
from dicomstudy.sources import MAX_WHOLE, Found, Window, find, listed, read_whole, uri_of
from dicomstudy.unfinished import own_folder

__all__ = ["Recorded", "write_records"]

_SUFFIX = ".ion"
#: Names of files may have so many bytes on every file system, and a number and suffix behind them.
_LONGEST_NAME = 200
_UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|\ud800-\udfff]')


@dataclass(slots=True)
class Recorded(Outcome):
    """What `write_records` did.

    Attributes:
        files: files that were looked at, those in zip and tar files one by one.
        skipped: files that are not DICOM.
        records: records that were written.
        bytes_in: bytes of the files that have a record.
        bytes_out: bytes of the records.
        problems: defects, whether there is a record in spite of them or not.
        refused: files that have none because of them.
    """

    files: int = 0
    skipped: int = 0
    records: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    problems: list[Problem] = field(default_factory=list)
    refused: int = 0

    @property
    def complete(self) -> bool:
        """True if every DICOM file has a record."""
        return not self.refused


def write_records(
    sources: Iterable[str | os.PathLike[str]],
    destination: str | os.PathLike[str],
    *,
    text: bool = False,
    max_inline: int = MAX_INLINE,
    progress: Progress | None = None,
) -> Recorded:
    """Write the instance record of each P10 file to ``<destination>/<its path>.ion``.

    The path is the one below the source; that of a member begins with its zip or tar file.
    Where two have the same, the later gets a number, also if they are the same to the file system
    only. Records of earlier runs are replaced, other files never (spec/record.md). The mirror is
    `convert`, which takes records as it takes the files.

    Args:
        sources: files and folders; also zip and tar files of P10 files.
        destination: the folder for the records.
        text: write text Ion, not binary.
        max_inline: values of more bytes than this are references into the P10 file.
        progress: as for `convert`.

    Raises:
        ArchiveError: the destination cannot be made (``records/unwritable``), or is in an archive
            (``archive/inside``).
        DicomStudyError: ``records/options``, an argument has no such value.
    """
    if max_inline < 0:
        raise DicomStudyError("records/options", "max_inline is at least 0")
    target = outside(destination)
    progress = progress or silent
    with contextlib.ExitStack() as stack:
        try:
            target.mkdir(parents=True, exist_ok=True)
            incoming = stack.enter_context(own_folder(target))
        except OSError as error:
            raise ArchiveError(
                "records/unwritable",
                f"the folder cannot be made: {error.strerror}",
                source=str(target),
            ) from error
        writer = _Writer(target, incoming, text=text, max_inline=max_inline)
        own = incoming.resolve()
        for source in listed(sources):
            root = Path(source)
            for found in find([source], refused=other_archive):
                path = Path(found.path)
                if path.parent.name == own.name and path.parent.resolve() == own:
                    continue  # the destination is below the source
                writer.write(found, _name_below(root, path))
                progress("files", writer.result.files, None)
    return writer.result


def _name_below(root: Path, path: Path) -> PurePosixPath:
    return PurePosixPath(path.name) if path == root else PurePosixPath(path.relative_to(root))


class _Writer:
    """Writes records below one folder; remembers what it has seen to be quick.

    Until a record is whole, it is in `incoming`.
    """

    def __init__(self, target: Path, incoming: Path, *, text: bool, max_inline: int) -> None:
        self.result = Recorded()
        self._target = target
        self._incoming = incoming
        self._text = text
        self._max_inline = max_inline
        self._definitions = definitions_.load()
        self._reader = Reader(max_inline=max_inline)
        self._by_offset = Decoder(self._definitions, max_inline=max_inline, by_offset=True)
        self._by_digest = Decoder(self._definitions, max_inline=max_inline)
        self._grouper = Grouper(self._definitions)
        #: Names that records of this run have, and the SHA-256 of each of these.
        self._names: set[str] = set()
        self._written: set[bytes] = set()

    def write(self, found: Found, name: PurePosixPath) -> None:
        """Write the records of what was found, or add to the problems."""
        if found.problem is not None:
            self._refuse(found.problem)
            return
        path = found.path
        try:
            if found.size > MAX_WHOLE:
                with Window(Path(path)) as window:
                    self._contents(window, path, window.modified, name)
            else:
                data, modified = read_whole(path)
                self._contents(data, path, modified, name)
        except DicomStudyError as error:
            self._refuse(error.problem(found.path))
        except OSError as error:
            message = f"cannot be read: {error.strerror or error}"
            self._refuse(Problem(found.path, "source/unreadable", message))

    def _refuse(self, problem: Problem) -> None:
        self.result.refused += 1
        self.result.problems.append(problem)

    def _contents(self, data: Buffer, path: str, modified: int, name: PurePosixPath) -> None:
        head = data[:512]
        if head[128:132] != PREFIX and is_container(head):
            for member in open_members(Path(path)):
                self._member(member, Path(path), name)
        else:
            self._p10(Input(data, uri_of(path), path, modified), name)

    def _member(self, member: Member, path: Path, name: PurePosixPath) -> None:
        given = Input.of(member, path)
        if (problem := not_taken(member, path, records=False)) is not None:
            self.result.files += 1
            self._refuse(problem)
        elif given is not None:
            try:
                self._p10(given, name / _safe(member.name))
            except DicomStudyError as error:
                self._refuse(error.problem(given.source))
        elif member.is_other:  # some other compressed file
            self.result.files += 1
            self.result.skipped += 1
        elif member.problem is not None:
            self._refuse(member.problem)

    def _p10(self, given: Input, name: PurePosixPath) -> None:
        data, uri, source, modified = given
        result = self.result
        result.files += 1
        is_member = modified is None
        decoder = self._by_digest if is_member else self._by_offset
        taken = take_apart(given, self._reader, decoder, self._grouper)
        if taken is None:
            result.skipped += 1
            return
        file, record, _ = taken
        struct = instance_record.to_struct(
            record,
            self._definitions,
            source=Source(uri, sha256_of(data), len(data)),
            max_inline=self._max_inline,
            data_set_offset=file.deflated.offset if file.deflated else file.starts[0],
            carried=data if is_member else None,
        )
        given.check()
        self._put(ion.dumps(struct, text=self._text), name, source)
        result.bytes_in += len(data)
        result.records += 1
        result.problems += [problem._replace(source=source) for problem in record.problems]

    def _put(self, record: bytes, name: PurePosixPath, source: str) -> None:
        """Write a record where no other of this run is, and no file that is no record."""
        digest = hashlib.sha256(record).digest()
        for path in self._free_paths(name):
            try:
                there = _content(path)
                if there is not None and self._is_other(there, digest):
                    continue  # its name is another one, but not to the file system
                if there is not None and not _is_record(there):
                    message = f"another file is where its record would be: {path}"
                    raise DicomStudyError("records/exists", message, source=source)
                path.parent.mkdir(parents=True, exist_ok=True)
                self.result.bytes_out += write_atomically(path, [record], within=self._incoming)
            except OSError as error:
                raise ArchiveError(
                    "records/unwritable",
                    f"the record cannot be written: {error.strerror or error}",
                    source=str(path),
                ) from error
            self._written.add(digest)
            return

    def _free_paths(self, name: PurePosixPath) -> Iterator[Path]:
        """Where the record of a file may go: no other of this run has such a name."""
        name = name.with_name(_short(name.name))
        for number in count(1):
            free = f"{name}{_SUFFIX}" if number == 1 else f"{name}-{number}{_SUFFIX}"
            if free not in self._names:
                self._names.add(free)
                yield self._target / free

    def _is_other(self, there: bytes, digest: bytes) -> bool:
        """Whether a file is a record that this run has written, and not the one of `digest`."""
        found = hashlib.sha256(there).digest()
        return found != digest and found in self._written


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except ABSENT:
        return None


def _is_record(data: bytes) -> bool:
    try:
        struct = ion.loads(data)
    except IonError:
        return False
    return isinstance(struct, dict) and {"sourceInfo", "fileInfo", "dataSet"} <= struct.keys()


def _short(name: str) -> str:
    """The name of a file, or its SHA-256 if nothing could be put behind it."""
    data = os.fsencode(name)
    return name if len(data) <= _LONGEST_NAME else hashlib.sha256(data).hexdigest()


def _safe(name: str) -> PurePosixPath:
    """The name of a member as a path that leads down only, whatever the name says."""
    parts = []
    for part in re.split(r"[/\\]", name):
        if part in {"", ".", ".."}:
            continue
        safe = _UNSAFE.sub("_", part)
        if len(safe.encode()) > _LONGEST_NAME:
            safe = hashlib.sha256(part.encode("utf-8", "surrogatepass")).hexdigest()
        parts.append(safe)
    return PurePosixPath(*parts) if parts else PurePosixPath("unnamed")
