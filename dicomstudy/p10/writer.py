"""`P10File` → the file again. Mirror of `reader`."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Iterator

from dicomstudy.elements import LONG_VRS, UNDEFINED_LENGTH, Element, Form, Sequence, Span
from dicomstudy.errors import P10Error
from dicomstudy.p10.file import P10File, elements_of
from dicomstudy.p10.headers import (
    encode_delimiter,
    encode_element,
    encode_items,
    group_length,
)
from dicomstudy.p10.reader import PREFIX


def write(file: P10File) -> Iterator[bytes | Span]:
    """The file again: bytes, and spans of it that are to be copied. Mirror of `Reader.read`."""
    if file.preamble is not None:
        yield file.preamble + PREFIX
    yield from _write_elements(elements_of(file.meta), big=False)
    if file.deflated is not None:
        yield file.deflated
        return
    yield from _write_elements(file.elements, big=file.syntax.big)
    if file.trailing.length:
        yield file.trailing


def _write_elements(elements: Collection[Element], *, big: bool) -> list[bytes | Span]:
    segments: list[bytes | Span] = []
    pending: list[tuple[int, Element, int]] = []
    sizes: list[int] = []
    for element in elements:
        if element.form is Form.GROUP_LENGTH:
            pending.append((len(segments), element, len(sizes)))
            segments.append(b"")
            sizes.append(16 if element.vr in LONG_VRS else 12)
            continue
        added = _write_element(element, big=big)
        segments += added
        sizes.append(sum(part.length if isinstance(part, Span) else len(part) for part in added))
    tags = [element.tag >> 16 for element in elements]
    for place, element, index in pending:
        after = index + 1
        while after < len(tags) and tags[after] == tags[index]:
            after += 1
        value = group_length(sum(sizes[index + 1 : after]), big=big)
        segments[place] = encode_element(element.tag, element.vr, value, big=big)
    return segments


def _write_element(element: Element, *, big: bool) -> list[bytes | Span]:
    tag, vr, value, form, declared, reserved = element
    if isinstance(value, Sequence):
        items = [
            (b"".join(_only_bytes(_write_elements(item.elements, big=big))), *item[1:])
            for item in value.items
        ]
        delimited = value.undefined or value.delimited
        encoded = encode_items(items, delimited=delimited, big=big)
        length = UNDEFINED_LENGTH if value.undefined else len(encoded)
        return [encode_element(tag, vr, encoded, big=big, length=length, reserved=reserved)]
    if isinstance(value, bytes):
        size, inline, rest = len(value), value, []
    else:
        size, inline, rest = value.length, b"", [Span(value.offset, value.length)]
    end = [encode_delimiter(declared, big=big)] if form is Form.DELIMITED else []
    length = {
        Form.UNDEFINED: UNDEFINED_LENGTH,
        Form.DELIMITED: UNDEFINED_LENGTH,
        Form.DECLARED: declared,
    }.get(form, size)
    return [encode_element(tag, vr, inline, big=big, length=length, reserved=reserved), *rest, *end]


def _only_bytes(segments: Iterable[bytes | Span]) -> Iterator[bytes]:
    for segment in segments:
        if isinstance(segment, Span):
            raise P10Error("p10/span-in-item", "a value inside an item was left out")
        yield segment


def deflate(data_set: bytes) -> bytes:
    """A data set as a deflated file has it (PS3.5 section A.5). Mirror of `inflate`."""
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    deflated = stream.compress(data_set) + stream.flush()
    return deflated + bytes(len(deflated) % 2)
