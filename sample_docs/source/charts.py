"""Bar, line, share and flow charts, drawn as vectors so that their labels are text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from .drawing import GREY, HAIR, INK, Box, Canvas, Color


def _scale(canvas: Canvas, box: Box, top: float, ticks: Sequence[float], unit: str, size: float) -> float:
    """Draw the grid and its labels; returns how many points one unit is high."""
    height = (box[3] - box[1]) / top
    for tick in ticks:
        y = box[3] - tick * height
        canvas.line((box[0], y), (box[2], y), color=HAIR if tick else GREY, width=0.4 if tick else 0.8)
        canvas.text(box[0] - 5, y + size * 0.35, f"{tick:g}{unit}", size=size, color=GREY, align="right")
    return height


def legend(
    canvas: Canvas, x: float, y: float, entries: Mapping[str, Color], *, size: float = 8, gap: float = 14
) -> None:
    """A row of colored squares with their names, starting at x; y is the baseline."""
    for name, color in entries.items():
        canvas.rect((x, y - size * 0.75, x + size * 0.75, y), fill=color)
        x += size + 3
        x += canvas.text(x, y, name, size=size, color=INK) + gap


def bars(
    canvas: Canvas,
    box: Box,
    groups: Sequence[str],
    series: Mapping[str, Sequence[float]],
    colors: Sequence[Color],
    *,
    top: float,
    ticks: Sequence[float],
    unit: str = "",
    size: float = 8,
    decimals: int = 1,
) -> None:
    """Grouped upright bars, each with its value above it."""
    height = _scale(canvas, box, top, ticks, unit, size)
    pitch = (box[2] - box[0]) / len(groups)
    bar = pitch * 0.74 / len(series)
    for g, group in enumerate(groups):
        left = box[0] + pitch * (g + 0.13)
        for s, (values, color) in enumerate(zip(series.values(), colors, strict=True)):
            x, y = left + s * bar, box[3] - values[g] * height
            canvas.rect((x + bar * 0.06, y, x + bar * 0.94, box[3]), fill=color)
            canvas.text(x + bar / 2, y - 3, f"{values[g]:.{decimals}f}", size=size - 1, align="center")
        canvas.text(box[0] + pitch * (g + 0.5), box[3] + size + 4, group, size=size, color=INK, align="center")


def stacked(
    canvas: Canvas,
    box: Box,
    groups: Sequence[str],
    series: Mapping[str, Sequence[float]],
    colors: Sequence[Color],
    *,
    top: float,
    ticks: Sequence[float],
    unit: str = "",
    size: float = 8,
) -> None:
    """Stacked upright bars with the value of each part inside it."""
    height = _scale(canvas, box, top, ticks, unit, size)
    pitch = (box[2] - box[0]) / len(groups)
    for g, group in enumerate(groups):
        y, left, right = box[3], box[0] + pitch * (g + 0.2), box[0] + pitch * (g + 0.8)
        for values, color in zip(series.values(), colors, strict=True):
            part = values[g] * height
            canvas.rect((left, y - part, right, y), fill=color)
            if part > size + 2:
                middle = y - part / 2 + size * 0.33
                canvas.text(
                    (left + right) / 2, middle, f"{values[g]:g}", size=size - 0.5, color="#ffffff", align="center"
                )
            y -= part
        canvas.text((left + right) / 2, box[3] + size + 4, group, size=size, align="center")


def lines(
    canvas: Canvas,
    box: Box,
    points: Sequence[str],
    series: Mapping[str, Sequence[float]],
    colors: Sequence[Color],
    *,
    top: float,
    ticks: Sequence[float],
    unit: str = "",
    size: float = 8,
    every: int = 1,
) -> None:
    """Lines over equally spaced points; the last value of each is written beside it."""
    height = _scale(canvas, box, top, ticks, unit, size)
    step = (box[2] - box[0]) / (len(points) - 1)
    for p, point in enumerate(points):
        if p % every == 0:
            canvas.text(box[0] + p * step, box[3] + size + 4, point, size=size, color=GREY, align="center")
    for values, color in zip(series.values(), colors, strict=True):
        track = [(box[0] + p * step, box[3] - value * height) for p, value in enumerate(values)]
        canvas.path(track, color=color, width=1.8)
        canvas.circle(track[-1], 2.6, fill=color)
        label = f"{values[-1]:g}{unit}"
        canvas.text(
            track[-1][0] + 5, track[-1][1] + 3, label, size=size, color=color, face_name=f"{canvas.family}-bold"
        )


def across(
    canvas: Canvas,
    box: Box,
    values: Mapping[str, float],
    color: Color,
    *,
    top: float,
    unit: str = "",
    size: float = 8,
    label_width: float = 90,
    highlight: Mapping[str, Color] | None = None,
) -> None:
    """Bars from left to right, one under the other."""
    pitch = (box[3] - box[1]) / len(values)
    left = box[0] + label_width
    for index, (name, value) in enumerate(values.items()):
        y = box[1] + index * pitch
        end = left + (box[2] - left - 30) * value / top
        canvas.text(left - 6, y + pitch / 2 + size * 0.35, name, size=size, align="right")
        canvas.rect((left, y + pitch * 0.18, end, y + pitch * 0.82), fill=(highlight or {}).get(name, color))
        strong = f"{canvas.family}-bold"
        canvas.text(end + 4, y + pitch / 2 + size * 0.35, f"{value:g}{unit}", size=size, face_name=strong)


def ring(
    canvas: Canvas, at: tuple[float, float], radius: float, shares: Mapping[str, float], colors: Sequence[Color]
) -> None:
    """A ring of shares, clockwise from the top."""
    total, start = sum(shares.values()), -math.pi / 2
    for value, color in zip(shares.values(), colors, strict=True):
        end = start + 2 * math.pi * value / total
        steps = max(2, int((end - start) / 0.04))
        angles = [start + (end - start) * i / steps for i in range(steps + 1)]
        outer = [(at[0] + radius * math.cos(a), at[1] + radius * math.sin(a)) for a in angles]
        inner = [(at[0] + radius * 0.58 * math.cos(a), at[1] + radius * 0.58 * math.sin(a)) for a in reversed(angles)]
        canvas.path(outer + inner, color="#ffffff", width=1.2, fill=color)
        start = end
