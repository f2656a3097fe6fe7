"""Attributes and an encoding → the file. Mirror of `decoder`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from dicomstudy import layout, p10, values
from dicomstudy.definitions import Definitions
from dicomstudy.elements import PIXEL_DATA_TAGS, UNDEFINED_LENGTH, Form
from dicomstudy.errors import RecordError
from dicomstudy.layout import Token
from dicomstudy.paths import CHARACTER_SET
from dicomstudy.record.attributes import (
    DEFLATED,
    META_CONTEXT,
    PREAMBLE,
    RAW,
    TRAILING,
    ZEROS,
    Resolve,
    Segment,
    character_set_of,
    is_reference,
)
from dicomstudy.values import Context, Rules, rules_of, swap

ENCODING_FIELDS = ("preamble", "byteOrder", "meta", "dataSet")
#: How elements of undefined length are written.
_UNDEFINED = frozenset((Form.UNDEFINED, Form.DELIMITED))
#: The layout of an element that has nothing unusual about it, but for tag, VR and space.
_PLAIN = Token(0, "")
_SHORT = 1 << 16
_MEMO_SIZE = 512
#: Sets of groups whose elements are remembered together; series have few.
_MOST_TOGETHER = 32
#: Plans of longer layouts are not remembered: files are hardly ever written alike so.
_LONGEST_LAYOUT = 1 << 14
#: Holds the place of a group length, which is as long as this.
_NO_LENGTH = bytes(12)


def _raw(attributes: Mapping[str, Any]) -> dict[str, bytes]:
    """Bytes that are in no value, by path."""
    raw = {key[len(RAW) :]: value for key, value in attributes.items() if key.startswith(RAW)}
    for path, value in raw.items():
        if not isinstance(value, bytes):
            raise RecordError("record/value", f"the raw bytes at {path} are none")
    return raw


def _preamble(attributes: Mapping[str, Any]) -> bytes:
    preamble = attributes.get(PREAMBLE, ZEROS)
    if not isinstance(preamble, bytes) or len(preamble) != len(ZEROS):
        raise RecordError("record/value", "the preamble is not 128 bytes")
    return preamble


def _segment(value: object) -> Segment:
    if isinstance(value, bytes) or is_reference(value):
        return value
    raise RecordError("record/value", "what is around the data set is neither bytes nor a value")


class _GroupLength(NamedTuple):
    """A group length to be filled in: its place, where its group ends, its layout and header."""

    place: int
    end: int
    token: Token
    header: bytes
    big: bool


class Plan:
    """An `encoding` made ready for writing: which attributes follow one another, and how.

    `Encoder.plan` makes them, and says what is wrong with an encoding that gives none.

    `keys` are the keys of all elements in their order, "" for a group length; `tokens` has
    the layout of each, and whether it belongs to the file meta information; `headers` the
    header and the rule of those that have a single value of defined length; `ends` the delimiters
    behind values, by their place.
    """

    __slots__ = (
        *("big", "data_set", "ends", "group_lengths", "headers", "keys", "places", "preamble"),
        "tokens",
    )

    def __init__(self, encoding: Mapping[str, Any], rules: Rules) -> None:
        definitions = rules.definitions
        meta = layout.parse(encoding["meta"])
        data_set = layout.parse(encoding["dataSet"])
        self.preamble = bool(encoding["preamble"])
        self.big = {"little": False, "big": True}[encoding["byteOrder"]]
        self.keys: list[str] = []
        self.tokens: dict[str, tuple[Token, bool]] = {}
        self.places: dict[str, int] = {}
        self.headers: dict[str, tuple[p10.Header, values.Rule]] = {}
        self.ends: dict[int, bytes] = {}
        self.group_lengths: list[_GroupLength] = []
        self.data_set = len(meta)
        for tokens, is_meta in ((meta, True), (data_set, False)):
            start, big = len(self.keys), self.big and not is_meta
            for at, token in enumerate(tokens):
                key = definitions.key(token.tag, token.occurrence)
                if token.form is Form.GROUP_LENGTH:
                    end = layout.end_of_group(tokens, at, len(tokens))
                    head = p10.encode_element(token.tag, token.vr, b"", big=big, length=4)
                    self.group_lengths.append(
                        _GroupLength(start + at, start + end, token, head, big)
                    )
                    key = ""
                else:
                    self.places[key] = len(self.keys)
                    self.tokens[key] = token, is_meta
                    if token.form is Form.DELIMITED:
                        self.ends[len(self.keys)] = p10.encode_delimiter(token.declared, big=big)
                    if token._replace(tag=0, vr="", space=False) == _PLAIN:
                        self.headers[key] = (
                            p10.header(token.tag, token.vr, big=big),
                            rules.rule(token.tag, token.vr),
                        )
                self.keys.append(key)
        self.group_lengths.reverse()


class Encoded(NamedTuple):
    """Elements encoded by key: all but the bytes of `large` values, which are to be copied.

    `around` are the attributes that are no elements.
    """

    pieces: dict[str, bytes]
    large: dict[str, Mapping[str, Any]]
    around: dict[str, Any]

    def add(self, other: Encoded) -> None:
        """Take over what was encoded apart."""
        self.pieces.update(other.pieces)
        if other.large:
            self.large.update(other.large)
        if other.around:
            self.around.update(other.around)


def _make_plan(rules: Rules, *fields: Any) -> Plan:
    """The plan for an encoding with these fields."""
    return Plan(dict(zip(ENCODING_FIELDS, fields, strict=True)), rules)


#: The same for all encoders: many studies are written alike.
_plan = lru_cache(maxsize=512)(_make_plan)


class Encoder:
    """Writes P10 files from attributes and an encoding. Mirror of `Decoder`."""

    def __init__(self, definitions: Definitions) -> None:
        self.definitions = definitions
        self._rules = rules_of(definitions)
        self._groups: dict[tuple[str, Plan, Context], Encoded] = {}
        self._together: dict[tuple[tuple[str, ...], Plan, Context], Encoded] = {}

    def plan(self, encoding: Mapping[str, Any]) -> Plan:
        """How to write what has this encoding.

        Raises:
            RecordError: the encoding is incomplete or its layout malformed.
        """
        try:
            fields = [encoding[field] for field in ENCODING_FIELDS]
            if len(encoding["dataSet"]) > _LONGEST_LAYOUT:
                return _make_plan(self._rules, *fields)
            return _plan(self._rules, *fields)
        except (KeyError, TypeError) as error:
            raise RecordError("record/encoding", "the encoding is incomplete") from error

    def stray(self, parts: Iterable[Mapping[str, Any]], encoding: Mapping[str, Any]) -> str | None:
        """The key of an attribute, in items too, that no layout names; None if there is none.

        It is in no file that is written.

        Args:
            parts: attributes by key, each some of a record.
            encoding: that of the record.

        Raises:
            RecordError: as `plan`.
        """
        tokens = {key: token for key, (token, _) in self.plan(encoding).tokens.items()}
        strays = (self._stray(part, tokens) for part in parts)
        return next((key for key in strays if key is not None), None)

    def _stray(self, struct: Mapping[str, Any], tokens: Mapping[str, Token]) -> str | None:
        """As `stray`, of a data set or an item that has these tokens by key."""
        for key, value in struct.items():
            if key[:1] == "_":
                continue
            token = tokens.get(key)
            if token is None:
                return key
            if type(value) is list:
                for item, written in zip(value, token.items or (), strict=False):
                    stray = self._stray(item, self._by_key(written.tokens))
                    if stray is not None:
                        return stray
        return None

    def _by_key(self, tokens: Iterable[Token]) -> dict[str, Token]:
        """The tokens of an item, but for its group lengths."""
        return {
            self.definitions.key(token.tag, token.occurrence): token
            for token in tokens
            if token.form is not Form.GROUP_LENGTH
        }

    def write(
        self, attributes: Mapping[str, Any], encoding: Mapping[str, Any], resolve: Resolve
    ) -> list[Segment]:
        """The file as bytes and references of large values, in their order.

        Raises:
            RecordError: attributes are missing or do not fit the encoding.
        """
        plan = self.plan(encoding)
        raw = _raw(attributes)
        context = self._context(attributes, plan)
        encoded = self._encode(attributes, plan, context=context, raw=raw, resolve=resolve)
        return self._assemble(plan, encoded)

    def rebuild(
        self,
        groups: Sequence[tuple[str, Mapping[str, Any]]],
        own: Mapping[str, Any],
        encoding: Mapping[str, Any],
        resolve: Resolve,
    ) -> list[Segment]:
        """As `write`, of attributes in groups: a group that comes again is encoded once.

        Args:
            groups: digest and content of each group but the encoding; without a digest it is
                not remembered.
            own: the attributes in none of them.
        """
        plan = self.plan(encoding)
        parts = [*(content for _, content in groups), own]
        naming_set = next((part for part in reversed(parts) if CHARACTER_SET in part), own)
        context = self._context(naming_set, plan)
        whole = self._encode_groups(groups, plan, context, resolve)
        whole.around.update({key: value for key, value in own.items() if key[:1] == "_"})
        raw = _raw(whole.around)
        whole.add(self._encode(own, plan, context=context, raw=raw, resolve=resolve))
        if raw:
            inexact = {self._key_at(path) for path in raw} - own.keys()
            values_ = {key: part[key] for part in parts for key in inexact & part.keys()}
            whole.add(self._encode(values_, plan, context=context, raw=raw, resolve=resolve))
        try:
            return self._assemble(plan, whole)
        except RecordError:
            for part in parts:  # a value in a group may be none of its layout, which says more
                self._encode(part, plan, context=context, raw=raw, resolve=resolve)
            raise

    def _encode_groups(
        self,
        groups: Sequence[tuple[str, Mapping[str, Any]]],
        plan: Plan,
        context: Context,
        resolve: Resolve,
    ) -> Encoded:
        """The elements in groups, as far as they can be encoded without raw bytes."""
        together = (tuple([digest for digest, _ in groups]), plan, context)
        whole = self._together.get(together)
        if whole is None:
            whole = Encoded({}, {}, {})
            for digest, content in groups:
                name = (digest, plan, context)
                encoded = self._groups.get(name)
                if encoded is None:
                    encoded = self._encode(
                        content, plan, context=context, raw={}, resolve=resolve, partly=True
                    )
                    if len(self._groups) > _MEMO_SIZE:
                        self._groups.clear()
                    if digest:
                        self._groups[name] = encoded
                whole.add(encoded)
            if len(self._together) >= _MOST_TOGETHER:
                self._together.clear()
            if all(together[0]):
                self._together[together] = whole
        return Encoded(whole.pieces.copy(), whole.large.copy(), whole.around.copy())

    def _key_at(self, path: str) -> str:
        """The attribute in which a path of raw bytes lies."""
        top, _, occurrence = path.partition("[")[0].partition("#")
        try:
            key = self.definitions.keyword(int(top, 16))
        except ValueError as error:
            raise RecordError("record/raw-path", f"{path!r} is no path") from error
        return f"{key}#{occurrence}" if occurrence else key

    def _context(self, attributes: Mapping[str, Any], plan: Plan) -> Context:
        """The context of the data set that has these attributes."""
        return Context(character_set_of(attributes.get(CHARACTER_SET)), plan.big)

    def _encode(
        self,
        attributes: Mapping[str, Any],
        plan: Plan,
        *,
        context: Context,
        raw: Mapping[str, bytes],
        resolve: Resolve,
        partly: bool = False,
    ) -> Encoded:
        """Those of `attributes` that are elements, encoded one by one.

        Args:
            attributes: values by key, all of a record or some.
            raw: bytes of values by path, which stand in for what the values give.
            resolve: gives the large values that are not to be copied as they are.
            partly: leave out what cannot be encoded.
        """
        encoded = Encoded({}, {}, {})
        inexact = {self._key_at(path) for path in raw}
        for key, value in attributes.items():
            found = plan.tokens.get(key)
            if found is None:
                if key[:1] == "_":
                    encoded.around[key] = value
                continue
            token, is_meta = found
            here = META_CONTEXT if is_meta else context
            if key in plan.headers and type(value) is not dict and key not in inexact:
                # as `encode_element` would, the work of which is already done
                header, rule = plan.headers[key]
                content = values.encode(value, rule, here, space=token.space)
                if content is not None and len(content) < _SHORT:
                    encoded.pieces[key] = header.start + header.length.pack(len(content)) + content
                    continue
            if is_reference(value) and not self._is_turned(token, here):
                encoded.pieces[key] = self.header(token, value["length"], here)
                encoded.large[key] = value
            else:
                try:
                    encoded.pieces[key] = self.encode_element(
                        token, value, here, raw=raw, resolve=resolve
                    )
                except RecordError:
                    if not partly:
                        raise
        return encoded

    def _is_turned(self, token: Token, context: Context) -> bool:
        """Whether the bytes of a large value were turned round before they were recorded."""
        return (
            context.big
            and token.tag not in PIXEL_DATA_TAGS
            and self._rules.rule(token.tag, token.vr).word > 1
        )

    def header(self, token: Token, length: int, context: Context) -> bytes:
        """The header of an element whose value of `length` bytes is to be copied."""
        if token.form in _UNDEFINED:
            length = UNDEFINED_LENGTH
        elif token.form is Form.DECLARED:
            length = token.declared
        return p10.encode_element(
            token.tag, token.vr, b"", big=context.big, length=length, reserved=token.reserved
        )

    def _assemble(self, plan: Plan, encoded: Encoded) -> list[Segment]:
        """The file from the bytes of all its elements, and what is around them.

        Raises:
            RecordError: the layout names an element that is not there.
        """
        pieces, large, around = encoded
        try:
            row = [pieces[key] if key else _NO_LENGTH for key in plan.keys]
        except KeyError as error:
            raise RecordError(
                "record/missing-attribute", f"the layout names {error}, which is missing"
            ) from error
        cuts = sorted((plan.places[key], value) for key, value in large.items()) if large else []
        if plan.group_lengths:
            sizes = list(map(len, row))
            for at, value in cuts:
                sizes[at] += value["length"] + len(plan.ends.get(at, b""))
            for place, end, _, head, big in plan.group_lengths:
                row[place] = head + p10.group_length(sum(sizes[place + 1 : end]), big=big)
                sizes[place] = len(row[place])
        if plan.preamble:
            row.insert(0, _preamble(around) + p10.PREFIX)
        shift = int(plan.preamble)
        deflated = around.get(DEFLATED)
        if deflated is not None:
            return [b"".join(row[: plan.data_set + shift]), _segment(deflated)]
        segments: list[Segment] = []
        start = 0
        for at, value in cuts:
            segments += (b"".join(row[start : at + shift + 1]), value)
            if at in plan.ends:
                segments.append(plan.ends[at])
            start = at + shift + 1
        segments.append(b"".join(row[start:]))
        if TRAILING in around:
            segments.append(_segment(around[TRAILING]))
        return segments

    def encode_element(
        self,
        token: Token,
        value: Any,
        context: Context,
        *,
        raw: Mapping[str, bytes],
        resolve: Resolve,
        path: str = "",
    ) -> bytes:
        """The bytes of one element, header included.

        Args:
            path: where in a sequence the element lies, ``<tag>[<item>].``; empty at the top.

        Raises:
            RecordError: the value does not fit its layout.
        """
        tag, vr, form, declared, reserved, occurrence, space, items, undefined, _ = token
        here = f"{path}{tag:08X}#{occurrence}" if occurrence else f"{path}{tag:08X}"
        if items is not None:
            content = self._encode_items(token, value, context, raw, resolve, here)
        elif here in raw:
            content = raw[here]
        elif is_reference(value):
            content = resolve(value)
            if context.big:
                content = swap(content, self._rules.rule(tag, vr).word)
        else:
            encoded = values.encode(value, self._rules.rule(tag, vr), context, space=space)
            if encoded is None:
                raise RecordError(
                    "record/value", f"{value!r:.80} cannot be encoded as {vr or 'this'}", tag=tag
                )
            content = encoded
        length = len(content)
        if undefined or form in _UNDEFINED:
            length = UNDEFINED_LENGTH
        elif form is Form.DECLARED:
            length = declared
        if form is Form.DELIMITED:
            content += p10.encode_delimiter(declared, big=context.big)
        return p10.encode_element(
            tag, vr, content, big=context.big, length=length, reserved=reserved
        )

    def _encode_items(
        self,
        token: Token,
        value: Any,
        context: Context,
        raw: Mapping[str, bytes],
        resolve: Resolve,
        path: str,
    ) -> bytes:
        """The items of a sequence, each with its header, and its delimiter if its layout has one.

        `path` is that of the sequence; an item may have a character set of its own.
        """
        items = token.items or ()
        structs = value or []
        if (
            not isinstance(structs, list)
            or len(structs) != len(items)
            or not all(isinstance(struct, dict) for struct in structs)
        ):
            raise RecordError(
                "record/items",
                f"the layout has {len(items)} items, the value has others",
                tag=token.tag,
            )
        encoded = []
        for place, (struct, item) in enumerate(zip(structs, items, strict=True)):
            inner = context
            if CHARACTER_SET in struct:
                charset = character_set_of(struct[CHARACTER_SET])
                inner = Context(charset, context.big)
            encoded.append(
                (
                    self._encode_item(
                        item.tokens, struct, inner, raw, resolve, f"{path}[{place}]."
                    ),
                    *item[1:],
                )
            )
        delimited = token.undefined or token.delimited
        return p10.encode_items(encoded, delimited=delimited, big=context.big)

    def _encode_item(
        self,
        tokens: tuple[Token, ...],
        struct: Mapping[str, Any],
        context: Context,
        raw: Mapping[str, bytes],
        resolve: Resolve,
        path: str,
    ) -> bytes:
        """The elements of one item, in the order of their layout; `path` is that of the item.

        Group lengths are filled in last, once the elements that they count are there.
        """
        row: list[bytes] = []
        for token in tokens:
            if token.form is Form.GROUP_LENGTH:
                row.append(_NO_LENGTH)
                continue
            key = self.definitions.key(token.tag, token.occurrence)
            if key not in struct:
                raise RecordError(
                    "record/missing-attribute", f"the layout names {key!r}, which is missing"
                )
            row.append(
                self.encode_element(
                    token, struct[key], context, raw=raw, resolve=resolve, path=path
                )
            )
        for place in reversed(range(len(tokens))):
            token = tokens[place]
            if token.form is Form.GROUP_LENGTH:
                end = layout.end_of_group(tokens, place, len(tokens))
                length = p10.group_length(sum(map(len, row[place + 1 : end])), big=context.big)
                row[place] = p10.encode_element(token.tag, token.vr, length, big=context.big)
        return b"".join(row)
