"""Sequences, items and fragments, whole and as careless writers leave them (spec/p10.md)."""

from __future__ import annotations

import struct

import pytest

from dicomstudy.elements import Element, Encapsulated, Form, Item, Sequence, Span
from dicomstudy.errors import P10Error
from dicomstudy.p10 import Reader, read, read_items
from fixtures import make
from fixtures.make import element, item
from tests.p10_files import DELIMITER, NAME, UNDEFINED, UNNAMED, codes, file_of
from tests.samples import rewritten, taken_apart


def test_sequences_of_undefined_length_are_items() -> None:
    data = file_of(element(0x00081140, "SQ", item(NAME, undefined=True) + item(), undefined=True))
    (found,) = read(data).elements
    name = Element(0x00100010, "PN", b"A^B ")
    assert found.value == Sequence((Item((name,), True), Item((), False)), True)


def test_sequences_of_defined_length_are_split_on_demand() -> None:
    value = item(NAME) + item(undefined=True)
    assert read(file_of(element(0x00081140, "SQ", value))).elements[0].value == value
    name = Element(0x00100010, "PN", b"A^B ")
    assert read_items(value, "SQ", explicit=True, big=False) == Sequence(
        (Item((name,), False), Item((), True)), False
    )


@pytest.mark.parametrize(
    "value",
    [
        b"\0",
        item(NAME)[:-1],
        item(NAME) + b"\0",
        NAME,
        item(length=UNDEFINED) + NAME[:-1],
        item(NAME[:-1]),
    ],
)
def test_what_is_no_row_of_items_is_refused(value: bytes) -> None:
    with pytest.raises(P10Error):
        read_items(value, "SQ", explicit=True, big=False)


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize(("vr", "letters"), [("UN", b"ZX"), ("UN", b"LO"), ("SQ", b"ZX")])
def test_half_a_length_is_no_vr(vr: str, letters: bytes, *, undefined: bool) -> None:
    first = element(0x00081140, "LO", bytes(int.from_bytes(letters, "little")), explicit=False)
    assert first[4:6] == letters
    nested = element(
        0x00081199, "SQ", item(UNNAMED, undefined=True) + item(), explicit=False, undefined=True
    )
    value = item(first + nested + UNNAMED, undefined=undefined)
    expected = [(0x00081140, ""), (0x00081199, ""), (0x00100010, "")]
    (found,) = read(file_of(element(0x00081115, vr, value, undefined=True))).elements
    assert isinstance(found.value, Sequence)
    for sequence in (found.value, read_items(value, vr, explicit=True, big=False)):
        (only,) = sequence.items
        assert [each[:2] for each in only.elements] == expected


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("vr", ["UN", "SQ"])
def test_items_of_unknown_sequences_may_be_explicit(vr: str, *, undefined: bool) -> None:
    long = element(0x00420011, "OB", bytes(70_000))
    odd = element(0x00080050, "SH", b"1 ").replace(b"SH", b"ZX")
    value = b"".join(
        item(content, undefined=undefined) for content in (NAME, long + NAME, odd + NAME, long)
    )
    (found,) = read(file_of(element(0x00081115, vr, value, undefined=True))).elements
    assert isinstance(found.value, Sequence)
    for sequence in (found.value, read_items(value, vr, explicit=True, big=False)):
        vrs = [[each.vr for each in only.elements] for only in sequence.items]
        assert vrs == [["PN"], ["OB", "PN"], ["ZX", "PN"], ["OB"]]


@pytest.mark.timeout(30)
def test_looking_whether_items_are_implicit_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of many items might be implicit up to nearly the end of all."""
    monkeypatch.setattr("dicomstudy.p10.parser.MAX_INSIDE", 1 << 16)
    start = struct.pack("<HH2sH", 8, 8, b"CS", 0) + make.delimiter(0xFFFEE00D)
    items = 4000 * item(start, length=UNDEFINED)
    first = 8 + 0x5343  # where the length that half of is "CS" leads to, from each of them
    filler = b"".join(struct.pack("<HHI", 8, number, 0) for number in range(16, 4000))
    data = file_of(element(0x00081115, "UN", items + item(filler * (first // 8)), undefined=True))
    assert codes(data) in ([], ["p10/too-many-elements"])
    assert rewritten(data, read(data)) == data


def test_encapsulated_pixel_data_are_fragments() -> None:
    value = make.encapsulate([[b"abcd"], [b"ef", b"gh"]])
    data = file_of(make.encapsulated(value))
    (found,) = read(data).elements
    start = len(data) - len(value)
    assert found.form is Form.UNDEFINED
    assert found.value == Encapsulated(
        start, len(value), (Span(8, 8), Span(24, 4), Span(36, 2), Span(46, 2))
    )


@pytest.mark.parametrize("more", [1, 2, 8, 9, 1000])
def test_a_last_fragment_that_says_too_much_ends_before_the_delimiter(more: int) -> None:
    """It is none if it has more than the delimiter; the value ends there all the same."""
    fragments = item() + item(b"abcd") + item(b"efgh", length=4 + more) + DELIMITER
    pixels = element(0x7FE00010, "OB", fragments, length=UNDEFINED)
    file = read(file_of(NAME, pixels, NAME))
    assert file.problems == ()
    (_, found, behind) = file.elements
    assert isinstance(found.value, Encapsulated)
    last = [Span(28, 4)] if more <= len(DELIMITER) else []
    assert found.value.fragments == (Span(8, 0), Span(16, 4), *last)
    assert found.value.length == len(fragments)
    assert behind.tag == 0x00100010
    icon = element(0x00880200, "SQ", item(pixels + NAME) + DELIMITER, length=UNDEFINED)
    file = read(file_of(icon, NAME))
    assert file.problems == ()
    value = file.elements[0].value
    assert isinstance(value, Sequence)
    assert [each.value for each in value.items[0].elements] == [fragments, b"A^B "]


def test_zeros_may_stand_between_fragments_and_their_delimiter() -> None:
    """What the fragments have looks like a delimiter."""
    fragments = item() + item(DELIMITER + b"abcd")
    for zeros in (1, 8, 4096):
        pixels = element(0x7FE00010, "OB", fragments + bytes(zeros) + DELIMITER, length=UNDEFINED)
        file = read(file_of(pixels, NAME))
        found, behind = file.elements
        assert isinstance(found.value, Encapsulated)
        assert found.value.fragments == (Span(8, 0), Span(16, 12))
        assert behind.tag == 0x00100010


@pytest.mark.parametrize("tag", [0x3F3F3F00, 0xFEFF00E0, 0xFFFEE00D, 0])
def test_items_of_another_tag_are_followed_to_the_delimiter_of_their_sequence(tag: int) -> None:
    inner = element(0x00081140, "SQ", item(UNNAMED) + DELIMITER, length=UNDEFINED)
    head = struct.pack("<HHI", tag >> 16, tag & 0xFFFF, UNDEFINED)
    value = head + inner + make.delimiter(0xFFFEE00D) + DELIMITER
    outer = element(0x00081115, "SQ", value, length=UNDEFINED)
    file = read(file_of(outer, NAME))
    assert [problem.code for problem in file.problems] == ["p10/not-an-item"]
    assert [each.value for each in file.elements] == [value, b"A^B "]


def test_what_cannot_be_an_item_does_not_make_a_sequence() -> None:
    """Of VR SQ, but its first eight bytes would be an item that reaches behind the file."""
    file = read(
        file_of(element(0x00081115, "SQ", b"words" * 3 + DELIMITER, length=UNDEFINED), NAME)
    )
    assert file.problems == ()
    assert file.elements[0].form is Form.DELIMITED
    assert [each.value for each in file.elements] == [b"words" * 3, b"A^B "]


@pytest.mark.parametrize("length", [4, 12, UNDEFINED])
def test_what_is_no_item_of_another_tag_is_bytes_up_to_the_delimiter(length: int) -> None:
    """A length that leads nowhere, or an undefined one of what cannot be followed."""
    head = struct.pack("<4sI", b"word", length)
    for words in (head + b"w" * 16, head + bytes(16), head):
        encoded = element(0x00081115, "SQ", words + DELIMITER, length=UNDEFINED)
        file = read(file_of(encoded, NAME))
        assert file.problems == ()
        assert file.elements[0].form is Form.DELIMITED
        assert [each.value for each in file.elements] == [words, b"A^B "]


def test_items_of_another_tag_are_what_they_are_whatever_was_read_before() -> None:
    """A length leads to an item in one file only, and cannot be followed in any."""
    start = element(0x00081115, "SQ", b"word" + struct.pack("<I", 60) + DELIMITER, length=UNDEFINED)
    short = file_of(start, NAME)
    long = file_of(start, element(0x00100010, "PN", b"A" * 34), item(length=99))
    reader = Reader()
    for data in (short, short, long, short, long):
        assert taken_apart(reader.read(data)) == taken_apart(read(data))


@pytest.mark.parametrize("vr", ["OB", "SV", "UC", "UR", "UT", "UV"])
def test_bytes_that_are_items_end_where_those_lead(vr: str) -> None:
    """As every value of undefined length does, that of text too (spec/p10.md)."""
    items = item(DELIMITER) + item() + item(NAME)
    found = element(0x00420011, vr, items, undefined=True)
    data = file_of(element(0x00081115, "SQ", item(found + NAME, undefined=True), undefined=True))
    assert codes(data) == []
    (outer,) = read(data).elements
    assert isinstance(outer.value, Sequence)
    (only,) = outer.value.items
    assert [each.tag for each in only.elements] == [0x00420011, 0x00100010]
    assert only.elements[0].value == items + (DELIMITER if vr == "OB" else b"")
    assert rewritten(data, read(data)) == data


def test_bytes_that_only_begin_as_items_end_with_the_next_delimiter() -> None:
    text_ = item(b"abcd") + b"no item "
    (found, name) = read(file_of(element(0x00420011, "UT", text_, undefined=True), NAME)).elements
    assert (found.value, found.form, name.tag) == (text_, Form.DELIMITED, 0x00100010)


@pytest.mark.parametrize("inside", [False, True])
def test_items_of_no_vr_that_hold_no_elements_are_bytes(*, inside: bool) -> None:
    """Those of OB, say, in an implicit data set: nothing there says that they are fragments."""
    items = item(b"abcd") + item(DELIMITER)
    found = element(0x00420011, "", items, undefined=True, explicit=False) + UNNAMED
    if inside:
        found = element(0x00081115, "", item(found), undefined=True, explicit=False)
    data = file_of(found, UNNAMED, syntax=make.IMPLICIT)
    file = read(data)
    assert [(p.code, p.tag) for p in file.problems] == [("p10/truncated", "00420011")]
    elements = file.elements
    if inside:
        assert isinstance(elements[0].value, Sequence)
        elements = [*elements[0].value.items[0].elements, elements[-1]]
    assert (elements[0].value, elements[0].form) == (items, Form.DELIMITED)
    assert [each.tag for each in elements[1:]] == [0x00100010, 0x00100010]
    assert rewritten(data, file) == data


def test_what_is_wrong_inside_such_bytes_is_no_matter_of_what_is_around_them() -> None:
    odd = item(NAME, length=UNDEFINED) + make.delimiter(0xFFFEE00D, length=4)
    inner = item(element(0x00081115, "SQ", odd, undefined=True)) + item(b"abcd")
    unknown = element(0x00420011, "UN", inner, undefined=True)
    data = file_of(element(0x00081140, "SQ", item(unknown + NAME), undefined=True))
    assert codes(data) == ["p10/truncated"]
    assert isinstance(read(data).elements[0].value, Sequence)


@pytest.mark.parametrize("vr", ["OB", "UT"])
def test_values_of_undefined_length_in_items_count_as_others_do(
    vr: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicomstudy.p10.parser._MAX_ITEMS", 1000)
    large = element(0x00420011, vr, item(bytes(700)), undefined=True)
    assert codes(file_of(element(0x00081140, "SQ", item(large), undefined=True))) == []
    data = file_of(element(0x00081140, "SQ", item(large) * 2, undefined=True))
    assert codes(data) == ["p10/too-large"]


@pytest.mark.timeout(20)
def test_items_in_bytes_are_not_followed_in_vain_again_and_again() -> None:
    """Each of many texts begins with items that lead through all the others to none."""
    begin = element(0x00420011, "UT", length=UNDEFINED)
    data = file_of(begin, 40_000 * item(DELIMITER + begin), item(DELIMITER), NAME)
    file = read(data)
    assert [each.form for each in file.elements] == [*(40_001 * [Form.DELIMITED]), Form.DEFINED]
    assert rewritten(data, file) == data
