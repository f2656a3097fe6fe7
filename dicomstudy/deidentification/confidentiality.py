"""What becomes of each attribute: PS3.15 Table E.1-1 with its options (spec/deidentification.md).

The table lies in `formats/confidentiality`, beside the definitions of the format but not of them:
what a document means does not depend on it.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum
from typing import Any, NamedTuple

from dicomstudy import definitions as definitions_
from dicomstudy.definitions import Definitions, RepeatingRows
from dicomstudy.elements import META_GROUP, TEXT_VRS, is_private
from dicomstudy.errors import DicomStudyError

__all__ = [
    "FULL_DATES",
    "MODIFIED_DATES",
    "RETAIN_UIDS",
    "SAFE_PRIVATE",
    "Action",
    "Policy",
    "policy",
]

FULL_DATES = "retain-longitudinal-full-dates"
MODIFIED_DATES = "retain-longitudinal-modified-dates"
SAFE_PRIVATE = "retain-safe-private"
RETAIN_UIDS = "retain-uids"
_GRAPHICS, _DESCRIPTORS = "clean-graphics", "clean-descriptors"
_EDITION = "2024c"
#: Tags whose action is remembered; private ones may be any.
_MOST_KNOWN = 1 << 14

#: Of file meta information, what a file needs; all else describes who wrote it.
_META = frozenset(range(0x00020001, 0x00020004)) | {0x00020010, 0x00020012, 0x00020013}
#: Words in keywords of UIDs that name a definition and no thing.
_DEFINITION_UIDS = ("SOPClass", "TransferSyntax")
_MORE_DEFINITION_UIDS = frozenset(
    (
        *("CodingSchemeUID", "ContextGroupExtensionCreatorUID", "ContextUID", "CreatorVersionUID"),
        *("ImplementationClassUID", "MappingResourceUID"),
    )
)
_TIMES = frozenset(("DA", "DT", "TM"))
#: What was there before another program took it away, for whoever has the key of that.
_ENCRYPTED = frozenset(("EncryptedAttributesSequence", "EncryptedContent"))
_DEFINITION_URLS = frozenset(("CodingSchemeURL", "URNCodeValue"))


class Action(Enum):
    """What becomes of an attribute; the letters are those of the table."""

    REMOVE = "X"
    EMPTY = "Z"
    DUMMY = "D"
    UID = "U"
    KEEP = "K"
    CLEAN = "C"
    #: A sequence stays, and what is in its items is done with as anywhere.
    ITEMS = "U*"
    #: A date is moved by the days of its patient.
    SHIFT = "shift"


#: Which action is taken of several that the table leaves to the IOD: the one that all allow.
_ACTIONS = {
    "X": Action.REMOVE,
    "Z": Action.EMPTY,
    "D": Action.DUMMY,
    "U": Action.UID,
    "X/Z": Action.EMPTY,
    "X/D": Action.DUMMY,
    "Z/D": Action.DUMMY,
    "X/Z/D": Action.DUMMY,
    "X/Z/U*": Action.ITEMS,
}
#: What stays whole goes before what stays in part, if several options say something.
_RANKS = (Action.KEEP, Action.SHIFT, Action.CLEAN)


class Code(NamedTuple):
    """A profile or option: its name here, and its code and meaning in CID 7050 of PS3.16."""

    name: str
    code: str
    meaning: str


#: Options that other programs may have applied.
_NOT_OFFERED = (
    Code("clean-pixel-data", "113101", "Clean Pixel Data Option"),
    Code("clean-visual-features", "113102", "Clean Recognizable Visual Features Option"),
)


class _Row(NamedTuple):
    profile: str
    options: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Table:
    profile: Code
    options: Mapping[str, Code]
    rows: Mapping[int, _Row]
    repeating: RepeatingRows[_Row]

    def find(self, tag: int) -> _Row | None:
        """The row of a public attribute."""
        return self.rows.get(tag) or self.repeating.find(tag)


@functools.cache
def _load() -> _Table:
    content: Any = json.loads(definitions_.files("confidentiality")[f"{_EDITION}.json"])
    rows: dict[int, _Row] = {}
    repeating: list[tuple[str, _Row]] = []
    for tag, profile, options, _ in content["attributes"]:
        row = _Row(profile, options)
        if "x" in tag:
            repeating.append((tag, row))
        elif tag != "private":  # of those, `Policy` tells itself
            rows[int(tag, 16)] = row
    codes = [Code(**fields) for fields in content["options"]]
    return _Table(
        Code(**content["profile"]),
        {code.name: code for code in codes},
        rows,
        RepeatingRows(repeating),
    )


class Policy:
    """A profile with options: one `Action` for every tag.

    Attributes:
        codes: the profile and the options that are applied, in the order of their codes.
        every_code: those that there are, in the same order.
        options: the names of the options.
    """

    def __init__(self, table: _Table, options: Iterable[str], definitions: Definitions) -> None:
        self._table = table
        self._definitions = definitions
        self._known: dict[int, Action] = {}
        self.options = frozenset(options)
        every = (table.profile, *table.options.values(), *_NOT_OFFERED)
        self.every_code = tuple(sorted(every, key=lambda code: code.code))
        chosen = {table.profile.name, *self.options}
        self.codes = tuple([code for code in self.every_code if code.name in chosen])

    def action(self, tag: int) -> Action:
        """What becomes of an attribute, wherever it stands.

        Of a private one: `Action.CLEAN` if those stay that are declared safe.
        """
        action = self._known.get(tag)
        if action is None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            action = self._known[tag] = self._find(tag)
        return action

    def of_private(self, vr: str) -> Action:
        """What becomes of a private attribute that is declared safe.

        Names and addresses on the net go, UIDs and dates become what those do that no table has.
        """
        if vr == "UI":
            return Action.KEEP if RETAIN_UIDS in self.options else Action.UID
        if vr in _TIMES and FULL_DATES not in self.options:
            if MODIFIED_DATES not in self.options:
                return Action.REMOVE
            return Action.CLEAN if vr == "TM" else Action.SHIFT
        return Action.REMOVE if vr in {"PN", "UR"} else Action.CLEAN

    def otherwise(self, tag: int) -> Action:
        """What becomes of a date that cannot be moved."""
        row = self._table.find(tag)
        return Action.EMPTY if row is None else _ACTIONS[row.profile]

    def identifies(self, tag: int) -> bool:
        """Whether the values of an attribute tell who or where: they are looked for in texts.

        That is what the table takes away, and not for being a description, unless it is kept.
        """
        row = self._table.find(tag)
        if row is None:
            return self._definitions.vr(tag) == "PN"
        kept = self.action(tag) in {Action.KEEP, Action.CLEAN}
        return not kept and _DESCRIPTORS not in row.options

    def _find(self, tag: int) -> Action:
        if is_private(tag):
            return Action.CLEAN if SAFE_PRIVATE in self.options else Action.REMOVE
        if not self._belongs(tag):
            return Action.REMOVE
        row = self._table.find(tag)
        if row is None:
            return self._beyond(tag)
        profile = _ACTIONS[row.profile]
        if profile is Action.DUMMY and self._definitions.vr(tag) == "UI":
            profile = Action.UID
        given = {
            self._of_option(name, row.options[name], profile, self._definitions.vr(tag))
            for name in self.options & row.options.keys()
        }
        return next((action for action in _RANKS if action in given), profile)

    def _of_option(self, name: str, letter: str, profile: Action, vr: str) -> Action:
        if letter == "K":
            return Action.KEEP
        if name == MODIFIED_DATES:
            return Action.SHIFT
        if name == _GRAPHICS and profile is Action.REMOVE:
            return profile  # overlays and curves
        is_cleanable = vr == "SQ" or (vr in TEXT_VRS and vr != "AE")
        return Action.CLEAN if is_cleanable else profile

    def _belongs(self, tag: int) -> bool:
        """Whether a public attribute may be in a file at all, and anybody knows what it is."""
        if self._table.find(tag) is None and self._definitions.attribute(tag) is None:
            return False
        if tag >> 16 == META_GROUP:
            return tag in _META
        return tag >> 16 > 4 and tag & 0xFFFF != 0

    def _beyond(self, tag: int) -> Action:
        """What becomes of an attribute that the table does not have."""
        vr, keyword = self._definitions.vr(tag), self._definitions.keyword(tag)
        if keyword in _ENCRYPTED:
            return Action.REMOVE
        if vr == "PN":
            return Action.EMPTY
        if vr == "UR" and keyword not in _DEFINITION_URLS:
            return Action.REMOVE
        if vr == "UI" and not (
            RETAIN_UIDS in self.options
            or keyword in _MORE_DEFINITION_UIDS
            or any(word in keyword for word in _DEFINITION_UIDS)
        ):
            return Action.UID
        if vr in {"DA", "DT"} and MODIFIED_DATES in self.options:
            return Action.SHIFT
        return Action.KEEP


def policy(profile: str, options: Iterable[str], definitions: Definitions) -> Policy:
    """The policy of a profile with options, by their names.

    Raises:
        DicomStudyError: there is no such profile (``deidentify/profile``) or option
            (``deidentify/option``), or two of them exclude each other (``deidentify/options``).
    """
    table = _load()
    if profile != table.profile.name:
        raise DicomStudyError(
            "deidentify/profile", f"there is no profile {profile!r}: take {table.profile.name!r}"
        )
    names = [options] if isinstance(options, str) else list(options)
    for name in names:
        if name not in table.options:
            near = get_close_matches(name, table.options, 3, 0.5) or sorted(table.options)
            message = f"there is no option {name!r}: did you mean {' or '.join(near)}?"
            raise DicomStudyError("deidentify/option", message)
    if {FULL_DATES, MODIFIED_DATES} <= set(names):
        raise DicomStudyError(
            "deidentify/options",
            f"dates are either kept ({FULL_DATES}) or moved ({MODIFIED_DATES}), not both",
        )
    return Policy(table, names, definitions)
