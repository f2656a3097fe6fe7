"""What every instance of the result says of how it came to be (PS3.15 section E.1.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from dicomstudy import layout
from dicomstudy.definitions import Definitions
from dicomstudy.deidentification.attributes import Made, Values
from dicomstudy.deidentification.confidentiality import FULL_DATES, MODIFIED_DATES, Policy
from dicomstudy.elements import MAX_INLINE
from dicomstudy.layout import Token
from dicomstudy.record import group_of

__all__ = ["Said", "Stamps"]

_TEMPORAL, _CODES = "LongitudinalTemporalInformationModified", "DeidentificationMethodCodeSequence"
_VRS = {
    "PatientIdentityRemoved": "CS",
    "DeidentificationMethod": "LO",
    _CODES: "SQ",
    _TEMPORAL: "CS",
}
_CODE = ((0x00080100, "SH"), (0x00080102, "SH"), (0x00080104, "LO"))
#: What may be said of dates: what goes on with less than another program left says more.
_DATES = ("UNMODIFIED", "MODIFIED", "REMOVED")


class Said(NamedTuple):
    """What an instance of the source says of how it was de-identified before.

    `codes` are the profiles and options, `dates` what was done with dates; empty if nothing is.
    """

    codes: frozenset[str]
    dates: str


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
        self._codes = frozenset(code.code for code in policy.codes)
        self._every_code = policy.every_code
        modified = "MODIFIED" if MODIFIED_DATES in policy.options else "REMOVED"
        self._dates = "UNMODIFIED" if FULL_DATES in policy.options else modified

    def __contains__(self, key: object) -> bool:
        return key in _VRS

    def said(self, attributes: Mapping[str, Any]) -> Said:
        """What the attributes of an instance of the source say; nothing that is not known here."""
        items = attributes.get(_CODES)
        codes = [item.get("CodeValue") for item in items] if type(items) is list else []
        dates = attributes.get(_TEMPORAL)
        known = frozenset(code.code for code in self._every_code if code.code in codes)
        return Said(known, dates if type(dates) is str and dates in _DATES else "")

    def of_patient(self, said: Said, values: Values, *, explicit: bool) -> Iterator[Made]:
        """Those of the group `patient`; `explicit`: VRs are written."""
        codes = [code for code in self._every_code if code.code in self._codes | said.codes]
        method = ["DICOM PS3.15 Annex E", *(code.meaning for code in codes), "dicomstudy"]
        text = "\\".join(each[:64] for each in method)
        encoded = text.encode("ascii") + b" " * (len(text) % 2)
        is_long = len(encoded) > MAX_INLINE
        yield self._made("PatientIdentityRemoved", "YES", explicit=explicit)
        yield self._made(
            "DeidentificationMethod", values.put(encoded) if is_long else text, explicit=explicit
        )
        items = [
            {"CodeValue": c.code, "CodingSchemeDesignator": "DCM", "CodeMeaning": c.meaning}
            for c in codes
        ]
        yield self._made(_CODES, items, explicit=explicit)

    def of_dates(self, said: Said, *, explicit: bool) -> Made:
        """The one of the group `temporal`: what was done with dates stays done."""
        dates = max(self._dates, said.dates or self._dates, key=_DATES.index)
        return self._made(_TEMPORAL, dates, explicit=explicit)

    def _made(self, key: str, value: Any, *, explicit: bool) -> Made:
        tag, vr = self._definitions.tag(key), _VRS[key] if explicit else ""
        if type(value) is not list:
            return Made(key, value, Token(tag, vr))
        tokens = tuple([Token(inner, code_vr if explicit else "") for inner, code_vr in _CODE])
        items = (layout.ItemLayout(tokens, False),) * len(value)
        return Made(key, value, Token(tag, vr, items=items))
