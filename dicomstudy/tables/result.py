"""What a question gave, for Arrow, pandas, polars, a person or a file."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
from collections.abc import Iterator
from datetime import date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from dicomstudy.errors import TableError

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

__all__ = ["Result"]

_SEPARATOR = "  "
#: A cell of a text table is cut behind so many characters.
_WIDTH = 64


class Result:
    """Rows that a question gave."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __len__(self) -> int:
        return len(self._table)

    def __repr__(self) -> str:
        return "".join(self.to_text()).rstrip("\n")

    def to_arrow(self) -> pa.Table:
        """The rows as a pyarrow table."""
        return self._table

    def to_pandas(self) -> pd.DataFrame:
        """The rows as a pandas frame: dates as datetime64, repeating labels as categorical.

        Raises:
            TableError: pandas is not installed (``tables/no-extra``).
        """
        try:
            return self._table.to_pandas(date_as_object=False)
        except ImportError as error:
            raise TableError("tables/no-extra", "this needs pandas: pip install pandas") from error

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
        """Lines to read, the names of columns first; long cells are cut, names are alphabetic."""
        head = tuple(self._table.column_names)
        rows = [tuple(_shown(value) for value in row) for row in self._rows()]
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        numeric = [
            pa.types.is_integer(f.type) or pa.types.is_floating(f.type) for f in self._table.schema
        ]
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
            writer.writerow(_cell(value) for value in row)
            if buffer.tell() > 1 << 16:
                yield buffer.getvalue()
                buffer.seek(0)
                buffer.truncate()
        yield buffer.getvalue()

    def to_json(self) -> Iterator[str]:
        """A JSON list with an object for each row; bytes are base64, dates and times ISO 8601.

        Numbers that JSON lacks are the texts ``nan``, ``inf`` and ``-inf``.
        """
        names = self._table.column_names
        before = "[\n"
        for row in self._rows():
            value = dict(zip(names, map(_plain, row), strict=True))
            yield before + json.dumps(value, ensure_ascii=False)
            before = ",\n"
        yield "\n]\n" if before == ",\n" else "[]\n"

    def write_parquet(self, path: Path) -> None:
        """Write the rows to a Parquet file.

        Raises:
            TableError: it cannot be written (``tables/unwritable``).
        """
        try:
            pq.write_table(self._table, path, compression="zstd")
        except (pa.ArrowException, OSError) as error:
            raise TableError(
                "tables/unwritable", f"the file cannot be written: {error}", source=str(path)
            ) from error

    def _rows(self) -> Iterator[tuple[Any, ...]]:
        for batch in self._table.to_batches(max_chunksize=1 << 12):
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _plain(value: Any) -> Any:
    """A value that JSON has."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _cell(value: Any) -> Any:
    plain = _plain(value)
    return json.dumps(plain, ensure_ascii=False) if isinstance(plain, dict | list) else plain


def _shown(value: Any) -> str:
    if isinstance(value, dict) and "alphabetic" in value:
        value = value["alphabetic"]
    if isinstance(value, list) and not any(isinstance(item, dict | list) for item in value):
        text = ", ".join(map(_shown, value))
    else:
        cell = _cell(value)
        text = "" if cell is None else str(cell)
    return text if len(text) <= _WIDTH else text[: _WIDTH - 3] + "..."
