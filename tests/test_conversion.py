"""Files are taken into an archive: all of them, once, and reported (spec/archive.md)."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import dicomstudy
from dicomstudy import cli, conversion, ingestion
from dicomstudy.bulk import BulkReader, BulkWriter
from dicomstudy.conversion import Report
from dicomstudy.document import Document
from dicomstudy.errors import ArchiveError, DicomStudyError, Problem
from dicomstudy.grouping import Grouper
from dicomstudy.sources import find
from fixtures import make
from fixtures.make import element
from tests import processes, studies
from tests.kills import kill
from tests.samples import chance_of, fixture_files

CT = make.uid("ct")
FIXTURES = Path(make.__file__).parent


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`fixtures/archive` and `fixtures/wrecks` in a folder of their own."""
    return studies.write_fixtures(tmp_path_factory.mktemp("conversion"))


def restored(archive: Path, target: Path) -> set[str]:
    """The SHA-256 of every file that comes out of an archive."""
    done = dicomstudy.restore(archive, target)
    assert done.problems == []
    files = [path for path in target.rglob("*") if path.is_file()]
    assert done.files == len(files)
    assert done.bytes_out == sum(path.stat().st_size for path in files)
    return {hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def wanted(*, without: tuple[str, ...] = ()) -> set[str]:
    """The SHA-256 of every file of the fixtures that is DICOM."""
    return {
        hashlib.sha256(data).hexdigest()
        for name, data in fixture_files().items()
        if name not in without and data[128:132] == b"DICM"
    }


@pytest.mark.parametrize("step", ["ingest", "finish"])
def test_a_worker_that_is_killed_is_one_error(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = tmp_path / "archive"
    arguments = ["convert", str(FIXTURES / "archive"), str(archive), "--jobs", "2"]
    with monkeypatch.context() as patched:
        patched.setattr(conversion, step, kill)
        assert cli.main(arguments) == cli.INCOMPLETE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[-1].endswith(f" [convert/worker] ({archive.resolve()})")
    assert "Traceback" not in captured.err
    assert list((archive / "incoming").iterdir()) == []
    assert cli.main(arguments) == 0
    assert dicomstudy.verify(archive).problems == []


#: Converts with two processes where the system has something not to spare, and says how it ends.
_SHORT = """
import multiprocessing, os, sys, threading
import dicomstudy
from dicomstudy import workers
{short}
try:
    print(dicomstudy.convert([sys.argv[1]], sys.argv[2], jobs=2).instances)
except dicomstudy.DicomStudyError as error:
    print(error.code)
print(multiprocessing.active_children())
"""
_NO_SECOND_PROCESS = """
fork, begun = os.fork, []
def first_only():
    begun.append(1)
    if len(begun) > 1:
        raise BlockingIOError(11, "Resource temporarily unavailable")
    return fork()
os.fork = first_only
"""
_NO_SECOND_PROCESS_SPAWNED = """
threading.Thread(target=threading.Event().wait, daemon=True).start()
from multiprocessing import popen_spawn_posix
Popen, begun = popen_spawn_posix.Popen, []
launch = Popen._launch
def first_only(*arguments):
    begun.append(1)
    if len(begun) > 1:
        raise BlockingIOError(11, "Resource temporarily unavailable")
    return launch(*arguments)
Popen._launch = first_only
"""
_NO_THREAD = """
threading.excepthook = print
start = threading.Thread.start
def start_others(thread):
    if {which}:
        raise RuntimeError("can't start new thread")
    start(thread)
threading.Thread.start = start_others
"""
_GIVES_OUT_WORK = _NO_THREAD.format(which='type(thread).__name__ == "_ExecutorManagerThread"')
_FEEDS_A_QUEUE = _NO_THREAD.format(which='thread.name == "QueueFeederThread"')
_WAITS_FOR_THE_PARENT = _NO_THREAD.format(which="thread._target is workers._end_with_parent")


@pytest.mark.parametrize(
    "short", [_NO_SECOND_PROCESS, _NO_SECOND_PROCESS_SPAWNED, _GIVES_OUT_WORK, _FEEDS_A_QUEUE]
)
def test_processes_that_cannot_all_begin_are_one_error_and_end(short: str, tmp_path: Path) -> None:
    studies.write_files(tmp_path / "in", make.study(300, series=1))
    script = _SHORT.format(short=short)
    done = processes.output(script, tmp_path / "in", tmp_path / "archive", limit=30)
    assert done.splitlines()[-2:] == ["convert/worker", "[]"]
    assert dicomstudy.verify(tmp_path / "archive").problems == []
    assert dicomstudy.convert([tmp_path / "in"], tmp_path / "archive").instances == 300
    assert list((tmp_path / "archive" / "incoming").iterdir()) == []


def test_workers_without_open_files_to_spare_are_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(*_: Any, **__: Any) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    studies.write_files(tmp_path / "in", make.study(3, series=1))
    monkeypatch.setattr(ProcessPoolExecutor, "__init__", short)
    with pytest.raises(DicomStudyError, match="Too many open files") as raised:
        dicomstudy.convert([tmp_path / "in"], tmp_path / "archive", jobs=2)
    assert raised.value.code == "convert/worker"


def test_a_worker_without_a_thread_to_spare_works(tmp_path: Path) -> None:
    studies.write_files(tmp_path / "in", make.study(3, series=1))
    script = _SHORT.format(short=_WAITS_FOR_THE_PARENT)
    done = processes.output(script, tmp_path / "in", tmp_path / "archive", limit=30)
    assert done.splitlines() == ["3", "[]"]


def test_a_daemonic_process_does_all_by_itself(tmp_path: Path) -> None:
    studies.write_files(tmp_path / "in", make.study(3, series=1))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        report = pool.apply(
            dicomstudy.convert, ([tmp_path / "in"], tmp_path / "archive"), {"jobs": 2}
        )
    assert report.instances == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="without fork, workers cannot be made to wait")
def test_workers_end_with_the_run_that_was_killed(tmp_path: Path) -> None:
    """They hold the lock of the archive, so that nobody could clear away what was left."""
    script = (
        "import sys, time, dicomstudy.conversion as conversion\n"
        "def ingest(*_):\n"
        "    print('at work', flush=True)\n"
        "    time.sleep(1000)\n"
        "conversion.ingest = ingest\n"
        "conversion.convert([sys.argv[1]], sys.argv[2], jobs=2)"
    )
    archive = tmp_path / "archive"
    with processes.start(script, FIXTURES / "archive", archive) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        process.kill()
        with (archive / "lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # waits for whoever holds it


def changed(path: Path, content: bytes) -> None:
    """Write to a file, and make sure that its time says so, however fast that was."""
    path.write_bytes(content)
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


@pytest.mark.parametrize("bulk", ["copy", "reference"])
@pytest.mark.parametrize("whole", [False, True], ids=["quarantine", "study"])
def test_a_large_file_that_is_written_to_while_it_is_read_is_refused(
    bulk: str, whole: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = make.ct_slice("a", 1, 1)
    if not whole:
        content = content.replace(b"\x0d\x00UI", b"\x0e\x00UI")  # the UIDs of study and instance
    studies.write_files(tmp_path / "in", [("1.dcm", content)])
    monkeypatch.setattr(ingestion, "MAX_WHOLE", 1000)
    uids = Grouper.uids

    def meanwhile(*given: Any) -> Any:
        changed(tmp_path / "in/1.dcm", content)
        return uids(*given)

    with monkeypatch.context() as patched:
        patched.setattr(Grouper, "uids", meanwhile)
        report = dicomstudy.convert([tmp_path / "in"], tmp_path / "archive", bulk=bulk)
    assert [problem.code for problem in report.problems] == ["source/changed"]
    assert (report.instances, report.quarantined, report.bytes_in, report.refused) == (0, 0, 0, 1)
    assert list((tmp_path / "archive/quarantine").iterdir()) == []
    assert len(dicomstudy.open_archive(tmp_path / "archive")) == 0
    report = dicomstudy.convert([tmp_path / "in"], tmp_path / "archive", bulk=bulk)
    assert (report.instances, report.quarantined) == ((1, 0) if whole else (0, 1))
    assert dicomstudy.verify(tmp_path / "archive").problems == []


# -- in and out again --------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("bulk", ["copy", "reference"])
def test_every_file_of_the_fixtures_comes_back(
    source: Path, tmp_path: Path, bulk: str, jobs: int
) -> None:
    archive = tmp_path / "archive"
    report = dicomstudy.convert([source], archive, bulk=bulk, jobs=jobs)
    assert report.refused == 0
    assert report.instances + report.unchanged + report.quarantined + report.skipped == report.files
    verified = dicomstudy.verify(archive)
    assert verified.problems == []
    assert (verified.instances, verified.quarantined) == (report.instances, report.quarantined)
    assert wanted() - restored(archive, tmp_path / "out") == set()
    assert not list((archive / "incoming").iterdir())


@pytest.mark.parametrize("max_inline", [0, 16, 64, 100_000])
def test_every_file_comes_back_whatever_stays_inline(
    source: Path, tmp_path: Path, max_inline: int
) -> None:
    archive = tmp_path / "archive"
    report = dicomstudy.convert([source / "archive"], archive, max_inline=max_inline)
    assert (report.instances, report.quarantined) == (37, 0)
    assert dicomstudy.verify(archive).problems == []
    files = [path for path in (source / "archive").rglob("*") if path.is_file()]
    expected = {hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    lost = expected - restored(archive, tmp_path / "out")
    assert len(expected) - len(lost) > 25
    assert len(lost) == 3  # the text file, the zip and the tar themselves


def test_files_that_pydicom_reads_are_instances_of_studies(source: Path, tmp_path: Path) -> None:
    """Quarantine is for wrecks: what has its UIDs and can be read is in a study."""
    dicomstudy.convert([source], tmp_path)
    kept = {Path(each.uri).name for each in dicomstudy.open_archive(tmp_path).quarantined()}
    index = json.loads((FIXTURES / "wrecks/INDEX.json").read_bytes())
    readable = {entry["file"] for entry in index if entry["pydicom_reads"]}
    without_uids = {
        name for name in readable if not studies.grouped([(name, fixture_files()[name])]).entries
    }
    assert without_uids <= {
        *("DICOMDIR", "meta-alone.dcm", "preamble-alone.dcm", "no-meta.dcm"),
        *("uid-missing.dcm", "uid-missing-all.dcm", "uid-empty.dcm"),
    }
    assert kept & readable <= without_uids


# -- again -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bulk", ["copy", "reference"])
def test_converting_again_changes_not_a_byte(source: Path, tmp_path: Path, bulk: str) -> None:
    first = dicomstudy.convert([source], tmp_path, bulk=bulk)
    before = studies.state_of(tmp_path)
    for jobs in (1, 2):
        again = dicomstudy.convert([source], tmp_path, bulk=bulk, jobs=jobs)
        assert studies.state_of(tmp_path) == before
        assert again.instances == again.bytes_out == 0
        assert again.unchanged == first.instances + first.unchanged
        assert (again.files, again.skipped, again.quarantined) == (
            first.files, first.skipped, first.quarantined,
        )  # fmt: skip
        assert again.studies == first.studies
        assert again.problems == first.problems


def test_equal_content_under_another_name_is_a_no_op(tmp_path: Path) -> None:
    data = make.ct_slice("ct", 1, 3)
    studies.write_files(tmp_path / "in", [("a", data), ("b/c", data)])
    report = dicomstudy.convert([tmp_path / "in"], tmp_path / "archive")
    assert (report.instances, report.unchanged, report.files) == (1, 1, 2)
    report = dicomstudy.convert([tmp_path / "in/b"], tmp_path / "archive")
    assert (report.instances, report.unchanged, report.bytes_out) == (0, 1, 0)


def test_instances_that_arrive_late_join_their_study(tmp_path: Path) -> None:
    files = list(make.study(30, series=2))
    for start in range(3):
        studies.write_files(tmp_path / f"in{start}", files[start::3])
        report = dicomstudy.convert([tmp_path / f"in{start}"], tmp_path / "archive")
        assert (report.instances, report.studies, report.unchanged) == (10, 1, 0)
        assert dicomstudy.verify(tmp_path / "archive").problems == []
    studies.write_files(tmp_path / "all", files)
    dicomstudy.convert([tmp_path / "all"], tmp_path / "whole")
    assert studies.digests_of(tmp_path / "archive") == studies.digests_of(tmp_path / "whole")
    assert len(restored(tmp_path / "archive", tmp_path / "out")) == 30


def test_other_studies_are_not_touched(source: Path, tmp_path: Path) -> None:
    dicomstudy.convert([source / "archive/ct"], tmp_path)
    before = studies.state_of(tmp_path)
    dicomstudy.convert([source / "archive/mr"], tmp_path)
    after = studies.state_of(tmp_path)
    assert {name: after[name] for name in before} == before


def test_a_clash_keeps_both(tmp_path: Path) -> None:
    """Different content under one SOP Instance UID, in one run and in two, in two series."""
    plain = make.ct_slice("ct", 1, 3)
    centre = make.ct_slice("ct", 1, 3, replace={0x00281050: element(0x00281050, "DS", "50")})
    series = element(0x0020000E, "UI", make.uid("ct/other"))
    elsewhere = make.ct_slice("ct", 1, 3, replace={0x0020000E: series})
    files = {"1": plain, "2": centre, "3": elsewhere}
    studies.write_files(tmp_path / "in", files.items())
    once = dicomstudy.convert([tmp_path / "in"], tmp_path / "once")
    for name in files:
        dicomstudy.convert([tmp_path / "in" / name], tmp_path / "step")
    assert (once.instances, once.unchanged) == (3, 0)
    assert studies.digests_of(tmp_path / "once") == studies.digests_of(tmp_path / "step")
    for archive in ("once", "step"):
        study = dicomstudy.open_archive(tmp_path / archive)[CT]
        assert len(study) == len(set(study)) == 3
        assert {instance.uid for instance in study.values()} == {make.uid("ct/1/3")}
        assert len(restored(tmp_path / archive, tmp_path / f"{archive}.out")) == 3


def test_equal_large_values_are_stored_once(tmp_path: Path) -> None:
    pixels = chance_of(1).randbytes(200_000)
    files = [
        (f"{number}", make.ct_slice("ct", 1, number, rows=250, columns=400, pixels=pixels))
        for number in range(1, 9)
    ]
    studies.write_files(tmp_path / "in", files)
    for part in ("1", "2", ""):
        dicomstudy.convert([tmp_path / "in" / part], tmp_path / "archive")
    bulk = dicomstudy.open_archive(tmp_path / "archive").bulk_path(CT)
    assert bulk.stat().st_size < 210_000
    assert len(restored(tmp_path / "archive", tmp_path / "out")) == 8


# -- sources -----------------------------------------------------------------------------------


def test_sources_are_files_and_folders(source: Path, tmp_path: Path) -> None:
    report = dicomstudy.convert(
        (os.fspath(path) for path in [source / "archive/ct", source / "archive/mr/1.dcm"]), tmp_path
    )
    assert (report.instances, report.studies) == (16, 2)
    report = dicomstudy.convert(source / "archive/mr/2.dcm", tmp_path)  # type: ignore[arg-type]
    assert report.instances == 1


def test_members_of_zip_and_tar_files_are_taken_in(source: Path, tmp_path: Path) -> None:
    containers = [source / "archive/late.tar", source / "archive/texts.zip"]
    for bulk in ("copy", "reference"):
        archive = tmp_path / bulk
        report = dicomstudy.convert(containers, archive, bulk=bulk)
        assert (report.files, report.instances, report.studies) == (7, 7, 3)
        assert len(restored(archive, tmp_path / f"{bulk}.out")) == 7
        uris = {i.source.uri for s in dicomstudy.open_archive(archive).values() for i in s.values()}
        assert f"{containers[0].as_uri()}#late/4.dcm" in uris


def test_a_folder_that_has_the_archive_in_it_may_be_a_source(tmp_path: Path) -> None:
    studies.write_files(tmp_path, make.study(3))
    for way in (tmp_path / "archive", tmp_path / "x/../archive"):
        (tmp_path / "x").mkdir(exist_ok=True)
        studies.write_files(tmp_path, [("bad.dcm", fixture_files()["uid-missing.dcm"])])
        report = dicomstudy.convert([tmp_path], way)
        assert (report.files, report.instances + report.unchanged, report.quarantined) == (4, 3, 1)


def test_the_archive_itself_is_no_source(tmp_path: Path) -> None:
    studies.write_files(tmp_path / "in", make.study(3))
    dicomstudy.convert([tmp_path / "in"], tmp_path / "archive")
    report = dicomstudy.convert([tmp_path / "archive"], tmp_path / "archive")
    assert (report.files, report.instances) == (0, 0)


def test_files_that_are_not_dicom_are_counted_as_skipped(tmp_path: Path) -> None:
    studies.write_files(
        tmp_path / "in", [("a.txt", b"text"), ("empty", b""), ("c.dcm", bytes(5000))]
    )
    report = dicomstudy.convert([tmp_path / "in"], tmp_path / "archive")
    assert (report.files, report.skipped, report.problems) == (3, 3, [])
    assert report.complete


def test_bare_data_sets_are_taken_in(source: Path, tmp_path: Path) -> None:
    names = ["bare-implicit.dcm", "bare-explicit.dcm", "no-preamble.dcm"]
    report = dicomstudy.convert([source / "wrecks" / name for name in names], tmp_path / "archive")
    assert (report.instances, report.skipped) == (3, 0)
    assert restored(tmp_path / "archive", tmp_path / "out") == {
        hashlib.sha256(fixture_files()[name]).hexdigest() for name in names
    }


def test_instance_records_become_instances_again(source: Path, tmp_path: Path) -> None:
    dicomstudy.write_records([source / "archive/mr"], tmp_path / "records")
    report = dicomstudy.convert([tmp_path / "records"], tmp_path / "archive")
    assert (report.instances, report.problems) == (3, [])
    assert len(restored(tmp_path / "archive", tmp_path / "out")) == 3


# -- bad input ---------------------------------------------------------------------------------


def test_each_unreadable_source_is_a_line_in_the_report(tmp_path: Path) -> None:
    studies.write_files(
        tmp_path / "in",
        [
            ("broken.zip", b"PK\3\4 and no more"),
            ("broken.ion", b"{this is no ion"),
            ("good.dcm", fixture_files()["ct/report.dcm"]),
        ],
    )
    report = dicomstudy.convert([tmp_path / "in", tmp_path / "nothing"], tmp_path / "archive")
    assert report.instances == 1
    assert report.refused == 3
    assert not report.complete
    found = {(Path(problem.source or "").name, problem.code) for problem in report.problems}
    assert found == {
        ("broken.zip", "source/container"),
        ("broken.ion", "record/not-a-record"),
        ("nothing", "source/unreadable"),
    }


@pytest.fixture
def ward(tmp_path: Path) -> Path:
    """A folder with a file, and an archive beside it that has a study and a wreck."""
    folder = tmp_path / "ward"
    data = make.archive()["us/native.dcm"]
    studies.write_files(folder, [("1.dcm", data), ("z/2.dcm", make.archive()["mr/1.dcm"])])
    wreck = FIXTURES / "wrecks" / "DICOMDIR"
    assert dicomstudy.convert([FIXTURES / "archive/ct", wreck], folder / "old").quarantined == 1
    return folder


def test_an_archive_below_a_source_is_one_problem(ward: Path, tmp_path: Path) -> None:
    """Nothing in it is taken in; what is beside it is."""
    before = studies.state_of(ward)
    report = dicomstudy.convert([ward], tmp_path / "new")
    (problem,) = report.problems
    assert (problem.source, problem.code) == (str(ward / "old"), "source/archive")
    assert "`restore` it" in problem.message
    assert (report.files, report.instances, report.quarantined) == (2, 2, 0)
    assert (report.refused, report.complete) == (1, False)
    assert studies.state_of(ward) == before


@pytest.mark.parametrize("named", ["", "archive.ion"])
@pytest.mark.parametrize("version", [1, 2])
def test_an_archive_as_a_source_is_one_problem(
    version: int, named: str, ward: Path, tmp_path: Path
) -> None:
    marker = ward / "old" / "archive.ion"
    marker.write_text(marker.read_text().replace("version: 1", f"version: {version}", 1))
    report = dicomstudy.convert([ward / "old" / named], tmp_path / "new")
    (problem,) = report.problems
    assert (problem.source, problem.code) == (str(ward / "old" / named), "source/archive")
    assert (report.files, report.refused) == (0, 1)


@pytest.mark.parametrize("content", [b"", b"\xff", b"{format:"])
def test_a_damaged_archive_is_one_too(content: bytes, ward: Path, tmp_path: Path) -> None:
    (ward / "old" / "archive.ion").write_bytes(content)
    report = dicomstudy.convert([ward], tmp_path / "new")
    assert [problem.code for problem in report.problems] == ["source/archive"]
    assert (report.files, report.quarantined) == (2, 0)


def test_the_archive_that_is_written_is_left_out(ward: Path, tmp_path: Path) -> None:
    """So are those in it, by whatever path it is found."""
    dicomstudy.convert([FIXTURES / "archive/ct"], ward / "old" / "inside")
    (tmp_path / "link").symlink_to(ward)
    for folder in (ward, tmp_path / "link"):
        for source in (folder, folder / "old", folder / "old" / "archive.ion"):
            report = dicomstudy.convert([source], ward / "old")
            assert (report.problems, report.complete) == ([], True)
            assert report.files == (2 if source == folder else 0)


def test_a_file_that_is_named_as_that_of_an_archive_makes_none(tmp_path: Path) -> None:
    folder = studies.write_files(tmp_path / "in", [("1.dcm", make.archive()["us/native.dcm"])])
    dicomstudy.write_records([FIXTURES / "archive/mr/1.dcm"], tmp_path)
    record = (tmp_path / "1.dcm.ion").read_bytes()
    for content, code in (
        (b'{format:"other"}', "record/not-a-record"),
        (b"\xff", "record/not-a-record"),
        (record, None),
    ):
        (folder / "archive.ion").write_bytes(content)
        report = dicomstudy.convert([folder], tmp_path / "new")
        assert [problem.code for problem in report.problems] == ([code] if code else [])
        assert report.files == 2
    assert len(dicomstudy.open_archive(tmp_path / "new")) == 2


def test_runs_inside_a_run_are_runs_of_their_own(tmp_path: Path) -> None:
    """What one process holds in memory belongs to its run, not to the process."""
    studies.write_files(tmp_path / "in", make.study(6))
    inside = []

    def convert_again(step: str, done: int, total: int | None) -> None:
        archive = tmp_path / f"{step} {done} {total}"
        inside.append(dicomstudy.convert([tmp_path / "in"], archive).instances)

    report = dicomstudy.convert([tmp_path / "in"], tmp_path / "archive", progress=convert_again)
    assert report.instances == 6
    assert set(inside) == {6}


def test_large_values_that_cannot_be_written_are_an_error_of_the_archive(tmp_path: Path) -> None:
    studies.write_files(tmp_path / "in", make.study(3))
    with (
        mock.patch("dicomstudy.bulk.BulkWriter.flush", studies.disk_full),
        pytest.raises(ArchiveError) as caught,
    ):
        dicomstudy.convert([tmp_path / "in"], tmp_path / "archive")
    assert caught.value.code == "archive/full"


@pytest.mark.parametrize("after", [0, 3])
def test_a_document_that_cannot_be_read_is_a_problem_of_its_study(
    after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [(f"{name}.dcm", make.ct_slice(name, 1, 1)) for name in "ab"]
    folder, archive = studies.write_files(tmp_path / "in", files), tmp_path / "archive"
    dicomstudy.convert([folder / "a.dcm"], archive)
    path = dicomstudy.open_archive(archive).document_path(make.uid("a"))
    studies.unreadable(monkeypatch, path, after=after)
    report = dicomstudy.convert([folder], archive)
    assert (report.instances, report.refused) == (1, 1)
    assert [(p.source, p.code) for p in report.problems] == [(str(path), "study/unreadable")]


def test_what_was_left_on_disk_and_cannot_be_read_is_said_to_be_unreadable(tmp_path: Path) -> None:
    studies.write_files(tmp_path / "in", make.study(3))
    broken = OSError(errno.EIO, "Input/output error")
    with (
        mock.patch.object(ingestion, "_MAX_HELD", 1),
        mock.patch("dicomstudy.ingestion.pickle.load", side_effect=broken),
    ):
        report = dicomstudy.convert([tmp_path / "in"], tmp_path / "archive")
    (problem,) = report.problems
    assert (problem.source, problem.code) == (make.uid("study"), "archive/unreadable")
    assert ".batches cannot be read" in problem.message
    assert report.instances == 0


def test_a_study_without_its_bulk_file_takes_what_needs_none(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    first = [("1.dcm", make.ct_slice("a", 1, 1))]
    dicomstudy.convert([studies.write_files(tmp_path / "first", first)], archive)
    dicomstudy.open_archive(archive).bulk_path(make.uid("a")).unlink()
    second = studies.write_files(tmp_path / "second", [("2.dcm", make.ct_slice("a", 1, 2))])
    report = dicomstudy.convert([second], archive, bulk="reference")
    assert (report.instances, report.problems) == (1, [])
    third = studies.write_files(tmp_path / "third", [("3.dcm", make.ct_slice("a", 1, 3))])
    assert [p.code for p in dicomstudy.convert([third], archive).problems] == ["bulk/missing"]


def test_what_is_held_and_what_is_left_on_disk_come_to_the_same(tmp_path: Path) -> None:
    studies.write_files(tmp_path / "in", make.study(12, series=2))
    dicomstudy.convert([tmp_path / "in"], tmp_path / "held")
    with (
        mock.patch.object(conversion, "_TASK_FILES", 2),
        mock.patch.object(ingestion, "_MAX_HELD", 1),
    ):
        dicomstudy.convert([tmp_path / "in"], tmp_path / "left")
    assert studies.state_of(tmp_path / "held" / "studies") == studies.state_of(
        tmp_path / "left" / "studies"
    )


def test_a_file_that_vanishes_is_a_problem(tmp_path: Path) -> None:
    studies.write_files(tmp_path / "in", make.study(3))

    def vanishing(paths: Any, **named: Any) -> Iterator[Any]:
        for found in list(find(paths, **named)):
            if found.path.endswith("000001.dcm") and "series-2" in found.path:
                Path(found.path).unlink()
            yield found

    with mock.patch("dicomstudy.conversion.find", vanishing):
        report = dicomstudy.convert([tmp_path / "in"], tmp_path / "archive")
    assert (report.instances, report.refused) == (2, 1)
    assert [problem.code for problem in report.problems] == ["source/unreadable"]


def test_a_value_that_breaks_off_does_not_spoil_the_others(tmp_path: Path) -> None:
    """A file that becomes shorter while its pixels are stored: the next value is found."""
    with BulkWriter(tmp_path / "x.bulk") as writer:

        def breaking() -> Iterator[bytes]:
            yield bytes(range(256)) * 4000
            raise DicomStudyError("source/changed", "shorter")

        with pytest.raises(DicomStudyError):
            writer.add(breaking(), 2_000_000)
        place = writer.add([b"whole"], 5)
    reader = BulkReader(tmp_path / "x.bulk")
    assert reader.read(place) == b"whole"
    reader.close()


def test_problems_say_what_where_and_why(source: Path, tmp_path: Path) -> None:
    report = dicomstudy.convert([source / "wrecks"], tmp_path)
    names = {Path(problem.source or "").name for problem in report.problems}
    assert {"truncated-pixels.dcm", "DICOMDIR", "uid-missing.dcm", "trailing-letters.dcm"} <= names
    for problem in report.problems:
        assert problem.source is not None
        assert Path(problem.source).is_file()
        assert problem.code.count("/") == 1
        assert len(problem.message) > 15
    order = [(problem.source or "", problem.offset or 0) for problem in report.problems]
    assert order == sorted(order)


def test_quarantine_keeps_what_belongs_to_no_study(source: Path, tmp_path: Path) -> None:
    names = ["DICOMDIR", "uid-missing.dcm", "meta-truncated.dcm", "preamble-alone.dcm"]
    report = dicomstudy.convert([source / "wrecks" / name for name in names], tmp_path / "archive")
    assert (report.quarantined, report.instances) == (4, 0)
    assert not report.complete
    kept = {
        each.sha256: each for each in dicomstudy.open_archive(tmp_path / "archive").quarantined()
    }
    assert kept.keys() == {hashlib.sha256(fixture_files()[name]).hexdigest() for name in names}
    assert restored(tmp_path / "archive", tmp_path / "out") == set(kept)


def test_hostile_uids_stay_inside(source: Path, tmp_path: Path) -> None:
    (tmp_path / "deep/er").mkdir(parents=True)
    files = [path for path in (source / "wrecks").iterdir() if path.name.startswith("uid-")]
    hostile = [b"../../x", b"..", b"/tmp/x", b"1.2\0/../x", b"a/b", b"\xff\xfe", b"CON", b"~root"]
    for number, uid in enumerate(hostile):
        raw = uid + b"\0" * (len(uid) % 2)
        replace = {tag: element(tag, "UI", raw) for tag in (0x0020000D, 0x0020000E, 0x00080018)}
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(make.ct_slice("ct", 1, 1, replace=replace))
        files.append(path)
    report = dicomstudy.convert(files, tmp_path / "deep/er/archive")
    assert report.refused == 0
    assert report.instances + report.quarantined == len(files)
    out = restored(tmp_path / "deep/er/archive", tmp_path / "deep/er/out")
    assert {hashlib.sha256(path.read_bytes()).hexdigest() for path in files} == out
    found = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*")}
    assert found == {"deep", *(f"{number}.dcm" for number in range(len(hostile)))}
    assert {path.name for path in (tmp_path / "deep/er").iterdir()} == {"archive", "out"}


# -- options and report ------------------------------------------------------------------------


def test_there_are_at_most_four_processes_for_each_processor(tmp_path: Path) -> None:
    studies.write_files(tmp_path / "in", make.study(3))
    script = """
import multiprocessing, sys, dicomstudy
most = 0
def count(*_):
    global most
    most = max(most, len(multiprocessing.active_children()))
dicomstudy.convert(sys.argv[1:2], sys.argv[2], jobs=1000, progress=count)
print(most)
"""
    done = processes.output(script, tmp_path / "in", tmp_path / "archive")
    assert 1 < int(done) <= 4 * (os.cpu_count() or 1)


@pytest.mark.parametrize("options", [{"bulk": "move"}, {"jobs": 0}, {"max_inline": -1}])
def test_wrong_options_are_refused_before_anything_is_made(
    options: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(DicomStudyError) as raised:
        dicomstudy.convert([], tmp_path / "archive", **options)
    assert raised.value.code.startswith("convert/")
    assert not (tmp_path / "archive").exists()


def test_the_report_counts(source: Path, tmp_path: Path) -> None:
    report = dicomstudy.convert([source / "archive"], tmp_path / "archive")
    assert (report.files, report.skipped, report.instances) == (39, 1, 37)
    assert (report.studies, report.unchanged, report.quarantined) == (5, 1, 0)
    files = [p for p in (source / "archive").rglob("*") if p.is_file()]
    plain = [p for p in files if p.suffix not in {".zip", ".tar", ".txt"}]
    members = [data for name, data in fixture_files().items() if name.startswith(("late", "texts"))]
    assert report.bytes_in == sum(p.stat().st_size for p in plain) + sum(map(len, members))
    stored = sum(p.stat().st_size for p in (tmp_path / "archive/studies").rglob("*") if p.is_file())
    assert report.bytes_out == stored
    assert report.complete


def test_the_report_is_json() -> None:
    report = Report(
        files=3,
        refused=1,
        bytes_in=10,
        problems=[Problem("a", "p10/truncated", "b", 7, "00100010")],
    )
    assert json.loads(report.to_json()) == {
        "files": 3,
        "skipped": 0,
        "instances": 0,
        "studies": 0,
        "unchanged": 0,
        "quarantined": 0,
        "refused": 1,
        "bytes_in": 10,
        "bytes_out": 0,
        "problems": [
            {
                "source": "a",
                "code": "p10/truncated",
                "message": "b",
                "offset": 7,
                "tag": "00100010",
            }
        ],
    }


@pytest.mark.parametrize("jobs", [1, 2])
def test_progress_is_told(source: Path, tmp_path: Path, jobs: int) -> None:
    told: list[tuple[str, int, int | None]] = []

    def progress(step: str, done: int, total: int | None) -> None:
        told.append((step, done, total))

    dicomstudy.convert([source / "archive"], tmp_path, jobs=jobs, progress=progress)
    assert [each for each in told if each[0] == "files"][-1][1] == 39
    assert [each for each in told if each[0] == "studies"] == [
        ("studies", n, 5) for n in range(1, 6)
    ]


def test_a_run_that_is_interrupted_leaves_nothing_behind(source: Path, tmp_path: Path) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for jobs in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            dicomstudy.convert([source], tmp_path, jobs=jobs, progress=interrupt)
        assert not list((tmp_path / "incoming").iterdir())
        assert dicomstudy.verify(tmp_path).problems == []
    assert dicomstudy.convert([source / "archive"], tmp_path).instances == 37


def test_a_digest_that_cannot_be_taken_ends_the_run(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for the thread that takes digests if it has failed."""
    monkeypatch.setattr(ingestion, "_WORTH_A_THREAD", 0)
    with monkeypatch.context() as patched:
        patched.setattr(ingestion, "hashlib", mock.Mock(**{"sha256.side_effect": MemoryError}))
        with pytest.raises(MemoryError):
            dicomstudy.convert([source / "archive"], tmp_path, bulk="reference")
    assert not list((tmp_path / "incoming").iterdir())
    assert dicomstudy.convert([source / "archive"], tmp_path, bulk="reference").instances == 37
    assert dicomstudy.verify(tmp_path).problems == []


def test_whoever_waits_for_a_digest_that_failed_hears_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ingestion, "hashlib", mock.Mock(**{"sha256.side_effect": MemoryError}))
    digester = ingestion._Digester()
    digests = [digester.take(b"a"), digester.take(b"b")]
    for digest in (*digests, *digests):
        with pytest.raises(MemoryError):
            digest()
    digester.close()


def test_what_a_killed_run_left_is_cleared_away(source: Path, tmp_path: Path) -> None:
    dicomstudy.convert([source / "archive/ct"], tmp_path)
    studies.write_files(tmp_path / "incoming/tmpdead", [("a/1.bulk", b"x"), ("a/1.batches", b"y")])
    bulk = dicomstudy.open_archive(tmp_path).bulk_path(CT)
    with bulk.open("ab") as file:
        file.write(b"what no document refers to")
    dicomstudy.convert([source / "archive"], tmp_path)
    assert not list((tmp_path / "incoming").iterdir())
    assert b"what no document refers to" not in bulk.read_bytes()
    assert dicomstudy.verify(tmp_path).problems == []


# -- size --------------------------------------------------------------------------------------


def test_a_study_of_10_000_instances(tmp_path: Path) -> None:
    studies.write_files(tmp_path / "in", make.study(10_000, series=4))
    report = dicomstudy.convert([tmp_path / "in"], tmp_path / "archive", jobs=2)
    assert (report.instances, report.studies, report.problems) == (10_000, 1, [])
    archive = dicomstudy.open_archive(tmp_path / "archive")
    (study,) = archive.values()
    assert len(study) == 10_000
    assert sorted(map(len, study.series.values())) == [2500] * 4
    path = archive.document_path(study.uid)
    assert path.stat().st_size < 300 * 10_000
    read = Document._decompressed
    with (
        mock.patch.object(Document, "_decompressed", autospec=True, side_effect=read) as counted,
        dicomstudy.open_archive(tmp_path / "archive")[study.uid] as again,
    ):
        metadata = again[make.uid("study/3/1234")].metadata()
        shared = again.document.header["sharedFrames"]
        assert len(again.document.chunks) == 40
    # the header, the shared groups, and the one chunk of each series that may have the UID
    assert counted.call_count <= 1 + shared + 4 < 10
    assert metadata["InstanceNumber"] == "1234"
    original = tmp_path / "in/series-3/001234.dcm"
    assert study[make.uid("study/3/1234")].to_p10() == original.read_bytes()
    out = dicomstudy.restore(archive, tmp_path / "out", series=make.uid("study/3"))
    assert out.files == 2500
