"""Every element that pydicom finds in a file is among our attributes, with the same value."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.tag import BaseTag

from dicomstudy.elements import NUMBER_FORMATS, PIXEL_DATA_TAGS, TEXT_VRS, WORD_SIZES
from dicomstudy.json_model import metadata
from dicomstudy.values import swap
from fixtures import make
from tests.real_files import (
    BROKEN_SEQUENCES,
    CUT,
    DEFINITIONS,
    ENCODER,
    Decoded,
    own_files,
    shared_files,
)

pytestmark = pytest.mark.usefixtures("quiet_pydicom")

DELIMITER = b"\xfe\xff\xdd\xe0\0\0\0\0"

#: Elements that only pydicom finds.
ONLY_THERE = {
    "elements-after-fragments.dcm": "00000000",  # zero bytes behind the data set
    "trailing-zeros.dcm": "00000000",
    "meta-truncated.dcm": "00020003",  # the file ends within it: kept as raw bytes
}


class Comparison:
    """Compares one file after another, and counts the differences by their kind."""

    def __init__(self) -> None:
        self.files = 0
        self.elements = 0
        self.kinds: Counter[str] = Counter()
        self.unknown: list[tuple[str, str, object, object]] = []

    def add(self, decoded: Decoded) -> None:
        dataset = decoded.dataset()
        if dataset is None:
            self.kinds["unreadable"] += 1
            return
        self.files += 1
        document = metadata(decoded.attributes, decoded.encoding, ENCODER)
        seen = self.compare(document, dataset.file_meta, decoded, "")
        seen |= self.compare(document, dataset, decoded, "")
        if more := document.keys() - seen:
            if Path(decoded.name).name in CUT:
                self.kinds["cut"] += 1
            else:
                self.unknown.append((decoded.name, "more than pydicom", sorted(more), None))

    def compare(
        self, mine: Mapping[str, Any], dataset: Dataset, decoded: Decoded, path: str
    ) -> set[str]:
        keys = set()
        for tag in dataset.keys():  # noqa: SIM118 (elements are decoded one by one)
            key = DEFINITIONS.keyword(tag)
            keys.add(key)
            self.elements += 1
            where = f"{path}{tag:08X}"
            if key not in mine:
                if ONLY_THERE.get(Path(decoded.name).name) == where:
                    self.kinds["only there"] += 1
                    continue
                self.unknown.append((decoded.name, where, "absent", None))
                continue
            kind = self.difference(mine[key], dataset, tag, decoded, where)
            if kind == "unknown":
                self.unknown.append((decoded.name, where, mine[key], dataset._dict[tag]))
            elif kind:
                self.kinds[kind] += 1
        return keys

    def difference(
        self, mine: object, dataset: Dataset, tag: BaseTag, decoded: Decoded, where: str
    ) -> str:
        """The kind of difference between the values of an element, "" if there is none."""
        if isinstance(mine, dict):
            mine = decoded.resolve(mine)
        if isinstance(mine, bytes):
            if f"{tag:08X}" in BROKEN_SEQUENCES.get(Path(decoded.name).name, ()):
                return "broken sequence"
            return difference_of_bytes(mine, dataset._dict[tag], decoded)
        try:
            element = dataset[tag]
        except Exception:  # noqa: BLE001 (whatever it is, there is nothing to compare)
            return "refused"
        if not isinstance(mine, list):
            return difference_of_values(mine, element)
        if element.VR != "SQ":
            return "private sequence" if tag.is_private else "unknown"
        return self.compare_items(mine, element, decoded, where)

    def compare_items(
        self, mine: list[dict[str, Any]], element: DataElement, decoded: Decoded, where: str
    ) -> str:
        same = len(mine) == len(element.value)
        for at, (left, right) in enumerate(zip(mine, element.value, strict=False)):
            same &= left.keys() == self.compare(left, right, decoded, f"{where}[{at}].")
        return "" if same else "unknown"


def difference_of_bytes(mine: bytes, raw: RawDataElement | DataElement, decoded: Decoded) -> str:
    """Between bytes here and, decoded or not, in pydicom."""
    value: Any = raw.value
    word = WORD_SIZES.get(str(raw.VR), 1)
    if isinstance(value, bytes | None):
        theirs = value or b""
        if mine == theirs:
            return ""
        if mine.removesuffix(DELIMITER) == theirs and raw.tag in PIXEL_DATA_TAGS:
            return "delimiter"
        if decoded.big and swap(mine, word) == theirs:
            return "byte order"
        # A long text: its bytes are compared as far as they count.
        same = raw.VR in TEXT_VRS and mine.rstrip(b" \0") == theirs.rstrip(b" \0")
        return "" if same else "unknown"
    if raw.VR in NUMBER_FORMATS:
        letter = NUMBER_FORMATS[str(raw.VR)]
        numbers = [number for (number,) in struct.iter_unpack("<" + letter, mine)]
        return "" if numbers == list(value) else "unknown"
    return "unknown"


def difference_of_values(mine: object, element: DataElement) -> str:
    value = element.value
    if mine is None or mine == "":
        return "" if element.is_empty or str(value).strip() == "" else "unknown"
    if isinstance(mine, str):
        return difference_of_texts(mine, element)
    if isinstance(mine, int) and isinstance(value, bytes):  # (gggg,0000) of a private group
        return "private group length" if mine == int.from_bytes(value, "little") else "unknown"
    return "" if mine == value or (mine != mine and value != value) else "unknown"  # noqa: PLR0124


def difference_of_texts(mine: str, element: DataElement) -> str:
    value = element.value
    many = not isinstance(value, str | int | float) and isinstance(value, Sequence)
    parts = list(value) if many else [value]
    if element.VR == "AT":
        return "" if mine == "\\".join(f"{part:08X}" for part in parts) else "unknown"
    if element.VR in {"DS", "IS"}:
        parts = [getattr(part, "original_string", part) for part in parts]
    theirs = "\\".join(str(part) for part in parts)
    if mine == theirs:
        return ""
    if element.VR == "PN" and mine.rstrip("=") == theirs:
        return "empty name group"
    if element.VR in {"AE", "DS", "IS", "UI"}:  # around each value there is none in pydicom
        return "padding" if [part.strip(" \0") for part in mine.split("\\")] == parts else "unknown"
    if element.VR not in {"LT", "ST", "UC", "UT"} and mine == theirs.lstrip(" "):
        return "spaces in front"
    return "unknown"


def compare(files: Iterable[Decoded]) -> Comparison:
    comparison = Comparison()
    for decoded in files:
        comparison.add(decoded)
    assert comparison.unknown == []
    return comparison


def test_values_are_those_of_pydicom() -> None:
    comparison = compare(own_files())
    assert comparison.files > 300
    assert comparison.elements > 20_000
    assert set(comparison.kinds) == {
        "broken sequence",
        "byte order",
        "cut",
        "delimiter",
        "empty name group",
        "only there",
        "private sequence",
        "refused",
        "spaces in front",
        "unreadable",
    }
    assert comparison.kinds["refused"] == 1


def test_values_are_those_of_pydicom_in_real_files(shared: Path) -> None:
    comparison = compare(shared_files(shared))
    assert comparison.files > 900
    assert comparison.elements > 100_000
    assert comparison.kinds.keys() <= {
        "byte order",
        "delimiter",
        "empty name group",
        "padding",
        "private group length",
        "private sequence",
        "spaces in front",
        "unreadable",
    }


SPACES = {
    "": ["LT", "ST", "UC", "UT"],
    "padding": ["AE", "DS", "IS", "UI"],
    "spaces in front": ["AS", "CS", "DA", "DT", "LO", "PN", "SH", "TM", "UR"],
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom warns of such a UID
@pytest.mark.parametrize(("kind", "vr"), [(kind, vr) for kind in SPACES for vr in SPACES[kind]])
def test_spaces_in_front(kind: str, vr: str) -> None:
    """Those of the whole value; of the second of several, only pydicom removes some."""
    element = make.element(0x00081030, vr, "  1\\ 2 ")
    file = make.part10(make.file_meta(make.EXPLICIT), element)
    assert set(compare([Decoded("", file)]).kinds) == ({kind} if kind else set())
