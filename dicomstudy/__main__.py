"""The program ``dicomstudy``, and ``python -m dicomstudy``: the command line."""

from __future__ import annotations

import signal
import sys
from types import FrameType

__all__ = ["main"]

#: Exit status after Ctrl-C, as that of the command line.
_INTERRUPTED = 130


def main() -> int:
    """Run the command line, and return its exit status.

    Ctrl-C ends it without a traceback also while the command line is still being imported. What
    else asks it to end is to it as Ctrl-C is, but for the status: nothing is left lying then.
    """
    asked: list[int] = []

    def end(number: int, _: FrameType | None) -> None:
        asked.append(number)
        raise KeyboardInterrupt

    for number in (signal.SIGHUP, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_DFL:  # `nohup` lets the one be ignored
            signal.signal(number, end)
    try:
        from dicomstudy import cli  # noqa: PLC0415 (Ctrl-C may come meanwhile)

        status = cli.main()
    except KeyboardInterrupt:
        status = _INTERRUPTED
    return 128 + asked[0] if asked and status == _INTERRUPTED else status


if __name__ == "__main__":
    sys.exit(main())
