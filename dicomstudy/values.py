"""The bytes of one value ↔ the value that documents hold (PS3.5 section 6.2; spec/values.md).

The law: ``encode(decode(raw)) == raw``, or else the caller keeps `raw` beside the value.
Values do not depend on how they were written: text is trimmed of its padding and decoded to
Unicode, one number is a number, several are one little-endian blob, an empty value is None.
"""

from __future__ import annotations

import math
from enum import Enum
from functools import lru_cache
from struct import Struct
from struct import error as struct_error
from typing import NamedTuple

from dicomstudy import text
from dicomstudy.definitions import Definitions
from dicomstudy.elements import (
    CHARACTER_SET_TAG,
    NUMBER_FORMATS,
    PIXEL_DATA_TAGS,
    TEXT_VRS,
    WORD_SIZES,
    is_creator,
)
from dicomstudy.text import CharacterSet

__all__ = [
    "TEXT_KINDS",
    "Context",
    "Kind",
    "Rule",
    "Rules",
    "Scalar",
    "decode",
    "encode",
    "is_valid",
    "recognise",
    "rules_of",
    "swap",
]

#: A value of one element that has no items.
Scalar = None | int | float | str | bytes


class Kind(Enum):
    """What becomes of the bytes of a value."""

    TEXT = "text"
    NAME = "person name"
    NUMBER = "number"
    TAG = "tag"
    BLOB = "blob"
    ITEMS = "items"


#: The kinds whose bytes depend on the character set.
TEXT_KINDS = frozenset((Kind.TEXT, Kind.NAME))


class Context(NamedTuple):
    """What the bytes of a value mean depends on: character set and byte order."""

    charset: CharacterSet
    big: bool


class Rule(NamedTuple):
    """How values are decoded and encoded back.

    `little` and `big` are the formats of one number, `word` the bytes that change places in
    big endian; of text, `padding` makes its length even, `multi` says whether a backslash
    separates values, and `leading` are the bytes that mean nothing at its start.
    """

    kind: Kind
    little: Struct | None
    big: Struct | None
    word: int
    padding: bytes
    multi: bool = True
    leading: bytes = b""


#: An attribute whose VR is the same everywhere: rules for others follow the VR in the header.
_ANY_TAG = CHARACTER_SET_TAG
#: Rules that are remembered, each for a tag and a VR.
_MOST_RULES = 1 << 14
_BLOB = Rule(Kind.BLOB, None, None, 1, b"")
_BY_VR: dict[str, Rule] = {
    **{vr: Rule(Kind.TEXT, None, None, 1, b" ", leading=b" ") for vr in TEXT_VRS},
    **{vr: Rule(Kind.TEXT, None, None, 1, b" ", multi=False) for vr in ("LT", "ST", "UT")},
    "UC": Rule(Kind.TEXT, None, None, 1, b" "),
    "UR": Rule(Kind.TEXT, None, None, 1, b" ", multi=False, leading=b" "),
    "UI": Rule(Kind.TEXT, None, None, 1, b"\0", leading=b" "),
    "PN": Rule(Kind.NAME, None, None, 1, b" ", leading=b" "),
    "AT": Rule(Kind.TAG, None, None, 2, b""),
    "SQ": Rule(Kind.ITEMS, None, None, 1, b""),
    **{
        vr: Rule(Kind.NUMBER, Struct("<" + letter), Struct(">" + letter), WORD_SIZES[vr], b"")
        for vr, letter in NUMBER_FORMATS.items()
    },
}


class Rules:
    """Which rule a value follows, by its tag and the VR in its header.

    The VR of the dictionary counts where the header has none or UN. What has no VR of its
    own (private and unknown attributes) or several ("US or SS") is a blob, so that it is
    the same however it was written; only private creators are text (PS3.5 section 7.8.1).
    """

    def __init__(self, definitions: Definitions) -> None:
        self.definitions = definitions
        self._rules: dict[tuple[int, str], Rule] = {}

    def rule(self, tag: int, vr: str) -> Rule:
        """The rule for values of `tag` written with `vr`, which is empty if implicit."""
        key = (tag, vr)
        rule = self._rules.get(key)
        if rule is None:
            if len(self._rules) >= _MOST_RULES:
                self._rules.clear()
            rule = self._rules[key] = self._find(tag, vr)
        return rule

    def of_vr(self, vr: str) -> Rule:
        """The rule for values of a VR, whatever attribute they are of."""
        return self.rule(_ANY_TAG, vr)

    def _find(self, tag: int, vr: str) -> Rule:
        if tag in PIXEL_DATA_TAGS:  # frames stay as they are encoded
            return _BLOB
        attribute = self.definitions.attribute(tag)
        if tag & 0xFFFF == 0:
            own = "UL"
        elif is_creator(tag):
            own = "LO"
        else:
            own = "" if attribute is None else attribute.vr
        if " or " in own or not own:
            if vr == "SQ" or (not own and vr in {"", "UN"}):
                return _BY_VR["SQ"]
            words = {WORD_SIZES.get(each, 1) for each in (vr or own).split(" or ")}
            return _BLOB._replace(word=words.pop() if len(words) == 1 else 1)
        if vr in {"", "UN"}:
            vr = own
        return _BY_VR.get(vr) or _BLOB._replace(word=WORD_SIZES.get(vr, 1))


@lru_cache(maxsize=4)
def rules_of(definitions: Definitions) -> Rules:
    """Which rules values follow by these definitions: the same object for all who ask."""
    return Rules(definitions)


def decode(raw: bytes, rule: Rule, context: Context) -> Scalar:
    """The value of `raw`, which is never that of a sequence."""
    if not raw:
        return None
    kind = rule.kind
    if kind is Kind.TEXT or kind is Kind.NAME:
        trimmed = raw.rstrip(b" \0").lstrip(rule.leading)
        if trimmed.isascii() and b"\x1b" not in trimmed:
            return trimmed.decode("ascii")
        name = kind is Kind.NAME
        multi = rule.multi
        decoded = text.decode(trimmed, context.charset, person_name=name, multi=multi)
        if decoded is None:
            decoded = text.decode_lenient(trimmed, context.charset, person_name=name, multi=multi)
        return decoded
    if kind is Kind.NUMBER:
        number = rule.big if context.big else rule.little
        if number is not None and len(raw) == number.size:
            value: int | float = number.unpack(raw)[0]
            return value
    elif kind is Kind.TAG and len(raw) % 4 == 0:
        little = swap(raw, 2) if context.big else raw
        return "\\".join(
            f"{little[at + 1]:02X}{little[at]:02X}{little[at + 3]:02X}{little[at + 2]:02X}"
            for at in range(0, len(little), 4)
        )
    return swap(raw, rule.word) if context.big else raw


def recognise(raw: bytes, rule: Rule, context: Context) -> tuple[Scalar, bool] | None:
    """The value of `raw` and whether one space that means nothing stands before it.

    None if they do not give `raw` again: ``encode(value, rule, context, space=space) == raw``.
    """
    kind = rule.kind
    if (kind is Kind.BLOB or kind is Kind.ITEMS) and not context.big:
        return raw or None, False
    space = raw[:1] == b" " == rule.leading
    if kind is Kind.TEXT and raw:
        # what `decode` and `encode` would come to for plain text
        trimmed = raw.rstrip(b" \0").lstrip(rule.leading)
        if trimmed.isascii() and b"\x1b" not in trimmed:
            again = b" " + trimmed if space else trimmed
            if len(again) % 2:
                again += rule.padding
            return (trimmed.decode("ascii"), space) if again == raw else None
    value = decode(raw, rule, context)
    space = space and isinstance(value, str)
    return (value, space) if encode(value, rule, context, space=space) == raw else None


def is_valid(raw: bytes, rule: Rule, context: Context) -> bool:
    """Whether the bytes of text are valid in its character set; True for all other values."""
    if rule.kind not in TEXT_KINDS:
        return True
    name = rule.kind is Kind.NAME
    trimmed = raw.rstrip(b" \0")
    return text.decode(trimmed, context.charset, person_name=name, multi=rule.multi) is not None


def encode(value: Scalar, rule: Rule, context: Context, *, space: bool = False) -> bytes | None:
    """The canonical bytes of `value`, padded to even length; None if there are none.

    `space` puts one space that means nothing before text.
    """
    if value is None:
        return b""
    kind = rule.kind
    if isinstance(value, bytes):
        return swap(value, rule.word) if context.big else value
    if isinstance(value, str):
        if kind is Kind.NUMBER:
            return None
        if kind is Kind.TAG:
            return _encode_tags(value, context)
        if value.isascii():
            encoded: bytes | None = value.encode("ascii")
        else:
            encoded = text.encode(
                value, context.charset, person_name=kind is Kind.NAME, multi=rule.multi
            )
        if space and encoded is not None:
            encoded = b" " + encoded
        if encoded is not None and len(encoded) % 2:
            encoded += rule.padding or b" "
        return encoded
    number = rule.big if context.big else rule.little
    if number is None:
        return None
    if value != value:  # noqa: PLR0124 (of all that are not a number, a document has one)
        value = math.nan
    try:
        return number.pack(value)
    except (struct_error, OverflowError):
        return None


def _encode_tags(value: str, context: Context) -> bytes | None:
    try:
        big = b"".join(bytes.fromhex(tag) for tag in value.split("\\"))
    except ValueError:
        return None
    return big if context.big else swap(big, 2)


def swap(raw: bytes, word: int) -> bytes:
    """`raw` with the bytes of each `word` turned round; as it is if it is no row of words."""
    if word == 1 or len(raw) % word:
        return raw
    swapped = bytearray(len(raw))
    for place in range(word):
        swapped[place::word] = raw[word - 1 - place :: word]
    return bytes(swapped)
