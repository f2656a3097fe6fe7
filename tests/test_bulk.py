"""Large values in a bulk file: stored, found by their place, read in ranges (spec/bulk.md)."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from dicomstudy.bulk import (
    MAGIC,
    MAX_CHUNK,
    BulkReader,
    BulkWriter,
    Place,
    append,
    shuffle,
    unshuffle,
)
from dicomstudy.errors import BulkError
from tests import processes, studies
from tests.samples import chance_of

WORDS = st.sampled_from([1, 2, 4, 8])
NOISE = chance_of(7).randbytes(1 << 20)
SMOOTH = bytes(at // 7 % 256 for at in range(1 << 20))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bulk")


def stored(path: Path, *values: bytes, **options: Any) -> list[Place]:
    """The places of values in a new bulk file."""
    path.unlink(missing_ok=True)
    with BulkWriter(path) as writer:
        return [writer.add([value], len(value), **options) for value in values]


@st.composite
def contents(draw: st.DrawFn) -> bytes:
    """Values of up to 600 KB: noise, smooth, or any few bytes."""
    if draw(st.booleans()):
        return draw(st.binary(min_size=1, max_size=100))
    length = draw(st.integers(1, 600_000))
    start = draw(st.integers(0, (1 << 20) - length))
    source: bytes = draw(st.sampled_from([NOISE, SMOOTH]))
    return source[start : start + length]


# -- the law ---------------------------------------------------------------------------------


@given(
    st.lists(contents(), min_size=1, max_size=4), WORDS, st.integers(0, 100_000), st.data()
)  # fmt: skip
def test_what_is_added_is_read(
    folder: Path,
    values: list[bytes],
    word: int,
    frame: int,
    data: st.DataObject,
) -> None:
    path = folder / "any.bulk"
    places = stored(path, *values, word=word, frame=frame)
    reader = BulkReader(path)
    for value, place in zip(values, places, strict=True):
        assert reader.read(place) == value
        reader.verify(place, sha256(value).hexdigest())
        start = data.draw(st.integers(0, len(value)))
        stop = data.draw(st.integers(0, len(value) + 10))
        assert reader.read(place, start, stop) == value[start:stop]
        assert Place.from_struct(place.to_struct(), len(value)) == place
    assert path.stat().st_size == len(MAGIC) + sum(sum(place.stored) for place in places)
    reader.close()


@given(st.lists(st.binary(min_size=1, max_size=9000), min_size=1, max_size=9), WORDS)
def test_pieces_may_be_of_any_size(folder: Path, pieces: list[bytes], word: int) -> None:
    whole = b"".join(pieces)
    path = folder / "pieces.bulk"
    path.unlink(missing_ok=True)
    with BulkWriter(path) as writer:
        place = writer.add(pieces, len(whole), word=word, frame=1000)
    assert [place] == stored(folder / "whole.bulk", whole, word=word, frame=1000)
    assert path.read_bytes() == (folder / "whole.bulk").read_bytes()


@given(st.binary(max_size=100), WORDS)
def test_shuffled_bytes_come_back(data: bytes, word: int) -> None:
    shuffled = shuffle(data, word)
    assert sorted(shuffled) == sorted(data)
    assert unshuffle(bytes(shuffled), word) == data


def test_shuffling_puts_equal_places_together() -> None:
    assert shuffle(b"aAbBcC.", 2) == b"abcABC."


# -- what is stored ----------------------------------------------------------------------------


def test_noise_is_stored_as_it_is_and_the_rest_is_compressed(folder: Path) -> None:
    noise, smooth = stored(folder / "pays.bulk", NOISE, SMOOTH)
    assert sum(noise.stored) == len(NOISE)
    assert sum(smooth.stored) < len(SMOOTH) / 10


def test_a_range_reads_only_its_chunks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "range.bulk"
    frame = 50_000
    (place,) = stored(path, SMOOTH, word=2, frame=frame)
    reader = BulkReader(path)
    reads: list[int] = []
    pread = reader.pread

    def counting(length: int, offset: int) -> bytes:
        reads.append(length)
        return pread(length, offset)

    monkeypatch.setattr(reader, "pread", counting)
    assert reader.read(place, 3 * frame, 4 * frame) == SMOOTH[3 * frame : 4 * frame]
    assert len(place.stored) > 10
    assert len(reads) == 1
    reader.close()


def test_chunks_are_whole_frames_if_they_are_small(folder: Path) -> None:
    (small, large) = (
        stored(folder / "frames.bulk", SMOOTH, word=2, frame=frame)[0] for frame in (1000, 500_000)
    )
    assert small.chunk % 1000 == 0
    assert large.chunk <= MAX_CHUNK


def test_values_are_appended_and_what_an_interrupted_run_left_is_cut_off(folder: Path) -> None:
    path = folder / "append.bulk"
    (first,) = stored(path, b"first")
    with BulkWriter(path) as writer:
        end = writer.end
        lost = writer.add([b"lost"], 4)
    with BulkWriter(path, end=end) as writer:
        kept = writer.add([b"kept"], 4)
        writer.sync()
    reader = BulkReader(path)
    assert kept.offset == lost.offset
    assert [reader.read(first), reader.read(kept)] == [b"first", b"kept"]
    assert path.stat().st_size == len(MAGIC) + 9
    reader.close()


def test_values_are_copied_as_they_are_stored(folder: Path) -> None:
    source, target = folder / "source.bulk", folder / "target.bulk"
    places = stored(source, SMOOTH, NOISE, word=2)
    reader = BulkReader(source)
    target.unlink(missing_ok=True)
    with BulkWriter(target) as writer:
        moved = [writer.copy(reader, place) for place in reversed(places)]
    reader.close()
    copy = BulkReader(target)
    assert [copy.read(place) for place in moved] == [NOISE, SMOOTH]
    assert [place.stored for place in moved] == [place.stored for place in reversed(places)]
    copy.close()


# -- damage ------------------------------------------------------------------------------------


def damaged(path: Path) -> Iterator[tuple[str, bytes]]:
    """The bytes of a bulk file, cut and changed in many places."""
    whole = path.read_bytes()
    chance = chance_of(3)
    for _ in range(150):
        at = chance.randrange(len(MAGIC), len(whole))
        yield "cut", whole[:at]
        changed = bytearray(whole)
        changed[at] ^= chance.randrange(1, 256)
        yield "changed", bytes(changed)


@pytest.mark.parametrize("value", [NOISE[:5000], SMOOTH[:200_000]], ids=["plain", "compressed"])
@pytest.mark.parametrize("word", [1, 4])
def test_damage_is_found(folder: Path, value: bytes, word: int) -> None:
    path = folder / "whole.bulk"
    (place,) = stored(path, value, word=word)
    digest = sha256(value).hexdigest()
    found = set()
    for _, content in damaged(path):
        (folder / "damaged.bulk").write_bytes(content)
        reader = BulkReader(folder / "damaged.bulk")
        with pytest.raises(BulkError) as raised:
            reader.verify(place, digest)
        found.add(raised.value.code)
        assert raised.value.location.source == str(folder / "damaged.bulk")
        reader.close()
    assert found <= {"bulk/truncated", "bulk/damaged", "bulk/digest"}
    assert "bulk/truncated" in found
    assert "bulk/digest" in found or place.stored[0] < place.chunk


@pytest.mark.parametrize("content", [b"", b"DCM", b"another file altogether"])
def test_what_is_no_bulk_file_is_refused(folder: Path, content: bytes) -> None:
    (folder / "other").write_bytes(content)
    with pytest.raises(BulkError):
        BulkReader(folder / "other")


def test_a_missing_bulk_file_is_an_error(folder: Path) -> None:
    with pytest.raises(BulkError) as raised:
        BulkReader(folder / "nothing")
    assert raised.value.code == "bulk/missing"


def test_a_bulk_file_that_cannot_be_opened_is_not_said_to_be_missing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    studies.unopenable(monkeypatch)
    with pytest.raises(BulkError, match=os.strerror(errno.EMFILE)) as raised:
        BulkReader(folder / "a.bulk")
    assert raised.value.code == "bulk/unreadable"


# -- places from documents ---------------------------------------------------------------------

GOOD = {"offset": 8, "stored": [10, 4], "chunk": 16, "word": 2}


def test_a_place_is_read() -> None:
    assert Place.from_struct(GOOD, 20) == Place(8, 20, 16, 2, (10, 4))
    assert Place.from_struct({"offset": 8, "stored": [20]}, 20) == Place(8, 20, 20, 1, (20,))


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    ("change", "length"),
    [
        ({"offset": None}, 20),
        ({"offset": "x"}, 20),
        ({"offset": -1}, 20),
        ({"offset": 1 << 70}, 20),
        ({"offset": float("inf")}, 20),
        ({"stored": None}, 20),
        ({"stored": 5}, 20),
        ({"stored": []}, 20),
        ({"stored": [10]}, 20),
        ({"stored": [10, 5]}, 20),
        ({"stored": [0, 4]}, 20),
        ({"stored": [-1, 4]}, 20),
        ({"stored": [17, 4]}, 20),
        ({"stored": [float("inf"), 4]}, 20),
        ({"chunk": 0}, 20),
        ({"chunk": -16}, 20),
        ({"chunk": 1}, 1 << 40),
        ({"chunk": MAX_CHUNK + 1, "stored": [10, 4]}, 2 * MAX_CHUNK + 2),
        ({"word": 3}, 20),
        ({"word": 0}, 20),
        ({"word": "two"}, 20),
        ({}, -20),
        ({}, 0),
    ],
)
def test_a_place_that_contradicts_itself_is_refused(change: dict[str, Any], length: int) -> None:
    with pytest.raises(BulkError) as raised:
        Place.from_struct({**GOOD, **change}, length)
    assert raised.value.code == "bulk/place"


@given(
    st.fixed_dictionaries(
        {},
        optional={
            name: st.one_of(
                st.none(), st.integers(-2, 70), st.integers(), st.text(max_size=3), st.floats(),
                st.lists(st.one_of(st.integers(-1, 40), st.none()), max_size=4), st.binary(),
            )
            for name in GOOD
        },
    ),
    st.integers(-1, 1 << 20),
)  # fmt: skip
def test_any_struct_is_a_place_or_refused(
    folder: Path, struct: dict[str, Any], length: int
) -> None:
    path = folder / "hostile.bulk"
    if not path.exists():
        stored(path, SMOOTH[:1000], NOISE[:1000])
    reader = BulkReader(path)
    try:
        place = Place.from_struct(struct, length)
        assert len(reader.read(place)) == length
    except BulkError:
        pass
    finally:
        reader.close()


# -- memory ------------------------------------------------------------------------------------

STREAM = """
import hashlib, sys
from pathlib import Path
from dicomstudy.bulk import BulkReader, BulkWriter
from tests.processes import peak_memory

COUNT, SIZE = 200, 1 << 20
def pieces():
    for number in range(COUNT):
        noise = hashlib.sha512(bytes([number])).digest() * (SIZE // 128)
        yield bytes([number]) * (SIZE // 2) + noise

before = peak_memory()
digest = hashlib.sha256()
for piece in pieces():
    digest.update(piece)
with BulkWriter(Path(sys.argv[1])) as writer:
    place = writer.add(pieces(), COUNT * SIZE, word=int(sys.argv[2]))
reader = BulkReader(Path(sys.argv[1]))
reader.verify(place, digest.hexdigest())
assert reader.read(place, 150 * SIZE, 150 * SIZE + 4) == bytes([150]) * 4
print(peak_memory() - before)
"""


@pytest.mark.parametrize("word", [1, 2])
def test_a_value_of_200_mb_passes_through_in_little_memory(folder: Path, word: int) -> None:
    target = folder / f"stream{word}.bulk"
    more = float(processes.output(STREAM, target, word))
    target.unlink()
    assert more < 20  # MB


def test_nothing_stands_behind_the_frame_of_a_chunk(folder: Path) -> None:
    path = folder / "junk.bulk"
    (place,) = stored(path, SMOOTH[:1000])
    path.write_bytes(path.read_bytes() + b"junk")
    longer = place._replace(stored=(place.stored[0] + 4,))
    with pytest.raises(BulkError) as caught:
        BulkReader(path).read(longer)
    assert caught.value.code == "bulk/damaged"


RANDOM = chance_of(7).randbytes(1 << 12)


def test_a_chunk_that_gets_no_smaller_is_stored_as_it_is(tmp_path: Path) -> None:
    """One of its own length is taken for its bytes."""
    compress = zstandard.ZstdCompressor(level=3).compress
    values = [RANDOM[:noise] + bytes(zeros) for noise in range(1, 40) for zeros in range(40)]
    (value, *_) = [each for each in values if len(compress(each)) == len(each)]
    first = RANDOM[:1] + bytes((1 << 18) - 1)  # the value is its second chunk
    with BulkWriter(tmp_path / "bulk") as writer:
        place = writer.add([first, value], len(first) + len(value))
    with BulkReader(tmp_path / "bulk") as reader:
        assert reader.read(place) == first + value


def test_a_value_that_failed_leaves_no_bytes(tmp_path: Path) -> None:
    def pieces() -> Iterator[bytes]:
        yield RANDOM * 100
        raise InterruptedError

    with BulkWriter(tmp_path / "bulk") as writer:
        with pytest.raises(InterruptedError):
            writer.add(pieces(), len(RANDOM) * 200)
        place = writer.add([b"next"], 4)
    with BulkReader(tmp_path / "bulk") as reader:
        assert reader.read(place) == b"next"


def test_what_belongs_to_no_document_is_not_copied(tmp_path: Path) -> None:
    with BulkWriter(tmp_path / "a") as writer:
        place = writer.add([b"content"], 7)
    for length in (place.end - 1, place.end):
        with (
            BulkReader(tmp_path / "a", length=length) as reader,
            BulkWriter(tmp_path / "b") as writer,
        ):
            if length < place.end:
                with pytest.raises(BulkError):
                    writer.copy(reader, place)
                with pytest.raises(BulkError):
                    reader.read(place)
            else:
                assert writer.copy(reader, place).stored == place.stored


@pytest.mark.parametrize("rest", [b"half of", b"what is left of a run that was killed"])
def test_what_belongs_to_no_document_need_not_be_a_bulk_file(rest: bytes, tmp_path: Path) -> None:
    (tmp_path / "bulk").write_bytes(rest)
    with BulkWriter(tmp_path / "bulk", end=0) as writer:
        place = writer.add([b"content"], 7)
    with BulkReader(tmp_path / "bulk") as reader:
        assert reader.read(place) == b"content"


def test_appended_values_are_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync, sizes = os.fsync, []

    def spy(descriptor: int) -> None:
        sizes.append(os.fstat(descriptor).st_size)
        fsync(descriptor)

    with BulkWriter(tmp_path / "a") as writer:
        place = writer.add([b"content"], 7)
    monkeypatch.setattr(os, "fsync", spy)
    with BulkReader(tmp_path / "a") as reader:
        end, _ = append(tmp_path / "b", {"": (reader, place.to_struct())}, 0)
    assert sizes == [end]


def test_a_bulk_file_that_is_in_a_file_is_missing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BulkError) as raised:
        BulkReader(tmp_path / "file" / "bulk")
    assert raised.value.code == "bulk/missing"


def test_a_file_of_eight_other_bytes_is_no_bulk_file(tmp_path: Path) -> None:
    (tmp_path / "bulk").write_bytes(b"DCMBULK9")
    with pytest.raises(BulkError):
        BulkWriter(tmp_path / "bulk")
