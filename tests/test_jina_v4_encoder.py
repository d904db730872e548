"""The flagship as an encoder: its patches on the page, its queries, and an index built and searched with it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pymupdf
import pytest
from PIL import Image
from planted import write_pdf
from safetensors.torch import load_file, save_file

from docsearch import Index, load_encoder
from docsearch.encoders import restore_encoder
from docsearch.encoders.jina_v4 import JinaV4, JinaV4Encoder
from docsearch.encoders.jina_v4.inputs import IMAGE_PROMPT
from docsearch.errors import EncoderMismatch, ModelUnavailable
from docsearch.types import PageRef, PatchGrid, Query, RenderedPage

TINY = Path(__file__).parent / "data" / "tiny_jina_v4"


@pytest.fixture(scope="module")
def encoder() -> JinaV4Encoder:
    return JinaV4Encoder(str(TINY), device="cpu")


def rendered(image: np.ndarray, number: int = 1) -> RenderedPage:
    return RenderedPage(ref=PageRef("d" * 64, number), image=image)


def striped(height: int = 300, width: int = 210, step: int = 17) -> np.ndarray:
    image = np.full((height, width, 3), 240, np.uint8)
    image[::step] = (200, 30, 30)
    return image


def test_a_page_has_the_published_rows_and_a_grid_of_its_patches(encoder: JinaV4Encoder):
    (vectors,) = encoder.encode_pages([rendered(striped())])

    assert vectors.regions == PatchGrid(11, 8, 7)  # "user" is four tokens to this tokenizer, one to the genuine one
    prompt = len(encoder.model.reader.tokenizer.encode(IMAGE_PROMPT).ids) - 1
    assert vectors.tokens.shape == (11 * 8 + prompt, 16)
    assert np.allclose(np.linalg.norm(vectors.tokens, axis=1), 1, atol=1e-6)
    boxes = vectors.boxes
    assert not boxes[:7].any()
    assert not boxes[7 + 88 :].any()
    assert boxes[7].tolist() == [0, 0, round(65535 / 8), round(65535 / 11)]
    assert boxes[7 + 87].tolist()[2:] == [65535, 65535]


def test_what_is_painted_in_a_corner_changes_the_token_there_most(encoder: JinaV4Encoder):
    """A failure means that heat maps point at the wrong place."""
    plain, marked = striped(308, 224), striped(308, 224)
    marked[56:84, 168:196] = (0, 90, 250)  # the patch in row 2, column 6
    one, other = encoder.encode_pages([rendered(plain), rendered(marked)])

    # The decoder is causal, so tokens before the patch do not see it at all; full attention of the tower lets it leak.
    moved = np.linalg.norm(one.tokens - other.tokens, axis=1)[7 : 7 + 88].reshape(11, 8)
    assert (moved.argmax() // 8, moved.argmax() % 8) == (2, 6)


def test_only_image_rows_where_asked(encoder: JinaV4Encoder):
    few = JinaV4Encoder(str(TINY), model=encoder.model, image_rows_only=True)
    page = rendered(striped())
    (all_rows,), (patches,) = encoder.encode_pages([page]), few.encode_pages([page])

    assert patches.regions == PatchGrid(11, 8, 0)
    assert np.array_equal(patches.tokens, all_rows.tokens[7:95])
    assert few.fingerprint != encoder.fingerprint


def test_a_page_without_pixels_is_a_clear_error(encoder: JinaV4Encoder):
    with pytest.raises(ModelUnavailable, match="without any"):
        encoder.encode_pages([replace(rendered(striped()), image=None)])


def test_queries_of_every_kind(encoder: JinaV4Encoder):
    picture = Image.fromarray(striped(120, 90))
    text, image, both = encoder.encode_queries([Query("red lines"), Query(image=picture), Query("red lines", picture)])

    assert "".join(text.labels) == "Query: red lines"
    assert [len(part.tokens) for part in (text, image, both)] == [len(part.labels) for part in (text, image, both)]
    n_text, n_image = len(text.tokens), len(image.tokens)
    lengths = np.linalg.norm(both.tokens, axis=1)
    assert np.allclose(lengths[:n_text].sum(), lengths[n_text:].sum())  # as much weight for the text as for the image
    assert np.allclose(lengths.sum(), n_text + n_image)
    assert np.allclose(both.tokens[:n_text] / lengths[:n_text, None], text.tokens, atol=1e-6)
    mean = text.dense + image.dense
    assert np.allclose(both.dense, mean / np.linalg.norm(mean), atol=1e-6)
    assert image.labels[7] == "patch 1,1"


def test_the_fingerprint_is_of_the_content(encoder: JinaV4Encoder, tmp_path: Path):
    moved = Path(shutil.copytree(TINY, tmp_path / "moved"))
    assert JinaV4Encoder(str(moved), device="cpu").fingerprint == encoder.fingerprint

    for file in (moved / "model-00002-of-00002.safetensors", moved / "adapters" / "adapter_model.safetensors"):
        tensors = load_file(file)
        name = min(tensors)
        tensors[name] = tensors[name] + 0.5
        save_file(tensors, file, metadata={"format": "pt"})
        assert JinaV4Encoder(str(moved), device="cpu").fingerprint != encoder.fingerprint

    finer = JinaV4Encoder(str(TINY), model=encoder.model, max_pixels=1_000_000)
    code = JinaV4Encoder(str(TINY), model=encoder.model, task="code")
    assert len({one.fingerprint for one in (encoder, finer, code)}) == 3


def coloured_pdf(path: Path, colours: list[tuple[float, float, float]]) -> Path:
    """A page a colour, with bars: nothing to read."""
    with pymupdf.open() as document:
        for at, colour in enumerate(colours):
            page = document.new_page(width=300, height=400)
            for bar in range(0, 400, 30 + 10 * at):
                page.draw_rect((20 + 5 * at, bar, 280, bar + 14), color=colour, fill=colour)
        document.save(path)
    return path


def test_an_index_finds_the_page_that_looks_the_same(tmp_path: Path):
    """From PDFs to pictures to hits, regions and heat map, with settings kept in the index."""
    coloured_pdf(tmp_path / "charts.pdf", [(1, 0, 0), (0, 0.6, 0), (0, 0, 1), (0.9, 0.7, 0)])
    encoder = load_encoder(f"jina-v4:{TINY}", max_pixels=200_704, device="cpu")
    with Index.open(tmp_path / "index", encoder=encoder, create=True) as index:
        report = index.add(tmp_path / "charts.pdf")
        assert (report.pages, report.failed) == (4, ())
        wanted = index.page_image("charts.pdf#3", dpi=100)

    with Index.open(tmp_path / "index") as index:  # the encoder comes from what the index keeps
        hits = index.search(image=wanted, k=4)
        layout = json.loads((tmp_path / "index" / "layout.json").read_text())

        assert layout["settings"] == {"task": "retrieval", "max_pixels": 200_704, "image_rows_only": False}
        assert layout["encoder"] == f"jina-v4:{TINY}"
        assert hits[0].page_number == 3
        assert hits[0].raw_score > hits[1].raw_score + 1
        assert hits[0].regions
        assert index.heatmap(hits[0], Query(image=wanted)).size == index.page_image(hits[0]).size
        assert len(index.search("anything at all", k=2)) == 2
        assert index.explain(hits[0], "blue")


def test_a_page_of_impossible_shape_costs_itself_alone(tmp_path: Path):
    """A failure means that one strange page ends the run of a whole folder."""
    with pymupdf.open() as document:
        document.new_page(width=300, height=400).draw_rect((20, 20, 200, 200), fill=(1, 0, 0))
        document.new_page(width=3, height=2000).draw_rect((0, 0, 3, 900), fill=(1, 0, 0))
        document.new_page(width=300, height=400).draw_rect((20, 200, 200, 300), fill=(0, 0, 1))
        document.save(tmp_path / "strange.pdf")
    write_pdf(tmp_path / "other.pdf", ["some words"])
    encoder = load_encoder(f"jina-v4:{TINY}", max_pixels=50_176, device="cpu")
    with Index.open(tmp_path / "index", encoder=encoder, create=True) as index:
        report = index.add([tmp_path / "strange.pdf", tmp_path / "other.pdf"])

        assert report.pages == 3
        assert [(failure.path, failure.code) for failure in report.failed] == [("strange.pdf#2", "unsupported")]
        assert {hit.page_number for hit in index.search("x", k=5, path="strange*")} == {1, 3}
        again = index.add([tmp_path / "strange.pdf", tmp_path / "other.pdf"])
        assert (again.pages, again.unchanged) == (0, 2)


def test_an_index_cannot_bring_in_a_download_or_a_setting(tmp_path: Path):
    """A failure means that an index from somewhere else decides what this machine fetches."""
    for name, settings in (
        ("jina-v4", {"download": True}),
        ("words", {"weights": "/elsewhere"}),
        ("remote:model", {"url": "http://127.0.0.1:9"}),
        ("sentence-transformers:x", {"download": True}),
    ):
        with pytest.raises(ModelUnavailable, match="tampered"):
            restore_encoder(name, settings)


def test_weights_may_move_and_others_are_refused(tmp_path: Path, encoder: JinaV4Encoder):
    write_pdf(tmp_path / "a.pdf", ["some words"])
    with Index.open(tmp_path / "index", encoder=encoder, create=True) as index:
        index.add(tmp_path / "a.pdf")
    moved = Path(shutil.copytree(TINY, tmp_path / "moved"))
    with Index.open(tmp_path / "index", encoder=f"jina-v4:{moved}") as index:
        assert len(index.search("words")) == 1
    file = moved / "adapters" / "adapter_model.safetensors"
    tensors = {name: tensor * 2 for name, tensor in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})
    with Index.open(tmp_path / "index", encoder=f"jina-v4:{moved}") as index, pytest.raises(EncoderMismatch):
        index.search("words")
    with pytest.raises(EncoderMismatch):
        Index.open(tmp_path / "index", encoder="words")


def test_fetched_weights_go_by_their_name(encoder: JinaV4Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A failure means that weights which were fetched are not found, or fetched again."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    commit = "0123456789" * 4
    repository = tmp_path / "models--someone--tiny"
    shutil.copytree(TINY, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)

    newest, pinned = (JinaV4Encoder("someone/tiny", revision=at, device="cpu") for at in (None, commit))

    assert newest.name == pinned.name == "jina-v4:someone/tiny"
    assert newest.fingerprint == pinned.fingerprint == encoder.fingerprint
    assert pinned.settings["revision"] == commit
    assert restore_encoder(pinned.name, pinned.settings).fingerprint == encoder.fingerprint


def test_the_published_weights_are_asked_for_by_name():
    with pytest.raises(ModelUnavailable, match="docsearch models download jina-v4"):
        JinaV4("", device="cpu")
    with pytest.raises(ModelUnavailable, match="no encoder 'words:x'"):
        load_encoder("words:x")
