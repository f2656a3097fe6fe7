"""Memory is bounded by the largest study, whatever the order of the files."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

import dicomstudy
from fixtures import make
from tests import processes, studies
from tests.samples import chance_of

STUDIES, INSTANCES = 20, 250

PEAK = """
import sys
import dicomstudy
from tests.processes import peak_memory
archive, listing = sys.argv[1:]
sources = open(listing).read().splitlines()
report = dicomstudy.convert(sources, archive)
assert report.problems == [], report.problems
print(report.instances, peak_memory())
"""


def peak_of(sources: list[Path], archive: Path) -> tuple[int, float]:
    """Instances that a process converted, and the memory that it took, in MB."""
    listing = archive.with_name(f"{archive.name}.txt")
    listing.write_text("\n".join(map(str, sources)))
    instances, peak = processes.output(PEAK, archive, listing).split()
    return int(instances), float(peak)


@pytest.fixture(scope="module")
def small_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The files of 20 studies of 250 instances, study by study."""
    folder = tmp_path_factory.mktemp("memory")
    for number in range(STUDIES):
        studies.write_files(
            folder / f"{number:02d}", make.study(INSTANCES, series=3, name=f"study {number}")
        )
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("order", ["sorted", "shuffled", "in turns"])
def test_5000_instances_of_20_studies_take_little_memory(
    small_files: list[Path], order: str, tmp_path: Path
) -> None:
    files = list(small_files)
    if order == "shuffled":
        chance_of(4).shuffle(files)
    elif order == "in turns":
        files = [path for at in range(INSTANCES) for path in files[at::INSTANCES]]
    assert len(files) == STUDIES * INSTANCES
    instances, peak = peak_of(files, tmp_path / "archive")
    assert instances == len(files)
    assert peak < 300
    assert len(dicomstudy.open_archive(tmp_path / "archive")) == STUDIES


def test_memory_does_not_grow_with_the_archive(small_files: list[Path], tmp_path: Path) -> None:
    """Four times the files, of equal studies: about the same memory."""
    quarter = small_files[: len(small_files) // 4]
    _, few = peak_of(quarter, tmp_path / "few")
    _, many = peak_of(small_files, tmp_path / "many")
    assert many < few + 60


def test_memory_does_not_grow_with_a_tar_file(tmp_path: Path) -> None:
    """What was found in its members is not held until its end."""
    own = {0x00110010: make.element(0x00110010, "LO", b"Own ")}
    folder = tmp_path / "in"
    folder.mkdir()
    with tarfile.open(tmp_path / "all.tar", "w") as tar:
        for at in range(2000):
            texts = range(0x00111000, 0x00111064)
            more = {tag: make.element(tag, "LO", f"{at:04} {tag:044}".encode()) for tag in texts}
            path = folder / f"{at:04}"
            study, number = f"study {at // 10}", at % 10 + 1
            path.write_bytes(make.ct_slice(study, 1, number, rows=2, columns=2, replace=own | more))
            tar.add(path, path.name)
    _, of_folder = peak_of([folder], tmp_path / "of folder")
    _, of_tar = peak_of([tmp_path / "all.tar"], tmp_path / "of tar")
    assert of_tar < of_folder + 60


def test_a_large_file_is_not_read_whole(tmp_path: Path) -> None:
    """One instance of 600 MB, beyond what is read into memory."""
    rows, columns = 20_000, 15_000
    data = make.ct_slice("large", 1, 1, rows=8, columns=8, pixels=b"")
    path = tmp_path / "large.dcm"
    length = rows * columns * 2
    with path.open("wb") as file:
        file.write(data[:-4] + length.to_bytes(4, "little"))
        block = chance_of(1).randbytes(1 << 16) + bytes(15 << 16)
        written = 0
        while written < length:
            written += file.write(block[: length - written])
    instances, peak = peak_of([path], tmp_path / "archive")
    assert instances == 1
    assert peak < 300
    assert dicomstudy.verify(tmp_path / "archive").problems == []


EXPORT = """
import sys
import dicomstudy
from tests.processes import peak_memory
exported = dicomstudy.export_tables(*sys.argv[1:])
assert exported.problems == [], exported.problems
print(exported.instances, peak_memory())
"""


def test_memory_of_tables_does_not_grow_with_the_archive(
    small_files: list[Path], tmp_path: Path
) -> None:
    peaks = []
    for count in (len(small_files) // 4, len(small_files)):
        archive = tmp_path / f"{count}"
        dicomstudy.convert(small_files[:count], archive)
        output = processes.output(EXPORT, archive, tmp_path / f"tables of {count}")
        instances, peak = output.split()
        assert int(instances) == count
        peaks.append(float(peak))
    few, many = peaks
    assert few < many + 1 < few + 150
    assert many < 500
