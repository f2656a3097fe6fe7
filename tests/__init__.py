"""Tests, one file per module, and `make_formats.py`, which writes `formats/`."""
