"""The words encoder finds what a page says, puts it in its place, and never lets one page touch another."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from docsearch.encoders.words import WordsEncoder
from docsearch.encoders.words import encoder as module
from docsearch.encoders.words.encoder import MAX_QUERY_TOKENS, WEIGHTS, WINDOW, piece_boxes, window_starts
from docsearch.encoders.words.tokenizer import Pieces
from docsearch.errors import UnsupportedInput
from docsearch.protocols import Encoder
from docsearch.types import PageRef, Query, RenderedPage, Words

PAGES = {
    "lease": "The tenant shall pay the monthly rent in advance and return the keys when the lease ends.",
    "bread": "Knead the dough for ten minutes, let it rise for an hour and bake the loaf until the crust is brown.",
    "compiler": "The compiler translates source code into machine instructions and reports syntax errors by line.",
    "volcano": "Magma rises through cracks in the earth's crust; ash and lava are thrown out when a volcano erupts.",
    "invoice": "Total amount due within thirty days of receipt, with value added tax; late payment bears interest.",
    "heart": "The heart pumps blood through arteries and veins; a cardiologist examines its rhythm and valves.",
}


@pytest.fixture(scope="module")
def encoder():
    return WordsEncoder(threads=2)


def words_of(text):
    """Words laid out ten to a line, as a page would have them."""
    texts = tuple(text.split())
    i = np.arange(len(texts))
    left, top = i % 10 * 6000, i // 10 % 100 * 600
    return Words(texts, np.stack([left, top, left + 5000, top + 500], axis=1).astype(np.uint16))


def page(text, number=1):
    return RenderedPage(ref=PageRef("0" * 64, number), words=words_of(text), text_source="layer")


def score(query, vectors):
    return float((query.tokens @ vectors.tokens.T).max(axis=1).mean())


def test_it_is_an_encoder(encoder):
    assert isinstance(encoder, Encoder)
    assert (encoder.name, encoder.token_dim, encoder.reads) == ("words", 128, "words")
    assert encoder.modalities == {"text", "image"}


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("When must I give back the keys to the flat?", "lease"),
        ("how to make bread", "bread"),
        ("programming language translation", "compiler"),
        ("eruption", "volcano"),
        ("how much tax is on this bill", "invoice"),
        ("cardiac examination", "heart"),
        ("comment faire cuire du pain", "bread"),
        ("erupción volcánica", "volcano"),
        ("心脏检查", "heart"),
        ("договор аренды квартиры", "lease"),
        ("プログラムのソースコード", "compiler"),
        ("medico del cuore", "heart"),
        ("ماذا يحدث عندما يثور البركان", "volcano"),
    ],
)
def test_the_page_that_answers_comes_first(encoder, question, answer):
    """By MaxSim over token vectors, and across languages: no word of the question need be on the page."""
    vectors = dict(zip(PAGES, encoder.encode_pages([page(text) for text in PAGES.values()]), strict=True))
    query = encoder.encode_queries([Query(text=question)])[0]

    assert max(vectors, key=lambda name: score(query, vectors[name])) == answer


def test_vectors_have_the_shapes_they_promise(encoder):
    vectors = encoder.encode_pages([page(PAGES["heart"])])[0]

    assert vectors.tokens.dtype == vectors.dense.dtype == np.float32
    assert vectors.tokens.shape == (len(vectors.boxes), 128)
    assert vectors.dense.shape == (encoder.dense_dim,)
    np.testing.assert_allclose(np.linalg.norm(vectors.tokens, axis=1), 1, atol=1e-5)
    assert np.linalg.norm(vectors.dense) == pytest.approx(1, abs=1e-5)


def test_neighbours_never_change_a_page(encoder):
    """A page has the same vectors, bit for bit, alone and beside longer ones: an index does not depend on batches."""
    texts = [PAGES["lease"], " ".join(PAGES.values()) * 12, "", "one"]

    together = encoder.encode_pages([page(text) for text in texts])

    for text, beside in zip(texts, together, strict=True):
        alone = encoder.encode_pages([page(text)])[0]
        np.testing.assert_array_equal(alone.tokens, beside.tokens)
        np.testing.assert_array_equal(alone.dense, beside.dense)
        np.testing.assert_array_equal(alone.boxes, beside.boxes)


def test_neighbours_never_change_a_query(encoder):
    queries = [Query(text="lease"), Query(text="how to bake bread " * 100), Query(text="心脏检查")]

    for query, beside in zip(queries, encoder.encode_queries(queries), strict=True):
        np.testing.assert_array_equal(encoder.encode_queries([query])[0].tokens, beside.tokens)


@given(st.integers(0, 5000), st.integers(1, 300))
def test_windows_cover_a_text_once(n, size):
    """Every piece is in a window, no window is longer than allowed, and there are no more of them than needed."""
    starts, length = window_starts(n, size)

    assert len(starts) == -(-n // size)
    assert length <= size
    assert {start + i for start in starts.tolist() for i in range(length)} == set(range(n))


def test_a_long_page_has_one_token_vector_per_piece(encoder):
    """Windows overlap by a piece where they must; no piece is given twice or left out."""
    long = page(" ".join(PAGES.values()) * 50)
    pieces = encoder._tokenizer.encode(long.words.texts)

    vectors = encoder.encode_pages([long])[0]

    assert len(pieces) > 20 * WINDOW
    assert vectors.tokens.shape == (len(pieces), 128)
    assert np.isfinite(vectors.tokens).all()
    np.testing.assert_array_equal(vectors.boxes, piece_boxes(long.words, pieces))


def test_the_answer_is_found_on_a_later_window(encoder):
    """The last words of a long page count as much as the first, and lie where they stand."""
    filler = PAGES["bread"] * 40
    long = page(f"{filler} {PAGES['volcano']}")
    vectors = encoder.encode_pages([long, page(filler)])
    query = encoder.encode_queries([Query(text="volcano")])[0]

    best = (vectors[0].tokens @ query.tokens[0]).argmax()

    assert score(query, vectors[0]) > score(query, vectors[1])
    word = long.words.texts.index("volcano")
    assert vectors[0].boxes[best, 1] == long.words.boxes[word, 1]


def test_a_piece_lies_on_its_share_of_the_word():
    """A Chinese line comes as one word: each piece is cut out of its box by its characters."""
    words = Words(("软件包维护者指南", "next"), np.array([[1000, 200, 9000, 300], [10, 20, 30, 40]], np.uint16))
    pieces = Pieces(np.array([7, 8, 9]), np.array([0, 0, 1]), np.array([[0, 2], [6, 8], [0, 4]]))

    boxes = piece_boxes(words, pieces)

    assert boxes.tolist() == [[1000, 200, 3000, 300], [7000, 200, 9000, 300], [10, 20, 30, 40]]
    assert boxes.dtype == np.uint16


def test_a_word_written_downwards_is_cut_downwards():
    words = Words(("縦書き",), np.array([[100, 1000, 200, 4000]], np.uint16))
    pieces = Pieces(np.array([7, 8]), np.array([0, 0]), np.array([[0, 1], [1, 3]]))

    assert piece_boxes(words, pieces).tolist() == [[100, 1000, 200, 2000], [100, 2000, 200, 4000]]


@pytest.mark.parametrize("texts", [(), ("\x01",)])
def test_a_page_without_words_has_no_token_vectors(encoder, texts):
    """Blank pages are kept in the index: nothing matches them, and they disturb nothing."""
    blank = RenderedPage(ref=PageRef("0" * 64, 1), words=Words(texts, np.zeros((len(texts), 4), np.uint16)))

    vectors = encoder.encode_pages([blank, page("some words")])[0]

    assert vectors.tokens.shape == (0, 128)
    assert vectors.boxes.shape == (0, 4)
    assert np.linalg.norm(vectors.dense) == 1


def test_no_pages_no_queries(encoder):
    assert encoder.encode_pages([]) == []
    assert encoder.encode_queries([]) == []


def test_an_image_is_asked_by_its_words(encoder):
    image = Image.new("RGB", (8, 8))
    shown = encoder.encode_queries([Query(image=image, words=words_of("monthly rent"))])[0]
    typed = encoder.encode_queries([Query(text="monthly rent")])[0]

    np.testing.assert_array_equal(shown.tokens, typed.tokens)
    assert shown.labels == typed.labels


def test_text_and_image_are_one_query(encoder):
    """The token vectors of both, text first; the dense vector is the normalised mean."""
    image = Image.new("RGB", (8, 8))
    both = encoder.encode_queries([Query(text="late payment", image=image, words=words_of("monthly rent"))])[0]
    text, shown = encoder.encode_queries([Query(text="late payment"), Query(text="monthly rent")])

    np.testing.assert_array_equal(both.tokens, np.concatenate([text.tokens, shown.tokens]))
    np.testing.assert_allclose(
        both.dense, (text.dense + shown.dense) / np.linalg.norm(text.dense + shown.dense), atol=1e-6
    )
    assert both.labels == text.labels + shown.labels


@pytest.mark.parametrize("words", [None, Words.none()])
def test_an_image_without_words_is_refused(encoder, words):
    with pytest.raises(UnsupportedInput, match=r"no words were found.*\(empty\)") as caught:
        encoder.encode_queries([Query(image=Image.new("RGB", (8, 8)), words=words)])
    assert caught.value.code == "empty"


def test_a_query_without_a_readable_character_is_refused(encoder):
    with pytest.raises(UnsupportedInput, match="query text"):
        encoder.encode_queries([Query(text="\x01")])


def test_an_image_without_words_beside_a_text_is_the_text(encoder):
    both = encoder.encode_queries([Query(text="rent", image=Image.new("RGB", (8, 8)))])[0]

    np.testing.assert_array_equal(both.tokens, encoder.encode_queries([Query(text="rent")])[0].tokens)


def test_a_long_query_is_thinned_out_evenly(encoder):
    """Its start, middle and end all keep token vectors, and each its label."""
    query = encoder.encode_queries([Query(text=" ".join(f"word{i}" for i in range(1000)))])[0]

    assert query.tokens.shape == (MAX_QUERY_TOKENS, 128)
    assert len(query.labels) == MAX_QUERY_TOKENS
    assert query.labels[0] == "word"
    assert query.labels[-1] == "999"


def test_labels_are_what_the_user_typed(encoder):
    assert "".join(encoder.encode_queries([Query(text="ﬁnal Größe")])[0].labels) == "ﬁnalGröße"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), max_size=40))
def test_any_text_gives_finite_unit_rows_inside_the_words(texts):
    """Whatever a PDF spells: as many rows as boxes, each of length one, each box within its page."""
    words = words_of(" ".join(texts))

    vectors = shared().encode_pages([RenderedPage(ref=PageRef("0" * 64, 1), words=words)])[0]

    assert len(vectors.tokens) == len(vectors.boxes)
    np.testing.assert_allclose(np.linalg.norm(vectors.tokens, axis=1), 1, atol=1e-4)
    assert np.linalg.norm(vectors.dense) == pytest.approx(1, abs=1e-4)
    assert (vectors.boxes[:, 0] <= vectors.boxes[:, 2]).all()
    assert (vectors.boxes[:, 1] <= vectors.boxes[:, 3]).all()


def shared(made=[]):  # noqa: B006 - one encoder for all examples
    if not made:
        made.append(WordsEncoder(threads=1))
    return made[0]


def test_the_manifest_tells_the_truth():
    """The fingerprint trusts the checksums written beside the weights; a file changed without them would go unseen."""
    files = json.loads((WEIGHTS / "manifest.json").read_text())["files"]
    present = {path.name for path in WEIGHTS.iterdir()} - {"manifest.json", "NOTICE"}

    assert set(files) == present
    for name, entry in files.items():
        content = (WEIGHTS / name).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (entry["bytes"], entry["sha256"]), name


def test_the_weights_stay_small():
    """They are part of the wheel: 20 MB a file, 80 MB in all before compression."""
    sizes = [path.stat().st_size for path in WEIGHTS.iterdir()]

    assert max(sizes) < 20e6
    assert sum(sizes) < 80e6


def test_the_fingerprint_follows_the_settings(encoder, monkeypatch):
    """An index built with other windows holds other vectors."""
    before = WordsEncoder().fingerprint
    monkeypatch.setattr(module, "WINDOW", 128)

    assert before == encoder.fingerprint
    assert WordsEncoder().fingerprint != before


def test_the_last_layer_is_what_hugging_faces_bert_computes(encoder, monkeypatch):
    """In float32, of the same weights: the shipped graph rounds to 8 bits and may differ by no more than that."""
    import torch

    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "tools"))
    from words_model import load_bert

    tokenizer = encoder._tokenizer
    text = (
        "The ferry from Skerrow leaves at 19:40 on Fridays. Haustiere sind nicht gestattet. 残業は事前に申請すること。"
    )
    ids = tokenizer.encode(text.split()).ids
    whole = [tokenizer.id_of("<s>"), *tokenizer.encode(["passage:"]).ids, *ids, tokenizer.id_of("</s>")]
    with torch.inference_mode():
        expected = load_bert(adapted=True)(input_ids=torch.tensor([whole])).last_hidden_state[0, -1 - len(ids) : -1]
    (hidden,) = encoder.last_layers([ids], "passage")

    cosines = (hidden * expected.numpy()).sum(axis=1)
    cosines /= np.linalg.norm(hidden, axis=1) * np.linalg.norm(expected.numpy(), axis=1)
    assert cosines.mean() > 0.99
    assert cosines.min() > 0.97


def test_it_needs_no_torch():
    """The command starts in a moment because encoding words loads none of the heavy libraries."""
    code = (
        "import sys; from docsearch.encoders.words import WordsEncoder; WordsEncoder(); "
        "print([name for name in ('torch', 'transformers', 'onnx', 'faiss') if name in sys.modules])"
    )

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
