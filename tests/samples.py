"""The bytes of the files that laws are tried on, and mutants of them."""

from __future__ import annotations

import importlib.util
import io
import os
import random
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from dicomstudy import p10
from dicomstudy.elements import Span
from dicomstudy.errors import DicomStudyError
from dicomstudy.record import Decoder, Encoder
from fixtures import make

FIXTURES = Path(make.__file__).parent
#: The long profile takes all real files and many more mutants.
LONG = os.environ.get("DICOMSTUDY_LONG") == "1" or os.environ.get("HYPOTHESIS_PROFILE") == "soak"
#: Larger real files are left out where every file is taken apart several times.
LARGEST = 2_000_000
LENGTHS = (0, 1, 2, 7, 8, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)


@lru_cache(maxsize=1)
def fixture_files() -> Mapping[str, bytes]:
    """The P10 files of the fixtures, those in the zip and the tar too, and the wrecks."""
    found = {name: wreck.content for name, wreck in make.wrecks().items()}
    for name, content in make.archive().items():
        if name.endswith(".zip"):
            with zipfile.ZipFile(io.BytesIO(content)) as source:
                found |= {f"{name}/{member}": source.read(member) for member in source.namelist()}
        elif name.endswith(".tar"):
            with tarfile.open(fileobj=io.BytesIO(content)) as source:
                for member in source:
                    file = source.extractfile(member)
                    assert file is not None
                    found[f"{name}/{member.name}"] = file.read()
        else:
            found[name] = content
    return MappingProxyType(found)


def pydicom_folders() -> list[Path]:
    """The folders of files that pydicom and pydicom-data bring."""
    folders = []
    for package, names in (("pydicom", ("test_files", "charset_files")), ("data_store", ("",))):
        spec = importlib.util.find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        folders += [Path(spec.origin).parent / "data" / name for name in names]
    return folders


def files_below(folders: Iterable[Path], *, largest: int = LARGEST) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every file."""
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.stat().st_size <= largest and path.suffix != ".pyc":
                yield path.relative_to(folder).as_posix(), path.read_bytes()


def own_files() -> Iterator[tuple[str, bytes]]:
    """Fixtures and the files of pydicom: what there is without `shared`."""
    yield from fixture_files().items()
    yield from files_below(pydicom_folders())


def joined(segments: Iterable[Any], resolve: Callable[[Any], bytes]) -> bytes:
    """The bytes of segments; `resolve` gives those that are only referred to."""
    return b"".join(part if isinstance(part, bytes) else resolve(part) for part in segments)


def rewritten(data: bytes, file: p10.P10File) -> bytes:
    """What `p10.write` makes of a file."""

    def copied(span: Span) -> bytes:
        return data[span.offset : span.offset + span.length]

    return joined(p10.write(file), copied)


def taken_apart(file: p10.P10File) -> tuple[object, ...]:
    """All that a file says, comparable."""
    meta = [element for run in file.meta for element in run.elements]
    return (file.preamble, meta, file.elements, file.syntax, file.trailing, file.deflated,
            file.problems)  # fmt: skip


class Taken(NamedTuple):
    """A file as a record, in the order of its keys, and as each of the two mirrors writes it."""

    attributes: dict[str, Any]
    groups: dict[str, list[tuple[str, Any]]]
    encoding: dict[str, Any]
    segments: bytes
    written: bytes


def recorded(data: bytes, reader: p10.Reader, decoder: Decoder, encoder: Encoder) -> Taken:
    """A file decoded and written back."""
    record = decoder.decode(reader.read(data), data)
    large = {}
    for value in record.large:
        start, length = value.span
        content = data[start : start + length] if value.stored is None else value.stored
        large[str(value.sha256)] = content

    def resolve(reference: Mapping[str, Any]) -> bytes:
        return large[reference["sha256"]]

    attributes = record.attributes()
    return Taken(
        dict(sorted(attributes.items())),
        {
            name: sorted(((a.key, a.value) for a in some), key=itemgetter(0))
            for name, some in sorted(record.groups.items())
        },
        record.encoding,
        joined(record.segments(), resolve),
        joined(encoder.write(attributes, record.encoding, resolve), resolve),
    )


def chance_of(seed: int) -> random.Random:
    """Random numbers that are the same at every run."""
    return random.Random(seed)  # noqa: S311 (nothing secret)


@contextmanager
def refusing(*areas: str) -> Iterator[None]:
    """Lets a block refuse its input, with codes of these areas and no others."""
    try:
        yield
    except DicomStudyError as error:
        if not error.code.startswith(areas):
            raise


def mutant(data: bytes, chance: random.Random) -> bytes:
    """`data` with one to four defects: bytes other, more, fewer, twice, elsewhere."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        if not changed:
            changed = bytearray(8)
        near = len(changed) if chance.random() < 0.5 else min(len(changed), 2000)
        _MUTATIONS[chance.randrange(len(_MUTATIONS))](changed, chance.randrange(near), chance)
    return bytes(changed)


def _other_byte(data: bytearray, at: int, chance: random.Random) -> None:
    data[at] = chance.randrange(256)


def _other_bit(data: bytearray, at: int, chance: random.Random) -> None:
    data[at] ^= 1 << chance.randrange(8)


def _fewer(data: bytearray, at: int, chance: random.Random) -> None:
    del data[at : at + chance.randint(1, 16)]


def _more(data: bytearray, at: int, chance: random.Random) -> None:
    data[at:at] = chance.randbytes(chance.randint(1, 16))


def _twice(data: bytearray, at: int, chance: random.Random) -> None:
    start = chance.randrange(len(data))
    data[at:at] = data[start : start + chance.randint(1, 200)]


def _cut(data: bytearray, at: int, _: random.Random) -> None:
    del data[at:]


def _swapped(data: bytearray, at: int, chance: random.Random) -> None:
    length = chance.randint(1, 64)
    first, second = sorted((at, chance.randrange(len(data))))
    if first + length <= second and second + length <= len(data):
        ahead = bytes(data[first : first + length])
        data[first : first + length] = data[second : second + length]
        data[second : second + length] = ahead


def _wrong_length(data: bytearray, at: int, chance: random.Random) -> None:
    length = chance.choice((*LENGTHS, len(data)))
    order = chance.choice(("little", "big"))
    data[at : at + 4] = length.to_bytes(4, "little" if order == "little" else "big")


_MUTATIONS: tuple[Callable[[bytearray, int, random.Random], None], ...] = (
    *(_other_byte, _other_bit, _fewer, _more, _twice, _cut, _swapped, _wrong_length),
)
