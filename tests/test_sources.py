"""Files below folders, in zip and tar files, and read in windows (spec/archive.md)."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import random
import re
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomstudy import sources
from dicomstudy.errors import ArchiveError, BulkError, DicomStudyError
from dicomstudy.sources import (
    Member,
    SourceFiles,
    Window,
    find,
    is_container,
    open_members,
    path_of,
    uri_of,
)
from tests import studies
from tests.samples import chance_of, mutant

FILES = {"a.dcm": b"first", "folder/b.dcm": b"", "c": bytes(range(256)) * 20}


def a_zip(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as target:
        for name, content in files.items():
            target.writestr(name, content)
    return stream.getvalue()


def a_tar(files: dict[str, bytes], compression: str = "") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=f"w:{compression}") as target:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            target.addfile(member, io.BytesIO(content))
    return stream.getvalue()


CONTAINERS: dict[str, Callable[[dict[str, bytes]], bytes]] = {
    "zip": a_zip,
    "zip-stored": lambda files: a_zip(files, zipfile.ZIP_STORED),
    "zip-bzip2": lambda files: a_zip(files, zipfile.ZIP_BZIP2),
    "zip-lzma": lambda files: a_zip(files, zipfile.ZIP_LZMA),
    "tar": a_tar,
    "tar.gz": lambda files: a_tar(files, "gz"),
    "tar.bz2": lambda files: a_tar(files, "bz2"),
    "tar.xz": lambda files: a_tar(files, "xz"),
}


def members_of(content: bytes, folder: Path, **options: Any) -> list[Member]:
    path = folder / "container"
    path.write_bytes(content)
    return list(open_members(path, **options))


# -- folders -----------------------------------------------------------------------------------


def test_files_are_found_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b/2", "b/1", "a", "c/d/e"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    found = list(find([tmp_path]))
    names = [Path(each.path).relative_to(tmp_path).as_posix() for each in found]
    assert names == ["a", "b/1", "b/2", "c/d/e"]
    assert [each.size for each in found] == [1, 3, 3, 5]
    assert [each.problem for each in found] == [None] * 4


def test_a_file_is_a_source_too(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    (found,) = find([str(tmp_path / "a")])
    assert found == (str(tmp_path / "a"), 3, None)


def test_a_source_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    (found,) = find([tmp_path / "nothing"])
    assert found.problem is not None
    assert found.problem.code == "source/unreadable"
    assert found.problem.source == str(tmp_path / "nothing")


def test_links_to_files_are_followed_and_those_to_folders_are_not(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/file").write_bytes(b"abc")
    (tmp_path / "in/link").symlink_to(tmp_path / "in/file")
    (tmp_path / "in/ring").symlink_to(tmp_path / "in")
    found = list(find([tmp_path / "in"]))
    assert [Path(each.path).name for each in found if each.problem is None] == ["file", "link"]
    assert len(found) == 2


@pytest.mark.parametrize("target", ["gone", "gone/file", "link"])
def test_a_link_that_leads_nowhere_is_a_problem(target: str, tmp_path: Path) -> None:
    """What it stands for may be on a share that is not there now."""
    (tmp_path / "link").symlink_to(tmp_path / target)
    (found,) = find([tmp_path])
    assert found.problem is not None
    assert (found.problem.code, found.problem.source) == (
        "source/unreadable",
        str(tmp_path / "link"),
    )


def test_a_source_may_be_a_link_to_a_folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/file").write_bytes(b"abc")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    assert [Path(each.path).name for each in find([tmp_path / "link"])] == ["file"]


def test_what_is_no_regular_file_is_left_out(tmp_path: Path) -> None:
    """Reading a pipe would wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    assert [Path(each.path).name for each in find([tmp_path])] == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    (found,) = find([tmp_path])
    assert found.problem is not None
    assert found.problem.code == "source/unreadable"


# -- windows -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data() -> bytes:
    return chance_of(5).randbytes(300)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> Path:
    path = tmp_path_factory.mktemp("window") / "file"
    path.write_bytes(data)
    return path


@given(
    st.lists(st.tuples(st.integers(0, 320), st.integers(0, 320)), max_size=12), st.integers(1, 64)
)
def test_a_window_has_the_bytes_of_its_file(
    path: Path, data: bytes, slices: list[tuple[int, int]], size: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "_WINDOW", size)
        with Window(path) as window:
            assert len(window) == len(data)
            for start, stop in slices:
                assert window[start:stop] == data[start:stop]
            assert window[-5:] == data[-5:]
            assert window[:] == data


@given(
    st.integers(0, 310),
    st.integers(1, 8),
    st.integers(0, 310),
    st.integers(0, 310),
    st.integers(2, 64),
)
def test_a_window_finds_what_its_file_has(
    path: Path,
    data: bytes,
    at: int,
    length: int,
    start: int,
    end: int,
    size: int,
) -> None:
    wanted = data[at : at + length] or b"?"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "_WINDOW", size)
        with Window(path) as window:
            assert window.find(wanted) == data.find(wanted)
            assert window.find(wanted, start, end) == data.find(wanted, start, end)
            assert window.find(b"not there at all") == -1


def test_a_file_that_became_shorter_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(100))
    with Window(tmp_path / "file") as window:
        (tmp_path / "file").write_bytes(bytes(10))
        with pytest.raises(DicomStudyError) as raised:
            window[0:100]
    assert raised.value.code == "source/changed"


# -- zip and tar files -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CONTAINERS)
def test_members_are_read(kind: str, tmp_path: Path) -> None:
    content = CONTAINERS[kind](FILES)
    assert is_container(content[:512])
    assert members_of(content, tmp_path) == [Member(*item) for item in FILES.items()]


def test_other_files_are_no_containers() -> None:
    for content in (b"", b"text", bytes(128) + b"DICM" + bytes(400), b"PK"):
        assert not is_container(content[:512])


def test_folders_and_links_are_no_members(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as target:
        for name, kind in (("folder", tarfile.DIRTYPE), ("link", tarfile.SYMTYPE),
                           ("hard", tarfile.LNKTYPE), ("pipe", tarfile.FIFOTYPE),
                           ("device", tarfile.CHRTYPE)):  # fmt: skip
            member = tarfile.TarInfo(name)
            member.type = kind
            member.linkname = "/etc/passwd"
            target.addfile(member)
    assert members_of(stream.getvalue(), tmp_path) == []
    assert members_of(a_zip({"folder/": b""}), tmp_path) == []


def test_members_that_are_too_large_are_refused(tmp_path: Path) -> None:
    """A bomb is not inflated; the members beside it are read."""
    files = {"before": b"1", "bomb": bytes(5 << 20), "after": b"2"}
    for make in (a_zip, a_tar, CONTAINERS["tar.xz"]):
        found = members_of(make(files), tmp_path, limit=1 << 20)
        assert [member.data for member in found] == [b"1", None, b"2"]
        assert found[1].problem is not None
        assert found[1].problem.code == "source/member"
        assert found[1].problem.source == f"{tmp_path / 'container'}!bomb"


def test_a_member_of_a_zip_may_lie_about_its_size(tmp_path: Path) -> None:
    content = a_zip({"bomb": bytes(5 << 20)})
    lying = content.replace((5 << 20).to_bytes(4, "little"), (100).to_bytes(4, "little"))
    (member,) = members_of(lying, tmp_path)
    assert member.data is None or len(member.data) <= 100
    assert lying != content


def test_encrypted_members_are_refused(tmp_path: Path) -> None:
    content = bytearray(a_zip({"secret": b"1"}, zipfile.ZIP_STORED))
    for start in (content.index(b"PK\3\4") + 6, content.index(b"PK\1\2") + 8):
        content[start] |= 1
    (member,) = members_of(bytes(content), tmp_path)
    assert member.problem is not None
    assert "encrypted" in member.problem.message


def test_a_member_that_is_damaged_does_not_spoil_the_others(tmp_path: Path) -> None:
    content = a_zip({"a": b"first", "b": b"second", "c": b"third"}, zipfile.ZIP_STORED)
    found = members_of(content.replace(b"second", b"SECOND", 1), tmp_path)
    assert [member.data for member in found] == [b"first", None, b"third"]
    assert [member.problem.code for member in found if member.problem] == ["source/member"]


def test_damaged_members_count_as_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a small zip file could keep a run busy for hours."""
    monkeypatch.setattr(sources, "MAX_WHOLE", 1 << 20)
    bombs = {f"bomb {number}": bytes(1 << 20) for number in range(20)}
    content = bytearray(a_zip(bombs, zipfile.ZIP_BZIP2))
    for head in re.finditer(b"PK\1\2", content):
        content[head.start() + 16] ^= 1  # of the CRC-32
    found = members_of(bytes(content), tmp_path)
    messages = [member.problem.message for member in found if member.problem]
    assert len(messages) == 20
    assert "CRC" in messages[0]
    assert "too large" in messages[-1]


@given(st.randoms(use_true_random=False), st.sampled_from(sorted(CONTAINERS)))
def test_mutants_are_read_or_refused(path: Path, chance: random.Random, kind: str) -> None:
    for _ in range(10):
        content = mutant(CONTAINERS[kind](FILES), chance)
        container = path.with_name("mutant")
        container.write_bytes(content)
        for member in open_members(container, limit=1 << 20):
            assert (member.data is None) is (member.problem is not None)
            if member.problem is not None:
                assert member.problem.code in {"source/member", "source/container"}


def test_a_container_that_is_gone_is_a_problem(tmp_path: Path) -> None:
    (member,) = open_members(tmp_path / "nothing.zip")
    assert member.problem is not None
    assert member.problem.code == "source/container"


# -- URIs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.dcm", "a b#c?d%20", "ä 漢", "-", "~", "a\nb", ";:@&=+$,"])
def test_paths_come_back_from_their_uris(name: str, tmp_path: Path) -> None:
    uri = uri_of(tmp_path / name)
    assert uri.startswith("file:///")
    assert uri.isascii()
    assert path_of(uri) == tmp_path / name
    assert path_of(uri_of(tmp_path / name / "b")) == tmp_path / name / "b"


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("broken", ["tempfile.TemporaryFile", "os.write"])
def test_a_large_member_that_cannot_be_written_is_no_damage(
    kind: str, broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"in.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a", bytes(100))
    else:
        with tarfile.open(path, "w") as tar:
            info = tarfile.TarInfo("a")
            info.size = 100
            tar.addfile(info, io.BytesIO(bytes(100)))

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sources, "MAX_WHOLE", 10)
    monkeypatch.setattr(broken, full)
    with pytest.raises(ArchiveError, match="No space") as raised:
        list(open_members(path, folder=tmp_path))
    assert (raised.value.code, raised.value.location.source) == (
        "archive/unwritable",
        str(tmp_path),
    )


def test_a_large_member_is_written_whole_if_writes_are_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytes(range(256)) * 4
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.writestr("a", content)
    write_on = os.write
    monkeypatch.setattr(sources, "MAX_WHOLE", 10)
    monkeypatch.setattr(os, "write", lambda file, data: write_on(file, data[:7]))
    (found,) = (bytes(m.data[0:2000]) for m in open_members(tmp_path / "in.zip") if m.data)
    assert found == content


def test_a_relative_path_has_an_absolute_uri(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert path_of(uri_of(Path("a/../b"))) == tmp_path / "b"


def test_the_root_has_a_uri_like_any_folder() -> None:
    assert uri_of("/a") == "file:///a"


def test_a_path_that_cannot_be_is_a_problem() -> None:
    (found,) = find(["a\0b"])
    assert found.problem is not None
    assert found.problem.code == "source/unreadable"


def test_members_have_no_path(tmp_path: Path) -> None:
    uri = uri_of(tmp_path / "a.zip", "b/c.dcm")
    assert uri.endswith("a.zip#b/c.dcm")
    assert path_of(uri) is None


@pytest.mark.parametrize("uri", ["http://a/b", "file://elsewhere/b", "b", ""])
def test_other_uris_have_no_path(uri: str) -> None:
    assert path_of(uri) is None


# -- files that a document refers to -----------------------------------------------------------


@pytest.fixture
def referred(tmp_path: Path) -> tuple[Path, dict[str, str | int]]:
    """A file, and what a document recorded of it."""
    path = tmp_path / "in" / "file.dcm"
    path.parent.mkdir()
    path.write_bytes(b"content")
    status = path.stat()
    recorded: dict[str, str | int] = {
        "uri": uri_of(path),
        "size": status.st_size,
        "sha256": hashlib.sha256(b"content").hexdigest(),
        "modified": status.st_mtime_ns,
    }
    return path, recorded


def opened(files: SourceFiles, recorded: dict[str, str | int]) -> bytes:
    with files.open(**recorded) as window:  # type: ignore[arg-type]
        return window[0:100]


def test_a_file_where_it_was_is_opened(referred: tuple[Path, dict[str, str | int]]) -> None:
    files = SourceFiles()
    assert opened(files, referred[1]) == b"content"
    assert opened(files, referred[1]) == b"content"


def test_a_file_that_was_touched_is_known_by_its_digest(
    referred: tuple[Path, dict[str, str | int]],
) -> None:
    os.utime(referred[0], ns=(1, 1))
    assert opened(SourceFiles(), referred[1]) == b"content"


def test_a_file_that_moved_is_found_below_the_folders(
    referred: tuple[Path, dict[str, str | int]], tmp_path: Path
) -> None:
    path, recorded = referred
    (tmp_path / "other/deep").mkdir(parents=True)
    (tmp_path / "other/decoy").write_bytes(b"CONTENT")
    path.rename(tmp_path / "other/deep/renamed")
    with pytest.raises(BulkError) as raised:
        opened(SourceFiles(), recorded)
    assert raised.value.code == "bulk/source-missing"
    assert raised.value.location.source == recorded["uri"]
    assert opened(SourceFiles([tmp_path / "other"]), recorded) == b"content"


def test_a_time_of_modification_proves_nothing_elsewhere(
    referred: tuple[Path, dict[str, str | int]], tmp_path: Path
) -> None:
    """What is unpacked together often has one time, and images of a series have one size."""
    path, recorded = referred
    time = int(recorded["modified"])
    studies.write_files(tmp_path / "other", [("a", b"CONTENT"), ("b", b"content")])
    for other in (tmp_path / "other").iterdir():
        os.utime(other, ns=(time, time))
    path.unlink()
    assert opened(SourceFiles([tmp_path / "other"]), recorded) == b"content"


def test_a_file_that_cannot_be_read_is_found_elsewhere(
    referred: tuple[Path, dict[str, str | int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, recorded = referred
    studies.write_files(tmp_path / "other", [("a", b"content"), ("b", b"content")])
    for bad in (path, tmp_path / "other/a"):
        os.utime(bad, ns=(1, 1))
    failing = {file.stat().st_ino for file in (path, tmp_path / "other/a")}
    read_on = os.pread

    def pread(descriptor: int, length: int, offset: int) -> bytes:
        if os.fstat(descriptor).st_ino in failing:
            raise OSError(errno.EIO, "Input/output error")
        return read_on(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", pread)
    assert opened(SourceFiles([tmp_path / "other"]), recorded) == b"content"
    for files in (SourceFiles(), SourceFiles([path.parent])):
        with pytest.raises(DicomStudyError) as raised:
            opened(files, recorded)
        assert raised.value.code == "source/unreadable"


@pytest.mark.parametrize("other", [b"changed", b"longer content", b""])
def test_a_file_that_changed_is_an_error(
    referred: tuple[Path, dict[str, str | int]], tmp_path: Path, other: bytes
) -> None:
    path, recorded = referred
    path.write_bytes(other)
    os.utime(path, ns=(1, 1))
    for files in (SourceFiles(), SourceFiles([tmp_path])):
        with pytest.raises(BulkError) as raised:
            opened(files, recorded)
        assert raised.value.code == "bulk/source-changed"


def test_a_changed_file_is_found_elsewhere(
    referred: tuple[Path, dict[str, str | int]], tmp_path: Path
) -> None:
    path, recorded = referred
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy/file.dcm").write_bytes(b"content")
    path.write_bytes(b"changed")
    assert opened(SourceFiles([tmp_path / "copy"]), recorded) == b"content"


def test_a_file_of_which_nothing_is_known_is_taken_as_it_is(
    referred: tuple[Path, dict[str, str | int]],
) -> None:
    with SourceFiles().open(str(referred[1]["uri"]), size=None, sha256=None) as window:
        assert window[:] == b"content"
