"""Plain Python values as Ion bytes, and the Ion Hash of a value (spec/ion.md).

Two arrows, and the laws that tie them:

    values ──dumps──▶ bytes          loads(dumps(x)) == x, as binary and as text
    values ◀─loads─── bytes          ion_hash(loads(dumps(x))) == ion_hash(x) without symbols

A value is None, bool, int, float, Decimal, datetime, str, Symbol, bytes, a list of values, or
a dict of str to value. Whatever Ion has beyond that (annotations, clobs, s-expressions, typed
nulls, symbols without text) is refused by name, never passed on changed.

This module is the only one that knows the Ion library. The library's C code crashes, hangs,
or quietly leaves values out for a few inputs; `dumps` and `loads` check for those first.
"""

from __future__ import annotations

import hashlib
import re
import struct
from base64 import b64encode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from io import BytesIO
from json.encoder import encode_basestring
from math import inf, isfinite
from types import MappingProxyType, NoneType
from typing import Any, Final, TypeAlias

from amazon.ion import core, exceptions, simpleion

from dicomstudy.errors import IonError

__all__ = [
    "MAX_BYTES",
    "MAX_DEPTH",
    "Symbol",
    "Text",
    "Timestamp",
    "Value",
    "dumps",
    "ion_hash",
    "ion_hash_hex",
    "load_all",
    "loads",
]

MAX_BYTES: Final = 2**31 - 1
"""Longest Ion that is written or read in one piece: the library's lengths are 32-bit, and it
writes a few bytes and reports success for more. Writing refuses a little earlier, by an upper
bound that counts each symbol as text."""

MAX_DEPTH: Final = 256
"""Deepest nesting of lists and structs; the library's own limit moves with the call stack."""

# Limits well inside what the library writes and reads exactly: it changes integers and
# coefficients of more than 240 bits, and fractions of more than 9 digits, without a word.
_MAX_INT_BITS: Final = 128
_MAX_DECIMAL_DIGITS: Final = 34
_MAX_DECIMAL_EXPONENT: Final = 6000
_MAX_FRACTION_DIGITS: Final = 6  # of a second, as in a datetime

_MAX_OVERHEAD: Final = 24  # bytes of a name or value beside its text: numbers, lengths

_MEMO_SIZE: Final = 16_384
_MEMO_LENGTH: Final = 256

_MIN_TEXT_BUFFER: Final = 4096
_BINARY_MARK: Final = b"\xe0\x01\x00\xea"
_NATIVE: Final = (
    simpleion.IonPyValueModel.MAY_BE_BARE
    | simpleion.IonPyValueModel.SYMBOL_AS_TEXT
    | simpleion.IonPyValueModel.STRUCT_AS_STD_DICT
)
_MULTIMAP: Final = simpleion.IonPyValueModel.MAY_BE_BARE | simpleion.IonPyValueModel.SYMBOL_AS_TEXT
_LIBRARY_ERRORS: Final = (
    exceptions.IonException,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    SystemError,
    TypeError,
    ValueError,
)


class Symbol(str):
    """Text that is written as an Ion symbol: once in the symbol table, then by its number.

    Equal to the str of the same text, and read back as one; hashed as a symbol.
    """

    __slots__ = ()
    # The library's writer looks for these two names.
    ion_type = core.IonType.SYMBOL
    ion_annotations = ()


# The library's writer asks every value for two names, and is slow to find that one lacks them:
# what has them is written in a tenth of the time.


class Text(str):
    """A str, equal to it and hashed as it, that is written sooner; read back as a str."""

    __slots__ = ()
    ion_type = core.IonType.STRING
    ion_annotations = ()


class Blob(bytes):
    """The same for bytes."""

    __slots__ = ()
    ion_type = core.IonType.BLOB
    ion_annotations = ()


def quick(value: Value) -> Value:
    """`value`, as a `Text` or `Blob` if it is a str or bytes: for what is written many times."""
    kind = _QUICK.get(type(value))
    return value if kind is None else kind(value)


_QUICK: Final[dict[type, type]] = {str: Text, bytes: Blob}


class Timestamp(core.Timestamp):  # type: ignore[misc]
    """A datetime that remembers how precise its Ion text was, such as ``2021-02T`` or ``.124``.

    Equal to the datetime of the same moment. Unlike the library's class it can be copied and
    sent to another process.
    """

    __slots__ = ()

    def __reduce_ex__(self, protocol: object) -> tuple[object, ...]:
        """Rebuild from the parts, so that the precision survives."""
        return _timestamp, (
            *(self.year, self.month, self.day, self.hour, self.minute, self.second),
            *(self.microsecond, self.tzinfo, int(self.precision), self.fractional_precision),
        )


Value: TypeAlias = Any
"""What Ion holds here: None, bool, int, float, Decimal, datetime, text, bytes, list, dict.

The type checker sees Any: a document of this recursive type would need a cast at each step.
"""


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
    _check(value)
    if text:
        lines: list[str] = []
        _write_text(value, "\n", lines)
        lines.append("\n")
        data = "".join(lines).encode()
    else:
        data = _encode(value)
    if len(data) > MAX_BYTES:
        raise _too_large()
    return data


def loads(data: bytes) -> Value:
    """The only value in `data`, binary or text Ion.

    Mirror of `dumps`.

    Raises:
        IonError: as `load_all`, and ``ion/not-one-value`` for none or several.
    """
    values = load_all(data)
    if len(values) != 1:
        raise IonError("ion/not-one-value", f"expected one Ion value, found {len(values)}")
    return values[0]


def load_all(data: bytes) -> list[Value]:
    """All values of a stream, binary or text Ion, as plain Python values.

    Timestamps come as `Timestamp`, symbols as str.

    Raises:
        IonError: ``ion/malformed``, ``ion/repeated-field``, ``ion/too-deep``,
            ``ion/too-large``, and ``ion/unsupported-type`` for Ion that plain values cannot hold.
    """
    if len(data) > MAX_BYTES:
        raise _too_large()
    _require_c_extension()
    values = _decode(data)
    if not _adopt(values):
        values = _decode(_cut_fractions(data))
        if not _adopt(values):
            raise _refused("a timestamp with an unusual fraction of a second")
    return values


def ion_hash(value: Value) -> bytes:
    """The SHA-256 Ion Hash of a value: 32 bytes, the same for every encoding of it.

    With B = 0x0B, E = 0x0E, and ``esc`` putting 0x0C before each 0x0B, 0x0C and 0x0E:

        hash(v)       SHA-256 of s(v)
        s(scalar)     B type esc(representation in binary Ion) E
        s(list)       B 0xB0 s(item) s(item) ... E, in order
        s(struct)     B 0xD0 esc(the sorted SHA-256 of s(name symbol) s(value)) E

    The order of fields does not matter; a field that is null differs from one that is absent.

    Raises:
        IonError: ``ion/unsupported-value``, ``ion/too-deep``.
    """
    try:
        return _SHA256.digest(value)
    except _LIBRARY_ERRORS as error:
        raise _translated(error, "ion/unsupported-value", "no Ion Hash") from error


def ion_hash_hex(value: Value) -> str:
    """The Ion Hash as 64 lower-case hexadecimal digits, the name of a group."""
    return ion_hash(value).hex()


# Checks before writing and after reading. Both walk level by level, so that depth is a counter
# and the types of a whole level are one set, made without a step of Python per value.

_CONTAINERS: Final = frozenset({list, dict})
_ATOMS: Final = frozenset({NoneType, bool, float})
_TEXTS: Final = frozenset({str, Text, Symbol})
_BLOBS: Final = frozenset({bytes, Blob})
_CHECKED: Final = _TEXTS | _BLOBS | {int, Decimal, datetime, Timestamp}
_WRITABLE: Final = _ATOMS | _CHECKED | _CONTAINERS
_NAMES: Final = frozenset({str, Symbol})
_LIMITED: Final = frozenset({int, Decimal})
_LOADED: Final = _ATOMS | _LIMITED | _CONTAINERS | {str, bytes, core.Timestamp}


def _check(value: Value) -> None:
    """Refuse what the library would drop, garble, or crash on."""
    level: list[Any] = [[value]]
    size = 0
    for _ in range(MAX_DEPTH + 1):
        names: list[Any] = []
        items: list[Any] = []
        for container in level:
            if type(container) is dict:
                names += container
                items += container.values()
            else:
                items += container
        if not _NAMES.issuperset(map(type, names)):
            name = next(name for name in names if type(name) not in _NAMES)
            raise _unsupported(f"a field name must be str, not {name!r}")
        kinds = set(map(type, items))
        if not kinds <= _WRITABLE:
            raise _unsupported(_unwritable(level))
        size += _text_length(names) + _MAX_OVERHEAD * (len(names) + len(items))
        for kind in kinds & _CHECKED:
            size += _check_scalars(kind, [item for item in items if type(item) is kind])
        if size > MAX_BYTES:
            raise _too_large()
        if kinds.isdisjoint(_CONTAINERS):
            return
        level = [item for item in items if type(item) in _CONTAINERS]
    raise _too_deep()


def _check_scalars(kind: type, items: list[Any]) -> int:
    """The bytes that text and blobs will need, after a look at each item of this kind."""
    if kind in _TEXTS:
        return _text_length(items)
    if kind in _BLOBS:
        return sum(map(len, items))
    if kind is int:
        if max(map(int.bit_length, items)) > _MAX_INT_BITS:
            raise _unsupported(f"an integer of more than {_MAX_INT_BITS} bits")
    elif kind is Decimal:
        for item in items:
            _check_decimal(item)
    else:
        for item in items:
            _check_moment(item)
    return 0


def _text_length(texts: list[str]) -> int:
    if all(map(str.isascii, texts)):
        return sum(map(len, texts))
    try:
        return sum(len(text.encode()) for text in texts)
    except UnicodeEncodeError as error:
        raise _unsupported(f"text with a lone surrogate: {error}") from error


def _check_decimal(value: Decimal) -> None:
    _, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise _unsupported(f"Ion has no decimal {value}")
    if len(digits) > _MAX_DECIMAL_DIGITS or abs(exponent) > _MAX_DECIMAL_EXPONENT:
        raise _unsupported(
            f"a decimal of more than {_MAX_DECIMAL_DIGITS} digits or with an exponent beyond "
            f"{_MAX_DECIMAL_EXPONENT:,}"
        )


def _check_moment(value: datetime) -> None:
    offset = value.utcoffset()
    if offset is not None and offset % timedelta(minutes=1):
        raise _unsupported("a time zone offset that is not whole minutes")
    try:
        value.astimezone(UTC)
    except OverflowError as error:
        raise _unsupported("a moment outside the years 1 to 9999 of UTC") from error


def _unwritable(containers: list[Any]) -> str:
    for container in containers:
        is_struct = type(container) is dict
        for key, item in container.items() if is_struct else enumerate(container):
            if type(item) not in _WRITABLE:
                field = f" (field {key})" if is_struct else ""
                return f"Ion has no place for a {type(item).__qualname__}{field}"
    return "Ion has no place for this value"


def _adopt(values: list[Value]) -> bool:
    """Make loaded values ours; refuse what is not plain; False if a timestamp is too fine."""
    level: list[Any] = [values]
    for _ in range(MAX_DEPTH + 1):
        items: list[Any] = []
        for container in level:
            if type(container) is dict:
                if None in container:
                    raise _refused("a field name without text ($0)")
                items += container.values()
            else:
                items += container
        kinds = set(map(type, items))
        if not kinds <= _LOADED:
            raise _refused(_foreign(next(item for item in items if type(item) not in _LOADED)))
        for kind in kinds & _LIMITED:
            _check_scalars(kind, [item for item in items if type(item) is kind])
        if core.Timestamp in kinds and not _adopt_timestamps(level):
            return False
        if kinds.isdisjoint(_CONTAINERS):
            return True
        level = [item for item in items if type(item) in _CONTAINERS]
    raise _too_deep()


# The library loops without end on a symbol such as $9999999999, unless it is quoted.
_SYMBOL_NUMBER: Final = re.compile(rb"\$[0-9]{9}")
_QUOTES: Final = (
    rb"""'''(?:[^'\\]|\\.|'(?!''))*'''|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'"""
    rb"""|//[^\n]*|/\*.*?\*/"""
)
_QUOTED: Final = re.compile(_QUOTES, re.DOTALL)
_FINE_SECONDS: Final = re.compile(
    rb"(?P<quoted>" + _QUOTES + rb")|(?P<cut>:[0-9]{2}\.[0-9]{6})[0-9]+", re.DOTALL
)


def _check_text(data: bytes) -> None:
    if b"\0" in data:  # the library takes NUL for white space
        raise IonError("ion/malformed", "neither binary nor text Ion: NUL bytes")
    try:
        data.decode()  # the library crashes on other bytes in a field name
    except UnicodeDecodeError as error:
        raise _damaged("neither binary Ion nor UTF-8 text", error.start) from error
    if _SYMBOL_NUMBER.search(data) and _SYMBOL_NUMBER.search(_QUOTED.sub(b"", data)):
        raise IonError("ion/malformed", "a symbol number that no table has")


def _without_repeats(value: Value, depth: int) -> Value:
    """The value with dicts for the library's multimaps, if no field name occurs twice."""
    kind = type(value)
    if depth > MAX_DEPTH and kind in {list, simpleion.IonPyDict}:
        raise _too_deep()
    if kind is list:
        return [_without_repeats(item, depth + 1) for item in value]
    if kind is simpleion.IonPyDict and not value.ion_annotations:
        fields = value.items()
        plain = {name: _without_repeats(item, depth + 1) for name, item in fields}
        if len(plain) != len(fields):
            raise _repeated(None)
        return plain
    return value


def _foreign(value: Value) -> str:
    annotations = getattr(value, "ion_annotations", ())
    if annotations:
        return f"an annotation ({annotations[0].text}::)"
    kind = getattr(value, "ion_type", None)
    name = str(getattr(kind, "name", type(value).__name__)).lower()
    return f"null.{name}" if isinstance(value, simpleion.IonPyNull) else f"a {name}"


def _adopt_timestamps(containers: list[Any]) -> bool:
    for container in containers:
        fields = container.items() if type(container) is dict else enumerate(container)
        for key, item in list(fields):
            if type(item) is not core.Timestamp:
                continue
            if -item.fractional_seconds.as_tuple().exponent > _MAX_FRACTION_DIGITS:
                return False
            container[key] = _timestamp(
                *(item.year, item.month, item.day, item.hour, item.minute, item.second),
                *(item.microsecond, item.tzinfo, item.precision, item.fractional_precision),
            )
    return True


def _timestamp(*parts: Value) -> Timestamp:
    *moment, precision, fraction = parts
    return Timestamp(
        *moment, precision=core.TimestampPrecision(precision), fractional_precision=fraction
    )


# Binary Ion, by the library.


def _encode(value: Value) -> bytes:
    _require_c_extension()
    try:
        data: bytes = simpleion.dumps(value)
    except _LIBRARY_ERRORS as error:
        raise _translated(error, "ion/unsupported-value", "not written as Ion") from error
    return data


_MAX_VARUINT: Final = 5  # bytes, for 32 bits
_LIST: Final = 0xB
_STRUCT: Final = 0xD
_TIMESTAMP: Final = 0x6
_ANNOTATED: Final = 0xE
_LENGTH_FOLLOWS: Final = 0xE
_NULL: Final = 0xF
_TABLE_IMPORTS: Final = 0x86  # $6 and $7 as field names
_TABLE_SYMBOLS: Final = 0x87
_STRINGS: Final = range(0x80, 0x8F)
_PADS: Final = range(0x0F)
_NEGATIVE: Final = 0x40  # the sign of the exponent of a fraction of a second
_FINEST: Final = _NEGATIVE | _MAX_FRACTION_DIGITS
_LONGEST: Final = 0x80
_LONG_SCALARS: Final = frozenset({0x2E, 0x3E, 0x5E, 0x6E, 0x7E, 0x8E, 0xAE})


def _step(first: int) -> int:
    """The whole length of a value that begins with this byte, if the byte alone tells."""
    kind, length = divmod(first, 16)
    if first in {0x0F, 0x10, 0x11, 0xB0, 0xD0}:  # null, false, true, [], {}
        return 1
    return 1 + length if kind in {2, 3, 4, 5, 6, 7, 8, 0xA} and length < _LENGTH_FOLLOWS else 0


_STEPS: Final = tuple(map(_step, range(256)))


def _check_binary(data: bytes) -> None:
    """Refuse a stream unless its every length is right and its every type ours.

    The library loops without end or reads foreign memory where lengths contradict each other,
    and keeps one of two equal field names.
    """
    level = _check_stream(data)
    for _ in range(MAX_DEPTH):
        inner: list[tuple[int, int, bool]] = []
        for start, stop, is_struct in level:
            if is_struct:
                _check_fields(data, start, stop, inner)
            else:
                _check_values(data, start, stop, inner)
        if not inner:
            return
        level = inner
    raise _too_deep()


def _check_stream(data: bytes) -> list[tuple[int, int, bool]]:
    """Start and stop of the top-level values that are containers, and whether each is a struct."""
    position = 0
    level: list[tuple[int, int, bool]] = []
    try:
        while position < len(data):
            first = data[position]
            if first == _BINARY_MARK[0]:
                if data[position : position + 4] != _BINARY_MARK:
                    raise _damaged("not a version mark of Ion 1.0", position)
                position += 4
            elif first >> 4 == _ANNOTATED:
                position = _check_symbol_table(data, position)
            else:
                position = _check_values(data, position, None, level)
    except IndexError as error:
        raise _damaged("the last value is cut short", len(data)) from error
    return level


def _check_values(
    data: bytes, position: int, stop: int | None, inner: list[tuple[int, int, bool]]
) -> int:
    """Where the values end; one value if there is no `stop`. Collects lists and structs."""
    end = position + 1 if stop is None else stop
    while position < end:
        step = _STEPS[data[position]]
        position = position + step if step else _check_long(data, position, inner)
    if position > (len(data) if stop is None else stop):
        raise _damaged("a value reaches beyond its container", position)
    return position


def _check_fields(
    data: bytes, position: int, stop: int, inner: list[tuple[int, int, bool]]
) -> None:
    names = []
    while position < stop:
        name = data[position]
        position += 1
        if name & 0x80:
            name &= 0x7F
        else:
            name, position = _varuint(data, position - 1)
        if position >= stop:
            raise _damaged("a field without a value", position)
        first = data[position]
        step = _STEPS[first]
        position = position + step if step else _check_long(data, position, inner)
        if first not in _PADS:
            names.append(name)
    if position > stop:
        raise _damaged("a value reaches beyond its struct", position)
    if len(set(names)) != len(names):
        raise _repeated(position)


def _check_long(data: bytes, position: int, inner: list[tuple[int, int, bool]]) -> int:
    """Where a value ends whose first byte does not tell its length, or that is refused."""
    first = data[position]
    kind, length = divmod(first, 16)
    if kind in (_LIST, _STRUCT) and length != _NULL:
        start, stop = _extent(data, position)
        inner.append((start, stop, kind == _STRUCT))
        return stop
    if first in _LONG_SCALARS or first in _PADS:
        return _extent(data, position)[1]
    if length == _NULL:
        raise _refused("a typed null")
    if kind in _FOREIGN:
        raise _refused(_FOREIGN[kind])
    raise _damaged(f"no value begins with 0x{first:02X}", position)


_FOREIGN: Final = MappingProxyType({0x9: "a clob", 0xC: "a sexp", 0xE: "an annotation"})


def _check_symbol_table(data: bytes, position: int) -> int:
    """Where the symbol table ends; only what a local table needs is let through."""
    position, stop = _extent(data, position)
    if data[position : position + 2] != b"\x81\x83":  # one annotation, $ion_symbol_table
        raise _refused("an annotation")
    position += 2
    if data[position] >> 4 != _STRUCT:
        raise _damaged("a symbol table is not a struct", position)
    position, end = _extent(data, position)
    if end != stop:
        raise _damaged("a symbol table differs in length from its content", position)
    while position < stop:
        name = data[position]
        position += 1
        start, end = _extent(data, position)
        if name == _TABLE_SYMBOLS and data[position] >> 4 == _LIST:
            _check_symbols(data, start, end)
        elif name != _TABLE_IMPORTS or data[position:end] not in {b"\x71\x03", b"\xb0"}:
            raise _refused("a symbol table with shared tables or open content")
        position = end
    if position != stop:
        raise _damaged("a symbol table reaches beyond its end", position)
    return stop


def _check_symbols(data: bytes, position: int, stop: int) -> None:
    while position < stop:
        if data[position] not in _STRINGS:
            raise _refused("a symbol table with something else than text")
        start, position = _extent(data, position)
        try:
            data[start:position].decode()
        except UnicodeDecodeError as error:
            raise _damaged("a symbol is not UTF-8", start) from error
    if position != stop:
        raise _damaged("a symbol reaches beyond its table", position)


def _extent(data: bytes, position: int) -> tuple[int, int]:
    """Where the representation of the binary value at `position` starts and ends."""
    kind, length = divmod(data[position], 16)
    position += 1
    if kind == 1 or length == _NULL:
        return position, position
    if length == _LENGTH_FOLLOWS or (kind == _STRUCT and length == 1):
        length, position = _varuint(data, position)
    stop = position + length
    if stop > len(data):
        raise _damaged("a value reaches beyond the end", position)
    return position, stop


def _varuint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for byte in data[position : position + _MAX_VARUINT]:
        value = value << 7 | byte & 0x7F
        position += 1
        if byte & 0x80:
            return value, position
    raise _damaged("a length or symbol number without an end", position)


def _cut_fractions(data: bytes) -> bytes:
    """The same stream with seconds cut to microseconds, in values of the same length.

    The library changes finer fractions, and a datetime has no room for them.
    """
    if not data.startswith(_BINARY_MARK):
        return _FINE_SECONDS.sub(lambda match: match["quoted"] or match["cut"], data)
    cut = bytearray(data)
    for start, stop in _timestamps(data, 0, len(data), is_struct=False):
        position = start
        for _ in range(7):  # offset, year, month, day, hour, minute, second
            _, position = _varuint(data, position)
        exponent, coefficient = _varuint(data, position)
        if position + 1 != coefficient or not _FINEST < exponent < _LONGEST:
            continue
        fraction = int.from_bytes(data[coefficient:stop], "big")
        micros = fraction * 10**6 // 10 ** (exponent - _NEGATIVE)
        cut[position:stop] = bytes([0x80 | _FINEST]) + micros.to_bytes(stop - coefficient, "big")
    return bytes(cut)


def _timestamps(
    data: bytes, position: int, stop: int, *, is_struct: bool
) -> Iterator[tuple[int, int]]:
    """Start and stop of each timestamp in a stream that was checked."""
    while position < stop:
        if is_struct:
            _, position = _varuint(data, position)
        kind = data[position] >> 4
        if data[position : position + 4] == _BINARY_MARK:
            position += 4
            continue
        start, position = _extent(data, position)
        if kind in (_LIST, _STRUCT):
            yield from _timestamps(data, start, position, is_struct=kind == _STRUCT)
        elif kind == _TIMESTAMP and start + 9 < position:
            yield start, position


def _decode(data: bytes) -> list[Any]:
    if data.startswith(_BINARY_MARK):
        _check_binary(data)
        return _load(data, None, _NATIVE)
    _check_text(data)
    # The limit is for the longest string or blob.
    values = _load(data, max(len(data) + 1, _MIN_TEXT_BUFFER), _MULTIMAP)
    return [_without_repeats(value, 1) for value in values]


def _load(data: bytes, limit: int | None, model: simpleion.IonPyValueModel) -> list[Any]:
    try:
        values: list[Any] = simpleion.load(
            BytesIO(data), single_value=False, text_buffer_size_limit=limit, value_model=model
        )
    except _LIBRARY_ERRORS as error:
        raise _translated(error, "ion/malformed", "not Ion, or damaged") from error
    return values


def _require_c_extension() -> None:
    if not simpleion.c_ext:
        raise IonError("ion/no-c-extension", "amazon.ion lacks its C extension, 20 times slower")


# Text Ion. The library's own indented text takes its slow path.

_PLAIN_SYMBOL: Final = re.compile(r"(?!(?:null|true|false|nan)\Z)[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


@lru_cache(maxsize=4096)
def _symbol_text(name: str) -> str:
    if _PLAIN_SYMBOL.fullmatch(name):
        return str(name)
    return "'" + encode_basestring(name)[1:-1].replace("'", "\\'") + "'"


def _scalar_text(value: Value) -> str:  # noqa: PLR0911 (one for each type)
    kind = type(value)
    if kind is str or kind is Text:
        return encode_basestring(value)  # JSON's escapes are Ion's
    if value is None:
        return "null"
    if kind is bool:
        return "true" if value else "false"
    if kind is int:
        return str(value)
    if kind in _BLOBS:
        return "{{" + b64encode(value).decode() + "}}"
    if kind is Symbol:
        return _symbol_text(value)
    if kind is float:
        return _float_text(value)
    if kind is Decimal:
        number = str(value).replace("E", "d")
        return number if "d" in number or "." in number else number + "d0"
    return _moment_text(value)


def _float_text(value: float) -> str:
    if isfinite(value):
        number = repr(value)
        return number if "e" in number else number + "e0"
    return "nan" if value != value else "+inf" if value == inf else "-inf"  # noqa: PLR0124


def _moment_text(value: datetime) -> str:
    _require_c_extension()
    try:
        return str(simpleion.dumps(value, binary=False, omit_version_marker=True))
    except _LIBRARY_ERRORS as error:
        raise _translated(error, "ion/unsupported-value", "not written as Ion") from error


def _write_text(value: Value, newline: str, out: list[str]) -> None:
    """Append the text of a value; `newline` is a line break and the current indentation."""
    kind = type(value)
    if kind not in _CONTAINERS:
        out.append(_scalar_text(value))
        return
    opened, closed = "{}" if kind is dict else "[]"
    if not value:
        out.append(opened + closed)
        return
    deeper = newline + "  "
    separator = opened + deeper
    following = "," + deeper
    if kind is dict:
        for name, item in value.items():
            out.append(f"{separator}{_symbol_text(name)}: ")
            _write_text(item, deeper, out)
            separator = following
    else:
        for item in value:
            out.append(separator)
            _write_text(item, deeper, out)
            separator = following
    out.append(newline + closed)


# Ion Hash.

_NAN: Final = b"\x7f\xf8\0\0\0\0\0\0"


class _Hasher:
    """The Ion Hash over one digest function, remembering digests of short scalar fields."""

    __slots__ = ("_digest", "_field")

    def __init__(self, digest: Callable[[bytes], bytes]) -> None:
        self._digest = digest
        self._field = lru_cache(maxsize=_MEMO_SIZE)(self._digest_of_field)

    def digest(self, value: Value) -> bytes:
        return self._digest(self._serialize(value))

    def _digest_of_field(self, name: str, value: Value, kind: type) -> bytes:  # noqa: ARG002
        # The kind is there for the memo: False and 0 are equal, and so are "a" and Symbol("a").
        return self._digest(_serialized_name(name) + self._serialize(value))

    def _serialize(self, value: Value) -> bytes:
        kind = type(value)
        if kind is dict:
            digests = []
            for name, item in value.items():
                of: Any = type(item)
                if (
                    of is int
                    or item is None
                    or ((of is str or of is bytes) and len(item) <= _MEMO_LENGTH)
                ):
                    digests.append(self._field(name, item, of))
                else:
                    serialized = _serialized_name(name) + self._serialize(item)
                    digests.append(self._digest(serialized))
            digests.sort()
            return b"\x0b\xd0" + _escape(b"".join(digests)) + b"\x0e"
        if kind is list:
            return b"\x0b\xb0" + b"".join(map(self._serialize, value)) + b"\x0e"
        return _serialized_scalar(value)


def _serialized_scalar(value: Value) -> bytes:  # noqa: PLR0911 (one for each type)
    kind = type(value)
    if kind is str or kind is Text:
        return b"\x0b\x80" + _escape(value.encode()) + b"\x0e"
    if value is None:
        return b"\x0b\x0f\x0e"
    if kind is int:
        sign = b"\x0b\x30" if value < 0 else b"\x0b\x20"
        magnitude = abs(value).to_bytes((value.bit_length() + 7) // 8, "big")
        return sign + _escape(magnitude) + b"\x0e"
    if kind in _BLOBS:
        return b"\x0b\xa0" + _escape(value) + b"\x0e"
    if kind is bool:
        return b"\x0b\x11\x0e" if value else b"\x0b\x10\x0e"
    if kind is Symbol:
        return b"\x0b\x70" + _escape(value.encode()) + b"\x0e"
    if kind is float:
        number = _NAN if value != value else struct.pack(">d", value)  # noqa: PLR0124
        return b"\x0b\x40" + (_escape(number) if any(number) else b"") + b"\x0e"
    if kind is Decimal:
        return b"\x0b\x50" + _escape(_representation(value)) + b"\x0e"
    if kind is datetime or kind is Timestamp:
        return b"\x0b\x60" + _escape(_representation(value)) + b"\x0e"
    raise _unsupported(_unwritable([[value]]))


def _representation(value: Decimal | datetime) -> bytes:
    _check(value)
    data = _encode(value)
    start, stop = _extent(data, len(_BINARY_MARK))
    return data[start:stop]


@lru_cache(maxsize=4096)
def _serialized_name(name: str) -> bytes:
    if not isinstance(name, str):
        raise _unsupported(f"a field name must be str, not {name!r}")
    return b"\x0b\x70" + _escape(name.encode()) + b"\x0e"


def _escape(data: bytes) -> bytes:
    """Put 0x0C before each marker byte (Ion Hash, section on escaping)."""
    return (
        data.replace(b"\x0c", b"\x0c\x0c")
        .replace(b"\x0b", b"\x0c\x0b")
        .replace(b"\x0e", b"\x0c\x0e")
    )


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


_SHA256: Final = _Hasher(_sha256)


def _translated(error: BaseException, code: str, message: str) -> IonError:
    reasons = (error, error.__cause__)
    if any(isinstance(reason, RecursionError) for reason in reasons) or "STACK" in str(error):
        return _too_deep()
    return IonError(code, f"{message}: {error}".strip())


def _repeated(offset: int | None) -> IonError:
    return IonError("ion/repeated-field", "a struct has two fields of one name", offset=offset)


def _damaged(what: str, offset: int) -> IonError:
    return IonError("ion/malformed", what, offset=offset)


def _too_large() -> IonError:
    return IonError("ion/too-large", f"one piece of Ion is limited to {MAX_BYTES:,} bytes")


def _too_deep() -> IonError:
    return IonError("ion/too-deep", f"lists and structs nest deeper than {MAX_DEPTH} levels")


def _unsupported(reason: str) -> IonError:
    return IonError("ion/unsupported-value", reason)


def _refused(what: str) -> IonError:
    return IonError("ion/unsupported-type", f"Ion that this format does not use: {what}")
