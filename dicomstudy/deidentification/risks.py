"""What may still identify somebody, and is for a person to look at (spec/deidentification.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["MESSAGES", "Risk", "of_instance"]

#: What each code says, in the order of reports.
MESSAGES = {
    "risk/burned-in": "pixel data of which it is not said that no text is burned in; nobody looked "
    "at it",
    "risk/modality": "images of a kind that often has text or people in it: ultrasound, "
    "photographs, video, scanned documents, screen captures",
    "risk/visual-features": "pixel data that may show a face, or says that it has recognizable "
    "visual features",
    "risk/overlay": "an overlay in unused bits of the pixel data, which was not altered",
    "risk/pixel-comment": "pixel data with a comment in it, or with something from a camera or "
    "program (EXIF, XMP), or of which nobody can tell what it is; it was not altered",
    "risk/encapsulated-document": "a document was replaced by a dummy: nothing of it is left",
    "risk/free-text": "text that was kept: what was taken away elsewhere was cut out of it, all "
    "else is as it was",
    "risk/structured-content": "content items, or the context of an acquisition or specimen, that "
    "were kept: text in them as above",
    "risk/graphics": "graphic annotations that were kept: text in them as above",
    "risk/private": "private attributes that were kept because their data set declares them safe",
    "risk/identity-in-text": "what was taken away elsewhere stood in text that is kept, and was "
    "cut out of it",
    "risk/unreadable": "an attribute that could not be read as what it should be, and went",
    "risk/character-set": "text that was not valid in its character set: letters became '?'",
}
_MODALITIES = frozenset("AU DMS DOC ES GM IVUS OP OT SC SM TG US VF XC".split())
_SECONDARY_CAPTURE, _ULTRASOUND, _VISIBLE_LIGHT = (
    f"1.2.840.10008.5.1.4.1.1.{number}" for number in ("7", "3.1", "77.1")
)
_VIDEO = "1.2.840.10008.1.2.4.10"
_HEADS = frozenset(
    ("BRAIN", "EAR", "EYE", "FACE", "HEAD", "HEADNECK", "JAW", "NOSE", "SINUS", "SKULL")
)
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


class Risk(NamedTuple):
    """Something to be looked at in a study of the result.

    `study` is its Study Instance UID there, `code` is listed in spec/errors.md, and
    `instances` how many it is about.
    """

    study: str
    code: str
    instances: int
    message: str


def of_instance(attributes: Mapping[str, Any]) -> set[str]:
    """The codes of what the attributes of an instance tell of its pixel data."""
    if not any(key in attributes for key in _PIXELS):
        return set()
    found = set()

    def text(key: str) -> str:
        value = attributes.get(key)
        return value.strip().upper() if isinstance(value, str) else ""

    if text("BurnedInAnnotation") != "NO":
        found.add("risk/burned-in")
    sop_class, syntax = text("SOPClassUID"), text("TransferSyntaxUID")
    if (
        text("Modality") in _MODALITIES
        or sop_class.startswith((_SECONDARY_CAPTURE, _ULTRASOUND, _VISIBLE_LIGHT))
        or syntax.startswith(_VIDEO)
        or "ConversionType" in attributes
    ):
        found.add("risk/modality")
    features = text("RecognizableVisualFeatures")
    if features == "YES" or (features != "NO" and text("BodyPartExamined") in _HEADS):
        found.add("risk/visual-features")
    for group in range(0x6000, 0x6020, 2):
        bits, position = (attributes.get(f"{group:04X}{e}") for e in ("0100", "0102"))
        if position or (isinstance(bits, int) and bits > 1):
            found.add("risk/overlay")
    return found
