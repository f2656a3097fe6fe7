"""A document as one struct: its readable form, which is read as well (spec/study.md)."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

from dicomstudy import ion
from dicomstudy.document.fields import (
    FORMAT,
    MAX_VALUES,
    VERSION,
    add_places,
    by_name,
    described,
    digests_of_groups,
    groups_of,
)
from dicomstudy.errors import IonError, StudyError
from dicomstudy.grouping import Group
from dicomstudy.ion import Symbol

if TYPE_CHECKING:
    from dicomstudy.document.reader import Document

__all__ = ["read_whole", "whole"]


def read_whole(plain: bytes, source: str) -> list[Any]:
    """The stream of a document that has no table: its own, or made of one struct.

    Raises:
        StudyError: the bytes are no Ion (``study/not-a-study``), or have too many values
            (``study/too-large``).
    """
    try:
        values = ion.load_all(plain, max_values=MAX_VALUES)
    except IonError as error:
        if error.code == "ion/too-large":
            raise StudyError("study/too-large", error.message, source=source) from error
        raise StudyError("study/not-a-study", f"not Ion: {error.message}", source=source) from error
    if len(values) != 1 or not isinstance(values[0], dict):
        return values
    (whole,) = values
    if len(whole) != 1:
        return values
    ((study, content),) = whole.items()
    if (
        not isinstance(content, dict)
        or not isinstance(content.get("groups"), dict)
        or not all(_are_series(content.get(name, {})) for name in ("series", "retired"))
        or "series" not in content
    ):
        return values
    chunks, retired = _chunks(content["series"]), _chunks(content.get("retired", {}))
    header = {
        "format": content.get("format", FORMAT),
        "version": content.get("version", VERSION),
        "definitions": content.get("definitions"),
        "studyInstanceUID": study,
        "studyVersion": content.get("studyVersion", 1),
        "historyFrames": int("history" in content),
        "sharedFrames": 1,
        "bulkLength": content.get("bulkLength", 0),
        "bulkFile": content.get("bulkFile", 0),
        "chunks": [described(each["seriesInstanceUID"], each["instances"]) for each in chunks],
        "retired": [described(each["seriesInstanceUID"], each["instances"]) for each in retired],
    }
    history = [content["history"]] if "history" in content else []
    shared = {"groups": content["groups"], "bulk": content.get("bulk", {})}
    return [header, *history, shared, *chunks, *retired]


def _chunks(series: dict[str, Any]) -> list[dict[str, Any]]:
    """The chunks of all series, one for each."""
    return [
        {
            "seriesInstanceUID": uid,
            "_groups": struct.get("_groups", []),
            "groups": {},
            "instances": dict(sorted(struct["instances"].items())),
            "bulk": {},
        }
        for uid, struct in series.items()
    ]


def _are_series(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(series, dict) and isinstance(series.get("instances"), dict)
        for series in value.values()
    )


def whole(document: Document) -> dict[str, Any]:
    """The document as the one struct of the seed. Mirror of `read_whole`."""
    contents: dict[str, Group] = {}
    bulk: dict[str, Any] = {}
    for frame in document.shared():
        contents |= groups_of(frame)
        add_places(bulk, frame.get("bulk", {}))
    series: dict[str, Any] = {}
    retired: dict[str, Any] = {}
    for number in range(len(document.chunks) + len(document.retired)):
        frame = document.chunk(number)
        contents |= groups_of(frame)
        add_places(bulk, frame.get("bulk", {}))
        known = (series if number < len(document.chunks) else retired).setdefault(
            frame["seriesInstanceUID"], {"_groups": frame["_groups"], "instances": {}}
        )
        known["_groups"] = [each for each in known["_groups"] if each in frame["_groups"]]
        for key, instance in frame["instances"].items():
            known["instances"][key] = {**instance, "_groups": digests_of_groups(frame, instance)}
    referred: set[str] = set()
    for each in chain(series.values(), retired.values()):
        common = frozenset(each["_groups"])
        each["_groups"] = [Symbol(digest) for digest in each["_groups"]]
        for instance in each["instances"].values():
            referred.update(instance["_groups"])
            instance["_groups"] = [Symbol(d) for d in instance["_groups"] if d not in common]
    header = document.header
    content: dict[str, Any] = {
        name: header.get(name) for name in ("format", "version", "definitions")
    }
    if header.get("historyFrames"):
        content |= {"studyVersion": document.version, "history": document.history.to_struct()}
    groups = by_name([digest for digest in contents if digest in referred], contents)
    content |= {"groups": groups, "series": series}
    if retired:
        content["retired"] = retired
    content |= {"bulkLength": document.bulk.length, "bulk": bulk}
    if document.bulk.number:
        content["bulkFile"] = document.bulk.number
    return {document.study: content}
