"""Encode on a server: an OpenAI- or Jina-shaped embeddings endpoint, or the pooling endpoint of vLLM."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from itertools import chain, compress
from typing import Any, Literal, Self

import httpx2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from docsearch.errors import ModelUnavailable, UnsupportedInput
from docsearch.types import PageVectors, Query, QueryVectors, RenderedPage

URL_VARIABLE, KEY_VARIABLE = "DOCSEARCH_REMOTE_URL", "DOCSEARCH_REMOTE_KEY"
PATHS = {"embeddings": "/v1/embeddings", "pooling": "/pooling"}
PROBE = "How long is a token vector?"  # its answer tells the dimensions
BATCH_BYTES = 16 * 2**20  # of images, as base64, in one request; a larger image goes alone
TRIES = 5
BACKOFF = wait_random_exponential(multiplier=1, max=30)  # seconds, where the server does not name a time
LONGEST_WAIT = 120.0  # seconds; a server that wants us to wait longer is given up

Float = NDArray[np.float32]
Task = Literal["retrieval.passage", "retrieval.query"]


class RemoteEncoder:
    """Asks a server for the vectors of a model that need not fit on this machine.

    Neither the address nor the key is ever stored in an index: they come from the environment of whoever searches, so
    that an index from a stranger cannot send a query or a key anywhere. Redirects are not followed for the same
    reason, and no message holds the key.

    With ``api="embeddings"``, pages are asked for with the task ``retrieval.passage``, queries with
    ``retrieval.query``, both with ``return_multivector``. A server that refuses one of these fields by name is asked
    without it from then on. One that gives single vectors gives each page and each part of a query that one as its
    only token vector: it works, but is no late interaction. With ``api="pooling"``, vLLM is asked for ``token_embed``;
    it puts images, one a request, into the model's chat template and texts into nothing: use the prefixes.

    The dense vector is the normalised mean of the token vectors, so D = E. No server says where on the page a token
    stands, so token vectors cover nothing and hits have no regions. Images travel as PNG, without loss. Where words are
    read, a page without any has no token vectors, and the first axis as its dense vector.

    A batch the server refuses is halved until what it refuses is alone and can be named. Safe to share between threads.

    Args:
        model: what the server calls it.
        url: the server's address, with or without ``/v1``; None takes ``DOCSEARCH_REMOTE_URL``.
        key: sent as a bearer token; None takes ``DOCSEARCH_REMOTE_KEY``, and none is sent where that is not set.
        api: ``embeddings`` (``POST /v1/embeddings``) or ``pooling`` (``POST /pooling``).
        reads: ``image`` sends the picture of a page, ``words`` its words, for a model that takes texts only.
        query_prefix: put before the text of a query, for a model that wants one its server does not add.
        page_prefix: the same for the words of a page.
        timeout: seconds without a sign of the server before it is asked again.
        batch_size: inputs in one request; more costs memory on both sides.

    Raises:
        ModelUnavailable: there is no address, or no usable answer from there to one short text.
    """

    modalities = frozenset({"text", "image"})

    def __init__(
        self,
        model: str,
        *,
        url: str | None = None,
        key: str | None = None,
        api: Literal["embeddings", "pooling"] = "embeddings",
        reads: Literal["image", "words"] = "image",
        query_prefix: str = "",
        page_prefix: str = "",
        timeout: float = 60.0,
        batch_size: int = 8,
    ) -> None:
        if api not in PATHS or reads not in {"image", "words"} or timeout <= 0 or batch_size < 1:
            raise ValueError(
                "api is embeddings or pooling, reads is image or words, timeout and batch_size are positive"
            )
        self.name, self.reads = f"remote:{model}", reads
        self._model, self._api, self._timeout, self._batch_size = model, api, timeout, batch_size
        self._query_prefix, self._page_prefix = query_prefix, page_prefix
        self._server = _Server(url or os.environ.get(URL_VARIABLE), key or os.environ.get(KEY_VARIABLE), api, timeout)
        self._fields = ["return_multivector", "task"] if api == "embeddings" else []  # those not every server knows
        self._form: tuple[int, int] | None = None  # axes of a result (1: a single vector) and length of a vector
        self._form = self._probe()
        self.token_dim = self.dense_dim = self._form[1]

    @classmethod
    def from_settings(cls, model: str, settings: Mapping[str, Any]) -> Self:
        """The encoder an index was built with; address and key come from the environment, nowhere else.

        Raises:
            ModelUnavailable: there is no usable server, or the settings hold something else, such as an address.
        """
        if strange := set(settings) - {"api", "reads", "query_prefix", "page_prefix", "timeout", "batch_size"}:
            raise ModelUnavailable(f"remote:{model} takes no {', '.join(sorted(strange))} from an index")
        return cls(model, **settings)

    @property
    def settings(self) -> Mapping[str, Any]:
        """What `from_settings` needs beside the model's name; never the address, never the key."""
        prefixes = {"query_prefix": self._query_prefix, "page_prefix": self._page_prefix}
        numbers = {"timeout": self._timeout, "batch_size": self._batch_size}
        return {"api": self._api, "reads": self.reads} | prefixes | numbers

    @property
    def fingerprint(self) -> str:
        """Changes with what is asked for: model, endpoint, fields, prefixes, and the form and length of the vectors.

        It does not notice other weights, another precision or another pixel budget behind the same name. Vectors differ
        a little from one machine to the next, so their digits cannot be part of a name.
        """
        asked = [self._model, self._api, self._fields, self.reads, self._query_prefix, self._page_prefix, self._form, 1]
        return "remote-" + hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]

    def encode_pages(self, pages: Sequence[RenderedPage]) -> list[PageVectors]:
        """Token vectors and a dense vector for every page in order.

        Raises:
            ModelUnavailable: the server does not answer, or not with vectors of the form it gave before.
            UnsupportedInput: a page is too large for the server; the message names it.
        """
        filled = [self.reads == "image" or bool(page.words.texts) for page in pages]
        results = self._embed(map(self._page_input, compress(pages, filled)), "retrieval.passage")
        nothing = np.zeros((0, self.token_dim), np.float32)
        tokens = [next(results) if any_input else nothing for any_input in filled]
        return [PageVectors(rows, _mean(rows), np.zeros((len(rows), 4), np.uint16)) for rows in tokens]

    def encode_queries(self, queries: Sequence[Query]) -> list[QueryVectors]:
        """Token vectors, labelled ``text 1`` or ``image 7``, and a dense vector for every query in order.

        Raises:
            ModelUnavailable: as for pages.
            UnsupportedInput: a query too large for the server, or an image without words where words are read.
        """
        parts = [self._query_inputs(query) for query in queries]
        results = self._embed(chain.from_iterable(parts), "retrieval.query")
        return [_join([(one, next(results)) for one in part]) for part in parts]

    def _page_input(self, page: RenderedPage) -> _Input:
        if self.reads == "words":
            return _text(f"page {page.ref}", self._page_prefix + page.words.text)
        assert page.image is not None
        return _image(f"page {page.ref}", Image.fromarray(page.image))

    def _query_inputs(self, query: Query) -> list[_Input]:
        """The text of a query, then its image or the words on that; a joint query has both."""
        inputs = []
        if query.text and query.text.strip():
            inputs.append(_text("query text", self._query_prefix + query.text))
        if query.image is not None and self.reads == "image":
            inputs.append(_image("query image", query.image))
        elif query.words is not None and query.words.texts:
            inputs.append(_text("query image", self._query_prefix + query.words.text))
        if not inputs:
            message = f"no words were found on it, and {self.name} reads words; add a text to the query"
            raise UnsupportedInput("query image", "empty", message)
        return inputs

    def _probe(self) -> tuple[int, int]:
        """Ask for one short text, without the fields this server refuses by name, and see what comes back."""
        probe = [_text("a short text", PROBE)]
        while True:
            try:
                (result,) = self._results(probe, "retrieval.passage")
            except _Refused as refused:
                known = [name for name in self._fields if name not in str(refused)]
                if known == self._fields:
                    raise ModelUnavailable(f"{self.name} cannot be used: {refused}") from refused
                self._fields = known
            else:
                return result.ndim, result.shape[-1]

    def _embed(self, inputs: Iterable[_Input], task: Task) -> Iterator[Float]:
        """The (T, D) unit rows of every input in order; one batch of images is held in memory at a time."""
        size = 1 if self._api == "pooling" else self._batch_size  # images in a request
        for batch in _batches(inputs, {"text": self._batch_size, "image": size}):
            yield from self._embed_batch(batch, task)

    def _embed_batch(self, batch: Sequence[_Input], task: Task) -> list[Float]:
        try:
            return [_unit(result) for result in self._results(batch, task)]
        except _Refused as refused:
            if len(batch) > 1:
                middle = len(batch) // 2
                return self._embed_batch(batch[:middle], task) + self._embed_batch(batch[middle:], task)
            if refused.status == 413:
                raise UnsupportedInput(batch[0].name, "too_large", f"too large for the server: {refused}") from refused
            hint = '; for a model that takes texts only, reads="words"' if batch[0].kind == "image" else ""
            raise ModelUnavailable(f"{batch[0].name} cannot be encoded: {refused}{hint}") from refused

    def _results(self, batch: Sequence[_Input], task: Task) -> list[Float]:
        """What the server makes of each input: (T, D) token vectors, or (D,) where it gives a single vector."""
        answer = self._server.post(self._body(batch, task))
        try:
            return _read(answer, len(batch), self._form)
        except (TypeError, ValueError) as error:
            problem = f"{self._server.name} sent no usable vectors for {batch[0].name}: {error}"
            raise ModelUnavailable(f"{problem}; is {self._model} an embedding model, and api={self._api!r}?") from error

    def _body(self, batch: Sequence[_Input], task: Task) -> dict[str, Any]:
        if self._api == "embeddings":
            values = {"return_multivector": True, "task": task}
            inputs = [one.content if one.kind == "text" else {"image": one.content} for one in batch]
            return {"model": self._model, "input": inputs} | {name: values[name] for name in self._fields}
        body: dict[str, Any] = {"model": self._model, "task": "token_embed"}
        if batch[0].kind == "text":
            return body | {"input": [one.content for one in batch]}
        picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{batch[0].content}"}}
        return body | {"messages": [{"role": "user", "content": [picture]}]}


@dataclass(frozen=True, slots=True)
class _Input:
    """One thing to encode: a text, or an image as base64; ``name`` is what messages call it."""

    name: str
    kind: Literal["text", "image"]
    content: str


def _text(name: str, text: str) -> _Input:
    return _Input(name, "text", text.encode(errors="replace").decode())  # half a surrogate pair is no UTF-8


def _image(name: str, image: Image.Image) -> _Input:
    stream = io.BytesIO()
    image.convert("RGB").save(stream, "PNG", compress_level=1)
    return _Input(name, "image", base64.b64encode(stream.getvalue()).decode())


def _batches(inputs: Iterable[_Input], sizes: Mapping[str, int]) -> Iterator[list[_Input]]:
    """Neighbours of one kind, as many as go into one request by their number and their bytes."""
    batch: list[_Input] = []
    for one in inputs:
        size = sum(len(other.content) for other in batch) + len(one.content)
        if batch and (one.kind != batch[0].kind or len(batch) == sizes[one.kind] or size > BATCH_BYTES):
            yield batch
            batch = []
        batch.append(one)
    if batch:
        yield batch


def _read(answer: Any, n: int, form: tuple[int, int] | None) -> list[Float]:
    """The n results in the order of the inputs, checked; ``form`` is what the probe found, None for the probe itself.

    Raises:
        ValueError: the answer is something else; so does TypeError.
    """
    items = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(items, list) or len(items) != n:
        raise ValueError(f'{n} inputs need a list "data" of {n} results')
    by_index = {item.get("index", at): item for at, item in enumerate(items) if isinstance(item, dict)}
    if by_index.keys() != set(range(n)):
        raise ValueError(f"the results are not numbered from 0 to {n - 1}")
    results = []
    for at in range(n):
        found = [by_index[at][name] for name in ("embeddings", "embedding", "data") if name in by_index[at]]
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused below
            result = np.array(found[0] if found else None, np.float32)
        if result.ndim not in {1, 2} or not np.isfinite(result).all() or not result.any():
            raise ValueError("a result is neither a vector nor a list of them, all finite and not all zero")
        if form not in {None, (result.ndim, result.shape[-1])}:
            was, now = ("a vector" if axes == 1 else "token vectors" for axes in (form[0], result.ndim))
            raise ValueError(f"{now} of {result.shape[-1]} numbers, where it gave {was} of {form[1]} before")
        results.append(result)
    return results


def _unit(result: Float) -> Float:
    """(T, D) unit rows of a result; rows of zeros, with which some servers fill up a batch, are left out."""
    rows = np.atleast_2d(result).astype(np.float64)
    rows = rows[rows.any(axis=1)]
    unit: Float = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


def _mean(rows: Float) -> Float:
    """(E,) unit mean; the first axis where there is none."""
    mean = rows.sum(axis=0, dtype=np.float64)
    length = np.linalg.norm(mean)
    dense: Float = (mean / length if length > 0 else np.eye(1, rows.shape[1])[0]).astype(np.float32)
    return dense


def _join(parts: Sequence[tuple[_Input, Float]]) -> QueryVectors:
    """Join the parts of a query: the token vectors of all, and the mean of their dense vectors."""
    labels = [f"{one.name.removeprefix('query ')} {at}" for one, rows in parts for at in range(1, len(rows) + 1)]
    dense = _mean(np.stack([_mean(rows) for _, rows in parts]))
    return QueryVectors(np.concatenate([rows for _, rows in parts]), dense, tuple(labels))


class _TryAgain(Exception):
    """Something that may pass; ``wait`` is how long the server asks us to, in seconds."""

    def __init__(self, problem: str, wait: float | None = None) -> None:
        super().__init__(problem)
        self.wait = wait


class _Refused(Exception):
    """The server will not take this body: too large, too many inputs, or fields it does not know."""

    def __init__(self, status: int, problem: str) -> None:
        super().__init__(problem)
        self.status = status


class _Server:
    """One endpoint: posts, asks again where that may help, and never says the key."""

    def __init__(self, url: str | None, key: str | None, api: str, timeout: float) -> None:
        if not url:
            raise ModelUnavailable(
                f"a remote encoder needs a server: set {URL_VARIABLE} to its address, such as http://localhost:8000, "
                f"and {KEY_VARIABLE} to a key if it wants one; --encoder words needs no server"
            )
        self._key = (key or "").strip()
        if not (self._key.isascii() and self._key.isprintable()):
            raise ModelUnavailable(f"{KEY_VARIABLE} holds characters that no key may have: set it again")
        try:
            base = httpx2.URL(url.strip())
            self._endpoint = base.copy_with(path=base.path.rstrip("/").removesuffix("/v1") + PATHS[api])
        except httpx2.InvalidURL:
            base = httpx2.URL("")
        if base.scheme not in {"http", "https"} or not base.host:
            raise ModelUnavailable(f"{URL_VARIABLE} is no web address: write it like http://localhost:8000")
        self.name = f"{base.scheme}://{base.netloc.decode()}"  # without what may stand before the host: a password
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        self._client = httpx2.Client(headers=headers, timeout=timeout, follow_redirects=False)
        weakref.finalize(self, self._client.close)

    def post(self, body: Mapping[str, Any]) -> Any:
        """The answer as JSON.

        Raises:
            _Refused: another body may be taken.
            ModelUnavailable: no answer, also not after `TRIES` tries, or none that can be used.
        """
        retrying = Retrying(
            stop=stop_after_attempt(TRIES), wait=_pause, retry=retry_if_exception(_may_pass), reraise=True
        )
        try:
            return retrying(self._post_once, body)
        except _TryAgain as error:
            asked = f", and asks to wait {error.wait:.0f} s" if error.wait else ""
            tries = f"tried {retrying.statistics['attempt_number']} times"
            raise ModelUnavailable(f"{error}{asked} ({tries}): try later, or check {URL_VARIABLE}") from error

    def _post_once(self, body: Mapping[str, Any]) -> Any:
        try:
            response = self._client.post(self._endpoint, json=body)
        except httpx2.RequestError as error:
            raise _TryAgain(f"{self.name} cannot be reached: {str(error) or type(error).__name__}") from error
        status = response.status_code
        if response.is_success:
            try:
                return response.json()
            except ValueError as error:
                raise ModelUnavailable(f"{self.name} sent no JSON: is that an embeddings server?") from error
        problem = f"{self.name} answered {status}: {self._said(response)}"
        if status in {429, 500, 502, 503, 504}:
            raise _TryAgain(problem, _retry_after(response.headers.get("Retry-After", "")))
        if status in {400, 413, 422}:
            raise _Refused(status, problem)
        if status in {401, 403}:
            raise ModelUnavailable(f"{self.name} does not let us in ({status}): set {KEY_VARIABLE} to a key it accepts")
        if response.is_redirect:
            raise ModelUnavailable(
                f"{self.name} sends us elsewhere ({status}), which is not followed, so that a key stays where it "
                f"belongs: set {URL_VARIABLE} to the final address"
            )
        raise ModelUnavailable(f"{problem}; is {self._endpoint.path} the place, and the model's name right?")

    def _said(self, response: httpx2.Response) -> str:
        """The beginning of what the server says, in one printable line without the key."""
        text = response.text.replace(self._key, "[key]") if self._key else response.text
        return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:300] or response.reason_phrase


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, _TryAgain) and (error.wait or 0) <= LONGEST_WAIT


def _pause(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.wait if isinstance(error, _TryAgain) else None
    return BACKOFF(state) if asked is None else asked


def _retry_after(value: str) -> float | None:
    """Seconds from now, of a header in seconds or as a date (RFC 9110, 10.2.3); None where it says neither."""
    try:
        wait = float(value) if value.isdecimal() else parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, OverflowError):
        return None
    return max(wait, 0.0)
