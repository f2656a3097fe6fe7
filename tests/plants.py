"""Files in which every attribute that is to be removed has a value of its own, to look for later.

The rows are read from the table itself, by nothing that the package has for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import zstandard

import dicomstudy
from dicomstudy import definitions
from dicomstudy.bulk import Place
from dicomstudy.document import Document
from fixtures import make

DEFINITIONS = definitions.load()
TABLE = json.loads(
    (Path(__file__).parents[1] / "formats" / "confidentiality" / "2024c.json").read_bytes()
)
STUDY, SERIES = "1.2.826.0.1.77001", "1.2.826.0.1.77002"
#: VRs of values that are too short to be looked for.
_SHORT_VRS = frozenset(("AS", "US"))
#: What a data set has by itself.
_OWN = frozenset((0x00080018, 0x00100010, 0x00100020, 0x00104000, 0x0020000D, 0x0020000E))
#: A sequence that the table does not have, so that its items stay.
KEPT_SEQUENCE = 0x00082218


class Planter:
    """Makes values that occur nowhere else; `planted` has them by what they are of."""

    def __init__(self) -> None:
        self.planted: dict[str, str] = {}

    def value(self, vr: str, where: str) -> str:
        """A valid value of a VR, remembered under a name."""
        number = len(self.planted)
        value = {
            "DA": f"19{30 + number // 336:02}{1 + number // 28 % 12:02}{1 + number % 28:02}",
            "DT": f"19310203040506.{700000 + number}",
            "TM": f"070809.{700000 + number}",
            "DS": f"7.77{10000 + number}",
            "IS": f"777{10000 + number}",
            "UI": f"1.2.826.0.1.77{10000 + number}.9",
            "UR": f"http://plant.example/{10000 + number}",
        }.get(vr, f"PLANT{10000 + number}Q")
        self.planted[where] = value
        return value

    def element(self, tag: int, vr: str, where: str, **options: Any) -> bytes:
        """An element with such a value."""
        value = self.value(vr, where)
        if vr in {"OB", "OW", "UN"}:
            return make.element(tag, vr, value.encode() + b"\0" * (len(value) % 2), **options)
        return make.element(tag, vr, value, **options)

    def rows(self, where: str, **options: Any) -> Iterator[tuple[int, bytes]]:
        """Tag and element of each row of the table, with a value to be removed."""
        for tag, profile, _, name in TABLE["attributes"]:
            if tag == "private" or int(tag[:4].replace("x", "0"), 16) < 8:
                continue
            number = int(tag.replace("x", "0"), 16)
            if tag == "50xxxxxx":
                number = 0x50003000
            vr = DEFINITIONS.vr(number).rpartition(" ")[2]
            if number in _OWN or vr in _SHORT_VRS:
                continue
            if vr == "SQ":
                inside = (0x00100010, "PN") if profile == "X/Z/U*" else (0x00080104, "LO")
                code = self.element(*inside, f"{where} {name} item", **options)
                content = make.item(code, big=options.get("big", False))
                yield number, make.element(number, "SQ", content, **options)
            else:
                yield number, self.element(number, vr, f"{where} {name}", **options)

    def data_set(self, number: int, *, large: bool = True, **options: Any) -> bytes:
        """The elements of a whole instance."""
        where = f"instance {number}"
        elements = dict(self.rows(where, **options))
        nested = b"".join(
            element for _, element in sorted(self.rows(f"{where} in item", **options))
        )
        content = make.item(nested, big=options.get("big", False))
        elements[KEPT_SEQUENCE] = make.element(KEPT_SEQUENCE, "SQ", content, **options)
        uid = f"1.2.826.0.1.7700{number}"
        self.planted |= {"study": STUDY, "series": SERIES, f"{where} uid": uid}
        for tag, value in ((0x00080018, uid), (0x0020000D, STUDY), (0x0020000E, SERIES)):
            elements[tag] = make.element(tag, "UI", value, **options)
        elements[0x00080016] = make.element(0x00080016, "UI", make.SECONDARY_CAPTURE, **options)
        elements[0x00080060] = make.element(0x00080060, "CS", "OT", **options)
        elements[0x00090010] = self.element(0x00090010, "LO", f"{where} creator", **options)
        elements[0x00091001] = self.element(0x00091001, "LO", f"{where} private", **options)
        elements[0x00187FFE] = self.element(0x00187FFE, "LO", f"{where} unknown", **options)
        if large:
            text = f"{self.value('LT', f'{where} large')} " + "and so on " * 40
            elements[0x00104000] = make.element(0x00104000, "LT", text, **options)
        # names, numbers and UIDs in what stays
        name, other = self.value("PN", f"{where} family"), self.value("PN", f"{where} given")
        elements[0x00100010] = make.element(0x00100010, "PN", f"{name}^{other}", **options)
        patient = self.value("LO", f"{where} id")
        elements[0x00100020] = make.element(0x00100020, "LO", patient, **options)
        text = f"seen {name.lower()}, {other}_{patient}: {uid} kept-words " * 12
        elements[0x0040A160] = make.element(0x0040A160, "UT", text, **options)
        elements[0x00180024] = make.element(0x00180024, "SH", f"t1 {other}", **options)
        elements[0x00280002] = make.element(0x00280002, "US", 1, **options)
        elements[0x00280010] = make.element(0x00280010, "US", 16, **options)
        elements[0x00280011] = make.element(0x00280011, "US", 16, **options)
        elements[0x00280100] = make.element(0x00280100, "US", 16, **options)
        pixels = bytes(range(256)) * 2
        elements[0x7FE00010] = make.element(0x7FE00010, "OW", pixels, **options)
        return b"".join(element for _, element in sorted(elements.items()))

    def meta(self, number: int, transfer_syntax: str = make.EXPLICIT) -> bytes:
        """File meta information that says who wrote and sent the file."""
        where = f"meta {number}"
        content = b"".join(
            [
                make.element(0x00020001, "OB", b"\0\1"),
                make.element(0x00020002, "UI", make.SECONDARY_CAPTURE),
                make.element(0x00020003, "UI", f"1.2.826.0.1.7700{number}"),
                make.element(0x00020010, "UI", transfer_syntax),
                self.element(0x00020012, "UI", f"{where} class"),
                self.element(0x00020013, "SH", f"{where} version"),
                self.element(0x00020016, "AE", f"{where} source"),
                self.element(0x00020100, "UI", f"{where} creator"),
                self.element(0x00020102, "OB", f"{where} private"),
            ]
        )
        return make.element(0x00020000, "UL", len(content)) + content

    def files(self) -> dict[str, bytes]:
        """Instances of one study, each written in another way."""
        preamble = self.value("LO", "preamble").encode().ljust(128, b".")
        twice = make.element(0x00100010, "PN", self.value("PN", "repeated name"))
        raw = self.value("PN", "undecodable name").encode() + b"\xff\xfe"
        odd = make.element(0x00081048, "PN", raw + b"  "[: len(raw) % 2])
        self.planted["end"] = "ZQENDQZ"
        first = self.data_set(5)
        big = {"big": True}
        return {
            "plain.dcm": make.part10(self.meta(1), self.data_set(1), preamble=preamble),
            "implicit.dcm": make.part10(
                self.meta(2, make.IMPLICIT), self.data_set(2, explicit=False)
            ),
            "big.dcm": make.part10(self.meta(3, make.BIG_ENDIAN), self.data_set(3, **big)),
            "deflated.dcm": make.part10(
                self.meta(4, make.DEFLATED), make.deflated(self.data_set(4))
            ),
            "odd.dcm": make.part10(
                self.meta(5), odd + twice + first, trailing=self.planted["end"].encode()
            ),
        }


def haystack(*folders: Path) -> bytes:
    """All that can be read in some folders: names, bytes, and what is compressed in them."""
    found = []
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            found.append(path.relative_to(folder).as_posix().encode())
            if not path.is_file():
                continue
            content = path.read_bytes()
            found.append(content)
            if path.name.endswith(".ion.zst"):
                found += _plain(content)
            elif path.suffix == ".parquet":
                found.append(repr(pq.read_table(path).to_pylist()).encode())
                found.append(repr(pq.read_schema(path).metadata).encode())
        if (folder / "archive.ion").exists():
            found += _values(folder)
    return b"\n".join(found)


def _plain(content: bytes) -> Iterator[bytes]:
    reader = zstandard.ZstdDecompressor().stream_reader(content, read_across_frames=True)
    yield reader.read()


def _values(archive: Path) -> Iterator[bytes]:
    for study in dicomstudy.open_archive(archive).values():
        with study:
            for _, length, place in study.places():
                yield study.bulk.read(Place.from_struct(place, length))


def found_in(values: dict[str, str], content: bytes) -> list[str]:
    """What the values are of that occur in some bytes."""
    lower = content.lower()
    return [where for where, value in values.items() if value.lower().encode() in lower]


def headers_of(archive: Path) -> list[dict[str, Any]]:
    """The headers of all documents."""
    headers = []
    for path in dicomstudy.open_archive(archive).documents():
        document = Document(path)
        headers.append(document.header)
        document.close()
    return headers
