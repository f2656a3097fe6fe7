"""Which versions make up a version, and which instances it has (spec/history.md)."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomstudy import lineage
from dicomstudy.document import is_named
from dicomstudy.errors import StudyError
from dicomstudy.lineage import Brought, History, Version, moment
from dicomstudy.paths import ORIGINALS, parse_path

WHEN = "2026-11-24T21:30:00Z"


def history(*tos: int | None) -> History:
    """Versions 1, 2, …, each going back to a number or to none."""
    return History(
        tuple(Version(number, WHEN, "update", to=to) for number, to in enumerate(tos, 1))
    )


@st.composite
def histories(draw: st.DrawFn) -> History:
    count = draw(st.integers(1, 9))
    backs = [None, *(draw(st.none() | st.integers(1, number)) for number in range(2, count + 1))]
    return history(*(None if to == number else to for number, to in enumerate(backs, 1)))


@pytest.mark.parametrize(
    ("tos", "lineage"),
    [
        ([None], {1}),
        ([None, None, None], {1, 2, 3}),
        ([None, None, 1], {1}),
        ([None, None, 1, None], {1, 4}),
        ([None, None, 1, None, 2], {1, 2}),
        ([None, None, 1, None, 3, None], {1, 6}),
        ([None, None, 1, 2], {1, 2}),
    ],
)
def test_the_lineage_of_a_version(tos: list[int | None], lineage: set[int]) -> None:
    versions = history(*tos)
    assert versions.lineage(versions.current) == lineage


@given(histories())
def test_going_back_gives_the_lineage_of_that_version(versions: History) -> None:
    for number in range(1, versions.current + 1):
        after = versions.then("revert", to=number)
        assert after.lineage(after.current) == versions.lineage(number)
        assert 1 in versions.lineage(number)


@given(histories(), st.text(max_size=3))
def test_a_document_gives_its_history_again(versions: History, command: str) -> None:
    versions = versions.then(
        command,
        added=2,
        groups=("patient",),
        edits=({"set": {"A[0].B": [{"C": 1}]}, "remove": ["D"]},),
        from_study="1.2",
        to_study="1.3",
        brought=(
            Brought.of(
                [(WHEN, ({"set": {"A": 1}},)), ("2026-11-25T00:00:00Z", ({"remove": ["A"]},))],
                "1.4",
            ),
            Brought.of([("2026-11-25T00:00:00Z", ())], None, frozenset(("1.5#ab", "1.6#cd"))),
            Brought.of([]),
        ),
    )
    assert History.from_struct(versions.to_struct()) == versions


@pytest.mark.parametrize(
    ("events", "since"),
    [
        ([], {1: 1, 2: 1, 3: 1, 4: 1}),
        ([2], {1: None, 2: 2, 3: 2, 4: None}),
        ([-2], {1: 1, 2: None, 3: None, 4: 1}),
        ([-2, 3], {1: 1, 2: None, 3: 3, 4: 1}),
        ([4], {1: None, 2: None, 3: None, 4: 4}),
    ],
)
def test_whether_an_instance_is_there(events: list[int], since: dict[int, int | None]) -> None:
    """Versions 1, 2 and 3 follow one another, 4 follows 1 (as 5, which went back to 1)."""
    versions = History(
        (Version(1, "", ""), Version(2, "", ""), Version(3, "", ""), Version(4, "", "", to=1))
    )
    lineages = {**{n: versions.lineage(n) for n in (1, 2, 3)}, 4: frozenset({1, 4})}
    assert {n: versions.since(events, lineage) for n, lineage in lineages.items()} == since


def test_edits_hold_for_what_was_there_before_them() -> None:
    first, second = {"set": {"a": 1}}, {"set": {"a": 2}}
    versions = History(
        (
            Version(1, "", ""),
            Version(2, "", "", edits=(first,)),
            Version(3, "", "", edits=(second,)),
        )
    )
    assert [edit for _, edit in versions.edits(1, "1.2", "1.3")] == [first, second]
    assert [edit for _, edit in versions.edits(2, "1.2", "1.3")] == [second]
    assert versions.then("revert", to=1).edits(1, "1.2", "1.3") == []


SERIES, NAMES = ["a", "b"], ["x", "x#", "x#0", "x#1", "y", "y#01", "#0", ""]


@given(
    st.lists(
        st.fixed_dictionaries(
            {}, optional={"series": st.sampled_from(SERIES), "instance": st.sampled_from(NAMES)}
        )
    ),
    st.sampled_from(SERIES),
    st.sampled_from(["x", "y", "x#0", "z", ""]),
    st.sampled_from(["01", "10"]),
)
def test_edits_of_an_instance_are_found_by_what_they_mean(
    edits: list[dict[str, str]], series: str, uid: str, digest: str
) -> None:
    """Those that are found may be for another one of its UID; all that are for it are found."""
    versions = History(
        (
            Version(1, "", ""),
            *(Version(number, WHEN, "", edits=(edit,)) for number, edit in enumerate(edits, 2)),
        )
    )
    found = [
        version.number
        for version, edit in versions.edits(1, series, uid)
        if is_named(edit.get("instance", uid), uid, digest)
    ]
    assert found == [
        number
        for number, edit in enumerate(edits, 2)
        if edit.get("series", series) == series and is_named(edit.get("instance", uid), uid, digest)
    ]


def test_what_was_brought_holds_for_those_that_came_with_it() -> None:
    """The first that is meant for an instance counts."""
    a, b, c = ({"set": {"A": value}} for value in "abc")
    came = Version(
        2,
        "",
        "move",
        brought=(
            Brought.of([("", (a,))], "1.2", frozenset(("x#1",))),
            Brought.of([("", (b,)), ("", (b,))], "1.2"),
            Brought.of([("", (c,))]),
        ),
    )
    versions = History((Version(1, "", ""), came, Version(3, "", "")))
    assert versions.has_edits
    assert [edit for _, edit in versions.brought(2, "1.2", "x#1")] == [a]
    assert [edit for _, edit in versions.brought(2, "1.2", "x#2")] == [b, b]
    assert [edit for _, edit in versions.brought(2, "1.3", "x#1")] == [c]
    assert [version.number for version, _ in versions.brought(2, "1.2", "x#2")] == [-1, 0]
    for other in (1, 3, 4, 0):
        assert versions.brought(other, "1.2", "x#1") == []
    assert [versions.arrival(events) for events in ([], [-2], [2, -3], [-1, 2, 3, -3])] == [
        *(1, 1, 2, 3)
    ]
    assert History((Version(1, "", ""),)).is_plain
    assert not History((came._replace(number=1),)).is_plain
    assert not versions.is_plain


def test_paths_that_come_again_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each move to and fro brings the edits of all before."""
    looked_at = mock.Mock(side_effect=parse_path)
    monkeypatch.setattr(lineage, "parse_path", looked_at)
    edit = {"set": {"ComesAgain": 1, "ComesAgain[0].Inside": 1}, "remove": ["GoesAgain"]}
    moves = [
        Version(number, WHEN, "move", brought=(Brought.of([(WHEN, (edit,))] * number),))
        for number in range(1, 20)
    ]
    assert History.from_struct(History(tuple(moves)).to_struct()) == History(tuple(moves))
    assert looked_at.call_count <= 3


@pytest.mark.parametrize(
    "brought",
    [
        *(5, [5], [{}], [{"versions": 5}], [{"versions": [5]}], [{"versions": [{"when": WHEN}]}]),
        *(
            [{"versions": [{"when": 1, "edits": []}]}],
            [{"versions": [{"when": WHEN, "edits": [5]}]}],
        ),
        *([{"versions": [], "series": 5}], [{"versions": [], "instances": "x"}]),
        [{"versions": [], "instances": [5]}],
    ],
)
def test_damage_in_what_was_brought_is_refused(brought: object) -> None:
    version = {"version": 1, "when": WHEN, "command": "", "brought": brought}
    with pytest.raises(StudyError) as raised:
        History.from_struct({"versions": [version]})
    assert raised.value.code == "study/damaged"


@pytest.mark.parametrize(
    "struct",
    [
        {},
        {"versions": []},
        {"versions": [5]},
        {"versions": [{"version": 1, "when": WHEN}]},
        {"versions": [{"version": 0, "when": WHEN, "command": ""}]},
        {"versions": [{"version": 1, "when": WHEN, "command": "", "to": 1}]},
        {"versions": [{"version": 1, "when": WHEN, "command": "", "to": 0}]},
        {"versions": [{"version": 1, "when": WHEN, "command": "", "edits": [5]}]},
        {"versions": [{"version": 1, "when": WHEN, "command": "", "groups": 5}]},
        {"versions": [{"version": 1, "when": WHEN, "command": "", "toStudy": 5}]},
        {"versions": [{"version": n, "when": WHEN, "command": ""} for n in (1, 3)]},
        {"versions": [{"version": 4, "when": WHEN, "command": ""},
                      {"version": 5, "when": WHEN, "command": "", "to": 3}]},
    ],
)  # fmt: skip
def test_a_damaged_history_is_refused(struct: dict[str, Any]) -> None:
    with pytest.raises(StudyError) as raised:
        History.from_struct(struct)
    assert raised.value.code == "study/damaged"


def test_who_left_says_in_which_version() -> None:
    first = Version(1, "", "convert")
    out, back = (
        Version(2, "", "merge", removed=1, to_study="1.2"),
        Version(3, "", "convert", added=1),
    )
    history = History((first, out, back))
    assert history.left((-2, 3)) is None
    assert history.left(()) is None
    assert history.left((-2,)) == out
    assert History((first, out, back, Version(4, "", "revert", to=2))).left((-2, 3)) == out
    assert History((first, out, Version(3, "", "revert", to=1))).left((-2,)) is None


@pytest.mark.parametrize(
    "when",
    [
        *("", "yesterday", "2026-11-24", "2026-11-24T21:30:00", "2026-11-24T21:30:00.5Z"),
        *(
            "2026-11-24T21:30:00+01:00",
            "2026-02-31T21:30:00Z",
            "0001-01-01T00:00:00",
            5,
            None,
            [],
            {},
        ),
    ],
)
def test_a_version_has_a_time_as_files_are_to_have_it(when: object) -> None:
    version = {"version": 1, "when": WHEN, "command": ""}
    brought = {"versions": [{"when": when, "edits": []}]}
    for damaged in ({**version, "when": when}, {**version, "brought": [brought]}):
        with pytest.raises(StudyError) as raised:
            History.from_struct({"versions": [damaged]})
        assert raised.value.code == "study/damaged"


def test_moments() -> None:
    assert moment(0) == "1970-01-01T00:00:00Z"
    assert moment() > "2026"


NO_VALUES: list[object] = [
    *({}, {"foo": 1}, {"length": "x"}, {"length": 5}, {"length": 1 << 63, "sha256": "x"}),
    *({"length": -1, "sha256": "x"}, {"length": 5, "sha256": 5}, {"length": 5, "dataOffset": "x"}),
    *(datetime(2026, 11, 24, tzinfo=UTC), Decimal("1.5")),
]
DAMAGED_EDITS: list[object] = [
    *(5, {"set": 5}, {"set": {"": 1}}, {"set": {"A": [5]}}, {"set": {"A": [{"B": [5]}]}}),
    *({"remove": 5}, {"remove": [5]}, {"remove": ["A["]}, {"vrs": []}, {"vrs": {"A": 5}}),
    *({"series": 5}, {"instance": []}),
    *({"set": {"Rows": value}} for value in NO_VALUES),
    *({"set": {"A": [{"Rows": value}]}} for value in NO_VALUES),
    *({"set": {f"{ORIGINALS}[0].ModifyingSystem": "x"}}, {"remove": [ORIGINALS]}),
    *({"set": {"A": [{"": 5}]}}, {"set": {"A": [{"_vrs": {"B": 5}}]}}),
]


@pytest.mark.parametrize("edit", DAMAGED_EDITS)
def test_a_damaged_edit_is_refused(edit: object) -> None:
    version = {"version": 1, "when": WHEN, "command": "", "edits": [edit]}
    with pytest.raises(StudyError) as raised:
        History.from_struct({"versions": [version]})
    assert raised.value.code == "study/damaged"


def test_an_edit_may_set_what_attributes_have() -> None:
    reference = {"length": 5, "sha256": "x"}
    values: list[object] = [None, 5, 1.5, "x", b"x", reference, {"length": 5, "dataOffset": 5}, []]
    values.append([{"A": value, "_vrs": {"00091001": "LO"}} for value in values])
    edits = [{"set": {"A": value}} for value in values]
    version = {"version": 1, "when": WHEN, "command": "", "edits": edits}
    assert History.from_struct({"versions": [version]}).versions[0].edits == tuple(edits)


@pytest.mark.parametrize("fields", [{"to": True}, {"added": -1}, {"groups": [5]}])
def test_a_history_that_could_not_be_read_again_is_not_made(fields: dict[str, Any]) -> None:
    with pytest.raises(StudyError):
        history(None).then("update", **fields)
