"""Studies of an archive: mappings of instances, read as far as is asked for (spec/study.md)."""

from __future__ import annotations

import io
import json
import os
import shutil
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import pydicom
import pytest
from pydicom.errors import BytesLengthException

import dicomstudy
from dicomstudy import definitions, frames, ion, show, values
from dicomstudy.document import writer
from dicomstudy.errors import BulkError, StudyError
from dicomstudy.ion import ion_hash_hex
from dicomstudy.sources import SourceFiles
from dicomstudy.study import Instance, Study
from dicomstudy.study.large import LargeValues
from fixtures import make
from tests import studies
from tests.samples import chance_of

CT = make.uid("ct")


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The fixtures in an archive that has their large values, and in one that refers to them."""
    folder = tmp_path_factory.mktemp("study")
    source = studies.write_fixtures(folder / "in")
    found = {}
    for bulk in ("copy", "reference"):
        found[bulk] = folder / bulk
        with mock.patch.object(writer, "CHUNK_INSTANCES", 3):
            dicomstudy.convert([source], found[bulk], bulk=bulk)
    return found


@pytest.fixture(params=["copy", "reference"])
def archive(archives: dict[str, Path], request: pytest.FixtureRequest) -> dicomstudy.Archive:
    return dicomstudy.open_archive(archives[request.param])


@pytest.fixture
def study(archive: dicomstudy.Archive) -> Study:
    return archive[CT]


# -- a mapping ---------------------------------------------------------------------------------


def test_a_study_is_a_mapping_of_instances(study: Study) -> None:
    assert isinstance(study, Mapping)
    keys = list(study)
    assert len(study) == len(keys) == len(set(keys)) == 16
    assert study.uid == CT
    for key, instance in study.items():
        assert instance.attributes() == instance.attributes()
        assert key in study
        assert instance.key == key
        assert key.startswith(instance.uid)
    assert [instance.key for instance in study.values()] == keys
    assert repr(study) == f"Study({CT!r}, 16 instances)"
    assert repr(study[keys[0]]) == f"Instance({keys[0]!r})"


@pytest.mark.parametrize("key", ["", "1.2", "9.9", CT])
def test_what_is_not_in_the_study_is_a_key_error(key: str, study: Study) -> None:
    assert key not in study
    with pytest.raises(KeyError):
        study[key]


def test_series_have_the_keys_of_their_instances(study: Study) -> None:
    series = study.series
    assert sorted(map(len, series.values())) == [1, 4, 11]
    assert {key for keys in series.values() for key in keys} == set(study)
    for uid, keys in series.items():
        assert {study[key].series for key in keys} == {uid}
        assert sorted(study.keys_of(uid)) == sorted(keys)
    both = [instance.key for instance in study.values() if instance.uid == make.uid("ct/1/3")]
    assert len(both) == 2
    assert study.keys_of(make.uid("ct/1/3")) == both
    assert study.keys_of(both[1]) == [both[1]]
    assert study.keys_of("1.2") == []


def test_different_content_under_one_uid_has_two_keys(study: Study) -> None:
    uid = make.uid("ct/1/3")
    first, second = sorted(key for key in study if key.startswith(uid))
    assert first == uid
    assert study[first].uid == study[second].uid == uid
    assert second == f"{uid}#{study[second].source.sha256[:16]}"  # type: ignore[index]
    centres = {study[key].metadata()["WindowCenter"] for key in (first, second)}
    assert centres == {"40", "50"}


def test_groups_are_by_name_and_digest(study: Study) -> None:
    (patient,) = study.groups["patient"].values()
    assert patient["PatientName"] == "Example^Ann"
    for name, contents in study.groups.items():
        for digest, content in contents.items():
            assert ion_hash_hex(content) == digest
            assert content, name


def spoil(value: Any) -> None:
    """Change all that can be changed of a value."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            spoil(item)
        value.clear()


@pytest.mark.parametrize("is_updated", [False, True])
def test_what_is_given_may_be_changed(
    is_updated: bool, archives: dict[str, Path], tmp_path: Path
) -> None:
    """That changes neither the study nor what other instances say."""
    shutil.copytree(archives["copy"], tmp_path / "archive")
    uid = make.uid("texts")
    if is_updated:
        edit = {"set": {"PatientID": "other", "ProcedureCodeSequence": [{"CodeValue": "1"}]}}
        dicomstudy.update(tmp_path / "archive", uid, [edit])
    study = dicomstudy.open_archive(tmp_path / "archive")[uid]
    groups, files = study.groups, [instance.to_p10() for instance in study.values()]

    def said() -> list[list[dict[str, Any]]]:
        return [[i.attributes(), i.metadata(), i.to_json()] for i in study.values()]

    before = said()
    assert all({"ProcedureCodeSequence", "PixelData"} <= held.keys() for held, _, _ in before)
    spoil(study.groups)
    spoil(said())
    assert (study.groups, said()) == (groups, before)
    assert [instance.to_p10() for instance in study.values()] == files


# -- instances ---------------------------------------------------------------------------------


def test_an_instance_gives_back_its_file(study: Study, archives: dict[str, Path]) -> None:
    files = {
        path.as_uri(): path.read_bytes()
        for path in (archives["copy"].parent / "in").rglob("*")
        if path.is_file()
    }
    for instance in study.values():
        if "#" in instance.source.uri:
            continue
        data = instance.to_p10()
        assert data == files[instance.source.uri]
        assert len(data) == instance.source.size
        buffer = io.BytesIO()
        assert instance.write_p10(buffer) == len(data)
        assert buffer.getvalue() == data
        assert b"".join(instance.pieces()) == data


def test_that_files_are_read_is_known_without_opening_one(
    archive: dicomstudy.Archive, archives: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    instances = [instance for study in archive.values() for instance in study.values()]
    read = [bool(instance.files()) for instance in instances]
    assert any(read) == (archive.path == archives["reference"])
    monkeypatch.setattr(SourceFiles, "open", mock.Mock(side_effect=AssertionError))
    assert [instance.reads_files for instance in instances] == read


def test_the_metadata_has_every_attribute_in_the_order_of_the_file(study: Study) -> None:
    instance = study[make.uid("ct/2/7")]
    metadata = instance.metadata()
    assert metadata["PatientName"] == "Example^Ann"
    assert metadata["Rows"] == 64
    assert metadata["SliceThickness"] == "2.500000"
    assert metadata["PixelData"]["length"] == 64 * 64 * 2
    load = definitions.load()
    tags = [load.tag(key) for key in metadata]
    assert tags == sorted(tags)
    lengths = {key for key in metadata if not load.tag(key) & 0xFFFF}
    assert metadata.keys() - lengths == instance.attributes().keys()


def test_an_instance_is_a_dataset_of_pydicom(study: Study) -> None:
    for instance in study.values():
        assert instance.to_dataset() == pydicom.dcmread(io.BytesIO(instance.to_p10()))


def read(dataset: pydicom.Dataset, keyword: str) -> object:
    try:
        return dataset[keyword].value
    except BytesLengthException as error:
        return type(error)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_bad_value_keeps_back_no_others_whether_there_is_a_file_or_not(tmp_path: Path) -> None:
    bad = make.element(0x00280030, "DS", "1,5\\2.5")
    file = make.part10(
        make.file_meta(make.EXPLICIT),
        make.element(0x00080018, "UI", "1.2.3.1")
        + make.element(0x00081140, "SQ", make.item(bad))
        + make.element(0x00100010, "PN", "A^B")
        + make.element(0x0020000D, "UI", "1.2")
        + make.element(0x0020000E, "UI", "1.2.3")
        + make.element(0x00200013, "IS", "1.5")
        + make.element(0x00280010, "US", b"abc")
        + bad
        + make.element(0x00281101, "US", (1, 2, 3)),
    )
    record = r"""{dataSet: {
        SOPInstanceUID: "1.2.3.2", StudyInstanceUID: "1.2", SeriesInstanceUID: "1.2.3",
        ReferencedImageSequence: [{PixelSpacing: "1,5\\2.5"}], PatientName: "A^B",
        InstanceNumber: "1.5", Rows: {{YWJj}}, PixelSpacing: "1,5\\2.5",
        RedPaletteColorLookupTableDescriptor: {{AQACAAMA}},
    }}"""
    studies.write_files(tmp_path / "in", [("1.dcm", file), ("2.ion", record.encode())])
    dicomstudy.convert([tmp_path / "in"], tmp_path / "archive")
    study = dicomstudy.open_archive(tmp_path / "archive")["1.2"]
    of_file, of_record = (study[uid].to_dataset() for uid in ("1.2.3.1", "1.2.3.2"))
    assert study["1.2.3.2"].encoding is None
    assert of_record.keys() == of_file.keys()
    for keyword in of_file.dir():
        if keyword != "SOPInstanceUID":
            assert read(of_record, keyword) == read(of_file, keyword), keyword
    assert read(of_record, "Rows") is BytesLengthException
    assert read(of_record.ReferencedImageSequence[0], "PixelSpacing") == ["1,5", "2.5"]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_bad_private_value_keeps_back_no_others(tmp_path: Path) -> None:
    """pydicom would decode it at once."""
    record = r"""{dataSet: {
        SOPInstanceUID: "1.2.3.2", StudyInstanceUID: "1.2", SeriesInstanceUID: "1.2.3",
        SpecificCharacterSet: 5, PatientName: "A^B", '00090010': "ACME", '00091001': "text",
        '00091002': "abc", '00091003': "fine",
        _vrs: {'00090010': "LO", '00091001': "FD", '00091002': "IS", '00091003': "LO"},
    }}"""
    studies.write_files(tmp_path / "in", [("2.ion", record.encode())])
    dicomstudy.convert([tmp_path / "in"], tmp_path / "archive")
    (instance,) = dicomstudy.open_archive(tmp_path / "archive")["1.2"].values()
    found = instance.to_dataset()
    assert found.PatientName == "A^B"
    assert found.private_block(9, "ACME")[3].value == "fine"
    assert found[0x00091003].private_creator == "ACME"
    for tag in (0x00091001, 0x00091002):
        with pytest.raises((BytesLengthException, TypeError, ValueError)):
            found[tag]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_no_value_of_a_record_becomes_another_in_a_data_set(tmp_path: Path) -> None:
    record = r"""{dataSet: {
        SOPInstanceUID: "1.2.3.2", StudyInstanceUID: "1.2", SeriesInstanceUID: "1.2.3",
        InstanceNumber: 2.5e0, SeriesNumber: 2e0, FrameIncrementPointer: 5,
        RetrieveURL: "http://x/日本\\a", RetrieveURI: "http://x/é\\a", ProcedureCodeSequence: [],
    }}"""
    studies.write_files(tmp_path / "in", [("2.ion", record.encode())])
    dicomstudy.convert([tmp_path / "in"], tmp_path / "archive")
    (instance,) = dicomstudy.open_archive(tmp_path / "archive")["1.2"].values()
    found = instance.to_dataset()
    assert (found.InstanceNumber, found.SeriesNumber) == (2.5, 2)
    assert (found["FrameIncrementPointer"].VR, found.FrameIncrementPointer) == ("SV", 5)
    assert found.RetrieveURL == "http://x/日本\\a"
    assert found.RetrieveURI == "http://x/é\\a"
    assert list(found.ProcedureCodeSequence) == []


FRAGMENTS = make.encapsulate([[b"fragment"]], end=False)
ODD = {
    "pixels": make.element(0x7FE00010, "UN", FRAGMENTS, undefined=True),
    "nested": make.nested(10_000, explicit=True),
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_what_pydicom_does_not_read_is_an_error_of_ours(odd: bytes, tmp_path: Path) -> None:
    file = make.part10(make.file_meta(make.EXPLICIT), make.small("odd", odd))
    studies.write_files(tmp_path / "in", [("1.dcm", file)])
    dicomstudy.convert([tmp_path / "in"], tmp_path / "archive")
    (study,) = dicomstudy.open_archive(tmp_path / "archive").values()
    (instance,) = study.values()
    with pytest.raises(StudyError, match="to_p10") as raised:
        instance.to_dataset()
    assert raised.value.code == "study/dataset"
    assert instance.to_p10() == file
    assert instance.metadata()["SOPInstanceUID"] == instance.uid
    assert instance.to_json()["00080018"] == {"vr": "UI", "Value": [instance.uid]}


@pytest.mark.parametrize("raised", [MemoryError, KeyboardInterrupt])
def test_what_is_no_matter_of_the_file_is_not_said_of_it(
    raised: type[BaseException], study: Study
) -> None:
    instance = next(study.values())
    with mock.patch("pydicom.dcmread", side_effect=raised), pytest.raises(raised):
        instance.to_dataset()


def test_encapsulated_pixels_without_a_file_are_those_of_a_file(tmp_path: Path) -> None:
    """A record whose file cannot be written gives what pydicom reads from that file."""
    pixels = bytes(range(256)) * 3
    value = make.encapsulate([[make.rle_frame(pixels, columns=16)]])
    elements = [
        make.element(0x00080120, "UR", "http://x/a\\b"),
        make.element(0x00280010, "US", 48),
        make.element(0x00280011, "US", 16),
        make.encapsulated(value),
    ]
    meta = make.file_meta(make.RLE, make.SECONDARY_CAPTURE, make.uid("wrecks/1/rle"))
    file = make.part10(meta, make.small("rle", *elements))
    source = studies.write_files(tmp_path / "in", [("rle.dcm", file)]) / "rle.dcm"
    dicomstudy.write_records([source], tmp_path / "records")
    (path,) = (tmp_path / "records").rglob("*.ion")
    record = ion.loads(path.read_bytes())
    del record["encoding"]
    path.write_bytes(ion.dumps(record))
    dicomstudy.convert([path], tmp_path / "archive")
    (study,) = dicomstudy.open_archive(tmp_path / "archive").values()
    (instance,) = study.values()
    assert instance.encoding is None
    made, read = instance.to_dataset(), pydicom.dcmread(source)
    assert made == read
    assert made["PixelData"].is_undefined_length
    assert made.file_meta.TransferSyntaxUID == make.RLE
    assert made.pixel_array.tobytes() == read.pixel_array.tobytes() == pixels


def test_an_instance_is_json(study: Study) -> None:
    model = study[make.uid("ct/2/7")].to_json()
    assert json.loads(json.dumps(model)) == model
    assert model["00100010"] == {"vr": "PN", "Value": [{"Alphabetic": "Example^Ann"}]}
    assert "BulkDataURI" in model["7FE00010"]


def test_large_values_of_the_json_model_are_those_of_its_instance(study: Study) -> None:
    for instance in study.values():
        dataset = pydicom.dcmread(io.BytesIO(instance.to_p10()))
        back = pydicom.Dataset.from_json(
            instance.to_json(), bulk_data_uri_handler=instance.bulk_data
        )
        assert back.get("PixelData") == dataset.get("PixelData")
    with pytest.raises(StudyError) as raised:
        instance.bulk_data("sha256:" + "0" * 64)
    assert raised.value.code == "study/no-value"


@pytest.mark.parametrize("bulk", ["copy", "reference"])
def test_large_values_of_the_json_model_are_as_if_they_were_inline(
    bulk: str, tmp_path: Path
) -> None:
    """Little-endian, without delimiter, numbers as numbers, in items too."""
    source = tmp_path / "in"
    source.mkdir()
    words = bytes(range(200)) * 2
    fragments = make.encapsulate([[words]], end=False)
    for number, syntax in enumerate((make.EXPLICIT, make.BIG_ENDIAN, make.RLE)):
        big = syntax == make.BIG_ENDIAN
        numbers = make.element(0x00720074, "FD", list(range(100)), big=big)
        pixels = make.element(0x7FE00010, "OW", words, big=big)
        tail = make.element(0x00880200, "SQ", make.item(numbers + pixels, big=big), big=big)
        if syntax == make.RLE:
            pixels = make.encapsulated(fragments + make.delimiter(0xFFFEE0DD))
        uids = [(0x00080018, f"1.2.{number}"), (0x0020000D, "1.3"), (0x0020000E, "1.4")]
        head = b"".join(make.element(tag, "UI", uid, big=big) for tag, uid in uids)
        data = make.part10(make.file_meta(syntax), head + tail + pixels)
        (source / f"{number}.dcm").write_bytes(data)
    dicomstudy.convert([source], tmp_path / "archive", bulk=bulk)
    for study in dicomstudy.open_archive(tmp_path / "archive").values():
        for instance in study.values():
            syntax = instance.metadata()["TransferSyntaxUID"]
            back = pydicom.Dataset.from_json(
                instance.to_json(), bulk_data_uri_handler=instance.bulk_data
            )
            inline = values.swap(words, 2) if syntax == make.BIG_ENDIAN else words
            (icon,) = back.IconImageSequence
            assert icon.PixelData == inline
            assert icon[0x00720074].value == list(range(100))
            assert back.PixelData == (fragments if syntax == make.RLE else inline)


def test_frames_are_read_one_by_one(archive: dicomstudy.Archive) -> None:
    study = archive[make.uid("us")]
    images = [make.colours(48, 64, frame=number) for number in range(4)]
    native = study[make.uid("us/1/1")]
    assert list(native.frames()) == images
    assert native.frame(3) == images[2]
    rle = study[make.uid("us/1/2")]
    assert list(rle.frames()) == [make.rle_frame(i, columns=64, samples=3) for i in images]
    for number in (0, 5, -1):
        with pytest.raises(StudyError) as raised:
            native.frame(number)
        assert raised.value.code == "study/no-frame"


def test_one_frame_reads_no_other_bytes(archives: dict[str, Path]) -> None:
    with dicomstudy.open_archive(archives["copy"])[make.uid("us")] as study:
        native = study[make.uid("us/1/1")]
        reads: list[int] = []
        pread = study.bulk.pread

        def counting(length: int, offset: int) -> bytes:
            reads.append(length)
            return pread(length, offset)

        with mock.patch.object(study.bulk, "pread", counting):
            native.frame(2)
        assert 0 < sum(reads) <= 4 * 48 * 64 * 3


def test_frames_are_found_once(archive: dicomstudy.Archive) -> None:
    rle = archive[make.uid("us")][make.uid("us/1/2")]
    with mock.patch.object(frames, "find", side_effect=frames.find) as find:
        one_by_one = [rle.frame(number) for number in range(1, 5)]
        assert one_by_one == list(rle.frames())
    assert find.call_count == 1


def test_small_frames_are_read_at_once(tmp_path: Path) -> None:
    number = make.element(0x00280008, "IS", "64")
    file = make.ct_slice(
        "ct", 1, 1, rows=8, columns=8, pixels=bytes(8192), replace={0x00280008: number}
    )
    studies.write_files(tmp_path / "in", [("1.dcm", file)])
    for bulk in ("copy", "reference"):
        dicomstudy.convert([tmp_path / "in"], tmp_path / bulk, bulk=bulk)
        (study,) = dicomstudy.open_archive(tmp_path / bulk).values()
        (instance,) = study.values()
        read = LargeValues.read
        with mock.patch.object(LargeValues, "read", autospec=True, side_effect=read) as reads:
            assert list(instance.frames()) == [bytes(128)] * 64
            assert reads.call_count == 1
            assert instance.frame(64) == bytes(128)


def test_one_instance_costs_one_chunk(study: Study) -> None:
    reads: list[int] = []
    value = study.document._value

    def counting(at: int) -> object:
        reads.append(at)
        return value(at)

    with mock.patch.object(study.document, "_value", counting):
        study[make.uid("ct/2/7")].metadata()
    candidates = [c for c in study.document.chunks if c["first"] <= make.uid("ct/2/7") <= c["last"]]
    assert len(reads) <= len(candidates) + study.document.header["sharedFrames"]
    assert len(candidates) < len(study.document.chunks)


def test_all_instances_cost_each_chunk_a_few_times(tmp_path: Path) -> None:
    """Those of one series after the other, whatever their UIDs are."""
    studies.write_files(tmp_path / "files", make.study(90, series=30, rows=2, columns=2))
    dicomstudy.convert([tmp_path / "files"], tmp_path / "archive")
    with dicomstudy.open_archive(tmp_path / "archive")[make.uid("study")] as study:
        keys = [key for keys in study.series.values() for key in keys]
        before = study.document.chunk.cache_info().misses
        assert [study[key].uid for key in keys] == keys
        assert study.document.chunk.cache_info().misses - before <= 2 * 30
        assert make.uid("other") not in study


def test_what_was_read_goes_with_the_study(archives: dict[str, Path]) -> None:
    study = dicomstudy.open_archive(archives["copy"])[CT]
    is_there = weakref.ref(study)
    instance = next(each for each in study.values() if "PixelData" in each.attributes())
    assert instance.bulk_data(instance.to_json()["7FE00010"]["BulkDataURI"])
    instance.to_dataset()
    study.close()
    del instance
    del study
    assert is_there() is None


def test_a_study_is_closed_behind_a_with_statement(archives: dict[str, Path]) -> None:
    with dicomstudy.open_archive(archives["copy"])[CT] as study:
        next(study.values()).to_p10()
        descriptors = [study.document._file.fileno(), study.bulk._file.fileno()]
    assert min(descriptors) >= 0
    assert study.bulk._file.fileno() == -1


# -- digests -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shuffled(archives: dict[str, Path]) -> list[Path]:
    """The files of the archives in any order, those of containers unpacked."""
    folder = archives["copy"].parent / "shuffled"
    chance = chance_of(11)
    files = list(studies.fixture_study())
    chance.shuffle(files)
    names = [f"{number:03d}.dcm" for number in range(len(files))]
    studies.write_files(folder, zip(names, (data for _, data in files), strict=True))
    return [folder / name for name in names]


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("bulk", ["copy", "reference"])
def test_a_digest_depends_on_the_content_alone(
    shuffled: list[Path], archives: dict[str, Path], tmp_path: Path, bulk: str, jobs: int
) -> None:
    """Not on order, names, place of large values, size of chunks, or number of processes."""
    dicomstudy.convert(shuffled, tmp_path / "archive", bulk=bulk, jobs=jobs)
    assert studies.digests_of(tmp_path / "archive") == studies.digests_of(archives["copy"])


def test_a_digest_does_not_depend_on_when_instances_came(
    shuffled: list[Path], archives: dict[str, Path], tmp_path: Path
) -> None:
    for start in range(5):
        dicomstudy.convert(shuffled[start::5], tmp_path / "archive")
    assert studies.digests_of(tmp_path / "archive") == studies.digests_of(archives["copy"])


def test_another_content_is_another_digest(archives: dict[str, Path], tmp_path: Path) -> None:
    data = make.ct_slice("ct", 1, 3)
    changed = make.ct_slice("ct", 1, 3, replace={0x00281050: make.element(0x00281050, "DS", "41")})
    found = set()
    for name, files in (("one", [data]), ("other", [changed]), ("both", [data, changed])):
        studies.write_files(tmp_path / name, ((f"{at}.dcm", d) for at, d in enumerate(files)))
        dicomstudy.convert([tmp_path / name], tmp_path / f"{name}.archive")
        found.add(studies.digests_of(tmp_path / f"{name}.archive")[CT])
    assert len(found) == 3
    assert studies.digests_of(archives["copy"])[CT] not in found


# -- documents outside of archives -------------------------------------------------------------


def readable(study: Study, path: Path) -> Path:
    """The document of a study in readable form."""
    path.write_text("".join(show.render(study, form="ion")), encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", [str, Path])
@pytest.mark.parametrize("name", ["study.ion.zst", "study.ion"])
def test_a_document_is_opened_wherever_it_is(
    name: str, kind: type[str | Path], study: Study, tmp_path: Path
) -> None:
    if name == "study.ion":
        readable(study, tmp_path / name)
    else:
        shutil.copy(study.path, tmp_path / name)
    if study.bulk_path is not None:
        shutil.copy(study.bulk_path, tmp_path / "study.bulk")
    with dicomstudy.open_study(kind(tmp_path / name)) as opened:
        assert (opened.uid, list(opened), opened.digest) == (CT, list(study), study.digest)
        for key, instance in opened.items():
            assert instance.to_p10() == study[key].to_p10()


def test_a_document_without_its_bulk_file_has_all_but_large_values(
    archives: dict[str, Path], tmp_path: Path
) -> None:
    study = dicomstudy.open_archive(archives["copy"])[CT]
    with dicomstudy.open_study(readable(study, tmp_path / "study.ion")) as opened:
        instance = opened[make.uid("ct/2/7")]
        assert instance.metadata() == study[instance.key].metadata()
        with pytest.raises(BulkError) as raised:
            instance.to_p10()
    assert raised.value.code == "bulk/missing"
    assert raised.value.location.source == str(tmp_path / "study.bulk")


def test_a_document_finds_files_that_moved(tmp_path: Path) -> None:
    data = make.archive()["us/native.dcm"]
    source = studies.write_files(tmp_path / "in", [("1.dcm", data)])
    dicomstudy.convert([source], tmp_path / "archive", bulk="reference")
    (study,) = dicomstudy.open_archive(tmp_path / "archive").values()
    path = readable(study, tmp_path / "study.ion")
    source.rename(tmp_path / "moved")
    with dicomstudy.open_study(path, sources=[tmp_path / "moved"]) as opened:
        assert next(opened.values()).to_p10() == data
    with dicomstudy.open_study(path) as opened, pytest.raises(BulkError) as raised:
        next(opened.values()).to_p10()
    assert raised.value.code == "bulk/source-missing"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("gone", "study/missing"),
        ("folder", "study/not-a-study"),
        ("pipe", "study/not-a-study"),
        ("empty", "study/damaged"),
        ("file.dcm", "study/not-a-study"),
        ("record.ion", "study/not-a-study"),
        ("cut.ion.zst", "study/damaged"),
    ],
)
def test_what_is_no_document_is_not_opened(
    name: str,
    code: str,
    archives: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    document = dicomstudy.open_archive(archives["copy"]).document_path(CT)
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("empty").touch()
    os.mkfifo("pipe")
    Path("file.dcm").write_bytes(make.archive()["us/native.dcm"])
    Path("record.ion").write_bytes(ion.dumps({"dataSet": {"StudyInstanceUID": "1.2"}}))
    Path("cut.ion.zst").write_bytes(document.read_bytes()[:500])
    with pytest.raises(StudyError) as raised:
        dicomstudy.open_study(name)
    assert (raised.value.code, raised.value.location.source) == (code, str(tmp_path / name))


def test_a_document_of_the_seed_is_opened(shared: Path) -> None:
    path = shared / "golden/study/ClearCanvas/CTStudy/study.ion"
    with dicomstudy.open_study(path) as study:
        assert len(study) == 111
        assert next(study.values()).metadata()["StudyInstanceUID"] == study.uid


# -- damage ------------------------------------------------------------------------------------


def test_without_its_bulk_file_a_study_still_has_its_metadata(archives: dict[str, Path]) -> None:
    archive = dicomstudy.open_archive(archives["copy"])
    with Study(archive.document_path(CT), definitions=definitions.load()) as study:
        instance = study[make.uid("ct/2/7")]
        assert instance.metadata()["PatientName"] == "Example^Ann"
        with pytest.raises(BulkError) as raised:
            instance.to_p10()
        assert raised.value.code == "bulk/missing"


def test_a_file_that_is_not_the_original_is_an_error(study: Study) -> None:
    instance: Instance = next(study.values())
    instance.prove(instance.source.sha256 or "")
    with pytest.raises(StudyError) as raised:
        instance.prove("0" * 64)
    assert raised.value.code == "study/sha256"
