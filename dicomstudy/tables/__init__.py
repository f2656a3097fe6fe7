"""Study documents ↔ Parquet tables, and questions to them (spec/tables.md)."""
