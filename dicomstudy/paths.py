"""Where in a data set an attribute is that an edit changes: ``Key``, or ``Key[0].Key`` in items.

See spec/edits.md; and where raw bytes of a file belong (spec/record.md).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

__all__ = ["CHARACTER_SET", "ORIGINALS", "Step", "parse_path", "parse_raw_path", "structs_on"]

#: A key, and the number of the item that the next key is in; None for the last one.
Step: TypeAlias = tuple[str, int | None]
#: The attribute that says what text of its data set or item is encoded in.
CHARACTER_SET = "SpecificCharacterSet"
#: The attribute that says what was there before (PS3.3 C.12.1.1.9).
ORIGINALS = "OriginalAttributesSequence"
_STEP = re.compile(r"([A-Za-z0-9]+)(?:\[([0-9]{1,6})\]\.)?")
_RAW_STEP = re.compile(r"([0-9A-F]{8})(?:#([1-9][0-9]*))?(?:\[([0-9]+)\])?")


class RawStep(NamedTuple):
    """One step to raw bytes: an element, and the number of the item of it that leads on."""

    tag: int
    occurrence: int
    item: int | None


def parse_path(path: str) -> list[Step]:
    """The steps of a path; empty if it is none."""
    steps: list[Step] = []
    position = 0
    while position < len(path):
        found = _STEP.match(path, position)
        if found is None or bool(found[2]) == (found.end() == len(path)):
            return []
        steps.append((found[1], None if found[2] is None else int(found[2])))
        position = found.end()
    return steps


def structs_on(attributes: Mapping[str, Any], steps: Sequence[Step]) -> list[Mapping[str, Any]]:
    """The data set, and the items that the steps of a path lead into; empty if one is not there."""
    structs = [attributes]
    for key, item in steps[:-1]:
        items = structs[-1].get(key)
        if item is None or type(items) is not list or item >= len(items):
            return []
        structs.append(items[item])
    return structs


def parse_raw_path(path: str) -> list[RawStep]:
    """The steps of a path to raw bytes, without `RAW` in front; empty if it is none."""
    steps: list[RawStep] = []
    for step in path.split("."):
        found = _RAW_STEP.fullmatch(step)
        if found is None:
            return []
        tag, occurrence, item = found.groups()
        steps.append(
            RawStep(int(tag, 16), int(occurrence or 0), None if item is None else int(item))
        )
    return steps
