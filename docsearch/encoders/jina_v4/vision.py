"""Window attention of the vision tower, all windows of one size in one product instead of one after the other."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from types import MethodType
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb_vision


def batch_windows(visual: Any) -> None:
    """Let the blocks attend within all equal windows at once, unless FlashAttention does so already."""
    for block in visual.blocks:
        if visual.config._attn_implementation == "sdpa":  # noqa: SLF001 - the library's own name for it
            block.attn.forward = MethodType(_attend, block.attn)


def _attend(
    self: Any,
    hidden_states: torch.Tensor,
    cu_seqlens: torch.Tensor,
    position_embeddings: tuple[torch.Tensor, torch.Tensor],
    **_: Any,
) -> torch.Tensor:
    """(S, hidden) -> (S, hidden); ``cu_seqlens`` (W + 1,) bounds the windows, which do not see each other."""
    length = len(hidden_states)
    qkv = self.qkv(hidden_states).reshape(length, 3, self.num_heads, -1)
    query, key, value = qkv.permute(1, 0, 2, 3).unbind(0)
    query, key = apply_rotary_pos_emb_vision(query, key, *position_embeddings)
    heard = torch.empty_like(value)
    for size, starts in _windows(cu_seqlens.tolist()).items():
        rows = torch.tensor(starts, device=value.device)[:, None] + torch.arange(size, device=value.device)  # (W, size)
        q, k, v = (part[rows].transpose(1, 2) for part in (query, key, value))  # (W, heads, size, head_dim)
        heard[rows] = scaled_dot_product_attention(q, k, v, scale=self.scaling).transpose(1, 2).to(heard.dtype)
    joined: torch.Tensor = self.proj(heard.reshape(length, -1))
    return joined


def _windows(bounds: list[int]) -> dict[int, list[int]]:
    """Size → starts of the windows of that size."""
    found = defaultdict(list)
    for start, end in pairwise(bounds):
        if end > start:  # the library leaves empty windows in
            found[end - start].append(start)
    return found
