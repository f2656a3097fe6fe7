"""What a question gave, for Arrow, pandas, polars, a person or a file."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import os
from collections.abc import Iterator
from datetime import date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from dicomstudy.disk import replacing
from dicomstudy.errors import TableError
from dicomstudy.printable import escape, escape_json
from dicomstudy.tables.answers import place_for_answer

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

__all__ = ["Result"]

_SEPARATOR = "  "
#: A cell of a text table is cut behind so many characters.
_WIDTH = 64
#: Rows that a result is shown by.
_SHOWN = 20


class Result:
    """Rows that a question gave.

    As text, CSV and JSON, a date or time outside of the years 1 to 9999, such as infinity, is an
    error (`TableError`, ``tables/query``); Arrow and Parquet have it.
    """

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __len__(self) -> int:
        return len(self._table)

    def __repr__(self) -> str:
        first = Result(self._table.slice(0, _SHOWN))
        try:
            text = "".join(first.to_text()).rstrip("\n")
        except TableError:  # there is a value that Python has not
            text = " ".join(map(escape, self._table.column_names))
        return text if len(first) == len(self) else f"{text}\n… {len(self)} rows"

    def to_arrow(self) -> pa.Table:
        """The rows as a pyarrow table."""
        return self._table

    def to_pandas(self) -> pd.DataFrame:
        """The rows as a pandas frame: dates as datetime64, repeating labels as categorical.

        A column of integers some of which are null has a nullable type, such as ``Int64``: floats
        do not have all integers.

        Raises:
            TableError: pandas is not installed (``tables/no-extra``).
        """
        try:
            frame = self._table.to_pandas(date_as_object=False)
        except ImportError as error:
            raise TableError("tables/no-extra", "this needs pandas: pip install pandas") from error
        for at, column in enumerate(self._table.columns):
            if pa.types.is_integer(column.type) and column.null_count:
                frame.isetitem(at, column.to_pandas(types_mapper=_nullable))
        return frame

    def to_polars(self) -> pl.DataFrame:
        """The rows as a polars frame.

        Raises:
            TableError: polars is not installed (``tables/no-extra``).
        """
        try:
            import polars as pl  # noqa: PLC0415 (not needed otherwise)
        except ImportError as error:
            raise TableError("tables/no-extra", "this needs polars: pip install polars") from error
        return pl.DataFrame(self._table)

    def to_text(self) -> Iterator[str]:
        r"""Lines to read, the names of columns first; long cells are cut, names are alphabetic.

        No value begins a line or moves a cursor: what could is escaped, as ``\n``.
        """
        head = tuple(map(escape, self._table.column_names))
        rows = [tuple(map(_shown, row, self._table.schema.types)) for row in self._rows()]
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        numeric = [_is_number(kind) for kind in self._table.schema.types]
        for row in (head, *rows):
            cells = (
                cell.rjust(width) if right else cell.ljust(width)
                for cell, width, right in zip(row, widths, numeric, strict=True)
            )
            yield _SEPARATOR.join(cells).rstrip() + "\n"

    def to_csv(self) -> Iterator[str]:
        """Lines of CSV (RFC 4180), the names of columns first; lists and structs are JSON."""
        buffer = io.StringIO()
        writer = csv.writer(buffer)
        writer.writerow(self._table.column_names)
        for row in self._rows():
            writer.writerow(map(_cell, row, self._table.schema.types))
            if buffer.tell() > 1 << 16:
                yield buffer.getvalue()
                buffer.seek(0)
                buffer.truncate()
        yield buffer.getvalue()

    def to_json(self) -> Iterator[str]:
        """A JSON list with an object for each row; bytes are base64, dates and times ISO 8601.

        Numbers that JSON lacks are the texts ``nan``, ``inf`` and ``-inf``, those with a fixed
        number of decimal places too; maps are objects, intervals ISO 8601 durations. Characters
        that cannot be printed are escaped.
        """
        schema = self._table.schema
        before = "[\n"
        for row in self._rows():
            value = dict(zip(schema.names, map(_plain, row, schema.types), strict=True))
            yield before + escape_json(json.dumps(value, ensure_ascii=False))
            before = ",\n"
        yield "\n]\n" if before == ",\n" else "[]\n"

    def write_parquet(self, path: str | os.PathLike[str]) -> None:
        """Write the rows to a Parquet file; one that is there already is replaced.

        Raises:
            TableError: it cannot be written, or would stand in a folder of tables or in the place
                of another file (``tables/unwritable``).
            ArchiveError: it would stand in an archive (``archive/inside``), or `path` is none
                (``archive/no-path``).
        """
        place = place_for_answer(path, text=False)
        folder = place.resolve().parent
        if not folder.is_dir():
            message = f"there is no folder {folder}"
            raise TableError("tables/unwritable", message, source=str(path))
        try:
            with replacing(place) as file:
                pq.write_table(self._table, file, compression="zstd")
        except (pa.ArrowException, OSError) as error:
            # not all of an error of the system, which names the file that was to become this one
            why = (error.strerror if isinstance(error, OSError) else None) or error
            message = f"the file cannot be written: {why}"
            raise TableError("tables/unwritable", message, source=str(path)) from error

    def _rows(self) -> Iterator[tuple[Any, ...]]:
        for batch in self._table.to_batches(max_chunksize=1 << 12):
            columns = map(_values, batch.columns, batch.schema.names)
            yield from zip(*columns, strict=True)


def _nullable(kind: pa.DataType) -> Any:
    """The type of pandas for integers of which some are null."""
    from pandas.api.types import pandas_dtype  # noqa: PLC0415 (not needed otherwise)

    return pandas_dtype(f"{'Int' if pa.types.is_signed_integer(kind) else 'UInt'}{kind.bit_width}")


def _values(column: pa.Array[Any], name: str) -> list[Any]:
    """The values of a column in Python, which has no dates but of the years 1 to 9999."""
    try:
        return column.to_pylist()
    except (OverflowError, ValueError) as error:
        message = f"a value of {name!r} is no {column.type} of Python's: ask for it as VARCHAR"
        raise TableError("tables/query", message) from error


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def _plain(value: Any, kind: pa.DataType) -> Any:
    """A value that JSON has."""
    if isinstance(value, dict) and pa.types.is_struct(kind):
        return {field.name: _plain(value[field.name], field.type) for field in kind}
    if isinstance(value, list) and pa.types.is_map(kind):
        pairs = ((_cell(key, kind.key_type), each) for key, each in value)
        return {str(key): _plain(each, kind.item_type) for key, each in pairs}
    if isinstance(value, list) and (pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)):
        return [_plain(inner, kind.value_type) for inner in value]
    return _simple(value)


def _simple(value: Any) -> str | int | float | bool | None:
    """A value without others in it, as JSON has it."""
    match value:
        case None | str() | bool() | int():
            return value
        case float() if math.isfinite(value):
            return value
        case bytes():
            return base64.b64encode(value).decode("ascii")
        case datetime() | date() | time():
            return value.isoformat()
        case Decimal() if value.as_tuple().exponent == 0:
            return int(value)
        case pa.MonthDayNano():
            return _duration(value)
        case _:
            return str(value)


def _duration(interval: pa.MonthDayNano) -> str:
    """An ISO 8601 duration, of which each part may be negative: ``P14M``, ``P-1DT0.5S``."""
    months, days, nanoseconds = interval
    seconds = Decimal(nanoseconds).scaleb(-9).normalize()
    parts = ((months, f"{months}M"), (days, f"{days}D"), (seconds, f"T{seconds:f}S"))
    return "P" + ("".join(text for number, text in parts if number) or "T0S")


def _cell(value: Any, kind: pa.DataType) -> Any:
    plain = _plain(value, kind)
    return json.dumps(plain, ensure_ascii=False) if isinstance(plain, dict | list) else plain


def _shown(value: Any, kind: pa.DataType) -> str:
    if isinstance(value, dict) and "alphabetic" in value:
        value, kind = value["alphabetic"], pa.string()
    plain = _plain(value, kind)
    if isinstance(plain, list) and not any(isinstance(item, dict | list) for item in plain):
        text = ", ".join("" if item is None else str(item) for item in plain)
    elif isinstance(plain, dict | list):
        text = json.dumps(plain, ensure_ascii=False)
    else:
        text = "" if plain is None else str(plain)
    text = escape(text)
    return text if len(text) <= _WIDTH else text[: _WIDTH - 3] + "..."
