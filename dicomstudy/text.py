"""The text of a value: bytes in a Specific Character Set (0008,0005) ↔ Unicode.

The law: ``decode(encode(t)) == t`` for every text that can be encoded, hence
``encode(decode(b)) == b`` for every `b` that `encode` writes. Other bytes (escape sequences
that change nothing, for one) may decode too, but are written back in the one canonical form:
whoever needs the exact bytes compares, and keeps the raw value if they differ.

A value is decoded whole, all its values and their backslashes together: in GBK, GB18030 and
the Japanese sets a byte 5C can be the second half of a character. In the decoded text every
backslash is a real one, so that the text can be split there.

PS3.3 C.12.1.1.2, PS3.5 6.1 and Annexes H to K; spec/text.md.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from dicomstudy.errors import Problem

__all__ = ["UNICODE", "CharacterSet", "character_set", "decode", "decode_lenient", "encode"]

#: The defined term of the character set that holds every character (PS3.3 C.12.1.1.2).
UNICODE = "ISO_IR 192"


class _GraphicSet(NamedTuple):
    """A set of graphic characters, and the escape sequence that designates it."""

    escape: bytes
    codec: str  # Python's name of a codec that has ASCII and this set
    double: bool = False  # a set of two-byte codes that replaces ASCII as G0


# By the number in the defined term; all are G1 but for the two Japanese ones.
_SETS = MappingProxyType(
    {
        "100": _GraphicSet(b"\x1b-A", "latin_1"),
        "101": _GraphicSet(b"\x1b-B", "iso8859_2"),
        "109": _GraphicSet(b"\x1b-C", "iso8859_3"),
        "110": _GraphicSet(b"\x1b-D", "iso8859_4"),
        "144": _GraphicSet(b"\x1b-L", "iso8859_5"),
        "127": _GraphicSet(b"\x1b-G", "iso8859_6"),
        "126": _GraphicSet(b"\x1b-F", "iso8859_7"),
        "138": _GraphicSet(b"\x1b-H", "iso8859_8"),
        "148": _GraphicSet(b"\x1b-M", "iso8859_9"),
        "203": _GraphicSet(b"\x1b-b", "iso8859_15"),
        "13": _GraphicSet(b"\x1b)I", "shift_jis"),
        "166": _GraphicSet(b"\x1b-T", "tis_620"),
        "87": _GraphicSet(b"\x1b$B", "iso2022_jp", double=True),
        "159": _GraphicSet(b"\x1b$(D", "iso2022_jp_1", double=True),
        "149": _GraphicSet(b"\x1b$)C", "euc_kr"),
        "58": _GraphicSet(b"\x1b$)A", "gb2312"),
    }
)
_BY_ESCAPE = MappingProxyType({each.escape: each for each in _SETS.values()})
_ASCII = b"\x1b(B"  # ISO-IR 6 as G0
_ROMAJI = b"\x1b(J"  # ISO-IR 14 as G0
_ESCAPE = re.compile(rb"(\x1b(?:\([BJ]|\)I|-[ABCDFGHLMTb]|\$B|\$\(D|\$\)[AC]))")

_MULTI_BYTE = frozenset({"87", "159", "149", "58"})
_STANDALONE = MappingProxyType({UNICODE: "utf_8", "GB18030": "gb18030", "GBK": "gbk"})
_TERM = re.compile(r"ISO(?:(2022)(?:IR)?|IR)0*([1-9][0-9]*)")
_ALIASES = MappingProxyType(
    {
        "ISOIR192": UNICODE,
        "UTF8": UNICODE,
        "ISO2022IR192": UNICODE,
        "GB18030": "GB18030",
        "GBK": "GBK",
        "ISO2022GBK": "GBK",
        "GB2312": "ISO 2022 IR 58",
        "EUCKR": "ISO 2022 IR 149",
        "TIS620": "ISO_IR 166",
        "ASCII": "ISO_IR 6",
        "USASCII": "ISO_IR 6",
        "LATIN1": "ISO_IR 100",
        "ISO88591": "ISO_IR 100",
        "ISO88592": "ISO_IR 101",
        "ISO88593": "ISO_IR 109",
        "ISO88594": "ISO_IR 110",
        "ISO88595": "ISO_IR 144",
        "ISO88596": "ISO_IR 127",
        "ISO88597": "ISO_IR 126",
        "ISO88598": "ISO_IR 138",
        "ISO88599": "ISO_IR 148",
        "ISO885911": "ISO_IR 166",
        "ISO885915": "ISO_IR 203",
    }
)

# What brings back the initial state (PS3.5 6.1.2.5.3): [person_name][multi].
_CONTROL = re.compile(rb"[\x00-\x1a\x1c-\x1f]")
_RESETS = (
    (_CONTROL, re.compile(rb"[\x00-\x1a\x1c-\x1f\\]")),
    (re.compile(rb"[\x00-\x1a\x1c-\x1f^=]"), re.compile(rb"[\x00-\x1a\x1c-\x1f^=\\]")),
)
_NOT_KATAKANA = re.compile(rb"[\x80-\xa0\xe0-\xff]")
_BYTE_RUNS = re.compile(rb"([\x21-\x7e]+)|([\x80-\xff]+|[\x00-\x20\x7f]+)")
_TEXT_RUNS = re.compile(r"[\x00-\x7f]+|[^\x00-\x7f]+")
#: What has more values is not remembered; there are some twenty terms.
_MOST_VALUES = 64
#: Problems that one character set has.
_MOST_PROBLEMS = 16


@dataclass(frozen=True, slots=True, eq=False)
class CharacterSet:
    """What the values of (0008,0005) mean; made by `character_set`, compared by identity.

    Attributes:
        terms: the defined terms as the standard writes them, value 1 first. Never empty: the
            default repertoire is "ISO_IR 6", or "ISO 2022 IR 6" before code extensions.
        problems: what was wrong with the values as written.
        extensions: whether escape sequences may switch between the sets of `terms`.
        codec: Python's codec for text before any escape sequence.
        initial: the set that is G1 before any escape sequence.
        sets: all sets that escape sequences may designate, in the order of `terms`.
    """

    terms: tuple[str, ...]
    problems: tuple[Problem, ...]
    extensions: bool
    codec: str
    initial: _GraphicSet | None
    sets: tuple[_GraphicSet, ...]

    @property
    def home(self) -> bytes:
        """The escape sequence that brings the initial G0 back."""
        return _ROMAJI if self.initial == _SETS["13"] else _ASCII


def character_set(values: tuple[str, ...]) -> CharacterSet:
    """The character set that the values of (0008,0005) name.

    Misspelled terms are taken for what they mean, unknown ones as the default repertoire if
    they come first and otherwise as absent, each with a problem.

    Args:
        values: the attribute's values, split at the backslash; () or ("",) if absent or empty.
    """
    return _remembered(values) if len(values) <= _MOST_VALUES else _character_set(values)


def _character_set(values: tuple[str, ...]) -> CharacterSet:
    written = [value.strip(" \0") for value in values]
    while written and not written[-1]:
        written.pop()
    several = len(written) > 1
    problems: list[Problem] = []
    first, *others = written or [""]
    term = _read_term(first, problems, several=several) if first else None
    terms = [term or ("ISO 2022 IR 6" if several else "ISO_IR 6")]
    if _number(terms[0]) in _MULTI_BYTE:
        message = f"character set {terms[0]!r} as value 1, which must be a single-byte one"
        problems.append(_problem("text/misplaced-character-set", message))
    for value in filter(None, dict.fromkeys(others)):
        term = _read_term(value, problems, several=several)
        if term and (term in _STANDALONE or terms[0] in _STANDALONE):
            message = f"character set {term!r} ignored after {terms[0]!r}: they do not combine"
            problems.append(_problem("text/misplaced-character-set", message))
        elif term and term not in terms:
            terms.append(term)
    if terms[0] in _STANDALONE:
        return CharacterSet(
            terms=tuple(terms),
            problems=tuple(problems[:_MOST_PROBLEMS]),
            extensions=False,
            codec=_STANDALONE[terms[0]],
            initial=None,
            sets=(),
        )
    sets = tuple(_SETS[number] for number in map(_number, terms) if number in _SETS)
    initial = _SETS.get(_number(terms[0]))
    if initial and initial.double:
        initial = None
    return CharacterSet(
        terms=tuple(terms),
        problems=tuple(problems[:_MOST_PROBLEMS]),
        extensions=terms[0].startswith("ISO 2022"),
        codec=initial.codec if initial else "ascii",
        initial=initial,
        sets=sets,
    )


_remembered = lru_cache(maxsize=1024)(_character_set)


def decode(
    raw: bytes, charset: CharacterSet, *, person_name: bool = False, multi: bool = True
) -> str | None:
    """The text of a value, or None where its bytes are not valid in the character set.

    Mirror of `encode`: ``decode(encode(t)) == t``, and any text that comes back can be encoded.
    The text has no U+001B and no surrogates. Time grows with the length alone.

    Args:
        raw: the whole value, with its backslashes and perhaps its padding.
        charset: what (0008,0005) says, from `character_set`.
        person_name: the VR is PN: "^" and "=" bring the initial state back (PS3.5 6.1.2.5.3).
        multi: the VR can have several values: a backslash does too (so not in ST, LT, UT, UR).
    """
    try:
        if b"\x1b" not in raw:
            # every codec here has ASCII below 80, so this is only the faster way
            if raw.isascii():
                return raw.decode("ascii")
            return _decode_run(raw, charset.codec, lenient=False)
        if not charset.extensions:
            return None
        return _decode_extended(raw, charset, _RESETS[person_name][multi], lenient=False)
    except UnicodeError:
        return None


def decode_lenient(
    raw: bytes, charset: CharacterSet, *, person_name: bool = False, multi: bool = True
) -> str:
    """Text to show for any bytes; what `decode` gives wherever that gives something.

    Escape sequences are followed even if the set was not declared. Where the initial state cannot
    hold bytes above 7F, they are of the set that was designated last, as in names that designate
    it once for all their components; else they are Latin-1, those of ISO_IR 13 Shift JIS. What is
    invalid even then becomes U+FFFD. Not to be encoded back. Arguments as for `decode`.
    """
    text = decode(raw, charset, person_name=person_name, multi=multi)
    if text is not None:
        return text
    if charset.terms[0] in _STANDALONE:
        return raw.decode(charset.codec, "replace")
    return _decode_extended(raw, charset, _RESETS[person_name][multi], lenient=True)


def encode(
    text: str, charset: CharacterSet, *, person_name: bool = False, multi: bool = True
) -> bytes | None:
    """The canonical bytes of a text, or None where the character set cannot hold it.

    Mirror of `decode`. A set stays in use as long as it has the next character, otherwise the
    first declared one that has it is designated; the initial state is back before each
    delimiter and at the end (PS3.5 6.1.2.5.3, spec/text.md). Arguments as for `decode`.
    """
    if "\x1b" in text:
        return None
    try:
        if text.isascii():
            return text.encode("ascii")
        if charset.extensions:
            raw = _encode_extended(text, charset, _RESETS[person_name][multi])
        else:
            raw = text.encode(charset.codec)
        # Codecs fold a few characters together (a yen sign into 5C): those are not encodable.
        same = decode(raw, charset, person_name=person_name, multi=multi) == text
    except UnicodeError:
        return None
    return raw if same else None


def _read_term(written: str, problems: list[Problem], *, several: bool) -> str | None:
    """The defined term that is meant, or None if unknown; adds what is wrong to `problems`."""
    term = _defined_term(re.sub(r"[^A-Z0-9]", "", written.upper()))
    if term is None:
        message = f"unknown character set {written[:64]!r} ignored"
        problems.append(_problem("text/unknown-character-set", message))
        return None
    if several and term not in _STANDALONE:
        term = f"ISO 2022 IR {_number(term)}"
    if term != written:
        message = f"character set {written[:64]!r} taken as {term!r}"
        problems.append(_problem("text/misspelled-character-set", message))
    return term


def _defined_term(squashed: str) -> str | None:
    """The defined term that consists of these letters and digits, or nearly so."""
    if squashed in _ALIASES:
        return _ALIASES[squashed]
    match = _TERM.fullmatch(squashed)
    if match is None:
        return None
    extended, number = match.groups()
    if number != "6" and number not in _SETS:
        return None
    return f"ISO 2022 IR {number}" if extended or number in _MULTI_BYTE else f"ISO_IR {number}"


def _number(term: str) -> str:
    return term.rpartition(" ")[2]


def _problem(code: str, message: str) -> Problem:
    return Problem(None, code, message, None, "00080005")


def _decode_run(run: bytes, codec: str, *, lenient: bool, last: str = "") -> str:
    """Text whose G0 is ASCII (or romaji) and whose G1 is what `codec` has above 7F.

    A lenient reader tries the G1 of `last` where that cannot be.
    """
    if lenient:
        for each in (codec, last) if last not in {"", codec} else ():
            with contextlib.suppress(UnicodeError):
                return _decode_run(run, each, lenient=False)
        return run.decode("latin_1" if codec == "ascii" else codec, "replace")
    if codec == "shift_jis":  # of which ISO-IR 13 is the single-byte part
        beyond = _NOT_KATAKANA.search(run)
        if beyond:
            start, end = beyond.span()
            raise UnicodeDecodeError(codec, run, start, end, "not in JIS X 0201")
    return run.decode(codec)


def _decode_pairs(run: bytes, g0: _GraphicSet, codec: str, *, lenient: bool, last: str = "") -> str:
    """Text whose G0 is a set of two-byte codes; spaces and G1 characters may lie between."""
    text: list[str] = []
    for pairs, others in _BYTE_RUNS.findall(run):
        if others:
            text.append(_decode_run(others, codec, lenient=lenient, last=last))
            continue
        # a lenient reader takes the odd byte for a delimiter before which ASCII is missing
        end = len(pairs) - (len(pairs) % 2 if lenient else 0)
        errors = "replace" if lenient else "strict"
        text.append((g0.escape + pairs[:end]).decode(g0.codec, errors))
        text.append(pairs[end:].decode("ascii"))
    return "".join(text)


def _decode_extended(
    raw: bytes, charset: CharacterSet, resets: re.Pattern[bytes], *, lenient: bool
) -> str:
    """Text with escape sequences: one run of the state after each, one of the initial state."""
    parts = _ESCAPE.split(raw)
    if not lenient and raw.count(b"\x1b") != len(parts) // 2:
        raise UnicodeDecodeError("iso2022", raw, 0, len(raw), "unknown escape sequence")
    text = [_decode_run(parts[0], charset.codec, lenient=lenient)]
    g0: _GraphicSet | None = None
    codec = charset.codec
    last = ""
    for escape, body in zip(parts[1::2], parts[2::2], strict=True):
        designated = _BY_ESCAPE.get(escape)
        if designated is None:
            g0 = None
        elif not lenient and designated not in charset.sets:
            raise UnicodeDecodeError("iso2022", escape, 0, len(escape), "undeclared set")
        elif designated.double:
            g0 = designated
        else:
            g0, codec, last = None, designated.codec, designated.codec
        if not body:
            continue
        reset = (_CONTROL if g0 else resets).search(body)
        end = reset.start() if reset else len(body)
        here = body[:end]
        if g0:
            text.append(_decode_pairs(here, g0, codec, lenient=lenient, last=last))
        else:
            text.append(_decode_run(here, codec, lenient=lenient, last=last))
        if reset:
            g0, codec = None, charset.codec
            text.append(_decode_run(body[end:], codec, lenient=lenient, last=last))
    return "".join(text)


def _encode_extended(text: str, charset: CharacterSet, resets: re.Pattern[bytes]) -> bytes:
    raw = bytearray()
    g0: _GraphicSet | None = None
    g1 = charset.initial
    for run in _TEXT_RUNS.findall(text):
        if run.isascii():
            if g0:
                raw += charset.home
                g0 = None
            graphic = run.encode("ascii")
            raw += graphic
            if resets.search(graphic):
                g1 = charset.initial
            continue
        for character in run:
            chosen, code = _choose(character, g0, g1, charset)
            if g0 and not chosen.double:
                raw += charset.home
            if chosen not in (g0, g1):
                raw += chosen.escape
            g0, g1 = (chosen, g1) if chosen.double else (None, chosen)
            raw += code
    if g0:
        raw += charset.home
    return bytes(raw)


def _choose(
    character: str, g0: _GraphicSet | None, g1: _GraphicSet | None, charset: CharacterSet
) -> tuple[_GraphicSet, bytes]:
    """The set to use, and the character's code in it: in use already, or else declared first."""
    for candidate in (g0, g1, *charset.sets):
        code = candidate and _code(character, candidate)
        if candidate and code:
            return candidate, code
    raise UnicodeEncodeError("iso2022", character, 0, 1, "not in the declared character sets")


def _code(character: str, graphic: _GraphicSet) -> bytes | None:
    """The bytes of a character above U+007F in one set, without any escape sequence."""
    try:
        code = character.encode(graphic.codec)
    except UnicodeError:
        return None
    if graphic.double:
        start = len(graphic.escape)
        return code[start : start + 2] if code.startswith(graphic.escape) else None
    if code[:1].isascii() or (graphic.codec == "shift_jis" and _NOT_KATAKANA.search(code)):
        return None
    return code
