"""What identifies somebody, from all that a document says (spec/deidentification.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dicomstudy.deidentification.identities import Identities
from dicomstudy.deidentification.reading import Reader
from dicomstudy.errors import DicomStudyError
from dicomstudy.paths import CHARACTER_SET
from dicomstudy.record import character_set_of
from dicomstudy.study import Instance, Study
from dicomstudy.text import CharacterSet

__all__ = ["gather"]


def gather(study: Study, identities: Identities, reader: Reader) -> None:
    """Learn from every instance as it came, retired ones too, and from the history.

    Raises:
        DicomStudyError: the study is damaged.
    """
    seen: set[str] = set()

    def gather_instance(instance: Instance) -> None:
        def read(reference: Mapping[str, Any]) -> bytes:
            return b"".join(instance.value_pieces(reference))

        def text(key: str, value: Any, charset: CharacterSet) -> str | None:
            try:
                return reader.text(key, value, read, charset, lenient=True)
            except DicomStudyError:
                if instance.encoding is None:  # it is left out, and may lack large values
                    return None
                raise

        groups = instance.groups
        parts = [content for digest, _, content in groups if digest not in seen]
        seen.update(digest for digest, _, _ in groups)
        every = (instance.own, *(content for _, _, content in groups))
        named = next((part[CHARACTER_SET] for part in every if CHARACTER_SET in part), None)
        charset = character_set_of(named)
        for part in (instance.own, *parts):
            identities.gather(part, charset, text)
        encoding = instance.encoding
        for path in () if encoding is None else reader.private_names(encoding["dataSet"]):
            if name := reader.private_name(instance.attributes(), path, read, charset):
                identities.gather_name(name)

    for chunk in study.chunks(retired=True):
        if isinstance(chunk, DicomStudyError):
            raise chunk
        for instance in chunk:
            gather_instance(instance.original())
    identities.gather_study(study.uid)
    for version in study.history.versions:
        identities.gather_study(version.from_study, version.to_study)
    identities.gather_edits(study.history.all_edits())
