"""Binary Ion: by the library, which is guarded from what it does not survive."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from secrets import token_bytes
from types import MappingProxyType
from typing import Final

from dicomstudy.ion.checks import CONTAINERS, MAX_FRACTION_DIGITS
from dicomstudy.ion.values import (
    MAX_DEPTH,
    Value,
    damaged,
    refused,
    repeated,
    too_deep,
)

__all__ = [
    "ANNOTATED",
    "BINARY_MARK",
    "LIST",
    "STRUCT",
    "check_binary",
    "cut_fractions",
    "extent",
    "put_back",
    "take_out",
]

BINARY_MARK: Final = b"\xe0\x01\x00\xea"
_MAX_VARUINT: Final = 5  # bytes, for 32 bits
#: Types of values, as the first four bits of each say (Ion 1.0, binary encoding).
LIST: Final = 0xB
STRUCT: Final = 0xD
ANNOTATED: Final = 0xE
_POSITIVE, _NEGATIVE_INTEGER = 0x2, 0x3
_TIMESTAMP: Final = 0x6
_LENGTH_FOLLOWS: Final = 0xE
_NULL: Final = 0xF
_TABLE_IMPORTS: Final = 0x86  # $6 and $7 as field names
_TABLE_SYMBOLS: Final = 0x87
_OWN_TABLE: Final = b"\x71\x03"  # $3: symbols are added to those that are known
_NO_TABLE: Final = b"\xb0"
_SYSTEM_SYMBOLS: Final = frozenset(
    b"$ion $ion_1_0 $ion_symbol_table name version imports symbols max_id "
    b"$ion_shared_symbol_table".split()
)
_STRINGS: Final = range(0x80, 0x8F)
_PADS: Final = range(0x0F)
_NEGATIVE: Final = 0x40  # the sign of the exponent of a fraction of a second
_PAGE: Final = 1 << 13  # the library reads so many bytes at a time
_INTEGER: Final = 8  # bytes of an integer that it changes if two pages have a part of it
_BLOB: Final = 0xA
#: Of a timestamp, the limits of offset, year, month, day, hour, minute, second and exponent.
_TIME_LIMITS: Final = (None, None, None, None, 24, 60, 60, None)
_BEFORE: Final = frozenset({0x28, 0x38, 0x88})  # the byte in front of such an integer
_LONG_SCALARS: Final = frozenset({0x7E, 0x8E, 0xAE})
_LONG_NUMBERS: Final = frozenset({0x2E, 0x3E, 0x5E})
#: Numbers of more bytes, which have no value that is read, take the library time with their square.
_MAX_NUMBER: Final = 64


def _step(first: int) -> int:
    """The whole length of a value that begins with this byte, if the byte alone tells."""
    kind, length = divmod(first, 16)
    if first in {0x0F, 0x10, 0x11, 0xB0, 0xD0}:  # null, false, true, [], {}
        return 1
    return 1 + length if kind in {2, 3, 4, 5, 7, 8, 0xA} and length < _LENGTH_FOLLOWS else 0


_STEPS: Final = tuple(map(_step, range(256)))


class _Symbols:
    """The texts of the symbols that are known in a stream."""

    def __init__(self) -> None:
        self.forget()
        #: Whether two symbols that were known at once have one text.
        self.are_repeated = False

    def forget(self) -> None:
        """Know none but those of Ion itself, as behind a version mark."""
        self._texts = set(_SYSTEM_SYMBOLS)

    def add(self, texts: list[bytes]) -> None:
        """Know these, too."""
        count = len(self._texts) + len(texts)
        self._texts.update(texts)
        self.are_repeated |= len(self._texts) < count


def check_binary(data: bytes) -> bool:
    """Refuse a stream unless its every length is right and its every type ours.

    The library loops without end or reads foreign memory where lengths contradict each other,
    and keeps one of two equal field names. Returns whether names may be equal whose symbol numbers
    are not.
    """
    symbols = _Symbols()
    try:
        level = _check_stream(data, symbols)
        _check_inside(data, level)
    except IndexError as error:
        raise damaged("the last value is cut short", len(data)) from error
    return symbols.are_repeated


def _check_inside(data: bytes, level: list[tuple[int, int, bool]]) -> None:
    """Check what is in containers: start and stop of each, and whether it is a struct."""
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
    raise too_deep()


def _check_stream(data: bytes, symbols: _Symbols) -> list[tuple[int, int, bool]]:
    """Start and stop of the top-level values that are containers, and whether each is a struct."""
    position = 0
    level: list[tuple[int, int, bool]] = []
    while position < len(data):
        first = data[position]
        if first == BINARY_MARK[0]:
            if data[position : position + 4] != BINARY_MARK:
                raise damaged("not a version mark of Ion 1.0", position)
            position += 4
            symbols.forget()
        elif first >> 4 == ANNOTATED:
            position = _check_symbol_table(data, position, symbols)
        else:
            position = _check_values(data, position, None, level)
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
        raise damaged("a value reaches beyond its container", position)
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
        elif data[position] & 0x80:
            name = name << 7 | data[position] & 0x7F
            position += 1
        else:
            name, position = _varuint(data, position - 1)
        if position >= stop:
            raise damaged("a field without a value", position)
        first = data[position]
        step = _STEPS[first]
        position = position + step if step else _check_long(data, position, inner)
        if step or first not in _PADS:
            names.append(name)
    if position > stop:
        raise damaged("a value reaches beyond its struct", position)
    if len(set(names)) != len(names):
        raise repeated(position)


def _check_long(data: bytes, position: int, inner: list[tuple[int, int, bool]]) -> int:
    """Where a value ends whose first byte does not tell its length, or that is refused."""
    first = data[position]
    if first in _LONG_SCALARS or first in _PADS:
        return extent(data, position)[1]
    kind, length = divmod(first, 16)
    if kind in (LIST, STRUCT) and length != _NULL:
        start, stop = extent(data, position)
        inner.append((start, stop, kind == STRUCT))
        return stop
    if length == _NULL:
        raise refused("a typed null")
    if first in _LONG_NUMBERS or kind == _TIMESTAMP:
        start, stop = extent(data, position)
        if stop - start > _MAX_NUMBER:
            raise refused(f"a number of more than {_MAX_NUMBER} bytes")
        if kind == _TIMESTAMP:
            _check_timestamp(data, start, stop)
        return stop
    if kind in _FOREIGN:
        raise refused(_FOREIGN[kind])
    raise damaged(f"no value begins with 0x{first:02X}", position)


def _check_timestamp(data: bytes, position: int, stop: int) -> None:
    """Refuse a timestamp that is cut inside a number, or whose time of day the library changes.

    It carries over an hour or minute that no day has, and takes one of two bytes for another.
    """
    for limit in _TIME_LIMITS:
        if position >= stop:
            break
        start = position
        value, position = _varuint(data, position)
        if limit is not None and (value >= limit or position - start > 1):
            raise damaged("a timestamp of a time that no day has", position)
    if position > stop:
        raise damaged("a timestamp ends inside a number", position)


_FOREIGN: Final = MappingProxyType({0x9: "a clob", 0xC: "a sexp", 0xE: "an annotation"})


def _check_symbol_table(data: bytes, position: int, symbols: _Symbols) -> int:
    """Where the symbol table ends; only what a local table needs is let through."""
    position, stop = extent(data, position)
    if data[position : position + 2] != b"\x81\x83":  # one annotation, $ion_symbol_table
        raise refused("an annotation")
    position += 2
    if data[position] >> 4 != STRUCT:
        raise damaged("a symbol table is not a struct", position)
    position, end = extent(data, position)
    if end != stop:
        raise damaged("a symbol table differs in length from its content", position)
    texts: list[bytes] = []
    is_more = False
    while position < stop:
        name = data[position]
        position += 1
        start, end = extent(data, position)
        if name == _TABLE_SYMBOLS and data[position] >> 4 == LIST:
            texts += _check_symbols(data, start, end)
        elif name == _TABLE_IMPORTS and data[position:end] in {_OWN_TABLE, _NO_TABLE}:
            is_more = data[position:end] == _OWN_TABLE
        else:
            raise refused("a symbol table with shared tables or open content")
        position = end
    if position != stop:
        raise damaged("a symbol table reaches beyond its end", position)
    if not is_more:
        symbols.forget()
    symbols.add(texts)
    return stop


def _check_symbols(data: bytes, position: int, stop: int) -> list[bytes]:
    """The texts of a list of symbols."""
    texts = []
    while position < stop:
        if data[position] not in _STRINGS:
            raise refused("a symbol table with something else than text")
        start, position = extent(data, position)
        text = data[start:position]
        try:
            text.decode()
        except UnicodeDecodeError as error:
            raise damaged("a symbol is not UTF-8", start) from error
        texts.append(text)
    if position != stop:
        raise damaged("a symbol reaches beyond its table", position)
    return texts


def extent(data: bytes, position: int) -> tuple[int, int]:
    """Where the representation of the binary value at `position` starts and ends."""
    kind, length = divmod(data[position], 16)
    position += 1
    if kind == 1 or length == _NULL:
        return position, position
    if length == _LENGTH_FOLLOWS or (kind == STRUCT and length == 1):
        length, position = _varuint(data, position)
    stop = position + length
    if stop > len(data):
        raise damaged("a value reaches beyond the end", position)
    return position, stop


def _varuint(data: bytes, position: int) -> tuple[int, int]:
    first = data[position]
    if first & 0x80:
        return first & 0x7F, position + 1
    value = 0
    for byte in data[position : position + _MAX_VARUINT]:
        value = value << 7 | byte & 0x7F
        position += 1
        if byte & 0x80:
            return value, position
    raise damaged("a length or symbol number without an end", position)


def cut_fractions(data: bytes) -> bytes:
    """The stream with seconds cut to microseconds, in values of the same length.

    The library changes finer fractions, and a datetime has no room for them.
    """
    cut = bytearray(data)
    for head, start, stop in _scalars(data, 0, len(data), is_struct=False):
        if data[head] >> 4 != _TIMESTAMP:
            continue
        position = start
        for _ in range(7):  # offset, year, month, day, hour, minute, second
            if position < stop:
                _, position = _varuint(data, position)
        if position == stop:
            continue
        exponent, coefficient = _varuint(data, position)
        size = coefficient - position
        sign = _NEGATIVE << 7 * (size - 1)
        digits = exponent - sign
        is_negative = coefficient < stop and data[coefficient] & 0x80  # and no fraction
        if is_negative or not MAX_FRACTION_DIGITS < digits < _NEGATIVE:
            continue
        micros = int.from_bytes(data[coefficient:stop], "big") // 10 ** (
            digits - MAX_FRACTION_DIGITS
        )
        finest = bytearray(size)
        finest[0] |= _NEGATIVE
        finest[-1] |= 0x80 | MAX_FRACTION_DIGITS
        cut[position:stop] = finest + micros.to_bytes(stop - coefficient, "big")
    return bytes(cut)


def take_out(data: bytes) -> tuple[bytes, dict[bytes, int]]:
    """A stream that was checked, without the integers that the library would change; and these.

    It changes those of eight bytes with the first bit set of which two pages have a part. In
    their place stand blobs of the same length that are nowhere else in the stream.
    """
    taken: dict[bytes, int] = {}
    found = _values_at(data, _may_be_split(data))
    split = [value for value in found if _is_split(data, *value)]
    if not split:
        return data, taken
    left = bytearray(data)
    prefix = token_bytes(_INTEGER // 2)  # one that nobody could put there
    while prefix in data:
        prefix = token_bytes(_INTEGER // 2)
    for number, (head, start, stop) in enumerate(split):
        kind, form = divmod(data[head], 16)
        mark = prefix + number.to_bytes(_INTEGER // 2)
        magnitude = int.from_bytes(data[start:stop], "big")
        taken[mark] = magnitude if kind == _POSITIVE else -magnitude
        left[head] = _BLOB << 4 | form
        left[start:stop] = mark
    return bytes(left), taken


def put_back(values: list[Value], taken: dict[bytes, int]) -> None:
    """Put integers that were taken out where they were. Mirror of `take_out`."""
    level: list[Value] = [values]
    while level:
        inner: list[Value] = []
        for container in level:
            fields = container.items() if type(container) is dict else enumerate(container)
            for key, item in list(fields):
                if type(item) is bytes and item in taken:
                    container[key] = taken[item]
                elif type(item) in CONTAINERS:
                    inner.append(item)
        level = inner


def _may_be_split(data: bytes) -> list[int]:
    """Where such an integer would start by what its bytes look like, wherever values begin."""
    return [
        start
        for page in range(_PAGE, len(data), _PAGE)
        for start in range(page - _INTEGER + 1, page)
        if data[start] & 0x80 and data[start - 1] in _BEFORE
    ]


def _is_split(data: bytes, head: int, start: int, stop: int) -> bool:
    """Whether a value that begins there is one."""
    is_integer = data[head] >> 4 in {_POSITIVE, _NEGATIVE_INTEGER} and stop - start == _INTEGER
    return is_integer and start // _PAGE != (stop - 1) // _PAGE


def _values_at(data: bytes, starts: Iterable[int]) -> Iterator[tuple[int, int, int]]:
    """The values with representations from `starts` on, in a stream that was checked.

    Of each, its place, and start and stop of its representation. `starts` are in order; where there
    is no such value, there is none. What holds none of them is passed over.
    """
    position, stop, is_struct = 0, len(data), False
    around: list[tuple[int, bool]] = []
    for start in starts:
        while position < start:
            if position == stop:
                stop, is_struct = around.pop()
                continue
            if not is_struct and data[position : position + 4] == BINARY_MARK:
                position += 4
                continue
            if is_struct:
                _, position = _varuint(data, position)
            head, kind = position, data[position] >> 4
            inner, position = extent(data, position)
            if kind not in {LIST, STRUCT}:
                if inner == start:
                    yield head, inner, position
            elif position > start:
                around.append((stop, is_struct))
                position, stop, is_struct = inner, position, kind == STRUCT


def _scalars(
    data: bytes, position: int, stop: int, *, is_struct: bool
) -> Iterator[tuple[int, int, int]]:
    """Each value that is no list or struct, in a stream that was checked.

    Its place, and start and stop of its representation.
    """
    while position < stop:
        if is_struct:
            _, position = _varuint(data, position)
        head, kind = position, data[position] >> 4
        if data[position : position + 4] == BINARY_MARK:
            position += 4
            continue
        start, position = extent(data, position)
        if kind in (LIST, STRUCT):
            yield from _scalars(data, start, position, is_struct=kind == STRUCT)
        else:
            yield head, start, position
