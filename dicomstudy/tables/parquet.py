"""Rows ↔ Parquet files (spec/tables.md): sole user of `pyarrow.parquet`.

The law: ``read(write(tables))`` has the same rows, with the columns of the schema.
"""

from __future__ import annotations

import contextlib
import errno
import inspect
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dicomstudy.errors import TableError
from dicomstudy.tables.columns import Columns

__all__ = [
    "SPOOL_CELLS",
    "File",
    "InOrder",
    "Spool",
    "as_rows",
    "batches",
    "check_schema",
    "conform",
    "find",
    "interleaved",
    "open_file",
    "read",
    "read_where",
    "reading",
    "texts",
    "write",
]

#: Rows that are Python values at a time.
_AT_ONCE = 1 << 10
#: Rows of a row group.
GROUP_ROWS = 1 << 14
#: Bytes of a row group, about; it has fewer rows where these are large.
GROUP_BYTES = 1 << 26
#: Rows that are copied at once, to be put in order among others.
BATCH_ROWS = 1 << 10
#: Cells that a spool keeps as Python objects at most.
SPOOL_CELLS = 1 << 18
#: Columns in which hardly a value comes twice: a dictionary would be as large as they are.
_UNIQUE = (
    *("SOPInstanceUID", "MediaStorageSOPInstanceUID", "source_sha256", "source_uri", "digest"),
    "large.list.element.sha256",
)
#: Those that rows are looked for by.
_LOOKED_UP = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "digest")
_HAS_BLOOM_FILTERS = "bloom_filter_options" in inspect.signature(pq.ParquetWriter).parameters
_LEVEL = 3


class File(NamedTuple):
    """A Parquet file of a table: its number, rows and size in bytes."""

    number: int
    rows: int
    size: int


@contextlib.contextmanager
def reading(path: Path, table: str) -> Iterator[None]:
    """Turn what pyarrow says of a file into an error.

    Raises:
        TableError: the file is missing, or is no whole Parquet file (``tables/damaged``), or the
            system refuses to read it (``tables/unreadable``).
    """
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        is_refused = isinstance(error, OSError) and error.errno not in {None, errno.ENOENT}
        raise TableError(
            "tables/unreadable" if is_refused else "tables/damaged",
            f"a file of the table {table} cannot be read: {error}",
            source=str(path),
        ) from error


def open_file(path: Path, table: str, schema: pa.Schema) -> pq.ParquetFile:
    """A file of a table.

    Raises:
        TableError: it is damaged, or of another schema (``tables/schema``).
    """
    with reading(path, table):
        file = pq.ParquetFile(path)
        found = file.schema_arrow
        groups = [file.metadata.row_group(at) for at in range(file.num_row_groups)]
    check_schema(found, path, table, schema)
    if any(group.num_rows > GROUP_ROWS for group in groups):  # each is read as a whole
        raise TableError(
            "tables/damaged",
            f"a file of the table {table} has row groups of more than {GROUP_ROWS} rows",
            source=str(path),
        )
    return file


def check_schema(found: pa.Schema, path: Path, table: str, schema: pa.Schema) -> None:
    """Do nothing if the schema of a file is that of its table.

    Raises:
        TableError: it is another (``tables/schema``).
    """
    if not found.equals(schema):
        raise TableError(
            "tables/schema",
            f"a file of the table {table} has other columns than the catalog says",
            source=str(path),
        )


def read(
    path: Path, table: str, schema: pa.Schema, columns: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """The rows of a file, one row group after another.

    Raises:
        TableError: as `open_file`; or the first column, which is a key, has nulls.
    """
    with open_file(path, table, schema) as file:
        for at in range(file.num_row_groups):
            with reading(path, table):
                rows = file.read_row_group(at, columns=None if columns is None else [*columns])
            key = schema.names[0]
            if key in rows.column_names and rows[key].null_count:
                raise TableError(
                    "tables/damaged", f"a row of the table {table} has no {key}", source=str(path)
                )
            yield rows


def read_where(
    path: Path,
    table: str,
    schema: pa.Schema,
    column: str,
    values: pa.StringArray,
    *,
    row_group: int | None = None,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a file that have one of some texts in a column, each with its place there.

    They are as `as_rows` gives them.

    Args:
        path: the file.
        table: the name of the table.
        schema: that of the table.
        column: the name of the column.
        values: the texts.
        row_group: look in this one only, as `find` has found it.

    Raises:
        TableError: as `open_file`.
    """
    end = 0
    with open_file(path, table, schema) as file:
        for at in range(file.num_row_groups):
            start, end = end, end + file.metadata.row_group(at).num_rows
            if row_group not in {None, at}:
                continue
            with reading(path, table):
                found = file.read_row_group(at, columns=[column])[column]
                wanted = pc.indices_nonzero(pc.is_in(found, value_set=values))
                rows = file.read_row_group(at).take(wanted) if len(wanted) else None
            if rows is not None:
                for place, row in zip(wanted, as_rows(rows), strict=True):
                    yield start + place.as_py(), row


def as_rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    """Each row as a mapping of what is in it, without nulls.

    Time goes by what is there: rows of wide tables have hardly anything but nulls.
    """
    for start in range(0, len(table), _AT_ONCE):
        part = table.slice(start, _AT_ONCE)
        rows: list[dict[str, Any]] = [{} for _ in range(len(part))]
        for name, column in zip(part.column_names, part.columns, strict=True):
            if column.null_count == len(rows):
                continue
            places: Sequence[Any] = range(len(rows))
            if column.null_count:
                places = pc.indices_nonzero(column.is_valid()).to_pylist()
            for place, cell in zip(places, _cells(column.drop_null(), name), strict=True):
                rows[place][name] = cell
        yield from rows


def find(
    path: Path, table: str, schema: pa.Schema, column: str, values: pa.StringArray
) -> Iterator[tuple[int, list[str]]]:
    """The row groups of a file that have some of these texts in a column, each with those.

    Raises:
        TableError: as `open_file`.
    """
    with open_file(path, table, schema) as file:
        for at in range(file.num_row_groups):
            with reading(path, table):
                rows = file.read_row_group(at, columns=[column])
                rows = rows.filter(pc.is_in(rows[column], value_set=values))
            if len(rows):
                yield at, texts(rows, column)


def texts(table: pa.Table, column: str) -> list[str]:
    """The texts of a column, without nulls."""
    return [text for text in _cells(table[column], column) if text is not None]


def _cells(column: pa.ChunkedArray[Any], name: str) -> list[Any]:
    """The cells of a column.

    Raises:
        TableError: one cannot be held, as text that is no UTF-8 (``tables/damaged``).
    """
    try:
        cells: list[Any] = column.to_pylist()
    except (pa.ArrowException, OverflowError, ValueError) as error:
        message = f"a cell of the column {name} cannot be read: {error}"
        raise TableError("tables/damaged", message) from error
    return cells


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The rows of a table with the columns of a schema that has all of theirs, and more."""
    if table.schema.equals(schema, check_metadata=True):
        return table
    present = set(table.column_names)
    return pa.table(
        [
            table[field.name].cast(field.type)
            if field.name in present
            else pa.nulls(len(table), field.type)
            for field in schema
        ],
        schema=schema,
    )


def batches(table: pa.Table) -> Iterator[pa.Table]:
    """The rows of a table in tables of so many as are copied at once."""
    return (table.slice(at, BATCH_ROWS) for at in range(0, len(table), BATCH_ROWS))


class InOrder:
    """Rows that are taken from the front.

    Args:
        tables: the rows, in the order of the texts of a column.
        column: the name of the column, which has no nulls.
    """

    def __init__(self, tables: Iterable[pa.Table], column: str) -> None:
        self._tables = chain.from_iterable(map(batches, tables))
        self._column = column
        self._rows = pa.table({column: pa.array([], pa.string())})
        self._texts: list[str] = []

    def texts(self) -> list[str]:
        """The texts of the next rows, so many as are at hand; none if there are no more rows."""
        if not self._texts and (rows := next(self._tables, None)) is not None:
            self._rows, self._texts = rows, texts(rows, self._column)
        return self._texts

    def take(self, last: str) -> pa.Table:
        """Of the rows at hand those up to a text."""
        count = bisect_right(self._texts, last)
        taken = self._rows.slice(0, count)
        self._rows, self._texts = self._rows.slice(count), self._texts[count:]
        return taken

    def take_all(self, last: str | None = None) -> Iterator[pa.Table]:
        """All rows, or those up to a text."""
        while (found := self.texts()) and (last is None or found[0] <= last):
            yield self.take(found[-1] if last is None else last)


def interleaved(
    one: Iterable[pa.Table], other: Iterable[pa.Table], column: str, schema: pa.Schema
) -> Iterator[pa.Table]:
    """The rows of two, in the order of the texts of a column, with the columns of a schema.

    Both are in this order, and have no text in common. Few tables become few, however their rows
    alternate.
    """
    sides = [InOrder(one, column), InOrder(other, column)]
    while all(side.texts() for side in sides):
        last = min(side.texts()[-1] for side in sides)
        yield _sorted((conform(side.take(last), schema) for side in sides), column)
    for side in sides:
        yield from (conform(rows, schema) for rows in side.take_all())


def _sorted(tables: Iterable[pa.Table], column: str) -> pa.Table:
    """The rows of tables, each in the order of the texts of a column, in this order."""
    some = [table for table in tables if len(table)]
    if len(some) == 1:
        return some[0]
    whole = pa.concat_tables(some).unify_dictionaries().combine_chunks()
    return whole.take(pc.sort_indices(whole[column]))


def write(path: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> tuple[int, int]:
    """Write rows to a file, and return their number and its size in bytes."""
    groups = _in_groups(tables, schema)
    first = next(groups, schema.empty_table())
    repeating = [name for name in _leaves(schema) if name not in _UNIQUE]
    options: dict[str, Any] = {"use_dictionary": repeating}
    if _HAS_BLOOM_FILTERS:
        filters = {"ndv": max(len(first), 1), "fpp": 0.01}
        looked_up = [name for name in _LOOKED_UP if name in schema.names]
        options["bloom_filter_options"] = dict.fromkeys(looked_up, filters)
    rows = 0
    with pq.ParquetWriter(
        path, schema, compression="zstd", compression_level=_LEVEL, **options
    ) as writer:
        for table in chain((first,), groups):
            rows += len(table)
            writer.write_table(table, row_group_size=GROUP_ROWS)
    return rows, path.stat().st_size


def _leaves(schema: pa.Schema) -> Iterator[str]:
    """The paths of the columns of a file, in which a list has two steps."""

    def below(path: str, kind: pa.DataType) -> Iterator[str]:
        if pa.types.is_list(kind):
            yield from below(f"{path}.list.element", kind.value_type)
        elif pa.types.is_struct(kind):
            for field in kind:
                yield from below(f"{path}.{field.name}", field.type)
        else:
            yield path

    for field in schema:
        yield from below(field.name, field.type)


def _in_groups(tables: Iterable[pa.Table], schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows of tables in tables of as many as a row group has."""
    waiting: list[pa.Table] = []
    count = size = 0
    for table in tables:
        for at in range(0, len(table), GROUP_ROWS):
            piece = conform(table.slice(at, GROUP_ROWS), schema)
            if waiting and (count + len(piece) > GROUP_ROWS or size + piece.nbytes > GROUP_BYTES):
                yield pa.concat_tables(waiting)
                waiting, count, size = [], 0, 0
            waiting.append(piece)
            count += len(piece)
            size += piece.nbytes
    if waiting:
        yield pa.concat_tables(waiting)


class Spool:
    """Rows of one table that wait for being written, in a few files of Arrow IPC.

    Args:
        table: the name of the table.
        columns: knows its columns, and those that come.
        folder: for the files; each is gone once it was read.
    """

    def __init__(self, table: str, columns: Columns, folder: Path) -> None:
        self.table = table
        self.cells = 0
        self._columns = columns
        self._folder = folder
        self._waiting: list[Mapping[str, Any]] = []
        self._tables: list[pa.Table] = []
        self._count = 0
        self._bytes = 0
        self._files: list[Path] = []

    def add(self, row: Mapping[str, Any], cells: int) -> None:
        """Add a row, of about so many cells."""
        self._columns.meet(self.table, row)
        self._waiting.append(row)
        self.cells += cells
        if self.cells > SPOOL_CELLS or len(self._waiting) >= GROUP_ROWS:
            self._convert()

    def _convert(self) -> None:
        """Turn the rows that wait into Arrow."""
        if not self._waiting:
            return
        waiting, self._waiting, self.cells = self._waiting, [], 0
        columns: dict[str, list[Any]] = defaultdict(lambda: [None] * len(waiting))
        for at, row in enumerate(waiting):
            for name, cell in row.items():
                columns[name][at] = cell
        fields = [f for f in self._columns.schema(self.table) if f.name in columns]
        arrays = [pa.array(columns[field.name], field.type) for field in fields]
        self._keep(pa.table(arrays, schema=pa.schema(fields)))

    def _keep(self, table: pa.Table) -> None:
        self._tables.append(table)
        self._count += len(table)
        self._bytes += table.nbytes
        if self._count >= GROUP_ROWS or self._bytes >= GROUP_BYTES:
            self.spill()

    def spill(self) -> None:
        """Move all rows from memory to a file."""
        self._convert()
        if not self._tables:
            return
        schema = self._columns.schema(self.table)
        whole = pa.concat_tables([conform(table, schema) for table in self._tables])
        whole = whole.unify_dictionaries().combine_chunks()
        path = self._folder / f"{self.table}.{len(self._files)}.arrow"
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        with (
            pa.OSFile(str(path), "wb") as file,
            pa.ipc.new_file(file, schema, options=options) as writer,
        ):
            writer.write_table(whole)
        self._files.append(path)
        self._tables, self._count, self._bytes = [], 0, 0

    def tables(self) -> Iterator[pa.Table]:
        """All rows in the order in which they came; the spool is empty then."""
        self._convert()
        for path in self._files:
            with pa.memory_map(str(path)) as file:
                yield pa.ipc.open_file(file).read_all()
            path.unlink()
        yield from self._tables
        self._files, self._tables, self._count, self._bytes = [], [], 0, 0
