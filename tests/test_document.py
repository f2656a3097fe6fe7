"""Studies are written as documents and read from them (spec/study.md)."""

from __future__ import annotations

import errno
import os
import random
import struct
import weakref
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

import dicomstudy
from dicomstudy import ion
from dicomstudy.document import Document, fields, read_batch, readable, reader, whole, writer
from dicomstudy.errors import DicomStudyError, StudyError
from dicomstudy.grouping import Batch
from fixtures import make
from tests import studies
from tests.samples import refusing
from tests.strategies import DEFINITIONS

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("documents")


@pytest.fixture(scope="module")
def fixture_document(folder: Path) -> Path:
    """All fixtures in one document of many small chunks."""
    with mock.patch.object(writer, "CHUNK_INSTANCES", 3):
        return studies.write_document(
            folder / "fixtures.ion.zst", studies.grouped(studies.fixture_study())
        )


@pytest.fixture(scope="module")
def small_document(folder: Path) -> Path:
    """A few instances in two chunks and shared frames."""
    with mock.patch.object(writer, "CHUNK_INSTANCES", 4):
        files = studies.fixture_study()
        return studies.write_document(folder / "small.ion.zst", studies.grouped(files[:6]))


def frames_of(path: Path) -> list[bytes]:
    """The Ion of every frame, by their table."""
    data = path.read_bytes()
    count, flags, magic = struct.unpack("<IBI", data[-9:])
    assert (flags, magic) == (0, 0x8F92EAB1)
    table = data[-9 - 8 * count : -9]
    assert struct.unpack("<II", data[-17 - 8 * count : -9 - 8 * count]) == (
        0x184D2A5E,
        8 * count + 9,
    )
    frames, at = [], 0
    for size, plain in struct.iter_unpack("<II", table):
        frames.append(zstandard.ZstdDecompressor().decompress(data[at : at + size]))
        assert len(frames[-1]) == plain
        at += size
    assert at == len(data) - 17 - 8 * count
    return frames


# -- the law ---------------------------------------------------------------------------------


@given(studies.batches(), st.integers(1, 12), st.sampled_from([1, 300, 1 << 20]))
def test_what_is_written_is_read(folder: Path, batch: Batch, instances: int, size: int) -> None:
    with (
        mock.patch.object(writer, "CHUNK_INSTANCES", instances),
        mock.patch.object(writer, "CHUNK_BYTES", size),
    ):
        path = studies.write_document(folder / "any.ion.zst", batch)
    assert studies.canonical(studies.read_again(path)) == studies.canonical(batch)


def test_the_fixtures_are_read_again(fixture_document: Path) -> None:
    batch = studies.grouped(studies.fixture_study())
    again = studies.read_again(fixture_document)
    assert studies.canonical(again) == studies.canonical(batch)
    places = {
        entry.digest: {
            sha256: (place.get("source", entry.digest), place["dataOffset"])
            for sha256, place in entry.places.items()
        }
        for entry in again.entries
    }
    assert [set(places[entry.digest]) for entry in batch.entries] == [
        set(entry.places) for entry in batch.entries
    ]


@given(studies.batches(), st.randoms(use_true_random=False))
def test_the_same_instances_give_the_same_bytes(
    folder: Path, batch: Batch, chance: random.Random
) -> None:
    order = list(range(len(batch.entries)))
    chance.shuffle(order)
    one = studies.write_document(folder / "one.ion.zst", batch)
    other = studies.write_document(folder / "other.ion.zst", studies.shuffled(batch, order))
    assert one.read_bytes() == other.read_bytes()


def test_reading_and_writing_again_gives_the_same_bytes(
    fixture_document: Path, folder: Path
) -> None:
    with mock.patch.object(writer, "CHUNK_INSTANCES", 3):
        again = studies.write_document(
            folder / "again.ion.zst", studies.read_again(fixture_document)
        )
    assert again.read_bytes() == fixture_document.read_bytes()


# -- frames ------------------------------------------------------------------------------------


def test_a_document_is_a_row_of_zstandard_frames(fixture_document: Path) -> None:
    """Any decompressor and any Ion reader gives a plain stream of values."""
    data = fixture_document.read_bytes()
    frames = frames_of(fixture_document)
    reader = zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True)
    assert reader.read() == b"".join(frames)
    values = [value for frame in frames for value in ion.load_all(frame)]
    assert ion.load_all(b"".join(frames)) == values
    header = values[0]
    assert header["format"] == "dicomstudy"
    others = header["countFrames"] + header["sharedFrames"]
    assert len(values) == 1 + others + len(header["chunks"])


def test_the_header_says_where_each_instance_lies(fixture_document: Path) -> None:
    opened = Document(fixture_document)
    for number, chunk in enumerate(opened.chunks):
        frame = opened.chunk(number)
        assert list(frame["instances"]) != []
        assert len(frame["instances"]) == chunk["instances"] <= 3
        assert min(frame["instances"]) == chunk["first"]
        assert max(frame["instances"]) == chunk["last"]
        assert frame["seriesInstanceUID"] == chunk["seriesInstanceUID"]
    opened.close()


def test_a_group_stands_once_in_a_document(fixture_document: Path) -> None:
    opened = Document(fixture_document)
    digests = [
        digest
        for frame in (*opened.shared(), *map(opened.chunk, range(len(opened.chunks))))
        for contents in frame["groups"].values()
        for digest in contents
    ]
    opened.close()
    assert len(digests) == len(set(digests)) > 100


def test_groups_are_referred_to_by_symbol(fixture_document: Path) -> None:
    """A digest costs its text once in a frame."""
    for frame in frames_of(fixture_document)[1:]:
        for digest in ion.loads(frame).get("_groups", ()):
            assert frame.count(str(digest).encode()) == 1


def test_reading_one_chunk_reads_no_other(fixture_document: Path) -> None:
    opened = Document(fixture_document)
    reads: list[int] = []
    value = opened._value

    def counting(at: int) -> Any:
        reads.append(at)
        return value(at)

    with mock.patch.object(opened, "_value", counting):
        opened.chunk(5)
        opened.chunk(5)
    assert reads == [1 + opened.header["countFrames"] + opened.header["sharedFrames"] + 5]
    opened.close()


def test_what_was_read_goes_with_the_document(fixture_document: Path) -> None:
    """At once: where many are opened one after another, the garbage collector comes too late."""
    document = Document(fixture_document)
    document.chunk(0)
    is_there = weakref.ref(document)
    document.close()
    del document
    assert is_there() is None


def test_the_definitions_that_wrote_it_are_named(fixture_document: Path) -> None:
    opened = Document(fixture_document)
    assert opened.header["definitions"] == {
        "version": DEFINITIONS.version,
        "sha256": DEFINITIONS.digest,
    }
    opened.close()


def test_a_large_study_has_small_frames(folder: Path) -> None:
    batch = studies.grouped(make.study(1000, series=2))
    path = studies.write_document(folder / "large.ion.zst", batch)
    opened = Document(path)
    assert [chunk["instances"] for chunk in opened.chunks] == [256, 244, 256, 244]
    opened.close()
    assert max(map(len, frames_of(path))) < 1 << 20
    assert path.stat().st_size < 300 * 1000


# -- the readable form -------------------------------------------------------------------------


def whole_of(path: Path) -> dict[str, Any]:
    opened = Document(path)
    try:
        return whole(opened)
    finally:
        opened.close()


@pytest.mark.parametrize(
    "written",
    [
        lambda whole: ion.dumps(whole, text=True),
        ion.dumps,
        lambda whole: zstandard.compress(ion.dumps(whole)),
        lambda whole: zstandard.compress(ion.dumps(whole, text=True)),
    ],
    ids=["text", "binary", "compressed", "compressed text"],
)
def test_the_readable_form_is_read_as_well(
    written: Callable[[Any], bytes], fixture_document: Path, folder: Path
) -> None:
    path = folder / "whole.ion"
    path.write_bytes(written(whole_of(fixture_document)))
    again = studies.read_again(path)
    assert studies.canonical(again) == studies.canonical(studies.read_again(fixture_document))
    with studies.open_study(path) as study, studies.open_study(fixture_document) as original:
        assert study.digest == original.digest
        assert sorted(study) == sorted(original)
    assert whole_of(path) == whole_of(fixture_document)


def test_a_document_without_its_table_is_read_as_a_stream(
    fixture_document: Path, folder: Path
) -> None:
    path = folder / "stream.ion"
    path.write_bytes(b"".join(frames_of(fixture_document)))
    assert studies.canonical(studies.read_again(path)) == studies.canonical(
        studies.read_again(fixture_document)
    )


# -- damage ------------------------------------------------------------------------------------


def read_all(path: Path) -> None:
    """All that can be read of a document."""
    batch = studies.read_again(path)
    assert batch.entries is not None
    with studies.open_study(path) as study:
        for instance in study.values():
            instance.attributes()
        assert study.digest
        list(study.places())


@given(st.randoms(use_true_random=False))
def test_a_damaged_document_is_refused_or_read(
    small_document: Path, folder: Path, chance: random.Random
) -> None:
    data = bytearray(small_document.read_bytes())
    for _ in range(chance.randint(1, 3)):
        if not data:
            break
        at = chance.randrange(len(data))
        kind = chance.randrange(3)
        if kind == 0:
            data[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            del data[at : at + chance.randint(1, 50)]
        else:
            del data[max(at, 1) :]
    path = folder / "damaged.ion.zst"
    path.write_bytes(data)
    with refusing("study/", "record/", "bulk/", "definitions/"):
        read_all(path)


def changed_values(values: list[Any], chance: random.Random) -> None:
    """Put something else in the place of one field or item, anywhere in `values`."""
    place: Any = values
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = chance.choice(keys)
        inner = place[key]
        if not isinstance(inner, dict | list) or not inner or chance.random() < 0.2:
            break
        place = inner
    others: list[Any] = [None, -1, 1 << 60, 0.5, "x", b"x", [], {}, [None], {"x": None}, [{}], True]
    if isinstance(place, dict) and chance.random() < 0.3:
        del place[key]
    else:
        place[key] = chance.choice(others)


@given(st.randoms(use_true_random=False))
def test_any_ion_is_a_document_or_refused(
    small_document: Path, folder: Path, chance: random.Random
) -> None:
    for _ in range(5):
        values = [ion.loads(frame) for frame in frames_of(small_document)]
        for _ in range(chance.randint(1, 3)):
            changed_values(values, chance)
        path = folder / "hostile.ion"
        path.write_bytes(b"".join(map(ion.dumps, values)))
        with refusing("study/", "record/", "bulk/", "definitions/"):
            read_all(path)


def rewritten(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """The document with a changed header."""
    values = [ion.loads(frame) for frame in frames_of(path)]
    change(values[0])
    target = path.with_name("rewritten.ion")
    target.write_bytes(b"".join(map(ion.dumps, values)))
    return target


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"format": "other"}, "study/not-a-study"),
        ({"format": None}, "study/not-a-study"),
        ({"version": 2}, "study/unknown-version"),
        ({"version": None}, "study/unknown-version"),
        ({"studyInstanceUID": 5}, "study/damaged"),
        ({"chunks": "x"}, "study/damaged"),
        ({"chunks": [{}]}, "study/damaged"),
        ({"sharedFrames": "x"}, "study/damaged"),
        ({"sharedFrames": -1}, "study/damaged"),
        ({"sharedFrames": 1000}, "study/damaged"),
        ({"bulkLength": None}, "study/damaged"),
        ({"definitions": {"version": "1", "sha256": "0" * 64}}, "study/definitions"),
        ({"definitions": {"version": "999", "sha256": "0" * 64}}, "definitions/unknown-version"),
        ({"definitions": {"version": "../1", "sha256": "0" * 64}}, "definitions/unknown-version"),
    ],
)
def test_a_header_that_is_none_is_refused(
    change: dict[str, Any], code: str, fixture_document: Path
) -> None:
    path = rewritten(fixture_document, lambda header: header.update(change))
    with pytest.raises(DicomStudyError) as raised:
        read_all(path)
    assert raised.value.code == code


def test_a_missing_group_is_an_error(fixture_document: Path, folder: Path) -> None:
    values: list[Any] = [ion.loads(frame) for frame in frames_of(fixture_document)]
    chunk = values[-1]
    chunk["groups"] = {}
    path = folder / "missing.ion"
    path.write_bytes(b"".join(map(ion.dumps, values)))
    opened = Document(path)
    with pytest.raises(StudyError) as raised:
        read_batch(opened, DEFINITIONS)
    assert raised.value.code == "study/missing-group"
    opened.close()


@pytest.mark.parametrize(
    "content",
    [b"", b"x", b"text that is no Ion {", b"{}", b"[1, 2]", b"{a: {series: []}}", ZSTD_MAGIC,
     zlib.compress(b"x"), zstandard.compress(b"{}"), b"{a: {groups: {}, series: {b: {}}}}"],
)  # fmt: skip
def test_what_is_no_document_is_refused(content: bytes, folder: Path) -> None:
    path = folder / "other.ion"
    path.write_bytes(content)
    with pytest.raises(StudyError) as raised:
        Document(path)
    assert raised.value.location.source == str(path)


def test_a_missing_document_is_an_error(folder: Path) -> None:
    with pytest.raises(StudyError) as raised:
        Document(folder / "nothing")
    assert raised.value.code == "study/missing"


def test_a_document_that_cannot_be_opened_is_not_said_to_be_missing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    studies.unopenable(monkeypatch)
    with pytest.raises(StudyError, match=os.strerror(errno.EMFILE)) as raised:
        Document(folder / "a.ion")
    assert raised.value.code == "study/unreadable"


def bombs() -> Iterator[tuple[str, bytes]]:
    """Documents that grow without bounds when they are decompressed."""
    frame = zstandard.ZstdCompressor(level=1).compress(bytes(64 << 20))
    yield "stream", frame * 40
    table = struct.pack("<II", len(frame), 64 << 20) * 40
    footer = struct.pack("<IBI", 40, 0, 0x8F92EAB1)
    yield "table", frame * 40 + struct.pack("<II", 0x184D2A5E, len(table) + 9) + table + footer
    huge = struct.pack("<II", len(frame), 0xFFFFFFFF)
    yield (
        "huge",
        frame
        + struct.pack("<II", 0x184D2A5E, len(huge) + 9)
        + huge
        + struct.pack("<IBI", 1, 0, 0x8F92EAB1),
    )


def test_what_is_larger_than_a_document_without_table_is_not_read(folder: Path) -> None:
    path = folder / "large"
    with path.open("wb") as file:
        file.truncate((1 << 30) + 1)
    with (
        mock.patch.object(os, "pread", wraps=os.pread) as read,
        pytest.raises(StudyError) as raised,
    ):
        Document(path)
    assert raised.value.code == "study/too-large"
    assert sum(call.args[1] for call in read.call_args_list) < 100


@pytest.mark.parametrize("kind", ["stream", "table", "huge"])
def test_a_bomb_is_refused(kind: str, folder: Path) -> None:
    path = folder / "bomb.ion.zst"
    path.write_bytes(dict(bombs())[kind])
    with (
        mock.patch.object(reader, "MAX_FRAME", 100 << 20),
        pytest.raises(StudyError) as raised,
    ):
        Document(path)
    assert raised.value.code in {"study/too-large", "study/damaged", "study/not-a-study"}


@pytest.mark.parametrize("has_table", [False, True])
def test_more_values_than_a_document_has_are_refused(folder: Path, *, has_table: bool) -> None:
    """Before there is any of them in memory."""
    header = ion.dumps({"format": "dicomstudy", "other": [{}] * 50_000})
    path = folder / "values.ion.zst"
    frames = writer.Frames()
    compressed = zstandard.compress(header)
    data = frames.copy(compressed, len(header)) + frames.table()
    path.write_bytes(data if has_table else compressed)
    with (
        mock.patch.object(readable, "MAX_VALUES", 4000),
        mock.patch.object(fields, "MAX_VALUES", 4000),
        pytest.raises(StudyError, match="more than 4,000 values") as raised,
    ):
        Document(path)
    assert raised.value.code == ("study/damaged" if has_table else "study/too-large")


@pytest.mark.parametrize(
    ("module", "limits"),
    [(writer, {"MAX_FRAME": 10_000}), (fields, {"MAX_VALUES": 200, "_UNCOUNTED": 1000})],
    ids=["bytes", "values"],
)
def test_nothing_is_written_that_nobody_would_read(
    module: ModuleType, limits: dict[str, Any], tmp_path: Path
) -> None:
    studies.write_files(tmp_path / "in", [("1.dcm", make.small("1")), ("2.dcm", wide(2))])
    with mock.patch.multiple(module, **limits):
        report = dicomstudy.convert([tmp_path / "in"], tmp_path / "archive")
    assert [problem.code for problem in report.problems] == ["study/too-large"]
    assert not report.complete
    assert report.instances == 1


def wide(number: int) -> bytes:
    """A file of a study of its own that has a group of more than 10,000 bytes."""
    items = [make.item(make.element(0x00100020, "LO", f"{number}-{at}")) for at in range(1000)]
    others = make.element(0x00101002, "SQ", b"".join(items))
    return make.ct_slice("wide", 1, number, replace={0x00101002: others})


def test_a_chunk_ends_with_the_groups_that_only_it_has(tmp_path: Path) -> None:
    """Each of these instances has a large group of its own."""
    studies.write_files(tmp_path / "in", [(f"{n}.dcm", wide(n)) for n in range(1, 6)])
    with mock.patch.object(writer, "CHUNK_BYTES", 10_000):
        dicomstudy.convert([tmp_path / "in"], tmp_path / "archive")
    (study,) = dicomstudy.open_archive(tmp_path / "archive").values()
    assert [chunk["instances"] for chunk in study.document.chunks] == [1] * 5


def test_a_chunk_ends_with_the_texts_of_its_instances(tmp_path: Path) -> None:
    """Where the limit for large values lets them be long."""
    files = []
    for number in range(1, 7):
        replace = {0x00184000: make.element(0x00184000, "LT", f"{number}" * 8000)}
        files.append((f"{number}.dcm", make.ct_slice("long", 1, number, replace=replace)))
    studies.write_files(tmp_path / "in", files)
    with mock.patch.object(writer, "CHUNK_BYTES", 32_000):
        dicomstudy.convert([tmp_path / "in"], tmp_path / "archive", max_inline=10_000)
    (study,) = dicomstudy.open_archive(tmp_path / "archive").values()
    assert [chunk["instances"] for chunk in study.document.chunks] == [2, 2, 2]
