"""The files inside zip and tar files, sound, damaged and malicious ones (spec/archive.md)."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import itertools
import lzma
import os
import random
import re
import struct
import subprocess
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dicomstudy
from dicomstudy import containers, unpacking
from dicomstudy.containers import Member, is_container, open_members
from dicomstudy.errors import ArchiveError
from dicomstudy.sources import Window
from fixtures import make
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


def members_of(content: bytes, folder: Path) -> list[Member]:
    path = folder / "container"
    path.write_bytes(content)
    return list(open_members(path))


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


def test_members_that_are_too_large_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bomb is not inflated; the members beside it are read."""
    monkeypatch.setattr(containers, "MAX_MEMBER", 1 << 20)
    files = {"before": b"1", "bomb": bytes(5 << 20), "after": b"2"}
    for kind in ("zip", "tar", "tar.xz"):
        found = members_of(CONTAINERS[kind](files), tmp_path)
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
    monkeypatch.setattr(containers, "MAX_WHOLE", 1 << 20)
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
def test_mutants_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, chance: random.Random, kind: str
) -> None:
    container = tmp_path_factory.getbasetemp() / "mutant"
    for _ in range(10):
        content = mutant(CONTAINERS[kind](FILES), chance)
        container.write_bytes(content)
        with mock.patch.object(containers, "MAX_MEMBER", 1 << 20):
            found = list(open_members(container))
        for member in found:
            assert (member.data is None) is (member.problem is not None)
            if member.problem is not None:
                assert member.problem.code in {"source/member", "source/container"}


@given(st.randoms(use_true_random=False), st.sampled_from(["tar.gz", "tar.bz2", "tar.xz"]))
def test_a_compressed_tar_without_a_problem_is_whole(
    tmp_path_factory: pytest.TempPathFactory, chance: random.Random, kind: str
) -> None:
    """The check sums of compression cover all members."""
    container = tmp_path_factory.getbasetemp() / "mutant"
    for _ in range(10):
        container.write_bytes(mutant(CONTAINERS[kind](FILES), chance))
        found = list(open_members(container))
        if not any(member.problem for member in found):
            assert found == [Member(*item) for item in FILES.items()]


def test_a_container_that_is_gone_is_a_problem(tmp_path: Path) -> None:
    (member,) = open_members(tmp_path / "nothing.zip")
    assert member.problem is not None
    assert member.problem.code == "source/unreadable"


@pytest.mark.parametrize("kind", ["zip", "tar", "gz", "bz2", "xz"])
def test_what_cannot_be_read_is_neither_damaged_nor_something_else(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = a_zip(FILES) if kind == "zip" else a_tar(FILES, "" if kind == "tar" else kind)
    good = members_of(content, tmp_path)
    reads = itertools.count()

    class Failing(io.FileIO):
        def readinto(self, buffer: Any, /) -> int | None:
            if next(reads) == failing:
                raise OSError(errno.EIO, "Input/output error")
            return super().readinto(memoryview(buffer)[:512])

        def readall(self) -> bytes:
            if next(reads) == failing:
                raise OSError(errno.EIO, "Input/output error")
            return super().readall()

    class File(containers._File, Failing):
        pass

    monkeypatch.setattr(containers, "_File", File)
    failing = -1
    assert members_of(content, tmp_path) == good
    for number in range(next(reads)):
        reads, failing = itertools.count(), number
        found = members_of(content, tmp_path)
        codes = [each.problem.code for each in found if each.problem is not None]
        assert codes == ["source/unreadable"]
        assert not any(each.is_other for each in found)


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

    monkeypatch.setattr(containers, "MAX_WHOLE", 10)
    monkeypatch.setattr(broken, studies.disk_full)
    with pytest.raises(ArchiveError, match="No space") as raised:
        list(open_members(path, folder=tmp_path))
    assert (raised.value.code, raised.value.location.source) == (
        "archive/full",
        str(tmp_path),
    )


@pytest.mark.parametrize("kind", CONTAINERS)
def test_large_members_of_many_pieces_are_read_whole(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"a": chance_of(1).randbytes(20_000), "b": chance_of(2).randbytes(7000), "c": b"1"}
    content = CONTAINERS[kind](files)
    monkeypatch.setattr(containers, "MAX_WHOLE", 5000)
    for name, size in (("_PIECE", 700), ("_PACKED", 300)):
        monkeypatch.setattr(unpacking, name, size)
    (tmp_path / "in").write_bytes(content)
    found = []
    for member in open_members(tmp_path / "in", folder=tmp_path):
        assert member.data is not None
        assert isinstance(member.data, Window) is (len(member.data) > 5000)
        found.append((member.name, bytes(member.data[0:100_000])))
    assert found == list(files.items())


def test_a_large_member_is_written_whole_if_writes_are_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytes(range(256)) * 4
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.writestr("a", content)
    write_on = os.write
    monkeypatch.setattr(containers, "MAX_WHOLE", 10)
    monkeypatch.setattr(os, "write", lambda file, data: write_on(file, data[:7]))
    (found,) = (bytes(m.data[0:2000]) for m in open_members(tmp_path / "in.zip") if m.data)
    assert found == content


# -- tar files that are damaged or cut -----------------------------------------------------------

NAMES = ["a", "b", "c", "d"]
#: A tar file of four files, and where their headers are.
TAR = a_tar({name: chance_of(at).randbytes(1500) for at, name in enumerate(NAMES)})
HEADERS = [0, 2048, 4096, 6144]
END = 8192


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
}


def packed(content: bytes, compression: str) -> bytes:
    return PACKERS[compression](content)


def names_and_codes(content: bytes, folder: Path) -> tuple[list[str], list[str]]:
    """The names of the members that are there, and the codes of problems."""
    found = members_of(content, folder)
    assert not any(member.is_other for member in found)
    names = [member.name for member in found if member.data is not None]
    return names, [member.problem.code for member in found if member.problem]


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def a_header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("compression", ["", "gz", "bz2", "xz"])
@pytest.mark.parametrize(
    ("damaged", "before"),
    [
        (flipped(TAR, HEADERS[1] + 100), 1),
        (TAR[: HEADERS[2]], 2),
        (TAR[: HEADERS[2] + 200], 2),
        (TAR[: HEADERS[2] + 512], 2),
        (TAR[: HEADERS[2] + 700], 2),
        (TAR[:END], 4),
        (TAR[: END + 100], 4),
        (TAR[:END] + bytes(1024) + b"what is no header".ljust(512), 4),
        (TAR[:END] + a_header("e", 5, tarfile.GNUTYPE_LONGNAME) + b"long\0".ljust(512, b"\0"), 4),
        (TAR[:END] + a_header("e", 1 << 70), 4),
        (TAR[:END] + a_header("e", -512), 4),
    ],
    ids=["bit", "boundary", "header", "behind header", "content", "no end", "half a block of zeros",
         "behind the end", "long name", "size", "negative size"],
)  # fmt: skip
def test_members_of_a_damaged_tar_are_not_lost_quietly(
    compression: str, damaged: bytes, before: int, tmp_path: Path
) -> None:
    names, codes = names_and_codes(packed(damaged, compression), tmp_path)
    assert names == NAMES[:before]
    assert codes[-1] == "source/container"
    assert set(codes) <= {"source/member", "source/container"}


@pytest.mark.parametrize("zeros", [512, 1024, 1100, 1 << 20, (1 << 21) + 512])
def test_a_tar_ends_with_a_block_of_zeros_or_more(zeros: int, tmp_path: Path) -> None:
    assert names_and_codes(TAR[:END] + bytes(zeros), tmp_path) == (NAMES, [])


def test_what_follows_the_end_of_a_tar_is_read_if_it_is_a_tar(tmp_path: Path) -> None:
    assert names_and_codes(TAR + TAR, tmp_path) == (NAMES * 2, [])


def test_the_report_names_a_damaged_tar(tmp_path: Path) -> None:
    files = {f"{at}.dcm": content for at, (_, content) in enumerate(make.study(4))}
    content = a_tar(files)
    second = len(a_tar({"0.dcm": files["0.dcm"]})[:-1]) // 10240  # it has a part of each record
    at = content.index(b"1.dcm", second)
    (tmp_path / "in.tar").write_bytes(flipped(content, at + 100))
    (tmp_path / "in.tgz").write_bytes(gzip.compress(content)[:600])
    report = dicomstudy.convert([tmp_path / "in.tar", tmp_path / "in.tgz"], tmp_path / "archive")
    assert report.instances == 1
    assert not report.complete
    assert {(p.source, p.code) for p in report.problems} == {
        (str(tmp_path / name), "source/container") for name in ("in.tar", "in.tgz")
    }


# -- compressed tar files ------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["gz", "bz2", "xz"])
@pytest.mark.parametrize("at", [100, 512, HEADERS[1], HEADERS[2] + 700, END, len(TAR) - 1])
def test_all_streams_of_a_compressed_tar_are_read(
    compression: str, at: int, tmp_path: Path
) -> None:
    first, second = (packed(part, compression) for part in (TAR[:at], TAR[at:]))
    for content in (first + second, first + second + bytes(512), first + bytes(8) + second):
        assert names_and_codes(content, tmp_path) == (NAMES, [])


@pytest.mark.parametrize("compression", ["gz", "bz2", "xz"])
def test_many_small_streams_are_read(compression: str, tmp_path: Path) -> None:
    content = b"".join(packed(TAR[at : at + 7], compression) for at in range(0, len(TAR), 7))
    assert names_and_codes(content, tmp_path) == (NAMES, [])


@pytest.mark.parametrize("compression", ["gz", "bz2", "xz"])
def test_compressed_tars_one_behind_the_other_are_read(compression: str, tmp_path: Path) -> None:
    content = packed(TAR, compression)
    assert names_and_codes(content + content, tmp_path) == (NAMES * 2, [])


@pytest.mark.parametrize("compression", ["gz", "bz2", "xz"])
def test_what_is_no_stream_behind_a_stream_is_a_problem(compression: str, tmp_path: Path) -> None:
    """It may have been one."""
    content = packed(TAR, compression)
    for behind in (b"something else", flipped(content, 1)):
        assert names_and_codes(content + behind, tmp_path) == (NAMES, ["source/container"])


def test_check_sums_of_gzip_are_checked(tmp_path: Path) -> None:
    content = gzip.compress(TAR, 0)
    for at in (HEADERS[3] + 1000, len(content) - 5, len(content) - 1):
        names, codes = names_and_codes(flipped(content, at), tmp_path)
        assert names == NAMES[: len(names)]  # members come while it is read
        assert codes == ["source/container"]


@pytest.mark.parametrize("compression", ["gz", "bz2", "xz"])
def test_a_compressed_tar_that_is_cut_is_a_problem(compression: str, tmp_path: Path) -> None:
    content = packed(TAR, compression)
    names, codes = names_and_codes(content[:-10], tmp_path)
    assert names == NAMES[: len(names)]
    assert codes == ["source/container"]


def test_a_tar_is_known_by_its_first_header(tmp_path: Path) -> None:
    """Though not one member comes out of it."""
    for content in (gzip.compress(TAR)[:600], gzip.compress(flipped(TAR, 100))):
        assert names_and_codes(content, tmp_path) == ([], ["source/container"])


@pytest.mark.parametrize("compression", ["gz", "bz2", "xz"])
def test_what_is_damaged_before_it_tells_what_it_is_may_be_a_tar(
    compression: str, tmp_path: Path
) -> None:
    content = packed(TAR, compression)[:12]
    assert names_and_codes(content, tmp_path) == ([], ["source/container"])
    report = dicomstudy.convert([tmp_path / "container"], tmp_path / "archive")
    assert [problem.code for problem in report.problems] == ["source/container"]


@pytest.mark.parametrize("content", [b"", b"text", b"x" * 2000])
def test_other_compressed_files_are_told_apart(content: bytes, tmp_path: Path) -> None:
    for compression in ("gz", "bz2", "xz"):
        (member,) = members_of(packed(content, compression), tmp_path)
        assert member.is_other
    (tmp_path / "in.gz").write_bytes(gzip.compress(content))
    report = dicomstudy.convert([tmp_path / "in.gz"], tmp_path / "archive")
    assert (report.skipped, report.problems) == (1, [])


# -- headers of tar files ------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["pax", "gnu", "ustar"])
@pytest.mark.parametrize("name", ["a" * 90 + "/" + "b" * 90, "é漢", "\udcff", "a b"])
def test_names_are_read_in_every_form(form: str, name: str, tmp_path: Path) -> None:
    member = tarfile.TarInfo(name)
    member.size = 5
    header = {
        "pax": member.tobuf(tarfile.PAX_FORMAT, errors="surrogateescape"),
        "gnu": member.tobuf(tarfile.GNU_FORMAT, errors="surrogateescape"),
        "ustar": member.tobuf(tarfile.USTAR_FORMAT, errors="surrogateescape"),
    }
    content = header[form] + b"12345".ljust(512, b"\0")
    assert members_of(content + bytes(1024), tmp_path) == [Member(name, b"12345")]


def old(header: bytes) -> bytes:
    """A header as tar files had it that have no mark."""
    bare = header[:148] + b" " * 8 + header[156:257]
    return bare[:148] + b"%06o\0 " % sum(bare) + bare[156:].ljust(512 - 156, b"\0")


@pytest.mark.parametrize("compression", ["", "gz", "bz2", "xz"])
def test_a_tar_of_old_is_known_by_the_check_sum_of_its_header(
    compression: str, tmp_path: Path
) -> None:
    content = old(a_header("a", 5, tarfile.AREGTYPE)) + b"12345".ljust(512, b"\0")
    content += old(a_header("b/", 0, tarfile.AREGTYPE)) + old(a_header("c", 0)) + bytes(1024)
    assert b"ustar" not in content
    whole = packed(content, compression)
    assert is_container(whole[:512])
    assert members_of(whole, tmp_path) == [Member("a", b"12345"), Member("c", b"")]
    (tmp_path / "in.zip").write_bytes(a_zip({"inner": whole}))
    report = dicomstudy.convert([tmp_path / "in.zip"], tmp_path / "archive")
    assert [problem.code for problem in report.problems] == ["source/member"]


@pytest.mark.parametrize("kind", [b"0", b"7", b"\0", b"Z", b"A", b"9"])
def test_members_of_any_kind_are_files(kind: bytes, tmp_path: Path) -> None:
    content = a_header("a", 5, kind) + b"12345".ljust(512, b"\0") + TAR
    found = members_of(content, tmp_path)
    assert found == [Member("a", b"12345"), *members_of(TAR, tmp_path)]


@pytest.mark.parametrize("kind", [b"D", b"N", b"V"])
def test_lists_of_names_and_labels_are_no_files(kind: bytes, tmp_path: Path) -> None:
    content = a_header("a", 5, kind) + b"12345".ljust(512, b"\0") + TAR
    assert names_and_codes(content, tmp_path) == (NAMES, [])


def test_the_rest_of_a_file_that_begins_elsewhere_is_a_problem(tmp_path: Path) -> None:
    content = a_header("a", 5, b"M") + b"12345".ljust(512, b"\0") + TAR
    assert names_and_codes(content, tmp_path) == (NAMES, ["source/member"])


def test_so_it_is_in_the_form_of_pax(tmp_path: Path) -> None:
    for offset, codes in ((b"0", []), (b"5", ["source/member"])):
        record = b" GNU.volume.filename=a\n"
        record = b"%d" % (len(record) + 2) + record
        volume = b" GNU.volume.offset=%s\n" % offset
        record += b"%d" % (len(volume) + 2) + volume
        content = a_header("g", len(record), tarfile.XGLTYPE) + record.ljust(512, b"\0")
        content += a_header("a", 5) + b"12345".ljust(512, b"\0") + TAR
        names = NAMES if codes else ["a", *NAMES]
        assert names_and_codes(content, tmp_path) == (names, codes)


def test_a_size_may_stand_in_a_pax_header(tmp_path: Path) -> None:
    content = a_header("x", 9, tarfile.XHDTYPE) + b"9 size=5\n".ljust(512, b"\0")
    content += a_header("a", 0) + b"12345".ljust(512, b"\0") + TAR
    assert members_of(content, tmp_path)[:2] == [
        Member("a", b"12345"),
        members_of(TAR, tmp_path)[0],
    ]


@pytest.mark.parametrize(
    "options",
    ["gnu", "posix --sparse-version=0.0", "posix --sparse-version=0.1", "posix"],
)
@pytest.mark.parametrize("pieces", [0, 1, 3, 60])
def test_holes_are_zeros(options: str, pieces: int, tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        for piece in range(pieces):
            file.seek(piece * 200_000)
            file.write(b"piece %d" % piece)
        file.truncate(pieces * 200_000 + 100_000)
    command = ["tar", "-C", str(tmp_path), "-cSf", str(tmp_path / "in.tar")]
    try:
        subprocess.run([*command, *f"--format={options}".split(), "sparse"], check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("there is no GNU tar")
    (member,) = open_members(tmp_path / "in.tar")
    assert member == Member("sparse", (tmp_path / "sparse").read_bytes())


@pytest.mark.parametrize("chunks", [[(5, 10), (0, 2)], [(0, 600)], [(0, 100), (101, 1)]])
def test_holes_that_cannot_be_are_refused(chunks: list[tuple[int, int]], tmp_path: Path) -> None:
    text = ",".join(f"{offset},{length}" for offset, length in chunks)
    records = b""
    for record in (f"GNU.sparse.size={101}", f"GNU.sparse.map={text}"):
        length = len(record) + 4
        records += f"{length} {record}\n".encode()
    content = a_header("x", len(records), tarfile.XHDTYPE) + records.ljust(512, b"\0")
    content += a_header("a", 512) + bytes(512 + 1024)
    assert names_and_codes(content, tmp_path) == ([], ["source/container"])


# -- bombs ---------------------------------------------------------------------------------------

BOMB = 64 << 20


class Peak:
    """The most memory that Python had at once inside of the block, in bytes."""

    def __enter__(self) -> Self:
        tracemalloc.start()
        self.bytes = 0
        return self

    def __exit__(self, *_: object) -> None:
        self.bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let be large what has more than 1 MiB."""
    monkeypatch.setattr(containers, "MAX_WHOLE", 1 << 20)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("compression", ["bz2", "xz", "gz"])
@pytest.mark.parametrize(
    "head",
    [
        b"",
        a_header("a", BOMB),
        a_header("a", BOMB, tarfile.DIRTYPE),
        a_header("a", BOMB, b"?"),
        a_header("a", BOMB, tarfile.GNUTYPE_LONGNAME),
        a_header("a", BOMB, tarfile.GNUTYPE_LONGLINK),
        a_header("a", BOMB, tarfile.XHDTYPE),
        a_header("a", BOMB, tarfile.XGLTYPE),
        a_header("a", 512, tarfile.GNUTYPE_LONGNAME) * 4_000,
    ],
    ids=["none", "file", "folder", "unknown", "L", "K", "x", "g", "many L"],
)
def test_bombs_need_little_memory(compression: str, head: bytes, tmp_path: Path) -> None:
    content = packed(head + bytes(BOMB), compression)
    with Peak() as peak:
        found = members_of(content, tmp_path)
    assert peak.bytes < 16 << 20
    assert all(member.data is None or len(member.data) <= BOMB for member in found)
    if compression == "bz2":
        assert found[-1].problem is not None
        assert found[-1].problem.code == "source/container"


@pytest.mark.usefixtures("small")
def test_no_more_is_unpacked_than_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bz2.compress(a_header("a", BOMB) + bytes(BOMB))
    unpacked = []
    stream = unpacking._stream

    def counting(*given: Any) -> Iterator[bytes]:
        for piece in stream(*given):
            unpacked.append(len(piece))
            yield piece

    monkeypatch.setattr(unpacking, "_stream", counting)
    (member,) = members_of(content, tmp_path)
    assert member.problem is not None
    assert "1100 times" in member.problem.message
    assert sum(unpacked) <= (2 << 20) + 1100 * len(content)


@pytest.mark.usefixtures("small")
def test_holes_are_counted(tmp_path: Path) -> None:
    """A file of zeros needs no byte in a tar file."""
    record = b"GNU.sparse.size=%d\n" % (1 << 40)
    records = b"%d %s" % (len(record) + 3, record)
    one = a_header("x", len(records), tarfile.XHDTYPE) + records.ljust(512, b"\0")
    one += a_header("a", 0)
    found = members_of(one * 100 + bytes(1024), tmp_path)
    codes = [member.problem.code for member in found if member.problem]
    assert codes == ["source/member", "source/container"]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("limit", [1 << 19, 1 << 23])
def test_bombs_in_a_zip_need_little_memory(
    method: int, limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containers, "MAX_MEMBER", limit)
    content = a_zip({"bomb": bytes(BOMB), "after": b"1"}, method)
    with Peak() as peak:
        found = members_of(content, tmp_path)
    assert peak.bytes < 16 << 20
    assert [member.name for member in found] == ["bomb", "after"]
    assert found[0].problem is not None
    assert found[0].problem.code == "source/member"


def test_lzma_that_wants_much_memory_is_refused(tmp_path: Path) -> None:
    content = a_zip({"a": b"1234"}, zipfile.ZIP_LZMA)
    at = content.index(b"\x05\x00\x5d") + 3
    greedy = content[:at] + struct.pack("<I", 0xFFFFFFFF) + content[at + 4 :]
    (member,) = members_of(greedy, tmp_path)
    assert member.problem is not None
    assert "memory" in member.problem.message


def test_xz_that_wants_much_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be sound, so that it is not skipped like other files."""
    content = lzma.compress(TAR)
    monkeypatch.setattr(unpacking, "_MAX_DICTIONARY", 1 << 20)
    assert names_and_codes(content, tmp_path) == ([], ["source/container"])


def test_global_headers_change_no_member(tmp_path: Path) -> None:
    """Else each member would have a long name that stands there once."""
    record = b"20 path=" + b"x" * 11 + b"\n"
    content = a_header("g", 20, tarfile.XGLTYPE) + record.ljust(512, b"\0") + TAR
    assert names_and_codes(content, tmp_path) == (NAMES, [])


def test_members_of_a_zip_that_are_one_are_not_unpacked_again(tmp_path: Path) -> None:
    """Else a small zip file could keep a run busy for hours."""
    one = a_zip({"a": chance_of(1).randbytes(4000)}, zipfile.ZIP_STORED)
    start, end = one.index(b"PK\1\2"), one.index(b"PK\5\6")
    entries = one[start:end] * 50
    tail = bytearray(one[end:])
    struct.pack_into("<HHI", tail, 8, 50, 50, len(entries))
    found = members_of(one[:start] + entries + bytes(tail), tmp_path)
    assert len(found) == 50
    assert sum(member.data is not None for member in found) <= 3
    assert found[-1].problem is not None
    assert "overlap" in found[-1].problem.message


def test_methods_that_are_unknown_are_refused(tmp_path: Path) -> None:
    content = bytearray(a_zip({"a": b"1", "b": b"2"}, zipfile.ZIP_STORED))
    content[content.index(b"PK\1\2") + 10] = 9
    first, second = members_of(bytes(content), tmp_path)
    assert first.problem is not None
    assert "method 9" in first.problem.message
    assert second == Member("b", b"2")


# -- directories of zip files ----------------------------------------------------------------------

ZIP = a_zip({name: chance_of(at).randbytes(50) for at, name in enumerate(NAMES)})
DIRECTORY, THE_END = ZIP.index(b"PK\1\2"), ZIP.index(b"PK\5\6")
#: Length of what a zip file has at its end.
RECORD = 22


def with_field(content: bytes, at: int, size: int, value: int) -> bytes:
    return content[:at] + value.to_bytes(size, "little") + content[at + size :]


@pytest.mark.parametrize(
    ("damaged", "left"),
    [
        # the comment of the first entry: the second is in it
        (with_field(ZIP, DIRECTORY + 32, 2, 47), ["a", "c", "d"]),
        (with_field(ZIP, THE_END + 12, 4, 0), []),
        (with_field(ZIP, THE_END + 12, 4, 47 * 2), ["a", "b"]),
        (ZIP + a_zip({"e": b"", "f": b"1"}), ["e", "f"]),
        (ZIP + a_zip({}), []),
    ],
    ids=["comment", "no directory", "short directory", "two zip files", "an empty one behind"],
)
def test_members_that_the_directory_does_not_name_are_not_lost_quietly(
    damaged: bytes, left: list[str], tmp_path: Path
) -> None:
    names, codes = names_and_codes(damaged, tmp_path)
    assert set(names) <= set(left)
    assert codes[-1:] == ["source/container"]


def test_more_members_than_a_zip_file_could_count_are_read(tmp_path: Path) -> None:
    """Their number is elsewhere then, or modulo 65,536."""
    count = (1 << 16) + 3
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as target:
        for number in range(count):
            target.writestr(zipfile.ZipInfo(str(number)), b"")
    content = stream.getvalue()
    for sound in (content, with_field(content, len(content) - RECORD + 10, 2, 3)):
        found = members_of(sound, tmp_path)
        assert (len(found), found[-1].problem) == (count, None)
    fewer = with_field(content, content.rindex(b"PK\6\6") + 32, 8, count + 1)
    *found, last = members_of(fewer, tmp_path)
    assert len(found) == count
    assert last.problem is not None


@pytest.mark.parametrize("mark", [b"PK\7\10", b"PK00"])
def test_a_zip_file_that_was_to_be_split_is_read(mark: bytes, tmp_path: Path) -> None:
    stream = io.BytesIO(mark)
    with zipfile.ZipFile(stream, "a") as target:
        for name, content in FILES.items():
            target.writestr(name, content)
    content = stream.getvalue()
    assert is_container(content[:512])
    assert members_of(content, tmp_path) == [Member(*item) for item in FILES.items()]


def test_a_member_without_a_name_is_a_member(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as target:
        for name, content in {"": SMALL, "b": b"2"}.items():
            with target.open(zipfile.ZipInfo(name), "w") as file:
                file.write(content)
    assert [*open_members(tmp_path / "in.zip")] == [Member("", SMALL), Member("b", b"2")]
    archive = tmp_path / "archive"
    report = dicomstudy.convert([tmp_path / "in.zip"], archive, bulk="reference")
    assert (report.instances, report.problems) == (1, [])
    (tmp_path / "in.zip").unlink()
    assert dicomstudy.verify(archive).complete


def test_a_folder_in_a_zip_file_that_has_content_is_a_file(tmp_path: Path) -> None:
    assert members_of(a_zip({"a/": b"1"}), tmp_path) == [Member("a/", b"1")]


def test_content_of_no_size_is_not_lost_quietly(tmp_path: Path) -> None:
    content = a_zip({"a": chance_of(1).randbytes(100), "b": b"2"})
    at = content.index(b"PK\1\2")
    emptied = with_field(with_field(content, at + 16, 4, 0), at + 24, 4, 0)  # CRC-32 and size
    assert names_and_codes(emptied, tmp_path) == (["b"], ["source/member"])
    folder = emptied.replace(b"a", b"/")  # one that is no folder
    assert names_and_codes(folder, tmp_path) == (["b"], ["source/member"])


# -- zip and tar files and records inside others ---------------------------------------------------

SMALL = make.ct_slice("ct", 1, 1)
OFFICE = {"[Content_Types].xml": b"<Types/>", "word/document.xml": b"<document/>"}
PROGRAM = {"META-INF/MANIFEST.MF": b"", "Viewer.class": b"code"}


@pytest.mark.parametrize("outer", ["zip", "tar.gz"])
@pytest.mark.parametrize("inner", CONTAINERS)
def test_what_is_in_a_zip_or_tar_file_inside_another_is_said_to_be_left_out(
    outer: str, inner: str, tmp_path: Path
) -> None:
    content = CONTAINERS[outer]({"a.dcm": SMALL, f"b.{inner}": CONTAINERS[inner](FILES)})
    (tmp_path / "in").write_bytes(content)
    report = dicomstudy.convert([tmp_path / "in"], tmp_path / "archive")
    (problem,) = report.problems
    assert (problem.code, problem.source) == ("source/member", f"{tmp_path / 'in'}!b.{inner}")
    assert (report.files, report.instances, report.refused, report.skipped) == (2, 1, 1, 0)
    written = dicomstudy.write_records([tmp_path / "in"], tmp_path / "records")
    assert [each.code for each in written.problems] == ["source/member"]
    assert (written.files, written.records, written.skipped) == (2, 1, 0)


def test_a_record_inside_a_zip_file_is_said_to_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(SMALL)
    dicomstudy.write_records([tmp_path / "a.dcm"], tmp_path / "records")
    (record,) = (tmp_path / "records").rglob("*.ion")
    (tmp_path / "in.zip").write_bytes(a_zip({"a.ion": record.read_bytes()}))
    report = dicomstudy.convert([tmp_path / "in.zip"], tmp_path / "archive")
    assert [problem.code for problem in report.problems] == ["source/member"]
    written = dicomstudy.write_records([tmp_path / "in.zip"], tmp_path / "more")
    assert (written.problems, written.skipped) == ([], 1)


@pytest.mark.parametrize(
    "other",
    [
        a_zip(OFFICE),
        a_zip(dict(reversed(OFFICE.items()))),
        a_zip(PROGRAM),
        a_zip(dict(reversed(PROGRAM.items()))),
        a_zip({"mimetype": b"application/epub+zip", "a.xml": b""}),
        gzip.compress(b"some volume", mtime=0),
        bz2.compress(b"some volume"),
        b"PK",
        b"text",
        b"",
    ],
)
def test_other_members_are_skipped(other: bytes, tmp_path: Path) -> None:
    (tmp_path / "in.zip").write_bytes(a_zip({"other": other}))
    report = dicomstudy.convert([tmp_path / "in.zip"], tmp_path / "archive")
    assert (report.skipped, report.problems) == (1, [])
