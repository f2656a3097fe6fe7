"""An archive that changes is valid at every moment, whoever changes it, and all goes back."""

from __future__ import annotations

import itertools
import os
import resource
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
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
from dicomstudy import finishing, lineage
from dicomstudy.document import extension, writer
from dicomstudy.errors import ArchiveError, DicomStudyError
from dicomstudy.moving import moves
from fixtures import make
from fixtures.make import element, item
from tests import processes, studies
from tests.kills import Action, Tree, forked, killed, trees_of, written
from tests.samples import LONG, chance_of
from tests.test_versioning import content

CT, XA = make.uid("ct"), make.uid("xa")
FILES = [(f"{n}.dcm", make.ct_slice("ct", 1 + n % 2, n)) for n in range(8)]
#: Limits at which each change finds a full disk.
LIMITS = 200 if LONG else 25
#: Random moments at which a child that makes a change is killed.
MOMENTS = 200 if LONG else 5


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


def move(archive: Path) -> object:
    return dicomstudy.move(archive, CT, series=make.uid("ct/2"), to_study=XA)


def merge(archive: Path) -> object:
    return dicomstudy.merge(archive, CT, into=XA)


def split(archive: Path) -> object:
    """What is left of one that was killed is completed by `move`."""
    if "1.2.3" in dicomstudy.open_archive(archive):
        return dicomstudy.move(
            archive, CT, series=make.uid("ct/2"), to_study="1.2.3", keep_attributes=True
        )
    return dicomstudy.split(archive, CT, series=[make.uid("ct/2")], new_study="1.2.3")


MOVES: list[Action] = [move, merge, split]
LIMITS_OF_MOVES = 200 if LONG else 10


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


def left_by_kills(
    action: Action, archive: Path, count: int, trees: Iterable[Tree]
) -> Iterator[Path]:
    """A copy of an archive after each kill: each tree, and what is left of children."""
    copy = archive.parent / "copy"
    for tree in trees:
        yield written(tree, copy)
        shutil.rmtree(copy)
    chance, kills = chance_of(7), 0
    for _ in range(MOMENTS):
        shutil.copytree(archive, copy)
        status = killed(action, copy, chance.randint(1, count))
        assert status in {0, -signal.SIGKILL}  # 0: it was quicker than the first time
        kills += status != 0
        yield copy
        shutil.rmtree(copy)
    assert kills > MOMENTS / 2


def assert_nothing_is_left(archive: Path) -> None:
    """What a kill left stands in nobody's way, and can be collected."""
    assert dicomstudy.verify(archive).problems == []
    dicomstudy.collect(archive, remove=True)
    assert dicomstudy.collect(archive) == dicomstudy.Collected()
    assert not list((archive / "incoming").iterdir())


def states_of(archive: Path) -> dict[str, tuple[dict[str, Any], int]]:
    """What each study is, and how many versions it has."""
    return {
        uid: (content(archive, uid), len(dicomstudy.history(archive, uid)))
        for uid in dicomstudy.open_archive(archive)
    }


def originals(archive: Path) -> set[bytes]:
    """The files that came in of all instances that are there."""
    found: set[bytes] = set()
    for study in dicomstudy.open_archive(archive).values():
        with study:
            found |= {instance.original().to_p10() for instance in study.values()}
    return found


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
    count, trees = trees_of(action, whole)
    new = same_state(whole)
    assert new != old
    seen = []
    for copy in left_by_kills(action, archive, count, trees):
        state = same_state(copy)
        assert state in (old, new)
        seen.append(state == new)
        assert dicomstudy.verify(copy).problems == []
        if state == old:
            action(copy)
            assert same_state(copy) == new
        assert_nothing_is_left(copy)
    assert {*seen} == {False, True}
    assert len(trees) > 4


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("action", ACTIONS)
def test_where_no_more_can_be_written_the_archive_stays_as_it_was(
    action: Action, archive: Path
) -> None:
    """Files may not grow beyond a limit, as on a disk that is full at some point."""
    old = same_state(archive)
    largest = max(path.stat().st_size for path in archive.rglob("*") if path.is_file())
    refused = 0
    chance = chance_of(7)
    for _ in range(LIMITS):
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


@pytest.fixture
def two(archive: Path) -> Path:
    """The archive with a second study, an instance of which refers to the first."""
    reference = element(
        0x0040A375,
        "SQ",
        item(
            element(0x00081115, "SQ", item(element(0x0020000E, "UI", make.uid("ct/2"))))
            + element(0x0020000D, "UI", CT)
        ),
    )
    files = [
        (f"{n}.dcm", make.ct_slice("xa", 1, n, replace={0x0040A375: reference})) for n in (1, 2)
    ]
    dicomstudy.convert([studies.write_files(archive.parent / "xa", files)], archive)
    return archive


def assert_between(
    old: dict[str, tuple[dict[str, Any], int]],
    new: dict[str, tuple[dict[str, Any], int]],
    archive: Path,
    files: set[bytes],
) -> tuple[bool, ...]:
    """Each study is of the old or the new version, the target first, and no file is lost."""
    state = states_of(archive)
    assert set(state) in (set(old), set(new))
    for uid, after in new.items():
        assert state.get(uid) in (old.get(uid), after), uid
    assert dicomstudy.verify(archive).problems == []
    assert originals(archive) == files
    done = [state.get(uid) == new[uid] for uid in sorted(new, key=lambda uid: uid == CT)]
    assert all(done) or not done[-1]  # the source comes last
    return tuple(done)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("action", MOVES)
def test_killed_at_any_moment_instances_are_in_one_study_or_in_both(
    action: Action, two: Path
) -> None:
    whole = two.parent / "whole"
    old, files = states_of(two), originals(two)
    shutil.copytree(two, whole)
    count, trees = trees_of(action, whole)
    new = states_of(whole)
    seen = set()
    for copy in left_by_kills(action, two, count, trees):
        done = assert_between(old, new, copy, files)
        seen.add(done)
        if not done[-1]:
            action(copy)
            assert {uid: state for uid, (state, _) in states_of(copy).items()} == {
                uid: state for uid, (state, _) in new.items()
            }
        assert_nothing_is_left(copy)
    assert {any(done) for done in seen} == {False, True}
    assert len(seen) >= 3  # between the two as well


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("action", MOVES)
def test_where_no_more_can_be_written_nothing_is_lost(action: Action, two: Path) -> None:
    old, files = states_of(two), originals(two)
    copied = two.parent / "whole"
    shutil.copytree(two, copied)
    action(copied)
    new = states_of(copied)
    largest = max(path.stat().st_size for path in copied.rglob("*") if path.is_file())
    refused = 0
    chance = chance_of(7)
    for _ in range(LIMITS_OF_MOVES):
        copy, limit = two.parent / "copy", chance.randint(0, largest)
        shutil.copytree(two, copy)

        def work(copy: Path = copy, limit: int = limit) -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            action(copy)

        status = forked(work)
        assert status in {0, 3}
        done = assert_between(old, new, copy, files)
        refused += status != 0
        assert (status == 0) == done[-1]
        shutil.rmtree(copy)
    assert refused


def test_a_full_disk_is_said_in_words(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = same_state(archive)

    for action in (update, revert, collect):
        monkeypatch.setattr(os, "fsync", studies.disk_full)
        with pytest.raises(ArchiveError, match="No space") as raised:
            action(archive)
        monkeypatch.undo()
        assert raised.value.code == "archive/full"
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


def referring(name: str, number: int) -> bytes:
    """A slice that says of what it was made: of series 1 of the one study, partly, and 2."""
    series = [
        item(
            element(0x00081199, "SQ", b"".join(map(reference, numbers)))
            + element(0x0020000E, "UI", make.uid(f"ct/{series}"))
        )
        for series, numbers in ((1, (1, 2, 4)), (2, (1, 3)))
    ]
    made_of = item(element(0x00081115, "SQ", b"".join(series)) + element(0x0020000D, "UI", CT))
    return make.ct_slice(name, 1, number, replace={0x0040A375: element(0x0040A375, "SQ", made_of)})


def reference(number: int) -> bytes:
    uid = make.uid(f"ct/{1 + number % 2}/{number}")
    return item(element(0x00081150, "UI", make.CT_IMAGE) + element(0x00081155, "UI", uid))


#: Of two studies; of each, one instance refers to others.
BOTH = [
    *FILES[:6],
    ("6.dcm", referring("ct", 6)),
    *((f"xa{n}.dcm", make.ct_slice("xa", 1, n)) for n in range(3)),
    ("xa3.dcm", referring("xa", 3)),
]
#: What may be refused, because something is not there, or there already.
REFUSED = frozenset(
    ("archive/not-found", "change/conflict", "change/place", "change/series", "change/study")
)


def plain_content(archive: Path, study: str) -> dict[str, Any]:
    """`content` without where large values are said to be: in a file, or in the bulk file."""
    found = content(archive, study)
    for key, (series, groups, model, file) in found["instances"].items():
        plain = {
            tag: {name: each for name, each in said.items() if name != "BulkDataURI"}
            for tag, said in model.items()
        }
        found["instances"][key] = (series, groups, plain, file)
    return found


class Living(RuleBasedStateMachine):
    """Studies that are changed at random, and a list of what each was in each version."""

    made = itertools.count(1)

    def __init__(self) -> None:
        super().__init__()
        Living.made = itertools.count(1)
        self.folder = Path(tempfile.mkdtemp(dir=os.environ["PYTEST_LIVING"]))
        self.archive = self.folder / "archive"
        studies.write_files(self.folder / "in", BOTH)
        self.states: dict[str, dict[int, dict[str, Any]]] = {}

    def teardown(self) -> None:
        for study, states in self.states.items():
            first = min(states)
            dicomstudy.revert(self.archive, study, to=first)
            assert plain_content(self.archive, study) == states[first]
        if self.states:
            assert dicomstudy.verify(self.archive).problems == []
        shutil.rmtree(self.folder, ignore_errors=True)

    def note(self) -> None:
        """What is there now is what the current versions are from now on."""
        for study in dicomstudy.open_archive(self.archive):
            states = self.states.setdefault(study, {})
            number = dicomstudy.history(self.archive, study)[-1].number
            now = plain_content(self.archive, study)
            assert states.setdefault(number, now) == now

    def study(self, number: int) -> str:
        """One of the studies that are there."""
        found = sorted(self.states)
        return found[number % len(found)]

    def attempt(self, change: Callable[[], object]) -> None:
        """Change something, or be told why it cannot be; then it is as it was."""
        before = studies.state_of(self.archive)
        refused = ""
        try:
            change()
        except DicomStudyError as error:
            refused = error.code
        if refused:
            assert refused in REFUSED
            assert studies.state_of(self.archive) == before
        self.note()

    @initialize(number=st.sampled_from(range(6)))
    def begin(self, number: int) -> None:
        self.convert([number, 6, 7, 10], "reference")

    @rule(
        numbers=st.lists(st.sampled_from(range(11)), min_size=1, max_size=4),
        bulk=st.sampled_from(["copy", "reference"]),
    )
    def convert(self, numbers: list[int], bulk: str) -> None:
        files = [self.folder / "in" / BOTH[number][0] for number in numbers]
        dicomstudy.convert(files, self.archive, bulk=bulk)
        self.note()
        before = studies.state_of(self.archive)
        assert dicomstudy.convert(files, self.archive, bulk=bulk).instances == 0
        assert studies.state_of(self.archive) == before

    @rule(
        which=st.integers(0, 9),
        keyword=st.sampled_from(["PatientName", "StudyDescription", "ImageComments"]),
        value=st.sampled_from(["a", "Grün", "山", ""]),
        only=st.none() | st.integers(0, 9),
    )
    def update(self, which: int, keyword: str, value: str, only: int | None) -> None:
        edit: dict[str, Any] = {"set": {keyword: value}}
        study = self.study(which)
        found = self.series(study)
        if only is not None and found and keyword == "ImageComments":
            edit["series"] = found[only % len(found)]
        self.attempt(lambda: dicomstudy.update(self.archive, study, [edit]))

    def series(self, study: str) -> list[str]:
        with dicomstudy.open_archive(self.archive)[study] as opened:
            return sorted(opened.series)

    @rule(which=st.integers(0, 9))
    def remove(self, which: int) -> None:
        edit = {"remove": ["Manufacturer", "PatientName"]}
        study = self.study(which)
        self.attempt(lambda: dicomstudy.update(self.archive, study, [edit]))

    @rule(which=st.integers(0, 9), number=st.integers(0, 11))
    def delete(self, which: int, number: int) -> None:
        study = self.study(which)
        keys = list(plain_content(self.archive, study)["instances"])
        if keys:
            dicomstudy.delete(self.archive, study, instance=keys[number % len(keys)])
            left = set(plain_content(self.archive, study)["instances"])
            assert len(left) < len(keys)  # all that have this UID, if the key is no more than it
        self.note()

    @rule(
        which=st.integers(0, 9),
        other=st.integers(0, 9),
        number=st.integers(0, 9),
        to=st.none() | st.integers(0, 9),
        keep=st.booleans(),
    )
    def move_series(self, which: int, other: int, number: int, to: int | None, keep: bool) -> None:
        study, target = self.study(which), self.study(other)
        found, there = self.series(study), self.series(target)
        self.attempt(
            lambda: dicomstudy.move(
                self.archive,
                study,
                series=found[number % len(found)] if found else "1.2",
                to_study=target,
                to_series=None if to is None or not there else there[to % len(there)],
                keep_attributes=keep,
            )
        )

    @rule(
        which=st.integers(0, 9),
        other=st.integers(0, 9),
        number=st.integers(0, 11),
        to=st.none() | st.sampled_from(["1.2.3", make.uid("ct/1"), make.uid("xa/1")]),
    )
    def move_instance(self, which: int, other: int, number: int, to: str | None) -> None:
        study, target = self.study(which), self.study(other)
        keys = list(plain_content(self.archive, study)["instances"])
        self.attempt(
            lambda: dicomstudy.move(
                self.archive,
                study,
                instance=keys[number % len(keys)] if keys else "1.2",
                to_study=target,
                to_series=to,
            )
        )

    @rule(which=st.integers(0, 9), other=st.integers(0, 9))
    def merge(self, which: int, other: int) -> None:
        study, target = self.study(which), self.study(other)
        self.attempt(lambda: dicomstudy.merge(self.archive, study, into=target))

    @rule(which=st.integers(0, 9), number=st.integers(0, 9))
    def split(self, which: int, number: int) -> None:
        study = self.study(which)
        found = self.series(study)
        if found and len(self.states) < 5:
            named = [found[number % len(found)]]
            self.attempt(lambda: dicomstudy.split(self.archive, study, series=named))

    @rule(which=st.integers(0, 9), number=st.integers(0, 11))
    def revert(self, which: int, number: int) -> None:
        study = self.study(which)
        states = self.states[study]
        to = sorted(states)[number % len(states)]
        dicomstudy.revert(self.archive, study, to=to)
        assert plain_content(self.archive, study) == states[to]
        self.note()

    @rule(older_versions=st.booleans())
    def collect(self, older_versions: bool) -> None:
        before = {study: plain_content(self.archive, study) for study in self.states}
        if older_versions and not all(before[study]["instances"] for study in (CT, XA)):
            return  # a study would go
        dicomstudy.collect(self.archive, older_versions=older_versions, remove=True)
        left = set(dicomstudy.open_archive(self.archive))
        for study in set(before) - left:
            assert older_versions
            assert not before[study]["instances"]
            del self.states[study]
        for study in left:
            files = [  # those that changes made equal become one
                {(row[0], row[3]) for row in each["instances"].values()}
                for each in (before[study], plain_content(self.archive, study))
            ]
            assert files[0] == files[1]
            (number, *more) = [v.number for v in dicomstudy.history(self.archive, study)]
            if not more and number not in self.states[study]:
                self.states[study].clear()
        self.note()

    @invariant()
    def verifies(self) -> None:
        if self.states:
            assert dicomstudy.verify(self.archive).problems == []


@pytest.mark.timeout(600)
@pytest.mark.parametrize("late", [False, True])
def test_any_sequence_of_changes_verifies_and_all_goes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, late: bool
) -> None:
    """Also if documents are extended wherever they can be, and have many chunks."""
    if late:
        monkeypatch.setattr(finishing, "_LITTLE", 0)
        for module in (writer, extension):
            monkeypatch.setattr(module, "CHUNK_INSTANCES", 2)
    monkeypatch.setenv("PYTEST_LIVING", str(tmp_path))
    monkeypatch.setattr(lineage, "moment", lambda: "2026-01-31T10:11:12Z")
    monkeypatch.setattr(moves, "_made_uid", lambda: f"2.25.{next(Living.made)}")
    run_state_machine_as_test(
        Living,
        settings=settings(
            max_examples=200 if LONG else 8,
            stateful_step_count=12,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
