"""Values that lie in two pages of what the Ion library reads at a time come back as they were."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from decimal import Decimal
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomstudy import ion
from dicomstudy.errors import IonError
from dicomstudy.ion.binary import BINARY_MARK, take_out

PAGE = 8192
SCALARS = {
    "least changed": 1 << 63,
    "greatest changed": (1 << 64) - 1,
    "least changed below zero": -(1 << 63) - 1,
    "greatest changed below zero": -(1 << 64) + 1,
    "greatest of 63 bits": (1 << 63) - 1,
    "least of 64 bits": -(1 << 63),
    "nine bytes": 1 << 64,
    "sixteen bytes": (1 << 127) + 1,
    "float": 1e300,
    "decimal": Decimal("-1.8446744073709551615"),
    "text": "é" * 40,
    "blob": b"\xff" * 40,
}


def around_pages(longest: int, pages: Iterable[int] = (1, 2, 5)) -> Iterable[int]:
    """Lengths of text in front of a value, so that it has every place around a page's end."""
    for page in pages:
        yield from range(page * PAGE - longest - 40, page * PAGE + 1)


@pytest.mark.parametrize("text", [False, True], ids=["binary", "text"])
@pytest.mark.parametrize("name", SCALARS)
def test_a_value_at_every_place_around_the_end_of_a_page(name: str, text: bool) -> None:
    value = SCALARS[name]
    for length in around_pages(90):
        struct = {"before": "x" * length, "value": value, "list": [value, b"\0" * 8], "after": 7}
        assert ion.loads(ion.dumps(struct, text=text)) == struct, length


@pytest.mark.parametrize("head", [b"\x28", b"\x2e\x88", b"\x2e\x00\x88", b"\x38", b"\x3e\x88"])
def test_any_form_of_the_length(head: bytes) -> None:
    sign = -1 if head[0] >> 4 == 3 else 1
    for length in range(PAGE - 40, PAGE):
        text = b"\x8e" + bytes([length >> 7, 0x80 | length & 0x7F]) + b"x" * length
        data = BINARY_MARK + text + head + b"\xff" * 8
        assert ion.load_all(data) == ["x" * length, sign * ((1 << 64) - 1)]


def test_bytes_that_look_like_such_integers_are_left() -> None:
    for value in ("(é" * 9, b"\x28\xff" * 9, [-24, 1.5, b"\x88\x80"]):
        for length in around_pages(40, pages=(1,)):
            struct = {"before": "x" * length, "value": value}
            data = ion.dumps(struct)
            assert take_out(data) == (data, {})
            assert ion.loads(data) == struct


def test_a_pad_in_a_struct_is_no_version_mark() -> None:
    """Its name and it, and the name of the next field, have the bytes of one."""
    number = 0x8123456789ABCDEF
    names = b"".join(b"\x84n%03d" % at for at in range(10, 120))
    table = b"\x87\xbe" + varuint(len(names)) + names
    table = b"\x81\x83\xde" + varuint(len(table)) + table
    head = BINARY_MARK + b"\xee" + varuint(len(table)) + table
    fields = b"\xe0\x01\x00\xea\x81\x2a\xeb\x28" + number.to_bytes(8, "big")
    struct = b"\xde" + varuint(len(fields)) + fields
    for part in range(1, 8):
        length = PAGE - part - (len(head) + len(struct) - 8) - 5  # with the header of the text
        data = head + b"\x8e" + varuint(length) + b"x" * length + struct
        assert data.index(number.to_bytes(8, "big")) == PAGE - part
        assert ion.load_all(data)[1] == {"n106": "*", "n107": number}


def test_blobs_that_are_like_what_stands_for_an_integer() -> None:
    """However many: what stands for an integer is nowhere else."""
    blobs = [number.to_bytes(8, "big") for number in range(40)]
    for length in around_pages(20, pages=(1,)):
        struct = {"before": "x" * length, "value": (1 << 64) - 1, "blobs": blobs}
        assert ion.loads(ion.dumps(struct)) == struct


@given(st.integers(0, 1 << 32), st.integers(0, 9))
@settings(max_examples=30)
def test_many_of_them(seed: int, shift: int) -> None:
    random = Random(seed)  # noqa: S311 (no secret is made)
    numbers = [random.randrange(1 << 62, 1 << 64) for _ in range(3000)]
    values = {"x" * shift: [numbers, {"inside": [-number for number in numbers]}]}
    assert ion.loads(ion.dumps(values)) == values


#: Bytes of a hostile stream.
_LONG = 1 << 20


def like_split_integers() -> bytes:
    """Bytes at the end of each page that look like such integers, among small values."""
    data = bytearray()
    while len(data) < _LONG:
        data += b"\x21\x01" * ((PAGE - (10 + len(data)) % PAGE - 6) // 2)
        data += b"\xad" + b"\x28\x80" * 6 + b"\x28"
    return bytes(data)


def split_integers() -> bytes:
    """One at the end of each page, behind a blob with the bytes of many numbers."""
    blob = b"".join(number.to_bytes(8) for number in range(_LONG // 8))
    start = b"\xae" + varuint(len(blob)) + blob
    before = 9 + len(start)  # with the header of the list that holds all
    page = b"\x20" + b"\x21\x01" * ((PAGE - 10) // 2) + b"\x28" + b"\xff" * 8
    return start + b"\x20" * (4 - before % PAGE + PAGE) + page * (_LONG // PAGE)


def varuint(number: int) -> bytes:
    return bytes([*((number >> shift) & 127 for shift in (21, 14, 7)), number & 127 | 128])


@pytest.mark.parametrize("made", [like_split_integers, split_integers])
def test_hostile_streams_take_linear_time(made: Callable[[], bytes]) -> None:
    body = made()
    data = BINARY_MARK + b"\xbe" + varuint(len(body)) + body
    before = time.process_time()
    (values,) = ion.load_all(data)
    _, taken = take_out(data)
    assert time.process_time() - before < 10
    expected = _LONG // PAGE if made is split_integers else 0
    assert len(taken) == expected == values.count((1 << 64) - 1)


@pytest.mark.parametrize(
    ("start", "repeated"),
    [(b'"', b'\\"'), (b"", b"/*a"), (b"'", b"\\'"), (b"{", b"'''$''' "), (b"{", b'"$" /**/')],
    ids=["text", "comment", "symbol", "long strings", "names"],
)
def test_hostile_text_takes_linear_time(start: bytes, repeated: bytes) -> None:
    """What begins again and again, and never ends."""
    before = time.process_time()
    with pytest.raises(IonError):
        ion.load_all(b"$123456789 " + start + repeated * (_LONG // len(repeated)))
    assert time.process_time() - before < 10


def test_seconds_are_cut_behind_a_blob_that_looks_like_a_comment() -> None:
    blob, moment = ion.load_all(b"{{ //8= }} 2020-01-01T00:00:00.00000012345Z")
    assert blob == b"\xff\xff"
    assert moment.year == 2020


def test_a_symbol_number_is_refused_unless_it_is_quoted() -> None:
    for text in (b"'$1234567890'", b'"$1234567890"', b"1 // $1234567890", b"/* $1234567890 */ 1"):
        assert len(ion.load_all(text)) == 1
    for text in (b"$1234567890", b"'a' $1234567890", b'"$1234567890', b"/* $1234567890"):
        with pytest.raises(IonError):
            ion.load_all(text)
