"""Study documents ↔ Parquet tables, and questions to them (spec/tables.md).

`export_tables` keeps the tables of an archive in step with it, `open_tables` reads and asks
them, and `Tables.to_archive` is the way back. This package is the sole user of pyarrow and of
DuckDB.
"""

from dicomstudy.tables.answers import place_for_answer
from dicomstudy.tables.export import Exported, export_tables
from dicomstudy.tables.reader import ColumnFacts, Table, Tables, open_tables, tables_of
from dicomstudy.tables.result import Result

__all__ = [
    "ColumnFacts",
    "Exported",
    "Result",
    "Table",
    "Tables",
    "export_tables",
    "open_tables",
    "place_for_answer",
    "tables_of",
]
