"""Tables → the archive that they were made of (spec/tables.md, "Rebuilding")."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from dicomstudy.bulk import BulkFile, BulkReader, Place
from dicomstudy.definitions import Definitions
from dicomstudy.disk import is_there, make_folder, sync, write_atomically, writing
from dicomstudy.document import encode
from dicomstudy.errors import ArchiveError, BulkError, TableError
from dicomstudy.folder import Folder, at_work, locked, make
from dicomstudy.grouping import Group
from dicomstudy.ion import ion_hash_hex
from dicomstudy.progress import Progress, Told
from dicomstudy.study import Study
from dicomstudy.tables.catalog import Catalog, Part, path_of
from dicomstudy.tables.columns import Columns
from dicomstudy.tables.fields import (
    BULK,
    DIGEST,
    INSTANCES,
    PART_TABLES,
    STUDIES,
    STUDY_UID,
    declare,
    digest_columns,
    needed,
)
from dicomstudy.tables.parquet import as_rows, find, read, read_where, texts
from dicomstudy.tables.rows import decode
from dicomstudy.tables.star import StudyRows, rebuild

__all__ = ["Rebuilder"]

_PIECE = 1 << 20
#: Studies are rebuilt together, until they have so many instances, so that groups are read once.
_WINDOW = 1 << 10


class _Holding(NamedTuple):
    """A row group of a table of groups, and the digests in it that a part refers to."""

    name: str
    path: Path
    row_group: int
    digests: frozenset[str]


class Rebuilder:
    """Writes the documents of tables.

    Args:
        folder: that of the tables.
        catalog: which files they are.
        definitions: those of the format.
    """

    def __init__(self, folder: Path, catalog: Catalog, definitions: Definitions) -> None:
        self._folder = folder
        self._catalog = catalog
        self._definitions = definitions
        self._schemas = {name: table.schema for name, table in catalog.tables.items()}
        self._columns = Columns(definitions)
        declare(self._columns, definitions.groups)
        for name, schema in self._schemas.items():
            self._columns.load(name, schema)

    def write(self, destination: Path, bulk: Folder | None, progress: Progress | None) -> int:
        """Write an archive, and return the number of its studies.

        Args:
            destination: a folder that is empty or not there, or an archive without studies.
            bulk: the archive that has the bulk files; None if no study has one.
            progress: is told how far it has come.

        Raises:
            ArchiveError: `destination` has something in it, or cannot be written.
            BulkError: a bulk file is missing, too short, or another than that of the tables.
            TableError: the tables are damaged.
        """
        make(destination)
        archive = Folder(destination)
        if next(archive.documents(), None) is not None:
            raise _has_studies(destination)
        done = 0
        total = self._catalog.tables[STUDIES].rows if STUDIES in self._catalog.tables else 0
        with Told(progress) as said, writing(destination), at_work(destination):
            for part in self._catalog.parts:
                holding = list(self._holding(part))
                for studies in _together(self._studies(part)):
                    groups = self._contents(studies, holding)
                    for rows in studies:
                        self._write_study(archive, rows, groups, bulk)
                        done += 1
                        said("studies", done, total)
                    del studies, groups  # before the next are read
        return done

    def _read(self, part: Part, table: str) -> Iterator[tuple[Path, pa.Table]]:
        if table in part.files:
            path = path_of(self._folder, table, part.files[table])
            for rows in read(path, table, self._schemas[table]):
                yield path, rows

    def _holding(self, part: Part) -> Iterator[_Holding]:
        """What has the groups of a part."""
        wanted: dict[str, set[str]] = {}
        for _, rows in self._read(part, INSTANCES):
            for column, name in digest_columns(rows.column_names).items():
                wanted.setdefault(name, set()).update(texts(rows, column))
        for name, digests in wanted.items():
            table = self._catalog.tables.get(name)
            values = pa.array(sorted(digests), pa.string())
            for number in table.files if table is not None else ():
                path = path_of(self._folder, name, number)
                for row_group, found in find(path, name, self._schemas[name], DIGEST, values):
                    yield _Holding(name, path, row_group, frozenset(found))

    def _contents(
        self, studies: Iterable[StudyRows], holding: Iterable[_Holding]
    ) -> dict[str, Group]:
        """Name and content of the groups of some studies, each proved by its digest."""
        wanted: dict[str, set[str]] = {}
        for rows in studies:
            for _, _, instance in rows.instances:
                for column, name in digest_columns(instance).items():
                    wanted.setdefault(name, set()).add(instance[column])
        contents: dict[str, Group] = {}
        for name, path, row_group, digests in holding:
            values = pa.array(sorted(digests & wanted.get(name, set())), pa.string())
            if not len(values):
                continue
            schema, columns = self._schemas[name], self._columns.of(name)
            for place, cells in read_where(path, name, schema, DIGEST, values, row_group=row_group):
                where = f"{path}, row {place}"
                content = decode(cells, columns, self._definitions, source=where)
                if ion_hash_hex(content) != cells[DIGEST]:
                    raise TableError(
                        "tables/group-digest",
                        f"a group of the table {name} is not what its digest says",
                        source=where,
                    )
                contents[cells[DIGEST]] = name, content
        return contents

    def _studies(self, part: Part) -> Iterator[StudyRows]:
        """The rows of each study of a part."""
        tables = {name: self._by_study(part, name) for name in PART_TABLES}
        studies, bulk = tables[STUDIES], tables[BULK]
        next_bulk = next(bulk, None)
        for uid, instances in tables[INSTANCES]:
            found = next((study for study in studies if study[0] >= uid), None)
            if found is None or found[0] != uid:
                raise TableError(
                    "tables/damaged",
                    f"{STUDIES} does not have the study {uid}, of which there are instances",
                    source=instances[0][0],
                )
            places: list[tuple[str, int, dict[str, Any]]] = []
            if next_bulk is not None and next_bulk[0] == uid:
                places, next_bulk = next_bulk[1], next(bulk, None)
            ((_, _, study),) = found[1]
            yield StudyRows(study, instances, [row for _, _, row in places])

    def _by_study(
        self, part: Part, table: str
    ) -> Iterator[tuple[str, list[tuple[str, int, dict[str, Any]]]]]:
        """The rows of each study in a table, with their files and numbers."""
        numbered = self._numbered(part, table)
        for uid, rows in groupby(numbered, key=lambda each: str(each[2][STUDY_UID])):
            yield uid, list(rows)

    def _numbered(self, part: Part, table: str) -> Iterator[tuple[str, int, dict[str, Any]]]:
        number = 0
        for path, rows in self._read(part, table):
            for row in as_rows(rows):
                yield str(path), number, row
                number += 1

    def _write_study(
        self,
        archive: Folder,
        rows: StudyRows,
        groups: Mapping[str, Group],
        bulk: Folder | None,
    ) -> None:
        uid = rows.study[STUDY_UID]
        length = needed(rows.study, STUDIES, "bulk_length")
        content = rebuild(rows, groups, self._columns.of(INSTANCES), self._definitions)
        path = archive.document_path(uid)
        make_folder(path.parent)
        with locked(path):
            if is_there(path):  # what a document refers to in its bulk file is never changed
                raise _has_studies(archive.path)
            if length:
                number = needed(rows.study, STUDIES, "bulk_file")
                pieces = _bulk(bulk, uid, length, number)
                write_atomically(archive.bulk_path(uid), pieces, within=archive.incoming)
            pieces = encode(uid, content, self._definitions, bulk=BulkFile(length=length))
            made = archive.incoming / path.name
            write_atomically(made, pieces)
            if length:
                self._prove(made, archive.bulk_path(uid))
            made.replace(path)
            sync(path.parent)

    def _prove(self, document: Path, bulk: Path) -> None:
        """Prove the values of a document that has no name yet; without, its bulk file goes.

        Raises:
            BulkError: one is not what its digest says, as in a file of that number of a later time.
        """
        try:
            with Study(document, definitions=self._definitions, bulk=bulk) as study:
                for sha256, length, place in study.places():
                    study.bulk.verify(Place.from_struct(place, length), sha256)
        except BulkError as error:
            bulk.unlink()
            document.unlink()
            if error.code == "bulk/unreadable":  # nobody knows what it is
                raise
            raise BulkError(
                error.code,
                "the bulk file is damaged, or another than when the tables were made; make them "
                f"anew then: {error.message}",
                source=str(bulk),
            ) from error


def _has_studies(archive: Path) -> ArchiveError:
    return ArchiveError(
        "archive/not-empty",
        "the archive has studies, perhaps of a run that did not end: name an empty or new folder",
        source=str(archive),
    )


def _together(studies: Iterable[StudyRows]) -> Iterator[list[StudyRows]]:
    """Studies in lists of about so many instances as are rebuilt together."""
    waiting: list[StudyRows] = []
    count = 0
    for rows in studies:
        waiting.append(rows)
        count += len(rows.instances)
        if count >= _WINDOW:
            yield waiting
            waiting, count = [], 0
    if waiting:
        yield waiting


def _bulk(archive: Folder | None, uid: str, length: int, number: int) -> Iterator[bytes]:
    """The bytes of a bulk file, the one with this number, that belong to its document."""
    path = None if archive is None else archive.bulk_path(uid, number)
    if path is None or not is_there(path):
        raise BulkError(
            "bulk/missing",
            f"the bulk file of study {uid} is not there: name the archive that has it",
            source=None if path is None else str(path),
        )
    with BulkReader(path) as file:
        for at in range(0, length, _PIECE):
            yield file.pread(min(_PIECE, length - at), at)
