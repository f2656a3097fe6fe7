"""What `import dicomstudy` gives is complete, documented, and costs nothing until it is used."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest

import dicomstudy

MODULES = [
    f"dicomstudy.{module.name}"
    for module in pkgutil.iter_modules(dicomstudy.__path__)
    if module.name != "__main__"
]


def loaded_after(statement: str) -> set[str]:
    """The modules that a new interpreter has after a statement."""
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run(  # noqa: S603 (of this project)
        [sys.executable, "-c", code], check=True, capture_output=True, encoding="utf-8"
    )
    return set(done.stdout.split())


def test_all_is_sorted() -> None:
    assert dicomstudy.__all__ == sorted(dicomstudy.__all__)


@pytest.mark.parametrize("module", ["dicomstudy", *MODULES])
def test_all_is_there(module: str) -> None:
    imported = importlib.import_module(module)
    names = imported.__all__
    assert len(set(names)) == len(names)
    assert set(names) <= set(dir(imported))
    for name in names:
        getattr(imported, name)


@pytest.mark.parametrize("module", ["dicomstudy", *MODULES])
def test_modules_have_docstrings(module: str) -> None:
    assert importlib.import_module(module).__doc__


@pytest.mark.parametrize("name", dicomstudy.__all__)
def test_public_things_have_docstrings(name: str) -> None:
    thing = getattr(dicomstudy, name)
    assert thing.__doc__
    if not inspect.isclass(thing):
        return
    for member, value in vars(thing).items():
        public = not member.startswith("_")
        if public and (inspect.isfunction(value) or isinstance(value, property)):
            assert value.__doc__, f"{name}.{member}"


def test_functions_are_not_hidden_by_modules_of_their_name() -> None:
    for module in MODULES:
        importlib.import_module(module)
    for name in dicomstudy.__all__:
        assert callable(getattr(dicomstudy, name)), name


def test_unknown_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = dicomstudy.nonsense


def test_import_loads_nothing_heavy() -> None:
    heavy = {"amazon", "zstandard", "pydicom", "pyarrow", "click", "dicomstudy.study"}
    assert not heavy & loaded_after("import dicomstudy")


def test_using_the_api_does_not_load_pydicom() -> None:
    loaded = loaded_after("import dicomstudy; dicomstudy.convert; dicomstudy.write_records")
    assert "dicomstudy.conversion" in loaded
    assert not {"pydicom", "pyarrow", "click"} & loaded
