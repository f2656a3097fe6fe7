"""What is asked of the Ion library, and its errors as ours."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from io import BytesIO
from threading import current_thread, main_thread
from typing import Any, Final, Literal, TypeVar, overload

from amazon.ion import exceptions, simpleion

from dicomstudy.beside import aside
from dicomstudy.errors import IonError
from dicomstudy.ion.values import Value, too_deep

__all__ = [
    "LIBRARY_ERRORS",
    "MULTIMAP",
    "NATIVE",
    "encode",
    "load",
    "require_c_extension",
    "translated",
]

NATIVE: Final = (
    simpleion.IonPyValueModel.MAY_BE_BARE
    | simpleion.IonPyValueModel.SYMBOL_AS_TEXT
    | simpleion.IonPyValueModel.STRUCT_AS_STD_DICT
)
MULTIMAP: Final = simpleion.IonPyValueModel.MAY_BE_BARE | simpleion.IonPyValueModel.SYMBOL_AS_TEXT
LIBRARY_ERRORS: Final = (
    exceptions.IonException,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    SystemError,
    TypeError,
    ValueError,
)
#: What the library says where something was raised inside it, which is lost then. It is taken for a
#: Ctrl-C: binary Ion is read too often to be read aside, for timestamps that it hardly ever has.
_LOST = "IERR_INTERNAL_ERROR"
_Result = TypeVar("_Result")


@overload
def encode(value: Value, *, text: Literal[False] = False, in_python: bool = True) -> bytes: ...
@overload
def encode(value: Value, *, text: Literal[True], in_python: bool = True) -> str: ...
def encode(value: Value, *, text: bool = False, in_python: bool = True) -> bytes | str:
    """A value that was checked, as a binary stream; if `text`, as text of this value alone.

    `in_python`: what `check` said of it.
    """
    require_c_extension()

    def written() -> bytes | str:
        data: bytes | str = simpleion.dumps(value, binary=not text, omit_version_marker=text)
        return data

    try:
        return _uninterrupted(written) if in_python else written()
    except LIBRARY_ERRORS as error:
        raise translated(error, "ion/unsupported-value", "not written as Ion") from error


def load(data: bytes, limit: int | None, model: simpleion.IonPyValueModel) -> list[Any]:
    """The values of bytes that were checked, as the library gives them.

    Args:
        data: binary or text Ion.
        limit: of the longest string or blob of text Ion; None for binary Ion.
        model: what the library makes of them.
    """

    def loaded() -> list[Any]:
        values: list[Any] = simpleion.load(
            BytesIO(data), single_value=False, text_buffer_size_limit=limit, value_model=model
        )
        return values

    try:
        return loaded() if limit is None else _uninterrupted(loaded)
    except LIBRARY_ERRORS as error:
        if limit is None and _LOST in str(error) and current_thread() is main_thread():
            with contextlib.suppress(*LIBRARY_ERRORS):
                aside(loaded)
                raise KeyboardInterrupt from error  # of which only the library's own error is left
        raise translated(error, "ion/malformed", "not Ion, or damaged") from error


def _uninterrupted(call: Callable[[], _Result]) -> _Result:
    """What the library gives where it calls Python meanwhile.

    Signals are handled in the main thread. What a handler raises there, as Ctrl-C does, is lost in
    the library, or ends the process; so the library is in another one.
    """
    return aside(call) if current_thread() is main_thread() else call()


def require_c_extension() -> None:
    """Refuse to work without the C extension of the library."""
    if not simpleion.c_ext:
        raise IonError("ion/no-c-extension", "amazon.ion lacks its C extension, 20 times slower")


def translated(error: BaseException, code: str, message: str) -> IonError:
    """An error of the library as one of ours."""
    reasons = (error, error.__cause__)
    if any(isinstance(reason, RecursionError) for reason in reasons) or "STACK" in str(error):
        return too_deep()
    return IonError(code, f"{message}: {error}".strip())
