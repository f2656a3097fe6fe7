"""The catalog: which files are the tables, and of which schema (spec/tables.md).

The law: ``read(write(catalog)) == catalog``. To read it costs the same whatever the rows are.
"""

from __future__ import annotations

import base64
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from dicomstudy.definitions import Definitions
from dicomstudy.disk import ABSENT, mark_of, write_atomically
from dicomstudy.errors import TableError
from dicomstudy.tables.fields import PART_TABLES
from dicomstudy.tables.parquet import File

__all__ = [
    "FORMAT",
    "INCOMING",
    "LOCK",
    "NAME",
    "Catalog",
    "Part",
    "Table",
    "check_path",
    "mark",
    "path_of",
    "read",
    "write",
]

NAME = "catalog.json"
#: The folder of what a run has not finished, and the file that the run that writes locks.
INCOMING, LOCK = "incoming", "lock"
FORMAT = "dicomstudy tables"
VERSION = 1


@dataclass(slots=True)
class Part:
    """A range of studies: its first and last one, its instances, its file of each table."""

    first: str
    last: str
    instances: int
    files: dict[str, int]


@dataclass(slots=True)
class Table:
    """A table: its files by number, and its schema as an Arrow IPC message."""

    message: bytes
    files: dict[int, File] = field(default_factory=dict)

    @classmethod
    def of(cls, schema: pa.Schema) -> Table:
        """A table without files."""
        return cls(schema.serialize().to_pybytes())

    @property
    def schema(self) -> pa.Schema:
        """The schema; decoded each time it is asked for.

        Raises:
            TableError: it is no schema (``tables/damaged``).
        """
        try:
            return pa.ipc.read_schema(pa.py_buffer(self.message))
        except (pa.ArrowException, OSError) as error:
            raise TableError("tables/damaged", f"a schema cannot be read: {error}") from error

    @property
    def rows(self) -> int:
        """The number of rows."""
        return sum(file.rows for file in self.files.values())


@dataclass(slots=True)
class Catalog:
    """All tables of a folder.

    Attributes:
        archive: the folder of the archive that they were made of.
        next: the number of the next file.
        is_unfinished: the first run that makes them has not ended; there are none yet.
    """

    archive: str
    next: int = 0
    parts: list[Part] = field(default_factory=list)
    tables: dict[str, Table] = field(default_factory=dict)
    is_unfinished: bool = False

    def paths(self, folder: Path) -> Iterator[Path]:
        """The paths of all files."""
        for name, table in self.tables.items():
            for number in table.files:
                yield path_of(folder, name, number)

    def paths_of(self, folder: Path, table: str) -> list[Path]:
        """The paths of the files of a table, in the order of its rows: that of the parts."""
        of_parts = [part.files[table] for part in self.parts if table in part.files]
        return [path_of(folder, table, number) for number in of_parts or self.tables[table].files]

    def has_files(self, folder: Path) -> bool:
        """Whether all files are there in their sizes.

        Raises:
            TableError: the system does not say so (``tables/unreadable``).
        """
        try:
            return all(
                path_of(folder, name, file.number).stat().st_size == file.size
                for name, table in self.tables.items()
                for file in table.files.values()
            )
        except ABSENT:
            return False
        except OSError as error:
            raise TableError(
                "tables/unreadable",
                f"a file of the tables cannot be looked at: {error.strerror or error}",
                source=error.filename or str(folder),
            ) from error


def path_of(folder: Path, table: str, number: int) -> Path:
    """Where a file of a table is."""
    return folder / table / f"{number:06}.parquet"


def mark(folder: Path) -> int | None:
    """What tells the catalog of a folder from those before; None if the system does not say."""
    try:
        return mark_of((folder / NAME).stat())
    except OSError:
        return None


def check_path(folder: Path) -> None:
    """Do nothing if readers of Parquet files can name those of a folder.

    Raises:
        TableError: its path is not UTF-8 (``tables/path``).
    """
    try:
        os.path.realpath(folder).encode()
    except UnicodeEncodeError:
        raise TableError(
            "tables/path",
            "the path of a folder of tables has to be UTF-8: name another",
            source=str(folder),
        ) from None


def write(catalog: Catalog, folder: Path, definitions: Definitions) -> None:
    """Replace the catalog of a folder, at once. Mirror of `read`."""
    value = {
        "format": FORMAT,
        "version": VERSION,
        "definitions": {"version": definitions.version, "sha256": definitions.digest},
        "archive": catalog.archive,
        "next": catalog.next,
        **({"unfinished": True} if catalog.is_unfinished else {}),
        "parts": [
            {"first": p.first, "last": p.last, "instances": p.instances, "files": p.files}
            for p in catalog.parts
        ],
        "tables": {
            name: {
                "schema": base64.b64encode(table.message).decode("ascii"),
                "files": [file._asdict() for file in table.files.values()],
            }
            for name, table in catalog.tables.items()
        },
    }
    data = json.dumps(value, indent=0).encode()  # in ASCII: paths may be no UTF-8
    write_atomically(folder / NAME, [data], within=folder / INCOMING)


def read(folder: Path, definitions: Definitions, *, unfinished: bool = False) -> Catalog:
    """The catalog of a folder. Mirror of `write`.

    Args:
        folder: that of the tables.
        definitions: those of this program.
        unfinished: whether it may be that of a first run that has not ended.

    Raises:
        TableError: there is none (``tables/not-tables``), or it is that of a first run that has
            not ended and may not be; it is of an unknown version
            (``tables/unknown-version``), of other definitions (``tables/definitions``), or damaged,
            or the system refuses to read it (``tables/unreadable``); or as `check_path`.
    """
    check_path(folder)
    path = folder / NAME
    try:
        if path.exists() and not path.is_file():  # nobody waits for a pipe
            raise _damaged(path, "it is no file")
        value = json.loads(path.read_bytes())
    except ABSENT:
        is_there = os.path.exists(folder)  # noqa: PTH110 (what may not be looked into is none)
        message = "there are no tables in this folder" if is_there else "there is no such folder"
        raise TableError("tables/not-tables", message, source=str(folder)) from None
    except OSError as error:
        raise TableError(
            "tables/unreadable",
            f"the catalog cannot be read: {error.strerror or error}",
            source=str(path),
        ) from error
    except (RecursionError, ValueError) as error:
        raise _damaged(path, f"{error!r}") from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise TableError("tables/not-tables", "this is not the catalog of tables", source=str(path))
    if value.get("version") != VERSION:
        raise TableError(
            "tables/unknown-version",
            f"version {value.get('version')} of the tables is unknown to this program",
            source=str(path),
        )
    try:
        _check_definitions(value["definitions"], definitions, path)
        catalog = _catalog(value)
        is_consistent = _is_consistent(catalog, {*PART_TABLES, *definitions.groups})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _damaged(path, f"{error!r}") from error
    if not is_consistent:
        raise _damaged(path, "it contradicts itself")
    if catalog.is_unfinished and not unfinished:
        message = "there are no tables in this folder yet: the first run for them has not ended"
        raise TableError("tables/not-tables", message, source=str(folder))
    return catalog


def _damaged(path: Path, why: str) -> TableError:
    return TableError("tables/damaged", f"the catalog cannot be read: {why}", source=str(path))


def _check_definitions(found: Mapping[str, Any], known: Definitions, path: Path) -> None:
    if (found["version"], found["sha256"]) != (known.version, known.digest):
        raise TableError(
            "tables/definitions",
            f"the tables were made by definitions version {found['version']}, which are not those "
            f"of version {known.version} here",
            source=str(path),
        )


def _catalog(value: Mapping[str, Any]) -> Catalog:
    tables = {
        name: Table(
            base64.b64decode(table["schema"], validate=True),
            {file["number"]: File(**file) for file in table["files"]},
        )
        for name, table in value["tables"].items()
    }
    parts = [Part(**part) for part in value["parts"]]
    is_unfinished = value.get("unfinished") is True
    return Catalog(value["archive"], value["next"], parts, tables, is_unfinished)


def _is_consistent(catalog: Catalog, names: AbstractSet[str]) -> bool:
    """Whether all values are of their types, and parts are in order and share out their files.

    Args:
        catalog: what was read.
        names: of all tables that there may be.
    """
    counts = [catalog.next, *(part.instances for part in catalog.parts)]
    for table in catalog.tables.values():
        counts += [number for file in table.files.values() for number in file]
    uids = [uid for part in catalog.parts for uid in (part.first, part.last)]
    of_parts = Counter(file for part in catalog.parts for file in part.files.items())
    there = Counter(
        (name, number)
        for name in PART_TABLES
        if name in catalog.tables
        for number in catalog.tables[name].files
    )
    return (
        all(type(text) is str for text in (catalog.archive, *uids))
        and all(type(count) is int and count >= 0 for count in counts)
        and catalog.tables.keys() <= names
        and all(
            number < catalog.next for table in catalog.tables.values() for number in table.files
        )
        and of_parts == there
        and uids == sorted(uids)
    )
