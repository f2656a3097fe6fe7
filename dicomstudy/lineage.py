"""The versions of a study, and which of them make up one (spec/history.md).

Every change of a study is a version with a number; going back is one too. The lineage of a
version are those whose changes it has: of one that went back, the lineage of where it went.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from operator import itemgetter
from typing import Any, Generic, NamedTuple, TypeVar

from dicomstudy.errors import StudyError
from dicomstudy.paths import ORIGINALS, parse_path
from dicomstudy.record import is_value

__all__ = ["Brought", "History", "Scoped", "Version", "moment", "names_in"]

_Thing = TypeVar("_Thing")
_MOMENT = "%Y-%m-%dT%H:%M:%SZ"


class Brought(NamedTuple):
    """Edits that came with instances from another study or series (spec/moving.md).

    Attributes:
        versions: the edits, each version being one modification. Their numbers are 0 and less:
            they were made before those of the study that has them now.
        series: for instances of this series only; None for all.
        instances: for those with these names only, ``<uid>#<digest>``; None for all.
    """

    versions: tuple[Version, ...]
    series: str | None = None
    instances: frozenset[str] | None = None

    def to_struct(self) -> dict[str, Any]:
        """The fields of a document; mirror of `from_struct`."""
        versions = [{"when": each.when, "edits": list(each.edits)} for each in self.versions]
        struct: dict[str, Any] = {"versions": versions}
        if self.series is not None:
            struct["series"] = self.series
        if self.instances is not None:
            struct["instances"] = sorted(self.instances)
        return struct

    @classmethod
    def from_struct(cls, struct: object) -> Brought:
        """Mirror of `to_struct`.

        Raises:
            StudyError: fields are missing or of other types.
        """
        if not isinstance(struct, dict):
            raise _damaged()
        versions, series, names = (struct.get(n) for n in ("versions", "series", "instances"))
        if not (
            isinstance(versions, list)
            and all(map(_is_modification, versions))
            and (series is None or isinstance(series, str))
            and (names is None or isinstance(names, list))
            and all(isinstance(name, str) for name in names or ())
        ):
            raise _damaged()
        made = [(each["when"], tuple(each["edits"])) for each in versions]
        return cls.of(made, series, None if names is None else frozenset(names))

    @classmethod
    def of(
        cls,
        made: Sequence[tuple[str, tuple[dict[str, Any], ...]]],
        series: str | None = None,
        instances: frozenset[str] | None = None,
    ) -> Brought:
        """What was `made` elsewhere: time and edits of each modification, in order."""
        versions = [
            Version(1 + at - len(made), when, "", edits=edits)
            for at, (when, edits) in enumerate(made)
        ]
        return cls(tuple(versions), series, instances)


class Version(NamedTuple):
    """One version of a study.

    Attributes:
        number: counts up by one with every change; what `expect` is compared with.
        when: time of the change in UTC, as ``2026-11-24T21:30:00Z``.
        command: what made it, such as "convert".
        to: the version that it went back to, None if it did not.
        added: instances that came in.
        removed: instances that went out.
        groups: names of the attribute groups that the edits changed.
        edits: what was changed in the attributes of instances (spec/edits.md).
        from_study: the study that instances came from; empty if from none.
        to_study: the study that instances went to; empty if to none.
        brought: edits that came with instances from elsewhere (spec/moving.md).
    """

    number: int
    when: str
    command: str
    to: int | None = None
    added: int = 0
    removed: int = 0
    groups: tuple[str, ...] = ()
    edits: tuple[dict[str, Any], ...] = ()
    from_study: str = ""
    to_study: str = ""
    brought: tuple[Brought, ...] = ()

    def to_struct(self) -> dict[str, Any]:
        """The fields of a document; mirror of `from_struct`."""
        struct = {"version": self.number, "when": self.when, "command": self.command}
        fields = self._asdict()
        for name in ("to", "added", "removed"):
            if fields[name]:
                struct[name] = fields[name]
        studies = {"fromStudy": self.from_study, "toStudy": self.to_study}
        struct |= {name: uid for name, uid in studies.items() if uid}
        for name in ("groups", "edits"):
            if fields[name]:
                struct[name] = list(fields[name])
        if self.brought:
            struct["brought"] = [each.to_struct() for each in self.brought]
        return struct

    @classmethod
    def from_struct(cls, struct: object) -> Version:
        """Mirror of `to_struct`.

        Raises:
            StudyError: fields are missing or of other types.
        """
        if not isinstance(struct, dict):
            raise _damaged()
        numbers = {name: struct.get(name, 0) for name in ("version", "added", "removed")}
        back = struct.get("to")
        texts = {name: struct.get(name) for name in ("when", "command")}
        texts |= {name: struct.get(name, "") for name in ("fromStudy", "toStudy")}
        groups, edits = struct.get("groups", []), struct.get("edits", [])
        brought = struct.get("brought", [])
        if not (
            all(type(number) is int and number >= 0 for number in numbers.values())
            and (back is None or type(back) is int)
            and all(isinstance(text, str) for text in texts.values())
            and _is_moment(str(texts["when"]))
            and isinstance(groups, list)
            and all(isinstance(name, str) for name in groups)
            and isinstance(edits, list)
            and all(map(_is_edit, edits))
            and isinstance(brought, list)
        ):
            raise _damaged()
        return cls(
            numbers["version"],
            str(texts["when"]),
            str(texts["command"]),
            back,
            numbers["added"],
            numbers["removed"],
            tuple(groups),
            tuple(edits),
            str(texts["fromStudy"]),
            str(texts["toStudy"]),
            tuple(map(Brought.from_struct, brought)),
        )


class Scoped(Generic[_Thing]):
    """Things that are for all instances, for those of a series, or for those of some names."""

    def __init__(self) -> None:
        self._count = 0
        self._found: dict[tuple[str | None, str | None], list[tuple[int, _Thing]]] = {}

    def add(self, thing: _Thing, series: str | None, names: Iterable[str] | None) -> None:
        """Add one; None for those of any series, or of any name."""
        for name in (None,) if names is None else names:
            self._found.setdefault((series, name), []).append((self._count, thing))
        self._count += 1

    def of(self, series: str, name: str) -> list[_Thing]:
        """Those that are for an instance, in the order in which they were added."""
        scopes = ((None, None), (None, name), (series, None), (series, name))
        found = [each for scope in scopes for each in self._found.get(scope, ())]
        return [thing for _, thing in sorted(found, key=itemgetter(0))]


def names_in(edit: Mapping[str, Any]) -> set[str] | None:
    """The SOP Instance UIDs that an edit may be for; None if it is for any instance.

    Two for one that names an instance with a digest, as a UID may have a ``#`` itself.
    """
    name = edit.get("instance")
    return None if name is None else {name, name.rpartition("#")[0]}


@dataclass(frozen=True)
class History:
    """The versions of a study that are known, the oldest first; there is at least one.

    In brackets stands the number of a version; the oldest one has `first`.

    Raises:
        StudyError: they are not numbered one after another, or one went back to none before it.
    """

    versions: tuple[Version, ...]

    def __post_init__(self) -> None:
        first = self.versions[0].number if self.versions else 0
        for at, version in enumerate(self.versions):
            is_back = version.to is None or first <= version.to < version.number
            if version.number != first + at or not is_back:
                raise _damaged()
        if first < 1:
            raise _damaged()

    @classmethod
    def from_struct(cls, struct: Mapping[str, Any]) -> History:
        """The history of a document; mirror of `to_struct`.

        Raises:
            StudyError: it is damaged.
        """
        versions = struct.get("versions")
        if not isinstance(versions, list):
            raise _damaged()
        return cls(tuple(map(Version.from_struct, versions)))

    def to_struct(self) -> dict[str, Any]:
        """The fields of a document."""
        return {"versions": [version.to_struct() for version in self.versions]}

    @property
    def first(self) -> int:
        """The number of the oldest version."""
        return self.versions[0].number

    @property
    def current(self) -> int:
        """The number of the newest version, which is how the study is."""
        return self.versions[-1].number

    def __len__(self) -> int:
        return len(self.versions)

    def __iter__(self) -> Iterator[Version]:
        return iter(self.versions)

    def __reversed__(self) -> Iterator[Version]:
        return iter(self.versions[::-1])

    def __getitem__(self, number: int) -> Version:
        if not self.first <= number <= self.current:
            raise KeyError(number)
        return self.versions[number - self.first]

    def then(self, command: str, *, when: str | None = None, **fields: Any) -> History:
        """The history with one version more, made now; `fields` are those of `Version`.

        Raises:
            StudyError: it could not be read again.
        """
        version = Version(self.current + 1, when or moment(), command, **fields)
        return History((*self.versions, Version.from_struct(version.to_struct())))

    def lineage(self, number: int) -> frozenset[int]:
        """The numbers of the versions whose changes version `number` has, its own too."""
        numbers = set()
        while True:
            version = self[number]
            if version.to is not None:
                number = version.to
                continue
            numbers.add(number)
            if number == self.first:
                return frozenset(numbers)
            number -= 1

    @cached_property
    def _now(self) -> frozenset[int]:
        return self.lineage(self.current)

    def left(self, events: Iterable[int]) -> Version | None:
        """The version in which an instance with these `events` went out; None if it is not out."""
        event = next((each for each in reversed([*events]) if abs(each) in self._now), 0)
        return self[-event] if event < 0 else None

    def departures(self, events: Iterable[int]) -> Iterator[Version]:
        """Every version in which an instance with these `events` went out, reverted ones too."""
        return (self[-event] for event in events if self.first <= -event <= self.current)

    def since(self, events: Iterable[int], lineage: frozenset[int] | None = None) -> int | None:
        """The version in which an instance came that has these `events`; None if it is out.

        Args:
            events: the versions in which it came in, and those in which it went out with a
                minus. Where the first one is not a coming, it was there from the start.
            lineage: that of the version asked about; of the current one if None.
        """
        lineage = self._now if lineage is None else lineage
        since: int | None = None
        for at, event in enumerate(events or (self.first,)):
            if at == 0 and event < 0:
                since = self.first
            if abs(event) in lineage:
                since = event if event > 0 else None
        return since

    def arrival(self, events: Iterable[int]) -> int:
        """The version in which an instance that has these `events` came for the last time."""
        return max((event for event in events if event > 0), default=self.first)

    def brought(self, since: int, series: str, name: str) -> list[tuple[Version, dict[str, Any]]]:
        """The edits that an instance had with it when it came in version `since`, in order.

        Args:
            since: the number of the version.
            series: the series that it came to.
            name: its UID and digest, ``<uid>#<digest>``.
        """
        if not self.first <= since <= self.current:
            return []
        found = self._brought[since - self.first].of(series, name)
        return [
            (version, edit)
            for each in found[:1]
            for version in each.versions
            for edit in version.edits
        ]

    @cached_property
    def _brought(self) -> list[Scoped[Brought]]:
        """What was brought in each version, the first that is meant for an instance first."""
        result = []
        for version in self.versions:
            scoped: Scoped[Brought] = Scoped()
            for each in version.brought:
                scoped.add(each, each.series, each.instances)
            result.append(scoped)
        return result

    def moved(self, since: int) -> bool:
        """Whether instances may have come from, or gone to, another study after version `since`.

        A version that went back counts as well: what it took back may have been a move. With 0,
        all versions are looked at.
        """
        if since < self.first - 1:
            return True  # nobody knows
        later = self.versions[since + 1 - self.first :]
        return any(each.from_study or each.to_study or each.to for each in later)

    def all_edits(self) -> Iterator[dict[str, Any]]:
        """The edits of all versions, and those that came with instances."""
        for version in self.versions:
            for brought in version.brought:
                for earlier in brought.versions:
                    yield from earlier.edits
            yield from version.edits

    @property
    def is_plain(self) -> bool:
        """Whether there is no more to say than that the study was converted."""
        return self.current == 1 and not self.versions[0].brought

    @cached_property
    def has_edits(self) -> bool:
        """Whether edits hold for any instance."""
        return any(
            version.brought or (version.edits and version.number in self._now)
            for version in self.versions
        )

    def edits(self, since: int, series: str, uid: str) -> list[tuple[Version, dict[str, Any]]]:
        """The edits that now hold for instances that came in version `since`, in order.

        Args:
            since: the number of the version.
            series: the series that they are of.
            uid: their SOP Instance UID. An edit may mean only one of those that have it.
        """
        return [each for each in self._edits.of(series, uid) if each[0].number > since]

    @cached_property
    def _edits(self) -> Scoped[tuple[Version, dict[str, Any]]]:
        scoped: Scoped[tuple[Version, dict[str, Any]]] = Scoped()
        for version in self.versions:
            for edit in version.edits if version.number in self._now else ():
                scoped.add((version, edit), edit.get("series"), names_in(edit))
        return scoped


def _is_edit(edit: object) -> bool:
    """Whether an edit has the fields that edits have (spec/edits.md)."""
    if not isinstance(edit, dict):
        return False
    to_set, remove, vrs = edit.get("set", {}), edit.get("remove", []), edit.get("vrs", {})
    return (
        isinstance(to_set, dict)
        and isinstance(remove, list)
        and isinstance(vrs, dict)
        and all(isinstance(path, str) and _is_path(path) for path in (*to_set, *remove))
        and all(map(is_value, to_set.values()))
        and all(isinstance(vr, str) for vr in vrs.values())
        and all(isinstance(edit.get(level, ""), str) for level in ("series", "instance"))
    )


@lru_cache(maxsize=1 << 12)
def _is_path(path: str) -> bool:
    """Whether a text is a path; what came with instances has the same ones again and again.

    None leads into what was there before: each edit of it would make it twice as large.
    """
    steps = parse_path(path)
    return bool(steps) and steps[0][0] != ORIGINALS


def _is_modification(struct: object) -> bool:
    """Whether a version of what was brought has its fields."""
    return (
        isinstance(struct, dict)
        and isinstance(struct.get("when"), str)
        and _is_moment(struct["when"])
        and isinstance(struct.get("edits"), list)
        and all(map(_is_edit, struct["edits"]))
    )


def moment(seconds: float | None = None) -> str:
    """A time in seconds since 1970, or now, as versions have it."""
    when = datetime.now(UTC) if seconds is None else datetime.fromtimestamp(seconds, UTC)
    return when.strftime(_MOMENT)


@lru_cache(maxsize=1 << 8)
def _is_moment(text: str) -> bool:
    """Whether it is a time as versions have it, which is written into files."""
    try:
        return text == datetime.fromisoformat(text).strftime(_MOMENT)
    except ValueError:
        return False


def _damaged() -> StudyError:
    return StudyError("study/damaged", "the history of the document contradicts itself")
