"""The commands `tables`, `query` and `schema` (spec/tables.md)."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Timer

import pyarrow.parquet as pq
import pytest

import dicomstudy
from dicomstudy.archive import create
from dicomstudy.cli import main
from fixtures import make
from tests import processes, studies


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_the_commands(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "tables"
    assert run("tables", archive, target) == 0
    count = len(dicomstudy.open_archive(archive))
    assert f"{count} studies" in capsys.readouterr().out
    question = "SELECT Modality, count(*) AS n FROM metadata GROUP BY 1 ORDER BY 1"
    answers = []
    for source in (archive, target):
        assert run("query", source, question, "--format", "csv") == 0
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1]
    assert answers[0].startswith("Modality,n\r\nCT,")
    for form in ("table", "json", "csv"):
        assert run("query", target, question, "--format", form) == 0
        shown = capsys.readouterr().out
        path = tmp_path / f"answer.{form}"
        assert run("query", target, question, "--format", form, "--output", path) == 0
        with path.open(newline="") as file:
            assert file.read() == shown
    path = tmp_path / "answer.parquet"
    assert run("query", target, question, "--format", "parquet", "--output", path) == 0
    assert pq.read_table(path).column_names == ["Modality", "n"]
    capsys.readouterr()
    assert run("schema", target) == 0
    shown = capsys.readouterr().out
    (name,) = [line for line in shown.splitlines() if line.startswith("  PatientName ")][:1]
    assert re.split("  +", name.strip()) == [
        "PatientName", "struct", "(0010,0010)", "PN", "Patient's Name", "patient",
    ]  # fmt: skip
    assert shown.startswith("instances  ")


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["query", "{tables}", "SELECT Modalty FROM metadata"], 2, "is it Modality"),
        (["query", "{tables}", "SELECT 1", "--format", "parquet"], 2, "--output"),
        (["query", "{empty}", "SELECT 1"], 2, "no tables"),
        (["schema", "{empty}"], 2, "no tables"),
        (["schema", "{tables}", "--sources", "{empty}"], 2, "refer to no P10 files"),
        (["query", "{empty}", "SELECT 1", "--sources", "{empty}"], 2, "no tables"),
        (["query", "{empty}/no", "SELECT 1"], 2, "there is no such folder"),
        (["tables", "{empty}", "{empty}"], 2, "no folder of an archive"),
        (["tables", "{empty}/no", "{empty}"], 2, "there is no such folder"),
        (["tables", "{archive}", "{archive}"], 2, "is in the archive"),
    ],
)
def test_wrong_usage(
    arguments: list[str],
    status: int,
    says: str,
    archive: Path,
    tables_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {"tables": tables_folder, "archive": archive, "empty": tmp_path}
    assert run(*(argument.format(**places) for argument in arguments)) == status
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("form", ["table", "csv", "json", "parquet"])
def test_answers_replace_answers_only(
    form: str, tables_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def ask(output: Path) -> int:
        query = "SELECT 'ä' AS a" if output.name == "answer" else "SELECT error('was asked')"
        return run("query", tables_folder, query, "--format", form, "--output", output)

    original = tmp_path / "original.dcm"
    ((_, data),) = make.study(1)
    original.write_bytes(data)
    (tmp_path / "loop").symlink_to("loop")
    for output in (original, tables_folder / "new", tmp_path / "no" / "answer", tmp_path / "loop"):
        assert ask(output) == 2
        assert "--output" in capsys.readouterr().err
    assert original.read_bytes() == data
    assert ask(tmp_path / "answer") == 0
    assert ask(tmp_path / "answer") == 0


@pytest.mark.parametrize("form", ["table", "parquet"])
def test_an_answer_is_written_over_no_archive_or_tables(
    form: str,
    archive: Path,
    tables_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other, others = tmp_path / "archive", tmp_path / "tables"
    create(other)
    shutil.copytree(tables_folder, others)
    (tmp_path / "link.txt").symlink_to(other / "archive.ion")
    (tmp_path / "of.csv").symlink_to(others / "catalog.json")
    for name in ("program.py", "notes.md"):
        (tmp_path / name).write_text("text")
    before = studies.state_of(tmp_path)
    refused = [
        other / "archive.ion",
        other / "new.csv",
        tmp_path / "link.txt",
        others / "catalog.json",
        others / "new.parquet",
        others / "instances" / "new.parquet",
        tmp_path / "of.csv",
        tmp_path / "program.py",
        tmp_path / "notes.md",
    ]
    for source in (archive, tables_folder):
        for output in refused:
            query = ("query", source, "SELECT 1", "--format", form, "--output", output)
            assert run(*query) == 2
            assert "--output" in capsys.readouterr().err
    assert studies.state_of(tmp_path) == before


@pytest.mark.parametrize("form", ["table", "csv", "json", "parquet"])
def test_what_may_be_an_earlier_answer_is_replaced(
    form: str, tables_folder: Path, tmp_path: Path
) -> None:
    for name in ("a", "a.csv", "a.json", "a.TXT"):
        path = tmp_path / name
        path.write_text("text")
        expected = 2 if form == "parquet" else 0
        query = ("query", tables_folder, "SELECT 1 AS a", "--format", form, "--output", path)
        assert run(*query) == expected
        assert (path.read_text() == "text") == (form == "parquet")
    for name, start in (("a.parquet", b"PAR1"), ("a.py", b"")):
        path = tmp_path / name
        path.write_bytes(start)
        query = ("query", tables_folder, "SELECT 1 AS a", "--format", form, "--output", path)
        assert run(*query) == 0
        assert path.read_bytes() not in {b"", b"PAR1"}


@pytest.mark.parametrize(
    ("form", "wrong"),
    [
        ("csv", "SELECT CASE WHEN i = 9000 THEN 'infinity'::date END AS d FROM range(9999) r(i)"),
        ("parquet", "SELECT INTERVAL 1 MONTH AS i"),
    ],
)
def test_an_answer_that_cannot_be_written_leaves_an_earlier_one(
    form: str, wrong: str, tables_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / f"answer.{form}"

    def ask(question: str) -> int:
        return run("query", tables_folder, question, "--format", form, "--output", path)

    assert ask("SELECT 1 AS a") == 0
    before = path.read_bytes()
    assert ask(wrong) != 0
    assert path.read_bytes() == before
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("seconds", [0.5, 1.5])
def test_ctrl_c_ends_a_question(
    seconds: float, tables_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = ", ".join(f"range(100000) t{number}" for number in range(4))
    interrupt = Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    interrupt.start()
    started = time.monotonic()
    assert run("query", tables_folder, f"SELECT count(*) FROM {tables} WHERE random() > 2") == 130
    assert time.monotonic() - started < 30
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), (signal.SIGHUP, 129), (signal.SIGTERM, 143), (signal.SIGKILL, -9)],
)
@pytest.mark.usefixtures("ctrl_c")
def test_a_question_that_is_ended_leaves_no_tables(
    number: signal.Signals, status: int, archive: Path, tmp_path: Path
) -> None:
    """They have names of patients. What a run that is killed leaves goes with the next one."""
    (tmp_path / "tmp").mkdir()
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp"), "PYTHONPATH": str(processes.ROOT)}
    command = [sys.executable, "-m", "dicomstudy", "query", str(archive)]
    tables = ", ".join(f"range(100000) t{number}" for number in range(4))
    with subprocess.Popen(  # noqa: S603 (of this project)
        [*command, f"SELECT count(*) FROM metadata, {tables} WHERE random() > 2"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        while process.poll() is None and not [*tmp_path.rglob("catalog.json")]:
            time.sleep(0.01)
        process.send_signal(number)
        said = process.communicate(timeout=60)
    assert process.returncode == status
    if status < 0:
        assert [*tmp_path.rglob("*")] != [tmp_path / "tmp"]
        subprocess.run(  # noqa: S603 (of this project)
            [*command, "SELECT 1"], env=environment, check=True, capture_output=True
        )
    else:
        assert said == (b"", b"interrupted\n")
    assert [*tmp_path.rglob("*")] == [tmp_path / "tmp"]


def test_a_hangup_that_is_ignored_ends_no_command(tables_folder: Path) -> None:
    script = """
import os, signal, sys
from dicomstudy import __main__, cli
signal.signal(signal.SIGHUP, signal.SIG_IGN)
cli.main = lambda: os.kill(os.getpid(), signal.SIGHUP) or 0
sys.exit(__main__.main())
"""
    assert processes.output(script, tables_folder) == ""


def test_a_damaged_document_is_told_with_the_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(2):
        studies.write_files(tmp_path / "files" / f"{number}", make.study(2, name=f"s{number}"))
    dicomstudy.convert([tmp_path / "files"], tmp_path / "archive")
    first, _ = dicomstudy.open_archive(tmp_path / "archive").documents()
    first.write_bytes(b"nothing")
    assert run("tables", tmp_path / "archive", tmp_path / "tables") == 1
    assert "study/not-a-study" in capsys.readouterr().err
    assert run("query", tmp_path / "archive", "SELECT count(*) AS n FROM studies") == 1
    captured = capsys.readouterr()
    assert captured.out.split() == ["n", "1"]
    assert "study/not-a-study" in captured.err


def test_what_is_shown_moves_no_cursor(
    tables_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("query", tables_folder, "SELECT chr(27) || '[2J' AS evil") == 0
    assert "\x1b" not in capsys.readouterr().out
