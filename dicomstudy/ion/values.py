"""What Ion holds as Python values, its limits, and the errors about it."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from amazon.ion import core

from dicomstudy.errors import IonError

__all__ = [
    "MAX_BYTES",
    "MAX_DEPTH",
    "Blob",
    "Symbol",
    "Text",
    "Timestamp",
    "Value",
    "damaged",
    "quick",
    "refused",
    "repeated",
    "timestamp",
    "too_deep",
    "too_large",
    "unsupported",
]

MAX_BYTES: Final = 2**31 - 1
"""Longest Ion that is written or read in one piece: the library's lengths are 32-bit, and it
writes a few bytes and reports success for more. Writing refuses a little earlier, by an upper
bound that counts each symbol as text."""


MAX_DEPTH: Final = 256
"""Deepest nesting of lists and structs; the library's own limit moves with the call stack."""


class Symbol(str):
    """Text that is written as an Ion symbol: once in the symbol table, then by its number.

    Equal to the str of the same text, and read back as one; hashed as a symbol.
    """

    __slots__ = ()
    # The library's writer looks for these two names.
    ion_type = core.IonType.SYMBOL
    ion_annotations = ()


class Text(str):
    """A str, equal to it and hashed as it, that is written sooner; read back as a str."""

    __slots__ = ()
    ion_type = core.IonType.STRING
    ion_annotations = ()


class Blob(bytes):
    """Bytes, equal to them and hashed as they are, written sooner; read back as bytes."""

    __slots__ = ()
    ion_type = core.IonType.BLOB
    ion_annotations = ()


def quick(value: Value) -> Value:
    """`value` with a `Text` or `Blob` for every str and bytes in it, which is written sooner."""
    kind = type(value)
    if kind is str:
        return Text(value)
    if kind is bytes:
        return Blob(value)
    if kind is dict:
        return {name: quick(item) for name, item in value.items()}
    if kind is list:
        return [quick(item) for item in value]
    return value


class Timestamp(core.Timestamp):  # type: ignore[misc]  # (the library has no types)
    """A datetime that remembers how precise its Ion text was, such as ``2021-02T`` or ``.124``.

    Equal to the datetime of the same moment. Unlike the library's class it can be copied and
    sent to another process.
    """

    __slots__ = ()

    def __reduce_ex__(self, protocol: object) -> tuple[object, ...]:
        """Rebuild from the parts, so that the precision survives."""
        return timestamp, (
            *(self.year, self.month, self.day, self.hour, self.minute, self.second),
            *(self.microsecond, self.tzinfo, int(self.precision), self.fractional_precision),
        )


Value: TypeAlias = Any
"""What Ion holds here: None, bool, int, float, Decimal, datetime, text, bytes, list, dict.

The type checker sees Any: a document of this recursive type would need a cast at each step.
"""


def timestamp(*parts: Value) -> Timestamp:
    """A timestamp of its parts, the last two of which tell how precise it is."""
    *moment, precision, fraction = parts
    return Timestamp(
        *moment, precision=core.TimestampPrecision(precision), fractional_precision=fraction
    )


def repeated(offset: int | None) -> IonError:
    """The error that a struct has a field twice."""
    return IonError("ion/repeated-field", "a struct has two fields of one name", offset=offset)


def damaged(what: str, offset: int) -> IonError:
    """The error that the bytes at an offset are not as Ion has them."""
    return IonError("ion/malformed", what, offset=offset)


def too_large() -> IonError:
    """The error that the bytes are more than the library can count."""
    return IonError("ion/too-large", f"one piece of Ion is limited to {MAX_BYTES:,} bytes")


def too_deep() -> IonError:
    """The error that the nesting is deeper than the library can follow."""
    return IonError("ion/too-deep", f"lists and structs nest deeper than {MAX_DEPTH} levels")


def unsupported(reason: str) -> IonError:
    """The error that a value is none that is written."""
    return IonError("ion/unsupported-value", reason)


def refused(what: str) -> IonError:
    """The error that Ion has something that is not read."""
    return IonError("ion/unsupported-type", f"Ion that this format does not use: {what}")
