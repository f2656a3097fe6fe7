"""A study as a mapping of SOP Instance UIDs to instances (spec/study.md).

Reads only what is asked for: one instance costs its chunk of the document, one frame its
bytes in the bulk file.
"""

from dicomstudy.study.instances import Instance
from dicomstudy.study.studies import Study

__all__ = ["Instance", "Study"]
