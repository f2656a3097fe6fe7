"""The format's definitions: the DICOM dictionary of one edition, the attribute groups, the order.

They lie in `formats/` as JSON that any language can read (formats/README.md) and are shipped
as `dicomstudy/_formats`. A version is loaded whole and verified against its manifest; a document
names the version and the digest that wrote it, so what it means never changes.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from dicomstudy.elements import is_creator, is_private
from dicomstudy.errors import DefinitionsError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

__all__ = ["Attribute", "Definitions", "RepeatingRows", "files", "load", "read"]

_HEX_KEY = re.compile("[0-9A-Fa-f]{8}")
_Row = TypeVar("_Row")


class Attribute(NamedTuple):
    """One row of the dictionary (PS3.6 section 6).

    `vr` and `vm` are as the standard writes them: "US or SS", "1-n". `keyword` and `name` are
    empty in a few rows that were retired without any. `tag` is the one asked for, also where
    the row stands for many, as (60xx,3000) does.
    """

    tag: int
    vr: str
    vm: str
    keyword: str
    name: str
    retired: bool


class RepeatingRows(Generic[_Row]):
    """Rows of a table that stand for many tags each, such as that of ``60xx3000``.

    Args:
        rows: each with its tag, where an ``x`` stands for every digit.
    """

    __slots__ = ("_by_mask",)

    def __init__(self, rows: Iterable[tuple[str, _Row]]) -> None:
        self._by_mask: dict[int, dict[int, _Row]] = {}
        for tag, row in rows:
            mask = int("".join("0" if digit == "x" else "F" for digit in tag), 16)
            self._by_mask.setdefault(mask, {})[int(tag.replace("x", "0"), 16)] = row

    def find(self, tag: int) -> _Row | None:
        """The row that stands for a tag, whether private or not; None if there is none."""
        for mask, rows in self._by_mask.items():
            row = rows.get(tag & mask)
            if row is not None:
                return row
        return None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Definitions:
    """One version of the definitions, verified; `load` gives it.

    A *key* names an attribute in a record: the keyword, or eight upper-case hexadecimal digits
    of the tag where there is none. `keyword` and `tag` are each other's inverse.
    """

    version: str
    digest: str
    """SHA-256 of manifest.json in hexadecimal, which holds that of every other file."""
    edition: str
    """The DICOM edition of the dictionary, such as "2024c"."""
    groups: tuple[str, ...]
    """The names of all groups, the seed's first, then in the order of groups.json."""
    seed_groups: tuple[str, ...]
    instance_keywords: frozenset[str]
    """What always stays with its instance and is in no group."""

    _rows: Mapping[int, Sequence[Any]]
    _repeating: RepeatingRows[Sequence[Any]]
    _vrs: Mapping[int, str]
    _keywords: Mapping[int, str]
    _tags: Mapping[str, int]
    _ranks: Mapping[str, int]
    _homes: Mapping[str, str]
    _members: Mapping[str, tuple[str, ...]]

    def __repr__(self) -> str:
        return f"<Definitions {self.version} {self.digest[:8]}, DICOM {self.edition}>"

    def attribute(self, tag: int) -> Attribute | None:
        """The dictionary's row for a tag; None for private, unknown and group length elements.

        A repeating group's row, such as (60xx,3000), answers for each of its tags.
        """
        row = self._rows.get(tag) or self._repeating_row(tag)
        return None if row is None else Attribute(tag, *row[1:])

    def keyword(self, tag: int) -> str:
        """The key of an attribute: its keyword, else its tag as 8 hexadecimal digits.

        Mirror of `tag`: ``tag(keyword(t)) == t`` for every tag. Attributes of repeating groups
        have no keyword of their own: one keyword stands for many tags there (PS3.6 section 6).
        """
        return self._keywords.get(tag) or f"{tag:08X}"

    def key(self, tag: int, occurrence: int) -> str:
        """The key of an element, whose tag a later one has if `occurrence` is not 0."""
        keyword = self.keyword(tag)
        return f"{keyword}#{occurrence}" if occurrence else keyword

    def tag(self, keyword: str) -> int:
        """The tag of a key; hexadecimal digits are taken in either case.

        Mirror of `keyword`.

        Raises:
            DefinitionsError: ``definitions/unknown-keyword``, neither a keyword of this edition
                nor eight hexadecimal digits.
        """
        tag = self._tags.get(keyword)
        if tag is not None:
            return tag
        if _HEX_KEY.fullmatch(keyword):
            return int(keyword, 16)
        message = f"DICOM {self.edition} has no attribute with the keyword {keyword!r}"
        raise DefinitionsError("definitions/unknown-keyword", message)

    def near(self, keyword: str) -> list[str]:
        """Up to three keywords that are written almost like `keyword`, the nearest first."""
        from difflib import get_close_matches  # noqa: PLC0415 (hardly ever needed)

        by_lower = {known.lower(): known for known in self._tags}
        found = get_close_matches(keyword.lower(), by_lower, 3, 0.75)
        return [by_lower[name] for name in found]

    def vr(self, tag: int) -> str:
        """The dictionary's value representation, "UN" for a tag that it does not know.

        Several are given as the standard has them ("OB or OW"): the data set decides. Group
        lengths are "UL" (PS3.5 section 7.2), private creators "LO" (section 7.8.1).
        """
        vr = self._vrs.get(tag)
        if vr is not None:
            return vr
        if not tag & 0xFFFF:
            return "UL"
        if is_private(tag):
            return "LO" if is_creator(tag) else "UN"
        row = self._repeating_row(tag)
        return "UN" if row is None else str(row[1])

    def group(self, key: str) -> str:
        """The name of the attribute group that an attribute belongs to.

        "private" for odd group numbers, "other" for what no group lists.

        Raises:
            DefinitionsError: ``definitions/no-group`` for one of `instance_keywords`, and
                ``definitions/unknown-keyword`` for what is no key.
        """
        name = self._homes.get(key)
        if name is not None:
            return name
        if key in self.instance_keywords:
            message = f"{key} always stays with its instance: it belongs to no group"
            raise DefinitionsError("definitions/no-group", message)
        tag = self.tag(key)
        if tag & 0x10000:
            return "private"
        row = self._rows.get(tag) or self._repeating_row(tag)
        return "other" if row is None else self._homes.get(row[3], "other")

    def attributes(self, group: str) -> tuple[str, ...]:
        """The keywords that a group lists, as published: one of them is there twice.

        Empty for groups that take their attributes by rule.

        Raises:
            DefinitionsError: ``definitions/unknown-group``.
        """
        try:
            return self._members[group]
        except KeyError:
            message = f"definitions version {self.version} have no attribute group {group!r}"
            raise DefinitionsError("definitions/unknown-group", message) from None

    def is_seed(self, group: str) -> bool:
        """Whether the group is one of the seed's, whose digests are published."""
        return group in self.seed_groups

    def rank(self, key: str) -> int:
        """Where an attribute stands in a struct: write keys in ascending order of this.

        The leading attributes of order.json come first, then all others by tag.

        Raises:
            DefinitionsError: ``definitions/unknown-keyword``.
        """
        rank = self._ranks.get(key)
        return self.tag(key) if rank is None else rank

    def _repeating_row(self, tag: int) -> Sequence[Any] | None:
        if tag & 0x10000 or not tag & 0xFFFF:
            return None
        return self._repeating.find(tag)


@functools.cache
def load(version: str = "1") -> Definitions:
    """The packaged definitions of a version, read and verified once.

    Raises:
        DefinitionsError: ``definitions/unknown-version``, or what `read` raises.
    """
    base = _base()
    folder = base / f"v{version}"
    if not (version.isascii() and version.isdecimal() and folder.is_dir()):
        message = f"this dicomstudy has no definitions of version {version!r}: a newer one may"
        raise DefinitionsError("definitions/unknown-version", message)
    return read(folder)


def read(folder: Traversable) -> Definitions:
    """The definitions in a folder such as `formats/v1`, verified against their manifest.

    Every file that manifest.json names must have the size and the SHA-256 that it says.

    Raises:
        DefinitionsError: ``definitions/missing``, a file is not there; ``definitions/damaged``,
            a file is not what the manifest says, or not of the form of formats/README.md.
    """
    manifest = _read_file(folder, "manifest.json")
    try:
        head = json.loads(manifest)
        files = {name: (row["sha256"], row["size"]) for name, row in head["files"].items()}
        content = {name: _verified(folder, name, *row) for name, row in files.items()}
        dictionary, groups, order = (
            json.loads(content[name]) for name in ("dictionary.json", "groups.json", "order.json")
        )
        return _build(
            head["version"], hashlib.sha256(manifest).hexdigest(), dictionary, groups, order
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        message = f"the definitions are not of their form: {error!r}"
        raise DefinitionsError("definitions/damaged", message, source=str(folder)) from error


def files(name: str) -> dict[str, bytes]:
    """The files of a folder of `formats/` by name, each verified against the folder's manifest.

    Raises:
        DefinitionsError: ``definitions/missing`` or ``definitions/damaged``, as in `read`.
    """
    folder = _base() / name
    try:
        rows = json.loads(_read_file(folder, "manifest.json"))["files"]
        return {name: _verified(folder, name, r["sha256"], r["size"]) for name, r in rows.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        message = f"the manifest is not of its form: {error!r}"
        raise DefinitionsError("definitions/damaged", message, source=str(folder)) from error


def _base() -> Traversable:
    """The folder of all versions: the packaged one, else the checkout's."""
    here = Path(__file__)
    for folder in (here.with_name("_formats"), here.parents[1] / "formats"):
        if (folder / "v1" / "manifest.json").is_file():
            return folder
    # only a zipped package gets here
    from importlib import resources  # noqa: PLC0415 (takes longer than loading the definitions)

    packaged = resources.files(__package__) / "_formats"
    if packaged.is_dir():
        return packaged
    message = "dicomstudy was installed without its definitions: install it again"
    raise DefinitionsError("definitions/missing", message, source=str(packaged))


def _read_file(folder: Traversable, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        message = f"a file of the definitions cannot be read: {error}"
        raise DefinitionsError("definitions/missing", message, source=f"{folder}/{name}") from error


def _verified(folder: Traversable, name: str, sha256: str, size: int) -> bytes:
    data = _read_file(folder, name)
    if len(data) != size or hashlib.sha256(data).hexdigest() != sha256:
        message = "a file of the definitions is not the one that their manifest names"
        raise DefinitionsError("definitions/damaged", message, source=f"{folder}/{name}")
    return data


def _build(
    version: str,
    digest: str,
    dictionary: Mapping[str, Any],
    groups: Mapping[str, Any],
    order: Mapping[str, Any],
) -> Definitions:
    """The definitions of a version, of its three files: `dictionary`, `groups` and `order`.

    Tags with ``x``, as 60xx3000, are found by a mask of their other digits. Attributes that no
    group names are of the group "other".
    """
    table = dictionary["attributes"]
    rows = {int(row[0], 16): row for row in table if "x" not in row[0]}
    tags = {row[3]: tag for tag, row in rows.items() if row[3]}
    first = order["first"]
    members = {group["name"]: tuple(group["attributes"]) for group in groups["groups"]}
    instance = frozenset(groups["instance"])
    homes = dict.fromkeys(tags, "other")
    homes |= {keyword: name for name, keywords in members.items() for keyword in keywords}
    for keyword in instance:
        del homes[keyword]
    return Definitions(
        version=version,
        digest=digest,
        edition=dictionary["edition"],
        groups=tuple(members),
        seed_groups=tuple(g["name"] for g in groups["groups"] if g["kind"] == "seed"),
        instance_keywords=instance,
        _rows=rows,
        _repeating=RepeatingRows((row[0], row) for row in table if "x" in row[0]),
        _vrs={tag: row[1] for tag, row in rows.items()},
        _keywords={tag: row[3] for tag, row in rows.items()},
        _tags=tags,
        _ranks=tags | {keyword: i - len(first) for i, keyword in enumerate(first)},
        _homes=homes,
        _members=members,
    )
