"""Elements ↔ attributes named by keyword (spec/record.md).

`Decoder.decode` turns a `P10File` into a `Record`; `Encoder.write` is its mirror and gives the
file again: ``write(decode(read(data))) == data``. Each distinct element is decoded and encoded
back once. If its bytes do not come out again, they are kept beside the value, under
``_raw.<path>``; what else of the file is not in its values is in the record's `encoding`.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from dicomstudy import layout, p10, text, values
from dicomstudy.definitions import Definitions
from dicomstudy.elements import (
    PIXEL_DATA_TAGS,
    UNDEFINED_LENGTH,
    Buffer,
    Element,
    Encapsulated,
    Form,
    Sequence,
    Span,
    chunks,
    format_tag,
)
from dicomstudy.errors import DefinitionsError, P10Error, Problem, RecordError
from dicomstudy.layout import Token
from dicomstudy.p10 import P10File, Run
from dicomstudy.values import Context, Kind, Kinds, swap

__all__ = [
    "DEFLATED",
    "PREAMBLE",
    "RAW",
    "TRAILING",
    "Attribute",
    "Decoder",
    "Encoder",
    "Large",
    "Plan",
    "Record",
    "Resolve",
    "Segment",
    "group_of",
    "is_reference",
]

#: Attributes of a file that are not elements of it, and the group that takes them.
PREAMBLE, TRAILING, DEFLATED, RAW = "_preamble", "_trailing", "_deflated", "_raw."
RAW_GROUP = "raw"
#: Name under which attributes stand that belong to no attribute group but to the instance.
INSTANCE = ""

_CHARACTER_SET = 0x00080005
_CHARACTER_SET_KEY = "SpecificCharacterSet"
_MEMO_SIZE = 1 << 14
_AROUND = frozenset((PREAMBLE, TRAILING, DEFLATED))
_ITEM_TAGS = frozenset((b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00"))

#: The bytes of a large value, as they were recorded, by the reference that stands for it.
Resolve = Callable[[Mapping[str, Any]], bytes]
#: A piece of a file: bytes, or the reference of a large value that is to be copied.
Segment = bytes | Mapping[str, Any]


class Large(NamedTuple):
    """A value too long to stand in a document.

    `sha256` is None for pixel data that is recorded by its offset. `span` is its place in the
    source; `stored` are its bytes if they stand nowhere in the source as they are recorded
    (an inflated data set, words of big-endian order). `inside`: `span` counts from the start
    of the element that it lies in. `pixels`: native pixel data; `word`: bytes of its words.
    """

    sha256: str | None
    span: Span
    stored: bytes | None = None
    inside: bool = False
    pixels: bool = False
    word: int = 1


class Attribute:
    """One decoded element of the top level. Compared by identity: equal elements share one.

    `key` is its name in the record and `value` an Ion value; `group` is the attribute group
    that takes it, None if it is not kept. `token` is its part of the layout, `encoded` what
    `value` and `token` give (of a large value: the header), `raw` the attributes with bytes
    that do not come out of values, `large` its large values.
    """

    __slots__ = ("copied", "encoded", "group", "key", "large", "raw", "token", "value")

    def __init__(
        self,
        key: str,
        value: Any,
        group: str | None,
        token: str = "",
        encoded: bytes = b"",
        raw: tuple[Attribute, ...] = (),
        large: tuple[Large, ...] = (),
        copied: bool = False,
    ) -> None:
        self.copied = copied
        self.key = key
        self.value = value
        self.group = group
        self.token = token
        self.encoded = encoded
        self.raw = raw
        self.large = large

    def __repr__(self) -> str:
        return f"Attribute({self.key!r}, {self.value!r})"


class Record(NamedTuple):
    """One instance, decoded: its attributes by group, and how its file was written.

    `groups` has the attributes by the name of their group, in the order of the file; those
    of the instance itself under `INSTANCE`. `encoding` is the content of its `encoding`
    group: the same object for files that were written alike. `large` are its large values
    with their places in the source. `segments` is the file as the values give it again.
    """

    groups: dict[str, tuple[Attribute, ...]]
    encoding: dict[str, Any]
    large: list[Large]
    segments: list[Segment]
    problems: tuple[Problem, ...]

    def get(self, key: str) -> Any:
        """The value of the attribute `key`, None if it is absent."""
        for attributes in self.groups.values():
            for attribute in attributes:
                if attribute.key == key:
                    return attribute.value
        return None

    def attributes(self) -> dict[str, Any]:
        """All values by key, those in front that stand in front in the file."""
        return {
            attribute.key: attribute.value
            for attributes in self.groups.values()
            for attribute in attributes
        }


def is_reference(value: object) -> bool:
    """True if `value` stands for a large value: no other attribute's value is a struct."""
    return isinstance(value, dict)


def group_of(key: str, definitions: Definitions) -> str:
    """The attribute group that takes an attribute, `INSTANCE` if none does."""
    if not key or key[0] == "_" or "#" in key:
        return RAW_GROUP
    if key in definitions.instance_keywords:
        return INSTANCE
    try:
        return definitions.group(key)
    except DefinitionsError:
        return "other"


class _Part(NamedTuple):
    """The attributes of a run of several elements, ready to be joined with others."""

    attributes: tuple[Attribute, ...]
    by_group: tuple[tuple[str, tuple[Attribute, ...]], ...]
    layout: str
    encoded: bytes
    raw: tuple[Attribute, ...]
    large: tuple[Large, ...]


class _Memo(NamedTuple):
    """What was decoded before in one context."""

    context: Context
    runs: dict[Run, _Part]
    elements: dict[Element, Attribute]
    leaves: dict[tuple[int, str, bytes], tuple[Any, bool]]


class _Head(NamedTuple):
    """What all elements of one tag and VR have in common."""

    key: str
    group: str
    token: str
    rule: values.Rule


class _Found(NamedTuple):
    """What comes up inside an element: raw bytes by path, large values with their bytes."""

    raw: dict[str, bytes]
    large: dict[str, bytes]


class Decoder:
    """Makes records of P10 files, the quicker the more their elements repeat.

    Args:
        max_inline: values longer than this many bytes are large (dicom2ion's
            maximumInlineDataLength).
        by_offset: pixel data is recorded by its offset in the file, not by its digest.
    """

    def __init__(
        self, definitions: Definitions, *, max_inline: int = 256, by_offset: bool = False
    ) -> None:
        self.definitions = definitions
        self.max_inline = max_inline
        self.by_offset = by_offset
        self._kinds = Kinds(definitions)
        self._encoder = Encoder(definitions)
        self._memos: dict[Context, _Memo] = {}
        self._heads: dict[tuple[int, str], _Head] = {}
        self._encodings: dict[tuple[object, ...], dict[str, Any]] = {}
        self._preambles: dict[bytes, Attribute] = {}

    def decode(self, file: P10File, data: Buffer) -> Record:
        """The record of `file`, which was read from `data`. Mirror of `Encoder.write`."""
        large: list[Large] = []
        meta = self._gather(_META_CONTEXT, file.meta, [], file, large)
        context = Context(self._character_set(file), file.syntax.big)
        data_set = self._gather(context, file.runs, file.starts, file, large)
        if not _is_ascending([*file.meta, *file.runs]):
            _rename_repeated(meta, data_set)
        groups = meta.groups
        for name, attributes in data_set.groups.items():
            groups[name] = groups[name] + attributes if name in groups else attributes
        raw = meta.raw + data_set.raw + self._around(file, data, large)
        if raw:
            groups[RAW_GROUP] = groups.get(RAW_GROUP, []) + raw
        return Record(
            {name: tuple(attributes) for name, attributes in groups.items()},
            self._encoding(file, " ".join(meta.tokens), " ".join(data_set.tokens)),
            large,
            _segments(file, meta, data_set, raw),
            file.problems,
        )

    def _gather(
        self, context: Context, runs: list[Run], starts: list[int], file: P10File,
        large: list[Large],
    ) -> _Gathered:
        """The attributes of all runs; their large values are added to `large`."""
        memo = self._memo(context)
        known_runs, known_elements = memo.runs, memo.elements
        gathered = _Gathered([], {}, [], [], {}, [])
        attributes, groups, tokens, pieces, copies, raw = gathered
        for place, run in enumerate(runs):
            if len(run.elements) == 1:
                (element,) = run.elements
                attribute = known_elements.get(element)
                if attribute is None:
                    source = run.parts[0] if run.parts else None
                    attribute = self._attribute(memo, element, source, file)
                    if run.parts or element.form is Form.GROUP_LENGTH:
                        known_elements[element] = attribute
                attributes.append(attribute)
                tokens.append(attribute.token)
                pieces.append(attribute.encoded)
                found = attribute.large
                if attribute.group is None:
                    continue
                if attribute.group in groups:
                    groups[attribute.group].append(attribute)
                else:
                    groups[attribute.group] = [attribute]
                if attribute.copied:
                    copies[place] = attribute.value
                if attribute.raw:
                    raw += attribute.raw
            else:
                part = known_runs.get(run)
                if part is None:
                    part = known_runs[run] = self._part(memo, run, file)
                attributes += part.attributes
                for name, some in part.by_group:
                    if name in groups:
                        groups[name] += some
                    else:
                        groups[name] = list(some)
                tokens.append(part.layout)
                pieces.append(part.encoded)
                found = part.large
                if part.raw:
                    raw += part.raw
            if found:
                large += _placed(found, starts[place] if starts else 0)
        return gathered

    def _character_set(self, file: P10File) -> text.CharacterSet:
        element = file.find(_CHARACTER_SET)
        if element is None or not isinstance(element.value, bytes):
            return text.character_set(())
        rule = self._kinds.rule(_CHARACTER_SET, element.vr)
        context = Context(text.character_set(()), file.syntax.big)
        return _character_set_of(values.decode(element.value, rule, context))

    def _memo(self, context: Context) -> _Memo:
        memo = self._memos.get(context)
        if memo is None:
            memo = self._memos[context] = _Memo(context, {}, {}, {})
        elif len(memo.elements) + len(memo.leaves) + len(memo.runs) > _MEMO_SIZE:
            memo.runs.clear()
            memo.elements.clear()
            memo.leaves.clear()
        return memo

    def _part(self, memo: _Memo, run: Run, file: P10File) -> _Part:
        attributes = []
        for element, source in zip(run.elements, run.parts, strict=True):
            attribute = memo.elements.get(element)
            if attribute is None:
                attribute = self._attribute(memo, element, source, file)
                memo.elements[element] = attribute
            attributes.append(attribute)
        return _join(attributes, run, big=memo.context.big)

    def _attribute(
        self, memo: _Memo, element: Element, source: bytes | None, file: P10File
    ) -> Attribute:
        """`element` decoded; `source` are its bytes in the file, if there are few."""
        tag, vr, value, form, declared, reserved = element
        head = self._head(tag, vr)
        key = head.key
        if (
            source is not None
            and len(source) <= self.max_inline
            and type(value) is bytes
            and not form
            and not reserved
            and (head.rule.kind is not Kind.ITEMS or value[:4] not in _ITEM_TAGS)
        ):
            decoded = values.decode(value, head.rule, memo.context)
            content = values.encode(decoded, head.rule, memo.context)
            if content == value:
                encoded = p10.encode_element(tag, vr, content, big=memo.context.big)
                return Attribute(key, decoded, head.group, head.token, encoded)
        token = Token(tag, vr, form, declared, reserved)
        if form is Form.GROUP_LENGTH:
            encoded = p10.encode_element(tag, vr, bytes(4), big=memo.context.big)
            return Attribute(key, None, None, token=layout.format_token(token), encoded=encoded)
        found = _Found({}, {})
        if isinstance(value, Span | Encapsulated):
            return self._large_attribute(key, token, value, memo.context, file)
        decoded, token_text = self._decode(memo, element, format_tag(tag), found, 0)
        encoded = self._encode(token_text, decoded, memo.context, found)
        if source is not None and encoded != source:
            # Nothing in the grammar of layouts says how this was written: keep all its bytes.
            header = len(source) - _value_length(source, vr, big=memo.context.big)
            undefined = isinstance(value, Sequence)
            form = Form.UNDEFINED if undefined else form
            token_text = layout.format_token(token._replace(form=form))
            found.raw.clear()
            found.raw[format_tag(tag)] = source[header:]
            encoded = self._encode(token_text, decoded, memo.context, found)
        return Attribute(
            key,
            decoded,
            group_of(key, self.definitions),
            token=token_text,
            encoded=encoded,
            raw=tuple(Attribute(RAW + path, raw, RAW_GROUP) for path, raw in found.raw.items()),
            large=tuple(
                _inside(sha256, content, b"" if file.deflated or source is None else source)
                for sha256, content in found.large.items()
            ),
        )

    def _head(self, tag: int, vr: str) -> _Head:
        head = self._heads.get((tag, vr))
        if head is None:
            key = self.definitions.keyword(tag)
            head = self._heads[tag, vr] = _Head(
                key,
                group_of(key, self.definitions),
                layout.format_token(Token(tag, vr)),
                self._kinds.rule(tag, vr),
            )
        return head

    def _large_attribute(
        self, key: str, token: Token, value: Span | Encapsulated, context: Context, file: P10File
    ) -> Attribute:
        span = Span(value.offset, value.length)
        pixels = token.tag in PIXEL_DATA_TAGS
        word = self._kinds.rule(token.tag, token.vr).word
        stored = None
        if context.big and word > 1 and not pixels:
            stored = swap(file.body[span.offset : span.offset + span.length], word)
        elif file.deflated is not None:
            stored = file.body[span.offset : span.offset + span.length]
        if self.by_offset and pixels and stored is None:
            reference: dict[str, Any] = {"dataOffset": span.offset, "length": span.length}
            large = Large(None, span, pixels=True)
        else:
            sha256 = _sha256(file.body, span) if stored is None else _sha256_of(stored)
            reference = {"length": span.length, "sha256": sha256}
            native = pixels and isinstance(value, Span)
            large = Large(sha256, span, stored, pixels=native, word=word)
        turned = context.big and word > 1 and not pixels
        if isinstance(value, Encapsulated):
            reference["fragments"] = [fragment.length for fragment in value.fragments]
        if turned:
            encoded = self._encoder.encode_element(
                token, reference, context, raw={}, resolve=lambda _: large.stored or b""
            )
        else:
            encoded = self._encoder.header(token, span.length, context)
        return Attribute(
            key,
            reference,
            group_of(key, self.definitions),
            token=layout.format_token(token),
            encoded=encoded,
            large=(large,),
            copied=not turned,
        )

    def _decode(
        self, memo: _Memo, element: Element, path: str, found: _Found, depth: int
    ) -> tuple[Any, str]:
        """The value of an element and the text of its layout."""
        tag, vr, value, form, declared, reserved = element
        token = Token(tag, vr, form, declared, reserved)
        items = None
        if isinstance(value, Sequence):
            items = value
        elif form is Form.DEFINED and isinstance(value, bytes) and value:
            rule = self._kinds.rule(tag, vr)
            if rule.kind is Kind.ITEMS:
                items = _items(value, vr, memo.context.big, depth)
        if items is not None:
            decoded, texts = self._decode_items(memo, items, path, found, depth)
            token = token._replace(items=(), undefined=items.undefined)
            return decoded, layout.format_token(token, texts)
        if not isinstance(value, bytes):
            raise RecordError("record/no-bytes", "a value inside an item was left out", tag=tag)
        return self._decode_leaf(memo, element, value, path, found), layout.format_token(token)

    def _decode_leaf(
        self, memo: _Memo, element: Element, value: bytes, path: str, found: _Found
    ) -> Any:
        tag, vr = element.tag, element.vr
        rule = self._kinds.rule(tag, vr)
        if len(value) > self.max_inline:
            content = swap(value, rule.word) if memo.context.big else value
            sha256 = _sha256_of(content)
            found.large[sha256] = content
            return {"length": len(content), "sha256": sha256}
        known = memo.leaves.get((tag, vr, value))
        if known is None:
            decoded = values.decode(value, rule, memo.context)
            exact = values.encode(decoded, rule, memo.context) == value
            known = memo.leaves[tag, vr, value] = decoded, exact
        decoded, exact = known
        if not exact:
            found.raw[path] = value
        return decoded

    def _decode_items(
        self, memo: _Memo, sequence: Sequence, path: str, found: _Found, depth: int
    ) -> tuple[list[dict[str, Any]] | None, list[str]]:
        structs = []
        texts = []
        for place, item in enumerate(sequence.items):
            inner = memo
            struct: dict[str, Any] = {}
            tokens = []
            last: dict[int, int] = {element.tag: at for at, element in enumerate(item.elements)}
            repeated: Counter[int] = Counter()
            for at, element in enumerate(item.elements):
                tag = element.tag
                here = f"{path}[{place}].{format_tag(tag)}"
                key = self.definitions.keyword(tag)
                if element.form is Form.GROUP_LENGTH:
                    tokens.append(layout.format_token(Token(tag, element.vr, element.form)))
                    continue
                if last[tag] != at:
                    repeated[tag] += 1
                    here, key = f"{here}#{repeated[tag]}", f"{key}#{repeated[tag]}"
                if tag == _CHARACTER_SET and last[tag] == at and isinstance(element.value, bytes):
                    rule = self._kinds.rule(tag, element.vr)
                    charset = _character_set_of(values.decode(element.value, rule, memo.context))
                    inner = self._memo(Context(charset, memo.context.big))
                decoded, token_text = self._decode(inner, element, here, found, depth + 1)
                if last[tag] != at:
                    token_text = layout.with_occurrence(token_text, repeated[tag])
                struct[key] = decoded
                tokens.append(token_text)
            structs.append(struct)
            texts.append(layout.format_item(tokens, undefined=item.undefined))
        return structs or None, texts

    def _encode(self, token_text: str, decoded: Any, context: Context, found: _Found) -> bytes:
        """What the mirror makes of a decoded element."""
        (token,) = layout.parse(token_text)
        return self._encoder.encode_element(
            token, decoded, context, raw=found.raw, resolve=lambda ref: found.large[ref["sha256"]]
        )

    def _around(self, file: P10File, data: Buffer, large: list[Large]) -> list[Attribute]:
        """What of the file is in no element, if there is any."""
        around = []
        if file.preamble is not None and any(file.preamble):
            if file.preamble not in self._preambles:
                self._preambles[file.preamble] = Attribute(PREAMBLE, file.preamble, RAW_GROUP)
            around.append(self._preambles[file.preamble])
        for key, span in ((DEFLATED, file.deflated), (TRAILING, file.trailing)):
            if span is None or not span.length or (key == TRAILING and file.deflated):
                continue
            if span.length <= self.max_inline:
                value: Any = data[span.offset : span.offset + span.length]
            else:
                value = {"length": span.length, "sha256": _sha256(data, span)}
                large.append(Large(value["sha256"], span))
            around.append(Attribute(key, value, RAW_GROUP))
        return around

    def _encoding(self, file: P10File, meta: str, data_set: str) -> dict[str, Any]:
        key = (file.preamble is not None, file.syntax.big, meta, data_set)
        encoding = self._encodings.get(key)
        if encoding is None:
            if len(self._encodings) > 1024:
                self._encodings.clear()
            encoding = self._encodings[key] = {
                "preamble": file.preamble is not None,
                "byteOrder": "big" if file.syntax.big else "little",
                "meta": meta,
                "dataSet": data_set,
            }
        return encoding


def _character_set_of(value: object) -> text.CharacterSet:
    """The character set that a value of (0008,0005) names."""
    if not isinstance(value, str):
        return text.character_set(())
    return text.character_set(tuple(term.strip() for term in value.split("\\")))


def _items(value: bytes, vr: str, big: bool, depth: int) -> Sequence | None:
    """`value` split into items, None if it is not a row of items."""
    if value[:4] not in _ITEM_TAGS:
        return None
    try:
        return p10.read_items(value, explicit=bool(vr), big=big, depth=depth)
    except P10Error:
        return None


def _value_length(source: bytes, vr: str, *, big: bool) -> int:
    header = p10.encode_element(0, vr, b"", big=big)
    return len(source) - len(header)


def _inside(sha256: str, content: bytes, source: bytes) -> Large:
    """A large value inside an element, by its place in the bytes of the element if it has one."""
    place = source.find(content)
    if place < 0:
        return Large(sha256, Span(0, len(content)), content)
    return Large(sha256, Span(place, len(content)), inside=True)


def _placed(large: Iterable[Large], start: int) -> list[Large]:
    """`large` with every place counted from the start of the source."""
    return [
        _moved(item, start)._replace(inside=False) if item.inside else item for item in large
    ]


def _sha256(buffer: Buffer, span: Span) -> str:
    if isinstance(buffer, bytes):
        view = memoryview(buffer)[span.offset : span.offset + span.length]
        return hashlib.sha256(view).hexdigest()
    digest = hashlib.sha256()
    for chunk in chunks(buffer, span):
        digest.update(chunk)
    return digest.hexdigest()


def _sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class _Gathered(NamedTuple):
    """What becomes of a row of runs.

    `tokens` and `pieces` have one item for each run; `copies` the references of large values
    by the place of the run whose piece is their header.
    """

    attributes: list[Attribute]
    groups: dict[str, list[Attribute]]
    tokens: list[str]
    pieces: list[bytes]
    copies: dict[int, Mapping[str, Any]]
    raw: list[Attribute]


def _join(attributes: list[Attribute], run: Run, *, big: bool) -> _Part:
    by_group: dict[str, list[Attribute]] = {}
    pieces = [attribute.encoded for attribute in attributes]
    large: list[Large] = []
    offset = 0
    for attribute in attributes:
        if attribute.group is not None:
            by_group.setdefault(attribute.group, []).append(attribute)
        large += [item if not item.inside else _moved(item, offset) for item in attribute.large]
        offset += len(attribute.encoded)
    for place, element in enumerate(run.elements):
        if element.form is Form.GROUP_LENGTH:
            length = 0
            for following, piece in zip(
                run.elements[place + 1 :], pieces[place + 1 :], strict=True
            ):
                if following.tag >> 16 != element.tag >> 16:
                    break
                length += len(piece)
            pieces[place] = p10.encode_element(
                element.tag, element.vr, p10.group_length(length, big=big), big=big
            )
    return _Part(
        tuple(attributes),
        tuple((name, tuple(some)) for name, some in by_group.items()),
        " ".join(attribute.token for attribute in attributes),
        b"".join(pieces),
        tuple(raw for attribute in attributes for raw in attribute.raw),
        tuple(large),
    )


def _moved(large: Large, by: int) -> Large:
    return large._replace(span=Span(large.span.offset + by, large.span.length))


def _is_ascending(runs: list[Run]) -> bool:
    """Whether every tag is greater than the one before it."""
    last = -1
    for run in runs:
        if run.tag <= last or not run.ascending:
            return False
        last = run.high
    return True


def _rename_repeated(*gathered: _Gathered) -> None:
    """Give the name of an attribute to the last element of each tag only.

    Those before it are named ``<keyword>#1``, ``#2`` and so on, and belong to no group but
    that of raw bytes (spec/record.md).
    """
    total = Counter(a.key for some in gathered for a in some.attributes if a.group is not None)
    if max(total.values(), default=0) < 2:
        return
    occurrence: Counter[str] = Counter()
    for some in gathered:
        for place, attribute in enumerate(some.attributes):
            if attribute.group is None or total[attribute.key] == 1:
                continue
            occurrence[attribute.key] += 1
            if occurrence[attribute.key] < total[attribute.key]:
                some.attributes[place] = _repeated(attribute, occurrence[attribute.key])
        some.groups.clear()
        some.raw.clear()
        for attribute in some.attributes:
            some.raw.extend(attribute.raw)
            if attribute.group is not None:
                some.groups.setdefault(attribute.group, []).append(attribute)
        some.tokens[:] = [attribute.token for attribute in some.attributes]


def _repeated(attribute: Attribute, occurrence: int) -> Attribute:
    """`attribute` under the name of an element that a later one of its tag replaces."""
    path = RAW + attribute.token[:8]
    return Attribute(
        f"{attribute.key}#{occurrence}",
        attribute.value,
        RAW_GROUP,
        token=layout.with_occurrence(attribute.token, occurrence),
        encoded=attribute.encoded,
        raw=tuple(
            Attribute(f"{path}#{occurrence}{raw.key[len(path) :]}", raw.value, RAW_GROUP)
            for raw in attribute.raw
        ),
        large=attribute.large,
        copied=attribute.copied,
    )


def _segments(
    file: P10File, meta: _Gathered, data_set: _Gathered, raw: list[Attribute]
) -> list[Segment]:
    """The file as the decoded attributes give it again."""
    around = {attribute.key: attribute.value for attribute in raw if attribute.key in _AROUND}
    segments: list[Segment] = []
    if file.preamble is not None:
        segments.append(around.get(PREAMBLE, _ZEROS) + p10.PREFIX)
    segments += _filled(file.meta, meta, big=False)
    if DEFLATED in around:
        segments.append(around[DEFLATED])
        return segments
    segments += _filled(file.runs, data_set, big=file.syntax.big)
    if TRAILING in around:
        segments.append(around[TRAILING])
    return segments


def _filled(runs: list[Run], gathered: _Gathered, *, big: bool) -> list[Segment]:
    """The pieces with the group lengths that they give, and the references of large values."""
    pieces, copies = gathered.pieces, gathered.copies
    for place, run in enumerate(runs):
        if run.tag & 0xFFFF or run.elements[0].form is not Form.GROUP_LENGTH or run.parts:
            continue
        (element,) = run.elements
        group = run.tag >> 16
        length = 0
        for at in range(place + 1, len(runs)):
            following = runs[at]
            if following.low >> 16 == group == following.high >> 16:
                length += len(pieces[at]) + (copies[at]["length"] if at in copies else 0)
                continue
            for inner, part in zip(following.elements, following.parts, strict=False):
                if inner.tag >> 16 != group:
                    break
                length += len(part)
            break
        pieces[place] = p10.encode_element(
            element.tag, element.vr, p10.group_length(length, big=big), big=big
        )
    segments: list[Segment] = []
    start = 0
    for place, reference in copies.items():
        segments += (b"".join(pieces[start : place + 1]), reference)
        start = place + 1
    segments.append(b"".join(pieces[start:]))
    return segments


class _GroupLength(NamedTuple):
    """A group length to be filled in: its place, and where its group ends."""

    place: int
    end: int
    token: Token
    big: bool


class Plan:
    """An `encoding` made ready for writing: which attributes follow one another, and how.

    `keys` are the keys of all elements in their order, "" for a group length; `tokens` has
    the layout of each, and whether it belongs to the file meta information; `headers` the
    header and the rule of those that have a single value of defined length.
    """

    __slots__ = (
        *("big", "data_set", "group_lengths", "headers", "keys", "places", "preamble", "tokens"),
    )

    def __init__(self, encoding: Mapping[str, Any], kinds: Kinds) -> None:
        definitions = kinds.definitions
        try:
            meta = layout.parse(encoding["meta"])
            data_set = layout.parse(encoding["dataSet"])
            self.preamble = bool(encoding["preamble"])
            self.big = encoding["byteOrder"] == "big"
        except (KeyError, TypeError) as error:
            raise RecordError("record/encoding", "the encoding is incomplete") from error
        self.keys: list[str] = []
        self.tokens: dict[str, tuple[Token, bool]] = {}
        self.places: dict[str, int] = {}
        self.headers: dict[str, tuple[p10.Header, values.Rule]] = {}
        self.group_lengths: list[_GroupLength] = []
        self.data_set = len(meta)
        for tokens, is_meta in ((meta, True), (data_set, False)):
            start = len(self.keys)
            for at, token in enumerate(tokens):
                key = _key(token, definitions)
                if token.form is Form.GROUP_LENGTH:
                    end = at + 1
                    while end < len(tokens) and tokens[end].tag >> 16 == token.tag >> 16:
                        end += 1
                    self.group_lengths.append(
                        _GroupLength(start + at, start + end, token, self.big and not is_meta)
                    )
                    key = ""
                else:
                    self.places[key] = len(self.keys)
                    self.tokens[key] = token, is_meta
                    if token[2:] == _PLAIN:
                        self.headers[key] = (
                            p10.header(token.tag, token.vr, big=self.big and not is_meta),
                            kinds.rule(token.tag, token.vr),
                        )
                self.keys.append(key)
        self.group_lengths.reverse()


def _key(token: Token, definitions: Definitions) -> str:
    key = definitions.keyword(token.tag)
    return f"{key}#{token.occurrence}" if token.occurrence else key


class Encoded(NamedTuple):
    """Elements encoded by key: all but the bytes of `large` values, which are to be copied."""

    pieces: dict[str, bytes]
    large: dict[str, Mapping[str, Any]]


_ENCODING_FIELDS = ("preamble", "byteOrder", "meta", "dataSet")
_META_CONTEXT = Context(text.character_set(()), False)
_ZEROS = bytes(128)
#: The fields of a `Token` after tag and VR, if there is nothing unusual about it.
_PLAIN = Token(0, "")[2:]
_SHORT = 1 << 16
#: Holds the place of a group length, which is as long as this.
_NO_LENGTH = bytes(12)


class Encoder:
    """Writes P10 files from attributes and an encoding. Mirror of `Decoder`."""

    def __init__(self, definitions: Definitions) -> None:
        self.definitions = definitions
        self._kinds = Kinds(definitions)
        self._plan = lru_cache(maxsize=256)(self._make_plan)

    def plan(self, encoding: Mapping[str, Any]) -> Plan:
        """How to write what has this encoding.

        Raises:
            RecordError: the encoding is incomplete or its layout malformed.
        """
        try:
            return self._plan(*(encoding[field] for field in _ENCODING_FIELDS))
        except (KeyError, TypeError) as error:
            raise RecordError("record/encoding", "the encoding is incomplete") from error

    def _make_plan(self, *fields: Any) -> Plan:
        return Plan(dict(zip(_ENCODING_FIELDS, fields, strict=True)), self._kinds)

    def write(
        self, attributes: Mapping[str, Any], encoding: Mapping[str, Any], resolve: Resolve
    ) -> list[Segment]:
        """The file as bytes and references of large values, in their order.

        Raises:
            RecordError: attributes are missing or do not fit the encoding.
        """
        plan = self.plan(encoding)
        raw = {key[len(RAW) :]: raw for key, raw in attributes.items() if key.startswith(RAW)}
        context = self.context(attributes, plan)
        encoded = self.encode(attributes, plan, context=context, raw=raw, resolve=resolve)
        return self.assemble(plan, encoded, attributes)

    def context(self, attributes: Mapping[str, Any], plan: Plan) -> Context:
        """The context of the data set that has these attributes."""
        return Context(_character_set_of(attributes.get(_CHARACTER_SET_KEY)), plan.big)

    def encode(
        self,
        attributes: Mapping[str, Any],
        plan: Plan,
        *,
        context: Context,
        raw: Mapping[str, bytes],
        resolve: Resolve,
    ) -> Encoded:
        """Those of `attributes` that are elements, encoded one by one.

        Args:
            attributes: values by key, all of a record or some.
            raw: bytes of values by path, which stand in for what the values give.
            resolve: gives the large values that are not to be copied as they are.
        """
        encoded = Encoded({}, {})
        for key, value in attributes.items():
            found = plan.tokens.get(key)
            if found is None:
                continue
            token, is_meta = found
            if key in plan.headers and type(value) is not dict and not raw:
                # as `encode_element` would, the work of which is already done
                header, rule = plan.headers[key]
                content = values.encode(value, rule, _META_CONTEXT if is_meta else context)
                if content is not None and len(content) < _SHORT:
                    encoded.pieces[key] = header.start + header.length.pack(len(content)) + content
                    continue
            here = _META_CONTEXT if is_meta else context
            if is_reference(value) and not self._is_turned(token, here):
                encoded.pieces[key] = self.header(token, value["length"], here)
                encoded.large[key] = value
            else:
                encoded.pieces[key] = self.encode_element(
                    token, value, here, raw=raw, resolve=resolve
                )
        return encoded

    def _is_turned(self, token: Token, context: Context) -> bool:
        """Whether the bytes of a large value were turned round before they were recorded."""
        return (
            context.big
            and token.tag not in PIXEL_DATA_TAGS
            and self._kinds.rule(token.tag, token.vr).word > 1
        )

    def header(self, token: Token, length: int, context: Context) -> bytes:
        """The header of an element whose value of `length` bytes is to be copied."""
        if token.form is Form.UNDEFINED:
            length = UNDEFINED_LENGTH
        elif token.form is Form.DECLARED:
            length = token.declared
        return p10.encode_element(
            token.tag, token.vr, b"", big=context.big, length=length, reserved=token.reserved
        )

    def assemble(
        self, plan: Plan, encoded: Encoded, attributes: Mapping[str, Any]
    ) -> list[Segment]:
        """The file from the bytes of all its elements.

        Args:
            encoded: what `encode` gives for all attributes.
            attributes: any mapping that has the attributes around the elements.

        Raises:
            RecordError: the layout names an element that is not there.
        """
        pieces, large = encoded
        try:
            row = [pieces[key] if key else _NO_LENGTH for key in plan.keys]
        except KeyError as error:
            raise RecordError(
                "record/missing-attribute", f"the layout names {error}, which is missing"
            ) from error
        cuts = sorted((plan.places[key], value) for key, value in large.items()) if large else []
        for place, end, token, big in plan.group_lengths:
            size = sum(map(len, row[place + 1 : end]))
            size += sum(value["length"] for at, value in cuts if place < at < end)
            value = p10.group_length(size, big=big)
            row[place] = p10.encode_element(token.tag, token.vr, value, big=big)
        if plan.preamble:
            row.insert(0, attributes.get(PREAMBLE, _ZEROS) + p10.PREFIX)
        shift = int(plan.preamble)
        deflated = attributes.get(DEFLATED)
        if deflated is not None:
            return [b"".join(row[: plan.data_set + shift]), deflated]
        segments: list[Segment] = []
        start = 0
        for at, value in cuts:
            segments += (b"".join(row[start : at + shift + 1]), value)
            start = at + shift + 1
        segments.append(b"".join(row[start:]))
        if TRAILING in attributes:
            segments.append(attributes[TRAILING])
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
        tag, vr, form, declared, reserved, occurrence, items, undefined = token
        here = f"{path}{tag:08X}#{occurrence}" if occurrence else f"{path}{tag:08X}"
        if items is not None:
            content = self._encode_items(token, value, context, raw, resolve, here)
        elif here in raw:
            content = raw[here]
        elif is_reference(value):
            content = resolve(value)
            if context.big:
                content = swap(content, self._kinds.rule(tag, vr).word)
        else:
            encoded = values.encode(value, self._kinds.rule(tag, vr), context)
            if encoded is None:
                raise RecordError(
                    "record/value", f"{value!r:.80} cannot be encoded as {vr or 'this'}", tag=tag
                )
            content = encoded
        length = len(content)
        if undefined or form is Form.UNDEFINED:
            length = UNDEFINED_LENGTH
        elif form is Form.DECLARED:
            length = declared
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
        items = token.items or ()
        structs = value or []
        if not isinstance(structs, list) or len(structs) != len(items):
            raise RecordError(
                "record/items", f"the layout has {len(items)} items, the value has others",
                tag=token.tag,
            )
        encoded = []
        for place, (struct, item) in enumerate(zip(structs, items, strict=True)):
            inner = context
            if _CHARACTER_SET_KEY in struct:
                charset = _character_set_of(struct[_CHARACTER_SET_KEY])
                inner = Context(charset, context.big)
            encoded.append(
                (
                    self._encode_item(item.tokens, struct, inner, raw, resolve, f"{path}[{place}]."),
                    item.undefined,
                )
            )
        return p10.encode_items(encoded, undefined=token.undefined, big=context.big)

    def _encode_item(
        self,
        tokens: tuple[Token, ...],
        struct: Mapping[str, Any],
        context: Context,
        raw: Mapping[str, bytes],
        resolve: Resolve,
        path: str,
    ) -> bytes:
        row: list[bytes] = []
        for token in tokens:
            if token.form is Form.GROUP_LENGTH:
                row.append(_NO_LENGTH)
                continue
            key = _key(token, self.definitions)
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
                end = place + 1
                while end < len(tokens) and tokens[end].tag >> 16 == token.tag >> 16:
                    end += 1
                length = p10.group_length(sum(map(len, row[place + 1 : end])), big=context.big)
                row[place] = p10.encode_element(token.tag, token.vr, length, big=context.big)
        return b"".join(row)
