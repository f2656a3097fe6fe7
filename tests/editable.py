"""An archive of the fixtures that is to be edited, edits of it, and what its files are then."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset

import dicomstudy
from fixtures import make

CT, MR = make.uid("ct"), make.uid("mr")
ARCHIVE = Path(make.__file__).parent / "archive"


def archive_in(folder: Path) -> Path:
    """An archive of the fixtures."""
    dicomstudy.convert([ARCHIVE], folder / "archive")
    return folder / "archive"


def update(archive: Path, study: str, *edits: Mapping[str, Any], **one: Any) -> None:
    dicomstudy.update(archive, study, [*edits, *([one] if one else [])])


def datasets(archive: Path, study: str) -> Iterator[tuple[Dataset, Dataset]]:
    """Each instance of a study as pydicom reads it: as it came, and as it is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with dicomstudy.open_archive(archive)[study] as opened:
            for instance in opened.values():
                files = instance.original().to_p10(), instance.to_p10()
                before, after = (pydicom.dcmread(io.BytesIO(f), force=True) for f in files)
                yield before, after


def said(dataset: Dataset, *leaving_out: str) -> dict[int, tuple[str, str]]:
    """VR and value of each element but group lengths, and but what is left out."""
    left = {*leaving_out, "OriginalAttributesSequence"}
    return {
        int(element.tag): (element.VR, str(element.value))
        for element in dataset
        if element.tag.element and element.keyword not in left
    }
