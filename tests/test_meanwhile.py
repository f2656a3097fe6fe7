"""What other runs move while an archive is read (spec/moving.md, "Readers meanwhile")."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

import dicomstudy
from dicomstudy.document import Document
from dicomstudy.errors import StudyError
from dicomstudy.folder import Folder, Listed
from dicomstudy.meanwhile import Seen
from dicomstudy.study import Study
from fixtures import make
from fixtures.make import element, uid
from tests import studies
from tests.movable import BEN, S1, S2, T1, S, T, archive_in, originals, there

#: What another run does, with the study that is read first, and with that which is read then.
Change = Callable[[str, str], object]
Meanwhile = Callable[..., None]
#: A series of each.
SERIES = {S: S1, T: T1}
EDIT = [{"set": {"StudyDescription": "CHEST"}}]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return archive_in(tmp_path)


@pytest.fixture
def meanwhile(archive: Path, monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    """Lets another run change the archive when one study was read, and the next one is opened."""

    def prepare(change: Change, path: Path = archive) -> None:
        opened: list[Path] = []
        open_ = Folder.open

        def opening(folder: Folder, document: Path) -> Study:
            if folder.path == path and opened and document != opened[0]:
                monkeypatch.setattr(Folder, "open", open_)
                first, then = (S, T) if opened[0] == folder.document_path(S) else (T, S)
                change(first, then)
            opened.append(document)
            return open_(folder, document)

        monkeypatch.setattr(Folder, "open", opening)

    return prepare


def merged(archive: Path) -> Change:
    return lambda first, then: dicomstudy.merge(archive, then, into=first)


def files_of(archive: Path) -> set[bytes]:
    """The files of all instances as they are."""
    return {data for study in there(archive).values() for _, data in study.values()}


def files_below(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.rglob("*.dcm")]


def test_what_is_moved_to_a_study_that_was_read_is_restored(
    archive: Path, tmp_path: Path, meanwhile: Meanwhile
) -> None:
    meanwhile(merged(archive))
    done = dicomstudy.restore(archive, tmp_path / "out")
    files = files_below(tmp_path / "out")
    assert set(files) == files_of(archive)
    assert (done.files, done.bytes_out, done.problems) == (7, sum(map(len, files)), [])


def test_so_is_what_is_split_to_a_study_that_would_have_been_read(
    archive: Path, tmp_path: Path, meanwhile: Meanwhile
) -> None:
    folder = dicomstudy.open_archive(archive)
    paths = {folder.document_path(f"2.25.{number}"): f"2.25.{number}" for number in range(100)}
    before_all = paths[min(paths)]
    assert min(paths) < min(folder.document_path(S), folder.document_path(T))
    meanwhile(
        lambda _, then: dicomstudy.split(archive, then, series=[SERIES[then]], new_study=before_all)
    )
    done = dicomstudy.restore(archive, tmp_path / "out")
    assert set(files_below(tmp_path / "out")) == files_of(archive)
    assert (done.files, done.problems) == (7, [])


def test_so_is_what_comes_back_as_studies_are_reverted(
    archive: Path, tmp_path: Path, meanwhile: Meanwhile
) -> None:
    folder = dicomstudy.open_archive(archive)
    first, then = sorted((S, T), key=folder.document_path)
    dicomstudy.merge(archive, first, into=then)

    def back(first: str, then: str) -> None:
        dicomstudy.revert(archive, first, to=1)
        dicomstudy.revert(archive, then, to=1)

    meanwhile(back)
    done = dicomstudy.restore(archive, tmp_path / "out")
    assert set(files_below(tmp_path / "out")) == originals(archive)
    assert (done.files, done.problems) == (7, [])


def test_so_is_what_was_moved_by_versions_that_are_collected(
    archive: Path, tmp_path: Path, meanwhile: Meanwhile
) -> None:
    def moved_and_collected(first: str, then: str) -> None:
        dicomstudy.merge(archive, then, into=first)
        dicomstudy.collect(archive, older_versions=True, remove=True)

    meanwhile(moved_and_collected)
    assert dicomstudy.restore(archive, tmp_path / "out").complete
    assert files_of(archive) <= set(files_below(tmp_path / "out"))


def test_of_one_series_or_instance_too(archive: Path, tmp_path: Path, meanwhile: Meanwhile) -> None:
    folder = dicomstudy.open_archive(archive)
    last = max((S, T), key=folder.document_path)
    series = S2 if last == S else T1
    meanwhile(merged(archive))
    done = dicomstudy.restore(archive, tmp_path / "out", series=series)
    assert (done.files, done.problems) == (2, [])


def test_so_is_what_moves_on_while_it_is_read_again(
    archive: Path, tmp_path: Path, meanwhile: Meanwhile
) -> None:
    def moving_on(first: str, then: str) -> None:
        dicomstudy.merge(archive, then, into=first)
        meanwhile(
            lambda *_: dicomstudy.split(archive, first, series=[SERIES[then]], new_study="2.25.7")
        )

    meanwhile(moving_on)
    assert dicomstudy.restore(archive, tmp_path / "out").complete
    assert files_of(archive) <= set(files_below(tmp_path / "out"))


def test_both_of_one_uid_are_there_whichever_has_its_name_then(
    tmp_path: Path, meanwhile: Meanwhile
) -> None:
    """What was written before is written again, as it may have another name."""
    first, last = sorted((S, T), key=dicomstudy.open_archive(archive_in(tmp_path)).document_path)

    def file(study: str, note: str) -> bytes:
        said = {0x00080018: element(0x00080018, "UI", uid("same"))}
        said |= {0x00204000: element(0x00204000, "LT", note)}
        return make.ct_slice("s" if study == S else "t", 1, 1, replace=said)

    one = file(first, "")
    others = (file(last, str(number)) for number in range(100))
    other = next(data for data in others if sha256(data).digest() < sha256(one).digest())
    names = [("one.dcm", one), ("other.dcm", other)]
    archive = tmp_path / "same"
    dicomstudy.convert([studies.write_files(tmp_path / "files", names)], archive)
    meanwhile(
        lambda first, then: dicomstudy.move(
            archive, then, instance=uid("same"), to_study=first, to_series=SERIES[first]
        ),
        archive,
    )
    done = dicomstudy.restore(archive, tmp_path / "out", original=True)
    files = files_below(tmp_path / "out")
    assert set(files) == {data for _, data in names}
    assert (done.files, len(files), done.problems) == (2, 2, [])


def test_a_study_that_was_made_anew_is_read_though_of_no_later_version(
    archive: Path, tmp_path: Path, meanwhile: Meanwhile
) -> None:
    def made_anew(first: str, then: str) -> None:
        dicomstudy.delete(archive, first)
        dicomstudy.collect(archive, study=first, older_versions=True, remove=True)
        dicomstudy.split(archive, then, series=[SERIES[then]], new_study=first)

    meanwhile(made_anew)
    assert dicomstudy.restore(archive, tmp_path / "out").complete
    assert files_of(archive) <= set(files_below(tmp_path / "out"))


def test_what_is_not_told_for_once_is_read_again_and_counted_once(
    archive: Path, meanwhile: Meanwhile, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = Folder.document

    def refused(_: Folder, path: Path) -> Document:
        monkeypatch.setattr(Folder, "document", ask)
        raise StudyError("study/unreadable", "Stale file handle", source=str(path))

    def change(first: str, then: str) -> None:
        dicomstudy.merge(archive, then, into=first)
        monkeypatch.setattr(Folder, "document", refused)

    meanwhile(change)
    verified = dicomstudy.verify(archive)
    assert (verified.studies, verified.instances, verified.problems) == (2, 7, [])


def test_beside_a_folder_that_cannot_be_read_nothing_is_missed(
    archive: Path, tmp_path: Path, meanwhile: Meanwhile
) -> None:
    ring = archive / "studies/ff"
    ring.symlink_to("ff")

    def change(first: str, then: str) -> None:
        ring.unlink()
        dicomstudy.merge(archive, then, into=first)
        ring.symlink_to("ff")

    meanwhile(change)
    done = dicomstudy.restore(archive, tmp_path / "out")
    assert [problem.source for problem in done.problems] == [str(ring)]
    ring.unlink()
    assert set(files_below(tmp_path / "out")) == files_of(archive)


def test_what_is_damaged_is_told_once(archive: Path, tmp_path: Path, meanwhile: Meanwhile) -> None:
    folder = dicomstudy.open_archive(archive)
    first = min((S, T), key=folder.document_path)
    folder.bulk_path(first).unlink()
    once = dicomstudy.restore(archive, tmp_path / "out").problems

    def there_and_back(first: str, _: str) -> None:
        dicomstudy.update(archive, first, EDIT)
        dicomstudy.revert(archive, first, to=1)

    meanwhile(there_and_back)
    assert dicomstudy.restore(archive, tmp_path / "again").problems == once


READERS: dict[str, Callable[[Path, Path], Any]] = {
    "restore": dicomstudy.restore,
    "verify": lambda archive, _: dicomstudy.verify(archive),
    "deidentify": dicomstudy.deidentify,
}


@pytest.mark.parametrize("command", READERS)
def test_who_moves_for_ever_is_not_followed(
    command: str, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_ = Folder.open

    def moving(folder: Folder, path: Path) -> Study:
        study = open_(folder, path)
        if folder.path == archive:
            with monkeypatch.context() as quiet:
                quiet.setattr(Folder, "open", open_)
                dicomstudy.update(archive, S, EDIT)
                dicomstudy.revert(archive, S, to=1)
        return study

    monkeypatch.setattr(Folder, "open", moving)
    problems = READERS[command](archive, tmp_path / "out").problems
    codes = [problem.code for problem in problems]
    assert codes.count("archive/changing") == 1
    assert codes.count("deidentify/moved") == (command == "deidentify")


def test_what_is_converted_meanwhile_is_not_waited_for(
    archive: Path, tmp_path: Path, meanwhile: Meanwhile
) -> None:
    late = {
        S: make.ct_slice("s", 3, 1),
        T: make.ct_slice("t", 3, 1, replace=BEN),
    }

    def arrives(first: str, _: str) -> None:
        more = studies.write_files(tmp_path / "more", [("late.dcm", late[first])])
        assert dicomstudy.convert([more], archive).instances == 1

    meanwhile(arrives)
    assert dicomstudy.restore(archive, tmp_path / "out").files == 7


def test_a_study_that_can_no_longer_be_read_is_a_problem(
    archive: Path, tmp_path: Path, meanwhile: Meanwhile
) -> None:
    def damaged(first: str, then: str) -> None:
        dicomstudy.merge(archive, then, into=first)
        dicomstudy.open_archive(archive).document_path(first).write_bytes(b"no document")

    meanwhile(damaged)
    done = dicomstudy.restore(archive, tmp_path / "out")
    assert [problem.code for problem in done.problems] == ["study/not-a-study"]


def test_verify_proves_what_came(archive: Path, meanwhile: Meanwhile) -> None:
    def damaged(first: str, then: str) -> None:
        dicomstudy.merge(archive, then, into=first)
        bulk = dicomstudy.open_archive(archive).bulk_path(first)
        *content, last = bulk.read_bytes()
        bulk.write_bytes(bytes([*content, last ^ 1]))

    meanwhile(damaged)
    verified = dicomstudy.verify(archive)
    assert verified.problems
    assert (verified.studies, verified.instances) == (2, 7)


def test_deidentify_says_that_something_came(
    archive: Path, tmp_path: Path, meanwhile: Meanwhile
) -> None:
    meanwhile(merged(archive))
    done = dicomstudy.deidentify(archive, tmp_path / "out")
    assert [problem.code for problem in done.problems] == ["deidentify/moved"]
    assert not done.complete


def test_deidentify_looks_again_at_the_studies_that_it_takes_over(
    archive: Path, tmp_path: Path, meanwhile: Meanwhile
) -> None:
    meanwhile(merged(archive))
    done = dicomstudy.deidentify(archive, tmp_path / "both", studies=[S, T])
    assert [problem.code for problem in done.problems] == ["deidentify/moved"]
    one = dicomstudy.deidentify(archive, tmp_path / "one", studies=[S])
    assert (one.studies, one.problems) == (1, [])


def test_an_instance_is_found_where_it_is_now(archive: Path, meanwhile: Meanwhile) -> None:
    folder = dicomstudy.open_archive(archive)
    last = max((S, T), key=folder.document_path)
    (wanted, *_) = folder[last]
    meanwhile(merged(archive))
    ((study, keys),) = folder.find(wanted)
    with study:
        assert (study.uid, keys) == (min((S, T), key=folder.document_path), [wanted])


def test_an_instance_that_went_on_is_found_once(archive: Path, meanwhile: Meanwhile) -> None:
    folder = dicomstudy.open_archive(archive)
    first, last = sorted((S, T), key=folder.document_path)
    (wanted, *_) = folder[first]
    meanwhile(lambda first, then: dicomstudy.merge(archive, first, into=then))
    ((study, keys),) = folder.find(wanted)
    with study:
        assert (study.uid, keys) == (last, [wanted])


def test_what_was_found_before_is_found_as_it_is_now(archive: Path, meanwhile: Meanwhile) -> None:
    folder = dicomstudy.open_archive(archive)
    first = min((S, T), key=folder.document_path)
    (wanted, *_) = folder[first]
    meanwhile(merged(archive))
    ((study, keys),) = folder.find(wanted)
    with study:
        assert (study.version, keys) == (2, [wanted])


@pytest.mark.parametrize("forth", [True, False], ids=["forth", "back"])
def test_tables_have_what_was_moved_once(
    forth: bool, archive: Path, tmp_path: Path, meanwhile: Meanwhile
) -> None:
    def change(first: str, then: str) -> None:
        source, target = (then, first) if forth else (first, then)
        dicomstudy.merge(archive, source, into=target)

    meanwhile(change)
    exported = dicomstudy.export_tables(archive, tmp_path / "tables")
    assert (exported.studies, exported.instances, exported.problems) == (2, 7, [])
    with dicomstudy.open_tables(tmp_path / "tables") as tables:
        tables.to_archive(tmp_path / "back")
    assert files_of(tmp_path / "back") == files_of(archive)


def test_tables_beside_a_copy_of_a_document_are_made_once(archive: Path, tmp_path: Path) -> None:
    folder = dicomstudy.open_archive(archive).document_path(S).parent
    shutil.copytree(folder, folder.with_name("ff"))
    exported = dicomstudy.export_tables(archive, tmp_path / "tables")
    assert [problem.code for problem in exported.problems] == ["study/damaged"]


def test_tables_that_are_always_behind_say_so(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Seen, "again", lambda _: [(archive, None)])
    exported = dicomstudy.export_tables(archive, tmp_path / "tables")
    assert [problem.code for problem in exported.problems] == ["archive/changing"]


def test_what_passes_by_while_it_is_looked_for_is_found(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes from a study that is not looked at again yet to one that was, and that one goes."""
    folder, listing = dicomstudy.open_archive(archive), Folder.listing
    first, then = sorted((S, T), key=folder.document_path)
    seen = Seen(folder)
    for path, _ in folder.listing():
        with folder.open(path) as study:
            assert not seen.add(path, study.document)

    def passing(folder: Folder, _uids: object) -> Iterator[Listed]:
        monkeypatch.setattr(Folder, "listing", listing)
        documents = listing(folder)
        yield next(documents)
        dicomstudy.merge(archive, then, into=first)
        dicomstudy.collect(archive, study=then, older_versions=True, remove=True)
        yield from documents

    monkeypatch.setattr(Folder, "listing", passing)
    assert seen.again() == [(folder.document_path(first), None)]


def test_a_mark_that_is_not_told_ends_nothing(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(document: Document) -> int:
        monkeypatch.undo()
        raise StudyError("study/unreadable", "Stale file handle", source=str(document.path))

    monkeypatch.setattr(Document, "mark", property(refused))
    done = dicomstudy.restore(archive, tmp_path / "out")
    assert (done.files, done.problems) == (7, [])
