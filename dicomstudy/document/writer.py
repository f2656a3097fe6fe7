"""A study → its document. Mirror of `batches`."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import zstandard

from dicomstudy import ion
from dicomstudy.definitions import Definitions
from dicomstudy.document.fields import (
    FOOTER,
    FORMAT,
    SEEKABLE,
    SKIPPABLE,
    TABLE_ENTRY,
    VERSION,
    Group,
    references,
)
from dicomstudy.document.reader import Document
from dicomstudy.grouping import (
    Batch,
    Clustered,
    Entry,
    Row,
    Source,
    cluster,
)
from dicomstudy.ion import Symbol
from dicomstudy.lineage import History
from dicomstudy.record import is_reference

CHUNK_INSTANCES = 256
#: A chunk ends early at about so many bytes, far below what one Ion value may have.
CHUNK_BYTES = 16 << 20
#: zstandard levels: where values were copied, which takes far longer, the document is made
#: smaller.
_LEVEL, _LEVEL_OF_COPIES = 3, 15


class _Chunk(NamedTuple):
    """What becomes one frame."""

    series: str
    common: tuple[str, ...]
    entries: list[tuple[str, Entry]]

    def described(self) -> dict[str, Any]:
        """What the header says of it."""
        return {
            "seriesInstanceUID": self.series,
            "first": min(key for key, _ in self.entries),
            "last": max(key for key, _ in self.entries),
            "instances": len(self.entries),
        }


class _Frames:
    """Frames as they are written one after another, and the table of them."""

    def __init__(self, level: int = _LEVEL) -> None:
        self._compress = zstandard.ZstdCompressor(level=level, write_checksum=True).compress
        self._table: list[tuple[int, int]] = []

    def add(self, value: dict[str, Any]) -> bytes:
        """The next frame."""
        plain = ion.dumps(value)
        return self.copy(self._compress(plain), len(plain))

    def copy(self, compressed: bytes, plain_size: int) -> bytes:
        """The next frame, which was made before."""
        self._table.append((len(compressed), plain_size))
        return compressed

    def table(self) -> bytes:
        """The table of all frames."""
        entries = b"".join(TABLE_ENTRY.pack(*sizes) for sizes in self._table)
        footer = FOOTER.pack(len(self._table), 0, SEEKABLE)
        return struct.pack("<II", SKIPPABLE, len(entries) + len(footer)) + entries + footer


def encode(
    study: str,
    content: Clustered,
    definitions: Definitions,
    *,
    bulk_length: int,
    bulk_file: int = 0,
    history: History | None = None,
    retired: Clustered | None = None,
) -> Iterator[bytes]:
    """The document of a study, frame by frame.

    Mirror of `read_batch`.

    Args:
        study: the Study Instance UID.
        content: the instances that are in it.
        definitions: those of the format.
        bulk_length: the size of the bulk file that belongs to it.
        bulk_file: the number of that file.
        history: the versions of the study; None for a new one.
        retired: the instances that only older versions have, of the same batch as `content`.
    """
    chunks = list(_chunks(content))
    present = len(chunks)
    contents = content.contents
    if retired is not None:
        chunks += _chunks(retired)
        contents = contents | retired.contents
    owners: dict[str, int | None] = {}
    for at, chunk in enumerate(chunks):
        for digest in _digests(chunk):
            owners[digest] = at if owners.get(digest, at) == at else None
    places: dict[str, dict[str, Any]] = {}
    for chunk in chunks:
        for _, entry in chunk.entries:
            for sha256, place in entry.places.items():
                if "stored" not in places.get(sha256, ()):  # what is in the archive stays
                    places[sha256] = _located(place, entry.source)
    shared = [digest for digest, owner in owners.items() if owner is None]
    frames = _Frames(_LEVEL_OF_COPIES if bulk_length else _LEVEL)
    values = [ion.quick(value) for _, _, value in content.rows]
    packs = list(_packs(shared, contents))
    header = {
        "format": FORMAT,
        "version": VERSION,
        "definitions": {"version": definitions.version, "sha256": definitions.digest},
        "studyInstanceUID": study,
        "bulkLength": bulk_length,
        "sharedFrames": len(packs),
        "chunks": [chunk.described() for chunk in chunks[:present]],
    }
    if chunks[present:]:
        header["retired"] = [chunk.described() for chunk in chunks[present:]]
    if bulk_file:
        header["bulkFile"] = bulk_file
    yield from _head(frames, header, history)
    for digests in packs:
        groups = _groups(digests, contents)
        yield frames.add({"groups": groups, "bulk": _bulk(groups, places)})
    for at, chunk in enumerate(chunks):
        mine = [digest for digest in dict.fromkeys(_digests(chunk)) if owners[digest] == at]
        groups = _groups(mine, contents)
        instances = {key: _instance(entry, content.rows, values) for key, entry in chunk.entries}
        nested = [value for i in instances.values() for value in i.values() if type(value) is list]
        yield frames.add(
            {
                "seriesInstanceUID": chunk.series,
                "_groups": [Symbol(digest) for digest in chunk.common],
                "groups": groups,
                "instances": instances,
                "bulk": _bulk([groups, nested], places),
            }
        )
    yield frames.table()


def encode_version(
    study: str,
    batch: Batch,
    definitions: Definitions,
    *,
    history: History | None,
    bulk_length: int,
    bulk_file: int = 0,
) -> Iterator[bytes]:
    """The document of the current version of `history`, frame by frame.

    The instances of `batch` that are in it are clustered by themselves, so that what they are
    grouped to does not depend on those that only older versions have.
    """
    present: list[Entry] = []
    gone: list[Entry] = []
    for entry in batch.entries:
        there = history is None or history.since(entry.events) is not None
        (present if there else gone).append(entry)
    content, retired = (
        cluster(dataclasses.replace(batch, entries=entries), definitions)
        for entries in (present, gone)
    )
    return encode(
        study,
        content,
        definitions,
        bulk_length=bulk_length,
        bulk_file=bulk_file,
        history=history,
        retired=retired,
    )


def _head(frames: _Frames, header: dict[str, Any], history: History | None) -> Iterator[bytes]:
    """The header, and the history if there is more to it than that the study was converted."""
    if history is None or history.is_plain:
        yield frames.add({**header, "studyVersion": 1, "historyFrames": 0})
    else:
        yield frames.add({**header, "studyVersion": history.current, "historyFrames": 1})
        yield frames.add(history.to_struct())


def with_history(document: Document, history: History) -> Iterator[bytes]:
    """The document with another history, frame by frame; those of its instances are copied."""
    frames = _Frames()
    yield from _head(frames, document.header, history)
    for compressed, plain_size in document.stored_frames():
        yield frames.copy(compressed, plain_size)
    yield frames.table()


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


def _packs(digests: Iterable[str], contents: Mapping[str, Group]) -> Iterator[list[str]]:
    """Groups in packs small enough for one Ion value."""
    pack: list[str] = []
    size = 0
    for digest in digests:
        pack.append(digest)
        size += 64 + _size(contents[digest][1])
        if size > CHUNK_BYTES:
            yield pack
            pack, size = [], 0
    if pack:
        yield pack


def _groups(digests: Iterable[str], contents: Mapping[str, Group]) -> dict[str, dict[str, Any]]:
    groups: dict[str, dict[str, Any]] = {}
    for digest in digests:
        name, attributes = contents[digest]
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
    if entry.events:
        instance["_versions"] = list(entry.events)
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
