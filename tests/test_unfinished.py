"""Temporary folders go with their runs, or with the next one (spec/tables.md)."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dicomstudy.unfinished import TemporaryFolder
from tests.kills import forked, kill, killed, trees_of

LOCK = "dicomstudy.lock"

pytestmark = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where the system has those of programs."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path / "tmp"


def fill(folder: TemporaryFolder) -> None:
    """Leave in a folder what a run has there."""
    (folder.path / "patient").mkdir()
    (folder.path / "patient" / "000000.parquet").write_bytes(b"Example^Ann")


def left(temporary: Path) -> Path:
    """The folder of a run that was killed."""

    def run() -> None:
        folder = TemporaryFolder("tables")
        fill(folder)
        kill()

    there = {*temporary.iterdir()}
    assert forked(run) == -signal.SIGKILL
    (folder,) = {*temporary.iterdir()} - there
    return folder


def next_run() -> None:
    TemporaryFolder("sql").remove()


def test_what_runs_that_were_killed_left_goes_with_the_next_one(temporary: Path) -> None:
    assert [*left(temporary).rglob("*.parquet")]
    for _ in range(2):
        folder = left(temporary)
        assert [*temporary.iterdir()] == [folder]
    next_run()
    assert [*temporary.iterdir()] == []


def test_whenever_a_run_is_killed_the_next_one_leaves_nothing_of_it(temporary: Path) -> None:
    def run(_: Path) -> None:
        folder = TemporaryFolder("tables")
        fill(folder)
        folder.remove()

    calls, _ = trees_of(run, temporary)
    for moment in range(1, calls + 1):
        assert killed(run, temporary, moment) == -signal.SIGKILL
        next_run()
        for folder in temporary.iterdir():  # of one that had no lock yet, or no other file any more
            assert [path.name for path in folder.iterdir()] in ([], [LOCK])
            shutil.rmtree(folder)


def test_folders_of_runs_at_work_stay(temporary: Path) -> None:
    mine = TemporaryFolder("tables")
    fill(mine)
    before = {*temporary.rglob("*")}
    next_run()
    assert forked(next_run) == 0
    assert {*temporary.rglob("*")} == before
    assert forked(mine.remove) == 0  # a fork is another process
    assert {*temporary.rglob("*")} == before
    next_run()
    assert {*temporary.rglob("*")} == before
    mine.remove()
    assert [*temporary.iterdir()] == []


def no_lock(folder: Path) -> Path:
    (folder / LOCK).unlink()
    return folder


def empty_lock(folder: Path) -> Path:
    (folder / LOCK).write_bytes(b"")
    return folder


def lock_elsewhere(folder: Path) -> Path:
    (folder / LOCK).replace(folder.parent / "elsewhere")
    (folder / LOCK).symlink_to(folder.parent / "elsewhere")
    return folder


def others_may_look(folder: Path) -> Path:
    folder.chmod(0o755)
    return folder


def copied(folder: Path) -> Path:
    copy = folder.with_name("dicomstudy-tables-mytables")
    shutil.copytree(folder, copy)
    shutil.rmtree(folder)
    return copy


def renamed(folder: Path) -> Path:
    return folder.replace(folder.with_name("dicomstudy-tables-mytables"))


def linked(folder: Path) -> Path:
    elsewhere = folder.replace(folder.with_name("elsewhere"))
    folder.symlink_to(elsewhere)
    return elsewhere


def kept_by_name(folder: Path) -> Path:
    other = folder.replace(folder.with_name("dicomstudy-tables-1"))
    (other / LOCK).write_text(other.name)
    return other


@pytest.mark.parametrize(
    "change",
    [no_lock, empty_lock, lock_elsewhere, others_may_look, copied, renamed, linked, kept_by_name],
)
def test_what_is_not_surely_of_a_run_stays(change: Callable[[Path], Path], temporary: Path) -> None:
    kept = change(left(temporary))
    next_run()
    assert [path.name for path in kept.rglob("*.parquet")] == ["000000.parquet"]


def test_links_in_a_folder_are_not_followed(temporary: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious").write_bytes(b"1")
    folder = left(temporary)
    (folder / "files" / "link").symlink_to(tmp_path / "mine")
    next_run()
    assert not folder.exists()
    folder = left(temporary)
    shutil.rmtree(folder / "files")
    (folder / "files").symlink_to(tmp_path / "mine")
    next_run()
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["precious"]


def test_folders_of_other_users_stay(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = left(temporary)
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    next_run()
    assert [*temporary.iterdir()] == [folder]


@pytest.mark.parametrize("step", ["unlink", "rmdir", "listdir", "scandir", "open"])
def test_what_cannot_be_removed_fails_no_run(
    step: str, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, call = left(temporary), getattr(os, step)

    def refuse(path: Any = ".", *given: Any, **named: Any) -> Any:
        if not isinstance(path, int):
            place = Path(path)
            if place == temporary or folder in {place, *place.parents}:
                raise OSError(errno.EACCES, "Permission denied")
        return call(path, *given, **named)

    with monkeypatch.context() as patched:
        patched.setattr(os, step, refuse)
        mine = TemporaryFolder("sql")
        assert mine.path.is_dir()
    mine.remove()
    next_run()
    assert [*temporary.iterdir()] == []


def test_folders_need_no_locks_and_are_left_then(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    with monkeypatch.context() as patched:
        patched.setattr("dicomstudy.unfinished.fcntl.flock", none)
        folder = left(temporary)
        next_run()
    assert [*temporary.iterdir()] == [folder]
    next_run()  # nor does it go where there are locks: its run may be at work
    assert [*temporary.iterdir()] == [folder]
