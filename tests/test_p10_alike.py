"""A reader that has read other files is quicker, and reads the same (spec/p10.md)."""

from __future__ import annotations

import random
import struct
import time
import tracemalloc
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomstudy.elements import Element, Form, Span
from dicomstudy.p10 import Reader, read
from dicomstudy.p10.file import elements_of
from fixtures import make
from fixtures.make import element, item, part10
from tests import strategies
from tests.p10_files import DELIMITER, NAME, UNDEFINED, file_of, often_learning
from tests.samples import fixture_files, mutant, rewritten, taken_apart


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


def test_a_flaw_is_told_of_every_file_that_has_it() -> None:
    uid = element(0x00080016, "UI", "1.2")
    item_of_nothing = b"\xfe\xff\x00\xe0" + bytes(4)
    delimiter_with_a_length = b"\xfe\xff\xdd\xe0\4\0\0\0"
    sequence = b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff" + item_of_nothing + delimiter_with_a_length
    data, reader = file_of(uid, sequence, element(0x00100020, "LO", "X")), Reader()
    once = read(data).problems
    assert once
    for _ in range(5):
        assert reader.read(data).problems == once


def test_what_an_element_is_may_depend_on_what_is_behind_it() -> None:
    """So that in another file the same bytes may be another element."""
    # an item of another tag, whose length leads to the value of the element behind
    stranger = b"\x09\0\x01\0" + (28).to_bytes(4, "little")
    sequence = b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff" + stranger + b"\x08\0\x55\x11UI\x14\0"
    files = [
        file_of(sequence + DELIMITER, element(0x00204000, "LT", bytes(4) + behind + b"text"))
        for behind in (b"an" * 8, b"\xfe\xff\x00\xe0" + bytes(4) + DELIMITER)
    ]
    alone = [[each.value for each in elements_of(read(data).runs)] for data in files]
    assert alone[0] != alone[1]
    reader = Reader()
    for at in (0, 1, 1, 0, 0, 1, 0, 1, 0, 1):
        assert [each.value for each in elements_of(reader.read(files[at]).runs)] == alone[at]
