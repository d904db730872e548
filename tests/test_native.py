"""The C kernel: every instruction set gives NumPy's scores to the last bit, and nothing reads outside a buffer."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_kernels import INTEGER_CODECS, pack, unit_rows

from docsearch.kernels.numpy_cpu import maxsim_numpy
from docsearch.store.codec import block_bytes, get_codec
from docsearch.types import PackedVectors

native = pytest.importorskip("docsearch.kernels.native", reason="the C kernel is not built here")
HARNESS = Path(__file__).parent / "native"


@pytest.mark.parametrize("isa", native.isas())
@pytest.mark.parametrize("codec", INTEGER_CODECS)
@pytest.mark.parametrize("dim", [3, 31, 48, 64, 96, 100, 128, 320, 1024])
def test_scores_equal_numpys_to_the_last_bit(isa: str, codec: str, dim: int) -> None:
    """A failure means: the same index ranks pages otherwise on another computer."""
    random = np.random.default_rng(dim)
    pages = [unit_rows(random, length, dim) for length in (1, 0, 11, 12, 13, 24, 25, 37, 60, 2)]
    packed = pack(pages, codec, dim, n_buffers=3)
    for tq in (1, 7, 8, 9, 16, 17, 24, 25, 32, 33, 40, 56, 70):
        query = unit_rows(random, tq, dim)
        assert native.maxsim_native(query, packed, isa=isa).tolist() == maxsim_numpy(query, packed).tolist(), tq


@pytest.mark.parametrize("isa", native.isas())
def test_every_number_of_query_tokens(isa: str) -> None:
    """A failure means: query tokens that do not fill a register are left out, or padding is added to the score."""
    random = np.random.default_rng(5)
    packed = {codec: pack([unit_rows(random, 30, 64)], codec, 64) for codec in INTEGER_CODECS}
    for tq in range(71):
        query = unit_rows(random, tq, 64)
        for pages in packed.values():
            assert native.maxsim_native(query, pages, isa=isa).tolist() == maxsim_numpy(query, pages).tolist()


@pytest.mark.parametrize("isa", native.isas())
@pytest.mark.parametrize("codec", INTEGER_CODECS)
@pytest.mark.parametrize("fill", [0x00, 0x55, 0x7F, 0x80, 0xAA, 0xFF])
@pytest.mark.parametrize("sign", [1, -1])
def test_extreme_levels_overflow_nothing(isa: str, codec: str, fill: int, sign: int) -> None:
    """A failure means: a sum of 16 or 32 bits saturates or wraps, and the best page drops to the bottom."""
    dim, tokens = 1024, 13
    shape = get_codec(codec)
    block = np.full(block_bytes(shape, tokens, dim), fill, np.uint8)
    if shape.has_token_scales:
        block[-2 * tokens :].view("<f2")[:] = 0.5
    packed = PackedVectors(
        (block,), np.zeros(1, np.int64), np.zeros(1, np.int64), np.array([tokens]), np.ones(1, np.float32), shape, dim
    )
    turned = np.full((9, shape.width(dim)), sign, np.float32)  # all levels of the query are 127 or all -127
    turned[4, ::2] *= -1
    turned[5, 1::2] *= -1
    query = shape.turn_back(turned, dim)
    assert native.maxsim_native(query, packed, isa=isa).tolist() == maxsim_numpy(query, packed).tolist()


@pytest.mark.parametrize("isa", native.isas())
def test_all_half_floats_are_read_exactly(isa: str) -> None:
    """A failure means: a token scale is read wrongly, such as a subnormal one."""
    finite = np.arange(2**16, dtype=np.uint16)[np.isfinite(np.arange(2**16, dtype=np.uint16).view("<f2"))]
    codec, dim = get_codec("r2"), 32
    codes = np.full(codec.row_bytes(dim), 0b11100100, np.uint8)
    block = np.concatenate([np.tile(codes, (len(finite), 1)), finite.view(np.uint8).reshape(-1, 2)], axis=1)
    ones = np.ones(len(finite), np.int64)
    packed = PackedVectors((block.reshape(-1),), 0 * ones, np.arange(len(finite)) * block.shape[1], ones,
                           ones.astype(np.float32), codec, dim)  # fmt: skip
    query = unit_rows(np.random.default_rng(2), 2, dim)
    assert native.maxsim_native(query, packed, isa=isa).tolist() == maxsim_numpy(query, packed).tolist()


@pytest.mark.parametrize("codec", INTEGER_CODECS)
def test_the_number_of_threads_changes_nothing(codec: str) -> None:
    """A failure means: a search ranks otherwise on a machine with more cores."""
    random = np.random.default_rng(11)
    lengths = [int(n) for n in random.integers(0, 200, 57)] + [3000, 0]
    query, packed = unit_rows(random, 26, 96), pack([unit_rows(random, n, 96) for n in lengths], codec, 96, n_buffers=2)
    expected = maxsim_numpy(query, packed).tolist()
    for threads in (None, 1, 2, 3, 8, 100):
        assert native.maxsim_native(query, packed, threads=threads).tolist() == expected, threads


def test_calls_from_many_threads_at_once() -> None:
    """A failure means: two searches at the same time disturb each other or wait for each other for ever."""
    random = np.random.default_rng(12)
    packed = pack([unit_rows(random, 90, 64) for _ in range(40)], "r4", 64)
    queries = [unit_rows(random, 5 + n, 64) for n in range(24)]
    with ThreadPoolExecutor(8) as pool:
        scores = list(pool.map(lambda query: native.maxsim_native(query, packed, threads=3), queries))
    for query, score in zip(queries, scores, strict=True):
        assert score.tolist() == maxsim_numpy(query, packed).tolist()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_threads_work_after_a_fork() -> None:
    """A failure means: a server that forks its workers hangs at the first search."""
    random = np.random.default_rng(13)
    query, packed = unit_rows(random, 4, 32), pack([unit_rows(random, 5, 32) for _ in range(9)], "int8", 32)
    expected = native.maxsim_native(query, packed, threads=2).tolist()
    child = os.fork()
    if child == 0:
        os._exit(0 if native.maxsim_native(query, packed, threads=2).tolist() == expected else 1)
    assert os.waitpid(child, 0)[1] == 0


def outcome(score, *args, **kwargs) -> list[float] | str:
    """The scores, or the message of the refusal."""
    try:
        return score(*args, **kwargs).tolist()
    except ValueError as error:
        return str(error)


@settings(deadline=None, max_examples=300)
@given(
    codec=st.sampled_from(INTEGER_CODECS), isa=st.sampled_from(native.isas()),
    sizes=st.lists(st.integers(0, 700), max_size=3),
    pages=st.lists(st.tuples(
        st.integers(-1, 3), st.integers(-2, 720), st.integers(-1, 40) | st.sampled_from([2**31, 2**63 - 1])
    ), max_size=6),
    wild=st.sampled_from([None, -(2**63), 2**63 - 1, 2**63 - 64]), tq=st.integers(0, 40),
)  # fmt: skip
def test_bad_bounds_are_refused_and_good_ones_are_scored(codec, isa, sizes, pages, wild, tq) -> None:
    """A failure means: a damaged table of pages crashes the process, or good pages are refused."""
    shape, dim = get_codec(codec), 32
    table = np.array(pages, np.int64).reshape(-1, 3).T.copy()
    if wild is not None and table.size:
        table[1, -1] = wild
    random = np.random.default_rng(1)
    buffers = tuple(np.full(size, 0x35, np.uint8) for size in sizes)
    packed = PackedVectors(buffers, *table, np.ones(len(pages), np.float32), shape, dim)
    query = unit_rows(random, tq, dim)
    assert outcome(native.maxsim_native, query, packed, isa=isa) == outcome(maxsim_numpy, query, packed)


def test_arrays_of_another_kind_are_refused() -> None:
    """A failure means: the kernel reads the bytes of one type as another's, or beyond an array that is too short."""
    packed = pack([unit_rows(np.random.default_rng(1), 3, 32)] * 2, "int8", 32)
    query = np.ones((2, 32), np.float32)
    for wrong in (
        replace(packed, which=packed.which.astype(np.int32)),
        replace(packed, starts=packed.starts.astype(np.float64)),
        replace(packed, scales=packed.scales[:1]),
        replace(packed, which=packed.which[:1]),
        replace(packed, scales=packed.scales.astype(np.float64)),
        replace(packed, buffers=(packed.buffers[0].astype(np.uint16),)),
        replace(packed, buffers=(packed.buffers[0].reshape(1, -1),)),
    ):
        with pytest.raises((ValueError, TypeError)):
            native.maxsim_native(query, wrong, threads=1)
    with pytest.raises(ValueError, match="no kernel sse9"):
        native.maxsim_native(query, packed, isa="sse9")
    with pytest.raises(ValueError, match="-127 to 127"):
        native._native.score(
            np.full((2, 32), -128, np.int8), np.ones(2, np.float32), 8, False, 32, packed.buffers, packed.which,
            packed.starts, packed.lengths, packed.scales, np.empty(2, np.float32), 0, 2,
        )  # fmt: skip


def test_sanitizers_find_nothing(tmp_path: Path) -> None:
    """A failure means: the kernel reads or writes beside a buffer, does undefined arithmetic, or scores wrongly."""
    compiler = shutil.which("gcc") or shutil.which("clang")
    if platform.system() != "Linux" or compiler is None:
        pytest.skip("no compiler with sanitizers")
    build = [compiler, "-g", "-O1", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined",
             "-fno-sanitize-recover=all", str(HARNESS / "fuzz.c"), "-o", str(tmp_path / "fuzz"), "-lm"]  # fmt: skip
    built = subprocess.run(build, capture_output=True, text=True, check=False)
    if "sanitize" in built.stderr or "asan" in built.stderr:
        pytest.skip("no compiler with sanitizers")
    assert built.returncode == 0, built.stderr
    run = subprocess.run([tmp_path / "fuzz", "150"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr[-4000:]
    assert run.stdout.split(" agree")[0].split() == list(native.isas())
