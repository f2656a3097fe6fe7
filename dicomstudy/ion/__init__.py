"""Plain Python values as Ion bytes, and the Ion Hash of a value (spec/ion.md).

Two arrows, and the laws that tie them:

    values ──dumps──▶ bytes          loads(dumps(x)) == x, as binary and as text
    values ◀─loads─── bytes          ion_hash(loads(dumps(x))) == ion_hash(x) without symbols

A value is None, bool, int, float, Decimal, datetime, str, Symbol, bytes, a list of values, or
a dict of str to value. Whatever Ion has beyond that (annotations, clobs, s-expressions, typed
nulls, symbols without text) is refused by name, never passed on changed.

This package is the only one that knows the Ion library. The library's C code crashes, hangs,
or quietly leaves values out for a few inputs; `dumps` and `loads` check for those first.
"""

from __future__ import annotations

from typing import Any

from dicomstudy.errors import IonError
from dicomstudy.ion.binary import BINARY_MARK, check_binary, cut_fractions, put_back, take_out
from dicomstudy.ion.checks import adopt, check
from dicomstudy.ion.counting import has_more_values
from dicomstudy.ion.hashing import blob_hash_hex, ion_hash, ion_hash_hex
from dicomstudy.ion.library import MULTIMAP, NATIVE, encode, load, require_c_extension
from dicomstudy.ion.text import (
    MIN_TEXT_BUFFER,
    check_text,
    cut_seconds,
    with_plain_names,
    without_repeats,
    write_text,
)
from dicomstudy.ion.values import (
    MAX_BYTES,
    MAX_DEPTH,
    Symbol,
    Text,
    Timestamp,
    Value,
    quick,
    refused,
    too_large,
)

__all__ = [
    "BINARY_MARK",
    "MAX_BYTES",
    "MAX_DEPTH",
    "Symbol",
    "Text",
    "Timestamp",
    "Value",
    "blob_hash_hex",
    "dumps",
    "ion_hash",
    "ion_hash_hex",
    "load_all",
    "loads",
    "quick",
]


def dumps(value: Value, *, text: bool = False) -> bytes:
    """One Ion value: binary Ion 1.0, or indented UTF-8 text that ends with a newline.

    Mirror of `loads`: ``loads(dumps(x)) == x`` (symbols come back as str). Fields keep their
    order. Results of several calls may be joined into a stream for `load_all`.

    Args:
        value: see the module's docstring; exactly these types, subclasses are refused.
        text: write readable text, two spaces a level, quotes only where Ion needs them.

    Raises:
        IonError: ``ion/unsupported-value``, ``ion/too-deep``, ``ion/too-large``.
    """
    in_python = check(value)
    if text:
        lines: list[str] = []
        write_text(value, "\n", lines)
        lines.append("\n")
        data = "".join(lines).encode()
    else:
        data = encode(value, in_python=in_python)
    if len(data) > MAX_BYTES:
        raise too_large()
    return data


def loads(data: bytes, *, max_values: int | None = None) -> Value:
    """The only value in `data`, binary or text Ion.

    Mirror of `dumps`.

    Args:
        data, max_values: as for `load_all`.

    Raises:
        IonError: as `load_all`, and ``ion/not-one-value`` for none or several.
    """
    values = load_all(data, max_values=max_values)
    if len(values) != 1:
        raise IonError("ion/not-one-value", f"expected one Ion value, found {len(values)}")
    return values[0]


def load_all(data: bytes, *, max_values: int | None = None) -> list[Value]:
    """All values of a stream, binary or text Ion, as plain Python values.

    Timestamps come as `Timestamp`, symbols as str.

    Args:
        data: binary or text Ion.
        max_values: how many values there may be, one in another; each takes up to a hundred times
            its bytes in memory.

    Raises:
        IonError: ``ion/malformed``, ``ion/repeated-field``, ``ion/too-deep``,
            ``ion/too-large``, and ``ion/unsupported-type`` for Ion that plain values cannot hold.
    """
    if len(data) > MAX_BYTES:
        raise too_large()
    if max_values is not None and has_more_values(data, max_values):
        raise IonError("ion/too-large", f"it has more than {max_values:,} values")
    require_c_extension()
    has_synonyms = False
    if data.startswith(BINARY_MARK):
        has_synonyms = check_binary(data)
    else:
        check_text(data)
    try:
        values = _decode(data, has_synonyms=has_synonyms)
        if adopt(values):
            return values
        cut = _cut(data)
    except IonError:
        cut = _cut(data)
        if cut == data:  # else the library may have refused a fraction with many digits
            raise
    values = _decode(cut, has_synonyms=has_synonyms)
    if not adopt(values):
        raise refused("a timestamp with an unusual fraction of a second")
    return values


def _cut(data: bytes) -> bytes:
    """The stream without what seconds have beyond microseconds."""
    return cut_fractions(data) if data.startswith(BINARY_MARK) else cut_seconds(data)


def _decode(data: bytes, *, has_synonyms: bool) -> list[Any]:
    """The values of a stream that was checked; whether field names may be equal in it."""
    if data.startswith(BINARY_MARK):
        left, taken = take_out(data)
        values = load(left, None, MULTIMAP if has_synonyms else NATIVE)
        if has_synonyms:
            values = [without_repeats(value, 1) for value in values]
        if taken:
            put_back(values, taken)
        return values
    # The limit is for the longest string or blob.
    values = load(with_plain_names(data), max(len(data) + 1, MIN_TEXT_BUFFER), MULTIMAP)
    return [without_repeats(value, 1) for value in values]
