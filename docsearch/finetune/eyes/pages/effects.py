"""What printing, scanning and sending do to a page: it is bent, blurred, shaded, dirtied, squeezed; boxes go along."""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]  # (H, W) or (H, W, 3)
Boxes = NDArray[np.float32]  # (M, 4) px
CLEAN = 0.3  # share of pages nothing is done to: those of a PDF
N_STRIPS = 8  # of a bent page
COARSEST = 10.0  # px, the size of text below which a scan is not made coarser
GRAIN = 2048  # side of the field that noise is cut from


def apply(
    image: Pixels, boxes: Boxes, chance: np.random.Generator, *, size: float
) -> tuple[Pixels, Boxes, Mapping[str, Any]]:
    """Do some of it, in the order in which it happens to paper; say what was done, and how much.

    Text of ``size`` px stays large enough to be read.
    """
    done: dict[str, Any] = {}
    if chance.random() < CLEAN:
        return image, boxes, done
    if chance.random() < 0.15:
        done["bleed"] = float(chance.uniform(0.04, 0.14))
        image = bleed_through(image, done["bleed"], int(chance.integers(-20, 20)))
    if chance.random() < 0.3:
        done["fade"] = float(chance.uniform(0.45, 0.95))
        image = faded(image, done["fade"], int(chance.integers(200, 256)))
    bent = chance.random()
    if bent < 0.3:
        done["skew"] = float(np.clip(chance.normal(0, 0.8), -2, 2))
        image, boxes = skewed(image, boxes, done["skew"], scale=float(chance.uniform(0.97, 1.01)))
    elif bent < 0.4:
        done["bend"] = float(chance.uniform(1, 6))
        image, boxes = bent_down(
            image, boxes, done["bend"], float(chance.uniform(0.3, 1)), float(chance.uniform(0, 6.3))
        )
    image = _soften(image, chance, size, done)
    return _dirty(image, chance, done), boxes, done


def _soften(image: Pixels, chance: np.random.Generator, size: float, done: dict[str, Any]) -> Pixels:
    """What a lens and a sensor do."""
    if chance.random() < 0.4:
        done["blur"] = float(chance.uniform(0.05, 0.3))
        for _ in range(2 if chance.random() < 0.3 else 1):
            image = blurred(image, done["blur"])
    if chance.random() < 0.1 and size > COARSEST / 0.9:
        done["coarse"] = float(chance.uniform(max(0.5, COARSEST / size), 0.9))
        image = coarse(image, done["coarse"])
    if chance.random() < 0.3:
        done["shade"] = float(chance.uniform(0.05, 0.4))
        image = shaded(image, done["shade"], int(chance.integers(2, 6)), chance)
    return image


def _dirty(image: Pixels, chance: np.random.Generator, done: dict[str, Any]) -> Pixels:
    """Grain, dirt, two tones only, compression."""
    if chance.random() < 0.4:
        done["noise"] = float(chance.uniform(2, 14)) * done.get("fade", 1.0)
        image = noisy(image, done["noise"], chance)
    if chance.random() < 0.12:
        done["specks"] = int(chance.integers(5, 400))
        image = specked(image, done["specks"], chance)
    if chance.random() < 0.06:
        done["threshold"] = int(chance.integers(110, 180))
        image = thresholded(image, done["threshold"])
    if chance.random() < 0.3:
        done["jpeg"] = int(chance.integers(25, 90))
        image = squeezed(image, done["jpeg"])
    return image


def bleed_through(image: Pixels, share: float, shift: int) -> Pixels:
    """The other side of the sheet shows through: here the page's own mirror image."""
    back = np.roll(image[:, ::-1], shift, axis=0).astype(np.uint16)
    light = round(256 * (1 - share))
    through: Pixels = np.minimum(image, (255 * light + back * (256 - light)) >> 8).astype(np.uint8)
    return through


def faded(image: Pixels, contrast: float, white: int) -> Pixels:
    """Less contrast: what was white is ``white``, what was black so much lighter."""
    table = np.round(white - (255 - np.arange(256)) * contrast * white / 255).clip(0, 255).astype(np.uint8)
    picture = Image.fromarray(image)
    return np.asarray(picture.point(table.tolist() * len(picture.getbands())))


def skewed(image: Pixels, boxes: Boxes, degrees: float, *, scale: float) -> tuple[Pixels, Boxes]:
    """Turned about the middle and scaled; what comes in from outside is as light as the page's corner."""
    height, width = image.shape[:2]
    turn = np.deg2rad(degrees)
    cos, sin = np.cos(turn) / scale, np.sin(turn) / scale
    x, y = width / 2, height / 2
    back = (cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y)  # where a point of the result was
    picture = Image.fromarray(image)
    paper = picture.getpixel((0, 0))
    turned = picture.transform(picture.size, Image.Transform.AFFINE, back, Image.Resampling.BILINEAR, fillcolor=paper)
    forth = np.linalg.inv(np.array([[back[0], back[1]], [back[3], back[4]]]))
    return np.asarray(turned), moved(boxes, lambda points: (points - [back[2], back[5]]) @ forth.T)


def bent_down(image: Pixels, boxes: Boxes, depth: float, waves: float, phase: float) -> tuple[Pixels, Boxes]:
    """Lines sag, as on a page that does not lie flat: strips of the page are moved down, by up to ``depth`` px."""
    height, width = image.shape[:2]
    edges = np.round(np.linspace(0, width, N_STRIPS + 1)).astype(int)
    drop = depth * np.sin(2 * np.pi * waves * edges / width + phase)
    mesh = [
        ((int(left), 0, int(right), height), (left, -a, left, height - a, right, height - b, right, -b))
        for left, right, a, b in zip(edges[:-1], edges[1:], drop[:-1], drop[1:], strict=True)
    ]
    picture = Image.fromarray(image)
    moved_picture = picture.transform(picture.size, Image.Transform.MESH, mesh, Image.Resampling.BILINEAR)
    result = np.array(moved_picture)
    edge = int(np.ceil(depth)) + 1
    result[:edge], result[-edge:] = image[0, 0], image[0, 0]  # nothing came in from outside
    return result, moved(
        boxes, lambda points: points + np.stack([0 * points[:, 0], np.interp(points[:, 0], edges, drop)], 1)
    )


def moved(boxes: Boxes, move: Any) -> Boxes:
    """The boxes around where the corners of boxes go."""
    corners = move(boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 2)).reshape(-1, 4, 2)
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1).astype(np.float32)


def blurred(image: Pixels, share: float) -> Pixels:
    """Each pixel gives a share of itself to its neighbours on each side, along both axes."""
    side = round(share * 256)
    for axis in (0, 1):
        wide = image.astype(np.uint16)
        ahead, behind = (slice(None),) * axis + (slice(2, None),), (slice(None),) * axis + (slice(None, -2),)
        inner = (slice(None),) * axis + (slice(1, -1),)
        result = image.copy()
        result[inner] = ((wide[ahead] + wide[behind]) * side + wide[inner] * (256 - 2 * side) + 128) >> 8
        image = result
    return image


def coarse(image: Pixels, share: float) -> Pixels:
    """Scanned at fewer dots per inch, then enlarged again."""
    picture = Image.fromarray(image)
    small = picture.resize((int(picture.width * share), int(picture.height * share)), Image.Resampling.BOX)
    return np.asarray(small.resize(picture.size, Image.Resampling.BILINEAR))


def shaded(image: Pixels, depth: float, cells: int, chance: np.random.Generator) -> Pixels:
    """Lit unevenly: a smooth field of shadows, the darkest ``depth`` darker than the lightest."""
    spots = (255 * (1 - depth * chance.random((cells, cells)))).astype(np.uint8)
    light = np.asarray(Image.fromarray(spots).resize(image.shape[1::-1], Image.Resampling.BILINEAR))
    light = light if image.ndim == 2 else light[:, :, None]
    dark: Pixels = ((image.astype(np.uint16) * light + 128) >> 8).astype(np.uint8)
    return dark


def noisy(image: Pixels, strength: float, chance: np.random.Generator) -> Pixels:
    """Grain of that standard deviation, fine or paper-like (as coarse as two pixels)."""
    field = grain(bool(chance.random() < 0.3))
    height, width = image.shape[:2]
    field = np.tile(field, (-(-height // GRAIN), -(-width // GRAIN)))
    top, left = chance.integers(0, (field.shape[0] - height + 1, field.shape[1] - width + 1)).tolist()
    added = (field[top : top + height, left : left + width] * np.int16(round(strength * 16))) >> 9
    added = added if image.ndim == 2 else added[:, :, None]
    noised: Pixels = np.clip(image.astype(np.int16) + added, 0, 255).astype(np.uint8)
    return noised


@cache
def grain(paper: bool) -> NDArray[np.int16]:
    """(GRAIN, GRAIN) normal noise of standard deviation 32, the same in every run."""
    field = np.random.default_rng(7).standard_normal((GRAIN, GRAIN))
    if paper:
        field = (field + np.roll(field, 1, 0) + np.roll(field, 1, 1) + np.roll(field, (1, 1), (0, 1))) / 2
    return np.round(np.clip(field, -3.5, 3.5) * 32).astype(np.int16)


def specked(image: Pixels, n_specks: int, chance: np.random.Generator) -> Pixels:
    """Dirt and dropouts: spots of one to three pixels, dark or light."""
    result = image.copy()
    height, width = image.shape[:2]
    places = chance.integers(0, (height - 3, width - 3), (n_specks, 2)).tolist()
    sizes, tones = chance.integers(1, 4, n_specks).tolist(), chance.choice([20, 90, 255], n_specks).tolist()
    for (row, col), size, tone in zip(places, sizes, tones, strict=True):
        result[row : row + size, col : col + size] = tone
    return result


def thresholded(image: Pixels, level: int) -> Pixels:
    """Black and white only, as a fax; ``level`` is relative to the page's lightest."""
    lightest = int(np.percentile(image[::16, ::16], 95))
    black_and_white: Pixels = np.where(image < lightest * level // 255, 0, 255).astype(np.uint8)
    return black_and_white


def squeezed(image: Pixels, quality: int) -> Pixels:
    """Through JPEG and back."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))
