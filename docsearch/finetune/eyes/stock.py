"""The trained network as the flagship's: the same modules, run by the same code, with the weights of `EyesNetwork`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import normalize
from transformers import Qwen2_5_VLConfig

from docsearch.encoders.jina_v4.model import JinaV4Network
from docsearch.encoders.jina_v4.vision import batch_windows
from docsearch.finetune.eyes.network import CELL, PATCH, ROPE_BASE_DECODER, WINDOW, EyesNetwork, Shape

CHANNELS, FRAMES = 3, 2  # stock looks at two frames of three colours; all six are the one grey picture


def stock_config(shape: Shape) -> Any:
    """The shape as a Qwen2.5-VL config: every vision layer sees windows, columns turn the first half of a head."""
    half = shape.width // shape.heads // 4
    config = Qwen2_5_VLConfig(
        text_config={
            "hidden_size": shape.width, "intermediate_size": shape.inner, "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads, "num_key_value_heads": shape.heads, "vocab_size": 1,
            "rope_parameters": {
                "rope_type": "default", "rope_theta": ROPE_BASE_DECODER, "mrope_section": [half, half, 0],
            },
            "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0,
        },
        vision_config={
            "depth": shape.vision_layers, "hidden_size": shape.vision_width, "intermediate_size": shape.vision_inner,
            "num_heads": shape.vision_heads, "out_hidden_size": shape.width, "patch_size": PATCH,
            "spatial_merge_size": CELL // PATCH, "window_size": WINDOW, "fullatt_block_indexes": [],
            "temporal_patch_size": FRAMES, "in_channels": CHANNELS,
        },
    )  # fmt: skip
    config.multi_vector_projector_dim = shape.token_dim
    config._attn_implementation = "sdpa"  # noqa: SLF001 - the library's own name for it
    return config


@torch.no_grad()
def to_stock(network: EyesNetwork) -> JinaV4Network:
    """The flagship's network, this small, with these weights."""
    made: JinaV4Network = JinaV4Network(stock_config(network.shape)).eval()
    tensors = {"model.language_model.embed_tokens.weight": made.model.language_model.embed_tokens.weight}
    for name, tensor in network.state_dict().items():
        if name == "visual.patch_embed.weight":
            parts = tensor.view(-1, 1, 1, PATCH, PATCH).expand(-1, CHANNELS, FRAMES, -1, -1)
            tensors["model.visual.patch_embed.proj.weight"] = parts / (CHANNELS * FRAMES)
        elif name.startswith(("layers.", "norm.")):
            tensors[f"model.language_model.{name}"] = tensor
        elif name.startswith("visual."):
            tensors[f"model.{name}"] = tensor
        elif not name.startswith("chars."):
            tensors[name] = tensor
    made.load_state_dict(tensors)
    batch_windows(made.model.visual)
    return made


@torch.no_grad()
def stock_tokens(network: JinaV4Network, image: NDArray[np.float32], *, causal: bool) -> torch.Tensor:
    """(H, W) grey in -1..1 -> (cells, D) unit token vectors, row by row; H and W are multiples of 28."""
    rows, cols = image.shape[0] // CELL, image.shape[1] // CELL
    side = CELL // PATCH
    x = torch.from_numpy(image).view(rows, side, PATCH, cols, side, PATCH).permute(0, 3, 1, 4, 2, 5)
    patches = (
        x.reshape(-1, 1, 1, PATCH, PATCH).expand(-1, CHANNELS, FRAMES, -1, -1).reshape(len(x) * cols * side**2, -1)
    )
    grid = torch.tensor([[1, rows * side, cols * side]])
    seen = network.model.visual(patches, grid_thw=grid).pooler_output
    row, col = torch.meshgrid(torch.arange(rows), torch.arange(cols), indexing="ij")
    places = torch.stack([col.reshape(-1), row.reshape(-1), torch.zeros(rows * cols, dtype=torch.long)])[:, None]
    mask = torch.zeros(1, 1, len(seen), len(seen))
    if causal:
        mask = mask.masked_fill(torch.ones(len(seen), len(seen), dtype=torch.bool).triu(1), float("-inf"))
    out = network.model.language_model(inputs_embeds=seen[None], position_ids=places, attention_mask=mask)
    return normalize(network.multi_vector_projector(out.last_hidden_state[0]), dim=-1)
