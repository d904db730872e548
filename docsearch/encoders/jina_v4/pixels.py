"""From a page image to the patches the vision tower reads: bit for bit what the reference image processor gives."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image
from torch.nn.functional import interpolate

from docsearch.errors import UnsupportedInput

MAX_ASPECT = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelSettings:
    """`preprocessor_config.json`, as far as it matters."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    patch: int = 14
    merge: int = 2
    temporal: int = 2
    min_pixels: int = 3136
    max_pixels: int = 602_112


@dataclass(frozen=True, slots=True, eq=False)
class Patches:
    """One image: ``values`` (rows * cols, 3 * temporal * patch²) float32, in blocks of merge by merge patches."""

    values: torch.Tensor
    rows: int  # of patches; a multiple of merge
    cols: int


def target_size(height: int, width: int, settings: PixelSettings) -> tuple[int, int]:
    """Height and width in pixels that the image is brought to: whole tokens, about its shape, within the budget.

    Raises:
        UnsupportedInput: the image is more than 200 times as long as wide.

    Source: Wang et al. 2024, "Qwen2-VL", section 2.1 (naive dynamic resolution); rounding as in its image processor.
    """
    unit = settings.patch * settings.merge
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise UnsupportedInput(
            f"image of {width} x {height} pixels", "unsupported", "it is more than 200 times as long as wide; cut it"
        )
    rows, cols = round(height / unit), round(width / unit)  # halves to even, as there
    if rows * cols * unit**2 > settings.max_pixels:
        shrink = math.sqrt(height * width / settings.max_pixels)
        rows, cols = (max(1, math.floor(side / shrink / unit)) for side in (height, width))
    elif rows * cols * unit**2 < settings.min_pixels:
        grow = math.sqrt(settings.min_pixels / (height * width))
        rows, cols = (math.ceil(side * grow / unit) for side in (height, width))
    return rows * unit, cols * unit


def to_patches(image: Image | NDArray[np.uint8], settings: PixelSettings) -> Patches:
    """Resize, normalise and cut.

    The resize is bicubic with antialiasing on 8-bit numbers on the CPU: on floats, on a GPU or by Pillow it comes out
    differently in up to a fifth of the values.

    Args:
        image: (H, W, 3) RGB, or a picture, of any mode.
        settings: sizes, mean and standard deviation.
    """
    pixels = image if isinstance(image, np.ndarray) else np.asarray(image.convert("RGB"))
    height, width = target_size(pixels.shape[0], pixels.shape[1], settings)
    x = torch.tensor(pixels).permute(2, 0, 1)[None].contiguous()  # (1, 3, H, W) uint8
    if x.shape[-2:] != (height, width):
        x = interpolate(x, size=(height, width), mode="bicubic", antialias=True, align_corners=False)
    mean, std = (torch.tensor(of)[:, None, None] * 255 for of in (settings.mean, settings.std))
    scaled = (x[0].float() - mean) / std
    patch, merge = settings.patch, settings.merge
    rows, cols = height // patch, width // patch
    blocks = scaled.reshape(3, rows // merge, merge, patch, cols // merge, merge, patch)
    blocks = blocks.permute(1, 4, 2, 5, 0, 3, 6)  # block row, block column, row, column in the block, channel, y, x
    frames = blocks.unsqueeze(5).expand(*blocks.shape[:5], settings.temporal, patch, patch)  # a still film
    return Patches(frames.reshape(rows * cols, -1), rows, cols)
