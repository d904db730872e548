"""What every cell of a page should say: the teacher's vectors of the words it covers, and its characters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from docsearch.encoders.words.encoder import WEIGHTS, WordsEncoder
from docsearch.encoders.words.tokenizer import Pieces, WordTokenizer
from docsearch.finetune.eyes.network import CELL, PATCH, SLOTS
from docsearch.finetune.eyes.pages.maker import SyntheticPage
from docsearch.finetune.eyes.pages.typeset import Chars
from docsearch.types import PageRef, RenderedPage, Words

Float = NDArray[np.float32]
SLOT = PATCH / SLOTS  # px
LEAST_COVER = 0.04  # of a cell: less ink than that says nothing
PASSAGES_AT_ONCE = 64


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """Of one page of R by C cells.

    Attributes:
        cells: (R * C, D) float32, unit where ``known``: the mean of the vectors of the pieces in the cell, by area.
        known: (R * C,) whether the cell has a target.
        slots: (2 R, 8 C) int64, the class of the character there; 0 for none.
    """

    cells: Float
    known: NDArray[np.bool_]
    slots: NDArray[np.int64]


class Alphabet:
    """Characters as classes: 0 is none, 1 is any that has no class of its own."""

    def __init__(self, characters: str) -> None:
        self.characters = characters
        self._codes = np.array(sorted(map(ord, characters)), np.int64)

    def __len__(self) -> int:
        return len(self.characters) + 2

    def classes(self, codepoints: NDArray[np.uint32]) -> NDArray[np.int64]:
        """(M,) codepoints -> (M,) classes."""
        places = np.searchsorted(self._codes, codepoints)
        found = self._codes[np.minimum(places, len(self._codes) - 1)] == codepoints
        return np.where(found, places + 2, 1)

    def text(self, classes: NDArray[np.int64]) -> str:
        """Classes as they would be read: a dot for what has no class."""
        return "".join("" if c == 0 else "\N{MIDDLE DOT}" if c == 1 else chr(self._codes[c - 2]) for c in classes)


class Teacher:
    """The default encoder, asked for the vectors of the pieces of a page's words.

    Args:
        table: of `word_table`: the mean vector of every piece; None when only contextual vectors are wanted.
    """

    def __init__(self, table: dict[str, NDArray[np.generic]] | None = None) -> None:
        self.tokenizer = WordTokenizer(WEIGHTS / "tokenizer.json")
        self._encoder: WordsEncoder | None = None
        self._table = table

    def vectors(self, words: Words, pieces: Pieces, context: float) -> Float:
        """(T, D) unit rows, or zeros for a piece the table lacks.

        ``context`` 0 is the mean vector of each piece, 1 its vector on this page, and between them their mean.
        """
        alone = self._alone(pieces.ids) if context < 1 else None
        if context == 0:
            assert alone is not None
            return alone
        if self._encoder is None:
            self._encoder = WordsEncoder(threads=1)
        page = RenderedPage(ref=PageRef("synthetic", 1), words=words)
        here = self._encoder.encode_pages([page])[0].tokens
        return here if alone is None else unit(context * here + (1 - context) * alone)

    def _alone(self, ids: NDArray[np.int64]) -> Float:
        assert self._table is not None, "the mean vectors of the pieces are not there: word_table makes them"
        known, vectors = self._table["ids"], self._table["vectors"]
        places = np.minimum(np.searchsorted(known, ids), len(known) - 1)
        found: Float = np.where((known[places] == ids)[:, None], vectors[places], 0).astype(np.float32)
        return found


def word_table(texts: Iterable[Sequence[str]], path: Path) -> dict[str, NDArray[np.generic]]:
    """The mean vector of every piece over some texts, each a sequence of words; kept in ``path``."""
    if path.exists():
        return load_file(path)
    encoder = WordsEncoder()
    tokenizer = Teacher().tokenizer
    ids, vectors = [], []
    for some in batched(texts, PASSAGES_AT_ONCE):
        pages = [
            RenderedPage(ref=PageRef("text", 1), words=Words(tuple(text), np.zeros((len(text), 4), np.uint16)))
            for text in some
        ]
        ids += [tokenizer.encode(page.words.texts).ids for page in pages]
        vectors += [made.tokens for made in encoder.encode_pages(pages)]
    known, inverse = np.unique(np.concatenate(ids), return_inverse=True)
    sums = np.zeros((len(known), encoder.token_dim), np.float32)
    np.add.at(sums, inverse, np.concatenate(vectors))
    table: dict[str, NDArray[np.generic]] = {"ids": known.astype(np.int64), "vectors": unit(sums).astype(np.float16)}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(table, path)
    return table


def batched(things: Iterable[Sequence[str]], n: int) -> Iterator[list[Sequence[str]]]:
    """Lists of n, the last one shorter."""
    rest = iter(things)
    while some := list(islice(rest, n)):
        yield some


def make_targets(page: SyntheticPage, teacher: Teacher, alphabet: Alphabet, context: float) -> Targets:
    """The targets of a page; context as in `Teacher.vectors`."""
    height, width = page.image.shape[:2]
    rows, cols = height // CELL, width // CELL
    pieces = teacher.tokenizer.encode(page.words.texts)
    vectors = teacher.vectors(page.words, pieces, context)
    boxes = piece_boxes(page.chars, pieces)
    cells, cover = spread(boxes, vectors, rows, cols)
    known = (cover > LEAST_COVER * CELL * CELL) & (np.linalg.norm(cells, axis=1) > 0)
    return Targets(unit(cells), known, char_slots(page.chars, alphabet, rows, cols))


def piece_boxes(chars: Chars, pieces: Pieces) -> Float:
    """(T, 4) px: the box around the characters of each piece, as high as its word's; all zeros for one without."""
    if not len(pieces) or not len(chars.words):
        return np.zeros((len(pieces), 4), np.float32)
    first = np.searchsorted(chars.words, pieces.words)
    end = np.searchsorted(chars.words, pieces.words, side="right")
    start, stop = np.minimum(first + pieces.spans[:, 0], end), np.minimum(first + pieces.spans[:, 1], end)
    boxes = np.zeros((len(pieces), 4), np.float32)
    there = stop > start
    for side, reduce in ((0, np.minimum), (2, np.maximum)):
        boxes[there, side] = _within(reduce, chars.boxes[:, side], start[there], stop[there])
    for side, reduce in ((1, np.minimum), (3, np.maximum)):
        boxes[there, side] = _within(reduce, chars.boxes[:, side], first[there], end[there])
    return boxes


def spread(boxes: Float, vectors: Float, rows: int, cols: int) -> tuple[Float, Float]:
    """(R * C, D) sums of the vectors of the pieces that lie in each cell, by area, and the (R * C,) areas in px."""
    sums, cover = np.zeros((rows * cols, vectors.shape[1]), np.float32), np.zeros(rows * cols, np.float32)
    low, high = np.floor(boxes[:, :2] / CELL).astype(int), np.floor((boxes[:, 2:] - 1e-3) / CELL).astype(int)
    most = (high - low).max(axis=0, initial=0) + 1
    for down in range(most[1]):
        for across in range(most[0]):
            col, row = low[:, 0] + across, low[:, 1] + down
            inside = (col <= high[:, 0]) & (row <= high[:, 1]) & (col >= 0) & (row >= 0) & (col < cols) & (row < rows)
            wide = np.minimum(boxes[:, 2], (col + 1) * CELL) - np.maximum(boxes[:, 0], col * CELL)
            tall = np.minimum(boxes[:, 3], (row + 1) * CELL) - np.maximum(boxes[:, 1], row * CELL)
            area = np.where(inside, np.maximum(wide, 0) * np.maximum(tall, 0), 0).astype(np.float32)
            at = np.flatnonzero(area)
            cell = row[at] * cols + col[at]
            np.add.at(sums, cell, area[at, None] * vectors[at])
            np.add.at(cover, cell, area[at])
    return sums, cover


def char_slots(chars: Chars, alphabet: Alphabet, rows: int, cols: int) -> NDArray[np.int64]:
    """(2 R, 8 C): which character covers the middle of each slot; one too small for that takes the slot it is in."""
    slots = np.zeros((2 * rows, 2 * SLOTS * cols), np.int64)
    if not len(chars.words):
        return slots
    owner, begin = np.unique(chars.words, return_index=True)
    of_word = np.searchsorted(owner, chars.words)
    top = np.minimum.reduceat(chars.boxes[:, 1], begin)[of_word]
    bottom = np.maximum.reduceat(chars.boxes[:, 3], begin)[of_word]
    first_row, end_row = _middles(top, bottom, PATCH)
    first_col, end_col = _middles(chars.boxes[:, 0], chars.boxes[:, 2], SLOT)
    classes = alphabet.classes(chars.codepoints)
    for down in range(int((end_row - first_row).max())):
        for across in range(int((end_col - first_col).max())):
            row, col = first_row + down, first_col + across
            inside = (row < end_row) & (col < end_col) & (row >= 0) & (col >= 0)
            inside &= (row < slots.shape[0]) & (col < slots.shape[1])
            slots[row[inside], col[inside]] = classes[inside]
    return slots


def unit(rows: Float) -> Float:
    """Rows of length one; a row of zeros stays so."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    made: Float = (rows / np.maximum(lengths, 1e-9)).astype(np.float32)
    return made


def _middles(low: Float, high: Float, step: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first slot whose middle lies in each interval and the one after the last; at least the one it is in."""
    first, end = np.ceil(low / step - 0.5).astype(np.int64), np.ceil(high / step - 0.5).astype(np.int64)
    here = np.floor((low + high) / (2 * step)).astype(np.int64)
    return np.where(end > first, first, here), np.where(end > first, end, here + 1)


def _within(reduce: np.ufunc, values: Float, start: NDArray[np.int64], stop: NDArray[np.int64]) -> Float:
    """The smallest or largest of values[start:stop] for every pair; none is empty."""
    bounds = np.stack([start, stop], axis=1).reshape(-1)
    padded = np.append(values, values[-1:])
    found: Float = reduce.reduceat(padded, bounds)[::2]
    return found
