"""`definitions` gives what lies in `formats/`, and nothing that its manifest does not vouch for."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections import Counter
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomstudy import definitions
from dicomstudy.definitions import Attribute, Definitions
from dicomstudy.errors import DefinitionsError
from tests import make_formats

V1 = Path(__file__).parents[1] / "formats" / "v1"
D = definitions.load()
TAGS = st.integers(0, 0xFFFFFFFF)


def code(error: pytest.ExceptionInfo[DefinitionsError]) -> str:
    return error.value.code


# What lies in formats/v1


def test_manifest_names_every_other_file_as_it_is() -> None:
    manifest = json.loads((V1 / "manifest.json").read_bytes())
    assert manifest["version"] == "1"
    assert set(manifest["files"]) == {p.name for p in V1.iterdir()} - {"manifest.json"}
    for name, row in manifest["files"].items():
        data = (V1 / name).read_bytes()
        assert row == {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}


@pytest.mark.skipif(pydicom.__version__ != "3.0.2", reason="formats/v1 was made from pydicom 3.0.2")
def test_dictionary_is_made_again_byte_for_byte() -> None:
    assert (V1 / "dictionary.json").read_text(encoding="utf-8") == make_formats.dictionary()


def test_order_and_manifest_are_made_again_byte_for_byte() -> None:
    assert (V1 / "order.json").read_text(encoding="utf-8") == make_formats.order()
    assert (V1 / "manifest.json").read_text(encoding="utf-8") == make_formats.manifest(V1)


def test_digest_is_that_of_the_manifest() -> None:
    assert D.digest == hashlib.sha256((V1 / "manifest.json").read_bytes()).hexdigest()
    assert (D.version, D.edition) == ("1", "2024c")


def test_seed_groups_are_the_published_ones(shared: Path) -> None:
    published = json.loads((shared / "golden" / "attribute-groups.json").read_bytes())
    assert D.seed_groups == tuple(published)
    assert {name: list(D.attributes(name)) for name in D.seed_groups} == published


def test_dictionary_agrees_with_another_copy_of_the_standard(shared: Path) -> None:
    rows = json.loads((shared / "standard" / "attributes.json").read_bytes())
    theirs = {row["keyword"]: (row["id"].upper(), row["valueRepresentation"]) for row in rows}
    ours = {k: (f"{tag:08X}", D.vr(tag)) for k, tag in D._tags.items()}
    both = theirs.keys() & ours.keys()
    assert len(both) > 5000
    assert {k: theirs[k] for k in both} == {k: ours[k] for k in both}


def test_an_attribute_is_in_one_group_at_most_and_in_the_dictionary() -> None:
    keywords = {row[3] for row in json.loads((V1 / "dictionary.json").read_bytes())["attributes"]}
    places = Counter(k for group in D.groups for k in set(D.attributes(group)))
    places.update(D.instance_keywords)
    assert set(places) <= keywords
    assert max(places.values()) == 1


def test_groups_of_ours_stand_behind_the_seeds_with_names_of_their_own() -> None:
    assert D.groups[:16] == D.seed_groups
    assert D.groups[-4:] == ("other", "private", "raw", "encoding")
    assert len(set(D.groups)) == len(D.groups)
    assert all(name.isidentifier() and name[0].islower() for name in D.groups)
    assert all(len(D.attributes(name)) >= 3 for name in D.groups[16:-4])
    assert not any(D.attributes(name) for name in D.groups[-4:])
    assert [D.is_seed(name) for name in D.groups] == [True] * 16 + [False] * (len(D.groups) - 16)


def test_no_keyword_reads_as_hexadecimal_digits() -> None:
    assert not [k for k in D._tags if definitions._HEX_KEY.fullmatch(k)]


# Attributes


@given(TAGS | st.sampled_from(sorted(D._rows)))
def test_keyword_and_tag_are_inverse(tag: int) -> None:
    assert D.tag(D.keyword(tag)) == tag


@pytest.mark.parametrize(
    ("tag", "key"),
    [
        (0x00100010, "PatientName"),
        (0x00020000, "FileMetaInformationGroupLength"),
        (0x00100000, "00100000"),
        (0x0009100A, "0009100A"),
        (0x60003000, "60003000"),
        (0x00180061, "00180061"),  # retired without a keyword
        (0xFFFEE000, "FFFEE000"),
    ],
)
def test_key_of_a_tag(tag: int, key: str) -> None:
    assert D.keyword(tag) == key
    assert D.tag(key) == D.tag(key if key[0].isalpha() else key.lower()) == tag


@pytest.mark.parametrize(
    "key", ["", "patientName", "0x100010", "1000_010", " 0010010", "\uff10" * 8, "00100010\n"]
)
def test_what_is_no_key(key: str) -> None:
    for ask in (D.tag, D.group, D.rank):
        with pytest.raises(DefinitionsError) as error:
            ask(key)
        assert code(error) == "definitions/unknown-keyword"


def test_keyword_of_a_repeating_group_is_no_key_of_one_attribute() -> None:
    with pytest.raises(DefinitionsError) as error:
        D.tag("OverlayData")
    assert code(error) == "definitions/unknown-keyword"


@pytest.mark.parametrize(
    ("tag", "vr"),
    [
        (0x00100010, "PN"),
        (0x00280106, "US or SS"),
        (0x7FE00010, "OB or OW"),
        (0x60003000, "OB or OW"),
        (0x601E0010, "US"),
        (0x60010010, "LO"),  # odd: a private creator, not an overlay
        (0x00090010, "LO"),
        (0x000900FF, "LO"),
        (0x0009000F, "UN"),
        (0x00091010, "UN"),
        (0x00090000, "UL"),
        (0x00100000, "UL"),
        (0x10100000, "UL"),  # not the Zonal Map of (1010,xxxx)
        (0x10100001, "US"),
        (0x00202055, "UN"),
        (0xFFFEE000, "UN"),
    ],
)
def test_vr(tag: int, vr: str) -> None:
    assert D.vr(tag) == vr


def test_attribute() -> None:
    assert D.attribute(0x00100010) == Attribute(
        0x00100010, "PN", "1", "PatientName", "Patient's Name", retired=False
    )
    overlay = D.attribute(0x60023000)
    assert overlay is not None
    assert (overlay.tag, overlay.keyword) == (0x60023000, "OverlayData")
    curve = D.attribute(0x50FE3000)
    assert curve is not None
    assert curve.retired
    for tag in (0x60013000, 0x00091001, 0x00100000, 0x10100000, 0x00202055, 0xFFFEE00D):
        assert D.attribute(tag) is None


@given(TAGS)
def test_every_tag_has_a_vr_a_key_and_a_place(tag: int) -> None:
    row, key = D.attribute(tag), D.keyword(tag)
    assert row is None or row.vr == D.vr(tag)
    assert key in D.instance_keywords or D.group(key) in D.groups
    assert isinstance(D.rank(key), int)


# Groups


@pytest.mark.parametrize(
    ("key", "group"),
    [
        ("PatientName", "patient"),
        ("PerformingPhysicianIdentificationSequence", "generalSeries"),
        ("TransferSyntaxUID", "imagePixel"),
        ("KVP", "xRayGeneration"),
        ("EchoTime", "mrImage"),
        ("OverlayData", "overlayPlane"),
        ("60003000", "overlayPlane"),
        ("601e0010", "overlayPlane"),
        ("00100010", "patient"),  # written as digits it is the same attribute
        ("50003000", "other"),
        ("00100000", "other"),
        ("00202055", "other"),
        ("00090010", "private"),
        ("60013000", "private"),
        ("CommandGroupLength", "other"),
    ],
)
def test_group_of_an_attribute(key: str, group: str) -> None:
    assert D.group(key) == group


def test_instance_keywords_have_no_group() -> None:
    assert {"SOPInstanceUID", "InstanceNumber", "PixelData"} <= D.instance_keywords
    for keyword in D.instance_keywords:
        with pytest.raises(DefinitionsError) as error:
            D.group(keyword)
        assert code(error) == "definitions/no-group"


def test_unknown_group() -> None:
    with pytest.raises(DefinitionsError) as error:
        D.attributes("patients")
    assert code(error) == "definitions/unknown-group"


def test_rank_puts_the_seeds_order_first_and_then_tags() -> None:
    keys = ["60003000", "KVP", "PatientID", "StudyDate", "00091001", "PatientName", "Modality"]
    assert sorted([*keys, "InstanceNumber", "SOPInstanceUID"], key=D.rank) == [
        "SOPInstanceUID",
        "InstanceNumber",
        "PatientName",
        "PatientID",
        "StudyDate",
        "Modality",
        "00091001",
        "KVP",
        "60003000",
    ]
    for group in D.groups:
        keywords = [k for k in dict.fromkeys(D.attributes(group)) if k in D._tags]
        assert sorted(keywords, key=D.rank) == keywords


# Loading


def test_loaded_once_and_unchangeable() -> None:
    assert definitions.load() is D
    with pytest.raises(AttributeError):
        D.version = "2"  # type: ignore[misc]  # that it cannot be set is what is tested


@pytest.mark.parametrize("version", ["2", "01", "", "../v1", "1/../v1", "¹"])
def test_unknown_version(version: str) -> None:
    with pytest.raises(DefinitionsError) as error:
        definitions.load(version)
    assert code(error) == "definitions/unknown-version"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(V1, tmp_path / "v1"))


def test_read_of_a_copy_is_the_same(copy: Path) -> None:
    same = definitions.read(copy)
    assert (same.version, same.digest, same.groups) == (D.version, D.digest, D.groups)


@pytest.mark.parametrize("name", sorted(p.name for p in V1.iterdir()))
def test_missing_file(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(DefinitionsError) as error:
        definitions.read(copy)
    assert code(error) == "definitions/missing"


@pytest.mark.parametrize("name", ["dictionary.json", "groups.json", "order.json"])
@pytest.mark.parametrize("change", ["longer", "same length"])
def test_damaged_file(copy: Path, name: str, change: str) -> None:
    data = (copy / name).read_bytes()
    (copy / name).write_bytes(data + b"\n" if change == "longer" else data[:-2] + b" \n")
    with pytest.raises(DefinitionsError) as error:
        definitions.read(copy)
    assert code(error) == "definitions/damaged"
    assert name in str(error.value)


@pytest.mark.parametrize("manifest", ["", "[]", "{}", '{"files": {"order.json": 1}}', "\x00"])
def test_damaged_manifest(copy: Path, manifest: str) -> None:
    (copy / "manifest.json").write_text(manifest)
    with pytest.raises(DefinitionsError) as error:
        definitions.read(copy)
    assert code(error) == "definitions/damaged"


@pytest.mark.parametrize("name", ["dictionary.json", "groups.json", "order.json"])
def test_file_of_another_form_that_the_manifest_names(copy: Path, name: str) -> None:
    (copy / name).write_text("[1]\n")
    (copy / "manifest.json").write_text(make_formats.manifest(copy))
    with pytest.raises(DefinitionsError) as error:
        definitions.read(copy)
    assert code(error) == "definitions/damaged"


def test_read_from_a_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "formats.zip", "w") as archive:
        for path in V1.iterdir():
            archive.write(path, f"v1/{path.name}")
    with zipfile.ZipFile(tmp_path / "formats.zip") as archive:
        zipped: Definitions = definitions.read(zipfile.Path(archive, "v1/"))
    assert zipped.digest == D.digest
