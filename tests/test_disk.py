"""Files that are whole or not there."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicomstudy import disk
from dicomstudy.disk import mark_of, write_atomically
from dicomstudy.errors import ArchiveError


def test_all_bytes_are_on_disk_before_a_file_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync, told = os.fsync, []

    def spy(descriptor: int) -> None:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode):
            told.append((status.st_size, (tmp_path / "file").exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", spy)
    write_atomically(tmp_path / "file", [b"content"])
    assert told == [(7, False)]


def test_what_is_not_whole_stands_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "incoming").mkdir()
    (tmp_path / "shard").mkdir()

    def pieces() -> Iterator[bytes]:
        assert not [*(tmp_path / "shard").iterdir()]
        yield b"content"

    write_atomically(tmp_path / "shard" / "file", pieces(), within=tmp_path / "incoming")


@pytest.mark.parametrize("is_other", [False, True])
def test_a_mark_tells_a_file_from_those_in_whose_place_it_is(
    is_other: bool, tmp_path: Path
) -> None:
    """Of equal size and time, if they are two files; or of another time."""
    path, other = tmp_path / "file", tmp_path / "other"
    path.write_bytes(b"one")
    status = path.stat()
    assert mark_of(path.stat()) == mark_of(status)
    other.write_bytes(b"two")
    if is_other:
        os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
        other.replace(path)
    else:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert mark_of(path.stat()) != mark_of(status)


def test_a_file_whose_name_may_not_be_on_disk_is_said_to_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(disk, "sync", failing)
    with (
        pytest.raises(ArchiveError, match=r"Input/output error; .* is there now") as raised,
        disk.writing(tmp_path),
    ):
        write_atomically(tmp_path / "file", [b"content"])
    assert raised.value.code == "archive/unwritable"
    assert (tmp_path / "file").read_bytes() == b"content"


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_where_no_folder_is_synced_there_is_nothing_to_wait_for(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it is with some file systems of networks; files they sync."""
    fsync, refused = os.fsync, [stat.S_ISDIR]

    def refusing(descriptor: int) -> None:
        if any(kind(os.fstat(descriptor).st_mode) for kind in refused):
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refusing)
    disk.make_folder(tmp_path / "new/folder")
    assert write_atomically(tmp_path / "new/folder/file", [b"content"]) == 7
    refused.append(stat.S_ISREG)
    with pytest.raises(OSError, match=os.strerror(number)):
        write_atomically(tmp_path / "new/folder/another", [b"content"])


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    """Somebody has to remove it."""
    (tmp_path / "a/there").mkdir(parents=True)
    (tmp_path / "file").touch()
    with pytest.raises(ArchiveError) as raised, disk.writing(tmp_path):
        (tmp_path / "file").replace(tmp_path / "a/there")
    assert str(tmp_path / "a/there") in raised.value.message
    assert raised.value.location.source == str(tmp_path)
    with pytest.raises(ArchiveError), disk.writing(tmp_path):
        os.fstat(9999)  # of which there is no name
