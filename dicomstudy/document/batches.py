"""A document → the batch of its instances. Mirror of `writer`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dicomstudy.bulk import BEYOND, Place, Places
from dicomstudy.definitions import Definitions
from dicomstudy.document.fields import (
    NOT_ATTRIBUTES,
    add_places,
    digest_of,
    digest_of_record,
    digests_of_groups,
    groups_of,
    place_fields,
    references_in,
    source_of,
    uid_of,
    without_places,
)
from dicomstudy.document.reader import Document
from dicomstudy.errors import BulkError
from dicomstudy.grouping import (
    ENCODING,
    Batch,
    Entry,
    Group,
    HashedGroup,
    Name,
    Rows,
    formed,
    ungroup,
    without_encoding,
)
from dicomstudy.record import group_of, is_reference


def read_batch(document: Document, definitions: Definitions) -> Batch:
    """All instances of a document, as they were before they were clustered. Mirror of `encode`.

    Those that only older versions have are among them.

    Raises:
        StudyError: the document is damaged.
        BulkError: the place of a large value is none, or beyond `bulkLength` (``bulk/place``).
    """
    reading = BatchReader(definitions, document.bulk.length)
    names: set[Name] = set()
    for frame in document.frames():
        reading.collect(frame)
        for key, instance in frame.get("instances", {}).items():
            digests = digests_of_groups(frame, instance)
            missing = next((digest for digest in digests if digest not in reading.contents), None)
            if missing is not None:
                raise document.missing_group(missing)
            groups = ((digest, *reading.contents[digest]) for digest in digests)
            try:
                entry = reading.add(key, frame["seriesInstanceUID"], instance, groups)
            except BulkError as error:
                source = str(document.path)
                raise BulkError(error.code, error.message, source=source) from error
            if entry.name in names:
                raise document.repeated(key)
            names.add(entry.name)
    return reading.batch


class BatchReader:
    """Makes a batch of instances.

    Args:
        definitions: those of the format.
        bulk_length: how much of its bulk file belongs to their document.

    Attributes:
        contents: the groups that were collected, by digest.
        batch: the instances that were added.
    """

    def __init__(self, definitions: Definitions, bulk_length: int) -> None:
        self.definitions = definitions
        self._bulk_length = bulk_length
        self.contents: dict[str, Group] = {}
        self.batch = Batch(bases=[()])
        self._places: Places = {}
        self._rows = Rows(self.batch.rows)

    def collect(self, frame: Mapping[str, Any]) -> None:
        """Remember the groups of a frame, and where their large values are."""
        self.contents |= groups_of(frame)
        add_places(self._places, frame.get("bulk", {}))

    def add(
        self,
        key: str,
        series: str,
        instance: Mapping[str, Any],
        groups: Iterable[HashedGroup],
    ) -> Entry:
        """The entry of an instance, which is added; its groups are taken apart but for the seed's.

        Args:
            key: its key.
            series: the Series Instance UID.
            instance: its struct in a document.
            groups: digest, name and content of each of its groups.

        Raises:
            BulkError: the place of a large value is none (``bulk/place``).
            RecordError: an attribute stands twice (``record/ambiguous``).
        """
        order, groups = self.definitions.groups, list(groups)
        places: Places = {}
        attributes: Mapping[str, Any] = {
            field: _without_place(value, places)
            for field, value in instance.items()
            if field not in NOT_ATTRIBUTES
        }
        whole, attributes = formed(groups, attributes, self.definitions)
        kept: list[HashedGroup] = []
        own: list[int] = []
        for digest, name, content in whole:
            if name == ENCODING or self.definitions.is_seed(name):
                kept.append((digest, name, content))
                self.batch.contents[digest] = name, content
            else:
                own += self._rows.add((name, field, value) for field, value in content.items())
        own += self._rows.add(
            (group_of(field, self.definitions), field, value) for field, value in attributes.items()
        )
        values = [self.batch.rows[number].value for number in own]
        for reference in references_in([values, [content for _, _, content in kept]]):
            sha256 = reference.get("sha256", "")
            if sha256 in self._places:
                places.setdefault(sha256, self._places[sha256])
            self._check(places.get(sha256, {}), reference)
        entry = Entry(
            uid_of(key, instance),
            series,
            digest_of(instance) or _digest_of_record(instance, groups),
            source_of(instance),
            tuple([d for _, d in sorted((order.index(name), digest) for digest, name, _ in kept)]),
            0,
            tuple(own),
            places,
            tuple(instance.get("_versions", ())),
        )
        self.batch.entries.append(entry)
        return entry

    def _check(self, place: Mapping[str, Any], reference: Mapping[str, Any]) -> None:
        """Refuse a place in the bulk file that whoever writes the document could not keep."""
        if "stored" in reference:
            message = "a reference in a group or an item has a place of its own"
            raise BulkError("bulk/place", message)
        if "stored" in place and (
            Place.from_struct(place, reference["length"]).end > self._bulk_length
        ):
            raise BulkError("bulk/place", BEYOND)


def _digest_of_record(instance: Mapping[str, Any], groups: Iterable[HashedGroup]) -> str:
    """What tells an instance from others of which the document does not say whence it came."""
    own = {key: value for key, value in instance.items() if key not in NOT_ATTRIBUTES}
    return digest_of_record(ungroup(without_encoding(groups), own))


def _without_place(value: object, places: Places) -> object:
    """A value without the place of a large one, which goes to `places`."""
    if not is_reference(value) or "sha256" not in value:
        return value
    place = place_fields(value)
    if place:
        places[value["sha256"]] = place
    return without_places(value)
