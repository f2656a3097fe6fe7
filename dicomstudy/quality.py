"""Where a study contradicts itself, and which side is right (spec/edits.md)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from dicomstudy.amendment import Amender
from dicomstudy.archive import AnyArchive, opened
from dicomstudy.assignment import level_of_group
from dicomstudy.change import changing
from dicomstudy.document import references
from dicomstudy.errors import DicomStudyError
from dicomstudy.following import is_of_writing
from dicomstudy.giving import Giver
from dicomstudy.grouping import freeze, ordered
from dicomstudy.ion import ion_hash_hex
from dicomstudy.lineage import Version
from dicomstudy.paths import CHARACTER_SET
from dicomstudy.record import character_set_of, group_of
from dicomstudy.study import Study
from dicomstudy.text import CharacterSet
from dicomstudy.updating import check_edits, edit_study

__all__ = ["Conflict", "Side", "conflicts", "ranked", "resolve", "sides_of"]


#: What instances stand under is the same in all.
_UIDS = frozenset(("StudyInstanceUID", "SeriesInstanceUID"))


class Side(NamedTuple):
    """What some of the instances say: the content of a group, its digest, and their keys."""

    digest: str
    content: dict[str, Any]
    instances: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Conflict:
    """Something of which there should be one.

    Attributes:
        study: the Study Instance UID.
        series: the Series Instance UID, None if it is about the whole study.
        group: the name of the attribute group; "instance" where several instances of different
            content have one SOP Instance UID.
        sides: what there is; the one that most instances say first.
    """

    study: str
    series: str | None
    group: str
    sides: tuple[Side, ...]

    @property
    def differences(self) -> dict[str, list[Any]]:
        """The attributes that differ, each with its value on every side; None where absent."""
        keys = dict.fromkeys(key for side in self.sides for key in side.content)
        found = {key: [side.content.get(key) for side in self.sides] for key in keys}
        return {
            key: row
            for key, row in found.items()
            if len({freeze(side.content.get(key, ...)) for side in self.sides}) > 1
        }


def conflicts(
    archive: AnyArchive,
    *,
    study: str | None = None,
    damaged: list[DicomStudyError] | None = None,
) -> list[Conflict]:
    """Where studies hold several of what there should be one of.

    That is a patient or other group of the study, a group of one series, or an instance of one
    SOP Instance UID.

    Args:
        archive: the archive, or its folder.
        study: only this study.
        damaged: of a whole archive, gets what is wrong with studies that cannot be looked into;
            None raises the first.

    Raises:
        ArchiveError: there is no such archive or study.
        DicomStudyError: a document is damaged.
    """
    archive = opened(archive)
    if study is not None:
        if study not in archive:
            raise archive.not_found(study)
        with archive[study] as one:
            return list(_conflicts(one))
    found: list[Conflict] = []
    for _, each in archive.studies():
        try:
            if isinstance(each, DicomStudyError):
                raise each
            with each:
                found += list(_conflicts(each))
        except DicomStudyError as error:
            if damaged is None:
                raise
            damaged.append(error)
    return found


def _conflicts(study: Study) -> Iterator[Conflict]:
    for (series, group), sides in sides_of(study).items():
        if len(sides) > 1:
            yield Conflict(study.uid, series, group, ranked(sides.values()))
    same: dict[str, list[Side]] = {}
    for instance in study.values():
        sha256 = instance.source.sha256 or ""
        same.setdefault(instance.uid, []).append(
            Side(sha256, {"_source": instance.source.uri}, (instance.key,))
        )
    for several in same.values():
        if len(several) > 1:
            yield Conflict(study.uid, None, "instance", tuple(several))


def ranked(sides: Iterable[Side]) -> tuple[Side, ...]:
    """Sides in the order of how many instances say them."""
    return tuple(sorted(sides, key=lambda side: (-len(side.instances), side.digest)))


def sides_of(study: Study) -> dict[tuple[str | None, str], dict[str, Side]]:
    """By series and name, the groups of which there should be one: what is said, by digest."""
    definitions = study.definitions
    levels = {name: level_of_group(name) for name in definitions.groups}
    home = lru_cache(maxsize=None)(lambda key: group_of(key, definitions))
    known: dict[object, tuple[str, dict[str, Any]]] = {}
    said: dict[tuple[str | None, str], dict[str, list[str]]] = {}
    contents: dict[str, dict[str, Any]] = {}
    charsets: dict[str, CharacterSet] = {}
    for instance in study.values():
        groups: dict[str, dict[str, Any]] = {}
        attributes = instance.attributes()
        for key, value in attributes.items():
            if levels.get(home(key), "instance") != "instance":
                groups.setdefault(home(key), {})[key] = value
        for name, group in groups.items():
            frozen = freeze(group)
            if frozen not in known:
                pairs = [(key, _without_writing(value)) for key, value in group.items()]
                content = ordered(pairs, definitions)
                known[frozen] = ion_hash_hex(content), content
            digest, contents[digest] = known[frozen]
            if digest not in charsets:
                charsets[digest] = character_set_of(attributes.get(CHARACTER_SET))
            series = instance.series if levels[name] == "series" else None
            said.setdefault((series, name), {}).setdefault(digest, []).append(instance.key)
    sides = {
        where: [Side(digest, contents[digest], tuple(keys)) for digest, keys in some.items()]
        for where, some in said.items()
    }
    return {
        where: {side.digest: side for side in _different(some, charsets, study.amender)}
        for where, some in sides.items()
    }


def _without_writing(value: Any) -> Any:
    """A value without what says how its items are written."""
    if type(value) is not list:
        return value
    return [
        {key: _without_writing(item[key]) for key in item if not is_of_writing(key)}
        for item in value
    ]


def _different(
    sides: list[Side], charsets: Mapping[str, CharacterSet], amender: Amender
) -> list[Side]:
    """Sides that say different things.

    One text may be a large value in one file and inline where an edit gave it.
    """
    if len(sides) == 1 or not any(references([side.content for side in sides])):
        return sides

    def is_same(one: Side, other: Side) -> bool:
        return one.content.keys() == other.content.keys() and all(
            amender.is_same(key, one.content[key], other.content[key], charsets[other.digest])
            or amender.is_same(key, other.content[key], one.content[key], charsets[one.digest])
            for key in one.content
        )

    different: list[Side] = []
    for side in ranked(sides):
        at = next((at for at, each in enumerate(different) if is_same(each, side)), None)
        if at is None:
            different.append(side)
        else:
            first = different[at]
            different[at] = first._replace(instances=first.instances + side.instances)
    return different


def resolve(
    archive: AnyArchive,
    study: str,
    *,
    group: str,
    keep: str,
    series: str | None = None,
    expect: int | None = None,
) -> tuple[Version, ...]:
    """Make one side of a conflict that of the whole study or series, and return all versions.

    Args:
        archive: the archive, or its folder.
        study: the Study Instance UID.
        group: the name of the attribute group.
        keep: the digest of the side that is right, or the start of it.
        series: the Series Instance UID, if the group is one of series and several have `keep`.
        expect: the number of the version that is changed, if it has to be a certain one.

    Raises:
        ArchiveError: there is no such study, or it is not as expected.
        DicomStudyError: there is no such group, or not exactly one with that digest, or others
            cannot have what it says (``change/group``, ``change/value``).
    """
    with changing(archive, study, expect=expect) as change:
        with change.archive.open(change.path) as found:
            sides = [
                (where, side, some)
                for where, some in sides_of(found).items()
                if where[1] == group and (series is None or where[0] == series)
                for digest, side in some.items()
                if keep and digest.startswith(keep)
            ]
            if len(sides) != 1:
                raise DicomStudyError(
                    "change/group",
                    f"{len(sides)} groups {group} of the study or of its series have a digest that "
                    f"begins with {keep!r}: see what conflicts says, and name one",
                    source=str(change.path),
                )
            ((where, side, some),) = sides
            if len(some) == 1:
                return change.history.versions
            edit = _edit(group, side, some.values(), found)
        if where[0] is not None:
            edit["series"] = where[0]
        check_edits(change, [edit])
        return edit_study(change, "resolve", [edit])


def _edit(group: str, side: Side, sides: Iterable[Side], study: Study) -> dict[str, Any]:
    """The edit that makes one of some sides that of all.

    Raises:
        DicomStudyError: others cannot have what it says (``change/group``).
    """
    said = [each.content for each in sides]
    if any(references(said)):
        raise DicomStudyError(
            "change/group", f"the group {group} has large values, which are not copied"
        )
    new = {
        key: value
        for key, value in side.content.items()
        if any(freeze(content.get(key, ...)) != freeze(value) for content in said)
    }
    giver = Giver(study[side.instances[0]])
    if (unfit := giver.unfit(new, study.values())) is not None:
        raise DicomStudyError(
            "change/group",
            f"other instances cannot have {unfit} as those of this side have it, in a VR that is "
            "not the dictionary's: keep another side, or update it",
        )
    edit: dict[str, Any] = {
        "set": {key: value for key, value in side.content.items() if key not in _UIDS},
        "remove": list(dict.fromkeys(k for each in said for k in each if k not in side.content)),
    }
    if vrs := giver.vrs(new):
        edit["vrs"] = vrs
    return edit
