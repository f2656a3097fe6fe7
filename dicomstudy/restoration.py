"""An archive → the P10 files, each original proved by its SHA-256 (spec/archive.md)."""

from __future__ import annotations

import contextlib
import errno
import filecmp
import os
import re
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from dicomstudy.archive import AnyArchive, Archive, opened
from dicomstudy.beside import Beside
from dicomstudy.disk import ABSENT, write_all, writing
from dicomstudy.document import is_named
from dicomstudy.elements import sha256_of
from dicomstudy.errors import UNWRITABLE, ArchiveError, DicomStudyError, Problem, StudyError
from dicomstudy.folder import name_of, outside
from dicomstudy.outcome import Outcome
from dicomstudy.progress import Progress, silent
from dicomstudy.quarantine import Quarantined
from dicomstudy.sources import FileIdentity, file_identity
from dicomstudy.study import Instance, Study
from dicomstudy.unfinished import own_folder

__all__ = ["Restored", "restore"]

#: Files up to this size are made in memory.
_MAX_IN_MEMORY = 16 << 20
#: So many of them wait to be written and proved.
_MOST_PENDING = 4
#: The field that says where in a P10 file a value lies (spec/bulk.md).
_IN_A_FILE = "dataOffset"
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(slots=True)
class Restored(Outcome):
    """What `restore` wrote.

    Attributes:
        files: files that were written, those from quarantine too.
        bytes_out: their bytes.
        problems: one for every file that could not be written, or not by its name, as that of one
            in quarantine whose note cannot be read.
    """

    files: int = 0
    bytes_out: int = 0
    problems: list[Problem] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """True if every file that was asked for was written, by its name."""
        return not self.problems


def restore(
    archive: AnyArchive,
    destination: str | os.PathLike[str],
    *,
    study: str | None = None,
    series: str | None = None,
    instance: str | None = None,
    original: bool = False,
    sources: Iterable[str | os.PathLike[str]] = (),
    progress: Progress | None = None,
) -> Restored:
    """Write the files to ``<destination>/<study>/<series>/<instance>.dcm``.

    Mirror of `convert`: all P10 files that it took in, in studies and in quarantine.

    Each original is compared with its recorded SHA-256 before it gets its name. What is in
    quarantine goes to ``<destination>/quarantine``, unless something else was asked for.

    Args:
        archive: the folder, or the archive that was opened.
        destination: a folder, made if it is not there; files of these names are replaced.
        study, series, instance: UIDs; only what has them is written. That of an instance may have
            ``#`` and the start of its digest behind it.
        original: write changed instances as they came in.
        sources: as for `open_archive`, if that was not opened.
        progress: as for `convert`.

    Raises:
        ArchiveError: there is no archive, nothing in it has those UIDs, or the destination cannot
            be written (``archive/unwritable``, ``archive/full``) or is in an archive
            (``archive/inside``).
    """
    archive = opened(archive, sources=sources)
    target = outside(destination)
    restored = Restored()
    said = progress or silent
    everything = study is series is instance is None
    new = [path for path in (target, *target.parents) if not os.path.lexists(path)]

    def tell() -> None:
        if restored.files:
            said("files", restored.files, None)

    with contextlib.ExitStack() as stack:
        with writing(target):
            target.mkdir(parents=True, exist_ok=True)
            incoming = stack.enter_context(own_folder(target))
        with contextlib.closing(_Files(archive, target, incoming, restored)) as files:
            for each, is_again in _opened(archive, study, restored.problems):
                files.begin(again=is_again)
                before = len(restored.problems)
                with each:
                    chosen = _chosen(each, series, instance, restored.problems)
                    _restore_study(chosen, files, target, tell, original=original)
                if is_again:
                    _forget_repeated(restored.problems, before)
                tell()
        for kept in _kept(archive, restored.problems) if everything else ():
            try:
                if (problem := kept.problem_of_note) is not None:
                    restored.problems.append(problem)
                with writing(target):
                    _restore_quarantined(kept, target / "quarantine", incoming, restored)
            except ArchiveError as error:
                if error.code in UNWRITABLE:
                    raise
                restored.problems.append(error.problem(kept.source))
            tell()
    if not (everything or restored.files or restored.problems):
        with contextlib.suppress(OSError):
            for path in new:
                path.rmdir()
        raise ArchiveError("archive/not-found", "the archive has nothing with these UIDs")
    return restored


def _forget_repeated(problems: list[Problem], before: int) -> None:
    """Take out of `problems` those behind the first `before` that are among these already."""
    told = set(problems[:before])
    problems[before:] = [problem for problem in problems[before:] if problem not in told]


def _restore_study(
    chosen: Iterable[Instance],
    files: _Files,
    target: Path,
    tell: Callable[[], None],
    *,
    original: bool,
) -> None:
    """Write the files of some instances of a study."""
    for instance in chosen:
        with writing(target):
            files.add(instance.original() if original else instance)
        tell()
    with writing(target):
        files.settle()


def _chosen(
    study: Study, series: str | None, instance: str | None, problems: list[Problem]
) -> Iterator[Instance]:
    """The instances of a study that have these UIDs; what is damaged becomes a problem."""
    for chunk in study.chunks(series=series, instance=instance):
        if isinstance(chunk, DicomStudyError):
            problems.append(chunk.problem(study.uid))
            continue
        for candidate in chunk:
            if series in {None, candidate.series} and (
                instance is None
                or instance == candidate.key
                or is_named(instance, candidate.uid, candidate.identity)
            ):
                yield candidate


def _opened(
    archive: Archive, study: str | None, problems: list[Problem]
) -> Iterator[tuple[Study, bool]]:
    """One study, or all, and whether it was given before; a problem if it cannot be opened."""
    if study is not None:
        if study in archive:
            try:
                yield archive[study], False
            except DicomStudyError as error:
                problems.append(error.problem(study))
        return
    for path, found, is_again in archive.all_studies():
        if isinstance(found, DicomStudyError):
            problems.append(found.problem(str(path)))
        else:
            yield found, is_again


def _kept(archive: Archive, problems: list[Problem]) -> Iterator[Quarantined]:
    """The files in quarantine; a problem if they cannot be told."""
    try:
        yield from archive.quarantined()
    except ArchiveError as error:
        problems.append(error.problem())


class _Pending(NamedTuple):
    """A file that is being written; then its SHA-256 is known, and it has to be proved."""

    instance: Instance
    part: str
    path: str
    size: int


class _Files:
    """Writes instances; each gets its name once it is proved, and is in `incoming` until then.

    Another thread writes a file and takes its SHA-256 while the next one is made. One that is not
    proved is made once more: `settle` while the study is open.
    """

    def __init__(self, archive: Archive, target: Path, incoming: Path, restored: Restored) -> None:
        self._archive = archive
        self._target = target
        self._incoming = incoming
        self._count = 0
        self._restored = restored
        self._beside = Beside(_write)
        self._pending: deque[_Pending] = deque()
        self._given: set[str] = set()
        self._is_again = False
        self._read_from: set[FileIdentity] | ArchiveError | None = None

    def close(self) -> None:
        """End the thread; files that were not settled get no name."""
        self._beside.close()

    def begin(self, *, again: bool) -> None:
        """Go on with a study; of one that is written `again`, files are counted that are new."""
        self._given.clear()
        self._is_again = again

    def add(self, instance: Instance) -> None:
        """Write the file of an instance; a problem if that cannot be done."""
        self._count += 1
        part, path = f"{self._incoming}/{self._count}.part", self._path(instance)
        try:
            self._check_new(instance, path)
            if (instance.source.size or 0) > _MAX_IN_MEMORY:
                self._done(part, path, _write_proved(instance, part))
            else:
                data = instance.rebuilt()
                self._pending.append(_Pending(instance, part, path, len(data)))
                self._beside.give((data, part))
        except DicomStudyError as error:
            self._restored.problems.append(error.problem(instance.uid))
            _remove(part)
        if len(self._pending) > _MOST_PENDING:
            self._finish()

    def settle(self) -> None:
        """Let every file that was added have its name, or a problem."""
        while self._pending:
            self._finish()

    def _path(self, instance: Instance) -> str:
        """The path that the file of an instance gets."""
        name = name_of(instance.uid)
        if instance.key != instance.uid:
            name += f"-{instance.identity[:16]}"
        folder = f"{self._target}/{name_of(instance.study.uid)}/{name_of(instance.series)}"
        return f"{folder}/{name}.dcm"

    def _check_new(self, instance: Instance, path: str) -> None:
        """Refuse an instance whose file would replace that of another one of its study."""
        if path in self._given:
            raise StudyError(
                "study/damaged",
                f"the file of {instance.key} would have the name of another one",
                source=str(instance.study.path),
            )
        self._given.add(path)

    def _finish(self) -> None:
        """Let the file that has waited longest have its name, or a problem if it is not proved."""
        pending = self._pending[0]
        try:
            try:
                pending.instance.prove(self._beside.take())
            except StudyError:
                if not pending.instance.reads_files:
                    raise
                # one of the files may be damaged, and there be another
                _write_proved(pending.instance, pending.part)
            self._done(pending.part, pending.path, pending.size)
        except DicomStudyError as error:
            self._restored.problems.append(error.problem(pending.instance.uid))
            _remove(pending.part)
        self._pending.popleft()

    def _done(self, part: str, path: str, size: int) -> None:
        if self._is_needed(part, path):
            raise ArchiveError(
                "archive/source",
                "an original that the archive refers to would be replaced by another file: "
                "restore into another folder",
                source=path,
            )
        was_counted = self._is_again and os.path.exists(path)  # noqa: PTH110 (as in `_is_needed`)
        _rename(part, path)
        if not was_counted:
            self._restored.files += 1
            self._restored.bytes_out += size

    def _is_needed(self, part: str, path: str) -> bool:
        """Whether there is a file that the archive reads values from, and not an equal one."""
        try:
            there = file_identity(os.stat(path))  # noqa: PTH116 (a Path costs more than the question)
        except ABSENT:
            return False
        except OSError as error:
            if error.errno == errno.ELOOP:  # a link that leads nowhere
                return False
            message = f"the file that would be replaced cannot be looked at: {error.strerror}"
            raise ArchiveError("archive/unreadable", message, source=path) from error
        with contextlib.suppress(OSError):  # what cannot be read may be another
            if filecmp.cmp(part, path, shallow=False):
                return False
        if self._read_from is None:
            try:
                self._read_from = _files_of(self._archive)
            except ArchiveError as error:
                self._read_from = error
        if isinstance(self._read_from, ArchiveError):
            raise self._read_from
        return there in self._read_from


def _files_of(archive: Archive) -> set[FileIdentity]:
    """The files that large values of an archive are read from, those of older versions too.

    Raises:
        ArchiveError: that cannot be told for the moment (``archive/source``).
    """
    found: set[FileIdentity] = set()
    try:
        for _, study in archive.studies():
            if isinstance(study, DicomStudyError):
                raise study
            with study:
                if not study.document.mentions([_IN_A_FILE]):
                    continue
                for chunk in study.chunks(retired=True):
                    if isinstance(chunk, DicomStudyError):
                        raise chunk
                    for instance in chunk:
                        found |= instance.files()
    except DicomStudyError as error:
        raise ArchiveError(
            "archive/source",
            "it cannot be told whether the archive refers to files that would be replaced: restore "
            f"into another folder ({error})",
            source=error.location.source,
        ) from error
    return found


def _remove(part: str) -> None:
    """Remove what was written of a file, if anything was: what went wrong before is what counts."""
    with contextlib.suppress(OSError):
        os.unlink(part)  # noqa: PTH108 (as above)


def _write_proved(instance: Instance, part: str) -> int:
    """Write the file of an instance, and prove it; its size."""
    with open(_create(part), "wb") as file:
        return instance.write_p10(file)


def _create(path: str) -> int:
    """The descriptor of a new file."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)


def _rename(part: str, path: str) -> None:
    """Give a file its name; its folder is made if need be."""
    try:
        _replace(part, path)
    except FileNotFoundError:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        _replace(part, path)


def _replace(part: str, path: str) -> None:
    """Give a file its name, on another file system too."""
    try:
        os.replace(part, path)  # noqa: PTH105 (as above)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _rename_elsewhere(Path(part), Path(path))


def _rename_elsewhere(part: Path, path: Path) -> None:
    """Give a file its name in a folder that is a link to another file system."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        shutil.copyfile(part, beside)
        beside.replace(path)
    finally:
        _remove(str(beside))
    part.unlink()


def _write(given: tuple[bytes, str]) -> str:
    """Write a file, its bytes and path being given; its SHA-256.

    Without a file object, which asks the system more than once for each file.
    """
    data, path = given
    descriptor = _create(path)
    try:
        write_all(descriptor, data)
    finally:
        os.close(descriptor)
    return sha256_of(data)


def _restore_quarantined(
    kept: Quarantined, target: Path, incoming: Path, restored: Restored
) -> None:
    target.mkdir(parents=True, exist_ok=True)
    parts = urlsplit(kept.uri)
    original = Path(unquote(parts.fragment or parts.path)).name
    safe = _UNSAFE.sub("_", original).strip(".")[-80:]
    path = target / f"{kept.sha256[:16]}-{safe or 'file'}"
    part = incoming / "quarantined.part"
    try:
        with part.open("wb") as file:
            kept.prove(file.write)
        _rename(str(part), str(path))
    finally:
        _remove(str(part))
    restored.files += 1
    restored.bytes_out += kept.size
