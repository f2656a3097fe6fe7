"""The golden cases of spec/vectors, of which another implementation could run the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import dicomstudy
from dicomstudy import definitions, ion, layout, p10, text, values
from dicomstudy.bulk import BulkReader, Place
from dicomstudy.elements import Element, Encapsulated, Form, Item, Sequence, Span, format_tag
from dicomstudy.errors import DicomStudyError
from dicomstudy.layout import ItemLayout, Token
from dicomstudy.p10 import P10File
from dicomstudy.record import Decoder, Encoder
from dicomstudy.values import Context, Rules
from tests import make_vectors
from tests.make_vectors import unspell

Case = dict[str, Any]

VECTORS = Path(__file__).parents[1] / "spec" / "vectors"
DEFINITIONS = definitions.load()
ENCODER = Encoder(DEFINITIONS)
RULES = Rules(DEFINITIONS)


def vectors(name: str) -> list[Case]:
    """The cases of one file."""
    path = VECTORS / name
    content = path.read_bytes()
    loaded: Any = json.loads(content) if path.suffix == ".json" else ion.loads(content)
    assert isinstance(loaded, list)
    assert loaded
    return loaded


def parametrize(name: str) -> pytest.MarkDecorator:
    """A test for each case of one file."""
    return pytest.mark.parametrize("case", vectors(name), ids=lambda case: str(case["name"]))


def test_every_folder_has_vectors() -> None:
    folders = {path.name for path in VECTORS.iterdir() if path.is_dir()}
    assert folders >= {
        *("p10", "layout", "values", "record", "grouping", "bulk", "text", "ion-hash")
    }
    for folder in folders:
        files = [path for path in (VECTORS / folder).rglob("*") if path.is_file()]
        assert files, folder
        for path in files:
            assert path.stat().st_size > 2, path


@pytest.mark.parametrize("name", make_vectors.all_vectors())
def test_the_script_writes_them_again(name: str) -> None:
    assert (VECTORS / name).read_text("utf-8") == make_vectors.all_vectors()[name]


def test_names_are_told_apart() -> None:
    for name in make_vectors.all_vectors():
        names = [case["name"] for case in vectors(name)]
        assert len(set(names)) == len(names), name


@parametrize("grouping/good.ion")
def test_digests_are_those_of_our_own_ion_hash(case: Case) -> None:
    for contents in case["groups"].values():
        for digest, content in contents.items():
            assert ion.ion_hash_hex(content) == digest


# -- p10 ---------------------------------------------------------------------------------------


def unusual(item: Item | ItemLayout) -> Case:
    """What is unusual about an item, in the fields of the vectors."""
    case: Case = {"endless": True} if item.endless else {}
    return case | ({} if item.tag == 0xFFFEE000 else {"tag": format_tag(item.tag)})


def described(element: Element, file: P10File) -> Case:
    """An element in the fields of the vectors."""
    tag, vr, value, form, declared, reserved = element
    case: Case = {"tag": format_tag(tag), "vr": vr}
    if isinstance(value, Sequence):
        items = [
            {"undefined": item.undefined, "elements": [described(e, file) for e in item.elements]}
            | unusual(item)
            for item in value.items
        ]
        case |= {"undefined": value.undefined, "items": items}
    elif form is not Form.GROUP_LENGTH:
        case["value"] = content(value, file).hex()
    if isinstance(value, Encapsulated):
        case["fragments"] = [list(fragment) for fragment in value.fragments]
    if form:
        case["form"] = form.value
    if declared:
        case["declared"] = declared
    if reserved:
        case["reserved"] = reserved
    return case


def content(value: bytes | Span | Encapsulated, file: P10File) -> bytes:
    """The bytes of a value."""
    if isinstance(value, bytes):
        return value
    return file.body[value.offset : value.offset + value.length]


def rewritten(file: P10File, data: bytes) -> bytes:
    """What `write` gives."""
    return b"".join(
        piece if isinstance(piece, bytes) else data[piece.offset : piece.offset + piece.length]
        for piece in p10.write(file)
    )


@parametrize("p10/good.json")
def test_p10_good(case: Case) -> None:
    data = unspell(case["file"])
    file = p10.read(data)
    expected_preamble = {"zeros": bytes(128), None: None}.get(case["preamble"], b"")
    if expected_preamble == b"":
        expected_preamble = bytes.fromhex(case["preamble"])
    assert file.preamble == expected_preamble
    meta = [element for run in file.meta for element in run.elements]
    assert [described(element, file) for element in meta] == case["meta"]
    assert file.syntax == (case["explicit"], case["big"], case["deflated"])
    assert [described(element, file) for element in file.elements] == case["elements"]
    trailing = file.body[file.trailing.offset : file.trailing.offset + file.trailing.length]
    assert trailing == unspell(case["trailing"])
    assert [problem.code for problem in file.problems] == case["problems"]
    assert rewritten(file, data) == data


@parametrize("p10/bad.json")
def test_p10_bad(case: Case) -> None:
    data = unspell(case["file"])
    file = p10.read(data, source="a file")
    (problem,) = file.problems
    assert (problem.code, problem.offset) == (case["code"], case["offset"])
    assert problem.source == "a file"
    assert len(file.elements) == case["elements"]
    assert file.trailing.length == case["trailing"]
    assert file.trailing.offset + file.trailing.length == len(data)
    assert rewritten(file, data) == data


# -- layout ------------------------------------------------------------------------------------


def spelled(token: Token) -> Case:
    """A token in the fields of the vectors."""
    case: Case = {"tag": format_tag(token.tag), "vr": token.vr}
    if token.reserved:
        case["reserved"] = token.reserved
    if token.occurrence:
        case["occurrence"] = token.occurrence
    if token.space:
        case["space"] = True
    if token.form:
        case["form"] = token.form.value
    if token.declared:
        case["declared"] = token.declared
    if token.items is not None:
        items = [
            {"undefined": item.undefined, "tokens": [spelled(inner) for inner in item.tokens]}
            | unusual(item)
            for item in token.items
        ]
        case |= {"undefined": token.undefined, "items": items}
    if token.delimited:
        case["delimited"] = True
    return case


def formatted(tokens: tuple[Token, ...]) -> str:
    """The layout of tokens. Mirror of `layout.parse`."""
    return " ".join(
        layout.format_token(
            token,
            [
                layout.format_item(
                    [formatted(item.tokens)],
                    undefined=item.undefined,
                    endless=item.endless,
                    tag=item.tag,
                )
                for item in token.items or ()
            ],
        )
        for token in tokens
    )


@parametrize("layout/good.json")
def test_layout_good(case: Case) -> None:
    tokens = layout.parse(case["layout"])
    assert [spelled(token) for token in tokens] == case["tokens"]
    assert formatted(tokens) == case["layout"]


@parametrize("layout/bad.json")
def test_layout_bad(case: Case) -> None:
    with pytest.raises(DicomStudyError) as raised:
        layout.parse(case["layout"])
    assert raised.value.code == case["code"]


# -- values ------------------------------------------------------------------------------------


def context_of(case: Case) -> Context:
    """Character set and byte order of a case."""
    return Context(text.character_set(tuple(case["charset"].split("\\"))), case["big"])


@parametrize("values/good.json")
def test_values_good(case: Case) -> None:
    raw, context = bytes.fromhex(case["bytes"]), context_of(case)
    rule = RULES.rule(int(case["tag"], 16), case["vr"])
    expected = case["value"]
    if isinstance(expected, dict):
        expected = bytes.fromhex(expected["blob"])
    value = values.decode(raw, rule, context)
    assert (type(value), value) == (type(expected), expected)
    encoded = values.encode(value, rule, context, space=case["space"])
    if case["encoded"] == "same":
        assert encoded == raw
    elif case["encoded"] is None:
        assert encoded != raw
    else:
        assert encoded == bytes.fromhex(case["encoded"])
        assert encoded != raw


@parametrize("values/bad.json")
def test_values_bad(case: Case) -> None:
    tag = int(case["tag"], 16)
    with pytest.raises(DicomStudyError) as raised:
        ENCODER.encode_element(
            Token(tag, case["vr"]), case["value"], context_of(case), raw={}, resolve=no_bytes
        )
    assert raised.value.code == case["code"]
    assert raised.value.location.tag == tag


def no_bytes(reference: Mapping[str, Any]) -> bytes:
    raise AssertionError(reference)


# -- record ------------------------------------------------------------------------------------


@parametrize("record/good.ion")
def test_record_good(case: Case) -> None:
    data = unspell(case["file"])
    decoder = Decoder(DEFINITIONS, max_inline=case["max_inline"])
    file = p10.read(data, max_inline=case["max_inline"])
    record = decoder.decode(file, data)
    assert record.encoding == case["encoding"]
    assert record.attributes() == case["attributes"]
    large = {
        item.sha256: data[item.span.offset : item.span.offset + item.span.length]
        if item.stored is None
        else item.stored
        for item in record.large
    }
    for sha256, stored in large.items():
        assert hashlib.sha256(stored).hexdigest() == sha256
    # The file comes back from what is expected, not from what was found.
    segments = ENCODER.write(
        case["attributes"], case["encoding"], lambda reference: large[reference["sha256"]]
    )
    pieces = (
        segment if isinstance(segment, bytes) else large[segment["sha256"]] for segment in segments
    )
    assert b"".join(pieces) == data


@parametrize("record/bad.ion")
def test_record_bad(case: Case) -> None:
    with pytest.raises(DicomStudyError) as raised:
        ENCODER.write(case["attributes"], case["encoding"], no_bytes)
    assert raised.value.code == case["code"]


# -- grouping ----------------------------------------------------------------------------------


def study_of(sources: list[Path], archive: Path) -> dicomstudy.Study:
    """The only study of files or records."""
    report = dicomstudy.convert(sources, archive)
    assert report.problems == []
    (study,) = dicomstudy.open_archive(archive).values()
    return study


@pytest.mark.parametrize("backwards", [False, True], ids=["forwards", "backwards"])
@parametrize("grouping/good.ion")
def test_grouping_good(case: Case, backwards: bool, tmp_path: Path) -> None:
    sources = []
    for number, attributes in enumerate(case["records"]):
        path = tmp_path / f"{number}.ion"
        path.write_bytes(ion.dumps({"dataSet": attributes}))
        sources.append(path)
    if backwards:
        sources.reverse()
    with study_of(sources, tmp_path / "archive") as study:
        assert study.groups == case["groups"]
        instances = dict(study.items())
        assert {uid: instance.own for uid, instance in instances.items()} == case["own"]
        for attributes in case["records"]:
            assert instances[attributes["SOPInstanceUID"]].attributes() == attributes


def groups_of(spelling: list[str], folder: Path) -> set[tuple[str, str]]:
    """Name and digest of every group of a file."""
    folder.mkdir()
    path = folder / "file.dcm"
    path.write_bytes(unspell(spelling))
    with study_of([path], folder / "archive") as study:
        return {(name, digest) for name, contents in study.groups.items() for digest in contents}


def differing(case: Case, folder: Path) -> set[str]:
    """The names of the groups that are not the same in all files of a case."""
    groups = [
        groups_of(spelling, folder / str(number)) for number, spelling in enumerate(case["files"])
    ]
    first, *others = groups
    return {name for name, _ in first.union(*others) - first.intersection(*others)}


@parametrize("grouping/equivs.json")
def test_grouping_equivs(case: Case, tmp_path: Path) -> None:
    assert differing(case, tmp_path) <= set(case["but"])


@parametrize("grouping/non-equivs.json")
def test_grouping_non_equivs(case: Case, tmp_path: Path) -> None:
    assert differing(case, tmp_path) == set(case["in"])


# -- bulk --------------------------------------------------------------------------------------


@parametrize("bulk/good.json")
def test_bulk_good(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "bulk"
    path.write_bytes(unspell(case["file"]))
    value = unspell(case["value"])
    place = Place.from_struct(case["place"], case["length"])
    assert place.to_struct() == case["place"]
    reader = BulkReader(path)
    assert reader.read(place) == value
    reader.verify(place, case["sha256"])
    for start, stop in case["ranges"]:
        assert reader.read(place, start, stop) == value[start:stop]
    reader.close()


@parametrize("bulk/bad.json")
def test_bulk_bad(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "bulk"
    path.write_bytes(unspell(case["file"]))
    with pytest.raises(DicomStudyError) as raised:
        prove(path, case)
    assert raised.value.code == case["code"]


def prove(path: Path, case: Case) -> None:
    reader = BulkReader(path)
    try:
        reader.verify(Place.from_struct(case["place"], case["length"]), case["sha256"])
    finally:
        reader.close()
