"""A document as one struct: its readable form, which is read as well (spec/study.md)."""

from __future__ import annotations

from typing import Any

from dicomstudy import ion
from dicomstudy.document.fields import FORMAT, VERSION
from dicomstudy.errors import IonError, StudyError

__all__ = ["read_whole"]


def read_whole(plain: bytes, source: str) -> list[Any]:
    """The stream of a document that has no table: its own, or made of one struct.

    Raises:
        StudyError: the bytes are no Ion.
    """
    try:
        values = ion.load_all(plain)
    except IonError as error:
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
        "chunks": list(map(_described, chunks)),
        "retired": list(map(_described, retired)),
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


def _described(chunk: dict[str, Any]) -> dict[str, Any]:
    """What a header says of a chunk."""
    return {
        "seriesInstanceUID": chunk["seriesInstanceUID"],
        "first": min(chunk["instances"], default=""),
        "last": max(chunk["instances"], default=""),
        "instances": len(chunk["instances"]),
    }


def _are_series(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(series, dict) and isinstance(series.get("instances"), dict)
        for series in value.values()
    )
