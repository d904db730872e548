"""`embed`: what the published embeddings API answers, field by field, computed here."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from planted import write_pdf
from test_cli import run

from docsearch.embed import embed
from docsearch.encoders import load_encoder
from docsearch.errors import UnsupportedInput
from docsearch.testing import FakeEncoder

TINY = Path(__file__).parent / "data" / "tiny_jina_v4"


@pytest.fixture(scope="module")
def jina() -> Any:
    return load_encoder(f"jina-v4:{TINY}", device="cpu")


def dense(answer: dict[str, Any]) -> np.ndarray:
    return np.array([item["embedding"] for item in answer["data"]])


def test_texts_images_and_every_page_of_a_file_in_order(tmp_path: Path):
    pdf = write_pdf(tmp_path / "two.pdf", ["harbour valve", "winter report"])
    answer = embed(["winter report", pdf], model=FakeEncoder())

    assert (answer["object"], answer["model"]) == ("list", "fake")
    assert [(item["object"], item["index"]) for item in answer["data"]] == [("embedding", at) for at in range(3)]
    vectors = dense(answer)
    assert np.allclose(vectors[0], vectors[2])  # the same words
    assert answer["usage"] == {"prompt_tokens": 6, "total_tokens": 6, "image_tokens": 4}


@pytest.mark.parametrize(
    "task", ["text-matching", "retrieval.query", "retrieval.passage", "code.query", "code.passage"]
)
def test_a_task_is_an_adapter_and_a_side(jina: Any, task: str):
    adapter, _, side = task.partition(".")
    answer = embed(["who signed?"], model=jina, task=task)  # type: ignore[arg-type]

    assert np.allclose(
        dense(answer), jina.model.encode_text(["who signed?"], task=adapter, prompt_name=side or "query")
    )


def test_dimensions_are_the_first_ones_made_unit_again(jina: Any):
    whole, cut = dense(embed(["a"], model=jina)), dense(embed(["a"], model=jina, dimensions=5))

    assert cut.shape == (1, 5)
    assert np.allclose(cut[0], whole[0, :5] / np.linalg.norm(whole[0, :5]))


def test_embedding_types_say_the_same(jina: Any):
    whole = dense(embed(["a text"], model=jina))[0]
    packed = embed(["a text"], model=jina, embedding_type="base64")["data"][0]["embedding"]
    signs = np.array(embed(["a text"], model=jina, embedding_type="ubinary")["data"][0]["embedding"], np.uint8)
    shifted = np.array(embed(["a text"], model=jina, embedding_type="binary")["data"][0]["embedding"])

    assert np.array_equal(np.frombuffer(base64.b64decode(packed), "<f4"), whole.astype(np.float32))
    assert np.array_equal(np.unpackbits(signs).astype(bool), whole > 0)
    assert np.array_equal(shifted, signs.astype(int) - 128)


def test_multivectors_are_the_token_vectors(jina: Any):
    picture = Image.new("RGB", (90, 120), "navy")
    answer = embed(["a", picture], model=jina, task="retrieval.passage", return_multivector=True)
    text, image = jina.model.encode(["a", np.asarray(picture)], prompt_name="passage")

    assert [item["object"] for item in answer["data"]] == ["embeddings", "embeddings"]
    assert np.allclose(answer["data"][0]["embeddings"], text.tokens, atol=1e-6)
    assert np.allclose(answer["data"][1]["embeddings"], image.tokens, atol=1e-5)
    assert answer["usage"]["image_tokens"] == len(image.tokens)


def test_a_text_that_is_too_long_is_cut_only_where_allowed(jina: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("docsearch.encoders.jina_v4.jina.MAX_LENGTH", 20)
    monkeypatch.setattr("docsearch.encoders.jina_v4.encoder.MAX_LENGTH", 20)

    with pytest.raises(UnsupportedInput, match="truncate"):
        embed(["x" * 100], model=jina)
    assert embed(["x" * 100], model=jina, truncate=True)["usage"]["prompt_tokens"] == 20


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"task": "retrieval"}, "choose one of text-matching, retrieval.query"),
        ({"embedding_type": "int4"}, "choose one of float"),
        ({"dimensions": 0}, "1 to 48"),
        ({"dimensions": 49}, "1 to 48"),
        ({"dimensions": 8, "return_multivector": True}, "cannot be used"),
    ],
)
def test_a_wrong_field_is_explained(fields: dict[str, Any], said: str):
    with pytest.raises(ValueError, match=said):
        embed(["a"], model=FakeEncoder(), **fields)


def test_bad_inputs_are_named(tmp_path: Path):
    (tmp_path / "no.pdf").write_bytes(b"%PDF-1.7 nothing")

    with pytest.raises(UnsupportedInput, match="input 2"):
        embed(["a", "  "], model=FakeEncoder())
    with pytest.raises(UnsupportedInput, match=r"no\.pdf"):
        embed([tmp_path / "no.pdf"], model=FakeEncoder())
    with pytest.raises(FileNotFoundError, match=r"gone\.pdf"):
        embed([tmp_path / "gone.pdf"], model=FakeEncoder())


def test_a_text_is_never_opened(tmp_path: Path):
    pdf = write_pdf(tmp_path / "two.pdf", ["harbour", "valve"])

    assert len(embed([str(pdf)], model=FakeEncoder())["data"]) == 1


def test_the_command_prints_what_the_library_returns(tmp_path: Path):
    pdf = write_pdf(tmp_path / "two.pdf", ["harbour", "valve"])
    ended = run("embed", "who signed?", "--file", str(pdf), "--type", "binary", "--dimensions", "64")
    wrong, nothing = run("embed", "a", "--task", "x"), run("embed")

    assert json.loads(ended.out) == embed(["who signed?", pdf], embedding_type="binary", dimensions=64)
    assert (wrong.code, nothing.code) == (2, 2)
    assert "nothing to embed" in nothing.err
