"""What was taken away is found in text, however it is written: spec/deidentification.md."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dicomstudy import definitions
from dicomstudy.deidentification.confidentiality import policy
from dicomstudy.deidentification.identities import Identities
from dicomstudy.deidentification.words import Words, any_of, bytes_pattern, folded
from dicomstudy.record import character_set_of
from dicomstudy.text import CharacterSet, character_set

D = definitions.load()
#: Words that name nobody (spec/deidentification.md, "Names in text").
NOBODY = "anon anonymized anonymous name none null patient removed unknown".split()


def identities(*attributes: dict[str, Any], options: tuple[str, ...] = ()) -> Identities:
    found = Identities(policy("basic", options, D), D, lambda uid: f"new {uid}")
    for each in attributes:
        found.gather(each, character_set_of(None), lambda *_: None)
    return found


@pytest.mark.parametrize(
    ("attributes", "text", "left"),
    [
        ({"PatientName": "Miller^Ann^^Dr"}, "for MILLER, seen by Dr X", "for , seen by Dr X"),
        ({"PatientName": "Miller^Ann"}, "t1_miller_ann_2", "t1___2"),
        ({"PatientName": "Miller^Ann"}, "Millers Annex", "Millers Annex"),
        ({"PatientName": "Miller^Ann"}, "ann\\miller", "REMOVED"),
        ({"PatientName": "Miller^Ann"}, "by  ann  on\\\\a\n  b", "by  on\\\\a\n  b"),
        ({"PatientName": "Miller_Ann"}, "ann", "REMOVED"),
        ({"PatientName": "Miller (Ann)/Sue;Lou"}, "ann sue lou", "REMOVED"),
        ({"PatientName": "O'Brien"}, "of O\u2019Brien", "of"),
        ({"PatientName": "マリア・ガルシア"}, "ガルシア さん", "さん"),
        (
            {"PatientName": "\u0623\u062d\u0645\u062f"},
            "x \u0627\u064e\u0654\u062d\u0645\u062f x",
            "x x",
        ),
        (
            {"PatientName": "\u0627\u0654\u062d\u0645\u062f"},
            "x \u0623\u064e\u062d\u0645\u062f x",
            "x x",
        ),
        ({"PatientName": "\u05d3\u05d5\u05d3"}, "x \u05d3\u05bc\u05b8\u05d5\u05b4\u05d3 x", "x x"),
        ({"PatientName": "\u0958\u092e\u0930"}, "x \u0915\u093c\u092e\u0930 x", "x x"),
        (
            {"PatientName": "Müller"},
            "\u0627\u064e\u0654 " * 6 + "Müller",
            "\u0627\u064e\u0654 " * 5 + "\u0627\u064e\u0654",
        ),
        ({"PatientName": "O'Brien Smith^A"}, "Mrs O'Brien came", "Mrs came"),
        ({"PatientName": "M'Ba Diallo"}, "seen M'Ba today", "seen today"),
        ({"PatientName": "Li/Xu Chen"}, "Li/Xu came", "came"),
        ({"PatientName": "Mu\u0308ller"}, "a Müller, a MULLER, a ller", "a , a , a ller"),
        ({"PatientName": "René"}, "by Rene\u0301, Rene\u0300", "by"),
        ({"PatientName": "WEISSGERBER"}, "Frau Weißgerber", "Frau"),
        ({"PatientName": "Weißgerber"}, "FRAU WEISSGERBER", "FRAU"),
        ({"PatientName": "HÉLÈNE^IŞIL"}, "Helene, Hélène, Iş\u0131l", "REMOVED"),
        ({"PatientName": "ΠΑΠΑΔΟΠΟΥΛΟΣ"}, "x Παπαδόπουλος", "x"),
        ({"PatientName": "ヤマダ"}, "前 ﾔﾏﾀﾞ 後", "前 後"),
        (
            {"PatientName": "Smith"},
            "by Smith\u2122, \u24b6Smith, \u2121Smith x",
            "by \u2122, \u24b6, \u2121 x",
        ),
        ({"InstitutionName": "Acme\u2122 Spital"}, "at ACME\u2122 spital", "at"),
        ({"PatientName": "ｶﾞﾙｼｱ"}, "前 ガルシア 後", "前 後"),
        ({"PatientName": "Müllersche"}, "of M?llersche, M??LLERSCHE", "of"),
        ({"PatientName": "Müllersche"}, "of M\ufffdllersche", "of"),
        ({"PatientName": "Müllersche"}, "a M????llersche, M?????llersche", "a , M?????llersche"),
        ({"PatientName": "Löns"}, "L?ns, L\ufffdns", "REMOVED"),
        ({"PatientName": "Łukasz^Sørensen"}, "LUKASZ, SORENSEN, Łukasz", "REMOVED"),
        ({"PatientName": "Đặng^Ħal"}, "DANG, hal", "REMOVED"),
        ({"PatientName": "Ŧorne^Ærø"}, "torne, ÆRO", "REMOVED"),
        ({"PatientName": "M'Ba^Yo"}, "by M\u2018Ba", "by"),
        ({"PatientName": "葛城^一郎"}, "患者葛\ufe00城様", "患者様"),
        ({"PatientName": "\u0c9c\u0cbc\u0c95"}, "x \u0c9c\u0c95 y", "x y"),
        ({"InstitutionName": "Klinik \uff3fAm See"}, "at Klinik \uff3fAm See x", "at x"),
        ({"InstitutionName": "Haus ^\u0308Am_\uff3f See"}, "at Haus ^\u0308Am_\uff3f See", "at"),
        ({"PatientName": "محمد"}, "x محـمد y", "x y"),
        ({"PatientName": "Müller"}, "of Mül\u00adler", "of"),
        ({"PatientName": "葛城^一郎"}, "患者葛\U000e0100城様", "患者様"),
        ({"PatientName": "Dupont^E\u0301"}, "type E by Dupont", "type E by"),
        ({"PatientName": "\ufdf4"}, "x \ufdf4, \u0645\u062d\u0645\u062f", "x"),
        ({"InstitutionAddress": "Ward 3\\Room 5"}, "in Room 5 of Ward 3", "in of"),
        ({"InstitutionName": "Miller_Ann__Rd"}, "at Miller Ann ^ Rd", "at"),
        ({"PatientName": "Müllersche"}, "of MÃ¼llersche", "of"),
        ({"PatientName": "山田"}, "of ?? and ????", "of ?? and ????"),
        ({"PatientName": "山田^太郎"}, "前 山田 後", "前 後"),
        ({"PatientID": "4711"}, "id 4711.", "id ."),
        ({"PatientID": "47"}, "id 47", "id 47"),
        ({"PatientBirthDate": "19350412"}, "born 19350412", "born"),
        ({"PatientBirthDate": "19350412"}, "1935-04-12, 12.04.1935", "REMOVED"),
        ({"PatientBirthDate": "19350412"}, "on 1935-04-12T10:00:00.5+01:00 x", "on x"),
        ({"PatientBirthDate": "19350412"}, "on 19350412T10, 12.4.1935T10:00Z", "on"),
        ({"PatientBirthDate": "19350412"}, "on 19350412T1", "on 19350412T1"),
        ({"PatientBirthDate": "19350402"}, "2.4.1935 4/02/1935 1935-4-2", "REMOVED"),
        ({"PatientBirthDate": "19350412"}, "on 112.04.1935", "on 112.04.1935"),
        ({"AcquisitionDateTime": "19350412101112.5"}, "at 19350412101112.5", "at"),
        ({"PatientBirthDate": "19350412"}, "no 193504120", "no 193504120"),
        ({"InstitutionName": "St. Mary  Hospital"}, "at st. mary hospital now", "at now"),
        ({"OtherPatientIDsSequence": [{"PatientID": "QX-1"}]}, "was QX-1", "was"),
        ({"PatientName": "unknown"}, "unknown", "unknown"),
        ({"StudyDescription": "abdomen"}, "abdomen", "abdomen"),
        ({"SOPInstanceUID": "1.2.3.4.5.6"}, "see 1.2.3.4.5.6.", "see new 1.2.3.4.5.6."),
        ({"SOPInstanceUID": "1.2.3.4.5.6"}, "see 1.2.3.4.5.67", "see 1.2.3.4.5.67"),
        (
            {"SOPInstanceUID": "1.2.3.4 "},
            "x.1.2.3.4.7, 9.1.2.3.4",
            "x.new 1.2.3.4.7, 9.new 1.2.3.4",
        ),
        ({"SOPInstanceUID": "IMAGE-4711"}, "as image-4711", "as"),
        ({"PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう"}, "前山田太郎やまだ様", "前様"),
        ({"PatientName": "=李^明"}, "患者李明は", "患者は"),
        ({"PatientName": "홍^길동"}, "환자 홍길동의 검사", "환자 의 검사"),
        ({"PatientName": "ﾔﾏﾀﾞ^ﾀﾛｳ"}, "前ヤマダ様", "前様"),
        ({"PatientName": "アン^りか"}, "アンギオ りか", "アンギオ"),
        ({"PatientName": "か\u3099くた"}, "前がくた様", "前様"),
        ({"PatientName": "\u1112\u1169\u11bc\u1100\u1175\u11af"}, "환자홍길의", "환자의"),
        ({"PatientName": "가나^X"}, "가난하다, 가나다", "가난하다, 다"),
        ({"PatientName": "ｶﾞﾝ^X"}, "ガンマ線, ガン", "ガンマ線"),
        ({"PatientName": "कमर"}, "x \u0958मर, क\u093cमर", "x"),
        ({"PatientName": "\u0631\u062d\u0645\u0646"}, "x \u0631\u062d\u0645\u0670\u0646 y", "x y"),
        ({"PatientName": "Miller"}, " ,-^_; Miller came; MILLER ;_^-, ", "came"),
        ({"PatientName": "Li^Na"}, "Li Na, LI^NA; na li, Li, Na; Li, na", "REMOVED"),
        ({"PatientName": "Li^Na"}, "Na content of Li, li", "Na content of Li, li"),
        ({"PatientName": "A^Bo"}, "types A Bo, bo a", "types A Bo, bo a"),
        ({"PatientName": "Xu-Li^Bo"}, "Xu Li, Xu\u2010Li, Xu\u2014Li, Xuli", "Xuli"),
        ({"PatientName": "M'Ba^Yo"}, "by M\u2019Ba, M\u02bcBa", "by"),
        ({"PatientName": "Ön^Ali"}, "on age, O\u0308N, ön, on", "on age, , , on"),
        ({"PatientName": "ß^Ali"}, "less ss, ß", "less ss"),
        ({"PatientName": "Miller"}, "â\x80\x9cMillerâ\x80\x99s", "â\x80\x9câ\x80\x99s"),
        ({"PatientName": "Bar"}, "BARÃ\x87A, BARÃ\x80, bar", "BARÃ\x87A, BARÃ\x80"),
    ],
)
def test_what_is_removed_is_cut_out_of_text(
    attributes: dict[str, Any], text: str, left: str
) -> None:
    assert identities(attributes).clean("ImageComments", "LT", text) == left


def test_values_beside_one_that_has_a_name_stay_as_they_are() -> None:
    found = identities({"PatientName": "Quixotic"})
    for vr in ("CS", "LO", "SH", "UC"):
        cleaned = found.clean("ImageType", vr, "DERIVED\\\\ of  QUIXOTIC\\A_\\ - ")
        assert cleaned == "DERIVED\\\\ of\\A_\\ - "


@pytest.mark.parametrize("vr", ["LT", "ST", "UR", "UT"])
def test_a_text_that_is_one_value_is_not_divided(vr: str) -> None:
    found = identities({"PatientName": "Quixotic"})
    assert found.clean("ImageComments", vr, "a \\Quixotic\\ b\\Quixotic") == "a \\\\ b"


def test_names_of_whatever_case_are_found_where_unicode_is_read_as_latin() -> None:
    found = identities()
    for term in ("ISO_IR 192", "ISO_IR 100"):
        found.gather({"PatientName": "ÖZTÜRK"}, character_set_of(term), lambda *_: None)
    for spelled in ("ÖZTÜRK", "Öztürk", "öztürk"):
        text = f"x {spelled}".encode().decode("latin-1")
        assert found.clean("ImageComments", "LT", text) == "x"


@given(st.text(max_size=20), st.text(max_size=20))
def test_of_a_text_only_a_name_is_cut_out(before: str, behind: str) -> None:
    """Whatever letters are around it, that become others or more of them when it is looked for."""
    found = identities({"PatientName": "Quixotic"})
    left = found.clean("ImageComments", "LT", f"{before} (QUIXOTIC) {behind}")
    if "quixotic" not in folded(before + behind):
        assert left == f"{before} () {behind}"


@pytest.mark.parametrize(
    "text", ["?" * 100_000, "Ä" + "\u0591\u05b0" * 50_000, "Ä" + "\u0301\u0323" * 50_000]
)
def test_names_are_found_in_time_that_grows_with_the_length_alone(text: str) -> None:
    found = identities({"PatientName": "Константинопольский Ivan"})
    left = found.clean("ImageComments", "LT", f"{text} Ivan")
    assert left is not None
    assert left == text[: len(left)]
    assert len(left) > len(text) - 1000  # question marks may be letters of the name


@pytest.mark.parametrize(
    "name",
    ["Ð?" * 30 + " 123", "?Ð" * 30 + " abc", "a?" * 30 + "b", "Abc" + " _" * 30 + " x", "_ Müller"],
)
def test_names_that_are_like_what_takes_their_place_are_found_in_such_time_too(name: str) -> None:
    found = identities({"InstitutionName": name})
    for text in ("?" * 10_000, "a?" * 29 + "a??" * 5000, "Abc" + "_" * 10_000 + "y"):
        assert found.clean("ImageComments", "LT", text) == text
    assert found.clean("ImageComments", "LT", f"at {name}") == "at"


@pytest.mark.parametrize(
    ("name", "text", "left"),
    [
        ("山田^太郎", "患者山田太郎は", "患者は"),
        ("ÖZTÜRK", "x Öztürk y", "x y"),
        ("Hôpital Saint", "x Hôpital  Saint y", "x y"),
    ],
)
def test_names_are_found_where_unicode_is_read_as_latin(name: str, text: str, left: str) -> None:
    found = identities()
    for term in ("ISO_IR 192", "ISO_IR 100"):
        found.gather({"PatientName": name}, character_set_of(term), lambda *_: None)
    cleaned = found.clean("ImageComments", "LT", text.encode().decode("latin-1"))
    assert cleaned == left.encode().decode("latin-1")


def test_many_names_in_one_text_are_cut_out_in_time_that_grows_with_their_number() -> None:
    found = identities({"PatientName": "Miller"})
    text = "x" * 1_000_000 + " Miller, y" * 100_000
    assert found.clean("ImageComments", "LT", text) == "x" * 1_000_000 + " , y" * 100_000


def test_codes_numbers_and_makers_are_dealt_with_carefully() -> None:
    found = identities({"PatientName": "Head^Chest", "InstitutionName": "Maker"})
    assert found.clean("BodyPartExamined", "CS", "HEAD") == "HEAD"
    assert found.clean("BodyPartExamined", "CS", "CHEST") == "REMOVED"
    assert found.clean("Manufacturer", "LO", "Maker") == "Maker"
    assert found.clean("Modality", "CS", "CHEST") == "CHEST"
    numbers = identities({"PatientID": "1234567", "AccessionNumber": "12345"})
    assert numbers.clean("SeriesNumber", "IS", "1234567") is None
    assert numbers.clean("SliceLocation", "DS", "1234567.5") == "1234567.5"
    assert numbers.clean("SeriesNumber", "IS", "12345") == "12345"
    assert numbers.clean("SeriesNumber", "IS", "number 12345") == "number"
    assert identities({"PatientID": "123456"}).clean("SeriesNumber", "IS", "123456") is None
    assert numbers.clean("WindowCenter", "DS", "40\\1234567 ") is None
    assert numbers.clean("WindowCenter", "DS", "40\\12345") == "40\\12345"


@pytest.mark.parametrize("vr", ["DA", "DT", "TM"])
def test_days_are_found_in_dates_and_times(vr: str) -> None:
    found = identities({"PatientBirthDate": "19350412"})
    for value in ("19350412", "1935.04.12", "19350412101112.5+0100", "20200101\\19350412 "):
        assert found.clean("ExpirationDateTime", vr, value) is None
    for value in ("19350413", "101112.193504", "119350412", "193504121", ""):
        assert found.clean("ExpirationDateTime", vr, value) == value


def test_what_an_option_keeps_is_not_looked_for() -> None:
    kept = identities({"InstitutionName": "St. Mary"}, options=("retain-institution-identity",))
    assert kept.clean("ImageComments", "LT", "St. Mary") == "St. Mary"


def test_edits_and_items_are_looked_through() -> None:
    found = identities()
    found.gather_edits([{"set": {"PatientName": "Older^Name"}}, {"remove": ["PatientID"]}])
    assert found.clean("ImageComments", "LT", "Older") == "REMOVED"
    assert found.is_in(b"\0\1older\2")
    assert found.is_in("OLDER".encode("utf-16-le"))
    for spelled in ("ÖZTÜRK", "Öztürk", "öztürk", "O\u0308ztu\u0308rk"):
        assert identities({"PatientName": "ÖZTÜRK"}).is_in(spelled.encode())
    assert not found.is_in(b"old er")
    assert not identities({"PatientName": "山田太郎a"}).is_in(b"a bcdef")


def test_bytes_are_looked_through_for_words_and_uids() -> None:
    found = Identities(policy("basic", (), D), D, lambda uid: f"new {uid}")
    gb18030 = character_set(("GB18030",))
    attributes = {"PatientName": "王^小东小东", "StudyInstanceUID": "1.2.3.4"}
    found.gather(attributes, gb18030, lambda *_: None)
    assert found.is_in("..小东小东".encode("gb18030"))
    assert found.is_in("小东小东".encode("utf-16-be"))
    for codec in ("ascii", "utf-16-le", "utf-16-be"):
        assert found.is_in(".1.2.3.4.5 ".encode(codec))
        assert not found.is_in("1.2.3.5".encode(codec))
    assert found.is_in(b"1.2.3.4\0\x001.2.3.5")
    assert not identities().is_in(b"1.2.3.4")
    assert found.new_uids("1.2.3.4\\1.2.3") == "new 1.2.3.4\\1.2.3"


def test_values_that_are_not_given_as_text_are_read() -> None:
    found = identities()
    asked: list[tuple[str, Any, str]] = []

    def read(key: str, value: Any, charset: CharacterSet) -> str | None:
        asked.append((key, value, charset.terms[0]))
        return "Miller^Ann"

    item = {"SpecificCharacterSet": "GB18030", "PatientName": b"?"}
    found.gather({"ReferencedStudySequence": [item]}, character_set(("ISO_IR 100",)), read)
    assert asked == [("PatientName", b"?", "GB18030")]
    assert found.clean("ImageComments", "LT", "of Ann") == "of"


@pytest.mark.parametrize("vr", ["DA", "DT"])
def test_dates_that_an_option_keeps_are_not_compared_with_those_that_go(vr: str) -> None:
    """A child is examined on the day of its birth."""
    birth = {"PatientBirthDate": "19350412"}
    kept = identities(birth, options=("retain-longitudinal-full-dates",))
    assert kept.clean("StudyDate", vr, "19350412") == "19350412"
    assert kept.clean("ImageComments", "LT", "born 19350412") == "born"


def test_a_time_zone_is_no_word() -> None:
    found = identities({"PatientID": "0000"})
    assert found.clean("TimezoneOffsetFromUTC", "SH", "+0000") == "+0000"
    assert found.clean("ImageComments", "LT", "of +0000") == "of +"


@given(st.lists(st.text("ab.", min_size=1, max_size=4)), st.text("ab.x", max_size=30))
def test_any_of_many_words_is_found_the_longest_first(words: list[str], text: str) -> None:
    found = any_of([re.escape(letter) for letter in word] for word in words)
    plain = "|".join(map(re.escape, sorted(words, key=len, reverse=True)))
    assert bool(found) == bool(plain)
    assert not words or re.sub(found, "!", text) == re.sub(plain, "!", text)


def test_words_that_begin_alike_are_found_however_many_and_long_they_are() -> None:
    words = ["a" * length for length in range(1, 300)]
    pattern = re.compile(any_of(words))
    assert all(pattern.fullmatch(word) for word in words)
    assert Words([], [], lambda _: ()).spans("a") == []
    assert bytes_pattern([]) is None


#: Names and days as they may be written, and what may stand around them.
PIECES = (
    *("Müller", "M?ller", "MÃ¼ller", "mu\u0308ller", "ß12", "20240102", "2.1.2024", "T1015"),
    *(" ", "^", "_", "-", "1", "a", "â\x80\x94", "\ufffd"),
)


@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join))
@example("Müllerâ\x80\x94")
@example("a Müller 20240102")
def test_words_are_found_alike_whatever_scripts_are_elsewhere(text: str) -> None:
    words = Words(["Müller", "Müller-Li", "ß12"], ["20240102"], lambda _: ["MÃ¼ller"])
    found = words.spans(text)
    assert words.spans(f"{text} \u5c71") == found
    assert words.spans(f"\u0e01 {text}") == [(start + 2, end + 2) for start, end in found]
    assert found or not text.startswith(("Müllerâ\x80", "a Müller "))


@given(
    st.lists(st.text(st.characters(categories=["L", "N"], max_codepoint=0x2FF), min_size=3)),
    st.text(max_size=60),
)
def test_no_name_is_left_as_a_word(names: list[str], text: str) -> None:
    found = identities(*({"PatientName": name} for name in names))
    for name in names:
        left = found.clean("ImageComments", "LT", f"{text} {name} {text}")
        assert left is not None
        if not name.isdigit() and name.lower() not in NOBODY:
            assert name not in left.split()


@pytest.mark.parametrize("word", NOBODY)
def test_a_word_that_names_nobody_stays(word: str) -> None:
    found = identities({"PatientName": f"{word.upper()}^Miller"})
    assert found.clean("ImageComments", "LT", f"a {word} of miller") == f"a {word} of"
