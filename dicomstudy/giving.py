"""Whether others can be given what one instance says (spec/edits.md)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dicomstudy import values
from dicomstudy.assignment import depends_on_sign
from dicomstudy.errors import DefinitionsError
from dicomstudy.following import IN_UNICODE, Follower, is_signed, vr_of
from dicomstudy.grouping import freeze
from dicomstudy.layout import Token
from dicomstudy.study import Instance
from dicomstudy.values import TEXT_KINDS, Kind, rules_of

__all__ = ["Giver"]


class Giver:
    """An instance whose attributes others are to have, with VRs of their own."""

    def __init__(self, instance: Instance) -> None:
        self._definitions = instance.study.definitions
        self._rules = rules_of(self._definitions)
        self._tokens: Mapping[str, Token] = {}
        if instance.encoding is not None:
            _, self._tokens = Follower(self._definitions).layouts(instance.encoding).by_key
        self._signed = is_signed(instance.attributes().get("PixelRepresentation"))

    def unfit(self, content: Mapping[str, Any], others: Iterable[Instance]) -> str | None:
        """An attribute of some that it has, and that one of the others cannot have; else None.

        Such is one that the VR of the dictionary does not hold, as it came with another one. The
        others have it if it is equal there, and any if nothing is written of them.
        """
        unfit = [
            key for key in content if not self._is_fit(key, content[key], self._tokens.get(key))
        ]
        for other in others if unfit else ():
            if other.encoding is None:
                continue
            there = other.attributes()
            for key in unfit:
                if freeze(there.get(key, ...)) != freeze(content[key]):
                    return key
        return None

    def vrs(self, content: Mapping[str, Any]) -> dict[str, str]:
        """The VRs of numbers of "US or SS" that would be others with the one that was not meant."""
        found = {}
        for key, value in content.items():
            if self._needs_vr(key, value):
                tag, token = self._definitions.tag(key), self._tokens.get(key)
                by_dictionary = vr_of(tag, self._definitions, signed=self._signed)
                several = self._definitions.vr(tag).split(" or ")
                found[key] = token.vr if token and token.vr in several else by_dictionary
        return found

    def _needs_vr(self, key: str, value: Any) -> bool:
        """Whether a value is numbers of "US or SS" that would be others with the other VR."""
        if type(value) is not bytes or not depends_on_sign(value):
            return False
        tag = self._tag(key)
        return tag is not None and self._definitions.vr(tag).startswith("US or SS")

    def _is_fit(self, key: str, value: Any, token: Token | None) -> bool:
        """Whether others can have a value, which is written so."""
        tag = self._tag(key)
        if tag is None:
            return True
        rule = self._rules.rule(tag, "")
        if type(value) is list:
            items = (token.items if token is not None else None) or ()
            return rule.kind is Kind.ITEMS and all(
                self._is_item_fit(item, items[at].tokens if at < len(items) else ())
                for at, item in enumerate(value)
            )
        if isinstance(value, str) and rule.kind in TEXT_KINDS:
            written = rule if token is None else self._rules.rule(tag, token.vr)
            is_one = written.multi is rule.multi or "\\" not in value
            return is_one and not (rule.leading and value.startswith(" "))
        if type(value) is bytes and rule.kind is Kind.NUMBER and token is not None:
            return token.vr in {"", "UN", self._definitions.vr(tag)}
        encoded = values.encode(value, rule, IN_UNICODE)
        if encoded is None:
            return False
        return freeze(values.decode(encoded, rule, IN_UNICODE)) == freeze(value)

    def _is_item_fit(self, item: Mapping[str, Any], tokens: Iterable[Token]) -> bool:
        by_key = self._by_key(tokens)
        return all(
            self._is_fit(key, value, by_key.get(key)) and not self._needs_vr(key, value)
            for key, value in item.items()
        )

    def _by_key(self, tokens: Iterable[Token]) -> dict[str, Token]:
        return {self._definitions.key(each.tag, each.occurrence): each for each in tokens}

    def _tag(self, key: str) -> int | None:
        """The tag of a key, which may be that of an element that was repeated.

        None if it is that of no element, as records of dicom2ion have some.
        """
        try:
            return self._definitions.tag(key.partition("#")[0])
        except DefinitionsError:
            return None
