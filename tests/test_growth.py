"""How a series grows (spec/grouping.md, Late instances)."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomstudy.clustering import Clustered, cluster
from dicomstudy.grouping import Batch, Entry, Row, Source, freeze
from dicomstudy.growth import Counts, Grown, count, grown
from dicomstudy.ion import ion_hash_hex
from dicomstudy.record import group_of
from tests.samples import chance_of
from tests.strategies import DEFINITIONS

KEYS = {
    key: group_of(key, DEFINITIONS)
    for key in (
        *("KVP", "GantryDetectorTilt", "DataCollectionDiameter"),
        *("00091000", "00091001", "00091002", "00091003"),
        *("_preamble", "_raw.00100010", "InstanceNumber"),
    )
}


def series_of(instances: Iterable[dict[str, object]]) -> Batch:
    """A batch of one series; of each instance its attributes by key."""
    batch = Batch(bases=[()])
    numbers: dict[object, int] = {}
    for at, attributes in enumerate(instances):
        own = []
        for key, value in attributes.items():
            name = (key, freeze(value))
            if name not in numbers:
                numbers[name] = len(batch.rows)
                batch.rows.append(Row(KEYS[key], key, value))
            own.append(numbers[name])
        sha256 = ion_hash_hex(at)
        source = Source(f"file:///{at}", sha256, 1)
        batch.entries.append(Entry(f"1.{at:04}", "1", sha256, source, (), 0, tuple(own), {}))
    return batch


def drawn(chance: random.Random, size: int) -> list[dict[str, object]]:
    """Instances whose attributes are constant, slow or all different, and absent now and then."""
    kinds = {key: chance.choice([1, 1, 2, 5, 8, 12, 1000]) for key in KEYS}
    absent = {key: chance.choice([0, 0, 0.02, 0.5]) for key in KEYS}
    alike = chance.random() < 0.5
    instances: list[dict[str, object]] = []
    for _ in range(size):
        common = chance.randrange(1000)
        instances.append(
            {
                key: (common if alike else chance.randrange(1000)) % kinds[key]
                for key in KEYS
                if chance.random() >= absent[key]
            }
        )
    return instances


def said(clustered: Clustered) -> dict[str, tuple[set[str], set[object]]]:
    """Of each instance, its digests and its own attributes."""
    (series,) = clustered.series
    return {
        entry.instance: (
            {*series.groups, *entry.groups},
            {(clustered.rows[n].key, freeze(clustered.rows[n].value)) for n in entry.own},
        )
        for entry in series.entries
    }


def counts_of(clustered: Clustered) -> Counts:
    (series,) = clustered.series
    return count(series, clustered.contents, clustered.rows, DEFINITIONS)


def grow(clustered: Clustered, counts: Counts, new: Batch, chance: random.Random) -> Grown | None:
    """The last instance of `new` among those that are clustered."""
    (series,) = clustered.series
    some = chance.sample(series.entries, chance.randint(1, len(series.entries)))
    known = {*series.groups, *(digest for entry in some for digest in entry.groups)}
    neighbour = dict(clustered.contents[digest] for digest in (*series.groups, *some[0].groups))
    attributes = {number: new.rows[number] for number in new.entries[-1].own}
    return grown(counts, len(series.entries), neighbour, known, attributes, DEFINITIONS)


def check(
    instances: list[dict[str, object]], late: list[dict[str, object]], chance: random.Random
) -> Counter[bool]:
    """Hold every answer about late instances against clustering all; count the answers."""
    answers: Counter[bool] = Counter()
    clustered = cluster(series_of(instances), DEFINITIONS)
    counts = counts_of(clustered)
    for one in late:
        instances = [*instances, one]
        batch = series_of(instances)
        whole = cluster(series_of(instances), DEFINITIONS)
        found = grow(clustered, counts, batch, chance)
        answers[found is not None] += 1
        exact = counts_of(whole)
        if found is None:
            clustered, counts = whole, exact
            continue
        expected = said(whole)
        name = batch.entries[-1].instance
        own = {(batch.rows[n].key, freeze(batch.rows[n].value)) for n in found.own}
        assert ({*found.groups}, own) == expected.pop(name)
        assert said(clustered) == expected
        assert all(whole.contents[digest] == group for digest, group in found.groups.items())
        assert_counts(found.counts, exact, len(instances))
        clustered, counts = whole, found.counts
    return answers


def assert_counts(counts: Counts, exact: Counts, instances: int) -> None:
    """Counts decide as exact ones do, and are wrong on the safe side only."""
    assert counts.values.keys() == exact.values.keys()
    assert counts.missing == exact.missing
    assert counts.combinations.keys() == exact.combinations.keys()
    for key, number in exact.values.items():
        slow = exact.is_slow(key, instances)
        assert counts.is_slow(key, instances) == slow
        assert counts.values[key] >= number if slow else counts.values[key] <= number
    for name, number in exact.combinations.items():
        apart = number > max(1, instances // 4)
        assert counts.combinations[name] <= number if apart else counts.combinations[name] >= number


@given(st.randoms(use_true_random=False), st.integers(1, 60))
def test_what_is_said_of_a_late_instance_is_what_clustering_all_gives(
    chance: random.Random, size: int
) -> None:
    instances = drawn(chance, size + 4)
    check(instances[:size], instances[size:], chance)


@pytest.mark.parametrize("size", [16, 40, 80])
def test_most_late_instances_are_answered(size: int) -> None:
    chance = chance_of(size)
    answers: Counter[bool] = Counter()
    for _ in range(20):
        instances = drawn(chance, size + 4)
        answers += check(instances[:size], instances[size:], chance)
    assert answers[True] > answers.total() / 2


@given(st.randoms(use_true_random=False), st.integers(1, 40))
def test_counts_come_back_from_their_struct(chance: random.Random, size: int) -> None:
    counts = counts_of(cluster(series_of(drawn(chance, size)), DEFINITIONS))
    assert Counts.from_struct(counts.to_struct()) == counts


@pytest.mark.parametrize(
    "struct",
    [
        {},
        {"values": {}, "missing": [], "combinations": []},
        {"values": {"KVP": "2"}, "missing": [], "combinations": {}},
        {"values": {"KVP": 2}, "missing": ["Rows"], "combinations": {}},
        {"values": {"KVP": 2}, "missing": [1], "combinations": {}},
        {"values": {"KVP": 2}, "missing": [], "combinations": {"ctImage": True}},
    ],
)
def test_no_other_struct_is_counts(struct: dict[str, object]) -> None:
    assert Counts.from_struct(struct) is None
