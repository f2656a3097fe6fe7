"""Layouts are written as text and read from it (spec/layout.md)."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dicomstudy import layout
from dicomstudy.elements import LONG_VRS, SHORT_VRS, Form
from dicomstudy.errors import RecordError
from dicomstudy.layout import ItemLayout, Token, format_item, format_token, parse
from dicomstudy.p10 import read
from dicomstudy.record import Decoder
from tests.samples import fixture_files, refusing
from tests.strategies import DEFINITIONS


def text_of(tokens: tuple[Token, ...]) -> str:
    """The layout of tokens: what `parse` is the mirror of."""
    return " ".join(map(_text, tokens))


def _text(token: Token) -> str:
    items = [
        format_item(
            [_text(each) for each in item.tokens],
            undefined=item.undefined,
            endless=item.endless,
            tag=item.tag,
        )
        for item in token.items or ()
    ]
    return format_token(token, items)


@st.composite
def tokens(draw: st.DrawFn, inner: st.SearchStrategy[tuple[ItemLayout, ...]] | None) -> Token:
    """Any token that a file may have."""
    tag = draw(st.integers(0, 0xFFFFFFFF))
    vr = draw(st.sampled_from(["", *sorted(SHORT_VRS | LONG_VRS)]))
    reserved = draw(st.sampled_from([0, 0, 1, 0xFFFF])) if vr in LONG_VRS else 0
    occurrence = draw(st.integers(0, 3))
    if inner is not None and draw(st.booleans()):
        undefined, delimited = draw(st.sampled_from([(False, False), (True, False), (False, True)]))
        return Token(
            tag, vr, reserved=reserved, occurrence=occurrence, items=draw(inner),
            undefined=undefined, delimited=delimited,
        )  # fmt: skip
    forms = [Form.DEFINED, Form.UNDEFINED, Form.DELIMITED, Form.DECLARED]
    form = draw(st.sampled_from(forms if tag & 0xFFFF else [*forms, Form.GROUP_LENGTH]))
    declared = draw(st.integers(1, 0xFFFFFFFE)) if form is Form.DECLARED else 0
    if form is Form.DELIMITED:
        declared = draw(st.sampled_from([0, 1, 0xFFFFFFFF]))
    if form is Form.GROUP_LENGTH:
        occurrence = 0  # right group lengths have no value that needs a name
    space = form is Form.DEFINED and draw(st.booleans())
    return Token(tag, vr, form, declared, reserved, occurrence, space)


def rows() -> st.SearchStrategy[tuple[Token, ...]]:
    """Layouts of three levels."""
    row: st.SearchStrategy[tuple[Token, ...]] = st.lists(tokens(None), max_size=3).map(tuple)
    for _ in range(2):
        tag = st.integers(0, 0xFFFFFFFF).filter(lambda tag: tag not in {0xFFFEE000, 0xFFFEE0DD})
        lengths = st.sampled_from([(False, False), (True, False), (True, True)])
        item = st.one_of(
            st.tuples(row, lengths).map(lambda given: ItemLayout(given[0], *given[1])),
            tag.map(lambda tag: ItemLayout((), False, tag=tag)),
        )
        row = st.lists(tokens(st.lists(item, max_size=3).map(tuple)), max_size=4).map(tuple)
    return row


@given(rows())
def test_what_is_written_is_read(row: tuple[Token, ...]) -> None:
    assert parse(text_of(row)) == row


@given(st.text("0123456789ABCDEF0OB=~$:#/^()[]<>{} ", max_size=40))
def test_what_is_read_is_written_so(text: str) -> None:
    """Any other text is refused: there is one text for a layout."""
    with refusing("record/layout"):
        assert text_of(parse(text)) == text


@given(rows(), st.randoms(use_true_random=False))
def test_what_is_changed_is_read_as_it_is_or_refused(
    row: tuple[Token, ...], chance: Random
) -> None:
    text = text_of(row)
    at = chance.randint(0, len(text))
    other = chance.choice("0#:~$=^/([{<>}]) A")
    changed = text[:at] + other + text[at + chance.randint(0, 1) :]
    with refusing("record/layout"):
        assert text_of(parse(changed)) == changed


def test_layouts_of_files_are_read() -> None:
    for name, data in fixture_files().items():
        encoding = Decoder(DEFINITIONS).decode(read(data), data).encoding
        for text in (encoding["meta"], encoding["dataSet"]):
            assert text_of(parse(text)) == text, name


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("00100010", Token(0x00100010, "")),
        ("00100010PN", Token(0x00100010, "PN")),
        ("00100010PN^", Token(0x00100010, "PN", space=True)),
        ("00100010PN#2", Token(0x00100010, "PN", occurrence=2)),
        ("00100000UL=", Token(0x00100000, "UL", Form.GROUP_LENGTH)),
        ("7FE00010OB~", Token(0x7FE00010, "OB", Form.UNDEFINED)),
        ("00420011OB$", Token(0x00420011, "OB", Form.DELIMITED)),
        ("00420011OB$4294967295", Token(0x00420011, "OB", Form.DELIMITED, 0xFFFFFFFF)),
        ("7FE00010OB:4294967294", Token(0x7FE00010, "OB", Form.DECLARED, 0xFFFFFFFE)),
        ("7FE00010OB/0102", Token(0x7FE00010, "OB", reserved=0x0102)),
        ("00081140SQ()", Token(0x00081140, "SQ", items=())),
        ("00081140SQ<>", Token(0x00081140, "SQ", items=(), undefined=True)),
        (
            "00081140SQ([]{00100010PN})",
            Token(
                0x00081140,
                "SQ",
                items=(
                    ItemLayout((), False),
                    ItemLayout((Token(0x00100010, "PN"),), True),
                ),
            ),
        ),
    ],
)
def test_the_grammar(text: str, token: Token) -> None:
    assert parse(text) == (token,)
    assert text_of((token,)) == text


@pytest.mark.parametrize(
    "text",
    [
        " ",
        "00100010 ",
        " 00100010",
        "00100010  00100020",
        "0010001",
        "0010001g",
        "00100010pn",
        "00100010P",
        "00100010PN#0",
        "00100010PN#01",
        "00100010PN/0001",
        "7FE00010OB/0000",
        "7FE00010/0001",
        "7FE00010OB:0",
        "7FE00010OB:4294967295",
        "7FE00010OB:4294967296",
        "7FE00010OB:",
        "00100010PN=",
        "00081140SQ(",
        "00081140SQ)",
        "00081140SQ<)",
        "00081140SQ(FFFEE000[])",
        "00081140SQ(FFFEE0DD[])",
        "00081140SQ(FFFEE00D{})",
        "00081140SQ(FFFEE00D[00100010])",
        "00081140SQ([}",
        "00081140SQ([)]",
        "00081140SQ~([])",
        "00081140SQ:5([])",
        "00081140SQ(00100010)",
    ],
)
def test_what_is_no_layout_is_refused(text: str) -> None:
    with pytest.raises(RecordError) as raised:
        parse(text)
    assert raised.value.code == "record/layout"


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("x", 0),
        ("00080005CS  00090010LO", 11),
        ("00080005CS 00090010LO=", 11),
        ("00080005CS 00090010LO/0001", 11),
        ("00080005CS 00090010LO:4294967296", 11),
        ("00081140SQ([00080005CS 00090010LO=])", 23),
    ],
)
def test_the_place_of_what_is_no_layout_is_said(text: str, at: int) -> None:
    with pytest.raises(RecordError, match=f"at character {at} "):
        parse(text)


def test_a_layout_nested_without_end_is_refused() -> None:
    with pytest.raises(RecordError, match="nested"):
        parse("00081140SQ([" * 100_000)
    deep = "00081140SQ([" * 90 + "])" * 90
    assert text_of(parse(deep)) == deep


@given(st.integers(1, 99), tokens(None).filter(lambda token: token.form is not Form.GROUP_LENGTH))
def test_an_occurrence_can_be_set_later(occurrence: int, token: Token) -> None:
    plain = token._replace(occurrence=0)
    assume(plain.form is not Form.GROUP_LENGTH)
    text = layout.with_occurrence(_text(plain), occurrence)
    assert parse(text) == (plain._replace(occurrence=occurrence),)
