"""Fields of documents: what reading and writing have in common."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from dicomstudy.bulk import Place, Places
from dicomstudy.elements import bare_uid
from dicomstudy.grouping import Group, Source
from dicomstudy.ion import ion_hash_hex
from dicomstudy.record import is_reference

FORMAT = "dicomstudy"
VERSION = 1
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
SKIPPABLE = 0x184D2A5E
SEEKABLE = 0x8F92EAB1
FOOTER = struct.Struct("<IBI")
TABLE_ENTRY = struct.Struct("<II")

#: Bytes of a frame at most, and values in it, at all levels.
MAX_FRAME, MAX_VALUES = 1 << 30, 1 << 24
#: Values are counted in frames of more bytes, and in smaller ones that were compressed to less than
#: one in so many: it takes as long as to read them.
_UNCOUNTED, _DENSEST = 1 << 26, 200
#: Fields of an instance that are no attributes of it.
NOT_ATTRIBUTES = frozenset(("_groups", "_source", "_versions"))
#: Fields of a reference that say in which P10 file its value is.
_FILE_FIELDS = frozenset(("uri", "size", "source", "modified"))
#: Those that say where its value lies, not what it is.
_PLACE_FIELDS = _FILE_FIELDS | {"offset", "stored", "chunk", "word", "dataOffset"}


def most_values(plain: int, stored: int) -> int | None:
    """How many values a frame may have, by its size and what it is compressed to; None for any."""
    return MAX_VALUES if plain > _UNCOUNTED or plain > _DENSEST * stored else None


def described(series: str, keys: Collection[str]) -> dict[str, Any]:
    """What the header says of a chunk with these keys; where there are none, both are empty."""
    return {
        "seriesInstanceUID": series,
        "first": min(keys, default=""),
        "last": max(keys, default=""),
        "instances": len(keys),
    }


def groups_of(frame: Mapping[str, Any]) -> dict[str, Group]:
    """Name and content of the groups of a frame, by digest."""
    return {
        digest: (name, content)
        for name, contents in frame["groups"].items()
        for digest, content in contents.items()
    }


def digests_of_groups(frame: Mapping[str, Any], instance: Mapping[str, Any]) -> tuple[str, ...]:
    """The digests of all groups of an instance of a chunk: those that all there have come first."""
    return (*frame["_groups"], *instance.get("_groups", ()))


def by_name(digests: Iterable[str], contents: Mapping[str, Group]) -> dict[str, dict[str, Any]]:
    """Groups by name and digest."""
    groups: dict[str, dict[str, Any]] = {}
    for digest in digests:
        name, attributes = contents[digest]
        groups.setdefault(name, {})[digest] = attributes
    return groups


def references_in(value: Any) -> Iterator[dict[str, Any]]:
    """Every reference in a value, at any depth."""
    items: Iterable[Any] = value if type(value) is list else ()
    if type(value) is dict:
        items = value.values()
        if is_reference(value):
            yield value
    for item in items:
        if type(item) is list or type(item) is dict:
            yield from references_in(item)


def references(value: Any) -> Iterator[str]:
    """The SHA-256 of every reference in a value."""
    for reference in references_in(value):
        if isinstance(reference.get("sha256"), str):
            yield str(reference["sha256"])


def place_fields(reference: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a reference that say where its value lies, not what it is."""
    return {name: value for name, value in reference.items() if name in _PLACE_FIELDS}


def add_places(places: Places, more: Mapping[str, dict[str, Any]]) -> None:
    """Add places to others, by SHA-256.

    Of two places of one value the later one counts, unless the first is in the bulk file.
    """
    for sha256, place in more.items():
        if "stored" not in places.get(sha256, ()):
            places[sha256] = place


def without_places(value: Any) -> Any:
    """A value whose references say only what is meant, at any depth."""
    if type(value) is list:
        return [{key: without_places(item) for key, item in struct.items()} for struct in value]
    if is_reference(value) and "sha256" in value:
        return {name: item for name, item in value.items() if name not in _PLACE_FIELDS}
    return value


def without_files(value: Any) -> Any:
    """As `without_places`; and pixel data that only its place tells has of that the offset."""
    if is_reference(value) and "sha256" not in value:
        return {name: item for name, item in value.items() if name not in _FILE_FIELDS}
    return without_places(value)


def uid_of(key: str, instance: Mapping[str, Any]) -> str:
    """The SOP Instance UID of an instance; `key` may have ``#`` and a digest behind it."""
    return bare_uid(instance.get("SOPInstanceUID")) or key


def name_of_instance(uid: str, digest: str) -> str:
    """What names one instance whatever its key, ``<uid>#<digest>``; see `is_named`."""
    return f"{uid}#{digest}"


def is_named(name: str, uid: str, digest: str) -> bool:
    """Whether `name` means an instance.

    Args:
        name: the UID, or ``<uid>#<start of the digest>``.
        uid: its SOP Instance UID.
        digest: the SHA-256 of its file, or that of its record.
    """
    if name == uid:
        return True
    meant, mark, start = name.rpartition("#")
    return bool(mark and start) and meant == uid and digest.startswith(start)


def digest_of(instance: Mapping[str, Any]) -> str:
    """What tells an instance from others of its UID: the SHA-256 of its file or of its record.

    Empty if the document does not say where it came from; see `digest_of_record`.
    """
    source = instance.get("_source", {})
    return source_of(instance).sha256 or str(source.get("record", ""))


def digest_of_record(attributes: Mapping[str, Any]) -> str:
    """What tells an instance without file: the Ion Hash of its attributes, as it came."""
    return ion_hash_hex({key: without_places(value) for key, value in attributes.items()})


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
