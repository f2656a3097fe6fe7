"""Instances are grouped and come apart again, in whatever order they came (spec/grouping.md)."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomstudy.clustering import cluster
from dicomstudy.errors import RecordError
from dicomstudy.grouping import Batch, Grouper, Pending, Source, freeze, ordered, ungroup
from dicomstudy.ion import dumps, ion_hash_hex
from dicomstudy.p10 import read
from dicomstudy.record import Decoder
from fixtures import make
from tests import studies
from tests.samples import chance_of, fixture_files
from tests.strategies import DEFINITIONS


def groups_of(batch: Batch) -> set[tuple[str, str]]:
    """Name and digest of every group of a clustered batch."""
    contents = cluster(batch, DEFINITIONS).contents
    return {(name, digest) for digest, (name, _) in contents.items()}


# -- the law ---------------------------------------------------------------------------------


@given(studies.batches())
def test_what_is_grouped_comes_apart_again(batch: Batch) -> None:
    clustered = studies.unclustered(cluster(batch, DEFINITIONS))
    found = sorted(
        repr((entry.instance, entry.series, entry.digest, sorted(digests), freeze(attributes)))
        for entry, digests, attributes in clustered
    )
    assert found == sorted(
        repr((entry.instance, entry.series, entry.digest, sorted(entry.groups), freeze(attributes)))
        for entry, attributes in (
            (each, studies.attributes_of(batch, each)) for each in batch.entries
        )
    )


@given(studies.batches(), st.randoms(use_true_random=False))
def test_some_of_a_batch_say_what_they_said(batch: Batch, chance: random.Random) -> None:
    some = chance.sample(batch.entries, chance.randint(0, len(batch.entries)))
    only = batch.only(some)
    whole = Batch(batch.contents, batch.rows, batch.bases, some)
    assert studies.canonical(only) == studies.canonical(whole)
    assert {number for entry in only.entries for number in entry.own} == set(range(len(only.rows)))
    assert only.contents.keys() == {digest for entry in some for digest in entry.groups}


def test_the_fixtures_come_apart_again() -> None:
    batch = studies.grouped(studies.fixture_study())
    clustered = cluster(batch, DEFINITIONS)
    expected = {
        (entry.digest, entry.instance): (set(entry.groups), studies.attributes_of(batch, entry))
        for entry in batch.entries
    }
    found = {
        (entry.digest, entry.instance): (digests, attributes)
        for entry, digests, attributes in studies.unclustered(clustered)
    }
    assert found == expected
    assert len(found) > 80


@given(studies.batches(), st.randoms(use_true_random=False))
def test_groups_do_not_depend_on_the_order(batch: Batch, chance: random.Random) -> None:
    order = list(range(len(batch.entries)))
    chance.shuffle(order)
    one, other = (cluster(each, DEFINITIONS) for each in (batch, studies.shuffled(batch, order)))
    assert one.contents.keys() == other.contents.keys()
    assert [(s.uid, s.groups) for s in one.series] == [(s.uid, s.groups) for s in other.series]
    for left, right in zip(one.series, other.series, strict=True):
        assert [(e.digest, e.groups) for e in left.entries] == [
            (e.digest, e.groups) for e in right.entries
        ]
        assert [[repr(one.rows[n]) for n in e.own] for e in left.entries] == [
            [repr(other.rows[n]) for n in e.own] for e in right.entries
        ]


@given(st.permutations(range(24)))
def test_digests_of_the_fixtures_do_not_depend_on_the_order(order: list[int]) -> None:
    files = studies.fixture_study()[:24]
    shuffled = studies.grouped([files[at] for at in order])
    assert groups_of(shuffled) == groups_of(studies.grouped(files))


@given(studies.batches(), st.integers(1, 5))
def test_batches_are_joined(batch: Batch, count: int) -> None:
    parts = [Batch(batch.contents, batch.rows, batch.bases, batch.entries[at::count])
             for at in range(count)]  # fmt: skip
    joined = Batch.join(parts)
    assert studies.canonical(joined) == studies.canonical(batch)
    assert_rows_differ(joined)


def assert_rows_differ(batch: Batch) -> None:
    names = [repr((group, key, freeze(value))) for group, key, value in batch.rows]
    assert len(set(names)) == len(names)


def test_equal_attributes_are_one_row_whoever_decoded_them() -> None:
    """A batch in the making is as good as one that was joined."""
    grouper, pending = Grouper(DEFINITIONS), Pending()
    for name, data in studies.fixture_study():
        for _ in range(2):
            record = Decoder(DEFINITIONS).decode(read(data), data)
            uids = grouper.uids(record)
            assert uids is not None
            grouper.add(pending, record, uids=uids, source=Source(name, "0" * 64), places={})
    assert_rows_differ(pending.batch)
    assert studies.canonical(pending.batch) == studies.canonical(Batch.join([pending.batch]))


# -- digests -----------------------------------------------------------------------------------


def test_a_group_is_named_by_its_ion_hash() -> None:
    clustered = cluster(studies.grouped(studies.fixture_study()), DEFINITIONS)
    for digest, (_, content) in clustered.contents.items():
        assert ion_hash_hex(content) == digest


def test_digests_do_not_depend_on_byte_order_or_vr_encoding() -> None:
    """But for the groups that hold the transfer syntax or how the file was written."""
    names = ("implicit", "explicit", "deflated", "big")
    variants = [(name, fixture_files()[f"encodings/{name}.dcm"]) for name in names]
    found = [groups_of(studies.grouped([variant])) for variant in variants]
    common = set.intersection(*found)
    different = {name for name, _ in set.union(*found) - common}
    assert {"patient", "generalStudy", "generalSeries", "generalEquipment"} <= {
        n for n, _ in common
    }
    assert different <= {"imagePixel", "encoding", "raw", "fileMeta"}


def test_the_groups_of_the_seed_have_its_attributes_and_no_more() -> None:
    for name, content in studies.grouped(studies.fixture_study()).contents.values():
        if name != "encoding":
            assert content.keys() <= set(DEFINITIONS._members[name])


def test_differing_names_are_two_groups() -> None:
    """The patient's name is misspelt in one of three files."""
    files = [(name, data) for name, data in fixture_files().items() if name.startswith("mr/")]
    patients = [
        content["PatientName"]
        for name, content in studies.grouped(files).contents.values()
        if name == "patient"
    ]
    assert sorted(patients) == ["Exampel^Ben", "Example^Ben"]


# -- what becomes of attributes outside the seed's groups ---------------------------------------


def instances(count: int) -> Batch:
    return studies.grouped(make.study(count, series=1))


def test_what_is_constant_over_a_series_is_in_its_groups() -> None:
    clustered = cluster(instances(40), DEFINITIONS)
    (series,) = clustered.series
    keys = {key for digest in series.groups for key in clustered.contents[digest][1]}
    assert {"KVP", "GantryDetectorTilt", "00091001", "SeriesDescription"} <= keys
    for entry in series.entries:
        own = {clustered.rows[number].key for number in entry.own}
        assert "SOPInstanceUID" in own
        assert own & keys == set()
    assert len(series.entries[0].own) < 20


def test_one_instance_alone_has_its_groups_too() -> None:
    clustered = cluster(instances(1), DEFINITIONS)
    (series,) = clustered.series
    assert [clustered.contents[digest][0] for digest in series.groups].count("ctImage") == 1


def test_what_belongs_to_the_instance_is_never_grouped() -> None:
    clustered = cluster(instances(1), DEFINITIONS)
    keys = {key for _, content in clustered.contents.values() for key in content}
    assert keys & DEFINITIONS.instance_keywords == set()


def test_groups_come_in_the_order_of_the_definitions() -> None:
    clustered = cluster(studies.grouped(studies.fixture_study()), DEFINITIONS)
    for series in clustered.series:
        for digests in (series.groups, *(entry.groups for entry in series.entries)):
            names = [DEFINITIONS.groups.index(clustered.contents[digest][0]) for digest in digests]
            assert names == sorted(names)


# -- identity ----------------------------------------------------------------------------------


def test_a_record_without_its_uids_has_none() -> None:
    grouper = Grouper(DEFINITIONS)
    for name in ("uid-missing.dcm", "uid-missing-all.dcm", "uid-empty.dcm"):
        data = fixture_files()[name]
        assert grouper.uids(Decoder(DEFINITIONS).decode(read(data), data)) is None


def test_uids_are_stripped_of_their_padding() -> None:
    data = fixture_files()["uid-spaces.dcm"]
    uids = Grouper(DEFINITIONS).uids(Decoder(DEFINITIONS).decode(read(data), data))
    assert uids is not None
    assert all(uid == uid.strip() for uid in uids)


# -- parts -------------------------------------------------------------------------------------

VALUES = st.recursive(
    st.one_of(
        st.none(), st.integers(-3, 3), st.floats(), st.text(max_size=2), st.binary(max_size=2)
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=2), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(VALUES, VALUES)
def test_frozen_values_are_equal_for_equal_ion_values_only(one: Any, other: Any) -> None:
    assert hash(freeze(one)) == hash(freeze(one))
    nan = "nan" in repr(freeze((one, other)))
    if not nan:
        assert (freeze(one) == freeze(other)) is (ion_hash_hex(one) == ion_hash_hex(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [(0.0, -0.0), (1, 1.0), (1, True), ("a", b"a"), (None, ""), ([], {}), (0.0, 0)],
)
def test_values_that_python_takes_as_equal_are_told_apart(one: Any, other: Any) -> None:
    assert freeze(one) != freeze(other)
    assert dumps(one) != dumps(other)


def test_nan_is_equal_to_itself() -> None:
    assert freeze(math.nan) == freeze(float("nan"))


def test_fields_stand_in_the_order_of_the_definitions() -> None:
    keys = ["_preamble", "PixelData", "PatientID", "00091001", "PatientName", "_deflated"]
    chance_of(1).shuffle(keys)
    struct = ordered(((key, None) for key in keys), DEFINITIONS)
    names = list(struct)
    assert names.index("PatientName") < names.index("PatientID") < names.index("PixelData")
    assert names[-2:] == ["_deflated", "_preamble"]


def test_groups_are_merged_with_what_is_own() -> None:
    assert ungroup([("1", {"A": 1}), ("2", {"B": 2})], {"C": 3}) == {"A": 1, "B": 2, "C": 3}


@pytest.mark.parametrize("groups", [[("1", {"A": 1}), ("2", {"A": 2})], [("1", {"C": 1})]])
def test_an_attribute_in_two_places_is_refused(groups: list[tuple[str, dict[str, Any]]]) -> None:
    with pytest.raises(RecordError) as raised:
        ungroup(groups, {"C": 3})
    assert raised.value.code == "record/ambiguous"
