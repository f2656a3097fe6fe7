"""How a file is written follows from what its attributes become (spec/edits.md).

An element that is new takes its place in the order of tags, one that is gone leaves none, and
all others are written as they were.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from dicomstudy import layout, values
from dicomstudy.definitions import Definitions
from dicomstudy.elements import (
    LONGEST_SHORT,
    META_GROUP,
    SHORT_VRS,
    TEXT_VRS,
    Form,
    is_delimiter,
)
from dicomstudy.errors import RecordError
from dicomstudy.grouping import freeze
from dicomstudy.layout import ItemLayout, Token
from dicomstudy.paths import CHARACTER_SET, parse_raw_path
from dicomstudy.record import DEFLATED, RAW, TRAILING, Resolve, character_set_of, is_reference
from dicomstudy.text import CharacterSet
from dicomstudy.values import Context, Kind, Kinds

__all__ = ["Follower", "differing", "inner_set", "is_signed"]

#: The character set that holds every character.
_UNICODE = "ISO_IR 192"
_TEXT_KINDS = frozenset((Kind.TEXT, Kind.NAME))
_PARTS = ("meta", "dataSet")
_MEMO_SIZE = 1 << 10
_CHARACTER_SET_TAG = 0x00080005
_ORIGINALS_TAG, _MODIFIED_TAG = 0x04000561, 0x04000550
#: Zero as text of VR IS.
_ZERO = re.compile(r" *(?:[+-]?0+)? *")
_UNICODE_SET = character_set_of(_UNICODE)
_PLAIN = Context(_UNICODE_SET, False)


def inner_set(item: Mapping[str, Any], outer: CharacterSet) -> CharacterSet:
    """The character set of an item that stands in a data set with the set `outer`."""
    return character_set_of(item[CHARACTER_SET]) if CHARACTER_SET in item else outer


def is_signed(representation: object) -> bool:
    """Whether a Pixel Representation says that "US or SS" is SS: all but 0 does, as in pydicom."""
    if isinstance(representation, str):
        return _ZERO.fullmatch(representation) is None
    return representation is not None and representation != 0


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
        return after if isinstance(after, int | float) else type(after)
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
            vrs: VRs by path, of attributes whose VR the dictionary does not tell.

        Raises:
            RecordError: the encoding is incomplete or its layout malformed.
        """
        try:
            meta, data_set = (self._parse(encoding[part]) for part in _PARTS)
        except (KeyError, TypeError) as error:
            raise RecordError("record/encoding", "the encoding is incomplete") from error
        for key in (TRAILING, DEFLATED, *self._lengths(encoding["meta"], encoding["dataSet"])):
            after.pop(key, None)
        changed = differing(before, after)
        self._drop_lengths(changed, data_set, before, after)
        case = (
            *(encoding[part] for part in _PARTS),
            is_signed(after.get("PixelRepresentation")),
            tuple(sorted(vrs.items())),
            frozenset(
                (key, _difference(before.get(key, ...), after.get(key, ...))) for key in changed
            ),
        )
        texts = self._known.get(case)
        if texts is None:
            scope = _Scope(
                any(token.vr for token in data_set),
                is_signed(after.get("PixelRepresentation")),
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

    def _drop_lengths(
        self,
        changed: Iterable[str],
        tokens: Iterable[Token],
        before: Mapping[str, Any],
        after: dict[str, Any],
    ) -> None:
        """Take the same away from the items of changed sequences, whose lengths are made anew."""
        sequences = [key for key in changed if type(after.get(key)) is list]
        if not sequences:
            return
        by_key = {self._key(token): token for token in tokens}
        for key in sequences:
            items = (by_key[key].items if key in by_key else None) or ()
            old = before.get(key)
            kept = []
            for at, item in enumerate(after[key]):
                inner = items[at].tokens if at < len(items) else ()
                lengths = {self._key(token) for token in inner if token.tag & 0xFFFF == 0}
                rest = {name: value for name, value in item.items() if name not in lengths}
                previous = old[at] if type(old) is list and at < len(old) else {}
                self._drop_lengths(differing(previous, rest), inner, previous, rest)
                kept.append(rest)
            after[key] = kept

    def _key(self, token: Token) -> str:
        return self._definitions.key(token.tag, token.occurrence)

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
        key, vr = self._key(token), token.vr
        if type(after) is not list:
            if vr:
                vr = self._vr_for(after, token, scope.vrs.get(scope.path + key), scope)
            reserved = token.reserved if vr == token.vr else 0
            return Token(token.tag, vr, reserved=reserved, occurrence=token.occurrence)
        if token.items is None and vr:
            vr = "SQ"
        old = list(zip(token.items or (), before if type(before) is list else (), strict=False))
        items = []
        for at, struct in enumerate(after):
            layout_of_item, previous = old[at] if at < len(old) else (ItemLayout((), False), {})
            inner = scope.inside(token.tag, f"{key}[{at}].", explicit=vr not in {"", "UN"})
            tokens = self._tokens(layout_of_item.tokens, previous, struct, inner)
            self._add(tokens, struct, {self._key(each) for each in tokens}, struct, inner)
            items.append(ItemLayout(tuple(tokens), layout_of_item.undefined))
        return Token(
            token.tag,
            vr,
            occurrence=token.occurrence,
            items=tuple(items),
            undefined=token.undefined,
        )

    def _vr_for(self, value: Any, token: Token, given: str | None, scope: _Scope) -> str:
        """The VR of an element that becomes `value`: that of the file, if it can have it."""
        if type(value) is bytes:
            return given or token.vr
        rule = self._kinds.rule(token.tag, token.vr)
        if isinstance(value, str) and rule.kind is not Kind.TAG:
            fits = rule.kind in _TEXT_KINDS
        else:
            fits = values.encode(value, rule, _PLAIN) is not None
        return token.vr if fits else _vr_of(token.tag, self._definitions, signed=scope.signed)

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
            order = _order(token)
            later = (at for at, each in enumerate(tokens) if _order(each) > order)
            place = next((at for at in later if not is_delimiter(tokens[at].tag)), len(tokens))
            tokens.insert(place, token)

    def _new(self, key: str, value: Any, scope: _Scope) -> Token:
        """The layout of an element that was not there: what stood at the top has the same."""
        known = scope.known.get(key) if scope.previous else None
        if known is not None and value is not None:
            return _defined(known if scope.explicit else _without_vrs(known))
        name, _, occurrence = key.partition("#")
        tag = self._definitions.tag(name)
        vr = ""
        if scope.explicit:
            given = scope.vrs.get(scope.path + key)
            vr = given or _vr_of(tag, self._definitions, signed=scope.signed)
        return self._changed(Token(tag, vr, occurrence=int(occurrence or 0)), None, value, scope)

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
            path = key[len(RAW) :]
            steps = parse_raw_path(path)
            if not steps or steps[0].tag >> 16 == META_GROUP:
                continue
            leaf = steps[-1].tag
            is_text = self._kinds.rule(leaf, _vr_at(tokens, path)).kind in _TEXT_KINDS
            if leaf == _CHARACTER_SET_TAG or (is_text and not _is_plain(result[key])):
                del result[key]
        return {**result, CHARACTER_SET: _UNICODE}

    def widened(self, encoding: dict[str, Any], attributes: Mapping[str, Any]) -> dict[str, Any]:
        """The encoding, with UN for text that became too long for the header of its VR.

        See PS3.5 section 6.2.2: the same text mostly has more bytes in Unicode.
        """
        before = self._parse(encoding["dataSet"])
        after = self._widened(before, attributes)
        if after == before:
            return encoding
        return {**encoding, "dataSet": layout.format_tokens(after)}

    def _widened(self, tokens: Iterable[Token], struct: Mapping[str, Any]) -> tuple[Token, ...]:
        return tuple([self._wide(token, struct.get(self._key(token))) for token in tokens])

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
        return values.encode(text, rule, _PLAIN) if private else text


class _Scope(NamedTuple):
    """What the layout of a new element depends on.

    `explicit`: VRs are written; `signed`: what is "US or SS" is SS; `vrs` are those that were
    given, by path, and `path` is that of the item; `known` is the layout of what stands at the
    top, and `previous` says that what is here stood there before (PS3.3 C.12.1.1.9). `within`
    is the tag of the sequence that the item is of.
    """

    explicit: bool
    signed: bool
    vrs: Mapping[str, str]
    known: Mapping[str, Token]
    path: str = ""
    previous: bool = False
    within: int = 0

    def inside(self, tag: int, step: str, *, explicit: bool) -> _Scope:
        """That of an item of the sequence `tag`, to which `step` leads."""
        previous = tag == _MODIFIED_TAG and self.within == _ORIGINALS_TAG
        return self._replace(
            explicit=self.explicit and explicit,
            path="" if previous else self.path + step,
            previous=previous,
            within=tag,
        )


def _order(token: Token) -> tuple[int, int]:
    """Where an element stands among others: the one that counts behind those it replaces."""
    return token.tag, token.occurrence or sys.maxsize


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


def _without_vrs(token: Token) -> Token:
    """The token as it is where no VRs are written."""
    items = token.items and tuple(
        [each._replace(tokens=tuple(map(_without_vrs, each.tokens))) for each in token.items]
    )
    return token._replace(vr="", reserved=0, items=items)


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
    return token._replace(form=Form.DEFINED, declared=0) if token.form is Form.DECLARED else token
