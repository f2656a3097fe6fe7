"""Documents as other programs may write them, by the pages on studies and bulk files.

They are read as ours are, and what is written of them loses nothing.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dicomstudy
from dicomstudy import ion
from dicomstudy.document import references_in
from fixtures import make
from tests.studies import digests_of, write_files
from tests.test_broken_documents import Broken, Change

CT = make.uid("ct")
PLACE = ("offset", "stored", "chunk", "word", "dataOffset")


def comments(number: int) -> bytes:
    """A slice with large text in a group of the seed's, and in one of ours."""
    long = {tag: make.element(tag, "LT", f"{tag:X} " * 40) for tag in (0x00104000, 0x00204000)}
    return make.ct_slice("ct", 1, number, replace=long)


@pytest.fixture(params=["copy", "reference"])
def other(tmp_path: Path, request: pytest.FixtureRequest) -> Broken:
    """An archive of ten slices, and two more that come late."""
    write_files(tmp_path / "in", ((f"{n}.dcm", comments(n)) for n in range(1, 11)))
    write_files(tmp_path / "late", ((f"{n}.dcm", comments(n)) for n in (11, 12)))
    dicomstudy.convert([tmp_path / "in"], tmp_path / "archive", bulk=request.param)
    return Broken(tmp_path / "archive", tmp_path / "late")


def files(archive: Path) -> list[bytes]:
    """The P10 files of the study."""
    with dicomstudy.open_archive(archive)[CT] as study:
        return [instance.to_p10() for instance in study.values()]


def with_attributes_of(group: str, *keywords: str) -> Change:
    """Let instances have attributes by themselves that belong to a group."""

    def change(values: list[dict[str, Any]]) -> None:
        ((digest, content),) = values[-1]["groups"][group].items()
        own = {keyword: content.pop(keyword) for keyword in keywords}
        values[-1]["_groups"].remove(digest)
        del values[-1]["groups"][group]
        if content:
            values[-1]["groups"][group] = {ion.ion_hash_hex(content): content}
            values[-1]["_groups"].append(ion.ion_hash_hex(content))
        for instance in values[-1]["instances"].values():
            instance.update(own)

    return change


@pytest.mark.parametrize("whole", [False, True])
def test_attributes_of_a_seed_group_may_stand_with_instances(
    whole: bool, other: Broken, tmp_path: Path
) -> None:
    """Who writes the study anew forms the group of all that it lists (spec/grouping.md)."""
    (group,) = other.values()[-1]["groups"]["generalStudy"].values()
    taken = [*group] if whole else ["StudyDescription"]
    other.rewrite(with_attributes_of("generalStudy", *taken))
    assert other.codes() == set()
    dicomstudy.convert([other.late], other.archive)
    assert other.codes() == set()
    dicomstudy.convert([tmp_path / "in", other.late], tmp_path / "ours", bulk="reference")
    assert digests_of(other.archive) == digests_of(tmp_path / "ours")


@pytest.mark.parametrize("keywords", [["PatientName"], ["PatientName", "PatientID"]])
def test_studies_are_deidentified_whose_groups_are_not_whole(
    keywords: list[str], other: Broken, tmp_path: Path
) -> None:
    def deidentified(archive: Path, destination: Path) -> dict[str, str]:
        dicomstudy.deidentify(archive, destination, key=b"k" * 32)
        assert dicomstudy.verify(destination).problems == []
        return digests_of(destination)

    expected = deidentified(other.archive, tmp_path / "expected")
    other.rewrite(with_attributes_of("patient", *keywords))
    assert deidentified(other.archive, tmp_path / "found") == expected


def test_an_attribute_that_stands_twice_is_not_made_one(other: Broken) -> None:
    def change(values: list[dict[str, Any]]) -> None:
        for instance in values[-1]["instances"].values():
            instance["StudyDescription"] = "another"

    document = other.rewrite(change).document.read_bytes()
    assert [p.code for p in dicomstudy.convert([other.late], other.archive).problems] == [
        "record/ambiguous"
    ]
    assert other.document.read_bytes() == document
    assert "record/ambiguous" in other.codes()


def moved_places(values: list[dict[str, Any]]) -> None:
    """Let the table of the chunk say where all values lie, and none say so itself."""
    for reference in _own_references(values):
        if "sha256" in reference:
            place = {name: reference.pop(name) for name in PLACE if name in reference}
            values[-1]["bulk"][reference["sha256"]] = place


def _own_references(values: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for instance in values[-1]["instances"].values():
        yield from references_in([*instance.values()])


@pytest.mark.parametrize("other", ["copy"], indirect=True)
def test_places_of_own_values_may_stand_in_the_table(other: Broken, tmp_path: Path) -> None:
    """Also once the study was in tables, and where the files are gone."""
    expected = files(other.archive)
    other.rewrite(moved_places)
    assert files(other.archive) == expected
    dicomstudy.export_tables(other.archive, tmp_path / "tables")
    dicomstudy.open_tables(tmp_path / "tables").to_archive(tmp_path / "again", bulk=other.archive)
    shutil.rmtree(tmp_path / "in")
    assert files(tmp_path / "again") == expected


@pytest.mark.parametrize("other", ["reference"], indirect=True)
def test_places_in_the_own_file_may_be_left_out(other: Broken) -> None:
    """The layout says them, until there is another one (spec/bulk.md)."""

    def change(values: list[dict[str, Any]]) -> None:
        for frame in values[1:]:
            frame["bulk"] = {}

    expected = files(other.archive)
    other.rewrite(change)
    assert files(other.archive) == expected
    dicomstudy.update(other.archive, CT, [{"set": {"StudyID": "7"}}])
    changed = files(other.archive)
    assert changed != expected
    dicomstudy.collect(other.archive, older_versions=True, remove=True)
    assert files(other.archive) == changed
    assert other.codes() == set()
