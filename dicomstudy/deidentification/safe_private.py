"""Which private attributes a data set declares to identify nobody (PS3.3 C.12.1.1.7)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

from dicomstudy.elements import is_creator, private_tag
from dicomstudy.record import is_reference

__all__ = ["declared_safe"]


def declared_safe(
    attributes: Mapping[str, Any], read: Callable[[Mapping[str, Any]], bytes]
) -> frozenset[int]:
    """The private elements of a data set that it says identify nobody (PS3.3 C.12.1.1.7).

    `read` gives the bytes of large values.
    """
    items = attributes.get("PrivateDataElementCharacteristicsSequence")
    tags = {key: private_tag(key) for key in attributes}
    private = {tag: attributes[key] for key, tag in tags.items() if tag is not None}
    safe: set[int] = set()
    for item in items if type(items) is list else ():
        group, creator = item.get("PrivateGroupReference"), item.get("PrivateCreatorReference")
        status = item.get("BlockIdentifyingInformationStatus")
        if type(group) is not int or type(creator) is not str:
            continue
        for tag, value in private.items():
            if tag >> 16 != group or not is_creator(tag) or value != creator:
                continue
            block = tag << 8 & 0xFF00
            mine = {each for each in private if each >> 16 == group and each & 0xFF00 == block}
            if status == "MIXED":
                named = item.get("NonidentifyingPrivateElements")
                if is_reference(named):
                    named = read(named)
                mine &= {group << 16 | block | number & 0xFF for number in _numbers(named)}
            elif status != "SAFE":
                continue
            safe |= {tag, *mine}
    return frozenset(safe)


def _numbers(value: Any) -> tuple[int, ...]:
    """The numbers of a value of US."""
    if type(value) is bytes and len(value) % 2 == 0:
        return struct.unpack(f"<{len(value) // 2}H", value)
    return (value,) if type(value) is int else ()
