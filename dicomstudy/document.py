"""A study ↔ its document: Ion values in zstandard frames of their own (spec/study.md).

Frames: a header, the groups that several chunks refer to, then the chunks (up to
`CHUNK_INSTANCES` instances of one series with the groups that only they have), and a table
of frames that decompressors skip. Decompressed, a document is a plain stream of Ion values.
One instance costs the header, the shared groups and one chunk.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import zstandard

from dicomstudy import definitions as definitions_
from dicomstudy import ion
from dicomstudy.bulk import Place, ReadOnly
from dicomstudy.definitions import Definitions
from dicomstudy.errors import IonError, StudyError
from dicomstudy.grouping import ENCODING, Batch, Clustered, Entry, Row, Source, freeze
from dicomstudy.ion import Symbol
from dicomstudy.record import group_of, is_reference

__all__ = [
    "CHUNK_INSTANCES",
    "FORMAT",
    "Document",
    "encode",
    "place_of",
    "read_batch",
    "references",
    "source_of",
    "uid_of",
    "whole",
]

FORMAT = "dicomstudy"
VERSION = 1
CHUNK_INSTANCES = 256
#: A chunk ends early at about so many bytes, far below what one Ion value may have.
CHUNK_BYTES = 16 << 20
#: A frame that decompresses to more is refused.
MAX_FRAME = 1 << 30
#: zstandard levels: where values were copied, which takes far longer, the document is made
#: smaller.
_LEVEL, _LEVEL_OF_COPIES = 3, 15

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = 0x184D2A5E
_SEEKABLE = 0x8F92EAB1
_FOOTER = struct.Struct("<IBI")
_TABLE_ENTRY = struct.Struct("<II")

#: Fields of a reference that say where its value lies, not what it is.
_PLACE_FIELDS = frozenset(
    ("offset", "stored", "chunk", "word", "uri", "size", "source", "modified")
)


class _Chunk(NamedTuple):
    """What becomes one frame."""

    series: str
    common: tuple[str, ...]
    entries: list[tuple[str, Entry]]


def encode(
    study: str, content: Clustered, definitions: Definitions, *, bulk_length: int
) -> Iterator[bytes]:
    """The document of a study, frame by frame.

    Mirror of `read_batch`. `bulk_length` is the size of the bulk file that belongs to it.
    """
    chunks = list(_chunks(content))
    owners: dict[str, int | None] = {}
    for at, chunk in enumerate(chunks):
        for digest in _digests(chunk):
            owners[digest] = at if owners.get(digest, at) == at else None
    places = {
        sha256: _located(place, entry.source)
        for chunk in chunks
        for _, entry in chunk.entries
        for sha256, place in entry.places.items()
    }
    shared = [digest for digest, owner in owners.items() if owner is None]
    level = _LEVEL_OF_COPIES if bulk_length else _LEVEL
    compress = zstandard.ZstdCompressor(level=level, write_checksum=True).compress
    table: list[tuple[int, int]] = []

    def frame(value: dict[str, Any]) -> bytes:
        plain = ion.dumps(value)
        compressed = compress(plain)
        table.append((len(compressed), len(plain)))
        return compressed

    values = [ion.quick(value) for _, _, value in content.rows]
    packs = list(_packs(shared, content))
    yield frame(
        {
            "format": FORMAT,
            "version": VERSION,
            "definitions": {"version": definitions.version, "sha256": definitions.digest},
            "studyInstanceUID": study,
            "bulkLength": bulk_length,
            "sharedFrames": len(packs),
            "chunks": [
                {
                    "seriesInstanceUID": chunk.series,
                    "first": min(key for key, _ in chunk.entries),
                    "last": max(key for key, _ in chunk.entries),
                    "instances": len(chunk.entries),
                }
                for chunk in chunks
            ],
        }
    )
    for digests in packs:
        groups = _groups(digests, content)
        yield frame({"groups": groups, "bulk": _bulk(groups, places)})
    for at, chunk in enumerate(chunks):
        mine = [digest for digest in dict.fromkeys(_digests(chunk)) if owners[digest] == at]
        groups = _groups(mine, content)
        instances = {key: _instance(entry, content.rows, values) for key, entry in chunk.entries}
        nested = [value for i in instances.values() for value in i.values() if type(value) is list]
        yield frame(
            {
                "seriesInstanceUID": chunk.series,
                "_groups": [Symbol(digest) for digest in chunk.common],
                "groups": groups,
                "instances": instances,
                "bulk": _bulk([groups, nested], places),
            }
        )
    entries = b"".join(_TABLE_ENTRY.pack(*sizes) for sizes in table)
    footer = _FOOTER.pack(len(table), 0, _SEEKABLE)
    yield struct.pack("<II", _SKIPPABLE, len(entries) + len(footer)) + entries + footer


def _chunks(content: Clustered) -> Iterator[_Chunk]:
    keys = _keys(content)
    for series in content.series:
        entries: list[tuple[str, Entry]] = []
        size = 0
        for entry in series.entries:
            if len(entries) == CHUNK_INSTANCES or size > CHUNK_BYTES:
                yield _Chunk(series.uid, series.groups, entries)
                entries, size = [], 0
            entries.append((keys[entry.instance, entry.digest, series.uid], entry))
            values = [content.rows[number].value for number in entry.own]
            size += 64 * len(values) + sum(_size(value) for value in values if type(value) is list)
        if entries:
            yield _Chunk(series.uid, series.groups, entries)


def _keys(content: Clustered) -> dict[tuple[str, str, str], str]:
    """A key for each instance by its UID, digest and series: the UID, if it is the first with it.

    The others, by digest and series, have the start of their digest behind it.
    """
    names = sorted(
        (entry.instance, entry.digest, series.uid)
        for series in content.series
        for entry in series.entries
    )
    keys: dict[tuple[str, str, str], str] = {}
    taken: set[str] = {instance for instance, _, _ in names}
    previous = None
    for name in names:
        key, digest, _ = name
        if key == previous:
            length = 16
            while (longer := f"{key}#{digest[:length]}") in taken:
                length += 1
                if length > len(digest):
                    digest += "+"
            key = longer
        previous = name[0]
        taken.add(key)
        keys[name] = key
    return keys


def _size(value: Any) -> int:
    """About the bytes that a value takes."""
    kind = type(value)
    if kind is list:
        return sum(_size(item) for item in value)
    if kind is dict:
        return sum(_size(item) + 8 for item in value.values())
    return len(value) if kind is str or kind is bytes else 8


def _digests(chunk: _Chunk) -> Iterator[str]:
    yield from chunk.common
    for _, entry in chunk.entries:
        yield from entry.groups


def _packs(digests: Iterable[str], content: Clustered) -> Iterator[list[str]]:
    """Groups in packs small enough for one Ion value."""
    pack: list[str] = []
    size = 0
    for digest in digests:
        pack.append(digest)
        size += 64 + _size(content.contents[digest][1])
        if size > CHUNK_BYTES:
            yield pack
            pack, size = [], 0
    if pack:
        yield pack


def _groups(digests: Iterable[str], content: Clustered) -> dict[str, dict[str, Any]]:
    groups: dict[str, dict[str, Any]] = {}
    for digest in digests:
        name, attributes = content.contents[digest]
        groups.setdefault(name, {})[digest] = attributes
    return groups


def _instance(entry: Entry, rows: list[Row], values: list[Any]) -> dict[str, Any]:
    """The struct of an instance; `values` are those of `rows`, ready to be written."""
    instance: dict[str, Any] = {"_groups": [Symbol(digest) for digest in entry.groups]}
    for number in entry.own:
        value = values[number]
        if type(value) is dict and is_reference(value) and value.get("sha256") in entry.places:
            value = {**value, **entry.places[value["sha256"]]}
        instance[rows[number].key] = value
    source: dict[str, Any] = {"uri": entry.source.uri}
    if entry.source.sha256 is not None:
        source |= {"size": entry.source.size, "sha256": entry.source.sha256}
        if entry.source.modified is not None:
            source["modified"] = entry.source.modified
        if not entry.source.proved:
            source["proved"] = False
    else:
        source["record"] = entry.digest
    instance["_source"] = source
    return instance


def _located(place: dict[str, Any], source: Source) -> dict[str, Any]:
    """A place that stands by itself: one in a P10 file names the file."""
    if "dataOffset" not in place or "uri" in place:
        return place
    _, sha256, size, modified, _ = source
    file = {"uri": source.uri, "size": size, "source": sha256, "modified": modified}
    return {**place, **{name: value for name, value in file.items() if value is not None}}


def _bulk(value: Any, places: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Places of the values that the references anywhere in `value` stand for."""
    return {sha256: places[sha256] for sha256 in references(value) if sha256 in places}


def references(value: Any) -> Iterator[str]:
    """The SHA-256 of every reference in a value."""
    if type(value) is list:
        for item in value:
            yield from references(item)
    elif type(value) is dict:
        if type(value.get("length")) is int and type(value.get("sha256")) is str:
            yield value["sha256"]
        for item in value.values():
            if type(item) is list or type(item) is dict:
                yield from references(item)


class Document:
    """Reads a study document, frame by frame.

    `header` is the first value of the stream. Documents of one struct, as dicom-study-builder-js
    writes them, are taken as well, binary or text, compressed or not.

    Raises:
        StudyError: not a study document, or a damaged one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = ReadOnly(path)
        except OSError as error:
            raise StudyError(
                "study/missing",
                f"the document cannot be opened: {error.strerror}",
                source=str(path),
            ) from error
        try:
            self._frames = self._read_table()
            self._values: list[Any] | None = None
            if not self._frames:
                self._values = _values(self._plain(), str(path))
            self.header: dict[str, Any] = self._checked(self._value(0))
        except BaseException:
            self._file.close()
            raise
        self.chunk = lru_cache(maxsize=4)(self._chunk)

    def _error(self, code: str, message: str) -> StudyError:
        return StudyError(code, message, source=str(self.path))

    def _read_table(self) -> list[tuple[int, int, int]]:
        """Offset, size and plain size of every frame; empty if there is no table."""
        descriptor = self._file.fileno()
        size = os.fstat(descriptor).st_size
        footer = os.pread(descriptor, _FOOTER.size, max(size - _FOOTER.size, 0))
        if len(footer) < _FOOTER.size:
            return []
        count, _, magic = _FOOTER.unpack(footer)
        length = count * _TABLE_ENTRY.size
        if magic != _SEEKABLE or length + _FOOTER.size + 8 > size:
            return []
        table = os.pread(descriptor, length, size - _FOOTER.size - length)
        frames = []
        offset = 0
        for compressed, plain in _TABLE_ENTRY.iter_unpack(table):
            frames.append((offset, compressed, plain))
            offset += compressed
        if offset != size - _FOOTER.size - length - 8:
            raise self._error("study/damaged", "the table of frames does not fit the document")
        return frames

    def _plain(self) -> bytes:
        data = b"".join(iter(lambda: os.read(self._file.fileno(), 1 << 20), b""))
        if not data.startswith(_ZSTD_MAGIC):
            return data
        plain = []
        size = 0
        try:
            reader = zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True)
            while piece := reader.read(1 << 20):
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
        if at >= len(self._frames):
            raise self._error("study/damaged", "the document has fewer frames than its header says")
        offset, size, plain_size = self._frames[at]
        if plain_size > MAX_FRAME:
            raise self._error("study/damaged", "a frame is larger than any document writes")
        data = os.pread(self._file.fileno(), size, offset)
        try:
            parameters = zstandard.get_frame_parameters(data)
            if parameters.content_size != plain_size:
                raise self._error("study/damaged", "a frame has another size than the table says")
            return ion.loads(zstandard.ZstdDecompressor().decompress(data))
        except zstandard.ZstdError as error:
            raise self._error(
                "study/damaged", f"a frame cannot be decompressed: {error}"
            ) from error
        except IonError as error:
            raise self._error("study/damaged", f"a frame is not Ion: {error.message}") from error

    def _checked(self, header: Any) -> dict[str, Any]:
        if not isinstance(header, dict) or header.get("format") != FORMAT:
            raise self._error("study/not-a-study", "this is not a study document")
        if header.get("version") != VERSION:
            raise self._error(
                "study/unknown-version", f"version {header.get('version')} of the format is unknown"
            )
        if not _is_header(header):
            raise self._error("study/damaged", "the header lacks fields")
        written_by = header.get("definitions")
        if isinstance(written_by, dict):
            known = definitions_.load(str(written_by.get("version")))
            if written_by.get("sha256") != known.digest:
                raise self._error(
                    "study/definitions",
                    f"it was written by other definitions than those of version {known.version}",
                )
        return header

    @property
    def study(self) -> str:
        """The Study Instance UID."""
        return str(self.header["studyInstanceUID"])

    @property
    def chunks(self) -> list[dict[str, Any]]:
        """What the header says of each chunk: its series, first and last key, instances."""
        chunks: list[dict[str, Any]] = self.header["chunks"]
        return chunks

    def shared(self) -> Iterator[dict[str, Any]]:
        """The frames of groups that several chunks refer to."""
        for at in range(1, 1 + int(self.header.get("sharedFrames", 0))):
            yield self._struct(at, ("groups", "bulk"))

    def _chunk(self, number: int) -> dict[str, Any]:
        at = 1 + int(self.header.get("sharedFrames", 0)) + number
        return self._struct(at, ("seriesInstanceUID", "_groups", "groups", "instances", "bulk"))

    def _struct(self, at: int, fields: Iterable[str]) -> dict[str, Any]:
        value = self._value(at)
        if not isinstance(value, dict) or not all(
            _FRAME_FIELDS[name](value.get(name)) for name in fields
        ):
            raise self._error("study/damaged", "a frame lacks fields")
        return value

    def missing_group(self, digest: str) -> StudyError:
        """The error that a group is nowhere in the document."""
        return self._error("study/missing-group", f"the group {digest} is missing")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _is_header(header: Mapping[str, Any]) -> bool:
    """Whether the fields of a header are there, and of their types."""
    chunks = header.get("chunks")
    return (
        isinstance(header.get("studyInstanceUID"), str)
        and _is_count(header.get("sharedFrames"))
        and _is_count(header.get("bulkLength"))
        and isinstance(chunks, list)
        and all(
            isinstance(chunk, dict)
            and all(isinstance(chunk.get(n), str) for n in ("seriesInstanceUID", "first", "last"))
            and _is_count(chunk.get("instances"))
            for chunk in chunks
        )
    )


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_struct_of_structs(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(item, dict) for item in value.values())


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _are_instances(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(instance, dict)
        and _are_texts(instance.get("_groups", []))
        and isinstance(instance.get("_source", {}), dict)
        for instance in value.values()
    )


#: What the fields of a frame have to be.
_FRAME_FIELDS: dict[str, Callable[[object], bool]] = {
    "seriesInstanceUID": lambda value: isinstance(value, str),
    "_groups": _are_texts,
    "groups": lambda value: (
        isinstance(value, dict) and all(map(_is_struct_of_structs, value.values()))
    ),
    "instances": _are_instances,
    "bulk": _is_struct_of_structs,
}


def _values(plain: bytes, source: str) -> list[Any]:
    """The stream of a document that has no table: its own, or made of one struct."""
    try:
        values = ion.load_all(plain)
    except IonError as error:
        raise StudyError("study/not-a-study", f"not Ion: {error.message}", source=source) from error
    if len(values) != 1 or not isinstance(values[0], dict):
        return values
    (whole,) = values
    if len(whole) != 1:
        return values
    ((study, content),) = whole.items()
    if (
        not isinstance(content, dict)
        or not _is_struct_of_structs(content.get("series"))
        or not isinstance(content.get("groups"), dict)
        or not all(isinstance(s.get("instances"), dict) for s in content["series"].values())
    ):
        return values
    chunks = []
    for series, struct_ in content["series"].items():
        instances = struct_["instances"]
        chunks.append(
            {
                "seriesInstanceUID": series,
                "_groups": struct_.get("_groups", []),
                "groups": {},
                "instances": dict(sorted(instances.items())),
                "bulk": {},
            }
        )
    header = {
        "format": content.get("format", FORMAT),
        "version": content.get("version", VERSION),
        "definitions": content.get("definitions"),
        "studyInstanceUID": study,
        "sharedFrames": 1,
        "bulkLength": content.get("bulkLength", 0),
        "chunks": [
            {
                "seriesInstanceUID": chunk["seriesInstanceUID"],
                "first": min(chunk["instances"], default=""),
                "last": max(chunk["instances"], default=""),
                "instances": len(chunk["instances"]),
            }
            for chunk in chunks
        ],
    }
    return [header, {"groups": content["groups"], "bulk": content.get("bulk", {})}, *chunks]


def whole(document: Document) -> dict[str, Any]:
    """The document as the one struct of the seed: its readable form."""
    groups: dict[str, dict[str, Any]] = {}
    bulk: dict[str, Any] = {}
    series: dict[str, Any] = {}
    frames = [*document.shared(), *map(document.chunk, range(len(document.chunks)))]
    for frame in frames:
        for name, contents in frame["groups"].items():
            groups.setdefault(name, {}).update(contents)
        bulk.update(frame.get("bulk", {}))
        if "instances" in frame:
            known = series.setdefault(
                frame["seriesInstanceUID"],
                {"_groups": [Symbol(digest) for digest in frame["_groups"]], "instances": {}},
            )
            for key, instance in frame["instances"].items():
                symbols = [Symbol(digest) for digest in instance.get("_groups", ())]
                known["instances"][key] = {**instance, "_groups": symbols}
    content: dict[str, Any] = {
        name: document.header.get(name) for name in ("format", "version", "definitions")
    }
    content |= {"groups": groups, "series": series}
    content |= {"bulkLength": document.header.get("bulkLength", 0), "bulk": bulk}
    return {document.study: content}


def read_batch(document: Document, definitions: Definitions) -> Batch:
    """All instances of a document, as they were before they were clustered. Mirror of `encode`.

    Raises:
        StudyError: the document is damaged.
    """
    contents: dict[str, tuple[str, dict[str, Any]]] = {}
    places: dict[str, dict[str, Any]] = {}
    for frame in document.shared():
        _collect(frame, contents, places)
    reading = _Reading(definitions, contents, places, Batch(bases=[()]), {})
    for at in range(len(document.chunks)):
        frame = document.chunk(at)
        _collect(frame, contents, places)
        for key, instance in frame["instances"].items():
            digests = (*frame["_groups"], *instance.get("_groups", ()))
            missing = next((digest for digest in digests if digest not in contents), None)
            if missing is not None:
                raise document.missing_group(missing)
            reading.add(key, frame["seriesInstanceUID"], instance, digests)
    return reading.batch


class _Reading(NamedTuple):
    """What `read_batch` has read so far."""

    definitions: Definitions
    contents: dict[str, tuple[str, dict[str, Any]]]
    places: dict[str, dict[str, Any]]
    batch: Batch
    numbers: dict[tuple[str, str, object], int]

    def add(
        self, key: str, series: str, instance: dict[str, Any], digests: tuple[str, ...]
    ) -> None:
        """Add an instance to the batch, its groups taken apart but for the seed's."""
        order = self.definitions.groups
        kept: list[tuple[int, str]] = []
        own: list[int] = []
        places: dict[str, dict[str, Any]] = {}
        for digest in digests:
            name, content = self.contents[digest]
            if name == ENCODING or name in self.definitions.seed_groups:
                kept.append((order.index(name), digest))
                self.batch.contents[digest] = name, content
            else:
                own += [self.number(name, field, value) for field, value in content.items()]
        for field, value in instance.items():
            if field not in {"_groups", "_source"}:
                plain = _without_place(value, places)
                own.append(self.number(group_of(field, self.definitions), field, plain))
        values = [self.batch.rows[number].value for number in own]
        for sha256 in references([values, [self.contents[digest][1] for _, digest in kept]]):
            if sha256 not in places and sha256 in self.places:
                places[sha256] = self.places[sha256]
        source = source_of(instance)
        self.batch.entries.append(
            Entry(
                uid_of(key, instance),
                series,
                source.sha256 or str(instance.get("_source", {}).get("record", "")),
                source,
                tuple([digest for _, digest in sorted(kept)]),
                0,
                tuple(own),
                places,
            )
        )

    def number(self, group: str, key: str, value: object) -> int:
        """The row of an attribute, which is added if need be."""
        name = (group, key, freeze(value))
        if name not in self.numbers:
            self.numbers[name] = len(self.batch.rows)
            self.batch.rows.append(Row(group, key, value))
        return self.numbers[name]


def _without_place(value: object, places: dict[str, dict[str, Any]]) -> object:
    """A value without the place of a large one, which goes to `places`."""
    if not isinstance(value, dict) or "length" not in value or "sha256" not in value:
        return value
    fields = _PLACE_FIELDS | {"dataOffset"}
    place = {name: item for name, item in value.items() if name in fields}
    if place:
        places[value["sha256"]] = place
    return {name: item for name, item in value.items() if name not in fields}


def uid_of(key: str, instance: Mapping[str, Any]) -> str:
    """The SOP Instance UID of an instance, of which `key` may be more."""
    uid = instance.get("SOPInstanceUID")
    return uid.strip(" \0") if isinstance(uid, str) and uid.strip(" \0") else key


def source_of(instance: Mapping[str, Any]) -> Source:
    """The file that an instance of a document came from."""
    fields = instance.get("_source", {})
    return Source(
        fields.get("uri", ""),
        fields.get("sha256"),
        fields.get("size"),
        fields.get("modified"),
        fields.get("proved", True) is True and "sha256" in fields,
    )


def _collect(
    frame: Mapping[str, Any],
    names: dict[str, tuple[str, dict[str, Any]]],
    places: dict[str, dict[str, Any]],
) -> None:
    for name, contents in frame["groups"].items():
        for digest, content in contents.items():
            names[digest] = name, content
    places.update(frame.get("bulk", {}))


def place_of(reference: Mapping[str, Any], table: Mapping[str, Any]) -> Place | None:
    """Where in the bulk file a reference's value lies, None if it is not in one.

    Args:
        reference: stands for the value; has its place, or its SHA-256 to look up.
        table: the places of a frame by SHA-256 (spec/bulk.md).

    Raises:
        BulkError: the place contradicts itself (``bulk/place``).
    """
    fields = reference if "stored" in reference else table.get(reference.get("sha256", ""), {})
    if "stored" not in fields:
        return None
    return Place.from_struct(fields, int(reference["length"]))
