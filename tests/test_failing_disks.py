"""What the system does not say for the moment is not taken for an answer; nothing good is lost."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, cast

import pytest

import dicomstudy
from dicomstudy import folder, ingestion, sources
from dicomstudy.cli import main
from dicomstudy.document import Document
from dicomstudy.errors import ArchiveError, DicomStudyError
from fixtures import make
from tests.studies import state_of, write_files

CT, MR, BONE = make.uid("ct"), make.uid("mr"), make.uid("ct/2")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An archive of one study."""
    source = write_files(tmp_path / "in", make.archive().items()) / "ct"
    dicomstudy.convert([source], tmp_path / "archive")
    return tmp_path / "archive"


def document_of(archive: Path) -> Path:
    return dicomstudy.open_archive(archive).document_path(CT)


def stopping_short(
    monkeypatch: pytest.MonkeyPatch, path: Path, where: int, *, fails: bool = False
) -> None:
    """Let reads of a file stop at an offset; the next one `fails`, or reads on."""
    wanted, read_on = path.stat(), os.pread

    def pread(descriptor: int, length: int, offset: int) -> bytes:
        if os.path.samestat(os.fstat(descriptor), wanted):
            if offset == where and fails:
                raise OSError(errno.EIO, "Input/output error")
            if offset < where < offset + length:
                length = where - offset
        return read_on(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", pread)


def failing_once(monkeypatch: pytest.MonkeyPatch, path: Path, number: int) -> Callable[[], int]:
    """Let one read of a file fail, by its number; what is returned counts them."""
    wanted, read_on, count = path.stat(), os.pread, -1

    def pread(descriptor: int, length: int, offset: int) -> bytes:
        nonlocal count
        if os.path.samestat(os.fstat(descriptor), wanted):
            count += 1
            if count == number:
                raise OSError(errno.EIO, "Input/output error")
        return read_on(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", pread)
    return lambda: count


def middle_of_a_copied_frame(path: Path) -> int:
    document = Document(path)
    offset, size, _ = document._frames[document._first]
    document.close()
    return offset + size // 2


def test_a_frame_that_is_copied_is_read_to_its_end(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = document_of(archive)
    with monkeypatch.context() as failing:
        stopping_short(failing, path, middle_of_a_copied_frame(path))
        dicomstudy.update(archive, CT, [{"set": {"StudyDescription": "X"}}])
    assert not dicomstudy.verify(archive).problems
    assert dicomstudy.restore(archive, tmp_path / "out").files == 15


def test_a_document_is_not_replaced_by_what_could_be_read_of_it(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, before = document_of(archive), state_of(archive)
    stopping_short(monkeypatch, path, middle_of_a_copied_frame(path), fails=True)
    with pytest.raises(DicomStudyError) as raised:
        dicomstudy.update(archive, CT, [{"set": {"StudyDescription": "X"}}])
    assert raised.value.code == "study/unreadable"
    assert state_of(archive) == before


def test_a_document_that_was_cut_while_it_is_open_is_damaged(archive: Path) -> None:
    path = document_of(archive)
    document = Document(path)
    os.truncate(path, middle_of_a_copied_frame(path))
    with pytest.raises(DicomStudyError) as raised:
        list(document.stored_frames())
    assert raised.value.code == "study/damaged"
    document.close()


def test_the_table_of_frames_is_read_to_its_end(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = document_of(archive)
    stopping_short(monkeypatch, path, path.stat().st_size - 21)  # within an entry
    assert not dicomstudy.verify(archive).problems


def test_a_value_is_read_to_its_end(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = dicomstudy.open_archive(archive).bulk_path(CT)
    stopping_short(monkeypatch, path, path.stat().st_size - 5)
    assert not dicomstudy.verify(archive).problems


@pytest.mark.parametrize(
    "command",
    [
        lambda archive, _: dicomstudy.verify(archive).problems,
        lambda archive, out: dicomstudy.restore(archive, out).problems,
        lambda archive, out: dicomstudy.deidentify(archive, out).problems,
    ],
    ids=["verify", "restore", "deidentify"],
)
def test_a_document_whose_size_is_not_told_is_one_problem(
    archive: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: Callable[[Path, Path], list[dicomstudy.Problem]],
) -> None:
    path, ask = document_of(archive), os.fstat
    wanted = path.stat()

    def fstat(descriptor: int) -> os.stat_result:
        status = ask(descriptor)
        if os.path.samestat(status, wanted):
            raise OSError(errno.ESTALE, "Stale file handle")
        return status

    monkeypatch.setattr(os, "fstat", fstat)
    assert {each.code for each in command(archive, tmp_path / "out")} == {"study/unreadable"}


@pytest.mark.parametrize("start", [0, 132], ids=["with-prefix", "without-prefix"])
def test_a_source_that_is_read_in_part_is_neither_skipped_nor_kept_in_quarantine(
    start: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = make.archive()["ct/bone/IM0001"][start:]
    path = write_files(tmp_path, [("one", content)]) / "one"
    monkeypatch.setattr(ingestion, "MAX_WHOLE", 100)
    monkeypatch.setattr(sources, "_WINDOW", 1000)
    for number in range(100):
        with monkeypatch.context() as failing:
            count = failing_once(failing, path, number)
            result = dicomstudy.convert([path], tmp_path / f"archive-{number}")
        assert (result.skipped, result.quarantined) == (0, 0)
        if count() < number:
            break
        assert [each.code for each in result.problems] == ["source/unreadable"]
    else:
        pytest.fail("it is read more often than it has pieces")
    assert result.instances == 1


@pytest.fixture
def dumb_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let paths take what the system does not tell for absence, as in Python 3.14."""
    for name, ask in [("exists", "exists"), ("is_dir", "isdir"), ("is_file", "isfile")]:
        asked = getattr(os.path, ask)
        monkeypatch.setattr(Path, name, lambda path, asked=asked: asked(path))


COMMANDS: dict[str, Callable[[Path, Path], object]] = {
    "convert": lambda archive, late: dicomstudy.convert([late], archive),
    "update": lambda archive, _: dicomstudy.update(archive, CT, [{"set": {"StudyID": "2"}}]),
    "collect": lambda archive, _: dicomstudy.collect(archive, older_versions=True, remove=True),
    "move": lambda archive, _: dicomstudy.move(archive, CT, series=BONE, to_study=MR),
    "split": lambda archive, _: dicomstudy.split(archive, CT, series=[BONE]),
}


@pytest.mark.usefixtures("dumb_paths")
@pytest.mark.parametrize("command", COMMANDS)
def test_what_the_system_does_not_tell_for_once_loses_nothing(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_files(tmp_path / "in", make.archive().items())
    first, late = tmp_path / "first", source / "ct" / "bone" / "IM0001"
    aside = tmp_path / "IM0001"
    late.rename(aside)
    dicomstudy.convert([source / "ct", source / "mr"], first)
    dicomstudy.update(first, CT, [{"set": {"StudyID": "1"}}])
    files = dicomstudy.restore(first, tmp_path / "before").files
    for number in range(200):
        archive, out = tmp_path / f"archive-{number}", tmp_path / f"out-{number}"
        shutil.copytree(first, archive)
        with monkeypatch.context() as failing:
            count = failing_stat(failing, archive, number)
            with contextlib.suppress(DicomStudyError):
                COMMANDS[command](archive, aside)
        assert not dicomstudy.verify(archive).problems
        assert dicomstudy.restore(archive, out).files in {files, files + (command == "convert")}
        if count() < number:
            break
    else:
        pytest.fail("the system is asked more often than it has to be")


def failing_stat(monkeypatch: pytest.MonkeyPatch, below: Path, number: int) -> Callable[[], int]:
    """Let the system not tell once of a file of a folder; what is returned counts the questions."""
    ask, count, folder = os.stat, -1, f"{below}{os.sep}"

    def stat(path: Any, **options: Any) -> os.stat_result:
        nonlocal count
        if not isinstance(path, int) and os.fsdecode(path).startswith(folder):
            count += 1
            if count == number:
                raise OSError(errno.ESTALE, "Stale file handle", os.fsdecode(path))
        return ask(path, **options)

    monkeypatch.setattr(os, "stat", stat)
    return lambda: count


def test_a_study_that_the_system_does_not_tell_of_is_one_problem(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, ask, path = state_of(archive), os.stat, document_of(archive)

    def stat(asked: Any, **options: Any) -> os.stat_result:
        if not isinstance(asked, int) and os.fsdecode(asked) == str(path):
            raise OSError(errno.ESTALE, "Stale file handle", str(path))
        return ask(asked, **options)

    monkeypatch.setattr(os, "stat", stat)
    result = dicomstudy.convert([tmp_path / "in"], archive)
    (problem,) = (each for each in result.problems if each.code == "archive/unreadable")
    assert problem.source == CT
    assert str(path) in problem.message
    monkeypatch.undo()
    after = state_of(archive)
    assert before.items() <= after.items()
    assert len(dicomstudy.open_archive(archive)) > 1


def failing_listing(monkeypatch: pytest.MonkeyPatch, below: Path, number: int) -> Callable[[], int]:
    """Let one listing of a folder below another fail; what is returned counts them."""
    count, folder = -1, f"{below}{os.sep}"

    def failing(ask: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def listed(path: Any = ".") -> Any:
            nonlocal count
            if not isinstance(path, int) and os.fsdecode(path).startswith(folder):
                count += 1
                if count == number:
                    raise PermissionError(errno.EACCES, "Permission denied", os.fsdecode(path))
            return ask(path)

        return listed

    for name in ("listdir", "scandir"):
        monkeypatch.setattr(os, name, failing(getattr(os, name)))
    return lambda: count


def test_bulk_files_that_cannot_be_listed_are_told(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bulk = dicomstudy.open_archive(archive).bulk_path(CT, 7)
    bulk.write_bytes(dicomstudy.open_archive(archive).bulk_path(CT).read_bytes())
    for number in range(20):
        copy = tmp_path / f"archive-{number}"
        shutil.copytree(archive, copy)
        with monkeypatch.context() as failing:
            count = failing_listing(failing, copy / "studies", number)
            collected = dicomstudy.collect(copy, remove=True)
        codes = [problem.code for problem in collected.problems]
        is_needed = number < 2  # for documents, and for bulk files
        assert (collected.files, codes) == ((0, ["archive/unreadable"]) if is_needed else (1, []))
        if count() < number:
            return
    pytest.fail("there are too many listings")


@pytest.fixture
def several(tmp_path: Path) -> Path:
    """An archive of several studies, each in a folder of its own, and of files in quarantine."""
    write_files(tmp_path / "in", make.archive().items())
    write_files(tmp_path / "in" / "wrecks", [("DICOMDIR", make.wrecks()["DICOMDIR"].content)])
    dicomstudy.convert([tmp_path / "in"], tmp_path / "archive")
    shards = dicomstudy.open_archive(tmp_path / "archive").shards()
    assert len(shards) == len(dicomstudy.open_archive(tmp_path / "archive")) > 2
    return tmp_path / "archive"


def unlisted(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let a folder not be listed."""

    def refusing(ask: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def listed(path: Any = ".") -> Any:
            if not isinstance(path, int) and os.fsdecode(path) == str(folder):
                raise PermissionError(errno.EACCES, "Permission denied", str(folder))
            return ask(path)

        return listed

    for name in ("listdir", "scandir"):
        monkeypatch.setattr(os, name, refusing(getattr(os, name)))


@pytest.mark.parametrize("form", ["text", "ion", "json"])
def test_all_is_shown_but_what_is_in_a_folder_that_cannot_be_listed(
    form: str, several: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    others = [uid for uid in dicomstudy.open_archive(several) if uid != CT]
    unlisted(monkeypatch, document_of(several).parent)
    assert main(["show", str(several), "--format", form]) == 1
    captured = capsys.readouterr()
    assert captured.err.count("archive/unreadable") == captured.err.count("\n") == 1
    assert all(uid in captured.out for uid in others)
    assert CT not in captured.out
    if form == "text":
        assert f": {len(others)} studies, 1 in quarantine\n" in captured.out


def test_an_archive_is_shown_whose_quarantine_cannot_be_listed(
    several: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unlisted(monkeypatch, several / "quarantine")
    assert main(["show", str(several)]) == 1
    captured = capsys.readouterr()
    assert captured.err.count("archive/unreadable") == captured.err.count("\n") == 1
    assert CT in captured.out


def test_studies_are_collected_but_those_in_a_folder_that_cannot_be_listed(
    several: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for uid in (CT, MR):
        dicomstudy.update(several, uid, [{"set": {"StudyID": "1"}}])
    unlisted(monkeypatch, document_of(several).parent)
    collected = dicomstudy.collect(several, older_versions=True, remove=True)
    (problem,) = collected.problems
    shard = str(document_of(several).parent)
    assert (problem.code, problem.source, collected.studies) == ("archive/unreadable", shard, 1)
    assert dicomstudy.collect(several, study=MR).complete
    with pytest.raises(DicomStudyError, match="archive/unreadable"):
        dicomstudy.collect(several, study=CT)
    monkeypatch.undo()
    assert dicomstudy.history(several, MR)[-1].command == "collect"
    assert len(dicomstudy.history(several, CT)) == 2


def test_tables_have_all_but_what_is_in_a_folder_that_cannot_be_listed(
    several: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But they lose nothing that they have."""
    pytest.importorskip("pyarrow")
    whole, some = tmp_path / "whole", tmp_path / "some"
    count = dicomstudy.export_tables(several, whole).studies
    before = state_of(whole)
    with monkeypatch.context() as refusing:
        unlisted(refusing, document_of(several).parent)
        for _ in range(2):
            exported = dicomstudy.export_tables(several, some)
            assert exported.studies == count - 1
            assert [each.code for each in exported.problems] == ["archive/unreadable"]
        with dicomstudy.open_archive(several).tables() as tables:
            assert len(tables["studies"]) == count - 1
            assert [each.code for each in tables.problems] == ["archive/unreadable"]
        with pytest.raises(DicomStudyError, match="archive/unreadable"):
            dicomstudy.export_tables(several, whole)
    assert state_of(whole) == before
    with monkeypatch.context() as refusing:
        unlisted(refusing, several / "studies")
        for folder in (whole, tmp_path / "none"):
            with pytest.raises(DicomStudyError, match="archive/unreadable"):
                dicomstudy.export_tables(several, folder)
    assert state_of(whole) == before
    exported = dicomstudy.export_tables(several, some)
    assert (exported.added, exported.studies, exported.problems) == (1, count, [])


def test_what_was_left_on_disk_and_cannot_be_listed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_files(tmp_path / "in", make.archive().items()) / "ct"
    monkeypatch.setattr(ingestion, "_MAX_HELD", 0)
    for number in range(20):
        archive = tmp_path / f"archive-{number}"
        with monkeypatch.context() as failing:
            count = failing_listing(failing, archive / "incoming", number)
            result = dicomstudy.convert([source], archive)
        if count() < number:
            assert result.instances == 15
            return
        assert {each.code for each in result.problems} == (
            set() if result.instances == 15 else {"archive/unreadable"}
        )
    pytest.fail("there are too many listings")


@pytest.fixture
def quarantine(tmp_path: Path) -> Path:
    """The quarantine of an archive that has one file in it."""
    source = write_files(tmp_path / "in", [("DICOMDIR", make.wrecks()["DICOMDIR"].content)])
    dicomstudy.convert([source], tmp_path / "archive")
    return tmp_path / "archive" / "quarantine"


def test_a_file_in_quarantine_is_restored_whose_size_is_not_told(
    quarantine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        with monkeypatch.context() as failing:
            count = failing_stat(failing, quarantine, number)
            assert not dicomstudy.verify(quarantine.parent).problems
            restored = dicomstudy.restore(quarantine.parent, tmp_path / f"out-{number}")
        assert (restored.files, restored.problems) == (1, [])
        if count() < number:
            return
    pytest.fail("the system is asked more often than it has to be")


def test_a_name_that_cannot_be_read_is_a_problem(
    quarantine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        if path.parent == quarantine:
            raise OSError(errno.EIO, "Input/output error")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    restored = dicomstudy.restore(quarantine.parent, tmp_path / "out")
    assert restored.files == 1
    for problems in (restored.problems, dicomstudy.verify(quarantine.parent).problems):
        assert [each.code for each in problems] == ["archive/unreadable"]


def test_a_file_that_may_be_an_original_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, out = tmp_path / "first", tmp_path / "out"
    dicomstudy.convert([write_files(tmp_path / "in", make.archive().items()) / "mr"], first)
    dicomstudy.restore(first, out)
    archive = tmp_path / "archive"
    dicomstudy.convert([out], archive, bulk="reference")
    dicomstudy.update(archive, MR, [{"set": {"StudyID": "1"}}])
    before = state_of(out)
    for number in range(len(before)):
        with monkeypatch.context() as failing:
            failing_stat(failing, out / MR, number)
            restored = dicomstudy.restore(archive, out)
        assert restored.files == 0
        assert state_of(out) == before


def test_an_archive_that_may_not_be_looked_into_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")
    archive = tmp_path / "archive"
    dicomstudy.convert(
        [write_files(tmp_path / "in", make.archive().items()) / "mr"], archive, max_inline=1 << 20
    )
    dicomstudy.export_tables(archive, tmp_path / "tables")
    ask = os.stat

    def stat(path: Any, **options: Any) -> os.stat_result:
        if not isinstance(path, int) and os.fsdecode(path) == str(archive):
            raise PermissionError(errno.EACCES, "Permission denied", str(archive))
        return ask(path, **options)

    monkeypatch.setattr(os, "stat", stat)
    with dicomstudy.open_tables(tmp_path / "tables") as tables:
        tables.to_archive(tmp_path / "new")
    assert not dicomstudy.verify(tmp_path / "new").problems


class _KilledError(BaseException):
    """Nothing that a run does is done any more."""


def test_a_run_that_is_killed_while_it_cleans_up_leaves_what_the_next_one_finds(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    remove, out = os.unlink, tmp_path / "out"
    for number in range(10):
        count = 0

        def unlink(path: Any, *, dir_fd: int | None = None, last: int = number) -> None:
            nonlocal count
            count += 1
            if count > last:
                raise _KilledError
            remove(path, dir_fd=dir_fd)

        with monkeypatch.context() as failing:
            failing.setattr(os, "unlink", unlink)
            with pytest.raises((KeyboardInterrupt, _KilledError)) as raised:
                dicomstudy.restore(archive, out, progress=stop)
        dicomstudy.restore(archive, out)
        assert not [*out.glob(".dicomstudy-*")]
        if raised.type is KeyboardInterrupt:
            return
    pytest.fail("there is more to remove than is made")


def test_a_folder_whose_lock_cannot_be_made_is_not_left(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, *arguments: Any, **named: Any) -> Any:
        if path.name == "dicomstudy.lock":
            raise OSError(errno.ENOSPC, "No space left on device")
        return open_(path, *arguments, **named)

    open_ = Path.open
    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(ArchiveError) as raised:
        dicomstudy.restore(archive, tmp_path / "out")
    assert raised.value.code == "archive/full"
    assert [*(tmp_path / "out").iterdir()] == []


def test_what_cannot_be_removed_or_closed_fails_no_run(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask, unlocking = os.fstat, cast("Any", folder.unlocking)

    def fstat(descriptor: int) -> os.stat_result:
        status = ask(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise OSError(errno.ESTALE, "Stale file handle")
        return status

    class Lock:
        def __init__(self, file: IO[bytes]) -> None:
            self.fileno, self._close = file.fileno, file.close

        def close(self) -> None:
            self._close()
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fstat", fstat)
    monkeypatch.setattr(folder, "unlocking", lambda file: unlocking(Lock(file)))
    assert not dicomstudy.convert([tmp_path / "in" / "mr"], archive).problems
    dicomstudy.update(archive, MR, [{"set": {"StudyID": "1"}}])
    assert not dicomstudy.restore(archive, tmp_path / "out").problems
