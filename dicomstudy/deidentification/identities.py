"""What is taken away of a study, looked for in what stays (spec/deidentification.md).

A name, a number or a place that a profile removes may stand in any text beside it. It is
gathered from all versions of a study, and cut out of every text of the result.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import chain, permutations
from typing import Any, TypeAlias

from dicomstudy.definitions import Definitions
from dicomstudy.deidentification.confidentiality import FULL_DATES, RETAIN_UIDS, Action, Policy
from dicomstudy.deidentification.dummies import GONE
from dicomstudy.deidentification.pseudonyms import UID
from dicomstudy.deidentification.words import (
    SHORTEST,
    Words,
    bytes_pattern,
    cases,
    day_pattern,
    folded,
    runs_on,
    spellings,
    words_in,
)
from dicomstudy.elements import bare_uid
from dicomstudy.errors import DefinitionsError
from dicomstudy.following import inner_set
from dicomstudy.paths import CHARACTER_SET, parse_path
from dicomstudy.record import character_set_of
from dicomstudy.text import UNICODE, CharacterSet, decode_lenient, encode

__all__ = ["Identities", "Read"]

#: The text of a value that is not given as text, as well as it can be read, by the key of its
#: attribute and the character set that it stands in; None if it is none.
Read: TypeAlias = Callable[[str, Any, CharacterSet], str | None]

_TEXTS = frozenset("AE LO LT PN SH ST UC UR UT".split())
#: Those of them in which a backslash is a letter like any other.
_UNDIVIDED = frozenset("LT ST UR UT".split())
_DATES = frozenset(("DA", "DT"))
#: Values of these VRs are numbers, codes of a fixed form and times: only whole ones are taken out.
_WHOLE = frozenset("AS DA DS DT IS TM".split())
_NUMBERS = frozenset(("DS", "IS"))
_TIMES = frozenset(("DA", "DT", "TM"))
_ZONE = "TimezoneOffsetFromUTC"
_NUMBER = re.compile(r"[-+]?[0-9]*\.?[0-9]*(?:e[-+]?[0-9]+)?")
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
_FIXED = frozenset(("Modality", "PhotometricInterpretation", CHARACTER_SET))
_NOBODY = frozenset("anon anonymized anonymous name none null patient removed unknown".split())
_SHORTEST_NUMBER, _SHORTEST_FOREIGN, _SHORTEST_IN_CODES = 4, 2, 5
_SHORTEST_WHOLE = 6
#: Letters of a family or a given name that is looked for only together with the other one.
_SHORTEST_TOGETHER = 2
_DAY = 8
#: An escape sequence that no character set has (ISO 2022).
_ESCAPE = re.compile(r"\x1b[ -/]*[0-~]?")
#: What separates parts of a name that may have signs in them.
_PARTS = re.compile(r"[\s,.-]+")
#: What separates a word from others, and is cut out with the first and the last one.
_SEPARATORS = " ^_-,;\\"
_LINES = re.compile(r"[\r\n]+")
#: Numbers with dots between, as long as they are: one start for each, so that time is linear.
_DOTTED = re.compile(r"(?<![0-9])(?<![0-9]\.)[0-9]++(?:\.[0-9]++)++")
_DOTTED_BYTES = re.compile(_DOTTED.pattern.encode())
_LONGEST_UID = 64
#: Characters of the longest value of a VR that a new UID may be too long for (PS3.5 section 6.2).
_LONGEST = {"AE": 16, "CS": 16, "SH": 16, "LO": 64}
_MOST_PARTS = _LONGEST_UID // 2
#: What bytes that nobody reads as text may be encoded in, beside the character sets of the study.
_CODECS = ("utf-8", "utf-16-le", "utf-16-be", "latin-1")
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
        self._charsets: set[CharacterSet] = set()
        self._finders: dict[tuple[bool, int], Words] = {}
        self._role = lru_cache(maxsize=_MEMO_SIZE)(self._find_role)
        self.clean = lru_cache(maxsize=_MEMO_SIZE)(self._clean)

    def gather(self, attributes: Mapping[str, Any], charset: CharacterSet, read: Read) -> None:
        """Remember what identifies in some attributes, and in those of their items.

        Args:
            attributes: values by key.
            charset: the character set around them.
            read: gives the text of values that are not given as text.
        """
        charset = inner_set(attributes, charset)
        self._charsets.add(charset)
        for key, value in attributes.items():
            if key[:1] == "_" or value is None:
                continue
            if type(value) is list:
                for item in value:
                    self.gather(item, charset, read)
                continue
            name = key.partition("#")[0]
            role = self._role(name)
            if role is not None:
                text = value if type(value) is str else read(name, value, charset)
                if text is not None:
                    self._gather(text, *role)

    def gather_name(self, name: str) -> None:
        """Remember a person name, wherever it stands."""
        self._gather(name, "PN", self._persons)

    def gather_edits(self, edits: Iterable[Mapping[str, Any]]) -> None:
        """Remember what identifies in what edits set."""
        for edit in edits:
            for path, value in edit.get("set", {}).items():
                key = parse_path(path)[-1][0]
                self.gather({key: value}, character_set_of(None), lambda *_: None)

    def gather_study(self, *uids: str) -> None:
        """Remember Study Instance UIDs that a history names."""
        for uid in uids:
            self.gather({"StudyInstanceUID": uid}, character_set_of(None), lambda *_: None)

    def _gather(self, value: str, vr: str, words: set[str]) -> None:
        for each in _ESCAPE.sub("", value).split("\\"):
            if vr == "UI":
                uid = bare_uid(each)
                if UID.fullmatch(uid) or (len(uid) > _LONGEST_UID and _DOTTED.fullmatch(uid)):
                    if RETAIN_UIDS not in self._policy.options:  # else most of them stay elsewhere
                        words.add(uid)
                elif len(uid) >= _SHORTEST_WHOLE:  # no UID, but somebody's all the same
                    _add(self._others, uid)
            elif vr == "PN":
                for group in each.split("="):
                    parts = group.split("^")[:3]
                    for part in parts:
                        alone = words_in(part)
                        _add(words, part, *_PARTS.split(part), *alone, " ".join(alone))
                    whole = "".join("".join(parts).split())
                    if runs_on(whole):
                        _add(words, whole)
                    _add(words, *_together(parts))
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
        if (vr in _WHOLE or key == _ZONE) and _PLAIN.fullmatch(value):
            if vr in _TIMES and FULL_DATES in self._policy.options:
                return value
            return None if any(self._is_known(each, vr) for each in value.split("\\")) else value
        if self._uids:
            value = self._without_uids(vr, value)
        words = self._words(key in _VOCABULARY, _SHORTEST_IN_CODES if vr == "CS" else 0)
        parts = [value] if vr in _UNDIVIDED else value.split("\\")
        return "\\".join([_without(part, words.spans(part)) for part in parts])

    def _is_known(self, value: str, vr: str) -> bool:
        """Whether a number, date or time is one that was taken away, or has such a day in it.

        So it is if a UID stands there that gets a new one.
        """
        if self._uids and self._has_uid(value):
            return True
        known = folded(value.strip())
        if len(known) >= _SHORTEST_WHOLE and known in self._whole:
            return True
        if vr in _NUMBERS and _NUMBER.fullmatch(known):
            return False
        return self._day is not None and self._day.search(known) is not None

    def new_uids(self, value: str) -> str:
        """UIDs that stay where they are, but for those that get new ones elsewhere."""
        uids = value.split("\\")
        return "\\".join(self._new_uid(uid) if uid in self._uids else uid for uid in uids)

    def _without_uids(self, vr: str, value: str) -> str:
        """A text with new UIDs, or without UIDs where these are too long for its VR."""
        replaced = _DOTTED.sub(self._replaced, value)
        longest = _LONGEST.get(vr)
        if longest is None or replaced == value:
            return replaced
        parts = [
            new if len(new) <= longest else _without(old, self._spans_of_uids(old))
            for old, new in zip(value.split("\\"), replaced.split("\\"), strict=True)
        ]
        return "\\".join(parts)

    def _spans_of_uids(self, text: str) -> list[tuple[int, int]]:
        """Where a text has UIDs that get new ones."""
        every = _DOTTED.finditer(text)
        return [found.span() for found in every if self._replaced(found) != found[0]]

    def _replaced(self, found: re.Match[str]) -> str:
        """Dotted numbers with new UIDs in place of those in it, whatever is before and behind.

        What is too long to be one is only replaced as a whole: so time grows with the length alone.
        """
        if found[0] in self._uids:
            return self._new_uid(found[0])
        parts = found[0].split(".")
        made: list[str] = []
        at = 0
        while at < len(parts):
            end = self._end_of_uid(parts, at)
            made.append(self._new_uid(".".join(parts[at:end])) if end else parts[at])
            at = end or at + 1
        return ".".join(made)

    def _end_of_uid(self, parts: Sequence[str], start: int) -> int:
        """Where the longest UID ends that begins at `start`; 0 if none does."""
        found, uid = 0, ""
        for end, part in enumerate(parts[start : start + _MOST_PARTS], start + 1):
            if len(uid) + len(part) >= _LONGEST_UID:
                break
            uid += f".{part}" if uid else part
            if uid in self._uids:
                found = end
        return found

    def is_in(self, content: bytes) -> bool:
        """Whether bytes that nobody reads as text have something of it all the same."""
        if len(content) < _SHORTEST_IN_CODES:
            return False
        if self._encoded is not None and self._encoded.search(content.lower()):
            return True
        if not self._uids:
            return False
        # UTF-16 has zero bytes between
        found = chain(*map(_DOTTED_BYTES.findall, (content, content.replace(b"\0", b""))))
        return any(self._has_uid(each.decode("ascii")) for each in found)

    def _has_uid(self, dotted: str) -> bool:
        return _DOTTED.sub(self._replaced, dotted) != dotted

    @cached_property
    def _whole(self) -> set[str]:
        return {folded(word) for word in self._persons | self._others | self._days}

    @cached_property
    def _day(self) -> re.Pattern[str] | None:
        """A day that was taken away, with or without a time."""
        found = "|".join(map(day_pattern, sorted(self._days)))
        return re.compile(rf"(?<![0-9.])(?:{found})(?![0-9])") if found else None

    @cached_property
    def _encoded(self) -> re.Pattern[bytes] | None:
        found: set[bytes] = set()
        for word in self._persons | self._others | self._days:
            for spelled in spellings(word):
                for codec in _CODECS:
                    with contextlib.suppress(UnicodeEncodeError):
                        found.add(spelled.encode(codec).lower())
                found.update((encode(spelled, each) or b"").lower() for each in self._charsets)
        return bytes_pattern(each for each in found if len(each) >= _SHORTEST_IN_CODES)

    def _words(self, persons_only: bool, shortest: int) -> Words:
        name = (persons_only, shortest)
        if name not in self._finders:
            words = self._persons if persons_only else self._persons | self._others
            long = [word for word in words if len(word) >= shortest]
            self._finders[name] = Words(long, self._days, self._misread)
        return self._finders[name]

    def _misread(self, word: str) -> Iterator[str]:
        """A word as it is read where it is in another character set than its data set says."""
        if word.isascii():
            return
        charsets = {character_set_of(UNICODE), *self._charsets}
        for written, read in permutations(charsets, 2):
            for spelled in cases(word):
                raw = encode(spelled, written)
                if raw is not None:
                    yield decode_lenient(raw, read)


def _without(text: str, cut: Sequence[tuple[int, int]]) -> str:
    """What is left of a text without the spans `cut`, and what separates them; or `GONE`."""
    if not cut:
        return text
    ends = [0, *(end for _, end in cut)]
    starts = [*(start for start, _ in cut), len(text)]
    first, *others = (text[end:start] for end, start in zip(ends, starts, strict=True))
    kept = [first] if first.strip(_SEPARATORS) else []
    for piece in others:
        separators = _SEPARATORS if not kept else " " if kept[-1].endswith(" ") else ""
        if left := piece.lstrip(separators):
            kept.append(left)
    left = "".join(kept)
    return left if others[-1].strip(_SEPARATORS) else left.rstrip(_SEPARATORS) or GONE


def _together(parts: Sequence[str]) -> Iterator[str]:
    """Family and given name as one word, in either order, if one is too short to be found alone."""
    both = [" ".join(part.split()) for part in parts[:2]]
    if len(both) == 2 and _SHORTEST_TOGETHER <= min(map(len, both)) < SHORTEST:
        for one, other in permutations(both):
            yield f"{one} {other}"
            yield f"{one}, {other}"


def _add(words: set[str], *found: str) -> None:
    for each in found:
        word = " ".join(each.split()).strip(" ^_")
        if word.isdigit():
            long = len(word) >= _SHORTEST_NUMBER
        else:
            long = len(folded(word)) >= (SHORTEST if word.isascii() else _SHORTEST_FOREIGN)
        if long and any(map(str.isalnum, word)) and word.lower() not in _NOBODY:
            words.add(word)
