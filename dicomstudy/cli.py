"""The command line: arguments, progress and exit codes; all else is the library's.

Exit status: 0 all went in or came out, 1 something did not, 2 wrong usage, 130 Ctrl-C.
What was asked for goes to standard output; progress, problems and errors to standard error.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Self, TextIO

import click

from dicomstudy.errors import DicomStudyError, Problem

if TYPE_CHECKING:
    from dicomstudy.tables import Tables

__all__ = ["main"]

INCOMPLETE, USAGE, INTERRUPTED = 1, 2, 130

#: Errors that lie in what was asked for, not in what was found there.
_USAGE_CODES = frozenset(
    (
        "archive/not-an-archive",
        "archive/not-empty",
        "archive/no-version",
        "archive/not-found",
        "archive/unknown-version",
        "archive/unwritable",
        "change/fields",
        "change/file",
        "change/group",
        "change/level",
        "change/no-creator",
        "change/no-item",
        "change/nothing",
        "change/protected",
        "change/unknown-keyword",
        "change/value",
        "convert/bulk",
        "convert/options",
        "records/options",
        "records/unwritable",
        "tables/no-column",
        "tables/no-extra",
        "tables/no-table",
        "tables/not-empty",
        "tables/not-tables",
        "tables/query",
        "tables/read-only",
        "tables/unknown-version",
        "tables/unwritable",
    )
)
_MOST_PROBLEMS = 50
_BAR = 24


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, and return its exit status.

    Args:
        arguments: those behind the program's name; those of this process if None.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = _commands.main(arguments, "dicomstudy", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt, _Interrupted):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        return _close_quietly()
    except (DicomStudyError, OSError) as error:
        return _failed(error)
    return int(status or 0)


def _close_quietly() -> int:
    """Leave without a word if whoever read the output has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return INCOMPLETE


def _failed(error: DicomStudyError | OSError) -> int:
    """Show an error in one line, and return the exit status for it."""
    from dicomstudy.show import escape  # noqa: PLC0415 (see below)

    click.echo(f"error: {escape(str(error))}", err=True)
    wrong = isinstance(error, DicomStudyError) and error.code in _USAGE_CODES
    return USAGE if wrong else INCOMPLETE


class _Interrupted(Exception):  # noqa: N818 (as KeyboardInterrupt, which is no error either)
    """Ctrl-C; click itself would write an empty line."""


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            raise _Interrupted from interrupt


# Imports stand inside the commands, so that --help is there at once.
@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
)
@click.version_option(package_name="dicomstudy", message="%(prog)s %(version)s")
def _commands() -> None:
    """One Amazon Ion document per DICOM study, and every file back bit for bit.

    Exit status: 0 if all went in or came out, 1 if something did not, 2 for wrong usage.
    """


_ARCHIVE = click.argument("archive", type=click.Path(path_type=Path))
_SOURCES = click.argument(
    "sources", nargs=-1, required=True, metavar="SOURCE...", type=click.Path(exists=True)
)
_FOLDERS = click.option(
    "--sources",
    "folders",
    multiple=True,
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False),
    help="Where to look for P10 files that the archive refers to and that moved; repeatable.",
)
_MAX_INLINE = click.option(
    "--max-inline",
    default=256,
    show_default=True,
    metavar="BYTES",
    type=click.IntRange(min=0),
    help="Values of more bytes than this are kept apart from the metadata.",
)


@_commands.command()
@_SOURCES
@_ARCHIVE
@click.option(
    "--bulk",
    type=click.Choice(["copy", "reference"]),
    default="copy",
    show_default=True,
    help="Copy large values into the archive, or leave them in the P10 files and refer to them.",
)
@_MAX_INLINE
@click.option(
    "--jobs",
    default=1,
    show_default=True,
    metavar="N",
    type=click.IntRange(min=1),
    help="Processes to use.",
)
@click.option(
    "--report",
    "report_path",
    metavar="FILE.json",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write the report as JSON.",
)
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
    What belongs to no study is kept in quarantine.
    """
    import dicomstudy  # noqa: PLC0415

    if report_path is not None and not report_path.parent.is_dir():
        raise click.BadParameter(f"there is no folder {report_path.parent}", param_hint="--report")
    with _Progress() as progress:
        report = dicomstudy.convert(
            sources, archive, bulk=bulk, max_inline=max_inline, jobs=jobs, progress=progress
        )
    if report_path is not None:
        report_path.write_text(report.to_json(), encoding="utf-8")
    _show_problems(report.problems, more="--report FILE.json lists all of them")
    unchanged = f", {report.unchanged} unchanged" if report.unchanged else ""
    _summarize(
        _count(report.files, "file") + f", {report.skipped} skipped",
        _count(report.studies, "study", "studies"),
        _count(report.instances, "instance") + " added" + unchanged,
        f"{report.quarantined} quarantined",
        f"{_size(report.bytes_in)} in, {_size(report.bytes_out)} out",
        _count(len(report.problems), "problem"),
    )
    return 0 if report.complete else INCOMPLETE


@_commands.command()
@_ARCHIVE
@click.argument("destination", metavar="DEST", type=click.Path(file_okay=False, path_type=Path))
@click.option("--study", metavar="UID", help="Only this study.")
@click.option("--series", metavar="UID", help="Only this series.")
@click.option("--instance", metavar="UID", help="Only this instance.")
@click.option("--original", is_flag=True, help="As they came in, without what was changed since.")
@_FOLDERS
def restore(
    archive: Path,
    destination: Path,
    *,
    study: str | None,
    series: str | None,
    instance: str | None,
    original: bool,
    folders: Sequence[str],
) -> int:
    """Write the P10 files.

    Each is the original, proved by its SHA-256, unless it was changed since it came. They are
    named DEST/<study>/<series>/<instance>.dcm. What is in quarantine goes to DEST/quarantine,
    unless only a study, series or instance is asked for.
    """
    import dicomstudy  # noqa: PLC0415

    with _Progress() as progress:
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
    _show_problems(restored.problems)
    _summarize(
        _count(restored.files, "file"),
        f"{_size(restored.bytes_out)} out",
        _count(len(restored.problems), "problem"),
    )
    return INCOMPLETE if restored.problems else 0


@_commands.command()
@_ARCHIVE
@_FOLDERS
def verify(archive: Path, *, folders: Sequence[str]) -> int:
    """Prove every digest and every file, and write none.

    That is the digests of all groups and large values in ARCHIVE, and of each P10 file that
    restore would write.
    """
    import dicomstudy  # noqa: PLC0415

    with _Progress() as progress:
        verified = dicomstudy.verify(archive, sources=folders, progress=progress)
    _show_problems(verified.problems)
    _summarize(
        _count(verified.studies, "study", "studies"),
        _count(verified.instances, "instance"),
        _count(verified.groups, "group"),
        _count(verified.values, "large value"),
        f"{verified.quarantined} quarantined",
        _count(len(verified.problems), "problem"),
    )
    return INCOMPLETE if verified.problems else 0


@_commands.command()
@_ARCHIVE
@click.argument("uid", required=False)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "ion", "json"]),
    default="text",
    show_default=True,
    help="A tree to read, text Ion, or the DICOM JSON model (PS3.18 Annex F).",
)
@_FOLDERS
def show(archive: Path, uid: str | None, *, form: str, folders: Sequence[str]) -> None:
    """Show an archive, study, series or instance.

    UID is that of a study, series or instance in ARCHIVE.
    """
    from dicomstudy.archive import open_archive  # noqa: PLC0415
    from dicomstudy.show import render  # noqa: PLC0415

    for piece in render(open_archive(archive, sources=folders), uid, form=form):
        click.echo(piece, nl=False)


@_commands.command()
@_SOURCES
@click.argument("destination", metavar="DEST", type=click.Path(file_okay=False, path_type=Path))
@click.option("--text", is_flag=True, help="Write text Ion instead of binary.")
@_MAX_INLINE
def records(sources: Sequence[str], destination: Path, *, text: bool, max_inline: int) -> int:
    """Write one instance record (.ion) per P10 file.

    Records are as dicom2ion makes them: they have the metadata, and refer to the P10 file for
    large values. Each gets the place below DEST that its file has below SOURCE.
    """
    import dicomstudy  # noqa: PLC0415

    with _Progress() as progress:
        recorded = dicomstudy.write_records(
            sources, destination, text=text, max_inline=max_inline, progress=progress
        )
    _show_problems(recorded.problems)
    _summarize(
        _count(recorded.files, "file") + f", {recorded.skipped} skipped",
        _count(recorded.records, "record"),
        f"{_size(recorded.bytes_in)} in, {_size(recorded.bytes_out)} out",
        _count(len(recorded.problems), "problem"),
    )
    return 0 if recorded.complete else INCOMPLETE


_STUDY = click.option("--study", metavar="UID", required=True, help="The study.")
_EXPECT = click.option(
    "--expect",
    metavar="VERSION",
    type=click.IntRange(min=1),
    help="Refuse if the study is of another version by now.",
)


@_commands.command()
@_ARCHIVE
@_STUDY
@click.option("--json", "as_json", is_flag=True, help="Write JSON instead of a table.")
def history(archive: Path, *, study: str, as_json: bool) -> None:
    """Show the versions of a study.

    The last one is how it is now. Its number is what --expect is compared with.
    """
    import dicomstudy  # noqa: PLC0415
    from dicomstudy.show import history_text  # noqa: PLC0415

    versions = dicomstudy.history(archive, study)
    click.echo(history_text(versions, as_json=as_json), nl=False)


@_commands.command()
@_ARCHIVE
@click.option("--study", metavar="UID", help="Only this study.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON instead of a table.")
def conflicts(archive: Path, *, study: str | None, as_json: bool) -> int:
    """Show where studies contradict themselves.

    That is where a study has more than one patient, or a study or series more than one of
    another group of which there should be one; and where instances of one UID differ. Exit
    status: 1 if there are any.
    """
    import dicomstudy  # noqa: PLC0415
    from dicomstudy.show import conflicts_text  # noqa: PLC0415

    found = dicomstudy.conflicts(archive, study=study)
    click.echo(conflicts_text(found, as_json=as_json), nl=False)
    return INCOMPLETE if found else 0


@_commands.command()
@_ARCHIVE
@_STUDY
@click.option("--group", metavar="NAME", required=True, help="The attribute group.")
@click.option(
    "--keep", metavar="DIGEST", required=True, help="The group that is right, or its beginning."
)
@click.option("--series", metavar="UID", help="The series, if several have that group.")
@_EXPECT
def resolve(
    archive: Path, *, study: str, group: str, keep: str, series: str | None, expect: int | None
) -> None:
    """Make one of several groups that of the whole study.

    Or that of the whole series, if it is a group of series. What there is, conflicts shows.
    """
    import dicomstudy  # noqa: PLC0415

    versions = dicomstudy.resolve(
        archive, study, group=group, keep=keep, series=series, expect=expect
    )
    _summarize(f"version {versions[-1].number}")


@_commands.command()
@_ARCHIVE
@click.argument("assignments", nargs=-1, metavar="[KEYWORD=VALUE]...")
@_STUDY
@click.option("--series", metavar="UID", help="Only in this series.")
@click.option("--instance", metavar="UID", help="Only in this instance.")
@click.option("--remove", multiple=True, metavar="KEYWORD", help="Remove an attribute; repeatable.")
@click.option(
    "--file",
    "path",
    metavar="CHANGES.json",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Make all edits of a file in one step.",
)
@_EXPECT
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
) -> None:
    """Change attributes of a study, series or instance.

    KEYWORD= makes an attribute empty. A KEYWORD may also be eight hexadecimal digits with a VR,
    as in 00091001:LO=x, or lie in an item, as in RequestAttributesSequence[0].StudyID=x. In a
    file there is a JSON array of {"set": {KEYWORD: VALUE}, "remove": [KEYWORD], "series": UID,
    "instance": UID}. Either all is changed or nothing. No instance is rewritten.
    """
    import dicomstudy  # noqa: PLC0415
    from dicomstudy.assignment import split  # noqa: PLC0415
    from dicomstudy.updating import read_edits  # noqa: PLC0415

    edits = [] if path is None else read_edits(path)
    if assignments or remove or not edits:
        levels = {"series": series, "instance": instance}
        edits.append(
            {
                **{level: uid for level, uid in levels.items() if uid is not None},
                "set": dict(map(split, assignments)),
                "remove": list(remove),
            }
        )
    elif series is not None or instance is not None:
        raise click.BadParameter("a file of changes names the series and instances itself")
    versions = dicomstudy.update(archive, study, edits, expect=expect)
    _summarize(f"version {versions[-1].number}")


@_commands.command()
@_ARCHIVE
@_STUDY
@click.option("--series", metavar="UID", help="Only this series.")
@click.option("--instance", metavar="UID", help="Only this instance.")
@_EXPECT
def delete(
    archive: Path, *, study: str, series: str | None, instance: str | None, expect: int | None
) -> None:
    """Take a study, series or instance out of an archive.

    Older versions of the study keep it, until they are collected: revert brings it back.
    """
    import dicomstudy  # noqa: PLC0415

    versions = dicomstudy.delete(archive, study, series=series, instance=instance, expect=expect)
    _summarize(
        f"version {versions[-1].number}; " + _count(versions[-1].removed, "instance") + " out"
    )


@_commands.command()
@_ARCHIVE
@_STUDY
@click.option("--to", metavar="VERSION", required=True, type=int, help="Where to go back to.")
@_EXPECT
def revert(archive: Path, *, study: str, to: int, expect: int | None) -> None:
    """Make a study what it was in an older version.

    Instances, attributes and files are exactly those of that version. This makes a new version,
    so that it can be gone back from.
    """
    import dicomstudy  # noqa: PLC0415

    versions = dicomstudy.revert(archive, study, to=to, expect=expect)
    _summarize(f"version {versions[-1].number}")


@_commands.command()
@_ARCHIVE
@click.option("--study", metavar="UID", help="Only this study.")
@click.option(
    "--older-versions",
    is_flag=True,
    help="Older versions go too, and with them what changed instances were before.",
)
@click.option("--remove", is_flag=True, help="Remove it; otherwise this only says what would go.")
def collect(archive: Path, *, study: str | None, older_versions: bool, remove: bool) -> None:
    """Remove what nothing in an archive refers to.

    That is large values of which no version of a study knows, and what killed runs left.
    """
    import dicomstudy  # noqa: PLC0415

    collected = dicomstudy.collect(
        archive, study=study, older_versions=older_versions, remove=remove
    )
    _summarize(
        ("removed" if remove else "would be removed") + f": {_size(collected.bytes)}",
        _count(collected.studies, "study", "studies") + " written anew",
        _count(collected.versions, "older version"),
        _count(collected.instances, "instance"),
        _count(collected.files, "bulk file"),
    )


@_commands.command()
@_ARCHIVE
@click.argument("destination", metavar="DEST", type=click.Path(file_okay=False, path_type=Path))
def tables(archive: Path, destination: Path) -> int:
    """Make Parquet tables of an archive, or bring them in step.

    DEST is a folder, made if it is not there. If it has tables, only what changed in ARCHIVE
    is written again.
    """
    import dicomstudy  # noqa: PLC0415

    with _Progress() as progress:
        exported = dicomstudy.export_tables(archive, destination, progress=progress)
    _show_problems(exported.problems)
    _summarize(
        _count(exported.studies, "study", "studies"),
        _count(exported.instances, "instance"),
        f"{exported.added} added, {exported.replaced} replaced, {exported.removed} removed",
        _count(exported.tables, "table"),
        f"{_size(exported.bytes_out)} out",
        _count(len(exported.problems), "problem"),
    )
    return INCOMPLETE if exported.problems else 0


@_commands.command()
@click.argument("source", metavar="ARCHIVE|TABLES", type=click.Path(path_type=Path))
@click.argument("query", metavar="SQL")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json", "parquet"]),
    default="table",
    show_default=True,
    help="Columns to read, CSV, a JSON list, or a Parquet file.",
)
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write to this file; needed for Parquet.",
)
def query(source: Path, query: str, *, form: str, output: Path | None) -> int:
    """Ask tables, or an archive, in SQL.

    SQL is one SELECT of DuckDB. Each table is a view of its name; the view "metadata" has a row
    for each instance, with all attributes by keyword. Nothing is written, and no other file
    read. It needs the extra dicomstudy[sql].
    """
    from dicomstudy.show import escape  # noqa: PLC0415

    if form == "parquet" and output is None:
        raise click.UsageError("--format parquet needs --output FILE")
    with _open_tables(source) as opened:
        _show_problems(opened.problems)
        result = opened.sql(query)
        if form == "parquet" and output is not None:
            result.write_parquet(output)
            return INCOMPLETE if opened.problems else 0
        pieces = {"table": result.to_text, "csv": result.to_csv, "json": result.to_json}[form]()
        if output is not None:
            with output.open("w", encoding="utf-8", newline="") as file:
                file.writelines(pieces)
        else:
            for piece in pieces:
                click.echo(_on_lines(piece, escape) if form == "table" else piece, nl=False)
        return INCOMPLETE if opened.problems else 0


@_commands.command()
@click.argument("source", metavar="TABLES", type=click.Path(path_type=Path))
def schema(source: Path) -> None:
    """Show every table and column.

    Of each column: its type, and tag, VR, name and group of the attribute. TABLES may be an
    archive, too.
    """
    from dicomstudy.show import escape  # noqa: PLC0415

    with _open_tables(source) as opened:
        for name, columns in groupby(opened.columns(), key=lambda facts: facts.table):
            click.echo(f"{name}  {_count(len(opened[name]), 'row')}")
            rows = [
                (f.column, f.type, f.tag and f"({f.tag[:4]},{f.tag[4:]})", f.vr, f.name, f.group)
                for f in columns
            ]
            widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
            for row in rows:
                cells = map(str.ljust, map(escape, row), widths)
                click.echo(f"  {'  '.join(cells)}".rstrip())


def _open_tables(source: Path) -> Tables:
    """Tables, or those of an archive as it is now."""
    import dicomstudy  # noqa: PLC0415

    if (source / "archive.ion").exists():
        return dicomstudy.open_archive(source).tables()
    return dicomstudy.open_tables(source)


def _on_lines(text: str, escape: Callable[[str], str]) -> str:
    return "\n".join(map(escape, text.split("\n")))


class _Progress:
    """How far a run has come: one line that changes on a terminal, else a line now and then."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty()
        self._pause = 0.1 if self._terminal else 5.0
        self._shown = time.monotonic()
        self._step = ""
        self._line = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._write()
        if self._terminal:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def __call__(self, step: str, done: int, total: int | None) -> None:
        if step != self._step:
            self._write()  # how the step before ended, even if it was short
            self._step = step
        self._line = self._describe(step, done, total)
        now = time.monotonic()
        if now - self._shown >= self._pause:
            self._shown = now
            self._write()

    def _describe(self, step: str, done: int, total: int | None) -> str:
        if total is None:
            return f"{step}: {done:,}"
        if not self._terminal:
            return f"{step}: {done:,} of {total:,}"
        filled = _BAR * done // max(total, 1)
        return f"{step}: [{'#' * filled}{'-' * (_BAR - filled)}] {done:,} of {total:,}"

    def _write(self) -> None:
        if self._line:
            end = "" if self._terminal else "\n"
            start = "\r\x1b[K" if self._terminal else ""
            self._stream.write(start + self._line + end)
            self._stream.flush()
            self._line = ""


def _show_problems(problems: Sequence[Problem], *, more: str = "") -> None:
    from dicomstudy.show import escape  # noqa: PLC0415

    for problem in problems[:_MOST_PROBLEMS]:
        line = "  ".join((problem.code, problem.source or "-", problem.message))
        click.echo(escape(line), err=True)
    if len(problems) > _MOST_PROBLEMS:
        rest = f"... and {len(problems) - _MOST_PROBLEMS:,} problems more"
        click.echo(f"{rest}; {more}" if more else rest, err=True)


def _summarize(*parts: str) -> None:
    click.echo("; ".join(parts))


def _count(number: int, one: str, several: str = "") -> str:
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def _size(number: int) -> str:
    from dicomstudy.show import size  # noqa: PLC0415

    return size(number)
