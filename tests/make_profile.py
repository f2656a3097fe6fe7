"""Write formats/confidentiality anew: Table E.1-1 of PS3.15, its options and their codes.

    python tests/make_profile.py TABLE [--into FOLDER]

TABLE is `confidentiality_profile_attributes.json` of innolitics/dicom-standard (MIT), as it was in
January 2025; its facts are taken. It has the rows and actions that Table E.1-1 has in DICOM 2024b,
and those that later editions still have, so that it is that of 2024c, the edition of formats/v1.
The same input gives the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

EDITION: Final = "2024c"
#: Column of the table, and the name, the code and the meaning (CID 7050) of the option.
OPTIONS: Final = (
    ("cleanGraphOpt", "clean-graphics", "113103", "Clean Graphics Option"),
    ("cleanStructContOpt", "clean-structured-content", "113104", "Clean Structured Content Option"),
    ("cleanDescOpt", "clean-descriptors", "113105", "Clean Descriptors Option"),
    (
        *("rtnLongFullDatesOpt", "retain-longitudinal-full-dates", "113106"),
        "Retain Longitudinal Temporal Information Full Dates Option",
    ),
    (
        *("rtnLongModifDatesOpt", "retain-longitudinal-modified-dates", "113107"),
        "Retain Longitudinal Temporal Information Modified Dates Option",
    ),
    (
        *("rtnPatCharsOpt", "retain-patient-characteristics", "113108"),
        "Retain Patient Characteristics Option",
    ),
    ("rtnDevIdOpt", "retain-device-identity", "113109", "Retain Device Identity Option"),
    ("rtnUIDsOpt", "retain-uids", "113110", "Retain UIDs Option"),
    ("rtnSafePrivOpt", "retain-safe-private", "113111", "Retain Safe Private Option"),
    (
        *("rtnInstIdOpt", "retain-institution-identity", "113112"),
        "Retain Institution Identity Option",
    ),
)
PROFILE: Final = ("basic", "113100", "Basic Application Confidentiality Profile")


def table(rows: Iterable[Mapping[str, str]]) -> str:
    """The file of the profile: one attribute a line."""
    attributes = []
    for row in rows:
        tag = row["id"].upper().replace("X", "x")
        if tag.startswith("GGGG"):
            tag = "private"
        name = " ".join(row["name"].partition("(see Note")[0].split())
        given = {name: row[column] for column, name, _, _ in OPTIONS if column in row}
        attributes.append([tag, row["basicProfile"], given, name])
    attributes.sort(key=lambda attribute: (attribute[0] == "private", attribute[0]))
    head = {
        "edition": EDITION,
        "source": "PS3.15 Table E.1-1; tests/make_profile.py says where it was read",
        "profile": dict(zip(("name", "code", "meaning"), PROFILE, strict=True)),
    }
    options = [dict(zip(("name", "code", "meaning"), o[1:], strict=True)) for o in OPTIONS]
    lines = [f"{json.dumps(name)}: {json.dumps(value)}," for name, value in head.items()]
    lines += ['"options": [', _rows(options), "],", '"attributes": [', _rows(attributes), "]"]
    return "\n".join(["{", *lines, "}"]) + "\n"


def _rows(rows: Iterable[Any]) -> str:
    return ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)


def manifest(content: bytes) -> str:
    """The manifest: size and SHA-256 of the table."""
    file = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    head = f'"edition": {json.dumps(EDITION)}'
    return f'{{\n{head},\n"files": {{\n  "{EDITION}.json": {json.dumps(file)}\n}}\n}}\n'


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description="Write formats/confidentiality anew.")
    parser.add_argument("table", type=Path, help="confidentiality_profile_attributes.json")
    default = Path(__file__).parents[1] / "formats" / "confidentiality"
    parser.add_argument("--into", type=Path, default=default)
    arguments = parser.parse_args()
    folder: Path = arguments.into
    folder.mkdir(parents=True, exist_ok=True)
    content = table(json.loads(arguments.table.read_bytes())).encode()
    (folder / f"{EDITION}.json").write_bytes(content)
    (folder / "manifest.json").write_text(manifest(content), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
