"""Files below folders, and read in windows (spec/archive.md)."""

from __future__ import annotations

import errno
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomstudy import sources
from dicomstudy.elements import sha256_of
from dicomstudy.errors import BulkError, DicomStudyError, Problem
from dicomstudy.sources import (
    Found,
    SourceFiles,
    Window,
    find,
    path_of,
    read_whole,
    uri_of,
)
from tests import studies
from tests.samples import chance_of

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


def test_what_is_refused_is_a_problem_and_not_looked_into(tmp_path: Path) -> None:
    """Sources are asked for, and folders below them; files below them are not."""
    names = ["a", "b/1", "c/d/2", "c/e/3"]
    studies.write_files(tmp_path, [(name, b"1") for name in names])
    asked = []

    def refused(path: str, is_folder: bool) -> Problem | None:
        assert Path(path).is_dir() == is_folder
        asked.append(Path(path).relative_to(tmp_path).as_posix())
        return Problem(path, "a/b", "no") if asked[-1] in {"b", "c/d"} else None

    found = list(find([tmp_path, tmp_path / "b", tmp_path / "a"], refused=refused))
    assert asked == [".", "b", "c", "c/d", "c/e", "b", "a"]
    assert [Path(each.path).relative_to(tmp_path).as_posix() for each in found] == [
        *("a", "b", "c/d", "c/e/3", "b", "a"),
    ]
    assert [each.path for each in found if each.problem] == [
        str(tmp_path / name) for name in ("b", "c/d", "b")
    ]


def test_a_text_is_one_source(tmp_path: Path) -> None:
    studies.write_files(tmp_path, [("a", b"1")])
    assert list(find(str(tmp_path))) == [Found(str(tmp_path / "a"), 1)]


def test_an_empty_path_is_a_problem_and_not_the_current_folder() -> None:
    (found,) = find([""])
    assert found.problem is not None
    assert list(find("")) == [found]


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


# -- URIs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.dcm", "a b#c?d%20", "ä 漢", "-", "~", "a\nb", ";:@&=+$,"])
def test_paths_come_back_from_their_uris(name: str, tmp_path: Path) -> None:
    uri = uri_of(tmp_path / name)
    assert uri.startswith("file:///")
    assert uri.isascii()
    assert path_of(uri) == tmp_path / name
    assert path_of(uri_of(tmp_path / name / "b")) == tmp_path / name / "b"


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
    assert opened(SourceFiles(str(tmp_path / "other")), recorded) == b"content"


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


@pytest.mark.parametrize("name", ["IM0001", "renamed"])
def test_of_files_of_one_size_each_is_hashed_once(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images of a series have one size; in folders of their own they often have one name, too."""
    contents = [f"{number:03}".encode() for number in range(50)]
    moved = chance_of(3).sample(contents, len(contents))
    for number, content in enumerate(moved):
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}" / name).write_bytes(content)
    hashed = mock.Mock(side_effect=sha256_of)
    monkeypatch.setattr(sources, "sha256_of", hashed)
    files = SourceFiles([tmp_path])
    for content in [*contents, *contents]:
        recorded: dict[str, str | int] = {"uri": uri_of(tmp_path / "gone/IM0001"), "size": 3}
        assert opened(files, recorded | {"sha256": hashlib.sha256(content).hexdigest()}) == content
    assert hashed.call_count == len(contents)


def test_threads_find_moved_files_together(tmp_path: Path) -> None:
    contents = [f"{number:03}".encode() * 1000 for number in range(40)]
    studies.write_files(tmp_path, [(f"{n}", content) for n, content in enumerate(contents)])
    files = SourceFiles([tmp_path])

    def find_one(content: bytes) -> bytes:
        sha256 = hashlib.sha256(content).hexdigest()
        gone = uri_of(tmp_path / "gone")
        with files.open(gone, size=len(content), sha256=sha256) as window:
            return window[0 : len(content)]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(find_one, contents[::-1] * 3)) == contents[::-1] * 3


def test_a_moved_file_that_could_not_be_read_once_is_found_later(
    referred: tuple[Path, dict[str, str | int]],
) -> None:
    path, recorded = referred
    path.rename(path.with_name("moved"))
    files = SourceFiles([path.parent])
    many = OSError(errno.EMFILE, "Too many open files")
    with (
        mock.patch.object(sources, "_opened", side_effect=many),
        pytest.raises(DicomStudyError, match="Too many open files"),
    ):
        opened(files, recorded)
    assert opened(files, recorded) == b"content"


def test_a_file_of_which_nothing_is_known_is_taken_as_it_is(
    referred: tuple[Path, dict[str, str | int]],
) -> None:
    with SourceFiles().open(str(referred[1]["uri"]), size=None, sha256=None) as window:
        assert window[:] == b"content"


def test_a_file_that_grows_while_it_is_read_is_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    fstat = os.fstat

    def growing(descriptor: int) -> os.stat_result:
        status = fstat(descriptor)
        path.write_bytes(b"content" * 9)
        return status

    monkeypatch.setattr(os, "fstat", growing)
    assert read_whole(str(path))[0] == b"content" * 9


@pytest.mark.parametrize(("content", "time"), [(b"CONTENT", 2), (b"content and more", 1)])
def test_a_window_tells_of_a_file_that_was_written_to(
    content: bytes, time: int, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    os.utime(path, ns=(1, 1))
    with Window(path) as window:
        window.check()
        path.write_bytes(content)
        os.utime(path, ns=(time, time))
        with pytest.raises(DicomStudyError) as raised:
            window.check()
    assert raised.value.code == "source/changed"


def test_a_copy_that_changed_since_it_was_found_is_not_found_again(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"content")
    files, digest = SourceFiles([tmp_path]), hashlib.sha256(b"content").hexdigest()
    gone = uri_of(tmp_path / "gone")
    with files.open(gone, size=7, sha256=digest) as window:
        first = window.identity
    (found,) = [each for each in tmp_path.iterdir() if each.stat().st_ino == first[1]]
    found.write_bytes(b"CONTENT")
    with files.open(gone, size=7, sha256=digest, doubted=True) as window:
        assert window[:] == b"content"


def test_a_file_that_has_one_value_need_not_have_another(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    files, uri = SourceFiles(), uri_of(tmp_path / "file")
    files.open(uri, size=None, sha256=None, has=lambda window: window[:7] == b"content").close()
    with pytest.raises(DicomStudyError):
        files.open(uri, size=None, sha256=None, has=lambda window: window[:7] == b"another")


def test_a_file_that_was_cut_without_a_trace_in_its_time_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    os.utime(path, ns=(1, 1))
    digest = hashlib.sha256(b"content and more").hexdigest()
    with pytest.raises(DicomStudyError) as raised:
        SourceFiles().open(uri_of(path), size=16, sha256=digest, modified=1)
    assert raised.value.code == "bulk/source-changed"
