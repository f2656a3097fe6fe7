"""Files become attributes and are written again from them, byte for byte (spec/record.md)."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterable
from hashlib import sha256
from itertools import permutations, takewhile
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomstudy.elements import PIXEL_DATA_TAGS
from dicomstudy.errors import RecordError
from dicomstudy.ion import ion_hash
from dicomstudy.p10 import Reader, read
from dicomstudy.record import Checker, Decoder, Encoder, Record, group_of
from fixtures import make
from fixtures.make import element, item
from tests import strategies
from tests.p10_files import file_of, often_learning
from tests.samples import (
    LONG,
    Taken,
    files_below,
    fixture_files,
    mutant,
    own_files,
    recorded,
    taken_apart,
)
from tests.strategies import DEFINITIONS

ENCODER = Encoder(DEFINITIONS)
INLINE = [0, 16, 256]
TIED_TO_ENCODING = {"TransferSyntaxUID", "FileMetaInformationGroupLength"}

META_KEYS = {
    key
    for key, attribute in (
        (key, DEFINITIONS.attribute(tag)) for key, tag in DEFINITIONS._tags.items()
    )
    if attribute is not None and attribute.tag >> 16 == 2
}

#: A decoder forgets every now and then what it remembers.
forgetful = mock.patch("dicomstudy.record.decoder._MAX_WEIGHT", 2000)


def fresh(data: bytes, max_inline: int = 256) -> Taken:
    """A file as a record, by a reader and a decoder that saw nothing before."""
    decoder = Decoder(DEFINITIONS, max_inline=max_inline)
    return recorded(data, Reader(max_inline=max_inline), decoder, ENCODER)


def record_of(*elements: bytes, max_inline: int = 256, syntax: str = make.EXPLICIT) -> Record:
    data = file_of(*elements, syntax=syntax)
    decoder = Decoder(DEFINITIONS, max_inline=max_inline)
    return decoder.decode(read(data, max_inline=max_inline), data)


def values_of(*elements: bytes, max_inline: int = 256) -> dict[str, Any]:
    """The attributes of a data set."""
    attributes = record_of(*elements, max_inline=max_inline).attributes()
    return {key: value for key, value in attributes.items() if key not in META_KEYS}


def assert_exact(files: Iterable[tuple[str, bytes]], *, max_inline: int) -> int:
    """One decoder decodes all files: each comes back, and is what a fresh one makes of it."""
    reader, decoder = Reader(max_inline=max_inline), Decoder(DEFINITIONS, max_inline=max_inline)
    count = 0
    for name, data in files:
        taken = recorded(data, reader, decoder, ENCODER)
        assert taken.segments == data, name
        assert taken.written == data, name
        assert repr(taken) == repr(fresh(data, max_inline)), name
        count += 1
    return count


# -- the law ---------------------------------------------------------------------------------


@pytest.mark.parametrize("max_inline", INLINE)
def test_own_files_come_back(max_inline: int) -> None:
    assert assert_exact(own_files(), max_inline=max_inline) > 380


def test_real_files_come_back(shared: Path) -> None:
    files = list(files_below([shared / "corpus"]))
    assert len(files) > 900
    assert assert_exact(files if LONG else files[::6], max_inline=256) > 150


@given(strategies.wild_files(), st.sampled_from(INLINE))
def test_any_data_set_comes_back(data: bytes, max_inline: int) -> None:
    taken = fresh(data, max_inline)
    assert taken.segments == data
    assert taken.written == data


@given(st.randoms(use_true_random=False), st.sampled_from(sorted(fixture_files())))
def test_mutants_come_back(chance: random.Random, name: str) -> None:
    data = mutant(fixture_files()[name], chance)
    taken = fresh(data)
    assert taken.segments == data
    assert taken.written == data


@often_learning
@forgetful
@given(strategies.neighbours(), st.sampled_from(INLINE))
def test_what_was_decoded_before_changes_nothing(files: list[bytes], max_inline: int) -> None:
    reader, decoder = Reader(max_inline=max_inline), Decoder(DEFINITIONS, max_inline=max_inline)
    for data in files:
        taken = recorded(data, reader, decoder, ENCODER)
        assert taken.segments == data
        assert taken.written == data
        assert repr(taken) == repr(fresh(data, max_inline))


@often_learning
@given(st.randoms(use_true_random=False), st.sampled_from(INLINE))
def test_mutated_neighbours_are_decoded_as_if_alone(chance: random.Random, max_inline: int) -> None:
    original = fixture_files()[chance.choice(sorted(fixture_files()))]
    reader, decoder = Reader(max_inline=max_inline), Decoder(DEFINITIONS, max_inline=max_inline)
    for _ in range(12):
        data = mutant(original, chance) if chance.random() < 0.4 else original
        assert repr(recorded(data, reader, decoder, ENCODER)) == repr(fresh(data, max_inline))


def row_of(elements: list[tuple[int, int, bytes]]) -> bytes:
    """A file of elements by group and number; the number 0 is a group length, right or wrong."""
    encoded = [element(group << 16 | number, "LO", value) for group, number, value in elements]
    for at, (group, number, value) in enumerate(elements):
        if number == 0:
            behind = zip(elements[at + 1 :], encoded[at + 1 :], strict=True)
            mine = takewhile(lambda other: other[0][0] == group, behind)  # noqa: B023 (used at once)
            length = sum(12 if other[1] == 0 else len(part) for other, part in mine) + len(value)
            encoded[at] = element(group << 16, "UL", length.to_bytes(4, "little"))
    return file_of(*encoded)


@often_learning
@mock.patch("dicomstudy.p10.reader.MAX_ELEMENTS", 12)
@given(
    st.lists(
        st.lists(
            st.tuples(
                st.sampled_from([0x8, 0x10, 0x12]),
                st.sampled_from([0, 0x20, 0x22]),
                st.sampled_from([b"", b"a ", b"\xff "]),
            ),
            max_size=8,
        ),
        min_size=2,
        max_size=8,
    )
)
def test_rows_are_read_as_if_alone(rows: list[list[tuple[int, int, bytes]]]) -> None:
    """Group lengths, repeated and unordered elements, flaws, too many: problems and all."""
    reader, decoder, checker = Reader(), Decoder(DEFINITIONS), Checker(ENCODER)
    for data in map(row_of, rows):
        file, alone = reader.read(data), read(data)
        assert taken_apart(file) == taken_apart(alone)
        record, expected = decoder.decode(file, data), Decoder(DEFINITIONS).decode(alone, data)
        assert record.attributes() == expected.attributes()
        assert record.encoding == expected.encoding
        assert list(record.problems) == list(expected.problems)
        assert checker.is_exact(record, data)


@given(strategies.wild_files())
def test_the_check_before_a_file_is_taken_in_finds_it_exact(data: bytes) -> None:
    record = Decoder(DEFINITIONS).decode(read(data), data)
    assert Checker(ENCODER).is_exact(record, data)


@given(strategies.wild_files(), st.integers(0, 1 << 20), st.integers(1, 255))
def test_the_check_finds_any_other_byte(data: bytes, at: int, change: int) -> None:
    record = Decoder(DEFINITIONS, max_inline=1 << 20).decode(read(data, max_inline=1 << 20), data)
    at %= len(data)
    other = data[:at] + bytes((data[at] ^ change,)) + data[at + 1 :]
    assert not Checker(ENCODER).is_exact(record, other)
    assert not Checker(ENCODER).is_exact(record, data + b"\0")
    assert not Checker(ENCODER).is_exact(record, data[:-1])


# -- values do not depend on how they were written ---------------------------------------------


@given(strategies.trees(), st.sampled_from(INLINE))
def test_values_do_not_depend_on_the_encoding(tree: strategies.Tree, max_inline: int) -> None:
    """Implicit, explicit and big endian: the same values, and so the same digests."""
    found = []
    for explicit, big in strategies.SYNTAXES:
        data = strategies.part10(tree, explicit=explicit, big=big)
        taken = fresh(data, max_inline)
        found.append(
            {
                name: {key: value for key, value in pairs if key not in TIED_TO_ENCODING}
                for name, pairs in taken.groups.items()
                if name != "raw"
            }
        )
    for one, other in permutations(found, 2):
        assert one.keys() == other.keys()
        for name in one:
            assert ion_hash(one[name]) == ion_hash(other[name])


def test_the_encodings_of_the_fixtures_have_equal_groups() -> None:
    names = ("implicit", "explicit", "deflated", "big")
    variants = [fresh(fixture_files()[f"encodings/{name}.dcm"]) for name in names]
    assert len({variant.encoding["dataSet"] for variant in variants}) == 2
    for name in variants[0].groups.keys() - {"raw", "", "imagePixel"}:
        assert len({repr(variant.groups[name]) for variant in variants}) == 1, name


def test_numbers_are_numbers() -> None:
    assert values_of(
        element(0x00280010, "US", 512),
        element(0x00280120, "SS", -2000),
        element(0x00189087, "FD", 0.5),
        element(0x00280009, "AT", (0x00181063, 0x00181065)),
    ) == {
        "Rows": 512,
        "PixelPaddingValue": b"\x30\xf8",  # "US or SS": the same however it was written
        "DiffusionBValue": 0.5,
        "FrameIncrementPointer": "00181063\\00181065",
    }


def test_text_is_trimmed_and_an_empty_value_is_none() -> None:
    attributes = values_of(
        element(0x00080060, "CS", b"MR"),
        element(0x00100010, "PN", b"A^B "),
        element(0x00100020, "LO", b""),
        element(0x00080018, "UI", b"1.2.3\0"),
    )
    assert attributes == {
        "Modality": "MR",
        "PatientName": "A^B",
        "PatientID": None,
        "SOPInstanceUID": "1.2.3",
    }


def test_text_is_decoded_by_the_character_set_of_its_data_set() -> None:
    name = element(0x00100010, "PN", "Ää".encode("latin-1"))
    latin = element(0x00080005, "CS", "ISO_IR 100")
    utf8 = element(0x00080005, "CS", "ISO_IR 192")
    other = element(0x00100010, "PN", "Öö".encode())
    attributes = values_of(latin, element(0x00081140, "SQ", item(utf8 + other)), name)
    assert attributes["PatientName"] == "Ää"
    assert attributes["ReferencedImageSequence"] == [
        {"SpecificCharacterSet": "ISO_IR 192", "PatientName": "Öö"}
    ]


# -- what is not in the values -----------------------------------------------------------------


def test_bytes_that_do_not_come_out_of_a_value_are_kept_beside_it() -> None:
    attributes = values_of(element(0x00100020, "LO", b"1   "), element(0x00280010, "US", b"\1"))
    assert attributes == {
        "PatientID": "1",
        "Rows": b"\1",
        "_raw.00100020": b"1   ",
    }


def test_one_space_before_a_text_is_in_the_layout() -> None:
    record = record_of(element(0x00100020, "LO", b" 1"), element(0x00200013, "IS", b" 12 "))
    assert record.attributes()["PatientID"] == "1"
    assert "raw" not in record.groups


def test_raw_bytes_are_named_by_the_path_of_their_element() -> None:
    inner = element(0x00100020, "LO", b"1\0\0\0")
    record = record_of(
        element(0x00081140, "SQ", item() + item(element(0x00081140, "SQ", item(inner))))
    )
    assert record.attributes()["_raw.00081140[1].00081140[0].00100020"] == b"1\0\0\0"


def test_of_repeated_elements_the_last_is_the_attribute() -> None:
    attributes = values_of(
        element(0x00100020, "LO", b"1 "),
        element(0x00100020, "LO", b"2\0\0\0"),
        element(0x00100020, "LO", b"3 "),
    )
    assert attributes == {
        "PatientID#1": "1",
        "PatientID#2": "2",
        "PatientID": "3",
        "_raw.00100020#2": b"2\0\0\0",
    }


@pytest.mark.parametrize("order", ["little", "big"])
def test_elements_of_the_data_set_replace_none_of_file_meta_information(order: str) -> None:
    """A big-endian data set may begin with them, all tags in their order."""
    big = order == "big"
    strays = [
        element(0x00020010, "UI", "1.2", big=big),
        element(0x00020012, "UI", "1.3", big=big),
        element(0x00020010, "UI", " 1.4", big=big),
        element(0x00020016, "AE", "stray", big=big),
    ]
    name = element(0x00100010, "PN", "A^B", big=big)
    rows = [[name, *strays], [*strays, name], [strays[3], name]]
    for row in rows if big else rows[:1]:
        syntax = make.BIG_ENDIAN if big else make.EXPLICIT
        meta = make.file_meta(syntax) + element(0x00020012, "UI", "1.5")
        taken = fresh(make.part10(meta, b"".join(row)))
        assert taken.segments == taken.written == make.part10(meta, b"".join(row))
        found = taken.attributes
        assert found["TransferSyntaxUID"] == syntax
        assert found["ImplementationClassUID"] == "1.5"
        assert found["ImplementationClassUID#1"] == make.uid("fixtures/make.py")
        assert "SourceApplicationEntityTitle" not in found
        assert found["SourceApplicationEntityTitle#1"] == "stray"
        if row is not rows[2]:
            assert [found[f"TransferSyntaxUID#{at}"] for at in (1, 2)] == ["1.2", "1.4"]
            assert found["ImplementationClassUID#2"] == "1.3"


def test_repeated_elements_of_an_item() -> None:
    twice = element(0x00100020, "LO", b"1 ") + element(0x00100020, "LO", b"2 ")
    assert values_of(element(0x00081140, "SQ", item(twice))) == {
        "ReferencedImageSequence": [{"PatientID#1": "1", "PatientID": "2"}]
    }


def test_raw_bytes_are_in_the_order_of_their_keys_whatever_was_read_before() -> None:
    """What came in each file so far is decoded apart from what did not."""

    def data(number: int, *between: bytes) -> bytes:
        return file_of(
            element(0x00080020, "DA", b"2024\0\0\0\0"),
            element(0x00200013, "IS", b"%d\0\0\0" % number),
            element(0x00280010, "US", 4),
            element(0x00400254, "LO", b"a\0\0\0"),
            *between,
            element(0x00400280, "ST", b"b\0\0\0"),
        )

    reader, decoder = Reader(), Decoder(DEFINITIONS)
    for number in range(8):
        between = [element(0x00400260, "SQ")] * (number % 2)
        file = data(number, *between)
        attributes = decoder.decode(reader.read(file), file).attributes()
        raw = [key for key in attributes if key.startswith("_raw.")]
        assert raw == [f"_raw.{tag}" for tag in ("00080020", "00200013", "00400254", "00400280")]


def test_a_preamble_and_what_trails_are_attributes() -> None:
    meta = make.file_meta(sop_instance="1.2.3")
    data = make.part10(meta, b"", preamble=b"II*\0" * 32, trailing=b"garbage")
    taken = fresh(data)
    assert taken.groups["raw"] == [("_preamble", b"II*\0" * 32), ("_trailing", b"garbage")]
    assert "raw" not in fresh(make.part10(meta, b"")).groups


def test_a_deflate_stream_is_an_attribute() -> None:
    name = element(0x00100010, "PN", b"A^B ")
    stream = make.deflated(name)
    attributes = fresh(file_of(stream, syntax=make.DEFLATED)).attributes
    assert attributes["_deflated"] == stream
    assert attributes["PatientName"] == "A^B"


def test_group_lengths_that_are_right_are_in_the_encoding_alone() -> None:
    name = element(0x00100010, "PN", b"A^B ")
    right, wrong = (element(0x00100000, "UL", length) for length in (12, 13))
    record = record_of(right, name)
    assert record.attributes().keys() == record_of(name).attributes().keys()
    assert record.encoding["dataSet"] == "00100000UL= 00100010PN"
    assert record_of(wrong, name).attributes()["00100000"] == 13


def test_files_written_alike_have_the_same_encoding() -> None:
    decoder, reader = Decoder(DEFINITIONS), Reader()
    encodings = {
        id(decoder.decode(reader.read(data), data).encoding) for _, data in make.study(50, series=2)
    }
    assert len(encodings) == 1


def test_sequences_nested_too_deeply_are_raw() -> None:
    for undefined in (False, True):
        data = file_of(make.nested(100, undefined=undefined, explicit=True))
        taken = fresh(data)
        assert taken.written == data
    deep = values_of(make.nested(100, undefined=False, explicit=True), max_inline=1 << 20)
    depth, value = 0, deep["ContentSequence"]
    while isinstance(value, list):
        depth, value = depth + 1, value[0]["ContentSequence"]
    assert depth == 64
    assert isinstance(value, bytes)


def test_sequences_in_one_another_have_so_many_bytes_together() -> None:
    """Each is taken out of the one around it: 1000 bytes in 10 would be 10,000 otherwise."""
    nested = element(0x00420011, "OB", bytes(1000))
    for _ in range(10):
        nested = element(0x0040A730, "SQ", item(nested))
    data = file_of(nested)
    with mock.patch("dicomstudy.record.element_decoder._MAX_AROUND", 4000):
        taken = fresh(data)
        assert taken.written == data
        record = record_of(nested, max_inline=1 << 20)
    (problem,) = record.problems
    path = "0040A730" + "[0].0040A730" * 3
    assert problem.code == "record/inexact"
    assert problem.message == (
        f"the items at {path} are too large with those around them; kept as bytes"
    )
    depth, value = 0, record.attributes()["ContentSequence"]
    while isinstance(value, list):
        depth, value = depth + 1, value[0]["ContentSequence"]
    assert (depth, type(value)) == (3, bytes)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize("undefined", [False, True])
def test_a_hundred_thousand_nested_sequences_come_back(*, explicit: bool, undefined: bool) -> None:
    deep = make.nested(100_000, undefined=undefined, explicit=explicit)
    name = element(0x00100010, "PN", b"A^B ", explicit=explicit)
    data = file_of(name, deep, syntax=make.EXPLICIT if explicit else make.IMPLICIT)
    taken = fresh(data)
    assert taken.attributes["PatientName"] == "A^B"
    assert taken.written == data


def test_values_that_were_recorded_with_their_delimiter_are_written_as_they_are() -> None:
    """The layout says so by `~`, where `$` names a delimiter that is no part of the value."""
    end = make.delimiter(0xFFFEE0DD)
    elements = (
        element(0x00082111, "UT", b"hello ", undefined=True),
        element(0x00280010, "US", 2, explicit=False, undefined=True),
        element(0x00420011, "OB", b"abcd", undefined=True),
    )
    attributes = {
        "DerivationDescription": "hello \xfe\xff\xdd\xe0",
        "_raw.00082111": b"hello " + end,
        "Rows": b"\2\0" + end,
        "EncapsulatedDocument": b"abcd" + end,
    }
    encoding = {**BARE, "dataSet": "00082111UT~ 00280010~ 00420011OB~"}
    written = ENCODER.write(attributes, encoding, nothing_large)
    assert written == [bytes(128) + b"DICM" + b"".join(elements)]


# -- large values ------------------------------------------------------------------------------


@pytest.mark.parametrize("big", [False, True])
def test_large_values_are_references(*, big: bool) -> None:
    """By the digest of their bytes in little-endian order, except for pixel data."""
    words = tuple(range(200))
    syntax = make.BIG_ENDIAN if big else make.EXPLICIT
    record = record_of(
        element(0x00281201, "OW", words, big=big),
        element(0x7FE00010, "OW", words, big=big),
        syntax=syntax,
    )
    little = element(0x00281201, "OW", words)[12:]
    pixels = element(0x7FE00010, "OW", words, big=big)[12:]
    attributes = record.attributes()
    red = attributes["RedPaletteColorLookupTableData"]
    assert red == {"length": 400, "sha256": sha256(little).hexdigest()}
    assert attributes["PixelData"] == {"length": 400, "sha256": sha256(pixels).hexdigest()}
    stored = {large.sha256: large.stored for large in record.large}
    assert (stored[red["sha256"]] is not None) is big


@pytest.mark.parametrize(
    ("max_inline", "references"), [(0, 4), (15, 4), (16, 3), (18, 2), (20, 1), (299, 1), (300, 0)]
)
def test_max_inline_is_the_longest_value_that_stays(max_inline: int, references: int) -> None:
    record = record_of(
        element(0x00080060, "CS", bytes(16)),
        element(0x00081030, "LO", b"x" * 18),
        element(0x00100020, "LO", b"x" * 20),
        element(0x00420011, "OB", bytes(300)),
        max_inline=max_inline,
    )
    wanted = ("Modality", "StudyDescription", "PatientID", "EncapsulatedDocument")
    attributes = record.attributes()
    assert sum(isinstance(attributes[key], dict) for key in wanted) == references


def test_what_other_values_are_read_by_stays() -> None:
    """Number of Frames and private creators; up to 65,536 bytes."""
    frames, creator = b"1".ljust(1 << 16), b"A creator".ljust(1 << 16)
    kept = values_of(
        element(0x00280008, "UT", frames), element(0x00290010, "UN", creator), max_inline=0
    )
    assert kept["NumberOfFrames"] == "1"
    assert kept["00290010"] == "A creator"
    large = values_of(
        element(0x00280008, "UT", frames + b"  "),
        element(0x00290010, "UN", creator + b"  "),
        max_inline=0,
    )
    assert large["NumberOfFrames"]["length"] == large["00290010"]["length"] == (1 << 16) + 2


def test_large_values_in_items_have_their_place_in_the_file() -> None:
    content = bytes(range(256)) * 2
    icon = element(0x00880200, "SQ", item(element(0x7FE00010, "OB", content), undefined=True))
    data = file_of(element(0x00080060, "CS", b"MR"), icon)
    record = Decoder(DEFINITIONS).decode(read(data), data)
    (large,) = record.large
    assert large.stored is None
    assert data[large.span.offset : sum(large.span)] == content
    assert record.attributes()["IconImageSequence"] == [
        {"PixelData": {"length": 512, "sha256": sha256(content).hexdigest()}}
    ]


def test_a_value_is_not_looked_for_in_the_header_before_it() -> None:
    """The zeros that its length ends in look like those that it begins with."""
    data = file_of(element(0x00081115, "SQ", bytes(512)))
    (large,) = Decoder(DEFINITIONS).decode(read(data), data).large
    assert large.span == (len(data) - 512, 512)


def test_pixel_data_may_be_recorded_by_offset() -> None:
    data = file_of(element(0x00281201, "OW", bytes(400)), element(0x7FE00010, "OW", bytes(400)))
    record = Decoder(DEFINITIONS, by_offset=True).decode(read(data), data)
    attributes = record.attributes()
    assert attributes["PixelData"] == {"dataOffset": len(data) - 400, "length": 400}
    assert attributes["RedPaletteColorLookupTableData"].keys() == {"length", "sha256"}
    assert [large.sha256 is None for large in record.large] == [False, True]


@given(strategies.wild_files(), st.booleans())
def test_places_of_large_values_hold_their_bytes(data: bytes, by_offset: bool) -> None:
    decoder = Decoder(DEFINITIONS, max_inline=16, by_offset=by_offset)
    record = decoder.decode(read(data, max_inline=16), data)
    for large in record.large:
        content = large.stored
        if content is None:
            content = data[large.span.offset : sum(large.span)]
        assert len(content) == large.span.length
        assert not large.inside
        if large.sha256 is None:
            assert by_offset
        else:
            assert sha256(content).hexdigest() == large.sha256


@often_learning
@given(strategies.neighbours(), st.booleans())
def test_places_do_not_depend_on_what_was_decoded_before(
    files: list[bytes], by_offset: bool
) -> None:
    reader = Reader(max_inline=16)
    decoder = Decoder(DEFINITIONS, max_inline=16, by_offset=by_offset)
    for data in files:
        found = decoder.decode(reader.read(data), data)
        alone = Decoder(DEFINITIONS, max_inline=16, by_offset=by_offset).decode(
            read(data, max_inline=16), data
        )
        assert sorted(map(repr, found.large)) == sorted(map(repr, alone.large))
        assert found.attributes() == alone.attributes()


def test_problems_come_in_the_order_of_the_file() -> None:
    """Those of runs that files have in common too."""
    reader, decoder = Reader(), Decoder(DEFINITIONS)
    for number in range(12):
        rows = [(0x10, 0x20, b"\xff "), (0x10, 0x22, b"a "), (0x12, 0x20, b"\xff%d" % number)]
        data = row_of(rows)
        problems = decoder.decode(reader.read(data), data).problems
        assert [problem.tag for problem in problems] == ["00100020", "00120020"]


def test_fragments_are_not_remembered() -> None:
    """Of pixel data that is recorded by its offset: no other file has them."""
    data = file_of(make.encapsulated(make.encapsulate([[bytes(2)] * 2000])))
    reader, decoder = Reader(), Decoder(DEFINITIONS, by_offset=True)
    decoder.decode(reader.read(data), data)
    tracemalloc.start()
    try:
        for _ in range(20):
            decoder.decode(reader.read(data), data)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1 << 20


def test_a_group_may_end_inside_a_run() -> None:
    """Its length counts the first elements of a run that goes on with another group."""
    reader, decoder = Reader(), Decoder(DEFINITIONS)
    for number in range(12):
        uid = f"1.{number:04}" if number > 2 else f"1.{7 * number}"
        group = element(0x00080018, "UI", uid) + element(0x00080060, "CS", "MR")
        data = file_of(element(0x00080000, "UL", len(group)), group, element(0x00100010, "PN", "A"))
        assert recorded(data, reader, decoder, ENCODER).segments == data


def test_fragments_are_counted_in_the_reference() -> None:
    value = make.encapsulate([[bytes(300)], [bytes(20), bytes(4)]])
    reference = record_of(make.encapsulated(value)).attributes()["PixelData"]
    assert reference["fragments"] == [8, 300, 20, 4]
    assert reference["length"] == len(value)


# -- attributes and groups ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "group"),
    [
        ("PatientName", "patient"),
        ("SOPInstanceUID", ""),
        ("PixelData", ""),
        ("00091001", "private"),
        ("_preamble", "raw"),
        ("_raw.00100010", "raw"),
        ("TransferSyntaxUID", "imagePixel"),
    ],
)
def test_each_attribute_has_its_group(key: str, group: str) -> None:
    assert group_of(key, DEFINITIONS) == group


def test_every_attribute_stands_in_one_group() -> None:
    for data in fixture_files().values():
        record = Decoder(DEFINITIONS).decode(read(data), data)
        keys = [attribute.key for group in record.groups.values() for attribute in group]
        assert len(keys) == len(set(keys))
        for name, group in record.groups.items():
            assert record.group(name) == group


# -- hostile attributes ------------------------------------------------------------------------


BARE = {"preamble": True, "byteOrder": "little", "meta": ""}


def nothing_large(_: object) -> bytes:
    raise AssertionError("there is no large value")


@pytest.mark.parametrize(
    "change",
    [
        {"encoding": {}},
        {"encoding": {**BARE, "dataSet": "00100010pn"}},
        {"encoding": {**BARE, "dataSet": None}},
        {"PatientName": 1.5},
        {"PatientName": ["A"]},
        {"ReferencedImageSequence": []},
        {"ReferencedImageSequence": [{}]},
        {"ReferencedImageSequence": "x"},
        {"ReferencedImageSequence": [{"ReferencedSOPInstanceUID": "1"}, {}]},
        {"Rows": -1},
        {"Rows": 1 << 16},
        {"drop": "Rows"},
    ],
)  # fmt: skip
def test_what_does_not_fit_its_encoding_is_refused(change: dict[str, Any]) -> None:
    record = record_of(
        element(0x00081140, "SQ", item(element(0x00081155, "UI", "1.2"))),
        element(0x00100010, "PN", b"A^B "),
        element(0x00280010, "US", 4),
    )
    attributes = record.attributes() | change
    encoding = attributes.pop("encoding", record.encoding)
    attributes.pop(attributes.pop("drop", ""), None)
    with pytest.raises(RecordError):
        ENCODER.write(attributes, encoding, nothing_large)


def test_pixel_data_is_never_turned_round() -> None:
    assert {0x7FE00008, 0x7FE00009, 0x7FE00010} == PIXEL_DATA_TAGS
