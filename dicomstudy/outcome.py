"""What a run did, as its report (spec/archive.md)."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields

__all__ = ["Outcome"]


@dataclass(slots=True)
class Outcome:
    """What a run did: numbers, and lists of named tuples."""

    def to_json(self) -> str:
        """The report as JSON, each tuple as an object."""
        report = {each.name: getattr(self, each.name) for each in fields(self)}
        for name, value in report.items():
            if isinstance(value, list):
                report[name] = [each._asdict() for each in value]
        return json.dumps(report, indent=2) + "\n"
