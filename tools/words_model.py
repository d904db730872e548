"""The model of the `words` encoder in torch, for training and for comparison: the shipped one runs in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file
from transformers import BertConfig, BertModel

from docsearch.encoders.words.encoder import WEIGHTS

HIDDEN, HEADS, LAYERS, INNER, EPSILON = 384, 12, 12, 1536, 1e-12
BLOCK = 32  # weights that share a scale
PLACES = {  # products of our files → modules of a layer of BERT; queries, keys and values are one product of ours
    "qkv": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "attention": ("attention.output.dense",),
    "up": ("intermediate.dense",),
    "down": ("output.dense",),
}
NORMS = {"attention_norm": "attention.output.LayerNorm", "output_norm": "output.LayerNorm"}
Array = NDArray[np.float32]


def load_bert(*, adapted: bool, weights: Path = WEIGHTS) -> BertModel:
    """The weights in float32 as a BERT of the transformers library, with the adapters in its matrices or without."""
    tensors = load_file(weights / "model.safetensors")
    tables = [load_file(path) for path in sorted(weights.glob("embeddings.*.safetensors"))]
    words = np.concatenate([unpack(table["words.int4"], table["words.scales"]) for table in tables], axis=1)
    adapters = load_file(weights / "adapters.safetensors") if adapted else {}
    state = {
        "embeddings.word_embeddings.weight": words,
        "embeddings.position_embeddings.weight": tensors["positions"],
        "embeddings.token_type_embeddings.weight": np.zeros((2, HIDDEN), np.float32),  # within the positions
        "embeddings.LayerNorm.weight": tensors["embeddings.norm.weight"],
        "embeddings.LayerNorm.bias": tensors["embeddings.norm.bias"],
    }
    for layer in range(LAYERS):
        ours, theirs = f"layers.{layer:02d}.", f"encoder.layer.{layer}."
        for part, modules in PLACES.items():
            weight = unpack(tensors[f"{ours}{part}.int4"], tensors[f"{ours}{part}.scales"])
            if adapted:
                weight += change(adapters, f"{ours}{part}")
            biases = np.split(tensors[f"{ours}{part}.bias"], len(modules))
            for module, rows, bias in zip(modules, np.split(weight, len(modules)), biases, strict=True):
                state[f"{theirs}{module}.weight"], state[f"{theirs}{module}.bias"] = rows, bias
        for part, module in NORMS.items():
            for kind in ("weight", "bias"):
                state[f"{theirs}{module}.{kind}"] = tensors[f"{ours}{part}.{kind}"]
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=INNER,
        layer_norm_eps=EPSILON,
    )
    model = BertModel(config, add_pooling_layer=False).eval()
    model.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in state.items()}, strict=False)
    return model


def change(adapters: dict[str, NDArray[np.float16]], product: str) -> Array:
    """(n_out, n_in) what the adapters add to a matrix (Hu et al. 2021, "LoRA")."""
    added: Array = adapters[f"{product}.raise"].astype(np.float32) @ adapters[f"{product}.lower"].astype(np.float32)
    return added


def unpack(packed: NDArray[np.uint8], scales: NDArray[np.float16]) -> Array:
    """(n, m / 2) bytes of two signed weights, the even column in the low half, and (n, m / 32) scales -> (n, m)."""
    levels = np.stack([packed & 15, packed >> 4], axis=-1).reshape(len(packed), -1)
    return ((levels ^ 8).astype(np.float32) - 8) * np.repeat(scales.astype(np.float32), BLOCK, axis=1)
