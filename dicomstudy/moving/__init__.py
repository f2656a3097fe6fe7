"""Instances go to another study or series (spec/moving.md).

`moves` says what goes where, `adapting` what makes it one of its new study, `referring` how
references follow, and `carrying` writes the documents.
"""

from dicomstudy.moving.moves import Moved, merge, move, split

__all__ = ["Moved", "merge", "move", "split"]
