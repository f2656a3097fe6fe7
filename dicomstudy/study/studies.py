"""A study document, opened for reading (spec/study.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Self

from dicomstudy.amendment import Amender
from dicomstudy.bulk import BulkReader, Places, numbered
from dicomstudy.definitions import Definitions, load
from dicomstudy.document import (
    Document,
    add_places,
    described,
    groups_of,
    is_named,
    references_in,
)
from dicomstudy.errors import BulkError, DicomStudyError, StudyError
from dicomstudy.grouping import Group
from dicomstudy.ion import ion_hash_hex
from dicomstudy.lineage import History
from dicomstudy.record import Encoder, is_reference
from dicomstudy.sources import SourceFiles
from dicomstudy.study.instances import Chunk, Instance, copied

__all__ = ["Study"]


class Shared(NamedTuple):
    """Groups with their names, and places of large values, by digest."""

    groups: dict[str, Group]
    places: Places


class Study(Mapping[str, "Instance"]):
    """One study document, opened for reading: by `open_study`, or by the archive that it is in.

    The keys are SOP Instance UIDs; where files of different content have the same one, all but
    the first (by SHA-256) have ``#`` and the start of their SHA-256 behind it.

    It can be pickled, as its instances can: other processes, or a copy, open it anew, as it is
    there and then.

    Args:
        path: the document.
        bulk: where its bulk file is, if it has one; a later one has its number in the name.
        definitions: those of the format.
        sources: finds the P10 files of an archive by reference.

    Attributes:
        document: its frames.
        chunk: gives a chunk of it by its number.
        encoder, amender: write its files, and make its edits.
        sources: finds P10 files that it refers to.

    Raises:
        StudyError: the document is damaged, or none.
    """

    def __init__(
        self,
        path: Path,
        *,
        definitions: Definitions,
        bulk: Path | None = None,
        sources: SourceFiles | None = None,
    ) -> None:
        self.path = path
        self.definitions = definitions
        self.encoder = Encoder(definitions)
        self.amender = Amender(definitions)
        self.document, self._bulk = document, _ = _opened(path, bulk)
        self.chunk = lru_cache(maxsize=4)(lambda number: Chunk(document.chunk(number)))
        self._numbers: dict[str, int] = {}
        self._searched: set[int] = set()
        self._bulk_path = bulk
        self.sources = SourceFiles() if sources is None else sources

    @property
    def uid(self) -> str:
        """The Study Instance UID."""
        return self.document.study

    @property
    def version(self) -> int:
        """The number of its version, which every change counts up."""
        return self.document.version

    @property
    def history(self) -> History:
        """Its versions, the oldest first; in brackets, the version of that number.

        Raises:
            StudyError: the history is damaged.
        """
        return self.document.history

    @property
    def has_past(self) -> bool:
        """Whether edits hold for any instance, or there are some that only older versions have."""
        return self.history.has_edits or bool(self.document.retired)

    def beside(self, document: Path) -> Study:
        """The study of another document, with the large values of this one."""
        return Study(
            document, definitions=self.definitions, bulk=self._bulk_path, sources=self.sources
        )

    def __len__(self) -> int:
        return self.document.instances

    def __iter__(self) -> Iterator[str]:
        for number in range(len(self.document.chunks)):
            yield from self.document.chunk(number)["instances"]

    def values(self) -> Iterator[Instance]:  # type: ignore[override]  # (an iterator, no view)
        """All instances, series by series."""
        for number in range(len(self.document.chunks)):
            for key in self.document.chunk(number)["instances"]:
                yield Instance(self, number, key)

    def items(self) -> Iterator[tuple[str, Instance]]:  # type: ignore[override]  # (so)
        """All keys with their instances, series by series."""
        for instance in self.values():
            yield instance.key, instance

    def __getitem__(self, key: str) -> Instance:
        if not isinstance(key, str):
            raise KeyError(key)
        number = self._chunk_of(key)
        if number is None:
            raise KeyError(key)
        return Instance(self, number, key)

    def _chunk_of(self, key: str) -> int | None:
        """The number of the chunk that has an instance; to find it, each is looked at once."""
        if key not in self._numbers:
            for number, said in enumerate(self.document.chunks):
                if number not in self._searched and said["first"] <= key <= said["last"]:
                    self._numbers.update(
                        dict.fromkeys(self.document.chunk(number)["instances"], number)
                    )
                    self._searched.add(number)
                    if key in self._numbers:
                        break
        return self._numbers.get(key)

    __hash__ = object.__hash__
    __eq__ = object.__eq__

    def chunks(
        self, *, series: str | None = None, instance: str | None = None, retired: bool = False
    ) -> Iterator[list[Instance] | DicomStudyError]:
        """All instances, chunk by chunk, or what is wrong with a chunk.

        Args:
            series: only chunks of this series.
            instance: only chunks that may have what this UID or key means.
            retired: those that only older versions have come too, and last.
        """
        chunks = self.document.chunks + (self.document.retired if retired else [])
        for number, said in enumerate(chunks):
            if series not in {None, said["seriesInstanceUID"]}:
                continue
            if instance is not None and not _may_have(said, instance):
                continue
            try:
                frame = self.document.chunk(number)
                keys = list(frame["instances"])
                here = described(frame["seriesInstanceUID"], keys)
                if any(said[name] != value for name, value in here.items()):
                    yield StudyError(
                        "study/damaged",
                        "a chunk has other instances than the header says",
                        source=str(self.path),
                    )
                yield [Instance(self, number, key) for key in keys]
            except DicomStudyError as error:
                yield error

    def keys_of(self, uid: str) -> list[str]:
        """The keys of the instances that are, or whose series is, of this UID.

        An instance may be meant by its key, or ``<uid>#<start of its digest>``, as well. If several
        have this SOP Instance UID, it means all of them.
        """
        keys: list[str] = []
        for number, chunk in enumerate(self.document.chunks):
            if chunk["seriesInstanceUID"] == uid:
                keys += self.document.chunk(number)["instances"]
        return keys or self._keys_of_instances(uid)

    def _keys_of_instances(self, name: str) -> list[str]:
        """The keys of the instances that are meant by their UID, key or start of their digest."""
        start = name.rpartition("#")[0] or name
        keys: list[str] = []
        for number, chunk in enumerate(self.document.chunks):
            if not _may_have(chunk, name):
                continue
            for key in self.document.chunk(number)["instances"]:
                if key == name:
                    keys.append(key)
                elif key.startswith(start):
                    instance = Instance(self, number, key)
                    uid = instance.uid
                    if uid == name or (uid == start and is_named(name, uid, instance.identity)):
                        keys.append(key)
        return keys

    @cached_property
    def series(self) -> dict[str, list[str]]:
        """The keys of the instances of each series, by Series Instance UID; not to be changed."""
        series: dict[str, list[str]] = {}
        for number, chunk in enumerate(self.document.chunks):
            keys = series.setdefault(chunk["seriesInstanceUID"], [])
            keys += self.document.chunk(number)["instances"]
        return series

    @property
    def groups(self) -> dict[str, dict[str, dict[str, Any]]]:
        """The content of every attribute group by its digest, by the name of the group.

        All of it is copied each time that it is asked for: ask once.
        """
        groups: dict[str, dict[str, dict[str, Any]]] = copied(self._groups)
        return groups

    @cached_property
    def _groups(self) -> dict[str, dict[str, dict[str, Any]]]:
        """The `groups`, with contents that are those of the document."""
        if not self.has_past:
            return self.stored_groups()
        groups: dict[str, dict[str, dict[str, Any]]] = {}
        for instance in self.values():
            for digest, name, content in instance.groups:
                groups.setdefault(name, {})[digest] = content
        return groups

    def stored_groups(self) -> dict[str, dict[str, dict[str, Any]]]:
        """The `groups` that the document has: without edits, and for all versions."""
        groups: dict[str, dict[str, dict[str, Any]]] = {}
        referred: set[str] = set()
        for frame in self.document.frames():
            for name, contents in frame["groups"].items():
                groups.setdefault(name, {}).update(contents)
            referred.update(frame.get("_groups", ()))
            for instance in frame.get("instances", {}).values():
                referred.update(instance.get("_groups", ()))
        return {
            name: {digest: contents[digest] for digest in contents if digest in referred}
            for name, contents in groups.items()
            if not referred.isdisjoint(contents)
        }

    @cached_property
    def digest(self) -> str:
        """The Ion Hash of the content, in hexadecimal: equal for equal sets of instances.

        It depends neither on the order in which they came nor on where their bulk lies
        (spec/study.md).
        """
        instances = {}
        for key, instance in self.items():
            has_source = instance.source.sha256 is not None
            own = {
                name: _for_digest(value, has_source=has_source)
                for name, value in instance.own.items()
            }
            groups = sorted(digest for digest, _, _ in instance.groups)
            content: dict[str, Any] = {"groups": groups, "own": own}
            content["source"] = instance.source.sha256
            instances[key] = {"series": instance.series, **content}
        return ion_hash_hex({"studyInstanceUID": self.uid, "instances": instances})

    @cached_property
    def shared(self) -> Shared:
        """What the shared frames have."""
        contents: dict[str, Group] = {}
        places: Places = {}
        for frame in self.document.shared():
            contents.update(groups_of(frame))
            add_places(places, frame.get("bulk", {}))
        return Shared(contents, places)

    @property
    def bulk(self) -> BulkReader:
        """The bulk file.

        Raises:
            BulkError: there is none, or it cannot be read.
        """
        if self._bulk is None:
            raise BulkError("bulk/missing", "the study has no bulk file", source=str(self.path))
        if isinstance(self._bulk, BulkError):
            raise self._bulk.with_traceback(None)
        return self._bulk

    @property
    def bulk_path(self) -> Path | None:
        """Where its bulk file is, None if it has none."""
        return _bulk_path(self.document, self._bulk_path)

    def places(self) -> Iterator[tuple[str, int, Mapping[str, Any]]]:
        """SHA-256, length and place of every large value that lies in the bulk file."""
        lengths: dict[str, int] = {}
        tables: Places = {}
        for frame in self.document.frames():
            for reference in references_in([frame["groups"], frame.get("instances", {})]):
                if "sha256" in reference:
                    lengths[reference["sha256"]] = reference["length"]
                    if "stored" in reference:
                        tables[reference["sha256"]] = dict(reference)
            add_places(tables, frame.get("bulk", {}))
        for sha256, place in tables.items():
            if "stored" in place and sha256 in lengths:
                yield sha256, lengths[sha256], place

    def close(self) -> None:
        """Close the files that are open."""
        self.document.close()
        if isinstance(self._bulk, BulkReader):
            self._bulk.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Study({self.uid!r}, {len(self)} instances)"

    def __reduce__(self) -> tuple[object, ...]:
        """How it is opened anew, by pickle."""
        path = self.path.resolve()
        bulk = None if self._bulk_path is None else self._bulk_path.resolve()
        return _opened_anew, (path, bulk, self.definitions.version, self.sources)


def _opened(path: Path, bulk: Path | None) -> tuple[Document, BulkReader | BulkError | None]:
    """A document and its bulk file, or why that cannot be read; they belong together."""
    while True:
        document = Document(path)
        file: BulkReader | BulkError | None = None
        if (bulk_path := _bulk_path(document, bulk)) is not None:
            try:
                file = BulkReader(bulk_path, length=document.bulk.length)
            except BulkError as error:
                file = error
        if file is None or document.is_current():
            return document, file
        document.close()  # it was replaced meanwhile, and the bulk file may be that of another
        if isinstance(file, BulkReader):
            file.close()


def _opened_anew(path: Path, bulk: Path | None, version: str, sources: SourceFiles) -> Study:
    """A study that was pickled."""
    return Study(path, definitions=load(version), bulk=bulk, sources=sources)


def _bulk_path(document: Document, bulk: Path | None) -> Path | None:
    """Where the bulk file of a document is, None if it has none."""
    if bulk is None or not document.bulk.length:
        return None
    return numbered(bulk, document.bulk.number)


def _may_have(said: Mapping[str, Any], name: str) -> bool:
    """Whether a chunk may have an instance that ``<uid>`` or ``<uid>#<digest>`` means."""
    uid = name.rpartition("#")[0] or name
    return bool(said["first"] < uid + "$" and uid <= said["last"])  # "$" comes after "#"


def _for_digest(value: Any, *, has_source: bool) -> Any:
    """A reference without what depends on where the value lies.

    What its bytes are is in the digest of the source, unless there is none.
    """
    if not is_reference(value):
        return value
    kept = ("length",) if has_source else ("length", "sha256")
    return {name: value[name] for name in kept if name in value}
