"""Text of an instance in Unicode, whatever character set it was written in (spec/edits.md)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dicomstudy import values
from dicomstudy.definitions import Definitions
from dicomstudy.elements import (
    CHARACTER_SET_TAG,
    LONG_VRS,
    LONGEST_SHORT,
    META_GROUP,
    SHORT_VRS,
    TEXT_VRS,
    format_tag,
)
from dicomstudy.following import IN_UNICODE, Attributes, Layouts, inner_set
from dicomstudy.layout import Token
from dicomstudy.paths import CHARACTER_SET, parse_raw_path
from dicomstudy.record import RAW, Resolve, character_set_of, is_reference
from dicomstudy.text import UNICODE, CharacterSet
from dicomstudy.values import TEXT_KINDS, Context, rules_of

__all__ = ["Transcriber", "with_escapes"]


class Transcriber:
    """Turns the text of instances to Unicode, and lets their layouts follow where it grew."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions
        self._rules = rules_of(definitions)

    def to_unicode(
        self,
        attributes: Attributes,
        layouts: Layouts | None,
        resolve: Resolve,
        given: Mapping[str, str],
    ) -> dict[str, Any]:
        """The attributes with the character set of Unicode, in items too.

        `given` are VRs by path that edits gave, which the file has not where it writes none.

        Text of private attributes whose VR is in the file, text whose VR there is none of the
        standard's, and text that is a large value, is written anew; the bytes of text that was not
        valid in its character set go, or become those of the text where it has U+001B, with which
        no text is encoded.
        """
        meta, tokens = ((), ()) if layouts is None else layouts.parts
        apart = {(token.tag, token.occurrence) for token in meta}
        charset = character_set_of(attributes.get(CHARACTER_SET))
        to_unicode = _ToUnicode(self._definitions, resolve, given)
        result = to_unicode.turned(attributes, tokens, charset)
        _drop_repeated_set(result)
        for key in [key for key in result if key.startswith(RAW)]:
            path = key[len(RAW) :]
            steps = parse_raw_path(path)
            if not steps or steps[0][:2] in apart or steps[0].tag >> 16 == META_GROUP:
                continue
            leaf = steps[-1].tag
            is_text = self._rules.rule(leaf, _vr_at(tokens, path)).kind in TEXT_KINDS
            if leaf == CHARACTER_SET_TAG or (is_text and not _is_plain(result[key])):
                del result[key]
        return {**result, **to_unicode.escaped, CHARACTER_SET: UNICODE}

    def widened(self, layouts: Layouts, attributes: Attributes) -> Layouts:
        """The layouts, with UN for text that became too long for the header of its VR.

        See PS3.5 section 6.2.2: the same text mostly has more bytes in Unicode.
        """
        meta, before = layouts.parts
        after = self._widened(before, attributes)
        if after == before:
            return layouts
        return Layouts.of((meta, after), self._definitions, settled=layouts.settled)

    def _widened(self, tokens: Iterable[Token], struct: Attributes) -> tuple[Token, ...]:
        return tuple(
            [self._wide(token, struct.get(_key(token, self._definitions))) for token in tokens]
        )

    def _wide(self, token: Token, value: Any) -> Token:
        if type(value) is list and token.items is not None:
            items = [
                item._replace(tokens=self._widened(item.tokens, struct))
                for item, struct in zip(token.items, value, strict=True)
            ]
            return token._replace(items=tuple(items))
        size = len(value.encode()) if isinstance(value, str) else 0
        if type(value) is bytes:
            size = len(value)
        return token._replace(vr="UN") if size > LONGEST_SHORT and token.vr in SHORT_VRS else token


class _ToUnicode:
    """Turns the values of one instance to Unicode.

    Attributes:
        escaped: the keys and bytes of what has U+001B, of all that was turned.
    """

    def __init__(
        self, definitions: Definitions, resolve: Resolve, given: Mapping[str, str]
    ) -> None:
        self.escaped: dict[str, bytes] = {}
        self._given = given
        self._definitions = definitions
        self._rules = rules_of(definitions)
        self._resolve = resolve

    def turned(
        self,
        struct: Attributes,
        tokens: Iterable[Token],
        charset: CharacterSet,
        path: str = "",
        keys: str = "",
    ) -> dict[str, Any]:
        """The attributes of a data set, or of the item that `path` leads to, and `keys` as well.

        The one has tags, as to raw bytes, the other keys of attributes, as in edits.
        """
        by_key = {_key(token, self._definitions): token for token in tokens}
        result = dict(struct)
        for key, value in struct.items():
            token = by_key.get(key)
            here = path if token is None else f"{path}{_step(token)}"
            if type(value) is list:
                items = (token.items if token is not None else None) or ()
                result[key] = [
                    self.turned(
                        item,
                        items[at].tokens if at < len(items) else (),
                        inner_set(item, charset),
                        f"{here}[{at}].",
                        f"{keys}{key}[{at}].",
                    )
                    for at, item in enumerate(value)
                ]
                for item in result[key]:
                    if CHARACTER_SET in item:
                        item[CHARACTER_SET] = UNICODE
                        _drop_repeated_set(item)
                continue
            if token is None:
                continue
            if type(value) is bytes or is_reference(value):
                if not token.vr and keys + key in self._given:
                    token = token._replace(vr=self._given[keys + key])
                result[key] = self._value(token, value, charset)
            if self._is_escaped(token, result[key]):
                self.escaped[RAW + here] = with_escapes(result[key])
        return result

    def _is_escaped(self, token: Token, value: Any) -> bool:
        """Whether a value is text that is not encodable, as it has U+001B (spec/text.md)."""
        if not isinstance(value, str) or value.isascii() or "\x1b" not in value:
            return False
        return self._rules.rule(token.tag, token.vr).kind in TEXT_KINDS

    def _value(self, token: Token, value: Any, charset: CharacterSet) -> Any:
        """Text that is kept as bytes, in Unicode."""
        rule = self._rules.rule(token.tag, token.vr)
        in_bytes = rule.kind not in TEXT_KINDS
        known = token.vr in LONG_VRS or token.vr in SHORT_VRS
        vr = token.vr if known else self._definitions.vr(token.tag)
        if in_bytes and vr in TEXT_VRS:
            rule = self._rules.of_vr(vr)
        if rule.kind not in TEXT_KINDS:
            return value
        raw = value if type(value) is bytes else self._resolve(value)
        if _is_plain(raw):
            return value
        text = values.decode(raw, rule, Context(charset, False))
        if not in_bytes:
            return text
        if isinstance(text, str) and "\x1b" in text:
            return with_escapes(text)
        return values.encode(text, rule, IN_UNICODE)


def _drop_repeated_set(struct: dict[str, Any]) -> None:
    """Drop the elements that Specific Character Set had replaced."""
    for key in [key for key in struct if key.startswith(f"{CHARACTER_SET}#")]:
        del struct[key]


def _key(token: Token, definitions: Definitions) -> str:
    return definitions.key(token.tag, token.occurrence)


def _vr_at(tokens: Iterable[Token], path: str) -> str:
    """The VR in the file of what raw bytes belong to (spec/record.md); empty if it has none."""
    vr = ""
    for tag, occurrence, item in parse_raw_path(path):
        found = (t for t in tokens if t.tag == tag and t.occurrence == occurrence)
        token = next(found, None)
        if token is None:
            return ""
        items = token.items or ()
        vr, tokens = token.vr, items[item].tokens if item is not None and item < len(items) else ()
    return vr


def _step(token: Token) -> str:
    """The last step of a path to raw bytes (spec/record.md)."""
    return format_tag(token.tag) + (f"#{token.occurrence}" if token.occurrence else "")


def with_escapes(text: str) -> bytes:
    """Text in Unicode with each U+001B as a byte, as it came, padded to even length."""
    raw = text.encode()
    return raw + b" " * (len(raw) % 2)


def _is_plain(raw: bytes) -> bool:
    """Whether bytes are the same text in every character set."""
    return raw.isascii() and b"\x1b" not in raw
