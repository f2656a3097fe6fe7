"""Studies are taken over one by one, each whole or not at all: spec/deidentification.md."""

from __future__ import annotations

import fcntl
import os
import resource
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pydicom
import pytest

import dicomstudy
from dicomstudy.cli import main
from dicomstudy.disk import write_atomically
from dicomstudy.document import encode_version
from dicomstudy.errors import ArchiveError
from fixtures import make
from tests import studies
from tests.deidentified import KEY, NEW, archive_of_one, instances
from tests.kills import killed, trees_of, written
from tests.samples import chance_of

ARCHIVES = "dicomstudy.deidentification.archives"


@pytest.fixture
def one(tmp_path: Path) -> Path:
    return archive_of_one(tmp_path)


def test_progress_is_told(archive: Path, tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    report = dicomstudy.deidentify(
        archive, tmp_path / "out", progress=lambda *step: told.append(step)
    )
    assert [done for _, done, _ in told] == list(range(1, report.instances + 1))


# The folder


def test_the_folder_has_to_be_new_or_empty(one: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert dicomstudy.deidentify(one, tmp_path / "empty").studies == 1
    before = studies.state_of(tmp_path)
    for folder in (tmp_path / "empty", tmp_path / "in", one, one / "inside"):
        with pytest.raises(ArchiveError) as error:
            dicomstudy.deidentify(one, folder)
        inside = folder.name == "inside"
        assert error.value.code == ("archive/inside" if inside else "archive/not-empty")
    assert studies.state_of(tmp_path) == before


def test_of_two_runs_that_find_the_folder_empty_one_is_refused(
    one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, make_folder = tmp_path / "out", Path.mkdir

    def after_another_run(path: Path, *arguments: Any, **named: Any) -> None:
        if path == out:
            monkeypatch.undo()
            assert dicomstudy.deidentify(one, out).studies == 1
        make_folder(path, *arguments, **named)

    monkeypatch.setattr(Path, "mkdir", after_another_run)
    with pytest.raises(ArchiveError) as error:
        dicomstudy.deidentify(one, out)
    assert error.value.code == "archive/not-empty"
    assert len(dicomstudy.open_archive(out)) == 1
    assert dicomstudy.verify(out).problems == []


def test_a_folder_that_another_run_is_making_an_archive_in_is_not_empty(
    one: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with (out / "lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ArchiveError) as error:
            dicomstudy.deidentify(one, out)
    assert error.value.code == "archive/not-empty"
    assert [path.name for path in out.iterdir()] == ["lock"]
    (out / "lock").write_bytes(b"mine")
    with pytest.raises(ArchiveError, match="new or empty"):
        dicomstudy.deidentify(one, out)
    assert (out / "lock").read_bytes() == b"mine"
    (out / "lock").write_bytes(b"")
    assert dicomstudy.deidentify(one, out).studies == 1  # of that run nothing is left but the lock


def test_large_values_that_wait_for_their_document_are_not_collected(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, waiting = tmp_path / "out", list[Thread]()

    def while_it_is_collected(path: Path, *arguments: Any, **named: Any) -> int:
        waiting.append(Thread(target=dicomstudy.collect, args=[out], kwargs={"remove": True}))
        waiting[-1].start()
        waiting[-1].join(0.5)
        return write_atomically(path, *arguments, **named)

    monkeypatch.setattr(f"{ARCHIVES}.write_atomically", while_it_is_collected)
    assert dicomstudy.deidentify(archive, out).problems == []
    for thread in waiting:
        thread.join()
    assert list(out.rglob("*.bulk"))
    assert dicomstudy.verify(out).problems == []
    assert list((out / "incoming").iterdir()) == []


def test_a_study_that_another_run_brought_meanwhile_stays(
    one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dicomstudy.deidentify(one, tmp_path / "other", key=KEY)
    (there,) = (tmp_path / "other").rglob("*.ion.zst")

    def while_another_comes(uid: str, *arguments: Any, **named: Any) -> Iterator[bytes]:
        place = dicomstudy.open_archive(tmp_path / "out").document_path(uid)
        shutil.copytree(there.parent, place.parent)
        place.write_bytes(b"another")
        return encode_version(uid, *arguments, **named)

    monkeypatch.setattr(f"{ARCHIVES}.encode_version", while_another_comes)
    report = dicomstudy.deidentify(one, tmp_path / "out", key=KEY)
    (problem,) = report.problems
    assert problem.code == "archive/not-empty"
    assert "the archive has a study of its new UID already" in problem.message
    (document,) = (tmp_path / "out").rglob("*.ion.zst")
    assert document.read_bytes() == b"another"


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_killed_at_any_moment_there_are_whole_studies_or_none(
    archive: Path, tmp_path: Path
) -> None:
    before = studies.state_of(archive)

    def deidentify(target: Path) -> object:
        return dicomstudy.deidentify(archive, target, key=KEY)

    count, trees = trees_of(deidentify, tmp_path / "whole")
    whole = studies.digests_of(tmp_path / "whole")
    left = [written(tree, tmp_path / f"tree {number}") for number, tree in enumerate(trees)]
    for number in range(5):
        target = tmp_path / f"kill {number}"
        moment = chance_of(number).randint(1, count)
        assert killed(deidentify, target, moment) in {0, -signal.SIGKILL}
        left.append(target)
    seen = set()
    for target in left:
        if (target / "archive.ion").exists():
            assert dicomstudy.verify(target).problems == []
            made = studies.digests_of(target)
            assert made.items() <= whole.items()
            seen.add(len(made))
        else:
            target.mkdir(exist_ok=True)
            (target / "incoming").mkdir(exist_ok=True)
        with pytest.raises(ArchiveError, match="new or empty"):
            deidentify(target)
    assert len(seen) > 2
    assert studies.state_of(archive) == before


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such limit")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("most", [1000, 20_000])
def test_a_full_disk_is_said_and_leaves_nothing_half(tmp_path: Path, most: int) -> None:
    studies.write_files(tmp_path / "in", make.study(300, rows=32, columns=32))
    dicomstudy.convert([tmp_path / "in"], tmp_path / "archive")
    child = os.fork()
    if not child:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        code = ""
        try:
            dicomstudy.deidentify(tmp_path / "archive", tmp_path / "out", key=KEY)
        except ArchiveError as error:
            code = error.code
        finally:
            os._exit(0 if code == "archive/full" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    left = [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert sorted(left) == ["archive.ion", "lock"]


# What is left out


def test_a_damaged_study_is_a_problem_and_the_others_are_taken_over(
    archive: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(archive, tmp_path / "copy")
    opened = dicomstudy.open_archive(copy)
    documents = list(opened.documents())
    documents[0].write_bytes(documents[0].read_bytes()[:100])
    bulk = max(copy.rglob("*.bulk"), key=lambda path: path.stat().st_size)
    content = bytearray(bulk.read_bytes())
    content[len(content) // 2] ^= 1
    bulk.write_bytes(content)
    report = dicomstudy.deidentify(copy, tmp_path / "out", key=KEY)
    assert len(report.problems) == 2
    assert not report.complete
    assert report.studies == len(documents) - 2
    assert dicomstudy.verify(tmp_path / "out").problems == []
    assert len(list((tmp_path / "out").rglob("*.bulk"))) <= report.studies
    assert not list((tmp_path / "out" / "incoming").iterdir())


@pytest.mark.parametrize(
    ("what", "code", "after"),
    [
        ("document", "study/unreadable", 0),
        ("document", "study/unreadable", 3),
        ("bulk file", "bulk/unreadable", 1),
        ("P10 file", "source/unreadable", 0),
    ],
)
def test_what_cannot_be_read_is_said_of_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, code: str, after: int
) -> None:
    files = [("a", make.ct_slice("a", 1, 1)), ("b", make.ct_slice("b", 1, 1))]
    folder, archive = studies.write_files(tmp_path / "in", files), tmp_path / "archive"
    bulk = "reference" if what == "P10 file" else "copy"
    dicomstudy.convert([folder], archive, bulk=bulk)
    path = {
        "document": dicomstudy.open_archive(archive).document_path(make.uid("a")),
        "bulk file": dicomstudy.open_archive(archive).bulk_path(make.uid("a")),
        "P10 file": folder / "a",
    }[what]
    studies.unreadable(monkeypatch, path, after=after)
    report = dicomstudy.deidentify(archive, tmp_path / "out", key=KEY)
    assert [(problem.source, problem.code) for problem in report.problems] == [(str(path), code)]
    assert report.studies == 1
    monkeypatch.undo()
    assert dicomstudy.verify(tmp_path / "out").problems == []
    assert not list((tmp_path / "out" / "incoming").iterdir())


def test_a_record_without_its_file_is_left_out(shared: Path, tmp_path: Path) -> None:
    records = sorted((shared / "golden").rglob("*.ion"))
    dicomstudy.convert(records, tmp_path / "archive")
    if not len(dicomstudy.open_archive(tmp_path / "archive")):
        pytest.skip("no records of another program")
    report = dicomstudy.deidentify(tmp_path / "archive", tmp_path / "out")
    assert {problem.code for problem in report.problems} == {"deidentify/no-file"}
    assert report.instances == report.studies == 0


def test_files_that_moved_are_found_again(tmp_path: Path) -> None:
    files = [("1.dcm", make.ct_slice())]
    studies.write_files(tmp_path / "in", files)
    dicomstudy.convert([tmp_path / "in"], tmp_path / "archive", bulk="reference")
    (tmp_path / "in").rename(tmp_path / "moved")
    report = dicomstudy.deidentify(tmp_path / "archive", tmp_path / "none", key=KEY)
    assert [problem.code for problem in report.problems] == ["bulk/source-missing"]
    assert not list((tmp_path / "none").rglob("*.bulk"))
    arguments = ["--sources", str(tmp_path / "moved")]
    out = tmp_path / "out"
    assert main(["deidentify", str(tmp_path / "archive"), str(out), *arguments]) == 0
    (instance,) = instances(out)
    original = pydicom.dcmread(tmp_path / "moved" / "1.dcm")
    assert next(instance.frames()) == original.PixelData


# Some studies only


def test_some_studies_become_what_they_become_among_all(tmp_path: Path) -> None:
    source = studies.write_fixtures(tmp_path / "in") / "archive"
    dicomstudy.convert([source, source.parent / "wrecks" / "DICOMDIR"], tmp_path / "archive")
    everything = dicomstudy.deidentify(tmp_path / "archive", tmp_path / "all", key=KEY)
    assert everything.quarantined == 1
    ct, mr = make.uid("ct"), make.uid("mr")
    some = dicomstudy.deidentify(tmp_path / "archive", tmp_path / "some", key=KEY, studies=[ct, mr])
    assert (some.studies, some.quarantined, some.problems) == (2, 0, [])
    of_all = studies.digests_of(tmp_path / "all")
    chosen = NEW.uid(ct), NEW.uid(mr)
    assert studies.digests_of(tmp_path / "some") == {uid: of_all[uid] for uid in chosen}
    for given in (ct, iter([ct, ct])):
        out = tmp_path / type(given).__name__
        dicomstudy.deidentify(tmp_path / "archive", out, key=KEY, studies=given)
        assert [*dicomstudy.open_archive(out)] == [NEW.uid(ct)]
    command = ["deidentify", str(tmp_path / "archive"), str(tmp_path / "two")]
    assert main([*command, "--study", ct, "--study", mr]) == 0
    assert len(dicomstudy.open_archive(tmp_path / "two")) == 2
    dicomstudy.deidentify(tmp_path / "archive", tmp_path / "none", key=KEY, studies=[])
    assert [*dicomstudy.open_archive(tmp_path / "none")] == []


def test_a_quarantine_that_is_not_there_is_an_error_before_anything_is_made(
    one: Path, tmp_path: Path
) -> None:
    shutil.rmtree(one / "quarantine")
    (one / "quarantine").symlink_to("nowhere")
    with pytest.raises(ArchiveError) as caught:
        dicomstudy.deidentify(one, tmp_path / "out")
    assert caught.value.code == "archive/unreadable"
    assert not (tmp_path / "out").exists()


def test_a_study_that_is_not_there_is_an_error_before_anything_is_made(tmp_path: Path) -> None:
    dicomstudy.convert([studies.write_fixtures(tmp_path / "in") / "archive"], tmp_path / "archive")
    with pytest.raises(dicomstudy.ArchiveError) as caught:
        dicomstudy.deidentify(tmp_path / "archive", tmp_path / "out", studies=[make.uid("ct"), "1"])
    assert caught.value.code == "archive/not-found"
    assert not (tmp_path / "out").exists()
