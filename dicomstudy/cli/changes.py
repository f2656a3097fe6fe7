"""Commands that change studies, and tell how they came to be as they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from dicomstudy.cli.group import ARCHIVE, EXPECT, FOLDERS, STUDY, FilePath, commands
from dicomstudy.cli.output import INCOMPLETE, show_problems, summarize
from dicomstudy.errors import DicomStudyError
from dicomstudy.printable import count, size


@commands.command()
@ARCHIVE
@STUDY
@click.option("--json", "as_json", is_flag=True, help="Write JSON instead of a table.")
def history(archive: Path, *, study: str, as_json: bool) -> None:
    """Show the versions of a study.

    The last one is how it is now. Its number is what --expect is compared with.
    """
    import dicomstudy
    from dicomstudy.show import history_text

    versions = dicomstudy.history(archive, study)
    click.echo(history_text(versions, as_json=as_json), nl=False)


@commands.command()
@ARCHIVE
@click.option("--study", metavar="UID", help="Only this study.")
@FOLDERS
@click.option("--json", "as_json", is_flag=True, help="Write JSON instead of a table.")
def conflicts(archive: Path, *, study: str | None, folders: Sequence[str], as_json: bool) -> int:
    """Show where studies contradict themselves.

    That is where a study has more than one patient, or a study or series more than one of
    another group of which there should be one; and where instances of one UID differ. Exit
    status: 1 if there are any, or if a study is damaged.
    """
    import dicomstudy
    from dicomstudy.show import conflicts_text

    damaged: list[DicomStudyError] = []
    opened = dicomstudy.open_archive(archive, sources=folders)
    found = dicomstudy.conflicts(opened, study=study, damaged=damaged)
    click.echo(conflicts_text(found, as_json=as_json), nl=False)
    show_problems([error.problem() for error in damaged])
    return INCOMPLETE if found or damaged else 0


@commands.command()
@ARCHIVE
@STUDY
@click.option("--group", metavar="NAME", required=True, help="The attribute group.")
@click.option(
    "--keep", metavar="DIGEST", required=True, help="The group that is right, or its beginning."
)
@click.option("--series", metavar="UID", help="The series, if several have that group.")
@EXPECT
@FOLDERS
def resolve(
    archive: Path,
    *,
    study: str,
    group: str,
    keep: str,
    series: str | None,
    expect: int | None,
    folders: Sequence[str],
) -> None:
    """Make one of several groups that of the whole study.

    Or that of the whole series, if it is a group of series. What there is, conflicts shows.
    """
    import dicomstudy

    opened = dicomstudy.open_archive(archive, sources=folders)
    versions = dicomstudy.resolve(
        opened, study, group=group, keep=keep, series=series, expect=expect
    )
    summarize(f"version {versions[-1].number}")


@commands.command()
@ARCHIVE
@click.argument("assignments", nargs=-1, metavar="[KEYWORD=VALUE]...")
@STUDY
@click.option("--series", metavar="UID", help="Only in this series.")
@click.option("--instance", metavar="UID", help="Only in this instance.")
@click.option("--remove", multiple=True, metavar="KEYWORD", help="Remove an attribute; repeatable.")
@click.option(
    "--file",
    "path",
    metavar="CHANGES.json",
    type=FilePath(dir_okay=False, path_type=Path),
    help="Make all edits of a file in one step.",
)
@EXPECT
@FOLDERS
def update(
    archive: Path,
    assignments: Sequence[str],
    *,
    study: str,
    series: str | None,
    instance: str | None,
    remove: Sequence[str],
    path: Path | None,
    expect: int | None,
    folders: Sequence[str],
) -> None:
    """Change attributes of a study, series or instance.

    KEYWORD= makes an attribute empty. A KEYWORD may also be eight hexadecimal digits with a VR,
    as in 00091001:LO=x, or lie in an item, as in RequestAttributesSequence[0].StudyID=x. In a
    file there is a JSON array of {"set": {KEYWORD: VALUE}, "remove": [KEYWORD], "series": UID,
    "instance": UID}. Either all is changed or nothing. No instance is rewritten.
    """
    import dicomstudy
    from dicomstudy.assignment import once, split
    from dicomstudy.updating import read_edits

    edits = [] if path is None else read_edits(path)
    if assignments or remove or not edits:
        levels = {"series": series, "instance": instance}
        edits.append(
            {
                **{level: uid for level, uid in levels.items() if uid is not None},
                "set": once(map(split, assignments)),
                "remove": list(remove),
            }
        )
    elif series is not None or instance is not None:
        raise click.BadParameter("a file of changes names the series and instances itself")
    opened = dicomstudy.open_archive(archive, sources=folders)
    versions = dicomstudy.update(opened, study, edits, expect=expect)
    summarize(f"version {versions[-1].number}")


@commands.command()
@ARCHIVE
@STUDY
@click.option("--series", metavar="UID", help="Only this series.")
@click.option("--instance", metavar="UID", help="Only this instance.")
@EXPECT
def delete(
    archive: Path, *, study: str, series: str | None, instance: str | None, expect: int | None
) -> None:
    """Take a study, series or instance out of an archive.

    Older versions of the study keep it, until they are collected: revert brings it back.
    """
    import dicomstudy

    versions = dicomstudy.delete(archive, study, series=series, instance=instance, expect=expect)
    summarize(f"version {versions[-1].number}; " + count(versions[-1].removed, "instance") + " out")


@commands.command()
@ARCHIVE
@STUDY
@click.option("--to", metavar="VERSION", required=True, type=int, help="Where to go back to.")
@EXPECT
def revert(archive: Path, *, study: str, to: int, expect: int | None) -> None:
    """Make a study what it was in an older version.

    Instances, attributes and files are exactly those of that version. This makes a new version,
    so that it can be gone back from.
    """
    import dicomstudy

    versions = dicomstudy.revert(archive, study, to=to, expect=expect)
    summarize(f"version {versions[-1].number}")


@commands.command(short_help="Tell or remove what nothing in an archive refers to.")
@ARCHIVE
@click.option("--study", metavar="UID", help="Only this study.")
@click.option(
    "--older-versions",
    is_flag=True,
    help="Older versions go too, and with them what changed instances were before.",
)
@click.option("--remove", is_flag=True, help="Remove it; otherwise this only says what would go.")
@EXPECT
@FOLDERS
def collect(
    archive: Path,
    *,
    study: str | None,
    older_versions: bool,
    remove: bool,
    expect: int | None,
    folders: Sequence[str],
) -> int:
    """Tell what nothing in an archive refers to; with --remove, remove it.

    That is large values of which no version of a study knows, and what killed runs left. A study
    that cannot be read stays as it is; exit status: 1 if there is one.
    """
    import dicomstudy

    opened = dicomstudy.open_archive(archive, sources=folders)
    collected = dicomstudy.collect(
        opened, study=study, older_versions=older_versions, remove=remove, expect=expect
    )
    show_problems(collected.problems)
    removed = f"{'removed' if remove else 'would be removed'}: {size(max(collected.bytes, 0))}"
    if collected.bytes < 0:  # what a document has to say of it is longer than what goes
        grow = "documents grew" if remove else "documents would grow"
        removed += f", {grow} by {size(-collected.bytes)}"
    summarize(
        removed,
        count(collected.studies, "study", "studies") + " written anew",
        count(collected.versions, "older version"),
        count(collected.instances, "instance"),
        count(collected.files, "bulk file"),
    )
    return 0 if collected.complete else INCOMPLETE
