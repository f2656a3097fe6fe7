"""What options keep, move and clean: spec/deidentification.md."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

import dicomstudy
from dicomstudy.cli import main
from fixtures import make
from tests import studies
from tests.deidentified import KEY, archive_of_one, instances, made_with
from tests.plants import haystack


@pytest.fixture
def one(tmp_path: Path) -> Path:
    return archive_of_one(tmp_path)


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
