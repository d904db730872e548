"""Where on the page the answer is: how much each word matters, boxes, a snippet, a heat map.

All of it comes from the vectors that are stored; no page is encoded again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from docsearch.store.terms import plain_terms
from docsearch.types import BOX_UNIT, QueryVectors, Region, Words

_SNIPPET_CHARACTERS = 160
_MOST_REGIONS = 3
_HEAT_CELLS = 96  # across the page
_STRONGEST = 256  # token vectors that are looked at word by word
_PASSAGE, _PASSAGE_POWER = 24, 12  # token vectors to either side, and how much the passage counts: benchmarks/places.py
_LONGEST_WORD = 24  # characters; what is longer is a line of Chinese or Japanese


def token_relevance(query: NDArray[np.float32], tokens: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much each token vector of a page answers the query, (T,) in [0, 1].

    For every query token, a page token counts by how far its similarity rises above the page's average for that query
    token, relative to the best one's, to the fourth power: what matters is the peak, as in MaxSim itself. That is
    weighted by what the passage around the token answers, MaxSim within 24 tokens before and after: a word that is
    alone on the page with the answer to "the" is not where the question is answered.

    Args:
        query: (Tq, D) rows.
        tokens: (T, D) unit rows, in reading order.
    """
    if not len(tokens):
        return np.zeros(0, np.float32)
    similarity = tokens @ query.T  # (T, Tq)
    rise = np.maximum(similarity - similarity.mean(axis=0), 0)
    peak = rise.max(axis=0)
    relative = (rise / np.maximum(peak, 1e-6)) ** 4
    own = (relative * peak).sum(axis=1) / max(float(peak.sum()), 1e-6)
    passage = sliding_max(rise, _PASSAGE).sum(axis=1)
    total: NDArray[np.float32] = own * (passage / max(float(passage.max()), 1e-6)) ** _PASSAGE_POWER
    return total


def sliding_max(rows: NDArray[np.float32], reach: int) -> NDArray[np.float32]:
    """The largest of each column among the rows from ``reach`` before to ``reach`` after each row; (T, N), not negative."""
    widest = np.pad(rows, ((reach, reach), (0, 0)))
    span, wanted = 1, 2 * reach + 1
    while span < wanted:
        step = min(span, wanted - span)
        widest = np.maximum(widest[:-step], widest[step:])
        span += step
    return widest


def word_relevance(words: Words, relevance: NDArray[np.float32], boxes: NDArray[np.uint16]) -> NDArray[np.float32]:
    """The relevance of each word, (N,): the most that any token vector has whose centre lies in the word's box."""
    if not len(words.texts) or not len(relevance):
        return np.zeros(len(words.texts), np.float32)
    strongest = np.argsort(-relevance)[:_STRONGEST]
    result: NDArray[np.float32] = (_inside(words, boxes[strongest]) * relevance[strongest]).max(axis=1)
    return result


def widened(words: Words, relevance: NDArray[np.float32], boxes: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """The boxes (T, 4) of the most relevant token vectors grown to their whole words, unless a word is a whole line."""
    if not len(words.texts) or not len(relevance):
        return boxes
    strongest = np.argsort(-relevance)[:_STRONGEST]
    inside = _inside(words, boxes[strongest])  # (N, S)
    word = inside.argmax(axis=0)
    short = np.array([len(text) <= _LONGEST_WORD for text in words.texts])
    grown = inside.any(axis=0) & short[word]
    result = boxes.copy()
    result[strongest[grown]] = words.boxes[word[grown]]
    return result


def term_relevance(words: Words, terms: list[str]) -> NDArray[np.float32]:
    """1 for each word that holds one of the query's terms, else 0: where words were matched and nothing else."""
    wanted = {part for term in terms for part in plain_terms(term)}
    return np.array([bool(wanted & plain_terms(text)) for text in words.texts], np.float32)


def snippet(words: Words, relevance: NDArray[np.float32]) -> str:
    """The stretch of the page's text that holds the most relevance, cut at words, with … where it is cut."""
    if not words.texts:
        return ""
    lengths = np.cumsum([0, *(len(text) + 1 for text in words.texts)])
    mass = np.concatenate([[0.0], np.cumsum(relevance.astype(np.float64))])
    ends = np.maximum(np.searchsorted(lengths, lengths[:-1] + _SNIPPET_CHARACTERS, side="right") - 1, 1)
    ends = np.maximum(ends, np.arange(len(ends)) + 1)
    start = int(np.argmax(mass[ends] - mass[:-1]))
    end = int(ends[start])
    heavy = np.flatnonzero(relevance[start:end] > 0)
    if heavy.size:  # centre what matters
        spare = (end - start) - (heavy[-1] + 1 - heavy[0])
        start = max(0, start + int(heavy[0]) - int(spare) // 3)
        end = max(int(ends[start]), start + 1)
    text = " ".join(words.texts[start:end])
    if len(text) > 2 * _SNIPPET_CHARACTERS:  # a line of Chinese is one word
        text = text[: 2 * _SNIPPET_CHARACTERS] + "…"
    return ("… " if start else "") + text + (" …" if end < len(words.texts) else "")


def regions(relevance: NDArray[np.float32], boxes: NDArray[np.uint16]) -> tuple[Region, ...]:
    """The best places of the page, best first, at most three: neighbouring boxes of relevant tokens, joined.

    Args:
        relevance: (T,) of each token vector or word.
        boxes: (T, 4) uint16 of the same; empty ones are no place.
    """
    placed = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]) & (relevance > 0)
    chosen = np.flatnonzero(placed & (relevance >= 0.25 * relevance.max(initial=0.0)))
    chosen = chosen[np.argsort(-relevance[chosen])][:48]
    groups: list[tuple[NDArray[np.int64], float]] = []
    for at in chosen:
        edges, score = boxes[at].astype(np.int64), float(relevance[at])
        near = [group for group in groups if _touch(group[0], edges)]
        for other, other_score in near:
            edges = np.concatenate([np.minimum(edges[:2], other[:2]), np.maximum(edges[2:], other[2:])])
            score += other_score
        groups = [group for group in groups if not any(group is other for other in near)]
        groups.append((edges, score))
    groups.sort(key=lambda group: -group[1])
    best = groups[0][1] if groups else 1.0
    return tuple(
        Region(_fractions(edges), round(score / best, 4))
        for edges, score in groups[:_MOST_REGIONS]
        if score >= best / 5
    )


def best_matches(
    query: QueryVectors, tokens: NDArray[np.float32], boxes: NDArray[np.uint16], words: Words
) -> list[tuple[str, float, str]]:
    """For every token of the query: its label, its best similarity on the page, and the word it was found at."""
    if not len(tokens):
        return [(label, 0.0, "") for label in query.labels]
    similarity = query.tokens @ tokens.T  # (Tq, T)
    best = similarity.argmax(axis=1)
    return [
        (label, float(similarity[at, best[at]]), _word_at(words, boxes[best[at]]))
        for at, label in enumerate(query.labels)
    ]


def heat(relevance: NDArray[np.float32], boxes: NDArray[np.uint16], *, rows: int, cols: int) -> NDArray[np.float32]:
    """A (rows, cols) picture of the relevance in [0, 1]: each cell shows the strongest box that covers it."""
    picture = np.zeros((rows, cols), np.float32)
    scaled = boxes / BOX_UNIT * [cols, rows, cols, rows]  # (T, 4)
    for strength, (left, top, right, bottom) in zip(relevance, scaled, strict=True):
        area = (
            slice(int(top), max(int(np.ceil(bottom)), int(top) + 1)),
            slice(int(left), max(int(np.ceil(right)), int(left) + 1)),
        )
        if right > left and bottom > top:
            picture[area] = np.maximum(picture[area], strength)
    peak = picture.max()
    return picture / peak if peak > 0 else picture


def draw_regions(page: NDArray[np.uint8], places: tuple[Region, ...]) -> Image.Image:
    """The page with its regions marked like with a highlighter: (H, W, 3) RGB in, a picture out."""
    picture = Image.fromarray(page)
    overlay = Image.new("RGBA", picture.size, (0, 0, 0, 0))
    pen = ImageDraw.Draw(overlay)
    for place in places:
        left, top, right, bottom = (edge * size for edge, size in zip(place.box, picture.size * 2, strict=True))
        pad = max(2, picture.height // 300)
        pen.rounded_rectangle(
            (left - pad, top - pad, right + pad, bottom + pad),
            radius=2 * pad,
            fill=(255, 214, 0, 40 + int(50 * place.score)),
            outline=(230, 120, 0, 255),
            width=max(1, pad // 2),
        )
    return Image.alpha_composite(picture.convert("RGBA"), overlay).convert("RGB")


def draw_heat(page: NDArray[np.uint8], relevance: NDArray[np.float32], boxes: NDArray[np.uint16]) -> Image.Image:
    """The page greyed, with warm colours where the answer is: (H, W, 3) RGB in, a picture out."""
    height, width = page.shape[:2]
    cols = _HEAT_CELLS
    picture = heat(relevance, boxes, rows=max(1, round(cols * height / width)), cols=cols)
    smooth = Image.fromarray((picture * 255).astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    strength = np.asarray(smooth, np.float32)[..., None] / 255  # (H, W, 1)
    grey = page.mean(axis=2, keepdims=True) * 0.6 + 255 * 0.4
    colour = np.concatenate([np.full_like(strength, 255), 235 - 200 * strength, 80 - 80 * strength], axis=2)
    opacity = np.clip(strength * 1.6, 0, 0.75)
    return Image.fromarray(
        (grey * (1 - opacity) + colour * opacity * np.minimum(1, grey / 200)).clip(0, 255).astype(np.uint8)
    )


def _inside(words: Words, boxes: NDArray[np.uint16]) -> NDArray[np.bool_]:
    """(N, S) whether the centre of each of S boxes lies in each word's box."""
    x, y = ((boxes[:, :2].astype(np.uint32) + boxes[:, 2:]) // 2).astype(np.uint16).T  # (S,) each
    left, top, right, bottom = words.boxes.T[..., None]  # (N, 1) each
    within: NDArray[np.bool_] = left <= x
    for edge in (x <= right, top <= y, y <= bottom):
        within &= edge
    return within


def _touch(one: NDArray[np.int64], other: NDArray[np.int64]) -> bool:
    """Whether two boxes belong to one passage: at most a line apart, and a few words."""
    line = min(one[3] - one[1], other[3] - other[1])
    across = max(one[0], other[0]) - min(one[2], other[2])
    down = max(one[1], other[1]) - min(one[3], other[3])
    return bool(down < line and across < 8 * line)


def _fractions(edges: NDArray[np.int64]) -> tuple[float, float, float, float]:
    left, top, right, bottom = (round(float(edge) / BOX_UNIT, 4) for edge in edges)
    return left, top, right, bottom


def _word_at(words: Words, box: NDArray[np.uint16]) -> str:
    """The word whose box holds the middle of the given one, or nothing."""
    x, y = (int(box[0]) + int(box[2])) // 2, (int(box[1]) + int(box[3])) // 2
    left, top, right, bottom = words.boxes.T
    found = np.flatnonzero((left <= x) & (x <= right) & (top <= y) & (y <= bottom))
    return words.texts[int(found[0])] if found.size else ""
