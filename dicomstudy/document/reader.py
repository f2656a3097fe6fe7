"""A document → its frames."""

from __future__ import annotations

import os
import stat
import weakref
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from functools import cached_property, lru_cache, partial
from itertools import chain
from pathlib import Path
from typing import Any

import zstandard

from dicomstudy import definitions as definitions_
from dicomstudy import ion
from dicomstudy.bulk import BulkFile
from dicomstudy.definitions import Definitions
from dicomstudy.disk import ABSENT, ReadOnly, mark_of
from dicomstudy.document.checks import is_frame, is_header
from dicomstudy.document.fields import (
    FOOTER,
    FORMAT,
    MAX_FRAME,
    SEEKABLE,
    TABLE_ENTRY,
    VERSION,
    ZSTD_MAGIC,
    most_values,
    references_in,
    uid_of,
)
from dicomstudy.document.readable import read_whole
from dicomstudy.elements import sha256_and_size
from dicomstudy.errors import DefinitionsError, IonError, StudyError
from dicomstudy.growth import Counts
from dicomstudy.lineage import History, Version, moment

_PIECE = 1 << 20
_CHUNK_FIELDS = ("seriesInstanceUID", "_groups", "groups", "instances", "bulk")


class Document:
    """Reads a study document, frame by frame.

    `header` is the first value of the stream. Documents of one struct, as dicom-study-builder-js
    writes them, are taken as well, binary or text, compressed or not.

    Raises:
        StudyError: not a study document, or a damaged one; it is not there (``study/missing``),
            or cannot be read (``study/unreadable``).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = ReadOnly(path)
        except OSError as error:
            code = "study/missing" if isinstance(error, ABSENT) else "study/unreadable"
            message = f"the document cannot be opened: {error.strerror}"
            raise self._error(code, message) from error
        try:
            self._frames = self._read_table()
            self._values: list[Any] | None = None
            if not self._frames:
                self._values = read_whole(self._plain(), str(path))
            self.header: dict[str, Any] = self._checked(self._value(0))
            self._group_names = frozenset(self._definitions().groups)
            self._check_frames()
        except BaseException:
            self._file.close()
            raise
        # the cache has no hold on the document, which goes at once with what was read of it
        self.chunk = lru_cache(maxsize=4)(partial(Document._chunk, weakref.proxy(self)))

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return self._status().st_size

    def sha256(self) -> str:
        """The SHA-256 of its bytes, in hexadecimal digits."""
        sha256, _ = sha256_and_size(self._pieces(self.size))
        return sha256

    @property
    def mark(self) -> int:
        """What tells it from those that were at its path before, and come after it."""
        return mark_of(self._status())

    def _error(self, code: str, message: str) -> StudyError:
        return StudyError(code, message, source=str(self.path))

    def _pread(self, length: int, offset: int) -> bytes:
        """`length` bytes from `offset` on.

        Raises:
            StudyError: the document ends before them, or cannot be read.
        """
        try:
            data = self._file.pread(length, offset)
        except OSError as error:
            raise self._unreadable(error) from error
        if len(data) < length:
            raise self._error("study/damaged", "the document ends early")
        return data

    def _status(self) -> os.stat_result:
        try:
            return self._file.status()
        except OSError as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: OSError) -> StudyError:
        return self._error("study/unreadable", f"the document cannot be read: {error.strerror}")

    def _read_table(self) -> list[tuple[int, int, int]]:
        """Offset, size and plain size of every frame; empty if there is no table."""
        status = self._status()
        if not stat.S_ISREG(status.st_mode):
            raise self._error("study/not-a-study", "this is no file")
        size = status.st_size
        if size < FOOTER.size:
            return []
        footer = self._pread(FOOTER.size, size - FOOTER.size)
        count, flags, magic = FOOTER.unpack(footer)
        length = count * TABLE_ENTRY.size
        if magic != SEEKABLE or length + FOOTER.size + 8 > size:
            return []
        if flags:
            raise self._error("study/damaged", "the table of frames has fields that none has")
        table = self._pread(length, size - FOOTER.size - length)
        frames = []
        offset = 0
        for compressed, plain in TABLE_ENTRY.iter_unpack(table):
            frames.append((offset, compressed, plain))
            offset += compressed
        if offset != size - FOOTER.size - length - 8:
            raise self._error("study/damaged", "the table of frames does not fit the document")
        return frames

    def _pieces(self, length: int) -> Iterator[bytes]:
        """Its first bytes, one piece after another. Errors as in `_pread`."""
        return (self._pread(min(_PIECE, length - at), at) for at in range(0, length, _PIECE))

    def _plain(self) -> bytes:
        """The document as one stream of Ion, which is read whole."""
        length = self.size
        if length > MAX_FRAME:
            raise self._error("study/too-large", "the document is too large to read whole")
        data = b"".join(self._pieces(length))
        if not data.startswith(ZSTD_MAGIC):
            return data
        plain = []
        size = 0
        try:
            reader = zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True)
            while piece := reader.read(_PIECE):
                plain.append(piece)
                size += len(piece)
                if size > MAX_FRAME:
                    raise self._error("study/too-large", "the document is too large to read whole")
        except zstandard.ZstdError as error:
            raise self._error("study/damaged", f"cannot be decompressed: {error}") from error
        return b"".join(plain)

    def _value(self, at: int) -> Any:
        if self._values is not None:
            if at >= len(self._values):
                raise self._error("study/damaged", "the document ends early")
            return self._values[at]
        try:
            plain = self._decompressed(at)
            return ion.loads(plain, max_values=most_values(len(plain), self._frames[at][1]))
        except IonError as error:
            raise self._error("study/damaged", f"a frame is not Ion: {error.message}") from error

    def _decompressed(self, at: int) -> bytes:
        """The bytes of a frame."""
        if at >= len(self._frames):
            raise self._error("study/damaged", "the document has fewer frames than its header says")
        if self._frames[at][2] > MAX_FRAME:
            raise self._error("study/damaged", "a frame is larger than any document writes")
        data, plain_size = self._stored(at)
        try:
            parameters = zstandard.get_frame_parameters(data)
            if parameters.content_size != plain_size:
                raise self._error("study/damaged", "a frame has another size than the table says")
            return zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise self._error(
                "study/damaged", f"a frame cannot be decompressed: {error}"
            ) from error

    def _checked(self, header: Any) -> dict[str, Any]:
        """The first value, if it is a header."""
        if not isinstance(header, dict) or header.get("format") != FORMAT:
            raise self._error("study/not-a-study", "this is not a study document")
        if type(header.get("version")) is not int or header["version"] != VERSION:
            raise self._error(
                "study/unknown-version", f"version {header.get('version')} of the format is unknown"
            )
        if not is_header(header):
            raise self._error("study/damaged", "the header lacks fields")
        return header

    def _definitions(self) -> Definitions:
        """The definitions that the header names, the newest ones if it names none."""
        written_by = self.header.get("definitions")
        if written_by is None:
            return definitions_.load()
        try:
            known = definitions_.load(str(written_by["version"]))
        except DefinitionsError as error:
            source = str(self.path)
            raise DefinitionsError(error.code, error.message, source=source) from error
        if written_by.get("sha256") != known.digest:
            raise self._error(
                "study/definitions",
                f"it was written by other definitions than those of version {known.version}",
            )
        return known

    @property
    def study(self) -> str:
        """The Study Instance UID."""
        return str(self.header["studyInstanceUID"])

    @property
    def version(self) -> int:
        """The number of the version that the study is of, which every change counts up."""
        return int(self.header.get("studyVersion", 1))

    @property
    def bulk(self) -> BulkFile:
        """Its bulk file; of length 0 if it has none."""
        return BulkFile(int(self.header.get("bulkFile", 0)), int(self.header["bulkLength"]))

    @property
    def instances(self) -> int:
        """How many instances the study has."""
        return sum(chunk["instances"] for chunk in self.chunks)

    @property
    def chunks(self) -> list[dict[str, Any]]:
        """What the header says of each chunk: its series, first and last key, instances."""
        chunks: list[dict[str, Any]] = self.header["chunks"]
        return chunks

    @property
    def retired(self) -> list[dict[str, Any]]:
        """What the header says of each chunk of instances that only older versions have."""
        retired: list[dict[str, Any]] = self.header.get("retired", [])
        return retired

    @cached_property
    def history(self) -> History:
        """The versions of the study.

        Raises:
            StudyError: the history is damaged.
        """
        if not self.header.get("historyFrames"):
            when = moment(self._status().st_mtime)
            return History((Version(1, when, "convert", added=self.instances),))
        struct = self._struct(1, ())
        try:
            history = History.from_struct(struct)
        except StudyError as error:
            raise self._error(error.code, error.message) from error
        if history.current != self.version:
            raise self._error("study/damaged", "the history is not that of the header")
        return history

    def stored_frames(self) -> Iterator[tuple[bytes, int]]:
        """The frames of groups and instances as they are stored, each with its plain size.

        Those of a document without a table are made.
        """
        for at in range(self._first, self._frame_count):
            if self.has_table:
                yield self._stored(at)
            else:
                plain = ion.dumps(self._value(at))
                yield zstandard.ZstdCompressor(write_checksum=True).compress(plain), len(plain)

    def stored_shared(self) -> Iterator[tuple[bytes, int]]:
        """The shared frames as they are stored, each with its plain size."""
        return map(self._stored, range(self._first, self._first_chunk))

    def stored_chunk(self, number: int) -> tuple[bytes, int]:
        """A chunk as it is stored, and its plain size."""
        return self._stored(self._first_chunk + number)

    @property
    def has_table(self) -> bool:
        """Whether its frames can be read one by one; else `_values` has what they would have."""
        return self._values is None

    @property
    def _frame_count(self) -> int:
        return len(self._frames if self._values is None else self._values)

    def _stored(self, at: int) -> tuple[bytes, int]:
        """A frame as it is stored, and its plain size.

        All of it is there: the table fits the file, and less than the table says is an error. What
        it says inside is proved by its checksum when it is decompressed, which a copy has too.
        """
        offset, size, plain_size = self._frames[at]
        return self._pread(size, offset), plain_size

    @cached_property
    def counts(self) -> dict[str, Counts]:
        """What tells how a late instance is grouped, by Series Instance UID, where it is known.

        Raises:
            StudyError: the counts are damaged.
        """
        if not self.header.get("countFrames"):
            return {}
        structs = self._struct(self._first - 1, ("series",))["series"]
        counts = {uid: Counts.from_struct(struct) for uid, struct in structs.items()}
        if None in counts.values():
            raise self._error("study/damaged", "the counts of a series lack fields")
        return {uid: each for uid, each in counts.items() if each is not None}

    @property
    def _first(self) -> int:
        """The number of the first frame of groups or instances."""
        header = self.header
        return 1 + int(header.get("historyFrames", 0)) + int(header.get("countFrames", 0))

    @property
    def _first_chunk(self) -> int:
        """The number of the first frame of instances."""
        return self._first + int(self.header.get("sharedFrames", 0))

    def _check_frames(self) -> None:
        """Refuse a document that has more frames or fewer than its header says."""
        count = self._first_chunk + len(self.chunks) + len(self.retired)
        if self._frame_count != count:
            message = "the document has another number of frames than its header says"
            raise self._error("study/damaged", message)

    def holding(self, keys: Iterable[str], texts: AbstractSet[str]) -> Iterator[dict[str, Any]]:
        """The frames that may have an instance of one of these keys, or one of these texts.

        Frames are taken apart only where the bytes are found, so that few of them are. A text
        that is taken out of `texts` meanwhile is not looked for any more.
        """
        keys = list(keys)
        shared = [None] * (self._first_chunk - self._first)
        for at, said in enumerate([*shared, *self.chunks, *self.retired], self._first):
            here = [] if said is None else [k for k in keys if said["first"] <= k <= said["last"]]
            if not here and not texts:
                continue
            plain = self._decompressed(at)
            if any(text.encode() in plain for text in chain(here, texts)):
                yield self._struct(at, ("groups", "bulk") if said is None else _CHUNK_FIELDS)

    def named(self, uids: AbstractSet[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """All instances of some SOP Instance UIDs, each with its own, the retired ones too."""
        wanted = [uid.encode() for uid in uids]
        for number, said in enumerate([*self.chunks, *self.retired]):
            if self.has_table and len(wanted) < said["instances"]:  # quicker than all of them
                plain = self._decompressed(self._first_chunk + number)
                if not any(uid in plain for uid in wanted):
                    continue
            for key, instance in self._chunk(number)["instances"].items():
                if (uid := uid_of(key, instance)) in uids:
                    yield uid, instance

    def mentions(self, texts: Iterable[str]) -> bool:
        """Whether one of some texts stands anywhere behind the header; quicker than to read it.

        Raises:
            StudyError: a frame is damaged.
        """
        wanted = [text.encode() for text in texts]
        for at in range(1, self._frame_count):
            plain = self._decompressed(at) if self.has_table else ion.dumps(self._value(at))
            if any(text in plain for text in wanted):
                return True
        return False

    def shared(self) -> Iterator[dict[str, Any]]:
        """The frames of groups that several chunks refer to."""
        for at in range(self._first, self._first_chunk):
            yield self._struct(at, ("groups", "bulk"))

    def frames(self) -> Iterator[dict[str, Any]]:
        """The frames of groups, then those of all chunks, the retired ones too."""
        yield from self.shared()
        for number in range(len(self.chunks) + len(self.retired)):
            yield self.chunk(number)

    def bulk_end(self) -> int:
        """Where the last value ends that it refers to in its bulk file; 0 if there is none."""
        places = chain.from_iterable(
            (*frame["bulk"].values(), *references_in(frame.get("instances", {})))
            for frame in self.frames()
        )
        return max((_end_of(place) for place in places if "stored" in place), default=0)

    def _chunk(self, number: int) -> dict[str, Any]:
        return self._struct(self._first_chunk + number, _CHUNK_FIELDS)

    def _struct(self, at: int, fields: Iterable[str]) -> dict[str, Any]:
        value = self._value(at)
        if not is_frame(value, fields):
            raise self._error("study/damaged", "a frame lacks fields, or has others than it may")
        if "groups" in fields and not value["groups"].keys() <= self._group_names:
            raise self._error("study/damaged", "there is no attribute group of such a name")
        return value

    def missing_group(self, digest: str) -> StudyError:
        """The error that a group is nowhere in the document."""
        return self._error("study/missing-group", f"the group {digest} is missing")

    def repeated(self, key: str) -> StudyError:
        """The error that an instance stands in the document more than once."""
        return self._error("study/damaged", f"the instance {key} stands there twice")

    def is_current(self) -> bool:
        """Whether it is still the document at its path."""
        try:
            return os.path.samestat(self.path.stat(), self._file.status())
        except (OSError, StudyError):  # it is closed
            return False

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _end_of(place: Mapping[str, Any]) -> int:
    """Where the last chunk of a value ends, as far as its place says so."""
    return sum(size for size in (place.get("offset"), *place["stored"]) if type(size) is int)
