"""What the attributes of an instance tell of its pixel data is a risk: spec/errors.md."""

from __future__ import annotations

from typing import Any

import pytest

from dicomstudy.deidentification.risks import of_instance

#: Nothing is told of this one.
QUIET = {
    "BurnedInAnnotation": "NO",
    "Modality": "CT",
    "PixelData": b"",
    "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
    "TransferSyntaxUID": "1.2.840.10008.1.2.1",
}
STORAGE = "1.2.840.10008.5.1.4.1.1"


@pytest.mark.parametrize(
    ("attributes", "codes"),
    [
        ({}, set()),
        ({"BurnedInAnnotation": " no "}, set()),
        ({"BurnedInAnnotation": "YES"}, {"burned-in"}),
        ({"BurnedInAnnotation": None}, {"burned-in"}),
        ({"BurnedInAnnotation": b"NO"}, {"burned-in"}),
        *(({"Modality": modality}, {"modality"}) for modality in ("US", "XC", "VF", "DOC", "SC")),
        ({"SOPClassUID": f"{STORAGE}.7.3"}, {"modality"}),
        ({"SOPClassUID": f"{STORAGE}.3.1"}, {"modality"}),
        ({"SOPClassUID": f"{STORAGE}.77.1.4"}, {"modality"}),
        ({"TransferSyntaxUID": "1.2.840.10008.1.2.4.102"}, {"modality"}),
        ({"TransferSyntaxUID": "1.2.840.10008.1.2.4.90"}, set()),
        ({"ConversionType": None}, {"modality"}),
        ({"BodyPartExamined": "HEAD"}, {"visual-features"}),
        ({"BodyPartExamined": "skull "}, {"visual-features"}),
        ({"BodyPartExamined": "CHEST"}, set()),
        ({"BodyPartExamined": "CHEST", "RecognizableVisualFeatures": "YES"}, {"visual-features"}),
        ({"BodyPartExamined": "HEAD", "RecognizableVisualFeatures": "NO"}, set()),
    ],
    ids=str,
)
def test_what_attributes_tell_of_pixel_data(attributes: dict[str, Any], codes: set[str]) -> None:
    assert of_instance({**QUIET, **attributes}) == {f"risk/{code}" for code in codes}


@pytest.mark.parametrize("key", ["PixelData", "FloatPixelData", "DoubleFloatPixelData"])
def test_nothing_is_told_of_what_has_no_pixel_data(key: str) -> None:
    assert of_instance({"Modality": "US"}) == set()
    assert of_instance({"Modality": "US", key: b""}) == {"risk/burned-in", "risk/modality"}
