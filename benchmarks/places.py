"""Whether the marked places of a page are where the answer stands: questions of the sample documents, passages by hand.

    PYTHONPATH=. python benchmarks/places.py

`sample_docs/places.jsonl` names for each question its page, and the first and last words of what answers it there.
first: the best region holds a word of the passage; any: one of the (at most three) regions does; precision: the share
of the marked words that belong to it; snippet: the snippet holds a word of four letters or more from it.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np

from docsearch import Index, Query
from docsearch.retriever import explain
from docsearch.types import BOX_UNIT, Region, Words

SAMPLES = Path(__file__).resolve().parent.parent / "sample_docs"


def main() -> None:
    """Index the samples, look at every labelled page, print the shares."""
    labels = [json.loads(line) for line in (SAMPLES / "places.jsonl").read_text().splitlines()]
    counts = np.zeros(4)
    with tempfile.TemporaryDirectory() as folder, Index.open(Path(folder) / "index", create=True) as index:
        index.add(SAMPLES)
        snapshot = index._read().snapshot  # noqa: SLF001 - the stored vectors
        for label in labels:
            record = index.page(f"{index.paths.source_name(SAMPLES / label['page'])}")
            words = record.words
            row = int(snapshot.rows_of(np.array([record.page_id]))[0])
            boxes = snapshot.boxes(row)
            (query,) = index.encoder.encode_queries([Query(label["text"])])
            relevance = explain.token_relevance(query.tokens, snapshot.tokens(row))
            places = explain.regions(relevance, explain.widened(words, relevance, boxes))
            snippet = explain.snippet(words, explain.word_relevance(words, relevance, boxes))
            counts += judge(words, passage(words, label["from"], label["to"]), places, snippet)
    shares = counts / len(labels)
    print(f"{len(labels)} questions: first {shares[0]:.2f}, any {shares[1]:.2f}, precision {shares[2]:.2f}, "
          f"snippet {shares[3]:.2f}")  # fmt: skip


def passage(words: Words, first: str, last: str) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """(N,) which words belong to the passage between two runs of words, both included."""
    texts = list(words.texts)

    def find(run: list[str], start: int) -> int:
        return next(at for at in range(start, len(texts)) if texts[at : at + len(run)] == run)

    start = find(first.split(), 0)
    end = find(last.split(), start) + len(last.split())
    inside = np.zeros(len(texts), bool)
    inside[start:end] = True
    return inside


def judge(
    words: Words, wanted: np.ndarray[tuple[int], np.dtype[np.bool_]], places: tuple[Region, ...], snippet: str
) -> tuple[bool, bool, float, bool]:
    """First, any, precision, snippet of one question."""
    centres = (words.boxes[:, :2].astype(float) + words.boxes[:, 2:]) / 2 / BOX_UNIT
    marked = [((centres >= place.box[:2]) & (centres <= place.box[2:])).all(axis=1) for place in places]
    together = np.any(marked, axis=0) if marked else np.zeros(len(wanted), bool)
    shown = any(text in snippet for text, own in zip(words.texts, wanted, strict=True) if own and len(text) >= 4)
    first = bool(marked and (marked[0] & wanted).any())
    return first, bool((together & wanted).any()), float((together & wanted).sum() / max(1, together.sum())), shown


if __name__ == "__main__":
    main()
