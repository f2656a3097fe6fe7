"""Whatever the bytes: restored exactly or refused with a `DicomStudyError`. Killed: whole.

The long profile (DICOMSTUDY_LONG=1 or HYPOTHESIS_PROFILE=soak) takes the real files too, and
more mutants.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from types import FrameType

import pytest

import dicomstudy
from dicomstudy.errors import DicomStudyError
from dicomstudy.p10 import Reader
from dicomstudy.record import Checker, Decoder, Encoder
from fixtures import make
from tests import processes, studies
from tests.samples import LONG, chance_of, files_below, fixture_files, mutant, recorded, rewritten
from tests.strategies import DEFINITIONS

#: Mutants that are taken apart and written again, and those that go through an archive. The
#: project promises 20,000 of real files at the least in the long profile.
TAKEN_APART, ARCHIVED = (60_000, 12_000) if LONG else (5_000, 1_000)
REAL_TAKEN_APART, REAL_ARCHIVED = (40_000, 8_000) if LONG else (1_500, 200)
KILLS = 200 if LONG else 30
#: Seconds that one mutant may take; a hundred times what the slowest does.
LIMIT = 20
BATCH = 200
LARGEST = 300_000 if LONG else 60_000

Sources = Sequence[tuple[str, bytes]]


@contextmanager
def at_most(seconds: int, what: object) -> Iterator[None]:
    """Fails if the block takes longer: no input may hang."""

    def stop(_: int, __: FrameType | None) -> None:
        pytest.fail(f"{what} takes more than {seconds} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def mutants(files: Sources, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """So many mutants of files, each with a name that makes it again."""
    chance = chance_of(seed)
    for number in range(count):
        name, data = files[chance.randrange(len(files))]
        yield f"{name} mutant {seed}-{number}", mutant(data, chance)


def assert_mutants_come_back(files: Sources, count: int, seed: int) -> None:
    """Each is taken apart and written again as it is, by one reader that has seen the others."""
    encoder, outcomes = Encoder(DEFINITIONS), Counter[str]()
    checker = Checker(encoder)
    inline = (16, 64, 256)
    readers = [(Reader(max_inline=m), Decoder(DEFINITIONS, max_inline=m)) for m in inline]
    for number, (name, data) in enumerate(mutants(files, count, seed)):
        reader, decoder = readers[number % len(readers)]
        with at_most(LIMIT, name):
            try:
                assert rewritten(data, reader.read(data)) == data, name
                taken = recorded(data, reader, decoder, encoder)
                exact = checker.is_exact(decoder.decode(reader.read(data), data), data)
            except DicomStudyError as error:
                outcomes[error.code] += 1
                continue
        assert taken.segments == data, name
        assert taken.written == data, name
        assert exact, name
        outcomes["exact"] += 1
    assert outcomes.total() == count
    assert outcomes["exact"] > 0.99 * count


def assert_mutants_pass_an_archive(files: Sources, count: int, seed: int, folder: Path) -> None:
    """Each comes back out of an archive, be it out of a study or out of quarantine.

    What has no DICM prefix any more may be taken for another kind of file and skipped.
    """
    done = 0
    everything = list(mutants(files, count, seed))
    for start in range(0, count, BATCH):
        batch = everything[start : start + BATCH]
        place = folder / f"{seed}-{start}"
        studies.write_files(
            place / "in", ((f"{number}.dcm", data) for number, (_, data) in enumerate(batch))
        )
        bulk = ("copy", "reference")[start // BATCH % 2]
        with at_most(BATCH, f"{seed}-{start}"):
            report = dicomstudy.convert([place / "in"], place / "archive", bulk=bulk)
            verified = dicomstudy.verify(place / "archive")
            restored = dicomstudy.restore(place / "archive", place / "out")
        assert verified.problems == restored.problems == []
        assert report.files >= len(batch) - report.refused
        back = {
            sha256(path.read_bytes()).hexdigest()
            for path in (place / "out").rglob("*")
            if path.is_file()
        }
        for name, data in batch:
            if data[128:132] == b"DICM":
                assert sha256(data).hexdigest() in back, name
        done += len(batch)
    assert done == count


@pytest.fixture(scope="module")
def real_files(shared: Path) -> list[tuple[str, bytes]]:
    """Real files that are not too large to be taken apart some thousand times."""
    return list(files_below([shared / "corpus"], largest=LARGEST))


def own() -> Sources:
    return [item for item in fixture_files().items() if len(item[1]) < LARGEST]


@pytest.mark.timeout(3000 if LONG else 120)
def test_mutants_are_written_as_they_are() -> None:
    assert_mutants_come_back(own(), TAKEN_APART, seed=1)


@pytest.mark.timeout(3000 if LONG else 120)
def test_mutants_of_real_files_are_written_as_they_are(real_files: Sources) -> None:
    assert len(real_files) > 100
    assert_mutants_come_back(real_files, REAL_TAKEN_APART, seed=2)


@pytest.mark.timeout(3000 if LONG else 120)
def test_mutants_come_back_out_of_an_archive(tmp_path: Path) -> None:
    assert_mutants_pass_an_archive(own(), ARCHIVED, 3, tmp_path)


@pytest.mark.timeout(3000 if LONG else 120)
def test_mutants_of_real_files_come_back_out_of_an_archive(
    real_files: Sources, tmp_path: Path
) -> None:
    assert_mutants_pass_an_archive(real_files, REAL_ARCHIVED, 4, tmp_path)


# -- killed at any moment ----------------------------------------------------------------------

CONVERT = """
import sys
import dicomstudy
jobs, archive, *sources = sys.argv[1:]
print("ready", flush=True)
dicomstudy.convert(sources, archive, jobs=int(jobs))
"""


def converting(sources: Sequence[Path], archive: Path, jobs: int) -> subprocess.Popen[str]:
    """A process in a group of its own that converts, and has just begun to."""
    process = processes.start(CONVERT, jobs, archive, *sources)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def kill(process: subprocess.Popen[str]) -> bool:
    """Kill a process and its own; whether it was still at work."""
    at_work = process.poll() is None
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        at_work = False
    process.communicate()
    return at_work


@pytest.mark.timeout(3000 if LONG else 180)
def test_a_convert_that_is_killed_leaves_a_valid_archive(tmp_path: Path) -> None:
    """Killed again and again, at random moments: valid each time, and whole in the end."""
    sources = []
    for number in range(4):
        folder = studies.write_files(tmp_path / f"in{number}", make.study(60, name=f"s{number}"))
        sources.append(folder)
    sources.append(studies.write_fixtures(tmp_path / "fixtures"))
    start = time.perf_counter()
    whole = converting(sources, tmp_path / "whole", 1)
    whole.communicate()
    assert whole.returncode == 0
    usual = time.perf_counter() - start
    expected = studies.digests_of(tmp_path / "whole")
    chance = chance_of(17)
    killed = 0
    archive = tmp_path / "archive0"
    for number in range(KILLS):
        if number % 5 == 0:
            archive = tmp_path / f"archive{number}"
        process = converting(sources[: 1 + number % 5], archive, 1 + number % 2)
        time.sleep(
            chance.random() * usual * (3 + number % 5) / 7
        )  # of fewer sources, it is sooner done
        killed += kill(process)
        if not (archive / "archive.ion").exists():
            continue
        opened = dicomstudy.open_archive(archive)
        assert dicomstudy.verify(opened).problems == []
        for uid, digest in studies.digests_of(archive).items():
            assert len(opened[uid]) > 0
            assert digest == expected[uid]
        if number % 5 == 4:
            report = dicomstudy.convert(sources, archive)
            assert report.refused == 0
            assert dicomstudy.verify(archive).problems == []
            assert studies.digests_of(archive) == expected
            assert not list((archive / "incoming").iterdir())
            assert not list(archive.rglob("*.part"))
    assert killed > KILLS / 3


def test_a_kill_while_the_study_is_extended_leaves_it_as_it_was(tmp_path: Path) -> None:
    """Between the bulk file and the document: the bytes behind are not referred to."""
    files = list(make.study(40, rows=64, columns=64))
    studies.write_files(tmp_path / "in", files[:20])
    dicomstudy.convert([tmp_path / "in"], tmp_path / "archive")
    before = studies.digests_of(tmp_path / "archive")
    studies.write_files(tmp_path / "more", files[20:])
    script = CONVERT.replace(
        "print(",
        "import os, signal\n"
        "from dicomstudy import finishing\n"
        "finishing.write_atomically = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)\n"
        "print(",
    )
    done = processes.run(script, 1, tmp_path / "archive", tmp_path / "more")
    assert done.returncode == -signal.SIGKILL
    assert studies.digests_of(tmp_path / "archive") == before
    assert dicomstudy.verify(tmp_path / "archive").problems == []
    report = dicomstudy.convert([tmp_path / "more"], tmp_path / "archive")
    assert report.instances == 20
    assert dicomstudy.verify(tmp_path / "archive").problems == []
    restored = dicomstudy.restore(tmp_path / "archive", tmp_path / "out")
    assert (restored.files, restored.problems) == (40, [])
