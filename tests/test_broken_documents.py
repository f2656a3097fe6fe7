"""Documents that break the format by hand: they are refused, and nothing more is lost.

No command takes one for sound and writes on top of it; `verify` tells of each.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import dicomstudy
from dicomstudy import ion
from dicomstudy.document import Document, references_in
from dicomstudy.document.writer import Frames
from dicomstudy.errors import DicomStudyError
from fixtures import make
from tests.studies import write_files

CT = make.uid("ct")
Change = Callable[[list[dict[str, Any]]], None]


class Broken(NamedTuple):
    """An archive of one study, and files that come late."""

    archive: Path
    late: Path

    @property
    def document(self) -> Path:
        (path,) = self.archive.glob("studies/*/*.ion.zst")
        return path

    @property
    def bulk(self) -> Path:
        return self.document.with_name(self.document.name.replace(".ion.zst", ".bulk"))

    def values(self) -> list[dict[str, Any]]:
        """The frames of the document."""
        document = Document(self.document)
        values = [document._value(at) for at in range(len(document._frames))]
        document.close()
        return values

    def rewrite(self, change: Change) -> Broken:
        """Change the frames of the document."""
        values = self.values()
        change(values)
        self.write(values)
        return self

    def write(self, values: list[dict[str, Any]]) -> None:
        frames = Frames()
        self.document.write_bytes(b"".join([*map(frames.add, values), frames.table()]))

    def codes(self) -> set[str]:
        """What `verify` tells of."""
        return {problem.code for problem in dicomstudy.verify(self.archive).problems}

    def said(self) -> str:
        """The messages of what it tells."""
        return "\n".join(problem.message for problem in dicomstudy.verify(self.archive).problems)

    def instance(self) -> dicomstudy.Instance:
        """Some instance, its study being open."""
        study = dicomstudy.open_archive(self.archive)[CT]
        return next(iter(study.values()))

    def refused(self, code: str) -> None:
        """Assert that whoever writes the study anew refuses it, and leaves it as it is.

        Behind what is there of the bulk file there may be more, as of a run that was interrupted.
        """
        document, bulk = self.document.read_bytes(), self.bulk.read_bytes()
        converted = dicomstudy.convert([self.late], self.archive)
        assert [problem.code for problem in converted.problems] == [code]
        for older_versions in (False, True):
            done = dicomstudy.collect(self.archive, older_versions=older_versions, remove=True)
            assert [problem.code for problem in done.problems] == [code]
        assert self.document.read_bytes() == document
        assert self.bulk.read_bytes()[: len(bulk)] == bulk


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    slices = {n: make.ct_slice("ct", 1, n) for n in range(1, 11)}
    write_files(folder / "files", ((f"{n}.dcm", data) for n, data in slices.items() if n < 10))
    write_files(folder / "late", [("10.dcm", slices[10])])
    dicomstudy.convert([folder / "files"], folder / "archive")
    return folder


@pytest.fixture
def broken(sound: Path, tmp_path: Path) -> Broken:
    """A copy of the archive, which tests break."""
    shutil.copytree(sound, tmp_path / "copy")
    return Broken(tmp_path / "copy/archive", tmp_path / "copy/late")


def header(**fields: object) -> Change:
    """Give the header other fields; None takes one away."""

    def change(values: list[dict[str, Any]]) -> None:
        values[0] = {k: v for k, v in (values[0] | fields).items() if v is not None}

    return change


def first_instance(values: list[dict[str, Any]]) -> dict[str, Any]:
    instances: dict[str, dict[str, Any]] = values[-1]["instances"]
    return next(iter(instances.values()))


def place(**fields: object) -> Change:
    """Give the places of large values other fields."""

    def change(values: list[dict[str, Any]]) -> None:
        for reference in references_in(values[-1]["instances"]):
            if "stored" in reference:
                reference.update(fields)
                for name in [name for name in fields if fields[name] is None]:
                    del reference[name]

    return change


# Where large values lie


def test_an_archive_that_nothing_is_wrong_with_is_sound(broken: Broken) -> None:
    assert broken.rewrite(header()).codes() == set()
    assert not dicomstudy.convert([broken.late], broken.archive).problems
    assert broken.codes() == set()


@pytest.mark.parametrize("length", [0, 7, 8, 9])
def test_values_behind_what_belongs_to_the_document_are_not_cut_off(
    broken: Broken, length: int
) -> None:
    broken.rewrite(header(bulkLength=length))
    assert broken.codes() >= {"bulk/place" if length else "bulk/missing"}
    broken.refused("bulk/place")


def test_values_behind_what_belongs_to_the_document_are_not_read(broken: Broken) -> None:
    broken.rewrite(header(bulkLength=9))
    with pytest.raises(dicomstudy.BulkError) as caught:
        list(broken.instance().frames())
    assert caught.value.code == "bulk/place"


def test_a_bulk_file_that_is_shorter_than_its_document_says_is_told_of(broken: Broken) -> None:
    broken.rewrite(header(bulkLength=broken.bulk.stat().st_size + 1))
    assert broken.codes() == {"bulk/truncated"}
    broken.refused("bulk/truncated")


def test_a_bulk_file_of_another_number_is_not_removed(broken: Broken) -> None:
    broken.rewrite(header(bulkFile=1))
    assert "bulk/missing" in broken.codes()
    converted = dicomstudy.convert([broken.late], broken.archive)
    assert [problem.code for problem in converted.problems] == ["bulk/missing"]
    bulk = broken.bulk.read_bytes()
    dicomstudy.collect(broken.archive, remove=True)
    assert broken.bulk.read_bytes() == bulk


def test_nothing_is_added_to_a_file_that_is_no_bulk_file(broken: Broken) -> None:
    broken.bulk.write_bytes(b"XXXXXXXX" + broken.bulk.read_bytes()[8:])
    assert broken.codes() == {"bulk/not-bulk"}
    broken.refused("bulk/not-bulk")


@pytest.mark.parametrize("fields", [{"offset": None}, {"stored": ["x"]}, {"stored": [-1]}])
def test_places_that_are_none_are_refused_where_values_are_moved(
    broken: Broken, fields: dict[str, Any]
) -> None:
    broken.rewrite(place(**fields))
    assert broken.codes() & {"bulk/place", "study/damaged"}
    with pytest.raises(DicomStudyError) as caught:
        dicomstudy.collect(broken.archive, study=make.uid("ct"), remove=True)
    assert caught.value.code in {"bulk/place", "study/damaged"}


def test_values_that_nobody_says_the_place_of_are_told_of(broken: Broken) -> None:
    def change(values: list[dict[str, Any]]) -> None:
        for reference in references_in(values[-1]["instances"]):
            for name in reference.keys() - {"length", "sha256"}:
                del reference[name]

    broken.rewrite(change).rewrite(source(uri="file:///nowhere/a.dcm"))
    assert broken.codes() == {"bulk/no-place"}
    with pytest.raises(dicomstudy.BulkError) as caught:
        list(broken.instance().frames())
    assert caught.value.code == "bulk/no-place"


# Where instances came from


def source(**fields: object) -> Change:
    """Give all instances another `_source`; None takes a field away."""

    def change(values: list[dict[str, Any]]) -> None:
        for instance in values[-1]["instances"].values():
            told = instance["_source"] | fields
            instance["_source"] = {k: v for k, v in told.items() if v is not None}

    return change


@pytest.mark.parametrize(
    "fields",
    [
        {"size": None},
        {"sha256": None},
        {"sha256": None, "size": None},
        {"uri": None, "sha256": None, "size": None},
        {"record": "0" * 64},
        {"size": -1},
        {"size": 1 << 63},
    ],
)
def test_a_source_is_a_file_or_a_record(broken: Broken, fields: dict[str, Any]) -> None:
    broken.rewrite(source(**fields))
    assert broken.codes() == {"study/damaged"}
    broken.refused("study/damaged")


def test_the_size_of_a_source_is_that_of_the_file(broken: Broken) -> None:
    broken.rewrite(source(size=7))
    assert broken.codes() == {"study/damaged"}
    assert "the size of the file of" in broken.said()


def test_without_a_source_an_instance_is_known_by_its_attributes(broken: Broken) -> None:
    def change(values: list[dict[str, Any]]) -> None:
        for instance in values[-1]["instances"].values():
            del instance["_source"]

    broken.rewrite(change)
    assert len(broken.instance().identity) == 64
    assert not dicomstudy.convert([broken.late], broken.archive).problems
    with dicomstudy.open_archive(broken.archive)[CT] as study:
        assert len({instance.identity for instance in study.values()}) == len(study) == 10


def test_no_file_that_is_restored_replaces_another(broken: Broken, tmp_path: Path) -> None:
    def change(values: list[dict[str, Any]]) -> None:
        instances = values[-1]["instances"]
        first, *_ = instances
        instances |= {f"{first}#{n}": instances[first] for n in (1, 2)}
        values[0]["chunks"][0].update(instances=11, last=max(instances))

    broken.rewrite(change)
    restored = dicomstudy.restore(broken.archive, tmp_path / "out")
    assert [problem.code for problem in restored.problems] == ["study/damaged"]
    assert len([*(tmp_path / "out").rglob("*.dcm")]) == restored.files == 10


# Versions


def test_no_version_goes_back_to_itself(broken: Broken) -> None:
    def change(values: list[dict[str, Any]]) -> None:
        when = "2026-01-01T00:00:00Z"
        first = {"version": 1, "when": when, "command": "convert"}
        back = {"version": 2, "when": when, "command": "revert", "to": 2}
        header(studyVersion=2, historyFrames=1)(values)
        values.insert(1, {"versions": [first, back]})

    broken.rewrite(change)
    assert broken.codes() == {"study/damaged"}
    broken.refused("study/damaged")


# Fields and frames


@pytest.mark.parametrize("fields", [{"dataOffset": -1}, {"offset": -1}, {"length": 1 << 63}])
def test_what_counts_bytes_is_in_its_range(broken: Broken, fields: dict[str, Any]) -> None:
    broken.rewrite(place(**fields))
    assert broken.codes() == {"study/damaged"}
    broken.refused("study/damaged")


@pytest.mark.parametrize("value", [ion.loads(b"2026-01-01T"), Decimal("1.0")])
def test_values_of_attributes_are_of_their_types(broken: Broken, value: object) -> None:
    broken.rewrite(lambda values: first_instance(values).update(PatientComments=value))
    assert broken.codes() == {"study/damaged"}
    broken.refused("study/damaged")


def test_no_attribute_has_an_empty_key(broken: Broken) -> None:
    broken.rewrite(lambda values: first_instance(values).update({"": "x"}))
    assert broken.codes() == {"study/damaged"}
    broken.refused("study/damaged")


def test_no_attribute_of_a_group_has_an_empty_key(broken: Broken) -> None:
    def change(values: list[dict[str, Any]]) -> None:
        for content in values[-1]["groups"]["patient"].values():
            content[""] = "x"

    broken.rewrite(change)
    assert broken.codes() == {"study/damaged"}
    broken.refused("study/damaged")


def test_there_are_no_frames_beyond_those_of_the_header(broken: Broken) -> None:
    broken.rewrite(lambda values: values.append({"a": 1}))
    assert broken.codes() == {"study/damaged"}
    broken.refused("study/damaged")


def test_nothing_stands_behind_the_content_of_a_frame(broken: Broken) -> None:
    class Longer(Frames):
        def copy(self, compressed: bytes, plain_size: int) -> bytes:
            return super().copy(compressed + b"junk", plain_size)

    frames = Longer()
    values = broken.values()
    broken.document.write_bytes(b"".join([*map(frames.add, values), frames.table()]))
    assert broken.codes() == {"study/damaged"}


# What verify compares


def told(**fields: object) -> Change:
    """Give the first instance other fields; None takes one away."""

    def change(values: list[dict[str, Any]]) -> None:
        instance = first_instance(values)
        instance.update(fields)
        for name in [name for name in fields if fields[name] is None]:
            del instance[name]

    return change


def test_group_names_are_those_of_the_definitions(broken: Broken, tmp_path: Path) -> None:
    def change(values: list[dict[str, Any]]) -> None:
        groups = values[-1]["groups"]
        groups["noSuchGroup"] = groups.pop("patient")

    broken.rewrite(change)
    assert broken.codes() == {"study/damaged"}
    broken.refused("study/damaged")
    done = dicomstudy.deidentify(broken.archive, tmp_path / "hidden", key=b"x" * 16)
    assert {problem.code for problem in done.problems} == {"study/damaged"}


def test_groups_have_their_own_attributes(broken: Broken) -> None:
    def change(values: list[dict[str, Any]]) -> None:
        groups = values[-1]["groups"]
        groups["generalSeries"] |= groups.pop("patient")

    assert "attributes of another" in broken.rewrite(change).said()


def test_no_instance_has_two_groups_of_one_name(broken: Broken) -> None:
    def change(values: list[dict[str, Any]]) -> None:
        groups = values[-1]["groups"]
        ((digest, content),) = groups["patient"].items()
        name = {"PatientName": content.pop("PatientName")}
        groups["patient"] = {ion.ion_hash_hex(part): part for part in (name, content)}
        kept = [each for each in values[-1]["_groups"] if each != digest]
        values[-1]["_groups"] = [*kept, *groups["patient"]]

    assert "two groups of one name" in broken.rewrite(change).said()


def test_no_instance_stands_there_twice(broken: Broken) -> None:
    def change(values: list[dict[str, Any]]) -> None:
        instances = values[-1]["instances"]
        first = next(iter(instances))
        again = f"{first}#{instances[first]['_source']['sha256'][:16]}"
        instances[again] = instances[first]
        values[0]["chunks"][0].update(instances=10, last=max(instances))

    assert "stands there twice" in broken.rewrite(change).said()
    with pytest.raises(DicomStudyError) as caught:
        dicomstudy.collect(broken.archive, study=make.uid("ct"), remove=True)
    assert caught.value.code == "study/damaged"


def test_a_group_is_what_its_digest_says(broken: Broken) -> None:
    def change(values: list[dict[str, Any]]) -> None:
        for content in values[-1]["groups"]["patient"].values():
            content["PatientName"] = "Another^Name"

    broken.rewrite(change)
    assert broken.codes() == {"study/group-digest", "study/sha256"}
    assert "a group patient is not what its digest" in broken.said()


def test_an_edit_whose_value_cannot_be_written_is_told_of(broken: Broken) -> None:
    """Of a changed instance no digest is known; that it can be written is proved all the same."""
    dicomstudy.update(broken.archive, CT, [{"set": {"StudyDescription": "x"}}])
    assert broken.codes() == set()

    def change(values: list[dict[str, Any]]) -> None:
        (history,) = (value["versions"] for value in values if "versions" in value)
        history[-1]["edits"][0]["set"] = {"StudyDescription": 5}

    broken.rewrite(change)
    assert broken.codes() == {"record/value"}


def test_a_key_is_that_of_its_uid_and_digest(broken: Broken) -> None:
    def change(values: list[dict[str, Any]]) -> None:
        instances = values[-1]["instances"]
        first = next(iter(instances))
        instances[f"{first}#{'0' * 16}"] = instances.pop(first)
        values[0]["chunks"][0].update(first=min(instances), last=max(instances))

    assert "is not that of its UID and digest" in broken.rewrite(change).said()


def test_what_has_a_file_says_how_that_was_written(broken: Broken) -> None:
    def change(values: list[dict[str, Any]]) -> None:
        encodings = values[-1]["groups"].pop("encoding")
        kept = [each for each in values[-1]["_groups"] if each not in encodings]
        values[-1]["_groups"] = kept

    assert "does not say how that was written" in broken.rewrite(change).said()


@pytest.mark.parametrize("versions", [[9], [-1], [1, 1]])
def test_the_versions_of_instances_are_those_of_the_study(
    broken: Broken, versions: list[int]
) -> None:
    assert broken.rewrite(told(_versions=versions)).codes() == {"study/damaged"}


def test_who_is_retired_went_out(broken: Broken) -> None:
    def change(values: list[dict[str, Any]]) -> None:
        values[0]["retired"] = [values[0]["chunks"].pop()]

    assert "does not stand where its versions say" in broken.rewrite(change).said()


@pytest.mark.parametrize(
    "fields",
    [
        {"version": True},
        {"studyVersion": 2},
        {"definitions": 5},
        {"definitions": {}},
        {"definitions": {"version": 1}},
    ],
)
def test_the_header_has_its_types(broken: Broken, fields: dict[str, Any]) -> None:
    assert broken.rewrite(header(**fields)).codes() <= {"study/damaged", "study/unknown-version"}
    assert broken.codes()


def test_counts_are_looked_at_before_a_late_instance_needs_them(broken: Broken) -> None:
    def change(values: list[dict[str, Any]]) -> None:
        counts: dict[str, Any] = {"values": [], "missing": [], "combinations": {}}
        values.insert(1, {"series": {values[-1]["seriesInstanceUID"]: counts}})
        values[0]["countFrames"] = 1

    assert "counts of a series lack fields" in broken.rewrite(change).said()


@pytest.mark.parametrize("value", [-1, 70000, 32.0, "32"])
def test_a_value_in_a_group_that_is_none_of_its_layout_is_said(
    value: object, broken: Broken
) -> None:
    """And not that it was missing."""

    def change(values: list[dict[str, Any]]) -> None:
        for content in values[-1]["groups"]["imagePixel"].values():
            content["Rows"] = value

    assert f"{value!r} cannot be encoded as US" in broken.rewrite(change).said()


def test_the_table_of_frames_has_no_other_fields(broken: Broken) -> None:
    document = broken.document.read_bytes()
    broken.document.write_bytes(document[:-5] + b"\x80" + document[-4:])
    assert broken.codes() == {"study/damaged"}


@pytest.mark.parametrize("key", ["ImageComments", "noSuchKeyword", "0029100a", "StudyID#1"])
def test_what_came_from_a_file_is_in_it(key: str, broken: Broken) -> None:
    """Else nobody who has the file would see it."""
    assert f"{key!r} that is in no layout" in broken.rewrite(told(**{key: "x"})).said()


def test_items_have_what_the_file_has(broken: Broken) -> None:
    def change(values: list[dict[str, Any]]) -> None:
        for contents in values[-1]["groups"].values():
            for content in contents.values():
                for item in content.get("ReferencedImageSequence", ()):
                    item["PurposeOfReferenceCodeSequence"] = None

    assert "'PurposeOfReferenceCodeSequence' that is in no layout" in broken.rewrite(change).said()


def test_a_preamble_is_there_or_not(broken: Broken) -> None:
    def change(values: list[dict[str, Any]]) -> None:
        for encoding in values[-1]["groups"]["encoding"].values():
            encoding["preamble"] = 5

    assert "if there is a preamble" in broken.rewrite(change).said()


@pytest.mark.parametrize("name", ["zz", "AB", "0"])
def test_documents_where_nobody_looks_are_told_of(broken: Broken, name: str) -> None:
    folder = broken.document.parent
    folder.rename(folder.with_name(name))
    assert broken.codes() == {"study/damaged"}


def test_notes_have_texts(broken: Broken) -> None:
    write_files(broken.late, [("odd.dcm", make.part10(make.file_meta(), b""))])
    dicomstudy.convert([broken.late], broken.archive)
    (note,) = (broken.archive / "quarantine").glob("*.ion")
    note.write_bytes(ion.dumps(ion.loads(note.read_bytes()) | {"code": 5}))
    assert broken.codes() == {"archive/damaged"}


# Counts


# Fragments


@pytest.mark.parametrize("at", ["shifted", "negative", "fewer", "more"])
def test_fragments_are_those_of_the_pixel_data(tmp_path: Path, at: str) -> None:
    dicomstudy.convert([write_files(tmp_path / "files", make.us_files().items())], tmp_path / "a")
    broken = Broken(tmp_path / "a", tmp_path / "late")
    assert broken.codes() == set()
    keys = []

    def change(values: list[dict[str, Any]]) -> None:
        for key, instance in values[-1]["instances"].items():
            for reference in references_in(instance):
                if len(lengths := reference.get("fragments", ())) > 2:
                    first, second, third, *rest = lengths
                    reference["fragments"] = {
                        "shifted": [first, second - 2, third + 2, *rest],
                        "negative": [first, -second, *rest],
                        "fewer": lengths[:-1],
                        "more": [*lengths, 1 << 40],
                    }[at]
                    keys.append(key)

    assert broken.rewrite(change).codes() == {"study/frames"}
    if at == "shifted":  # only who reads every header knows
        return
    with next(iter(dicomstudy.open_archive(broken.archive).values())) as study:
        for key in keys:
            with pytest.raises(dicomstudy.StudyError) as caught:
                study[key].frame(1)
            assert caught.value.code == "study/frames"
