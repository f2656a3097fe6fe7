"""Equal keys give equal UIDs and pseudonyms, wherever they stand: spec/deidentification.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydicom
import pytest

import dicomstudy
from dicomstudy.errors import DicomStudyError
from fixtures import make
from tests import studies
from tests.deidentified import KEY, NEW, archive_of_one


@pytest.fixture
def one(tmp_path: Path) -> Path:
    return archive_of_one(tmp_path)


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


# Keys


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
