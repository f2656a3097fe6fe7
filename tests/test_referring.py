"""References say where instances are, and nothing else of them changes (spec/moving.md)."""

from __future__ import annotations

import copy
import io
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset

import dicomstudy
from dicomstudy.disk import ReadOnly
from dicomstudy.document import Document
from dicomstudy.errors import DicomStudyError
from dicomstudy.moving.referring import Referrer, Relocation
from fixtures import make
from fixtures.make import uid
from tests import studies
from tests.movable import S1, S2, T1, S, T, U, added, all_is_well, archive_in, keys, of, there
from tests.test_versioning import content

Items = list[dict[str, Any]]
#: A reference: study, series and instance.
Place = tuple[str | None, str | None, str]

STUDIES, SERIES, UIDS = ("1.1", "1.2", "1.3"), ("2.1", "2.2", "2.3"), ("3.1", "3.2", "3.3", "3.4")
EVIDENCE = "CurrentRequestedProcedureEvidenceSequence"


def leaf(uid: str) -> dict[str, Any]:
    return {"ReferencedSOPClassUID": "1.2", "ReferencedSOPInstanceUID": uid}


@st.composite
def evidences(draw: st.DrawFn) -> Items:
    """Items of studies, series and instances, some with something more."""
    more = st.sampled_from(
        [{}, {}, {"RetrieveAETitle": "A"}, {"CodeSequence": [{"CodeValue": "1"}]}]
    )
    uids = st.lists(st.sampled_from(UIDS), min_size=1, max_size=3, unique=True)
    series = st.builds(
        lambda series, uids, more: {
            "ReferencedSOPSequence": list(map(leaf, uids)),
            "SeriesInstanceUID": series,
            **more,
        },
        *(st.sampled_from(SERIES), uids, more),
    )
    studies = st.builds(
        lambda study, below, more: {
            "ReferencedSeriesSequence": below,
            "StudyInstanceUID": study,
            **more,
        },
        *(st.sampled_from(STUDIES), st.lists(series, min_size=1, max_size=3), more),
    )
    return draw(st.lists(studies, max_size=3))


@st.composite
def relocations(draw: st.DrawFn) -> Relocation:
    """From the first study to another, or within it."""
    target = draw(st.sampled_from(STUDIES))
    going: dict[tuple[str, str], str] = {}
    series: dict[str, str] = {}
    for name in draw(st.sets(st.sampled_from(SERIES), min_size=1)):
        to = draw(st.sampled_from((*SERIES, "2.9")) if target == STUDIES[0] else st.just("2.8"))
        if draw(st.booleans()):
            series[name] = to
        going |= {(name, uid): to for uid in draw(st.sets(st.sampled_from(UIDS), min_size=1))}
    return Relocation(STUDIES[0], target, going, series, whole=False)


def places(items: Items) -> Iterator[Place]:
    for study in items:
        for series in study.get("ReferencedSeriesSequence", []):
            for image in series["ReferencedSOPSequence"]:
                yield (
                    study["StudyInstanceUID"],
                    series["SeriesInstanceUID"],
                    image["ReferencedSOPInstanceUID"],
                )


def now(relocation: Relocation, place: Place) -> Place:
    study, series, uid = place
    if study != relocation.source:
        return place
    to = relocation.instances.get((series or "", uid), relocation.series.get(series or ""))
    return place if to is None else (relocation.target, to, uid)


def followed(items: Items, relocation: Relocation, *, within: bool = False) -> Items:
    """The items then; `within` an item that refers to nothing itself."""
    value: Items = (
        [{"ContentSequence": [{EVIDENCE: items, "ValueType": "TEXT"}]}] if within else items
    )
    own: dict[str, Items] = {"ContentSequence" if within else EVIDENCE: value}
    before = copy.deepcopy(own)
    changes = Referrer(relocation).followed((), own, "1.9")
    assert own == before
    after: Items
    (after,) = (changes or own).values()
    return after[0]["ContentSequence"][0][EVIDENCE] if within else after


@given(evidences(), relocations(), st.booleans())
def test_every_reference_leads_to_where_the_instance_is(
    items: Items, relocation: Relocation, within: bool
) -> None:
    after = followed(items, relocation, within=within)
    expected = {now(relocation, place) for place in places(items)}
    assert set(places(after)) == expected
    if all(now(relocation, place) == place for place in places(items)):
        assert after == items
    for key in ("RetrieveAETitle", "CodeSequence"):
        said = [
            {str(item.get(key)) for study in some for item in (study, *below(study))}
            for some in (items, after)
        ]
        assert said[0] == said[1]


def below(study: dict[str, Any]) -> Items:
    found: Items = study["ReferencedSeriesSequence"]
    return found


@given(evidences(), relocations())
def test_what_was_followed_is_not_followed_again(items: Items, relocation: Relocation) -> None:
    if relocation.source != relocation.target:
        after = followed(items, relocation)
        assert followed(after, relocation) == after


@given(evidences(), relocations())
def test_equal_groups_are_looked_at_once(items: Items, relocation: Relocation) -> None:
    referrer, own = Referrer(relocation), {EVIDENCE: items}
    first = referrer.followed([("digest", "group", own)], {}, "1.9")
    assert referrer.followed([("digest", "group", own)], {}, "1.9") == first
    assert referrer.followed((), own, "1.9") == first


@pytest.mark.parametrize("key", ["OriginalAttributesSequence"])
def test_what_was_stays_what_it_was(key: str) -> None:
    items = [{"StudyInstanceUID": "1.1"}]
    everything = Relocation("1.1", "1.2", {}, {}, whole=True)
    assert Referrer(everything).followed((), {key: items, "Other": "1.1"}, "1.1") == {}
    changes = Referrer(everything).followed((), {"RequestAttributesSequence": items}, "1.1")
    assert changes == {"RequestAttributesSequence": [{"StudyInstanceUID": "1.2"}]}


def test_padding_and_other_values_are_no_matter() -> None:
    series = {
        "SeriesInstanceUID": "2.1 ",
        "ReferencedSOPSequence": [leaf("3.1\0"), {}, leaf("3.2")],
    }
    odd: Items = [{"StudyInstanceUID": 5}, {"SeriesInstanceUID": None, "ReferencedSOPSequence": []}]
    items = [{"StudyInstanceUID": "1.1\0", "ReferencedSeriesSequence": [series]}, *odd]
    relocation = Relocation("1.1", "1.2", {("2.1", "3.1"): "2.2"}, {}, whole=False)
    assert followed(items, relocation) == [
        {
            "StudyInstanceUID": "1.2",
            "ReferencedSeriesSequence": [
                {"SeriesInstanceUID": "2.2", "ReferencedSOPSequence": [leaf("3.1\0"), {}]}
            ],
        },
        {
            "StudyInstanceUID": "1.1\0",
            "ReferencedSeriesSequence": [
                {"SeriesInstanceUID": "2.1 ", "ReferencedSOPSequence": [{}, leaf("3.2")]}
            ],
        },
        *odd,
    ]


# -- in an archive -----------------------------------------------------------------------------


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return archive_in(tmp_path)


def item(**attributes: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def images(name: str, *numbers: int) -> list[Dataset]:
    """References to instances."""
    return [
        item(ReferencedSOPClassUID=make.CT_IMAGE, ReferencedSOPInstanceUID=uid(f"{name}/{number}"))
        for number in numbers
    ]


def series_of(name: str, *numbers: int, into: str = "ReferencedSOPSequence") -> Dataset:
    """A reference to instances of a series."""
    return item(SeriesInstanceUID=uid(name), **{into: images(name, *numbers)})


def file_of(study: str, name: str, **attributes: Any) -> bytes:
    """A file that refers to others, in a series of its own."""
    dataset = item(
        SOPClassUID="1.2.840.10008.5.1.4.1.1.88.59",
        SOPInstanceUID=uid(name),
        StudyInstanceUID=study,
        SeriesInstanceUID=uid(f"{name}/series"),
        Modality="KO",
        PatientName="Example^Ann",
        **attributes,
    )
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def one(archive: Path, study: str, name: str) -> Dataset:
    with dicomstudy.open_archive(archive)[study] as opened:
        return opened[uid(name)].to_dataset()


REFERENCED = "ReferencedSOPInstanceUID"
#: A reference as a set of study, series and instance.
Places = set[tuple[str, str, str]]


def referred_to(evidence: Iterable[Dataset], into: str = "ReferencedSOPSequence") -> Places:
    """What an evidence sequence refers to; each once."""
    found = [
        (str(study.StudyInstanceUID), str(series.SeriesInstanceUID), str(image[REFERENCED].value))
        for study in evidence
        for series in study.ReferencedSeriesSequence
        for image in series[into]
    ]
    assert len(set(found)) == len(found)
    return set(found)


def refs(study: str, series: str, *uids: str) -> Places:
    return {(study, series, each) for each in uids}


def evidence() -> list[Dataset]:
    """Series 1 and 2 of `S`, one of them partly, and an instance that is not there."""
    series = [series_of("s/1", 1, 2), series_of("s/2", 1, 2, 99)]
    code = [item(CodeValue="113000", CodingSchemeDesignator="DCM", CodeMeaning="Of Interest")]
    mine = item(StudyInstanceUID=S, ReferencedSeriesSequence=series)
    mine.PurposeOfReferenceCodeSequence = code
    return [mine, item(StudyInstanceUID=T, ReferencedSeriesSequence=[series_of("t/1", 1)])]


def test_an_evidence_sequence_comes_apart(archive: Path) -> None:
    keys_ = {"CurrentRequestedProcedureEvidenceSequence": evidence()}
    added(archive, file_of(S, "ko", **keys_), file_of(T, "pr", **keys_), file_of(U, "sr", **keys_))
    states = {study: content(archive, study) for study in (S, T, U)}
    dicomstudy.move(archive, S, series=S2, to_study=T)
    for study, name in ((S, "ko"), (T, "pr"), (U, "sr")):
        dataset = one(archive, study, name)
        found = dataset.CurrentRequestedProcedureEvidenceSequence
        assert referred_to(found) == (
            refs(S, S1, *of(S1, 1, 2)) | refs(T, S2, *of(S2, 1, 2, 99)) | refs(T, T1, *of(T1, 1))
        )
        assert [each.StudyInstanceUID for each in found] == [S, T, T]
        assert found[1].PurposeOfReferenceCodeSequence[0].CodeValue == "113000"
        (before,) = dataset.OriginalAttributesSequence[0].ModifiedAttributesSequence
        assert before.CurrentRequestedProcedureEvidenceSequence == evidence()
    assert {study: dicomstudy.history(archive, study)[-1].command for study in (S, T, U)} == {
        S: "move",
        T: "move",
        U: "move",
    }
    all_is_well(archive)
    for study, state in states.items():
        dicomstudy.revert(archive, study, to=dicomstudy.history(archive, study)[-2].number)
        assert content(archive, study) == state
    all_is_well(archive)


@pytest.mark.parametrize("max_inline", [0, 40])
def test_references_are_followed_where_other_values_are_large(
    max_inline: int, archive: Path, tmp_path: Path
) -> None:
    file = file_of(U, "sr", CurrentRequestedProcedureEvidenceSequence=evidence())
    files = studies.write_files(tmp_path / "few", [("sr.dcm", file)])
    dicomstudy.convert([files], archive, max_inline=max_inline)
    dicomstudy.move(archive, S, instance=uid("s/1/2"), to_study=T)
    found = one(archive, U, "sr").CurrentRequestedProcedureEvidenceSequence
    moved = next(each for each in referred_to(found) if each[2] == uid("s/1/2"))
    assert moved[0] == T
    assert moved[1] != S1
    assert len(referred_to(found)) == 6


def test_references_come_back_with_what_they_refer_to(archive: Path) -> None:
    keys_ = {"CurrentRequestedProcedureEvidenceSequence": evidence()}
    added(archive, file_of(U, "sr", **keys_))
    before = one(archive, U, "sr").CurrentRequestedProcedureEvidenceSequence
    dicomstudy.move(archive, S, series=S2, to_study=T)
    dicomstudy.move(archive, T, series=S2, to_study=S)
    assert one(archive, U, "sr").CurrentRequestedProcedureEvidenceSequence == before


def test_what_refers_goes_too(archive: Path) -> None:
    added(archive, file_of(S, "ko", CurrentRequestedProcedureEvidenceSequence=evidence()))
    dicomstudy.merge(archive, S, into=T)
    found = one(archive, T, "ko").CurrentRequestedProcedureEvidenceSequence
    assert referred_to(found) == (
        refs(T, S1, *of(S1, 1, 2)) | refs(T, S2, *of(S2, 1, 2, 99)) | refs(T, T1, *of(T1, 1))
    )
    all_is_well(archive)


def test_a_part_of_a_series_is_referred_to_in_its_own(archive: Path) -> None:
    added(archive, file_of(U, "sr", CurrentRequestedProcedureEvidenceSequence=evidence()))
    dicomstudy.move(archive, S, instance=uid("s/1/2"), to_study=T, to_series=T1)
    found = one(archive, U, "sr").CurrentRequestedProcedureEvidenceSequence
    assert referred_to(found) == (
        refs(S, S1, *of(S1, 1)) | refs(T, T1, *of(S1, 2))
        | refs(S, S2, *of(S2, 1, 2, 99)) | refs(T, T1, *of(T1, 1))
    )  # fmt: skip
    dicomstudy.move(archive, T, instance=uid("s/1/2"), to_study=S, to_series=S2)
    found = one(archive, U, "sr").CurrentRequestedProcedureEvidenceSequence
    assert referred_to(found) == (
        refs(S, S1, *of(S1, 1)) | refs(S, S2, *of(S1, 2), *of(S2, 1, 2, 99))
        | refs(T, T1, *of(T1, 1))
    )  # fmt: skip
    assert [each.StudyInstanceUID for each in found] == [S, T]
    assert len(found[0].ReferencedSeriesSequence) == 2
    all_is_well(archive)


@pytest.mark.parametrize("to_series", [S2, "1.2.3", None])
def test_other_studies_refer_to_the_other_series(to_series: str | None, archive: Path) -> None:
    """What changes its series within its study is found from other studies too."""
    added(archive, file_of(U, "u/1", CurrentRequestedProcedureEvidenceSequence=evidence()))
    moved = dicomstudy.move(archive, S, instance=uid("s/1/2"), to_study=S, to_series=to_series)
    assert referred_to(one(archive, U, "u/1").CurrentRequestedProcedureEvidenceSequence) == (
        refs(S, S1, *of(S1, 1))
        | refs(S, moved.series[0], *of(S1, 2))
        | refs(S, S2, *of(S2, 1, 2, 99))
        | refs(T, T1, *of(T1, 1))
    )
    assert dicomstudy.history(archive, U)[-1].command == "move"
    all_is_well(archive)


def test_series_of_the_own_study_and_of_others(archive: Path) -> None:
    """The Common Instance Reference Module (PS3.3 section C.12.2)."""
    into = "ReferencedInstanceSequence"
    here = [series_of("s/1", 1, into=into), series_of("s/2", 1, 2, into=into)]
    there = [
        item(StudyInstanceUID=T, ReferencedSeriesSequence=[series_of("t/1", 1, into=into)]),
        item(StudyInstanceUID=U, ReferencedSeriesSequence=[series_of("u/1", 1, into=into)]),
    ]
    elsewhere = "StudiesContainingOtherReferencedInstancesSequence"
    added(archive, file_of(S, "seg", ReferencedSeriesSequence=here, **{elsewhere: there}))
    every = refs(S, S1, *of(S1, 1)) | refs(T, T1, *of(T1, 1)) | refs(U, uid("u/1"), uid("u/1/1"))

    def found(study: str) -> tuple[Places, set[str]]:
        dataset = one(archive, study, "seg")
        own = item(
            StudyInstanceUID=study, ReferencedSeriesSequence=dataset.ReferencedSeriesSequence
        )
        others = dataset.get(elsewhere, [])
        return referred_to([own, *others], into), {str(each.StudyInstanceUID) for each in others}

    assert found(S) == (every | refs(S, S2, *of(S2, 1, 2)), {T, U})
    dicomstudy.move(archive, S, series=S2, to_study=T)
    assert found(S) == (every | refs(T, S2, *of(S2, 1, 2)), {T, U})
    dicomstudy.move(archive, S, instance=uid("seg"), to_study=T)
    assert found(T) == (every | refs(T, S2, *of(S2, 1, 2)), {S, U})
    dicomstudy.merge(archive, S, into=T)
    whole_of_t = {(T if study == S else study, *rest) for study, *rest in every}
    assert found(T) == (whole_of_t | refs(T, S2, *of(S2, 1, 2)), {U})
    all_is_well(archive)


def test_what_was_elsewhere_for_a_while_leaves_no_trace(archive: Path) -> None:
    into = "ReferencedInstanceSequence"
    here = [series_of("s/1", 1, into=into), series_of("s/2", 1, 2, into=into)]
    added(archive, file_of(S, "seg", ReferencedSeriesSequence=here))
    for series, left in ((S2, 1), (S1, 0)):
        dicomstudy.move(archive, S, series=series, to_study=T)
        all_is_well(archive)
        there = one(archive, S, "seg")
        assert len(there.get("ReferencedSeriesSequence", [])) == left
    for series in (S2, S1):
        dicomstudy.move(archive, T, series=series, to_study=S)
        all_is_well(archive)
    again = one(archive, S, "seg")
    assert "StudiesContainingOtherReferencedInstancesSequence" not in again
    found = {each.SeriesInstanceUID: each for each in again.ReferencedSeriesSequence}
    assert [found[each] for each in (S1, S2)] == here


def test_presentation_states_refer_by_series(archive: Path) -> None:
    into = "ReferencedImageSequence"
    shown = [series_of("s/1", 1, 2, into=into), series_of("s/2", 1, into=into)]
    added(archive, file_of(S, "pr", ReferencedSeriesSequence=shown))
    dicomstudy.move(archive, S, instance=uid("s/1/2"), to_study=S, to_series="1.2.3")
    found = one(archive, S, "pr").ReferencedSeriesSequence
    assert [each.SeriesInstanceUID for each in found] == [S1, "1.2.3", S2]
    dicomstudy.merge(archive, S, into=T)
    again = one(archive, T, "pr")
    assert again.ReferencedSeriesSequence == found
    assert "StudiesContainingOtherReferencedInstancesSequence" not in again


def test_radiotherapy_refers_deep_inside(archive: Path) -> None:
    contours = [
        series_of("s/1", 1, 2, into="ContourImageSequence"),
        series_of("s/2", 1, into="ContourImageSequence"),
    ]
    study = item(
        ReferencedSOPClassUID="1.2.840.10008.3.1.2.3.1",
        ReferencedSOPInstanceUID=S,
        RTReferencedSeriesSequence=contours,
    )
    frame = item(FrameOfReferenceUID="1.2.3", RTReferencedStudySequence=[study])
    added(archive, file_of(U, "rt", ReferencedFrameOfReferenceSequence=[frame]))
    dicomstudy.move(archive, S, series=S2, to_study=T)
    (frame,) = one(archive, U, "rt").ReferencedFrameOfReferenceSequence
    first, second = frame.RTReferencedStudySequence
    assert (first.ReferencedSOPInstanceUID, second.ReferencedSOPInstanceUID) == (S, T)
    assert first.RTReferencedSeriesSequence == contours[:1]
    assert second.RTReferencedSeriesSequence == contours[1:]
    all_is_well(archive)


def test_requests_and_performed_steps(archive: Path) -> None:
    keys_ = {
        "RequestAttributesSequence": [item(StudyInstanceUID=S, RequestedProcedureID="7")],
        "ReferencedStudySequence": [
            item(ReferencedSOPClassUID="1.2.840.10008.3.1.2.3.1", ReferencedSOPInstanceUID=S)
        ],
        "ReferencedRequestSequence": [
            item(
                StudyInstanceUID=S,
                ReferencedStudySequence=[
                    item(ReferencedSOPClassUID="1.2", ReferencedSOPInstanceUID=S)
                ],
            )
        ],
        "PerformedSeriesSequence": [series_of("s/1", 1, 2, into="ReferencedImageSequence")],
    }
    added(archive, file_of(S, "a", **keys_), file_of(S, "b", **keys_), file_of(U, "c", **keys_))

    def said(study: str, name: str) -> list[str]:
        dataset = one(archive, study, name)
        (request,) = dataset.ReferencedRequestSequence
        return [
            dataset.RequestAttributesSequence[0].StudyInstanceUID,
            dataset.ReferencedStudySequence[0].ReferencedSOPInstanceUID,
            request.StudyInstanceUID,
            request.ReferencedStudySequence[0].ReferencedSOPInstanceUID,
            *(each.SeriesInstanceUID for each in dataset.PerformedSeriesSequence),
        ]

    dicomstudy.move(
        archive, S, instance=uid("a"), to_study=T, keep_attributes=True, to_series="1.2.3"
    )
    assert said(T, "a") == [T, T, T, T, S1]
    assert said(S, "b") == said(U, "c") == [S, S, S, S, S1]
    dicomstudy.move(archive, S, instance=uid("s/1/1"), to_study=T, to_series="1.2.4")
    assert said(T, "a") == [T, T, T, T, "1.2.4", S1]
    assert said(S, "b") == said(U, "c") == [S, S, S, S, "1.2.4", S1]
    dicomstudy.merge(archive, S, into=T, keep_attributes=True)
    assert said(T, "b") == said(U, "c") == [T, T, T, T, "1.2.4", S1]
    all_is_well(archive)


def test_content_trees_and_other_sequences_stay_whole(archive: Path) -> None:
    """References by SOP Instance UID alone are right wherever it is."""
    tree = [
        item(ValueType="IMAGE", ReferencedSOPSequence=images("s/2", 1)),
        item(ValueType="CONTAINER", ContentSequence=[
            item(ValueType="IMAGE", ReferencedSOPSequence=images("s/1", 1)),
            item(ValueType="TEXT", TextValue=S2),
        ]),
    ]  # fmt: skip
    added(archive, file_of(S, "sr", ContentSequence=tree, SourceImageSequence=images("s/2", 1, 2)))
    before = content(archive, S)["instances"][uid("sr")]
    dicomstudy.move(archive, S, series=S2, to_study=T)
    assert content(archive, S)["instances"][uid("sr")] == before
    assert not dicomstudy.history(archive, S)[-1].edits


def test_only_what_all_of_an_uid_went_with_is_followed(archive: Path) -> None:
    other = make.ct_slice("s", 1, 1).replace(b"CT-EX", b"CT-EY")
    sr = file_of(U, "sr", CurrentRequestedProcedureEvidenceSequence=evidence())
    added(archive, other, sr)
    (key,) = (key for key in keys(archive, S)[S1] if "#" in key)
    dicomstudy.move(archive, S, instance=key, to_study=T)
    assert one(archive, U, "sr").CurrentRequestedProcedureEvidenceSequence == evidence()
    assert len(dicomstudy.history(archive, U)) == 1


def test_equal_edits_of_many_are_one(archive: Path) -> None:
    reference = [item(StudyInstanceUID=S, ReferencedSeriesSequence=[series_of("s/2", 1)])]
    files = [
        file_of(S, f"ko{number}", CurrentRequestedProcedureEvidenceSequence=reference)
        for number in range(4)
    ]
    added(archive, *files)
    moved = dicomstudy.move(archive, S, series=S2, to_study=T)
    scopes = [edit.get("series") for edit in moved.version.edits]
    assert sorted(map(str, scopes)) == sorted(uid(f"ko{number}/series") for number in range(4))
    assert all("instance" not in edit for edit in moved.version.edits)
    all_is_well(archive)


@pytest.mark.parametrize("after", [0, 3])
def test_nothing_is_moved_while_a_study_cannot_be_read_that_may_refer_to_it(
    archive: Path, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    added(archive, file_of(U, "sr", CurrentRequestedProcedureEvidenceSequence=evidence()))
    before, path = studies.state_of(archive), dicomstudy.open_archive(archive).document_path(U)
    studies.unreadable(monkeypatch, path, after=after)
    with pytest.raises(DicomStudyError) as raised:
        dicomstudy.move(archive, S, series=S2, to_study=T)
    assert (raised.value.code, raised.value.location.source) == ("study/unreadable", str(path))
    assert studies.state_of(archive) == before


def test_a_damaged_study_stands_in_nobody_s_way(archive: Path) -> None:
    added(archive, file_of(U, "sr", CurrentRequestedProcedureEvidenceSequence=evidence()))
    dicomstudy.open_archive(archive).document_path(U).write_bytes(b"damaged")
    dicomstudy.move(archive, S, series=S2, to_study=T)
    assert keys(archive, T)[S2] == of(S2, 1, 2)


def test_a_study_that_is_collected_meanwhile_stands_in_nobody_s_way(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    added(archive, file_of(U, "sr", CurrentRequestedProcedureEvidenceSequence=evidence()))
    document = dicomstudy.open_archive(archive).document_path(U)

    def mentions_last(self: Document, uids: Iterable[str]) -> bool:
        found = mentions(self, uids)
        if self.path == document:
            document.unlink()
        return found

    mentions = Document.mentions
    monkeypatch.setattr(Document, "mentions", mentions_last)
    dicomstudy.move(archive, S, series=S2, to_study=T)
    assert keys(archive, T)[S2] == of(S2, 1, 2)
    assert not document.exists()


def test_each_study_that_refers_keeps_one_file_open_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lock; documents are opened one after another."""
    most: list[int] = []

    def counted(self: ReadOnly, path: Path) -> None:
        opened(self, path)
        most[-1] = max(most[-1], len(list(Path("/dev/fd").iterdir())))

    opened = ReadOnly.__init__
    for count in (2, 12):
        archive = archive_in(tmp_path / str(count))
        sequence = {"CurrentRequestedProcedureEvidenceSequence": evidence()}
        referring = [f"sr{number}" for number in range(count)]
        added(archive, *(file_of(uid(name), name, **sequence) for name in referring))
        most.append(0)
        with monkeypatch.context() as patch:
            patch.setattr(ReadOnly, "__init__", counted)
            dicomstudy.merge(archive, S, into=T)
        for name in referring:
            found = one(archive, uid(name), name).CurrentRequestedProcedureEvidenceSequence
            assert {study for study, _, _ in referred_to(found)} == {T}
    assert most[1] - most[0] <= 10


@pytest.mark.parametrize("moved", ["what is referred to", "what refers to itself"])
def test_large_values_that_edits_refer_to_stay_large(moved: str, tmp_path: Path) -> None:
    """An instance is not kept in another form than edits need, here or where it went."""
    refers_to = (S, S1, "s/1/1") if moved == "what is referred to" else (T, uid("1/series"), "1")
    study, series, name = refers_to
    image = item(
        ReferencedSOPClassUID=make.CT_IMAGE, ReferencedSOPInstanceUID=uid(name), TextValue="x" * 700
    )
    inner = item(SeriesInstanceUID=series, ReferencedSOPSequence=[image])
    evidence = item(StudyInstanceUID=study, ReferencedSeriesSequence=[inner])
    refers = file_of(T, "1", CurrentRequestedProcedureEvidenceSequence=[evidence])
    files = [("s", make.ct_slice("s", 1, 1)), ("t", refers)]
    folder, archive = studies.write_files(tmp_path / "in", files), tmp_path / "archive"
    dicomstudy.convert([folder], archive, bulk="reference")
    if study == S:
        dicomstudy.move(archive, S, series=S1, to_study=T)
    else:
        dicomstudy.merge(archive, T, into=S)
    before = there(archive)
    report = dicomstudy.convert([folder], archive, max_inline=1 << 20)
    assert (report.instances, report.unchanged) == (1, 1)
    assert {problem.code for problem in report.problems} == {"convert/max-inline"}
    assert there(archive) == before
    assert dicomstudy.convert([folder], archive).instances == 1
    assert dicomstudy.convert([folder], archive).unchanged == 2
    shutil.rmtree(folder)
    assert there(archive) == before
    all_is_well(archive)


def test_values_that_edits_need_stay_large_when_a_killed_run_is_completed(tmp_path: Path) -> None:
    image = item(
        ReferencedSOPClassUID=make.CT_IMAGE, ReferencedSOPInstanceUID=uid("1"), TextValue="x" * 700
    )
    inner = item(SeriesInstanceUID=uid("1/series"), ReferencedSOPSequence=[image])
    evidence = item(StudyInstanceUID=T, ReferencedSeriesSequence=[inner])
    refers = file_of(T, "1", CurrentRequestedProcedureEvidenceSequence=[evidence])
    files = [("s", make.ct_slice("s", 1, 1)), ("t", refers)]
    folder, archive = studies.write_files(tmp_path / "in", files), tmp_path / "archive"
    dicomstudy.convert([folder], archive, bulk="reference")
    path = dicomstudy.open_archive(archive).document_path(T)
    unmerged = path.read_bytes()
    dicomstudy.merge(archive, T, into=S)
    before = there(archive)
    path.write_bytes(unmerged)  # as after a run that was killed before it wrote the source
    dicomstudy.convert([folder], archive, max_inline=1 << 20)
    dicomstudy.merge(archive, T, into=S)
    assert there(archive) == before
    all_is_well(archive)
