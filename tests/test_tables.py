"""An archive ↔ its tables: spec/tables.md, the laws, the folder and the errors."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dicomstudy
from dicomstudy import ion
from dicomstudy.archive import create
from dicomstudy.errors import (
    ArchiveError,
    BulkError,
    DicomStudyError,
    StudyError,
    TableError,
)
from dicomstudy.folder import locked
from dicomstudy.grouping import Batch
from dicomstudy.tables import catalog, export, parquet
from dicomstudy.tables.star import Tabulator
from fixtures import make
from tests import studies
from tests.samples import chance_of
from tests.strategies import DEFINITIONS

PART_TABLES = ["instances", "series", "studies", "frames", "bulk"]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fixtures as an archive."""
    folder = tmp_path_factory.mktemp("tables")
    files = studies.write_fixtures(folder / "files")
    dicomstudy.convert([files], folder / "archive")
    return folder / "archive"


@pytest.fixture(scope="module")
def made(archive: Path) -> Path:
    """Its tables, which no test changes."""
    dicomstudy.export_tables(archive, archive.parent / "tables")
    return archive.parent / "tables"


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Path:
    """Its tables, to be damaged."""
    return shutil.copytree(made, tmp_path / "copied")


def rows_of(folder: Path) -> dict[str, list[str]]:
    """All rows of all tables in some order, without nulls."""
    found = {}
    with dicomstudy.open_tables(folder) as tables:
        for name, table in tables.items():
            rows = table.to_table().to_pylist()
            found[name] = sorted(
                repr(
                    sorted((key, _plain(value)) for key, value in row.items() if value is not None)
                )
                for row in rows
            )
    return found


def _plain(value: object) -> object:
    """A value without fields that are null, which come with other studies."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in sorted(value.items()) if item is not None}
    return value


def documents_of(archive: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in dicomstudy.open_archive(archive).documents()}


def test_documents_come_back_and_files_from_them(archive: Path, made: Path, tmp_path: Path) -> None:
    with dicomstudy.open_tables(made) as tables:
        assert tables.to_archive(tmp_path / "again") == len(dicomstudy.open_archive(archive))
    assert studies.digests_of(tmp_path / "again") == studies.digests_of(archive)
    verified = dicomstudy.verify(tmp_path / "again")
    assert verified.problems == []
    assert verified.instances > 50
    shutil.rmtree(archive.parent / "restored", ignore_errors=True)
    for name in (archive, tmp_path / "again"):
        dicomstudy.restore(name, tmp_path / f"files of {name.name}")
    shutil.rmtree(tmp_path / f"files of {archive.name}" / "quarantine")
    restored = studies.state_of(tmp_path / "files of again")
    assert restored == studies.state_of(tmp_path / f"files of {archive.name}")


def test_documents_come_back_byte_for_byte(archive: Path, made: Path, tmp_path: Path) -> None:
    with dicomstudy.open_tables(made) as tables:
        tables.to_archive(tmp_path / "again")
    again, before = documents_of(tmp_path / "again"), documents_of(archive)
    different = [name for name in before if again[name] != before[name]]
    assert len(different) <= 2  # an item whose attributes are not in the order of tags


def test_values_that_stay_in_their_files_are_found_again(tmp_path: Path) -> None:
    files = studies.write_fixtures(tmp_path / "files")
    dicomstudy.convert([files], tmp_path / "archive", bulk="reference")
    with dicomstudy.open_archive(tmp_path / "archive").tables() as tables:
        tables.to_archive(tmp_path / "again")
    assert studies.digests_of(tmp_path / "again") == studies.digests_of(tmp_path / "archive")
    assert dicomstudy.verify(tmp_path / "again").problems == []


@pytest.mark.timeout(600)
def test_real_archives_come_back(shared: Path, tmp_path: Path) -> None:
    report = dicomstudy.convert([shared / "corpus"], tmp_path / "archive")
    exported = dicomstudy.export_tables(tmp_path / "archive", tmp_path / "tables")
    assert (exported.studies, exported.instances) == (report.studies, report.instances)
    assert exported.problems == []
    with dicomstudy.open_tables(tmp_path / "tables") as tables:
        tables.to_archive(tmp_path / "again")
    assert studies.digests_of(tmp_path / "again") == studies.digests_of(tmp_path / "archive")
    assert dicomstudy.verify(tmp_path / "again").problems == []


@given(studies.batches())
def test_any_study_comes_back(batch: Batch) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        digest = put(create(folder / "archive"), "1.2", batch)
        dicomstudy.export_tables(folder / "archive", folder / "tables")
        with dicomstudy.open_tables(folder / "tables") as tables:
            tables.to_archive(folder / "again")
        assert studies.digests_of(folder / "again") == {"1.2": digest}


def put(archive: dicomstudy.Archive, uid: str, batch: Batch) -> str:
    """Put the document of a batch into an archive; its digest."""
    path = archive.document_path(uid)
    path.parent.mkdir(exist_ok=True)
    studies.write_document(path, batch, study=uid)
    return archive[uid].digest


def test_every_instance_has_a_row_and_every_group_one(archive: Path, made: Path) -> None:
    expected: dict[str, dict[str, int]] = {}
    instances = 0
    for study in dicomstudy.open_archive(archive).values():
        for instance in study.values():
            instances += 1
            for digest, name, _ in instance.groups:
                counts = expected.setdefault(name, {})
                counts[digest] = counts.get(digest, 0) + 1
    with dicomstudy.open_tables(made) as tables:
        assert len(tables["instances"]) == instances
        assert set(tables) - set(PART_TABLES) == expected.keys()
        for name, counts in expected.items():
            rows = tables[name].to_table(columns=["digest", "instances"]).to_pylist()
            assert len(rows) == len(counts)
            assert {row["digest"]: row["instances"] for row in rows} == counts


def test_series_and_studies_count_what_is_there(archive: Path, made: Path) -> None:
    opened = dicomstudy.open_archive(archive)
    with dicomstudy.open_tables(made) as tables:
        rows = tables["studies"].to_table().to_pylist()
        assert [str(row["StudyInstanceUID"]) for row in rows] == sorted(opened)
        for row in rows:
            study = opened[row["StudyInstanceUID"]]
            assert row["NumberOfStudyRelatedInstances"] == len(study)
            assert row["NumberOfStudyRelatedSeries"] == len(study.series)
            modalities = {i.attributes().get("Modality") for i in study.values()} - {None, ""}
            assert row["ModalitiesInStudy"] == sorted(str(each) for each in modalities)
            assert row["first_date"] is None or row["first_date"] <= row["last_date"]
        for row in tables["series"].to_table().to_pylist():
            keys = opened[row["StudyInstanceUID"]].series[row["SeriesInstanceUID"]]
            assert row["NumberOfSeriesRelatedInstances"] == len(keys)


def test_frames_lie_where_their_table_says(archive: Path, made: Path) -> None:
    opened = dicomstudy.open_archive(archive)
    with dicomstudy.open_tables(made) as tables:
        rows = tables["frames"].to_table().to_pylist()
    told = [row for row in rows if row["fragment_offsets"] is not None]
    assert len(told) > 5
    for row in told:
        instance = opened[row["StudyInstanceUID"]][row["key"] or row["SOPInstanceUID"]]
        spans = instance.frame_spans()[row["FrameNumber"] - 1]
        value = b"".join(instance._read(spans.reference))
        ranges = zip(row["fragment_offsets"], row["fragment_lengths"], strict=True)
        frame = b"".join(value[offset : offset + length] for offset, length in ranges)
        assert frame == instance.frame(row["FrameNumber"])


def test_functional_groups_are_flattened(shared: Path, tmp_path: Path) -> None:
    dicomstudy.convert([shared / "corpus" / "qa_enh"], tmp_path / "archive")
    checked = 0
    with dicomstudy.open_archive(tmp_path / "archive").tables() as tables:
        rows = tables["frames"].to_table().to_pylist()
    archive = dicomstudy.open_archive(tmp_path / "archive")
    for row in rows:
        instance = archive[row["StudyInstanceUID"]][row["key"] or row["SOPInstanceUID"]]
        frames = instance.attributes().get("PerFrameFunctionalGroupsSequence") or []
        for group in frames[row["FrameNumber"] - 1 : row["FrameNumber"]]:
            for item in group.get("PlanePositionSequence") or ():
                position = [float(n) for n in item["ImagePositionPatient"].split("\\")]
                assert row["ImagePositionPatient"] == position
                checked += 1
    assert checked > 10


def test_files_are_made_to_be_read_fast(made: Path) -> None:
    with dicomstudy.open_tables(made) as tables:
        (path,) = tables["instances"].files
        names = tables["instances"].schema.names
    group = pq.ParquetFile(path).metadata.row_group(0)
    columns = {group.column(at).path_in_schema: group.column(at) for at in range(group.num_columns)}
    uid = columns["SOPInstanceUID"]
    assert uid.compression == "ZSTD"
    assert uid.is_stats_set
    assert "RLE_DICTIONARY" in columns["StudyInstanceUID"].encodings
    assert "RLE_DICTIONARY" not in uid.encodings
    assert names[:3] == ["StudyInstanceUID", "SeriesInstanceUID", "key"]
    rows = pq.read_table(path, columns=["StudyInstanceUID", "SeriesInstanceUID"]).to_pylist()
    keys = [tuple(row.values()) for row in rows]
    assert keys == sorted(keys)


@pytest.mark.skipif(not parquet._HAS_BLOOM_FILTERS, reason="this pyarrow writes no bloom filters")
def test_uids_have_bloom_filters(made: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    with dicomstudy.open_tables(made) as tables:
        (path,) = tables["instances"].files
    rows = duckdb.sql(f"SELECT path_in_schema, bloom_filter_length FROM parquet_metadata('{path}')")
    filtered = {name for name, length in rows.fetchall() if length}
    assert filtered == {"SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"}


def add_study(archive: Path, number: int, instances: int) -> Path:
    """Add instances of study `number`; its document."""
    files = archive.parent / f"files {number}"
    shutil.rmtree(files, ignore_errors=True)
    studies.write_files(files, make.study(instances, series=2, name=f"study {number}"))
    dicomstudy.convert([files], archive)
    some = next(files.rglob("*.dcm"))
    return dicomstudy.open_archive(archive).document_path(pydicom.dcmread(some).StudyInstanceUID)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts, row groups and spools of a few rows, so that small archives have many."""
    monkeypatch.setattr(export, "FILE_ROWS", 8)
    monkeypatch.setattr(parquet, "GROUP_ROWS", 3)
    monkeypatch.setattr(parquet, "SPOOL_CELLS", 200)
    monkeypatch.setattr(export, "SPOOL_CELLS", 200)


@pytest.mark.usefixtures("small_parts")
def test_tables_stay_in_step(tmp_path: Path) -> None:
    archive, tables = tmp_path / "archive", tmp_path / "tables"
    chance = chance_of(3)
    create(archive)
    sizes: dict[int, int] = {}
    documents: dict[int, Path] = {}
    for turn in range(14):
        number = chance.randrange(6)
        if number in sizes and chance.random() < 0.4:
            documents[number].unlink()
            del sizes[number]
        else:
            sizes[number] = sizes.get(number, 0) + chance.randrange(1, 6)
            documents[number] = add_study(archive, number, sizes[number])
        exported = dicomstudy.export_tables(archive, tables)
        assert exported.instances == sum(sizes.values()), turn
        fresh = tmp_path / f"fresh {turn}"
        dicomstudy.export_tables(archive, fresh)
        assert rows_of(tables) == rows_of(fresh), turn
        assert_consistent(tables)
    with dicomstudy.open_tables(tables) as opened:
        opened.to_archive(tmp_path / "again")
    assert documents_of(tmp_path / "again") == documents_of(archive)


def assert_consistent(folder: Path) -> None:
    """All files that the catalog names are there, of one schema, and no others."""
    found = catalog.read(folder, DEFINITIONS)
    paths = set(found.paths(folder))
    assert set(folder.glob("*/*.parquet")) == paths
    for name, table in found.tables.items():
        for number, file in table.files.items():
            read = pq.ParquetFile(catalog.path_of(folder, name, number))
            assert read.schema_arrow.equals(table.schema), name
            assert [field.metadata for field in read.schema_arrow] == [
                field.metadata for field in table.schema
            ]
            assert read.metadata.num_rows == file.rows
    for part in found.parts:
        assert part.first <= part.last
    firsts = [part.first for part in found.parts]
    assert firsts == sorted(firsts)


def test_a_run_without_change_writes_nothing(archive: Path, copied: Path) -> None:
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in copied.rglob("*.*")}
    exported = dicomstudy.export_tables(archive, copied)
    assert (exported.added, exported.replaced, exported.removed) == (0, 0, 0)
    assert exported.bytes_out == 0
    after = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in copied.rglob("*.*")}
    assert after == before


@pytest.mark.usefixtures("small_parts")
def test_parts_without_change_are_left_alone(tmp_path: Path) -> None:
    archive, tables = tmp_path / "archive", tmp_path / "tables"
    documents = [add_study(archive, number, 7) for number in range(5)]
    dicomstudy.export_tables(archive, tables)
    before = set(tables.glob("instances/*.parquet"))
    assert len(before) == 5
    add_study(archive, 2, 8)
    exported = dicomstudy.export_tables(archive, tables)
    assert (exported.added, exported.replaced, exported.removed) == (0, 1, 0)
    assert len(before & set(tables.glob("instances/*.parquet"))) == 4
    documents[0].unlink()
    exported = dicomstudy.export_tables(archive, tables)
    assert (exported.added, exported.replaced, exported.removed) == (0, 0, 1)
    assert exported.studies == 4


class Killed(BaseException):
    """As if the process was killed."""


@pytest.mark.parametrize("moment", range(6))
def test_a_run_that_is_stopped_leaves_what_was(
    moment: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, tables = tmp_path / "archive", tmp_path / "tables"
    document = add_study(archive, 0, 4)
    dicomstudy.export_tables(archive, tables)
    before = rows_of(tables)
    document.unlink()
    add_study(archive, 1, 3)
    with monkeypatch.context() as patch:
        _stop_at(moment, patch, first=False)
        with pytest.raises(Killed):
            dicomstudy.export_tables(archive, tables)
    assert rows_of(tables) == before
    dicomstudy.export_tables(archive, tables)
    dicomstudy.export_tables(archive, tmp_path / "fresh")
    assert rows_of(tables) == rows_of(tmp_path / "fresh")
    assert_consistent(tables)
    assert not (tables / "incoming").exists()


@pytest.mark.parametrize("moment", range(6))
def test_a_first_run_that_is_stopped_can_be_run_again(
    moment: int, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        _stop_at(moment, patch, first=True)
        with pytest.raises(Killed):
            dicomstudy.export_tables(archive, tmp_path / "tables")
    dicomstudy.export_tables(archive, tmp_path / "tables")
    assert_consistent(tmp_path / "tables")


def test_files_of_others_are_left_alone(archive: Path, copied: Path) -> None:
    mine = copied / "patient" / "mine.parquet"
    mine.write_bytes(b"mine")
    dicomstudy.export_tables(archive, copied)
    assert mine.read_bytes() == b"mine"


def _stop_at(moment: int, patch: pytest.MonkeyPatch, *, first: bool) -> None:
    """Stop while rows are made, while files are written, named, or before the catalog is."""
    if moment == 0:
        patch.setattr(Tabulator, "add", _killer(0, Tabulator.add))
    elif moment < 3:
        patch.setattr(export, "write", _killer(3 * moment, parquet.write))
    elif moment < 5:
        patch.setattr(Path, "rename", _killer(4 * moment - 12, Path.rename))
    else:
        patch.setattr(catalog, "write", _killer(1 if first else 0, catalog.write))


def _killer(after: int, function: Callable[..., Any]) -> Callable[..., Any]:
    calls = iter(range(after))

    def call(*arguments: Any, **options: Any) -> Any:
        if next(calls, None) is None:
            raise Killed
        return function(*arguments, **options)

    return call


def test_a_damaged_document_is_a_problem_and_no_more(tmp_path: Path) -> None:
    archive, tables = tmp_path / "archive", tmp_path / "tables"
    first, second, third = (add_study(archive, number, 3) for number in range(3))
    dicomstudy.export_tables(archive, tables)
    first.write_bytes(b"nothing")
    data = bytearray(second.read_bytes())
    data[len(data) // 2] ^= 0xFF
    second.write_bytes(data)
    exported = dicomstudy.export_tables(archive, tables)
    assert (exported.studies, exported.removed) == (1, 2)
    assert [problem.code for problem in exported.problems] == ["study/not-a-study", "study/damaged"]
    with dicomstudy.open_tables(tables) as opened:
        uids = opened["studies"].to_table()["StudyInstanceUID"].to_pylist()
    assert [third.name] == [f"{uid}.ion.zst" for uid in uids]
    dicomstudy.export_tables(archive, tmp_path / "fresh")
    assert rows_of(tables) == rows_of(tmp_path / "fresh")


def test_an_archive_without_studies_has_no_tables(tmp_path: Path) -> None:
    create(tmp_path / "archive")
    exported = dicomstudy.export_tables(tmp_path / "archive", tmp_path / "tables")
    assert (exported.studies, exported.instances, exported.tables) == (0, 0, 0)
    with dicomstudy.open_tables(tmp_path / "tables") as tables:
        assert list(tables) == []
        with pytest.raises(TableError) as caught:
            tables.sql("SELECT PatientID FROM metadata")
        assert caught.value.code == "tables/no-table"
        assert tables.to_archive(tmp_path / "again") == 0
    assert len(dicomstudy.open_archive(tmp_path / "again")) == 0


def test_the_archive_gives_tables_that_go_when_they_are_closed(archive: Path) -> None:
    tables = dicomstudy.open_archive(archive).tables()
    assert len(tables["studies"]) == len(dicomstudy.open_archive(archive))
    assert tables.path.is_dir()
    tables.close()
    assert not tables.path.exists()


def test_a_table_gives_columns_and_rows(made: Path) -> None:
    with dicomstudy.open_tables(made) as tables:
        women = tables["patient"].to_table(
            columns=["PatientID", "PatientSex"], filter=pc.field("PatientSex") == "F"
        )
        everyone = tables["patient"].to_table()
    assert women.column_names == ["PatientID", "PatientSex"]
    assert set(women["PatientSex"].to_pylist()) == {"F"}
    assert 0 < len(women) < len(everyone) == len(tables["patient"])


def test_a_wrong_column_gets_the_nearest(made: Path) -> None:
    with dicomstudy.open_tables(made) as tables:
        with pytest.raises(TableError, match="is it PatientName") as caught:
            tables["patient"].to_table(columns=["PatientNam"])
        assert caught.value.code == "tables/no-column"
        with pytest.raises(TableError) as caught:
            tables["patient"].to_table(filter=pc.field("Nothing") == 1)
        assert caught.value.code == "tables/query"


def test_columns_say_what_they_are(made: Path) -> None:
    with dicomstudy.open_tables(made) as tables:
        facts = {(each.table, each.column): each[2:] for each in tables.columns()}
    assert facts["patient", "PatientName"] == (
        "struct", "00100010", "PN", "Patient's Name", "patient",
    )  # fmt: skip
    assert facts["series", "Modality"] == (
        "categorical", "00080060", "CS", "Modality", "generalSeries",
    )  # fmt: skip
    assert facts["instances", "InstanceNumber"] == (
        "int64", "00200013", "IS", "Instance Number", "",
    )  # fmt: skip
    assert facts["instances", "patient_digest"] == ("string", "", "", "", "")


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
    change: Callable[[Path], object], code: str, copied: Path, archive: Path, tmp_path: Path
) -> None:
    path = damaged(copied, "patient", change)
    asked: list[Callable[[dicomstudy.Tables], object]] = [
        lambda tables: tables["patient"].to_table(),
        lambda tables: tables["patient"].check(),
        lambda tables: tables.to_archive(tmp_path / "again"),
    ]
    for ask in asked:
        with dicomstudy.open_tables(copied) as tables, pytest.raises(TableError) as caught:
            ask(tables)
        assert caught.value.code == code
        assert caught.value.location.source == str(path)
    document = dicomstudy.open_archive(archive).documents()
    assert next(iter(document)).exists()


def rewritten(path: Path, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    """Replace the rows of a file."""
    table = pq.read_table(path)
    pq.write_table(pa.Table.from_pylist(change(table.to_pylist()), schema=table.schema), path)


def test_a_missing_group_is_named_with_file_and_row(copied: Path, tmp_path: Path) -> None:
    damaged(copied, "patient", lambda path: rewritten(path, lambda rows: rows[1:]))
    with dicomstudy.open_tables(copied) as tables, pytest.raises(TableError) as caught:
        tables.to_archive(tmp_path / "again")
    assert caught.value.code == "tables/missing-group"
    source = caught.value.location.source
    assert source is not None
    path, _, row = source.partition(", row ")
    digest = pq.read_table(path)["patient_digest"][int(row)].as_py()
    assert digest in caught.value.message
    assert "the table patient" in caught.value.message


def test_a_group_that_was_changed_is_named_with_file_and_row(copied: Path, tmp_path: Path) -> None:
    def change(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [*rows[:2], {**rows[2], "PatientID": "another"}, *rows[3:]]

    path = damaged(copied, "patient", lambda path: rewritten(path, change))
    with dicomstudy.open_tables(copied) as tables, pytest.raises(TableError) as caught:
        tables.to_archive(tmp_path / "again")
    assert caught.value.code == "tables/group-digest"
    assert caught.value.location.source == f"{path}, row 2"


@pytest.mark.parametrize("column", ["exact", "empty"])
def test_a_row_that_contradicts_itself_is_named(column: str, copied: Path, tmp_path: Path) -> None:
    wrong = {"exact": ion.dumps({"A[3].B": 1}), "empty": ["A[3].B"]}[column]

    def change(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**rows[0], column: wrong}, *rows[1:]]

    path = damaged(copied, "instances", lambda path: rewritten(path, change))
    with dicomstudy.open_tables(copied) as tables, pytest.raises(TableError) as caught:
        tables.to_archive(tmp_path / "again")
    assert caught.value.code == "tables/damaged"
    assert caught.value.location.source == f"{path}, row 0"


@pytest.mark.parametrize(("table", "key"), [("patient", "digest"), ("series", "StudyInstanceUID")])
def test_a_row_without_its_key_is_an_error(
    table: str, key: str, copied: Path, archive: Path, tmp_path: Path
) -> None:
    def change(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**rows[0], key: None}, *rows[1:]]

    path = damaged(copied, table, lambda path: rewritten(path, change))
    changed = shutil.copytree(archive, tmp_path / "changed")
    next(changed.glob("studies/*/*.zst")).unlink()
    with pytest.raises(TableError) as caught:
        dicomstudy.export_tables(changed, copied)
    assert caught.value.code == "tables/damaged"
    assert caught.value.location.source == str(path)


def test_bulk_is_taken_from_where_the_user_says(
    archive: Path, copied: Path, tmp_path: Path
) -> None:
    found = json.loads((copied / "catalog.json").read_text())
    found["archive"] = str(tmp_path / "moved")
    (copied / "catalog.json").write_text(json.dumps(found))
    with dicomstudy.open_tables(copied) as tables:
        with pytest.raises(BulkError) as caught:
            tables.to_archive(tmp_path / "without")
        assert caught.value.code == "bulk/missing"
        tables.to_archive(tmp_path / "again", bulk=archive)
    assert dicomstudy.verify(tmp_path / "again").problems == []


def test_a_bulk_file_that_was_cut_off_is_an_error(
    archive: Path, made: Path, tmp_path: Path
) -> None:
    moved = shutil.copytree(archive, tmp_path / "moved")
    for path in moved.glob("studies/*/*.bulk"):
        path.write_bytes(path.read_bytes()[:-1])
    with dicomstudy.open_tables(made) as tables, pytest.raises(BulkError) as caught:
        tables.to_archive(tmp_path / "again", bulk=moved)
    assert caught.value.code == "bulk/truncated"


def test_an_archive_with_studies_is_not_written_over(archive: Path, made: Path) -> None:
    before = studies.state_of(archive)
    with dicomstudy.open_tables(made) as tables, pytest.raises(ArchiveError) as caught:
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
    change: Callable[[Any], Any], code: str, copied: Path, archive: Path
) -> None:
    path = copied / "catalog.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    for use in (dicomstudy.open_tables, lambda path: dicomstudy.export_tables(archive, path)):
        with pytest.raises(TableError) as caught:
            use(copied)
        assert caught.value.code == code


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
def test_a_catalog_that_is_no_json_is_damaged(content: bytes, copied: Path) -> None:
    (copied / "catalog.json").write_bytes(content)
    with pytest.raises(TableError) as caught:
        dicomstudy.open_tables(copied)
    assert caught.value.code == "tables/damaged"


def test_a_schema_that_is_none_is_damaged(copied: Path) -> None:
    value = json.loads((copied / "catalog.json").read_text())
    value["tables"]["patient"]["schema"] = "AAAA"
    (copied / "catalog.json").write_text(json.dumps(value))
    with dicomstudy.open_tables(copied) as tables, pytest.raises(TableError) as caught:
        _ = tables["patient"].schema
    assert caught.value.code == "tables/damaged"


def test_columns_that_are_not_of_their_attribute_are_refused(copied: Path, archive: Path) -> None:
    value = json.loads((copied / "catalog.json").read_text())
    field = pa.field("Rows", pa.string(), metadata={"key": "Rows", "vr": "US", "form": "typed"})
    message = catalog.Table.of(pa.schema([field])).message
    value["tables"]["patient"]["schema"] = base64.b64encode(message).decode()
    (copied / "catalog.json").write_text(json.dumps(value))
    with pytest.raises(TableError) as caught:
        dicomstudy.export_tables(archive, copied)
    assert caught.value.code == "tables/schema"


def test_a_folder_of_something_else_is_left_alone(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(TableError) as caught:
        dicomstudy.export_tables(archive, tmp_path)
    assert caught.value.code == "tables/not-empty"
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
    with pytest.raises(TableError) as caught:
        dicomstudy.open_tables(tmp_path)
    assert caught.value.code == "tables/not-tables"


def test_two_runs_never_write_at_once(archive: Path, copied: Path) -> None:
    with locked(copied), pytest.raises(ArchiveError) as caught:
        dicomstudy.export_tables(archive, copied)
    assert caught.value.code == "archive/locked"


def test_a_destination_that_cannot_be_made_is_an_error(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ArchiveError) as caught:
        dicomstudy.export_tables(archive, tmp_path / "file" / "tables")
    assert caught.value.code == "archive/unwritable"


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
