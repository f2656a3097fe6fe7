"""Wrong tables, and wrong archives to make them of: spec/tables.md, "Errors"."""

from __future__ import annotations

import base64
import contextlib
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dicomstudy
from dicomstudy import ion
from dicomstudy.archive import create
from dicomstudy.disk import ReadOnly
from dicomstudy.document import Document
from dicomstudy.errors import (
    ArchiveError,
    BulkError,
    DicomStudyError,
    StudyError,
    TableError,
)
from dicomstudy.tables import catalog, parquet
from fixtures import make
from tests import studies


def damaged(folder: Path, table: str, change: Callable[[Path], object]) -> Path:
    """A file of a table after a change."""
    (path,) = (folder / table).glob("*.parquet")
    change(path)
    return path


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda path: path.write_bytes(b"nothing"), "tables/damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:-20]), "tables/damaged"),
        (lambda path: path.unlink(), "tables/damaged"),
        (lambda path: pq.write_table(pa.table({"x": [1]}), path), "tables/schema"),
    ],
)
def test_a_damaged_or_foreign_file_is_named(
    change: Callable[[Path], object], code: str, copied_tables: Path, archive: Path, tmp_path: Path
) -> None:
    path = damaged(copied_tables, "patient", change)
    asked: list[Callable[[dicomstudy.Tables], object]] = [
        lambda tables: tables["patient"].to_table(),
        lambda tables: tables["patient"].check(),
        lambda tables: tables.to_archive(tmp_path / "again"),
    ]
    for ask in asked:
        with dicomstudy.open_tables(copied_tables) as tables, pytest.raises(TableError) as caught:
            ask(tables)
        assert caught.value.code == code
        assert caught.value.location.source == str(path)
    document = dicomstudy.open_archive(archive).documents()
    assert next(iter(document)).exists()


def rewritten(path: Path, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    """Replace the rows of a file."""
    table = pq.read_table(path)
    pq.write_table(pa.Table.from_pylist(change(table.to_pylist()), schema=table.schema), path)


def with_size_of(path: Path, folder: Path) -> None:
    """Let the catalog have the size that a file has now."""
    value = json.loads((folder / "catalog.json").read_text())
    (file,) = value["tables"][path.parent.name]["files"]
    file["size"] = path.stat().st_size
    (folder / "catalog.json").write_text(json.dumps(value))


def test_a_missing_group_is_named_with_file_and_row(copied_tables: Path, tmp_path: Path) -> None:
    damaged(copied_tables, "patient", lambda path: rewritten(path, lambda rows: rows[1:]))
    with dicomstudy.open_tables(copied_tables) as tables, pytest.raises(TableError) as caught:
        tables.to_archive(tmp_path / "again")
    assert caught.value.code == "tables/missing-group"
    source = caught.value.location.source
    assert source is not None
    path, _, row = source.partition(", row ")
    digest = pq.read_table(path)["patient_digest"][int(row)].as_py()
    assert digest in caught.value.message
    assert "the table patient" in caught.value.message


def test_a_group_that_was_changed_is_named_with_file_and_row(
    copied_tables: Path, tmp_path: Path
) -> None:
    def change(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [*rows[:2], {**rows[2], "PatientID": "another"}, *rows[3:]]

    path = damaged(copied_tables, "patient", lambda path: rewritten(path, change))
    with dicomstudy.open_tables(copied_tables) as tables, pytest.raises(TableError) as caught:
        tables.to_archive(tmp_path / "again")
    assert caught.value.code == "tables/group-digest"
    assert caught.value.location.source == f"{path}, row 2"


@pytest.mark.parametrize("column", ["exact", "empty"])
def test_a_row_that_contradicts_itself_is_named(
    column: str, copied_tables: Path, tmp_path: Path
) -> None:
    wrong = {"exact": ion.dumps({"A[3].B": 1}), "empty": ["A[3].B"]}[column]

    def change(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**rows[0], column: wrong}, *rows[1:]]

    path = damaged(copied_tables, "instances", lambda path: rewritten(path, change))
    with dicomstudy.open_tables(copied_tables) as tables, pytest.raises(TableError) as caught:
        tables.to_archive(tmp_path / "again")
    assert caught.value.code == "tables/damaged"
    assert caught.value.location.source == f"{path}, row 0"


@pytest.mark.parametrize(
    ("table", "column"),
    [("studies", "bulk_length"), ("bulk", "sha256"), ("instances", "SeriesInstanceUID")],
)
def test_no_study_is_rebuilt_of_a_row_that_lacks_what_all_have(
    table: str, column: str, copied_tables: Path, tmp_path: Path
) -> None:
    def change(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**rows[0], column: None}, *rows[1:]]

    damaged(copied_tables, table, lambda path: rewritten(path, change))
    with dicomstudy.open_tables(copied_tables) as tables, pytest.raises(TableError) as caught:
        tables.to_archive(tmp_path / "again")
    assert caught.value.code == "tables/damaged"
    assert column in caught.value.message


@pytest.mark.parametrize(("table", "key"), [("patient", "digest"), ("series", "StudyInstanceUID")])
def test_a_row_without_its_key_is_an_error(
    table: str, key: str, copied_tables: Path, archive: Path, tmp_path: Path
) -> None:
    def change(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**rows[0], key: None}, *rows[1:]]

    path = damaged(copied_tables, table, lambda path: rewritten(path, change))
    with_size_of(path, copied_tables)
    changed = shutil.copytree(archive, tmp_path / "changed")
    next(changed.glob("studies/*/*.zst")).unlink()
    with pytest.raises(TableError) as caught:
        dicomstudy.export_tables(changed, copied_tables)
    assert caught.value.code == "tables/damaged"
    assert caught.value.location.source == str(path)


@pytest.mark.parametrize("rows_at_once", [1, 1 << 10])
def test_studies_out_of_order_are_an_error(
    rows_at_once: int,
    copied_tables: Path,
    archive: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = damaged(copied_tables, "series", lambda path: rewritten(path, lambda rows: rows[::-1]))
    with_size_of(path, copied_tables)
    changed = shutil.copytree(archive, tmp_path / "changed")
    next(changed.glob("studies/*/*.zst")).unlink()
    monkeypatch.setattr(parquet, "BATCH_ROWS", rows_at_once)
    with pytest.raises(TableError) as caught:
        dicomstudy.export_tables(changed, copied_tables)
    assert caught.value.code == "tables/damaged"
    assert caught.value.location.source == str(path)


def test_bulk_is_taken_from_where_the_user_says(
    archive: Path, copied_tables: Path, tmp_path: Path
) -> None:
    found = json.loads((copied_tables / "catalog.json").read_text())
    found["archive"] = str(tmp_path / "moved")
    (copied_tables / "catalog.json").write_text(json.dumps(found))
    with dicomstudy.open_tables(copied_tables) as tables:
        with pytest.raises(BulkError) as caught:
            tables.to_archive(tmp_path / "without")
        assert caught.value.code == "bulk/missing"
        tables.to_archive(tmp_path / "again", bulk=archive)
    assert dicomstudy.verify(tmp_path / "again").problems == []


def test_a_bulk_file_of_a_later_time_is_an_error(tmp_path: Path) -> None:
    """Its study was removed with all that was of it, and came in anew."""
    pixels = make.phantom(16, 16)
    for at in range(3):
        turned = pixels[at * 2 :] + pixels[: at * 2]
        file = make.ct_slice("study", 1, at, rows=16, columns=16, pixels=turned)
        studies.write_files(tmp_path / "in", [(f"{at}.dcm", file)])
    dicomstudy.convert([tmp_path / "in"], tmp_path / "archive")
    dicomstudy.export_tables(tmp_path / "archive", tmp_path / "tables")
    dicomstudy.delete(tmp_path / "archive", make.uid("study"))
    dicomstudy.collect(tmp_path / "archive", older_versions=True, remove=True)
    for at, path in enumerate(sorted((tmp_path / "in").iterdir(), reverse=True)):
        path.rename(tmp_path / f"in/other-{at}.dcm")
    dicomstudy.convert([tmp_path / "in"], tmp_path / "archive")
    with dicomstudy.open_tables(tmp_path / "tables") as tables:
        with pytest.raises(BulkError, match="another than when the tables were made"):
            tables.to_archive(tmp_path / "rebuilt")
        assert dicomstudy.verify(tmp_path / "rebuilt").studies == 0
        assert [*(tmp_path / "rebuilt" / "incoming").iterdir()] == []
        assert [*(tmp_path / "rebuilt").rglob("*.bulk")] == []


def test_a_bulk_file_that_was_cut_off_is_an_error(
    archive: Path, tables_folder: Path, tmp_path: Path
) -> None:
    moved = shutil.copytree(archive, tmp_path / "moved")
    for path in moved.glob("studies/*/*.bulk"):
        path.write_bytes(path.read_bytes()[:-1])
    with dicomstudy.open_tables(tables_folder) as tables, pytest.raises(BulkError) as caught:
        tables.to_archive(tmp_path / "again", bulk=moved)
    assert caught.value.code == "bulk/truncated"


def test_an_archive_with_studies_is_not_written_over(archive: Path, tables_folder: Path) -> None:
    before = studies.state_of(archive)
    with dicomstudy.open_tables(tables_folder) as tables, pytest.raises(ArchiveError) as caught:
        tables.to_archive(archive)
    assert caught.value.code == "archive/not-empty"
    assert studies.state_of(archive) == before


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda value: {**value, "format": "another"}, "tables/not-tables"),
        (lambda value: {**value, "version": 2}, "tables/unknown-version"),
        (lambda value: {**value, "definitions": {"version": "1", "sha256": ""}},
         "tables/definitions"),
        (lambda value: {**value, "definitions": None}, "tables/damaged"),
        (lambda value: {**value, "tables": {}}, "tables/damaged"),
        (lambda value: {**value, "next": 0}, "tables/damaged"),
        (lambda value: {**value, "parts": [{}]}, "tables/damaged"),
        (lambda value: {**value, "archive": None}, "tables/damaged"),
        (lambda value: {**value, "tables": {"../x": value["tables"]["patient"]}},
         "tables/damaged"),
        (lambda value: {**value, "tables": {"x": {"schema": "?", "files": []}}},
         "tables/damaged"),
        (lambda value: [value], "tables/not-tables"),
    ],
)  # fmt: skip
def test_a_wrong_catalog_is_refused(
    change: Callable[[Any], Any], code: str, copied_tables: Path, archive: Path
) -> None:
    path = copied_tables / "catalog.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    for use in (dicomstudy.open_tables, lambda path: dicomstudy.export_tables(archive, path)):
        with pytest.raises(TableError) as caught:
            use(copied_tables)
        assert caught.value.code == code


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_catalog_that_is_no_json_is_damaged(content: bytes, copied_tables: Path) -> None:
    (copied_tables / "catalog.json").write_bytes(content)
    with pytest.raises(TableError) as caught:
        dicomstudy.open_tables(copied_tables)
    assert caught.value.code == "tables/damaged"


def test_a_schema_that_is_none_is_damaged(copied_tables: Path) -> None:
    value = json.loads((copied_tables / "catalog.json").read_text())
    value["tables"]["patient"]["schema"] = "AAAA"
    (copied_tables / "catalog.json").write_text(json.dumps(value))
    with dicomstudy.open_tables(copied_tables) as tables, pytest.raises(TableError) as caught:
        _ = tables["patient"].schema
    assert caught.value.code == "tables/damaged"


def test_columns_that_are_not_of_their_attribute_are_refused(
    copied_tables: Path, archive: Path
) -> None:
    value = json.loads((copied_tables / "catalog.json").read_text())
    field = pa.field("Rows", pa.string(), metadata={"key": "Rows", "vr": "US", "form": "typed"})
    message = catalog.Table.of(pa.schema([field])).message
    value["tables"]["patient"]["schema"] = base64.b64encode(message).decode()
    (copied_tables / "catalog.json").write_text(json.dumps(value))
    with pytest.raises(TableError) as caught:
        dicomstudy.export_tables(archive, copied_tables)
    assert caught.value.code == "tables/schema"


@pytest.mark.parametrize("name", ["incoming/today/image.dcm", "incoming/image.dcm", "lock"])
def test_what_only_has_our_names_is_left_alone(archive: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("dear")
    with pytest.raises(TableError) as caught:
        dicomstudy.export_tables(archive, tmp_path)
    assert caught.value.code == "tables/not-empty"
    assert (tmp_path / name).read_text() == "dear"


@pytest.mark.parametrize(
    "content", ['{"type": "Catalog"}', '{"format": "dicomstudy tables", "version": 99}', "{"]
)
def test_what_is_no_catalog_of_ours_keeps_what_is_beside_it(
    content: str, archive: Path, tmp_path: Path
) -> None:
    (tmp_path / "catalog.json").write_text(content)
    (tmp_path / "incoming").mkdir()
    (tmp_path / "incoming" / "mine").write_text("dear")
    with pytest.raises(TableError):
        dicomstudy.export_tables(archive, tmp_path)
    assert (tmp_path / "incoming" / "mine").read_text() == "dear"


def test_what_a_run_leaves_that_was_killed_is_ours(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "incoming").mkdir()
    for name in ("series.0.arrow", "patient.12.parquet", "counts", "counts-journal", "0f.part"):
        (tmp_path / "incoming" / name).write_bytes(b"half")
    (tmp_path / "lock").touch()
    assert dicomstudy.export_tables(archive, tmp_path).studies
    assert not (tmp_path / "incoming").exists()


def test_a_row_group_of_many_rows_is_not_read(
    copied_tables: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with dicomstudy.open_tables(copied_tables) as tables:
        patient = tables["patient"]
        monkeypatch.setattr(parquet, "GROUP_ROWS", len(patient.to_table()) - 1)
        with pytest.raises(TableError, match="row groups of more than") as caught:
            next(parquet.read(patient.files[0], "patient", patient.schema))
    assert caught.value.code == "tables/damaged"


Change = Callable[[Any], Any]
#: What of the catalog is made another, and how.
LIES: dict[str, tuple[tuple[Any, ...], Change]] = {
    "no number": (("tables", "patient", "files", 0, "number"), lambda _: None),
    "no rows": (("tables", "patient", "files", 0, "rows"), lambda _: "x"),
    "fewer than no rows": (("tables", "patient", "files", 0, "rows"), lambda _: -1),
    "no UID": (("parts", 0, "first"), lambda _: 7),
    "a list for a number": (("parts", 0, "files", "instances"), lambda _: []),
    "no files": (("parts", 0, "files"), lambda _: None),
    "files of no part": (("parts",), lambda _: []),
    "parts twice": (("parts",), lambda parts: parts * 2),
    "a range that ends before it begins": (("parts", 0, "first"), lambda _: "~~"),
    "an unknown table": (("tables",), lambda tables: tables | {"qqq": tables["patient"]}),
}


@pytest.mark.parametrize(("path", "lie"), LIES.values(), ids=LIES)
def test_a_catalog_that_lies_is_an_error(
    archive: Path, copied_tables: Path, path: tuple[Any, ...], lie: Change
) -> None:
    value = json.loads((copied_tables / "catalog.json").read_bytes())
    inner = value
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = lie(inner[path[-1]])
    (copied_tables / "catalog.json").write_text(json.dumps(value))
    for ask in (dicomstudy.open_tables, lambda folder: dicomstudy.export_tables(archive, folder)):
        with pytest.raises(TableError) as caught:
            ask(copied_tables)
        assert caught.value.code == "tables/damaged"


@pytest.mark.parametrize("errors", [errno.EACCES, errno.EIO, errno.EMFILE])
def test_tables_that_the_system_does_not_read_are_not_damaged(
    copied_tables: Path, errors: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(errors, os.strerror(errors))

    with dicomstudy.open_tables(copied_tables) as tables:
        monkeypatch.setattr(pq, "ParquetFile", refused)
        with pytest.raises(TableError, match=os.strerror(errors)) as caught:
            tables["patient"].check()
    assert caught.value.code == "tables/unreadable"
    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(TableError, match=os.strerror(errors)) as caught:
        dicomstudy.open_tables(copied_tables)
    assert caught.value.code == "tables/unreadable"


def test_a_pipe_is_no_catalog(copied_tables: Path) -> None:
    (copied_tables / "catalog.json").unlink()
    os.mkfifo(copied_tables / "catalog.json")
    with pytest.raises(TableError) as caught:
        dicomstudy.open_tables(copied_tables)
    assert caught.value.code == "tables/damaged"


def _retyped(name: str, kind: pa.DataType) -> Callable[[pa.Schema], pa.Schema]:
    def change(schema: pa.Schema) -> pa.Schema:
        at = schema.get_field_index(name)
        return schema.set(at, schema.field(at).with_type(kind))

    return change


def _without(name: str) -> Callable[[pa.Schema], pa.Schema]:
    return lambda schema: schema.remove(schema.get_field_index(name))


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("patient", _retyped("instances", pa.string())),
        ("patient", _without("digest")),
        ("patient", lambda schema: schema.append(schema.field("digest"))),
        ("patient", lambda s: s.set(0, s.field(0).with_metadata({b"\xff": b"\xff"}))),
        ("instances", _retyped("patient_digest", pa.int64())),
        ("instances", _retyped("source_uri", pa.binary())),
        ("instances", _without("StudyInstanceUID")),
        ("bulk", _retyped("sha256", pa.list_(pa.string()))),
    ],
)
def test_columns_that_are_not_those_of_the_format_are_an_error(
    archive: Path,
    copied_tables: Path,
    tmp_path: Path,
    table: str,
    change: Callable[[pa.Schema], pa.Schema],
) -> None:
    """Though catalog and files agree."""
    value = json.loads((copied_tables / "catalog.json").read_bytes())
    stored = value["tables"][table]
    schema = change(pa.ipc.read_schema(pa.py_buffer(base64.b64decode(stored["schema"]))))
    stored["schema"] = base64.b64encode(schema.serialize().to_pybytes()).decode()
    for file in stored["files"]:
        path = catalog.path_of(copied_tables, table, file["number"])
        pq.write_table(pa.table([pa.nulls(1, field.type) for field in schema], schema=schema), path)
        file["size"], file["rows"] = path.stat().st_size, 1
    (copied_tables / "catalog.json").write_text(json.dumps(value))
    with pytest.raises(TableError) as caught, dicomstudy.open_tables(copied_tables) as tables:
        tables.to_archive(tmp_path / "rebuilt")
    assert caught.value.code == "tables/schema"
    with pytest.raises(TableError) as caught:
        dicomstudy.export_tables(archive, copied_tables)
    assert caught.value.code == "tables/schema"


@pytest.mark.parametrize(
    "column", [pa.array([b"\xff"]).view(pa.string()), pa.array([2**62], pa.timestamp("us"))]
)
def test_cells_that_cannot_be_held_are_an_error(column: pa.Array[Any]) -> None:
    with pytest.raises(TableError) as caught:
        list(parquet.as_rows(pa.table({"a": column})))
    assert caught.value.code == "tables/damaged"


def test_what_is_behind_links_is_neither_swept_nor_emptied(
    archive: Path, copied_tables: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    (copied_tables / "series").rename(outside)
    (copied_tables / "series").symlink_to(outside)
    (outside / "999999.parquet").write_text("dear")
    dicomstudy.export_tables(archive, copied_tables)
    assert (outside / "999999.parquet").read_text() == "dear"
    (copied_tables / "lock").unlink(missing_ok=True)
    (copied_tables / "lock").symlink_to(outside / "999999.parquet")
    with pytest.raises(ArchiveError) as caught:
        dicomstudy.export_tables(archive, copied_tables)
    assert caught.value.code == "archive/unwritable"
    assert (outside / "999999.parquet").read_text() == "dear"


def test_a_folder_of_something_else_is_left_alone(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(TableError) as caught:
        dicomstudy.export_tables(archive, tmp_path)
    assert caught.value.code == "tables/not-empty"
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
    with pytest.raises(TableError) as caught:
        dicomstudy.open_tables(tmp_path)
    assert caught.value.code == "tables/not-tables"


def test_a_file_is_no_folder_of_tables(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(TableError) as caught:
        dicomstudy.open_tables(tmp_path / "file")
    assert caught.value.code == "tables/not-tables"


def test_paths_that_are_not_utf8(archive: Path, tmp_path: Path) -> None:
    """Of an archive they are as good as others; no reader of Parquet files can name tables so."""
    copied_tables = shutil.copytree(archive, tmp_path / "\udce4")
    dicomstudy.export_tables(copied_tables, tmp_path / "tables")
    with dicomstudy.open_tables(tmp_path / "tables") as tables:
        tables.sql("SELECT 1").write_parquet(tmp_path / "\udce4.parquet")
        assert tables.to_archive(tmp_path / "again") == len(dicomstudy.open_archive(archive))
        with pytest.raises(TableError) as caught:
            tables.sql("SELECT '\udce4'")
        assert caught.value.code == "tables/query"
    for ask in (lambda path: dicomstudy.export_tables(archive, path), dicomstudy.open_tables):
        with pytest.raises(TableError) as caught:
            ask(tmp_path / "t\udce4")
        assert caught.value.code == "tables/path"


def test_two_runs_never_write_at_once(archive: Path, copied_tables: Path) -> None:
    with (copied_tables / "lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(TableError) as caught:
            dicomstudy.export_tables(archive, copied_tables)
    assert caught.value.code == "tables/locked"


def test_a_file_system_without_locks_is_no_other_run(
    archive: Path, copied_tables: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("dicomstudy.tables.export.fcntl.flock", none)
    with pytest.raises(ArchiveError) as caught:
        dicomstudy.export_tables(archive, copied_tables)
    assert caught.value.code == "archive/unwritable"


def test_a_destination_that_cannot_be_made_is_an_error(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ArchiveError) as caught:
        dicomstudy.export_tables(archive, tmp_path / "file" / "tables")
    assert caught.value.code == "archive/unwritable"


def test_a_document_that_cannot_be_read_on_is_a_problem(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = list(dicomstudy.open_archive(archive).documents())
    sha256 = Document.sha256

    def refused(*_: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    def failing(document: Document) -> str:
        with monkeypatch.context() as patch:
            if document.path == documents[0]:
                patch.setattr(ReadOnly, "pread", refused)
            return sha256(document)

    monkeypatch.setattr(Document, "sha256", failing)
    exported = dicomstudy.export_tables(archive, tmp_path / "tables")
    assert exported.studies == len(documents) - 1
    found = [(problem.source, problem.code) for problem in exported.problems]
    assert found == [(str(documents[0]), "study/unreadable")]


def test_a_bulk_file_that_cannot_be_read_is_said_to_be_unreadable(
    archive: Path, copied_tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = max(archive.rglob("*.bulk"), key=lambda path: path.stat().st_size)
    studies.unreadable(monkeypatch, path)
    with (
        dicomstudy.open_tables(copied_tables) as tables,
        pytest.raises(BulkError) as caught,
    ):
        tables.to_archive(tmp_path / "again")
    assert (caught.value.code, caught.value.location.source) == ("bulk/unreadable", str(path))


def test_a_copy_that_cannot_be_proved_is_not_said_to_be_damaged(
    archive: Path, copied_tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = max(archive.rglob("*.bulk"), key=lambda path: path.stat().st_size)
    copy = tmp_path / "again" / path.relative_to(archive)
    open_ = os.open

    def refused(name: str | Path, *how: Any) -> int:
        if Path(name) == copy:
            raise OSError(errno.EMFILE, "Too many open files")
        return open_(name, *how)

    monkeypatch.setattr(os, "open", refused)
    with (
        dicomstudy.open_tables(copied_tables) as tables,
        pytest.raises(BulkError) as caught,
    ):
        tables.to_archive(tmp_path / "again")
    assert (caught.value.code, caught.value.location.source) == ("bulk/unreadable", str(copy))
    assert "damaged" not in str(caught.value)
    assert not copy.exists()


@pytest.mark.parametrize("field", [{"uri": 1}, {"size": "7"}, {"size": 1 << 70}, {"modified": 0.5}])
def test_a_source_of_wrong_kinds_is_a_problem(field: dict[str, Any], tmp_path: Path) -> None:
    archive = create(tmp_path / "archive")
    path = archive.document_path("1.2")
    path.parent.mkdir()
    instance = {"SOPInstanceUID": "1.2.3", "_groups": [], "_source": field}
    whole = {"groups": {}, "series": {"1.1": {"_groups": [], "instances": {"1.2.3": instance}}}}
    path.write_bytes(ion.dumps({"1.2": whole}))
    exported = dicomstudy.export_tables(archive.path, tmp_path / "tables")
    assert [problem.code for problem in exported.problems] == ["study/damaged"]


@pytest.mark.parametrize("name", ["../../x", "instances", "nonsense"])
def test_a_group_of_another_name_is_a_problem(name: str, tmp_path: Path) -> None:
    archive = create(tmp_path / "archive")
    path = archive.document_path("1.2")
    path.parent.mkdir()
    instance = {"SOPInstanceUID": "1.2.3", "_groups": ["a" * 64]}
    groups = {name: {"a" * 64: {"PatientID": "1"}}}
    whole = {"groups": groups, "series": {"1.1": {"instances": {"1.2.3": instance}}}}
    path.write_bytes(ion.dumps({"1.2": whole}))
    before = sorted(tmp_path.iterdir())
    exported = dicomstudy.export_tables(archive.path, tmp_path / "tables")
    assert [problem.code for problem in exported.problems] == ["study/damaged"]
    assert sorted(tmp_path.iterdir()) == sorted([*before, tmp_path / "tables"])
    assert {each.name for each in (tmp_path / "tables").iterdir()} <= {"catalog.json", "lock"}


@pytest.mark.parametrize("key", ["StudyInstanceUID", "SeriesInstanceUID"])
def test_an_instance_of_another_study_is_a_problem(key: str, tmp_path: Path) -> None:
    archive = create(tmp_path / "archive")
    path = archive.document_path("1.2")
    path.parent.mkdir()
    whole = {"groups": {}, "series": {"1.1": {"instances": {"1": {key: "9.9"}}}}}
    path.write_bytes(ion.dumps({"1.2": whole}))
    exported = dicomstudy.export_tables(archive.path, tmp_path / "tables")
    assert [problem.code for problem in exported.problems] == ["study/damaged"]


def test_an_instance_with_two_groups_of_one_name_is_a_problem(tmp_path: Path) -> None:
    archive = create(tmp_path / "archive")
    path = archive.document_path("1.2")
    path.parent.mkdir()
    groups = {"patient": {"a" * 64: {"PatientID": "1"}, "b" * 64: {"PatientName": "2"}}}
    instance = {"SOPInstanceUID": "1.2.3", "_groups": ["a" * 64, "b" * 64]}
    whole = {"groups": groups, "series": {"1.1": {"instances": {"1.2.3": instance}}}}
    path.write_bytes(ion.dumps({"1.2": whole}))
    exported = dicomstudy.export_tables(archive.path, tmp_path / "tables")
    assert [problem.code for problem in exported.problems] == ["tables/ambiguous"]


@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=4))
def test_mutated_files_give_rows_or_errors(at: int, change: bytes) -> None:
    table = pa.table({"digest": ["a", "b"] * 50, "Rows": list(range(100))})
    with TemporaryDirectory() as name:
        path = Path(name) / "1.parquet"
        parquet.write(path, table.schema, [table])
        data = bytearray(path.read_bytes())
        at %= len(data)
        data[at : at + len(change)] = change
        path.write_bytes(data)
        with contextlib.suppress(TableError):
            for rows in parquet.read(path, "patient", table.schema):
                assert rows.schema.names == ["digest", "Rows"]


def test_study_errors_name_the_document(tmp_path: Path) -> None:
    archive = create(tmp_path / "archive")
    path = archive.document_path("1.2")
    path.parent.mkdir()
    instance = {"SOPInstanceUID": "1.2.3", "_groups": ["a" * 64]}
    path.write_bytes(
        ion.dumps({"1.2": {"groups": {}, "series": {"1.1": {"instances": {"1": instance}}}}})
    )
    (problem,) = dicomstudy.export_tables(archive.path, tmp_path / "tables").problems
    assert (problem.code, problem.source) == ("study/missing-group", "1.2")
    assert issubclass(StudyError, DicomStudyError)
