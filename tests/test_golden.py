"""Records and studies of the seed projects, by their authors, from real files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import dicomstudy
from dicomstudy import definitions, ion
from dicomstudy.study import Study

STUDIES = ["CR", "CT", "DX", "MG", "RF"]


def published(document: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The content of every group of a document of one struct, by name and digest."""
    whole = ion.loads(document.read_bytes())
    assert isinstance(whole, dict)
    (study,) = whole.values()
    return {
        (name, digest): content
        for name, contents in study["groups"].items()
        for digest, content in contents.items()
    }


def digests(archive: Path) -> set[tuple[str, str]]:
    """Name and digest of every group of an archive."""
    return {
        (name, digest)
        for study in dicomstudy.open_archive(archive).values()
        for name, contents in study.groups.items()
        for digest in contents
    }


@pytest.fixture
def study_document(shared: Path, request: pytest.FixtureRequest) -> Path:
    """The document that dicom-study-builder-js wrote."""
    return shared / f"golden/study/ClearCanvas/{request.param}Study/study.ion"


def test_every_digest_of_the_sample_recomputes(shared: Path) -> None:
    groups = published(shared / "golden/study/sample.ion")
    assert len(groups) == 8
    for (_, digest), content in groups.items():
        assert ion.ion_hash_hex(content) == digest


@pytest.mark.parametrize("study_document", STUDIES, indirect=True)
def test_every_published_digest_recomputes(study_document: Path) -> None:
    for (_, digest), content in published(study_document).items():
        assert ion.ion_hash_hex(content) == digest


@pytest.mark.parametrize("study_document", STUDIES, indirect=True)
def test_published_documents_open_as_studies(study_document: Path) -> None:
    groups = published(study_document)
    with Study(study_document, definitions=definitions.load()) as study:
        assert {(name, digest) for name in study.groups for digest in study.groups[name]} == set(
            groups
        )
        for uid, instance in study.items():
            metadata = instance.metadata()
            assert metadata["SOPInstanceUID"] == uid
            assert metadata["StudyInstanceUID"] == study.uid
            assert metadata["SeriesInstanceUID"] == instance.series
            assert instance.to_json()["00080018"] == {"vr": "UI", "Value": [uid]}


@pytest.mark.parametrize("pattern", ["*.dcm.ion", "*.dcm.text.ion"], ids=["binary", "text"])
@pytest.mark.parametrize("modality", STUDIES)
def test_records_give_every_published_digest(
    modality: str, pattern: str, shared: Path, tmp_path: Path
) -> None:
    folder = f"ClearCanvas/{modality}Study"
    records = sorted((shared / "golden/sopInstance" / folder).glob(pattern))
    assert records
    report = dicomstudy.convert(records, tmp_path / "archive")
    assert (report.instances, report.problems) == (len(records), [])
    wanted = set(published(shared / "golden/study" / folder / "study.ion"))
    assert wanted - digests(tmp_path / "archive") == set()


@pytest.mark.parametrize(("modality", "count"), [("CT", 13), ("RF", 19)])
def test_files_give_every_published_digest(
    modality: str, count: int, shared: Path, tmp_path: Path
) -> None:
    folder = f"ClearCanvas/{modality}Study"
    report = dicomstudy.convert([shared / "corpus/dagcom" / folder], tmp_path / "archive")
    assert report.problems == []
    wanted = set(published(shared / "golden/study" / folder / "study.ion"))
    assert len(wanted) == count
    assert wanted - digests(tmp_path / "archive") == set()


def test_instances_of_records_say_that_they_have_no_file(shared: Path, tmp_path: Path) -> None:
    records = sorted((shared / "golden/sopInstance/ClearCanvas/CRStudy").glob("*.dcm.ion"))
    dicomstudy.convert(records, tmp_path / "archive")
    (study,) = dicomstudy.open_archive(tmp_path / "archive").values()
    for instance in study.values():
        assert instance.encoding is None
        with pytest.raises(dicomstudy.RecordError) as raised:
            instance.to_p10()
        assert raised.value.code == "record/no-encoding"


def test_groups_do_not_depend_on_the_encoding(shared: Path, tmp_path: Path) -> None:
    """One image in implicit, explicit and big-endian encoding."""
    variants = shared / "corpus/dagcom/encoding-variants/transfer-syntax"
    report = dicomstudy.convert([variants], tmp_path / "archive")
    assert (report.instances, report.problems) == (3, [])
    (study,) = dicomstudy.open_archive(tmp_path / "archive").values()
    found = [{(name, digest) for digest, name, _ in i.groups} for i in study.values()]
    syntaxes = {instance.attributes()["TransferSyntaxUID"] for instance in study.values()}
    assert len(syntaxes) == 3
    common = set.intersection(*found)
    assert {name for name, _ in set.union(*found) - common} <= {"imagePixel", "encoding", "raw"}
    written_by = {"ImplementationClassUID", "ImplementationVersionName", "PixelData"}
    first, *others = (
        {key: value for key, value in instance.own.items() if key not in written_by}
        for instance in study.values()
    )
    assert others == [first, first]
