"""Values that stay, without what they say of anybody (spec/deidentification.md)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dicomstudy import values
from dicomstudy.definitions import Definitions
from dicomstudy.deidentification.attributes import Given, Scope, UnreadableError
from dicomstudy.deidentification.dummies import is_whole
from dicomstudy.deidentification.identities import Identities
from dicomstudy.deidentification.pseudonyms import UID, Pseudonyms
from dicomstudy.deidentification.reading import class_of
from dicomstudy.elements import MAX_INLINE, PIXEL_DATA_TAGS, WORD_SIZES, may_be_large
from dicomstudy.p10 import DEFLATED_SYNTAXES
from dicomstudy.paths import CHARACTER_SET
from dicomstudy.record import character_set_of, is_reference
from dicomstudy.values import Context, rules_of

__all__ = ["Cleaner"]

#: What is in no text: then it is not one, or has something else behind it.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")
#: Stands for bytes that are no letters in their character set.
_LOST = "\ufffd"
_TAGS = re.compile(r"[0-9A-F]{8}(\\[0-9A-F]{8})*")
#: VRs of values of which nobody can tell what they are.
_UNKNOWN = frozenset(("", "UN"))
#: Longer values are not looked through for what identifies: they are samples, not words.
_LOOKED_THROUGH = 1 << 24


class Cleaner:
    """Cuts what identifies out of values; what cannot be judged is an `UnreadableError`."""

    def __init__(
        self, pseudonyms: Pseudonyms, identities: Identities, definitions: Definitions
    ) -> None:
        self._pseudonyms = pseudonyms
        self._identities = identities
        self._rules = rules_of(definitions)

    def stored(self, tag: int, text: str, vr: str, scope: Scope) -> str | dict[str, Any] | None:
        """A new text in ASCII, as a document has it."""
        encoded = values.encode(text, self._rules.of_vr(vr), Context(scope.charset, False))
        assert encoded is not None  # noqa: S101 (digits, and what stands between them)
        if may_be_large(tag, len(encoded), MAX_INLINE):
            return scope.values.put(encoded)
        return text or None

    def text(self, given: Given, vr: str, scope: Scope) -> str | dict[str, Any] | None:
        """A text that stays, in the character set that it stands in.

        `vr` is what it is, and not what its header says.
        """
        key, tag, value, _ = given
        rule = self._rules.rule(tag, given.vr or vr)
        context = Context(scope.charset, False)
        if type(value) is not str:
            raise UnreadableError
        if vr == "UI":
            value = self._pseudonyms.retained(value)
            if key == "TransferSyntaxUID":
                return DEFLATED_SYNTAXES.get(value, value)
            return self.stored(tag, self._identities.new_uids(value), vr, scope)
        if key == CHARACTER_SET:
            charset = character_set_of(value)
            return "\\".join(charset.terms) if charset.problems else value
        if _CONTROL.search(value):
            raise UnreadableError
        text = self._cleaned(key, vr, value, scope)
        if text is not None and (_LOST in text or values.encode(text, rule, context) is None):
            text = "".join(
                letter
                if letter.isascii() or (letter != _LOST and values.encode(letter, rule, context))
                else "?"
                for letter in text
            )
            scope.notes.add("risk/character-set")
            text = self._cleaned(key, vr, text, scope)  # no letters are around a name any more
        if text is None:
            return None
        encoded = values.encode(text, rule, context)
        if encoded is None:
            raise UnreadableError
        if may_be_large(tag, len(encoded), MAX_INLINE):
            return scope.values.put(encoded)
        return text or None

    def _cleaned(self, key: str, vr: str, text: str, scope: Scope) -> str | None:
        cleaned = self._identities.clean(key, vr, text)
        if cleaned != text:
            scope.notes.add("risk/identity-in-text")
        return cleaned

    def binary(self, given: Given, vr: str, scope: Scope) -> Any:
        """Numbers, tags and bytes that stay."""
        value = given.value
        if is_reference(value):
            if given.tag not in PIXEL_DATA_TAGS and (
                not is_whole(int(value["length"]), vr) or self._is_in(value, vr, scope)
            ):
                raise UnreadableError
            return scope.values.copy(value)
        if given.tag in PIXEL_DATA_TAGS:
            return value
        if vr == "AT":
            fits = type(value) is str and _TAGS.fullmatch(value) is not None
        elif type(value) is bytes:
            fits = is_whole(len(value), vr)
        else:
            fits = type(value) in {int, float}
        if not fits or self._is_text(value, vr, scope):
            raise UnreadableError
        return value

    def private(self, given: Given, scope: Scope) -> Any:
        """A private value that stays as it is, since there is nothing in it that identifies."""
        value, vr = given.value, given.vr
        if _is_huge(value):
            return scope.values.copy(value)
        content = self._private_bytes(given, scope)
        kind = class_of(vr)
        if kind == "text" or vr in _UNKNOWN:
            texts = [self._decoded(content, vr, scope)]
            if vr in _UNKNOWN:
                texts.append(content.decode("latin-1"))
            elif _CONTROL.search(texts[0]):
                raise UnreadableError
            if any(self._identities.clean(given.key, vr or "LO", each) != each for each in texts):
                raise UnreadableError
        elif not is_whole(len(content), vr):
            raise UnreadableError
        if self._spells(content, vr):
            raise UnreadableError
        return scope.values.copy(value) if is_reference(value) else value

    def private_text(self, given: Given, scope: Scope) -> tuple[str, str]:
        """The VR of a private value, and its text if it has one.

        Where no VR is written, what reads like UIDs or dates is taken for such. A huge value is not
        read: it is samples then, and where its VR says that it is text, nobody can judge it.
        """
        vr = given.vr
        if class_of(vr) != "text" and (vr not in _UNKNOWN or _is_huge(given.value)):
            return vr, ""
        if _is_huge(given.value):
            raise UnreadableError
        text = self._decoded(self._private_bytes(given, scope), vr, scope)
        if text and vr in _UNKNOWN:
            if all(map(UID.fullmatch, text.split("\\"))):
                vr = "UI"
            elif self._pseudonyms.moved(text, scope.patient) is not None:
                vr = "DT"
        return vr, text

    def private_stored(self, text: str, vr: str, scope: Scope) -> bytes | dict[str, Any] | None:
        """A new text of a private attribute, which documents have as bytes."""
        encoded = values.encode(text, self._rules.of_vr(vr), Context(scope.charset, False))
        if encoded is None:
            raise UnreadableError
        return scope.values.put(encoded) if len(encoded) > MAX_INLINE else encoded or None

    def _private_bytes(self, given: Given, scope: Scope) -> bytes:
        value = given.value
        if is_reference(value):
            return scope.values.read(value)
        rule = self._rules.of_vr("LO" if given.vr in _UNKNOWN else given.vr)
        encoded = values.encode(value, rule, Context(scope.charset, False))
        if encoded is None:
            raise UnreadableError
        return encoded

    def _decoded(self, content: bytes, vr: str, scope: Scope) -> str:
        rule = self._rules.of_vr("LO" if vr in _UNKNOWN else vr)
        text = values.decode(content, rule, Context(scope.charset, False))
        return text if type(text) is str else ""

    def _is_text(self, value: Any, vr: str, scope: Scope) -> bool:
        """Whether the bytes of numbers, tags or samples spell something that identifies."""
        encoded = values.encode(value, self._rules.of_vr(vr), Context(scope.charset, False))
        return encoded is not None and self._spells(encoded, vr)

    def _is_in(self, reference: Mapping[str, Any], vr: str, scope: Scope) -> bool:
        """Whether a large value has something in it that identifies; a huge one is not read."""
        if _is_huge(reference):
            return False
        return self._spells(scope.values.read(reference), vr)

    def _spells(self, content: bytes, vr: str) -> bool:
        """Whether bytes say something that identifies, in either order of the bytes of a word."""
        swapped = values.swap(content, WORD_SIZES.get(vr, 1))
        return any(map(self._identities.is_in, {content, swapped}))


def _is_huge(value: Any) -> bool:
    """Whether a value is too long to be looked through."""
    return is_reference(value) and int(value["length"]) > _LOOKED_THROUGH
