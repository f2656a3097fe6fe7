"""Tables of archives that change have what studies are now: spec/tables.md, spec/history.md."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import dicomstudy
from tests import studies

MR = "2.25.260853047498934903529182976158226036683"
US = "2.25.261738478028641128058988189778827226446"


@pytest.fixture
def living(archive: Path, tmp_path: Path) -> Path:
    return shutil.copytree(archive, tmp_path / "living")


def digests_of(archive: Path) -> dict[str, str]:
    found = {}
    for uid, study in dicomstudy.open_archive(archive).items():
        with study:
            if len(study):
                found[uid] = study.digest
    return found


def assert_mirrored(archive: Path, folder: Path) -> None:
    """The archive made of tables is the one whose older versions were collected."""
    dicomstudy.export_tables(archive, folder / "tables")
    with dicomstudy.open_tables(folder / "tables") as tables:
        tables.to_archive(folder / "rebuilt")
    dicomstudy.restore(folder / "rebuilt", folder / "of-tables")
    dicomstudy.restore(archive, folder / "of-archive")
    shutil.rmtree(folder / "of-archive" / "quarantine", ignore_errors=True)
    assert studies.state_of(folder / "of-tables") == studies.state_of(folder / "of-archive")
    assert not dicomstudy.verify(folder / "rebuilt").problems
    collected = shutil.copytree(archive, folder / "collected")
    dicomstudy.collect(collected, older_versions=True, remove=True)
    assert digests_of(folder / "rebuilt") == digests_of(collected)


def test_a_corrected_name_is_in_the_tables(living: Path, tmp_path: Path) -> None:
    names = {"PatientName": "Ärztin^Ä", "StudyDescription": None}
    dicomstudy.update(living, MR, [{"set": names}])
    dicomstudy.export_tables(living, tmp_path / "tables")
    with dicomstudy.open_tables(tmp_path / "tables") as tables:
        rows = tables.select(["PatientName"], where=f"StudyInstanceUID = '{MR}'").to_pylist()
        assert {row["PatientName"]["family"] for row in rows} == {"Ärztin"}
    assert_mirrored(living, tmp_path)


def test_what_is_taken_back_leaves_the_tables(living: Path, tmp_path: Path) -> None:
    first = dicomstudy.export_tables(living, tmp_path / "tables")
    dicomstudy.update(living, MR, [{"set": {"PatientID": "EX-0009"}}])
    assert dicomstudy.export_tables(living, tmp_path / "tables").replaced == 1
    dicomstudy.revert(living, MR, to=1)
    again = dicomstudy.export_tables(living, tmp_path / "tables")
    assert (again.replaced, again.instances) == (1, first.instances)
    with dicomstudy.open_tables(tmp_path / "tables") as tables:
        assert "EX-0009" not in tables["patient"].to_table()["PatientID"].to_pylist()
    assert_mirrored(living, tmp_path)


@pytest.mark.parametrize("whole", [False, True])
def test_what_is_deleted_is_in_no_table(living: Path, tmp_path: Path, *, whole: bool) -> None:
    study = dicomstudy.open_archive(living)[US]
    uid, count = next(iter(study)), len(study)
    study.close()
    before = dicomstudy.export_tables(living, tmp_path / "tables").instances
    dicomstudy.delete(living, US, instance=None if whole else uid)
    after = dicomstudy.export_tables(living, tmp_path / "tables")
    assert after.instances == before - (count if whole else 1)
    assert_mirrored(living, tmp_path)


def test_the_bulk_of_a_collected_study_is_found(living: Path, tmp_path: Path) -> None:
    study = dicomstudy.open_archive(living)[US]
    uid = next(iter(study))
    study.close()
    dicomstudy.delete(living, US, instance=uid)
    assert dicomstudy.collect(living, older_versions=True, remove=True).bytes > 0
    assert_mirrored(living, tmp_path)


def test_what_is_moved_is_in_the_tables_of_its_study(living: Path, tmp_path: Path) -> None:
    before = dicomstudy.export_tables(living, tmp_path / "tables").instances
    with dicomstudy.open_archive(living)[US] as study:
        keys, (series,) = list(study), study.series
    dicomstudy.move(living, US, instance=keys[0], to_study=MR)
    exported = dicomstudy.export_tables(living, tmp_path / "tables")
    assert (exported.instances, exported.replaced) == (before, 2)
    new = dicomstudy.split(living, US, instances=[keys[1]]).study
    exported = dicomstudy.export_tables(living, tmp_path / "tables")
    assert (exported.instances, exported.added, exported.replaced) == (before, 1, 1)
    dicomstudy.merge(living, US, into=MR)
    assert dicomstudy.export_tables(living, tmp_path / "tables").instances == before
    with dicomstudy.open_tables(tmp_path / "tables") as tables:
        rows = tables.select(["StudyInstanceUID", "SeriesInstanceUID", "PatientID"]).to_pylist()
    found = [row for row in rows if row["SeriesInstanceUID"] == series]
    assert {(row["StudyInstanceUID"], row["PatientID"]) for row in found} == {(MR, "EX-0002")}
    assert len(found) == len(keys) - 2
    assert [row["StudyInstanceUID"] for row in rows].count(new) == 1
    assert US not in {row["StudyInstanceUID"] for row in rows}
    assert_mirrored(living, tmp_path)
