"""An archive → a de-identified one (spec/deidentification.md).

`deidentify` takes over study by study (`transfer`): what identifies somebody is learned first
(`gathering`), the table of PS3.15 (`confidentiality`) says what becomes of each attribute,
`concealment` does it, and what may still tell who somebody is becomes a risk of the report.
"""

from dicomstudy.deidentification.archives import Deidentified, deidentify
from dicomstudy.deidentification.risks import Risk

__all__ = ["Deidentified", "Risk", "deidentify"]
