"""Tables read by what is not ours: DuckDB, pandas, Polars, Arrow (spec/tables.md)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow.dataset as ds
import pytest

import dicomstudy
from dicomstudy import ion
from dicomstudy.archive import create
from tests import studies

DEEP = "ContentSequence"


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
