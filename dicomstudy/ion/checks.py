"""What is refused before values are written, and after they were read."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import NoneType
from typing import Any, Final

from amazon.ion import core, simpleion

from dicomstudy.ion.values import (
    MAX_BYTES,
    MAX_DEPTH,
    Blob,
    Symbol,
    Text,
    Timestamp,
    Value,
    refused,
    timestamp,
    too_deep,
    too_large,
    unsupported,
)

__all__ = ["BLOBS", "CONTAINERS", "MAX_FRACTION_DIGITS", "adopt", "check", "no_place_for"]

# Limits well inside what the library writes and reads exactly: it changes integers and
# coefficients of more than 240 bits, and fractions of more than 9 digits, without a word.
_MAX_INT_BITS: Final = 128
_LARGE: Final = 1 << 63
_MAX_DECIMAL_DIGITS: Final = 34
_MAX_DECIMAL_EXPONENT: Final = 6000
MAX_FRACTION_DIGITS: Final = 6  # of a second, as in a datetime
_VERSION_MARK: Final = re.compile(r"\$ion_[0-9]+_[0-9]+", re.ASCII)
_MAX_OVERHEAD: Final = 24  # bytes of a name or value beside its text: numbers, lengths
CONTAINERS: Final = frozenset({list, dict})
_ATOMS: Final = frozenset({NoneType, bool, float})
_TEXTS: Final = frozenset({str, Text, Symbol})
BLOBS: Final = frozenset({bytes, Blob})
_CHECKED: Final = _TEXTS | BLOBS | {int, Decimal, datetime, Timestamp}
_WRITABLE: Final = _ATOMS | _CHECKED | CONTAINERS
#: What the library calls Python for when it writes it; so it does for large integers.
_IN_PYTHON: Final = frozenset({Decimal, datetime, Timestamp})
_NAMES: Final = frozenset({str, Symbol})
_LIMITED: Final = frozenset({int, Decimal})
_LOADED: Final = _ATOMS | _LIMITED | CONTAINERS | {str, bytes, core.Timestamp}


def check(value: Value) -> bool:
    """Refuse what the library would drop, garble, or crash on.

    Returns whether the library calls Python for something that it writes.
    """
    if type(value) is Symbol and _VERSION_MARK.fullmatch(value):
        raise unsupported(f"the symbol {value}, which marks a version where it stands alone")
    level: list[Any] = [[value]]
    size = 0
    in_python = False
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
            raise unsupported(f"a field name must be str, not {name!r}")
        kinds = set(map(type, items))
        if not kinds <= _WRITABLE:
            raise unsupported(no_place_for(level))
        size += _text_length(names) + _MAX_OVERHEAD * (len(names) + len(items))
        for kind in kinds & _CHECKED:
            some: list[Any] = [item for item in items if type(item) is kind]
            size += _check_scalars(kind, some)
            in_python |= kind in _IN_PYTHON or (kind is int and _has_large(some))
        if size > MAX_BYTES:
            raise too_large()
        if kinds.isdisjoint(CONTAINERS):
            return in_python
        level = [item for item in items if type(item) in CONTAINERS]
    raise too_deep()


def _check_scalars(kind: type, items: list[Any]) -> int:
    """The bytes that text and blobs will need, after a look at each item of this kind."""
    if kind in _TEXTS:
        return _text_length(items)
    if kind in BLOBS:
        return sum(map(len, items))
    if kind is int:
        if max(map(int.bit_length, items)) > _MAX_INT_BITS:
            raise unsupported(f"an integer of more than {_MAX_INT_BITS} bits")
    elif kind is Decimal:
        for item in items:
            _check_decimal(item)
    else:
        for item in items:
            _check_moment(item)
    return 0


def _has_large(numbers: list[int]) -> bool:
    """Whether one of them has more bits than the library has in C."""
    return min(numbers) < -_LARGE or max(numbers) >= _LARGE


def _text_length(texts: list[str]) -> int:
    if all(map(str.isascii, texts)):
        return sum(map(len, texts))
    try:
        return sum(len(text.encode()) for text in texts)
    except UnicodeEncodeError as error:
        raise unsupported(f"text with a lone surrogate: {error}") from error


def _check_decimal(value: Decimal) -> None:
    _, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise unsupported(f"Ion has no decimal {value}")
    if len(digits) > _MAX_DECIMAL_DIGITS or abs(exponent) > _MAX_DECIMAL_EXPONENT:
        raise unsupported(
            f"a decimal of more than {_MAX_DECIMAL_DIGITS} digits or with an exponent beyond "
            f"{_MAX_DECIMAL_EXPONENT:,}"
        )


def _check_moment(value: datetime) -> None:
    offset = value.utcoffset()
    if offset is None:
        return
    if offset % timedelta(minutes=1):
        raise unsupported("a time zone offset that is not whole minutes")
    try:
        value.astimezone(UTC)
    except OverflowError as error:
        raise unsupported("a moment outside the years 1 to 9999 of UTC") from error


def no_place_for(containers: list[Any]) -> str:
    """What is wrong with one of the values in some lists and structs."""
    for container in containers:
        is_struct = type(container) is dict
        for key, item in container.items() if is_struct else enumerate(container):
            if type(item) not in _WRITABLE:
                field = f" (field {key})" if is_struct else ""
                return f"Ion has no place for a {type(item).__qualname__}{field}"
    return "Ion has no place for this value"


def adopt(values: list[Value]) -> bool:
    """Make loaded values ours; refuse what is not plain; False if a timestamp is too fine."""
    level: list[Any] = [values]
    for _ in range(MAX_DEPTH + 1):
        items: list[Any] = []
        for container in level:
            if type(container) is dict:
                if None in container:
                    raise refused("a field name without text ($0)")
                items += container.values()
            else:
                items += container
        kinds = set(map(type, items))
        if not kinds <= _LOADED:
            raise refused(_foreign(next(item for item in items if type(item) not in _LOADED)))
        for kind in kinds & _LIMITED:
            _check_scalars(kind, [item for item in items if type(item) is kind])
        if core.Timestamp in kinds and not _adopt_timestamps(level):
            return False
        if kinds.isdisjoint(CONTAINERS):
            return True
        level = [item for item in items if type(item) in CONTAINERS]
    raise too_deep()


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
            if -item.fractional_seconds.as_tuple().exponent > MAX_FRACTION_DIGITS:
                return False
            container[key] = timestamp(
                *(item.year, item.month, item.day, item.hour, item.minute, item.second),
                *(item.microsecond, item.tzinfo, item.precision, item.fractional_precision),
            )
    return True
