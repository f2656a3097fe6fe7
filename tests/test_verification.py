"""A whole archive is proved without being changed, and damage is found (spec/archive.md)."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import dicomstudy
from dicomstudy import ion
from dicomstudy.archive import Archive
from dicomstudy.errors import ArchiveError
from dicomstudy.tables import Exported
from fixtures import make
from tests import studies
from tests.samples import chance_of

CT = make.uid("ct")


@pytest.fixture
def copy(archive: Path, tmp_path: Path) -> Path:
    """An archive that a test may damage."""
    return Path(shutil.copytree(archive, tmp_path / "copy"))


def refuse_to_list(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the system say that what is in a folder may not be read."""

    def listed(path: Path) -> Iterator[Path]:
        if path == folder:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return iterdir(path)

    iterdir = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", listed)


def test_a_whole_archive_has_no_problems(archive: Path) -> None:
    opened = dicomstudy.open_archive(archive)
    verified = dicomstudy.verify(opened)
    assert (verified.problems, verified.complete) == ([], True)
    assert verified.studies == len(opened)
    assert verified.instances == sum(len(study) for study in opened.values())
    assert verified.groups == sum(
        len(contents) for study in opened.values() for contents in study.groups.values()
    )
    assert verified.quarantined == len(list(opened.quarantined())) > 5
    assert verified.values > 20


def test_verifying_writes_nothing(copy: Path, tmp_path: Path) -> None:
    studies.write_files(tmp_path / "in", make.study(6, series=2, rows=32, columns=32))
    dicomstudy.convert([tmp_path / "in"], tmp_path / "reference", bulk="reference")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    dicomstudy.verify(copy)
    dicomstudy.verify(tmp_path / "reference")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def note(archive: Archive) -> Path:
    return studies.kept(archive).with_name(studies.kept(archive).name + ".ion")


@pytest.mark.parametrize("place", [studies.document, studies.bulk, studies.kept])
def test_any_changed_byte_is_found(place: Callable[[Archive], Path], copy: Path) -> None:
    archive = dicomstudy.open_archive(copy)
    path = place(archive)
    whole = path.read_bytes()
    chance = chance_of(9)
    missed = []
    table = whole.rfind(b"\x5e\x2a\x4d\x18") if place is studies.document else len(whole)
    for at in sorted({0, table - 1, *(chance.randrange(table) for _ in range(40))}):
        changed = bytearray(whole)
        changed[at] ^= 1 << chance.randrange(8)
        path.write_bytes(changed)
        if not dicomstudy.verify(copy).problems:
            missed.append(at)
    assert missed == []
    path.write_bytes(whole)
    assert dicomstudy.verify(copy).problems == []


def test_a_document_without_its_table_of_frames_loses_nothing(copy: Path, tmp_path: Path) -> None:
    path = studies.document(dicomstudy.open_archive(copy))
    path.write_bytes(path.read_bytes()[:-5])
    done = dicomstudy.restore(copy, tmp_path / "out", study=CT)
    assert (done.files, done.problems) == (16, [])


@pytest.mark.parametrize("place", [studies.document, studies.bulk, studies.kept])
@pytest.mark.parametrize("length", [0, 5, -300])
def test_a_file_that_is_cut_is_found(
    place: Callable[[Archive], Path], length: int, copy: Path
) -> None:
    path = place(dicomstudy.open_archive(copy))
    path.write_bytes(path.read_bytes()[:length])
    assert dicomstudy.verify(copy).problems


@pytest.mark.parametrize("place", [studies.bulk, studies.kept])
def test_a_file_that_is_gone_is_found(place: Callable[[Archive], Path], copy: Path) -> None:
    place(dicomstudy.open_archive(copy)).unlink()
    verified = dicomstudy.verify(copy)
    assert verified.problems
    assert not verified.complete


def test_what_each_value_of_a_bulk_file_says_is_said_once(copy: Path) -> None:
    path = studies.bulk(dicomstudy.open_archive(copy))
    path.unlink()
    assert [(each.source, each.code) for each in dicomstudy.verify(copy).problems] == [
        (str(path), "bulk/missing")
    ]


@pytest.mark.parametrize(
    ("change", "value"),
    [
        *((name, None) for name in ("uri", "sha256", "size", "code", "message")),
        ("uri", "http://elsewhere/file"),
        ("sha256", "0" * 64),
        ("size", -1),
    ],
)
def test_a_note_of_another_file_is_found(change: str, value: object, copy: Path) -> None:
    path = note(dicomstudy.open_archive(copy))
    fields = ion.loads(path.read_bytes()) | {change: value}
    path.write_bytes(ion.dumps(fields, text=True))
    assert [each.code for each in dicomstudy.verify(copy).problems] == ["archive/damaged"]


def test_a_damaged_note_is_found(copy: Path, tmp_path: Path) -> None:
    path = note(dicomstudy.open_archive(copy))
    for content in (b"", b"{", b"{uri: 5}"):
        path.write_bytes(content)
        assert [each.code for each in dicomstudy.verify(copy).problems] == ["archive/damaged"]
    path.unlink()  # as a run leaves it that is killed before it writes the note
    total = dicomstudy.verify(copy)
    assert total.problems == []
    assert dicomstudy.restore(copy, tmp_path / "out").files == total.instances + total.quarantined


def test_a_folder_that_may_not_be_read_is_not_taken_for_an_empty_one(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def export(_: Archive) -> Exported:
        return dicomstudy.export_tables(copy, tmp_path / "tables")

    archive = dicomstudy.open_archive(copy)
    whole, count = dicomstudy.verify(archive), len(archive)
    tables = export(archive)
    shard = archive.document_path(CT).parent
    for folder in (shard, copy / "quarantine", copy / "studies"):
        with monkeypatch.context() as patched:
            refuse_to_list(folder, patched)
            found = dicomstudy.verify(archive)
            restored = dicomstudy.restore(archive, tmp_path / folder.name)
            for problems in (found.problems, restored.problems):
                assert [(p.code, p.source) for p in problems] == [
                    ("archive/unreadable", str(folder))
                ]
            left = found.instances + found.quarantined
            assert restored.files == left < whole.instances + whole.quarantined
            if folder.name != "quarantine":
                for ask in (
                    len,
                    list,
                    lambda _: dicomstudy.export_tables(copy, tmp_path / "tables"),
                ):
                    with pytest.raises(ArchiveError) as raised:
                        ask(archive)
                    assert raised.value.code == "archive/unreadable"
    assert dicomstudy.verify(archive).problems == []
    again = export(archive)
    assert (tables.studies, again.studies, again.removed) == (count, count, 0)
