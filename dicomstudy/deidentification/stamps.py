"""What every instance of the result says of how it came to be (PS3.15 section E.1.1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from dicomstudy import layout
from dicomstudy.definitions import Definitions
from dicomstudy.deidentification.attributes import Made
from dicomstudy.deidentification.confidentiality import FULL_DATES, MODIFIED_DATES, Policy
from dicomstudy.layout import Token
from dicomstudy.record import group_of

__all__ = ["Stamps"]

_TEMPORAL = "LongitudinalTemporalInformationModified"
_VRS = {0x00120062: "CS", 0x00120063: "LO", 0x00120064: "SQ", 0x00280303: "CS"}
_CODE = ((0x00080100, "SH"), (0x00080102, "SH"), (0x00080104, "LO"))


class Stamps:
    """Attributes that take the place of what the source says there; ``key in stamps`` tells them.

    Attributes:
        patient: the group that has those of the patient.
        temporal: the group that has the one about dates.
    """

    def __init__(self, policy: Policy, definitions: Definitions) -> None:
        self.patient = "patient"
        self.temporal = group_of(_TEMPORAL, definitions)
        self._definitions = definitions
        self._values = dict(_values(policy))

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def of_patient(self, *, explicit: bool) -> list[Made]:
        """Those of the group `patient`; `explicit`: VRs are written."""
        return self._made((key for key in self._values if key != _TEMPORAL), explicit)

    def of_dates(self, *, explicit: bool) -> list[Made]:
        """Those of the group `temporal`."""
        return self._made([_TEMPORAL], explicit)

    def _made(self, keys: Iterable[str], explicit: bool) -> list[Made]:
        return [
            Made(
                key,
                self._values[key],
                _token(self._definitions.tag(key), self._values[key], explicit),
            )
            for key in keys
        ]


def _values(policy: Policy) -> Iterator[tuple[str, Any]]:
    yield "PatientIdentityRemoved", "YES"
    method = ["DICOM PS3.15 Annex E", *(code.meaning for code in policy.codes), "dicomstudy"]
    yield "DeidentificationMethod", "\\".join(each[:64] for each in method)
    yield (
        "DeidentificationMethodCodeSequence",
        [
            {"CodeValue": c.code, "CodingSchemeDesignator": "DCM", "CodeMeaning": c.meaning}
            for c in policy.codes
        ],
    )
    modified = "MODIFIED" if MODIFIED_DATES in policy.options else "REMOVED"
    yield _TEMPORAL, "UNMODIFIED" if FULL_DATES in policy.options else modified


def _token(tag: int, value: Any, explicit: bool) -> Token:
    vr = _VRS[tag] if explicit else ""
    if type(value) is not list:
        return Token(tag, vr)
    tokens = tuple([Token(inner, code_vr if explicit else "") for inner, code_vr in _CODE])
    return Token(tag, vr, items=tuple([layout.ItemLayout(tokens, False) for _ in value]))
