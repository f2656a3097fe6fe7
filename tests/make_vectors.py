"""Write `spec/vectors/` of p10, layout, values, record, grouping and bulk, the same at every run.

    python tests/make_vectors.py

Files are built by `fixtures/make.py`, which shares no code with the package. What is expected of
them stands here as it was worked out by hand from the pages of `spec/`: elements, attributes,
layouts, values, offsets. Digests are those of the Ion Hash below, written from spec/ion.md for
the types that occur; zstandard frames and deflate streams are spelled byte by byte. Nothing that
is expected comes from the code that is tested.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import struct
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

sys.path.insert(0, str(Path(__file__).parents[1]))

from fixtures import make

__all__ = ["all_vectors", "spell", "unspell"]

FOLDER: Final = Path(__file__).parents[1] / "spec" / "vectors"

Case: TypeAlias = dict[str, Any]

element, item, delimiter, nested = make.element, make.item, make.delimiter, make.nested
LITTLE, EXPLICIT, BIG = make.IMPLICIT, make.EXPLICIT, make.BIG_ENDIAN
SQ, TEXT, CHARSET, UID_TAG = 0x00081140, 0x00204000, 0x00080005, 0x00081155
PIXELS = 0x7FE00010
END_OF_SEQUENCE, END_OF_ITEM = 0xFFFEE0DD, 0xFFFEE00D


# -- how bytes are spelled ---------------------------------------------------------------------


def spell(data: bytes) -> list[str]:
    """`data` as hexadecimal parts; ``00*128`` is a part of 128 zeros.

    Mirror of `unspell`.
    """
    parts: list[str] = []
    start = 0
    for run in re.finditer(rb"(.)\1{15,}", data, re.DOTALL):
        if run.start() > start:
            parts.append(data[start : run.start()].hex())
        parts.append(f"{run[1].hex()}*{len(run[0])}")
        start = run.end()
    if start < len(data):
        parts.append(data[start:].hex())
    return parts


def unspell(parts: Iterable[str]) -> bytes:
    """Mirror of `spell`."""
    data = b""
    for part in parts:
        digits, _, times = part.partition("*")
        data += bytes.fromhex(digits) * int(times or 1)
    return data


# -- Ion Hash, from spec/ion.md ----------------------------------------------------------------


def ion_digest(value: object) -> str:
    """The Ion Hash of null, bool, int ≥ 0, float, str, bytes, list and dict, in hexadecimal."""
    return hashlib.sha256(_serialized(value)).hexdigest()


def _serialized(value: object) -> bytes:
    if isinstance(value, list):
        return b"\x0b\xb0" + b"".join(map(_serialized, value)) + b"\x0e"
    if isinstance(value, dict):
        digests = sorted(
            hashlib.sha256(_scalar(0x70, name.encode()) + _serialized(field)).digest()
            for name, field in value.items()
        )
        return b"\x0b\xd0" + _escaped(b"".join(digests)) + b"\x0e"
    if value is None:
        return _scalar(0x0F, b"")
    if isinstance(value, bool):
        return _scalar(0x11 if value else 0x10, b"")
    if isinstance(value, int):
        return _scalar(0x20, value.to_bytes((value.bit_length() + 7) // 8, "big"))
    if isinstance(value, float):
        return _scalar(0x40, struct.pack(">d", value) if value else b"")
    if isinstance(value, bytes):
        return _scalar(0xA0, value)
    return _scalar(0x80, str(value).encode())


def _scalar(kind: int, content: bytes) -> bytes:
    return b"\x0b" + bytes([kind]) + _escaped(content) + b"\x0e"


def _escaped(content: bytes) -> bytes:
    return re.sub(rb"([\x0b\x0c\x0e])", b"\x0c\\1", content)


# -- files -------------------------------------------------------------------------------------


def meta(syntax: str) -> bytes:
    """File meta information of group length and transfer syntax."""
    content = element(0x00020010, "UI", syntax)
    return element(0x00020000, "UL", len(content)) + content


def file(syntax: str, *elements: bytes) -> bytes:
    """A P10 file."""
    return make.part10(meta(syntax), b"".join(elements))


def stored_deflate(data: bytes) -> bytes:
    """`data` as a deflate stream of one stored block (RFC 1951 section 3.2.4)."""
    return b"\1" + struct.pack("<HH", len(data), len(data) ^ 0xFFFF) + data


def padded(text: str, padding: str = " ") -> str:
    """The hexadecimal digits of a text of even length."""
    return (text + padding * (len(text) % 2)).encode().hex()


# -- p10 ---------------------------------------------------------------------------------------


def e(tag: int, vr: str = "", value: str | None = None, **more: object) -> Case:
    """An element that is expected; `value` in hexadecimal."""
    case: Case = {"tag": f"{tag:08X}", "vr": vr}
    if value is not None:
        case["value"] = value
    return case | more


def e_items(*items: tuple[bool, list[Case]]) -> list[Case]:
    return [{"undefined": undefined, "elements": elements} for undefined, elements in items]


def e_meta(syntax: str) -> list[Case]:
    return [e(0x00020000, "UL", form="="), e(0x00020010, "UI", padded(syntax, "\0"))]


def read(
    name: str,
    data: bytes,
    elements: list[Case],
    *,
    preamble: str | None = "zeros",
    meta_elements: list[Case] | None = None,
    syntax: str = "explicit little",
    deflated: bool = False,
    trailing: bytes = b"",
    problems: Iterable[str] = (),
) -> Case:
    return {
        "name": name,
        "file": spell(data),
        "preamble": preamble,
        "meta": e_meta(EXPLICIT) if meta_elements is None else meta_elements,
        "explicit": syntax.startswith("explicit"),
        "big": syntax.endswith("big"),
        "deflated": deflated,
        "elements": elements,
        "trailing": spell(trailing),
        "problems": list(problems),
    }


def p10_good() -> list[Case]:
    """Files, and what they are made of."""
    name = element(0x00100010, "PN", "A^B")
    name_expected = e(0x00100010, "PN", "415e4220")
    rows = element(0x00280010, "US", 4)
    return [
        *_good_files(name, name_expected),
        *_command_sets(name, name_expected),
        *_good_headers(name, name_expected, rows),
        *_good_sequences(name, name_expected),
        *_good_pixels(),
        *_good_group_lengths(name, name_expected),
        *_good_ends(name, name_expected),
    ]


def _good_files(name: bytes, name_expected: Case) -> list[Case]:
    implicit = element(0x00100010, "PN", "A^B", explicit=False)
    big = element(0x00280010, "US", 4, big=True)
    charset = element(CHARSET, "CS", "", big=True)
    stream = stored_deflate(name)
    bare: Case = {"preamble": None, "meta_elements": []}
    return [
        read("explicit little endian", file(EXPLICIT, name), [name_expected]),
        read(
            "implicit little endian",
            file(LITTLE, implicit),
            [e(0x00100010, "", "415e4220")],
            meta_elements=e_meta(LITTLE),
            syntax="implicit little",
        ),
        read(
            "explicit big endian",
            file(BIG, big),
            [e(0x00280010, "US", "0004")],
            meta_elements=e_meta(BIG),
            syntax="explicit big",
        ),
        read(
            "a preamble that is not zero",
            make.part10(meta(EXPLICIT), name, preamble=b"II*\0" + bytes(124)),
            [name_expected],
            preamble="49492a00" + "00" * 124,
        ),
        read(
            "file meta without preamble and prefix",
            meta(EXPLICIT) + name,
            [name_expected],
            preamble=None,
        ),
        read("a bare explicit data set", name, [name_expected], **bare),
        read(
            "a bare implicit data set",
            implicit,
            [e(0x00100010, "", "415e4220")],
            syntax="implicit little",
            **bare,
        ),
        read(
            "a bare big-endian data set",
            charset + big,
            [e(CHARSET, "CS", ""), e(0x00280010, "US", "0004")],
            syntax="explicit big",
            **bare,
        ),
        read(
            "declared implicit, really explicit",
            file(LITTLE, name),
            [name_expected],
            meta_elements=e_meta(LITTLE),
        ),
        read(
            "declared explicit, really implicit",
            file(EXPLICIT, implicit),
            [e(0x00100010, "", "415e4220")],
            syntax="implicit little",
        ),
        read(
            "implicit file meta",
            make.part10(element(0x00020010, "UI", EXPLICIT, explicit=False), name),
            [name_expected],
            meta_elements=[e(0x00020010, "", padded(EXPLICIT, "\0"))],
        ),
        read(
            "a transfer syntax in white space, which replaces another",
            make.part10(
                element(0x00020010, "UI", EXPLICIT)
                + element(0x00020010, "UI", b" " + BIG.encode() + b"\n\0 \0"),
                big,
            ),
            [e(0x00280010, "US", "0004")],
            meta_elements=[
                e(0x00020010, "UI", padded(EXPLICIT, "\0")),
                e(0x00020010, "UI", "20" + BIG.encode().hex() + "0a002000"),
            ],
            syntax="explicit big",
        ),
        read(
            "a transfer syntax padded with a space",
            make.part10(element(0x00020010, "UI", BIG.encode() + b" "), big),
            [e(0x00280010, "US", "0004")],
            meta_elements=[e(0x00020010, "UI", padded(BIG))],
            syntax="explicit big",
        ),
        read(
            "file meta that says it is shorter",
            make.part10(element(0x00020000, "UL", 4) + element(0x00020010, "UI", EXPLICIT), name),
            [name_expected],
            meta_elements=[
                e(0x00020000, "UL", "04000000"),
                e(0x00020010, "UI", padded(EXPLICIT, "\0")),
            ],
        ),
        read(
            "deflated, with bytes behind the stream",
            make.part10(meta(make.DEFLATED), stream + b"Z"),
            [name_expected],
            meta_elements=e_meta(make.DEFLATED),
            deflated=True,
        ),
        read("file meta alone", file(EXPLICIT), []),
        read(
            "preamble and prefix alone",
            make.part10(b"", b""),
            [],
            meta_elements=[],
            syntax="implicit little",
        ),
        read("nothing", b"", [], syntax="implicit little", **bare),
    ]


def _command_sets(name: bytes, name_expected: Case) -> list[Case]:
    commands = element(0x00000002, "UI", "1.2", explicit=False)
    length = element(0x00000000, "UL", len(commands), explicit=False)
    expected = e(0x00000002, "", "312e3200")
    bare = element(0x00100010, "PN", "A^B", explicit=False)
    bare_expected = e(0x00100010, "", "415e4220")
    return [
        read(
            "a command set before an explicit data set",
            file(EXPLICIT, length, commands, name),
            [name_expected],
            meta_elements=[*e_meta(EXPLICIT), e(0x00000000, form="="), expected],
        ),
        read(
            "a command set before a big-endian data set",
            file(BIG, commands, element(0x00280010, "US", 4, big=True)),
            [e(0x00280010, "US", "0004")],
            meta_elements=[*e_meta(BIG), expected],
            syntax="explicit big",
        ),
        read(
            "a command set before a deflated data set",
            make.part10(meta(make.DEFLATED), commands + stored_deflate(name)),
            [name_expected],
            meta_elements=[*e_meta(make.DEFLATED), expected],
            deflated=True,
        ),
        read(
            "a command set in an implicit data set",
            file(LITTLE, commands, bare),
            [expected, bare_expected],
            meta_elements=e_meta(LITTLE),
            syntax="implicit little",
        ),
        read(
            "zeros before an implicit data set",
            file(LITTLE, bytes(64), bare),
            [bare_expected],
            meta_elements=[*e_meta(LITTLE), *[e(0x00000000, "", "")] * 8],
            syntax="implicit little",
        ),
    ]


def _good_headers(name: bytes, name_expected: Case, rows: bytes) -> list[Case]:
    implicit = element(0x00100020, "LO", "1", explicit=False)
    return [
        read(
            "an implicit header in an explicit data set",
            file(EXPLICIT, name, implicit, rows),
            [name_expected, e(0x00100020, "", "3120"), e(0x00280010, "US", "0400")],
        ),
        read(
            "capital letters that are no VR have a short header",
            file(EXPLICIT, struct.pack("<HH2sH", 0x10, 0x20, b"ZZ", 2) + b"1 "),
            [e(0x00100020, "ZZ", "3120")],
        ),
        read(
            "small letters are no VR",
            file(
                EXPLICIT,
                struct.pack("<HH2sH", 0x08, 0x60, b"CS", 0),
                struct.pack("<HHL", 0x10, 0x20, 2) + b"cs",
            ),
            [e(0x00080060, "CS", ""), e(0x00100020, "", "6373")],
        ),
        read(
            "reserved bytes that are not zero",
            file(EXPLICIT, element(0x00420011, "OB", b"\1\2", reserved=b"\x34\x12")),
            [e(0x00420011, "OB", "0102", reserved=0x1234)],
        ),
        read(
            "elements out of order, and one twice",
            file(EXPLICIT, rows, name, rows),
            [e(0x00280010, "US", "0400"), name_expected, e(0x00280010, "US", "0400")],
        ),
        read(
            "a value of more than 256 bytes",
            file(EXPLICIT, element(TEXT, "LT", b"x" * 300)),
            [e(TEXT, "LT", "78" * 300)],
        ),
        read(
            "three zeros behind the data set",
            file(EXPLICIT, name, b"\0\0\0"),
            [name_expected],
            trailing=b"\0\0\0",
        ),
        read(
            "a value longer than the file",
            file(EXPLICIT, element(TEXT, "LT", b"abc", length=300)),
            [e(TEXT, "LT", "616263", form=":", declared=300)],
            problems=["p10/truncated"],
        ),
        read(
            "a text of undefined length",
            file(EXPLICIT, element(TEXT, "UT", b"ab", undefined=True), rows),
            [
                e(TEXT, "UT", "6162", form="$"),
                e(0x00280010, "US", "0400"),
            ],
        ),
        read(
            "a text of undefined length whose delimiter has a length",
            file(
                EXPLICIT,
                element(TEXT, "UT", b"ab", length=make.UNDEFINED),
                delimiter(END_OF_SEQUENCE, length=4),
                rows,
            ),
            [
                e(TEXT, "UT", "6162", form="$", declared=4),
                e(0x00280010, "US", "0400"),
            ],
        ),
    ]


def _good_sequences(name: bytes, name_expected: Case) -> list[Case]:
    inner = element(SQ, "SQ", item(name))
    implicit_uid = element(UID_TAG, "UI", "1.2", explicit=False)
    uid_expected = e(UID_TAG, "", "312e3200")
    odd_item = item(length=make.UNDEFINED) + name + delimiter(END_OF_ITEM, length=4)
    big = element(0x00280010, "US", 4, big=True)
    holding = item(delimiter(END_OF_SEQUENCE)) + item(name)
    held = item(b"abcd") + item(delimiter(END_OF_SEQUENCE))
    return [
        read(
            "a sequence of undefined length",
            file(
                EXPLICIT,
                element(
                    SQ, "SQ", item(name, undefined=True) + item() + item(inner), undefined=True
                ),
            ),
            [
                e(
                    SQ,
                    "SQ",
                    undefined=True,
                    items=e_items(
                        (True, [name_expected]),
                        (False, []),
                        (False, [e(SQ, "SQ", item(name).hex())]),
                    ),
                )
            ],
        ),
        read(
            "a sequence of undefined length without items",
            file(EXPLICIT, element(SQ, "SQ", b"", undefined=True)),
            [e(SQ, "SQ", undefined=True, items=[])],
        ),
        read(
            "UN of undefined length with implicit items",
            file(EXPLICIT, element(0x00091001, "UN", item(implicit_uid), undefined=True)),
            [e(0x00091001, "UN", undefined=True, items=e_items((False, [uid_expected])))],
        ),
        read(
            "UN of undefined length with explicit items",
            file(EXPLICIT, element(0x00091001, "UN", item(name), undefined=True)),
            [e(0x00091001, "UN", undefined=True, items=e_items((False, [name_expected])))],
        ),
        read(
            "a sequence of undefined length in big endian",
            file(
                BIG,
                element(SQ, "SQ", item(big, undefined=True, big=True), undefined=True, big=True),
            ),
            [
                e(
                    SQ,
                    "SQ",
                    undefined=True,
                    items=e_items((True, [e(0x00280010, "US", "0004")])),
                )
            ],
            meta_elements=e_meta(BIG),
            syntax="explicit big",
        ),
        read(
            "sequence delimiters that end nothing",
            file(
                EXPLICIT,
                element(SQ, "SQ", item(name)) + delimiter(END_OF_SEQUENCE),
                element(SQ, "SQ", b"") + delimiter(END_OF_SEQUENCE, length=2) + b"ab",
                name,
            ),
            [
                e(SQ, "SQ", item(name).hex()),
                e(END_OF_SEQUENCE, "", ""),
                e(SQ, "SQ", ""),
                e(END_OF_SEQUENCE, "", "6162"),
                name_expected,
            ],
        ),
        read(
            "an item behind a sequence of length zero",
            file(EXPLICIT, element(SQ, "SQ", b"") + item(name) + delimiter(END_OF_SEQUENCE), name),
            [
                e(SQ, "SQ", ""),
                e(0xFFFEE000, "", name.hex()),
                e(END_OF_SEQUENCE, "", ""),
                name_expected,
            ],
        ),
        read(
            "item delimiters where no item is open, and zeros",
            file(
                EXPLICIT,
                element(SQ, "SQ", item(name) + delimiter(END_OF_ITEM) + bytes(8), undefined=True),
                element(SQ, "SQ", item(name + delimiter(END_OF_ITEM)), undefined=True),
                name,
            ),
            [
                e(
                    SQ,
                    "SQ",
                    undefined=True,
                    items=[
                        *e_items((False, [name_expected])),
                        {"undefined": False, "elements": [], "tag": "FFFEE00D"},
                        {"undefined": False, "elements": [], "tag": "00000000"},
                    ],
                ),
                e(
                    SQ,
                    "SQ",
                    undefined=True,
                    items=e_items((False, [name_expected, e(END_OF_ITEM, "", "")])),
                ),
                name_expected,
            ],
        ),
        read(
            "a sequence of defined length is not split",
            file(EXPLICIT, inner),
            [e(SQ, "SQ", item(name).hex())],
        ),
        read(
            "an item delimiter with a length",
            file(EXPLICIT, element(SQ, "SQ", odd_item, undefined=True), name),
            [
                e(SQ, "SQ", (odd_item + delimiter(END_OF_SEQUENCE)).hex(), form="~"),
                name_expected,
            ],
            problems=["p10/delimiter-length"],
        ),
        read(
            "an item delimiter before the items",
            file(
                EXPLICIT,
                element(SQ, "SQ", delimiter(END_OF_ITEM) + item(name), undefined=True),
                name,
            ),
            [
                e(
                    SQ,
                    "SQ",
                    undefined=True,
                    items=[
                        {"undefined": False, "elements": [], "tag": "FFFEE00D"},
                        *e_items((False, [name_expected])),
                    ],
                ),
                name_expected,
            ],
        ),
        read(
            "an item in a text of undefined length",
            file(EXPLICIT, element(TEXT, "UT", item(b"abcd"), undefined=True), name),
            [e(TEXT, "UT", item(b"abcd").hex(), form="$"), name_expected],
        ),
        read(
            "a text of undefined length that is items, of which one holds a delimiter",
            file(EXPLICIT, element(TEXT, "UT", holding, undefined=True), name),
            [e(TEXT, "UT", holding.hex(), form="$"), name_expected],
        ),
        read(
            "items of no VR that hold no elements",
            file(LITTLE, element(TEXT, "", held, undefined=True, explicit=False), implicit_uid),
            [e(TEXT, "", held.hex(), form="$"), uid_expected],
            meta_elements=e_meta(LITTLE),
            syntax="implicit little",
            problems=["p10/truncated"],
        ),
        read(
            "64 levels",
            file(EXPLICIT, nested(65, explicit=True)),
            [_levels(64)],
        ),
        *_broken_sequences(name, name_expected),
    ]


def _broken_sequences(name: bytes, name_expected: Case) -> list[Case]:
    uid, end = element(UID_TAG, "UI", "1.2"), delimiter(END_OF_SEQUENCE)

    def broken(what: str, items: bytes, code: str) -> Case:
        return read(
            what,
            file(EXPLICIT, element(SQ, "SQ", items, undefined=True), name),
            [e(SQ, "SQ", (items + end).hex(), form="~"), name_expected],
            problems=[code],
        )

    return [
        broken(
            "items whose lengths are too short",
            item(uid, length=len(uid) - 2) + item(name + uid, length=len(name) + 1),
            "p10/truncated",
        ),
        broken(
            "an item whose length reaches into the next one",
            item(uid, length=len(uid) + 4) + item(uid) + item(name),
            "p10/truncated",
        ),
        broken(
            "an element instead of an item",
            item(uid) + element(0x00080000, "", explicit=False, length=len(uid)) + uid,
            "p10/not-an-item",
        ),
        broken(
            "an item that is too short in a sequence in an item",
            item(element(SQ, "SQ", item(uid, length=2), undefined=True), undefined=True),
            "p10/truncated",
        ),
        broken("65 levels", item(nested(65, explicit=True)), "p10/too-deep"),
    ]


def _levels(count: int) -> Case:
    expected = e(0x0040A730, "SQ", "")
    for _ in range(count):
        expected = e(0x0040A730, "SQ", undefined=True, items=e_items((True, [expected])))
    return expected


def _good_pixels() -> list[Case]:
    value = make.encapsulate([[b"ab"], [b"cd", b"efgh"]])
    open_value = make.encapsulate([[b"ab"]], end=False)
    broken = open_value + b"?!" + delimiter(END_OF_SEQUENCE)
    return [
        read(
            "encapsulated pixel data",
            file(EXPLICIT, make.encapsulated(value), element(0xFFFCFFFC, "OB", b"\0\0")),
            [
                e(
                    PIXELS,
                    "OB",
                    value.hex(),
                    form="~",
                    fragments=[[8, 8], [24, 2], [34, 2], [44, 4]],
                ),
                e(0xFFFCFFFC, "OB", "0000"),
            ],
        ),
        read(
            "encapsulated pixel data without a delimiter",
            file(EXPLICIT, make.encapsulated(open_value)),
            [e(PIXELS, "OB", open_value.hex(), form="~", fragments=[[8, 4], [20, 2]])],
            problems=["p10/no-delimiter"],
        ),
        read(
            "something else behind a fragment",
            file(EXPLICIT, make.encapsulated(broken)),
            [e(PIXELS, "OB", broken.hex(), form="~", fragments=[[8, 4], [20, 2]])],
        ),
        read(
            "native pixel data of undefined length",
            file(EXPLICIT, element(PIXELS, "OW", b"\1\2\3\4", undefined=True)),
            [e(PIXELS, "OW", "01020304", form="$")],
        ),
        read(
            "encapsulated pixel data in an item are bytes",
            file(
                EXPLICIT, element(0x00880200, "SQ", item(make.encapsulated(value)), undefined=True)
            ),
            [
                e(
                    0x00880200,
                    "SQ",
                    undefined=True,
                    items=e_items((False, [e(PIXELS, "OB", value.hex(), form="~")])),
                )
            ],
        ),
    ]


def _good_group_lengths(name: bytes, name_expected: Case) -> list[Case]:
    right = element(0x00100000, "UL", len(name))
    wrong = element(0x00100000, "UL", len(name) + 1)
    rows = element(0x00280010, "US", 4)
    big = element(0x00280010, "US", 4, big=True)
    return [
        read(
            "a right group length, and one of an empty group",
            file(EXPLICIT, right, name, element(0x00200000, "UL", 0), rows),
            [
                e(0x00100000, "UL", form="="),
                name_expected,
                e(0x00200000, "UL", form="="),
                e(0x00280010, "US", "0400"),
            ],
        ),
        read(
            "a wrong group length",
            file(EXPLICIT, wrong, name),
            [e(0x00100000, "UL", "0d000000"), name_expected],
        ),
        read(
            "a group length in big endian, and one in little",
            file(
                BIG,
                element(0x00280000, "UL", len(big), big=True),
                big,
                element(0x00290000, "UL", bytes(4), big=True),
            ),
            [
                e(0x00280000, "UL", form="="),
                e(0x00280010, "US", "0004"),
                e(0x00290000, "UL", form="="),
            ],
            meta_elements=e_meta(BIG),
            syntax="explicit big",
        ),
        read(
            "a right group length in an item",
            file(EXPLICIT, element(SQ, "SQ", item(right + name), undefined=True)),
            [
                e(
                    SQ,
                    "SQ",
                    undefined=True,
                    items=e_items((False, [e(0x00100000, "UL", form="="), name_expected])),
                )
            ],
        ),
    ]


def _good_ends(name: bytes, name_expected: Case) -> list[Case]:
    return [
        read(
            "zeros behind the data set",
            file(EXPLICIT, name, bytes(70)),
            [name_expected],
            trailing=bytes(70),
        ),
        read(
            "an element of tag zero that has no zeros behind it",
            file(EXPLICIT, name, bytes(8), name),
            [name_expected, e(0, "", ""), name_expected],
        ),
    ]


def p10_bad() -> list[Case]:
    """Files that cannot be read to their end: the problem, where, and how much is trailing."""
    name = element(0x00100010, "PN", "A^B")
    start = file(EXPLICIT, name)
    at = len(start)
    in_item = item(element(TEXT, "LT", b"ab", length=9))
    header = 12  # of a sequence: its first item is behind it

    def bad(name: str, rest: bytes, code: str, offset: int = 0, elements: int = 1) -> Case:
        return {
            "name": name,
            "file": spell(start + rest),
            "code": code,
            "offset": at + offset,
            "elements": elements,
            "trailing": len(rest),
        }

    def sequence(*parts: bytes) -> bytes:
        return element(SQ, "SQ", b"".join(parts), length=make.UNDEFINED)

    cut = meta(EXPLICIT)[:-5]
    deflated = make.part10(meta(make.DEFLATED), b"")
    return [
        bad("a header cut short", b"\x28\0\x10\0US\2", "p10/truncated"),
        bad("a long header cut short", b"\x42\0\x11\0OB\0\0\2\0", "p10/truncated"),
        bad("a number behind three zeros behind the data set", b"\0\0\0\1", "p10/truncated"),
        bad(
            "letters behind the data set",
            b"\0\0\0\0\0\0\0\0" + b"\xfe\xff\x0d\xe0Zeros..!",
            "p10/trailing-bytes",
            8,
            2,
        )
        | {"trailing": 12},
        bad("a stray item delimiter", delimiter(END_OF_ITEM), "p10/trailing-bytes"),
        bad(
            "a text of undefined length without an end",
            element(TEXT, "UT", b"ab", length=make.UNDEFINED),
            "p10/no-delimiter",
            header,
        ),
        bad(
            "an element instead of an item, and no end",
            sequence(item(), name),
            "p10/not-an-item",
            header + 8,
        ),
        bad(
            "an item delimiter instead of an item, and no end",
            sequence(delimiter(END_OF_ITEM)),
            "p10/truncated",
            header + 8,
        ),
        bad("a sequence without an end", sequence(item()), "p10/truncated", header + 8),
        bad(
            "an item longer than the file", sequence(item(name, length=99)), "p10/truncated", header
        ),
        bad(
            "an element longer than its item and the file",
            sequence(in_item, delimiter(END_OF_SEQUENCE)),
            "p10/truncated",
            header + 8,
        ),
        bad(
            "an item without an end",
            sequence(item(length=make.UNDEFINED), name),
            "p10/truncated",
            header + 8 + len(name),
        ),
        bad(
            "65 levels without an end",
            nested(66, explicit=True)[:-8],
            "p10/too-deep",
            65 * (header + 8) - 8,
        ),
        {
            "name": "file meta cut short",
            "file": spell(bytes(128) + b"DICM" + cut),
            "code": "p10/truncated",
            "offset": 132 + 12,
            "elements": 0,
            "trailing": len(cut) - 12,
        },
        *(
            {
                "name": what,
                "file": spell(deflated + stream),
                "code": "p10/deflate",
                "offset": len(deflated),
                "elements": 0,
                "trailing": len(stream),
            }
            for what, stream in (
                ("no deflate stream", b"\7\7\7\7"),
                ("a deflate stream cut short", stored_deflate(name)[:-1]),
            )
        ),
    ]


# -- layout ------------------------------------------------------------------------------------


def t(tag: int, vr: str = "", **more: object) -> Case:
    """A token that is expected."""
    return {"tag": f"{tag:08X}", "vr": vr} | more


def layout_good() -> list[Case]:
    """Layouts, and their tokens."""
    uid = t(0x00081155, "UI")
    return [
        {"name": "nothing", "layout": "", "tokens": []},
        {"name": "implicit", "layout": "00080005", "tokens": [t(CHARSET)]},
        {
            "name": "explicit, two elements",
            "layout": "00080005CS 00091001UN",
            "tokens": [t(CHARSET, "CS"), t(0x00091001, "UN")],
        },
        {
            "name": "forms",
            "layout": "00020000UL= 00204000LT:300 00420011OB$ 7FE00010OB~",
            "tokens": [
                t(0x00020000, "UL", form="="),
                t(TEXT, "LT", form=":", declared=300),
                t(0x00420011, "OB", form="$"),
                t(PIXELS, "OB", form="~"),
            ],
        },
        {
            "name": "delimiters of other lengths than zero, and a space",
            "layout": "00204000UT^$1 00420011OB$4294967295",
            "tokens": [
                t(TEXT, "UT", space=True, form="$", declared=1),
                t(0x00420011, "OB", form="$", declared=4294967295),
            ],
        },
        {
            "name": "reserved bytes, occurrences and a form at once",
            "layout": "00420011OB/1234#2:4294967294 00420011OB",
            "tokens": [
                t(0x00420011, "OB", reserved=0x1234, occurrence=2, form=":", declared=4294967294),
                t(0x00420011, "OB"),
            ],
        },
        {
            "name": "a space in front, with and without other parts",
            "layout": "00100010PN^ 00100020LO#1^ 00204000LT^:300 00100020^",
            "tokens": [
                t(0x00100010, "PN", space=True),
                t(0x00100020, "LO", occurrence=1, space=True),
                t(TEXT, "LT", space=True, form=":", declared=300),
                t(0x00100020, space=True),
            ],
        },
        {
            "name": "a VR that looks like hexadecimal digits",
            "layout": "00081030DA 0008103ADC",
            "tokens": [t(0x00081030, "DA"), t(0x0008103A, "DC")],
        },
        {
            "name": "items of either length",
            "layout": "00081140SQ([00081155UI]{}) 00081140SQ#1<>",
            "tokens": [
                t(
                    SQ,
                    "SQ",
                    undefined=False,
                    items=[
                        {"undefined": False, "tokens": [uid]},
                        {"undefined": True, "tokens": []},
                    ],
                ),
                t(SQ, "SQ", occurrence=1, undefined=True, items=[]),
            ],
        },
        {
            "name": "delimiters where none should be",
            "layout": "00081140SQ([]FFFEE00D[]> 00081140SQ#1<{}FFFEE00D[]00000000[]> "
            "00081140SQ(> FFFEE0DD 00081140SQ({}{])",
            "tokens": [
                t(
                    SQ,
                    "SQ",
                    undefined=False,
                    delimited=True,
                    items=[
                        {"undefined": False, "tokens": []},
                        {"undefined": False, "tokens": [], "tag": "FFFEE00D"},
                    ],
                ),
                t(
                    SQ,
                    "SQ",
                    occurrence=1,
                    undefined=True,
                    items=[
                        {"undefined": True, "tokens": []},
                        {"undefined": False, "tokens": [], "tag": "FFFEE00D"},
                        {"undefined": False, "tokens": [], "tag": "00000000"},
                    ],
                ),
                t(SQ, "SQ", undefined=False, delimited=True, items=[]),
                t(END_OF_SEQUENCE),
                t(
                    SQ,
                    "SQ",
                    undefined=False,
                    items=[
                        {"undefined": True, "tokens": []},
                        {"undefined": True, "tokens": [], "endless": True},
                    ],
                ),
            ],
        },
        {
            "name": "items in items",
            "layout": "00081140<[00081140([00081155UI 00091001])]>",
            "tokens": [
                t(
                    SQ,
                    undefined=True,
                    items=[
                        {
                            "undefined": False,
                            "tokens": [
                                t(
                                    SQ,
                                    undefined=False,
                                    items=[{"undefined": False, "tokens": [uid, t(0x00091001)]}],
                                )
                            ],
                        }
                    ],
                )
            ],
        },
    ]


def layout_bad() -> list[Case]:
    """What is no layout."""
    cases = {
        "a tag too short": "0008000",
        "small letters in a tag": "0008000a",
        "a small VR": "00080005cs",
        "one letter": "00080005C",
        "a space in front": " 00080005",
        "a space behind": "00080005 ",
        "two spaces": "00080005  00080008",
        "no space": "00080005CS00080008",
        "a tab": "00080005\t00080008",
        "an unknown form": "00080005CS!",
        "two forms": "00080005CS~~",
        "declared without a number": "00080005CS:",
        "a number of 11 digits": "00080005CS:00000000001",
        "an occurrence without a number": "00080005CS#",
        "reserved bytes of three digits": "00420011OB/123",
        "parts in another order": "00420011OB#1/1234",
        "an open sequence": "00081140SQ(",
        "an open item": "00081140SQ([",
        "a sequence closed as another": "00081140SQ<[])",
        "an item closed as another": "00081140SQ([})",
        "an item with the tag of items": "00081140SQ(FFFEE000[])",
        "an item with the tag of a sequence delimiter": "00081140SQ(FFFEE0DD[])",
        "elements under another tag": "00081140SQ(FFFEE00D[00100010])",
        "another tag and an undefined length": "00081140SQ(FFFEE00D{})",
        "elements without an item": "00081140SQ(00081155UI)",
        "a space between items": "00081140SQ([] [])",
        "a form behind items": "00081140SQ([])~",
        "one closed too often": "00081140SQ([]))",
        "an occurrence of zero": "00080005CS#0",
        "an occurrence with a zero in front": "00080005CS#01",
        "reserved bytes of zero": "00420011OB/0000",
        "reserved bytes of a short header": "00080005CS/1234",
        "reserved bytes of an implicit header": "00080005/1234",
        "a group length of another element": "00080005UL=",
        "a right group length that is replaced": "00080000UL#1=",
        "the undefined length as declared": "00080005:4294967295",
        "an undefined length and items": "00081140SQ~()",
        "a delimiter and items": "00081140SQ$<>",
        "a delimiter of length zero that is written": "00420011OB$0",
        "a length of a delimiter that is too large": "00420011OB$4294967296",
        "a declared length and items": "00081140SQ:8([])",
        "a space before items": "00081140SQ^([])",
        "a space behind a form": "00080005CS~^",
        "101 levels": "00081140SQ([" * 101 + "])" * 101,
    }
    return [
        {"name": name, "layout": layout, "code": "record/layout"} for name, layout in cases.items()
    ]


# -- values ------------------------------------------------------------------------------------


def v(
    name: str,
    tag: int,
    vr: str,
    data: bytes,
    value: object,
    *,
    big: bool = False,
    charset: str = "",
    space: bool = False,
    encoded: bytes | str | None = "same",
) -> Case:
    """A value; `encoded` is what it gives if that is not `data`, None if nothing.

    `space`: it is encoded with a space in front.
    """
    given: object = "same" if encoded == "same" else None
    if isinstance(encoded, bytes):
        given = encoded.hex()
    return {
        "name": name,
        "tag": f"{tag:08X}",
        "vr": vr,
        "big": big,
        "charset": charset,
        "bytes": data.hex(),
        "value": {"blob": value.hex()} if isinstance(value, bytes) else value,
        "space": space,
        "encoded": given,
    }


def values_good() -> list[Case]:
    """Bytes of values, what they stand for, and what that is written as."""
    return [*_texts(), *_numbers(), *_blobs(), *_own_vrs()]


def _texts() -> list[Case]:
    name, label = 0x00100010, 0x00081030
    return [
        v("nothing", name, "PN", b"", None),
        v("text", name, "PN", b"A^B ", "A^B"),
        v("a UID, padded with NUL", UID_TAG, "UI", b"1.2\0", "1.2"),
        v("a UID, padded with a space", UID_TAG, "UI", b"1.2 ", "1.2", encoded=b"1.2\0"),
        v("text padded with NUL", label, "LO", b"abc\0", "abc", encoded=b"abc "),
        v("text padded three times", label, "LO", b"a   ", "a", encoded=b"a "),
        v("text of an odd length", label, "LO", b"abc", "abc", encoded=b"abc "),
        v("a space in front", label, "LO", b" abc", "abc", space=True),
        v("a space in front of a UID", UID_TAG, "UI", b" 1.2", "1.2", space=True),
        v("spaces in front", label, "LO", b"  ab", "ab", encoded=b"ab"),
        v("spaces in front that count", TEXT, "LT", b"  ab", "  ab"),
        v("a tab in front counts", label, "LO", b"\tab ", "\tab"),
        v("two spaces", label, "LO", b"  ", "", space=True),
        v("two spaces that count", TEXT, "ST", b"  ", "", encoded=b""),
        v("three spaces", label, "LO", b"   ", "", encoded=b""),
        v("two NULs", UID_TAG, "UI", b"\0\0", "", encoded=b""),
        v("spaces and a NUL", label, "LO", b"a \0 ", "a", encoded=b"a "),
        v("several values", 0x00080008, "CS", b"A \\B\\\\C ", "A \\B\\\\C"),
        v("numbers as text stay text", 0x00180050, "DS", b"1.0000", "1.0000"),
        v("NUL inside", label, "LO", b"a\0b ", "a\0b"),
        v("Latin 1", label, "LO", b"\xe9t\xe9 ", "été", charset="ISO_IR 100"),
        v(
            "UTF-8",
            label,
            "LO",
            "été ".encode() + b" ",
            "été",
            charset="ISO_IR 192",
            encoded="été ".encode(),
        ),
        v("UTF-8 of even length", label, "LO", "né ".encode(), "né", charset="ISO_IR 192"),
        v("Latin 1 that nobody declared", label, "LO", b"\xe9t\xe9 ", "été", encoded=None),
        v(
            "hangul around a backslash that separates nothing",
            TEXT,
            "LT",
            b"\x1b$)C\xb1\xe8\\\xc8\xf1a",
            "김\\희a",
            charset="\\ISO 2022 IR 149",
        ),
        v("kanji", name, "PN", b"\x1b$B;3ED\x1b(B", "山田", charset="\\ISO 2022 IR 87"),
        v(
            "a person name with resets",
            name,
            "PN",
            b"AB=\x1b$B;3\x1b(B^\x1b$BED\x1b(B",
            "AB=山^田",
            charset="\\ISO 2022 IR 87",
        ),
        v(
            "an escape sequence that changes nothing",
            label,
            "LO",
            b"\x1b(Bab ",
            "ab",
            charset="\\ISO 2022 IR 87",
            encoded=b"ab",
        ),
        v("ASCII in a character set nobody knows", label, "LO", b"ab", "ab", charset="KLINGON"),
    ]


def _numbers() -> list[Case]:
    rows, thick = 0x00280010, 0x00189322
    return [
        v("US", rows, "US", b"\0\2", 512),
        v("US in big endian", rows, "US", b"\2\0", 512, big=True),
        v("US of an implicit header", rows, "", b"\0\2", 512),
        v("US as UN", rows, "UN", b"\0\2", 512),
        v("US of three bytes", rows, "US", b"\1\2\3", b"\1\2\3"),
        v("two US", rows, "US", b"\1\2\3\4", b"\1\2\3\4"),
        v("two US in big endian", rows, "US", b"\1\2\3\4", b"\2\1\4\3", big=True),
        v("three bytes of US in big endian", rows, "US", b"\1\2\3", b"\1\2\3", big=True),
        v("rows as UL, against the dictionary", rows, "UL", b"\0\2\0\0", 512),
        v("SS", 0x00189219, "SS", b"\xff\xff", -1),
        v("UL", 0x00186020, "UL", b"\1\0\0\0", 1),
        v("UL in big endian", 0x00186020, "UL", b"\0\0\0\1", 1, big=True),
        v("SL", 0x00186020, "SL", b"\xfe\xff\xff\xff", -2),
        v("UV", 0x7FE00003, "UV", b"\xff" * 8, 2**64 - 1),
        v("SV", 0x00720082, "SV", b"\xff" * 8, -1),
        v("FL", thick, "FL", struct.pack("<f", 0.5), 0.5),
        v("FL that is whole stays a float", thick, "FL", struct.pack("<f", 2), 2.0),
        v("FD", thick, "FD", struct.pack("<d", 0.1), 0.1),
        v("FD in big endian", thick, "FD", struct.pack(">d", 0.1), 0.1, big=True),
        v("two FD", thick, "FD", struct.pack("<dd", 0.5, 2), struct.pack("<dd", 0.5, 2)),
        v(
            "two FD in big endian",
            thick,
            "FD",
            struct.pack(">dd", 0.5, 2),
            struct.pack("<dd", 0.5, 2),
            big=True,
        ),
        v("AT", 0x00280009, "AT", b"\x18\0\x63\x10", "00181063"),
        v("AT in big endian", 0x00280009, "AT", b"\0\x18\x10\x63", "00181063", big=True),
        v("two AT", 0x00280009, "AT", b"\x18\0\x63\x10\x54\0\xfe\xe0", "00181063\\0054E0FE"),
        v("AT of six bytes", 0x00280009, "AT", b"\1\2\3\4\5\6", b"\1\2\3\4\5\6"),
        v(
            "AT of six bytes in big endian",
            0x00280009,
            "AT",
            b"\1\2\3\4\5\6",
            b"\2\1\4\3\6\5",
            big=True,
        ),
        v("a group length is UL, also a private one", 0x00090000, "", b"\4\0\0\0", 4),
    ]


def _blobs() -> list[Case]:
    return [
        v("OB", 0x00420011, "OB", b"\1\2\3", b"\1\2\3"),
        v("OB in big endian", 0x00420011, "OB", b"\1\2\3\4", b"\1\2\3\4", big=True),
        v("OW in big endian", 0x00281201, "OW", b"\1\2\3\4", b"\2\1\4\3", big=True),
        v("OF in big endian", 0x00660016, "OF", b"\1\2\3\4", b"\4\3\2\1", big=True),
        v("OD in big endian", 0x00660023, "OD", bytes(range(8)), bytes(range(7, -1, -1)), big=True),
        v("OW of an odd length in big endian", 0x00281201, "OW", b"\1\2\3", b"\1\2\3", big=True),
        v(
            "pixel data in big endian stay as they are",
            PIXELS,
            "OW",
            b"\1\2\3\4",
            b"\1\2\3\4",
            big=True,
        ),
        v("a VR that nobody knows", 0x00100020, "ZZ", b"1 ", b"1 "),
        v("a sequence that is no row of items", SQ, "SQ", b"\1\2\3\4", b"\1\2\3\4"),
    ]


def _own_vrs() -> list[Case]:
    smallest, private, creator = 0x00280106, 0x00091001, 0x00090010
    return [
        v("US or SS as US", smallest, "US", b"\1\0", b"\1\0"),
        v("US or SS as SS", smallest, "SS", b"\1\0", b"\1\0"),
        v("US or SS of an implicit header", smallest, "", b"\1\0", b"\1\0"),
        v("US or SS in big endian", smallest, "US", b"\0\1", b"\1\0", big=True),
        v("private text", private, "LO", b"ab", b"ab"),
        v("private text of an implicit header", private, "", b"ab", b"ab"),
        v("a private number in big endian", private, "UL", b"\0\0\0\1", b"\1\0\0\0", big=True),
        v(
            "a private number as UN in big endian",
            private,
            "UN",
            b"\0\0\0\1",
            b"\0\0\0\1",
            big=True,
        ),
        v("an empty private value", private, "LO", b"", None),
        v("a private creator", creator, "LO", b"ACME", "ACME"),
        v("a private creator of an implicit header", creator, "", b"ACME", "ACME"),
        v("a private creator as UN", creator, "UN", b"ACME", "ACME"),
        v("an unknown tag of an even group", 0x00080FFF, "LO", b"ab", b"ab"),
        v("an attribute of a repeating group", 0x60020010, "", b"\0\2", 512),
        v("a public text as UN", 0x00100020, "UN", b"ab", "ab"),
        v("a date as LO", 0x00080020, "LO", b"20240910", "20240910"),
        v("text as OB", 0x00100020, "OB", b"ab", b"ab"),
    ]


def values_bad() -> list[Case]:
    """Values that cannot be encoded by the rule of their element."""
    cases: list[tuple[str, int, str, object, str]] = [
        ("a character that the set has not", 0x00100010, "PN", "é", ""),
        (
            "an escape character in a set with code extensions",
            0x00100010,
            "PN",
            "é\x1b",
            "\\ISO 2022 IR 100",
        ),
        ("a number too large", 0x00280010, "US", 65536, ""),
        ("a number below zero", 0x00280010, "US", -1, ""),
        ("a float for a whole number", 0x00280010, "US", 0.5, ""),
        ("a number for a text", 0x00100020, "LO", 1, ""),
        ("a float too large for FL", 0x00189322, "FL", 1e300, ""),
        ("a tag of letters", 0x00280009, "AT", "PatientName", ""),
    ]
    return [
        {
            "name": name,
            "tag": f"{tag:08X}",
            "vr": vr,
            "big": False,
            "charset": charset,
            "value": value,
            "code": "record/value",
        }
        for name, tag, vr, value, charset in cases
    ]


# -- record ------------------------------------------------------------------------------------

META_LAYOUT: Final = "00020000UL= 00020010UI"


def record(
    name: str,
    data: bytes,
    layout: str,
    attributes: Mapping[str, object],
    *,
    max_inline: int = 256,
    big: bool = False,
    meta_layout: str = META_LAYOUT,
    preamble: bool = True,
    syntax: str | None = EXPLICIT,
) -> Case:
    known: Case = {} if syntax is None else {"TransferSyntaxUID": syntax}
    return {
        "name": name,
        "file": spell(data),
        "max_inline": max_inline,
        "encoding": {
            "preamble": preamble,
            "byteOrder": "big" if big else "little",
            "meta": meta_layout,
            "dataSet": layout,
        },
        "attributes": {**known, **attributes},
    }


def reference(content: bytes, **more: object) -> Case:
    return {"length": len(content), "sha256": hashlib.sha256(content).hexdigest()} | more


def record_good() -> list[Case]:
    """Files, and their records."""
    name = element(0x00100010, "PN", "A^B")
    return [
        *_simple_records(name),
        *_item_records(name),
        *_command_records(name),
        *_headers_without_vr(name),
        *_delimited_records(name),
        *_large_records(name),
    ]


def _simple_records(name: bytes) -> list[Case]:
    twice = [element(0x00100020, "LO", raw) for raw in (b"one ", b"t\0", b"three ")]
    gbk = element(0x00100010, "PN", b"\xcd\xf5^\xd0\xa1\xb6\xab")
    return [
        record(
            "a file without peculiarities",
            file(EXPLICIT, name, element(0x00280010, "US", 512), element(0x00280011, "US")),
            "00100010PN 00280010US 00280011US",
            {"PatientName": "A^B", "Rows": 512, "Columns": None},
        ),
        record(
            "implicit headers",
            file(LITTLE, element(0x00280010, "US", 512, explicit=False)),
            "00280010",
            {"Rows": 512},
            syntax=LITTLE,
        ),
        record(
            "big endian",
            file(
                BIG,
                element(0x00280010, "US", 512, big=True),
                element(0x00281201, "OW", [1, 2], big=True),
            ),
            "00280010US 00281201OW",
            {"Rows": 512, "RedPaletteColorLookupTableData": b"\1\0\2\0"},
            big=True,
            syntax=BIG,
        ),
        record(
            "no preamble, prefix or file meta",
            name,
            "00100010PN",
            {"PatientName": "A^B"},
            meta_layout="",
            preamble=False,
            syntax=None,
        ),
        record(
            "a preamble, and bytes behind the data set",
            make.part10(meta(EXPLICIT), name, preamble=b"\1" * 128, trailing=b"end"),
            "00100010PN",
            {"PatientName": "A^B", "_preamble": b"\1" * 128, "_trailing": b"end"},
        ),
        record(
            "padding that encoding does not give",
            file(EXPLICIT, element(0x00080018, "UI", b"1.2 "), element(0x00100020, "LO", b"a\0")),
            "00080018UI 00100020LO",
            {
                "SOPInstanceUID": "1.2",
                "PatientID": "a",
                "_raw.00080018": b"1.2 ",
                "_raw.00100020": b"a\0",
            },
        ),
        record(
            "spaces in front",
            file(
                EXPLICIT,
                element(0x00080018, "UI", b" 1.2"),
                element(SQ, "SQ", item(element(UID_TAG, "UI", b" 1.3"))),
                element(0x00100020, "LO", b"  a "),
                element(0x00204000, "LT", b" a"),
            ),
            "00080018UI^ 00081140SQ([00081155UI^]) 00100020LO 00204000LT",
            {
                "SOPInstanceUID": "1.2",
                "ReferencedImageSequence": [{"ReferencedSOPInstanceUID": "1.3"}],
                "PatientID": "a",
                "_raw.00100020": b"  a ",
                "ImageComments": " a",
            },
        ),
        record(
            "a tag whose first byte is that of a space",
            file(EXPLICIT, element(0x00280009, "AT", [0x00209165])),
            "00280009AT",
            {"FrameIncrementPointer": "00209165"},
        ),
        record(
            "an attribute three times",
            file(EXPLICIT, *twice),
            "00100020LO#1 00100020LO#2 00100020LO",
            {
                "PatientID#1": "one",
                "PatientID#2": "t",
                "_raw.00100020#2": b"t\0",
                "PatientID": "three",
            },
        ),
        record(
            "private attributes, group lengths that are right and wrong",
            file(
                EXPLICIT,
                element(0x00080000, "UL", 10),
                element(0x00080060, "CS", "CT"),
                element(0x00090000, "UL", 1),
                element(0x00090010, "LO", "ACME"),
                element(0x00091001, "LO", "text"),
            ),
            "00080000UL= 00080060CS 00090000UL 00090010LO 00091001LO",
            {"Modality": "CT", "00090000": 1, "00090010": "ACME", "00091001": b"text"},
        ),
        record(
            "text of a declared and of an undeclared character set",
            file(
                EXPLICIT,
                element(CHARSET, "CS", "ISO_IR 100"),
                element(0x00081030, "LO", b"\xe9t\xe9 "),
            ),
            "00080005CS 00081030LO",
            {"SpecificCharacterSet": "ISO_IR 100", "StudyDescription": "été"},
        ),
        record(
            "a name in GBK that is declared as nothing",
            file(EXPLICIT, gbk),
            "00100010PN",
            {"PatientName": "Íõ^Ð¡¶«", "_raw.00100010": b"\xcd\xf5^\xd0\xa1\xb6\xab"},
        ),
        record(
            "reserved bytes, an unknown VR, a length beyond the end",
            file(
                EXPLICIT,
                element(0x00420011, "OB", b"\1\2", reserved=b"\x34\x12"),
                struct.pack("<HH2sH", 0x42, 0x12, b"ZZ", 2) + b"ab",
                element(0x00420FFF, "UT", b"abcd", length=9),
            ),
            "00420011OB/1234 00420012ZZ 00420FFFUT:9",
            {
                "EncapsulatedDocument": b"\1\2",
                "MIMETypeOfEncapsulatedDocument": b"ab",
                "00420FFF": b"abcd",
            },
        ),
    ]


def _item_records(name: bytes) -> list[Case]:
    uid = element(UID_TAG, "UI", "1.2.3")
    spaced = element(UID_TAG, "UI", b"1.2.3 ")
    odd = item(length=make.UNDEFINED) + uid + delimiter(END_OF_ITEM, length=2)
    inner = element(0x00081140, "SQ", item(spaced), undefined=True)
    latin = element(CHARSET, "CS", "ISO_IR 100") + element(0x00081030, "LO", b"\xe9 ")
    implicit = item(element(UID_TAG, "UI", "1.2.3", explicit=False))
    return [
        record(
            "sequences of either length",
            file(
                EXPLICIT,
                element(0x00081110, "SQ", item(uid) + item(undefined=True)),
                element(0x00081115, "SQ", item(inner, undefined=True), undefined=True),
                element(0x00081199, "SQ"),
                element(0x00082112, "SQ", undefined=True),
            ),
            "00081110SQ([00081155UI]{}) 00081115SQ<{00081140SQ<[00081155UI]>}> "
            "00081199SQ 00082112SQ<>",
            {
                "ReferencedStudySequence": [{"ReferencedSOPInstanceUID": "1.2.3"}, {}],
                "ReferencedSeriesSequence": [
                    {"ReferencedImageSequence": [{"ReferencedSOPInstanceUID": "1.2.3"}]}
                ],
                "_raw.00081115[0].00081140[0].00081155": b"1.2.3 ",
                "ReferencedSOPSequence": None,
                "SourceImageSequence": None,
            },
        ),
        record(
            "an attribute twice in an item, and a group length",
            file(
                EXPLICIT,
                element(
                    SQ, "SQ", item(element(0x00080000, "UL", len(spaced) + len(uid)) + spaced + uid)
                ),
            ),
            "00081140SQ([00080000UL= 00081155UI#1 00081155UI])",
            {
                "ReferencedImageSequence": [
                    {"ReferencedSOPInstanceUID#1": "1.2.3", "ReferencedSOPInstanceUID": "1.2.3"}
                ],
                "_raw.00081140[0].00081155#1": b"1.2.3 ",
            },
        ),
        record(
            "an item with a character set of its own",
            file(EXPLICIT, element(SQ, "SQ", item(latin)), element(0x00102180, "SH", b"\xe9 ")),
            "00081140SQ([00080005CS 00081030LO]) 00102180SH",
            {
                "ReferencedImageSequence": [
                    {"SpecificCharacterSet": "ISO_IR 100", "StudyDescription": "é"}
                ],
                "Occupation": "é",
                "_raw.00102180": b"\xe9 ",
            },
        ),
        record(
            "private sequences: of VR SQ, as UN with implicit items, and no sequence",
            file(
                EXPLICIT,
                element(0x00091001, "SQ", item(uid)),
                element(0x00091002, "UN", implicit, undefined=True),
                element(0x00091003, "UN", implicit),
                element(0x00091004, "OB", implicit),
            ),
            "00091001SQ([00081155UI]) 00091002UN<[00081155]> 00091003UN([00081155]) 00091004OB",
            {
                "00091001": [{"ReferencedSOPInstanceUID": "1.2.3"}],
                "00091002": [{"ReferencedSOPInstanceUID": "1.2.3"}],
                "00091003": [{"ReferencedSOPInstanceUID": "1.2.3"}],
                "00091004": implicit,
            },
        ),
        record(
            "delimiters where none should be",
            file(
                EXPLICIT,
                element(0x00081110, "SQ", item(uid)) + delimiter(END_OF_SEQUENCE),
                element(0x00081115, "SQ", item(uid) + delimiter(END_OF_SEQUENCE)),
                element(SQ, "SQ", item(uid) + delimiter(END_OF_ITEM), undefined=True),
                element(0x00081199, "SQ", item(uid + delimiter(END_OF_ITEM))),
                element(0x00082112, "SQ", delimiter(END_OF_SEQUENCE)) + delimiter(END_OF_SEQUENCE),
                element(0x00400275, "SQ") + item(uid) + delimiter(END_OF_SEQUENCE),
            ),
            "00081110SQ([00081155UI]) FFFEE0DD#1 00081115SQ([00081155UI]> "
            "00081140SQ<[00081155UI]FFFEE00D[]> 00081199SQ([00081155UI FFFEE00D]) "
            "00082112SQ(> FFFEE0DD#2 00400275SQ FFFEE000 FFFEE0DD",
            {
                "ReferencedStudySequence": [{"ReferencedSOPInstanceUID": "1.2.3"}],
                "ReferencedSeriesSequence": [{"ReferencedSOPInstanceUID": "1.2.3"}],
                "ReferencedImageSequence": [{"ReferencedSOPInstanceUID": "1.2.3"}, {}],
                "ReferencedSOPSequence": [{"ReferencedSOPInstanceUID": "1.2.3", "FFFEE00D": None}],
                "SourceImageSequence": None,
                "RequestAttributesSequence": None,
                "FFFEE000": uid,
                "FFFEE0DD#1": None,
                "FFFEE0DD#2": None,
                "FFFEE0DD": None,
            },
        ),
        record(
            "items without delimiter, and zeros",
            file(
                EXPLICIT,
                element(0x00081110, "SQ", item(undefined=True) + item(length=make.UNDEFINED) + uid),
                element(0x00081115, "SQ", item(uid) + bytes(16)),
            ),
            "00081110SQ({}{00081155UI]) 00081115SQ([00081155UI]00000000[]00000000[])",
            {
                "ReferencedStudySequence": [{}, {"ReferencedSOPInstanceUID": "1.2.3"}],
                "ReferencedSeriesSequence": [{"ReferencedSOPInstanceUID": "1.2.3"}, {}, {}],
            },
        ),
        record(
            "sequences that are no row of items",
            file(
                EXPLICIT,
                element(0x00081110, "SQ", name),
                element(0x00081115, "SQ", odd, undefined=True),
                element(0x00081140, "SQ", item(uid, length=99)),
            ),
            "00081110SQ 00081115SQ~ 00081140SQ",
            {
                "ReferencedStudySequence": name,
                "ReferencedSeriesSequence": odd + delimiter(END_OF_SEQUENCE),
                "ReferencedImageSequence": item(uid, length=99),
            },
        ),
    ]


def _command_records(name: bytes) -> list[Case]:
    commands = element(0x00000002, "UI", "1.2", explicit=False)
    length = element(0x00000000, "UL", len(commands), explicit=False)
    return [
        record(
            "a command set is written with the file meta information",
            file(EXPLICIT, length, commands, name),
            "00100010PN",
            {"PatientName": "A^B", "AffectedSOPClassUID": "1.2"},
            meta_layout=f"{META_LAYOUT} 00000000= 00000002",
        )
    ]


def _headers_without_vr(name: bytes) -> list[Case]:
    """Sequences of defined length in explicit data sets, with no VR in their headers."""
    bare = element(0x00100010, "PN", "A^B", explicit=False)
    of_explicit = element(SQ, "SQ", item(name), explicit=False)
    of_implicit = element(SQ, "SQ", item(bare + element(SQ, "SQ", item(bare), explicit=False)))
    inner = {"PatientName": "A^B"}
    return [
        record(
            "explicit items in a sequence without VR, and one of them in an explicit item",
            file(EXPLICIT, name, of_explicit, element(0x00400275, "SQ", item(name + of_explicit))),
            "00100010PN 00081140([00100010PN]) 00400275SQ([00100010PN 00081140([00100010PN])])",
            {
                **inner,
                "ReferencedImageSequence": [inner],
                "RequestAttributesSequence": [{**inner, "ReferencedImageSequence": [inner]}],
            },
        ),
        record(
            "implicit items in an implicit item",
            file(EXPLICIT, name, of_implicit),
            "00100010PN 00081140SQ([00100010 00081140([00100010])])",
            {
                **inner,
                "ReferencedImageSequence": [{**inner, "ReferencedImageSequence": [inner]}],
            },
        ),
    ]


def _delimited_records(name: bytes) -> list[Case]:
    """Values of undefined length that are no items."""
    text = element(TEXT, "UT", "ab  ", undefined=True)
    long = element(0x00420011, "OB", b"0123456789", undefined=True)
    odd = element(0x00091001, "UN", b"abc", length=make.UNDEFINED) + delimiter(
        END_OF_SEQUENCE, length=4
    )
    words = element(0x00281201, "OW", [1, 2, 3, 4, 5], big=True, undefined=True)
    turned = struct.pack("<5H", 1, 2, 3, 4, 5)
    return [
        record(
            "values of undefined length",
            file(EXPLICIT, odd, text),
            "00091001UN$4 00204000UT$",
            {"00091001": b"abc", "ImageComments": "ab", "_raw.00204000": b"ab  "},
        ),
        record(
            "a value of undefined length of more than 8 bytes, whose group has a length",
            file(EXPLICIT, name, element(0x00420000, "UL", len(long)), long),
            "00100010PN 00420000UL= 00420011OB$",
            {"PatientName": "A^B", "EncapsulatedDocument": reference(b"0123456789")},
            max_inline=8,
        ),
        record(
            "large words of undefined length in big endian",
            file(BIG, words),
            "00281201OW$",
            {"RedPaletteColorLookupTableData": reference(turned)},
            big=True,
            max_inline=8,
            syntax=BIG,
        ),
    ]


def _large_records(name: bytes) -> list[Case]:
    text = b"0123456789"
    value = make.encapsulate([[b"ab"], [b"cd", b"efgh"]])
    words = element(0x00281201, "OW", [1, 2, 3, 4, 5], big=True)
    stream = stored_deflate(name)
    turned = struct.pack("<5H", 1, 2, 3, 4, 5)
    spaces = b" " * int.from_bytes(b"LO", "little")
    looks_explicit = element(TEXT, "LT", spaces, explicit=False)
    return [
        record(
            "UN with implicit items, the first half of whose length looks like a VR",
            file(
                EXPLICIT,
                element(0x00091001, "UN", item(looks_explicit), undefined=True),
                element(0x00091002, "UN", item(name), undefined=True),
            ),
            "00091001UN<[00204000]> 00091002UN<[00100010PN]>",
            {
                "00091001": [{"ImageComments": reference(spaces)}],
                "00091002": [{"PatientName": "A^B"}],
            },
        ),
        record(
            "values of more than 8 bytes",
            file(
                EXPLICIT,
                element(TEXT, "LT", text),
                element(0x00400275, "SQ", item(element(TEXT, "LT", text))),
                element(PIXELS, "OW", text),
            ),
            "00204000LT 00400275SQ([00204000LT]) 7FE00010OW",
            {
                "ImageComments": reference(text),
                "RequestAttributesSequence": [{"ImageComments": reference(text)}],
                "PixelData": reference(text),
                "TransferSyntaxUID": EXPLICIT,
            },
            max_inline=8,
        ),
        record(
            "large words and large pixel data in big endian",
            file(BIG, words, element(PIXELS, "OW", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], big=True)),
            "00281201OW 7FE00010OW",
            {
                "TransferSyntaxUID": BIG,
                "RedPaletteColorLookupTableData": reference(turned),
                "PixelData": reference(struct.pack(">10H", *range(1, 11))),
            },
            max_inline=8,
            big=True,
        ),
        record(
            "encapsulated pixel data",
            file(EXPLICIT, make.encapsulated(value)),
            "7FE00010OB~",
            {"PixelData": reference(value, fragments=[8, 2, 2, 4])},
        ),
        record(
            "a deflated data set",
            make.part10(meta(make.DEFLATED), stream + b"Z"),
            "00100010PN",
            {"PatientName": "A^B", "_deflated": stream + b"Z"},
            syntax=make.DEFLATED,
        ),
    ]


def record_bad() -> list[Case]:
    """Records that cannot be written, or are none."""
    encoding = record("", b"", "00100010PN", {})["encoding"]
    known = {"TransferSyntaxUID": EXPLICIT}

    def case(name: str, code: str, attributes: Case, **changes: object) -> Case:
        return {
            "name": name,
            "encoding": encoding | changes,
            "attributes": known | attributes,
            "code": code,
        }

    return [
        case("an attribute that is missing", "record/missing-attribute", {}),
        case(
            "an attribute of an item that is missing",
            "record/missing-attribute",
            {"ReferencedImageSequence": [{}]},
            dataSet="00081140SQ([00081155UI])",
        ),
        case("a value that cannot be encoded", "record/value", {"PatientName": 1}),
        case(
            "too few items",
            "record/items",
            {"ReferencedImageSequence": [{}]},
            dataSet="00081140SQ([][])",
        ),
        case(
            "a text where items should be",
            "record/items",
            {"ReferencedImageSequence": "text"},
            dataSet="00081140SQ([])",
        ),
        case("no layout", "record/layout", {"PatientName": "A"}, dataSet="PatientName"),
        case(
            "a text too long for its header",
            "p10/too-long",
            {"PatientName": "A" * 65536},
        ),
        {
            "name": "an encoding without byte order",
            "encoding": {"preamble": True, "meta": "", "dataSet": ""},
            "attributes": {},
            "code": "record/encoding",
        },
    ]


# -- grouping ----------------------------------------------------------------------------------

SERIES: Final = {"StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.2.3", "Modality": "CT"}


def instance(number: int, **attributes: Any) -> Case:
    """The attributes of an instance of the series."""
    return SERIES | {"SOPInstanceUID": f"1.2.3.{number:02}"} | attributes


def grouped(
    name: str,
    records: list[Case],
    groups: Mapping[str, list[Mapping[str, object]]],
    own: Mapping[str, Mapping[str, object]] | None = None,
) -> Case:
    """What is expected of records: all groups but those of `SERIES`, and what stays beside UIDs."""
    expected: dict[str, list[Mapping[str, object]]] = {
        "generalStudy": [{"StudyInstanceUID": "1.2"}],
        "generalSeries": [{"SeriesInstanceUID": "1.2.3", "Modality": "CT"}],
        **groups,
    }
    return {
        "name": name,
        "records": records,
        "groups": {
            group: {ion_digest(content): content for content in contents}
            for group, contents in expected.items()
        },
        "own": {
            each["SOPInstanceUID"]: {
                "SOPInstanceUID": each["SOPInstanceUID"],
                **(own or {}).get(each["SOPInstanceUID"], {}),
            }
            for each in records
        },
    }


def grouping_good() -> list[Case]:
    """Series of records; their groups by digest, and what stays with each instance."""
    conflict = [instance(1, PatientName="A^B"), instance(2, PatientName="A^C")]
    sixteen = range(1, 17)
    return [
        grouped(
            "seed groups are formed for each instance",
            conflict,
            {"patient": [{"PatientName": "A^B"}, {"PatientName": "A^C"}]},
        ),
        grouped(
            "null is not absent",
            [instance(1, PatientSex=None), instance(2)],
            {"patient": [{"PatientSex": None}]},
        ),
        grouped(
            "where each attribute belongs",
            [
                instance(
                    1,
                    InstanceNumber="7",
                    ConvolutionKernel="120",
                    PatientBirthName="C",
                    **{"00090010": "ACME", "00091001": b"\1", "60000010": 512},
                )
            ],
            {
                "ctImage": [{"ConvolutionKernel": "120"}],
                "patientDemographic": [{"PatientBirthName": "C"}],
                "private": [{"00090010": "ACME", "00091001": b"\1"}],
                "overlayPlane": [{"60000010": 512}],
            },
            {"1.2.3.01": {"InstanceNumber": "7"}},
        ),
        grouped(
            "of two instances, what is constant",
            [
                instance(1, ConvolutionKernel="120", RotationDirection="1"),
                instance(2, ConvolutionKernel="120", RotationDirection="2"),
            ],
            {"ctImage": [{"ConvolutionKernel": "120"}]},
            {"1.2.3.01": {"RotationDirection": "1"}, "1.2.3.02": {"RotationDirection": "2"}},
        ),
        grouped(
            "of 16 instances, two values are slow and three are not",
            [
                instance(
                    n, ConvolutionKernel="120", RotationDirection=str(n % 2), TableHeight=str(n % 3)
                )
                for n in sixteen
            ],
            {
                "ctImage": [
                    {"ConvolutionKernel": "120", "RotationDirection": "0"},
                    {"ConvolutionKernel": "120", "RotationDirection": "1"},
                ]
            },
            {f"1.2.3.{n:02}": {"TableHeight": str(n % 3)} for n in sixteen},
        ),
        grouped(
            "absent is a value",
            [instance(n, **({"ConvolutionKernel": "120"} if n > 1 else {})) for n in sixteen],
            {"ctImage": [{"ConvolutionKernel": "120"}]},
        ),
        grouped(
            "absent is a third value",
            [instance(n, **({"ConvolutionKernel": str(n % 2)} if n > 1 else {})) for n in sixteen],
            {},
            {f"1.2.3.{n:02}": {"ConvolutionKernel": str(n % 2)} for n in sixteen if n > 1},
        ),
        grouped(
            "eight combinations of slow attributes are too many",
            [
                instance(
                    n,
                    ConvolutionKernel="120",
                    RotationDirection=str(n % 2),
                    TableHeight=str(n // 2 % 2),
                    DataCollectionDiameter=str(n // 4 % 2),
                )
                for n in sixteen
            ],
            {"ctImage": [{"ConvolutionKernel": "120"}]},
            {
                f"1.2.3.{n:02}": {
                    "RotationDirection": str(n % 2),
                    "TableHeight": str(n // 2 % 2),
                    "DataCollectionDiameter": str(n // 4 % 2),
                }
                for n in sixteen
            },
        ),
        grouped(
            "four combinations are not",
            [
                instance(n, RotationDirection=str(n % 2), TableHeight=str(n // 2 % 2))
                for n in sixteen
            ],
            {
                "ctImage": [
                    {"RotationDirection": time, "TableHeight": height}
                    for time in "01"
                    for height in "01"
                ]
            },
        ),
        grouped(
            "items are values like any other",
            [
                instance(n, ReferencedImageSequence=[{"ReferencedSOPInstanceUID": "1.2"}])
                for n in (1, 2)
            ],
            {
                "generalReference": [
                    {"ReferencedImageSequence": [{"ReferencedSOPInstanceUID": "1.2"}]}
                ]
            },
        ),
    ]


def _image(
    syntax: str,
    *,
    explicit: bool = True,
    big: bool = False,
    changes: Mapping[int, tuple[str, make.Value]] | None = None,
    without: int = 0,
) -> list[str]:
    """A small file in one of its encodings."""
    elements: dict[int, tuple[str, make.Value]] = {
        CHARSET: ("CS", "ISO_IR 100"),
        0x00080016: ("UI", make.CT_IMAGE),
        0x00080018: ("UI", "1.2.3.01"),
        0x00080060: ("CS", "CT"),
        0x00090010: ("LO", "ACME"),
        0x00091001: ("US", [1, 2]),
        0x00091002: ("FD", 0.5),
        0x00100010: ("PN", b"M\xfcller"),
        0x00100040: ("CS", ""),
        0x00180050: ("DS", "1.0000"),
        0x0020000D: ("UI", "1.2"),
        0x0020000E: ("UI", "1.2.3"),
        0x00280009: ("AT", [0x00181063]),
        0x00280010: ("US", 512),
        0x00280106: ("US", 3),
        0x00281201: ("OW", [1, 2, 3]),
        PIXELS: ("OW", [1, 2, 3, 4]),
        **(changes or {}),
    }
    inside = element(UID_TAG, "UI", "1.2.3.02", explicit=explicit, big=big)
    inside += element(0x00281101, "US", [1, 2, 3], explicit=explicit, big=big)
    parts = []
    elements[SQ] = ("SQ", item(inside, big=big))
    for tag, (vr, value) in sorted(elements.items()):
        if tag != without:
            parts.append(element(tag, vr, value, explicit=explicit, big=big))
    return spell(file(syntax, *parts))


def grouping_equivs() -> list[Case]:
    """Files with the same groups, but for the names in `but`."""
    plain = _image(EXPLICIT)
    return [
        {
            "name": "one image in implicit, explicit and big-endian encoding",
            "files": [plain, _image(LITTLE, explicit=False), _image(BIG, big=True)],
            "but": ["encoding", "imagePixel"],
        },
        {
            "name": "UN for public attributes",
            "files": [plain, _image(EXPLICIT, changes={0x00180050: ("UN", "1.0000")})],
            "but": ["encoding"],
        },
        {
            "name": "another character set",
            "files": [
                _image(EXPLICIT, changes={0x00080005: ("CS", syntax), 0x00100010: ("PN", name)})
                for syntax, name in (
                    ("ISO_IR 100", b"M\xfcller"),
                    ("ISO_IR 192", "Müller ".encode()),
                )
            ],
            "but": ["generalImage", "raw"],
        },
        {
            "name": "padding",
            "files": [plain, _image(EXPLICIT, changes={0x00080060: ("CS", b"CT  ")})],
            "but": ["raw"],
        },
    ]


def grouping_non_equivs() -> list[Case]:
    """Files that differ in the groups of the names in `in` and in no other."""
    plain = _image(EXPLICIT)
    return [
        {
            "name": "empty and absent",
            "files": [plain, _image(EXPLICIT, without=0x00100040)],
            "in": ["encoding", "patient"],
        },
        {
            "name": "1.0000 and 1",
            "files": [plain, _image(EXPLICIT, changes={0x00180050: ("DS", "1")})],
            "in": ["imagePlane"],
        },
        {
            "name": "one number and the same twice",
            "files": [plain, _image(EXPLICIT, changes={0x00280010: ("US", [512, 512])})],
            "in": ["imagePixel"],
        },
        {
            "name": "a private text and its number",
            "files": [plain, _image(EXPLICIT, changes={0x00091002: ("DS", "0.5")})],
            "in": ["encoding", "private"],
        },
    ]


# -- bulk --------------------------------------------------------------------------------------


def rle_zstd(runs: list[tuple[int, int]]) -> bytes:
    """A zstandard frame of RLE blocks, each a byte and how often it stands (RFC 8878)."""
    size = sum(count for _, count in runs)
    frame = b"\x28\xb5\x2f\xfd\x20" + bytes([size])
    for at, (byte, count) in enumerate(runs, 1):
        header = count << 3 | 1 << 1 | (at == len(runs))
        frame += header.to_bytes(3, "little") + bytes([byte])
    return frame


def bulk_good() -> list[Case]:
    """Bulk files, places in them, and the values there."""
    magic = b"DCMBULK1"
    zeros = rle_zstd([(0x41, 200)])
    words = rle_zstd([(1, 100), (2, 100)])
    odd = rle_zstd([(1, 60), (2, 60), (3, 1)])
    value = b"first" + b"second"

    def case(
        name: str,
        data: bytes,
        value: bytes,
        /,
        *,
        before: bytes = b"",
        behind: bytes = b"",
        **place: object,
    ) -> Case:
        length = len(value)
        return {
            "name": name,
            "file": spell(magic + before + data + behind),
            "place": {"offset": len(magic + before), **place},
            "length": length,
            "value": spell(value),
            "sha256": hashlib.sha256(value).hexdigest(),
            "ranges": [[0, 1], [length // 3, 2 * length // 3], [length - 1, length]],
        }

    return [
        case("stored as it is", value, value, stored=[11]),
        case("between others", value, value, before=b"other", behind=b"more", stored=[11]),
        case("compressed", zeros, b"A" * 200, stored=[len(zeros)]),
        case("compressed words", words, b"\1\2" * 100, stored=[len(words)], word=2),
        case("words, and a byte behind them", odd, b"\1\2" * 60 + b"\3", stored=[len(odd)], word=2),
        case(
            "words of four bytes",
            rle_zstd([(1, 50), (0, 150)]),
            b"\1\0\0\0" * 50,
            stored=[14],
            word=4,
        ),
        case(
            "three chunks, one compressed",
            b"x" * 16 + rle_zstd([(0x79, 16)]) + b"zz",
            b"x" * 16 + b"y" * 16 + b"zz",
            stored=[16, 10, 2],
            chunk=16,
        ),
        case("words, but stored as they are", b"\1\2\3\4", b"\1\2\3\4", stored=[4], word=2),
    ]


def bulk_bad() -> list[Case]:
    """Bulk files and places that are refused."""
    magic = b"DCMBULK1"
    good = b"value"
    frame = rle_zstd([(0x41, 200)])
    sha256 = hashlib.sha256(good).hexdigest()

    def case(name: str, code: str, data: bytes, length: int, place: object) -> Case:
        return {
            "name": name,
            "file": spell(data),
            "place": place,
            "length": length,
            "sha256": sha256,
            "code": code,
        }

    def placed(name: str, **place: object) -> Case:
        return case(name, "bulk/place", magic + good, 5, {"offset": 8, "stored": [5]} | place)

    whole = {"offset": 8, "stored": [5]}
    packed = {"offset": 8, "stored": [len(frame)]}
    return [
        case("another file", "bulk/not-bulk", b"DCMBULK2" + good, 5, whole),
        case("an empty file", "bulk/truncated", b"", 5, whole),
        case("a file cut short", "bulk/truncated", magic + good[:-1], 5, whole),
        case("another value", "bulk/digest", magic + b"Value", 5, whole),
        case("no frame", "bulk/damaged", magic + b"B" * len(frame), 200, packed),
        case("a frame of another size", "bulk/damaged", magic + frame, 199, packed),
        case("a damaged frame", "bulk/damaged", magic + frame[:6] + b"\xff" * 4, 200, packed),
        case("no offset", "bulk/place", magic + good, 5, {"stored": [5]}),
        case("no sizes", "bulk/place", magic + good, 5, {"offset": 8}),
        placed("an offset below zero", offset=-1),
        placed("too many sizes", stored=[3, 2]),
        placed("too few sizes", chunk=3),
        placed("a size of zero", stored=[0]),
        placed("a chunk stored larger than it is", stored=[6]),
        placed("a chunk of no bytes", chunk=0),
        placed("words of three bytes", word=3),
        placed("a text as size", stored=["five"]),
        case(
            "a chunk of more than 1 MiB",
            "bulk/place",
            magic,
            (1 << 20) + 1,
            {"offset": 8, "stored": [9]},
        ),
    ]


# -- writing -----------------------------------------------------------------------------------


def _json(cases: list[Case]) -> str:
    lines = (json.dumps(case, ensure_ascii=False) for case in cases)
    return "[\n  " + ",\n  ".join(lines) + "\n]\n"


def _ion(cases: list[Case]) -> str:
    return "[\n" + ",\n".join(_ion_value(case, 1) for case in cases) + "\n]\n"


def _ion_value(value: object, depth: int) -> str:
    """Text Ion, one line for what is short."""
    indent = "  " * depth
    if isinstance(value, dict):
        fields = [f"{_symbol(name)}: {_ion_value(each, 0)}" for name, each in value.items()]
        if depth:
            return f"{indent}{{\n" + ",\n".join(f"{indent}  {f}" for f in fields) + f"\n{indent}}}"
        return "{" + ", ".join(fields) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_ion_value(each, 0) for each in value) + "]"
    if isinstance(value, bytes):
        return "{{" + base64.b64encode(value).decode() + "}}"
    if isinstance(value, float):
        return f"{value!r}e0"
    return json.dumps(value, ensure_ascii=False)


def _symbol(name: str) -> str:
    return name if re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name) else f"'{name}'"


def all_vectors() -> dict[str, str]:
    """The text of every file, by its path in `spec/vectors`."""
    return {
        "p10/good.json": _json(p10_good()),
        "p10/bad.json": _json(p10_bad()),
        "layout/good.json": _json(layout_good()),
        "layout/bad.json": _json(layout_bad()),
        "values/good.json": _json(values_good()),
        "values/bad.json": _json(values_bad()),
        "record/good.ion": _ion(record_good()),
        "record/bad.ion": _ion(record_bad()),
        "grouping/good.ion": _ion(grouping_good()),
        "grouping/equivs.json": _json(grouping_equivs()),
        "grouping/non-equivs.json": _json(grouping_non_equivs()),
        "bulk/good.json": _json(bulk_good()),
        "bulk/bad.json": _json(bulk_bad()),
    }


def main() -> None:
    """Write all files."""
    for name, text in all_vectors().items():
        path = FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
