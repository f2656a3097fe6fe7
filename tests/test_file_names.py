"""Sources with names that are no UTF-8, and URIs that name no file (spec/bulk.md)."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pytest

import dicomstudy
from dicomstudy.cli import main
from dicomstudy.errors import BulkError
from dicomstudy.sources import SourceFiles, path_of, uri_of
from fixtures import make

NAME = os.fsdecode(b"caf\xe9.dcm")


@pytest.mark.parametrize("name", [NAME, "é ü.dcm", "a%41#b?c.dcm", "new\nline", "\x1b[31m"])
def test_a_uri_gives_its_path_again(name: str, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff") / name
    uri = uri_of(path)
    assert uri.isascii()
    assert path_of(uri) == path


def test_files_are_taken_in_whatever_their_names(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / NAME).write_bytes(make.ct_slice())
    (folder / os.fsdecode(b"\xff.txt")).write_bytes(b"no DICOM")
    (folder / os.fsdecode(b"\xfe")).write_bytes(make.ct_slice()[:300])
    report = dicomstudy.convert([folder], tmp_path / "archive", bulk="reference")
    assert (report.files, report.instances, report.skipped, report.quarantined) == (3, 1, 1, 1)
    assert json.loads(report.to_json())["files"] == 3
    assert not dicomstudy.verify(tmp_path / "archive").problems
    (folder / NAME).rename(tmp_path / NAME)
    assert [each.code for each in dicomstudy.verify(tmp_path / "archive").problems] == [
        "bulk/source-missing"
    ]
    assert not dicomstudy.verify(tmp_path / "archive", sources=[tmp_path]).problems
    restored = dicomstudy.restore(tmp_path / "archive", tmp_path / "out", sources=[tmp_path])
    assert restored.files == 2


def test_members_are_taken_in_whatever_their_names(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "in.tar", "w") as tar:
        info = tarfile.TarInfo(NAME)
        info.size = len(make.ct_slice())
        tar.addfile(info, io.BytesIO(make.ct_slice()))
    report = dicomstudy.convert([tmp_path / "in.tar"], tmp_path / "archive")
    assert (report.instances, report.problems) == (1, [])


def test_names_that_are_no_utf8_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / NAME).write_bytes(make.ct_slice()[:300])
    arguments = ["convert", str(tmp_path / NAME), str(tmp_path / "archive")]
    assert main([*arguments, "--report", str(tmp_path / "report.json")]) == 1
    shown = capsys.readouterr()
    assert "1 quarantined" in shown.out
    assert r"caf\udce9.dcm" in shown.err
    (tmp_path / NAME).write_bytes(make.ct_slice())
    assert main(["records", str(tmp_path / NAME), str(tmp_path / "records")]) == 0


@pytest.mark.parametrize(
    "uri", ["http://[", "file:///a%00b", "file://elsewhere/a", "https://a/b", "", "file:///a#b"]
)
def test_what_is_no_file_is_missing(uri: str) -> None:
    assert path_of(uri) is None
    says = "gone" if uri else "does not name the file"
    with pytest.raises(BulkError, match=says) as raised:
        SourceFiles().open(uri, size=None, sha256=None)
    assert raised.value.code == "bulk/source-missing"


def test_nobody_waits_for_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BulkError, match="gone"):
        SourceFiles().open(uri_of(tmp_path / "pipe"), size=None, sha256=None)
