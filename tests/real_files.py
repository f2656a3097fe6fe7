"""The files that other tests compare with pydicom: fixtures, pydicom's own, the real ones."""

from __future__ import annotations

import importlib.util
import io
import warnings
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import FileDataset

from dicomstudy import definitions, p10
from dicomstudy.record import Decoder, Encoder, Record
from fixtures import make

DEFINITIONS = definitions.load()
ENCODER = Encoder(DEFINITIONS)
FIXTURES = Path(make.__file__).parent
#: Larger files are left out: they take long, and are like others.
LARGEST = 5_000_000

#: Sequences that are no row of items: raw bytes here, in pydicom what it could follow.
BROKEN_SEQUENCES = {
    "DICOMDIR-nooffset": {"00041220"},
    "delimiter-length.dcm": {"00081140"},
    "item-past-end.dcm": {"00081140"},
    "item-past-sequence.dcm": {"00081140"},
    "items-empty.dcm": {"00400275"},
    "nested-defined.dcm": {"0040A730"},
    "rtplan_truncated.dcm": {"300A00B0"},
    "sequence-not-items.dcm": {"00081140"},
    "sequence-past-end.dcm": {"00081140"},
    "truncated-sequence.dcm": {"00400275"},
}
#: Files whose end pydicom finds elsewhere, so that it has fewer elements.
CUT = {
    "emri_small_jpeg_2k_lossless_too_short.dcm",
    "fragments-no-delimiter.dcm",
    "fragments-truncated.dcm",
    "text-undefined.dcm",
}


class Decoded:
    """A file as documents hold it, and what is needed to read its large values."""

    def __init__(self, name: str, data: bytes) -> None:
        self.name = name
        self.data = data
        self.record: Record = Decoder(DEFINITIONS).decode(p10.read(data), data)
        self.attributes = self.record.attributes()
        self.encoding = self.record.encoding
        self.big = self.encoding["byteOrder"] == "big"

    @cached_property
    def large(self) -> dict[str, bytes]:
        """The large values by their digests."""
        found = {}
        for large in self.record.large:
            start, length = large.span
            content = self.data[start : start + length] if large.stored is None else large.stored
            found[str(large.sha256)] = content
        return found

    def resolve(self, reference: Mapping[str, Any]) -> bytes:
        return self.large[reference["sha256"]]

    def dataset(self) -> FileDataset | None:
        """What pydicom reads, None if it refuses."""
        try:
            return pydicom.dcmread(io.BytesIO(self.data), force=True)
        except Exception:  # noqa: BLE001 (whatever it is, there is nothing to compare)
            return None

    def __repr__(self) -> str:
        return self.name


def _folders() -> list[Path]:
    found = importlib.util.find_spec("data_store")
    assert found is not None
    assert found.origin is not None
    own = Path(pydicom.__file__).parent / "data"
    return [own / "test_files", own / "charset_files", Path(found.origin).parent / "data"]


def _below(folder: Path) -> Iterator[Decoded]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.stat().st_size < LARGEST:
            if path.suffix in {".py", ".json", ".txt", ".zip", ".tar", ".pyc", ".md"}:
                continue
            yield Decoded(path.relative_to(folder.parent).as_posix(), path.read_bytes())


def own_files() -> Iterator[Decoded]:
    """Fixtures, and the files that pydicom brings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of most of them
        for folder in (FIXTURES / "archive", FIXTURES / "wrecks", *_folders()):
            yield from _below(folder)


def shared_files(shared: Path) -> Iterator[Decoded]:
    """The real files that are no part of the repository."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield from _below(shared / "corpus")


def fixture(name: str) -> Decoded:
    """One file of `fixtures/`."""
    return Decoded(name, (FIXTURES / name).read_bytes())


def from_pydicom(name: str) -> Decoded:
    """One file that pydicom brings."""
    for folder in _folders():
        for path in folder.rglob(name):
            return Decoded(name, path.read_bytes())
    raise FileNotFoundError(name)
