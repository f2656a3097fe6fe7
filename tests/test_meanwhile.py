"""What other runs move while an archive is read (spec/moving.md, "Readers meanwhile")."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import dicomstudy
from dicomstudy.folder import Folder
from dicomstudy.study import Study
from fixtures import make
from tests import studies
from tests.movable import BEN, S1, S2, T1, S, T, archive_in, originals, there

#: What another run does, with the study that is read first, and with that which is read then.
Change = Callable[[str, str], object]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return archive_in(tmp_path)


@pytest.fixture
def meanwhile(archive: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Change], None]:
    """Lets another run change the archive when one study was read, and the next one is opened."""

    def prepare(change: Change) -> None:
        opened: list[Path] = []
        open_ = Folder.open

        def opening(folder: Folder, path: Path) -> Study:
            if folder.path == archive and opened and path != opened[0]:
                monkeypatch.setattr(Folder, "open", open_)
                first, then = (S, T) if opened[0] == folder.document_path(S) else (T, S)
                change(first, then)
            opened.append(path)
            return open_(folder, path)

        monkeypatch.setattr(Folder, "open", opening)

    return prepare


def merged(archive: Path) -> Change:
    return lambda first, then: dicomstudy.merge(archive, then, into=first)


def files_of(archive: Path) -> set[bytes]:
    """The files of all instances as they are."""
    return {data for study in there(archive).values() for _, data in study.values()}


def files_below(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.rglob("*.dcm")]


def test_what_is_moved_to_a_study_that_was_read_is_restored(
    archive: Path, tmp_path: Path, meanwhile: Callable[[Change], None]
) -> None:
    meanwhile(merged(archive))
    done = dicomstudy.restore(archive, tmp_path / "out")
    files = files_below(tmp_path / "out")
    assert set(files) == files_of(archive)
    assert (done.files, done.bytes_out, done.problems) == (7, sum(map(len, files)), [])


def test_so_is_what_is_split_to_a_study_that_would_have_been_read(
    archive: Path, tmp_path: Path, meanwhile: Callable[[Change], None]
) -> None:
    folder = dicomstudy.open_archive(archive)
    paths = {folder.document_path(f"2.25.{number}"): f"2.25.{number}" for number in range(100)}
    before_all = paths[min(paths)]
    assert min(paths) < min(folder.document_path(S), folder.document_path(T))
    of = {S: S1, T: T1}
    meanwhile(
        lambda _, then: dicomstudy.split(archive, then, series=[of[then]], new_study=before_all)
    )
    done = dicomstudy.restore(archive, tmp_path / "out")
    assert set(files_below(tmp_path / "out")) == files_of(archive)
    assert (done.files, done.problems) == (7, [])


def test_so_is_what_comes_back_as_studies_are_reverted(
    archive: Path, tmp_path: Path, meanwhile: Callable[[Change], None]
) -> None:
    folder = dicomstudy.open_archive(archive)
    first, then = sorted((S, T), key=folder.document_path)
    dicomstudy.merge(archive, first, into=then)

    def back(first: str, then: str) -> None:
        dicomstudy.revert(archive, first, to=1)
        dicomstudy.revert(archive, then, to=1)

    meanwhile(back)
    done = dicomstudy.restore(archive, tmp_path / "out")
    assert set(files_below(tmp_path / "out")) == originals(archive)
    assert (done.files, done.problems) == (7, [])


def test_so_is_what_was_moved_by_versions_that_are_collected(
    archive: Path, tmp_path: Path, meanwhile: Callable[[Change], None]
) -> None:
    def moved_and_collected(first: str, then: str) -> None:
        dicomstudy.merge(archive, then, into=first)
        dicomstudy.collect(archive, older_versions=True, remove=True)

    meanwhile(moved_and_collected)
    assert dicomstudy.restore(archive, tmp_path / "out").complete
    assert files_of(archive) <= set(files_below(tmp_path / "out"))


def test_of_one_series_or_instance_too(
    archive: Path, tmp_path: Path, meanwhile: Callable[[Change], None]
) -> None:
    folder = dicomstudy.open_archive(archive)
    last = max((S, T), key=folder.document_path)
    series = S2 if last == S else T1
    meanwhile(merged(archive))
    done = dicomstudy.restore(archive, tmp_path / "out", series=series)
    assert (done.files, done.problems) == (2, [])


def test_what_is_converted_meanwhile_is_not_waited_for(
    archive: Path, tmp_path: Path, meanwhile: Callable[[Change], None]
) -> None:
    late = {
        S: make.ct_slice("s", 3, 1),
        T: make.ct_slice("t", 3, 1, replace=BEN),
    }

    def arrives(first: str, _: str) -> None:
        more = studies.write_files(tmp_path / "more", [("late.dcm", late[first])])
        assert dicomstudy.convert([more], archive).instances == 1

    meanwhile(arrives)
    assert dicomstudy.restore(archive, tmp_path / "out").files == 7


def test_a_study_that_can_no_longer_be_read_is_a_problem(
    archive: Path, tmp_path: Path, meanwhile: Callable[[Change], None]
) -> None:
    def damaged(first: str, then: str) -> None:
        dicomstudy.merge(archive, then, into=first)
        dicomstudy.open_archive(archive).document_path(first).write_bytes(b"no document")

    meanwhile(damaged)
    done = dicomstudy.restore(archive, tmp_path / "out")
    assert [problem.code for problem in done.problems] == ["study/not-a-study"]


def test_verify_proves_what_came(archive: Path, meanwhile: Callable[[Change], None]) -> None:
    def damaged(first: str, then: str) -> None:
        dicomstudy.merge(archive, then, into=first)
        bulk = dicomstudy.open_archive(archive).bulk_path(first)
        *content, last = bulk.read_bytes()
        bulk.write_bytes(bytes([*content, last ^ 1]))

    meanwhile(damaged)
    verified = dicomstudy.verify(archive)
    assert verified.problems
    assert (verified.studies, verified.instances) == (2, 7)


def test_deidentify_says_that_something_came(
    archive: Path, tmp_path: Path, meanwhile: Callable[[Change], None]
) -> None:
    meanwhile(merged(archive))
    done = dicomstudy.deidentify(archive, tmp_path / "out")
    assert [problem.code for problem in done.problems] == ["deidentify/moved"]
    assert not done.complete


def test_an_instance_is_found_where_it_is_now(
    archive: Path, meanwhile: Callable[[Change], None]
) -> None:
    folder = dicomstudy.open_archive(archive)
    last = max((S, T), key=folder.document_path)
    (wanted, *_) = folder[last]
    meanwhile(merged(archive))
    ((study, keys),) = folder.find(wanted)
    with study:
        assert (study.uid, keys) == (min((S, T), key=folder.document_path), [wanted])


def test_what_was_found_before_is_found_as_it_is_now(
    archive: Path, meanwhile: Callable[[Change], None]
) -> None:
    folder = dicomstudy.open_archive(archive)
    first = min((S, T), key=folder.document_path)
    (wanted, *_) = folder[first]
    meanwhile(merged(archive))
    ((study, keys),) = folder.find(wanted)
    with study:
        assert (study.version, keys) == (2, [wanted])


def test_tables_have_what_came(
    archive: Path, tmp_path: Path, meanwhile: Callable[[Change], None]
) -> None:
    meanwhile(merged(archive))
    exported = dicomstudy.export_tables(archive, tmp_path / "tables")
    assert (exported.studies, exported.instances, exported.added) == (2, 7, 2)
    with dicomstudy.open_tables(tmp_path / "tables") as tables:
        tables.to_archive(tmp_path / "back")
    assert files_of(tmp_path / "back") == files_of(archive)
