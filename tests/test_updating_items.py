"""Changed attributes of items, and private ones (spec/edits.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import dicomstudy
from dicomstudy.errors import DicomStudyError
from dicomstudy.record import RAW
from fixtures import make
from tests import studies
from tests.editable import CT, archive_in, datasets, update


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return archive_in(tmp_path)


def test_items_are_changed(archive: Path) -> None:
    path = "ReferencedStudySequence[0].ReferencedSOPInstanceUID"
    update(archive, CT, set={"ReferencedStudySequence": [
        {"ReferencedSOPClassUID": "1.2.3", "ReferencedSOPInstanceUID": "1.2.4"}
    ]})  # fmt: skip
    update(archive, CT, set={path: "1.2.5", path.replace("Instance", "Class"): None})
    for _, after in datasets(archive, CT):
        (item,) = after.ReferencedStudySequence
        assert item.ReferencedSOPInstanceUID == "1.2.5"
        assert item["ReferencedSOPClassUID"].is_empty
        was = after.OriginalAttributesSequence[1].ModifiedAttributesSequence[0]
        assert was.ReferencedStudySequence[0].ReferencedSOPInstanceUID == "1.2.4"
    update(archive, CT, remove=[path])
    for _, after in datasets(archive, CT):
        assert "ReferencedSOPInstanceUID" not in after.ReferencedStudySequence[0]
        assert len(after.OriginalAttributesSequence) == 3


def test_an_item_with_repeated_elements_is_changed(archive: Path, tmp_path: Path) -> None:
    item = make.item(make.element(0x00080100, "SH", b"1 ") + make.element(0x00080100, "SH", b"2 "))
    file = make.ct_slice("repeats", 1, 1)
    end = file.index(b"\x10\x00\x10\x00PN")
    file = file[:end] + make.element(0x00089215, "SQ", item) + file[end:]
    dicomstudy.convert([studies.write_files(tmp_path / "in", [("a.dcm", file)])], archive)
    study = make.uid("repeats")
    update(archive, study, set={"DerivationCodeSequence[0].CodeMeaning": "ä"})
    ((_, after),) = datasets(archive, study)
    assert after.DerivationCodeSequence[0].CodeMeaning == "ä"
    assert after.DerivationCodeSequence[0].CodeValue == "2"


@pytest.mark.parametrize("items", [None, [], [{"CodeValue": "2"}]], ids=str)
def test_a_sequence_goes_with_the_bytes_that_its_items_had(
    items: list[dict[str, Any]] | None, archive: Path, tmp_path: Path
) -> None:
    """The bytes are those of padding, which no value says (spec/record.md)."""
    items_before = [make.item(make.element(0x00080104, "LO", raw)) for raw in (b"a\0", b"\0\0")]
    file = make.ct_slice("padded", 1, 1)
    end = file.index(b"\x10\x00\x10\x00PN")
    file = file[:end] + make.element(0x00089215, "SQ", b"".join(items_before)) + file[end:]
    dicomstudy.convert([studies.write_files(tmp_path / "in", [("a.dcm", file)])], archive)
    study = make.uid("padded")
    with dicomstudy.open_archive(archive)[study] as opened:
        (instance,) = opened.values()
        assert sum(key.startswith(RAW) for key in instance.attributes()) == 2
    key = "DerivationCodeSequence"
    update(archive, study, **({"remove": [key]} if items is None else {"set": {key: items}}))
    ((before, after),) = datasets(archive, study)
    assert (key in after) == (items is not None)
    assert [each.get("CodeValue") for each in after.get(key, ())] == ["2"] * len(items or ())
    (was,) = after.OriginalAttributesSequence[0].ModifiedAttributesSequence
    assert was[key].value == before[key].value
    assert dicomstudy.verify(archive).problems == []


def test_private_attributes_are_changed(archive: Path) -> None:
    update(archive, CT, set={"00790010": "EXAMPLE", "00791001:LO": "Grüße", "00791002:US": [1, 2],
                             "00791003:FD": 1.5})  # fmt: skip
    for _, after in datasets(archive, CT):
        block = after.private_block(0x0079, "EXAMPLE")
        assert not after.is_implicit_VR
        assert (block[1].VR, block[2].VR, block[3].VR) == ("LO", "US", "FD")
        assert (block[1].value, list(block[2].value), block[3].value) == ("Grüße", [1, 2], 1.5)


def test_what_a_private_attribute_was_is_said_with_its_creator(archive: Path) -> None:
    update(archive, CT, set={"00790010": "EXAMPLE", "00791001:LO": "a"})
    update(archive, CT, set={"00791001:LO": "b"})
    for _, after in datasets(archive, CT):
        (modified,) = after.OriginalAttributesSequence[-1].ModifiedAttributesSequence
        assert modified.private_block(0x0079, "EXAMPLE")[1].value == "a"
        assert len(modified) == 2


def test_a_private_creator_goes_only_with_what_it_is_of(archive: Path) -> None:
    update(archive, CT, set={"00790010": "EXAMPLE", "00791001:LO": "a"})
    before = studies.state_of(archive)
    with pytest.raises(DicomStudyError, match="00791001") as raised:
        update(archive, CT, remove=["00790010"])
    assert raised.value.code == "change/no-creator"
    assert studies.state_of(archive) == before
    update(archive, CT, remove=["00790010", "00791001"])
    assert all(0x00790010 not in after for _, after in datasets(archive, CT))


def test_a_private_attribute_of_an_item_needs_its_creator_there(archive: Path) -> None:
    update(archive, CT, set={"DerivationCodeSequence": [{"CodeValue": "1"}], "00790010": "EXAMPLE"})
    inside = "DerivationCodeSequence[0]."
    with pytest.raises(DicomStudyError) as raised:
        update(archive, CT, set={f"{inside}00791001:LO": "a"})
    assert raised.value.code == "change/no-creator"
    update(archive, CT, set={f"{inside}00790010": "EXAMPLE", f"{inside}00791001:LO": "a"})
    for _, after in datasets(archive, CT):
        item = after.DerivationCodeSequence[0]
        assert item.private_block(0x0079, "EXAMPLE")[1].value == "a"


def test_an_attribute_of_a_private_sequence_is_changed(tmp_path: Path) -> None:
    block = make.element(0x00790010, "LO", "EXAMPLE")
    one, other = (make.element(0x00791001, "LO", value) for value in ("one", "other"))
    items = make.item(block + one) + make.item(block + other)
    replace = {0x00790010: block, 0x00791002: make.element(0x00791002, "SQ", items)}
    files = [(f"{n}.dcm", make.ct_slice("ct", 1, n, replace=replace)) for n in range(1, 4)]
    studies.write_files(tmp_path / "in", files)
    dicomstudy.convert([tmp_path / "in"], tmp_path / "archive")
    update(tmp_path / "archive", CT, set={"00791002[1].00791001:LO": "new"},
           remove=["00791002[0].00790010", "00791002[0].00791001"])  # fmt: skip
    for _, after in datasets(tmp_path / "archive", CT):
        first, second = after[0x00791002].value
        assert len(first) == 0
        assert second.private_block(0x0079, "EXAMPLE")[1].value == "new"
    with pytest.raises(DicomStudyError) as raised:
        update(tmp_path / "archive", CT, set={"00791009[0].00791001:LO": "new"})
    assert raised.value.code == "change/no-item"


def test_an_item_without_attributes_is_one(archive: Path) -> None:
    update(archive, CT, set={"DerivationCodeSequence": [{}]})
    with pytest.raises(DicomStudyError) as raised:
        update(archive, CT, set={"DerivationCodeSequence[0].00791001:LO": "a"})
    assert raised.value.code == "change/no-creator"
    update(archive, CT, set={"DerivationCodeSequence[0].CodeValue": "1"})
    for _, after in datasets(archive, CT):
        assert after.DerivationCodeSequence[0].CodeValue == "1"


@pytest.mark.parametrize(
    "edits",
    [
        [{"remove": ["00790010", "00791001"]}, {"set": {"00791001:LO": "b"}}],
        [{"set": {"00790010": None}}],
        [{"set": {"PatientName": "A"}}, {"remove": ["00790010"]}],
        [{"set": {"00791002:LO": "b"}, "remove": ["00790010", "00791001"]}],
        [{"remove": ["00791001"]}, {"set": {"00790010": None, "00791002:LO": "b"}}],
    ],
)
def test_each_edit_is_of_what_those_before_it_leave(
    edits: list[dict[str, Any]], archive: Path
) -> None:
    update(archive, CT, set={"00790010": "EXAMPLE", "00791001:LO": "a"})
    before = studies.state_of(archive)
    with pytest.raises(DicomStudyError) as raised:
        dicomstudy.update(archive, CT, edits)
    assert raised.value.code == "change/no-creator"
    assert studies.state_of(archive) == before


def test_edits_may_need_what_those_before_them_set(archive: Path) -> None:
    edits: list[dict[str, Any]] = [
        {"set": {"00790010": "EXAMPLE"}},
        {"set": {"00791001:LO": "a"}},
        {"set": {"DerivationCodeSequence": [{"CodeValue": "1"}]}},
        {"set": {"DerivationCodeSequence[0].CodeMeaning": "Resampled"}},
    ]
    dicomstudy.update(archive, CT, edits)
    for _, after in datasets(archive, CT):
        assert after.private_block(0x0079, "EXAMPLE")[1].value == "a"
        assert after.DerivationCodeSequence[0].CodeMeaning == "Resampled"


def test_private_text_that_has_no_place_turns_nothing(tmp_path: Path) -> None:
    """Neither the character set of an instance that lacks the item, nor its other text."""
    block = make.element(0x00790010, "LO", "EXAMPLE")
    items = make.item(block + make.element(0x00791001, "LO", "one"))
    sequence = {0x00790010: block, 0x00791002: make.element(0x00791002, "SQ", items)}
    wrong = {0x00080005: b"", 0x00081030: make.element(0x00081030, "LO", b"K\xf6ln")}
    files = [
        ("1.dcm", make.ct_slice("ct", 1, 1, replace=sequence)),
        ("2.dcm", make.ct_slice("ct", 1, 2, replace=wrong)),
    ]
    studies.write_files(tmp_path / "in", files)
    dicomstudy.convert([tmp_path / "in"], tmp_path / "archive")
    update(tmp_path / "archive", CT, set={"00791002[0].00791001:LO": "Šárka", "StudyID": "2"})
    dicomstudy.restore(tmp_path / "archive", tmp_path / "out")
    written = [path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert sum("Šárka".encode() in data for data in written) == 1
    assert sum(b"K\xf6ln" in data and b"ISO_IR 192" not in data for data in written) == 1
