"""What to learn from: a BEIR-style folder of documents, queries and judgements, and the examples of every step.

corpus.jsonl      {"_id", "text"} or {"_id", "image"}, a page image in this folder
queries.jsonl     {"_id", "text"}
qrels/train.tsv   query-id, corpus-id, score, with this header; qrels/dev.tsv or qrels/test.tsv are held out
negatives.jsonl   {"query-id", "corpus-ids"}, documents that look right and are not; may be left out
pairs.jsonl       {"a", "b", "score"}, texts and how alike they are, for text-matching; may be all there is
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from docsearch.errors import UnsupportedInput

Kind = Literal["text", "image", "pairs"]
KINDS: tuple[Kind, ...] = ("text", "image", "pairs")
TRAIN, HELD_OUT = "qrels/train.tsv", ("qrels/dev.tsv", "qrels/test.tsv")

Document = str | Path  # a text, or the file of a page image
Judgements = Mapping[str, Mapping[str, int]]  # query → document → grade, above 0
Pair = tuple[str, str, float]  # two texts, and how alike they are
Wrong = Callable[[str], UnsupportedInput]  # makes the error that names a line


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingData:
    """A folder, read and checked: every id that is named exists, every page image is a file in the folder."""

    documents: Mapping[str, Document] = field(default_factory=dict)
    queries: Mapping[str, str] = field(default_factory=dict)
    train: Judgements = field(default_factory=dict)
    held_out: Judgements = field(default_factory=dict)
    negatives: Mapping[str, Sequence[str]] = field(default_factory=dict)
    pairs: Sequence[Pair] = ()
    fingerprint: str = ""  # of the files' bytes, without the images

    def relevant(self, query: str) -> frozenset[str]:
        """Every document known to answer a query."""
        return frozenset({*self.train.get(query, ()), *self.held_out.get(query, ())})

    def pool(self, size: int, *, seed: int) -> list[str]:
        """The documents a held-out query is tried on: all that are judged for one, and others up to ``size``."""
        judged = sorted({document for answers in self.held_out.values() for document in answers})
        others = sorted(self.documents.keys() - judged)
        drawn = np.random.default_rng(seed).permutation(len(others))[: max(0, size - len(judged))]
        return [*judged, *(others[at] for at in drawn)]


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """What one part of the loss is made of.

    Attributes:
        kind: what the documents are; ``pairs`` are texts with ``labels``.
        queries: N texts.
        documents: M of them: that of query i is number i, the hard negatives of all come after the N.
        ignored: (N, M) bool, the document answers the query too, so it is no negative.
        labels: N similarities, of pairs.
    """

    kind: Kind
    queries: tuple[str, ...]
    documents: tuple[Document, ...]
    ignored: torch.Tensor
    labels: tuple[float, ...] = ()


class Sampler:
    """Draws the examples of a kind. Those of a step depend on the data, the seed and the step alone.

    Every pass over the data is in a new order; what is left over at its end, too few for a batch, is left out.

    Args:
        data: what to draw from.
        kind: of the documents.
        batch_size: N, less where there is not so much.
        hard_negatives: at most so many of each query.
        seed: of every choice.

    Raises:
        ValueError: the data has nothing of the kind.
    """

    def __init__(
        self, data: TrainingData, kind: Kind, *, batch_size: int, hard_negatives: int = 0, seed: int = 0
    ) -> None:
        self._data, self._kind, self._seed, self._hard_negatives = data, kind, seed, hard_negatives
        self._of_kind = {name for name, document in data.documents.items() if _kind(document) == kind}
        self._queries = [query for query, answers in data.train.items() if self._of_kind & answers.keys()]
        self._n = len(data.pairs if kind == "pairs" else self._queries)
        if not self._n:
            raise ValueError(f"there is nothing of the kind {kind!r} to learn from")
        self._size = min(batch_size, self._n)

    def draw(self, step: int) -> Examples:
        """The examples of a step, from 0."""
        epoch, batch = divmod(step, self._n // self._size)
        choices = [self._seed, KINDS.index(self._kind), epoch]
        order = np.random.default_rng(choices).permutation(self._n)
        chosen = order[batch * self._size : (batch + 1) * self._size]
        if self._kind == "pairs":
            firsts, seconds, labels = zip(*(self._data.pairs[at] for at in chosen), strict=True)
            return Examples("pairs", firsts, seconds, torch.zeros(len(chosen), len(chosen), dtype=torch.bool), labels)
        return self._retrieval([self._queries[at] for at in chosen], np.random.default_rng([*choices, batch + 1]))

    def _retrieval(self, queries: list[str], rng: np.random.Generator) -> Examples:
        data = self._data
        answers = [sorted(self._of_kind & data.train[query].keys()) for query in queries]
        documents = [names[rng.integers(len(names))] for names in answers]
        for query in queries:
            wrong = [name for name in data.negatives.get(query, ()) if name in self._of_kind - data.relevant(query)]
            documents += [wrong[at] for at in rng.permutation(len(wrong))[: self._hard_negatives]]
        ignored = [
            [name in data.relevant(query) and at != row for at, name in enumerate(documents)]
            for row, query in enumerate(queries)
        ]
        texts = tuple(data.queries[query] for query in queries)
        return Examples(self._kind, texts, tuple(data.documents[name] for name in documents), torch.tensor(ignored))


def read_data(folder: Path) -> TrainingData:
    """Read a folder.

    Raises:
        UnsupportedInput: a file is missing or wrong; the message names the file and the line.
    """
    there = {name: (folder / name).exists() for name in ("pairs.jsonl", "negatives.jsonl", TRAIN)}
    pairs = _pairs(folder) if there["pairs.jsonl"] else ()
    if pairs and not there[TRAIN]:
        return TrainingData(pairs=pairs, fingerprint=_fingerprint(folder))
    documents, queries = _documents(folder), _queries(folder)
    held_out = next((name for name in HELD_OUT if (folder / name).exists()), None)
    return TrainingData(
        documents=documents,
        queries=queries,
        train=_judgements(folder / TRAIN, queries, documents),
        held_out=_judgements(folder / held_out, queries, documents) if held_out else {},
        negatives=_negatives(folder, queries, documents) if there["negatives.jsonl"] else {},
        pairs=pairs,
        fingerprint=_fingerprint(folder),
    )


def _documents(folder: Path) -> dict[str, Document]:
    documents: dict[str, Document] = {}
    for wrong, record in _records(folder / "corpus.jsonl"):
        document: Document = _text(wrong, record, "image" if "image" in record else "text")
        if "image" in record:
            document = folder / document
            if not document.resolve().is_relative_to(folder.resolve()):
                raise wrong(f"the image {record['image']} is not in this folder")
            if not document.is_file():
                raise wrong(f"there is no image {record['image']}")
        documents[_new_id(wrong, record, documents)] = document
    return documents


def _queries(folder: Path) -> dict[str, str]:
    queries: dict[str, str] = {}
    for wrong, record in _records(folder / "queries.jsonl"):
        queries[_new_id(wrong, record, queries)] = _text(wrong, record, "text")
    return queries


def _judgements(path: Path, queries: Container[str], documents: Container[str]) -> Judgements:
    """Grades of 0 and below say that a document is no answer; they are checked and left out."""
    found: dict[str, dict[str, int]] = defaultdict(dict)
    lines = _lines(path)
    wrong, header = next(lines, (partial(_wrong, path, 1), ""))
    if header.split() != ["query-id", "corpus-id", "score"]:
        raise wrong("the first line must be query-id, corpus-id, score, with tabs between")
    for wrong, line in lines:
        fields = line.split("\t")
        if len(fields) != 3 or not fields[2].strip().lstrip("-").isdecimal():
            raise wrong("a judgement is a query's id, a document's id and a whole number, with tabs between")
        query, document = _known(wrong, fields[0], queries, "query"), _known(wrong, fields[1], documents, "document")
        if int(fields[2]) > 0:
            found[query][document] = int(fields[2])
    return dict(found)


def _negatives(folder: Path, queries: Container[str], documents: Container[str]) -> dict[str, list[str]]:
    found = {}
    for wrong, record in _records(folder / "negatives.jsonl"):
        names = record.get("corpus-ids")
        if not isinstance(names, list):
            raise wrong("corpus-ids must be a list of documents' ids")
        query = _known(wrong, record.get("query-id"), queries, "query")
        found[query] = [_known(wrong, name, documents, "document") for name in names]
    return found


def _pairs(folder: Path) -> list[Pair]:
    found = []
    for wrong, record in _records(folder / "pairs.jsonl"):
        score = record.get("score")
        if not isinstance(score, int | float):
            raise wrong("score must be a number")
        found.append((_text(wrong, record, "a"), _text(wrong, record, "b"), float(score)))
    return found


def _records(path: Path) -> Iterator[tuple[Wrong, dict[str, Any]]]:
    for wrong, line in _lines(path):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise wrong(f"not JSON: {error.msg}") from error
        if not isinstance(record, dict):
            raise wrong("not a JSON object")
        yield wrong, record


def _lines(path: Path) -> Iterator[tuple[Wrong, str]]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnsupportedInput(str(path), "unsupported", f"cannot be read: {error.strerror}") from error
    for number, line in enumerate(content.splitlines(), 1):
        wrong = partial(_wrong, path, number)
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise wrong("not UTF-8") from error
        if text.strip():
            yield wrong, text


def _wrong(path: Path, line: int, message: str) -> UnsupportedInput:
    return UnsupportedInput(str(path), "corrupt", f"line {line}: {message}")


def _text(wrong: Wrong, record: Mapping[str, Any], key: str) -> str:
    value = record.get(key)
    if not isinstance(value, str) or not value.strip():
        raise wrong(f"{key} must be a text that is not empty")
    return value


def _new_id(wrong: Wrong, record: Mapping[str, Any], known: Container[str]) -> str:
    name = _text(wrong, record, "_id")
    if name in known:
        raise wrong(f"the _id {name} is there already")
    return name


def _known(wrong: Wrong, name: object, known: Container[str], noun: str) -> str:
    if not isinstance(name, str) or name not in known:
        raise wrong(f"there is no {noun} {name!r}")
    return name


def _kind(document: Document) -> Kind:
    return "image" if isinstance(document, Path) else "text"


def _fingerprint(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.jsonl"), *folder.glob("qrels/*.tsv")]):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]
