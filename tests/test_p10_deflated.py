"""Data sets that are deflated, and what bounds them (spec/p10.md)."""

from __future__ import annotations

import struct
import zlib

import pytest

from dicomstudy import p10
from dicomstudy.elements import Element
from dicomstudy.errors import P10Error
from dicomstudy.p10 import Reader, read
from fixtures import make
from fixtures.make import element, item
from tests.p10_files import NAME, UNNAMED, codes, file_of
from tests.samples import chance_of, rewritten


def test_a_deflated_data_set_is_inflated() -> None:
    data = file_of(make.deflated(NAME), syntax=make.DEFLATED)
    file = read(data)
    assert file.body == NAME
    assert file.elements == [Element(0x00100010, "PN", b"A^B ")]
    assert file.deflated is not None
    assert sum(file.deflated) == len(data)
    assert rewritten(data, file) == data


@pytest.mark.parametrize("syntax", sorted(p10.DEFLATED_SYNTAXES))
def test_a_data_set_that_is_not_deflated_is_read_as_it_is(syntax: str) -> None:
    file = read(file_of(NAME, syntax=syntax))
    assert file.problems == ()
    assert file.deflated is None
    assert [each.value for each in file.elements] == [b"A^B "]
    assert codes(file_of(UNNAMED, syntax=syntax)) == ["p10/deflate"]


def test_a_deflate_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicomstudy.p10.reader.MAX_INFLATED", 1 << 20)
    data = file_of(make.deflated(element(0x00420011, "OB", bytes(2 << 20))), syntax=make.DEFLATED)
    assert len(data) < 10_000
    assert codes(data) == ["p10/deflate-too-large"]
    assert rewritten(data, read(data)) == data


def test_the_limit_of_inflating_is_not_exceeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicomstudy.p10.reader.MAX_INFLATED", 1000)
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    exactly = compressor.compress(bytes(1000)) + compressor.flush()
    assert p10.inflate(exactly) == bytes(1000)
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    with pytest.raises(P10Error, match="too large"):
        p10.inflate(compressor.compress(bytes(1001)) + compressor.flush())


EMPTY = element(0x00100010, "PN", b"")
#: The last is pixel data in fragments, the others are as many bytes of elements or items.
MANY = {
    "the same element": 1000 * EMPTY,
    "elements": b"".join(element(0x00090000 | at, "LO", b"") for at in range(0x1000, 0x13E8)),
    "items": element(0x00081140, "SQ", 1000 * item(b""), undefined=True),
    "sequences": 100 * element(0x00081140, "SQ", 10 * item(b"")),
    "items of defined length": element(0x00081140, "SQ", 1000 * item(b"")),
    "fragments": element(0x7FE00010, "OB", 1000 * item(b""), undefined=True),
}


@pytest.mark.parametrize("many", MANY.values(), ids=MANY)
def test_elements_of_a_deflated_data_set_have_so_many_bytes(
    many: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicomstudy.p10.reader.INFLATED_FOR_EACH", 0)
    data = file_of(make.deflated(NAME + many), syntax=make.DEFLATED)
    room = len(NAME) + 8000 - 1
    for enough in (False, True):
        monkeypatch.setattr("dicomstudy.p10.reader.SURELY_INFLATED", room + 5000 * enough)
        file = read(data)
        found = [problem.code for problem in file.problems]
        assert ("p10/too-many-elements" in found) is not enough
        assert file.elements[0].value == b"A^B "
        assert file.starts[-1] <= room or enough
        assert rewritten(data, file) == data


@pytest.mark.parametrize("vr", ["OB", "OW", "UN"])
@pytest.mark.parametrize("tag", [0x00420011, 0x7FE00010])
def test_what_only_begins_as_items_weighs_the_same_inline(
    tag: int, vr: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicomstudy.p10.reader.SURELY_INFLATED", 1000)
    monkeypatch.setattr("dicomstudy.p10.reader.INFLATED_FOR_EACH", 0)
    value = element(tag, vr, item(b"") + bytes(5000))
    data = file_of(make.deflated(NAME + value), syntax=make.DEFLATED)
    found = [read(data, max_inline=size).problems for size in (256, 1 << 20)]
    assert found[0] == found[1]


def test_large_values_of_a_deflated_data_set_may_have_any_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dicomstudy.p10.reader.SURELY_INFLATED", 1000)
    monkeypatch.setattr("dicomstudy.p10.reader.INFLATED_FOR_EACH", 0)
    pixels = element(0x7FE00010, "OW", bytes(1 << 16))
    data = file_of(make.deflated(NAME + pixels), syntax=make.DEFLATED)
    for max_inline in (0, 256, 1 << 20):
        assert read(data, max_inline=max_inline).problems == ()


def test_many_frames_that_are_alike_are_not_too_many() -> None:
    """As those of segmentations, which are deflated: to a fiftieth."""
    code = element(0x00080100, "SH", "121322") + element(0x00080102, "SH", "DCM")
    frames = []
    for number in range(10_000):
        image = element(0x00081155, "UI", f"1.3.6.1.4.1.14519.5.2.1.6279.6001.{number // 100:024}")
        source = element(0x00082112, "SQ", item(image + element(0x0040A170, "SQ", item(code))))
        place = element(0x00200032, "DS", f"-250\\-250\\{-100 + 1.25 * (number // 100)}")
        index = element(0x00209157, "UL", struct.pack("<II", number % 100, number // 100))
        frames.append(item(source + element(0x00209113, "SQ", item(place)) + index))
    data_set = NAME + element(0x52009230, "SQ", b"".join(frames))
    data = file_of(make.deflated(data_set), syntax=make.DEFLATED)
    assert len(data_set) > 30 * len(data)
    assert codes(data) == []


def test_a_data_set_that_was_stored_in_more_bytes_may_have_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dicomstudy.p10.reader.SURELY_INFLATED", 0)
    texts = chance_of(0).randbytes(20_000).hex()
    distinct = b"".join(element(0x00100010, "PN", texts[at : at + 40]) for at in range(1000))
    assert codes(file_of(make.deflated(distinct), syntax=make.DEFLATED)) == []
    assert codes(file_of(make.deflated(1000 * NAME), syntax=make.DEFLATED)) != []


@pytest.mark.parametrize("many", MANY.values(), ids=MANY)
def test_what_is_known_of_other_files_takes_no_deflated_one_beyond_its_limit(
    many: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicomstudy.p10.reader.SURELY_INFLATED", 6000)
    monkeypatch.setattr("dicomstudy.p10.reader.INFLATED_FOR_EACH", 0)
    data = file_of(make.deflated(NAME + many), syntax=make.DEFLATED)
    reader = Reader()
    for _ in range(3):
        reader.read(file_of(NAME, many))
    again = reader.read(data)
    assert again.elements == read(data).elements
    assert again.problems == read(data).problems
