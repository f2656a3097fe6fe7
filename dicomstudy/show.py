"""An archive, study, series or instance as text: a tree to read, text Ion, or JSON.

Nothing here is read back. Whatever the values hold, what comes out has no control characters
but line feeds, so that it can be sent to a terminal.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from struct import iter_unpack
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

from dicomstudy import ion
from dicomstudy.archive import Archive
from dicomstudy.disk import status_of
from dicomstudy.document import whole
from dicomstudy.elements import NUMBER_FORMATS, WORD_SIZES, Form, format_tag
from dicomstudy.errors import UNREADABLE, ArchiveError, DefinitionsError, DicomStudyError
from dicomstudy.layout import Token
from dicomstudy.lineage import Version
from dicomstudy.printable import count, escape, escape_json, escape_strings, size
from dicomstudy.quality import Conflict
from dicomstudy.quarantine import Quarantined
from dicomstudy.record import is_reference
from dicomstudy.study import Instance, Study

__all__ = ["conflicts_text", "history_text", "render"]

_WIDTH = 96
_DIGEST = 12
_INDENT = "  "
#: So many instances of a side of a conflict are named.
_MOST_NAMED = 3

#: Attributes of a study in the DICOM JSON model, as QIDO-RS gives them (PS3.18 Table 10.6.3-3).
_STUDY_KEYWORDS = (
    *("StudyDate", "StudyTime", "AccessionNumber", "PatientName", "PatientID"),
    *("PatientBirthDate", "PatientSex", "StudyID", "StudyDescription"),
)


_Result = TypeVar("_Result")
#: The groups of a study, as `Study.groups` has them.
_Groups: TypeAlias = Mapping[str, Mapping[str, Mapping[str, Any]]]


class _Shown(NamedTuple):
    """What a UID stands for, and the keys of the instances that are or lie in it."""

    kind: Literal["study", "series", "instance"]
    uid: str
    study: Study
    keys: Sequence[str]


def render(
    source: Archive | Study,
    uid: str | None = None,
    *,
    form: str = "text",
    damaged: list[DicomStudyError] | None = None,
) -> Iterator[str]:
    """The text of an archive or study, or of what has `uid` in it, in pieces that end with lines.

    Args:
        source: where to look; a study stays open.
        uid: of a study, series or instance; of all that there is if None.
        form: "text", a tree; "ion", of a study its document as one struct, of an instance the
            struct of its attributes; "json", the DICOM JSON model: of a study or series the
            array of its instances, also of several of one UID, of the archive that of its
            studies (PS3.18 sections F and 10.6); of one instance the object that it is.
        damaged: gets what is wrong with studies that are left out: of an archive those that
            cannot be shown, and folders that cannot be read; of a UID those that cannot be
            looked into.

    Raises:
        ArchiveError: nothing in it has `uid` (``archive/not-found``).
        DicomStudyError: what is to be shown is damaged, or, if nothing has `uid`, a study that
            may have it.
    """
    damaged = [] if damaged is None else damaged
    if isinstance(source, Study):
        yield from _FORMS[form]([_find_in(source, uid)])
        return
    if uid is None:
        yield from _ARCHIVE_FORMS[form](source, damaged)
        return
    found = _find(source, uid, damaged)
    try:
        yield from _FORMS[form](found)
    finally:
        for shown in found:
            shown.study.close()


def history_text(versions: Sequence[Version], *, as_json: bool = False) -> str:
    """The versions of a study as a table, or as JSON with the fields of documents."""
    if as_json:
        listed = [version.to_struct() for version in versions]
        return escape_json(json.dumps(listed, default=repr)) + "\n"
    rows: list[tuple[str, ...]] = [("version", "when", "command", "what")]
    for version in versions:
        to = "" if version.to is None else f" to {version.to}"
        ways = (
            (version.added, " in", version.from_study and f" from {version.from_study}"),
            (version.removed, " out", version.to_study and f" to {version.to_study}"),
        )
        what = [count(number, "instance") + way + other for number, way, other in ways if number]
        what += [", ".join(version.groups)] if version.groups else []
        command = version.command + to
        texts = (version.when, command, "; ".join(what))
        rows.append((str(version.number), *map(escape, texts)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join(lines) + "\n"


def conflicts_text(conflicts: Sequence[Conflict], *, as_json: bool = False) -> str:
    """Conflicts as a table for each, or as JSON."""
    if as_json:
        listed = [_conflict_json(conflict) for conflict in conflicts]
        return escape_json(json.dumps(listed, indent=2, default=bytes.hex)) + "\n"
    return "".join(line + "\n" for conflict in conflicts for line in _conflict_text(conflict))


def _conflict_text(conflict: Conflict) -> Iterator[str]:
    where = "" if conflict.series is None else f"series {escape(conflict.series)} "
    differences = conflict.differences
    yield f"study {escape(conflict.study)} {where}has {len(conflict.sides)} of {conflict.group}"
    for at, side in enumerate(conflict.sides):
        keys = ", ".join(map(escape, side.instances[:_MOST_NAMED]))
        more = len(side.instances) - _MOST_NAMED
        yield (
            f"{_INDENT}{_short(side.digest)}  {count(len(side.instances), 'instance')}: {keys}"
            + (f" and {more:,} more" if more > 0 else "")
        )
        for key, values in differences.items():
            value = "(absent)" if key not in side.content else _value_text(values[at])
            yield f"{_INDENT * 2}{escape(key)}  {value}"


def _conflict_json(conflict: Conflict) -> dict[str, Any]:
    differences = conflict.differences
    return {
        "study": conflict.study,
        "series": conflict.series,
        "group": conflict.group,
        "sides": [
            {
                "digest": side.digest,
                "instances": list(side.instances),
                "values": {key: side.content[key] for key in differences if key in side.content},
            }
            for side in conflict.sides
        ],
    }


def _short(digest: str) -> str:
    """The start of a digest; a document may have any text as one."""
    return escape(digest[:_DIGEST])


def _find(archive: Archive, uid: str, damaged: list[DicomStudyError]) -> list[_Shown]:
    found = [_shown(uid, study, keys) for study, keys in archive.find(uid, damaged=damaged)]
    if not found:
        raise _not_found("study, series or instance of the archive", uid, archive.path)
    return found


def _find_in(study: Study, uid: str | None) -> _Shown:
    """The study itself, or what has the UID in it."""
    if uid is None or uid == study.uid:
        return _shown(study.uid, study, list(study))
    keys = study.keys_of(uid)
    if not keys:
        raise _not_found("series or instance of the study", uid, study.path)
    return _shown(uid, study, keys)


def _shown(uid: str, study: Study, keys: Sequence[str]) -> _Shown:
    if study.uid == uid:
        return _Shown("study", uid, study, keys)
    return _Shown("series" if uid in study.series else "instance", uid, study, keys)


def _not_found(what: str, uid: str, path: Path) -> ArchiveError:
    message = f"no {what} has the UID {uid}"
    return ArchiveError("archive/not-found", message, source=str(path))


def _of_each(
    archive: Archive, show: Callable[[Study], _Result], damaged: list[DicomStudyError]
) -> Iterator[_Result]:
    """Every study as `show` shows it; those where it cannot go to `damaged`."""
    for _, study in archive.studies():
        if isinstance(study, DicomStudyError):
            damaged.append(study)
            continue
        try:
            with study:
                shown = show(study)
        except DicomStudyError as error:
            damaged.append(error)
        else:
            yield shown


# Text


def _archive_text(archive: Archive, damaged: list[DicomStudyError]) -> Iterator[str]:
    quarantined: list[Quarantined] = []
    try:
        quarantined += archive.quarantined()
    except ArchiveError as error:
        if error.code not in UNREADABLE:
            raise
        damaged.append(error)
    kept = f", {len(quarantined)} in quarantine" if quarantined else ""
    there = sum(1 for _, unreadable in archive.listing() if unreadable is None)
    yield f"archive {escape(str(archive.path))}: {count(there, 'study', 'studies')}{kept}\n"
    yield from _of_each(archive, lambda study: "".join(_study_head(study, _INDENT)), damaged)
    for file in quarantined:
        yield f"{_INDENT}quarantined {_short(file.sha256)}, {size(file.size)}\n"
        yield f"{_INDENT * 2}{escape(file.uri)}\n"
        yield f"{_INDENT * 2}{escape(file.code)}: {escape(file.message)}\n"


def _study_head(study: Study, indent: str) -> Iterator[str]:
    groups = study.groups
    yield f"{indent}study {escape(study.uid)}\n"
    yield f"{indent}{_INDENT}{' | '.join(_patients(groups))}\n"
    yield f"{indent}{_INDENT}{_study_facts(groups)}\n"
    yield f"{indent}{_INDENT}{_extent(study)}\n"


def _extent(study: Study) -> str:
    there = None if study.bulk_path is None else status_of(study.bulk_path)
    stored = "" if there is None else f" and {size(there.st_size)} of large values"
    return (
        f"{count(len(study.series), 'series', 'series')}, {count(len(study), 'instance')}; "
        f"document of {size(study.document.size)}{stored}"
    )


def _patients(groups: _Groups) -> list[str]:
    """Every patient of a study, as one line; there should be one."""
    patients = {
        f"{_fact(each, 'PatientName') or '(no name)'}  {_fact(each, 'PatientID') or '(no ID)'}"
        for each in groups.get("patient", {}).values()
    }
    return sorted(patients) or ["(no patient)"]


def _study_facts(groups: _Groups) -> str:
    facts = [_all(groups, "generalSeries", "Modality")]
    facts += [_all(groups, "generalStudy", key) for key in ("StudyDate", "StudyDescription")]
    return "  ".join(fact for fact in facts if fact) or "(nothing known of it)"


def _all(groups: _Groups, name: str, keyword: str) -> str:
    """All values that an attribute has in the groups of a name."""
    values = {_fact(content, keyword) for content in groups.get(name, {}).values()}
    return ", ".join(sorted(values - {""}))


def _fact(attributes: Mapping[str, Any], keyword: str) -> str:
    """The value of an attribute as a part of a line; empty if there is none."""
    value = attributes.get(keyword)
    return "" if value is None else _value_text(value)


def _text(found: Sequence[_Shown]) -> Iterator[str]:
    for kind, uid, study, keys in found:
        if kind == "study":
            yield from _study_text(study)
        elif kind == "series":
            yield from _series_text(study, uid, keys)
        else:
            for key in keys:
                yield from _instance_text(study[key])


def _study_text(study: Study) -> Iterator[str]:
    yield from _study_head(study, "")
    yield from _groups_text(study)
    for uid, keys in study.series.items():
        yield from _series_head(study, uid, keys, _INDENT)


def _groups_text(study: Study) -> Iterator[str]:
    yield f"{_INDENT}groups\n"
    for name, contents in study.groups.items():
        digests = ", ".join(
            f"{_short(digest)} ({len(content)})" for digest, content in contents.items()
        )
        yield from _wrapped(f"{_INDENT * 2}{escape(name)}  ", digests)


def _wrapped(start: str, listed: str) -> Iterator[str]:
    """A list that is cut where it grows longer than some lines."""
    longest = 3 * _WIDTH
    if len(listed) > longest:
        cut = listed.rindex(", ", 0, longest)
        listed = f"{listed[:cut]}, ... {listed.count(', ', cut):,} more"
    yield f"{start}{listed}\n"


def _series_head(study: Study, uid: str, keys: Sequence[str], indent: str) -> Iterator[str]:
    yield f"{indent}series {escape(uid)}\n"
    attributes = study[keys[0]].attributes() if keys else {}
    words = [_fact(attributes, key) for key in ("Modality", "SeriesNumber", "SeriesDescription")]
    facts = "  ".join(filter(None, words))
    yield f"{indent}{_INDENT}{facts}{'; ' if facts else ''}{count(len(keys), 'instance')}\n"


def _series_text(study: Study, uid: str, keys: Sequence[str]) -> Iterator[str]:
    yield from _series_head(study, uid, keys, "")
    yield f"{_INDENT}of study {escape(study.uid)}\n"
    for key in keys:
        instance = study[key]
        number = _fact(instance.attributes(), "InstanceNumber")
        length = instance.source.size
        known = "" if length is None else f"  {size(length)}"
        label = f"  no. {number}" if number else ""
        yield f"{_INDENT}instance {escape(key)}{label}{known}\n"


def _instance_text(instance: Instance) -> Iterator[str]:
    source = instance.source
    yield f"instance {escape(instance.uid)}\n"
    yield f"{_INDENT}of series {escape(instance.series)}\n"
    yield f"{_INDENT}of study {escape(instance.study.uid)}\n"
    yield f"{_INDENT}from {escape(source.uri) or '(unknown)'}\n"
    if source.sha256 is not None and source.size is not None:
        yield f"{_INDENT}{size(source.size)}, SHA-256 {escape(source.sha256)}\n"
    yield from (
        f"{_INDENT}other content of the same UID: {escape(key)}\n"
        for key in instance.study.series[instance.series]
        if key != instance.key and key.partition("#")[0] == instance.uid
    )
    for digest, name, content in instance.groups:
        yield f"{_INDENT}group {escape(name)} {_short(digest)} ({len(content)})\n"
    encoding = instance.encoding
    encoder = instance.study.encoder
    tokens: dict[str, Token] = {}
    if encoding is not None:
        tokens = {key: token for key, (token, _) in encoder.plan(encoding).tokens.items()}
    yield from _attributes_text(instance, instance.metadata(), tokens, _INDENT)


def _attributes_text(
    instance: Instance, attributes: Mapping[str, Any], tokens: Mapping[str, Token], indent: str
) -> Iterator[str]:
    definitions = instance.study.definitions
    for key, value in attributes.items():
        token = tokens.get(key)
        try:
            tag = definitions.tag(key) if token is None else token.tag
        except DefinitionsError:
            yield f"{indent}{escape(key)}  {_value_text(value)}\n"
            continue
        vr = token.vr if token is not None and token.vr else definitions.vr(tag)
        attribute = definitions.attribute(tag)
        name = "" if attribute is None else f" {attribute.keyword}"
        start = f"{indent}({tag >> 16:04X},{tag & 0xFFFF:04X}) {escape(vr)}{escape(name)}"
        if not isinstance(value, list):
            yield f"{start}  {_value_text(value, vr)}\n"
            continue
        yield f"{start}  {count(len(value), 'item')}\n"
        layouts = () if token is None or token.items is None else token.items
        for at, item in enumerate(value):
            inner = layouts[at].tokens if at < len(layouts) else ()
            by_key = {
                definitions.keyword(each.tag): each
                for each in inner
                if not each.occurrence and each.form is not Form.GROUP_LENGTH
            }
            yield f"{indent}{_INDENT}item {at + 1}\n"
            yield from _attributes_text(instance, item, by_key, indent + _INDENT * 2)


def _value_text(value: object, vr: str = "") -> str:
    """A value on one line, shortened if it is long; several numbers between backslashes."""
    if value is None:
        return "(empty)"
    if isinstance(value, bytes) and vr in NUMBER_FORMATS and not len(value) % WORD_SIZES[vr]:
        numbers = iter_unpack("<" + NUMBER_FORMATS[vr], value)
        value = "\\".join(str(number) for (number,) in numbers)
    if isinstance(value, bytes):
        start = value[:16].hex(" ")
        return f"{size(len(value))}: {start}{' ...' if len(value) > 16 else ''}"
    if is_reference(value):
        digest = value.get("sha256")
        named = f", SHA-256 {_short(digest)}" if isinstance(digest, str) else ""
        return f"{size(value['length'])} apart{named}"
    text = escape(str(value))
    return text if len(text) <= _WIDTH else f"{text[:_WIDTH]}... ({len(str(value)):,} characters)"


# Ion


def _archive_ion(archive: Archive, damaged: list[DicomStudyError]) -> Iterator[str]:
    return _of_each(archive, lambda study: _ion_text({study.uid: _summary(study)}), damaged)


def _summary(study: Study) -> dict[str, Any]:
    groups = study.groups
    return {
        **{name: dict(groups[name]) for name in ("patient", "generalStudy") if name in groups},
        "series": {uid: len(keys) for uid, keys in study.series.items()},
    }


def _ion(found: Sequence[_Shown]) -> Iterator[str]:
    for kind, _, study, keys in found:
        if kind == "study":
            yield _ion_text(whole(study.document))
        elif kind == "instance" and len(keys) == 1:
            yield _ion_text(study[keys[0]].attributes())
        else:
            for key in keys:
                yield _ion_text({key: study[key].attributes()})


def _ion_text(value: dict[str, Any]) -> str:
    text = ion.dumps(value, text=True).decode().rstrip("\n") + "\n"
    return escape_strings(text, lambda character: f"\\U{ord(character):08x}")


# The DICOM JSON model


def _archive_json(archive: Archive, damaged: list[DicomStudyError]) -> Iterator[str]:
    return _array(_of_each(archive, _study_json, damaged))


def _study_json(study: Study) -> dict[str, Any]:
    """The attributes of a study, and how many series and instances it has."""
    definitions = study.definitions
    first = next(iter(study.values())).to_json() if len(study) else {}
    result = {tag: first.get(tag) for tag in map(format_tag, map(definitions.tag, _STUDY_KEYWORDS))}
    modalities = _modalities(study)
    result["00080061"] = {"vr": "CS", "Value": modalities} if modalities else {"vr": "CS"}
    result["0020000D"] = {"vr": "UI", "Value": [study.uid]}
    result["00201206"] = {"vr": "IS", "Value": [len(study.series)]}
    result["00201208"] = {"vr": "IS", "Value": [len(study)]}
    return {tag: element for tag, element in sorted(result.items()) if element is not None}


def _modalities(study: Study) -> list[str]:
    """Every Modality of a study; large ones are read, with the instances that have them."""
    contents = study.groups.get("generalSeries", {}).values()
    said = [content.get("Modality") for content in contents]
    if any(isinstance(value, dict) for value in said):
        for instance in study.values():
            said += instance.to_json().get("00080060", {}).get("Value", ())
    return sorted({value for value in said if isinstance(value, str) and value})


def _json(found: Sequence[_Shown]) -> Iterator[str]:
    models = (study[key].to_json() for _, _, study, keys in found for key in keys)
    if [(shown.kind, len(shown.keys)) for shown in found] == [("instance", 1)]:
        yield _json_text(next(models)) + "\n"
    else:
        yield from _array(models)


def _array(values: Iterator[dict[str, Any]]) -> Iterator[str]:
    separator = "["
    for value in values:
        yield f"{separator}\n{_json_text(value)}"
        separator = ","
    yield "[]\n" if separator == "[" else "\n]\n"


def _json_text(value: dict[str, Any]) -> str:
    """A data set, one attribute a line."""
    lines = [f'  "{tag}": {json.dumps(each, ensure_ascii=False)}' for tag, each in value.items()]
    text = "{\n" + ",\n".join(lines) + "\n}"
    return escape_json(text)


_ARCHIVE_FORMS = {"text": _archive_text, "ion": _archive_ion, "json": _archive_json}
_FORMS = {"text": _text, "ion": _ion, "json": _json}
