"""What edits made of instances is all that they are once older versions are collected."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pydicom
import pytest

import dicomstudy
from dicomstudy.errors import BulkError, StudyError
from dicomstudy.p10 import deflate
from fixtures import make
from tests import studies

STUDY = "1.2.3"
LARGE = bytes(range(256)) * 40
EXPLICIT, DEFLATED = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"


def file_of(*more: bytes, syntax: str = EXPLICIT) -> bytes:
    """A file of one study with these elements more, in the order of their tags."""
    elements = [
        make.element(0x00080016, "UI", b"1.2.840.10008.5.1.4.1.1.7\0"),
        make.element(0x00080018, "UI", b"1.2.3.4.1\0"),
        make.element(0x00100010, "PN", b"Example^Ann "),
        make.element(0x0020000D, "UI", b"1.2.3\0"),
        make.element(0x0020000E, "UI", b"1.2.3.4\0"),
        *more,
    ]
    elements.sort(key=lambda each: (each[1], each[0], each[3], each[2]))
    data_set = b"".join(elements)
    if syntax == DEFLATED:
        data_set = deflate(data_set)
    meta = make.element(
        0x00020010, "UI", syntax.encode().ljust(len(syntax) + len(syntax) % 2, b"\0")
    )
    return make.part10(meta, data_set)


def collected(folder: Path, file: bytes, edit: dict[str, object], *, bulk: str = "copy") -> bytes:
    """The file of a changed instance, that is the same before and after collecting."""
    archive = folder / "archive"
    dicomstudy.convert([studies.write_files(folder / "in", [("a", file)])], archive, bulk=bulk)
    dicomstudy.update(archive, STUDY, [edit])
    (before,) = files_of(archive)
    dicomstudy.collect(archive, older_versions=True, remove=True)
    assert dicomstudy.verify(archive).problems == []
    assert dicomstudy.collect(archive, older_versions=True) == dicomstudy.Collected()
    assert files_of(archive) == [before]
    return before


def files_of(archive: Path) -> list[bytes]:
    with dicomstudy.open_archive(archive)[STUDY] as study:
        return [instance.to_p10() for instance in study.values()]


@pytest.mark.parametrize("bulk", ["copy", "reference"])
def test_a_large_value_that_was_removed_is_in_what_was_there_before(
    tmp_path: Path, bulk: str
) -> None:
    creator = make.element(0x00090010, "LO", b"EXAMPLE ")
    removed, kept = (
        make.element(0x00091000 + at, "OB", bytes([at]) + LARGE + b"x") for at in (1, 2)
    )
    file = collected(tmp_path, file_of(creator, removed, kept), {"remove": ["00091001"]}, bulk=bulk)
    data_set = pydicom.dcmread(io.BytesIO(file))
    assert 0x00091001 not in data_set
    assert data_set[0x00091002].value == b"\2" + LARGE + b"x"
    (modified,) = data_set.OriginalAttributesSequence[0].ModifiedAttributesSequence
    assert modified[0x00091001].value == b"\1" + LARGE + b"x"


@pytest.mark.parametrize("bulk", ["copy", "reference"])
def test_metadata_say_not_where_large_values_lie(bulk: str, tmp_path: Path) -> None:
    """They are the same as before, though the document says it of what an edit changed."""
    pixels = make.element(0x7FE00010, "OW", LARGE)
    archive = tmp_path / "archive"
    files = studies.write_files(tmp_path / "in", [("a", file_of(pixels))])
    dicomstudy.convert([files], archive, bulk=bulk)

    def of_pixels() -> Any:
        with dicomstudy.open_archive(archive)[STUDY] as study:
            (instance,) = study.values()
            return instance.metadata()["PixelData"]

    before = of_pixels()
    assert before.keys() == {"length", "sha256" if bulk == "copy" else "dataOffset"}
    dicomstudy.update(archive, STUDY, [{"set": {"PatientName": "Example^Eve"}}])
    assert of_pixels() == before
    dicomstudy.collect(archive, older_versions=True, remove=True)
    assert of_pixels() == before


def test_a_deflated_file_is_deflated_anew(tmp_path: Path) -> None:
    file = collected(tmp_path, file_of(syntax=DEFLATED), {"set": {"PatientName": "Example^Eve"}})
    data_set = pydicom.dcmread(io.BytesIO(file))
    assert data_set.file_meta.TransferSyntaxUID == DEFLATED
    assert data_set.PatientName == "Example^Eve"
    assert b"Example^Eve" not in file


@pytest.mark.parametrize("written", [b"ISO_IR 100", b"ISO_IR 100\0\0", b" ISO_IR 100 "])
def test_a_character_set_may_be_padded_oddly(tmp_path: Path, written: bytes) -> None:
    file = file_of(make.element(0x00080005, "CS", written.ljust(len(written) + len(written) % 2)))
    for name in ("Grün", "山"):
        folder = tmp_path / str(len(name))
        after = collected(folder, file, {"set": {"PatientName": name}})
        assert pydicom.dcmread(io.BytesIO(after)).PatientName == name


def test_a_study_that_cannot_be_read_stands_in_nobody_s_way(tmp_path: Path) -> None:
    """It keeps all that it has; only where no other is asked for, it is an error."""
    archive = tmp_path / "archive"
    studies.write_fixtures(tmp_path / "in")
    dicomstudy.convert([tmp_path / "in"], archive)
    uids = sorted(dicomstudy.open_archive(archive))
    for uid in uids:
        dicomstudy.update(archive, uid, [{"set": {"StudyDescription": "changed"}}])
    opened = dicomstudy.open_archive(archive)
    damaged = studies.document(opened)
    damaged.write_bytes(damaged.read_bytes()[:-300])
    spared = {path: path.read_bytes() for path in damaged.parent.glob(f"{make.uid('ct')}*")}
    done = dicomstudy.collect(archive, older_versions=True, remove=True)
    assert [problem.source for problem in done.problems] == [str(damaged)]
    assert not done.complete
    assert done.studies == len(uids) - 1
    for uid in uids:
        if uid != make.uid("ct"):
            assert [each.command for each in dicomstudy.history(archive, uid)] == ["collect"]
    assert {path: path.read_bytes() for path in spared} == spared
    assert dicomstudy.collect(archive, older_versions=True).studies == 0
    with pytest.raises(StudyError):
        dicomstudy.collect(archive, study=make.uid("ct"))


def test_what_cannot_be_read_on_the_way_is_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *_: object) -> None:
        path.write_bytes(b"the beginning")
        raise BulkError("bulk/unreadable", "the bulk file cannot be read")

    archive = tmp_path / "archive"
    studies.write_fixtures(tmp_path / "in")
    dicomstudy.convert([tmp_path / "in"], archive)
    dicomstudy.delete(archive, make.uid("ct"), series=make.uid("ct/2"))
    with monkeypatch.context() as patched:
        patched.setattr("dicomstudy.collection.append", refuse)
        done = dicomstudy.collect(archive, older_versions=True, remove=True)
    assert [problem.code for problem in done.problems] == ["bulk/unreadable"]
    assert (done.studies, done.versions, done.instances, done.bytes) == (0, 0, 0, 0)
    assert not list(archive.rglob("*-1.bulk"))
    assert dicomstudy.verify(archive).problems == []
    assert dicomstudy.collect(archive, older_versions=True, remove=True).studies == 1
