"""Files that are in no study: each is kept whole, with a note that says why (spec/archive.md)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from dicomstudy import ion
from dicomstudy.disk import is_there, write_atomically, writing
from dicomstudy.elements import Piece, sha256_and_size
from dicomstudy.errors import ArchiveError, DicomStudyError, Problem

__all__ = ["Quarantined", "keep", "kept_in"]

_SHA256 = re.compile(r"[0-9a-f]{64}")
#: The end of the name of a note.
_NOTE = ".ion"
#: Of a file whose note does not say what its name is; without a note, none knows it.
_WITHOUT_NAME = frozenset(("archive/damaged", "archive/unreadable"))
#: Bytes of a file that are read at once.
_PIECE = 1 << 20


class Quarantined(NamedTuple):
    """A file that is in no study: where it is kept, and why."""

    path: Path
    sha256: str
    size: int
    uri: str
    code: str
    message: str

    @property
    def source(self) -> str:
        """What names it in reports: where it came from, or where it is if nobody knows that."""
        return self.uri or str(self.path)

    @property
    def problem_of_note(self) -> Problem | None:
        """What is wrong with its note, None if that says what it ought to, or is not there."""
        if self.code not in _WITHOUT_NAME:
            return None
        return Problem(str(self.path), self.code, self.message)

    def prove(self, write: Callable[[Piece], object] | None = None) -> None:
        """Compare the file with its SHA-256; `write` is given its bytes meanwhile.

        Raises:
            ArchiveError: it is another, or cannot be read (``archive/damaged``).
        """
        sha256, _ = sha256_and_size(self._pieces(), write)
        if sha256 != self.sha256:
            raise ArchiveError(
                "archive/damaged",
                "a file in quarantine is not the original",
                source=str(self.path),
            )

    def _pieces(self) -> Iterator[bytes]:
        try:
            with self.path.open("rb") as file:
                while piece := file.read(_PIECE):
                    yield piece
        except OSError as error:
            raise ArchiveError(
                "archive/damaged",
                f"a file in quarantine cannot be read: {error.strerror}",
                source=str(self.path),
            ) from error


def keep(file: Quarantined, pieces: Iterable[bytes], *, within: Path) -> int:
    """Keep a file whole, then why; nothing if the note is there. Mirror of `kept_in`.

    Args:
        file: says where, and why.
        pieces: its bytes.
        within: as for `write_atomically`.

    Returns how many bytes were written.

    Raises:
        ArchiveError: it cannot be written, or nobody can tell whether it is there
            (``archive/unreadable``). What `pieces` raises goes through.
    """
    note = _note_of(file.path)
    if is_there(note):
        return 0
    fields = {"uri": file.uri, "sha256": file.sha256, "size": file.size}
    fields |= {"code": file.code, "message": file.message}
    with writing(file.path):
        size = write_atomically(file.path, pieces, within=within)
        return size + write_atomically(note, [ion.dumps(fields, text=True)], within=within)


def kept_in(folder: Path, names: Iterable[str]) -> Iterator[Quarantined]:
    """The files in quarantine by name, of which `folder` has `names`. Mirror of `keep`.

    Where a note does not say why, the code says what is wrong with it (`Archive.quarantined`).
    """
    for name in sorted(filter(_SHA256.fullmatch, {name.removesuffix(_NOTE) for name in names})):
        yield _kept(folder / name)


def _note_of(path: Path) -> Path:
    return path.with_name(path.name + _NOTE)


def _kept(path: Path) -> Quarantined:
    try:
        size = path.stat().st_size
    except OSError:  # whoever reads it is told
        size = 0
    try:
        fields: Any = ion.loads(_note_of(path).read_bytes())
        uri, code, message = (fields[name] for name in ("uri", "code", "message"))
        sha256, recorded = fields["sha256"], fields["size"]
    except FileNotFoundError:
        message = "there is no note that says why it is here"
        return Quarantined(path, path.name, size, "", "archive/no-note", message)
    except (DicomStudyError, KeyError, TypeError, OSError) as error:
        message = f"the note that says why it is here cannot be read: {error}"
        code = "archive/unreadable" if isinstance(error, OSError) else "archive/damaged"
        return Quarantined(path, path.name, size, "", code, message)
    is_text = all(isinstance(field, str) for field in (uri, code, message))
    is_size = type(recorded) is int and recorded >= 0  # if it is another one, the file is cut
    if not (is_text and is_size) or not uri.startswith("file://") or sha256 != path.name:
        message = "the note that says why it is here is not one of this file"
        return Quarantined(path, path.name, size, "", "archive/damaged", message)
    return Quarantined(path, path.name, size, uri, code, message)
