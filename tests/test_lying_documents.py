"""Documents that lie in one field: whatever is done with them, what is raised is an error of ours.

Whoever has an editor can change a document: its frames are protected by no digest.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple
from unittest import mock

import pytest

import dicomstudy
from dicomstudy import ion
from dicomstudy.document import Document, whole, writer
from dicomstudy.document.writer import Frames
from dicomstudy.errors import DicomStudyError
from dicomstudy.show import render
from dicomstudy.study import Instance
from fixtures import make
from tests import studies
from tests.samples import LONG, chance_of

#: Documents that are tried, and operations that each of them is tried with.
LIES, TRIALS = (4000, 12) if LONG else (25, 4)
CT, SOUND, FOREIGN = make.uid("ct"), make.uid("sound"), "1.2"
US = "2.25.261738478028641128058988189778827226446"
#: Values of all Ion types that documents have; the last one stands for none at all.
VALUES: tuple[Any, ...] = (
    *(None, True, 0, 5, -1, 1 << 70, 1.5, "", "x", "1.2", b"x", [], [5], ["x"], [[]], [{}]),
    *({}, {"a": 1}, {"a": {}}, {"length": 5}, {"length": "x", "sha256": "x"}),
    *({"length": 5, "sha256": "x"}, {"length": 5, "dataOffset": 5}, ...),
)
#: The place of a field in the values of a document.
Place = tuple[str | int, ...]


class Lie(NamedTuple):
    """A document as the list of its values, and which field of them is another."""

    uid: str
    values: list[Any]
    place: Place
    value: Any

    def written(self) -> bytes:
        told = copy.deepcopy(self.values)
        inner: Any = told
        for step in self.place[:-1]:
            inner = inner[step]
        if self.value is ...:
            del inner[self.place[-1]]
        else:
            inner[self.place[-1]] = self.value
        if len(told) == 1:
            return ion.dumps(told[0])
        frames = Frames()
        return b"".join([*map(frames.add, told), frames.table()])


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an archive of studies with a past, and with files for them."""
    folder = tmp_path_factory.mktemp("honest")
    files = studies.write_fixtures(folder / "files") / "archive"
    studies.write_files(
        folder / "sound", ((f"{n}.dcm", make.ct_slice("sound", 1, n)) for n in range(3))
    )
    studies.write_files(folder / "late", [("1.dcm", make.ct_slice("ct", 2, 77))])
    record = {
        "sourceInfo": {"uri": "file:///nowhere/1.dcm"},
        "fileInfo": {"sha256": "0123456789abcdef" * 4},
        "dataSet": {
            "StudyInstanceUID": FOREIGN,
            "SeriesInstanceUID": "1.3",
            "SOPInstanceUID": "1.4",
            "00091010": b"x",
            "_vrs": {"00091010": "LO"},
            "PatientID": "X",
        },
    }
    (folder / "foreign.ion").write_bytes(ion.dumps(record))
    archive = folder / "archive"
    with mock.patch.object(writer, "CHUNK_INSTANCES", 3):
        dicomstudy.convert([files / "ct/bone", files / "us"], archive, bulk="reference")
        dicomstudy.convert([files / "ct", folder / "sound", folder / "foreign.ion"], archive)
        with dicomstudy.open_archive(archive)[SOUND] as study:
            moved = next(iter(study))
        dicomstudy.update(archive, SOUND, [{"set": {"PatientName": "Grün^山"}}])
        dicomstudy.move(archive, SOUND, instance=moved, to_study=CT)
        items = {"RequestAttributesSequence": [{"StudyInstanceUID": SOUND}]}
        dicomstudy.update(archive, CT, [{"set": {"PatientID": "X"} | items}])
        with dicomstudy.open_archive(archive)[CT] as study:
            gone = list(study)[3]
        dicomstudy.delete(archive, CT, instance=gone)
        dicomstudy.update(archive, US, [{"set": {"PatientID": "Y"}}])
    return folder


def documents_of(archive: Path) -> Iterator[tuple[str, list[Any]]]:
    """The values of each document, and of the struct that it may be as well."""
    for uid in (CT, US, FOREIGN):
        document = Document(dicomstudy.open_archive(archive).document_path(uid))
        yield uid, [document._value(at) for at in range(len(document._frames))]
        yield uid, [ion.loads(ion.dumps(whole(document)))]
        document.close()


def lie_about(uid: str, values: list[Any], chance: Random) -> Lie:
    """A lie anywhere in a document, near the top as often as deep inside."""
    place: list[str | int] = []
    inner: Any = values
    while type(inner) in {list, dict} and inner and (len(place) < 2 or chance.random() < 0.8):
        steps: list[str | int] = list(inner) if type(inner) is dict else [*range(len(inner))]
        place.append(chance.choice(steps))
        inner = inner[place[-1]]
    others = [value for value in VALUES if type(value) is not type(inner)]
    return Lie(uid, values, tuple(place), chance.choice(others))


def shown(form: str) -> Callable[[Path, str], object]:
    def show(folder: Path, uid: str) -> None:
        opened = dicomstudy.open_archive(folder / "archive")
        list(render(opened, form=form))
        list(render(opened, uid, form=form))

    return show


def of_each(look: Callable[[Instance], object]) -> Callable[[Path, str], object]:
    def look_at_each(folder: Path, uid: str) -> None:
        with dicomstudy.open_archive(folder / "archive")[uid] as study:
            for instance in study.values():
                look(instance)

    return look_at_each


def looked_at(folder: Path, uid: str) -> None:
    with dicomstudy.open_archive(folder / "archive")[uid] as study:
        _ = study.digest, study.groups, study.history, study.series, repr(study), study.has_past
        _ = list(study), list(study.places()), study.keys_of("1.2#a"), whole(study.document)


def ended(folder: Path, _: str) -> None:
    archive = folder / "archive"
    for found in dicomstudy.conflicts(archive):
        keep = found.sides[0].digest
        dicomstudy.resolve(archive, found.study, group=found.group, keep=keep, series=found.series)


def tried(function: Callable[..., object], *arguments: Any, **fields: Any) -> Any:
    """An operation on an archive, or on a study of it if `UID` is among the arguments."""

    def operate(folder: Path, uid: str) -> None:
        def filled(value: Any) -> Any:
            if isinstance(value, Path):
                return folder / value
            return uid if value is UID else value

        given = {name: filled(value) for name, value in fields.items()}
        function(*map(filled, arguments), **given)

    return operate


UID = object()
ARCHIVE = Path("archive")
EDITS = [
    {"set": {"PatientName": "B^C", "RequestAttributesSequence[0].StudyInstanceUID": "1.2"}},
    {"set": {"PatientName": "B^C", "StudyDescription": "é"}},
    {"set": {"InstanceNumber": "5"}, "instance": "1.4"},
]
OPERATIONS: dict[str, Callable[[Path, str], object]] = {
    "verify": tried(dicomstudy.verify, ARCHIVE),
    "restore": tried(dicomstudy.restore, ARCHIVE, Path("out")),
    "restore originals": tried(dicomstudy.restore, ARCHIVE, Path("out"), original=True),
    "restore one": tried(dicomstudy.restore, ARCHIVE, Path("out"), study=UID, instance="1.4#a"),
    "show text": shown("text"),
    "show Ion": shown("ion"),
    "show JSON": shown("json"),
    "look": looked_at,
    "metadata": of_each(Instance.metadata),
    "JSON": of_each(Instance.to_json),
    "file": of_each(Instance.to_p10),
    "frames": of_each(lambda instance: list(instance.frames())),
    "tables": tried(dicomstudy.export_tables, ARCHIVE, Path("tables")),
    "de-identify": tried(dicomstudy.deidentify, ARCHIVE, Path("hidden")),
    "conflicts": tried(dicomstudy.conflicts, ARCHIVE),
    "history": tried(dicomstudy.history, ARCHIVE, UID),
    "update an item": tried(dicomstudy.update, ARCHIVE, UID, EDITS[:1]),
    "update": tried(dicomstudy.update, ARCHIVE, UID, EDITS[1:2]),
    "update one": tried(dicomstudy.update, ARCHIVE, UID, EDITS[2:]),
    "delete one": tried(dicomstudy.delete, ARCHIVE, UID, instance="1.4"),
    "delete": tried(dicomstudy.delete, ARCHIVE, UID),
    "revert": tried(dicomstudy.revert, ARCHIVE, UID, to=1),
    "merge into": tried(dicomstudy.merge, ARCHIVE, SOUND, into=UID),
    "merge": tried(dicomstudy.merge, ARCHIVE, UID, into=SOUND),
    "split": tried(dicomstudy.split, ARCHIVE, UID, series=[make.uid("ct/1")]),
    "resolve": ended,
    "collect": tried(dicomstudy.collect, ARCHIVE, remove=True),
    "collect all": tried(dicomstudy.collect, ARCHIVE, older_versions=True, remove=True),
    "convert": lambda folder, _: dicomstudy.convert([folder / "late"], folder / "archive"),
    "convert again": lambda folder, _: dicomstudy.convert([folder / "files"], folder / "archive"),
}


def assert_refused_or_done(lie: Lie, name: str, honest: Path, folder: Path) -> None:
    """The operation works, or raises an error of ours; one of a document has its path."""
    shutil.copytree(honest, folder)
    path = dicomstudy.open_archive(folder / "archive").document_path(lie.uid)
    path.write_bytes(lie.written())
    source = str(path)
    try:
        OPERATIONS[name](folder, lie.uid)
    except DicomStudyError as error:
        if error.code in {"study/damaged", "study/not-a-study"}:
            source = str(error.location.source)
    except Exception as error:
        error.add_note(f"{name} where {lie.place} is {lie.value!r}")
        raise
    assert source == str(path), (name, lie.place, lie.value)
    shutil.rmtree(folder)


@pytest.mark.timeout(30_000 if LONG else 300)
def test_documents_that_lie_are_refused(honest: Path, tmp_path: Path) -> None:
    chance = chance_of(5)
    documents = list(documents_of(honest / "archive"))
    for _ in range(LIES):
        lie = lie_about(*chance.choice(documents), chance)
        for name in chance.sample(sorted(OPERATIONS), TRIALS):
            assert_refused_or_done(lie, name, honest, tmp_path / "trial")


def place_of(name: str, inner: Any, place: Place = ()) -> Place | None:
    """The place of the first field of this name."""
    steps = inner.items() if type(inner) is dict else enumerate(inner)
    for step, value in steps:
        if step == name:
            return (*place, step)
        if type(value) in {list, dict} and (found := place_of(name, value, (*place, step))):
            return found
    return None


@pytest.mark.parametrize(
    ("uid", "name", "value", "operation"),
    [
        (CT, "meta", [5], "verify"),
        (CT, "meta", 5, "look"),
        (CT, "dataSet", ..., "file"),
        (US, "dataSet", {"length": 5, "sha256": "x"}, "update"),
        (CT, "byteOrder", {"length": 5, "sha256": "x"}, "de-identify"),
        (CT, "preamble", ..., "de-identify"),
        (CT, "SpecificCharacterSet", {"length": "x", "sha256": "x"}, "show JSON"),
        (CT, "SpecificCharacterSet", {"length": 5, "sha256": "x"}, "de-identify"),
        (CT, "SOPClassUID", [5], "metadata"),
        (CT, "StudyDate", ["x"], "de-identify"),
        (CT, "SOPInstanceUID", [5], "merge into"),
        (CT, "PixelData", {"length": 5}, "JSON"),
        (US, "dataOffset", "x", "file"),
        (US, "length", "x", "verify"),
        (US, "uri", 5, "restore"),
        (US, "size", "x", "restore"),
        (US, "size", "x", "de-identify"),
        (US, "modified", "x", "collect all"),
        (FOREIGN, "_vrs", ["x"], "metadata"),
        (FOREIGN, "_vrs", {"00091010": 5}, "show text"),
        (CT, "versions", 5, "history"),
        (CT, "bulkLength", 1 << 63, "tables"),
        (US, "bulkFile", 1 << 63, "tables"),
    ],
)
def test_lies_of_once_are_refused(
    uid: str, name: str, value: object, operation: str, honest: Path, tmp_path: Path
) -> None:
    tried_of = [values for found, values in documents_of(honest / "archive") if found == uid]
    for number, values in enumerate(tried_of):
        place = (0, name) if name == "bulkFile" else place_of(name, values)
        assert place is not None
        lie = Lie(uid, values, place, value)
        assert_refused_or_done(lie, operation, honest, tmp_path / str(number))


def test_what_does_not_lie_is_done(honest: Path, tmp_path: Path) -> None:
    """So that the operations above do something."""
    refused = {}
    for number, (name, operation) in enumerate(OPERATIONS.items()):
        shutil.copytree(honest, tmp_path / str(number))
        try:
            operation(tmp_path / str(number), CT)
        except DicomStudyError as error:
            refused[name] = error.code
    assert refused == {
        "restore one": "archive/not-found",
        "frames": "study/frames",
        "update one": "archive/not-found",
        "delete one": "archive/not-found",
    }
