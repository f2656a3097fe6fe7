"""Columns of attributes whose VR the file says: spec/tables.md, "Columns of attributes"."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import dicomstudy
from dicomstudy import ion
from dicomstudy.archive import create
from dicomstudy.tables import export, vrs
from fixtures import make
from tests import studies
from tests.samples import chance_of
from tests.test_tables import rows_of

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


def test_items_have_no_creators_of_what_is_around_them(tmp_path: Path) -> None:
    private = make.element(VALUE, "IS", "2 ")
    other = make.element(CREATOR, "LO", "OTHER ")
    image = file(
        "reserved",
        make.element(CREATOR, "LO", "ACME"),
        make.element(VALUE, "IS", "1 "),
        sequence(ICON, private, other + private + sequence(0x00082112, private)),
        sequence(ITEMS, private),
    )
    found = attributes_of(archive_of(tmp_path, image=image))
    assert found["ACME:2005xx01_IS"] == [1]
    assert found["ACME:2005xx80_items"] == [{"20051001_IS": [2]}]
    first, second = found["IconImageSequence"]
    assert first == {"20051001_IS": [2]}
    assert second.pop("SourceImageSequence") == [{"20051001_IS": [2]}]
    assert second == {"20050010": "OTHER", "OTHER:2005xx01_IS": [2]}


def padded(name: str, vr: str, *, explicit: bool = True) -> bytes:
    """A file whose padding, and private value, are of this VR, and always of the same bytes."""
    return file(
        name,
        make.element(CREATOR, "LO", "ACME", explicit=explicit),
        make.element(PADDING, vr, b"\x30\xf8", explicit=explicit),
        make.element(VALUE, vr, b"\x30\xf8", explicit=explicit),
        explicit=explicit,
    )


SIGNED = {"PixelPaddingValue_SS": [-2000], "ACME:2005xx01_SS": [-2000]}
UNTOLD = {"PixelPaddingValue": b"\x30\xf8", "ACME:2005xx01": b"\x30\xf8"}


def test_what_files_say_alike_types_the_group_that_they_share(tmp_path: Path) -> None:
    archive = archive_of(tmp_path, a=padded("a", "SS"), b=padded("b", "SS"))
    for number in range(2):
        shutil.rmtree(tmp_path / "again", ignore_errors=True)
        assert SIGNED.items() <= attributes_of(archive, number).items()


@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
def test_what_files_say_differently_has_no_typed_value(
    names: tuple[str, str], explicit: bool, tmp_path: Path
) -> None:
    """Whichever comes first: another VR, or none as in implicit files."""
    one, other = names
    files = {one: padded(one, "SS"), other: padded(other, "US", explicit=explicit)}
    archive = archive_of(tmp_path, **files)
    for number in range(2):
        shutil.rmtree(tmp_path / "again", ignore_errors=True)
        found = attributes_of(archive, number)
        assert UNTOLD.items() <= found.items()
        assert not any(key.endswith(("_SS", "_US")) for key in found)
    with dicomstudy.open_archive(archive).tables() as tables:
        (row,) = tables["private"].to_table().to_pylist()
        assert row["vrs"] == "20051001=?"
        assert row["instances"] == 2


def test_the_type_comes_back_when_those_go_that_said_another(tmp_path: Path) -> None:
    archive = archive_of(tmp_path, a=padded("a", "SS"), b=padded("b", "US"), c=padded("c", "SS"))
    dicomstudy.export_tables(archive, tmp_path / "tables")
    study = make.uid("vrs/b")
    (path,) = (p for p in dicomstudy.open_archive(archive).documents() if study in p.name)
    path.unlink()
    dicomstudy.export_tables(archive, tmp_path / "tables")
    with dicomstudy.open_tables(tmp_path / "tables") as tables:
        (row,) = tables["private"].to_table().to_pylist()
        assert (row["ACME:2005xx01_SS"], row["ACME:2005xx01"]) == ([-2000], None)
        assert (row["vrs"], row["instances"]) == ("20051001=SS", 2)


@pytest.mark.parametrize("seed", range(3))
def test_groups_stay_in_step_with_what_files_say(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Studies come, go and are written anew, all of them with the same values."""
    monkeypatch.setattr(export, "FILE_ROWS", 2)
    chance = chance_of(seed)
    archive, tables = tmp_path / "archive", tmp_path / "tables"
    create(archive)
    for turn in range(12):
        for _ in range(chance.randrange(1, 3)):
            name = chance.choice("abcde")
            for path in dicomstudy.open_archive(archive).documents():
                if path.name.startswith(f"{make.uid(f'vrs/{name}')}."):
                    path.unlink()
            vr = chance.choice(["SS", "SS", "US", "", "gone"])
            if vr != "gone":
                data = padded(name, vr or "SS", explicit=bool(vr))
                source = studies.write_files(tmp_path / f"{turn} {name}", [(name, data)])
                dicomstudy.convert([source], archive)
        dicomstudy.export_tables(archive, tables)
        dicomstudy.export_tables(archive, tmp_path / f"fresh {turn}")
        assert rows_of(tables) == rows_of(tmp_path / f"fresh {turn}"), turn
    with dicomstudy.open_tables(tables) as opened:
        opened.to_archive(tmp_path / "again")
    assert studies.digests_of(tmp_path / "again") == studies.digests_of(archive)


GRAPHIC, FRAME_LIST, NUMBER, SERIES_NUMBER = 0x00700022, 0x00081161, 0x00200013, 0x00200011
FLOATS, PAIR = struct.pack("<2d", 1, 2), struct.pack("<2i", -1, -2)
TAG = bytes.fromhex("18006310")


@pytest.mark.parametrize(
    ("name", "tag", "vr", "value"),
    [
        ("GraphicData", GRAPHIC, "FD", FLOATS),
        ("GraphicData", GRAPHIC, "OD", FLOATS),
        ("GraphicData", GRAPHIC, "FD", FLOATS[:8]),
        ("SimpleFrameList", FRAME_LIST, "SL", PAIR),
        ("SimpleFrameList", FRAME_LIST, "SS", PAIR[:2]),
        ("Rows", 0x00280010, "SS", PAIR[:2]),
        ("Rows", 0x00280010, "UL", b"\x05\0\0\0"),
        ("FrameIncrementPointer", 0x00280009, "UL", TAG),
        ("SliceThickness", 0x00180050, "FL", PAIR[:4]),
    ],
)
def test_numbers_of_another_vr_are_no_typed_values(
    name: str, tag: int, vr: str, value: bytes, tmp_path: Path
) -> None:
    element = make.element(tag, vr, value)
    image = file("other", element, sequence(ICON, element))
    archive = archive_of(tmp_path, image=image)
    found = attributes_of(archive)
    assert not [key for key in found if key.startswith(name)]
    assert "IconImageSequence" not in found  # there is no value in its item
    with dicomstudy.open_archive(archive).tables() as tables:
        assert name in tables.sql("SELECT * FROM metadata").to_arrow().column_names
        rows = [row for table in tables.values() for row in table.to_table().to_pylist()]
    paths = {path for row in rows if row.get("exact") for path in ion.loads(row["exact"])}
    assert {name, "IconImageSequence"} <= paths


def test_tags_in_place_of_text_stand_beside_the_typed_value(tmp_path: Path) -> None:
    image = file(
        "tags", *(make.element(tag, "AT", TAG) for tag in (0x00180050, SERIES_NUMBER, NUMBER))
    )
    archive = archive_of(tmp_path, image=image)
    found = attributes_of(archive)
    for name in ("InstanceNumber", "SeriesNumber", "SliceThickness"):
        assert name not in found
        assert found[f"{name}_text"] == "00181063"
    with dicomstudy.open_archive(archive).tables() as tables:
        (series,) = tables["series"].to_table().to_pylist()
    assert series["SeriesNumber"] is None


def test_text_of_another_vr_is_read_as_the_dictionary_says(tmp_path: Path) -> None:
    image = file(
        "text",
        make.element(0x00081030, "LT", "Head"),
        make.element(0x00180050, "IS", "2 "),
        make.element(NUMBER, "DS", "7 "),
        make.element(0x00080020, "DT", "20240102"),
    )
    found = attributes_of(archive_of(tmp_path, image=image))
    assert (found["StudyDescription"], found["SliceThickness"]) == ("Head", 2.0)
    assert (found["InstanceNumber"], str(found["StudyDate"])) == (7, "2024-01-02")


def test_un_is_no_other_vr(tmp_path: Path) -> None:
    """Not of numbers, tags or text, nor where files that share a group say the VR."""
    elements = (
        make.element(FRAME_LIST, "UN", PAIR),
        make.element(0x00280009, "UN", TAG),
        make.element(0x00280010, "UN", PAIR[:2]),
        make.element(0x00180050, "UN", b"2 "),
        make.element(0x00081030, "UN", b"Head"),
    )
    found = attributes_of(archive_of(tmp_path / "one", un=file("un", *elements)))
    numbers = list(struct.unpack("<2I", PAIR))
    assert (found["SimpleFrameList"], found["FrameIncrementPointer"]) == (numbers, ["00181063"])
    assert found["Rows"] == struct.unpack("<H", PAIR[:2])[0]
    assert (found["SliceThickness"], found["StudyDescription"]) == (2.0, "Head")
    files = {vr: file(vr, make.element(FRAME_LIST, vr, PAIR)) for vr in ("UL", "UN")}
    archive = archive_of(tmp_path / "two", **files)
    with dicomstudy.open_archive(archive).tables() as tables:
        answer = tables.sql("SELECT SimpleFrameList AS frames FROM metadata").to_arrow()
    assert answer["frames"].to_pylist() == [numbers] * 2


def test_a_series_has_no_text_of_another_vr_that_its_instances_have_as_their_own(
    tmp_path: Path,
) -> None:
    """Tags that look like dates, and differ, so that they are in no group."""

    def image(name: str, day: bytes) -> bytes:
        study = make.element(0x0020000D, "UI", make.uid("vrs/days"))
        meta = make.file_meta(make.EXPLICIT, make.SECONDARY_CAPTURE, make.uid(f"wrecks/1/{name}"))
        return make.part10(meta, make.small(name, study, day))

    days = {
        "DA": (b"20240103", b"20240102"),
        "AT": (b"\x24\x20\x03\x01", b"\x24\x20\x02\x01"),
    }
    for vr, values in days.items():
        elements = [make.element(0x00400244, vr, value) for value in values]
        files = dict(zip("ab", map(image, "ab", elements), strict=True))
        with dicomstudy.open_archive(archive_of(tmp_path / vr, **files)).tables() as tables:
            (series,) = tables["series"].to_table().to_pylist()
            rows = tables["instances"].to_table().to_pylist()
        key = "PerformedProcedureStepStartDate"
        if vr == "DA":
            assert [str(row[key]) for row in rows] == ["2024-01-03", "2024-01-02"]
            assert str(series[key]) == "2024-01-02"
        else:
            assert [row[key] for row in rows] == [None, None]
            assert [row[f"{key}_text"] for row in rows] == ["20240103", "20240102"]
            assert series.get(key) is None


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
def test_numbers_that_files_write_differently_are_no_typed_values(
    names: tuple[str, str], tmp_path: Path
) -> None:
    """Though one of them has the VR of the dictionary: it is the value of one group."""
    right, wrong = names
    files = {
        right: file(right, make.element(FRAME_LIST, "UL", PAIR)),
        wrong: file(wrong, make.element(FRAME_LIST, "SL", PAIR)),
    }
    archive = archive_of(tmp_path, **files)
    for number in range(2):
        shutil.rmtree(tmp_path / "again", ignore_errors=True)
        assert "SimpleFrameList" not in attributes_of(archive, number)


def test_frames_have_creators_and_vrs_as_other_tables_do(tmp_path: Path) -> None:
    def frame(number: int) -> bytes:
        mapping = make.element(0x00409211, "SS", -number)
        other = make.element(CREATOR, "LO", "OTHER ") + make.element(VALUE, "IS", "5 ")
        private = make.element(CREATOR, "LO", "ACME") + make.element(VALUE, "US", number)
        return (
            make.element(CREATOR, "LO", "ACME")
            + make.element(0x20051002, "SQ", make.item(other))
            + make.element(ITEMS, "SQ", make.item(private))
            + sequence(0x00409096, mapping)
        )

    frames = make.element(0x52009230, "SQ", b"".join(make.item(frame(at)) for at in (1, 2)))
    image = file("frames", make.element(0x00280008, "IS", "2 "), frames)
    with dicomstudy.open_archive(archive_of(tmp_path, image=image)).tables() as tables:
        rows = tables["frames"].to_table().to_pylist()
    assert [row["ACME:2005xx01_US"] for row in rows] == [[1], [2]]
    assert [row["OTHER:2005xx01_IS"] for row in rows] == [[5], [5]]
    assert [row["RealWorldValueLastValueMapped_SS"] for row in rows] == [[-1], [-2]]


def test_private_functional_groups_give_way_to_those_of_the_standard(tmp_path: Path) -> None:
    def measures(thickness: str) -> bytes:
        return sequence(0x00289110, make.element(0x00180050, "DS", thickness))

    private = make.element(CREATOR, "LO", "ACME") + sequence(
        ITEMS, make.element(0x00180050, "DS", "44") + make.element(NUMBER, "IS", "6 ")
    )
    for name, shared, frames, expected in [
        ("shared", measures("9 "), [private] * 2, [9, 9]),
        ("each", measures("9 "), [private, measures("8 ") + private], [9, 8]),
    ]:
        image = file(
            name,
            make.element(0x00280008, "IS", "2 "),
            sequence(0x52009229, shared),
            sequence(0x52009230, *frames),
        )
        archive = archive_of(tmp_path / name, image=image)
        with dicomstudy.open_archive(archive).tables() as tables:
            rows = tables["frames"].to_table().to_pylist()
        assert [row["SliceThickness"] for row in rows] == expected
        assert [row["InstanceNumber"] for row in rows] == [6, 6]


def test_a_column_is_there_though_no_value_is_of_its_type(tmp_path: Path) -> None:
    image = file(
        "malformed",
        make.element(0x00080022, "DA"),
        make.element(0x00100030, "DA", "1970-01-01"),
        make.element(0x00180060, "DS", "120 kV"),
        make.element(0x00204000, "LT", "long" * 100),
        make.element(0x00280034, "IS", b"\xff\xff"),
        make.element(VALUE, "LO"),
        make.element(0x00082112, "SQ"),
    )
    with dicomstudy.open_archive(archive_of(tmp_path, image=image)).tables() as tables:
        names = ["AcquisitionDate", "PatientBirthDate", "PatientBirthDate_text", "KVP"]
        names += ["ImageComments", "PixelAspectRatio"]
        (row,) = tables.select(names).to_pylist()
        every = tables.sql("SELECT * FROM metadata").to_arrow().column_names
        tables.to_archive(tmp_path / "again")
    assert row == dict.fromkeys(names) | {"PatientBirthDate_text": "1970-01-01"}
    assert not [name for name in every if name.startswith(("2005", "SourceImage"))]
    assert studies.digests_of(tmp_path / "again") == studies.digests_of(tmp_path / "archive")


def test_what_is_said_of_vrs_stands_in_the_order_of_paths() -> None:
    """Equal VRs are equal texts: so no group is taken for one whose files differ."""
    one = {f"{letter}[0].B": "US" for letter in "hgfedcba"}
    said = vrs.merged("i=LO", " ".join(f"{path}={vr}" for path, vr in one.items()))
    assert said == " ".join(f"{path}=?" for path in [*sorted(one), "i"])
    assert vrs.merged(said, said) == said
