"""Answers as text, CSV, JSON and Parquet (spec/tables.md, "SQL")."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import dicomstudy
from dicomstudy.errors import DicomStudyError, TableError
from dicomstudy.tables.result import Result
from tests import studies

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


@pytest.mark.parametrize(
    ("kind", "number", "dtype"),
    [
        (pa.int64(), 2**53 + 1, "Int64"),
        (pa.uint64(), 2**64 - 1, "UInt64"),
        (pa.int16(), -3, "Int16"),
        (pa.uint16(), 3, "UInt16"),
    ],
)
def test_integers_beside_nulls_stay_as_they_are_in_pandas(
    kind: pa.DataType, number: int, dtype: str
) -> None:
    some = pa.array([number, None], kind)
    table = pa.table(
        {"some": some, "none": pa.array([None, None], kind), "all": pa.array([number] * 2, kind)}
    )
    frame = Result(table).to_pandas()
    assert frame.dtypes.astype(str).to_dict() == {"some": dtype, "none": dtype, "all": str(kind)}
    assert frame["some"].dropna().tolist() == [number]
    assert frame["all"].tolist() == [number, number]


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
    assert str(tmp_path / "no") in caught.value.message


def test_no_file_is_named_but_that_of_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), tmp_path / "new.part")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TableError) as caught:
        RESULT.write_parquet(tmp_path / "a.parquet")
    assert caught.value.message == f"the file cannot be written: {os.strerror(errno.ENOSPC)}"
    assert not [*tmp_path.iterdir()]


def test_paths_of_results_may_be_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in ("a.parquet", "a.parquet", os.fspath(tmp_path / "b.parquet")):
        RESULT.write_parquet(path)
        assert pq.read_table(path).num_rows == 3


def test_results_replace_results_only(archive: Path, tmp_path: Path) -> None:
    copied, tables = tmp_path / "archive", tmp_path / "tables"
    shutil.copytree(archive, copied)
    dicomstudy.export_tables(copied, tables)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "loop").symlink_to("loop")
    document = next(iter(dicomstudy.open_archive(copied).values())).path
    refused: list[tuple[Any, str]] = [
        (document, "archive/inside"),
        (copied / "new.parquet", "archive/inside"),
        (tables / "catalog.json", "tables/unwritable"),
        (tables / "instances" / "new.parquet", "tables/unwritable"),
        (tmp_path / "notes.txt", "tables/unwritable"),
        (tmp_path / "loop", "tables/unwritable"),
        (b"bytes", "archive/no-path"),
    ]
    for path, code in refused:
        before = studies.state_of(tmp_path)
        with pytest.raises(DicomStudyError) as caught:
            RESULT.write_parquet(path)
        assert caught.value.code == code
        assert studies.state_of(tmp_path) == before
