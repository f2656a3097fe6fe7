"""Errors: spec/errors.md lists every code; locations, problems, the way through pickle."""

from __future__ import annotations

import ast
import builtins
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dicomstudy
from dicomstudy import cli, errors
from dicomstudy.errors import DicomStudyError, Location, Problem

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "spec" / "errors.md"
CODE = re.compile(r"[a-z][a-z0-9]*/[a-z0-9]+(-[a-z0-9]+)*")
TREE = [
    *("ArchiveError", "BulkError", "DefinitionsError", "IonError", "P10Error", "RecordError"),
    "StudyError",
    "TableError",
]
KINDS = {*TREE, "DicomStudyError"}


def sources() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted((ROOT / "dicomstudy").rglob("*.py")):
        yield path, ast.parse(path.read_text("utf-8"))


def codes_in_source() -> set[str]:
    """Every text in the package that has the form of a code, docstrings left out."""
    return {
        node.value
        for _, module in sources()
        for node in ast.walk(module)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and CODE.fullmatch(node.value)
    }


def rows_of_page() -> list[list[str]]:
    """The cells of the tables of the page that have a code in the first one."""
    rows = []
    for line in PAGE.read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `"):
            rows.append(cells)
    return rows


def codes_of_page() -> list[str]:
    return [cells[0].strip("`") for cells in rows_of_page()]


def test_the_page_has_every_code_once() -> None:
    codes = codes_of_page()
    assert len(set(codes)) == len(codes)
    assert set(codes) == codes_in_source()


def test_the_page_says_when_and_what_to_do() -> None:
    for cells in rows_of_page():
        assert len(cells) == 3, cells
        assert all(cells), cells


def test_the_page_is_in_order() -> None:
    codes = codes_of_page()
    assert codes == sorted(codes)
    headings = re.findall(r"^## (\w+)", PAGE.read_text("utf-8"), re.MULTILINE)
    assert headings == sorted({code.split("/")[0] for code in codes})


def test_codes_on_other_pages_are_codes() -> None:
    known = set(codes_of_page())
    layers = {code.split("/")[0] for code in known}
    for page in (ROOT / "spec").glob("*.md"):
        for code in re.findall(r"`([a-z0-9]+/[a-z0-9-]+)`", page.read_text("utf-8")):
            assert code in known or code.split("/")[0] not in layers, (page.name, code)


def kinds_of_page() -> dict[str, set[str]]:
    """What the codes of each layer are raised as, as the page says."""
    page = PAGE.read_text("utf-8")
    kinds = {
        layer: set(re.findall(r"`(\w+)`", said))
        for layer, said in re.findall(r"^## (\w+)(.*)", page, re.MULTILINE)
    }
    (as_base,) = re.findall(r"`DicomStudyError`\s+itself is raised by ([^.]+)\.", page)
    for layer in re.findall(r"`(\w+)`", as_base):
        kinds[layer].add("DicomStudyError")
    return kinds


class Made(NamedTuple):
    """An error that the source makes with a code."""

    where: str
    kind: str
    code: str


def errors_in_source() -> list[Made]:
    """Every call that makes an error, or calls what returns one, and has a code in it."""
    modules = list(sources())
    makers: dict[tuple[Path | None, str], set[str]] = {}
    for path, module in modules:
        for node in ast.walk(module):
            if isinstance(node, ast.FunctionDef) and node.returns is not None:
                kind = ast.unparse(node.returns)
                if kind in KINDS:
                    for home in (path, None):
                        makers.setdefault((home, node.name), set()).add(kind)
    made = []
    for path, module in modules:
        for call, base in calls_of(module):
            kinds = {base} & KINDS or makers.get((path, base)) or makers.get((None, base), set())
            where = f"{path.relative_to(ROOT)}:{call.lineno}"
            codes = {code for argument in call.args[:2] for code in codes_in(argument)}
            assert len(kinds) <= 1 or not codes, (where, kinds)
            made += [Made(where, kind, code) for kind in kinds for code in codes]
    return made


def calls_of(module: ast.Module) -> Iterator[tuple[ast.Call, str]]:
    """Each call with the name of what is called; of ``super().__init__``, that of the base."""
    bases = {
        id(call): ast.unparse(node.bases[0])
        for node in ast.walk(module)
        if isinstance(node, ast.ClassDef) and node.bases
        for call in ast.walk(node)
    }
    for node in ast.walk(module):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name == "super().__init__":
                name = bases[id(node)]
            yield node, name.rpartition(".")[2]


def codes_in(argument: ast.expr) -> Iterator[str]:
    """The codes that an argument may be, those of other calls left out."""
    if isinstance(argument, ast.IfExp):
        yield from (*codes_in(argument.body), *codes_in(argument.orelse))
    elif isinstance(argument, ast.Constant) and CODE.fullmatch(str(argument.value)):
        yield str(argument.value)


def test_errors_are_of_the_class_of_their_layer() -> None:
    said, found = kinds_of_page(), errors_in_source()
    wrong = [each for each in found if each.kind not in said[each.code.partition("/")[0]]]
    assert not wrong
    raised: dict[str, set[str]] = {layer: set() for layer in said}
    for each in found:
        raised[each.code.partition("/")[0]].add(each.kind)
    assert raised == said


def test_every_code_that_is_raised_is_seen() -> None:
    """So that no class of errors and no function that makes them is overlooked above."""
    seen = {each.code for each in errors_in_source()}
    for path, module in sources():
        for node in ast.walk(module):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                for argument in node.exc.args:
                    assert seen.issuperset(codes_in(argument)), (path.name, node.lineno)


def test_nothing_built_in_is_raised() -> None:
    """Mappings raise KeyError, modules AttributeError and codecs what codecs do; no other does."""
    allowed = {"KeyError", "AttributeError", "UnicodeDecodeError", "UnicodeEncodeError"}
    built_in = {name for name in dir(builtins) if name.endswith("Error")}
    for path, module in sources():
        for node in ast.walk(module):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                name = getattr(node.exc.func, "id", "")
                assert name not in built_in - allowed, (path.name, node.lineno, name)


def test_the_tree() -> None:
    assert issubclass(DicomStudyError, Exception)
    for name in TREE:
        kind = getattr(errors, name)
        assert kind.__bases__ == (DicomStudyError,)
        assert getattr(dicomstudy, name) is kind
        assert not issubclass(kind, ValueError | OSError)
    others = ["DicomStudyError", "Location", "Problem", "UNREADABLE", "UNWRITABLE", "unwritable"]
    assert sorted(errors.__all__) == sorted([*TREE, *others])


@pytest.mark.parametrize(
    ("location", "text"),
    [
        (Location(), ""),
        (Location("a.dcm"), "a.dcm"),
        (Location("a.dcm", 0), "a.dcm at byte 0"),
        (Location(None, 12), "at byte 12"),
        (Location("a.dcm", 12, 0x00100010), "a.dcm at byte 12 in (0010,0010)"),
        (Location(tag=0x7FE00010), "in (7FE0,0010)"),
        (Location(tag=0), "in (0000,0000)"),
    ],
)
def test_a_location_is_told_in_words(location: Location, text: str) -> None:
    assert str(location) == text
    error = DicomStudyError("p10/truncated", "it ends", **location._asdict())
    assert str(error) == "it ends [p10/truncated]" + (f" ({text})" if text else "")
    assert error.location == location


def test_an_error_as_a_problem() -> None:
    error = errors.P10Error("p10/truncated", "it ends", offset=12, tag=0x0010000A)
    expected = Problem("b.dcm", "p10/truncated", "it ends", 12, "0010000A")
    assert error.problem("b.dcm") == expected
    assert error.problem() == expected._replace(source=None)
    known = errors.P10Error("p10/truncated", "it ends", source="a.dcm")
    assert known.problem("b.dcm") == Problem("a.dcm", "p10/truncated", "it ends")


def test_a_problem_is_a_row_of_the_report() -> None:
    assert Problem("a", "b/c", "d")._asdict() == {
        "source": "a",
        "code": "b/c",
        "message": "d",
        "offset": None,
        "tag": None,
    }


@given(
    kind=st.sampled_from([DicomStudyError, *(getattr(errors, name) for name in TREE)]),
    code=st.text(),
    message=st.text(),
    source=st.none() | st.text(),
    offset=st.none() | st.integers(min_value=0),
    tag=st.none() | st.integers(min_value=0, max_value=0xFFFFFFFF),
)
def test_errors_survive_pickle(
    kind: type[DicomStudyError],
    code: str,
    message: str,
    source: str | None,
    offset: int | None,
    tag: int | None,
) -> None:
    error = kind(code, message, source=source, offset=offset, tag=tag)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 (it was made one line above)
    assert type(again) is kind
    assert (again.code, again.message, again.location) == (code, message, error.location)
    assert str(again) == str(error)
    assert again.problem() == error.problem()


def test_the_specification_lists_what_is_wrong_usage() -> None:
    page = (ROOT / "spec" / "archive.md").read_text("utf-8")
    (row,) = [line for line in page.splitlines() if line.startswith("| 2 | ")]
    listed = re.findall(r"`([^`]+)`", row)
    codes = {code for code in listed if CODE.fullmatch(code)}
    every = {code.removesuffix("…") for code in listed if code.endswith("/…")}
    assert (
        codes | {code for code in codes_of_page() if code.startswith(tuple(every))}
        == cli._USAGE_CODES
    )
