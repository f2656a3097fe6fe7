"""The attributes of an instance as a person or another program wants them (spec/json.md).

`metadata` gives them by keyword in the order of the file, `to_json` in the DICOM JSON model
(PS3.18 Annex F). Neither has a mirror: the file is rebuilt from the attributes themselves.

In documents a value does not depend on how its file was written, so that private attributes
and those of several VRs are blobs there. Here they are decoded by the VR in the file's layout.
"""

from __future__ import annotations

import base64
import contextlib
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from struct import error as struct_error
from struct import iter_unpack
from typing import Any, NamedTuple

from dicomstudy import p10, text, values
from dicomstudy.definitions import Definitions
from dicomstudy.elements import (
    LONG_VRS,
    META_GROUP,
    NUMBER_FORMATS,
    PIXEL_DATA_TAGS,
    SHORT_VRS,
    TEXT_VRS,
    WORD_SIZES,
    Form,
    bare_uid,
    format_tag,
    is_delimiter,
)
from dicomstudy.errors import DefinitionsError, P10Error, RecordError
from dicomstudy.following import inner_set, is_signed
from dicomstudy.layout import ItemLayout, Token, end_of_group
from dicomstudy.record import RAW, VRS_KEY, Encoder, Plan, Resolve
from dicomstudy.text import CharacterSet
from dicomstudy.values import Context, Scalar, rules_of

__all__ = ["bulk_data", "bulk_uri", "file_meta", "metadata", "to_json"]

_KNOWN_VRS = (SHORT_VRS | LONG_VRS) - {"UN"}
_DECODED_VRS = TEXT_VRS | NUMBER_FORMATS.keys() | {"AT"}
#: Bytes of one number or tag of each VR that has such.
_UNIT_SIZES = {"AT": 4, **{vr: WORD_SIZES[vr] for vr in NUMBER_FORMATS}}
#: Their backslashes are characters, not delimiters (PS3.5 section 6.2).
_SINGLE_VALUED = frozenset(("LT", "ST", "UR", "UT"))
#: What a value is taken for that is decoded although its VR is unknown, or one of bytes or items;
#: or that is a number in the place of tags.
_VRS_OF_TYPES = {str: "UT", int: "SV", float: "FD"}

#: "US or SS" attributes whose first value is always US (PS3.3 C.11.1.1.1).
_DESCRIPTORS = frozenset((0x00281101, 0x00281102, 0x00281103, 0x00283002))

_NAME_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
#: More than any value of VR IS has (PS3.5 section 6.2).
_MAX_DIGITS = 20
#: Integers beyond this are not exact in every reader of JSON.
_MAX_SAFE = 1 << 53
#: The key of the group length of file meta information.
_META_LENGTH = "FileMetaInformationGroupLength"
#: A delimiter without its length, in either byte order.
_DELIMITERS = (p10.LITTLE.sequence_delimiter, p10.BIG.sequence_delimiter)
_DELIMITER_SIZE = 8


class _Scope(NamedTuple):
    """What the values of a data set depend on, items inheriting it.

    `vrs` are those of the elements of the top level, and of no item. `big`: the file is
    big-endian; `has_layout`: there is one, or else all blobs are as they are in the file.
    """

    charset: CharacterSet
    signed: bool
    vrs: Mapping[str, str]
    big: bool
    has_layout: bool

    def inside(self, struct: Mapping[str, Any]) -> _Scope:
        charset, signed, _, big, has_layout = self
        representation = struct.get("PixelRepresentation")
        if representation is not None and representation != "":
            signed = is_signed(representation)
        return _Scope(inner_set(struct, charset), signed, {}, big, has_layout)


class _Field(NamedTuple):
    """An attribute, the VR that its value has, and what its layout says of items and length.

    `is_meta`: it is file meta information. `is_big`: a blob of it is big-endian.
    """

    key: str
    tag: int
    vr: str
    value: Any
    items: tuple[ItemLayout, ...] | None = None
    form: Form = Form.DEFINED
    is_meta: bool = False
    is_big: bool = False

    def little(self, raw: bytes) -> bytes:
        """A blob in little-endian."""
        return values.swap(raw, WORD_SIZES.get(self.vr, 1)) if self.is_big else raw

    def undelimited(self, raw: bytes) -> bytes:
        """A blob without the delimiter that ends an undefined length, and is no part of it."""
        if self.form is not Form.UNDEFINED:
            return raw
        last = raw[-_DELIMITER_SIZE:]
        turned = values.swap(last, WORD_SIZES.get(self.vr, 1))  # with the words around it
        ends = last[:4] in _DELIMITERS or turned[:4] == p10.BIG.sequence_delimiter
        return raw[:-_DELIMITER_SIZE] if ends else raw

    def content(self, resolve: Resolve) -> bytes:
        """A large value as ``InlineBinary`` has it."""
        return self.little(self.undelimited(resolve(self.value)))

    def inside(self, scope: _Scope) -> Iterator[_Level]:
        """The items of a sequence in a data set or item of this scope."""
        for at, item in enumerate(self.value):
            yield _Level(item, self.items[at].tokens if self.items else (), scope.inside(item))

    @property
    def bulk_vr(self) -> str:
        """The VR that a large value has if it does not stand in full; empty if it does."""
        unit = _UNIT_SIZES.get(self.vr)
        if self.vr in TEXT_VRS or (unit and not self.value["length"] % unit):
            return ""
        return "UN" if unit else self.vr


class _Level(NamedTuple):
    """A data set, or an item: its attributes, their layout if there is one, and its scope.

    The first `meta` tokens are file meta information.
    """

    struct: Mapping[str, Any]
    tokens: Sequence[Token]
    scope: _Scope
    meta: int = 0


def metadata(
    attributes: Mapping[str, Any], encoding: Mapping[str, Any] | None, encoder: Encoder
) -> dict[str, Any]:
    """Every attribute by key, in the order of the file; without an encoding in that of tags.

    Values are those of documents (spec/values.md), but for blobs whose VR the file tells:
    text is text, one number a number; several stay one little-endian blob. Large values stay
    references. Group lengths are computed, None where values no longer fit their layout. What
    is around the elements, raw bytes and repeated elements are left out; elements of the group of
    file meta information in the data set have keys with ``#``.

    Raises:
        RecordError: the encoding is incomplete or its layout malformed.
    """
    raw = {key[len(RAW) :]: raw for key, raw in attributes.items() if key.startswith(RAW)}
    walk = _Walk(encoder)
    return walk.metadata(walk.top(attributes, encoding), raw)


def bulk_uri(reference: Mapping[str, Any]) -> str:
    """``sha256:<hexadecimal>``; of a large value without a digest ``offset:<offset>+<length>``.

    The offset is that in the file that the instance came in.
    """
    if "sha256" in reference:
        return f"sha256:{reference['sha256']}"
    return f"offset:{reference['dataOffset']}+{reference['length']}"


def to_json(
    attributes: Mapping[str, Any],
    encoding: Mapping[str, Any] | None,
    encoder: Encoder,
    resolve: Resolve,
) -> dict[str, Any]:
    """The data set in the DICOM JSON model, ready for `json.dumps` (PS3.18 Annex F).

    Without the file meta information, group lengths and repeated elements. The VR is that of
    the file, or where it has none, or UN, that of the dictionary; "US or SS" is told by Pixel
    Representation, "OB or OW" is OW, and OB if it ends with a delimiter. What is not of its VR is
    given as UN, and numbers that JSON cannot hold are strings (spec/json.md).

    Args:
        attributes: the values of an instance by keyword, as in documents.
        encoding: how its file was written, None if that is not known.
        encoder: for the layout of that.
        resolve: gives large values; asked for text, tags and numbers only.

    Raises:
        RecordError: the encoding is incomplete or its layout malformed.
    """
    walk = _Walk(encoder)
    return walk.to_json(walk.top(attributes, encoding), resolve)


def bulk_data(
    attributes: Mapping[str, Any],
    encoding: Mapping[str, Any] | None,
    encoder: Encoder,
) -> dict[str, Callable[[Resolve], bytes]]:
    """What gives the bytes of each large value, by the URI that `to_json` has for it.

    They are those that ``InlineBinary`` would have: little-endian, without delimiter. Arguments and
    errors are those of `to_json`, of which `resolve` is asked for when a value is wanted.
    """
    walk = _Walk(encoder)
    found: dict[str, Callable[[Resolve], bytes]] = {}
    for field in walk.large(walk.top(attributes, encoding)):
        found.setdefault(bulk_uri(field.value), field.content)
    return found


def file_meta(attributes: Mapping[str, Any], encoder: Encoder, resolve: Resolve) -> dict[str, Any]:
    """The file meta information, which `to_json` leaves out, of an instance without a file."""
    walk = _Walk(encoder, of_meta=True)
    return walk.to_json(walk.top(attributes, None), resolve)


def _tokens(plan: Plan) -> list[Token]:
    """The layout of all elements, that of group lengths too."""
    lengths = {length.place: length.token for length in plan.group_lengths}
    return [plan.tokens[key][0] if key else lengths[place] for place, key in enumerate(plan.keys)]


def _last_strays(tokens: Sequence[Token], meta: int) -> dict[int, Token]:
    """The last element of each tag in a data set that has the group of file meta information."""
    return {
        token.tag: token
        for token in tokens[meta:]
        if token.tag >> 16 == META_GROUP and token.form is not Form.GROUP_LENGTH
    }


class _Walk:
    """Walks through attributes and their layout side by side.

    `of_meta`: the model is of file meta information, and not of the data set.
    """

    def __init__(self, encoder: Encoder, *, of_meta: bool = False) -> None:
        self.encoder = encoder
        self.definitions: Definitions = encoder.definitions
        self._of_meta = of_meta
        self._rules = rules_of(encoder.definitions)

    def top(self, attributes: Mapping[str, Any], encoding: Mapping[str, Any] | None) -> _Level:
        """The whole data set.

        Raises:
            RecordError: the encoding is incomplete or its layout malformed.
        """
        tokens: Sequence[Token] = ()
        meta = 0
        if encoding is not None:
            plan = self.encoder.plan(encoding)
            tokens, meta, big = _tokens(plan), plan.data_set, plan.big
        else:
            syntax = attributes.get("TransferSyntaxUID")
            big = isinstance(syntax, str) and bare_uid(syntax) == p10.EXPLICIT_BIG_ENDIAN
        vrs = attributes.get(VRS_KEY)
        vrs = self._by_tag(vrs) if isinstance(vrs, Mapping) else {}
        charset, has_layout = text.character_set(()), encoding is not None
        outside = _Scope(charset, signed=False, vrs={}, big=big, has_layout=has_layout)
        return _Level(attributes, tokens, outside.inside(attributes)._replace(vrs=vrs), meta)

    def _by_tag(self, vrs: Mapping[str, str]) -> dict[str, str]:
        """VRs by hexadecimal tag, given by key, of whatever case."""
        found = {}
        for key, vr in vrs.items():
            with contextlib.suppress(DefinitionsError):
                found[format_tag(self.definitions.tag(key))] = vr
        return found

    def fields(self, level: _Level) -> Iterator[_Field]:
        """The attributes of a level, in the order of its layout; then those not in it."""
        struct, tokens, scope, meta = level
        strays = _last_strays(tokens, meta)
        seen = set()
        for place, token in enumerate(tokens):
            key = self.definitions.key(token.tag, token.occurrence)
            counts = not token.occurrence or strays.get(token.tag) is token
            if not counts or key not in struct or token.form is Form.GROUP_LENGTH:
                continue
            seen.add(key)
            if is_delimiter(token.tag):
                continue
            value = struct[key]
            vr = self._vr(token, value, scope)
            is_meta = place < meta and token.tag >> 16 == META_GROUP  # not of the command set
            is_big = scope.big and self._is_as_in_file(token)
            yield _Field(key, token.tag, vr, value, token.items, token.form, is_meta, is_big)
        rest = []
        for key in struct:
            if key not in seen and key[:1] != "_" and "#" not in key:
                with contextlib.suppress(DefinitionsError):  # dicom2ion's ItemDelimitationItem
                    rest.append((self.definitions.tag(key), key))
        for tag, key in sorted(rest):
            if is_delimiter(tag):
                continue
            value = struct[key]
            token = Token(tag, scope.vrs.get(format_tag(tag), ""), _form(tag, value))
            vr = self._vr(token, value, scope)
            is_meta = tag >> 16 == META_GROUP
            is_big = scope.big and not scope.has_layout and not is_meta
            yield _Field(key, tag, vr, value, form=token.form, is_meta=is_meta, is_big=is_big)

    def _is_as_in_file(self, token: Token) -> bool:
        """Whether documents have a blob in the byte order of the file (spec/values.md)."""
        if token.tag in PIXEL_DATA_TAGS:
            return token.form is not Form.UNDEFINED
        return self._rules.rule(token.tag, token.vr).word == 1

    def _vr(self, token: Token, value: object, scope: _Scope) -> str:
        """The VR that `value` has."""
        if type(value) is list:
            return "SQ"
        vr = token.vr
        if vr not in _KNOWN_VRS:
            vr = self.definitions.vr(token.tag)
            if vr == "US or SS":
                vr = "SS" if scope.signed else "US"
            elif " or " in vr:
                vr = "OB" if token.form is Form.UNDEFINED else "OW"
        if value is None:
            # what is unknown and has an undefined length is a sequence, though it has no item
            return "SQ" if token.items is not None and "UN" in {token.vr, vr} else vr
        if vr == "SQ":
            vr = "UN"  # it could not be split into items
        if vr not in _DECODED_VRS or (vr == "AT" and type(value) is not str):
            return _VRS_OF_TYPES.get(type(value), vr)
        return vr

    def decode(self, field: _Field, raw: bytes, scope: _Scope) -> Scalar:
        """The value of a blob by its VR: as in documents, had it one VR in the dictionary."""
        if field.vr not in _DECODED_VRS:
            return raw
        rule = self._rules.of_vr(field.vr)
        return values.decode(field.little(raw), rule, Context(scope.charset, big=False))

    def metadata(self, level: _Level, raw: Mapping[str, bytes], path: str = "") -> dict[str, Any]:
        """`metadata` of the data set, or of the item that `path` leads to."""
        struct, tokens, scope, meta = level
        strays = _last_strays(tokens, meta)
        # Group lengths are no attributes, but have their place in the order; right ones may stand
        # behind wrong ones, which are.
        result: dict[str, Any] = {}
        right = set()
        for place, token in enumerate(tokens):
            key = self.definitions.keyword(token.tag)
            if place >= meta and token.tag in strays:
                key = self.definitions.key(token.tag, strays[token.tag].occurrence)
            if token.form is Form.GROUP_LENGTH:
                if key == _META_LENGTH and key in result:
                    continue  # that of file meta information stays
                end = end_of_group(tokens, place, meta if place < meta else len(tokens))
                group = tokens[place + 1 : end]
                result[key] = self._group_length(level, group, raw, path)
                right.add(key)
            elif key in struct and not is_delimiter(token.tag):
                result[key] = None
                right.discard(key)
        for field in self.fields(level):
            if field.key in right:
                continue
            value = field.value
            if type(value) is list:
                here = f"{path}{format_tag(field.tag)}"
                value = [
                    self.metadata(item, raw, f"{here}[{at}].")
                    for at, item in enumerate(field.inside(scope))
                ]
            elif isinstance(value, bytes):
                value = self.decode(field, value, scope)
            result[field.key] = value
        return result

    def _group_length(
        self, level: _Level, group: Sequence[Token], raw: Mapping[str, bytes], path: str
    ) -> int | None:
        """The value of a right group length; `group` are the tokens of its group behind it."""
        context = Context(level.scope.charset, big=False)
        size = 0
        for token in group:
            value = level.struct.get(self.definitions.key(token.tag, token.occurrence))
            try:
                size += self._size(token, value, context, raw, path)
            except (P10Error, RecordError):
                return None
        return size

    def _size(
        self, token: Token, value: object, context: Context, raw: Mapping[str, bytes], path: str
    ) -> int:
        """The bytes of an element; they do not depend on the byte order."""
        if token.form is Form.GROUP_LENGTH:
            return len(p10.encode_element(token.tag, token.vr, bytes(4), big=False))
        if isinstance(value, Mapping):
            length = int(value["length"])
            end = _DELIMITER_SIZE if token.form is Form.DELIMITED else 0
            return len(self.encoder.header(token, length, context)) + length + end
        left_out: list[int] = []

        def without(reference: Mapping[str, Any]) -> bytes:
            left_out.append(reference["length"])
            return b""

        encoded = self.encoder.encode_element(
            token, value, context, raw=raw, resolve=without, path=path
        )
        return len(encoded) + sum(left_out)

    def large(self, level: _Level) -> Iterator[_Field]:
        """The attributes of a level that `to_json` has no value of, items included."""
        for field in self.fields(level):
            if type(field.value) is list:
                for item in field.inside(level.scope):
                    yield from self.large(item)
            elif isinstance(field.value, Mapping) and field.bulk_vr:
                yield field

    def to_json(self, level: _Level, resolve: Resolve) -> dict[str, Any]:
        """`to_json` of a data set or item."""
        fields = sorted(
            (
                field
                for field in self.fields(level)
                if field.is_meta == self._of_meta and field.tag & 0xFFFF
            ),
            key=lambda field: field.tag,
        )
        result: dict[str, Any] = {}
        for field in fields:
            if type(field.value) is list:
                items = [self.to_json(item, resolve) for item in field.inside(level.scope)]
                element: dict[str, Any] = {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}
            else:
                element = self._element(field, level.scope, resolve)
            result[format_tag(field.tag)] = element
        return result

    def _element(self, field: _Field, scope: _Scope, resolve: Resolve) -> dict[str, Any]:
        """One attribute object (PS3.18 F.2.2)."""
        vr, value = field.vr, field.value
        if isinstance(value, Mapping):
            if field.bulk_vr:
                return {"vr": field.bulk_vr, "BulkDataURI": bulk_uri(value)}
            value = resolve(value)
        if isinstance(value, bytes):
            value = self.decode(field, field.undelimited(value), scope)
        if isinstance(value, bytes):
            if vr not in _DECODED_VRS:
                return _binary(vr, field.little(value))
            number = NUMBER_FORMATS.get(vr)
            numbers = None if number is None else _unpack(number, value)
            if numbers is None:
                return _binary("UN", value)
            if vr == "SS" and field.tag in _DESCRIPTORS:
                numbers[0] %= 1 << 16
            return {"vr": vr, "Value": [_number(each) for each in numbers]}
        if value is None or value == "":
            return {"vr": vr}
        found = _values(vr, value)
        return {"vr": vr} if found == [None] else {"vr": vr, "Value": found}


def _unpack(letter: str, raw: bytes) -> list[Any] | None:
    try:
        return [number for (number,) in iter_unpack("<" + letter, raw)]
    except struct_error:
        return None


def _form(tag: int, value: object) -> Form:
    """The form of what has no layout: pixel data that begins with an item is encapsulated."""
    if isinstance(value, Mapping):
        return Form.UNDEFINED if "fragments" in value else Form.DEFINED
    is_item = isinstance(value, bytes) and value[:4] == p10.LITTLE.item_tag
    return Form.UNDEFINED if tag in PIXEL_DATA_TAGS and is_item else Form.DEFINED


def _binary(vr: str, value: bytes) -> dict[str, Any]:
    return {"vr": vr, "InlineBinary": base64.b64encode(value).decode("ascii")}


def _values(vr: str, value: float | str) -> list[Any]:
    """The ``Value`` of what is decoded (PS3.18 F.2.3 to F.2.5); empty values are None."""
    if vr == "IS" and isinstance(value, float) and math.isfinite(value):
        return [_numeric(vr, repr(value))]
    if not isinstance(value, str):
        return [_number(value)]
    if vr in _SINGLE_VALUED:
        return [value]
    parts = [part.rstrip(" \0") for part in value.split("\\")]
    if vr == "PN":
        return [_person_name(part) for part in parts]
    if vr in {"IS", "DS"}:
        return [_numeric(vr, part.strip()) for part in parts]
    if vr == "UI":
        parts = [bare_uid(part) for part in parts]
    if vr == "AE":
        parts = [part.strip() for part in parts]
    return [part or None for part in parts]


def _person_name(name: str) -> dict[str, str] | None:
    # a name has no fourth group, and the model no place for it: it stays with the third
    groups = zip(_NAME_GROUPS, name.split("=", 2), strict=False)
    return {part: group for part, group in groups if group} or None


def _numeric(vr: str, number: str) -> float | str | None:
    """A JSON number if it is the very number that the text says, else the text."""
    if _DECIMAL.fullmatch(number):
        exact = Decimal(number)
        if vr == "IS":
            is_integer = exact.adjusted() < _MAX_DIGITS and exact % 1 == 0
            return _number(int(exact)) if is_integer else number
        decoded = float(exact)
        if math.isfinite(decoded) and exact == Decimal(repr(decoded)):
            return decoded
    return number or None


def _number(number: float) -> int | float | str:
    """A number that JSON can hold, else a string that `float` or `int` reads."""
    if isinstance(number, float):
        if math.isfinite(number):
            return number
        return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"
    return number if -_MAX_SAFE <= number <= _MAX_SAFE else str(number)
