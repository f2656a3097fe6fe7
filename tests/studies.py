"""Batches and documents of studies, for the tests of what is made of them."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import strategies as st

import dicomstudy
from dicomstudy.archive import Archive
from dicomstudy.bulk import BulkFile
from dicomstudy.clustering import Clustered, cluster
from dicomstudy.document import Document, encode, read_batch
from dicomstudy.grouping import Batch, Entry, Grouper, Pending, Row, Source, freeze
from dicomstudy.ion import ion_hash_hex
from dicomstudy.p10 import Reader
from dicomstudy.record import Decoder, group_of
from dicomstudy.study import Study
from fixtures import make
from tests.samples import fixture_files
from tests.strategies import DEFINITIONS


def grouped(files: Iterable[tuple[str, bytes]]) -> Batch:
    """The batch of files that are taken as those of one study."""
    reader, decoder, grouper, pending = (
        Reader(),
        Decoder(DEFINITIONS),
        Grouper(DEFINITIONS),
        Pending(),
    )
    for name, data in files:
        record = decoder.decode(reader.read(data), data)
        uids = grouper.uids(record)
        if uids is None:
            continue
        places = {
            large.sha256: {"dataOffset": large.span.offset}
            for large in record.large
            if large.sha256 is not None
        }
        source = Source(f"file:///{name}", ion_hash_hex(data), len(data), 7)
        grouper.add(pending, record, uids=uids, source=source, places=places)
    return Batch.join([pending.batch])


@lru_cache(maxsize=1)
def fixture_study() -> list[tuple[str, bytes]]:
    """All files of the fixtures that have UIDs, each once, as if they were of one study."""
    files = {data: name for name, data in reversed(list(fixture_files().items()))}
    return [(name, data) for data, name in files.items() if grouped([(name, data)]).entries]


def attributes_of(batch: Batch, entry: Entry) -> dict[str, Any]:
    """The attributes of an entry outside the seed's groups, by key."""
    rows = [batch.rows[number] for number in (*batch.bases[entry.base], *entry.own)]
    return {row.key: row.value for row in rows}


def canonical(batch: Batch) -> list[tuple[object, ...]]:
    """All that a batch says of its instances, in an order that depends on nothing else."""
    return sorted(
        (
            entry.instance,
            entry.series,
            entry.digest,
            tuple(entry.source),
            tuple(sorted(entry.groups)),
            repr(freeze(attributes_of(batch, entry))),
        )
        for entry in batch.entries
    )


def unclustered(clustered: Clustered) -> Iterator[tuple[Entry, set[str], dict[str, Any]]]:
    """Each entry with all its digests, and its attributes outside the seed's groups."""
    seeds = {*DEFINITIONS.seed_groups, "encoding"}
    for series in clustered.series:
        for entry in series.entries:
            digests = {*series.groups, *entry.groups}
            assert len(digests) == len(series.groups) + len(entry.groups)
            attributes = {clustered.rows[n].key: clustered.rows[n].value for n in entry.own}
            kept = set()
            for digest in digests:
                name, content = clustered.contents[digest]
                if name in seeds:
                    kept.add(digest)
                else:
                    assert attributes.keys() & content.keys() == set()
                    attributes |= content
            yield entry, kept, attributes


def write_document(path: Path, batch: Batch, *, study: str = "1.2") -> Path:
    """The document of a batch."""
    content = cluster(batch, DEFINITIONS)
    path.write_bytes(b"".join(encode(study, content, DEFINITIONS, bulk=BulkFile())))
    return path


def open_study(path: Path) -> Study:
    return Study(path, definitions=DEFINITIONS)


def read_again(path: Path) -> Batch:
    """The batch of a document."""
    document = Document(path)
    try:
        return read_batch(document, DEFINITIONS)
    finally:
        document.close()


_VALUES = st.one_of(
    st.none(),
    st.integers(-2, 2),
    st.floats(),
    st.text(max_size=3),
    st.binary(max_size=3),
    st.lists(st.dictionaries(st.sampled_from(["a", "b"]), st.integers(0, 1)), max_size=2),
)
_KEYS = [
    (group_of(key, DEFINITIONS), key)
    for key in ("KVP", "DataCollectionDiameter", "GantryDetectorTilt", "00091001", "00091002",
                "_preamble", "_raw.00100010", "InstanceNumber", "PatientName#1")
]  # fmt: skip


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Any batch: attributes that are constant, slow or all different, and absent ones."""
    batch = Batch(bases=[(), ()])
    numbers: dict[object, int] = {}
    domains = {
        key: draw(st.lists(_VALUES, min_size=1, max_size=3)) for key in _KEYS if draw(st.booleans())
    }
    seeds = {}
    for name in ("patient", "generalStudy", "encoding"):
        content = {name: draw(st.integers(0, 1))}
        seeds[name] = ion_hash_hex(content)
        batch.contents[seeds[name]] = name, content
    usual = draw(st.booleans())
    for at in range(draw(st.integers(1, 40))):
        uid = draw(st.sampled_from(["1.2", "1.2#", "1.2 3", f"1.{at}", f"1.{at}"]))
        own = [len(batch.rows)]
        batch.rows.append(Row("", "SOPInstanceUID", uid))
        for (group, key), values in domains.items():
            if usual and draw(st.integers(0, 9)):
                value = values[0]
            elif draw(st.integers(0, 9)):
                value = draw(st.sampled_from(values))
            else:
                continue
            frozen = (group, key, freeze(value))
            if frozen not in numbers:
                numbers[frozen] = len(batch.rows)
                batch.rows.append(Row(group, key, value))
            own.append(numbers[frozen])
        mine = [digest for digest in seeds.values() if draw(st.integers(0, 9))]
        sha256 = ion_hash_hex(at)
        batch.entries.append(
            Entry(
                uid, draw(st.sampled_from(["1", "1", "2"])), sha256,
                Source(f"file:///{at}", sha256, at), tuple(mine), 0, tuple(own), {},
            )
        )  # fmt: skip
    return batch


def shuffled(batch: Batch, order: list[int]) -> Batch:
    """The instances of a batch in another order, with their attributes numbered otherwise."""
    rows: list[Row] = []
    numbers: dict[int, int] = {}
    entries = []
    for at in order:
        entry = batch.entries[at]
        for number in (*batch.bases[entry.base], *entry.own):
            if number not in numbers:
                numbers[number] = len(rows)
                rows.append(batch.rows[number])
        every = (*batch.bases[entry.base], *entry.own)
        entries.append(
            entry._replace(base=0, own=tuple(reversed([numbers[number] for number in every])))
        )
    contents = dict(reversed(batch.contents.items()))
    return Batch(contents, rows, [()], entries)


def write_files(folder: Path, files: Iterable[tuple[str, bytes]]) -> Path:
    """The files below a folder."""
    for name, content in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def write_fixtures(folder: Path) -> Path:
    """`fixtures/archive` and `fixtures/wrecks` below a folder."""
    write_files(folder / "archive", make.archive().items())
    wrecks = make.wrecks().items()
    write_files(folder / "wrecks", ((name, wreck.content) for name, wreck in wrecks))
    return folder


def disk_full(*_: object, **__: object) -> NoReturn:
    """Say what the system says of a write to a full disk; stands for whatever writes."""
    raise OSError(errno.ENOSPC, "No space left on device")


def unreadable(monkeypatch: pytest.MonkeyPatch, path: Path, *, after: int = 0) -> None:
    """Let a file not be readable any more after so many reads, as on a disk that fails."""
    wanted, read_on, left = path.stat(), os.pread, after

    def pread(descriptor: int, length: int, offset: int) -> bytes:
        nonlocal left
        if os.path.samestat(os.fstat(descriptor), wanted):
            left -= 1
            if left < 0:
                raise OSError(errno.EIO, "Input/output error")
        return read_on(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", pread)


def unopenable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no file be opened any more for reading by position, as where too many are open."""

    def refuse(path: Path, _: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))

    monkeypatch.setattr(os, "open", refuse)


def state_of(folder: Path) -> dict[str, bytes]:
    """The bytes of every file below a folder, and an empty string for every folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else b""
        for path in sorted(folder.rglob("*"))
    }


def digests_of(archive: str | os.PathLike[str]) -> dict[str, str]:
    """The digest of every study of an archive."""
    return {uid: study.digest for uid, study in dicomstudy.open_archive(archive).items()}


def document(archive: Archive) -> Path:
    """The document of the CT study of the fixtures."""
    return archive.document_path(make.uid("ct"))


def bulk(archive: Archive) -> Path:
    """Its bulk file."""
    return archive.bulk_path(make.uid("ct"))


def kept(archive: Archive) -> Path:
    """One of the fixtures that are in quarantine."""
    return next(each.path for each in archive.quarantined() if "uid-missing.dcm" in each.uri)
