from __future__ import annotations

import copy
import hashlib
import pickle
import random
import signal
import time
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from functools import partial
from io import BytesIO
from math import isnan
from pathlib import Path
from typing import Any

import pytest
from amazon.ion import core, simpleion
from hypothesis import given
from hypothesis import strategies as st

from dicomstudy import ion
from dicomstudy.errors import IonError
from dicomstudy.ion import (
    Symbol,
    Value,
    checks,
    dumps,
    hashing,
    ion_hash,
    ion_hash_hex,
    load_all,
    loads,
    quick,
)
from dicomstudy.ion.binary import check_binary
from tests.samples import chance_of

VECTORS = Path(__file__).parents[1] / "spec" / "vectors" / "ion-hash"
MARK = b"\xe0\x01\x00\xea"


def varuint(value: int) -> bytes:
    digits = [value & 0x7F | 0x80]
    while value := value >> 7:
        digits.append(value & 0x7F)
    return bytes(reversed(digits))


# Values.

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
decimals = st.builds(
    lambda sign, digits, exponent: Decimal((sign, tuple(digits), exponent)),
    st.integers(0, 1),
    st.lists(st.integers(0, 9), min_size=1, max_size=34),
    st.integers(-6000, 6000),
)
zones = st.builds(lambda minutes: timezone(timedelta(minutes=minutes)), st.integers(-1439, 1439))
moments = st.datetimes(
    datetime(2, 1, 1),  # noqa: DTZ001
    datetime(9998, 1, 1),  # noqa: DTZ001
    timezones=st.one_of(st.none(), zones),
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**128) + 1, 2**128 - 1)
    | st.floats(allow_nan=False)
    | decimals
    | moments
    | texts
    | st.binary(max_size=300)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=25,
)
structs = st.dictionaries(texts, values, max_size=8)


def error_code(action: Callable[[], object]) -> str:
    with pytest.raises(IonError) as caught:
        action()
    return caught.value.code


def typed(value: object) -> object:
    """A form in which 1, True, 1.0 and Decimal(1) differ, as they do in Ion."""
    if isinstance(value, list):
        return [typed(item) for item in value]
    if isinstance(value, dict):
        return {name: typed(item) for name, item in value.items()}
    if isinstance(value, Decimal):
        return Decimal, value.as_tuple()
    if isinstance(value, datetime):
        return datetime, value.replace(tzinfo=None), value.utcoffset()
    return type(value), repr(value)


def nested(depth: int, wrap: Callable[[Any], Any]) -> Value:
    value: Any = None
    for _ in range(depth):
        value = wrap(value)
    return value


# The mirror.


@pytest.mark.parametrize("text", [False, True])
@given(value=values)
def test_loads_gives_back_what_dumps_wrote(*, text: bool, value: Value) -> None:
    assert typed(loads(dumps(value, text=text))) == typed(value)


@given(value=values)
def test_the_hash_does_not_depend_on_the_encoding(value: Value) -> None:
    digest = ion_hash(value)
    assert len(digest) == 32
    assert ion_hash(loads(dumps(value))) == digest
    assert ion_hash(loads(dumps(value, text=True))) == digest


@given(struct=structs)
def test_fields_keep_their_order(struct: dict[str, Any]) -> None:
    assert list(loads(dumps(struct))) == list(struct)
    assert list(loads(dumps(struct, text=True))) == list(struct)


@given(documents=st.lists(structs, max_size=4))
def test_joined_results_are_a_stream(documents: list[dict[str, Any]]) -> None:
    assert load_all(b"".join(map(dumps, documents))) == documents
    assert load_all(b"".join(dumps(one, text=True) for one in documents)) == documents


@pytest.mark.parametrize("text", [False, True])
@given(texts=st.lists(texts))
def test_symbols_come_back_as_text(*, text: bool, texts: list[str]) -> None:
    loaded = loads(dumps(list(map(Symbol, texts)), text=text))
    assert loaded == texts
    assert all(type(item) is str for item in loaded)


@pytest.mark.parametrize("text", [False, True])
@given(value=values)
def test_what_is_written_sooner_is_written_alike(*, text: bool, value: Value) -> None:
    sooner = quick(value)
    assert dumps(sooner, text=text) == dumps(value, text=text)
    assert ion_hash(sooner) == ion_hash(value)


def test_a_repeated_symbol_is_written_once() -> None:
    digests = [hashlib.sha256(bytes([i])).hexdigest() for i in range(10)]
    as_symbols = dumps([{"_groups": list(map(Symbol, digests))} for _ in range(100)])
    as_text = dumps([{"_groups": digests} for _ in range(100)])
    assert len(as_symbols) < len(as_text) / 10


def test_nan_comes_back() -> None:
    for text in (False, True):
        assert isnan(loads(dumps(float("nan"), text=text)))


# Text.


def test_text_is_indented_and_quoted_only_where_needed() -> None:
    value = {
        "StudyInstanceUID": "1.2.840",
        "1.2.3": {"c252": None, "_groups": [Symbol("c252"), Symbol("4a06"), Symbol("null")]},
        "it's": 'say "hi"\\\n\x00é',
        "Rows": 512,
        "FileMetaInformationVersion": b"\x00\x01",
        "empty": [{}, [], b"", ""],
        "numbers": [1.5, 1e300, 2.0, float("inf"), Decimal("1.50"), Decimal(3), Decimal("1E+3")],
        "truth": [True, False],
        "when": datetime(2021, 2, 12, 14, 24, 6, 124000, tzinfo=UTC),
    }
    assert (
        dumps(value, text=True).decode()
        == r"""{
  StudyInstanceUID: "1.2.840",
  '1.2.3': {
    c252: null,
    _groups: [
      c252,
      '4a06',
      'null'
    ]
  },
  'it\'s': "say \"hi\"\\\n\u0000é",
  Rows: 512,
  FileMetaInformationVersion: {{AAE=}},
  empty: [
    {},
    [],
    {{}},
    ""
  ],
  numbers: [
    1.5e0,
    1e+300,
    2.0e0,
    +inf,
    1.50,
    3d0,
    1d+3
  ],
  truth: [
    true,
    false
  ],
  when: 2021-02-12T14:24:06.124000Z
}
"""
    )


@pytest.mark.parametrize("name", ["null", "true", "false", "nan", "$10", "$x", "", "a b", "é", "1"])
def test_names_that_need_quotes_get_them(name: str) -> None:
    assert loads(dumps({name: 1}, text=True)) == {name: 1}
    assert dumps(Symbol(name), text=True).startswith(b"'")


@pytest.mark.parametrize("size", [5_000, 3_000_000])
def test_long_strings_and_blobs_in_text(size: int) -> None:
    value = {"text": "x" * size, "blob": b"x" * size, "y" * size: 1}
    assert loads(dumps(value, text=True)) == value
    assert loads(dumps(value)) == value


def test_dollar_amounts_in_text_are_no_symbol_numbers() -> None:
    value = {"$11805717411": "$11805717411", "a": ["\\", "$999999999", "//", "'"]}
    assert loads(dumps(value, text=True)) == value
    assert loads(b"/* $11805717411 */ 1 // $11805717411") == 1


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('{"$4": 1}', "$4"),
        ('{"$10" /* : */ // :\n : 1}', "$10"),
        (r'{"\x247": 1}', "$7"),
        (r'{"\u0024999999999999": 1}', "$999999999999"),
        (r'{"\U0000002499999999999999999999": 1}', "$99999999999999999999"),
        ('{"\\\n$4": 1}', "$4"),
        (r"""{"$a'b\'c\"d": 1}""", "$a'b'c\"d"),
        ("{'''a$4''': 1}", "a$4"),
        ("{'''''' '''a''' : 1}", "a"),
        ("{'$4': 1}", "$4"),
        ('{// x\r"$4": 1}', "$4"),
        ('{"$4" // :\r : 1}', "$4"),
    ],
)
def test_quoted_names_of_fields_are_no_symbol_numbers(text: str, name: str) -> None:
    assert loads(text.encode()) == {name: 1}
    assert loads(f"[{{a: [{text}]}}]".encode()) == [{"a": [{name: 1}]}]


def test_strings_that_are_no_names_may_look_like_symbol_numbers() -> None:
    text = """["$4", '''$4''', '''''' '''$4''', "\\x244", "a:", {'a': "$4"}]"""
    assert loads(text.encode()) == ["$4", "$4", "$4", "$4", "a:", {"a": "$4"}]


@pytest.mark.parametrize("name", ["'''$4'''", "'''$999999999999'''", "'''''' /* */ '''\\x244'''"])
def test_names_in_three_quotes_that_look_like_symbol_numbers(name: str) -> None:
    with pytest.raises(IonError, match="three quotes") as caught:
        loads(f"{{{name}: 1}}".encode())
    assert caught.value.code == "ion/unsupported-type"


@pytest.mark.parametrize(
    "text",
    [
        '{"$11805717411"}',
        '{"$11805717411", 1',
        "{'''$11805717411'''}",
        '{a: [1, {}], /* */ "\\x2411805717411" // x\r',
        "(*//$11805717411",
        "(-/*$11805717411*/ 1)",
    ],
)
def test_what_the_library_would_read_without_end(text: str) -> None:
    assert error_code(partial(loads, text.encode())) in {"ion/malformed", "ion/unsupported-type"}


def test_strings_may_look_like_symbol_numbers_wherever_values_stand() -> None:
    text = '{a: "$11805717411", "b": ["$11805717411", {c: 1}, "$11805717411"], d: /* , */ "$4"}'
    dollars = "$11805717411"
    assert loads(text.encode()) == {"a": dollars, "b": [dollars, {"c": 1}, dollars], "d": "$4"}


def symbols(*texts: str, more: bool = False) -> bytes:
    """A symbol table; `more`: to those that are known."""
    listed = b"".join(bytes([0x80 | len(text)]) + text.encode() for text in texts)
    fields = b"\x86\x71\x03" * more + b"\x87\xbe" + varuint(len(listed)) + listed
    struct = b"\x81\x83\xde" + varuint(len(fields)) + fields
    return b"\xee" + varuint(len(struct)) + struct


ONE = b"\x21\x01"


@pytest.mark.parametrize(
    ("table", "name", "numbers"),
    [
        (symbols("a", "a"), "a", b"\x8a\x8b"),
        (symbols("a") + symbols("a", more=True), "a", b"\x8a\x8b"),
        (symbols("name"), "name", b"\x84\x8a"),
    ],
    ids=["in one table", "in two", "of Ion itself"],
)
def test_two_symbols_of_one_text_are_one_name(table: bytes, name: str, numbers: bytes) -> None:
    first, second = numbers[:1], numbers[1:]
    with pytest.raises(IonError) as caught:
        loads(MARK + table + b"\xd6" + first + ONE + second + ONE)
    assert caught.value.code == "ion/repeated-field"
    for number in (first, second):
        assert loads(MARK + table + b"\xd3" + number + ONE) == {name: 1}


def test_tables_of_their_own_may_have_the_same_texts() -> None:
    one = symbols("a") + b"\xd3\x8a" + ONE
    assert not check_binary(MARK + one + one + MARK + one)
    assert load_all(MARK + one + one + MARK + one) == [{"a": 1}] * 3


@pytest.mark.parametrize("text", [False, True])
def test_a_symbol_that_would_be_a_version_mark_is_not_written(*, text: bool) -> None:
    with pytest.raises(IonError) as caught:
        dumps(Symbol("$ion_1_0"), text=text)
    assert caught.value.code == "ion/unsupported-value"
    assert loads(dumps([Symbol("$ion_1_0")], text=text)) == ["$ion_1_0"]


# Timestamps.


@pytest.mark.parametrize(
    "source",
    [
        "2021T",
        "2021-02T",
        "2021-02-12",
        "2021-02-12T14:24Z",
        "2021-02-12T14:24:06-00:00",
        "2021-02-12T14:24:06.1+01:00",
        "2021-02-12T14:24:06.124Z",
        "2021-02-12T14:24:06.123456-12:34",
    ],
)
def test_timestamps_keep_their_precision(source: str) -> None:
    value: Any = loads(source.encode())
    assert type(value) is ion.Timestamp
    assert dumps(value, text=True).decode().strip() == source
    unpickled = pickle.loads(pickle.dumps(value))  # noqa: S301
    for copied in (unpickled, copy.deepcopy(value), loads(dumps(value))):
        assert copied == value
        assert ion_hash(copied) == ion_hash(value)
        assert dumps(copied, text=True).decode().strip() == source


def test_a_timestamp_equals_the_datetime_of_the_moment() -> None:
    assert loads(b"[{at: 2021-02-12T14:24:06.5Z}]") == [
        {"at": datetime(2021, 2, 12, 14, 24, 6, 500000, tzinfo=UTC)}
    ]


@pytest.mark.parametrize(
    "fraction",
    [
        *("8269999", "826999999", "8269999999", "826999999999998", "82699999999999800000"),
        *("1234567891", "2147483647", "001000000000"),
    ],
)
def test_seconds_finer_than_a_datetime_are_cut(fraction: str) -> None:
    quoted = "14:33:30.826999999999998"
    source = f'["{quoted}", {{a: 2021-02-12T14:33:30.{fraction}Z}}]'.encode()
    moment = datetime(2021, 2, 12, 14, 33, 30, int(fraction[:6]), tzinfo=UTC)
    assert loads(source) == [quoted, {"a": moment}]
    coefficient = int(fraction).to_bytes(9, "big").lstrip(b"\0")
    encoded = bytes.fromhex("800fe5828c8ea19e") + bytes([0xC0 | len(fraction)]) + coefficient
    encoded = b"\x6e" + varuint(len(encoded)) + encoded
    binary = MARK + b"\xbe" + varuint(len(encoded) + 2) + b"\x21\x01" + encoded
    assert loads(binary) == [1, moment]
    assert ion_hash(loads(binary)[1]) == ion_hash(loads(source)[1]["a"])


def test_no_other_number_of_text_is_cut() -> None:
    source = b"{a:12.34567891,b:12.3456789e0,c:2021-02-12T14:33:30.826999999999998Z}"
    (value,) = ion.load_all(source)
    assert isinstance(value, dict)
    assert (value["a"], value["b"]) == (Decimal("12.34567891"), 12.3456789)
    assert value["c"] == datetime(2021, 2, 12, 14, 33, 30, 826999, tzinfo=UTC)


def test_a_negative_fraction_is_no_other_moment() -> None:
    moment = bytes.fromhex("800fe5828c8ea19ec781")  # 10^-7 seconds before
    data = MARK + b"\x6e" + varuint(len(moment)) + moment
    assert error_code(partial(loads, data)) in {"ion/malformed", "ion/unsupported-type"}


@pytest.mark.parametrize(
    "fraction",
    ["c9", "4089", "c9075bcd15", "4089075bcd15", "c900000000075bcd15"],
    ids=["zero", "zero of two bytes", "one byte", "two bytes", "zeros in front"],
)
def test_any_form_of_a_fine_fraction_is_cut(fraction: str) -> None:
    moment = bytes.fromhex("c00fe5828c8ea19e" + fraction)
    value: Any = loads(MARK + b"\x6e" + varuint(len(moment)) + moment)
    assert value.microsecond == (123456 if "075bcd15" in fraction else 0)


@pytest.mark.parametrize("time_of_day", ["9880", "9980", "84bc", "84cb", "008584", "840085"])
@pytest.mark.parametrize("seconds", ["", "80"])
def test_hours_and_minutes_that_no_day_has(time_of_day: str, seconds: str) -> None:
    moment = bytes.fromhex("800fe58283" + time_of_day + seconds)
    for head in (bytes([0x60 | len(moment)]), b"\x6e" + varuint(len(moment))):
        with pytest.raises(IonError) as caught:
            loads(MARK + b"\xbe" + varuint(len(head + moment)) + head + moment)
        assert caught.value.code == "ion/malformed"


@pytest.mark.parametrize("cut", ["800fe58283848005", "800fe582838485864005", "800fe88101"])
def test_a_timestamp_that_ends_inside_a_number(cut: str) -> None:
    moment = bytes.fromhex(cut)
    whole = bytes.fromhex("6b800fe58283848586c9075b")
    with pytest.raises(IonError) as caught:
        load_all(MARK + whole + bytes([0x60 | len(moment)]) + moment + b"\x80")
    assert caught.value.code == "ion/malformed"


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Tokyo"])
def test_the_zone_of_the_machine_says_nothing(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        first, last = datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59)  # noqa: DTZ001 (naive)
        for value in (loads(b"0001T"), first, last):
            assert loads(dumps(value)) == value
    finally:
        monkeypatch.undo()
        time.tzset()


# What is refused.


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    "value",
    [
        bytearray(b"a"),
        memoryview(b"a"),
        (1, 2),
        {1, 2},
        1j,
        object(),
        Text("a"),
        simpleion.IonPyNull(),
        Decimal("NaN"),
        Decimal("-Infinity"),
        Decimal("1E+6001"),
        "\ud800",
        Symbol("\ud800"),
        {"\ud800": 1},
        {1: 1},
        {None: 1},
        {b"a": 1},
        datetime(2021, 1, 1, tzinfo=timezone(timedelta(seconds=90))),
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
    ],
    ids=lambda value: repr(value).partition(" at 0x")[0],
)
def test_values_that_ion_does_not_hold(value: Value) -> None:
    for whole in (value, [1, value, 2], {"a": {"b": value}}):
        assert error_code(partial(dumps, whole)) == "ion/unsupported-value"
        assert error_code(partial(dumps, whole, text=True)) == "ion/unsupported-value"
        assert error_code(partial(ion_hash, whole)) == "ion/unsupported-value"


@pytest.mark.parametrize(
    "value",
    [2**128, -(2**128), 10**5000, Decimal("1" * 35)],
    ids=["129 bits", "-129 bits", "5001 digits", "35 decimal digits"],
)
def test_numbers_beyond_what_the_library_keeps(value: Value) -> None:
    assert error_code(lambda: dumps(value)) == "ion/unsupported-value"
    assert error_code(lambda: dumps([value], text=True)) == "ion/unsupported-value"


def test_the_message_names_the_field() -> None:
    with pytest.raises(IonError, match=r"bytearray \(field PixelData\)"):
        dumps([{"a": [{"PixelData": bytearray()}]}])


@pytest.mark.parametrize("kind", [0x2E, 0x3E, 0x5E, 0x6E])
def test_long_numbers_are_refused_before_the_library_reads_them(kind: int) -> None:
    """It takes hours for one of a megabyte."""
    for count in (65, 10_000):
        length = bytes((count >> 7, count & 0x7F | 0x80))
        data = b"\xe0\x01\x00\xea" + bytes((kind,)) + length + b"\xff" * count
        assert error_code(partial(loads, data)) == "ion/unsupported-type"


@pytest.mark.parametrize(
    ("head", "digit", "rest"),
    [
        *(("", "9", ""), ("-", "9", ""), ("0x", "f", ""), ("-0X", "F", ""), ("0b", "1", "")),
        *(("", "9_", "9"), ("1d", "1", ""), ("1e", "1", ""), ("", "9", ".5e0")),
    ],
)
def test_long_numbers_of_text_are_refused_too(head: str, digit: str, rest: str) -> None:
    number = head + digit * 10_000 + rest
    assert error_code(partial(loads, f"[{number}]".encode())) == "ion/unsupported-type"
    assert loads(f'["{number}", {{a: 1}}]'.encode()) == [number, {"a": 1}]


def test_what_is_long_and_no_number_is_read() -> None:
    ones = "1" * 10_000
    assert loads(f"[0.{ones}e0, a{ones}]".encode()) == [1 / 9, f"a{ones}"]
    assert loads(f"[{{{{{ones}}}}}]".encode()) == [b64decode(ones)]


@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: {"a": v}], ids=["lists", "structs"])
def test_depth_is_limited_alike_for_writing_and_reading(wrap: Callable[[Any], Any]) -> None:
    deepest = nested(ion.MAX_DEPTH, wrap)
    for text in (False, True):
        assert loads(dumps(deepest, text=text)) == deepest
    ion_hash(deepest)
    for depth in (ion.MAX_DEPTH + 1, 100_000):
        deeper = nested(depth, wrap)
        assert error_code(partial(dumps, deeper)) == "ion/too-deep"
        assert error_code(partial(dumps, deeper, text=True)) == "ion/too-deep"
        assert depth < 1000 or error_code(partial(ion_hash, deeper)) == "ion/too-deep"


def binary_nest(kind: int, depth: int) -> bytes:
    parts: list[bytes] = []
    length = 0
    for _ in range(depth):
        field = b"\x84" if kind == 0xD0 and parts else b""  # $4, "name"
        length += len(field)
        head = bytes([kind | 14]) + varuint(length)
        length += len(head)
        parts.append(head + field)
    return MARK + b"".join(reversed(parts))


@pytest.mark.parametrize("depth", [ion.MAX_DEPTH + 1, 5_000, 100_000])
def test_deep_input_is_refused(depth: int) -> None:
    for data in (
        b"[" * depth + b"]" * depth,
        b"{a:" * depth + b"1" + b"}" * depth,
        binary_nest(0xB0, depth),
        binary_nest(0xD0, depth),
    ):
        assert error_code(partial(loads, data)) == "ion/too-deep"


@pytest.mark.parametrize("data", [b"[" * 100_000, b"{a:" * 100_000, b"((((" * 50_000])
def test_deep_input_without_an_end_is_refused(data: bytes) -> None:
    codes = {"ion/too-deep", "ion/malformed", "ion/unsupported-type"}
    assert error_code(partial(loads, data)) in codes


def test_a_value_that_contains_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    assert error_code(lambda: dumps(value)) == "ion/too-deep"
    assert error_code(lambda: ion_hash(value)) == "ion/too-deep"


def limit_size(patch: pytest.MonkeyPatch, size: int) -> None:
    for module in (ion, checks):
        patch.setattr(module, "MAX_BYTES", size)


def test_size_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    limit_size(monkeypatch, 10_000)
    for value in (b"x" * 10_000, ["é" * 6_000], [0] * 10_000, {"a" * 9_990: 1}):
        assert error_code(partial(dumps, value)) == "ion/too-large"
    assert error_code(partial(dumps, b"x" * 9_000, text=True)) == "ion/too-large"
    assert error_code(partial(loads, b" " * 10_001)) == "ion/too-large"


@given(value=values)
def test_the_size_that_is_checked_is_an_upper_bound(value: Value) -> None:
    size = len(dumps(value))
    with pytest.MonkeyPatch.context() as patch:
        limit_size(patch, size - len(MARK) - 20)  # 20: the table's own frame
        assert error_code(lambda: dumps(value)) == "ion/too-large"


def test_without_the_c_extension_nothing_works_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simpleion, "c_ext", False)
    assert error_code(lambda: dumps(1)) == "ion/no-c-extension"
    assert error_code(lambda: loads(b"1")) == "ion/no-c-extension"


def test_every_prefix_of_a_document_is_refused() -> None:
    document = {"a": ["text", 1, 1.5, {"b": Symbol("symbol")}], "c": b"\x00" * 300}
    for text, end in ((False, 0), (True, 2)):  # the last brace and line break
        data = dumps(document, text=text)
        for length in range(len(data) - end):
            with pytest.raises(IonError):
                loads(data[:length])


@pytest.mark.parametrize("names", [("018a", "018a"), ("008a", "8a"), ("00018a", "018a")])
def test_fields_of_one_symbol_number_are_refused_however_it_is_written(
    names: tuple[str, str],
) -> None:
    fields = b"".join(bytes.fromhex(name) + b"\x20" for name in names)
    with pytest.raises(IonError) as caught:
        loads(b"\xe0\x01\x00\xea" + bytes([0xD0 + len(fields)]) + fields)
    assert caught.value.code == "ion/repeated-field"


def test_fields_whose_symbol_numbers_end_in_the_same_byte() -> None:
    struct = {f"name{i}": i for i in range(20_000)}
    assert loads(dumps(struct)) == struct


RICH: dict[str, Any] = {
    "a": [1, -5, 2**70, 1.5, Decimal("1.25"), Decimal("-0"), "é\n", Symbol("x y"), b"abc", None],
    "b": {"c": [[], [{}], True, datetime(2020, 1, 2, 3, 4, 5, 6, tzinfo=UTC)]},
}


@pytest.mark.parametrize("text", [False, True])
@given(seed=st.integers(0, 2**32))
def test_damaged_bytes_are_refused_or_read_consistently(*, text: bool, seed: int) -> None:
    damage = random.Random(seed)  # noqa: S311
    data = bytearray(dumps(RICH, text=text))
    for _ in range(damage.randint(1, 4)):
        at = damage.randrange(len(data))
        if damage.random() < 0.6:
            data[at] ^= 1 << damage.randrange(8)
        elif damage.random() < 0.5:
            del data[at : at + damage.randint(1, 8)]
        else:
            data[at:at] = damage.randbytes(damage.randint(1, 6))
    try:
        loaded = load_all(bytes(data))
        again = [loads(dumps(value)) for value in loaded]
    except IonError:
        return
    assert list(map(ion_hash, again)) == list(map(ion_hash, loaded))


# Ion Hash.


def test_the_published_hash_of_the_empty_struct() -> None:
    expected = "dc3ff8e550c833236bbee92d163762698b7b0b7b68a1af1b060243580741b7a6"
    assert ion_hash_hex({}) == expected
    assert ion_hash({}) == bytes.fromhex(expected)


@given(struct=structs, seed=st.integers())
def test_the_hash_does_not_depend_on_the_order_of_fields(struct: dict[str, Any], seed: int) -> None:
    fields = list(struct.items())
    random.Random(seed).shuffle(fields)  # noqa: S311
    assert ion_hash(dict(fields)) == ion_hash(struct)


@given(first=values, second=values)
def test_different_values_have_different_hashes(first: Value, second: Value) -> None:
    assert (ion_hash(first) == ion_hash(second)) == (typed(first) == typed(second))


def test_equal_in_python_is_not_equal_in_ion() -> None:
    alike: list[Value] = [
        1,
        True,
        1.0,
        Decimal(1),
        Decimal("1.0"),
        "1",
        b"1",
        Symbol("1"),
        None,
        "",
        [],
        {},
    ]
    for wrapped in (alike, [{"a": value} for value in alike], [[value] for value in alike]):
        for _ in range(2):  # the second time from the memo
            assert len(set(map(ion_hash, wrapped))) == len(alike)
    assert ion_hash({"a": None}) != ion_hash({})
    assert ion_hash({"a": 0.0}) != ion_hash({"a": -0.0})


@given(value=values)
def test_the_memo_changes_no_hash(value: Value) -> None:
    struct = {"a": value, "b": value, "c": [{"a": value}]}
    fresh = hashing._Hasher(hashing._sha256)
    assert fresh.digest(struct) == ion_hash(struct) == ion_hash(struct)


def test_long_values_are_not_kept_in_memory() -> None:
    hasher = hashing._Hasher(hashing._sha256)
    hasher.digest({"a": "x" * 300, "b": b"x" * 300, "c": 1.5, "d": [1], "e": "short"})
    assert hasher._field.cache_info().currsize == 1


# Vectors of this specification.


def vectors(folder: str) -> Iterator[Any]:
    files = sorted((VECTORS / folder).glob("*.ion"))
    assert files
    for file in files:
        rows: Any = loads(file.read_bytes())
        assert rows
        yield from rows


def test_good_vectors() -> None:
    for row in vectors("good"):
        assert ion_hash_hex(row["value"]) == row["hash"], row["name"]
        assert ion_hash_hex(loads(dumps(row["value"]))) == row["hash"], row["name"]


def test_equivalent_vectors() -> None:
    for alike in vectors("equivs"):
        assert len(set(map(ion_hash, alike))) == 1, alike


def test_different_vectors() -> None:
    for different in vectors("non-equivs"):
        assert len(set(map(ion_hash, different))) == len(different), different


def test_bad_vectors() -> None:
    codes = set()
    for row in vectors("bad"):
        data = row["input"]
        with pytest.raises(IonError) as caught:
            loads(data.encode() if isinstance(data, str) else data)
        assert caught.value.code == row["code"], row["name"]
        codes.add(row["code"])
    assert codes >= {"ion/malformed", "ion/not-one-value", "ion/repeated-field"}


# The official vectors of Ion Hash, and documents by other authors.


class UnsupportedError(Exception):
    """A value of the official vectors that plain values cannot hold."""


def unsupported(value: Value) -> str | None:
    kind = value.ion_type
    if value.ion_annotations:
        return "annotation"
    if isinstance(value, simpleion.IonPyNull):
        return None if kind is core.IonType.NULL else "typed null"
    if kind in (core.IonType.CLOB, core.IonType.SEXP):
        return str(kind.name.lower())
    if kind is core.IonType.SYMBOL and value.text is None:
        return "symbol without text"
    if kind is core.IonType.STRUCT and None in value:
        return "field name without text"
    if kind is core.IonType.STRUCT and len(value.items()) != len(set(value)):
        return "repeated field"
    if kind is core.IonType.TIMESTAMP and value.fractional_seconds.as_tuple().exponent < -6:
        return "nanoseconds"
    return None


def plain(value: Value) -> Value:
    """The library's wrapped value, as Ion reads it, without the wrapping."""
    reason = unsupported(value)
    if reason:
        raise UnsupportedError(reason)
    kind = value.ion_type
    if kind is core.IonType.LIST:
        return [plain(item) for item in value]
    if kind is core.IonType.STRUCT:
        return {name: plain(item) for name, item in value.items()}
    if kind is core.IonType.SYMBOL:
        return Symbol(value.text)
    if kind is core.IonType.TIMESTAMP:
        return loads(simpleion.dumps(value))
    bare: dict[object, Callable[[Value], Value]] = {
        core.IonType.NULL: lambda _: None,
        core.IonType.BOOL: bool,
        core.IonType.INT: int,
        core.IonType.FLOAT: float,
        core.IonType.DECIMAL: Decimal,
        core.IonType.STRING: str,
        core.IonType.BLOB: bytes,
    }
    return bare[kind](value)


def octets(sexp: Value) -> bytes:
    return bytes(map(int, sexp))


def test_official_vectors(shared: Path) -> None:
    """Run with the identity as digest, which shows the serialization, and with MD5."""
    hashers: dict[str, Callable[[bytes], bytes]] = {
        "identity": bytes,
        "md5": lambda data: hashlib.md5(data, usedforsecurity=False).digest(),
    }
    source = (shared / "golden" / "ion-hash" / "ion_hash_tests.ion").read_bytes()
    tests: Any = simpleion.load_python(BytesIO(source), single_value=False)
    run: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    for test in tests:
        value = test["ion"] if "ion" in test else simpleion.loads(MARK + octets(test["10n"]))
        try:
            native = plain(value)
        except UnsupportedError as reason:
            skipped[str(reason)] += 1
            continue
        for name, expectations in test["expect"].items():
            *_, last = expectations
            assert last.ion_annotations[0].text in {"digest", "final_digest"}
            hasher = hashing._Hasher(hashers[name])
            assert hasher.digest(native) == octets(last), (name, native)
            run[name] += 1
    assert run == {"identity": 117, "md5": 4}
    assert skipped == {
        "annotation": 17,
        "typed null": 12,
        "sexp": 9,
        "clob": 7,
        "symbol without text": 1,
        "field name without text": 1,
        "nanoseconds": 1,
        "repeated field": 1,
    }


def test_published_digests_of_groups(shared: Path) -> None:
    folder = shared / "golden" / "study"
    files = [folder / "sample.ion", *sorted(folder.glob("ClearCanvas/*/study.ion"))]
    assert len(files) == 6
    count = 0
    for file in files:
        document: Any = loads(file.read_bytes())
        for study in document.values():
            for groups in study["groups"].values():
                for digest, struct in groups.items():
                    assert ion_hash_hex(struct) == digest, file
                    count += 1
    assert count == 75


def test_records_by_another_author(shared: Path) -> None:
    files = sorted((shared / "golden" / "sopInstance").rglob("*.ion"))
    assert files
    for file in files:
        record = loads(file.read_bytes())
        for text in (False, True):
            assert loads(dumps(record, text=text)) == record
        twin = file.with_name(file.name.replace(".dcm.ion", ".dcm.text.ion"))
        if twin != file and twin.exists():
            assert ion_hash(loads(twin.read_bytes())) == ion_hash(record)


@pytest.fixture
def interrupts() -> Iterator[None]:
    """A timer raises KeyboardInterrupt, as Ctrl-C does."""
    before = signal.signal(signal.SIGVTALRM, signal.default_int_handler)
    yield
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    signal.signal(signal.SIGVTALRM, before)


@pytest.mark.usefixtures("interrupts")
@pytest.mark.parametrize("text", [False, True])
def test_ctrl_c_is_no_damage(*, text: bool) -> None:
    """The library loses what is raised inside it, and says that the text is damaged."""
    data = dumps({"a": [{"b": number, "c": str(number)} for number in range(20)]}, text=text)
    chance = chance_of(0)

    def read_until_ctrl_c() -> None:
        signal.setitimer(signal.ITIMER_VIRTUAL, chance.uniform(1e-4, 1e-3))
        while True:
            loads(data)

    for _ in range(300):
        with pytest.raises(KeyboardInterrupt):
            read_until_ctrl_c()
