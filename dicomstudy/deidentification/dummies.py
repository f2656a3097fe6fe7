"""Values that stand in place of others and say nothing (spec/deidentification.md)."""

from __future__ import annotations

from typing import Any

from dicomstudy.elements import TEXT_VRS, WORD_SIZES

__all__ = ["GONE", "STRUCTURE", "ZEROS", "blank", "dummy", "is_whole"]

#: Stands where nothing else would be left of a text.
GONE = "REMOVED"
#: The dummy of bytes: a whole number of the words of any VR.
ZEROS = bytes(8)
_DUMMIES: dict[str, Any] = {
    **dict.fromkeys(TEXT_VRS, GONE),
    "AS": "000Y",
    "DA": "19000101",
    "DT": "19000101000000",
    "TM": "000000",
    "DS": "0",
    "IS": "0",
    "UR": "http://removed.invalid",
    **dict.fromkeys(("FL", "FD"), 0.0),
    **dict.fromkeys(("SL", "SS", "SV", "UL", "US", "UV"), 0),
}
#: What stays in an item all of which is replaced: it says how the item is to be read.
STRUCTURE = frozenset("AT CS SL SS SV UI UL US UV".split())


def is_whole(length: int, vr: str) -> bool:
    """Whether a value of a VR may have so many bytes: a row of whole words, or tags."""
    return not length % (4 if vr == "AT" else WORD_SIZES.get(vr, 1))


def dummy(vr: str) -> Any:
    """A valid value of a VR, but SQ."""
    return _DUMMIES.get(vr, ZEROS)


def blank(value: Any, vr: str) -> Any:
    """A value of the same form that says nothing; None if there is none."""
    if vr in TEXT_VRS or type(value) in {int, float}:
        return _DUMMIES.get(vr, 0)
    return bytes(len(value)) if type(value) is bytes and is_whole(len(value), vr) else None
