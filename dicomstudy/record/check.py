"""Whether a record gives back the very file that it was made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dicomstudy.elements import Buffer
from dicomstudy.errors import DicomStudyError
from dicomstudy.record.attributes import Segment
from dicomstudy.record.encoder import Encoder
from dicomstudy.record.template import Record

_MEMO_SIZE = 1 << 12


class Checker:
    """Compares what comes out of records with the files that they were made of."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._proved: set[frozenset[str]] = set()

    def is_exact(self, record: Record, data: Buffer) -> bool:
        """Whether the file that comes out of `record` is `data`, byte for byte.

        Where bytes of the file are in no value, the way that a document's groups take is
        taken as well, once for each set of attributes that have such bytes.
        """
        if not _is_same(record.segments(), record, data):
            return False
        if not record.extra and not record.template.raw:
            return True
        unusual = (*record.template.raw, *record.extra)
        case = frozenset(attribute.key for attribute in unusual)
        if case in self._proved:
            return True
        if not self._comes_out_of_groups(record, data):
            return False
        if len(self._proved) > _MEMO_SIZE:
            self._proved.clear()
        self._proved.add(case)
        return True

    def _comes_out_of_groups(self, record: Record, data: Buffer) -> bool:
        """As `is_exact`, by the way that a document's groups take."""
        seeds = self._encoder.definitions.seed_groups
        own: dict[str, Any] = {}
        groups = []
        for name, attributes in record.groups.items():
            content = {attribute.key: attribute.value for attribute in attributes}
            if name in seeds:
                groups.append(("", content))
            else:
                own |= content
        by_digest = {large.sha256: large for large in record.large}

        def resolve(reference: Mapping[str, Any]) -> bytes:
            large = by_digest[reference["sha256"]]
            start, length = large.span
            return data[start : start + length] if large.stored is None else large.stored

        try:
            segments = self._encoder.rebuild(groups, own, record.encoding, resolve)
        except DicomStudyError:
            return False
        return _is_same(segments, record, data)


def _is_same(segments: list[Segment], record: Record, data: Buffer) -> bool:
    """Whether the segments of a record are the bytes of `data`."""
    there = {(large.sha256, large.span.offset) for large in record.large if large.stored is None}
    stored = {large.sha256: large.stored for large in record.large if large.stored is not None}
    pos = 0
    for segment in segments:
        if isinstance(segment, bytes):
            if data[pos : pos + len(segment)] != segment:
                return False
            pos += len(segment)
            continue
        length = segment["length"]
        if "dataOffset" in segment:
            if segment["dataOffset"] != pos:
                return False
        elif (segment["sha256"], pos) not in there and (
            stored.get(segment["sha256"]) != data[pos : pos + length]
        ):
            return False
        pos += length
    return pos == len(data)
