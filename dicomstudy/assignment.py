"""Values as a person gives them → edits of a document (spec/edits.md).

Nothing is guessed: what is not clear, or would not be valid DICOM, is refused, and the error
says why.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from typing import Any, NamedTuple, TypeAlias

from dicomstudy import values
from dicomstudy.definitions import Definitions
from dicomstudy.elements import (
    LONG_VRS,
    LONGEST_SHORT,
    META_GROUP,
    NUMBER_FORMATS,
    SHORT_VRS,
    TEXT_VRS,
    format_tag,
)
from dicomstudy.errors import DefinitionsError, DicomStudyError
from dicomstudy.paths import CHARACTER_SET, ORIGINALS, parse_path
from dicomstudy.record import group_of
from dicomstudy.text import character_set
from dicomstudy.values import Context, rules_of

__all__ = [
    "PROTECTED",
    "depends_on_sign",
    "is_uid",
    "level_of_group",
    "once",
    "prepare",
    "split",
]

#: From the highest to the lowest.
_LEVELS = ("study", "series", "instance")
#: The attribute groups of studies and of series, and those named so with "Module" behind.
_STUDY_GROUPS = frozenset(
    (
        *("patient", "clinicalTrialSubject", "generalStudy", "patientStudy"),
        *("clinicalTrialStudy", "patientDemographic"),
    )
)
_SERIES_GROUPS = frozenset(
    (
        *("generalSeries", "clinicalTrialSeries", "enhancedSeries", "frameOfReference"),
        *("synchronization", "generalEquipment", "enhancedGeneralEquipment"),
    )
)
#: What other attributes and the bytes of pixel data depend on is not changed by values.
PROTECTED = frozenset(
    (
        *(CHARACTER_SET, "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"),
        *("SOPClassUID", ORIGINALS, "SamplesPerPixel", "PhotometricInterpretation"),
        *("PlanarConfiguration", "NumberOfFrames", "Rows", "Columns", "BitsAllocated"),
        *("BitsStored", "HighBit", "PixelRepresentation", "PixelData", "FloatPixelData"),
        *("DoubleFloatPixelData", "PixelDataProviderURL", "ExtendedOffsetTable"),
        *("ExtendedOffsetTableLengths", "DataSetTrailingPadding"),
    )
)
_FIELDS = frozenset(("series", "instance", "set", "remove"))

_INTEGER = re.compile(r"[+-]?[0-9]{1,20}")
_DECIMAL = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[Ee][+-]?[0-9]+)?"
_FLOAT = re.compile(_DECIMAL)
_TIME = r"(?:[01][0-9]|2[0-3])(?:[0-5][0-9](?:(?:[0-5][0-9]|60)(?:\.[0-9]{1,6})?)?)?"
_ZONE = r"(?:[+-](?:0[0-9]|1[0-4])[0-5][0-9])?"
_MONTH_AND_DAY = r"(?:0[1-9]|1[0-2])(?:(?:0[1-9]|[12][0-9]|3[01])"
#: What each value of a text VR has to match (PS3.5 section 6.2), and how many characters it has.
_FORMS: dict[str, tuple[re.Pattern[str], int]] = {
    "AE": (re.compile(r"[ -~]*"), 16),
    "AS": (re.compile(r"[0-9]{3}[DWMY]"), 4),
    "CS": (re.compile(r"[A-Z0-9 _]*"), 16),
    "DA": (re.compile(r"[0-9]{8}"), 8),
    "DS": (re.compile(_DECIMAL), 16),
    "DT": (re.compile(rf"[0-9]{{4}}(?:{_MONTH_AND_DAY}(?:{_TIME})?)?)?{_ZONE}"), 26),
    "IS": (re.compile(r"[+-]?[0-9]+"), 12),
    "LO": (re.compile(r"[^\x00-\x1f\x7f]*"), 64),
    "LT": (re.compile(r"[^\x00-\x08\x0b\x0e-\x1f\x7f]*"), 10240),
    "PN": (re.compile(r"[^\x00-\x1f\x7f]*"), 3 * 64 + 2),
    "SH": (re.compile(r"[^\x00-\x1f\x7f]*"), 16),
    "ST": (re.compile(r"[^\x00-\x08\x0b\x0e-\x1f\x7f]*"), 1024),
    "TM": (re.compile(_TIME), 14),
    "UC": (re.compile(r"[^\x00-\x1f\x7f]*"), 1 << 20),
    "UI": (re.compile(r"(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))+"), 64),
    "UR": (re.compile(r"[!-~]*"), 1 << 20),
    "UT": (re.compile(r"[^\x00-\x08\x0b\x0e-\x1f\x7f]*"), 1 << 20),
}
_PLAIN = Context(character_set(()), big=False)
#: Makes the error about a value, of a sentence that says what is wrong with it.
_Wrong: TypeAlias = Callable[[str], DicomStudyError]
_MULTIPLICITY = re.compile(r"([0-9]+)(?:-([0-9]*)(n?))?")


def split(assignment: str) -> tuple[str, str]:
    """Path and value of ``KEYWORD=VALUE``.

    Raises:
        DicomStudyError: there is no ``=`` in it (``change/value``).
    """
    path, equals, value = assignment.partition("=")
    if not equals:
        raise DicomStudyError("change/value", f"{assignment!r} is not of the form KEYWORD=VALUE")
    return path.strip(), value


def once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """A mapping of names to values, each name being given once.

    Raises:
        DicomStudyError: one is given again (``change/twice``).
    """
    given: dict[str, Any] = {}
    for name, value in pairs:
        if name in given:
            raise DicomStudyError("change/twice", f"{name!r:.80} is given twice")
        given[name] = value
    return given


def is_uid(text: str) -> bool:
    """Whether a text is a UID (PS3.5 section 9.1)."""
    form, longest = _FORMS["UI"]
    return len(text) <= longest and form.fullmatch(text) is not None


def depends_on_sign(numbers: bytes | None) -> bool:
    """Whether some of the numbers of US or SS would be others with the VR that was not meant."""
    return any(byte >= 0x80 for byte in (numbers or b"")[1::2])


def level_of_group(name: str) -> str:
    """The level at which an attribute group belongs: "study", "series" or "instance"."""
    name = name.removesuffix("Module")
    if name in _STUDY_GROUPS:
        return "study"
    return "series" if name in _SERIES_GROUPS else "instance"


def prepare(given: object, definitions: Definitions) -> dict[str, Any]:
    """An edit as documents have it, of one as a person gives it.

    Args:
        given: a mapping with `set`, a mapping of paths to values, `remove`, a list of paths, and
            `series` or `instance`, UIDs, if it is not for the whole study.
        definitions: those of the format.

    Raises:
        DicomStudyError: it has other fields, changes nothing, or an attribute cannot be changed
            so; the code begins with ``change/``.
    """
    if not isinstance(given, Mapping) or not given.keys() <= _FIELDS:
        raise DicomStudyError(
            "change/fields", "an edit is a struct of 'set', 'remove', 'series' and 'instance'"
        )
    to_set, to_remove = given.get("set", {}), given.get("remove", [])
    edit: dict[str, Any] = {}
    for level in ("series", "instance"):
        if level in given:
            edit[level] = _of_python(given[level])
    if (
        not isinstance(to_set, Mapping)
        or not isinstance(to_remove, Sequence)
        or isinstance(to_remove, str)
        or not all(isinstance(uid, str) for uid in edit.values())
        or not all(isinstance(path, str) for path in (*to_set, *to_remove))
    ):
        raise DicomStudyError(
            "change/fields",
            "'set' is a struct of values by keyword, 'remove' a list of keywords, 'series' and "
            "'instance' are UIDs",
        )
    if not to_set and not to_remove:
        raise DicomStudyError("change/nothing", "no attribute is named that is to be changed")
    reader = _Reader(definitions, next((n for n in reversed(_LEVELS) if n in edit), "study"))
    pairs, vrs = [], {}
    for written, value in to_set.items():
        target = reader.target(written)
        path, _, vr, typed = target
        stored = reader.value(target, value)
        pairs.append((path, stored))
        if typed and ":" in written:
            vrs[path] = vr
        elif typed and vr == "US" and depends_on_sign(stored):
            raise DicomStudyError(
                "change/value", f"{value!r:.80} needs its VR, as in {path}:US: it may be SS, too"
            )
    edit["set"] = dict(pairs)
    edit["remove"] = [reader.target(written).path for written in to_remove]
    once([*pairs, *dict.fromkeys(edit["remove"]).items()])
    if vrs:
        edit["vrs"] = vrs
    return edit


class _Target(NamedTuple):
    """The attribute that an edit changes.

    Attributes:
        path: where it is, as documents have it.
        key: the last step of the path: its keyword, or eight hexadecimal digits.
        vr: its VR; "" if that is not known.
        typed: True if the dictionary has no single VR of it.
    """

    path: str
    key: str
    vr: str
    typed: bool


class _Reader:
    """Reads the paths and values of edits at one level."""

    def __init__(self, definitions: Definitions, level: str) -> None:
        self._definitions = definitions
        self._level = level
        self._rules = rules_of(definitions)

    def target(self, written: str) -> _Target:
        """The attribute at a path, as a person writes it."""
        bare, _, vr = written.partition(":")
        steps = parse_path(bare)
        if not steps:
            raise DicomStudyError(
                "change/unknown-keyword",
                f"{written!r} is neither a keyword, nor a path such as Keyword[0].Keyword",
            )
        keys = [self._key(name) for name, _ in steps]
        self._check_place(keys[0])
        if CHARACTER_SET in keys:
            raise _protected(CHARACTER_SET, self._definitions)
        for key, (_, item) in zip(keys, steps, strict=True):
            vr_of_key = self._definitions.vr(self._definitions.tag(key))
            if item is not None and vr_of_key not in {"SQ", "UN"}:
                raise DicomStudyError("change/unknown-keyword", f"{key} has no items: {written!r}")
        path = "".join(
            key if item is None else f"{key}[{item}]."
            for key, (_, item) in zip(keys, steps, strict=True)
        )
        tag = self._definitions.tag(keys[-1])
        own = self._definitions.vr(tag)
        if own != "UN" and " or " not in own:
            if vr not in {"", own}:
                raise DicomStudyError("change/value", f"{keys[-1]} has the VR {own}, not {vr}")
            return _Target(path, keys[-1], own, typed=False)
        if vr and own != "UN" and vr not in own.split(" or "):
            raise DicomStudyError("change/value", f"{keys[-1]} has the VR {own}, not {vr}")
        if vr and vr not in SHORT_VRS | LONG_VRS:
            raise DicomStudyError("change/value", f"{vr!r} is no VR", tag=tag)
        vr = vr or ("" if own == "UN" else own.split()[0])
        return _Target(path, keys[-1], vr, typed=True)

    def _key(self, name: str) -> str:
        try:
            tag = self._definitions.tag(name)
        except DefinitionsError as error:
            near = self._definitions.near(name)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise DicomStudyError("change/unknown-keyword", error.message + hint) from error
        if tag >> 16 in {0, META_GROUP} or tag & 0xFFFF == 0 or tag >> 16 == 0xFFFE:
            raise DicomStudyError(
                "change/protected", "it follows from the rest and cannot be changed", tag=tag
            )
        return self._definitions.keyword(tag)

    def _check_place(self, key: str) -> None:
        if key in PROTECTED:
            raise _protected(key, self._definitions)
        level = level_of_group(group_of(key, self._definitions))
        if _LEVELS.index(level) < _LEVELS.index(self._level):
            raise DicomStudyError(
                "change/level",
                f"{key} belongs to the {level}: it cannot differ in one {self._level} of it",
                tag=self._definitions.tag(key),
            )

    def value(self, target: _Target, given: object) -> Any:
        """A value as documents have it (spec/values.md); numbers of `typed` ones are bytes."""
        _, key, vr, typed = target
        tag = self._definitions.tag(key)

        def wrong(why: str) -> DicomStudyError:
            message = f"{given!r:.80} is no value of {key}: {why}"
            return DicomStudyError("change/value", message, tag=tag)

        given = _of_python(given)
        if isinstance(given, list):
            given = [_of_python(part) for part in given]
        if given is None or (isinstance(given, str | list) and not given):
            return None
        if not vr:
            raise wrong("write its VR behind it, as in 00091001:LO")
        if vr == "SQ":
            return self._items(given, wrong)
        parts = []
        if vr in TEXT_VRS or vr in NUMBER_FORMATS or vr == "AT":
            several = given if isinstance(given, list) else [given]
            if not all(type(part) in {str, int, float} for part in several):
                raise wrong("a text, a number or a list of them is needed")
            whole = "\\".join(map(str, several))
            parts = [whole] if vr in {"LT", "ST", "UR", "UT"} else whole.split("\\")
            self._check_count(tag, len(parts), wrong)
        if vr in TEXT_VRS:
            return _text(vr, parts, wrong)
        if vr in NUMBER_FORMATS:
            return self._numbers(vr, parts, wrong, typed=typed)
        if vr == "AT":
            if 4 * len(parts) > LONGEST_SHORT:
                raise wrong("it is too long")
            return "\\".join(
                format_tag(self._definitions.tag(self._key(str(part)))) for part in parts
            )
        raise wrong(f"bytes of VR {vr} cannot be given")

    def _items(self, given: object, wrong: _Wrong) -> list[dict[str, Any]] | None:
        if isinstance(given, str):
            try:
                given = json.loads(given, object_pairs_hook=once)
            except (ValueError, RecursionError):
                raise wrong("a sequence is a JSON array of objects") from None
        if not isinstance(given, list) or not all(isinstance(item, dict) for item in given):
            raise wrong("a sequence is a list of structs")
        items = []
        for item in given:
            pairs = []
            for name, value in item.items():
                key = self._key(name)
                vr = self._definitions.vr(self._definitions.tag(key))
                if key == CHARACTER_SET:
                    raise _protected(key, self._definitions)
                if vr == "UN" or " or " in vr:
                    raise wrong(f"{key} has no single VR; set it by a path of its own")
                pairs.append((key, self.value(_Target(key, key, vr, typed=False), value)))
            items.append(once(pairs))
        return items or None

    def _check_count(self, tag: int, count: int, wrong: _Wrong) -> None:
        attribute = self._definitions.attribute(tag)
        found = _MULTIPLICITY.match("1-n" if attribute is None else attribute.vm)
        if found is None:
            return
        least = int(found[1])
        most = least if found[2] is None else int(found[2] or 0)
        step = most if found[3] and most else 1
        if count < least or (not found[3] and count > most) or count % step:
            vm = "1-n" if attribute is None else attribute.vm
            raise wrong(f"it has {count} values, and needs {vm}")

    def _numbers(
        self, vr: str, parts: list[str], wrong: _Wrong, *, typed: bool
    ) -> int | float | bytes:
        is_float = vr in {"FL", "FD"}
        form = _FLOAT if is_float else _INTEGER
        rule = self._rules.of_vr(vr)
        encoded = []
        number: int | float = 0
        for part in parts:
            if form.fullmatch(part) is None:
                raise wrong("that is no number")
            number = float(part) if is_float else int(part)
            raw = values.encode(number, rule, _PLAIN) if math.isfinite(number) else None
            if raw is None:
                raise wrong(f"it is out of the range of {vr}")
            encoded.append(raw)
        if vr in SHORT_VRS and sum(map(len, encoded)) > LONGEST_SHORT:
            raise wrong("it is too long")
        if len(encoded) > 1 or typed:
            return b"".join(encoded)
        decoded = values.decode(encoded[0], rule, _PLAIN)  # as a document has it
        return decoded if isinstance(decoded, int | float) else number


def _of_python(given: object) -> object:
    """Values and arrays of numpy, and what gives its own in the same way, as those of Python."""
    tolist = getattr(given, "tolist", None)
    return given if tolist is None else tolist()


def _protected(key: str, definitions: Definitions) -> DicomStudyError:
    return DicomStudyError(
        "change/protected",
        f"{key} cannot be changed by itself: other things depend on it",
        tag=definitions.tag(key),
    )


def _text(vr: str, parts: list[str], wrong: _Wrong) -> str | None:
    form, longest = _FORMS[vr]
    for part in parts:
        value = part.strip(" ")
        if not value:
            continue
        if form.fullmatch(value) is None:
            raise wrong(f"it is not of the form of {vr}")
        if vr == "PN":
            _check_name(value, wrong)
        elif len(value) > longest:
            raise wrong(f"a {vr} has at most {longest} characters")
        if vr == "DA" or (vr == "DT" and re.match(r"[0-9]{8}", value)):
            try:
                date(int(value[:4]), int(value[4:6]), int(value[6:8]))
            except ValueError:
                raise wrong("there is no such day") from None
        if vr == "IS" and not -(1 << 31) <= int(value) < 1 << 31:
            raise wrong("it is out of the range of IS")
    text = "\\".join(parts).rstrip(" \0")
    if vr not in {"LT", "ST", "UC", "UT"}:
        text = text.lstrip(" ")
    try:
        size = len(text.encode())
    except UnicodeError:
        raise wrong("it has characters that no character set has") from None
    if vr in SHORT_VRS and size > LONGEST_SHORT:
        raise wrong("it is too long")
    return text or None


def _check_name(value: str, wrong: _Wrong) -> None:
    groups = value.split("=")
    if len(groups) > 3 or any(len(group) > 64 or group.count("^") > 4 for group in groups):
        raise wrong("a name has up to 3 parts of 64 characters, each of up to 5 components")
