"""How a file is written follows from what its attributes become (spec/edits.md).

An element that is new takes its place in the order of tags, one that is gone leaves none, and
all others are written as they were.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from dicomstudy import layout, values
from dicomstudy.definitions import Definitions
from dicomstudy.elements import TEXT_VRS, Form
from dicomstudy.grouping import freeze
from dicomstudy.layout import ItemLayout, Token
from dicomstudy.paths import CHARACTER_SET
from dicomstudy.record import DEFLATED, RAW, TRAILING, Resolve, character_set_of, is_reference
from dicomstudy.text import CharacterSet
from dicomstudy.values import Context, Kind, Kinds

__all__ = ["Follower", "differing", "inner_set"]

#: The character set that holds every character.
_UNICODE = "ISO_IR 192"
_TEXT_KINDS = frozenset((Kind.TEXT, Kind.NAME))
_PARTS = ("meta", "dataSet")
_MEMO_SIZE = 1 << 10
_CHARACTER_SET_TAG = 0x00080005
#: Original and Modified Attributes Sequence: what stands in them stood at the top before.
_PREVIOUS = frozenset((0x04000550, 0x04000561))
_UNICODE_SET = character_set_of(_UNICODE)


def inner_set(item: Mapping[str, Any], outer: CharacterSet) -> CharacterSet:
    """The character set of an item that stands in a data set with the set `outer`."""
    return character_set_of(item[CHARACTER_SET]) if CHARACTER_SET in item else outer


def differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> set[str]:
    """The keys of attributes that became others, came or went."""
    return {
        key
        for key in before.keys() | after.keys()
        if before.get(key, ...) is not after.get(key, ...)
        and freeze(before.get(key, ...)) != freeze(after.get(key, ...))
    }


def _difference(before: Any, after: Any) -> object:
    """What the layout of a changed value depends on: equal for changes with an equal one."""
    if type(after) is not list:
        return None if after is None else after is not ...
    old = before if type(before) is list else []
    return len(old), tuple(
        [
            tuple([(key, _inside(old[at] if at < len(old) else {}, item, key)) for key in item])
            for at, item in enumerate(after)
        ]
    )


def _inside(before: Mapping[str, Any], after: Mapping[str, Any], key: str) -> object:
    if key in before and freeze(before[key]) == freeze(after[key]):
        return "same"
    return _difference(before.get(key, ...), after[key])


class Follower:
    """Makes encodings, and values, follow a change."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions
        self._kinds = Kinds(definitions)
        self._parse = lru_cache(maxsize=256)(layout.parse)
        self._lengths = lru_cache(maxsize=256)(self._group_lengths)
        self._known: dict[object, dict[str, str]] = {}

    def encoding(
        self,
        encoding: Mapping[str, Any],
        before: Mapping[str, Any],
        after: dict[str, Any],
        vrs: Mapping[str, str],
    ) -> dict[str, Any]:
        """The encoding of a file whose attributes `before` became `after`.

        Group lengths become right ones, lengths in headers those of the values. What was behind
        the data set goes, and so does the old deflate stream; `after` is without them then.

        Args:
            vrs: VRs by key, of private attributes that are new.
        """
        meta, data_set = (self._parse(encoding[part]) for part in _PARTS)
        for key in (TRAILING, DEFLATED, *self._lengths(encoding["meta"], encoding["dataSet"])):
            after.pop(key, None)
        case = (
            *(encoding[part] for part in _PARTS),
            after.get("PixelRepresentation") == 1,
            tuple(sorted(vrs.items())),
            frozenset(
                (key, _difference(before.get(key, ...), after.get(key, ...)))
                for key in differing(before, after)
            ),
        )
        texts = self._known.get(case)
        if texts is None:
            scope = _Scope(
                any(token.vr for token in data_set),
                after.get("PixelRepresentation") == 1,
                vrs,
                {self._key(token): token for token in data_set},
            )
            kept = [self._tokens(tokens, before, after, scope) for tokens in (meta, data_set)]
            there = {self._key(token) for tokens in kept for token in tokens}
            self._add(kept[1], [key for key in after if key[:1] != "_"], there, after, scope)
            texts = dict(zip(_PARTS, map(layout.format_tokens, kept), strict=True))
            if len(self._known) > _MEMO_SIZE:
                self._known.clear()
            self._known[case] = texts
        return {**encoding, **texts}

    def _group_lengths(self, *layouts: str) -> list[str]:
        """The keys of group lengths that are attributes, because they were wrong."""
        tokens = (token for text in layouts for token in self._parse(text))
        return [self._key(token) for token in tokens if token.tag & 0xFFFF == 0]

    def _key(self, token: Token) -> str:
        key = self._definitions.keyword(token.tag)
        return f"{key}#{token.occurrence}" if token.occurrence else key

    def _tokens(
        self,
        tokens: Iterable[Token],
        before: Mapping[str, Any],
        after: Mapping[str, Any],
        scope: _Scope,
    ) -> list[Token]:
        """The layout of what is still there."""
        kept: dict[str, Token] = {}
        for token in tokens:
            key = self._key(token)
            if token.tag & 0xFFFF == 0:
                kept.setdefault(f"{token.tag}", Token(token.tag, token.vr, Form.GROUP_LENGTH))
            elif key in after:
                if key in before and freeze(before[key]) == freeze(after[key]):
                    kept[key] = _defined(token)
                else:
                    kept[key] = self._changed(token, before.get(key), after[key], scope)
        groups = {token.tag >> 16 for token in kept.values() if token.form != Form.GROUP_LENGTH}
        return [token for token in kept.values() if token.tag >> 16 in groups]

    def _changed(self, token: Token, before: Any, after: Any, scope: _Scope) -> Token:
        """The layout of an element whose value became another."""
        vr = token.vr
        if type(after) is not list:
            if vr and type(after) is bytes:  # of the VR that the edit gives, or as it was
                vr = scope.vrs.get(self._key(token), vr)
            return Token(token.tag, vr, reserved=token.reserved if vr == token.vr else 0)
        if token.items is None and vr:
            vr = "SQ"
        old = list(zip(token.items or (), before if type(before) is list else (), strict=False))
        known = scope.known if token.tag in _PREVIOUS else {}
        inner = scope._replace(explicit=scope.explicit and vr != "UN", known=known)
        items = []
        for at, struct in enumerate(after):
            layout_of_item, previous = old[at] if at < len(old) else (ItemLayout((), False), {})
            tokens = self._tokens(layout_of_item.tokens, previous, struct, inner)
            self._add(tokens, struct, {self._key(each) for each in tokens}, struct, inner)
            items.append(ItemLayout(tuple(tokens), layout_of_item.undefined))
        return Token(token.tag, vr, items=tuple(items), undefined=token.undefined)

    def _add(
        self,
        tokens: list[Token],
        keys: Iterable[str],
        there: set[str],
        struct: Mapping[str, Any],
        scope: _Scope,
    ) -> None:
        """Put the layout of what is not `there` yet among `tokens`, in the order of tags."""
        for key in keys:
            if key in there:
                continue
            token = self._new(key, struct[key], scope)
            place = next((at for at, t in enumerate(tokens) if t.tag > token.tag), len(tokens))
            tokens.insert(place, token)

    def _new(self, key: str, value: Any, scope: _Scope) -> Token:
        """The layout of an element that was not there: what stood at the top has the same."""
        known = scope.known.get(key)
        if known is not None and value is not None:
            return _defined(known)
        tag = self._definitions.tag(key)
        vr = ""
        if scope.explicit:
            vr = scope.vrs.get(key) or _vr_of(tag, self._definitions, signed=scope.signed)
        return self._changed(Token(tag, vr), None, value, scope)

    def to_unicode(
        self,
        attributes: Mapping[str, Any],
        encoding: Mapping[str, Any] | None,
        resolve: Resolve,
    ) -> dict[str, Any]:
        """The same attributes with the character set of Unicode, in items too.

        Text of private attributes whose VR is in the file, and text that is a large value, is
        written anew; the bytes of text that was not valid in its character set go.
        """
        tokens: tuple[Token, ...] = ()
        if encoding is not None:
            tokens = self._parse(encoding["dataSet"])
        charset = character_set_of(attributes.get(CHARACTER_SET))
        result = self._turned(attributes, tokens, charset, resolve)
        for key in [key for key in result if key.startswith(RAW)]:
            leaf = int(key[len(RAW) :].rsplit(".", 1)[-1][:8], 16)
            is_text = self._kinds.rule(leaf, "").kind in _TEXT_KINDS
            if leaf == _CHARACTER_SET_TAG or (is_text and not _is_plain(result[key])):
                del result[key]
        return {**result, CHARACTER_SET: _UNICODE}

    def _turned(
        self,
        struct: Mapping[str, Any],
        tokens: Iterable[Token],
        charset: CharacterSet,
        resolve: Resolve,
    ) -> dict[str, Any]:
        by_key = {self._key(token): token for token in tokens}
        result = dict(struct)
        for key, value in struct.items():
            token = by_key.get(key)
            if type(value) is list:
                items = (token.items if token is not None else None) or ()
                result[key] = [
                    self._turned(
                        item,
                        items[at].tokens if at < len(items) else (),
                        inner_set(item, charset),
                        resolve,
                    )
                    for at, item in enumerate(value)
                ]
                for item in result[key]:
                    if CHARACTER_SET in item:
                        item[CHARACTER_SET] = _UNICODE
            elif token is not None and (type(value) is bytes or is_reference(value)):
                result[key] = self._turned_value(token, value, charset, resolve)
        return result

    def _turned_value(
        self, token: Token, value: Any, charset: CharacterSet, resolve: Resolve
    ) -> Any:
        """Text that is kept as bytes, in Unicode."""
        rule = self._kinds.rule(token.tag, token.vr)
        private = rule.kind not in _TEXT_KINDS
        if private and token.vr in TEXT_VRS:
            rule = self._kinds.of_vr(token.vr)
        if rule.kind not in _TEXT_KINDS:
            return value
        raw = value if type(value) is bytes else resolve(value)
        if _is_plain(raw):
            return value
        text = values.decode(raw, rule, Context(charset, False))
        return values.encode(text, rule, Context(_UNICODE_SET, False)) if private else text


class _Scope(NamedTuple):
    """What the layout of a new element depends on.

    `explicit`: VRs are written; `signed`: what is "US or SS" is SS; `vrs` are those of private
    keys; `known` is the layout of what stands at the top.
    """

    explicit: bool
    signed: bool
    vrs: Mapping[str, str]
    known: Mapping[str, Token]


def _is_plain(raw: bytes) -> bool:
    """Whether bytes are the same text in every character set."""
    return raw.isascii() and b"\x1b" not in raw


def _vr_of(tag: int, definitions: Definitions, *, signed: bool) -> str:
    """The VR that an element is written with, by the dictionary."""
    vr = definitions.vr(tag)
    if vr.startswith("US or SS"):
        return "SS" if signed else "US"
    return vr.rpartition(" ")[2]


def _defined(token: Token) -> Token:
    """The token with the length of its value."""
    return token._replace(form=Form.DEFINED, declared=0) if token.declared else token
