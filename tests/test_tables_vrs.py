"""Columns of attributes whose VR the file says: spec/tables.md, "Columns of attributes"."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dicomstudy
from fixtures import make
from tests import studies

CREATOR, VALUE, ITEMS = 0x20050010, 0x20051001, 0x20051080
REPRESENTATION, SMALLEST, PADDING, ICON = 0x00280103, 0x00280106, 0x00280120, 0x00880200


def file(name: str, *elements: bytes, explicit: bool = True) -> bytes:
    """A file of a study of its own."""
    study = make.element(0x0020000D, "UI", make.uid(f"vrs/{name}"), explicit=explicit)
    syntax = make.EXPLICIT if explicit else make.IMPLICIT
    meta = make.file_meta(syntax, make.SECONDARY_CAPTURE, make.uid(f"wrecks/1/{name}"))
    return make.part10(meta, make.small(name, study, *elements, explicit=explicit))


def sequence(tag: int, *items: bytes) -> bytes:
    return make.element(tag, "SQ", b"".join(map(make.item, items)))


def archive_of(folder: Path, **files: bytes) -> Path:
    dicomstudy.convert([studies.write_files(folder / "files", files.items())], folder / "archive")
    return folder / "archive"


def attributes_of(archive: Path, number: int = 0) -> dict[str, Any]:
    """Every typed value of an instance, in whichever table."""
    with dicomstudy.open_archive(archive).tables() as tables:
        row = tables.sql("SELECT * FROM metadata").to_arrow().to_pylist()[number]
        tables.to_archive(archive.parent / "again")
    assert studies.digests_of(archive.parent / "again") == studies.digests_of(archive)
    return {key: _without_nulls(value) for key, value in row.items() if value is not None}


def _without_nulls(value: object) -> object:
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    if isinstance(value, Mapping):
        return {key: item for key, item in value.items() if item is not None}
    return value


def test_an_unsigned_icon_leaves_its_image_signed(tmp_path: Path) -> None:
    icon = (
        make.element(REPRESENTATION, "US", 0)
        + make.element(SMALLEST, "US", 0)
        + make.element(PADDING, "US", 7)
    )
    image = file(
        "image",
        make.element(REPRESENTATION, "US", 1),
        make.element(SMALLEST, "SS", -3),
        make.element(PADDING, "SS", -2000),
        sequence(ICON, icon),
    )
    found = attributes_of(archive_of(tmp_path, image=image))
    assert found["SmallestImagePixelValue_SS"] == [-3]
    assert found["PixelPaddingValue_SS"] == [-2000]
    assert not {"SmallestImagePixelValue_US", "PixelPaddingValue_US"} & found.keys()
    (item,) = found["IconImageSequence"]
    assert item["SmallestImagePixelValue_US"] == [0]
    assert item["PixelPaddingValue_US"] == [7]


def test_every_item_has_the_vrs_of_its_own_private_elements(tmp_path: Path) -> None:
    other = make.element(CREATOR, "LO", "OTHER ")
    items = (
        make.element(CREATOR, "LO", "ACME") + make.element(VALUE, "FL", 2.5),
        other + make.element(VALUE, "UL", 7),
        other + make.element(VALUE, "IS", "8 "),
    )
    image = file(
        "private",
        make.element(CREATOR, "LO", "ACME"),
        make.element(VALUE, "FL", 1.5),
        sequence(ITEMS, *items),
    )
    found = attributes_of(archive_of(tmp_path, image=image))
    assert found["ACME:2005xx01_FL"] == [1.5]
    assert found["ACME:2005xx80_items"] == [
        {"20050010": "ACME", "ACME:2005xx01_FL": [2.5]},
        {"20050010": "OTHER", "OTHER:2005xx01_UL": [7]},
        {"20050010": "OTHER", "OTHER:2005xx01_IS": [8]},
    ]
