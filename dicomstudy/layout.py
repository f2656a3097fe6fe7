"""How a data set was written, without its values: a line of text (spec/layout.md).

A layout names every element in the order of the file by tag, VR (none where the header was
implicit) and what is unusual in its header; items of sequences nest. Together with the
attributes it gives back the bytes. Instances written alike have the same layout.

    00080005CS 00081140SQ([00081150UI 00081155UI]) 7FE00010OW
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from dicomstudy.elements import (
    ITEM,
    LONG_VRS,
    SEQUENCE_DELIMITATION,
    UNDEFINED_LENGTH,
    Form,
    format_tag,
)
from dicomstudy.errors import RecordError

__all__ = [
    "ItemLayout",
    "Token",
    "end_of_group",
    "format_item",
    "format_token",
    "format_tokens",
    "parse",
    "with_occurrence",
]

#: Nesting that `parse` accepts; more than any reader of P10 files follows.
_MAX_DEPTH = 100

_HEADER = re.compile(
    r"([0-9A-F]{8})([A-Z]{2})?(?:/([0-9A-F]{4}))?(?:#([1-9][0-9]{0,8}))?(\^)?(?:([:$])([1-9][0-9]{0,9})|([=~$]))?"
)

#: What stands in the place of an item under another tag.
_OTHER_ITEM = re.compile(r"([0-9A-F]{8})\[\]")


class ItemLayout(NamedTuple):
    """One item: the layout of its elements, and whether its length is undefined.

    `endless`: its length is undefined, and no delimiter ends it. `tag` is that of its header, which
    may be another than that of items if it has no elements.
    """

    tokens: tuple[Token, ...]
    undefined: bool
    endless: bool = False
    tag: int = ITEM


class Token(NamedTuple):
    """The layout of one element.

    `occurrence` counts the elements of one tag in one data set that a later one of that tag
    replaces, from 1; it is 0 for the last, which is the attribute's. `space`: one space that
    means nothing stands before the value. `items` is None for a value that was not split into
    items; `delimited`: they are of defined length, and a delimiter ends them all the same.
    """

    tag: int
    vr: str
    form: Form = Form.DEFINED
    declared: int = 0
    reserved: int = 0
    occurrence: int = 0
    space: bool = False
    items: tuple[ItemLayout, ...] | None = None
    undefined: bool = False
    delimited: bool = False


def format_token(token: Token, items: Sequence[str] = ()) -> str:
    """The text of one token; `items` are the texts of its items, made by `format_item`."""
    text = format_tag(token.tag) + token.vr
    if token.reserved:
        text += f"/{token.reserved:04X}"
    if token.occurrence:
        text += f"#{token.occurrence}"
    if token.space:
        text += "^"
    text += token.form.value
    if token.declared:
        text += str(token.declared)
    if token.items is not None:
        text += "<" if token.undefined else "("
        text += "".join(items)
        text += ">" if token.undefined or token.delimited else ")"
    return text


def format_item(
    tokens: Sequence[str], *, undefined: bool, endless: bool = False, tag: int = ITEM
) -> str:
    """The text of one item of a sequence, from the texts of its elements."""
    if tag != ITEM:
        return f"{format_tag(tag)}[]"
    close = "}" if undefined and not endless else "]"
    return f"{'{' if undefined else '['}{' '.join(tokens)}{close}"


def format_tokens(tokens: Iterable[Token]) -> str:
    """The text of a layout. Mirror of `parse`."""
    return " ".join(
        format_token(
            token,
            [
                format_item(
                    [format_tokens(item.tokens)],
                    undefined=item.undefined,
                    endless=item.endless,
                    tag=item.tag,
                )
                for item in token.items or ()
            ],
        )
        for token in tokens
    )


def parse(text: str) -> tuple[Token, ...]:
    """The tokens of a layout. Mirror of `format_tokens`.

    Raises:
        RecordError: the text is not a layout.
    """
    tokens, pos = _parse_tokens(text, 0, "", 0)
    if pos != len(text):
        raise _malformed(pos)
    return tokens


def _parse_tokens(text: str, pos: int, close: str, depth: int) -> tuple[tuple[Token, ...], int]:
    if depth > _MAX_DEPTH:
        raise RecordError("record/layout", "the layout is nested too deeply")
    tokens: list[Token] = []
    end = len(text)
    while pos < end and text[pos] not in close:
        if tokens:
            if text[pos] != " ":
                raise _malformed(pos)
            pos += 1
        found = _HEADER.match(text, pos)
        token = None if found is None else _parse_header(found.group())
        if found is None or token is None:
            raise _malformed(pos)
        pos = found.end()
        if text[pos : pos + 1] in {"(", "<"}:
            undefined = text[pos] == "<"
            items, pos = _parse_items(text, pos + 1, depth)
            delimited = text[pos : pos + 1] == ">"
            if not delimited and (undefined or text[pos : pos + 1] != ")"):
                raise _malformed(pos)
            pos += 1
            token = token._replace(
                items=items, undefined=undefined, delimited=delimited and not undefined
            )
            if token.form or token.space:
                raise _malformed(pos)
        tokens.append(token)
    return tuple(tokens), pos


@lru_cache(maxsize=1 << 14)
def _parse_header(text: str) -> Token | None:
    """The token without its items; None for what no element is written as."""
    found = _HEADER.fullmatch(text)  # again, for it is the text that tokens are kept by
    if found is None:
        return None
    tag, vr, reserved, occurrence, space, counted, declared, form = found.groups()
    token = Token(
        int(tag, 16),
        vr or "",
        Form(counted or form or ""),
        int(declared or 0),
        int(reserved or "0", 16),
        int(occurrence or 0),
        bool(space),
    )
    if reserved is not None and (not token.reserved or token.vr not in LONG_VRS):
        return None
    if token.form is Form.GROUP_LENGTH and (token.tag & 0xFFFF or token.occurrence):
        return None
    if token.declared > UNDEFINED_LENGTH - (token.form is Form.DECLARED):
        return None
    return token


def _parse_items(text: str, pos: int, depth: int) -> tuple[tuple[ItemLayout, ...], int]:
    items = []
    while text[pos : pos + 1] not in {")", ">", ""}:
        if text[pos] not in "[{":
            found = _OTHER_ITEM.match(text, pos)
            tag = ITEM if found is None else int(found[1], 16)
            if found is None or tag in {ITEM, SEQUENCE_DELIMITATION}:
                raise _malformed(pos)
            items.append(ItemLayout((), False, tag=tag))
            pos = found.end()
            continue
        undefined = text[pos] == "{"
        tokens, pos = _parse_tokens(text, pos + 1, "]}" if undefined else "]", depth + 1)
        close = text[pos : pos + 1]
        if close != "]" and (close != "}" or not undefined):
            raise _malformed(pos)
        items.append(ItemLayout(tokens, undefined, endless=undefined and close == "]"))
        pos += 1
    return tuple(items), pos


def _malformed(pos: int) -> RecordError:
    return RecordError("record/layout", f"the layout is malformed at character {pos}")


def end_of_group(tokens: Sequence[Token], at: int, stop: int) -> int:
    """Where the elements end that the group length at `at` counts; those before `stop` only."""
    end = at + 1
    while end < stop and tokens[end].tag >> 16 == tokens[at].tag >> 16:
        end += 1
    return end


def with_occurrence(text: str, occurrence: int) -> str:
    """The text of a token with `Token.occurrence` set."""
    found = _HEADER.match(text)
    if found is None:
        raise _malformed(0)
    end = found.end(3) if found.group(3) else found.end(2) if found.group(2) else found.end(1)
    return f"{text[:end]}#{occurrence}{text[end:]}"
