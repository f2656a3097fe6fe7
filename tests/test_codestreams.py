"""What compressed images say beside their samples: spec/deidentification.md."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import pydicom
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

import dicomstudy
from dicomstudy.deidentification.codestreams import has_metadata
from dicomstudy.elements import Span
from fixtures import make
from tests import studies
from tests.deidentified import KEY, NEW, instances

SAMPLES = bytes(range(1, 255)) * 8
#: The remark "Ben", as an encoder would write it, and as it would be anywhere else.
BEN = b"Ben"


def segment(marker: int, content: bytes = b"") -> bytes:
    return struct.pack(">BBH", 0xFF, marker, 2 + len(content)) + content


def jpeg(*segments: bytes) -> bytes:
    """A JPEG image with some segments in front."""
    frame = segment(0xDB, bytes(65)) + segment(0xC0, bytes(15)) + segment(0xC4, bytes(30))
    return b"".join([b"\xff\xd8", *segments, frame, segment(0xDA, bytes(10)), SAMPLES, b"\xff\xd9"])


def codestream(*segments: bytes, tile: bytes = b"") -> bytes:
    """A JPEG 2000 codestream with some segments in its header, and in that of its tile-part."""
    main = [segment(0x51, bytes(39)), segment(0x52, bytes(10)), segment(0x5C, bytes(17))]
    return b"".join(
        [b"\xff\x4f", *main, *segments, segment(0x90, bytes(8)), tile, b"\xff\x93", SAMPLES]
    )


def remark(text: bytes) -> bytes:
    """A COM marker segment of JPEG 2000, in Latin-1."""
    return segment(0x64, b"\0\1" + text)


def box(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def jp2(*boxes: bytes) -> bytes:
    """A JPEG 2000 file with some boxes behind its own."""
    header = box(b"ihdr", bytes(14)) + box(b"colr", bytes(7))
    start = [box(b"jP  ", b"\r\n\x87\n"), box(b"ftyp", b"jp2 \0\0\0\0jp2 "), box(b"jp2h", header)]
    return b"".join([*start, *boxes])


def says_more(*fragments: bytes) -> bool:
    """Whether fragments have something; each has the header of its item in front."""
    whole, spans = b"", []
    for fragment in fragments:
        spans.append(Span(len(whole) + 8, len(fragment)))
        whole += make.item(fragment)
    return has_metadata(spans, lambda start, stop: whole[start:stop])


def cut(image: bytes, size: int) -> list[bytes]:
    return [image[start : start + size] for start in range(0, len(image), size)]


QUIET_JPEG = [
    b"\xff\xff\xff",
    segment(0xE0, b"JFIF\0\1\2\1\0\x48\0\x48\0\0"),
    segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(3000)),
    segment(0xE8, b"SPIFF\0\1\2" + bytes(22)),
    segment(0xE8, b"\0\0\0\1\xff\xd8"),
    segment(0xE8, b"mrfx\1"),
    segment(0xEE, b"Adobe\0e\0\0\0\0\1"),
    segment(0xFE),
    segment(0xFE, bytes(4)),
    segment(0xFE, b"   \0"),
    segment(0xFE, b"LEAD Technologies Inc. V1.01\0"),
    segment(0xFE, b"CREATOR: gd-jpeg v1.0 (using IJG JPEG v62), quality = 90\n"),
    segment(0xFE, b"CREATOR: gd-jpeg v1.0 (using IJG JPEG v80), default quality\n"),
    segment(0xFE, b"Lavc57.107.100\0"),
    segment(0xF8, bytes(11)),
    segment(0xDD, bytes(2)),
]
TELLING_JPEG = [
    segment(0xFE, BEN),
    segment(0xFE, b"LEAD Technologies Inc. V1.01 Ben"),
    segment(0xFE, b"Lavc57.107.100" + bytes(70) + BEN),
    segment(0xFE, b" " * 60_000 + BEN),
    segment(0xE1, b"Exif\0\0MM\0*"),
    segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>"),
    segment(0xED, b"Photoshop 3.0\x008BIM"),
    segment(0xE0, b"JFIF\0\1\2\1\0\x48\0\x48\1\1\0\0\0"),  # with a thumbnail
    segment(0xE0, b"JFXX\0\x10"),
    segment(0xE2, b"MPF\0"),
    segment(0xE8, b"\0\0\0\5\0\0Ben"),  # a directory entry of SPIFF
    segment(0xEE, b"Adobe\0e\0\0\0\0\1Ben"),
    segment(0xEF),
    segment(0xC8),
    b"\xff\xd0",
    b"\0",
]
QUIET_REMARKS = [
    b"",
    b"Created by OpenJPEG version 2.5.0",
    b"Created by GDCM/OpenJPEG version 2.0\0",
    b"Creator: JasPer Version 1.701.0",
    b"Kakadu-2.2",
    b"Kakadu-v7.3.3",
    b"Kdu-Layer-Info: log_2{Delta-D(MSE)/[2^16*Delta-L(bytes)]}, L(bytes)\n -65.4, 6.8e+004\n",
    b"Kdu-Layer-Info: log_2{Delta-D(squared-error)/Delta-L(bytes)}, L(bytes)\n-192.0,  3.8e+06\n",
    b"OpenJPH Ver 0.21.2.",
]
TELLING_REMARKS = [BEN, b"Kakadu-v7.3.3 Ben", b"Created by Ben version 1.0", b"Kakadu-v7\nBen"]


@pytest.mark.parametrize("segments", [[each] for each in QUIET_JPEG] + [QUIET_JPEG], ids=repr)
def test_nothing_is_told_of_what_every_encoder_writes(segments: list[bytes]) -> None:
    assert not says_more(jpeg(*segments))
    assert not says_more(jpeg(*segments)[:-1], jpeg())


@pytest.mark.parametrize("telling", TELLING_JPEG, ids=lambda each: repr(each[:20]))
def test_all_else_in_front_of_the_first_scan_is_told_of(telling: bytes) -> None:
    for quiet in (QUIET_JPEG[1:2], QUIET_JPEG):
        assert says_more(jpeg(*quiet, telling))
        assert says_more(jpeg(), jpeg(), jpeg(*quiet, telling))


def test_what_is_behind_it_is_not_looked_at() -> None:
    assert not says_more(jpeg() + segment(0xFE, BEN))
    assert not says_more(b"\xff\xd8\xff\xd9" + segment(0xFE, BEN))
    assert not says_more(codestream() + remark(BEN))


@pytest.mark.parametrize("text", QUIET_REMARKS)
def test_nothing_is_told_of_encoders_of_jpeg_2000(text: bytes) -> None:
    assert not says_more(codestream(remark(text), remark(text), tile=remark(text)))
    assert not says_more(jp2(box(b"jp2c", codestream(remark(text)))))


@pytest.mark.parametrize("text", TELLING_REMARKS)
def test_all_else_in_its_headers_is_told_of(text: bytes) -> None:
    assert says_more(codestream(remark(text)))
    assert says_more(codestream(remark(QUIET_REMARKS[1]), tile=remark(text)))
    assert says_more(codestream(segment(0x64, b"\0\0" + text)))
    assert says_more(jp2(box(b"jp2c", codestream(remark(text)))))


def test_unknown_segments_of_jpeg_2000_are_told_of() -> None:
    assert says_more(codestream(segment(0x6F, BEN)))
    assert not says_more(codestream(segment(0x50, bytes(6)), segment(0x55, bytes(9))))


@pytest.mark.parametrize("kind", [b"uuid", b"xml ", b"uinf", b"asoc", b"Ben!"])
def test_boxes_that_say_something(kind: bytes) -> None:
    samples = box(b"jp2c", codestream())
    assert not says_more(jp2(samples))
    assert says_more(jp2(box(kind, BEN), samples))
    assert says_more(jp2(samples, box(kind, BEN)))
    assert says_more(jp2(box(b"jp2h", box(kind, BEN)), samples))


def test_lengths_of_boxes() -> None:
    long = struct.pack(">I4sQ", 1, b"res ", 16 + 4) + bytes(4)
    last = struct.pack(">I4s", 0, b"jp2c") + codestream()
    assert not says_more(jp2(long, last))
    assert says_more(jp2(long, box(b"uuid"), last))
    assert not says_more(jp2(box(b"jp2c", codestream())) + bytes(9))  # padding
    assert says_more(jp2(bytes(8) + box(b"uuid", b"A^B")))
    assert says_more(jp2(struct.pack(">I4s", 7, b"res ")))
    assert says_more(jp2(struct.pack(">I4sQ", 1, b"res ", 8)))
    assert says_more(jp2(struct.pack(">I4s", 4, b"res ") + b"res "))  # read again, it is a box
    assert says_more(jp2(struct.pack(">I4s", 20, b"jp2c") + codestream()))


@pytest.mark.parametrize("image", [jpeg(), codestream()], ids=["jpeg", "codestream"])
def test_what_ends_in_front_of_its_samples_is_told_of(image: bytes) -> None:
    front = image.index(SAMPLES) - 14
    assert not says_more(image)
    for length in (4, 5, 12, 30, front):
        assert says_more(image[:length])
        assert says_more(jp2(box(b"jp2c", image[:length])))


@pytest.mark.parametrize(
    "other", [b"", b"\0\0\1\xb3", b"\3\0\0\0@", b"\xff\x0a", b"\0" + jpeg(), SAMPLES], ids=len
)
def test_what_begins_otherwise_is_not_looked_at(other: bytes) -> None:
    assert not says_more(other)
    assert not says_more(other, other)
    assert not says_more()


segments = st.lists(st.sampled_from(QUIET_JPEG + TELLING_JPEG[:3]), max_size=8)


@given(st.lists(segments, min_size=1, max_size=3), st.integers(1, 5000))
def test_it_is_the_same_however_images_are_cut(images: list[list[bytes]], size: int) -> None:
    expected = any(each in TELLING_JPEG for image in images for each in image)
    cuts = [cut(jpeg(*image), size) for image in images]
    # the end of a SPIFF header has the mark in it: whoever cuts there begins another image
    assume(not any(part.startswith(b"\xff\xd8\xff") for parts in cuts for part in parts[1:]))
    fragments = [part for parts in cuts for part in parts]
    if size > 2 or len(images) == 1:  # an image that is not the first has to begin with its mark
        assert says_more(*fragments) == expected


FRONTS = (b"\xff\xd8", b"\xff\x4f\xff\x51", jp2()[:12], jpeg(*QUIET_JPEG)[:200], jp2()[:70], b"")


@given(
    st.sampled_from(FRONTS),
    st.binary(max_size=200),
    st.lists(st.tuples(st.integers(0, 300), st.integers(-5, 1 << 40)), max_size=5),
)
@example(b"\xff\xd8", b"\xff" * 200, [(0, 1 << 40)])
@example(b"\xff\xd8", b"\xff\xc4\0\0" * 50, [(0, 300)])
def test_any_bytes_are_walked_through(
    front: bytes, rest: bytes, spans: Sequence[tuple[int, int]]
) -> None:
    whole = front + rest
    assert says_more(whole) in {True, False}
    fragments = [Span(*each) for each in spans]
    assert has_metadata(fragments, lambda start, stop: whole[start:stop]) in {True, False}


@given(st.sampled_from([jpeg(), codestream()]), st.data())
def test_mutants_are_walked_through(whole: bytes, data: st.DataObject) -> None:
    image = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        image[data.draw(st.integers(4, 200))] = data.draw(st.integers(0, 255))
    assert says_more(bytes(image)) in {True, False}


def test_only_what_is_in_front_of_the_samples_is_read() -> None:
    """Of a large image, and of one in fragments that are there by their lengths only."""
    image = jpeg(segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(3000)))
    spans = [Span(at << 40, 1 << 40) for at in range(100)]
    taken = []

    def read(start: int, stop: int) -> bytes:
        taken.append(stop - start)
        within = start % (1 << 40)
        return image[within : within + stop - start].ljust(stop - start, b"\1")

    assert not has_metadata(spans, read)
    assert sum(taken) < 100 * 6000


def test_rows_without_end_are_told_of_and_left() -> None:
    whole = b"\xff\xd8" + b"\xff\xc4\0\2" * 100_000
    taken = []

    def read(start: int, stop: int) -> bytes:
        taken.append(stop - start)
        return whole[start:stop]

    assert has_metadata([Span(0, len(whole))], read)
    assert sum(taken) < 10_000
    assert says_more(b"\xff\xd8" + b"\xff" * 100_000)
    assert says_more(jp2(*[box(b"res ")] * 2000))


# In a study


def compressed(number: int, *frames: Sequence[bytes], syntax: str = make.JPEG_LOSSLESS) -> bytes:
    """An instance of one study with such fragments of each frame."""
    even = [[part + bytes(len(part) % 2) for part in frame] for frame in frames]
    data_set = make.dataset_of(
        {
            "SOPClassUID": make.SECONDARY_CAPTURE,
            "SOPInstanceUID": make.uid(f"compressed/{number}"),
            "StudyInstanceUID": make.uid("compressed"),
            "SeriesInstanceUID": make.uid("compressed/1"),
            "NumberOfFrames": len(frames),
            "BitsAllocated": 8,
            "PixelData": make.encapsulate(even, end=False),
        }
    )
    data_set["PixelData"].VR = "OB"
    data_set["PixelData"].is_undefined_length = True
    return make.saved(data_set, syntax)


@pytest.mark.parametrize(
    ("bulk", "max_inline"), [("copy", 256), ("reference", 256), ("copy", 1 << 16)]
)
def test_what_compressed_images_say_is_told(bulk: str, max_inline: int, tmp_path: Path) -> None:
    """In any frame, cut anywhere; and nothing is altered."""
    plain, named = jpeg(), jpeg(segment(0xFE, b"Ben^1935"))
    told = [
        compressed(1, [named]),
        compressed(2, [plain], [plain], [named]),
        compressed(3, [plain], [named[:30], named[30:]]),
        compressed(4, [codestream(remark(b"Ben "))], syntax=pydicom.uid.JPEG2000),
        compressed(5, [jp2(box(b"uuid", b"Ben "))], syntax=pydicom.uid.JPEG2000),
    ]
    quiet = [
        compressed(6, [plain], [plain]),
        compressed(7, [codestream(remark(b"Kakadu-v7.3.3"))], syntax=pydicom.uid.JPEG2000),
        compressed(8, [make.rle_frame(named, columns=len(named))], syntax=make.RLE),
        make.part10(make.file_meta(), make.small("n", make.element(0x7FE00010, "OB", named[:16]))),
    ]
    files = ((f"{at}.dcm", file) for at, file in enumerate((*told, *quiet)))
    studies.write_files(tmp_path / "in", files)
    dicomstudy.convert([tmp_path / "in"], tmp_path / "a", bulk=bulk, max_inline=max_inline)
    report = dicomstudy.deidentify(tmp_path / "a", tmp_path / "out", key=KEY)
    assert report.problems == []
    risks = {(risk.study, risk.code): risk.instances for risk in report.risks}
    assert risks[NEW.uid(make.uid("compressed")), "risk/pixel-comment"] == len(told)
    assert (NEW.uid(make.uid("wrecks")), "risk/pixel-comment") not in risks

    def pixels(archive: Path) -> list[bytes]:
        return sorted(instance.to_dataset().PixelData for instance in instances(archive))

    assert pixels(tmp_path / "out") == pixels(tmp_path / "a")


@pytest.mark.parametrize("images", [1, 3])
def test_what_large_images_say_is_told_wherever_their_chunks_begin(
    images: int, tmp_path: Path
) -> None:
    """Values are stored in chunks (spec/bulk.md), and images and their headers lie across them."""
    profile = [segment(0xE2, b"ICC_PROFILE\0" + bytes(range(256)) * 200)] * 7
    plain, named = jpeg(*profile), jpeg(*profile, segment(0xFE, b"Ben^1935"))
    files = [
        (f"{at}.dcm", compressed(at, *[[plain]] * images, [last]))
        for at, last in enumerate((plain, named))
    ]
    studies.write_files(tmp_path / "in", files)
    dicomstudy.convert([tmp_path / "in"], tmp_path / "a")
    report = dicomstudy.deidentify(tmp_path / "a", tmp_path / "out", key=KEY)
    told = {risk.code: risk.instances for risk in report.risks}
    assert told["risk/pixel-comment"] == 1
