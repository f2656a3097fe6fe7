"""Files that are whole or not there."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicomstudy.disk import write_atomically


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
