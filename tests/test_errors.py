"""Errors: spec/errors.md lists every code; locations, problems, the way through pickle."""

from __future__ import annotations

import ast
import builtins
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dicomstudy
from dicomstudy import errors
from dicomstudy.errors import DicomStudyError, Location, Problem

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "spec" / "errors.md"
CODE = re.compile(r"[a-z][a-z0-9]*/[a-z0-9]+(-[a-z0-9]+)*")
TREE = [
    *("ArchiveError", "BulkError", "DefinitionsError", "IonError", "P10Error", "RecordError"),
    "StudyError",
    "TableError",
]
#: What the codes of each layer are raised as; the others are raised as the base.
KINDS = {
    "ArchiveError": {"archive", "records"},
    "BulkError": {"bulk"},
    "DefinitionsError": {"definitions"},
    "IonError": {"ion"},
    "P10Error": {"p10"},
    "RecordError": {"record"},
    "StudyError": {"study"},
    "TableError": {"tables"},
}


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


def test_errors_have_codes_of_their_layer() -> None:
    for path, module in sources():
        for node in ast.walk(module):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            if node.func.id in KINDS and node.args and isinstance(node.args[0], ast.Constant):
                code = str(node.args[0].value)
                assert code.partition("/")[0] in KINDS[node.func.id], (path.name, code)


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
    assert errors.__all__ == sorted([*TREE, "DicomStudyError", "Location", "Problem"])


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
