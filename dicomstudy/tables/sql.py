"""Questions to tables in SQL, by DuckDB (spec/tables.md): its sole user.

DuckDB is an extra, and is imported when the first question is asked.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import re
import weakref
from _thread import LockType
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cached_property, partial
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from dicomstudy.beside import aside
from dicomstudy.errors import TableError
from dicomstudy.tables.columns import LABEL
from dicomstudy.tables.fields import COUNT, DIGEST, INSTANCES, VRS, digest_columns
from dicomstudy.tables.questions import METADATA, is_reading, parsed
from dicomstudy.tables.result import Result
from dicomstudy.unfinished import TemporaryFolder

if TYPE_CHECKING:
    import duckdb

__all__ = ["Database", "TableFiles", "no_column", "quoted"]

_UNKNOWN_COLUMN = re.compile(
    r'(?:Referenced column "|does not have a column named "|column named ")([^"]+)"'
)
_UNKNOWN_TABLE = re.compile(
    r'(?:Table with name|Referenced table) "?(.+?)"? (?:does not|not found)'
)
#: What means something else than itself in a pattern.
_PATTERN = re.compile(r"[*?\[]")
#: Seconds until a question that waits for another looks whether it is interrupted.
_AGAIN = 0.1
#: The schema of all views that are not temporary.
_MAIN = "main"
_LEFT_OUT = frozenset((DIGEST, COUNT, VRS, "large", "empty", "exact"))


#: All that this process has made.
_DATABASES: weakref.WeakSet[Database] = weakref.WeakSet()


def _let_stay() -> None:
    """Let no database come to an end in a process that was forked."""
    for database in _DATABASES:
        database.stay()


os.register_at_fork(after_in_child=_let_stay)


class TableFiles(Protocol):
    """A table as a database sees it."""

    @property
    def files(self) -> Sequence[Path]:
        """Its Parquet files, in the order of its rows."""

    @property
    def schema(self) -> pa.Schema:
        """Its columns."""

    def check(self, *, rows: bool = True) -> None:
        """Raise a `TableError` if a file is damaged; do not read its rows unless `rows`."""


class Database:
    """The tables as views in DuckDB. Nothing can be written, and no other file read.

    Views are made when a query names them, so that opening does not depend on their number.
    Several threads may ask at once. In a process that is forked it answers nothing, and must not
    come to an end, as DuckDB's threads are not there: so it stays.

    Args:
        tables: those that have rows.
        names: of all tables that there may be.

    Raises:
        TableError: DuckDB is not installed (``tables/no-extra``).
    """

    def __init__(self, tables: Mapping[str, TableFiles], names: Iterable[str]) -> None:
        self._tables = tables
        self._without_rows = {name.lower() for name in (*names, METADATA) if name not in tables}
        if INSTANCES in tables:
            self._without_rows.discard(METADATA)
        self._by_name = {name.lower(): name for name in tables}
        self._made: set[str] = set()
        self._making, self._in_main = Lock(), Lock()
        self._is_over = False
        # Questions too large for memory go through it; it is the one folder that DuckDB allows.
        self._spill = TemporaryFolder("sql")
        self._duckdb, self._connection = aside(self._connect)
        _DATABASES.add(self)

    def _connect(self) -> tuple[ModuleType, duckdb.DuckDBPyConnection]:
        try:
            import duckdb  # noqa: PLC0415 (an extra)
        except ImportError as error:
            raise TableError(
                "tables/no-extra",
                "SQL needs DuckDB: pip install 'dicomstudy[sql]'",
            ) from error
        config: dict[str, str | bool | int | float | list[str]] = {
            "python_enable_replacements": False,  # no variable of the caller is a table
            "autoload_known_extensions": False,
            "autoinstall_known_extensions": False,
        }
        connection = duckdb.connect(":memory:", config=config)
        files = [str(path) for table in self._tables.values() for path in table.files]
        connection.execute("SET parquet_metadata_cache = true")
        connection.execute("SET temp_directory = ?", [str(self._spill.path)])
        patterns = [_pattern(path) for path in files]
        connection.execute("SET allowed_paths = ?", [sorted({*files, *patterns})])
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        return duckdb, connection

    def execute(self, query: str) -> Result:
        """What a query gives.

        Raises:
            TableError: as `Tables.sql`.
        """
        with self._connection.cursor() as cursor:
            question = _Question(query, cursor)
            try:
                return aside(
                    partial(self._answer, question), question.interrupt, lambda: self._is_over
                )
            except self._duckdb.InterruptException as error:
                raise _interrupted() from error

    def interrupt(self) -> None:
        """Let questions that are asked from now on, or just now, end soon (``tables/query``)."""
        self._is_over = True

    def _answer(self, asked: _Question) -> Result:
        query, cursor = asked.query, asked.cursor
        self._check(query)
        ((tree,),) = cursor.execute("SELECT json_serialize_sql(?)", [query]).fetchall()
        if not is_reading(query, tree):
            raise _read_only()
        question = parsed(tree, self._by_name)
        words = {METADATA, _MAIN, *self._by_name} if question.words is None else question.words
        named = {self._by_name[word] for word in words & self._by_name.keys()}
        definition = ""
        if METADATA in words and INSTANCES in self._tables:
            definition, joined = self._metadata(None if question.every_column else words)
            named |= joined
        try:
            found = self._found(asked, named, definition, in_main=_MAIN in words)
        except self._duckdb.InterruptException:
            raise
        except (self._duckdb.Error, RuntimeError) as error:  # (that if what it says is no UTF-8)
            raise self._translated(error, named, METADATA in words) from error
        except pa.ArrowException as error:
            raise TableError("tables/query", f"Arrow cannot hold the answer: {error}") from error
        return Result(_with_labels(_tidied(found), self._labels(named)))

    @cached_property
    def renamed(self) -> dict[str, str]:
        """The columns that have other names in SQL than in their tables, with these names."""
        return _renamed(name for table in self._tables.values() for name in table.schema.names)

    def stay(self) -> None:
        """Never come to an end, as in a process that was forked."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._connection))

    def close(self) -> None:
        """Close the database."""
        try:
            self._connection.close()
        finally:
            self._spill.remove()

    def _check(self, query: str) -> None:
        try:
            query.encode()
            statements = self._duckdb.extract_statements(query)
        except UnicodeEncodeError:
            raise TableError("tables/query", "the query is not UTF-8") from None
        except self._duckdb.Error as error:
            raise TableError("tables/query", str(error)) from error
        kinds = [statement.type for statement in statements]
        if kinds != [self._duckdb.StatementType.SELECT]:
            raise _read_only()

    def _found(
        self, asked: _Question, named: set[str], definition: str, *, in_main: bool
    ) -> pa.Table:
        """The answer, with the views of some tables, and the one of all with this definition.

        That is of this question alone, others being asked at once of other columns: a temporary
        view, or, if it may be asked for by its schema, one that no other question has meanwhile.
        """
        cursor = asked.cursor
        with self._making:
            for name in sorted(named - self._made):
                self._make_view(name, cursor)
        kind = "OR REPLACE" if in_main else "TEMP"
        with asked.alone(self._in_main) if definition and in_main else contextlib.nullcontext():
            if definition:
                cursor.execute(f"CREATE {kind} VIEW {METADATA} AS {definition}")
            found: pa.Table = cursor.sql(asked.query).to_arrow_table()
            return found

    def _make_view(self, table: str, cursor: duckdb.DuckDBPyConnection) -> None:
        try:
            cursor.execute(f"CREATE VIEW {quoted(table)} AS {self._view(table)}")
        except (self._duckdb.Error, RuntimeError) as error:
            if type(error) not in {self._duckdb.Error, RuntimeError}:  # it says what is wrong
                raise
            self._tables[table].check(rows=False)
            message = f"a file of the table {table} cannot be read: {str(error).splitlines()[0]}"
            source = str(self._tables[table].files[0])
            raise TableError("tables/damaged", message, source=source) from error
        self._made.add(table)

    def _view(self, table: str) -> str:
        """The definition of the view of a table."""
        files = ", ".join(_text(_pattern(str(path))) for path in self._tables[table].files)
        source = f"read_parquet([{files}], hive_partitioning = false)"
        schema = self._tables[table].schema
        places = [f"c{at}" for at in range(len(schema))]
        values = [_value(*pair) for pair in zip(places, schema.types, strict=True)]
        if values == places and self.renamed.keys().isdisjoint(schema.names):
            return f"SELECT * FROM {source}"  # noqa: S608 (quoted)
        columns = ", ".join(
            f"{value} AS {quoted(name)}"
            for value, name in zip(values, self._names(table), strict=True)
        )
        return f"SELECT {columns} FROM {source} AS t({', '.join(places)})"  # noqa: S608 (quoted)

    def _names(self, table: str) -> list[str]:
        """The names of the columns of a table in SQL."""
        return [self.renamed.get(name, name) for name in self._tables[table].schema.names]

    def _metadata(self, words: Collection[str] | None) -> tuple[str, set[str]]:
        """The definition of the view with the columns that are named, and its tables."""
        columns = []
        joined: set[str] = set()
        for lower, (name, tables) in self._sources.items():
            if words is None or lower in words:
                columns.append(f"{_merged(name, tables)} AS {quoted(name)}")
                joined.update(tables)
        joined.add(INSTANCES)
        joins = [
            f" LEFT JOIN {quoted(group)} ON {quoted(INSTANCES)}.{quoted(column)} = "
            f"{quoted(group)}.{DIGEST}"
            for column, group in self._digests().items()
            if group in joined
        ]
        chosen = ", ".join(columns) or "1 AS instance"
        return f"SELECT {chosen} FROM {quoted(INSTANCES)}{''.join(joins)}", joined  # noqa: S608 (quoted)

    def _digests(self) -> dict[str, str]:
        columns = digest_columns(self._tables[INSTANCES].schema.names)
        return {column: group for column, group in columns.items() if group in self._tables}

    @cached_property
    def _sources(self) -> dict[str, tuple[str, list[str]]]:
        """The columns of the view by their names in lower case, with the tables that have them."""
        columns: dict[str, tuple[str, list[str]]] = {}
        # Those of the format, not of an attribute, are the instance's alone.
        schema = self._tables[INSTANCES].schema
        own = {field.name for field in schema if b"key" not in (field.metadata or {})}
        for table in (INSTANCES, *self._digests().values()):
            for name in self._names(table):
                if name in _LEFT_OUT or (table != INSTANCES and name in own):
                    continue
                columns.setdefault(name.lower(), (name, []))[1].append(table)
        return columns

    def _labels(self, named: set[str]) -> set[str]:
        """The columns of tables that are categorical in pandas."""
        return {
            self.renamed.get(field.name, field.name)
            for name in named
            for field in self._tables[name].schema
            if field.type == LABEL
        }

    def _translated(self, error: Exception, named: set[str], has_metadata: bool) -> TableError:
        """What DuckDB says, as an error of these tables.

        Names are unknown to its binder and its catalog; what others say may quote any value.
        """
        message = str(error).strip()
        binding = (self._duckdb.BinderException, self._duckdb.CatalogException)
        of_names = message if isinstance(error, binding) else ""
        unknown = _UNKNOWN_TABLE.search(of_names)
        if unknown is not None:
            if unknown[1].lower() in self._without_rows:
                why = ", as there are no rows for it"
            else:
                views = {METADATA} - self._without_rows
                why = _nearest(unknown[1], [*self._tables, *views])
            return TableError("tables/no-table", f"there is no table {unknown[1]!r}{why}")
        unknown = _UNKNOWN_COLUMN.search(of_names)
        for name in named:
            self._tables[name].check(rows=unknown is None)
        if unknown is None:
            return TableError("tables/query", message)
        names = {name for table in named for name in self._names(table)}
        if has_metadata and INSTANCES in self._tables:
            names = {name for name, _ in self._sources.values()}
        return no_column(unknown[1], names, "these tables")


class _Question:
    """A query that is asked, and where."""

    def __init__(self, query: str, cursor: duckdb.DuckDBPyConnection) -> None:
        self.query = query
        self.cursor = cursor
        self._is_interrupted = False

    def interrupt(self) -> None:
        """Let it end soon. Before it has begun DuckDB takes no notice: to be said again."""
        self._is_interrupted = True
        self.cursor.interrupt()

    @contextlib.contextmanager
    def alone(self, lock: LockType) -> Iterator[None]:
        """Hold a lock, unless it is interrupted before it has that."""
        while not lock.acquire(timeout=_AGAIN):
            if self._is_interrupted:
                raise _interrupted()
        try:
            yield
        finally:
            lock.release()


def _interrupted() -> TableError:
    return TableError("tables/query", "the question was interrupted")


def _read_only() -> TableError:
    return TableError(
        "tables/read-only", "a query is one SELECT: tables are read here, and nothing else"
    )


def no_column(name: str, names: Iterable[str], where: str) -> TableError:
    """The error that there is no such column, with those that are near."""
    return TableError(
        "tables/no-column", f"there is no column {name!r} in {where}{_nearest(name, names)}"
    )


def _nearest(name: str, names: Iterable[str]) -> str:
    by_lower = {each.lower(): each for each in names}
    near = [by_lower[each] for each in get_close_matches(name.lower(), by_lower, cutoff=0.5)]
    return f": is it {' or '.join(near)}?" if near else ""


def quoted(name: str) -> str:
    """An identifier in SQL."""
    return '"' + name.replace('"', '""') + '"'


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _pattern(path: str) -> str:
    """A path that DuckDB, which takes it for a pattern, finds that very file by."""
    return _PATTERN.sub(r"[\g<0>]", path)


def _renamed(names: Iterable[str]) -> dict[str, str]:
    """The names that differ from others in case only, each with one that SQL tells from them.

    That depends on nothing but the name, so that it means the same when others come or go.
    """
    alike: dict[str, set[str]] = {}
    for name in names:
        alike.setdefault(name.lower(), set()).add(name)
    return {
        name: f"{name}~{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        for same in alike.values()
        if len(same) > 1
        for name in same
    }


def _value(value: str, kind: pa.DataType) -> str:
    """A value of an Arrow type in SQL, with the fields of items renamed that need it."""
    if not pa.types.is_list(kind) or not pa.types.is_struct(kind.value_type):
        return value
    names = [field.name for field in kind.value_type]
    renamed = _renamed(names)
    plain = [f"struct_extract_at(item, {at})" for at in range(1, len(names) + 1)]
    fields = [_value(each, field.type) for each, field in zip(plain, kind.value_type, strict=True)]
    if fields == plain and not renamed:
        return value
    struct = ", ".join(
        f"{quoted(renamed.get(name, name))} := {field}"
        for name, field in zip(names, fields, strict=True)
    )
    return f"[struct_pack({struct}) for item in {value}]"


def _merged(name: str, tables: Sequence[str]) -> str:
    """The column of whichever table has it."""
    found = [f"{quoted(table)}.{quoted(name)}" for table in tables]
    return found[0] if len(found) == 1 else f"coalesce({', '.join(found)})"


def _tidied(table: pa.Table) -> pa.Table:
    """The table with a name for each column, as DuckDB gives them in subqueries, and int64 sums.

    A sum that is larger than that stays a decimal.
    """
    names: dict[str, None] = {}
    taken = set(table.column_names)
    for name in table.column_names:
        new, number = name, 0
        while new in names or (number and new in taken):
            number += 1
            new = f"{name}_{number}"
        names[new] = None
    table = table.rename_columns([*names])
    for at, field in enumerate(table.schema):
        if pa.types.is_decimal(field.type) and field.type.scale == 0:
            with contextlib.suppress(pa.ArrowInvalid):
                table = table.set_column(at, field.name, table.column(at).cast(pa.int64()))
    return table


def _with_labels(table: pa.Table, labels: set[str]) -> pa.Table:
    """The table with those columns dictionary-encoded that are so in their tables."""
    for at, field in enumerate(table.schema):
        if field.name in labels and field.type == pa.string():
            table = table.set_column(at, pa.field(field.name, LABEL), table.column(at).cast(LABEL))
    return table
