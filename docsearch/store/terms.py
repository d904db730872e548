"""How text becomes search terms: white space and SQLite's `unicode61`, plus overlapping pairs where words have no gaps.

`unicode61` takes a run of Chinese or Japanese for one word. Written as overlapping pairs of characters such a run can
be found by any part of it; source: Lucene's CJKBigramFilter.
"""

from __future__ import annotations

import re
import unicodedata

_WORD = re.compile(r"[^\W_]+")
# Hiragana, Katakana, Han with extensions; Hangul is left out: Korean separates words by spaces.
_GAPLESS = re.compile(r"[\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+")
# Thai, Lao, Khmer and Myanmar have no gaps either; pairs of characters serve them too.
_SOUTHEAST_ASIAN = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]+")


def index_text(text: str) -> str:
    """The form in which a page's text goes into the full-text index."""
    whole = text.replace("\0", " ").encode("utf-8", "replace").decode()  # SQLite takes no zero and no half characters
    return _SOUTHEAST_ASIAN.sub(_pairs, _GAPLESS.sub(_pairs, unicodedata.normalize("NFKC", whole)))


def query_terms(text: str, *, most: int = 64) -> list[str]:
    """The distinct terms of a query, in order, each a quoted FTS5 string; at most ``most`` of them."""
    words = (word.replace('"', " ").strip() for word in index_text(text).casefold().split())
    distinct = dict.fromkeys(word for word in words if any(character.isalnum() for character in word))
    return [f'"{word}"' for word in list(distinct)[:most]]


def plain_terms(text: str) -> set[str]:
    """The terms of a text as the full-text index sees them: in lower case, without accents or punctuation."""
    decomposed = unicodedata.normalize("NFKD", index_text(text)).casefold()
    return set(_WORD.findall("".join(character for character in decomposed if not unicodedata.combining(character))))


def _pairs(run: re.Match[str]) -> str:
    characters = run.group()
    if len(characters) < 2:
        return f" {characters} "
    return " " + " ".join(characters[at : at + 2] for at in range(len(characters) - 1)) + " "
