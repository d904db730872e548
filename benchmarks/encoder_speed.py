"""How fast the `words` encoder computes its model, beside other ways of running the same weights.

    PYTHONPATH=. python benchmarks/encoder_speed.py            # also needs onnx and transformers
    PYTHONPATH=. python benchmarks/encoder_speed.py --threads 1 --rounds 9

All runtimes take turns, page by page in rounds, so that whatever else the machine does slows all of them alike. A page
is 600 pieces in three windows. Reported: pages per second (median over rounds), the ratio to eager float32 torch, and
the mean cosine of the last layer with float32. Times are wall-clock time, and a busy machine shows in them: the ratios
are steadier than the rates. ``--cpu`` counts processor seconds instead, and gives pages per second of one core.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import helper, numpy_helper
from safetensors.numpy import load_file

from docsearch.encoders.words.encoder import WEIGHTS

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
from export_words import build_graph
from words_model import HEADS, HIDDEN, INNER, LAYERS, load_bert

SIZE = {"hidden": HIDDEN, "inner": INNER, "heads": HEADS, "layers": LAYERS, "epsilon": 1e-12, "vocabulary": 250_037}
Run = Callable[[np.ndarray], np.ndarray]


def main() -> None:
    """Time every runtime in turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pages", type=int, default=4, help="pages per round and runtime")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cpu", action="store_true", help="processor seconds instead of wall-clock time")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rng = np.random.default_rng(0)
    # Words of frequent pieces in a row are no text, but cost what text costs.
    pages = [rng.integers(10, 30_000, (3, 205)) for _ in range(args.pages)]
    clock = time.process_time if args.cpu else time.perf_counter
    with tempfile.TemporaryDirectory() as folder:
        runtimes = make_runtimes(Path(folder))
        outputs = {name: run(pages[0]) for name, (run, _) in runtimes.items()}
        seconds: dict[str, list[float]] = {name: [] for name in runtimes}
        with ThreadPoolExecutor(args.threads) as pool:
            for _ in range(args.rounds):
                for name, (run, parallel) in runtimes.items():
                    started = clock()
                    list(pool.map(run, pages) if parallel else map(run, pages))
                    seconds[name].append((clock() - started) / args.pages)
    base = float(np.median(seconds["torch float32"]))
    print(f"{'runtime':28s} {'pages/s':>8s} {'ratio':>6s} {'cosine':>7s}")
    for name, times in seconds.items():
        a, b = outputs[name].reshape(-1, 384), outputs["torch float32"].reshape(-1, 384)
        cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        median = float(np.median(times))
        print(f"{name:28s} {1 / median:8.2f} {base / median:6.2f} {cosine.mean():7.4f}", flush=True)


def make_runtimes(folder: Path) -> dict[str, tuple[Run, bool]]:
    """Name -> (ids to last layer, whether pages run side by side with one thread each)."""
    for file in WEIGHTS.glob("*.safetensors"):
        shutil.copy(file, folder)  # ONNX Runtime follows no link out of the folder of the graph
    exact = build_graph(SIZE, folder, exact=True)
    onnx.save(exact, folder / "exact.onnx")
    onnx.save(four_bits(exact), folder / "four.onnx")
    model = load_bert(adapted=True)
    half = load_bert(adapted=True).to(torch.bfloat16)
    whole = torch.ao.quantization.quantize_dynamic(load_bert(adapted=True), {torch.nn.Linear}, torch.qint8)
    return {
        "torch float32": (torch_run(model), False),
        "torch.compile float32": (torch_run(torch.compile(model)), False),
        "torch bfloat16": (torch_run(half), False),
        "torch.compile bfloat16": (torch_run(torch.compile(half)), False),
        "torch dynamic int8": (torch_run(whole), False),
        "onnxruntime float32": (ort_run(folder / "exact.onnx"), True),
        "onnxruntime 4-bit, unadapted": (ort_run(folder / "four.onnx"), True),
        "onnxruntime int8 (shipped)": (ort_run(WEIGHTS / "model.onnx"), True),
    }


def ort_run(path: Path) -> Run:
    """A session whose runs stay on one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(path), options)
    return lambda ids: session.run(["hidden"], {"ids": ids})[0]


def four_bits(exact: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with MatMulNBits (int8 activations) on the stored 4-bit numbers instead of float matrices."""
    graph = onnx.ModelProto()
    graph.CopyFrom(exact)
    model = load_file(WEIGHTS / "model.safetensors")
    nodes, extra = [], []
    for node in graph.graph.node:
        if node.op_type == "MatMul" and node.name.endswith(".product"):
            layer, part = node.name.split(".")[:2]
            name = f"layers.{int(layer):02d}.{part}"
            packed, scales = model[f"{name}.int4"], model[f"{name}.scales"].astype(np.float32)
            n_out, n_in = len(packed), packed.shape[1] * 2
            blocks = np.ascontiguousarray((packed ^ 0x88).reshape(n_out, n_in // 32, 16))
            extra += [numpy_helper.from_array(blocks, f"{name}.b"), numpy_helper.from_array(scales, f"{name}.s")]
            sizes = {"K": n_in, "N": n_out, "bits": 4, "block_size": 32, "accuracy_level": 4}
            inputs, outputs = [node.input[0], f"{name}.b", f"{name}.s"], list(node.output)
            nodes.append(helper.make_node("MatMulNBits", inputs, outputs, domain="com.microsoft", **sizes))
        else:
            nodes.append(node)
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    graph.graph.initializer.extend(extra)
    del graph.graph.output[:-1]  # only the last layer, so that nothing else is kept alive
    return graph


def torch_run(model: Any) -> Run:
    """Eager torch."""

    def run(ids: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model(input_ids=torch.from_numpy(ids)).last_hidden_state.float().numpy()

    return run


if __name__ == "__main__":
    main()
