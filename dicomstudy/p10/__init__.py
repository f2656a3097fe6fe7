"""Part 10 bytes ↔ elements, exactly (PS3.10 section 7, PS3.5 section 7; spec/p10.md).

`Reader.read` takes a file apart without decoding a value. `write` is its mirror: what it gives,
with the bytes of its spans, is the file. What cannot be taken apart is kept as raw bytes from there
on (`P10File.trailing`), with a `Problem` that says so.
"""

from dicomstudy.p10.file import FRONT, P10File, Run, Syntax
from dicomstudy.p10.headers import (
    BIG,
    LITTLE,
    LONGEST_KNOWN,
    VRS,
    Header,
    encode_delimiter,
    encode_element,
    encode_items,
    group_length,
    header,
    looks_explicit,
)
from dicomstudy.p10.lookahead import MAX_DEPTH
from dicomstudy.p10.parser import Parser, read_items
from dicomstudy.p10.reader import (
    DEFLATED_SYNTAXES,
    EXPLICIT_BIG_ENDIAN,
    MAX_INFLATED,
    PREFIX,
    TRANSFER_SYNTAX_UID,
    Reader,
    inflate,
    read,
)
from dicomstudy.p10.writer import deflate, write

__all__ = [
    "BIG",
    "DEFLATED_SYNTAXES",
    "EXPLICIT_BIG_ENDIAN",
    "FRONT",
    "LITTLE",
    "LONGEST_KNOWN",
    "MAX_DEPTH",
    "MAX_INFLATED",
    "PREFIX",
    "TRANSFER_SYNTAX_UID",
    "VRS",
    "Header",
    "P10File",
    "Parser",
    "Reader",
    "Run",
    "Syntax",
    "deflate",
    "encode_delimiter",
    "encode_element",
    "encode_items",
    "group_length",
    "header",
    "inflate",
    "looks_explicit",
    "read",
    "read_items",
    "write",
]
