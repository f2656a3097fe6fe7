"""The attributes and the encoding of an instance → those that tell nothing of it any more.

Each attribute is done with by itself, with its part of the layout, so that a group that comes
again is done with once. The file of the result is written anew: its elements stand in the order
of their tags, with nothing but what their values say (spec/deidentification.md).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple, Protocol, TypeAlias

from dicomstudy import layout, values
from dicomstudy.definitions import Definitions
from dicomstudy.deidentification import dummies
from dicomstudy.deidentification.confidentiality import Action, Policy
from dicomstudy.deidentification.identities import Identities
from dicomstudy.deidentification.pseudonyms import Pseudonyms
from dicomstudy.elements import (
    LONG_VRS,
    PIXEL_DATA_TAGS,
    SHORT_VRS,
    TEXT_VRS,
    WORD_SIZES,
    Form,
    is_private,
)
from dicomstudy.errors import DefinitionsError, RecordError
from dicomstudy.following import inner_set
from dicomstudy.layout import ItemLayout, Token
from dicomstudy.paths import CHARACTER_SET
from dicomstudy.record import character_set_of, is_reference
from dicomstudy.text import CharacterSet, decode_lenient
from dicomstudy.values import Context, Kinds

__all__ = ["IMPLEMENTATION", "Concealer", "Made", "Scope", "Values"]

#: The class of this implementation of file meta information, and its name (PS3.10 section 7.1).
IMPLEMENTATION = "2.25.240867221906137514325389624211867145871", "DICOMSTUDY"
_FIXED_META = {
    "FileMetaInformationVersion": b"\0\1",
    "ImplementationClassUID": IMPLEMENTATION[0],
    "ImplementationVersionName": IMPLEMENTATION[1],
}
#: Transfer syntaxes whose data set is deflated, and those that are the same but for that.
_INFLATED = {
    "1.2.840.10008.1.2.1.99": "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.4.95": "1.2.840.10008.1.2.4.94",
    "1.2.840.10008.1.2.4.205": "1.2.840.10008.1.2.4.204",
}
_DOCUMENT, _DOCUMENT_LENGTH = 0x00420011, "EncapsulatedDocumentLength"
_KNOWN_VRS = SHORT_VRS | LONG_VRS
#: What is in no text: then it is not one, or has something else behind it.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f]")
_TAGS = re.compile(r"[0-9A-F]{8}(\\[0-9A-F]{8})*")
#: The longest text that stands in a document.
_LONGEST = 256
#: Longer values are not looked through for what identifies: they are samples, not words.
_LOOKED_THROUGH = 1 << 24
_MEMO_SIZE = 1 << 12


#: What becomes of an attribute does not depend on its value.
_BLIND = frozenset((Action.REMOVE, Action.DUMMY))
#: The bytes of a large value.
ReadBytes: TypeAlias = Callable[[Mapping[str, Any]], bytes]


class Values(Protocol):
    """Large values: those of the source, and those of the result."""

    def read(self, reference: Mapping[str, Any]) -> bytes:
        """The bytes of one of the source."""
        ...

    def copy(self, reference: Mapping[str, Any]) -> dict[str, Any]:
        """The reference, in the result, of one of the source that stays as it is."""
        ...

    def put(self, content: bytes) -> dict[str, Any]:
        """The reference, in the result, of a new one."""
        ...


class Scope(NamedTuple):
    """What the values of a data set or item depend on, beside themselves.

    `patient` says whose they are; `explicit`: VRs are written; `safe` are the private elements that
    are declared safe; `notes` takes the codes of what there is to tell of them.
    """

    patient: str
    charset: CharacterSet
    explicit: bool
    safe: frozenset[int]
    values: Values
    notes: set[str]


class _Given(NamedTuple):
    """An attribute as it was, and how its element was written, if that is known."""

    key: str
    tag: int
    value: Any
    token: Token | None

    @property
    def vr(self) -> str:
        """The VR in its header, if it has one."""
        return "" if self.token is None else self.token.vr


class _UnreadableError(RecordError):
    """A value is not what its attribute should have."""

    def __init__(self) -> None:
        super().__init__("record/value", "a value is not what its attribute should have")


class Made(NamedTuple):
    """An attribute of the result, and how its element is written."""

    key: str
    value: Any
    token: Token


class Concealer:
    """Does with attributes what a policy says."""

    def __init__(
        self,
        policy: Policy,
        pseudonyms: Pseudonyms,
        identities: Identities,
        definitions: Definitions,
    ) -> None:
        self._policy = policy
        self._pseudonyms = pseudonyms
        self._identities = identities
        self._definitions = definitions
        self._kinds = Kinds(definitions)
        self._parse = lru_cache(maxsize=256)(self._tokens)
        self._tag = lru_cache(maxsize=_MEMO_SIZE)(self._find_tag)

    def text(
        self,
        key: str,
        value: Any,
        read: ReadBytes,
        charset: CharacterSet,
        *,
        lenient: bool = False,
    ) -> str | None:
        """The text of an attribute, large ones too; None if its value is no text.

        If `lenient`, bytes that are not valid in the character set are read as well as they can.
        """
        if type(value) is str:
            return value
        tag = self._tag(key) or 0
        vr = self._definitions.vr(tag)
        if _class(vr) != "text":
            return None
        rule = self._kinds.rule(tag, vr)
        if is_reference(value):
            value = values.decode(read(value), rule, Context(charset, False))
        if lenient and type(value) is bytes:
            return decode_lenient(value, charset, person_name=vr == "PN", multi=rule.multi)
        return value if type(value) is str else None

    def patient(
        self,
        attributes: Mapping[str, Any],
        otherwise: str,
        read: ReadBytes,
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
        """The layout of each element of file meta information and data set, by key."""
        return self._parse(encoding["meta"]), self._parse(encoding["dataSet"])

    def _tokens(self, text: str) -> dict[str, Token]:
        return self._by_key(layout.parse(text))

    def _by_key(self, tokens: Iterable[Token]) -> dict[str, Token]:
        """The last element of each tag, without group lengths."""
        return {
            self._definitions.keyword(token.tag): token
            for token in tokens
            if token.tag & 0xFFFF and not token.occurrence
        }

    def _find_tag(self, key: str) -> int | None:
        if key[:1] == "_" or "#" in key:
            return None
        try:
            return self._definitions.tag(key)
        except DefinitionsError:
            return None

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
        tag = self._tag(key)
        if tag is None:
            return None
        given = _Given(key, tag, value, token)
        if key in _FIXED_META:
            return self._made(given, _FIXED_META[key], scope)
        try:
            if is_private(tag):
                return self._private(given, scope)
            return self._public(given, scope, dummy=dummy)
        except _UnreadableError:
            scope.notes.add("risk/unreadable")
            return None

    def _public(self, given: _Given, scope: Scope, *, dummy: bool) -> Made | None:
        key, tag, value, token = given
        action = self._policy.action(tag)
        if is_reference(value) and action not in _BLIND:
            text = self.text(key, value, scope.values.read, scope.charset)
            if text is not None:
                value = text
                given = _Given(key, tag, value, token)
        if action is Action.SHIFT:
            moved, action = self._shifted(tag, value, scope)
            if moved is not None:
                return self._made(given, self._stored(moved, "DT", scope), scope)
        if action is Action.REMOVE:
            return None
        if action is Action.EMPTY:
            return self._made(given, self._emptied(key, value, scope), scope)
        if action is Action.UID:
            if value is not None and type(value) is not str:
                raise _UnreadableError
            uids = self._pseudonyms.uids(value or "")
            return self._made(given, self._stored(uids, "UI", scope), scope)
        if action is Action.DUMMY:
            return self._dummy(given, scope)
        if key == _DOCUMENT_LENGTH and self._policy.action(_DOCUMENT) is Action.DUMMY:
            return self._made(given, len(dummies.ZEROS), scope)
        return self._kept(given, scope, clean=action is Action.CLEAN, dummy=dummy)

    def _shifted(self, tag: int, value: Any, scope: Scope) -> tuple[str | None, Action]:
        """A date that was moved, or what else is to be done with it; times stay."""
        if value is None:
            return None, Action.KEEP
        is_date = self._definitions.vr(tag) in {"DA", "DT"}
        if type(value) is not str or (
            is_date and (moved := self._pseudonyms.moved(value, scope.patient)) is None
        ):
            return None, self._policy.otherwise(tag)
        return (moved if is_date else None), Action.KEEP

    def _emptied(self, key: str, value: Any, scope: Scope) -> str | None:
        if key == "PatientName":
            return self._pseudonyms.name("patient", scope.patient)
        if key == "AccessionNumber" and type(value) is str and value.strip():
            return self._pseudonyms.name("accession", value.strip())
        return None

    def _dummy(self, given: _Given, scope: Scope) -> Made | None:
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

    def _made(self, given: _Given, value: Any, scope: Scope, vr: str = "") -> Made:
        """An attribute that is written plainly, with the VR of the dictionary if none is given."""
        explicit = bool(given.vr) if given.token is not None else scope.explicit
        explicit = explicit or given.tag >> 16 == 2  # file meta information has VRs (PS3.10 7.1)
        vr = vr or self._definitions.vr(given.tag).rpartition(" ")[2]
        return Made(given.key, value, Token(given.tag, vr if explicit else ""))

    def _stored(self, text: str, vr: str, scope: Scope) -> str | dict[str, Any] | None:
        """A new text in ASCII, as a document has it."""
        encoded = values.encode(text, self._kinds.of_vr(vr), Context(scope.charset, False))
        assert encoded is not None  # noqa: S101 (digits, and what stands between them)
        return scope.values.put(encoded) if len(encoded) > _LONGEST else text or None

    def _private(self, given: _Given, scope: Scope) -> Made | None:
        """A private attribute that is declared safe, and has no items."""
        key, tag, value, token = given
        if self._policy.action(tag) is Action.REMOVE or tag not in scope.safe:
            return None
        if token is None or token.form is not Form.DEFINED or type(value) is list:
            raise _UnreadableError
        if is_reference(value):
            if self._is_in(value, scope):
                raise _UnreadableError
            value = scope.values.copy(value)
        else:
            text = value.decode("latin-1") if type(value) is bytes else str(value)
            if self._identities.clean(key, "LO", text) != text or self._identities.is_in(
                text.encode("utf-8", "replace") if type(value) is not bytes else value
            ):
                raise _UnreadableError
        scope.notes.add("risk/private")
        return Made(key, value, Token(tag, token.vr))

    def _is_in(self, reference: Mapping[str, Any], scope: Scope) -> bool:
        """Whether a large value has something in it that identifies; a huge one is not read."""
        if int(reference["length"]) > _LOOKED_THROUGH:
            return False
        return self._identities.is_in(scope.values.read(reference))

    def _kept(self, given: _Given, scope: Scope, *, clean: bool, dummy: bool) -> Made | None:
        """An attribute that stays, without what its texts say of anybody.

        What cannot be read as what it should be cannot be judged, and goes.
        """
        key, tag, value, token = given
        own = self._definitions.vr(tag).rpartition(" ")[2]
        vr = own if given.vr in {"", "UN"} else given.vr
        is_pixels = tag in PIXEL_DATA_TAGS
        undefined = token is not None and token.form is Form.UNDEFINED
        if (undefined and not is_pixels) or vr not in _KNOWN_VRS:
            raise _UnreadableError
        written = given.vr or vr
        if value is None:
            return self._made(given, None, scope, written)
        kind = _class(vr)
        if kind != _class(own) and not is_pixels:
            raise _UnreadableError
        if kind == "items":
            if type(value) is not list:
                raise _UnreadableError
            if clean:
                scope.notes.add(_CONTENT.get(key, "risk/free-text"))
            return self._items(given, scope, dummy=dummy)
        meant = vr if is_pixels else own  # whatever its header says
        if dummy and meant not in dummies.STRUCTURE:
            value = dummies.blank(value, vr)
            return None if value is None else self._made(given, value, scope, written)
        if kind == "text":
            value = self._text(given, meant, scope)
            if value is not None and (clean or key in _FREE_TEXTS):
                scope.notes.add("risk/free-text")
        else:
            value = self._binary(given, vr, scope)
        made = self._made(given, value, scope, written)
        if undefined:
            made = made._replace(token=made.token._replace(form=Form.UNDEFINED))
        return made

    def _text(self, given: _Given, vr: str, scope: Scope) -> str | dict[str, Any] | None:
        """A text that stays, in the character set that it stands in.

        `vr` is what it is, and not what its header says.
        """
        key, tag, value, _ = given
        rule = self._kinds.rule(tag, given.vr or vr)
        context = Context(scope.charset, False)
        if type(value) is not str:
            raise _UnreadableError
        if vr == "UI":
            value = self._pseudonyms.retained(value)
            if key == "TransferSyntaxUID":
                return _INFLATED.get(value, value)
            return self._stored(self._identities.new_uids(value), vr, scope)
        if key == CHARACTER_SET:
            charset = character_set_of(value)
            return "\\".join(charset.terms) if charset.problems else value
        if _CONTROL.search(value):
            raise _UnreadableError
        text = self._identities.clean(key, vr, value)
        if text != value:
            scope.notes.add("risk/identity-in-text")
        if text is None:
            return None
        encoded = values.encode(text, rule, context)
        if encoded is None:
            text = "".join(
                letter if letter.isascii() or values.encode(letter, rule, context) else "?"
                for letter in text.replace("\x1b", "?")
            )
            encoded = values.encode(text, rule, context)
            scope.notes.add("risk/character-set")
        if encoded is None:
            raise _UnreadableError
        if len(encoded) > _LONGEST:
            return scope.values.put(encoded)
        return text or None

    def _binary(self, given: _Given, vr: str, scope: Scope) -> Any:
        """Numbers, tags and bytes that stay."""
        value = given.value
        if is_reference(value):
            if given.tag not in PIXEL_DATA_TAGS and self._is_in(value, scope):
                raise _UnreadableError
            return scope.values.copy(value)
        if given.tag in PIXEL_DATA_TAGS:
            return value
        if vr == "AT":
            fits = type(value) is str and _TAGS.fullmatch(value) is not None
        elif type(value) is bytes:
            fits = not len(value) % WORD_SIZES.get(vr, 1)
        else:
            fits = type(value) in {int, float}
        if not fits or self._is_text(value, vr, scope):
            raise _UnreadableError
        return value

    def _is_text(self, value: Any, vr: str, scope: Scope) -> bool:
        """Whether the bytes of numbers, tags or samples spell something that identifies."""
        rule = self._kinds.of_vr(vr)
        written = (values.encode(value, rule, Context(scope.charset, big)) for big in (False, True))
        return any(each is not None and self._identities.is_in(each) for each in written)

    def _items(self, given: _Given, scope: Scope, *, dummy: bool) -> Made:
        """A sequence, each of whose items is done with by itself."""
        key, tag, value, token = given
        layouts = token.items if token is not None and token.items is not None else ()
        explicit = scope.explicit if token is None else bool(token.vr)
        if token is not None and token.vr == "UN":
            explicit = False
        items, tokens = [], []
        for at, item in enumerate(value):
            old = layouts[at] if len(layouts) == len(value) else ItemLayout((), False)
            by_key = self._by_key(old.tokens)
            charset, patient = inner_set(item, scope.charset), scope.patient
            if "PatientID" in item:
                patient = self.patient(item, patient, scope.values.read, charset)
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


#: Free text that the table does not have, since it has sequences around it.
_FREE_TEXTS = frozenset(("TextValue", "UnformattedTextValue"))
#: What is told of sequences that options keep; of others it is free text.
_CONTENT = {
    "AcquisitionContextSequence": "risk/structured-content",
    "ContentSequence": "risk/structured-content",
    "GraphicAnnotationSequence": "risk/graphics",
    "SpecimenPreparationSequence": "risk/structured-content",
}


def _class(vr: str) -> str:
    if vr in TEXT_VRS:
        return "text"
    return "items" if vr == "SQ" else "tags" if vr == "AT" else "binary"
