"""The kept fixtures are what `fixtures/make.py` writes, small, and regular where they claim it."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from pathlib import Path
from unittest import mock

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.encaps import generate_frames

from fixtures import make

FIXTURES = Path(make.__file__).parent
ARCHIVE_BOUND = 600_000
WRECKS_BOUND = 300_000
# fmt: off
VRS = [
    "AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT",
    "OB", "OD", "OF", "OL", "OV", "OW", "PN", "SH", "SL", "SQ", "SS", "ST",
    "SV", "TM", "UC", "UI", "UL", "UN", "UR", "US", "UT", "UV",
]
# fmt: on


def contents(folder: Path) -> dict[str, bytes]:
    """The files below a folder's `archive/` and `wrecks/`, by their paths."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for name in ("archive", "wrecks")
        for path in sorted((folder / name).rglob("*"))
        if path.is_file()
    }


def has_usual_zlib() -> bool:
    """Whether zlib compresses as the reference implementation does; zlib-ng does not."""
    probe = bytes(index * index % 251 for index in range(5000))
    compressor = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    stream = compressor.compress(probe) + compressor.flush()
    return (
        hashlib.sha256(stream).hexdigest()
        == "71ba2474a0e76d14f903ad05f1b5f2df25dba86efb2bac3b44a28f3f17050996"
    )


def instances() -> dict[str, bytes]:
    """The Part 10 files of the archive, those in the zip and the tar too."""
    found: dict[str, bytes] = {}
    for name, content in make.archive().items():
        if name.endswith(".zip"):
            with zipfile.ZipFile(io.BytesIO(content)) as source:
                found |= {f"{name}/{member}": source.read(member) for member in source.namelist()}
        elif name.endswith(".tar"):
            with tarfile.open(fileobj=io.BytesIO(content)) as source:
                for member in source:
                    file = source.extractfile(member)
                    assert file is not None
                    found[f"{name}/{member.name}"] = file.read()
        elif not name.endswith(".txt"):
            found[name] = content
    return found


def read(content: bytes) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(content))


def test_kept_files_are_those_the_script_writes(tmp_path: Path) -> None:
    make.write_all(tmp_path)
    kept, made = contents(FIXTURES), contents(tmp_path)
    assert kept.keys() == made.keys()
    usual = has_usual_zlib()
    index = "wrecks/INDEX.json"  # tells what the installed pydicom reads
    skipped = {index} if usual else {index, *make.ZLIB_MADE}
    assert [name for name in kept if name not in skipped and kept[name] != made[name]] == []


def test_writing_again_removes_what_is_old(tmp_path: Path) -> None:
    old, other = tmp_path / "archive" / "old.dcm", tmp_path / "other.txt"
    old.parent.mkdir()
    old.touch()
    other.touch()
    make.write_all(tmp_path)
    assert not old.exists()
    assert other.exists()


def test_files_that_zlib_made_are_there() -> None:
    assert contents(FIXTURES).keys() >= make.ZLIB_MADE


def test_fixtures_are_small() -> None:
    kept = contents(FIXTURES)
    for folder, bound in (("archive/", ARCHIVE_BOUND), ("wrecks/", WRECKS_BOUND)):
        assert sum(len(kept[name]) for name in kept if name.startswith(folder)) < bound


def test_index_lists_every_wreck() -> None:
    entries = json.loads((FIXTURES / "wrecks" / "INDEX.json").read_bytes())
    kept = {path.name for path in (FIXTURES / "wrecks").iterdir()} - {"INDEX.json"}
    assert {entry["file"]: entry["what"] for entry in entries} == {
        name: wreck.what for name, wreck in make.wrecks().items()
    }
    assert {entry["file"] for entry in entries} == kept
    assert {type(entry["pydicom_reads"]) for entry in entries} == {bool}
    assert {type(entry["pydicom_rewrites"]) for entry in entries} == {bool}


@pytest.mark.parametrize(
    "content", [pytest.param(raw, id=name) for name, raw in instances().items()]
)
def test_regular_files_are_read_by_pydicom(content: bytes) -> None:
    assert make.reads_to_its_end(content)
    dataset = read(content)
    assert dataset.SOPInstanceUID == dataset.file_meta.MediaStorageSOPInstanceUID
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        assert dataset[keyword].value.startswith("2.25.")
    assert "Exam" in str(dataset.PatientName) or "Exäm" in str(dataset.PatientName)


def test_the_archive_has_five_studies_two_clashes_a_duplicate_and_a_conflict() -> None:
    found = instances()
    unique = {hashlib.sha256(content).digest(): content for content in found.values()}
    datasets = [read(content) for content in unique.values()]
    assert len(found) - len(unique) == 1
    assert Counter(str(dataset.StudyDescription) for dataset in datasets) == {
        "CT CHEST": 16,
        "MR HEAD": 4,
        "US ABDOMEN": 4,
        "ENCODINGS": 8,
        "TEXTS": 5,
    }
    assert len({dataset.StudyInstanceUID for dataset in datasets}) == 5
    times = Counter(dataset.SOPInstanceUID for dataset in datasets)
    assert [count for count in times.values() if count > 1] == [2, 2]
    names = {str(dataset.PatientName) for dataset in datasets if dataset.Modality == "MR"}
    assert len(names) == 2


def test_every_vr_occurs_explicit_and_implicit() -> None:
    archive = make.archive()
    explicit, implicit = (
        read(archive[f"encodings/every-vr-{name}.dcm"]) for name in ("explicit", "implicit")
    )
    for dataset in (explicit, implicit):
        assert sorted({element.VR for element in dataset.iterall()}) == VRS
    for dataset in (explicit, implicit):
        del dataset.SOPInstanceUID, dataset.InstanceNumber
    assert explicit == implicit


def test_the_four_encodings_have_equal_values() -> None:
    archive = make.archive()
    values = []
    for name in ("implicit", "explicit", "deflated", "big"):
        dataset = read(archive[f"encodings/{name}.dcm"])
        if name == "big":
            for keyword, code in (
                ("PixelData", "h"),
                ("VectorGridData", "f"),
                ("SelectorODValue", "d"),
                ("SelectorOLValue", "L"),
            ):
                raw = dataset[keyword].value
                count = len(raw) // struct.calcsize(f">{code}")
                numbers = struct.unpack(f">{count}{code}", raw)
                dataset[keyword].value = struct.pack(f"<{count}{code}", *numbers)
        del dataset.SOPInstanceUID
        values.append(dataset.to_json())
    assert len(set(values)) == 1


def test_ultrasound_frames_can_be_found() -> None:
    archive = make.archive()
    frames = [make.colours(48, 64, frame=number) for number in range(4)]
    assert read(archive["us/native.dcm"]).PixelData == b"".join(frames)
    for name in ("rle-offsets", "rle-extended-offsets", "jpeg-fragments"):
        dataset = read(archive[f"us/{name}.dcm"])
        extended = None
        if "ExtendedOffsetTable" in dataset:
            extended = (dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths)
        found = list(
            generate_frames(dataset.PixelData, number_of_frames=4, extended_offsets=extended)
        )
        expected = [
            make.jpeg_lossless(frame, rows=48, columns=64, samples=3)
            if name == "jpeg-fragments"
            else make.rle_frame(frame, columns=64, samples=3)
            for frame in frames
        ]
        assert found == expected


def unpacked(segment: bytes) -> bytes:
    """The bytes of an RLE segment (PS3.5 section G.3.2)."""
    values = bytearray()
    position = 0
    while position < len(segment) - 1:
        count = segment[position]
        if count < 128:
            values += segment[position + 1 : position + 2 + count]
            position += 2 + count
        else:
            values += segment[position + 1 : position + 2] * (257 - count)
            position += 2
    return bytes(values)


@given(st.lists(st.sampled_from(b"\0\0\0\1\2"), min_size=1, max_size=600))
def test_rle_can_be_undone(row: list[int]) -> None:
    frame = make.rle_frame(bytes(row), columns=len(row))
    assert len(frame) % 2 == 0
    assert unpacked(frame[64:]) == bytes(row)


def test_uids_are_valid_and_stable() -> None:
    expected = "2.25.230794484125896402721085770736719354146"
    assert make.uid("ct") == expected
    assert {len(make.uid(str(number))) for number in range(1000)} == {44}


def test_elements_are_written_as_told() -> None:
    assert make.element(0x00100010, "PN", "A^B") == b"\x10\0\x10\0PN\4\0A^B "
    assert make.element(0x00100010, "PN", b"A^B", explicit=False) == b"\x10\0\x10\0\3\0\0\0A^B"
    assert make.element(0x00280010, "US", (1, 2), big=True) == b"\0\x28\0\x10US\0\4\0\1\0\2"
    assert make.element(0x00280009, "AT", 0x00181063) == b"\x28\0\x09\0AT\4\0\x18\0\x63\x10"
    assert make.element(0x00081140, "SQ", undefined=True) == (
        b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\xdd\xe0\0\0\0\0"
    )
    assert make.item(b"ab", undefined=True) == (
        b"\xfe\xff\0\xe0\xff\xff\xff\xffab\xfe\xff\x0d\xe0\0\0\0\0"
    )


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("explicit", [False, True])
def test_nesting_is_as_deep_as_told(*, undefined: bool, explicit: bool) -> None:
    raw = make.nested(20, undefined=undefined, explicit=explicit)
    syntax = make.EXPLICIT if explicit else make.IMPLICIT
    dataset = read(make.part10(make.file_meta(syntax, sop_instance="1.2"), raw))
    depth = 0
    while "ContentSequence" in dataset:
        depth += 1
        items = dataset.ContentSequence
        if not items:
            break
        dataset = items[0]
    assert depth == 20


def test_nesting_can_be_deep() -> None:
    assert len(make.nested(100_000)) == 32 * 99_999 + 8
    assert len(make.nested(100_000, undefined=False)) == 16 * 99_999 + 8


def test_group_lengths_count_the_elements_of_their_group() -> None:
    dataset = read(make.archive()["ct/bone/IM0001"])
    assert sum(tag.element == 0 for tag in dataset.keys()) == 8  # noqa: SIM118
    patient = b"".join(raw for raw in make.ct_elements("ct", 2, 7) if raw[:2] == b"\x10\0")
    assert dataset[0x00100000].value == len(patient)


def test_a_study_equals_its_slices() -> None:
    made = dict(make.study(20, series=2))
    for number in (1, 10):
        content = made[f"series-2/{number:06d}.dcm"]
        pixels = read(content).PixelData
        assert content == make.ct_slice("study", 2, number, rows=16, columns=16, pixels=pixels)
        assert make.reads_to_its_end(content)
    assert len({read(content).SOPInstanceUID for content in made.values()}) == 20
    assert len({read(content).PixelData for content in made.values()}) == 10


def test_what_the_files_of_a_study_share_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = mock.Mock(wraps=make.ct_elements)
    monkeypatch.setattr(make, "ct_elements", counted)
    assert sum(1 for _ in make.study(5000)) == 5000
    assert counted.call_count == 4  # once for each series
