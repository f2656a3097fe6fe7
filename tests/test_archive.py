"""An archive is a folder of study documents, whole at every moment (spec/archive.md)."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dicomstudy
from dicomstudy import disk, folder, ion
from dicomstudy.archive import create, open_archive
from dicomstudy.disk import write_atomically
from dicomstudy.errors import ArchiveError, DicomStudyError, StudyError
from dicomstudy.folder import DOCUMENT, at_work, bulk_beside, document_beside, locked, name_of
from fixtures import make
from tests import processes, studies

CT = make.uid("ct")


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fixtures in an archive."""
    folder = tmp_path_factory.mktemp("archive")
    dicomstudy.convert([studies.write_fixtures(folder / "in")], folder / "archive")
    return folder / "archive"


# -- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize("uid", ["1.2", "2.25.123456789012345678901234567890", make.uid("ct")])
def test_a_uid_is_its_own_name(uid: str) -> None:
    assert name_of(uid) == uid


HOSTILE = [
    *("", ".", "..", "../../x", "/etc/passwd", "1.2/3", "1.2\\3", "1.2\0", "1.2\n", "1.2 "),
    *("1", "1..2", ".1.2", "1.2.", "-1.2", "CON", "ä.1", "\udc80", "x" * 1000, "1." + "2" * 70),
]


@pytest.mark.parametrize("uid", HOSTILE)
def test_what_is_no_uid_has_a_safe_name(uid: str) -> None:
    name = name_of(uid)
    assert name.startswith("x")
    assert name[1:].isalnum()
    assert len(name) == 65


@given(st.text(max_size=80), st.text(max_size=80))
def test_names_differ_where_uids_differ(one: str, other: str) -> None:
    assert (name_of(one) == name_of(other)) is (one == other)
    assert name_of(one) == os.path.basename(name_of(one)) != ""  # noqa: PTH119


@given(st.text(max_size=80), st.integers(0, 1 << 40))
def test_the_document_stands_beside_each_of_its_bulk_files(uid: str, number: int) -> None:
    document = Path(name_of(uid) + DOCUMENT)
    assert document_beside(bulk_beside(document, number)) == document


def test_documents_of_any_uid_lie_below_the_archive(converted: Path) -> None:
    archive = open_archive(converted)
    for uid in HOSTILE:
        for path in (archive.document_path(uid), archive.bulk_path(uid)):
            assert path.resolve().is_relative_to(converted.resolve() / "studies")


# -- layout ------------------------------------------------------------------------------------


def test_an_archive_has_the_files_that_the_specification_names(converted: Path) -> None:
    found = sorted(path.relative_to(converted).as_posix() for path in converted.rglob("*"))
    top = {path.split("/")[0] for path in found}
    assert top <= {"archive.ion", "studies", "quarantine", "incoming", "lock"}
    assert not list((converted / "incoming").iterdir())
    archive = open_archive(converted)
    for uid in archive:
        assert archive.document_path(uid).is_file()
        with archive[uid] as study:
            assert archive.bulk_path(uid).is_file() is bool(list(study.places()))
    assert not [path for path in found if ".part" in path]


def test_the_marker_says_what_the_archive_is(converted: Path) -> None:
    marker = ion.loads((converted / "archive.ion").read_bytes())
    load = open_archive(converted).definitions
    assert marker == {
        "format": "dicomstudy archive",
        "version": 1,
        "definitions": {"version": load.version, "sha256": load.digest},
    }


# -- a mapping ---------------------------------------------------------------------------------


def test_an_archive_is_a_mapping_of_studies(converted: Path) -> None:
    archive = open_archive(str(converted))
    assert isinstance(archive, Mapping)
    uids = list(archive)
    assert len(archive) == len(uids) == len(set(uids))
    assert {make.uid(name) for name in ("ct", "mr", "us", "encodings", "texts")} <= set(uids)
    for uid, study in archive.items():
        assert study.uid == uid
        assert uid in archive
        study.close()
    for other in ("1.2.3", "../../x/y", "", 5):
        assert other not in archive
        with pytest.raises(KeyError):
            archive[other]  # type: ignore[index]


@pytest.mark.parametrize(
    "change",
    [
        lambda archive: dicomstudy.update(archive, "1.2.3", [{"set": {"PatientName": "B"}}]),
        lambda archive: dicomstudy.delete(archive, "1.2.3", series=make.uid("ct/1")),
        lambda archive: dicomstudy.revert(archive, "1.2.3", to=1),
        lambda archive: dicomstudy.collect(archive, study="1.2.3"),
        lambda archive: dicomstudy.move(
            archive, "1.2.3", series=make.uid("ct/1"), to_study=make.uid("u")
        ),
        lambda archive: dicomstudy.merge(archive, make.uid("u"), into="1.2.3"),
        lambda archive: dicomstudy.resolve(archive, "1.2.3", group="patient", keep="0"),
        lambda archive: dicomstudy.history(archive, "1.2.3"),
        lambda archive: open_archive(archive)["1.2.3"],
    ],
    ids=["update", "delete", "revert", "collect", "move", "merge", "resolve", "history", "open"],
)
def test_a_document_in_the_place_of_another_is_neither_read_nor_changed(
    change: Callable[[Path], object], tmp_path: Path
) -> None:
    files = [("a", make.ct_slice("ct", 1, 1)), ("u", make.ct_slice("u", 1, 1))]
    dicomstudy.convert([studies.write_files(tmp_path / "in", files)], tmp_path / "archive")
    archive = open_archive(tmp_path / "archive")
    path = archive.document_path("1.2.3")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(archive.document_path(CT).read_bytes())
    before = studies.state_of(archive.path)
    with pytest.raises(StudyError) as raised:
        change(archive.path)
    assert raised.value.code == "study/damaged"
    assert "does not belong where it is" in raised.value.message
    assert studies.state_of(archive.path) == before
    (problem,) = dicomstudy.verify(archive).problems
    assert (problem.code, problem.source) == ("study/damaged", str(path))


def test_hostile_uids_are_those_of_their_studies(converted: Path) -> None:
    archive = open_archive(converted)
    assert "../../x" in set(archive)
    assert len(archive["../../x"]) == 1
    assert any(len(uid) == 1000 for uid in archive)
    assert "CON" in archive


def test_studies_are_found_by_the_uids_of_what_they_have(converted: Path) -> None:
    archive = open_archive(converted)
    for uid, count in ((CT, 16), (make.uid("ct/2"), 4), (make.uid("ct/2/7"), 1), ("1.2", 0)):
        found = [(study.uid, len(keys)) for study, keys in archive.find(uid)]
        assert found == ([(CT, count)] if count else [])


def test_quarantine_says_why(converted: Path) -> None:
    kept = {Path(each.uri).name: each for each in open_archive(converted).quarantined()}
    assert kept["DICOMDIR"].code == "convert/dicomdir"
    assert kept["uid-missing.dcm"].code == "convert/no-uids"
    for each in kept.values():
        assert each.path.stat().st_size == each.size
        assert each.message


# -- opening and making ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (None, "archive/not-an-archive"),
        (b"{", "archive/damaged"),
        (b"", "archive/damaged"),
        (b"5", "archive/not-an-archive"),
        (b'{format: "other", version: 1}', "archive/not-an-archive"),
        (b'{format: "dicomstudy archive", version: 2}', "archive/unknown-version"),
        (b'{format: "dicomstudy archive"}', "archive/unknown-version"),
    ],
)
def test_what_is_no_archive_is_refused(content: bytes | None, code: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "archive.ion").write_bytes(content)
    for opening in (open_archive, dicomstudy.verify):
        with pytest.raises(ArchiveError) as raised:
            opening(tmp_path)
        assert raised.value.code == code
        assert str(tmp_path) in str(raised.value)


@pytest.mark.parametrize("path", ["", "a\0b"])
def test_what_is_no_path_is_refused(
    path: str, converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked: list[Callable[[], object]] = [
        lambda: open_archive(path),
        lambda: dicomstudy.open_study(path),
        lambda: dicomstudy.open_tables(path),
        lambda: dicomstudy.convert([converted], path),
        lambda: dicomstudy.restore(converted, path),
        lambda: dicomstudy.deidentify(converted, path),
        lambda: dicomstudy.write_records([converted], path),
        lambda: dicomstudy.export_tables(converted, path),
        lambda: dicomstudy.export_tables(path, tmp_path / "out"),
        lambda: dicomstudy.update(path, CT, [{"set": {"PatientID": "new"}}]),
    ]
    for ask in asked:
        with pytest.raises(ArchiveError) as raised:
            ask()
        assert raised.value.code == "archive/no-path"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["loop", "loop/folder"])
def test_a_link_in_a_circle_is_no_place_to_write_to(
    name: str, converted: Path, tmp_path: Path
) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for write in (dicomstudy.restore, dicomstudy.export_tables):
        with pytest.raises(DicomStudyError) as raised:
            write(converted, tmp_path / name)
        assert raised.value.code in {"archive/unwritable", "tables/unwritable"}


@pytest.mark.parametrize("write", [dicomstudy.restore, dicomstudy.export_tables])
@pytest.mark.parametrize("name", ["", "studies", "new/folder"])
def test_nothing_is_written_into_an_archive(
    write: Callable[[Path, Path], object], name: str, converted: Path
) -> None:
    before = studies.state_of(converted)
    with pytest.raises(ArchiveError) as raised:
        write(converted, converted / name)
    assert raised.value.code == "archive/inside"
    with pytest.raises(ArchiveError) as raised:
        dicomstudy.write_records([converted], converted / name)
    assert raised.value.code == "archive/inside"
    assert studies.state_of(converted) == before


def test_a_file_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ArchiveError) as raised:
            open_archive(path)
        assert raised.value.code == "archive/not-an-archive"


def test_an_archive_is_made_in_a_new_or_empty_folder(tmp_path: Path) -> None:
    assert len(create(tmp_path / "a/b")) == 0
    (tmp_path / "empty").mkdir()
    assert len(create(tmp_path / "empty")) == 0
    assert len(create(tmp_path / "empty")) == 0


def test_an_archive_is_not_made_beside_other_files(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(ArchiveError) as raised:
        create(tmp_path)
    assert raised.value.code == "archive/not-empty"
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_archive_that_was_cut_off_while_it_was_made_is_made_whole(tmp_path: Path) -> None:
    """Killed before the marker got its name: what is there is ours."""
    (tmp_path / "incoming").mkdir()
    (tmp_path / "incoming" / "0123456789abcdef.part").write_bytes(b"{for")
    assert len(create(tmp_path)) == 0


def test_a_file_is_no_place_for_an_archive(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(ArchiveError) as raised:
            create(path)
        assert raised.value.code == "archive/unwritable"


# -- locks -------------------------------------------------------------------------------------


def _hold(document: Path, pipe: Connection) -> None:
    with locked(document):
        pipe.send("locked")
        pipe.poll(60)


@contextlib.contextmanager
def held(document: Path) -> Iterator[tuple[SpawnProcess, Callable[[], None]]]:
    """Another process that has the lock of a study, and what lets it end."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    other = context.Process(target=_hold, args=(document, there))
    other.start()
    there.close()
    with here:
        assert here.recv() == "locked"
        yield other, here.close
    other.join()


def test_a_run_waits_for_the_study_that_another_one_writes(tmp_path: Path) -> None:
    archive = create(tmp_path / "archive")
    studies.write_files(
        tmp_path / "in",
        [("1.dcm", make.ct_slice("ct", 1, 3)), ("2.dcm", make.ct_slice("other", 1, 3))],
    )
    document, free = archive.document_path(CT), archive.document_path(make.uid("other"))
    document.parent.mkdir(exist_ok=True)
    with held(document) as (_, let_go):
        one, two = (
            processes.start(
                "import sys, dicomstudy; dicomstudy.convert([sys.argv[1]], sys.argv[2])",
                tmp_path / "in" / name,
                archive.path,
            )
            for name in ("1.dcm", "2.dcm")
        )
        assert two.wait(60) == 0  # it has nothing to wait for
        assert free.exists()
        with pytest.raises(subprocess.TimeoutExpired):
            one.wait(0.5)
        assert not document.exists()
        let_go()
        assert one.wait(60) == 0
        assert document.exists()
    for process in (one, two):
        assert process.stdout is not None
        process.stdout.close()


def test_a_killed_run_lets_go_of_the_lock(tmp_path: Path) -> None:
    archive = create(tmp_path / "archive")
    document = archive.document_path(CT)
    document.parent.mkdir(exist_ok=True)
    with held(document) as (other, _):
        other.kill()
        other.join()
        studies.write_files(tmp_path / "in", [("1.dcm", make.ct_slice("ct", 1, 3))])
        assert dicomstudy.convert([tmp_path / "in"], archive.path).instances == 1
    assert not list(archive.path.rglob("*.lock"))


def test_many_that_want_one_lock_have_it_one_after_another(tmp_path: Path) -> None:
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(50):
            with locked(tmp_path / "1.2.ion.zst"):
                inside += 1
                most = max(most, inside)
                time.sleep(0.0002)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert not list(tmp_path.iterdir())


def test_what_a_killed_run_left_is_removed_by_the_next_one_that_is_alone(tmp_path: Path) -> None:
    archive = create(tmp_path)
    (tmp_path / "incoming/left").mkdir()
    (tmp_path / "incoming/left.part").touch()
    with at_work(archive.path):
        assert not list((tmp_path / "incoming").iterdir())
        (tmp_path / "incoming/at work").mkdir()
        assert dicomstudy.convert([], tmp_path).files == 0
        assert [path.name for path in (tmp_path / "incoming").iterdir()] == ["at work"]


# -- atomic writing ----------------------------------------------------------------------------


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert write_atomically(path, [b"old", b"!"]) == 4

    def failing() -> object:
        yield b"new"
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_atomically(path, failing())  # type: ignore[arg-type]
    assert path.read_bytes() == b"old!"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_is_on_disk_before_it_has_its_name(tmp_path: Path) -> None:
    path = tmp_path / "file"
    synced: list[bool] = []

    def noting(descriptor: int) -> None:
        synced.append(path.exists())
        assert descriptor >= 0

    with mock.patch("os.fsync", noting):
        write_atomically(path, [b"content"])
    assert synced == [False, True]  # the file, then the folder with its name


def test_the_names_of_new_folders_are_on_disk_too(
    converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise all that is in them may be gone when the power fails."""
    made: set[Path] = set()
    mkdir, fsync, opened = os.mkdir, os.fsync, dict[int, Path]()
    open_now = os.open

    def making(path: str | Path, *arguments: int) -> None:
        mkdir(path, *arguments)
        made.add(Path(path))

    def opening(path: str | Path, *arguments: int, **named: int) -> int:
        descriptor = open_now(path, *arguments, **named)
        opened[descriptor] = Path(path)
        return descriptor

    def syncing(descriptor: int) -> None:
        fsync(descriptor)
        made.difference_update([path for path in made if path.parent == opened.get(descriptor)])

    for name, function in (("mkdir", making), ("open", opening), ("fsync", syncing)):
        monkeypatch.setattr(os, name, function)
    archive = tmp_path / "new" / "archive"
    dicomstudy.convert([converted.parent / "in"], archive)
    dicomstudy.deidentify(archive, tmp_path / "deidentified")
    dicomstudy.split(archive, CT, series=[make.uid("ct/1")], new_study="1.2.3")
    with dicomstudy.open_archive(archive).tables() as tables:
        tables.to_archive(tmp_path / "again")
    monkeypatch.undo()
    folders = (archive, tmp_path / "deidentified", tmp_path / "again")
    kept = {path for folder in folders for path in folder.rglob("*") if path.is_dir()}
    assert len([path for path in kept if path.parent.name == "studies"]) > 5
    assert made & {*kept, *folders, archive.parent} == set()


def test_making_a_folder_above_all_others_is_no_endless_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in a working folder that somebody removed."""

    def gone(*_: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "mkdir", gone)
    with pytest.raises(FileNotFoundError):
        disk.make_folder(Path("new"))


def test_a_folder_that_cannot_be_made_though_there_is_one_above_is_no_endless_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As below ``/proc``."""

    def gone(path: Path) -> None:
        raise FileNotFoundError if path != tmp_path else FileExistsError

    with monkeypatch.context() as failing:
        failing.setattr(Path, "mkdir", gone)
        with pytest.raises(FileNotFoundError):
            disk.make_folder(tmp_path / "new")


def test_threads_write_one_file_at_once(tmp_path: Path) -> None:
    def write(content: bytes) -> None:
        for _ in range(100):
            disk.write_atomically(tmp_path / "file", [content[:1], content[1:]])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, (bytes([number]) * 1000 for number in range(4))))
    assert len((tmp_path / "file").read_bytes()) == 1000
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_is_an_error_and_leaves_the_archive_as_it_was(tmp_path: Path) -> None:
    studies.write_files(tmp_path / "in", [("1.dcm", make.ct_slice("ct", 1, 3))])
    dicomstudy.convert([tmp_path / "in"], tmp_path / "archive")
    before = studies.state_of(tmp_path / "archive")
    studies.write_files(tmp_path / "in", [("2.dcm", make.ct_slice("ct", 1, 6))])
    with (
        mock.patch("os.fsync", studies.disk_full),
        pytest.raises(ArchiveError) as raised,
    ):
        dicomstudy.convert([tmp_path / "in"], tmp_path / "archive")
    assert raised.value.code == "archive/full"
    assert "No space left" in str(raised.value)
    after = studies.state_of(tmp_path / "archive")
    documents = [name for name in before if name.endswith((".ion", ".ion.zst"))]
    assert [after[name] for name in documents] == [before[name] for name in documents]
    assert dicomstudy.verify(tmp_path / "archive").problems == []
    assert dicomstudy.convert([tmp_path / "in"], tmp_path / "archive").instances == 1
    assert len(open_archive(tmp_path / "archive")[CT]) == 2


# -- damage ------------------------------------------------------------------------------------


def test_a_damaged_document_is_the_problem_of_its_study_alone(tmp_path: Path) -> None:
    dicomstudy.convert([make.__file__.replace("make.py", "archive")], tmp_path)
    archive = open_archive(tmp_path)
    archive.document_path(CT).write_bytes(b"damaged")
    assert len(archive) == 5
    for uid in archive:
        if uid == CT:
            with pytest.raises(StudyError):
                archive[uid]
        else:
            assert len(archive[uid]) > 0


@pytest.mark.parametrize("content", [None, b"", b"{", b"{uri: 5}"])
def test_a_file_in_quarantine_without_its_note_is_still_there(
    content: bytes | None, tmp_path: Path
) -> None:
    name = sha256(b"x").hexdigest()
    archive = tmp_path / "archive"
    create(archive)
    (archive / "quarantine" / name).write_bytes(b"x")
    if content is not None:
        (archive / "quarantine" / f"{name}.ion").write_bytes(content)
    (kept,) = open_archive(archive).quarantined()
    code = "archive/no-note" if content is None else "archive/damaged"
    assert (kept.sha256, kept.size, kept.code) == (name, 1, code)
    assert dicomstudy.restore(archive, tmp_path / "out").files == 1


def test_an_archive_that_is_moved_while_it_is_open_is_not_taken_for_an_empty_one(
    tmp_path: Path,
) -> None:
    studies.write_files(tmp_path / "in", make.study(1))
    dicomstudy.convert([tmp_path / "in"], tmp_path / "archive")
    archive = open_archive(tmp_path / "archive")
    archive.path.rename(tmp_path / "moved")
    uid, edits = make.uid("study"), [{"set": {"PatientID": "new"}}]
    asked: list[Callable[[], object]] = [
        lambda: len(archive),
        lambda: list(archive),
        lambda: dicomstudy.conflicts(archive),
        lambda: uid in archive,
        lambda: archive.get(uid),
        lambda: archive[uid],
        lambda: archive.find(uid),
        lambda: list(archive.quarantined()),
        lambda: dicomstudy.history(archive, uid),
        lambda: dicomstudy.update(archive, uid, edits),
        lambda: dicomstudy.restore(archive, tmp_path / "out", study=uid),
    ]
    for ask in asked:
        with pytest.raises(ArchiveError) as raised:
            ask()
        assert raised.value.code == "archive/not-an-archive"
    found = dicomstudy.verify(archive)
    assert {problem.code for problem in found.problems} == {"archive/not-an-archive"}


def test_to_ask_for_what_is_there_costs_one_question(tmp_path: Path) -> None:
    studies.write_files(tmp_path / "in", make.study(1))
    dicomstudy.convert([tmp_path / "in"], tmp_path / "archive")
    archive = open_archive(tmp_path / "archive")
    with mock.patch("dicomstudy.folder.is_there", wraps=disk.is_there) as asked:
        assert make.uid("study") in archive
    asked.assert_called_once()


def test_empty_folders_may_be_missing_in_a_backup(tmp_path: Path) -> None:
    studies.write_files(tmp_path / "in", make.study(1))
    dicomstudy.convert([tmp_path / "in"], tmp_path / "archive")
    for name in ("incoming", "quarantine"):
        (tmp_path / "archive" / name).rmdir()
    assert dicomstudy.verify(tmp_path / "archive").problems == []
    dicomstudy.update(tmp_path / "archive", make.uid("study"), [{"set": {"PatientID": "new"}}])
    dicomstudy.collect(tmp_path / "archive", remove=True)
    assert dicomstudy.verify(tmp_path / "archive").problems == []


def test_two_runs_make_one_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One is done, and empties `incoming`, while the other writes what marks an archive."""
    path = tmp_path / "archive"
    write = disk.write_atomically

    def overtaken(marker: Path, pieces: Iterable[bytes], *, within: Path) -> int:
        monkeypatch.setattr(folder, "write_atomically", write)
        create(path)

        def meanwhile() -> Iterator[bytes]:
            yield from pieces
            with folder.at_work(path):
                assert not any(within.iterdir())

        return write(marker, meanwhile(), within=within)

    monkeypatch.setattr(folder, "write_atomically", overtaken)
    assert len(create(path)) == 0
    assert not any((path / "incoming").iterdir())


def test_an_archive_that_another_run_makes_meanwhile_is_that_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is made after this run saw that there is none, and before it looks what is there."""
    path = tmp_path / "archive"
    path.mkdir()
    look = Path.iterdir

    def overtaken(self: Path) -> Iterator[Path]:
        monkeypatch.setattr(Path, "iterdir", look)
        create(path)
        return look(self)

    monkeypatch.setattr(Path, "iterdir", overtaken)
    assert len(create(path)) == 0
