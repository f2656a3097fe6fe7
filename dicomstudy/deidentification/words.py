"""Words, and patterns that find them however they are written (spec/deidentification.md)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import groupby, takewhile
from typing import Literal

__all__ = ["any_of", "bytes_pattern", "day_pattern", "runs_on", "spellings", "words_pattern"]

#: Scripts that set no spaces between words, or add endings to a name.
_HAN, _HANGUL = "\u3005-\u3007\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff", "\uac00-\ud7af"
_OTHERS = "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3040-\u31ff\uff66-\uffdc"
_RUNS_ON = re.compile(f"[{_HAN}{_HANGUL}]{{2,}}|[{_HAN}{_HANGUL}{_OTHERS}]{{3,}}")
#: Letters and digits between which a space is set, and those between which none is.
_SPACED, _UNSPACED = rf"[^\W_{_HAN}{_HANGUL}{_OTHERS}]", f"[{_HAN}{_HANGUL}{_OTHERS}]"
_CHANGE = f"(?<={_SPACED})(?={_UNSPACED})|(?<={_UNSPACED})(?={_SPACED})"
#: Where a word may begin, and where it may end.
_BEGIN, _END = rf"(?:(?<![^\W_])|{_CHANGE})", rf"(?:(?![^\W_])|{_CHANGE})"
#: Patterns that are deeper in one another than this are written side by side.
_DEEPEST = 40


def runs_on(word: str) -> bool:
    """Whether a name is found between other letters too, since no space is set around it."""
    return _RUNS_ON.fullmatch(word.replace(" ", "")) is not None


def spellings(word: str) -> set[str]:
    """A word as it may be written where case counts, with its accents apart or not, or wide."""
    cases = (word, word.lower(), word.upper())
    forms: tuple[Literal["NFC", "NFD", "NFKC"], ...] = ("NFC", "NFD", "NFKC")
    return {unicodedata.normalize(form, each) for form in forms for each in cases}


def words_pattern(words: Iterable[str], days: Iterable[str]) -> re.Pattern[str] | None:
    """Finds any of some words, and days, that stand between what is neither letter nor digit.

    Beside letters of a script that sets no spaces, those of other scripts are found too.
    """
    spelled = {each for word in words for each in spellings(word)}
    run_on = {each for each in spelled if runs_on(each)}
    alone = [any_of(map(_letters, spelled - run_on)), *map(day_pattern, days)]
    either = "|".join(each for each in alone if each)
    found = [f"{_BEGIN}(?:{either}){_END}"] if either else []  # once: it takes long to compile
    found += [any_of(map(_letters, run_on))] if run_on else []
    return re.compile("|".join(found), re.IGNORECASE) if found else None


def bytes_pattern(words: Iterable[bytes]) -> re.Pattern[bytes] | None:
    """Finds any of some bytes."""
    found = any_of([re.escape(letter) for letter in each.decode("latin-1")] for each in words)
    return re.compile(found.encode("latin-1"), re.DOTALL) if found else None


def day_pattern(digits: str) -> str:
    """A date as it may be written, with the time behind it if nothing is between them."""
    year, month, day = digits[:4], digits[4:6], digits[6:]
    time = r"(?:T?[0-9]{4,6}(?:\.[0-9]{1,6})?)?"
    short_month, short_day = (re.sub("^0", "0?", each) for each in (month, day))
    return (
        f"{year}[-./]?{month}[-./]?{day}{time}|{year}[-./]{short_month}[-./]{short_day}"
        f"|{short_day}[-./]{short_month}[-./]{year}|{short_month}[-./]{short_day}[-./]{year}"
    )


def _letters(word: str) -> list[str]:
    """A pattern for each letter of a word, and for whatever may be between its parts."""
    return [r"[\s^_]+" if letter == " " else re.escape(letter) for letter in word]


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
