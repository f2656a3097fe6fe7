"""A large value that several files have is read from any of them (spec/bulk.md)."""

from __future__ import annotations

import io
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

import dicomstudy
from dicomstudy import ion
from dicomstudy.study import Instance
from fixtures import make
from tests import studies
from tests.test_damaged_sources import rot

#: Longer than a document has it.
COMMENTS = "as it was." * 40
STUDY = make.uid("study")


def image(number: int, kind: str = "group") -> bytes:
    """A file that has the comments in an attribute of a group, in an item of one, or on its own."""
    dataset = pydicom.dcmread(io.BytesIO(make.ct_slice("study", 1, number)))
    if kind == "group":
        dataset.PatientComments = COMMENTS
    elif kind == "item":
        other = Dataset()
        other.PatientComments = COMMENTS
        dataset.OtherPatientIDsSequence = Sequence([Dataset(), other])
    else:
        dataset.AcquisitionComments = COMMENTS if number < 4 else f"{COMMENTS}{number % 5}"
    return make.saved(dataset)


def write(folder: Path, numbers: range, kind: str = "group") -> Path:
    return studies.write_files(folder, [(f"{n}.dcm", image(n, kind)) for n in numbers])


def instances(archive: Path) -> dict[str, Instance]:
    return {each.uid: each for each in dicomstudy.open_archive(archive)[STUDY].values()}


def uid(number: int) -> str:
    return make.uid(f"study/1/{number}")


@pytest.fixture(params=["group", "item", "own"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """By reference, of `1.dcm` to `3.dcm` in `in`; on its own, the value was in a group first."""
    write(tmp_path / "in", range(1, 4), request.param)
    dicomstudy.convert([tmp_path / "in"], tmp_path / "archive", bulk="reference")
    if request.param == "own":
        write(tmp_path / "late", range(4, 14), request.param)
        dicomstudy.convert([tmp_path / "late"], tmp_path / "archive", bulk="reference")
    return tmp_path / "archive"


@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.parametrize("lost", [1, 2, 3])
def test_a_file_that_is_lost_costs_no_other(lost: int, archive: Path, *, changed: bool) -> None:
    count = len(instances(archive))
    if changed:
        dicomstudy.update(archive, STUDY, [{"set": {"PatientName": "A^B"}}])
    (archive.parent / f"in/{lost}.dcm").unlink()
    done = dicomstudy.restore(archive, archive.parent / "out", original=True)
    assert (done.files, len(done.problems)) == (count - 1, 1)
    for problems in (done.problems, dicomstudy.verify(archive).problems):
        assert {problem.code for problem in problems} == {"bulk/source-missing"}
    for number in {1, 2, 3} - {lost}:
        instance = instances(archive)[uid(number)]
        assert COMMENTS in str(instance.to_json())
        assert COMMENTS in str(instance.to_dataset().to_json_dict())
        assert instance.original().to_p10() == (archive.parent / f"in/{number}.dcm").read_bytes()


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_a_file_that_rots_costs_no_other(lost: int, archive: Path) -> None:
    path = archive.parent / f"in/{lost}.dcm"
    originals = {each.read_bytes() for each in archive.parent.rglob("*.dcm")}
    rot(path, path.read_bytes().index(COMMENTS.encode()))
    done = dicomstudy.restore(archive, archive.parent / "out")
    assert {problem.code for problem in done.problems} <= {"bulk/source-changed"}
    assert done.files >= len(originals) - 1
    assert {each.read_bytes() for each in (archive.parent / "out").rglob("*.dcm")} <= originals


@pytest.mark.parametrize("gone", [False, True])
@pytest.mark.parametrize("liar", [1, 2, 3])
def test_a_record_that_lies_costs_no_file(liar: int, tmp_path: Path, *, gone: bool) -> None:
    """Whichever the document names for the value; places in items are not compared."""
    write(tmp_path / "in", range(1, 4), "item")
    recorded = tmp_path / f"in/{liar}.dcm"
    dicomstudy.write_records([recorded], tmp_path / "records")
    (path,) = (tmp_path / "records").iterdir()
    record = ion.loads(path.read_bytes())
    record["dataSet"]["OtherPatientIDsSequence"][1]["PatientComments"]["dataOffset"] -= 40
    path.write_bytes(ion.dumps(record))
    files = [tmp_path / f"in/{number}.dcm" for number in (1, 2, 3) if number != liar]
    report = dicomstudy.convert([path, *files], tmp_path / "archive", bulk="reference")
    assert report.instances == 3
    if gone:
        recorded.unlink()
    dicomstudy.restore(tmp_path / "archive", tmp_path / "out")
    back = {each.read_bytes() for each in (tmp_path / "out").rglob("*.dcm")}
    assert {each.read_bytes() for each in files} <= back


def test_what_is_nowhere_is_said(archive: Path) -> None:
    """Where a value would stand in the instance's own file, something else does."""
    data = image(1).replace(COMMENTS.encode(), COMMENTS[::-1].encode())
    (archive.parent / "in/1.dcm").write_bytes(data)
    for number in (2, 3):
        (archive.parent / f"in/{number}.dcm").unlink()
    with pytest.raises(dicomstudy.DicomStudyError) as raised:
        instances(archive)[uid(1)].to_p10()
    assert raised.value.code in {"bulk/source-missing", "bulk/source-changed"}
