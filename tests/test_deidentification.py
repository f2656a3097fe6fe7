"""A de-identified archive tells nothing of its source: spec/deidentification.md."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path

import pydicom
import pytest

import dicomstudy
from dicomstudy.p10 import read
from fixtures import make
from tests import studies
from tests.deidentified import KEY, instances, made_with
from tests.plants import DEFINITIONS, STUDY, TABLE, Planter, found_in, haystack, headers_of
from tests.samples import LONG, chance_of, fixture_files, mutant

#: What tables have for names of columns.
KEYWORDS = [keyword for group in DEFINITIONS.groups for keyword in DEFINITIONS.attributes(group)]


class Planted:
    """An archive in which everything is planted that is to be removed, and its result."""

    def __init__(self, folder: Path, bulk: str, max_inline: int) -> None:
        planter = Planter()
        files = planter.files()
        elsewhere = planter.value("LO", "folder")
        self.files = studies.write_files(folder / elsewhere, files.items())
        nowhere = planter.value("LO", "quarantine").encode()
        studies.write_files(self.files, [("none.dcm", bytes(128) + b"DICM" + nowhere)])
        self.archive = folder / "archive"
        dicomstudy.convert([self.files], self.archive, bulk=bulk, max_inline=max_inline)
        old = {path: planter.value("PN", f"edit {path}") for path in ("first", "second")}
        for name in old.values():
            dicomstudy.update(self.archive, STUDY, [{"set": {"PatientName": name}}])
        dicomstudy.update(self.archive, STUDY, [{"set": {"Manufacturer": f"by {old['first']}"}}])
        dicomstudy.delete(self.archive, STUDY, instance="1.2.826.0.1.77005")
        self.planted = planter.planted
        self.before = studies.state_of(self.archive)
        self.report = dicomstudy.deidentify(self.archive, folder / "result", key=KEY)
        self.result = folder / "result"
        dicomstudy.export_tables(self.result, folder / "tables")
        dicomstudy.restore(self.result, folder / "restored")
        self.made = (self.result, folder / "tables", folder / "restored")


@pytest.fixture(scope="module", params=[("copy", 256), ("reference", 256), ("copy", 4)], ids=str)
def planted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return Planted(tmp_path_factory.mktemp("planted"), *request.param)


def test_what_is_looked_for_is_in_the_source(planted: Planted, tmp_path: Path) -> None:
    dicomstudy.restore(planted.archive, tmp_path / "changed")
    copy = shutil.copytree(planted.archive, tmp_path / "copy")
    dicomstudy.revert(copy, STUDY, to=1)
    dicomstudy.restore(copy, tmp_path / "as-it-came")
    found = found_in(planted.planted, haystack(planted.archive, *tmp_path.iterdir()))
    assert set(found) == planted.planted.keys()
    assert len(found) > 5000


def test_nothing_that_was_removed_is_in_the_result(planted: Planted) -> None:
    assert planted.report.problems == []
    assert planted.report.instances == 4
    result = haystack(*planted.made)
    assert found_in(planted.planted, result) == []
    assert found_in(planted.planted, planted.report.to_json().encode()) == []


def test_not_one_byte_of_the_source_changes(planted: Planted) -> None:
    assert studies.state_of(planted.archive) == planted.before


def test_what_is_not_removed_stays(planted: Planted) -> None:
    restored = haystack(planted.made[2])
    assert restored.count(b"kept-words") == 12 * 4
    for instance in instances(planted.result):
        assert b"".join(instance.frames()) == bytes(range(256)) * 2


def test_the_result_is_a_whole_archive(planted: Planted) -> None:
    verified = dicomstudy.verify(planted.result)
    assert verified.problems == []
    assert (verified.studies, verified.instances, verified.quarantined) == (1, 4, 0)
    for header in headers_of(planted.result):
        assert header["studyVersion"] == 1
        assert not header["historyFrames"]
        assert "retired" not in header
    assert [path.name for path in planted.result.rglob("*.part")] == []
    for instance in instances(planted.result):
        assert instance.source.uri == ""
        assert not any(key.startswith("_") or "#" in key for key in instance.attributes())


def test_files_are_written_anew_and_pydicom_reads_them(planted: Planted) -> None:
    files = sorted(planted.made[2].rglob("*.dcm"))
    assert len(files) == 4
    for path in files:
        data_set = pydicom.dcmread(path)
        tags = [element.tag for element in read(path.read_bytes()).elements]
        assert tags == sorted(tags)  # pydicom gives them in order, whatever it is
        assert data_set.preamble == bytes(128)
        assert "FileMetaInformationGroupLength" in data_set.file_meta
        assert data_set.file_meta.MediaStorageSOPInstanceUID == data_set.SOPInstanceUID
        assert data_set.file_meta.ImplementationVersionName == "DICOMSTUDY"
        assert data_set.file_meta.TransferSyntaxUID != make.DEFLATED
        assert len(list(data_set.iterall())) > 100
        assert data_set.PatientIdentityRemoved == "YES"
    for instance in instances(planted.result):
        layout = instance.encoding["meta"] + instance.encoding["dataSet"]
        assert not set("/#^:") & set(layout)


def test_values_that_were_removed_are_not_copied(planted: Planted) -> None:
    with next(iter(dicomstudy.open_archive(planted.result).values())) as study:
        lengths = sorted(length for _, length, _ in study.places())
    assert lengths[-1] < 1000  # texts that were cleaned, and pixels
    assert 512 in lengths


def test_the_report_tells_what_to_look_at(planted: Planted) -> None:
    report = planted.report
    assert report.quarantined == 1
    assert report.complete
    told = {risk.code: risk for risk in report.risks}
    assert told["risk/burned-in"].instances == 4
    assert told["risk/modality"].instances == 4
    assert told["risk/identity-in-text"].instances == 4
    assert told["risk/encapsulated-document"].instances == 4
    assert {risk.study for risk in report.risks} == set(dicomstudy.open_archive(planted.result))
    content = json.loads(report.to_json())
    assert content["instances"] == 4
    assert content["problems"] == []
    assert content["risks"][0] == report.risks[0]._asdict()


# What stays is as it was, in a whole archive


def test_numbers_that_are_equal_and_not_the_same_stay_as_they_were(tmp_path: Path) -> None:
    files = [
        make.part10(make.file_meta(), make.small(f"zero {at}", *shared, number))
        for shared in [[make.element(0x0020000D + n, "UI", make.uid("zero")) for n in (0, 1)]]
        for at, number in enumerate(make.element(0x00189073, "FD", v) for v in (0.0, -0.0))
    ]
    studies.write_files(tmp_path / "in", ((f"{at}.dcm", file) for at, file in enumerate(files)))
    dicomstudy.convert([tmp_path / "in"], tmp_path / "archive")
    made = made_with(tmp_path / "archive", tmp_path / "out")
    assert sorted(repr(each.attributes()["AcquisitionDuration"]) for each in made) == [
        "-0.0",
        "0.0",
    ]


MANY = (
    *("clean-descriptors", "clean-structured-content", "clean-graphics", "retain-safe-private"),
    "retain-longitudinal-modified-dates",
)
MORE = ("retain-uids", "retain-device-identity", "retain-longitudinal-full-dates")


def assert_as_if_converted(archive: Path, folder: Path, options: Sequence[str]) -> None:
    """The result is whole, and what `convert` makes of its files."""
    report = dicomstudy.deidentify(archive, folder / "out", key=KEY, options=options)
    assert report.problems == []
    assert dicomstudy.verify(folder / "out").problems == []
    assert dicomstudy.restore(folder / "out", folder / "restored").problems == []
    again = dicomstudy.convert([folder / "restored"], folder / "again")
    assert again.quarantined == 0
    assert studies.digests_of(folder / "out") == studies.digests_of(folder / "again")


@pytest.mark.parametrize("options", [(), MANY, MORE], ids=len)
def test_the_result_is_what_convert_makes_of_its_files(
    options: Sequence[str], tmp_path: Path
) -> None:
    files = studies.write_fixtures(tmp_path / "files")
    studies.write_files(files / "planted", Planter().files().items())
    dicomstudy.convert([files], tmp_path / "archive")
    assert_as_if_converted(tmp_path / "archive", tmp_path, options)


@pytest.mark.parametrize("seed", range(100 if LONG else 4))
def test_so_it_is_whatever_the_bytes_are(seed: int, tmp_path: Path) -> None:
    chance = chance_of(seed)
    files = [content for content in fixture_files().values() if len(content) < 60_000]
    files += list(Planter().files().values()) * 5
    mutants = [(f"{n}.dcm", mutant(chance.choice(files), chance)) for n in range(60)]
    dicomstudy.convert([studies.write_files(tmp_path / "in", mutants)], tmp_path / "archive")
    assert_as_if_converted(tmp_path / "archive", tmp_path, chance.choice([(), MANY, MORE]))


def test_a_file_that_begins_with_vrs_and_goes_on_without_is_one_without(tmp_path: Path) -> None:
    """Its first element is of an unknown group, and goes; the next is of file meta information."""
    unknown = make.element(0x00D00003, "UI", make.uid("unknown"))
    unknown += make.element(0x00020012, "UI", make.uid("class"))
    content = make.small("mixed", explicit=False)
    archive, file = tmp_path / "archive", unknown + content
    meta = make.element(0x00020002, "UI", make.CT_IMAGE)
    meta = make.element(0x00020000, "UL", len(meta)) + meta
    studies.write_files(tmp_path / "in", [("mixed.dcm", make.part10(meta, file))])
    assert dicomstudy.convert([tmp_path / "in"], archive).quarantined == 0
    assert_as_if_converted(archive, tmp_path, ())


# Real files


def test_nothing_that_was_removed_of_real_files_is_in_the_result(
    shared: Path, tmp_path: Path
) -> None:
    """Values that the table removes, and that stand in no attribute that it keeps."""
    archive, result = tmp_path / "archive", tmp_path / "result"
    dicomstudy.convert([shared / "corpus"], archive)
    removed, kept = real_values(archive)
    report = dicomstudy.deidentify(archive, result, key=KEY)
    assert report.problems == []
    assert dicomstudy.verify(result).problems == []
    dicomstudy.export_tables(result, tmp_path / "tables")
    legitimate = "\n".join([*kept, *KEYWORDS]).lower()
    looked_for = {value: value for value in removed if value.lower() not in legitimate}
    assert len(looked_for) > 1500
    source = b"\n".join(re.findall(rb"[ -~]{6,}", haystack(archive)))
    found = found_in(looked_for, source)
    assert len(found) > 0.95 * len(looked_for)  # the others have spaces around them in the file
    texts = b"\n".join(re.findall(rb"[ -~]{6,}", haystack(result, tmp_path / "tables")))
    assert found_in(looked_for, texts) == []


def real_values(archive: Path) -> tuple[set[str], set[str]]:
    """Distinctive values of attributes that the table does not keep, and texts of all others."""
    actions = {tag: action for tag, action, _, _ in TABLE["attributes"]}
    removed: set[str] = set()
    kept: set[str] = set()

    def walk(data_set: pydicom.Dataset) -> None:
        for element in data_set:
            if element.VR == "SQ":
                for item in element.value:
                    walk(item)
                continue
            goes = element.tag.is_private or f"{element.tag:08X}" in actions
            values = element.value if element.VM > 1 else [element.value]
            for value in map(str, values if not isinstance(element.value, bytes) else []):
                text = value.strip(" \0")
                if not goes:
                    kept.add(text)
                elif is_distinctive(element.VR, text):
                    removed.add(text)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for instance in instances(archive):
            walk(instance.to_dataset())
    return removed, kept


def is_distinctive(vr: str, text: str) -> bool:
    """Whether a value occurs nowhere by chance."""
    if len(text) < 6 or not text.isascii() or not text.isprintable():
        return False
    if vr == "UI":
        return not text.startswith("1.2.840.10008")
    return vr in _TEXTS and re.search("[A-Za-z]", text) is not None


_TEXTS = frozenset("AE LO LT PN SH ST UC UT".split())
