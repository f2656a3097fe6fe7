"""Instances in another study or series (spec/moving.md)."""

from __future__ import annotations

import errno
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

import dicomstudy
from dicomstudy import ion
from dicomstudy.cli import main
from dicomstudy.document import Document, whole, with_history
from dicomstudy.errors import DicomStudyError
from dicomstudy.lineage import History
from dicomstudy.study import Study
from fixtures import make
from fixtures.make import element, uid
from tests import processes, studies
from tests.movable import (
    BEN,
    S1,
    S2,
    T1,
    S,
    T,
    added,
    all_is_well,
    archive_bulk,
    archive_in,
    keys,
    of,
    originals,
    slices,
)
from tests.strategies import DEFINITIONS
from tests.test_versioning import content

Refused = Callable[[str, Callable[[], object]], None]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return archive_in(tmp_path)


@pytest.fixture
def refused(archive: Path) -> Refused:
    """A change that is refused, which changes nothing."""

    def check(code: str, change: Callable[[], object]) -> None:
        before = studies.state_of(archive)
        with pytest.raises(DicomStudyError) as raised:
            change()
        assert raised.value.code == code
        assert studies.state_of(archive) == before

    return check


def datasets(archive: Path, study: str, series: str | None = None) -> list[Dataset]:
    with dicomstudy.open_archive(archive)[study] as opened:
        found = [each for each in opened.values() if series in {None, each.series}]
        return [instance.to_dataset() for instance in found]


# -- move --------------------------------------------------------------------------------------


def test_a_series_goes_to_another_study(archive: Path, tmp_path: Path) -> None:
    moved = dicomstudy.move(archive, S, series=S2, to_study=T)
    assert (moved.study, moved.series, moved.instances) == (T, (S2,), 2)
    assert keys(archive, S) == {S1: of(S1, 1, 2, 3)}
    assert keys(archive, T) == {T1: of(T1, 1, 2), S2: of(S2, 1, 2)}
    all_is_well(archive)
    for dataset in datasets(archive, T, S2):
        assert (dataset.PatientName, dataset.PatientID) == ("Example^Ben", "EX-0002")
        assert (dataset.StudyDescription, dataset.AccessionNumber) == ("CT HEAD", "B0002")
        assert dataset.SeriesDescription == "CHEST BONE 2"
        (item,) = dataset.OriginalAttributesSequence
        (before,) = item.ModifiedAttributesSequence
        assert (before.StudyInstanceUID, before.PatientName) == (S, "Example^Ann")
        assert "SeriesInstanceUID" not in before
    assert originals(archive) == {data for _, data in slices()}
    dicomstudy.restore(archive, tmp_path / "out", study=T, original=True)
    restored = {path.read_bytes() for path in (tmp_path / "out" / T / S2).iterdir()}
    assert restored == {data for name, data in slices() if name.startswith("s2")}
    source, target = (dicomstudy.history(archive, study)[-1] for study in (S, T))
    assert (source.command, source.removed, source.to_study) == ("move", 2, T)
    assert (target.command, target.added, target.from_study) == ("move", 2, S)
    assert (moved.version, moved.target_version) == (source, target)
    assert dicomstudy.conflicts(archive) == []


def test_attributes_become_those_of_most_instances(archive: Path) -> None:
    late = make.ct_slice("t", 1, 3)  # of another patient
    dicomstudy.convert([studies.write_files(archive.parent / "late", [("a", late)])], archive)
    dicomstudy.move(archive, S, series=S2, to_study=T)
    assert {str(each.PatientName) for each in datasets(archive, T, S2)} == {"Example^Ben"}
    assert all("PatientSize" not in each for each in datasets(archive, T, S2))


def test_what_the_target_has_not_goes(archive: Path) -> None:
    dicomstudy.update(archive, T, [{"remove": ["PatientSex", "PatientAge", "PatientWeight"]}])
    dicomstudy.move(archive, S, series=S2, to_study=T)
    for dataset in datasets(archive, T, S2):
        assert "PatientSex" not in dataset
        assert "PatientWeight" not in dataset
        (before,) = dataset.OriginalAttributesSequence[0].ModifiedAttributesSequence
        assert (before.PatientSex, before.PatientWeight) == ("F", 61.5)
    all_is_well(archive)


def test_attributes_stay_where_they_are_to_be_kept(archive: Path) -> None:
    dicomstudy.move(archive, S, series=S2, to_study=T, keep_attributes=True)
    all_is_well(archive)
    assert {str(each.PatientName) for each in datasets(archive, T, S2)} == {"Example^Ann"}
    assert [conflict.group for conflict in dicomstudy.conflicts(archive, study=T)][:1] != []


def test_a_target_without_instances_gives_no_attributes(archive: Path) -> None:
    dicomstudy.delete(archive, T)
    dicomstudy.move(archive, S, series=S2, to_study=T)
    all_is_well(archive)
    assert {str(each.PatientName) for each in datasets(archive, T)} == {"Example^Ann"}


def test_a_part_of_a_series_gets_a_series_of_its_own(archive: Path) -> None:
    moved = dicomstudy.move(archive, S, instance=uid("s/1/2"), to_study=T)
    (series,) = moved.series
    assert re.fullmatch(r"2\.25\.[0-9]{30,39}", series)
    assert keys(archive, S)[S1] == of(S1, 1, 3)
    assert keys(archive, T)[series] == of(S1, 2)
    all_is_well(archive)
    (dataset,) = datasets(archive, T, series)
    (before,) = dataset.OriginalAttributesSequence[0].ModifiedAttributesSequence
    assert before.SeriesInstanceUID == S1


@pytest.mark.parametrize("to", [T1, "1.2.3.4"])
def test_a_series_may_be_named(to: str, archive: Path) -> None:
    dicomstudy.move(archive, S, instance=uid("s/1/2"), to_study=T, to_series=to)
    dicomstudy.move(archive, S, series=S2, to_study=T, to_series=to)
    assert keys(archive, T)[to] >= of(S1, 2) | of(S2, 1, 2)
    all_is_well(archive)


def test_instances_change_their_series_within_a_study(archive: Path) -> None:
    first = content(archive, S)
    dicomstudy.update(archive, S, [{"set": {"ImageComments": "one"}, "series": S1}])
    before = content(archive, S)
    moved = dicomstudy.move(archive, S, instance=uid("s/1/2"), to_study=S, to_series=S2)
    assert moved.version == moved.target_version
    assert (moved.version.added, moved.version.removed) == (1, 1)
    assert keys(archive, S) == {S1: of(S1, 1, 3), S2: of(S2, 1, 2) | of(S1, 2)}
    all_is_well(archive)
    dicomstudy.update(archive, S, [{"set": {"ImageComments": "two"}, "series": S2}])
    by_uid = {each.SOPInstanceUID: each for each in datasets(archive, S)}
    assert by_uid[uid("s/1/1")].ImageComments == "one"
    assert by_uid[uid("s/1/2")].ImageComments == "two"
    assert len(by_uid[uid("s/1/2")].OriginalAttributesSequence) == 3
    all_is_well(archive)
    dicomstudy.move(archive, S, instance=uid("s/1/2"), to_study=S, to_series=S1)
    assert keys(archive, S)[S1] == of(S1, 1, 2, 3)
    all_is_well(archive)
    for to, state in ((2, before), (1, first)):
        dicomstudy.revert(archive, S, to=to)
        assert content(archive, S) == state
        all_is_well(archive)


def test_a_series_is_renamed_and_joined(archive: Path) -> None:
    dicomstudy.move(archive, S, series=S1, to_study=S, to_series="1.2.3.4")
    assert keys(archive, S) == {"1.2.3.4": of(S1, 1, 2, 3), S2: of(S2, 1, 2)}
    dicomstudy.move(archive, S, series="1.2.3.4", to_study=S, to_series=S2)
    assert keys(archive, S) == {S2: of(S1, 1, 2, 3) | of(S2, 1, 2)}
    all_is_well(archive)


# -- merge and split ---------------------------------------------------------------------------


def test_a_study_becomes_part_of_another(archive: Path) -> None:
    before = content(archive, S), content(archive, T)
    moved = dicomstudy.merge(archive, S, into=T)
    assert (moved.instances, moved.version.command) == (5, "merge")
    assert keys(archive, S) == {}
    assert keys(archive, T) == {T1: of(T1, 1, 2), S1: of(S1, 1, 2, 3), S2: of(S2, 1, 2)}
    all_is_well(archive)
    assert len(moved.target_version.brought) == 1
    after = content(archive, T)
    dicomstudy.revert(archive, S, to=1)  # now they are in both
    assert (content(archive, S), content(archive, T)) == (before[0], after)
    dicomstudy.revert(archive, T, to=1)
    assert (content(archive, S), content(archive, T)) == before
    dicomstudy.revert(archive, T, to=2)
    assert content(archive, T) == after
    all_is_well(archive)


def test_a_part_becomes_a_study(archive: Path) -> None:
    before = content(archive, S)
    moved = dicomstudy.split(archive, S, series=[S2], instances=[uid("s/1/3")])
    assert re.fullmatch(r"2\.25\.[0-9]{30,39}", moved.study)
    assert len(moved.series) == 2
    found = keys(archive, moved.study)
    assert found.pop(S2) == of(S2, 1, 2)
    assert list(found.values()) == [of(S1, 3)]
    assert {str(each.PatientName) for each in datasets(archive, moved.study)} == {"Example^Ann"}
    all_is_well(archive)
    (version,) = dicomstudy.history(archive, moved.study)
    assert (version.number, version.command, version.from_study) == (1, "split", S)
    state = content(archive, moved.study)
    dicomstudy.update(archive, moved.study, [{"set": {"PatientName": "Another"}}])
    dicomstudy.revert(archive, moved.study, to=1)
    assert content(archive, moved.study) == state
    dicomstudy.revert(archive, S, to=1)
    assert content(archive, S) == before
    dicomstudy.collect(archive, study=moved.study, older_versions=True, remove=True)
    assert {key: row[3] for key, row in content(archive, moved.study)["instances"].items()} == {
        key: row[3] for key, row in state["instances"].items()
    }
    assert dicomstudy.collect(archive, study=moved.study, older_versions=True).studies == 0
    dicomstudy.delete(archive, moved.study)
    dicomstudy.collect(archive, older_versions=True, remove=True)
    assert set(dicomstudy.open_archive(archive)) == {S, T}


def test_what_a_new_study_was_is_collected_too(archive: Path) -> None:
    new = dicomstudy.split(archive, S, series=[S2]).study
    files = {row[3] for row in content(archive, new)["instances"].values()}
    dicomstudy.collect(archive, study=new, older_versions=True, remove=True)
    (version,) = dicomstudy.history(archive, new)
    assert (version.number, version.command, version.brought) == (2, "collect", ())
    assert {row[3] for row in content(archive, new)["instances"].values()} == files
    all_is_well(archive)


def test_a_study_is_split_and_merged_again(archive: Path) -> None:
    dicomstudy.split(archive, S, series=S2, new_study="1.2.3")
    dicomstudy.merge(archive, "1.2.3", into=S)
    assert keys(archive, S) == {S1: of(S1, 1, 2, 3), S2: of(S2, 1, 2)}
    all_is_well(archive)
    for dataset in datasets(archive, S, S2):
        first, second = dataset.OriginalAttributesSequence
        assert first.ModifiedAttributesSequence[0].StudyInstanceUID == S
        assert second.ModifiedAttributesSequence[0].StudyInstanceUID == "1.2.3"
    assert originals(archive) == {data for _, data in slices()}


# -- with other changes ------------------------------------------------------------------------


def test_what_was_changed_before_goes_with_it_and_is_changed_after(archive: Path) -> None:
    edits: list[dict[str, Any]] = [
        {"set": {"ImageComments": "all"}},
        {"set": {"Manufacturer": "Two"}, "series": S2},
        {"set": {"ImageComments": "one"}, "instance": uid("s/2/1")},
        {"set": {"ImageComments": "other"}, "instance": uid("s/1/1")},
    ]
    for edit in edits:
        dicomstudy.update(archive, S, [edit])
    dicomstudy.move(archive, S, series=S2, to_study=T)
    dicomstudy.update(archive, T, [{"set": {"PatientName": "Grün^山"}}])
    all_is_well(archive)
    one, two = sorted(datasets(archive, T, S2), key=lambda each: int(each.InstanceNumber))
    assert (one.ImageComments, two.ImageComments) == ("one", "all")
    for dataset, count in ((one, 5), (two, 4)):
        assert (dataset.Manufacturer, dataset.PatientName) == ("Two", "Grün^山")
        assert len(dataset.OriginalAttributesSequence) == count
    brought = dicomstudy.history(archive, T)[1].brought
    assert len(brought) == 2
    edits_brought = [edit for each in brought for made in each.versions for edit in made.edits]
    assert not any({"series", "instance"} & edit.keys() for edit in edits_brought)


def test_there_and_back(archive: Path) -> None:
    before = content(archive, S)
    dicomstudy.move(archive, S, series=S2, to_study=T)
    dicomstudy.move(archive, T, series=S2, to_study=S)
    assert keys(archive, S) == {S1: of(S1, 1, 2, 3), S2: of(S2, 1, 2)}
    for dataset in datasets(archive, S, S2):
        assert (dataset.PatientName, dataset.StudyDescription) == ("Example^Ann", "CT CHEST")
        assert len(dataset.OriginalAttributesSequence) == 2
    all_is_well(archive)
    size = archive_bulk(archive, S).stat().st_size
    dicomstudy.move(archive, S, series=S2, to_study=T)
    dicomstudy.move(archive, T, series=S2, to_study=S)
    assert archive_bulk(archive, S).stat().st_size == size  # its values are there
    dicomstudy.revert(archive, S, to=1)
    assert content(archive, S) == before


def test_older_versions_are_collected_of_both(archive: Path) -> None:
    dicomstudy.move(archive, S, series=S2, to_study=T)
    dicomstudy.merge(archive, S, into=T)
    files = {key: row[3] for key, row in content(archive, T)["instances"].items()}
    collected = dicomstudy.collect(archive, older_versions=True, remove=True)
    assert (collected.studies, collected.instances) == (2, 5)
    assert set(dicomstudy.open_archive(archive)) == {T}
    assert {key: row[3] for key, row in content(archive, T)["instances"].items()} == files
    all_is_well(archive)


def test_late_instances_stand_beside_moved_ones(archive: Path) -> None:
    more = [make.ct_slice("t", 1, n, replace=BEN) for n in range(3, 27)]
    added(archive, *more)
    dicomstudy.move(archive, S, series=S2, to_study=T)
    before = content(archive, T)["instances"]
    series = {0x0020000E: element(0x0020000E, "UI", S2)}
    for number, replace in ((27, BEN), (28, {**BEN, **series})):
        late = make.ct_slice("t", 1, number, replace=replace)
        folder = studies.write_files(archive.parent / f"late {number}", [("a", late)])
        assert dicomstudy.convert([folder], archive).instances == 1
        all_is_well(archive)
    assert keys(archive, T)[S2] == of(S2, 1, 2) | of(T1, 28)
    after = content(archive, T)["instances"]
    assert {key: after[key][2:] for key in before} == {key: row[2:] for key, row in before.items()}
    dicomstudy.update(archive, T, [{"set": {"SeriesDescription": "x"}, "series": S2}])
    assert {each.SeriesDescription for each in datasets(archive, T, S2)} == {"x"}
    dicomstudy.revert(archive, T, to=3)
    assert content(archive, T)["instances"] == before
    all_is_well(archive)


def test_a_history_in_readable_form_has_what_was_brought(archive: Path, tmp_path: Path) -> None:
    dicomstudy.move(archive, S, instance=uid("s/1/1"), to_study=T)
    path = dicomstudy.open_archive(archive).document_path(T)
    readable = whole(Document(path))
    (tmp_path / "readable.ion").write_bytes(ion.dumps(readable, text=True))
    with (
        Study(tmp_path / "readable.ion", definitions=DEFINITIONS) as again,
        dicomstudy.open_archive(archive)[T] as study,
    ):
        assert again.digest == study.digest
        assert again.history == study.history


def test_moved_instances_without_their_edits_are_damage(archive: Path) -> None:
    dicomstudy.move(archive, S, series=S2, to_study=T)
    path = dicomstudy.open_archive(archive).document_path(T)
    document = Document(path)
    first, second = document.history.versions
    history = History((first, second._replace(brought=())))
    path.write_bytes(b"".join(with_history(document, history)))
    problems = dicomstudy.verify(archive).problems
    assert [problem.code for problem in problems] == ["study/damaged"] * 2
    assert {problem.source for problem in problems} == {str(path)}


# -- large values ------------------------------------------------------------------------------


def test_large_values_are_copied_once(archive: Path) -> None:
    with dicomstudy.open_archive(archive)[S] as study:
        sizes = {sha256: sum(place["stored"]) for sha256, _, place in study.places()}
    before = archive_bulk(archive, T).stat().st_size
    dicomstudy.merge(archive, S, into=T)
    with dicomstudy.open_archive(archive)[T] as study:
        assert sizes.keys() <= {sha256 for sha256, _, _ in study.places()}
    grown = archive_bulk(archive, T).stat().st_size - before
    assert 0 < grown <= sum(sizes.values())
    dicomstudy.collect(archive, older_versions=True, remove=True)
    all_is_well(archive)


def test_values_in_files_stay_there(tmp_path: Path) -> None:
    folder, archive = studies.write_files(tmp_path / "in", slices()), tmp_path / "archive"
    dicomstudy.convert([folder], archive, bulk="reference")
    dicomstudy.move(archive, S, series=S2, to_study=T)
    dicomstudy.split(archive, S, instances=uid("s/1/1"), new_study="1.2.3")
    all_is_well(archive)
    assert not list(archive.rglob("*.bulk"))
    assert originals(archive) == {data for _, data in slices()}


def test_every_kind_of_file_is_moved(tmp_path: Path) -> None:
    """Deflated, big-endian, compressed, of several character sets; all become one study."""
    archive = tmp_path / "archive"
    dicomstudy.convert([Path(make.__file__).parent / "archive"], archive)
    before = originals(archive)
    target, *others = sorted(dicomstudy.open_archive(archive), key=len)
    dicomstudy.update(archive, target, [{"set": {"PatientName": "One"}}])
    for other in others:
        dicomstudy.merge(archive, other, into=target)
    with dicomstudy.open_archive(archive)[target] as study:
        assert len(study) == 37
        for instance in study.values():
            assert instance.attributes()["StudyInstanceUID"] == target
    assert originals(archive) == before
    assert dicomstudy.verify(archive).problems == []
    assert dicomstudy.verify(archive).instances == 37 * 2 - 4 * (target == uid("mr"))
    for conflict in dicomstudy.conflicts(archive):
        assert conflict.group == "instance" or conflict.series is not None


# -- what is there already ---------------------------------------------------------------------


def test_what_is_in_the_target_already_goes_out_of_the_source(archive: Path) -> None:
    """As after a run that was killed between the two."""
    dicomstudy.move(archive, S, instance=uid("s/1/1"), to_study=T)
    after = content(archive, S), content(archive, T)
    dicomstudy.revert(archive, S, to=1)
    moved = dicomstudy.move(archive, S, instance=uid("s/1/1"), to_study=T)
    assert moved.target_version.number == 2
    assert (content(archive, S), content(archive, T)) == after
    all_is_well(archive)


def test_what_is_in_the_target_with_other_edits_is_refused(archive: Path, refused: Refused) -> None:
    dicomstudy.move(archive, S, series=S2, to_study=T)
    dicomstudy.revert(archive, S, to=1)
    dicomstudy.update(archive, S, [{"set": {"ImageComments": "x"}}])
    refused("change/conflict", lambda: dicomstudy.move(archive, S, series=S2, to_study=T))
    refused("change/conflict", lambda: dicomstudy.merge(archive, S, into=T))
    dicomstudy.delete(archive, T, series=S2)
    dicomstudy.move(archive, S, series=S2, to_study=T)
    assert {each.ImageComments for each in datasets(archive, T, S2)} == {"x"}
    all_is_well(archive)


def test_other_content_of_one_uid_is_kept_beside_it(archive: Path) -> None:
    other = make.ct_slice("t", 1, 1, replace=BEN).replace(b"CT-EX", b"CT-EY")
    other = other.replace(T.encode(), uid("v").encode()).replace(T1.encode(), uid("v/1").encode())
    dicomstudy.convert([studies.write_files(archive.parent / "v", [("a", other)])], archive)
    dicomstudy.merge(archive, uid("v"), into=T)
    found = keys(archive, T)
    assert {key.partition("#")[0] for key in found[uid("v/1")]} == {uid("t/1/1")}
    assert [c.group for c in dicomstudy.conflicts(archive, study=T)] == ["instance"]
    all_is_well(archive)


@pytest.mark.parametrize(("what", "of"), [("document", S), ("document", T), ("bulk file", S)])
def test_what_cannot_be_read_is_said_to_be_unreadable(
    what: str, of: str, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = dicomstudy.open_archive(archive)
    path = opened.document_path(of) if what == "document" else opened.bulk_path(of)
    before = studies.state_of(archive)
    code = "study/unreadable" if what == "document" else "bulk/unreadable"
    for after in range(1, 9):
        studies.unreadable(monkeypatch, path, after=after if what == "document" else 1)
        with pytest.raises(DicomStudyError) as raised:
            dicomstudy.move(archive, S, series=S1, to_study=T)
        monkeypatch.undo()
        assert (raised.value.code, raised.value.location.source) == (code, str(path))
        for file, content_of_file in studies.state_of(archive).items():
            assert file.endswith(".bulk") or before[file] == content_of_file
    dicomstudy.move(archive, S, series=S1, to_study=T)
    all_is_well(archive)


# -- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("archive/not-found", lambda a: dicomstudy.move(a, "1.2", series=S1, to_study=T)),
        ("archive/not-found", lambda a: dicomstudy.move(a, S, series=S1, to_study="1.2")),
        ("archive/not-found", lambda a: dicomstudy.move(a, S, series=T1, to_study=T)),
        ("archive/not-found", lambda a: dicomstudy.merge(a, S, into="../x")),
        ("archive/not-found", lambda a: dicomstudy.split(a, S, series=[S1, "1.2"])),
        ("archive/not-found", lambda a: dicomstudy.split(a, S, instances=[f"{uid('s/1/1')}#"])),
        ("archive/moved-on", lambda a: dicomstudy.move(a, S, series=S1, to_study=T, expect=2)),
        (
            "archive/moved-on",
            lambda a: dicomstudy.move(a, S, series=S1, to_study=T, expect=1, expect_target=2),
        ),
        ("archive/moved-on", lambda a: dicomstudy.merge(a, S, into=T, expect_target=2)),
        ("archive/moved-on", lambda a: dicomstudy.split(a, S, series=[S1], expect=2)),
        (
            "archive/moved-on",
            lambda a: dicomstudy.move(a, S, series=S1, to_study=S, to_series=S2, expect_target=2),
        ),
        (
            "archive/moved-on",
            lambda a: dicomstudy.move(
                a, S, series=S1, to_study=S, to_series=S2, expect=1, expect_target=2
            ),
        ),
        ("change/nothing", lambda a: dicomstudy.move(a, S, to_study=T)),
        ("change/nothing", lambda a: dicomstudy.split(a, S)),
        ("change/place", lambda a: dicomstudy.merge(a, S, into=S)),
        ("change/place", lambda a: dicomstudy.move(a, S, series=S1, to_study=S)),
        ("change/place", lambda a: dicomstudy.move(a, S, series=S1, to_study=S, to_series=S1)),
        ("change/series", lambda a: dicomstudy.move(a, S, series=S1, to_study=T, to_series=S2)),
        ("change/study", lambda a: dicomstudy.split(a, S, series=[S1], new_study=T)),
        ("change/study", lambda a: dicomstudy.split(a, S, series=[S1], new_study=S)),
        ("change/value", lambda a: dicomstudy.split(a, S, series=[S1], new_study="../x")),
        ("change/value", lambda a: dicomstudy.split(a, S, series=[S1], new_study="1.02")),
        (
            "change/value",
            lambda a: dicomstudy.move(a, S, series=S1, to_study=T, to_series="1." * 32 + "1"),
        ),
    ],
)
def test_what_is_wrong_is_refused(
    code: str, change: Callable[[Path], object], archive: Path, refused: Refused
) -> None:
    refused(code, lambda: change(archive))


def test_a_series_of_a_third_study_is_refused(archive: Path, refused: Refused) -> None:
    dicomstudy.split(archive, S, series=[S2], new_study="1.2.3")
    refused(
        "change/series",
        lambda: dicomstudy.move(archive, S, instance=uid("s/1/1"), to_study=T, to_series=S2),
    )


def test_a_large_value_of_the_study_level_is_refused(archive: Path, refused: Refused) -> None:
    replace = {**BEN, 0x001021B0: element(0x001021B0, "LT", "history " * 50)}
    for number in (3, 4, 5):
        late = make.ct_slice("t", 1, number, replace=replace)
        dicomstudy.convert([studies.write_files(archive.parent / "late", [("a", late)])], archive)
    refused("change/group", lambda: dicomstudy.move(archive, S, series=S2, to_study=T))
    dicomstudy.move(archive, T, series=T1, to_study=S)  # that they have one is no matter
    all_is_well(archive)


def test_a_value_that_others_cannot_have_is_refused(archive: Path, refused: Refused) -> None:
    replace = {**BEN, 0x00101020: element(0x00101020, "FD", struct.pack("<d", 1.75))}
    for number in (3, 4, 5):
        late = make.ct_slice("t", 1, number, replace=replace)
        dicomstudy.convert([studies.write_files(archive.parent / "late", [("a", late)])], archive)
    refused("change/group", lambda: dicomstudy.move(archive, S, series=S2, to_study=T))
    dicomstudy.merge(archive, S, into=T, keep_attributes=True)
    all_is_well(archive)


def test_a_value_that_those_which_come_have_is_no_matter(tmp_path: Path) -> None:
    """Though it came with another VR than that of the dictionary."""
    replace = {0x00101020: element(0x00101020, "FD", struct.pack("<d", 1.75))}
    files = [(name, make.ct_slice(name, 1, 1, replace=replace)) for name in ("s", "t")]
    dicomstudy.convert([studies.write_files(tmp_path / "in", files)], tmp_path / "archive")
    dicomstudy.merge(tmp_path / "archive", make.uid("s"), into=make.uid("t"))
    with dicomstudy.open_archive(tmp_path / "archive")[make.uid("t")] as study:
        assert [each.metadata()["PatientSize"] for each in study.values()] == [1.75] * 2
    all_is_well(tmp_path / "archive")


def test_a_missing_bulk_file_changes_nothing(archive: Path, refused: Refused) -> None:
    archive_bulk(archive, S).unlink()
    refused("bulk/missing", lambda: dicomstudy.move(archive, S, series=S1, to_study=T))
    dicomstudy.move(archive, S, series=S2, to_study=T)  # which has its values
    assert keys(archive, T)[S2] == of(S2, 1, 2)


# -- several at once, and the command line -----------------------------------------------------

_MOVES = """if True:
    import sys, dicomstudy
    archive, study, other, series = sys.argv[1:]
    for number in range(6):
        dicomstudy.move(archive, study, series=series, to_study=other)
        dicomstudy.move(archive, other, series=series, to_study=study)
"""


def test_runs_that_move_to_and_fro_wait_for_each_other(archive: Path) -> None:
    running = [
        processes.start(_MOVES, archive, S, T, S1),
        processes.start(_MOVES, archive, T, S, T1),
        processes.start(_MOVES, archive, S, T, S2),
    ]
    for process in running:
        process.communicate(timeout=100)
        assert process.returncode == 0
    assert keys(archive, S) == {S1: of(S1, 1, 2, 3), S2: of(S2, 1, 2)}
    assert keys(archive, T) == {T1: of(T1, 1, 2)}
    all_is_well(archive)
    assert not list(archive.rglob("*.lock"))


@pytest.mark.parametrize("cause", [lambda: OSError(errno.ENOSPC, "full"), KeyboardInterrupt])
@pytest.mark.parametrize("where", ["source", "target"])
def test_what_ends_a_split_names_the_study_that_is_made(
    cause: Callable[[], BaseException],
    where: str,
    archive: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, replace_on = dicomstudy.open_archive(archive).document_path(S), Path.replace

    def replace(path: Path, to: Path) -> Path:
        if to.name.endswith(".ion.zst") and (to == source) == (where == "source"):
            raise cause()
        return replace_on(path, to)

    with monkeypatch.context() as failing:
        failing.setattr(Path, "replace", replace)
        status = main(["split", str(archive), "--study", S, "--series", S2])
    assert status == (130 if cause is KeyboardInterrupt else 1)
    made, said = {*dicomstudy.open_archive(archive)} - {S, T}, capsys.readouterr().err
    if where == "target":
        assert not made
        assert "new study" not in said
        return
    (new,) = made
    assert f"the new study {new} is made" in said
    assert main(["move", str(archive), "--study", S, "--series", S2, "--to-study", new]) == 0
    assert keys(archive, S) == {S1: of(S1, 1, 2, 3)}
    assert keys(archive, new) == {S2: of(S2, 1, 2)}
    all_is_well(archive)


def test_the_commands(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(archive)
    command = ["move", path, "--study", S, "--series", S2, "--to-study", T]
    assert main([*command, "--expect", "2"]) == 1
    assert main([*command, "--to-series", "x"]) == 2
    assert main([*command, "--expect", "1", "--expect-target", "1"]) == 0
    assert capsys.readouterr().out == f"version 2; 2 instances out to version 2 of {T}\n"
    split = ["split", path, "--study", T, "--series", S2, "--instance", uid("t/1/1")]
    assert main(split) == 0
    new, line = capsys.readouterr().out.splitlines()
    assert line == f"version 3; 3 instances out to version 1 of {new}"
    assert main([*split, "--new-study", new]) == 2
    assert main(["merge", path, "--study", new, "--into", S, "--keep-attributes"]) == 0
    assert main(["merge", path, "--study", new, "--into", S]) == 2
    assert main(["merge", path, "--study", S, "--into", S]) == 2
    capsys.readouterr()
    assert main(["history", path, "--study", S]) == 0
    table = capsys.readouterr().out
    assert f"2 instances out to {T}" in table
    assert f"3 instances in from {new}; " in table
    assert main(["history", path, "--study", new, "--json"]) == 0
    assert '"fromStudy": ' in capsys.readouterr().out
    assert main(["verify", path]) == 0
