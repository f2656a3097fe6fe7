"""Text Ion. The library's own indented text takes its slow path."""

from __future__ import annotations

import re
from base64 import b64encode
from decimal import Decimal
from functools import lru_cache
from json.encoder import encode_basestring
from math import inf, isfinite, isnan
from typing import Final

from amazon.ion import simpleion

from dicomstudy.errors import IonError
from dicomstudy.ion.checks import BLOBS, CONTAINERS
from dicomstudy.ion.library import encode
from dicomstudy.ion.values import (
    MAX_DEPTH,
    Symbol,
    Text,
    Value,
    damaged,
    refused,
    repeated,
    too_deep,
)

__all__ = [
    "MIN_TEXT_BUFFER",
    "check_text",
    "cut_seconds",
    "with_plain_names",
    "without_repeats",
    "write_text",
]

MIN_TEXT_BUFFER: Final = 4096
# The library loops without end on a symbol such as $9999999999, unless it is quoted.
_SYMBOL_NUMBER: Final = re.compile(rb"\$[0-9]{9}")
# It takes time with the square of the digits of an integer.
_LONG_NUMBER: Final = re.compile(rb"(?<![.\w$])[0-9][0-9A-Fa-f_xXbB]{250}")
# All that begins strings and comments, up to what ends them.
_LONG: Final = rb"'{3}(?:[^'\\]++|\\.|'(?!''))*+"
_SHORT: Final = rb'"(?:[^"\\]++|\\.)*+'
_LINE: Final = rb"//[^\r\n]*+"
_COMMENT: Final = rb"/\*(?:[^*]++|\*(?!/))*+"
# Without an end, they go on to that of the data, so that no byte is read twice.
_QUOTES: Final = (
    _LONG
    + rb"(?:'{3})?|"
    + _SHORT
    + rb"\"?|'(?:[^'\\]++|\\.)*+'?|"
    + _LINE
    + rb"|"
    + _COMMENT
    + rb"(?:\*/)?|\{\{[A-Za-z0-9+/=\s]*+\}\}"
)
_QUOTED: Final = re.compile(_QUOTES, re.DOTALL)
_FINE_SECONDS: Final = re.compile(
    rb"(?P<quoted>" + _QUOTES + rb")|(?P<cut>T(?:[0-9]{2}:){2}[0-9]{2}\.[0-9]{6})[0-9]+", re.DOTALL
)
_GAP: Final = rb"(?:\s|" + _LINE + rb"|" + _COMMENT + rb"\*/)*+"
# Strings with what is between them and a colon, which makes them the name of a field.
_NAMED: Final = re.compile(
    rb"(?:(?P<long>(?:"
    + _LONG
    + rb"'{3}"
    + _GAP
    + rb")++)|(?P<name>"
    + _SHORT
    + rb"\")"
    + _GAP
    + rb")(?P<colon>:)?|"
    + _QUOTES,
    re.DOTALL,
)
_NAMED_OR_MARK: Final = re.compile(_NAMED.pattern + rb"|(?P<mark>[{}\[\],:])", re.DOTALL)
_NOTHING: Final = rb"(?:\\(?:\r\n|\r|\n))*+"
_DOLLAR: Final = _NOTHING + rb"(?:\$|\\x24|\\u0024|\\U00000024)"
_NAME_WITH_DOLLAR: Final = re.compile(rb'"' + _DOLLAR)
_LONG_WITH_DOLLAR: Final = re.compile(
    rb"(?:'{3}" + _NOTHING + rb"'{3}" + _GAP + rb")*+'{3}" + _DOLLAR
)
_ESCAPED_OR_QUOTE: Final = re.compile(rb"\\.|'", re.DOTALL)


def check_text(data: bytes) -> None:
    """Refuse what the library would take for something else, crash or loop on."""
    if b"\0" in data:  # the library takes NUL for white space
        raise IonError("ion/malformed", "neither binary nor text Ion: NUL bytes")
    try:
        data.decode()  # the library crashes on other bytes in a field name
    except UnicodeDecodeError as error:
        raise damaged("neither binary Ion nor UTF-8 text", error.start) from error
    if _SYMBOL_NUMBER.search(data) and _SYMBOL_NUMBER.search(_QUOTED.sub(b"", data)):
        raise IonError("ion/malformed", "a symbol number that no table has")
    if _LONG_NUMBER.search(data) and _LONG_NUMBER.search(_QUOTED.sub(b" ", data)):
        raise refused("a number of more than 250 digits")
    if b"(" in data and b"(" in _QUOTED.sub(b"", data):  # in it, // is no comment
        raise refused("a sexp")


def with_plain_names(data: bytes) -> bytes:
    """The text with names of fields as symbols where the library would take them for numbers.

    It does so, or loops without end, where a string such as ``"$4"`` is a name.

    Raises:
        IonError: such a name is in three quotes (``ion/unsupported-type``), or no colon is behind
            it (``ion/malformed``).
    """
    if not any(dollar in data for dollar in (b"$", b"x24", b"0024")):
        return data
    _check_colons(data)
    return _NAMED.sub(_with_plain_name, data)


def _check_colons(data: bytes) -> None:
    """Refuse a name that the library would take for a number, if no colon is behind it."""
    around: list[bytes] = []
    is_name = False
    for match in _NAMED_OR_MARK.finditer(data):
        mark = match["mark"]
        if mark is None:
            string = match["name"] or match["long"]
            if string is None and match[0][:1] == b"/":
                continue  # a comment
            if is_name and string is not None and match["colon"] is None and _has_dollar(string):
                raise damaged("the name of a field has no colon behind it", match.start())
        elif mark in b"{[":
            around.append(mark)
        elif mark in b"}]" and around:
            around.pop()
        is_name = mark == b"{" or (mark == b"," and around[-1:] == [b"{"])


def _has_dollar(string: bytes) -> bool:
    return bool(_NAME_WITH_DOLLAR.match(string) or _LONG_WITH_DOLLAR.match(string))


def _with_plain_name(match: re.Match[bytes]) -> bytes:
    found: bytes = match[0]
    if match["colon"] is None:
        return found
    name = match["name"]
    if name is None:
        if _LONG_WITH_DOLLAR.match(match["long"]):
            raise refused("the name of a field that begins with $, in three quotes")
        return found
    if not _NAME_WITH_DOLLAR.match(name):
        return found
    symbol = _ESCAPED_OR_QUOTE.sub(lambda each: each[0].rjust(2, b"\\"), name[1:-1])
    return b"'" + symbol + b"'" + found[len(name) :]


def cut_seconds(data: bytes) -> bytes:
    """The text with seconds cut to microseconds, as `cut_fractions` does for binary Ion."""
    return _FINE_SECONDS.sub(lambda match: match["quoted"] or match["cut"], data)


def without_repeats(value: Value, depth: int) -> Value:
    """The value with dicts for the library's multimaps, if no field name occurs twice."""
    kind = type(value)
    if depth > MAX_DEPTH and kind in {list, simpleion.IonPyDict}:
        raise too_deep()
    if kind is list:
        return [without_repeats(item, depth + 1) for item in value]
    if kind is simpleion.IonPyDict and not value.ion_annotations:
        fields = value.items()
        plain = {name: without_repeats(item, depth + 1) for name, item in fields}
        if len(plain) != len(fields):
            raise repeated(None)
        return plain
    return value


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
    if kind in BLOBS:
        return "{{" + b64encode(value).decode() + "}}"
    if kind is Symbol:
        return _symbol_text(value)
    if kind is float:
        return _float_text(value)
    if kind is Decimal:
        number = str(value).replace("E", "d")
        return number if "d" in number or "." in number else number + "d0"
    return encode(value, text=True)


def _float_text(value: float) -> str:
    if isfinite(value):
        number = repr(value)
        return number if "e" in number else number + "e0"
    return "nan" if isnan(value) else "+inf" if value == inf else "-inf"


def write_text(value: Value, newline: str, out: list[str]) -> None:
    """Append the text of a value; `newline` is a line break and the current indentation."""
    kind = type(value)
    if kind not in CONTAINERS:
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
            write_text(item, deeper, out)
            separator = following
    else:
        for item in value:
            out.append(separator)
            write_text(item, deeper, out)
            separator = following
    out.append(newline + closed)
