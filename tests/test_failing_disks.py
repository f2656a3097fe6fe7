"""What the system does not say for the moment is not taken for an answer; nothing good is lost."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

import dicomstudy
from dicomstudy import ingestion, sources
from dicomstudy.document import Document
from dicomstudy.errors import DicomStudyError
from fixtures import make
from tests.studies import state_of, write_files

CT = make.uid("ct")


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
