"""Tables of a million instances, against their bars. Prints times, which depend on the machine.

    python -m tests.benchmarks.tables [--instances 1000000] [--folder DIR]

Makes two archives, of a tenth of the instances and of all, by multiplying documents of real
studies, if they are there, and otherwise of made ones (`copies.py`); then exports both, each in a
process of its own, and asks the larger one. Ends with 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

import dicomstudy
from dicomstudy.tables import Tables
from fixtures import make
from tests import processes, studies
from tests.benchmarks import copies

#: Real studies that are multiplied have at least so many instances.
LEAST = 16
EXPORT = """
import sys, time
import dicomstudy
from tests.processes import peak_memory
start = time.perf_counter()
exported = dicomstudy.export_tables(*sys.argv[1:])
assert exported.problems == [], exported.problems
print(exported.instances, time.perf_counter() - start, peak_memory())
"""
GROUPED = "SELECT Modality, Manufacturer, count(*) FROM metadata GROUP BY ALL"


class Figure(NamedTuple):
    """A figure, and what it may be at most; no bar if that is None."""

    what: str
    found: float
    unit: str
    limit: float | None = None

    def __str__(self) -> str:
        missed = self.limit is not None and self.found > self.limit
        bar = "" if self.limit is None else f"<= {self.limit:g}"
        return f"{self.what:52} {self.found:10.1f} {self.unit:12} {bar}{' MISSED' * missed}"


def templates(folder: Path) -> list[Path]:
    """Documents to multiply: of the larger real studies, the largest twice; or of made ones."""
    beside = Path(__file__).parents[3] / "shared"
    corpus = Path(os.environ.get("DICOMSTUDY_SHARED", beside)) / "corpus"
    if not corpus.is_dir():
        corpus = folder / "made"
        for number, count in enumerate((300, 120, 60)):
            files = make.study(count, series=3, name=f"study {number}")
            studies.write_files(corpus / f"{number}", files)
    dicomstudy.convert([corpus], folder / "templates", bulk="reference")
    archive = dicomstudy.open_archive(folder / "templates")
    counted = sorted(((len(study), uid) for uid, study in archive.items()), reverse=True)
    paths = [archive.document_path(uid) for count, uid in counted if count >= LEAST]
    return [paths[0], *paths]


def exported(archive: Path, tables: Path) -> tuple[int, float, float]:
    """Instances, seconds and MB of an export in a process of its own."""
    instances, seconds, peak = processes.output(EXPORT, archive, tables, limit=3600).split()
    return int(instances), float(seconds), float(peak)


def milliseconds(function: Callable[[], object], *, rounds: int = 5) -> float:
    """The median time of a call."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def bytes_without_digests(folder: Path) -> int:
    """The size of all files without the columns that hold digests."""
    size = 0
    for path in folder.glob("*/*.parquet"):
        size += path.stat().st_size
        metadata = pq.ParquetFile(path).metadata
        for at in range(metadata.num_row_groups):
            group = metadata.row_group(at)
            for column in map(group.column, range(group.num_columns)):
                if column.path_in_schema.endswith(("digest", "sha256")):
                    size -= column.total_compressed_size
    return size


def questions(folder: Path) -> Iterator[Figure]:
    """What it takes to open tables and to ask them."""
    yield Figure("open", milliseconds(lambda: dicomstudy.open_tables(folder)), "ms", 200)
    with dicomstudy.open_tables(folder) as tables:
        column = tables["instances"].to_table(columns=["SOPInstanceUID"])["SOPInstanceUID"]
        uids = [column[len(column) * part // 7].as_py() for part in range(1, 7)]
    with dicomstudy.open_tables(folder) as tables:
        first = milliseconds(lambda: looked_up(tables, str(uids[0])), rounds=1)
        yield Figure("look up a UID, the first question", first, "ms")
        rest = iter(map(str, uids[1:]))
        again = milliseconds(lambda: looked_up(tables, next(rest)))
        yield Figure("look up another UID", again, "ms", 50)
        grouped = milliseconds(lambda: tables.sql(GROUPED), rounds=1)
        yield Figure("count by Modality and Manufacturer, first", grouped, "ms", 500)
        yield Figure("the same again", milliseconds(lambda: tables.sql(GROUPED)), "ms", 500)


def looked_up(tables: Tables, uid: str) -> None:
    """Look up an instance by its UID."""
    where = f"SOPInstanceUID = '{uid}'"
    assert len(tables.select(["PatientID", "Modality", "SeriesInstanceUID"], where=where))


def figures(folder: Path, instances: int) -> Iterator[Figure]:
    """All figures, those of the smaller archive first."""
    documents = templates(folder)
    found = []
    rows = 0
    for name, count in (("few", instances // 10), ("many", instances)):
        start = time.perf_counter()
        made = copies.multiply(documents, folder / name, count, lambda _: None)
        yield Figure(f"{made:,} studies made", time.perf_counter() - start, "s")
        rows, seconds, peak = exported(folder / name, folder / f"tables of {name}")
        found.append((seconds / rows, peak))
        yield Figure(f"{rows:,} instances exported", seconds, "s")
        yield Figure("memory at its peak", peak, "MB", 1000)
    (few, few_peak), (many, many_peak) = found
    yield Figure("time an instance, all against a tenth", 100 * many / few, "%", 130)
    yield Figure("memory, all against a tenth", 100 * many_peak / few_peak, "%", 125)
    target = folder / "tables of many"
    yield from questions(target)
    yield Figure("bytes an instance without digests", bytes_without_digests(target) / rows, "", 150)
    _, again, _ = exported(folder / "many", target)
    yield Figure("a run without change", again, "s")


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.tables")
    parser.add_argument("--instances", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where to work; there must be some GB")
    chosen = parser.parse_args()
    missed = 0
    with tempfile.TemporaryDirectory(prefix="benchmarks-", dir=chosen.folder) as name:
        for figure in figures(Path(name), chosen.instances):
            missed += figure.limit is not None and figure.found > figure.limit
            sys.stdout.write(f"{figure}\n")
            sys.stdout.flush()
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
