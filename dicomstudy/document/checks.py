"""Whether headers and frames of documents are what they ought to be (spec/study.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Any, TypeGuard

from dicomstudy.document.fields import NOT_ATTRIBUTES
from dicomstudy.elements import is_count
from dicomstudy.record import are_attributes, has_types, is_place

#: Types of the fields of `_source` (spec/study.md).
_SOURCE_TYPES: dict[str, type] = {
    **dict.fromkeys(("uri", "sha256", "record"), str),
    **dict.fromkeys(("size", "modified"), int),
    "proved": bool,
}


def is_header(header: Mapping[str, Any]) -> bool:
    """Whether the fields of a header are there, and of their types."""
    chunks, retired = header.get("chunks"), header.get("retired", [])
    return (
        isinstance(header.get("studyInstanceUID"), str)
        and is_count(header.get("sharedFrames"))
        and is_count(header.get("bulkLength"))
        and is_count(header.get("bulkFile", 0))
        and is_count(header.get("studyVersion", 1))
        and is_count(header.get("historyFrames", 0))
        and header.get("historyFrames", 0) <= 1
        and (header.get("historyFrames") or header.get("studyVersion", 1) == 1)
        and is_count(header.get("countFrames", 0))
        and header.get("countFrames", 0) <= 1
        and _are_definitions(header.get("definitions"))
        and isinstance(chunks, list)
        and isinstance(retired, list)
        and all(
            isinstance(chunk, dict)
            and all(isinstance(chunk.get(n), str) for n in ("seriesInstanceUID", "first", "last"))
            and is_count(chunk.get("instances"))
            for chunk in chain(chunks, retired)
        )
    )


def is_frame(value: object, fields: Iterable[str]) -> TypeGuard[dict[str, Any]]:
    """Whether a value is a frame that has these fields, of their types."""
    return isinstance(value, dict) and all(_FRAME_FIELDS[name](value.get(name)) for name in fields)


def _are_definitions(value: object) -> bool:
    """Whether the header may name these definitions, or none."""
    return value is None or (isinstance(value, dict) and isinstance(value.get("version"), str))


def _is_struct_of_structs(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(item, dict) for item in value.values())


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _are_instances(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(instance, dict)
        and _are_texts(instance.get("_groups", []))
        and ("_source" not in instance or _is_source(instance["_source"]))
        and isinstance(instance.get("_versions", []), list)
        and all(type(number) is int and number for number in instance.get("_versions", ()))
        and are_attributes(instance, leaving_out=NOT_ATTRIBUTES)
        for instance in value.values()
    )


def _is_source(value: object) -> bool:
    """Whether an instance may come from there: a file, or a record without one."""
    if not has_types(value, _SOURCE_TYPES) or not isinstance(value, dict):
        return False
    has_file = "sha256" in value
    return has_file == ("size" in value) and has_file != ("record" in value)


def _are_places(value: object) -> bool:
    return isinstance(value, dict) and all(map(is_place, value.values()))


def _are_groups(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(contents, dict) and all(map(are_attributes, contents.values()))
        for contents in value.values()
    )


#: What the fields of a frame have to be.
_FRAME_FIELDS: dict[str, Callable[[object], bool]] = {
    "seriesInstanceUID": lambda value: isinstance(value, str),
    "_groups": _are_texts,
    "groups": _are_groups,
    "instances": _are_instances,
    "bulk": _are_places,
    "series": _is_struct_of_structs,
}
