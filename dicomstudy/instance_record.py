"""Records ↔ dicom2ion-style instance records: one Ion struct per P10 file (spec/record.md)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeGuard

from dicomstudy import ion, layout
from dicomstudy.bulk import Places
from dicomstudy.definitions import Definitions
from dicomstudy.elements import (
    PIXEL_DATA_TAGS,
    Buffer,
    Piece,
    Span,
    chunks,
    is_count,
    is_private,
    sha256_of,
)
from dicomstudy.errors import IonError, P10Error, RecordError
from dicomstudy.grouping import Source, ordered
from dicomstudy.layout import Token
from dicomstudy.p10 import MAX_DEPTH, inflate
from dicomstudy.record import (
    DEFLATED,
    PREAMBLE,
    RAW,
    TRAILING,
    VRS_KEY,
    Attribute,
    Encoder,
    Large,
    Record,
    Segment,
    Template,
    group_of,
    has_types,
    is_reference,
)
from dicomstudy.sources import Window

__all__ = ["is_record", "load", "to_struct"]

_SUFFIXES = frozenset((".ion", ".10n"))
_SCALARS = frozenset((str, int, float, bytes))
#: Fields of a reference that say where its value lies: in the file, or here.
_PLACE_FIELDS = frozenset(("dataOffset", "data"))
#: What begins with ``_`` is one of these or a raw value, lest it be taken for a field of documents.
_OTHERS = frozenset((PREAMBLE, TRAILING, DEFLATED, VRS_KEY))
#: What no attribute can be called: nothing, or like the field that tells a reference.
_NO_KEYS = frozenset(("", "length"))
_REFERENCE_FIELDS = frozenset(("length", "sha256", "dataOffset", "fragments"))
_FIELDS_OF_DICOM2ION = frozenset(("encapsulatedPixelData", "basicOffsetTable"))
_ENCODING_TYPES = {"preamble": bool, "byteOrder": str, "meta": str, "dataSet": str}
_SHA256 = re.compile("[0-9a-f]{64}")
#: Bytes in front of a fragment and of the delimiter behind the last one.
_HEADER = 8
#: What a record of as many elements as a file may have stays below.
_MAX_VALUES = 1 << 22
#: So many bytes of large values in items are written to see where what follows stands.
_MAX_WRITTEN = 1 << 24
#: Of a larger file, whose values are said to be here, the SHA-256 is not compared.
_MAX_HASHED = 1 << 30


class Loaded(NamedTuple):
    """A record that was read: what `Grouper.add` asks for; and its file, if that was opened."""

    record: Record
    source: Source
    places: Places
    original: Window | None


def is_record(head: bytes, suffix: str) -> bool:
    """Whether a file may be an instance record: binary Ion, or named as Ion."""
    return head.startswith(ion.BINARY_MARK) or suffix.lower() in _SUFFIXES


def to_struct(
    record: Record,
    definitions: Definitions,
    *,
    source: Source,
    max_inline: int,
    data_set_offset: int,
    carried: Buffer | None = None,
) -> dict[str, Any]:
    """The instance record of a file, in the fields of dicom2ion and with its encoding.

    Mirror of `load`. Large values are references into the file: `dataOffset` and `length`, and
    the `sha256` of their bytes, except for pixel data, which the file's own proves. Those that
    stand nowhere in the file as they are recorded have their bytes as `data` instead.

    Args:
        record: what was decoded.
        definitions: those of the format.
        source: the file.
        max_inline: values of more bytes than this are references.
        data_set_offset: where in the file the first element of the data set lies.
        carried: the bytes of the file if nothing can refer to it, as to one inside a zip file;
            then all large values have their bytes with them.
    """
    places = {large.sha256: _place(large, carried) for large in record.large if large.sha256}
    data_set = {
        key: _with_place(value, places)
        for key, value in ordered(record.attributes().items(), definitions).items()
    }
    tokens = layout.parse(record.encoding["meta"]) + layout.parse(record.encoding["dataSet"])
    vrs = _vrs(tokens, data_set, definitions)
    if vrs:
        data_set[VRS_KEY] = vrs
    return {
        "sourceInfo": {"uri": source.uri},
        "options": {
            "maximumInlineDataLength": max_inline,
            "dataDictionary": {"description": definitions.edition, "sha256": definitions.digest},
        },
        "fileInfo": {
            "sha256": source.sha256,
            "size": source.size,
            "dataSetOffset": data_set_offset,
        },
        "encoding": record.encoding,
        "dataSet": data_set,
    }


def _place(large: Large, carried: Buffer | None) -> dict[str, Any]:
    if large.stored is not None:
        return {"data": bytes(large.stored)}
    offset, length = large.span
    if carried is not None:
        return {"data": bytes(carried[offset : offset + length])}
    return {"dataOffset": offset}


def _with_place(value: object, places: Mapping[str, dict[str, Any]]) -> object:
    """`value` with the place of each large value in it, at any depth."""
    if isinstance(value, list):
        return [_with_place(item, places) for item in value]
    if not isinstance(value, dict):
        return value
    if is_reference(value):
        return {**places.get(value.get("sha256", ""), {}), **value}
    return {key: _with_place(item, places) for key, item in value.items()}


def _without_place(value: object, places: Places) -> object:
    """`value` as `_with_place` was given it; the places go to `places`."""
    if isinstance(value, list):
        return [_without_place(item, places) for item in value]
    if not isinstance(value, dict):
        return value
    if is_reference(value):
        sha256 = value.get("sha256")
        if type(sha256) is not str:
            return value
        place = {name: value[name] for name in _PLACE_FIELDS if name in value}
        if place:
            places[sha256] = place
        return {name: item for name, item in value.items() if name not in _PLACE_FIELDS}
    return {key: _without_place(item, places) for key, item in value.items()}


def _vrs(
    tokens: Iterable[Token], data_set: Mapping[str, Any], definitions: Definitions
) -> dict[str, str]:
    """The VRs in the file that are none of those of the dictionary (dicom2ion's `_vrs`)."""
    vrs = {}
    for token in tokens:
        key = definitions.key(token.tag, token.occurrence)
        known = definitions.vr(token.tag).split(" or ")
        if token.vr and key in data_set and (is_private(token.tag) or token.vr not in known):
            vrs[key] = token.vr
    return vrs


def _not_opened(_source: Source) -> None:
    """No file."""


def load(
    data: bytes,
    definitions: Definitions,
    *,
    source: str,
    opened: Callable[[Source], Window | None] = _not_opened,
) -> Loaded:
    """An instance record, of this package or of dicom2ion-js, binary or text.

    Args:
        data: the record.
        definitions: those of the format.
        source: where it comes from.
        opened: gives the P10 file of a record with encoding, if it is to be compared with that.
            Its size and its SHA-256 are then those of the record.

    Raises:
        RecordError: the data are no instance record (``record/not-a-record``), or no file
            could be written of what they say, or another one; they have too many values
            (``record/too-large``); one of them can be none (``record/value``).
    """
    try:
        struct = ion.loads(data, max_values=_MAX_VALUES)
    except IonError as error:
        code = "record/too-large" if error.code == "ion/too-large" else "record/not-a-record"
        raise RecordError(code, error.message, source=source) from error
    if not isinstance(struct, dict) or not isinstance(struct.get("dataSet"), dict):
        raise RecordError("record/not-a-record", "it has no struct 'dataSet'", source=source)
    encoding = struct.get("encoding")
    if encoding is not None and not _is_encoding(encoding):
        message = (
            "the encoding is no struct, or has other fields than these have, or of other types"
        )
        raise RecordError("record/encoding", message)
    origin = _source(struct, source, known=encoding is not None)
    data_set = _DataSetCheck(definitions, origin.size).checked(struct["dataSet"])
    groups: dict[str, list[Attribute]] = {}
    places: Places = {}
    for key, value in data_set.items():
        plain = value if encoding is None else _without_place(value, places)
        group = group_of(key, definitions)
        if key != VRS_KEY or encoding is None:
            groups.setdefault(group, []).append(Attribute(key, plain, group))
    original = None
    if encoding is not None:
        original = opened(origin)
        attributes = {each.key: each.value for several in groups.values() for each in several}
        check = _FileCheck(Encoder(definitions), places, original)
        check.check(attributes, encoding, origin)
    record = Record(Template.closed(groups, encoding or {}), [], [], [])
    return Loaded(record, origin, places, original)


def _is_encoding(encoding: object) -> bool:
    """Whether it has the fields of an encoding, each of its type, and no others."""
    return (
        isinstance(encoding, dict)
        and encoding.keys() == _ENCODING_TYPES.keys()
        and has_types(encoding, _ENCODING_TYPES)
    )


def _source(struct: Mapping[str, Any], path: str, *, known: bool) -> Source:
    """The file of a record; dicom2ion-js gives no digest of it (spec/record.md)."""
    origin, file = struct.get("sourceInfo", {}), struct.get("fileInfo")
    uri = origin.get("uri", path) if isinstance(origin, dict) else None
    if type(uri) is not str:
        raise RecordError("record/not-a-record", "the URI of its file is no text", source=path)
    if not known:
        return Source(uri, proved=False)
    sha256, size = (file.get("sha256"), file.get("size")) if isinstance(file, dict) else (0, 0)
    if not _is_sha256(sha256) or not is_count(size):
        raise RecordError(
            "record/not-a-record", "'fileInfo' lacks the SHA-256 or the size", source=path
        )
    return Source(uri, sha256, size, proved=False)


def _is_sha256(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def _refused(key: str, why: str) -> RecordError:
    return RecordError("record/value", f"{key!r:.80} {why}")


class _DataSetCheck:
    """Refuses what spec/record.md does not let a `dataSet` have, at any depth.

    Nothing of what it says is believed later on: whoever wrote it may be mistaken, or want what
    reads the archive to fail, or to read a file that is none of a study.

    Args:
        definitions: those of the format.
        size: bytes of the P10 file; None in a record of dicom2ion-js, which does not say it.
    """

    def __init__(self, definitions: Definitions, size: int | None) -> None:
        self._size = size
        self._pixel_data = frozenset(map(definitions.keyword, PIXEL_DATA_TAGS))
        more = _FIELDS_OF_DICOM2ION if size is None else {"data"}
        self._fields = _REFERENCE_FIELDS | more

    def checked(self, data_set: dict[str, Any]) -> dict[str, Any]:
        """The data set, in which references of dicom2ion-js have the fields of ours.

        Raises:
            RecordError: ``record/value``, of the first attribute that cannot be one.
        """
        vrs = data_set.get(VRS_KEY, {})
        if not isinstance(vrs, dict) or not _NO_KEYS.isdisjoint(vrs):
            raise _refused(VRS_KEY, "is no struct of VRs by key")
        if any(type(vr) is not str for vr in vrs.values()):
            raise _refused(VRS_KEY, "has a VR that is no text")
        for key, value in data_set.items():
            if key[:1] != "_":
                continue
            if key not in _OTHERS and not key.startswith(RAW):
                raise _refused(key, "is no key of an attribute")
            if (key == PREAMBLE or key.startswith(RAW)) and type(value) is not bytes:
                raise _refused(key, "is no blob")
            if key in {TRAILING, DEFLATED} and type(value) not in {bytes, dict}:
                raise _refused(key, "is neither a blob nor a reference")
        rest = {key: value for key, value in data_set.items() if key != VRS_KEY}
        return self._struct("dataSet", rest, 0) | ({VRS_KEY: vrs} if VRS_KEY in data_set else {})

    def _struct(self, key: str, struct: dict[str, Any], depth: int) -> dict[str, Any]:
        """A data set, or an item of the attribute `key`, around which there are `depth` others."""
        if depth > MAX_DEPTH:  # a document has others around it
            raise _refused(key, f"lies in more than {MAX_DEPTH} sequences")
        if not _NO_KEYS.isdisjoint(struct):
            raise _refused(key, "has an attribute without a key, or one that is called 'length'")
        return {name: self._value(name, value, depth) for name, value in struct.items()}

    def _value(self, key: str, value: Any, depth: int) -> Any:
        if isinstance(value, list):
            if not all(isinstance(item, dict) for item in value):
                raise _refused(key, "has an item that is no struct")
            return [self._struct(key, item, depth + 1) for item in value]
        if isinstance(value, dict):
            return self._reference(key, value)
        if value is None or type(value) in _SCALARS:
            return value
        raise _refused(key, "is no value of an attribute")

    def _reference(self, key: str, reference: dict[str, Any]) -> dict[str, Any]:
        if not reference.keys() <= self._fields:
            raise _refused(key, "is a reference with fields that none has")
        if not is_count(reference.get("length")):
            raise _refused(key, "is a reference without a length")
        if "dataOffset" in reference and not is_count(reference["dataOffset"]):
            raise _refused(key, "is a reference to no place in a file")
        if "sha256" in reference:
            if not _is_sha256(reference["sha256"]):
                raise _refused(key, "is a reference with a digest that is none")
        elif "dataOffset" not in reference or key.partition("#")[0] not in self._pixel_data:
            raise _refused(key, "is a reference without a digest")
        if self._size is not None:
            self._check_place(key, reference, self._size)
        return self._with_fragments(key, reference)

    def _check_place(self, key: str, reference: Mapping[str, Any], size: int) -> None:
        if ("data" in reference) == ("dataOffset" in reference):
            raise _refused(key, "is a reference to no place, or to two")
        length = reference["length"]
        if "data" not in reference:
            if reference["dataOffset"] + length > size:
                raise _refused(key, "is a reference beyond the end of the file")
        elif type(reference["data"]) is not bytes or len(reference["data"]) != length:
            raise _refused(key, "is a reference with bytes of another length")

    def _with_fragments(self, key: str, reference: dict[str, Any]) -> dict[str, Any]:
        """A reference with the lengths of its fragments, as they are in ours."""
        rest = {name: x for name, x in reference.items() if name not in _FIELDS_OF_DICOM2ION}
        if "fragments" not in reference:
            return rest
        lengths = reference["fragments"]
        if isinstance(lengths, list) and "basicOffsetTable" in reference:
            table = reference["basicOffsetTable"]
            lengths = [
                4 * len(table) if isinstance(table, list) else None,
                *(each.get("length") if isinstance(each, dict) else None for each in lengths),
            ]
        if not isinstance(lengths, list) or not all(map(is_count, lengths)):
            raise _refused(key, "has fragments that are no lengths")
        behind = reference["length"] - sum(lengths) - _HEADER * len(lengths)
        # What is behind them is the delimiter; only a damaged file has less or more.
        if behind < 0 or (self._size is None and behind not in {0, _HEADER}):
            raise _refused(key, "has another length than its fragments")
        return rest | {"fragments": lengths}


class _FileCheck:
    """Refuses a record of another file than the one that it names, as far as it tells.

    Without that file, values that stay there may be others than the record says.

    Args:
        encoder: writes the file.
        places: where each large value lies, by SHA-256: in the file, or with its bytes.
        original: the file, if it is there.
    """

    def __init__(self, encoder: Encoder, places: Places, original: Buffer | None) -> None:
        self._encoder = encoder
        self._places = places
        self._original = original
        self._room = _MAX_WRITTEN
        self._left_out = 0
        self._is_partial = False
        self._in_items: set[str] = set()

    def check(
        self, attributes: Mapping[str, Any], encoding: Mapping[str, Any], file: Source
    ) -> None:
        """Compare what would be written with what is said of the file.

        Raises:
            RecordError: a large value is not what its digest says (``record/digest``), an
                attribute is in no layout (``record/value``), no file can be written (as
                spec/record.md says), or it is another one (``record/file``).
        """
        for sha256, known in self._places.items():
            if "data" in known and sha256_of(known["data"]) != sha256:
                raise RecordError("record/digest", "a large value is not what its digest says")
        stray = self._encoder.stray((attributes,), encoding)
        if stray is not None:
            raise _refused(stray, "is in no layout")
        self._check_deflated(attributes, encoding)
        digest, size = hashlib.sha256(), 0
        most = _MAX_HASHED if self._original is None else len(self._original)
        said: set[tuple[str, int]] = set()
        found: set[tuple[str, int]] = set()  # those that are in no item
        for segment in self._encoder.write(attributes, encoding, self._resolve):
            if isinstance(segment, bytes):
                digest.update(segment)
                size += len(segment)
                continue
            name = segment.get("sha256", "")
            place = self._place(segment)
            if "data" not in place:
                said.add((name, place["dataOffset"]))
                found.add((name, size))
            for piece in self._pieces(place, segment) if size < most else ():
                digest.update(piece)
            size += segment["length"]
        for name, offset in () if self._left_out else said - found:
            if name not in self._in_items:  # else it may be said to lie there
                raise _other_file(f"has no large value at {offset}")
        size += self._left_out
        if size != file.size:
            raise _other_file(f"has {size} bytes, not {file.size}")
        is_whole = not self._is_partial and (self._original is not None or not said)
        if is_whole and size <= most and digest.hexdigest() != file.sha256:
            raise _other_file(f"has the SHA-256 {digest.hexdigest()}, not {file.sha256}")

    def _check_deflated(self, attributes: Mapping[str, Any], encoding: Mapping[str, Any]) -> None:
        """Compare a data set with the deflate stream that the file has of it, if that is here."""
        stream = self._whole(attributes.get(DEFLATED))
        if not stream:
            return
        try:
            inflated = inflate(stream)
        except P10Error as error:
            raise _other_file("has a deflate stream that cannot be read") from error
        plain = {key: value for key, value in attributes.items() if key != DEFLATED}
        data_set = {**encoding, "preamble": False, "meta": ""}
        position = 0
        segments = self._encoder.write(plain, data_set, lambda value: self._whole(value) or b"")
        for segment in segments:
            content = self._whole(segment)
            if content is not None and not inflated.startswith(content, position):
                raise _other_file("has another data set in its deflate stream")
            position += len(segment) if isinstance(segment, bytes) else segment["length"]

    def _whole(self, value: Segment | None) -> bytes | None:
        """All bytes of a value; None if they stay in the file, and that is not here."""
        if not isinstance(value, Mapping):
            return value
        data = b"".join(self._pieces(self._place(value), value))
        return data if len(data) == value["length"] else None

    def _resolve(self, reference: Mapping[str, Any]) -> bytes:
        """The bytes of a value that is written with others; zeros if they stay in the file.

        Nothing, if they are many.
        """
        length = reference["length"]
        self._in_items.add(reference.get("sha256", ""))
        pieces = self._pieces(self._place(reference), reference)
        self._room -= length
        if self._room < 0:
            self._is_partial = True
            self._left_out += length
            return b""
        data = b"".join(pieces)
        self._is_partial |= len(data) < length
        return data or bytes(length)

    def _place(self, reference: Mapping[str, Any]) -> Mapping[str, Any]:
        """Where a large value lies.

        Raises:
            RecordError: ``record/value``, it has another length there.
        """
        place = self._places.get(reference.get("sha256", "")) or reference
        if "data" in place and len(place["data"]) != reference["length"]:
            raise RecordError("record/value", "a large value has two lengths")
        return place

    def _pieces(self, place: Mapping[str, Any], reference: Mapping[str, Any]) -> Iterable[Piece]:
        """The bytes of a large value; none if they stay in the file, and that is not here."""
        if "data" in place:
            return [place["data"]]
        if self._original is None or "dataOffset" not in place:
            return ()
        return chunks(self._original, Span(place["dataOffset"], reference["length"]))


def _other_file(why: str) -> RecordError:
    return RecordError("record/file", f"the file that it describes {why}")
