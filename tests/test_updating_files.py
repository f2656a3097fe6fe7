"""Changed attributes in any file, and in text of any character set (spec/edits.md)."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import pydicom
import pytest

import dicomstudy
from fixtures import make
from tests import real_files, studies
from tests.editable import archive_in, datasets, update


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return archive_in(tmp_path)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of the fixtures, the wrecks too, and of the files that pydicom brings."""
    path = tmp_path_factory.mktemp("everything") / "archive"
    folders = [real_files.FIXTURES / "archive", real_files.FIXTURES / "wrecks"]
    dicomstudy.convert([*folders, *real_files._folders()], path)
    return path


#: Files in which pydicom does not find the end of elements, so that it has fewer.
UNREADABLE = {
    *("emri_small_jpeg_2k_lossless_too_short.dcm", "fragments-truncated.dcm"),
    *("fragments-no-delimiter.dcm", "text-undefined.dcm"),
}


@pytest.mark.parametrize("name", ["Smith^John", "Müller^Jürgen", "Yamada^Tarou=山田^太郎"])
def test_pydicom_reads_the_same_of_any_file(name: str, everything: Path) -> None:
    archive = dicomstudy.open_archive(everything)
    compared = 0
    for uid in archive:
        first = len(dicomstudy.history(archive, uid))
        update(everything, uid, set={"PatientName": name})
        with archive[uid] as study, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for instance in study.values():
                if instance.encoding is None or Path(instance.source.uri).name in UNREADABLE:
                    continue
                compared += _is_the_same(instance, name)
        dicomstudy.revert(archive, uid, to=first)
    assert compared > 300
    assert dicomstudy.verify(everything).problems == []


def _is_the_same(instance: dicomstudy.Instance, name: str) -> bool:
    try:
        before = pydicom.dcmread(io.BytesIO(instance.original().to_p10()), force=True)
        before.to_json_dict()
    except Exception:  # noqa: BLE001 (whatever it is, there is nothing to compare)
        return False
    if not instance.changed:
        return False
    after = pydicom.dcmread(io.BytesIO(instance.to_p10()), force=True)
    assert str(after.PatientName) == name
    names = {"PatientName", "SpecificCharacterSet", "OriginalAttributesSequence"}
    for element in before:
        if element.keyword in names or element.tag.element == 0:
            continue
        same = after[element.tag]
        assert same.VR == element.VR
        assert str(same.value).strip() == str(element.value).strip(), (instance, element)
    extra = {element.keyword for element in after if element.tag not in before}
    assert extra <= names
    was = after.OriginalAttributesSequence[-1].ModifiedAttributesSequence[0]
    assert str(was.PatientName or "") == str(before.get("PatientName") or "")
    again = real_files.Decoded("", instance.to_p10())
    assert again.encoding == instance.encoding  # so lengths and group lengths are right
    assert ":" not in again.encoding["meta"] + again.encoding["dataSet"]
    return True


def test_text_is_turned_to_unicode_right_through(archive: Path, tmp_path: Path) -> None:
    long = "ü" * 400  # a large value
    nested = make.item(
        make.element(0x00080005, "CS", b"ISO_IR 144") + make.element(0x00081150, "UI", b"1.2\0")
        + make.element(0x0008103E, "LO", "Жук ".encode("iso8859-5"))
    )  # fmt: skip
    file = make.part10(
        make.element(0x00020010, "UI", b"1.2.840.10008.1.2.1\0"),
        b"".join(
            [
                make.element(0x00080005, "CS", b"ISO_IR 100"),
                make.element(0x00080018, "UI", b"1.2.7.3\0"),
                make.element(0x00081110, "SQ", nested),
                make.element(0x00090010, "LO", b"EXAMPLE "),
                make.element(0x00091001, "LO", "Käse".encode("latin-1")),
                make.element(0x00100010, "PN", "Grün^Ä ".encode("latin-1")),
                make.element(0x00104000, "LT", long.encode("latin-1")),
                make.element(0x0020000D, "UI", b"1.2.7\0"),
                make.element(0x0020000E, "UI", b"1.2.7.2\0"),
            ]
        ),
    )
    folder = studies.write_files(tmp_path / "in", [("a.dcm", file)])
    dicomstudy.convert([folder], archive)
    update(archive, "1.2.7", set={"PatientID": "山"})
    ((before, after),) = datasets(archive, "1.2.7")
    assert after.SpecificCharacterSet == "ISO_IR 192"
    assert after.ReferencedStudySequence[0].SpecificCharacterSet == "ISO_IR 192"
    assert after.ReferencedStudySequence[0].SeriesDescription == "Жук"
    assert (after.PatientName, after.PatientID, after.PatientComments) == ("Grün^Ä", "山", long)
    assert after.private_block(9, "EXAMPLE")[1].value == "Käse"
    assert before[0x00091001].value == "Käse"


def archive_of(tmp_path: Path, codes: bytes, *, charset: bytes = b"", name: bytes = b"") -> Path:
    """An archive of a file with an item of Procedure Code Sequence."""
    elements = [
        make.element(0x00080005, "CS", charset) if charset else b"",
        make.element(0x00080018, "UI", b"1.2.7.3\0"),
        make.element(0x00081032, "SQ", make.item(codes)),
        make.element(0x00100010, "PN", name) if name else b"",
        make.element(0x0020000D, "UI", b"1.2.7\0"),
        make.element(0x0020000E, "UI", b"1.2.7.2\0"),
    ]
    file = make.part10(make.element(0x00020010, "UI", make.EXPLICIT), b"".join(elements))
    dicomstudy.convert([studies.write_files(tmp_path / "in", [("a", file)])], tmp_path / "made")
    return tmp_path / "made"


def invalid_text(tmp_path: Path) -> Path:
    """An archive of a file whose text is not all of its character set, in an item too."""
    codes = make.element(0x00080100, "SH", b"1 ") + make.element(0x00080104, "LO", b"K\xe4se")
    return archive_of(tmp_path, codes, name=b"Gr\xfcn")


def test_to_set_what_invalid_text_is_shown_as_changes_nothing(tmp_path: Path) -> None:
    archive = invalid_text(tmp_path)
    with dicomstudy.open_archive(archive)["1.2.7"] as study:
        shown = next(study.values()).attributes()["PatientName"]
    update(archive, "1.2.7", set={"PatientName": shown})
    with dicomstudy.open_archive(archive)["1.2.7"] as study:
        assert not next(study.values()).changed


def test_invalid_text_beside_what_is_changed_stays(tmp_path: Path) -> None:
    archive = invalid_text(tmp_path)
    update(archive, "1.2.7", set={"ProcedureCodeSequence[0].CodeValue": "2"})
    ((_, after),) = datasets(archive, "1.2.7")
    assert "SpecificCharacterSet" not in after
    assert after.ProcedureCodeSequence[0].CodeValue == "2"
    with dicomstudy.open_archive(archive)["1.2.7"] as study:
        assert b"K\xe4se" in next(study.values()).to_p10()


def test_bytes_do_not_stay_in_an_item_of_another_character_set(tmp_path: Path) -> None:
    """The values of an item are set as they were, but not what they were written in."""
    written = make.element(0x00080005, "CS", b"ISO_IR 192")
    written += make.element(0x00080104, "LO", b"K\xe4se")
    archive = archive_of(tmp_path, written, charset=b"GB18030 ")
    with dicomstudy.open_archive(archive)["1.2.7"] as study:
        (item,) = next(study.values()).attributes()["ProcedureCodeSequence"]
    code = {"CodeMeaning": item["CodeMeaning"]}
    update(archive, "1.2.7", set={"ProcedureCodeSequence": [code]})
    with dicomstudy.open_archive(archive)["1.2.7"] as study:
        assert not next(study.values()).changed
    update(archive, "1.2.7", set={"ProcedureCodeSequence": [{**code, "CodeValue": "1"}]})
    ((_, after),) = datasets(archive, "1.2.7")
    assert after.ProcedureCodeSequence[0].CodeMeaning == item["CodeMeaning"] == "K\ufffdse"
    before = after.OriginalAttributesSequence[0].ModifiedAttributesSequence[0]
    with dicomstudy.open_archive(archive)["1.2.7"] as study:
        assert b"K\xe4se" in next(study.values()).to_p10()
    assert before.ProcedureCodeSequence[0].SpecificCharacterSet == "ISO_IR 192"


def test_a_character_set_in_an_item_that_is_a_sequence_becomes_unicode(tmp_path: Path) -> None:
    odd = make.element(0x00080005, "SQ", make.item(make.element(0x00080100, "SH", b"1 ")))
    archive = archive_of(tmp_path, odd + make.element(0x00080104, "LO", b"K\xe4se"))
    update(archive, "1.2.7", set={"PatientName": "Жук"}, remove=["ProcedureCodeSequence"])
    ((_, after),) = datasets(archive, "1.2.7")
    before = after.OriginalAttributesSequence[0].ModifiedAttributesSequence[0]
    assert before.ProcedureCodeSequence[0].SpecificCharacterSet == "ISO_IR 192"
    assert before.ProcedureCodeSequence[0].CodeMeaning == "Käse"
