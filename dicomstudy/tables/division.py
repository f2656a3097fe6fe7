"""How studies are divided among the parts of tables, and which parts are written anew."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from dicomstudy.tables.catalog import Part

__all__ = ["Stretch", "shares", "stretches"]


class Stretch(NamedTuple):
    """Parts as they were, and the studies that are, or were, in their range.

    `instances` are those that the studies have now; `touched`: one of them comes, changes or goes.
    """

    parts: list[Part]
    uids: list[str]
    instances: int
    touched: bool


def stretches(
    parts: Sequence[Part], sizes: Mapping[str, int], touched: set[str], *, rows: int
) -> Iterator[Stretch]:
    """What becomes of all studies: parts that are small are joined with what is written anew.

    Args:
        parts: those that there are, in their order.
        sizes: how many instances each study has now, by its UID; those that go have none.
        touched: the studies that come, change or go.
        rows: how many instances a part has at most.
    """
    firsts = [part.first for part in parts[1:]]
    ranges: list[list[str]] = [[] for _ in range(len(firsts) + 1)]
    for uid in sorted(sizes):
        ranges[bisect_right(firsts, uid)].append(uid)
    last: Stretch | None = None
    for at, uids in enumerate(ranges):
        here = Stretch(
            [*parts[at : at + 1]],
            uids,
            sum(sizes[uid] for uid in uids),
            not touched.isdisjoint(uids),
        )
        if last is None:
            last = here
            continue
        whole = last.instances + here.instances
        is_small = any(each.touched and each.instances < rows // 4 for each in (last, here))
        if is_small and whole <= rows:
            last = Stretch([*last.parts, *here.parts], [*last.uids, *uids], whole, touched=True)
        else:
            yield last
            last = here
    if last is not None and (last.uids or last.parts):
        yield last


def shares(uids: Iterable[str], sizes: Mapping[str, int], *, rows: int) -> Iterator[list[str]]:
    """Studies in order, cut into the lists that become one part each.

    A study is never divided: one of more instances than `rows` is a part by itself. `sizes` and
    `rows` are as for `stretches`.
    """
    share: list[str] = []
    instances = 0
    for uid in uids:
        if share and instances + sizes[uid] > rows:
            yield share
            share, instances = [], 0
        share.append(uid)
        instances += sizes[uid]
    if share:
        yield share
