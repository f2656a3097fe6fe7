"""What a query asks for, as DuckDB's own parser says (spec/tables.md, "SQL").

A `Question` may be about more than its query needs, never less: in doubt, about everything.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterator
from typing import Any, NamedTuple

__all__ = ["METADATA", "is_reading", "parsed"]

#: The view that joins all groups to their instances.
METADATA = "metadata"
#: What has all columns of what it is of, or some by their place.
_EVERY_COLUMN = frozenset(("PIVOT", "POSITIONAL_REFERENCE", "SHOW_REF", "STAR"))
#: Parts of a query that read; COPY and INSERT, say, are others, and may stand in a WITH.
_READING = frozenset(("SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"))
#: Functions that ask another question: one that stands in a text, and in a tree as a text.
_ASKS, _ASKS_A_TREE = "query", "json_execute_serialized_sql"
#: What may write, in a query that DuckDB does not take apart for others, as PIVOT ON.
_WRITING = re.compile(
    r"\b(?:ALTER|ATTACH|CALL|COPY|CREATE|DELETE|DROP|EXPORT|IMPORT|INSERT|INSTALL|LOAD|MERGE|SET"
    r"|TRUNCATE|UPDATE|JSON_EXECUTE_SERIALIZED_SQL|QUERY)\b",
    re.IGNORECASE,
)
#: Functions that give rows without looking at any table.
_OF_NO_TABLE = frozenset(("generate_series", "range", "unnest"))


class Question(NamedTuple):
    """What a query asks for.

    Attributes:
        words: what stands in it, in lower case, names of tables and columns among it; None if
            it may be about any table.
        every_column: whether it may use columns that it does not name.
    """

    words: frozenset[str] | None
    every_column: bool


#: The question of what cannot be taken apart, or looks at which tables there are.
_ANYTHING = Question(None, every_column=True)


def is_reading(query: str, tree: str) -> bool:
    """Whether a query reads, and does nothing else: not even in a part of it.

    Args:
        query: one statement.
        tree: what ``json_serialize_sql`` gives for it.
    """
    try:
        nodes = list(_nodes(json.loads(tree)))
    except (RecursionError, ValueError):
        nodes = []
    if not nodes or any(node.get("error") is True for node in nodes):
        return _WRITING.search(query) is None
    return all(map(_may_be_read, nodes))


def _may_be_read(node: dict[str, Any]) -> bool:
    if _type(node).endswith("_NODE"):
        return _type(node) in _READING
    name = str(node.get("function_name")).lower()
    if name != _ASKS:
        return name != _ASKS_A_TREE
    # whoever wants more than to read may put a text together, so that it has to stand there
    texts = [*_texts_given(node)]
    return bool(texts) and all(text and _WRITING.search(text) is None for text in texts)


def _texts_given(node: dict[str, Any]) -> Iterator[str | None]:
    """What a function is given as it stands there; None for what is no text, or is made of some."""
    for given in node.get("arguments") or node.get("children") or ():
        expression = given.get("expression", given)
        value = expression.get("literal") or expression.get("value") or {}
        text = value.get("text", value.get("value"))
        yield text if isinstance(text, str) else None


def parsed(tree: str, tables: Container[str]) -> Question:
    """The question of a query, of which this is what ``json_serialize_sql`` gives.

    Args:
        tree: that text.
        tables: the names of all tables in lower case.
    """
    try:
        return _question(list(_nodes(json.loads(tree))), tables)
    except (RecursionError, ValueError, LookupError, TypeError, AttributeError):
        return _ANYTHING  # another form than is known here, as that of another DuckDB


def _question(nodes: list[dict[str, Any]], tables: Container[str]) -> Question:
    made_here = {node["key"].lower() for node in nodes if "key" in node}
    if not nodes or any(_looks_around(node, tables, made_here) for node in nodes):
        return _ANYTHING
    rows = {METADATA, *(node["alias"].lower() for node in nodes if _is_source(node))}
    every_column = any(_has_every_column(node, rows) for node in nodes)
    words = frozenset(text.lower() for node in nodes for text in _texts(node))
    return Question(words, every_column)


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """All structs of a tree, but for the ALL of ORDER BY, which is what was selected."""
    waiting = [tree]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting.extend(value)
        elif isinstance(value, dict):
            yield value
            waiting.extend(value.values() if not _orders_by_all(value) else ())


def _orders_by_all(node: dict[str, Any]) -> bool:
    if "null_order" not in node:
        return False
    by = node["expression"]
    return (by["type"], by.get("expr")) == ("STAR", None)


def _texts(node: dict[str, Any]) -> Iterator[str]:
    for value in node.values():
        for text in value if isinstance(value, list) else (value,):
            if isinstance(text, str):
                yield text


def _type(node: dict[str, Any]) -> str:
    """What a struct is, if its type is a name: that of a value has fields."""
    kind = node.get("type")
    return kind if isinstance(kind, str) else ""


def _is_source(node: dict[str, Any]) -> bool:
    """Whether rows are read from this under an alias; that of an expression has a class."""
    return bool(node.get("alias")) and "class" not in node


def _has_every_column(node: dict[str, Any], rows: set[str]) -> bool:
    names: list[str] = node.get("column_names", [])
    return (
        _type(node) in _EVERY_COLUMN
        or node.get("ref_type") == "NATURAL"
        or bool(node.get("column_name_alias"))
        or (bool(names) and names[-1].lower() in rows)
    )


def _looks_around(node: dict[str, Any], tables: Container[str], made_here: set[str]) -> bool:
    """Whether it is about whatever tables there are, as ``SHOW TABLES`` and ``query_table``."""
    match _type(node):
        case "BASE_TABLE":
            name = node["table_name"].lower()
            own = name == METADATA or name in tables or name in made_here
            return not own or node["schema_name"].lower() not in {"", "main"}
        case "SHOW_REF":
            return bool(node["show_type"] == "SHOW_SPECIAL")
        case "TABLE_FUNCTION":
            return node["function"]["function_name"].lower() not in _OF_NO_TABLE
        case _:
            return node.get("error") is True
