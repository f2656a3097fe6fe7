"""A file taken apart → a record, with what it has in common with others. Mirror of `encoder`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from operator import itemgetter
from typing import Any

from dicomstudy import layout, text, values
from dicomstudy.definitions import Definitions
from dicomstudy.elements import CHARACTER_SET_TAG, MAX_INLINE, Buffer, Span, sha256_of
from dicomstudy.errors import Problem
from dicomstudy.p10 import P10File, Run
from dicomstudy.record.attributes import (
    DEFLATED,
    META_CONTEXT,
    PREAMBLE,
    RAW_GROUP,
    TRAILING,
    Attribute,
    Large,
    character_set_of,
)
from dicomstudy.record.element_decoder import ELEMENT_WEIGHT, ElementDecoder, Memo
from dicomstudy.record.encoder import ENCODING_FIELDS
from dicomstudy.record.repeats import as_repeated, has_repeated, rename_repeated
from dicomstudy.record.stencil import Stencil
from dicomstudy.record.template import Part, Record, Template, by_group
from dicomstudy.values import Context, rules_of

#: What is remembered is weighed in bytes of files; all of it goes when it is too much.
_MAX_WEIGHT = 4 << 20
#: Files with a longer layout are hardly ever written alike.
_LONGEST_LAYOUT = 1 << 14
#: A shape whose files were guessed wrongly so many times is not guessed any more.
_MOST_WRONG = 4


class Decoder:
    """Makes records of P10 files, the quicker the more their elements repeat.

    Args:
        max_inline: values longer than this many bytes are large (dicom2ion's
            maximumInlineDataLength).
        by_offset: pixel data is recorded by its offset in the file, not by its digest.
    """

    def __init__(
        self, definitions: Definitions, *, max_inline: int = MAX_INLINE, by_offset: bool = False
    ) -> None:
        self._max_inline = max_inline
        self._rules = rules_of(definitions)
        self._elements = ElementDecoder(definitions, max_inline=max_inline, by_offset=by_offset)
        self._templates: dict[tuple[object, ...], Template] = {}
        self._encodings: dict[tuple[object, ...], dict[str, Any]] = {}
        self._preambles: dict[bytes, Attribute] = {}
        self._charsets: dict[tuple[str, bytes, bool], text.CharacterSet] = {}
        self._weight = 0
        #: What was decoded last, if it is usual, and the stencil that was made of it.
        self._last: Record | None = None
        self._stencil: Stencil | None = None
        #: Whether the last guess is still to be told from a wrong one, and how many were wrong.
        self._has_guessed = False
        self._wrong: Counter[Template] = Counter()

    def decode(self, file: P10File, data: Buffer) -> Record:
        """The record of `file`, which was read from `data`. Mirror of `Encoder.write`."""
        if self._has_guessed and self._last is not None:
            self._wrong[self._last.template] += 1
            self._has_guessed = False
        if self._is_full():
            self._forget()
        deflated = file.deflated is not None
        explicit = file.syntax.explicit
        context = Context(self._character_set(file), file.syntax.big)
        memos = (
            self._elements.memo(META_CONTEXT, deflated=deflated, explicit=True),
            self._elements.memo(context, deflated=deflated, explicit=explicit),
        )
        variable: list[Attribute] = []
        large: list[Large] = []
        extra: list[Attribute] = []
        shape: list[Run | str] = []
        flaws: list[tuple[Attribute, int]] = []
        meta = len(file.meta)
        starts = [*file.meta_starts, *file.starts]
        for runs, memo in zip((file.meta, file.runs), memos, strict=True):
            known = memo.runs
            for run in runs:
                if run.singles:
                    shape.append(run)
                    continue
                attribute = known.get(run) or self._elements.single(memo, run, file.body)
                if not attribute.plain:
                    start = starts[len(shape)]
                    large += _placed(attribute.large, start)
                    extra += attribute.raw
                    if attribute.flaw:
                        flaws.append((attribute, start))
                variable.append(attribute)
                shape.append(attribute.token)
        key = (context, deflated, file.preamble is not None, meta, *shape)
        template = self._templates.get(key)
        if template is None:
            template = self._template(file, context, variable)
            size = len(template.encoding["dataSet"])
            if size <= _LONGEST_LAYOUT:
                self._templates[key] = template
                self._weight += size
        for place, item in template.large:
            large += _placed((item,), starts[place])
        if template.large:
            large.sort(key=lambda item: item.span.offset)
        if template.repeated:
            for place, occurrence in template.repeated:
                variable[place] = as_repeated(variable[place], occurrence)
            extra = [raw for attribute in variable for raw in attribute.raw]
        extra += self._around(file, data, large)
        flaws += [(found, starts[place] + offset) for place, found, offset in template.flaws]
        flaws.sort(key=itemgetter(1))
        found = [_problem(*flaw) for flaw in flaws]
        problems = (*file.problems, *context.charset.problems, *found)
        record = Record(template, variable, extra, large, problems)
        self._lay_stencil(file, record, memos)
        return record

    def recall(self, data: Buffer) -> Record | None:
        """The record of a file that is like the last two that were decoded; None if it is not.

        It is a guess, made in a fraction of the time: that of `decode` if it is exact
        (`Checker.is_exact`), and of no meaning if it is not. To `decode` the file says that it
        was wrong. Of a large file, which is not in memory, nothing is guessed.
        """
        self._has_guessed = False
        if not isinstance(data, bytes):
            return None
        if self._stencil is None or self._last is None or self._is_full():
            return None
        record = self._stencil.see(data, self._last, self._elements)
        self._has_guessed = record is not None
        return record

    def _lay_stencil(self, file: P10File, record: Record, memos: tuple[Memo, Memo]) -> None:
        """Get ready to `recall` files like this one, if the one before was of its shape, too."""
        before, self._last, self._stencil = self._last, None, None
        if not Stencil.is_usual(file, record):
            return
        self._last, template = record, record.template
        is_again = before is not None and before.template is template
        if not is_again or self._wrong[template] >= _MOST_WRONG:
            return
        self._stencil = Stencil.of(file, record, memos, self._max_inline)

    def _template(self, file: P10File, context: Context, variable: list[Attribute]) -> Template:
        """What records of this shape have in common; `variable` are those of one of them."""
        meta = len(file.meta)
        row: list[Part | int] = []
        count = 0
        deflated, explicit = file.deflated is not None, file.syntax.explicit
        for some, here, has_vrs in (
            (file.meta, META_CONTEXT, True),
            (file.runs, context, explicit),
        ):
            memo = self._elements.memo(here, deflated=deflated, explicit=has_vrs)
            for run in some:
                if run.singles:
                    row.append(self._part(memo, run, file))
                else:
                    row.append(count)
                    count += 1
        runs = file.meta + file.runs
        repeated: list[tuple[int, int]] = []
        if has_repeated(file.meta, file.runs):
            row, repeated = rename_repeated(row, variable, meta)
        tokens = [attribute.token for attribute in variable]
        for number, occurrence in repeated:
            tokens[number] = layout.with_occurrence(tokens[number], occurrence)
        texts = [tokens[item] if isinstance(item, int) else item.layout for item in row]
        encoding_key = (
            file.preamble is not None,
            context.big,
            " ".join(texts[:meta]),
            " ".join(texts[meta:]),
        )
        encoding = self._encodings.get(encoding_key)
        if encoding is None:
            encoding = dict(zip(ENCODING_FIELDS, encoding_key, strict=True))
            if len(encoding["dataSet"]) <= _LONGEST_LAYOUT:
                self._encodings[encoding_key] = encoding
            encoding["byteOrder"] = "big" if context.big else "little"
        return Template(runs, row, variable, encoding, repeated, meta)

    def _character_set(self, file: P10File) -> text.CharacterSet:
        element = file.find(CHARACTER_SET_TAG)
        if element is None or not isinstance(element.value, bytes):
            return text.character_set(())
        written = element.vr, element.value, file.syntax.big
        charset = self._charsets.get(written)
        if charset is None:
            rule = self._rules.rule(CHARACTER_SET_TAG, element.vr)
            context = Context(text.character_set(()), file.syntax.big)
            charset = character_set_of(values.decode(element.value, rule, context))
            self._charsets[written] = charset
            self._weight += len(element.value) + ELEMENT_WEIGHT
        return charset

    def _is_full(self) -> bool:
        """Whether so much is remembered that it has to be forgotten."""
        return self._weight + self._elements.weight > _MAX_WEIGHT

    def _forget(self) -> None:
        """Forget all that was decoded before, so that it does not grow with the input."""
        self._elements.forget()
        self._templates.clear()
        self._encodings.clear()
        self._preambles.clear()
        self._charsets.clear()
        self._wrong.clear()
        self._last = self._stencil = None
        self._weight = 0

    def _part(self, memo: Memo, run: Run, file: P10File) -> Part:
        part = memo.parts.get(run)
        if part is None:
            attributes = [
                memo.runs.get(single) or self._elements.single(memo, single, file.body)
                for single in run.singles
            ]
            part = memo.parts[run] = _join(attributes)
            self._weight += run.size
        return part

    def _around(self, file: P10File, data: Buffer, large: list[Large]) -> list[Attribute]:
        """What of the file is in no element, if there is any."""
        around = []
        if file.preamble is not None and any(file.preamble):
            if file.preamble not in self._preambles:
                self._preambles[file.preamble] = Attribute(PREAMBLE, file.preamble, RAW_GROUP)
            around.append(self._preambles[file.preamble])
        for key, span in ((DEFLATED, file.deflated), (TRAILING, file.trailing)):
            if span is None or not span.length or (key == TRAILING and file.deflated):
                continue
            if span.length <= self._max_inline:
                value: Any = data[span.offset : span.offset + span.length]
            else:
                value = {"length": span.length, "sha256": sha256_of(data, span)}
                large.append(Large(value["sha256"], span))
            around.append(Attribute(key, value, RAW_GROUP))
        return around


def _placed(large: Iterable[Large], start: int) -> list[Large]:
    """`large` with every place counted from the start of the source."""
    return [_moved(item, start)._replace(inside=False) if item.inside else item for item in large]


def _join(attributes: list[Attribute]) -> Part:
    large: list[Large] = []
    flaws: list[tuple[Attribute, int]] = []
    offset = 0
    for attribute in attributes:
        large += [item if not item.inside else _moved(item, offset) for item in attribute.large]
        if attribute.flaw:
            flaws.append((attribute, offset))
        offset += len(attribute.encoded)
    return Part(
        tuple(attributes),
        by_group(attributes),
        " ".join(attribute.token for attribute in attributes),
        b"".join([attribute.encoded for attribute in attributes]),
        tuple(raw for attribute in attributes for raw in attribute.raw),
        tuple(large),
        tuple(flaws),
    )


def _moved(large: Large, by: int) -> Large:
    return large._replace(span=Span(large.span.offset + by, large.span.length))


def _problem(attribute: Attribute, start: int) -> Problem:
    return Problem(None, "record/inexact", attribute.flaw, start, attribute.token[:8])
