"""Pages without end: each is made from the seed and its number alone, and its words stand in boxes known exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from random import Random
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from docsearch.finetune.eyes.pages import effects, layout
from docsearch.finetune.eyes.pages.book import Book, font_book, full_book, plain_book
from docsearch.finetune.eyes.pages.fonts import Family, Font, codepoints, families
from docsearch.finetune.eyes.pages.glyphs import Faces
from docsearch.finetune.eyes.pages.passages import Passages
from docsearch.finetune.eyes.pages.texts import Texts
from docsearch.finetune.eyes.pages.typeset import MARGIN, Chars, Sheet
from docsearch.types import BOX_UNIT, Words

Style = Literal["line", "fonts", "full"]
BOOKS = 8  # that take turns, page by page: a batch of pages in a row is of several
BOOK_PIXELS = 28_000_000  # of a book's pages together: 32 full ones of 784 x 1120
NARROWEST = 14  # body sizes across a page, at least


@dataclass(frozen=True, slots=True, eq=False)
class SyntheticPage:
    """A page and all that is known about it.

    ``info`` has number, style, language, family, font (of the body), size (px), kind (of page) and effects.
    """

    image: NDArray[np.uint8]  # (H, W) grey, or (H, W, 3) RGB
    words: Words
    chars: Chars
    info: Mapping[str, Any]


class PageMaker:
    """Makes pages from texts and fonts, in one of three styles.

    ``line``: the first font, 20 px, black on white, lines of text. ``fonts``: every font and size, as plain.
    ``full``: every kind of page, then what scanning does to it.

    ``make(number)`` depends on the seed, the number, the texts, the fonts and the page's size alone. Pages share their
    language, fonts and sizes with others of a book, whose glyphs are rendered once: a process that makes a stretch of
    some hundred numbers is several times as fast as one that makes any here and there.

    Args:
        texts: by language; a language is drawn for each book, all alike.
        fonts: those that can set none of the languages are never used.
        height, width: px.
        seed: another seed, other pages.
        style: see above.
        colour: RGB pages; takes about twice as long.

    Raises:
        ValueError: no font can set one of the languages.
    """

    def __init__(
        self,
        texts: Texts,
        fonts: Sequence[Font],
        *,
        height: int,
        width: int,
        seed: int = 0,
        style: Style = "full",
        colour: bool = False,
    ) -> None:
        if style not in get_args(Style):
            raise ValueError(f"style is one of {', '.join(get_args(Style))}, not {style!r}")
        self.texts, self.height, self.width, self.seed = texts, height, width, seed
        self.style, self.colour = style, colour
        self._faces = Faces(width + 2 * MARGIN)
        self._languages = sorted(texts)
        self._families = suitable(texts, families(fonts))
        self._stretch = min(256, max(16, BOOK_PIXELS // (height * width)))  # pages of a book

    def make(self, number: int) -> SyntheticPage:
        """The page of that number."""
        chance = Random(f"{self.seed} page {number}")  # noqa: S311
        book = self._book(number, chance)
        sheet = Sheet(self._faces, self.height, self.width, colour=self.colour, paper=book.paper)
        passages = Passages(self.texts, book.language, chance)
        book.face().prepare(passages.preview(int(self.height * self.width / book.size**2)))
        kind = (layout.full if self.style == "full" else layout.lines_only)(sheet, book, passages, chance)
        image, chars = sheet.finish()
        done: Mapping[str, Any] = {}
        if self.style == "full":
            image, boxes, done = effects.apply(image, chars.boxes, np.random.default_rng([self.seed, number]),
                                              size=book.size)  # fmt: skip
            chars = replace(chars, boxes=boxes)
        info = {
            "number": number, "style": self.style, "language": book.language, "family": book.body.name,
            "font": book.face().font.path.stem, "size": book.face().size, "kind": kind, "effects": done,
        }  # fmt: skip
        chars, texts = in_sight(chars, sheet.texts, self.height, self.width)
        return SyntheticPage(image, Words(texts, word_boxes(chars, len(texts), self.height, self.width)), chars, info)

    def _book(self, number: int, chance: Random) -> Book:
        """The book a page is of. Style "line" has no books: every page may be in another language."""
        if self.style == "line":
            language = chance.choice(self._languages)
            return plain_book(language, self._families[language], self._faces)
        own = Random(f"{self.seed} book {number // (BOOKS * self._stretch)} {number % BOOKS}")  # noqa: S311
        language = own.choice(self._languages)
        make = full_book if self.style == "full" else font_book
        return make(language, self._families[language], self._faces, self.width / NARROWEST, own)


def suitable(texts: Texts, found: Sequence[Family]) -> dict[str, list[Family]]:
    """The families that can set each language: all but one character in 500 of a sample of its text."""
    chosen = {}
    for language, documents in texts.items():
        some = documents[:: max(1, len(documents) // 40)]
        sample = "".join("".join(document[:5])[:500] for document in some)
        codes, counts = np.unique(codepoints("".join(sample.split())), return_counts=True)
        chosen[language] = [f for f in found if counts[f.face().has[codes]].sum() > 0.998 * counts.sum()]
        if not chosen[language]:
            raise ValueError(f"none of the fonts has the characters of the texts in {language!r}")
    return chosen


def in_sight(chars: Chars, texts: Sequence[str], height: int, width: int) -> tuple[Chars, tuple[str, ...]]:
    """The characters whose middle is on the page, their boxes cut at its edges, and the words that are left of them."""
    middle = (chars.boxes[:, :2] + chars.boxes[:, 2:]) / 2
    seen = ((middle > 0) & (middle < (width, height))).all(axis=1)
    boxes = np.clip(chars.boxes[seen], 0, np.array([width, height, width, height], np.float32))
    if seen.all():
        return replace(chars, boxes=boxes), tuple(texts)
    codes, owners = chars.codepoints[seen], chars.words[seen]
    fresh = np.append(True, owners[1:] != owners[:-1])[: len(owners)]
    text, starts = codes.tobytes().decode("utf-32-le"), np.append(np.flatnonzero(fresh), len(codes)).tolist()
    words = np.cumsum(fresh, dtype=np.int32) - 1
    return Chars(codes, boxes, words), tuple(text[a:b] for a, b in pairwise(starts))


def word_boxes(chars: Chars, n_words: int, height: int, width: int) -> NDArray[np.uint16]:
    """(N, 4) the boxes of words: those of their characters together, as fractions of the page."""
    if not n_words:
        return np.zeros((0, 4), np.uint16)
    first = np.searchsorted(chars.words, np.arange(n_words))
    low = np.minimum.reduceat(chars.boxes[:, :2], first, axis=0)
    high = np.maximum.reduceat(chars.boxes[:, 2:], first, axis=0)
    fractions = np.concatenate([low, high], axis=1) / np.array([width, height, width, height])
    boxes: NDArray[np.uint16] = np.round(np.clip(fractions, 0, 1) * BOX_UNIT).astype(np.uint16)
    return boxes
