"""The group of all commands, and the arguments that several have."""

from __future__ import annotations

import os
from pathlib import Path
from stat import S_ISREG
from typing import Any

import click

from dicomstudy.cli.output import NO_REPORT, STANDARD_OUTPUT, may_be_replaced

__all__ = [
    "ARCHIVE",
    "DEST",
    "EXPECT",
    "FOLDERS",
    "MAX_INLINE",
    "REPORT",
    "SOURCES",
    "STUDY",
    "FilePath",
    "InterruptedRun",
    "commands",
    "in_a_folder",
]


class InterruptedRun(Exception):  # noqa: N818 (as KeyboardInterrupt, which is no error either)
    """Ctrl-C; click itself would write an empty line."""


class _Command(click.Command):
    """A command that refuses several values of an option that takes one."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing:  # that is the shell, which completes what is typed
            self._check_repeated(ctx, args)
        return super().parse_args(ctx, args)

    def _check_repeated(self, ctx: click.Context, args: list[str]) -> None:
        _, _, given = self.make_parser(ctx).parse_args([*args])
        if any(each.is_eager for each in given):  # help is asked for
            return
        for option in self.params:
            takes_one = isinstance(option, click.Option) and not (option.multiple or option.is_flag)
            if takes_one and given.count(option) > 1:
                name = option.opts[0]
                raise click.BadOptionUsage(name, f"{name} takes one value, and is repeated", ctx)


class _Group(click.Group):
    command_class = _Command

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            raise InterruptedRun from interrupt


# Imports stand inside the commands, so that --help is there at once.
@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
)
@click.version_option(package_name="dicomstudy", message="%(prog)s %(version)s")
def commands() -> None:
    """One Amazon Ion document per DICOM study, and every file back bit for bit.

    Exit status: 0 if all went in or came out, 1 if something did not, 2 for wrong usage.
    """


def in_a_folder(_: click.Context, __: click.Parameter, path: Path | None) -> Path | None:
    """The path of a file that can be made: asked before the work, not after it."""
    if path is not None and not path.parent.is_dir():
        raise click.BadParameter(f"there is no folder {path.parent}")
    return path


def _status_or_refuse(path: Path) -> os.stat_result | None:
    """What the system says of a file that is to be written; None if there is none."""
    from dicomstudy.disk import status_of
    from dicomstudy.errors import ArchiveError

    try:
        return status_of(path)
    except ArchiveError as error:
        raise click.BadParameter(error.message) from error


def _for_a_report(
    context: click.Context, parameter: click.Parameter, path: Path | None
) -> Path | None:
    """The path of a file that can be made, or of a report; or that of standard output."""
    if path == STANDARD_OUTPUT:
        return path
    there = None if path is None else _status_or_refuse(path)
    is_file = there is not None and S_ISREG(there.st_mode)
    if path is not None and is_file and not may_be_replaced(path):
        raise click.BadParameter(f"{path} {NO_REPORT}")
    return in_a_folder(context, parameter, path)


class FilePath(click.Path):
    """A path; what is empty is none, as a variable that is not set, and not the current folder."""

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:
        """The path, if it is one."""
        if not os.fspath(value):
            self.fail("the path is empty", param, ctx)
        return super().convert(value, param, ctx)


ARCHIVE = click.argument("archive", type=FilePath(path_type=Path))
DEST = click.argument("destination", metavar="DEST", type=FilePath(file_okay=False, path_type=Path))
SOURCES = click.argument(
    "sources", nargs=-1, required=True, metavar="SOURCE...", type=FilePath(exists=True)
)
FOLDERS = click.option(
    "--sources",
    "folders",
    multiple=True,
    metavar="DIR",
    type=FilePath(exists=True, file_okay=False),
    help="Where to look for P10 files that the archive refers to and that moved; repeatable.",
)
MAX_INLINE = click.option(
    "--max-inline",
    default=256,  # elements.MAX_INLINE, whose import would make --help slower
    show_default=True,
    metavar="BYTES",
    type=click.IntRange(min=0),
    help="Values of more bytes than this are kept apart from the metadata.",
)
STUDY = click.option("--study", metavar="UID", required=True, help="The study.")
EXPECT = click.option(
    "--expect",
    metavar="VERSION",
    type=click.IntRange(min=1),
    help="Refuse if the study is of another version by now.",
)
REPORT = click.option(
    "--report",
    "report_path",
    metavar="FILE.json",
    type=FilePath(dir_okay=False, writable=True, allow_dash=True, path_type=Path),
    callback=_for_a_report,
    help="Write the report as JSON; only reports are replaced. With - it goes to standard output, "
    "and all else to standard error.",
)
