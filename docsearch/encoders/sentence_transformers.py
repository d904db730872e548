"""Any late-interaction checkpoint that sentence-transformers loads. The only module that knows that library."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError

from docsearch.errors import ModelUnavailable, UnsupportedInput
from docsearch.types import PageVectors, PatchGrid, Query, QueryVectors, RenderedPage, Words

try:
    from huggingface_hub import snapshot_download
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.multi_vector_encoder.interpretability import get_n_patches
    from sentence_transformers.multi_vector_encoder.modules import BaseTokenPooling
except ImportError as error:
    raise ModelUnavailable(
        f"sentence-transformers 6.2 or later is not here ({error}): "
        "install it with `pip install 'docsearch-engine[sentence-transformers]'`"
    ) from error

RANDOM = re.compile(r"^(\S+)\s*\|\s*(MISSING|MISMATCH)", re.MULTILINE)
COLOURS = re.compile(r"\x1b\[[\d;]*m")
UNKNOWN = -1  # the id of a row that stands for no single token
READ = (
    ".json",
    ".jinja",
    "vocab.txt",
    "merges.txt",
    ".model",
    ".metadata",
    ".safetensors",
)  # what of a checkpoint is read, and hashed
SAMPLED_BLOCKS, BLOCK_BYTES = 64, 4096
LOAD_ERRORS = (OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, ImportError, SafetensorError)
OWN_CODE = {"auto_map", "use_kernels", "allow_all_kernels"}  # settings by which a checkpoint brings code, or fetches it
OWN_MODULES = ("sentence_transformers.", "pylate.models.Dense.Dense")  # the latter is read as the library's own Dense

Float = NDArray[np.float32]
Task = Literal["document", "query"]


class SentenceTransformersEncoder:
    """A checkpoint of ``MultiVectorEncoder``: ColBERT-type models read words, ColPali-type models look at the page.

    Vectors are the library's own for the same text or image, with the checkpoint's prompts, masks and query expansion,
    as unit rows. A text longer than the model reads at once is halved between words until every window fits: nothing
    is cut off, the windows' rows are laid end to end, each with its own special tokens. The dense vector is the
    normalised mean of the token vectors. A page without words has no token vectors, and the first axis as its dense
    vector.

    Regions are the words' boxes, or the patch grid of the page's image. Where rows cannot be traced to words or patches
    (special tokens, prompts, pooled rows, chat templates, images cut into tiles) they are zeros.

    A query is text, an image, or both: then it has the token vectors of both, text first, and the normalised mean of
    both dense vectors. Of an image a text model reads the words (``Query.words``); a page model looks at it as at a
    page.

    Every page and query is computed on its own, so its vectors never depend on what else is in the call. Safe to share
    between threads, which take turns.

    Args:
        source: a local folder, or the name of a repository on the Hugging Face hub.
        revision: branch, tag or commit of the repository; None takes the newest one known here.
        device: where the model runs, such as ``"cuda"``; None takes the best device there is.
        batch_size: windows of one page computed at once; more is faster on a GPU and takes more memory.
        download: fetch from the hub what is not in the local cache; otherwise no connection is made.

    Raises:
        ModelUnavailable: the checkpoint is not here, wants to run its own code, has only pickled weights, is not a
            late-interaction model, or cannot be loaded.
    """

    def __init__(
        self,
        source: str,
        *,
        revision: str | None = None,
        device: str | None = None,
        batch_size: int = 8,
        download: bool = False,
    ) -> None:
        folder = _find(source, revision, download=download)
        _refuse_unsafe(folder, source)
        _refuse_untrained(folder, source)
        self._model = _load(folder, source, device)
        self._tokenizer: Any = self._model.tokenizer
        self._pooled = any(isinstance(module, BaseTokenPooling) for module in self._model)
        self._batch_size = batch_size
        self._lock = threading.Lock()
        self._patches = functools.lru_cache(lambda size: get_n_patches(self._model, size))
        self.name = f"sentence-transformers:{source}"
        self.settings: Mapping[str, Any] = {} if revision is None else {"revision": revision}
        self.fingerprint = _fingerprint(folder)
        self.reads = "image" if self._model.supports("image") else "words"
        self.modalities = frozenset({"text", "image"})
        self.token_dim = self.dense_dim = self._encode(["a"], "query")[0].tokens.shape[1]

    def encode_pages(self, pages: Sequence[RenderedPage]) -> list[PageVectors]:
        """Token vectors with their boxes or patches, and a dense vector, for every page in order."""
        return [self._read_image(page) if self.reads == "image" else self._read_words(page.words) for page in pages]

    def encode_queries(self, queries: Sequence[Query]) -> list[QueryVectors]:
        """Token vectors with their labels, and a dense vector, for every query in order.

        Raises:
            UnsupportedInput: a query without a readable word, such as an image that shows none to a text model.
        """
        return [self._read_query(query) for query in queries]

    def _read_words(self, words: Words) -> PageVectors:
        windows = self._windows(words.text, "document")
        readings = self._encode([text for _, text in windows], "document")
        owners = np.array([at for n, text in enumerate(words.texts) for at in [n] * len(text) + [-1]])  # of characters
        boxes = np.zeros((sum(len(reading.tokens) for reading in readings), 4), np.uint16)
        spans = (self._spans(text, reading) + at for (at, text), reading in zip(windows, readings, strict=True))
        for row, (start, end) in enumerate(span for window in spans for span in window):
            standing_in = set(owners[start:end]) - {-1}
            if len(standing_in) == 1:
                boxes[row] = words.boxes[standing_in.pop()]
        return PageVectors(self._joined(readings), self._dense([readings]), boxes)

    def _read_image(self, page: RenderedPage) -> PageVectors:
        images = [] if page.image is None else [Image.fromarray(page.image)]
        readings = self._encode(images, "document")
        tokens = self._joined(readings)
        grids = [self._grid(image.size, reading) for image, reading in zip(images, readings, strict=True)]
        regions = next(filter(None, grids), np.zeros((len(tokens), 4), np.uint16))
        return PageVectors(tokens, self._dense([readings]), regions)

    def _read_query(self, query: Query) -> QueryVectors:
        texts = [query.text or "", query.words.text if query.words is not None and self.reads == "words" else ""]
        parts = [self._encode([text for _, text in self._windows(whole, "query")], "query") for whole in texts]
        if self.reads == "image" and query.image is not None:
            parts.append(self._encode([query.image.convert("RGB")], "document"))
        readings = [reading for part in parts for reading in part]
        tokens = self._joined(readings)
        if not len(tokens):
            raise _nothing_to_read(query, self.name)
        labels = [self._label(token_id) for reading in readings for token_id in reading.ids]
        return QueryVectors(tokens, self._dense(parts), tuple(labels))

    def _encode(self, inputs: Sequence[str | Image.Image], task: Task) -> list[_Reading]:
        """The library's own vectors of texts or images, and the token id each row stands for."""
        if not inputs:
            return []
        encode = self._model.encode_query if task == "query" else self._model.encode_document
        with self._lock:
            outputs: Any = encode(list(inputs), batch_size=self._batch_size, show_progress_bar=False, output_value=None)
        return [_reading(output, traceable=not self._pooled) for output in outputs]

    def _windows(self, text: str, task: Task, at: int = 0) -> list[tuple[int, str]]:
        """Where each window starts, and its text: the whole text if the model reads it at once, else halves of it."""
        if not text.strip():
            return []
        if len(text) == 1 or self._fits(text, task):
            return [(at, text)]
        middle = len(text) // 2
        cut = text.rfind(" ", 1, middle) + 1 or middle  # a word too long for a window is cut through
        return self._windows(text[:cut].rstrip(), task, at) + self._windows(text[cut:], task, at + cut)

    def _fits(self, text: str, task: Task) -> bool:
        """Whether the model reads this text at once, with its prompt and special tokens."""
        reader: Any = self._model[0]
        expansion = getattr(reader, "query_expansion", None) if task == "query" else None
        limit = getattr(reader, f"{task}_length", None) or self._model.max_seq_length
        if expansion and expansion["strategy"] == "fixed":
            limit = expansion["length"]
        if limit is None:
            return True
        whole = {"text": {"truncation": False, "verbose": False}}
        with self._lock:
            ids = self._model.preprocess([text], prompt=self._model.prompts.get(task), processing_kwargs=whole)
        return bool(len(ids["input_ids"][0]) <= limit)

    def _spans(self, text: str, reading: _Reading) -> NDArray[np.int64]:
        """(T, 2) the characters of a page's text each row stands for; from 0 to 0 where that is not known."""
        spans = np.zeros((len(reading.sequence), 2), np.int64)
        if getattr(self._tokenizer, "is_fast", False):
            prompt = self._model.prompts.get("document") or ""
            with self._lock:
                told = self._tokenizer(prompt + text, return_offsets_mapping=True, verbose=False)
            ids = np.array(told["input_ids"])
            padding = len(reading.sequence) - len(ids)
            first = padding if self._tokenizer.padding_side == "left" else 0
            if padding >= 0 and np.array_equal(reading.sequence[first : first + len(ids)], ids):
                spans[first : first + len(ids)] = np.array(told["offset_mapping"]) - len(prompt)
        spans[spans[:, 0] < 0] = 0  # the prompt's tokens and the special ones
        return spans[reading.places] if len(spans) else np.zeros((len(reading.tokens), 2), np.int64)

    def _grid(self, size: tuple[int, int], reading: _Reading) -> PatchGrid | None:
        """Where the patches of an image of (width, height) pixels are among its rows, if there is one row for each."""
        processor: Any = self._model.processor
        try:
            cols, rows = self._patches(size)
        except (NotImplementedError, ValueError, KeyError):  # tiles, or a processor that does not tell
            return None
        patch_id = self._tokenizer.convert_tokens_to_ids(getattr(processor, "image_token", None))
        patches = np.flatnonzero(reading.ids == patch_id)
        if not len(patches) == rows * cols == patches[-1] - patches[0] + 1:
            return None
        return PatchGrid(rows, cols, int(patches[0]))

    def _label(self, token_id: int) -> str:
        return "" if token_id == UNKNOWN else str(self._tokenizer.decode([token_id])).strip()

    def _joined(self, readings: Sequence[_Reading]) -> Float:
        return np.concatenate([reading.tokens for reading in readings] or [np.zeros((0, self.token_dim), np.float32)])

    def _dense(self, parts: Sequence[Sequence[_Reading]]) -> Float:
        """(E,) unit: the normalised mean of the parts' normalised means; the first axis for nothing to read."""
        means = [_unit(tokens.mean(axis=0)) for part in parts if len(tokens := self._joined(part))]
        return _unit(np.mean(means, axis=0)) if means else np.eye(1, self.dense_dim, dtype=np.float32)[0]


@dataclass(frozen=True, slots=True, eq=False)
class _Reading:
    """What the model makes of one text or image.

    Attributes:
        tokens: (T, D) unit rows.
        sequence: (S,) token ids of the model's input, padding among them; empty where rows are not single tokens.
        places: (T,) the place of each row in that sequence.
    """

    tokens: Float
    sequence: NDArray[np.int64]
    places: NDArray[np.int64]

    @property
    def ids(self) -> NDArray[np.int64]:
        """(T,) the token id each row stands for, or ``UNKNOWN``."""
        return self.sequence[self.places] if len(self.sequence) else np.full(len(self.tokens), UNKNOWN)


def _reading(output: Mapping[str, Any], *, traceable: bool) -> _Reading:
    scored = output["attention_mask"].bool()  # the library's last module leaves the rows that count in it
    sequence = output["input_ids"].cpu().numpy() if traceable and "input_ids" in output else np.zeros(0, np.int64)
    return _Reading(
        tokens=_unit(output["token_embeddings"][scored].float().cpu().numpy()),
        sequence=sequence if len(sequence) == len(scored) else sequence[:0],
        places=np.flatnonzero(scored.cpu().numpy()),
    )


def licence_of(source: str, *, revision: str | None = None) -> str | None:
    """What the model card says of the licence, such as ``"apache-2.0"``; None if there is no card here, or no word."""
    try:
        card = (_find(source, revision, download=False) / "README.md").read_text(encoding="utf-8", errors="replace")
    except (ModelUnavailable, OSError):
        return None
    front = re.match(r"---\s*\n(.*?)\n---", card, re.DOTALL)
    lines = (line.partition(":") for line in (front[1] if front else "").splitlines())
    told = {key: value.split(" #")[0].strip(" \"'") for key, _, value in lines}
    named = told.get("license_name") if told.get("license") == "other" else None
    return named or told.get("license") or None


def _find(source: str, revision: str | None, *, download: bool) -> Path:
    """The folder of a checkpoint: as given, or the snapshot of a repository in the local cache."""
    folder = Path(source).expanduser()
    if source and folder.is_dir():
        return folder
    patterns = [*(f"*{ending}" for ending in READ), "README.md"]  # pickles are not even fetched
    try:
        found = snapshot_download(source, revision=revision, local_files_only=not download, allow_patterns=patterns)
    except (OSError, ValueError) as error:
        raise ModelUnavailable(
            f"there is no model {source!r} here: give a folder that exists, or a repository of the Hugging Face hub "
            f"that is in the local cache (`hf download {source}` puts it there); {type(error).__name__}: {error}"
        ) from error
    return Path(found)


def _refuse_unsafe(folder: Path, source: str) -> None:
    """Stop before anything is loaded from a checkpoint that brings code, names code, or has pickles for weights."""
    for path in _files(folder):
        name = path.relative_to(folder).as_posix()
        if path.name == "pytorch_model.bin" and not path.with_name("model.safetensors").exists():
            raise ModelUnavailable(
                f"{source} has its weights in {name}, a pickle, which can run code when it is opened; "
                "use a checkpoint with model.safetensors, or convert this one where you trust it"
            )
        if path.name == "adapter_config.json":
            raise ModelUnavailable(f"{source} is an adapter for another model; merge the two, and use the result")
        if path.suffix == ".json" and (path.name == "modules.json" or "config" in path.name):
            for key, value in _entries(_read_json(path)):
                foreign = path.name == "modules.json" and key == "type" and not str(value).startswith(OWN_MODULES)
                kernel = key.endswith("attn_implementation") and "/" in str(value)  # compiled code from the hub
                if foreign or kernel or (key in OWN_CODE and value):
                    raise ModelUnavailable(
                        f"{source} wants to run its own code ({key} in {name}), which docsearch never does; "
                        "use a checkpoint that sentence-transformers loads without trust_remote_code"
                    )


def _refuse_untrained(folder: Path, source: str) -> None:
    """Stop where the library would put a projection of random numbers on a model that is not late interaction."""
    architectures = _read_json(folder / "config.json").get("architectures") or []
    trained = "HF_ColBERT" in architectures  # the checkpoints of ColBERT's authors
    if modules := _read_json(folder / "modules.json"):
        made = _read_json(folder / "config_sentence_transformers.json")
        early_pylate = "query_prefix" in made and any(module["type"].endswith(".Dense") for module in modules)
        trained |= made.get("model_type") in {"MultiVectorEncoder", "ColBERT"} or early_pylate
    else:
        trained |= any(name.endswith("ForRetrieval") for name in architectures)
    if not trained:
        raise ModelUnavailable(
            f"{source} is not a late-interaction checkpoint, and its token vectors would be random; "
            "use a ColBERT-type or ColPali-type model"
        )


def _load(folder: Path, source: str, device: str | None) -> MultiVectorEncoder:
    said = _Said()
    logger = logging.getLogger("transformers.modeling_utils")
    logger.addHandler(said)
    try:
        loaded = MultiVectorEncoder(
            str(folder),
            device=device,
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"use_safetensors": True},
        )
    except LOAD_ERRORS as error:
        raise ModelUnavailable(f"{source} cannot be loaded: {error}") from error
    finally:
        logger.removeHandler(said)
    random = [name for name, _ in RANDOM.findall(said.text) if "pooler" not in name]  # no token vector needs a pooler
    if random:
        raise ModelUnavailable(f"{source} lacks {random[0]}, which would be random; fetch it again")
    return loaded


class _Said(logging.Handler):
    """What the library says while it loads: that it fills a missing weight with random numbers it only says."""

    text = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message, without its colours."""
        self.text += COLOURS.sub("", record.getMessage()) + "\n"


def _fingerprint(folder: Path) -> str:
    """Changes with any file that shapes the vectors, whatever the folder is called.

    Small files are hashed whole. Of a safetensors file, which may be gigabytes: its size, its header, and 64 blocks of
    4 KiB evenly spread over the rest. Another training run changes them all; a few numbers edited by hand in a file of
    more than 256 KiB may go unnoticed.
    """
    digest = hashlib.sha256(b"1")
    for path in _files(folder):
        if path.name.endswith(READ):
            content = hashlib.sha256()
            for block in _sample(path) if path.suffix == ".safetensors" else [path.read_bytes()]:
                content.update(block)
            name = path.relative_to(folder).as_posix()
            digest.update(f"{name} {path.stat().st_size} {content.hexdigest()}\n".encode())
    return f"sentence-transformers-{digest.hexdigest()[:16]}"


def _sample(path: Path) -> Iterator[bytes]:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = file.read(8)  # of the header, little-endian: the safetensors format
        header = file.read(min(int.from_bytes(length, "little"), size))
        yield length + header
        for at in np.linspace(file.tell(), max(file.tell(), size - BLOCK_BYTES), SAMPLED_BLOCKS).astype(int):
            file.seek(int(at))
            yield file.read(BLOCK_BYTES)


def _files(folder: Path) -> list[Path]:
    """Every file of a checkpoint in a fixed order, without hidden ones: caches and version control."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return [folder / path for path in sorted(found) if not any(part.startswith(".") for part in path.parts)]


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as error:
        raise ModelUnavailable(f"{path} is not JSON: {error}; get the checkpoint again") from error


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key of a JSON value with what it holds, at any depth."""
    if isinstance(value, dict):
        yield from value.items()
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _entries(inner)


def _unit(rows: NDArray[Any]) -> Float:
    """Rows of length 1 in float32; a row of zeros stays one."""
    unit: Float = (rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-9)).astype(np.float32)
    return unit


def _nothing_to_read(query: Query, name: str) -> UnsupportedInput:
    if query.image is None:
        return UnsupportedInput("query text", "empty", "it holds no readable character; ask with words")
    return UnsupportedInput(
        "query image", "empty", f"no words were found on it, and {name} reads nothing else; add a text to the query"
    )
