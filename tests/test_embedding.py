"""The library inside a program that runs long: threads, forks, signals, another current folder."""

from __future__ import annotations

import contextlib
import copy
import os
import pickle
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

import dicomstudy
from dicomstudy import folder
from dicomstudy.cli import USAGE, main
from fixtures import make
from tests import processes, studies

HOSPITAL = Path(make.__file__).parent / "archive"
#: A question that takes long enough to be interrupted.
LONG = "SELECT count(*) FROM range(100000000) a, range(100000) b WHERE hash(a.range + b.range) = 1"


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """An archive of two studies."""
    studies.write_files(tmp_path / "in", [(f"{n}.dcm", make.ct_slice(n, 1, 1)) for n in "ab"])
    dicomstudy.convert([tmp_path / "in"], tmp_path / "archive")
    return tmp_path / "archive"


# --- tables ---


@pytest.mark.parametrize("schema", ["", "main."])
def test_questions_of_several_threads_do_not_meet(schema: str, tables: dicomstudy.Tables) -> None:
    """Each has the columns that it asks for, whatever others ask for."""
    source = f"FROM {schema}metadata"
    questions = [
        f"SELECT * {source}",
        f"SELECT Modality {source}",
        f"SELECT Rows, Columns {source}",
    ]
    alone = [tables.sql(question).to_arrow().schema for question in questions]
    with dicomstudy.open_tables(tables.path) as shared, ThreadPoolExecutor(6) as threads:
        asked = [questions[number % 3] for number in range(60)]
        answers = list(threads.map(lambda question: shared.sql(question).to_arrow(), asked))
    assert [answer.schema for answer in answers] == alone * 20


def test_closing_ends_what_another_thread_asks(archive: Path) -> None:
    tables = dicomstudy.open_archive(archive).tables()
    tables.sql("SELECT 1")
    with ThreadPoolExecutor(1) as thread:
        asked = thread.submit(tables.sql, LONG)
        time.sleep(0.2)
        tables.close()
        with pytest.raises(dicomstudy.TableError) as refusal:
            asked.result(timeout=60)
    assert refusal.value.code == "tables/closed"
    assert not tables.path.exists()


def test_a_process_that_was_forked_asks_anew(tables: dicomstudy.Tables) -> None:
    expected = len(tables.sql("SELECT * FROM instances"))

    def ask() -> None:
        assert len(tables.sql("SELECT * FROM instances")) == expected

    assert in_a_child(ask) == 0


def test_temporary_tables_go_with_the_process_that_made_them(two: Path) -> None:
    script = """
import os, sys
import dicomstudy
tables = dicomstudy.open_archive(sys.argv[1]).tables()
child = os.fork()
if not child:
    sys.exit()
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert len(tables["studies"].to_table()) == 2
print(tables.path)
"""
    assert not Path(processes.output(script, two).strip()).exists()


def test_tables_need_a_temporary_folder(
    archive: Path, tables: dicomstudy.Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    for ask in (lambda: tables.sql("SELECT 1"), dicomstudy.open_archive(archive).tables):
        with pytest.raises(dicomstudy.DicomStudyError) as refusal:
            ask()
        assert refusal.value.code == "system/temporary"


def test_questions_are_answered_when_the_main_thread_has_ended(tables_folder: Path) -> None:
    script = """
import sys, threading
import dicomstudy
tables = dicomstudy.open_tables(sys.argv[1])

def serve():
    threading.main_thread().join()
    print(len(tables.sql("SELECT 1")))

threading.Thread(target=serve).start()
"""
    assert processes.output(script, tables_folder) == "1\n"


def test_a_result_is_shown_by_its_first_rows(tables: dicomstudy.Tables) -> None:
    shown = repr(tables.sql("SELECT * FROM range(300000)"))
    assert shown.splitlines()[-1] == "… 300000 rows"
    assert len(shown.splitlines()) == 22


def test_a_result_is_shown_whatever_is_in_it(tables: dicomstudy.Tables) -> None:
    assert repr(tables.sql("SELECT 'infinity'::DATE AS day")) == "day"


# --- forks ---


def in_a_child(work: Callable[[], object]) -> int:
    """The exit status of a child that does the work; -9 if it does not end."""
    child = os.fork()
    if not child:
        status = 1
        with contextlib.suppress(BaseException):
            work()
            status = 0
        os._exit(status)
    return ended(child, 60)


def ended(child: int, seconds: float) -> int:
    """The exit status of a child that is killed if it takes longer."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, 9)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture
def sleeper() -> Iterator[Callable[..., None]]:
    """Forks one child that has all files that are open then, and lives on."""
    children: list[int] = []

    def fork(*_: object) -> None:
        if not children:
            child = os.fork()
            if not child:
                time.sleep(100)
                os._exit(0)
            children.append(child)

    yield fork
    for child in children:
        os.kill(child, 9)
        os.waitpid(child, 0)


def test_a_child_that_lives_on_does_not_lock_tables(
    two: Path, tmp_path: Path, sleeper: Callable[..., None]
) -> None:
    dicomstudy.export_tables(two, tmp_path / "tables", progress=sleeper)
    assert dicomstudy.export_tables(two, tmp_path / "tables").studies == 2


def test_a_child_that_lives_on_does_not_lock_archives(
    two: Path, tmp_path: Path, sleeper: Callable[..., None]
) -> None:
    dicomstudy.convert([tmp_path / "in"], two, progress=sleeper)
    stale = two / "incoming/left.part"
    stale.touch()
    dicomstudy.convert([tmp_path / "in"], two)
    assert not stale.exists()  # which the only run at work removes


# --- progress, signals ---


class Cancelled(Exception):  # noqa: N818 (as a program may call it)
    """What `progress` raises."""


@pytest.mark.parametrize("raised", [Cancelled(), BrokenPipeError(32, "nobody looks")], ids=str)
def test_what_progress_raises_is_raised(raised: Exception, two: Path, tmp_path: Path) -> None:
    why = ValueError("why")

    def progress(*_: object) -> None:
        raise raised from why

    dicomstudy.export_tables(two, tmp_path / "tables")
    calls: list[Callable[[], object]] = [
        lambda: dicomstudy.convert([HOSPITAL], tmp_path / "1", progress=progress),
        lambda: dicomstudy.restore(two, tmp_path / "2", progress=progress),
        lambda: dicomstudy.verify(two, progress=progress),
        lambda: dicomstudy.write_records([HOSPITAL], tmp_path / "3", progress=progress),
        lambda: dicomstudy.deidentify(two, tmp_path / "4", progress=progress),
        lambda: dicomstudy.export_tables(two, tmp_path / "5", progress=progress),
        lambda: dicomstudy.open_tables(tmp_path / "tables").to_archive(
            tmp_path / "6", progress=progress
        ),
    ]
    for call in calls:
        with pytest.raises(type(raised)) as caught:
            call()
        assert caught.value is raised
        assert raised.__cause__ is why


@pytest.mark.parametrize(
    ("call", "raised"),
    [
        ("ion.dumps([moment] * 300)", "TimeoutError"),
        ("ion.loads(text)", "TimeoutError"),
        ("ion.loads(binary)", "KeyboardInterrupt"),
    ],
    ids=["written", "text read", "binary Ion read"],
)
def test_what_a_signal_handler_raises_is_raised(call: str, raised: str) -> None:
    """The Ion library loses it, or ends the process."""
    script = f"""
import random, signal
from dicomstudy import ion

def stop(*_):
    raise {raised}

signal.signal(signal.SIGVTALRM, stop)
moment = ion.loads(b"2020-01-01T00:00:00Z")
text, binary = ion.dumps([moment] * 300, text=True), ion.dumps([moment] * 300)
chance = random.Random(1)
for _ in range(300):
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, chance.uniform(1e-4, 2e-3))
        while True:
            {call}
    except {raised}:
        pass
print("all of them")
"""
    assert processes.output(script) == "all of them\n"


def test_no_thread_is_left_of_a_run_that_was_interrupted(two: Path, tmp_path: Path) -> None:
    script = """
import _thread, random, signal, sys, time
import dicomstudy

waiting = False

def stop(*_):
    global waiting
    waiting = False  # Python loses what is raised in some places of its own
    raise KeyboardInterrupt

dicomstudy.restore(sys.argv[1], sys.argv[2])
signal.signal(signal.SIGALRM, stop)
chance = random.Random(1)
for _ in range(200):
    try:
        waiting = True
        signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-4, 4e-3))
        while waiting:
            dicomstudy.restore(sys.argv[1], sys.argv[2])
    except KeyboardInterrupt:
        pass
until = time.monotonic() + 10
while _thread._count() and time.monotonic() < until:
    time.sleep(0.01)
print(_thread._count())
"""
    assert processes.output(script, two, tmp_path / "out") == "0\n"


# --- objects ---


@pytest.mark.usefixtures("two")
def test_what_is_opened_stays_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    dicomstudy.convert(["in"], "by reference", bulk="reference")
    dicomstudy.export_tables("archive", "tables")
    (tmp_path / "in").rename(tmp_path / "moved")
    archive = dicomstudy.open_archive("archive")
    referring = dicomstudy.open_archive("by reference", sources=["moved"])
    tables = dicomstudy.open_tables("tables")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(list(archive)) == 2
    for study in referring.values():
        assert all(instance.to_p10() for instance in study.values())
    assert len(tables.sql("SELECT * FROM metadata")) == len(tables["instances"].to_table()) == 2


def test_a_study_that_goes_meanwhile_is_passed_over(
    two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = dicomstudy.open_archive(two)
    first, last = archive
    # as if both were in one folder, which is listed at once
    monkeypatch.setattr(dicomstudy.Archive, "__iter__", lambda _: iter([first, last]))
    for begun in (iter(archive.items()), iter(archive.values())):
        next(begun)
        document = archive.document_path(last)
        content = document.read_bytes()
        document.unlink()
        assert list(begun) == []
        document.write_bytes(content)
    assert [uid for uid, _ in archive.items()] == [first, last]
    assert [study.uid for study in archive.values()] == [first, last]
    assert len(archive.items()) == 2


def test_an_archive_can_be_pickled_at_any_time(tmp_path: Path) -> None:
    shutil.copytree(HOSPITAL / "mr", tmp_path / "in")
    dicomstudy.convert([tmp_path / "in"], tmp_path / "archive", bulk="reference")
    (tmp_path / "in").rename(tmp_path / "moved")
    archive = dicomstudy.open_archive(tmp_path / "archive", sources=[tmp_path / "moved"])
    for _ in range(2):
        for again in (archive, pickle.loads(pickle.dumps(archive)), copy.deepcopy(archive)):  # noqa: S301 (ours)
            (study,) = again.values()
            assert all(instance.to_p10() for instance in study.values())


def test_studies_and_instances_go_to_other_processes(tmp_path: Path) -> None:
    """They are opened anew there, with what finds their P10 files."""
    shutil.copytree(HOSPITAL / "mr", tmp_path / "in")
    dicomstudy.convert([tmp_path / "in"], tmp_path / "archive", bulk="reference")
    (tmp_path / "in").rename(tmp_path / "moved")
    archive = dicomstudy.open_archive(tmp_path / "archive", sources=[tmp_path / "moved"])
    dicomstudy.update(archive, next(iter(archive)), [{"set": {"PatientName": "Roe^Jane"}}])
    (study,) = archive.values()
    instances = list(study.values())
    again, *copies = pickle.loads(pickle.dumps([study, *instances]))  # noqa: S301 (ours)
    assert all(each.study is again for each in copies)
    assert (again.uid, again.version, again.digest) == (study.uid, study.version, study.digest)
    study.close()
    assert [each.key for each in copies] == [each.key for each in instances]
    assert all(each.metadata()["PatientName"] == "Roe^Jane" for each in copies)
    again.close()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        originals = [each.original() for each in copies]
        written = list(pool.map(dicomstudy.Instance.to_p10, originals))
    files = (tmp_path / "moved").rglob("*.dcm")
    assert set(written) == {path.read_bytes() for path in files}


def test_an_instance_that_is_gone_cannot_be_unpickled(two: Path) -> None:
    archive = dicomstudy.open_archive(two)
    (uid, _) = archive
    with archive[uid] as study:
        (instance,) = study.values()
        kept = pickle.dumps(instance)
    studies.write_files(two.parent / "late", [("c.dcm", make.ct_slice("a", 1, 2))])
    dicomstudy.convert([two.parent / "late"], two)
    again = pickle.loads(kept)  # noqa: S301 (ours)
    assert len(again.study) == 2
    again.study.close()
    dicomstudy.delete(archive, uid, instance=instance.uid)
    with pytest.raises(KeyError):
        pickle.loads(kept)  # noqa: S301 (ours)


def test_tables_go_to_other_processes(tables: dicomstudy.Tables) -> None:
    with pickle.loads(pickle.dumps(tables)) as again:  # noqa: S301 (ours)
        assert list(again) == list(tables)
        assert again["instances"].to_table() == tables["instances"].to_table()


def test_a_study_that_is_closed_says_so(two: Path) -> None:
    archive = dicomstudy.open_archive(two)
    (uid, _) = archive
    with archive[uid] as study, archive[uid] as other:
        (instance,) = study.values()
    for ask in (lambda: list(other), instance.to_p10):
        with pytest.raises(dicomstudy.StudyError) as refusal:
            ask()
        assert refusal.value.code == "study/closed"


@pytest.mark.parametrize(
    ("path", "error"),
    [(None, TypeError), (5, TypeError), (b"archive", dicomstudy.ArchiveError)],
    ids=repr,
)
def test_what_is_no_path_is_refused(path: str, error: type[Exception], tmp_path: Path) -> None:
    with pytest.raises(error):
        dicomstudy.open_archive(path)
    with pytest.raises(TypeError, match="str"):
        dicomstudy.convert([path], tmp_path / "archive")


def test_there_may_be_no_current_folder(
    tables_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(dicomstudy.ArchiveError) as refusal:
        folder.path_named("archive")
    assert refusal.value.code == "archive/no-path"
    assert main(["query", str(tables_folder), "SELECT 1", "--output", "answer.csv"]) == USAGE
    assert "--output: there is no current folder" in capsys.readouterr().err
