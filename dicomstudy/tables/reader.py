"""Tables, opened for questions (spec/tables.md)."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import pyarrow as pa

from dicomstudy import definitions as definitions_
from dicomstudy.errors import DefinitionsError, Problem, TableError
from dicomstudy.folder import Folder, path_named
from dicomstudy.progress import Progress
from dicomstudy.tables import catalog as catalog_
from dicomstudy.tables.export import export_tables
from dicomstudy.tables.fields import PART_TABLES
from dicomstudy.tables.parquet import check_schema, open_file, reading
from dicomstudy.tables.rebuilding import Rebuilder
from dicomstudy.tables.result import Result
from dicomstudy.tables.sql import Database, no_column, quoted
from dicomstudy.unfinished import TemporaryFolder

if TYPE_CHECKING:
    import pyarrow.compute as pc
    import pyarrow.dataset as ds

__all__ = ["ColumnFacts", "Table", "Tables", "open_tables", "tables_of"]


class ColumnFacts(NamedTuple):
    """What is known of a column.

    `tag`, `vr`, `name` and `group` are those of its attribute, empty for columns of this format.
    `group` is also empty where the attribute stays with its instance.
    """

    table: str
    column: str
    type: str
    tag: str
    vr: str
    name: str
    group: str


def _type(kind: pa.DataType) -> str:
    """An Arrow type in a few words; what is in a struct is left out."""
    if pa.types.is_list(kind):
        return f"list<{_type(kind.value_type)}>"
    if pa.types.is_struct(kind):
        return "struct"
    return "categorical" if pa.types.is_dictionary(kind) else str(kind)


class Table:
    """One table; made by `Tables`.

    Attributes:
        name: its name.
        files: its Parquet files, in the order of its rows.
    """

    def __init__(
        self,
        name: str,
        files: Iterable[Path],
        entry: catalog_.Table,
        asking: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.name = name
        self.files = [*files]
        self._entry = entry
        self._asking = asking

    def __len__(self) -> int:
        return self._entry.rows

    def __repr__(self) -> str:
        return f"Table({self.name!r}, {len(self)} rows)"

    @cached_property
    def schema(self) -> pa.Schema:
        """Its columns. The metadata of a field says which attribute it is of."""
        return self._entry.schema

    @cached_property
    def dataset(self) -> ds.Dataset:
        """The pyarrow data set. Reading it may raise what pyarrow raises."""
        import pyarrow.dataset as ds  # noqa: PLC0415 (SQL does without)
        from pyarrow.fs import LocalFileSystem  # noqa: PLC0415 (it takes long to import)

        return ds.FileSystemDataset.from_paths(
            [str(path) for path in self.files],
            schema=self.schema,
            format=ds.ParquetFileFormat(),
            filesystem=LocalFileSystem(),
        )

    def to_table(
        self,
        columns: Iterable[str] | None = None,
        filter: pc.Expression | None = None,  # noqa: A002 (as pyarrow names it)
    ) -> pa.Table:
        """The rows, or some of them.

        Args:
            columns: names of columns; all if None.
            filter: a condition, such as ``pyarrow.compute.field("Modality") == "CT"``.

        Raises:
            TableError: there is no such column (``tables/no-column``), the condition is none
                for these columns (``tables/query``), or a file is damaged; or as `Tables.sql`.
        """
        names = None if columns is None else _listed(columns)
        for name in names or ():
            if name not in self.schema.names:
                raise no_column(name, self.schema.names, f"the table {self.name}")
        with self._asking():
            return self._read(names, filter)

    def _read(self, names: list[str] | None, condition: pc.Expression | None) -> pa.Table:
        for path, fragment in zip(self.files, self.dataset.get_fragments(), strict=True):
            with reading(path, self.name):
                found = fragment.physical_schema
            check_schema(found, path, self.name, self.schema)
        try:
            return self.dataset.to_table(columns=names, filter=condition)
        except (pa.ArrowException, OSError) as error:
            self.check()
            raise TableError(
                "tables/query", f"the table {self.name} cannot be asked so: {error}"
            ) from error

    def check(self, *, rows: bool = True) -> None:
        """Open every file, and read all of it if `rows`.

        Raises:
            TableError: one is missing, damaged or of other columns.
        """
        for path in self.files:
            with open_file(path, self.name, self.schema) as file, reading(path, self.name):
                for at in range(file.num_row_groups if rows else 0):
                    file.read_row_group(at).validate(full=True)


class Tables(Mapping[str, Table]):
    """The tables of an archive by their names; `open_tables` gives them.

    They can be pickled: other processes open them anew, as they are there and then, without
    `problems`.

    Args:
        path: their folder.
        problems: documents that were left out, if the tables were made only now.
        at_close: called when they are closed, once or more often.

    Attributes:
        path, problems: as given.
    """

    def __init__(
        self,
        path: Path,
        *,
        problems: Iterable[Problem] = (),
        at_close: Callable[[], object] = lambda: None,
    ) -> None:
        self.path = path
        self._folder = path.resolve()
        self.problems = list(problems)
        self._definitions = definitions_.load()
        self._mark = catalog_.mark(self._folder)
        self._catalog = catalog_.read(self._folder, self._definitions)
        self._tables: dict[str, Table] = {}
        self._database: Database | None = None
        self._at_close = at_close
        self._process = os.getpid()
        self._own_lock = threading.RLock()
        self._asked = 0
        self._closed = False

    def __getitem__(self, name: str) -> Table:
        table = self._tables.get(name)
        if table is None:
            found = self._catalog.tables[name]
            files = self._catalog.paths_of(self._folder, name)
            table = self._tables[name] = Table(name, files, found, self._asking)
        return table

    def __iter__(self) -> Iterator[str]:
        return iter(self._catalog.tables)

    def __len__(self) -> int:
        return len(self._catalog.tables)

    __hash__ = object.__hash__
    __eq__ = object.__eq__

    def __repr__(self) -> str:
        return f"Tables({str(self.path)!r}, {len(self)} tables)"

    def __reduce__(self) -> tuple[object, ...]:
        """How they are opened anew, by pickle."""
        return open_tables, (self._folder,)

    def columns(self) -> Iterator[ColumnFacts]:
        """Every column of every table."""
        for name, table in self.items():
            for field in table.schema:
                metadata = field.metadata or {}
                tag, vr, title = (
                    metadata.get(part, b"").decode() for part in (b"tag", b"vr", b"name")
                )
                group = name
                if name in PART_TABLES:
                    group = self._group(int(tag, 16)) if tag else ""
                yield ColumnFacts(name, field.name, _type(field.type), tag, vr, title, group)

    def _group(self, tag: int) -> str:
        try:
            return self._definitions.group(self._definitions.keyword(tag))
        except DefinitionsError:
            return ""

    def sql(self, query: str) -> Result:
        """What a query in DuckDB's SQL gives.

        Every table is a view of its name; the view `metadata` has, for each instance, all
        attributes in whatever group they are. Nothing can be written, and no other file read.

        Raises:
            TableError: DuckDB is not installed (``tables/no-extra``), the query is none that
                only reads (``tables/read-only``), it is wrong (``tables/query``), names an
                unknown column (``tables/no-column``) or table (``tables/no-table``), or a file
                is damaged; the tables were changed since they were opened (``tables/changed``),
                or are closed (``tables/closed``).
        """
        with self._asking():
            return self._opened_database().execute(query)

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        """Say of files that are gone because of a newer catalog, or of `close`, that it is so."""
        with self._lock:
            if self._closed:
                raise self._no_longer_open()
            self._asked += 1
        try:
            self._check_replaced()
            yield
        except TableError as error:
            if self._closed:
                raise self._no_longer_open() from error
            if error.code in {"tables/damaged", "tables/schema"} and self._is_changed():
                raise self._changed() from error
            raise
        finally:
            with self._lock:
                self._asked -= 1
            self._let_go()

    @property
    def _lock(self) -> threading.RLock:
        """What one thread holds, but for handlers of signals in it.

        In a process that was forked, no other thread holds it, none asks, and DuckDB answers
        nothing.
        """
        if self._process != os.getpid():
            self._process = os.getpid()
            self._own_lock = threading.RLock()
            self._asked = 0
            self._database = None
        return self._own_lock

    def _no_longer_open(self) -> TableError:
        return TableError("tables/closed", "the tables are closed", source=str(self.path))

    def _changed(self) -> TableError:
        message = "the tables were changed since they were opened: open them again"
        return TableError("tables/changed", message, source=str(self.path))

    def _check_replaced(self) -> None:
        """Refuse files of other tables that have the names of these: of a folder made anew."""
        mark = catalog_.mark(self._folder)
        if mark not in {None, self._mark}:
            if not self._catalog.has_files(self._folder):
                raise self._changed()
            self._mark = mark

    def _is_changed(self) -> bool:
        try:
            return catalog_.read(self._folder, self._definitions) != self._catalog
        except TableError as error:
            return error.code == "tables/not-tables"  # there are none any more, or not yet

    def _opened_database(self) -> Database:
        with self._lock:
            if self._database is None:
                names = (*PART_TABLES, *self._definitions.groups)
                self._database = Database(self, names)
            return self._database

    def select(self, columns: Iterable[str], *, where: str | None = None) -> pa.Table:
        """Attributes of instances, in whatever groups they are: a row for each instance.

        It asks the view `metadata`, and needs DuckDB as `sql` does.

        Args:
            columns: names of columns of that view, as tables have them.
            where: a condition in SQL on columns of that view.

        Raises:
            TableError: as `sql`.
        """
        wanted = _listed(columns)
        with self._asking():
            renamed = self._opened_database().renamed
        names = ", ".join(quoted(renamed.get(name, name)) for name in wanted)
        condition = f" WHERE ({where}\n)" if where else ""
        found = self.sql(f"SELECT {names} FROM metadata{condition}").to_arrow()  # noqa: S608 (only reads)
        own = {shown: name for name, shown in renamed.items()}
        return found.rename_columns([own.get(name, name) for name in found.column_names])

    def to_archive(
        self,
        destination: str | os.PathLike[str],
        *,
        bulk: str | os.PathLike[str] | None = None,
        progress: Progress | None = None,
    ) -> int:
        """Write the archive again that the tables were made of; returns its number of studies.

        Quarantined files are not in tables, and so not in the new archive. What was written before
        an error stays, and is an archive of some of the studies: remove it, and run again.

        Args:
            destination: a folder that is empty or not there.
            bulk: the archive that has the bulk files, if it is no longer where it was.
            progress: is told how far it has come.

        Raises:
            TableError: the tables are damaged, or a group is not what its digest says; or the
                tables were changed or closed, as in `sql`.
            BulkError: a bulk file is missing or too short.
            ArchiveError: `destination` has something in it, or cannot be written; or `bulk` is
                no archive.
        """
        target = path_named(destination)
        source = Path(self._catalog.archive) if bulk is None else path_named(bulk)
        # one that may not be looked into is none: it is missed if a large value in it is needed
        has_archive = bulk is not None or os.path.isdir(source)  # noqa: PTH112 (so in all versions)
        rebuilder = Rebuilder(self._folder, self._catalog, self._definitions)
        bulk_folder = Folder(source) if has_archive else None
        with self._asking():
            return rebuilder.write(target, bulk_folder, progress)

    def close(self) -> None:
        """Let go of files. Nothing can be asked any more.

        What another thread asks just now ends, soon if it is SQL (``tables/closed``); files go
        with the last of that, for which this does not wait.
        """
        with self._lock:
            self._closed = True
            if self._database is not None:
                self._database.interrupt()
        self._let_go()

    def _let_go(self) -> None:
        """Let go of files if they are closed and nobody asks any more."""
        with self._lock:
            if self._asked or not self._closed:
                return
            database, self._database = self._database, None
        try:
            if database is not None:
                database.close()
        finally:
            self._at_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _listed(columns: Iterable[str]) -> list[str]:
    """Names of columns; a text would be taken for one name a letter."""
    if isinstance(columns, str):
        raise TableError("tables/query", f"columns are a list of names: [{columns!r}]")
    return list(columns)


def open_tables(path: str | os.PathLike[str]) -> Tables:
    """The tables in a folder, for reading. It costs the same for few instances and for many.

    Raises:
        TableError: there are none, or they are damaged or of an unknown version.
        ArchiveError: `path` is none (``archive/no-path``).
    """
    return Tables(path_named(path))


def tables_of(archive: str | os.PathLike[str] | Folder) -> Tables:
    """Tables of an archive as it is now, in a temporary folder that goes when they are closed.

    Raises:
        ArchiveError: there is no such archive.
    """
    folder = TemporaryFolder("tables")
    try:
        exported = export_tables(archive, folder.path)
        return Tables(folder.path, problems=exported.problems, at_close=folder.remove)
    except BaseException:
        folder.remove()
        raise
