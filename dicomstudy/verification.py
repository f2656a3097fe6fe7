"""An archive is proved to be what it says: every digest, large value and file (spec/archive.md)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from dicomstudy.archive import AnyArchive, opened
from dicomstudy.bulk import Place
from dicomstudy.contradictions import Contradictions
from dicomstudy.document import references_in
from dicomstudy.errors import ArchiveError, DicomStudyError, Problem, StudyError
from dicomstudy.ion import ion_hash_hex
from dicomstudy.outcome import Outcome
from dicomstudy.progress import Progress, silent
from dicomstudy.study import Instance, Study

__all__ = ["Verified", "verify"]


@dataclass(slots=True)
class Verified(Outcome):
    """What `verify` looked at.

    Attributes:
        studies: documents.
        instances: instances in them.
        groups: attribute groups in them, each counted once for a study.
        values: large values in bulk files.
        quarantined: files in quarantine.
        problems: one for everything that is not as it should be.
    """

    studies: int = 0
    instances: int = 0
    groups: int = 0
    values: int = 0
    quarantined: int = 0
    problems: list[Problem] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """True if everything is as it should be."""
        return not self.problems


def verify(
    archive: AnyArchive,
    *,
    sources: Iterable[str | os.PathLike[str]] = (),
    progress: Progress | None = None,
) -> Verified:
    """Prove every group digest, large value and file, and compare what studies say; write nothing.

    Args:
        archive: the folder, or the archive that was opened.
        sources: as for `open_archive`, if that was not opened.
        progress: as for `convert`.

    Raises:
        ArchiveError: there is no archive.
    """
    archive = opened(archive, sources=sources)
    progress = progress or silent
    verified = Verified()
    for path, study, is_again in archive.all_studies():
        if isinstance(study, DicomStudyError):
            verified.problems.append(study.problem(str(path)))
            continue
        with study:
            if is_again:  # and not counted again
                _verify_study(study, Verified(problems=verified.problems), silent)
            else:
                verified.studies += 1
                _verify_study(study, verified, progress)
    with contextlib.suppress(ArchiveError):  # was told of above, or is no folder of ours
        for path in archive.hidden_documents():
            message = "the document does not belong where it is"
            verified.problems.append(Problem(str(path), "study/damaged", message))
    with _noted(verified.problems):
        for kept in archive.quarantined():
            verified.quarantined += 1
            if (problem := kept.problem_of_note) is not None:
                verified.problems.append(problem)
            with _noted(verified.problems, kept.source):
                kept.prove()
    # each value says the same of a bulk file that is gone
    verified.problems = list(dict.fromkeys(verified.problems))
    return verified


@contextlib.contextmanager
def _noted(problems: list[Problem], source: str | None = None) -> Iterator[None]:
    """Go on behind what is not as it should be, which becomes one of the problems."""
    try:
        yield
    except DicomStudyError as error:
        problems.append(error.problem(source))


def _verify_study(study: Study, verified: Verified, progress: Progress) -> None:
    """Prove all that a study has, and that it does not contradict itself."""
    found = Contradictions(study)
    with _noted(verified.problems, str(study.path)):
        _verify_contents(study, found, verified)
    for chunk in study.chunks(retired=True):
        if isinstance(chunk, DicomStudyError):
            verified.problems.append(chunk.problem(str(study.path)))
            continue
        for instance in chunk:
            verified.instances += 1
            with _noted(verified.problems, instance.key):
                found.check(instance)
            with _noted(verified.problems, instance.key):
                _verify_instance(instance)
            progress("instances", verified.instances, None)


def _verify_contents(study: Study, found: Contradictions, verified: Verified) -> None:
    """Prove the digests of groups and of large values in the bulk file."""
    source, problems = str(study.path), verified.problems
    with _noted(problems, source):
        _ = study.document.counts  # which nobody asks for before a late instance comes
    for name, contents in study.stored_groups().items():
        for digest, content in contents.items():
            verified.groups += 1
            if ion_hash_hex(content) != digest:
                message = f"a group {name} is not what its digest {digest} says"
                problems.append(Problem(source, "study/group-digest", message))
            with _noted(problems, source):
                found.check_group(name, digest, content)
    if study.document.bulk.length:
        with _noted(problems, source):
            study.bulk.check_length()
    for sha256, length, place in study.places():
        verified.values += 1
        with _noted(problems, source):
            study.bulk.verify(Place.from_struct(place, length), sha256)


def _verify_instance(instance: Instance) -> None:
    """Prove an instance's file, the original and the changed one, and what is said of fragments."""
    _verify_file(instance)
    instance.original().check_fragments()


def _verify_file(instance: Instance) -> None:
    if instance.encoding is None:
        _read_values(instance)
        if instance.changed:
            _read_values(instance.original())
        return
    if instance.changed:
        instance.check_p10()
        instance = instance.original()
    _, size = instance.check_p10()
    if instance.source.size not in {None, size}:
        raise StudyError(
            "study/damaged",
            f"the size of the file of {instance.key} is not the one that is recorded",
            source=str(instance.study.path),
        )


def _read_values(instance: Instance) -> None:
    """Read every large value of an instance whose file cannot be written; each is proved."""
    for reference in references_in(list(instance.attributes().values())):
        for _ in instance.value_pieces(reference):
            pass
