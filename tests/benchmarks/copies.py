"""Archives of any size: documents multiplied from a few, with new UIDs and without pixel data."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from dicomstudy import definitions
from dicomstudy.archive import create
from dicomstudy.bulk import BulkFile
from dicomstudy.clustering import Clustered, ClusteredSeries
from dicomstudy.document import Document, encode, source_of, uid_of
from dicomstudy.grouping import Entry, Row, Source
from dicomstudy.ion import ion_hash_hex

DEFINITIONS = definitions.load()
_UID = re.compile(r"[0-9]+(\.[0-9]+){3,}")
_STANDARD = "1.2.840.10008."
_KEPT = frozenset(("ImplementationClassUID", "_raw"))


def read(path: Path) -> tuple[str, Clustered]:
    """The study of a document, and what it was encoded from."""
    document = Document(path)
    frames = [*document.shared(), *map(document.chunk, range(len(document.chunks)))]
    content = Clustered({}, [], [])
    series: dict[str, ClusteredSeries] = {}
    places: dict[str, dict[str, Any]] = {}
    for frame in frames:
        places |= frame["bulk"]
        for name, contents in frame["groups"].items():
            content.contents |= {digest: (name, group) for digest, group in contents.items()}
        for key, instance in frame.get("instances", {}).items():
            own = {k: v for k, v in instance.items() if k not in {"_groups", "_source"}}
            numbers = range(len(content.rows), len(content.rows) + len(own))
            content.rows += [Row("", k, v) for k, v in own.items()]
            source = source_of(instance)
            uid = frame["seriesInstanceUID"]
            found = series.setdefault(uid, ClusteredSeries(uid, tuple(frame["_groups"]), []))
            found.entries.append(
                Entry(
                    uid_of(key, instance), uid, source.sha256 or "", source,
                    tuple(instance["_groups"]), 0, tuple(numbers), places,
                )
            )  # fmt: skip
    document.close()
    content.series += series.values()
    return document.study, content


class _Copy:
    """One study with other UIDs, patient and digests."""

    def __init__(self, number: int) -> None:
        self.number = number

    def hash(self, text: str) -> str:
        return hashlib.sha256(f"{self.number} {text}".encode()).hexdigest()

    def uid(self, uid: str) -> str:
        return f"2.25.{int(self.hash(uid)[:32], 16)}"

    def value(self, key: str, value: Any) -> Any:
        if type(value) is str:
            if key == "PatientID":
                return f"{value[:8]}-{self.number}"
            is_uid = _UID.fullmatch(value) and not value.startswith(_STANDARD)
            return self.uid(value) if is_uid and key not in _KEPT else value
        if type(value) is list:
            return [{k: self.value(k, v) for k, v in item.items()} for item in value]
        if type(value) is dict and "sha256" in value:
            return {**value, "sha256": self.hash(value["sha256"])}
        return value

    def of(self, content: Clustered) -> Clustered:
        renamed: dict[str, str] = {}
        contents: dict[str, tuple[str, dict[str, Any]]] = {}
        for digest, (name, group) in content.contents.items():
            changed = {key: self.value(key, value) for key, value in group.items()}
            renamed[digest] = digest if changed == group else ion_hash_hex(changed)
            contents[renamed[digest]] = name, changed
        rows = [Row("", key, self.value(key, value)) for _, key, value in content.rows]
        series = []
        for one in content.series:
            entries = [
                entry._replace(
                    instance=self.uid(entry.instance),
                    series=self.uid(one.uid),
                    digest=self.hash(entry.digest),
                    source=self.source(at, entry.source),
                    groups=tuple(renamed[digest] for digest in entry.groups),
                    places={},
                )
                for at, entry in enumerate(one.entries)
            ]
            entries.sort(key=lambda entry: entry.instance)
            groups = tuple(renamed[digest] for digest in one.groups)
            series.append(ClusteredSeries(self.uid(one.uid), groups, entries))
        return Clustered(contents, rows, sorted(series, key=lambda one: one.uid))

    def source(self, at: int, source: Source) -> Source:
        uri = f"file:///data/{self.number:06}/IM{at:06}.dcm"
        return source._replace(uri=uri, sha256=self.hash(source.sha256 or ""))


def multiply(
    templates: Sequence[Path], archive: Path, instances: int, tell: Callable[[int], None]
) -> int:
    """Add studies to a new archive until it has so many instances; returns their number."""
    folder = create(archive)
    contents = [read(path) for path in templates]
    made = 0
    for studies, (study, content) in enumerate(cycle(contents)):
        if made >= instances:
            return studies
        copy = _Copy(studies)
        copied, uid = copy.of(content), copy.uid(study)
        path = folder.document_path(uid)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"".join(encode(uid, copied, DEFINITIONS, bulk=BulkFile())))
        made += sum(len(series.entries) for series in copied.series)
        tell(made)
    return 0
