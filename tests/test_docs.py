"""What README says is so: its commands, its Python, its reference and its links."""

from __future__ import annotations

import doctest
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dicomstudy.cli import main

PROJECT = Path(__file__).parents[1]
README = (PROJECT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^(#+) (.*)$", re.MULTILINE)
COMMANDS = [
    *("collect", "conflicts", "convert", "deidentify", "delete", "history", "merge", "move"),
    *("query", "records", "resolve", "restore", "revert", "schema", "show", "split", "tables"),
    *("update", "verify"),
]
#: A module or folder that a page names, and the colon behind it.
MODULE = re.compile(r"`((?:dicomstudy/)?[a-z0-9_/]+\.py|dicomstudy/[a-z0-9_]+/)`(:?)")
#: Modules that no page of the specification is about.
UNSPECIFIED = {
    "dicomstudy/beside.py": "a thread; nothing is written otherwise because of it",
    "dicomstudy/printable.py": "text for a terminal; nothing is read back from it",
}
# Compressors of other versions give other sizes.
SIZE = re.compile(r"\b\d[\d.]* (?:bytes?|[kMGT]B)\b")


def blocks(language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall(README) if kind == language]


def under(heading: str) -> str:
    """What stands between a heading and the next one."""
    parts = HEADING.split(BLOCK.sub(lambda found: found[0].replace("\n#", "\n\0"), README))
    (found,) = [
        text for title, text in zip(parts[2::3], parts[3::3], strict=True) if title == heading
    ]
    return found


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is as a user's clone is, and a `dicomstudy` on the path."""
    shutil.copytree(PROJECT / "fixtures", tmp_path / "fixtures")
    programs = tmp_path / "programs"
    programs.mkdir()
    program = programs / "dicomstudy"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m dicomstudy "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("heading", ["Quick start", "Tests"])
def test_command_headings_have_one_block_of_one_line(heading: str) -> None:
    ((_, command),) = BLOCK.findall(under(heading))
    assert command.count("\n") == 1
    assert command.startswith("pip install ")


def test_quick_start_succeeds_once_installed(clone: Path) -> None:
    ((_, command),) = BLOCK.findall(under("Quick start"))
    install, _, rest = command.partition(" && ")
    assert install == "pip install ."
    subprocess.run(["/bin/sh", "-ec", rest], check=True)  # noqa: S603 (of this project)
    assert (clone / "demo" / "archive.ion").is_file()


@pytest.mark.parametrize("block", blocks("console"))
def test_commands_give_what_is_shown(block: str, clone: Path) -> None:
    assert clone.is_dir()
    for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, expected = step.partition("\n")
        done = subprocess.run(  # noqa: S603 (of this project)
            ["/bin/sh", "-ec", command], check=False, stdout=subprocess.PIPE, encoding="utf-8"
        )
        assert done.returncode == 0, command
        wanted, given = SIZE.sub("SIZE", expected), SIZE.sub("SIZE", done.stdout)
        matches = doctest.OutputChecker().check_output(wanted, given, doctest.ELLIPSIS)
        assert matches, f"{command}\n{done.stdout}"


@pytest.mark.parametrize("block", blocks("python"))
def test_python_gives_what_is_shown(block: str, clone: Path) -> None:
    assert clone.is_dir()
    test = doctest.DocTestParser().get_doctest(block, {}, "README", "README.md", 0)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    written: list[str] = []
    failed, attempted = runner.run(test, out=written.append)
    assert attempted
    assert not failed, "".join(written)


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_reference_is_the_help(
    command: str | None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    title = f"`dicomstudy {command}`" if command else "`dicomstudy`"
    ((_, reference),) = BLOCK.findall(under(title))
    assert main([*([command] if command else []), "--help"]) == 0
    assert capsys.readouterr().out == reference


def test_every_block_is_tested() -> None:
    kinds = [kind for kind, _ in BLOCK.findall(README)]
    assert README.count("\n```") == 2 * len(kinds)
    assert kinds.count("sh") == 2
    assert kinds.count("text") == 1 + len(COMMANDS)
    assert set(kinds) == {"sh", "text", "console", "python"}


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!https?:)([^)#]+)", README))))
def test_links_lead_somewhere(link: str) -> None:
    assert (PROJECT / link).exists()


def implementing(page: str) -> set[str]:
    """The modules that a page of the specification names as those that implement it.

    Names are those of `dicomstudy/`, or of the folder that stands before a colon; a folder
    without one stands for all its modules.
    """
    found: set[str] = set()
    for paragraph in re.findall(r"^Implemented by .*?\n\n", page, re.MULTILINE | re.DOTALL):
        base = "dicomstudy/"
        for name, colon in MODULE.findall(paragraph):
            path = name if name.startswith("dicomstudy/") else base + name
            assert (PROJECT / path).exists(), path
            if colon:
                base = path
            elif path.endswith("/"):
                found.update(f"{path}{module.name}" for module in (PROJECT / path).glob("*.py"))
            else:
                found.add(path)
    return found


def test_every_module_is_named_by_a_page_of_the_specification() -> None:
    named = set().union(
        *(implementing(page.read_text(encoding="utf-8")) for page in PROJECT.glob("spec/*.md"))
    )
    modules = {
        path.relative_to(PROJECT).as_posix()
        for path in PROJECT.glob("dicomstudy/**/*.py")
        if not path.name.startswith("__") and path.parent.name != "cli"
    }
    assert modules - named == UNSPECIFIED.keys()
