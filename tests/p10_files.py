"""Files of some elements, for the tests of how files are read."""

from __future__ import annotations

from unittest import mock

from dicomstudy.p10 import read
from fixtures import make
from fixtures.make import element, part10

__all__ = ["DELIMITER", "NAME", "UNDEFINED", "UNNAMED", "codes", "file_of", "often_learning"]

UNDEFINED = make.UNDEFINED
DELIMITER = b"\xfe\xff\xdd\xe0" + bytes(4)
NAME = element(0x00100010, "PN", b"A^B ")
UNNAMED = element(0x00100010, "PN", b"A^B ", explicit=False)

#: A reader learns every few files, so that short rows of files show what it learns.
often_learning = mock.patch("dicomstudy.p10.reader._FILES_TO_LEARN", 3)


def file_of(*elements: bytes, syntax: str = make.EXPLICIT, trailing: bytes = b"") -> bytes:
    """A P10 file with these elements in its data set."""
    meta = make.file_meta(syntax, sop_instance="1.2.3")
    return part10(meta, b"".join(elements), trailing=trailing)


def codes(data: bytes) -> list[str]:
    """The codes of the problems that a file has."""
    return [problem.code for problem in read(data).problems]
