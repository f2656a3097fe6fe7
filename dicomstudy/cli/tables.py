"""Commands for tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dicomstudy.cli.group import (
    ARCHIVE,
    DEST,
    FOLDERS,
    REPORT,
    FilePath,
    commands,
    in_a_folder,
)
from dicomstudy.cli.output import (
    IN_REPORT,
    INCOMPLETE,
    Progress,
    reported,
    show_problems,
    summarize,
)
from dicomstudy.printable import count, escape, size

if TYPE_CHECKING:
    from dicomstudy.tables import Tables


@commands.command()
@ARCHIVE
@DEST
@REPORT
@FOLDERS
def tables(
    archive: Path, destination: Path, *, report_path: Path | None, folders: Sequence[str]
) -> int:
    """Make Parquet tables of an archive, or bring them in step.

    DEST is a folder, made if it is not there. If it has tables, only what changed in ARCHIVE
    is written again.
    """
    import dicomstudy

    with Progress() as progress:
        exported = dicomstudy.export_tables(
            archive, destination, sources=folders, progress=progress
        )
    with reported(report_path, exported.to_json):
        show_problems(exported.problems, more=IN_REPORT)
        summarize(
            count(exported.studies, "study", "studies"),
            count(exported.instances, "instance"),
            f"{exported.added} added, {exported.replaced} replaced, {exported.removed} removed",
            count(exported.tables, "table"),
            f"{size(exported.bytes_out)} out",
            count(len(exported.problems), "problem"),
        )
    return 0 if exported.complete else INCOMPLETE


@commands.command()
@click.argument("source", metavar="ARCHIVE|TABLES", type=FilePath(path_type=Path))
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
    type=FilePath(dir_okay=False, writable=True, path_type=Path),
    callback=in_a_folder,
    help="Write to this file; needed for Parquet. It may not be in an archive or tables. If it is "
    "there, it is replaced if it is empty, Parquet, or, by other formats than that, UTF-8 text "
    "with the suffix .csv, .json, .txt or none.",
)
@FOLDERS
def query(
    source: Path, query: str, *, form: str, output: Path | None, folders: Sequence[str]
) -> int:
    """Ask tables, or an archive, in SQL.

    SQL is one SELECT of DuckDB. Each table is a view of its name; the view "metadata" has a row
    for each instance, with all attributes by keyword. Nothing is written, and no other file
    read. It needs the extra dicomstudy[sql]. Exit status: 1 if a study of ARCHIVE cannot be read.
    """
    if form == "parquet" and output is None:
        raise click.UsageError("--format parquet needs --output FILE")
    if output is not None:
        _check_replaceable(output, text=form != "parquet")
    with _open_tables(source, folders) as opened:
        show_problems(opened.problems)
        result = opened.sql(query)
        if form == "parquet" and output is not None:
            result.write_parquet(output)
            return INCOMPLETE if opened.problems else 0
        pieces = {"table": result.to_text, "csv": result.to_csv, "json": result.to_json}[form]()
        if output is not None:
            _write(output, pieces)
        else:
            for piece in pieces:
                click.echo(piece, nl=False)
        return INCOMPLETE if opened.problems else 0


def _write(path: Path, pieces: Iterable[str]) -> None:
    from dicomstudy.disk import replacing
    from dicomstudy.errors import TableError

    try:
        with replacing(path) as file:
            file.writelines(piece.encode() for piece in pieces)
    except OSError as error:
        raise TableError(
            "tables/unwritable",
            f"the file cannot be written: {error.strerror}",
            source=str(path),
        ) from error


def _check_replaceable(path: Path, *, text: bool) -> None:
    """Do nothing if no file is lost by an answer, which is `text` or Parquet."""
    from dicomstudy.errors import ArchiveError, TableError
    from dicomstudy.tables import place_for_answer

    try:
        place_for_answer(path, text=text)
    except (ArchiveError, TableError) as error:
        raise click.BadParameter(error.message, param_hint="--output") from error


@commands.command()
@click.argument("source", metavar="TABLES", type=FilePath(path_type=Path))
@FOLDERS
def schema(source: Path, *, folders: Sequence[str]) -> int:
    """Show every table and column.

    Of each column: its type, and tag, VR, name and group of the attribute. TABLES may be an
    archive, too. Exit status: 1 if a study of that cannot be read.
    """
    with _open_tables(source, folders) as opened:
        show_problems(opened.problems)
        for name, columns in groupby(opened.columns(), key=lambda facts: facts.table):
            click.echo(f"{name}  {count(len(opened[name]), 'row')}")
            rows = [
                (f.column, f.type, f.tag and f"({f.tag[:4]},{f.tag[4:]})", f.vr, f.name, f.group)
                for f in columns
            ]
            widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
            for row in rows:
                cells = map(str.ljust, map(escape, row), widths)
                click.echo(f"  {'  '.join(cells)}".rstrip())
        return INCOMPLETE if opened.problems else 0


def _open_tables(source: Path, folders: Sequence[str]) -> Tables:
    """Tables, or those of an archive as it is now."""
    import dicomstudy
    from dicomstudy.disk import is_there
    from dicomstudy.folder import MARKER

    if is_there(source / MARKER):
        return dicomstudy.open_archive(source, sources=folders).tables()
    found = dicomstudy.open_tables(source)
    if folders:
        message = f"{source} is a folder of tables, and these refer to no P10 files"
        raise click.BadParameter(message, param_hint="--sources")
    return found
