"""Group lengths: which of them are right, so that their value need not be kept (spec/p10.md)."""

from __future__ import annotations

from dicomstudy.elements import Element, Form
from dicomstudy.p10.headers import group_length


def settle_group_lengths(elements: list[Element], starts: list[int], *, big: bool) -> None:
    """Mark each group length among `elements` that is right as `Form.GROUP_LENGTH`.

    Args:
        elements: those of an item; changed in place.
        starts: where each of them starts, and where the last one ends.
        big: their byte order.
    """
    for index, element in enumerate(elements):
        if not element.tag & 0xFFFF:
            _settle(elements, starts, index, big=big)


def _settle(elements: list[Element], starts: list[int], index: int, *, big: bool) -> None:
    """Mark the group length at `index` as `Form.GROUP_LENGTH` if it is right."""
    element = elements[index]
    group = element.tag >> 16
    if index and elements[index - 1].tag >> 16 == group:
        return  # it is not the first of its group
    after = index + 1
    while after < len(elements) and elements[after].tag >> 16 == group:
        after += 1
    if is_group_length(element, starts[after] - starts[index + 1], big=big):
        elements[index] = Element(element.tag, element.vr, b"", Form.GROUP_LENGTH)


def is_group_length(element: Element, length: int, *, big: bool) -> bool:
    """Whether `element`, which is a (gggg,0000), says that its group has `length` bytes."""
    return (
        element.value == group_length(length, big=big) and not element.form and not element.reserved
    )
