"""A file that comes in → its elements and record, or the answer that it is no P10 file.

What reads files for an archive and what reads them for records (`ingestion`, `records`) begin here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dicomstudy import instance_record
from dicomstudy.containers import Member, holds_files
from dicomstudy.elements import Buffer, Span, chunks
from dicomstudy.errors import DicomStudyError, Problem
from dicomstudy.grouping import Grouper
from dicomstudy.p10 import PREFIX, VRS, P10File, Reader
from dicomstudy.record import Decoder, Record
from dicomstudy.sources import Window, uri_of

__all__ = ["Input", "is_of_source", "may_be_p10", "not_taken", "take_apart"]

_HEAD = 512
#: What bare data sets with a command set begin with: its length, or the tag of its class.
_COMMAND_LENGTH, _COMMAND_CLASS = b"\0\0\0\0\4\0\0\0", b"\0\0\2\0"


class Input(NamedTuple):
    """One file; `modified` is its time of modification, None if it can't be referred to.

    Those of zip and tar files can't.
    """

    data: Buffer
    uri: str
    source: str
    modified: int | None = None

    @classmethod
    def of(cls, member: Member, path: Path) -> Input | None:
        """What a member of a zip or tar file has; None if it can't be taken out."""
        if member.data is None:
            return None
        return cls(member.data, uri_of(path, member.name), member.source_in(path))

    def pieces(self) -> Iterator[bytes]:
        """All its bytes, which are those of one file. Errors as in `check`."""
        yield from map(bytes, chunks(self.data, Span(0, len(self.data))))
        self.check()

    def check(self) -> None:
        """Raise `DicomStudyError` if a large file was written to while it was read."""
        if isinstance(self.data, Window):
            self.data.check()


def not_taken(member: Member, path: Path, *, records: bool = True) -> Problem | None:
    """The problem of a member that would be taken outside of a zip or tar file; None of others.

    Of `records` only if those would be taken.
    """
    if member.data is None or may_be_p10(member.data):
        return None
    if holds_files(member.data):
        kind = "a zip or tar file"
    elif records and instance_record.is_record(member.data[:_HEAD], Path(member.name).suffix):
        kind = "an instance record"
    else:
        return None
    message = f"{kind} inside another file is not read: unpack what it is in"
    return Problem(member.source_in(path), "source/member", message)


class TakenApart(NamedTuple):
    """A P10 file: its elements, its record, and the UIDs of study, series and instance.

    `uids` is None if it lacks one of them.
    """

    file: P10File
    record: Record
    uids: tuple[str, str, str] | None


def take_apart(
    given: Input, reader: Reader, decoder: Decoder, grouper: Grouper
) -> TakenApart | None:
    """What a P10 file holds; None for one that is none (spec/archive.md).

    Raises:
        DicomStudyError: it cannot be read on, or has the prefix of P10 files, but cannot be taken
            apart.
    """
    if not may_be_p10(given.data):
        return None
    prefixed = _is_prefixed(given.data)
    try:
        file = reader.read(given.data, source=given.source)
        record = decoder.decode(file, given.data)
    except DicomStudyError as error:
        if prefixed or is_of_source(error):
            raise
        return None
    uids = grouper.uids(record)
    return TakenApart(file, record, uids) if prefixed or uids is not None else None


def may_be_p10(data: Buffer) -> bool:
    """Whether the first bytes of a file are those of a P10 file, with preamble or without."""
    return _is_prefixed(data) or _may_be_bare(data[:8])


def _is_prefixed(data: Buffer) -> bool:
    return data[128:132] == PREFIX


def _may_be_bare(head: bytes) -> bool:
    """Whether a file may be a data set without preamble: it begins with group 2 or 8.

    In big endian it has to have a VR too, which is more than two bytes that many files have; and of
    a command set, whose group is 0, it has to begin with the length or the class.
    """
    if head[:2] == b"\0\x08":
        return head[4:6] in VRS
    is_command = head == _COMMAND_LENGTH or (head[:4] == _COMMAND_CLASS and head[5:] == bytes(3))
    return is_command or head[:2] in {b"\2\0", b"\x08\0"}


def is_of_source(error: DicomStudyError) -> bool:
    """Whether a file could not be read on, which tells nothing of what it is."""
    return error.code.startswith("source/")
