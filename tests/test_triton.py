"""Pages on a GPU: the kernel computes what the CPU does, seen under Triton's interpreter, which needs no GPU."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from docsearch.kernels import maxsim_reference
from docsearch.kernels.numpy_cpu import maxsim_numpy
from docsearch.kernels.query import query_levels
from docsearch.store.codec import get_codec
from docsearch.types import PackedVectors, QueryVectors

pytest.importorskip("triton", reason="Triton has wheels for Linux alone")
torch = pytest.importorskip("torch")

# The interpreter is chosen when Triton is imported, for the whole process: so this file runs itself in another one.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
INTEGER_CODECS = ["r4", "r3", "r2", "int8", "binary"]


@pytest.mark.skipif(INTERPRETED, reason="this is the other process")
def test_everything_below_under_the_interpreter() -> None:
    """A failure means: pages on a GPU are scored, ranked or loaded otherwise than on the CPU; the output says which."""
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", __file__],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}, cwd=Path(__file__).parent.parent,
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]


@pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")
@pytest.mark.parametrize("codec", INTEGER_CODECS)
def test_the_compiled_kernel_takes_codes_apart_as_the_interpreted_one_does(codec: str, monkeypatch, tmp_path) -> None:
    """A failure means: on a GPU, levels are taken apart wrongly or slowly, which the interpreter cannot show.

    Compiled for Hopper, which needs no GPU: the code is asked for its matrix instructions, and the shifts and masks
    of whole words, which stand in for those of bytes, are carried out here on random words.
    """
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    ptx = compiled_for_hopper(codec)
    assert "wgmma.mma_async.sync.aligned.m64n32k32.s32.s8.s8" in ptx

    word = np.random.default_rng(1).integers(0, 2**32, 4096, dtype=np.uint64)

    def turned(by: str) -> NDArray[np.uint64]:
        return (word >> np.uint64(by) | word << np.uint64(32 - int(by))) & np.uint64(0xFFFFFFFF)

    def as_bytes(words: NDArray[np.uint64]) -> NDArray[np.uint8]:
        return words.astype("<u4").view(np.uint8)

    bits = get_codec(codec).bits
    low_bits = {4: 4, 3: 2, 2: 2}.get(bits, 8)
    planes = [(as_bytes(word) >> shift & 2**low_bits - 1) << 1 for shift in range(0, 8, low_bits)] if bits > 1 else []
    single = re.findall(r"shf\.r\.wrap\.b32 t, %r\d+, %r\d+, (\d+); and\.b32 %r\d+, t, (\d+); }", ptx)
    found = [as_bytes(turned(by) & np.uint64(mask)) for by, mask in dict.fromkeys(single)]
    assert sorted(map(bytes, found)) == (sorted(map(bytes, planes)) if bits < 8 else [])

    pairs = set(re.findall(r"shf\.r\.wrap\.b32 t, %r\d+, %r\d+, (\d+); shf\.r\.wrap\.b32 u, %r\d+, %r\d+, (\d+);", ptx))
    place = np.uint64(bits)  # of the single bit in twice the code: bit 1 of one bit, bit 3 of three
    halves = {(bytes(half(word, g, place)), bytes(half(word, g + 1, place))) for g in range(0, 8, 2)}
    mask = np.uint64(0x01010101) << place
    assert {(bytes(as_bytes(turned(a) & mask)), bytes(as_bytes(turned(b) & mask))) for a, b in pairs} == (
        halves if bits in {1, 3} else set()
    )


@pytest.mark.gpu
@pytest.mark.skipif(INTERPRETED or not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("codec", [*INTEGER_CODECS, "float16"])
def test_a_gpu_gives_the_answers_of_the_cpu(codec: str) -> None:
    """A failure means: on a real GPU pages get other scores than on the CPU, or a search repeats an earlier one."""
    from docsearch.kernels.resident import ResidentPages

    random = np.random.default_rng(1)
    packed = random_pack(2, [0, *random.integers(0, 1500, 300).tolist(), 700, 1, 64], codec)
    pages = ResidentPages(packed)
    for tq in (24, 32, 1, 33, 70, 24, 700):
        query = unit_rows(random, tq, 128)
        expected = maxsim_numpy(query, packed)
        scores = pages.scores(query)
        assert scores == pytest.approx(expected, rel=2e-7, abs=2e-3 * tq if codec == "float16" else 0)
        for ids in (None, random.permutation(len(packed))[:100]):
            listed = np.arange(len(packed)) if ids is None else ids
            best = sorted(listed.tolist(), key=lambda page: (-scores[page], page))[:10]
            found, best_scores = pages.search(query, 10, ids)
            assert best_scores.tolist() == scores[best].tolist()
            assert found.tolist() == best


def half(word: NDArray[np.uint64], bit: int, place: np.uint64) -> NDArray[np.uint8]:
    return (word.astype("<u4").view(np.uint8) >> bit & 1) << place.astype(np.uint8)


def compiled_for_hopper(codec: str) -> str:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from docsearch.kernels import triton_maxsim

    products = triton_maxsim.Products.of(get_codec(codec), 128)
    signature = {
        "store": "*u8", "halves": "*fp16", "starts": "*i64", "lengths": "*i32", "page_scales": "*fp32", "query": "*i8",
        "query_scales": "*fp32", "query_base": "*i32", "ids": "*i32", "counts": "*i32", "keys": "*i64",
        "n_chunks": "i32",
    }  # fmt: skip
    fixed = {
        "BITS": products.bits, "ROW_BYTES": products.row_bytes, "GROUPS": products.groups, "DEPTH": products.depth,
        "PADDED": products.padded, "COLUMNS": 32, "TOKENS": 64, "WORDS": True,
    }  # fmt: skip
    names = [*signature, *fixed]
    source = ASTSource(
        fn=triton_maxsim._score_pages,
        signature=signature | dict.fromkeys(fixed, "constexpr"),
        constexprs={(names.index(name),): value for name, value in fixed.items()},
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name, kind in signature.items() if kind[0] == "*"},
    )
    options = {"num_warps": 4, "num_stages": 3, "enable_fp_fusion": False}
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["ptx"]


def unit_rows(random: np.random.Generator, rows: int, dim: int) -> NDArray[np.float32]:
    vectors = random.standard_normal((rows, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def pack(pages: list[NDArray[np.float32]], codec_name: str, dim: int, gap: int = 0) -> PackedVectors:
    """Pages one after another in one buffer, ``gap`` odd bytes before each."""
    codec = get_codec(codec_name)
    coded = [codec.encode(page) for page in pages]
    blocks = [np.concatenate([np.full(gap, 255, np.uint8), block]) for block, _ in coded]
    ends = np.cumsum([0, *(len(block) for block in blocks)], dtype=np.int64)
    return PackedVectors(
        (np.concatenate([*blocks, np.empty(0, np.uint8)]),), np.zeros(len(pages), np.int64), ends[:-1] + gap,
        np.array([len(page) for page in pages], np.int64), np.array([scale for _, scale in coded], np.float32),
        codec, dim,
    )  # fmt: skip


def random_pack(seed: int, lengths: list[int], codec: str, dim: int = 128, gap: int = 0) -> PackedVectors:
    random = np.random.default_rng(seed)
    return pack([unit_rows(random, length, dim) for length in lengths], codec, dim, gap)


def resident(parts: PackedVectors | list[PackedVectors]):
    from docsearch.kernels.resident import ResidentPages

    return ResidentPages(parts, device="cpu")


def naive(query: NDArray[np.float32], packed: PackedVectors) -> NDArray[np.float32]:
    """The kernel's precision, levels of 8 bits for the query and single precision, without its care."""
    levels, scales = query_levels(packed.codec.turn(query))
    rounded = levels * scales[:, None]
    scores = np.full(len(packed), -float(len(query)), np.float32)
    for page in np.flatnonzero(packed.lengths):
        rows, token_scales = packed.read(page)
        rows = rows * packed.scales[page] * (1 if token_scales is None else token_scales[:, None])
        scores[page] = (rows @ rounded.T).max(axis=0).sum(dtype=np.float32)
    return scores


class TestUnderTheInterpreter:
    __test__ = INTERPRETED

    @pytest.mark.parametrize("codec", INTEGER_CODECS)
    @pytest.mark.parametrize(
        ("tq", "lengths", "dim"),
        [(1, [1], 128), (7, [3, 0, 64], 128), (24, [65, 1], 128), (32, [63], 128), (33, [130, 5], 128),
         (70, [2, 9], 128), (5, [7, 0, 66], 48), (3, [4, 4], 31), (2, [1], 8), (4, [2, 1], 320)],
    )  # fmt: skip
    def test_scores_are_those_of_the_cpu(self, codec: str, tq: int, lengths: list[int], dim: int) -> None:
        """A failure means: the same index gives other scores on a GPU, or worse ones than its precision allows."""
        packed = random_pack(tq + dim, lengths, codec, dim)
        query = unit_rows(np.random.default_rng(tq), tq, dim)

        ours = resident(packed).scores(query)

        assert ours.dtype == np.float32
        assert ours.tolist() == maxsim_numpy(query, packed).tolist()
        exact = maxsim_reference(query, packed)
        assert abs(ours - exact).max() <= 2 * abs(naive(query, packed) - exact).max() + 1e-6

    @pytest.mark.parametrize(("byte", "level"), [(255, 15), (0, -15)])
    def test_the_largest_products_are_exact(self, byte: int, level: int) -> None:
        """A failure means: products of long token vectors leave the range in which they become floats exactly."""
        from docsearch.kernels.triton_desk import Desk, Shelf
        from docsearch.kernels.triton_maxsim import MAX_WIDTH, SLACK, Products

        products = Products.of(get_codec("r4"), MAX_WIDTH)
        store = torch.full((products.row_bytes + SLACK,), byte, dtype=torch.uint8)
        store[products.row_bytes :].view(torch.float16)[0] = 1.0  # the scale of the only token
        page = [
            torch.tensor([value], dtype=kind)
            for value, kind in ((0, torch.int64), (1, torch.int32), (1, torch.float32))
        ]
        desk = Desk(Shelf(store, *page, products), 1, None)
        assert desk.scores(np.full((1, MAX_WIDTH), 127, np.float32), None).tolist() == [level * 127 * MAX_WIDTH]
        with pytest.raises(ValueError, match="2049 dimensions are too long for the GPU: the most is 2048"):
            Products.of(get_codec("int8"), MAX_WIDTH + 1)

    @pytest.mark.parametrize("codec", [*INTEGER_CODECS, "float16"])
    def test_all_negative_scores_stay_negative(self, codec: str) -> None:
        """A failure means: a repeated, padded or empty row beats a real, opposite vector."""
        row = unit_rows(np.random.default_rng(3), 1, 32)
        pages = [-row, np.repeat(-row, 65, axis=0), np.empty((0, 32), np.float32)]
        packed, query = pack(pages, codec, 32), np.repeat(row, 2, axis=0)
        scores = resident(packed).scores(query)
        assert scores == pytest.approx(maxsim_numpy(query, packed), abs=1e-6)
        assert scores[0] == scores[1] < -1
        assert scores[2] == -2

    @pytest.mark.parametrize("codec", ["r4", "float16"])
    def test_queries_of_other_lengths_share_buffers(self, codec: str) -> None:
        """A failure means: what an earlier query left behind changes the scores of the next one."""
        packed = random_pack(5, [3, 0, 9], codec, 32)
        pages = resident(packed)
        for tq in (9, 2, 16, 1):
            query = unit_rows(np.random.default_rng(tq), tq, 32)
            assert pages.scores(query) == pytest.approx(maxsim_numpy(query, packed), abs=1e-6)
            ids, scores = pages.search(query, 3, ids=np.array([1, 2]))
            assert ids.tolist() == [2, 1]
            assert scores[1] == -tq

    @pytest.mark.parametrize("codec", ["r4", "float16"])
    def test_listed_pages_are_scored_in_their_order(self, codec: str) -> None:
        """A failure means: candidates get the scores of other pages."""
        packed = random_pack(6, [3, 1, 0, 7, 20, 2], codec, 32)
        query = unit_rows(np.random.default_rng(6), 4, 32)
        pages = resident(packed)
        everything = pages.scores(query)
        for ids in ([4, 0, 2], [5], [3, 3, 1], [], [1, 2, 3, 4], [0, 1, 2, 3, 4, 5]):
            assert pages.scores(query, np.array(ids, np.int64)).tolist() == everything[ids].tolist()

    @pytest.mark.parametrize("codec", ["r4", "int8", "float16"])
    def test_the_best_pages_are_those_of_a_full_sort(self, codec: str) -> None:
        """A failure means: a search on a GPU leaves out a better page, or orders equal ones by chance."""
        random = np.random.default_rng(7)
        several = [unit_rows(random, length, 32) for length in (1, 3, 2)]
        packed = pack([several[at] for at in random.integers(0, 3, 14)] + [np.empty((0, 32), np.float32)], codec, 32)
        query = unit_rows(random, 3, 32)
        pages = resident(packed)
        scores = pages.scores(query)
        for k in (1, 5, 20):
            order = np.lexsort([np.arange(15), -scores])[:k]
            ids, best = pages.search(query, k)
            assert (ids.tolist(), best.tolist()) == (order.tolist(), scores[order].tolist())
            chosen = random.permutation(15)[:8]
            order = sorted(chosen.tolist(), key=lambda page: (-scores[page], page))[:k]
            ids, best = pages.search(query, k, chosen)
            assert (ids.tolist(), best.tolist()) == (order, scores[order].tolist())

    def test_many_pages_are_ranked_as_few_are(self, monkeypatch) -> None:
        """A failure means: the order of the best pages depends on how many there are to choose from."""
        from docsearch.kernels import triton_desk

        packed = random_pack(8, [1, 2] * 6, "r2", 32)
        query = unit_rows(np.random.default_rng(8), 2, 32)
        few = resident(packed).search(query, 7)
        monkeypatch.setattr(triton_desk, "FEW", 7)
        many = resident(packed).search(query, 7)
        assert [part.tolist() for part in few] == [part.tolist() for part in many]

    def test_keys_are_ranked_in_falling_order(self) -> None:
        """A failure means: places of the list of the best pages are left out or taken twice."""
        from docsearch.kernels.triton_maxsim import rank_keys

        keys = np.random.default_rng(9).integers(-(2**62), 2**62, 1100)
        for n in (1, 16, 1100):
            best = torch.zeros(600, dtype=torch.int64)
            rank_keys(torch.from_numpy(keys), torch.tensor([n, 1], dtype=torch.int32), best)
            expected = np.sort(keys[:n])[::-1][:600]
            assert best.numpy()[: len(expected)].tolist() == expected.tolist()
            assert not best.numpy()[len(expected) :].any()

    @pytest.mark.parametrize("codec", ["r3", "float16"])
    @pytest.mark.parametrize("piece", [64, 999, 1 << 26])
    def test_pages_are_loaded_from_wherever_they_lie(self, codec: str, piece: int, monkeypatch) -> None:
        """A failure means: pages of several segments, out of order or at odd places, arrive damaged on the GPU."""
        from docsearch.kernels import resident as module

        monkeypatch.setattr(module, "_PIECE", piece)
        first, second = random_pack(1, [3, 0, 40, 2], codec, 32), random_pack(2, [5, 0, 17], codec, 32, gap=3)
        both = PackedVectors(
            first.buffers + second.buffers, np.array([0, 1, 0, 1]), np.r_[first.starts, second.starts][[2, 6, 0, 4]],
            np.r_[first.lengths, second.lengths][[2, 6, 0, 4]], np.r_[first.scales, second.scales][[2, 6, 0, 4]],
            first.codec, 32,
        )  # fmt: skip
        query = unit_rows(np.random.default_rng(3), 2, 32)
        parts = [first, second.part(np.array([2, 1, 0])), both, first.part(slice(1, 2)), first.part(slice(0, 0))]
        expected = np.concatenate([maxsim_numpy(query, part) for part in parts])
        pages = resident(parts)
        assert len(pages) == len(expected) == 12
        assert pages.scores(query) == pytest.approx(expected, abs=0 if codec == "r3" else 1e-6)

    def test_places_that_fit_together_by_chance_are_in_two_files(self) -> None:
        """A failure means: a page comes from the wrong segment when it lies where the page before it would go on."""
        for codec, room in (("r3", 64), ("float16", 256)):
            one, other = random_pack(1, [4], codec, 32), random_pack(2, [4], codec, 32, gap=room)
            both = PackedVectors(
                (np.resize(one.buffers[0], 2 * room), *other.buffers), np.array([0, 1]), np.array([0, room]),
                np.array([4, 4]), np.r_[one.scales, other.scales], one.codec, 32,
            )  # fmt: skip
            query = unit_rows(np.random.default_rng(3), 2, 32)
            assert resident(both).scores(query) == pytest.approx(maxsim_numpy(query, both), abs=1e-6)

    def test_half_floats_are_scored_block_by_block(self, monkeypatch) -> None:
        """A failure means: where a block of pages ends, pages are left out, counted twice or cut."""
        from docsearch.kernels import float_gpu

        packed = random_pack(4, [3, 1, 0, 7, 20, 2, 5], "float16", 16)
        query = unit_rows(np.random.default_rng(4), 3, 16)
        expected = maxsim_numpy(query, packed)
        for rows in (1, 4, 8, 100):
            monkeypatch.setattr(float_gpu, "_PLAIN_ROWS", rows)
            assert resident(packed).scores(query) == pytest.approx(expected, abs=1e-6)
            ids = np.array([6, 0, 2, 4])
            assert resident(packed).scores(query, ids) == pytest.approx(expected[ids], abs=1e-6)

    def test_nothing_to_score(self) -> None:
        """A failure means: an empty index, query or list ends in an error instead of an empty answer."""
        query = unit_rows(np.random.default_rng(0), 2, 32)
        for codec in ("r4", "float16"):
            none, two = random_pack(0, [], codec, 32), random_pack(0, [1, 2], codec, 32)
            assert resident(none).scores(query).tolist() == []
            assert resident(none).search(query, 3)[0].tolist() == []
            assert resident(two).scores(query, np.empty(0, np.int64)).tolist() == []
            assert resident(two).search(query, 0)[0].tolist() == []
            assert resident(two).scores(query[:0]).tolist() == [0, 0]
            assert resident(two).search(query[:0], 5)[0].tolist() == [0, 1]
            assert resident(random_pack(0, [0, 0], codec, 32)).scores(query).tolist() == [-2, -2]

    def test_a_wrong_list_is_refused(self) -> None:
        """A failure means: a wrong page number reads someone else's memory, or a page appears twice in the answer."""
        pages = resident(random_pack(0, [1, 2, 3], "r4", 32))
        query = unit_rows(np.random.default_rng(0), 2, 32)
        for ids, wrong in (([0, 3], 3), ([-1, 1], -1)):
            for ask in (pages.scores, lambda query, ids: pages.search(query, 1, ids)):
                with pytest.raises(IndexError, match=f"there is no page {wrong} among the 3"):
                    ask(query, np.array(ids))
        with pytest.raises(ValueError, match="listed twice"):
            pages.search(query, 1, np.array([2, 0, 2]))

    def test_what_is_missing_is_said(self, monkeypatch) -> None:
        """A failure means: someone without the right GPU gets a stack trace instead of what to do."""
        from docsearch.kernels import resident as module

        packed = random_pack(0, [100, 28], "r4")
        with pytest.raises(ValueError, match="one codec and one dimension"):
            resident([packed, random_pack(0, [1], "r3")])
        with pytest.raises(ValueError, match="one codec and one dimension"):
            resident([])
        with pytest.raises(
            module.GpuUnavailable, match=r"no GPU to keep pages on: torch .*; on the CPU searching works"
        ):
            module.ResidentPages(packed)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**28 + 6470, 2**40))
        with pytest.raises(module.GpuUnavailable, match=r"2 pages need 0\.0 GiB .* enough for about 1;"):
            module.ResidentPages(packed)
        monkeypatch.setitem(sys.modules, "docsearch.kernels.triton_maxsim", None)
        with pytest.raises(module.GpuUnavailable, match=r"needs Triton .*docsearch-engine\[gpu\]"):
            resident(packed)

    def test_dense_candidates_are_the_nearest_of_the_allowed(self, monkeypatch) -> None:
        """A failure means: the prefilter on a GPU misses near pages, or returns some that a filter excludes."""
        from docsearch.kernels import resident as module

        random = np.random.default_rng(2)
        dense, query = unit_rows(random, 60, 24).astype(np.float16), unit_rows(random, 1, 24)[0]
        live = np.arange(60) != 5
        on_gpu = module.ResidentDense([dense[:23], dense[23:]], live=live, device="cpu")
        asked = QueryVectors(np.empty((0, 8), np.float32), query, ())
        nearest = np.argsort(-(dense.astype(np.float64) @ query.astype(np.float16).astype(np.float64)))
        nearest = nearest[nearest != 5]
        assert on_gpu.candidates(asked, 7).tolist() == nearest[:7].tolist()
        assert on_gpu.candidates(asked, 100).tolist() == nearest.tolist()
        allowed = live & (random.random(60) < 0.2)
        kept = [page for page in nearest.tolist() if allowed[page]]
        assert on_gpu.candidates(asked, 3, allowed=allowed).tolist() == kept[:3]
        assert on_gpu.candidates(asked, 50, allowed=allowed).tolist() == kept
