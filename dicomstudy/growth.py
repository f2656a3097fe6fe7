"""How a clustered series grows by one instance, its others not being looked at (spec/grouping.md).

The law: what `grown` says of the new instance is what `cluster` says of it among all instances
of the series, whose groups stay as they are. Where `Counts` do not tell, it says nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

from dicomstudy.clustering import ClusteredSeries, most_combinations, most_values
from dicomstudy.definitions import Definitions
from dicomstudy.grouping import ENCODING, Group, Row, freeze, hashed
from dicomstudy.record import INSTANCE, group_of

__all__ = ["Counts", "Grown", "count", "grown"]


class Counts(NamedTuple):
    """What varies in a series, of the attributes outside the seed's groups.

    Attributes:
        values: how many values each of them has, by key: of slow attributes at most so many, of
            others at least.
        missing: those that some instance lacks.
        combinations: how many combinations of slow attributes a group has, by its name: at most
            so many where they are grouped, at least so many where not.
    """

    values: dict[str, int]
    missing: frozenset[str]
    combinations: dict[str, int]

    def is_slow(self, key: str, instances: int) -> bool:
        """Whether an attribute is slow in a series of so many instances."""
        return self.values[key] + (key in self.missing) <= most_values(instances)

    def to_struct(self) -> dict[str, Any]:
        """The fields of a document; mirror of `from_struct`."""
        values, missing, combinations = self
        return {
            "values": dict(sorted(values.items())),
            "missing": sorted(missing),
            "combinations": dict(sorted(combinations.items())),
        }

    @classmethod
    def from_struct(cls, struct: Mapping[str, Any]) -> Counts | None:
        """Mirror of `to_struct`; None if the struct is no such one."""
        values, missing, combinations = (struct.get(name) for name in cls._fields)
        if (
            isinstance(values, dict)
            and isinstance(missing, list)
            and isinstance(combinations, dict)
            and all(type(number) is int for number in (*values.values(), *combinations.values()))
            and all(isinstance(key, str) and key in values for key in missing)
        ):
            return cls(values, frozenset(missing), combinations)
        return None


class Grown(NamedTuple):
    """A new instance in its series.

    Attributes:
        groups: those that it refers to beside the seed's and `encoding`, by digest.
        own: the numbers of the attributes that are in no group.
        counts: those of the series with it.
    """

    groups: dict[str, Group]
    own: list[int]
    counts: Counts


def count(
    series: ClusteredSeries,
    contents: Mapping[str, Group],
    rows: Sequence[Row],
    definitions: Definitions,
) -> Counts:
    """The counts of a series, none of them too high or too low."""
    instances = len(series.entries)
    others = {*definitions.seed_groups, ENCODING, INSTANCE}
    times = Counter(dict.fromkeys(series.groups, instances))
    times.update(digest for entry in series.entries for digest in entry.groups)
    frozen: dict[int, object] = {}
    home: dict[str, str] = {}
    present: Counter[str] = Counter()
    values: dict[str, set[object]] = {}
    for digest, number_of_times in times.items():
        name, content = contents[digest]
        if name not in others:
            for key, value in content.items():
                home[key] = name
                present[key] += number_of_times
                values.setdefault(key, set()).add(freeze(value))
    for number, number_of_times in Counter(n for e in series.entries for n in e.own).items():
        _, key, value = rows[number]
        name = home.get(key) or group_of(key, definitions)
        if name not in others:
            home[key] = name
            frozen[number] = freeze(value)
            present[key] += number_of_times
            values.setdefault(key, set()).add(frozen[number])
    missing = {key for key in values if present[key] < instances}
    numbers = {key: len(v) for key, v in values.items() if len(v) > 1 or key in missing}
    counts = Counts(numbers, frozenset(missing), {})
    slow = {key for key in numbers if counts.is_slow(key, instances)}
    for name in {home[key] for key in slow}:
        combinations = {
            (
                tuple([digest for digest in entry.groups if contents[digest][0] == name]),
                frozenset(
                    (rows[number].key, frozen[number])
                    for number in entry.own
                    if rows[number].key in slow and home[rows[number].key] == name
                ),
            )
            for entry in series.entries
        }
        counts.combinations[name] = len(combinations)
    return counts


def grown(
    counts: Counts,
    instances: int,
    neighbour: Mapping[str, Mapping[str, Any]],
    known: Container[str],
    attributes: Mapping[int, Row],
    definitions: Definitions,
) -> Grown | None:
    """A new instance in its series; None if its others may not stay as they are.

    Args:
        counts: those of the series.
        instances: how many it has without the new one.
        neighbour: the groups of one of them by name, without the seed's and `encoding`.
        known: digests of groups that any of them refers to.
        attributes: those of the new one outside the seed's groups, by their numbers.
        definitions: those of the format.
    """
    mine: dict[str, dict[str, int]] = {}
    for number, row in attributes.items():
        mine.setdefault(row.group, {})[row.key] = number
    own = list(mine.pop(INSTANCE, {}).values())
    varying: dict[str, set[str]] = {}
    for key in counts.values:
        varying.setdefault(group_of(key, definitions), set()).add(key)
    groups: dict[str, Group] = {}
    after = Counts({}, frozenset(), {})
    for name in mine.keys() | neighbour.keys() | varying.keys():
        numbers = mine.get(name, {})
        constant = {
            key: key in numbers and freeze(attributes[numbers[key]].value) == freeze(value)
            for key, value in neighbour.get(name, {}).items()
            if key not in counts.values
        }
        growing = _GrowingGroup(
            counts, instances, name, constant, varying.get(name, set()), numbers.keys()
        )
        members = [attributes[numbers[key]] for key in growing.grouped]
        own += [number for key, number in numbers.items() if key not in growing.grouped]
        digest = ""
        if members:
            digest, _, content = hashed(name, members, definitions)
            groups[digest] = name, content
        of_group = growing.counts(is_known=digest in known)
        if of_group is None:
            return None
        after = Counts(
            after.values | of_group.values,
            after.missing | of_group.missing,
            after.combinations | of_group.combinations,
        )
    return Grown(groups, own, after)


class _GrowingGroup:
    """The attributes of one group in a series that gets a new instance.

    Args:
        counts: those of the series.
        instances: how many it has without the new one.
        name: the group.
        constant: the keys that all have with one value, and whether the new one has it too.
        varying: the other keys.
        here: those that the new one has.

    Attributes:
        grouped: those that the new one has in its group.
    """

    def __init__(
        self,
        counts: Counts,
        instances: int,
        name: str,
        constant: Mapping[str, bool],
        varying: AbstractSet[str],
        here: AbstractSet[str],
    ) -> None:
        self._name = name
        self._instances = instances
        self._here = here
        self._turned = {key for key, is_same in constant.items() if not is_same}
        new = here - constant.keys() - varying
        values = {key: counts.values[key] for key in varying}
        values |= {key: 2 if key in here else 1 for key in self._turned} | dict.fromkeys(new, 1)
        absent = (self._turned | varying) - here
        missing = (varying & counts.missing) | absent | new
        self._counts = Counts(values, frozenset(missing), {})
        self._slow_before = {key for key in varying if counts.is_slow(key, instances)}
        self._slow = {key for key in values if self._counts.is_slow(key, instances + 1)}
        self._stays = self._slow & varying == self._slow_before and self._turned <= self._slow
        self._combinations = counts.combinations.get(name, 1)
        self._is_apart = self._combinations > most_combinations(instances)
        same = constant.keys() - self._turned
        self.grouped = same if self._is_apart else same | (self._slow & here)

    def counts(self, *, is_known: bool) -> Counts | None:
        """The counts of the group with the new instance; None if others may not stay as they are.

        Args:
            is_known: another instance has the same group.
        """
        most = most_combinations(self._instances + 1)
        if not self._stays or (self._is_apart and (self._turned or self._combinations <= most)):
            return None
        values, missing, _ = self._counts
        combinations = self._combinations
        if self._is_apart or not is_known:
            values |= {key: values[key] + 1 for key in self._slow_before & self._here}
            combinations += not self._is_apart
        after = Counts(values, missing, {self._name: combinations} if self._slow else {})
        stays = all(after.is_slow(key, self._instances + 1) for key in self._slow)
        return after if stays and (self._is_apart or combinations <= most) else None
