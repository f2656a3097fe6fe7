"""Attributes of a record: what the two directions have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple, TypeGuard

from dicomstudy import text
from dicomstudy.definitions import Definitions
from dicomstudy.elements import Span, is_count
from dicomstudy.errors import DefinitionsError
from dicomstudy.values import Context

#: Attributes of a file that are not elements of it, and the group that takes them.
PREAMBLE, TRAILING, DEFLATED, RAW = "_preamble", "_trailing", "_deflated", "_raw."
RAW_GROUP = "raw"
#: VRs of attributes that have none in the dictionary, in records that have no layout.
VRS_KEY = "_vrs"
#: Name under which attributes stand that belong to no attribute group but to the instance.
INSTANCE = ""

#: File meta information is in the default repertoire and little endian (PS3.10 section 7.1).
META_CONTEXT = Context(text.character_set(()), False)
ZEROS = bytes(128)

#: What values of attributes are, but for lists and structs.
_SCALARS = frozenset((type(None), bool, int, float, str, bytes))
_PLACE_TYPES: dict[str, type] = {
    **dict.fromkeys(("sha256", "uri", "source"), str),
    **dict.fromkeys(("length", "offset", "chunk", "word", "dataOffset", "size", "modified"), int),
    **dict.fromkeys(("stored", "fragments"), list),
}

#: The bytes of a large value, as they were recorded, by the reference that stands for it.
Resolve = Callable[[Mapping[str, Any]], bytes]
#: A piece of a file: bytes, or the reference of a large value that is to be copied.
Segment = bytes | Mapping[str, Any]


class Large(NamedTuple):
    """A value too long to stand in a document.

    `sha256` is None for pixel data that is recorded by its offset. `span` is its place in the
    source; `stored` are its bytes if they stand nowhere in the source as they are recorded
    (an inflated data set, words of big-endian order). `inside`: `span` counts from the start
    of the element that it lies in. `pixels`: native pixel data; `word`: bytes of its words.
    """

    sha256: str | None
    span: Span
    stored: bytes | None = None
    inside: bool = False
    pixels: bool = False
    word: int = 1


class Attribute:
    """One decoded element of the top level. Compared by identity: equal elements share one.

    `key` is its name in the record and `value` an Ion value; `group` is the attribute group
    that takes it, None if it is not kept. `token` is its part of the layout, `encoded` what
    `value` and `token` give (of a large value: the header), `raw` the attributes with bytes
    that do not come out of values, `large` its large values. `flaw` is a sentence on what was
    wrong with it; `plain`: it has none of the last three. `copied` is what comes behind
    `encoded`: the reference of a large value that is to be copied, and its delimiter if it has
    one; `size` is that of both together.
    """

    __slots__ = (
        *("copied", "encoded", "flaw", "group", "key", "large", "plain", "raw", "size"),
        *("token", "value"),
    )

    def __init__(
        self,
        key: str,
        value: Any,
        group: str | None,
        token: str = "",
        encoded: bytes = b"",
        raw: tuple[Attribute, ...] = (),
        large: tuple[Large, ...] = (),
        copied: tuple[Segment, ...] = (),
        flaw: str = "",
    ) -> None:
        self.flaw = flaw
        self.plain = not (raw or large or flaw)
        self.copied = copied
        self.size = len(encoded)
        for part in copied:
            self.size += len(part) if isinstance(part, bytes) else part["length"]
        self.key = key
        self.value = value
        self.group = group
        self.token = token
        self.encoded = encoded
        self.raw = raw
        self.large = large

    def __repr__(self) -> str:
        return f"Attribute({self.key!r}, {self.value!r})"


def is_reference(value: object) -> TypeGuard[dict[str, Any]]:
    """True if `value` stands for a large value: no other attribute has a struct of a length."""
    return isinstance(value, dict) and "length" in value and is_count(value["length"])


def is_place(struct: object) -> bool:
    """Whether the fields of a reference, or of a place, are of their types (spec/bulk.md)."""
    return has_types(struct, _PLACE_TYPES)


def has_types(struct: object, types: Mapping[str, type]) -> bool:
    """Whether the fields of a struct are of their types, ints in their range; others of any."""
    if type(struct) is not dict:
        return False
    for name, value in struct.items():  # quicker than `all`, and there are many
        expected = types.get(name)
        if expected is None:
            continue
        if type(value) is not expected:
            return False
        if expected is int and not is_count(value) and name != "modified":
            return False
    return True


def is_value(value: Any) -> bool:
    """Whether a value can be that of an attribute: a scalar, a list of items, or a reference."""
    kind = type(value)
    if kind is list:
        return all(map(are_attributes, value))
    if kind is dict:
        return (
            "length" in value and ("sha256" in value or "dataOffset" in value) and is_place(value)
        )
    return kind in _SCALARS


def are_attributes(struct: object, leaving_out: AbstractSet[str] = frozenset()) -> bool:
    """Whether a struct has keys and values that attributes have, at any depth (spec/study.md).

    Args:
        struct: any value.
        leaving_out: fields of it that may have any.
    """
    if type(struct) is not dict or "" in struct:
        return False
    for name, value in struct.items():
        if type(value) in _SCALARS or name in leaving_out:
            continue
        if not is_value(value) and not (name == VRS_KEY and _is_struct_of_texts(value)):
            return False
    return True


def _is_struct_of_texts(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


def group_of(key: str, definitions: Definitions) -> str:
    """The attribute group that takes an attribute, `INSTANCE` if none does."""
    if not key or key[0] == "_":
        return RAW_GROUP
    if "#" in key or key in definitions.instance_keywords:
        return INSTANCE
    try:
        return definitions.group(key)
    except DefinitionsError:
        return "other"


def character_set_of(value: object) -> text.CharacterSet:
    """The character set that a value of (0008,0005) names."""
    if not isinstance(value, str):
        return text.character_set(())
    return text.character_set(tuple(term.strip() for term in value.split("\\")))
