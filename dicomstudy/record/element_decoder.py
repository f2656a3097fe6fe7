"""One element, with the items inside it → an attribute. Mirror of `Encoder.encode_element`."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from typing import Any, NamedTuple

from dicomstudy import layout, p10, values
from dicomstudy.definitions import Definitions
from dicomstudy.elements import (
    CHARACTER_SET_TAG,
    PIXEL_DATA_TAGS,
    Buffer,
    Element,
    Encapsulated,
    Form,
    Item,
    Sequence,
    Span,
    format_tag,
    may_be_large,
    sha256_of,
)
from dicomstudy.errors import P10Error, RecordError
from dicomstudy.layout import Token
from dicomstudy.p10 import BIG, LITTLE, Header, Run
from dicomstudy.record.attributes import (
    RAW,
    RAW_GROUP,
    Attribute,
    Large,
    character_set_of,
    group_of,
)
from dicomstudy.record.encoder import Encoder
from dicomstudy.record.template import Part
from dicomstudy.values import Context, Kind, Rules, rules_of, swap

#: What an element that is remembered weighs beside its bytes, and one that is so by its place.
ELEMENT_WEIGHT, _PLACE_WEIGHT = 64, 1 << 10
#: Bytes of sequences of defined length that stand in one another: each has those of the inner ones.
_MAX_AROUND = 1 << 29
#: What the items of a sequence begin with, or its delimiter if there are none.
_ITEM_TAGS = frozenset(
    (LITTLE.item_tag, BIG.item_tag, LITTLE.sequence_delimiter, BIG.sequence_delimiter)
)


class Memo(NamedTuple):
    """What was decoded before in one context; `explicit`: of data sets or items that are so.

    `ordinary` has attributes of ordinary elements, by their headers and by their bytes.
    """

    context: Context
    deflated: bool
    explicit: bool
    runs: dict[Run, Attribute]
    ordinary: dict[Header, dict[bytes, Attribute]]
    parts: dict[Run, Part]
    leaves: dict[tuple[int, str, bytes], tuple[Any, bool, bool]]


class _Head(NamedTuple):
    """What all elements of one tag and VR have in common."""

    key: str
    group: str
    token: str
    spaced: str
    rule: values.Rule
    is_sequence: bool


class _Found(NamedTuple):
    """What comes up inside an element: raw bytes by path, large values with their bytes."""

    raw: dict[str, bytes]
    large: dict[str, bytes]
    flaws: list[str]


class ElementDecoder:
    """Makes attributes of elements, each distinct one once.

    Args:
        max_inline, by_offset: as for `Decoder`.

    Attributes:
        weight: that of what is remembered, in bytes of files.
    """

    def __init__(self, definitions: Definitions, *, max_inline: int, by_offset: bool) -> None:
        self.weight = 0
        self._definitions = definitions
        self._max_inline = max_inline
        self._by_offset = by_offset
        self._rules = rules_of(definitions)
        self._encoder = Encoder(definitions)
        self._memos: dict[tuple[Context, bool, bool], Memo] = {}

    def forget(self) -> None:
        """Forget all that was decoded before."""
        self._memos.clear()
        self.weight = 0

    def memo(self, context: Context, *, deflated: bool, explicit: bool) -> Memo:
        """What was decoded before in a context."""
        key = (context, deflated, explicit)
        memo = self._memos.get(key)
        if memo is None:
            memo = self._memos[key] = Memo(*key, {}, {}, {}, {})
        return memo

    def single(self, memo: Memo, run: Run, body: Buffer) -> Attribute:
        """The attribute of a run of one element, remembered if the same run may come again.

        `body` is what the run was read from.
        """
        if run.head is not None:
            attribute = self.ordinary(memo, run.head, run.encoded)
        else:
            (element,) = run.elements
            attribute = self._attribute(memo, element, run.encoded or None, body)
            if not run.encoded and element.form is not Form.GROUP_LENGTH:
                if not _is_by_place(element, attribute):
                    return attribute
                self.weight += _PLACE_WEIGHT
        memo.runs[run] = attribute
        self.weight += len(run.encoded) + ELEMENT_WEIGHT
        return attribute

    def ordinary(self, memo: Memo, head: Header, encoded: bytes) -> Attribute:
        """The attribute of an ordinary element, remembered; `encoded` are its bytes."""
        known = memo.ordinary.setdefault(head, {})
        attribute = known.get(encoded)
        if attribute is None:
            attribute = self._recognised(memo.context, head, encoded)
            if attribute is None:
                element = Element(head.tag, head.vr, encoded[head.size :])
                attribute = self._attribute(memo, element, encoded, encoded)
            known[encoded] = attribute
            self.weight += len(encoded) + ELEMENT_WEIGHT
        return attribute

    def _recognised(self, context: Context, head: Header, encoded: bytes) -> Attribute | None:
        """As `_attribute`, of an ordinary element whose value gives its bytes again."""
        if len(encoded) > self._max_inline:
            return None
        name = _head(head, self._rules)
        value = encoded[head.size :]
        if name.rule.kind is Kind.ITEMS and value and (name.is_sequence or _begins_as_items(value)):
            return None
        found = values.recognise(value, name.rule, context)
        if found is None:
            return None
        decoded, space = found
        token = name.spaced if space else name.token
        return Attribute(name.key, decoded, name.group, token, encoded)

    def _attribute(
        self, memo: Memo, element: Element, source: bytes | None, body: Buffer
    ) -> Attribute:
        """`element` decoded; `source` are its bytes in `body`, if there are few."""
        tag, vr, value, form, declared, reserved = element
        if isinstance(value, Span | Encapsulated):
            return self.large(memo, element, value, body)
        key = self._definitions.keyword(tag)
        token = Token(tag, vr, form, declared, reserved)
        if form is Form.GROUP_LENGTH:
            encoded = p10.encode_element(tag, vr, bytes(4), big=memo.context.big)
            return Attribute(key, None, None, token=layout.format_token(token), encoded=encoded)
        found = _Found({}, {}, [])
        decoded, token_text = self._decode(memo, element, format_tag(tag), found, 0, 0)
        encoded = self._encode(token_text, decoded, memo.context, found)
        header = p10.header(tag, vr, big=memo.context.big).size
        if source is not None and encoded != source:
            # Nothing in the grammar of layouts says how this was written: keep all its bytes.
            if isinstance(value, Sequence) or form is Form.DELIMITED:
                token = Token(tag, vr, Form.UNDEFINED, 0, reserved)
            token_text = layout.format_token(token)
            found.raw.clear()
            found.raw[format_tag(tag)] = source[header:]
            encoded = self._encode(token_text, decoded, memo.context, found)
        return Attribute(
            key,
            decoded,
            group_of(key, self._definitions),
            token=token_text,
            encoded=encoded,
            raw=tuple(Attribute(RAW + path, raw, RAW_GROUP) for path, raw in found.raw.items()),
            flaw="; ".join(found.flaws),
            large=tuple(
                _inside(sha256, content, b"" if memo.deflated or source is None else source, header)
                for sha256, content in found.large.items()
            ),
        )

    def large(
        self, memo: Memo, element: Element, value: Span | Encapsulated, body: Buffer
    ) -> Attribute:
        """The attribute of an element whose value stays in the file: a reference to it.

        `value` is that of the element, which was read from `body`.

        The bytes are in memory only where they are kept otherwise than they are in the file: those
        of a deflated file, and those whose words are turned as the file is big-endian.
        """
        tag, vr, _, form, declared, reserved = element
        context = memo.context
        head = p10.header(tag, vr, big=context.big)
        name = _head(head, self._rules)
        start, length = value[:2]
        span = Span(start, length)
        pixels = tag in PIXEL_DATA_TAGS
        word = name.rule.word
        turned = context.big and word > 1 and not pixels
        stored = None
        if turned or memo.deflated:
            stored = body[start : start + length]
            if turned:
                stored = swap(stored, word)
        if self._by_offset and pixels and stored is None:
            reference: dict[str, Any] = {"dataOffset": start, "length": length}
            large = Large(None, span, pixels=True)
        else:
            sha256 = sha256_of(body, span) if stored is None else sha256_of(stored)
            reference = {"length": length, "sha256": sha256}
            native = pixels and isinstance(value, Span)
            large = Large(sha256, span, stored, pixels=native, word=word)
        if isinstance(value, Encapsulated):
            reference["fragments"] = [fragment.length for fragment in value.fragments]
        end = []
        if form is Form.DELIMITED:
            end.append(p10.encode_delimiter(declared, big=context.big))
        if form or reserved or turned:
            token = Token(tag, vr, form, declared, reserved)
            token_text = _token_text(token)
            encoded = (
                self._encoder.encode_element(
                    token, reference, context, raw={}, resolve=lambda _: large.stored or b""
                )
                if turned
                else self._encoder.header(token, length, context)
            )
        else:
            token_text, encoded = name.token, head.start + head.length.pack(length)
        return Attribute(
            name.key,
            reference,
            name.group,
            token=token_text,
            encoded=encoded,
            large=(large,),
            copied=() if turned else (reference, *end),
        )

    def _decode(
        self, memo: Memo, element: Element, path: str, found: _Found, depth: int, around: int
    ) -> tuple[Any, str]:
        """The value of an element and the text of its layout.

        There are `depth` sequences around it, and `around` bytes in those of defined length.
        """
        tag, vr, value, form, declared, reserved = element
        token = Token(tag, vr, form, declared, reserved)
        items = None
        if isinstance(value, Sequence):
            items = value
        elif form is Form.DEFINED and isinstance(value, bytes) and value:
            rule = self._rules.rule(tag, vr)
            if rule.kind is Kind.ITEMS:
                around += len(value)
                fits = around <= _MAX_AROUND
                items = _items(value, vr, memo, depth) if fits else None
                if items is None and "SQ" in (vr, self._definitions.vr(tag)):
                    why = "cannot be told apart" if fits else "are too large with those around them"
                    found.flaws.append(f"the items at {path} {why}; kept as bytes")
        if items is not None:
            decoded, texts = self._decode_items(memo, items, path, found, depth, around)
            token = token._replace(items=(), undefined=items.undefined, delimited=items.delimited)
            return decoded, layout.format_token(token, texts)
        if not isinstance(value, bytes):
            raise RecordError("record/no-bytes", "a value inside an item was left out", tag=tag)
        decoded, space = self._decode_leaf(memo, element, value, path, found)
        return decoded, layout.format_token(token._replace(space=space))

    def _decode_leaf(
        self, memo: Memo, element: Element, value: bytes, path: str, found: _Found
    ) -> tuple[Any, bool]:
        """The value, and whether one space that means nothing stands before it."""
        tag, vr = element.tag, element.vr
        rule = self._rules.rule(tag, vr)
        if may_be_large(tag, len(value), self._max_inline):
            content = swap(value, rule.word) if memo.context.big else value
            sha256 = sha256_of(content)
            found.large[sha256] = content
            return {"length": len(content), "sha256": sha256}, False
        known = memo.leaves.get((tag, vr, value))
        if known is None:
            decoded = values.decode(value, rule, memo.context)
            space = bool(rule.leading) and value[:1] == b" " and isinstance(decoded, str)
            exact = values.encode(decoded, rule, memo.context, space=space) == value
            known = memo.leaves[tag, vr, value] = decoded, space and exact, exact
            self.weight += len(value) + ELEMENT_WEIGHT
        decoded, space, exact = known
        if not exact:
            found.raw[path] = value
            if not values.is_valid(value, rule, memo.context):
                found.flaws.append(f"the text at {path} is not valid in its character set")
        return decoded, space

    def _decode_items(
        self,
        memo: Memo,
        sequence: Sequence,
        path: str,
        found: _Found,
        depth: int,
        around: int,
    ) -> tuple[list[dict[str, Any]] | None, list[str]]:
        """The items of a sequence as structs, or None, and the layout of each as text.

        `path` is that of the sequence, which lies in `depth` others; `around` are the bytes of
        those and its own. Of several elements of one tag the last is the attribute, and the others
        are numbered.
        """
        structs = []
        texts = []
        for place, item in enumerate(sequence.items):
            struct: dict[str, Any] = {}
            tokens = []
            last = {
                element.tag: at
                for at, element in enumerate(item.elements)
                if element.form is not Form.GROUP_LENGTH
            }
            inner = self._memo_of_item(memo, item, last.get(CHARACTER_SET_TAG))
            repeated: Counter[int] = Counter()
            for at, element in enumerate(item.elements):
                tag = element.tag
                here = f"{path}[{place}].{format_tag(tag)}"
                key = self._definitions.keyword(tag)
                if element.form is Form.GROUP_LENGTH:
                    tokens.append(layout.format_token(Token(tag, element.vr, element.form)))
                    continue
                if last[tag] != at:
                    repeated[tag] += 1
                    here, key = f"{here}#{repeated[tag]}", f"{key}#{repeated[tag]}"
                decoded, token_text = self._decode(inner, element, here, found, depth + 1, around)
                if last[tag] != at:
                    token_text = layout.with_occurrence(token_text, repeated[tag])
                struct[key] = decoded
                tokens.append(token_text)
            structs.append(struct)
            texts.append(
                layout.format_item(
                    tokens, undefined=item.undefined, endless=item.endless, tag=item.tag
                )
            )
        return structs or None, texts

    def _memo_of_item(self, memo: Memo, item: Item, place: int | None) -> Memo:
        """The memo for an item, whose own character set is its element at `place`.

        An item is explicit if its first element is.
        """
        explicit = memo.explicit and all(element.vr for element in item.elements[:1])
        value = None if place is None else item.elements[place].value
        if place is not None and isinstance(value, bytes):
            rule = self._rules.rule(CHARACTER_SET_TAG, item.elements[place].vr)
            charset = character_set_of(values.decode(value, rule, memo.context))
            context = Context(charset, memo.context.big)
        elif explicit == memo.explicit:
            return memo
        else:
            context = memo.context
        return self.memo(context, deflated=memo.deflated, explicit=explicit)

    def _encode(self, token_text: str, decoded: Any, context: Context, found: _Found) -> bytes:
        """What the mirror makes of a decoded element."""
        (token,) = layout.parse(token_text)
        return self._encoder.encode_element(
            token, decoded, context, raw=found.raw, resolve=lambda ref: found.large[ref["sha256"]]
        )


@lru_cache(maxsize=1 << 12)
def _head(head: Header, rules: Rules) -> _Head:
    """What all elements with this header have in common."""
    tag, vr, definitions = head.tag, head.vr, rules.definitions
    key = definitions.keyword(tag)
    token = format_tag(tag) + vr  # as `layout.format_token` would write it
    is_sequence = "SQ" in (vr, definitions.vr(tag))
    group, rule = group_of(key, definitions), rules.rule(tag, vr)
    return _Head(key, group, token, token + "^", rule, is_sequence)


@lru_cache(maxsize=1 << 12)
def _token_text(token: Token) -> str:
    """The text of a token; raises for one that nobody could read again."""
    text_ = layout.format_token(token)
    layout.parse(text_)
    return text_


def _begins_as_items(value: bytes) -> bool:
    return value[:4] in _ITEM_TAGS


def _items(value: bytes, vr: str, memo: Memo, depth: int) -> Sequence | None:
    """`value` split into items, None if it is not a row of items."""
    if not _begins_as_items(value):
        return None
    explicit, big = memo.explicit, memo.context.big
    try:
        return p10.read_items(value, vr, explicit=explicit, big=big, depth=depth)
    except P10Error:
        return None


def _inside(sha256: str, content: bytes, source: bytes, header: int) -> Large:
    """A large value inside an element, by its place in the bytes of the element if it has one.

    That of the element itself stands right behind the `header` bytes that it begins with.
    """
    place = source.find(content, header)
    if place < 0:
        return Large(sha256, Span(0, len(content)), content)
    return Large(sha256, Span(place, len(content)), inside=True)


def _is_by_place(element: Element, attribute: Attribute) -> bool:
    """Whether an attribute follows from where the value lies, as the run of such a value does."""
    is_placed = isinstance(element.value, Span) and not element.form
    return is_placed and attribute.large[0].sha256 is None
