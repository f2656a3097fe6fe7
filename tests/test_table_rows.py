"""Values ↔ cells ↔ rows: spec/tables.md, "Columns of attributes"."""

from __future__ import annotations

import struct
import tracemalloc
from datetime import date, datetime, time
from functools import reduce
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dicomstudy import ion
from dicomstudy.elements import NUMBER_FORMATS
from dicomstudy.errors import ArchiveError, TableError
from dicomstudy.ion import ion_hash_hex
from dicomstudy.tables import parquet
from dicomstudy.tables.cells import CellKind, Cells, kind_of
from dicomstudy.tables.columns import LABEL, LEFTOVERS, Columns, Level, VRContext
from dicomstudy.tables.counts import Counts
from dicomstudy.tables.rows import NO_CONTEXT, Row, decode, encode
from dicomstudy.tables.star import Known
from dicomstudy.tables.vrs import DIFFERS, by_path, merged
from tests.real_files import own_files
from tests.strategies import DEFINITIONS

TABLE = "instances"
NAME = dict.fromkeys(
    ("alphabetic", "ideographic", "phonetic", "family", "given", "middle", "prefix", "suffix")
)


def through_arrow(
    structs: list[dict[str, Any]], context: VRContext = NO_CONTEXT
) -> tuple[list[dict[str, Any]], list[Row], pa.Schema]:
    """Structs that were rows of one Arrow table; with the rows, and its schema."""
    columns = Columns(DEFINITIONS)
    columns.declare(TABLE, LEFTOVERS)
    rows = []
    for attributes in structs:
        row, _ = encode(attributes, columns.level, context)
        columns.meet(TABLE, row)
        rows.append(row)
    schema = columns.schema(TABLE)
    assert set().union(*rows) <= set(schema.names)
    again = Columns(DEFINITIONS)
    again.load(TABLE, schema)
    assert again.schema(TABLE).equals(schema, check_metadata=True)
    found = pa.Table.from_pylist(rows, schema=schema).to_pylist()
    return [decode(row, again.of(TABLE), DEFINITIONS) for row in found], found, schema


def cell_of(key: str, value: object, **vrs: str) -> Row:
    """What is in the row of one attribute, but for nulls."""
    (again,), (row,), _ = through_arrow([{key: value}], VRContext({"001910": "ACME 1"}, vrs))
    assert again == {key: value}
    return {name: cell for name, cell in row.items() if cell is not None}


@pytest.mark.parametrize(
    ("key", "value", "row"),
    [
        ("Modality", "CT", {"Modality": "CT"}),
        ("ImageType", r"ORIGINAL\PRIMARY", {"ImageType": ["ORIGINAL", "PRIMARY"]}),
        ("StudyDate", "20240229", {"StudyDate": date(2024, 2, 29)}),
        ("StudyDate", "2024.02.29",
         {"StudyDate": date(2024, 2, 29), "StudyDate_text": "2024.02.29"}),
        ("StudyDate", "20230229", {"StudyDate_text": "20230229"}),
        ("StudyTime", "101112.5", {"StudyTime": time(10, 11, 12, 500000)}),
        ("StudyTime", "1011", {"StudyTime": time(10, 11), "StudyTime_text": "1011"}),
        ("StudyTime", "10:11:12",
         {"StudyTime": time(10, 11, 12), "StudyTime_text": "10:11:12"}),
        ("StudyTime", "10:1112", {"StudyTime_text": "10:1112"}),
        (
            "AcquisitionDateTime",
            "20240229101112.000001-0130",
            {
                "AcquisitionDateTime": datetime.fromisoformat("2024-02-29T10:11:12.000001"),
                "AcquisitionDateTime_offset": -90,
            },
        ),
        (
            "AcquisitionDateTime",
            "2024",
            {"AcquisitionDateTime": datetime.fromisoformat("2024-01-01"),
             "AcquisitionDateTime_text": "2024"},
        ),
        *(
            (
                "AcquisitionDateTime",
                f"20240229101112{zone}",
                {"AcquisitionDateTime": datetime.fromisoformat("2024-02-29T10:11:12"),
                 "AcquisitionDateTime_offset": offset},
            )
            for zone, offset in (("+1400", 840), ("-1200", -720))
        ),
        *(
            ("AcquisitionDateTime", text, {"AcquisitionDateTime_text": text})
            for text in ("20240229101112+0060", "20240229101112+1401", "20240229101112-1201")
        ),
        ("PatientAge", "042Y", {"PatientAge": 42.0}),
        ("PatientAge", "006M", {"PatientAge": 0.5, "PatientAge_text": "006M"}),
        ("InstanceNumber", "7", {"InstanceNumber": 7}),
        ("InstanceNumber", "007", {"InstanceNumber": 7, "InstanceNumber_text": "007"}),
        ("InstanceNumber", "seven", {"InstanceNumber_text": "seven"}),
        ("SliceThickness", "2.5", {"SliceThickness": 2.5}),
        ("SliceThickness", "1.0000", {"SliceThickness": 1.0, "SliceThickness_text": "1.0000"}),
        ("SliceThickness", "1e400", {"SliceThickness_text": "1e400"}),
        (
            "ImagePositionPatient",
            r"1\2.5\-3",
            {"ImagePositionPatient": [1.0, 2.5, -3.0]},
        ),
        (
            "PixelSpacing",
            r"0.50\x",
            {"PixelSpacing": [0.5, None], "PixelSpacing_text": r"0.50\x"},
        ),
        ("Rows", 512, {"Rows": 512}),
        ("Rows", -1, {"exact": b"\xe0\x01\x00\xea"}),
        ("SimpleFrameList", struct.pack("<3I", 1, 2, 3), {"SimpleFrameList": [1, 2, 3]}),
        ("SimpleFrameList", 5, {"SimpleFrameList": [5]}),
        ("ReconstructionDiameter", "", {"ReconstructionDiameter_text": ""}),
        ("ReconstructionDiameter", None, {"empty": ["ReconstructionDiameter"]}),
        ("FrameIncrementPointer", r"00181063\00181065",
         {"FrameIncrementPointer": ["00181063", "00181065"]}),
        (
            "PatientName",
            "Yamada^Tarou=山田^太郎=やまだ^たろう",
            {
                "PatientName": {
                    "alphabetic": "Yamada^Tarou",
                    "ideographic": "山田^太郎",
                    "phonetic": "やまだ^たろう",
                    "family": "Yamada",
                    "given": "Tarou",
                    "middle": None,
                    "prefix": None,
                    "suffix": None,
                }
            },
        ),
        ("PatientName", "Doe^J=", {"PatientName": {**NAME, "alphabetic": "Doe^J", "family": "Doe",
                                                   "given": "J"}, "PatientName_text": "Doe^J="}),
        ("RedPaletteColorLookupTableDescriptor", b"\0\1\0\0\x08\0",
         {"RedPaletteColorLookupTableDescriptor": b"\0\1\0\0\x08\0"}),
        ("0019100C", b"\1\2", {"ACME 1:0019xx0C": b"\1\2"}),
        ("0019110C", b"\1\2", {"0019110C": b"\1\2"}),
        ("00190010", "ACME 1", {"00190010": "ACME 1"}),
        ("60003000", b"\1\2", {"60003000": b"\1\2"}),
        ("_preamble", b"\1", {"exact": b"\xe0\x01\x00\xea"}),
        ("PatientName#1", "A", {"exact": b"\xe0\x01\x00\xea"}),
        ("0019100c", b"\1", {"exact": b"\xe0\x01\x00\xea"}),
    ],
)  # fmt: skip
def test_a_value_has_a_cell_and_comes_back(key: str, value: object, row: Row) -> None:
    found = cell_of(key, value)
    if "exact" in row:
        assert found.keys() == {"exact"}
        assert found["exact"].startswith(row["exact"])
    else:
        assert found == row


@pytest.mark.parametrize(
    ("key", "vr", "value", "row"),
    [
        ("0019100C", "IS", rb"1\2 ", {"ACME 1:0019xx0C_IS": [1, 2]}),
        ("0019100C", "LO", b"abc ", {"ACME 1:0019xx0C_LO": "abc"}),
        ("0019100C", "UI", b"1.2\0", {"ACME 1:0019xx0C_UI": "1.2"}),
        ("0019100C", "US", b"\1\0", {"ACME 1:0019xx0C_US": [1]}),
        ("0019100C", "AT", b"\x08\0\x05\1", {"ACME 1:0019xx0C_AT": ["00080105"]}),
        ("0019100C", "AT", b"\x28\0\x09\0\xe0\x7f\x10\0",
         {"ACME 1:0019xx0C_AT": ["00280009", "7FE00010"]}),
        ("0019100C", "FD", struct.pack("<2d", 1, 2), {"ACME 1:0019xx0C_FD": [1.0, 2.0]}),
        ("0019100C", "OB", b"\1\0", {"ACME 1:0019xx0C": b"\1\0"}),
        ("0019100C", "DS", b"1.0 ",
         {"ACME 1:0019xx0C_DS": [1.0], "ACME 1:0019xx0C_DS_text": "1.0"}),
        ("SmallestImagePixelValue", "SS", b"\xff\xff", {"SmallestImagePixelValue_SS": [-1]}),
    ],
)  # fmt: skip
def test_a_blob_has_the_type_that_its_file_gives_it(
    key: str, vr: str, value: bytes, row: Row
) -> None:
    assert cell_of(key, value, **{key: vr}) == row


@pytest.mark.parametrize(
    ("vr", "value"),
    [
        *(("LO", b"\xe4 "), ("LO", b"a\0"), ("LO", b"a   "), ("US", b"\1"), ("UI", b"1 ")),
        *(("AT", b"abcdef"), ("AT", b""), ("IS", b"5\0"), ("FD", b"1234"), ("PN", b"M\xfcller")),
    ],
)
def test_a_blob_that_would_not_come_back_stands_under_the_name_alone(vr: str, value: bytes) -> None:
    assert cell_of("0019100C", value, **{"0019100C": vr}) == {"ACME 1:0019xx0C": value}


def test_a_blob_of_text_that_has_no_type_stands_as_text_beside_the_typed_column() -> None:
    found = cell_of("0019100C", b"abc ", **{"0019100C": "IS"})
    assert found == {"ACME 1:0019xx0C_IS_text": "abc"}


def test_text_where_the_dictionary_has_bytes_is_exact() -> None:
    """A column of the VR in the file would give its bytes, not the text."""
    key = "RedPaletteColorLookupTableData"
    for text in ("abc", "1"):
        for vr in ("LO", "IS"):
            assert cell_of(key, text, **{key: vr}).keys() == {"exact"}


def test_a_number_with_other_bits_is_kept_beside_its_cell() -> None:
    found = cell_of("0019100C", b"\1\0\xa0\x7f", **{"0019100C": "FL"})
    assert found.keys() - {"exact"} == {"ACME 1:0019xx0C_FL"}


@pytest.mark.parametrize(
    ("creator", "name"),
    [
        ("A\0B", r"A\x00B"),
        ("A\x1b\x7f\x9f", r"A\x1b\x7f\x9f"),
        (r"A\x00B", r"A\x5cx00B"),
        ("\\\0", r"\\x00"),
        (r"\\x00", r"\\x5cx00"),
        (r"A\B\x0", r"A\B\x0"),
    ],
)
def test_control_characters_of_a_creator_are_escaped(creator: str, name: str) -> None:
    attributes = {"0019100C": b"\1\2"}
    (again,), (row,), _ = through_arrow([attributes], VRContext({"001910": creator}, {}))
    assert again == attributes
    assert row[f"{name}:0019xx0C"] == b"\1\2"


CREATORS = st.text(st.sampled_from("\\\\x05c\0\5"), min_size=1, max_size=8)


@given(st.lists(CREATORS, min_size=2, max_size=2, unique=True))
def test_no_two_creators_give_one_name(creators: list[str]) -> None:
    level = Level(DEFINITIONS)
    for creator in creators:
        encode({"0019100C": b""}, level, VRContext({"001910": creator}, {}))
    assert len(level.columns) == len(creators)


def test_labels_are_dictionaries_at_the_top_and_single_only() -> None:
    item = {"Modality": "CT"}
    _, _, schema = through_arrow([{**item, "ImageType": "A", "RequestAttributesSequence": [item]}])
    assert schema.field("Modality").type == LABEL
    assert schema.field("ImageType").type == pa.list_(pa.string())
    assert schema.field("RequestAttributesSequence").type.value_type.field(0).type == pa.string()


def test_every_column_says_what_it_is() -> None:
    _, _, schema = through_arrow([{"StudyDate": "2024.01.01", "00190010": "ACME"}])
    meta = {field.name: field.metadata for field in schema if field.metadata}
    assert meta == {
        "StudyDate": {b"key": b"StudyDate", b"tag": b"00080020", b"vr": b"DA",
                      b"name": b"Study Date", b"form": b"typed"},
        "StudyDate_text": {b"key": b"StudyDate", b"tag": b"00080020", b"vr": b"DA",
                           b"name": b"Study Date", b"form": b"text"},
        "00190010": {b"key": b"00190010", b"tag": b"00190010", b"vr": b"LO",
                     b"name": b"Private Creator", b"form": b"typed"},
    }  # fmt: skip


def test_items_have_the_fields_of_all_items() -> None:
    structs: list[dict[str, Any]] = [
        {"RequestAttributesSequence": [{"ScheduledProcedureStepID": "1"}, {}]},
        {"RequestAttributesSequence": [{"ScheduledProtocolCodeSequence": [{"CodeValue": "x"}]}]},
        {"RequestAttributesSequence": [{"ScheduledProtocolCodeSequence": None}]},
        {"RequestAttributesSequence": None},
    ]
    again, rows, schema = through_arrow(structs)
    assert again == structs
    inner = schema.field("RequestAttributesSequence").type.value_type
    assert {field.name for field in inner} == {
        "ScheduledProcedureStepID",
        "ScheduledProtocolCodeSequence",
    }
    assert rows[3]["empty"] == ["RequestAttributesSequence"]


def test_items_nest_as_deep_as_files_do() -> None:
    tree: dict[str, Any] = {"TextValue": "leaf"}
    for _ in range(60):
        tree = {"ContentSequence": [tree, {"ValueType": "TEXT"}]}
    (again,), _, schema = through_arrow([tree])
    assert again == tree
    depth, kind = 0, schema.field("ContentSequence").type
    while pa.types.is_list(kind):
        struct_ = kind.value_type
        found = struct_.get_field_index("ContentSequence")
        depth, kind = depth + 1, struct_.field(found).type if found >= 0 else struct_
    assert depth == 30


def test_what_has_no_column_is_not_copied_for_each_sequence() -> None:
    """Not even where sequences without columns stand in one another."""
    many: dict[str, Any] = {f"_{number}": number for number in range(10_000)}
    tree: list[Any] = []
    for _ in range(20):
        tree = [{"ContentSequence": tree}]
    level = Columns(DEFINITIONS).level
    encode(many | {"ContentSequence": tree}, level)
    peaks = []
    for attributes in (many, many | {"ContentSequence": tree}):
        tracemalloc.start()
        try:
            row, _ = encode(attributes, level)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        assert ion.loads(row["exact"]) == attributes
    assert peaks[1] < peaks[0] * 1.5


def test_large_values_keep_their_places() -> None:
    reference = {"length": 9, "sha256": "ab", "fragments": [1, 2], "offset": 8, "stored": [9]}
    struct_ = {
        "PixelData": reference,
        "IconImageSequence": [{"PixelData": {"length": 3}, "Rows": 1}],
    }
    (again,), (row,), _ = through_arrow([struct_])
    assert again == struct_
    assert [entry["path"] for entry in row["large"]] == [
        "PixelData",
        "IconImageSequence[0].PixelData",
    ]


def test_of_what_a_row_says_twice_the_exact_value_counts() -> None:
    """Then the large one, then text, then the typed cell: spec/tables.md."""
    _, _, schema = through_arrow([{"InstanceNumber": "7"}, {"InstanceNumber": "seven"}])
    columns = Columns(DEFINITIONS)
    columns.load(TABLE, schema)
    row: Row = {
        "InstanceNumber": 7,
        "InstanceNumber_text": "seven",
        "large": [{"path": "InstanceNumber", "length": 3}],
        "exact": ion.dumps({"InstanceNumber": 7.5}),
    }
    for column, value in (
        ("exact", 7.5),
        ("large", {"length": 3}),
        ("InstanceNumber_text", "seven"),
    ):
        assert decode(row, columns.of(TABLE), DEFINITIONS) == {"InstanceNumber": value}
        del row[column]
    assert decode(row, columns.of(TABLE), DEFINITIONS) == {"InstanceNumber": "7"}


@pytest.mark.parametrize(
    "damage",
    [
        {"empty": ["A[0].B"]},
        {"large": [{"length": 1}]},
        {"exact": b"no ion"},
        {"exact": b"\xe0\x01\x00\xea\x21\x07"},
    ],
)
def test_what_does_not_fit_its_row_is_an_error(damage: Row) -> None:
    with pytest.raises(TableError) as caught:
        decode(damage, {}, DEFINITIONS)
    assert caught.value.code == "tables/damaged"


TEXTS = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=12),
    st.from_regex(r"[0-9.+\-\\^= eE:]{0,14}", fullmatch=True),
    st.datetimes().map(lambda moment: moment.strftime("%Y%m%d%H%M%S.%f")),
    st.floats().map(repr),
)
VALUES = st.one_of(TEXTS, st.binary(max_size=24), st.integers(), st.floats(allow_nan=False))


@given(st.sampled_from(sorted(CellKind, key=str)), st.booleans(), VALUES)
def test_a_cell_that_is_exact_gives_its_value_back(
    kind: CellKind, many: bool, value: object
) -> None:
    if kind is CellKind.ITEMS:
        return
    cells = Cells(kind, many=many)
    cell = cells.cell(value)
    if cell.exact:
        again = cells.value(cell.value, cell.offset)
        assert (type(again), again) == (type(value), value)


@pytest.mark.parametrize(
    ("vr", "text", "value"),
    [
        ("DA", "20200102", date(2020, 1, 2)),
        ("TM", "1011", time(10, 11)),
        ("DT", "20200102", datetime(2020, 1, 2)),  # noqa: DTZ001 (no zone is said)
        ("AS", "044Y", 44.0),
        ("IS", "7", 7),
        ("DS", "1.5", 1.5),
    ],
)
def test_spaces_around_a_value_are_no_matter(vr: str, text: str, value: object) -> None:
    """PS3.5 section 6.2 lets them stand there; what they were is kept beside the cell."""
    one, several = (Cells(kind_of(vr), many=many) for many in (False, True))
    for spaced in (f" {text}", f"{text} ", f"  {text} "):
        assert one.cell(spaced)[:2] == (value, False)
        assert several.cell(f"{spaced}\\{text}")[:2] == ([value] * 2, False)


KEYS = st.sampled_from(
    ["PatientName", "StudyDate", "AcquisitionDateTime", "Rows", "ImageType", "PixelSpacing",
     "FrameIncrementPointer", "InstanceNumber", "SmallestImagePixelValue", "0019100C",
     "00190010", "_raw.00100010", "PatientAge", "ReferencedFrameNumber", "PixelData",
     "RequestAttributesSequence", "ContentSequence", "EncapsulatedDocument"]
)  # fmt: skip
STRUCTS = st.recursive(
    st.dictionaries(KEYS, st.none() | VALUES, max_size=4),
    lambda items: st.dictionaries(
        KEYS, VALUES | st.none() | st.lists(items, min_size=1, max_size=3), max_size=4
    ),
    max_leaves=8,
)
WRITTEN = st.dictionaries(
    st.sampled_from(
        ["0019100C", "SmallestImagePixelValue", "PixelData", "Rows", "PixelSpacing",
         "FrameIncrementPointer", "AcquisitionDateTime", "ReferencedFrameNumber"]
    ),
    st.sampled_from(["US", "DS", "LO", "OB", "UN", "FD", "PN", "DT", "SQ", "AT", "?"]),
)  # fmt: skip


@given(st.lists(STRUCTS, min_size=1, max_size=4), WRITTEN)
def test_rows_give_structs_back(structs: list[dict[str, Any]], vrs: dict[str, str]) -> None:
    structs = [
        {key: value for key, value in each.items() if not _too_long(value)} for each in structs
    ]
    again, _, _ = through_arrow(structs, VRContext({"001910": "ACME 1"}, vrs))
    assert again == structs


@given(STRUCTS, WRITTEN)
@example({"PatientName": None, "ContentSequence": [{"Rows": None, "PatientAge": None}]}, {})
@example({"_b": [{"x": 1, "a": [{"d": 1, "c": 2}]}], "_a": 1}, {})
def test_a_row_does_not_depend_on_the_order_of_fields_in_items(
    struct: dict[str, Any], vrs: dict[str, str]
) -> None:
    context = VRContext({"001910": "ACME 1"}, vrs)
    other = {key: _turned_round(value) for key, value in struct.items()}
    rows = [encode(each, Level(DEFINITIONS), context)[0] for each in (struct, other)]
    assert repr(_in_order(rows[0])) == repr(_in_order(rows[1]))


def _turned_round(value: Any) -> Any:
    """Items with their fields in the other order."""
    if not isinstance(value, list):
        return value
    return [
        {name: _turned_round(field) for name, field in reversed(item.items())} for item in value
    ]


def _in_order(cell: Any) -> Any:
    """A cell with the fields of structs as a schema orders them, lists being as they are."""
    if isinstance(cell, dict):
        return {name: _in_order(field) for name, field in sorted(cell.items())}
    return [_in_order(item) for item in cell] if isinstance(cell, list) else cell


def _too_long(value: object) -> bool:
    """Whether Ion cannot hold a value."""
    if isinstance(value, list):
        return any(_too_long(field) for item in value for field in item.values())
    return isinstance(value, int) and value.bit_length() > 128


def test_rows_give_the_attributes_of_files_back() -> None:
    structs = [file.attributes for file in own_files()]
    again, _, _ = through_arrow(structs)
    assert len(structs) > 100
    for found, expected in zip(again, structs, strict=True):
        assert ion_hash_hex(found) == ion_hash_hex(expected)


def test_every_vr_has_a_kind() -> None:
    assert {kind_of(vr).value for vr in NUMBER_FORMATS} == NUMBER_FORMATS.keys()
    assert kind_of("US or SS") is kind_of("UN") is kind_of("OB") is CellKind.BINARY


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(-3, 3)), max_size=5))
def test_counts_are_sums(added: list[dict[str, int]]) -> None:
    with TemporaryDirectory() as folder, Counts(Path(folder) / "counts") as counts:
        for each in added:
            counts.add(each)
        sums = [sum(each.get(digest, 0) for each in added) for digest in "abc"]
        assert counts.of("abc") == sums


def test_vrs_of_groups_are_what_was_known_last(tmp_path: Path) -> None:
    with Counts(tmp_path / "counts") as counts:
        counts.add({"a": 2, "b": 1})
        counts.know({"a": Known(None, ""), "c": Known("PixelPaddingValue=SS", "")})
        counts.know({"a": Known("PixelPaddingValue=SS", "PixelPaddingValue=?")})
        assert [counts.known(digest) for digest in "abcd"] == [
            Known("PixelPaddingValue=SS", "PixelPaddingValue=?"),
            None,
            Known("PixelPaddingValue=SS", ""),
            None,
        ]
        assert counts.of("abcd") == [2, 1, 0, 0]


SAID = ["", "A=SS", "A=US", "A=SS B[0].C=LO", "B[0].C=LO", "B[0].C=UI"]


@given(st.lists(st.sampled_from(SAID), min_size=1, max_size=6), st.randoms())
def test_what_files_say_together_depends_on_no_order(said: list[str], chance: Random) -> None:
    whole = reduce(merged, said)
    again = [*said, *chance.choices(said, k=2), whole]
    chance.shuffle(again)
    assert reduce(merged, again) == whole
    agreed = {path: vr for path, vr in by_path(whole).items() if vr != DIFFERS}
    assert all(agreed.items() <= by_path(each).items() for each in said)
    assert by_path(whole).keys() == set().union(*map(by_path, said))


def test_counts_that_cannot_be_written_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError) as caught:
        Counts(tmp_path / "nothing" / "counts")
    assert caught.value.code == "archive/unwritable"


def test_counts_on_a_full_disk_are_an_error(tmp_path: Path) -> None:
    with Counts(tmp_path / "counts") as counts:
        counts._connection.execute("PRAGMA max_page_count = 1")
        with pytest.raises(ArchiveError) as caught:
            counts.add({f"{number:064}": 1 for number in range(1000)})
    assert caught.value.code == "archive/full"


ROWS = st.lists(st.tuples(st.text("abcé\U0001f600", min_size=1, max_size=3), st.integers(1, 4)))
CUTS = st.lists(st.integers(0, 9), max_size=4)


@given(ROWS, st.sets(st.integers(0, 20)), CUTS, CUTS, st.integers(1, 5))
def test_rows_of_two_are_in_one_order(
    studies: list[tuple[str, int]],
    new: set[int],
    old_cuts: list[int],
    new_cuts: list[int],
    few: int,
) -> None:
    fields: list[pa.Field[Any]] = [
        *(pa.field("uid", pa.string()), pa.field("row", pa.int64())),
        *(pa.field("label", LABEL), pa.field("new", pa.bool_())),
    ]
    schema = pa.schema(fields)
    sides: tuple[list[Row], list[Row]] = ([], [])
    for at, (uid, count) in enumerate(sorted(dict(studies).items())):
        rows = [{"uid": uid, "row": n, "label": f"{uid} {n}", "new": None} for n in range(count)]
        sides[at in new].extend({**row, "new": True} if at in new else row for row in rows)
    old = _cut(pa.Table.from_pylist(sides[0], schema).drop_columns("new"), old_cuts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "BATCH_ROWS", few)
        tables = [
            *parquet.interleaved(
                old, _cut(pa.Table.from_pylist(sides[1], schema), new_cuts), "uid", schema
            )
        ]
    found = [row for table in tables for row in table.to_pylist()]
    assert found == sorted(sides[0] + sides[1], key=lambda row: (row["uid"], row["row"]))
    assert all(table.schema == schema and len(table) for table in tables)
    assert len(tables) <= sum(-(-len(rows) // few) for rows in sides) + len(old_cuts + new_cuts)


def _cut(table: pa.Table, cuts: list[int]) -> list[pa.Table]:
    """The rows in tables with so many, and one with the rest; some of them are empty."""
    pieces = []
    for count in cuts:
        pieces.append(table.slice(0, count))
        table = table.slice(count)
    return [*pieces, table]
