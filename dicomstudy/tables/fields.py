"""What tables there are, and the columns that they always have (spec/tables.md)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from dicomstudy.definitions import Definitions
from dicomstudy.elements import format_tag
from dicomstudy.errors import DefinitionsError, TableError
from dicomstudy.tables.columns import LEFTOVERS, PLACE, REFERS, ColumnForm, Columns
from dicomstudy.tables.rows import NO_CONTEXT

__all__ = [
    "BULK",
    "COUNT",
    "DIGEST",
    "FRAMES",
    "INSTANCES",
    "INSTANCE_UID",
    "OF_SERIES",
    "OF_STUDY",
    "PART_TABLES",
    "SERIES",
    "SERIES_UID",
    "SOURCE_COLUMNS",
    "STUDIES",
    "STUDY_UID",
    "VRS",
    "declare",
    "digest_columns",
    "needed",
]

INSTANCES, SERIES, STUDIES, FRAMES, BULK = "instances", "series", "studies", "frames", "bulk"
#: The tables that are no groups: their rows belong to one study.
PART_TABLES = (INSTANCES, SERIES, STUDIES, FRAMES, BULK)
STUDY_UID, SERIES_UID = "StudyInstanceUID", "SeriesInstanceUID"
INSTANCE_UID = "SOPInstanceUID"
#: Columns of groups: their digest, how many instances refer to them, and what the files of these
#: say of VRs.
DIGEST, COUNT, VRS = "digest", "instances", "vrs"

_SOURCE = {
    "uri": pa.string(),
    "size": pa.int64(),
    "sha256": pa.string(),
    "modified": pa.int64(),
    "proved": pa.bool_(),
    "record": pa.string(),
}
#: The columns of `instances` that have the source, by what they have of it.
SOURCE_COLUMNS = {name: f"source_{name}" for name in _SOURCE}
#: What the tables `studies` and `series` have of their first instance.
OF_STUDY = (
    *("StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "StudyID"),
    *("StudyDescription", "PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
)
OF_SERIES = (
    *("Modality", "SeriesNumber", "SeriesDescription", "SeriesDate", "SeriesTime"),
    *("BodyPartExamined", "PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime"),
    *("Manufacturer", "ManufacturerModelName", "StationName", "InstitutionName"),
)


def _texts(*names: str) -> list[pa.Field[Any]]:
    return [pa.field(name, pa.string()) for name in names]


_DATE_RANGE = (pa.field("first_date", pa.date32()), pa.field("last_date", pa.date32()))
_FIELDS: dict[str, list[pa.Field[Any]]] = {
    INSTANCES: [
        *_texts(STUDY_UID, SERIES_UID, "key"),
        *(pa.field(f"source_{name}", kind) for name, kind in _SOURCE.items()),
        *LEFTOVERS,
    ],
    SERIES: [
        *_texts(STUDY_UID, SERIES_UID),
        pa.field("NumberOfSeriesRelatedInstances", pa.int64()),
        *_DATE_RANGE,
    ],
    STUDIES: [
        *_texts(STUDY_UID),
        pa.field("ModalitiesInStudy", pa.list_(pa.string())),
        pa.field("SOPClassesInStudy", pa.list_(pa.string())),
        pa.field("NumberOfStudyRelatedSeries", pa.int64()),
        pa.field("NumberOfStudyRelatedInstances", pa.int64()),
        *_DATE_RANGE,
        pa.field("bulk_length", pa.int64()),
        pa.field("bulk_file", pa.int64()),
        pa.field("document_sha256", pa.string()),
        pa.field("document_size", pa.int64()),
    ],
    FRAMES: [
        *_texts(STUDY_UID, SERIES_UID, INSTANCE_UID, "key"),
        pa.field("FrameNumber", pa.int64()),
        pa.field("fragment_offsets", pa.list_(pa.int64())),
        pa.field("fragment_lengths", pa.list_(pa.int64())),
    ],
    BULK: [*_texts(STUDY_UID, "sha256"), *PLACE],
}
_GROUP_FIELDS = [*_texts(DIGEST), pa.field(COUNT, pa.int64())]


def declare(columns: Columns, groups: Iterable[str]) -> None:
    """Give all tables the columns that they always have.

    Args:
        columns: those of the tables.
        groups: the names of all groups.
    """
    for table, fields in _FIELDS.items():
        columns.declare(table, [_described(field, columns.definitions) for field in fields])
    for table in groups:
        columns.declare(table, _GROUP_FIELDS)
    for table, keys in ((SERIES, OF_SERIES), (STUDIES, OF_STUDY)):
        for key in keys:
            attribute = columns.level.attribute(key, NO_CONTEXT)
            if attribute is not None:
                columns.meet(table, {attribute.column(ColumnForm.TYPED).name: None})


def _described(field: pa.Field[Any], definitions: Definitions) -> pa.Field[Any]:
    """A column of the format with what the standard says of it, if it is an attribute's."""
    try:
        attribute = definitions.attribute(definitions.tag(field.name))
    except DefinitionsError:
        return field
    if attribute is None:
        return field
    return field.with_metadata(
        {"tag": format_tag(attribute.tag), "vr": attribute.vr, "name": attribute.name}
    )


def needed(row: Mapping[str, Any], table: str, column: str, source: str | None = None) -> Any:
    """What a row of a table has in a column that every row has.

    Raises:
        TableError: it has nothing there (``tables/damaged``).
    """
    try:
        return row[column]
    except KeyError:
        message = f"a row of the table {table} has no {column}"
        raise TableError("tables/damaged", message, source=source) from None


def digest_columns(names: Iterable[str]) -> dict[str, str]:
    """The columns of `instances` that refer to groups, each with the name of its group."""
    return {name: name.removesuffix(REFERS) for name in names if name.endswith(REFERS)}
