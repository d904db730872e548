"""Batches without end for training: pages, and what their cells should say."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from docsearch.finetune.eyes.pages.fonts import Font
from docsearch.finetune.eyes.pages.maker import PageMaker, Style
from docsearch.finetune.eyes.pages.texts import Texts
from docsearch.finetune.eyes.targets import Alphabet, Teacher, make_targets

SHELF = 1024  # pages one process makes in a row: neighbours share books, whose glyphs are rendered once


@dataclass(frozen=True, slots=True)
class Batch:
    """B pages of R by C cells."""

    images: torch.Tensor  # (B, H, W) uint8 grey
    cells: torch.Tensor  # (B, R * C, D) float32, unit where known
    known: torch.Tensor  # (B, R * C) bool
    slots: torch.Tensor  # (B, 2 R, 8 C) int64


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where pages come from: what a worker process needs to make them itself."""

    texts: Texts
    fonts: Sequence[Font]
    table: Mapping[str, NDArray[np.generic]]
    alphabet: Alphabet
    height: int
    width: int
    style: Style
    context: float  # 0: each piece's mean vector, 1: its vector on the page
    seed: int
    by_heart: int = 0  # these few pages over and over; 0 is all there are

    def pages(self, numbers: Iterator[int]) -> Iterator[tuple[torch.Tensor, ...]]:
        """Image, cells, known and slots of each page."""
        maker = PageMaker(
            self.texts, self.fonts, height=self.height, width=self.width, seed=self.seed, style=self.style
        )
        teacher = Teacher(dict(self.table))
        for number in numbers:
            page = maker.make(number % self.by_heart if self.by_heart else number)
            if not len(page.words.texts):
                continue
            made = make_targets(page, teacher, self.alphabet, self.context)
            yield tuple(map(torch.from_numpy, (page.image, made.cells, made.known, made.slots)))

    def batches(self, start: int, batch_size: int, workers: int) -> Iterator[Batch]:
        """Batches from page number ``start`` on, made by so many processes."""
        loader = DataLoader(
            _Stream(self, start), batch_size=batch_size, num_workers=workers, prefetch_factor=4 if workers else None
        )
        return (Batch(*parts) for parts in loader)

    def sample(self, n: int) -> Batch:
        """N pages of different books, in one batch."""
        step = 1 if self.by_heart else SHELF + 1
        pages = itertools.islice(self.pages(itertools.count(0, step)), n)
        return Batch(*(torch.stack(parts) for parts in zip(*pages, strict=True)))


class _Stream(IterableDataset[tuple[torch.Tensor, ...]]):
    """Each worker has shelves of its own."""

    def __init__(self, source: Source, start: int) -> None:
        self._source, self._start = source, start

    def __iter__(self) -> Iterator[tuple[torch.Tensor, ...]]:
        worker = get_worker_info()
        at, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        return self._source.pages(page_numbers(self._start, at, workers))


def page_numbers(start: int, worker: int, workers: int) -> Iterator[int]:
    """Numbers from ``start`` on, for one of some workers: none twice, none left out, but a shelf that was begun."""
    for shelf in itertools.count(-(-start // SHELF) + worker, workers):
        yield from range(shelf * SHELF, (shelf + 1) * SHELF)
