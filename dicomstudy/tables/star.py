"""A study ↔ rows of the star: instances, groups, series, studies, frames, bulk (spec/tables.md).

The law: ``rebuild(tabulate(study))`` has the digest of the study.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple, Protocol

from dicomstudy.bulk import Places
from dicomstudy.clustering import Clustered, ClusteredSeries
from dicomstudy.definitions import Definitions
from dicomstudy.document import (
    NOT_ATTRIBUTES,
    Document,
    add_places,
    digest_of,
    groups_of,
    place_fields,
    source_of,
    uid_of,
)
from dicomstudy.elements import is_private
from dicomstudy.errors import DicomStudyError, StudyError, TableError
from dicomstudy.grouping import ENCODING, Entry, Group, Row
from dicomstudy.record import INSTANCE, is_reference
from dicomstudy.study import Instance, Study
from dicomstudy.tables.cells import CellKind, Cells
from dicomstudy.tables.columns import (
    LEFTOVERS,
    REFERS,
    Column,
    Columns,
    VRContext,
    creators_of,
)
from dicomstudy.tables.fields import (
    BULK,
    DIGEST,
    FRAMES,
    INSTANCE_UID,
    INSTANCES,
    OF_SERIES,
    OF_STUDY,
    SERIES,
    SERIES_UID,
    SOURCE_COLUMNS,
    STUDIES,
    STUDY_UID,
    VRS,
    digest_columns,
    needed,
)
from dicomstudy.tables.rows import PLACE_COLUMNS, decode, encode, fits, reference_of
from dicomstudy.tables.vrs import FileVRs, by_path, merged, of_file, of_group

__all__ = ["Known", "StudyRows", "TableRow", "Tabulator", "rebuild"]

_DATES = ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate")
_SUMMARISED = frozenset((*OF_SERIES, *OF_STUDY))
_FRAME_COUNT = "NumberOfFrames"
#: The items of encapsulated pixel data of one fragment: its offset table, and the fragment.
_ONE_FRAGMENT = 2
_FUNCTIONAL_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
#: VRs in files that are remembered, of the last few ways to write one.
_MOST_VRS = 1 << 18


class _Summary:
    """What is counted of a study or series: its instances, those of each group, its dates.

    `own`: and, of attributes that it has columns for, those with each text of their own.
    """

    __slots__ = ("dates", "digests", "instances", "own")

    def __init__(self) -> None:
        self.digests: Counter[str] = Counter()
        self.instances = 0
        self.dates: set[str] = set()
        self.own: dict[str, Counter[str]] = {}

    def include(self, other: _Summary) -> None:
        """Count what another one has, too."""
        self.digests.update(other.digests)
        self.instances += other.instances
        self.dates |= other.dates
        for key, texts in other.own.items():
            self.own.setdefault(key, Counter()).update(texts)


class _Content:
    """The groups of a study by digest, with their names, and where its large values lie."""

    __slots__ = ("_document", "creators", "groups", "met", "places", "vrs")

    def __init__(self, document: Document) -> None:
        self._document = document
        self.groups: dict[str, Group] = {}
        self.places: Places = {}
        self.creators: dict[str, dict[str, str]] = {}
        #: Which groups were met together with each way to write files, and what these say.
        self.met: dict[str, set[str]] = {}
        self.vrs: dict[str, str] = {}
        for frame in document.shared():
            self._collect(frame)

    def chunks(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Every chunk with its number, its groups being known then."""
        for number in range(len(self._document.chunks)):
            frame = self._document.chunk(number)
            self._collect(frame)
            yield number, frame

    def _collect(self, frame: Mapping[str, Any]) -> None:
        self.groups |= groups_of(frame)
        add_places(self.places, frame.get("bulk", {}))

    def damaged(self, why: str) -> StudyError:
        """The error that the document cannot be so."""
        return StudyError("study/damaged", why, source=str(self._document.path))

    def refer(self, digests: Iterable[str], row: dict[str, Any]) -> None:
        """Put digests into the columns of a row."""
        for digest in digests:
            found = self.groups.get(digest)
            if found is None:
                raise self._document.missing_group(digest)
            column = found[0] + REFERS
            if row.setdefault(column, digest) != digest:
                raise TableError(
                    "tables/ambiguous",
                    f"an instance has two groups {found[0]}",
                    source=str(self._document.path),
                )

    def attributes(
        self, summary: _Summary, wanted: Iterable[str]
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """Those of the group of each name that most instances refer to, and their VRs in files.

        So those of a patient are never those of two. Of attributes that no group has, those of most
        instances.
        """
        found: dict[str, Any] = {}
        vrs: dict[str, str] = {}
        keys = frozenset(wanted)
        names: set[str] = set()
        for digest, _ in sorted(summary.digests.items(), key=lambda item: (-item[1], item[0])):
            name, content = self.groups[digest]
            new = keys & content.keys() - found.keys()
            if name in names:
                found.update(dict.fromkeys(new))
                continue
            names.add(name)
            said = by_path(self.vrs[digest])
            found.update({key: content[key] for key in new})
            vrs.update({key: said[key] for key in new & said.keys()})
        for key in keys & summary.own.keys() - found.keys():
            found[key] = min(summary.own[key].items(), key=lambda item: (-item[1], item[0]))[0]
        return found, vrs

    def texts(self, summary: _Summary, key: str) -> list[str]:
        """Those texts of an attribute that are not large, sorted."""
        values = self._values(summary, key)
        return sorted({value for value in values if type(value) is str and value})

    def all_texts(self, summary: _Summary, key: str) -> list[str] | None:
        """All texts of an attribute, sorted; None if one is large, and so not known."""
        is_known = not any(isinstance(value, Mapping) for value in self._values(summary, key))
        return self.texts(summary, key) if is_known else None

    def _values(self, summary: _Summary, key: str) -> Iterator[Any]:
        contents = (self.groups[digest][1] for digest in summary.digests)
        return (content[key] for content in contents if key in content)


class Known(NamedTuple):
    """The VRs of a group that is known, as `tables.vrs` has them.

    `said` by the files of instances that stay or have come, None if there are none yet; and those
    that the last row of the group was made by.
    """

    said: str | None
    row: str


class KnownGroups(Protocol):
    """The groups that have a row already."""

    def known(self, digest: str) -> Known | None:
        """The VRs of one of them; None if it is none."""


class TableRow(NamedTuple):
    """A row of a table, and about how many cells it has."""

    table: str
    values: dict[str, Any]
    cells: int


class Added(NamedTuple):
    """What `Tabulator.add` made of a study, and found in it.

    Attributes:
        rows: those of each table in their order.
        instances: how many instances refer to each group, by digest.
        vrs: of each of these groups.
        again: those that had a row, which a new one replaces.
    """

    rows: list[TableRow]
    instances: Counter[str]
    vrs: dict[str, Known]
    again: list[str]


class Tabulator:
    """Makes rows of studies. Mirror of `rebuild`.

    Args:
        columns: knows the columns of all tables, and is taught those that are new.
        groups: those that have a row already.
    """

    def __init__(self, columns: Columns, groups: KnownGroups) -> None:
        self._columns = columns
        self._groups = groups
        self._definitions = columns.definitions
        self._vrs: dict[str, FileVRs] = {}
        self._remembered = 0
        self._dates = Cells(CellKind.DATE, many=False)
        self._counts = Cells(CellKind.INTEGER, many=False)
        self._frame_group = self._definitions.group(_FRAME_COUNT) + REFERS

    def add(self, study: Study, *, sha256: str, size: int) -> Added:
        """The rows of a study, and what was found in it.

        Args:
            study: the study.
            sha256: that of its document.
            size: bytes of its document.

        Raises:
            DicomStudyError: the study is damaged.
        """
        content = _Content(study.document)
        rows: list[TableRow] = []
        every: dict[str, _Summary] = {}
        for number, frame in content.chunks():
            summary = every.setdefault(frame["seriesInstanceUID"], _Summary())
            rows += self._chunk_rows(study, number, frame, content, summary)
        whole = _Summary()
        for uid, summary in sorted(every.items()):
            whole.include(summary)
            row = self._summary(content, summary, OF_SERIES)
            row |= {STUDY_UID: study.uid, SERIES_UID: uid}
            row["NumberOfSeriesRelatedInstances"] = summary.instances
            rows.append(TableRow(SERIES, row, len(row)))
        rows += self._study_rows(study, content, whole, len(every), sha256, size)
        added = Added(rows, whole.digests, {}, [])
        for digest, here in content.vrs.items():
            known = self._groups.known(digest)
            before = None if known is None else known.said
            said = here if before is None else merged(before, here)
            if known is None or known.row != said:  # it was typed by what files said before
                name, attributes = content.groups[digest]
                added.rows.append(self.group_row(name, digest, attributes, said))
                if known is not None:
                    added.again.append(digest)
            added.vrs[digest] = Known(said, said)
        return added

    def _chunk_rows(
        self,
        study: Study,
        number: int,
        frame: Mapping[str, Any],
        content: _Content,
        summary: _Summary,
    ) -> Iterator[TableRow]:
        """The rows of the instances of one chunk, and of their frames.

        What they say goes into the `summary` of their series, and their groups' VRs into the
        `content` of the study.
        """
        common: dict[str, Any] = {STUDY_UID: study.uid, SERIES_UID: frame["seriesInstanceUID"]}
        content.refer(frame["_groups"], common)
        instances = frame["instances"]
        shared = frozenset(frame["_groups"])
        summary.instances += len(instances)
        summary.digests.update(dict.fromkeys(shared, len(instances)))
        for key, struct in instances.items():
            row = dict(common)
            digests = struct.get("_groups", ())
            content.refer(digests, row)
            summary.digests.update(frozenset(digests) - shared)
            own = {name: value for name, value in struct.items() if name not in NOT_ATTRIBUTES}
            summary.dates.update(own[name] for name in _DATES if type(own.get(name)) is str)
            if STUDY_UID in own or SERIES_UID in own:
                raise content.damaged(f"the instance {key} has a study or series of its own")
            encoding = row.get(ENCODING + REFERS, "")
            vrs = self._vrs_of(encoding, content)
            context = self._context(row, own, content, vrs)
            for name in _SUMMARISED & own.keys():
                if type(own[name]) is str and name not in vrs.by_path:
                    summary.own.setdefault(name, Counter())[own[name]] += 1
            met = content.met.setdefault(encoding, set())
            for digest in (*frame["_groups"], *digests):
                if digest not in met:
                    met.add(digest)
                    said = of_group(content.groups[digest][1], vrs)
                    content.vrs[digest] = merged(content.vrs.get(digest, said), said)
            cells, weight = encode(own, self._columns.level, context)
            row |= cells
            if own.get(INSTANCE_UID) != key:
                row["key"] = key
            row |= _columns_of(struct.get("_source", {}), SOURCE_COLUMNS, content)
            yield TableRow(INSTANCES, row, weight + len(row))
            if _FUNCTIONAL_GROUPS[1] in own or self._frames_of(row, own, content) != 1:
                yield from self._frame_rows(Instance(study, number, key), row, context)

    def _vrs_of(self, encoding: str, content: _Content) -> FileVRs:
        """The VRs in files that were written so; `encoding` is the digest of that, or empty."""
        vrs = self._vrs.get(encoding)
        if vrs is None:
            attributes = content.groups[encoding][1] if encoding else {}
            vrs = of_file(attributes, self._definitions)
            self._remembered += len(vrs.by_path) + 1
            if self._remembered > _MOST_VRS:
                self._vrs.clear()
                self._remembered = len(vrs.by_path) + 1
            self._vrs[encoding] = vrs
        return vrs

    def _context(
        self, row: Mapping[str, Any], own: Mapping[str, Any], content: _Content, vrs: FileVRs
    ) -> VRContext:
        private = row.get("private" + REFERS, "")
        creators = content.creators.get(private)
        if creators is None:
            attributes = content.groups[private][1] if private else {}
            creators = content.creators[private] = creators_of(attributes)
        return VRContext(creators, vrs.by_path, vrs.others).beside(own)

    def _frames_of(
        self, row: Mapping[str, Any], own: Mapping[str, Any], content: _Content
    ) -> int | None:
        """Number of Frames; None if it is no number, or absent where an offset table may say it."""
        group = row.get(self._frame_group)
        attributes = own if group is None or _FRAME_COUNT in own else content.groups[group][1]
        value = attributes.get(_FRAME_COUNT)
        if value is not None:
            number: int | None = self._counts.cell(value).value
            return number
        pixels = own.get("PixelData")
        has_one = isinstance(pixels, Mapping) and len(pixels.get("fragments", ())) <= _ONE_FRAGMENT
        return 1 if has_one or pixels is None else None

    def group_row(
        self, name: str, digest: str, attributes: Mapping[str, Any], said: str
    ) -> TableRow:
        """The row of a group, of whose VRs files say this."""
        # instances may share a group and have different creators outside of it
        context = VRContext(creators_of(attributes), by_path(said))
        row, weight = encode(attributes, self._columns.level, context)
        row[DIGEST] = digest
        if said:
            row[VRS] = said
        return TableRow(name, row, weight)

    def _summary(self, content: _Content, summary: _Summary, keys: Iterable[str]) -> dict[str, Any]:
        """The attributes of a series or study, and its first and last date."""
        found, vrs = content.attributes(summary, keys)
        row = self._typed(found, VRContext({}, vrs))
        texts = summary.dates.union(*(content.texts(summary, key) for key in _DATES))
        days = [cell.value for cell in map(self._dates.cell, texts) if cell.value is not None]
        if days:
            row |= {"first_date": min(days), "last_date": max(days)}
        return row

    def _typed(
        self, attributes: Mapping[str, Any], context: VRContext, path: str = ""
    ) -> dict[str, Any]:
        """The cells of attributes without what is no typed value."""
        row, _ = encode(attributes, self._columns.level, context, path)
        for field in LEFTOVERS:
            row.pop(field.name, None)
        return row

    def _study_rows(
        self, study: Study, content: _Content, whole: _Summary, series: int, sha256: str, size: int
    ) -> Iterator[TableRow]:
        row = self._summary(content, whole, OF_STUDY)
        row |= {
            STUDY_UID: study.uid,
            "ModalitiesInStudy": content.all_texts(whole, "Modality"),
            "SOPClassesInStudy": content.all_texts(whole, "SOPClassUID"),
            "NumberOfStudyRelatedSeries": series,
            "NumberOfStudyRelatedInstances": whole.instances,
            "bulk_length": study.document.bulk.length,
            "bulk_file": study.document.bulk.number,
            "document_sha256": sha256,
            "document_size": size,
        }
        yield TableRow(STUDIES, row, len(row))
        for digest, place in sorted(content.places.items()):
            row = {STUDY_UID: study.uid, "sha256": digest}
            row |= _columns_of(place, PLACE_COLUMNS, content)
            yield TableRow(BULK, row, len(row))

    def _frame_rows(
        self, instance: Instance, row: Mapping[str, Any], context: VRContext
    ) -> Iterator[TableRow]:
        attributes = instance.attributes()
        shared, each = (_items(attributes, key) for key in _FUNCTIONAL_GROUPS)
        try:
            spans = [frame.spans for frame in instance.frame_spans]
        except DicomStudyError:
            spans = []
        if len(spans) <= 1 and not each:
            return
        names = (STUDY_UID, SERIES_UID, INSTANCE_UID, "key")
        fixed = {name: row[name] for name in names if name in row}
        for at in range(max(len(spans), len(each))):
            items = [
                *((f"{_FUNCTIONAL_GROUPS[0]}[0].", item) for item in shared[:1]),
                *((f"{_FUNCTIONAL_GROUPS[1]}[{at}].", item) for item in each[at : at + 1]),
            ]
            cells = self._flat(items, context)
            weight = len(cells)
            cells |= {**fixed, "FrameNumber": at + 1}
            if at < len(spans):
                cells["fragment_offsets"] = [span.offset for span in spans[at]]
                cells["fragment_lengths"] = [span.length for span in spans[at]]
            yield TableRow(FRAMES, cells, weight + 4)

    def _flat(
        self, items: Iterable[tuple[str, Mapping[str, Any]]], context: VRContext
    ) -> dict[str, Any]:
        """The cells of the first items of functional groups; later ones take precedence."""
        groups: list[tuple[tuple[bool, int, int], str, dict[str, Any], VRContext]] = []
        for at, (path, item) in enumerate(items):
            here = context.inside(item)
            for key, value in item.items():
                for inner in value[:1] if type(value) is list else ():
                    place = self._precedence(key, at)
                    groups.append((place, f"{path}{key}[0].", inner, here.inside(inner)))
        groups.sort(key=itemgetter(0))
        last: dict[tuple[str, str], int] = {}
        for at, (_, _, inner, own) in enumerate(groups):
            last.update(((own.creator(name), name), at) for name in inner)
        cells: dict[str, Any] = {}
        for at, (_, path, inner, own) in enumerate(groups):
            kept = {
                name: value for name, value in inner.items() if last[own.creator(name), name] == at
            }
            cells |= self._typed(kept, own, path)
        return cells

    def _precedence(self, key: str, at: int) -> tuple[bool, int, int]:
        """Where a functional group of an item stands: private ones give way to all others."""
        try:
            tag = self._definitions.tag(key)
        except DicomStudyError:
            return False, at, 0
        return not is_private(tag), at, tag


def _columns_of(
    fields: Mapping[str, Any], columns: Mapping[str, str], content: _Content
) -> dict[str, Any]:
    """Fields of a document that have columns."""
    for name, value in fields.items():
        if name in columns and not fits(name, value):
            raise content.damaged(f"{name} of a source or place is {value!r}")
    return {columns[name]: value for name, value in fields.items() if name in columns}


def _items(attributes: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    value = attributes.get(key)
    return value if type(value) is list else []


class StudyRows(NamedTuple):
    """The rows of a study: of `studies`, `instances` and `bulk`.

    Those of `instances` come with the file and the number of the row that each is.
    """

    study: Mapping[str, Any]
    instances: Sequence[tuple[str, int, Mapping[str, Any]]]
    bulk: Iterable[Mapping[str, Any]]


def rebuild(
    rows: StudyRows,
    groups: Mapping[str, Group],
    columns: Mapping[str, Column],
    definitions: Definitions,
) -> Clustered:
    """What the document of a study is encoded from. Mirror of `Tabulator.add`.

    Args:
        rows: those of the study.
        groups: name and content of its groups by digest.
        columns: those of attributes in `instances`.
        definitions: those of the format.

    Raises:
        TableError: a group is missing (``tables/missing-group``), or a row is damaged.
    """
    places = {needed(row, BULK, "sha256"): reference_of(row, PLACE_COLUMNS) for row in rows.bulk}
    content = Clustered({}, [], [])
    by_series: dict[str, list[tuple[frozenset[str], Entry]]] = {}
    for path, number, row in rows.instances:
        where = f"{path}, row {number}"
        digests = _digests(row, groups, where)
        content.contents.update((digest, groups[digest]) for digest in digests)
        own = decode(row, columns, definitions, source=where)
        numbers = range(len(content.rows), len(content.rows) + len(own))
        content.rows += [Row(INSTANCE, key, value) for key, value in own.items()]
        instance = {"_source": reference_of(row, SOURCE_COLUMNS)}
        entry = Entry(
            uid_of(row.get("key") or own.get(INSTANCE_UID, ""), own),
            needed(row, INSTANCES, SERIES_UID, where),
            digest_of(instance),
            source_of(instance),
            (),
            0,
            tuple(numbers),
            places if not by_series else _places_of(own, places),
        )
        by_series.setdefault(entry.series, []).append((digests, entry))
    order = {name: at for at, name in enumerate(definitions.groups)}

    def in_order(digests: Iterable[str]) -> tuple[str, ...]:
        return tuple(sorted(digests, key=lambda digest: (order[groups[digest][0]], digest)))

    for uid, entries in sorted(by_series.items()):
        common = frozenset.intersection(*(digests for digests, _ in entries))
        kept = [entry._replace(groups=in_order(mine - common)) for mine, entry in entries]
        kept.sort(key=lambda entry: (entry.instance, entry.digest))
        content.series.append(ClusteredSeries(uid, in_order(common), kept))
    return content


def _places_of(own: Mapping[str, Any], places: Mapping[str, Any]) -> Places:
    """Where the large values of attributes lie that do not say so themselves, by SHA-256."""
    unplaced = [
        value["sha256"]
        for value in own.values()
        if is_reference(value) and "sha256" in value and not place_fields(value)
    ]
    return {sha256: places[sha256] for sha256 in unplaced if sha256 in places}


def _digests(row: Mapping[str, Any], groups: Mapping[str, Any], where: str) -> frozenset[str]:
    """The digests that a row of `instances` refers to."""
    refers = {name: row[name] for name in digest_columns(row)}
    for column, digest in refers.items():
        if digest not in groups:
            raise TableError(
                "tables/missing-group",
                f"an instance of study {row[STUDY_UID]} refers to the group {digest}, which the "
                f"table {column.removesuffix(REFERS)} does not have",
                source=where,
            )
    return frozenset(refers.values())
