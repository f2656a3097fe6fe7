"""Changed attributes: what instances and their files are afterwards (spec/edits.md)."""

from __future__ import annotations

import io
import itertools
import json
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pydicom
import pytest
from pydicom.dataset import Dataset

import dicomstudy
from dicomstudy import ion
from dicomstudy.document import Document, whole
from dicomstudy.errors import DicomStudyError
from dicomstudy.study import Instance
from dicomstudy.updating import read_edits
from fixtures import make
from tests import real_files, studies
from tests.test_versioning import content, refused

CT, MR = make.uid("ct"), make.uid("mr")
ARCHIVE = Path(make.__file__).parent / "archive"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    dicomstudy.convert([ARCHIVE], tmp_path / "archive")
    return tmp_path / "archive"


def update(archive: Path, study: str, *edits: Mapping[str, Any], **one: Any) -> None:
    dicomstudy.update(archive, study, [*edits, *([one] if one else [])])


def datasets(archive: Path, study: str) -> Iterator[tuple[Dataset, Dataset]]:
    """Each instance of a study as pydicom reads it: as it came, and as it is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with dicomstudy.open_archive(archive)[study] as opened:
            for instance in opened.values():
                files = instance.original().to_p10(), instance.to_p10()
                before, after = (pydicom.dcmread(io.BytesIO(f), force=True) for f in files)
                yield before, after


def said(dataset: Dataset, *leaving_out: str) -> dict[int, tuple[str, str]]:
    """VR and value of each element but group lengths, and but what is left out."""
    left = {*leaving_out, "OriginalAttributesSequence"}
    return {
        int(element.tag): (element.VR, str(element.value))
        for element in dataset
        if element.tag.element and element.keyword not in left
    }


# -- one attribute -----------------------------------------------------------------------------


def test_a_name_is_corrected_in_all_instances(archive: Path) -> None:
    update(archive, CT, set={"PatientName": "Corrected^Name"})
    for before, after in datasets(archive, CT):
        assert after.PatientName == "Corrected^Name"
        (item,) = after.OriginalAttributesSequence
        (modified,) = item.ModifiedAttributesSequence
        assert [element.keyword for element in modified] == ["PatientName"]
        assert modified.PatientName == before.PatientName
        assert item.ModifyingSystem == "dicomstudy"
        assert item.ReasonForTheAttributeModification == "CORRECT"
        assert item.AttributeModificationDateTime > "2026"
        assert said(after, "PatientName") == said(before, "PatientName")
    with dicomstudy.open_archive(archive)[CT] as study:
        (patient,) = study.groups["patient"].values()
        assert patient["PatientName"] == "Corrected^Name"
        assert all(instance.changed for instance in study.values())


def test_other_studies_and_large_values_stay(archive: Path) -> None:
    before = studies.state_of(archive)
    update(archive, CT, set={"PatientName": "Corrected^Name"})
    after = studies.state_of(archive)
    assert [name for name in before if after[name] != before[name]] == [
        name for name in before if name.endswith(f"{CT}.ion.zst")
    ]
    assert after.keys() == before.keys()


def test_a_change_is_gone_back_from(archive: Path) -> None:
    before = content(archive)
    update(archive, CT, set={"PatientName": "Müller^Ä", "StudyDescription": None})
    changed = content(archive)
    assert changed["digest"] != before["digest"]
    dicomstudy.revert(archive, CT, to=1)
    assert content(archive) == before
    dicomstudy.revert(archive, CT, to=2)
    assert content(archive) == changed
    assert [(v.command, v.groups) for v in dicomstudy.history(archive, CT)][1:2] == [
        ("update", ("generalStudy", "patient", "sopCommon"))
    ]


def test_a_change_of_nothing_leaves_the_file(archive: Path) -> None:
    """Instances that have the value already are the original."""
    update(archive, MR, set={"PatientName": "Example^Ben"})
    with dicomstudy.open_archive(archive)[MR] as study:
        changed = {instance.changed for instance in study.values()}
        assert changed == {True, False}
        for instance in study.values():
            was = instance.original().attributes()["PatientName"]
            assert instance.changed is (was != "Example^Ben")
    assert dicomstudy.verify(archive).problems == []


LONG = "ä:" + " long" * 100


@pytest.mark.parametrize(
    "edits",
    [
        [{"set": {"ImageComments": LONG}}],
        [{"set": {"ContentSequence[0].TextValue": LONG}}],
        [{"set": {"ContentSequence": [{"ValueType": "TEXT", "TextValue": LONG}]}}],
        [{"set": {"ImageComments": "other"}}, {"set": {"ImageComments": LONG}}],
    ],
)
def test_a_large_text_is_set_to_what_it_was(edits: list[dict[str, Any]], tmp_path: Path) -> None:
    """Its bytes are known by their SHA-256; a text of as many bytes is another one."""
    text = LONG.encode("latin-1")
    content = make.element(0x0040A040, "CS", "TEXT") + make.element(0x0040A160, "UT", text)
    replace = {
        0x00080005: make.element(0x00080005, "CS", "ISO_IR 100"),
        0x00204000: make.element(0x00204000, "LT", text),
        0x0040A730: make.element(0x0040A730, "SQ", make.item(content)),
    }
    file = make.ct_slice("long", 1, 1, rows=4, columns=4, replace=replace)
    (tmp_path / "a.dcm").write_bytes(file)
    dicomstudy.convert([tmp_path / "a.dcm"], tmp_path / "archive")
    update(tmp_path / "archive", make.uid("long"), *edits)
    with dicomstudy.open_archive(tmp_path / "archive")[make.uid("long")] as study:
        (instance,) = study.values()
        assert instance.attributes()["ImageComments"]["length"] == len(text)
        assert instance.to_p10() == file
        assert not instance.changed
    other = json.loads(json.dumps(edits).replace("long", "gone", 1))
    update(tmp_path / "archive", make.uid("long"), *other)
    with dicomstudy.open_archive(tmp_path / "archive")[make.uid("long")] as study:
        (instance,) = study.values()
        assert instance.changed
        assert b"gone" in instance.to_p10()


def test_changes_add_up(archive: Path) -> None:
    update(archive, CT, set={"PatientName": "One"})
    update(archive, CT, set={"PatientName": "Two", "PatientID": "2"})
    for before, after in datasets(archive, CT):
        first, second = after.OriginalAttributesSequence
        assert first.ModifiedAttributesSequence[0].PatientName == before.PatientName
        assert second.ModifiedAttributesSequence[0].PatientName == "One"
        assert second.ModifiedAttributesSequence[0].PatientID == before.PatientID
        assert (after.PatientName, after.PatientID) == ("Two", "2")


def test_a_sequence_in_an_item_is_not_written_as_one_of_its_name_at_the_top(archive: Path) -> None:
    """Most slices have a Referenced Image Sequence of one item."""
    images = [{"ReferencedSOPInstanceUID": f"1.2.{number}"} for number in (3, 4)]
    series = [{"SeriesInstanceUID": "1.2", "ReferencedImageSequence": images}]
    update(archive, CT, set={"PerformedSeriesSequence": series})
    assert dicomstudy.verify(archive).problems == []
    for before, after in datasets(archive, CT):
        (found,) = after.PerformedSeriesSequence
        uids = [image.ReferencedSOPInstanceUID for image in found.ReferencedImageSequence]
        assert uids == ["1.2.3", "1.2.4"]
        assert after.get("ReferencedImageSequence") == before.get("ReferencedImageSequence")


def test_attributes_are_added_emptied_and_removed(archive: Path) -> None:
    update(
        archive,
        CT,
        set={"PatientComments": "seen", "PatientSex": "", "PatientWeight": 70.5, "PatientAge": []},
        remove=["StudyDescription", "Manufacturer"],
    )
    for before, after in datasets(archive, CT):
        assert (after.PatientComments, after.PatientSex, after.PatientWeight) == ("seen", "", 70.5)
        assert after["PatientAge"].is_empty
        assert "StudyDescription" not in after
        assert "Manufacturer" not in after
        was = after.OriginalAttributesSequence[0].ModifiedAttributesSequence[0]
        assert was["PatientComments"].is_empty  # it was not there
        assert was.StudyDescription == before.StudyDescription
        names = ["PatientComments", "PatientSex", "PatientWeight", "PatientAge"]
        names += ["StudyDescription", "Manufacturer"]
        assert said(after, *names) == said(before, *names)
        tags = [element.tag for element in after]
        assert tags == sorted(tags)


def test_only_what_is_meant_changes(archive: Path) -> None:
    series, instance = make.uid("ct/1"), make.uid("ct/2/7")
    update(archive, CT, series=series, set={"SeriesDescription": "of the series"})
    update(archive, CT, instance=instance, set={"ImageComments": "of one"})
    with dicomstudy.open_archive(archive)[CT] as study:
        for each in study.values():
            assert each.changed is (each.series == series or each.uid == instance)
    with dicomstudy.open_archive(archive)[CT] as study:
        assert study[instance].metadata()["ImageComments"] == "of one"


def test_edits_of_single_instances_cost_each_instance_its_own(tmp_path: Path) -> None:
    """The study is gone through once for all edits, and no instance looks at those of others."""
    count = 20
    folder = studies.write_files(tmp_path / "in", make.study(count, rows=1, columns=1))
    dicomstudy.convert([folder], tmp_path / "archive")
    archive = dicomstudy.open_archive(tmp_path / "archive")
    (study,) = archive
    edits = [
        {"instance": uid, "set": {"00790010": "EXAMPLE", "00791001:LO": uid}}
        for uid in [*archive[study]][::-1]
    ]
    is_meant, opened = dicomstudy.Instance.is_meant, dicomstudy.Archive.open
    with (
        mock.patch.object(
            dicomstudy.Instance, "is_meant", autospec=True, side_effect=is_meant
        ) as looks,
        mock.patch.object(
            dicomstudy.Archive, "open", autospec=True, side_effect=opened
        ) as openings,
    ):
        dicomstudy.update(archive, study, edits)
        assert (openings.call_count, looks.call_count) == (1, count)
        looks.reset_mock()
        with archive[study] as after:
            for instance in after.values():
                assert instance.metadata()["00791001"] == instance.uid
        assert looks.call_count == count


def test_what_is_wrong_first_is_said(archive: Path) -> None:
    """With an edit before what the next one lacks, and with its items before its creators."""
    before = studies.state_of(archive)
    uid = make.uid("ct/2/7")
    wrong: dict[str, dict[str, Any]] = {
        "series": {"series": "1.2", "set": {"Modality": "CT"}},
        "instance": {"instance": "1.2", "set": {"ImageComments": "a"}},
        "item": {"set": {"00791001:LO": "a", "ReferencedStudySequence[9].StudyID": "1"}},
        "creator": {"instance": uid, "set": {"00791001:LO": "a"}},
    }
    says = {
        "series": "no series 1.2",
        "instance": "no such instance",
        "item": r"no instance has the item that ReferencedStudySequence\[9\]",
        "creator": "00791001 needs",
    }
    good = {"instance": uid, "set": {"ImageComments": "a"}}
    for (name, one), other in itertools.product(wrong.items(), wrong.values()):
        with pytest.raises(DicomStudyError, match=says[name]):
            update(archive, CT, good, one, other)
    assert studies.state_of(archive) == before


def test_a_document_in_readable_form_is_changed_too(archive: Path) -> None:
    path = dicomstudy.open_archive(archive).document_path(CT)
    document = Document(path)
    readable = ion.dumps(whole(document))
    document.close()
    before = content(archive)
    path.write_bytes(readable)
    assert content(archive) == before
    update(archive, CT, set={"PatientName": "Changed"})
    assert content(archive)["instances"].keys() == before["instances"].keys()
    dicomstudy.revert(archive, CT, to=1)
    assert content(archive) == before
    assert dicomstudy.verify(archive).problems == []


def test_the_readable_form_has_the_history(archive: Path) -> None:
    update(archive, CT, set={"PatientName": "Changed"})
    dicomstudy.delete(archive, CT, series=make.uid("ct/2"))
    changed = content(archive)
    path = dicomstudy.open_archive(archive).document_path(CT)
    document = Document(path)
    path.write_bytes(ion.dumps(whole(document)))
    document.close()
    assert content(archive) == changed
    assert [version.number for version in dicomstudy.history(archive, CT)] == [1, 2, 3]
    assert dicomstudy.verify(archive).problems == []


def test_late_instances_are_as_they_came(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    first, second = (
        studies.write_files(tmp_path / f"{number}", [("a.dcm", make.ct_slice("ct", 1, number))])
        for number in (1, 2)
    )
    dicomstudy.convert([first], archive)
    update(archive, CT, set={"PatientName": "Corrected"})
    corrected = content(archive)
    dicomstudy.convert([second], archive)
    with dicomstudy.open_archive(archive)[CT] as study:
        assert [instance.changed for instance in study.values()] == [True, False]
    (conflict,) = dicomstudy.conflicts(archive)
    assert conflict.group == "patient"
    dicomstudy.revert(archive, CT, to=2)
    assert content(archive) == corrected


# -- items and private attributes --------------------------------------------------------------


def test_items_are_changed(archive: Path) -> None:
    path = "ReferencedStudySequence[0].ReferencedSOPInstanceUID"
    update(archive, CT, set={"ReferencedStudySequence": [
        {"ReferencedSOPClassUID": "1.2.3", "ReferencedSOPInstanceUID": "1.2.4"}
    ]})  # fmt: skip
    update(archive, CT, set={path: "1.2.5", path.replace("Instance", "Class"): None})
    for _, after in datasets(archive, CT):
        (item,) = after.ReferencedStudySequence
        assert item.ReferencedSOPInstanceUID == "1.2.5"
        assert item["ReferencedSOPClassUID"].is_empty
        was = after.OriginalAttributesSequence[1].ModifiedAttributesSequence[0]
        assert was.ReferencedStudySequence[0].ReferencedSOPInstanceUID == "1.2.4"
    update(archive, CT, remove=[path])
    for _, after in datasets(archive, CT):
        assert "ReferencedSOPInstanceUID" not in after.ReferencedStudySequence[0]
        assert len(after.OriginalAttributesSequence) == 3


def test_an_item_with_repeated_elements_is_changed(archive: Path, tmp_path: Path) -> None:
    item = make.item(make.element(0x00080100, "SH", b"1 ") + make.element(0x00080100, "SH", b"2 "))
    file = make.ct_slice("repeats", 1, 1)
    end = file.index(b"\x10\x00\x10\x00PN")
    file = file[:end] + make.element(0x00089215, "SQ", item) + file[end:]
    dicomstudy.convert([studies.write_files(tmp_path / "in", [("a.dcm", file)])], archive)
    study = make.uid("repeats")
    update(archive, study, set={"DerivationCodeSequence[0].CodeMeaning": "ä"})
    ((_, after),) = datasets(archive, study)
    assert after.DerivationCodeSequence[0].CodeMeaning == "ä"
    assert after.DerivationCodeSequence[0].CodeValue == "2"


def test_private_attributes_are_changed(archive: Path) -> None:
    update(archive, CT, set={"00790010": "EXAMPLE", "00791001:LO": "Grüße", "00791002:US": [1, 2],
                             "00791003:FD": 1.5})  # fmt: skip
    for _, after in datasets(archive, CT):
        block = after.private_block(0x0079, "EXAMPLE")
        assert not after.is_implicit_VR
        assert (block[1].VR, block[2].VR, block[3].VR) == ("LO", "US", "FD")
        assert (block[1].value, list(block[2].value), block[3].value) == ("Grüße", [1, 2], 1.5)


def test_what_a_private_attribute_was_is_said_with_its_creator(archive: Path) -> None:
    update(archive, CT, set={"00790010": "EXAMPLE", "00791001:LO": "a"})
    update(archive, CT, set={"00791001:LO": "b"})
    for _, after in datasets(archive, CT):
        (modified,) = after.OriginalAttributesSequence[-1].ModifiedAttributesSequence
        assert modified.private_block(0x0079, "EXAMPLE")[1].value == "a"
        assert len(modified) == 2


def test_a_private_creator_goes_only_with_what_it_is_of(archive: Path) -> None:
    update(archive, CT, set={"00790010": "EXAMPLE", "00791001:LO": "a"})
    before = studies.state_of(archive)
    with pytest.raises(DicomStudyError, match="00791001") as raised:
        update(archive, CT, remove=["00790010"])
    assert raised.value.code == "change/no-creator"
    assert studies.state_of(archive) == before
    update(archive, CT, remove=["00790010", "00791001"])
    assert all(0x00790010 not in after for _, after in datasets(archive, CT))


def test_a_private_attribute_of_an_item_needs_its_creator_there(archive: Path) -> None:
    update(archive, CT, set={"DerivationCodeSequence": [{"CodeValue": "1"}], "00790010": "EXAMPLE"})
    inside = "DerivationCodeSequence[0]."
    with pytest.raises(DicomStudyError) as raised:
        update(archive, CT, set={f"{inside}00791001:LO": "a"})
    assert raised.value.code == "change/no-creator"
    update(archive, CT, set={f"{inside}00790010": "EXAMPLE", f"{inside}00791001:LO": "a"})
    for _, after in datasets(archive, CT):
        item = after.DerivationCodeSequence[0]
        assert item.private_block(0x0079, "EXAMPLE")[1].value == "a"


def test_an_attribute_of_a_private_sequence_is_changed(tmp_path: Path) -> None:
    block = make.element(0x00790010, "LO", "EXAMPLE")
    one, other = (make.element(0x00791001, "LO", value) for value in ("one", "other"))
    items = make.item(block + one) + make.item(block + other)
    replace = {0x00790010: block, 0x00791002: make.element(0x00791002, "SQ", items)}
    files = [(f"{n}.dcm", make.ct_slice("ct", 1, n, replace=replace)) for n in range(1, 4)]
    studies.write_files(tmp_path / "in", files)
    dicomstudy.convert([tmp_path / "in"], tmp_path / "archive")
    update(tmp_path / "archive", CT, set={"00791002[1].00791001:LO": "new"},
           remove=["00791002[0].00790010", "00791002[0].00791001"])  # fmt: skip
    for _, after in datasets(tmp_path / "archive", CT):
        first, second = after[0x00791002].value
        assert len(first) == 0
        assert second.private_block(0x0079, "EXAMPLE")[1].value == "new"
    with pytest.raises(DicomStudyError) as raised:
        update(tmp_path / "archive", CT, set={"00791009[0].00791001:LO": "new"})
    assert raised.value.code == "change/no-item"


def test_an_item_without_attributes_is_one(archive: Path) -> None:
    update(archive, CT, set={"DerivationCodeSequence": [{}]})
    with pytest.raises(DicomStudyError) as raised:
        update(archive, CT, set={"DerivationCodeSequence[0].00791001:LO": "a"})
    assert raised.value.code == "change/no-creator"
    update(archive, CT, set={"DerivationCodeSequence[0].CodeValue": "1"})
    for _, after in datasets(archive, CT):
        assert after.DerivationCodeSequence[0].CodeValue == "1"


@pytest.mark.parametrize(
    "edits",
    [
        [{"remove": ["00790010", "00791001"]}, {"set": {"00791001:LO": "b"}}],
        [{"set": {"00790010": None}}],
        [{"set": {"PatientName": "A"}}, {"remove": ["00790010"]}],
        [{"set": {"00791002:LO": "b"}, "remove": ["00790010", "00791001"]}],
        [{"remove": ["00791001"]}, {"set": {"00790010": None, "00791002:LO": "b"}}],
    ],
)
def test_each_edit_is_of_what_those_before_it_leave(
    edits: list[dict[str, Any]], archive: Path
) -> None:
    update(archive, CT, set={"00790010": "EXAMPLE", "00791001:LO": "a"})
    before = studies.state_of(archive)
    with pytest.raises(DicomStudyError) as raised:
        dicomstudy.update(archive, CT, edits)
    assert raised.value.code == "change/no-creator"
    assert studies.state_of(archive) == before


def test_edits_may_need_what_those_before_them_set(archive: Path) -> None:
    edits: list[dict[str, Any]] = [
        {"set": {"00790010": "EXAMPLE"}},
        {"set": {"00791001:LO": "a"}},
        {"set": {"DerivationCodeSequence": [{"CodeValue": "1"}]}},
        {"set": {"DerivationCodeSequence[0].CodeMeaning": "Resampled"}},
    ]
    dicomstudy.update(archive, CT, edits)
    for _, after in datasets(archive, CT):
        assert after.private_block(0x0079, "EXAMPLE")[1].value == "a"
        assert after.DerivationCodeSequence[0].CodeMeaning == "Resampled"


def test_private_text_that_has_no_place_turns_nothing(tmp_path: Path) -> None:
    """Neither the character set of an instance that lacks the item, nor its other text."""
    block = make.element(0x00790010, "LO", "EXAMPLE")
    items = make.item(block + make.element(0x00791001, "LO", "one"))
    sequence = {0x00790010: block, 0x00791002: make.element(0x00791002, "SQ", items)}
    wrong = {0x00080005: b"", 0x00081030: make.element(0x00081030, "LO", b"K\xf6ln")}
    files = [
        ("1.dcm", make.ct_slice("ct", 1, 1, replace=sequence)),
        ("2.dcm", make.ct_slice("ct", 1, 2, replace=wrong)),
    ]
    studies.write_files(tmp_path / "in", files)
    dicomstudy.convert([tmp_path / "in"], tmp_path / "archive")
    update(tmp_path / "archive", CT, set={"00791002[0].00791001:LO": "Šárka", "StudyID": "2"})
    dicomstudy.restore(tmp_path / "archive", tmp_path / "out")
    written = [path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert sum("Šárka".encode() in data for data in written) == 1
    assert sum(b"K\xf6ln" in data and b"ISO_IR 192" not in data for data in written) == 1


# -- any file ----------------------------------------------------------------------------------


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
    update(archive, "1.2.7", set={"ProcedureCodeSequence": [{"CodeMeaning": item["CodeMeaning"]}]})
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


# -- what is refused ---------------------------------------------------------------------------


def nested(levels: int) -> list[Any]:
    """Lists in lists."""
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("edit", "code", "words"),
    [
        ({"set": {"PatientsName": "a"}}, "change/unknown-keyword", "did you mean PatientName"),
        ({"set": {"patientname": "a"}}, "change/unknown-keyword", "PatientName"),
        ({"set": {"PatientName[": "a"}}, "change/unknown-keyword", "path"),
        ({"set": {"../x": "a"}}, "change/unknown-keyword", "path"),
        ({"set": {"PatientName[0].PatientID": "a"}}, "change/unknown-keyword", "no items"),
        ({"remove": ["Nonsense"]}, "change/unknown-keyword", "Nonsense"),
        ({"set": {"SOPInstanceUID": "1.2"}}, "change/protected", "SOPInstanceUID"),
        ({"set": {"PixelData": "a"}}, "change/protected", "PixelData"),
        ({"set": {"TransferSyntaxUID": "1.2"}}, "change/protected", "follows"),
        ({"set": {"00100000": "1"}}, "change/protected", "follows"),
        ({"remove": ["Rows"]}, "change/protected", "Rows"),
        ({"set": {"ReferencedStudySequence[0].SpecificCharacterSet": "x"}},
         "change/protected", "SpecificCharacterSet"),
        ({"set": {"ReferencedStudySequence": [{"SpecificCharacterSet": "x"}]}},
         "change/protected", "SpecificCharacterSet"),
        ({"series": "1.2", "set": {"PatientName": "a"}}, "change/level", "study"),
        ({"instance": "1.2", "set": {"SeriesNumber": "1"}}, "change/level", "series"),
        ({"set": {"PatientBirthDate": "19990230"}}, "change/value", "no such day"),
        ({"set": {"PatientBirthDate": "1999-02-03"}}, "change/value", "form of DA"),
        ({"set": {"PatientSex": "female"}}, "change/value", "form of CS"),
        ({"set": {"PatientID": "x" * 65}}, "change/value", "64"),
        ({"set": {"PatientID": "a\nb"}}, "change/value", "form of LO"),
        ({"set": {"PatientID": "a\\b"}}, "change/value", "2 values"),
        ({"set": {"PatientID": "\ud800"}}, "change/value", "no character set"),
        ({"set": {"PatientWeight": "heavy"}}, "change/value", "form of DS"),
        ({"set": {"PatientName": "a=b=c=d"}}, "change/value", "3 parts"),
        ({"set": {"InstanceNumber": "99999999999"}}, "change/value", "range"),
        ({"set": {"FrameOfReferenceUID": "1.02"}}, "change/value", "form of UI"),
        ({"set": {"AcquisitionTimeSynchronized": {}}}, "change/value", "a text"),
        ({"set": {"PatientName:LO": "a"}}, "change/value", "VR PN"),
        ({"set": {"00791001": "a"}}, "change/value", "its VR"),
        ({"set": {"00791001:XX": "a"}}, "change/value", "no VR"),
        ({"set": {"00791001:OB": "a"}}, "change/value", "bytes"),
        ({"set": {"PatientWeight": np.float64("nan")}}, "change/value", "form of DS"),
        ({"set": {"PatientWeight": np.bool_(True)}}, "change/value", "a text"),
        ({"set": {"PatientWeight": pd.NA}}, "change/value", "a text"),
        ({"set": {"PatientBirthDate": np.datetime64("1999-02-03")}}, "change/value", "a text"),
        ({"set": {"PatientWeight": np.zeros((1, 1))}}, "change/value", "a text"),
        ({"set": {"ReferencedStudySequence": "[5]"}}, "change/value", "list of structs"),
        ({"set": {"ReferencedStudySequence": "x"}}, "change/value", "JSON"),
        ({"set": {"ReferencedStudySequence": [{"X": 1}]}}, "change/unknown-keyword", "X"),
        ({"set": {"ReferencedStudySequence[9].StudyID": "1"}}, "change/no-item", "item"),
        ({"set": {"00791001:LO": "a"}}, "change/no-creator", "(0079,0010)"),
        ({"set": {"PatientID": "a", "00100020": "b"}}, "change/twice", "PatientID"),
        ({"set": {"00091001:LO": "a", "00091001:SH": "b"}}, "change/twice", "00091001"),
        ({"set": {"PatientID": "a"}, "remove": ["00100020"]}, "change/twice", "PatientID"),
        ({"set": {"ReferencedStudySequence": [{"StudyID": "1", "00200010": "2"}]}},
         "change/twice", "StudyID"),
        ({"set": {"ReferencedStudySequence": '[{"StudyID": "1", "StudyID": "2"}]'}},
         "change/twice", "StudyID"),
        ({"set": {"ReferencedStudySequence": "[" * 100_000}}, "change/value", "JSON"),
        ({"set": {"PatientID": nested(100_000)}}, "change/value", "deeply"),
        ({}, "change/nothing", "named"),
        ({"set": {}, "remove": []}, "change/nothing", "named"),
        ({"sets": {}}, "change/fields", "'set'"),
        ({"set": []}, "change/fields", "'set'"),
        ({"remove": "PatientName"}, "change/fields", "'remove'"),
        ({"series": 5, "set": {"Modality": "CT"}}, "change/fields", "UIDs"),
        (5, "change/fields", "struct"),
        ({"series": "1.2", "set": {"Modality": "CT"}}, "archive/not-found", "series"),
        ({"instance": "1.2", "set": {"ImageComments": "a"}}, "archive/not-found", "instance"),
    ],
)  # fmt: skip
def test_wrong_input_changes_nothing_and_says_why(
    edit: Any, code: str, words: str, archive: Path
) -> None:
    before = studies.state_of(archive)
    good = {"set": {"PatientName": "Good"}}
    for edits in ([edit], [good, edit]):
        with pytest.raises(DicomStudyError) as raised:
            dicomstudy.update(archive, CT, edits)
        assert raised.value.code == code
        assert words in raised.value.message
    assert studies.state_of(archive) == before


def test_no_edits_and_unknown_studies_are_refused(archive: Path) -> None:
    with pytest.raises(DicomStudyError) as raised:
        dicomstudy.update(archive, CT, [])
    assert raised.value.code == "change/nothing"
    edits = [{"set": {"PatientName": "a"}}]
    refused(archive, "archive/not-found", lambda: dicomstudy.update(archive, "1.2", edits))
    refused(archive, "archive/moved-on", lambda: dicomstudy.update(archive, CT, edits, expect=2))


def test_a_study_without_instances_has_nothing_to_change(archive: Path) -> None:
    dicomstudy.delete(archive, CT)
    edits = [{"set": {"PatientName": "a"}}]
    refused(archive, "archive/not-found", lambda: dicomstudy.update(archive, CT, edits))


@pytest.mark.parametrize(
    ("keyword", "given", "value"),
    [
        ("PatientName", " Smith^John ", "Smith^John"),
        ("OtherPatientNames", ["A", "B"], "A\\B"),
        ("SelectorUSValue", [1, 2], b"\x01\0\x02\0"),
        ("SelectorUSValue", "7", 7),
        ("SelectorFLValue", 0.1, 0.10000000149011612),
        ("PatientWeight", 70, "70"),
        ("PatientWeight", np.int64(70), "70"),
        ("PatientWeight", np.float64(1.5), "1.5"),
        ("PatientWeight", [np.float32(1.5)], "1.5"),
        ("SelectorUSValue", np.array([1, 2], "u1"), b"\x01\0\x02\0"),
        ("SelectorUSValue", pd.Series([7]), 7),
        ("SelectorFDValue", np.array(1.5), 1.5),
        ("AccessionNumber", np.str_("A"), "A"),
        ("AccessionNumber", np.array([]), None),
        ("SelectorATValue", ["PatientName", "00100020"], "00100010\\00100020"),
        ("ImageComments", "a\\b", "a\\b"),
        ("AccessionNumber", "", None),
        ("StudyTime", "235960.123456", "235960.123456"),
        ("AcquisitionDateTime", "20260131101112.5+0100", "20260131101112.5+0100"),
    ],
)
def test_values_are_as_if_they_had_been_converted(
    keyword: str, given: Any, value: Any, archive: Path, tmp_path: Path
) -> None:
    update(archive, CT, set={keyword: given})
    dicomstudy.restore(archive, tmp_path / "out", study=CT)
    dicomstudy.convert([tmp_path / "out"], tmp_path / "again")
    for path in (archive, tmp_path / "again"):
        with dicomstudy.open_archive(path)[CT] as study:
            for instance in study.values():
                assert instance.attributes()[keyword] == value


def test_what_is_restored_converts_to_the_same(archive: Path, tmp_path: Path) -> None:
    """The groups of a changed instance are those that its file gives."""
    update(archive, CT, set={"PatientName": "Müller^山", "StudyID": "9"}, remove=["StationName"])
    dicomstudy.restore(archive, tmp_path / "out", study=CT)
    dicomstudy.convert([tmp_path / "out"], tmp_path / "again")
    one, other = (dicomstudy.open_archive(path)[CT] for path in (archive, tmp_path / "again"))
    seeds = one.definitions.seed_groups
    with one, other:
        for key, instance in one.items():
            if any(each.startswith(f"{instance.uid}#") for each in one):
                continue  # which of them has which key depends on their files
            assert other[key].attributes().keys() == instance.attributes().keys()
            assert other[key].to_json() == instance.to_json()
            assert _seed_groups(other[key], seeds) == _seed_groups(instance, seeds)


def _seed_groups(instance: dicomstudy.Instance, seeds: Sequence[str]) -> set[str]:
    kinds = {*seeds, "encoding"}
    return {digest for digest, name, _ in instance.groups if name in kinds}


def test_the_original_is_restored_on_request(archive: Path, tmp_path: Path) -> None:
    dicomstudy.restore(archive, tmp_path / "before", study=CT)
    update(archive, CT, set={"PatientName": "Changed"})
    dicomstudy.restore(archive, tmp_path / "now", study=CT)
    dicomstudy.restore(archive, tmp_path / "then", study=CT, original=True)
    before, now, then = (studies.state_of(tmp_path / name) for name in ("before", "now", "then"))
    assert then == before
    assert now.keys() == before.keys()
    files = [name for name in before if name.endswith(".dcm")]
    assert len(files) == 16
    assert all(now[name] != before[name] for name in files)


@pytest.mark.parametrize("bulk", ["copy", "reference"])
def test_a_change_is_all_that_there_is_once_older_versions_are_collected(
    bulk: str, tmp_path: Path
) -> None:
    archive = tmp_path / "archive"
    dicomstudy.convert([ARCHIVE], archive, bulk=bulk)
    update(archive, CT, set={"PatientName": "Grün^山"})
    update(archive, CT, series=make.uid("ct/1"), remove=["SeriesDescription"])
    dicomstudy.restore(archive, tmp_path / "before", study=CT)
    dicomstudy.collect(archive, older_versions=True, remove=True)
    assert [version.command for version in dicomstudy.history(archive, CT)] == ["collect"]
    dicomstudy.restore(archive, tmp_path / "after", study=CT, original=True)
    before, after = (studies.state_of(tmp_path / name) for name in ("before", "after"))
    assert sorted(before.values()) == sorted(after.values())
    assert dicomstudy.verify(archive).problems == []
    with dicomstudy.open_archive(archive)[CT] as study:
        assert not any(instance.changed for instance in study.values())
    assert dicomstudy.convert([tmp_path / "before"], archive).instances == 0


def test_converting_the_original_again_is_nothing(archive: Path) -> None:
    update(archive, CT, set={"PatientName": "Changed"})
    before = studies.state_of(archive)
    assert dicomstudy.convert([ARCHIVE], archive).instances == 0
    assert studies.state_of(archive) == before


def edits_file(folder: Path, value: object) -> Callable[[], object]:
    path = folder / "changes.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return lambda: read_edits(path)


def test_a_file_of_changes(tmp_path: Path) -> None:
    one = {"set": {"PatientName": "a"}}
    assert edits_file(tmp_path, one)() == [one]
    assert edits_file(tmp_path, [one, one])() == [one, one]
    for bad in ("{", "\0", "[" * 100_000):
        with pytest.raises(DicomStudyError) as raised:
            edits_file(tmp_path, bad)()
        assert raised.value.code == "change/file"
    with pytest.raises(DicomStudyError) as raised:
        edits_file(tmp_path, '{"set": {"PatientID": "a", "PatientID": "b"}}')()
    assert raised.value.code == "change/twice"


def refused_value(archive: Path, edit: dict[str, Any]) -> None:
    with pytest.raises(DicomStudyError) as caught:
        dicomstudy.update(archive, next(iter(dicomstudy.open_archive(archive))), [{"set": edit}])
    assert caught.value.code == "change/value"


def test_numbers_mean_one_thing_only(tmp_path: Path) -> None:
    """What may be signed or not needs its VR where that matters, and keeps it in the file."""
    studies.write_files(tmp_path / "in", [("a", make.ct_slice("ct", 1, 1))])
    dicomstudy.convert([tmp_path / "in"], tmp_path / "archive")
    archive = tmp_path / "archive"
    for wrong in ("40000", "1_0", "٣", "nan", "1e400"):
        refused_value(archive, {"SmallestImagePixelValue": wrong})
    refused_value(archive, {"SmallestImagePixelValue:US": [1] * 40_000})
    (uid,) = dicomstudy.open_archive(archive)
    for vr, value in (("US", 40000), ("SS", -5), ("US", 7)):
        dicomstudy.update(archive, uid, [{"set": {f"SmallestImagePixelValue:{vr}": value}}])
        with dicomstudy.open_archive(archive)[uid] as study:
            (instance,) = study.values()
            assert vr == instance.to_dataset()["SmallestImagePixelValue"].VR
            assert instance.to_dataset().SmallestImagePixelValue == value


def test_an_edit_of_many_items_costs_each_of_them_once(tmp_path: Path) -> None:
    """Every reading looks at each item, and at no other for its sake."""
    count = 4000
    items = [make.item(make.element(0x00080100, "SH", f"{at}")) for at in range(count)]
    codes = make.element(0x00081032, "SQ", b"".join(items))
    file = make.ct_slice("ct", 1, 1, replace={0x00081032: codes})
    studies.write_files(tmp_path / "in", [("1.dcm", file)])
    dicomstudy.convert([tmp_path / "in"], tmp_path / "archive")
    paths = [f"ProcedureCodeSequence[{at}].CodeValue" for at in range(count)]
    before = time.process_time()
    update(tmp_path / "archive", CT, set=dict.fromkeys(paths, "x"))
    (instance,) = dicomstudy.open_archive(tmp_path / "archive")[CT].values()
    codes_now = instance.attributes()["ProcedureCodeSequence"]
    assert time.process_time() - before < 20
    assert codes_now == [{"CodeValue": "x"}] * count


def test_an_edit_of_many_private_attributes_costs_each_of_them_once(tmp_path: Path) -> None:
    tags = [0x00111000 | low for low in range(0x100)]
    replace = {0x00110010: make.element(0x00110010, "LO", "ACME")}
    replace |= {tag: make.element(tag, "LO", "old") for tag in tags}
    files = [(f"{n}.dcm", make.ct_slice("ct", 1, n, replace=replace)) for n in range(1, 4)]
    studies.write_files(tmp_path / "in", files)
    dicomstudy.convert([tmp_path / "in"], tmp_path / "archive")
    with mock.patch.object(
        Instance, "attributes", autospec=True, side_effect=Instance.attributes
    ) as asked:
        update(tmp_path / "archive", CT, set={f"{tag:08X}:LO": "new" for tag in tags})
        update(tmp_path / "archive", CT, remove=[f"{tag:08X}" for tag in (0x00110010, *tags)])
        assert asked.call_count == 2 * len(files)


def test_of_one_instance_only_its_chunk_is_read(tmp_path: Path) -> None:
    studies.write_files(tmp_path / "in", make.study(12, series=3, rows=2, columns=2))
    dicomstudy.convert([tmp_path / "in"], tmp_path / "archive")
    archive = dicomstudy.open_archive(tmp_path / "archive")
    (uid,) = archive
    with archive[uid] as study:
        meant = next(iter(study))
        chunks = study.document.chunks
        first = len(study.document._frames) - len(chunks)
    value = Document._value
    with mock.patch.object(Document, "_value", autospec=True, side_effect=value) as read:
        update(tmp_path / "archive", uid, instance=meant, set={"InstanceNumber": 77})
    frames = {call.args[1] for call in read.call_args_list}
    may_have = [chunk for chunk in chunks if chunk["first"] <= meant <= chunk["last"]]
    assert len([at for at in frames if at >= first]) <= len(may_have) < len(chunks)


@pytest.mark.parametrize(
    "edit", [{"set": {"PatientComments": "new"}}, {"remove": ["PatientComments"]}]
)
def test_a_large_value_of_a_record_without_its_file_is_still_said(
    edit: dict[str, Any], tmp_path: Path
) -> None:
    """dicom2ion-js says where it lies, in a group too."""
    file = make.ct_slice(
        "ct", 1, 1, replace={0x00104000: make.element(0x00104000, "LT", "c" * 300)}
    )
    (tmp_path / "1.dcm").write_bytes(file)
    value: dict[str, Any] = {"dataOffset": file.index(b"c" * 300), "length": 300}
    value["sha256"] = ion.blob_hash_hex([b"c" * 300])
    uids = {"StudyInstanceUID": CT, "SeriesInstanceUID": "1.3", "SOPInstanceUID": "1.4"}
    record = {
        "sourceInfo": {"uri": (tmp_path / "1.dcm").as_uri()},
        "dataSet": {**uids, "PatientComments": value},
    }
    (tmp_path / "1.ion").write_bytes(ion.dumps(record))
    dicomstudy.convert([tmp_path / "1.ion"], tmp_path / "archive")
    update(tmp_path / "archive", CT, edit)
    for _ in range(2):
        assert dicomstudy.verify(tmp_path / "archive").problems == []
        (instance,) = dicomstudy.open_archive(tmp_path / "archive")[CT].values()
        (said,) = instance.to_json()["04000561"]["Value"][0]["04000550"]["Value"]
        assert said["00104000"]["Value"] == ["c" * 300]
        dicomstudy.collect(tmp_path / "archive", older_versions=True, remove=True)
