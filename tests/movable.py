"""Three studies whose instances are moved, and what holds wherever they are (spec/moving.md)."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import pydicom

import dicomstudy
from fixtures import make
from fixtures.make import element, uid
from tests import studies

#: Of `S` series 1 and 2, of `T` series 1; `U` is for files that refer to others.
S, T, U = uid("s"), uid("t"), uid("u")
S1, S2, T1 = uid("s/1"), uid("s/2"), uid("t/1")
#: What files of `T` say of patient and study.
BEN = {
    0x00080050: element(0x00080050, "SH", "B0002"),
    0x00081030: element(0x00081030, "LO", "CT HEAD"),
    0x00100010: element(0x00100010, "PN", "Example^Ben"),
    0x00100020: element(0x00100020, "LO", "EX-0002"),
    0x00101010: element(0x00101010, "AS"),
    0x00101030: element(0x00101030, "DS"),
    0x00102000: element(0x00102000, "LO", "none"),
}
#: Series and number of the files of `S`.
SLICES = [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2)]


def slices() -> list[tuple[str, bytes]]:
    """Five files of `S`, two of `T`."""
    mine = [(f"s{a}{n}.dcm", make.ct_slice("s", a, n)) for a, n in SLICES]
    return [*mine, *((f"t{n}.dcm", make.ct_slice("t", 1, n, replace=BEN)) for n in (1, 2))]


def archive_in(folder: Path) -> Path:
    """An archive of them, made of files that lie beside it."""
    files = studies.write_files(folder / "in", slices())
    dicomstudy.convert([files], folder / "archive")
    return folder / "archive"


def added(archive: Path, *files: bytes) -> None:
    """Take more files in."""
    named = [(f"{number}.dcm", data) for number, data in enumerate(files)]
    dicomstudy.convert([studies.write_files(archive.parent / "more", named)], archive)


def all_is_well(archive: Path) -> None:
    """Everything verifies, and every file says where it stands."""
    assert dicomstudy.verify(archive).problems == []
    for study in dicomstudy.open_archive(archive).values():
        with study, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for instance in study.values():
                dataset = pydicom.dcmread(io.BytesIO(instance.to_p10()))
                assert dataset.StudyInstanceUID == study.uid
                assert dataset.SeriesInstanceUID == instance.series
                assert dataset.SOPInstanceUID == instance.uid


def keys(archive: Path, study: str) -> dict[str, set[str]]:
    """The keys of the instances of a study by series."""
    with dicomstudy.open_archive(archive)[study] as opened:
        return {series: set(keys) for series, keys in opened.series.items()}


def of(series: str, *numbers: int) -> set[str]:
    """The UIDs of instances of a series."""
    name = {S1: "s/1", S2: "s/2", T1: "t/1"}[series]
    return {uid(f"{name}/{number}") for number in numbers}


def there(archive: Path) -> dict[str, dict[str, tuple[str, bytes]]]:
    """Of each study, of each instance its series, and its file as it is."""
    return {
        uid: {key: (each.series, each.to_p10()) for key, each in study.items()}
        for uid, study in dicomstudy.open_archive(archive).items()
    }


def originals(archive: Path) -> set[bytes]:
    """The files of all instances as they came."""
    return {
        instance.original().to_p10()
        for study in dicomstudy.open_archive(archive).values()
        for instance in study.values()
    }


def archive_bulk(archive: Path, study: str) -> Path:
    """The bulk file of a study."""
    with dicomstudy.open_archive(archive)[study] as opened:
        assert opened.bulk_path is not None
        return opened.bulk_path
