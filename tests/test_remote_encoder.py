"""The remote encoder against a real server on this machine: what is sent, what is made of it, and what goes wrong."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from planted import write_pdf
from tenacity import wait_none

from docsearch.encoders import remote
from docsearch.encoders.remote import RemoteEncoder
from docsearch.errors import EncoderMismatch, ModelUnavailable, UnsupportedInput
from docsearch.index import Index
from docsearch.options import IndexOptions
from docsearch.protocols import Encoder
from docsearch.testing import FakeEncoder
from docsearch.types import PageRef, Query, RenderedPage, Words

KEY = "secret-4711"
WORDS = FakeEncoder()
Reply = tuple[int, dict[str, str], bytes]


class FakeServer:
    """Speaks one of the protocols; a text has the vectors of its words, an image that of its first pixel's colour."""

    def __init__(self, speaks: str) -> None:
        self.speaks = speaks  # jina, openai or vllm
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.first: list[Reply] = []  # given before any real answer
        self.change: Callable[[list[dict[str, Any]]], object] = list  # what becomes of the results
        self.key = ""
        self.most = (100, 10**9)  # inputs and bytes in a request
        self.delay = 0.0
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.bodies.append(body)
                server.headers.append(dict(self.headers))
                status, headers, content = server.reply(self.path, body, self.headers.get("Authorization", ""))
                time.sleep(server.delay)
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(content))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that did not wait
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def reply(self, path: str, body: dict[str, Any], authorization: str) -> Reply:
        if self.first:
            return self.first.pop(0)
        if path != ("/pooling" if self.speaks == "vllm" else "/v1/embeddings"):
            return 404, {}, b"no such path"
        if self.key and authorization != f"Bearer {self.key}":
            return 401, {}, f"wrong key: {authorization}".encode()
        inputs = self.inputs(body)
        if len(inputs) > self.most[0] or sum(len(str(one)) for one in inputs) > self.most[1]:
            return 413, {}, b"too much"
        if self.speaks == "openai" and (unknown := sorted(body.keys() - {"model", "input"})):
            return 400, {}, json.dumps({"error": {"message": f"Unknown parameter: '{unknown[0]}'"}}).encode()
        data = self.change([self.result(at, vectors_of(one)) for at, one in enumerate(inputs)])
        return 200, {}, json.dumps({"object": "list", "data": data}).encode()

    def inputs(self, body: dict[str, Any]) -> list[Any]:
        if "messages" in body:
            (message,) = body["messages"]
            return [{"image": message["content"][0]["image_url"]["url"].removeprefix("data:image/png;base64,")}]
        return body["input"]

    def result(self, index: int, rows: np.ndarray) -> dict[str, Any]:
        if self.speaks == "vllm":
            return {"object": "pooling", "index": index, "data": rows.tolist()}
        if self.speaks == "jina":
            return {"object": "embeddings", "index": index, "embeddings": rows.tolist()}
        return {"object": "embedding", "index": index, "embedding": rows.sum(axis=0).tolist()}


def vectors_of(one: str | dict[str, str]) -> np.ndarray:
    """(T, 32) rows, four times too long: the encoder has to normalise them."""
    if isinstance(one, str):
        return 4 * WORDS._vectors(one.split(), 32)
    pixel = Image.open(io.BytesIO(base64.b64decode(one["image"]))).getpixel((0, 0))
    return 4 * WORDS._vectors([str(pixel)], 32)


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], FakeServer]]:
    """Start servers; their address is in the environment, and nobody waits between tries."""
    started = []

    def start(speaks: str) -> FakeServer:
        server = FakeServer(speaks)
        threading.Thread(target=server.http.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv(remote.URL_VARIABLE, server.url)
        started.append(server)
        return server

    monkeypatch.setattr(remote, "BACKOFF", wait_none())
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv(remote.URL_VARIABLE, raising=False)
    monkeypatch.delenv(remote.KEY_VARIABLE, raising=False)
    yield start
    for server in started:
        server.http.shutdown()
        server.http.server_close()


def words_page(text: str, number: int = 1) -> RenderedPage:
    texts = tuple(text.split())
    return RenderedPage(ref=PageRef("d" * 64, number), words=Words(texts, np.zeros((len(texts), 4), np.uint16)))


def image_page(colour: tuple[int, int, int], number: int = 1) -> RenderedPage:
    return RenderedPage(ref=PageRef("d" * 64, number), image=np.full((20, 10, 3), colour, np.uint8))


# -- what comes out -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("speaks", ["jina", "openai", "vllm"])
def test_the_planted_page_is_found(start, tmp_path: Path, speaks):
    """The whole way, without the help of BM25. A failure means an index built with this server answers wrongly."""
    start(speaks)
    for name in ("lease", "report", "manual"):
        write_pdf(tmp_path / f"{name}.pdf", [f"cover of the {name}", f"only {name} {name}word here"])
    encoder = RemoteEncoder("tiny", reads="words", api="pooling" if speaks == "vllm" else "embeddings")

    with Index.open(tmp_path / "index", encoder=encoder, create=True) as index:
        index.add([tmp_path], IndexOptions(workers=1))
        hits = [index.search(f"{name}word", k=1, mode="visual")[0] for name in ("lease", "report", "manual")]

    assert [(Path(hit.path).stem, hit.page_number) for hit in hits] == [("lease", 2), ("report", 2), ("manual", 2)]
    assert [hit.regions for hit in hits] == [(), (), ()]


@pytest.mark.parametrize(("speaks", "api"), [("jina", "embeddings"), ("vllm", "pooling")])
def test_a_page_is_found_by_its_picture(start, tmp_path: Path, speaks, api):
    """The whole way for a model that looks at the page. A failure means that other pixels are sent than those."""
    start(speaks)
    colours = {"sea": (0, 0, 255), "lawn": (0, 128, 0), "brick": (200, 40, 20)}
    for name, colour in colours.items():
        Image.new("RGB", (60, 80), colour).save(tmp_path / f"{name}.png")

    with Index.open(tmp_path / "index", encoder=RemoteEncoder("tiny", api=api), create=True) as index:
        index.add([tmp_path], IndexOptions(workers=1))
        found = [index.search(image=Image.new("RGB", (9, 9), colour), k=1)[0] for colour in colours.values()]

    assert [Path(hit.path).stem for hit in found] == list(colours)


def test_token_vectors_are_unit_rows_without_a_place(start):
    start("jina")
    encoder = RemoteEncoder("tiny", reads="words")
    words = WORDS._vectors(["red", "green"], 32)

    page, blank = encoder.encode_pages([words_page("red green"), words_page("", 2)])

    assert isinstance(encoder, Encoder)
    assert (encoder.name, encoder.token_dim, encoder.dense_dim, encoder.reads) == ("remote:tiny", 32, 32, "words")
    np.testing.assert_allclose(page.tokens, words, atol=1e-6)
    np.testing.assert_allclose(page.dense, words.sum(axis=0) / np.linalg.norm(words.sum(axis=0)), atol=1e-6)
    assert page.boxes.tolist() == [[0, 0, 0, 0]] * 2
    assert (blank.tokens.shape, blank.boxes.shape, blank.dense.tolist()) == ((0, 32), (0, 4), [1.0] + [0.0] * 31)
    assert {array.dtype for array in (page.tokens, page.dense, blank.tokens, blank.dense)} == {np.dtype(np.float32)}


@pytest.mark.parametrize(("speaks", "api"), [("jina", "embeddings"), ("vllm", "pooling")])
def test_an_image_and_a_text_are_one_query(start, speaks, api):
    server = start(speaks)
    encoder = RemoteEncoder("tiny", api=api)
    blue, text = str((0, 0, 255)), ["where", "is"]

    joint, image = encoder.encode_queries(
        [Query("where is", Image.new("RGB", (4, 4), "blue")), Query(image=Image.new("L", (4, 4), 255))]
    )

    np.testing.assert_allclose(joint.tokens, WORDS._vectors([*text, blue], 32), atol=1e-6)
    assert [{type(one) for one in server.inputs(body)} for body in server.bodies[1:3]] == [{str}, {dict}]  # never mixed
    assert (joint.labels, image.labels) == (("text 1", "text 2", "image 1"), ("image 1",))
    both = WORDS._vectors(text, 32).sum(axis=0)
    dense = both / np.linalg.norm(both) + WORDS._vectors([blue], 32)[0]
    np.testing.assert_allclose(joint.dense, dense / np.linalg.norm(dense), atol=1e-6)


def test_an_image_query_is_read_where_words_are_read(start):
    start("jina")
    encoder = RemoteEncoder("tiny", reads="words", query_prefix="query: ")
    image = Image.new("RGB", (4, 4))

    (found,) = encoder.encode_queries([Query(image=image, words=words_page("total due").words)])

    np.testing.assert_allclose(found.tokens, WORDS._vectors(["query:", "total", "due"], 32), atol=1e-6)
    with pytest.raises(UnsupportedInput, match="no words were found"):
        encoder.encode_queries([Query(image=image, words=Words.none())])


def test_results_are_put_in_order_and_padding_is_dropped(start):
    """Servers may answer in any order and fill up a batch with zeros; neither may change a page's vectors."""
    server = start("jina")
    encoder = RemoteEncoder("tiny", reads="words")
    pages = [words_page(text, number) for number, text in enumerate(["a", "b c", "d e f"], 1)]
    plain = encoder.encode_pages(pages)

    def shuffled_and_padded(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [one | {"embeddings": [*one["embeddings"], [0.0] * 32]} for one in (results[1], results[2], results[0])]

    server.change = shuffled_and_padded

    assert [len(page.tokens) for page in plain] == [1, 2, 3]
    for one, other in zip(encoder.encode_pages(pages), plain, strict=True):
        np.testing.assert_array_equal(one.tokens, other.tokens)


# -- what is sent -------------------------------------------------------------------------------------------------


def test_jina_is_asked_for_token_vectors_of_pages_and_queries(start):
    server = start("jina")
    encoder = RemoteEncoder("tiny", key=KEY)
    encoder.encode_pages([image_page((1, 2, 3)), image_page((4, 5, 6), 2)])
    encoder.encode_queries([Query("why?")])

    _, pages, queries = server.bodies
    assert [(name, pages[name]) for name in ("model", "task", "return_multivector")] == [
        ("model", "tiny"), ("task", "retrieval.passage"), ("return_multivector", True),
    ]  # fmt: skip
    assert [list(one) for one in pages["input"]] == [["image"], ["image"]]
    sent = Image.open(io.BytesIO(base64.b64decode(pages["input"][1]["image"])))
    np.testing.assert_array_equal(np.asarray(sent), image_page((4, 5, 6)).image)
    assert queries == {"model": "tiny", "input": ["why?"], "return_multivector": True, "task": "retrieval.query"}
    assert {headers["Authorization"] for headers in server.headers} == {f"Bearer {KEY}"}


def test_a_strict_server_is_asked_without_what_it_does_not_know_and_once_only(start):
    server = start("openai")
    encoder = RemoteEncoder("tiny", reads="words", page_prefix="passage: ")
    (page,) = encoder.encode_pages([words_page("red green half\ud800")])

    assert [sorted(body) for body in server.bodies] == [
        ["input", "model", "return_multivector", "task"],
        ["input", "model", "task"],
        ["input", "model"],
        ["input", "model"],
    ]
    assert server.bodies[-1]["input"] == ["passage: red green half?"]
    assert page.tokens.shape == (1, 32)
    np.testing.assert_array_equal(page.tokens[0], page.dense)


def test_vllm_is_asked_for_token_embed_with_one_image_a_request(start):
    server = start("vllm")
    encoder = RemoteEncoder("tiny", api="pooling")
    pages = encoder.encode_pages([image_page((1, 2, 3)), image_page((4, 5, 6), 2)])

    assert server.bodies[0] == {"model": "tiny", "task": "token_embed", "input": [remote.PROBE]}
    assert [sorted(body) for body in server.bodies[1:]] == [["messages", "model", "task"]] * 2
    np.testing.assert_allclose(pages[1].tokens, WORDS._vectors([str((4, 5, 6))], 32), atol=1e-6)


def test_batches_are_bounded_by_number_and_by_bytes(start, monkeypatch):
    server = start("jina")
    encoder = RemoteEncoder("tiny", batch_size=3)
    pages = [image_page((number, 0, 0), number) for number in range(1, 8)]
    encoder.encode_pages(pages)
    assert [len(body["input"]) for body in server.bodies] == [1, 3, 3, 1]

    monkeypatch.setattr(remote, "BATCH_BYTES", 2 * len(server.bodies[1]["input"][0]["image"]) + 8)
    encoder.encode_pages(pages)
    assert [len(body["input"]) for body in server.bodies[4:]] == [2, 2, 2, 1]


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
def test_an_address_may_end_as_openai_writes_it(start, suffix):
    server = start("jina")

    assert RemoteEncoder("tiny", url=server.url + suffix).token_dim == 32


# -- what an index may know ---------------------------------------------------------------------------------------


def test_neither_address_nor_key_is_stored_or_taken_from_an_index(start):
    """A failure means that an index from a stranger could have a query or a key sent somewhere."""
    server = start("jina")
    encoder = RemoteEncoder("tiny", key=KEY, reads="words", query_prefix="Query: ", timeout=5, batch_size=2)

    assert encoder.settings == {
        "api": "embeddings", "reads": "words", "query_prefix": "Query: ", "page_prefix": "", "timeout": 5,
        "batch_size": 2,
    }  # fmt: skip
    for text in (repr(encoder), encoder.fingerprint, encoder.name, repr(encoder.settings)):
        assert KEY not in text
        assert str(server.http.server_port) not in text
    again = RemoteEncoder.from_settings("tiny", json.loads(json.dumps(encoder.settings)))
    assert (again.fingerprint, again.settings) == (encoder.fingerprint, encoder.settings)
    for name in ("url", "key"):
        with pytest.raises(ModelUnavailable, match=f"takes no {name} from an index"):
            RemoteEncoder.from_settings("tiny", {**encoder.settings, name: "http://127.0.0.1:1"})


def test_a_fingerprint_names_what_vectors_depend_on(start, tmp_path: Path):
    start("jina")
    plain = RemoteEncoder("tiny", reads="words")
    others = [
        RemoteEncoder("tiny"),
        RemoteEncoder("other", reads="words"),
        RemoteEncoder("tiny", reads="words", page_prefix="passage: "),
        RemoteEncoder("tiny", reads="words", query_prefix="query: "),
    ]
    start("openai")
    others.append(RemoteEncoder("tiny", reads="words"))

    assert plain.fingerprint == plain.fingerprint
    assert len({encoder.fingerprint for encoder in (plain, *others)}) == 6
    Index.create(tmp_path / "index", encoder=plain).close()
    with Index.open(tmp_path / "index", encoder=others[-1]) as index, pytest.raises(EncoderMismatch):
        index.search("anything", mode="visual")


# -- what goes wrong ----------------------------------------------------------------------------------------------


def test_what_may_pass_is_tried_again(start):
    server = start("jina")
    server.first = [(503, {}, b"starting"), (503, {}, b"starting")]

    assert RemoteEncoder("tiny").token_dim == 32
    assert len(server.bodies) == 3


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_no_more_than_five_times(start, status):
    server = start("jina")
    server.first = [(status, {}, b"overloaded")] * 9

    with pytest.raises(ModelUnavailable, match=rf"answered {status}: overloaded \(tried 5 times\)"):
        RemoteEncoder("tiny")
    assert len(server.bodies) == 5


def test_a_server_that_is_not_there_or_does_not_answer(start):
    server = start("jina")
    encoder = RemoteEncoder("tiny", timeout=0.05)
    server.delay = 0.2

    with pytest.raises(ModelUnavailable, match=r"cannot be reached: timed out \(tried 5 times\)"):
        encoder.encode_queries([Query("why?")])
    with pytest.raises(ModelUnavailable, match=r"cannot be reached: .*refused"):
        RemoteEncoder("tiny", url="http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("1", 1.0), ("0", 0.0), (formatdate(time.time() - 99, usegmt=True), 0.0), ("soon", None), ("", None)],
)
def test_retry_after_is_understood(header, seconds):
    assert remote._retry_after(header) == seconds


def test_retry_after_may_be_a_date():
    assert remote._retry_after(formatdate(time.time() + 60, usegmt=True)) == pytest.approx(60, abs=2)


def test_a_server_is_given_the_time_it_asks_for(start, monkeypatch):
    """A failure means that a server that limits its clients is asked too early, or that somebody waits for hours."""
    server = start("jina")
    server.first = [(429, {"Retry-After": "1"}, b"slow down")]
    started = time.monotonic()
    encoder = RemoteEncoder("tiny")
    assert 1.0 <= time.monotonic() - started < 2.5

    server.first = [(429, {"Retry-After": "7200"}, b"quota used up")]
    with pytest.raises(ModelUnavailable, match=r"quota used up, and asks to wait 7200 s \(tried 1 times\)"):
        encoder.encode_queries([Query("why?")])


@pytest.mark.parametrize("status", [401, 403])
def test_a_missing_or_wrong_key_is_told_by_the_name_of_its_variable(start, monkeypatch, status):
    server = start("jina")
    server.first = [(status, {}, f"Bearer {KEY} is wrong".encode())]
    monkeypatch.setenv(remote.KEY_VARIABLE, KEY)

    with pytest.raises(ModelUnavailable, match=remote.KEY_VARIABLE) as caught:
        RemoteEncoder("tiny")
    assert KEY not in str(caught.value)
    assert len(server.bodies) == 1


def test_the_key_comes_from_the_environment_and_is_never_said(start, monkeypatch):
    server = start("jina")
    server.key = KEY
    monkeypatch.setenv(remote.KEY_VARIABLE, f" {KEY}\n")
    encoder = RemoteEncoder("tiny")

    server.first = [(404, {}, f"no model for\x1b[2J {KEY}".encode())]
    with pytest.raises(ModelUnavailable, match=r"404: no model for \[2J \[key\]; is /v1/embeddings the place"):
        encoder.encode_queries([Query("why?")])
    with pytest.raises(ModelUnavailable, match=remote.KEY_VARIABLE) as caught:
        RemoteEncoder("tiny", key="two\nlines")
    assert "lines" not in str(caught.value)


def test_redirects_are_not_followed(start):
    """A failure means that a key can be led to another host."""
    other, server = start("jina"), start("jina")
    server.first = [(307, {"Location": f"{other.url}/v1/embeddings"}, b"")]

    with pytest.raises(ModelUnavailable, match=f"sends us elsewhere .307.*{remote.URL_VARIABLE}"):
        RemoteEncoder("tiny", key=KEY)
    assert other.bodies == []


@pytest.mark.parametrize("url", [None, "", "localhost:8000", "::", "ftp://host", "http://"])
def test_an_address_is_needed(start, url):
    with pytest.raises(ModelUnavailable, match=remote.URL_VARIABLE):
        RemoteEncoder("tiny", url=url)


def test_a_batch_that_is_too_large_is_halved(start):
    server = start("jina")
    encoder = RemoteEncoder("tiny", reads="words", batch_size=8)
    pages = [words_page(f"word{number}", number) for number in range(1, 8)]
    whole = encoder.encode_pages(pages)
    server.most = (2, 10**9)
    del server.bodies[:]

    halved = encoder.encode_pages(pages)

    assert [len(body["input"]) for body in server.bodies] == [7, 3, 1, 2, 4, 2, 2]
    for one, other in zip(halved, whole, strict=True):
        np.testing.assert_array_equal(one.tokens, other.tokens)


def test_a_page_that_is_too_large_alone_is_named(start):
    server = start("jina")
    encoder = RemoteEncoder("tiny", reads="words")
    server.most = (100, 20)

    with pytest.raises(UnsupportedInput, match=r"page dddddddddddd#2: too large .* 413: too much \(too_large\)"):
        encoder.encode_pages([words_page("short"), words_page("long " * 20, 2)])


def test_a_page_that_is_refused_is_named(start):
    """Here the server's 422 is for whatever is not text, as it is where a model takes no images."""
    server = start("jina")
    encoder = RemoteEncoder("tiny")
    server.first = [(422, {}, b"x" * 1000)] * 2

    with pytest.raises(ModelUnavailable, match=r'page dddddddddddd#1 cannot .* 422: x{300}; .* reads="words"$'):
        encoder.encode_pages([image_page((1, 2, 3)), image_page((4, 5, 6), 2)])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda results: results[:1], 'need a list "data" of 2 results'),
        (lambda results: [*results, results[0]], 'need a list "data" of 2 results'),
        (lambda results: "vectors", 'need a list "data" of 2 results'),
        (lambda results: [results[0], results[0]], "not numbered from 0 to 1"),
        (lambda results: [results[0], None], "not numbered from 0 to 1"),
        (lambda results: [results[0], {"index": [1]}], "unhashable"),
        (lambda results: [results[0], {"index": 1}], "neither a vector"),
        (lambda results: [results[0], results[1] | {"embeddings": []}], "neither a vector"),
        (lambda results: [results[0], results[1] | {"embeddings": [[0.0] * 32]}], "neither a vector"),
        (lambda results: [results[0], results[1] | {"embeddings": [[float("nan")] * 32]}], "all finite"),
        (lambda results: [results[0], results[1] | {"embeddings": [[1e99] * 32]}], "all finite"),
        (lambda results: [results[0], results[1] | {"embeddings": [["a"] * 32]}], "could not convert"),
        (lambda results: [results[0], results[1] | {"embeddings": "AAAA"}], "could not convert"),
        (lambda results: [results[0], results[1] | {"embeddings": [[1.0] * 32, [1.0]]}], "inhomogeneous"),
        (lambda results: [results[0], results[1] | {"embeddings": [[[1.0]]]}], "neither a vector"),
        (lambda results: [results[0], results[1] | {"embeddings": [[1.0] * 16]}], "token vectors of 16 numbers, where"),
        (lambda results: [results[0], results[1] | {"embeddings": [1.0] * 32}], "a vector of 32 numbers, where"),
    ],
)
def test_an_answer_that_is_none_is_an_error(start, change, problem):
    """A failure means that vectors of something else go into an index, or that a user sees a traceback."""
    server = start("jina")
    encoder = RemoteEncoder("tiny", reads="words")
    server.change = change

    with pytest.raises(ModelUnavailable, match=problem):
        encoder.encode_pages([words_page("one"), words_page("two", 2)])


@pytest.mark.parametrize("content", [b"<html>welcome</html>", b"\xff\xfe", b""])
def test_an_answer_that_is_no_json(start, content):
    start("jina").first = [(200, {}, content)]

    with pytest.raises(ModelUnavailable, match="sent no JSON"):
        RemoteEncoder("tiny")


@pytest.mark.parametrize("option", [{"api": "chat"}, {"reads": "pdf"}, {"timeout": 0}, {"batch_size": 0}])
def test_options_out_of_range(start, option):
    with pytest.raises(ValueError, match="api is embeddings or pooling"):
        RemoteEncoder("tiny", **option)
