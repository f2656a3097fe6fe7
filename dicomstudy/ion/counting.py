"""How many values Ion has, told before there is any of them in memory."""

from __future__ import annotations

import re
from typing import Final

from dicomstudy.errors import IonError
from dicomstudy.ion.binary import ANNOTATED, BINARY_MARK, LIST, STRUCT, extent
from dicomstudy.ion.values import MAX_DEPTH

__all__ = ["has_more_values"]

_SYMBOL_TABLE: Final = b"\x81\x83"  # one annotation, $ion_symbol_table
# Without an end, text and comments go on to that of the data, so that no byte is read twice.
_TOKEN: Final = re.compile(
    rb"(?P<blob>\{\{[A-Za-z0-9+/=\s]*+\}\})"
    rb"|(?P<comment>//[^\n]*+|/\*(?:[^*]++|\*(?!/))*+(?:\*/)?)"
    rb"|(?P<annotation>::)|(?P<colon>:)"
    rb"|'''(?:[^'\\]++|\\.|'(?!''))*+(?:''')?"
    rb"|\"(?:[^\"\\]++|\\.)*+\"?|'(?:[^'\\]++|\\.)*+'?"
    rb"|[\[{(]|[^\s,:\[\]{}()\"'/]++|/",
    re.DOTALL,
)


def has_more_values(data: bytes, limit: int) -> bool:
    """Whether there are more than `limit` values, lists and structs being values too.

    Symbols of a table are, too. Of what is no Ion, the answer may be either.
    """
    if len(data) <= limit:
        return False
    if data.startswith(BINARY_MARK):
        try:
            return _has_more_binary(data, limit)
        except (IonError, IndexError):  # reading says where
            return False
    return _has_more_text(data, limit)


def _has_more_binary(data: bytes, limit: int) -> bool:
    count, position = 0, 0
    stop, is_struct = len(data), False
    around: list[tuple[int, bool]] = []
    while True:
        while position >= stop:
            if not around:
                return False
            stop, is_struct = around.pop()
        if is_struct:
            while not data[position] & 0x80:
                position += 1
            position += 1
        elif not around and data[position : position + len(BINARY_MARK)] == BINARY_MARK:
            position += len(BINARY_MARK)
            continue
        count += 1
        if count > limit:
            return True
        kind = data[position] >> 4
        start, end = extent(data, position)
        is_table = kind == ANNOTATED and data[start : start + 2] == _SYMBOL_TABLE
        if is_table:
            start += len(_SYMBOL_TABLE)
        if (kind in (LIST, STRUCT) or is_table) and len(around) <= MAX_DEPTH:
            around.append((stop, is_struct))
            position, stop, is_struct = start, end, kind == STRUCT
        else:
            position = end


def _has_more_text(data: bytes, limit: int) -> bool:
    """A name of a field is followed by a colon, which makes up for it."""
    count = 0
    for token in _TOKEN.finditer(data):
        kind = token.lastgroup
        if kind == "colon":
            count -= 1
        elif kind not in {"comment", "annotation"}:
            count += 1
            if count > limit:
                return True
    return False
