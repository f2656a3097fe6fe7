"""A study → its document. Mirror of `batches`."""

from __future__ import annotations

import dataclasses
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import zstandard

from dicomstudy import ion
from dicomstudy.bulk import BulkFile, Places
from dicomstudy.clustering import Clustered, cluster
from dicomstudy.definitions import Definitions
from dicomstudy.document.fields import (
    FOOTER,
    FORMAT,
    MAX_FRAME,
    SEEKABLE,
    SKIPPABLE,
    TABLE_ENTRY,
    VERSION,
    add_places,
    by_name,
    described,
    most_values,
    references,
)
from dicomstudy.document.reader import Document
from dicomstudy.errors import StudyError
from dicomstudy.grouping import Batch, Entry, Group, Name, Row
from dicomstudy.growth import Counts, count
from dicomstudy.ion import Symbol
from dicomstudy.ion.counting import has_more_values
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


class Frames:
    """Frames as they are written one after another, and the table of them."""

    def __init__(self, bulk_length: int = 0) -> None:
        level = _LEVEL_OF_COPIES if bulk_length else _LEVEL
        self._compress = zstandard.ZstdCompressor(level=level, write_checksum=True).compress
        self._table: list[tuple[int, int]] = []

    def add(self, value: dict[str, Any]) -> bytes:
        """The next frame."""
        return self.copy(*self.made(value))

    def made(self, value: dict[str, Any]) -> tuple[bytes, int]:
        """A frame that comes later, and its plain size.

        Raises:
            StudyError: nobody would read it (``study/too-large``).
        """
        plain = ion.dumps(value)
        compressed = self._compress(plain)
        most = most_values(len(plain), len(compressed))
        if len(plain) > MAX_FRAME or (most is not None and has_more_values(plain, most)):
            instances = value.get("instances", {})
            what = f"of {' '.join(list(instances)[:3])}" if instances else "of all, or its history,"
            raise StudyError("study/too-large", f"what it has {what} is too large for any document")
        return compressed, len(plain)

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
    bulk: BulkFile,
    history: History | None = None,
    retired: Clustered | None = None,
) -> Iterator[bytes]:
    """The document of a study, frame by frame.

    Mirror of `read_batch`.

    Args:
        study: the Study Instance UID.
        content: the instances that are in it.
        definitions: those of the format.
        bulk: the bulk file that belongs to it.
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
    places = places_of(entry for chunk in chunks for _, entry in chunk.entries)
    shared = [digest for digest, owner in owners.items() if owner is None]
    descriptions = [described(chunk.series, [key for key, _ in chunk.entries]) for chunk in chunks]
    frames = Frames(bulk.length)
    values = [ion.quick(value) for _, _, value in content.rows]
    packs = list(_packs(shared, contents))
    header = {
        "format": FORMAT,
        "version": VERSION,
        "definitions": {"version": definitions.version, "sha256": definitions.digest},
        "studyInstanceUID": study,
        "bulkLength": bulk.length,
        "sharedFrames": len(packs),
        "chunks": descriptions[:present],
    }
    if descriptions[present:]:
        header["retired"] = descriptions[present:]
    if bulk.number:
        header["bulkFile"] = bulk.number
    counts = {
        series.uid: count(series, content.contents, content.rows, definitions)
        for series in content.series
        if len(series.entries) > CHUNK_INSTANCES
    }
    yield from head(frames, header, history, counts)
    for digests in packs:
        groups = ion.quick(by_name(digests, contents))
        yield frames.add({"groups": groups, "bulk": _bulk(groups, places)})
    for at, chunk in enumerate(chunks):
        mine = [digest for digest in dict.fromkeys(_digests(chunk)) if owners[digest] == at]
        groups = ion.quick(by_name(mine, contents))
        instances = {
            key: instance_struct(entry, content.rows, values) for key, entry in chunk.entries
        }
        yield frames.add(chunk_struct(chunk.series, chunk.common, groups, instances, places))
    yield frames.table()


def encode_version(
    study: str,
    batch: Batch,
    definitions: Definitions,
    *,
    history: History | None,
    bulk: BulkFile,
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
        bulk=bulk,
        history=history,
        retired=retired,
    )


def head(
    frames: Frames,
    header: dict[str, Any],
    history: History | None,
    counts: Mapping[str, Counts],
) -> Iterator[bytes]:
    """The header, the history if it says more than that the study was converted, the counts."""
    has_history = history is not None and not history.is_plain
    fields = {
        **header,
        "studyVersion": history.current if history is not None else 1,
        "historyFrames": int(has_history),
        "countFrames": int(bool(counts)),
    }
    yield frames.add(fields)
    if history is not None and has_history:
        yield frames.add(history.to_struct())
    if counts:
        yield frames.add({"series": {uid: each.to_struct() for uid, each in counts.items()}})


def with_history(document: Document, history: History) -> Iterator[bytes]:
    """The document with another history, frame by frame; those of its instances are copied."""
    frames = Frames()
    yield from head(frames, document.header, history, document.counts)
    for compressed, plain_size in document.stored_frames():
        yield frames.copy(compressed, plain_size)
    yield frames.table()


def _chunks(content: Clustered) -> Iterator[_Chunk]:
    if not content.series:  # mostly so of those that only older versions have
        return
    keys = _keys(content)
    # a group that many instances have is mostly in no chunk, or in one that has many of them
    times = Counter(d for series in content.series for e in series.entries for d in e.groups)
    shares = {d: 64 + _size(content.contents[d][1]) // number for d, number in times.items()}
    sizes = [64 + (_size(value) if _is_long(value) else 0) for _, _, value in content.rows]
    for series in content.series:
        entries: list[tuple[str, Entry]] = []
        size = 0
        for entry in series.entries:
            if len(entries) == CHUNK_INSTANCES or size > CHUNK_BYTES:
                yield _Chunk(series.uid, series.groups, entries)
                entries, size = [], 0
            entries.append((keys[entry.name], entry))
            size += sum([sizes[number] for number in entry.own])
            size += sum([shares[digest] for digest in entry.groups])
        if entries:
            yield _Chunk(series.uid, series.groups, entries)


def _keys(content: Clustered) -> dict[Name, str]:
    """A key for each instance by its name: the UID, if it is the first with it.

    The others, by digest and series, have the start of their digest behind it.
    """
    names = sorted(entry.name for series in content.series for entry in series.entries)
    keys: dict[Name, str] = {}
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


def _is_long(value: Any) -> bool:
    """Whether a value may take more bytes than most do."""
    kind = type(value)
    return kind is list or ((kind is str or kind is bytes) and len(value) > 64)


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


def chunk_struct(
    series: str,
    common: Iterable[str],
    groups: dict[str, dict[str, Any]],
    instances: dict[str, dict[str, Any]],
    places: Mapping[str, dict[str, Any]],
) -> dict[str, Any]:
    """What a chunk is written from.

    Args:
        series: the Series Instance UID.
        common: digests that all its instances refer to.
        groups: those of its groups that no shared frame has.
        instances: their structs by key.
        places: of large values, by SHA-256.
    """
    return {
        "seriesInstanceUID": series,
        "_groups": [Symbol(digest) for digest in common],
        "groups": groups,
        "instances": instances,
        "bulk": chunk_places(groups, instances, places),
    }


def chunk_places(
    groups: Mapping[str, Any],
    instances: Mapping[str, Mapping[str, Any]],
    places: Mapping[str, dict[str, Any]],
) -> dict[str, Any]:
    """The table of places of a chunk: of values in its groups, and in items of its instances."""
    nested = [value for i in instances.values() for value in i.values() if type(value) is list]
    return _bulk([groups, nested], places)


def instance_struct(entry: Entry, rows: Sequence[Row], values: Sequence[Any]) -> dict[str, Any]:
    """The struct of an instance; `values` are those of `rows`, ready to be written."""
    instance: dict[str, Any] = {"_groups": [Symbol(digest) for digest in entry.groups]}
    for number in entry.own:
        value = values[number]
        if is_reference(value) and value.get("sha256") in entry.places:
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
    instance["_source"] = ion.quick(source)
    if entry.events:
        instance["_versions"] = list(entry.events)
    return instance


def places_of(entries: Iterable[Entry]) -> Places:
    """Where the large values of instances lie, by SHA-256; each place stands by itself."""
    places: Places = {}
    for entry in entries:
        add_places(places, {sha256: entry.source.located(p) for sha256, p in entry.places.items()})
    return places


def _bulk(value: Any, places: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Places of the values that the references anywhere in `value` stand for."""
    return {sha256: places[sha256] for sha256 in references(value) if sha256 in places}
