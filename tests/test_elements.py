"""Tags, the tables of VRs, and chunks of large values."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomstudy import elements
from dicomstudy.elements import (
    LONG_VRS,
    NUMBER_FORMATS,
    SHORT_VRS,
    TEXT_VRS,
    WORD_SIZES,
    Buffer,
    Span,
    chunks,
    creator_of,
    format_tag,
    is_creator,
    is_private,
    private_tag,
    sha256_and_size,
)
from dicomstudy.sources import Window


def test_every_vr_of_the_standard_has_a_long_or_a_short_header() -> None:
    """PS3.5 section 7.1.2; 34 value representations."""
    assert set() == SHORT_VRS & LONG_VRS
    assert len(SHORT_VRS | LONG_VRS) == 34
    assert TEXT_VRS | NUMBER_FORMATS.keys() | WORD_SIZES.keys() <= SHORT_VRS | LONG_VRS
    assert TEXT_VRS & NUMBER_FORMATS.keys() == set()


def test_tags_are_written_as_in_json() -> None:
    assert format_tag(0x7FE00010) == "7FE00010"
    assert format_tag(0x0008103E) == "0008103E"


@pytest.mark.parametrize(("tag", "private"), [(0x00090010, True), (0x00080009, False)])
def test_an_odd_group_is_private(tag: int, *, private: bool) -> None:
    assert is_private(tag) is private


@pytest.mark.parametrize("key", ["00091001", "00090001", "FFFD10FF"])
def test_the_key_of_a_private_attribute_is_its_tag(key: str) -> None:
    assert private_tag(key) == int(key, 16)
    assert is_private(int(key, 16))


@pytest.mark.parametrize(
    "key", ["", "PatientName", "Rows", "00101001", "0009100", "000910011", "0009100a", "00091001\n"]
)
def test_other_keys_are_of_no_private_attribute(key: str) -> None:
    assert private_tag(key) is None


@pytest.mark.parametrize(
    ("tag", "creator"),
    [(0x00091001, 0x00090010), (0x0009FF01, 0x000900FF), (0x00090010, None), (0x00081001, None)],
)
def test_the_creator_of_a_private_element(tag: int, creator: int | None) -> None:
    assert creator_of(tag) == creator
    assert not is_creator(tag) or creator is None
    assert creator is None or is_creator(creator)


@given(st.binary(max_size=100), st.integers(0, 100), st.integers(0, 100))
def test_chunks_are_the_span(data: bytes, start: int, length: int) -> None:
    start = min(start, len(data))
    span = Span(start, min(length, len(data) - start))
    assert b"".join(chunks(data, span)) == data[start : start + length]


def test_chunks_of_a_window_are_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elements, "_PIECE", 300)
    data = bytes(range(256)) * 10
    (tmp_path / "file").write_bytes(data)
    with Window(tmp_path / "file") as window:
        assert isinstance(window, Buffer)
        parts = list(chunks(window, Span(100, 2000)))
    assert b"".join(parts) == data[100:2100]
    assert [len(part) for part in parts] == [300] * 6 + [200]


@given(st.lists(st.binary(max_size=20)), st.booleans())
def test_what_comes_in_pieces_is_as_it_would_be_in_one(pieces: list[bytes], to_file: bool) -> None:
    whole, copy = b"".join(pieces), bytearray()
    write = copy.extend if to_file else None
    assert sha256_and_size(iter(pieces), write) == (hashlib.sha256(whole).hexdigest(), len(whole))
    assert copy == (whole if to_file else b"")
