from __future__ import annotations

import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO
from unittest import mock

import click
import pytest

import dicomstudy
from dicomstudy import cli
from dicomstudy.cli import main, output
from dicomstudy.cli.group import commands
from dicomstudy.errors import Problem
from dicomstudy.show import render
from fixtures import make
from tests import processes, studies

PROJECT = Path(__file__).parents[1]
HOSPITAL = PROJECT / "fixtures" / "archive"
WRECKS = PROJECT / "fixtures" / "wrecks"
CT = make.uid("ct")

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def archive(tmp_path: Path, capsys: Captured) -> Path:
    assert main(["convert", str(HOSPITAL), str(tmp_path / "archive")]) == 0
    capsys.readouterr()
    return tmp_path / "archive"


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own."""
    return subprocess.run(  # noqa: S603 (of this project)
        [sys.executable, "-m", "dicomstudy", *map(str, arguments)],
        check=False,
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": str(PROJECT), **environment},
    )


def test_convert_says_what_it_did(tmp_path: Path, capsys: Captured) -> None:
    assert main(["convert", str(HOSPITAL), str(tmp_path / "archive")]) == 0
    captured = capsys.readouterr()
    assert re.fullmatch(
        r"39 files, 1 skipped; 5 studies; 37 instances added, 1 unchanged; 0 quarantined; "
        r"299\.4 kB in, [\d.]+ kB out; 0 problems\n",
        captured.out,
    )
    assert captured.err == "files: 39\nstudies: 5 of 5\n"


def test_convert_passes_its_options_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, object] = {}

    def convert(sources: object, archive: object, **options: object) -> dicomstudy.Report:
        given.update(options, sources=sources, archive=archive)
        return dicomstudy.Report()

    monkeypatch.setattr(dicomstudy, "convert", convert)
    options = ["--bulk", "reference", "--max-inline", "64", "--jobs", "3"]
    assert main(["convert", str(HOSPITAL), str(WRECKS), str(tmp_path / "a"), *options]) == 0
    given.pop("progress")
    assert given == {
        "sources": (str(HOSPITAL), str(WRECKS)),
        "archive": tmp_path / "a",
        "bulk": "reference",
        "max_inline": 64,
        "jobs": 3,
    }


def test_convert_writes_its_report(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    arguments = ["convert", str(WRECKS), str(tmp_path / "a"), "--report", str(report)]
    assert main(arguments) == cli.INCOMPLETE
    read = json.loads(report.read_bytes())
    assert [*read] == [
        *("files", "skipped", "instances", "studies", "unchanged", "quarantined"),
        *("refused", "bytes_in", "bytes_out", "problems"),
    ]
    assert read["quarantined"] > 0
    assert all([*each] == [*Problem._fields] for each in read["problems"])


@pytest.mark.parametrize(
    ("arguments", "fields"),
    [
        (("restore", "archive", "out"), "files bytes_out problems"),
        (("verify", "archive"), "studies instances groups values quarantined problems"),
        (
            ("records", "archive", "out"),
            "files skipped records bytes_in bytes_out problems refused",
        ),
        (
            ("tables", "archive", "out"),
            "studies instances added replaced removed tables bytes_out problems",
        ),
    ],
)
def test_what_reads_has_its_report_too(
    arguments: Sequence[str], fields: str, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(archive.parent)
    next(archive.glob(f"studies/*/{CT}.ion.zst")).write_bytes(b"damaged")
    for _ in range(2):  # it replaces its own
        assert main([*arguments, "--report", "report.json"]) == cli.INCOMPLETE
        read = json.loads(Path("report.json").read_bytes())
        assert [*read] == fields.split()
        assert read["problems"]
        assert all([*each] == [*Problem._fields] for each in read["problems"])


def test_a_report_replaces_reports_only(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        Path(f"{name}.dcm").write_bytes((WRECKS / "DICOMDIR").read_bytes())
    Path("list.json").write_text("[]")
    Path("deep.json").write_text('{"a": ' * 100_000)
    before = studies.state_of(tmp_path)
    for path in ("a.dcm", str(archive / "archive.ion"), "list.json", "deep.json"):
        assert main(["convert", "--report", path, "b.dcm", "new"]) == cli.USAGE
        assert main(["deidentify", str(archive), "new", "--report", path]) == cli.USAGE
    assert "is no report, and is not replaced by one" in capsys.readouterr().err
    assert studies.state_of(tmp_path) == before
    Path("loop").symlink_to("loop")
    assert main(["convert", "--report", "loop", "b.dcm", "new"]) == cli.USAGE
    Path("report.json").touch()
    for number in (1, 2):
        report = ["--report", "report.json"]
        assert main(["convert", "b.dcm", f"new-{number}", *report]) == cli.INCOMPLETE
        assert json.loads(Path("report.json").read_bytes())["quarantined"] == 1
        assert main(["deidentify", str(archive), f"away-{number}", *report]) == 0
        assert json.loads(Path("report.json").read_bytes())["studies"] == 5


def test_a_report_does_not_replace_what_the_run_has_made(
    archive: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(archive.parent)
    Path("tables").mkdir()
    arguments = ["tables", "archive", "tables", "--report", "tables/catalog.json"]
    assert main(arguments) == cli.USAGE
    assert "catalog.json is no report, and is not replaced by one" in capsys.readouterr().err
    with dicomstudy.open_tables("tables") as tables:
        assert len(tables["instances"]) == 37


def test_a_report_that_cannot_be_written_whole_leaves_that_which_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    report, link = tmp_path / "report.json", tmp_path / "link"
    report.write_text(before := dicomstudy.Report().to_json())
    report.chmod(0o600)
    link.symlink_to(report)
    with monkeypatch.context() as failing:
        failing.setattr(os, "fsync", full)
        with (
            pytest.raises(click.BadParameter, match="No space left"),
            output.reported(report, lambda: "new"),
        ):
            pass
    assert report.read_text() == before
    with output.reported(link, lambda: "new"):
        assert report.read_text() == "new"
    assert link.is_symlink()
    assert report.stat().st_mode & 0o777 == 0o600
    assert sorted(tmp_path.iterdir()) == [link, report]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no file that is always full")
def test_a_report_that_cannot_be_written_keeps_nothing_back(
    tmp_path: Path, capsys: Captured
) -> None:
    report = ["--report", "/dev/full"]
    arguments = ["convert", str(WRECKS / "DICOMDIR"), str(HOSPITAL), str(tmp_path / "a"), *report]
    assert main(arguments) == cli.USAGE
    captured = capsys.readouterr()
    assert "convert/dicomdir" in captured.err
    assert "37 instances added" in captured.out
    last = captured.err.splitlines()[-1]
    assert last.endswith("--report: /dev/full cannot be written: No space left on device")
    assert main(["deidentify", str(tmp_path / "a"), str(tmp_path / "b"), *report]) == cli.USAGE
    assert "37 instances" in capsys.readouterr().out
    assert main(["verify", str(tmp_path / "b")]) == 0


def test_a_report_may_go_to_standard_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    """Nothing else goes there then."""
    monkeypatch.chdir(tmp_path)
    sources = [str(HOSPITAL), str(WRECKS / "DICOMDIR")]
    assert main(["convert", *sources, "archive", "--report", "-"]) == cli.INCOMPLETE
    captured = capsys.readouterr()
    assert json.loads(captured.out)["quarantined"] == 1
    assert "37 instances added" in captured.err
    assert main(["deidentify", "archive", "away", "--report", "-"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["studies"] == 5
    assert "risk to look at" in captured.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive", "away"]


def reporting(
    folder: Path, stdout: IO[bytes] | int, stderr: IO[bytes] | int
) -> subprocess.CompletedProcess[bytes]:
    """A run whose report goes to standard output."""
    return subprocess.run(  # noqa: S603 (of this project)
        [sys.executable, "-m", "dicomstudy", "convert", HOSPITAL, "archive", "--report", "-"],
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        stdout=stdout,
        stderr=stderr,
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no file that is always full")
def test_a_report_and_what_else_is_said_do_without_each_other(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = reporting(tmp_path, subprocess.PIPE, full)
        assert (done.returncode, json.loads(done.stdout)["instances"]) == (0, 37)
        done = reporting(tmp_path, full, subprocess.PIPE)
    assert done.returncode == cli.USAGE
    assert b"38 unchanged" in done.stderr
    assert done.stderr.splitlines()[-1].startswith(
        b"Error: Invalid value for --report: standard output cannot be written"
    )


def test_convert_lists_problems_and_exits_with_1(tmp_path: Path, capsys: Captured) -> None:
    source = WRECKS / "DICOMDIR"
    assert main(["convert", str(source), str(tmp_path / "a")]) == cli.INCOMPLETE
    captured = capsys.readouterr()
    assert f"convert/dicomdir  {source}  a DICOMDIR belongs to no study" in captured.err
    assert "1 quarantined" in captured.out
    assert captured.out.endswith("; 1 problem\n")


def test_many_problems_are_cut_short(capsys: Captured) -> None:
    output.show_problems([Problem("a\nb", "c/d", "e\x1bf")] * 53, more="look there")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == r"c/d  a\nb  e\x1bf"
    assert len(lines) == 51
    assert lines[-1] == "... and 3 problems more; look there"


def test_restore_gives_the_files_back(archive: Path, tmp_path: Path, capsys: Captured) -> None:
    assert main(["restore", str(archive), str(tmp_path / "out"), "--study", CT]) == 0
    assert capsys.readouterr().out.startswith("16 files; ")
    files = {path.read_bytes() for path in (tmp_path / "out").rglob("*.dcm")}
    assert {path.read_bytes() for path in (HOSPITAL / "ct").rglob("*") if path.is_file()} <= files
    series = make.uid("ct/2")
    assert main(["restore", str(archive), str(tmp_path / "two"), "--series", series]) == 0
    assert len(list((tmp_path / "two").rglob("*.dcm"))) == 4
    instance = make.uid("ct/2/7")
    assert main(["restore", str(archive), str(tmp_path / "one"), "--instance", instance]) == 0
    (one,) = (tmp_path / "one").rglob("*.dcm")
    assert one.read_bytes() == (HOSPITAL / "ct/bone/IM0001").read_bytes()


def test_restore_finds_sources_that_moved(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/1.dcm").write_bytes((HOSPITAL / "us/native.dcm").read_bytes())
    archive, out = str(tmp_path / "a"), str(tmp_path / "out")
    assert main(["convert", str(tmp_path / "in"), archive, "--bulk", "reference"]) == 0
    (tmp_path / "in").rename(tmp_path / "moved")
    assert main(["restore", archive, out]) == cli.INCOMPLETE
    assert main(["verify", archive]) == cli.INCOMPLETE
    assert "bulk/source-missing" in capsys.readouterr().err
    sources = ["--sources", str(tmp_path), "--sources", str(tmp_path / "moved")]
    assert main(["restore", archive, out, *sources]) == 0
    assert main(["verify", archive, *sources]) == 0


@pytest.mark.parametrize(
    "command",
    [
        "conflicts",
        "resolve --study 1.2 --group patient --keep DIGEST",
        "update ReferencedImageSequence[0].ReferencedSOPInstanceUID=1.4 --study 1.2",
        "collect --older-versions",
        "move --study 1.2 --series 1.2.1 --to-study 1.3",
        "merge --study 1.2 --into 1.3",
        "split --study 1.2 --series 1.2.1",
        "tables TABLES",
        "query FROM\tinstances",
        "schema",
    ],
)
def test_commands_find_sources_that_moved(command: str, tmp_path: Path, capsys: Captured) -> None:
    """Text of a changed instance is turned to Unicode, what is large is read for that."""
    item = make.item(make.element(0x00081155, "UI", "1.4.1"))
    for study, series in (("1.2", "1.2.1"), ("1.2", "1.2.2"), ("1.3", "1.3.1")):
        elements = [
            make.element(0x00080005, "CS", "ISO_IR 100"),
            make.element(0x00080018, "UI", f"{series}.1"),
            make.element(0x00081140, "SQ", item),
            make.element(0x00100010, "PN", f"M\xfcller^{series}".encode("latin-1")),
            make.element(0x0020000D, "UI", study),
            make.element(0x0020000E, "UI", series),
            make.element(0x00204000, "LT", b"\xfc" * 300),
        ]
        data = make.part10(make.file_meta(make.EXPLICIT), b"".join(elements))
        studies.write_files(tmp_path / "in", [(f"{series}.dcm", data)])
    archive = tmp_path / "archive"
    dicomstudy.convert([tmp_path / "in"], archive, bulk="reference")
    dicomstudy.update(archive, "1.2", [{"set": {"StudyDescription": "\u03a9"}}])
    (patient, *_), *_ = [
        conflict.sides for conflict in dicomstudy.conflicts(archive) if conflict.group == "patient"
    ]
    (tmp_path / "in").rename(tmp_path / "moved")
    words = {"DIGEST": patient.digest, "TABLES": str(tmp_path / "tables")}
    name, *options = [words.get(word, word) for word in command.split(" ")]
    said = main([name, str(archive), *options])
    assert said == cli.INCOMPLETE
    assert "bulk/source-missing" in capsys.readouterr().err
    moved = ["--sources", str(tmp_path / "moved")]
    found = main([name, str(archive), *options, *moved])
    assert found == (cli.INCOMPLETE if name == "conflicts" else 0)  # as there is one
    assert "bulk/source-missing" not in capsys.readouterr().err


def test_verify_says_what_it_proved(archive: Path, capsys: Captured) -> None:
    assert main(["verify", str(archive)]) == 0
    assert re.fullmatch(
        r"5 studies; 37 instances; \d+ groups; \d+ large values; 0 quarantined; 0 problems\n",
        capsys.readouterr().out,
    )


def test_verify_finds_damage(archive: Path, capsys: Captured) -> None:
    bulk = dicomstudy.open_archive(archive).bulk_path(CT)
    content = bytearray(bulk.read_bytes())
    content[len(content) // 2] ^= 0xFF
    bulk.write_bytes(content)
    assert main(["verify", str(archive)]) == cli.INCOMPLETE
    captured = capsys.readouterr()
    assert "bulk/" in captured.err
    assert not captured.out.endswith("; 0 problems\n")


@pytest.mark.parametrize("form", ["text", "ion", "json"])
def test_show_writes_what_render_gives(form: str, archive: Path, capsys: Captured) -> None:
    for uid in (None, CT, make.uid("ct/2"), make.uid("ct/2/7")):
        arguments = ["show", str(archive), *([uid] if uid else []), "--format", form]
        assert main(arguments) == 0
        captured = capsys.readouterr()
        opened = dicomstudy.open_archive(archive)
        assert (captured.out, captured.err) == ("".join(render(opened, uid, form=form)), "")


@pytest.mark.parametrize("form", ["text", "ion", "json"])
def test_show_takes_a_document(form: str, archive: Path, tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "study.ion"
    opened = dicomstudy.open_archive(archive)
    path.write_text("".join(render(opened, CT, form="ion")), encoding="utf-8")
    opened.bulk_path(CT).rename(tmp_path / "study.bulk")
    with dicomstudy.open_study(path) as study:
        for uid in (None, CT, make.uid("ct/2"), make.uid("ct/2/7")):
            arguments = ["show", str(path), *([uid] if uid else []), "--format", form]
            assert main(arguments) == 0
            captured = capsys.readouterr()
            assert (captured.out, captured.err) == ("".join(render(study, uid, form=form)), "")
    assert main(["show", str(path), make.uid("mr"), "--format", form]) == cli.USAGE
    assert "[archive/not-found]" in capsys.readouterr().err


def test_show_refuses_a_file_that_is_no_document(capsys: Captured) -> None:
    assert main(["show", str(HOSPITAL / "us/native.dcm")]) == cli.INCOMPLETE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(r"error: .* \[study/not-a-study\] \(.*\)\n", captured.err)


@pytest.mark.parametrize("form", ["text", "ion", "json"])
def test_show_goes_on_where_a_study_is_damaged(form: str, archive: Path, capsys: Captured) -> None:
    opened = dicomstudy.open_archive(archive)
    others = [uid for uid in opened if uid != CT]
    instance = next(iter(opened[others[-1]]))
    path = opened.document_path(CT)
    path.write_bytes(path.read_bytes()[:500])
    assert main(["show", str(archive), "--format", form]) == cli.INCOMPLETE
    captured = capsys.readouterr()
    assert all(uid in captured.out for uid in others)
    assert CT not in captured.out
    assert re.fullmatch(rf"study/[a-z-]+  {re.escape(str(path))}  .*\n", captured.err)
    assert main(["show", str(archive), instance, "--format", form]) == cli.INCOMPLETE
    found = capsys.readouterr()
    assert found.out == "".join(render(opened, instance, form=form))
    assert found.err == captured.err
    assert main(["show", str(archive), "1.2.3"]) == cli.INCOMPLETE  # it may be in that study
    assert "[study/" in capsys.readouterr().err


def test_collect_says_if_an_archive_grows(tmp_path: Path, capsys: Captured) -> None:
    """The version that says what was collected may be longer than what goes."""
    archive = str(tmp_path / "archive")
    assert main(["convert", str(HOSPITAL / "us"), archive]) == 0
    study = make.uid("us")
    assert main(["update", archive, "--study", study, "PatientID=7"]) == 0
    for options, said in (
        ([], "would be removed: 0 bytes, documents would grow by "),
        (["--remove"], "removed: 0 bytes, documents grew by "),
    ):
        capsys.readouterr()
        assert main(["collect", archive, "--older-versions", *options]) == 0
        assert re.match(rf"{said}\d+ bytes; 1 study written anew; ", capsys.readouterr().out)


def test_records_writes_records(tmp_path: Path, capsys: Captured) -> None:
    assert main(["records", str(HOSPITAL), str(tmp_path / "out"), "--text"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("39 files, 1 skipped; 38 records; 299.4 kB in, ")
    written = (tmp_path / "out/mr/1.dcm.ion").read_text(encoding="utf-8")
    assert written.startswith("{\n  sourceInfo: {")


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["convert"],
        ["convert", "only-one"],
        ["convert", "missing", "archive"],
        ["convert", ".", "archive", "--bulk", "nonsense"],
        ["convert", ".", "archive", "--jobs", "0"],
        ["convert", ".", "archive", "--max-inline", "-1"],
        ["convert", ".", "archive", "--report", "missing/report.json"],
        ["convert", ".", "full"],
        ["convert", ".", "full/file"],
        ["restore", "missing", "out"],
        ["restore", "full", "out"],
        ["restore", "full", ""],
        ["restore", "", "out"],
        ["convert", ".", ""],
        ["convert", "", "archive"],
        ["convert", ".", "archive", "--report", ""],
        ["deidentify", "full", ""],
        ["tables", "full", ""],
        ["query", "", "SELECT 1"],
        ["records", ".", ""],
        ["update", "full", "--study", "1.2", "--file", ""],
        ["verify", "full", "--sources", ""],
        ["verify", "missing"],
        ["verify", "full/file"],
        ["verify", "full", "--sources", "missing"],
        ["show", "missing"],
        ["show", "full", "--format", "nonsense"],
        ["records", ".", "full/file"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2(
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("something")
    assert main(arguments) == cli.USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "rror: " in captured.err
    assert "Traceback" not in captured.err
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_a_full_disk_exits_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setattr("dicomstudy.bulk.BulkWriter.flush", studies.disk_full)
    arguments = ["convert", str(HOSPITAL), str(tmp_path / "new")]
    assert main(arguments) == cli.INCOMPLETE
    assert "[archive/full]" in capsys.readouterr().err


OPTIONS = [
    (command, option)
    for command in commands.commands.values()
    for option in command.params
    if isinstance(option, click.Option) and not option.is_flag
]


@pytest.mark.parametrize(
    ("command", "option"), OPTIONS, ids=[f"{c.name} {o.opts[0]}" for c, o in OPTIONS]
)
def test_an_option_is_repeated_only_if_it_takes_several_values(
    command: click.Command, option: click.Option, capsys: Captured
) -> None:
    (name,) = option.opts
    assert ("repeatable" in str(option.help)) == option.multiple
    for repeated in ([name, "1", name, "1"], [name, "1", f"{name}=2"]):
        assert main([str(command.name), "missing", "missing", *repeated]) == cli.USAGE
        said = f"Error: {name} takes one value, and is repeated" in capsys.readouterr().err
        assert said != option.multiple


def test_a_flag_may_be_repeated(archive: Path, tmp_path: Path) -> None:
    assert main(["restore", str(archive), str(tmp_path / "out"), "--original", "--original"]) == 0


def test_help_is_given_whatever_is_repeated(capsys: Captured) -> None:
    assert main(["convert", "--jobs", "1", "--jobs", "2", "--help"]) == 0
    assert "Usage: dicomstudy convert" in capsys.readouterr().out


def test_uids_that_are_not_there_exit_with_2(
    archive: Path, tmp_path: Path, capsys: Captured
) -> None:
    assert main(["show", str(archive), "1.2.3"]) == cli.USAGE
    assert main(["restore", str(archive), str(tmp_path / "out"), "--study", "1.2.3"]) == cli.USAGE
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(re.fullmatch(r"error: .* \[archive/not-found\].*", line) for line in lines)


@pytest.mark.parametrize(
    "changes",
    [
        ["PatientID=a", "PatientID=b"],
        ["PatientID=a", "00100020=b"],
        ["PatientID=a", "--remove", "PatientID"],
    ],
)
def test_an_attribute_has_one_value_at_a_time(
    changes: list[str], archive: Path, capsys: Captured
) -> None:
    assert main(["update", str(archive), "--study", CT, *changes]) == cli.USAGE
    assert "[change/twice]" in capsys.readouterr().err
    assert len(dicomstudy.history(archive, CT)) == 1


def test_an_error_is_one_line(archive: Path, capsys: Captured) -> None:
    opened = dicomstudy.open_archive(archive)
    opened.document_path(CT).write_bytes(b"nonsense")
    assert main(["show", str(archive), CT]) == cli.INCOMPLETE
    captured = capsys.readouterr()
    assert re.fullmatch(r"error: .* \[study/[a-z-]+\] \(.*\)\n", captured.err)


def test_ctrl_c_is_one_line(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(dicomstudy, "convert", interrupted)
    assert main(["convert", str(HOSPITAL), str(tmp_path / "a")]) == cli.INTERRUPTED
    assert capsys.readouterr().err == "interrupted\n"


#: Presses Ctrl-C when a module is imported, and runs the program.
_INTERRUPTED_IMPORT = """
import sys
class Interrupt:
    def find_spec(self, name, *_):
        if name == {module!r}:
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupt())
sys.argv = ["dicomstudy", "--version"]
{run}
"""
_AS_MODULE = 'import runpy; runpy.run_module("dicomstudy", run_name="__main__", alter_sys=True)'


def as_program() -> str:
    """What the program that is installed does."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
    module, _, function = project["scripts"]["dicomstudy"].partition(":")
    return f"from {module} import {function}; sys.exit({function}())"


@pytest.mark.parametrize("run", [_AS_MODULE, as_program()], ids=["module", "program"])
@pytest.mark.parametrize("module", ["click", "dicomstudy.cli", "dicomstudy.cli.tables"])
def test_ctrl_c_during_imports_is_quiet(module: str, run: str) -> None:
    done = processes.run(_INTERRUPTED_IMPORT.format(module=module, run=run))
    assert (done.returncode, done.stdout, done.stderr) == (cli.INTERRUPTED, "", "")


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize(
    ("jobs", "number", "status"),
    [("1", signal.SIGINT, 130), ("2", signal.SIGINT, 130), ("2", signal.SIGTERM, 143)],
)
def test_ctrl_c_leaves_a_valid_archive(
    jobs: str, number: signal.Signals, status: int, tmp_path: Path
) -> None:
    """So does what else asks a run to end."""
    sources = tmp_path / "in"
    sources.mkdir()
    content = (HOSPITAL / "ct/report.dcm").read_bytes()
    uid = make.uid("ct/99/1").encode()
    for each in range(4000):
        other = f"2.25.{10**38 + each}".encode()
        (sources / str(each)).write_bytes(content.replace(uid, other))
    process = subprocess.Popen(  # noqa: S603 (of this project)
        [sys.executable, "-m", "dicomstudy", "convert", "in", "archive", "--jobs", jobs],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    while process.poll() is None and not list(tmp_path.glob("archive/incoming/*/*")):
        time.sleep(0.01)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (status, "")
    assert err.endswith("interrupted\n")
    assert "Traceback" not in err
    assert main(["verify", str(tmp_path / "archive")]) == 0
    assert main(["convert", str(sources), str(tmp_path / "archive")]) == 0
    (study,) = dicomstudy.open_archive(tmp_path / "archive").values()
    assert len(study) == 4000


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't start new thread")])
def test_memory_that_does_not_suffice_is_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    """Also where no other module can be imported any more."""
    monkeypatch.setattr("dicomstudy.cli.commands.main", mock.Mock(side_effect=error))
    monkeypatch.setitem(sys.modules, "dicomstudy.show", None)
    assert main(["verify", "archive"]) == cli.INCOMPLETE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.endswith(" [system/memory]\n")
    assert captured.err.count("\n") == 1


def test_a_defect_of_the_program_is_said_in_full(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicomstudy.Archive.find", mock.Mock(side_effect=RuntimeError("defect")))
    with pytest.raises(RuntimeError, match="defect"):
        main(["show", str(archive), CT])


def test_output_that_nobody_reads_is_no_error(archive: Path) -> None:
    with subprocess.Popen(  # noqa: S603 (of this project)
        [sys.executable, "-m", "dicomstudy", "show", str(archive), CT, "--format", "ion"],
        env={**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        process.wait(timeout=60)
    assert process.returncode == cli.INCOMPLETE


def unread() -> IO[bytes]:
    """The end of a pipe whose other end is closed."""
    reading, writing = os.pipe()
    os.close(reading)
    return os.fdopen(writing, "wb")


@pytest.mark.parametrize("full", [True, False], ids=["full", "closed"])
def test_work_ends_though_nobody_can_be_told_how_far_it_is(full: bool, tmp_path: Path) -> None:
    if full and not Path("/dev/full").exists():
        pytest.skip("there is no file that is always full")
    sources = [str(HOSPITAL), str(WRECKS / "DICOMDIR")]
    arguments = ["convert", *sources, "archive", "--report", "report.json"]
    with Path("/dev/full").open("wb") if full else unread() as stderr:
        for more in ([], ["missing", "archive"]):
            done = subprocess.run(  # noqa: S603 (of this project)
                [sys.executable, "-m", "dicomstudy", *arguments, *more],
                check=False,
                cwd=tmp_path,
                env={**os.environ, "PYTHONPATH": str(PROJECT)},
                stdout=subprocess.PIPE,
                stderr=stderr,
            )
            if more:
                assert (done.returncode, done.stdout) == (cli.USAGE, b"")
            else:
                assert done.returncode == cli.INCOMPLETE
                assert b"5 studies; 37 instances added" in done.stdout
    assert json.loads((tmp_path / "report.json").read_bytes())["quarantined"] == 1
    assert len(dicomstudy.open_archive(tmp_path / "archive")) == 5


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_closed_output_is_no_error(
    name: str, archive: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    """Python has none then."""
    monkeypatch.setattr(sys, name, None)
    assert main(["show", str(archive)]) == 0
    assert main(["show", str(archive), "1.2"]) == cli.USAGE
    captured = capsys.readouterr()
    assert ("archive/not-found" in captured.err, CT in captured.out) == (
        name == "stdout",
        name == "stderr",
    )


def test_output_in_another_encoding_is_no_error(archive: Path) -> None:
    done = run("show", archive, make.uid("texts/1/japanese"), PYTHONIOENCODING="latin-1")
    assert (done.returncode, done.stderr) == (0, "")
    assert r"Example^Eva=\u4f8b\u793a" in done.stdout


def test_version(capsys: Captured) -> None:
    try:
        installed = version("dicomstudy")
    except PackageNotFoundError:
        pytest.skip("the package is used without having been installed")
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"dicomstudy {installed}\n"


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from dicomstudy.cli import main; main(['--help']); print(*sys.modules)"
    done = subprocess.run(  # noqa: S603 (of this project)
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )
    loaded = set(done.stdout.splitlines()[-1].split())
    ours = {module for module in loaded if module.startswith("dicomstudy.")}
    assert {module for module in ours if not module.startswith("dicomstudy.cli")} == {
        "dicomstudy.errors",
        "dicomstudy.printable",
    }
    assert not {"amazon.ion", "zstandard", "pydicom", "pyarrow"} & loaded


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_on_a_terminal_is_one_line_that_changes() -> None:
    stream = Terminal()
    with output.Progress(stream) as progress:
        progress._pause = 0.0
        progress("files", 1200, None)
        progress("studies", 1, 2)
        progress("studies", 2, 2)
    bar, full = "#" * 12 + "-" * 12, "#" * 24
    start = "\r\x1b[K"
    assert stream.getvalue() == (
        f"{start}files: 1,200{start}studies: [{bar}] 1 of 2{start}studies: [{full}] 2 of 2{start}"
    )


def test_progress_elsewhere_is_lines_now_and_then() -> None:
    stream = io.StringIO()
    with output.Progress(stream) as progress:
        for number in range(1, 1000):
            progress("files", number, None)
        progress("studies", 2, 2)
    assert stream.getvalue() == "files: 999\nstudies: 2 of 2\n"


def test_progress_that_cannot_be_shown_is_none() -> None:
    class Full(Terminal):
        def write(self, _: str) -> int:
            studies.disk_full()

    with output.Progress(Full()) as progress:
        progress("files", 1, None)
        progress("studies", 1, 2)


def test_progress_without_work_shows_nothing() -> None:
    stream = io.StringIO()
    with output.Progress(stream):
        pass
    assert stream.getvalue() == ""
