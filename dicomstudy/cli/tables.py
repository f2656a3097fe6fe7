"""Commands for tables."""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dicomstudy.cli.group import ARCHIVE, DEST, FilePath, commands, in_a_folder
from dicomstudy.cli.output import INCOMPLETE, Progress, count, show_problems, size_text, summarize

if TYPE_CHECKING:
    from dicomstudy.tables import Tables


@commands.command()
@ARCHIVE
@DEST
def tables(archive: Path, destination: Path) -> int:
    """Make Parquet tables of an archive, or bring them in step.

    DEST is a folder, made if it is not there. If it has tables, only what changed in ARCHIVE
    is written again.
    """
    import dicomstudy

    with Progress() as progress:
        exported = dicomstudy.export_tables(archive, destination, progress=progress)
    show_problems(exported.problems)
    summarize(
        count(exported.studies, "study", "studies"),
        count(exported.instances, "instance"),
        f"{exported.added} added, {exported.replaced} replaced, {exported.removed} removed",
        count(exported.tables, "table"),
        f"{size_text(exported.bytes_out)} out",
        count(len(exported.problems), "problem"),
    )
    return INCOMPLETE if exported.problems else 0


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
    help="Write to this file, new or an earlier answer; needed for Parquet.",
)
def query(source: Path, query: str, *, form: str, output: Path | None) -> int:
    """Ask tables, or an archive, in SQL.

    SQL is one SELECT of DuckDB. Each table is a view of its name; the view "metadata" has a row
    for each instance, with all attributes by keyword. Nothing is written, and no other file
    read. It needs the extra dicomstudy[sql].
    """
    if form == "parquet" and output is None:
        raise click.UsageError("--format parquet needs --output FILE")
    if output is not None:
        _check_replaceable(output, source)
    with _open_tables(source) as opened:
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
    from dicomstudy.errors import TableError

    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            file.writelines(pieces)
    except OSError as error:
        raise TableError(
            "tables/unwritable",
            f"the file cannot be written: {error.strerror}",
            source=str(path),
        ) from error


def _check_replaceable(path: Path, source: Path) -> None:
    """Do nothing if no file is lost by an answer: of those that are there, an earlier answer."""
    if path.resolve().is_relative_to(source.resolve()):
        raise click.BadParameter(f"{path} lies within {source}", param_hint="--output")
    if path.is_file() and not _is_answer(path):
        message = f"{path} is no answer to a query, and is not replaced"
        raise click.BadParameter(message, param_hint="--output")


def _is_answer(path: Path) -> bool:
    """Whether a file is Parquet, or text, which DICOM files and documents are not."""
    with path.open("rb") as file:
        start = file.read(4096)
    try:
        text = getincrementaldecoder("utf-8")().decode(start)  # its last character may be cut
    except UnicodeDecodeError:
        return start.startswith(b"PAR1")
    return "\0" not in text or start.startswith(b"PAR1")


@commands.command()
@click.argument("source", metavar="TABLES", type=FilePath(path_type=Path))
def schema(source: Path) -> None:
    """Show every table and column.

    Of each column: its type, and tag, VR, name and group of the attribute. TABLES may be an
    archive, too.
    """
    from dicomstudy.show import escape

    with _open_tables(source) as opened:
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


def _open_tables(source: Path) -> Tables:
    """Tables, or those of an archive as it is now."""
    import dicomstudy
    from dicomstudy.folder import MARKER

    if (source / MARKER).exists():
        return dicomstudy.open_archive(source).tables()
    return dicomstudy.open_tables(source)
