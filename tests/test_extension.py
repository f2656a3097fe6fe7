"""Documents that get late instances (spec/study.md, Late instances)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dicomstudy
from dicomstudy import show
from dicomstudy.document import Document, extension, whole, writer
from dicomstudy.document.extension import extended, stored_places
from dicomstudy.grouping import Batch
from dicomstudy.lineage import History, Version
from fixtures import make
from tests import studies
from tests.samples import chance_of
from tests.strategies import DEFINITIONS
from tests.test_growth import drawn, series_of

BEFORE = History((Version(1, "2026-01-31T10:11:12Z", "convert"),))


@contextmanager
def small_chunks(instances: int) -> Iterator[None]:
    with ExitStack() as stack:
        for module in (writer, extension):
            stack.enter_context(mock.patch.object(module, "CHUNK_INSTANCES", instances))
        yield


def parted(batch: Batch, late: list[int]) -> tuple[Batch, Batch]:
    """The batch without some of its entries, and one of these."""
    entries = batch.entries
    coming = [entries[at]._replace(events=(2,)) for at in late]
    first = [entry for at, entry in enumerate(entries) if at not in late]
    return (
        Batch(batch.contents, batch.rows, batch.bases, first),
        Batch(batch.contents, batch.rows, batch.bases, coming),
    )


def extend(path: Path, late: Batch) -> bool:
    """Whether instances came into a document without it being encoded anew."""
    with closing(Document(path)) as document:
        assert stored_places(document, late) is not None
        history = document.history.then("convert", added=len(late.entries))
        frames = extended(document, late, DEFINITIONS, history=history, bulk_length=0)
        if frames is None:
            return False
        content = b"".join(frames)
    path.write_bytes(content)
    return True


def digest_of(path: Path) -> str:
    with studies.open_study(path) as study:
        return study.digest


def assert_extended(folder: Path, batch: Batch, late: list[int], chunk_instances: int) -> bool:
    """Hold a document that grew against that of all instances; whether it grew."""
    first, coming = parted(batch, late)
    path = studies.write_document(folder / "a.ion.zst", first)
    if not extend(path, coming):
        return False
    other = studies.write_document(folder / "b.ion.zst", batch)
    assert digest_of(path) == digest_of(other)
    with studies.open_study(path) as found, studies.open_study(other) as expected:
        assert sorted(found) == sorted(expected)
    assert studies.canonical(studies.read_again(path)) == studies.canonical(batch)
    with closing(Document(path)) as document:
        for number, said in enumerate(document.chunks):
            chunk = document.chunk(number)
            assert (min(chunk["instances"]), max(chunk["instances"])) == (
                said["first"],
                said["last"],
            )
            assert len(chunk["instances"]) == said["instances"] <= chunk_instances
    return True


# -- the law ---------------------------------------------------------------------------------


@given(st.randoms(use_true_random=False), st.integers(1, 40), st.integers(1, 3))
def test_a_series_that_grows_says_what_all_instances_say(
    chance: random.Random, size: int, late: int
) -> None:
    batch = series_of(drawn(chance, size + late))
    with small_chunks(3), TemporaryDirectory() as folder:
        assert_extended(Path(folder), batch, chance.sample(range(size + late), late), 3)


@given(studies.batches(), st.randoms(use_true_random=False))
def test_a_study_that_grows_says_what_all_instances_say(
    batch: Batch, chance: random.Random
) -> None:
    uids = [entry.instance for entry in batch.entries]
    single = [at for at, uid in enumerate(uids) if uids.count(uid) == 1]
    chunks = chance.randint(1, 50)
    with small_chunks(chunks), TemporaryDirectory() as folder:
        assert_extended(Path(folder), batch, chance.sample(single, min(2, len(single))), chunks)


@pytest.mark.parametrize("chunks", [1, 3, 100])
def test_many_studies_grow_without_being_encoded_anew(tmp_path: Path, chunks: int) -> None:
    chance = chance_of(chunks)
    grew = 0
    for _ in range(20):
        with small_chunks(chunks):
            batch = series_of(drawn(chance, 45))
            grew += assert_extended(tmp_path, batch, [chance.randrange(45)], chunks)
    assert grew > 5


# -- what it costs ---------------------------------------------------------------------------


def frames_of(path: Path) -> list[bytes]:
    with closing(Document(path)) as document:
        return [stored for stored, _ in document.stored_frames()]


def test_frames_that_nothing_changes_in_are_copied(tmp_path: Path) -> None:
    batch = series_of([{"KVP": 1, "InstanceNumber": at} for at in range(40)])
    first, late = parted(batch, [20])
    with small_chunks(8):
        path = studies.write_document(tmp_path / "a", first)
        before = frames_of(path)
        assert extend(path, late)
    after = frames_of(path)
    assert len(set(before) - set(after)) == 1
    assert len(after) == len(before) + 1  # it was full, and is two now


def test_a_chunk_of_many_bytes_is_parted(tmp_path: Path) -> None:
    items = [[{"CodeMeaning": "x" * 900}]] * 12
    batch = series_of(
        [{"00091000": [*item, {"CodeValue": str(at)}]} for at, item in enumerate(items)]
    )
    first, late = parted(batch, [5])
    with mock.patch.object(extension, "_MAX_PLAIN", 5000):
        path = studies.write_document(tmp_path / "a", first)
        assert extend(path, late)
    with closing(Document(path)) as document:
        assert len(document.chunks) == 4
    assert digest_of(path) == digest_of(studies.write_document(tmp_path / "b", batch))


def test_a_group_that_nobody_refers_to_any_more_is_not_seen(tmp_path: Path) -> None:
    """Two series share a constant group; the late one makes it no group of either."""
    same = {"KVP": 1, "GantryDetectorTilt": 2}
    batch = series_of([{**same}, {**same}, {"GantryDetectorTilt": 3, "KVP": 1}])
    batch.entries[1] = batch.entries[1]._replace(series="2")
    first, late = parted(batch, [2])
    path = studies.write_document(tmp_path / "a", first)
    assert extend(path, late)
    other = studies.write_document(tmp_path / "b", batch)
    with studies.open_study(path) as found, studies.open_study(other) as expected:
        assert found.groups == expected.groups
        ((_, one), (_, two)) = (*whole(found.document).items(), *whole(expected.document).items())
        assert one["groups"] == two["groups"]


# -- what is not extended ------------------------------------------------------------------------


def test_an_instance_of_a_uid_that_is_there_is_not_late(tmp_path: Path) -> None:
    batch = series_of([{"KVP": 1}] * 5)
    first, late = parted(batch, [2])
    twin = late.entries[0]._replace(instance=first.entries[0].instance)
    path = studies.write_document(tmp_path / "a", first)
    with closing(Document(path)) as document:
        assert stored_places(document, late) == {}
        assert stored_places(document, Batch(late.contents, late.rows, late.bases, [twin])) is None
        twice = Batch(late.contents, late.rows, late.bases, [*late.entries] * 2)
        assert stored_places(document, twice) is None


def test_a_uid_that_others_begin_with_is_another(tmp_path: Path) -> None:
    batch = series_of([{"KVP": 1}] * 3)
    entries = [batch.entries[0]._replace(instance=uid) for uid in ("1.0", "1.25", "1.2")]
    batch.entries = entries
    first, late = parted(batch, [2])
    path = studies.write_document(tmp_path / "a", first)
    with closing(Document(path)) as document:
        assert stored_places(document, late) == {}


def test_a_document_of_one_struct_is_encoded_anew(tmp_path: Path) -> None:
    files = [(f"{n}.dcm", make.ct_slice("ct", 1, n)) for n in range(9)]
    dicomstudy.convert([studies.write_files(tmp_path / "in", files[1:])], tmp_path / "archive")
    archive = dicomstudy.open_archive(tmp_path / "archive")
    ((uid, study),) = archive.items()
    study.path.write_text("".join(show.render(archive, uid, form="ion")), encoding="utf-8")
    report = dicomstudy.convert(
        [studies.write_files(tmp_path / "late", files[:1])], tmp_path / "archive"
    )
    assert (report.instances, len(report.problems)) == (1, 0)
    assert len(archive[uid]) == len(files)
    assert dicomstudy.verify(archive).problems == []


def with_header(path: Path, change: dict[str, object], *more: dict[str, object]) -> None:
    """Change fields of the header of a document, and put frames behind it."""
    frames = writer.Frames()
    with closing(Document(path)) as document:
        content = [frames.add({**document.header, **change}), *map(frames.add, more)]
        content += [frames.copy(*stored) for stored in document.stored_frames()]
    path.write_bytes(b"".join([*content, frames.table()]))


def test_counts_of_no_series_are_no_counts(tmp_path: Path) -> None:
    batch = series_of([{"KVP": 1}] * 5)
    path = studies.write_document(tmp_path / "a", batch)
    expected = digest_of(path)
    with_header(path, {"countFrames": 1}, {"series": {}})
    with closing(Document(path)) as document:
        changed = b"".join(writer.with_history(document, BEFORE))
    path.write_bytes(changed)
    assert digest_of(path) == expected


@pytest.mark.parametrize("chunks", [2, 100])
def test_nothing_is_lost_where_the_header_does_not_say_what_is_there(
    tmp_path: Path, chunks: int
) -> None:
    batch = series_of([{"KVP": 1}] * 5)
    first, late = parted(batch, [2])
    twin = first.entries[1]._replace(digest="f" * 64)
    with small_chunks(chunks):
        path = studies.write_document(tmp_path / "a", first)
        with closing(Document(path)) as document:
            narrow = [{**said, "last": said["first"]} for said in document.chunks]
            counts = {uid: each.to_struct() for uid, each in document.counts.items()}
        more: list[dict[str, object]] = [{"series": counts}] if counts else []
        with_header(path, {"chunks": narrow}, *more)
        assert not extend(path, Batch(late.contents, late.rows, late.bases, [twin]))
