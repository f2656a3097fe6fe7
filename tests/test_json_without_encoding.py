"""The JSON model and `metadata` of records without encoding (spec/json.md)."""

from __future__ import annotations

import base64
import math
import struct
from pathlib import Path
from typing import Any

from dicomstudy import ion
from dicomstudy.json_model import metadata, to_json
from fixtures import make
from tests.real_files import ENCODER

Json = dict[str, Any]
DELIMITER = b"\xfe\xff\xdd\xe0\0\0\0\0"


def model_of(attributes: Json) -> Json:
    return to_json(attributes, None, ENCODER, lambda _: b"")


def test_inherited_keys_without_an_encoding() -> None:
    attributes = {
        "_vrs": {"00091001": "LO", "000910e1": "SL"},
        "00091001": b"ab",
        "000910E1": b"\xff\xff\xff\xff",
        "00091102": "decoded",
        "00091103": 7,
        "00091104": 0.5,
        "PatientName": "A^B",
        "SmallestImagePixelValue": b"\xff\xff",
    }
    model = model_of(attributes)
    assert model == {
        "00091001": {"vr": "LO", "Value": ["ab"]},
        "000910E1": {"vr": "SL", "Value": [-1]},
        "00091102": {"vr": "UT", "Value": ["decoded"]},
        "00091103": {"vr": "SV", "Value": [7]},
        "00091104": {"vr": "FD", "Value": [0.5]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "A^B"}]},
        "00280106": {"vr": "US", "Value": [65535]},
    }
    document = metadata(attributes, None, ENCODER)
    assert document["000910E1"] == -1
    assert document["SmallestImagePixelValue"] == 65535


def test_vrs_of_a_record_without_an_encoding_are_given_by_any_key() -> None:
    """Those of records of this package are given by keyword where there is one."""
    attributes = {
        "_vrs": {"Rows": "UL", "LongitudinalTemporalInformationModified": "SH", "no key": "US"},
        "Rows": struct.pack("<L", 65536),
        "LongitudinalTemporalInformationModified": b"MODIFIED",
    }
    assert model_of(attributes) == {
        "00280010": {"vr": "UL", "Value": [65536]},
        "00280303": {"vr": "SH", "Value": ["MODIFIED"]},
    }


def test_blobs_of_a_record_without_an_encoding_are_in_the_byte_order_of_its_file() -> None:
    numbers = {
        "SelectorUSValue": struct.pack(">HH", 1, 2),
        "SelectorAttributePrivateCreator": "ACME",
        "ReferencedImageSequence": [{"SelectorSLValue": struct.pack(">ll", -1, 7)}],
        "PixelData": b"\0\1\0\2",
        "FileMetaInformationVersion": b"\0\1",
    }
    big = {"TransferSyntaxUID": "1.2.840.10008.1.2.2", **numbers}
    model = model_of(big)
    assert model["0072007A"] == {"vr": "US", "Value": [1, 2]}
    assert model["00081140"]["Value"][0]["0072007C"] == {"vr": "SL", "Value": [-1, 7]}
    assert model["7FE00010"]["InlineBinary"] == base64.b64encode(b"\1\0\2\0").decode()
    document = metadata(big, None, ENCODER)
    assert document["SelectorUSValue"] == struct.pack("<HH", 1, 2)
    assert document["FileMetaInformationVersion"] == b"\0\1"
    little = model_of(numbers)
    assert little["0072007A"] == {"vr": "US", "Value": [256, 512]}


def test_golden_records_of_one_image_in_either_byte_order_are_alike(shared: Path) -> None:
    folder = shared / "golden/sopInstance/encoding-variants/transfer-syntax"
    models = []
    for name in ("explicit_little_endian", "explicit_big_endian"):
        record: Any = ion.loads((folder / f"CT1_UNC.{name}.dcm.ion").read_bytes())
        model = model_of(record["dataSet"])
        models.append({tag: each for tag, each in model.items() if "BulkDataURI" not in each})
    assert models[0] == models[1]
    assert len(models[0]) > 50


def test_an_empty_list_is_an_empty_sequence() -> None:
    """Records of dicom2ion-js have them (PS3.18 section F.2.5)."""
    model = model_of({"ReferencedImageSequence": []})
    assert model == {"00081140": {"vr": "SQ"}}


def test_a_number_in_the_place_of_tags_is_a_number() -> None:
    """As it is where no VR is known; `AT` of it is no tag, and pydicom cannot read it."""
    attributes = {
        "FrameIncrementPointer": 5,
        "DimensionIndexPointer": 0.5,
        "FunctionalGroupPointer": "00209111",
        "SelectorATValue": bytes.fromhex("18006310 18006510"),
    }
    model = model_of(attributes)
    assert model["00280009"] == {"vr": "SV", "Value": [5]}
    assert model["00209165"] == {"vr": "FD", "Value": [0.5]}
    assert model["00209167"] == {"vr": "AT", "Value": ["00209111"]}
    assert model["00720060"] == {"vr": "AT", "Value": ["00181063", "00181065"]}


def test_an_is_that_is_a_float_is_a_number_only_if_it_is_an_integer() -> None:
    values = {2.5: "2.5", 2.0: 2, -0.0: 0, 1e25: "1e+25", math.inf: "Infinity", 7: 7}
    for value, expected in values.items():
        model = model_of({"InstanceNumber": value})
        assert model["00200013"] == {"vr": "IS", "Value": [expected]}
        assert type(model["00200013"]["Value"][0]) is type(expected)


def test_vrs_of_a_record_without_an_encoding_are_not_those_of_items() -> None:
    """A tag of the top level may be of another creator in an item."""
    number = struct.pack("<L", 7)
    attributes = {
        "_vrs": {"20050010": "LO", "20051001": "FL", "20051080": "SQ"},
        "20050010": "ACME",
        "20051001": struct.pack("<f", 1.5),
        "20051080": [{"20050010": "OTHER", "20051001": number}],
    }
    model = model_of(attributes)
    assert model["20051001"] == {"vr": "FL", "Value": [1.5]}
    (item,) = model["20051080"]["Value"]
    assert item["20051001"] == {"vr": "UN", "InlineBinary": base64.b64encode(number).decode()}
    document = metadata(attributes, None, ENCODER)
    assert document["20051001"] == 1.5
    assert document["20051080"][0]["20051001"] == number


def test_what_is_decoded_is_never_bytes_or_items() -> None:
    attributes: Json = {
        "ReferencedImageSequence": 1.0,
        "ReferencedStudySequence": 7,
        "ReferencedSeriesSequence": "text",
        "ReferencedPatientSequence": b"abc",
        "PixelData": 7,
    }
    assert model_of(attributes) == {
        "00081110": {"vr": "SV", "Value": [7]},
        "00081115": {"vr": "UT", "Value": ["text"]},
        "00081120": {"vr": "UN", "InlineBinary": "YWJj"},
        "00081140": {"vr": "FD", "Value": [1.0]},
        "7FE00010": {"vr": "SV", "Value": [7]},
    }


def test_pixel_data_of_a_record_without_layout_ends_before_its_delimiter() -> None:
    fragments = make.item() + make.item(b"ab")
    for content, given in ((fragments + DELIMITER, fragments), (b"ab" + DELIMITER,) * 2):
        model = model_of({"PixelData": content})
        assert base64.b64decode(model["7FE00010"]["InlineBinary"]) == given
