"""Nothing is left, and nothing fails, whatever stands in a file: spec/deidentification.md."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import amazon.ion.simpleion as ion
import pydicom
import pytest

import dicomstudy
from dicomstudy import elements
from dicomstudy.deidentification.confidentiality import policy
from dicomstudy.deidentification.copies import ValuesOf
from dicomstudy.deidentification.identities import Identities
from dicomstudy.deidentification.transfer import Transfer
from dicomstudy.p10 import read, read_items
from dicomstudy.record import character_set_of
from fixtures import make
from tests import studies
from tests.deidentified import KEY, NEW, in_item
from tests.plants import DEFINITIONS, haystack
from tests.test_codestreams import jpeg, segment

CLEAN = "clean-descriptors"
CHARSET, NAME, ID, TEXT = 0x00080005, 0x00100010, 0x00100020, 0x00204000


class Result(NamedTuple):
    """A de-identified archive: its report, its files as pydicom reads them, and all its bytes."""

    report: dicomstudy.Deidentified
    files: Sequence[pydicom.Dataset]
    content: bytes

    @property
    def only(self) -> pydicom.Dataset:
        """The one file of it."""
        (file,) = self.files
        return file

    @property
    def codes(self) -> set[str]:
        """What the report tells of."""
        return {risk.code for risk in self.report.risks}


def deidentified(folder: Path, *files: bytes, options: tuple[str, ...] = ()) -> Result:
    """The result of some files, which is whole, and what `convert` makes of its files."""
    studies.write_files(folder / "in", [(f"{at}.dcm", file) for at, file in enumerate(files)])
    dicomstudy.convert([folder / "in"], folder / "archive")
    report = dicomstudy.deidentify(folder / "archive", folder / "out", key=KEY, options=options)
    assert dicomstudy.verify(folder / "out").problems == []
    dicomstudy.restore(folder / "out", folder / "restored")
    assert dicomstudy.convert([folder / "restored"], folder / "again").quarantined == 0
    assert studies.digests_of(folder / "out") == studies.digests_of(folder / "again")
    restored = [pydicom.dcmread(path) for path in sorted((folder / "restored").rglob("*.dcm"))]
    return Result(report, restored, haystack(folder / "out", folder / "restored"))


def file_of(*elements: bytes, name: str = "odd", syntax: str = make.EXPLICIT) -> bytes:
    explicit = syntax != make.IMPLICIT
    return make.part10(make.file_meta(syntax), make.small(name, *elements, explicit=explicit))


def big_endian(*elements: tuple[int, str, Any]) -> bytes:
    """A big-endian file of one study with such elements."""
    rows: dict[int, tuple[str, Any]] = {
        0x00080016: ("UI", make.SECONDARY_CAPTURE),
        0x00080018: ("UI", make.uid("big")),
        0x0020000D: ("UI", make.uid("wrecks")),
        0x0020000E: ("UI", make.uid("wrecks/1")),
    }
    rows.update({tag: (vr, value) for tag, vr, value in elements})
    content = [make.element(tag, *rows[tag], big=True) for tag in sorted(rows)]
    return make.part10(make.file_meta(make.BIG_ENDIAN), b"".join(content))


# UIDs


def test_uids_that_an_option_keeps_stay_though_others_of_them_go(tmp_path: Path) -> None:
    """UID (0040,A124) and Digital Signature UID have no column of Retain UIDs."""
    study = make.element(0x0020000D, "UI", make.uid("kept"))
    reference = make.element(0x0040A124, "UI", make.uid("kept"))
    text = make.element(TEXT, "LT", f"of {make.uid('kept')}")
    files = file_of(study, name="a"), file_of(study, in_item(0x0040A730, reference), text)
    made = deidentified(tmp_path, *files, options=("retain-uids", CLEAN))
    assert [file.StudyInstanceUID for file in made.files] == [make.uid("kept")] * 2
    contents = [file.ContentSequence[0].UID for file in made.files if "ContentSequence" in file]
    assert contents == [NEW.uid(make.uid("kept"))]


# Names in text


@pytest.mark.parametrize("charset", ["ISO_IR 192", ""])
@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("患者Grubenhuber的检查", "患者的检查"),
        ("Grubenhuber様の検査", "様の検査"),
        ("환자 Grubenhuber의 검사", "환자 의 검사"),
        ("编号PID12345的", "编号的"),
        ("生于1935-04-12的", "生于的"),
        ("xGrubenhubers", "xGrubenhubers"),
        ("アンギオ", "アンギオ"),
        ("アンA", "A"),
    ],
)
def test_what_identifies_is_found_beside_letters_between_which_no_spaces_are_set(
    charset: str, text: str, left: str, tmp_path: Path
) -> None:
    codec = "utf-8" if charset == "ISO_IR 192" else "gb18030"
    name, raw = (
        each.encode(codec) + b" " * (len(each.encode(codec)) % 2)
        for each in ("Grubenhuber^アン", text)
    )
    made = deidentified(
        tmp_path,
        file_of(
            make.element(CHARSET, "CS", charset),
            make.element(NAME, "PN", name),
            make.element(ID, "LO", "PID12345"),
            make.element(0x00100030, "DA", "19350412"),
            make.element(TEXT, "LT", raw),
        ),
        options=(CLEAN,),
    )
    if charset:
        assert made.only.ImageComments == left
    else:  # its letters are those of no character set
        assert text == left or not re.search("Grubenhuber|12345|1935", made.only.ImageComments)


# Numbers, bytes and private attributes


SAFE = in_item(
    0x00080300,
    make.element(0x00080301, "US", 9),
    make.element(0x00080302, "LO", "MAKER"),
    make.element(0x00080303, "CS", "SAFE"),
)


@pytest.mark.parametrize("size", [16, 600])
@pytest.mark.parametrize("text", ["Grubenhuber ", "1.2.826.0.1.7"])
@pytest.mark.parametrize(
    ("tag", "vr"),
    [(0x54001010, "OW"), (0x00282000, "OF"), (0x00281201, "OW"), (0x00209057, "UL"),
     (0x00091001, "OW"), (0x00091001, "UL"), (0x00091001, "OB")],
)  # fmt: skip
def test_bytes_of_big_endian_files_are_read_as_they_stand_there(
    tag: int, vr: str, text: str, size: int, tmp_path: Path
) -> None:
    safe = b"".join(
        make.element(each, kind, value, big=True)
        for each, kind, value in (
            *((0x00080301, "US", 9), (0x00080302, "LO", "MAKER")),
            (0x00080303, "CS", "SAFE"),
        )
    )
    file = big_endian(
        (0x00080014, "UI", "1.2.826.0.1.7"),
        (NAME, "PN", "Grubenhuber^Xaver"),
        (0x00080300, "SQ", make.item(safe, big=True)),
        (0x00090010, "LO", "MAKER"),
        (tag, vr, text.encode().ljust(size, b"x")),
    )
    made = deidentified(tmp_path, file, options=("retain-safe-private",))
    assert text.encode() not in made.content
    assert tag not in made.only
    assert "risk/unreadable" in made.codes


@pytest.mark.parametrize(("number", "stays"), [("20200102.5", True), ("2020-01-02", False)])
def test_a_plain_number_is_no_day(number: str, stays: bool, tmp_path: Path) -> None:
    day = make.element(0x00080020, "DA", "20200102")
    made = deidentified(tmp_path, file_of(day, make.element(0x00180050, "DS", number)))
    assert (number.encode() in made.content) == stays


# Odd content


#: What de-identification itself reads of an instance.
READ = (
    *(0x00080005, 0x00080018, 0x0020000D, 0x0020000E, 0x00080016, 0x00080060, 0x00080064),
    *(0x00080300, 0x00100010, 0x00100020, 0x00100021, 0x00100030, 0x00180015, 0x00280002),
    *(0x00280004, 0x00280008, 0x00280010, 0x00280011, 0x00280100, 0x00280301, 0x00280302),
    *(0x00120062, 0x00120063, 0x00120064, 0x00280303, 0x00420011, 0x00420015, 0x60000100),
    *(0x60000102, 0x7FE00001, 0x7FE00010),
)


@pytest.mark.parametrize("vr", ["SQ", "OB", "LT", "FD", "AT", "UN", "PN"])
def test_no_attribute_of_another_vr_ends_the_run(vr: str, tmp_path: Path) -> None:
    value = {"SQ": make.item(), "LT": b"odd " * 100}.get(vr, bytes(range(1, 9)) * 2)
    odd = [file_of(make.element(tag, vr, value), name=f"{tag:08X}") for tag in READ]
    fine = file_of(make.element(0x0020000D, "UI", make.uid("fine")), name="fine")
    studies.write_files(tmp_path / "in", [(f"{at}.dcm", f) for at, f in enumerate([*odd, fine])])
    dicomstudy.convert([tmp_path / "in"], tmp_path / "archive")
    options = CLEAN, "retain-safe-private", "retain-longitudinal-modified-dates"
    report = dicomstudy.deidentify(tmp_path / "archive", tmp_path / "out", options=options, key=KEY)
    assert report.problems == []
    assert NEW.uid(make.uid("fine")) in dicomstudy.open_archive(tmp_path / "out")
    assert dicomstudy.verify(tmp_path / "out").problems == []


def test_no_study_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add = Transfer.add

    def fail(transfer: Transfer, instance: Any) -> None:
        if instance.study.uid == make.uid("wrecks"):
            raise TypeError("of a value in it")
        add(transfer, instance)

    monkeypatch.setattr(Transfer, "add", fail)
    fine = file_of(make.element(0x0020000D, "UI", make.uid("fine")), name="fine")
    studies.write_files(tmp_path / "in", [("odd.dcm", file_of()), ("fine.dcm", fine)])
    dicomstudy.convert([tmp_path / "in"], tmp_path / "archive")
    report = dicomstudy.deidentify(tmp_path / "archive", tmp_path / "out", key=KEY)
    (problem,) = report.problems
    assert problem.code == "deidentify/failed"
    assert "TypeError" in problem.message
    assert "value" not in problem.message
    assert report.studies == 1


def test_memory_that_does_not_suffice_is_no_defect_of_a_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Transfer, "add", short)
    studies.write_files(tmp_path / "in", [("odd.dcm", file_of())])
    dicomstudy.convert([tmp_path / "in"], tmp_path / "archive")
    with pytest.raises(MemoryError):
        dicomstudy.deidentify(tmp_path / "archive", tmp_path / "out", key=KEY)


def private(*elements: bytes, charset: str = "ISO_IR 192", name: str = "Öz^X") -> bytes:
    """A file with such private elements, all of which it declares safe."""
    creator = make.element(0x00090010, "LO", "MAKER")
    fixed = [make.element(CHARSET, "CS", charset), make.element(NAME, "PN", name)]
    return file_of(*fixed, make.element(0x00080020, "DA", "20200102"), SAFE, creator, *elements)


def private_values(file: pydicom.Dataset) -> dict[int, Any]:
    return {e.tag.element & 0xFF: e.value for e in file if e.tag.group == 9 and e.tag.element > 255}


def test_private_text_is_read_by_its_vr_and_character_set(tmp_path: Path) -> None:
    texts = "for Öz", "for all", "of Üb", "öz\\x"
    elements = [make.element(0x00091001 + at, "LO", text) for at, text in enumerate(texts)]
    elements.append(make.element(0x00091005, "LO", b"for\1all "))
    elements.append(make.element(0x00091006, "LO", "1.2.3.4"))
    elements.append(make.element(0x00091007, "LO", "20190203"))
    elements.append(make.element(0x00091010, "UN", "von Öz"))
    elements.append(make.element(0x00091011, "UN", "von Öz".encode("latin-1")))
    elements.append(make.element(0x00091012, "UN", b"for\1all "))
    elements.append(make.element(0x00091013, "UN"))
    made = deidentified(tmp_path, private(*elements), options=("retain-safe-private",))
    values = private_values(made.only)
    assert values.pop(0x12) == b"for\1all "
    assert not values.pop(0x13)
    assert values == {2: "for all", 3: "of Üb", 6: "1.2.3.4", 7: "20190203"}


@pytest.mark.parametrize("vr", ["as it is", "UN"])
@pytest.mark.parametrize("dates", ["", "modified-dates", "full-dates"])
@pytest.mark.parametrize("uids", [(), ("retain-uids",)], ids=len)
def test_private_uids_and_dates_become_what_others_do(
    uids: tuple[str, ...], dates: str, vr: str, tmp_path: Path
) -> None:
    long = "\\".join(f"1.2.3.{at}.1" for at in range(50))
    values = [
        *(("UI", "1.2.3.99.1"), ("UI", long), ("DA", "20200103"), ("DT", "20200103101112")),
        *(("DA", "2020"), ("TM", "101112"), ("PN", "Somebody"), ("UR", "http://somebody.example")),
    ]
    elements = [
        make.element(0x00091001 + at, vr if vr == "UN" and at < 4 else kind, value)
        for at, (kind, value) in enumerate(values)
    ]
    options = "retain-safe-private", *([f"retain-longitudinal-{dates}"] if dates else ()), *uids
    made = deidentified(tmp_path, private(*elements, make.element(0x000910FF, "PN")),
                        options=options)  # fmt: skip
    found = {
        at: value.rstrip(b"\0 ").decode() if type(value) is bytes else value
        for at, value in private_values(made.only).items()
    }
    new = (lambda uid: uid) if uids else NEW.uid
    assert found.pop(1) == new("1.2.3.99.1")
    lengthy = found.pop(2)
    assert (lengthy.split("\\") if type(lengthy) is str else lengthy) == list(
        map(new, long.split("\\"))
    )
    if not dates:
        assert found == {}
    elif dates == "full-dates":
        assert found == {3: "20200103", 4: "20200103101112", 5: "2020", 6: "101112"}
    else:
        study = datetime.strptime(made.only.StudyDate, "%Y%m%d").replace(tzinfo=UTC)
        next_day = f"{study + timedelta(1):%Y%m%d}"
        assert found == {3: next_day, 4: f"{next_day}101112", 6: "101112"}


def test_huge_private_values_are_not_read_and_go_if_they_are_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []

    def counted(values: ValuesOf, reference: Mapping[str, Any]) -> bytes:
        read.append(reference["length"])
        return read_value(values, reference)

    read_value = ValuesOf.read
    monkeypatch.setattr(ValuesOf, "read", counted)
    monkeypatch.setattr("dicomstudy.deidentification.cleaning._LOOKED_THROUGH", 1000)
    samples = b"8\\" * 600
    elements = [
        make.element(0x00091001, "UN", samples),
        make.element(0x00091002, "OB", samples),
        make.element(0x00091003, "UT", "x" * 1002),
        make.element(0x00091004, "UC", "x" * 1004),
        make.element(0x00091005, "UT", "y" * 1000),
    ]
    made = deidentified(tmp_path, private(*elements), options=("retain-safe-private",))
    assert private_values(made.only) == {1: samples, 2: samples, 5: "y" * 1000}
    assert set(read) == {1000}
    assert "risk/unreadable" in made.codes


def test_text_with_escape_sequences_that_mean_nothing_goes(tmp_path: Path) -> None:
    elements = [
        make.element(NAME, "PN", b"\x1b.AGrubenhuber "),
        make.element(TEXT, "LT", b"x\x1b[ of Ben"),
        make.element(0x00081030, "LO", b"\x1b.AGrubenhuber "),
        make.element(0x0008103E, "LO", b"of Grubenhuber"),
    ]
    made = deidentified(tmp_path, file_of(*elements), options=(CLEAN,))
    assert b"\x1b" not in b"".join(path.read_bytes() for path in tmp_path.glob("restored/**/*.dcm"))
    assert "ImageComments" not in made.only
    assert "StudyDescription" not in made.only
    assert made.only.SeriesDescription == "of"


@pytest.mark.parametrize("repeated", [1, 2])
def test_file_meta_information_is_what_stands_in_front_only(repeated: int, tmp_path: Path) -> None:
    strays = make.element(0x00020010, "UI", make.BIG_ENDIAN)
    strays += make.element(0x00020003, "UI", make.uid("stray")) * repeated
    meta = make.file_meta(sop_instance=make.uid("in front"))
    files = make.part10(meta, make.small("end", tail=strays)), file_of(name="none")
    made = deidentified(tmp_path, *files)
    for file in made.files:
        assert file.file_meta.TransferSyntaxUID == make.EXPLICIT
        assert file.PatientIdentityRemoved == "YES"
    found = {file.file_meta.get("MediaStorageSOPInstanceUID") for file in made.files}
    assert found == {NEW.uid(make.uid("wrecks/1/end")), None}


def test_there_is_no_file_meta_information_in_items(tmp_path: Path) -> None:
    stray = make.element(0x00020010, "UI", "1.2.3.4", explicit=False)
    item = make.element(0x00082218, "SQ", make.item(stray), explicit=False)
    made = deidentified(tmp_path, file_of(item, syntax=make.IMPLICIT))
    assert len(made.only.AnatomicRegionSequence[0]) == 0


def test_an_empty_date_stays_empty_where_dates_are_moved(tmp_path: Path) -> None:
    """Series Date would get a dummy, which is a date."""
    dates = [make.element(tag, "DA") for tag in (0x00080021, 0x0040A121)]
    dates += [make.element(0x00080022, "DA", "2020")]
    options = ("retain-longitudinal-modified-dates",)
    made = deidentified(tmp_path, file_of(*dates), options=options)
    assert made.only.SeriesDate == made.only.Date == made.only.AcquisitionDate == ""


def test_what_says_how_an_item_is_to_be_read_stays_in_one_that_is_replaced(tmp_path: Path) -> None:
    """Codes, tags and integers of Content Sequence; UIDs become new ones, all else dummies."""
    rows: list[tuple[int, str, Any]] = [
        *((0x00720060, "AT", b"\x28\0\x10\0"), (0x00720062, "CS", "CODE")),
        *((0x00720064, "IS", "7"), (0x00720074, "FD", 7.5), (0x00720076, "FL", 7.5)),
        *((0x00720078, "UL", 7), (0x0072007A, "US", 7), (0x0072007C, "SL", 7)),
        *((0x0072007E, "SS", 7), (0x0072007F, "UI", "1.2.3.4"), (0x00720082, "SV", 7)),
        (0x00720083, "UV", 7),
    ]
    item = in_item(0x0040A730, *(make.element(*row) for row in rows))
    (found,) = deidentified(tmp_path, file_of(item)).only.ContentSequence
    assert {element.VR: element.value for element in found} == {
        **dict.fromkeys(("UL", "US", "SL", "SS", "SV", "UV"), 7),
        "AT": 0x00280010,
        "CS": "CODE",
        "UI": NEW.uid("1.2.3.4"),
        "IS": 0,
        "FD": 0.0,
        "FL": 0.0,
    }


@pytest.mark.parametrize("of_item", [False, True])
@pytest.mark.parametrize("of_sequence", [False, True])
def test_elements_are_in_the_order_of_tags_in_items_too(
    of_sequence: bool, of_item: bool, tmp_path: Path
) -> None:
    """And the lengths of sequences and items are undefined where they were."""
    codes = [make.element(tag, "SH", "CODE") for tag in (0x00080102, 0x00080000, 0x00080100)]
    item = make.item(b"".join(codes), undefined=of_item)
    sequence = make.element(0x00082218, "SQ", item, undefined=of_sequence)
    deidentified(tmp_path, make.part10(make.file_meta(), make.small("odd", tail=sequence)))
    (path,) = (tmp_path / "restored").rglob("*.dcm")
    every = read(path.read_bytes()).elements
    assert [each.tag for each in every] == sorted(each.tag for each in every)
    (value,) = (each.value for each in every if each.tag == 0x00082218)
    if type(value) is bytes:
        assert not of_sequence
        value = read_items(value, "SQ", explicit=True, big=False)
    assert isinstance(value, elements.Sequence)
    assert value.undefined == of_sequence
    (found,) = value.items
    assert [each.tag for each in found.elements] == [0x00080100, 0x00080102]
    assert found.undefined == of_item


def test_new_uids_that_are_too_long_for_their_vr_are_written_without(tmp_path: Path) -> None:
    uids = "\\".join(f"1.2.840.113619.2.55.3.{at:08}" for at in range(1600))
    private_uids = make.element(0x00091001, "UI", uids)
    failed = make.element(0x00080058, "UI", uids)
    made = deidentified(tmp_path, private(failed, private_uids), options=("retain-safe-private",))
    new = [NEW.uid(uid) for uid in uids.split("\\")]
    for tag in (0x00080058, 0x00091001):
        assert made.only[tag].VR == "UN"
        assert made.only[tag].value.rstrip(b"\0").decode().split("\\") == new


def test_a_record_without_its_file_takes_no_other_instance_with_it(tmp_path: Path) -> None:
    """Not even if it refers to large values of that file."""
    record = {
        "sourceInfo": {"uri": "file:///nowhere/gone.dcm"},
        "options": {"maximumInlineDataLength": 256},
        "fileInfo": {"sha256": "0" * 64},
        "dataSet": {
            "SOPInstanceUID": make.uid("gone"),
            "StudyInstanceUID": make.uid("wrecks"),
            "SeriesInstanceUID": make.uid("wrecks/1"),
            "SOPClassUID": make.SECONDARY_CAPTURE,
            "InstitutionName": "Nowhere",
            "InstitutionAddress": {"length": 480, "sha256": "a" * 64, "dataOffset": 500},
        },
    }
    files = {
        "gone.ion": ion.dumps(record),
        "1.dcm": file_of(make.element(TEXT, "LT", "in Nowhere")),
    }
    studies.write_files(tmp_path / "in", files.items())
    dicomstudy.convert([tmp_path / "in"], tmp_path / "archive")
    report = dicomstudy.deidentify(tmp_path / "archive", tmp_path / "out", options=[CLEAN], key=KEY)
    assert [problem.code for problem in report.problems] == ["deidentify/no-file"]
    assert report.instances == 1
    assert b"Nowhere" not in haystack(tmp_path / "out")


@pytest.mark.parametrize("size", [14, 302])
@pytest.mark.parametrize(
    ("tag", "vr"),
    [(0x00189073, "FD"), (0x00221053, "FL"), (0x00091001, "FD"), (0x00091001, "AT")],
)
def test_numbers_of_a_wrong_length_go_wherever_they_are(
    tag: int, vr: str, size: int, tmp_path: Path
) -> None:
    number = make.element(tag, vr, b"x" * size)
    elements = [number, in_item(0x0040A730, number)] if tag >> 16 != 9 else [number]
    made = deidentified(tmp_path, private(*elements), options=("retain-safe-private",))
    assert tag not in made.only
    assert all(len(item) == 0 for item in made.only.get("ContentSequence", ()))
    assert "risk/unreadable" in made.codes


@pytest.mark.parametrize(
    ("tag", "vr", "value"),
    [
        (0x00280009, "UL", b"\x18\0\x63\x10"),
        (0x00280009, "OB", bytes(4)),
        (0x00280002, "AT", bytes(4)),
    ],
)
def test_tags_are_no_numbers_and_numbers_no_tags(
    tag: int, vr: str, value: bytes, tmp_path: Path
) -> None:
    """Frame Increment Pointer has tags, Samples per Pixel a number, whatever the header says."""
    made = deidentified(tmp_path, file_of(make.element(tag, vr, value)))
    assert tag not in made.only
    assert "risk/unreadable" in made.codes


# Risks


@pytest.mark.parametrize("name", ["Grubenhuber^X", "Headneck^X"])
def test_a_face_is_told_of_though_the_part_of_the_body_was_cut_out(
    name: str, tmp_path: Path
) -> None:
    part, patient = make.element(0x00180015, "CS", "HEADNECK"), make.element(NAME, "PN", name)
    pixels = make.element(0x7FE00010, "OB", b"abcd")
    made = deidentified(tmp_path, file_of(part, patient, pixels))
    assert made.only.BodyPartExamined == ("REMOVED" if name == "Headneck^X" else "HEADNECK")
    assert "risk/visual-features" in made.codes


@pytest.mark.parametrize(
    ("elements", "told"),
    [
        ([(0x60000100, "US", 16)], True),
        ([(0x60000100, "US", 1), (0x60000102, "US", 12)], True),
        ([(0x601E0100, "US", 1), (0x601E0102, "US", 8)], True),
        ([(0x60000100, "US", 1), (0x60000102, "US", 0)], False),
        ([(0x60000102, "US", 0)], False),
    ],
    ids=str,
)
def test_an_overlay_in_unused_bits_of_the_pixel_data_is_told_of(
    elements: list[tuple[int, str, Any]], told: bool, tmp_path: Path
) -> None:
    """Overlay Bits Allocated and Overlay Bit Position say so (PS3.5 section 8.1.2)."""
    pixels = make.element(0x7FE00010, "OB", b"abcd")
    overlay = [make.element(*element) for element in elements]
    made = deidentified(tmp_path, file_of(*overlay, pixels))
    assert ("risk/overlay" in made.codes) == told


def test_text_of_spaces_is_no_text_to_be_read(tmp_path: Path) -> None:
    made = deidentified(tmp_path, file_of(make.element(TEXT, "LT", "  ")), options=(CLEAN,))
    assert not made.only.ImageComments
    assert "risk/free-text" not in made.codes


# Stamps


def test_long_stamps_and_key_uids_stand_where_convert_has_them(tmp_path: Path) -> None:
    options = (
        *("clean-graphics", "clean-structured-content", CLEAN, "retain-device-identity"),
        *("retain-longitudinal-full-dates", "retain-uids"),
    )
    made = deidentified(tmp_path / "stamps", file_of(), options=options)
    assert len("\\".join(made.only.DeidentificationMethod)) > 256
    series = make.element(0x0020000E, "UI", "\\".join(f"1.2.3.{at}" for at in range(8)))
    made = deidentified(tmp_path / "uids", file_of(series))
    assert len(made.only.SeriesInstanceUID) == 8


def test_what_another_run_did_is_still_said(tmp_path: Path) -> None:
    days = "retain-longitudinal-{}-dates"
    deidentified(tmp_path / "1", file_of(), options=(days.format("modified"), CLEAN))
    (first,) = (tmp_path / "1" / "restored").rglob("*.dcm")
    second = deidentified(tmp_path / "2", first.read_bytes(), options=(days.format("full"),))
    assert second.only.LongitudinalTemporalInformationModified == "MODIFIED"
    codes = [item.CodeValue for item in second.only.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113105", "113106", "113107"]
    (file,) = (tmp_path / "2" / "restored").rglob("*.dcm")
    third = deidentified(tmp_path / "3", file.read_bytes())
    assert third.only.LongitudinalTemporalInformationModified == "REMOVED"
    (file,) = (tmp_path / "3" / "restored").rglob("*.dcm")
    last = deidentified(tmp_path / "4", file.read_bytes(), options=(days.format("modified"),))
    assert last.only.LongitudinalTemporalInformationModified == "REMOVED"


# UIDs and numbers


@pytest.mark.parametrize(
    ("tag", "vr"), [(0x00200013, "IS"), (0x00180050, "DS"), (0x40080113, "TM"), (0x0040A121, "DA")]
)
def test_uids_that_go_are_found_among_numbers_and_times(tag: int, vr: str, tmp_path: Path) -> None:
    uid = "1.2.826.0.1.3680043.7.1"
    elements = make.element(0x00080014, "UI", uid), make.element(tag, vr, f"{uid}\\5")
    made = deidentified(tmp_path, file_of(*elements), options=(CLEAN,))
    assert uid.encode() not in made.content


def test_two_numbers_are_no_uid_anywhere(tmp_path: Path) -> None:
    elements = [make.element(tag, "UI", "2.123456789") for tag in (0x00080014, 0x00080062)]
    made = deidentified(tmp_path, file_of(*elements))
    assert b"2.123456789" not in made.content


@pytest.mark.parametrize(
    ("vr", "number", "text"),
    [
        ("UL", 12345678, "12345678"),
        ("UV", 123456789012345678, "123456789012345678"),
        ("UV", 12345678901234567891, "12345678901234567891"),
        ("SV", -1234567890123456789, "-1234567890123456789"),
        ("FD", 12345678.0, "12345678"),
        ("FD", 12345679.0, "12345679"),
        ("FD", 1e20, "100000000000000000000"),
        ("FD", 12345.6, "12345.6"),
    ],
)
def test_an_id_that_is_written_as_a_number_is_found_in_text(
    vr: str, number: float, text: str, tmp_path: Path
) -> None:
    elements = make.element(ID, vr, number), make.element(TEXT, "LT", f"of {text}")
    made = deidentified(tmp_path, file_of(*elements), options=(CLEAN,))
    assert made.only.ImageComments == "of"


@pytest.mark.timeout(20)
def test_uids_are_found_in_time_that_grows_with_the_length_alone() -> None:
    identities = Identities(policy("basic", [], DEFINITIONS), DEFINITIONS, NEW.uid)
    longest = "1." * 31 + "22"
    for uid in (longest, too_long := "1." * 20_000 + "3"):
        identities.gather({"InstanceCreatorUID": uid}, character_set_of(None), lambda *_: None)
    dotted = "1." * 200_000 + "4"
    assert identities.clean("ImageComments", "LT", dotted) == dotted
    assert identities.clean("ImageComments", "LT", f"{too_long} x") == f"{NEW.uid(too_long)} x"
    text = f"7.{longest}.7"
    assert identities.clean("ImageComments", "LT", text) == f"7.{NEW.uid(longest)}.7"
    digits = "1" * 100_000
    long_numbers = ".".join([digits] * 40)
    assert identities.clean("ImageComments", "LT", long_numbers) == long_numbers


@pytest.mark.parametrize("count", [100, 129])
def test_any_number_of_private_elements_may_be_declared_safe(count: int, tmp_path: Path) -> None:
    mixed = in_item(
        0x00080300,
        make.element(0x00080301, "US", 9),
        make.element(0x00080302, "LO", "MAKER"),
        make.element(0x00080303, "CS", "MIXED"),
        make.element(0x00080304, "US", range(count)),
    )
    elements = make.element(0x00091001, "LO", "care"), make.element(0x000910FF, "LO", "else")
    made = deidentified(tmp_path, private(mixed, *elements), options=("retain-safe-private",))
    assert private_values(made.only) == {1: "care"}


@pytest.mark.parametrize(
    ("vr", "text", "left"),
    [("SH", "1.2.3.7.1", "REMOVED"), ("SH", "a 1.2.3.7.1", "a"), ("SH", "1.2.3.4", "1.2.3.4"),
     ("LO", "1.2.3.7.1", NEW.uid("1.2.3.7.1")), ("LO", f"1.2.3.7.1 {'x' * 30}", "x" * 30)],
)  # fmt: skip
def test_a_uid_is_cut_out_where_no_new_one_fits(
    vr: str, text: str, left: str, tmp_path: Path
) -> None:
    tag = {"SH": 0x00180024, "LO": 0x00180010}[vr]
    elements = make.element(0x00080014, "UI", "1.2.3.7.1"), make.element(tag, vr, text)
    made = deidentified(tmp_path, file_of(*elements), options=(CLEAN,))
    assert made.only[tag].value == left
    assert ("risk/identity-in-text" in made.codes) == (left != text)


NAMED = jpeg(segment(0xFE, b"Ben^1935"))


@pytest.mark.parametrize(
    ("fragments", "table", "frames", "syntax", "told"),
    [
        ([jpeg()], b"", 1, make.JPEG_LOSSLESS, False),
        ([b"\0" + NAMED], b"", 1, make.JPEG_LOSSLESS, True),
        ([jpeg(), b"\0" + NAMED], b"", 2, make.JPEG_LOSSLESS, True),
        ([jpeg()[:8], jpeg()[8:]], b"", 1, make.JPEG_LOSSLESS, False),
        ([b"\0" + NAMED], b"", 1, pydicom.uid.JPEG2000, True),
        ([b"\0" + NAMED], b"", 1, "1.2.840.10008.1.2.4.110", False),
        ([make.rle_frame(bytes(16), columns=16)], b"", 1, make.RLE, False),
        ([make.rle_frame(bytes(16), columns=16)], b"Grubenhuber ", 1, make.RLE, True),
        ([jpeg()], b"Grubenhuber ", 1, make.JPEG_LOSSLESS, True),
        ([jpeg()], bytes(4), 1, make.JPEG_LOSSLESS, False),
        ([], b"Grubenhuber ", 1, make.JPEG_LOSSLESS, True),
        ([], b"", 1, make.JPEG_LOSSLESS, False),
    ],
)
def test_compressed_pixel_data_that_begins_otherwise_is_told_of(
    fragments: list[bytes], table: bytes, frames: int, syntax: str, told: bool, tmp_path: Path
) -> None:
    parts = [table, *(part + bytes(len(part) % 2) for part in fragments)]
    value = b"".join(map(make.item, parts)) + make.delimiter(0xFFFEE0DD)
    number = make.element(0x00280008, "IS", str(frames))
    made = deidentified(tmp_path, file_of(number, make.encapsulated(value), syntax=syntax))
    assert ("risk/pixel-comment" in made.codes) == told


# What another implementation of the profile found


@pytest.mark.parametrize("options", [(), ("retain-uids",)], ids=len)
def test_the_file_meta_information_names_the_instance_of_the_data_set(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    """Though it named another one, whose UID would stay."""
    source = make.part10(make.file_meta(sop_instance="1.2.3.4"), make.small("odd"))
    file = deidentified(tmp_path, source, options=options).only
    uid = make.uid("wrecks/1/odd")
    assert file.SOPInstanceUID == (uid if options else NEW.uid(uid))
    assert file.file_meta.MediaStorageSOPInstanceUID == file.SOPInstanceUID


def test_names_in_private_attributes_are_looked_for(tmp_path: Path) -> None:
    creator = make.element(0x00090010, "LO", "MAKER")
    name = make.element(0x00091001, "PN", "Grubenhuber^A")
    inside = in_item(0x00400275, creator, make.element(0x00091001, "PN", "Zacherl^B"))
    text = make.element(TEXT, "LT", "read by Grubenhuber and Zacherl")
    made = deidentified(tmp_path, file_of(creator, name, text, inside), options=(CLEAN,))
    assert made.only.ImageComments == "read by and"


def test_names_in_private_attributes_are_read_in_the_character_sets_of_person_names(
    tmp_path: Path,
) -> None:
    """Behind `^`, the first character set holds again (PS3.5 section 6.1.2.5.3)."""
    elements = [
        make.element(CHARSET, "CS", "ISO 2022 IR 100\\ISO 2022 IR 149"),
        make.element(0x00090010, "LO", "MAKER"),
        make.element(0x00091001, "PN", b"\x1b$)C\xb1\xe8^M\xfcllersche"),
        make.element(TEXT, "LT", b"of M\xfcllersche"),
    ]
    made = deidentified(tmp_path, file_of(*elements), options=(CLEAN,))
    assert made.only.ImageComments == "of"


def test_what_another_program_encrypted_goes(tmp_path: Path) -> None:
    content = make.element(0x04000520, "OB", b"all there was")
    made = deidentified(tmp_path, file_of(in_item(0x04000500, content), content))
    assert "EncryptedAttributesSequence" not in made.only
    assert b"all there was" not in made.content


def test_private_blocks_go_with_their_creator(tmp_path: Path) -> None:
    elements = make.element(0x00091001, "LO", "value"), make.element(0x00091002, "US", 1)
    made = deidentified(
        tmp_path, private(*elements, name="Maker^X"), options=("retain-safe-private",)
    )
    assert not any(element.tag.is_private for element in made.only)
    assert "risk/unreadable" in made.codes
    assert "risk/private" not in made.codes


def test_private_blocks_do_not_go_with_the_creator_of_others(tmp_path: Path) -> None:
    safe = [
        make.element(0x00080301, "US", 9) + make.element(0x00080302, "LO", creator)
        + make.element(0x00080303, "CS", "SAFE")
        for creator in ("MAKER", "OTHERS")
    ]  # fmt: skip
    name, declared = make.element(NAME, "PN", "Maker^X"), make.element(
        0x00080300, "SQ", b"".join(map(make.item, safe))
    )  # fmt: skip
    blocks = [
        *(make.element(0x00090010, "LO", "MAKER"), make.element(0x00090011, "LO", "OTHERS")),
        *(make.element(0x00091001, "LO", "value"), make.element(0x00091101, "LO", "value")),
    ]
    made = deidentified(
        tmp_path, file_of(name, declared, *blocks), options=("retain-safe-private",)
    )
    assert [element.tag for element in made.only if element.tag.is_private] == [
        0x00090011,
        0x00091101,
    ]
    assert made.codes >= {"risk/unreadable", "risk/private"}


@pytest.mark.parametrize(
    ("size", "frames", "told"), [(4, 1, False), (6, 1, True), (6, 2, False), (8, 2, True)]
)
def test_what_is_behind_the_frames_of_native_pixel_data_is_told_of(
    size: int, frames: int, told: bool, tmp_path: Path
) -> None:
    elements = [
        make.element(0x00280002, "US", 1),
        make.element(0x00280008, "IS", str(frames)),
        make.element(0x00280010, "US", 1),
        make.element(0x00280011, "US", 3),
        make.element(0x00280100, "US", 8),
        make.element(0x7FE00010, "OB", bytes(size)),
    ]
    made = deidentified(tmp_path, file_of(*elements))
    assert ("risk/pixel-comment" in made.codes) == told


@pytest.mark.parametrize(
    ("declared", "codec", "left"),
    [("ISO_IR 192", "latin-1", "f?r"), ("ISO_IR 100", "utf-8", "fÃ¼r"), ("", "utf-8", "f??r")],
)
def test_a_name_in_text_of_another_character_set_than_it_says_is_found(
    declared: str, codec: str, left: str, tmp_path: Path
) -> None:
    name = [make.element(CHARSET, "CS", "ISO_IR 192"), make.element(NAME, "PN", "Müllersche^X")]
    text = make.element(TEXT, "LT", "für Müllersche".encode(codec))
    charset = [make.element(CHARSET, "CS", declared)] if declared else []
    files = file_of(*name), file_of(*charset, text, name="other")
    made = deidentified(tmp_path, *files, options=(CLEAN,))
    (comments,) = (file.ImageComments for file in made.files if "ImageComments" in file)
    assert comments == left
    assert b"llersche" not in made.content
    assert ("risk/character-set" in made.codes) == ("?" in left)
