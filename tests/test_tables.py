"""An archive ↔ its tables: spec/tables.md, the laws, the folder and the errors."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pydicom
import pytest
from hypothesis import given

import dicomstudy
from dicomstudy.archive import create
from dicomstudy.clustering import Clustered
from dicomstudy.errors import (
    ArchiveError,
    TableError,
)
from dicomstudy.grouping import Batch
from dicomstudy.meanwhile import Seen
from dicomstudy.tables import catalog, export, parquet, rebuilding, writer
from dicomstudy.tables.star import StudyRows, Tabulator, rebuild
from fixtures import make
from tests import studies
from tests.samples import chance_of
from tests.strategies import DEFINITIONS

PART_TABLES = ["instances", "series", "studies", "frames", "bulk"]


def rows_of(folder: Path) -> dict[str, list[str]]:
    """All rows of all tables in some order, without nulls."""
    found = {}
    with dicomstudy.open_tables(folder) as tables:
        for name, table in tables.items():
            rows = table.to_table().to_pylist()
            found[name] = sorted(
                repr(
                    sorted((key, _plain(value)) for key, value in row.items() if value is not None)
                )
                for row in rows
            )
    return found


def _plain(value: object) -> object:
    """A value without fields that are null, which come with other studies."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in sorted(value.items()) if item is not None}
    return value


def documents_of(archive: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in dicomstudy.open_archive(archive).documents()}


def test_documents_come_back_and_files_from_them(
    archive: Path, tables_folder: Path, tmp_path: Path
) -> None:
    with dicomstudy.open_tables(tables_folder) as tables:
        assert tables.to_archive(tmp_path / "again") == len(dicomstudy.open_archive(archive))
    assert studies.digests_of(tmp_path / "again") == studies.digests_of(archive)
    verified = dicomstudy.verify(tmp_path / "again")
    assert verified.problems == []
    assert verified.instances > 50
    shutil.rmtree(archive.parent / "restored", ignore_errors=True)
    for name in (archive, tmp_path / "again"):
        dicomstudy.restore(name, tmp_path / f"files of {name.name}")
    shutil.rmtree(tmp_path / f"files of {archive.name}" / "quarantine")
    restored = studies.state_of(tmp_path / "files of again")
    assert restored == studies.state_of(tmp_path / f"files of {archive.name}")


def test_documents_come_back_byte_for_byte(
    archive: Path, tables_folder: Path, tmp_path: Path
) -> None:
    with dicomstudy.open_tables(tables_folder) as tables:
        tables.to_archive(tmp_path / "again")
    again, before = documents_of(tmp_path / "again"), documents_of(archive)
    different = [name for name in before if again[name] != before[name]]
    assert len(different) <= 2  # an item whose attributes are not in the order of tags


def test_few_groups_at_a_time_are_rebuilt_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are those of so many instances, or of one study; the rest of a part waits."""
    for table, name in ((parquet, "GROUP_ROWS"), (rebuilding, "_WINDOW")):
        monkeypatch.setattr(table, name, 3)
    files = [
        (f"{study}-{number}.dcm", make.ct_slice(f"a{study}", 1, number))
        for study in range(12)
        for number in range(1, 6 if study == 7 else 2)
    ]
    folder, archive = studies.write_files(tmp_path / "in", files), tmp_path / "archive"
    dicomstudy.convert([folder], archive)
    held: list[int] = []

    def counted(rows: StudyRows, groups: dict[str, Any], *rest: Any) -> Clustered:
        held.append(len(groups))
        return rebuild(rows, groups, *rest)

    monkeypatch.setattr(rebuilding, "rebuild", counted)
    with dicomstudy.open_archive(archive).tables() as tables:
        assert tables.to_archive(tmp_path / "again") == 12
    assert documents_of(tmp_path / "again") == documents_of(archive)
    most = max(
        sum(map(len, study.groups.values())) for study in dicomstudy.open_archive(archive).values()
    )
    assert len(held) == 12
    assert max(held) < 2 * most


def test_values_that_stay_in_their_files_are_found_again(tmp_path: Path) -> None:
    files = studies.write_fixtures(tmp_path / "files")
    dicomstudy.convert([files], tmp_path / "archive", bulk="reference")
    with dicomstudy.open_archive(tmp_path / "archive").tables() as tables:
        tables.to_archive(tmp_path / "again")
    assert studies.digests_of(tmp_path / "again") == studies.digests_of(tmp_path / "archive")
    assert dicomstudy.verify(tmp_path / "again").problems == []


def test_an_archive_that_is_open_has_its_own_sources(tmp_path: Path) -> None:
    comment = make.element(0x00204000, "LT", b"\xfc" * 300)
    charset = make.element(0x00080005, "CS", "ISO_IR 100")
    name = make.element(0x00100010, "PN", b"M\xfcller")
    body = {0x00080005: charset, 0x00100010: name, 0x00204000: comment}
    files = studies.write_files(tmp_path / "in", [("1.dcm", make.ct_slice(number=1, replace=body))])
    dicomstudy.convert([files], tmp_path / "archive", bulk="reference")
    (study,) = dicomstudy.open_archive(tmp_path / "archive")
    dicomstudy.update(tmp_path / "archive", study, [{"set": {"StudyDescription": "\u03a9"}}])
    files.rename(tmp_path / "moved")
    opened = dicomstudy.open_archive(tmp_path / "archive", sources=[tmp_path / "moved"])
    assert not dicomstudy.export_tables(tmp_path / "archive", tmp_path / "tables").complete
    assert dicomstudy.export_tables(opened, tmp_path / "tables").complete


def test_a_study_that_another_run_wrote_meanwhile_stays(
    tables_folder: Path, tmp_path: Path
) -> None:
    """Its document may refer to other bytes of a bulk file of the same name."""
    again = tmp_path / "again"
    before: dict[str, bytes] = {}

    def write_them_all(_step: str, done: int, _total: int | None) -> None:
        if done == 1:
            shutil.copytree(tmp_path / "other" / "studies", again / "studies", dirs_exist_ok=True)
            before.update(documents_of(again))

    with dicomstudy.open_tables(tables_folder) as tables:
        tables.to_archive(tmp_path / "other")
        with pytest.raises(ArchiveError) as error:
            tables.to_archive(again, progress=write_them_all)
    assert error.value.code == "archive/not-empty"
    assert documents_of(again) == before


@pytest.mark.timeout(600)
def test_real_archives_come_back(shared: Path, tmp_path: Path) -> None:
    report = dicomstudy.convert([shared / "corpus"], tmp_path / "archive")
    exported = dicomstudy.export_tables(tmp_path / "archive", tmp_path / "tables")
    assert (exported.studies, exported.instances) == (report.studies, report.instances)
    assert (exported.problems, exported.complete) == ([], True)
    with dicomstudy.open_tables(tmp_path / "tables") as tables:
        tables.to_archive(tmp_path / "again")
    assert studies.digests_of(tmp_path / "again") == studies.digests_of(tmp_path / "archive")
    assert dicomstudy.verify(tmp_path / "again").problems == []


@given(studies.batches())
def test_any_study_comes_back(batch: Batch) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        digest = put(create(folder / "archive"), "1.2", batch)
        dicomstudy.export_tables(folder / "archive", folder / "tables")
        with dicomstudy.open_tables(folder / "tables") as tables:
            tables.to_archive(folder / "again")
        assert studies.digests_of(folder / "again") == {"1.2": digest}


def put(archive: dicomstudy.Archive, uid: str, batch: Batch) -> str:
    """Put the document of a batch into an archive; its digest."""
    path = archive.document_path(uid)
    path.parent.mkdir(exist_ok=True)
    studies.write_document(path, batch, study=uid)
    return archive[uid].digest


def test_every_instance_has_a_row_and_every_group_one(archive: Path, tables_folder: Path) -> None:
    expected: dict[str, dict[str, int]] = {}
    instances = 0
    for study in dicomstudy.open_archive(archive).values():
        for instance in study.values():
            instances += 1
            for digest, name, _ in instance.groups:
                counts = expected.setdefault(name, {})
                counts[digest] = counts.get(digest, 0) + 1
    with dicomstudy.open_tables(tables_folder) as tables:
        assert len(tables["instances"]) == instances
        assert set(tables) - set(PART_TABLES) == expected.keys()
        for name, counts in expected.items():
            rows = tables[name].to_table(columns=["digest", "instances"]).to_pylist()
            assert len(rows) == len(counts)
            assert {row["digest"]: row["instances"] for row in rows} == counts


def test_series_and_studies_count_what_is_there(archive: Path, tables_folder: Path) -> None:
    opened = dicomstudy.open_archive(archive)
    with dicomstudy.open_tables(tables_folder) as tables:
        rows = tables["studies"].to_table().to_pylist()
        assert [str(row["StudyInstanceUID"]) for row in rows] == sorted(opened)
        for row in rows:
            study = opened[row["StudyInstanceUID"]]
            assert row["NumberOfStudyRelatedInstances"] == len(study)
            assert row["NumberOfStudyRelatedSeries"] == len(study.series)
            modalities = {i.attributes().get("Modality") for i in study.values()} - {None, ""}
            assert row["ModalitiesInStudy"] == sorted(str(each) for each in modalities)
            assert row["first_date"] is None or row["first_date"] <= row["last_date"]
        for row in tables["series"].to_table().to_pylist():
            keys = opened[row["StudyInstanceUID"]].series[row["SeriesInstanceUID"]]
            assert row["NumberOfSeriesRelatedInstances"] == len(keys)


def test_frames_lie_where_their_table_says(archive: Path, tables_folder: Path) -> None:
    opened = dicomstudy.open_archive(archive)
    with dicomstudy.open_tables(tables_folder) as tables:
        rows = tables["frames"].to_table().to_pylist()
    told = [row for row in rows if row["fragment_offsets"] is not None]
    assert len(told) > 5
    for row in told:
        instance = opened[row["StudyInstanceUID"]][row["key"] or row["SOPInstanceUID"]]
        spans = instance.frame_spans[row["FrameNumber"] - 1]
        value = b"".join(instance.value_pieces(spans.reference))
        ranges = zip(row["fragment_offsets"], row["fragment_lengths"], strict=True)
        frame = b"".join(value[offset : offset + length] for offset, length in ranges)
        assert frame == instance.frame(row["FrameNumber"])


@pytest.mark.parametrize("max_inline", [16, 256])
def test_frames_may_be_told_by_offsets_alone(max_inline: int, tmp_path: Path) -> None:
    """Where Number of Frames is absent."""
    parts = [b"ab\xff\xd9", b"cdef\xff\xd9", b"gh\xff\xd9"]
    pixels = make.encapsulated(make.encapsulate([[part] for part in parts]))
    meta = make.file_meta(make.JPEG_LOSSLESS, make.uid("wrecks/1/offsets"))
    (tmp_path / "1.dcm").write_bytes(make.part10(meta, make.small("offsets", pixels)))
    dicomstudy.convert([tmp_path / "1.dcm"], tmp_path / "archive", max_inline=max_inline)
    archive = dicomstudy.open_archive(tmp_path / "archive")
    ((instance,),) = (study.values() for study in archive.values())
    assert list(instance.frames()) == parts
    with archive.tables() as tables:
        rows = tables["frames"].to_table().to_pylist()
    assert [row["fragment_lengths"] for row in rows] == [[4], [6], [4]]


@pytest.mark.parametrize(
    ("max_inline", "modalities", "classes"),
    [(256, ["CT"], [make.SECONDARY_CAPTURE]), (8, ["CT"], None), (0, None, None)],
)
def test_values_of_a_study_are_all_of_them_or_null(
    max_inline: int, modalities: list[str] | None, classes: list[str] | None, tmp_path: Path
) -> None:
    meta = make.file_meta(make.EXPLICIT, make.SECONDARY_CAPTURE, make.uid("wrecks/1/values"))
    data = make.part10(meta, make.small("values", make.element(0x00080060, "CS", "CT")))
    source = studies.write_files(tmp_path / "in", [("1.dcm", data)])
    dicomstudy.convert([source], tmp_path / "archive", max_inline=max_inline)
    with dicomstudy.open_archive(tmp_path / "archive").tables() as tables:
        (row,) = tables["studies"].to_table().to_pylist()
    assert (row["ModalitiesInStudy"], row["SOPClassesInStudy"]) == (modalities, classes)


def test_a_series_has_what_most_of_its_instances_have(tmp_path: Path) -> None:
    """Though one has another day and one has none, so that it is in no group."""
    files = []
    for number, day in enumerate(["20240102", "20240103", "20240103", ""]):
        elements = [
            make.element(0x0020000D, "UI", "1.2.3"),
            make.element(0x0020000E, "UI", "1.2.4"),
        ]
        if day:
            elements.append(make.element(0x00400244, "DA", day))
        meta = make.file_meta(make.EXPLICIT, make.SECONDARY_CAPTURE, make.uid(f"wrecks/1/{number}"))
        files.append((f"{number}", make.part10(meta, make.small(f"{number}", *elements))))
    dicomstudy.convert([studies.write_files(tmp_path / "in", files)], tmp_path / "archive")
    with dicomstudy.open_archive(tmp_path / "archive").tables() as tables:
        (row,) = tables["series"].to_table().to_pylist()
    assert row["NumberOfSeriesRelatedInstances"] == 4
    assert row["PerformedProcedureStepStartDate"] == date(2024, 1, 3)
    assert row["PerformedProcedureStepStartTime"] is None


@pytest.mark.parametrize("is_there", [True, False])
def test_a_study_has_nothing_of_a_patient_that_few_of_its_instances_say(
    tmp_path: Path, *, is_there: bool
) -> None:
    """What is empty in the group of most of them stays empty, and what is not there as well."""
    files = []
    for number, name in enumerate(["Doe^Jane", "Doe^Jane", "Roe^Bob"]):
        sex = make.element(0x00100040, "CS", "M" if name == "Roe^Bob" else "")
        replace = {
            0x00100010: make.element(0x00100010, "PN", name),
            0x00100040: sex if is_there or name == "Roe^Bob" else b"",
        }
        files.append((f"{number}", make.ct_slice("ct", 1, number + 1, replace=replace)))
    dicomstudy.convert([studies.write_files(tmp_path / "in", files)], tmp_path / "archive")
    with dicomstudy.open_archive(tmp_path / "archive").tables() as tables:
        (row,) = tables["studies"].to_table().to_pylist()
    assert (row["PatientName"]["family"], row["PatientSex"]) == ("Doe", None)


def test_functional_groups_are_flattened(shared: Path, tmp_path: Path) -> None:
    dicomstudy.convert([shared / "corpus" / "qa_enh"], tmp_path / "archive")
    checked = 0
    with dicomstudy.open_archive(tmp_path / "archive").tables() as tables:
        rows = tables["frames"].to_table().to_pylist()
    archive = dicomstudy.open_archive(tmp_path / "archive")
    for row in rows:
        instance = archive[row["StudyInstanceUID"]][row["key"] or row["SOPInstanceUID"]]
        frames = instance.attributes().get("PerFrameFunctionalGroupsSequence") or []
        for group in frames[row["FrameNumber"] - 1 : row["FrameNumber"]]:
            for item in group.get("PlanePositionSequence") or ():
                position = [float(n) for n in item["ImagePositionPatient"].split("\\")]
                assert row["ImagePositionPatient"] == position
                checked += 1
    assert checked > 10


def test_files_are_made_to_be_read_fast(tables_folder: Path) -> None:
    with dicomstudy.open_tables(tables_folder) as tables:
        (path,) = tables["instances"].files
        names = tables["instances"].schema.names
    group = pq.ParquetFile(path).metadata.row_group(0)
    columns = {group.column(at).path_in_schema: group.column(at) for at in range(group.num_columns)}
    uid = columns["SOPInstanceUID"]
    assert uid.compression == "ZSTD"
    assert uid.is_stats_set
    assert "RLE_DICTIONARY" in columns["StudyInstanceUID"].encodings
    assert "RLE_DICTIONARY" not in uid.encodings
    assert names[:3] == ["StudyInstanceUID", "SeriesInstanceUID", "key"]
    rows = pq.read_table(path, columns=["StudyInstanceUID", "SeriesInstanceUID"]).to_pylist()
    keys = [tuple(row.values()) for row in rows]
    assert keys == sorted(keys)


@pytest.mark.skipif(not parquet._HAS_BLOOM_FILTERS, reason="this pyarrow writes no bloom filters")
def test_uids_have_bloom_filters(tables_folder: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    with dicomstudy.open_tables(tables_folder) as tables:
        (path,) = tables["instances"].files
    rows = duckdb.sql(f"SELECT path_in_schema, bloom_filter_length FROM parquet_metadata('{path}')")
    filtered = {name for name, length in rows.fetchall() if length}
    assert filtered == {"SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"}


def add_study(archive: Path, number: int, instances: int) -> Path:
    """Add instances of study `number`; its document."""
    files = archive.parent / f"files {number}"
    shutil.rmtree(files, ignore_errors=True)
    studies.write_files(files, make.study(instances, series=2, name=f"study {number}"))
    dicomstudy.convert([files], archive)
    some = next(files.rglob("*.dcm"))
    return dicomstudy.open_archive(archive).document_path(pydicom.dcmread(some).StudyInstanceUID)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts, row groups and spools of a few rows, so that small archives have many."""
    monkeypatch.setattr(export, "FILE_ROWS", 8)
    monkeypatch.setattr(parquet, "GROUP_ROWS", 3)
    monkeypatch.setattr(parquet, "BATCH_ROWS", 2)
    monkeypatch.setattr(parquet, "SPOOL_CELLS", 200)
    monkeypatch.setattr(export, "SPOOL_CELLS", 200)


@pytest.mark.usefixtures("small_parts")
def test_tables_stay_in_step(tmp_path: Path) -> None:
    archive, tables = tmp_path / "archive", tmp_path / "tables"
    chance = chance_of(3)
    create(archive)
    sizes: dict[int, int] = {}
    documents: dict[int, Path] = {}
    for turn in range(14):
        number = chance.randrange(6)
        if number in sizes and chance.random() < 0.4:
            documents[number].unlink()
            del sizes[number]
        else:
            sizes[number] = sizes.get(number, 0) + chance.randrange(1, 6)
            documents[number] = add_study(archive, number, sizes[number])
        exported = dicomstudy.export_tables(archive, tables)
        assert exported.instances == sum(sizes.values()), turn
        fresh = tmp_path / f"fresh {turn}"
        dicomstudy.export_tables(archive, fresh)
        assert rows_of(tables) == rows_of(fresh), turn
        assert_consistent(tables)
    with dicomstudy.open_tables(tables) as opened:
        opened.to_archive(tmp_path / "again")
    assert studies.digests_of(tmp_path / "again") == studies.digests_of(archive)


def assert_consistent(folder: Path) -> None:
    """All files that the catalog names are there, of one schema, and no others."""
    found = catalog.read(folder, DEFINITIONS)
    paths = set(found.paths(folder))
    assert set(folder.glob("*/*.parquet")) == paths
    for name, table in found.tables.items():
        for number, file in table.files.items():
            read = pq.ParquetFile(catalog.path_of(folder, name, number))
            assert read.schema_arrow.equals(table.schema), name
            assert [field.metadata for field in read.schema_arrow] == [
                field.metadata for field in table.schema
            ]
            assert read.metadata.num_rows == file.rows
    for part in found.parts:
        assert part.first <= part.last
    firsts = [part.first for part in found.parts]
    assert firsts == sorted(firsts)


def test_a_run_without_change_writes_nothing(archive: Path, copied_tables: Path) -> None:
    before = {
        path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in copied_tables.rglob("*.*")
    }
    exported = dicomstudy.export_tables(archive, copied_tables)
    assert (exported.added, exported.replaced, exported.removed) == (0, 0, 0)
    assert exported.bytes_out == 0
    assert not (copied_tables / "incoming").exists()
    after = {
        path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in copied_tables.rglob("*.*")
    }
    assert after == before


@pytest.mark.parametrize("table", ["instances", "patient", "studies"])
@pytest.mark.parametrize("cut", [True, False])
def test_tables_of_which_a_file_was_lost_are_made_anew(
    table: str, *, cut: bool, archive: Path, copied_tables: Path, tables_folder: Path
) -> None:
    (path,) = (copied_tables / table).glob("*.parquet")
    if cut:
        path.write_bytes(path.read_bytes()[:-20])
    else:
        path.unlink()
    exported = dicomstudy.export_tables(archive, copied_tables)
    assert (exported.added, exported.problems) == (exported.studies, [])
    assert exported.complete
    assert rows_of(copied_tables) == rows_of(tables_folder)
    assert_consistent(copied_tables)
    assert len([*copied_tables.glob("*/*.parquet")]) == len([*tables_folder.glob("*/*.parquet")])


@pytest.mark.usefixtures("small_parts")
def test_parts_without_change_are_left_alone(tmp_path: Path) -> None:
    archive, tables = tmp_path / "archive", tmp_path / "tables"
    documents = [add_study(archive, number, 7) for number in range(5)]
    dicomstudy.export_tables(archive, tables)
    before = set(tables.glob("instances/*.parquet"))
    assert len(before) == 5
    add_study(archive, 2, 8)
    exported = dicomstudy.export_tables(archive, tables)
    assert (exported.added, exported.replaced, exported.removed) == (0, 1, 0)
    assert len(before & set(tables.glob("instances/*.parquet"))) == 4
    documents[0].unlink()
    exported = dicomstudy.export_tables(archive, tables)
    assert (exported.added, exported.replaced, exported.removed) == (0, 0, 1)
    assert exported.studies == 4


@pytest.mark.parametrize("changed", [slice(3, 4), slice(0, 7, 2)], ids=["one", "every other"])
def test_rows_of_studies_that_stay_are_not_copied_study_by_study(
    changed: slice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, tables = tmp_path / "archive", tmp_path / "tables"
    for number in range(7):
        add_study(archive, number, 1)
    dicomstudy.export_tables(archive, tables)
    written: dict[str, int] = {}

    def count(path: Path, schema: pa.Schema, rows: Iterable[pa.Table]) -> tuple[int, int]:
        pieces = [*rows]
        written[path.name.partition(".")[0]] = len(pieces)
        return parquet.write(path, schema, pieces)

    monkeypatch.setattr(writer, "write", count)
    for uid in sorted(dicomstudy.open_archive(archive))[changed]:
        dicomstudy.update(archive, uid, [{"set": {"StudyID": "5"}}])
    dicomstudy.export_tables(archive, tables)
    assert max(written[name] for name in ("instances", "series", "studies")) <= 2
    dicomstudy.export_tables(archive, tmp_path / "fresh")
    assert rows_of(tables) == rows_of(tmp_path / "fresh")
    assert_consistent(tables)


class Killed(BaseException):
    """As if the process was killed."""


@pytest.mark.parametrize("moment", range(6))
def test_a_run_that_is_stopped_leaves_what_was(
    moment: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, tables = tmp_path / "archive", tmp_path / "tables"
    document = add_study(archive, 0, 4)
    dicomstudy.export_tables(archive, tables)
    before = rows_of(tables)
    document.unlink()
    add_study(archive, 1, 3)
    with monkeypatch.context() as patch:
        _stop_at(moment, patch, first=False)
        with pytest.raises(Killed):
            dicomstudy.export_tables(archive, tables)
    assert rows_of(tables) == before
    dicomstudy.export_tables(archive, tables)
    dicomstudy.export_tables(archive, tmp_path / "fresh")
    assert rows_of(tables) == rows_of(tmp_path / "fresh")
    assert_consistent(tables)
    assert not (tables / "incoming").exists()


@pytest.mark.parametrize("moment", range(6))
def test_a_first_run_that_is_stopped_can_be_run_again(
    moment: int, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        _stop_at(moment, patch, first=True)
        with pytest.raises(Killed):
            dicomstudy.export_tables(archive, tmp_path / "tables")
    with pytest.raises(TableError, match="has not ended") as caught:
        dicomstudy.open_tables(tmp_path / "tables")
    assert caught.value.code == "tables/not-tables"
    dicomstudy.export_tables(archive, tmp_path / "tables")
    assert_consistent(tmp_path / "tables")


def test_a_first_run_that_is_stopped_may_be_followed_by_one_of_nothing(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        _stop_at(0, patch, first=True)
        with pytest.raises(Killed):
            dicomstudy.export_tables(archive, tmp_path / "tables")
    dicomstudy.convert([], tmp_path / "none")
    dicomstudy.export_tables(tmp_path / "none", tmp_path / "tables")
    with dicomstudy.open_tables(tmp_path / "tables") as tables:
        assert list(tables) == []


def test_a_run_that_ends_while_it_begins_leaves_nothing_unfinished(
    archive: Path, copied_tables: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicomstudy.tables.export.Seen", _killer(0, Seen))
    with pytest.raises(Killed):
        dicomstudy.export_tables(archive, copied_tables)
    assert not (copied_tables / "incoming").exists()


def test_files_of_others_are_left_alone(archive: Path, copied_tables: Path) -> None:
    mine = copied_tables / "patient" / "mine.parquet"
    mine.write_bytes(b"mine")
    dicomstudy.export_tables(archive, copied_tables)
    assert mine.read_bytes() == b"mine"


def _stop_at(moment: int, patch: pytest.MonkeyPatch, *, first: bool) -> None:
    """Stop while rows are made, while files are written, named, or before the catalog is."""
    if moment == 0:
        patch.setattr(Tabulator, "add", _killer(0, Tabulator.add))
    elif moment < 3:
        patch.setattr(writer, "write", _killer(3 * moment, parquet.write))
    elif moment < 5:
        patch.setattr(Path, "rename", _killer(4 * moment - 12, Path.rename))
    else:
        patch.setattr(catalog, "write", _killer(1 if first else 0, catalog.write))


def _killer(after: int, function: Callable[..., Any]) -> Callable[..., Any]:
    calls = iter(range(after))

    def call(*arguments: Any, **options: Any) -> Any:
        if next(calls, None) is None:
            raise Killed
        return function(*arguments, **options)

    return call


def test_a_damaged_document_is_a_problem_and_no_more(tmp_path: Path) -> None:
    archive, tables = tmp_path / "archive", tmp_path / "tables"
    first, second, third = (add_study(archive, number, 3) for number in range(3))
    dicomstudy.export_tables(archive, tables)
    first.write_bytes(b"nothing")
    data = bytearray(second.read_bytes())
    data[len(data) // 2] ^= 0xFF
    second.write_bytes(data)
    exported = dicomstudy.export_tables(archive, tables)
    assert (exported.studies, exported.removed, exported.complete) == (1, 2, False)
    assert [problem.code for problem in exported.problems] == ["study/not-a-study", "study/damaged"]
    with dicomstudy.open_tables(tables) as opened:
        uids = opened["studies"].to_table()["StudyInstanceUID"].to_pylist()
    assert [third.name] == [f"{uid}.ion.zst" for uid in uids]
    dicomstudy.export_tables(archive, tmp_path / "fresh")
    assert rows_of(tables) == rows_of(tmp_path / "fresh")


def test_an_archive_without_studies_has_no_tables(tmp_path: Path) -> None:
    create(tmp_path / "archive")
    exported = dicomstudy.export_tables(tmp_path / "archive", tmp_path / "tables")
    assert (exported.studies, exported.instances, exported.tables) == (0, 0, 0)
    with dicomstudy.open_tables(tmp_path / "tables") as tables:
        assert list(tables) == []
        with pytest.raises(TableError) as caught:
            tables.sql("SELECT PatientID FROM metadata")
        assert caught.value.code == "tables/no-table"
        for name in ("metadata", "Metadata", "usImage"):
            with pytest.raises(TableError, match=f"no table '{name}', as there are no rows"):
                tables.sql(f"SELECT * FROM {name}")
        with pytest.raises(TableError, match=r"no table 'metadat' \["):
            tables.sql("SELECT * FROM metadat")
        assert tables.to_archive(tmp_path / "again") == 0
    assert len(dicomstudy.open_archive(tmp_path / "again")) == 0


def assert_refused(code: str, *asks: Callable[[], object]) -> None:
    """Each of these questions is refused so."""
    for ask in asks:
        with pytest.raises(TableError) as caught:
            ask()
        assert caught.value.code == code


def test_the_archive_gives_tables_that_go_when_they_are_closed(archive: Path) -> None:
    tables = dicomstudy.open_archive(archive).tables()
    assert len(tables["studies"]) == len(dicomstudy.open_archive(archive))
    assert tables.path.is_dir()
    table = tables["studies"]
    tables.close()
    assert not tables.path.exists()
    assert_refused("tables/closed", lambda: tables.sql("SELECT 1 FROM studies"), table.to_table)


def test_tables_that_were_changed_since_are_not_called_damaged(tmp_path: Path) -> None:
    archive, folder = tmp_path / "archive", tmp_path / "tables"
    add_study(archive, 1, 2)
    dicomstudy.export_tables(archive, folder)
    with dicomstudy.open_tables(folder) as tables:
        add_study(archive, 2, 3)
        dicomstudy.export_tables(archive, folder)
        assert_refused(
            "tables/changed",
            tables["instances"].to_table,
            lambda: tables.sql("SELECT count(*) FROM metadata"),
            lambda: tables.select(["PatientID"]),
            lambda: tables.to_archive(tmp_path / "again"),
        )
    with dicomstudy.open_tables(folder) as tables:
        assert len(tables.sql("SELECT 1 FROM instances")) == 5


def test_tables_made_anew_have_files_of_the_same_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "FILE_ROWS", 4)
    archive, folder = tmp_path / "archive", tmp_path / "tables"
    add_study(archive, 2, 3)
    dicomstudy.export_tables(archive, folder)
    with dicomstudy.open_tables(folder) as tables:
        names = [path.relative_to(folder) for path in tables["instances"].files]
        dicomstudy.export_tables(archive, folder)
        assert len(tables.sql("SELECT 1 FROM instances")) == 3  # nothing has changed
        add_study(archive, 1, 4)
        shutil.rmtree(folder)
        dicomstudy.export_tables(archive, folder)
        assert all((folder / name).exists() for name in names)
        assert_refused(
            "tables/changed",
            tables["instances"].to_table,
            lambda: tables.sql("SELECT count(*) FROM instances"),
            lambda: tables.to_archive(tmp_path / "again"),
        )


def test_what_has_become_of_files_of_open_tables(tmp_path: Path) -> None:
    """The catalog is another one by then; what the system says of files is not raised as it is."""
    archive, folder = tmp_path / "archive", tmp_path / "tables"
    add_study(archive, 1, 2)
    dicomstudy.export_tables(archive, folder)
    (tmp_path / "link").symlink_to(folder)
    with dicomstudy.open_tables(tmp_path / "link") as tables:
        instances, catalog_ = folder / "instances", (folder / "catalog.json").read_bytes()
        shutil.copytree(folder, tmp_path / "later")
        (tmp_path / "link").unlink()
        (tmp_path / "link").symlink_to("later")
        assert len(tables["instances"].to_table()) == 2  # it is of the folder that was opened
        for make_another, code in (
            (lambda: instances.symlink_to("instances"), "tables/unreadable"),
            (lambda: instances.write_text("no folder"), "tables/changed"),
        ):
            shutil.rmtree(instances) if instances.is_dir() else instances.unlink()
            make_another()
            (folder / "catalog.json").write_bytes(catalog_ + b" ")
            whole = tables["instances"].to_table
            assert_refused(code, whole, lambda: tables.sql("FROM instances"))


def test_a_table_gives_columns_and_rows(tables_folder: Path) -> None:
    with dicomstudy.open_tables(tables_folder) as tables:
        women = tables["patient"].to_table(
            columns=["PatientID", "PatientSex"], filter=pc.field("PatientSex") == "F"
        )
        everyone = tables["patient"].to_table()
    assert women.column_names == ["PatientID", "PatientSex"]
    assert set(women["PatientSex"].to_pylist()) == {"F"}
    assert 0 < len(women) < len(everyone) == len(tables["patient"])


def test_a_wrong_column_gets_the_nearest(tables_folder: Path) -> None:
    with dicomstudy.open_tables(tables_folder) as tables:
        with pytest.raises(TableError, match="is it PatientName") as caught:
            tables["patient"].to_table(columns=["PatientNam"])
        assert caught.value.code == "tables/no-column"
        with pytest.raises(TableError) as caught:
            tables["patient"].to_table(filter=pc.field("Nothing") == 1)
        assert caught.value.code == "tables/query"


def test_columns_come_from_anything_but_one_text(tables_folder: Path) -> None:
    names = ["PatientID", "StudyDate"]
    with dicomstudy.open_tables(tables_folder) as tables:
        found = tables["studies"].to_table(columns=(name for name in names))
        assert found.column_names == names
        assert tables.select(name for name in names).column_names == names
        for ask in (tables["studies"].to_table, tables.select):
            with pytest.raises(TableError, match=r"a list of names: \['PatientID'\]"):
                ask("PatientID")


def test_columns_say_what_they_are(tables_folder: Path) -> None:
    with dicomstudy.open_tables(tables_folder) as tables:
        facts = {(each.table, each.column): each[2:] for each in tables.columns()}
    assert facts["patient", "PatientName"] == (
        "struct", "00100010", "PN", "Patient's Name", "patient",
    )  # fmt: skip
    assert facts["series", "Modality"] == (
        "categorical", "00080060", "CS", "Modality", "generalSeries",
    )  # fmt: skip
    assert facts["instances", "InstanceNumber"] == (
        "int64", "00200013", "IS", "Instance Number", "",
    )  # fmt: skip
    assert facts["instances", "patient_digest"] == ("string", "", "", "", "")
    assert facts["instances", "empty"][0] == "list<string>"
    assert facts["studies", "ModalitiesInStudy"][0] == "list<string>"
    assert facts["generalSeries", "RequestAttributesSequence"][0] == "list<struct>"


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_a_shared_group_has_no_creator_that_stands_elsewhere(
    order: tuple[str, str], tmp_path: Path
) -> None:
    """The value is constant over the series, its creator is not."""
    (tmp_path / "in").mkdir()
    for number, (name, creator) in enumerate(zip(order, ("ONE ", "TWO "), strict=True), 1):
        private = {
            0x00190010: make.element(0x00190010, "LO", creator),
            0x00191001: make.element(0x00191001, "LO", "same"),
        }
        file = make.ct_slice(number=number, replace=private)
        (tmp_path / "in" / name).write_bytes(file)
    dicomstudy.convert([tmp_path / "in"], tmp_path / "archive")
    with dicomstudy.open_archive(tmp_path / "archive").tables() as opened:
        (row,) = opened["private"].to_table().to_pylist()
        assert row["00191001_LO"] == "same"
        assert not {"ONE:0019xx01_LO", "TWO:0019xx01_LO"} & row.keys()
        opened.to_archive(tmp_path / "again")
    assert studies.digests_of(tmp_path / "again") == studies.digests_of(tmp_path / "archive")
