"""Where a study contradicts itself, and which side is right (spec/edits.md)."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import dicomstudy
from dicomstudy import ion
from dicomstudy.cli import main
from dicomstudy.errors import DicomStudyError
from fixtures import make
from tests import studies
from tests.editable import ARCHIVE, CT, MR, archive_in
from tests.kills import tree_of
from tests.test_versioning import refused

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return archive_in(tmp_path)


def test_two_patients_in_a_study_are_a_conflict(archive: Path) -> None:
    (conflict,) = [c for c in dicomstudy.conflicts(archive, study=MR) if c.group == "patient"]
    assert (conflict.study, conflict.series) == (MR, None)
    with dicomstudy.open_archive(archive)[MR] as study:
        groups = study.groups["patient"]
        assert {side.digest: side.content for side in conflict.sides} == groups
        keys = [key for side in conflict.sides for key in side.instances]
        assert sorted(keys) == sorted(study)
        for side in conflict.sides:
            for key in side.instances:
                assert side.digest in {digest for digest, _, _ in study[key].groups}
    assert len(conflict.sides[0].instances) >= len(conflict.sides[1].instances)
    assert set(conflict.differences["PatientName"]) == {"Example^Ben", "Exampel^Ben"}
    assert "PatientID" not in conflict.differences


def test_repeated_uids_with_other_content_are_a_conflict(archive: Path) -> None:
    found = [c for c in dicomstudy.conflicts(archive, study=CT) if c.group == "instance"]
    assert found
    with dicomstudy.open_archive(archive)[CT] as study:
        for conflict in found:
            (first, second) = conflict.sides
            keys = [*first.instances, *second.instances]
            assert len({study[key].uid for key in keys}) == 1
            assert {study[key].source.sha256 for key in keys} == {first.digest, second.digest}


def test_a_series_has_one_description(archive: Path) -> None:
    series, instance = make.uid("ct/2"), make.uid("ct/2/7")
    with dicomstudy.open_archive(archive)[CT] as study:
        count = len(study.series[series])
    before = dicomstudy.conflicts(archive, study=CT)
    assert "generalSeries" not in {conflict.group for conflict in before}
    # an edit of one instance cannot say so, a late file can
    folder = studies.write_files(
        archive.parent / "late",
        [("a.dcm", (ARCHIVE / "ct/bone/IM0001").read_bytes().replace(b"BONE", b"BOMB"))],
    )
    assert dicomstudy.convert([folder], archive).instances == 1
    found = [c for c in dicomstudy.conflicts(archive, study=CT) if c.series is not None]
    assert found, "the late file differs in a series-level group"
    for conflict in found:
        assert conflict.series == series
        right = conflict.sides[0]
        assert sorted(len(side.instances) for side in conflict.sides) == [1, count]
        dicomstudy.resolve(archive, CT, group=conflict.group, keep=right.digest[:12])
    assert [c for c in dicomstudy.conflicts(archive, study=CT) if c.series is not None] == []
    with dicomstudy.open_archive(archive)[CT] as study:
        changed = [key for key, each in study.items() if each.changed]
        assert [key.partition("#")[0] for key in changed] == [instance]


@pytest.mark.parametrize("is_same", [True, False])
def test_a_text_is_the_same_whether_it_is_large_or_not(tmp_path: Path, *, is_same: bool) -> None:
    """An edit of two archives; the file that it made of one comes late to the other."""
    long = "long text; " * 40
    for name, number, text in (("one", 1, long), ("other", 2, long if is_same else long[::-1])):
        file = make.ct_slice("ct", 1, number, rows=4, columns=4)
        files = studies.write_files(tmp_path / f"{name}-files", [("a.dcm", file)])
        dicomstudy.convert([files], tmp_path / name)
        dicomstudy.update(tmp_path / name, CT, [{"set": {"PatientComments": text}}])
    dicomstudy.restore(tmp_path / "other", tmp_path / "changed")
    dicomstudy.convert([tmp_path / "changed"], tmp_path / "one")
    found = [list(conflict.differences) for conflict in dicomstudy.conflicts(tmp_path / "one")]
    assert found == ([] if is_same else [["PatientComments"]])


@pytest.mark.parametrize("side", [0, 1])
def test_one_side_becomes_that_of_all(side: int, archive: Path) -> None:
    (conflict,) = [c for c in dicomstudy.conflicts(archive, study=MR) if c.group == "patient"]
    kept = conflict.sides[side]
    versions = dicomstudy.resolve(archive, MR, group="patient", keep=kept.digest)
    assert [version.command for version in versions] == ["convert", "resolve"]
    assert [c for c in dicomstudy.conflicts(archive, study=MR) if c.group == "patient"] == []
    with dicomstudy.open_archive(archive)[MR] as study:
        assert study.groups["patient"] == {kept.digest: kept.content}
        for key, instance in study.items():
            assert instance.changed is (key not in kept.instances)
    before = studies.state_of(archive)
    dicomstudy.resolve(archive, MR, group="patient", keep=kept.digest)
    assert studies.state_of(archive) == before
    dicomstudy.revert(archive, MR, to=1)
    assert conflict in dicomstudy.conflicts(archive, study=MR)


@pytest.mark.parametrize(
    ("group", "keep"),
    [("patient", "0" * 64), ("patient", ""), ("nonsense", "0"), ("instance", "0")],
)
def test_what_is_no_side_is_refused(group: str, keep: str, archive: Path) -> None:
    before = studies.state_of(archive)
    with pytest.raises(DicomStudyError) as raised:
        dicomstudy.resolve(archive, MR, group=group, keep=keep)
    assert raised.value.code == "change/group"
    assert studies.state_of(archive) == before


def test_unknown_and_other_versions_are_refused(archive: Path) -> None:
    def resolve(study: str, expect: int | None = None) -> Callable[[], object]:
        return lambda: dicomstudy.resolve(archive, study, group="patient", keep="5", expect=expect)

    refused(archive, "archive/not-found", resolve("1.2"))
    refused(archive, "archive/moved-on", resolve(MR, expect=9))
    refused(archive, "archive/not-found", lambda: dicomstudy.conflicts(archive, study="1.2"))


def test_a_damaged_study_does_not_hide_the_conflicts_of_others(
    archive: Path, capsys: Captured
) -> None:
    every = dicomstudy.conflicts(archive)
    path = dicomstudy.open_archive(archive).document_path(CT)
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(DicomStudyError) as raised:
        dicomstudy.conflicts(archive)
    damaged: list[DicomStudyError] = []
    rest = dicomstudy.conflicts(archive, damaged=damaged)
    assert [error.code for error in damaged] == [raised.value.code]
    assert rest == [conflict for conflict in every if conflict.study != CT] != every
    assert main(["conflicts", str(archive)]) == 1
    shown = capsys.readouterr()
    assert f"study {MR} has 2 of patient" in shown.out
    assert raised.value.code in shown.err
    assert str(path) in shown.err


# -- the command line --------------------------------------------------------------------------


def test_the_way_from_a_conflict_to_its_end(archive: Path, capsys: Captured) -> None:
    assert main(["conflicts", str(archive), "--study", MR]) == 1
    table = capsys.readouterr().out
    assert f"study {MR} has 2 of patient" in table
    assert "PatientName  Exampel^Ben" in table
    assert main(["conflicts", str(archive), "--study", MR, "--json"]) == 1
    listed = json.loads(capsys.readouterr().out)
    (conflict,) = [each for each in listed if each["group"] == "patient"]
    (right,) = [s for s in conflict["sides"] if s["values"]["PatientName"] == "Example^Ben"]
    command = ["resolve", str(archive), "--study", MR, "--group", "patient"]
    assert main([*command, "--keep", right["digest"]]) == 0
    assert capsys.readouterr().out == "version 2\n"
    main(["conflicts", str(archive), "--study", MR])
    assert "patient" not in capsys.readouterr().out
    assert main(["history", str(archive), "--study", MR, "--json"]) == 0
    versions = json.loads(capsys.readouterr().out)
    assert [version["command"] for version in versions] == ["convert", "resolve"]


def test_values_are_changed_from_the_command_line(
    archive: Path, tmp_path: Path, capsys: Captured
) -> None:
    update = ["update", str(archive), "--study", CT]
    assert main([*update, "PatientName=Smith^John", "PatientSex=", "--remove", "StudyID"]) == 0
    changes = tmp_path / "changes.json"
    changes.write_text(json.dumps({"set": {"PatientID": "7"}, "series": make.uid("ct/1")}))
    assert main([*update, "--file", str(changes)]) == 2
    assert "change/level" in capsys.readouterr().err
    changes.write_text(json.dumps([{"set": {"PatientID": "7"}}, {"remove": ["Manufacturer"]}]))
    assert main([*update, "--file", str(changes), "StudyDescription=x=y", "--expect", "2"]) == 0
    assert main([*update, "PatientID=8", "--expect", "2"]) == 1
    assert "archive/moved-on" in capsys.readouterr().err
    for wrong in (["PatientName"], [], ["PatientsName=x"], ["--file", str(tmp_path / "none")]):
        assert main([*update, *wrong]) == 2
    assert "did you mean PatientName" in capsys.readouterr().err
    assert main([*update, "--file", str(changes), "--series", "1.2"]) == 2
    with dicomstudy.open_archive(archive)[CT] as study:
        assert study.version == 3
        for instance in study.values():
            attributes = instance.attributes()
            assert attributes["PatientName"] == "Smith^John"
            assert attributes["PatientSex"] is None
            assert attributes["StudyDescription"] == "x=y"
            assert attributes["PatientID"] == "7"
            assert not {"StudyID", "Manufacturer"} & attributes.keys()
    out = str(tmp_path / "out")
    assert main(["restore", str(archive), out, "--study", CT, "--original"]) == 0
    assert main(["revert", str(archive), "--study", CT, "--to", "1"]) == 0
    assert main(["collect", str(archive), "--older-versions", "--study", CT]) == 0
    assert "would be removed: " in capsys.readouterr().out
    assert main(["collect", str(archive), "--older-versions", "--study", CT, "--remove"]) == 0
    assert main(["revert", str(archive), "--study", CT, "--to", "1"]) == 2
    assert main(["verify", str(archive)]) == 0
    capsys.readouterr()
    assert main(["show", str(archive), CT]) == 0
    assert " of large values" in capsys.readouterr().out


def test_a_side_that_is_only_padding_is_that_in_the_files_too(tmp_path: Path) -> None:
    """And in items; another archive that is made of the files knows of no conflict either."""
    files = []
    for number, value in enumerate([b"  ", b"  ", b"X "], 1):
        code = make.item(make.element(0x00080104, "LO", value))
        replace = {
            0x00081030: make.element(0x00081030, "LO", value),
            0x00081032: make.element(0x00081032, "SQ", code),
        }
        files.append((f"{number}.dcm", make.ct_slice("ct", 1, number, replace=replace)))
    studies.write_files(tmp_path / "in", files)
    dicomstudy.convert([tmp_path / "in"], tmp_path / "archive")
    (conflict,) = dicomstudy.conflicts(tmp_path / "archive")
    keep = conflict.sides[0].digest
    dicomstudy.resolve(tmp_path / "archive", conflict.study, group=conflict.group, keep=keep)
    dicomstudy.restore(tmp_path / "archive", tmp_path / "out")
    dicomstudy.convert([tmp_path / "out"], tmp_path / "again")
    for folder in ("archive", "again"):
        archive = dicomstudy.open_archive(tmp_path / folder)
        assert dicomstudy.conflicts(archive) == []
        every = [instance.metadata() for instance in archive[conflict.study].values()]
        assert [each["StudyDescription"] for each in every] == [""] * 3
        codes = [each["ProcedureCodeSequence"][0]["CodeMeaning"] for each in every]
        assert codes == [""] * 3


NUMBER = make.element(0x001021C0, "US", 4)
SIZE = make.element(0x00101020, "DS", "1.8")
AGE = make.element(0x00101010, "AS", "040Y")
CODE = make.element(0x00080100, "SH", "A")
GROUP_LENGTH = make.element(0x00080000, "UL", 0xFF)


def codes(*elements: bytes) -> bytes:
    """A sequence of one item with these elements."""
    return make.element(0x00081032, "SQ", make.item(b"".join(elements)))


def archive_of(folder: Path, *several: Mapping[int, bytes]) -> Path:
    """An archive of a series, each instance of which has these elements."""
    files = [
        (f"{number}.dcm", make.ct_slice("ct", 1, number, replace=dict(replace)))
        for number, replace in enumerate(several, 1)
    ]
    dicomstudy.convert([studies.write_files(folder / "in", files)], folder / "archive")
    return folder / "archive"


def resolve(archive: Path, keyword: str, number: int) -> dict[str, list[Any]]:
    """Make what an instance has that of all; what was different before."""
    uid = make.uid(f"ct/1/{number}")
    (conflict,) = [c for c in dicomstudy.conflicts(archive) if keyword in c.differences]
    (side,) = [side for side in conflict.sides if uid in side.instances]
    dicomstudy.resolve(archive, conflict.study, group=conflict.group, keep=side.digest)
    return conflict.differences


@pytest.mark.parametrize(
    ("ours", "theirs", "keyword"),
    [
        (SIZE, make.element(0x00101020, "FD", struct.pack("<d", 1.75)), "PatientSize"),
        (NUMBER, make.element(0x001021C0, "IS", "1"), "PregnancyStatus"),
        (NUMBER, make.element(0x001021C0, "SL", b"\xff\xff\xff\xff"), "PregnancyStatus"),
        (NUMBER, make.element(0x001021C0, "UL", struct.pack("<2I", 1, 2)), "PregnancyStatus"),
        (AGE, make.element(0x00101010, "US", 40), "PatientAge"),
        (AGE, make.element(0x00101010, "US", struct.pack("<2H", 40, 41)), "PatientAge"),
        (AGE, make.element(0x00101010, "SQ", make.item(CODE)), "PatientAge"),
        (
            make.element(0x00200010, "SH", "A"),
            make.element(0x00200010, "LT", " A"),
            "StudyID",
        ),
        (
            make.element(0x00200010, "SH", "A"),
            make.element(0x00200010, "LT", "a\\b"),
            "StudyID",
        ),
        (
            codes(CODE),
            codes(make.element(0x00280120, "SS", b"\x30\xf8")),
            "ProcedureCodeSequence",
        ),
    ],
)
def test_a_value_that_the_vr_of_others_does_not_hold_is_refused(
    ours: bytes, theirs: bytes, keyword: str, tmp_path: Path
) -> None:
    """Where they differ in it: nobody is given what is the same on all sides."""
    tag = int.from_bytes(ours[:2], "little") << 16 | int.from_bytes(ours[2:4], "little")
    name = make.element(0x00100010, "PN", "Other^Name")
    archive = archive_of(tmp_path, {tag: ours}, {tag: theirs}, {tag: theirs, 0x00100010: name})
    before = tree_of(archive)
    with pytest.raises(DicomStudyError) as refusal:
        resolve(archive, keyword, 2)
    assert refusal.value.code == "change/group"
    assert keyword in str(refusal.value)
    assert tree_of(archive) == before
    resolve(archive, keyword, 1)
    assert dicomstudy.verify(archive).problems == []
    with dicomstudy.open_archive(archive)[make.uid("ct")] as study:
        assert len({repr(each.metadata()[keyword]) for each in study.values()}) == 1


def test_values_that_are_the_same_on_all_sides_are_no_matter(tmp_path: Path) -> None:
    size = {0x00101020: make.element(0x00101020, "FD", struct.pack("<d", 1.75))}
    older = make.element(0x00101010, "AS", "041Y")
    archive = archive_of(tmp_path, {**size, 0x00101010: AGE}, {**size, 0x00101010: older})
    resolve(archive, "PatientAge", 2)
    assert dicomstudy.verify(archive).problems == []
    assert dicomstudy.conflicts(archive) == []


@pytest.mark.parametrize("charset", ["", "ISO_IR 6", "ISO_IR 100", "ISO_IR 192"])
@pytest.mark.parametrize("outer", ["ISO_IR 6", "ISO_IR 100"])
def test_text_of_items_is_given_without_their_character_set(
    charset: str, outer: str, tmp_path: Path
) -> None:
    """Also where it is not valid in that; another set alone is no conflict."""
    raw = "T\xeate".encode("utf-8" if charset == "ISO_IR 192" else "latin-1")
    meaning = make.element(0x00080104, "LO", raw)
    theirs = codes(make.element(0x00080005, "CS", charset), CODE, meaning)
    plain = codes(make.element(0x00080005, "CS", "ISO_IR 144"), CODE)
    of_set = {0x00080005: make.element(0x00080005, "CS", outer)}
    archive = archive_of(tmp_path, of_set, *[{**of_set, 0x00081032: e} for e in (theirs, plain)])
    differences = resolve(archive, "ProcedureCodeSequence", 2)
    said = {"CodeValue": "A", "CodeMeaning": "T\xeate"}
    assert [said] in differences["ProcedureCodeSequence"]
    assert [{"CodeValue": "A"}] in differences["ProcedureCodeSequence"]
    assert dicomstudy.conflicts(archive) == []
    assert dicomstudy.verify(archive).problems == []
    dicomstudy.restore(archive, tmp_path / "out")
    dicomstudy.convert([tmp_path / "out"], tmp_path / "again")
    assert dicomstudy.conflicts(tmp_path / "again") == []
    with dicomstudy.open_archive(archive)[make.uid("ct")] as study:
        assert not study[make.uid("ct/1/2")].changed
        codes_of = [each.metadata()["ProcedureCodeSequence"][0] for each in study.values()]
    assert [code["CodeMeaning"] for code in codes_of] == ["T\xeate"] * 3


def test_wrong_group_lengths_in_items_are_given_to_nobody(tmp_path: Path) -> None:
    other = make.element(0x00080100, "SH", "B")
    right = make.element(0x00080000, "UL", len(other))
    archive = archive_of(
        tmp_path,
        {0x00081032: codes(GROUP_LENGTH, CODE)},
        {0x00081032: codes(other)},
        {0x00081032: codes(right, other)},
        {0x00081032: codes(CODE)},
    )
    differences = resolve(archive, "ProcedureCodeSequence", 1)
    assert differences["ProcedureCodeSequence"] == [[{"CodeValue": "A"}], [{"CodeValue": "B"}]]
    assert dicomstudy.conflicts(archive) == []
    dicomstudy.restore(archive, tmp_path / "out")
    found = []
    with dicomstudy.open_archive(archive)[make.uid("ct")] as study:
        every = [study[make.uid(f"ct/1/{number}")] for number in (1, 2, 3, 4)]
        assert [each.changed for each in every] == [False, True, True, False]
        for each in every:
            (item,) = each.to_dataset().ProcedureCodeSequence
            found.append(item[0x00080000].value if 0x00080000 in item else None)
    assert found == [0xFF, None, len(CODE), None]


def test_records_without_file_are_given_any_value(tmp_path: Path) -> None:
    """Nothing is written of them. A key in an item may be that of no element."""
    files = []
    for number, padding in enumerate((-2000, 0)):
        item = {"CodeValue": f"{number}", "ItemDelimitationItem": None}
        uids = {"StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.3"}
        values = {"PixelPaddingValue": padding, "ProcedureCodeSequence": [item]}
        record = {
            "sourceInfo": {"uri": "file:///nowhere"},
            "dataSet": {**uids, "SOPInstanceUID": f"1.4.{number}", **values},
        }
        files.append((f"{number}.ion", ion.dumps(record)))
    dicomstudy.convert([studies.write_files(tmp_path / "in", files)], tmp_path / "archive")
    archive = dicomstudy.open_archive(tmp_path / "archive")
    for conflict in dicomstudy.conflicts(archive):
        (side,) = [each for each in conflict.sides if "1.4.0" in each.instances]
        where, keep = conflict.series, side.digest
        dicomstudy.resolve(archive, "1.2", group=conflict.group, series=where, keep=keep)
    for _ in range(2):
        assert dicomstudy.conflicts(archive) == []
        assert dicomstudy.verify(archive).problems == []
        dicomstudy.export_tables(archive, tmp_path / "tables")
        dicomstudy.collect(archive, older_versions=True, remove=True)
    with archive["1.2"] as study:
        every = [each.attributes() for each in study.values()]
    assert [each["PixelPaddingValue"] for each in every] == [-2000, -2000]
    assert [each["ProcedureCodeSequence"][0]["CodeValue"] for each in every] == ["0", "0"]


def test_numbers_of_two_vrs_are_given_with_theirs(tmp_path: Path) -> None:
    """Not where none are written, and they would be others."""
    signed = {
        0x00280103: make.element(0x00280103, "US", 1),
        0x00280120: make.element(0x00280120, "SS", b"\x30\xf8"),
    }
    archive = archive_of(tmp_path, signed, {0x00280120: make.element(0x00280120, "US", 0)}, {})
    resolve(archive, "PixelPaddingValue", 1)
    with dicomstudy.open_archive(archive)[make.uid("ct")] as study:
        read = [each.to_dataset()[0x00280120] for each in study.values()]
    assert [(each.VR, each.value) for each in read] == [("SS", -2000)] * 3
    named = [("ct", 0x0020000D), ("ct/1", 0x0020000E), ("late", 0x00080018)]
    uids = sorted((tag, make.uid(name)) for name, tag in named)
    late = b"".join(make.element(tag, "UI", uid, explicit=False) for tag, uid in uids)
    late += make.element(0x00280120, "US", 0, explicit=False)
    late = make.part10(make.file_meta(make.IMPLICIT, make.CT_IMAGE, make.uid("late")), late)
    dicomstudy.convert([studies.write_files(tmp_path / "late", [("4", late)])], archive)
    with pytest.raises(DicomStudyError) as refusal:
        resolve(archive, "PixelPaddingValue", 1)
    assert refusal.value.code == "change/value"


def test_a_side_with_a_repeated_element_in_an_item_is_taken_over(tmp_path: Path) -> None:
    """With its padding, and text that no character set holds."""
    for first, last in ((b"1 ", b"2 "), (b"  ", b"2 "), (b"1 ", b"  "), (b"\x1bQ\xe4 ", b"2 ")):
        folder = tmp_path / f"{first!r}{last!r}".replace("\\", "_")
        files = []
        for number, values in enumerate([(first, last), (first, last), (last,)], 1):
            code = b"".join(make.element(0x00080104, "LO", value) for value in values)
            replace = {0x00081032: make.element(0x00081032, "SQ", make.item(code))}
            files.append((f"{number}.dcm", make.ct_slice("ct", 1, number, replace=replace)))
        studies.write_files(folder / "in", files)
        dicomstudy.convert([folder / "in"], folder / "archive")
        (conflict,) = dicomstudy.conflicts(folder / "archive")
        keep = max(conflict.sides, key=lambda side: len(side.instances)).digest
        dicomstudy.resolve(folder / "archive", conflict.study, group=conflict.group, keep=keep)
        assert dicomstudy.verify(folder / "archive").problems == []
        dicomstudy.restore(folder / "archive", folder / "out")
        dicomstudy.convert([folder / "out"], folder / "again")
        for name in ("archive", "again"):
            every = dicomstudy.open_archive(folder / name)[conflict.study].values()
            codes = [each.attributes()["ProcedureCodeSequence"] for each in every]
            assert codes == [codes[0]] * 3
            assert codes[0][0].keys() == {"CodeMeaning#1", "CodeMeaning"}
