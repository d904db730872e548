# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
# ruff: noqa: N803, N806 - what is fixed when a kernel is compiled is written in capitals
"""MaxSim of packed levels on a GPU: the pages stay where they lie, the arithmetic is that of the CPU. Owns Triton.

A program takes one page after another from a list and reads it tile by tile. A tile of page tokens is the left, the
query the right side of an integer matrix product: the codes go from shared memory into registers, become levels there
by shifts and masks of whole words, and feed the matrix unit; a running maximum stays where the products arrive and is
reduced over the tokens once a page. No similarity, mask or unpacked code is ever written.

A page's last tile repeats its last token instead of masking: a token that is there twice never changes a maximum.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from numpy.typing import NDArray

from docsearch.kernels.query import query_levels
from docsearch.protocols import Codec

SLACK = 4096  # bytes behind the last page that are read and count for nothing: as many as a padded row has
MAX_WIDTH = 2048  # the products of longer vectors leave the range in which `_MAGIC` is exact
_MAX_COLUMNS = 64  # query tokens taken at once; a longer query walks over a page several times, from the cache
_MAGIC_BITS = 0x4B400000  # 1.5 * 2^23 as a float: adding n to the bits adds n to the value, for |n| < 2^22
_MAGIC = tl.constexpr(12582912.0)
_LOWEST = tl.constexpr(-(2**63))


@dataclass(frozen=True, slots=True)
class Tiling:
    """How the work is cut: affects the speed, never a score. The benchmark's ``--tune`` compares them."""

    tokens: int = 64  # rows of a tile: a multiple of 64 with 4 warps is what Hopper's matrix unit takes
    warps: int = 4
    stages: int = 4  # tiles on their way from memory at a time
    programs: int = 4  # per multiprocessor


TILINGS = {8: Tiling(stages=3), 4: Tiling(), 3: Tiling(stages=5), 2: Tiling(stages=6), 1: Tiling(stages=6)}  # by bits


@dataclass(frozen=True, slots=True)
class Products:
    """How a codec's W levels are cut into ``groups`` matrix products, each over ``depth`` levels, padded to ``padded``.

    Padding reads bytes of the next row; the query is zero there.
    """

    bits: int
    row_bytes: int
    groups: int
    depth: int
    padded: int

    @classmethod
    def of(cls, codec: Codec, dim: int) -> Products:
        """The products of a codec.

        Raises:
            ValueError: token vectors too long for the kernel.
        """
        width = codec.width(dim)
        if width > MAX_WIDTH:
            raise ValueError(f"token vectors of {dim} dimensions are too long for the GPU: the most is {MAX_WIDTH}")
        groups = {8: 1, 4: 2}.get(codec.bits, 4)
        depth = -(-width // groups)
        return cls(codec.bits, codec.row_bytes(dim), groups, depth, max(32, triton.next_power_of_2(depth)))

    def columns(self, n_tokens: int) -> tuple[int, int]:
        """(chunks, columns of a chunk) for a query of so many tokens."""
        chunks = max(1, -(-n_tokens // _MAX_COLUMNS))
        return chunks, max(16, triton.next_power_of_2(-(-n_tokens // chunks)))

    def query(self, turned: NDArray[np.float32], columns: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """The query as the kernel takes it.

        Args:
            turned: (Tq, W) rows in the codec's coordinates.
            columns: Tq padded to all chunks' columns; what is added is zero and counts for nothing.

        Returns:
            (columns, groups, padded) int8 levels; (columns,) float32 scales; (columns,) int32 what the products start
            from. Codes of few bits are taken as 2c: the rest of a level, 1 - 2^bits, is a constant per query token.
        """
        whole, own_scales = query_levels(turned)
        levels = np.zeros((columns, self.groups * self.depth), np.int8)
        levels[: len(whole), : whole.shape[1]] = whole
        scales = np.zeros(columns, np.float32)
        scales[: len(whole)] = own_scales
        base = np.zeros(columns, np.int32)
        if self.bits < 8:
            base -= (2**self.bits - 1) * levels.sum(axis=1, dtype=np.int32)
        if 1 < self.bits < 8:
            base += np.int32(_MAGIC_BITS)
        tiles = levels.reshape(columns, self.groups, self.depth)
        if self.padded > self.depth:
            tiles = np.pad(tiles, ((0, 0), (0, 0), (0, self.padded - self.depth)))
        return tiles, scales, base


def score_pages(
    store: torch.Tensor, pages: tuple[torch.Tensor, ...], query: tuple[torch.Tensor, ...], n_chunks: int,
    ids: torch.Tensor, counts: torch.Tensor, keys: torch.Tensor, products: Products,
) -> None:  # fmt: skip
    """Write a sortable key (`read_keys`) of each listed page; one launch, in place, whatever the number of pages.

    Args:
        store: (bytes,) uint8, the blocks (`docsearch.store.codec`), each at a multiple of 64; ``SLACK`` bytes more.
        pages: starts (P,) int64, lengths (P,) int32 and scales (P,) float32.
        query: the three tensors of `Products.query`.
        n_chunks: of the query.
        ids: rows of ``pages``, (N,) int32.
        counts: (2,) int32, how many ids to score, and Tq; on the device, so that a captured launch fits any number.
        keys: (N,) int64, written as far as ids are scored.
        products: of the codec.
    """
    tiling = TILINGS[products.bits]
    levels, scales, base = query
    programs = tiling.programs * (_multiprocessors(store.device) if store.is_cuda else 1)
    _score_pages[(min(programs, len(ids)),)](
        store, store.view(torch.float16), *pages, levels, scales, base, ids, counts, keys, n_chunks,
        BITS=products.bits, ROW_BYTES=products.row_bytes, GROUPS=products.groups, DEPTH=products.depth,
        PADDED=products.padded, COLUMNS=len(base) // n_chunks, TOKENS=tiling.tokens,
        WORDS=store.is_cuda and torch.version.hip is None, num_warps=tiling.warps, num_stages=tiling.stages,
        enable_fp_fusion=False,
    )  # fmt: skip


@lru_cache(maxsize=8)
def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count


def rank_keys(keys: torch.Tensor, counts: torch.Tensor, best: torch.Tensor) -> None:
    """Put the largest of the first ``counts[0]`` keys, all different, into ``best`` in falling order.

    The place of a key is the number of larger ones: with a few thousand keys, counting them at once is several times
    faster than sorting, and the order never depends on how the work was shared out.
    """
    _rank_keys[(triton.cdiv(len(keys), 16),)](keys, counts, best, len(best), MINE=16, OTHERS=512)


def read_keys(keys: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(pages, scores) of keys: larger is a higher score, or of equal ones the lower page."""
    ordered = (keys >> 32).astype(np.int32)
    bits = ordered ^ (ordered >> 31 & np.int32(0x7FFFFFFF))
    return 0xFFFFFFFF - (keys & 0xFFFFFFFF), bits.view(np.float32)


@triton.jit
def _score_pages(
    store, halves, starts, lengths, page_scales, query, query_scales, query_base, ids, counts, keys, n_chunks,
    BITS: tl.constexpr, ROW_BYTES: tl.constexpr, GROUPS: tl.constexpr, DEPTH: tl.constexpr, PADDED: tl.constexpr,
    COLUMNS: tl.constexpr, TOKENS: tl.constexpr, WORDS: tl.constexpr,
):  # fmt: skip
    TOKEN_SCALES: tl.constexpr = BITS > 1 and BITS < 8
    rows = tl.arange(0, TOKENS)
    n = tl.load(counts)
    empty = -tl.load(counts + 1).to(tl.float32)
    for slot in range(tl.program_id(0), n, tl.num_programs(0)):
        page = tl.load(ids + slot)
        start = tl.multiple_of(tl.load(starts + page), 64)
        length = tl.load(lengths + page)
        last = tl.maximum(length - 1, 0)
        token_scales = halves + (start + length.to(tl.int64) * ROW_BYTES) // 2
        total = tl.full([], 0.0, tl.float64)
        for chunk in range(n_chunks):
            column = chunk * COLUMNS + tl.arange(0, COLUMNS)
            right = _query_tiles(query, column, GROUPS, PADDED)
            base = tl.load(query_base + column)[None, :]
            if TOKEN_SCALES:
                best = tl.full([TOKENS, COLUMNS], -1e30, tl.float32)
                # Read one tile ahead: two bytes a token are too few for the compiler to fetch them early by itself.
                scale = tl.load(token_scales + tl.minimum(rows, last))
            else:
                best = tl.full([TOKENS, COLUMNS], -(2**31), tl.int32)
            for row in range(0, length, TOKENS):
                token = tl.minimum(row + rows, last)
                block = store + start + token[:, None] * ROW_BYTES
                low, high = _code_tiles(block, BITS, DEPTH, PADDED)
                products = tl.zeros([TOKENS, COLUMNS], tl.int32) + base
                for group in tl.static_range(GROUPS):
                    left = _doubled_codes(low, high, group, BITS, DEPTH, PADDED, WORDS)
                    products = tl.dot(left, right[group], products, out_dtype=tl.int32)
                if TOKEN_SCALES:
                    ahead = tl.load(token_scales + tl.minimum(token + TOKENS, last))
                    exact = products.to(tl.float32, bitcast=True) - _MAGIC
                    best = tl.maximum(best, exact * scale.to(tl.float32)[:, None])
                    scale = ahead
                else:
                    best = tl.maximum(best, products)
            top = tl.max(best, axis=0).to(tl.float32).to(tl.float64)
            total += tl.sum(top * tl.load(query_scales + column).to(tl.float64), axis=0)
        score = (total * tl.load(page_scales + page).to(tl.float64)).to(tl.float32)
        score = tl.where(length > 0, score, empty) + 0.0  # no negative zero: it would sort below the positive one
        bits = score.to(tl.int32, bitcast=True)
        ordered = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(tl.int64)
        tl.store(keys + slot, (ordered << 32) + (4294967295 - page.to(tl.int64)))


@triton.jit
def _query_tiles(query, column, GROUPS: tl.constexpr, PADDED: tl.constexpr):
    """The query's (padded, columns) int8 tiles, one for each product."""
    at = query + column[:, None] * (GROUPS * PADDED) + tl.arange(0, PADDED)[None, :]
    first = tl.trans(tl.load(at))
    if GROUPS == 1:
        tiles = (first,)
    elif GROUPS == 2:
        tiles = (first, tl.trans(tl.load(at + PADDED)))  # type: ignore[assignment]
    else:
        second, third = tl.trans(tl.load(at + PADDED)), tl.trans(tl.load(at + 2 * PADDED))
        tiles = (first, second, third, tl.trans(tl.load(at + 3 * PADDED)))  # type: ignore[assignment]
    return tiles


@triton.jit
def _code_tiles(block, BITS: tl.constexpr, DEPTH: tl.constexpr, PADDED: tl.constexpr):
    """(tokens, padded) bytes that hold the codes' low bits, and, each byte for two planes, their single high bit."""
    dims = tl.arange(0, PADDED)[None, :]
    low = tl.load(block + (dims % (DEPTH // 2) if BITS == 1 else dims))
    high = tl.load(block + DEPTH + dims % (DEPTH // 2)) if BITS == 3 else low
    return low, high


@triton.jit
def _doubled_codes(
    low, high, GROUP: tl.constexpr, BITS: tl.constexpr, DEPTH: tl.constexpr, PADDED: tl.constexpr, WORDS: tl.constexpr
):
    """(tokens, padded) int8: twice the codes of a group's dimensions; of 8 bits, the levels themselves."""
    if BITS == 8:
        codes = low.to(tl.int8, bitcast=True)
    elif BITS % 2 == 0:
        codes = _bits_of(low, BITS * GROUP - 1, 2 * (2**BITS - 1), WORDS)
    else:
        # Of high bits, a byte serves a group's first half of dimensions with one and its second half with the next.
        is_second = tl.arange(0, PADDED)[None, :] >= DEPTH // 2
        first = tl.where(is_second, 0, 2**BITS).to(tl.uint8)
        second = tl.where(is_second, 2**BITS, 0).to(tl.uint8)
        codes = _bit_pairs(high, first, second, 2 * GROUP - BITS, WORDS)
        if BITS == 3:
            codes |= _bits_of(low, 2 * GROUP - 1, 6, WORDS)
    return codes


@triton.jit
def _bits_of(tile, SHIFT: tl.constexpr, MASK: tl.constexpr, WORDS: tl.constexpr):
    """``tile >> SHIFT & MASK``, to the left for a negative shift. No masked bit may come from a neighbouring byte.

    The compiler does it byte by byte, which takes longer than reading the page; so four bytes at a time by hand.
    """
    if WORDS:
        bits = tl.inline_asm_elementwise(
            f"{{ .reg .b32 t; shf.r.wrap.b32 t, $1, $1, {SHIFT % 32}; and.b32 $0, t, {MASK * 0x01010101}; }}",
            "=r,r", [tile], dtype=tl.int8, is_pure=True, pack=4,
        )  # fmt: skip
    else:
        bits = (_shifted(tile, SHIFT) & MASK).to(tl.int8, bitcast=True)
    return bits


@triton.jit
def _bit_pairs(tile, first, second, SHIFT: tl.constexpr, WORDS: tl.constexpr):
    """``tile >> SHIFT & first | tile >> SHIFT + 1 & second``, as in `_bits_of`."""
    if WORDS:
        bits = tl.inline_asm_elementwise(
            f"{{ .reg .b32 t, u; shf.r.wrap.b32 t, $1, $1, {SHIFT % 32}; shf.r.wrap.b32 u, $1, $1, {(SHIFT + 1) % 32}; "
            "and.b32 t, t, $2; and.b32 u, u, $3; or.b32 $0, t, u; }",
            "=r,r,r,r", [tile, first, second], dtype=tl.int8, is_pure=True, pack=4,
        )  # fmt: skip
    else:
        bits = ((_shifted(tile, SHIFT) & first) | (_shifted(tile, SHIFT + 1) & second)).to(tl.int8, bitcast=True)
    return bits


@triton.jit
def _shifted(tile, SHIFT: tl.constexpr):
    return tile << -SHIFT if SHIFT < 0 else tile >> SHIFT


@triton.jit
def _rank_keys(keys, counts, best, n_best, MINE: tl.constexpr, OTHERS: tl.constexpr):
    n = tl.load(counts)
    first = tl.program_id(0) * MINE
    if first < n:
        at = first + tl.arange(0, MINE)
        mine = tl.load(keys + at, mask=at < n, other=_LOWEST)
        rank = tl.zeros([MINE], tl.int32)
        for begin in range(0, n, OTHERS):
            against = begin + tl.arange(0, OTHERS)
            others = tl.load(keys + against, mask=against < n, other=_LOWEST)
            rank += tl.sum((others[None, :] > mine[:, None]).to(tl.int32), axis=1)
        tl.store(best + rank, mine, mask=(at < n) & (rank < n_best))


INTERPRETED = not isinstance(_score_pages, triton.JITFunction)  # TRITON_INTERPRET=1: everything runs on a CPU
