"""What comes late into a study of an archive, and its large values (spec/archive.md)."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dicomstudy
from dicomstudy import ion
from dicomstudy.elements import sha256_of
from dicomstudy.grouping import Batch
from dicomstudy.ingestion import leave_on_disk, left_on_disk
from dicomstudy.record import is_reference
from fixtures import make
from fixtures.make import element
from tests import studies
from tests.test_extension import small_chunks

STUDY = "1.2.3"
LARGE = [bytes([0x41 + at]) * 400 for at in range(3)]
#: Elements that have a large value, each in another place of documents.
PLACES = {
    "own or of a group": lambda value: element(0x00091001, "OB", value),
    "in an item": lambda value: element(
        0x00091002, "SQ", make.item(element(0x00090011, "OB", value))
    ),
    "of the seed's groups": lambda value: element(0x00281201, "OW", value),
    "in an item of the seed's groups": lambda value: element(
        0x00283000, "SQ", make.item(element(0x00283006, "OW", value))
    ),
    "text": lambda value: element(0x0040A160, "UT", value),
    "pixels": lambda value: element(0x7FE00010, "OB", value),
}  # fmt: skip


def file_of(number: int, *elements: bytes, series: str = "1.2.3.4") -> tuple[str, bytes]:
    """Name and bytes of a file of the study, with these elements more, in the order of tags."""
    sop = f"1.2.3.4.{number}"
    head = [
        element(0x00080016, "UI", make.SECONDARY_CAPTURE),
        element(0x00080018, "UI", sop),
        element(0x00090010, "LO", "EXAMPLE"),
        element(0x0020000D, "UI", STUDY),
        element(0x0020000E, "UI", series),
    ]
    ordered = sorted((*head, *elements), key=lambda each: (each[1], each[0], each[3], each[2]))
    meta = make.file_meta(make.EXPLICIT, make.SECONDARY_CAPTURE, sop)
    return f"{number}.dcm", make.part10(meta, b"".join(ordered))


def convert(archive: Path, name: str, files: Iterable[tuple[str, bytes]], bulk: str) -> Path:
    """The folder of the files, which are in the archive then."""
    folder = studies.write_files(archive.parent / name, files)
    report = dicomstudy.convert([folder], archive, bulk=bulk)
    assert report.complete
    return folder


@pytest.mark.parametrize("bulk", ["copy", "reference"])
def test_of_equal_files_it_is_the_same_that_is_kept(bulk: str, tmp_path: Path) -> None:
    """Whichever was found first, as one of several processes may find either."""
    file = file_of(1, element(0x7FE00010, "OB", LARGE[0]))
    folders = [studies.write_files(tmp_path / name, [file]) for name in ("a", "b")]
    documents = []
    for order in (folders, folders[::-1]):
        archive = tmp_path / f"archive of {order[0].name}"
        report = dicomstudy.convert(order, archive, bulk=bulk)
        assert (report.instances, report.unchanged) == (1, 1)
        (path,) = dicomstudy.open_archive(archive).documents()
        documents.append(path.read_bytes())
    assert documents[0] == documents[1]


def said(archive: Path) -> object:
    """All that a study says but where its large values are, and its files."""
    with dicomstudy.open_archive(archive)[STUDY] as study:
        groups = {name: sorted(contents) for name, contents in study.groups.items()}
        return study.digest, groups, {
            key: (
                instance.series,
                sorted(digest for digest, _, _ in instance.groups),
                {
                    name: value["length"] if is_reference(value) else repr(value)
                    for name, value in instance.own.items()
                },
                instance.to_p10(),
            )
            for key, instance in study.items()
        }  # fmt: skip


def assert_restored(archive: Path, files: Iterable[tuple[str, bytes]]) -> None:
    assert dicomstudy.verify(archive).problems == []
    with dicomstudy.open_archive(archive)[STUDY] as study:
        found = {instance.to_p10() for instance in study.values()}
    assert {content for _, content in files} <= found


# -- the law ---------------------------------------------------------------------------------


@given(st.lists(studies.batches(), max_size=3))
def test_what_was_left_on_disk_is_there_again(batches: list[Batch]) -> None:
    with TemporaryDirectory() as folder:
        for batch in batches:
            leave_on_disk(Path(folder) / "study", batch)
        found = list(left_on_disk(Path(folder) / "study"))
        assert list(map(as_text, found)) == list(map(as_text, batches))


def as_text(batch: Batch) -> str:
    """All that a batch says, as text: nan is not equal to itself."""
    rows = [tuple(row) for row in batch.rows]
    return repr((batch.contents, rows, batch.bases, batch.entries))


@given(st.randoms(use_true_random=False), st.integers(10, 24))
def test_what_comes_in_portions_is_what_comes_at_once(chance: random.Random, size: int) -> None:
    kinds = {name: chance.choice([1, 1, 2, 3]) for name in PLACES}
    absent = {name: chance.choice([0, 0, 0.05, 0.5]) for name in PLACES}
    files = [
        file_of(
            at,
            *(
                PLACES[name](LARGE[chance.randrange(1000) % kinds[name]])
                for name in PLACES
                if chance.random() >= absent[name]
            ),
            series=chance.choice(["1.2.3.4", "1.2.3.4", "1.2.3.5"]),
        )
        for at in range(size)
    ]
    chance.shuffle(files)
    copied: set[str] = set()
    with small_chunks(chance.choice([2, 4, 100])), TemporaryDirectory() as name:
        folder = Path(name)
        first = chance.randrange(size // 2, size)
        parts = [files[:first], *([each] for each in files[first:])]
        for at, part in enumerate(parts):
            bulk = chance.choice(["copy", "reference"])
            convert(folder / "a", f"part {at}", part, bulk)
            copied |= {sha256_of(each) for _, each in part if bulk == "copy"}
        convert(folder / "b", "all", files, "copy")
        assert said(folder / "a") == said(folder / "b")
        assert dicomstudy.verify(folder / "a").problems == []
        dicomstudy.collect(folder / "a", remove=True)
        for at in range(len(parts)):
            shutil.rmtree(folder / f"part {at}")
        with dicomstudy.open_archive(folder / "a")[STUDY] as study:
            found = [i.to_p10() for i in study.values() if i.source.sha256 in copied]
        assert len(found) == len(copied)


# -- where large values are --------------------------------------------------------------------


@pytest.mark.parametrize("late", [0, 15])
@pytest.mark.parametrize("bulk", ["copy", "reference"])
def test_large_values_that_a_late_instance_moves_into_groups_keep_their_place(
    tmp_path: Path, late: int, bulk: str
) -> None:
    """Two values are own among 15 instances, and slow among 16."""
    files = [file_of(at, element(0x00091001, "OB", LARGE[at % 2])) for at in range(16)]
    archive = tmp_path / "archive"
    convert(archive, "first", files[:late] + files[late + 1 :], bulk)
    convert(archive, "late", [files[late]], bulk)
    assert_restored(archive, files)
    dicomstudy.collect(archive, remove=True)
    assert_restored(archive, files)


@pytest.mark.parametrize("chunks", [4, 256])
@pytest.mark.parametrize("name", PLACES)
def test_a_value_that_was_copied_stays_if_a_late_one_is_in_a_file(
    tmp_path: Path, name: str, chunks: int
) -> None:
    archive = tmp_path / "archive"
    files = [file_of(at, PLACES[name](LARGE[0])) for at in range(17)]
    files[8] = file_of(8, PLACES[name](LARGE[0]), element(0x00180060, "DS", "80"))
    with small_chunks(chunks):
        convert(archive, "first", files[:8] + files[9:], "copy")
        late = convert(archive, "late", [files[8]], "reference")
        dicomstudy.collect(archive, remove=True)
        shutil.rmtree(late)
        with dicomstudy.open_archive(archive)[STUDY] as study:
            found = {i.to_p10() for i in study.values() if i.source.modified is None}
        assert len(found) >= 16


@pytest.mark.parametrize("chunks", [4, 256])
@pytest.mark.parametrize("name", PLACES)
def test_a_late_value_that_is_copied_needs_no_file(tmp_path: Path, name: str, chunks: int) -> None:
    archive = tmp_path / "archive"
    files = [file_of(at, PLACES[name](LARGE[0])) for at in range(17)]
    with small_chunks(chunks):
        first = convert(archive, "first", files[:8] + files[9:], "reference")
        convert(archive, "late", [files[8]], "copy")
    shutil.rmtree(first)
    with dicomstudy.open_archive(archive)[STUDY] as study:
        assert study["1.2.3.4.8"].to_p10() == files[8][1]


def test_a_group_that_no_instance_has_any_more_is_none_of_the_study(tmp_path: Path) -> None:
    """The only group of its name, shared by two series, that both come to have no more."""
    archive = tmp_path / "archive"
    kvp = element(0x00180060, "DS", "80")
    files = [file_of(at, kvp, series=f"1.2.3.{at % 2}") for at in range(12)]
    convert(archive, "first", files, "copy")
    files += [file_of(at, series=f"1.2.3.{at % 2}") for at in (12, 13)]
    for at in (12, 13):
        convert(archive, f"late {at}", [files[at]], "copy")
    with dicomstudy.open_archive(archive)[STUDY] as study:
        assert all(study.groups.values())
    convert(tmp_path / "other", "all", files, "copy")
    assert said(archive) == said(tmp_path / "other")


def test_a_file_takes_the_place_of_no_record_that_says_it_is_elsewhere(tmp_path: Path) -> None:
    """A record that names another series than the file whose SHA-256 it has.

    That cannot be told where a value stays in the file.
    """
    archive = tmp_path / "archive"
    folder = studies.write_files(tmp_path / "files", [file_of(1)])
    dicomstudy.write_records([folder], tmp_path / "records", max_inline=1)
    (path,) = (tmp_path / "records").iterdir()
    record = ion.loads(path.read_bytes())
    record["dataSet"]["SeriesInstanceUID"] = "1.2.3.9"
    path.write_bytes(ion.dumps(record))
    dicomstudy.convert([path], archive, bulk="reference")
    dicomstudy.convert([folder], archive)
    with dicomstudy.open_archive(archive)[STUDY] as study:
        said = {each.series: each.attributes()["SeriesInstanceUID"] for each in study.values()}
    assert said == {"1.2.3.4": "1.2.3.4", "1.2.3.9": "1.2.3.9"}
