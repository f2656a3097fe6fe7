"""What is wrong with a file is told, and costs no more than reading it (spec/p10.md)."""

from __future__ import annotations

import struct

import pytest

from dicomstudy.elements import Element, Form, Span
from dicomstudy.p10 import read
from fixtures import make
from fixtures.make import element, item
from tests.p10_files import DELIMITER, NAME, UNDEFINED, codes, file_of
from tests.samples import fixture_files, rewritten


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("deflate-not.dcm", []),
        ("deflate-truncated.dcm", ["p10/deflate"]),
        ("meta-truncated.dcm", ["p10/truncated"]),
        ("truncated-header.dcm", ["p10/truncated"]),
        ("truncated-pixels.dcm", ["p10/truncated"]),
        ("truncated-text.dcm", ["p10/truncated"]),
        ("pixels-past-end.dcm", ["p10/truncated"]),
        ("text-undefined.dcm", ["p10/no-delimiter"]),
        ("no-item-delimiter.dcm", ["p10/truncated"]),
        ("nested-2000.dcm", ["p10/too-deep"]),
        ("stray-delimiter.dcm", ["p10/trailing-bytes"]),
        ("trailing-letters.dcm", ["p10/truncated"]),
        ("trailing-zeros.dcm", []),
        ("trailing-padding.dcm", []),
        ("trailing-three.dcm", []),
        ("repeated.dcm", []),
    ],
)
def test_problems_of_wrecks(name: str, expected: list[str]) -> None:
    data = fixture_files()[name]
    assert codes(data) == expected
    for problem in read(data, source="file").problems:
        assert problem.source == "file"
        assert problem.offset is not None
        assert 0 <= problem.offset <= len(data)
        assert problem.message


def test_a_value_without_end_has_none() -> None:
    data = file_of(NAME, element(0x00420011, "OB", b"abcd", length=UNDEFINED))
    assert codes(data) == ["p10/no-delimiter"]
    assert read(data).trailing == Span(len(data) - 16, 16)


def test_a_problem_says_where_and_what() -> None:
    data = file_of(NAME, element(0x00420011, "OB", b"abcd", length=1000))
    (problem,) = read(data, source="some file").problems
    assert problem == (
        "some file",
        "p10/truncated",
        "the value should have 1000 bytes, but the file ends 16 bytes after its element starts",
        len(data) - 16,
        "00420011",
    )


def test_lengths_far_past_the_end_cost_nothing() -> None:
    for length in (0xFFFFFFFE, 0x7FFFFFFF):
        data = file_of(NAME, element(0x7FE00010, "OW", b"abcd", length=length))
        found = read(data).elements[1]
        assert found == Element(0x7FE00010, "OW", b"abcd", Form.DECLARED, length)


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.timeout(20)
def test_a_hundred_thousand_nested_sequences(*, undefined: bool, explicit: bool) -> None:
    deep = make.nested(100_000, undefined=undefined, explicit=explicit)
    data = file_of(NAME if explicit else element(0x00100010, "PN", "A^B", explicit=False), deep,
                   syntax=make.EXPLICIT if explicit else make.IMPLICIT)  # fmt: skip
    file = read(data)
    assert rewritten(data, file) == data
    if undefined:
        assert [problem.code for problem in file.problems] == ["p10/too-deep"]
        assert file.elements[1].value == Span(len(data) - len(deep) + (12 if explicit else 8),
                                              len(deep) - (12 if explicit else 8))  # fmt: skip
        cut = read(data[:-8])
        assert [problem.code for problem in cut.problems] == ["p10/too-deep"]
        assert cut.trailing == Span(len(data) - len(deep), len(deep) - 8)
    else:
        assert file.problems == ()
        assert file.elements[1].value == deep[12 if explicit else 8 :]


@pytest.mark.timeout(20)
def test_broken_sequences_are_not_followed_in_vain_again_and_again() -> None:
    """Each of many would be followed to the end of the file before it turns out to be broken.

    In its item, which is implicit, the header of the next one is that of a long value.
    """
    count = int.from_bytes(b"SQ", "little") // 36
    filler = element(0x00420011, "OB", bytes(1 << 19))
    broken = [
        element(0x00081140, "SQ", length=UNDEFINED)
        + item(length=36 * left - 20 + len(filler) - 1)
        + make.delimiter(0xFFFEE00D)
        + DELIMITER
        for left in range(count, 0, -1)
    ]
    assert codes(file_of(*broken, filler)) == ["p10/truncated"] * 2


def header(tag: int, length: int) -> bytes:
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, length)


@pytest.mark.timeout(20)
def test_sequences_are_not_read_twice_in_vain_again_and_again() -> None:
    """With items of another tag each sequence leads through all that follow, without to its end."""
    opened = element(0x0040A730, "SQ", length=UNDEFINED)
    items = header(0x00090009, 8) + header(0x00100010, 0) + header(0x00090009, UNDEFINED)
    some = opened + items + element(0x00110010, "OB", DELIMITER)
    data = file_of(some * 20_000)
    assert codes(data) == ["p10/not-an-item"]
    assert rewritten(data, read(data)) == data


@pytest.mark.timeout(20)
def test_items_that_hold_no_elements_are_not_read_in_vain_again_and_again() -> None:
    """Each value ends soon, but a sequence in its item would reach far behind it."""
    inner = header(0x00081140, UNDEFINED) + header(0xFFFEE000, 1 << 30)
    data = file_of((header(0x00420011, UNDEFINED) + item(inner) + DELIMITER) * 20_000)
    assert set(codes(data)) == {"p10/truncated"}
    assert rewritten(data, read(data)) == data


@pytest.mark.timeout(20)
def test_values_are_not_copied_in_vain_again_and_again() -> None:
    """Each sequence ends soon, but an item in it would be half of the file if it were implicit."""
    half = 1 << 25
    length = (half >> 16) << 16 | int.from_bytes(b"OB", "little")
    some = (
        element(0x0040A730, "SQ", length=UNDEFINED)
        + header(0xFFFEE000, length + 28)
        + make.delimiter(0xFFFEE00D)
        + DELIMITER
        + struct.pack("<HH2sHI", 0x0010, 0x0012, b"OB", half >> 16, 0)
    )
    data = file_of(some * (half // len(some)), element(0x00130010, "OB", bytes(length + 100)))
    assert 1 < len(codes(data)) < 80
    assert set(codes(data)) == {"p10/truncated"}


@pytest.mark.timeout(20)
def test_fragments_without_an_end_are_not_looked_for_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each of many values in an item has fragments up to where there is no delimiter any more."""
    monkeypatch.setattr("dicomstudy.p10.parser.MAX_INSIDE", 1 << 18)
    value = make.delimiter(0xFFFEE0DD) + element(0x00091001, "OB", b"", length=UNDEFINED)
    fragments = 20_000 * item(value) + item(bytes(8))
    opened = item(element(0x00091001, "OB", b"", length=UNDEFINED) + fragments, length=UNDEFINED)
    data = file_of(element(0x00081140, "SQ", opened + bytes(1 << 22), length=UNDEFINED))
    assert codes(data) == ["p10/too-many-elements"]
