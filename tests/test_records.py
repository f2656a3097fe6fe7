from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import signal
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dicomstudy
from dicomstudy import ingestion, ion
from dicomstudy.records import _safe
from dicomstudy.sources import Window
from fixtures import make
from tests import studies
from tests.kills import forked, kill

FIXTURES = Path(make.__file__).parent
HOSPITAL = FIXTURES / "archive"


def record(path: Path) -> dict[str, Any]:
    struct = ion.loads(path.read_bytes())
    assert isinstance(struct, dict)
    return struct


def digests(archive: Path) -> set[tuple[str, str, str]]:
    """Study, name and digest of every group."""
    return {
        (uid, name, digest)
        for uid, study in dicomstudy.open_archive(archive).items()
        for name, contents in study.groups.items()
        for digest in contents
    }


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def sha256s(folder: Path) -> set[str]:
    return {
        hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_each_file_has_a_record_in_its_place(tmp_path: Path) -> None:
    recorded = dicomstudy.write_records([HOSPITAL], tmp_path)
    assert (recorded.files, recorded.skipped, recorded.records) == (39, 1, 38)
    assert (recorded.problems, recorded.complete) == ([], True)
    names = {name.removesuffix(".ion") for name in files_below(tmp_path)}
    single = files_below(HOSPITAL) - {"README.txt", "late.tar", "texts.zip"}
    assert {name for name in names if not name.startswith(("late.tar/", "texts.zip/"))} == single
    assert {"late.tar/late/4.dcm", "texts.zip/texts/japanese.dcm"} <= names
    assert recorded.bytes_out == sum(path.stat().st_size for path in tmp_path.rglob("*.ion"))


def test_a_record_has_the_fields_of_dicom2ion(tmp_path: Path) -> None:
    source = HOSPITAL / "us/native.dcm"
    data = source.read_bytes()
    dicomstudy.write_records([source], tmp_path)
    struct = record(tmp_path / "native.dcm.ion")
    assert [*struct] == ["sourceInfo", "options", "fileInfo", "encoding", "dataSet"]
    assert struct["sourceInfo"] == {"uri": source.absolute().as_uri()}
    assert struct["options"]["maximumInlineDataLength"] == 256
    assert struct["fileInfo"] == {
        "sha256": hashlib.sha256(data).hexdigest(),
        "size": len(data),
        "dataSetOffset": 144 + int.from_bytes(data[140:144], "little"),
    }
    data_set = struct["dataSet"]
    assert next(iter(data_set)) == "SOPInstanceUID"
    assert data_set["PatientName"] == "Example^Cleo"
    pixels = data_set["PixelData"]
    assert sorted(pixels) == ["dataOffset", "length"]
    assert pixels["dataOffset"] + pixels["length"] == len(data)


def test_values_are_those_of_dicom2ion(shared: Path, tmp_path: Path) -> None:
    """Where dicom2ion is right: single numbers and text with keywords of the dictionary."""
    golden = shared / "golden/sopInstance/ClearCanvas/CTStudy"
    files = shared / "corpus/dagcom/ClearCanvas/CTStudy"
    dicomstudy.write_records([files], tmp_path)
    for path in sorted(golden.glob("*.dcm.ion")):
        theirs, ours = record(path)["dataSet"], record(tmp_path / path.name)["dataSet"]
        for key, value in theirs.items():
            if key[0].isupper() and isinstance(value, str | int | None) and ours[key] != value:
                # UN and control characters that JavaScript's trim takes for space
                assert key == "SourceApplicationEntityTitle"
                assert value == ours[key].strip()


def test_vrs_are_those_that_the_dictionary_has_not(tmp_path: Path) -> None:
    """Each by the key of its own element, replaced ones too."""
    elements = (
        make.element(0x00200012, "DS", "1 ") + make.element(0x00200012, "IS", "2 "),
        make.element(0x00280106, "SS", -3),
        make.element(0x00280107, "UL", 5),
        make.element(0x00283006, "US", 7),
        make.element(0x20050010, "LO", "ACME"),
        make.element(0x20051001, "US", 1),
    )
    meta = make.file_meta(make.EXPLICIT, make.SECONDARY_CAPTURE, make.uid("wrecks/1/vrs"))
    file = make.part10(meta, make.small("vrs", *elements))
    source = studies.write_files(tmp_path / "in", [("vrs.dcm", file)])
    dicomstudy.write_records([source], tmp_path / "records")
    (path,) = (tmp_path / "records").rglob("*.ion")
    data_set = record(path)["dataSet"]
    assert (data_set["AcquisitionNumber"], data_set["AcquisitionNumber#1"]) == ("2", "1")
    assert data_set["_vrs"] == {
        "AcquisitionNumber#1": "DS",
        "LargestImagePixelValue": "UL",
        "20050010": "LO",
        "20051001": "US",
    }


def test_text_and_binary_say_the_same(tmp_path: Path) -> None:
    dicomstudy.write_records([HOSPITAL], tmp_path / "binary")
    dicomstudy.write_records([HOSPITAL], tmp_path / "text", text=True)
    assert files_below(tmp_path / "binary") == files_below(tmp_path / "text")
    for path in (tmp_path / "text").rglob("*.ion"):
        assert path.read_bytes().startswith(b"{\n")
        assert record(path) == record(tmp_path / "binary" / path.relative_to(tmp_path / "text"))


@pytest.mark.parametrize("text", [False, True], ids=["binary", "text"])
def test_records_convert_as_their_files_do(text: bool, tmp_path: Path) -> None:
    dicomstudy.convert([HOSPITAL], tmp_path / "of files")
    dicomstudy.write_records([HOSPITAL], tmp_path / "records", text=text)
    report = dicomstudy.convert([tmp_path / "records"], tmp_path / "of records")
    assert (report.instances, report.unchanged, report.problems) == (37, 1, [])
    assert digests(tmp_path / "of records") == digests(tmp_path / "of files")
    of_files = dicomstudy.open_archive(tmp_path / "of files")
    for uid, study in dicomstudy.open_archive(tmp_path / "of records").items():
        assert study.digest == of_files[uid].digest


@pytest.mark.parametrize("largest", [None, 1000], ids=["whole", "in windows"])
def test_files_come_back_of_their_records(
    largest: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deflated, big-endian and zipped ones too, whose large values cannot be pointed at."""
    if largest is not None:
        monkeypatch.setattr(ingestion, "MAX_WHOLE", largest)
    shutil.copytree(HOSPITAL, tmp_path / "in")
    dicomstudy.write_records([tmp_path / "in"], tmp_path / "records")
    dicomstudy.convert([tmp_path / "records"], tmp_path / "archive")
    shutil.rmtree(tmp_path / "in")
    restored = dicomstudy.restore(tmp_path / "archive", tmp_path / "out")
    assert (restored.files, restored.problems) == (37, [])
    dicomstudy.convert([HOSPITAL], tmp_path / "of files")
    dicomstudy.restore(tmp_path / "of files", tmp_path / "out of files")
    assert sha256s(tmp_path / "out") == sha256s(tmp_path / "out of files")
    assert dicomstudy.verify(tmp_path / "archive").problems == []


def test_a_record_whose_file_is_there_is_taken_for_it(tmp_path: Path) -> None:
    source = HOSPITAL / "us/native.dcm"
    dicomstudy.write_records([source], tmp_path / "records")
    dicomstudy.convert([tmp_path / "records"], tmp_path / "of records", max_inline=20)
    report = dicomstudy.convert([source], tmp_path / "of records", max_inline=20)
    assert (report.unchanged, report.bytes_out) == (1, 0)
    dicomstudy.convert([source], tmp_path / "of files", max_inline=20)
    assert digests(tmp_path / "of records") == digests(tmp_path / "of files")
    (one,) = (tmp_path / "of records").rglob("*.bulk")
    (other,) = (tmp_path / "of files").rglob("*.bulk")
    assert one.read_bytes() == other.read_bytes()


def test_real_files_come_back_of_their_records(shared: Path, tmp_path: Path) -> None:
    files = shared / "corpus/dagcom/encoding-variants"
    shutil.copytree(files, tmp_path / "in")
    dicomstudy.write_records([tmp_path / "in"], tmp_path / "records")
    dicomstudy.convert([tmp_path / "records"], tmp_path / "archive")
    shutil.rmtree(tmp_path / "in")
    restored = dicomstudy.restore(tmp_path / "archive", tmp_path / "out")
    assert restored.problems == []
    assert sha256s(tmp_path / "out") == sha256s(files)


def test_a_source_that_is_gone_or_changed_is_reported(tmp_path: Path) -> None:
    source = tmp_path / "native.dcm"
    source.write_bytes((HOSPITAL / "us/native.dcm").read_bytes())
    dicomstudy.write_records([source], tmp_path / "records")
    dicomstudy.convert([tmp_path / "records"], tmp_path / "archive", bulk="reference")
    source.write_bytes(source.read_bytes()[:-1] + b"\xff")
    (problem,) = dicomstudy.restore(tmp_path / "archive", tmp_path / "out").problems
    assert problem.code == "bulk/source-changed"
    source.unlink()
    (problem,) = dicomstudy.restore(tmp_path / "archive", tmp_path / "out").problems
    assert problem.code == "bulk/source-missing"


@pytest.mark.parametrize("other", [b"", b"other bytes"], ids=["gone", "changed"])
def test_values_are_copied_once_the_file_of_the_record_is_there(
    other: bytes, tmp_path: Path
) -> None:
    source, archive = tmp_path / "native.dcm", tmp_path / "archive"
    content = (HOSPITAL / "us/native.dcm").read_bytes()
    source.write_bytes(content)
    dicomstudy.write_records([source], tmp_path / "records")
    source.unlink()
    if other:
        source.write_bytes(content[: -len(other)] + other)
    report = dicomstudy.convert([tmp_path / "records"], archive)
    assert (report.instances, report.problems) == (1, [])
    assert len(dicomstudy.restore(archive, tmp_path / "out").problems) == 1
    source.write_bytes(content)
    report = dicomstudy.convert([tmp_path / "records"], archive)
    assert (report.unchanged, report.problems) == (0, [])
    source.unlink()
    assert dicomstudy.restore(archive, tmp_path / "out").problems == []
    assert sha256s(tmp_path / "out") == {hashlib.sha256(content).hexdigest()}


def test_the_file_of_a_record_is_not_taken_in_if_it_is_written_to_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "native.dcm"
    source.write_bytes((HOSPITAL / "us/native.dcm").read_bytes())
    dicomstudy.write_records([source], tmp_path / "records")
    read = Window.__getitem__

    def meanwhile(window: Window, place: slice) -> bytes:
        data = read(window, place)
        os.utime(source, ns=(1, 1))
        return data

    monkeypatch.setattr(Window, "__getitem__", meanwhile)
    report = dicomstudy.convert([tmp_path / "records"], tmp_path / "archive")
    assert [problem.code for problem in report.problems] == ["source/changed"]
    assert (report.instances, report.refused) == (0, 1)


def test_wrecks_have_records_or_problems(tmp_path: Path) -> None:
    recorded = dicomstudy.write_records([FIXTURES / "wrecks"], tmp_path / "records")
    assert recorded.files == recorded.skipped + recorded.records + recorded.refused
    assert recorded.records > 50
    assert all(Path(problem.source or "").is_file() for problem in recorded.problems)
    report = dicomstudy.convert([tmp_path / "records"], tmp_path / "archive")
    of_files = dicomstudy.convert([FIXTURES / "wrecks"], tmp_path / "of files")
    assert report.instances == of_files.instances
    restored = dicomstudy.restore(tmp_path / "archive", tmp_path / "out")
    assert restored.problems == []
    assert sha256s(tmp_path / "out") <= sha256s(FIXTURES / "wrecks")


@pytest.mark.parametrize(
    ("name", "content", "codes"),
    [
        ("cut", (FIXTURES / "wrecks/bare-implicit.dcm").read_bytes()[:-1], ["p10/truncated"]),
        ("no uids", b"\x08\0\x08\0CS\x08\0ORIGINAL", []),
        ("no data set", b"\x08\0" + b"text" * 100, []),
        ("notes", gzip.compress(b"text"), []),
        ("notes.gz", gzip.compress(b"text"), []),
        ("notes.ion", b'{"my": "settings"}', []),
    ],
    ids=["cut", "no uids", "no data set", "notes", "notes.gz", "notes.ion"],
)
@pytest.mark.parametrize("inside", [False, True], ids=["alone", "member"])
def test_what_is_no_p10_file_is_none_for_records_either(
    name: str, content: bytes, codes: list[str], inside: bool, tmp_path: Path
) -> None:
    source = tmp_path / name
    source.write_bytes(content)
    if inside:
        with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
            archive.write(source, name)
        source = tmp_path / "in.zip"
    recorded = dicomstudy.write_records([source], tmp_path / "records")
    if name != "notes.ion":  # which `convert` takes for a record
        report = dicomstudy.convert([source], tmp_path / "archive")
        assert (report.files, report.skipped) == (recorded.files, recorded.skipped)
        assert report.problems == recorded.problems
    assert [problem.code for problem in recorded.problems] == codes
    assert (recorded.records, recorded.skipped) == ((1, 0) if codes else (0, 1))
    assert recorded.complete


def test_the_data_set_starts_behind_the_meta_information_even_if_there_is_none(
    tmp_path: Path,
) -> None:
    source = FIXTURES / "wrecks/deflate-not.dcm"
    dicomstudy.write_records([source], tmp_path)
    length = int.from_bytes(source.read_bytes()[140:144], "little")
    found = record(tmp_path / "deflate-not.dcm.ion")
    assert found["fileInfo"]["dataSetOffset"] == 144 + length


def test_what_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    recorded = dicomstudy.write_records([tmp_path / "missing"], tmp_path / "out")
    (problem,) = recorded.problems
    assert problem.code == "source/unreadable"
    assert not recorded.complete


def test_an_archive_is_a_problem(tmp_path: Path) -> None:
    source = HOSPITAL / "us/native.dcm"
    studies.write_files(tmp_path / "in", [("1.dcm", source.read_bytes())])
    dicomstudy.convert([source, FIXTURES / "wrecks/DICOMDIR"], tmp_path / "in/archive")
    for named in ("in", "in/archive", "in/archive/archive.ion"):
        recorded = dicomstudy.write_records([tmp_path / named], tmp_path / "out")
        (problem,) = recorded.problems
        assert problem.code == "source/archive"
        assert recorded.files == recorded.records == (1 if named == "in" else 0)
        assert not recorded.complete


def test_an_empty_path_is_a_problem(tmp_path: Path) -> None:
    recorded = dicomstudy.write_records([""], tmp_path / "out")
    assert [problem.code for problem in recorded.problems] == ["source/unreadable"]


def test_running_again_replaces_records(tmp_path: Path) -> None:
    source = HOSPITAL / "mr/1.dcm"
    dicomstudy.write_records([source], tmp_path)
    before = (tmp_path / "1.dcm.ion").read_bytes()
    for text in (False, True):
        dicomstudy.write_records([HOSPITAL / "mr/2.dcm"], tmp_path / "other", text=text)
        (tmp_path / "other/2.dcm.ion").replace(tmp_path / "1.dcm.ion")
        assert dicomstudy.write_records([source], tmp_path).complete
        assert files_below(tmp_path) == {"1.dcm.ion"}
        assert (tmp_path / "1.dcm.ion").read_bytes() == before


@pytest.mark.parametrize(
    "other", [b"", b'{"my": "settings"}', ion.dumps({"dataSet": {}}), None], ids=repr
)
def test_a_file_that_is_no_record_is_not_replaced_by_one(
    other: bytes | None, tmp_path: Path
) -> None:
    content = (HOSPITAL / "mr/1.dcm").read_bytes()
    other = content if other is None else other
    studies.write_files(tmp_path, [("1.dcm", content), ("1.dcm.ion", other)])
    recorded = dicomstudy.write_records([tmp_path], tmp_path)
    assert "records/exists" in [problem.code for problem in recorded.problems]
    assert (tmp_path / "1.dcm.ion").read_bytes() == other


def test_equal_names_in_one_run_do_not_replace_each_other(tmp_path: Path) -> None:
    for _ in range(2):  # what an earlier run wrote is replaced, also if this one has written it
        recorded = dicomstudy.write_records([HOSPITAL / "mr", HOSPITAL / "mr/1.dcm"], tmp_path)
        assert recorded.records == 5
        assert {"1.dcm.ion", "1.dcm-2.ion"} <= files_below(tmp_path)
        assert len(files_below(tmp_path)) == 5


@pytest.mark.parametrize("runs", [1, 2])
def test_names_that_the_file_system_takes_for_one_are_two(
    runs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those are that differ in case only, where case does not matter."""

    def folded(path: Path) -> Path:
        return path.with_name(path.name.lower()) if path.parent == out else path

    out, read, replace = tmp_path / "out", Path.read_bytes, Path.replace
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(folded(path)))
    monkeypatch.setattr(Path, "replace", lambda path, target: replace(path, folded(Path(target))))
    files = [*make.study(4, series=1)]
    names = ("A.dcm", "a.dcm", "a.dcm-2", "a.DCM")
    contents = [(name, data) for name, (_, data) in zip(names, files, strict=True)]
    folder = studies.write_files(tmp_path / "in", contents)
    for _ in range(runs):
        recorded = dicomstudy.write_records([folder], out)
        assert (recorded.records, recorded.problems) == (4, [])
    found = {record(out / name)["fileInfo"]["sha256"] for name in files_below(out)}
    assert found == {hashlib.sha256(data).hexdigest() for _, data in files}
    assert len(files_below(out)) == 4


def test_names_that_leave_no_room_for_more_are_shortened(tmp_path: Path) -> None:
    files = make.study(6, series=1)
    names = ["n" * 200, "n" * 201, "n" * 252, "m" * 255, "ä" * 127, os.fsdecode(b"\xff" * 251)]
    folder = tmp_path / "in"
    folder.mkdir()
    for name, (_, data) in zip(names, files, strict=True):
        (folder / name).write_bytes(data)
    for sources in ([folder], [folder, *folder.iterdir()]):
        recorded = dicomstudy.write_records(sources, tmp_path / "out")
        assert (recorded.records, recorded.problems) == (6 * len(sources[:2]), [])
    expected = {names[0], *(hashlib.sha256(os.fsencode(name)).hexdigest() for name in names[1:])}
    assert files_below(tmp_path / "out") == {
        f"{name}{end}.ion" for name in expected for end in ("", "-2")
    }


def test_members_never_lead_out_of_the_destination(tmp_path: Path) -> None:
    content = (HOSPITAL / "mr/1.dcm").read_bytes()
    names = ["../../up", "/absolute", "a/../../b", r"..\..\windows", "..", "x" * 300, "n\nl\x1b"]
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for name in names:
            archive.writestr(zipfile.ZipInfo(name), content)
    with tarfile.open(tmp_path / "in.tar", "w") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    out = tmp_path / "deep" / "out"
    sources = [tmp_path / "in.zip", tmp_path / "in.tar"]
    recorded = dicomstudy.write_records(sources, out)
    assert (recorded.records, recorded.problems) == (2 * len(names), [])
    assert {path.name for path in tmp_path.iterdir()} == {"in.zip", "in.tar", "deep"}
    assert {path.name for path in (tmp_path / "deep").iterdir()} == {"out"}
    assert len(files_below(out)) == 2 * len(names)
    assert {"in.zip/up.ion", "in.zip/absolute.ion", "in.zip/a/b.ion"} <= files_below(out)


@given(st.text())
def test_safe_names_lead_down_only(name: str) -> None:
    path = _safe(name)
    assert path.parts
    assert not path.is_absolute()
    assert not {"..", "."} & set(path.parts)
    assert all(len(part.encode()) <= 200 and "\0" not in part for part in path.parts)


def test_a_destination_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(dicomstudy.ArchiveError) as raised:
        dicomstudy.write_records([HOSPITAL], tmp_path / "file")
    assert raised.value.code == "records/unwritable"


def test_a_record_that_cannot_be_written_is_no_fault_of_its_file(tmp_path: Path) -> None:
    files = [(f"{n}.dcm", make.ct_slice("a", 1, n)) for n in (1, 2)]
    folder, out = studies.write_files(tmp_path / "in", files), tmp_path / "out"
    (out / "1.dcm.ion").mkdir(parents=True)
    recorded = dicomstudy.write_records([folder], out)
    assert (recorded.records, recorded.refused) == (1, 1)
    (problem,) = recorded.problems
    assert (problem.source, problem.code) == (str(out / "1.dcm.ion"), "records/unwritable")


def test_a_negative_max_inline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(dicomstudy.DicomStudyError) as raised:
        dicomstudy.write_records([HOSPITAL], tmp_path / "out", max_inline=-1)
    assert raised.value.code == "records/options"
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_what_runs_that_were_killed_left_goes_with_the_next_one(tmp_path: Path) -> None:
    def killed() -> None:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Path, "replace", kill)
            dicomstudy.write_records([HOSPITAL], tmp_path / "out")

    dicomstudy.write_records([HOSPITAL], tmp_path / "whole")
    for _ in range(3):
        assert forked(killed) == -signal.SIGKILL
        assert len(list((tmp_path / "out").rglob("*.part"))) == 1
    dicomstudy.write_records([HOSPITAL], tmp_path / "out")
    assert studies.state_of(tmp_path / "out") == studies.state_of(tmp_path / "whole")
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


def test_records_may_stand_beside_their_files(tmp_path: Path) -> None:
    """What is not finished there is none of the files."""
    studies.write_files(tmp_path, make.study(3, series=1))
    recorded = dicomstudy.write_records([tmp_path], tmp_path)
    assert (recorded.files, recorded.records, recorded.skipped) == (3, 3, 0)
    assert recorded.complete
    assert len(files_below(tmp_path)) == 6
