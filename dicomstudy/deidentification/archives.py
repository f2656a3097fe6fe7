"""An archive → one of the same studies that names nobody (spec/deidentification.md)."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dicomstudy.archive import AnyArchive, Archive, opened
from dicomstudy.bulk import BulkFile
from dicomstudy.deidentification.confidentiality import Policy, policy
from dicomstudy.deidentification.pseudonyms import SHORTEST_KEY, Pseudonyms
from dicomstudy.deidentification.risks import MESSAGES, Risk
from dicomstudy.deidentification.transfer import Transfer
from dicomstudy.disk import is_there, make_folder, sync, write_atomically, writing
from dicomstudy.document import encode_version
from dicomstudy.errors import UNWRITABLE, ArchiveError, DicomStudyError, Problem
from dicomstudy.folder import at_work, locked, make_new, path_named
from dicomstudy.outcome import Outcome
from dicomstudy.progress import Progress, Told
from dicomstudy.study import Study
from dicomstudy.unfinished import remove_tree

__all__ = ["Deidentified", "deidentify"]

#: Bytes of a file that is taken for a key; others may have no end.
_LONGEST_KEY = 1 << 20

#: The name of the bulk file of the study that is being written.
_BULK = "bulk"


@dataclass(slots=True)
class Deidentified(Outcome):
    """What `deidentify` wrote, and what is to be looked at.

    Attributes:
        studies: studies of the new archive.
        instances: instances of them.
        bytes_in: bytes of the files that they were made of.
        bytes_out: bytes of the new archive.
        quarantined: files in quarantine, which were left out. They are of no study: 0 if only
            some studies were asked for.
        risks: what may still identify somebody; names nothing of the source.
        problems: studies and instances that were left out; names the source.
    """

    studies: int = 0
    instances: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    quarantined: int = 0
    risks: list[Risk] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """True if every instance of the studies that were asked for was taken over."""
        return not self.problems


def deidentify(
    archive: AnyArchive,
    destination: str | os.PathLike[str],
    *,
    profile: str = "basic",
    options: Iterable[str] = (),
    key: bytes | str | os.PathLike[str] | None = None,
    studies: Iterable[str] | None = None,
    sources: Iterable[str | os.PathLike[str]] = (),
    progress: Progress | None = None,
) -> Deidentified:
    """Make a de-identified archive of another one, by PS3.15 Annex E.

    The studies are taken over as they are now, without their history. The source is only read.

    Args:
        archive: the folder, or the archive that was opened.
        destination: a new or empty folder.
        profile: "basic".
        options: names of options, such as "clean-descriptors".
        key: at least 16 bytes, or the file that has them. Equal keys give equal UIDs and
            pseudonyms. Without one, a new key is used for this run, and kept nowhere.
        studies: Study Instance UIDs; only these studies are taken over. None takes all.
        sources: as for `open_archive`, if that was not opened.
        progress: as for `convert`.

    Raises:
        DicomStudyError: there is no such profile or option (``deidentify/…``), or the key is too
            short or cannot be read (``deidentify/key``).
        ArchiveError: the archive, or one of the `studies`, is not there; or the destination is
            not empty, in an archive, or cannot be written.
    """
    source = opened(archive, sources=sources)
    policy_ = policy(profile, options, source.definitions)
    pseudonyms = Pseudonyms(_key(key))
    chosen = None if studies is None else _chosen(source, studies)
    report = Deidentified()
    if chosen is None:
        report.quarantined = sum(1 for _ in source.quarantined())
    target = _new(destination)
    with Told(progress) as said, at_work(target.path), _incoming(target) as incoming:
        for path, study, is_again in source.all_studies(chosen):
            if isinstance(study, DicomStudyError):
                report.problems.append(study.problem(str(path)))
                continue
            with study:
                if is_again:
                    moved = Problem(str(path), "deidentify/moved", _MOVED)
                    if moved not in report.problems:
                        report.problems.append(moved)
                    continue
                try:
                    _take_over(study, target, incoming, policy_, pseudonyms, report, said)
                except DicomStudyError as error:
                    if error.code in UNWRITABLE:
                        raise  # the next study could not be written either
                    report.problems.append(error.problem(str(path)))
                except MemoryError:
                    raise  # no defect, and there is none for the next study either
                except Exception as error:  # noqa: BLE001 (whatever is in one, others are not lost)
                    report.problems.append(_failed(error).problem(str(path)))
    return report


_MOVED = (
    "another run changed the study after it was taken over; instances that it moved may be "
    "missing, or be there twice: de-identify the archive again, into a new folder"
)


def _chosen(source: Archive, studies: Iterable[str]) -> list[str]:
    """UIDs of studies that are in an archive, each once; a text is one of them."""
    uids = list(dict.fromkeys([studies] if isinstance(studies, str) else studies))
    for uid in uids:
        if uid not in source:
            raise source.not_found(uid)
    return uids


def _failed(error: Exception) -> DicomStudyError:
    """What is said of a defect of this program: not what the error says, which may be a value."""
    return DicomStudyError(
        "deidentify/failed",
        f"this program failed on the study ({type(error).__name__}), which was left out",
    )


@contextlib.contextmanager
def _incoming(target: Archive) -> Iterator[Path]:
    """A folder of this run alone, for what it has not finished."""
    with writing(target.path):
        incoming = Path(tempfile.mkdtemp(dir=target.incoming))
    try:
        yield incoming
    finally:
        remove_tree(incoming)


def _key(key: bytes | str | os.PathLike[str] | None) -> bytes:
    if key is None:
        return secrets.token_bytes(32)
    if not isinstance(key, bytes):
        try:
            with Path(key).open("rb") as file:
                key = file.read(_LONGEST_KEY + 1)
        except OSError as error:
            message = f"the file of the key cannot be read: {error.strerror}"
            raise DicomStudyError("deidentify/key", message) from error
        if len(key) > _LONGEST_KEY:
            message = f"the file of the key has more than {_LONGEST_KEY} bytes, or no end"
            raise DicomStudyError("deidentify/key", message)
    if len(key) < SHORTEST_KEY:
        message = f"a key of {len(key)} bytes can be guessed: it has at least {SHORTEST_KEY}"
        raise DicomStudyError("deidentify/key", message)
    return key


def _new(destination: str | os.PathLike[str]) -> Archive:
    """A new archive in a new or empty folder that is in no archive."""
    path = path_named(destination)
    make_new(path)
    return Archive(path)


def _take_over(
    study: Study,
    target: Archive,
    incoming: Path,
    policy_: Policy,
    pseudonyms: Pseudonyms,
    report: Deidentified,
    progress: Progress,
) -> None:
    """Write the document and the bulk file of one study, or none of them."""
    bulk = incoming / _BULK
    transfer = Transfer(study, policy_, pseudonyms, bulk)
    try:
        done = report.instances
        for chunk in study.chunks():
            if isinstance(chunk, DicomStudyError):
                raise chunk
            for instance in chunk:
                transfer.add(instance)
                progress("instances", done + len(transfer.batch.entries), None)
        bulk_length = transfer.bulk_length
        report.problems += transfer.problems
        if not transfer.batch.entries:
            return
        written = _write_study(transfer, bulk_length, target, incoming)
    finally:
        try:
            transfer.close()
        finally:
            with writing(target.path):
                bulk.unlink(missing_ok=True)
    report.studies += 1
    report.instances += len(transfer.batch.entries)
    report.bytes_in += transfer.bytes_in
    report.bytes_out += written + bulk_length
    report.risks += [
        Risk(transfer.uid, code, transfer.notes[code], message)
        for code, message in MESSAGES.items()
        if transfer.notes[code]
    ]


def _write_study(transfer: Transfer, bulk_length: int, target: Archive, incoming: Path) -> int:
    """Give a study its document, and its bulk file if that has a length; the document's size."""
    document = target.document_path(transfer.uid)
    with writing(target.path):
        frames = encode_version(
            transfer.uid,
            transfer.batch,
            target.definitions,
            history=None,
            bulk=BulkFile(length=bulk_length),
        )
        make_folder(document.parent)
        with locked(document):  # `collect` removes a bulk file that has no document
            if is_there(document):
                raise ArchiveError(
                    "archive/not-empty",
                    "the archive has a study of its new UID already",
                    source=str(document),
                )
            if bulk_length:
                (incoming / _BULK).replace(target.bulk_path(transfer.uid))
                sync(document.parent)
            return write_atomically(document, frames, within=incoming)
