"""Changed attributes: what instances and their files are afterwards (spec/edits.md)."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest

import dicomstudy
from dicomstudy import definitions, ion
from dicomstudy.document import Document, whole
from dicomstudy.errors import DicomStudyError
from dicomstudy.study import Instance
from dicomstudy.updating import read_edits
from fixtures import make
from tests import studies
from tests.editable import ARCHIVE, CT, MR, archive_in, datasets, said, update
from tests.test_versioning import content, refused


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return archive_in(tmp_path)


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


def test_groups_that_edits_bring_are_in_the_order_of_all(archive: Path) -> None:
    brought = {
        "AcquisitionContrast": "T1",
        "ClinicalTrialSponsorName": "x",
        "ContrastBolusAgent": "x",
        "DeviceDescription": "x",
        "PregnancyStatus": 1,
        "RescaleType": "US",
        "ShutterShape": "CIRCULAR",
        "WholeBodyTechnique": "TWO_PASS",
    }
    update(archive, CT, set=brought)
    order = list(definitions.load().groups)
    with dicomstudy.open_archive(archive)[CT] as study:
        for instance in study.values():
            places = [(order.index(name), digest) for digest, name, _ in instance.groups]
            assert places == sorted(places)
            assert brought.keys() <= instance.metadata().keys()


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
