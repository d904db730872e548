"""What paper goes through before it is searched: the scanner's noise, the phone's perspective and shadow."""

from __future__ import annotations

import io

import numpy as np
import pymupdf
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Pixels = NDArray[np.float32]  # (H, W) or (H, W, 3), 0 to 1


def rendered(pdf: bytes, page: int, *, dpi: int, clip: tuple[float, float, float, float] | None = None) -> Image.Image:
    """A page of a PDF, or a part of it given in points, as an image."""
    pixmap = pymupdf.open("pdf", pdf)[page].get_pixmap(dpi=dpi, clip=pymupdf.Rect(clip) if clip else None)
    return Image.frombytes("RGB", (pixmap.width, pixmap.height), pixmap.samples)


def smooth_noise(generator: np.random.Generator, size: tuple[int, int], cell: int) -> Pixels:
    """Noise whose spots are about ``cell`` pixels wide; ``size`` is width, height."""
    small = generator.random((size[1] // cell + 2, size[0] // cell + 2)).astype(np.float32)
    return np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BICUBIC))


def scanned(sheet: Image.Image, *, seed: int, degrees: float) -> Image.Image:
    """The sheet as an old flatbed scanner sees it: grey, tilted, speckled, with a dark edge."""
    generator = np.random.default_rng(seed)
    paper = np.asarray(sheet.convert("L"), np.float32) / 255
    width, height = sheet.size
    ink = 1 - paper
    ink *= 0.72 + 0.42 * smooth_noise(generator, (width, height), 9)  # a worn ribbon prints unevenly
    page = 0.93 - 0.035 * smooth_noise(generator, (width, height), 240) - ink * 0.86
    tilted = Image.fromarray((np.clip(page, 0, 1) * 255).astype(np.uint8))
    tilted = tilted.rotate(degrees, Image.Resampling.BICUBIC, fillcolor=58)
    level = np.asarray(tilted.filter(ImageFilter.GaussianBlur(0.7)), np.float32) / 255
    level += generator.normal(0, 0.012, level.shape)
    for _ in range(70):
        x, y, radius = generator.integers(4, width - 4), generator.integers(4, height - 4), generator.integers(1, 3)
        level[y - radius : y + radius, x - radius : x + radius] *= 0.45
    fold = int(height * 0.495)
    level[fold - 2 : fold + 1] *= 0.93
    level[:, : width // 50] *= np.linspace(0.55, 1, width // 50)
    return Image.fromarray((np.clip(level, 0, 1) * 255).astype(np.uint8))


def _perspective(corners: list[tuple[float, float]], size: tuple[int, int]) -> list[float]:
    """The eight numbers Pillow wants to carry a picture of this size to these four corners."""
    width, height = size
    source = [(0, 0), (width, 0), (width, height), (0, height)]
    rows: list[list[float]] = []
    for (x, y), (u, v) in zip(corners, source, strict=True):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y])
    target = [float(value) for corner in source for value in corner]
    return [float(value) for value in np.linalg.solve(np.array(rows, float), np.array(target))]


def wood(size: tuple[int, int], *, seed: int) -> Pixels:
    """A board of dark planks, (H, W, 3)."""
    generator = np.random.default_rng(seed)
    width, height = size
    stretched = smooth_noise(generator, (width // 6, height * 2), 7)
    grain = np.asarray(Image.fromarray(stretched).resize((width, height), Image.Resampling.BICUBIC))
    fine = np.asarray(Image.fromarray(generator.random((height, 24)).astype(np.float32)).resize((width, height)))
    level = 0.62 + 0.3 * (grain - 0.5) + 0.12 * (fine - 0.5)
    plank = height // 7
    for seam in range(plank, height, plank):
        level[seam - 3 : seam + 3] *= 0.35
        level[seam + 3 : seam + plank] *= 0.94 + 0.12 * generator.random()
    return level[..., None] * np.array([0.56, 0.40, 0.27], np.float32)


def photographed(
    sheet: Image.Image,
    corners: list[tuple[float, float]],
    size: tuple[int, int],
    *,
    seed: int,
    shadow: tuple[float, float, float] = (0.8, 0.35, 0.45),
) -> Image.Image:
    """The sheet as a phone sees it lying on a wooden board.

    Args:
        sheet: the flat page.
        corners: where its corners come to lie: top left, top right, bottom right, bottom left.
        size: width and height of the photograph.
        seed: of the grain of the wood and the noise of the sensor.
        shadow: slope, offset and depth of the shadow that falls across it.
    """
    generator = np.random.default_rng(seed)
    width, height = size
    crumpled = np.asarray(sheet.convert("RGB"), np.float32) / 255 * np.array([0.985, 0.97, 0.93], np.float32)
    crumpled *= 1 - 0.07 * smooth_noise(generator, sheet.size, 130)[..., None]
    flat = Image.fromarray((np.clip(crumpled, 0, 1) * 255).astype(np.uint8))
    numbers = _perspective(corners, flat.size)
    placed = flat.transform(size, Image.Transform.PERSPECTIVE, numbers, Image.Resampling.BICUBIC)
    mask = Image.new("L", flat.size, 255).transform(
        size, Image.Transform.PERSPECTIVE, numbers, Image.Resampling.BICUBIC
    )
    cover = np.asarray(mask, np.float32)[..., None] / 255
    soft = np.asarray(mask.filter(ImageFilter.GaussianBlur(14)), np.float32)[..., None] / 255
    board = wood(size, seed=seed + 1) * (1 - 0.45 * np.roll(soft, (12, 9), (0, 1)))
    scene = board * (1 - cover) + np.asarray(placed, np.float32) / 255 * cover
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    across, down = x / width, y / height
    slope, offset, depth = shadow
    edge = 1 / (1 + np.exp(-(across - offset - slope * (down - 0.5)) * 34))
    light = (1.08 - 0.34 * np.hypot(across - 0.62, down - 0.3)) * (1 - depth * (1 - edge))
    scene = scene * light[..., None] * np.array([1.03, 1.0, 0.93], np.float32)
    picture = Image.fromarray((np.clip(scene, 0, 1) * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.8))
    noisy = np.asarray(picture, np.float32) / 255 + generator.normal(0, 0.012, (height, width, 1))
    return Image.fromarray((np.clip(noisy, 0, 1) * 255).astype(np.uint8))


def as_jpeg(image: Image.Image, *, quality: int, dpi: int = 72) -> bytes:
    """The image as the bytes of a JPEG file."""
    target = io.BytesIO()
    image.save(target, "JPEG", quality=quality, optimize=True, dpi=(dpi, dpi))
    return target.getvalue()
