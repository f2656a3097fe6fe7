"""Files that come again after their instances were moved (spec/moving.md, spec/archive.md)."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import dicomstudy
from dicomstudy import change, ion
from dicomstudy.document import Document, whole
from dicomstudy.errors import ArchiveError
from fixtures import make
from fixtures.make import uid
from tests import studies
from tests.movable import (
    S1,
    S2,
    S,
    T,
    U,
    all_is_well,
    archive_bulk,
    archive_in,
    keys,
    of,
    originals,
    slices,
    there,
)
from tests.test_versioning import content


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return archive_in(tmp_path)


def again(archive: Path) -> tuple[int, int]:
    """How many instances come in, and how many are there, if all files are converted again."""
    report = dicomstudy.convert([archive.parent / "in"], archive)
    assert report.problems == []
    return report.instances, report.unchanged


def test_files_that_come_again_are_where_they_were_moved_to(archive: Path) -> None:
    dicomstudy.move(archive, S, series=S2, to_study=T)
    dicomstudy.merge(archive, S, into=T)
    dicomstudy.split(archive, T, series=[S2], new_study="1.2.3")
    dicomstudy.move(archive, "1.2.3", instance=uid("s/2/1"), to_study="1.2.3", to_series="1.2.4")
    before = studies.state_of(archive)
    assert again(archive) == (0, 7)
    assert studies.state_of(archive) == before


@pytest.mark.parametrize("first", ["1.2.5", "2.9"])  # before and behind the series that it left
def test_files_that_come_again_are_in_another_series(first: str, archive: Path) -> None:
    dicomstudy.move(archive, S, series=S1, to_study=S, to_series=first)
    dicomstudy.move(archive, S, instance=uid("s/2/1"), to_study=S, to_series=first)
    before = studies.state_of(archive)
    assert again(archive) == (0, 7)
    dicomstudy.delete(archive, S, series=first)
    assert again(archive) == (4, 3)
    dicomstudy.revert(archive, S, to=3)
    assert again(archive) == (0, 7)
    assert before != studies.state_of(archive)
    for series, to in ((first, T), (S2, T)):
        dicomstudy.move(archive, S, series=series, to_study=to)
    dicomstudy.move(archive, T, series=first, to_study=T, to_series="1.1.1")
    dicomstudy.split(archive, T, series=["1.1.1"], new_study="1.2.3")
    assert again(archive) == (0, 7)
    all_is_well(archive)


def test_nothing_comes_in_where_what_went_is_in_a_study_that_cannot_be_read(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dicomstudy.move(archive, S, series=S2, to_study=T)
    before, path = studies.state_of(archive), dicomstudy.open_archive(archive).document_path(T)
    more = studies.write_files(
        archive.parent / "in" / "more", [("u.dcm", make.ct_slice("u", 1, 1))]
    )
    with monkeypatch.context() as failing:
        studies.unreadable(failing, path)
        report = dicomstudy.convert([archive.parent / "in" / "s21.dcm", more], archive)
    (problem,) = report.problems
    assert (problem.source, problem.code) == (str(path), "study/unreadable")
    assert report.instances == 1
    assert before.items() <= studies.state_of(archive).items()
    assert again(archive) == (0, 8)


def test_new_files_come_in_where_what_went_is_in_a_damaged_study(archive: Path) -> None:
    dicomstudy.move(archive, S, series=S2, to_study=T)
    dicomstudy.open_archive(archive).document_path(T).write_bytes(b"damaged")
    studies.write_files(archive.parent / "in", [("s4.dcm", make.ct_slice("s", 1, 4))])
    report = dicomstudy.convert([archive.parent / "in"], archive)
    assert {problem.code for problem in report.problems} == {"study/not-a-study"}
    assert keys(archive, S) == {S1: of(S1, 1, 2, 3, 4), S2: of(S2, 1, 2)}


def to_and_fro(archive: Path) -> None:
    """Some of each study is in the other one, and some went back."""
    dicomstudy.move(archive, S, series=S2, to_study=T)
    dicomstudy.move(archive, T, instance=uid("s/2/1"), to_study=S)
    dicomstudy.move(archive, S, instance=uid("s/1/1"), to_study=T)
    dicomstudy.revert(archive, S, to=3)  # the instance is in both
    dicomstudy.move(archive, S, instance=uid("s/1/2"), to_study=S, to_series="1.2.4")


#: What is done between two conversions.
BETWEEN: dict[str, Callable[[Path], object]] = {
    "nothing": lambda _: None,
    "moved": lambda archive: dicomstudy.move(archive, S, series=S2, to_study=T),
    "merged": lambda archive: dicomstudy.merge(archive, S, into=T),
    "split": lambda archive: dicomstudy.split(archive, S, series=[S1], new_study="1.2.3"),
    "series": lambda archive: dicomstudy.move(archive, S, series=S1, to_study=S, to_series="1.2.3"),
    "on": lambda archive: [
        dicomstudy.merge(archive, S, into=T),
        dicomstudy.split(archive, T, series=[S2], new_study="1.2.3"),
        dicomstudy.merge(archive, "1.2.3", into=U),
    ],
    "to and fro": to_and_fro,
    "source reverted": lambda archive: [
        dicomstudy.merge(archive, S, into=T),
        dicomstudy.revert(archive, S, to=1),
    ],
}


@pytest.mark.parametrize(("inline", "jobs"), [(256, 1), (64, 1), (1 << 20, 1), (256, 2)])
@pytest.mark.parametrize("between", BETWEEN)
def test_values_are_copied_at_last_wherever_their_instance_is(
    between: str, inline: int, jobs: int, tmp_path: Path
) -> None:
    """An archive made by reference becomes complete, and nothing else changes."""
    files = [*slices(), ("u.dcm", make.ct_slice("u", 1, 1))]
    folder, archive = studies.write_files(tmp_path / "in", files), tmp_path / "archive"
    dicomstudy.convert([folder], archive, bulk="reference")
    BETWEEN[between](archive)
    before = there(archive)
    histories = {study: dicomstudy.history(archive, study) for study in before}
    assert dicomstudy.convert([folder], archive, bulk="reference").unchanged == 8
    report = dicomstudy.convert([folder], archive, max_inline=inline, jobs=jobs)
    assert (report.instances, report.unchanged, report.problems) == (8, 0, [])
    complete = studies.state_of(archive)
    assert dicomstudy.convert([folder], archive, jobs=jobs).unchanged == 8
    assert dicomstudy.convert([folder], archive, bulk="reference").unchanged == 8
    assert studies.state_of(archive) == complete
    shutil.rmtree(folder)
    assert there(archive) == before
    for study, versions in histories.items():
        assert [v.number for v in dicomstudy.history(archive, study)] == [
            v.number for v in versions
        ]
    all_is_well(archive)
    assert originals(archive) == {data for _, data in files}
    for study, versions in histories.items():
        for version in versions:
            dicomstudy.revert(archive, study, to=version.number)
            all_is_well(archive)


def test_what_a_killed_run_left_to_be_copied_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, archive = studies.write_files(tmp_path / "in", slices()), tmp_path / "archive"
    dicomstudy.convert([folder], archive, bulk="reference")
    dicomstudy.merge(archive, S, into=T)
    whole = shutil.copytree(archive, tmp_path / "whole")
    dicomstudy.convert([folder], whole)

    monkeypatch.setattr(change, "write_atomically", studies.disk_full)  # that of the target
    with pytest.raises(ArchiveError) as raised:
        dicomstudy.convert([folder], archive)
    assert raised.value.code == "archive/full"
    monkeypatch.undo()
    all_is_well(archive)
    assert studies.state_of(archive) != studies.state_of(whole)
    dicomstudy.convert([folder], archive)
    assert studies.state_of(archive) == studies.state_of(whole)


def test_a_document_in_the_place_of_another_gets_no_values(tmp_path: Path) -> None:
    folder, archive = studies.write_files(tmp_path / "in", slices()), tmp_path / "archive"
    dicomstudy.convert([folder], archive, bulk="reference")
    dicomstudy.move(archive, S, series=S1, to_study=T)
    path = dicomstudy.open_archive(archive).document_path(T)
    shutil.copy(dicomstudy.open_archive(archive).document_path(S), path)
    misplaced = path.read_bytes()
    for name in ("t1.dcm", "t2.dcm"):
        (folder / name).unlink()
    assert dicomstudy.convert([folder], archive).problems == []
    assert path.read_bytes() == misplaced
    assert keys(archive, S) == {S1: of(S1, 1, 2, 3), S2: of(S2, 1, 2)}


@pytest.mark.parametrize("damaged", ["document", "bulk file"])
def test_a_damaged_study_does_not_get_values(damaged: str, tmp_path: Path) -> None:
    files = [*slices(), ("u.dcm", make.ct_slice("u", 1, 1))]
    folder, archive = studies.write_files(tmp_path / "in", files), tmp_path / "archive"
    dicomstudy.convert([folder / "t1.dcm"], archive)
    dicomstudy.convert([folder], archive, bulk="reference")
    dicomstudy.move(archive, S, series=S1, to_study=T)
    if damaged == "bulk file":
        archive_bulk(archive, T).write_bytes(b"DCMBULK1")
    else:
        dicomstudy.open_archive(archive).document_path(T).write_bytes(b"damaged")
    (folder / "t1.dcm").unlink()
    (folder / "t2.dcm").unlink()
    report = dicomstudy.convert([folder], archive)
    if damaged == "bulk file":
        assert [(p.source, p.code) for p in report.problems] == [
            (str(archive_bulk(archive, T)), "bulk/truncated")
        ]
        assert not report.complete
        assert keys(archive, S) == {S2: of(S2, 1, 2)}
    else:  # nobody knows where they are
        assert report.problems == []
        assert keys(archive, S) == {S1: of(S1, 1, 2, 3), S2: of(S2, 1, 2)}


@pytest.mark.parametrize("state", ["there", "out", "in another series"])
def test_what_needs_no_file_stays_so_wherever_it_goes(state: str, tmp_path: Path) -> None:
    """Of two equal instances, the one is kept whose values are in the archive."""
    files = [("s", make.ct_slice("s", 1, 1)), ("t", make.ct_slice("t", 1, 1))]
    folder, archive = studies.write_files(tmp_path / "in", files), tmp_path / "archive"
    dicomstudy.convert([folder], archive, bulk="reference")
    to = S if state == "in another series" else T
    to_series = "1.2.3" if to == S else None
    dicomstudy.move(archive, S, series=S1, to_study=to, to_series=to_series)
    if state == "out":
        dicomstudy.delete(archive, T, series=S1)
    before, version = content(archive, to), dicomstudy.history(archive, to)[-1]
    if state == "there":  # in both, and nothing says so any more
        dicomstudy.revert(archive, S, to=1)
        dicomstudy.collect(archive, study=S, older_versions=True, remove=True)
    elif state == "in another series":
        dicomstudy.delete(archive, S, series="1.2.3")
    dicomstudy.convert([folder], archive, bulk="copy")
    moved = dicomstudy.move(archive, S, series=S1, to_study=to, to_series=to_series)
    shutil.rmtree(folder)
    all_is_well(archive)
    if state == "there":
        assert moved.target_version == version
        assert content(archive, T)["digest"] == before["digest"]
    assert originals(archive) == {data for _, data in files}


def test_a_document_in_readable_form_is_looked_into_too(archive: Path) -> None:
    dicomstudy.merge(archive, S, into=T)
    path = dicomstudy.open_archive(archive).document_path(T)
    with contextlib.closing(Document(path)) as document:
        text = ion.dumps(whole(document), text=True)
    path.write_bytes(text)
    assert again(archive) == (0, 7)


def test_files_come_again_where_they_say_if_they_are_nowhere_else(archive: Path) -> None:
    dicomstudy.merge(archive, S, into=T)
    dicomstudy.delete(archive, T, series=S2)
    assert again(archive) == (2, 5)
    assert keys(archive, S) == {S2: of(S2, 1, 2)}
    dicomstudy.collect(archive, study=T, older_versions=True, remove=True)
    assert again(archive) == (3, 4)
    assert keys(archive, S) == {S1: of(S1, 1, 2, 3), S2: of(S2, 1, 2)}
    assert len(keys(archive, T)) == 2
    all_is_well(archive)


def test_what_was_moved_and_went_back_is_there(archive: Path) -> None:
    dicomstudy.merge(archive, S, into=T)
    dicomstudy.revert(archive, T, to=1)
    assert again(archive) == (5, 2)
    dicomstudy.revert(archive, S, to=2)
    dicomstudy.revert(archive, T, to=2)
    assert again(archive) == (0, 7)
    all_is_well(archive)
