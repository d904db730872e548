"""MaxSim: every way to compute it gives the numbers of the definition, on every size and in every codec."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from docsearch import kernels
from docsearch.kernels import maxsim, maxsim_reference
from docsearch.kernels.numpy_cpu import maxsim_numpy
from docsearch.kernels.query import query_levels
from docsearch.store.codec import get_codec
from docsearch.types import PackedVectors

INTEGER_CODECS = ["int8", "r4", "r3", "r2", "binary"]
CODECS = ["float16", *INTEGER_CODECS]
SIZES = [(1, [1], 128), (1, [0], 8), (17, [3, 1, 250], 128), (33, [97, 128, 1025], 128), (5, [0, 7, 0, 0, 1, 0], 31),
         (2, [1] * 300, 3), (32, [4096, 1, 4097], 64), (3, [], 8)]  # fmt: skip


def unit_rows(random: np.random.Generator, rows: int, dim: int) -> NDArray[np.float32]:
    vectors = random.standard_normal((rows, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-9)).astype(np.float32)


def pack(pages: list[NDArray[np.float32]], codec_name: str, dim: int, *, n_buffers: int = 1) -> PackedVectors:
    """Lay the pages into buffers in turn, at odd places."""
    codec = get_codec(codec_name)
    coded = [codec.encode(page) for page in pages]
    contents: list[list[NDArray[np.uint8]]] = [[] for _ in range(n_buffers)]
    sizes, starts = [0] * n_buffers, []
    for number, (block, _) in enumerate(coded):
        gap = np.full(number % 5 + 1, 0xA5, np.uint8)
        contents[number % n_buffers] += [gap, block]
        starts.append(sizes[number % n_buffers] + len(gap))
        sizes[number % n_buffers] += len(gap) + len(block)
    return PackedVectors(
        buffers=tuple(np.concatenate([np.empty(0, np.uint8), *content]) for content in contents),
        which=np.arange(len(pages), dtype=np.int64) % n_buffers,
        starts=np.array(starts, np.int64),
        lengths=np.array([len(page) for page in pages], np.int64),
        scales=np.array([scale for _, scale in coded], np.float32),
        codec=codec,
        dim=dim,
    )


def naive_in_single_precision(query: NDArray[np.float32], packed: PackedVectors) -> NDArray[np.float32]:
    """Decoded pages, and the query as the kernels round it, product by product in float32."""
    turned = packed.codec.turn(query)
    if packed.codec.bits < 16:
        levels, scales = query_levels(turned)
        turned = levels * scales[:, None]
    scores = np.full(len(packed), -float(len(query)), np.float32)
    for page in np.flatnonzero(packed.lengths).tolist():
        rows, token_scales = packed.read(page)
        if token_scales is not None:
            rows = rows * token_scales[:, None]
        rows = rows * packed.scales[page]
        total = np.zeros((len(rows), len(query)), np.float32)
        for dim in range(rows.shape[1]):
            total += rows[:, dim, None] * turned[None, :, dim]
        scores[page] = total.max(axis=0).sum(dtype=np.float32)
    return scores


def test_the_c_kernel_is_built_where_there_is_a_compiler() -> None:
    """A failure means: installing left the fast kernel out in silence, and the tests of it were skipped."""
    has_headers = (Path(sysconfig.get_path("include")) / "Python.h").exists()
    assert kernels.native is not None or not (shutil.which("cc") and has_headers)


@pytest.fixture(params=["C", "torch", "NumPy"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make ``maxsim`` use one of its ways."""
    if request.param == "C" and kernels.native is None:
        pytest.skip("the C kernel is not built here")
    if request.param != "C":
        monkeypatch.setattr(kernels, "native", None)
    if request.param == "torch":
        monkeypatch.setitem(sys.modules, "torch", pytest.importorskip("torch"))
    if request.param == "NumPy":
        monkeypatch.delitem(sys.modules, "torch", raising=False)
    return request.param


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(("tq", "lengths", "dim"), SIZES)
def test_fast_kernel_is_as_exact_as_its_precision_allows(
    backend: str, codec: str, tq: int, lengths: list[int], dim: int
) -> None:
    """A failure means: a page's score is off by more than its precision explains, on some odd size."""
    random = np.random.default_rng(tq + len(lengths))
    query = unit_rows(random, tq, dim)
    packed = pack([unit_rows(random, length, dim) for length in lengths], codec, dim, n_buffers=2)

    exact = maxsim_reference(query, packed)
    naive = naive_in_single_precision(query, packed)
    ours = maxsim(query, packed)

    assert ours.shape == exact.shape == (len(lengths),)
    assert ours.dtype == np.float32
    assert abs(ours - exact).max(initial=0) <= 2 * abs(naive - exact).max(initial=0) + 1e-6
    assert ours.tolist() == maxsim_numpy(query, packed).tolist()


def test_neighbours_never_change_a_score(backend: str) -> None:
    """A failure means: a page scores otherwise alone than beside a longer one, so results depend on candidates."""
    query = np.array([[1.0, 0.0]], np.float32)
    page, longer = np.array([[-1.0, 0.0]], np.float32), np.array([[0.6, 0.8], [0.0, 1.0]], np.float32)
    for score in (maxsim, maxsim_reference):
        alone = score(query, pack([page], "int8", 2))
        beside = score(query, pack([longer, page, longer], "int8", 2))
        assert alone[0] == beside[1] == pytest.approx(-1.0)


@pytest.mark.parametrize("codec", CODECS)
def test_a_score_is_the_same_to_the_last_bit_in_any_company(backend: str, codec: str) -> None:
    """A failure means: equal pages are ordered by where they happen to be stored, not by their id."""
    random = np.random.default_rng(7)
    pages = [unit_rows(random, length, 32) for length in (1, 5, 40, 3, 17, 2, 200, 5)]
    for tq in (1, 2, 7, 32):
        query = unit_rows(random, tq, 32)
        together = maxsim(query, pack(pages, codec, 32, n_buffers=3))
        alone = [maxsim(query, pack([page], codec, 32))[0] for page in pages]
        backwards = maxsim(query, pack(pages[::-1], codec, 32))[::-1]
        assert together.tolist() == alone == backwards.tolist()


@pytest.mark.parametrize("codec", CODECS)
def test_all_negative_scores_stay_negative(backend: str, codec: str) -> None:
    """A failure means: padding or an empty start value beats a real, opposite vector."""
    random = np.random.default_rng(3)
    query = abs(unit_rows(random, 5, 48)) * np.where(np.arange(48) < 24, 1, -1).astype(np.float32)
    pages = [-abs(unit_rows(random, length, 48)) * np.sign(query[0]) for length in (1, 2, 13, 25)]
    packed = pack(pages, codec, 48)
    scores = maxsim(query, packed)
    assert (scores < 0).all()
    assert scores == pytest.approx(maxsim_reference(query, packed), abs=0.02)


def test_how_arrays_lie_in_memory_changes_nothing(backend: str) -> None:
    """A failure means: a transposed query, or every other page, is refused or scored wrongly."""
    random = np.random.default_rng(9)
    query, pages = unit_rows(random, 6, 32), [unit_rows(random, length, 32) for length in (4, 30, 1, 8)]
    packed = pack(pages, "r4", 32, n_buffers=2)
    expected = maxsim(query, packed).tolist()
    assert maxsim(np.asfortranarray(query), packed.part(slice(None, None, -2))).tolist() == expected[::-2]


def test_a_page_without_tokens_scores_least_of_all(backend: str) -> None:
    """A failure means: blank pages are found before pages that disagree with the query."""
    query = np.array([[1, 0], [1, 0], [1, 0]], np.float32)
    opposite, blank = np.array([[-1, 0]], np.float32), np.empty((0, 2), np.float32)
    assert maxsim(query, pack([blank, opposite, blank], "int8", 2)) == pytest.approx(np.full(3, -3))
    assert maxsim_reference(query, pack([blank], "int8", 2)).tolist() == [-3]


@pytest.mark.parametrize("codec", INTEGER_CODECS)
@pytest.mark.parametrize(
    ("field", "value"),
    [("starts", -1), ("starts", 2**62), ("starts", 20), ("lengths", -1), ("lengths", 4), ("lengths", 2**62),
     ("which", 1), ("which", -1), ("which", 2**62)],
)  # fmt: skip
def test_a_block_outside_its_buffer_is_refused(backend: str, codec: str, field: str, value: int) -> None:
    """A failure means: a damaged table of pages makes a search read memory that is not the index's."""
    packed = pack([unit_rows(np.random.default_rng(1), 3, 32)] * 2, codec, 32)
    packed = packed.part(np.array([0, 1]))
    getattr(packed, field)[1] = value if field != "starts" or value != 20 else len(packed.buffers[0]) - 3
    with pytest.raises(ValueError, match=f"page 1: a block of {packed.lengths[1]} token vectors at byte"):
        maxsim(np.ones((2, 32), np.float32), packed)


def test_a_query_of_another_dimension_is_refused(backend: str) -> None:
    """A failure means: a query of another encoder is scored, and finds anything."""
    with pytest.raises(ValueError, match="against vectors of 32 dimensions"):
        maxsim(np.ones((2, 16), np.float32), pack([np.eye(32, dtype=np.float32)], "int8", 32))


def test_without_the_extension_everything_works_and_torch_is_not_loaded() -> None:
    """A failure means: an install without a compiler cannot search, or a search loads torch for seconds."""
    program = """
import sys
sys.modules["docsearch.kernels._native"] = None
import numpy as np
from docsearch.kernels import backend_name, maxsim
from docsearch.store.codec import get_codec
from docsearch.types import PackedVectors

page = np.eye(32, dtype=np.float32)
block, scale = get_codec("r4").encode(page)
one = np.zeros(1, np.int64)
packed = PackedVectors((block,), one, one, one + 32, np.array([scale], np.float32), get_codec("r4"), 32)
print(backend_name(), maxsim(page[:4], packed), "torch" in sys.modules)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    name, score, has_torch = run.stdout.replace("[", " ").replace("]", " ").split()
    assert (name, has_torch) == ("NumPy", "False")
    assert float(score) == pytest.approx(4, abs=0.1)


def test_the_backend_is_named(backend: str) -> None:
    """A failure means: ``docsearch doctor`` says another kernel than the one that runs."""
    assert kernels.backend_name().startswith(backend)
