"""The embedded default encoder: reads the words of a page, and needs no download, no GPU and no torch."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from safetensors.numpy import load_file

from docsearch.encoders.words.tokenizer import Pieces, WordTokenizer
from docsearch.errors import UnsupportedInput
from docsearch.types import PageVectors, Query, QueryVectors, RenderedPage, Words

WEIGHTS = Path(__file__).parent / "weights"
WINDOW = 256  # pieces the model reads at once, prefix and specials among them
WINDOWS_PER_RUN = 8  # bounds the memory of a very long page
MAX_QUERY_TOKENS = 256  # token vectors of a query; the rerank costs time in proportion
HIDDEN, TOKEN_DIM, DENSE_DIM = 384, 128, 256

Float = NDArray[np.float32]


class WordsEncoder:
    """Words in, token vectors out: multilingual-e5-small, its last layer projected to 128 dimensions.

    A page is its words, from the text layer or from OCR, read in windows of at most 256 pieces. Every piece of a word
    gives one token vector, whose box is its share of the word's box. The dense vector is the mean of the last layer
    over the whole page, projected to 256 dimensions. A page without words has no token vectors, and the first axis as
    its dense vector.

    A query is text, an image, or both. Of an image this encoder reads the words (``Query.words``); text and image
    together have the token vectors of both, text first, and the normalised mean of both dense vectors. A query of more
    than 256 pieces is read whole, and then 256 token vectors spread evenly over it are kept.

    Every page is computed on its own, so its vectors never depend on what else is in the call. Safe to share between
    threads.

    Args:
        threads: pages computed side by side, each on one core; None takes every core this process may use.
        weights: the folder written by ``tools/export_words.py``.
    """

    name = "words"
    settings: ClassVar[Mapping[str, Any]] = {}
    token_dim = TOKEN_DIM
    dense_dim = DENSE_DIM
    modalities = frozenset({"text", "image"})
    reads = "words"

    def __init__(self, *, threads: int | None = None, weights: Path = WEIGHTS) -> None:
        self._threads = threads or len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else [0] * 4)
        self._tokenizer = WordTokenizer(weights / "tokenizer.json")
        self._session = _open_session(weights / "model.onnx")
        self._projections = load_file(weights / "projection.safetensors")
        self._bos, self._eos = self._tokenizer.id_of("<s>"), self._tokenizer.id_of("</s>")
        self._prefixes = {kind: self._tokenizer.encode([f"{kind}:"]).ids for kind in ("passage", "query")}
        self.fingerprint = _fingerprint(weights)

    def encode_pages(self, pages: Sequence[RenderedPage]) -> list[PageVectors]:
        """Token vectors with their boxes, and a dense vector, for every page in order."""
        pieces = [self._tokenizer.encode(page.words.texts) for page in pages]
        readings = self.last_layers([part.ids for part in pieces], "passage")
        return [
            PageVectors(
                tokens=self._project(hidden, "tokens.page"),
                dense=self._dense([hidden], "dense.page"),
                regions=piece_boxes(page.words, part),
            )
            for page, part, hidden in zip(pages, pieces, readings, strict=True)
        ]

    def encode_queries(self, queries: Sequence[Query]) -> list[QueryVectors]:
        """Token vectors with their labels, and a dense vector, for every query in order.

        Raises:
            UnsupportedInput: a query without a readable word, such as an image that shows none.
        """
        parts = [_query_words(query) for query in queries]
        pieces = [[self._tokenizer.encode(words) for words in part] for part in parts]
        for query, part in zip(queries, pieces, strict=True):
            if not any(len(one) for one in part):
                raise _nothing_to_read(query)
        readings = iter(self.last_layers([one.ids for part in pieces for one in part], "query"))
        return [
            self._query_vectors(words, part, [next(readings) for _ in part])
            for words, part in zip(parts, pieces, strict=True)
        ]

    def last_layers(self, texts: Sequence[NDArray[np.int64]], kind: Literal["passage", "query"]) -> list[Float]:
        """The last layer, (T, 384) float32, of every text of T piece ids; one text shares no run with another."""
        plans = [self._plan(ids, kind) for ids in texts]
        runs = [batch for batches, _ in plans for batch in batches]
        if self._threads == 1 or len(runs) == 1:
            outputs = [self._run(batch) for batch in runs]
        else:
            with ThreadPoolExecutor(self._threads) as pool:
                outputs = list(pool.map(self._run, runs))
        done = iter(outputs)
        return [
            np.concatenate([np.zeros((0, HIDDEN), np.float32), *(next(done) for _ in batches)])[kept]
            for batches, kept in plans
        ]

    def _plan(
        self, ids: NDArray[np.int64], kind: Literal["passage", "query"]
    ) -> tuple[list[NDArray[np.int64]], NDArray[np.bool_]]:
        """Batches (windows, length) of ids to run, and which of their rows, laid end to end, are the text's own."""
        prefix = self._prefixes[kind]
        around = len(prefix) + 2
        starts, length = window_starts(len(ids), WINDOW - around)
        batch = np.full((len(starts), length + around), self._eos, np.int64)
        batch[:, 0], batch[:, 1 : around - 1] = self._bos, prefix
        places = starts[:, None] + np.arange(length)
        batch[:, around - 1 : -1] = ids[places]
        kept = np.zeros(batch.shape, bool)
        ends = np.concatenate([[0], starts[:-1] + length])  # where windows overlap, the earlier one is taken
        kept[:, around - 1 : -1] = places >= ends[:, None]
        cuts = range(0, len(batch), WINDOWS_PER_RUN)
        return [batch[cut : cut + WINDOWS_PER_RUN] for cut in cuts], kept.reshape(-1)

    def _run(self, batch: NDArray[np.int64]) -> Float:
        hidden: Float = self._session.run(["hidden"], {"ids": batch})[0]
        return hidden.reshape(-1, HIDDEN)

    def _project(self, rows: Float, side: str) -> Float:
        """(N, 384) -> (N, D) unit rows; ``side`` is tokens or dense, of a page or a query: each has its own mean."""
        projected = rows @ self._projections[f"{side.split('.', 1)[0]}.weight"] + self._projections[side]
        unit: Float = projected / np.maximum(np.linalg.norm(projected, axis=1, keepdims=True), 1e-9)
        return unit

    def _dense(self, readings: Sequence[Float], side: str) -> Float:
        """(256,) unit: the normalised mean of the readings' dense vectors; the first axis for nothing to read."""
        means = [hidden.mean(axis=0) for hidden in readings if len(hidden)]
        if not means:
            return np.array([1] + [0] * (DENSE_DIM - 1), np.float32)
        mean = self._project(np.stack(means), side).mean(axis=0)
        unit: Float = mean / np.linalg.norm(mean)
        return unit

    def _query_vectors(
        self, words: Sequence[tuple[str, ...]], pieces: Sequence[Pieces], readings: Sequence[Float]
    ) -> QueryVectors:
        """Join text and image, and thin a long query out to ``MAX_QUERY_TOKENS`` rows."""
        tokens = self._project(np.concatenate(readings), "tokens.query")
        labels = [
            texts[word][start:end]
            for texts, part in zip(words, pieces, strict=True)
            for word, (start, end) in zip(part.words, part.spans, strict=True)
        ]
        kept = np.arange(len(tokens))
        if len(tokens) > MAX_QUERY_TOKENS:
            kept = np.linspace(0, len(tokens) - 1, MAX_QUERY_TOKENS).astype(np.int64)
        dense = self._dense(readings, "dense.query")
        return QueryVectors(tokens=tokens[kept], dense=dense, labels=tuple(labels[row] for row in kept))


def window_starts(n: int, size: int) -> tuple[NDArray[np.int64], int]:
    """Cover n pieces with as few windows as possible, all of one length of at most ``size``.

    Returns:
        Where each window starts, and their length. Neighbours overlap by a piece where n does not divide evenly.
    """
    windows = -(-n // size)
    if windows == 0:
        return np.zeros(0, np.int64), 0
    length = -(-n // windows)
    return np.linspace(0, n - length, windows).astype(np.int64), length


def piece_boxes(words: Words, pieces: Pieces) -> NDArray[np.uint16]:
    """(T, 4) boxes of the pieces: each is its share of its word's box, cut along the word by characters.

    A word much taller than wide is cut from top to bottom: it is written downwards, as Chinese and Japanese may be.
    """
    if len(pieces) == 0:
        return np.zeros((0, 4), np.uint16)
    boxes = words.boxes[pieces.words].astype(np.float64)
    lengths = np.array([len(text) for text in words.texts])[pieces.words]
    shares = pieces.spans / lengths[:, None]
    rows = np.arange(len(boxes))
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    axis = ((height > 2 * width) & (lengths > 1)).astype(np.int64)  # 0: left to right, 1: top to bottom
    first, extent = boxes[rows, axis], np.where(axis == 0, width, height)
    boxes[rows, axis] = first + extent * shares[:, 0]
    boxes[rows, axis + 2] = first + extent * shares[:, 1]
    return np.round(boxes).astype(np.uint16)


def _open_session(path: Path) -> ort.InferenceSession:
    """The model, its weights mapped from the files beside it. A run stays on the thread that calls it."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _fingerprint(weights: Path) -> str:
    """Changes with any file of the weights (by the checksums in the manifest) and with the settings above."""
    files = json.loads((weights / "manifest.json").read_text())["files"]
    settings = {name: entry["sha256"] for name, entry in files.items()} | {"window": WINDOW, "code": 1}
    return "words-" + hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def _query_words(query: Query) -> list[tuple[str, ...]]:
    """The words of each part of a query that has any: its text, its image."""
    text = tuple(query.text.split()) if query.text else ()
    image = query.words.texts if query.words is not None else ()
    return [words for words in (text, image) if words]


def _nothing_to_read(query: Query) -> UnsupportedInput:
    if query.image is None:
        return UnsupportedInput("query text", "empty", "it holds no readable character; ask with words")
    return UnsupportedInput(
        "query image",
        "empty",
        "no words were found on it, and the words encoder reads nothing else; add a text to the query, "
        "or search figures and photographs with an encoder that looks at the page, such as jina-v4",
    )
