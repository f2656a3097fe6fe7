"""Files that are like those before them are not taken apart again, and their records are the same.

A record that is recalled counts if it is exact (spec/record.md); then it is the one that a decoder
makes which has seen nothing before.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomstudy import convert
from dicomstudy.elements import Span
from dicomstudy.p10 import Reader, read
from dicomstudy.record import Checker, Decoder, Encoder, Record
from fixtures import make
from fixtures.make import element, item, part10
from tests import strategies
from tests.p10_files import DELIMITER, NAME, file_of, often_learning
from tests.samples import LONG, files_below, fixture_files, mutant
from tests.strategies import DEFINITIONS

ENCODER = Encoder(DEFINITIONS)
ITEM = b"\xfe\xff\x00\xe0"

#: Files of few elements are recalled, too, whatever of them is open.
willing = mock.patch("dicomstudy.record.stencil._MOST_OPEN", 1)


class Taker:
    """Takes files one after the other as an archive does; knows whether the last was recalled."""

    def __init__(self, *, max_inline: int = 256, by_offset: bool = False) -> None:
        self._reader = Reader(max_inline=max_inline)
        self.decoder = Decoder(DEFINITIONS, max_inline=max_inline, by_offset=by_offset)
        self._checker = Checker(ENCODER)
        self.has_recalled = False

    def take(self, data: bytes) -> Record:
        """The record of a file."""
        record = self.decoder.recall(data)
        self.has_recalled = record is not None and self._checker.is_exact(record, data)
        if record is not None and self.has_recalled:
            return record
        return self.decoder.decode(self._reader.read(data), data)


def told(record: Record) -> tuple[Any, ...]:
    """All that a record says, comparable: NaN is equal to itself."""
    groups = {
        name: [(each.key, repr(each.value)) for each in some]
        for name, some in record.groups.items()
        if some
    }
    return (
        sorted(groups.items()),
        record.encoding,
        sorted(map(repr, record.large)),
        [*map(repr, record.problems)],
        b"".join(part if isinstance(part, bytes) else b"..." for part in record.segments()),
    )


def recalled_of(files: Iterable[bytes], **options: Any) -> list[bool]:
    """Which of the files were recalled, each of which has the record that it has alone."""
    taker = Taker(**options)
    recalled = []
    for data in files:
        assert told(taker.take(data)) == told(Taker(**options).take(data))
        recalled.append(taker.has_recalled)
    return recalled


# -- the law ---------------------------------------------------------------------------------


@often_learning
@willing
@given(strategies.neighbours(), st.sampled_from([0, 16, 256]), st.booleans())
def test_what_is_recalled_is_what_would_be_decoded(
    files: list[bytes], max_inline: int, by_offset: bool
) -> None:
    recalled_of(files, max_inline=max_inline, by_offset=by_offset)


@often_learning
@willing
@given(st.randoms(use_true_random=False), st.sampled_from(sorted(fixture_files())), st.booleans())
def test_mutants_are_recalled_as_they_would_be_decoded(
    chance: random.Random, name: str, by_offset: bool
) -> None:
    original = fixture_files()[name]
    files = [mutant(original, chance) if chance.random() < 0.4 else original for _ in range(12)]
    recalled_of([original, original, *files], by_offset=by_offset)


@pytest.mark.parametrize("by_offset", [False, True])
def test_most_of_a_series_is_recalled(by_offset: bool) -> None:
    files = [data for _, data in make.study(40, series=1)]
    assert sum(recalled_of(files, by_offset=by_offset)) > 25


def test_real_series_are_recalled(shared: Path) -> None:
    files = [data for _, data in files_below([shared / "corpus"]) if data[128:132] == b"DICM"]
    files = files if LONG else files[:400]
    assert sum(recalled_of(files, by_offset=True)) > 90


@pytest.mark.parametrize("bulk", ["copy", "reference"])
def test_an_archive_does_not_depend_on_it(tmp_path: Path, bulk: str) -> None:
    for number, (name, data) in enumerate(make.study(60, series=2, rows=160)):
        path = tmp_path / "in" / f"{number % 7}" / name.replace("/", "-")
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(data)
    with mock.patch.object(Decoder, "recall", side_effect=Decoder.recall, autospec=True) as asked:
        convert([tmp_path / "in"], tmp_path / "recalled", bulk=bulk)
    assert asked.call_count == 60
    with mock.patch.object(Decoder, "recall", return_value=None):
        convert([tmp_path / "in"], tmp_path / "decoded", bulk=bulk)
    found = [
        {
            path.relative_to(archive): path.read_bytes()
            for path in archive.rglob("*")
            if path.is_file()
        }
        for archive in (tmp_path / "recalled", tmp_path / "decoded")
    ]
    assert found[0] == found[1]


# -- what is seen of a file --------------------------------------------------------------------

UID = element(0x00080018, "UI", "1.2.3")
PIXELS = element(0x7FE00010, "OW", bytes(300))
STUDY = (element(0x00080005, "CS", "ISO_IR 100"), UID, element(0x00080060, "CS", "OT"), NAME)


def series(*differing: bytes, behind: bytes = b"") -> list[bytes]:
    """Files that are alike, but for one element; of most, it is a number."""
    usual = [element(0x00200013, "IS", str(number)) for number in range(10, 18)]
    return [file_of(*STUDY, each, behind) for each in (*usual, *differing, *usual)]


@willing
def test_values_may_have_other_lengths_and_be_large_at_other_places() -> None:
    differing = [element(0x00200013, "IS", text) for text in ("1", "100", "", "12345678901")]
    files = series(*differing, behind=PIXELS)
    for by_offset in (False, True):
        assert sum(recalled_of(files, by_offset=by_offset)) > 14
    taker = Taker(by_offset=True)
    for data in files:
        (large,) = taker.take(data).large
        assert large.span == Span(len(data) - 300, 300)


@willing
def test_encapsulated_values_are_recalled() -> None:
    files = [
        file_of(*STUDY, make.encapsulated(make.encapsulate([[bytes([size % 256]) * size]])))
        for size in (300, 400, 500, 600)
    ]
    assert recalled_of(files) == recalled_of(files, by_offset=True) == [False, False, False, True]


@willing
def test_bytes_that_do_not_come_out_of_values_are_recalled_beside_them() -> None:
    usual = [element(0x00200013, "IS", b"%d\0" % number) for number in range(100, 108)]
    files = [file_of(*STUDY, each) for each in usual]
    assert sum(recalled_of(files)) > 4
    taker = Taker()
    assert [taker.take(data).attributes()["_raw.00200013"] for data in files] == [
        b"%d\0" % number for number in range(100, 108)
    ]


@willing
@pytest.mark.parametrize(
    "other",
    [
        element(0x00200013, "IS", " 1"),
        element(0x00200013, "IS", "1" * 300),
        element(0x00200013, "LO", "1"),
        element(0x00200013, "IS", "1", length=999),
        element(0x00200013, "IS", "1") * 2,
        element(0x00200012, "IS", "1"),
        b"",
    ],
    ids=["space", "large", "VR", "truncated", "twice", "other tag", "absent"],
)
def test_a_file_of_another_shape_is_decoded(other: bytes) -> None:
    files = series(other)
    recalled = recalled_of([*files, *files])
    assert sum(recalled) > 20
    assert not recalled[8]
    assert not recalled[25]


@willing
def test_what_is_wrong_with_a_value_is_told_of_its_file() -> None:
    files = [
        file_of(element(0x00080008, "CS", "ORIGINAL"), *STUDY[1:], element(0x00200013, "IS", text))
        for text in (b"1 ", b"2 ", b"3 ", b"4 ", b"5 ", b"\xff ", b"6 ", b"\xff ", b"\xfe ")
    ]
    assert not recalled_of(files)[5]
    taker = Taker()
    assert [len(taker.take(data).problems) for data in files] == [0, 0, 0, 0, 0, 1, 0, 1, 1]


@willing
def test_text_is_read_in_the_character_set_of_its_file() -> None:
    names = (b"G\xfcnther ", b"G\xfcnter", b"Bj\xf6rn^")
    files = [
        file_of(element(0x00080005, "CS", charset), UID, element(0x00100010, "PN", name))
        for charset in ("ISO_IR 100", "ISO_IR 144", "ISO_IR 100")
        for name in (*names, *names)
    ]
    assert sum(recalled_of(files)) > 9


@willing
@pytest.mark.parametrize("other", [b"ISO_IR 144", b"ISO_IR 144\0\0"], ids=["valid", "padded"])
def test_a_character_set_is_that_of_its_file(other: bytes) -> None:
    """Also one that is not written as it ought to be."""
    first = b"ISO_IR 100" + bytes(len(other) - 10)
    files = [
        file_of(
            element(0x00080000, "UL", 8 + len(first)),
            element(0x00080005, "CS", charset),
            element(0x00100010, "PN", b"Bj\xf6rn%d " % number),
        )
        for number, charset in enumerate([first] * 6 + [other] * 6 + [first, other])
    ]
    recalled_of(files)


@willing
def test_group_lengths_are_right_or_wrong_in_their_file() -> None:
    """The same bytes: right in one file, and wrong in the next."""

    def of(length: int, text: str) -> bytes:
        return file_of(*STUDY, element(0x00200000, "UL", length), element(0x00200013, "IS", text))

    wrong = [of(12, f"10000{number}") for number in range(6)]
    right = [of(12, f"100{number}") for number in range(6)]
    assert not recalled_of([*wrong, *right])[6]
    assert not recalled_of([*right, *wrong])[6]
    assert recalled_of(right)[5]


@willing
def test_what_a_data_set_begins_with_says_how_it_was_written() -> None:
    """An implicit length may be two capital letters; so it looks explicit."""
    meta = make.file_meta(make.IMPLICIT, sop_instance="1.2.3")
    sizes = (20, 30, 40, 50, 60, 0x4242, 0x4442)
    data_sets = [element(0x00080018, "UI", b"1" * size, explicit=False) for size in sizes]
    recalled = recalled_of([part10(meta, each) for each in data_sets], max_inline=1 << 16)
    assert not any(recalled[5:])
    # and so of a command set, which stands before the data set
    behind = element(0x00080005, "CS", "ISO_IR 100", explicit=False)
    commands = [element(0x00000002, "UI", b"1" * size, explicit=False) for size in sizes]
    recalled = recalled_of([part10(meta, each + behind) for each in commands], max_inline=1 << 16)
    assert not any(recalled[5:])


@willing
def test_large_values_in_sequences_have_their_places() -> None:
    """In such as stand in all files, and in such as change with the file."""
    inner = element(0x00091010, "OB", bytes(300))
    icons = [
        element(0x00880200, "SQ", item(inner + element(0x00280010, "US", rows)), undefined=True)
        for rows in (1, 2)
    ]
    behind = element(0x00880904, "LO", "topic")
    for these in ([icons[0]] * 8, [icons[0], icons[1]] * 4, [icons[0]] * 4 + [icons[1]] * 4):
        files = [
            file_of(*STUDY, element(0x00200013, "IS", "1" * (2 + 2 * number)), each, behind)
            for number, each in enumerate(these)
        ]
        recalled_of(files)


@willing
def test_elements_that_come_again_keep_their_names() -> None:
    files = [
        file_of(*STUDY, *(element(0x00200013, "IS", str(number + more)) for more in (10, 20)))
        for number in range(8)
    ]
    recalled_of(files)


@willing
@pytest.mark.parametrize(
    "front",
    [
        (element(0x00080000, "UL", 20), element(0x00080005, "CS", "ISO_IR 999  ")),
        (element(0x00080008, "CS", "ORIGINAL"), UID, element(0x00081030, "LO", b"\xff ")),
    ],
    ids=["character set", "value"],
)
def test_a_problem_of_all_files_is_told_of_each(front: tuple[bytes, ...]) -> None:
    files = [file_of(*front, element(0x00200013, "IS", str(number))) for number in range(10, 18)]
    assert all(Taker().take(data).problems for data in files)
    recalled_of(files)


@willing
def test_what_an_element_is_may_depend_on_what_is_behind_it() -> None:
    """So that the same bytes are another element in another file."""
    stranger = b"\x09\0\x01\0" + struct.pack("<I", 28)
    sequence = b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff" + stranger + b"\x08\0\x55\x11UI\x14\0"
    files = [
        file_of(
            *STUDY[:2], sequence + DELIMITER, element(0x00204000, "LT", bytes(4) + behind + b"text")
        )
        for behind in (b"an" * 8, ITEM + bytes(4) + DELIMITER)
    ]
    recalled_of(files[at] for at in (0, 0, 0, 1, 1, 1, 1, 0, 0, 1, 0, 1, 0, 1))


def shapes() -> list[list[bytes]]:
    """Files of some shapes, a few of each: those that follow are like them, but for a byte."""
    fragments = make.encapsulated(make.encapsulate([[b"ab" * 3], [b"cd" * 2]]))
    rows = [element(0x00200013, "IS", str(number)) for number in range(10, 14)]
    names = element(0x00081140, "SQ", item(UID), undefined=True)
    explicit = [
        [file_of(*STUDY, row, behind, element(0x00400253, "SH", "last")) for row in rows]
        for behind in (element(0x7FE00010, "OW", bytes(20)), fragments, names)
    ]
    kind, pixels = (
        element(tag, "", value, explicit=False)
        for tag, value in ((0x00080008, b"AB"), (0x7FE00010, bytes(20)))
    )
    uids = [element(0x00080018, "", b"1.2.%d\0" % n, explicit=False) for n in range(3, 7)]
    return [*explicit, [file_of(kind, uid, pixels, syntax=make.IMPLICIT) for uid in uids]]


@willing
@pytest.mark.parametrize("files", shapes(), ids=["native", "encapsulated", "items", "implicit"])
def test_a_file_may_end_anywhere_and_have_any_byte(files: list[bytes]) -> None:
    data = files[-1]
    for at in range(132, len(data)):
        for other in (data[:at], data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]):
            taker = Taker(max_inline=16)
            for before in (*files, *files):
                taker.take(before)
            assert told(taker.take(other)) == told(Taker(max_inline=16).take(other))


@willing
def test_what_was_recalled_stays_as_it_is() -> None:
    taker = Taker()
    files = series()
    records = [taker.take(data) for data in files]
    assert [*map(told, records)] == [told(Taker().take(data)) for data in files]


@willing
@pytest.mark.parametrize(
    "usual",
    [
        lambda data: b"II*\0" * 32 + data[128:],
        lambda data: data[132:],
        lambda data: data + bytes(20),
        lambda data: data + b"something",
    ],
    ids=["preamble", "no preamble", "padded", "trailing"],
)
def test_what_stands_around_is_decoded(usual: Any) -> None:
    files = series()
    assert not any(recalled_of(map(usual, files)))
    mixed = [usual(data) if number % 5 == 4 else data for number, data in enumerate(files)]
    assert any(recalled_of(mixed))


@willing
def test_what_stands_beside_a_value_is_that_of_its_file() -> None:
    """One layout, but bytes that are in no value: in a transfer syntax, say."""
    files = []
    for number in range(24):
        syntax = b"1.2.840.10008.1.2.1" + (b"\0" if number % 12 < 6 else b" ")
        content = element(0x00020001, "OB", b"\0\1") + element(0x00020010, "UI", syntax)
        meta = element(0x00020000, "UL", len(content)) + content
        row = element(0x00200013, "IS", str(number))
        files.append(part10(meta, b"".join((*STUDY, row))))
    assert any(recalled_of(files))


@willing
@pytest.mark.parametrize("by_offset", [False, True])
def test_large_values_may_come_where_there_were_short_ones(by_offset: bool) -> None:
    """In items, which have the same layout; and in private creators, which have another limit."""
    for sizes in ([200] * 6 + [300] * 6, [200, 202] * 3 + [300, 302] * 3):
        files = [
            file_of(
                *STUDY,
                element(0x00200013, "IS", str(number)),
                element(
                    0x00880200, "SQ", item(element(0x00091010, "OB", bytes(size))), undefined=True
                ),
            )
            for number, size in enumerate(sizes)
        ]
        recalled_of(files, by_offset=by_offset)
    files = [
        file_of(*STUDY[:3], element(0x00090010, "UN", b"A" * size))
        for size in (20, 22, 24, 26, 28, 70_000, 70_002)
    ]
    assert not any(recalled_of(files, max_inline=1 << 20, by_offset=by_offset)[5:])


@willing
def test_group_lengths_may_lack_the_vr_that_others_have() -> None:
    for length in (12, 14):
        files = [
            file_of(
                *STUDY,
                element(0x00200000, "UL", struct.pack("<I", length), explicit=False),
                element(0x00200013, "IS", f"{number}".zfill(size)),
            )
            for size in (6, 4)
            for number in range(6)
        ]
        recalled_of(files)


@willing
def test_what_is_behind_it_tells_whether_there_is_a_command_set() -> None:
    meta = make.file_meta(make.IMPLICIT, sop_instance="1.2.3")
    commands = [(0x00000002, "1.2 "), (0x00000600, "A ")]
    front = b"".join(element(tag, "", text, explicit=False) for tag, text in commands)
    files = [
        part10(meta, front + element(0x00091010, "OB", bytes(size), explicit=False))
        for size in (300, 400, 500, 600, 0x4242)
    ]
    assert not recalled_of(files)[4]


@willing
def test_values_of_undefined_length_are_followed_as_in_one_file() -> None:
    """How far a reader follows items has a bound for the file; two values may use it up.

    Then a third one ends at the first delimiter, though that is inside of an item.
    """
    items = item() * 3000
    inner = item(DELIMITER + b"x" * 300)

    def of(*leads: int) -> bytes:
        """A file of two values that lead so far on, and of the third one."""
        values = [
            element(0x00091010 + at, "UT", item(length=lead) + b"z" * 300, undefined=True)
            for at, lead in enumerate(leads)
        ]
        third = element(0x00091030, "UT", inner, undefined=True)
        pixels = element(0x7FE00010, "OW", items)
        return file_of(*STUDY, *values, third, pixels, element(0xFFFCFFFC, "OB", b"12"))

    usual = of(0, 0)
    # from the end of the item of each value to the first of those in the pixel data
    into = len(usual) - len(items) - 14
    ends = [usual.index(b"zzz"), usual.index(b"zzz", usual.index(b"zzz") + 300)]
    leading = of(*(into - end for end in ends))
    assert read(leading).problems
    assert not read(usual).problems
    assert not any(recalled_of([usual] * 6 + [leading] * 4))


@willing
def test_a_shape_that_is_guessed_wrongly_is_given_up() -> None:
    """What differs is one of the elements that are taken to be as they were."""
    taker = Taker()
    with mock.patch.object(
        Checker, "is_exact", side_effect=Checker.is_exact, autospec=True
    ) as asked:
        for number in range(40):
            sequence = element(
                0x00082112, "SQ", item(element(0x00081155, "UI", f"1.{number}")), undefined=True
            )
            taker.take(file_of(*STUDY, sequence, PIXELS))
    assert 1 <= asked.call_count <= 4


@willing
def test_items_in_the_place_of_a_large_value_are_decoded() -> None:
    """What has one header may be a value, or a row of items."""
    row = item(element(0x00100010, "LO", "a" * 284))
    values = (bytes(300), bytes(300), bytes(300), row, bytes(300), row, row, row)
    files = [file_of(*STUDY, element(0x00291010, "UN", value)) for value in values]
    recalled_of(files)


@willing
def test_no_more_is_remembered_than_there_is_room_for() -> None:
    with mock.patch("dicomstudy.record.decoder._MAX_WEIGHT", 20_000):
        taker = Taker()
        for number in range(3000):
            taker.take(file_of(*STUDY, element(0x00200013, "IS", str(number))))
            memos = taker.decoder._elements._memos.values()
            assert sum(len(some) for memo in memos for some in memo.ordinary.values()) < 400
    with mock.patch("dicomstudy.record.decoder._MAX_WEIGHT", 60_000):
        reader, decoder = Reader(), Decoder(DEFINITIONS)
        for number in range(3000):
            data = file_of(*STUDY, element(0x00200013, "IS", str(number % 200)))
            if not number % 200:
                reader = Reader()
            decoder.decode(reader.read(data), data)
            assert sum(len(memo.runs) for memo in decoder._elements._memos.values()) < 1500
