"""A study ↔ rows of the star: instances, groups, series, studies and frames (spec/tables.md)."""

from __future__ import annotations

from collections import ChainMap, Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import pyarrow as pa

from dicomstudy.definitions import Definitions
from dicomstudy.document import BatchReader
from dicomstudy.errors import DicomStudyError, RecordError, TableError
from dicomstudy.grouping import ENCODING, Batch
from dicomstudy.ion import ion_hash_hex
from dicomstudy.record import is_reference
from dicomstudy.study import Instance, Study
from dicomstudy.tables.columns import Columns, Form, creators_of
from dicomstudy.tables.rows import Row, decode, encode

__all__ = ["FRAMES", "INSTANCES", "SERIES", "STUDIES", "Emit", "Star", "StudyRows"]

INSTANCES, SERIES, STUDIES, FRAMES = "instances", "series", "studies", "frames"
#: Takes a row of a table, and about how many cells it has.
Emit = Callable[[str, Row, int], None]

_STUDY, _SERIES, _INSTANCE = "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"
_PER_FRAME = "PerFrameFunctionalGroupsSequence"
#: The group whose attribute is the column of the key.
_STUDY_GROUP = "generalStudy"

_SOURCE_FIELDS: dict[str, pa.DataType] = {
    "uri": pa.string(),
    "size": pa.int64(),
    "sha256": pa.string(),
    "modified": pa.int64(),
    "proved": pa.bool_(),
    "record": pa.string(),
}
_OF_STUDY = (
    *("StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "StudyID"),
    *("StudyDescription", "PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
)
_OF_SERIES = (
    *("Modality", "SeriesNumber", "SeriesDescription", "SeriesDate", "SeriesTime"),
    *("BodyPartExamined", "PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime"),
    *("Manufacturer", "ManufacturerModelName", "StationName", "InstitutionName"),
)
_DATES = ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate")


def _uids(*names: str) -> list[pa.Field[Any]]:
    return [pa.field(name, pa.string()) for name in names]


_DATE_RANGE = [pa.field("first_date", pa.date32()), pa.field("last_date", pa.date32())]
_STUDY_FIELDS = [
    *_uids(_STUDY),
    pa.field("ModalitiesInStudy", pa.list_(pa.string())),
    pa.field("SOPClassesInStudy", pa.list_(pa.string())),
    pa.field("NumberOfStudyRelatedSeries", pa.int64()),
    pa.field("NumberOfStudyRelatedInstances", pa.int64()),
    *_DATE_RANGE,
    pa.field("bulk_length", pa.int64()),
    pa.field("definitions_version", pa.string()),
    pa.field("definitions_sha256", pa.string()),
    pa.field("document_sha256", pa.string()),
    pa.field("document_size", pa.int64()),
]
_SERIES_FIELDS = [
    *_uids(_STUDY, _SERIES),
    pa.field("NumberOfSeriesRelatedInstances", pa.int64()),
    *_DATE_RANGE,
]
_FRAME_FIELDS = [
    *_uids(_STUDY, _SERIES, "key"),
    pa.field("FrameNumber", pa.int64()),
    pa.field("fragment_offsets", pa.list_(pa.int64())),
    pa.field("fragment_lengths", pa.list_(pa.int64())),
]
_GROUP_FIELDS = [*_uids(_STUDY, "digest"), pa.field("instances", pa.int64())]


def _instance_fields(groups: Iterable[str]) -> list[pa.Field[Any]]:
    return [
        *_uids(_STUDY, _SERIES, "key"),
        *_uids(*groups),
        *(pa.field(f"source_{name}", kind) for name, kind in _SOURCE_FIELDS.items()),
    ]


class _Group(NamedTuple):
    """A group of a study, with what is needed to make its row."""

    name: str
    content: Mapping[str, Any]
    creators: Mapping[str, str]
    places: Mapping[str, Mapping[str, Any]]


class _Summary:
    """What is counted of a study or series: its instances, and those of each group."""

    __slots__ = ("digests", "instances")

    def __init__(self) -> None:
        self.digests: Counter[str] = Counter()
        self.instances = 0

    def attributes(self, groups: Mapping[str, _Group], wanted: Iterable[str]) -> dict[str, Any]:
        """Those of the groups that most instances refer to."""
        found: dict[str, Any] = {}
        keys = frozenset(wanted)
        for digest, _ in sorted(self.digests.items(), key=lambda item: (-item[1], item[0])):
            content = groups[digest].content
            for key in keys & content.keys():
                if content[key] is not None:
                    found.setdefault(key, content[key])
        return found

    def values(self, groups: Mapping[str, _Group], key: str) -> list[str]:
        """All texts of an attribute, sorted."""
        contents = (groups[digest].content for digest in self.digests)
        values = {content[key] for content in contents if key in content}
        return sorted(value for value in values if type(value) is str and value)


class StudyRows(NamedTuple):
    """The rows of one study: of `studies`, of `instances`, and of groups by table."""

    study: Row
    instances: Iterable[Row]
    groups: Mapping[str, Iterable[Row]]


class Star:
    """Makes rows of studies, and studies of rows.

    Args:
        definitions: those of the format.
        columns: knows the columns of all tables, and is taught those that are new.
    """

    def __init__(self, definitions: Definitions, columns: Columns) -> None:
        self.definitions = definitions
        self.columns = columns
        self._order = {name: at for at, name in enumerate(definitions.groups)}
        self._groups = columns.digests

    def tabulate(self, study: Study, emit: Emit, document: Mapping[str, Any]) -> int:
        """Emit the rows of a study, each table's in their order; returns its instances.

        Mirror of `batch`. `document` has further columns of the row in `studies`.

        Raises:
            DicomStudyError: the study is damaged.
        """
        names = self.columns.table(INSTANCES, _instance_fields(()))
        groups: dict[str, _Group] = {}
        whole, series = _Summary(), dict[str, _Summary]()
        for instance in _instances(study):
            row, weight = self._instance(study.uid, instance, groups)
            names.update(row.keys() & self.columns.level.columns.keys())
            emit(INSTANCES, row, weight)
            digests = [digest for digest, _, _ in instance.groups]
            for summary in (whole, series.setdefault(instance.series, _Summary())):
                summary.digests.update(digests)
                summary.instances += 1
            self._frames(study.uid, instance, row, emit)
        for digest, group in sorted(groups.items()):
            self._emit(group.name, self._group(study.uid, digest, group, whole), emit)
        for uid, summary in sorted(series.items()):
            self._series(study.uid, uid, summary, groups, emit)
        self._study(study, whole, len(series), groups, document, emit)
        return whole.instances

    def _instance(
        self, study: str, instance: Instance, groups: dict[str, _Group]
    ) -> tuple[Row, int]:
        own = instance.own
        creators = creators_of(own)
        refers: Row = {}
        fresh = []
        for digest, name, content in instance.groups:
            if name in refers:
                raise TableError(
                    "tables/ambiguous", f"the instance {instance.key} has two groups {name}"
                )
            refers[name] = digest
            if digest not in groups:
                fresh.append((digest, name, content))
            creators |= creators_of(content) if name == "private" else {}
        for digest, name, content in fresh:
            groups[digest] = _Group(name, content, creators, instance.places)
        self._groups.update(refers)
        row, weight = encode(
            own, self.columns.level, creators=creators, places=instance.places
        )
        row |= refers
        row[_STUDY], row[_SERIES], row["key"] = study, instance.series, instance.key
        for name, value in instance.source_fields.items():
            if name in _SOURCE_FIELDS:
                row[f"source_{name}"] = value
        return row, weight + len(refers) + 8

    def _group(self, study: str, digest: str, group: _Group, whole: _Summary) -> tuple[Row, int]:
        content, absent = group.content, []
        if group.name == _STUDY_GROUP:
            if content.get(_STUDY) == study:
                content = {key: value for key, value in content.items() if key != _STUDY}
            elif _STUDY not in content:
                absent = ["-" + _STUDY]
        row, weight = encode(
            content, self.columns.level, creators=group.creators, places=group.places
        )
        if absent:
            row["empty"] = [*row.get("empty", ()), *absent]
        row |= {_STUDY: study, "digest": digest, "instances": whole.digests[digest]}
        return row, weight

    def _emit(
        self,
        table: str,
        row_and_weight: tuple[Row, int],
        emit: Emit,
        fixed: list[pa.Field[Any]] = _GROUP_FIELDS,
    ) -> None:
        row, weight = row_and_weight
        names = self.columns.table(table, fixed)
        names.update(row.keys() & self.columns.level.columns.keys() - {_STUDY, _SERIES})
        emit(table, row, weight)

    def _encoded(self, attributes: Mapping[str, Any]) -> Row:
        row, _ = encode(attributes, self.columns.level, creators={}, places={})
        return row

    def _dates(self, found: list[str]) -> Row:
        cells = self._encoded({"StudyDate": date}).get("StudyDate") for date in found
        return {}
