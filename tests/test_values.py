"""The bytes of a value and the value that documents hold (spec/values.md)."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dicomstudy import values
from dicomstudy.elements import LONG_VRS, NUMBER_FORMATS, SHORT_VRS, TEXT_VRS, WORD_SIZES
from dicomstudy.text import character_set
from dicomstudy.values import Context, Kind, Rules, decode, encode, recognise, swap
from fixtures import make
from tests import strategies
from tests.strategies import DEFINITIONS, TAGS

RULES = Rules(DEFINITIONS)
VRS = sorted((SHORT_VRS | LONG_VRS) - {"SQ"})
LITTLE, BIG = (Context(character_set(("ISO_IR 100",)), big) for big in (False, True))
CHARACTER_SETS = [
    (), ("ISO_IR 100",), ("ISO_IR 144",), ("ISO_IR 192",), ("GB18030",), ("GBK",), ("unknown",),
    ("", "ISO 2022 IR 87"), ("ISO 2022 IR 13", "ISO 2022 IR 87"), ("", "ISO 2022 IR 149"),
    ("", "ISO 2022 IR 58"), ("ISO 2022 IR 100", "ISO 2022 IR 126"),
]  # fmt: skip


def rule_of(vr: str) -> values.Rule:
    """The rule of an attribute that has this VR by the dictionary."""
    return RULES.rule(TAGS[vr][0], vr)


@st.composite
def contexts(draw: st.DrawFn) -> Context:
    return Context(character_set(draw(st.sampled_from(CHARACTER_SETS))), draw(st.booleans()))


@given(st.sampled_from(VRS), st.binary(max_size=40), contexts())
def test_bytes_come_back_or_their_value_does(vr: str, raw: bytes, context: Context) -> None:
    """Where bytes do not come back the caller keeps them; the value is the same with both."""
    rule = rule_of(vr)
    value = decode(raw, rule, context)
    canonical = encode(value, rule, context)
    if canonical is not None and canonical != raw:
        again = decode(canonical, rule, context)
        assert repr(again or None) == repr(value or None)  # padding alone is an empty text


@given(st.data(), st.sampled_from(VRS), st.booleans())
def test_regular_values_come_back(data: st.DataObject, vr: str, big: bool) -> None:
    value = data.draw(strategies.values(vr))
    raw = make._packed(vr, value, big=big)
    if vr in TEXT_VRS:
        raw = raw.strip(b" \0")
        assume(b"\x1b" not in raw)
        raw += (b"\0" if vr == "UI" else b" ") * (len(raw) % 2)
    context = BIG if big else LITTLE
    decoded = decode(raw, rule_of(vr), context)
    if isinstance(decoded, float) and math.isnan(decoded):
        return  # of all NaN, one comes back
    assert encode(decoded, rule_of(vr), context) == raw


@given(
    st.sampled_from(VRS),
    st.binary(max_size=40) | st.text(" \0aA1.\\^=ä\x1b", max_size=12).map(str.encode),
    contexts(),
)
def test_what_is_recognised_is_what_comes_back(vr: str, raw: bytes, context: Context) -> None:
    """`recognise` has a short way for plain text; it comes to what `decode` and `encode` do."""
    rule = rule_of(vr)
    value = decode(raw, rule, context)
    space = bool(rule.leading) and raw[:1] == b" " and isinstance(value, str)
    expected = (value, space) if encode(value, rule, context, space=space) == raw else None
    assert repr(recognise(raw, rule, context)) == repr(expected)


@given(st.data(), st.sampled_from(sorted(WORD_SIZES)))
def test_values_do_not_depend_on_the_byte_order(data: st.DataObject, vr: str) -> None:
    value = data.draw(strategies.values(vr))
    little, big = (make._packed(vr, value, big=big) for big in (False, True))
    assert repr(decode(little, rule_of(vr), LITTLE)) == repr(decode(big, rule_of(vr), BIG))


@pytest.mark.parametrize("vr", VRS)
def test_an_empty_value_is_none(vr: str) -> None:
    for context in (LITTLE, BIG):
        assert decode(b"", rule_of(vr), context) is None
        assert encode(None, rule_of(vr), context) == b""


@pytest.mark.parametrize("vr", sorted(NUMBER_FORMATS))
def test_one_number_is_a_number_and_several_are_bytes(vr: str) -> None:
    letter = NUMBER_FORMATS[vr]
    assert decode(struct.pack("<" + letter, 7), rule_of(vr), LITTLE) == 7
    assert decode(struct.pack(">" + letter, 7), rule_of(vr), BIG) == 7
    two = struct.pack(f"<2{letter}", 7, 8)
    assert decode(two, rule_of(vr), LITTLE) == two
    assert decode(struct.pack(f">2{letter}", 7, 8), rule_of(vr), BIG) == two
    assert decode(b"\1", rule_of(vr), LITTLE) == b"\1"


@pytest.mark.parametrize("vr", sorted(NUMBER_FORMATS))
def test_a_number_that_is_out_of_range_has_no_bytes(vr: str) -> None:
    for value in (1 << 64, -(1 << 64)):
        if NUMBER_FORMATS[vr] not in "fd":
            assert encode(value, rule_of(vr), LITTLE) is None
    assert encode(0.5, rule_of(vr), LITTLE) == (
        struct.pack("<" + NUMBER_FORMATS[vr], 0.5) if vr in {"FL", "FD"} else None
    )


@pytest.mark.parametrize(("vr", "bits"), [("FL", "7fc00001"), ("FD", "7ff8000000000005")])
def test_of_all_that_is_not_a_number_one_comes_back(vr: str, bits: str) -> None:
    """Documents have one NaN: the bytes of others stand beside it."""
    raw = bytes.fromhex(bits)[::-1]
    canonical = encode(decode(raw, rule_of(vr), LITTLE), rule_of(vr), LITTLE)
    assert canonical == struct.pack("<" + NUMBER_FORMATS[vr], math.nan)
    assert recognise(raw, rule_of(vr), LITTLE) is None
    assert repr(recognise(canonical, rule_of(vr), LITTLE)) == "(nan, False)"


def test_tags_are_hexadecimal() -> None:
    assert decode(b"\x18\0\x63\x10", rule_of("AT"), LITTLE) == "00181063"
    assert decode(b"\0\x18\x10\x63\0\x18\x10\x65", rule_of("AT"), BIG) == "00181063\\00181065"
    assert encode("00181063\\00181065", rule_of("AT"), BIG) == b"\0\x18\x10\x63\0\x18\x10\x65"
    assert encode("0018106g", rule_of("AT"), LITTLE) is None
    assert decode(b"\x18\0\x63", rule_of("AT"), LITTLE) == b"\x18\0\x63"


@pytest.mark.parametrize("vr", sorted(TEXT_VRS))
def test_text_is_trimmed_of_its_padding(vr: str) -> None:
    assert decode(b"a b \0 ", rule_of(vr), LITTLE) == "a b"
    padded = b"abc\0" if vr == "UI" else b"abc "
    assert encode("abc", rule_of(vr), LITTLE) == padded
    assert encode("ab", rule_of(vr), LITTLE) == b"ab"


def test_text_stays_text() -> None:
    """Decimal strings are no numbers: 1.0000 must come back."""
    assert decode(b"1.0000", rule_of("DS"), LITTLE) == "1.0000"
    assert decode(b"012\\ 3", rule_of("IS"), LITTLE) == "012\\ 3"


def test_text_that_is_none_in_its_character_set_is_decoded_somehow() -> None:
    context = Context(character_set(("ISO_IR 192",)), big=False)
    value = decode(b"\xff\xfe", rule_of("LO"), context)
    assert isinstance(value, str)
    assert encode(value, rule_of("LO"), context) != b"\xff\xfe"
    assert not values.is_valid(b"\xff\xfe", rule_of("LO"), context)
    assert values.is_valid("ä".encode(), rule_of("LO"), context)


def test_text_that_a_character_set_lacks_has_no_bytes() -> None:
    assert encode("Ω", rule_of("LO"), LITTLE) is None
    assert encode("ä", rule_of("LO"), LITTLE) == b"\xe4 "


# -- which rule --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "vr", "kind"),
    [
        (0x00100010, "PN", Kind.NAME),
        (0x00100010, "", Kind.NAME),
        (0x00100010, "UN", Kind.NAME),
        (0x00100010, "LO", Kind.TEXT),  # a wrong VR counts as it stands
        (0x00280010, "", Kind.NUMBER),
        (0x00280009, "AT", Kind.TAG),
        (0x00280120, "SS", Kind.BLOB),  # US or SS
        (0x00281201, "OW", Kind.BLOB),
        (0x00081140, "", Kind.ITEMS),
        (0x00091001, "LO", Kind.BLOB),  # private: nobody knows in implicit VR
        (0x00091001, "", Kind.ITEMS),  # a row of items, if it is one
        (0x00091001, "SQ", Kind.ITEMS),
        (0x00090010, "", Kind.TEXT),  # a private creator
        (0x00090010, "UN", Kind.TEXT),
        (0x00100000, "", Kind.NUMBER),  # a group length
        (0x7FE00010, "OW", Kind.BLOB),
        (0x00100010, "ZZ", Kind.BLOB),
    ],
)
def test_the_kind_of_a_value(tag: int, vr: str, kind: Kind) -> None:
    assert RULES.rule(tag, vr).kind is kind


@pytest.mark.parametrize("big", [False, True])
def test_pixel_data_is_as_it_was_written(*, big: bool) -> None:
    context = BIG if big else LITTLE
    assert decode(b"\1\2\3\4", RULES.rule(0x7FE00010, "OW"), context) == b"\1\2\3\4"


# -- byte order --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "vr", "word"),
    [
        (0x00280106, "", 2),  # US or SS
        (0x00283006, "", 2),  # US or OW
        (0x00280106, "UN", 1),
        (0x00280106, "US", 2),
        (0x54001010, "", 1),  # OB or OW
        (0x00091001, "UN", 1),
    ],
)
def test_words_are_those_of_the_vr_in_the_header_or_of_all_that_there_may_be(
    tag: int, vr: str, word: int
) -> None:
    assert RULES.rule(tag, vr).word == word


@given(st.binary(max_size=64), st.sampled_from([1, 2, 4, 8]))
def test_swapping_twice_changes_nothing(raw: bytes, word: int) -> None:
    assert swap(swap(raw, word), word) == raw


def test_words_are_swapped_and_other_bytes_are_not() -> None:
    assert swap(b"\1\2\3\4", 2) == b"\2\1\4\3"
    assert swap(b"\1\2\3\4", 4) == b"\4\3\2\1"
    assert swap(b"\1\2\3", 2) == b"\1\2\3"
