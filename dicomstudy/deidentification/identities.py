"""What is taken away of a study, looked for in what stays (spec/deidentification.md).

A name, a number or a place that a profile removes may stand in any text beside it. It is
gathered from all versions of a study, and cut out of every text of the result.
"""

from __future__ import annotations

import contextlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, lru_cache
from typing import Any, TypeAlias

from dicomstudy.definitions import Definitions
from dicomstudy.deidentification.confidentiality import Action, Policy
from dicomstudy.deidentification.dummies import GONE
from dicomstudy.errors import DefinitionsError
from dicomstudy.paths import parse_path

__all__ = ["Identities", "Read"]

#: The text of a large value, by the key of its attribute and its reference; None if it is none.
Read: TypeAlias = Callable[[str, Mapping[str, Any]], str | None]

_TEXTS = frozenset("AE LO LT PN SH ST UC UR UT".split())
_DATES = frozenset(("DA", "DT"))
#: Values of these VRs are numbers, codes of a fixed form and times: only whole ones are taken out.
_WHOLE = frozenset("AS DA DS DT IS TM".split())
#: What such values are made of; a text of others is a text like any.
_PLAIN = re.compile(r"[-+0-9.:eEDWMY\\ ]*")
#: Attributes in which only a person is looked for: what makes, sites and devices are called stays.
_VOCABULARY = frozenset(
    (
        *("CodeMeaning", "CodeValue", "CodingSchemeDesignator", "LongCodeValue", "Manufacturer"),
        *("ManufacturerModelName", "SoftwareVersions"),
    )
)
#: Attributes that say how the others are to be read.
_FIXED = frozenset(("Modality", "PhotometricInterpretation", "SpecificCharacterSet"))
_NOBODY = frozenset("anon anonymized anonymous name none null patient removed unknown".split())
_SHORTEST, _SHORTEST_NUMBER, _SHORTEST_FOREIGN, _SHORTEST_IN_CODES = 3, 4, 2, 5
_SHORTEST_WHOLE = 6
_DAY = 8
_LINES = re.compile(r"[\r\n]+")
_UID = re.compile(r"(?<![0-9.])[0-2](?:\.[0-9]+){2,}")
#: What bytes that nobody reads as text may be encoded in all the same.
_CODECS = ("utf-8", "utf-16-le", "latin-1")
_MEMO_SIZE = 1 << 14


class Identities:
    """Gathers what identifies, then cuts it out of texts.

    Args:
        policy: says what is removed.
        definitions: those of the format.
        new_uid: gives the UID that takes the place of one.
    """

    def __init__(
        self, policy: Policy, definitions: Definitions, new_uid: Callable[[str], str]
    ) -> None:
        self._policy = policy
        self._definitions = definitions
        self._new_uid = new_uid
        self._persons: set[str] = set()
        self._others: set[str] = set()
        self._days: set[str] = set()
        self._uids: set[str] = set()
        self._patterns: dict[tuple[bool, int], re.Pattern[str] | None] = {}
        self._role = lru_cache(maxsize=_MEMO_SIZE)(self._find_role)
        self.clean = lru_cache(maxsize=_MEMO_SIZE)(self._clean)

    def gather(self, attributes: Mapping[str, Any], read: Read) -> None:
        """Remember what identifies in some attributes, and in those of their items.

        Args:
            attributes: values by key.
            read: gives the text of a large value of an attribute.
        """
        for key, value in attributes.items():
            if key[:1] == "_" or value is None:
                continue
            if type(value) is list:
                for item in value:
                    self.gather(item, read)
                continue
            name = key.partition("#")[0]
            role = self._role(name)
            if role is not None:
                text = read(name, value) if type(value) is dict else value
                if type(text) is str:
                    self._gather(text, *role)

    def gather_edits(self, edits: Iterable[Mapping[str, Any]]) -> None:
        """The same of what edits set."""
        for edit in edits:
            for path, value in edit.get("set", {}).items():
                self.gather({parse_path(path)[-1][0]: value}, lambda _, __: None)

    def _gather(self, value: str, vr: str, words: set[str]) -> None:
        if vr == "UI":
            words.update(value.split("\\"))
            return
        for each in value.split("\\"):
            if vr == "PN":
                for group in each.split("="):
                    for part in group.split("^")[:3]:
                        _add(words, part, *re.split(r"[\s,.-]+", part))
            elif vr in _TEXTS:
                _add(words, each, *_LINES.split(each))
            elif len(day := re.sub(r"\D", "", each)[:_DAY]) == _DAY:
                words.add(day)

    def _find_role(self, key: str) -> tuple[str, set[str]] | None:
        """The VR of an attribute, and what its values go to; None if they identify nothing."""
        try:
            tag = self._definitions.tag(key)
        except DefinitionsError:
            return None
        vr = self._definitions.vr(tag)
        if vr == "UI":
            return (vr, self._uids) if self._policy.action(tag) is Action.UID else None
        if vr not in _TEXTS | _DATES or not self._policy.identifies(tag):
            return None
        if vr in _DATES:
            return vr, self._days
        return vr, self._persons if vr == "PN" or tag >> 16 == 0x0010 else self._others

    def _clean(self, key: str, vr: str, value: str) -> str | None:
        """A text without what identifies; None if all of it did and nothing may stand there.

        It is `value` itself if there was nothing.
        """
        if key in _FIXED:
            return value
        if vr in _WHOLE and _PLAIN.fullmatch(value):
            known = value.strip().lower()
            whole = len(known) >= _SHORTEST_WHOLE and known in self._whole
            return None if whole else value
        if self._uids:
            value = _UID.sub(self._replaced, value)
        pattern = self._pattern(key in _VOCABULARY, _SHORTEST_IN_CODES if vr == "CS" else 0)
        if pattern is None:
            return value
        cleaned, count = pattern.subn("", value)
        if not count:
            return value
        parts = [re.sub(r" {2,}", " ", part).strip(" ^_-,;") for part in cleaned.split("\\")]
        return "\\".join(part or GONE for part in parts)

    def _replaced(self, found: re.Match[str]) -> str:
        uid = found[0].rstrip(".")
        return self._new_uid(uid) + found[0][len(uid) :] if uid in self._uids else found[0]

    def is_in(self, content: bytes) -> bool:
        """Whether bytes that nobody reads as text have something of it all the same."""
        lower = content.lower()
        return any(word in lower for word in self._encoded)

    @cached_property
    def _whole(self) -> set[str]:
        return {word.lower() for word in self._persons | self._others | self._days}

    @cached_property
    def _encoded(self) -> set[bytes]:
        found = set()
        for word in self._persons | self._others | self._days:
            for spelled in _spellings(word):
                for codec in _CODECS:
                    with contextlib.suppress(UnicodeEncodeError):
                        found.add(spelled.encode(codec).lower())
        return {each for each in found if len(each) >= _SHORTEST_IN_CODES}

    def _pattern(self, persons_only: bool, shortest: int) -> re.Pattern[str] | None:
        name = (persons_only, shortest)
        if name not in self._patterns:
            words = self._persons if persons_only else self._persons | self._others
            spelled = {each for w in words if len(w) >= shortest for each in _spellings(w)}
            chosen = [re.sub(r"(?:\\ )+", r"[\\s^_]+", re.escape(word)) for word in spelled]
            chosen += map(_day_pattern, self._days)
            chosen.sort(key=lambda each: (-len(each), each))
            pattern = None
            if chosen:
                any_of = "|".join(chosen)
                pattern = re.compile(rf"(?<![^\W_])(?:{any_of})(?![^\W_])", re.IGNORECASE)
            self._patterns[name] = pattern
        return self._patterns[name]


def _add(words: set[str], *found: str) -> None:
    for each in found:
        word = " ".join(each.split())
        if word.isdigit():
            long = len(word) >= _SHORTEST_NUMBER
        else:
            long = len(word) >= (_SHORTEST if word.isascii() else _SHORTEST_FOREIGN)
        if long and any(map(str.isalnum, word)) and word.lower() not in _NOBODY:
            words.add(word)


def _spellings(word: str) -> set[str]:
    """A word as it may be written where case counts, and with its accents apart or not."""
    cases = (word, word.lower(), word.upper())
    return {unicodedata.normalize(form, each) for form in ("NFC", "NFD") for each in cases}


def _day_pattern(digits: str) -> str:
    """A date as it may be written, with the time behind it if nothing is between them."""
    year, month, day = digits[:4], digits[4:6], digits[6:]
    time = r"(?:T?[0-9]{4,6}(?:\.[0-9]{1,6})?)?"
    return (
        f"{year}[-./]?{month}[-./]?{day}{time}|{day}[-./]{month}[-./]{year}"
        f"|{month}[-./]{day}[-./]{year}"
    )
