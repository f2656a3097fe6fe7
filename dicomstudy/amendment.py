"""Edits of an instance → its attributes and its encoding after them (spec/edits.md).

A document keeps its instances as they came, and the edits beside them; what an instance is
now follows from both. An instance that no edit changes anything of stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any, NamedTuple, TypeAlias

from dicomstudy import values
from dicomstudy.definitions import Definitions
from dicomstudy.document import without_places
from dicomstudy.elements import creator_of, format_tag, sha256_of
from dicomstudy.errors import DefinitionsError, RecordError
from dicomstudy.following import (
    IN_UNICODE,
    Follower,
    Layouts,
    differing,
    inner_set,
    is_of_writing,
)
from dicomstudy.grouping import (
    ENCODING,
    HashedGroup,
    encoding_of,
    freeze,
    ordered,
    ungroup,
    without_encoding,
)
from dicomstudy.ion import ion_hash_hex
from dicomstudy.lineage import Version
from dicomstudy.paths import CHARACTER_SET, ORIGINALS, Step, parse_path, parse_raw_path, structs_on
from dicomstudy.record import (
    INSTANCE,
    RAW,
    Resolve,
    character_set_of,
    group_of,
    is_reference,
)
from dicomstudy.text import CharacterSet
from dicomstudy.transcription import Transcriber, with_escapes
from dicomstudy.values import Context, rules_of

__all__ = ["Amended", "Amender", "Edit", "with_edit"]

#: Fields: `series`, `instance`, `set`, `remove`, `vrs` (spec/edits.md).
Edit: TypeAlias = Mapping[str, Any]

_MODIFIED = "ModifiedAttributesSequence"
#: What is said to have made the edits (PS3.3 C.12.1.1.9, Modifying System).
_SYSTEM = "dicomstudy"
_MEMO_SIZE = 1 << 12


class Amended(NamedTuple):
    """An instance after its edits."""

    groups: list[HashedGroup]
    own: dict[str, Any]


class Amender:
    """Amends the instances of a study, the quicker the more their groups repeat."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions
        self._rules = rules_of(definitions)
        self._follower = Follower(definitions)
        self._transcriber = Transcriber(definitions)
        self._digests: dict[object, str] = {}
        self._order = {name: at for at, name in enumerate(definitions.groups)}

    def amended(
        self,
        groups: Iterable[HashedGroup],
        own: Mapping[str, Any],
        edits: Iterable[tuple[Version, Edit]],
        resolve: Resolve,
    ) -> Amended | None:
        """An instance after edits; None if they change nothing of it.

        Args:
            groups: its groups.
            own: its attributes outside of them.
            edits: those that are meant for it, in order, each with the version it is of.
            resolve: gives large values; asked for text if the character set changes.
        """
        groups = list(groups)
        encoding = encoding_of(groups)
        original = ungroup(without_encoding(groups), own)
        attributes = original
        layouts: Layouts | None = None
        given: dict[str, str] = {}
        for _, step in groupby(edits, key=lambda each: each[0].number):
            steps = list(step)
            version, of_version = steps[0][0], [edit for _, edit in steps]
            before, turned = attributes, False
            try:
                after, vrs = self._after(before, version, of_version)
            except _NotHeldError:
                turned = True
                if encoding is not None:
                    layouts = layouts or self._follower.layouts(encoding)
                before = self._transcriber.to_unicode(attributes, layouts, resolve, given)
                after, vrs = self._after(before, version, of_version, is_unicode=True)
            if after is before:
                continue
            given |= vrs
            if encoding is not None:
                layouts = layouts or self._follower.layouts(encoding)
                layouts, after = self._follower.followed(layouts, attributes, after, vrs)
                if turned:
                    layouts = self._transcriber.widened(layouts, after)
            attributes = after
        if attributes is original:
            return None
        if encoding is not None and layouts is not None:
            encoding = {**encoding, **layouts.texts}
        return self._regrouped(groups, own, attributes, differing(original, attributes), encoding)

    def _after(
        self,
        before: dict[str, Any],
        version: Version,
        edits: Iterable[Edit],
        *,
        is_unicode: bool = False,
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """The attributes after the edits of one version, and the VRs that these give by path.

        They are `before` itself if nothing changes.

        Args:
            before: the attributes.
            version: the version that the edits are of.
            edits: those that are meant for the instance.
            is_unicode: all text is in Unicode; what that cannot hold gets bytes of its own.

        Raises:
            _NotHeldError: a character set has not all characters of new text.
        """
        attributes, vrs, raw = dict(before), dict[str, str](), dict[str, bytes]()
        charset = character_set_of(attributes.get(CHARACTER_SET))
        touched: set[str] = set()
        for edit in edits:
            for path, given in (*edit.get("set", {}).items(), *_removals(edit)):
                steps = parse_path(path)
                key = steps[0][0]
                vr = edit.get("vrs", {}).get(path, "")
                if vr:
                    vrs[path] = vr
                structs = structs_on(attributes, steps)
                if not structs:
                    continue
                last, inner = steps[-1][0], charset
                for item in structs[1:]:
                    inner = inner_set(item, inner)
                value = self._bytes(given, vr, inner) if vr and type(given) is str else given
                if self.is_same(last, value, structs[-1].get(last, ...), inner):
                    continue
                if not is_unicode and not self._holds(last, value, inner):
                    raise _NotHeldError
                raw.update(self._raw_of(value, steps))
                touched.add(key)
                _put(attributes, key, _placed(attributes.get(key, ...), steps, value))
        for key in touched:
            if self.is_same(key, attributes.get(key, ...), before.get(key, ...), charset):
                _put(attributes, key, before.get(key, ...))  # in the form that it had
        there, now = ({k: each[k] for k in touched & each.keys()} for each in (before, attributes))
        previous = {key: before.get(key) for key in differing(there, now)}
        if not previous:
            return before, vrs
        self._stamp(attributes, previous, version)
        attributes.update(raw)
        return attributes, vrs

    def _bytes(self, value: str, vr: str, charset: CharacterSet) -> bytes:
        """The bytes of the text of a private attribute."""
        rule = self._rules.of_vr(vr)
        encoded = values.encode(value, rule, Context(charset, False))
        if encoded is None:
            raise _NotHeldError
        return encoded

    def _stamp(
        self, attributes: dict[str, Any], previous: Mapping[str, Any], version: Version
    ) -> None:
        """Say what was there before (PS3.3 C.12.1.1.9), and drop the bytes of what is no more.

        It is not said where Original Attributes Sequence is no row of items.
        """
        said = attributes.get(ORIGINALS)
        has_items = said is None or type(said) is list
        items = list(said or ()) if has_items else []
        inside = f"{self._hex(ORIGINALS)}[{len(items)}].{self._hex(_MODIFIED)}[0]."
        tops = {self._hex(key) for key in previous}
        for key in _apart(tuple(attributes)).raw:
            path = key[len(RAW) :]
            top = re.split(r"[\[#]", path)[0]
            if top in tops:
                if has_items and "#" not in path.partition("[")[0]:
                    attributes[f"{RAW}{inside}{path}"] = attributes[key]
                if self._meant_at(path, attributes) != self._meant_at(path, previous):
                    del attributes[key]
        _drop_repeats(attributes, previous)
        if not has_items:
            return
        creators = {creator for key in previous if (creator := self._creator(key)) in attributes}
        there = {key: attributes[key] for key in creators - previous.keys()} | dict(previous)
        before = [(key, without_places(value)) for key, value in there.items()]
        items.append(
            {
                _MODIFIED: [ordered(before, self._definitions)],
                "AttributeModificationDateTime": re.sub(r"[-:T]|Z$", "", version.when) + "+0000",
                "ModifyingSystem": _SYSTEM,
                "SourceOfPreviousValues": None,
                "ReasonForTheAttributeModification": "CORRECT",
            }
        )
        attributes[ORIGINALS] = items

    def _meant_at(self, path: str, struct: Mapping[str, Any]) -> tuple[object, ...]:
        """What raw bytes at a path (spec/record.md) stand for: a value in a character set.

        That is the value and what each item around it says of its character set; nothing if
        there is no such value.
        """
        value: Any = ...
        charsets: list[object] = []
        for tag, occurrence, item in parse_raw_path(path):
            value = struct.get(self._definitions.key(tag, occurrence), ...)
            if item is not None:
                if type(value) is not list or item >= len(value):
                    return ()
                struct = value[item]
                charsets.append(freeze(struct.get(CHARACTER_SET, ...)))
        return freeze(value), *charsets

    def _creator(self, key: str) -> str:
        """The key of the private creator of an attribute; empty if it has none."""
        tag = creator_of(self._definitions.tag(key))
        return "" if tag is None else self._definitions.keyword(tag)

    def _hex(self, key: str) -> str:
        """The key of an element as paths of raw bytes have it (spec/record.md)."""
        name, sign, occurrence = key.partition("#")
        return format_tag(self._definitions.tag(name)) + sign + occurrence

    def is_same(self, key: str, value: Any, before: Any, charset: CharacterSet) -> bool:
        """Whether a value is the one that was there `before`, which may be a large one.

        That is known by the SHA-256 of its bytes, also in items; how these are written does not
        count.
        """
        if freeze(value) == freeze(before):
            return True
        if type(value) is list and type(before) is list:
            return len(value) == len(before) and all(
                (keys := _said(item)) == _said(there)
                and all(self.is_same(k, item[k], there[k], inner_set(there, charset)) for k in keys)
                for item, there in zip(value, before, strict=True)
            )
        if not is_reference(before) or "sha256" not in before:
            return False
        encoded = self._encoded(key, value, charset) if type(value) is str else value
        return (
            type(encoded) is bytes
            and len(encoded) == before["length"]
            and sha256_of(encoded) == before["sha256"]
        )

    def _holds(self, key: str, value: Any, charset: CharacterSet) -> bool:
        """Whether a character set has all characters of a value."""
        if type(value) is list:
            return all(
                self._holds(inner, item[inner], inner_set(item, charset))
                for item in value
                for inner in item
            )
        return type(value) is not str or self._encoded(key, value, charset) is not None

    def _raw_of(
        self, value: Any, steps: Sequence[Step], path: str = ""
    ) -> Iterator[tuple[str, bytes]]:
        """The keys and bytes of text at the end of `steps` that it does not give itself.

        That are padding, which the empty text is, and text that Unicode cannot hold, as the text
        of a whole instance has them that is turned to that (spec/edits.md).
        """
        (key, item), *others = steps
        here = path + self._hex(key)
        if others:
            yield from self._raw_of(value, others, f"{here}[{item}].")
        elif type(value) is list:
            for at, struct in enumerate(value):
                for inner in filter(self._is_element, struct):
                    yield from self._raw_of(struct[inner], ((inner, None),), f"{here}[{at}].")
        elif value == "":
            tag = self._definitions.tag(key.partition("#")[0])
            if padding := self._rules.rule(tag, self._definitions.vr(tag)).padding:
                yield RAW + here, 2 * padding
        elif not self._holds(key, value, IN_UNICODE.charset):
            yield RAW + here, with_escapes(value)

    def _is_element(self, key: str) -> bool:
        """Whether a key is that of an element; records of dicom2ion have others in items, too."""
        try:
            self._hex(key)
        except DefinitionsError:
            return False
        return True

    def _encoded(self, key: str, value: str, charset: CharacterSet) -> bytes | None:
        """The bytes of a text in a character set, None if that lacks one of its characters.

        Of a key that is no element there are none.
        """
        try:
            tag = self._definitions.tag(key.partition("#")[0])
        except DefinitionsError:
            return b""
        rule = self._rules.rule(tag, self._definitions.vr(tag))
        return values.encode(value, rule, Context(charset, False))

    def _regrouped(
        self,
        groups: Iterable[HashedGroup],
        own: Mapping[str, Any],
        attributes: Mapping[str, Any],
        changed: set[str],
        encoding: dict[str, Any] | None,
    ) -> Amended:
        """The groups with what changed: each attribute stays where it was."""
        left = set(changed)
        result: list[HashedGroup] = []
        names: dict[str, int] = {}
        for digest, name, content in groups:
            if name == ENCODING:
                continue
            names[name] = len(result)
            mine = changed & content.keys()
            left -= mine
            if mine:
                kept = {key: attributes[key] for key in content if key in attributes}
                result.append(("", name, kept))
            else:
                result.append((digest, name, content))
        new_own = {key: attributes[key] for key in own if key in attributes}
        for key in left - own.keys():
            name = group_of(key, self._definitions)
            if name == INSTANCE:
                new_own[key] = attributes[key]
            elif name in names:
                _, _, content = result[names[name]]
                result[names[name]] = ("", name, {**content, key: attributes[key]})
            else:
                names[name] = len(result)
                result.append(("", name, {key: attributes[key]}))
        if encoding is not None:
            result.append(("", ENCODING, encoding))
        amended = [
            (digest or self._digest(content), name, self._ordered(name, content, digest))
            for digest, name, content in result
            if content
        ]
        return Amended(
            sorted(amended, key=self._place_of), ordered(new_own.items(), self._definitions)
        )

    def _place_of(self, group: HashedGroup) -> tuple[int, str]:
        """Where a group stands among others (spec/grouping.md); those of other writers last."""
        digest, name, _ = group
        return self._order.get(name, len(self._order)), digest

    def _ordered(self, name: str, content: dict[str, Any], digest: str) -> dict[str, Any]:
        if digest or name == ENCODING:
            return content
        return ordered(content.items(), self._definitions)

    def _digest(self, content: dict[str, Any]) -> str:
        frozen = freeze(content)
        digest = self._digests.get(frozen)
        if digest is None:
            if len(self._digests) > _MEMO_SIZE:
                self._digests.clear()
            digest = self._digests[frozen] = ion_hash_hex(content)
        return digest


class _NotHeldError(RecordError):
    """A value has a character that the character set has not."""

    def __init__(self) -> None:
        super().__init__("record/value", "an edit has a value that no character set holds")


def _said(item: Mapping[str, Any]) -> set[str]:
    """The keys of what an item says, but for how it is written."""
    return {key for key in item if not is_of_writing(key)}


def with_edit(attributes: Mapping[str, Any], edit: Edit) -> dict[str, Any]:
    """Attributes with what an edit sets and removes, in the form that it has there."""
    result = dict(attributes)
    for path, value in (*edit.get("set", {}).items(), *_removals(edit)):
        steps = parse_path(path)
        key = steps[0][0]
        _put(result, key, _placed(result.get(key, ...), steps, value))
    return result


def _removals(edit: Edit) -> Iterator[tuple[str, Any]]:
    for path in edit.get("remove", ()):
        yield path, ...


def _put(attributes: dict[str, Any], key: str, value: Any) -> None:
    if value is ...:
        attributes.pop(key, None)
    else:
        attributes[key] = value


class _Apart(NamedTuple):
    """Those of some keys that are of raw bytes, and of elements that others had replaced."""

    raw: tuple[str, ...]
    repeats: tuple[str, ...]


@lru_cache(maxsize=1 << 5)
def _apart(keys: tuple[str, ...]) -> _Apart:
    """Found once for all instances that have the same keys; most have none of these."""
    raw = tuple([key for key in keys if key.startswith(RAW)])
    return _Apart(raw, tuple([key for key in keys if "#" in key and not key.startswith(RAW)]))


def _drop_repeats(attributes: dict[str, Any], keys: Container[str]) -> None:
    """Drop the elements that the attributes `keys` had replaced."""
    for repeat in _apart(tuple(attributes)).repeats:
        if repeat.partition("#")[0] in keys:
            del attributes[repeat]


def _placed(before: Any, steps: Sequence[Step], value: Any) -> Any:
    """`before` with `value` at the end of `steps`; what lies in no item that is there is left."""
    _, item = steps[0]
    if item is None:
        return value
    if type(before) is not list or item >= len(before):
        return before
    struct = dict(before[item])
    key = steps[1][0]
    inside = struct.get(key, ...)
    placed = _placed(inside, steps[1:], value)
    if freeze(placed) != freeze(inside):
        _drop_repeats(struct, (key,))
    _put(struct, key, placed)
    return [*before[:item], struct, *before[item + 1 :]]
