"""A document → the batch of its instances. Mirror of `writer`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from dicomstudy.definitions import Definitions
from dicomstudy.document.fields import NOT_ATTRIBUTES, Group, references, source_of, uid_of
from dicomstudy.document.reader import Document
from dicomstudy.errors import StudyError
from dicomstudy.grouping import (
    ENCODING,
    Batch,
    Entry,
    Row,
    freeze,
)
from dicomstudy.record import group_of

#: Fields of a reference that say where its value lies, not what it is.
_PLACE_FIELDS = frozenset(
    ("offset", "stored", "chunk", "word", "uri", "size", "source", "modified")
)


def read_batch(document: Document, definitions: Definitions) -> Batch:
    """All instances of a document, as they were before they were clustered. Mirror of `encode`.

    Those that only older versions have are among them.

    Raises:
        StudyError: the document is damaged.
    """
    contents: dict[str, Group] = {}
    places: dict[str, dict[str, Any]] = {}
    reading = _Reading(definitions, contents, places, Batch(bases=[()]), {})
    for frame in document.frames():
        _collect(frame, contents, places)
        for key, instance in frame.get("instances", {}).items():
            digests = (*frame["_groups"], *instance.get("_groups", ()))
            missing = next((digest for digest in digests if digest not in contents), None)
            if missing is not None:
                raise StudyError(
                    "study/missing-group",
                    f"the group {missing} is missing",
                    source=str(document.path),
                )
            reading.add(key, frame["seriesInstanceUID"], instance, digests)
    return reading.batch


class _Reading(NamedTuple):
    """What `read_batch` has read so far."""

    definitions: Definitions
    contents: dict[str, Group]
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
            if field not in NOT_ATTRIBUTES:
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
                tuple(instance.get("_versions", ())),
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


def _collect(
    frame: Mapping[str, Any],
    names: dict[str, tuple[str, dict[str, Any]]],
    places: dict[str, dict[str, Any]],
) -> None:
    for name, contents in frame["groups"].items():
        for digest, content in contents.items():
            names[digest] = name, content
    places.update(frame.get("bulk", {}))
