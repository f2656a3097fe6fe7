"""Words, and patterns that find them however they are written (spec/deidentification.md)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, lru_cache
from itertools import groupby, islice, takewhile
from typing import Literal

__all__ = [
    "SHORTEST",
    "Words",
    "any_of",
    "bytes_pattern",
    "cases",
    "day_pattern",
    "folded",
    "runs_on",
    "spellings",
    "words_in",
]

#: Scripts that set no spaces between words, or add endings to a name.
_HAN, _HANGUL = "\u3005-\u3007\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff", "\uac00-\ud7af"
_OTHERS = "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3040-\u31ff\uff66-\uffdc"
_RUNS_ON = re.compile(f"[{_HAN}{_HANGUL}]{{2,}}|[{_HAN}{_HANGUL}{_OTHERS}]{{3,}}")
#: Letters and digits between which a space is set, and those between which none is.
_SPACED, _UNSPACED = rf"[^\W_{_HAN}{_HANGUL}{_OTHERS}]", f"[{_HAN}{_HANGUL}{_OTHERS}]"
_CHANGE = f"(?<={_SPACED})(?={_UNSPACED})|(?<={_UNSPACED})(?={_SPACED})"
#: A quotation mark or dash in UTF-8 that is read as Latin-1: its first byte is like a letter.
_MISREAD_SIGN = r"(?=[^\W_]\x80[\x80-\x9f])"
#: Where a word may begin, and where it may end, in text without letters of such a script.
_BEGIN, _END = r"(?<![^\W_])", rf"(?:(?![^\W_])|{_MISREAD_SIGN})"
#: The same in any text: many times as long to compile as all else.
_BEGIN_IN_ANY, _END_IN_ANY = f"(?:{_BEGIN}|{_CHANGE})", f"(?:{_END}|{_CHANGE})"
_HAS_UNSPACED = re.compile(_UNSPACED)
#: Accents of letters where they are apart, points and vowels of Hebrew and Arabic, dots of Indic;
#: and what only stretches a word, may divide it, or chooses a form of its letters.
_ACCENTS = re.compile(
    "[\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u064b-\u065f\u0670"
    "\u093c\u09bc\u0a3c\u0abc\u0b3c\u0cbc\u0640\u00ad\ufe00-\ufe0f\U000e0100-\U000e01ef]+"
)
#: Letters with a stroke, and an i without its dot, of which no accent says so; and other signs
#: for an apostrophe and a hyphen.
_ALIKE = str.maketrans(
    "\u00f8\u0111\u0127\u0131\u0142\u0167\u02bc\u2018\u2019\u2032\u2010\u2012\u2013\u2014\u2212",
    "odhilt''''-----",
)
#: What is between the parts of a name: all of it, so that none is looked at twice.
_BETWEEN = r"[\s^_]++"
#: What becomes of a letter that is not valid in a character set.
_LOST = "[?\ufffd]"
#: How many of them stand for a letter at most: one for each of its bytes.
_MOST_BYTES = 4
#: Letters that a word needs in ASCII to be found though its others were lost.
_ENOUGH = 3
#: Characters of the shortest word that is looked for, if it is one of ASCII.
SHORTEST = 3
#: Letters that stand apart of what makes one of them: kana and their marks, parts of Hangul.
_JOINED = re.compile(
    "[\u3041-\u30ff\uff66-\uff9d][\u3099\u309a\uff9e\uff9f]"
    "|[\u1100-\u1112][\u1161-\u1175][\u11a8-\u11c2]?"
)
_LETTER = re.compile(f"(?:{_JOINED.pattern}|.)(?:{_ACCENTS.pattern})?", re.DOTALL)
#: A time behind a day, as in DICOM or as in ISO 8601, and its zone.
_TIME = r"(?:t?[0-9]{4,6}(?:\.[0-9]{1,6})?|t[0-9]{2}(?::[0-9]{2}){0,2}(?:[.,][0-9]{1,9})?)"
_WITH_TIME = f"(?:{_TIME}(?:z|[-+][0-9]{{2}}(?::?[0-9]{{2}})?)?)?"
#: Patterns that are deeper in one another than this are written side by side.
_DEEPEST = 40


def runs_on(word: str) -> bool:
    """Whether a name is found between other letters too, since no space is set around it."""
    return _RUNS_ON.fullmatch(word.replace(" ", "")) is not None


def words_in(name: str) -> list[str]:
    """The parts of a name between what is neither letter nor digit, nor a mark of a letter."""
    return "".join(each if _is_of_word(each) else " " for each in name).split()


def folded(text: str) -> str:
    """A text in which cases, accents and widths of letters make no difference; ß is ss."""
    if text.isascii():
        return text.lower()
    return "".join(map(_folded_letter, _JOINED.sub(_composed, text)))


def _composed(found: re.Match[str]) -> str:
    return unicodedata.normalize("NFKC", found[0])


@lru_cache(maxsize=1 << 14)
def _folded_letter(letter: str) -> str:
    """What becomes of a character; signs do not become letters, as the one for trade marks."""
    apart = unicodedata.normalize("NFKD", letter)
    if not _is_of_word(letter) and any(map(_is_of_word, apart)):
        apart = letter
    bare = _ACCENTS.sub("", apart).casefold()
    return _JOINED.sub(_composed, bare.translate(_ALIKE))


def _is_of_word(letter: str) -> bool:
    """Whether a character is a letter, a digit or a mark of one."""
    return letter.isalnum() or unicodedata.category(letter).startswith("M")


def _unfolded(found: Iterable[tuple[int, int]], text: str) -> Iterator[tuple[int, int]]:
    """The spans in a text that are `found`, in order, in what is folded of it."""
    places = (place for place in _letters_of(text) for _ in folded(text[slice(*place)]))
    at = 0
    for start, end in found:
        letters = list(islice(places, start - at, end - at))
        yield letters[0][0], letters[-1][1]
        at = end


def _letters_of(text: str) -> Iterator[tuple[int, int]]:
    """Where each letter of a text begins and ends, with what is joined to it once it is folded."""
    return (found.span() for found in _LETTER.finditer(text))


def spellings(word: str) -> set[str]:
    """A word as it may be written where case counts, with its accents apart or not, or wide."""
    forms: tuple[Literal["NFC", "NFD", "NFKC"], ...] = ("NFC", "NFD", "NFKC")
    return {unicodedata.normalize(form, each) for form in forms for each in cases(word)}


def cases(word: str) -> set[str]:
    """A word as it is, in small letters, in capitals, and with a capital first."""
    return {word, word.lower(), word.upper(), word.title()}


class Words:
    """Finds any of some words, and days, that stand between what is neither letter nor digit.

    Beside letters of a script that sets no spaces, those of other scripts are found too.

    Args:
        words: as they are, not `folded`.
        days: eight digits each.
        misread: gives a word as others read it; of that no letters are lost, and it stands
            between any letters if the word runs on.
    """

    def __init__(
        self,
        words: Iterable[str],
        days: Iterable[str],
        misread: Callable[[str], Iterable[str]],
    ) -> None:
        run_on: list[list[str]] = []
        others: list[list[str]] = []
        for word in words:
            found = run_on if runs_on(folded(word)) else others
            found.append(_letters(word))
            found += [_plain(each.strip()) for each in set(map(folded, misread(word)))]
        self._run_on = any_of(run_on)
        self._others = "|".join(filter(None, [any_of(others), *map(day_pattern, days)]))

    @cached_property
    def _in_spaced(self) -> re.Pattern[str]:
        """For text without letters of a script that sets no spaces."""
        return self._between(_BEGIN, _END)

    @cached_property
    def _in_any(self) -> re.Pattern[str]:
        """For any text."""
        return self._between(_BEGIN_IN_ANY, _END_IN_ANY)

    def _between(self, begin: str, end: str) -> re.Pattern[str]:
        parts = [f"{begin}(?:{self._others}){end}"] if self._others else []
        return re.compile("|".join([*parts, self._run_on] if self._run_on else parts))

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where a text has any of them, however it is written: where each begins and ends.

        Two letters of ASCII are no word: they are one that has lost its accents, like many others.
        """
        if not (self._others or self._run_on):
            return []
        plain = folded(text)
        pattern = self._in_any if _HAS_UNSPACED.search(plain) else self._in_spaced
        found = [match.span() for match in pattern.finditer(plain)]
        return [
            (start, end)
            for start, end in (found if text.isascii() else _unfolded(found, text))
            if end - start >= SHORTEST or not text[start:end].isascii()
        ]


def bytes_pattern(words: Iterable[bytes]) -> re.Pattern[bytes] | None:
    """Finds any of some bytes."""
    found = any_of([re.escape(letter) for letter in each.decode("latin-1")] for each in words)
    return re.compile(found.encode("latin-1"), re.DOTALL) if found else None


def day_pattern(digits: str) -> str:
    """A date as it may be written, in small letters, with the time if that follows at once."""
    year, month, day = digits[:4], digits[4:6], digits[6:]
    short_month, short_day = (re.sub("^0", "0?", each) for each in (month, day))
    return (
        f"(?:{year}[-./]?{month}[-./]?{day}|{year}[-./]{short_month}[-./]{short_day}"
        f"|{short_day}[-./]{short_month}[-./]{year}|{short_month}[-./]{short_day}[-./]{year})"
        f"{_WITH_TIME}"
    )


def _letters(word: str) -> list[str]:
    """A pattern for each letter of a word, and for whatever may be between its parts.

    Letters beyond ASCII that follow one another, and those that were lost, are one: so no text is
    found in several ways.
    """
    if sum(each.isascii() and each.isalnum() for each in word) < _ENOUGH:
        return _plain(folded(word))
    letters = [word[slice(*place)] for place in _letters_of(word)]
    found: list[str] = []
    for stays, some in groupby(letters, key=_is_kept):
        alike = folded("".join(some))
        if stays:
            found += _plain(alike)
        elif alike:
            lost = f"{_LOST}{{1,{_MOST_BYTES * len(alike)}}}"
            is_lost = all(re.match(_LOST, each) for each in alike)
            found.append(lost if is_lost else f"(?:{re.escape(alike)}|{lost})")
    return found


def _is_kept(letter: str) -> bool:
    """Whether a letter is looked for as it is: it is one of ASCII, or between parts of a name."""
    return letter != "?" and (letter.isascii() or folded(letter) in {"^", "_"})


def _plain(text: str) -> list[str]:
    """A pattern for each character of a text that is folded, and one for what is between parts."""
    spaced = re.sub(_BETWEEN, " ", text)
    return [_BETWEEN if each == " " else re.escape(each) for each in spaced]


def any_of(words: Iterable[Sequence[str]]) -> str:
    """A pattern for any of some words, each a row of patterns; the longest that fits is found.

    What words have in common at their beginning is written once, so that it takes hardly more
    time to look for many of them.
    """
    return _branches(sorted({tuple(word) for word in words if word}), 0)


def _branches(words: list[tuple[str, ...]], depth: int) -> str:
    if depth == _DEEPEST:
        return "|".join("".join(word) for word in sorted(words, key=len, reverse=True))
    branches = []
    for _, group in groupby(words, key=lambda word: word[0]):
        alike = list(group)
        pairs = zip(alike[0], alike[-1], strict=False)  # they are in order
        shared = [one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs)]
        rests = [word[len(shared) :] for word in alike if len(word) > len(shared)]
        rest = f"(?:{_branches(rests, depth + 1)})" if rests else ""
        optional = "?" if rests and len(rests) < len(alike) else ""
        branches.append(f"{''.join(shared)}{rest}{optional}")
    return "|".join(branches)
