"""References say where instances are, and nothing else of them changes (spec/moving.md)."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomstudy.moving.referring import Referrer, Relocation

Items = list[dict[str, Any]]
#: A reference: study, series and instance.
Place = tuple[str | None, str | None, str]

STUDIES, SERIES, UIDS = ("1.1", "1.2", "1.3"), ("2.1", "2.2", "2.3"), ("3.1", "3.2", "3.3", "3.4")
EVIDENCE = "CurrentRequestedProcedureEvidenceSequence"


def leaf(uid: str) -> dict[str, Any]:
    return {"ReferencedSOPClassUID": "1.2", "ReferencedSOPInstanceUID": uid}


@st.composite
def evidences(draw: st.DrawFn) -> Items:
    """Items of studies, series and instances, some with something more."""
    more = st.sampled_from(
        [{}, {}, {"RetrieveAETitle": "A"}, {"CodeSequence": [{"CodeValue": "1"}]}]
    )
    uids = st.lists(st.sampled_from(UIDS), min_size=1, max_size=3, unique=True)
    series = st.builds(
        lambda series, uids, more: {
            "ReferencedSOPSequence": list(map(leaf, uids)),
            "SeriesInstanceUID": series,
            **more,
        },
        *(st.sampled_from(SERIES), uids, more),
    )
    studies = st.builds(
        lambda study, below, more: {
            "ReferencedSeriesSequence": below,
            "StudyInstanceUID": study,
            **more,
        },
        *(st.sampled_from(STUDIES), st.lists(series, min_size=1, max_size=3), more),
    )
    return draw(st.lists(studies, max_size=3))


@st.composite
def relocations(draw: st.DrawFn) -> Relocation:
    """From the first study to another, or within it."""
    target = draw(st.sampled_from(STUDIES))
    going: dict[tuple[str, str], str] = {}
    series: dict[str, str] = {}
    for name in draw(st.sets(st.sampled_from(SERIES), min_size=1)):
        to = draw(st.sampled_from((*SERIES, "2.9")) if target == STUDIES[0] else st.just("2.8"))
        if draw(st.booleans()):
            series[name] = to
        going |= {(name, uid): to for uid in draw(st.sets(st.sampled_from(UIDS), min_size=1))}
    return Relocation(STUDIES[0], target, going, series, whole=False)


def places(items: Items) -> Iterator[Place]:
    for study in items:
        for series in study.get("ReferencedSeriesSequence", []):
            for image in series["ReferencedSOPSequence"]:
                yield (
                    study["StudyInstanceUID"],
                    series["SeriesInstanceUID"],
                    image["ReferencedSOPInstanceUID"],
                )


def now(relocation: Relocation, place: Place) -> Place:
    study, series, uid = place
    if study != relocation.source:
        return place
    to = relocation.instances.get((series or "", uid), relocation.series.get(series or ""))
    return place if to is None else (relocation.target, to, uid)


def followed(items: Items, relocation: Relocation, *, within: bool = False) -> Items:
    """The items then; `within` an item that refers to nothing itself."""
    value: Items = (
        [{"ContentSequence": [{EVIDENCE: items, "ValueType": "TEXT"}]}] if within else items
    )
    own: dict[str, Items] = {"ContentSequence" if within else EVIDENCE: value}
    before = copy.deepcopy(own)
    changes = Referrer(relocation).followed((), own, "1.9")
    assert own == before
    after: Items
    (after,) = (changes or own).values()
    return after[0]["ContentSequence"][0][EVIDENCE] if within else after


@given(evidences(), relocations(), st.booleans())
def test_every_reference_leads_to_where_the_instance_is(
    items: Items, relocation: Relocation, within: bool
) -> None:
    after = followed(items, relocation, within=within)
    expected = {now(relocation, place) for place in places(items)}
    assert set(places(after)) == expected
    if all(now(relocation, place) == place for place in places(items)):
        assert after == items
    for key in ("RetrieveAETitle", "CodeSequence"):
        said = [
            {str(item.get(key)) for study in some for item in (study, *below(study))}
            for some in (items, after)
        ]
        assert said[0] == said[1]


def below(study: dict[str, Any]) -> Items:
    found: Items = study["ReferencedSeriesSequence"]
    return found


@given(evidences(), relocations())
def test_what_was_followed_is_not_followed_again(items: Items, relocation: Relocation) -> None:
    if relocation.source != relocation.target:
        after = followed(items, relocation)
        assert followed(after, relocation) == after


@given(evidences(), relocations())
def test_equal_groups_are_looked_at_once(items: Items, relocation: Relocation) -> None:
    referrer, content = Referrer(relocation), {EVIDENCE: items}
    first = referrer.followed([("digest", "group", content)], {}, "1.9")
    assert referrer.followed([("digest", "group", content)], {}, "1.9") == first
    assert referrer.followed((), content, "1.9") == first


@pytest.mark.parametrize("key", ["OriginalAttributesSequence"])
def test_what_was_stays_what_it_was(key: str) -> None:
    items = [{"StudyInstanceUID": "1.1"}]
    everything = Relocation("1.1", "1.2", {}, {}, whole=True)
    assert Referrer(everything).followed((), {key: items, "Other": "1.1"}, "1.1") == {}
    changes = Referrer(everything).followed((), {"RequestAttributesSequence": items}, "1.1")
    assert changes == {"RequestAttributesSequence": [{"StudyInstanceUID": "1.2"}]}


def test_padding_and_other_values_are_no_matter() -> None:
    series = {
        "SeriesInstanceUID": "2.1 ",
        "ReferencedSOPSequence": [leaf("3.1\0"), {}, leaf("3.2")],
    }
    odd: Items = [{"StudyInstanceUID": 5}, {"SeriesInstanceUID": None, "ReferencedSOPSequence": []}]
    items = [{"StudyInstanceUID": "1.1\0", "ReferencedSeriesSequence": [series]}, *odd]
    relocation = Relocation("1.1", "1.2", {("2.1", "3.1"): "2.2"}, {}, whole=False)
    assert followed(items, relocation) == [
        {
            "StudyInstanceUID": "1.2",
            "ReferencedSeriesSequence": [
                {"SeriesInstanceUID": "2.2", "ReferencedSOPSequence": [leaf("3.1\0"), {}]}
            ],
        },
        {
            "StudyInstanceUID": "1.1\0",
            "ReferencedSeriesSequence": [
                {"SeriesInstanceUID": "2.1 ", "ReferencedSOPSequence": [{}, leaf("3.2")]}
            ],
        },
        *odd,
    ]
