"""Read the words on a picture of a page: clean the picture, turn it upright, find its language, put words in order.

Tesseract does the reading (``render.py`` calls it); on its own it reads next to nothing on a page that lies askew with
some noise, and reads one language at a time at reasonable cost. The measurements behind the numbers are in
``docs/ocr.md``.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from docsearch.types import BOX_UNIT, Words

OCR_DPI = 200
OCR_PIXELS = 8_000_000  # A4 at 200 dpi has 3.9 million, A3 7.7
SMALL_SIDE = 1500  # a picture whose longer side is below this is enlarged: letters of 10 pixels are read badly

TESSDATA = Path(__file__).parent / "tessdata"

FLUENT = 0.06  # share of a language's commonest words above which a text is in it; noise has 0.02, prose 0.1 to 0.4
FEW_TOKENS = 8  # too few to judge a language by
SCRIPT_SHARE = 0.15  # of the characters on a page have to be in runs of Chinese or Japanese
FEW_HITS = 4  # too few of its commonest words
PROBES = 3  # pages in a row that may be searched for another script or turn in vain

COLUMN_WORDS = 12  # fewer words are no column
COLUMN_WIDTH = 0.2  # of the page's width, at least
GUTTER = 0.012  # of the page's width, at least

Recognise = Callable[[NDArray[np.uint8], str], Words]  # an (H, W, 3) picture, and the language to read it in

_LATIN = {
    "eng": "the of and to in is for that with on as by this be are from it or an at not have you which will can",
    "deu": "der die und das den von zu mit ist des im für auf nicht ein eine dem werden sich auch es als bei oder sind",
    "fra": "de la le les et des en un une du est que pour dans par sur au qui pas plus ne sont avec ce il se aux ou",
    "spa": "de la el que en los del se las por un para con una no es al lo como más su sus este entre o y",
}
_OTHER_SCRIPTS = {  # without spaces between words, so their commonest characters
    "chi_sim": "的一是不了在有人我他这个中大来上国和地到以说时要就出会可也你对生能而子那得于着下自之年发后作里用",
    "jpn": "のにはをたがでてとしれるいなもすこ",
}
_COMMON = {name: frozenset(words.split()) for name, words in _LATIN.items()} | {
    name: frozenset(characters) for name, characters in _OTHER_SCRIPTS.items()
}
_SPACELESS_RUN = re.compile("[\u3001-\u30ff\u4e00-\u9fff]{3,}")  # noise is read as single characters


class Reader:
    """Reads the pages of one document, and begins each with what worked for the one before."""

    def __init__(self, recognise: Recognise) -> None:
        self._recognise = recognise
        self._language = "eng"
        self._turns = 0  # quarter turns to the left that bring a page upright
        self._probes = PROBES

    def read(self, image: NDArray[np.uint8]) -> Words:
        """The words on an (H, W, 3) RGB picture, in reading order, with their boxes on that picture."""
        page = _flat(_enlarged(image))
        sideways = _is_sideways(page)
        if sideways != self._turns % 2:
            self._turns = sideways
        words = self._read(page, self._turns, self._language)
        language = _best_language(words.texts, self._language)
        if language is None and self._turns % 2:
            upright = self._read(page, 0, self._language)
            if _readable(upright.texts) > _readable(words.texts):  # the bars of a chart look like lines on their side
                words, self._turns = upright, 0
                language = _best_language(words.texts, self._language)
        if language is None and len(words.texts) >= FEW_TOKENS and self._probes:
            self._probes -= 1
            words, language = self._probe(page, words)
        if language is not None:
            self._probes = PROBES
            if language != self._language:
                self._language = language
                words = self._read(page, self._turns, language)
        return words

    def _read(self, page: NDArray[np.uint8], turns: int, language: str) -> Words:
        upright = np.rot90(page, turns)
        angle = _skew(upright)
        words = self._recognise(_colours(_rotated(upright, angle)), language)
        order = _reading_order(words.boxes)
        boxes = _turned_back(_rotated_back(words.boxes[order] / BOX_UNIT, angle, upright.shape), turns)
        outward = np.concatenate([np.floor(boxes[:, :2] * BOX_UNIT), np.ceil(boxes[:, 2:] * BOX_UNIT)], axis=1)
        return Words(tuple(words.texts[row] for row in order), outward.clip(0, BOX_UNIT).astype(np.uint16))

    def _probe(self, page: NDArray[np.uint8], words: Words) -> tuple[Words, str | None]:
        """Try the other way up, then other scripts, on a strip of the page, and the whole page as read best there."""
        best = (0.0, self._turns, self._language)
        turns = [(self._turns + 2) % 4, *([0] if self._turns % 2 else [])]  # a large table may have looked sideways
        scripts = [language for language in ("eng", *_OTHER_SCRIPTS) if language != self._language]
        for turn, language in [*((turn, self._language) for turn in turns), *((self._turns, one) for one in scripts)]:
            texts = self._recognise(_colours(_busiest_strip(np.rot90(page, turn))), language).texts
            found = _best_language(texts, language)
            if found is not None:
                best = max(best, (_fluency(texts, found), turn, language))
            if best[0] > 2 * FLUENT and turn != self._turns:  # prose, once it is the right way up
                break
        share, turn, language = best
        if not share:
            return words, None
        again = self._read(page, turn, language)
        found = _best_language(again.texts, language)
        if found is None:
            return words, None
        self._turns, self._language = turn, language
        return again, found


def _fluency(texts: Sequence[str], language: str) -> float:
    """Share of a language's commonest words in a text: high for that language, near zero for others and for noise."""
    tokens: list[str]
    if language in _OTHER_SCRIPTS:
        tokens = list("".join(_SPACELESS_RUN.findall(" ".join(texts))))
        if len(tokens) < SCRIPT_SHARE * sum(map(len, texts)):
            return 0.0
    else:
        tokens = [token for text in texts if (token := text.lower().strip("\"'.,;:!?()[]«»„“”"))]
    hits = Counter(token for token in tokens if token in _COMMON[language])
    if len(tokens) < FEW_TOKENS or len(hits) < FEW_HITS:
        return 0.0
    return (hits.total() - max(hits.values())) / len(tokens)  # noise is read as one word over and over


def _readable(texts: Sequence[str]) -> int:
    """Letters and digits in words of three and more: a page read the wrong way up is scraps."""
    counts = [sum(character.isalnum() for character in text) for text in texts]
    return sum(count for count in counts if count >= 3)


def _best_language(texts: Sequence[str], read_as: str) -> str | None:
    """The language a text is in, of those written in the letters it was read in; None when it reads like none."""
    candidates = _LATIN if read_as in _LATIN else [read_as]
    best = max(candidates, key=lambda language: _fluency(texts, language))
    if _fluency(texts, best) < FLUENT:
        return None
    return best if _fluency(texts, best) > 1.3 * _fluency(texts, read_as) else read_as


# -- the picture


def _enlarged(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey, and large enough to be read: (H, W)."""
    grey = Image.fromarray(image).convert("L")
    if max(grey.size) < SMALL_SIDE:
        factor = min(3.0, 1.2 * SMALL_SIDE / max(grey.size))
        grey = grey.resize((round(grey.width * factor), round(grey.height * factor)), Image.Resampling.BICUBIC)
    return np.asarray(grey)


def _flat(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Even lighting and less noise: the paper white everywhere, whatever shadow lies on it."""
    image = Image.fromarray(grey)
    noise = np.abs(grey[::4, 1:].astype(np.int16) - grey[::4, :-1]).astype(np.float32)
    if np.median(noise) > 8:  # of neighbouring pixels, most of which are paper
        image = image.filter(ImageFilter.GaussianBlur(1))
    small = image.resize((max(1, image.width // 8), max(1, image.height // 8)), Image.Resampling.BOX)
    paper = small.filter(ImageFilter.MaxFilter(9)).filter(ImageFilter.GaussianBlur(8))
    light = np.asarray(paper.resize(image.size, Image.Resampling.BILINEAR), np.float32)
    return (np.asarray(image, np.float32) * (255 / np.maximum(light, 1))).clip(0, 255).astype(np.uint8)


def _colours(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(grey[:, :, None], 3, axis=2)


def _ink(page: NDArray[np.uint8], side: int) -> Image.Image:
    """A small picture of the dark marks, bright on black, its longer side as given."""
    factor = side / max(page.shape)
    small = Image.fromarray(page).resize(
        (max(1, round(page.shape[1] * factor)), max(1, round(page.shape[0] * factor))), Image.Resampling.BOX
    )
    return small.point(lambda grey: 255 - grey if grey < 195 else 0)


def _sharpness(ink: Image.Image, angle: float) -> float:
    """How much the ink changes from row to row of the turned picture: most when lines of text lie level."""
    rows = np.asarray(ink.rotate(angle)).sum(axis=1, dtype=np.float64)
    return float(np.square(np.diff(rows)).sum())


def _skew(page: NDArray[np.uint8]) -> float:
    """Degrees, at most 5, by which a page has to be turned left for its lines to lie level."""
    ink = _ink(page, 800)
    coarse = max(np.arange(-5, 5.1, 0.5), key=lambda angle: _sharpness(ink, angle))
    fine = float(max(coarse + np.arange(-0.4, 0.41, 0.1), key=lambda angle: _sharpness(ink, angle)))
    return fine if abs(fine) >= 0.15 else 0.0


def _is_sideways(page: NDArray[np.uint8]) -> int:
    """1 when lines of text run up or down the page, else 0."""
    across, down = (
        max(_sharpness(_ink(np.rot90(page, turns), 400), angle) for angle in np.arange(-4, 4.1, 1)) for turns in (0, 1)
    )
    return int(down > 1.1 * across)  # measured: upright pages have 0.03 to 0.84, pages on their side 1.2 to 30


def _busiest_strip(page: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The quarter of the page's height where the ink changes most from row to row."""
    height = len(page) // 4
    changes = np.square(np.diff((page < 160).sum(axis=1, dtype=np.float64)))
    sums = np.convolve(changes, np.ones(max(height, 1)), "valid")
    start = int(sums.argmax()) if len(sums) else 0
    return page[start : start + height]


def _rotated(page: NDArray[np.uint8], angle: float) -> NDArray[np.uint8]:
    if not angle:
        return page
    return np.asarray(Image.fromarray(page).rotate(angle, Image.Resampling.BICUBIC, fillcolor=255))


# -- the words


def _rotated_back(boxes: NDArray[np.float64], angle: float, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """(N, 4) boxes on a picture turned by ``_rotated``, as the boxes around them on the picture before."""
    if not angle or not len(boxes):
        return boxes
    size = np.array([shape[1], shape[0]], np.float64)
    corners = boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]] * size - size / 2  # (N, 4, 2) pixels from the centre
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    before = corners @ np.array([[cosine, sine], [-sine, cosine]]) + size / 2
    return np.concatenate([before.min(axis=1), before.max(axis=1)], axis=1) / np.tile(size, 2)


def _turned_back(boxes: NDArray[np.float64], turns: int) -> NDArray[np.float64]:
    """(N, 4) boxes on a picture turned left by quarters, as boxes on the picture before."""
    for _ in range(turns):
        left, top, right, bottom = boxes.T
        boxes = np.stack([1 - bottom, left, 1 - top, right], axis=1)
    return boxes


def _reading_order(boxes: NDArray[np.uint16]) -> list[int]:
    """Rows of words in the order a reader takes them: columns one after the other, tables row by row.

    The recursive X-Y cut: a page falls apart at a gutter between two columns of running text, else at its widest gap
    from side to side. Source: Nagy & Seth 1984, "Hierarchical representation of optically scanned documents".
    """
    places = boxes.astype(np.float64) / BOX_UNIT
    ordered: list[int] = []
    todo = [np.arange(len(boxes))]
    while todo:
        rows = todo.pop()
        parts = _cut(places, rows)
        if parts is None:
            ordered += [row for line in _lines(places, rows) for row in line]
        else:
            todo += parts[::-1]
    return ordered


def _cut(places: NDArray[np.float64], rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """The two parts a block of words falls into, the first to be read first; None for a single column."""
    if len(rows) < 2 * COLUMN_WORDS:
        return None
    gutter = _widest_gap(places, rows, axis=0)
    if gutter is not None and gutter[0] >= GUTTER and all(_is_column(places, part) for part in gutter[1]):
        return gutter[1]
    gap = _widest_gap(places, rows, axis=1)
    return gap[1] if gap is not None else None


def _widest_gap(
    places: NDArray[np.float64], rows: NDArray[np.int64], *, axis: int
) -> tuple[float, tuple[NDArray[np.int64], NDArray[np.int64]]] | None:
    """The widest stretch no word reaches into, and the words before and after it."""
    by_start = rows[np.argsort(places[rows, axis], kind="stable")]
    reached = np.maximum.accumulate(places[by_start, axis + 2])
    gaps = places[by_start[1:], axis] - reached[:-1]
    widest = int(gaps.argmax())
    if gaps[widest] <= 0:
        return None
    return float(gaps[widest]), (by_start[: widest + 1], by_start[widest + 1 :])


def _is_column(places: NDArray[np.float64], rows: NDArray[np.int64]) -> bool:
    """Whether words are lines of running text, and not the cells of a table."""
    if len(rows) < COLUMN_WORDS:
        return False
    wide = places[rows, 2].max() - places[rows, 0].min() >= COLUMN_WIDTH
    return bool(wide and len(rows) >= 3 * len(_lines(places, rows)))


def _lines(places: NDArray[np.float64], rows: NDArray[np.int64]) -> list[list[int]]:
    """Words as lines from top to bottom, each from left to right."""
    if not len(rows):
        return []
    middles = (places[:, 1] + places[:, 3]) / 2
    apart = 0.5 * float(np.median(places[rows, 3] - places[rows, 1]))
    lines: list[list[int]] = []
    for row in rows[np.argsort(middles[rows], kind="stable")].tolist():
        if lines and middles[row] - middles[lines[-1]].mean() <= apart:
            lines[-1].append(row)
        else:
            lines.append([row])
    return [sorted(line, key=lambda row: places[row, 0]) for line in lines]
