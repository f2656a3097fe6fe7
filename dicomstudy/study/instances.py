"""One instance of a study: its attributes, its file, its frames (spec/study.md)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from io import BytesIO
from operator import getitem
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from dicomstudy import frames as frame_index
from dicomstudy import json_model
from dicomstudy.amendment import Amended, Edit
from dicomstudy.bulk import Place, Places
from dicomstudy.document import (
    NOT_ATTRIBUTES,
    digest_of,
    digest_of_record,
    digests_of_groups,
    groups_of,
    is_named,
    name_of_instance,
    source_of,
    uid_of,
    without_files,
)
from dicomstudy.elements import WORD_SIZES, Piece, joined, sha256_and_size
from dicomstudy.errors import BulkError, RecordError, StudyError
from dicomstudy.grouping import (
    Group,
    HashedGroup,
    Source,
    encoding_of,
    ungroup,
    without_encoding,
)
from dicomstudy.lineage import Version
from dicomstudy.p10 import deflate
from dicomstudy.record import DEFLATED, Resolve, Segment
from dicomstudy.sources import FileIdentity
from dicomstudy.study import datasets
from dicomstudy.study.large import LargeValues

if TYPE_CHECKING:
    import pydicom

    from dicomstudy.study.studies import Study

__all__ = ["Chunk", "Instance", "copied"]

#: Of frames one after another, so many bytes are read at once.
_SMALL_FRAMES = 1 << 18
#: Codes of what came out other than its digest says.
_NOT_PROVED = {"bulk/digest", "study/sha256"}
_CHANGEABLE = frozenset((dict, list))

_Result = TypeVar("_Result")


def copied(value: Any) -> Any:
    """A struct or list of values that may be changed, and what it was made of stays what it is."""
    if type(value) is dict:
        return {
            key: copied(item) if type(item) in _CHANGEABLE else item for key, item in value.items()
        }
    return [copied(item) if type(item) in _CHANGEABLE else item for item in value]


class Chunk:
    """A frame of a document that has instances, and its groups by digest."""

    def __init__(self, frame: dict[str, Any]) -> None:
        self.frame = frame

    @cached_property
    def groups(self) -> dict[str, Group]:
        """Name and content of each, by digest."""
        return groups_of(self.frame)


class Instance:
    """One instance of a study; made by `Study`.

    Attributes:
        study: the study.
        key: its key there.
    """

    def __init__(self, study: Study, number: int, key: str, *, original: bool = False) -> None:
        self.study = study
        self.key = key
        self._number = number
        self._is_original = original
        self._chunk = study.chunk(number)
        self._frame = self._chunk.frame
        self._struct: dict[str, Any] = self._frame["instances"][key]

    def __repr__(self) -> str:
        return f"Instance({self.key!r})"

    def __reduce__(self) -> tuple[object, ...]:
        """How pickle finds it among the instances that the study has by then, or a KeyError."""
        if self._is_original:
            return Instance.original, (Instance(self.study, self._number, self.key),)
        return getitem, (self.study, self.key)

    @property
    def uid(self) -> str:
        """The SOP Instance UID."""
        return uid_of(self.key, self._struct)

    @property
    def series(self) -> str:
        """The Series Instance UID."""
        return str(self._frame["seriesInstanceUID"])

    @property
    def source(self) -> Source:
        """The file that it came from."""
        return source_of(self._struct)

    @property
    def identity(self) -> str:
        """What tells it from others of its UID: the SHA-256 of its file, or that of its record."""
        return digest_of(self._struct) or digest_of_record(self._original_attributes())

    @property
    def events(self) -> Sequence[int]:
        """The versions in which it came in, and those in which it went out with a minus."""
        events: Sequence[int] = self._struct.get("_versions", ())
        return events

    @property
    def is_retired(self) -> bool:
        """Whether the document says that only older versions have it."""
        return self._number >= len(self.study.document.chunks)

    @property
    def changed(self) -> bool:
        """Whether it is other than it came (spec/edits.md)."""
        return self._amended is not None

    def original(self) -> Instance:
        """The instance as it came, whatever was changed of it since."""
        return Instance(self.study, self._number, self.key, original=True)

    @cached_property
    def _amended(self) -> Amended | None:
        edits = [] if self._is_original else self.edits()
        if not edits:
            return None
        return self.study.amender.amended(
            self._stored_groups, self._stored_own, edits, self._resolve
        )

    def edits(self) -> list[tuple[Version, Edit]]:
        """The edits that hold for it, in order, each with the version that made it.

        Those that it brought from another study come first (spec/moving.md). One that only
        older versions have is as it was when it came.
        """
        history = self.study.history
        if not history.has_edits:
            return []
        events = self.events
        since = history.since(events)
        came = history.arrival(events) if since is None else since
        edits = history.brought(came, self.series, name_of_instance(self.uid, self.identity))
        later = [] if since is None else history.edits(since, self.series, self.uid)
        return [*edits, *((version, edit) for version, edit in later if self.is_meant(edit))]

    def is_meant(self, edit: Edit) -> bool:
        """Whether an edit is for the series, or the instance, that this is."""
        return edit.get("series", self.series) == self.series and (
            "instance" not in edit or is_named(edit["instance"], self.uid, self.identity)
        )

    @property
    def own(self) -> dict[str, Any]:
        """The attributes that are in none of its groups. Not to be changed, as in `groups`."""
        return self._stored_own if self._amended is None else self._amended.own

    @property
    def groups(self) -> list[HashedGroup]:
        """Digest, name and content of each of its groups, in the order of spec/grouping.md.

        Of one that is not changed, those of the series come first.
        The contents are those of the document, which other instances refer to as well: they are
        not to be changed (`Study.groups` has copies).

        Raises:
            StudyError: a group is missing from the document.
        """
        return self._stored_groups if self._amended is None else self._amended.groups

    @property
    def _stored_own(self) -> dict[str, Any]:
        return {key: value for key, value in self._struct.items() if key not in NOT_ATTRIBUTES}

    @property
    def own_places(self) -> Places:
        """Where the large values lie that it came with and that are in no group, by SHA-256.

        Not to be changed, as `own`.
        """
        return self._large.own_places

    @property
    def places_in_own_file(self) -> Places:
        """Where the large values lie that it came with and no place is said of, by SHA-256."""
        return self._large.places_in_own_file

    @cached_property
    def _large(self) -> LargeValues:
        other = self.original()  # bound to itself, it would be freed late
        return LargeValues(
            self.study,
            self.source,
            self._frame.get("bulk", {}),
            self._stored_own,
            lambda: other._stored_groups,  # noqa: SLF001 (of its class)
        )

    def deflated(self) -> bytes | None:
        """The deflate stream of its data set, None if it has none or is not `changed`."""
        if not self.changed or not self._was_deflated:
            return None
        stream = self._segments()[1]
        return stream if isinstance(stream, bytes) else None

    @property
    def _was_deflated(self) -> bool:
        parts = [self._stored_own, *(content for _, _, content in self._stored_groups)]
        return any(DEFLATED in part for part in parts)

    @cached_property
    def _stored_groups(self) -> list[HashedGroup]:
        shared, mine = self.study.shared.groups, self._chunk.groups
        groups = []
        for digest in dict.fromkeys(digests_of_groups(self._frame, self._struct)):
            found = mine.get(digest) or shared.get(digest)
            if found is None:
                raise self.study.document.missing_group(digest)
            groups.append((digest, *found))
        return groups

    @property
    def encoding(self) -> dict[str, Any] | None:
        """How its file was written, None if that is not known."""
        return encoding_of(self.groups)

    def attributes(self) -> dict[str, Any]:
        """Every attribute as the document holds it, groups merged in (spec/record.md); a copy."""
        attributes: dict[str, Any] = copied(self._attributes())
        return attributes

    def _attributes(self) -> dict[str, Any]:
        """The `attributes`, with items and references that are those of the document."""
        return _merged(self.groups, self.own)

    def _original_attributes(self) -> dict[str, Any]:
        """The `_attributes` as they came."""
        return _merged(self._stored_groups, self._stored_own)

    def metadata(self) -> dict[str, Any]:
        """Every attribute by keyword, in the order of the file, groups merged in.

        Values are those of documents (spec/values.md), private ones decoded by the VR that the
        file gives them. Large values are references, a struct with `length` and `sha256`;
        pixel data that is in its P10 file only, with `dataOffset` instead of that.
        """
        attributes = {key: without_files(value) for key, value in self.attributes().items()}
        return json_model.metadata(attributes, self.encoding, self.study.encoder)

    def to_json(self) -> dict[str, Any]:
        """The instance in the DICOM JSON model (PS3.18 Annex F).

        Without the file meta information and group lengths. Large values of bytes are named by
        ``BulkDataURI``, which `bulk_data` takes; text and numbers stand in full.
        """
        return json_model.to_json(
            self._attributes(), self.encoding, self.study.encoder, self._resolve
        )

    def bulk_data(self, uri: str) -> bytes:
        """The large value that a ``BulkDataURI`` of `to_json` names.

        Little-endian and without delimiter, as ``InlineBinary`` would have it: this method can be
        the `bulk_data_uri_handler` of `pydicom.Dataset.from_json`.

        Raises:
            StudyError: it names none of this instance (``study/no-value``).
            BulkError: the value is missing or damaged.
            DicomStudyError: the file that has it cannot be read (``source/unreadable``).
        """
        read = self._bulk_data.get(uri)
        if read is None:
            raise StudyError("study/no-value", f"{self.uid} has no large value {uri!r:.100}")
        return read(self._resolve)

    @cached_property
    def _bulk_data(self) -> dict[str, Callable[[Resolve], bytes]]:
        return json_model.bulk_data(self._attributes(), self.encoding, self.study.encoder)

    def to_dataset(self) -> pydicom.Dataset:
        """The instance as pydicom reads it from its file.

        Without a file it is made of the values. In either case, a value that pydicom refuses is
        refused when it is asked for.

        Raises:
            RecordError, BulkError: as `to_p10`.
            StudyError: as `to_p10`, and if pydicom does not read the file (``study/dataset``).
        """
        if self.encoding is None:
            attributes, encoder = self._attributes(), self.study.encoder
            meta = json_model.file_meta(attributes, encoder, self._resolve)
            return datasets.from_json(self.to_json(), self.bulk_data, meta)
        return datasets.from_p10(self.to_p10(), self.uid)

    def to_p10(self) -> bytes:
        """The original file, bit for bit, proved by its SHA-256; of a `changed` one a new file.

        If it comes out otherwise, the P10 files that large values were read from are proved by
        theirs, and it is made once more; of another file, where one is damaged (spec/bulk.md).

        Raises:
            RecordError: how the file was written is not known (``record/no-encoding``).
            BulkError: a large value is missing or damaged, or the P10 file that has it is another
                (``bulk/source-changed``).
            StudyError: what came out is not the file (``study/sha256``).
        """
        buffer = BytesIO()
        self.write_p10(buffer)
        return buffer.getvalue()

    def write_p10(self, file: BinaryIO) -> int:
        """Write the file, and return its size. As `to_p10`, with bounded memory.

        What is made once more is written over what was written. Where `file` does not go back,
        that is an error (``bulk/source-changed``), and the next call reads what is proved now.

        Args:
            file: needs `write` only.
        """
        start = _place_in(file)
        try:
            return self._write(file.write)[1]
        except (BulkError, StudyError) as error:
            if not self._can_try_again(error):
                raise
        if start is not None and _goes_back(file, start):
            _, size = self._write(file.write)
            if file.tell() == start + size:  # not of one that only appends
                return size
        raise BulkError(
            "bulk/source-changed",
            f"what was written is not the file of {self.uid}; the files that it is read from are "
            "proved now: write it again",
            source=self.source.uri,
        )

    def check_p10(self) -> tuple[str, int]:
        """SHA-256 and size of the file, proved as by `write_p10`, but written nowhere."""
        return self._sure(lambda: self._write(lambda _: None))

    def _write(self, write: Callable[[Piece], object]) -> tuple[str, int]:
        """Write the file and prove it; its SHA-256 and size."""
        sha256, size = sha256_and_size(self.pieces(), write)
        self.prove(sha256)
        return sha256, size

    def prove(self, sha256: str) -> None:
        """Compare the SHA-256 of what `pieces` gave with that of the original file.

        Of a `changed` instance there is nothing to compare with.

        Raises:
            StudyError: they differ (``study/sha256``).
        """
        expected = self.source.sha256
        if expected is not None and not self.changed and sha256 != expected:
            raise StudyError(
                "study/sha256",
                f"the file rebuilt for {self.uid} is not the original",
                source=str(self.study.path),
            )

    def pieces(self) -> Iterator[Piece]:
        """The file in pieces, not proved yet. Errors as in `to_p10`."""
        return joined(self._pieces())

    def rebuilt(self) -> bytes:
        """The file in memory, not proved yet. Errors as in `to_p10`."""
        return self._sure(lambda: b"".join(self._pieces()))

    def _pieces(self) -> Iterator[Piece]:
        segments = self._segments()
        if self.changed and not all(isinstance(s, bytes) or "sha256" in s for s in segments):
            self.original().check_p10()  # nothing else says what these values are
        for segment in segments:
            if isinstance(segment, bytes):
                yield segment
            elif self.changed:  # there is no SHA-256 of the whole file
                yield from self._proved(segment)
            else:
                yield from self._large.read(segment)

    def _proved(self, reference: Mapping[str, Any]) -> Iterator[Piece]:
        """A whole large value in pieces, compared with its SHA-256 if it has one.

        In records of dicom2ion, which have no encoding, that is something else.
        """
        if encoding_of(self._stored_groups) is None:
            yield from self._large.read(reference)
            return
        digest = hashlib.sha256()
        for piece in self._large.read(reference):
            digest.update(piece)
            yield piece
        if reference.get("sha256") not in {None, digest.hexdigest()}:
            raise BulkError(
                "bulk/digest",
                f"a large value of {self.uid} is not what its digest says",
                source=str(self.study.path),
            )

    def _segments(self) -> list[Segment]:
        study, encoding = self.study, self.encoding
        if encoding is None:
            raise RecordError(
                "record/no-encoding",
                f"{self.uid} came from a record that does not say how its file was written",
                source=str(study.path),
            )
        groups = without_encoding(self.groups)
        segments = study.encoder.rebuild(groups, self.own, encoding, self._resolve)
        if self.changed and self._was_deflated:
            return self._deflated(segments, groups, encoding)
        return segments

    def _deflated(
        self,
        segments: list[Segment],
        groups: list[tuple[str, dict[str, Any]]],
        encoding: Mapping[str, Any],
    ) -> list[Segment]:
        """The file with its data set deflated (PS3.5 section A.5)."""
        meta = self.study.encoder.rebuild(
            groups, self.own, {**encoding, "dataSet": ""}, self._resolve
        )
        start = b"".join(piece for piece in meta if isinstance(piece, bytes))
        whole = b"".join(
            piece if isinstance(piece, bytes) else self._resolve(piece) for piece in segments
        )
        return [start, deflate(whole[len(start) :])]

    def _resolve(self, reference: Mapping[str, Any]) -> bytes:
        return self._sure(lambda: b"".join(self._proved(reference)), reference)

    def _sure(
        self, attempt: Callable[[], _Result], reference: Mapping[str, Any] | None = None
    ) -> _Result:
        """What `attempt` gives; if it is not proved, once more, of source files that are.

        Args:
            attempt: reads large values, and compares what comes out with its digest.
            reference: the one that it reads; without, all of the instance.
        """
        try:
            return attempt()
        except (BulkError, StudyError) as error:
            if not self._can_try_again(error, reference):
                raise
        return attempt()

    def _can_try_again(
        self, error: BulkError | StudyError, reference: Mapping[str, Any] | None = None
    ) -> bool:
        """Whether something was not proved that was read from P10 files, which are proved now.

        Raises:
            BulkError: one of them is another (``bulk/source-changed``), and is nowhere else.
        """
        if error.code not in _NOT_PROVED:
            return False
        values = self._attributes().values() if reference is None else [reference]
        return self._large.prove_files(values)

    @property
    def reads_files(self) -> bool:
        """Whether large values of the original are read from P10 files; none is opened."""
        return self._large.reads_files(self._original_attributes().values())

    def files(self) -> set[FileIdentity]:
        """The files that large values of the original are read from, as far as they are there.

        Raises:
            DicomStudyError: some cannot be read for the moment.
        """
        return self._large.files(self._original_attributes().values())

    def place(self, reference: Mapping[str, Any]) -> Place | None:
        """Where in the bulk file of the study a large value lies; None if it is not there."""
        return self._large.place(reference)

    def value_pieces(self, reference: Mapping[str, Any]) -> Iterator[Piece]:
        """The bytes of a large value, in pieces.

        Raises:
            BulkError: it is missing or damaged.
            DicomStudyError: the file that has it cannot be read (``source/unreadable``).
        """
        return self._large.read(reference)

    def frames(self) -> Iterator[bytes]:
        """The frames of the pixel data as they are encoded, one after another.

        Encapsulated frames are their fragments joined (PS3.5 section A.4), found by the
        extended or basic offset table; native ones are cut by the image attributes. Only the
        pixel data is read, several small frames at once, so that no digest proves them: of a P10
        file that is referred to, its size and time of modification are trusted (spec/bulk.md).

        Raises:
            StudyError: there is no pixel data, or it cannot be told where frames start.
        """
        read = frame_index.ahead(self._range, _SMALL_FRAMES)
        return (frame_index.frame_bytes(frame, read) for frame in self.frame_spans)

    def frame(self, number: int) -> bytes:
        """One frame as it is encoded, counted from 1 as in DICOM; not proved, as `frames`.

        Raises:
            StudyError: there is no such frame (``study/no-frame``), and as `frames`.
        """
        all_spans = self.frame_spans
        if not 1 <= number <= len(all_spans):
            raise StudyError(
                "study/no-frame",
                f"there is no frame {number} in {self.uid}: it has 1 to {len(all_spans)}",
            )
        return frame_index.frame_bytes(all_spans[number - 1], self._range)

    @cached_property
    def frame_spans(self) -> Sequence[frame_index.FrameSpans]:
        """Which bytes of which large value each frame is made of."""
        return frame_index.find(
            self._attributes(),
            self._range,
            big=self._is_big_endian,
            uid=self.uid,
            word=self._pixel_word,
        )

    def check_fragments(self) -> None:
        """Compare the lengths of the fragments of pixel data with the fragments.

        Raises:
            StudyError: they are others (``study/frames``).
        """
        frame_index.check_fragments(
            self._attributes(), self._range, big=self._is_big_endian, uid=self.uid
        )

    def _range(self, reference: Mapping[str, Any], start: int, stop: int) -> bytes:
        """Bytes `start` to `stop` of a large value."""
        return b"".join(self._large.read(reference, start, stop))

    @property
    def _is_big_endian(self) -> bool:
        return (self.encoding or {}).get("byteOrder") == "big"

    @property
    def _pixel_word(self) -> int:
        """Bytes of the words in which big-endian pixel data is; 1 if it is not."""
        encoding = self.encoding
        if encoding is None or not self._is_big_endian:
            return 1
        found = self.study.encoder.plan(encoding).tokens.get("PixelData")
        return 1 if found is None else WORD_SIZES.get(found[0].vr, 1)


def _merged(groups: Iterable[HashedGroup], own: dict[str, Any]) -> dict[str, Any]:
    """Every attribute of some groups, but for those of the encoding, with its own ones."""
    return ungroup(without_encoding(groups), own)


def _place_in(file: BinaryIO) -> int | None:
    """Where a file stands; None if it does not go back, or does not say whether it does."""
    seekable = getattr(file, "seekable", None)
    return file.tell() if seekable is not None and seekable() else None


def _goes_back(file: BinaryIO, start: int) -> bool:
    """Whether a file goes back to where it was; one that is compressed, say, cannot."""
    try:
        return file.seek(start) == start
    except OSError:
        return False
