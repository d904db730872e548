"""The network of `eyes` in the form it is trained in: a small Qwen2.5-VL, batched over pages of one size.

Names and arithmetic are those of the stock modules, so `docsearch.finetune.eyes.stock` loads the weights into
them; what is left out here is what makes stock slow for small pages: windows of unequal size, text around the picture.

Source: Bai et al. 2025, "Qwen2.5-VL Technical Report", section 2.1; but the decoder attends both ways.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation

PATCH = 14  # px
CELL = 28  # px: a merged patch, one token vector
WINDOW = 112  # px: patches see each other within it
SLOTS = 4  # characters a patch can name, side by side: one for every 3.5 px
ROPE_BASE_VISION, ROPE_BASE_DECODER = 10_000.0, 100.0  # of the decoder: a page has some fifty rows and columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How large the network is, and which pages it is made for."""

    vision_width: int = 192
    vision_layers: int = 4
    vision_heads: int = 6
    vision_inner: int = 512
    width: int = 256
    layers: int = 4
    heads: int = 8
    inner: int = 704
    token_dim: int = 128
    page: tuple[int, int] = (1120, 784)  # height and width of a page in px, multiples of WINDOW

    def flops(self, height: int, width: int) -> int:
        """Multiplications and additions of one forward pass over an image, attention among them."""
        cells = height * width // CELL**2
        v, d = self.vision_width, self.width
        patch = 2 * (PATCH**2 * v + self.vision_layers * (4 * v * v + 3 * v * self.vision_inner + 2 * 64 * v))
        merger = 2 * (16 * v * v + 4 * v * d)
        token = 2 * self.layers * (4 * d * d + 3 * d * self.inner + 2 * cells * d) + 2 * d * self.token_dim
        return cells * (4 * patch + merger + token)


SIZES = {
    "S": Shape(),
    "M": Shape(layers=6, width=320, heads=10, inner=880, page=(1456, 1008)),
}


class EyesNetwork(nn.Module):
    """Grey pixels to token vectors, one for every 28 by 28 pixels, and while it learns to characters as well.

    Args:
        shape: its size.
        n_chars: classes of the character head, 0 among them for no character; 0 leaves the head out.
        causal: a cell sees only the cells before it, as in the flagship's decoder.
    """

    def __init__(self, shape: Shape, *, n_chars: int = 0, causal: bool = False) -> None:
        super().__init__()
        self.shape, self.causal = shape, causal
        self.visual = _Visual(shape)
        self.layers = nn.ModuleList(_DecoderLayer(shape) for _ in range(shape.layers))
        self.norm = _RMSNorm(shape.width)
        self.multi_vector_projector = nn.Linear(shape.width, shape.token_dim)
        self.chars = nn.Linear(shape.vision_width, SLOTS * n_chars) if n_chars else None
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=min(0.02, module.in_features**-0.5))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.visual.patch_embed.weight, std=0.5 / PATCH)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(B, H, W) grey in -1..1 -> (B, H / 28 * W / 28, D) unit token vectors, row by row, and character logits.

        The logits are (B, H / 14, W / 3.5, n_chars), None without a head. H and W are multiples of 112.
        """
        b, height, width = images.shape
        patches = self.visual(images)  # (B * windows, 64, vision width), groups of four that are merged side by side
        logits = None if self.chars is None else self._lay_out_chars(self.chars(patches), b, height, width)
        rows, cols = height // CELL, width // CELL
        x = self.visual.merger(patches.reshape(-1, 16, 4 * self.shape.vision_width))
        x = x.view(b, height // WINDOW, width // WINDOW, 4, 4, -1).permute(0, 1, 3, 2, 4, 5).reshape(b, rows * cols, -1)
        turns = grid_turns(rows, cols, self.shape.width // self.shape.heads, images.device)
        for layer in self.layers:
            x = layer(x, turns, self.causal)
        tokens: torch.Tensor = F.normalize(self.multi_vector_projector(self.norm(x)).float(), dim=-1)
        return tokens, logits

    def _lay_out_chars(self, named: torch.Tensor, b: int, height: int, width: int) -> torch.Tensor:
        x = named.view(b, height // WINDOW, width // WINDOW, 4, 4, 2, 2, SLOTS, -1)
        return x.permute(0, 1, 3, 5, 2, 4, 6, 7, 8).reshape(b, height // PATCH, width // PATCH * SLOTS, -1)


class _Visual(nn.Module):
    """Patches that see each other within their window, then merged two by two."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.patch_embed = nn.Linear(PATCH**2, shape.vision_width, bias=False)
        self.blocks = nn.ModuleList(_VisionBlock(shape) for _ in range(shape.vision_layers))
        self.merger = _Merger(shape)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, H, W) -> (B * windows, 64, vision width)."""
        b, height, width = images.shape
        down, across = height // WINDOW, width // WINDOW
        x = images.view(b, down, 4, 2, PATCH, across, 4, 2, PATCH).permute(0, 1, 5, 2, 6, 3, 7, 4, 8)
        x = self.patch_embed(x.reshape(b * down * across, 64, PATCH**2))
        turns = window_turns(self.shape.vision_width // self.shape.vision_heads, images.device)
        for block in self.blocks:
            x = block(x, turns)
        return x  # type: ignore[no-any-return]


class _VisionBlock(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.vision_width
        self.norm1, self.norm2 = _RMSNorm(width), _RMSNorm(width)
        self.attn = _VisionAttention(width, shape.vision_heads)
        self.mlp = _GatedMLP(width, shape.vision_inner, bias=True)

    def forward(self, x: torch.Tensor, turns: Turns) -> torch.Tensor:
        x = x + self.attn(self.norm1(x), turns)
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]


class _VisionAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor, turns: Turns) -> torch.Tensor:
        b, n, width = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        return self.proj(_attend(q, k, v, turns, causal=False))  # type: ignore[no-any-return]


class _Merger(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.ln_q = _RMSNorm(shape.vision_width)
        inner = 4 * shape.vision_width
        self.mlp = nn.Sequential(nn.Linear(inner, inner), nn.GELU(), nn.Linear(inner, shape.width))

    def forward(self, groups: torch.Tensor) -> torch.Tensor:
        """(…, 4 * vision width) -> (…, width)."""
        parts = self.ln_q(groups.view(*groups.shape[:-1], 4, -1))
        return self.mlp(parts.flatten(-2))  # type: ignore[no-any-return]


class _DecoderLayer(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = _RMSNorm(shape.width), _RMSNorm(shape.width)
        self.self_attn = _DecoderAttention(shape.width, shape.heads)
        self.mlp = _GatedMLP(shape.width, shape.inner, bias=False)

    def forward(self, x: torch.Tensor, turns: Turns, causal: bool) -> torch.Tensor:
        x = x + self.self_attn(self.input_layernorm(x), turns, causal)
        return x + self.mlp(self.post_attention_layernorm(x))  # type: ignore[no-any-return]


class _DecoderAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, width) for _ in range(3))
        self.o_proj = nn.Linear(width, width, bias=False)

    def forward(self, x: torch.Tensor, turns: Turns, causal: bool) -> torch.Tensor:
        b, n, width = x.shape
        q, k, v = (
            project(x).view(b, n, self.heads, width // self.heads).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        return self.o_proj(_attend(q, k, v, turns, causal=causal))  # type: ignore[no-any-return]


class _GatedMLP(nn.Module):
    def __init__(self, width: int, inner: int, *, bias: bool) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = nn.Linear(width, inner, bias=bias), nn.Linear(width, inner, bias=bias)
        self.down_proj = nn.Linear(inner, width, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))  # type: ignore[no-any-return]


class _RMSNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), 1e-6)


Turns = tuple[torch.Tensor, torch.Tensor]  # cosines and sines, (positions, head dim)


def _attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, turns: Turns, *, causal: bool) -> torch.Tensor:
    """(B, heads, N, head dim) three times -> (B, N, width)."""
    cos, sin = (part.to(q.dtype) for part in turns)
    q, k = (x * cos + torch.cat([-x.chunk(2, -1)[1], x.chunk(2, -1)[0]], -1) * sin for x in (q, k))
    if q.device.type == "cpu":  # torch's fused attention takes four times as long to go back in bfloat16 on a CPU
        weights = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5
        if causal:
            weights = weights.masked_fill(torch.ones(weights.shape[-2:], dtype=torch.bool).triu(1), float("-inf"))
        heard = weights.softmax(-1).to(v.dtype) @ v
    else:
        heard = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    joined: torch.Tensor = heard.transpose(1, 2).flatten(2)
    return joined


def window_turns(head_dim: int, device: Any) -> Turns:
    """(64, head dim) rotations of a window's patches in the order of their merging: by row and by column."""
    frequencies = ROPE_BASE_VISION ** -(torch.arange(0, head_dim // 2, 2, device=device) / (head_dim // 2))
    places = torch.arange(8, device=device)
    rows = places.view(4, 1, 2, 1).expand(4, 4, 2, 2).reshape(-1)
    cols = places.view(1, 4, 1, 2).expand(4, 4, 2, 2).reshape(-1)
    angles = torch.cat([rows[:, None] * frequencies, cols[:, None] * frequencies], dim=1)
    return _doubled(angles)


def grid_turns(rows: int, cols: int, head_dim: int, device: Any) -> Turns:
    """(rows * cols, head dim) rotations of the cells: the fast half of the frequencies by column, the slow by row."""
    frequencies = ROPE_BASE_DECODER ** -(torch.arange(0, head_dim, 2, device=device) / head_dim)
    fast, slow = frequencies.chunk(2)
    row, col = torch.meshgrid(torch.arange(rows, device=device), torch.arange(cols, device=device), indexing="ij")
    return _doubled(torch.cat([col.reshape(-1, 1) * fast, row.reshape(-1, 1) * slow], dim=1))


def _doubled(angles: torch.Tensor) -> Turns:
    twice = torch.cat([angles, angles], dim=1)
    return twice.cos(), twice.sin()
