"""A de-identified archive tells nothing of its source: spec/deidentification.md."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import dicomstudy
from tests import studies
from tests.plants import STUDY, Planter, found_in, haystack

KEY = b"0123456789abcdef"


class Planted:
    """An archive in which everything is planted that is to be removed, and its result."""

    def __init__(self, folder: Path, bulk: str) -> None:
        planter = Planter()
        files = planter.files()
        elsewhere = planter.value("LO", "folder")
        self.files = studies.write_files(folder / elsewhere, files.items())
        nowhere = planter.value("LO", "quarantine").encode()
        studies.write_files(self.files, [("none.dcm", bytes(128) + b"DICM" + nowhere)])
        self.archive = folder / "archive"
        dicomstudy.convert([self.files], self.archive, bulk=bulk)
        old = {path: planter.value("PN", f"edit {path}") for path in ("first", "second")}
        for name in old.values():
            dicomstudy.update(self.archive, STUDY, [{"set": {"PatientName": name}}])
        dicomstudy.update(self.archive, STUDY, [{"set": {"Manufacturer": f"by {old['first']}"}}])
        dicomstudy.delete(self.archive, STUDY, instance="1.2.826.0.1.77005")
        self.planted = planter.planted
        self.before = studies.state_of(self.archive)
        self.report = dicomstudy.deidentify(self.archive, folder / "result", key=KEY)
        self.result = folder / "result"
        dicomstudy.export_tables(self.result, folder / "tables")
        dicomstudy.restore(self.result, folder / "restored")
        self.made = (self.result, folder / "tables", folder / "restored")


@pytest.fixture(scope="module", params=["copy", "reference"])
def planted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return Planted(tmp_path_factory.mktemp("planted"), request.param)


def test_what_is_looked_for_is_in_the_source(planted: Planted, tmp_path: Path) -> None:
    dicomstudy.restore(planted.archive, tmp_path / "changed")
    copy = shutil.copytree(planted.archive, tmp_path / "copy")
    dicomstudy.revert(copy, STUDY, to=1)
    dicomstudy.restore(copy, tmp_path / "as-it-came")
    found = found_in(planted.planted, haystack(planted.archive, *tmp_path.iterdir()))
    assert set(found) == planted.planted.keys()
    assert len(found) > 5000


def test_nothing_that_was_removed_is_in_the_result(planted: Planted) -> None:
    assert planted.report.problems == []
    assert planted.report.instances == 4
    result = haystack(*planted.made)
    assert found_in(planted.planted, result) == []
    assert found_in(planted.planted, planted.report.to_json().encode()) == []
