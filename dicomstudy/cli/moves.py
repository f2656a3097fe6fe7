"""Commands that bring instances to another study or series."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dicomstudy.cli.group import ARCHIVE, EXPECT, FOLDERS, STUDY, commands
from dicomstudy.cli.output import summarize
from dicomstudy.printable import count

if TYPE_CHECKING:
    from dicomstudy.moving import Moved

_KEEP = click.option(
    "--keep-attributes",
    is_flag=True,
    help="Leave patient and study attributes as they are.",
)
_EXPECT_TARGET = click.option(
    "--expect-target",
    metavar="VERSION",
    type=click.IntRange(min=1),
    help="Refuse if the study that they go to is of another version by now.",
)


@commands.command()
@ARCHIVE
@STUDY
@click.option("--series", metavar="UID", help="The series that goes.")
@click.option("--instance", metavar="UID", help="The instance that goes.")
@click.option("--to-study", metavar="UID", required=True, help="The study that it goes to.")
@click.option("--to-series", metavar="UID", help="The series of it, new or not.")
@_KEEP
@EXPECT
@_EXPECT_TARGET
@FOLDERS
def move(
    archive: Path,
    *,
    study: str,
    series: str | None,
    instance: str | None,
    to_study: str,
    to_series: str | None,
    keep_attributes: bool,
    expect: int | None,
    expect_target: int | None,
    folders: Sequence[str],
) -> None:
    """Move a series or instance to another study or series.

    It gets the patient and study attributes of the other study. A whole series keeps its UID, a
    part of one gets a UID of its own. References follow, in all studies of the archive. Originals
    stay what they were.
    """
    import dicomstudy

    _show(
        dicomstudy.move(
            dicomstudy.open_archive(archive, sources=folders),
            study,
            series=series,
            instance=instance,
            to_study=to_study,
            to_series=to_series,
            keep_attributes=keep_attributes,
            expect=expect,
            expect_target=expect_target,
        )
    )


@commands.command()
@ARCHIVE
@STUDY
@click.option("--into", metavar="UID", required=True, help="The study that it becomes part of.")
@_KEEP
@EXPECT
@_EXPECT_TARGET
@FOLDERS
def merge(
    archive: Path,
    *,
    study: str,
    into: str,
    keep_attributes: bool,
    expect: int | None,
    expect_target: int | None,
    folders: Sequence[str],
) -> None:
    """Move all of a study into another one.

    As move does it. The study itself keeps its history only, and can be reverted.
    """
    import dicomstudy

    _show(
        dicomstudy.merge(
            dicomstudy.open_archive(archive, sources=folders),
            study,
            into=into,
            keep_attributes=keep_attributes,
            expect=expect,
            expect_target=expect_target,
        )
    )


@commands.command()
@ARCHIVE
@STUDY
@click.option("--series", multiple=True, metavar="UID", help="A series that goes; repeatable.")
@click.option("--instance", multiple=True, metavar="UID", help="An instance; repeatable.")
@click.option("--new-study", metavar="UID", help="The UID of the new study; made by default.")
@EXPECT
@FOLDERS
def split(
    archive: Path,
    *,
    study: str,
    series: Sequence[str],
    instance: Sequence[str],
    new_study: str | None,
    expect: int | None,
    folders: Sequence[str],
) -> None:
    """Make a study of its own of some series and instances.

    They keep their patient and study attributes; all else is as with move. What is shown first
    is the UID of the new study.
    """
    import dicomstudy

    opened = dicomstudy.open_archive(archive, sources=folders)
    moved = dicomstudy.split(
        opened, study, series=series, instances=instance, new_study=new_study, expect=expect
    )
    click.echo(moved.study)
    _show(moved)


def _show(moved: Moved) -> None:
    summarize(
        f"version {moved.version.number}",
        count(moved.instances, "instance") + f" out to version {moved.target_version.number}"
        f" of {moved.study}",
    )
