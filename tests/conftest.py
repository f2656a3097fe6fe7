"""Hypothesis profiles, and the folder of real files that is no part of the repository."""

from __future__ import annotations

import logging
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    import dicomstudy

# A gate says the same of the same code each time; what is new is looked for with "soak".
settings.register_profile("dev", max_examples=50, deadline=None, derandomize=True)
settings.register_profile("ci", max_examples=200, deadline=None, derandomize=True)
settings.register_profile("soak", max_examples=10_000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Tests that are named run in this process, where a debugger and benchmarks can be."""
    return None if config.args_source is pytest.Config.ArgsSource.TESTPATHS else 0


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder named by DICOMSTUDY_SHARED, else `shared` beside the project."""
    beside = Path(__file__).parents[2] / "shared"
    folder = Path(os.environ.get("DICOMSTUDY_SHARED", beside))
    if not folder.is_dir():
        pytest.skip(f"no real files: {folder} is not there (DICOMSTUDY_SHARED names the folder)")
    return folder


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fixtures as an archive, which no test changes."""
    import dicomstudy  # noqa: PLC0415 (tests of what an import loads come first)
    from tests import studies  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("archive")
    dicomstudy.convert([studies.write_fixtures(folder / "files")], folder / "archive")
    return folder / "archive"


@pytest.fixture(scope="session")
def tables_folder(archive: Path) -> Path:
    """The tables of that archive, which no test changes."""
    import dicomstudy  # noqa: PLC0415 (as above)

    dicomstudy.export_tables(archive, archive.parent / "tables")
    return archive.parent / "tables"


@pytest.fixture
def copied_tables(tables_folder: Path, tmp_path: Path) -> Path:
    """Those tables again, to be changed or damaged."""
    return shutil.copytree(tables_folder, tmp_path / "copied")


@pytest.fixture
def tables(tables_folder: Path) -> dicomstudy.Tables:
    """Those tables, opened."""
    import dicomstudy  # noqa: PLC0415 (as above)

    return dicomstudy.open_tables(tables_folder)


@pytest.fixture
def quiet_pydicom(caplog: pytest.LogCaptureFixture) -> None:
    """Let pydicom not say what it thinks of the files that it reads."""
    caplog.set_level(logging.CRITICAL, logger="pydicom")


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C is heard, and that a terminal is closed, in new processes too.

    Shells let the one be ignored where tests run in the background, and `nohup` the other.
    """
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    hangup = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGHUP, hangup)
