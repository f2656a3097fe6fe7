"""Going back is exact (spec/history.md)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dicomstudy
from dicomstudy import ion
from dicomstudy.bulk import BulkReader
from dicomstudy.errors import ArchiveError, DicomStudyError
from fixtures import make
from fixtures.make import element
from tests import studies
from tests.p10_files import file_of

CT = make.uid("ct")
FILES = [(f"{n}.dcm", make.ct_slice("ct", 1, n)) for n in range(6)]


@pytest.fixture
def add(tmp_path: Path) -> Callable[..., Path]:
    """Converts some of the files, and gives the archive."""

    def convert(*numbers: int) -> Path:
        folder = studies.write_files(tmp_path / f"in {numbers}", [FILES[n] for n in numbers])
        dicomstudy.convert([folder], tmp_path / "archive")
        return tmp_path / "archive"

    return convert


def content(archive: Path, uid: str = CT) -> dict[str, Any]:
    """All that a study says but where its large values are, and the files that it gives."""
    with dicomstudy.open_archive(archive)[uid] as study:
        instances = {
            key: (instance.series, instance.groups, instance.to_json(), instance.to_p10())
            for key, instance in study.items()
        }
        return {"digest": study.digest, "groups": study.groups, "instances": instances}


def test_a_new_study_is_of_version_1(add: Callable[..., Path]) -> None:
    archive = add(0, 1)
    (version,) = dicomstudy.history(archive, CT)
    assert (version.number, version.command, version.added) == (1, "convert", 2)
    with dicomstudy.open_archive(archive)[CT] as study:
        assert study.version == 1


def test_instances_that_come_late_make_a_version_and_equal_ones_none(
    add: Callable[..., Path],
) -> None:
    archive = add(0, 1)
    add(0, 2)
    before = studies.state_of(archive)
    assert add(1, 2) == archive
    assert studies.state_of(archive) == before
    first, second = dicomstudy.history(archive, CT)
    history = dicomstudy.open_archive(archive)[CT].history
    assert [*history] == [history[1], history[2]] == [first, second]
    assert [*reversed(history)] == [second, first]
    assert len(history) == 2
    assert (first.added, second.added, second.number, second.command) == (2, 1, 2, "convert")
    assert second.when >= first.when > "2026"


def test_going_back_is_exact(add: Callable[..., Path]) -> None:
    archive = add(0, 1)
    states = {1: content(archive)}
    add(2, 3)
    states[2] = content(archive)
    add(4)
    states[3] = content(archive)
    for to in (1, 2, 3, 4, 3):  # version 4 went back to 1
        versions = dicomstudy.revert(archive, CT, to=to)
        states[versions[-1].number] = states[to]
        assert versions[-1].to == to
        assert content(archive) == states[to]
        assert dicomstudy.verify(archive).problems == []


def test_the_digest_is_that_of_a_study_of_these_instances(
    add: Callable[..., Path], tmp_path: Path
) -> None:
    """What is retired leaves no trace in what is there."""
    archive = add(0, 1)
    add(2, 3, 4, 5)
    dicomstudy.revert(archive, CT, to=1)
    folder = studies.write_files(tmp_path / "again", FILES[:2])
    dicomstudy.convert([folder], tmp_path / "other")
    assert content(archive) == content(tmp_path / "other")


def test_what_went_out_comes_in_again(add: Callable[..., Path]) -> None:
    archive = add(0, 1)
    add(2)
    both = content(archive)
    dicomstudy.revert(archive, CT, to=1)
    size = studies.state_of(archive)
    bulk = {name: len(data) for name, data in size.items() if name.endswith(".bulk")}
    add(2)
    assert content(archive) == both
    after = studies.state_of(archive)
    assert {name: len(after[name]) for name in bulk} == bulk  # its values were there
    assert [version.added for version in dicomstudy.history(archive, CT)] == [2, 1, 0, 1]


def test_going_back_to_what_is_there_writes_nothing(add: Callable[..., Path]) -> None:
    archive = add(0)
    add(1)
    dicomstudy.revert(archive, CT, to=1)
    before = studies.state_of(archive)
    for to in (1, 3):
        assert dicomstudy.revert(archive, CT, to=to)[-1].number == 3
    assert studies.state_of(archive) == before


@pytest.mark.parametrize("to", [0, -1, 3])
def test_an_unknown_version_is_refused(to: int, add: Callable[..., Path]) -> None:
    archive = add(0)
    add(1)
    refused(archive, "archive/no-version", lambda: dicomstudy.revert(archive, CT, to=to))


@pytest.mark.parametrize("to", [True, np.True_, 1.0, "1", None])
def test_what_is_no_number_of_a_version_is_refused(to: Any, add: Callable[..., Path]) -> None:
    archive = add(0)
    add(1)
    refused(archive, "change/value", lambda: dicomstudy.revert(archive, CT, to=to))


def test_any_integer_is_a_number_of_a_version(add: Callable[..., Path]) -> None:
    archive = add(0)
    add(1)
    assert dicomstudy.revert(archive, CT, to=np.int64(1))[-1].to == 1
    assert dicomstudy.verify(archive).problems == []
    assert [type(version.to) for version in dicomstudy.history(archive, CT)[2:]] == [int]


def test_a_study_that_moved_on_is_refused(add: Callable[..., Path]) -> None:
    archive = add(0)
    add(1)
    refused(archive, "archive/moved-on", lambda: dicomstudy.revert(archive, CT, to=1, expect=1))
    assert dicomstudy.revert(archive, CT, to=1, expect=2)[-1].number == 3


def test_an_unknown_study_is_refused(add: Callable[..., Path]) -> None:
    archive = add(0)
    refused(archive, "archive/not-found", lambda: dicomstudy.revert(archive, "../x", to=1))
    refused(archive, "archive/not-found", lambda: dicomstudy.history(archive, "1.2"))
    none: Any = None
    for change in (
        lambda: dicomstudy.revert(archive, none, to=1),
        lambda: dicomstudy.delete(archive, none),
        lambda: dicomstudy.update(archive, none, [{"set": {"PatientID": "1"}}]),
        lambda: dicomstudy.resolve(archive, none, group="patient", keep="0"),
    ):
        refused(archive, "archive/not-found", change)
    refused(archive, "archive/not-found", lambda: dicomstudy.collect(archive, study="1.2"))


def refused(archive: Path, code: str, change: Callable[[], object]) -> None:
    """A change that is refused changes nothing."""
    before = studies.state_of(archive)
    with pytest.raises(DicomStudyError) as raised:
        change()
    assert raised.value.code == code
    assert isinstance(raised.value, ArchiveError) == code.startswith("archive/")
    assert studies.state_of(archive) == before


# -- deleting ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "left"),
    [
        ({}, set()),
        ({"series": make.uid("ct/1")}, {make.uid("ct/2/1"), make.uid("ct/2/2")}),
        ({"instance": make.uid("ct/1/1")}, {make.uid("ct/1/2"), make.uid("ct/2/1"),
                                            make.uid("ct/2/2")}),
        ({"series": make.uid("ct/1"), "instance": make.uid("ct/1/2")},
         {make.uid("ct/1/1"), make.uid("ct/2/1"), make.uid("ct/2/2")}),
    ],
)  # fmt: skip
def test_what_is_deleted_is_out_and_comes_back(
    what: dict[str, Any], left: set[str], tmp_path: Path
) -> None:
    files = [(f"{s} {n}.dcm", make.ct_slice("ct", s, n)) for s in (1, 2) for n in (1, 2)]
    folder, archive = studies.write_files(tmp_path / "in", files), tmp_path / "archive"
    dicomstudy.convert([folder], archive)
    before = content(archive)
    versions = dicomstudy.delete(archive, CT, **what)
    assert (versions[-1].command, versions[-1].removed) == ("delete", 4 - len(left))
    after = content(archive)
    assert set(after["instances"]) == left
    assert dicomstudy.verify(archive).problems == []
    dicomstudy.revert(archive, CT, to=1)
    assert content(archive) == before
    dicomstudy.revert(archive, CT, to=2)
    assert content(archive) == after
    # as if they had never been there
    kept = [
        (name, data)
        for name, data in files
        if any(data == row[3] for row in after["instances"].values())
    ]
    if kept:
        dicomstudy.convert([studies.write_files(tmp_path / "kept", kept)], tmp_path / "other")
        assert content(tmp_path / "other") == after
    assert dicomstudy.convert([folder], archive).instances == 4 - len(left)
    assert content(archive) == before


def test_one_of_several_of_one_uid_is_deleted(tmp_path: Path) -> None:
    one = make.ct_slice("ct", 1, 1)
    other = one.replace(b"Example^", b"Exampel^")
    folder = studies.write_files(tmp_path / "in", [("a.dcm", one), ("b.dcm", other)])
    dicomstudy.convert([folder], tmp_path / "archive")
    with dicomstudy.open_archive(tmp_path / "archive")[CT] as study:
        (key,) = (key for key in study if "#" in key)
        kept = next(study[each].to_p10() for each in study if each != key)
    dicomstudy.delete(tmp_path / "archive", CT, instance=key)
    ((*_, file),) = content(tmp_path / "archive")["instances"].values()
    assert file == kept


def test_a_study_without_instances_goes_with_its_older_versions(add: Callable[..., Path]) -> None:
    archive = add(0, 1)
    dicomstudy.delete(archive, CT)
    assert dicomstudy.verify(archive).problems == []
    assert dicomstudy.collect(archive, remove=True) == dicomstudy.Collected()
    size = size_of(archive)
    collected = dicomstudy.collect(archive, older_versions=True, remove=True)
    assert (collected.studies, collected.versions, collected.instances) == (1, 1, 2)
    assert collected.bytes == size - size_of(archive)
    assert CT not in dicomstudy.open_archive(archive)
    assert not list(archive.rglob(f"{CT}*"))
    assert dicomstudy.verify(archive).problems == []
    add(2)
    assert len(content(archive)["instances"]) == 1


def test_what_is_not_there_is_not_deleted(add: Callable[..., Path]) -> None:
    archive = add(0, 1)
    for what in ({"series": "1.2"}, {"instance": "1.2"}, {"instance": f"{make.uid('ct/1/0')}#"}):
        refused(archive, "archive/not-found", lambda w=what: dicomstudy.delete(archive, CT, **w))  # type: ignore[misc]
    refused(archive, "archive/not-found", lambda: dicomstudy.delete(archive, "1.2"))
    refused(archive, "archive/moved-on", lambda: dicomstudy.delete(archive, CT, expect=2))
    dicomstudy.delete(archive, CT)
    refused(archive, "archive/not-found", lambda: dicomstudy.delete(archive, CT))


# -- collecting --------------------------------------------------------------------------------


def size_of(archive: Path) -> int:
    return sum(map(len, studies.state_of(archive).values()))


def test_nothing_is_collected_of_what_versions_refer_to(add: Callable[..., Path]) -> None:
    archive = add(0)
    add(1)
    dicomstudy.revert(archive, CT, to=1)
    before = studies.state_of(archive)
    assert dicomstudy.collect(archive, remove=True) == dicomstudy.Collected()
    assert studies.state_of(archive) == before


@pytest.mark.parametrize("remove", [False, True])
def test_what_killed_runs_left_is_collected(remove: bool, add: Callable[..., Path]) -> None:
    archive = add(0)
    clean = content(archive)
    path = dicomstudy.open_archive(archive).bulk_path(CT)
    with path.open("ab") as file:
        file.write(bytes(1000))
    left = path.with_name("1.2.3.bulk")
    left.write_bytes(bytes(100))
    before = size_of(archive)
    collected = dicomstudy.collect(archive, remove=remove)
    assert (collected.studies, collected.versions, collected.files) == (1, 0, 1)
    assert abs(collected.bytes - 1100) < 20  # the header names the new file
    assert before - size_of(archive) == (collected.bytes if remove else 0)
    assert left.exists() is not remove
    assert content(archive) == clean
    assert dicomstudy.verify(archive).problems == []


@pytest.mark.parametrize("remove", [False, True])
def test_older_versions_are_collected_if_they_are_to_be(
    remove: bool, add: Callable[..., Path]
) -> None:
    archive = add(0, 1)
    add(2, 3)
    dicomstudy.revert(archive, CT, to=1)
    now, before = content(archive), size_of(archive)
    collected = dicomstudy.collect(archive, older_versions=True, remove=remove)
    assert (collected.studies, collected.versions, collected.instances) == (1, 2, 2)
    assert collected.bytes > 0
    assert before - size_of(archive) == (collected.bytes if remove else 0)
    assert content(archive) == now
    assert dicomstudy.verify(archive).problems == []
    if not remove:
        return
    (version,) = dicomstudy.history(archive, CT)
    assert (version.number, version.command) == (4, "collect")
    refused(archive, "archive/no-version", lambda: dicomstudy.revert(archive, CT, to=1))
    (bulk,) = archive.rglob("*.bulk")
    assert bulk.name == f"{CT}-1.bulk"
    add(2)
    assert [version.number for version in dicomstudy.history(archive, CT)] == [4, 5]
    assert len(content(archive)["instances"]) == 3
    dicomstudy.revert(archive, CT, to=4)
    assert content(archive) == now
    assert dicomstudy.verify(archive).problems == []


def test_what_is_collected_may_have_to_be_of_a_version(add: Callable[..., Path]) -> None:
    archive = add(0)
    dicomstudy.delete(archive, CT)
    dicomstudy.revert(archive, CT, to=1)
    collect = partial(dicomstudy.collect, archive, older_versions=True, remove=True)
    refused(archive, "archive/moved-on", partial(collect, study=CT, expect=2))
    with pytest.raises(DicomStudyError) as raised:
        collect(expect=3)
    assert raised.value.code == "change/fields"
    assert collect(study=CT, expect=3).versions == 2


def test_a_reader_keeps_what_it_opened(add: Callable[..., Path]) -> None:
    """Even if another study of the same name takes the place of that which it reads."""
    archive = add(0)
    before = content(archive)["instances"]
    with dicomstudy.open_archive(archive)[CT] as study:
        dicomstudy.delete(archive, CT)
        dicomstudy.collect(archive, older_versions=True, remove=True)
        add(1)
        assert {key: instance.to_p10() for key, instance in study.items()} == {
            key: file for key, (*_, file) in before.items()
        }
    assert content(archive)["instances"].keys() != before.keys()


def test_a_document_is_opened_with_the_bulk_file_that_is_its_own(
    add: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is replaced after it was opened, and before its bulk file is."""
    archive = add(0)
    first = dicomstudy.open_archive(archive)

    def replaced_first(path: Path, *, length: int) -> BulkReader:
        monkeypatch.undo()
        dicomstudy.delete(archive, CT)
        dicomstudy.collect(archive, older_versions=True, remove=True)
        add(1)
        return BulkReader(path, length=length)

    monkeypatch.setattr("dicomstudy.study.studies.BulkReader", replaced_first)
    with first[CT] as study:
        assert [instance.to_p10() for instance in study.values()] == [FILES[1][1]]


def test_a_collection_that_was_killed_is_done_again(add: Callable[..., Path]) -> None:
    """Killed when the new bulk file was half written."""
    archive = add(0)
    path = dicomstudy.open_archive(archive).bulk_path(CT)
    with path.open("ab") as file:
        file.write(bytes(1000))
    path.with_name(f"{CT}-1.bulk").write_bytes(b"DCMBULK1half")
    assert dicomstudy.verify(archive).problems == []
    dicomstudy.collect(archive, remove=True)
    assert dicomstudy.verify(archive).problems == []
    assert dicomstudy.collect(archive) == dicomstudy.Collected()


def file_with(number: int, vr: str, value: bytes) -> bytes:
    """A file of one study with a large private value."""
    return file_of(
        element(0x00080016, "UI", b"1.2.840.10008.5.1.4.1.1.7\0"),
        element(0x00080018, "UI", b"1.2.3.4.%d\0" % number),
        element(0x00090010, "LO", b"ME"),
        element(0x00091001, vr, value),
        element(0x0020000D, "UI", b"1.2.3\0"),
        element(0x0020000E, "UI", b"1.2.3.4\0"),
    )


def test_a_value_may_lie_in_several_places(tmp_path: Path) -> None:
    """Copied, referred to, and copied with other words: collecting mixes none of them up."""
    value = b"".join((number // 7).to_bytes(2, "little") for number in range(30_000))
    files = {number: file_with(number, "OW" if number == 3 else "OB", value) for number in range(4)}
    files |= {number: file_with(number, "OB", bytes([number]) * 5000) for number in (4, 5)}
    archive = tmp_path / "archive"
    for numbers, bulk in (((1, 4, 5), "copy"), ((2,), "reference"), ((3,), "copy")):
        folder = tmp_path / f"in {numbers}"
        studies.write_files(folder, [(f"{number}.dcm", files[number]) for number in numbers])
        dicomstudy.convert([folder], archive, bulk=bulk)
    for _ in range(2):
        with dicomstudy.open_archive(archive)["1.2.3"] as study:
            for number in range(1, 6):
                assert study[f"1.2.3.4.{number}"].to_p10() == files[number]
        dicomstudy.collect(archive, remove=True)
    assert not dicomstudy.verify(archive).problems


def test_a_record_never_takes_the_place_of_what_was_proved(tmp_path: Path) -> None:
    archive, records = tmp_path / "archive", tmp_path / "records"
    studies.write_files(tmp_path / "in", [("a.dcm", file_with(1, "OB", b"ab"))])
    dicomstudy.convert([tmp_path / "in"], archive)
    dicomstudy.write_records([tmp_path / "in"], records, max_inline=1)
    (path,) = records.rglob("*.ion")
    record = ion.loads(path.read_bytes())
    record["dataSet"]["00090010"] = "MY"
    path.write_bytes(ion.dumps(record))
    dicomstudy.delete(archive, "1.2.3")
    assert dicomstudy.convert([records], archive, bulk="reference").instances == 1
    with dicomstudy.open_archive(archive)["1.2.3"] as study:
        (instance,) = study.values()
        assert instance.to_p10() == file_with(1, "OB", b"ab")
    assert [version.command for version in dicomstudy.history(archive, "1.2.3")] == [
        "convert",
        "delete",
        "convert",
    ]
