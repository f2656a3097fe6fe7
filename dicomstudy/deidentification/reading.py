"""What the attributes of a study say, and how their elements were written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

from dicomstudy import layout, values
from dicomstudy.definitions import Definitions
from dicomstudy.elements import META_GROUP, TEXT_VRS, is_private
from dicomstudy.errors import DefinitionsError
from dicomstudy.layout import Token
from dicomstudy.paths import CHARACTER_SET
from dicomstudy.record import Resolve, character_set_of, is_reference
from dicomstudy.text import CharacterSet, decode_lenient
from dicomstudy.values import Context, rules_of

__all__ = ["Reader", "class_of"]

#: Keys of attributes, and numbers of items in between.
_Path: TypeAlias = tuple[str | int, ...]

_MEMO_SIZE = 1 << 12


def class_of(vr: str) -> str:
    """What values of a VR are: text, items, tags, or else binary."""
    if vr in TEXT_VRS:
        return "text"
    return "items" if vr == "SQ" else "tags" if vr == "AT" else "binary"


class Reader:
    """Reads attributes as the definitions say that they are to be read."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions
        self._rules = rules_of(definitions)
        self._parse = lru_cache(maxsize=256)(self._tokens)
        self.tag = lru_cache(maxsize=_MEMO_SIZE)(self._tag)
        self.private_names = lru_cache(maxsize=256)(self._private_names)

    def _tag(self, key: str) -> int | None:
        """The tag of an attribute; None if no dictionary knows it, or its element came again."""
        if key[:1] == "_" or "#" in key:
            return None
        try:
            return self._definitions.tag(key)
        except DefinitionsError:
            return None

    def text(
        self,
        key: str,
        value: Any,
        read: Resolve,
        charset: CharacterSet,
        *,
        lenient: bool = False,
    ) -> str | None:
        """The text of an attribute, large ones too; None if its value is no text.

        If `lenient`, bytes that are not valid in the character set are read as well as they can,
        and a number is its digits.
        """
        if type(value) is str:
            return value
        tag = self.tag(key) or 0
        vr = self._definitions.vr(tag)
        if class_of(vr) != "text":
            return None
        if lenient and type(value) in {int, float}:
            return _digits(value)
        rule = self._rules.rule(tag, vr)
        if is_reference(value):
            value = values.decode(read(value), rule, Context(charset, False))
        if lenient and type(value) is bytes:
            return decode_lenient(value, charset, person_name=vr == "PN", multi=rule.multi)
        return value if type(value) is str else None

    def _private_names(self, data_set: str) -> tuple[_Path, ...]:
        """Where private person names stand in data sets of a layout, by what their headers say."""
        return tuple(self._names_in(layout.parse(data_set)))

    def _names_in(self, tokens: Sequence[Token]) -> Iterator[_Path]:
        for key, token in self.by_key(tokens).items():
            if token.vr == "PN" and is_private(token.tag):
                yield (key,)
            for at, item in enumerate(token.items or ()):
                yield from ((key, at, *path) for path in self._names_in(item.tokens))

    def private_name(
        self,
        attributes: Mapping[str, Any],
        path: _Path,
        read: Resolve,
        charset: CharacterSet,
    ) -> str | None:
        """The person name at a path from `private_names`; None if there is no text."""
        value: Any = attributes
        for step in path:
            if type(step) is str and CHARACTER_SET in value:
                charset = character_set_of(value[CHARACTER_SET])
            value = value.get(step) if type(step) is str else value[step]
            if value is None:
                return None
        if is_reference(value):
            value = read(value)
        if type(value) is bytes:
            return decode_lenient(value, charset, person_name=True)
        return value if type(value) is str else None

    def patient(
        self,
        attributes: Mapping[str, Any],
        otherwise: str,
        read: Resolve,
        charset: CharacterSet,
    ) -> str:
        """What tells the patient of some attributes from others: the ID, or else the name."""

        def text(key: str) -> str:
            return " ".join((self.text(key, attributes.get(key), read, charset) or "").split())

        if identifier := text("PatientID"):
            return f"id\0{identifier}\0{text('IssuerOfPatientID')}"
        if name := text("PatientName").strip("^ "):
            return f"name\0{name.lower()}\0{text('PatientBirthDate')}"
        return otherwise

    def tokens(self, encoding: Mapping[str, Any]) -> tuple[dict[str, Token], dict[str, Token]]:
        """The layout of each element of file meta information and data set, by key.

        Elements of group 0002 are file meta information or nothing: of the data set they are left
        out, and those of file meta information that they came behind have their own keys.
        """
        return self._parse(encoding["meta"], True), self._parse(encoding["dataSet"], False)

    def _tokens(self, text: str, is_meta: bool) -> dict[str, Token]:
        tokens = layout.parse(text)
        if not is_meta:
            return self.by_key(tokens)
        last = {token.tag: token for token in tokens if token.tag & 0xFFFF}
        key = self._definitions.key
        return {key(token.tag, token.occurrence): token for token in last.values()}

    def by_key(self, tokens: Iterable[Token]) -> dict[str, Token]:
        """The last element of each tag of a data set or item, without group lengths."""
        return {
            self._definitions.keyword(token.tag): token
            for token in tokens
            if token.tag & 0xFFFF and token.tag >> 16 != META_GROUP and not token.occurrence
        }


def _digits(number: float) -> str:
    """A number as somebody writes it in text: every digit of it, and no fraction if it has none."""
    return str(int(number)) if number % 1 == 0 else repr(number)
