"""Elements ↔ attributes named by keyword (spec/record.md).

`Decoder.decode` turns a `P10File` into a `Record`; `Encoder.write` is its mirror and gives the
file again: ``write(decode(read(data))) == data``. Each distinct element is decoded and encoded
back once. If its bytes do not come out again, they are kept beside the value, under
``_raw.<path>``; what else of the file is not in its values is in the record's `encoding`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from dicomstudy.record.attributes import (
    DEFLATED,
    INSTANCE,
    PREAMBLE,
    RAW,
    TRAILING,
    VRS_KEY,
    Attribute,
    Large,
    Resolve,
    Segment,
    are_attributes,
    character_set_of,
    group_of,
    has_types,
    is_place,
    is_reference,
    is_value,
)

if TYPE_CHECKING:
    from dicomstudy.record.check import Checker
    from dicomstudy.record.decoder import Decoder
    from dicomstudy.record.encoder import Encoder, Plan
    from dicomstudy.record.template import Record, Template

__all__ = [
    "DEFLATED",
    "INSTANCE",
    "PREAMBLE",
    "RAW",
    "TRAILING",
    "VRS_KEY",
    "Attribute",
    "Checker",
    "Decoder",
    "Encoder",
    "Large",
    "Plan",
    "Record",
    "Resolve",
    "Segment",
    "Template",
    "are_attributes",
    "character_set_of",
    "group_of",
    "has_types",
    "is_place",
    "is_reference",
    "is_value",
]

# What takes long to import is imported when it is asked for: who changes a study needs none of it.
_HOMES = {
    **dict.fromkeys(("Checker",), "check"),
    **dict.fromkeys(("Decoder",), "decoder"),
    **dict.fromkeys(("Encoder", "Plan"), "encoder"),
    **dict.fromkeys(("Record", "Template"), "template"),
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
