"""Elements whose tag comes again in a data set (spec/record.md)."""

from __future__ import annotations

from collections import Counter

from dicomstudy import layout
from dicomstudy.p10 import Run
from dicomstudy.record.attributes import INSTANCE, RAW, RAW_GROUP, Attribute
from dicomstudy.record.template import Part, by_group

__all__ = ["as_repeated", "is_ascending", "rename_repeated"]


def is_ascending(runs: list[Run]) -> bool:
    """Whether every tag is greater than the one before it."""
    last = -1
    for run in runs:
        if run.low <= last or not run.ascending:
            return False
        last = run.high
    return True


def rename_repeated(
    row: list[Part | int], variable: list[Attribute]
) -> tuple[list[Part | int], list[tuple[int, int]]]:
    """Give the name of an attribute to the last element of each tag only.

    Those before it are named ``<keyword>#1``, ``#2`` and so on, and stay with the instance
    (spec/record.md). Returns the row with renamed parts, and the numbers of
    those of `variable` that are to be renamed, each with its occurrence.
    """
    total = Counter(
        attribute.key
        for item in row
        for attribute in ((variable[item],) if isinstance(item, int) else item.attributes)
        if attribute.group is not None
    )
    occurrence: Counter[str] = Counter()
    renamed: list[Part | int] = []
    repeated = []
    for item in row:
        if isinstance(item, int):
            attribute = variable[item]
            if attribute.group is not None:
                occurrence[attribute.key] += 1
                if occurrence[attribute.key] < total[attribute.key]:
                    repeated.append((item, occurrence[attribute.key]))
            renamed.append(item)
            continue
        attributes = list(item.attributes)
        for place, attribute in enumerate(attributes):
            if attribute.group is None:
                continue
            occurrence[attribute.key] += 1
            if occurrence[attribute.key] < total[attribute.key]:
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
