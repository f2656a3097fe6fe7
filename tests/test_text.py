"""The text of values: examples of the standard, the two laws, pydicom, real and hostile bytes."""

from __future__ import annotations

import importlib
import importlib.util
import json
import pickle
import re
import time
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dicomstudy.text import _remembered, character_set, decode, decode_lenient, encode

if TYPE_CHECKING:
    from pydicom import Dataset

    from dicomstudy.text import CharacterSet

VECTORS = Path(__file__).parents[1] / "spec" / "vectors" / "text"
SINGLE = ("100", "101", "109", "110", "144", "127", "126", "138", "148", "203", "13", "166")
DOUBLE = ("87", "159", "149", "58")


@lru_cache
def alphabet(number: str) -> str:
    """The characters of a set above 7F, by Python's codecs and independent of the module."""
    singles = [bytes((code,)) for code in range(0x80, 0x100)]
    low = [bytes((a, b)) for a in range(0x21, 0x7F) for b in range(0x21, 0x7F)]
    high = [bytes((a, b)) for a in range(0xA1, 0xFF) for b in range(0xA1, 0xFF)]
    codec, codes = {
        "100": ("latin_1", singles),
        "101": ("iso8859_2", singles),
        "109": ("iso8859_3", singles),
        "110": ("iso8859_4", singles),
        "144": ("iso8859_5", singles),
        "127": ("iso8859_6", singles),
        "126": ("iso8859_7", singles),
        "138": ("iso8859_8", singles),
        "148": ("iso8859_9", singles),
        "203": ("iso8859_15", singles),
        "13": ("shift_jis", singles),
        "166": ("tis_620", singles),
        "87": ("iso2022_jp", [b"\x1b$B" + code for code in low]),
        "159": ("iso2022_jp_2", [b"\x1b$(D" + code for code in low]),
        "149": ("euc_kr", high),
        "58": ("gb2312", high),
        "GBK": ("gbk", high),
        "192": ("utf_8", [chr(code).encode() for code in range(0x80, 0x3000)]),
        "GB18030": ("gb18030", [chr(code).encode("gb18030") for code in range(0x80, 0x3000)]),
    }.get(number, ("ascii", [bytes((code,)) for code in range(0x20, 0x7F)]))
    return "".join(code.decode(codec, "ignore") for code in codes)


CHARSETS = [
    (),
    *((f"ISO_IR {number}",) for number in (*SINGLE, "192")),
    ("GB18030",),
    ("GBK",),
    *(("", f"ISO 2022 IR {number}") for number in (*SINGLE, *DOUBLE)),
    ("ISO 2022 IR 13", "ISO 2022 IR 87"),
    ("ISO 2022 IR 13", "ISO 2022 IR 87", "ISO 2022 IR 159"),
    ("ISO 2022 IR 100", "ISO 2022 IR 126", "ISO 2022 IR 144"),
    ("ISO 2022 IR 6", *(f"ISO 2022 IR {number}" for number in (*SINGLE, *DOUBLE))),
    ("ISO 2022 IR 149",),
    ("ISO 2022 IR 87",),
]
MIXED = "aé ^=\\\r\n\t\f~¥‾ąĦЖقΔשşนﾔﾞ山田鷗丂홍똠ㅤㄸㅗㅁ张東€\x80\x9b\x00\x7f😀"


def vectors(name: str) -> list[Any]:
    loaded = json.loads((VECTORS / name).read_text(encoding="utf-8"))
    assert isinstance(loaded, list)
    assert loaded
    return loaded


def options(vr: str) -> dict[str, bool]:
    return {"person_name": vr == "PN", "multi": vr not in {"ST", "LT", "UT", "UR"}}


@pytest.mark.parametrize("vector", vectors("good.json"), ids=lambda each: each["name"])
def test_good(vector: dict[str, Any]) -> None:
    charset = character_set(tuple(vector["character_set"]))
    raw = bytes.fromhex(vector["bytes"])
    assert decode(raw, charset, **options(vector["vr"])) == vector["text"]
    assert decode_lenient(raw, charset, **options(vector["vr"])) == vector["text"]
    written = encode(vector["text"], charset, **options(vector["vr"]))
    assert written is not None
    assert (written == raw) == vector["canonical"]
    assert decode(written, charset, **options(vector["vr"])) == vector["text"]


@pytest.mark.parametrize("vector", vectors("bad.json"), ids=lambda each: each["name"])
def test_bad(vector: dict[str, Any]) -> None:
    charset = character_set(tuple(vector["character_set"]))
    raw = bytes.fromhex(vector["bytes"])
    assert decode(raw, charset, **options(vector["vr"])) is None
    assert decode_lenient(raw, charset, **options(vector["vr"])) == vector["lenient"]


@pytest.mark.parametrize("vector", vectors("unencodable.json"), ids=lambda each: each["name"])
def test_unencodable(vector: dict[str, Any]) -> None:
    charset = character_set(tuple(vector["character_set"]))
    assert encode(vector["text"], charset, **options(vector["vr"])) is None


@pytest.mark.parametrize("vector", vectors("terms.json"), ids=lambda each: str(each["terms"]))
def test_terms(vector: dict[str, Any]) -> None:
    charset = character_set(tuple(vector["character_set"]))
    assert list(charset.terms) == vector["terms"]
    assert charset.extensions == vector["code_extensions"]
    assert [problem.code for problem in charset.problems] == vector["problems"]
    assert all(problem.tag == "00080005" for problem in charset.problems)
    again = character_set(charset.terms)
    assert (again.terms, again.codec) == (charset.terms, charset.codec)


def test_surrogates_are_not_encodable() -> None:
    for values in CHARSETS:
        assert encode("a\ud800", character_set(values)) is None


def test_character_set_survives_a_worker_process() -> None:
    values = ("ISO 2022 IR 13", "ISO 2022 IR 87", "ISO 2022 IR 159")
    charset = character_set(values)
    copy = pickle.loads(pickle.dumps(charset))  # noqa: S301 (our own bytes)
    assert copy.terms == charset.terms
    for text in ("ﾔ山A", "山\nﾔ", "鷗外"):
        assert encode(text, copy) == encode(text, charset)


charsets = st.sampled_from([character_set(values) for values in CHARSETS])
value_kinds = st.sampled_from([options("PN"), options("LO"), options("LT")])


@st.composite
def texts(draw: st.DrawFn) -> str:
    numbers = st.sampled_from([*SINGLE, *DOUBLE, "6"])
    pieces = st.one_of(
        st.text(st.sampled_from(MIXED), max_size=6),
        numbers.flatmap(lambda number: st.text(st.sampled_from(alphabet(number)), max_size=4)),
    )
    return "".join(draw(st.lists(pieces, max_size=5)))


@given(text=texts(), charset=charsets, kind=value_kinds)
def test_decode_mirrors_encode(text: str, charset: CharacterSet, kind: dict[str, bool]) -> None:
    raw = encode(text, charset, **kind)
    if raw is not None:
        assert decode(raw, charset, **kind) == text
        assert decode_lenient(raw, charset, **kind) == text


@given(values=st.sampled_from(CHARSETS), kind=value_kinds, data=st.data())
def test_every_declared_character_is_encoded(
    values: tuple[str, ...], kind: dict[str, bool], data: st.DataObject
) -> None:
    charset = character_set(values)
    numbers = [term.rpartition(" ")[2] for term in charset.terms]
    piece = st.sampled_from(numbers).flatmap(lambda each: st.text(alphabet(each), max_size=4))
    text = "".join(data.draw(st.lists(piece, max_size=4)))
    raw = encode(text, charset, **kind)
    assert raw is not None
    assert decode(raw, charset, **kind) == text


SEQUENCES = [
    b"\x1b" + each
    for each in (
        *(b"(B", b"(J", b")I", b"-A", b"-B", b"-C", b"-D", b"-F", b"-G", b"-H", b"-L", b"-M"),
        *(b"-T", b"-b", b"$B", b"$(D", b"$)C", b"$)A", b"", b"$", b"(Z", b"$@"),
    )
]
pieces = st.one_of(
    st.sampled_from(SEQUENCES),
    st.sampled_from([b"^", b"=", b"\\", b"\r\n", b"\t", b" ", b"\0", b"\x7f", b"\x0e"]),
    st.sampled_from([b";3ED", b"l?", b"\xb1\xe6", b"\xa4\xd4\xa4\xa8\xa4\xc7\xa4\xb1", b"abc"]),
    st.sampled_from([b"\xe5\xb1\xb1", b"\x81\x5c", b"\x84\x31\xa4\x37", b"\xd4\xcf"]),
    st.binary(max_size=3),
)
values = st.lists(pieces, max_size=10).map(b"".join)


@given(raw=values, charset=charsets, kind=value_kinds)
def test_any_bytes(raw: bytes, charset: CharacterSet, kind: dict[str, bool]) -> None:
    text = decode(raw, charset, **kind)
    lenient = decode_lenient(raw, charset, **kind)
    lenient.encode("utf-8")  # which refuses surrogates
    if text is None:
        return
    assert text == lenient
    assert "\x1b" not in text
    canonical = encode(text, charset, **kind)
    assert canonical is not None
    assert decode(canonical, charset, **kind) == text
    assert encode(text, charset, **kind) == canonical


@given(text=st.text(st.characters(max_codepoint=0x7F, exclude_characters="\x1b")), charset=charsets)
def test_ascii_is_ascii_everywhere(text: str, charset: CharacterSet) -> None:
    raw = text.encode("ascii")
    assert decode(raw, charset) == text
    assert encode(text, charset) == raw
    if not raw:
        return
    # the fast path gives what the codec of the general path gives
    assert raw.decode(charset.codec) == text


@given(raw=st.binary(), charset=charsets)
def test_without_escapes_the_general_path_agrees(raw: bytes, charset: CharacterSet) -> None:
    if charset.extensions and b"\x1b" not in raw:
        assert decode(b"\x1b(B" + raw, charset) == decode(raw, charset)


@pytest.mark.parametrize("number", [*SINGLE, *DOUBLE])
def test_every_code_of_a_set(number: str) -> None:
    """Each code decodes to one character that encodes to the same code, in a line of its own."""
    charset = character_set(("", f"ISO 2022 IR {number}"))
    escape = next(each.escape for each in charset.sets)
    low = [bytes((a, b)) for a in range(0x21, 0x7F) for b in range(0x21, 0x7F)]
    high = [bytes((a, b)) for a in range(0x80, 0x100) for b in range(0x80, 0x100)]
    single = [bytes((code,)) for code in range(0x80, 0x100)]
    codes = {"87": low, "159": low, "149": high, "58": high}.get(number, single)
    end = b"\x1b(B" if codes is low else b""
    found = 0
    for code in codes:
        raw = escape + code + end
        text = decode(raw, charset)
        if text is None:
            continue
        found += 1
        assert len(text) == 1
        assert text not in "\\^=\x1b"
        if text != "~":  # JIS X 0212 has a tilde of its own
            assert encode(text, charset) == raw
    assert found == len(alphabet(number))


@pytest.mark.parametrize(
    "blob",
    [
        b"\x1b" * 10_000_000,
        b"\x1b(B" * 1_000_000,
        b"\x1b$B" * 1_000_000,
        b"\x1b$B" + b";3" * 5_000_000 + b";",
        bytes(range(256)) * 40_000,
        b"\xa4\xd4" * 5_000_000,
        b"\x81" * 9_999_999,
        b"\x1b$(" * 3_000_000,
    ],
    ids=lambda blob: repr(blob[:6]),
)
@pytest.mark.parametrize("values", [("ISO 2022 IR 13", "ISO 2022 IR 87"), ("GB18030",), ()])
def test_hostile_values_take_linear_time(blob: bytes, values: tuple[str, ...]) -> None:
    charset = character_set(values)
    before = time.process_time()
    decode(blob, charset)
    decode_lenient(blob, charset, person_name=True)
    assert time.process_time() - before < 20


def test_hostile_terms() -> None:
    before = time.process_time()
    for value in ("ISO_IR " + "0" * 100_000 + "x", "ISO " * 100_000, "9" * 100_000):
        charset = character_set((value,))
        assert charset.terms == ("ISO_IR 6",)
        assert len(charset.problems[0].message) < 200
    assert time.process_time() - before < 5


def test_many_terms_are_few_problems_and_not_remembered() -> None:
    before = _remembered.cache_info().currsize
    charset = character_set(("ISO_IR 100", *("X",) * 10_000, "Y"))
    codes = [problem.code for problem in charset.problems]
    assert codes == ["text/misspelled-character-set", *["text/unknown-character-set"] * 2]
    charset = character_set(("ISO 2022 IR 100", *map(str, range(10_000)), "ISO 2022 IR 144"))
    assert len(charset.problems) == 16
    assert charset.terms[-1] == "ISO 2022 IR 144"
    assert _remembered.cache_info().currsize == before


pydicom_missing = importlib.util.find_spec("pydicom") is None


@pytest.mark.skipif(pydicom_missing, reason="pydicom is not installed")
@given(
    values=st.sampled_from([each for each in CHARSETS if "203" not in str(each)]), data=st.data()
)
def test_pydicom_reads_what_we_write(values: tuple[str, ...], data: st.DataObject) -> None:
    """One component each, since pydicom resets at other delimiters than the standard."""
    convert, read = pydicom_charset()
    charset = character_set(values)
    last = charset.terms[-1].rpartition(" ")[2]
    letters = [each for each in alphabet(last) if each not in "\\^=~" and each.isprintable()]
    text = data.draw(st.text(st.sampled_from(letters), max_size=8))
    raw = encode(text, charset)
    assert raw is not None
    assert read(raw, convert(list(values)), set()) == text


def pydicom_charset() -> tuple[Any, Any]:
    module = importlib.import_module("pydicom.charset")

    def read(raw: bytes, encodings: list[str], resets: set[int]) -> str:
        # pydicom 3.0 leaves the escape sequence of GB 2312 in the text
        text: str = module.decode_bytes(raw, encodings, resets)
        return text.replace("\x1b$)A", "")

    return module.convert_encodings, read


@pytest.mark.skipif(pydicom_missing, reason="pydicom is not installed")
@pytest.mark.parametrize(
    "vector",
    [each for each in vectors("good.json") if re.match(r"PS3\.5 [HIJK]", each["section"])],
    ids=lambda each: each["name"],
)
def test_pydicom_agrees_on_the_standard(vector: dict[str, Any]) -> None:
    convert, read = pydicom_charset()
    raw = bytes.fromhex(vector["bytes"])
    resets = {0x0A, 0x0C, 0x0D, 0x09} | ({0x5E, 0x3D} if vector["vr"] == "PN" else set())
    assert read(raw, convert(list(vector["character_set"])), resets) == vector["text"]


def differences(raw: bytes, charset: CharacterSet) -> set[str]:
    """What of the table in spec/text.md may make pydicom read other text."""
    found = set()
    parts = re.split(rb"(\x1b\$?[()-]?.)", raw)
    if b"\x1b$)A" in raw:
        found.add("ISO 2022 IR 58")
    if b"\x1b(J" in raw and "ISO 2022 IR 13" not in charset.terms:
        found.add("ESC ( J")
    for escape, body in zip(parts[1::2], parts[2::2], strict=True):
        behind = re.split(rb"[\^=\\\r\n\t]", body, maxsplit=1)[1:]
        if behind and not behind[0].isascii():
            found.add("resets")
        if escape == b"\x1b(B" and not body.isascii():
            found.add("after ESC ( B")
    return found


@st.composite
def written(draw: st.DrawFn) -> tuple[tuple[str, ...], str, bytes]:
    """Characters of two sets, the second one designated everywhere, or only sometimes."""
    singles = [each for each in SINGLE if each != "203"]
    first = draw(st.sampled_from(["6", *singles]))
    second = draw(st.sampled_from([each for each in (*singles, *DOUBLE) if each != first]))
    vr = draw(st.sampled_from(["PN", "LO", "LT"]))
    sets = {
        number: character_set(("", f"ISO 2022 IR {number}")).sets[0]
        for number in {first, second} - {"6"}
    }
    ends = [b"\x1b(B", b"\x1b(J", *(each.escape for each in sets.values() if not each.double)]

    def letters(number: str) -> bytes:
        if number == "6":
            return b"Ab"
        known = st.sampled_from([each for each in alphabet(number) if each not in "~\xa0"])
        raw = encode(draw(known), character_set(("", f"ISO 2022 IR {number}")))
        assert raw is not None
        return raw.removeprefix(sets[number].escape).removesuffix(b"\x1b(B")

    raw = b""
    for place in range(draw(st.integers(1, 5))):
        if place:
            raw += draw(
                st.sampled_from({"PN": b"^=\\", "LO": b"\\,", "LT": b"\r\n\t\\,"}[vr])
            ).to_bytes()
        number = draw(st.sampled_from([first, second, second]))
        if number != second:
            raw += letters(number)
        elif sets[second].double:
            raw += sets[second].escape + letters(second) + draw(st.sampled_from(ends))
            raw += draw(st.sampled_from([b"", b"Ab"]))
        else:
            raw += draw(st.sampled_from([sets[second].escape, b""])) + letters(second)
    return (f"ISO 2022 IR {first}", f"ISO 2022 IR {second}"), vr, raw


@pytest.mark.skipif(pydicom_missing, reason="pydicom is not installed")
@pytest.mark.filterwarnings("ignore")
@given(value=written())
def test_pydicom_reads_the_same_but_for_what_the_page_says(
    value: tuple[tuple[str, ...], str, bytes],
) -> None:
    values, vr, raw = value
    charset = character_set(values)
    assume(decode(raw, charset, **options(vr)) is not None)  # vectors have what is not valid
    convert, _ = pydicom_charset()
    module = importlib.import_module("pydicom.values")
    reader = {"PN": "convert_PN", "LO": "convert_text", "LT": "convert_single_string"}[vr]
    theirs = getattr(module, reader)(raw, convert(list(values)))
    if (not isinstance(theirs, str) and vr != "PN") or type(theirs).__name__ == "MultiValue":
        theirs = "\\".join(map(str, theirs))
    mine = decode_lenient(raw, charset, **options(vr))
    if [part.rstrip("=") for part in str(theirs).split("\\")] != [
        part.rstrip("=") for part in mine.split("\\")
    ]:
        assert differences(raw, charset)


def real_files() -> list[Path]:
    found = []
    for package, below in (("pydicom", "data/charset_files"), ("data_store", "data")):
        spec = importlib.util.find_spec(package)
        for place in (spec and spec.submodule_search_locations) or ():
            found += sorted((Path(place) / below).glob("*.dcm"))
    return found


@pytest.mark.skipif(pydicom_missing, reason="pydicom is not installed")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", real_files(), ids=lambda path: path.stem)
def test_real_files_as_pydicom_reads_them(path: Path) -> None:
    dicom = importlib.import_module("pydicom")
    dataset = dicom.dcmread(path, stop_before_pixels=True, force=True)
    compare(dataset, raw_values(dataset), ())


TEXT_VRS = {"PN", "LO", "SH", "LT", "ST", "UT", "UC"}


def raw_values(dataset: Dataset) -> dict[int, tuple[str, bytes]]:
    """The text values before pydicom turns them into its own."""
    found = {}
    for tag in list(dataset.keys()):
        element = dataset.get_item(tag)
        if isinstance(getattr(element, "value", None), bytes) and element.VR in TEXT_VRS:
            found[int(tag)] = (element.VR, element.value)
    return found


def compare(
    dataset: Dataset, raws: dict[int, tuple[str, bytes]], inherited: tuple[str, ...]
) -> None:
    named = dataset.get("SpecificCharacterSet")
    own = (named,) if isinstance(named, str) else tuple(named or inherited)
    charset = character_set(own)
    for tag, (vr, raw) in raws.items():
        text = decode(raw, charset, **options(vr))
        if text is None:
            text = decode_lenient(raw, charset, **options(vr))
        else:
            written = encode(text, charset, **options(vr))
            assert written is not None
            assert decode(written, charset, **options(vr)) == text
        value = dataset[tag].value
        seen = [str(each) for each in value] if dataset[tag].VM > 1 else [str(value or "")]
        mine = text.split("\\") if options(vr)["multi"] else [text]
        assert [each.rstrip(" \0=") for each in mine] == [each.rstrip(" \0=") for each in seen]
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                compare(item, raw_values(item), own)
