"""Make the test checkpoint: the layout of jina-embeddings-v4, in every name and every awkward key, at a ten-thousandth.

    python tools/tiny_jina_v4.py tests/data/tiny_jina_v4

Random weights, fixed seed. The published checkpoint's names and shapes follow from its config by the same rules, so a
loader that reads this folder completely reads that one. The tokenizer is byte-level BPE without a merge: one id a byte.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

SPECIALS = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
    "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>",
]  # fmt: skip
SPECIAL_ID = {token: 256 + at for at, token in enumerate(SPECIALS)}
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TASKS = ("retrieval", "text-matching", "code")
RANK = 4
MODULES = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
           "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")  # fmt: skip

CONFIG: dict[str, Any] = {
    "_attn_implementation": "flash_attention_2",
    "architectures": ["JinaEmbeddingsV4Model"],
    "auto_map": {
        "AutoConfig": "configuration_jina_embeddings_v4.JinaEmbeddingsV4Config",
        "AutoModel": "modeling_jina_embeddings_v4.JinaEmbeddingsV4Model",
    },
    "bos_token_id": SPECIAL_ID["<|endoftext|>"],
    "eos_token_id": SPECIAL_ID["<|im_end|>"],
    "image_token_id": SPECIAL_ID["<|image_pad|>"],
    "matryoshka_dims": [8, 16, 32, 64],
    "model_type": "qwen2_5_vl",
    "multi_vector_projector_dim": 16,
    "single_vector_pool_strategy": "mean",
    "task_names": list(TASKS),
    "text_config": {
        "bos_token_id": SPECIAL_ID["<|endoftext|>"],
        "eos_token_id": SPECIAL_ID["<|im_end|>"],
        "hidden_act": "silu",
        "hidden_size": 64,
        "initializer_range": 0.02,
        "intermediate_size": 96,
        "max_position_embeddings": 128000,
        "model_type": "qwen2_5_vl_text",
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-06,
        "rope_scaling": {"mrope_section": [2, 3, 3], "rope_type": "default", "type": "default"},
        "rope_theta": 1000000.0,
        "sliding_window": None,
        "use_sliding_window": False,
        "vocab_size": 256 + len(SPECIALS),
    },
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "truncate_dim": None,
    "video_token_id": SPECIAL_ID["<|video_pad|>"],
    "vision_config": {
        "depth": 4,
        "fullatt_block_indexes": [1, 3],
        "hidden_act": "silu",
        "hidden_size": 32,
        "in_channels": 3,
        "in_chans": 3,
        "intermediate_size": 48,
        "model_type": "qwen2_5_vl",
        "num_heads": 2,
        "out_hidden_size": 64,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "spatial_patch_size": 14,
        "temporal_patch_size": 2,
        "tokens_per_second": 2,
        "window_size": 112,
    },
    "vision_end_token_id": SPECIAL_ID["<|vision_end|>"],
    "vision_start_token_id": SPECIAL_ID["<|vision_start|>"],
    "vision_token_id": SPECIAL_ID["<|vision_pad|>"],
}
PREPROCESSOR = {
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_processor_type": "Qwen2VLImageProcessor",
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "max_pixels": 602112,
    "merge_size": 2,
    "min_pixels": 3136,
    "patch_size": 14,
    "processor_class": "JinaEmbeddingsV4Processor",
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "size": {"longest_edge": 602112, "shortest_edge": 3136},
    "temporal_patch_size": 2,
}
ADAPTER = {
    "base_model_name_or_path": "jinaai/jina-embeddings-v4",
    "bias": "none",
    "exclude_modules": ".*visual.*",
    "init_lora_weights": "gaussian",
    "lora_alpha": RANK,
    "lora_dropout": 0.1,
    "peft_type": "LORA",
    "r": RANK,
    "target_modules": "(.*(model).*(down_proj|gate_proj|up_proj|k_proj|q_proj|v_proj|o_proj).*$"
    "|.*(single_vector_projector|multi_vector_projector).*$)",
    "task_type": "FEATURE_EXTRACTION",
    "use_dora": False,
    "use_rslora": False,
}


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    write_checkpoint(parser.parse_args().folder)


def write_checkpoint(folder: Path, *, config: dict[str, Any] = CONFIG, rank: int = RANK, seed: int = 4) -> None:
    """Config, tokenizer, two shards with their index, and the adapters: the files the published folder has."""
    (folder / "adapters").mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    base = base_tensors(config)
    adapters = adapter_tensors(config, rank, base)
    names = sorted(base)
    shards = {"model-00001-of-00002.safetensors": names[: len(names) // 2]}
    shards["model-00002-of-00002.safetensors"] = names[len(names) // 2 :]
    for file, members in shards.items():
        save_file({name: base[name] for name in members}, folder / file, metadata={"format": "pt"})
    index = {
        "metadata": {"total_size": sum(tensor.nbytes for tensor in base.values())},
        "weight_map": {name: file for file, members in shards.items() for name in members},
    }
    save_file(adapters, folder / "adapters" / "adapter_model.safetensors", metadata={"format": "pt"})
    write_json(folder / "model.safetensors.index.json", index)
    write_json(folder / "config.json", config)
    write_json(folder / "preprocessor_config.json", PREPROCESSOR)
    write_json(folder / "adapters" / "adapter_config.json", ADAPTER | {"r": rank, "lora_alpha": rank})
    tokenizer().save(str(folder / "tokenizer.json"))
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    write_json(folder / "vocab.json", vocabulary)
    (folder / "merges.txt").write_text("#version: 0.2\n")
    write_json(
        folder / "tokenizer_config.json",
        {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "tokenizer_class": "Qwen2Tokenizer"},
    )


def base_tensors(config: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Name → bfloat16 tensor, in the names of the first Qwen2.5-VL release, without a language-model head."""
    text, vision = config["text_config"], config["vision_config"]
    hidden, inner = text["hidden_size"], text["intermediate_size"]
    key_value = hidden // text["num_attention_heads"] * text["num_key_value_heads"]
    out = {"model.embed_tokens.weight": normal(text["vocab_size"], hidden), "model.norm.weight": near_one(hidden)}
    for layer in range(text["num_hidden_layers"]):
        name = f"model.layers.{layer}"
        out |= {f"{name}.{norm}.weight": near_one(hidden) for norm in ("input_layernorm", "post_attention_layernorm")}
        for part, rows in (("q", hidden), ("k", key_value), ("v", key_value)):
            out[f"{name}.self_attn.{part}_proj.weight"] = normal(rows, hidden)
            out[f"{name}.self_attn.{part}_proj.bias"] = normal(rows)
        out[f"{name}.self_attn.o_proj.weight"] = normal(hidden, hidden)
        out[f"{name}.mlp.gate_proj.weight"] = normal(inner, hidden)
        out[f"{name}.mlp.up_proj.weight"] = normal(inner, hidden)
        out[f"{name}.mlp.down_proj.weight"] = normal(hidden, inner)
    width, middle, patch = vision["hidden_size"], vision["intermediate_size"], vision["patch_size"]
    out["visual.patch_embed.proj.weight"] = normal(width, 3, vision["temporal_patch_size"], patch, patch)
    for block in range(vision["depth"]):
        name = f"visual.blocks.{block}"
        out |= {f"{name}.{norm}.weight": near_one(width) for norm in ("norm1", "norm2")}
        for part, rows, columns in (
            ("attn.qkv", 3 * width, width), ("attn.proj", width, width), ("mlp.gate_proj", middle, width),
            ("mlp.up_proj", middle, width), ("mlp.down_proj", width, middle),
        ):  # fmt: skip
            out[f"{name}.{part}.weight"], out[f"{name}.{part}.bias"] = normal(rows, columns), normal(rows)
    merged = width * vision["spatial_merge_size"] ** 2
    out["visual.merger.ln_q.weight"] = near_one(width)
    for part, rows in (("0", merged), ("2", vision["out_hidden_size"])):
        out[f"visual.merger.mlp.{part}.weight"], out[f"visual.merger.mlp.{part}.bias"] = (
            normal(rows, merged),
            normal(rows),
        )
    out["multi_vector_projector.weight"] = normal(config["multi_vector_projector_dim"], hidden)
    out["multi_vector_projector.bias"] = normal(config["multi_vector_projector_dim"])
    return out


def adapter_tensors(config: dict[str, Any], rank: int, base: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Name → bfloat16 tensor: A and B of every task for every product of the decoder, and for the projector."""
    out = {}
    for layer in range(config["text_config"]["num_hidden_layers"]):
        for module in MODULES:
            shape = base[f"model.layers.{layer}.{module}.weight"].shape
            out |= pair(f"model.language_model.layers.{layer}.{module}", *shape, rank)
    return out | pair("multi_vector_projector", *base["multi_vector_projector.weight"].shape, rank)


def pair(module: str, n_out: int, n_in: int, rank: int) -> dict[str, torch.Tensor]:
    """A (rank, n_in) and B (n_out, rank) of each task."""
    name = f"base_model.model.{module}"
    out = {}
    for task in TASKS:
        out[f"{name}.lora_A.{task}.weight"] = normal(rank, n_in, scale=0.3)
        out[f"{name}.lora_B.{task}.weight"] = normal(n_out, rank, scale=0.3)
    return out


def normal(*shape: int, scale: float = 0.15) -> torch.Tensor:
    """Drawn from N(0, scale²)."""
    return (torch.randn(shape) * scale).to(torch.bfloat16)


def near_one(size: int) -> torch.Tensor:
    """The weight of a norm."""
    return (1 + torch.randn(size) * 0.1).to(torch.bfloat16)


def tokenizer() -> Tokenizer:
    """Qwen2's normaliser, split and special tokens over single bytes."""
    alphabet = {character: at for at, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    made = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    made.normalizer = normalizers.NFC()
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIALS])
    assert {token: made.token_to_id(token) for token in SPECIALS} == SPECIAL_ID
    return made


def write_json(path: Path, value: object) -> None:
    """Indented, with a newline at the end."""
    path.write_text(json.dumps(value, indent=2) + "\n")


if __name__ == "__main__":
    main()
