"""An archive that changes is valid at every moment, whoever changes it, and all goes back."""

from __future__ import annotations

import errno
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

import dicomstudy
from dicomstudy import lineage
from dicomstudy.errors import ArchiveError
from fixtures import make
from tests import processes, studies
from tests.samples import LONG
from tests.test_versioning import content

CT = make.uid("ct")
FILES = [(f"{n}.dcm", make.ct_slice("ct", 1 + n % 2, n)) for n in range(8)]
#: Random moments at which each change is killed, beside those before each call that writes.
MOMENTS = 200 if LONG else 25
#: Names of functions that change something on disk, or say that it is there.
WRITES = frozenset(
    ("write", "fsync", "replace", "rename", "unlink", "truncate", "ftruncate", "mkdir", "rmdir",
     "flock", "open")
)  # fmt: skip

Action = Callable[[Path], object]


def late(archive: Path) -> object:
    return dicomstudy.convert([archive.parent / "late"], archive)


def update(archive: Path) -> object:
    return dicomstudy.update(archive, CT, [{"set": {"PatientName": "Grün^山"}}])


def revert(archive: Path) -> object:
    return dicomstudy.revert(archive, CT, to=1)


def delete(archive: Path) -> object:
    return dicomstudy.delete(archive, CT, series=make.uid("ct/1"))


def collect(archive: Path) -> object:
    return dicomstudy.collect(archive, older_versions=True, remove=True)


ACTIONS: list[Action] = [late, update, revert, delete, collect]


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An archive in which every change has something to do; all are made at one time."""
    monkeypatch.setattr(lineage, "moment", lambda: "2026-01-31T10:11:12Z")
    for name, files in (("first", FILES[:3]), ("second", FILES[3:5]), ("late", FILES[5:])):
        studies.write_files(tmp_path / name, files)
    for name in ("first", "second"):
        dicomstudy.convert([tmp_path / name], tmp_path / "archive")
    dicomstudy.update(tmp_path / "archive", CT, [{"set": {"StudyDescription": "x"}}])
    return tmp_path / "archive"


def forked(work: Callable[[], object]) -> int:
    """The exit status of a child that does the work, negative for the signal that ended it."""
    child = os.fork()
    if not child:
        status = 1
        try:
            work()
            status = 0
        except ArchiveError as error:
            status = 3 if error.code == "archive/unwritable" else 4
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def moments_of(action: Action, archive: Path) -> tuple[int, list[int]]:
    """How many calls an action makes, and which of them write."""
    count, writes = 0, []

    def note(_: FrameType, event: str, called: Any) -> None:
        nonlocal count
        if event in {"call", "c_call"}:
            count += 1
            if event == "c_call" and called.__name__ in WRITES:
                writes.append(count)

    sys.setprofile(note)
    try:
        action(archive)
    finally:
        sys.setprofile(None)
    return count, writes


def killed(action: Action, archive: Path, moment: int) -> int:
    """Do something in a child that is killed before its n-th call."""
    count = 0

    def kill(_frame: FrameType, event: str, _called: Any) -> None:
        nonlocal count
        if event in {"call", "c_call"}:
            count += 1
            if count == moment:
                os.kill(os.getpid(), signal.SIGKILL)

    def work() -> None:
        sys.setprofile(kill)
        action(archive)

    return forked(work)


def same_state(archive: Path) -> tuple[dict[str, Any], list[int]]:
    return content(archive), [version.number for version in dicomstudy.history(archive, CT)]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("action", ACTIONS)
def test_killed_at_any_moment_a_study_is_of_the_old_or_the_new_version(
    action: Action, archive: Path
) -> None:
    whole = archive.parent / "whole"
    old = same_state(archive)
    shutil.copytree(archive, whole)
    count, writes = moments_of(action, whole)
    new = same_state(whole)
    assert new != old
    chance = random.Random(7)  # noqa: S311 (moments, not secrets)
    seen, kills = set(), 0
    for moment in sorted({*writes, *(chance.randint(1, count) for _ in range(MOMENTS))}):
        copy = archive.parent / "copy"
        shutil.copytree(archive, copy)
        status = killed(action, copy, moment)
        assert status in {0, -signal.SIGKILL}  # 0: it was quicker than the first time
        kills += status != 0
        state = same_state(copy)
        assert state in (old, new), moment
        seen.add(state == new)
        assert dicomstudy.verify(copy).problems == []
        if state == old:
            action(copy)  # what was left stands in nobody's way
            assert same_state(copy) == new
        assert dicomstudy.verify(copy).problems == []
        dicomstudy.collect(copy, remove=True)
        assert dicomstudy.collect(copy) == dicomstudy.Collected()
        assert not list((copy / "incoming").iterdir())
        shutil.rmtree(copy)
    assert seen == {False, True}
    assert kills > MOMENTS / 2


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("action", ACTIONS)
def test_where_no_more_can_be_written_the_archive_stays_as_it_was(
    action: Action, archive: Path
) -> None:
    """Files may not grow beyond a limit, as on a disk that is full at some point."""
    old = same_state(archive)
    largest = max(path.stat().st_size for path in archive.rglob("*") if path.is_file())
    refused = 0
    chance = random.Random(7)  # noqa: S311
    for _ in range(MOMENTS):
        copy, limit = archive.parent / "copy", chance.randint(0, largest)
        shutil.copytree(archive, copy)

        def work(copy: Path = copy, limit: int = limit) -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            action(copy)

        status = forked(work)
        assert status in {0, 3}
        assert dicomstudy.verify(copy).problems == []
        if status:
            refused += 1
            assert same_state(copy) == old
            action(copy)
            assert same_state(copy) != old
        shutil.rmtree(copy)
    assert refused


def test_a_full_disk_is_said_in_words(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = same_state(archive)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for action in (update, revert, collect):
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(ArchiveError, match="No space") as raised:
            action(archive)
        monkeypatch.undo()
        assert raised.value.code == "archive/unwritable"
        assert same_state(archive) == before


# -- several at once ---------------------------------------------------------------------------

_CONVERTS = """if True:
    import sys, dicomstudy
    for path in sys.argv[2:]:
        dicomstudy.convert([path], sys.argv[1])
"""
_UPDATES = """if True:
    import sys, dicomstudy
    for number in range(10):
        edits = [{"set": {sys.argv[3]: f"{number}"}}]
        dicomstudy.update(sys.argv[1], sys.argv[2], edits)
"""


def test_processes_that_change_one_study_lose_nothing(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    files = [(f"{n}.dcm", make.ct_slice("ct", 1 + n % 3, n)) for n in range(17)]
    folder = studies.write_files(tmp_path / "in", files)
    dicomstudy.convert([folder / "0.dcm"], archive)
    paths = [folder / name for name, _ in files[1:]]
    running = [
        processes.start(_CONVERTS, archive, *paths[0::2]),
        processes.start(_CONVERTS, archive, *paths[1::2]),
        processes.start(_UPDATES, archive, CT, "StudyID"),
        processes.start(_UPDATES, archive, CT, "PatientComments"),
    ]
    for process in running:
        process.communicate(timeout=100)
        assert process.returncode == 0
    versions = dicomstudy.history(archive, CT)
    assert [version.number for version in versions] == list(range(1, 38))
    assert sum(version.added for version in versions) == 17
    with dicomstudy.open_archive(archive)[CT] as study:
        originals = {instance.original().to_p10() for instance in study.values()}
        assert originals == {data for _, data in files}
    values = {
        keyword: [
            edit["set"][keyword] for version in versions for edit in version.edits
            if keyword in edit["set"]
        ]
        for keyword in ("StudyID", "PatientComments")
    }  # fmt: skip
    assert set(map(tuple, values.values())) == {tuple(map(str, range(10)))}
    assert dicomstudy.verify(archive).problems == []
    assert not list(archive.rglob("*.lock"))


# -- any sequence of changes -------------------------------------------------------------------


class Living(RuleBasedStateMachine):
    """A study that is changed at random, and a list of what it was in each version."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=os.environ["PYTEST_LIVING"]))
        self.archive = self.folder / "archive"
        self.states: dict[int, dict[str, Any]] = {}

    def teardown(self) -> None:
        if self.states:
            first = min(self.states)
            dicomstudy.revert(self.archive, CT, to=first)
            assert content(self.archive) == self.states[first]
            assert dicomstudy.verify(self.archive).problems == []
        shutil.rmtree(self.folder, ignore_errors=True)

    def note(self) -> None:
        """What is there now is what the current version is from now on."""
        self.states[dicomstudy.history(self.archive, CT)[-1].number] = content(self.archive)

    @initialize(number=st.sampled_from(range(8)))
    def begin(self, number: int) -> None:
        self.convert([number])

    @rule(numbers=st.lists(st.sampled_from(range(8)), min_size=1, max_size=4))
    def convert(self, numbers: list[int]) -> None:
        folder = self.folder / "in"
        studies.write_files(folder, [FILES[number] for number in numbers])
        dicomstudy.convert([folder], self.archive)
        shutil.rmtree(folder)
        self.note()

    @rule(
        keyword=st.sampled_from(["PatientName", "StudyDescription", "ImageComments"]),
        value=st.sampled_from(["a", "Grün", "山", ""]),
        only=st.sampled_from([None, make.uid("ct/1"), make.uid("ct/2")]),
    )
    def update(self, keyword: str, value: str, only: str | None) -> None:
        edit: dict[str, Any] = {"set": {keyword: value}}
        with dicomstudy.open_archive(self.archive)[CT] as study:
            if only in study.series and keyword == "ImageComments":
                edit["series"] = only
        dicomstudy.update(self.archive, CT, [edit])
        self.note()

    @rule()
    def remove(self) -> None:
        dicomstudy.update(self.archive, CT, [{"remove": ["Manufacturer", "PatientName"]}])
        self.note()

    @rule(number=st.integers(0, 11))
    def delete(self, number: int) -> None:
        keys = list(content(self.archive)["instances"])
        if keys:
            dicomstudy.delete(self.archive, CT, instance=keys[number % len(keys)])
            assert set(content(self.archive)["instances"]) == {*keys} - {keys[number % len(keys)]}
        self.note()

    @rule(number=st.integers(0, 11))
    def revert(self, number: int) -> None:
        to = sorted(self.states)[number % len(self.states)]
        dicomstudy.revert(self.archive, CT, to=to)
        assert content(self.archive) == self.states[to]
        self.note()

    @rule(older_versions=st.booleans())
    def collect(self, older_versions: bool) -> None:
        before = content(self.archive)
        if older_versions and not before["instances"]:
            return  # the study would go
        dicomstudy.collect(self.archive, older_versions=older_versions, remove=True)
        after = content(self.archive)
        files = [
            {key: row[3] for key, row in each["instances"].items()} for each in (before, after)
        ]
        assert sorted(files[0].values()) == sorted(files[1].values())
        if len(dicomstudy.history(self.archive, CT)) == 1:
            self.states.clear()
        else:
            assert after == before
        self.note()

    @invariant()
    def verifies(self) -> None:
        if self.states:
            assert dicomstudy.verify(self.archive).problems == []


def test_any_sequence_of_changes_verifies_and_all_goes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_LIVING", str(tmp_path))
    run_state_machine_as_test(
        Living,
        settings=settings(
            max_examples=200 if LONG else 15,
            stateful_step_count=12,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
