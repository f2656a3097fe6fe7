"""A de-identified archive tells nothing of its source: spec/deidentification.md."""

from __future__ import annotations

import fcntl
import json
import os
import re
import resource
import shutil
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import Any

import pydicom
import pytest

import dicomstudy
from dicomstudy.cli import main
from dicomstudy.deidentification.pseudonyms import Pseudonyms
from dicomstudy.disk import write_atomically
from dicomstudy.document import encode_version
from dicomstudy.errors import ArchiveError, DicomStudyError
from fixtures import make
from tests import studies
from tests.kills import killed, trees_of, written
from tests.plants import DEFINITIONS, STUDY, TABLE, Planter, found_in, haystack, headers_of
from tests.samples import LONG, chance_of, fixture_files, mutant
from tests.test_codestreams import box, codestream, jp2, jpeg, remark, segment

KEY = b"0123456789abcdef"
ARCHIVES = "dicomstudy.deidentification.archives"
NEW = Pseudonyms(KEY)
#: What tables have for names of columns.
KEYWORDS = [keyword for group in DEFINITIONS.groups for keyword in DEFINITIONS.attributes(group)]


class Planted:
    """An archive in which everything is planted that is to be removed, and its result."""

    def __init__(self, folder: Path, bulk: str, max_inline: int) -> None:
        planter = Planter()
        files = planter.files()
        elsewhere = planter.value("LO", "folder")
        self.files = studies.write_files(folder / elsewhere, files.items())
        nowhere = planter.value("LO", "quarantine").encode()
        studies.write_files(self.files, [("none.dcm", bytes(128) + b"DICM" + nowhere)])
        self.archive = folder / "archive"
        dicomstudy.convert([self.files], self.archive, bulk=bulk, max_inline=max_inline)
        old = {path: planter.value("PN", f"edit {path}") for path in ("first", "second")}
        for name in old.values():
            dicomstudy.update(self.archive, STUDY, [{"set": {"PatientName": name}}])
        dicomstudy.update(self.archive, STUDY, [{"set": {"Manufacturer": f"by {old['first']}"}}])
        dicomstudy.delete(self.archive, STUDY, instance="1.2.826.0.1.77005")
        self.planted = planter.planted
        self.before = studies.state_of(self.archive)
        self.report = dicomstudy.deidentify(self.archive, folder / "result", key=KEY)
        self.result = folder / "result"
        dicomstudy.export_tables(self.result, folder / "tables")
        dicomstudy.restore(self.result, folder / "restored")
        self.made = (self.result, folder / "tables", folder / "restored")


@pytest.fixture(scope="module", params=[("copy", 256), ("reference", 256), ("copy", 4)], ids=str)
def planted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return Planted(tmp_path_factory.mktemp("planted"), *request.param)


def test_what_is_looked_for_is_in_the_source(planted: Planted, tmp_path: Path) -> None:
    dicomstudy.restore(planted.archive, tmp_path / "changed")
    copy = shutil.copytree(planted.archive, tmp_path / "copy")
    dicomstudy.revert(copy, STUDY, to=1)
    dicomstudy.restore(copy, tmp_path / "as-it-came")
    found = found_in(planted.planted, haystack(planted.archive, *tmp_path.iterdir()))
    assert set(found) == planted.planted.keys()
    assert len(found) > 5000


def test_nothing_that_was_removed_is_in_the_result(planted: Planted) -> None:
    assert planted.report.problems == []
    assert planted.report.instances == 4
    result = haystack(*planted.made)
    assert found_in(planted.planted, result) == []
    assert found_in(planted.planted, planted.report.to_json().encode()) == []


def test_not_one_byte_of_the_source_changes(planted: Planted) -> None:
    assert studies.state_of(planted.archive) == planted.before


def test_what_is_not_removed_stays(planted: Planted) -> None:
    restored = haystack(planted.made[2])
    assert restored.count(b"kept-words") == 12 * 4
    for instance in instances(planted.result):
        assert b"".join(instance.frames()) == bytes(range(256)) * 2


def test_the_result_is_a_whole_archive(planted: Planted) -> None:
    verified = dicomstudy.verify(planted.result)
    assert verified.problems == []
    assert (verified.studies, verified.instances, verified.quarantined) == (1, 4, 0)
    for header in headers_of(planted.result):
        assert header["studyVersion"] == 1
        assert not header["historyFrames"]
        assert "retired" not in header
    assert [path.name for path in planted.result.rglob("*.part")] == []
    for instance in instances(planted.result):
        assert instance.source.uri == ""
        assert not any(key.startswith("_") or "#" in key for key in instance.attributes())


def test_files_are_written_anew_and_pydicom_reads_them(planted: Planted) -> None:
    files = sorted(planted.made[2].rglob("*.dcm"))
    assert len(files) == 4
    for path in files:
        data_set = pydicom.dcmread(path)
        tags = [element.tag for element in data_set]
        assert tags == sorted(tags)
        assert data_set.preamble == bytes(128)
        assert data_set.file_meta.MediaStorageSOPInstanceUID == data_set.SOPInstanceUID
        assert data_set.file_meta.ImplementationVersionName == "DICOMSTUDY"
        assert data_set.file_meta.TransferSyntaxUID != make.DEFLATED
        assert len(list(data_set.iterall())) > 100
        assert data_set.PatientIdentityRemoved == "YES"
    for instance in instances(planted.result):
        layout = instance.encoding["meta"] + instance.encoding["dataSet"]
        assert not set("/#^:") & set(layout)


def test_values_that_were_removed_are_not_copied(planted: Planted) -> None:
    with next(iter(dicomstudy.open_archive(planted.result).values())) as study:
        lengths = sorted(length for _, length, _ in study.places())
    assert lengths[-1] < 1000  # texts that were cleaned, and pixels
    assert 512 in lengths


def test_the_report_tells_what_to_look_at(planted: Planted) -> None:
    report = planted.report
    assert report.quarantined == 1
    assert report.complete
    told = {risk.code: risk for risk in report.risks}
    assert told["risk/burned-in"].instances == 4
    assert told["risk/modality"].instances == 4
    assert told["risk/identity-in-text"].instances == 4
    assert told["risk/encapsulated-document"].instances == 4
    assert {risk.study for risk in report.risks} == set(dicomstudy.open_archive(planted.result))
    content = json.loads(report.to_json())
    assert content["instances"] == 4
    assert content["problems"] == []
    assert content["risks"][0] == report.risks[0]._asdict()


def compressed(number: int, *frames: Sequence[bytes], syntax: str = make.JPEG_LOSSLESS) -> bytes:
    """An instance of one study with such fragments of each frame."""
    even = [[part + bytes(len(part) % 2) for part in frame] for frame in frames]
    data_set = make.dataset_of(
        {
            "SOPClassUID": make.SECONDARY_CAPTURE,
            "SOPInstanceUID": make.uid(f"compressed/{number}"),
            "StudyInstanceUID": make.uid("compressed"),
            "SeriesInstanceUID": make.uid("compressed/1"),
            "NumberOfFrames": len(frames),
            "BitsAllocated": 8,
            "PixelData": make.encapsulate(even, end=False),
        }
    )
    data_set["PixelData"].VR = "OB"
    data_set["PixelData"].is_undefined_length = True
    return make.saved(data_set, syntax)


@pytest.mark.parametrize(
    ("bulk", "max_inline"), [("copy", 256), ("reference", 256), ("copy", 1 << 16)]
)
def test_what_compressed_images_say_is_told(bulk: str, max_inline: int, tmp_path: Path) -> None:
    """In any frame, cut anywhere; and nothing is altered."""
    plain, named = jpeg(), jpeg(segment(0xFE, b"Ben^1935"))
    told = [
        compressed(1, [named]),
        compressed(2, [plain], [plain], [named]),
        compressed(3, [plain], [named[:30], named[30:]]),
        compressed(4, [codestream(remark(b"Ben "))], syntax=pydicom.uid.JPEG2000),
        compressed(5, [jp2(box(b"uuid", b"Ben "))], syntax=pydicom.uid.JPEG2000),
    ]
    quiet = [
        compressed(6, [plain], [plain]),
        compressed(7, [codestream(remark(b"Kakadu-v7.3.3"))], syntax=pydicom.uid.JPEG2000),
        compressed(8, [make.rle_frame(named, columns=len(named))], syntax=make.RLE),
        make.part10(make.file_meta(), make.small("n", make.element(0x7FE00010, "OB", named[:16]))),
    ]
    files = ((f"{at}.dcm", file) for at, file in enumerate((*told, *quiet)))
    studies.write_files(tmp_path / "in", files)
    dicomstudy.convert([tmp_path / "in"], tmp_path / "a", bulk=bulk, max_inline=max_inline)
    report = dicomstudy.deidentify(tmp_path / "a", tmp_path / "out", key=KEY)
    assert report.problems == []
    risks = {(risk.study, risk.code): risk.instances for risk in report.risks}
    assert risks[NEW.uid(make.uid("compressed")), "risk/pixel-comment"] == len(told)
    assert (NEW.uid(make.uid("wrecks")), "risk/pixel-comment") not in risks

    def pixels(archive: Path) -> list[bytes]:
        return sorted(instance.to_dataset().PixelData for instance in instances(archive))

    assert pixels(tmp_path / "out") == pixels(tmp_path / "a")


def instances(archive: Path) -> list[Any]:
    return [i for study in dicomstudy.open_archive(archive).values() for i in study.values()]


# UIDs and pseudonyms


def test_equal_keys_give_equal_results(archive: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        dicomstudy.deidentify(archive, tmp_path / name, key=KEY)
    (tmp_path / "key").write_bytes(KEY)
    dicomstudy.deidentify(archive, tmp_path / "file", key=tmp_path / "key")
    dicomstudy.deidentify(archive, tmp_path / "other", key=KEY[::-1])
    dicomstudy.deidentify(archive, tmp_path / "none")
    one = studies.state_of(tmp_path / "one")
    assert studies.state_of(tmp_path / "two") == one
    assert studies.state_of(tmp_path / "file") == one
    uids = {
        name: set(dicomstudy.open_archive(tmp_path / name)) for name in ("one", "other", "none")
    }
    assert len(set().union(*uids.values())) == sum(map(len, uids.values()))


def test_a_patient_has_one_pseudonym_in_all_studies(tmp_path: Path) -> None:
    def file(study: str, patient: str, name: str, issuer: str = "", accession: str = "") -> bytes:
        extra = [
            *(make.element(0x00100010, "PN", name), make.element(0x00100020, "LO", patient)),
            make.element(0x0020000D, "UI", make.uid(study)),
            make.element(0x00080018, "UI", make.uid(f"{study} {patient} {name} {issuer}")),
            make.element(0x00100021, "LO", issuer),
            make.element(0x00080050, "SH", accession),
        ]
        return make.part10(make.file_meta(), make.small("x", *extra))

    files = [
        file("1", "A", "Miller^Ann", accession="77"),
        file("2", "A ", "Miler^Ann", accession="77"),
        file("3", "B", "Miller^Ann"),
        file("4", "A", "Miller^Ann", issuer="elsewhere", accession="78"),
        file("5", "", "Miller^Ann"),
        file("6", "", "miller^ann"),
        file("7", "", ""),
        file("8", "", ""),
    ]
    studies.write_files(tmp_path / "in", ((f"{at}.dcm", f) for at, f in enumerate(files)))
    dicomstudy.convert([tmp_path / "in"], tmp_path / "archive")
    dicomstudy.deidentify(tmp_path / "archive", tmp_path / "out", key=KEY)
    made = {uid: next(s.values()) for uid, s in dicomstudy.open_archive(tmp_path / "out").items()}
    rows = [made[NEW.uid(make.uid(str(n)))].attributes() for n in range(1, 9)]
    assert all(row["PatientName"] == row["PatientID"] for row in rows)
    names = [row["PatientName"] for row in rows]
    assert names[0] == names[1]
    assert names[4] == names[5]
    assert len(set(names)) == 6
    accessions = [row["AccessionNumber"] for row in rows]
    assert accessions[0] == accessions[1] != accessions[3]
    assert accessions[2] is None


def references(data_set: pydicom.Dataset) -> set[str]:
    return {str(e.value) for e in data_set.iterall() if e.keyword == "ReferencedSOPInstanceUID"}


def test_references_follow_wherever_they_are(tmp_path: Path) -> None:
    """From structures, a presentation state and a report, in another study too."""
    images = {n: make.ct_slice("ct", 1, n) for n in (1, 2)}
    uids = [make.uid(f"ct/1/{n}") for n in images]
    image = [
        make.dataset_of({"ReferencedSOPClassUID": make.CT_IMAGE, "ReferencedSOPInstanceUID": uid})
        for uid in uids
    ]
    contour = make.dataset_of({"ContourImageSequence": image})
    shared = {
        "StudyInstanceUID": make.uid("other"),
        "SeriesInstanceUID": make.uid("other/1"),
        "PatientID": "P",
    }
    kinds: dict[str, dict[str, object]] = {
        "1.2.840.10008.5.1.4.1.1.481.3": {
            "ROIContourSequence": [make.dataset_of({"ContourSequence": [contour]})]
        },
        "1.2.840.10008.5.1.4.1.1.11.1": {
            "ReferencedSeriesSequence": [
                make.dataset_of(
                    {
                        "ReferencedImageSequence": image,
                        "SeriesInstanceUID": make.uid("ct/1"),
                    }
                )
            ]
        },
        "1.2.840.10008.5.1.4.1.1.88.11": {
            "CurrentRequestedProcedureEvidenceSequence": [
                make.dataset_of(
                    {
                        "StudyInstanceUID": make.uid("ct"),
                        "ReferencedSeriesSequence": [
                            make.dataset_of(
                                {
                                    "SeriesInstanceUID": make.uid("ct/1"),
                                    "ReferencedSOPSequence": image,
                                }
                            )
                        ],
                    }
                )
            ]
        },
    }
    files = {f"{n}.dcm": content for n, content in images.items()}
    for sop_class, content in kinds.items():
        fields = {"SOPClassUID": sop_class, "SOPInstanceUID": make.uid(sop_class)}
        files[f"{sop_class}.dcm"] = make.saved(make.dataset_of({**shared, **fields, **content}))
    studies.write_files(tmp_path / "in", files.items())
    dicomstudy.convert([tmp_path / "in"], tmp_path / "archive")
    dicomstudy.deidentify(tmp_path / "archive", tmp_path / "out", key=KEY)
    result = dicomstudy.open_archive(tmp_path / "out")
    assert set(result[NEW.uid(make.uid("ct"))]) == set(map(NEW.uid, uids))
    others = list(result[NEW.uid(make.uid("other"))].values())
    assert len(others) == 3
    for instance in others:
        assert references(instance.to_dataset()) == set(map(NEW.uid, uids))
        series = {
            str(e.value)
            for e in instance.to_dataset().iterall()
            if e.keyword == "SeriesInstanceUID" and e.value != NEW.uid(make.uid("other/1"))
        }
        assert series <= {NEW.uid(make.uid("ct/1"))}


# What may be left


def deidentified(folder: Path, *elements: bytes, options: Sequence[str] = ()) -> tuple[bytes, Any]:
    """What can be read of the result of one instance with some elements, and what it is."""
    file = make.part10(make.file_meta(), make.small("odd", *elements))
    studies.write_files(folder / "in", [("odd.dcm", file)])
    dicomstudy.convert([folder / "in"], folder / "archive")
    (made,) = made_with(folder / "archive", folder / "out", *options)
    dicomstudy.restore(folder / "out", folder / "restored")
    dicomstudy.convert([folder / "restored"], folder / "again")
    assert studies.digests_of(folder / "out") == studies.digests_of(folder / "again")
    return haystack(folder / "out", folder / "restored"), made


def in_item(tag: int, *elements: bytes) -> bytes:
    return make.element(tag, "SQ", make.item(b"".join(elements)))


UID_LIST = [make.uid(str(n)) for n in range(9)]
NAME, TEXT, LABEL = 0x00100010, 0x00204000, 0x00180024


@pytest.mark.parametrize(
    ("elements", "gone"),
    [
        ([make.element(NAME, "OB", "HANSEN^OLE"), make.element(TEXT, "LT", "of hansen")], "hansen"),
        ([make.element(NAME, "PN", "HANSENXY"), make.element(0x00189073, "FD", b"HANSENXY")],
         "HANSENXY"),
        ([make.element(NAME, "PN", "HANSEN"), make.element(0x00280009, "AT", b"xHANSENx")], "HANS"),
        ([in_item(0x0040A730, make.element(0x0040A160, "CS", "HANSEN"))], "HANSEN"),
        ([in_item(0x0040A730, make.element(0x0040A160, "UI", "1.2.3.4"))], "1.2.3.4"),
        ([make.element(LABEL, "UI", make.uid("odd"))], make.uid("odd")),
        ([in_item(0x00082218, make.element(0x00080117, "UI", make.uid("odd")))], make.uid("odd")),
        ([make.element(0x00282000, "OB", make.uid("odd"))], make.uid("odd")),
        ([make.element(0x00100030, "DA", "19350412"), make.element(LABEL, "DS", "1935.04.12")],
         "1935"),
        ([make.element(0x0016002B, "OB", "MAKER NOTE")], "MAKER"),
        ([make.element(0x00080058, "UI", "\\".join(UID_LIST))], UID_LIST[7]),
        ([make.element(0x00080005, "CS", "ISO_IR 100"),
          make.element(TEXT, "LT", b"zum Gr\xf6\xdfer"),
          in_item(0x00081110, make.element(0x00080005, "CS", "ISO_IR 192"),
                  make.element(0x00101001, "PN", f"Größer^{'Ä' * 300}"))], "zum Gr\xf6"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_nothing_is_left_where_nobody_would_look(
    elements: list[bytes], gone: str, tmp_path: Path
) -> None:
    uid = make.element(0x0020000D, "UI", make.uid("odd"))
    options = ("clean-descriptors",)
    content, _ = deidentified(tmp_path, uid, *elements, options=options)
    assert gone.encode("latin-1").lower() not in content.lower()


def test_times_that_have_a_date_in_them_are_not_kept(tmp_path: Path) -> None:
    date = make.element(0x00080020, "DA", "20200102")
    time = make.element(0x00080030, "TM", "20200102101112")
    days = make.element(0x00080022, "DA", "\\".join(f"202001{day:02}" for day in range(1, 31)))
    options = ("retain-longitudinal-modified-dates",)
    content, made = deidentified(tmp_path, date, time, days, options=options)
    assert b"20200102" not in content
    assert made.attributes()["StudyTime"] is None


def test_edits_that_moved_with_their_instance_are_looked_through(tmp_path: Path) -> None:
    text = make.element(TEXT, "LT", "first, second and third, before 2.25.7777")
    file = make.part10(make.file_meta(), make.small("moved", text))
    studies.write_files(tmp_path / "in", [("1.dcm", file)])
    archive = tmp_path / "archive"
    dicomstudy.convert([tmp_path / "in"], archive)
    (study,) = dicomstudy.open_archive(archive)
    (instance,) = instances(archive)
    for name in ("First", "Second"):
        dicomstudy.update(archive, study, [{"set": {"PatientName": f"{name}^X"}}])
    dicomstudy.split(archive, study, series=[instance.series], new_study="2.25.7777")
    dicomstudy.update(archive, "2.25.7777", [{"set": {"PatientName": "Third^X"}}])
    (made,) = made_with(archive, tmp_path / "out", "clean-descriptors")
    assert made.attributes()["ImageComments"] == f"and , before {NEW.uid('2.25.7777')}"


def test_numbers_that_are_equal_and_not_the_same_stay_as_they_were(tmp_path: Path) -> None:
    files = [
        make.part10(make.file_meta(), make.small(f"zero {at}", *shared, number))
        for shared in [[make.element(0x0020000D + n, "UI", make.uid("zero")) for n in (0, 1)]]
        for at, number in enumerate(make.element(0x00189073, "FD", v) for v in (0.0, -0.0))
    ]
    studies.write_files(tmp_path / "in", ((f"{at}.dcm", file) for at, file in enumerate(files)))
    dicomstudy.convert([tmp_path / "in"], tmp_path / "archive")
    made = made_with(tmp_path / "archive", tmp_path / "out")
    assert sorted(repr(each.attributes()["AcquisitionDuration"]) for each in made) == [
        "-0.0",
        "0.0",
    ]


# Options


def made_with(archive: Path, folder: Path, *options: str) -> list[Any]:
    dicomstudy.deidentify(archive, folder, key=KEY, options=options)
    assert dicomstudy.verify(folder).problems == []
    return instances(folder)


@pytest.fixture
def one(tmp_path: Path) -> Path:
    """An archive of one CT slice with a little of everything that options are about."""
    item = make.element(0x0040A043, "SQ") + make.element(0x0040A160, "UT", "said Ben, well")
    safe = [
        make.element(0x00080301, "US", 9),
        make.element(0x00080302, "LO", "MAKER"),
        make.element(0x00080303, "CS", "SAFE"),
    ]
    extra = [
        make.element(0x00080021, "DA", "20200102"),
        make.element(0x0008002A, "DT", "20200102101112.5"),
        make.element(0x00080031, "TM", "101112"),
        make.element(0x00080022, "DA", "2020"),
        make.element(0x00080080, "LO", "Example Hospital"),
        make.element(0x00081030, "LO", "CT of Ben in 20200102"),
        make.element(0x00081010, "SH", "STATION7"),
        make.element(0x00080055, "AE", "AETITLE"),
        make.element(0x00080300, "SQ", make.item(b"".join(safe))),
        make.element(0x00090010, "LO", "MAKER"),
        make.element(0x00091001, "LO", "made with care"),
        make.element(0x00091002, "LO", "made for Example"),
        make.element(0x00091003, "LO", "made for Ben "),
        make.element(0x00091004, "US", 7),
        make.element(0x00101010, "AS", "044Y"),
        make.element(0x00102110, "LO", "Example is allergic"),
        make.element(0x0040A730, "SQ", make.item(item)),
        make.element(0x00700001, "SQ", make.item(make.element(0x00700006, "ST", "Ben here"))),
        make.element(0x60003000, "OW", bytes(8)),
        make.element(0x00100010, "PN", "Example^Ben"),
        make.element(0x00100020, "LO", "EX-77"),
        make.element(0x0020000D, "UI", make.uid("one")),
    ]
    file = make.part10(make.file_meta(), make.small("one", *extra))
    studies.write_files(tmp_path / "in", [("one.dcm", file)])
    dicomstudy.convert([tmp_path / "in"], tmp_path / "archive")
    return tmp_path / "archive"


def test_without_options(one: Path, tmp_path: Path) -> None:
    (made,) = made_with(one, tmp_path / "out")
    attributes = made.attributes()
    assert attributes["StudyDate"] is None
    assert attributes["SeriesDate"] == "19000101"
    assert attributes["AcquisitionDateTime"] == "19000101000000"
    assert attributes["InstitutionName"] == "REMOVED"
    assert attributes["ContentSequence"] == [
        {"ConceptNameCodeSequence": None, "TextValue": "REMOVED"}
    ]
    assert attributes["GraphicAnnotationSequence"] == [{"UnformattedTextValue": "REMOVED"}]
    assert attributes["LongitudinalTemporalInformationModified"] == "REMOVED"
    assert attributes["PatientIdentityRemoved"] == "YES"
    assert [code["CodeValue"] for code in attributes["DeidentificationMethodCodeSequence"]] == [
        "113100"
    ]
    gone = {"StudyDescription", "PatientAge", "StationAETitle", "00091001", "00090010", "60003000"}
    assert not gone & attributes.keys()


def test_full_dates_stay(one: Path, tmp_path: Path) -> None:
    (made,) = made_with(one, tmp_path / "out", "retain-longitudinal-full-dates")
    attributes = made.attributes()
    assert attributes["StudyDate"] == "20240910"
    assert attributes["AcquisitionDateTime"] == "20200102101112.5"
    assert attributes["SeriesTime"] == "101112"
    assert attributes["LongitudinalTemporalInformationModified"] == "UNMODIFIED"


def test_dates_of_a_patient_are_moved_by_the_same_days(one: Path, tmp_path: Path) -> None:
    (made,) = made_with(one, tmp_path / "out", "retain-longitudinal-modified-dates")
    attributes = made.attributes()
    series, study = (
        datetime.strptime(attributes[f"{level}Date"], "%Y%m%d").replace(tzinfo=UTC)
        for level in ("Series", "Study")
    )
    assert (study - series).days == 1713
    assert f"{series:%Y%m%d}" != "20200102"
    assert attributes["AcquisitionDateTime"] == f"{series:%Y%m%d}101112.5"
    assert attributes["SeriesTime"] == "101112"
    assert attributes["AcquisitionDate"] is None  # a year is no date to be moved
    assert attributes["LongitudinalTemporalInformationModified"] == "MODIFIED"
    assert b"20200102" not in haystack(tmp_path / "out")


def test_text_that_an_option_keeps_is_cleaned(one: Path, tmp_path: Path) -> None:
    options = ("clean-descriptors", "clean-structured-content", "clean-graphics")
    report = dicomstudy.deidentify(one, tmp_path / "out", options=options)
    (made,) = instances(tmp_path / "out")
    attributes = made.attributes()
    assert attributes["StudyDescription"] == "CT of in"
    assert attributes["ContentSequence"][0]["TextValue"] == "said , well"
    assert attributes["GraphicAnnotationSequence"] == [{"UnformattedTextValue": "here"}]
    assert attributes["Allergies"] == "is allergic"
    assert "60003000" not in attributes
    assert {"risk/free-text", "risk/structured-content", "risk/graphics"} <= {
        risk.code for risk in report.risks
    }
    codes = [code["CodeValue"] for code in attributes["DeidentificationMethodCodeSequence"]]
    assert codes == ["113100", "113103", "113104", "113105"]
    assert all(len(value) <= 64 for value in attributes["DeidentificationMethod"].split("\\"))


def test_identities_that_options_keep_stay(one: Path, tmp_path: Path) -> None:
    options = ("retain-institution-identity", "retain-device-identity", "retain-uids")
    (made,) = made_with(one, tmp_path / "out", *options, "retain-patient-characteristics")
    attributes = made.attributes()
    assert attributes["InstitutionName"] == "Hospital"  # Example is the patient's name
    assert attributes["StationName"] == "STATION7"
    assert attributes["PatientAge"] == "044Y"
    assert attributes["Allergies"] == "is allergic"
    assert "StationAETitle" not in attributes
    assert made.uid == make.uid("wrecks/1/one")
    assert made.study.uid == make.uid("one")


def test_private_attributes_stay_that_are_declared_safe(one: Path, tmp_path: Path) -> None:
    (made,) = made_with(one, tmp_path / "out", "retain-safe-private")
    data_set = made.to_dataset()
    block = data_set.private_block(9, "MAKER")
    assert block[1].value == "made with care"
    assert block[4].value == 7
    assert 2 not in block  # it has the name of the patient in it
    assert 3 not in block


# What cannot be done


def test_a_key_has_sixteen_bytes_or_more(one: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(KEY)
    dicomstudy.deidentify(one, tmp_path / "out", key=tmp_path / "key")
    dicomstudy.deidentify(one, tmp_path / "again", key=KEY)
    assert studies.digests_of(tmp_path / "out") == studies.digests_of(tmp_path / "again")


@pytest.mark.parametrize("key", [b"", KEY[:-1], Path("nowhere")])
def test_a_key_that_cannot_be_used_is_refused(one: Path, tmp_path: Path, key: Any) -> None:
    with pytest.raises(DicomStudyError) as error:
        dicomstudy.deidentify(one, tmp_path / "out", key=key)
    assert error.value.code == "deidentify/key"
    assert not (tmp_path / "out").exists()


def test_what_may_have_no_end_is_no_key(one: Path, tmp_path: Path) -> None:
    """As `/dev/urandom`, which keys are made of."""
    with (tmp_path / "key").open("wb") as file:
        file.truncate((1 << 20) + 1)
    with pytest.raises(DicomStudyError, match="or no end") as error:
        dicomstudy.deidentify(one, tmp_path / "out", key=tmp_path / "key")
    assert error.value.code == "deidentify/key"


def test_the_folder_has_to_be_new_or_empty(one: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert dicomstudy.deidentify(one, tmp_path / "empty").studies == 1
    before = studies.state_of(tmp_path)
    for folder in (tmp_path / "empty", tmp_path / "in", one, one / "inside"):
        with pytest.raises(ArchiveError) as error:
            dicomstudy.deidentify(one, folder)
        inside = folder.name == "inside"
        assert error.value.code == ("archive/inside" if inside else "archive/not-empty")
    assert studies.state_of(tmp_path) == before


def test_of_two_runs_that_find_the_folder_empty_one_is_refused(
    one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, make_folder = tmp_path / "out", Path.mkdir

    def after_another_run(path: Path, *arguments: Any, **named: Any) -> None:
        if path == out:
            monkeypatch.undo()
            assert dicomstudy.deidentify(one, out).studies == 1
        make_folder(path, *arguments, **named)

    monkeypatch.setattr(Path, "mkdir", after_another_run)
    with pytest.raises(ArchiveError) as error:
        dicomstudy.deidentify(one, out)
    assert error.value.code == "archive/not-empty"
    assert len(dicomstudy.open_archive(out)) == 1
    assert dicomstudy.verify(out).problems == []


def test_a_folder_that_another_run_is_making_an_archive_in_is_not_empty(
    one: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with (out / "lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ArchiveError) as error:
            dicomstudy.deidentify(one, out)
    assert error.value.code == "archive/not-empty"
    assert [path.name for path in out.iterdir()] == ["lock"]
    (out / "lock").write_bytes(b"mine")
    with pytest.raises(ArchiveError, match="new or empty"):
        dicomstudy.deidentify(one, out)
    assert (out / "lock").read_bytes() == b"mine"
    (out / "lock").write_bytes(b"")
    assert dicomstudy.deidentify(one, out).studies == 1  # of that run nothing is left but the lock


def test_large_values_that_wait_for_their_document_are_not_collected(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, waiting = tmp_path / "out", list[Thread]()

    def while_it_is_collected(path: Path, *arguments: Any, **named: Any) -> int:
        waiting.append(Thread(target=dicomstudy.collect, args=[out], kwargs={"remove": True}))
        waiting[-1].start()
        waiting[-1].join(0.5)
        return write_atomically(path, *arguments, **named)

    monkeypatch.setattr(f"{ARCHIVES}.write_atomically", while_it_is_collected)
    assert dicomstudy.deidentify(archive, out).problems == []
    for thread in waiting:
        thread.join()
    assert list(out.rglob("*.bulk"))
    assert dicomstudy.verify(out).problems == []
    assert list((out / "incoming").iterdir()) == []


def test_a_study_that_another_run_brought_meanwhile_stays(
    one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dicomstudy.deidentify(one, tmp_path / "other", key=KEY)
    (there,) = (tmp_path / "other").rglob("*.ion.zst")

    def while_another_comes(uid: str, *arguments: Any, **named: Any) -> Iterator[bytes]:
        place = dicomstudy.open_archive(tmp_path / "out").document_path(uid)
        shutil.copytree(there.parent, place.parent)
        place.write_bytes(b"another")
        return encode_version(uid, *arguments, **named)

    monkeypatch.setattr(f"{ARCHIVES}.encode_version", while_another_comes)
    report = dicomstudy.deidentify(one, tmp_path / "out", key=KEY)
    (problem,) = report.problems
    assert problem.code == "archive/not-empty"
    assert "the archive has a study of its new UID already" in problem.message
    (document,) = (tmp_path / "out").rglob("*.ion.zst")
    assert document.read_bytes() == b"another"


def test_a_damaged_study_is_a_problem_and_the_others_are_taken_over(
    archive: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(archive, tmp_path / "copy")
    opened = dicomstudy.open_archive(copy)
    documents = list(opened.documents())
    documents[0].write_bytes(documents[0].read_bytes()[:100])
    bulk = max(copy.rglob("*.bulk"), key=lambda path: path.stat().st_size)
    content = bytearray(bulk.read_bytes())
    content[len(content) // 2] ^= 1
    bulk.write_bytes(content)
    report = dicomstudy.deidentify(copy, tmp_path / "out", key=KEY)
    assert len(report.problems) == 2
    assert not report.complete
    assert report.studies == len(documents) - 2
    assert dicomstudy.verify(tmp_path / "out").problems == []
    assert len(list((tmp_path / "out").rglob("*.bulk"))) <= report.studies
    assert not list((tmp_path / "out" / "incoming").iterdir())


@pytest.mark.parametrize(
    ("what", "code", "after"),
    [
        ("document", "study/unreadable", 0),
        ("document", "study/unreadable", 3),
        ("bulk file", "bulk/unreadable", 1),
        ("P10 file", "source/unreadable", 0),
    ],
)
def test_what_cannot_be_read_is_said_of_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, code: str, after: int
) -> None:
    files = [("a", make.ct_slice("a", 1, 1)), ("b", make.ct_slice("b", 1, 1))]
    folder, archive = studies.write_files(tmp_path / "in", files), tmp_path / "archive"
    bulk = "reference" if what == "P10 file" else "copy"
    dicomstudy.convert([folder], archive, bulk=bulk)
    path = {
        "document": dicomstudy.open_archive(archive).document_path(make.uid("a")),
        "bulk file": dicomstudy.open_archive(archive).bulk_path(make.uid("a")),
        "P10 file": folder / "a",
    }[what]
    studies.unreadable(monkeypatch, path, after=after)
    report = dicomstudy.deidentify(archive, tmp_path / "out", key=KEY)
    assert [(problem.source, problem.code) for problem in report.problems] == [(str(path), code)]
    assert report.studies == 1
    monkeypatch.undo()
    assert dicomstudy.verify(tmp_path / "out").problems == []
    assert not list((tmp_path / "out" / "incoming").iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such limit")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("most", [1000, 20_000])
def test_a_full_disk_is_said_and_leaves_nothing_half(tmp_path: Path, most: int) -> None:
    studies.write_files(tmp_path / "in", make.study(300, rows=32, columns=32))
    dicomstudy.convert([tmp_path / "in"], tmp_path / "archive")
    child = os.fork()
    if not child:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        code = ""
        try:
            dicomstudy.deidentify(tmp_path / "archive", tmp_path / "out", key=KEY)
        except ArchiveError as error:
            code = error.code
        finally:
            os._exit(0 if code == "archive/full" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    left = [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert sorted(left) == ["archive.ion", "lock"]


def test_a_record_without_its_file_is_left_out(shared: Path, tmp_path: Path) -> None:
    records = sorted((shared / "golden").rglob("*.ion"))
    dicomstudy.convert(records, tmp_path / "archive")
    if not len(dicomstudy.open_archive(tmp_path / "archive")):
        pytest.skip("no records of another program")
    report = dicomstudy.deidentify(tmp_path / "archive", tmp_path / "out")
    assert {problem.code for problem in report.problems} == {"deidentify/no-file"}
    assert report.instances == report.studies == 0


def test_progress_is_told(archive: Path, tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    report = dicomstudy.deidentify(
        archive, tmp_path / "out", progress=lambda *step: told.append(step)
    )
    assert [done for _, done, _ in told] == list(range(1, report.instances + 1))


# Whatever the files are

MANY = (
    *("clean-descriptors", "clean-structured-content", "clean-graphics", "retain-safe-private"),
    "retain-longitudinal-modified-dates",
)
MORE = ("retain-uids", "retain-device-identity", "retain-longitudinal-full-dates")


def assert_as_if_converted(archive: Path, folder: Path, options: Sequence[str]) -> None:
    """The result is whole, and what `convert` makes of its files."""
    report = dicomstudy.deidentify(archive, folder / "out", key=KEY, options=options)
    assert report.problems == []
    assert dicomstudy.verify(folder / "out").problems == []
    assert dicomstudy.restore(folder / "out", folder / "restored").problems == []
    again = dicomstudy.convert([folder / "restored"], folder / "again")
    assert again.quarantined == 0
    assert studies.digests_of(folder / "out") == studies.digests_of(folder / "again")


@pytest.mark.parametrize("options", [(), MANY, MORE], ids=len)
def test_the_result_is_what_convert_makes_of_its_files(
    options: Sequence[str], tmp_path: Path
) -> None:
    files = studies.write_fixtures(tmp_path / "files")
    studies.write_files(files / "planted", Planter().files().items())
    dicomstudy.convert([files], tmp_path / "archive")
    assert_as_if_converted(tmp_path / "archive", tmp_path, options)


@pytest.mark.parametrize("seed", range(100 if LONG else 4))
def test_so_it_is_whatever_the_bytes_are(seed: int, tmp_path: Path) -> None:
    chance = chance_of(seed)
    files = [content for content in fixture_files().values() if len(content) < 60_000]
    files += list(Planter().files().values()) * 5
    mutants = [(f"{n}.dcm", mutant(chance.choice(files), chance)) for n in range(60)]
    dicomstudy.convert([studies.write_files(tmp_path / "in", mutants)], tmp_path / "archive")
    assert_as_if_converted(tmp_path / "archive", tmp_path, chance.choice([(), MANY, MORE]))


def test_a_file_that_begins_with_vrs_and_goes_on_without_is_one_without(tmp_path: Path) -> None:
    """Its first element is of an unknown group, and goes; the next is of file meta information."""
    unknown = make.element(0x00D00003, "UI", make.uid("unknown"))
    unknown += make.element(0x00020012, "UI", make.uid("class"))
    content = make.small("mixed", explicit=False)
    archive, file = tmp_path / "archive", unknown + content
    meta = make.element(0x00020002, "UI", make.CT_IMAGE)
    meta = make.element(0x00020000, "UL", len(meta)) + meta
    studies.write_files(tmp_path / "in", [("mixed.dcm", make.part10(meta, file))])
    assert dicomstudy.convert([tmp_path / "in"], archive).quarantined == 0
    assert_as_if_converted(archive, tmp_path, ())


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_killed_at_any_moment_there_are_whole_studies_or_none(
    archive: Path, tmp_path: Path
) -> None:
    before = studies.state_of(archive)

    def deidentify(target: Path) -> object:
        return dicomstudy.deidentify(archive, target, key=KEY)

    count, trees = trees_of(deidentify, tmp_path / "whole")
    whole = studies.digests_of(tmp_path / "whole")
    left = [written(tree, tmp_path / f"tree {number}") for number, tree in enumerate(trees)]
    for number in range(5):
        target = tmp_path / f"kill {number}"
        moment = chance_of(number).randint(1, count)
        assert killed(deidentify, target, moment) in {0, -signal.SIGKILL}
        left.append(target)
    seen = set()
    for target in left:
        if (target / "archive.ion").exists():
            assert dicomstudy.verify(target).problems == []
            made = studies.digests_of(target)
            assert made.items() <= whole.items()
            seen.add(len(made))
        else:
            target.mkdir(exist_ok=True)
            (target / "incoming").mkdir(exist_ok=True)
        with pytest.raises(ArchiveError, match="new or empty"):
            deidentify(target)
    assert len(seen) > 2
    assert studies.state_of(archive) == before


def test_files_that_moved_are_found_again(tmp_path: Path) -> None:
    files = [("1.dcm", make.ct_slice())]
    studies.write_files(tmp_path / "in", files)
    dicomstudy.convert([tmp_path / "in"], tmp_path / "archive", bulk="reference")
    (tmp_path / "in").rename(tmp_path / "moved")
    report = dicomstudy.deidentify(tmp_path / "archive", tmp_path / "none", key=KEY)
    assert [problem.code for problem in report.problems] == ["bulk/source-missing"]
    assert not list((tmp_path / "none").rglob("*.bulk"))
    arguments = ["--sources", str(tmp_path / "moved")]
    out = tmp_path / "out"
    assert main(["deidentify", str(tmp_path / "archive"), str(out), *arguments]) == 0
    (instance,) = instances(out)
    original = pydicom.dcmread(tmp_path / "moved" / "1.dcm")
    assert next(instance.frames()) == original.PixelData


# The command line


def test_the_command_does_the_same(
    one: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "key").write_bytes(KEY)
    report = tmp_path / "report.json"
    arguments = ["--key", str(tmp_path / "key"), "--option", "clean-descriptors"]
    arguments += ["--option", "retain-uids", "--report", str(report)]
    assert main(["deidentify", str(one), str(tmp_path / "out"), *arguments]) == 0
    dicomstudy.deidentify(
        one, tmp_path / "same", key=KEY, options=["clean-descriptors", "retain-uids"]
    )
    assert studies.state_of(tmp_path / "out") == studies.state_of(tmp_path / "same")
    written = capsys.readouterr()
    assert written.out.startswith("1 study; 1 instance; 0 in quarantine left out; ")
    assert "1 instance of 1 study: risk/free-text" in written.err
    assert json.loads(report.read_text())["instances"] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--option", "clean-descriptor"], "clean-descriptors"),
        (["--profile", "none"], "basic"),
        (["--report", "nowhere/report.json"], "nowhere"),
    ],
)
def test_wrong_usage_is_said(
    one: Path,
    tmp_path: Path,
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["deidentify", str(one), str(tmp_path / "out"), *arguments]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# Real files


def test_nothing_that_was_removed_of_real_files_is_in_the_result(
    shared: Path, tmp_path: Path
) -> None:
    """Values that the table removes, and that stand in no attribute that it keeps."""
    archive, result = tmp_path / "archive", tmp_path / "result"
    dicomstudy.convert([shared / "corpus"], archive)
    removed, kept = real_values(archive)
    report = dicomstudy.deidentify(archive, result, key=KEY)
    assert report.problems == []
    assert dicomstudy.verify(result).problems == []
    dicomstudy.export_tables(result, tmp_path / "tables")
    legitimate = "\n".join([*kept, *KEYWORDS]).lower()
    looked_for = {value: value for value in removed if value.lower() not in legitimate}
    assert len(looked_for) > 1500
    source = b"\n".join(re.findall(rb"[ -~]{6,}", haystack(archive)))
    found = found_in(looked_for, source)
    assert len(found) > 0.95 * len(looked_for)  # the others have spaces around them in the file
    texts = b"\n".join(re.findall(rb"[ -~]{6,}", haystack(result, tmp_path / "tables")))
    assert found_in(looked_for, texts) == []


def real_values(archive: Path) -> tuple[set[str], set[str]]:
    """Distinctive values of attributes that the table does not keep, and texts of all others."""
    actions = {tag: action for tag, action, _, _ in TABLE["attributes"]}
    removed: set[str] = set()
    kept: set[str] = set()

    def walk(data_set: pydicom.Dataset) -> None:
        for element in data_set:
            if element.VR == "SQ":
                for item in element.value:
                    walk(item)
                continue
            goes = element.tag.is_private or f"{element.tag:08X}" in actions
            values = element.value if element.VM > 1 else [element.value]
            for value in map(str, values if not isinstance(element.value, bytes) else []):
                text = value.strip(" \0")
                if not goes:
                    kept.add(text)
                elif is_distinctive(element.VR, text):
                    removed.add(text)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for instance in instances(archive):
            walk(instance.to_dataset())
    return removed, kept


def is_distinctive(vr: str, text: str) -> bool:
    """Whether a value occurs nowhere by chance."""
    if len(text) < 6 or not text.isascii() or not text.isprintable():
        return False
    if vr == "UI":
        return not text.startswith("1.2.840.10008")
    return vr in _TEXTS and re.search("[A-Za-z]", text) is not None


_TEXTS = frozenset("AE LO LT PN SH ST UC UT".split())
