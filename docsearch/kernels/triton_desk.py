"""Fixed buffers for one query and its candidates, so that one copy and one captured launch are all of a search."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from docsearch.kernels.triton_maxsim import Products, rank_keys, read_keys, score_pages

FEW = 8192  # pages up to here are scored, ranked and fetched by one captured launch
LEAST = 1024  # pages that a desk for candidates has room for


@dataclass(frozen=True, slots=True, eq=False)
class Shelf:
    """Pages on a device, as `score_pages` takes them: their blocks, and where, how long and of what scale each is."""

    store: torch.Tensor
    starts: torch.Tensor
    lengths: torch.Tensor
    scales: torch.Tensor
    products: Products


class Desk:
    """Scores pages of a shelf for queries of up to so many tokens, the pages listed with each query or all of them.

    What a query brings lies in one buffer on the host and one on the device: how many pages to score and how many
    tokens it has; its levels, scales and starting values; the numbers of the pages, where they are listed.
    """

    def __init__(self, shelf: Shelf, n_tokens: int, capacity: int | None) -> None:
        """Make the buffers; ``capacity`` is how many pages can be listed, None means that every page is scored."""
        self._shelf, device = shelf, shelf.store.device
        self._chunks, columns = shelf.products.columns(n_tokens)
        self._columns = self._chunks * columns
        level_bytes = self._columns * shelf.products.groups * shelf.products.padded
        ends = np.cumsum([64, level_bytes, 4 * self._columns, 4 * self._columns, 4 * (capacity or 0)]).tolist()
        kinds = (torch.int32, torch.int8, torch.float32, torch.int32, torch.int32)
        cuts = list(zip([0, *ends[:-1]], ends, kinds, strict=True))
        self._host = torch.zeros(ends[-1], dtype=torch.uint8, pin_memory=device.type == "cuda")
        self._there = torch.zeros(ends[-1], dtype=torch.uint8, device=device)
        self._to = [self._host[begin:end].view(kind).numpy() for begin, end, kind in cuts]
        self._counts, *query, ids = (self._there[begin:end].view(kind) for begin, end, kind in cuts)
        self._query = tuple(query)
        if capacity is None:
            ids = torch.arange(len(shelf.lengths), dtype=torch.int32, device=device)
        self._ids, self._listed_from = ids, ends[3]
        self._keys = torch.empty(len(ids), dtype=torch.int64, device=device)
        self._best = torch.empty(len(ids) if len(ids) <= FEW else 0, dtype=torch.int64, device=device)
        self._fetched = torch.empty(self._best.shape, dtype=torch.int64, pin_memory=device.type == "cuda")
        self._graph: torch.cuda.CUDAGraph | None = None

    def scores(self, turned: NDArray[np.float32], ids: NDArray[np.int64] | None) -> NDArray[np.float32]:
        """The (N,) scores of the listed pages, or of all, for (Tq, W) query rows in the codec's coordinates."""
        n = self.ask(turned, ids)
        self._score(n)
        return read_keys(self._keys[:n].cpu().numpy())[1]

    def best(
        self, turned: NDArray[np.float32], k: int, ids: NDArray[np.int64] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The k best of the listed pages, each listed once, or of all: their numbers and scores, best first."""
        n = self.ask(turned, ids)
        if len(self._best):
            self.rank()
            return read_keys(self._fetched[: min(k, n)].numpy())
        self._score(n)
        return read_keys(self._keys[:n].topk(min(k, n)).values.cpu().numpy())

    def ask(self, turned: NDArray[np.float32], ids: NDArray[np.int64] | None) -> int:
        """Write a query and its pages where the device will fetch them; how many pages there are."""
        levels, scales, base = self._shelf.products.query(turned, self._columns)
        counts, to_levels, to_scales, to_base, to_ids = self._to
        n = len(self._ids) if ids is None else len(ids)
        counts[:2] = n, len(turned)
        to_levels[:], to_scales[:], to_base[:] = levels.reshape(-1), scales, base
        if ids is not None:
            to_ids[:n] = ids
        return n

    def _score(self, n: int) -> None:
        used = min(self._listed_from + 4 * n, len(self._host))
        self._there[:used].copy_(self._host[:used], non_blocking=True)
        self._launch()

    def _launch(self) -> None:
        shelf = self._shelf
        pages = (shelf.starts, shelf.lengths, shelf.scales)
        score_pages(shelf.store, pages, self._query, self._chunks, self._ids, self._counts, self._keys, shelf.products)

    def rank(self) -> None:
        """Answer what was asked: the ranked keys arrive on the host. A GPU records all steps once and replays them."""
        if not self._there.is_cuda:
            self._steps()
            return
        if self._graph is None:
            self._steps()  # compiles the kernels, which is not allowed while recording
            torch.cuda.synchronize(self._there.device)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads may use the GPU
                self._steps()
            self._graph = graph
        self._graph.replay()
        torch.cuda.current_stream(self._there.device).synchronize()

    def _steps(self) -> None:
        self._there.copy_(self._host, non_blocking=True)
        self._launch()
        rank_keys(self._keys, self._counts, self._best)
        self._fetched.copy_(self._best, non_blocking=True)
