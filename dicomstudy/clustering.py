"""What repeats over a series → attribute groups of its own (spec/grouping.md)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from dicomstudy.definitions import Definitions
from dicomstudy.grouping import Batch, Entry, Group, Row, hashed, rank
from dicomstudy.record import INSTANCE

__all__ = ["Clustered", "ClusteredSeries", "cluster", "most_combinations", "most_values"]

#: An attribute is slow if it has at most one value for so many instances of its series.
_SLOW = 8
#: Slow attributes are grouped if they show at most one combination for so many instances.
_COMBINATIONS = 4


class ClusteredSeries(NamedTuple):
    """One series: the groups that all its instances have, and its entries.

    `entries` are in the order of their SOP Instance UID and digest; their `groups` are those
    beyond the common ones, their `own` what was not constant, in the order of documents.
    """

    uid: str
    groups: tuple[str, ...]
    entries: list[Entry]


@dataclass(slots=True)
class Clustered:
    """A study in which what is constant or slow over a series is in groups."""

    contents: dict[str, Group]
    rows: list[Row]
    series: list[ClusteredSeries]


def cluster(batch: Batch, definitions: Definitions) -> Clustered:
    """Move what repeats over a series into groups; the order of `batch` is forgotten."""
    if not batch.entries:  # mostly so of those that only older versions have
        return Clustered({}, batch.rows, [])
    by_series: dict[str, list[Entry]] = {}
    for entry in batch.entries:
        by_series.setdefault(entry.series, []).append(entry)
    order = {name: at for at, name in enumerate(definitions.groups)}
    order_of_rows = _order(batch.rows, definitions)
    contents: dict[str, Group] = {}
    series = []
    for uid, entries in sorted(by_series.items()):
        entries.sort(key=lambda entry: entry.identity)
        regrouped = _regroup(batch, entries, contents, order_of_rows, definitions)
        for digest in dict.fromkeys(chain.from_iterable(entry.groups for entry in entries)):
            contents[digest] = batch.contents[digest]
        digests = [
            {*entry.groups, *more} for entry, (more, _) in zip(entries, regrouped, strict=True)
        ]
        common = set.intersection(*digests)
        place = {digest: (order[contents[digest][0]], digest) for digest in set().union(*digests)}
        kept = [
            entry._replace(
                groups=tuple(sorted(mine - common, key=place.__getitem__)), base=0, own=own
            )
            for entry, mine, (_, own) in zip(entries, digests, regrouped, strict=True)
        ]
        series.append(ClusteredSeries(uid, tuple(sorted(common, key=place.__getitem__)), kept))
    return Clustered(contents, batch.rows, series)


def _regroup(
    batch: Batch,
    entries: list[Entry],
    contents: dict[str, Group],
    order: Sequence[int],
    definitions: Definitions,
) -> list[tuple[list[str], tuple[int, ...]]]:
    """Of each entry of a series: the digests of its new groups, and the numbers that stay own.

    `order` says where each row stands among others in a document.
    """
    rows = batch.rows
    constant, slow = _repeating(batch, entries)
    cases = _combinations(batch, entries, slow)
    digests: list[list[str]] = [[] for _ in entries]
    grouped = {number for numbers in constant.values() for number in numbers}
    for group in constant.keys() | cases.keys():
        of_group = cases.get(group, {})
        if not of_group or len(of_group) > most_combinations(len(entries)):
            of_group = {(): list(range(len(entries)))}
        for combination, places in of_group.items():
            grouped.update(combination)
            members = [rows[number] for number in (*constant.get(group, ()), *combination)]
            if members:
                digest, _, content = hashed(group, members, definitions)
                contents[digest] = group, content
                for place in places:
                    digests[place].append(digest)
    own_of_base = {
        entry.base: [number for number in batch.bases[entry.base] if number not in grouped]
        for entry in entries
    }
    own = [
        own_of_base[entry.base] + [number for number in entry.own if number not in grouped]
        for entry in entries
    ]
    return [
        (mine, tuple(sorted(numbers, key=order.__getitem__)))
        for mine, numbers in zip(digests, own, strict=True)
    ]


def _repeating(batch: Batch, entries: list[Entry]) -> tuple[dict[str, list[int]], dict[int, str]]:
    """Rows that all entries of a series have, by group; and the slow ones, each with its group."""
    count = len(entries)
    seen: Counter[int] = Counter(chain.from_iterable(entry.own for entry in entries))
    for base, times in Counter(entry.base for entry in entries).items():
        for number in batch.bases[base]:
            seen[number] += times
    variants: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for number in seen:
        group, key, _ = batch.rows[number]
        if group != INSTANCE:
            variants[group, key].append(number)
    most = most_values(count)
    constant: dict[str, list[int]] = {}
    slow: dict[int, str] = {}
    for (group, _), numbers in variants.items():
        if len(numbers) > most:
            continue
        present = sum(seen[number] for number in numbers)
        if len(numbers) == 1 and present == count:
            constant.setdefault(group, []).append(numbers[0])
        elif len(numbers) + (present < count) <= most:
            slow |= dict.fromkeys(numbers, group)
    return constant, slow


def _combinations(
    batch: Batch, entries: list[Entry], slow: dict[int, str]
) -> dict[str, dict[tuple[int, ...], list[int]]]:
    """By group, the combinations of slow rows with the places of the entries that have them."""
    groups = set(slow.values())
    slow_of_base = {entry.base: slow.keys() & batch.bases[entry.base] for entry in entries}
    alike: dict[tuple[int, tuple[int, ...]], list[int]] = {}
    for place, entry in enumerate(entries):
        own = tuple([number for number in entry.own if number in slow])
        alike.setdefault((entry.base, own), []).append(place)
    cases: dict[str, dict[tuple[int, ...], list[int]]] = {group: {} for group in groups}
    for (base, own), places in alike.items():
        mine: dict[str, list[int]] = {group: [] for group in groups}
        for number in sorted(slow_of_base[base].union(own)):
            mine[slow[number]].append(number)
        for group, numbers in mine.items():
            cases[group].setdefault(tuple(numbers), []).extend(places)
    return cases


def most_values(instances: int) -> int:
    """How many values a slow attribute has at most in a series; to be absent counts as one."""
    return max(1, instances // _SLOW)


def most_combinations(instances: int) -> int:
    """How many combinations slow attributes have at most in a series, to be grouped."""
    return max(1, instances // _COMBINATIONS)


def _order(rows: Sequence[Row], definitions: Definitions) -> list[int]:
    """Of each row, where its key stands among the others in a document."""
    keys = sorted({row.key for row in rows}, key=lambda key: (rank(key, definitions), key))
    places = {key: place for place, key in enumerate(keys)}
    return [places[row.key] for row in rows]
