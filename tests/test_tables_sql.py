"""Questions to tables by SQL, and columns by their keyword (spec/tables.md, "SQL")."""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import dicomstudy
from dicomstudy.errors import TableError
from dicomstudy.tables import questions, sql
from dicomstudy.tables.columns import LABEL
from dicomstudy.tables.result import Result
from fixtures import make
from tests import studies


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
        ("WITH x AS (COPY (SELECT 1) TO '{file}') SELECT 1", "tables/read-only", "one SELECT"),
        (
            "FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
            "tables/read-only",
            "one SELECT",
        ),
        (
            "FROM query('WITH x AS (CO' || 'PY (SELECT 1) TO ''{file}'') FROM x')",
            "tables/read-only",
            "one SELECT",
        ),
        (
            "FROM query('WITH x AS (COPY (SELECT 1) TO ''{file}'') FROM x')",
            "tables/read-only",
            "one SELECT",
        ),
        (
            "WITH x AS (COPY (SELECT 1) TO '{file}') FROM x PIVOT (count(*) FOR a IN (1))",
            "tables/read-only",
            "one SELECT",
        ),
        (
            "SELECT 1 WHERE EXISTS (WITH x AS (COPY (SELECT 1) TO '{file}') FROM x)",
            "tables/read-only",
            "one SELECT",
        ),
    ],
)
def test_a_wrong_question_says_what_is_wrong(
    query: str, code: str, says: str, tables: dicomstudy.Tables
) -> None:
    (file,) = tables["patient"].files
    before = file.read_bytes()
    with pytest.raises(TableError, match=says) as caught:
        tables.sql(query.replace("{file}", str(file)))
    assert caught.value.code == code
    assert file.read_bytes() == before


@pytest.mark.parametrize("tree", ["", "[", '{"error": true}'])
def test_of_what_is_not_taken_apart_words_tell_whether_it_writes(tree: str) -> None:
    assert questions.is_reading("PIVOT instances ON Modality", tree)
    for query in ("WITH x AS (COPY a TO b) PIVOT x ON c", "pivot query('copy a to b') on c"):
        assert not questions.is_reading(query, tree)


@pytest.mark.parametrize("name", ["PatientID=1", "digest=2", "a*", "what?", "a[1]", "b\\", "it's"])
def test_the_name_of_a_folder_means_nothing(
    name: str, tables_folder: Path, tables: dicomstudy.Tables, tmp_path: Path
) -> None:
    """Not the value of a column, nor a pattern of other names."""
    asked = "SELECT PatientID, Modality FROM metadata ORDER BY ALL"
    for folder in (name, "ab", "whatx", "a1"):
        shutil.copytree(tables_folder, tmp_path / folder)
    with dicomstudy.open_tables(tmp_path / name) as moved:
        assert moved.sql(asked).to_arrow().equals(tables.sql(asked).to_arrow())


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


def is_said_to_be_damaged(path: Path, query: str) -> bool:
    """Whether the answer to a question is that a file of the tables is damaged."""
    with dicomstudy.open_tables(path.parents[1]) as opened, pytest.raises(TableError) as caught:
        opened.sql(query)
    return (caught.value.code, caught.value.location.source) == ("tables/damaged", str(path))


def test_a_damaged_file_is_named(copied_tables: Path) -> None:
    (path,) = copied_tables.glob("patient/*.parquet")
    path.write_bytes(b"nothing")
    assert is_said_to_be_damaged(path, "SELECT PatientID FROM metadata")


def test_a_file_that_only_duckdb_finds_damaged_is_named(copied_tables: Path) -> None:
    """What it says of it has the name of a column that is no UTF-8."""
    (path,) = copied_tables.glob("patient/*.parquet")
    data = bytearray(path.read_bytes())
    data[data.rindex(b"digest", 0, data.rindex(b"PatientName\x15")) + 1] = 0xFF
    path.write_bytes(data)
    assert is_said_to_be_damaged(path, "SELECT * FROM patient")


def test_a_value_that_cannot_be_is_damage(copied_tables: Path) -> None:
    (path,) = copied_tables.glob("patient/*.parquet")
    rows = pq.ParquetFile(path).read()
    wrong = pa.array([b"\xff"] * len(rows)).cast(pa.string(), safe=False)
    columns = [wrong if field.name == "PatientID" else rows[field.name] for field in rows.schema]
    pq.write_table(pa.table(columns, schema=rows.schema), path)
    assert is_said_to_be_damaged(path, "SELECT * FROM patient")


def test_a_wrong_column_is_told_without_reading_rows(copied_tables: Path) -> None:
    """Though some are damaged, which takes long to find in large tables."""
    (path,) = copied_tables.glob("patient/*.parquet")
    data = bytearray(path.read_bytes())
    data[4:40] = bytes(36)
    path.write_bytes(data)
    with dicomstudy.open_tables(copied_tables) as opened:
        with pytest.raises(TableError, match="is it PatientName") as caught:
            opened.sql("SELECT PatientNam FROM patient")
        assert caught.value.code == "tables/no-column"


@pytest.mark.parametrize(
    "value", ['Table with name "x" does not', 'Referenced table "x" not found', 'column named "y"']
)
def test_what_a_value_says_is_no_error_of_names(value: str, tables: dicomstudy.Tables) -> None:
    with pytest.raises(TableError) as caught:
        tables.sql(f"SELECT '{value}'::INT FROM patient")
    assert caught.value.code == "tables/query"


def test_of_tables_without_rows_none_is_proposed(tmp_path: Path) -> None:
    dicomstudy.convert([], tmp_path / "archive")
    dicomstudy.export_tables(tmp_path / "archive", tmp_path / "tables")
    with dicomstudy.open_tables(tmp_path / "tables") as opened:
        for name, says in (
            ("METADATA", "'METADATA', as there are no rows"),
            ("Instances", "'Instances', as there are no rows"),
            ("metadat", "there is no table 'metadat'$"),
        ):
            with pytest.raises(TableError) as caught:
                opened.sql(f"SELECT * FROM {name}")
            assert caught.value.code == "tables/no-table"
            assert re.search(says, caught.value.message)


@pytest.mark.parametrize(
    ("error", "is_damage"),
    [
        (duckdb.Error, True),
        (RuntimeError, True),
        (duckdb.BinderException, False),
        (UnicodeError, False),
    ],
)
def test_what_does_not_say_what_is_wrong_with_a_view_is_damage(
    error: type[Exception], tables: dicomstudy.Tables, *, is_damage: bool
) -> None:
    class Failing:
        def execute(self, _: str) -> None:
            raise error("it is so\nand so")

    database = tables._opened_database()
    cursor: Any = Failing()
    with pytest.raises(TableError if is_damage else error, match="it is so") as caught:
        database._make_view("patient", cursor)
    if isinstance(caught.value, TableError):
        assert caught.value.code == "tables/damaged"
        assert "and so" not in str(caught.value)
    assert tables.sql("SELECT PatientID FROM patient").to_arrow().num_rows


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
