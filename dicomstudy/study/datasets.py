"""The DICOM JSON model → a data set of pydicom, for instances without a file (spec/json.md).

As in a data set that pydicom reads from a file, most values are decoded when they are asked for:
one that it refuses does not keep back the others.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from dicomstudy import p10
from dicomstudy.elements import UNDEFINED_LENGTH

if TYPE_CHECKING:
    import pydicom
    from pydicom.dataelem import RawDataElement

__all__ = ["from_json"]

_TRANSFER_SYNTAX, _PIXEL_DATA = "00020010", "7FE00010"


def from_json(
    model: Mapping[str, Any], read: Callable[[str], bytes], meta: Mapping[str, Any]
) -> pydicom.Dataset:
    """The data set that `model` is of, with its file meta information.

    Args:
        model: attributes as `json_model.to_json` gives them.
        read: gives the bytes that a ``BulkDataURI`` names.
        meta: those of the file meta information.
    """
    import pydicom  # noqa: PLC0415 (it takes longer to import than all else)

    syntax = meta.get(_TRANSFER_SYNTAX, {}).get("Value", [])
    native = any(each in pydicom.uid.UncompressedTransferSyntaxes for each in syntax)
    made = _data_set(model, read, native=native)
    made.file_meta = pydicom.dataset.FileMetaDataset(_data_set(meta, read, native=native))
    return made


def _data_set(
    model: Mapping[str, Any], read: Callable[[str], bytes], *, native: bool
) -> pydicom.Dataset:
    import pydicom  # noqa: PLC0415 (as above)

    made = pydicom.Dataset()
    for key, attribute in model.items():
        if attribute["vr"] == "SQ":
            items = [_data_set(item, read, native=native) for item in attribute.get("Value", ())]
            made.add_new(int(key, 16), "SQ", items)
        else:
            made[int(key, 16)] = _element(key, attribute, read, native=native)
    return made


def _element(
    key: str, attribute: Mapping[str, Any], read: Callable[[str], bytes], *, native: bool
) -> pydicom.DataElement | RawDataElement:
    """An element that has its value, or bytes that pydicom decodes as those of a file."""
    import pydicom  # noqa: PLC0415 (as above)
    from pydicom.dataelem import RawDataElement  # noqa: PLC0415 (as above)

    vr = attribute["vr"]
    if "BulkDataURI" in attribute:
        raw = read(attribute["BulkDataURI"])
    elif "InlineBinary" in attribute:
        raw = base64.b64decode(attribute["InlineBinary"])
    else:
        found = attribute.get("Value", [])
        if vr != "UR":  # pydicom would take a backslash for the delimiter of values
            with contextlib.suppress(TypeError, ValueError):
                return pydicom.DataElement.from_json(pydicom.Dataset, key, vr, found, "Value")
        text = "\\".join("" if each is None else str(each) for each in found)
        raw = text.encode("latin-1", "replace")
    tag = pydicom.tag.BaseTag(int(key, 16))
    length = len(raw)
    if key == _PIXEL_DATA and not native and raw.startswith(p10.LITTLE.item_tag):
        length = UNDEFINED_LENGTH
    return RawDataElement(tag, vr, length, raw, 0, is_implicit_VR=False, is_little_endian=True)
