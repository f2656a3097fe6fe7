"""A document with some instances more, of which most frames are copied (spec/study.md).

The law: what it says of each instance is what the document of all of them would say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dicomstudy.bulk import Places
from dicomstudy.clustering import cluster
from dicomstudy.definitions import Definitions
from dicomstudy.document.batches import BatchReader
from dicomstudy.document.fields import (
    add_places,
    by_name,
    described,
    digest_of,
    digests_of_groups,
    groups_of,
    place_fields,
    uid_of,
)
from dicomstudy.document.reader import Document
from dicomstudy.document.writer import (
    CHUNK_BYTES,
    CHUNK_INSTANCES,
    Frames,
    chunk_places,
    chunk_struct,
    head,
    instance_struct,
    places_of,
)
from dicomstudy.grouping import ENCODING, Batch, Entry, Group, rank
from dicomstudy.growth import Grown, grown
from dicomstudy.ion import Symbol
from dicomstudy.lineage import History
from dicomstudy.record import is_reference

__all__ = ["extended", "stored_places"]

#: A chunk of more bytes is parted.
_MAX_PLAIN = 2 * CHUNK_BYTES


def stored_places(document: Document, batch: Batch) -> Places | None:
    """Where the large values of a batch lie that the archive has already, by SHA-256.

    None if an instance of the batch may be in the document, which has a table, or is twice in
    the batch.
    """
    uids = {entry.instance for entry in batch.entries}
    if len(uids) < len(batch.entries):
        return None
    wanted = {
        sha256 for entry in batch.entries for sha256, p in entry.places.items() if "part" in p
    }
    places: Places = {}
    for frame in document.holding(uids, wanted):
        instances = frame.get("instances", {})
        if uids & instances.keys():
            return None
        found = dict(frame.get("bulk", {}))
        for instance in instances.values():
            for value in instance.values():
                if is_reference(value) and "sha256" in value:
                    add_places(found, {value["sha256"]: place_fields(value)})
        places |= {sha256: p for sha256, p in found.items() if sha256 in wanted and "stored" in p}
        wanted.difference_update(places)
    return places


def extended(
    document: Document,
    batch: Batch,
    definitions: Definitions,
    *,
    history: History,
    bulk_length: int,
) -> Iterator[bytes] | None:
    """The document with the instances of a batch more, frame by frame.

    None if it has to be encoded anew: other instances may have to be grouped otherwise.

    Args:
        document: does not have any of the instances, nor others of their UIDs.
        batch: what comes in; not two instances of one UID.
        definitions: those of the format.
        history: the versions of the study, that of this change included.
        bulk_length: the size of the bulk file now.
    """
    extension = _Extension(document, batch, definitions, Frames(bulk_length))
    by_series: dict[str, list[Entry]] = {}
    for entry in batch.entries:
        by_series.setdefault(entry.series, []).append(entry)
    if (
        not document.has_table
        or extension.brings_values()
        or not all(extension.add(*each) for each in by_series.items())
    ):
        return None
    return extension.frames(history, bulk_length)


@dataclass(slots=True)
class _Chunk:
    """A chunk of the document: what its header says; its number there, or what it is now."""

    said: dict[str, Any]
    number: int | None
    struct: dict[str, Any] | None = None


class _Extension:
    """A document on its way to having more instances."""

    def __init__(
        self, document: Document, batch: Batch, definitions: Definitions, frames: Frames
    ) -> None:
        self._document = document
        self._batch = batch
        self._definitions = definitions
        self._frames = frames
        self._values = [row.value for row in batch.rows]
        self._order = {name: at for at, name in enumerate(definitions.groups)}
        self._own_by_group = {*definitions.seed_groups, ENCODING}
        self._counts = dict(document.counts)
        self._shared: dict[str, Group] = {}
        self._places: Places = {}
        for frame in document.shared():
            self._shared |= groups_of(frame)
            add_places(self._places, frame["bulk"])
        self._chunks = [_Chunk(said, number) for number, said in enumerate(document.chunks)]

    def brings_values(self) -> bool:
        """Whether a value is in the bulk file that shared groups have in a P10 file till now."""
        return any(
            "stored" in place and "stored" not in self._places.get(sha256, place)
            for entry in self._batch.entries
            for sha256, place in entry.places.items()
        )

    def add(self, series: str, entries: list[Entry]) -> bool:
        """Add the instances of a series; False if that cannot be done without the others."""
        chunks = [chunk for chunk in self._chunks if chunk.said["seriesInstanceUID"] == series]
        count = sum(chunk.said["instances"] for chunk in chunks)
        if chunks and series in self._counts:
            return all(self._insert(chunks, count + at, e) for at, e in enumerate(entries))
        if len(chunks) > 1 or count + len(entries) > CHUNK_INSTANCES:
            return False
        if not chunks:
            chunks = [_Chunk({"seriesInstanceUID": series}, None)]
            self._chunks.append(chunks[0])
            self._chunks.sort(key=lambda chunk: str(chunk.said["seriesInstanceUID"]))
        return self._cluster(chunks[0], series, entries)

    def _cluster(self, chunk: _Chunk, series: str, entries: list[Entry]) -> bool:
        """Cluster the only chunk of a series with more instances.

        False if it has one of their keys, though the header says otherwise.
        """
        batch = self._batch.only(entries)
        keys = {entry.identity: entry.instance for entry in entries}
        if chunk.number is not None:
            frame = self._document.chunk(chunk.number)
            reading = BatchReader(self._definitions, self._document.bulk.length)
            reading.collect({"groups": {}, "bulk": self._places})
            reading.collect(frame)
            contents = self._shared | reading.contents
            for key, instance in frame["instances"].items():
                referred = digests_of_groups(frame, instance)
                groups = [(digest, *self._group(digest, contents)) for digest in referred]
                entry = reading.add(key, series, instance, groups)
                keys[entry.identity] = key
            batch = Batch.join([reading.batch, batch])
        content = cluster(batch, self._definitions)
        ((_, common, clustered),) = content.series
        places = places_of(clustered)
        add_places(places, self._places)
        digests = dict.fromkeys((*common, *(d for entry in clustered for d in entry.groups)))
        mine = by_name([each for each in digests if each not in self._shared], content.contents)
        values = [row.value for row in content.rows]
        instances = {
            keys[entry.identity]: instance_struct(entry, content.rows, values)
            for entry in clustered
        }
        if len(instances) < len(clustered):
            return False
        self._put(chunk, chunk_struct(series, common, mine, instances, places))
        return True

    def _insert(self, chunks: list[_Chunk], count: int, entry: Entry) -> bool:
        """Put an instance into a series whose others stay as they are.

        False if they may not, or the chunk is not what the header says.
        """
        chunk = next(
            (each for each in reversed(chunks) if each.said["first"] <= entry.instance), chunks[0]
        )
        if chunk.struct is None and chunk.number is not None:
            chunk.struct = _copied(self._document.chunk(chunk.number))
        struct = chunk.struct or {}
        if not struct["instances"] or entry.instance in struct["instances"]:
            return False
        found = self._grown(struct, count, entry)
        if found is None:
            return False
        self._counts[entry.series] = found.counts
        self._join(struct, entry, found)
        self._put(chunk, struct)
        return True

    def _grown(self, struct: Mapping[str, Any], count: int, entry: Entry) -> Grown | None:
        """What is said of an instance beside those of a chunk."""
        instances: dict[str, dict[str, Any]] = struct["instances"]
        common, contents = struct["_groups"], self._shared | groups_of(struct)
        neighbour = dict(
            self._group(digest, contents)
            for digest in (*common, *next(iter(instances.values()))["_groups"])
        )
        batch = self._batch
        return grown(
            self._counts[entry.series],
            count,
            {name: each for name, each in neighbour.items() if name not in self._own_by_group},
            {*common, *(d for instance in instances.values() for d in instance["_groups"])},
            {number: batch.rows[number] for number in (*batch.bases[entry.base], *entry.own)},
            self._definitions,
        )

    def _join(self, struct: dict[str, Any], entry: Entry, found: Grown) -> None:
        """Let a chunk have an instance more, of which `found` says to what it is grouped."""
        batch, instances = self._batch, struct["instances"]
        digests = {*entry.groups, *found.groups}
        contents = self._shared | groups_of(struct) | found.groups
        contents |= {digest: batch.contents[digest] for digest in entry.groups}
        common = [digest for digest in struct["_groups"] if digest in digests]
        if lost := [digest for digest in struct["_groups"] if digest not in digests]:
            struct["_groups"] = common
            for instance in instances.values():
                instance["_groups"] = self._sorted((*instance["_groups"], *lost), contents)
        own = sorted(found.own, key=self._place_of_row)
        groups = self._sorted(digests.difference(common), contents)
        one = instance_struct(
            entry._replace(groups=tuple(groups), own=tuple(own)), batch.rows, self._values
        )
        mine = by_name([d for d in (*common, *groups) if d not in self._shared], contents)
        places = places_of([entry])
        add_places(places, self._places)
        for name, several in mine.items():
            struct["groups"].setdefault(name, {}).update(several)
        add_places(struct["bulk"], chunk_places(mine, {entry.instance: one}, places))
        struct["instances"] = dict(sorted([*instances.items(), (entry.instance, one)], key=_place))

    def _put(self, chunk: _Chunk, struct: dict[str, Any]) -> None:
        chunk.struct = struct
        chunk.said = described(struct["seriesInstanceUID"], struct["instances"])

    def _group(self, digest: str, contents: Mapping[str, Group]) -> Group:
        if digest not in contents:
            raise self._document.missing_group(digest)
        return contents[digest]

    def _sorted(self, digests: Iterable[str], contents: Mapping[str, Group]) -> list[str]:
        """Digests in the order of their groups."""
        return sorted(digests, key=lambda d: (self._order[self._group(d, contents)[0]], d))

    def _place_of_row(self, number: int) -> tuple[int, str]:
        key = self._batch.rows[number].key
        return rank(key, self._definitions), key

    def frames(self, history: History, bulk_length: int) -> Iterator[bytes]:
        """The document, frame by frame."""
        document = self._document
        descriptions: list[dict[str, Any]] = []
        stored: list[tuple[bytes, int]] = []
        for chunk in self._chunks:
            parts = [] if chunk.struct is None else [*self._parted(chunk.struct)]
            descriptions += [said for said, _ in parts] or [chunk.said]
            stored += [frame for _, frame in parts]
            if chunk.struct is None and chunk.number is not None:
                stored.append(document.stored_chunk(chunk.number))
        header = {**document.header, "chunks": descriptions, "bulkLength": bulk_length}
        yield from head(self._frames, header, history, self._counts)
        for frame in document.stored_shared():
            yield self._frames.copy(*frame)
        for frame in stored:
            yield self._frames.copy(*frame)
        present = len(document.chunks)
        for number in range(present, present + len(document.retired)):
            yield self._frames.copy(*document.stored_chunk(number))
        yield self._frames.table()

    def _parted(self, struct: dict[str, Any]) -> Iterator[tuple[dict[str, Any], tuple[bytes, int]]]:
        """The frames of a chunk, more than one if it has become too large for one."""
        series, instances = struct["seriesInstanceUID"], struct["instances"]
        frame = self._frames.made(_with_symbols(struct))
        if len(instances) == 1 or (len(instances) <= CHUNK_INSTANCES and frame[1] <= _MAX_PLAIN):
            yield described(series, instances), frame
            return
        keys = list(instances)
        contents = groups_of(struct)
        for half in (keys[: len(keys) // 2], keys[len(keys) // 2 :]):
            mine = {key: instances[key] for key in half}
            digests = dict.fromkeys(
                (*struct["_groups"], *(d for each in mine.values() for d in each["_groups"]))
            )
            groups = by_name([digest for digest in digests if digest in contents], contents)
            yield from self._parted(
                chunk_struct(series, struct["_groups"], groups, mine, struct["bulk"])
            )


def _place(item: tuple[str, dict[str, Any]]) -> tuple[str, str]:
    """Where an instance stands among others: by its UID, then by its digest."""
    key, instance = item
    return uid_of(key, instance), digest_of(instance)


def _copied(frame: Mapping[str, Any]) -> dict[str, Any]:
    """A chunk that can be changed."""
    return {
        **{name: frame[name] for name in ("seriesInstanceUID", "_groups")},
        "groups": {name: dict(contents) for name, contents in frame["groups"].items()},
        "instances": {
            key: {**instance, "_groups": instance.get("_groups", [])}
            for key, instance in frame["instances"].items()
        },
        "bulk": dict(frame["bulk"]),
    }


def _with_symbols(struct: Mapping[str, Any]) -> dict[str, Any]:
    """A chunk as it is written: what was read as text is symbols."""
    return {
        **struct,
        "_groups": [Symbol(digest) for digest in struct["_groups"]],
        "instances": {
            key: {**instance, "_groups": [Symbol(digest) for digest in instance["_groups"]]}
            for key, instance in struct["instances"].items()
        },
    }
