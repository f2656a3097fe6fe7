"""What `import dicomstudy` gives is complete, documented, and costs nothing until it is used."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import dicomstudy
from dicomstudy.cli.group import commands
from dicomstudy.elements import MAX_INLINE

MODULES = [
    module.name
    for module in pkgutil.walk_packages(dicomstudy.__path__, "dicomstudy.")
    if module.name != "dicomstudy.__main__"
]


def loaded_after(statement: str) -> set[str]:
    """The modules that a new interpreter has after a statement."""
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run(  # noqa: S603 (of this project)
        [sys.executable, "-c", code], check=True, capture_output=True, encoding="utf-8"
    )
    return set(done.stdout.split())


def used_by_others() -> Iterator[tuple[str, str, str]]:
    """The module that uses it, the one that has it, and the name of whatever is imported."""
    known = {"dicomstudy", *MODULES}
    for user in known:
        path = importlib.import_module(user).__file__
        assert path is not None
        tree = ast.parse(Path(path).read_text("utf-8"))
        modules: dict[str, str] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module in known:
                for alias in node.names:
                    if f"{node.module}.{alias.name}" in known:
                        modules[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                    else:
                        yield user, str(node.module), alias.name
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                home = modules.get(node.value.id)
                if home is not None and f"{home}.{node.attr}" not in known:
                    yield user, home, node.attr


def all_of(module: str) -> list[str]:
    """The names that a module gives; a module inside of a package need not say them."""
    imported = importlib.import_module(module)
    if module.count(".") > 1 and not hasattr(imported, "__all__"):
        return [name for name in dir(imported) if name[:1] != "_"]
    names: list[str] = imported.__all__
    return names


def test_what_other_modules_use_is_in_all() -> None:
    used = list(used_by_others())
    assert ("dicomstudy.tables.export", "dicomstudy.tables.catalog", "path_of") in used
    hidden = {f"{user}: {home}.{name}" for user, home, name in used if name not in all_of(home)}
    assert not hidden


def test_all_is_sorted() -> None:
    assert dicomstudy.__all__ == sorted(dicomstudy.__all__)


@pytest.mark.parametrize("module", ["dicomstudy", *MODULES])
def test_all_is_there(module: str) -> None:
    imported = importlib.import_module(module)
    names = all_of(module)
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


@pytest.mark.parametrize("command", ["convert", "records"])
def test_commands_keep_apart_what_functions_do(command: str) -> None:
    (option,) = [each for each in commands.commands[command].params if each.name == "max_inline"]
    assert option.default == MAX_INLINE
