"""The large values of an instance: where each lies, and its bytes (spec/bulk.md)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dicomstudy.bulk import Place, Places
from dicomstudy.document import place_fields, place_of, references_in
from dicomstudy.elements import Piece, Span, chunks, sha256_of
from dicomstudy.errors import BulkError, DicomStudyError, RecordError
from dicomstudy.grouping import HashedGroup, Source, encoding_of, without_encoding
from dicomstudy.ion import blob_hash_hex
from dicomstudy.p10 import PREFIX
from dicomstudy.record import Encoder, is_reference
from dicomstudy.sources import FileIdentity, Window, identity_at

if TYPE_CHECKING:
    from dicomstudy.study.studies import Study

__all__ = ["LargeValues"]

#: Bytes of a P10 file that are read at once.
_PIECE = 1 << 20
#: What a value of an item begins with while it is looked for; its number of four bytes follows.
_MARK = bytes.fromhex("9d1f5be08c27a364")
#: Where items have more bytes in large values, nothing is looked for.
_MAX_MARKED = 1 << 28


class LargeValues:
    """Reads the values that references of an instance stand for.

    Args:
        study: its study.
        source: the file that it came from.
        table: the table of places of its chunk.
        own: the attributes that it came with and that are in no group.
        groups: gives the groups that it came with.
    """

    def __init__(
        self,
        study: Study,
        source: Source,
        table: Mapping[str, Any],
        own: Mapping[str, Any],
        groups: Callable[[], Sequence[HashedGroup]],
    ) -> None:
        self._study = study
        self._source = source
        self._table_of_chunk = table
        self._own = own
        self._groups = groups
        self._is_doubted = False

    @cached_property
    def own_places(self) -> Places:
        """Where the values lie that the instance came with and that say so, by SHA-256.

        They are in no group; but those of an instance without encoding, at any depth.
        """
        values = [value for value in self._own.values() if is_reference(value)]
        if encoding_of(self._groups()) is None:
            contents = [content for _, _, content in self._groups()]
            values = [*references_in([contents, self._own])]
        places = {}
        for value in values:
            if "sha256" in value and (place := place_fields(value)):
                places[value["sha256"]] = self._source.located(place)
        return places

    @cached_property
    def places_in_own_file(self) -> Places:
        """Where the values lie that the instance came with and no place is said of, by SHA-256."""
        contents = [content for _, _, content in self._groups()]
        unsaid = {
            reference.get("sha256")
            for reference, table in self._in_files([contents, self._own])
            if "dataOffset" not in reference and reference.get("sha256") not in table
        }
        return {
            sha256: self._source.located({"dataOffset": offset})
            for sha256, offset in (self._positions.items() if unsaid else ())
            if sha256 in unsaid
        }

    def place(self, reference: Mapping[str, Any]) -> Place | None:
        """Where in the bulk file of the study a value lies; None if it is not there."""
        return place_of(reference, self._table(reference))

    def read(
        self, reference: Mapping[str, Any] | bytes, start: int = 0, stop: int | None = None
    ) -> Iterator[Piece]:
        """Bytes `start` to `stop` of a value, in pieces, or of one that is inline.

        Raises:
            BulkError: it is missing or damaged.
            DicomStudyError: the file that has it cannot be read (``source/unreadable``).
        """
        if isinstance(reference, bytes):
            yield reference[start:stop]
            return
        length = int(reference["length"])
        stop = length if stop is None else min(stop, length)
        table = self._table(reference)
        place = place_of(reference, table)
        if place is not None:
            yield from self._study.bulk.pieces(place, start, stop)
            return
        window, offset = self._opened(reference, table)
        with window:
            for at in range(offset + start, offset + stop, _PIECE):
                yield window.part(at, min(at + _PIECE, offset + stop))

    def reads_files(self, values: Iterable[Any]) -> bool:
        """Whether references in some values stand for what P10 files have; none is opened."""
        return any(True for _ in self._in_files(values))

    def files(self, values: Iterable[Any]) -> set[FileIdentity]:
        """The P10 files that references in some values stand for values of, if they are there.

        Raises:
            DicomStudyError: what else there is cannot be read for the moment.
        """
        found: set[FileIdentity] = set()
        seen = set()
        for reference, table in self._in_files(values):
            file = None  # without a place, the instance's own file may have it
            with contextlib.suppress(BulkError):
                source, value = self._in_source(reference, table)
                file = _name_of(source, value)
                if file not in seen:
                    found |= identity_at(source.uri, source.size)
            if file is None or file not in seen:
                seen.add(file)
                with contextlib.suppress(BulkError):
                    window, _ = self._opened(reference, table)
                    with window:
                        found.add(window.identity)
        if seen:  # the instance's own file may have all of them too
            found |= identity_at(self._source.uri, self._source.size)
        return found

    def prove_files(self, values: Iterable[Any]) -> bool:
        """Prove the files that values are read from, by their SHA-256 from now on; whether any is.

        A value that the instance's own file has is read from there from now on, and proves it.

        Raises:
            BulkError: one of them is another (``bulk/source-changed``), and is nowhere else.
        """
        self._is_doubted = True
        proved: set[Hashable] = set()
        for reference, table in self._in_files(values):
            if (own := self._in_own_file(reference)) is not None:
                own[0].close()
                proved.add(None)
                continue
            source, value = self._in_source(reference, table)
            file = _name_of(source, value)
            if file not in proved:
                proved.add(file)
                self._open(source, value, doubted=True).close()
        return bool(proved)

    def _in_files(
        self, values: Iterable[Any]
    ) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
        """The references in some values that are in no bulk file, and the table that has each."""
        for reference in references_in([*values]):
            table = self._table(reference)
            if place_of(reference, table) is None:
                yield reference, table

    def _table(self, reference: Mapping[str, Any]) -> Mapping[str, Any]:
        """The table of places that has a value, if any has."""
        shared = self._study.shared.places
        sha256 = reference.get("sha256")
        if sha256 in self._table_of_chunk:
            return self._table_of_chunk
        return shared if sha256 in shared else self.own_places

    def _in_source(
        self, reference: Mapping[str, Any], table: Mapping[str, Any]
    ) -> tuple[Source, _Value]:
        """The P10 file that has a value, and where in it the value is."""
        fields = reference
        if "dataOffset" not in reference:
            fields = table.get(reference.get("sha256", ""), {})
        if "dataOffset" not in fields:
            raise BulkError(
                "bulk/no-place",
                "the document does not say where a large value lies",
                source=str(self._study.path),
            )
        source = self._source
        if "uri" in fields:
            source = Source(
                fields["uri"], fields.get("source"), fields.get("size"), fields.get("modified")
            )
        offset, length = int(fields["dataOffset"]), int(reference["length"])
        return source, _Value(offset, length, reference.get("sha256"))

    def _opened(self, reference: Mapping[str, Any], table: Mapping[str, Any]) -> tuple[Window, int]:
        """The P10 file that has a value, and where in it the value starts.

        That is the instance's own file if the one that is said to have it does not.
        """
        own = self._in_own_file(reference) if self._is_doubted else None
        if own is not None:
            return own
        try:
            source, value = self._in_source(reference, table)
            window = self._open(source, value)
            if value.end <= len(window):
                return window, value.offset
            window.close()
            raise BulkError(
                "bulk/place",
                "a large value reaches beyond the end of the file that it lies in",
                source=source.uri,
            )
        except DicomStudyError:
            own = self._in_own_file(reference)
            if own is None:
                raise
            return own

    def _in_own_file(self, reference: Mapping[str, Any]) -> tuple[Window, int] | None:
        """The instance's own file, and where in it a value starts; None if it does not have it."""
        sha256 = reference.get("sha256")
        offset = self._positions.get(sha256) if isinstance(sha256, str) else None
        if offset is None:
            return None
        value = _Value(offset, int(reference["length"]), sha256)
        with contextlib.suppress(DicomStudyError, OSError), contextlib.ExitStack() as stack:
            window = stack.enter_context(self._open(self._source, value))
            if value(window):
                stack.pop_all()
                return window, offset
        return None

    @cached_property
    def _positions(self) -> Mapping[str, int]:
        """Where values stand in the instance's own file, by SHA-256."""
        return _positions(self._study.encoder, self._groups(), self._own)

    def _open(self, source: Source, value: _Value, *, doubted: bool = False) -> Window:
        """The P10 file that has a value."""
        return self._study.sources.open(
            source.uri,
            size=source.size,
            sha256=source.sha256,
            modified=source.modified,
            has=value,
            doubted=doubted,
        )


def _positions(
    encoder: Encoder, groups: Sequence[HashedGroup], own: Mapping[str, Any]
) -> dict[str, int]:
    """Where large values of an instance stand in its file, by SHA-256, as its layout says.

    Values in items are found from 12 bytes on; none if there is no layout, or it is malformed.

    Args:
        encoder: writes the file.
        groups: digest, name and content of the groups that it came with.
        own: the attributes that are in none of them.
    """
    encoding = encoding_of(groups) or {}
    # without digests: the encoder is not to remember what is marked
    contents = [("", content) for _, content in without_encoding(groups)]
    marked: list[str] = []
    room = _MAX_MARKED

    def mark(reference: Mapping[str, Any]) -> bytes:
        nonlocal room
        length = reference["length"]
        room -= length
        if room < 0:
            raise RecordError("record/too-large", "items have too many bytes")
        content = _MARK + len(marked).to_bytes(4)
        if length < len(content):
            return bytes(length)
        marked.append(reference.get("sha256", ""))
        return content.ljust(length, b"\0")

    try:
        segments = encoder.rebuild(contents, own, encoding, mark)
    except DicomStudyError:
        return {}
    found: dict[str, int] = {}
    start = 0
    for segment in segments:
        if not isinstance(segment, bytes):
            found.setdefault(segment.get("sha256", ""), start)
            start += segment["length"]
            continue
        at = segment.find(_MARK)
        while at >= 0:
            number = int.from_bytes(segment[at + len(_MARK) : at + len(_MARK) + 4])
            if number < len(marked):
                found.setdefault(marked[number], start + at)
            at = segment.find(_MARK, at + 1)
        start += len(segment)
    return found


def _name_of(source: Source, value: _Value) -> Hashable:
    """What tells a file from others, if need be by a value that it has."""
    return source.uri, source.sha256 or value


@dataclass(frozen=True, slots=True)
class _Value:
    """A value in a file, which decides where the SHA-256 of the file is not known.

    That is so of records of dicom2ion.
    Whoever wrote such a record could name any file of this machine: only one that has a value of
    this digest is read, which is an Ion Hash, or a SHA-256.
    """

    offset: int
    length: int
    digest: str | None

    @property
    def end(self) -> int:
        """Where it ends."""
        return self.offset + self.length

    def __call__(self, window: Window) -> bool:
        """Whether a file has the value; without a digest, whether it is a P10 file."""
        if self.digest is None:
            return window[128 : 128 + len(PREFIX)] == PREFIX
        if self.end > len(window):
            return False
        span = Span(self.offset, self.length)
        pieces = (bytes(piece) for piece in chunks(window, span))
        return blob_hash_hex(pieces) == self.digest or sha256_of(window, span) == self.digest
