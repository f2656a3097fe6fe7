"""What is compared with what, and the bars. Each pair is timed in turns, medians are compared."""

from __future__ import annotations

import hashlib
import io
import logging
import operator
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import pyarrow as pa
import pydicom
import zstandard

import dicomstudy
from fixtures import make
from tests import studies

CT_STUDY = "corpus/dagcom/ClearCanvas/CTStudy"
MR_STUDY = "corpus/qa_nih/In/20180918GE"
_SIGNS = MappingProxyType({"<=": operator.le, ">=": operator.ge, "": lambda *_: True})


class Ratio(NamedTuple):
    """One ratio found, and what it has to be: a sign and a number, or neither."""

    what: str
    found: float
    sign: str = ""
    limit: float = 0.0

    @property
    def reached(self) -> bool:
        """Whether the ratio is as it has to be."""
        return bool(_SIGNS[self.sign](self.found, self.limit))

    @property
    def bar(self) -> str:
        """What it has to be."""
        return f"{self.sign} {self.limit:g}" if self.sign else ""


def clock(function: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


class Bench:
    """The files of a run, and a folder for what is made of them."""

    def __init__(self, folder: Path, *, rounds: int) -> None:
        self.folder = folder
        self.rounds = rounds
        self._made = 0
        warnings.simplefilter("ignore")  # pydicom warns of many a real file
        logging.disable(logging.CRITICAL)

    def new(self) -> Path:
        """A path that is not there."""
        self._made += 1
        return self.folder / f"{self._made}"

    @cached_property
    def files(self) -> list[Path]:
        """The P10 files that are converted."""
        return self._files_of(CT_STUDY, 250)

    def _files_of(self, name: str, made: int) -> list[Path]:
        """The files of a real study if it is there, otherwise of one that is made."""
        beside = Path(__file__).parents[3] / "shared"
        study = Path(os.environ.get("DICOMSTUDY_SHARED", beside)) / name
        if not study.is_dir():
            study = self.new()
            studies.write_files(study, make.study(made, series=2, rows=256, columns=256))
        return [
            path
            for path in sorted(study.rglob("*"))
            if path.is_file() and path.read_bytes()[128:132] == b"DICM"
        ]

    @cached_property
    def many_files(self) -> list[Path]:
        """More P10 files of one study."""
        return self._files_of(MR_STUDY, 600)

    @property
    def what(self) -> str:
        """A line that says what is measured."""
        size = sum(path.stat().st_size for path in self.files)
        return f"{len(self.files)} files of {size // len(self.files) // 1000} KB"

    @cached_property
    def thousands(self) -> Path:
        """A folder of one study of 10,000 instances."""
        return studies.write_files(self.new(), make.study(10_000))

    @cached_property
    def many_studies(self) -> Path:
        """A folder of eight studies of 400 instances; no two of a study have equal pixels."""
        folder = self.new()
        for number in range(8):
            name = f"study {number}"
            files = make.study(400, series=1, rows=128, columns=128, name=name)
            studies.write_files(folder / name, files)
        return folder

    def in_turns(self, *functions: Callable[[], object]) -> list[list[float]]:
        """Times of each function, called in turns; the first round warms up."""
        rows = [[clock(function) for function in functions] for _ in range(self.rounds + 1)]
        return [list(column) for column in zip(*rows[1:], strict=True)]

    def ratio(self, one: Callable[[], object], other: Callable[[], object]) -> float:
        """How many times as long as `other` `one` takes."""
        return median(*self.in_turns(one, other))

    def hash_all(self) -> None:
        """Read every file and take its SHA-256: the least that a convert has to do."""
        for path in self.files:
            hashlib.sha256(path.read_bytes()).digest()

    def decode_all(self) -> None:
        """Decode every element with pydicom."""
        for path in self.files:
            for _ in pydicom.dcmread(path, stop_before_pixels=True, force=True).iterall():
                pass

    def converted(self, files: Iterable[Path] | None = None, *, bulk: str, jobs: int = 1) -> Path:
        """A new archive of the files."""
        archive = self.new()
        dicomstudy.convert(self.files if files is None else files, archive, bulk=bulk, jobs=jobs)
        return archive

    def convert(
        self, files: Iterable[Path] | None = None, *, bulk: str, jobs: int = 1
    ) -> Callable[[], None]:
        """Converts the files, and throws the archive away."""
        return lambda: shutil.rmtree(self.converted(files, bulk=bulk, jobs=jobs))

    def tar_and_compress(self) -> int:
        """The size of a tar of the files, compressed by zstandard at level 3."""
        target = self.new()
        if shutil.which("zstd") and shutil.which("tar"):
            listing = "\n".join(map(str, self.files)).encode()
            with target.open("wb") as file:
                tar = subprocess.Popen(
                    ["tar", "-cf", "-", "-P", "-T", "-"],  # noqa: S607 (from the path)
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
                assert tar.stdin is not None
                zstd = subprocess.Popen(["zstd", "-3", "-q", "-c"], stdin=tar.stdout, stdout=file)  # noqa: S607
                tar.stdin.write(listing)
                tar.stdin.close()
                assert zstd.wait() == 0
                assert tar.wait() == 0
        else:
            compressor = zstandard.ZstdCompressor(level=3)
            with (
                target.open("wb") as file,
                compressor.stream_writer(file) as stream,
                tarfile.open(fileobj=stream, mode="w|") as tar_file,
            ):
                for path in self.files:
                    tar_file.add(path)
        size = target.stat().st_size
        target.unlink()
        return size


def median(one: list[float], other: list[float]) -> float:
    """The median of the ratios of two rows of times."""
    return statistics.median(a / b for a, b in zip(one, other, strict=True))


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def convert(bench: Bench) -> Iterable[Ratio]:
    """By reference, against SHA-256 and against pydicom."""
    reference, limit, decode = bench.in_turns(
        bench.convert(bulk="reference"), bench.hash_all, bench.decode_all
    )
    yield Ratio("convert by reference / SHA-256", median(reference, limit), "<=", 3.0)
    yield Ratio(
        "pydicom's full decode / convert by reference", median(decode, reference), ">=", 8.0
    )


def copy(bench: Bench) -> Iterable[Ratio]:
    """Copied, against a compressed tar."""
    by_tool = shutil.which("zstd") and shutil.which("tar")
    name = "tar | zstd -3" if by_tool else "tar and zstandard 3 in process"
    ratio = bench.ratio(bench.convert(bulk="copy"), bench.tar_and_compress)
    yield Ratio(f"convert by copy / {name}", ratio, "<=", 1.5)
    archive = bench.converted(bulk="copy")
    yield Ratio(f"bytes of the archive / {name}", size_of(archive) / bench.tar_and_compress(),
                "<=", 1.0)  # fmt: skip


def restore(bench: Bench) -> Iterable[Ratio]:
    """Against SHA-256."""
    archive = bench.converted(bulk="copy")

    def restoring() -> None:
        target = bench.new()
        dicomstudy.restore(archive, target)
        shutil.rmtree(target)

    yield Ratio("restore / SHA-256", bench.ratio(restoring, bench.hash_all), "<=", 3.0)


def jobs(bench: Bench) -> Iterable[Ratio]:
    """Two processes against one, on eight studies."""
    for bulk in ("reference", "copy"):
        one, two = (bench.convert([bench.many_studies], bulk=bulk, jobs=n) for n in (1, 2))
        ratio = bench.ratio(one, two)
        yield Ratio(f"convert by {bulk}, one job / two jobs", ratio, ">=", 1.7)


def document(bench: Bench) -> Iterable[Ratio]:
    """Size of a document, and what one instance costs."""
    archive = dicomstudy.open_archive(bench.converted(bulk="reference"))
    (uid,) = archive
    size = archive.document_path(uid).stat().st_size
    yield Ratio("bytes of the document / instances", size / len(archive[uid]), "<=", 300)
    key = list(archive[uid])[len(archive[uid]) // 2]

    def one_instance() -> None:
        with dicomstudy.open_archive(archive.path)[uid] as study:
            study[key].metadata()

    def one_file() -> None:
        for _ in pydicom.dcmread(bench.files[0], stop_before_pixels=True).iterall():
            pass

    ratio = bench.ratio(one_instance, one_file)
    yield Ratio("one instance of a document / pydicom, one file", ratio)


def thousands(bench: Bench) -> Iterable[Ratio]:
    """One instance out of 10,000."""
    archive = dicomstudy.open_archive(bench.converted([bench.thousands], bulk="copy"))
    (uid,) = archive
    size = archive.document_path(uid).stat().st_size
    yield Ratio("bytes of a document / its 10,000 instances", size / 10_000, "<=", 300)
    key = make.uid("study/3/1234")

    def one() -> None:
        with dicomstudy.open_archive(archive.path)[uid] as study:
            study[key].metadata()

    def everything() -> None:
        with dicomstudy.open_archive(archive.path)[uid] as study:
            for instance in study.values():
                instance.attributes()

    yield Ratio("10,000 instances / one of them", bench.ratio(everything, one), ">=", 10)
    original = (bench.thousands / "series-3/001234.dcm").read_bytes()

    def to_p10() -> None:
        with dicomstudy.open_archive(archive.path)[uid] as study:
            assert study[key].to_p10() == original

    def parse() -> None:
        for _ in pydicom.dcmread(io.BytesIO(original)).iterall():
            pass

    yield Ratio("one file out of 10,000 / pydicom reading it", bench.ratio(to_p10, parse))


def _copies(files: list[Path], folder: Path, count: int) -> Path:
    """So many files of one study: copies with SOP Instance UIDs of their own."""
    folder.mkdir()
    for number in range(count):
        data = files[number % len(files)].read_bytes()
        with pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True) as dataset:
            uid = str(dataset.SOPInstanceUID).encode()
        other = uid[:-5] + b".%04d" % number
        (folder / f"{number:04}.dcm").write_bytes(data.replace(uid, other))
    return folder


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603 (of this project)


def correction(bench: Bench) -> Iterable[Ratio]:
    """A name corrected in 2,600 instances, against pydicom writing their files anew."""
    count = 2600 if len(bench.files) > 100 else len(bench.files)
    folder = _copies(bench.files, bench.new(), count)
    archive = bench.converted([folder], bulk="copy")
    (uid, *_) = dicomstudy.open_archive(archive)
    before = size_of(archive)
    command = [sys.executable, "-m", "dicomstudy", "update", str(archive), "--study", uid]

    def update() -> None:
        _run([*command, "PatientName=Corrected^Name"])

    rewrite = """if True:
        import pathlib, sys, pydicom
        for path in pathlib.Path(sys.argv[1]).iterdir():
            dataset = pydicom.dcmread(path)
            dataset.PatientName = "Corrected^Name"
            dataset.save_as(path)
    """

    def rewrite_files() -> None:
        _run([sys.executable, "-c", rewrite, str(folder)])

    update()
    yield Ratio("kB that a correction adds", (size_of(archive) - before) / 1000, "<=", 10)
    ratio = bench.ratio(rewrite_files, update)
    yield Ratio(f"pydicom, {count:,} files / one correction", ratio, ">=", 50)


def late(bench: Bench) -> Iterable[Ratio]:
    """One late instance of a study of 2,600, against one that comes into a new archive."""
    count = 2600 if len(bench.files) > 100 else len(bench.files)
    folder = _copies(bench.files, bench.new(), count + bench.rounds + 1)
    last = sorted(folder.iterdir())[count:]
    archive = bench.converted(sorted(folder.iterdir())[:count], bulk="copy")
    coming = iter(last)
    into_many, into_none = [], []
    for _ in range(bench.rounds):
        into_many.append(clock(lambda: dicomstudy.convert([next(coming)], archive)))
        into_none.append(clock(lambda: dicomstudy.convert(last[:1], bench.new())))
    many, none = map(statistics.median, (into_many, into_none))
    yield Ratio(f"one late instance of {count:,} / one of a new archive", many / none)
    yield Ratio("ms that a late instance takes more", 1000 * (many - none), "<=", 100)


def tables(bench: Bench) -> Iterable[Ratio]:
    """From P10 files to tables of their metadata, against pydicom; the bar is for many files."""
    for files, bar in ((bench.files, ("", 0.0)), (bench.many_files, (">=", 10.0))):

        def ours(files: list[Path] = files) -> None:
            archive, target = bench.converted(files, bulk="reference"), bench.new()
            dicomstudy.export_tables(archive, target)
            shutil.rmtree(archive)
            shutil.rmtree(target)

        def by_pydicom(files: list[Path] = files) -> None:
            datasets = (pydicom.dcmread(path, stop_before_pixels=True) for path in files)
            pa.Table.from_pylist([dataset.to_json_dict() for dataset in datasets])

        name = f"to_json_dict of {len(files)} files / convert and tables"
        yield Ratio(name, bench.ratio(by_pydicom, ours), *bar)


BENCHMARKS: Mapping[str, Callable[[Bench], Iterable[Ratio]]] = MappingProxyType(
    {
        "convert": convert,
        "copy": copy,
        "restore": restore,
        "jobs": jobs,
        "document": document,
        "thousands": thousands,
        "correction": correction,
        "late": late,
        "tables": tables,
    }
)
