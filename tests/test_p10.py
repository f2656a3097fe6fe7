"""Part 10 files are taken apart and written again, byte for byte (spec/p10.md)."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomstudy import p10
from dicomstudy.elements import LONG_VRS, SHORT_VRS, Element, Form, Span
from dicomstudy.errors import P10Error
from dicomstudy.p10 import Reader, Syntax, read
from dicomstudy.sources import Window
from fixtures import make
from fixtures.make import element
from tests import strategies
from tests.p10_files import NAME, file_of
from tests.samples import files_below, fixture_files, mutant, own_files, rewritten, taken_apart


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
