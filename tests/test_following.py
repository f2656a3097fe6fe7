"""How odd files are written after edits (spec/edits.md, "Character set" and "Encoding")."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pydicom
import pytest

import dicomstudy
from dicomstudy import lineage
from dicomstudy.errors import DicomStudyError
from dicomstudy.study import Instance
from fixtures import make
from tests import studies

STUDY = "1.2.3"
BASE = {
    0x00080016: make.element(0x00080016, "UI", "1.2.840.10008.5.1.4.1.1.7"),
    0x00080018: make.element(0x00080018, "UI", "1.2.3.4.5"),
    0x0020000D: make.element(0x0020000D, "UI", STUDY),
    0x0020000E: make.element(0x0020000E, "UI", "1.2.3.4"),
}


def file_of(elements: Mapping[int, bytes]) -> bytes:
    """A file with these elements beside the usual ones."""
    data_set = b"".join(element for _, element in sorted({**BASE, **elements}.items()))
    return make.part10(make.file_meta(make.EXPLICIT, sop_instance="1.2.3.4.5"), data_set)


def file_in(syntax: str, *elements: tuple[int, str, Any]) -> bytes:
    """A file of a transfer syntax with these elements beside the usual ones."""
    usual = [(tag, "UI", encoded[8:]) for tag, encoded in BASE.items()]
    explicit, big = syntax != make.IMPLICIT, syntax == make.BIG_ENDIAN
    data_set = b"".join(
        make.element(*each, explicit=explicit, big=big) for each in sorted([*usual, *elements])
    )
    return make.part10(make.file_meta(syntax, sop_instance="1.2.3.4.5"), data_set)


def converted(folder: Path, file: bytes) -> Instance:
    """The only instance of a new archive of a file."""
    dicomstudy.convert([studies.write_files(folder / "in", [("a", file)])], folder / "archive")
    return only(folder)


def only(folder: Path) -> Instance:
    (study,) = dicomstudy.open_archive(folder / "archive").values()
    return next(iter(study.values()))


def edited(folder: Path, elements: Mapping[int, bytes], **edit: Any) -> Instance:
    """The instance of a file with these elements after an edit.

    Its file gives the same attributes when it is converted again, and the original is there.
    """
    file = file_of(elements)
    before = converted(folder / "before", file)
    dicomstudy.update(folder / "before" / "archive", STUDY, [edit])
    after = only(folder / "before")
    assert after.original().to_p10() == file == before.to_p10()
    again = converted(folder / "after", after.to_p10())
    assert again.to_json() == after.to_json()
    assert not dicomstudy.verify(folder / "after" / "archive").problems
    return after


def layout_of(instance: Instance) -> list[str]:
    """The layouts of the elements of a data set."""
    assert instance.encoding is not None
    return str(instance.encoding["dataSet"]).split()


def test_text_that_begins_with_a_space_has_a_vr_that_keeps_it(tmp_path: Path) -> None:
    """As UT does, and LO does not: another text stays in the VR of the file."""
    text = {0x0040A160: make.element(0x0040A160, "LO", "A")}
    for value, vr in (("B", "LO"), (" A", "UT"), (" B", "UT"), ("C", "LO")):
        after = edited(tmp_path / value, text, set={"TextValue": value})
        assert after.metadata()["TextValue"] == value
        found = after.to_dataset()["TextValue"]
        assert (found.VR, found.value) == (vr, value)


def test_a_space_in_one_of_two_instances_is_no_matter_for_the_other(tmp_path: Path) -> None:
    """They are written alike, and what is worked out for one is known of the other."""
    files = []
    for number in (1, 2):
        replace = {0x0040A160: make.element(0x0040A160, "LO", "A")}
        files.append((f"{number}", make.ct_slice("ct", 1, number, replace=replace)))
    archive, study = tmp_path / "archive", make.uid("ct")
    dicomstudy.convert([studies.write_files(tmp_path / "in", files)], archive)
    values = {make.uid("ct/1/1"): "B", make.uid("ct/1/2"): " B"}
    edits = [{"instance": uid, "set": {"TextValue": value}} for uid, value in values.items()]
    dicomstudy.update(archive, study, edits)
    with dicomstudy.open_archive(archive)[study] as found:
        for uid, value in values.items():
            read = found[uid].to_dataset()["TextValue"]
            assert (read.VR, read.value) == ("UT" if value[0] == " " else "LO", value)


def item(*elements: bytes) -> bytes:
    return make.item(b"".join(elements))


def test_a_replaced_element_does_not_become_the_one_that_counts(tmp_path: Path) -> None:
    """Private text is kept as bytes, and written anew in Unicode, that of repeats too."""
    after = edited(
        tmp_path,
        {
            0x00080005: make.element(0x00080005, "CS", "ISO_IR 100"),
            0x00090010: make.element(0x00090010, "LO", "ACME"),
            0x00091001: make.element(0x00091001, "LO", b"Erste \xfc")
            + make.element(0x00091001, "LO", b"Zweite\xf6 "),
        },
        set={"PatientName": "山"},
    )
    assert after.to_dataset()[0x00091001].value == "Zweiteö"
    assert [each for each in layout_of(after) if "00091001" in each] == [
        "00091001LO#1",
        "00091001LO",
    ]


def test_a_vr_is_for_its_path_only(tmp_path: Path) -> None:
    inside = make.element(0x00280106, "SS", (-5,))
    after = edited(
        tmp_path,
        {
            0x00081140: make.element(0x00081140, "SQ", item(inside)),
            0x00280106: make.element(0x00280106, "US", (3,)),
        },
        set={
            "SmallestImagePixelValue:US": 40000,
            "ReferencedImageSequence[0].SmallestImagePixelValue:SS": -1,
        },
    ).to_dataset()
    assert (after[0x00280106].VR, after[0x00280106].value) == ("US", 40000)
    (image,) = after.ReferencedImageSequence
    assert (image[0x00280106].VR, image[0x00280106].value) == ("SS", -1)


def test_what_a_new_private_attribute_was_has_its_vr(tmp_path: Path) -> None:
    creator = {0x00090010: make.element(0x00090010, "LO", "ACME")}
    after = edited(tmp_path, creator, set={"00091001:LO": "text"}).to_dataset()
    (was,) = after.OriginalAttributesSequence[0].ModifiedAttributesSequence
    assert (was[0x00091001].VR, was[0x00091001].value) == ("LO", "")


def test_items_without_vrs_stay_without(tmp_path: Path) -> None:
    """Original Attributes Sequence came as UN, of a system that did not know it."""

    def implicit(tag: int, vr: str, value: bytes | str) -> bytes:
        return make.element(tag, vr, value, explicit=False)

    modified = implicit(0x04000550, "SQ", item(implicit(0x00100020, "LO", "OLD ")))
    originals = item(modified, implicit(0x04000563, "LO", "SYS "))
    after = edited(
        tmp_path,
        {
            0x00100010: make.element(0x00100010, "PN", "A^B "),
            0x04000561: make.element(0x04000561, "UN", originals, undefined=True),
        },
        set={"PatientName": "C^D"},
    )
    first, second = after.metadata()["OriginalAttributesSequence"]
    assert first["ModifiedAttributesSequence"] == [{"PatientID": "OLD"}]
    assert second["ModifiedAttributesSequence"] == [{"PatientName": "A^B"}]


def test_repeats_in_items_go_with_their_attribute(tmp_path: Path) -> None:
    names = [make.element(0x00100010, "PN", name) for name in ("OLD^NAME", "NEW^NAME")]
    elements = {0x00081140: make.element(0x00081140, "SQ", item(*names))}
    path = "ReferencedImageSequence[0].PatientName"
    removed = edited(tmp_path / "removed", elements, remove=[path]).to_dataset()
    assert "PatientName" not in removed.ReferencedImageSequence[0]
    other = edited(tmp_path / "set", elements, set={path: "A^B"})
    assert b"OLD^NAME" in other.to_p10()  # where it is said what was there
    assert other.metadata()["ReferencedImageSequence"] == [{"PatientName": "A^B"}]
    same = edited(tmp_path / "same", elements, set={path: "NEW^NAME"})
    assert not same.changed


def test_text_that_gets_too_long_for_its_header(tmp_path: Path) -> None:
    value = b"\\".join([b"\xfc" * 63] * 900) + b" "
    after = edited(
        tmp_path,
        {
            0x00080005: make.element(0x00080005, "CS", "ISO_IR 100"),
            0x00081080: make.element(0x00081080, "LO", value),
        },
        set={"PatientName": "Ж"},
    )
    assert after.metadata()["AdmittingDiagnosesDescription"] == "\\".join(["ü" * 63] * 900)
    assert "00081080UN" in layout_of(after)


def test_modified_attributes_at_the_top_are_no_layout_of_those_inside(tmp_path: Path) -> None:
    elements = {0x04000550: make.element(0x04000550, "SQ", b"")}
    after = edited(tmp_path, elements, set={"PatientName": "C^D"}).to_dataset()
    assert len(after.OriginalAttributesSequence[0].ModifiedAttributesSequence) == 1


def test_text_by_its_vr_in_the_file_is_turned_to_unicode(tmp_path: Path) -> None:
    """The dictionary says OB of it."""
    elements = {0x00720081: make.element(0x00720081, "ST", b"M\xfcller")}
    after = edited(tmp_path, elements, set={"PatientName": "Ж"})
    read = pydicom.dcmread(io.BytesIO(after.to_p10()))
    assert read[0x00720081].value == "Müller"


ESCAPED = b"\xe9\x1b%G"


@pytest.mark.parametrize("text", [ESCAPED, ESCAPED * 100], ids=["inline", "large"])
def test_text_with_an_escape_that_means_nothing_is_turned_to_unicode(
    tmp_path: Path, text: bytes
) -> None:
    """There is no encoding of it: its bytes say how it is written, in items and blobs too."""
    name = make.element(0x00104000, "LT", text)
    after = edited(
        tmp_path,
        {
            0x00080005: make.element(0x00080005, "CS", "ISO_IR 100"),
            0x00081110: make.element(0x00081110, "SQ", make.item(name)),
            0x00090010: make.element(0x00090010, "LO", "ACME"),
            0x00091001: make.element(0x00091001, "LT", text),
            0x00104000: name,
        },
        set={"PatientName": "Ж"},
    )
    turned = text.decode("latin_1")
    read = after.metadata()
    assert read["PatientComments"] == read["00091001"] == turned
    assert read["ReferencedStudySequence"][0]["PatientComments"] == turned
    assert after.to_p10().count(turned.encode()) == 3


def test_file_meta_information_is_not_turned_to_unicode(tmp_path: Path) -> None:
    file = file_of({})
    named = file.replace(b"FIXTURES", b"F\xfcXTURES")
    assert named != file
    converted(tmp_path, named)
    dicomstudy.update(tmp_path / "archive", STUDY, [{"set": {"PatientName": "Ж"}}])
    assert b"F\xfcXTURES" in only(tmp_path).to_p10()


@pytest.mark.parametrize("text", [b"M\xfcller", b"M\xfc" * 200])
def test_text_of_no_vr_of_the_standard_is_turned_to_unicode(text: bytes, tmp_path: Path) -> None:
    odd = make.element(0x00204000, "ST", text).replace(b"ST", b"BB", 1)
    charset = make.element(0x00080005, "CS", "ISO_IR 100")
    elements = {0x00080005: charset, 0x00204000: odd}
    after = edited(tmp_path, elements, set={"StudyDescription": "\u03a9"})
    assert after.to_json()["00204000"]["Value"] == [text.decode("latin-1")]


def test_original_attributes_that_are_no_items_stay(tmp_path: Path) -> None:
    """Its item would be longer than the value."""
    broken = b"\xfe\xff\x00\xe0\x20\0\0\0abcd"
    file = file_of({0x04000561: make.element(0x04000561, "SQ", broken)})
    converted(tmp_path, file)
    dicomstudy.update(tmp_path / "archive", STUDY, [{"set": {"PatientName": "C^D"}}])
    after = only(tmp_path)
    assert after.metadata()["OriginalAttributesSequence"] == broken
    assert broken in after.to_p10()
    assert after.metadata()["PatientName"] == "C^D"


@pytest.mark.parametrize(
    ("tag", "vr", "keyword", "value", "expected"),
    [
        (0x00104000, "OB", "PatientComments", "text", "LT"),
        (0x00104000, "ST", "PatientComments", "text", "ST"),
        (0x00104000, "UN", "PatientComments", "text", "UN"),
        (0x00181310, "OB", "AcquisitionMatrix", [1, 2, 3, 4], "US"),
        (0x00181310, "UL", "AcquisitionMatrix", [1, 2, 3, 4], "US"),
        (0x00189089, "FL", "DiffusionGradientOrientation", [1.0, 0.5, 0.25], "FD"),
        (0x00280107, "UL", "LargestImagePixelValue", 7, "US"),
        (0x00280107, "OW", "LargestImagePixelValue", 7, "US"),
        (0x00280107, "SS", "LargestImagePixelValue", 7, "SS"),
        (0x00189073, "OB", "AcquisitionDuration", 1.5, "FD"),
    ],
)
def test_a_vr_that_cannot_have_the_value_is_that_of_the_dictionary(
    tmp_path: Path, tag: int, vr: str, keyword: str, value: Any, expected: str
) -> None:
    elements = {tag: make.element(tag, vr, b"12345678")}
    after = edited(tmp_path, elements, set={keyword: value})
    assert f"{tag:08X}{expected}" in layout_of(after)


def test_there_is_no_such_day(tmp_path: Path) -> None:
    converted(tmp_path, file_of({}))
    for value, is_day in (("20230231", False), ("20230228", True), ("202302311200", False),
                          ("2023", True), ("2023+0100", True), ("202302", True)):  # fmt: skip
        edit = {"set": {"AcquisitionDateTime": value}}
        if is_day:
            dicomstudy.update(tmp_path / "archive", STUDY, [edit])
        else:
            with pytest.raises(DicomStudyError, match="no such day"):
                dicomstudy.update(tmp_path / "archive", STUDY, [edit])


def test_text_where_the_file_has_tags_gets_the_vr_of_the_dictionary(tmp_path: Path) -> None:
    after = edited(
        tmp_path,
        {0x00100020: make.element(0x00100020, "AT", (0x00100010,))},
        set={"PatientID": "ABC"},
    ).to_dataset()
    assert (after["PatientID"].VR, after.PatientID) == ("LO", "ABC")


def test_wrong_group_lengths_in_changed_items_become_right_ones(tmp_path: Path) -> None:
    """Those of items that stay as they were stay, too."""
    uid = make.element(0x00081155, "UI", "1.2.4")
    wrong = make.element(0x00080000, "UL", (7,))
    inner = make.element(0x00081199, "SQ", item(wrong, uid))
    after = edited(
        tmp_path,
        {
            0x00081115: make.element(0x00081115, "SQ", item(wrong, uid, inner)),
            0x00081140: make.element(0x00081140, "SQ", item(wrong, uid)),
        },
        set={"ReferencedSeriesSequence[0].ReferencedSOPInstanceUID": "1.2.5.6"},
    )
    metadata = after.metadata()
    (changed,), (unchanged,) = (
        metadata[f"Referenced{name}Sequence"] for name in ("Series", "Image")
    )
    (nested,) = changed["ReferencedSOPSequence"]
    assert [struct["00080000"] for struct in (changed, nested, unchanged)] == [62, 7, 7]


@pytest.mark.parametrize("preamble", [bytes(128), b"II*\0" + bytes(124)], ids=["zeros", "TIFF"])
def test_a_creator_goes_with_what_it_is_of(preamble: bytes, tmp_path: Path) -> None:
    """Whatever else stands with the instance: raw bytes and repeated elements have keys too."""
    private = {
        0x00080060: make.element(0x00080060, "CS", "CT") * 2,
        0x00090010: make.element(0x00090010, "LO", "ACME"),
        0x00091001: make.element(0x00091001, "LO", "text"),
    }
    file = preamble + file_of(private)[128:]
    converted(tmp_path, file)
    with pytest.raises(DicomStudyError) as raised:
        dicomstudy.update(tmp_path / "archive", STUDY, [{"remove": ["00090010"]}])
    assert raised.value.code == "change/no-creator"
    dicomstudy.update(tmp_path / "archive", STUDY, [{"remove": ["00090010", "00091001"]}])
    assert 0x00090010 not in only(tmp_path).to_dataset()
    assert only(tmp_path).original().to_p10() == file


def test_what_is_set_and_removed_at_once_is_refused(tmp_path: Path) -> None:
    file = file_of({})
    converted(tmp_path, file)
    edit = {"set": {"DerivationDescription": "山"}, "remove": ["DerivationDescription"]}
    with pytest.raises(DicomStudyError, match="change/twice"):
        dicomstudy.update(tmp_path / "archive", STUDY, [edit])
    assert only(tmp_path).to_p10() == file


# -- several instances -------------------------------------------------------------------


def archive_of(folder: Path, *several: Mapping[int, bytes]) -> Path:
    """An archive of instances 1, 2, … with these elements beside the usual ones."""
    for number, elements in enumerate(several, 1):
        uid = f"1.2.3.4.{number}"
        all_of_it = {**BASE, 0x00080018: make.element(0x00080018, "UI", uid), **elements}
        data_set = b"".join(element for _, element in sorted(all_of_it.items()))
        file = make.part10(make.file_meta(make.EXPLICIT, sop_instance=uid), data_set)
        studies.write_files(folder / "in", [(uid, file)])
    dicomstudy.convert([folder / "in"], folder / "archive")
    return folder / "archive"


def elements_of_all(archive: Path, tag: int) -> list[pydicom.DataElement]:
    with dicomstudy.open_archive(archive)[STUDY] as study:
        return [instance.to_dataset()[tag] for instance in study.values()]


@pytest.mark.parametrize("signed", [(0, 1), (1, 0)])
def test_each_instance_has_the_sign_of_its_own_pixels(
    signed: tuple[int, int], tmp_path: Path
) -> None:
    archive = archive_of(
        tmp_path, *({0x00280103: make.element(0x00280103, "US", (each,))} for each in signed)
    )
    dicomstudy.update(archive, STUDY, [{"set": {"SmallestImagePixelValue": 5}}])
    vrs = [element.VR for element in elements_of_all(archive, 0x00280106)]
    assert vrs == ["SS" if each else "US" for each in signed]


def test_each_instance_has_the_vr_that_its_edit_gives(tmp_path: Path) -> None:
    archive = archive_of(tmp_path, {}, {})
    edits = [
        {"instance": f"1.2.3.4.{number}", "set": {f"SmallestImagePixelValue:{vr}": 5}}
        for number, vr in ((1, "US"), (2, "SS"))
    ]
    dicomstudy.update(archive, STUDY, edits)
    assert [element.VR for element in elements_of_all(archive, 0x00280106)] == ["US", "SS"]


@pytest.mark.parametrize("texts", [("a\\b", "ABC"), ("ABC", "a\\b")])
def test_each_instance_has_a_vr_that_holds_its_own_text(
    texts: tuple[str, str], tmp_path: Path
) -> None:
    values = make.element(0x00204000, "LO", "several\\values")
    archive = archive_of(tmp_path, {0x00204000: values}, {0x00204000: values})
    edits = [
        {"instance": f"1.2.3.4.{number}", "set": {"ImageComments": text}}
        for number, text in enumerate(texts, 1)
    ]
    dicomstudy.update(archive, STUDY, edits)
    assert not dicomstudy.verify(archive).problems
    vrs = [element.VR for element in elements_of_all(archive, 0x00204000)]
    assert vrs == ["LT" if "\\" in text else "LO" for text in texts]


@pytest.mark.parametrize("order", [1, -1])
def test_what_was_there_is_written_as_it_would_be_alone(
    order: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In Original Attributes Sequence."""
    monkeypatch.setattr(lineage, "moment", lambda: "2026-11-28T00:00:00Z")
    odd = [{0x00100020: make.element(0x00100020, "UT", text)} for text in ("", "text")][::order]
    files = []
    for name, several in (("both", odd), ("one", odd[:1]), ("other", [odd[1], odd[1]])):
        archive = archive_of(tmp_path / name, *several)
        for key in ("StudyDescription", "PatientID"):
            dicomstudy.update(archive, STUDY, [{"set": {key: "new"}}])
        with dicomstudy.open_archive(archive)[STUDY] as study:
            files.append([instance.to_p10() for instance in study.values()])
    assert files[0] == [files[1][0], files[2][1]]


@pytest.mark.parametrize("before", [0, 1])
def test_a_group_length_goes_with_the_last_of_its_group(before: int, tmp_path: Path) -> None:
    elements = {
        0x00100000: make.element(0x00100000, "UL", (12,)),
        0x00100020: make.element(0x00100020, "LO", "text"),
    }
    archive = archive_of(tmp_path, elements)
    for _ in range(before):
        dicomstudy.update(archive, STUDY, [{"set": {"StudyDescription": "new"}}])
    dicomstudy.update(archive, STUDY, [{"remove": ["PatientID"]}])
    with dicomstudy.open_archive(archive)[STUDY] as study:
        (instance,) = study.values()
        assert b"\x10\x00\x00\x00UL" not in instance.to_p10()


# -- values that the VR of the file does not hold ----------------------------------------


@pytest.mark.parametrize(
    ("tag", "element", "keyword", "value", "vr"),
    [
        (0x00100020, ("AT", (0x00100010,)), "PatientID", "12345678", "LO"),
        (0x00280009, ("LO", "text"), "FrameIncrementPointer", "00181063", "AT"),
        (0x00104000, ("LO", "old"), "PatientComments", "C:\\images", "LT"),
        (0x00104000, ("LO", "old"), "PatientComments", "images", "LO"),
        (0x00102110, ("LT", "old"), "Allergies", "nuts\\milk", "LO"),
        (0x00200032, ("ST", "1\\2\\3"), "ImagePositionPatient", "4\\5\\6", "DS"),
        (0x00200032, ("SH", "1\\2\\3"), "ImagePositionPatient", "4\\5\\6", "SH"),
        (0x00100020, ("AT", (0x00100010,)), "PatientID", "ABCD", "LO"),
        (0x00100020, ("AT", (0x00100010,)), "PatientID", "abcdef01", "LO"),
        (0x00100020, ("AT", (0x00100010,)), "PatientID", "12 34 56 78", "LO"),
        (0x00189073, ("FL", (2.5,)), "AcquisitionDuration", 0.5, "FL"),
        (0x00189073, ("FL", (2.5,)), "AcquisitionDuration", 0.1, "FD"),
        (0x00209057, ("FL", (2.5,)), "InStackPositionNumber", 16777217, "UL"),
    ],
)
def test_a_value_is_in_the_file_what_it_is_in_the_document(
    tag: int, element: tuple[str, Any], keyword: str, value: Any, vr: str, tmp_path: Path
) -> None:
    after = edited(tmp_path, {tag: make.element(tag, *element)}, set={keyword: value})
    assert after.metadata()[keyword] == value
    kept = after.to_dataset()[tag].VR
    assert kept == vr
    assert converted(tmp_path / "again", after.to_p10()).metadata()[keyword] == value


def test_numbers_are_turned_round_as_their_vr_wants_it(tmp_path: Path) -> None:
    """They were UN in a big-endian file."""
    converted(tmp_path, file_in(make.BIG_ENDIAN, (0x00280107, "UN", b"\0\5")))
    dicomstudy.update(tmp_path / "archive", STUDY, [{"set": {"LargestImagePixelValue": 7}}])
    assert only(tmp_path).to_dataset().LargestImagePixelValue == 7


@pytest.mark.parametrize(
    ("signed", "vr", "number", "fits"),
    [(1, "US", 40000, False), (1, "SS", -7, True), (1, "US", 7, True), (0, "SS", -7, False)],
)
def test_numbers_without_vrs_are_those_that_a_reader_takes_them_for(
    signed: int, vr: str, number: int, fits: bool, tmp_path: Path
) -> None:
    converted(tmp_path, file_in(make.IMPLICIT, (0x00280103, "US", signed)))
    edit = {"set": {f"LargestImagePixelValue:{vr}": number}}
    if not fits:
        with pytest.raises(DicomStudyError, match="without VRs"):
            dicomstudy.update(tmp_path / "archive", STUDY, [edit])
        return
    dicomstudy.update(tmp_path / "archive", STUDY, [edit])
    assert only(tmp_path).to_json()["00280107"]["Value"] == [number]


def test_a_vr_that_the_dictionary_does_not_give_is_refused(tmp_path: Path) -> None:
    converted(tmp_path, file_of({}))
    for vr, value in (("FD", 1.5), ("LO", "x")):
        edit = {"set": {f"LargestImagePixelValue:{vr}": value}}
        with pytest.raises(DicomStudyError, match="US or SS"):
            dicomstudy.update(tmp_path / "archive", STUDY, [edit])


# -- text that no character set holds ----------------------------------------------------------

#: An escape sequence that is not known stays in the text, beside letters that are not ASCII.
ESCAPED = b"Yamada^Tarou=\x1b$@;3ED\x1b(J^\x1b$BB@O:\x1b(B"


def escaped_and_plain(folder: Path, *studies_of: str) -> None:
    """An archive of two files, of which one has such text."""
    charset = make.element(0x00080005, "CS", "\\ISO 2022 IR 87")
    files = []
    for number, (study, name) in enumerate(zip(studies_of, (ESCAPED, b"Yamada^Taro"), strict=True)):
        elements = {
            **BASE,
            0x00080005: charset,
            0x00080018: make.element(0x00080018, "UI", f"{study}.4.{number}"),
            0x00100010: make.element(0x00100010, "PN", name),
            0x0020000D: make.element(0x0020000D, "UI", study),
            0x0020000E: make.element(0x0020000E, "UI", f"{study}.4"),
        }
        data_set = b"".join(element for _, element in sorted(elements.items()))
        meta = make.file_meta(make.EXPLICIT, sop_instance=f"{study}.4.{number}")
        files.append((str(number), make.part10(meta, data_set)))
    dicomstudy.convert([studies.write_files(folder / "in", files)], folder / "archive")


@pytest.mark.parametrize("command", ["resolve", "merge"])
def test_text_that_no_character_set_holds_is_taken_over(command: str, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    if command == "resolve":
        escaped_and_plain(tmp_path, STUDY, STUDY)
        (conflict,) = dicomstudy.conflicts(archive, study=STUDY)
        (side,) = (side for side in conflict.sides if "\x1b" in side.content["PatientName"])
        dicomstudy.resolve(archive, STUDY, group="patient", keep=side.digest)
    else:
        escaped_and_plain(tmp_path, STUDY, "1.2.4")
        dicomstudy.merge(archive, "1.2.4", into=STUDY)
    assert dicomstudy.verify(archive).problems == []
    assert dicomstudy.conflicts(archive) == []
    with dicomstudy.open_archive(archive)[STUDY] as study:
        first, second = study.values()
        name = first.metadata()["PatientName"]
        assert second.metadata()["PatientName"] == name
        assert "\x1b" in name
        assert name.encode() in second.to_p10()
        assert second.original().metadata()["PatientName"] == "Yamada^Taro"
    dicomstudy.collect(archive, older_versions=True, remove=True)
    assert dicomstudy.verify(archive).problems == []


def test_private_text_that_an_edit_gave_is_turned_to_unicode(tmp_path: Path) -> None:
    """In a file without VRs too, for the edit said what it is."""
    charset, creator = (0x00080005, "CS", "ISO_IR 100"), (0x00090010, "LO", "ACME")
    converted(tmp_path, file_in(make.IMPLICIT, charset, creator))
    for edit in ({"00091001:LO": "Müller"}, {"PatientName": "山"}):
        dicomstudy.update(tmp_path / "archive", STUDY, [{"set": edit}])
    after = only(tmp_path)
    assert after.metadata()["SpecificCharacterSet"] == "ISO_IR 192"
    assert after.metadata()["00091001"] == "Müller ".encode()


def test_a_character_set_that_was_replaced_goes(tmp_path: Path) -> None:
    twice = make.element(0x00080005, "CS", "ISO_IR 101") + make.element(
        0x00080005, "CS", "ISO_IR 100"
    )
    name = make.element(0x00100010, "PN", b"M\xfcller")
    inner = make.element(0x00081140, "SQ", item(twice, name))
    elements = {0x00080005: twice, 0x00081140: inner, 0x00100010: name}
    after = edited(tmp_path, elements, set={"StudyDescription": "山"})
    assert not any("#" in each for each in layout_of(after))
    assert after.to_p10().count(b"ISO_IR 192") == 2
