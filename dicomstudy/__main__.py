"""The program ``dicomstudy``, and ``python -m dicomstudy``: the command line."""

from __future__ import annotations

import sys

__all__ = ["main"]

#: Exit status after Ctrl-C, as that of the command line.
_INTERRUPTED = 130


def main() -> int:
    """Run the command line, and return its exit status.

    Ctrl-C ends it without a traceback also while the command line is still being imported.
    """
    try:
        from dicomstudy import cli  # noqa: PLC0415 (Ctrl-C may come meanwhile)

        return cli.main()
    except KeyboardInterrupt:
        return _INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
