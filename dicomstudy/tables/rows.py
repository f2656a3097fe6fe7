"""Structs of attributes ↔ rows of cells (spec/tables.md).

The law: ``decode(encode(struct)) == struct`` but for the order of fields. A row is a mapping of
column names to Python values that `pyarrow.array` takes; what is absent is null.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dicomstudy import ion
from dicomstudy.definitions import Definitions
from dicomstudy.errors import IonError, TableError
from dicomstudy.grouping import ordered
from dicomstudy.tables.columns import Column, Form, Level, creators_of

__all__ = ["ABSENT", "Row", "decode", "encode"]

Row = dict[str, Any]

#: Before a path in `empty`: the attribute is not there.
ABSENT = "-"

#: Fields of a reference, and of the place of a large value, with their names in tables.
_BULK_FIELDS = {
    "length": "length",
    "sha256": "sha256",
    "fragments": "fragments",
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
_BULK_TEXTS = frozenset(("sha256", "uri", "source"))
_BULK_LISTS = frozenset(("fragments", "stored"))
#: Those that say what the value is; the others, where it lies.
_IDENTITY = ("length", "sha256", "fragments")
_ITEM = re.compile(r"([^.\[]+)\[(\d+)\]\.")
_INT64 = range(-(1 << 63), 1 << 63)


class _Encoding:
    """One row in the making."""

    __slots__ = ("_places", "bulk", "empty", "exact", "weight")

    def __init__(self, places: Mapping[str, Mapping[str, Any]]) -> None:
        self._places = places
        self.bulk: list[Row] = []
        self.empty: list[str] = []
        self.exact: dict[str, Any] = {}
        self.weight = 0

    def add(
        self,
        attributes: Mapping[str, Any],
        level: Level,
        row: Row,
        creators: Mapping[str, str],
        path: str,
    ) -> None:
        """Put attributes into the cells of a row, or of a struct in one."""
        self.weight += len(attributes)
        for key, value in attributes.items():
            if value is None:
                self.empty.append(path + key)
                continue
            attribute = level.attribute(key, creators.get(key[:6], "") if creators else "")
            kind = type(value)
            if attribute is None:
                self.exact[path + key] = value
            elif kind is list:
                form = Form.TYPED if attribute.is_sequence else Form.ITEMS
                column = attribute.column(form)
                items = self._items(value, column.level, creators, path + key)
                if items is None:
                    self.exact[path + key] = value
                else:
                    row[column.name] = items
            elif kind is dict:
                if not self._refer(path + key, value):
                    self.exact[path + key] = value
            else:
                cell = attribute.cells.cell(value)
                if cell.value is not None:
                    row[attribute.column(Form.TYPED).name] = cell.value
                    if cell.offset is not None:
                        row[attribute.column(Form.OFFSET).name] = cell.offset
                if not cell.exact:
                    if kind is str:
                        row[attribute.column(Form.TEXT).name] = value
                    else:
                        self.exact[path + key] = value

    def _items(
        self, items: list[Any], level: Level | None, creators: Mapping[str, str], path: str
    ) -> list[Row] | None:
        """The structs of items; None, and nothing kept, if no cell is in any of them."""
        if level is None or not all(type(item) is dict for item in items):
            return None
        bulk, empty, exact = len(self.bulk), len(self.empty), dict(self.exact)
        rows: list[Row] = []
        for place, item in enumerate(items):
            row: Row = {}
            self.add(item, level, row, {**creators, **creators_of(item)}, f"{path}[{place}].")
            rows.append(row)
        if any(rows):
            return rows
        del self.bulk[bulk:], self.empty[empty:]
        self.exact = exact
        return None

    def _refer(self, path: str, reference: dict[str, Any]) -> bool:
        """Whether a struct is the reference of a large value, which is kept then."""
        if "length" not in reference or not all(map(_is_bulk, reference, reference.values())):
            return False
        sha256 = reference.get("sha256")
        place = {} if sha256 is None else self._places.get(sha256, {})
        entry = {"path": path}
        for fields in (place, reference):
            entry |= {_BULK_FIELDS[n]: value for n, value in fields.items() if _is_bulk(n, value)}
        self.bulk.append(entry)
        return True


def _is_bulk(name: str, value: object) -> bool:
    """Whether a field of a reference or place is one that the column `bulk` has."""
    if name not in _BULK_FIELDS:
        return False
    if name in _BULK_TEXTS:
        return type(value) is str
    if name in _BULK_LISTS:
        return type(value) is list and all(type(n) is int and n in _INT64 for n in value)
    return type(value) is int and value in _INT64


def encode(
    attributes: Mapping[str, Any],
    level: Level,
    *,
    creators: Mapping[str, str],
    places: Mapping[str, Mapping[str, Any]],
    aside: Mapping[str, Any] | None = None,
) -> tuple[Row, int]:
    """The row of a struct of attributes, and about how many cells it has, those in items too.

    Mirror of `decode`.

    Args:
        attributes: values of a document by key.
        level: knows the columns, and is taught those that are new.
        creators: private creators, by the first six digits of the tags that are theirs.
        places: of large values that do not say themselves where they lie, by SHA-256.
        aside: further fields, for which the table has no column of their name.
    """
    row: Row = {}
    encoding = _Encoding(places)
    encoding.add(attributes, level, row, creators, "")
    for key, value in (aside or {}).items():
        if value is None:
            encoding.empty.append(key)
        else:
            encoding.exact[key] = value
    if encoding.bulk:
        row["bulk"] = encoding.bulk
    if encoding.empty:
        row["empty"] = encoding.empty
    if encoding.exact:
        row["exact"] = ion.dumps(encoding.exact)
    return row, encoding.weight


def decode(
    row: Mapping[str, Any], columns: Mapping[str, Column], definitions: Definitions
) -> tuple[dict[str, Any], dict[str, Row]]:
    """The attributes of a row, and where its large values lie, by path.

    Mirror of `encode`: in the order of documents.

    Raises:
        TableError: what is no typed value cannot be put where it belongs (``tables/damaged``).
    """
    attributes = _decode(row, columns)
    places: dict[str, Row] = {}
    try:
        for path in row.get("empty") or ():
            if path[:1] != ABSENT:
                _put(attributes, path, None)
        for entry in row.get("bulk") or ():
            fields = {
                name: entry[column]
                for name, column in _BULK_FIELDS.items()
                if entry[column] is not None
            }
            reference = {name: fields.pop(name) for name in _IDENTITY if name in fields}
            places[entry["path"]] = fields
            _put(attributes, entry["path"], reference)
        exact = row.get("exact")
        if exact is not None:
            for path, value in ion.loads(exact).items():
                _put(attributes, path, value)
    except (AttributeError, IndexError, KeyError, TypeError, IonError) as error:
        raise TableError(
            "tables/damaged", f"what is no typed value does not fit the row: {error!r}"
        ) from error
    return _sorted(attributes, definitions), places


def _decode(row: Mapping[str, Any], columns: Mapping[str, Column]) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    texts: dict[str, str] = {}
    for name, column in columns.items():
        cell = row.get(name)
        if cell is None:
            continue
        if column.level is not None:
            inner = column.level.columns
            attributes[column.key] = [_decode(item, inner) for item in cell]
        elif column.form is Form.TEXT:
            texts[column.key] = cell
        elif column.form is Form.TYPED:
            attributes[column.key] = column.cells.value(cell, row.get(f"{name}_{Form.OFFSET}"))
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
    """The same in the order of documents, items too."""
    return {
        key: [_sorted(item, definitions) for item in value] if _are_items(value) else value
        for key, value in ordered(attributes.items(), definitions).items()
    }


def _are_items(value: object) -> bool:
    return type(value) is list and all(type(item) is dict for item in value)
