"""The large values of an instance: where each lies, and its bytes (spec/bulk.md)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dicomstudy.bulk import Place, Places
from dicomstudy.document import place_fields, place_of, references_in
from dicomstudy.elements import Piece, Span, chunks, sha256_of
from dicomstudy.errors import BulkError
from dicomstudy.grouping import Source
from dicomstudy.ion import blob_hash_hex
from dicomstudy.p10 import PREFIX
from dicomstudy.record import is_reference
from dicomstudy.sources import FileIdentity, Window

if TYPE_CHECKING:
    from dicomstudy.study.studies import Study

__all__ = ["LargeValues"]

#: Bytes of a P10 file that are read at once.
_PIECE = 1 << 20


class LargeValues:
    """Reads the values that references of an instance stand for.

    Args:
        study: its study.
        source: the file that it came from.
        chunk: the places of its chunk, by SHA-256.
        own: the attributes that it came with and that are in no group.
    """

    def __init__(
        self,
        study: Study,
        source: Source,
        chunk: Mapping[str, Any],
        own: Mapping[str, Any],
    ) -> None:
        self._study = study
        self._source = source
        self._chunk = chunk
        self._own = own

    @cached_property
    def own_places(self) -> Places:
        """Where the values of attributes lie that are in no group, by SHA-256."""
        places = {}
        for value in self._own.values():
            if is_reference(value) and "sha256" in value and (place := place_fields(value)):
                places[value["sha256"]] = self._source.located(place)
        return places

    def place(self, reference: Mapping[str, Any]) -> Place | None:
        """Where in the bulk file of the study a value lies; None if it is not there."""
        return place_of(reference, self._table(reference))

    def read(
        self, reference: Mapping[str, Any] | bytes, start: int = 0, stop: int | None = None
    ) -> Iterator[Piece]:
        """Bytes `start` to `stop` of a value, in pieces, or of one that is inline.

        Raises:
            BulkError: it is missing or damaged.
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
        source, value = self._in_source(reference, table)
        offset = value.offset
        with self._open(source, value) as window:
            if offset + length > len(window):
                raise BulkError(
                    "bulk/place",
                    "a large value reaches beyond the end of the file that it lies in",
                    source=source.uri,
                )
            for at in range(offset + start, offset + stop, _PIECE):
                yield window[at : min(at + _PIECE, offset + stop)]

    def reads_files(self, values: Iterable[Any]) -> bool:
        """Whether references in some values stand for what P10 files have; none is opened.

        Raises:
            BulkError: the document does not say where a value lies (``bulk/no-place``).
        """
        return any(True for _ in self._files(values))

    def files(self, values: Iterable[Any]) -> set[FileIdentity]:
        """The P10 files that references in some values stand for values of.

        Raises:
            BulkError: one of them is gone or has changed.
        """
        found = set()
        for source, value in self._files(values):
            with self._open(source, value) as window:
                found.add(window.identity)
        return found

    def prove_files(self, values: Iterable[Any]) -> bool:
        """Take the SHA-256 of the same files, on which it depends from now on; whether any is.

        Raises:
            BulkError: one of them is another (``bulk/source-changed``), and is nowhere else.
        """
        files = [*self._files(values)]
        for source, value in files:
            self._open(source, value, doubted=True).close()
        return bool(files)

    def _files(self, values: Iterable[Any]) -> Iterator[tuple[Source, _Value]]:
        """The P10 files, each once, and one of the values in each."""
        found = set()
        for reference in references_in([*values]):
            table = self._table(reference)
            if place_of(reference, table) is None:
                source, value = self._in_source(reference, table)
                file = source.uri, source.sha256 or value
                if file not in found:
                    found.add(file)
                    yield source, value

    def _table(self, reference: Mapping[str, Any]) -> Mapping[str, Any]:
        """The table of places that has a value, if any has."""
        shared = self._study.shared.places
        sha256 = reference.get("sha256")
        if sha256 in self._chunk:
            return self._chunk
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


@dataclass(frozen=True, slots=True)
class _Value:
    """A value in a file of which no digest is recorded, as in records of dicom2ion.

    Whoever wrote such a record could name any file of this machine: only one that has a value of
    this digest is read, which is an Ion Hash, or a SHA-256.
    """

    offset: int
    length: int
    digest: str | None

    def __call__(self, window: Window) -> bool:
        """Whether a file has the value; without a digest, whether it is a P10 file."""
        if self.digest is None:
            return window[128 : 128 + len(PREFIX)] == PREFIX
        if self.offset + self.length > len(window):
            return False
        span = Span(self.offset, self.length)
        pieces = (bytes(piece) for piece in chunks(window, span))
        return blob_hash_hex(pieces) == self.digest or sha256_of(window, span) == self.digest
