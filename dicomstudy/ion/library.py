"""What is asked of the Ion library, and its errors as ours."""

from __future__ import annotations

import contextlib
from io import BytesIO
from threading import current_thread, main_thread
from typing import Any, Final, Literal, overload

from amazon.ion import exceptions, simpleion

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
#: What the library says where something was raised inside it, such as a Ctrl-C, which is lost then.
_LOST = "IERR_INTERNAL_ERROR"


@overload
def encode(value: Value, *, text: Literal[False] = False) -> bytes: ...
@overload
def encode(value: Value, *, text: Literal[True]) -> str: ...
def encode(value: Value, *, text: bool = False) -> bytes | str:
    """A value that was checked, as a binary stream; if `text`, as text of this value alone."""
    require_c_extension()
    try:
        data: bytes | str = simpleion.dumps(value, binary=not text, omit_version_marker=text)
    except LIBRARY_ERRORS as error:
        raise translated(error, "ion/unsupported-value", "not written as Ion") from error
    return data


def load(data: bytes, limit: int | None, model: simpleion.IonPyValueModel) -> list[Any]:
    """The values of bytes that were checked, as the library gives them.

    Args:
        data: binary or text Ion.
        limit: of the longest string or blob of text Ion.
        model: what the library makes of them.
    """
    try:
        return _load(data, limit, model)
    except LIBRARY_ERRORS as error:
        if _LOST in str(error) and current_thread() is main_thread():
            with contextlib.suppress(*LIBRARY_ERRORS):
                _load(data, limit, model)
                raise KeyboardInterrupt from error  # of which only the library's own error is left
        raise translated(error, "ion/malformed", "not Ion, or damaged") from error


def _load(data: bytes, limit: int | None, model: simpleion.IonPyValueModel) -> list[Any]:
    values: list[Any] = simpleion.load(
        BytesIO(data), single_value=False, text_buffer_size_limit=limit, value_model=model
    )
    return values


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
