"""Pages that stay in the memory of a GPU: loaded once from the segments, then searched whole or by candidates."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from docsearch.errors import GpuFull, GpuUnavailable
from docsearch.store.codec import block_bytes
from docsearch.types import PackedVectors, QueryVectors

if TYPE_CHECKING:
    from docsearch.kernels.triton_desk import Desk

_ALIGNMENT = 64  # of a page's block on the device
_PIECE = 1 << 26  # bytes copied to the device at a time: all the host memory that loading takes
_PER_PAGE = 8 + 4 + 4 + 4 + 8  # bytes on the device: start, length, scale, number and key of a page
_SPARE = 1 << 28  # bytes of the device left to torch and to the buffers of queries


class ResidentPages:
    """P pages of one codec in one tensor of a GPU, numbered in the order in which they were given.

    Scores of packed levels are those of ``maxsim_numpy``: the same products and maxima to the last bit, and the same
    float64 sum but for its order. One query is answered at a time; threads wait for each other.
    """

    def __init__(self, parts: PackedVectors | Iterable[PackedVectors], *, device: str = "cuda") -> None:
        """Copy the pages to the GPU, 64 MB at a time: the host needs no more than that beside the mapped files.

        Args:
            parts: pages of one codec and dimension, one part after another.
            device: as torch calls it. ``"cpu"`` works for half floats, and under Triton's interpreter: for tests.

        Raises:
            GpuUnavailable: no such GPU, no Triton, or not enough memory (`GpuFull`).
            ValueError: no part at all, or parts of different codecs or dimensions.
        """
        self._device = _find(device)
        parts = (parts,) if isinstance(parts, PackedVectors) else tuple(parts)
        if len({(part.codec.name, part.dim) for part in parts}) != 1:
            raise ValueError("pages on a GPU need one codec and one dimension, the same for all of them")
        self._codec, self._dim = parts[0].codec, parts[0].dim
        self._lengths = np.concatenate([part.lengths for part in parts])
        self._lock = threading.Lock()
        self._desks: dict[tuple[int, int | None], Desk] = {}
        sizes = self._lengths * block_bytes(self._codec, 1, self._dim)
        if self._codec.bits == 16:
            room, slack = sizes, 0  # rows without gaps
        else:
            _check_triton(self._device)
            from docsearch.kernels.triton_desk import Shelf  # noqa: PLC0415 - Triton may be missing
            from docsearch.kernels.triton_maxsim import SLACK, Products  # noqa: PLC0415

            products = Products.of(self._codec, self._dim)
            room, slack = -(-sizes // _ALIGNMENT) * _ALIGNMENT, SLACK
        self._starts = np.cumsum(room) - room
        n_bytes = int(room.sum()) + slack
        _check_room(self._device, n_bytes + _PER_PAGE * len(self), len(self))
        self._store = torch.empty(n_bytes, dtype=torch.uint8, device=self._device)
        _fill(self._store, _runs(parts, self._starts, sizes))
        if self._codec.bits < 16:
            scales = np.concatenate([part.scales for part in parts])
            tensors = (
                self._put(self._starts, np.int64),
                self._put(self._lengths, np.int32),
                self._put(scales, np.float32),
            )
            self._shelf = Shelf(self._store, *tensors, products)

    def __len__(self) -> int:
        return len(self._lengths)

    @property
    def nbytes(self) -> int:
        """What the pages take of the device's memory."""
        return self._store.nbytes + _PER_PAGE * len(self)

    def scores(self, query: NDArray[np.float32], ids: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """Score pages.

        Args:
            query: (Tq, D) unit rows.
            ids: (N,) numbers of pages in any order, also repeated; None means every page in turn.

        Returns:
            (N,) scores, -Tq for a page without token vectors.

        Raises:
            IndexError: a number of no page.
        """
        if ids is not None:
            ids = np.asarray(ids, np.int64)
            self._check(int(ids.min(initial=0)), int(ids.max(initial=-1)))
        n = len(self) if ids is None else len(ids)
        if not n or not len(query):
            return np.zeros(n, np.float32)
        if self._codec.bits == 16:
            return self._scores_of_halves(query, ids)
        with self._lock, self._on_device():
            return self._desk(len(query), None if ids is None else n).scores(self._turn(query), ids)

    def search(
        self, query: NDArray[np.float32], k: int, ids: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Find the best pages.

        Args:
            query: (Tq, D) unit rows.
            k: how many, at most.
            ids: (N,) numbers of the pages to score, each once; None means every page.

        Returns:
            Up to k numbers of pages and their scores, best first, of equal ones the lower number first.

        Raises:
            IndexError: a number of no page.
            ValueError: a page is listed twice.
        """
        if ids is not None:
            ids = np.sort(np.asarray(ids, np.int64))
            if (ids[1:] == ids[:-1]).any():
                raise ValueError("a page is listed twice among the candidates")
            self._check(int(ids[:1].min(initial=0)), int(ids[-1:].max(initial=-1)))
        n = len(self) if ids is None else len(ids)
        if n and k > 0 and len(query) and self._codec.bits < 16:
            with self._lock, self._on_device():
                return self._desk(len(query), None if ids is None else n).best(self._turn(query), k, ids)
        scores = self.scores(query, ids)
        order = np.argsort(-scores, kind="stable")[: max(0, k)]
        return (order if ids is None else ids[order]), scores[order]

    def _check(self, lowest: int, highest: int) -> None:
        if lowest < 0 or highest >= len(self):
            raise IndexError(f"there is no page {lowest if lowest < 0 else highest} among the {len(self)} on the GPU")

    def _desk(self, n_tokens: int, n_ids: int | None) -> Desk:
        """The buffers for a query of that size: sizes go by powers of two, and each is kept."""
        from docsearch.kernels.triton_desk import LEAST, Desk  # noqa: PLC0415

        chunks, columns = self._shelf.products.columns(n_tokens)
        size = (chunks * columns, None if n_ids is None else max(LEAST, 1 << (n_ids - 1).bit_length()))
        if size not in self._desks:
            self._desks[size] = Desk(self._shelf, n_tokens, size[1])
        return self._desks[size]

    def _turn(self, query: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.ascontiguousarray(self._codec.turn(query), np.float32)

    def _put(self, array: NDArray[np.generic], dtype: type[np.generic]) -> torch.Tensor:
        return torch.from_numpy(array.astype(dtype)).to(self._device)

    def _on_device(self) -> AbstractContextManager[object]:
        return torch.cuda.device(self._device) if self._device.type == "cuda" else nullcontext()

    def _scores_of_halves(self, query: NDArray[np.float32], ids: NDArray[np.int64] | None) -> NDArray[np.float32]:
        from docsearch.kernels.float_gpu import maxsim_half  # noqa: PLC0415 - loads its library

        rows = self._store.view(torch.float16).view(-1, self._dim)
        chosen = slice(None) if ids is None else ids
        first_rows = self._starts // self._codec.row_bytes(self._dim)
        with self._lock, self._on_device():
            return maxsim_half(query, rows, first_rows[chosen], self._lengths[chosen])


class ResidentDense:
    """The dense vectors of P pages on a GPU: an exact prefilter by one matrix product."""

    def __init__(
        self, parts: Sequence[NDArray[np.float16]], *, live: NDArray[np.bool_] | None = None, device: str = "cuda"
    ) -> None:
        """Copy the vectors to the GPU.

        Args:
            parts: (P_i, E) float16 each, P rows together.
            live: (P,) which may ever appear; None means all.
            device: as torch calls it.

        Raises:
            GpuUnavailable: no such GPU, or not enough memory (`GpuFull`).
        """
        self._device, self._live = _find(device), live
        n_rows = sum(map(len, parts))
        _check_room(self._device, sum(part.nbytes for part in parts) + 8 * n_rows, n_rows)
        self._dense = torch.empty((n_rows, parts[0].shape[1]), dtype=torch.float16, device=self._device)
        first = 0
        for part in parts:
            self._dense[first : first + len(part)] = torch.from_numpy(np.array(part, np.float16))
            first += len(part)

    def candidates(self, query: QueryVectors, n: int, *, allowed: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
        """The n rows of largest inner product, best first; ``allowed`` (P,) says which may appear, None means all.

        The query is rounded to half floats; products are added up in single precision.
        """
        vector = torch.from_numpy(query.dense.astype(np.float16)[:, None]).to(self._device)
        if self._dense.is_cuda:
            products = torch.mm(self._dense, vector, out_dtype=torch.float32)[:, 0]
        else:
            products = (self._dense.float() @ vector.float())[:, 0]
        chosen = self._live if allowed is None else allowed
        if chosen is not None:
            products = products.masked_fill(torch.from_numpy(~chosen).to(self._device), -torch.inf)
            n = min(n, int(chosen.sum()))
        best: NDArray[np.int64] = products.topk(min(n, len(products))).indices.cpu().numpy()
        return best


class _Run(NamedTuple):
    """Bytes that lie together in a buffer and on the device."""

    buffer: NDArray[np.uint8]
    source: int
    target: int
    size: int


def _runs(parts: Iterable[PackedVectors], starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> Iterator[_Run]:
    """What to copy, in rising order of the target: pages that follow one another here as there are one run."""
    first = 0
    for part in parts:
        here = slice(first, first + len(part))
        first += len(part)
        pages = np.flatnonzero(sizes[here])
        if not len(pages):
            continue
        target, source, size = starts[here][pages], part.starts[pages], sizes[here][pages]
        which = part.which[pages]
        breaks = (np.diff(which) != 0) | (np.diff(source) != np.diff(target))
        begins = np.concatenate([[0], np.flatnonzero(breaks) + 1])
        ends = np.concatenate([begins[1:], [len(pages)]]) - 1
        for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
            length = int(target[end] + size[end] - target[begin])
            yield _Run(part.buffers[which[begin]], int(source[begin]), int(target[begin]), length)


def _fill(store: torch.Tensor, runs: Iterable[_Run]) -> None:
    """Copy the runs, gathered into pieces of a fixed size; gaps between them get what happens to be there."""
    staging = torch.zeros(min(_PIECE, len(store)), dtype=torch.uint8, pin_memory=store.is_cuda)
    here = staging.numpy()
    piece, filled = 0, 0  # where the piece begins on the device, and how much of it is written
    for buffer, source, target, size in runs:
        done = 0
        while done < size:
            at = target + done - piece
            if at >= len(here):
                store[piece : piece + filled] = staging[:filled]
                piece, at = target + done, 0
            step = min(size - done, len(here) - at)
            here[at : at + step] = buffer[source + done : source + done + step]
            done, filled = done + step, at + step
    store[piece : piece + filled] = staging[:filled]


def _find(name: str) -> torch.device:
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        why = "finds none" if torch.version.cuda or torch.version.hip else "is built without support for one"
        raise GpuUnavailable(f"no GPU to keep pages on: torch {torch.__version__} {why}; on the CPU searching works")
    return device


def _check_triton(device: torch.device) -> None:
    try:
        from docsearch.kernels.triton_maxsim import INTERPRETED  # noqa: PLC0415
    except ImportError as missing:
        raise GpuUnavailable(
            f"the GPU kernel needs Triton ({missing}): pip install 'docsearch-engine[gpu]'; on the CPU searching works"
        ) from missing
    if device.type == "cpu" and not INTERPRETED:
        raise GpuUnavailable("the GPU kernel runs on a CPU only for tests: set TRITON_INTERPRET=1 before it is loaded")


def _check_room(device: torch.device, needed: int, n_pages: int) -> None:
    if device.type != "cuda":
        return
    free = max(0, torch.cuda.mem_get_info(device)[0] - _SPARE)
    if needed > free:
        raise GpuFull(
            f"{n_pages} pages need {needed / 2**30:.1f} GiB of the GPU's memory and {free / 2**30:.1f} GiB are left, "
            f"enough for about {n_pages * free // needed}; on the CPU searching works, and a smaller codec needs less"
        )
