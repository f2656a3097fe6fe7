"""The command that makes a de-identified archive."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dicomstudy.cli.group import ARCHIVE, DEST, FOLDERS, REPORT, FilePath, commands
from dicomstudy.cli.output import (
    IN_REPORT,
    INCOMPLETE,
    Progress,
    reported,
    say,
    show_problems,
    summarize,
)
from dicomstudy.printable import count, size

if TYPE_CHECKING:
    from dicomstudy.deidentification import Deidentified


@commands.command()
@ARCHIVE
@DEST
@click.option("--profile", default="basic", show_default=True, metavar="NAME", help="The profile.")
@click.option(
    "--option",
    "options",
    multiple=True,
    metavar="NAME",
    help="An option of PS3.15 Annex E, such as clean-descriptors; repeatable.",
)
@click.option(
    "--key",
    metavar="FILE",
    type=FilePath(exists=True, dir_okay=False, path_type=Path),
    help="Secret bytes, at least 16: equal ones give equal UIDs and pseudonyms.",
)
@click.option(
    "--study",
    "studies",
    multiple=True,
    metavar="UID",
    help="Only this study; repeatable.",
)
@REPORT
@FOLDERS
def deidentify(
    archive: Path,
    destination: Path,
    *,
    profile: str,
    options: Sequence[str],
    key: Path | None,
    studies: Sequence[str],
    report_path: Path | None,
    folders: Sequence[str],
) -> int:
    """Make a de-identified archive, by PS3.15 Annex E.

    DEST is a new or empty folder. It gets the studies as they are now, with new UIDs and without
    names. Pixel data is copied as it is. What may still tell who somebody is, as text in images
    does, is listed: look at it before you give DEST away.
    """
    import dicomstudy

    with Progress() as progress:
        report = dicomstudy.deidentify(
            archive,
            destination,
            profile=profile,
            options=options,
            key=key,
            studies=studies or None,
            sources=folders,
            progress=progress,
        )
    with reported(report_path, report.to_json):
        _show(report, studies)
    return 0 if report.complete else INCOMPLETE


def _show(report: Deidentified, chosen: Sequence[str]) -> None:
    show_problems(report.problems, more=IN_REPORT)
    totals: dict[str, list[int]] = {}
    for risk in report.risks:
        totals.setdefault(f"{risk.code}  {risk.message}", []).append(risk.instances)
    for line, counts in totals.items():
        studies = count(len(counts), "study", "studies")
        say(f"{count(sum(counts), 'instance')} of {studies}: {line}")
    summarize(
        count(report.studies, "study", "studies"),
        count(report.instances, "instance"),
        *([] if chosen else [f"{report.quarantined} in quarantine left out"]),
        f"{size(report.bytes_in)} in, {size(report.bytes_out)} out",
        count(len(totals), "kind") + " of risk to look at",
        count(len(report.problems), "problem"),
    )
