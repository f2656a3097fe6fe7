"""Commands that bring files into an archive, back out of it, and show it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dicomstudy.cli.group import (
    ARCHIVE,
    DEST,
    FOLDERS,
    MAX_INLINE,
    REPORT,
    SOURCES,
    FilePath,
    commands,
)
from dicomstudy.cli.output import (
    IN_REPORT,
    INCOMPLETE,
    Progress,
    reported,
    show_problems,
    summarize,
)
from dicomstudy.printable import count, size

if TYPE_CHECKING:
    from dicomstudy.errors import DicomStudyError


@commands.command()
@SOURCES
@ARCHIVE
@click.option(
    "--bulk",
    type=click.Choice(["copy", "reference"]),
    default="copy",
    show_default=True,
    help="Copy large values into the archive, or leave them in the P10 files and refer to them.",
)
@MAX_INLINE
@click.option(
    "--jobs",
    default=1,
    show_default=True,
    metavar="N",
    type=click.IntRange(min=1),
    help="Processes to use, at most four for each processor.",
)
@REPORT
def convert(
    sources: Sequence[str],
    archive: Path,
    *,
    bulk: str,
    max_inline: int,
    jobs: int,
    report_path: Path | None,
) -> int:
    """Take P10 files into an archive.

    ARCHIVE is a folder, made if it is not there. A SOURCE is a P10 file, a zip or tar file of
    them, an instance record (.ion), or a folder of all these. Running again adds what is new.
    What belongs to no study is kept in quarantine. To copy, a record brings in its P10 file if
    that is still where it was; if not, large values stay in that file.
    """
    import dicomstudy

    with Progress() as progress:
        report = dicomstudy.convert(
            sources, archive, bulk=bulk, max_inline=max_inline, jobs=jobs, progress=progress
        )
    unchanged = f", {report.unchanged} unchanged" if report.unchanged else ""
    with reported(report_path, report.to_json):
        show_problems(report.problems, more=IN_REPORT)
        summarize(
            count(report.files, "file") + f", {report.skipped} skipped",
            count(report.studies, "study", "studies"),
            count(report.instances, "instance") + " added" + unchanged,
            f"{report.quarantined} quarantined",
            f"{size(report.bytes_in)} in, {size(report.bytes_out)} out",
            count(len(report.problems), "problem"),
        )
    return 0 if report.complete else INCOMPLETE


@commands.command()
@ARCHIVE
@DEST
@click.option("--study", metavar="UID", help="Only this study.")
@click.option("--series", metavar="UID", help="Only this series.")
@click.option("--instance", metavar="UID", help="Only this instance.")
@click.option("--original", is_flag=True, help="As they came in, without what was changed since.")
@REPORT
@FOLDERS
def restore(
    archive: Path,
    destination: Path,
    *,
    study: str | None,
    series: str | None,
    instance: str | None,
    original: bool,
    report_path: Path | None,
    folders: Sequence[str],
) -> int:
    """Write the P10 files.

    Each is the original, proved by its SHA-256, unless it was changed since it came. They are
    named DEST/<study>/<series>/<instance>.dcm. What is in quarantine goes to DEST/quarantine,
    unless only a study, series or instance is asked for.
    """
    import dicomstudy

    with Progress() as progress:
        restored = dicomstudy.restore(
            archive,
            destination,
            study=study,
            series=series,
            instance=instance,
            original=original,
            sources=folders,
            progress=progress,
        )
    with reported(report_path, restored.to_json):
        show_problems(restored.problems, more=IN_REPORT)
        summarize(
            count(restored.files, "file"),
            f"{size(restored.bytes_out)} out",
            count(len(restored.problems), "problem"),
        )
    return 0 if restored.complete else INCOMPLETE


@commands.command()
@ARCHIVE
@REPORT
@FOLDERS
def verify(archive: Path, *, report_path: Path | None, folders: Sequence[str]) -> int:
    """Prove every digest and every file, and write none.

    That is the digests of all groups and large values in ARCHIVE, and of each P10 file that
    restore would write.
    """
    import dicomstudy

    with Progress() as progress:
        verified = dicomstudy.verify(archive, sources=folders, progress=progress)
    with reported(report_path, verified.to_json):
        show_problems(verified.problems, more=IN_REPORT)
        summarize(
            count(verified.studies, "study", "studies"),
            count(verified.instances, "instance"),
            count(verified.groups, "group"),
            count(verified.values, "large value"),
            f"{verified.quarantined} quarantined",
            count(len(verified.problems), "problem"),
        )
    return 0 if verified.complete else INCOMPLETE


@commands.command()
@click.argument("path", type=FilePath(path_type=Path))
@click.argument("uid", required=False)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "ion", "json"]),
    default="text",
    show_default=True,
    help="A tree to read, text Ion, or the DICOM JSON model (PS3.18 Annex F).",
)
@FOLDERS
def show(path: Path, uid: str | None, *, form: str, folders: Sequence[str]) -> int:
    """Show an archive, study, series or instance.

    PATH is an archive, or the document of one study, in an archive or not (.ion.zst, .ion). UID
    is that of a study, series or instance in it.
    """
    from dicomstudy.archive import open_archive, open_study
    from dicomstudy.show import render

    open_path = open_study if path.is_file() else open_archive
    opened = open_path(path, sources=folders)
    damaged: list[DicomStudyError] = []
    for piece in render(opened, uid, form=form, damaged=damaged):
        click.echo(piece, nl=False)
    show_problems([error.problem() for error in damaged])
    return INCOMPLETE if damaged else 0


@commands.command()
@SOURCES
@DEST
@click.option("--text", is_flag=True, help="Write text Ion instead of binary.")
@MAX_INLINE
@REPORT
def records(
    sources: Sequence[str],
    destination: Path,
    *,
    text: bool,
    max_inline: int,
    report_path: Path | None,
) -> int:
    """Write one instance record (.ion) per P10 file.

    Records are as dicom2ion makes them: they have the metadata, and refer to the P10 file for
    large values. Each gets the place below DEST that its file has below SOURCE.
    """
    import dicomstudy

    with Progress() as progress:
        recorded = dicomstudy.write_records(
            sources, destination, text=text, max_inline=max_inline, progress=progress
        )
    with reported(report_path, recorded.to_json):
        show_problems(recorded.problems, more=IN_REPORT)
        summarize(
            count(recorded.files, "file") + f", {recorded.skipped} skipped",
            count(recorded.records, "record"),
            f"{size(recorded.bytes_in)} in, {size(recorded.bytes_out)} out",
            count(len(recorded.problems), "problem"),
        )
    return 0 if recorded.complete else INCOMPLETE
