"""Records ↔ dicom2ion-style instance records: one Ion struct per P10 file (spec/record.md)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from dicomstudy import ion, layout
from dicomstudy.definitions import Definitions
from dicomstudy.elements import is_private
from dicomstudy.errors import IonError, RecordError
from dicomstudy.grouping import Source, ordered
from dicomstudy.layout import Token
from dicomstudy.record import RAW_GROUP, Attribute, Record, Template, group_of

__all__ = ["Loaded", "is_record", "load", "to_struct"]

_BINARY_MARK = b"\xe0\x01\x00\xea"
_SUFFIXES = frozenset((".ion", ".10n"))


class Loaded(NamedTuple):
    """A record that was read: what `Grouper.add` asks for."""

    record: Record
    source: Source
    places: dict[str, dict[str, Any]]


def is_record(head: bytes, suffix: str) -> bool:
    """Whether a file may be an instance record: binary Ion, or named as Ion."""
    return head.startswith(_BINARY_MARK) or suffix.lower() in _SUFFIXES


def to_struct(
    record: Record,
    definitions: Definitions,
    *,
    source: Source,
    max_inline: int,
    data_set_offset: int,
) -> dict[str, Any]:
    """The instance record of a file, in the fields of dicom2ion and with its encoding.

    Mirror of `load`. Large values are references into the file: `dataOffset` and `length`, and
    the `sha256` of their bytes, except for pixel data, which the file's own proves.
    """
    offsets = {large.sha256: large.span.offset for large in record.large if large.stored is None}
    data_set = {}
    for key, value in ordered(record.attributes().items(), definitions).items():
        if isinstance(value, dict) and value.get("sha256") in offsets:
            data_set[key] = {"dataOffset": offsets[value["sha256"]], **value}
        else:
            data_set[key] = value
    tokens = layout.parse(record.encoding["meta"]) + layout.parse(record.encoding["dataSet"])
    vrs = _vrs(tokens, data_set, definitions)
    if vrs:
        data_set["_vrs"] = vrs
    return {
        "sourceInfo": {"uri": source.uri},
        "options": {
            "maximumInlineDataLength": max_inline,
            "dataDictionary": {"description": definitions.edition, "sha256": definitions.digest},
        },
        "fileInfo": {
            "sha256": source.sha256,
            "size": source.size,
            "dataSetOffset": data_set_offset,
        },
        "encoding": record.encoding,
        "dataSet": data_set,
    }


def _vrs(
    tokens: Iterable[Token], data_set: Mapping[str, Any], definitions: Definitions
) -> dict[str, str]:
    """The VRs in the file that are not those of the dictionary (dicom2ion's `_vrs`)."""
    vrs = {}
    for token in tokens:
        key = definitions.keyword(token.tag)
        known = definitions.vr(token.tag)
        if token.vr and key in data_set and (is_private(token.tag) or token.vr not in known):
            vrs[key] = token.vr
    return vrs


def load(data: bytes, definitions: Definitions, *, source: str) -> Loaded:
    """An instance record, of this package or of dicom2ion-js, binary or text.

    Raises:
        RecordError: the data are no instance record (``record/not-a-record``).
    """
    try:
        struct = ion.loads(data)
    except IonError as error:
        raise RecordError("record/not-a-record", error.message, source=source) from error
    if not isinstance(struct, dict) or not isinstance(struct.get("dataSet"), dict):
        raise RecordError("record/not-a-record", "it has no struct 'dataSet'", source=source)
    data_set: dict[str, Any] = struct["dataSet"]
    encoding = struct.get("encoding")
    file = struct.get("fileInfo") or {}
    uri = str((struct.get("sourceInfo") or {}).get("uri", source))
    groups: dict[str, list[Attribute]] = {}
    places: dict[str, dict[str, Any]] = {}
    for key, value in data_set.items():
        if key == "_vrs":
            if encoding is None:
                groups.setdefault(RAW_GROUP, []).append(Attribute(key, value, RAW_GROUP))
            continue
        plain = value
        if encoding is not None and isinstance(value, dict) and "sha256" in value:
            plain = {name: item for name, item in value.items() if name != "dataOffset"}
            places[value["sha256"]] = {"dataOffset": value.get("dataOffset", 0)}
        group = group_of(key, definitions)
        groups.setdefault(group, []).append(Attribute(key, plain, group))
    known = encoding is not None
    return Loaded(
        Record(Template.closed(groups, encoding or {}), [], [], []),
        Source(uri, file.get("sha256") if known else None, file.get("size") if known else None),
        places,
    )
