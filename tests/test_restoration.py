"""Files come back out of an archive, each proved, and damage is found (spec/archive.md)."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import threading
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import dicomstudy
from dicomstudy import restoration, sources
from dicomstudy.beside import Beside
from dicomstudy.document import Document
from dicomstudy.errors import ArchiveError, DicomStudyError
from fixtures import make
from tests import studies
from tests.kills import forked, kill
from tests.samples import chance_of, fixture_files

CT = make.uid("ct")
SERIES = make.uid("ct/2")
INSTANCE = make.uid("ct/2/7")


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fixtures in archives of both kinds: `copy` and `reference`."""
    folder = tmp_path_factory.mktemp("restoration")
    source = studies.write_fixtures(folder / "in")
    for bulk in ("copy", "reference"):
        dicomstudy.convert([source], folder / bulk, bulk=bulk)
    return folder


@pytest.fixture
def copy(converted: Path, tmp_path: Path) -> Path:
    """An archive that a test may damage."""
    return Path(shutil.copytree(converted / "copy", tmp_path / "copy"))


@pytest.fixture
def referring(tmp_path: Path) -> Path:
    """A folder with an archive `archive` by reference, and its files below `in`."""
    studies.write_files(tmp_path / "in", make.study(6, series=2, rows=32, columns=32))
    dicomstudy.convert([tmp_path / "in"], tmp_path / "archive", bulk="reference")
    return tmp_path


def digests_below(folder: Path) -> list[str]:
    return sorted(
        sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()
    )


# -- restoring ---------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [restoration._MAX_IN_MEMORY, 1])
def test_an_original_of_another_instance_is_not_replaced_either(
    limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes late may get the key, and so the name, of what was there before."""
    monkeypatch.setattr(restoration, "_MAX_IN_MEMORY", limit)
    pixels = make.phantom(16, 16)
    contents = [
        make.ct_slice("study", 1, 1, rows=16, columns=16, pixels=each)
        for each in (pixels, pixels[2:] + pixels[:2])
    ]
    late, early = sorted(contents, key=lambda content: sha256(content).hexdigest())
    for name, content in (("early", early), ("late", late)):
        studies.write_files(tmp_path / name, [("1.dcm", content)])
    dicomstudy.convert([tmp_path / "early"], tmp_path / "first")
    dicomstudy.restore(tmp_path / "first", tmp_path / "files")
    for folder in ("files", "late"):
        dicomstudy.convert([tmp_path / folder], tmp_path / "archive", bulk="reference")
    done = dicomstudy.restore(tmp_path / "archive", tmp_path / "files")
    assert (done.files, [problem.code for problem in done.problems]) == (1, ["archive/source"])
    assert digests_below(tmp_path / "files") == [sha256(early).hexdigest()] * 2
    assert dicomstudy.verify(tmp_path / "archive").problems == []


def test_an_original_that_cannot_be_read_for_the_moment_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its values come from a copy, or nobody knows where from."""
    studies.write_files(tmp_path / "in", make.study(3, series=1))
    dicomstudy.convert([tmp_path / "in"], tmp_path / "first")
    dicomstudy.restore(tmp_path / "first", tmp_path / "files")
    originals = digests_below(tmp_path / "files")
    shutil.copytree(tmp_path / "files", tmp_path / "copy")
    dicomstudy.convert([tmp_path / "files"], tmp_path / "archive", bulk="reference")
    dicomstudy.update(tmp_path / "archive", make.uid("study"), [{"set": {"PatientID": "new"}}])
    opened = sources._opened

    def failing(path: Path) -> int:
        if path.is_relative_to(tmp_path / "files"):
            raise OSError(errno.EIO, "Input/output error")
        return opened(path)

    monkeypatch.setattr(sources, "_opened", failing)
    for found in ([tmp_path / "copy"], []):
        done = dicomstudy.restore(tmp_path / "archive", tmp_path / "files", sources=found)
        assert (done.files, len(done.problems)) == (0, 3)
        assert digests_below(tmp_path / "files") == originals


def originals_and_others(folder: Path, count: int) -> list[str]:
    """Files in the places of `restore`, and others for the same ones; digests of the former."""
    studies.write_files(folder / "in", make.study(count, series=1))
    dicomstudy.convert([folder / "in"], folder / "first")
    dicomstudy.restore(folder / "first", folder / "files")
    dicomstudy.update(folder / "first", make.uid("study"), [{"set": {"PatientID": "new"}}])
    dicomstudy.restore(folder / "first", folder / "others")
    return digests_below(folder / "files")


@pytest.mark.parametrize("is_damaged", [False, True])
def test_what_another_study_is_read_from_is_not_replaced(
    tmp_path: Path, *, is_damaged: bool
) -> None:
    """Moved instances are; what of a study that cannot be read, nobody knows."""
    originals = originals_and_others(tmp_path, 3)
    studies.write_files(tmp_path / "ct", [("1.dcm", make.ct_slice("ct", 1, 1))])
    study, series = make.uid("study"), make.uid("study/1")
    archive = tmp_path / "archive"
    dicomstudy.convert([tmp_path / "files", tmp_path / "ct"], archive, bulk="reference")
    dicomstudy.move(archive, study, series=series, to_study=make.uid("ct"))
    dicomstudy.collect(archive, study=study, older_versions=True, remove=True)
    dicomstudy.convert([tmp_path / "others"], archive)
    if is_damaged:
        dicomstudy.open_archive(archive)[make.uid("ct")].path.write_bytes(b"no document")
    asked = mock.Mock(side_effect=restoration._files_of)
    with mock.patch.object(restoration, "_files_of", asked):
        done = dicomstudy.restore(archive, tmp_path / "files", study=study)
    assert (done.files, [problem.code for problem in done.problems]) == (0, ["archive/source"] * 3)
    assert digests_below(tmp_path / "files") == originals
    assert asked.call_count == 1


@pytest.mark.parametrize("name", [CT, f"{CT}/{SERIES}"])
def test_a_file_where_a_folder_has_to_be_is_an_error(name: str, copy: Path, tmp_path: Path) -> None:
    place = tmp_path / "out" / name
    place.parent.mkdir(parents=True)
    place.write_bytes(b"not a folder")
    with pytest.raises(ArchiveError) as raised:
        dicomstudy.restore(copy, tmp_path / "out", study=CT, series=SERIES)
    assert raised.value.code == "archive/unwritable"
    assert place.read_bytes() == b"not a folder"


def test_the_originals_of_an_archive_by_reference_are_not_replaced(tmp_path: Path) -> None:
    """Whoever restores into the folder that the files came from keeps them."""
    studies.write_files(tmp_path / "in", make.study(3, series=1))
    dicomstudy.convert([tmp_path / "in"], tmp_path / "first")
    dicomstudy.restore(tmp_path / "first", tmp_path / "files")
    originals = digests_below(tmp_path / "files")
    dicomstudy.convert([tmp_path / "files"], tmp_path / "archive", bulk="reference")
    assert dicomstudy.restore(tmp_path / "archive", tmp_path / "files").problems == []
    dicomstudy.update(tmp_path / "archive", make.uid("study"), [{"set": {"PatientID": "new"}}])
    done = dicomstudy.restore(tmp_path / "archive", tmp_path / "files")
    assert (done.files, [problem.code for problem in done.problems]) == (0, ["archive/source"] * 3)
    assert digests_below(tmp_path / "files") == originals
    for _ in range(2):  # what is only equal to them is replaced
        dicomstudy.restore(tmp_path / "archive", tmp_path / "out", original=True)
        assert digests_below(tmp_path / "out") == originals
        done = dicomstudy.restore(tmp_path / "archive", tmp_path / "out")
        assert (done.files, done.problems) == (3, [])
        assert digests_below(tmp_path / "out") != originals


def test_files_are_written_by_study_series_and_instance(converted: Path, tmp_path: Path) -> None:
    dicomstudy.restore(converted / "copy", tmp_path)
    path = tmp_path / CT / SERIES / f"{INSTANCE}.dcm"
    assert path.read_bytes() == fixture_files()["ct/bone/IM0001"]
    assert (tmp_path / "quarantine").is_dir()
    assert not list(tmp_path.rglob("*.part"))
    clash = [p for p in (tmp_path / CT).rglob("*.dcm") if p.name.startswith(make.uid("ct/1/3"))]
    assert len(clash) == 2


def test_one_of_a_clash_is_named_as_everywhere(converted: Path, tmp_path: Path) -> None:
    """By its key, or the start of its digest, however long (spec/edits.md)."""
    uid = make.uid("ct/1/3")
    with dicomstudy.open_archive(converted / "copy")[CT] as study:
        clash = {key: study[key].identity for key in study if key.startswith(uid)}
        content = {digest: study[key].to_p10() for key, digest in clash.items()}
    assert len(clash) == 2
    assert dicomstudy.restore(converted / "copy", tmp_path / "both", instance=uid).files == 2
    for digest in clash.values():
        for length in (5, 16, 64):
            out = tmp_path / digest[:length]
            name = f"{uid}#{digest[:length]}"
            assert dicomstudy.restore(converted / "copy", out, instance=name).files == 1
            (path,) = out.rglob("*.dcm")
            assert path.read_bytes() == content[digest]


def test_one_file_costs_the_chunks_that_may_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    studies.write_files(tmp_path / "in", make.study(40, series=20, rows=2, columns=2))
    dicomstudy.convert([tmp_path / "in"], tmp_path / "archive")
    read: list[int] = []

    def counting(document: Document, number: int) -> Any:
        read.append(number)
        return chunk(document, number)

    chunk = Document._chunk
    monkeypatch.setattr(Document, "_chunk", counting)
    restored = dicomstudy.restore(
        tmp_path / "archive", tmp_path / "a", instance=make.uid("study/7/1")
    )
    assert restored.files == 1
    assert len(read) < 20
    read.clear()
    restored = dicomstudy.restore(tmp_path / "archive", tmp_path / "b", series=make.uid("study/7"))
    assert restored.files == 2
    assert len(read) == 1


@pytest.mark.parametrize("step", ["_create", "os.write", "os.replace"])
def test_a_destination_that_is_full_is_said_to_be(
    step: str, converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"dicomstudy.restoration.{step}", studies.disk_full)
    with pytest.raises(ArchiveError) as raised:
        dicomstudy.restore(converted / "copy", tmp_path)
    assert raised.value.code == "archive/full"
    assert str(tmp_path) in str(raised.value)
    assert not list(tmp_path.rglob("*.part"))


def test_files_are_written_whole_if_writes_are_short(
    converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dicomstudy.restore(converted / "copy", tmp_path / "long")
    write_on = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write_on(file, data[:1000]))
    assert dicomstudy.restore(converted / "copy", tmp_path / "short").problems == []
    assert studies.state_of(tmp_path / "short") == studies.state_of(tmp_path / "long")


def test_an_interrupted_run_leaves_no_part_of_a_file(
    converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the file is made only after the run has ended."""
    interrupted = threading.Event()

    def create(path: str) -> int:
        interrupted.wait(5)
        return create_now(path)

    def interrupt(*_: object) -> None:
        threading.Timer(0.2, interrupted.set).start()
        raise KeyboardInterrupt

    create_now = restoration._create
    monkeypatch.setattr(restoration, "_create", create)
    monkeypatch.setattr("dicomstudy.restoration.Beside.take", interrupt)
    with pytest.raises(KeyboardInterrupt):
        dicomstudy.restore(converted / "copy", tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_runs_into_one_folder_leave_each_other_alone(
    converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second begins when the first has written files that are not proved, and ends before."""
    wait = Beside.take

    def after_another_run(beside: Beside[Any, Any]) -> object:
        monkeypatch.undo()
        assert dicomstudy.restore(converted / "copy", tmp_path).problems == []
        return wait(beside)

    monkeypatch.setattr(Beside, "take", after_another_run)
    assert dicomstudy.restore(converted / "copy", tmp_path).problems == []
    for name in ("one", "two"):
        dicomstudy.restore(converted / "copy", tmp_path / name)
    one = studies.state_of(tmp_path / "one")
    assert one == studies.state_of(tmp_path / "two")
    for name in ("one", "two"):
        shutil.rmtree(tmp_path / name)
    assert studies.state_of(tmp_path) == one


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("into", [".", "quarantine"])
def test_what_runs_that_were_killed_left_goes_with_the_next_one(
    into: str, converted: Path, tmp_path: Path
) -> None:
    def killed() -> None:
        with pytest.MonkeyPatch.context() as patched:
            step = "Beside.take" if into == "." else "_rename"
            patched.setattr(f"dicomstudy.restoration.{step}", kill)
            dicomstudy.restore(converted / "copy", tmp_path / "out")

    dicomstudy.restore(converted / "copy", tmp_path / "whole")
    for _ in range(3):
        assert forked(killed) == -signal.SIGKILL
        assert len(list((tmp_path / "out").glob(".dicomstudy-*"))) == 1
    assert dicomstudy.restore(converted / "copy", tmp_path / "out").problems == []
    assert studies.state_of(tmp_path / "out") == studies.state_of(tmp_path / "whole")
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


def test_folders_of_users_stay(converted: Path, tmp_path: Path) -> None:
    mine = tmp_path / "out" / ".dicomstudy-mine"
    studies.write_files(mine, [("dicomstudy.lock", b""), ("precious", b"1")])
    dicomstudy.restore(converted / "copy", tmp_path / "out")
    assert sorted(path.name for path in mine.iterdir()) == ["dicomstudy.lock", "precious"]


def test_a_destination_needs_no_locks(
    converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    dicomstudy.restore(converted / "copy", tmp_path / "whole")
    archive = dicomstudy.open_archive(converted / "copy")
    monkeypatch.setattr("dicomstudy.unfinished.fcntl.flock", none)
    assert dicomstudy.restore(archive, tmp_path / "out").problems == []
    assert studies.state_of(tmp_path / "out") == studies.state_of(tmp_path / "whole")


@pytest.mark.parametrize("has_series", [True, False])
def test_folders_may_be_on_another_file_system(
    converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_series: bool
) -> None:
    def replace(old: str, new: str) -> None:
        if ".dicomstudy-" in str(old) and Path(new).parent.exists():
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        rename(old, new)

    dicomstudy.restore(converted / "copy", tmp_path / "whole")
    rename = os.rename
    monkeypatch.setattr(os, "replace", replace)
    (tmp_path / "out").mkdir()
    for folder in (tmp_path / "whole").rglob("*"):
        if folder.is_dir() and (has_series or folder.parent == tmp_path / "whole"):
            (tmp_path / "out" / folder.relative_to(tmp_path / "whole")).mkdir()
    assert dicomstudy.restore(converted / "copy", tmp_path / "out").problems == []
    assert studies.state_of(tmp_path / "out") == studies.state_of(tmp_path / "whole")


@pytest.mark.parametrize("bulk", ["copy", "reference"])
def test_restoring_again_gives_the_same(converted: Path, tmp_path: Path, bulk: str) -> None:
    first = dicomstudy.restore(converted / bulk, tmp_path)
    before = studies.state_of(tmp_path)
    again = dicomstudy.restore(dicomstudy.open_archive(converted / bulk), tmp_path)
    assert again == first
    assert first.problems == []
    assert studies.state_of(tmp_path) == before


@pytest.mark.parametrize(
    ("chosen", "count"),
    [
        ({"study": CT}, 16),
        ({"series": SERIES}, 4),
        ({"instance": INSTANCE}, 1),
        ({"study": CT, "series": SERIES}, 4),
        ({"study": CT, "series": SERIES, "instance": INSTANCE}, 1),
        ({"instance": make.uid("ct/1/3")}, 2),
        ({"study": "../../x"}, 1),
    ],
)
def test_a_part_of_an_archive_is_restored(
    chosen: dict[str, str], count: int, converted: Path, tmp_path: Path
) -> None:
    done = dicomstudy.restore(converted / "copy", tmp_path, **chosen)  # type: ignore[arg-type]
    assert (done.files, done.problems) == (count, [])
    assert len(digests_below(tmp_path)) == count
    assert not (tmp_path / "quarantine").exists()


@pytest.mark.parametrize(
    "chosen",
    [{"study": "1.2.3"}, {"series": "1.2.3"}, {"instance": "1.2.3"}, {"study": CT, "series": CT}],
)
def test_what_is_not_there_is_an_error(
    chosen: dict[str, str], converted: Path, tmp_path: Path
) -> None:
    """And new folders go; one that was there stays, though it is empty."""

    def restore(target: Path) -> None:
        dicomstudy.restore(converted / "copy", target, **chosen)  # type: ignore[arg-type]  # (UIDs)

    for target in (tmp_path / "out", tmp_path / "within" / "others"):
        with pytest.raises(ArchiveError) as raised:
            restore(target)
        assert raised.value.code == "archive/not-found"
    assert not any(tmp_path.iterdir())
    (tmp_path / "mine").mkdir()
    with pytest.raises(ArchiveError):
        restore(tmp_path / "mine" / "others")
    assert list(tmp_path.iterdir()) == [tmp_path / "mine"]


def test_a_place_that_cannot_be_written_is_an_error(converted: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DicomStudyError):
        dicomstudy.restore(converted / "copy", tmp_path / "file")


def test_progress_is_told(converted: Path, tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []

    def progress(step: str, done: int, total: int | None) -> None:
        told.append((step, done, total))

    done = dicomstudy.restore(converted / "copy", tmp_path, study=CT, progress=progress)
    assert told[-1] == ("files", done.files, None) == ("files", 16, None)
    assert {step for step, _, _ in told} == {"files"}
    done = dicomstudy.restore(converted / "copy", tmp_path, progress=progress)
    assert told[-1] == ("files", done.files, None)
    dicomstudy.export_tables(converted / "copy", tmp_path / "tables", progress=progress)
    documents = [done for step, done, _ in told if step == "documents"]
    assert documents[-1] == len(dicomstudy.open_archive(converted / "copy"))


# -- archives by reference ---------------------------------------------------------------------


def test_an_archive_by_reference_has_no_pixels(referring: Path) -> None:
    archive = dicomstudy.open_archive(referring / "archive")
    assert not archive.bulk_path(make.uid("study")).exists()
    assert dicomstudy.verify(archive).problems == []


def test_files_that_moved_are_found_again(referring: Path) -> None:
    before = digests_below(referring / "in")
    (referring / "in").rename(referring / "moved")
    lost = dicomstudy.restore(referring / "archive", referring / "lost")
    assert lost.files == 0
    assert [problem.code for problem in lost.problems] == ["bulk/source-missing"] * 6
    assert digests_below(referring / "lost") == []
    sources = [referring / "moved"]
    found = dicomstudy.restore(referring / "archive", referring / "out", sources=sources)
    assert (found.files, found.problems) == (6, [])
    assert digests_below(referring / "out") == before
    assert dicomstudy.verify(referring / "archive", sources=sources).problems == []
    assert len(dicomstudy.verify(referring / "archive").problems) == 6


def test_files_that_were_renamed_are_found_again(referring: Path) -> None:
    before = digests_below(referring / "in")
    chance = chance_of(2)
    for path in sorted((referring / "in").rglob("*.dcm")):
        path.rename(referring / "in" / f"{chance.random()}")
    sources = [referring / "in"]
    found = dicomstudy.restore(referring / "archive", referring / "out", sources=sources)
    assert (found.files, found.problems) == (6, [])
    assert digests_below(referring / "out") == before


@pytest.mark.parametrize("quietly", [False, True])
def test_a_file_that_changed_is_not_given_out(referring: Path, *, quietly: bool) -> None:
    """Found by time and size, or at the latest by its own when what was made of it is wrong."""
    path = referring / "in/series-1/000001.dcm"
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + (not quietly)))
    done = dicomstudy.restore(referring / "archive", referring / "out")
    assert done.files == 5
    (problem,) = done.problems
    assert problem.code == "bulk/source-changed"
    assert not list((referring / "out").rglob("*.part"))
    assert sha256(data).hexdigest() not in digests_below(referring / "out")


def test_a_file_that_was_deleted_is_one_problem(referring: Path) -> None:
    (referring / "in/series-2/000002.dcm").unlink()
    done = dicomstudy.restore(referring / "archive", referring / "out")
    assert done.files == 5
    (problem,) = done.problems
    assert problem.code == "bulk/source-missing"
    assert problem.source is not None
    assert "000002.dcm" in problem.source


def test_a_study_may_be_half_in_the_archive_and_half_referred_to(tmp_path: Path) -> None:
    files = list(make.study(8, series=2))
    for part, bulk in enumerate(("copy", "reference", "copy", "reference")):
        studies.write_files(tmp_path / f"in{part}", files[part::4])
        dicomstudy.convert([tmp_path / f"in{part}"], tmp_path / "archive", bulk=bulk)
    assert dicomstudy.verify(tmp_path / "archive").problems == []
    done = dicomstudy.restore(tmp_path / "archive", tmp_path / "out")
    assert (done.files, done.problems, done.complete) == (8, [], True)
    assert digests_below(tmp_path / "out") == sorted(sha256(data).hexdigest() for _, data in files)


def test_converting_by_copy_later_makes_an_archive_complete(referring: Path) -> None:
    digest = studies.digests_of(referring / "archive")
    dicomstudy.convert([referring / "in"], referring / "archive", bulk="copy")
    assert studies.digests_of(referring / "archive") == digest
    before = studies.state_of(referring / "archive")
    for bulk in ("copy", "reference"):
        report = dicomstudy.convert([referring / "in"], referring / "archive", bulk=bulk)
        assert (report.unchanged, report.instances, report.bytes_out) == (6, 0, 0)
    assert studies.state_of(referring / "archive") == before
    (referring / "in").rename(referring / "gone")
    done = dicomstudy.restore(referring / "archive", referring / "out")
    assert (done.files, done.problems) == (6, [])


# -- damaged archives --------------------------------------------------------------------------


def test_damage_spoils_no_more_than_it_must(copy: Path, tmp_path: Path) -> None:
    """One damaged study, one damaged file in quarantine: all else comes back."""
    archive = dicomstudy.open_archive(copy)
    total = dicomstudy.verify(archive)
    for path in (studies.document(archive), studies.kept(archive)):
        path.write_bytes(path.read_bytes()[:-300])
    done = dicomstudy.restore(copy, tmp_path / "out")
    codes = {problem.code for problem in done.problems}
    assert "archive/damaged" in codes
    assert codes & {"study/damaged", "study/not-a-study"}
    assert total.instances + total.quarantined - 16 - 1 <= done.files
    assert done.files < total.instances + total.quarantined - 1
    assert set(digests_below(tmp_path / "out")) < {
        sha256(data).hexdigest() for data in fixture_files().values()
    }


def test_damaged_pixels_are_the_problem_of_their_instance(copy: Path, tmp_path: Path) -> None:
    archive = dicomstudy.open_archive(copy)
    with archive[CT] as study:
        offsets = [place["offset"] for _, _, place in study.places()]
    data = bytearray(studies.bulk(archive).read_bytes())
    data[max(offsets) + 3] ^= 0x40
    studies.bulk(archive).write_bytes(data)
    done = dicomstudy.restore(copy, tmp_path / "out", study=CT)
    assert not done.complete
    assert 0 < len(done.problems) < 3
    assert done.files == 16 - len(done.problems)
    for problem in done.problems:
        assert problem.code in {"bulk/damaged", "bulk/digest", "study/sha256"}


@pytest.mark.parametrize("collected", [False, True])
def test_damaged_pixels_of_changed_instances_are_found(
    copy: Path, tmp_path: Path, collected: bool
) -> None:
    """There is no SHA-256 of their files."""
    archive = dicomstudy.open_archive(copy)
    dicomstudy.update(copy, CT, [{"set": {"PatientName": "A^B"}}])
    if collected:
        dicomstudy.collect(copy, older_versions=True, remove=True)
    dicomstudy.restore(copy, tmp_path / "sound", study=CT)
    sound = files_below(tmp_path / "sound")
    with archive[CT] as study:
        place = max((place for _, _, place in study.places()), key=lambda each: each["offset"])
    (path,) = studies.bulk(archive).parent.glob(f"{CT}*.bulk")
    whole = path.read_bytes()
    for at in range(place["offset"], place["offset"] + sum(place["stored"]), 150):
        data = bytearray(whole)
        data[at] ^= 0x40
        path.write_bytes(data)
        folder = tmp_path / str(at)
        done = dicomstudy.restore(copy, folder, study=CT)
        assert files_below(folder).items() < sound.items()
        codes = {problem.code for problem in done.problems}
        assert codes
        assert codes <= {"bulk/damaged", "study/sha256" if collected else "bulk/digest"}


def files_below(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.dcm")}


def test_changed_pixels_of_changed_instances_are_found(referring: Path) -> None:
    """They are in a file that looks as it did: it has the same size and time."""
    archive = dicomstudy.open_archive(referring / "archive")
    (uid,) = archive
    dicomstudy.update(referring / "archive", uid, [{"set": {"PatientName": "A^B"}}])
    path = min((referring / "in").rglob("*.dcm"))
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[-3] ^= 0x40
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    done = dicomstudy.restore(referring / "archive", referring / "out")
    assert [problem.code for problem in done.problems] == ["bulk/source-changed"]
    assert done.files == 5 == len(digests_below(referring / "out"))


def test_the_originals_of_what_was_deleted_are_not_replaced(tmp_path: Path) -> None:
    """Whoever goes back needs them."""
    originals = originals_and_others(tmp_path, 1)
    archive = tmp_path / "archive"
    dicomstudy.convert([tmp_path / "files"], archive, bulk="reference")
    dicomstudy.delete(archive, make.uid("study"), series=make.uid("study/1"))
    dicomstudy.convert([tmp_path / "others"], archive)
    done = dicomstudy.restore(archive, tmp_path / "files")
    assert (done.files, [problem.code for problem in done.problems]) == (0, ["archive/source"])
    assert digests_below(tmp_path / "files") == originals


def test_quarantine_that_cannot_be_written_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    studies.write_files(tmp_path / "in", [("wreck", make.wrecks()["uid-missing.dcm"].content)])
    dicomstudy.convert([tmp_path / "in"], tmp_path / "archive")
    assert [*dicomstudy.open_archive(tmp_path / "archive").quarantined()]
    monkeypatch.setattr(restoration, "_rename", studies.disk_full)
    with pytest.raises(ArchiveError) as raised:
        dicomstudy.restore(tmp_path / "archive", tmp_path / "out")
    assert raised.value.code == "archive/full"
