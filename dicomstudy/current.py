"""A study as it is now, without what it was before (spec/history.md)."""

from __future__ import annotations

from typing import Any

from dicomstudy.document import BatchReader
from dicomstudy.grouping import Batch, Name
from dicomstudy.ion import ion_hash_hex
from dicomstudy.record import DEFLATED
from dicomstudy.study import Instance, Study

__all__ = ["as_it_is"]


def as_it_is(study: Study) -> Batch:
    """The instances of a study: what was changed of them is all that they are.

    Raises:
        DicomStudyError: the study is damaged, or a large value of a changed instance missing.
    """
    reading = BatchReader(study.definitions, study.document.bulk.length)
    for frame in study.document.frames():
        reading.collect(frame)
    seen: set[Name] = set()
    for instance in study.values():
        struct = _struct(instance)
        source = struct["_source"]
        digest = str(source.get("sha256") or source.get("record"))
        name = instance.uid, digest, instance.series
        if name in seen:  # edits made it equal to another one
            continue
        seen.add(name)
        reading.collect({"groups": {}, "bulk": instance.own_places})
        if instance.changed:  # its layout will no longer be that of the file
            reading.collect({"groups": {}, "bulk": instance.places_in_own_file})
        reading.add(instance.key, instance.series, struct, instance.groups)
    return reading.batch


def _struct(instance: Instance) -> dict[str, Any]:
    """An instance as a document has it that never had another; its source is its file."""
    source = instance.source
    fields: dict[str, Any] = {"uri": source.uri}
    own = instance.own
    if not instance.changed:
        if source.sha256 is None:
            fields["record"] = instance.identity
        else:
            fields |= {"size": source.size, "sha256": source.sha256, "proved": source.proved}
        if source.modified is not None:
            fields["modified"] = source.modified
        return {**own, "_source": fields}
    if instance.encoding is None:
        return {**own, "_source": {**fields, "record": ion_hash_hex(instance.attributes())}}
    sha256, size = instance.check_p10()
    file = {"uri": source.uri, "size": source.size, "source": source.sha256}
    file |= {} if source.modified is None else {"modified": source.modified}
    left: dict[str, Any] = {  # in the file that it came in
        key: {**file, **value}
        for key, value in own.items()
        if isinstance(value, dict) and "dataOffset" in value
    }
    if (stream := instance.deflated()) is not None:
        left[DEFLATED] = stream
    return {**own, **left, "_source": {**fields, "size": size, "sha256": sha256}}
