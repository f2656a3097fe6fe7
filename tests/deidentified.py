"""One archive to be de-identified, and what it becomes, for the tests of that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dicomstudy
from dicomstudy.deidentification.pseudonyms import Pseudonyms
from fixtures import make
from tests import studies

__all__ = ["KEY", "NEW", "archive_of_one", "in_item", "instances", "made_with"]

KEY = b"0123456789abcdef"
#: What that key makes of UIDs and names.
NEW = Pseudonyms(KEY)


def instances(archive: Path) -> list[Any]:
    """All instances of an archive."""
    return [i for study in dicomstudy.open_archive(archive).values() for i in study.values()]


def made_with(archive: Path, folder: Path, *options: str) -> list[Any]:
    """The instances of an archive once it is de-identified with some options."""
    dicomstudy.deidentify(archive, folder, key=KEY, options=options)
    assert dicomstudy.verify(folder).problems == []
    return instances(folder)


def in_item(tag: int, *elements: bytes) -> bytes:
    """A sequence of one item."""
    return make.element(tag, "SQ", make.item(b"".join(elements)))


def archive_of_one(folder: Path) -> Path:
    """An archive of one CT slice with a little of everything that options are about."""
    item = make.element(0x0040A043, "SQ") + make.element(0x0040A160, "UT", "said Ben, well")
    safe = [
        make.element(0x00080301, "US", 9),
        make.element(0x00080302, "LO", "MAKER"),
        make.element(0x00080303, "CS", "SAFE"),
    ]
    extra = [
        make.element(0x00080021, "DA", "20200102"),
        make.element(0x0008002A, "DT", "20200102101112.5"),
        make.element(0x00080031, "TM", "101112"),
        make.element(0x00080022, "DA", "2020"),
        make.element(0x00080080, "LO", "Example Hospital"),
        make.element(0x00081030, "LO", "CT of Ben in 20200102"),
        make.element(0x00081010, "SH", "STATION7"),
        make.element(0x00080055, "AE", "AETITLE"),
        make.element(0x00080300, "SQ", make.item(b"".join(safe))),
        make.element(0x00090010, "LO", "MAKER"),
        make.element(0x00091001, "LO", "made with care"),
        make.element(0x00091002, "LO", "made for Example"),
        make.element(0x00091003, "LO", "made for Ben "),
        make.element(0x00091004, "US", 7),
        make.element(0x00101010, "AS", "044Y"),
        make.element(0x00102110, "LO", "Example is allergic"),
        make.element(0x0040A730, "SQ", make.item(item)),
        make.element(0x00700001, "SQ", make.item(make.element(0x00700006, "ST", "Ben here"))),
        make.element(0x60003000, "OW", bytes(8)),
        make.element(0x00100010, "PN", "Example^Ben"),
        make.element(0x00100020, "LO", "EX-77"),
        make.element(0x0020000D, "UI", make.uid("one")),
    ]
    file = make.part10(make.file_meta(), make.small("one", *extra))
    studies.write_files(folder / "in", [("one.dcm", file)])
    dicomstudy.convert([folder / "in"], folder / "archive")
    return folder / "archive"
