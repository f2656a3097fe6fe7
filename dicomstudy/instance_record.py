"""Records ↔ dicom2ion-style instance records: one Ion struct per P10 file (spec/record.md)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from dicomstudy import ion, layout
from dicomstudy.definitions import Definitions
from dicomstudy.elements import Buffer, is_private
from dicomstudy.errors import IonError, RecordError
from dicomstudy.grouping import Source, ordered
from dicomstudy.layout import Token
from dicomstudy.record import (
    Attribute,
    Encoder,
    Large,
    Record,
    Template,
    group_of,
)

__all__ = ["Loaded", "is_record", "load", "to_struct"]

_BINARY_MARK = b"\xe0\x01\x00\xea"
_SUFFIXES = frozenset((".ion", ".10n"))
_SCALARS = frozenset((str, int, float, bytes))
#: Fields of a reference that say where its value lies: in the file, or here.
_PLACE_FIELDS = frozenset(("dataOffset", "data"))


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
    carried: Buffer | None = None,
) -> dict[str, Any]:
    """The instance record of a file, in the fields of dicom2ion and with its encoding.

    Mirror of `load`. Large values are references into the file: `dataOffset` and `length`, and
    the `sha256` of their bytes, except for pixel data, which the file's own proves. Those that
    stand nowhere in the file as they are recorded have their bytes as `data` instead.

    Args:
        record: what was decoded.
        definitions: those of the format.
        source: the file.
        max_inline: values of more bytes than this are references.
        data_set_offset: where in the file the first element of the data set lies.
        carried: the bytes of the file if nothing can refer to it, as to one inside a zip file;
            then all large values have their bytes with them.
    """
    places = {large.sha256: _place(large, carried) for large in record.large if large.sha256}
    data_set = {
        key: _with_place(value, places)
        for key, value in ordered(record.attributes().items(), definitions).items()
    }
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


def _place(large: Large, carried: Buffer | None) -> dict[str, Any]:
    if large.stored is not None:
        return {"data": bytes(large.stored)}
    offset, length = large.span
    if carried is not None:
        return {"data": bytes(carried[offset : offset + length])}
    return {"dataOffset": offset}


def _with_place(value: object, places: Mapping[str, dict[str, Any]]) -> object:
    """`value` with the place of each large value in it, at any depth."""
    if isinstance(value, list):
        return [_with_place(item, places) for item in value]
    if not isinstance(value, dict):
        return value
    if type(value.get("length")) is int:
        return {**places.get(value.get("sha256", ""), {}), **value}
    return {key: _with_place(item, places) for key, item in value.items()}


def _without_place(value: object, places: dict[str, dict[str, Any]]) -> object:
    """`value` as `_with_place` was given it; the places go to `places`."""
    if isinstance(value, list):
        return [_without_place(item, places) for item in value]
    if not isinstance(value, dict):
        return value
    if type(value.get("length")) is int:
        sha256 = value.get("sha256")
        if type(sha256) is not str:
            return value
        place = {name: value[name] for name in _PLACE_FIELDS if name in value}
        if place:
            places[sha256] = place
        return {name: item for name, item in value.items() if name not in _PLACE_FIELDS}
    return {key: _without_place(item, places) for key, item in value.items()}


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
        RecordError: the data are no instance record (``record/not-a-record``), or no file
            could be written of what they say.
    """
    try:
        struct = ion.loads(data)
    except IonError as error:
        raise RecordError("record/not-a-record", error.message, source=source) from error
    if not isinstance(struct, dict) or not isinstance(struct.get("dataSet"), dict):
        raise RecordError("record/not-a-record", "it has no struct 'dataSet'", source=source)
    data_set: dict[str, Any] = struct["dataSet"]
    for key, value in data_set.items():
        if not _is_value(value):
            raise RecordError("record/value", f"{key} is no value of an attribute", source=source)
    encoding = struct.get("encoding")
    if encoding is not None:
        _check_encoding(encoding, data_set, definitions)
    groups: dict[str, list[Attribute]] = {}
    places: dict[str, dict[str, Any]] = {}
    for key, value in data_set.items():
        plain = value if encoding is None else _without_place(value, places)
        group = group_of(key, definitions)
        if key != "_vrs" or encoding is None:
            groups.setdefault(group, []).append(Attribute(key, plain, group))
    return Loaded(
        Record(Template.closed(groups, encoding or {}), [], [], []),
        _source(struct, source, known=encoding is not None),
        places,
    )


def _source(struct: Mapping[str, Any], path: str, *, known: bool) -> Source:
    """The file of a record; dicom2ion-js gives no digest of it (spec/record.md)."""
    origin, file = struct.get("sourceInfo"), struct.get("fileInfo")
    uri = str(origin.get("uri", path)) if isinstance(origin, dict) else path
    if not known:
        return Source(uri, proved=False)
    sha256, size = (file.get("sha256"), file.get("size")) if isinstance(file, dict) else (0, 0)
    if type(sha256) is not str or type(size) is not int:
        raise RecordError("record/not-a-record", "'fileInfo' is incomplete", source=path)
    return Source(uri, sha256, size, proved=False)


def _is_value(value: object) -> bool:
    """Whether an attribute can have `value`: a scalar, a reference, items, or `_vrs`."""
    if isinstance(value, dict):
        rest = value
        if isinstance(fragments := value.get("fragments"), list):
            if any(type(length) is not int for length in fragments):
                return False
            rest = {name: each for name, each in value.items() if name != "fragments"}
        return all(map(_is_value, rest.values()))
    if isinstance(value, list):
        return all(isinstance(item, dict) and _is_value(item) for item in value)
    return value is None or type(value) in _SCALARS


def _check_encoding(
    encoding: object, data_set: Mapping[str, Any], definitions: Definitions
) -> None:
    """Raise if no file could be written by `encoding`."""
    if not isinstance(encoding, dict):
        raise RecordError("record/encoding", "the encoding is no struct")
    for key in Encoder(definitions).plan(encoding).keys:
        if key and key not in data_set:
            raise RecordError(
                "record/missing-attribute", f"the layout names {key!r}, which is missing"
            )
