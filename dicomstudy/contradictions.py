"""What a study says of itself and is not so, though it can be read (spec/archive.md, verify)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dicomstudy.document import is_named
from dicomstudy.elements import bare_uid
from dicomstudy.errors import StudyError
from dicomstudy.grouping import ENCODING, Name, without_encoding
from dicomstudy.record import group_of
from dicomstudy.study import Instance, Study

__all__ = ["Contradictions"]


class Contradictions:
    """Compares what a study says of itself."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._seen: set[Name] = set()
        #: Digests of layouts, and of groups all of which they name.
        self._written: set[tuple[str, str]] = set()

    def _error(self, message: str) -> StudyError:
        return StudyError("study/damaged", message, source=str(self._study.path))

    def check_group(self, name: str, digest: str, content: Iterable[str]) -> None:
        """Compare the keys of an attribute group with its name.

        Raises:
            StudyError: it has attributes of another one.
        """
        definitions = self._study.definitions
        if name != ENCODING and any(group_of(key, definitions) != name for key in content):
            raise self._error(f"the group {name} {digest} has attributes of another")

    def check(self, instance: Instance) -> None:
        """Compare an instance with what it stands under.

        Raises:
            StudyError: it is another one, or there twice.
        """
        original = instance.original()
        self._check_uids(instance)
        name = instance.uid, instance.identity, instance.series
        if name in self._seen:
            raise self._error(f"the instance {instance.key} stands there twice")
        self._seen.add(name)
        if instance.key != instance.uid and not is_named(
            instance.key.rstrip("+"), instance.uid, instance.identity
        ):
            raise self._error(f"the key {instance.key} is not that of its UID and digest")
        names = [group for _, group, _ in original.groups]
        if len({*names}) < len(names):
            raise self._error(f"the instance {instance.key} has two groups of one name")
        if instance.source.sha256 is not None and original.encoding is None:
            raise self._error(
                f"the instance {instance.key} has a file, but does not say how that was written"
            )
        self._check_versions(instance)
        self._check_decoded(original)

    def _check_decoded(self, instance: Instance) -> None:
        """Compare an instance with its layout and with what files are decoded to."""
        encoding = instance.encoding
        if encoding is None:
            return
        self._check_layout(instance, encoding)
        if instance.source.proved and type(encoding.get("preamble", True)) is not bool:
            raise self._error(f"the encoding of {instance.key} does not say if there is a preamble")

    def _check_layout(self, instance: Instance, encoding: Mapping[str, Any]) -> None:
        """Compare the attributes of an instance with those that its layout names."""
        layout = next(digest for digest, name, _ in instance.groups if name == ENCODING)
        groups = without_encoding(instance.groups)
        new = [(digest, part) for digest, part in groups if (layout, digest) not in self._written]
        parts = (*(part for _, part in new), instance.own)
        stray = self._study.encoder.stray(parts, encoding)
        if stray is not None:
            raise self._error(f"{instance.key} has an attribute {stray!r} that is in no layout")
        self._written.update((layout, digest) for digest, _ in new)

    def _check_uids(self, instance: Instance) -> None:
        attributes = instance.attributes()
        said = {
            "StudyInstanceUID": instance.study.uid,
            "SeriesInstanceUID": instance.series,
            "SOPInstanceUID": instance.key[: len(instance.uid)],
        }
        for keyword, uid in said.items():
            value = attributes.get(keyword)
            if isinstance(value, str) and bare_uid(value) != uid:
                raise self._error(
                    f"the {keyword} of {instance.key} is not the one that it stands under"
                )

    def _check_versions(self, instance: Instance) -> None:
        history, events = self._study.history, instance.events
        numbers = [abs(event) for event in events]
        if numbers != sorted({*numbers}) or any(
            not history.first <= number <= history.current for number in numbers
        ):
            raise self._error(f"the versions of {instance.key} are not those of the study")
        if instance.is_retired != (history.since(events) is None):
            raise self._error(f"the instance {instance.key} does not stand where its versions say")
