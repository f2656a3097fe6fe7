"""Hypothesis profiles, and the folder of real files that is no part of the repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile("ci", max_examples=200, deadline=None, print_blob=True)
settings.register_profile("soak", max_examples=10_000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder named by DICOMSTUDY_SHARED, else `shared` beside the project."""
    beside = Path(__file__).parents[2] / "shared"
    folder = Path(os.environ.get("DICOMSTUDY_SHARED", beside))
    if not folder.is_dir():
        pytest.skip(f"no real files: {folder} is not there (DICOMSTUDY_SHARED names the folder)")
    return folder
