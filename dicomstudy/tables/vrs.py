"""What files say of the VRs that columns depend on, by path ↔ a line of text (spec/tables.md).

The law: ``merged`` does not depend on the order or number of what it is given, so that a row of a
group is the same whichever of the instances that share it comes first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from dicomstudy import layout
from dicomstudy.definitions import Definitions
from dicomstudy.errors import RecordError
from dicomstudy.tables.columns import depends_on_file, is_of_other_type

__all__ = ["DIFFERS", "NOTHING", "FileVRs", "by_path", "merged", "of_file", "of_group"]

#: Stands for the VR where files say several, or one says none.
DIFFERS = "?"


class FileVRs(NamedTuple):
    """The VRs in one file: by path, and the paths by the attribute of the top level.

    `others`: some are other ones than those of the dictionary.
    """

    by_path: Mapping[str, str]
    paths: Mapping[str, list[str]]
    others: bool


#: That of a file that says none.
NOTHING = FileVRs({}, {}, others=False)


def of_file(encoding: Mapping[str, Any], definitions: Definitions) -> FileVRs:
    """The VRs in a file, as far as its layout says them and columns depend on them."""
    try:
        tokens = layout.parse(encoding.get("dataSet", ""))
    except (RecordError, TypeError):
        return NOTHING
    found: dict[str, str] = {}
    paths: dict[str, list[str]] = {}
    others = False
    for path, vr, is_other in _in_data_set(tokens, "", definitions):
        found[path] = vr
        paths.setdefault(path.partition("[")[0], []).append(path)
        others |= is_other
    return FileVRs(found, paths, others)


def _in_data_set(
    tokens: Iterable[layout.Token], path: str, definitions: Definitions
) -> Iterator[tuple[str, str, bool]]:
    """Path and VR of each element of which a column depends on it; whether it is an `other`."""
    for token in tokens:
        if token.occurrence:
            continue  # a later element of the tag is the attribute
        key = definitions.keyword(token.tag)
        is_other = is_of_other_type(token.tag, token.vr, definitions)
        if is_other or depends_on_file(token.tag, token.vr, definitions):
            yield path + key, token.vr, is_other
        for at, item in enumerate(token.items or ()):
            yield from _in_data_set(item.tokens, f"{path}{key}[{at}].", definitions)


def of_group(attributes: Mapping[str, Any], file: FileVRs) -> str:
    """What a file says of the values of a group."""
    keys = file.paths.keys() & attributes.keys()
    paths = (path for key in keys if attributes[key] is not None for path in file.paths[key])
    return _text({path: file.by_path[path] for path in paths})


def _text(vrs: Mapping[str, str]) -> str:
    return " ".join(f"{path}={vr}" for path, vr in sorted(vrs.items()))


@lru_cache(maxsize=1 << 9)
def by_path(text: str) -> Mapping[str, str]:
    """The VRs that a text says, by path."""
    return dict(each.split("=") for each in text.split(" ")) if text else {}


@lru_cache(maxsize=1 << 9)
def merged(one: str, other: str) -> str:
    """What two files, or more, say together: `DIFFERS` where it is not the same."""
    if one == other:
        return one
    first, second = by_path(one), by_path(other)
    return _text(
        {
            path: first[path] if first.get(path) == second.get(path) else DIFFERS
            for path in {*first, *second}
        }
    )
