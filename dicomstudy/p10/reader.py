"""A Part 10 file → `P10File`, the quicker the more files are alike."""

from __future__ import annotations

import zlib
from itertools import accumulate, groupby
from operator import attrgetter
from typing import NamedTuple

from dicomstudy.elements import (
    ITEM_DELIMITATION,
    MAX_INLINE,
    Buffer,
    Element,
    Form,
    Sequence,
    Span,
    format_tag,
)
from dicomstudy.errors import P10Error, Problem
from dicomstudy.p10.file import P10File, Run, Syntax, elements_of
from dicomstudy.p10.group_lengths import is_group_length
from dicomstudy.p10.headers import (
    LONGEST_KNOWN,
    VRS,
    Header,
    header,
    looks_explicit,
)
from dicomstudy.p10.parser import Parser

#: A deflated data set that grows beyond this is refused.
MAX_INFLATED = 1 << 28
#: A data set with more elements is not taken apart from there on.
MAX_ELEMENTS = 1 << 20
#: Nor is one that was deflated, if its runs weigh more than this, and so much for each byte that it
#: was stored in.
SURELY_INFLATED, INFLATED_FOR_EACH = 1 << 20, 128

PREFIX = b"DICM"
TRANSFER_SYNTAX_UID = 0x00020010
IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_BIG_ENDIAN = "1.2.840.10008.1.2.2"
#: Transfer syntaxes whose data set is deflated (explicit VR and two of JPIP), and those that are
#: the same but for that.
DEFLATED_SYNTAXES = {
    "1.2.840.10008.1.2.1.99": "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.4.95": "1.2.840.10008.1.2.4.94",
    "1.2.840.10008.1.2.4.205": "1.2.840.10008.1.2.4.204",
}

#: What the elements of file meta information, and of a command set, begin with.
_META_START, _COMMAND_START = b"\2\0", b"\0\0"
#: So many zeros behind the file meta information are no command set, but padding.
_PADDING = 1 << 12
_TOO_LARGE = f"the deflated data set is too large: it has more than {MAX_INFLATED} bytes"
#: A `Reader` looks which runs it may join whenever it has read so many files, and a few times
#: early on.
_FILES_TO_LEARN, _FIRST_TO_LEARN = 64, frozenset((4, 8, 16))
#: What is remembered is weighed in bytes of files; all of it goes when it is too much.
_MAX_WEIGHT = 4 << 20
_RUN_WEIGHT = 256
#: Runs that are still expected though files do not have them.
_MOST_SKIPPED = 1 << 10
#: Runs that may come before others that are expected: each moves all of these.
_MOST_INSERTED = 1 << 10
_size_of = attrgetter("size")
_group_of = attrgetter("group")
_has_bytes = attrgetter("encoded")
#: Group lengths that are remembered to be right, or wrong.
_MOST_SETTLED = 1 << 10
#: The bytes of a group length with the longest header; no longer element is one.
_LONGEST_GROUP_LENGTH = 16
#: The bytes of an implicit header; and of an explicit one with a length of 32 bits.
_HEADER, _LONG_HEADER = 8, 12


class _Known:
    """What a `Reader` keeps of one kind of data set.

    Attributes:
        runs: those it expects, in their order; large values are not among them, but known by
            their header and where they lie.
        stable: those that it may join if they come again: they came when it last looked.
        files: how many it has read.
    """

    __slots__ = ("_by_bytes", "_by_place", "_weight", "files", "runs", "stable")

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.stable: set[Run] = set()
        self.files = 0
        self._by_bytes: dict[bytes, Run] = {}
        self._by_place: dict[tuple[int, bytes], Run] = {}
        self._weight = 0

    def ordinary(self, head: Header, encoded: bytes) -> Run:
        """The run of an ordinary element with this header and these bytes."""
        return self._by_bytes.get(encoded) or self.add(Run(head, encoded))

    def add(self, run: Run) -> Run:
        """Remember `run`, or the run of the same bytes that is remembered already."""
        self._weigh(run.size)
        return self._by_bytes.setdefault(run.encoded, run)

    def placed(self, pos: int, head: bytes) -> Run | None:
        """The run of a large element that had this header at the same place; None without."""
        return self._by_place.get((pos, head))

    def place(self, pos: int, head: bytes, run: Run) -> Run:
        """Remember `run` by its place."""
        self._weigh(0)
        self._by_place[pos, head] = run
        return run

    def _weigh(self, size: int) -> None:
        if self._weight > _MAX_WEIGHT:
            self._by_bytes.clear()
            self._by_place.clear()
            self._weight = 0
        self._weight += size + _RUN_WEIGHT


class _Pass(NamedTuple):
    """One reading of the file meta information, a command set or a data set, with its `problems`.

    `group`: what all elements that are read begin with, in the former two. `room`: what the runs
    of a data set that was deflated may weigh together.
    """

    parser: Parser
    state: _Known
    explicit: bool
    group: bytes
    source: str | None
    problems: list[Problem]
    room: int | None

    def cost(self, run: Run) -> int:
        """What a run counts against the limit."""
        return (len(run.singles) or 1) if self.room is None else run.weight

    @property
    def header_size(self) -> int:
        """The bytes of the header that a large value mostly has."""
        return _LONG_HEADER if self.explicit else _HEADER

    @property
    def most(self) -> int:
        """What the runs may cost together."""
        return MAX_ELEMENTS if self.room is None else self.room

    @property
    def _too_many(self) -> str:
        if self.room is None:
            return f"the data set has more than {MAX_ELEMENTS} elements"
        return (
            f"the elements of the deflated data set have more than {self.room} bytes to take apart"
        )

    def read_one(self, pos: int, count: int) -> Run | None:
        """The run of the element at `pos`, before which there are runs that cost `count`.

        None where the data set ends.
        """
        parser, problems = self.parser, self.problems
        if self.group and parser.data[pos : pos + 2] != self.group:
            return None
        try:
            read = self._placed(pos) or self._take_apart(pos)
        except P10Error as error:
            rest = parser.data[pos : pos + _HEADER]
            if len(rest) == _HEADER or any(rest):  # else it is padding
                problems.append(error.problem(self.source))
            return None
        if read is not None and count + self.cost(read) > self.most:
            problems.append(Problem(self.source, "p10/too-many-elements", self._too_many, pos))
            return None
        if parser.flaws:
            problems += [flaw._replace(source=self.source) for flaw in parser.flaws]
            parser.flaws.clear()
        return read

    def _placed(self, pos: int) -> Run | None:
        """The run of the large element at `pos`, as `_take_apart` would say.

        None if there was none with its header at this place before, or if it may have items:
        then it is to be taken apart.
        """
        parser = self.parser
        value_at = pos + self.header_size
        run = self.state.placed(pos, parser.data[pos:value_at])
        if run is None or pos + run.size > len(parser.data):
            return None
        return None if parser.data[value_at : value_at + 4] == parser.order.item_tag else run

    def _take_apart(self, pos: int) -> Run | None:
        """The run of the element at `pos`; without its bytes if it is not to be remembered.

        None where the data set ends.
        """
        parser, explicit = self.parser, self.explicit
        data, end = parser.data, len(parser.data)
        parser.looked = False
        element, after = parser.element(pos, end, explicit, 0, top=not self.group)
        size = after - pos
        if element.tag == ITEM_DELIMITATION:
            return None
        if element.tag == 0 and not (self.group or any(data[pos : pos + 64])):
            return None  # zero padding behind the data set
        if element.form is Form.DECLARED:
            parser.flaws.append(_truncated(element, size, pos))
        elif isinstance(element.value, Span):
            value_at = element.value.offset
            if not element.form and value_at - pos == self.header_size:
                return self.state.place(pos, data[pos:value_at], Run.single(element, b"", size))
        elif (
            size <= LONGEST_KNOWN
            and not parser.flaws  # they are to be found again
            and not parser.looked  # at what another file may not have behind the element
            and element.tag  # the same bytes may be padding in another file
            and isinstance(element.value, bytes | Sequence)
        ):
            encoded = data[pos:after]
            if _is_ordinary(element, explicit=explicit):
                return Run(header(element.tag, element.vr, big=parser.big), encoded)
            return Run.single(element, encoded, size)
        return Run.single(element, b"", size)


class Reader:
    """Reads one file after another, and the quicker the more they are alike.

    The runs of the last file are kept: where the bytes of one stand again, its elements are
    known and are not taken apart a second time. A run that no longer fits is split around
    the elements that differ; runs that go on fitting are joined again. Elements with the same
    bytes are the same run, while it is remembered, as are large ones with the same header at
    the same place. What is read never depends on what was read before.
    """

    def __init__(self, *, max_inline: int = MAX_INLINE) -> None:
        self.max_inline = max_inline
        self._known: dict[tuple[bool, bool, bytes], _Known] = {}
        self._group_lengths: dict[tuple[int, str], Run] = {}
        self._settled: dict[tuple[Run, int], Run] = {}

    def read(self, data: Buffer, *, source: str | None = None) -> P10File:
        """Split a Part 10 file into elements without decoding any value.

        Mirror of `write`. Values longer than `max_inline` bytes that are not items become a
        `Span`. The preamble and the file meta information may be missing (PS3.10 section 7).
        """
        length = len(data)
        preamble = data[:128] if data[128:132] == PREFIX else None
        pos = 0 if preamble is None else 132
        parser = Parser(data, big=False, limit=self.max_inline)
        explicit = looks_explicit(data[pos + 4 : pos + 6])
        meta, starts, problems = self._read_runs(parser, pos, explicit, source, _META_START)
        pos = starts[-1]
        starts = [pos]
        body, deflated, syntax = data, None, Syntax(explicit)
        runs: list[Run] = []
        if not problems:
            uid = _transfer_syntax_uid(meta)
            if data[pos : pos + 2] == _COMMAND_START:
                commands, pos = self._read_commands(parser, pos, uid)
                meta += commands
                starts = [pos]
            if uid in DEFLATED_SYNTAXES:
                try:
                    body = inflate(data[pos : min(length, pos + MAX_INFLATED + 1)])
                    deflated, pos = Span(pos, length - pos), 0
                except P10Error as error:
                    if error.code != "p10/deflate" or data[pos + 4 : pos + 6] not in VRS:
                        problems.append(error.problem(source)._replace(offset=pos))
            if not problems:
                syntax = _find_syntax(uid, body[pos : pos + 8], deflated=deflated is not None)
                room = inside = None
                if deflated is not None:
                    room = SURELY_INFLATED + INFLATED_FOR_EACH * deflated.length
                    inside = room // _HEADER
                parser = Parser(body, big=syntax.big, limit=self.max_inline, inside=inside)
                runs, starts, problems = self._read_runs(
                    parser, pos, syntax.explicit, source, room=room
                )
        end = starts[-1]
        trailing = Span(end, len(body) - end)
        if trailing.length and not problems:
            problems = _trailing_problems(body, trailing, source)
        return P10File(
            preamble, meta, runs, starts, syntax, body, trailing, deflated, tuple(problems)
        )

    def _read_commands(self, parser: Parser, pos: int, uid: str | None) -> tuple[list[Run], int]:
        """The command set at `pos`, and where it ends; there, if there is none.

        What an implicit data set begins with is no command set, but for zeros.
        """
        data, end = parser.data, len(parser.data)
        if looks_explicit(data[pos + 4 : pos + 6]) or not any(data[pos : pos + _PADDING]):
            return [], pos
        runs, starts, problems = self._read_runs(parser, pos, False, None, _COMMAND_START)
        after = starts[-1]
        values = [element.value for element in elements_of(runs)]
        if problems or after == end or not all(isinstance(value, bytes) for value in values):
            return [], pos
        syntax = _find_syntax(uid, data[after : after + 8], deflated=uid in DEFLATED_SYNTAXES)
        is_same = not (syntax.explicit or syntax.big or syntax.deflated)
        return ([], pos) if is_same and any(data[pos : pos + 64]) else (runs, after)

    def _read_runs(
        self,
        parser: Parser,
        pos: int,
        explicit: bool,
        source: str | None,
        group: bytes = b"",
        room: int | None = None,
    ) -> tuple[list[Run], list[int], list[Problem]]:
        """The runs from `pos` on, their offsets and where they end, and why they end there.

        With a `group`, they end before the first element of another one.
        """
        data, end = parser.data, len(parser.data)
        state = self._known.setdefault((explicit, parser.big, group), _Known())
        known = state.runs
        runs: list[Run] = []
        reading = _Pass(parser, state, explicit, group, source, [], room)
        most = reading.most
        opened: set[Run] = set()
        start = pos
        index = count = inserted = 0
        while pos < end:
            if index < len(known):
                run = known[index]
                after = pos + run.size
                # as `reading.cost` would say: a call for each run takes longer than the rest
                cost = (len(run.singles) or 1) if room is None else run.weight
                if data[pos:after] == run.encoded and count + cost <= most:
                    runs.append(run)
                    pos = after
                    count += cost
                    index += 1
                    continue
                if run.singles and run.tag <= parser.tag(pos):  # no other element stands before it
                    known[index : index + 1] = run.singles
                    opened.update(run.singles)
                    continue
                head = run.head
                if head is not None:
                    ends = parser.again(head, pos, end)
                    if ends is not None:
                        again = state.ordinary(head, data[pos:ends])
                        cost = 1 if room is None else again.weight
                        if count + cost <= most:
                            known[index] = again
                            runs.append(again)
                            pos = ends
                            count += cost
                            index += 1
                            continue
                if data[pos : pos + 4] != run.encoded[:4] and run.tag < parser.tag(pos):
                    index += 1
                    continue
            read = reading.read_one(pos, count)
            if read is None:
                break
            if read.encoded:
                read = state.add(read)
                if index < len(known) and known[index].tag == read.tag:
                    known[index] = read
                else:
                    inserted += 1
                    if inserted > _MOST_INSERTED:  # a file unlike those before
                        del known[index:]
                    known.insert(index, read)
                index += 1
            runs.append(read)
            pos += read.size
            count += reading.cost(read)
        if opened:
            runs = _join(runs, opened.intersection(runs))
        if opened or len(known) > 2 * len(runs) + _MOST_SKIPPED:
            known[:] = filter(_has_bytes, runs)
        self._learn(state, runs)
        starts = list(accumulate(map(_size_of, runs), initial=start))
        self._settle_group_lengths(runs, starts, big=parser.big)
        return runs, starts, reading.problems

    def _learn(self, state: _Known, runs: list[Run]) -> None:
        """After the first file, and every now and then, join what came as it did some files ago."""
        files = state.files
        state.files += 1
        if files == 0:
            state.stable.update(filter(_has_bytes, runs))
        elif files % _FILES_TO_LEARN and files not in _FIRST_TO_LEARN:
            return
        state.runs[:] = filter(_has_bytes, _join(runs, state.stable))
        state.stable.clear()
        state.stable.update(state.runs)

    def _settle_group_lengths(self, runs: list[Run], starts: list[int], *, big: bool) -> None:
        """Replace each group length that stands alone in its run, and is right."""
        alone = [at for at, run in enumerate(runs) if not (run.low & 0xFFFF or run.singles)]
        if not alone:
            return
        groups = list(map(_group_of, runs))
        groups.append(-1)
        for index in alone:
            group = groups[index]
            if index and runs[index - 1].last >> 16 == group:
                continue  # it is not the first of its group
            end = index + 1
            while groups[end] == group:
                end += 1
            length = starts[end] - starts[index + 1]
            if end < len(runs) and groups[end] < 0:
                length += runs[end].size_of_first(group)
            runs[index] = self._settle(runs[index], length, big=big)

    def _settle(self, run: Run, length: int, *, big: bool) -> Run:
        """The run of a group length, without its value if that is `length`."""
        if run.size > _LONGEST_GROUP_LENGTH:
            return run
        known = self._settled
        found = known.get((run, length))
        if found is None:
            if len(known) >= _MOST_SETTLED:
                known.clear()
                self._group_lengths.clear()
            element = run.elements[0]
            is_right = is_group_length(element, length, big=big)
            found = self._right_group_length(element, run.size) if is_right else run
            known[run, length] = found
        return found

    def _right_group_length(self, element: Element, size: int) -> Run:
        """The run of a right one: the same for all of its tag and VR."""
        right = self._group_lengths.get(element[:2])
        if right is None:
            right = Run.single(Element(*element[:2], b"", Form.GROUP_LENGTH), b"", size)
            self._group_lengths[element[:2]] = right
        return right


def _is_ordinary(element: Element, *, explicit: bool) -> bool:
    """Whether an element has the header that one expects, and a value of bytes."""
    return (
        isinstance(element.value, bytes)
        and not element.form
        and not element.reserved
        and bool(element.vr) == explicit
    )


def _join(runs: list[Run], stable: set[Run]) -> list[Run]:
    """As few runs as may be: neighbours that are both `stable` become one.

    Not group lengths: whether one is right depends on what comes behind it.
    """
    joined: list[Run] = []
    for is_stable, neighbours in groupby(
        runs, lambda run: run in stable and (run.low & 0xFFFF != 0 or bool(run.singles))
    ):
        kept = list(neighbours)
        if is_stable and len(kept) > 1:
            kept = [Run.join([single for run in kept for single in run.singles or (run,)])]
        joined += kept
    return joined


def _truncated(element: Element, remaining: int, pos: int) -> Problem:
    return Problem(
        None,
        "p10/truncated",
        f"the value should have {element.declared} bytes, but the file ends {remaining} bytes "
        "after its element starts",
        pos,
        format_tag(element.tag),
    )


def _trailing_problems(body: Buffer, trailing: Span, source: str | None) -> list[Problem]:
    """One problem if there is more than zero padding behind the data set, else none."""
    end = trailing.offset + trailing.length
    if not any(body[trailing.offset : min(end, trailing.offset + 4096)]):
        return []
    return [
        Problem(
            source,
            "p10/trailing-bytes",
            f"{trailing.length} bytes after the data set were kept as they are",
            trailing.offset,
        )
    ]


def read(data: Buffer, *, max_inline: int = MAX_INLINE, source: str | None = None) -> P10File:
    """`Reader.read` of a single file."""
    return Reader(max_inline=max_inline).read(data, source=source)


def inflate(data: bytes) -> bytes:
    """The data set of a deflated file (PS3.5 section A.5), bytes behind its stream ignored.

    Raises:
        P10Error: not a deflate stream, or one that grows beyond `MAX_INFLATED`.
    """
    if len(data) > MAX_INFLATED:
        raise P10Error("p10/deflate-too-large", _TOO_LARGE)
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = stream.decompress(data, MAX_INFLATED)
    except zlib.error as error:
        raise P10Error("p10/deflate", f"the data set cannot be inflated: {error}") from error
    if stream.unconsumed_tail:
        raise P10Error("p10/deflate-too-large", _TOO_LARGE)
    if not stream.eof:
        raise P10Error("p10/deflate", "the deflated data set is cut short")
    return inflated


def _transfer_syntax_uid(meta: list[Run]) -> str | None:
    """The last one counts, as of all elements that come again."""
    for element in reversed(elements_of(meta)):
        if element.tag == TRANSFER_SYNTAX_UID and isinstance(element.value, bytes):
            return element.value.rstrip(b"\0 ").strip().decode("latin-1")
    return None


def _find_syntax(uid: str | None, head: bytes, *, deflated: bool) -> Syntax:
    """What the transfer syntax says, corrected by what the first element looks like.

    Without a transfer syntax, an explicit data set is taken for big-endian if its first group
    number, read as little-endian, is 1024 or more.
    """
    if uid is None:
        explicit = head[4:6] in VRS
        return Syntax(explicit, big=explicit and head[1] >= 4)
    explicit = uid != IMPLICIT_LITTLE_ENDIAN if len(head) < 6 else looks_explicit(head[4:6])
    return Syntax(explicit, big=uid == EXPLICIT_BIG_ENDIAN, deflated=deflated)
