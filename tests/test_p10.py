"""Part 10 files are taken apart and written again, byte for byte (spec/p10.md)."""

from __future__ import annotations

import random
import struct
import time
import tracemalloc
import zlib
from collections.abc import Iterable
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomstudy import p10
from dicomstudy.elements import (
    LONG_VRS,
    SHORT_VRS,
    Element,
    Encapsulated,
    Form,
    Item,
    Sequence,
    Span,
)
from dicomstudy.errors import P10Error
from dicomstudy.p10 import Reader, Syntax, read, read_items
from dicomstudy.p10.file import elements_of
from dicomstudy.sources import Window
from fixtures import make
from fixtures.make import element, item, part10
from tests import strategies
from tests.samples import (
    chance_of,
    files_below,
    fixture_files,
    mutant,
    own_files,
    rewritten,
    taken_apart,
)

UNDEFINED = make.UNDEFINED
DELIMITER = b"\xfe\xff\xdd\xe0" + bytes(4)

#: A reader learns every few files, so that short rows of files show what it learns.
often_learning = mock.patch("dicomstudy.p10.reader._FILES_TO_LEARN", 3)
NAME = element(0x00100010, "PN", b"A^B ")
UNNAMED = element(0x00100010, "PN", b"A^B ", explicit=False)


def file_of(*elements: bytes, syntax: str = make.EXPLICIT, trailing: bytes = b"") -> bytes:
    meta = make.file_meta(syntax, sop_instance="1.2.3")
    return part10(meta, b"".join(elements), trailing=trailing)


def codes(data: bytes) -> list[str]:
    return [problem.code for problem in read(data).problems]


def assert_exact(files: Iterable[tuple[str, bytes]], *, max_inline: int = 256) -> int:
    """One reader reads all files: each comes back, and is what a fresh reader makes of it."""
    reader = Reader(max_inline=max_inline)
    count = 0
    for name, data in files:
        file = reader.read(data)
        assert rewritten(data, file) == data, name
        assert taken_apart(file) == taken_apart(read(data, max_inline=max_inline)), name
        count += 1
    return count


# -- the law ---------------------------------------------------------------------------------


@pytest.mark.parametrize("max_inline", [0, 16, 256])
def test_own_files_are_written_as_they_were(max_inline: int) -> None:
    assert assert_exact(own_files(), max_inline=max_inline) > 380


def test_real_files_are_written_as_they_were(shared: Path) -> None:
    assert assert_exact(files_below([shared / "corpus"])) > 900


@given(strategies.wild_files(), st.sampled_from([0, 16, 256]))
def test_any_data_set_is_written_as_it_was(data: bytes, max_inline: int) -> None:
    assert rewritten(data, read(data, max_inline=max_inline)) == data


@given(st.binary(max_size=400), st.booleans())
def test_any_bytes_are_written_as_they_were(data: bytes, prefixed: bool) -> None:
    if prefixed:
        data = bytes(128) + b"DICM" + data
    assert rewritten(data, read(data)) == data


@given(st.randoms(use_true_random=False), st.sampled_from(sorted(fixture_files())))
def test_mutants_are_written_as_they_are(chance: random.Random, name: str) -> None:
    data = mutant(fixture_files()[name], chance)
    assert rewritten(data, read(data)) == data


# -- the fast path -----------------------------------------------------------------------------


@often_learning
@given(strategies.neighbours(), st.sampled_from([0, 16, 256]))
def test_what_was_read_before_changes_nothing(files: list[bytes], max_inline: int) -> None:
    reader = Reader(max_inline=max_inline)
    for data in files:
        file = reader.read(data)
        assert taken_apart(file) == taken_apart(read(data, max_inline=max_inline))
        assert file.find(0x00100020) == read(data).find(0x00100020)


@mock.patch("dicomstudy.p10.reader.MAX_ELEMENTS", 4)
@often_learning
@given(strategies.neighbours())
def test_a_file_of_too_many_elements_ends_where_it_would_alone(files: list[bytes]) -> None:
    reader = Reader()
    for data in files:
        file = reader.read(data)
        assert taken_apart(file) == taken_apart(read(data))
        assert rewritten(data, file) == data


@often_learning
@given(st.randoms(use_true_random=False))
def test_mutated_neighbours_are_read_as_if_alone(chance: random.Random) -> None:
    original = fixture_files()[chance.choice(sorted(fixture_files()))]
    reader = Reader()
    for _ in range(20):
        data = mutant(original, chance) if chance.random() < 0.4 else original
        file = reader.read(data)
        assert taken_apart(file) == taken_apart(read(data))
        assert rewritten(data, file) == data


def test_padding_is_padding_whatever_was_read_before() -> None:
    """(0000,0000) is an element where something follows, and padding where nothing does."""
    before = file_of(NAME, bytes(8), NAME)
    padded = file_of(NAME, bytes(200))
    reader = Reader()
    assert [each.tag for each in reader.read(before).elements] == [0x00100010, 0, 0x00100010]
    file = reader.read(padded)
    assert file.trailing == Span(len(padded) - 200, 200)
    assert taken_apart(file) == taken_apart(read(padded))


@pytest.mark.parametrize(
    "files",
    [
        [
            file_of(element(0x00091001, "UN", value))
            for value in (bytes(300), item(element(0x00100010, "LO", "a" * 284)))
        ],
        [
            file_of(
                element(0x7FE00010, "OB", bytes(size) + DELIMITER, length=UNDEFINED),
                element(0xFFFCFFFC, "OB", bytes(1000)),
            )
            for size in (300, 400)
        ],
    ],
    ids=["items", "undefined length"],
)
def test_a_large_value_is_not_known_by_its_place_alone(files: list[bytes]) -> None:
    """One header at one place, but items in it, or another length."""
    reader = Reader()
    for data in files:
        assert taken_apart(reader.read(data)) == taken_apart(read(data))


def test_large_values_at_one_place_are_the_same_run() -> None:
    reader = Reader()
    files = [
        reader.read(file_of(element(0x7FE00010, "OW", bytes([number]) * 300)))
        for number in range(3)
    ]
    assert files[0].runs == files[1].runs == files[2].runs
    assert files[2].elements == [Element(0x7FE00010, "OW", Span(files[2].starts[0] + 12, 300))]


def test_runs_of_equal_files_are_taken_apart_once() -> None:
    """Files of a series: what is equal among them is the same object, and grows together."""
    reader = Reader()
    files = [reader.read(data) for _, data in make.study(40, series=1)]
    assert len(files[0].runs) > 50
    assert len(files[-1].runs) < 30
    long = [run for run in files[-1].runs if len(run.elements) > 1]
    assert long
    assert all(run in files[-2].runs for run in long)
    assert [len(file.starts) for file in files] == [len(file.runs) + 1 for file in files]


def test_offsets_of_runs_are_those_of_their_bytes() -> None:
    reader = Reader()
    for _, data in make.study(20, series=2):
        file = reader.read(data)
        for run, start, end in zip(file.runs, file.starts, file.starts[1:], strict=False):
            assert end - start == run.size
            if run.encoded:
                assert data[start:end] == run.encoded
        assert file.starts[-1] == len(data)


# -- what elements are -------------------------------------------------------------------------


def test_an_explicit_element() -> None:
    file = read(file_of(NAME))
    assert file.syntax == Syntax(explicit=True)
    assert file.elements == [Element(0x00100010, "PN", b"A^B ")]
    assert file.problems == ()


def test_an_implicit_element_has_no_vr() -> None:
    data = file_of(element(0x00100010, "PN", "A^B", explicit=False), syntax=make.IMPLICIT)
    file = read(data)
    assert file.syntax == Syntax(explicit=False)
    assert file.elements == [Element(0x00100010, "", b"A^B ")]


def test_big_endian() -> None:
    data = file_of(element(0x00280010, "US", 512, big=True), syntax=make.BIG_ENDIAN)
    file = read(data)
    assert file.syntax == Syntax(explicit=True, big=True)
    assert file.elements == [Element(0x00280010, "US", b"\2\0")]


@pytest.mark.parametrize("vr", sorted(LONG_VRS - {"SQ"}))
def test_long_headers_keep_their_reserved_bytes(vr: str) -> None:
    data = file_of(element(0x00091001, vr, b"abcd", reserved=b"\1\2"))
    assert read(data).elements == [Element(0x00091001, vr, b"abcd", reserved=0x0201)]


def test_long_values_stay_where_they_are() -> None:
    data = file_of(NAME, element(0x7FE00010, "OW", bytes(300)))
    assert read(data).elements[1].value == Span(len(data) - 300, 300)
    assert read(data, max_inline=300).elements[1].value == bytes(300)


def test_what_a_file_is_known_by_is_always_taken_out() -> None:
    uid = b"1.2" * 30
    data = file_of(
        element(0x00080005, "CS", b"ISO_IR 192\\ISO_IR 192"),
        element(0x0020000D, "UI", uid),
        element(0x00420011, "OB", b"x"),
    )
    values = [each.value for each in read(data, max_inline=0).elements]
    assert values == [b"ISO_IR 192\\ISO_IR 192", uid, Span(len(data) - 1, 1)]
    assert all(isinstance(each.value, bytes) for run in read(data).meta for each in run.elements)


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


def test_group_lengths_that_are_right_need_not_be_kept() -> None:
    right = element(0x00100000, "UL", len(NAME))
    data = file_of(right, NAME, element(0x00200010, "SH", "1"))
    assert read(data).elements[0] == Element(0x00100000, "UL", b"", Form.GROUP_LENGTH)
    assert rewritten(data, read(data)) == data


@pytest.mark.parametrize(
    "wrong",
    [
        element(0x00100000, "UL", len(NAME) + 2),
        element(0x00100000, "UL", b""),
        element(0x00100000, "US", len(NAME)),
        element(0x00100000, "OB", b"\14\0\0\0", reserved=b"\1\0"),
        element(0x00080000, "UL", len(NAME)),
    ],
)
def test_group_lengths_that_are_wrong_are_kept(wrong: bytes) -> None:
    data = file_of(wrong, NAME)
    assert read(data).elements[0].form is Form.DEFINED
    assert rewritten(data, read(data)) == data


@pytest.mark.parametrize("first", ["UL", "UN", "OB"])
@pytest.mark.parametrize("second", ["UL", "UN", "OB"])
def test_two_group_lengths_of_one_group(first: str, second: str) -> None:
    """The first counts what is behind it, headers of eight or twelve bytes; the second is kept."""
    inner = element(0x00100000, second, len(NAME).to_bytes(4, "little"))
    outer = element(0x00100000, first, (len(inner) + len(NAME)).to_bytes(4, "little"))
    data = file_of(outer, inner, NAME)
    forms = [each.form for each in read(data).elements]
    assert forms == [Form.GROUP_LENGTH, Form.DEFINED, Form.DEFINED]
    assert rewritten(data, read(data)) == data


def test_group_lengths_are_right_or_wrong_by_their_file() -> None:
    """Equal bytes are right in one file and wrong in the next."""
    right = file_of(element(0x00100000, "UL", len(NAME)), NAME)
    wrong = right + element(0x00100020, "LO", "1")
    reader = Reader()
    for data in [right] * 10 + [wrong] * 10 + [right, wrong]:
        forms = [each.form is Form.GROUP_LENGTH for each in reader.read(data).elements]
        assert forms[0] is (data is right)


def test_long_values_in_the_place_of_group_lengths_are_not_remembered() -> None:
    reader = Reader()
    tracemalloc.start()
    try:
        for size in range(6000, 6010):
            value = item(NAME * size)
            reader.read(file_of(element(0x00090000, "SQ", value, undefined=True)))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1 << 20


# -- syntaxes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("declared", [make.IMPLICIT, make.EXPLICIT])
@pytest.mark.parametrize("explicit", [False, True])
def test_the_first_element_decides_between_implicit_and_explicit(
    declared: str, *, explicit: bool
) -> None:
    data = file_of(element(0x00100010, "PN", "A^B", explicit=explicit), syntax=declared)
    assert read(data).syntax.explicit is explicit


@pytest.mark.parametrize(("explicit", "big"), sorted(strategies.SYNTAXES))
def test_bare_data_sets_are_recognised(*, explicit: bool, big: bool) -> None:
    data = element(0x00080005, "CS", "ISO_IR 192", explicit=explicit, big=big)
    file = read(data)
    assert file.preamble is None
    assert file.meta == []
    assert (file.syntax.explicit, file.syntax.big) == (explicit, big)
    assert file.elements == [Element(0x00080005, "CS" if explicit else "", b"ISO_IR 192")]


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


# -- problems ----------------------------------------------------------------------------------


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


# -- writing -----------------------------------------------------------------------------------


def test_what_does_not_fit_a_short_header_is_refused() -> None:
    with pytest.raises(P10Error) as raised:
        p10.encode_element(0x00100010, "PN", bytes(1 << 16), big=False)
    assert raised.value.code == "p10/too-long"
    assert raised.value.location.tag == 0x00100010
    assert len(p10.encode_element(0x00100010, "UT", bytes(1 << 16), big=False)) == (1 << 16) + 12


@given(
    st.sampled_from(["", *sorted(LONG_VRS | SHORT_VRS)]),
    st.integers(0, 0xFFFFFFFF),
    st.binary(max_size=20),
    st.booleans(),
)
def test_elements_are_written_by_the_book(vr: str, tag: int, value: bytes, big: bool) -> None:
    expected = element(tag, vr or "UN", value, explicit=bool(vr), big=big)
    assert p10.encode_element(tag, vr, value, big=big) == expected
    header = p10.header(tag, vr, big=big)
    assert header.start + header.length.pack(len(value)) + value == expected
    assert header.size == len(expected) - len(value)


# -- large files -------------------------------------------------------------------------------


def test_a_window_is_read_as_its_bytes_are(tmp_path: Path) -> None:
    for name, data in fixture_files().items():
        path = tmp_path / "file"
        path.write_bytes(data)
        with Window(path) as window:
            assert taken_apart(read(window)) == taken_apart(read(data)), name


def test_values_in_a_window_stay_there(tmp_path: Path) -> None:
    """A sparse file of 5 GiB, its last element far behind: only headers are read."""
    path = tmp_path / "large"
    length = 5 << 30
    head = file_of(NAME, element(0x7FE00010, "OW", b"", length=0xFFFFFFF0))
    with path.open("wb") as file:
        file.write(head)
        file.truncate(length)
    with Window(path) as window:
        taken = read(window)
    assert taken.elements[1].value == Span(len(head), 0xFFFFFFF0)
    assert taken.trailing == Span(len(head) + 0xFFFFFFF0, length - len(head) - 0xFFFFFFF0)


def test_no_more_group_lengths_are_remembered_than_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dicomstudy.p10.reader._MOST_SETTLED", 3)
    reader = Reader()
    for group in range(9, 99, 2):
        one = element(group << 16 | 0x10, "LO", b"CREATOR ")
        length = element(group << 16, "UL", struct.pack("<I", len(one)))
        (found,) = [e for e in reader.read(file_of(length, one)).elements if e.tag == group << 16]
        assert found.form is Form.GROUP_LENGTH
        assert len(reader._group_lengths) <= 3


def test_a_file_unlike_those_before_takes_no_longer() -> None:
    """Elements that stand before all that are expected."""
    reader = Reader()
    for group in (0x4000, 0x3000, 0x2000, 0x1000):
        tags = ((group + at, number) for at in (0, 2) for number in range(1, 0x10000))
        elements = [struct.pack("<HHI", *tag, 0) for tag in tags]
        data = part10(make.file_meta(make.IMPLICIT), b"".join(elements))
        before = time.process_time()
        assert len(reader.read(data).elements) >= len(elements)
        assert time.process_time() - before < 8


# -- a reader that has read other files ----------------------------------------------------


def written(*elements: bytes) -> bytes:
    return part10(make.file_meta(make.EXPLICIT), b"".join(elements))


def test_a_flaw_is_told_of_every_file_that_has_it() -> None:
    uid = element(0x00080016, "UI", "1.2")
    item_of_nothing = b"\xfe\xff\x00\xe0" + bytes(4)
    delimiter_with_a_length = b"\xfe\xff\xdd\xe0\4\0\0\0"
    sequence = b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff" + item_of_nothing + delimiter_with_a_length
    data, reader = written(uid, sequence, element(0x00100020, "LO", "X")), Reader()
    once = read(data).problems
    assert once
    for _ in range(5):
        assert reader.read(data).problems == once


def test_what_an_element_is_may_depend_on_what_is_behind_it() -> None:
    """So that in another file the same bytes may be another element."""
    delimiter = b"\xfe\xff\xdd\xe0" + bytes(4)
    # an item of another tag, whose length leads to the value of the element behind
    stranger = b"\x09\0\x01\0" + (28).to_bytes(4, "little")
    sequence = b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff" + stranger + b"\x08\0\x55\x11UI\x14\0"
    files = [
        written(sequence + delimiter, element(0x00204000, "LT", bytes(4) + behind + b"text"))
        for behind in (b"an" * 8, b"\xfe\xff\x00\xe0" + bytes(4) + delimiter)
    ]
    alone = [[each.value for each in elements_of(read(data).runs)] for data in files]
    assert alone[0] != alone[1]
    reader = Reader()
    for at in (0, 1, 1, 0, 0, 1, 0, 1, 0, 1):
        assert [each.value for each in elements_of(reader.read(files[at]).runs)] == alone[at]
