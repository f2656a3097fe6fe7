"""Whatever is edited in whatever file: what is written is read as the edits say (spec/edits.md)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import lru_cache
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomstudy.amendment import Amender
from dicomstudy.assignment import PROTECTED
from dicomstudy.following import Follower, differing
from dicomstudy.grouping import ENCODING, freeze, ungroup
from dicomstudy.ion import ion_hash_hex
from dicomstudy.layout import format_tokens, parse
from dicomstudy.lineage import Version
from dicomstudy.paths import ORIGINALS, parse_path
from dicomstudy.record import DEFLATED, is_reference
from tests import real_files
from tests.real_files import DEFINITIONS, ENCODER, Decoded
from tests.samples import fixture_files

VERSION = Version(2, "2026-01-31T10:11:12Z", "update")
UIDS = {"StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"}
TEXTS = ["PatientName", "PatientID", "StudyDescription", "PatientComments", "InstitutionName"]


@lru_cache(maxsize=1)
def files() -> list[Decoded]:
    """The files of the fixtures that are instances, and written without being deflated.

    Not those with items that cannot be told apart, the one that nests as deep as it is
    followed, and the one of both explicit and implicit elements: what was before an edit stands
    in an item, all of it, and two levels deeper.
    """
    left_out = {"nested-defined.dcm", "one-implicit.dcm"}
    found = [
        Decoded(name, data)
        for name, data in sorted(fixture_files().items())
        if name not in left_out
    ]
    return [file for file in found if is_plain_instance(file) and not has_bytes_for_items(file)]


def has_bytes_for_items(file: Decoded) -> bool:
    return any(
        isinstance(value, bytes) and DEFINITIONS.vr(DEFINITIONS.tag(key)) == "SQ"
        for key, value in file.attributes.items()
        if key[0] != "_" and "#" not in key
    )


def is_plain_instance(file: Decoded) -> bool:
    return file.attributes.keys() >= UIDS and DEFLATED not in file.attributes


def amended(file: Decoded, edits: list[dict[str, Any]]) -> Decoded | None:
    """The file after edits of one version, read again; None if they change nothing."""
    groups = [(ion_hash_hex(file.encoding), ENCODING, file.encoding)]
    result = Amender(DEFINITIONS).amended(
        groups, file.attributes, [(VERSION, edit) for edit in edits], file.resolve
    )
    if result is None:
        return None
    attributes = dict(result.own)
    encoding = {}
    for _, name, content in result.groups:
        if name == ENCODING:
            encoding = content
        else:
            attributes |= content
    segments = ENCODER.write(attributes, encoding, file.resolve)
    data = b"".join(s if isinstance(s, bytes) else file.resolve(s) for s in segments)
    again = Decoded(file.name, data)
    assert again.encoding == encoding, file.name
    left = differing(again.attributes, attributes)
    # text that was large is decoded where it is written anew, and large again where it is read
    for key in left:
        assert is_reference(again.attributes[key]), (file.name, key)
        assert len(attributes[key].encode()) > 256
    return again


@st.composite
def edits(draw: st.DrawFn, keys: list[str]) -> dict[str, Any]:
    text = st.text(st.characters(codec="utf-8", categories=["L", "N", "Zs"]), max_size=12)
    texts = st.none() | text.map(lambda value: value.strip(" \0") or None)
    given_ = draw(st.dictionaries(st.sampled_from(TEXTS), texts, max_size=3))
    removed = draw(st.lists(st.sampled_from(keys), max_size=3)) if keys else []
    return {"set": given_, "remove": [key for key in removed if key not in given_]}


def editable(file: Decoded) -> list[str]:
    """The keys of what an edit may remove."""
    kept = {"SpecificCharacterSet", *PROTECTED}
    return [
        key for key in file.attributes
        if key[0] != "_" and "#" not in key and key not in kept
        and DEFINITIONS.tag(key) >> 16 not in {0, 2} and DEFINITIONS.tag(key) & 0xFFFF
    ]  # fmt: skip


@given(st.data())
def test_what_is_written_is_read_as_the_edits_say(data: st.DataObject) -> None:
    file = data.draw(st.sampled_from(files()))
    edit = data.draw(edits(editable(file)))
    again = amended(file, [edit])
    if again is None:
        for key, value in edit["set"].items():
            assert file.attributes.get(key) == value
        assert not edit["remove"]
        return
    (modified,) = again.attributes[ORIGINALS][-1]["ModifiedAttributesSequence"]
    for key, value in edit["set"].items():
        assert again.attributes[key] == value
    for key in edit["remove"]:
        assert key not in again.attributes
    for key, value in modified.items():
        assert freeze(value) == freeze(file.attributes.get(key)), key


@st.composite
def versions(draw: st.DrawFn, keys: list[str]) -> list[tuple[Version, dict[str, Any]]]:
    """Edits of some versions, which set again what went, in items and private ones too."""
    study = {"ReferencedSOPInstanceUID": "1.2"}
    others: dict[str, Any] = {
        "ReferencedStudySequence": [study, {**study, "StudyDescription": "é"}],
        "ReferencedStudySequence[0].ReferencedSOPInstanceUID": "1.3",
        "ReferencedStudySequence[1].StudyDescription": "山",
        "00790010": "EXAMPLE",
        "00791001": "ü",
    }
    result = []
    for number in range(2, draw(st.integers(3, 7))):
        version = VERSION._replace(number=number)
        edit = draw(edits([*keys, "ReferencedStudySequence", "00790010", "00791001"]))
        for path in draw(st.lists(st.sampled_from([*others]), max_size=2, unique=True)):
            edit["set"][path] = others[path]
            edit["remove"] = [key for key in edit["remove"] if key != path]
        result.append((version, {**edit, "vrs": {"00791001": draw(st.sampled_from(["LO", "UT"]))}}))
    return result


def replayed(
    amender: Amender, file: Decoded, steps: list[list[tuple[Version, dict[str, Any]]]]
) -> tuple[object, ...]:
    """What a file becomes by edits, some after others: its attributes, and its encoding."""
    groups, own = [(ion_hash_hex(file.encoding), ENCODING, file.encoding)], file.attributes
    for step in steps:
        result = amender.amended(groups, own, step, file.resolve)
        if result is not None:
            groups, own = result
    contents = {name: content for _, name, content in groups}  # whichever they are in
    encoding = contents.pop(ENCODING)
    return freeze(ungroup([("", content) for content in contents.values()], own)), freeze(encoding)


AMENDER = Amender(DEFINITIONS)


@given(st.data())
def test_edits_of_several_versions_are_those_of_one_after_another(data: st.DataObject) -> None:
    """What a version left is followed by the next one as if it had been read anew."""
    file = data.draw(st.sampled_from(files()))
    changes = data.draw(versions(editable(file)))
    each = [[change] for change in changes]
    assert replayed(AMENDER, file, [changes]) == replayed(Amender(DEFINITIONS), file, each)


def test_a_version_costs_the_same_however_many_are_before() -> None:
    """Though Original Attributes Sequence has an item of each."""
    few, more, most = map(calls_of_versions, (20, 40, 80))
    assert most - more < 2.2 * (more - few)


def calls_of_versions(count: int) -> int:
    """How many functions are called to correct a name so many times."""
    changes = [
        (VERSION._replace(number=number), {"set": {"PatientName": f"A^{number}"}})
        for number in range(2, 2 + count)
    ]
    return calls_of(lambda: replayed(Amender(DEFINITIONS), files()[0], [changes]))


def calls_of(action: Callable[[], object]) -> int:
    """How many functions of Python an action calls."""
    calls = 0

    def count(_: FrameType, event: str, __: object) -> None:
        nonlocal calls
        calls += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        action()
    finally:
        sys.setprofile(before)
    return calls


@pytest.mark.parametrize("text", ["Smith", "Müller", "山田"])
def test_files_that_pydicom_brings(text: str) -> None:
    for file in real_files.own_files():
        if is_plain_instance(file):
            again = amended(file, [{"set": {"PatientName": text}, "remove": ["Manufacturer"]}])
            assert again is not None
            assert again.attributes["PatientName"] == text
            assert "Manufacturer" not in again.attributes


@pytest.mark.parametrize(
    ("path", "steps"),
    [
        ("PatientName", [("PatientName", None)]),
        ("00091001", [("00091001", None)]),
        ("A[0].B[12].C", [("A", 0), ("B", 12), ("C", None)]),
        *((bad, []) for bad in ("", "A[0]", "A[0].", "A[-1].B", "A[x].B", "A.B", "[0].A", "A B",
                                "A[0]B", "A[0].B[", "_raw.00100010", "A#1", "A[1234567].B")),
    ],
)  # fmt: skip
def test_paths(path: str, steps: list[tuple[str, int | None]]) -> None:
    assert parse_path(path) == steps


def test_layouts_are_formatted_as_they_are_parsed() -> None:
    for file in files():
        for part in ("meta", "dataSet"):
            assert format_tokens(parse(file.encoding[part])) == file.encoding[part]


@pytest.mark.parametrize(
    ("layout", "before", "after", "expected"),
    [
        ("00100010PN", {"PatientName": "a"}, {"PatientName": "b"}, "00100010PN"),
        ("00100010PN^", {"PatientName": "a"}, {"PatientName": "b"}, "00100010PN"),
        ("00100010PN:9", {"PatientName": "a"}, {"PatientName": "b"}, "00100010PN"),
        ("00100010PN:9", {"PatientName": "a"}, {"PatientName": "a"}, "00100010PN"),
        ("00100010PN~", {"PatientName": "a"}, {"PatientName": "b"}, "00100010PN"),
        ("00100010", {"PatientName": "a"}, {"PatientName": "a", "PatientID": "c"},
         "00100010 00100020"),
        ("00100000UL= 00100010PN 00200010SH", {"PatientName": "a", "StudyID": "1"},
         {"StudyID": "1"}, "00200010SH"),
        ("00100000UL 00100010PN", {"00100000": 4, "PatientName": "a"},
         {"00100000": 4, "PatientName": "b"}, "00100000UL= 00100010PN"),
        ("00081110SQ<{00081150UI}>", {"ReferencedStudySequence": [{"ReferencedSOPClassUID": "1"}]},
         {"ReferencedStudySequence": [{"ReferencedSOPClassUID": "2"}, {"StudyID": "3"}]},
         "00081110SQ<{00081150UI}[00200010SH]>"),
        ("00081110SQ", {"ReferencedStudySequence": None}, {"ReferencedStudySequence": [{}]},
         "00081110SQ([])"),
        ("00100010PN", {"PatientName": "a"}, {"PatientName": "a", "SmallestImagePixelValue": b"ab",
          "PixelRepresentation": 1}, "00100010PN 00280103US 00280106SS"),
    ],
)  # fmt: skip
def test_a_layout_follows(
    layout: str, before: dict[str, Any], after: dict[str, Any], expected: str
) -> None:
    encoding = {"preamble": True, "byteOrder": "little", "meta": "", "dataSet": layout}
    follower = Follower(DEFINITIONS)
    for _ in range(2):  # the second time it is remembered
        followed, _ = follower.followed(follower.layouts(encoding), before, after, {})
        assert followed.texts == {"meta": "", "dataSet": expected}
