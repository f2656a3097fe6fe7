"""Attributes ↔ typed columns, and the Arrow schema of tables (spec/tables.md).

The type of a column depends on its attribute alone, but for the fields inside sequences:
those grow with what is found in the data, and are the same in all tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple

import pyarrow as pa

from dicomstudy.definitions import Definitions
from dicomstudy.elements import (
    NUMBER_FORMATS,
    TEXT_VRS,
    format_tag,
    is_creator,
    is_delimiter,
    is_private,
    private_tag,
)
from dicomstudy.errors import DefinitionsError, TableError
from dicomstudy.tables.cells import NAME_GROUPS, NAME_PARTS, NOTHING, CellKind, Cells, kind_of

__all__ = [
    "LABEL",
    "LEFTOVERS",
    "PLACE",
    "REFERS",
    "AttributeColumns",
    "Column",
    "ColumnForm",
    "Columns",
    "Level",
    "VRContext",
    "creators_of",
    "depends_on_file",
    "is_of_other_type",
]

_NAME = pa.struct([(name, pa.string()) for name in (*NAME_GROUPS, *NAME_PARTS)])
_TYPES: dict[CellKind, pa.DataType] = {
    CellKind.TEXT: pa.string(),
    CellKind.NAME: _NAME,
    CellKind.DATE: pa.date32(),
    CellKind.TIME: pa.time64("us"),
    CellKind.DATETIME: pa.timestamp("us"),
    CellKind.AGE: pa.float64(),
    CellKind.INTEGER: pa.int64(),
    CellKind.DECIMAL: pa.float64(),
    CellKind.US: pa.uint16(),
    CellKind.UL: pa.uint32(),
    CellKind.UV: pa.uint64(),
    CellKind.SS: pa.int16(),
    CellKind.SL: pa.int32(),
    CellKind.SV: pa.int64(),
    CellKind.FL: pa.float32(),
    CellKind.FD: pa.float64(),
    CellKind.BINARY: pa.binary(),
}

#: A text that repeats: pandas has it as categorical.
LABEL = pa.dictionary(pa.int32(), pa.string())
#: What names of columns that refer to groups end with.
REFERS = "_digest"
#: What has no place in a name, and what would be taken for one of these.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]|\\(?=x[0-9a-f]{2})")
_LABEL_VRS = frozenset(("AE", "CS", "LO", "SH"))
#: Items deeper than this have no columns: Arrow hands no more than 64 levels from one library to
#: another, and a sequence has two.
_MAX_DEPTH = 30
#: What is remembered of values that come again and again, of each attribute.
_MEMO_SIZE = 1 << 9
_MEMO_LENGTH = 256

#: Where a large value lies (spec/bulk.md).
PLACE = (
    pa.field("offset", pa.int64()),
    pa.field("stored", pa.list_(pa.int64())),
    pa.field("chunk", pa.int64()),
    pa.field("word", pa.int64()),
    pa.field("data_offset", pa.int64()),
    pa.field("uri", pa.string()),
    pa.field("size", pa.int64()),
    pa.field("source", pa.string()),
    pa.field("modified", pa.int64()),
)
#: A large value: where it is in the row, what it is, and where it lies.
_LARGE = pa.struct(
    [
        pa.field("path", pa.string()),
        pa.field("length", pa.int64()),
        pa.field("sha256", pa.string()),
        pa.field("fragments", pa.list_(pa.int64())),
        *PLACE,
    ]
)
#: The columns of what is no typed value. Tables of groups have them if a row does.
LEFTOVERS = (
    pa.field("large", pa.list_(_LARGE)),
    pa.field("empty", pa.list_(pa.string())),
    pa.field("exact", pa.binary()),
)


_LEFTOVERS = {field.name: field for field in LEFTOVERS}
#: Columns that tables have if a row does; others are text.
_IF_NEEDED = {**_LEFTOVERS, "vrs": pa.field("vrs", LABEL)}


class ColumnForm(StrEnum):
    """What a column has of its attribute."""

    TYPED = "typed"
    TEXT = "text"
    OFFSET = "offset"
    ITEMS = "items"


class _Traits(NamedTuple):
    """What is said of an attribute: its column's name, what that holds, and more."""

    name: str
    kind: CellKind
    many: bool
    written: str
    metadata: dict[str, str]
    rank: int


@lru_cache(maxsize=1 << 16)
def _traits(key: str, creator: str, written: str, definitions: Definitions) -> _Traits | None:
    """None for a key that is not that of an attribute.

    `written` is the VR in the file. It counts where the dictionary has none, or several.
    """
    if key[:1] == "_" or "#" in key:
        return None
    try:
        tag = definitions.tag(key)
    except DefinitionsError:
        return None
    if definitions.keyword(tag) != key or is_delimiter(tag):
        return None
    attribute = definitions.attribute(tag)
    name, vr, vm, title = key, definitions.vr(tag), "1", ""
    if attribute is not None:
        vr, vm, title = attribute.vr, attribute.vm, attribute.name
    elif is_creator(tag):
        title = "Private Creator"
    elif creator and is_private(tag):
        block = tag >> 8 & 0xFF
        escaped = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", creator)
        name = f"{escaped}:{tag >> 16:04X}xx{tag & 0xFF:02X}"
        if block != 0x10:  # the block that nearly all have
            name += f"@{block:02X}"
    kind = kind_of(vr)
    many = vm != "1" and kind not in {CellKind.BINARY, CellKind.ITEMS}
    if depends_on_file(tag, written, definitions):
        name, vr, kind = f"{name}_{written}", written, kind_of(written)
        many = kind in {CellKind.INTEGER, CellKind.DECIMAL} or written in {"AT", *NUMBER_FORMATS}
    else:
        written = ""
    metadata = {"key": key, "tag": format_tag(tag), "vr": vr, "name": title}
    return _Traits(name, kind, many, written, metadata, definitions.rank(key))


def depends_on_file(tag: int, written: str, definitions: Definitions) -> bool:
    """Whether the VR in a file says the type of a column, as that of the dictionary has no type.

    It is unknown, one of several, or one of bytes.
    """
    return (
        kind_of(written) not in {CellKind.BINARY, CellKind.ITEMS}
        and kind_of(definitions.vr(tag)) is CellKind.BINARY
    )


def is_of_other_type(tag: int, written: str, definitions: Definitions) -> bool:
    """Whether values of the VR in a file are none of the column, which is that of the dictionary.

    Text is read as the dictionary says whichever VR of text it has; an AT is no text.
    """
    vr = definitions.vr(tag)
    if not written or written in {vr, "UN"} or (written in TEXT_VRS and vr in TEXT_VRS):
        return False
    return kind_of(vr) not in {CellKind.BINARY, CellKind.ITEMS}


class Column:
    """One column of tables, or one field inside a sequence.

    `key` is that of the attribute in documents; `level` has the fields of items.
    """

    __slots__ = ("cells", "form", "is_label", "key", "level", "metadata", "name", "order")

    def __init__(
        self, name: str, form: ColumnForm, traits: _Traits, level: Level | None, *, inside: bool
    ) -> None:
        self.name = name
        self.key = traits.metadata["key"]
        self.form = form
        self.cells = Cells(traits.kind, many=traits.many, written=traits.written)
        label = form is ColumnForm.TYPED and traits.metadata["vr"] in _LABEL_VRS
        self.is_label = label and not traits.many and not inside
        self.metadata = {**traits.metadata, "form": str(form)}
        self.order = (traits.rank, name)
        self.level = level

    @property
    def type(self) -> pa.DataType:
        """The Arrow type, with all fields that are known by now."""
        if self.level is not None:
            fields = [column.field for column in self.level.sorted() if not column.is_empty]
            return pa.list_(pa.struct(fields))
        if self.form is ColumnForm.TEXT:
            return pa.string()
        if self.is_label:
            return LABEL
        plain = pa.int16() if self.form is ColumnForm.OFFSET else _TYPES[self.cells.kind]
        return pa.list_(plain) if self.cells.many else plain

    @property
    def is_empty(self) -> bool:
        """Whether it is of items that have no column: Parquet has no struct without fields."""
        level = self.level
        return level is not None and all(column.is_empty for column in level.columns.values())

    @property
    def field(self) -> pa.Field[Any]:
        """The Arrow field; its metadata says which attribute it is of."""
        return pa.field(self.name, self.type, metadata=self.metadata)


class AttributeColumns:
    """The columns of one attribute in one level.

    `is_typed`: its values are those of the type of its column. `blob`: has blobs that are none of
    the type that the file says.
    """

    __slots__ = (
        "_columns",
        "_level",
        "_memo",
        "_no_value",
        "_traits",
        "blob",
        "cells",
        "depends_on_context",
        "is_sequence",
        "is_typed",
    )

    def __init__(
        self, traits: _Traits, level: Level, *, is_typed: bool, blob: AttributeColumns | None = None
    ) -> None:
        self._traits = traits
        self._level = level
        self._columns: dict[ColumnForm, Column] = {}
        self._memo: dict[str | bytes, tuple[dict[str, Any], bool]] = {}
        self._no_value: dict[str, Any] | None = None
        self.cells = Cells(traits.kind, many=traits.many, written=traits.written)
        self.is_sequence = traits.kind is CellKind.ITEMS
        self.is_typed = is_typed
        self.blob = blob
        self.depends_on_context = (
            not is_typed or bool(traits.written) or traits.kind is CellKind.BINARY
        )

    @property
    def no_value(self) -> Mapping[str, Any]:
        """The cell of a value that is no typed one: its column is there, if its type is known."""
        if self._no_value is None:
            is_typed = (
                self.cells.kind not in {CellKind.BINARY, CellKind.ITEMS} and not self.cells.written
            )
            self._no_value = {self.column(ColumnForm.TYPED).name: None} if is_typed else {}
        return self._no_value

    def cells_of(self, value: Any) -> tuple[dict[str, Any], bool]:
        """The cells of a value by column, and whether it comes back from them."""
        if (type(value) is not str and type(value) is not bytes) or len(value) > _MEMO_LENGTH:
            return self._cells_of(value)
        found = self._memo.get(value)
        if found is None:
            if len(self._memo) >= _MEMO_SIZE:
                self._memo.clear()
            found = self._memo[value] = self._cells_of(value)
        return found

    def _cells_of(self, value: Any) -> tuple[dict[str, Any], bool]:
        text = self.cells.text_of(value)
        if text is None and type(value) is str:
            return {**self.no_value}, False
        cell = self.cells.cell(value if text is None else text) if self.is_typed else NOTHING
        if cell.value is None and text is None and self.blob is not None:
            return self.blob.cells_of(value)
        found: dict[str, Any] = {**self.no_value}
        if cell.value is not None:
            found[self.column(ColumnForm.TYPED).name] = cell.value
            if cell.offset is not None:
                found[self.column(ColumnForm.OFFSET).name] = cell.offset
        if not cell.exact and text is not None:
            found[self.column(ColumnForm.TEXT).name] = text
        return found, cell.exact or text is not None

    def column(self, form: ColumnForm) -> Column:
        """The column of a form, which is added to the level if need be."""
        column = self._columns.get(form)
        if column is None:
            name = self._traits.name
            if form is not ColumnForm.TYPED:
                name += f"_{form}"
            column = self._columns[form] = self._level.add(name, form, self._traits)
        return column


class VRContext(NamedTuple):
    """What the columns of private attributes, and of those of several VRs, depend on.

    `creators`: by the first six digits of the tags that are theirs. `vrs`: those in the file, by
    path. `others`: some of these may be other ones than those of the dictionary.
    """

    creators: Mapping[str, str]
    vrs: Mapping[str, str]
    others: bool = True

    def creator(self, key: str) -> str:
        """The creator that a private attribute is of; empty if there is none."""
        return self.creators.get(key[:6], "")

    def inside(self, item: Mapping[str, Any]) -> VRContext:
        """That of the attributes of an item, which has its own creators (PS3.5 section 7.8.1)."""
        creators = creators_of(item)
        return self if creators == self.creators else self._replace(creators=creators)

    def beside(self, attributes: Mapping[str, Any]) -> VRContext:
        """That of attributes of the same data set which may have more creators among them."""
        more = creators_of(attributes)
        return self._replace(creators={**self.creators, **more}) if more else self


class Level:
    """The columns of one level: of all tables together, or of the items of a sequence.

    `depth` counts the sequences around it.
    """

    __slots__ = ("_attributes", "_definitions", "_plain", "columns", "depth")

    def __init__(self, definitions: Definitions, depth: int = 0) -> None:
        self._definitions = definitions
        self._plain: dict[str, AttributeColumns] = {}
        self._attributes: dict[tuple[str, str, str], AttributeColumns | None] = {}
        self.columns: dict[str, Column] = {}
        self.depth = depth

    def attribute(self, key: str, context: VRContext, path: str = "") -> AttributeColumns | None:
        """The attribute of a key at a path; None if it can have no column."""
        plain = self._plain.get(key)
        if plain is not None and not (context.others and path + key in context.vrs):
            return plain
        name = (key, context.creator(key), context.vrs.get(path + key, ""))
        try:
            return self._attributes[name]
        except KeyError:
            traits = _traits(*name, self._definitions)
            found = None
            if traits is not None:
                tag = int(traits.metadata["tag"], 16)
                is_typed = not is_of_other_type(tag, name[2], self._definitions)
                blob = self.attribute(key, context._replace(vrs={})) if traits.written else None
                found = AttributeColumns(traits, self, is_typed=is_typed, blob=blob)
            self._attributes[name] = found
            if found is not None and not found.depends_on_context:
                self._plain[key] = found
            return found

    def add(self, name: str, form: ColumnForm, traits: _Traits) -> Column:
        """The column of this name, new or known."""
        column = self.columns.get(name)
        if column is None:
            nested = form is ColumnForm.ITEMS or (
                form is ColumnForm.TYPED and traits.kind is CellKind.ITEMS
            )
            level = Level(self._definitions, self.depth + 1) if nested else None
            column = Column(name, form, traits, level, inside=self.depth > 0)
            self.columns[name] = column
        return column

    @property
    def has_columns_inside(self) -> bool:
        """Whether the items of a sequence at this level have columns."""
        return self.depth < _MAX_DEPTH

    def sorted(self) -> list[Column]:
        """All columns, in the order of attributes in documents."""
        return sorted(self.columns.values(), key=lambda column: column.order)

    def load(self, fields: Iterable[pa.Field[Any]]) -> list[str]:
        """Know the columns of a schema that was made of such a level; returns their names.

        Raises:
            TableError: a column is not of its attribute (``tables/schema``).
        """
        names = []
        for found in fields:
            metadata = _metadata_of(found)
            if "key" not in metadata:
                continue
            traits = _traits(metadata["key"], "", metadata.get("vr", ""), self._definitions)
            if traits is None or metadata.get("form") not in set(ColumnForm):
                raise TableError("tables/schema", f"the column {found.name!r} is of no attribute")
            column = self.add(found.name, ColumnForm(metadata["form"]), traits)
            if column.level is None:
                fits = found.type == column.type
            else:
                fits = pa.types.is_list(found.type) and pa.types.is_struct(found.type.value_type)
            if not fits:
                raise TableError(
                    "tables/schema",
                    f"the column {found.name!r} is {found.type}, but {column.key} is {column.type}",
                )
            if column.level is not None:
                column.level.load(found.type.value_type)
            names.append(found.name)
        return names


def _metadata_of(field: pa.Field[Any]) -> dict[str, str]:
    """What a field says beside its type."""
    try:
        return {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
    except UnicodeDecodeError:
        raise TableError("tables/schema", f"the column {field.name!r} is not UTF-8") from None


def creators_of(attributes: Mapping[str, Any]) -> dict[str, str]:
    """The private creators among attributes, by the first six digits of their elements' tags."""
    return {
        key[:4] + key[6:]: attributes[key]
        for key in _creators_among(tuple(attributes))
        if type(attributes[key]) is str and attributes[key]
    }


@lru_cache(maxsize=1 << 10)
def _creators_among(keys: tuple[str, ...]) -> list[str]:
    """The keys of private creators."""
    return [key for key in keys if (tag := private_tag(key)) is not None and is_creator(tag)]


class Columns:
    """The columns of all tables.

    Those of attributes are some of `level`, so that an attribute has the same type in all tables.
    A table also has columns of its own, which are known from the start or, being the digests
    of groups, are found in the data.
    """

    def __init__(self, definitions: Definitions) -> None:
        self.definitions = definitions
        self.level = Level(definitions)
        self._names: dict[str, set[str]] = {}
        self._met: dict[str, set[str]] = {}
        self._own: dict[str, dict[str, pa.Field[Any]]] = {}

    def declare(self, table: str, fields: Iterable[pa.Field[Any]]) -> None:
        """Give a table columns of its own, behind those that it has."""
        own = self._own.setdefault(table, {})
        for field in fields:
            own.setdefault(field.name, field)

    def meet(self, table: str, row: Mapping[str, Any]) -> None:
        """Give a table the columns that a row has."""
        names = self._met.setdefault(table, set())
        if row.keys() <= names:
            return
        names |= row.keys()
        own = self._own[table]
        for name in row.keys() - own.keys():
            if name in self.level.columns:
                self._names.setdefault(table, set()).add(name)
            else:
                own[name] = _IF_NEEDED.get(name, pa.field(name, pa.string()))

    def load(self, table: str, schema: pa.Schema) -> None:
        """Know a table by the schema that it has.

        Raises:
            TableError: a column is not of its attribute, or one that there always is is missing,
                there twice or of another type (``tables/schema``).
        """
        names = set(self.level.load(schema))
        self._names.setdefault(table, set()).update(names)
        rest = [field for field in schema if field.name not in names]
        kinds = {field.name: field.type for field in rest}
        always = self._own.get(table, {})
        wrong = {name for name, field in always.items() if kinds.get(name) != field.type}
        wrong |= {
            name for name, kind in kinds.items() if name.endswith(REFERS) and kind != pa.string()
        }
        if wrong or len(set(schema.names)) < len(schema.names):
            raise TableError(
                "tables/schema",
                f"the columns of the table {table} are not those of the format: "
                f"{', '.join(sorted(wrong)) or 'some are there twice'}",
            )
        self.declare(table, rest)

    def schema(self, table: str) -> pa.Schema:
        """The schema of a table: its own columns, then attributes as documents order them.

        Those that refer to groups are in the order of groups.
        """
        found = [self.level.columns[name] for name in self._names.get(table, ())]
        found = sorted((c for c in found if not c.is_empty), key=lambda column: column.order)
        own = self._own[table]
        leftovers = [name for name in _LEFTOVERS if name in own]
        digests = [name + REFERS for name in self.definitions.groups if name + REFERS in own]
        return pa.schema(
            [
                *(field for name, field in own.items() if name not in {*leftovers, *digests}),
                *map(own.__getitem__, digests),
                *(column.field for column in found),
                *map(own.__getitem__, leftovers),
            ]
        )

    def of(self, table: str) -> dict[str, Column]:
        """The columns of attributes of a table by name."""
        return {name: self.level.columns[name] for name in self._names.get(table, ())}
