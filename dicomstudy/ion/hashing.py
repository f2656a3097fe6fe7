"""The Ion Hash of a value (spec/ion.md)."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

from dicomstudy.ion.binary import BINARY_MARK, extent
from dicomstudy.ion.checks import BLOBS, check, no_place_for
from dicomstudy.ion.library import LIBRARY_ERRORS, encode, translated
from dicomstudy.ion.values import (
    Symbol,
    Text,
    Timestamp,
    Value,
    unsupported,
)

__all__ = ["blob_hash_hex", "ion_hash", "ion_hash_hex"]

_MEMO_SIZE: Final = 16_384
_MEMO_LENGTH: Final = 256


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
    except LIBRARY_ERRORS as error:
        raise translated(error, "ion/unsupported-value", "no Ion Hash") from error


def ion_hash_hex(value: Value) -> str:
    """The Ion Hash as 64 lower-case hexadecimal digits, the name of a group."""
    return ion_hash(value).hex()


def blob_hash_hex(pieces: Iterable[bytes]) -> str:
    """`ion_hash_hex` of the blob whose bytes these are together, with bounded memory."""
    digest = hashlib.sha256(b"\x0b\xa0")
    for piece in pieces:
        digest.update(_escape(piece))
    digest.update(b"\x0e")
    return digest.hexdigest()


_NAN: Final = b"\x7f\xf8\0\0\0\0\0\0"


class _Hasher:
    """The Ion Hash over one digest function, remembering digests of short scalar fields."""

    __slots__ = ("_digest", "_field")

    def __init__(self, digest: Callable[[bytes], bytes]) -> None:
        self._digest = digest
        self._field = lru_cache(maxsize=_MEMO_SIZE)(self._digest_of_field)

    def digest(self, value: Value) -> bytes:
        return self._digest(self._serialize(value))

    def _digest_of_field(self, name: str, value: Value, kind: type) -> bytes:  # noqa: ARG002 (see below)
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
    if kind in BLOBS:
        return b"\x0b\xa0" + _escape(value) + b"\x0e"
    if kind is bool:
        return b"\x0b\x11\x0e" if value else b"\x0b\x10\x0e"
    if kind is Symbol:
        return b"\x0b\x70" + _escape(value.encode()) + b"\x0e"
    if kind is float:
        number = _NAN if value != value else struct.pack(">d", value)  # noqa: PLR0124 (NaN)
        return b"\x0b\x40" + (_escape(number) if any(number) else b"") + b"\x0e"
    if kind is Decimal:
        return b"\x0b\x50" + _escape(_representation(value)) + b"\x0e"
    if kind is datetime or kind is Timestamp:
        return b"\x0b\x60" + _escape(_representation(value)) + b"\x0e"
    raise unsupported(no_place_for([[value]]))


def _representation(value: Decimal | datetime) -> bytes:
    check(value)
    data = encode(value)
    start, stop = extent(data, len(BINARY_MARK))
    return data[start:stop]


@lru_cache(maxsize=4096)
def _serialized_name(name: str) -> bytes:
    if not isinstance(name, str):
        raise unsupported(f"a field name must be str, not {name!r}")
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
