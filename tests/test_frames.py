"""Frames are found where pydicom finds them, and nothing else is read."""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import FileDataset
from pydicom.encaps import generate_frames
from pydicom.errors import BytesLengthException
from pydicom.pixels.utils import get_expected_length

import dicomstudy
from dicomstudy.elements import PIXEL_DATA_TAGS, Span
from dicomstudy.errors import StudyError
from dicomstudy.frames import FrameSpans, Read, ahead, find, fragments, frame_bytes, pixel_words
from fixtures import make
from tests.real_files import Decoded, fixture, from_pydicom, own_files, shared_files

JPEG = "1.2.840.10008.1.2.4.70"
EXPLICIT = "1.2.840.10008.1.2.1"
ITEM, DELIMITER = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0\0\0\0\0"

#: Files of which pydicom's functions give other frames, and why (spec/frames.md).
DIFFERENT = {
    "fragments-none.dcm": "there is no fragment: no frame, where pydicom gives an empty one",
    "fragment-past-end.dcm": "the only fragment is longer than the file: no frame",
    "pixels-odd.dcm": "the frame is cut short: no frame",
    "truncated-pixels.dcm": "the frame is cut short: no frame",
    "MR_truncated.dcm": "the frame is cut short: no frame",
    "offsets-odd.dcm": "the table is no row of offsets: left alone, where pydicom gives up",
}


def frames(decoded: Decoded, reads: list[tuple[int, int]] | None = None) -> list[bytes]:
    """The frames of a file."""

    def read(reference: Mapping[str, Any], start: int, stop: int) -> bytes:
        if reads is not None:
            reads.append((start, stop))
        return decoded.resolve(reference)[start:stop]

    found = find(decoded.attributes, read, big=decoded.big, uid="1.2")
    return [joined(each, decoded.resolve) for each in found]


def joined(frame: FrameSpans, resolve: Callable[[Mapping[str, Any]], bytes]) -> bytes:
    stored = frame.reference
    value = stored if isinstance(stored, bytes) else resolve(stored)
    return b"".join(value[start : start + length] for start, length in frame.spans)


def theirs(dataset: FileDataset) -> list[bytes]:
    """The frames by pydicom's functions; of native ones by the expected length."""
    (tag,) = PIXEL_DATA_TAGS & {int(element) for element in dataset.keys()}  # noqa: SIM118
    value = dataset[tag].value
    number = int(dataset.get("NumberOfFrames") or 1)
    if dataset[tag].is_undefined_length:
        offsets = None
        if "ExtendedOffsetTable" in dataset:
            offsets = (dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths)
        return list(generate_frames(value, number_of_frames=number, extended_offsets=offsets))
    if dataset.BitsAllocated == 1:
        size = dataset.Rows * dataset.Columns * dataset.SamplesPerPixel
        return [value[n * size // 8 : -(-(n + 1) * size // 8)] for n in range(number)]
    length = get_expected_length(dataset) // number
    return [value[n * length : (n + 1) * length] for n in range(number)]


def is_without_table(dataset: FileDataset) -> bool:
    """Whether the Basic Offset Table of encapsulated pixel data is empty."""
    pixels = dataset.get("PixelData") or b""
    return pixels[:8] == ITEM + bytes(4) and "ExtendedOffsetTable" not in dataset


def compare(files: Iterable[Decoded]) -> Counter[str]:
    """How many files of each kind have the same frames; fails if one that should does not."""
    counts: Counter[str] = Counter()
    for decoded in files:
        dataset = decoded.dataset()
        if dataset is None or not PIXEL_DATA_TAGS & {int(tag) for tag in dataset.keys()}:  # noqa: SIM118
            counts["none"] += 1
        elif Path(decoded.name).name in DIFFERENT:
            counts["different"] += 1
        else:
            reads: list[tuple[int, int]] = []
            try:
                found = frames(decoded, reads)
            except StudyError:
                counts["neither"] += 1
                with pytest.raises((AttributeError, BytesLengthException, TypeError, ValueError)):
                    theirs(dataset)
                continue
            assert found == theirs(dataset), decoded
            limit = 16 * len(found) + 1000
            if is_without_table(dataset):
                limit += sum(map(len, found))  # small fragments are read as a whole for markers
            assert sum(stop - start for start, stop in reads) <= limit, decoded
            counts["frames" if len(found) > 1 else "one frame"] += 1
    return counts


def test_frames_are_those_of_pydicom() -> None:
    counts = compare(own_files())
    assert counts["frames"] > 20
    assert counts["one frame"] > 100
    assert counts["different"] == len(DIFFERENT)


def test_frames_are_those_of_pydicom_in_real_files(shared: Path) -> None:
    counts = compare(shared_files(shared))
    assert counts["frames"] > 10
    assert counts["one frame"] > 900


@pytest.mark.parametrize(
    "name",
    ["fragment-past-end.dcm", "fragments-none.dcm", "pixels-odd.dcm", "truncated-pixels.dcm"],
)
def test_frame_that_is_cut_short_or_absent_is_an_error(name: str) -> None:
    with pytest.raises(StudyError) as caught:
        frames(fixture(f"wrecks/{name}"))
    assert caught.value.code == "study/frames"


def test_table_that_is_no_row_of_offsets_is_left_alone() -> None:
    assert [len(frame) for frame in frames(fixture("wrecks/offsets-odd.dcm"))] == [84]


def test_short_big_endian_pixels_are_as_written() -> None:
    decoded = from_pydicom("SC_rgb_small_odd_big_endian.dcm")
    dataset = decoded.dataset()
    assert dataset is not None
    assert frames(decoded) == theirs(dataset)


# Cases of one law each


def encapsulated(fragments: list[bytes], table: bytes = b"") -> bytes:
    items = [ITEM + struct.pack("<I", len(part)) + part for part in (table, *fragments)]
    return b"".join(items) + DELIMITER


def found(
    value: bytes,
    attributes: Mapping[str, object] | None = None,
    *,
    number: str | None = None,
    inline: bool = False,
    fragments: list[int] | None = None,
) -> list[bytes]:
    stored: Any = value
    if not inline:
        stored = {"length": len(value), "sha256": "00"}
    if fragments is not None:
        stored["fragments"] = fragments

    def read(_: Mapping[str, Any], start: int, stop: int) -> bytes:
        return value[start:stop]

    merged = {"TransferSyntaxUID": JPEG, "NumberOfFrames": number, **(attributes or {})}
    spans = find({**merged, "PixelData": stored}, read, big=False, uid="1.2")
    return [joined(each, lambda _: value) for each in spans]


def fails(
    value: bytes,
    match: str,
    attributes: Mapping[str, object] | None = None,
    *,
    number: str | None = None,
) -> None:
    with pytest.raises(StudyError, match=match) as caught:
        found(value, attributes, number=number)
    assert caught.value.code == "study/frames"
    assert "1.2" in caught.value.message


PARTS = [b"a1", b"a2a2", b"b1", b"c1c1c1", b"c2"]
ITEMS = [0, 10, 22, 32, 46]
BY_TABLE = [b"a1a2a2", b"b1", b"c1c1c1c2"]


def offsets(*places: int) -> bytes:
    return struct.pack(f"<{len(places)}I", *places)


@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize("number", [None, "3", ""])
def test_basic_offset_table(number: str | None, *, inline: bool) -> None:
    assert found(encapsulated(PARTS, offsets(0, 22, 32)), inline=inline, number=number) == BY_TABLE


def test_lengths_of_fragments_spare_reading_their_headers() -> None:
    value = encapsulated(PARTS, offsets(0, 22, 32))
    reads: list[tuple[int, int]] = []

    def read(_: Mapping[str, Any], start: int, stop: int) -> bytes:
        reads.append((start, stop))
        return value[start:stop]

    stored = {"length": len(value), "sha256": "00", "fragments": [12, 2, 4, 2, 6, 2]}
    spans = find({"PixelData": stored}, read, big=False, uid="1.2")
    assert [joined(each, lambda _: value) for each in spans] == BY_TABLE
    assert reads == [(76, 84), (8, 20)]
    assert spans[0] == FrameSpans(stored, (Span(28, 2), Span(38, 4)))


@pytest.mark.parametrize(
    "table",
    [offsets(1, 22, 32), offsets(0, 22), offsets(0, 32, 22), offsets(0, 23, 32), b"\0" * 6],
    ids=["not from 0", "too few", "not in order", "no item", "no offsets"],
)
def test_basic_offset_table_that_is_not_right_is_left_alone(table: bytes) -> None:
    fails(encapsulated(PARTS, table), "3 frames in 5 fragments", number="3")
    assert found(encapsulated(PARTS, table), number="5") == PARTS
    assert found(encapsulated(PARTS, table), number="1") == [b"".join(PARTS)]


def test_extended_offset_table_comes_first_and_leaves_padding_out() -> None:
    extended = {
        "ExtendedOffsetTable": struct.pack("<5Q", *ITEMS),
        "ExtendedOffsetTableLengths": struct.pack("<5Q", 2, 3, 2, 5, 2),
    }
    expected = [b"a1", b"a2a", b"b1", b"c1c1c", b"c2"]
    assert found(encapsulated(PARTS), extended) == expected
    assert found(encapsulated(PARTS), extended, number="5") == expected


@pytest.mark.parametrize(
    ("places", "lengths"),
    [
        ([0, 10, 22, 33, 46], [2, 4, 2, 6, 2]),
        (ITEMS, [2, 4, 2, 7, 2]),
        (ITEMS, [2, 4, 2, 6, 3]),
        (ITEMS, [2, 4, 2, 6]),
        ([0, 22, 32], [2, 2, 6]),
        ([0, 10, 22], [2, 4, 2]),
        ([0, 22, 10, 32, 46], [2, 2, 4, 6, 2]),
        ([0, 0, 0], [2, 2, 2]),
        ([0] * 5, [0] * 5),
    ],
    ids=[
        "no item",
        "longer than the fragment",
        "longer than the last fragment",
        "lengths are missing",
        "fragments are left out",
        "fragments at the end are left out",
        "not in order",
        "one item for all",
        "zeros",
    ],
)
def test_extended_offset_table_that_is_not_right_is_left_alone(
    places: list[int], lengths: list[int]
) -> None:
    extended = {
        "ExtendedOffsetTable": struct.pack(f"<{len(places)}Q", *places),
        "ExtendedOffsetTableLengths": struct.pack(f"<{len(lengths)}Q", *lengths),
    }
    value = encapsulated(PARTS, offsets(0, 22, 32))
    assert found(value, extended, number="3") == BY_TABLE
    assert found(encapsulated(PARTS), extended, number="5") == PARTS


def test_lengths_that_leave_out_more_than_padding_are_not_believed() -> None:
    extended = {
        "ExtendedOffsetTable": struct.pack("<5Q", *ITEMS),
        "ExtendedOffsetTableLengths": struct.pack("<5Q", 0, 2, 1, 6, 2),
    }
    assert found(encapsulated(PARTS), extended) == [*PARTS[:2], b"b", *PARTS[3:]]


def test_empty_fragments_behind_those_of_an_extended_offset_table_are_padding() -> None:
    extended = {
        "ExtendedOffsetTable": struct.pack("<2Q", 0, 10),
        "ExtendedOffsetTableLengths": struct.pack("<2Q", 2, 4),
    }
    assert found(encapsulated([*PARTS[:2], b""]), extended, number="2") == PARTS[:2]


def test_markers_end_frames_without_a_table() -> None:
    parts = [b"a1", b"a2\xff\xd9\0", b"b1\xff\xd9", b"c1", b"c2\xff\xd9" + bytes(8)]
    expected = [parts[0] + parts[1], parts[2], parts[3] + parts[4]]
    assert found(encapsulated(parts), number="3") == expected
    assert found(encapsulated([*parts[:4], b"c2"]), number="3")[2] == b"c1c2"
    fails(encapsulated(parts), "4 frames in 5 fragments", number="4")


@pytest.mark.parametrize(("size", "times"), [(200, 1), (1 << 17, 3)])
def test_small_fragments_are_read_together_for_their_markers(size: int, times: int) -> None:
    parts = [bytes(size - 2) + b"\xff\xd9", bytes(size), bytes(size - 2) + b"\xff\xd9"]
    value = encapsulated(parts)
    asked: list[tuple[int, int]] = []
    stored = {"length": len(value), "sha256": "00", "fragments": [0, *map(len, parts)]}
    attributes = {"PixelData": stored, "NumberOfFrames": "2", "TransferSyntaxUID": JPEG}
    spans = find(attributes, reading(value, asked), big=False, uid="1.2")
    assert [joined(each, lambda _: value) for each in spans] == [parts[0], parts[1] + parts[2]]
    delimiter, *markers = asked
    assert delimiter == (len(value) - 8, len(value))
    assert len(markers) == times
    assert sum(stop - start for start, stop in markers) <= max(
        len(value) * (times == 1), 10 * times
    )


def test_single_fragment_is_one_frame() -> None:
    assert found(encapsulated([b"ab"])) == [b"ab"]
    fails(encapsulated([b"ab"]), "7 frames in 1 fragments", number="7")


@pytest.mark.parametrize("syntax", ["100", "100.1", "102", "106.1", "107", "108"])
def test_video_is_one_stream(syntax: str) -> None:
    uid = f"1.2.840.10008.1.2.4.{syntax}"
    value = encapsulated([b"abc", b"def"])
    for number in ("250", "2"):  # as many fragments as frames, too
        assert found(value, {"TransferSyntaxUID": uid}, number=number) == [b"abcdef"]
        assert found(value, {"TransferSyntaxUID": f"{uid}\r\n"}, number=number) == [b"abcdef"]


@pytest.mark.parametrize("lengths", [None, [12, 2, 4, 2, 6, 2]])
def test_fragments_are_all_there_whatever_frames_they_are_of(lengths: list[int] | None) -> None:
    value = encapsulated(PARTS, offsets(0, 22, 32))
    stored = {"length": len(value)} | ({"fragments": lengths} if lengths else {})
    attributes: dict[str, Any] = {"PixelData": stored, "NumberOfFrames": "77"}
    given = fragments(attributes, lambda _, start, stop: value[start:stop], big=False, uid="1.2")
    assert given is not None
    table, *parts = [
        given.read(start, start + length) for start, length in (given.table, *given.payloads)
    ]
    assert table == struct.pack("<3I", 0, 22, 32)
    assert parts == PARTS


def test_there_are_no_fragments_in_native_pixel_data() -> None:
    for attributes in ({}, {"PixelData": None}, {"PixelData": b"abcd"}):
        assert fragments(attributes, lambda *_: b"", big=False, uid="1.2") is None
    native = {"PixelData": ITEM + b"\2\0\0\0ab" * 2, "TransferSyntaxUID": EXPLICIT}
    assert fragments(native, lambda *_: b"", big=False, uid="1.2") is None


def test_encapsulated_without_fragments_or_with_too_few() -> None:
    fails(encapsulated([]), "no fragments")
    fails(encapsulated([b"ab", b"cd"]), "3 frames in 2", number="3")


@pytest.mark.parametrize("more", [1, 2, 8])
def test_last_fragment_ends_before_the_delimiter_that_it_swallows(more: int) -> None:
    value = bytearray(encapsulated([b"abc", b"def"]))
    struct.pack_into("<I", value, value.index(b"def") - 4, 3 + more)
    for fragments_ in (None, [0, 3, 3]):
        assert found(bytes(value), number="2", fragments=fragments_) == [b"abc", b"def"]


@pytest.mark.parametrize("number", ["2", "3"])
@pytest.mark.parametrize("cut", range(1, 9))
@pytest.mark.parametrize("declared", [False, True])
def test_an_item_that_is_cut_short_is_no_end(cut: int, number: str, *, declared: bool) -> None:
    whole = encapsulated([b"abcd", b"efgh", b"ijkl"])
    fragments_ = [0, 4, 4] if declared else None
    value = whole[: whole.index(b"ijkl") - 8 + cut]
    if cut < 3 and number == "2":  # the start of a delimiter would be the same
        assert found(value, number=number, fragments=fragments_) == [b"abcd", b"efgh"]
        return
    with pytest.raises(StudyError, match=r"behind its fragments|3 frames in 2 fragments"):
        found(value, number=number, fragments=fragments_)


@pytest.mark.parametrize("cut", range(9))
def test_a_delimiter_may_be_cut_short(cut: int) -> None:
    value = encapsulated([b"abcd", b"efgh"])
    assert found(value[: len(value) - cut], number="2") == [b"abcd", b"efgh"]


@pytest.mark.parametrize("end", [b"\xfe\xff\x0d\xe0\0\0\0\0", DELIMITER[::-1], b"ab", b"\0\0"])
def test_something_else_may_stand_for_a_delimiter(end: bytes) -> None:
    value = encapsulated([b"abcd", b"efgh"])[: -len(DELIMITER)] + end
    assert found(value, number="2") == [b"abcd", b"efgh"]


@pytest.mark.parametrize("number", ["1", "2"])
def test_fragments_that_are_not_all_are_an_error(number: str) -> None:
    """The last one is cut short or longer than the value, or what is behind another one is none."""
    whole = encapsulated([b"abcd" * 4, b"efgh" * 4, b"ijkl" * 4])
    wrong, long = bytearray(whole), bytearray(whole)
    struct.pack_into("<I", wrong, whole.index(b"efgh") - 4, 18)
    struct.pack_into("<I", long, whole.index(b"efgh") - 4, 1000)
    for value, lengths in (
        (whole[: -len(DELIMITER) - 4], [0, 16, 16]),
        (bytes(wrong), [0, 16, 18]),
        (bytes(long), [0, 16]),
    ):
        for fragments_ in (None, lengths):
            with pytest.raises(StudyError, match="what is behind its fragments is none"):
                found(value, number=number, fragments=fragments_)


def test_zeros_behind_fragments_and_empty_last_ones_are_padding() -> None:
    value = encapsulated([b"abc", b"def"])
    assert found(value[: -len(DELIMITER)] + bytes(20), number="2") == [b"abc", b"def"]
    assert found(encapsulated([b"abc", b"def", b"", b""]), number="2") == [b"abc", b"def"]
    assert found(encapsulated([b"abc", b"", b"def"]), number="3") == [b"abc", b"", b"def"]
    fails(encapsulated([b"abc", b"", b"def"]), "2 frames in 3 fragments", number="2")


def test_value_of_a_compressed_syntax_that_is_not_encapsulated_is_native() -> None:
    image = {"Rows": 2, "Columns": 2, "SamplesPerPixel": 1, "BitsAllocated": 8}
    assert found(b"abcd", image) == [b"abcd"]


def test_native_value_that_begins_like_an_item() -> None:
    image = {"Rows": 2, "Columns": 2, "SamplesPerPixel": 1, "BitsAllocated": 8}
    assert found(ITEM, image | {"TransferSyntaxUID": EXPLICIT}) == [ITEM]


IMAGE = {
    "TransferSyntaxUID": EXPLICIT,
    "Rows": 2,
    "Columns": 3,
    "SamplesPerPixel": 1,
    "BitsAllocated": 8,
}


@pytest.mark.parametrize("inline", [True, False])
def test_native_frames_are_cut_by_the_image_attributes(*, inline: bool) -> None:
    image: dict[str, Any] = dict(IMAGE)
    for number in ("2", " +02 ", 2):
        image["NumberOfFrames"] = number
        assert found(b"abcdefABCDEF", image, inline=inline) == [b"abcdef", b"ABCDEF"]
    image |= {"BitsAllocated": 16, "NumberOfFrames": "1"}
    assert found(b"abcdefABCDEF, padded", image, inline=inline) == [b"abcdefABCDEF"]


def test_factors_of_native_frames_may_be_text_of_vr_is() -> None:
    image = {keyword: f" {value} " for keyword, value in IMAGE.items() if keyword[0] in "RCSB"}
    assert found(b"abcdefABCDEF", image, number="2") == [b"abcdef", b"ABCDEF"]
    for rows in ("two", "2.0", "2\\2", "-2", "", b"2\0"):
        fails(b"abcdef", "Rows is ", IMAGE | {"Rows": rows})


def test_frames_of_bits_share_bytes() -> None:
    image: dict[str, Any] = IMAGE | {"BitsAllocated": 1, "NumberOfFrames": "4"}
    assert found(b"abc", image) == [b"a", b"ab", b"bc", b"c"]
    assert found(b"abc", (image | {"Columns": 4, "NumberOfFrames": "3"})) == [b"a", b"b", b"c"]


def test_subsampled_chrominance() -> None:
    image: dict[str, Any] = IMAGE | {
        "Columns": 4,
        "SamplesPerPixel": 3,
        "PhotometricInterpretation": "YBR_FULL_422",
    }
    assert [len(frame) for frame in found(bytes(16), image)] == [16]
    assert [len(frame) for frame in found(bytes(32), image, number="2")] == [16, 16]
    assert [len(frame) for frame in found(bytes(24), image)] == [24]
    assert [len(frame) for frame in found(bytes(18), image)] == [16]
    assert [len(frame) for frame in found(bytes(28), image)] == [24]
    odd: dict[str, Any] = image | {"Rows": 1, "Columns": 1}
    assert [len(frame) for frame in found(bytes(4), odd)] == [3]


def test_more_than_all_samples_of_subsampled_chrominance_are_not_cut() -> None:
    """They may be frames of two samples, or of three."""
    image: dict[str, Any] = IMAGE | {
        "Columns": 4,
        "SamplesPerPixel": 3,
        "PhotometricInterpretation": "YBR_FULL_422",
    }
    fails(bytes(32), "YBR_FULL_422 there are 8 bytes more than all samples", image)


@pytest.mark.parametrize(
    ("bits", "expected"),
    [(8, [b"badc", b"dcfe", b"hgji"]), (1, [b"ba", b"ba", b"ba"]), (16, [b"badcfe", b"hgjilk"])],
)
def test_frames_in_words_of_big_endian_files_have_all_their_words(
    bits: int, expected: list[bytes]
) -> None:
    value = b"badcfehgjilk" if bits > 8 else b"badcfehgji"
    image = IMAGE | {"Rows": 1, "BitsAllocated": bits, "NumberOfFrames": str(len(expected))}
    spans = find({**image, "PixelData": value}, lambda *_: b"", big=True, uid="1.2", word=2)
    assert [joined(each, lambda _: value) for each in spans] == expected


@pytest.mark.parametrize(("vr", "expected"), [("OW", [b"badc", b"dcfe"]), ("OB", [b"bad", b"cfe"])])
def test_the_vr_of_a_file_tells_the_words_of_its_frames(
    vr: str, expected: list[bytes], tmp_path: Path
) -> None:
    big = partial(make.element, big=True)
    elements = [
        big(0x00080018, "UI", "1.2.3.4"),
        big(0x0020000D, "UI", "1.2"),
        big(0x0020000E, "UI", "1.2.3"),
        big(0x00280002, "US", 1),
        big(0x00280008, "IS", "2"),
        big(0x00280010, "US", 1),
        big(0x00280011, "US", 3),
        big(0x00280100, "US", 8),
        big(0x7FE00010, vr, b"badcfe"),
    ]
    meta = make.file_meta(make.BIG_ENDIAN, make.SECONDARY_CAPTURE, "1.2.3.4")
    (tmp_path / "1.dcm").write_bytes(make.part10(meta, b"".join(elements)))
    dicomstudy.convert([tmp_path / "1.dcm"], tmp_path / "archive")
    instance = dicomstudy.open_archive(tmp_path / "archive")["1.2"]["1.2.3.4"]
    assert list(instance.frames()) == expected


@pytest.mark.parametrize("word", [1, 2])
def test_the_last_word_of_native_frames_may_be_cut(word: int) -> None:
    """A range does not lead out of the value."""
    image = IMAGE | {"Rows": 1, "NumberOfFrames": "3"}
    value = b"badcfehgj"
    spans = find({**image, "PixelData": value}, lambda *_: b"", big=word > 1, uid="1.2", word=word)
    expected = {1: [(0, 3), (3, 3), (6, 3)], 2: [(0, 4), (2, 4), (6, 3)]}
    assert [tuple(span) for each in spans for span in each.spans] == expected[word]
    assert spans[-1] == spans[2]
    assert spans[::-2] == [spans[2], spans[0]]


def test_float_pixels_need_no_bits_allocated() -> None:
    image: dict[str, Any] = {"Rows": 1, "Columns": 2, "SamplesPerPixel": 1}
    for keyword, size in (("FloatPixelData", 8), ("DoubleFloatPixelData", 16)):
        spans = find({**image, keyword: bytes(size)}, lambda *_: b"", big=False, uid="1.2")
        assert list(spans) == [FrameSpans(bytes(size), (Span(0, size),))]


def test_each_native_frame_is_made_when_it_is_asked_for() -> None:
    """Of 1 bit, there may be many more than there is memory for."""
    reference = {"length": 1 << 40, "sha256": "x"}
    image: dict[str, Any] = {"Rows": 1, "Columns": 1, "SamplesPerPixel": 1, "BitsAllocated": 1}
    image |= {"PixelData": reference, "NumberOfFrames": str(1 << 39)}
    spans = find(image, lambda *_: b"", big=False, uid="1.2")
    assert len(spans) == 1 << 39
    assert spans[-1] == FrameSpans(reference, (Span((1 << 36) - 1, 1),))
    assert spans[6:10:2] == [FrameSpans(reference, (Span(at, 1),)) for at in (0, 1)]
    with pytest.raises(IndexError):
        spans[1 << 39]


def reading(value: bytes, asked: list[tuple[int, int]]) -> Read:
    """What gives bytes of a value, and notes which."""

    def read(_: Mapping[str, Any], start: int, stop: int) -> bytes:
        asked.append((start, stop))
        return value[start:stop]

    return read


def test_fragments_of_a_frame_are_read_at_once() -> None:
    value = bytes(range(100))
    reference = {"length": len(value)}
    for spans, times in (
        ((Span(8, 2), Span(18, 4), Span(30, 0), Span(38, 5)), 1),
        ((Span(18, 4), Span(8, 2), Span(30, 9)), 3),
        ((Span(8, 2), Span(60, 2)), 2),
        ((Span(8, 2),), 1),
        ((), 0),
    ):
        asked: list[tuple[int, int]] = []
        expected = b"".join(value[offset : offset + length] for offset, length in spans)
        frame = FrameSpans(reference, spans)
        assert frame_bytes(frame, reading(value, asked)) == expected
        assert len(asked) == times
        assert frame_bytes(FrameSpans(value, spans), reading(b"", [])) == expected


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_small_frames_are_read_together(size: int) -> None:
    value = bytes(range(100))
    asked: list[tuple[int, int]] = []
    read = ahead(reading(value, asked), size)
    places = [(0, 3), (3, 30), (33, 33), (40, 41), (35, 36), (90, 100)]
    for start, stop in places:
        assert read({"length": 100}, start, stop) == value[start:stop]
    assert len(asked) <= len(places)
    assert len(asked) == 1 or size < 100
    assert all(stop - start <= max(size, 30) for start, stop in asked)


def test_native_frames_that_cannot_be_told_apart() -> None:
    fails(b"abcde", "1 of 6 bytes are more than the 5", IMAGE)
    fails(b"abcdef", "Rows is None", IMAGE | {"Rows": None})
    fails(b"abcdef", "Columns is 0", (IMAGE | {"Columns": 0}))
    for number in ("two", "1_0", "\u0661", "\xa01", "1\\1", "1.0", b"1", 1.5):
        message = f"Number of Frames is {number!r}"
        fails(b"abcdef", re.escape(message), (IMAGE | {"NumberOfFrames": number}))
    fails(b"", "no pixel data", IMAGE)
    with pytest.raises(StudyError, match="no pixel data"):
        find({"PixelData": None}, lambda *_: b"", big=False, uid="1.2")


@given(
    frames_of=st.lists(
        st.lists(st.binary(min_size=1, max_size=5).map(lambda part: part + part), min_size=1),
        min_size=1,
        max_size=5,
    ),
    with_table=st.booleans(),
    declared=st.booleans(),
)
def test_encapsulated_frames_are_those_of_pydicom(
    frames_of: list[list[bytes]], *, with_table: bool, declared: bool
) -> None:
    parts = [part for frame in frames_of for part in frame]
    places = [0]
    for frame in frames_of:
        places.append(places[-1] + sum(8 + len(part) for part in frame))
    number = len(frames_of)
    value = encapsulated(parts, offsets(*places[:-1]) if with_table else b"")
    lengths = [4 * number * with_table, *map(len, parts)] if declared else None
    if not with_table and len(parts) not in {1, number} and number > 1:
        return
    expected = list(generate_frames(value, number_of_frames=number))
    assert found(value, fragments=lengths, number=str(number)) == expected
    if with_table:
        assert expected == [b"".join(frame) for frame in frames_of]


def test_fragments_of_another_format_are_an_error() -> None:
    """Documents of dicom-study-builder-js have structs there."""
    stored: dict[str, Any] = {"length": 20, "fragments": [{"offset": 0, "length": 12}]}
    attributes = {"TransferSyntaxUID": JPEG, "PixelData": stored, "NumberOfFrames": "1"}
    with pytest.raises(StudyError) as caught:
        find(attributes, lambda *_: b"", big=False, uid="1.2")
    assert caught.value.code == "study/frames"


def test_words_and_frames_are_as_large_as_the_image_attributes_say() -> None:
    image = {"BitsAllocated": 16, "Rows": 3, "Columns": 5, "SamplesPerPixel": 3}
    assert pixel_words(image) == (2, 90)
    assert pixel_words(image | {"BitsAllocated": 12}) == (1, 67)
    assert pixel_words(image | {"Rows": b"\3\0"}) == (2, 0)
    assert pixel_words({}) == (1, 0)
