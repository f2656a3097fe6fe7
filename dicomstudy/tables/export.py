"""An archive → tables that are in step with it (spec/tables.md)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from dicomstudy import definitions as definitions_
from dicomstudy.clustering import cluster
from dicomstudy.current import as_it_is
from dicomstudy.disk import is_there, writing
from dicomstudy.document import Document, encode
from dicomstudy.errors import UNREADABLE, DicomStudyError, Problem, TableError
from dicomstudy.folder import Folder, outside, path_named, unlocking
from dicomstudy.grouping import ENCODING
from dicomstudy.meanwhile import MOST_LOOKS, Seen, changing
from dicomstudy.outcome import Outcome
from dicomstudy.progress import Progress, Told
from dicomstudy.study import Study
from dicomstudy.tables import catalog as catalog_
from dicomstudy.tables.catalog import Catalog, Part, path_of
from dicomstudy.tables.columns import REFERS, Columns
from dicomstudy.tables.counts import Counts
from dicomstudy.tables.division import shares, stretches
from dicomstudy.tables.fields import (
    COUNT,
    DIGEST,
    INSTANCES,
    PART_TABLES,
    STUDIES,
    STUDY_UID,
    VRS,
    declare,
    digest_columns,
)
from dicomstudy.tables.parquet import (
    SPOOL_CELLS,
    InOrder,
    Spool,
    batches,
    conform,
    read,
    read_where,
    texts,
)
from dicomstudy.tables.rows import decode
from dicomstudy.tables.star import Known, TableRow, Tabulator
from dicomstudy.tables.vrs import DIFFERS, NOTHING, merged, of_file, of_group
from dicomstudy.tables.writer import Writer
from dicomstudy.unfinished import remove_tree

__all__ = ["Exported", "export_tables"]

#: Instances of a part, and rows of a file of groups.
FILE_ROWS = 1 << 16
#: Files in `incoming/` of a run that was killed.
_UNFINISHED = re.compile(r"\w+\.[0-9]+\.(?:arrow|parquet)|counts(?:-\w+)?|[0-9a-f]+\.part")


@dataclass(slots=True)
class Exported(Outcome):
    """What `export_tables` did. If it had to look again, what it did each time is added up.

    Attributes:
        studies: in the tables.
        instances: in the tables.
        added: studies that were not there.
        replaced: studies whose document has changed.
        removed: studies that are no longer in the archive, or can no longer be read.
        tables: the number of tables.
        bytes_out: bytes written, the catalog left out.
        problems: documents that cannot be read, and folders of them; their studies are not in
            the tables.
    """

    studies: int
    instances: int
    added: int
    replaced: int
    removed: int
    tables: int
    bytes_out: int
    problems: list[Problem]

    @property
    def complete(self) -> bool:
        """True if every study of the archive is in the tables."""
        return not self.problems


class _Found(NamedTuple):
    """A document in the archive, its SHA-256, and how many instances it has."""

    path: Path
    sha256: str
    instances: int


def export_tables(
    archive: str | os.PathLike[str] | Folder,
    destination: str | os.PathLike[str],
    *,
    sources: Iterable[str | os.PathLike[str]] = (),
    progress: Progress | None = None,
) -> Exported:
    """Make tables of an archive, or bring those that are there in step with it.

    At every moment the folder has whole tables: those from before the run, or after it. If other
    runs move instances meanwhile, it looks again, and has whole tables in between, too. If a file
    of them is missing or was cut, all are made anew.

    Args:
        archive: the folder of an archive, or the archive that was opened.
        destination: a folder that has tables, is empty or is not there.
        sources: as for `open_archive`, if that was not opened.
        progress: is told how far the run has come.

    Raises:
        ArchiveError: there is no such archive, or `destination` is in one (``archive/inside``) or
            cannot be written; or a folder of documents cannot be read (``archive/unreadable``), and
            the tables have studies that are in there, or all are.
        TableError: `destination` has something else in it (``tables/not-empty``), damaged
            tables, is in use (``tables/locked``), or its path is not UTF-8 (``tables/path``).
    """
    if not isinstance(archive, Folder):
        archive = Folder(path_named(archive), sources=sources)
    folder = outside(destination)
    catalog_.check_path(folder)
    with Told(progress) as said, writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        has_catalog = is_there(folder / catalog_.NAME)
        foreign = [] if has_catalog else [e.name for e in folder.iterdir() if not _is_ours(e)]
        if foreign:
            raise TableError(
                "tables/not-empty",
                f"the folder has {foreign[0]!r} in it and no tables: name an empty or new one",
                source=str(folder),
            )
        with _alone(folder):
            done: list[Exported] = []
            for _ in range(MOST_LOOKS):
                there = _there(folder)
                with (
                    _unfinished(folder),
                    contextlib.closing(_Run(archive, folder, there, said)) as run,
                ):
                    done.append(run.export())
                    if not run.is_behind():
                        break
            else:
                done[-1].problems.append(changing(archive.path).problem())
    return replace(
        done[-1],
        added=sum(each.added for each in done),
        replaced=sum(each.replaced for each in done),
        removed=sum(each.removed for each in done),
        bytes_out=sum(each.bytes_out for each in done),
    )


def _is_ours(path: Path) -> bool:
    """Whether a run that was killed before there were tables may have left this."""
    if path.is_symlink():
        return False
    if path.name == catalog_.LOCK:
        return path.is_file() and not path.stat().st_size
    if path.name != catalog_.INCOMING:
        return False
    try:
        # a run that is at work makes and removes them meanwhile
        return all(
            _UNFINISHED.fullmatch(each.name) and not each.is_dir() for each in path.iterdir()
        )
    except FileNotFoundError:
        return True
    except NotADirectoryError:
        return False


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Be the only run that writes to a folder of tables. A process that ends lets go of it."""
    descriptor = os.open(folder / catalog_.LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    with unlocking(os.fdopen(descriptor, "r+b")) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise TableError(
                "tables/locked", "another run is writing to these tables", source=str(folder)
            ) from error
        yield


def _there(folder: Path) -> Catalog | None:
    """The catalog of a folder; None if there is none."""
    if not is_there(folder / catalog_.NAME):
        return None
    return catalog_.read(folder, definitions_.load(), unfinished=True)


@contextlib.contextmanager
def _unfinished(folder: Path) -> Iterator[None]:
    """Leave nothing in a folder of tables that a run has not finished."""
    try:
        yield
    finally:
        remove_tree(folder / catalog_.INCOMING)


class _Run:
    """One run of `export_tables`."""

    def __init__(
        self, archive: Folder, folder: Path, there: Catalog | None, progress: Progress
    ) -> None:
        self._archive = archive
        self._folder = folder
        self._progress = progress
        self._definitions = definitions_.load()
        #: What the folder has; and what of it can be gone on with, which is all or nothing.
        self._there = there or Catalog("", is_unfinished=True)
        is_whole = self._there.has_files(folder)
        self._old = self._there if is_whole else Catalog("", self._there.next)
        self._new = Catalog(str(archive.path.resolve()), self._old.next)
        self._columns = Columns(self._definitions)
        declare(self._columns, self._definitions.groups)
        for name, table in self._old.tables.items():
            self._columns.load(name, table.schema)
        self._writer = Writer(folder, self._columns, self._new)
        self._writer.clear(self._there)
        self._problems: list[Problem] = []
        self._seen = Seen(archive)
        #: Studies whose documents could be read at first, and then not.
        self._left_out: set[str] = set()
        self._groups: dict[str, Spool] = {}
        #: How many rows of a group are replaced by later ones.
        self._again: Counter[str] = Counter()
        self._done = 0
        #: How many more, or fewer, instances refer to each group than before. It has all groups.
        #: The last to be made: it is closed with the run.
        self._change = Counts(folder / catalog_.INCOMING / "counts")

    def close(self) -> None:
        """Close what is open."""
        self._change.close()

    def export(self) -> Exported:
        """Bring the tables in step, and say what that took."""
        is_first = self._there.is_unfinished
        if is_first:
            unfinished = replace(self._new, is_unfinished=True)
            catalog_.write(unfinished, self._folder, self._definitions)
        before = self._studies()
        after = self._documents(before)
        changed = {uid for uid, found in after.items() if before.get(uid) != found.sha256}
        removed = before.keys() - after.keys()
        touched = changed | removed
        if touched or self._new.archive != self._old.archive or is_first:
            self._bring_in_step(before, after, touched)
            self._writer.commit(self._definitions, self._there)
        else:
            self._new = self._old
        there = after.keys() - self._left_out
        instances = self._new.tables.get(INSTANCES)
        return Exported(
            studies=len(there),
            instances=instances.rows if instances else 0,
            added=len(changed & there - before.keys()),
            replaced=len(changed & there & before.keys()),
            removed=len(before.keys() - there),
            tables=len(self._new.tables),
            bytes_out=self._writer.bytes_out,
            problems=self._problems,
        )

    def is_behind(self) -> bool:
        """Whether instances were moved since to a study whose document had been read."""
        return bool(self._seen.again())

    def _documents(self, before: Iterable[str]) -> dict[str, _Found]:
        """The documents of the archive by their studies.

        Raises:
            ArchiveError: a folder of them cannot be read that has some of the studies that were
                there before, or all.
        """
        found: dict[str, _Found] = {}
        needed = {self._archive.document_path(uid).parent for uid in before}
        for done, (path, unreadable) in enumerate(self._archive.listing(), 1):
            self._progress("documents", done, None)
            if unreadable is not None:
                is_all = path.parent == self._archive.path
                if unreadable.code not in UNREADABLE or is_all or path in needed:
                    raise unreadable
                self._problems.append(unreadable.problem(str(path)))
                self._seen.add(path, None)
                continue
            try:
                with contextlib.closing(Document(path)) as document:
                    self._seen.add(path, document)
                    sha256 = document.sha256()
            except DicomStudyError as error:
                if not self._archive.is_gone(path):
                    self._problems.append(error.problem(str(path)))
                    self._seen.add(path, None)
                continue
            found[document.study] = _Found(path, sha256, document.instances)
        return found

    def _studies(self) -> dict[str, str]:
        """The SHA-256 of the document of each study in the tables."""
        names = [STUDY_UID, "document_sha256"]
        return {
            uid: sha256
            for rows in self._read(STUDIES, columns=names)
            for uid, sha256 in zip(*(rows[name].to_pylist() for name in names), strict=True)
        }

    def _read(
        self, table: str, number: int | None = None, *, columns: Sequence[str] | None = None
    ) -> Iterator[pa.Table]:
        """The rows of a table as it was before, or of one of its files."""
        known = self._old.tables.get(table)
        if known is not None:
            schema = known.schema
            wanted = columns and [name for name in columns if name in schema.names]
            for each in known.files if number is None else (number,):
                yield from read(path_of(self._folder, table, each), table, schema, wanted)

    def _bring_in_step(
        self, before: Mapping[str, str], after: Mapping[str, _Found], touched: set[str]
    ) -> None:
        """Write anew the files that have rows of `touched` studies, and keep all others.

        Parts come in the order of the UIDs of their studies; in one that is written anew, rows of
        other studies are taken from its old files. Groups come last: then it is known which are
        referred to.

        Args:
            before: the SHA-256 of the document of each study in the tables.
            after: the documents that are in the archive now.
            touched: the studies that come, change or go.
        """
        tabulator = Tabulator(self._columns, self._change)
        self._forget(touched)
        for name in sorted(self._old.tables.keys() - set(PART_TABLES)):
            self._know(name, touched, tabulator)
        sizes = {uid: after[uid].instances if uid in after else 0 for uid in {*before, *after}}
        total = len(touched)
        for stretch in stretches(self._old.parts, sizes, touched, rows=FILE_ROWS):
            if not stretch.touched:
                (part,) = stretch.parts
                self._writer.keep(part, self._old)
                continue
            staying = {
                name: InOrder(self._staying(name, stretch.parts, touched), STUDY_UID)
                for name in PART_TABLES
            }
            for share in shares(stretch.uids, sizes, rows=FILE_ROWS):
                spools = {name: self._writer.spool(name) for name in PART_TABLES}
                for uid in filter(touched.__contains__, share):
                    if uid in after:
                        self._add(uid, after[uid], tabulator, spools)
                    self._done += 1
                    self._progress("studies", self._done, total)
                old = {name: rows.take_all(share[-1]) for name, rows in staying.items()}
                self._writer.write_part(share, old, spools)
        for name in sorted({*self._old.tables, *self._groups} - set(PART_TABLES)):
            self._finish(name)
        self._writer.conform(self._old)

    def _forget(self, touched: set[str]) -> None:
        """Count that the instances of studies that change or go refer to no groups any more."""
        table = self._old.tables.get(INSTANCES)
        names = digest_columns(table.schema.names if table else ())
        uids = sorted(touched)
        wanted = pa.array(uids, pa.string())
        for part in self._old.parts:
            number = part.files.get(INSTANCES)
            if number is None or bisect_left(uids, part.first) == bisect_right(uids, part.last):
                continue
            for rows in self._read(INSTANCES, number, columns=[STUDY_UID, *names]):
                these = rows.filter(pc.is_in(rows[STUDY_UID], value_set=wanted))
                for name in names:
                    counted = Counter(texts(these, name))
                    self._change.add({digest: -count for digest, count in counted.items()})

    def _staying(self, name: str, parts: Iterable[Part], touched: set[str]) -> Iterator[pa.Table]:
        """The rows of a table in some parts, without those of studies that change or go.

        Raises:
            TableError: they are not in the order of studies (``tables/damaged``).
        """
        last = ""
        for number in [part.files[name] for part in parts if name in part.files]:
            for batch in chain.from_iterable(map(batches, self._read(name, number))):
                uids = texts(batch, STUDY_UID)
                if sorted([last, *uids]) != [last, *uids]:
                    raise TableError(
                        "tables/damaged",
                        f"the rows of the table {name} are not in the order of studies",
                        source=str(path_of(self._folder, name, number)),
                    )
                last = uids[-1]
                stay = [uid not in touched for uid in uids]
                yield batch if all(stay) else batch.filter(pa.array(stay, pa.bool_()))

    def _know(self, name: str, touched: set[str], tabulator: Tabulator) -> None:
        """Know the groups of a name, and what the files of instances that stay say of their VRs."""
        differing: dict[str, str] = {}
        for rows in self._read(name, columns=[DIGEST, COUNT, VRS]):
            said = rows[VRS].to_pylist() if VRS in rows.column_names else [None] * len(rows)
            known: dict[str, Known] = {}
            digests, counts = texts(rows, DIGEST), rows[COUNT].to_pylist()
            changes = self._change.of(digests)
            for digest, count, change, each in zip(digests, counts, changes, said, strict=True):
                row = each or ""
                stays = (count or 0) + change > 0
                known[digest] = Known(row if stays else None, row)
                if stays and DIFFERS in row and change:
                    differing[digest] = row
            self._change.know(known)
        if differing:
            self._ask_again(name, differing, touched, tabulator)

    def _ask_again(
        self, name: str, groups: Mapping[str, str], touched: set[str], tabulator: Tabulator
    ) -> None:
        """Work out the VRs of groups again whose files differed: those of what stays may agree."""
        ways: dict[str, set[str]] = {}
        names = [STUDY_UID, name + REFERS, ENCODING + REFERS]
        wanted = pa.array(sorted(groups), pa.string())
        for rows in self._read(INSTANCES, columns=names):
            if name + REFERS in rows.column_names:
                for row in rows.filter(pc.is_in(rows[name + REFERS], value_set=wanted)).to_pylist():
                    if row[STUDY_UID] not in touched:
                        way = row.get(ENCODING + REFERS) or ""
                        ways.setdefault(row[name + REFERS], set()).add(way)
        files = {
            digest: of_file(content, self._definitions)
            for digest, content in self._contents(ENCODING, set().union(*ways.values()))
        }
        for digest, content in self._contents(name, ways):
            vrs = (of_group(content, files.get(way, NOTHING)) for way in ways[digest])
            said = reduce(merged, vrs)
            if said != groups[digest]:
                self._spool_rows([tabulator.group_row(name, digest, content, said)], {})
                self._again[digest] += 1
            self._change.know({digest: Known(said, said)})

    def _contents(self, name: str, digests: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """The attributes of groups of a name, as the tables have them."""
        values = pa.array(sorted(digests), pa.string())
        table = self._old.tables.get(name)
        if table is None:
            return
        schema, columns = table.schema, self._columns.of(name)
        for number in table.files:
            path = path_of(self._folder, name, number)
            for place, row in read_where(path, name, schema, DIGEST, values):
                where = f"{path}, row {place}"
                yield row[DIGEST], decode(row, columns, self._definitions, source=where)

    def _add(
        self, uid: str, found: _Found, tabulator: Tabulator, spools: Mapping[str, Spool]
    ) -> None:
        """Add the rows of a study; none, if its document is damaged or has gone meanwhile."""
        try:
            with self._archive.open(found.path) as study, self._as_it_is(study) as present:
                document = study.document  # it may be a later one than that which was found
                sha256, size = document.sha256(), document.size
                added = tabulator.add(present, sha256=sha256, size=size)
        except DicomStudyError as error:
            self._left_out.add(uid)
            if not self._archive.is_gone(found.path):
                self._problems.append(error.problem(str(found.path))._replace(source=uid))
            return
        self._change.add(added.instances)
        self._change.know(added.vrs)
        self._again.update(added.again)
        self._spool_rows(added.rows, spools)

    def _spool_rows(self, rows: Iterable[TableRow], spools: Mapping[str, Spool]) -> None:
        """Put rows into the spools of their tables."""
        for table, row, cells in rows:
            spool = spools.get(table) or self._groups.get(table)
            if spool is None:
                spool = self._groups[table] = self._writer.spool(table)
            spool.add(row, cells)
        if sum(spool.cells for spool in self._groups.values()) > SPOOL_CELLS:
            max(self._groups.values(), key=lambda spool: spool.cells).spill()

    @contextlib.contextmanager
    def _as_it_is(self, study: Study) -> Iterator[Study]:
        """A study whose document has its instances as they are now, and no others."""
        if not study.has_past:
            yield study
            return
        frames = encode(
            study.uid,
            cluster(as_it_is(study), self._definitions),
            self._definitions,
            bulk=study.document.bulk,
        )
        path = self._folder / catalog_.INCOMING / "study.ion.zst"
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as file:
            file.writelines(frames)
        with study.beside(path) as present:
            yield present

    def _finish(self, name: str) -> None:
        """Write the files of a group in which something has changed."""
        kept: list[int] = []
        stale: list[int] = []
        for number in self._old.tables[name].files if name in self._old.tables else ():
            digests = chain.from_iterable(
                texts(rows, DIGEST) for rows in self._read(name, number, columns=[DIGEST])
            )
            (stale if self._is_stale(list(digests)) else kept).append(number)
        for number in kept:
            self._writer.keep_file(name, self._old.tables[name].files[number])
        old = chain.from_iterable(self._read(name, number) for number in stale)
        new = self._groups[name].tables() if name in self._groups else ()
        schema = self._columns.schema(name)
        whole = (conform(rows, schema) for rows in chain(old, new))
        replaced: dict[str, int] = {}
        counted = filter(len, (self._counted(rows, replaced) for rows in whole))
        for first in counted:
            rest = _up_to(counted, FILE_ROWS - len(first))
            self._writer.write(name, chain((first,), rest))

    def _is_stale(self, digests: Sequence[str]) -> bool:
        """Whether something has changed in a row of these groups."""
        return any(self._change.of(digests)) or not self._again.keys().isdisjoint(digests)

    def _counted(self, rows: pa.Table, replaced: dict[str, int]) -> pa.Table:
        """Rows of a group with the number of instances that refer to them now, if there are any.

        `replaced` has the numbers of rows that later ones replace.
        """
        digests = texts(rows, DIGEST)
        counts: list[int] = []
        for digest, change, count in zip(
            digests, self._change.of(digests), rows[COUNT].to_pylist(), strict=True
        ):
            before = replaced.pop(digest, 0) + (count or 0)
            if self._again[digest]:
                self._again[digest] -= 1
                replaced[digest] = before
                counts.append(0)
            else:
                counts.append(before + change)
        place = rows.column_names.index(COUNT)
        counted = rows.set_column(place, rows.field(place), pa.array(counts, pa.int64()))
        return counted.filter(pa.array([count > 0 for count in counts], pa.bool_()))


def _up_to(tables: Iterator[pa.Table], rows: int) -> Iterator[pa.Table]:
    """Tables until there are so many rows."""
    while rows > 0 and (table := next(tables, None)) is not None:
        rows -= len(table)
        yield table
