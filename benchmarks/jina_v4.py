"""How fast the flagship encodes and what it holds in memory, beside the plain way of running the same weights.

    PYTHONPATH=. python benchmarks/jina_v4.py                          # a small model of the same layout; any machine
    PYTHONPATH=. python benchmarks/jina_v4.py --size real              # the published shape, random weights: a GPU
    PYTHONPATH=. python benchmarks/jina_v4.py --model FOLDER --pdfs PDFS   # real weights; indexes the folder as well

plain      one input at a time, stock attention (one product a window), all hidden states and the logits kept
docsearch  as `JinaV4.encode` does it: batches by token budget, all equal windows in one product, nothing kept

Both take turns in one run, on the same page and queries. Reported: medians of pages and queries a second, the ratio,
the most memory a call held beyond the weights, and the share of the machine's own matrix-product rate in that run, with
floating-point operations counted by torch. The last lines compare the vision tower alone, both ways.
"""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch.utils.flop_counter import FlopCounterMode

from docsearch.encoders.jina_v4 import JinaV4, JinaV4Encoder
from docsearch.encoders.jina_v4.inputs import Batch, Item
from docsearch.encoders.jina_v4.vision import batch_windows

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
from tiny_jina_v4 import CONFIG, write_checkpoint

SIZES = {
    "small": (
        {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 8, "num_attention_heads": 8,
         "rope_scaling": {"mrope_section": [8, 12, 12], "rope_type": "default", "type": "default"}},
        {"hidden_size": 320, "intermediate_size": 864, "depth": 8, "num_heads": 4, "out_hidden_size": 512,
         "fullatt_block_indexes": [3, 7]},
    ),
    "real": (
        {"hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36, "num_attention_heads": 16,
         "rope_scaling": {"mrope_section": [16, 24, 24], "rope_type": "default", "type": "default"}},
        {"hidden_size": 1280, "intermediate_size": 3420, "depth": 32, "num_heads": 16, "out_hidden_size": 2048,
         "fullatt_block_indexes": [7, 15, 23, 31]},
    ),
}  # fmt: skip
VOCABULARY = 151_936  # the published one: what the logits would take
QUERY = "Which part of the pump business keeps the most profit after the costs of the new plant?"


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(SIZES), default="small")
    parser.add_argument("--model", type=Path, help="a checkpoint, instead of random weights")
    parser.add_argument("--pdfs", type=Path, help="also index this folder, end to end")
    parser.add_argument("--pixels", type=int, nargs="+", default=[602_112, 3_211_264])
    parser.add_argument("--pages", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = arguments.model or make(Path(folder), arguments.size)
        model = JinaV4(source)
        parameters = sum(weight.numel() for weight in model.network.parameters())
        attention = model.network.config._attn_implementation  # noqa: SLF001 - the library's own name for it
        print(f"{parameters / 1e6:,.0f} M parameters, {model.dtype}, {model.device}, {attention}")
        peak = matrix_rate(model)
        print(f"matrix products of this machine: {peak / 1e12:.2f} TFLOP/s")
        page = draw_page()
        for pixels in arguments.pixels:
            settings = replace(model.reader.pixel_settings, max_pixels=pixels)
            items = [model.reader.image(page, task="retrieval", settings=settings)] * arguments.pages
            compare(model, f"pages, {pixels:,} pixels, {len(items[0].ids)} tokens", items, arguments.rounds, peak)
        item = model.reader.text(QUERY, task="retrieval", prompt_name="query", max_length=512)
        compare(model, f"queries of {len(item.ids)} tokens", [item] * 32, arguments.rounds, peak)
        for pixels in arguments.pixels:
            compare_towers(model, page, pixels, arguments.rounds)
        if arguments.pdfs:
            index(model, arguments.pdfs)


def make(folder: Path, size: str) -> Path:
    """A checkpoint of random weights."""
    config = copy.deepcopy(CONFIG)
    text, vision = SIZES[size]
    config["text_config"] |= text
    config["vision_config"] |= vision
    config["text_config"]["vocab_size"] = VOCABULARY
    config["multi_vector_projector_dim"] = 128
    config["matryoshka_dims"] = [128, 256, 512]
    write_checkpoint(folder, config=config, rank=32)
    return folder


def draw_page() -> np.ndarray[Any, Any]:
    """An A4 page at 220 dpi with lines where text would be."""
    image = np.full((2573, 1819, 3), 255, np.uint8)
    image[200:2400:34, 180:1640] = 30
    return image


def compare(model: JinaV4, what: str, items: Sequence[Item], rounds: int, peak: float) -> None:
    """Time both ways, taking turns."""
    ways: dict[str, Callable[[], object]] = {
        "plain": lambda: [plain(model, item) for item in items],
        "docsearch": lambda: encode(model, items),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    memory = dict.fromkeys(ways, 0)
    for turn in range(rounds + 1):  # the first one warms up
        for way, run in ways.items():
            with stock_windows(model, stock=way == "plain"), held(model.device) as most:
                started = time.perf_counter()
                run()
                synchronise(model.device)
                seconds[way] += [time.perf_counter() - started] if turn else []
            memory[way] = max(memory[way], most[0])
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model.last_hidden(Batch((0,), tuple(items[:1])))
    rates = {way: len(items) / float(np.median(times)) for way, times in seconds.items()}
    print(what)
    for way, rate in rates.items():
        share = rate * counter.get_total_flops() / peak
        print(f"  {way:9} {rate:9.2f}/s   ratio {rate / rates['plain']:5.2f}   "
              f"{memory[way] / 2**20:8.0f} MiB beyond the weights   {share:4.0%} of the matrix rate")  # fmt: skip


def encode(model: JinaV4, items: Sequence[Item]) -> None:
    """What `JinaV4.encode` does once the inputs are read."""
    from docsearch.encoders.jina_v4.inputs import make_batches

    with torch.inference_mode():
        for batch in make_batches(items, token_budget=16_384, batch_size=None):
            list(model.vectors(batch))  # without the reading of inputs, which both ways share


def plain(model: JinaV4, item: Item) -> torch.Tensor:
    """One input, with everything a language model keeps: hidden states, keys and values, logits."""
    batch = Batch((0,), (item,))
    with torch.inference_mode():
        inputs = model.inputs(batch)
        with model.autocast():
            out = model.network.model(**inputs | {"use_cache": True}, output_hidden_states=True)
            logits = torch.nn.functional.linear(
                out.last_hidden_state, model.network.model.language_model.embed_tokens.weight
            )
            tokens = model.network.multi_vector_projector(out.last_hidden_state)
    kept: torch.Tensor = tokens if logits.numel() else logits  # the logits are alive until here, as there
    return kept


@contextmanager
def stock_windows(model: JinaV4, *, stock: bool) -> Iterator[None]:
    """The library's own window attention, for a while."""
    blocks = model.network.model.visual.blocks
    if stock:
        for block in blocks:
            block.attn.__dict__.pop("forward", None)
    try:
        yield
    finally:
        batch_windows(model.network.model.visual)


def compare_towers(model: JinaV4, page: np.ndarray[Any, Any], pixels: int, rounds: int) -> None:
    """The vision tower alone: windows one after the other, and all of a size at once."""
    settings = replace(model.reader.pixel_settings, max_pixels=pixels)
    patches = model.reader.image(page, task="retrieval", settings=settings).patches
    assert patches is not None
    values = patches.values.to(model.device, model.dtype)
    grid = torch.tensor([[1, patches.rows, patches.cols]], device=model.device)
    outputs, seconds = {}, {True: [], False: []}  # type: dict[bool, torch.Tensor], dict[bool, list[float]]
    for turn in range(rounds + 1):
        for stock in (True, False):
            with stock_windows(model, stock=stock), torch.inference_mode():
                started = time.perf_counter()
                outputs[stock] = model.network.model.visual(values, grid_thw=grid).pooler_output
                synchronise(model.device)
                seconds[stock] += [time.perf_counter() - started] if turn else []
    ratio = np.median(seconds[True]) / np.median(seconds[False])
    apart = (outputs[True].float() - outputs[False].float()).abs().max() / outputs[True].float().abs().max()
    print(f"vision tower, {pixels:,} pixels: all windows at once is {ratio:.2f} times as fast, {apart:.1e} apart")


def matrix_rate(model: JinaV4, side: int = 2048) -> float:
    """Floating-point operations per second of a large square product."""
    a = torch.randn(side, side, device=model.device, dtype=model.dtype)
    times = []
    for _ in range(8):
        started = time.perf_counter()
        for _ in range(4):
            a @ a
        synchronise(model.device)
        times.append((time.perf_counter() - started) / 4)
    return 2 * side**3 / float(np.median(times))


@contextmanager
def held(device: str) -> Iterator[list[int]]:
    """The most memory beyond what there was before: of the GPU, or of this process, sampled every 2 ms."""
    most = [0]
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        yield most
        most[0] = torch.cuda.max_memory_allocated() - before
        return
    process, over = psutil.Process(), threading.Event()
    before = process.memory_info().rss

    def watch() -> None:
        while not over.wait(0.002):
            most[0] = max(most[0], process.memory_info().rss - before)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


def synchronise(device: str) -> None:
    """Wait for the GPU."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def index(model: JinaV4, pdfs: Path) -> None:
    """A folder, end to end, as a user does it."""
    from docsearch import Index

    with tempfile.TemporaryDirectory() as folder:
        encoder = JinaV4Encoder(model=model)
        with Index.open(Path(folder) / "index", encoder=encoder, create=True) as opened:
            report = opened.add(pdfs)
            stats = opened.stats()
    print(f"indexing: {report.pages} pages in {report.seconds:.1f} s, {report.pages / report.seconds:.2f} pages/s, "
          f"{stats['bytes_per_page']} bytes/page")  # fmt: skip


if __name__ == "__main__":
    main()
