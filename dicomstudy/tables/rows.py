"""Structs of attributes ↔ rows of cells (spec/tables.md).

The law: ``decode(encode(struct)) == struct`` but for the order of fields. A row is a mapping of
column names to Python values that `pyarrow.array` takes; what is absent is null.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from struct import error as struct_error
from typing import Any, TypeVar

from dicomstudy import ion
from dicomstudy.definitions import Definitions
from dicomstudy.errors import DefinitionsError, IonError, TableError
from dicomstudy.grouping import rank
from dicomstudy.tables.cells import INT64
from dicomstudy.tables.columns import AttributeColumns, Column, ColumnForm, Level, VRContext

__all__ = ["NO_CONTEXT", "PLACE_COLUMNS", "Row", "decode", "encode", "fits", "reference_of"]

Row = dict[str, Any]
_Entry = TypeVar("_Entry")

#: That of attributes none of which depends on one.
NO_CONTEXT = VRContext({}, {}, others=False)

#: Fields of the place of a large value, with their names in tables.
PLACE_COLUMNS = {
    "dataOffset": "data_offset",
    "offset": "offset",
    "stored": "stored",
    "chunk": "chunk",
    "word": "word",
    "uri": "uri",
    "size": "size",
    "source": "source",
    "modified": "modified",
}
#: The same of a reference with its place.
_LARGE_COLUMNS = {"length": "length", "sha256": "sha256", "fragments": "fragments"} | PLACE_COLUMNS
_TEXTS = frozenset(("sha256", "uri", "source", "record"))
_LISTS = frozenset(("fragments", "stored"))
_ITEM = re.compile(r"([^.\[]+)\[(\d+)\]\.")
#: What is raised where cells are not what goes into a value.
_CONTRADICTING = (
    *(AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError),
    *(IonError, struct_error),
)
#: A value of so many characters or bytes weighs as a cell more.
_LONG = 64


class _Encoding:
    """One row in the making."""

    __slots__ = ("empty", "exact", "large", "weight")

    def __init__(self) -> None:
        self.large: list[Row] = []
        self.empty: list[str] = []
        self.exact: list[tuple[str, Any]] = []
        self.weight = 0

    def add(
        self, attributes: Mapping[str, Any], level: Level, row: Row, context: VRContext, path: str
    ) -> None:
        """Put attributes into the cells of a row, or of a struct in one."""
        self.weight += len(attributes)
        for key, value in attributes.items():
            attribute = level.attribute(key, context, path)
            kind = type(value)
            if value is None:
                self.empty.append(path + key)
                if attribute is not None:
                    row |= attribute.no_value
            elif attribute is None:
                self.exact.append((path + key, value))
            elif kind is list:
                self._add_items(attribute, value, level, row, context, path + key)
            elif kind is dict:
                entry = _large(path + key, value)
                if entry is None:
                    self.exact.append((path + key, value))
                else:
                    self.large.append(entry)
                row |= attribute.no_value
            else:
                if (kind is bytes or kind is str) and len(value) > _LONG:
                    self.weight += len(value) // _LONG
                cells, exact = attribute.cells_of(value)
                row |= cells
                if not exact:
                    self.exact.append((path + key, value))

    def _add_items(
        self,
        attribute: AttributeColumns,
        items: list[Any],
        level: Level,
        row: Row,
        context: VRContext,
        path: str,
    ) -> None:
        if level.has_columns_inside and _are_items(items):
            column = attribute.column(
                ColumnForm.TYPED if attribute.is_sequence else ColumnForm.ITEMS
            )
            rows = self._items(items, column.level, context, path)
            if rows is not None:
                row[column.name] = rows
                return
        self.exact.append((path, items))

    def _items(
        self, items: list[Any], level: Level | None, context: VRContext, path: str
    ) -> list[Row] | None:
        """The structs of items; None, and nothing kept, if no cell is in any of them."""
        if level is None:
            return None
        large, empty, exact = len(self.large), len(self.empty), len(self.exact)
        rows: list[Row] = []
        for place, item in enumerate(items):
            row: Row = {}
            self.add(item, level, row, context.inside(item), f"{path}[{place}].")
            rows.append(row)
        if any(cell is not None for row in rows for cell in row.values()):
            return rows
        del self.large[large:], self.empty[empty:], self.exact[exact:]
        return None


def _by_path(entries: Iterable[_Entry], path_of: Callable[[_Entry], str]) -> Iterator[_Entry]:
    """Entries as they come, which is by attribute, and those inside of one attribute by path.

    Equal groups may have the fields of their items in different orders.
    """
    for _, inside in groupby(entries, key=lambda entry: path_of(entry).partition("[")[0]):
        yield from sorted(inside, key=path_of)


def _by_name(value: Any) -> Any:
    """A value with the fields of items in the order of their names."""
    if not _are_items(value):
        return value
    return [{name: _by_name(field) for name, field in sorted(item.items())} for item in value]


def _large(path: str, reference: Mapping[str, Any]) -> Row | None:
    """The entry of a large value, if a struct is the reference of one."""
    if "length" not in reference:
        return None
    entry: Row = {"path": path}
    for name, value in reference.items():
        if name not in _LARGE_COLUMNS or not fits(name, value):
            return None
        entry[_LARGE_COLUMNS[name]] = value
    return entry


def fits(name: str, value: object) -> bool:
    """Whether a column can have the value of a field of a reference, place or source."""
    if name == "proved":
        return type(value) is bool
    if name in _TEXTS:
        return type(value) is str
    if name in _LISTS:
        return type(value) is list and all(type(n) is int and n in INT64 for n in value)
    return type(value) is int and value in INT64


def encode(
    attributes: Mapping[str, Any], level: Level, context: VRContext = NO_CONTEXT, path: str = ""
) -> tuple[Row, int]:
    """The row of a struct of attributes, and about how many cells it has, those in items too.

    Mirror of `decode`.

    Args:
        attributes: values of a document by key.
        level: knows the columns, and is taught those that are new.
        context: of the attributes that the dictionary gives no VR.
        path: of the item that they are in, with a dot behind it.
    """
    row: Row = {}
    encoding = _Encoding()
    encoding.add(attributes, level, row, context, path)
    if encoding.large:
        row["large"] = [*_by_path(encoding.large, itemgetter("path"))]
    if encoding.empty:
        row["empty"] = [*_by_path(encoding.empty, str)]
    if encoding.exact:
        exact = _by_path(encoding.exact, itemgetter(0))
        row["exact"] = ion.dumps({path: _by_name(value) for path, value in exact})
    return row, encoding.weight


def decode(
    row: Mapping[str, Any],
    columns: Mapping[str, Column],
    definitions: Definitions,
    *,
    source: str | None = None,
) -> dict[str, Any]:
    """The attributes of a row, in the order of documents. Mirror of `encode`.

    Args:
        row: cells by the names of their columns.
        columns: those of attributes.
        definitions: those of the format.
        source: the file and the number of the row.

    Raises:
        TableError: what is no typed value cannot be put where it belongs (``tables/damaged``).
    """
    try:
        attributes = _decode(row, columns)
        for path in row.get("empty") or ():
            _put(attributes, path, None)
        for entry in row.get("large") or ():
            _put(attributes, entry["path"], reference_of(entry, _LARGE_COLUMNS))
        exact = row.get("exact")
        if exact is not None:
            for path, value in ion.loads(exact).items():
                _put(attributes, path, value)
    except _CONTRADICTING as error:
        raise TableError(
            "tables/damaged", f"the values of a row contradict: {error!r}", source=source
        ) from error
    return _sorted(attributes, definitions)


def reference_of(entry: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """The fields of a document that stand in columns, those that are there."""
    found = {name: entry.get(column) for name, column in columns.items()}
    return {name: value for name, value in found.items() if value is not None}


def _decode(row: Mapping[str, Any], columns: Mapping[str, Column]) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    texts: dict[str, Any] = {}
    for name, cell in row.items():
        column = columns.get(name)
        if column is None or cell is None:
            continue
        if column.level is not None:
            inner = column.level.columns
            attributes[column.key] = [_decode(item, inner) for item in cell]
        elif column.form is ColumnForm.TEXT:
            texts[column.key] = column.cells.of_text(cell)
        elif column.form is ColumnForm.TYPED:
            value = column.cells.value(cell, row.get(f"{name}_{ColumnForm.OFFSET}"))
            attributes[column.key] = column.cells.of_text(value) if type(value) is str else value
    return attributes | texts


def _put(attributes: dict[str, Any], path: str, value: Any) -> None:
    struct = attributes
    at = 0
    if path[:1] != "_":
        while step := _ITEM.match(path, at):
            struct = struct[step[1]][int(step[2])]
            at = step.end()
    struct[path[at:]] = value


def _sorted(attributes: dict[str, Any], definitions: Definitions) -> dict[str, Any]:
    """Attributes in the order of documents; those of items by tag, as in nearly all files."""
    return {
        key: [_by_tag(item, definitions) for item in value] if _are_items(value) else value
        for key, value in sorted(attributes.items(), key=lambda item: rank(item[0], definitions))
    }


def _by_tag(item: dict[str, Any], definitions: Definitions) -> dict[str, Any]:
    return {
        key: [_by_tag(inner, definitions) for inner in value] if _are_items(value) else value
        for key, value in sorted(item.items(), key=lambda field: _tag(field[0], definitions))
    }


@lru_cache(maxsize=1 << 15)
def _tag(key: str, definitions: Definitions) -> int:
    """The tag of a key; what is no attribute comes last."""
    try:
        return definitions.tag(key)
    except DefinitionsError:
        return 1 << 32


def _are_items(value: object) -> bool:
    return type(value) is list and all(type(item) is dict for item in value)
