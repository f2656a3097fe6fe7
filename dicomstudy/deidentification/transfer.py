"""A study → the batch of its instances without what identifies (spec/deidentification.md)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from dicomstudy import layout
from dicomstudy.deidentification.attributes import Made, Scope
from dicomstudy.deidentification.codestreams import has_metadata, is_offset_table
from dicomstudy.deidentification.concealment import Concealer
from dicomstudy.deidentification.confidentiality import SAFE_PRIVATE, Action, Policy
from dicomstudy.deidentification.copies import Copies, ValuesOf
from dicomstudy.deidentification.gathering import gather
from dicomstudy.deidentification.identities import Identities
from dicomstudy.deidentification.pseudonyms import Pseudonyms
from dicomstudy.deidentification.reading import Reader
from dicomstudy.deidentification.risks import of_instance
from dicomstudy.deidentification.safe_private import declared_safe
from dicomstudy.deidentification.stamps import Said, Stamps
from dicomstudy.document import references
from dicomstudy.elements import META_GROUP, Form, bare_uid, sha256_and_size
from dicomstudy.errors import Problem
from dicomstudy.frames import fragments, has_more, pixel_words
from dicomstudy.grouping import (
    ENCODING,
    Batch,
    Entry,
    HashedGroup,
    Rows,
    Source,
    formed,
    freeze,
    ordered,
    ungroup,
)
from dicomstudy.ion import ion_hash_hex
from dicomstudy.layout import Token
from dicomstudy.paths import CHARACTER_SET
from dicomstudy.record import Encoder, character_set_of, group_of
from dicomstudy.study import Instance, Study

__all__ = ["Transfer"]

_META_LENGTH = 0x00020000
_SOP_INSTANCE_UID = 0x00080018
_MEDIA_UID = "MediaStorageSOPInstanceUID"
#: Transfer syntaxes of JPEG, JPEG-LS and JPEG 2000 (PS3.5 section 10).
_JPEG = re.compile(r"1\.2\.840\.10008\.1\.2\.4\.([5-9][0-9]|20[1-3])")
_MEMO_SIZE = 1 << 14


class _Part(NamedTuple):
    """A group of the result, or what is left of one, as instances share it.

    `number` tells it from others; `meta` and `data_set` have tag and layout of each element;
    `digest` is that of a group of the seed, `rows` are the attributes of any other in the batch.
    """

    number: str
    content: dict[str, Any]
    meta: tuple[tuple[int, str], ...]
    data_set: tuple[tuple[int, str], ...]
    digest: str
    rows: tuple[int, ...]
    large: frozenset[str]
    notes: frozenset[str]


class Transfer:
    """Takes the instances of one study over.

    Args:
        study: the study as it is in the source.
        policy: what becomes of each attribute.
        pseudonyms: give the new UIDs and names.
        bulk: where the bulk file of the result will be.

    Attributes:
        uid: the Study Instance UID of the result.
        batch: the instances that were taken over.
        notes: how many of them there is something to tell of, by code.
        problems: instances that were left out.
        bytes_in: bytes of the files that were taken over.
    """

    def __init__(self, study: Study, policy: Policy, pseudonyms: Pseudonyms, bulk: Path) -> None:
        definitions = study.definitions
        self.batch = Batch(bases=[()])
        self.notes: Counter[str] = Counter()
        self.problems: list[Problem] = []
        self.bytes_in = 0
        self._study = study
        self._policy = policy
        self._pseudonyms = pseudonyms
        self.uid = self._uid(study.uid)
        self._definitions = definitions
        identities = Identities(policy, definitions, pseudonyms.uid)
        self._reader = Reader(definitions)
        self._concealer = Concealer(policy, pseudonyms, identities, self._reader, definitions)
        self._encoder = Encoder(definitions)
        self._values = Copies(study, bulk)
        gather(study, identities, self._reader)
        self._parts: dict[object, _Part] = {}
        self._rows = Rows(self.batch.rows)
        self._own: dict[object, tuple[Made, frozenset[str]] | None] = {}
        self._text = lru_cache(maxsize=_MEMO_SIZE)(_text_of)
        self._encodings: dict[tuple[object, ...], tuple[str, dict[str, Any]]] = {}
        self._seen: set[tuple[str, str, str]] = set()
        self._order = {name: at for at, name in enumerate(definitions.groups)}
        self._stamps = Stamps(policy, definitions)

    @property
    def bulk_length(self) -> int:
        """The size of the bulk file of the result, which is on disk then; 0 if there is none."""
        return self._values.end

    def close(self) -> None:
        """Close the bulk file."""
        self._values.close()

    def _uid(self, uid: str) -> str:
        action = self._policy.action(_SOP_INSTANCE_UID)
        return (
            self._pseudonyms.uids(uid) if action is Action.UID else self._pseudonyms.retained(uid)
        )

    def add(self, instance: Instance) -> None:
        """Take one instance over, as it is now."""
        encoding = instance.encoding
        if encoding is None:
            self.problems.append(
                Problem(
                    instance.uid,
                    "deidentify/no-file",
                    "it came from a record without its file, and was left out: nobody can tell "
                    "what its values mean",
                )
            )
            return
        if instance.reads_files:
            instance.original().check_p10()  # nothing else proves what has no SHA-256 of its own
        attributes = instance.attributes()
        values = ValuesOf(instance, self._values, *pixel_words(attributes))
        digest = next(d for d, name, _ in instance.groups if name == ENCODING)
        self._encoder.plan(encoding)  # refuses one that is incomplete
        meta, data_set = self._reader.tokens(encoding)
        notes = of_instance(attributes)
        keeps_private = SAFE_PRIVATE in self._policy.options
        safe = declared_safe(attributes, values.read) if keeps_private else frozenset()
        charset = character_set_of(attributes.get(CHARACTER_SET))
        scope = Scope(
            self._reader.patient(attributes, f"study\0{self._study.uid}", values.read, charset),
            charset,
            self._is_explicit(data_set.values()),
            safe,
            values,
            notes,
        )
        scope = self._concealer.without_telling(attributes, data_set, scope)
        repeated = [key for key in meta if "#" in key and key in attributes]
        moved = {key.partition("#")[0]: attributes[key] for key in repeated}
        tokens = {**{key.partition("#")[0]: token for key, token in meta.items()}, **data_set}
        if bare_uid(attributes.get(_MEDIA_UID)) != instance.uid:
            moved[_MEDIA_UID] = instance.uid
        context = digest, charset, scope.explicit, scope.patient, scope.safe, freeze(moved)
        said = self._stamps.said(attributes)
        groups, own_attributes = formed(instance.groups, instance.own, self._definitions)
        parts = [
            self._part(group, name, _replaced(content, moved), tokens, scope, said, context)
            for group, name, content in (*groups, *self._missing(groups))
            if name != ENCODING
        ]
        own_values = _replaced(own_attributes, moved)
        own = list(self._own_attributes(own_values, tokens, scope, context))
        self._enter(instance, encoding, [part for part in parts if part.content], own, notes)

    def _is_explicit(self, tokens: Iterable[Token]) -> bool:
        """Whether elements have VRs: readers take all of a data set for what its first one is."""
        stay = [
            each
            for each in tokens
            if each.tag >> 16 > META_GROUP and self._policy.action(each.tag) is not Action.REMOVE
        ]
        return bool(stay) and bool(min(stay, key=lambda each: each.tag).vr)

    def _missing(self, groups: Iterable[HashedGroup]) -> Iterator[HashedGroup]:
        """Groups that an instance with these gets for what is stamped on it."""
        if all(name != self._stamps.patient for _, name, _ in groups):
            yield "", self._stamps.patient, {}
        yield "", self._stamps.temporal, {}

    def _part(
        self,
        digest: str,
        name: str,
        content: Mapping[str, Any],
        tokens: Mapping[str, Token],
        scope: Scope,
        said: Said,
        context: tuple[object, ...],
    ) -> _Part:
        known = (digest, name, said, context)
        part = self._parts.get(known)
        if part is None:
            inner = scope._replace(notes=set())
            made = list(self._made(content, tokens, inner))
            if name == self._stamps.patient:
                made += self._stamps.of_patient(said, inner.values, explicit=inner.explicit)
            elif not digest:
                made.append(self._stamps.of_dates(said, explicit=inner.explicit))
            part = self._parts[known] = self._as_part(name, made, inner.notes)
        scope.notes.update(part.notes)
        return part

    def _made(
        self, content: Mapping[str, Any], tokens: Mapping[str, Token], scope: Scope
    ) -> Iterator[Made]:
        """What becomes of the attributes of a group, without those that are stamped on it."""
        for key, value in content.items():
            if key not in self._stamps:
                made = self._concealer.attribute(key, value, tokens.get(key), scope)
                if made is not None:
                    yield made

    def _as_part(self, name: str, made: list[Made], notes: set[str]) -> _Part:
        content = ordered(((each.key, each.value) for each in made), self._definitions)
        is_seed = self._definitions.is_seed(name)
        digest = ion_hash_hex(content) if is_seed and content else ""
        if digest:
            self.batch.contents[digest] = name, content
        layouts = [(each.token.tag, self._text(each.token)) for each in made]
        return _Part(
            f"part {len(self._parts)}",
            content,
            tuple(each for each in layouts if each[0] >> 16 == META_GROUP),
            tuple(each for each in layouts if each[0] >> 16 != META_GROUP),
            digest,
            () if is_seed else tuple(self._rows.add((name, *item) for item in content.items())),
            frozenset(references(list(content.values()))),
            frozenset(notes),
        )

    def _own_attributes(
        self,
        own: Mapping[str, Any],
        tokens: Mapping[str, Token],
        scope: Scope,
        context: tuple[object, ...],
    ) -> Iterator[Made]:
        for key, value in own.items():
            if key in self._stamps:
                continue
            token = tokens.get(key)
            if type(value) is dict or type(value) is list:
                made = self._concealer.attribute(key, value, token, scope)
            else:
                name = (key, freeze(value), token, *context[1:])
                if name not in self._own:
                    inner = scope._replace(notes=set())
                    one = self._concealer.attribute(key, value, token, inner)
                    self._own[name] = one and (one, frozenset(inner.notes))
                known = self._own[name]
                made, notes = known or (None, ())
                scope.notes.update(notes)
            if made is not None:
                yield made

    def _enter(
        self,
        instance: Instance,
        encoding: Mapping[str, Any],
        parts: list[_Part],
        own: list[Made],
        notes: set[str],
    ) -> None:
        """Add an instance to the batch, unless one that was added is equal to it now."""
        texts = [(made.token.tag, self._text(made.token)) for made in own]
        meta = sorted(
            chain(*(part.meta for part in parts), (t for t in texts if t[0] >> 16 == META_GROUP))
        )
        data_set = sorted(
            chain(
                *(part.data_set for part in parts), (t for t in texts if t[0] >> 16 != META_GROUP)
            )
        )
        if meta:
            length = Token(_META_LENGTH, "UL", Form.GROUP_LENGTH)
            meta.insert(0, (_META_LENGTH, self._text(length)))
        digest, written = self._encoding(encoding, meta, data_set)
        content = {made.key: made.value for made in own}
        groups = [(part.number, part.content) for part in parts]
        sha256, size = sha256_and_size(
            chain.from_iterable(
                [segment] if isinstance(segment, bytes) else self._values.pieces(segment)
                for segment in self._encoder.rebuild(groups, content, written, self._values.resolve)
            )
        )
        name = self._uid(instance.uid), self._uid(instance.series), sha256
        if name in self._seen:
            return
        self._seen.add(name)
        large = {*chain(*(part.large for part in parts)), *references(list(content.values()))}
        seeds = [part.digest for part in parts if part.digest]
        seeds.sort(key=lambda each: self._order[self.batch.contents[each][0]])
        rows = [row for part in parts for row in part.rows]
        rows += self._rows.add(
            (group_of(key, self._definitions), key, value) for key, value in content.items()
        )
        self.batch.entries.append(
            Entry(
                *name,
                source=Source("", name[2], size),
                groups=(*seeds, digest),
                base=0,
                own=tuple(rows),
                places={each: self._values.places[each] for each in large},
            )
        )
        self.bytes_in += instance.source.size or 0
        whole = ungroup(groups, content)
        self.notes.update(notes | self._of_pixels(instance, whole, written))

    def _of_pixels(
        self, instance: Instance, attributes: Mapping[str, Any], encoding: Mapping[str, Any]
    ) -> set[str]:
        """The codes of what pixel data tells beside its samples."""
        is_big = encoding["byteOrder"] == "big"
        found = fragments(attributes, self._values.part, big=is_big, uid=instance.uid)
        if found is None:
            return {"risk/pixel-comment"} if has_more(attributes) else set()
        table, images, read, are_all = found
        if not are_all:  # of what is behind them, nobody knows what it says
            return {"risk/pixel-comment"}
        size = min(table.length, 4 * len(images) + 1)  # a longer one is none
        content = read(table.offset, table.offset + size)
        number = str(attributes.get("NumberOfFrames") or "1").strip()
        is_apart = number == str(len(images))
        is_jpeg = _JPEG.fullmatch(bare_uid(attributes.get("TransferSyntaxUID"))) is not None
        is_table = is_offset_table(content, images)
        if is_table and not has_metadata(images, read, known=is_jpeg, apart=is_apart):
            return set()
        return {"risk/pixel-comment"}

    def _encoding(
        self,
        old: Mapping[str, Any],
        meta: list[tuple[int, str]],
        data_set: list[tuple[int, str]],
    ) -> tuple[str, dict[str, Any]]:
        name = (old["preamble"], old["byteOrder"], *meta, None, *data_set)
        known = self._encodings.get(name)
        if known is None:
            written = {
                "preamble": old["preamble"],
                "byteOrder": old["byteOrder"],
                "meta": " ".join([text for _, text in meta]),
                "dataSet": " ".join([text for _, text in data_set]),
            }
            known = self._encodings[name] = ion_hash_hex(written), written
            self.batch.contents[known[0]] = ENCODING, written
        return known


def _replaced(content: Mapping[str, Any], values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Attributes, with other values of some of them."""
    if not values:
        return content
    return {key: values.get(key, value) for key, value in content.items()}


def _text_of(token: Token) -> str:
    return layout.format_tokens([token])
