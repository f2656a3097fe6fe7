"""De-identification is that of another implementation, where the standard leaves no choice.

The other one is dicom-anonymizer, with its own copy of Table E.1-1. It does not go into items, so
its actions are tried on every item that is left. spec/deidentification.md has the differences.
"""

from __future__ import annotations

import copy
import re
import warnings
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pydicom
from dicomanonymizer.simpledicomanonymizer import initialize_actions_2024b
from pydicom.datadict import dictionary_has_tag
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

import dicomstudy
from fixtures import make
from tests.deidentified import KEY, NEW
from tests.samples import pydicom_folders

#: What the other one calls its actions, and what the table calls them.
LETTERS = {
    "delete": "X",
    "empty": "Z",
    "replace": "D",
    "replace_UID": "U",
    "delete_or_empty": "X/Z",
    "delete_or_replace": "X/D",
    "empty_or_replace": "Z/D",
    "delete_or_empty_or_replace": "X/Z/D",
    "delete_or_empty_or_replace_UID": "X/Z/U*",
}
#: Stamped on every instance, and what describes the writer of a file.
STAMPED = {0x00120062, 0x00120063, 0x00120064, 0x00280303, 0x00020001, 0x00020012, 0x00020013}
#: Beyond the table: UIDs that name things, people, addresses on the net.
BEYOND = {"UI", "PN", "UR"}
#: Texts, and numbers written as text.
CUT = frozenset("AE AS CS DA DS DT IS LO LT SH ST TM UC UT".split())


@lru_cache(maxsize=1)
def rules() -> tuple[dict[tuple[int, ...], Callable[..., Any]], dict[Any, Callable[..., Any]]]:
    actions = initialize_actions_2024b()
    single = {tag: action for tag, action in actions.items() if len(tag) == 2}
    return single, {tag: action for tag, action in actions.items() if len(tag) == 4}


@lru_cache(maxsize=1 << 14)
def rule(tag: BaseTag) -> tuple[str, Callable[..., Any]] | None:
    """The letter and the action of the other implementation."""
    single, repeating = rules()
    found = single.get((tag.group, tag.element))
    for (group, element, *masks), action in repeating.items():
        if (tag.group & masks[0], tag.element & masks[1]) == (group, element):
            found = action
    return None if found is None else (LETTERS[found.__name__], found)


def theirs(source: Dataset) -> Dataset:
    """The data set as the other implementation leaves it, items as they were."""
    source.remove_private_tags()
    for tag in list(source.keys()):
        found = rule(tag)
        if found is not None:
            try:
                found[1](source, (tag.group, tag.element))
            except NotImplementedError:  # a VR that it does not know
                continue
    return source


class Comparison:
    """Compares results.

    `reasons` counts differences that spec/deidentification.md explains, `others` lists the rest,
    `cut` has every text that is another one now, before and after.
    """

    def __init__(self) -> None:
        self.uids: dict[str, str] = {}
        self.attributes = 0
        self.reasons: Counter[str] = Counter()
        self.others: list[str] = []
        self.cut: set[tuple[str, str, str]] = set()

    def compare(self, name: str, source: Dataset, other: Dataset, ours: Dataset) -> None:
        for tag in sorted({*source.keys(), *ours.keys()}):
            if tag.element == 0 or tag in STAMPED:
                continue
            self.attributes += 1
            self._attribute(f"{name} {tag}", tag, source, other, ours)

    def _attribute(
        self, name: str, tag: BaseTag, source: Dataset, other: Dataset, ours: Dataset
    ) -> None:
        if tag not in source:
            self.others.append(f"{name} was not there")
            return
        if tag.is_private:
            if tag in ours:
                self.others.append(f"{name} is private")
            return
        found = rule(tag)
        letter = "" if found is None else found[0]
        was: Any = source[tag]
        now: Any = ours.get(tag)
        if was.VR == "SQ" and now is not None and now.VR == "SQ" and letter in {"", "X/Z/U*"}:
            if len(was.value) != len(now.value):
                self.others.append(f"{name} has {len(now.value)} items, not {len(was.value)}")
            for at, item in enumerate(was.value):
                other_item = theirs(copy.deepcopy(item))
                self.compare(f"{name}[{at}]", item, other_item, now.value[at])
            return
        self._value(name, letter, was, other.get(tag), now)

    def _value(self, name: str, letter: str, was: Any, other: Any, now: Any) -> None:
        if letter == "":
            self._untouched(name, was, other, now)
        elif letter == "X":
            if now is not None:
                self.others.append(f"{name} {was.keyword} is still there")
            if other is not None:
                self.reasons[f"X of {other.VR} left a dummy"] += 1
        elif letter == "U":
            self._uid(name, was, other, now)
        elif letter in {"Z", "X/Z"}:
            if now is None or (not _is_empty(now.value) and _same(was.value, now.value)):
                self.others.append(f"{name} {was.keyword} is as it was")
        elif now is None or _is_empty(now.value) != (was.VR == "SQ" and not was.value):
            self.others.append(f"{name} {was.keyword} is empty")
        elif was.VR != "SQ" and _same(was.value, now.value):
            self.others.append(f"{name} {was.keyword} is as it was")

    def _untouched(self, name: str, was: Any, other: Any, now: Any) -> None:
        if other is None or not _same(was.value, other.value):
            self.others.append(f"{name} {was.keyword} is in their table only")
        elif now is not None and _same(was.value, now.value):
            return
        elif was.VR in BEYOND:
            self.reasons[f"beyond the table: {was.keyword}"] += 1
        elif now is not None and was.keyword == "SpecificCharacterSet":
            self.reasons["character set as the standard spells it"] += 1
        elif now is not None and was.VR in CUT:
            self.reasons["a name cut out"] += 1
            self.cut.add((was.keyword, str(was.value), str(now.value or "")))
        elif now is None and not dictionary_has_tag(was.tag):
            self.reasons["in no dictionary"] += 1
        else:
            self.others.append(f"{name} {was.keyword} is {now}")

    def _uid(self, name: str, was: Any, other: Any, now: Any) -> None:
        if _is_empty(was.value):
            return
        if now is None or other is None:
            self.others.append(f"{name} {was.keyword} is gone")
            return
        olds, others, news = (
            [each.value] if isinstance(each.value, str) else list(each.value)
            for each in (was, other, now)
        )
        for old, their, new in zip(olds, others, news, strict=True):
            if re.fullmatch(r"1\.2\.840\.10008\..*", old):
                self.reasons["a UID of the standard stays"] += 1
                assert old == new
            elif (
                self.uids.setdefault(their, new) != new
                or old == new
                or not pydicom.uid.UID(new).is_valid
            ):
                self.others.append(f"{name} {was.keyword} is {new}")


def _is_empty(value: Any) -> bool:
    return value is None or (hasattr(value, "__len__") and not len(value))


def _same(one: Any, two: Any) -> bool:
    if _is_empty(one) and _is_empty(two):
        return True
    if isinstance(one, bytes) and isinstance(two, bytes):
        return one.rstrip(b"\0 ") == two.rstrip(b"\0 ")
    if isinstance(one, str) and isinstance(two, str):
        return one.strip(" \0") == two.strip(" \0")
    return bool(one == two) or repr(one) == repr(two)


def compared(sources: list[Path], folder: Path) -> Comparison:
    """All instances of which no other has the UID, with those of the result."""
    comparison = Comparison()
    dicomstudy.convert(sources, folder / "archive")
    report = dicomstudy.deidentify(folder / "archive", folder / "result", key=KEY)
    assert report.problems == []
    made = dicomstudy.open_archive(folder / "result")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of values that were wrong before
        for uid, study in dicomstudy.open_archive(folder / "archive").items():
            with study, made[NEW.uid(uid)] as new:
                counts = Counter(instance.uid for instance in study.values())
                for instance in study.values():
                    if counts[instance.uid] == 1:
                        ours = new[NEW.uids(instance.uid)].to_dataset()
                        compare(comparison, instance.to_dataset(), ours)
    return comparison


def compare(comparison: Comparison, source: Dataset, ours: Dataset) -> None:
    """Compare one instance, its file meta information and its pixels too."""
    assert list(ours.iterall())
    assert ours.get("PixelData") == source.get("PixelData")
    if "MediaStorageSOPInstanceUID" in source.file_meta:
        uid = NEW.uid(source.SOPInstanceUID)
        assert uid == ours.file_meta.MediaStorageSOPInstanceUID
    comparison.compare(source.SOPInstanceUID, source, theirs(copy.deepcopy(source)), ours)


def assert_explained(comparison: Comparison) -> None:
    assert comparison.others == []
    assert len(set(comparison.uids.values())) == len(comparison.uids)
    for keyword, before, after in comparison.cut:
        assert len(after) < len(before) or after in {"REMOVED", ""}, keyword
    known = {"a name cut out", "character set as the standard spells it", "in no dictionary"}
    for reason in comparison.reasons:
        assert reason in known or reason.startswith(("X of DA", "beyond the table"))


def test_real_files(shared: Path, tmp_path: Path) -> None:
    comparison = compared([shared / "corpus"], tmp_path)
    assert comparison.attributes > 250_000
    assert_explained(comparison)
    # people and places are called like these there
    assert {keyword for keyword, _, _ in comparison.cut} <= {
        *("BodyPartExamined", "ContentDescription", "ContentLabel", "FrameType", "ImageType"),
        *("Manufacturer", "ManufacturerModelName", "SequenceName", "SeriesNumber"),
    }


def test_files_of_pydicom_and_fixtures(tmp_path: Path) -> None:
    comparison = compared([*pydicom_folders(), Path(make.__file__).parent / "archive"], tmp_path)
    assert comparison.attributes > 10_000
    assert_explained(comparison)
