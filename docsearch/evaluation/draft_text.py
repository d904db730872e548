"""What a heading, a caption or an index entry says: its words without numbers, and when two spellings are the same."""

from __future__ import annotations

import re
import unicodedata

LONGEST_QUESTION = 20  # words; of a longer caption the beginning is asked

_DOTLESS = "\u0131"
_ACCENTS = {"\u00a8": "\u0308", "\u00b4": "\u0301", "`": "\u0300", "\u02c6": "\u0302", "\u02dc": "\u0303"}
_ACCENT_APART = re.compile(rf"([\u00a8\u00b4\u02c6\u02dc]|(?<=\w)`)\s?([A-Za-z{_DOTLESS}])")

_CHAPTER = (
    "appendix|chapter|section|part|anhang|kapitel|abschnitt|teil|annexe|chapitre|partie|cap[ií]tulo|ap[eé]ndice|parte"
)
_NUMBER = re.compile(
    rf"""^(?: (?i:{_CHAPTER}) \s+ (?:\d{{1,2}}(?:\.\d+)* | [A-Z](?:\.\d+)* | [IVX]+) \b [.:)]? \s*  # Chapter 3:
           | \d{{1,2}}(?:\.\d+)* [.:)]? \s+ | \d{{1,2}}(?:\.\d+)* [.:)] (?=[^\W\d])                # 3.2
           | [A-Z](?:\.\d+)+ [.:)]? \s+ | [A-Z] [.:)] \s+                                          # A.2
           | [IVX]{{2,}} [.:)]? \s+ | [IVX] [.:)] \s+                                              # IV
           | 第 \s* [\d一二三四五六七八九十]+ \s* [章節节回部] :? \s* ) (?=\S)""",
    re.VERBOSE,
)

_KINDS = (
    r"figure|fig\.|fig|table|tab\.|listing|chart|diagram|abbildung|abb\.|tabelle|tableau|graphique|figura|tabla|cuadro"
)
_CAPTION = re.compile(
    rf"^(?: (?:{_KINDS}) \s* (?:[A-Z][.-]?)? \d+ (?:[.\-\u2013]\d+)* [a-z]? | [图圖表図] \s* \d+ (?:[.-]\d+)* )"
    r" (?P<mark> \s*[:。|\u2013\u2014] \s* | \. (?: \s+ | (?=[^\x00-\x7f]) ) | \s+-\s+ | \s+ ) (?P<text> \S.*)",
    re.IGNORECASE | re.VERBOSE,
)
_SENTENCE_END = re.compile(r'(?<=[^\W\d]{2}[.!?])\s+(?=[^\W\d_a-z]|[\[("“])|(?<=。)')

_SCRIPTS = (  # the first that a text has a fifth of its letters in
    ("ja", re.compile("[\u3040-\u30ff]"), 0.2),
    ("ko", re.compile("[\uac00-\ud7af]"), 0.2),
    ("zh", re.compile("[\u4e00-\u9fff]"), 0.2),
)
_COMMON = {  # words common in one of these languages and rare in the others
    "en": "the and of is are with this that for which",
    "de": "der die das und ist nicht ein eine mit für",
    "fr": "les des est une dans pour que sur avec pas",
    "es": "los las del una por para con que como más",
    "it": "il della che di per una con sono gli nel",
    "nl": "het een van niet met voor zijn deze wordt ook",
    "pt": "os uma não para com que dos em são pelo",
}


def fold(text: str) -> str:
    """Letters and digits only, without case and accents: what two spellings of one heading have in common."""
    plain = unicodedata.normalize("NFKD", text.replace(_DOTLESS, "i"))
    return "".join(character for character in plain if character.isalnum() and character not in _ACCENTS).casefold()


def tidy(text: str) -> str:
    """A text as a person would type it: accents on their letters, where TeX may set them before, and plain letters."""
    text = _ACCENT_APART.sub(
        lambda match: match[2].replace(_DOTLESS, "i") + _ACCENTS[match[1]], text.replace("\u00ad", "")
    )
    return " ".join(unicodedata.normalize("NFKC", text).split()).strip()


def without_number(text: str) -> str:
    """A heading's words: ``3.2 Data types`` and ``Chapter 3: Data types`` are ``Data types``."""
    return _NUMBER.sub("", text.strip())


def spellings(text: str) -> set[str]:
    """A heading with its number and without, folded."""
    return {fold(text), fold(without_number(text))} - {""}


def count_words(text: str) -> int:
    """How many words a question has; Chinese and Japanese are counted as two characters to the word."""
    wide = sum(unicodedata.east_asian_width(character) == "W" for character in text)
    return wide // 2 if wide else len(re.findall(r"[^\W_]+", text))


def caption_text(text: str) -> str | None:
    """What a tidy line that begins a caption says after ``Figure 3:``; None for any other line.

    Without a mark after the number, as in ``Figure 3 Data flow``, it is a caption only if a capital or a character
    without case follows: ``Figure 3 shows`` is a sentence.
    """
    match = _CAPTION.match(text)
    if match is None or (not match["mark"].strip() and match["text"][0].islower()):
        return None
    return match["text"]


def first_sentence(text: str) -> str:
    """The first sentence of a tidy text, at most `LONGEST_QUESTION` words of it, without the full stop."""
    words = _SENTENCE_END.split(text, maxsplit=1)[0].split()
    return " ".join(words[:LONGEST_QUESTION]).rstrip(" .,;:。")


def language_of(text: str) -> str | None:
    """The language of a long text, told by its letters or its commonest words; None when that is not clear."""
    letters = [character for character in text if character.isalpha()]
    joined = "".join(letters)
    for language, script, share in _SCRIPTS:
        if letters and len(script.findall(joined)) >= share * len(letters):
            return language
    if sum("\u0600" <= letter <= "\u06ff" for letter in letters) > 0.5 * len(letters):
        return None  # Arabic, Persian, Urdu …
    words = re.findall(r"[^\W\d_]+", text.lower())
    counts = {language: sum(map(set(common.split()).__contains__, words)) for language, common in _COMMON.items()}
    first, second = sorted(counts, key=lambda language: -counts[language])[:2]
    return first if counts[first] >= max(10, 0.05 * len(words), 1.5 * counts[second]) else None
