"""Files of tables, which appear all at once with the catalog that names them (spec/tables.md)."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path

import pyarrow as pa

from dicomstudy.definitions import Definitions
from dicomstudy.disk import sync
from dicomstudy.tables import catalog as catalog_
from dicomstudy.tables.catalog import Catalog, Part, Table, path_of
from dicomstudy.tables.columns import Columns
from dicomstudy.tables.fields import INSTANCES, PART_TABLES, STUDY_UID
from dicomstudy.tables.parquet import File, Spool, interleaved, read, write

__all__ = ["Writer"]


class Writer:
    """Writes files, which appear all at once with the catalog that names them.

    Args:
        folder: that of the tables.
        columns: those of all tables.
        catalog: what the folder has after `commit`.
    """

    def __init__(self, folder: Path, columns: Columns, catalog: Catalog) -> None:
        self._folder = folder
        self._incoming = folder / catalog_.INCOMING
        self._columns = columns
        self._catalog = catalog
        self._schemas: dict[tuple[str, int], pa.Schema] = {}
        self._written: dict[tuple[str, int], Path] = {}
        self.bytes_out = 0

    def clear(self, old: Catalog) -> None:
        """Remove what runs have left that were killed."""
        shutil.rmtree(self._incoming, ignore_errors=True)
        self._incoming.mkdir()
        known = set(old.paths(self._folder))
        for table in {*PART_TABLES, *self._columns.definitions.groups}:
            folder = self._folder / table
            if folder.is_symlink():
                continue
            for path in folder.glob("*.parquet"):
                if path not in known and path.stem.isdecimal():
                    path.unlink()

    def spool(self, table: str) -> Spool:
        """A new spool for the rows of a table."""
        return Spool(table, self._columns, self._incoming)

    def keep(self, part: Part, old: Catalog) -> None:
        """Take over a part as it is."""
        self._catalog.parts.append(part)
        for name, number in part.files.items():
            self.keep_file(name, old.tables[name].files[number])

    def keep_file(self, table: str, file: File) -> None:
        """Take over a file as it is."""
        self._table(table).files[file.number] = file

    def write_part(
        self,
        uids: Sequence[str],
        old: Mapping[str, Iterable[pa.Table]],
        new: Mapping[str, Spool],
    ) -> None:
        """Write the rows of a part, if there are any.

        Args:
            uids: its studies.
            old: rows by table, in the order of studies.
            new: likewise, of other studies.
        """
        files: dict[str, File] = {}
        for name, spool in new.items():
            schema = self._columns.schema(name)
            rows = filter(len, interleaved(old[name], spool.tables(), STUDY_UID, schema))
            for first in rows:
                files[name] = self.write(name, chain((first,), rows))
        if files:
            instances = files[INSTANCES].rows if INSTANCES in files else 0
            numbers = {name: file.number for name, file in files.items()}
            self._catalog.parts.append(Part(uids[0], uids[-1], instances, numbers))

    def write(self, table: str, rows: Iterable[pa.Table]) -> File:
        """Write a file."""
        number = self._catalog.next
        self._catalog.next += 1
        path = self._incoming / f"{table}.{number}.parquet"
        schema = self._columns.schema(table)
        file = File(number, *write(path, schema, rows))
        pa.default_memory_pool().release_unused()
        self._schemas[table, number] = schema
        self._written[table, number] = path
        self._table(table).files[number] = file
        self.bytes_out += file.size
        return file

    def _table(self, name: str) -> Table:
        table = self._catalog.tables.get(name)
        if table is None:
            table = self._catalog.tables[name] = Table(b"")
        return table

    def conform(self, old: Catalog) -> None:
        """Write the files anew that lack columns which their table has got since."""
        for name, table in self._catalog.tables.items():
            schema = self._columns.schema(name)
            before = old.tables[name].schema if name in old.tables else schema
            for number in list(table.files):
                found = self._schemas.get((name, number), before)
                if not found.equals(schema, check_metadata=True):
                    path = self._written.pop((name, number), None)
                    where = path or path_of(self._folder, name, number)
                    again = self.write(name, read(where, name, found)).number
                    del table.files[number]
                    for part in self._catalog.parts:
                        if part.files.get(name) == number:
                            part.files = {**part.files, name: again}
            table.files = dict(sorted(table.files.items()))
            table.message = Table.of(schema).message

    def commit(self, definitions: Definitions, old: Catalog) -> None:
        """Put all files in their places, then the catalog; then remove those of the old one."""
        folders = {self._folder / table for table, _ in self._written}
        for folder in folders:
            folder.mkdir(exist_ok=True)
        for (table, number), path in self._written.items():
            sync(path)
            path.rename(path_of(self._folder, table, number))
        for folder in folders:
            sync(folder)
        catalog_.write(self._catalog, self._folder, definitions)
        kept = set(self._catalog.paths(self._folder))
        for path in set(old.paths(self._folder)) - kept:
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                path.parent.rmdir()
