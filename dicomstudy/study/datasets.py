"""A file, or the DICOM JSON model where there is none → a data set of pydicom (spec/json.md).

Either way, most values are decoded when they are asked for: one that pydicom refuses does not keep
back the others.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any

from dicomstudy import p10
from dicomstudy.elements import UNDEFINED_LENGTH
from dicomstudy.errors import StudyError

if TYPE_CHECKING:
    import pydicom
    from pydicom.dataelem import RawDataElement
    from pydicom.tag import BaseTag

__all__ = ["from_json", "from_p10"]

_TRANSFER_SYNTAX, _PIXEL_DATA = "00020010", "7FE00010"


def from_p10(data: bytes, uid: str) -> pydicom.Dataset:
    """The data set that pydicom reads from the file of an instance.

    Raises:
        StudyError: it does not read the file (``study/dataset``).
    """
    import pydicom  # noqa: PLC0415 (it takes longer to import than all else)

    try:
        return pydicom.dcmread(BytesIO(data), force=True)
    except MemoryError:
        raise
    except Exception as error:  # of files that it did not expect it raises anything
        raise StudyError(
            "study/dataset",
            f"pydicom does not read the file of {uid}: {error!r:.200}; "
            "metadata, to_json and to_p10 give it",
        ) from error


def from_json(
    model: Mapping[str, Any], read: Callable[[str], bytes], meta: Mapping[str, Any]
) -> pydicom.Dataset:
    """The data set that `model` is of, with its file meta information.

    Args:
        model: attributes as `json_model.to_json` gives them.
        read: gives the bytes that a ``BulkDataURI`` names.
        meta: those of the file meta information.
    """
    import pydicom  # noqa: PLC0415 (as above)

    syntax = meta.get(_TRANSFER_SYNTAX, {}).get("Value", [])
    native = any(each in pydicom.uid.UncompressedTransferSyntaxes for each in syntax)
    made = _data_set(model, read, native=native)
    made.file_meta = pydicom.dataset.FileMetaDataset(_data_set(meta, read, native=native))
    return made


def _data_set(
    model: Mapping[str, Any], read: Callable[[str], bytes], *, native: bool
) -> pydicom.Dataset:
    import pydicom  # noqa: PLC0415 (as above)

    raw: dict[BaseTag, pydicom.DataElement | RawDataElement] = {}
    decoded: list[pydicom.DataElement] = []
    for key, attribute in model.items():
        if attribute["vr"] == "SQ":
            items = [_data_set(item, read, native=native) for item in attribute.get("Value", ())]
            decoded.append(pydicom.DataElement(int(key, 16), "SQ", items))
            continue
        element = _element(key, attribute, read, native=native)
        if isinstance(element, pydicom.DataElement):
            decoded.append(element)
        else:
            raw[element.tag] = element
    made = pydicom.Dataset(raw)  # to set private ones would be to decode them
    for each in decoded:
        made.add(each)
    return made


def _element(
    key: str, attribute: Mapping[str, Any], read: Callable[[str], bytes], *, native: bool
) -> pydicom.DataElement | RawDataElement:
    """An element that has its value, or bytes that pydicom decodes as those of a file."""
    import pydicom  # noqa: PLC0415 (as above)
    from pydicom.dataelem import RawDataElement  # noqa: PLC0415 (as above)

    vr, tag = attribute["vr"], pydicom.tag.BaseTag(int(key, 16))
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
        if vr == "UR" and not _is_latin(text):
            return pydicom.DataElement(tag, vr, [text])  # of a list it splits nothing
        raw = text.encode("latin-1", "replace")
    length = len(raw)
    if key == _PIXEL_DATA and not native and raw.startswith(p10.LITTLE.item_tag):
        length = UNDEFINED_LENGTH
    return RawDataElement(tag, vr, length, raw, 0, is_implicit_VR=False, is_little_endian=True)


def _is_latin(text: str) -> bool:
    """Whether Latin-1, which pydicom reads such text as, has all its characters."""
    return not text or ord(max(text)) <= 0xFF
