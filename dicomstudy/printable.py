"""Text that can be sent to a terminal, whatever values stand in it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

__all__ = ["count", "escape", "escape_json", "escape_strings", "size"]

_NOT_PLAIN = re.compile(r"[^\x00-\x7e]")
_THOUSAND = 1000
_UNITS = ("kB", "MB", "GB", "TB")


def count(number: int, one: str, several: str = "") -> str:
    """A number of things, with their name in the right number."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def size(number: int) -> str:
    """A number of bytes for people: ``512 bytes``, ``1.5 MB``; a MB is 1,000,000 bytes."""
    if number < _THOUSAND:
        return f"{number} byte" + ("" if number == 1 else "s")
    power = 1
    while power < len(_UNITS) and number >= _THOUSAND**power * (_THOUSAND - 0.05):
        power += 1
    return f"{number / _THOUSAND**power:.1f} {_UNITS[power - 1]}"


def escape(text: str) -> str:
    r"""`text` with all that could move a cursor or turn text round as ``\x1b`` or ``\u202e``."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def escape_strings(written: str, escaped: Callable[[str], str]) -> str:
    """Text Ion or JSON, where DEL and all that is not ASCII is in strings, without unprintables."""
    return _NOT_PLAIN.sub(
        lambda found: found[0] if found[0].isprintable() else escaped(found[0]), written
    )


def escape_json(text: str) -> str:
    """JSON without unprintable text; `json` itself leaves DEL as it is."""
    return escape_strings(
        text, lambda character: r"\u007f" if character == "\x7f" else json.dumps(character)[1:-1]
    )
