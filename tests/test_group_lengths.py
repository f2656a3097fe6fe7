"""Group lengths that `metadata` computes from the layout (spec/json.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset

from dicomstudy.json_model import metadata
from fixtures import make
from tests.real_files import (
    BROKEN_SEQUENCES,
    CUT,
    DEFINITIONS,
    ENCODER,
    Decoded,
    from_pydicom,
    own_files,
)

pytestmark = pytest.mark.usefixtures("quiet_pydicom")

Json = dict[str, Any]


def lengths(dataset: Dataset) -> list[int]:
    """The values of the group lengths, those of items in front of those that follow."""
    found = []
    for each in dataset:
        if each.VR == "SQ":
            found += [length for item in each.value for length in lengths(item)]
        elif not each.tag.element and each.value is not None:
            found.append(each.value)
    return found


def lengths_of(document: Json) -> list[int]:
    found = []
    for key, value in document.items():
        if isinstance(value, list):
            found += [length for item in value for length in lengths_of(item)]
        elif not DEFINITIONS.tag(key) & 0xFFFF and value is not None:
            found.append(value)
    return found


def test_group_lengths_are_computed() -> None:
    seen = 0
    for decoded in own_files():
        dataset = decoded.dataset()
        if dataset is None or Path(decoded.name).name in {*CUT, *BROKEN_SEQUENCES}:
            continue
        meta = dataset.file_meta.get("FileMetaInformationGroupLength")
        document = metadata(decoded.attributes, decoded.encoding, ENCODER)
        assert document.get("FileMetaInformationGroupLength") == meta
        try:
            expected = lengths(dataset)
        except Exception:  # noqa: BLE001, S112 (pydicom refuses an element)
            continue
        found = lengths_of(document)
        assert found[meta is not None :] == expected, decoded
        seen += len(expected)
    assert seen > 100


def test_of_a_group_length_that_stands_twice_the_last_counts() -> None:
    """Whether it is an attribute, being wrong, or a right one."""
    wrong, between = make.element(0x00400000, "UL", 8), make.element(0x00280011, "US", 1)
    right = make.with_group_lengths([make.element(0x00400253, "SH", "4361")])
    for first, last, expected in ((wrong, right, 12), (right, wrong, 8)):
        decoded = Decoded("twice", make.part10(make.file_meta(), first + between + last))
        assert decoded.encoding["dataSet"].count("00400000UL=") == 1
        found = metadata(decoded.attributes, decoded.encoding, ENCODER)["00400000"]
        assert found == (decoded.dataset() or Dataset())[0x00400000].value == expected


def test_group_length_of_file_meta_ends_with_it() -> None:
    """Only a big-endian data set can go on with elements of the same group."""
    meta = make.file_meta(make.BIG_ENDIAN, sop_instance="1.2.3")
    data = make.part10(meta, make.element(0x00020012, "UI", "1.2.3.4", big=True))
    decoded = Decoded("big", data)
    assert len(decoded.encoding["dataSet"].split()) == 1
    found = metadata(decoded.attributes, decoded.encoding, ENCODER)
    assert found["FileMetaInformationGroupLength"] == len(meta) - 12


def test_group_lengths_are_computed_without_the_values() -> None:
    """However large they are: a record may say that one in an item has gigabytes."""
    icon = make.item(make.element(0x7FE00010, "OW", bytes(400)))
    elements = make.with_group_lengths([make.element(0x00880200, "SQ", icon)])
    decoded = Decoded("icon.dcm", make.part10(make.file_meta(), elements))
    key = DEFINITIONS.keyword(0x00880000)
    document = metadata(decoded.attributes, decoded.encoding, ENCODER)
    assert document[key] == 12 + len(icon)
    ((pixels,),) = (item.values() for item in decoded.attributes["IconImageSequence"])
    pixels["length"] = 1 << 31
    assert metadata(decoded.attributes, decoded.encoding, ENCODER)[key] == 32 + (1 << 31)


@pytest.mark.parametrize("size", [10, 400])
def test_group_lengths_count_delimiters(size: int) -> None:
    """Whether the value is large or not."""
    value = make.element(0x00720067, "OF", bytes(size), undefined=True)
    data = make.part10(make.file_meta(), make.with_group_lengths([value]))
    decoded = Decoded("delimited", data)
    document = metadata(decoded.attributes, decoded.encoding, ENCODER)
    assert document["00720000"] == len(value)


def test_group_length_of_values_that_no_longer_fit_is_unknown() -> None:
    decoded = from_pydicom("CT_small.dcm")
    broken = decoded.attributes | {"TransferSyntaxUID": "Ω"}
    document = metadata(broken, decoded.encoding, ENCODER)
    assert document["FileMetaInformationGroupLength"] is None
    pixels = make.with_group_lengths([make.element(0x7FE00010, "OW", bytes(400))])
    decoded = Decoded("pixels.dcm", make.part10(make.file_meta(), pixels))
    decoded.attributes["PixelData"]["length"] = 1 << 40
    document = metadata(decoded.attributes, decoded.encoding, ENCODER)
    assert document[DEFINITIONS.keyword(0x7FE00000)] is None
