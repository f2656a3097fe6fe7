"""A study ↔ its document: Ion values in zstandard frames of their own (spec/study.md).

Frames: a header, the history if there is one, the groups that several chunks refer to, then
the chunks (up to `CHUNK_INSTANCES` instances of one series with the groups that only they
have), and a table of frames that decompressors skip. Decompressed, a document is a plain stream
of Ion values. One instance costs the header, the history, the shared groups and one chunk.

What lets a document grow (`extension`) is imported by whoever needs it: a change of attributes,
which takes less time than Python takes to start, does without.
"""

from dicomstudy.document.batches import BatchReader, read_batch
from dicomstudy.document.fields import (
    FORMAT,
    NOT_ATTRIBUTES,
    add_places,
    described,
    digest_of,
    digest_of_record,
    digests_of_groups,
    groups_of,
    is_named,
    name_of_instance,
    place_fields,
    place_of,
    references,
    references_in,
    source_of,
    uid_of,
    without_files,
    without_places,
)
from dicomstudy.document.readable import whole
from dicomstudy.document.reader import Document
from dicomstudy.document.writer import CHUNK_INSTANCES, encode, encode_version, with_history

__all__ = [
    "CHUNK_INSTANCES",
    "FORMAT",
    "NOT_ATTRIBUTES",
    "BatchReader",
    "Document",
    "add_places",
    "described",
    "digest_of",
    "digest_of_record",
    "digests_of_groups",
    "encode",
    "encode_version",
    "groups_of",
    "is_named",
    "name_of_instance",
    "place_fields",
    "place_of",
    "read_batch",
    "references",
    "references_in",
    "source_of",
    "uid_of",
    "whole",
    "with_history",
    "without_files",
    "without_places",
]
