"""Whether compressed images say something beside their samples (spec/deidentification.md).

Only the marker segments and boxes in front of the samples are walked through; nothing is decoded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Literal, TypeAlias

from dicomstudy.elements import Span

__all__ = ["has_metadata", "is_offset_table"]

#: Gives bytes `start` to `stop` of the pixel data.
ReadRange: TypeAlias = Callable[[int, int], bytes]

#: So many bytes are read at once, or more.
_LEAST_READ = 1 << 10
#: The longest row of segments or boxes that is walked through.
_MOST = 1 << 10
_SIGNATURE = 12
_ORDERS: Final[tuple[Literal["little", "big"], ...]] = ("little", "big")

_NUMBER = rb"[\d.]{1,15}"
_LAYERS = rb", L\(bytes\)[-+\d.e, \n]*"
#: Comments that encoders leave of themselves, # being a version or the like.
_ENCODERS = (
    rb"Created by (GDCM/)?OpenJPEG version #",
    rb"Creator: JasPer Version #",
    rb"Kakadu-v?#",
    rb"Kdu-Layer-Info: log_2\{Delta-D\(MSE\)/\[2\^16\*Delta-L\(bytes\)\]\}" + _LAYERS,
    rb"Kdu-Layer-Info: log_2\{Delta-D\(squared-error\)/Delta-L\(bytes\)\}" + _LAYERS,
    rb"OpenJPH Ver #",
    rb"LEAD Technologies Inc\. V#",
    rb"CREATOR: gd-jpeg v# \(using IJG JPEG v#\), (default quality|quality = #)\n?",
    rb"Lav[cf]#",
)
#: Comments of which nothing is told.
_COMMENT = re.compile(rb"( *|%s)\0*" % rb"|".join(_ENCODERS).replace(b"#", _NUMBER))


def _markers(*codes: int) -> frozenset[bytes]:
    return frozenset(bytes((0xFF, code)) for code in codes)


_START_OF_SCAN, _END_OF_IMAGE, _FILL = b"\xff\xda", b"\xff\xd9", b"\xff\xff"
#: JPEG marker segments for comments and application data: which of them nothing is told of.
_APPLICATION = {
    b"\xff\xe0": re.compile(rb"(?s)JFIF\0.{7}\0\0"),
    b"\xff\xe2": re.compile(rb"(?s)ICC_PROFILE\0.*"),
    b"\xff\xe8": re.compile(rb"(?s)SPIFF\0.{24}|\0\0\0\x01\xff\xd8|mrfx."),
    b"\xff\xee": re.compile(rb"(?s)Adobe.{,7}"),
    b"\xff\xfe": _COMMENT,
}
#: Those that samples are decoded with: frame headers, tables, DRI, DHP, EXP, and SOF55 and LSE.
_JPEG_NEEDED = _markers(
    *(*range(0xC0, 0xC8), *range(0xC9, 0xD0), 0xDB, 0xDD, 0xDE, 0xDF, 0xF7, 0xF8)
)

_START_OF_DATA, _END_OF_CODESTREAM, _REMARK = b"\xff\x93", b"\xff\xd9", b"\xff\x64"
#: The same of JPEG 2000: CAP to COC, TLM to POC, PPM, PPT, CRG, those of part 2, SOT.
_JPEG_2000_NEEDED = _markers(
    *(*range(0x50, 0x54), *range(0x55, 0x62), 0x63, *range(0x70, 0x7A), 0x90)
)

_SUPERBOX, _CODESTREAM = b"jp2h", b"jp2c"
_BOXES_NEEDED = frozenset(b"jP  |ftyp|rreq|ihdr|bpcc|colr|pclr|cmap|cdef|res ".split(b"|"))


def is_offset_table(table: bytes, fragments: Sequence[Span]) -> bool:
    """Whether a Basic Offset Table is empty, or a row of places where items begin."""
    starts = {span.offset - fragments[0].offset for span in fragments} or {0}
    numbers = range(0, len(table), 4)
    return len(table) % 4 == 0 and any(
        starts.issuperset(int.from_bytes(table[at : at + 4], order) for at in numbers)
        for order in _ORDERS
    )


def has_metadata(
    fragments: Iterable[Span], read: ReadRange, *, known: bool = False, apart: bool = False
) -> bool:
    """Whether an image in these fragments says anything but what encoders write of themselves.

    Images are JPEG, JPEG-LS or JPEG 2000; what begins otherwise is not looked at, unless it is
    known that all are. Of one that cannot be walked through it is taken that it does: no bytes
    raise anything.

    Args:
        fragments: payloads of the items of encapsulated pixel data (PS3.5 section A.4).
        read: gives bytes of them, fewer where there are no more.
        known: the transfer syntax says that they are such images.
        apart: each fragment is an image of its own.

    ITU-T T.81 annex B, T.84 annex F (SPIFF), T.87 annex C, T.800 annexes A and I.
    """
    for spans in ([span] for span in fragments) if apart else _images(fragments, read):
        image = _Image(spans, read)
        start = image.peek(_SIGNATURE)
        walk = _walk_of(start)
        if (known and start) if walk is None else walk(image):
            return True
    return False


def _images(fragments: Iterable[Span], read: ReadRange) -> Iterator[list[Span]]:
    """The fragments of each image: it ends where one begins like an image."""
    image: list[Span] = []
    for span in fragments:
        start = read(span.offset, span.offset + max(0, min(span.length, _SIGNATURE)))
        if image and _walk_of(start) is not None:
            yield image
            image = []
        image.append(span)
    if image:
        yield image


class _Image:
    """The bytes of an image from front to back, over the ends of its fragments.

    Attributes:
        position: how many were taken or skipped.
    """

    def __init__(self, spans: Iterable[Span], read: ReadRange) -> None:
        self.position = 0
        self._spans = iter(spans)
        self._read = read
        self._buffer, self._at = b"", 0
        self._next = self._stop = 0  # what is not in the buffer of the fragment

    def peek(self, length: int) -> bytes:
        """The next bytes, fewer at the end."""
        while (missing := length - len(self._buffer) + self._at) > 0:
            passed = self._pass(max(missing, _LEAST_READ))
            if passed is None:
                break
            more = self._read(*passed)
            self._buffer, self._at = self._buffer[self._at :] + more, 0
            if len(more) < passed[1] - passed[0]:
                self._spans, self._stop = iter(()), self._next  # the value ends before its items
        return self._buffer[self._at : self._at + length]

    def take(self, length: int) -> bytes:
        """The next bytes, fewer at the end, which are behind then."""
        taken = self.peek(length)
        self._at += len(taken)
        self.position += len(taken)
        return taken

    def number(self, length: int) -> int:
        """The next bytes as a number; -1 if there are fewer."""
        taken = self.take(length)
        return int.from_bytes(taken, "big") if len(taken) == length else -1

    def skip(self, length: int) -> None:
        """Leave some bytes behind, or all there are."""
        self.position += length
        buffered = min(length, len(self._buffer) - self._at)
        self._at += buffered
        length -= buffered
        while length and (passed := self._pass(length)):
            length -= passed[1] - passed[0]

    def _pass(self, most: int) -> tuple[int, int] | None:
        """Go on within one fragment; where from and where to, None at the end."""
        while self._next >= self._stop:
            span = next(self._spans, None)
            if span is None:
                return None
            self._next, self._stop = span.offset, span.offset + span.length
        start = self._next
        self._next = min(start + most, self._stop)
        return start, self._next


def _jpeg(image: _Image) -> bool:
    """Whether something that tells stands in front of the first scan of a JPEG image."""
    image.skip(2)
    for _ in range(_MOST):
        if image.peek(2) == _FILL:
            image.skip(1)
            continue
        marker = image.take(2)
        if marker in {_START_OF_SCAN, _END_OF_IMAGE}:
            return False
        if marker in _JPEG_NEEDED:
            _skip_segment(image)
        elif marker not in _APPLICATION or not _APPLICATION[marker].fullmatch(_segment(image)):
            return True
    return True


def _codestream(image: _Image) -> bool:
    """Whether something that tells stands in front of the samples of a JPEG 2000 codestream."""
    image.skip(2)
    for _ in range(_MOST):
        marker = image.take(2)
        if marker in {_START_OF_DATA, _END_OF_CODESTREAM}:
            return False
        if marker in _JPEG_2000_NEEDED:
            _skip_segment(image)
        elif marker != _REMARK or not _COMMENT.fullmatch(_segment(image)[2:]):
            return True
    return True


def _segment(image: _Image) -> bytes:
    """The content of a marker segment, which has its length in front."""
    return image.take(max(image.number(2) - 2, 0))


def _skip_segment(image: _Image) -> None:
    image.skip(max(image.number(2) - 2, 0))


def _boxes(image: _Image) -> bool:
    """Whether something that tells stands in the boxes of a JPEG 2000 file or its codestreams."""
    for _ in range(_MOST):
        start = image.position
        header = image.take(8)
        if not header:
            return False
        if not header.strip(b"\0"):
            continue  # padding, if nothing comes behind it
        length, kind = int.from_bytes(header[:4], "big"), header[4:]
        if length == 1:
            length = image.number(8)
        if kind == _SUPERBOX:
            continue  # its boxes come next
        if kind == _CODESTREAM:
            if _codestream(image):
                return True
        elif kind not in _BOXES_NEEDED:
            return True
        if length == 0:
            return False  # it is the last one
        end = start + length
        if end < image.position:
            return True
        image.skip(end - image.position)
    return True


_WALKS = {
    b"\xff\xd8\xff": _jpeg,
    b"\xff\x4f\xff\x51": _codestream,
    b"\0\0\0\x0cjP  \r\n\x87\n": _boxes,
}


def _walk_of(start: bytes) -> Callable[[_Image], bool] | None:
    for signature, walk in _WALKS.items():
        if start.startswith(signature):
            return walk
    return None
