"""Files as careless programs write them: what pydicom reads of them, studies have (spec/p10.md)."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom import Dataset

import dicomstudy
from dicomstudy import p10
from dicomstudy.p10.lookahead import Lookahead
from dicomstudy.study import Instance
from fixtures import make
from fixtures.make import delimiter, element, item

END_OF_SEQUENCE, END_OF_ITEM = delimiter(0xFFFEE0DD), delimiter(0xFFFEE00D)
IMAGES, SERIES = 0x00081140, 0x00081115
CLASS, SOP, STUDY = make.SECONDARY_CAPTURE, "1.2.3.1", "1.2.3.2"

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.usefixtures("quiet_pydicom"),
]


def data_set(*between: bytes, explicit: bool = True, big: bool = False) -> bytes:
    """A data set whose study and series come behind what is `between`."""

    def uid(tag: int, value: str) -> bytes:
        return element(tag, "UI", value, explicit=explicit, big=big)

    return b"".join(
        [
            uid(0x00080016, CLASS),
            uid(0x00080018, SOP),
            *between,
            element(0x00100010, "PN", "A^B", explicit=explicit, big=big),
            uid(0x0020000D, STUDY),
            uid(0x0020000E, "1.2.3.3"),
            element(0x00280010, "US", 2, explicit=explicit, big=big),
        ]
    )


def file_of(*between: bytes) -> bytes:
    return make.part10(make.file_meta(sop_instance=SOP), data_set(*between))


def taken_in(data: bytes, folder: Path, *, max_inline: int = 256) -> Instance:
    """The one instance of an archive that a file was taken into, which is sound and exact."""
    (folder / "source").mkdir()
    (folder / "source" / "a.dcm").write_bytes(data)
    report = dicomstudy.convert([folder / "source"], folder / "archive", max_inline=max_inline)
    assert (report.instances, report.quarantined, report.skipped) == (1, 0, 0), report.problems
    assert dicomstudy.verify(folder / "archive").problems == []
    (study,) = dicomstudy.open_archive(folder / "archive").values()
    (instance,) = study.values()
    assert instance.to_p10() == data
    return instance


def read_by_pydicom(data: bytes, **options: Any) -> Dataset:
    return pydicom.dcmread(io.BytesIO(data), **options)


def model_of(dataset: Dataset) -> dict[str, Any]:
    """The JSON model of pydicom, which cannot give delimiters and does not need to."""
    model = {}
    for tag in dataset.keys():  # noqa: SIM118 (elements are decoded one by one)
        if tag.group == 0xFFFE:
            continue
        found = dataset[tag]
        if found.VR == "SQ":
            items = [model_of(each) for each in found.value]
            model[f"{tag:08X}"] = {"vr": "SQ", **({"Value": items} if items else {})}
        else:
            model[f"{tag:08X}"] = found.to_json_dict(None, 0)
    return model


# -- delimiters --------------------------------------------------------------------------------

UID = element(0x00081155, "UI", "1.2.3.4")
NESTED = element(IMAGES, "SQ", item(UID)) + END_OF_SEQUENCE
NESTED_OPEN = element(IMAGES, "SQ", item(UID), undefined=True)


@pytest.mark.parametrize(
    "between",
    [
        element(IMAGES, "SQ", item(UID)) + END_OF_SEQUENCE,
        element(IMAGES, "SQ", b"") + END_OF_SEQUENCE,
        element(IMAGES, "SQ", item(UID, undefined=True), undefined=True) + 2 * END_OF_SEQUENCE,
        element(IMAGES, "SQ", b"") + item(UID) + END_OF_SEQUENCE,
        element(IMAGES, "SQ", b"") + item(UID, undefined=True) + END_OF_SEQUENCE,
        element(IMAGES, "SQ", item(UID) + END_OF_ITEM, undefined=True),
        element(IMAGES, "SQ", END_OF_ITEM + item(NESTED_OPEN), undefined=True),
        element(IMAGES, "SQ", item() + END_OF_ITEM, undefined=True),
        element(IMAGES, "SQ", item(UID, undefined=True) + END_OF_ITEM, undefined=True),
        element(IMAGES, "SQ", item(UID) + END_OF_ITEM + item(UID) + END_OF_ITEM),
        element(IMAGES, "SQ", item(UID + END_OF_ITEM)),
        element(IMAGES, "SQ", item(UID) + END_OF_SEQUENCE),
        element(IMAGES, "SQ", END_OF_SEQUENCE),
        element(IMAGES, "SQ", item(UID) + bytes(16)),
        element(IMAGES, "SQ", item(UID) + bytes(16), undefined=True),
        element(IMAGES, "SQ", item(UID, undefined=True) + item(length=make.UNDEFINED) + UID),
        element(IMAGES, "SQ", 2000 * (item(UID) + END_OF_ITEM), undefined=True),
        element(IMAGES, "SQ", 2000 * (item(UID) + END_OF_ITEM) + END_OF_SEQUENCE),
        element(SERIES, "SQ", item(NESTED + UID, undefined=True), undefined=True),
        element(SERIES, "SQ", item(NESTED + UID)) + END_OF_SEQUENCE,
    ],
    ids=[
        *("behind-defined", "behind-empty", "twice", "item-behind-empty", "items-behind-empty"),
        *(
            "item-delimiter",
            "item-delimiter-first",
            "item-delimiter-behind-empty",
            "item-delimiter-twice",
        ),
        *("item-delimiters-in-defined", "in-item", "in-sequence", "only-delimiter"),
        *("zeros-in-defined", "zeros", "no-item-delimiter"),
        *("many", "many-in-defined", "nested", "nested-in-defined"),
    ],
)
def test_delimiters_that_end_nothing_end_no_data_set(between: bytes, tmp_path: Path) -> None:
    data = file_of(between)
    instance = taken_in(data, tmp_path)
    assert instance.to_json() == model_of(read_by_pydicom(data))
    assert not [key for key in instance.metadata() if key.startswith("FFFE")]
    assert "FFFE" not in str(instance.metadata())
    assert dicomstudy.export_tables(tmp_path / "archive", tmp_path / "tables").problems == []
    with dicomstudy.open_tables(tmp_path / "tables") as tables:
        assert not [
            name for table in tables for name in tables[table].schema.names if "FFFE" in name
        ]


def test_an_item_delimiter_between_elements_ends_the_data_set_as_in_pydicom(tmp_path: Path) -> None:
    data = make.part10(make.file_meta(sop_instance=SOP), data_set() + END_OF_ITEM + UID)
    instance = taken_in(data, tmp_path)
    assert instance.to_json() == model_of(read_by_pydicom(data))


def test_edits_of_a_file_with_delimiters_keep_the_order_of_tags(tmp_path: Path) -> None:
    between = element(IMAGES, "SQ", item(UID) + END_OF_ITEM + END_OF_SEQUENCE) + END_OF_SEQUENCE
    taken_in(file_of(between), tmp_path)
    edits = {"PatientID": "1", "ReferencedImageSequence[0].ReferencedSOPInstanceUID": "1.2.3.5"}
    dicomstudy.update(tmp_path / "archive", STUDY, [{"set": edits}])
    (instance,) = dicomstudy.open_archive(tmp_path / "archive")[STUDY].values()
    dataset = read_by_pydicom(instance.to_p10())
    tags = [tag for tag in dataset._dict if tag.group != 0xFFFE]
    assert tags == sorted(tags)
    assert dataset.PatientID == "1"
    assert dataset.ReferencedImageSequence[0].ReferencedSOPInstanceUID == "1.2.3.5"
    assert dataset.Rows == 2


# -- command sets --------------------------------------------------------------------------------

COMMANDS = element(0x00000002, "UI", CLASS, explicit=False) + element(
    0x00000100, "US", 1, explicit=False
)
COMMAND_LENGTH = element(0x00000000, "UL", len(COMMANDS), explicit=False)


@pytest.mark.parametrize("bulk", ["copy", "reference"])
@pytest.mark.parametrize("is_command", [False, True])
def test_a_large_value_in_front_of_the_data_set_is_found(
    bulk: str, tmp_path: Path, *, is_command: bool
) -> None:
    """In an item of file meta information, or of a command set."""
    text = element(0x00082111, "UT", "derived " * 60, explicit=not is_command)
    tag = 0x0000FFF0 if is_command else 0x00020110
    front = element(tag, "SQ", item(text), explicit=not is_command)
    data = make.part10(make.file_meta(sop_instance=SOP), (COMMANDS if is_command else b"") + front)
    (tmp_path / "a.dcm").write_bytes(data + data_set())
    report = dicomstudy.convert([tmp_path / "a.dcm"], tmp_path / "archive", bulk=bulk)
    assert (report.instances, report.problems) == (1, [])
    assert dicomstudy.verify(tmp_path / "archive").problems == []
    (instance,) = dicomstudy.open_archive(tmp_path / "archive")[STUDY].values()
    assert instance.to_p10() == data + data_set()


def test_what_a_command_set_says_is_not_turned_to_unicode(tmp_path: Path) -> None:
    comment = element(0x00000902, "LO", b"gro\xdf ", explicit=False)
    data = make.part10(make.file_meta(sop_instance=SOP), COMMANDS + comment + data_set())
    taken_in(data, tmp_path)
    dicomstudy.update(tmp_path / "archive", STUDY, [{"set": {"PatientName": "\u0416"}}])
    assert dicomstudy.verify(tmp_path / "archive").problems == []
    (instance,) = dicomstudy.open_archive(tmp_path / "archive")[STUDY].values()
    assert comment in instance.to_p10()


@pytest.mark.parametrize("max_inline", [0, 256])
@pytest.mark.parametrize(
    "syntax", [make.EXPLICIT, make.BIG_ENDIAN, make.DEFLATED, make.IMPLICIT], ids="ebdi"
)
@pytest.mark.parametrize(
    "front",
    [COMMANDS, COMMAND_LENGTH + COMMANDS, bytes(8), bytes(64)],
    ids=["bare", "length", "zeros", "many-zeros"],
)
def test_a_command_set_stands_before_the_data_set(
    front: bytes, syntax: str, max_inline: int, tmp_path: Path
) -> None:
    body = data_set(explicit=syntax != make.IMPLICIT, big=syntax == make.BIG_ENDIAN)
    if syntax == make.DEFLATED:
        body = make.deflated(body)
    data = make.part10(make.file_meta(syntax, sop_instance=SOP), front + body)
    instance = taken_in(data, tmp_path, max_inline=max_inline)
    assert p10.read(data).problems == ()
    if max_inline:
        expected = model_of(read_by_pydicom(data))
        expected.pop("00000000", None)  # no group length is in the model
        assert instance.to_json() == expected
    dicomstudy.update(tmp_path / "archive", STUDY, [{"set": {"PatientID": "1"}}])
    (changed,) = dicomstudy.open_archive(tmp_path / "archive")[STUDY].values()
    assert read_by_pydicom(changed.to_p10()).PatientID == "1"


@pytest.mark.parametrize("front", [COMMANDS, COMMAND_LENGTH + COMMANDS], ids=["bare", "length"])
@pytest.mark.parametrize("explicit", [False, True])
def test_a_bare_data_set_may_have_a_command_set(
    front: bytes, *, explicit: bool, tmp_path: Path
) -> None:
    data = front + data_set(explicit=explicit)
    assert taken_in(data, tmp_path).metadata()["Rows"] == 2


def test_zeros_and_no_data_set_are_no_command_set() -> None:
    for count in (8, 64, 8000):
        file = p10.read(make.part10(make.file_meta(sop_instance=SOP), bytes(count)))
        assert file.trailing.length == count
        assert file.problems == ()


# -- broken sequences --------------------------------------------------------------------------

TWICE = UID + UID
#: It ends at its delimiter, whatever it begins with.
TEXT = element(0x00082111, "UT", item(b"text", length=30), undefined=True)


@pytest.mark.parametrize(
    ("between", "code"),
    [
        (element(IMAGES, "SQ", item(UID, length=len(UID) - 2), undefined=True), "truncated"),
        (
            element(IMAGES, "SQ", item(TWICE, length=len(UID) + 1) + item(UID), undefined=True),
            "truncated",
        ),
        (
            element(IMAGES, "SQ", item(UID, length=len(UID) + 4) + item(UID), undefined=True),
            "truncated",
        ),
        (
            element(
                IMAGES,
                "SQ",
                item(UID) + element(0x00080000, "", UID, explicit=False),
                undefined=True,
            ),
            "not-an-item",
        ),
        (
            element(
                SERIES,
                "SQ",
                item(element(IMAGES, "SQ", item(UID, length=4), undefined=True), undefined=True),
                undefined=True,
            ),
            "truncated",
        ),
        (
            element(IMAGES, "SQ", item(TEXT + UID, length=len(TEXT + UID) - 2), undefined=True),
            "truncated",
        ),
        (make.nested(66, tag=IMAGES, explicit=True), "too-deep"),
    ],
    ids=["short", "short-in-row", "long", "no-item", "inside", "text", "deep"],
)
def test_what_is_behind_a_broken_sequence_is_read(
    between: bytes, code: str, tmp_path: Path
) -> None:
    data = file_of(between)
    assert [problem.code for problem in p10.read(data).problems] == [f"p10/{code}"]
    model, expected = taken_in(data, tmp_path).to_json(), model_of(read_by_pydicom(data))
    broken = f"{p10.read(data).elements[2].tag:08X}"
    assert expected.pop(broken)["vr"] == "SQ"
    assert model.pop(broken)["vr"] == "UN"
    assert model == expected


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize("inside", [False, True])
def test_items_are_explicit_or_not_whatever_the_header_of_their_sequence_is(
    inside: bool, explicit: bool, undefined: bool, tmp_path: Path
) -> None:
    """In an explicit data set, the header of the sequence has no VR."""
    uid = element(0x00081155, "UI", "1.2.3.4.5.6.7.8.9.10.11.12", explicit=explicit)
    nested = element(IMAGES, "SQ", item(uid) + item(), explicit=False)
    number = element(0x00081160, "IS", "1", explicit=explicit)
    items = item(uid + nested + number, undefined=undefined)
    between = element(SERIES, "SQ", items, explicit=False, undefined=undefined)
    if inside:
        between = element(0x00081250, "SQ", item(UID + between))
    data = file_of(between)
    instance = taken_in(data, tmp_path)
    assert p10.read(data).problems == ()
    assert instance.to_json() == model_of(read_by_pydicom(data))


# -- values of undefined length ----------------------------------------------------------------


@pytest.mark.parametrize("max_inline", [0, 256])
@pytest.mark.parametrize(
    ("tag", "vr", "value", "explicit"),
    [
        (0x00082111, "UT", b"hello", True),
        (0x00082111, "UT", b" \\hello \0", True),
        (0x00082111, "UT", item(b"abcd"), True),
        (0x00420011, "OB", b"abcd", True),
        (0x00420011, "OB", b"", True),
        (0x00091001, "OB", b"abcd", True),
        (0x60003000, "OW", b"\1\2", True),
        (0x00082111, "ST", b"hello", False),
        (0x00081030, "LO", b"hello ", False),
        (0x00280012, "US", b"\2\0", False),
        (0x00189313, "FD", bytes(7) + b"\1", False),
        (0x00280009, "AT", b"\x18\0\x63\x10", False),
        (0x00091001, "UN", b"abcd", False),
    ],
)
def test_a_delimiter_is_no_part_of_a_value(
    tag: int, vr: str, value: bytes, *, explicit: bool, max_inline: int, tmp_path: Path
) -> None:
    syntax = make.EXPLICIT if explicit else make.IMPLICIT
    written = element(tag, vr, value, explicit=explicit, undefined=True)
    rows = element(0x00280010, "US", 2, explicit=explicit)
    items = item(written + rows) + item(written, undefined=True)
    inside = element(SERIES, "SQ", items, explicit=explicit, undefined=True)
    body = data_set(inside + written, explicit=explicit)
    data = make.part10(make.file_meta(syntax, sop_instance=SOP), body)
    assert p10.read(data).problems == ()
    instance = taken_in(data, tmp_path, max_inline=max_inline)
    if max_inline:
        assert instance.to_json() == model_of(read_by_pydicom(data))
    elif value:
        found = [each for each in instance.metadata().values() if isinstance(each, dict)]
        assert len(value) in [each["length"] for each in found]


@pytest.mark.parametrize("max_inline", [0, 256])
@pytest.mark.parametrize("syntax", [make.EXPLICIT, make.BIG_ENDIAN, make.DEFLATED])
def test_delimiters_of_values_may_have_a_length(
    syntax: str, max_inline: int, tmp_path: Path
) -> None:
    big = syntax == make.BIG_ENDIAN
    end = delimiter(0xFFFEE0DD, length=0xFFFFFFFF, big=big)
    palette = element(0x00281201, "OW", [1, 2], length=make.UNDEFINED, big=big) + end
    body = data_set(palette, big=big)
    body += element(0x7FE00010, "OW", [3, 4], undefined=True, big=big)
    if syntax == make.DEFLATED:
        body = make.deflated(body)
    meta = make.file_meta(syntax, sop_instance=SOP)
    instance = taken_in(make.part10(meta, body), tmp_path, max_inline=max_inline)
    if max_inline:
        model = instance.to_json()
        assert base64.b64decode(model["00281201"]["InlineBinary"]) == b"\1\0\2\0"
        assert base64.b64decode(model["7FE00010"]["InlineBinary"]) == b"\3\0\4\0"
    dicomstudy.update(tmp_path / "archive", STUDY, [{"set": {"PatientID": "1"}}])
    (changed,) = dicomstudy.open_archive(tmp_path / "archive")[STUDY].values()
    dataset = read_by_pydicom(changed.to_p10())
    assert dataset.PatientID == "1"
    assert dataset.RedPaletteColorLookupTableData == (b"\0\1\0\2" if big else b"\1\0\2\0")
    assert dataset.PixelData == (b"\0\3\0\4" if big else b"\3\0\4\0")


def test_a_value_of_undefined_length_in_the_file_meta_information(tmp_path: Path) -> None:
    private = element(0x00020102, "OB", b"abcd", undefined=True)
    data = make.part10(make.file_meta(sop_instance=SOP) + private, data_set())
    instance = taken_in(data, tmp_path)
    assert instance.metadata()["PrivateInformation"] == b"abcd"


# -- no preamble -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "first",
    [(0x00080000, "UL", 4), (0x00080005, "CS", "ISO_IR 100"), (0x00080008, "CS", "ORIGINAL"), ()],
    ids=["group-length", "character-set", "image-type", "class"],
)
@pytest.mark.parametrize(
    ("explicit", "big"), [(False, False), (True, False), (True, True)], ids=["implicit", "", "big"]
)
def test_a_bare_data_set_may_begin_with_any_element(
    first: tuple[Any, ...], *, explicit: bool, big: bool, tmp_path: Path
) -> None:
    begin = element(*first, explicit=explicit, big=big) if first else b""
    data = begin + data_set(explicit=explicit, big=big)
    instance = taken_in(data, tmp_path)
    model = model_of(read_by_pydicom(data, force=True))
    model.pop("00080000", None)
    assert instance.to_json() == model


@pytest.mark.parametrize(
    "data",
    [
        data_set(explicit=True, big=True).replace(b"1.2.3.3", b"       "),
        b"\0\x08" + data_set()[2:],
        b"\0\x08\0\x16" + data_set()[4:],
        b"\x08\0 and more words than one".ljust(400),
        b"\0\x08\0\x10UI" + bytes(400),
    ],
)
def test_what_has_no_preamble_and_not_all_uids_is_left(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a").write_bytes(data)
    report = dicomstudy.convert([tmp_path / "source"], tmp_path / "archive")
    assert (report.instances, report.skipped, report.problems) == (0, 1, [])


# -- transfer syntaxes -------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", [make.IMPLICIT, make.EXPLICIT, make.BIG_ENDIAN, make.DEFLATED])
@pytest.mark.parametrize(
    "padded", [b" %s", b"  %s ", b"%s \0", b"%s\0 ", b"\t%s", b"%s\n", b"%s\0\0"]
)
def test_a_transfer_syntax_may_have_any_padding(syntax: str, padded: bytes, tmp_path: Path) -> None:
    value = padded % syntax.encode()
    elements = data_set(explicit=syntax != make.IMPLICIT, big=syntax == make.BIG_ENDIAN)
    if syntax == make.DEFLATED:
        elements = p10.deflate(elements)
    meta = element(0x00020002, "UI", CLASS) + element(0x00020010, "UI", value)
    data = make.part10(meta, elements)
    instance = taken_in(data, tmp_path)
    assert instance.to_json() == model_of(read_by_pydicom(data))


def test_of_two_transfer_syntaxes_the_last_one_counts(tmp_path: Path) -> None:
    meta = b"".join(element(0x00020010, "UI", uid) for uid in (make.EXPLICIT, make.BIG_ENDIAN))
    data = make.part10(meta, data_set(big=True))
    instance = taken_in(data, tmp_path)
    assert instance.to_json() == model_of(read_by_pydicom(data))


# -- elements that come twice ------------------------------------------------------------------


@pytest.mark.parametrize("tag", [0x00080018, 0x0020000D, 0x0020000E])
@pytest.mark.parametrize("again", [False, True])
def test_of_two_uids_the_last_one_counts(tag: int, *, again: bool, tmp_path: Path) -> None:
    data = make.part10(
        make.file_meta(sop_instance=SOP),
        element(tag, "UI", "1.2.3.7") + data_set() + again * element(tag, "UI", "1.2.3.8"),
    )
    instance = taken_in(data, tmp_path)
    dataset = read_by_pydicom(data)
    assert instance.to_json() == model_of(dataset)
    assert instance.uid == instance.key == dataset.SOPInstanceUID
    assert instance.series == dataset.SeriesInstanceUID
    assert instance.study.uid == dataset.StudyInstanceUID


# -- file meta information in the data set -----------------------------------------------------


def test_frames_are_those_of_the_transfer_syntax_of_file_meta_information(tmp_path: Path) -> None:
    video = "1.2.840.10008.1.2.4.102"
    frames = make.encapsulate([[b"ab"], [b"cd"]], offsets=False)
    strays = [element(0x00020010, "UI", video), element(0x00020002, "UI", "1.2.3.4")]
    elements = [element(0x00280008, "IS", "2"), make.encapsulated(frames), *strays]
    meta = make.file_meta(make.JPEG_LOSSLESS, sop_instance=SOP)
    instance = taken_in(make.part10(meta, data_set() + b"".join(elements)), tmp_path)
    assert list(instance.frames()) == [b"ab", b"cd"]
    assert instance.metadata()["TransferSyntaxUID"] == make.JPEG_LOSSLESS
    assert instance.metadata()["MediaStorageSOPClassUID"] == CLASS
    assert instance.to_json()["00020010"] == {"vr": "UI", "Value": [video]}
    assert dicomstudy.export_tables(tmp_path / "archive", tmp_path / "tables").problems == []
    with dicomstudy.open_tables(tmp_path / "tables") as tables:
        assert len(tables["frames"]) == 2


# -- UIDs --------------------------------------------------------------------------------------

AROUND = [" ", "\t", "\n", "\v", "\f", "\r", "\0", "\r\n", "\n\0", "\0 \t"]


@pytest.mark.parametrize("explicit", [False, True])
def test_white_space_around_uids_is_no_part_of_them(explicit: bool, tmp_path: Path) -> None:
    syntax = make.EXPLICIT if explicit else make.IMPLICIT
    for number, around in enumerate(AROUND):
        elements = data_set(explicit=explicit)
        for tag, uid in ((0x00080018, SOP), (0x0020000D, STUDY), (0x0020000E, "1.2.3.3")):
            padded = element(tag, "UI", f"{around}{uid}{around}", explicit=explicit)
            elements = elements.replace(element(tag, "UI", uid, explicit=explicit), padded)
        meta = make.file_meta(f"{syntax}{around}", sop_instance=SOP)
        (tmp_path / f"{number}.dcm").write_bytes(make.part10(meta, elements))
    report = dicomstudy.convert([tmp_path], tmp_path / "archive")
    assert (report.instances, report.quarantined) == (len(AROUND), 0)
    assert dicomstudy.verify(tmp_path / "archive").problems == []
    (study,) = dicomstudy.open_archive(tmp_path / "archive").values()
    assert (study.uid, *study.series) == (STUDY, "1.2.3.3")
    for key, instance in study.items():
        assert (instance.uid, key.partition("#")[0]) == (SOP, SOP)
        for digits, uid in (("00080018", SOP), ("0020000D", STUDY), ("0020000E", "1.2.3.3")):
            assert instance.to_json()[digits] == {"vr": "UI", "Value": [uid]}


def test_a_uid_of_white_space_alone_is_none(tmp_path: Path) -> None:
    empty = data_set().replace(b"1.2.3.3\0", b"\n\t\n\t\n\t\n\t")
    data = make.part10(make.file_meta(sop_instance=SOP), empty)
    (tmp_path / "a.dcm").write_bytes(data)
    report = dicomstudy.convert([tmp_path], tmp_path / "archive")
    assert [problem.code for problem in report.problems] == ["convert/no-uids"]


# -- padding -----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 12, 63, 64, 65, 5000])
def test_zeros_behind_the_data_set_are_no_problem(count: int, tmp_path: Path) -> None:
    data = file_of() + bytes(count)
    instance = taken_in(data, tmp_path)
    assert instance.to_json() == model_of(read_by_pydicom(file_of()))
    assert [problem.code for problem in p10.read(data).problems] == []


# -- small limits ------------------------------------------------------------------------------


@pytest.mark.parametrize("max_inline", [0, 1, 2, 11])
@pytest.mark.parametrize("explicit", [False, True])
def test_what_other_values_are_read_by_is_never_large(
    max_inline: int, *, explicit: bool, tmp_path: Path
) -> None:
    def image(*more: bytes) -> bytes:
        return b"".join(
            [
                element(0x00280002, "US", 3, explicit=explicit),
                element(0x00280004, "CS", "YBR_FULL_422", explicit=explicit),
                element(0x00280008, "IS", "2", explicit=explicit),
                element(0x00280010, "US", 2, explicit=explicit),
                element(0x00280011, "US", 2, explicit=explicit),
                element(0x00280100, "US", 8, explicit=explicit),
                element(0x00280103, "US", 1, explicit=explicit),
                element(0x00280106, "SS", -5, explicit=explicit),
                *more,
                element(0x7FE00010, "OW", bytes(range(16)), explicit=explicit),
            ]
        )

    creator = element(0x00290010, "LO", "A creator", explicit=explicit)
    private = element(0x00291001, "US", 7, explicit=explicit)
    icon = element(0x00880200, "SQ", item(image()), explicit=explicit)
    syntax = make.EXPLICIT if explicit else make.IMPLICIT
    elements = data_set(explicit=explicit).removesuffix(
        element(0x00280010, "US", 2, explicit=explicit)
    )
    meta = make.file_meta(syntax, sop_instance=SOP)
    data = make.part10(meta, elements + image(creator, private, icon))
    instance = taken_in(data, tmp_path, max_inline=max_inline)
    assert [bytes(frame) for frame in instance.frames()] == [bytes(range(8)), bytes(range(8, 16))]
    model = instance.to_json()
    assert model["00280106"]["vr"] == "SS"
    assert model["00880200"]["Value"][0]["00280106"]["vr"] == "SS"
    assert dicomstudy.export_tables(tmp_path / "archive", tmp_path / "tables").problems == []
    with dicomstudy.open_tables(tmp_path / "tables") as tables:
        assert len(tables["frames"]) == 2
        if explicit and max_inline >= 2:
            names = tables["private"].schema.names
            assert [name for name in names if name.startswith("A creator:0029xx01")]


@pytest.mark.parametrize("vr", ["SQ", "UN", ""])
@pytest.mark.parametrize("tag", [0xFFFEE001, 0xFFFEE00D, 0xFFFE0000])
def test_a_sequence_may_begin_with_an_item_of_another_tag(
    vr: str, tag: int, tmp_path: Path
) -> None:
    """Also where only the dictionary says that it is one, in the way of an implicit item."""
    explicit = vr == "SQ"
    nested = element(SERIES, "SQ", item(), explicit=explicit, undefined=True)
    items = delimiter(tag, length=0xFFFFFFFF) + nested + END_OF_ITEM
    sequence = element(IMAGES, vr, items, explicit=bool(vr), undefined=True)
    meta = make.file_meta(make.EXPLICIT if vr else make.IMPLICIT, sop_instance=SOP)
    data = make.part10(meta, data_set(sequence, explicit=bool(vr)))
    expected = model_of(read_by_pydicom(data))
    model = taken_in(data, tmp_path).to_json()
    assert model.keys() == expected.keys()
    assert {"00100010", "00280010"} <= model.keys()


@pytest.mark.parametrize("value", [b"garbage!", bytes(8) + item(element(0x00081155, "UI", "1"))])
def test_a_sequence_that_does_not_begin_with_an_item_is_told_of(
    value: bytes, tmp_path: Path
) -> None:
    (tmp_path / "a.dcm").write_bytes(file_of(element(IMAGES, "SQ", value)))
    report = dicomstudy.convert([tmp_path / "a.dcm"], tmp_path / "archive")
    assert [(p.code, p.tag) for p in report.problems] == [("record/inexact", f"{IMAGES:08X}")]
    (study,) = dicomstudy.open_archive(tmp_path / "archive").values()
    (instance,) = study.values()
    assert instance.metadata()["ReferencedImageSequence"] == value
    assert instance.to_p10() == (tmp_path / "a.dcm").read_bytes()


def test_what_is_looked_at_ahead_does_not_grow_faster_than_the_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From each of many items that may be implicit, headers lead far ahead, and fit nowhere."""
    letters = int.from_bytes(b"HA", "little")  # a multiple of 8, as is all that follows
    first = element(0x00090001, "", bytes(4), explicit=False, length=4 << 16 | letters)
    unknown = element(0x00091010, "UN", item(first, undefined=True), undefined=True)
    headers = [element(0x00100000 + at, "", explicit=False) for at in range(40_000)]
    data = file_of(unknown * 200, element(0x00100009, "OB", b"".join(headers)))
    looked = 0
    spend = Lookahead.spend

    def counted(ahead: Lookahead) -> bool:
        nonlocal looked
        looked += 1
        return spend(ahead)

    monkeypatch.setattr(Lookahead, "spend", counted)
    assert p10.read(data).problems == ()
    assert len(data) / 16 < looked < len(data) / 8 + 300
