"""An attribute as it was, where it stands, and what becomes of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from dicomstudy.errors import RecordError
from dicomstudy.layout import Token
from dicomstudy.text import CharacterSet

__all__ = ["Given", "Made", "Scope", "UnreadableError", "Values"]


class Values(Protocol):
    """Large values: those of the source, and those of the result."""

    def read(self, reference: Mapping[str, Any]) -> bytes:
        """The bytes of one of the source."""
        ...

    def copy(self, reference: Mapping[str, Any]) -> dict[str, Any]:
        """The reference, in the result, of one of the source that stays as it is."""
        ...

    def put(self, content: bytes) -> dict[str, Any]:
        """The reference, in the result, of a new one."""
        ...


class Scope(NamedTuple):
    """What the values of a data set or item depend on, beside themselves.

    `patient` says whose they are; `explicit`: VRs are written; `safe` are the private elements that
    are declared safe; `notes` takes the codes of what there is to tell of them.
    """

    patient: str
    charset: CharacterSet
    explicit: bool
    safe: frozenset[int]
    values: Values
    notes: set[str]


class Given(NamedTuple):
    """An attribute as it was, and how its element was written, if that is known."""

    key: str
    tag: int
    value: Any
    token: Token | None

    @property
    def vr(self) -> str:
        """The VR in its header, if it has one."""
        return "" if self.token is None else self.token.vr


class Made(NamedTuple):
    """An attribute of the result, and how its element is written."""

    key: str
    value: Any
    token: Token


class UnreadableError(RecordError):
    """A value is not what its attribute should have."""

    def __init__(self) -> None:
        super().__init__("record/value", "a value is not what its attribute should have")
