"""A series that a document names, and that has no instances (spec/study.md)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import dicomstudy
from dicomstudy import ion
from dicomstudy.document import Document, whole
from dicomstudy.show import render
from fixtures import make
from tests import studies

STUDY, EMPTY = make.uid("ct"), "1.2.3"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An archive with a study in its readable form, with a series without instances more."""
    files = [(f"{n}.dcm", make.ct_slice("ct", 1, n)) for n in range(3)]
    dicomstudy.convert([studies.write_files(tmp_path / "in", files)], tmp_path / "archive")
    path = dicomstudy.open_archive(tmp_path / "archive").document_path(STUDY)
    document = Document(path)
    struct = whole(document)
    document.close()
    struct[STUDY]["series"][EMPTY] = {"_groups": [], "instances": {}}
    path.write_bytes(ion.dumps(struct, text=True))
    return tmp_path / "archive"


def test_all_of_the_others_is_read(archive: Path, tmp_path: Path) -> None:
    verified = dicomstudy.verify(archive)
    assert (verified.instances, verified.problems) == (3, [])
    assert dicomstudy.restore(archive, tmp_path / "out").files == 3
    hidden = dicomstudy.deidentify(archive, tmp_path / "hidden")
    assert (hidden.instances, hidden.problems) == (3, [])
    assert dicomstudy.export_tables(archive, tmp_path / "tables").instances == 3
    opened = dicomstudy.open_archive(archive)
    assert EMPTY in "".join(render(opened, STUDY))
    assert len(json.loads("".join(render(opened, STUDY, form="json")))) == 3
    with opened[STUDY] as study:
        assert len(study.series[EMPTY]) == 0


def test_it_takes_in_an_instance(archive: Path, tmp_path: Path) -> None:
    late = make.ct_slice("ct", 2, 1)
    assert dicomstudy.update(archive, STUDY, [{"set": {"PatientID": "X"}}])[-1].number == 2
    dicomstudy.convert([studies.write_files(tmp_path / "late", [("1.dcm", late)])], archive)
    assert dicomstudy.verify(archive).problems == []
    assert dicomstudy.delete(archive, STUDY)[-1].removed == 4
    dicomstudy.revert(archive, STUDY, to=1)
    with dicomstudy.open_archive(archive)[STUDY] as study:
        assert len(study) == 3
