"""Values of documents ↔ cells of typed columns (spec/tables.md).

The law: ``back(to_cell(v)) == v``, or `Cell.exact` is False and the caller keeps `v` beside
the cell. A value that is not of its type gives an empty cell, never an error.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable
from datetime import date, datetime, time
from enum import Enum
from typing import Any, NamedTuple

from dicomstudy.elements import NUMBER_FORMATS
from dicomstudy.values import swap

__all__ = ["INT64", "NAME_GROUPS", "NAME_PARTS", "NOTHING", "CellKind", "Cells", "kind_of"]

_DATE = re.compile(r"(\d{4})(\.?)(\d\d)\2(\d\d)", re.ASCII)
_TIME = re.compile(r"(\d\d)(?:(:?)(\d\d)(?:\2(\d\d)(?:\.(\d{1,6}))?)?)?", re.ASCII)
_DATETIME = re.compile(r"(\d{4,14})(?:\.(\d{1,6}))?(?:([+-])(\d\d)([0-5]\d))?", re.ASCII)
_AGE = re.compile(r"(\d{3})([DWMY])", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d{1,19}", re.ASCII)
_DECIMAL = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_DAYS_A_YEAR = 365.25
_YEARS = {"D": 1 / _DAYS_A_YEAR, "W": 7 / _DAYS_A_YEAR, "M": 1 / 12, "Y": 1.0}
INT64 = range(-(1 << 63), 1 << 63)
#: Minutes that local time may be from UTC (PS3.5 section 6.2).
_OFFSETS = range(-12 * 60, 14 * 60 + 1)
_TAG_SIZE = 4
NAME_GROUPS = ("alphabetic", "ideographic", "phonetic")
NAME_PARTS = ("family", "given", "middle", "prefix", "suffix")


class CellKind(Enum):
    """What a typed column holds, by VR; those of numbers have the name of theirs."""

    TEXT = "text"
    NAME = "person name"
    DATE = "date"
    TIME = "time"
    DATETIME = "date and time"
    AGE = "age"
    INTEGER = "integer"
    DECIMAL = "decimal"
    US = "US"
    UL = "UL"
    UV = "UV"
    SS = "SS"
    SL = "SL"
    SV = "SV"
    FL = "FL"
    FD = "FD"
    BINARY = "bytes"
    ITEMS = "items"


_KINDS = {
    **dict.fromkeys("AE AT CS LO LT SH ST UC UI UR UT".split(), CellKind.TEXT),
    "PN": CellKind.NAME,
    "DA": CellKind.DATE,
    "TM": CellKind.TIME,
    "DT": CellKind.DATETIME,
    "AS": CellKind.AGE,
    "IS": CellKind.INTEGER,
    "DS": CellKind.DECIMAL,
    "SQ": CellKind.ITEMS,
    **{vr: CellKind[vr] for vr in NUMBER_FORMATS},
}


_FLOATS = frozenset((CellKind.FL, CellKind.FD))


def kind_of(vr: str) -> CellKind:
    """What a column of attributes of this VR holds; several VRs and unknown ones are bytes."""
    return _KINDS.get(vr, CellKind.BINARY)


class Cell(NamedTuple):
    """A cell of a typed column; None if the value has no such type.

    `exact`: the value comes back from it. `offset` is that of a date and time, in minutes.
    """

    value: Any
    exact: bool
    offset: Any = None


#: That of a value of another type.
NOTHING = Cell(None, exact=False)


class Cells:
    """Makes cells of one kind, and values of them again; several values each, if `many`.

    `written`: the documents have a blob, of values of this VR.
    """

    def __init__(self, kind: CellKind, *, many: bool, written: str = "") -> None:
        self.kind = kind
        self.many = many
        self.written = written
        self._read, self._write = _TEXTS.get(kind, _TEXTS[CellKind.TEXT])
        self._number = (
            struct.Struct("<" + NUMBER_FORMATS[kind.name]) if kind.name in NUMBER_FORMATS else None
        )

    def cell(self, value: Any) -> Cell:
        """The cell of a value that is neither null, nor items, nor a reference."""
        if type(value) is str:
            return self._of_text(value) if self.kind in _TEXTS else NOTHING
        if self.kind is CellKind.BINARY:
            return Cell(value, exact=True) if type(value) is bytes and not self.many else NOTHING
        return NOTHING if self._number is None else self._of_number(value, self._number)

    def text_of(self, value: Any) -> str | None:
        """The text that a value is, or that its blob has; None if that would not come back."""
        if not self.written:
            return value if type(value) is str else None
        if self._number is not None or type(value) is not bytes:
            return None
        if self.written == "AT":
            if not value or len(value) % _TAG_SIZE:
                return None
            return swap(value, 2).hex("\\", _TAG_SIZE).upper()
        if not value.isascii():
            return None
        text = value.decode("ascii").rstrip(" \0")
        return text if self.of_text(text) == value else None

    def of_text(self, text: str) -> str | bytes:
        """The value that has a text. Mirror of `text_of`."""
        if not self.written:
            return text
        if self.written == "AT":
            return swap(bytes.fromhex(text.replace("\\", "")), 2)
        padding = "\0" if self.written == "UI" else " "
        return (text + padding * (len(text) % 2)).encode("ascii", "replace")

    def _of_text(self, value: str) -> Cell:
        if self.kind is CellKind.TEXT:
            return Cell(value.split("\\") if self.many else value, exact=True)
        parts = value.split("\\") if self.many else [value]
        found = [self._read(part) for part in parts]
        if found.count(None) == len(found) and any(parts):
            return NOTHING
        if self.kind is CellKind.DATETIME:
            moments = [None if each is None else each[0] for each in found]
            offsets = [None if each is None else each[1] for each in found]
            cell: Any = moments if self.many else moments[0]
            offset: Any = offsets if self.many else offsets[0]
            if offsets.count(None) == len(offsets):
                offset = None
        else:
            cell, offset = found if self.many else found[0], None
        return Cell(cell, cell is not None and self.value(cell, offset) == value, offset)

    def _of_number(self, value: Any, number: struct.Struct) -> Cell:
        if type(value) is bytes:
            least = 0 if self.written else number.size
            if not self.many or len(value) % number.size or len(value) <= least:
                return NOTHING
            numbers = list(struct.unpack(f"<{len(value) // number.size}{number.format[1:]}", value))
            return Cell(numbers, exact=self.value(numbers) == value)  # a NaN may have other bits
        if self.written or type(value) is not (float if self.kind in _FLOATS else int):
            return NOTHING
        try:
            (again,) = number.unpack(number.pack(value))
        except (struct.error, OverflowError):
            return NOTHING
        if again != value and not math.isnan(value):
            return NOTHING
        return Cell([value] if self.many else value, exact=True)

    def value(self, cell: Any, offset: Any = None) -> Any:
        """The value of the document that gave a cell. Mirror of `cell`."""
        if self._number is not None:
            if not self.many:
                return cell
            if len(cell) == 1 and not self.written:
                return cell[0]
            return struct.pack(f"<{len(cell)}{self._number.format[1:]}", *cell)
        if self.kind is CellKind.BINARY:
            return cell
        cells = cell if self.many else [cell]
        if self.kind is CellKind.DATETIME:
            offsets = offset if self.many and offset is not None else [offset] * len(cells)
            cells = [
                None if each is None else (each, minutes)
                for each, minutes in zip(cells, offsets, strict=True)
            ]
        return "\\".join("" if each is None else self._write(each) for each in cells)


def _same(text: str) -> str:
    return text


def _read_name(text: str) -> dict[str, str | None] | None:
    groups = text.split("=")
    if len(groups) > len(NAME_GROUPS):
        return None
    parts = groups[0].split("^")
    name: dict[str, str | None] = dict.fromkeys((*NAME_GROUPS, *NAME_PARTS))
    name |= {field: group or None for field, group in zip(NAME_GROUPS, groups, strict=False)}
    name |= {field: part or None for field, part in zip(NAME_PARTS, parts, strict=False)}
    return name


def _write_name(name: dict[str, str | None]) -> str:
    return "=".join(name[field] or "" for field in NAME_GROUPS).rstrip("=")


def _read_date(text: str) -> date | None:
    found = _DATE.fullmatch(text.strip(" "))
    if found is None:
        return None
    try:
        return date(int(found[1]), int(found[3]), int(found[4]))
    except ValueError:
        return None


def _write_date(day: date) -> str:
    return f"{day.year:04}{day.month:02}{day.day:02}"


def _read_time(text: str) -> time | None:
    found = _TIME.fullmatch(text.strip(" "))
    if found is None:
        return None
    hour, _, minute, second, fraction = found.groups(default="")
    try:
        return time(
            int(hour), int(minute or 0), int(second or 0), int((fraction or "0").ljust(6, "0"))
        )
    except ValueError:
        return None


def _write_time(moment: time | datetime) -> str:
    text = f"{moment.hour:02}{moment.minute:02}{moment.second:02}"
    return text + f".{moment.microsecond:06}".rstrip("0") if moment.microsecond else text


def _read_datetime(text: str) -> tuple[datetime, int | None] | None:
    found = _DATETIME.fullmatch(text.strip(" "))
    if found is None or len(found[1]) % 2 or (found[2] and len(found[1]) != 14):
        return None
    digits, fraction, sign, hours, minutes = found.groups()
    year, rest = digits[:4], digits[4:] + "0101000000"[len(digits) - 4 :]
    month, day, hour, minute, second = (int(rest[at : at + 2]) for at in range(0, 10, 2))
    micro = int((fraction or "0").ljust(6, "0"))
    try:
        moment = datetime(int(year), month, day, hour, minute, second, micro)  # noqa: DTZ001 (as written)
    except ValueError:
        return None
    if sign is None:
        return moment, None
    offset = int(f"{sign}1") * (int(hours) * 60 + int(minutes))
    return (moment, offset) if offset in _OFFSETS else None


def _write_datetime(moment_and_offset: tuple[datetime, int | None]) -> str:
    moment, offset = moment_and_offset
    text = _write_date(moment) + _write_time(moment)
    if offset is None:
        return text
    hours, minutes = divmod(abs(offset), 60)
    return f"{text}{'-' if offset < 0 else '+'}{hours:02}{minutes:02}"


def _read_age(text: str) -> float | None:
    found = _AGE.fullmatch(text.strip(" "))
    return None if found is None else int(found[1]) * _YEARS[found[2]]


def _write_age(years: float) -> str:
    return f"{int(years):03}Y" if years == int(years) else ""


def _read_integer(text: str) -> int | None:
    stripped = text.strip(" ")
    if _INTEGER.fullmatch(stripped) is None:
        return None
    number = int(stripped)
    return number if number in INT64 else None


def _read_decimal(text: str) -> float | None:
    stripped = text.strip(" ")
    if _DECIMAL.fullmatch(stripped) is None:
        return None
    number = float(stripped)
    return number if math.isfinite(number) else None


def _write_decimal(number: float) -> str:
    return repr(number).removesuffix(".0")


#: How text is read into one cell, and written again.
_TEXTS: dict[CellKind, tuple[Callable[[str], Any], Callable[[Any], str]]] = {
    CellKind.TEXT: (_same, _same),
    CellKind.NAME: (_read_name, _write_name),
    CellKind.DATE: (_read_date, _write_date),
    CellKind.TIME: (_read_time, _write_time),
    CellKind.DATETIME: (_read_datetime, _write_datetime),
    CellKind.AGE: (_read_age, _write_age),
    CellKind.INTEGER: (_read_integer, str),
    CellKind.DECIMAL: (_read_decimal, _write_decimal),
}
