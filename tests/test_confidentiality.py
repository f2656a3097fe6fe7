"""What becomes of each attribute is what Table E.1-1 says: spec/deidentification.md."""

from __future__ import annotations

import hashlib
import hmac
import json
import zipfile
from base64 import b32encode
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID

from dicomstudy import definitions
from dicomstudy.deidentification import confidentiality
from dicomstudy.deidentification.confidentiality import Action, Policy, policy
from dicomstudy.deidentification.pseudonyms import Pseudonyms
from dicomstudy.deidentification.safe_private import declared_safe
from dicomstudy.errors import DefinitionsError, DicomStudyError
from tests import make_profile

FOLDER = Path(__file__).parents[1] / "formats" / "confidentiality"
TABLE: dict[str, Any] = json.loads((FOLDER / "2024c.json").read_bytes())
D = definitions.load()
OPTIONS = [option["name"] for option in TABLE["options"]]
TAG = D.tag
#: The action that is allowed whatever the type of the attribute is.
ALLOWED = {
    "X": Action.REMOVE,
    "Z": Action.EMPTY,
    "D": Action.DUMMY,
    "U": Action.UID,
    "X/Z": Action.EMPTY,
    "X/D": Action.DUMMY,
    "Z/D": Action.DUMMY,
    "X/Z/D": Action.DUMMY,
    "X/Z/U*": Action.ITEMS,
}


def basic(*options: str) -> Policy:
    return policy("basic", options, D)


def tags(row: list[Any]) -> list[int]:
    """Tags that a row is about: of a repeating group the first and another one."""
    if row[0] == "private":
        return [0x00091001, 0x00110010, 0x7FE11234]
    return [int(row[0].replace("x", digit), 16) for digit in ("0", "2")]


def belongs(row: list[Any]) -> bool:
    return row[0] == "private" or int(row[0][:4].replace("x", "0"), 16) not in {0, 4}


# The table


def test_table_is_made_again_byte_for_byte(shared: Path) -> None:
    source = shared / "standard" / "confidentiality_profile_attributes.json"
    made = make_profile.table(json.loads(source.read_bytes()))
    assert (FOLDER / "2024c.json").read_text("utf-8") == made
    assert (FOLDER / "manifest.json").read_text("utf-8") == make_profile.manifest(made.encode())


def test_manifest_names_the_table_as_it_is() -> None:
    manifest = json.loads((FOLDER / "manifest.json").read_bytes())
    assert set(manifest["files"]) == {p.name for p in FOLDER.iterdir()} - {"manifest.json"}
    for name, row in manifest["files"].items():
        data = (FOLDER / name).read_bytes()
        assert row == {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}


def test_a_table_that_was_changed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "confidentiality"
    copy.mkdir()
    monkeypatch.setattr(definitions, "_base", lambda: tmp_path)
    with pytest.raises(DefinitionsError) as missing:
        definitions.files("confidentiality")
    assert missing.value.code == "definitions/missing"
    (copy / "manifest.json").write_bytes((FOLDER / "manifest.json").read_bytes())
    table = (FOLDER / "2024c.json").read_bytes()
    (copy / "2024c.json").write_bytes(table.replace(b'"X"', b'"K"', 1))
    with pytest.raises(DefinitionsError) as changed:
        definitions.files("confidentiality")
    assert changed.value.code == "definitions/damaged"
    (copy / "manifest.json").write_text("[]")
    with pytest.raises(DefinitionsError) as no_manifest:
        definitions.files("confidentiality")
    assert no_manifest.value.code == "definitions/damaged"


def test_the_table_is_read_from_a_zipped_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "package.zip", "w") as package:
        for path in FOLDER.iterdir():
            package.write(path, f"_formats/confidentiality/{path.name}")
    with zipfile.ZipFile(tmp_path / "package.zip") as package:
        monkeypatch.setattr(definitions, "_base", lambda: zipfile.Path(package, "_formats/"))
        files = definitions.files("confidentiality")
    assert files == {"2024c.json": (FOLDER / "2024c.json").read_bytes()}


def test_every_row_but_those_of_repeating_groups_is_in_the_dictionary() -> None:
    for tag, *_ in TABLE["attributes"]:
        if "x" not in tag and tag != "private":
            assert D.attribute(int(tag, 16)) is not None, tag


def test_codes_are_those_of_cid_7050() -> None:
    codes = [TABLE["profile"]["code"], *(option["code"] for option in TABLE["options"])]
    assert codes == ["113100", *map(str, range(113103, 113113))]
    chosen = basic("retain-uids", "clean-descriptors").codes
    assert [code.code for code in chosen] == ["113100", "113105", "113110"]


# What a policy says


@pytest.mark.parametrize("row", TABLE["attributes"], ids=lambda row: f"{row[0]} {row[3]}")
def test_the_profile_does_what_every_type_allows(row: list[Any]) -> None:
    expected = ALLOWED[row[1]] if belongs(row) else Action.REMOVE
    for tag in tags(row):
        if expected is Action.DUMMY and D.vr(tag) == "UI":
            expected = Action.UID  # there is no dummy that says less
        assert basic().action(tag) is expected


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_changes_its_column_only(option: str) -> None:
    chosen, plain = basic(option), basic()
    for row in TABLE["attributes"]:
        letter = row[2].get(option) if belongs(row) else None
        for tag in tags(row):
            if letter is None:
                assert chosen.action(tag) is plain.action(tag), row
            elif letter == "K":
                assert chosen.action(tag) is Action.KEEP, row
            elif option == "retain-longitudinal-modified-dates":
                assert chosen.action(tag) is Action.SHIFT, row
            elif row[0][:4] in {"50xx", "60xx"} or D.vr(tag) in {"AE", "OB"}:
                assert chosen.action(tag) is plain.action(tag), row  # nobody can clean them
            else:
                assert chosen.action(tag) is Action.CLEAN, row


def test_of_several_options_what_keeps_goes_first() -> None:
    allergies, size = TAG("Allergies"), TAG("PatientSize")
    both = basic("clean-descriptors", "retain-patient-characteristics")
    assert both.action(allergies) is Action.CLEAN
    assert both.action(size) is Action.KEEP
    rows = [row for row in TABLE["attributes"] if set(row[2].values()) == {"K", "C"}]
    many = basic(*(o for o in OPTIONS if o != "retain-longitudinal-modified-dates"))
    for row in rows:
        if "K" in {letter for name, letter in row[2].items() if name in many.options}:
            assert many.action(tags(row)[0]) is Action.KEEP, row


@pytest.mark.parametrize(
    ("key", "action"),
    [
        ("Rows", Action.KEEP),
        ("SOPClassUID", Action.KEEP),
        ("TransferSyntaxUID", Action.KEEP),
        ("CodingSchemeUID", Action.KEEP),
        ("SOPInstanceUIDOfConcatenationSource", Action.UID),
        ("SecondaryReviewerName", Action.EMPTY),
        ("RetrieveURL", Action.REMOVE),
        ("CodingSchemeURL", Action.KEEP),
        ("SourceApplicationEntityTitle", Action.REMOVE),
        ("PrivateInformation", Action.REMOVE),
        ("MoveDestination", Action.REMOVE),
        ("00187FFE", Action.REMOVE),
        ("00080000", Action.REMOVE),
        ("60020010", Action.KEEP),
    ],
)
def test_beyond_the_table(key: str, action: Action) -> None:
    assert basic().action(TAG(key)) is action


def test_no_more_actions_are_remembered_than_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(confidentiality, "_MOST_KNOWN", 3)
    chosen = basic()
    for tag in range(0x00111001, 0x0011100B):
        assert chosen.action(tag) == Action.REMOVE
        assert len(chosen._known) <= 3


def test_uids_are_retained_beyond_the_table_too() -> None:
    retained = basic("retain-uids")
    assert retained.action(TAG("SOPInstanceUIDOfConcatenationSource")) is Action.KEEP
    assert retained.action(TAG("RetrieveURL")) is Action.REMOVE


def test_dates_beyond_the_table_are_moved_with_the_others() -> None:
    moved = basic("retain-longitudinal-modified-dates")
    assert moved.action(TAG("ExpiryDate")) is Action.SHIFT
    assert moved.otherwise(TAG("ExpiryDate")) is Action.EMPTY
    assert moved.action(TAG("Rows")) is Action.KEEP
    assert basic().action(TAG("ExpiryDate")) is Action.KEEP


@pytest.mark.parametrize(
    ("profile", "options", "code", "words"),
    [
        ("basics", [], "deidentify/profile", "basic"),
        ("basic", ["retain-uid"], "deidentify/option", "retain-uids"),
        ("basic", ["nothing"], "deidentify/option", "clean-descriptors"),
        (
            "basic",
            ["retain-longitudinal-full-dates", "retain-longitudinal-modified-dates"],
            "deidentify/options",
            "not both",
        ),
    ],
)
def test_what_is_not_there_is_refused(
    profile: str, options: list[str], code: str, words: str
) -> None:
    with pytest.raises(DicomStudyError, match=words) as error:
        policy(profile, options, D)
    assert error.value.code == code


# Pseudonyms

KEYS = st.binary(min_size=16, max_size=40)
UIDS = st.from_regex(r"[0-2]\.[1-9][0-9]{0,5}(\.[1-9][0-9]{0,5}){1,5}", fullmatch=True)


@given(KEYS, st.text(max_size=9))
def test_they_are_made_as_the_page_says(key: bytes, value: str) -> None:
    """So another implementation makes the same ones by the same key."""
    new = Pseudonyms(key)

    def made(kind: str, value: str) -> bytes:
        return hmac.new(key, f"{kind}\0{value}".encode(), "sha256").digest()

    bits = f"{int.from_bytes(made('uid', '1.2.3')[:16], 'big'):0128b}"
    uid = UUID(int=int(f"{bits[:48]}1000{bits[52:64]}10{bits[66:]}", 2))
    assert uid.version == 8
    assert uid.variant == RFC_4122
    assert new.uid("1.2.3") == f"2.25.{uid.int}"
    for kind in ("patient", "accession"):
        assert new.name(kind, value) == b32encode(made(kind, value)[:10]).decode()
    assert new.days(value) == 1 + int.from_bytes(made("days", value)[:8], "big") % 3650


@given(KEYS, UIDS, UIDS)
def test_uids_are_valid_the_same_again_and_of_one_uid_only(key: bytes, one: str, two: str) -> None:
    new = Pseudonyms(key)
    made = new.uid(one)
    assert UID(made).is_valid
    assert made == Pseudonyms(key).uid(f" {one}\0")
    assert (made == new.uid(two)) == (one == two)
    assert made != Pseudonyms(key + b"x").uid(one)
    assert new.uids(f"{one}\\{two}") == f"{made}\\{new.uid(two)}"


def test_uids_of_the_standard_stay() -> None:
    new = Pseudonyms(bytes(16))
    assert new.uid("1.2.840.10008.1.2") == "1.2.840.10008.1.2"
    assert new.uid("1.2.840.10008.6.1.1340") == "1.2.840.10008.6.1.1340"
    for other in ("1.2.840.10008", "1.2.840.10008.Miller", "1.2.840.100080.1", "../../x"):
        assert new.uid(other).startswith("2.25.")
    assert new.uid("1.2.840.10008.19350412.4711").startswith("2.25.")
    assert new.uid("") == ""


def test_uids_are_retained_if_they_are_some() -> None:
    new = Pseudonyms(bytes(16))
    assert new.retained("1.2.3\\9.9.1 ") == "1.2.3\\9.9.1"
    assert new.retained("999.1") == new.uid("999.1")
    assert new.retained("Miller") == new.uid("Miller")
    assert new.retained("1.2.3\\4711") == f"1.2.3\\{new.uid('4711')}"


@given(KEYS, st.text(max_size=9), st.text(max_size=9))
def test_pseudonyms_are_of_one_value_only(key: bytes, one: str, two: str) -> None:
    new = Pseudonyms(key)
    assert (new.name("patient", one) == new.name("patient", two)) == (one == two)
    assert new.name("patient", one) != new.name("accession", one)
    assert new.name("patient", one).isalnum()
    assert len(new.name("patient", one)) == 16


@given(KEYS, st.text(max_size=5), st.dates(date(1900, 1, 1)), st.dates(date(1900, 1, 1)))
def test_dates_of_a_patient_keep_their_distance(
    key: bytes, patient: str, one: date, two: date
) -> None:
    new = Pseudonyms(key)
    moved = new.moved(f"{one:%Y%m%d}\\{two:%Y.%m.%d}\\{one:%Y%m%d}101112.5+0100\\", patient)
    assert moved is not None
    first, second, third, last = moved.split("\\")
    back = timedelta(new.days(patient))
    assert 1 <= back.days <= 3650
    assert first == f"{one - back:%Y%m%d}".zfill(8)
    assert second == f"{two - back:%Y%m%d}".zfill(8)
    assert third == f"{first}101112.5+0100"
    assert last == ""


@pytest.mark.parametrize(
    "value",
    [
        *("2004", "200401", "20041301", "0001.01.01", "today", "20200101-20200202"),
        *("20200101-2020", "20200101+1500"),
    ],
)
def test_what_is_no_whole_date_is_not_moved(value: str) -> None:
    assert Pseudonyms(bytes(16)).moved(value, "") is None


# Private attributes that are declared safe


def test_private_attributes_are_safe_if_their_data_set_says_so() -> None:
    blocks = {
        "00090010": "MAKER A",
        "00091001": b"a",
        "00091102": b"b",
        "00090011": "MAKER B",
        "00291001": b"c",
        "00290010": "MAKER A",
    }

    def declared(**fields: Any) -> set[str]:
        item = {
            "PrivateGroupReference": 9,
            "PrivateCreatorReference": "MAKER A",
            "BlockIdentifyingInformationStatus": "SAFE",
        }
        items = [item | fields]
        attributes = {**blocks, "PrivateDataElementCharacteristicsSequence": items}
        safe = declared_safe(attributes, lambda _: b"\2\0" * 200)
        return {f"{tag:08X}" for tag in safe}

    assert declared() == {"00090010", "00091001"}
    assert declared(PrivateGroupReference=0x29) == {"00290010", "00291001"}
    assert declared(PrivateCreatorReference="MAKER C") == set()
    assert declared(BlockIdentifyingInformationStatus="UNSAFE") == set()
    mixed = {"BlockIdentifyingInformationStatus": "MIXED", "PrivateCreatorReference": "MAKER B"}
    assert declared(**mixed, NonidentifyingPrivateElements=2) == {"00090011", "00091102"}
    assert declared(**mixed, NonidentifyingPrivateElements=b"\1\0\3\0") == {"00090011"}
    large = {"length": 400, "sha256": "0" * 64}
    assert declared(**mixed, NonidentifyingPrivateElements=large) == {"00090011", "00091102"}
    assert declared(**mixed) == {"00090011"}
    assert declared_safe(blocks, lambda _: b"") == frozenset()
