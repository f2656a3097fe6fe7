"""The benchmarks run, and `pytest --benchmark-enable tests/benchmarks` times their parts."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import dicomstudy
from dicomstudy import document
from dicomstudy.bulk import BulkFile
from dicomstudy.clustering import cluster
from dicomstudy.grouping import Grouper, Pending, Source
from dicomstudy.p10 import Reader
from dicomstudy.record import Decoder
from fixtures import make
from tests import studies
from tests.benchmarks import ratios, tables
from tests.strategies import DEFINITIONS


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Undo what the benchmarks silence."""
    with warnings.catch_warnings():
        yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def files() -> list[bytes]:
    return [data for _, data in make.study(200, series=2, rows=64, columns=64)]


def test_each_ratio_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a few small files, so that nothing is said of the bars."""
    monkeypatch.setenv("DICOMSTUDY_SHARED", str(tmp_path / "nothing"))
    bench = ratios.Bench(tmp_path, rounds=1)
    bench.files = [
        path
        for path in studies.write_files(tmp_path / "in", make.study(6)).rglob("*")
        if path.is_file()
    ]
    bench.many_files = bench.files
    found = [
        ratio
        for name, benchmark in ratios.BENCHMARKS.items()
        if name not in {"thousands", "jobs"}
        for ratio in benchmark(bench)
    ]
    assert len(found) == 13
    # the difference of two times may be none where both are short
    assert all(ratio.found > 0 for ratio in found if not ratio.what.startswith("ms "))
    assert ratios.Ratio("", 2.0, "<=", 3.0).reached
    assert not ratios.Ratio("", 2.0, ">=", 3.0).reached
    assert ratios.Ratio("", 2.0).reached


def test_each_figure_of_tables_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a few hundred instances, so that nothing is said of the bars."""
    monkeypatch.setenv("DICOMSTUDY_SHARED", str(tmp_path / "nothing"))
    found = list(tables.figures(tmp_path, 1_000))
    assert [figure.limit for figure in found if figure.limit] == [
        *(1000, 1000), *(130, 125), *(200, 50, 500, 500), 150,
    ]  # fmt: skip
    assert all(figure.found > 0 for figure in found)
    assert "MISSED" in str(tables.Figure("", 2, "", 1))
    assert "MISSED" not in str(tables.Figure("", 1, "", 1))


def test_read(benchmark: BenchmarkFixture, files: list[bytes]) -> None:
    reader = Reader()
    benchmark(lambda: [reader.read(data) for data in files])


def test_decode(benchmark: BenchmarkFixture, files: list[bytes]) -> None:
    decoder, reader = Decoder(DEFINITIONS), Reader()
    taken = [(reader.read(data), data) for data in files]
    benchmark(lambda: [decoder.decode(file, data) for file, data in taken])


def test_group(benchmark: BenchmarkFixture, files: list[bytes]) -> None:
    decoder, reader, grouper = Decoder(DEFINITIONS), Reader(), Grouper(DEFINITIONS)
    records = [decoder.decode(reader.read(data), data) for data in files]

    def group() -> None:
        pending = Pending()
        for record in records:
            uids = grouper.uids(record)
            assert uids is not None
            grouper.add(pending, record, uids=uids, source=Source("file:///a", "0"), places={})

    benchmark(group)


def test_encode(benchmark: BenchmarkFixture, files: list[bytes]) -> None:
    batch = studies.grouped((str(number), data) for number, data in enumerate(files))
    content = cluster(batch, DEFINITIONS)
    benchmark(lambda: list(document.encode("1.2", content, DEFINITIONS, bulk=BulkFile())))


def test_open_and_read_one(benchmark: BenchmarkFixture, files: list[bytes], tmp_path: Path) -> None:
    studies.write_files(tmp_path / "in", ((str(n), data) for n, data in enumerate(files)))
    dicomstudy.convert([tmp_path / "in"], tmp_path / "archive")
    (uid,) = dicomstudy.open_archive(tmp_path / "archive")
    key = make.uid("study/1/50")

    def one() -> object:
        with dicomstudy.open_archive(tmp_path / "archive")[uid] as study:
            return study[key].metadata()["InstanceNumber"]

    assert benchmark(one) == "50"
