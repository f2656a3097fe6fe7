"""Elements whose tag comes again in a data set (spec/record.md)."""

from __future__ import annotations

from collections import Counter
from itertools import count

from dicomstudy import layout
from dicomstudy.elements import META_GROUP
from dicomstudy.p10 import Run
from dicomstudy.record.attributes import INSTANCE, RAW, RAW_GROUP, Attribute
from dicomstudy.record.template import Part, by_group

__all__ = ["as_repeated", "has_repeated", "rename_repeated"]

_META_DIGITS = f"{META_GROUP:04X}"


def has_repeated(meta: list[Run], data_set: list[Run]) -> bool:
    """Whether elements may have other names than those of their tags."""
    if any(run.low >> 16 <= META_GROUP <= run.high >> 16 for run in data_set):
        return True
    last = -1
    for run in meta + data_set:
        if run.low <= last or not run.ascending:
            return True
        last = run.high
    return False


def rename_repeated(
    row: list[Part | int], variable: list[Attribute], meta: int
) -> tuple[list[Part | int], list[tuple[int, int]]]:
    """Of elements of one tag, leave the name of the attribute to the one that counts.

    The others are named ``<keyword>#1``, ``#2`` and so on, and stay with the instance
    (spec/record.md). Returns the row with renamed parts, and the numbers of
    those of `variable` that are to be renamed, each with its occurrence.

    Args:
        row: all runs; the first `meta` are file meta information.
        variable: the attributes that `row` has by number.
        meta: their number.
    """
    counting = _counting(row, variable, meta)
    occurrence: Counter[str] = Counter()
    renamed: list[Part | int] = []
    repeated = []
    order = count()
    for item in row:
        if isinstance(item, int):
            attribute = variable[item]
            if _is_replaced(attribute, next(order), counting):
                occurrence[attribute.key] += 1
                repeated.append((item, occurrence[attribute.key]))
            renamed.append(item)
            continue
        attributes = list(item.attributes)
        for place, attribute in enumerate(attributes):
            if _is_replaced(attribute, next(order), counting):
                occurrence[attribute.key] += 1
                attributes[place] = as_repeated(attribute, occurrence[attribute.key])
        renamed.append(
            item._replace(
                attributes=tuple(attributes),
                groups=by_group(attributes),
                layout=" ".join(attribute.token for attribute in attributes),
                raw=tuple(raw for attribute in attributes for raw in attribute.raw),
            )
        )
    return renamed, repeated


def _counting(row: list[Part | int], variable: list[Attribute], meta: int) -> dict[str, int]:
    """Which of all attributes in their order counts for each key, if any does.

    It is the last one, but elements of the data set replace none of file meta information.
    """
    counting = {}
    order = count()
    for place, item in enumerate(row):
        for attribute in (variable[item],) if isinstance(item, int) else item.attributes:
            at = next(order)
            is_named = attribute.group is not None
            if is_named and (place < meta or attribute.token[:4] != _META_DIGITS):
                counting[attribute.key] = at
    return counting


def _is_replaced(attribute: Attribute, at: int, counting: dict[str, int]) -> bool:
    return attribute.group is not None and counting.get(attribute.key) != at


def as_repeated(attribute: Attribute, occurrence: int) -> Attribute:
    """`attribute` under the name of an element that a later one of its tag replaces."""
    path = RAW + attribute.token[:8]
    return Attribute(
        f"{attribute.key}#{occurrence}",
        attribute.value,
        INSTANCE,
        token=layout.with_occurrence(attribute.token, occurrence),
        encoded=attribute.encoded,
        raw=tuple(
            Attribute(f"{path}#{occurrence}{raw.key[len(path) :]}", raw.value, RAW_GROUP)
            for raw in attribute.raw
        ),
        large=attribute.large,
        copied=attribute.copied,
        flaw=attribute.flaw,
    )
