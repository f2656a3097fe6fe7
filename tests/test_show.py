from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dicomstudy
from dicomstudy import ion, show
from dicomstudy.archive import Archive
from dicomstudy.document import Document, whole
from dicomstudy.errors import DicomStudyError
from dicomstudy.printable import escape, size
from dicomstudy.study import Instance, Study
from fixtures import make

FIXTURES = Path(make.__file__).parent
CT = make.uid("ct")
FORMS = ["text", "ion", "json"]
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
#: A title for a terminal, a C1 control, a right-to-left override, a line feed, private use, DEL.
HOSTILE = "A\x1b]0;x\x07B\x9b31mC\u202eD\nE\U000f0000F\x7fG"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """The fixtures, and two of the wrecks."""
    folder = tmp_path_factory.mktemp("show")
    wrecks = [FIXTURES / "wrecks" / name for name in ("DICOMDIR", "uid-missing-all.dcm")]
    report = dicomstudy.convert([FIXTURES / "archive", *wrecks], folder / "archive")
    assert (report.studies, report.quarantined) == (5, 2)
    return dicomstudy.open_archive(folder / "archive")


def rendered(archive: Archive | Study, uid: str | None = None, form: str = "text") -> str:
    pieces = list(show.render(archive, uid, form=form))
    assert all(piece for piece in pieces)
    whole = "".join(pieces)
    assert whole.endswith("\n")
    return whole


def exactly(instance: Instance) -> str:
    """A name that means no other content of the same UID."""
    return f"{instance.uid}#{instance.identity}"


def clashing(study: Study) -> list[Instance]:
    """The two instances of one UID that the fixtures have."""
    found = [each for each in study.values() if each.uid == make.uid("ct/1/3")]
    assert len(found) == 2
    return found


def is_printable(shown: str) -> bool:
    return all(line.isprintable() for line in shown.split("\n"))


def rewrite(archive: Archive, study: str, texts: dict[str, object]) -> None:
    """Write the document of a study in readable form, with other values for some texts."""

    def replaced(value: Any) -> Any:
        if type(value) is list:
            return [replaced(item) for item in value]
        if type(value) is dict:
            return {key: replaced(item) for key, item in value.items()}
        return texts.get(value, value) if type(value) is str else value

    path = archive.document_path(study)
    document = Document(path)
    readable = ion.dumps(replaced(whole(document)))
    document.close()
    path.write_bytes(readable)


def targets(archive: Archive) -> Iterator[str | None]:
    yield None
    for study in archive.values():
        yield study.uid
        yield from study.series
        yield from study


def test_an_archive_lists_its_studies_and_its_quarantine(archive: Archive) -> None:
    lines = rendered(archive).splitlines()
    assert lines[0] == f"archive {archive.path}: 5 studies, 2 in quarantine"
    assert [line.split()[1] for line in lines if line.startswith("  study ")] == list(archive)
    where = lines.index(f"  study {CT}")
    assert lines[where + 1 : where + 3] == [
        "    Example^Ann  EX-0001",
        "    CT, SR  20200102  CT CHEST",
    ]
    assert lines[where + 3].startswith("    3 series, 16 instances; document of ")
    assert sum("convert/dicomdir: " in line for line in lines) == 1
    assert sum("convert/no-uids: " in line for line in lines) == 1


def test_a_study_with_two_patient_names_shows_both(archive: Archive) -> None:
    lines = rendered(archive, make.uid("mr")).splitlines()
    assert lines[1] == "  Exampel^Ben  EX-0002 | Example^Ben  EX-0002"


def test_a_study_lists_its_groups_and_its_series(archive: Archive) -> None:
    lines = rendered(archive, CT).splitlines()
    assert lines[0] == f"study {CT}"
    ((patient, _),) = archive[CT].groups["patient"].items()
    assert f"    patient  {patient[:12]} (4)" in lines
    for series, keys in archive[CT].series.items():
        facts = lines[lines.index(f"  series {series}") + 1]
        assert facts.endswith("1 instance" if len(keys) == 1 else f"{len(keys)} instances")


def test_a_series_lists_its_instances(archive: Archive) -> None:
    series, keys = next(iter(archive[make.uid("us")].series.items()))
    lines = rendered(archive, series).splitlines()
    assert lines[:3] == [f"series {series}", "  US  1; 4 instances", f"  of study {make.uid('us')}"]
    assert [line.split()[1] for line in lines[3:]] == keys
    assert lines[3].split("  ")[2].startswith("no. ")


def test_an_instance_shows_every_attribute_once_in_the_order_of_the_file(archive: Archive) -> None:
    for study in archive.values():
        for instance in study.values():
            lines = rendered(archive, exactly(instance)).splitlines()
            top = [line for line in lines if line.startswith("  (")]
            assert len(top) == len(instance.metadata())
            tags = [line[2:13] for line in top]
            assert tags == sorted(tags)
            assert f"  (0008,0018) UI SOPInstanceUID  {instance.uid.partition('#')[0]}" in lines


def test_an_instance_shows_nested_items_numbers_and_large_values(archive: Archive) -> None:
    lines = rendered(archive, make.uid("texts/1/japanese")).splitlines()
    where = lines.index("  (0008,1032) SQ ProcedureCodeSequence  1 item")
    assert lines[where + 1 : where + 3] == ["    item 1", "      (0008,0100) SH CodeValue  EX-2"]
    assert r"  (0008,1163) FD TimeRange  0.1\-2.5" in lines
    assert "  (0010,0010) PN PatientName  Example^Eva=例示^恵=れいじ^えば" in lines
    assert lines[-1].startswith("  (7FE0,0010) OW PixelData  2.0 kB apart, SHA-256 ")


def test_an_instance_names_other_content_of_its_uid(archive: Archive) -> None:
    first, second = clashing(archive[CT])
    assert f"  other content of the same UID: {second.key}\n" in rendered(archive, exactly(first))
    assert f"  other content of the same UID: {first.key}\n" in rendered(archive, exactly(second))


def test_a_uid_means_every_content_that_it_has(archive: Archive) -> None:
    uid = make.uid("ct/1/3")
    first, second = clashing(archive[CT])
    both = [first.key, second.key]
    assert archive.find(uid)[0][1] == both
    assert rendered(archive, uid) == "".join(
        rendered(archive, exactly(each)) for each in (first, second)
    )
    assert rendered(archive[CT], uid) == rendered(archive, uid)
    assert json.loads(rendered(archive, uid, "json")) == [first.to_json(), second.to_json()]
    shown = ion.load_all(rendered(archive, uid, "ion").encode())
    assert [[*value] for value in shown] == [[key] for key in both]


@pytest.mark.parametrize("form", FORMS)
def test_an_instance_has_its_uid_and_the_start_of_its_digest(form: str, archive: Archive) -> None:
    for instance in clashing(archive[CT]):
        name = f"{make.uid('ct/1/3')}#{instance.identity[:5]}"
        assert rendered(archive, name, form) == rendered(archive, exactly(instance), form)
    for name in (make.uid("ct/1/3") + "#", make.uid("ct/1/3") + "#x", "#", "#a"):
        with pytest.raises(dicomstudy.ArchiveError):
            rendered(archive, name, form)


def test_an_instance_without_source_has_the_digest_of_its_attributes(
    archive: Archive, tmp_path: Path
) -> None:
    document = ion.loads(rendered(archive, CT, "ion").encode())
    for series in document[CT]["series"].values():
        for instance in series["instances"].values():
            del instance["_source"]
    (tmp_path / "study.ion").write_bytes(ion.dumps(document))
    with dicomstudy.Study(tmp_path / "study.ion", definitions=archive.definitions) as study:
        for key, instance in study.items():
            assert study.keys_of(f"{instance.uid}#{instance.identity[:12]}") == [key]
            assert study.keys_of(f"{instance.uid}#0") == []


def test_ion_of_a_study_opens_as_the_study(archive: Archive, tmp_path: Path) -> None:
    for uid, study in archive.items():
        path = tmp_path / "study.ion"
        path.write_text(rendered(archive, uid, "ion"), encoding="utf-8")
        with dicomstudy.Study(path, definitions=archive.definitions) as read:
            assert (read.uid, list(read), read.digest) == (uid, list(study), study.digest)


def test_ion_of_an_instance_is_its_attributes(archive: Archive) -> None:
    for study in archive.values():
        for instance in study.values():
            read = ion.loads(rendered(archive, exactly(instance), "ion").encode())
            assert read == instance.attributes()


def test_ion_of_a_series_and_of_the_archive_is_a_stream_of_structs(archive: Archive) -> None:
    series, keys = next(iter(archive[CT].series.items()))
    assert [[*value] for value in ion.load_all(rendered(archive, series, "ion").encode())] == [
        [key] for key in keys
    ]
    summaries = ion.load_all(rendered(archive, None, "ion").encode())
    assert [next(iter(summary)) for summary in summaries] == list(archive)


def test_json_is_the_dicom_json_model(archive: Archive) -> None:
    study = archive[CT]
    assert json.loads(rendered(archive, CT, "json")) == [i.to_json() for i in study.values()]
    series, keys = next(iter(study.series.items()))
    assert json.loads(rendered(archive, series, "json")) == [study[key].to_json() for key in keys]
    assert json.loads(rendered(archive, keys[0], "json")) == study[keys[0]].to_json()


@pytest.mark.parametrize("form", FORMS)
def test_a_study_is_shown_as_that_of_an_archive(form: str, archive: Archive) -> None:
    with dicomstudy.open_study(archive.document_path(CT)) as study:
        assert "".join(show.render(study, form=form)) == rendered(archive, CT, form)
        for uid in (CT, *study.series, *study):
            assert "".join(show.render(study, uid, form=form)) == rendered(archive, uid, form)
        with pytest.raises(dicomstudy.ArchiveError) as raised:
            list(show.render(study, make.uid("mr"), form=form))
        assert raised.value.code == "archive/not-found"
        assert raised.value.location.source == str(study.path)
        assert len(list(study.values())) == len(study)  # it is still open


def test_what_several_studies_have_is_shown_of_all(tmp_path: Path) -> None:
    """One JSON text for all that has the UID, and one stream of Ion."""
    for at, study in enumerate((b"1.2.3 ", b"1.2.4 ")):
        meta = make.file_meta(make.EXPLICIT, make.SECONDARY_CAPTURE, make.uid("wrecks/1/twice"))
        data_set = make.small("twice", make.element(0x0020000D, "UI", study.replace(b" ", b"\0")))
        (tmp_path / f"{at}.dcm").write_bytes(make.part10(meta, data_set))
    dicomstudy.convert(tmp_path.glob("*.dcm"), tmp_path / "archive")
    archive = dicomstudy.open_archive(tmp_path / "archive")
    models = [i.to_json() for study in archive.values() for i in study.values()]
    attributes = [i.attributes() for study in archive.values() for i in study.values()]
    assert [model["0020000D"]["Value"] for model in models] == [[uid] for uid in archive]
    instance, series = (models[0][tag]["Value"][0] for tag in ("00080018", "0020000E"))
    for uid in (instance, series):
        assert json.loads(rendered(archive, uid, "json")) == models
        assert rendered(archive, uid).count("of study ") == 2
    assert ion.load_all(rendered(archive, instance, "ion").encode()) == attributes
    assert ion.load_all(rendered(archive, series, "ion").encode()) == [
        {instance: each} for each in attributes
    ]


def test_json_of_the_archive_is_as_a_search_for_studies(archive: Archive) -> None:
    studies = {
        each["0020000D"]["Value"][0]: each for each in json.loads(rendered(archive, form="json"))
    }
    assert list(studies) == list(archive)
    assert studies[CT]["00080061"] == {"vr": "CS", "Value": ["CT", "SR"]}
    assert studies[CT]["00100010"]["Value"] == [{"Alphabetic": "Example^Ann"}]
    assert studies[CT]["00201206"] == {"vr": "IS", "Value": [3]}
    assert studies[CT]["00201208"] == {"vr": "IS", "Value": [16]}


@pytest.mark.parametrize("form", FORMS)
def test_an_empty_archive_is_shown(form: str, tmp_path: Path) -> None:
    dicomstudy.convert([], tmp_path / "archive")
    shown = "".join(show.render(dicomstudy.open_archive(tmp_path / "archive"), form=form))
    empty = {"text": f"archive {tmp_path}/archive: 0 studies\n", "ion": "", "json": "[]\n"}
    assert shown == empty[form]


@pytest.mark.parametrize("form", FORMS)
def test_a_study_that_is_damaged_behind_its_header_is_left_out_whole(
    form: str, tmp_path: Path
) -> None:
    dicomstudy.convert([FIXTURES / "archive"], tmp_path / "archive")
    archive = dicomstudy.open_archive(tmp_path / "archive")
    path = archive.document_path(CT)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    assert archive[CT].uid == CT
    damaged: list[DicomStudyError] = []
    shown = "".join(show.render(archive, form=form, damaged=damaged))
    assert [error.location.source for error in damaged] == [str(path)]
    assert all((uid in shown) == (uid != CT) for uid in archive)


@pytest.mark.parametrize("form", FORMS)
def test_unknown_uids_are_refused(form: str, archive: Archive) -> None:
    with pytest.raises(dicomstudy.ArchiveError) as raised:
        rendered(archive, "1.2.3", form)
    assert raised.value.code == "archive/not-found"


@pytest.mark.parametrize("form", FORMS)
def test_what_heads_show_may_be_large(form: str, tmp_path: Path) -> None:
    dicomstudy.convert([FIXTURES / "archive/ct/bone"], tmp_path / "archive", max_inline=0)
    archive = dicomstudy.open_archive(tmp_path / "archive")
    shown = {uid: rendered(archive, uid, form) for uid in targets(archive)}
    if form == "text":
        assert "    2 bytes apart, SHA-256 " in shown[None]
        assert "    12 bytes apart, SHA-256 " in shown[None]
    if form == "json":
        (study,) = json.loads(shown[None])
        assert study["00080061"] == {"vr": "CS", "Value": ["CT"]}
        assert study["00100010"]["Value"] == [{"Alphabetic": "Example^Ann"}]


def test_a_large_study_description_is_named_by_its_size(tmp_path: Path) -> None:
    description = make.element(0x00081030, "LO", b"x" * 300)
    meta = make.file_meta(make.EXPLICIT, make.SECONDARY_CAPTURE, make.uid("wrecks/1/long"))
    (tmp_path / "long.dcm").write_bytes(make.part10(meta, make.small("long", description)))
    dicomstudy.convert([tmp_path / "long.dcm"], tmp_path / "archive")
    archive = dicomstudy.open_archive(tmp_path / "archive")
    digest = sha256(b"x" * 300).hexdigest()[:12]
    for uid in (None, make.uid("wrecks")):
        assert f"  300 bytes apart, SHA-256 {digest}\n" in rendered(archive, uid)


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"Alphabetic": "A"},
        {"length": "A"},
        {"length": None},
        {"length": 5, "sha256": "A"},
        b"A",
    ],
)
def test_values_of_documents_may_be_of_any_kind(value: object, tmp_path: Path) -> None:
    """They are shown, but for structs that are no references (spec/study.md)."""
    uids = {key: f"1.2.{at}" for at, key in enumerate(UIDS)}
    heads = ("PatientName", "PatientID", "Modality", "StudyDescription", "InstanceNumber")
    record = {"dataSet": {**uids, **dict.fromkeys(heads, "MARK")}}
    (tmp_path / "1.ion").write_bytes(ion.dumps(record))
    dicomstudy.convert([tmp_path / "1.ion"], tmp_path / "archive")
    archive = dicomstudy.open_archive(tmp_path / "archive")
    rewrite(archive, uids["StudyInstanceUID"], {"MARK": value})
    assert len(archive) == 1
    if value in (b"A", {"length": 5, "sha256": "A"}):
        for uid in targets(archive):
            rendered(archive, uid)
        return
    damaged: list[DicomStudyError] = []
    list(show.render(archive, damaged=damaged))
    assert [error.code for error in damaged] == ["study/damaged"]
    with pytest.raises(DicomStudyError) as raised:
        rendered(archive, uids["StudyInstanceUID"])
    assert raised.value.code == "study/damaged"


@pytest.mark.parametrize("form", FORMS)
def test_values_cannot_control_a_terminal(form: str, tmp_path: Path) -> None:
    name = make.element(0x00100010, "PN", HOSTILE.encode())
    utf8 = make.element(0x00080005, "CS", "ISO_IR 192")
    meta = make.file_meta(make.EXPLICIT, make.SECONDARY_CAPTURE, make.uid("wrecks/1/hostile"))
    source = tmp_path / "in\x1b[2J\u202e.dcm"
    source.write_bytes(make.part10(meta, make.small("hostile", utf8, name)))
    shutil.copy(FIXTURES / "wrecks" / "DICOMDIR", tmp_path / "in\x1b[3J.dcm")
    dicomstudy.convert(tmp_path.glob("in*"), tmp_path / "archive")
    archive = dicomstudy.open_archive(tmp_path / "archive")
    for uid in targets(archive):
        shown = rendered(archive, uid, form)
        assert is_printable(shown)
    if form == "json":
        (read,) = json.loads(rendered(archive, make.uid("wrecks"), form))
        assert read["00100010"]["Value"] == [{"Alphabetic": HOSTILE}]


@pytest.mark.parametrize("as_json", [False, True])
def test_what_only_looks_like_a_digest_or_a_time_cannot_either(
    as_json: bool, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    native = (FIXTURES / "archive/us/native.dcm").read_bytes()
    files = [native, native + bytes(2)]
    for at, file in enumerate(files):
        (tmp_path / f"in/{at}").write_bytes(file)
    dicomstudy.convert([tmp_path / "in"], tmp_path / "archive")
    archive = dicomstudy.open_archive(tmp_path / "archive")
    ((name, study),) = archive.items()
    instance = next(iter(study.values()))
    hostile = [f"{at}\x1b[31m\x7f" for at in range(2)]
    rewrite(archive, name, dict(zip((sha256(f).hexdigest() for f in files), hostile, strict=True)))
    for uid in targets(archive):
        assert is_printable(rendered(archive, uid))
    shown = rendered(archive, instance.uid)
    assert any(rf"SHA-256 {at}\x1b[31m\x7f" in shown for at in range(2))
    found = dicomstudy.conflicts(archive)
    assert [conflict.group for conflict in found] == ["instance"]
    assert is_printable(show.conflicts_text(found, as_json=as_json))
    version = dicomstudy.Version(1, "\x1b[31m\x7f", "con\x1b[31m\x7fvert", from_study="\x1b\x7f")
    assert is_printable(show.history_text([version], as_json=as_json))


@given(st.text())
def test_escape_is_printable_and_leaves_printable_text(text: str) -> None:
    escaped = escape(text)
    assert escaped.isprintable()
    assert (escaped == text) == text.isprintable()


def test_escape_of_undecodable_file_names() -> None:
    assert escape("a\udc80b") == r"a\udc80b"


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (20_000_000_000, "20.0 GB"),
        (5 * 10**15, "5000.0 TB"),
    ],
)
def test_sizes(number: int, shown: str) -> None:
    assert size(number) == shown
