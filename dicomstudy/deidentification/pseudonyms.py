"""New UIDs, names and dates: keyed hashes of the old ones (spec/deidentification.md).

Who has the key gets the same ones again, in every study and every run; who has not cannot tell
what they were made of.
"""

from __future__ import annotations

import base64
import hmac
import re
from datetime import date, timedelta
from functools import lru_cache

from dicomstudy.elements import bare_uid

__all__ = ["SHORTEST_KEY", "UID", "Pseudonyms"]

#: Bytes of the shortest key that is taken.
SHORTEST_KEY = 16
#: The standard's own UIDs (PS3.6 Annex A), of nobody's patients. Under its root there are others,
#: made by programs that have none; they have dates and numbers in them.
_STANDARD = re.compile(r"1\.2\.840\.10008(\.(0|[1-9][0-9]{0,3})){1,10}")
#: What is a UID, in whatever attribute: three numbers or more, and no more than 64 characters.
UID = re.compile(r"(?=.{,64}\Z)[0-9]+(?:\.[0-9]+){2,}")
_DATE = re.compile(
    r"([0-9]{4})(\.?)([0-9]{2})\2([0-9]{2})([0-9]{0,6}(?:\.[0-9]{1,6})?(?:[+-](?:0[0-9]|1[0-4])[0-5][0-9])?)"
)
_MOST_DAYS = 3650
_MEMO_SIZE = 1 << 16


class Pseudonyms:
    """Makes pseudonyms by one key."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.uid = lru_cache(maxsize=_MEMO_SIZE)(self._uid)

    def _hash(self, kind: str, value: str) -> bytes:
        content = f"{kind}\0{value}".encode("utf-8", "surrogatepass")
        return hmac.digest(self._key, content, "sha256")

    def _uid(self, uid: str) -> str:
        """The UID in place of one: ``2.25.`` and a UUID (PS3.5 section B.2); a standard one stays.

        Two that differ in white space around them are one.
        """
        uid = bare_uid(uid)
        if not uid or _STANDARD.fullmatch(uid):
            return uid
        number = int.from_bytes(self._hash("uid", uid)[:16], "big")
        # version 8 and variant of RFC 9562: made by a rule of one's own
        number = number & ~(0xF << 76) | 8 << 76
        return f"2.25.{number & ~(3 << 62) | 2 << 62}"

    def uids(self, value: str) -> str:
        """The UIDs in place of those of a value of several."""
        return "\\".join(map(self.uid, value.split("\\")))

    def retained(self, value: str) -> str:
        """A value of UIDs that are to stay: what is no UID gets a new one all the same."""
        uids = [bare_uid(uid) for uid in value.split("\\")]
        return "\\".join(uid if UID.fullmatch(uid) else self.uid(uid) for uid in uids)

    def name(self, kind: str, value: str) -> str:
        """A name of 16 letters and digits in place of a value of some kind."""
        return base64.b32encode(self._hash(kind, value)[:10]).decode("ascii")

    def days(self, patient: str) -> int:
        """By how many days the dates of a patient go back; at least one, at most ten years."""
        return 1 + int.from_bytes(self._hash("days", patient)[:8], "big") % _MOST_DAYS

    def moved(self, value: str, patient: str) -> str | None:
        """A value of DA or DT with its dates moved; None if one of them is no whole date."""
        back = timedelta(self.days(patient))
        moved: list[str] = []
        for each in map(str.strip, value.split("\\")):
            found = _DATE.fullmatch(each)
            if found is None:
                if each:
                    return None
                moved.append(each)
                continue
            try:
                day = date(int(found[1]), int(found[3]), int(found[4])) - back
            except (ValueError, OverflowError):
                return None
            moved.append(f"{day.year:04}{day.month:02}{day.day:02}{found[5]}")
        return "\\".join(moved)
