"""The large values of a study, in the bulk file of another one (spec/deidentification.md)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from dicomstudy.bulk import BulkReader, BulkWriter, Place, Places
from dicomstudy.disk import writing
from dicomstudy.elements import Piece
from dicomstudy.errors import BulkError
from dicomstudy.study import Instance, Study

__all__ = ["Copies", "ValuesOf"]


class Copies:
    """Copies values, each once, and proves each once.

    Args:
        study: the study that has them.
        path: the bulk file that they go to; it is made with the first one.

    Attributes:
        places: where each lies in that file, by SHA-256.
    """

    def __init__(self, study: Study, path: Path) -> None:
        self.places: Places = {}
        self._study = study
        self._path = path
        self._writer: BulkWriter | None = None
        self._reader: BulkReader | None = None
        self._homes: dict[str, tuple[bool, Place]] = {}
        self._proved: set[str] = set()
        self._chunk = lru_cache(maxsize=2)(self._read_chunk)

    @property
    def end(self) -> int:
        """The size of the bulk file, which is on disk then; 0 if there is none."""
        if self._writer is None:
            return 0
        with writing(self._path):
            self._writer.sync()
        return self._writer.end

    def close(self) -> None:
        """Close the bulk file."""
        with writing(self._path):
            for file in (self._writer, self._reader):
                if file is not None:
                    file.close()

    def _open(self) -> BulkWriter:
        if self._writer is None:
            self._writer = BulkWriter(self._path, end=0)
        return self._writer

    def copy(
        self, instance: Instance, reference: Mapping[str, Any], *, word: int, frame: int
    ) -> dict[str, Any]:
        """The reference to a value of an instance, which is copied as it is.

        Args:
            instance: the instance.
            reference: stands for the value there.
            word, frame: bytes of a sample and of a frame of its pixel data.
        """
        fields = ("length", "sha256", "fragments")
        plain = {name: reference[name] for name in fields if name in reference}
        sha256 = plain.get("sha256")
        if sha256 in self.places:
            return plain
        place = instance.place(reference)
        if place is not None and sha256 is not None:
            self._homes[sha256] = False, place
            bulk = self._study.bulk
            with writing(self._path):
                new = self._open().copy(bulk, place)
        else:
            digest = hashlib.sha256()
            with writing(self._path):
                new = self._open().add(
                    _hashed(instance.value_pieces(reference), digest.update),
                    int(reference["length"]),
                    word=word,
                    frame=frame,
                )
            plain["sha256"] = digest.hexdigest()
            if sha256 not in {None, plain["sha256"]}:
                raise _changed(self._study.path)
            sha256 = plain["sha256"]
            self._homes[sha256] = True, new
            self._proved.add(sha256)
        self.places[sha256] = new.to_struct()
        return plain

    def put(self, content: bytes) -> dict[str, Any]:
        """The reference to a new value."""
        sha256 = hashlib.sha256(content).hexdigest()
        if sha256 not in self.places:
            with writing(self._path):
                new = self._open().add([content], len(content))
            self._homes[sha256] = True, new
            self.places[sha256] = new.to_struct()
        return {"length": len(content), "sha256": sha256}

    def pieces(self, reference: Mapping[str, Any]) -> Iterator[Piece]:
        """The bytes of a value of the result.

        Raises:
            BulkError: the source is damaged.
        """
        sha256 = reference["sha256"]
        is_new, place = self._homes[sha256]
        reader = self._own_reader() if is_new else self._study.bulk
        if sha256 in self._proved:
            yield from reader.pieces(place)
            return
        digest = hashlib.sha256()
        yield from _hashed(reader.pieces(place), digest.update)
        if digest.hexdigest() != sha256:
            raise _changed(self._study.path)
        self._proved.add(sha256)

    def part(self, reference: Mapping[str, Any], start: int, stop: int) -> bytes:
        """Bytes `start` to `stop` of a value of the result, which are not proved by that."""
        sha256 = reference["sha256"]
        size = max(1, self._homes[sha256][1].chunk)
        first = start // size
        chunks = [self._chunk(sha256, at) for at in range(first, -(-stop // size))]
        return b"".join(chunks)[start - first * size : stop - first * size]

    def _read_chunk(self, sha256: str, at: int) -> bytes:
        is_new, place = self._homes[sha256]
        reader = self._own_reader() if is_new else self._study.bulk
        return reader.read(place, at * place.chunk, (at + 1) * place.chunk)

    def resolve(self, reference: Mapping[str, Any]) -> bytes:
        """The bytes of a value of the result in one piece."""
        return b"".join(self.pieces(reference))

    def _own_reader(self) -> BulkReader:
        with writing(self._path):
            self._open().flush()
        if self._reader is None:
            self._reader = BulkReader(self._path)
        return self._reader


@dataclass(frozen=True, slots=True)
class ValuesOf:
    """The values of one instance, and those that are made of them; see `attributes.Values`.

    `word` and `frame` are the bytes of a sample and of a frame of its pixel data.
    """

    instance: Instance
    copies: Copies
    word: int
    frame: int

    def read(self, reference: Mapping[str, Any]) -> bytes:
        """The bytes of a value of the instance."""
        return b"".join(self.instance.value_pieces(reference))

    def copy(self, reference: Mapping[str, Any]) -> dict[str, Any]:
        """The reference to a value of the instance, which is copied as it is."""
        return self.copies.copy(self.instance, reference, word=self.word, frame=self.frame)

    def put(self, content: bytes) -> dict[str, Any]:
        """The reference to a new value."""
        return self.copies.put(content)


def _hashed(pieces: Iterable[Piece], update: Callable[[Piece], None]) -> Iterator[Any]:
    for piece in pieces:
        update(piece)
        yield piece


def _changed(path: Path) -> BulkError:
    return BulkError("bulk/digest", "a value is not what its digest says", source=str(path))
