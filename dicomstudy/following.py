"""How a file is written follows from what its attributes become (spec/edits.md).

An element that is new takes its place in the order of tags, one that is gone leaves none, and
all others are written as they were.

Three things have to agree: `_anew` works out all layouts after a change; `_again` gives the same
by a look at what changed only; and changes of one `_Case` share what either has worked out.
"""

from __future__ import annotations

import operator
import re
import sys
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import compress
from typing import Any, NamedTuple, TypeAlias

from dicomstudy import layout, values
from dicomstudy.definitions import Definitions
from dicomstudy.elements import Form, is_delimiter
from dicomstudy.errors import RecordError
from dicomstudy.grouping import freeze
from dicomstudy.layout import ItemLayout, Token
from dicomstudy.paths import CHARACTER_SET, ORIGINALS
from dicomstudy.record import DEFLATED, TRAILING, character_set_of
from dicomstudy.text import UNICODE, CharacterSet
from dicomstudy.values import TEXT_KINDS, Context, Kind, Rule, rules_of

__all__ = [
    "IN_UNICODE",
    "Attributes",
    "Follower",
    "Layouts",
    "differing",
    "inner_set",
    "is_of_writing",
    "is_signed",
    "vr_of",
]

#: The attributes of a data set or an item, by key.
Attributes: TypeAlias = Mapping[str, Any]
IN_UNICODE = Context(character_set_of(UNICODE), False)

_PARTS = ("meta", "dataSet")
_MEMO_SIZE = 1 << 10
_ORIGINALS_TAG, _MODIFIED_TAG = 0x04000561, 0x04000550
#: The keys of group lengths in items.
_GROUP_LENGTH = re.compile("[0-9A-F]{4}0000", re.IGNORECASE)
#: The text of values of VR AT.
_TAGS = re.compile(r"[0-9A-F]{8}(?:\\[0-9A-F]{8})*")
#: Zero as text of VR IS.
_ZERO = re.compile(r" *(?:[+-]?0+)? *")


def inner_set(item: Attributes, outer: CharacterSet) -> CharacterSet:
    """The character set of an item that stands in a data set with the set `outer`."""
    return character_set_of(item[CHARACTER_SET]) if CHARACTER_SET in item else outer


def is_signed(representation: object) -> bool:
    """Whether a Pixel Representation says that "US or SS" is SS: all but 0 does, as in pydicom."""
    if isinstance(representation, str):
        return _ZERO.fullmatch(representation) is None
    return representation is not None and representation != 0


def differing(before: Attributes, after: Attributes) -> set[str]:
    """The keys of attributes that became others, came or went."""
    others = compress(after, map(operator.is_not, map(before.get, after), after.values()))
    changed = {key for key in others if key in before and _is_other(before[key], after[key])}
    return changed | (before.keys() ^ after.keys())


def _is_other(before: object, after: object) -> bool:
    """Whether two values differ; lists of different lengths do, however long they are."""
    if type(before) is list and type(after) is list and len(before) != len(after):
        return True
    return freeze(before) != freeze(after)


def _difference(before: object, after: object) -> Hashable:
    """What the layout of a changed value depends on: equal for changes with an equal one.

    That is its type; of a number itself, and of a text whether it is one of tags, has a backslash
    or begins with a space, as not every VR holds them; and of a sequence how many items it had, the
    keys in each, and which of their values are the same or differ in what.
    """
    if isinstance(after, str):
        return type(after), _TAGS.fullmatch(after) is not None, "\\" in after, after[:1] == " "
    if type(after) is not list:
        return type(after), after if isinstance(after, int | float) else None
    old = before if type(before) is list else []
    return len(old), tuple(
        [
            tuple([(key, _inside(old[at] if at < len(old) else {}, item, key)) for key in item])
            for at, item in enumerate(after)
        ]
    )


def _inside(before: Attributes, after: Attributes, key: str) -> Hashable:
    """What is to be known of the change of an attribute in an item."""
    if key in before and freeze(before[key]) == freeze(after[key]):
        return "same"
    return _difference(before.get(key, ...), after[key])


def _has_one_more(before: object, after: object) -> bool:
    """Whether a list is another one with one item more behind the same ones."""
    return (
        type(before) is list
        and type(after) is list
        and len(after) == len(before) + 1
        and all(map(operator.is_, before, after))
    )


@dataclass(frozen=True, eq=False)
class Layouts:
    """How the parts of a file are written: its meta information, and its data set.

    Attributes:
        parts: the layouts of their elements.
        by_key: the same by the keys of the attributes.
        settled: whether a change made them, and all their group lengths are right ones. Then
            another one leaves the layout of what it does not change as it is (`_again`).
    """

    parts: tuple[tuple[Token, ...], ...]
    by_key: tuple[Mapping[str, Token], ...]
    settled: bool = False

    @classmethod
    def of(
        cls, parts: Iterable[Iterable[Token]], definitions: Definitions, *, settled: bool = False
    ) -> Layouts:
        """The layouts with these tokens."""
        tokens = tuple(map(tuple, parts))
        by_key = tuple(
            [{definitions.key(each.tag, each.occurrence): each for each in part} for part in tokens]
        )
        return cls(tokens, by_key, settled)

    @cached_property
    def group_lengths(self) -> list[str]:
        """The keys of group lengths."""
        return [key for part in self.by_key for key, t in part.items() if _is_group_length(t.tag)]

    @cached_property
    def texts(self) -> dict[str, str]:
        """The fields of an encoding that say the same."""
        return dict(zip(_PARTS, map(layout.format_tokens, self.parts), strict=True))


class _Case(NamedTuple):
    """All that the layouts after a change depend on: changes of one case have equal ones.

    Whatever `_anew` and `_again` look at has to be in here.

    Attributes:
        layouts: those before the change.
        signed: whether what is "US or SS" is SS.
        vrs: the VRs that were given, by path.
        differences: the key of each attribute that changed, with its `_difference`.
        stamp: that of the one item that Original Attributes Sequence has more, if it is `stamped`.
    """

    layouts: Layouts
    signed: bool
    vrs: tuple[tuple[str, str], ...]
    differences: frozenset[tuple[str, Hashable]]
    stamp: Hashable


class Follower:
    """Makes encodings follow a change."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions
        self._rules = rules_of(definitions)
        self._parse = lru_cache(maxsize=256)(self._parsed)
        self._known: dict[_Case, Layouts] = {}

    def layouts(self, encoding: Mapping[str, Any]) -> Layouts:
        """The layouts of a file, to be followed.

        Raises:
            RecordError: the encoding is incomplete or its layout malformed.
        """
        try:
            return self._parse(*(encoding[part] for part in _PARTS))
        except (KeyError, TypeError) as error:
            raise RecordError("record/encoding", "the encoding is incomplete") from error

    def _parsed(self, *texts: str) -> Layouts:
        return Layouts.of(map(layout.parse, texts), self._definitions)

    def followed(
        self, layouts: Layouts, before: Attributes, after: Attributes, vrs: Mapping[str, str]
    ) -> tuple[Layouts, dict[str, Any]]:
        """The layouts of a file whose attributes `before` became `after`; what is left of these.

        Group lengths become right ones, and are no attributes then; lengths in headers become those
        of the values. What was behind the data set goes, and so does the old deflate stream.

        Args:
            layouts: those before the change.
            vrs: VRs by path, of attributes whose VR the dictionary does not tell.
        """
        left = dict(after)
        for key in (TRAILING, DEFLATED, *layouts.group_lengths):
            left.pop(key, None)
        changed = differing(before, left)
        data_set = layouts.by_key[1]
        stamped = layouts.settled and _has_one_more(before.get(ORIGINALS), left.get(ORIGINALS))
        differences = changed - {ORIGINALS} if stamped else changed
        left = self._without_group_lengths(left, differences, before, data_set)
        case = _Case(
            layouts,
            is_signed(left.get("PixelRepresentation")),
            tuple(sorted(vrs.items())),
            frozenset(
                (key, _difference(before.get(key, ...), left.get(key, ...))) for key in differences
            ),
            _difference([], left[ORIGINALS][-1:]) if stamped else None,
        )
        known = self._known.get(case)
        if known is None:
            explicit = any(token.vr for token in data_set.values())
            scope = _Scope(explicit, case.signed, vrs, data_set)
            if layouts.settled and not any(map(self._names_group_length, changed)):
                known = self._again(layouts, differences, before, left, scope, stamped=stamped)
            else:
                known = self._anew(layouts, before, left, scope)
            if len(self._known) > _MEMO_SIZE:
                self._known.clear()
            self._known[case] = known
        return known, left

    def _anew(
        self, layouts: Layouts, before: Attributes, after: Attributes, scope: _Scope
    ) -> Layouts:
        """The layouts of all that is there after a change, each looked at."""
        kept = [self._tokens(tokens, before, after, scope) for tokens in layouts.parts]
        there = {self._key(token) for tokens in kept for token in tokens}
        self._add(kept[1], [key for key in after if key[:1] != "_"], there, after, scope)
        settled = all(
            token.form is Form.GROUP_LENGTH or not _is_group_length(token.tag)
            for tokens in kept
            for token in tokens
        )
        return Layouts.of(kept, self._definitions, settled=settled)

    def _again(
        self,
        layouts: Layouts,
        changed: set[str],
        before: Attributes,
        after: Attributes,
        scope: _Scope,
        *,
        stamped: bool,
    ) -> Layouts:
        """Equal to `_anew`, if layouts are settled and no group length came or went.

        What is as it was has the layout that it had then, and is not looked at: so a version
        costs what it changes, however much there is.

        Args:
            changed: the keys of what came, went or became another.
            stamped: Original Attributes Sequence has one item more beside that.
        """
        parts = [dict(part) for part in layouts.by_key]
        for part in parts:
            here = changed & part.keys()
            for key in here & after.keys():
                part[key] = self._kept(part[key], before, after, scope)
            if stamped and ORIGINALS in part:
                part[ORIGINALS] = self._with_last(part[ORIGINALS], after[ORIGINALS], scope)
            if groups := {part.pop(key).tag >> 16 for key in here - after.keys()}:
                groups -= {t.tag >> 16 for t in part.values() if t.form != Form.GROUP_LENGTH}
                for key in [key for key, token in part.items() if token.tag >> 16 in groups]:
                    del part[key]
        there = parts[0].keys() | parts[1].keys()
        new = [key for key in after if key in changed and key[:1] != "_" and key not in there]
        if new:
            tokens = list(parts[1].values())
            self._add(tokens, new, there, after, scope)
            parts[1] = {self._key(token): token for token in tokens}
        return Layouts(tuple([tuple(part.values()) for part in parts]), tuple(parts), settled=True)

    def _names_group_length(self, key: str) -> bool:
        """Whether the key of an attribute is that of a group length."""
        name = key.partition("#")[0]
        return key[:1] != "_" and _is_group_length(self._definitions.tag(name))

    def _without_group_lengths(
        self,
        attributes: Attributes,
        changed: Iterable[str],
        before: Attributes,
        by_key: Mapping[str, Token],
    ) -> dict[str, Any]:
        """The attributes without group lengths in items of changed sequences: they are made anew.

        `before` are those before the change, `by_key` their layouts.
        """
        sequences: dict[str, Any] = {}
        for key in [key for key in changed if type(attributes.get(key)) is list]:
            items = (by_key[key].items if key in by_key else None) or ()
            old = before.get(key)
            sequences[key] = []
            for at, item in enumerate(attributes[key]):
                tokens = items[at].tokens if at < len(items) else ()
                inner = {self._key(token): token for token in tokens}
                gone = {name for name, token in inner.items() if _is_group_length(token.tag)}
                rest = {name: value for name, value in item.items() if name not in gone}
                previous = old[at] if type(old) is list and at < len(old) else {}
                sequences[key].append(
                    self._without_group_lengths(rest, differing(previous, rest), previous, inner)
                )
        return {**attributes, **sequences}

    def _key(self, token: Token) -> str:
        return self._definitions.key(token.tag, token.occurrence)

    def _tokens(
        self,
        tokens: Iterable[Token],
        before: Attributes,
        after: Attributes,
        scope: _Scope,
    ) -> list[Token]:
        """The layout of what is still there."""
        kept: dict[str, Token] = {}
        for token in tokens:
            key = self._key(token)
            if _is_group_length(token.tag):
                kept.setdefault(f"{token.tag}", Token(token.tag, token.vr, Form.GROUP_LENGTH))
            elif key in after:
                kept[key] = self._kept(token, before, after, scope)
        groups = {token.tag >> 16 for token in kept.values() if token.form != Form.GROUP_LENGTH}
        return [token for token in kept.values() if token.tag >> 16 in groups]

    def _kept(self, token: Token, before: Attributes, after: Attributes, scope: _Scope) -> Token:
        """The layout of an element that is still there."""
        key = self._key(token)
        if key in before and freeze(before[key]) == freeze(after[key]):
            return _defined(token)
        return self._changed(token, before.get(key), after[key], scope)

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

    def _with_last(self, token: Token, after: list[dict[str, Any]], scope: _Scope) -> Token:
        """What `_changed` gives for a sequence that this made, if only the last item is new."""
        at, items = len(after) - 1, token.items or ()
        explicit = token.vr not in {"", "UN"}
        inner = scope.inside(token.tag, f"{self._key(token)}[{at}].", explicit=explicit)
        tokens: list[Token] = []
        self._add(tokens, after[at], set(), after[at], inner)
        return token._replace(items=(*items, ItemLayout(tuple(tokens), False)))

    def _vr_for(self, value: Any, token: Token, given: str | None, scope: _Scope) -> str:
        """The VR of an element that becomes `value`: that of the file, if it can have it."""
        if given and type(value) is bytes:
            return given
        rule = self._rules.rule(token.tag, token.vr)
        own = self._definitions.vr(token.tag)
        if type(value) is bytes:  # as it has them by the dictionary
            fits = own == "UN" or token.vr in own.split(" or ")
        elif isinstance(value, str) and own != "UN":
            fits = _means_the_same(value, rule, self._rules.of_vr(own))
        elif isinstance(value, str) and rule.kind is not Kind.TAG:
            fits = rule.kind in TEXT_KINDS
        else:
            encoded = values.encode(value, rule, IN_UNICODE)
            again = None if encoded is None else values.decode(encoded, rule, IN_UNICODE)
            fits = freeze(again) == freeze(value)
        return token.vr if fits else vr_of(token.tag, self._definitions, signed=scope.signed)

    def _add(
        self,
        tokens: list[Token],
        keys: Iterable[str],
        there: set[str],
        struct: Attributes,
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
        if known is not None and value is not None and self._fits(known, value):
            return _defined(known if scope.explicit else _without_vrs(known))
        name, _, occurrence = key.partition("#")
        tag = self._definitions.tag(name)
        vr = ""
        if scope.explicit:
            given = scope.vrs.get(scope.path + key)
            vr = given or vr_of(tag, self._definitions, signed=scope.signed)
        return self._changed(Token(tag, vr, occurrence=int(occurrence or 0)), None, value, scope)

    def _fits(self, token: Token, value: Any) -> bool:
        """Whether a layout has items where the value has them, at any depth.

        It does not if a Specific Character Set that was a sequence became Unicode.
        """
        if token.items is None or type(value) is not list:
            return token.items is None and type(value) is not list
        return all(
            self._fits(inner, struct[key])
            for item, struct in zip(token.items, value, strict=False)
            for inner in item.tokens
            if (key := self._key(inner)) in struct
        )


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


def is_of_writing(key: str) -> bool:
    """Whether an attribute of an item says how that is written, and nothing else.

    So do Specific Character Set, also where it was repeated, and group lengths.
    """
    name = key.partition("#")[0]
    return name == CHARACTER_SET or _GROUP_LENGTH.fullmatch(name) is not None


def _is_group_length(tag: int) -> bool:
    """Whether a tag is (gggg,0000), of an element that has the length of its group."""
    return tag & 0xFFFF == 0


def _order(token: Token) -> tuple[int, int]:
    """Where an element stands among others: the one that counts behind those it replaces."""
    return token.tag, token.occurrence or sys.maxsize


def _without_vrs(token: Token) -> Token:
    """The token as it is where no VRs are written."""
    items = token.items and tuple(
        [each._replace(tokens=tuple(map(_without_vrs, each.tokens))) for each in token.items]
    )
    return token._replace(vr="", reserved=0, items=items)


def vr_of(tag: int, definitions: Definitions, *, signed: bool) -> str:
    """The VR that an element is written with, by the dictionary."""
    vr = definitions.vr(tag)
    if vr.startswith("US or SS"):
        return "SS" if signed else "US"
    return vr.rpartition(" ")[2]


def _means_the_same(text: str, one: Rule, other: Rule) -> bool:
    """Whether a text is the same tags, or values, by the rules of two VRs."""
    if Kind.TAG in {one.kind, other.kind}:
        return one.kind is other.kind
    return (
        one.kind in TEXT_KINDS
        and (one.multi is other.multi or "\\" not in text)
        and (one.leading == other.leading or text[:1] != " ")
    )


def _defined(token: Token) -> Token:
    """The token with the length of its value."""
    return token._replace(form=Form.DEFINED, declared=0) if token.form is Form.DECLARED else token
