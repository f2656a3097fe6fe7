"""The JSON model is that of pydicom, but for the differences of spec/json.md."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import struct
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset

from dicomstudy.elements import NUMBER_FORMATS, PIXEL_DATA_TAGS, WORD_SIZES
from dicomstudy.json_model import bulk_uri, metadata, to_json
from dicomstudy.values import swap
from fixtures import make
from tests.real_files import (
    BROKEN_SEQUENCES,
    CUT,
    DEFINITIONS,
    ENCODER,
    Decoded,
    fixture,
    own_files,
    shared_files,
)

pytestmark = pytest.mark.usefixtures("quiet_pydicom")

Json = dict[str, Any]
MAX_SAFE = 1 << 53
DELIMITER = b"\xfe\xff\xdd\xe0\0\0\0\0"


def ours(decoded: Decoded) -> Json:
    model = to_json(decoded.attributes, decoded.encoding, ENCODER, decoded.resolve)
    json.dumps(model, allow_nan=False)
    return model


def theirs(dataset: Dataset) -> Json:
    """What pydicom gives, leaving out the elements that it refuses."""
    model = {}
    for tag in dataset.keys():  # noqa: SIM118 (elements are decoded one by one)
        try:
            element = dataset[tag]
            if element.VR == "SQ":
                items = [theirs(item) for item in element.value]
                model[f"{tag:08X}"] = {"vr": "SQ", "Value": items}
            else:
                model[f"{tag:08X}"] = element.to_json_dict(None, 0)
        except Exception:  # noqa: BLE001 (whatever it is, there is nothing to compare)
            model[f"{tag:08X}"] = {"vr": "refused"}
    return model


class Comparison:
    """Compares one file after another, and counts the differences by their kind."""

    def __init__(self) -> None:
        self.files = 0
        self.kinds: Counter[str] = Counter()
        self.unknown: list[tuple[str, str, object, object]] = []

    def add(self, decoded: Decoded) -> None:
        dataset = decoded.dataset()
        if dataset is None:
            self.kinds["unreadable"] += 1
            return
        self.files += 1
        self._compare(ours(decoded), theirs(dataset), decoded, "")

    def _compare(self, mine: Json, other: Json, decoded: Decoded, path: str) -> None:
        for tag in sorted(mine.keys() | other.keys()):
            where = path + tag
            kind = self._difference(mine.get(tag), other.get(tag), decoded, where)
            if kind == "unknown":
                self.unknown.append((decoded.name, where, mine.get(tag), other.get(tag)))
            elif kind:
                self.kinds[kind] += 1

    def _difference(
        self, mine: Json | None, other: Json | None, decoded: Decoded, where: str
    ) -> str:
        """The kind of difference, "" if there is none."""
        name = Path(decoded.name).name
        if mine is None:
            return "group length" if where.endswith("0000") else "unknown"
        if other is None:
            return "cut" if name in CUT else "unknown"
        if other["vr"] == "refused":
            return "refused"
        if mine["vr"] == other["vr"] == "SQ":
            return self._compare_items(mine, other, decoded, where)
        kind = difference_of_vrs(name, where, mine["vr"], other["vr"])
        return kind or difference_of_values(where, mine, other, decoded)

    def _compare_items(self, mine: Json, other: Json, decoded: Decoded, where: str) -> str:
        items = mine.get("Value", [])
        if len(items) != len(other["Value"]) or ("Value" in mine and not items):
            return "unknown"
        for at, (left, right) in enumerate(zip(items, other["Value"], strict=True)):
            self._compare(left, right, decoded, f"{where}[{at}].")
        return ""


def difference_of_vrs(name: str, where: str, mine: str, other: str) -> str:
    """The kind of difference between VRs, "" if there is none."""
    tag = where[-8:]
    if mine == other:
        return ""
    if name == "implicit-declared-explicit.dcm" and (mine, other) == ("OW", "OB"):
        return "declared explicit"
    if mine == "UN" and tag in BROKEN_SEQUENCES.get(name, ()):
        return "broken sequence"
    if int(tag[:4], 16) & 1:
        if mine == "UN":
            return "private dictionary"
        if (mine, other) == ("SQ", "UN"):
            return "private sequence"
    return "unknown"


def difference_of_values(where: str, mine: Json, other: Json, decoded: Decoded) -> str:
    """The kind of difference between values of one VR, "" if there is none."""
    if "BulkDataURI" in mine:
        content = decoded.large[mine["BulkDataURI"].removeprefix("sha256:")]
        inline = base64.b64decode(other.get("InlineBinary", ""))
        if decoded.big and int(where[-8:], 16) not in PIXEL_DATA_TAGS:  # these are as there
            content = swap(content, WORD_SIZES.get(mine["vr"], 1))
        return "" if content.removesuffix(DELIMITER) == inline else "unknown"
    if "InlineBinary" in mine and decoded.big:
        inline = base64.b64decode(mine["InlineBinary"])
        word = WORD_SIZES.get(mine["vr"], 1)
        if word > 1:
            same = base64.b64decode(other["InlineBinary"]) == swap(inline, word)
            return "byte order" if same else "unknown"
    if same_repr(mine, other):
        return ""
    values = [usual(mine["vr"], each) for each in other.get("Value", [])]
    if values and mine["vr"] not in {"LT", "ST", "UC", "UT"}:
        first = without_spaces_in_front(values[0][0])
        values[0] = first, "spaces in front" if first != values[0][0] else values[0][1]
    if not same_repr(mine.get("Value"), [value for value, _ in values]):
        return "unknown"
    return next(kind for _, kind in values if kind)


def same_repr(left: object, right: object) -> bool:
    """Equal in value and type, NaN too; an enumeration of VRs is text."""
    return json.dumps(left) == json.dumps(right)


def without_spaces_in_front(value: Any) -> Any:
    """The first value of a text as documents have it."""
    if isinstance(value, dict) and "Alphabetic" in value:
        return {**value, "Alphabetic": value["Alphabetic"].lstrip(" ")}
    return value.lstrip(" ") or None if isinstance(value, str) else value


def usual(vr: str, value: Any) -> tuple[Any, str]:
    """A value of pydicom's as the standard has it, and the kind of the difference."""
    if vr == "PN":
        groups = {name: group for name, group in value.items() if group}
        return (value, "") if groups == value else (groups or None, "empty name group")
    if isinstance(value, str):
        trimmed = value.rstrip(" \0") or None
        kind = "" if trimmed == value else "padding" if value.strip() else "empty value"
        return trimmed, kind
    if isinstance(value, float) and not math.isfinite(value):
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(value)], "not finite"
    if isinstance(value, int) and abs(value) > MAX_SAFE:
        return str(value), "large integer"
    return value, ""


def compare(files: Iterable[Decoded]) -> Comparison:
    comparison = Comparison()
    for decoded in files:
        comparison.add(decoded)
    assert comparison.unknown == []
    return comparison


def test_model_is_that_of_pydicom() -> None:
    comparison = compare(own_files())
    assert comparison.files > 300
    assert set(comparison.kinds) == {
        "broken sequence",
        "byte order",
        "cut",
        "declared explicit",
        "empty value",
        "group length",
        "large integer",
        "not finite",
        "padding",
        "private dictionary",
        "private sequence",
        "refused",
        "spaces in front",
        "unreadable",
    }
    assert comparison.kinds["refused"] == 8


def test_model_is_that_of_pydicom_in_real_files(shared: Path) -> None:
    comparison = compare(shared_files(shared))
    assert comparison.files > 900
    assert comparison.kinds.keys() <= {
        "byte order",
        "empty name group",
        "empty value",
        "group length",
        "padding",
        "private dictionary",
        "private sequence",
        "refused",
        "spaces in front",
        "unreadable",
    }
    assert comparison.kinds["refused"] + comparison.kinds["unreadable"] < 20


# Cases of one law each


def file(*elements: bytes, syntax: str = make.EXPLICIT) -> Decoded:
    return Decoded("made", make.part10(make.file_meta(syntax), b"".join(elements)))


def element(tag: int, vr: str, value: object = b"", **options: bool) -> bytes:
    return make.element(tag, vr, value, **options)  # type: ignore[arg-type]


def implicit(*elements: tuple[int, str, object]) -> Decoded:
    encoded = [element(tag, vr, value, explicit=False) for tag, vr, value in elements]
    return file(*encoded, syntax=make.IMPLICIT)


def of(tag: int, vr: str, value: object = b"") -> Json:
    """The attribute object of one element of an explicit file."""
    (attribute,) = ours(file(element(tag, vr, value))).values()
    assert isinstance(attribute, dict)
    return attribute


def raw_doubles(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}d", *values)


def test_empty_values_are_absent_or_null() -> None:
    assert of(0x00100010, "PN") == {"vr": "PN"}
    assert of(0x00100020, "LO", b"  ") == {"vr": "LO"}
    assert of(0x00081140, "SQ") == {"vr": "SQ"}
    assert of(0x00280010, "US") == {"vr": "US"}
    assert of(0x00081155, "UI", b"\r\n") == {"vr": "UI"}
    assert of(0x00280030, "DS", b"\t ") == {"vr": "DS"}
    assert of(0x00080008, "CS", b"A\\\\B ") == {"vr": "CS", "Value": ["A", None, "B"]}
    assert of(0x00280030, "DS", b"1\\ ") == {"vr": "DS", "Value": [1.0, None]}
    assert of(0x00081140, "SQ", make.item()) == {"vr": "SQ", "Value": [{}]}


def test_person_names_have_their_groups_but_no_empty_ones() -> None:
    name = {"Alphabetic": "Yamada^Tarou", "Phonetic": "yamada"}
    value = [name, None, {"Alphabetic": "A"}]
    assert of(0x00081070, "PN", b"Yamada^Tarou==yamada\\\\A ") == {"vr": "PN", "Value": value}


def test_a_person_name_without_a_group_is_empty() -> None:
    assert of(0x00100010, "PN", b"= ") == {"vr": "PN"}
    assert of(0x00100010, "PN", b"==") == {"vr": "PN"}
    assert of(0x00081070, "PN", b"A\\= ")["Value"] == [{"Alphabetic": "A"}, None]


def test_no_group_of_a_person_name_is_lost() -> None:
    """A fourth one is none of the standard's, and the model has no place of its own for it."""
    name = {"Alphabetic": "A", "Ideographic": "B", "Phonetic": "C=D=E"}
    assert of(0x00081070, "PN", b"A=B=C=D=E ") == {"vr": "PN", "Value": [name]}
    name = {"Alphabetic": "A", "Phonetic": "=D"}
    assert of(0x00081070, "PN", b"A===D ") == {"vr": "PN", "Value": [name]}


SPACES: list[tuple[str, list[Any]]] = [
    *((vr, ["1", " 2"]) for vr in ("AS", "CS", "DA", "DT", "LO", "SH", "TM")),
    ("PN", [{"Alphabetic": "1"}, {"Alphabetic": " 2"}]),
    ("UR", ["1\\ 2"]),
    *((vr, ["  1\\ 2"]) for vr in ("LT", "ST", "UT")),
    ("UC", ["  1", " 2"]),
    *((vr, ["1", "2"]) for vr in ("AE", "UI")),
    *((vr, [1, 2]) for vr in ("DS", "IS")),
]


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom warns of such a UID
@pytest.mark.parametrize(("vr", "value"), SPACES, ids=[vr for vr, _ in SPACES])
def test_spaces_in_front_are_removed_of_the_whole_text(vr: str, value: list[Any]) -> None:
    decoded = file(element(0x00081030, vr, "  1\\ 2 "))
    assert ours(decoded)["00081030"] == {"vr": vr, "Value": value}
    kept = vr in {"LT", "ST", "UT", "UC", "AE", "UI", "DS", "IS"}
    assert set(compare([decoded]).kinds) == (set() if kept else {"spaces in front"})


def test_backslashes_of_texts_are_characters() -> None:
    for vr, tag in (("LT", 0x00104000), ("ST", 0x00080081), ("UT", 0x0040A160)):
        assert of(tag, vr, b" a\\b ")["Value"] == [" a\\b"]
    assert of(0x00080120, "UR", b"a:\\b ")["Value"] == ["a:\\b"]
    assert of(0x00080119, "UC", b"a \\b ")["Value"] == ["a", "b"]


def test_number_strings_are_numbers_where_they_are_exact() -> None:
    assert of(0x00280030, "DS", b" 1.0000\\-.5e1 ")["Value"] == [1.0, -5.0]
    assert of(0x00280030, "DS", b"0.12345678901234567890")["Value"] == ["0.12345678901234567890"]
    assert of(0x00280030, "DS", b"1,5 \\1e999 ")["Value"] == ["1,5", "1e999"]
    for vr, tag in (("DS", 0x00280030), ("IS", 0x00081160)):  # float and int would take them
        assert of(tag, vr, b"1_0")["Value"] == ["1_0"]
        arabic = make.element(tag, vr, "\u0661")
        model = ours(file(element(0x00080005, "CS", "ISO_IR 192"), arabic))
        assert model[f"{tag:08X}"]["Value"] == ["\u0661"]
    value = of(0x00081160, "IS", b"+07\\1.0\\1.5\\1A\\12345678901234567890")["Value"]
    assert same_repr(value, [7, 1, "1.5", "1A", "12345678901234567890"])


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom warns of such a number
@pytest.mark.parametrize(
    ("tag", "vr", "text", "number"),
    [
        (0x00081160, "IS", "1.5", 1),
        (0x00280030, "DS", "0.12345678901234567890", 0.12345678901234568),
    ],
)
def test_number_strings_are_not_rounded(tag: int, vr: str, text: str, number: float) -> None:
    decoded = file(element(tag, vr, text))
    assert ours(decoded)[f"{tag:08X}"]["Value"] == [text]
    assert theirs(decoded.dataset() or Dataset())[f"{tag:08X}"]["Value"] == [number]


def test_numbers_that_json_cannot_hold_are_strings() -> None:
    values = of(0x00720074, "FD", raw_doubles(math.nan, math.inf, -math.inf, -0.0))["Value"]
    assert same_repr(values, ["NaN", "Infinity", "-Infinity", -0.0])
    assert [float(value) for value in values[1:3]] == [math.inf, -math.inf]
    largest = struct.pack("<2Q", MAX_SAFE, MAX_SAFE + 1)
    assert of(0x00720083, "UV", largest)["Value"] == [MAX_SAFE, str(MAX_SAFE + 1)]


def test_what_is_not_of_its_vr_is_unknown() -> None:
    binary = base64.b64encode(b"abc").decode()
    assert of(0x00280010, "US", b"abc") == {"vr": "UN", "InlineBinary": binary}
    assert of(0x00280009, "AT", b"abc") == {"vr": "UN", "InlineBinary": binary}
    assert of(0x00081140, "SQ", b"abc") == {"vr": "UN", "InlineBinary": binary}


def test_tags_are_hexadecimal() -> None:
    assert of(0x00280009, "AT", b"\x18\0\x63\x10")["Value"] == ["00181063"]
    value = b"\x18\0\x63\x10\xe0\x7f\x10\0"
    assert of(0x00280009, "AT", value)["Value"] == ["00181063", "7FE00010"]
    large = of(0x00280009, "AT", value * 50)
    assert large == {"vr": "AT", "Value": ["00181063", "7FE00010"] * 50}


def test_vr_is_that_of_the_file_but_for_unknown_ones() -> None:
    assert of(0x00100020, "SH", b"a")["vr"] == "SH"
    assert of(0x00100020, "UN", b"a ") == {"vr": "LO", "Value": ["a"]}
    assert of(0x00280106, "UN", b"\xff\xff") == {"vr": "US", "Value": [65535]}
    assert of(0x00091001, "SS", b"\xff\xff") == {"vr": "SS", "Value": [-1]}
    assert of(0x00091001, "LO", b"a ") == {"vr": "LO", "Value": ["a"]}
    assert of(0x00091001, "UN", b"a ")["vr"] == "UN"
    assert of(0x00090010, "UN", b"a ") == {"vr": "LO", "Value": ["a"]}
    assert of(0x00010002, "DS", b"1 ") == {"vr": "DS", "Value": [1.0]}


def test_ambiguous_vrs_of_implicit_files() -> None:
    signed = implicit(
        (0x00280103, "US", 1),
        (0x00280106, "US", 65535),
        (0x00281101, "US", struct.pack("<3H", 65535, 65534, 16)),
        (0x00283006, "OW", b"ab"),
        (0x60003000, "OW", b"ab"),
        (0x7FE00010, "OW", b"ab"),
    )
    model = ours(signed)
    assert model["00280106"] == {"vr": "SS", "Value": [-1]}
    assert model["00281101"] == {"vr": "SS", "Value": [65535, -2, 16]}
    assert {model[tag]["vr"] for tag in ("00283006", "60003000", "7FE00010")} == {"OW"}
    assert metadata(signed.attributes, signed.encoding, ENCODER)["SmallestImagePixelValue"] == -1


@pytest.mark.parametrize("tag", [0x00281101, 0x00281102, 0x00281103, 0x00283002])
def test_the_first_value_of_a_lookup_table_descriptor_is_never_negative(tag: int) -> None:
    decoded = file(element(tag, "SS", (-5, -2, 16)))
    assert ours(decoded) == {f"{tag:08X}": {"vr": "SS", "Value": [65531, -2, 16]}}
    compare([decoded])


@pytest.mark.parametrize("tag", [0x00281100, 0x00281111, 0x00281112, 0x00281113])
def test_descriptors_that_are_retired_have_numbers_of_their_vr(tag: int) -> None:
    decoded = file(element(tag, "SS", (-5, -2, 16)))
    assert ours(decoded) == {f"{tag:08X}": {"vr": "SS", "Value": [-5, -2, 16]}}
    compare([decoded])


def test_a_text_of_is_that_is_no_integer_becomes_none() -> None:
    """`Dataset.from_json` would take the number 1.5 for 1; text it refuses."""
    decoded = file(element(0x00200013, "IS", b"1.5 "))
    assert ours(decoded) == {"00200013": {"vr": "IS", "Value": ["1.5"]}}
    with pytest.raises(ValueError, match=r"1\.5"):
        Dataset.from_json(ours(decoded))
    assert compare([decoded]).kinds == {"refused": 1}


@pytest.mark.parametrize("undefined", [False, True])
def test_an_item_has_the_pixel_representation_around_it_however_it_ends(undefined: bool) -> None:
    """pydicom takes the value for unsigned in an item of undefined length."""
    value = element(0x00280106, "US", 65535, explicit=False)
    items = make.item(value, undefined=undefined)
    decoded = file(
        element(0x00280103, "US", 1, explicit=False),
        element(0x00409096, "SQ", items, explicit=False, undefined=undefined),
        syntax=make.IMPLICIT,
    )
    (item,) = ours(decoded)["00409096"]["Value"]
    assert item["00280106"] == {"vr": "SS", "Value": [-1]}
    dataset = decoded.dataset()
    assert dataset is not None
    found = dataset[0x00409096][0][0x00280106].VR
    assert found == ("US" if undefined else "SS")


SIGNED = [("US", 1), ("US", 2), ("SS", -1), ("IS", b"1 "), ("LO", b"signed"), ("US", (0, 0))]
UNSIGNED = [("US", 0), ("IS", b"0 "), ("IS", b"+00 "), ("FD", 0.0)]


@pytest.mark.parametrize(
    ("representation", "vr"),
    [(each, "SS") for each in SIGNED] + [(each, "US") for each in UNSIGNED],
)
def test_us_or_ss_is_unsigned_if_the_pixel_representation_is_0(
    representation: tuple[str, object], vr: str
) -> None:
    decoded = file(element(0x00280103, *representation), element(0x00280106, "UN", b"\xff\xff"))
    number = -1 if vr == "SS" else 65535
    assert ours(decoded)["00280106"] == {"vr": vr, "Value": [number]}
    assert theirs(decoded.dataset() or Dataset())["00280106"] == ours(decoded)["00280106"]


def test_an_empty_pixel_representation_says_nothing() -> None:
    """pydicom takes the value beside it for signed, in items for unsigned."""
    value = element(0x00280106, "UN", b"\xff\xff")
    empty, signed = element(0x00280103, "US"), element(0x00280103, "US", 1)
    beside = file(empty, value)
    assert ours(beside)["00280106"]["vr"] == "US"
    assert theirs(beside.dataset() or Dataset())["00280106"]["vr"] == "SS"
    for above, vr in ((empty, "US"), (signed, "SS")):
        inside = file(above, element(0x00880200, "SQ", make.item(empty + value)))
        (icon,) = ours(inside)["00880200"]["Value"]
        assert icon["00280106"]["vr"] == vr


def test_known_attributes_of_unknown_vr_have_their_own_however_long() -> None:
    """pydicom leaves those from 65,535 bytes on unknown."""
    for length, theirs_is in ((65534, "UT"), (65536, "UN")):
        decoded = file(element(0x0040A160, "UN", b"x" * length))
        assert ours(decoded)["0040A160"] == {"vr": "UT", "Value": ["x" * length]}
        assert theirs(decoded.dataset() or Dataset())["0040A160"]["vr"] == theirs_is


@pytest.mark.parametrize("undefined", [False, True])
def test_a_sequence_in_front_of_the_character_set_is_in_it(undefined: bool) -> None:
    """pydicom takes one of undefined length for Latin-1."""
    item = make.item(element(0x00080104, "LO", "é"))
    sequence = element(0x00041220, "SQ", item, undefined=undefined)
    decoded = file(sequence, element(0x00080005, "CS", "ISO_IR 192"))
    (record,) = ours(decoded)["00041220"]["Value"]
    assert record["00080104"]["Value"] == ["é"]
    (other,) = theirs(decoded.dataset() or Dataset())["00041220"]["Value"]
    assert other["00080104"]["Value"] == ["Ã©" if undefined else "é"]


@pytest.mark.parametrize("tag", [0x00280071, 0x00281100, 0x00281111, 0x00281112, 0x00281113])
def test_numbers_have_one_vr_that_pydicom_leaves_open(tag: int) -> None:
    for sign, vr, number in ((0, "US", 65535), (1, "SS", -1)):
        decoded = implicit((tag, "US", (1, 65535)), (0x00280103, "US", sign))
        assert ours(decoded)[f"{tag:08X}"] == {"vr": vr, "Value": [1, number]}
        dataset = decoded.dataset()
        assert dataset is not None
        assert dataset[tag].VR == "US or SS"


@pytest.mark.parametrize(
    "tag", [0x00143050, 0x00143070, 0x00281200, 0x5000200C, 0x50003000, 0x7F000010]
)
def test_bytes_have_one_vr_that_pydicom_leaves_open(tag: int) -> None:
    decoded = implicit((tag, "OW", b"ab"))
    assert ours(decoded)[f"{tag:08X}"]["vr"] == "OW"
    dataset = decoded.dataset()
    assert dataset is not None
    assert " or " in dataset[tag].VR


def test_lut_data_are_bytes_whatever_their_descriptor_says() -> None:
    alone = implicit((0x00283006, "OW", b"ab"))
    single = implicit((0x00283002, "US", (1, 0, 16)), (0x00283006, "OW", b"ab"))
    for decoded in (alone, single):
        assert ours(decoded)["00283006"]["vr"] == "OW"
    for decoded, vr in ((alone, "refused"), (single, "US")):
        dataset = decoded.dataset()
        assert dataset is not None
        assert theirs(dataset)["00283006"]["vr"] == vr


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"])
@pytest.mark.filterwarnings("ignore")
def test_data_sets_of_jpip_deflate_are_inflated(syntax: str) -> None:
    decoded = file(make.deflated(make.small("jpip")), syntax=syntax)
    assert len(ours(decoded)) == 18
    dataset = decoded.dataset()
    assert dataset is None or len(dataset) <= 1


def test_pixel_representation_of_an_item_counts_inside_it() -> None:
    value = element(0x00280106, "US", 65535, explicit=False)
    own = element(0x00280103, "US", 0, explicit=False)
    items = make.item(value) + make.item(own + value)
    model = ours(implicit((0x00081140, "SQ", items), (0x00280103, "US", 1)))
    values = [each["00280106"] for each in model["00081140"]["Value"]]
    assert values == [{"vr": "SS", "Value": [-1]}, {"vr": "US", "Value": [65535]}]


def test_character_set_of_an_item_counts_inside_it() -> None:
    charset, greek = element(0x00080005, "CS", "ISO_IR 126"), b"\xc1\xc2"
    private = element(0x00091001, "LO", greek)
    items = make.item(private) + make.item(charset + private)
    decoded = file(
        element(0x00080005, "CS", "ISO_IR 100"),
        element(0x00081140, "SQ", items),
        element(0x00091001, "LO", greek),
        element(0x00104000, "LT", greek * 200),
    )
    model = ours(decoded)
    values = [each["00091001"]["Value"] for each in model["00081140"]["Value"]]
    assert values == [["ÁÂ"], ["\u0391\u0392"]]
    assert model["00091001"]["Value"] == ["ÁÂ"]
    assert model["00104000"]["Value"] == ["ÁÂ" * 200]
    document = metadata(decoded.attributes, decoded.encoding, ENCODER)
    assert document["00091001"] == "ÁÂ"
    names = [each["00091001"] for each in document["ReferencedImageSequence"]]
    assert names == ["ÁÂ", "\u0391\u0392"]


def test_empty_character_set_of_an_item_is_the_default_one() -> None:
    name, private = element(0x00100010, "PN", b"M\xfcller"), element(0x00191001, "LO", b"M\xfcller")
    item = make.item(element(0x00080005, "CS") + name + private)
    decoded = file(element(0x00080005, "CS", "ISO_IR 144"), element(0x00081140, "SQ", item))
    (inner,) = ours(decoded)["00081140"]["Value"]
    assert inner["00100010"]["Value"] == [{"Alphabetic": "Müller"}]
    assert inner["00191001"]["Value"] == ["Müller"]
    compare([decoded])
    document = metadata(decoded.attributes, decoded.encoding, ENCODER)
    (inner,) = document["ReferencedImageSequence"]
    assert (inner["PatientName"], inner["00191001"]) == ("Müller", "Müller")


@pytest.mark.parametrize(
    ("tag", "vr", "letter"),
    [(0x7FE00010, "OW", "H"), (0x7FE00008, "OF", "I"), (0x7FE00009, "OD", "Q")],
)
def test_pixel_data_of_big_endian_files_is_little_endian(tag: int, vr: str, letter: str) -> None:
    pixels = element(tag, vr, struct.pack(f">3{letter}", 1, 2, 3), big=True)
    icon = element(0x00880200, "SQ", make.item(pixels, big=True), big=True)
    decoded = file(icon, pixels, syntax=make.BIG_ENDIAN)
    model = ours(decoded)
    inline = base64.b64encode(struct.pack(f"<3{letter}", 1, 2, 3)).decode()
    attribute = {"vr": vr, "InlineBinary": inline}
    assert model[f"{tag:08X}"] == attribute
    assert model["00880200"]["Value"] == [{f"{tag:08X}": attribute}]
    compare([decoded])
    key = DEFINITIONS.keyword(tag)
    assert metadata(decoded.attributes, decoded.encoding, ENCODER)[key] == decoded.attributes[key]


def test_pixel_data_of_big_endian_files_has_the_words_of_its_vr() -> None:
    rows = element(0x7FE00010, "OB", b"abcd", big=True)
    assert ours(file(rows, syntax=make.BIG_ENDIAN))["7FE00010"]["InlineBinary"] == "YWJjZA=="
    numbers = file(element(0x7FE00010, "US", (1, 2), big=True), syntax=make.BIG_ENDIAN)
    assert ours(numbers)["7FE00010"] == {"vr": "US", "Value": [1, 2]}
    number = file(element(0x7FE00010, "US", 1, big=True), syntax=make.BIG_ENDIAN)
    assert metadata(number.attributes, number.encoding, ENCODER)["PixelData"] == 1


@pytest.mark.parametrize("vr", ["UN", "US"])
def test_what_may_have_several_vrs_in_big_endian_files_of_un(vr: str) -> None:
    words = element(0x00283006, "OW" if vr == "US" else vr, struct.pack(">2H", 1, 2), big=True)
    sequence = element(0x00283000, "SQ", make.item(words, big=True), big=True)
    decoded = file(
        element(0x00280106, vr, struct.pack(">H", 258), big=True),
        element(0x00281101, vr, struct.pack(">3H", 256, 0, 16), big=True),
        sequence,
        syntax=make.BIG_ENDIAN,
    )
    model = ours(decoded)
    assert model["00280106"] == {"vr": "US", "Value": [258]}
    assert model["00281101"] == {"vr": "US", "Value": [256, 0, 16]}
    inline = base64.b64encode(struct.pack("<2H", 1, 2)).decode()
    assert model["00283000"]["Value"] == [{"00283006": {"vr": "OW", "InlineBinary": inline}}]
    shown = metadata(decoded.attributes, decoded.encoding, ENCODER)
    assert shown["SmallestImagePixelValue"] == 258


def test_a_vr_that_is_none_in_big_endian_files() -> None:
    rows = struct.pack(">HH2sHH", 0x0028, 0x0010, b"ZZ", 2, 258)
    model = ours(file(rows, syntax=make.BIG_ENDIAN))
    assert model["00280010"] == {"vr": "US", "Value": [258]}


def test_encapsulated_pixel_data_is_not_turned_round() -> None:
    fragments = make.item(big=True) + make.item(b"ab", big=True)
    pixels = element(0x7FE00010, "OW", fragments, big=True, undefined=True)
    icon = element(0x00880200, "SQ", make.item(pixels, big=True), big=True)
    (inner,) = ours(file(icon, syntax=make.BIG_ENDIAN))["00880200"]["Value"]
    assert base64.b64decode(inner["7FE00010"]["InlineBinary"]) == fragments


@pytest.mark.parametrize("explicit", [False, True])
def test_encapsulated_pixel_data_in_items_is_ob(explicit: bool) -> None:
    """As at the top level, though the header says no VR."""
    pixels = element(0x7FE00010, "OB", make.item(b"ab"), explicit=explicit, undefined=True)
    icon = element(0x00880200, "SQ", make.item(pixels), explicit=explicit)
    decoded = file(icon, syntax=make.EXPLICIT if explicit else make.IMPLICIT)
    ((inner,),) = (item.values() for item in ours(decoded)["00880200"]["Value"])
    assert inner["vr"] == "OB"
    assert not compare([decoded]).kinds


def test_pixel_data_of_unknown_vr_is_ow() -> None:
    decoded = file(element(0x00280100, "US", 8), element(0x7FE00010, "UN", b"ab"))
    assert ours(decoded)["7FE00010"]["vr"] == "OW"
    assert theirs(decoded.dataset() or Dataset())["7FE00010"]["vr"] == "OB"


@pytest.mark.parametrize("tag", [0x00091001, 0x00081140, 0x00200020])
def test_what_is_unknown_and_has_an_undefined_length_is_a_sequence(tag: int) -> None:
    decoded = file(element(tag, "UN", undefined=True))
    assert list(ours(decoded).values()) == [{"vr": "SQ"}]
    assert not compare([decoded]).kinds
    assert of(0x00091001, "UN") == {"vr": "UN"}


@pytest.mark.parametrize("tag", [0x7FE00010, 0x00091001])
def test_bytes_of_defined_length_are_whole_whatever_they_end_with(tag: int) -> None:
    for content in (b"abcdefgh" + DELIMITER, make.encapsulate([[b"ab"]]) + DELIMITER):
        assert base64.b64decode(of(tag, "OW", content)["InlineBinary"]) == content


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("tag", [0x7FE00008, 0x7FE00010, 0x00091001])
def test_bytes_of_undefined_length_end_before_their_delimiter(tag: int, big: bool) -> None:
    fragments = make.item(big=big) + make.item(b"ab", big=big)
    item = make.item(element(tag, "OB", fragments, big=big, undefined=True), big=big)
    sequence = element(0x00880200, "SQ", item, big=big)
    decoded = file(sequence, syntax=make.BIG_ENDIAN if big else make.EXPLICIT)
    (icon,) = ours(decoded)["00880200"]["Value"]
    assert base64.b64decode(icon[f"{tag:08X}"]["InlineBinary"]) == fragments


@pytest.mark.parametrize("vr", ["OB", "OW", "OF", "OL", "OD", "OV"])
@pytest.mark.parametrize("big", [False, True])
def test_words_of_undefined_length_end_before_their_delimiter(vr: str, big: bool) -> None:
    """The delimiter of a big-endian file is turned round with the words."""
    content = make.item(big=big) + make.item(bytes(range(8)), big=big)
    syntax = make.BIG_ENDIAN if big else make.EXPLICIT
    item = make.item(element(0x00091001, vr, content, big=big, undefined=True), big=big)
    sequence = element(0x00880200, "SQ", item, big=big)
    (found,) = ours(file(sequence, syntax=syntax))["00880200"]["Value"]
    word = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}.get(vr, 1) if big else 1
    turned = b"".join(content[at : at + word][::-1] for at in range(0, len(content), word))
    assert base64.b64decode(found["00091001"]["InlineBinary"]) == turned


@pytest.mark.parametrize("vr", ["OB", "OD", "OF", "OL", "OV", "OW", "UN"])
def test_large_values_of_bytes_are_named(vr: str) -> None:
    large = bytes(range(200)) * 2
    uri = f"sha256:{hashlib.sha256(large).hexdigest()}"
    assert of(0x00091001, vr, large) == {"vr": vr, "BulkDataURI": uri}
    assert bulk_uri({"dataOffset": 12, "length": 300}) == "offset:12+300"


@pytest.mark.parametrize(("vr", "letter"), [(vr, code) for vr, code in NUMBER_FORMATS.items()])
@pytest.mark.parametrize("syntax", [make.EXPLICIT, make.BIG_ENDIAN])
def test_large_values_of_numbers_stand_in_full(vr: str, letter: str, syntax: str) -> None:
    numbers = list(range(150))
    big = syntax == make.BIG_ENDIAN
    value = struct.pack(f"{'>' if big else '<'}150{letter}", *numbers)
    values = [element(0x00091001, vr, value, big=big)]
    item = element(0x00081140, "SQ", make.item(values[0], big=big), big=big)
    decoded = file(item, *values, syntax=syntax)
    model = ours(decoded)
    assert model["00091001"] == {"vr": vr, "Value": numbers}
    assert model["00081140"]["Value"] == [{"00091001": model["00091001"]}]
    compare([decoded])


def test_large_values_that_are_not_of_their_vr_are_named_as_unknown() -> None:
    for vr in ("US", "FD", "AT"):
        said = of(0x00091001, vr, bytes(301))
        uri = f"sha256:{hashlib.sha256(bytes(301)).hexdigest()}"
        assert said == {"vr": "UN", "BulkDataURI": uri}


def test_file_meta_group_lengths_and_repeated_elements_are_left_out() -> None:
    decoded = fixture("wrecks/repeated.dcm")
    assert any("#" in key for key in decoded.attributes)
    model = ours(decoded)
    assert all(key[:4] != "0002" and key[4:] != "0000" for key in model)
    assert list(model) == sorted(model)
    document = metadata(decoded.attributes, decoded.encoding, ENCODER)
    assert all(key[0] != "_" and "#" not in key for key in document)


def test_elements_of_group_2_in_the_data_set_are_no_file_meta_information() -> None:
    group = element(0x00020010, "UI", "1.2") + element(0x00020016, "AE", "A")
    length = element(0x00020000, "UL", len(group))
    item = make.item(element(0x00020012, "UI", "1.3"))
    decoded = file(
        element(0x00081140, "SQ", item),
        element(0x00020010, "UI", "1.1"),
        element(0x00100010, "PN", "A^B"),
        length + group,
    )
    assert ours(decoded) == {
        "00020010": {"vr": "UI", "Value": ["1.2"]},
        "00020016": {"vr": "AE", "Value": ["A"]},
        "00081140": {
            "vr": "SQ",
            "Value": [{"00020012": {"vr": "UI", "Value": ["1.3"]}}],
        },
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "A^B"}]},
    }
    compare([decoded])
    document = metadata(decoded.attributes, decoded.encoding, ENCODER)
    assert list(document)[-4:] == [
        "ReferencedImageSequence",
        "TransferSyntaxUID#2",
        "PatientName",
        "SourceApplicationEntityTitle#1",
    ]
    assert document["TransferSyntaxUID"] == make.EXPLICIT
    assert document["TransferSyntaxUID#2"] == "1.2"
    assert document["FileMetaInformationGroupLength"] == len(make.file_meta()) - 12


def test_order_is_that_of_the_file() -> None:
    decoded = fixture("wrecks/order.dcm")
    dataset = decoded.dataset()
    assert dataset is not None
    document = metadata(decoded.attributes, decoded.encoding, ENCODER)
    tags = [DEFINITIONS.tag(key) for key in document]
    assert tags != sorted(tags)
    assert list(ours(decoded)) == sorted(ours(decoded))
    without = metadata(decoded.attributes, None, ENCODER)
    assert [DEFINITIONS.tag(key) for key in without] == sorted(DEFINITIONS.tag(k) for k in without)


def test_model_reads_back_in_pydicom() -> None:
    decoded = fixture("archive/encodings/every-vr-explicit.dcm")
    dataset = decoded.dataset()
    assert dataset is not None
    back = Dataset.from_json(ours(decoded), lambda uri: decoded.large[uri.removeprefix("sha256:")])
    for each in dataset:
        assert each.tag in back
        if each.VR in {"AE", "CS", "DS", "FD", "IS", "LO", "PN", "SV", "UI", "UV"}:
            assert repr(back[each.tag].value) == repr(each.value) or each.VM > 1, each
