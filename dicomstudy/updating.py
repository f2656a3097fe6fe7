"""Attributes of a study are changed without its instances being rewritten (spec/edits.md)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dicomstudy import layout
from dicomstudy.amendment import with_edit
from dicomstudy.archive import AnyArchive, opened
from dicomstudy.assignment import depends_on_sign, once, prepare
from dicomstudy.change import Change, changing
from dicomstudy.definitions import Definitions
from dicomstudy.document import with_history
from dicomstudy.elements import creator_of, is_creator, private_tag
from dicomstudy.errors import ArchiveError, DicomStudyError
from dicomstudy.following import is_signed, vr_of
from dicomstudy.lineage import Scoped, Version, names_in
from dicomstudy.paths import ORIGINALS, parse_path, structs_on
from dicomstudy.record import group_of

if TYPE_CHECKING:
    from dicomstudy.study import Instance

__all__ = ["changed_groups", "check_edits", "edit_study", "read_edits", "update"]


def update(
    archive: AnyArchive,
    study: str,
    edits: Iterable[Mapping[str, Any]],
    *,
    expect: int | None = None,
) -> tuple[Version, ...]:
    """Change attributes of a study, and return its versions, that of this change included.

    No instance is rewritten: the document gets the edits, and from then on its instances have
    the new values, their files too. They say what was there before (PS3.3 C.12.1.1.9). Either
    all edits are made or none.

    Args:
        archive: the archive, or its folder.
        study: the Study Instance UID.
        edits: each a mapping with `set`, values by keyword or path, and `remove`, keywords or
            paths; for the whole study, or for the `series` or `instance` of which it has the
            UID (spec/edits.md). None or an empty text is an empty value; numbers and arrays may
            be those of numpy.
        expect: the number of the version that is changed, if it has to be a certain one.

    Raises:
        ArchiveError: there is no such study, series or instance, or it is not as expected.
        DicomStudyError: an attribute cannot be changed so; nothing is changed then.
    """
    archive = opened(archive)
    try:
        prepared = [prepare(edit, archive.definitions) for edit in edits]
    except RecursionError as error:
        raise DicomStudyError("change/value", "a value nests too deeply") from error
    if not prepared:
        raise DicomStudyError("change/nothing", "no attribute is named that is to be changed")
    with changing(archive, study, expect=expect) as change:
        check_edits(change, prepared)
        return edit_study(change, "update", prepared)


def edit_study(change: Change, command: str, edits: list[dict[str, Any]]) -> tuple[Version, ...]:
    """Write the version of a study that has these edits, and return all versions."""
    groups = changed_groups(edits, change.archive.definitions)
    after = change.history.then(command, edits=tuple(edits), groups=groups)
    change.write(with_history(change.document, after))
    return after.versions


def changed_groups(edits: Iterable[Mapping[str, Any]], definitions: Definitions) -> tuple[str, ...]:
    """The names of the attribute groups that edits change something in."""
    keys = [
        parse_path(path)[0][0]
        for edit in edits
        for path in (*edit.get("set", ()), *edit.get("remove", ()))
    ]
    names = {group_of(key, definitions) for key in (*keys, ORIGINALS)} if keys else set()
    return tuple(sorted(names - {""}))


def read_edits(path: Path) -> list[Any]:
    """The edits of a JSON file: an array of them, or one.

    Raises:
        DicomStudyError: it cannot be read, is no JSON, or nests too deeply (``change/file``), or
            an object has a name twice (``change/twice``).
    """
    try:
        content = json.loads(path.read_bytes(), object_pairs_hook=once)
    except OSError as error:
        message = f"the file of changes cannot be read: {error.strerror}"
        raise DicomStudyError("change/file", message, source=str(path)) from error
    except (ValueError, RecursionError) as error:
        message = f"the file of changes is no JSON: {error}"
        raise DicomStudyError("change/file", message, source=str(path)) from error
    return content if isinstance(content, list) else [content]


def check_edits(change: Change, edits: list[dict[str, Any]]) -> None:
    """Refuse edits of what is not there, or which some instance cannot have.

    These are private attributes without their creator, and numbers that would be others.

    Raises:
        ArchiveError: the study has no such series or instance (``archive/not-found``).
        DicomStudyError: an instance cannot have an edit; the code begins with ``change/``.
    """
    described = change.document.chunks
    if not described:
        message = "the study has no instances"
        raise ArchiveError("archive/not-found", message, source=str(change.path))
    all_series = {chunk["seriesInstanceUID"] for chunk in described}
    checks = [_Check(edit, change.archive.definitions) for edit in edits]
    is_read = False
    for check in checks:
        edit = check.edit
        if "series" in edit and edit["series"] not in all_series:
            raise ArchiveError("archive/not-found", f"the study has no series {edit['series']}")
        if not check.is_of_instances:
            continue
        if not is_read:
            _read(change, checks)
            is_read = True
        check.raise_wrong()


def _read(change: Change, checks: Iterable[_Check]) -> None:
    """Let checks look at the instances that their edits are for, all in one go."""
    scoped: Scoped[_Check] = Scoped()
    meant = set()
    for check in checks:
        edit = check.edit
        scoped.add(check, edit.get("series"), names_in(edit))
        if check.is_of_instances:
            meant.add((edit.get("series"), edit.get("instance")))
    series, instance = meant.pop() if len(meant) == 1 else (None, None)
    with change.archive.open(change.path) as study:
        for chunk in study.chunks(series=series, instance=instance):
            if isinstance(chunk, DicomStudyError):
                raise chunk
            for each in chunk:
                found = scoped.of(each.series, each.uid)
                _look([check for check in found if each.is_meant(check.edit)], each)


def _look(checks: Sequence[_Check], instance: Instance) -> None:
    """Let checks look at an instance, each as the edits before its own leave it."""
    attributes = instance.attributes() if any(check.paths() for check in checks) else {}
    for check in checks:
        check.look_at(instance, attributes)
        if len(checks) > 1:
            attributes = with_edit(attributes, check.edit)


class _Check:
    """Whether the instances of an edit have what it needs; it sees one after another.

    Attributes:
        edit: the edit.
        is_of_instances: whether that depends on them.
    """

    def __init__(self, edit: dict[str, Any], definitions: Definitions) -> None:
        self.edit = edit
        self._definitions = definitions
        paths = [*edit["set"], *edit["remove"]]
        self._in_items = [path for path in paths if "[" in path]
        self._private = dict.fromkeys(path for path in paths if _is_private(path))
        self._of_two = [path for path in edit.get("vrs", ()) if not _is_private(path)]
        self._removed = frozenset(edit["remove"])
        self._gone = self._removed | {path for path in paths if edit["set"].get(path, "") is None}
        self.is_of_instances = bool(
            self._in_items or self._private or self._of_two or "instance" in edit
        )
        self._is_meant = False
        self._there: set[str] = set()
        self._errors: dict[str, DicomStudyError] = {}

    def paths(self) -> list[str]:
        """The paths of which it is not known yet whether they lead to what they need."""
        in_items = [path for path in self._in_items if path not in self._there]
        found = dict.fromkeys((*in_items, *self._private))
        return [path for path in found if path not in self._errors]

    def look_at(self, instance: Instance, attributes: Mapping[str, Any]) -> None:
        """See one of the instances, and the attributes that it has before this edit."""
        self._is_meant = True
        for path in self._of_two:
            self._check_sign(path, instance)
        for path in self.paths():
            structs = structs_on(attributes, parse_path(path))
            if not structs:
                continue
            self._there.add(path)
            try:
                if path in self._private:
                    self._check_creator(path, structs[-1])
            except DicomStudyError as error:
                self._errors[path] = error

    def _check_sign(self, path: str, instance: Instance) -> None:
        """Refuse numbers that a file without VRs cannot have: there they would be others."""
        encoding = instance.encoding
        if encoding is None or any(token.vr for token in layout.parse(encoding["dataSet"])):
            return
        tag = self._definitions.tag(parse_path(path)[-1][0])
        signed = is_signed(instance.attributes().get("PixelRepresentation"))
        vr = vr_of(tag, self._definitions, signed=signed)
        numbers = self.edit["set"][path]
        if {vr, self.edit["vrs"][path]} == {"US", "SS"} and depends_on_sign(numbers):
            message = f"{instance.uid} is written without VRs, where the numbers of {path} are {vr}"
            raise DicomStudyError("change/value", message, tag=tag)

    def _check_creator(self, path: str, struct: Mapping[str, Any]) -> None:
        """Refuse an attribute without its creator, and a creator to go before what it is of."""
        prefix, dot, key = path.rpartition(".")
        tag = self._definitions.tag(key)
        creator = creator_of(tag)
        if path in self._gone and is_creator(tag):
            left = (
                other
                for other in struct
                if prefix + dot + other not in self._removed and _creator_of_key(other) == tag
            )
            if (other := next(left, None)) is not None:
                raise DicomStudyError(
                    "change/no-creator",
                    f"{path} is the private creator of {other}, which is not removed with it "
                    "(PS3.5 section 7.8.1)",
                    tag=tag,
                )
        if path in self.edit["set"] and creator is not None:
            name = self._definitions.keyword(creator)
            where = prefix + dot + name
            if where in self._gone or not self.edit["set"].get(where, struct.get(name)):
                raise DicomStudyError(
                    "change/no-creator",
                    f"{path} needs the private creator ({name[:4]},{name[4:]}), which not every "
                    "instance has: set it too (PS3.5 section 7.8.1)",
                    tag=tag,
                )

    def raise_wrong(self) -> None:
        """Raise what is wrong with the edit, once all instances were seen."""
        if not self._is_meant:
            raise ArchiveError("archive/not-found", "the study has no such instance")
        for path in self._in_items:
            if path not in self._there:
                raise self._errors.get(path) or DicomStudyError(
                    "change/no-item", f"no instance has the item that {path} is in"
                )
        for path in self._private:
            if path in self._errors:
                raise self._errors[path]


def _is_private(path: str) -> bool:
    """Whether a path leads to a private attribute."""
    return private_tag(parse_path(path)[-1][0]) is not None


def _creator_of_key(key: str) -> int | None:
    tag = private_tag(key)  # the key may be that of raw bytes, or of a repeated element
    return None if tag is None else creator_of(tag)
