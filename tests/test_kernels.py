"""MaxSim: the fast kernel gives the numbers of the definition, on every size and in every codec."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from docsearch.kernels import cpu, maxsim, maxsim_reference
from docsearch.store.codec import get_codec
from docsearch.types import PackedVectors

CODECS = ["float16", "int8", "binary"]
SIZES = [(1, [1], 128), (1, [0], 8), (17, [3, 1, 250], 128), (33, [97, 128, 1025], 128), (5, [0, 7, 0, 0, 1, 0], 31),
         (2, [1] * 300, 3), (32, [4096, 1, 4097], 64), (3, [], 8)]  # fmt: skip


def unit_rows(random: np.random.Generator, rows: int, dim: int) -> NDArray[np.float32]:
    vectors = random.standard_normal((rows, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-9)).astype(np.float32)


def pack(pages: list[NDArray[np.float32]], codec_name: str, dim: int) -> PackedVectors:
    codec = get_codec(codec_name)
    coded = [codec.encode(page) for page in pages]
    return PackedVectors(
        np.concatenate([np.empty((0, codec.row_bytes(dim)), np.uint8), *(codes for codes, _ in coded)]),
        np.array([scale for _, scale in coded], np.float32),
        np.cumsum([0, *(len(page) for page in pages)], dtype=np.int64),
        codec,
    )


def naive_in_single_precision(query: NDArray[np.float32], packed: PackedVectors) -> NDArray[np.float32]:
    rows = packed.codec.decode(packed.codes, query.shape[1])
    scores = np.full(len(packed.scales), -float(len(query)), np.float32)
    for page, (start, end) in enumerate(zip(packed.offsets[:-1], packed.offsets[1:], strict=True)):
        if end > start:
            products = rows[start:end, None, :] * packed.scales[page] * query[None]  # (T, Tq, D)
            total = np.zeros(products.shape[:2], np.float32)
            for dim in range(products.shape[2]):
                total += products[:, :, dim]
            scores[page] = total.max(axis=0).sum(dtype=np.float32)
    return scores


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(("tq", "lengths", "dim"), SIZES)
def test_fast_kernel_is_as_exact_as_its_precision_allows(codec: str, tq: int, lengths: list[int], dim: int) -> None:
    """A failure means: a page's score is off by more than single precision explains, on some odd size."""
    random = np.random.default_rng(tq + len(lengths))
    query = unit_rows(random, tq, dim)
    packed = pack([unit_rows(random, length, dim) for length in lengths], codec, dim)

    exact = maxsim_reference(query, packed)
    naive = naive_in_single_precision(query, packed)
    ours = maxsim(query, packed)

    assert ours.shape == exact.shape == (len(lengths),)
    assert abs(ours - exact).max(initial=0) <= 2 * abs(naive - exact).max(initial=0) + 1e-6


def test_neighbours_never_change_a_score() -> None:
    """A failure means: a page scores otherwise alone than beside a longer one, so results depend on candidates."""
    query = np.array([[1.0, 0.0]], np.float32)
    page, longer = np.array([[-1.0, 0.0]], np.float32), np.array([[0.6, 0.8], [0.0, 1.0]], np.float32)
    for score in (maxsim, maxsim_reference):
        alone = score(query, pack([page], "float16", 2))
        beside = score(query, pack([longer, page, longer], "float16", 2))
        assert -1.0 == alone[0] == beside[1]


@pytest.mark.parametrize("codec", CODECS)
def test_a_score_is_the_same_to_the_last_bit_in_any_company(codec: str) -> None:
    """A failure means: equal pages are ordered by where they happen to be stored, not by their id."""
    random = np.random.default_rng(7)
    pages = [unit_rows(random, length, 32) for length in (1, 5, 40, 3, 17, 2, 200, 5)]
    for tq in (1, 2, 7, 32):
        query = unit_rows(random, tq, 32)
        together = maxsim(query, pack(pages, codec, 32))
        alone = [maxsim(query, pack([page], codec, 32))[0] for page in pages]
        backwards = maxsim(query, pack(pages[::-1], codec, 32))[::-1]
        assert together.tolist() == alone == backwards.tolist()


def test_all_negative_scores_stay_negative() -> None:
    """A failure means: padding or an empty start value beats a real, opposite vector."""
    query = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
    pages = [np.array([[-0.6, -0.8, 0]], np.float32), np.array([[-0.8, -0.6, 0], [-0.28, -0.96, 0]], np.float32)]
    scores = maxsim(query, pack(pages, "float16", 3))
    assert scores == pytest.approx([-1.4, -0.88], abs=2e-3)


def test_a_page_without_tokens_scores_least_of_all() -> None:
    """A failure means: blank pages are found before pages that disagree with the query."""
    query = np.array([[1, 0], [1, 0], [1, 0]], np.float32)
    opposite, blank = np.array([[-1, 0]], np.float32), np.empty((0, 2), np.float32)
    assert maxsim(query, pack([blank, opposite, blank], "int8", 2)).tolist() == [-3, -3, -3]
    assert maxsim_reference(query, pack([blank], "int8", 2)).tolist() == [-3]


@settings(deadline=None, max_examples=60)
@given(
    lengths=st.lists(st.integers(0, 20), max_size=12), tq=st.integers(1, 9), block=st.integers(1, 30),
    seed=st.integers(0, 1000),
)  # fmt: skip
def test_blocks_change_nothing(lengths: list[int], tq: int, block: int, seed: int) -> None:
    """A failure means: where a block ends, pages are left out, counted twice or cut."""
    random = np.random.default_rng(seed)
    query, pages = unit_rows(random, tq, 8), [unit_rows(random, length, 8) for length in lengths]
    packed = pack(pages, "float16", 8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu, "BLOCK_ROWS", block)
        assert maxsim(query, packed) == pytest.approx(maxsim_reference(query, packed), abs=1e-5)
