"""Instances go to another study or series (spec/moving.md)."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from dicomstudy.archive import AnyArchive, Archive, opened
from dicomstudy.assignment import is_uid
from dicomstudy.change import changing
from dicomstudy.disk import is_there, make_folder, writing
from dicomstudy.document import Document, is_named, read_batch
from dicomstudy.errors import UNREADABLE, ArchiveError, DicomStudyError
from dicomstudy.folder import at_work, locked
from dicomstudy.grouping import Entry
from dicomstudy.lineage import Version
from dicomstudy.moving.adapting import Participant
from dicomstudy.moving.carrying import Carrier
from dicomstudy.moving.referring import Relocation

__all__ = ["Moved", "merge", "move", "split"]


@dataclass(frozen=True, slots=True)
class Moved:
    """What `move`, `merge` or `split` did.

    Attributes:
        study: the Study Instance UID of the target.
        series: the Series Instance UIDs that the instances have there.
        instances: how many went.
        version: the version of the source that they are no longer in.
        target_version: the version of the target that they are in.
    """

    study: str
    series: tuple[str, ...]
    instances: int
    version: Version
    target_version: Version


class _Named(NamedTuple):
    """Instances as they were asked for: those of a series, or of a SOP Instance UID, or both."""

    series: str | None = None
    instance: str | None = None

    def has(self, entry: Entry) -> bool:
        """Whether an instance is one of them."""
        return self.series in {None, entry.series} and (
            self.instance is None or is_named(self.instance, entry.instance, entry.digest)
        )


@dataclass(frozen=True, slots=True)
class _Order:
    """What was asked for. `new`: the target is made; `keep`: attributes of the study level stay."""

    command: str
    source: str
    target: str
    named: tuple[_Named, ...]
    to_series: str | None = None
    new: bool = False
    keep: bool = False


def move(
    archive: AnyArchive,
    study: str,
    *,
    to_study: str,
    series: str | None = None,
    instance: str | None = None,
    to_series: str | None = None,
    keep_attributes: bool = False,
    expect: int | None = None,
    expect_target: int | None = None,
) -> Moved:
    """Move a series, or instances, to another study of the archive, or to another series.

    No instance is rewritten, and each original stays what it was; what makes it one of the
    other study are edits that go with it. References to what was moved follow, in all studies.

    Args:
        archive: the archive, or its folder.
        study: the Study Instance UID of the source.
        to_study: that of the target; the same to move instances to another series of it.
        series: the series that goes.
        instance: the SOP Instance UID, or the key, of what goes.
        to_series: the series of the target, a new one or one that it has. By default a whole
            series keeps its UID, and parts of one get a new one.
        keep_attributes: leave attributes of patient and study as they are; otherwise they
            become those that most instances of the target have.
        expect: the number of the version of the source, if it has to be a certain one.
        expect_target: the same of the target.

    Raises:
        ArchiveError: there is no such study, series or instance, or a study is not as expected.
        DicomStudyError: they cannot go there (``change/…``), or a study of the archive, which may
            refer to them, cannot be read (``…/unreadable``); nothing is changed then.
    """
    if series is None and instance is None:
        raise DicomStudyError("change/nothing", "name a series or an instance; merge moves all")
    named = (_Named(series, instance),)
    order = _Order("move", study, to_study, named, to_series, keep=keep_attributes)
    return _carried_out(archive, order, expect, expect_target)


def merge(
    archive: AnyArchive,
    study: str,
    *,
    into: str,
    keep_attributes: bool = False,
    expect: int | None = None,
    expect_target: int | None = None,
) -> Moved:
    """Move all of a study into another one; it keeps its history, and no instances.

    Args:
        archive: the archive, or its folder.
        study: the Study Instance UID of the source.
        into: that of the target.
        keep_attributes, expect, expect_target: as for `move`.

    Raises:
        ArchiveError, DicomStudyError: as `move`.
    """
    if study == into:
        raise DicomStudyError("change/place", "a study cannot be merged into itself")
    order = _Order("merge", study, into, (_Named(),), keep=keep_attributes)
    return _carried_out(archive, order, expect, expect_target)


def split(
    archive: AnyArchive,
    study: str,
    *,
    series: Sequence[str] = (),
    instances: Sequence[str] = (),
    new_study: str | None = None,
    expect: int | None = None,
) -> Moved:
    """Make a study of its own of some series and instances of one.

    Args:
        archive: the archive, or its folder.
        study: the Study Instance UID of the source.
        series: the series that go, or the one.
        instances: SOP Instance UIDs, or keys, of what goes beside them, or one.
        new_study: the Study Instance UID of the new study; one is made by default.
        expect: as for `move`.

    Raises:
        ArchiveError, DicomStudyError: as `move`; the archive has the new UID already
            (``change/study``).
    """
    series, instances = ([uids] if isinstance(uids, str) else uids for uids in (series, instances))
    named = (*(_Named(series=uid) for uid in series), *(_Named(instance=uid) for uid in instances))
    if not named:
        raise DicomStudyError("change/nothing", "name the series or instances that are split off")
    target = _made_uid() if new_study is None else _valid(new_study)
    order = _Order("split", study, target, named, new=True, keep=True)
    return _carried_out(archive, order, expect, None)


def _made_uid() -> str:
    """A UID that nothing else has (PS3.5 section B.2)."""
    return f"2.25.{uuid.uuid4().int}"


def _valid(uid: str) -> str:
    if not is_uid(uid):
        raise DicomStudyError("change/value", f"{uid!r:.80} is no UID (PS3.5 section 9.1)")
    return uid


def _carried_out(
    archive: AnyArchive, order: _Order, expect: int | None, expect_target: int | None
) -> Moved:
    """Carry out an order, and say what was moved.

    It holds the locks of both studies, and of all whose references follow. What goes to a new study
    is looked at before there is a lock for that, so that an order that is refused leaves nothing.
    """
    archive = opened(archive)
    for uid in {order.source} if order.new else {order.source, order.target}:
        if uid not in archive:
            raise archive.not_found(uid)
    if order.to_series is not None:
        _valid(order.to_series)
    source, target = (archive.document_path(uid) for uid in (order.source, order.target))
    expected = _expected(source, expect, target, expect_target)
    if order.new:  # before there is a folder for it
        with _participant(archive, source, expect) as participant:
            _going(order, participant, Participant(order.target, target))
    others = list(_others(archive, order, expected))
    with at_work(archive.path), writing(archive.path), contextlib.ExitStack() as stack:
        participants: dict[Path, Participant] = {}
        for path in sorted({source, target, *others}):  # in one order: no two runs block each other
            if path == target and order.new:
                stack.enter_context(_unmade(path))
                participants[path] = Participant(order.target, path)
            elif path in expected:
                participants[path] = stack.enter_context(
                    _participant(archive, path, expected[path])
                )
            else:
                stack.enter_context(locked(path))
        going = _going(order, participants[source], participants[target])
        relocation = _relocation(order, participants[source], going)
        carrier = Carrier(
            archive, order.command, relocation, participants[source], participants[target]
        )
        with _told_of(target, order), writing(archive.path):
            left, came = carrier.carry(going, others, keep=order.keep)
        return Moved(order.target, tuple(sorted(set(going.values()))), len(going), left, came)


@contextlib.contextmanager
def _told_of(target: Path, order: _Order) -> Iterator[None]:
    """Let whatever ends the run say if a new study is made, and what completes it.

    Errors say so in their message, anything else in a note.
    """
    try:
        yield
    except BaseException as error:
        is_made = order.new
        with contextlib.suppress(ArchiveError):  # it may be, then
            is_made = is_made and is_there(target)
        if not is_made:
            raise
        more = (
            f"the new study {order.target} is made: if what was split off is in both, `move` it "
            "there, which completes this"
        )
        if isinstance(error, DicomStudyError):
            message = f"{error.message}; {more}"
            raise type(error)(error.code, message, **error.location._asdict()) from error
        error.add_note(more)
        raise


def _expected(
    source: Path, expect: int | None, target: Path, expect_target: int | None
) -> dict[Path, int | None]:
    """The version that each of both studies is expected to have; they may be one."""
    if source != target or expect_target is None:
        return {target: expect_target, source: expect}
    if expect not in {None, expect_target}:
        message = f"one study cannot be of version {expect} and of version {expect_target}"
        raise ArchiveError("archive/moved-on", message, source=str(source))
    return {source: expect_target}


@contextlib.contextmanager
def _participant(archive: Archive, path: Path, expect: int | None) -> Iterator[Participant]:
    """Hold the lock of a study that instances leave or come to."""
    with changing(archive, path, expect=expect) as change, archive.open(path) as study:
        batch = read_batch(change.document, archive.definitions)
        yield Participant(study.uid, path, batch, study, change)


@contextlib.contextmanager
def _unmade(path: Path) -> Iterator[None]:
    """Hold the lock of a study that is not there yet."""
    make_folder(path.parent)
    with locked(path):
        if is_there(path):
            message = "the archive has a study of that UID: move to it, or name another"
            raise DicomStudyError("change/study", message, source=str(path))
        yield


def _others(archive: Archive, order: _Order, leaving_out: Collection[Path]) -> Iterator[Path]:
    """The documents of other studies that may refer to the source, or to a series of it."""
    with contextlib.closing(Document(archive.document_path(order.source))) as document:
        uids = {order.source, *(chunk["seriesInstanceUID"] for chunk in document.chunks)}
    for path in archive.documents():
        if path in leaving_out:
            continue
        try:
            with contextlib.closing(Document(path)) as document:
                series = {chunk["seriesInstanceUID"] for chunk in document.chunks}
                mentions = document.mentions(uids)
        except DicomStudyError as error:
            if error.code in UNREADABLE:
                raise
            continue  # what is damaged cannot follow
        if order.to_series in series:
            raise _wrong_series(order.to_series, document.study)
        if mentions:
            yield path


def _wrong_series(series: str | None, study: str) -> DicomStudyError:
    message = f"the series {series} is one of study {study}, and cannot be in two studies"
    return DicomStudyError("change/series", message)


def _going(order: _Order, source: Participant, target: Participant) -> dict[int, str]:
    """The places of the instances that go, each with the series that it comes to.

    Raises:
        ArchiveError: there is nothing of a name that was given.
        DicomStudyError: they are where they are to go, or cannot go to that series.
    """
    entries, chosen = source.batch.entries, set[int]()
    for named in order.named:
        found = {place for place in source.present if named.has(entries[place])}
        if not found:
            names = " and ".join(filter(None, named)) or "instances"
            raise ArchiveError("archive/not-found", f"study {source.uid} has no {names}")
        chosen |= found
    staying = {entries[place].series for place in source.present if place not in chosen}
    if order.to_series in staying and source is not target:
        raise _wrong_series(order.to_series, source.uid)
    there = {}
    if source is not target:
        present = [target.batch.entries[place] for place in target.present]
        there = {entry.identity: entry.series for entry in present}
    series: dict[str, str] = {}
    for place in sorted(chosen):
        entry = entries[place]
        known = there.get(entry.identity)
        if order.to_series is not None:
            series[entry.series] = order.to_series
        elif entry.series not in staying:
            series[entry.series] = entry.series
        elif known is not None:  # brought by a run that was killed
            series[entry.series] = known
    for uid in {entries[place].series for place in chosen} - series.keys():
        series[uid] = _made_uid()
    going = {place: series[entries[place].series] for place in sorted(chosen)}
    if source is target:
        going = {place: to for place, to in going.items() if to != entries[place].series}
    if not going:
        raise DicomStudyError("change/place", "it is where it is to be moved to")
    return going


def _relocation(order: _Order, source: Participant, going: Mapping[int, str]) -> Relocation:
    """Where references to what goes have to lead."""
    entries = source.batch.entries
    staying = [entries[place] for place in source.present if place not in going]
    kept = {(entry.series, entry.instance) for entry in staying}
    series = {entry.series for entry in staying}
    gone = [(entries[place], to) for place, to in going.items()]
    return Relocation(
        order.source,
        order.target,
        {
            (entry.series, entry.instance): to
            for entry, to in gone
            if (entry.series, entry.instance) not in kept
        },
        {entry.series: to for entry, to in gone if entry.series not in series},
        whole=not staying and order.source != order.target,
    )
