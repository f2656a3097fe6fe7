"""Threads of one process read, convert and restore at the same time (spec/archive.md)."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import TypeVar

import pytest

import dicomstudy
from dicomstudy.study import Instance
from fixtures import make
from tests import processes, studies

_Result = TypeVar("_Result")
THREADS = 4
#: Small enough that there are many, and large enough that they are compressed.
SIDE = 128


@pytest.fixture(autouse=True)
def impatient() -> Iterator[None]:
    """Threads take turns so often that they meet in every line."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Folders with a study in each, whose images all differ."""
    folder = tmp_path_factory.mktemp("threads")
    pixels = make.phantom(SIDE, SIDE)
    folders = [folder / str(number) for number in range(THREADS)]
    for each in folders:
        files = []
        for number in range(1, 81):
            turned = pixels[2 * number :] + pixels[: 2 * number]
            content = make.ct_slice(each.name, 1, number, rows=SIDE, columns=SIDE, pixels=turned)
            files.append((f"{number}.dcm", content))
        studies.write_files(each, files)
    return folders


def at_once(work: Callable[[int], _Result]) -> list[_Result]:
    """What each of some threads gives, which all begin at the same time."""
    together = Barrier(THREADS)

    def run(number: int) -> _Result:
        together.wait()
        return work(number)

    with ThreadPoolExecutor(THREADS) as executor:
        return list(executor.map(run, range(THREADS)))


@pytest.mark.parametrize("bulk", ["copy", "reference"])
def test_archives_are_made_at_the_same_time(bulk: str, sources: list[Path], tmp_path: Path) -> None:
    thresholds = gc.get_threshold()
    reports = at_once(lambda n: dicomstudy.convert([sources[n]], tmp_path / f"{n}", bulk=bulk))
    assert [(report.instances, report.problems) for report in reports] == [(80, [])] * THREADS
    for number in range(THREADS):
        assert dicomstudy.verify(tmp_path / f"{number}").problems == []
    assert gc.get_threshold() == thresholds


def test_a_process_that_has_threads_says_why_its_script_cannot_be_imported_anew(
    tmp_path: Path,
) -> None:
    """Workers are not forked then, and import it: without a guard it would convert again."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, threading, dicomstudy\n"
        "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        "dicomstudy.convert([sys.argv[1]], sys.argv[2], jobs=2)\n"
    )
    sources = Path(make.__file__).parent / "archive"
    done = subprocess.run(  # noqa: S603 (of this test)
        [sys.executable, str(script), str(sources), str(tmp_path / "archive")],
        check=False,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(processes.ROOT)},
    )
    assert done.returncode == 1
    error = done.stderr.splitlines()[-1]
    assert error.startswith("dicomstudy.errors.DicomStudyError: a process of this run was killed")
    assert 'needs `if __name__ == "__main__":`' in error


def test_one_archive_is_extended_at_the_same_time(sources: list[Path], tmp_path: Path) -> None:
    at_once(lambda number: dicomstudy.convert([sources[number]], tmp_path / "archive"))
    assert len(dicomstudy.open_archive(tmp_path / "archive")) == THREADS
    assert dicomstudy.verify(tmp_path / "archive").problems == []


def test_one_study_is_read_at_the_same_time(sources: list[Path], tmp_path: Path) -> None:
    dicomstudy.convert([sources[0]], tmp_path / "archive")

    def forms(instance: Instance) -> tuple[object, ...]:
        return (
            instance.metadata(),
            instance.to_json(),
            instance.to_p10(),
            list(instance.frames()),
        )

    with dicomstudy.open_archive(tmp_path / "archive")[make.uid("0")] as study:
        expected = [forms(instance) for instance in study.values()]
    with dicomstudy.open_archive(tmp_path / "archive")[make.uid("0")] as study:
        found = at_once(
            lambda _: [[forms(instance) for instance in study.values()] for _ in range(5)]
        )
    assert found == [[expected] * 5] * THREADS


def test_one_archive_is_restored_at_the_same_time(sources: list[Path], tmp_path: Path) -> None:
    dicomstudy.convert(sources, tmp_path / "archive")
    archive = dicomstudy.open_archive(tmp_path / "archive")
    restored = at_once(lambda number: dicomstudy.restore(archive, tmp_path / f"out-{number}"))
    assert [(each.files, each.problems) for each in restored] == [(80 * THREADS, [])] * THREADS
