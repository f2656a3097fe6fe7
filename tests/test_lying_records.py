"""Instance records that lie in one field: refused when they come in, one by one."""

from __future__ import annotations

import copy
import hashlib
import shutil
import struct
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import dicomstudy
from dicomstudy import instance_record, ion
from dicomstudy.errors import RecordError
from dicomstudy.show import render
from fixtures import make
from tests import studies
from tests.strategies import DEFINITIONS

HOSPITAL = Path(make.__file__).parent / "archive"
UIDS = {"StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.3", "SOPInstanceUID": "1.4"}
SHA256 = "0123456789abcdef" * 4

#: The place of a field in a record, and what is put there.
Lie = tuple[tuple[str | int, ...], Any]


def has_fragments(record: dict[str, Any]) -> bool:
    return "fragments" in (record["dataSet"].get("PixelData") or ())


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A record with encapsulated pixel data in a file, with its layout."""
    out = tmp_path_factory.mktemp("records")
    dicomstudy.write_records([HOSPITAL], out)
    records = (ion.loads(path.read_bytes()) for path in sorted(out.rglob("*.ion")))
    return next(record for record in records if has_fragments(record))


def lying(record: dict[str, Any], place: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    """The record with one field changed, or one more."""
    lie = copy.deepcopy(record)
    inner: Any = lie
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    return lie


def foreign(**attributes: Any) -> dict[str, Any]:
    """A record such as dicom2ion-js writes them."""
    return {
        "sourceInfo": {"uri": "file:///nowhere/1.dcm"},
        "fileInfo": {"sha256": SHA256},
        "dataSet": UIDS | attributes,
    }


def reference(**fields: Any) -> dict[str, Any]:
    return {"dataOffset": 0, "length": 300, "sha256": SHA256} | fields


LIES_ABOUT_FILES: dict[str, Lie] = {
    "a URI that is no text": (("sourceInfo", "uri"), 5),
    "a URI that is null": (("sourceInfo", "uri"), None),
    "a source that is no struct": (("sourceInfo",), ["file:///a"]),
    "a digest that is a path": (("fileInfo", "sha256"), "a/b"),
    "a digest with NUL": (("fileInfo", "sha256"), "a\0b"),
    "a digest with an escape": (("fileInfo", "sha256"), "\x1b[31m"),
    "a digest in capitals": (("fileInfo", "sha256"), SHA256.upper()),
    "a negative size": (("fileInfo", "size"), -1),
    "a size that no file has": (("fileInfo", "size"), 1 << 63),
}
LIES_ABOUT_VALUES: dict[str, Lie] = {
    "a length beyond all": (("dataSet", "PixelData", "length"), 1 << 62),
    "the longest length of 32 bits": (("dataSet", "PixelData", "length"), 4294967294),
    "a negative length": (("dataSet", "PixelData", "length"), -1),
    "a length below that of the fragments": (("dataSet", "PixelData", "length"), 9),
    "fragments that are none": (("dataSet", "PixelData", "fragments"), 5),
    "a negative fragment": (("dataSet", "PixelData", "fragments"), [-8]),
    "a fragment beyond all": (("dataSet", "PixelData", "fragments"), [1 << 62]),
    "a fragment that is a bool": (("dataSet", "PixelData", "fragments"), [True]),
    "an offset that is text": (("dataSet", "PixelData", "dataOffset"), "x"),
    "an offset that is null": (("dataSet", "PixelData", "dataOffset"), None),
    "an offset that is a struct": (("dataSet", "PixelData", "dataOffset"), {}),
    "an offset that is a list": (("dataSet", "PixelData", "dataOffset"), []),
    "a negative offset": (("dataSet", "PixelData", "dataOffset"), -1),
    "an offset behind the file": (("dataSet", "PixelData", "dataOffset"), 1 << 40),
    "a digest that is a struct": (("dataSet", "PixelData", "sha256"), {}),
    "a digest that is a list": (("dataSet", "PixelData", "sha256"), []),
    "a file of its own": (("dataSet", "PixelData", "uri"), "file:///etc/passwd"),
    "a place in a bulk file": (("dataSet", "PixelData", "stored"), [5]),
    "an offset in a bulk file": (("dataSet", "PixelData", "offset"), 5),
    "a digest of its source": (("dataSet", "PixelData", "source"), SHA256),
    "a time of its source": (("dataSet", "PixelData", "modified"), 5),
    "bytes beside a place": (("dataSet", "PixelData", "data"), b"bytes"),
    "a deflate stream that is text": (("dataSet", "_deflated"), "x"),
    "a deflate stream that is a list": (("dataSet", "_deflated"), []),
    "what is behind the data set, as a number": (("dataSet", "_trailing"), 5),
    "an empty struct": (("dataSet", "PatientComments"), {}),
    "a length only": (("dataSet", "PatientComments"), {"length": 5}),
    "a struct of something": (("dataSet", "PatientComments"), {"a": 1}),
    "a reference of text without digest": (
        ("dataSet", "PatientComments"),
        {"length": 60, "dataOffset": 0},
    ),
    "bytes of another length": (
        ("dataSet", "PatientComments"),
        {"length": 60, "sha256": SHA256, "data": b"bytes"},
    ),
    "an item with a length that is text": (
        ("dataSet", "ReferencedStudySequence"),
        [{"PatientComments": {"length": "x"}}],
    ),
    "an item with a digest that is a list": (
        ("dataSet", "ReferencedStudySequence"),
        [{"PatientComments": reference(sha256=[])}],
    ),
    "an item of an item with an empty struct": (
        ("dataSet", "ReferencedStudySequence"),
        [{"ReferencedSeriesSequence": [{"PatientComments": {}}]}],
    ),
    "an item that could be a reference": (
        ("dataSet", "ReferencedStudySequence"),
        [{"length": 5, "sha256": SHA256}],
    ),
    "an item that is no struct": (("dataSet", "ReferencedStudySequence"), [5]),
    "an item with an empty key": (("dataSet", "ReferencedStudySequence"), [{"": 1}]),
    "an empty key": (("dataSet", ""), 1),
    "a field of documents": (("dataSet", "_versions"), [{"a": 1}]),
    "VRs that are no struct": (("dataSet", "_vrs"), "LO"),
    "a VR that is no text": (("dataSet", "_vrs"), {"00091010": []}),
    "raw bytes that are none": (("dataSet", "_raw.00100010"), 5),
    "a preamble that is text": (("dataSet", "_preamble"), "x"),
}


def refused(record: dict[str, Any], tmp_path: Path, *, bulk: str = "reference") -> str:
    """The code of the problem that a record alone has beside a sound file.

    To copy values, the file of the record is read.
    """
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a lie.ion").write_bytes(ion.dumps(record))
    (folder / "sound.dcm").write_bytes(make.ct_slice("sound", 1, 1))
    report = dicomstudy.convert([folder], tmp_path / "archive", bulk=bulk)
    assert (report.instances, report.refused) == (1, 1)
    (problem,) = report.problems
    assert Path(problem.source or "").name == "a lie.ion"
    assert dicomstudy.verify(tmp_path / "archive").problems == []
    return problem.code


@pytest.mark.parametrize("lie", LIES_ABOUT_FILES.values(), ids=LIES_ABOUT_FILES)
def test_what_lies_about_its_file_is_no_record(
    lie: Lie, sound: dict[str, Any], tmp_path: Path
) -> None:
    assert refused(lying(sound, *lie), tmp_path) == "record/not-a-record"


@pytest.mark.parametrize("lie", LIES_ABOUT_VALUES.values(), ids=LIES_ABOUT_VALUES)
def test_a_value_that_cannot_be_one_is_refused(
    lie: Lie, sound: dict[str, Any], tmp_path: Path
) -> None:
    assert refused(lying(sound, *lie), tmp_path) == "record/value"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("preamble", 1), ("preamble", Decimal(1)), ("preamble", None), ("byteOrder", 5)),
        *(("byteOrder", "middle"), ("meta", None), ("dataSet", ["00100010PN"])),
        *(("maker", "x"), ("maker", Decimal("1.5")), ("maker", {"name": ["x"]}), ("", 1)),
    ],
)
def test_an_encoding_has_its_fields_and_no_others(
    field: str, value: object, sound: dict[str, Any], tmp_path: Path
) -> None:
    """No document could be read that had others."""
    assert refused(lying(sound, ("encoding", field), value), tmp_path) == "record/encoding"


@pytest.mark.parametrize("there", [True, False], ids=["with its file", "alone"])
def test_the_attributes_of_a_deflated_file_are_those_of_its_stream(
    there: bool, tmp_path: Path
) -> None:
    """Else who edits a record finds the old value in the file, and is not told."""
    (source,) = (HOSPITAL / "encodings").glob("deflated*")
    studies.write_files(tmp_path / "files", [("1.dcm", source.read_bytes())])
    # its stream is in the record, or else in the file, which is read then
    limit = 256 if there else 1 << 20
    dicomstudy.write_records([tmp_path / "files"], tmp_path / "records", max_inline=limit)
    if not there:
        shutil.rmtree(tmp_path / "files")
    (path,) = (tmp_path / "records").rglob("*.ion")
    record: Any = ion.loads(path.read_bytes())
    report = dicomstudy.convert([path], tmp_path / "sound")
    assert (report.instances, report.problems) == (1, [])
    lie = lying(record, ("dataSet", "PatientID"), "another")
    assert refused(lie, tmp_path, bulk="copy") == "record/file"


def test_items_are_no_deeper_than_in_files(sound: dict[str, Any], tmp_path: Path) -> None:
    """A document with a deeper one could not be written, with no instance of the study."""
    value: Any = None
    for _ in range(100):
        value = [{"ProcedureCodeSequence": value}]
    lie = lying(sound, ("dataSet", "ProcedureCodeSequence"), value)
    assert refused(lie, tmp_path) == "record/value"
    (tmp_path / "foreign").mkdir()
    assert refused(foreign(ProcedureCodeSequence=value), tmp_path / "foreign") == "record/value"


@pytest.mark.parametrize(
    "attributes",
    [
        {"": 1},
        {"PatientComments": {}},
        {"PatientComments": {"length": 5}},
        {"PatientComments": {"a": 1}},
        {"PatientComments": {"length": 60, "dataOffset": 0}},
        {"PatientComments": reference(uri="file:///etc/passwd")},
        {"PatientComments": reference(data=b"x" * 300)},
        {"PatientComments": reference(sha256={})},
        {"PixelData": reference(length=1 << 62, fragments=[0, 8])},
        {"PixelData": reference(length=4294967294, fragments=[0, 8])},
        {"PixelData": reference(basicOffsetTable=[], fragments=[{"length": "x"}])},
        {"PixelData": reference(basicOffsetTable=5, fragments=[])},
        {"PixelData": reference(dataOffset="x")},
        {"RequestAttributesSequence": [{"PatientComments": {"length": "x"}}]},
    ],
    ids=repr,
)
def test_records_of_dicom2ion_are_not_believed_either(
    attributes: dict[str, Any], tmp_path: Path
) -> None:
    assert refused(foreign(**attributes), tmp_path) == "record/value"


def test_the_record_without_lies_is_taken_in(sound: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "1.ion").write_bytes(ion.dumps(sound))
    report = dicomstudy.convert([tmp_path / "1.ion"], tmp_path / "archive")
    assert (report.instances, report.problems) == (1, [])
    assert dicomstudy.verify(tmp_path / "archive").problems == []


def test_fragments_of_dicom2ion_are_the_lengths_that_ours_are(tmp_path: Path) -> None:
    pixels = b"\xfe\xff\x00\xe0\4\0\0\0\0\0\0\0" + b"\xfe\xff\x00\xe0\2\0\0\0ab"
    pixels += b"\xfe\xff\xdd\xe0\0\0\0\0"
    (tmp_path / "1.dcm").write_bytes(bytes(128) + b"DICM" + pixels)
    value = reference(
        dataOffset=132,
        length=len(pixels),
        sha256=ion.ion_hash_hex(pixels),
        encapsulatedPixelData=True,
        basicOffsetTable=[0],
        fragments=[{"offset": 0, "position": 152, "length": 2}],
    )
    record = foreign(PixelData=value) | {"sourceInfo": {"uri": (tmp_path / "1.dcm").as_uri()}}
    (tmp_path / "1.ion").write_bytes(ion.dumps(record))
    report = dicomstudy.convert([tmp_path / "1.ion"], tmp_path / "archive")
    assert report.problems == []
    instance = dicomstudy.open_archive(tmp_path / "archive")["1.2"]["1.4"]
    del value["encapsulatedPixelData"], value["basicOffsetTable"]
    assert instance.attributes()["PixelData"] == value | {"fragments": [4, 2]}
    assert list(instance.frames()) == [b"ab"]


def test_every_record_of_dicom2ion_is_taken_in(shared: Path, tmp_path: Path) -> None:
    records = sorted((shared / "golden/sopInstance").rglob("*.dcm.ion"))
    report = dicomstudy.convert(records, tmp_path / "archive")
    assert (report.instances + report.unchanged, report.problems) == (len(records), [])


def test_a_value_that_is_not_what_its_digest_says_leaves_nothing_behind(tmp_path: Path) -> None:
    dicomstudy.write_records([HOSPITAL / "late.tar"], tmp_path / "records")
    path = next(iter(sorted((tmp_path / "records").rglob("*.ion"))))
    record = ion.loads(path.read_bytes())
    value = next(v for v in record["dataSet"].values() if isinstance(v, dict) and "data" in v)
    value["data"] = bytes(len(value["data"]))
    path.write_bytes(ion.dumps(record))
    report = dicomstudy.convert([path], tmp_path / "archive")
    assert [problem.code for problem in report.problems] == ["record/digest"]
    assert (report.refused, report.studies, report.bytes_in) == (1, 0, 0)


@pytest.mark.parametrize("syntax", [[{}], 5])
def test_frames_do_not_ask_what_kind_of_value_a_transfer_syntax_is(
    syntax: object, tmp_path: Path
) -> None:
    pixels = {"Rows": 1, "Columns": 2, "BitsAllocated": 8, "SamplesPerPixel": 1, "PixelData": b"ab"}
    archive = archive_of(foreign(TransferSyntaxUID=syntax, **pixels), tmp_path)
    instance = dicomstudy.open_archive(archive)["1.2"]["1.4"]
    assert list(instance.frames()) == [b"ab"]


def archive_of(record: dict[str, Any], tmp_path: Path) -> Path:
    (tmp_path / "1.ion").write_bytes(ion.dumps(record))
    assert dicomstudy.convert([tmp_path / "1.ion"], tmp_path / "archive").problems == []
    return tmp_path / "archive"


@pytest.mark.parametrize("keyword", ["PatientComments", "PixelData"])
def test_no_file_is_read_that_could_be_any(keyword: str, tmp_path: Path) -> None:
    """A record that says neither size nor digest could name a file that is none of a study."""
    secret = tmp_path / "passwd"
    secret.write_bytes(b"root:x:0:0:" * 100)
    record = foreign(**{keyword: reference()}) | {"sourceInfo": {"uri": secret.as_uri()}}
    archive = archive_of(record, tmp_path)
    instance = dicomstudy.open_archive(archive)["1.2"]["1.4"]
    with pytest.raises(dicomstudy.BulkError) as raised:
        b"".join(instance.value_pieces(instance.attributes()[keyword]))
    assert raised.value.code == "bulk/source-changed"


COMMENTS = b"x" * 300
DIGESTS = {
    "Ion Hash": ion.ion_hash_hex(COMMENTS),
    "SHA-256": hashlib.sha256(COMMENTS).hexdigest(),
}


def with_comments(tmp_path: Path, **fields: Any) -> tuple[Path, Path]:
    """A P10 file with a long text, and an archive of the record that refers to it."""
    file = tmp_path / "in" / "1.dcm"
    file.parent.mkdir()
    file.write_bytes(bytes(128) + b"DICM" + COMMENTS)
    text = reference(dataOffset=132, sha256=DIGESTS["Ion Hash"]) | fields
    record = foreign(PatientComments=text) | {"sourceInfo": {"uri": file.as_uri()}}
    return file, archive_of(record, tmp_path)


def refusal(archive: Path, sources: Sequence[Path] = ()) -> str:
    """The code with which the value is refused, which `verify` says too."""
    with pytest.raises(dicomstudy.BulkError) as raised:
        dicomstudy.open_archive(archive, sources=sources)["1.2"]["1.4"].to_json()
    problems = dicomstudy.verify(archive, sources=sources).problems
    assert [problem.code for problem in problems] == [raised.value.code]
    return raised.value.code


@pytest.mark.parametrize("digest", DIGESTS.values(), ids=DIGESTS)
def test_the_text_of_a_record_comes_from_its_p10_file(digest: str, tmp_path: Path) -> None:
    _, archive = with_comments(tmp_path, sha256=digest)
    assert "x" * 300 in "".join(render(dicomstudy.open_archive(archive), "1.4", form="json"))
    assert dicomstudy.verify(archive).problems == []


def test_a_value_of_a_record_is_what_its_digest_says(tmp_path: Path) -> None:
    file, archive = with_comments(tmp_path)
    file.write_bytes(file.read_bytes().replace(b"xxx", b"yyy", 1))
    assert refusal(archive) == "bulk/source-changed"
    file.unlink()
    assert refusal(archive) == "bulk/source-missing"


def test_the_p10_file_of_a_record_is_found_by_its_name_and_its_value(tmp_path: Path) -> None:
    file, archive = with_comments(tmp_path)
    for folder, content in {"a": b"other", "b": file.read_bytes(), "c": b"another"}.items():
        (tmp_path / "moved" / folder).mkdir(parents=True)
        (tmp_path / "moved" / folder / "1.dcm").write_bytes(content)
    file.unlink()
    assert dicomstudy.verify(archive, sources=[tmp_path / "moved"]).problems == []
    (tmp_path / "moved/b/1.dcm").rename(tmp_path / "moved/b/2.dcm")
    assert refusal(archive, [tmp_path / "moved"]) == "bulk/source-changed"


def test_the_values_of_records_of_dicom2ion_are_proved(shared: Path, tmp_path: Path) -> None:
    """The files of the corpus have what the records of its authors refer to, but for some."""
    records = sorted((shared / "golden/sopInstance/ClearCanvas").rglob("*.dcm.ion"))
    dicomstudy.convert(records, tmp_path / "archive")
    found = dicomstudy.verify(tmp_path / "archive", sources=[shared / "corpus"])
    there = {path.name for path in (shared / "corpus").rglob("*.dcm")}
    missing = [path.name for path in records if path.name.removesuffix(".ion") not in there]
    assert 0 < len(missing) < found.instances == len(records)
    assert [p.code for p in found.problems] == ["bulk/source-missing"] * len(missing)


@pytest.mark.parametrize("length", [301, 1 << 62])
def test_a_value_beyond_the_end_of_its_file_is_a_problem(length: int, tmp_path: Path) -> None:
    _, archive = with_comments(tmp_path, length=length)
    assert refusal(archive) == "bulk/source-changed"


def test_pixel_data_without_a_digest_comes_from_a_p10_file(tmp_path: Path) -> None:
    file = tmp_path / "1.dcm"
    file.write_bytes(bytes(128) + b"DICM" + b"x" * 300)
    image = {"Rows": 15, "Columns": 20, "BitsAllocated": 8, "SamplesPerPixel": 1}
    pixels = {"dataOffset": 132, "length": 300}
    record = foreign(**image, PixelData=pixels) | {"sourceInfo": {"uri": file.as_uri()}}
    instance = dicomstudy.open_archive(archive_of(record, tmp_path))["1.2"]["1.4"]
    assert list(instance.frames()) == [b"x" * 300]
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(dicomstudy.BulkError) as raised:
        list(instance.frames())
    assert raised.value.code == "bulk/place"


# -- records of many values --------------------------------------------------------------------


def binary_of(count: int) -> bytes:
    """A list of empty structs."""
    return b"\xe0\x01\x00\xea\xbe" + varuint(count) + b"\xd0" * count


def table_of(count: int) -> bytes:
    """A symbol table of empty symbols, and no value."""
    symbols = b"\x87\xbe" + varuint(count) + b"\x80" * count
    table = b"\x81\x83\xde" + varuint(len(symbols)) + symbols
    return b"\xe0\x01\x00\xea\xee" + varuint(len(table)) + table


def varuint(value: int) -> bytes:
    groups = [value >> shift & 0x7F for shift in (28, 21, 14, 7, 0)]
    return struct.pack("5B", *groups[:4], groups[4] | 0x80)


@pytest.mark.parametrize(
    "make_it",
    [
        binary_of,
        table_of,
        lambda count: b"[" + b"{}," * count + b"]",
        lambda count: b"1 " * count,
        lambda count: b"(" + b"/ " * count + b")",
        lambda count: b"[{{////}}," + b"{}," * count + b"]",
        lambda count: b"[" + b"a::b::1," * count + b"]",
        lambda count: b'["\\"",' + b"'''a''',//\n" * count + b"]",
    ],
)
def test_a_record_of_too_many_values_is_too_large(make_it: Callable[[int], bytes]) -> None:
    with pytest.raises(RecordError) as raised:
        instance_record.load(make_it((1 << 22) + 1), DEFINITIONS, source="many.ion")
    assert raised.value.code == "record/too-large"


@pytest.mark.parametrize("text", [False, True], ids=["binary", "text"])
def test_values_are_counted_as_they_are(text: bool) -> None:
    value = {"a": [1, "b, c: [", {"d": b"//" * 50, "e f": None}], "g": {"h": "'"}}
    data = ion.dumps([value] * 50, text=text)
    count = 1 + 50 * 9
    more = 0 if text else 8 + 3  # the symbols, and what they stand in
    assert ion.loads(data, max_values=count + more) == [value] * 50
    with pytest.raises(dicomstudy.IonError) as raised:
        ion.loads(data, max_values=count - 1)
    assert raised.value.code == "ion/too-large"


@pytest.mark.parametrize(
    "uri", ["http://[", "file:///a%00b", "file:///dev/null", "", "file:///etc"]
)
def test_a_uri_that_names_no_file_is_that_of_a_file_that_is_gone(
    uri: str, sound: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "lie.ion").write_bytes(ion.dumps(lying(sound, ("sourceInfo", "uri"), uri)))
    dicomstudy.convert([tmp_path / "lie.ion"], tmp_path / "archive")
    for problems in (
        dicomstudy.verify(tmp_path / "archive").problems,
        dicomstudy.restore(tmp_path / "archive", tmp_path / "out").problems,
    ):
        assert [problem.code for problem in problems] == ["bulk/source-missing"]


@pytest.fixture(params=["whole", "with a place"])
def written(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """A record with items, and with pixel data that stays in the file if it is not whole."""
    other = make.item(make.element(0x00100020, "LO", "OTHER"))
    replace = {0x00101002: make.element(0x00101002, "SQ", other + make.item())}
    if request.param == "whole":
        replace[0x7FE00010] = b""
    path = tmp_path / "1.dcm"
    path.write_bytes(make.ct_slice("lies", 1, 1, replace=replace))
    dicomstudy.write_records([path], tmp_path / "records")
    (record,) = (tmp_path / "records").iterdir()
    struct: dict[str, Any] = ion.loads(record.read_bytes())
    return struct


ITEMS = "OtherPatientIDsSequence"
#: What is put where, None for nothing; and the code.
CONTRADICTIONS: dict[str, tuple[tuple[str | int, ...], Any, str]] = {
    "no attribute": (("PatientName",), None, "record/missing-attribute"),
    "no attribute in an item": ((ITEMS, 0, "PatientID"), None, "record/missing-attribute"),
    "an item less": ((ITEMS, 1), None, "record/items"),
    "text for items": ((ITEMS,), "x", "record/items"),
    "items for text": (("PatientName",), [{}], "record/value"),
    "text for a number": (("Rows",), "x", "record/value"),
    "a number out of range": (("Rows",), 70000, "record/value"),
    "text beyond the character set": (("PatientName",), "\u65e5\u672c", "record/value"),
    "text beyond its header": (("PatientName",), "x" * 70000, "p10/too-long"),
    "text of another length": (("PatientName",), "Other^Name^Longer", "record/file"),
    "a short preamble": (("_preamble",), b"abc", "record/value"),
    "a path that is none": (("_raw.x",), b"abc", "record/raw-path"),
    "an attribute more": (("PatientComments",), "forged", "record/value"),
    "an attribute more in an item": ((ITEMS, 0, "PatientName"), "forged", "record/value"),
    "an attribute in no item": ((ITEMS, 1, "PatientName"), "forged", "record/value"),
    "a repeated attribute more": (("PatientName#1",), "forged", "record/value"),
    "a private attribute more": (("00091099",), "forged", "record/value"),
    "a name of nothing": (("MyNote",), "forged", "record/value"),
    "something behind it": (("_trailing",), b"abc", "record/file"),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_a_record_of_another_file_is_refused(
    name: str, written: dict[str, Any], tmp_path: Path
) -> None:
    place, value, code = CONTRADICTIONS[name]
    lie = lying(written, ("dataSet", *place), value)
    if value is None:
        inner = lie["dataSet"]
        for step in place[:-1]:
            inner = inner[step]
        del inner[place[-1]]
    assert refused(lie, tmp_path) == code


def test_a_record_of_another_size_is_refused(written: dict[str, Any], tmp_path: Path) -> None:
    lie = lying(written, ("fileInfo", "size"), written["fileInfo"]["size"] + 1)
    assert refused(lie, tmp_path) == "record/file"


@pytest.mark.parametrize("written", ["with a place"], indirect=True)
def test_a_record_of_another_place_is_refused(written: dict[str, Any], tmp_path: Path) -> None:
    offset = written["dataSet"]["PixelData"]["dataOffset"]
    lie = lying(written, ("dataSet", "PixelData", "dataOffset"), offset - 1)
    assert refused(lie, tmp_path) == "record/file"


@pytest.mark.parametrize("written", ["whole"], indirect=True)
@pytest.mark.parametrize(
    ("place", "value"),
    [(("dataSet", "PatientName"), "eXAMPLE"), (("fileInfo", "sha256"), SHA256)],
    ids=["a name", "a digest"],
)
def test_a_record_that_has_all_bytes_is_compared_with_the_digest(
    place: tuple[str, str], value: str, written: dict[str, Any], tmp_path: Path
) -> None:
    """Where values stay in the file, it would have to be read."""
    if place[1] == "PatientName":
        value = value.ljust(len(written["dataSet"]["PatientName"]), "x")
    assert refused(lying(written, place, value), tmp_path) == "record/file"


@pytest.mark.parametrize("written", ["with a place"], indirect=True)
def test_a_record_is_compared_with_a_file_that_values_are_copied_of(
    written: dict[str, Any], tmp_path: Path
) -> None:
    name = "eXAMPLE".ljust(len(written["dataSet"]["PatientName"]), "x")
    lie = lying(written, ("dataSet", "PatientName"), name)
    assert refused(lie, tmp_path, bulk="copy") == "record/file"


def test_items_that_have_no_bytes_cost_none(written: dict[str, Any], tmp_path: Path) -> None:
    """Before there are so many in memory."""
    lie = lying(written, ("fileInfo", "size"), 1 << 62)
    lie["dataSet"][ITEMS][0]["PatientID"] = reference(length=1 << 40)
    assert refused(lie, tmp_path) == "record/file"


def test_a_large_value_has_one_length(written: dict[str, Any], tmp_path: Path) -> None:
    """Its bytes stand for no other value."""
    data = b"x" * 1000
    digest = hashlib.sha256(data).hexdigest()
    value = {"length": 1000, "sha256": digest, "data": data}
    lie = lying(written, ("dataSet", ITEMS, 0, "PatientID"), reference(sha256=digest, length=5))
    lie["dataSet"]["StudyDescription"] = value
    assert refused(lie, tmp_path) == "record/value"


@pytest.mark.parametrize("max_inline", [5, 256])
def test_a_large_value_may_stand_in_an_item_too(max_inline: int, tmp_path: Path) -> None:
    text = "as it was." * 40
    item = make.item(make.element(0x00104000, "LT", text))
    replace = {
        0x00081120: make.element(0x00081120, "SQ", item),
        0x00104000: make.element(0x00104000, "LT", text),
        0x00400555: make.element(0x00400555, "SQ", item * 2),
    }
    studies.write_files(tmp_path / "in", [("1.dcm", make.ct_slice("s", 1, 1, replace=replace))])
    dicomstudy.write_records([tmp_path / "in"], tmp_path / "records", max_inline=max_inline)
    report = dicomstudy.convert([tmp_path / "records"], tmp_path / "archive", bulk="reference")
    assert (report.instances, report.problems) == (1, [])
    assert dicomstudy.restore(tmp_path / "archive", tmp_path / "out").files == 1
