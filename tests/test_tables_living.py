"""Tables of archives that change have what studies are now: spec/tables.md, spec/history.md."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import dicomstudy
from dicomstudy.errors import DicomStudyError, Problem
from dicomstudy.folder import Folder
from dicomstudy.study import Study
from dicomstudy.tables import export
from fixtures import make
from tests import studies

CT = make.uid("ct")
MR = "2.25.260853047498934903529182976158226036683"
US = "2.25.261738478028641128058988189778827226446"


@pytest.fixture
def living(archive: Path, tmp_path: Path) -> Path:
    return shutil.copytree(archive, tmp_path / "living")


def test_rows_are_in_the_order_of_studies_whichever_came_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "FILE_ROWS", 1)
    uids = [f"1.2.{number}" for number in (3, 1, 4, 2)]
    for uid in uids:
        study = make.element(0x0020000D, "UI", uid)
        data = make.part10(
            make.file_meta(make.EXPLICIT, make.SECONDARY_CAPTURE, make.uid(f"wrecks/1/{uid}")),
            make.small(uid, study, explicit=True),
        )
        source = studies.write_files(tmp_path / uid, [(uid, data)])
        dicomstudy.convert([source], tmp_path / "archive")
        dicomstudy.export_tables(tmp_path / "archive", tmp_path / "tables")
    with dicomstudy.open_tables(tmp_path / "tables") as tables:
        for name in ("instances", "series", "studies"):
            assert len(tables[name].files) == len(uids)
            assert tables[name].to_table()["StudyInstanceUID"].to_pylist() == sorted(uids)
        found = tables.select(["StudyInstanceUID"])["StudyInstanceUID"].to_pylist()
        assert found == sorted(uids)


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
    assert_changed_alike(folder / "rebuilt", collected, folder)


def assert_changed_alike(rebuilt: Path, collected: Path, folder: Path) -> None:
    """What is done to two archives of the same content has the same effect on both.

    That is more than that their digests are equal: these do not see which versions an instance
    says that it came with.
    """
    files = studies.write_fixtures(folder / "late")
    both = (rebuilt, collected)
    for uid in digests_of(rebuilt):
        with dicomstudy.open_archive(rebuilt)[uid] as study:
            keys = list(study)
            assert not any("_versions" in instance._struct for instance in study.values())
        for archive in both:
            first = dicomstudy.history(archive, uid)[0].number
            dicomstudy.update(archive, uid, [{"set": {"StudyDescription": "changed"}}])
            with dicomstudy.open_archive(archive)[uid] as study:
                assert all(instance.changed for instance in study.values())
            gone = dicomstudy.delete(archive, uid, instance=keys[0])[-1].removed
            if gone < len(keys):
                assert dicomstudy.delete(archive, uid)[-1].removed == len(keys) - gone
                dicomstudy.revert(archive, uid, to=first + 2)
            with dicomstudy.open_archive(archive)[uid] as study:
                assert len(study) == len(keys) - gone
            dicomstudy.revert(archive, uid, to=first)
    assert digests_of(rebuilt) == digests_of(collected)
    reports = [dicomstudy.convert([files], archive) for archive in both]
    for name in ("instances", "unchanged", "studies", "quarantined"):
        assert getattr(reports[0], name) == getattr(reports[1], name), name
    assert digests_of(rebuilt) == digests_of(collected)
    assert not dicomstudy.verify(rebuilt).problems


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


def test_what_has_become_equal_is_one_instance_and_at_rest(living: Path, tmp_path: Path) -> None:
    """The file that an instance was changed to comes in again: another one, of equal content."""
    dicomstudy.update(living, CT, [{"set": {"PatientID": "new"}}])
    dicomstudy.restore(living, tmp_path / "changed", study=CT)
    dicomstudy.convert([tmp_path / "changed"], living)
    with dicomstudy.open_archive(living)[CT] as study:
        files = [instance.to_p10() for instance in study.values()]
        assert len(files) == 2 * len(set(files))
    first = dicomstudy.export_tables(living, tmp_path / "tables")
    before = studies.state_of(tmp_path / "tables")
    again = dicomstudy.export_tables(living, tmp_path / "tables")
    assert again == replace(first, added=0, bytes_out=0)
    assert studies.state_of(tmp_path / "tables") == before
    dicomstudy.collect(living, older_versions=True, remove=True)
    with dicomstudy.open_tables(tmp_path / "tables") as tables:
        assert len(tables["instances"]) == sum(map(len, dicomstudy.open_archive(living).values()))


def test_the_bulk_of_a_collected_study_is_found(living: Path, tmp_path: Path) -> None:
    study = dicomstudy.open_archive(living)[US]
    uid = next(iter(study))
    study.close()
    dicomstudy.delete(living, US, instance=uid)
    assert dicomstudy.collect(living, older_versions=True, remove=True).bytes > 0
    assert_mirrored(living, tmp_path)


@pytest.fixture
def grown(tmp_path: Path) -> Path:
    """An archive with a study, most of whose instances came late."""
    files = studies.write_fixtures(tmp_path / "files") / "archive"
    dicomstudy.convert([files / "ct/bone"], tmp_path / "grown")
    dicomstudy.convert([files / "ct"], tmp_path / "grown")
    return tmp_path / "grown"


def test_what_came_late_is_as_if_it_had_always_been_there(grown: Path, tmp_path: Path) -> None:
    with dicomstudy.open_archive(grown)[CT] as study:
        keys = list(study)
    dicomstudy.delete(grown, CT, instance=keys[-1])
    dicomstudy.revert(grown, CT, to=2)
    assert_mirrored(grown, tmp_path)
    again = dicomstudy.convert([tmp_path / "files/archive/ct"], tmp_path / "rebuilt")
    assert again.instances == 0


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


def tabulated(archive: Path, folder: Path) -> tuple[int, list[Problem]]:
    exported = dicomstudy.export_tables(archive, folder / "tables")
    return exported.studies, exported.problems


def asked(archive: Path, _: Path) -> tuple[int, list[Problem]]:
    with dicomstudy.open_archive(archive).tables() as tables:
        return len(tables["studies"]), tables.problems


def verified(archive: Path, _: Path) -> tuple[int, list[Problem]]:
    found = dicomstudy.verify(archive)
    return found.studies, found.problems


def restored(archive: Path, folder: Path) -> tuple[int, list[Problem]]:
    problems = dicomstudy.restore(archive, folder / "restored").problems
    names = {path.name for path in (folder / "restored").iterdir()}
    return len(names - {"quarantine"}), problems


def deidentified(archive: Path, folder: Path) -> tuple[int, list[Problem]]:
    report = dicomstudy.deidentify(archive, folder / "deidentified")
    return report.studies, report.problems


READERS = [tabulated, asked, verified, restored, deidentified]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("opened", [False, True], ids=["listed", "opened"])
def test_a_study_that_is_collected_while_it_is_read_is_no_problem(
    read: Callable[[Path, Path], tuple[int, list[Problem]]],
    opened: bool,
    living: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who has opened it reads on; for whoever comes later it is not in the archive any more."""
    count = len(dicomstudy.open_archive(living))
    open_now = Folder.open

    def collecting(folder: Folder, path: Path) -> Study:
        if path != folder.document_path(MR) or not path.exists():
            return open_now(folder, path)
        monkeypatch.undo()
        study = open_now(folder, path) if opened else None
        dicomstudy.delete(living, MR)
        dicomstudy.collect(living, study=MR, older_versions=True, remove=True)
        assert not path.exists()
        return open_now(folder, path) if study is None else study

    monkeypatch.setattr(Folder, "open", collecting)
    studies_there, problems = read(living, tmp_path)
    assert problems == []
    assert studies_there == (count if opened else count - 1)


def test_a_study_that_changes_meanwhile_is_known_by_what_was_read(
    living: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a document that is put back is not taken for the one in the tables."""
    document = dicomstudy.open_archive(living).document_path(CT)
    before = document.read_bytes()
    open_now = Folder.open

    def changing(folder: Folder, path: Path) -> Study:
        monkeypatch.undo()
        dicomstudy.update(living, CT, [{"set": {"PatientID": "later"}}])
        return open_now(folder, path)

    monkeypatch.setattr(Folder, "open", changing)
    for content, patients in ((None, {"later"}), (before, {"EX-0001"})):
        if content is not None:
            document.write_bytes(content)
        dicomstudy.export_tables(living, tmp_path / "tables")
        with dicomstudy.open_tables(tmp_path / "tables") as tables:
            rows = tables.select(["PatientID", "StudyInstanceUID"]).to_pylist()
            assert {row["PatientID"] for row in rows if row["StudyInstanceUID"] == CT} == patients


@pytest.mark.parametrize("place", ["studies", "studies/*"])
def test_a_folder_that_is_on_a_disk_that_is_not_there_is_not_empty(
    place: str, living: Path, tmp_path: Path
) -> None:
    dicomstudy.export_tables(living, tmp_path / "tables")
    before = studies.state_of(tmp_path / "tables")
    folder = next(living.glob(place))
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "not-there")
    with pytest.raises(DicomStudyError) as caught:
        dicomstudy.export_tables(living, tmp_path / "tables")
    assert caught.value.code == "archive/unreadable"
    assert studies.state_of(tmp_path / "tables") == before
    problems = dicomstudy.verify(living).problems
    assert [problem.code for problem in problems] == ["archive/unreadable"]
    uid = next(path.name for path in (tmp_path / "elsewhere").rglob("*.zst"))[: -len(".ion.zst")]
    asks: list[Callable[[], object]] = [
        lambda: uid in dicomstudy.open_archive(living),
        lambda: dicomstudy.restore(living, tmp_path / "out", study=uid),
        lambda: dicomstudy.deidentify(living, tmp_path / "out", studies=[uid]),
        lambda: dicomstudy.update(living, uid, [{"set": {"PatientID": "x"}}]),
    ]
    for ask in asks:
        with pytest.raises(DicomStudyError) as caught:
            ask()
        assert caught.value.code == "archive/unreadable"


@pytest.mark.parametrize("missing", ["document", "archive.ion"])
def test_a_study_that_cannot_be_reached_is_a_problem(
    missing: str, living: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be on a share that is not there now: nobody has collected it."""
    open_now = Folder.open

    def without(folder: Folder, path: Path) -> Study:
        if missing == "document":
            path.unlink()
            path.symlink_to("nowhere")
        else:
            path.unlink()
            (living / missing).unlink(missing_ok=True)
        return open_now(folder, path)

    count = len(dicomstudy.open_archive(living))
    archive = dicomstudy.open_archive(living)
    monkeypatch.setattr(Folder, "open", without)
    found = [error for _, error in archive.studies()]
    assert [error.code for error in found if isinstance(error, DicomStudyError)] == [
        "study/missing"
    ] * count
