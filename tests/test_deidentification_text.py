"""What was taken away is found wherever it may still stand: spec/deidentification.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import dicomstudy
from fixtures import make
from tests import studies
from tests.deidentified import NEW, in_item, instances, made_with
from tests.plants import haystack


def deidentified(folder: Path, *elements: bytes, options: Sequence[str] = ()) -> tuple[bytes, Any]:
    """What can be read of the result of one instance with some elements, and what it is."""
    file = make.part10(make.file_meta(), make.small("odd", *elements))
    studies.write_files(folder / "in", [("odd.dcm", file)])
    dicomstudy.convert([folder / "in"], folder / "archive")
    (made,) = made_with(folder / "archive", folder / "out", *options)
    dicomstudy.restore(folder / "out", folder / "restored")
    dicomstudy.convert([folder / "restored"], folder / "again")
    assert studies.digests_of(folder / "out") == studies.digests_of(folder / "again")
    return haystack(folder / "out", folder / "restored"), made


UID_LIST = [make.uid(str(n)) for n in range(9)]
NAME, TEXT, LABEL = 0x00100010, 0x00204000, 0x00180024


@pytest.mark.parametrize(
    ("elements", "gone"),
    [
        ([make.element(NAME, "OB", "HANSEN^OLE"), make.element(TEXT, "LT", "of hansen")], "hansen"),
        ([make.element(NAME, "PN", "HANSENXY"), make.element(0x00189073, "FD", b"HANSENXY")],
         "HANSENXY"),
        ([make.element(NAME, "PN", "HANSEN"), make.element(0x00280009, "AT", b"xHANSENx")], "HANS"),
        ([in_item(0x0040A730, make.element(0x0040A160, "CS", "HANSEN"))], "HANSEN"),
        ([in_item(0x0040A730, make.element(0x0040A160, "UI", "1.2.3.4"))], "1.2.3.4"),
        ([make.element(LABEL, "UI", make.uid("odd"))], make.uid("odd")),
        ([in_item(0x00082218, make.element(0x00080117, "UI", make.uid("odd")))], make.uid("odd")),
        ([make.element(0x00282000, "OB", make.uid("odd"))], make.uid("odd")),
        ([make.element(0x00100030, "DA", "19350412"), make.element(LABEL, "DS", "1935.04.12")],
         "1935"),
        ([make.element(0x0016002B, "OB", "MAKER NOTE")], "MAKER"),
        ([make.element(0x00080058, "UI", "\\".join(UID_LIST))], UID_LIST[7]),
        ([make.element(0x00080005, "CS", "ISO_IR 100"),
          make.element(TEXT, "LT", b"zum Gr\xf6\xdfer"),
          in_item(0x00081110, make.element(0x00080005, "CS", "ISO_IR 192"),
                  make.element(0x00101001, "PN", f"Größer^{'Ä' * 300}"))], "zum Gr\xf6"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_nothing_is_left_where_nobody_would_look(
    elements: list[bytes], gone: str, tmp_path: Path
) -> None:
    uid = make.element(0x0020000D, "UI", make.uid("odd"))
    options = ("clean-descriptors",)
    content, _ = deidentified(tmp_path, uid, *elements, options=options)
    assert gone.encode("latin-1").lower() not in content.lower()


def test_times_that_have_a_date_in_them_are_not_kept(tmp_path: Path) -> None:
    date = make.element(0x00080020, "DA", "20200102")
    time = make.element(0x00080030, "TM", "20200102101112")
    days = make.element(0x00080022, "DA", "\\".join(f"202001{day:02}" for day in range(1, 31)))
    options = ("retain-longitudinal-modified-dates",)
    content, made = deidentified(tmp_path, date, time, days, options=options)
    assert b"20200102" not in content
    assert made.attributes()["StudyTime"] is None


def test_edits_that_moved_with_their_instance_are_looked_through(tmp_path: Path) -> None:
    text = make.element(TEXT, "LT", "first, second and third, before 2.25.7777")
    file = make.part10(make.file_meta(), make.small("moved", text))
    studies.write_files(tmp_path / "in", [("1.dcm", file)])
    archive = tmp_path / "archive"
    dicomstudy.convert([tmp_path / "in"], archive)
    (study,) = dicomstudy.open_archive(archive)
    (instance,) = instances(archive)
    for name in ("First", "Second"):
        dicomstudy.update(archive, study, [{"set": {"PatientName": f"{name}^X"}}])
    dicomstudy.split(archive, study, series=[instance.series], new_study="2.25.7777")
    dicomstudy.update(archive, "2.25.7777", [{"set": {"PatientName": "Third^X"}}])
    (made,) = made_with(archive, tmp_path / "out", "clean-descriptors")
    assert made.attributes()["ImageComments"] == f"and , before {NEW.uid('2.25.7777')}"


def test_instances_that_went_out_are_looked_through(tmp_path: Path) -> None:
    text, name = make.element(TEXT, "LT", "after Zacherl"), make.element(NAME, "PN", "Zacherl^X")
    files = [
        (f"{number}.dcm", make.part10(make.file_meta(), make.small(f"n{number}", element)))
        for number, element in enumerate((text, name))
    ]
    studies.write_files(tmp_path / "in", files)
    archive = tmp_path / "archive"
    dicomstudy.convert([tmp_path / "in"], archive)
    (study,) = dicomstudy.open_archive(archive)
    dicomstudy.delete(archive, study, instance=make.uid("wrecks/1/n1"))
    (made,) = made_with(archive, tmp_path / "out", "clean-descriptors")
    assert made.attributes()["ImageComments"] == "after"
