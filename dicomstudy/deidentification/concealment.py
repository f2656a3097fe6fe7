"""The attributes and the encoding of an instance → those that tell nothing of it any more.

Each attribute is done with by itself, with its part of the layout, so that a group that comes
again is done with once. The file of the result is written anew: its elements stand in the order
of their tags, with nothing but what their values say (spec/deidentification.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dicomstudy.definitions import Definitions
from dicomstudy.deidentification import dummies
from dicomstudy.deidentification.attributes import Given, Made, Scope, UnreadableError
from dicomstudy.deidentification.cleaning import Cleaner
from dicomstudy.deidentification.confidentiality import Action, Policy
from dicomstudy.deidentification.identities import Identities
from dicomstudy.deidentification.pseudonyms import Pseudonyms
from dicomstudy.deidentification.reading import Reader, class_of
from dicomstudy.elements import (
    LONG_VRS,
    LONGEST_SHORT,
    META_GROUP,
    PIXEL_DATA_TAGS,
    SHORT_VRS,
    Form,
    creator_of,
    is_creator,
    is_private,
)
from dicomstudy.following import inner_set
from dicomstudy.layout import ItemLayout, Token
from dicomstudy.record import is_reference

__all__ = ["Concealer"]

#: The class of this implementation of file meta information, and its name (PS3.10 section 7.1).
_IMPLEMENTATION = "2.25.240867221906137514325389624211867145871", "DICOMSTUDY"
_FIXED_META = {
    "FileMetaInformationVersion": b"\0\1",
    "ImplementationClassUID": _IMPLEMENTATION[0],
    "ImplementationVersionName": _IMPLEMENTATION[1],
}
_DOCUMENT, _DOCUMENT_LENGTH = 0x00420011, "EncapsulatedDocumentLength"
_KNOWN_VRS = SHORT_VRS | LONG_VRS
#: What becomes of an attribute does not depend on its value.
_BLIND = frozenset((Action.REMOVE, Action.DUMMY))
#: Free text that the table does not have, since it has sequences around it.
_FREE_TEXTS = frozenset(("TextValue", "UnformattedTextValue"))
#: What is told of sequences that options keep; of others it is free text.
_CONTENT = {
    "AcquisitionContextSequence": "risk/structured-content",
    "ContentSequence": "risk/structured-content",
    "GraphicAnnotationSequence": "risk/graphics",
    "SpecimenPreparationSequence": "risk/structured-content",
}


class Concealer:
    """Does with attributes what a policy says."""

    def __init__(
        self,
        policy: Policy,
        pseudonyms: Pseudonyms,
        identities: Identities,
        reader: Reader,
        definitions: Definitions,
    ) -> None:
        self._policy = policy
        self._pseudonyms = pseudonyms
        self._reader = reader
        self._cleaner = Cleaner(pseudonyms, identities, definitions)
        self._definitions = definitions

    def attribute(
        self, key: str, value: Any, token: Token | None, scope: Scope, *, dummy: bool = False
    ) -> Made | None:
        """What becomes of one attribute; None if it goes.

        Args:
            key: its key.
            value: its value.
            token: how it was written, if that is known.
            scope: where it stands.
            dummy: it stands in an item all of which is replaced.
        """
        tag = self._reader.tag(key)
        if tag is None or (tag >> 16 == META_GROUP and token is None):
            return None
        given = Given(key, tag, value, token)
        if key in _FIXED_META:
            return self._made(given, _FIXED_META[key], scope)
        try:
            if is_private(tag):
                return self._private(given, scope)
            return self._public(given, scope, dummy=dummy)
        except UnreadableError:
            scope.notes.add("risk/unreadable")
            return None

    def without_telling(
        self, attributes: Mapping[str, Any], tokens: Mapping[str, Token], scope: Scope
    ) -> Scope:
        """The scope of a data set, in which private blocks are not safe whose creator tells.

        What is in them means nothing without that.
        """
        gone: set[int] = set()
        for key, value in attributes.items() if scope.safe else ():
            tag = self._reader.tag(key)
            if tag is None or tag not in scope.safe or not is_creator(tag):
                continue
            try:
                self._cleaner.private(Given(key, tag, value, tokens.get(key)), scope)
            except UnreadableError:
                scope.notes.add("risk/unreadable")
                gone |= {each for each in scope.safe if tag in {each, creator_of(each)}}
        return scope._replace(safe=scope.safe - gone) if gone else scope

    def _public(self, given: Given, scope: Scope, *, dummy: bool) -> Made | None:
        """What becomes of an attribute that is not private, by the action of the policy for it.

        Text that is kept apart as a large value is read first, unless the action is blind to it.
        """
        key, tag, value, token = given
        action = self._policy.action(tag)
        if is_reference(value) and action not in _BLIND:
            text = self._reader.text(key, value, scope.values.read, scope.charset)
            if text is not None:
                value = text
                given = Given(key, tag, value, token)
        if action is Action.SHIFT:
            moved, action = self._shifted(tag, value, scope)
            if moved is not None:
                return self._made(given, self._cleaner.stored(tag, moved, "DT", scope), scope)
        if action is Action.REMOVE:
            return None
        if action is Action.EMPTY:
            return self._made(given, self._emptied(key, value, scope), scope)
        if action is Action.UID:
            if value is not None and type(value) is not str:
                raise UnreadableError
            uids = self._pseudonyms.uids(value or "")
            return self._made(given, self._cleaner.stored(tag, uids, "UI", scope), scope)
        if action is Action.DUMMY:
            return self._dummy(given, scope)
        if key == _DOCUMENT_LENGTH and self._policy.action(_DOCUMENT) is Action.DUMMY:
            return self._made(given, len(dummies.ZEROS), scope)
        return self._kept(given, scope, clean=action is Action.CLEAN, dummy=dummy)

    def _shifted(self, tag: int, value: Any, scope: Scope) -> tuple[str | None, Action]:
        """A date that was moved, or what else is to be done with it; times stay."""
        if value is None:
            return None, Action.KEEP
        if type(value) is not str:
            return None, self._policy.otherwise(tag)
        if self._definitions.vr(tag) not in {"DA", "DT"}:
            return None, Action.KEEP
        moved = self._pseudonyms.moved(value, scope.patient)
        if moved is None:
            return None, self._policy.otherwise(tag)
        return moved, Action.KEEP

    def _emptied(self, key: str, value: Any, scope: Scope) -> str | None:
        if key == "PatientName":
            return self._pseudonyms.name("patient", scope.patient)
        if key == "AccessionNumber" and type(value) is str and value.strip():
            return self._pseudonyms.name("accession", value.strip())
        return None

    def _dummy(self, given: Given, scope: Scope) -> Made | None:
        vr = self._definitions.vr(given.tag)
        if given.key == "PatientID":
            return self._made(given, self._pseudonyms.name("patient", scope.patient), scope)
        if vr == "SQ":
            if type(given.value) is list:
                return self._items(given, scope, dummy=True)
            return self._made(given, None, scope)
        if given.tag == _DOCUMENT:
            scope.notes.add("risk/encapsulated-document")
        return self._made(given, dummies.dummy(vr), scope)

    def _made(self, given: Given, value: Any, scope: Scope, vr: str = "") -> Made:
        """An attribute that is written plainly, with the VR of the dictionary if none is given."""
        explicit = bool(given.vr) if given.token is not None else scope.explicit
        if given.tag >> 16 == META_GROUP:  # file meta information has VRs (PS3.10 7.1)
            explicit = True
        vr = vr or self._definitions.vr(given.tag).rpartition(" ")[2]
        return Made(given.key, value, Token(given.tag, _fitting(vr, value) if explicit else ""))

    def _private(self, given: Given, scope: Scope) -> Made | None:
        """A private attribute that is declared safe, and has no items."""
        key, tag, value, token = given
        if self._policy.action(tag) is Action.REMOVE or tag not in scope.safe:
            return None
        if token is None or token.form is not Form.DEFINED or type(value) is list:
            raise UnreadableError
        vr, text = self._cleaner.private_text(given, scope)
        changed: str | None
        match self._policy.of_private(vr):
            case Action.UID:
                changed = self._pseudonyms.uids(text)
            case Action.KEEP:
                changed = self._pseudonyms.retained(text)
            case Action.SHIFT:
                changed = self._pseudonyms.moved(text, scope.patient)
            case Action.CLEAN:
                scope.notes.add("risk/private")
                return Made(key, self._cleaner.private(given, scope), Token(tag, token.vr))
            case _:
                return None
        if changed is None:
            return None
        scope.notes.add("risk/private")
        stored = self._cleaner.private_stored(changed, vr, scope)
        return Made(key, stored, Token(tag, _fitting(token.vr, stored)))

    def _kept(self, given: Given, scope: Scope, *, clean: bool, dummy: bool) -> Made | None:
        """An attribute that stays, without what its texts say of anybody.

        What cannot be read as what it should be cannot be judged, and goes.
        """
        key, tag, value, token = given
        own = self._definitions.vr(tag).rpartition(" ")[2]
        vr = own if given.vr in {"", "UN"} else given.vr
        is_pixels = tag in PIXEL_DATA_TAGS
        undefined = token is not None and token.form is Form.UNDEFINED
        if (undefined and not is_pixels) or vr not in _KNOWN_VRS:
            raise UnreadableError
        written = given.vr or vr
        if value is None:
            return self._made(given, None, scope, written)
        kind = class_of(vr)
        if kind != class_of(own) and not is_pixels:
            raise UnreadableError
        if kind == "items":
            if type(value) is not list:
                raise UnreadableError
            if clean:
                scope.notes.add(_CONTENT.get(key, "risk/free-text"))
            return self._items(given, scope, dummy=dummy)
        meant = vr if is_pixels else own  # whatever its header says
        if dummy and meant not in dummies.STRUCTURE:
            blank = dummies.blank(value, vr)
            if blank is None and not is_reference(value):
                raise UnreadableError
            return None if blank is None else self._made(given, blank, scope, written)
        if kind == "text":
            value = self._cleaner.text(given, meant, scope)
            if value is not None and (clean or key in _FREE_TEXTS):
                scope.notes.add("risk/free-text")
        else:
            value = self._cleaner.binary(given, vr, scope)
        made = self._made(given, value, scope, written)
        if undefined:
            made = made._replace(token=made.token._replace(form=Form.UNDEFINED))
        return made

    def _items(self, given: Given, scope: Scope, *, dummy: bool) -> Made:
        """A sequence, each of whose items is done with by itself."""
        key, tag, value, token = given
        layouts = token.items if token is not None and token.items is not None else ()
        explicit = scope.explicit if token is None else bool(token.vr)
        if token is not None and token.vr == "UN":
            explicit = False
        items, tokens = [], []
        for at, item in enumerate(value):
            old = layouts[at] if len(layouts) == len(value) else ItemLayout((), False)
            by_key = self._reader.by_key(old.tokens)
            charset, patient = inner_set(item, scope.charset), scope.patient
            if "PatientID" in item:
                patient = self._reader.patient(item, patient, scope.values.read, charset)
            inner = scope._replace(
                explicit=explicit, charset=charset, patient=patient, safe=frozenset()
            )
            made = [
                each
                for name, content in item.items()
                if (each := self.attribute(name, content, by_key.get(name), inner, dummy=dummy))
            ]
            made.sort(key=lambda each: each.token.tag)
            items.append({each.key: each.value for each in made})
            tokens.append(ItemLayout(tuple([each.token for each in made]), old.undefined))
        vr = given.vr or ("SQ" if scope.explicit and token is None else "")
        undefined = token.undefined if token is not None else False
        return Made(key, items, Token(tag, vr, items=tuple(tokens), undefined=undefined))


def _fitting(vr: str, value: Any) -> str:
    """The VR of a value, UN if it is too long for a header of that (PS3.5 section 6.2.2)."""
    is_long = is_reference(value) and value["length"] > LONGEST_SHORT
    return "UN" if is_long and vr in SHORT_VRS else vr
