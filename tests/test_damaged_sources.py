"""P10 files that an archive refers to rot, and their size and time stay (spec/bulk.md)."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Self
from unittest import mock

import pydicom
import pytest

import dicomstudy
from dicomstudy import restoration
from dicomstudy.elements import sha256_of
from dicomstudy.errors import BulkError, DicomStudyError
from dicomstudy.study import Instance
from fixtures import make
from tests import studies

#: Longer than a document has it, and read as a text of its own.
COMMENTS = "as it was." * 40
UID = make.uid("study/1/1")


@pytest.fixture(params=["pixels", "text"])
def rotten(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder with an archive by reference, a damaged file of it in `in`, and copies in `good`."""
    dataset = pydicom.dcmread(io.BytesIO(make.ct_slice("study", 1, 1)))
    dataset.PatientComments = COMMENTS
    file, other = make.saved(dataset), make.ct_slice("study", 1, 2)
    studies.write_files(tmp_path / "in", [("1.dcm", file), ("2.dcm", other)])
    shutil.copytree(tmp_path / "in", tmp_path / "good")
    dicomstudy.convert([tmp_path / "in"], tmp_path / "archive", bulk="reference")
    place = file.index(b"as it was") if request.param == "text" else len(file) - 5
    rot(tmp_path / "in/1.dcm", place)
    return tmp_path


def rot(path: Path, place: int) -> None:
    """Damage a byte of a file, as disks do."""
    status, data = path.stat(), bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def instance_of(folder: Path, *below: str) -> Instance:
    archive = dicomstudy.open_archive(folder / "archive", sources=[folder / name for name in below])
    return archive[make.uid("study")][UID]


def original(folder: Path) -> bytes:
    return (folder / "good/1.dcm").read_bytes()


def change(folder: Path) -> None:
    """Let there be no SHA-256 of the files as they are now."""
    edits = [{"set": {"PatientName": "A^B"}}]
    dicomstudy.update(folder / "archive", make.uid("study"), edits)


@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.parametrize("limit", [restoration._MAX_IN_MEMORY, 1])
def test_another_file_takes_its_place(
    limit: int, rotten: Path, monkeypatch: pytest.MonkeyPatch, *, changed: bool
) -> None:
    monkeypatch.setattr(restoration, "_MAX_IN_MEMORY", limit)
    if changed:
        change(rotten)
    good = [rotten / "good"]
    done = dicomstudy.restore(rotten / "archive", rotten / "out", sources=good)
    assert (done.files, done.problems) == (2, [])
    assert dicomstudy.verify(rotten / "archive", sources=good).problems == []
    assert instance_of(rotten, "good").original().to_p10() == original(rotten)
    found = pydicom.dcmread(io.BytesIO(instance_of(rotten, "good").to_p10()))
    before = pydicom.dcmread(rotten / "good/1.dcm")
    assert (found.PixelData, found.PatientComments) == (before.PixelData, COMMENTS)
    assert found.PatientName == ("A^B" if changed else before.PatientName)


@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.parametrize("limit", [restoration._MAX_IN_MEMORY, 1])
def test_without_another_it_is_the_problem(
    limit: int, rotten: Path, monkeypatch: pytest.MonkeyPatch, *, changed: bool
) -> None:
    monkeypatch.setattr(restoration, "_MAX_IN_MEMORY", limit)
    if changed:
        change(rotten)
    shutil.copytree(rotten / "in", rotten / "as bad")
    for below in ([], [rotten / "in"], [rotten / "as bad"]):
        done = dicomstudy.restore(rotten / "archive", rotten / "out", sources=below)
        checked = dicomstudy.verify(rotten / "archive", sources=below)
        assert done.files == 1 == len([*(rotten / "out").rglob("*.dcm")])
        for (problem,) in (done.problems, checked.problems):
            assert problem.code == "bulk/source-changed"
            assert problem.source == (rotten / "in/1.dcm").as_uri()
    for read in (Instance.to_p10, Instance.to_dataset):
        with pytest.raises(BulkError) as raised:
            read(instance_of(rotten))
        assert raised.value.code == "bulk/source-changed"


def test_nothing_damaged_is_deidentified(rotten: Path) -> None:
    archive, key = rotten / "archive", bytes(32)
    bad = dicomstudy.deidentify(archive, rotten / "bad", key=key)
    assert [problem.code for problem in bad.problems] == ["bulk/source-changed"]
    good = dicomstudy.deidentify(archive, rotten / "new", key=key, sources=[rotten / "good"])
    assert good.problems == []
    (study,) = dicomstudy.open_archive(rotten / "new").values()
    pixels = {instance.to_dataset().PixelData for instance in study.values()}
    assert pixels == {pydicom.dcmread(path).PixelData for path in (rotten / "good").iterdir()}


@pytest.mark.parametrize("rotten", ["text"], indirect=True)
@pytest.mark.parametrize("collected", [False, True])
def test_a_value_with_a_digest_is_proved_by_itself(rotten: Path, *, collected: bool) -> None:
    if collected:
        change(rotten)
        archive = dicomstudy.open_archive(rotten / "archive", sources=[rotten / "good"])
        dicomstudy.collect(archive, older_versions=True, remove=True)
    comments: dict[str, Any] = instance_of(rotten, "good").to_json()["00104000"]
    assert comments["Value"] == [COMMENTS]
    with pytest.raises(BulkError) as raised:
        instance_of(rotten).to_json()
    assert raised.value.code == "bulk/source-changed"


def test_a_file_is_not_trusted_again(rotten: Path) -> None:
    """Frames are read of the other one, too, once it is known."""
    instance = instance_of(rotten, "good")
    instance.to_p10()
    frame = pydicom.dcmread(rotten / "good/1.dcm").PixelData
    assert list(instance.frames()) == [frame]
    shutil.rmtree(rotten / "good")
    for read in (instance.to_p10, lambda: list(instance.frames())):
        with pytest.raises(BulkError) as raised:
            read()
        assert raised.value.code == "bulk/source-changed"


def test_what_rots_while_it_is_open_is_found(rotten: Path) -> None:
    (rotten / "in/1.dcm").unlink()
    shutil.copytree(rotten / "good", rotten / "better")
    instance, file = instance_of(rotten, "good", "better"), original(rotten)
    assert instance.to_p10() == file
    (used,) = instance.study.sources._found.values()
    rot(used, len(file) - 5)
    assert instance.to_p10() == file
    assert used.read_bytes() != file


def test_sound_files_are_not_proved_each(rotten: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their size and time of modification do, unless something is wrong."""
    shutil.copy2(rotten / "good/1.dcm", rotten / "in/1.dcm")
    hashed = mock.Mock(side_effect=sha256_of)
    monkeypatch.setattr("dicomstudy.sources.sha256_of", hashed)
    assert dicomstudy.verify(rotten / "archive").problems == []
    assert dicomstudy.restore(rotten / "archive", rotten / "out").problems == []
    assert hashed.call_count == 0


def test_sound_files_are_not_the_reason(rotten: Path) -> None:
    """Then the document is damaged."""
    shutil.copy2(rotten / "good/1.dcm", rotten / "in/1.dcm")
    instance = instance_of(rotten)
    instance.study.encoder = mock.Mock()
    pixels = instance.attributes()["PixelData"]
    instance.study.encoder.rebuild.return_value = [b"another", pixels]
    for read in (instance.to_p10, instance.check_p10):
        with pytest.raises(DicomStudyError) as raised:
            read()
        assert raised.value.code == "study/sha256"


# -- several studies, each of which is closed before the next one is opened ---------------------


def noise(study: str, number: int) -> bytes:
    """Bytes that no compression makes shorter."""
    return hashlib.shake_128(f"{study} {number}".encode()).digest(512)


def with_words(study: str, number: int) -> bytes:
    """A big-endian file with words, which a bulk file has in either mode, and pixel data."""
    element = partial(make.element, big=True)
    elements = [
        element(0x00080016, "UI", make.SECONDARY_CAPTURE),
        element(0x00080018, "UI", make.uid(f"{study}/1/{number}")),
        element(0x0020000D, "UI", make.uid(study)),
        element(0x0020000E, "UI", make.uid(f"{study}/1")),
        element(0x00110010, "LO", "OWN"),
        element(0x00111010, "OW", noise(study, -number)),
        element(0x7FE00010, "OW", noise(study, number)),
    ]
    return make.part10(make.file_meta(make.BIG_ENDIAN), b"".join(elements))


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A folder with the files of two studies in `in`."""
    names = [(study, number) for study in "ab" for number in (1, 2, 3)]
    files = [(f"{study}{number}", with_words(study, number)) for study, number in names]
    return studies.write_files(tmp_path / "in", files).parent


def test_each_study_is_read_again_while_it_is_open(two: Path) -> None:
    shutil.copytree(two / "in", two / "good")
    dicomstudy.convert([two / "in"], two / "archive", bulk="reference")
    assert len([*(two / "archive").rglob("*.bulk")]) == 2
    for path in (two / "in").iterdir():
        rot(path, path.stat().st_size - 5)
    done = dicomstudy.restore(two / "archive", two / "out", sources=[two / "good"])
    assert (done.files, done.problems) == (6, [])
    written = sorted(path.read_bytes() for path in (two / "out").rglob("*.dcm"))
    assert written == sorted(path.read_bytes() for path in (two / "good").iterdir())


def test_of_a_damaged_bulk_file_the_same_is_said_of_all(two: Path) -> None:
    dicomstudy.convert([two / "in"], two / "archive")
    pixels = [noise(study, number) for study in "ab" for number in (1, 2, 3)]
    for path in (two / "archive").rglob("*.bulk"):
        places = [path.read_bytes().find(each) for each in pixels]
        for place in places:
            if place >= 0:
                rot(path, place)
    with mock.patch.object(Instance, "write_p10", side_effect=AssertionError):  # in vain
        done = dicomstudy.restore(two / "archive", two / "out")
    assert done.files == 0
    assert [problem.code for problem in done.problems] == ["study/sha256"] * 6


# -- what was written already ------------------------------------------------------------------


def test_a_file_is_written_over_what_was_written(rotten: Path) -> None:
    path = rotten / "written"
    path.write_bytes(b"before" + bytes(len(original(rotten))) + b"behind")
    with path.open("r+b") as file:
        file.seek(6)
        assert instance_of(rotten, "good").write_p10(file) == len(original(rotten))
        file.flush()
        assert path.read_bytes() == b"before" + original(rotten) + b"behind"


class Pipe(io.RawIOBase):
    """What takes bytes and never goes back."""

    def __init__(self) -> None:
        self.taken = b""

    def writable(self) -> bool:
        return True

    def write(self, piece: Any) -> int:
        self.taken += piece
        return len(piece)


class Socket:
    """What can do nothing but take bytes."""

    def __init__(self) -> None:
        self.taken = b""

    def write(self, piece: Any) -> None:
        self.taken += piece

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """It stays as it is."""


def appended_to(path: Path) -> io.BufferedWriter:
    return path.open("ab")


def compressed(path: Path) -> gzip.GzipFile:
    return gzip.open(path, "wb")


def pipe(_: Path) -> Pipe:
    return Pipe()


def socket(_: Path) -> Socket:
    return Socket()


@pytest.mark.parametrize("opened", [appended_to, compressed, pipe, socket])
def test_a_file_that_does_not_go_back_is_right_the_next_time(
    opened: Callable[[Path], Any], rotten: Path
) -> None:
    instance = instance_of(rotten, "good")
    with (
        opened(rotten / "written") as file,
        mock.patch.object(instance, "pieces", wraps=instance.pieces) as made,
    ):
        with pytest.raises(BulkError, match="write it again") as raised:
            instance.write_p10(file)
        assert raised.value.code == "bulk/source-changed"
        assert made.call_count == (2 if opened is appended_to else 1)
    with opened(rotten / "written anew") as file:
        assert instance.write_p10(file) == len(original(rotten))
    if opened is compressed:
        assert gzip.decompress((rotten / "written anew").read_bytes()) == original(rotten)
    elif opened is appended_to:
        assert (rotten / "written anew").read_bytes() == original(rotten)
    else:
        assert file.taken == original(rotten)
