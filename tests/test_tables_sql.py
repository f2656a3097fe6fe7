"""Questions to tables: by SQL, and by readers that are not ours (spec/tables.md)."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from threading import Timer

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

import dicomstudy
from dicomstudy import ion
from dicomstudy.archive import create
from dicomstudy.cli import main
from dicomstudy.errors import TableError
from dicomstudy.tables import questions, sql
from dicomstudy.tables.columns import LABEL
from dicomstudy.tables.result import Result
from fixtures import make
from tests import studies

DEEP = "ContentSequence"


@pytest.fixture
def tables(tables_folder: Path) -> dicomstudy.Tables:
    return dicomstudy.open_tables(tables_folder)


def by_duckdb(tables_folder: Path, name: str) -> tuple[int, Sequence[str]]:
    found = asked(f"SELECT * FROM '{tables_folder}/{name}/*.parquet'")
    return len(found.fetchall()), found.columns


def asked(query: str) -> duckdb.DuckDBPyRelation:
    """What DuckDB alone answers."""
    found = duckdb.sql(query)
    assert found is not None
    return found


def by_pandas(tables_folder: Path, name: str) -> tuple[int, Sequence[str]]:
    frame = pd.read_parquet(tables_folder / name)
    return len(frame), list(frame.columns)


def by_polars(tables_folder: Path, name: str) -> tuple[int, Sequence[str]]:
    frame = pl.read_parquet(tables_folder / name / "*.parquet")
    return len(frame), frame.columns


def by_pyarrow(tables_folder: Path, name: str) -> tuple[int, Sequence[str]]:
    table = ds.dataset(tables_folder / name).to_table()
    return len(table), table.column_names


@pytest.mark.parametrize("read", [by_duckdb, by_pandas, by_polars, by_pyarrow])
def test_readers_that_are_not_ours_read_every_table(
    read: Callable[[Path, str], tuple[int, Sequence[str]]],
    tables_folder: Path,
    tables: dicomstudy.Tables,
) -> None:
    assert len(tables) > 20
    for name, table in tables.items():
        rows, columns = read(tables_folder, name)
        assert rows == len(table), name
        assert list(columns) == table.schema.names, name


def test_readers_that_are_not_ours_see_nested_values(
    tables_folder: Path, tables: dicomstudy.Tables
) -> None:
    """The text of a report, four items deep, by each of them."""
    (tree,) = tables["instances"].to_table(columns=[DEEP])[DEEP].drop_null().to_pylist()
    assert tree is not None
    assert any(item[DEEP] for item in tree)
    glob = f"{tables_folder}/instances/*.parquet"
    query = f"SELECT {DEEP} FROM '{glob}' WHERE {DEEP} IS NOT NULL"
    ((found,),) = asked(query).fetchall()
    assert found == tree
    frame = pl.read_parquet(glob).filter(pl.col(DEEP).is_not_null())
    assert frame[DEEP].to_list() == [tree]
    (seen,) = pd.read_parquet(tables_folder / "instances")[DEEP].dropna()
    assert [item["ValueType"] for item in seen] == [item["ValueType"] for item in tree]


def test_items_nest_as_deep_as_readers_go(tmp_path: Path) -> None:
    archive = create(tmp_path / "archive")
    tree: dict[str, object] = {"TextValue": "leaf", "PixelSpacing": r"1\2"}
    for _ in range(40):
        tree = {DEEP: [tree], "ValueType": "CONTAINER"}
    instance = {"SOPInstanceUID": "1.2.3", **tree}
    path = archive.document_path("1.2")
    path.parent.mkdir()
    whole = {"groups": {}, "series": {"1.1": {"instances": {"1.2.3": instance}}}}
    path.write_bytes(ion.dumps({"1.2": whole}))
    exported = dicomstudy.export_tables(archive.path, tmp_path / "tables")
    assert exported.problems == []
    glob = f"{tmp_path}/tables/instances/*.parquet"
    with dicomstudy.open_tables(tmp_path / "tables") as opened:
        answer = opened.sql(f"SELECT {DEEP} FROM metadata").to_arrow()[DEEP].to_pylist()
        opened.to_archive(tmp_path / "again")
    assert asked(f"SELECT {DEEP} FROM '{glob}'").fetchall() == [(answer[0],)]
    assert pl.read_parquet(glob)[DEEP].to_list() == answer
    assert len(pd.read_parquet(tmp_path / "tables" / "instances")[DEEP][0]) == 1
    assert studies.digests_of(tmp_path / "again") == studies.digests_of(archive.path)


def test_a_group_joins_its_instances_by_one_column(tables_folder: Path, archive: Path) -> None:
    query = f"""
        SELECT count(*) FROM '{tables_folder}/instances/*.parquet' i
        JOIN '{tables_folder}/patient/*.parquet' p ON i.patient_digest = p.digest
    """
    expected = sum(
        any(name == "patient" for _, name, _ in instance.groups)
        for study in dicomstudy.open_archive(archive).values()
        for instance in study.values()
    )
    assert asked(query).fetchall() == [(expected,)]


def test_metadata_has_what_instances_have(archive: Path, tables: dicomstudy.Tables) -> None:
    """One attribute of a group, one of a clustered one, and one of the instances themselves."""
    keys = ["PatientID", "Modality", "SOPClassUID", "SeriesDescription", "StudyDescription"]
    names = ", ".join(keys)
    rows = tables.sql(f"SELECT StudyInstanceUID, key, SOPInstanceUID, {names} FROM metadata")
    found = {
        (study, key or uid): values
        for study, key, uid, *values in (row.values() for row in rows.to_arrow().to_pylist())
    }
    expected = {}
    for uid, study in dicomstudy.open_archive(archive).items():
        for key, instance in study.items():
            attributes = instance.attributes()
            expected[uid, key] = [attributes.get(name) for name in keys]
    assert found == expected


def test_metadata_has_every_column(tables: dicomstudy.Tables) -> None:
    names = set(tables.sql("SELECT * FROM metadata LIMIT 0").to_arrow().column_names)
    left_out = {"digest", "instances", "vrs", "large", "empty", "exact"}
    for name in ("instances", "patient", "generalSeries", "private"):
        assert set(tables[name].schema.names) - left_out <= names
    described = tables.sql("DESCRIBE metadata").to_arrow()["column_name"].to_pylist()
    assert set(described) == names


@pytest.mark.parametrize(
    "query",
    [
        "SELECT count(*) FROM metadata",
        "SELECT count(*) FROM (SELECT * FROM metadata)",
        "SELECT count(*) FROM Metadata m",
        'SELECT count(*) FROM "metadata"',
        "WITH m AS (FROM metadata) SELECT count(*) FROM m",
        "SELECT count(*) FROM instances -- 'quoted\n",
        "SELECT count(*) FROM /* \" */ instances WHERE 'it''s' = 'it''s'",
    ],
)
def test_every_way_to_name_a_table(query: str, tables: dicomstudy.Tables) -> None:
    assert tables.sql(query).to_arrow().column(0).to_pylist() == [len(tables["instances"])]


@pytest.mark.parametrize(
    "query",
    [
        "FROM metadata",
        "SELECT m.* FROM metadata m",
        "SELECT unnest(m) FROM metadata AS m",
        "SELECT unnest(metadata) FROM metadata",
        "WITH m AS (FROM metadata) SELECT m.* FROM m",
        "TABLE metadata",
        "SELECT COLUMNS('.') FROM metadata",
        "SELECT * EXCLUDE (PatientID), PatientID FROM metadata",
        "SELECT unnest(m) FROM main.metadata m",
        "SELECT unnest((m)) FROM memory.main.metadata m",
        "SELECT unnest(m) FROM patient p, metadata m",
        "SELECT unnest(b) FROM metadata a, metadata b",
        "SELECT unnest(x) FROM (FROM metadata) x",
        "FROM query_table('metadata')",
        "FROM query('FROM metadata')",
    ],
)
def test_every_way_to_ask_for_all_columns(query: str, tables: dicomstudy.Tables) -> None:
    found = set(tables.sql(query).to_arrow().column_names)
    assert len(found) > 200
    assert found == set(tables.sql("SELECT * FROM metadata").to_arrow().column_names)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT #3 FROM metadata",
        "SELECT b FROM metadata m(a, b)",
        "SELECT count(*) FROM metadata a NATURAL JOIN metadata b",
        "SELECT CT FROM metadata PIVOT (count(*) FOR Modality IN ('CT')) ORDER BY 1",
        "SELECT PatientID FROM metadata ORDER BY COLUMNS('Number')",
        "SELECT " + "1 + " * 900 + "m.Rows FROM metadata m",
    ],
)
def test_columns_are_there_that_are_not_named(query: str, tables: dicomstudy.Tables) -> None:
    found = tables.sql(query).to_arrow()
    assert found == tables.sql(query.replace("FROM metadata", "FROM (FROM metadata)")).to_arrow()


@pytest.mark.parametrize(
    "query",
    [
        "SELECT Modality, count(*) FROM metadata m GROUP BY ALL ORDER BY ALL",
        "WITH m AS (SELECT PatientID, Modality FROM metadata) SELECT m.Modality FROM m",
        "SELECT DISTINCT unnest([m.Modality]) FROM main.metadata m, range(2) WHERE m.Rows > 1",
    ],
)
def test_no_other_columns_are_read_than_those_that_are_named(
    query: str, tables: dicomstudy.Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    merged = sql._merged

    def see(name: str, tables: Sequence[str]) -> str:
        seen.append(name)
        return merged(name, tables)

    monkeypatch.setattr(sql, "_merged", see)
    tables.sql(query)
    assert 0 < len(seen) <= 3


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("FROM metadata USING SAMPLE 2", 2),
        ("SELECT Modality FROM metadata USING SAMPLE reservoir(2 ROWS)", 2),
        ("FROM metadata TABLESAMPLE 100%", None),
        ("SELECT Modality FROM metadata m TABLESAMPLE 100%", None),
    ],
)
def test_samples_of_tables(query: str, rows: int | None, tables: dicomstudy.Tables) -> None:
    assert len(tables.sql(query)) == (rows or len(tables["instances"]))
    assert len(tables.sql("FROM metadata TABLESAMPLE 50%")) <= len(tables["instances"])


@pytest.mark.parametrize(
    "tree",
    [
        "",
        "[",
        "1",
        '{"key": 1}',
        '{"key": ["a"]}',
        '{"alias": {"a": 1}}',
        '{"type": "BASE_TABLE"}',
        '{"type": "BASE_TABLE", "table_name": "metadata", "schema_name": null}',
        '{"type": "SHOW_REF"}',
        '{"type": "TABLE_FUNCTION", "function": "range"}',
        '{"column_names": 1}',
        '{"column_names": [{"a": 1}]}',
        '{"null_order": "NULLS_LAST", "expression": null}',
    ],
)
def test_a_tree_of_another_form_may_be_about_anything(tree: str) -> None:
    assert questions.parsed(tree, {"instances"}) == (None, True)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT name FROM (SHOW TABLES)",
        "SELECT name FROM (SHOW ALL TABLES)",
        "SELECT table_name FROM information_schema.tables",
        "SELECT view_name FROM duckdb_views() WHERE NOT internal",
        "SELECT tablename FROM pg_catalog.pg_tables UNION ALL SELECT name FROM sqlite_master",
    ],
)
def test_every_table_is_listed(query: str, tables: dicomstudy.Tables) -> None:
    assert set(tables.sql(query).to_arrow().column(0).to_pylist()) == {*tables, "metadata"}


def test_questions_do_not_depend_on_those_before(tables: dicomstudy.Tables) -> None:
    for _ in range(2):
        for name in ("PatientID", "Modality", "Rows"):
            result = tables.sql(f"SELECT {name} FROM metadata")
            assert result.to_arrow().column_names == [name]


@pytest.mark.parametrize(
    ("query", "code", "says"),
    [
        ("SELECT PatientNam FROM metadata", "tables/no-column", "is it PatientName"),
        ("SELECT m.modalty FROM metadata m", "tables/no-column", "is it Modality"),
        ("SELECT PatientNam FROM patient", "tables/no-column", "is it PatientName"),
        ("SELECT p.PatientNam FROM patient p", "tables/no-column", "is it PatientName"),
        ("SELECT * FROM patients", "tables/no-table", "is it patient"),
        ("SELECT * FROM qqq", "tables/no-table", "'qqq'"),
        ("SELECT FROM WHERE", "tables/query", "syntax error"),
        ("SELECT 'a'::INT", "tables/query", "Could not convert"),
        ("", "tables/read-only", "one SELECT"),
        ("SELECT 1; SELECT 2", "tables/read-only", "one SELECT"),
        ("DROP VIEW instances", "tables/read-only", "one SELECT"),
        ("INSERT INTO instances VALUES (1)", "tables/read-only", "one SELECT"),
        ("COPY (SELECT 1) TO 'x.csv'", "tables/read-only", "one SELECT"),
        ("EXPLAIN ANALYZE COPY (SELECT 1) TO 'x.csv'", "tables/read-only", "one SELECT"),
        ("SET threads = 1", "tables/read-only", "one SELECT"),
        ("ATTACH 'x.db'", "tables/read-only", "one SELECT"),
        ("INSTALL httpfs", "tables/read-only", "one SELECT"),
    ],
)
def test_a_wrong_question_says_what_is_wrong(
    query: str, code: str, says: str, tables: dicomstudy.Tables
) -> None:
    with pytest.raises(TableError, match=says) as caught:
        tables.sql(query)
    assert caught.value.code == code


@pytest.mark.parametrize(
    "source",
    [
        "'{other}'",
        "read_csv('{other}')",
        "read_text('{other}')",
        "read_parquet('{other}')",
        "read_text('{catalog}')",
        "glob('{other}')",
        "variable",
    ],
)
def test_nothing_but_the_tables_can_be_read(
    source: str, tables_folder: Path, tables: dicomstudy.Tables, tmp_path: Path
) -> None:
    variable = pa.table({"secret": [1]})
    other = tmp_path / "secret.parquet"
    pq.write_table(variable, other)
    source = source.format(other=other, catalog=tables_folder / "catalog.json")
    tables.sql("SELECT 1")
    with pytest.raises(TableError):
        tables.sql(f"SELECT * FROM {source}")


@pytest.mark.parametrize("source", ["read_text('.tmp/x')", "read_csv('.tmp/x')", "glob('.tmp/*')"])
def test_the_folder_where_it_is_asked_is_not_read(
    source: str, tables: dicomstudy.Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".tmp").mkdir()
    (tmp_path / ".tmp" / "x").write_text("secret,1\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TableError):
        tables.sql(f"SELECT * FROM {source}")


def test_large_questions_go_through_a_folder_that_is_removed(tables: dicomstudy.Tables) -> None:
    query = "SELECT current_setting('temp_directory') AS spill"
    spill = Path(str(tables.sql(query).to_arrow()["spill"][0]))
    assert spill.is_dir()
    assert spill.stat().st_mode & 0o77 == 0
    tables.close()
    assert not spill.exists()


def test_a_damaged_file_is_named(tables_folder: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(tables_folder, tmp_path / "copied")
    (path,) = copied.glob("patient/*.parquet")
    path.write_bytes(b"nothing")
    with dicomstudy.open_tables(copied) as opened, pytest.raises(TableError) as caught:
        opened.sql("SELECT PatientID FROM metadata")
    assert caught.value.code == "tables/damaged"
    assert caught.value.location.source == str(path)


def test_attributes_are_selected_by_keyword(tables: dicomstudy.Tables) -> None:
    found = tables.select(["PatientID", "Modality", "SliceThickness"], where="Modality = 'CT'")
    assert found.column_names == ["PatientID", "Modality", "SliceThickness"]
    assert set(found["Modality"].to_pylist()) == {"CT"}
    assert len(tables.select(["PatientID"])) == len(tables["instances"])
    with pytest.raises(TableError, match="is it Modality"):
        tables.select(["Modalty"])
    with pytest.raises(TableError):
        tables.select(["PatientID"], where="1 = 1); DROP VIEW instances; --")


def test_types_arrive_as_people_expect(tables: dicomstudy.Tables) -> None:
    query = """
        SELECT Modality, StudyDate, StudyTime, PatientID, SliceThickness, SOPInstanceUID
        FROM metadata WHERE StudyDate IS NOT NULL ORDER BY ALL
    """
    result = tables.sql(query)
    frame = result.to_pandas()
    assert isinstance(frame["Modality"].dtype, pd.CategoricalDtype)
    assert isinstance(frame["PatientID"].dtype, pd.CategoricalDtype)
    assert pd.api.types.is_datetime64_any_dtype(frame["StudyDate"].dtype)
    assert pd.api.types.is_float_dtype(frame["SliceThickness"].dtype)
    assert not isinstance(frame["SOPInstanceUID"].dtype, pd.CategoricalDtype)
    by_polars = result.to_polars()
    assert by_polars.schema["StudyDate"] == pl.Date
    assert by_polars.schema["StudyTime"] == pl.Time
    assert by_polars.schema["Modality"] == pl.Categorical
    assert by_polars["StudyDate"].to_list() == result.to_arrow()["StudyDate"].to_pylist()
    patient = tables["studies"].to_table(columns=["StudyDate", "StudyID"]).to_pandas()
    assert isinstance(patient["StudyID"].dtype, pd.CategoricalDtype)
    assert isinstance(patient["StudyDate"].dropna().iloc[0], date)


@pytest.mark.parametrize(
    ("module", "ask", "extra"),
    [
        ("duckdb", lambda tables: tables.sql("SELECT 1"), r"dicomstudy\[sql\]"),
        ("duckdb", lambda tables: tables.select(["PatientID"]), r"dicomstudy\[sql\]"),
        ("polars", lambda tables: tables.sql("SELECT 1").to_polars(), "polars"),
    ],
)
def test_what_is_not_installed_is_named(
    module: str,
    ask: Callable[[dicomstudy.Tables], object],
    extra: str,
    tables: dicomstudy.Tables,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(TableError, match=extra) as caught:
        ask(tables)
    assert caught.value.code == "tables/no-extra"


def test_pandas_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class WithoutPandas:
        def to_pandas(self, **_: object) -> None:
            raise ModuleNotFoundError("no pandas")

    result = Result(pa.table({"a": [1]}))
    monkeypatch.setattr(result, "_table", WithoutPandas())
    with pytest.raises(TableError, match="pip install pandas") as caught:
        result.to_pandas()
    assert caught.value.code == "tables/no-extra"


def test_opening_and_reading_tables_does_without_duckdb(
    tables_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with dicomstudy.open_tables(tables_folder) as opened:
        assert len(opened["patient"].to_table()) == len(opened["patient"])


@pytest.mark.parametrize(
    ("creator", "shown"),
    [
        ("""O'X"; DROP. 1""", """O'X"; DROP. 1"""),
        ("A\0B\n", r"A\x00B\x0a"),
        (r"A\x00B", r"A\x5cx00B"),
    ],
)
def test_names_from_files_are_no_sql(creator: str, shown: str, tmp_path: Path) -> None:
    """A private creator may be anything: its columns can be asked for all the same."""
    private = {
        0x00190010: make.element(0x00190010, "LO", creator),
        0x00191001: make.element(0x00191001, "DS", "1.5"),
    }
    data = make.ct_slice(replace=private)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.dcm").write_bytes(data)
    dicomstudy.convert([tmp_path / "files"], tmp_path / "archive")
    name = f"{shown}:0019xx01_DS"
    with dicomstudy.open_archive(tmp_path / "archive").tables() as opened:
        assert opened.select([name])[name].to_pylist() == [[1.5]]
        quoted = sql.quoted(name)
        result = opened.sql(f"SELECT {quoted} FROM metadata WHERE {quoted}[1] > 1")
        assert result.to_arrow().column_names == [name]
        assert list(result.to_pandas().columns) == result.to_polars().columns == [name]
        assert opened.select(["00190010"])["00190010"].to_pylist() == [creator]
        opened.to_archive(tmp_path / "again")
    assert studies.digests_of(tmp_path / "again") == studies.digests_of(tmp_path / "archive")


ALIKE = ("Philips Imaging DD 001", "PHILIPS IMAGING DD 001")


def with_creators(number: int, creators: Sequence[str]) -> bytes:
    """A file with two private blocks, which are in an item, too."""
    first, second = creators
    private = {
        0x20010010: make.element(0x20010010, "LO", first),
        0x20010011: make.element(0x20010011, "LO", second),
        0x20011001: make.element(0x20011001, "LO", f"{number} {first}"),
        0x20011101: make.element(0x20011101, "LO", f"{number} {second}"),
    }
    item = make.item(b"".join(private.values()))
    references = make.element(0x00081140, "SQ", item)
    return make.ct_slice(number=number, replace={**private, 0x00081140: references})


@pytest.mark.parametrize("names", [("a.dcm", "b.dcm"), ("b.dcm", "a.dcm")])
def test_names_that_differ_in_case_only_are_told_apart(
    names: tuple[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / names[0]).write_bytes(with_creators(1, ALIKE))
    (folder / names[1]).write_bytes(with_creators(2, ALIKE[::-1]))
    dicomstudy.convert([folder], tmp_path / "archive")
    columns = [f"{creator}:2001xx01_LO" for creator in ALIKE]
    expected = [(f"1 {ALIKE[0]}", None), (None, f"2 {ALIKE[1]}")]

    def rows(table: pa.Table, names: Sequence[str]) -> list[tuple[str | None, ...]]:
        assert table.select(names).schema.types == [LABEL, LABEL]
        return sorted(zip(*(table[name].to_pylist() for name in names), strict=True), key=str)

    in_sql = [f"{column}~{hashlib.sha256(column.encode()).hexdigest()[:8]}" for column in columns]
    in_items = "SELECT unnest(ReferencedImageSequence, recursive := true) FROM metadata"
    with dicomstudy.open_archive(tmp_path / "archive").tables() as opened:
        assert rows(opened["instances"].to_table(), columns) == expected
        assert rows(opened.select(columns), columns) == expected
        for query in ("FROM metadata", "FROM instances", in_items):
            assert rows(opened.sql(query).to_arrow(), in_sql) == expected
        for column, suffixed in zip(columns, in_sql, strict=True):
            found = opened.select([column], where=f"{sql.quoted(suffixed)} IS NOT NULL")
            assert (found.column_names, len(found)) == ([column], 1)
            for attributes in ("", "ReferencedImageSequence[1]."):
                with pytest.raises(TableError, match=re.escape(suffixed)):
                    opened.sql(f"SELECT {attributes}{sql.quoted(column)} FROM metadata")
        opened.to_archive(tmp_path / "again")
    assert studies.digests_of(tmp_path / "again") == studies.digests_of(tmp_path / "archive")


RESULT = Result(
    pa.table(
        {
            "name": pa.array(["x", None, "long " * 20]),
            "number": pa.array([1.5, float("nan"), None]),
            "day": pa.array([date(2024, 1, 2), None, None]),
            "bytes": pa.array([b"\0\1", None, None]),
            "list": pa.array([[1, None], None, []]),
            "person": pa.array([{"alphabetic": "A^B", "family": "A"}, None, None]),
        }
    )
)


def test_results_as_text() -> None:
    head, first, second, third = RESULT.to_text()
    assert head.split() == ["name", "number", "day", "bytes", "list", "person"]
    assert first.split() == ["x", "1.5", "2024-01-02", "AAE=", "1,", "A^B"]
    assert second.split() == ["nan"]
    assert third.startswith("long long")
    assert "..." in third
    assert repr(RESULT) == "".join(RESULT.to_text()).rstrip("\n")
    assert len(RESULT) == 3


def test_results_as_csv() -> None:
    head, first, *_ = csv.reader(io.StringIO("".join(RESULT.to_csv())))
    assert head == ["name", "number", "day", "bytes", "list", "person"]
    assert first == ["x", "1.5", "2024-01-02", "AAE=", "[1, null]",
                     '{"alphabetic": "A^B", "family": "A"}']  # fmt: skip


def test_results_as_json() -> None:
    found = json.loads("".join(RESULT.to_json()))
    assert found[0] == {
        "name": "x", "number": 1.5, "day": "2024-01-02", "bytes": "AAE=", "list": [1, None],
        "person": {"alphabetic": "A^B", "family": "A"},
    }  # fmt: skip
    assert found[1]["number"] == "nan"
    assert json.loads("".join(Result(pa.table({"a": pa.array([], "int64")})).to_json())) == []


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("sum(source_size) > 0 AS a", {"a": True}),
        ("sum(x) AS a, sum(x) * 10::HUGEINT ** 20 AS b FROM (VALUES (1), (2)) t(x)",
         {"a": 3, "b": 300000000000000000000}),
        ("1.50::DECIMAL(5, 2) AS a", {"a": "1.50"}),
        ("1 AS a, 2 AS a, 3 AS a_1, 4 AS a", {"a": 1, "a_2": 2, "a_1": 3, "a_3": 4}),
        ("MAP {'CT': 1, 'MR': 2} AS a, MAP {} AS b", {"a": {"CT": 1, "MR": 2}, "b": {}}),
        ("MAP {DATE '2020-01-02': [MAP {1: 'x'}]} AS a", {"a": {"2020-01-02": [{"1": "x"}]}}),
        ("INTERVAL '14 months -3 days 1.5 seconds' AS a", {"a": "P14M-3DT1.5S"}),
        ("[INTERVAL '2 days'] AS a, INTERVAL '0 days' AS b, INTERVAL '-1 hour' AS c",
         {"a": ["P2D"], "b": "PT0S", "c": "PT-3600S"}),
        ("'00000000-0000-0000-0000-000000000001'::UUID AS a",
         {"a": "00000000-0000-0000-0000-000000000001"}),
    ],
)  # fmt: skip
def test_json_has_every_value(query: str, expected: object, tables: dicomstudy.Tables) -> None:
    query = query if " FROM " in query else f"{query} FROM instances LIMIT 1"
    result = tables.sql(f"SELECT {query}")
    assert json.loads("".join(result.to_json())) == [expected]


@pytest.mark.parametrize(
    "value",
    [
        "'infinity'::DATE",
        "'-infinity'::TIMESTAMP",
        "'infinity'::TIMESTAMPTZ",
        "'300000-01-01'::DATE",
        "'10000-01-01'::DATE",
        "['infinity'::DATE]",
        "{'b': 'infinity'::TIMESTAMP}",
    ],
)
def test_moments_that_python_lacks_are_told_of(value: str, tables: dicomstudy.Tables) -> None:
    result = tables.sql(f"SELECT 1 AS b, {value} AS a")
    for shown in (result.to_text, result.to_csv, result.to_json):
        with pytest.raises(TableError, match=r"'a'.*VARCHAR") as raised:
            list(shown())
        assert raised.value.code == "tables/query"
    assert len(result.to_arrow()) == 1
    assert "".join(tables.sql(f"SELECT ({value})::VARCHAR AS a").to_csv()).startswith("a\r\n")


def test_columns_of_one_name_are_told_apart(tables: dicomstudy.Tables, tmp_path: Path) -> None:
    tables.sql("SELECT 1 AS a, 2 AS a").write_parquet(tmp_path / "a.parquet")
    assert pq.read_table(tmp_path / "a.parquet").to_pylist() == [{"a": 1, "a_1": 2}]


def test_sums_are_numbers_in_pandas(tables: dicomstudy.Tables) -> None:
    frame = tables.sql("SELECT sum(source_size) AS bytes FROM instances").to_pandas()
    assert frame["bytes"].dtype == "int64"


def test_a_value_stays_in_its_line() -> None:
    evil = "a\nb\x1b[2J\x7f\x9b31m\u202e"
    result = Result(pa.table({evil: [evil], "list": [[evil, None]]}))
    shown = r"a\nb\x1b[2J\x7f\x9b31m\u202e"
    assert list(result.to_text()) == [
        f"{shown}  list\n", f"{shown}  {shown},\n"
    ]  # fmt: skip
    assert repr(result).count("\n") == 1
    text = "".join(result.to_json())
    assert text.replace("\n", "").isprintable()
    assert json.loads(text) == [{evil: evil, "list": [evil, None]}]


def test_results_as_parquet(tmp_path: Path) -> None:
    RESULT.write_parquet(tmp_path / "a.parquet")
    assert pq.read_table(tmp_path / "a.parquet").num_rows == 3
    with pytest.raises(TableError) as caught:
        RESULT.write_parquet(tmp_path / "no" / "a.parquet")
    assert caught.value.code == "tables/unwritable"


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_the_commands(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "tables"
    assert run("tables", archive, target) == 0
    count = len(dicomstudy.open_archive(archive))
    assert f"{count} studies" in capsys.readouterr().out
    question = "SELECT Modality, count(*) AS n FROM metadata GROUP BY 1 ORDER BY 1"
    answers = []
    for source in (archive, target):
        assert run("query", source, question, "--format", "csv") == 0
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1]
    assert answers[0].startswith("Modality,n\r\nCT,")
    for form in ("table", "json", "csv"):
        assert run("query", target, question, "--format", form) == 0
        shown = capsys.readouterr().out
        path = tmp_path / f"answer.{form}"
        assert run("query", target, question, "--format", form, "--output", path) == 0
        with path.open(newline="") as file:
            assert file.read() == shown
    path = tmp_path / "answer.parquet"
    assert run("query", target, question, "--format", "parquet", "--output", path) == 0
    assert pq.read_table(path).column_names == ["Modality", "n"]
    capsys.readouterr()
    assert run("schema", target) == 0
    shown = capsys.readouterr().out
    (name,) = [line for line in shown.splitlines() if line.startswith("  PatientName ")][:1]
    assert re.split("  +", name.strip()) == [
        "PatientName", "struct", "(0010,0010)", "PN", "Patient's Name", "patient",
    ]  # fmt: skip
    assert shown.startswith("instances  ")


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["query", "{tables}", "SELECT Modalty FROM metadata"], 2, "is it Modality"),
        (["query", "{tables}", "SELECT 1", "--format", "parquet"], 2, "--output"),
        (["query", "{empty}", "SELECT 1"], 2, "no tables"),
        (["schema", "{empty}"], 2, "no tables"),
        (["tables", "{empty}", "{empty}"], 2, "no folder of an archive"),
        (["tables", "{archive}", "{archive}"], 2, "is in the archive"),
    ],
)
def test_wrong_usage(
    arguments: list[str],
    status: int,
    says: str,
    archive: Path,
    tables_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {"tables": tables_folder, "archive": archive, "empty": tmp_path}
    assert run(*(argument.format(**places) for argument in arguments)) == status
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("form", ["table", "csv", "json", "parquet"])
def test_answers_replace_answers_only(
    form: str, tables_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def ask(output: Path) -> int:
        query = "SELECT 'ä' AS a" if output.name == "answer" else "SELECT error('was asked')"
        return run("query", tables_folder, query, "--format", form, "--output", output)

    original = tmp_path / "original.dcm"
    ((_, data),) = make.study(1)
    original.write_bytes(data)
    for output in (original, tables_folder / "new", tmp_path / "no" / "answer"):
        assert ask(output) == 2
        assert "--output" in capsys.readouterr().err
    assert original.read_bytes() == data
    assert ask(tmp_path / "answer") == 0
    assert ask(tmp_path / "answer") == 0


@pytest.mark.parametrize("form", ["table", "parquet"])
def test_an_answer_is_written_over_no_archive_or_tables(
    form: str,
    archive: Path,
    tables_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other, others = tmp_path / "archive", tmp_path / "tables"
    create(other)
    shutil.copytree(tables_folder, others)
    (tmp_path / "link.txt").symlink_to(other / "archive.ion")
    (tmp_path / "of.csv").symlink_to(others / "catalog.json")
    for name in ("program.py", "notes.md"):
        (tmp_path / name).write_text("text")
    before = studies.state_of(tmp_path)
    refused = [
        other / "archive.ion",
        other / "new.csv",
        tmp_path / "link.txt",
        others / "catalog.json",
        others / "new.parquet",
        others / "instances" / "new.parquet",
        tmp_path / "of.csv",
        tmp_path / "program.py",
        tmp_path / "notes.md",
    ]
    for source in (archive, tables_folder):
        for output in refused:
            query = ("query", source, "SELECT 1", "--format", form, "--output", output)
            assert run(*query) == 2
            assert "--output" in capsys.readouterr().err
    assert studies.state_of(tmp_path) == before


@pytest.mark.parametrize("form", ["table", "csv", "json", "parquet"])
def test_what_may_be_an_earlier_answer_is_replaced(
    form: str, tables_folder: Path, tmp_path: Path
) -> None:
    for name in ("a", "a.csv", "a.json", "a.TXT"):
        path = tmp_path / name
        path.write_text("text")
        expected = 2 if form == "parquet" else 0
        query = ("query", tables_folder, "SELECT 1 AS a", "--format", form, "--output", path)
        assert run(*query) == expected
        assert (path.read_text() == "text") == (form == "parquet")
    for name, start in (("a.parquet", b"PAR1"), ("a.py", b"")):
        path = tmp_path / name
        path.write_bytes(start)
        query = ("query", tables_folder, "SELECT 1 AS a", "--format", form, "--output", path)
        assert run(*query) == 0
        assert path.read_bytes() not in {b"", b"PAR1"}


@pytest.mark.parametrize("seconds", [0.5, 1.5])
def test_ctrl_c_ends_a_question(
    seconds: float, tables_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = ", ".join(f"range(100000) t{number}" for number in range(4))
    interrupt = Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    interrupt.start()
    started = time.monotonic()
    assert run("query", tables_folder, f"SELECT count(*) FROM {tables} WHERE random() > 2") == 130
    assert time.monotonic() - started < 30
    assert capsys.readouterr().err == "interrupted\n"


def test_a_damaged_document_is_told_with_the_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(2):
        studies.write_files(tmp_path / "files" / f"{number}", make.study(2, name=f"s{number}"))
    dicomstudy.convert([tmp_path / "files"], tmp_path / "archive")
    first, _ = dicomstudy.open_archive(tmp_path / "archive").documents()
    first.write_bytes(b"nothing")
    assert run("tables", tmp_path / "archive", tmp_path / "tables") == 1
    assert "study/not-a-study" in capsys.readouterr().err
    assert run("query", tmp_path / "archive", "SELECT count(*) AS n FROM studies") == 1
    captured = capsys.readouterr()
    assert captured.out.split() == ["n", "1"]
    assert "study/not-a-study" in captured.err


def test_what_is_shown_moves_no_cursor(
    tables_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("query", tables_folder, "SELECT chr(27) || '[2J' AS evil") == 0
    assert "\x1b" not in capsys.readouterr().out
