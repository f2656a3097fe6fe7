"""De-identification is that of another implementation, where the standard leaves no choice.

The other one is dicom-anonymizer, with its own copy of Table E.1-1. It does not go into items, so
its actions are tried on every item that is left. spec/deidentification.md has the differences.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pydicom
from dicomanonymizer.simpledicomanonymizer import initialize_actions_2024b
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

import dicomstudy
from dicomstudy.pseudonyms import Pseudonyms

KEY = b"0123456789abcdef"
NEW = Pseudonyms(KEY)
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
    """The data set as the other implementation leaves it; its items are done with by us."""
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
    """Compares results; `reasons` counts differences that are explained, `others` lists the rest."""

    def __init__(self) -> None:
        self.uids: dict[str, str] = {}
        self.attributes = 0
        self.reasons: Counter[str] = Counter()
        self.others: list[str] = []

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
        was, now = source[tag], ours.get(tag)
        if was.VR == "SQ" and now is not None and now.VR == "SQ" and letter in {"", "X/Z/U*"}:
            if len(was.value) != len(now.value):
                self.others.append(f"{name} has {len(now.value)} items, not {len(was.value)}")
            for at, item in enumerate(was.value):
                inner = theirs(pydicom.dcmread_item(item) if False else _copy(item))
                self.compare(f"{name}[{at}]", item, inner, now.value[at])
            return
        self._value(name, letter, was, other.get(tag), now)

    def _value(self, name: str, letter: str, was: Any, other: Any, now: Any) -> None:
        if letter == "":
            if now is None:
                gone = was.VR == "UR" or was.tag.group in {0, 4} or not _is_known(was.tag)
                reason = "beyond the table" if gone else "unreadable"
                self.reasons[f"{reason}: {was.tag} {was.keyword}"] += 1
            elif _same(was.value, now.value):
                if other is not None and not _same(other.value, now.value):
                    self.others.append(f"{name} they changed {was.keyword}")
            elif was.VR in BEYOND:
                self.reasons[f"beyond the table: {was.tag} {was.keyword}"] += 1
            else:
                self.reasons[
                    f"text: {was.tag} {was.keyword} {was.value!r:.60} {now.value!r:.60}"
                ] += 1
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


def _copy(item: Dataset) -> Dataset:
    import copy

    return copy.deepcopy(item)


def _is_known(tag: BaseTag) -> bool:
    return pydicom.datadict.dictionary_has_tag(tag)


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


def compared(source: Path, result: Path) -> Comparison:
    """All instances of an archive whose UID no other has, with those of the result."""
    comparison = Comparison()
    made = dicomstudy.open_archive(result)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of values that were wrong before
        for uid, study in dicomstudy.open_archive(source).items():
            with study, made[NEW.uid(uid)] as new:
                counts = Counter(instance.uid for instance in study.values())
                for instance in study.values():
                    if counts[instance.uid] > 1:
                        continue
                    ours = new[NEW.uids(instance.uid)].to_dataset()
                    assert list(ours.iterall())
                    before = instance.to_dataset()
                    try:
                        other = theirs(instance.to_dataset())
                    except Exception:  # noqa: BLE001 (pydicom does not read what was there)
                        comparison.reasons["pydicom cannot read it"] += 1
                        continue
                    comparison.compare(instance.uid, before, other, ours)
    return comparison
