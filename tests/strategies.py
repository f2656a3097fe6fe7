"""Hypothesis strategies of data sets and files, written by a builder of the tests' own."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias, cast

from hypothesis import strategies as st

from dicomstudy import definitions
from dicomstudy.elements import LONG_VRS, NUMBER_FORMATS, TEXT_VRS
from fixtures import make

DEFINITIONS = definitions.load()
UNDEFINED = 0xFFFFFFFF

#: (explicit, big), and the transfer syntax of each.
SYNTAXES = {
    (False, False): make.IMPLICIT,
    (True, False): make.EXPLICIT,
    (True, True): make.BIG_ENDIAN,
}


class Node(NamedTuple):
    """An element to be: bytes, numbers, or items, each with whether its length is undefined."""

    tag: int
    vr: str
    value: bytes | tuple[float, ...] | tuple[tuple[Tree, bool], ...]
    undefined: bool = False
    reserved: bytes = b"\0\0"
    length: int | None = None


Tree: TypeAlias = "tuple[Node, ...]"


def encode(tree: Iterable[Node], *, explicit: bool, big: bool) -> bytes:
    """The bytes of a data set."""
    return b"".join(_encode(node, explicit=explicit, big=big) for node in tree)


def _encode(node: Node, *, explicit: bool, big: bool) -> bytes:
    tag, vr, value, undefined, reserved, length = node
    if vr == "SQ" and not isinstance(value, bytes):
        items = cast("tuple[tuple[Tree, bool], ...]", value)
        raw = b"".join(
            make.item(encode(inner, explicit=explicit, big=big), big=big, undefined=open_)
            for inner, open_ in items
        )
    else:
        raw = make._packed(vr, value, big=big)  # type: ignore[arg-type]
    if explicit and vr not in LONG_VRS:
        length = None if length is None else length & 0xFFFF
    return make.element(
        tag, vr, raw, explicit=explicit, big=big, reserved=reserved, length=length,
        undefined=undefined and (vr in LONG_VRS or not explicit),
    )  # fmt: skip


def part10(
    tree: Iterable[Node],
    *,
    explicit: bool,
    big: bool,
    deflated: bool = False,
    preamble: bytes = bytes(128),
    tail: bytes = b"",
) -> bytes:
    """A whole file; `deflated` only counts where it is explicit and little endian."""
    syntax, data_set = SYNTAXES[explicit, big], encode(tree, explicit=explicit, big=big) + tail
    if deflated and syntax == make.EXPLICIT:
        syntax, data_set = make.DEFLATED, make.deflated(data_set)
    return make.part10(make.file_meta(syntax, sop_instance="1.2.3"), data_set, preamble=preamble)


def tags_by_vr() -> dict[str, list[int]]:
    """Some tags of each VR, the first and the last of the dictionary, none of them pixel data."""
    found: dict[str, list[int]] = {}
    for tag in sorted(DEFINITIONS._rows):
        if 0x00080010 < tag < 0x7FE00000 and tag & 0xFFFF:
            found.setdefault(DEFINITIONS.vr(tag), []).append(tag)
    return {vr: tags[:3] + tags[-3:] for vr, tags in found.items() if len(vr) == 2}


TAGS = tags_by_vr()
LEAF_VRS = sorted(TAGS.keys() - {"SQ"})
PRIVATE_TAGS = [0x00091001, 0x00091002, 0x00111020, 0x01F11F01, 0x7FE11010]

_PRINTED = st.text(st.characters(codec="latin-1"), max_size=24)
_PADDING = st.sampled_from(["", " ", "\0", "  ", "\0\0"])


def _number(letter: str) -> st.SearchStrategy[float]:
    if letter in "fd":
        return st.floats(width=32 if letter == "f" else 64)
    bits = 8 * struct.calcsize("<" + letter)
    if letter.islower():
        return st.integers(-(1 << bits - 1), (1 << bits - 1) - 1)
    return st.integers(0, (1 << bits) - 1)


@st.composite
def values(draw: st.DrawFn, vr: str) -> bytes | tuple[float, ...]:
    """A value that fits its VR; text in Latin-1, padded in one way or another."""
    if vr in TEXT_VRS:
        return (draw(_PRINTED) + draw(_PADDING)).encode("latin-1")
    if vr == "AT":
        return tuple(draw(st.lists(st.integers(0, 0xFFFFFFFF), max_size=3)))
    if vr in NUMBER_FORMATS:
        return tuple(draw(st.lists(_number(NUMBER_FORMATS[vr]), max_size=4)))
    if vr in make.NUMBERS:
        return tuple(draw(st.lists(_number(make.NUMBERS[vr]), max_size=6)))
    return draw(st.binary(max_size=40))


@st.composite
def leaves(draw: st.DrawFn) -> Node:
    """A regular element without items."""
    vr = draw(st.sampled_from(LEAF_VRS))
    creators = [0x00090010] if vr == "LO" else []
    tag = draw(st.sampled_from(TAGS[vr] * 3 + PRIVATE_TAGS + creators))
    return Node(tag, vr, draw(values(vr)))


@st.composite
def wild_leaves(draw: st.DrawFn) -> Node:
    """An element that breaks a rule: a VR of another tag, any bytes, other lengths."""
    vr = draw(st.sampled_from([*LEAF_VRS, "UN", "SQ", "ZZ", "OB"]))
    tag = draw(st.sampled_from([t for tags in TAGS.values() for t in tags] + PRIVATE_TAGS))
    size = st.one_of(st.none(), st.none(), st.integers(0, 300), st.just(UNDEFINED))
    return Node(
        draw(st.one_of(st.just(tag), st.integers(0, 0xFFFFFFFF), st.just(tag & 0xFFFF0000))),
        vr,
        draw(st.binary(max_size=300)),
        draw(st.booleans()),
        draw(st.sampled_from([b"\0\0", b"\0\0", b"ab"])),
        draw(size),
    )


@st.composite
def sequences(draw: st.DrawFn, inner: st.SearchStrategy[Tree]) -> Node:
    """A sequence of a few items."""
    tag = draw(st.sampled_from([*TAGS["SQ"], 0x00091003]))
    items = draw(st.lists(st.tuples(inner, st.booleans()), max_size=3))
    return Node(tag, "SQ", tuple(items), draw(st.booleans()))


def _rows(node: st.SearchStrategy[Node], size: int) -> st.SearchStrategy[Tree]:
    nodes = st.lists(node, max_size=size, unique_by=lambda each: each.tag)
    return nodes.map(lambda found: tuple(sorted(found, key=lambda each: each.tag)))


def trees(*, wild: bool = False) -> st.SearchStrategy[Tree]:
    """Data sets, nested up to three deep.

    Args:
        wild: elements may break rules, come in any order and more than once.
    """
    leaf = st.one_of(leaves(), leaves(), wild_leaves()) if wild else leaves()
    row = _rows(leaf, 6)
    for _ in range(2):
        node = st.one_of(leaf, leaf, sequences(row))
        row = _rows(node, 8)
        if wild:
            row = st.one_of(row, st.lists(node, max_size=8).map(tuple))
    return row


def wild_files() -> st.SearchStrategy[bytes]:
    """Files in all syntaxes, right and wrong ones."""
    return st.builds(
        lambda tree, syntax, **more: part10(tree, explicit=syntax[0], big=syntax[1], **more),
        trees(wild=True),
        st.sampled_from(sorted(SYNTAXES)),
        deflated=st.sampled_from([False, False, False, True]),
        preamble=st.sampled_from([bytes(128), bytes(128), b"II*\0" * 32]),
        tail=st.sampled_from([b"", b"", bytes(3), bytes(40), b"garbage"]),
    )


@st.composite
def neighbours(draw: st.DrawFn) -> list[bytes]:
    """Files that are much alike, the first one often again: what readers and decoders remember."""
    tree, syntax = draw(trees(wild=True)), draw(st.sampled_from(sorted(SYNTAXES)))
    first = part10(tree, explicit=syntax[0], big=syntax[1])
    kinds = [first, part10(tree, explicit=True, big=False, deflated=True)]
    for _ in range(draw(st.integers(1, 3))):
        base = draw(st.sampled_from(kinds))
        at = draw(st.integers(min(132, len(base)), len(base)))
        gone = min(draw(st.integers(0, 8)), len(base) - at)
        size = gone if draw(st.booleans()) else draw(st.integers(0, 8))
        kinds.append(base[:at] + draw(st.binary(min_size=size, max_size=size)) + base[at + gone :])
    order = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=12))
    return [first, *order]
