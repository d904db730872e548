"""How fast this chip is at the best of times: what a training step is measured against."""

from __future__ import annotations

import time

import torch


def peak_flops(device: str, *, size: int = 2048, seconds: float = 1.0) -> float:
    """FLOP/s of a large bfloat16 matrix product, the fastest of several; on a CPU with torch's threads as they are."""
    if device != "cpu":
        size *= 4
    a = torch.randn(size, size, dtype=torch.bfloat16, device=device)
    best, until = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < until:
        started = time.perf_counter()
        a @ a
        if device != "cpu":
            torch.cuda.synchronize()
        best = max(best, 2 * size**3 / (time.perf_counter() - started))
    return best
