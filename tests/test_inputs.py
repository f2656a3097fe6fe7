"""What comes in, and whether it stayed the same meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dicomstudy.errors import DicomStudyError
from dicomstudy.inputs import Input
from dicomstudy.sources import Window


@pytest.mark.parametrize("ask", [Input.check, lambda given: [*given.pieces()]])
def test_a_large_file_that_was_written_to_is_not_taken_in(
    ask: Callable[[Input], object], tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"content")
    with Window(tmp_path / "file") as window:
        given = Input(window, "", "")
        ask(given)
        os.utime(tmp_path / "file", ns=(1, 1))
        with pytest.raises(DicomStudyError) as raised:
            ask(given)
    assert raised.value.code == "source/changed"
