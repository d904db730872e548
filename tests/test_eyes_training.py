"""Learning to read: what every cell should say, the network against the flagship's modules, a run that goes on."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from docsearch.encoders.words.tokenizer import Pieces
from docsearch.errors import UnsupportedInput
from docsearch.finetune.eyes.network import CELL, SIZES, EyesNetwork, Shape
from docsearch.finetune.eyes.pages.typeset import Chars
from docsearch.finetune.eyes.state import load_run, save_run
from docsearch.finetune.eyes.stock import stock_tokens, to_stock
from docsearch.finetune.eyes.stream import SHELF, page_numbers
from docsearch.finetune.eyes.targets import Alphabet, char_slots, piece_boxes, spread

TINY = Shape(vision_width=32, vision_layers=2, vision_heads=2, vision_inner=48, width=32, layers=2, heads=2, inner=48)


def chars_of(words: list[tuple[str, float, float]], size: float = 10.0) -> Chars:
    """Words at (x, y), every character ``size`` wide and high."""
    points, boxes, owners = [], [], []
    for at, (word, x, y) in enumerate(words):
        for place, character in enumerate(word):
            points.append(ord(character))
            boxes.append((x + place * size, y, x + (place + 1) * size, y + size))
            owners.append(at)
    return Chars(np.array(points, np.uint32), np.array(boxes, np.float32), np.array(owners, np.int32))


def test_a_cell_says_the_mean_of_its_pieces_by_area():
    """A failure means that the encoder learns something else than what stands in a cell."""
    boxes = np.array([[0, 0, 42, 14], [42, 7, 56, 21]], np.float32)  # one and a half cells; half a cell
    vectors = np.array([[1, 0], [0, 1]], np.float32)

    sums, cover = spread(boxes, vectors, rows=1, cols=3)

    assert sums.tolist() == [[28 * 14, 0], [14 * 14, 14 * 14], [0, 0]]
    assert cover.tolist() == [28 * 14, 2 * 14 * 14, 0]


def test_the_sum_over_cells_is_the_sum_over_pieces():
    """A failure means that ink is lost or counted twice where a piece crosses the edge of a cell."""
    chance = np.random.default_rng(3)
    corner = chance.uniform(0, 150, (40, 2))
    boxes = np.concatenate([corner, corner + chance.uniform(1, 70, (40, 2))], axis=1).astype(np.float32)
    vectors = chance.standard_normal((40, 5)).astype(np.float32)

    sums, cover = spread(boxes, vectors, rows=8, cols=8)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])

    np.testing.assert_allclose(cover.sum(), areas.sum(), rtol=1e-4)
    np.testing.assert_allclose(sums.sum(axis=0), (areas[:, None] * vectors).sum(axis=0), rtol=1e-3, atol=1e-2)


def test_pieces_stand_where_their_characters_stand():
    """A failure means that the second half of a word is learned at the place of the first."""
    chars = chars_of([("under", 10, 5), ("line", 80, 25)])
    pieces = Pieces(ids=np.array([7, 8, 9]), words=np.array([0, 0, 1]), spans=np.array([[0, 2], [2, 5], [0, 4]]))

    assert piece_boxes(chars, pieces).tolist() == [[10, 5, 30, 15], [30, 5, 60, 15], [80, 25, 120, 35]]


def test_characters_lie_in_their_slots():
    """A failure means that the reader is taught wrong letters."""
    alphabet = Alphabet("abc")
    chars = chars_of([("ab", 7, 2), ("c?", 28, 30)], size=7)

    slots = char_slots(chars, alphabet, rows=2, cols=2)

    first, second = slots[0], slots[2]
    assert alphabet.text(first[2:6]) == "aabb"
    assert alphabet.text(second[8:12]) == "cc\N{MIDDLE DOT}\N{MIDDLE DOT}"
    assert (slots > 0).sum() == 8


def test_a_dot_is_not_lost_between_slots():
    """A failure means that small characters vanish from the targets."""
    alphabet = Alphabet(".")
    chars = Chars(np.array([ord(".")], np.uint32), np.array([[8.9, 12, 10.2, 13]], np.float32), np.zeros(1, np.int32))

    assert char_slots(chars, alphabet, rows=1, cols=1).sum() == 2


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("height", "width"), [(112, 112), (224, 336)])
def test_the_network_is_the_flagships(causal: bool, height: int, width: int):
    """A failure means that what is trained here cannot run as Qwen2.5-VL does."""
    torch.manual_seed(0)
    network = EyesNetwork(TINY, n_chars=5, causal=causal).eval()
    for parameter in network.parameters():  # far from the small values it begins with
        torch.nn.init.normal_(parameter, std=0.3 if parameter.ndim == 1 else 1.5 * parameter.shape[1] ** -0.5)
    image = np.random.default_rng(0).uniform(-1, 1, (height, width)).astype(np.float32)

    with torch.no_grad():
        ours = network(torch.from_numpy(image)[None])[0][0]
    stock = stock_tokens(to_stock(network), image, causal=causal)

    assert ours.shape == (height * width // CELL**2, 128)
    assert float((ours - stock).abs().max()) < 1e-4
    assert float((ours @ ours.T).mean()) < 0.999, "all cells say the same: nothing was compared"


def test_a_cell_sees_what_follows_unless_it_is_causal():
    """A failure means that the decoder attends the wrong way."""
    torch.manual_seed(0)
    images = torch.rand(2, 112, 112) * 2 - 1
    images[1, :56] = images[0, :56]
    for causal in (False, True):
        network = EyesNetwork(replace(TINY, vision_layers=0), causal=causal).eval()
        with torch.no_grad():
            first, second = network(images)[0]
        assert bool(torch.allclose(first[0], second[0], atol=1e-6)) is causal


@pytest.mark.parametrize("size", SIZES)
def test_the_sizes_are_what_the_design_says(size: str):
    """A failure means that the budget of parameters or of work is not kept."""
    network = EyesNetwork(SIZES[size])
    parameters = sum(parameter.numel() for parameter in network.parameters())

    assert 5e6 < parameters < 17e6
    assert 20e9 < SIZES[size].flops(*SIZES[size].page) < 100e9


def test_no_page_is_learned_twice_and_none_left_out():
    """A failure means that workers repeat each other's pages."""
    made = [list(itertools.islice(page_numbers(1, worker, 3), SHELF)) for worker in range(3)]

    assert sorted(itertools.chain(*made)) == list(range(SHELF, 4 * SHELF))


def test_a_run_is_kept_in_small_shards_and_comes_back(tmp_path):
    """A failure means that a run cannot go on, or that its files are too large to be carried."""
    torch.manual_seed(0)
    network = EyesNetwork(SIZES["S"], n_chars=50)
    optimizer = torch.optim.AdamW(network.parameters())
    sum(parameter.square().sum() for parameter in network.parameters()).backward()
    optimizer.step()

    save_run(tmp_path, network, optimizer, {"now": 1})
    tensors, facts = load_run(tmp_path)

    assert facts == {"now": 1}
    assert max(path.stat().st_size for path in tmp_path.rglob("*.safetensors")) < 16e6
    assert {name: value.shape for name, value in tensors.items() if name.startswith("weights/")} == {
        f"weights/{name}": value.shape for name, value in network.named_parameters()
    }
    (tmp_path / "state" / "run.json").write_text("{")
    with pytest.raises(UnsupportedInput, match="delete it"):
        load_run(tmp_path)


@pytest.fixture
def small_run(tmp_path, monkeypatch):
    """Makes trainers of one tiny run: four words, one font, pages of 112 by 224 px."""
    from matplotlib import font_manager

    from docsearch.finetune.eyes import network, train
    from docsearch.finetune.eyes.pages.fonts import Font

    monkeypatch.setitem(network.SIZES, "tiny", replace(TINY, page=(112, 224)))
    monkeypatch.setattr(train, "TABLE_PASSAGES", 4)
    torch.set_num_threads(1)
    words = ["moon", "noon", "mill", "will"]
    chance = np.random.default_rng(1)
    texts = {"en": [tuple(" ".join(chance.choice(words, 12)) for _ in range(5)) for _ in range(20)]}
    path = Path(font_manager.findfont("DejaVu Sans"))
    font = Font(path, 0, "DejaVu Sans", "sans", False, False, np.ones(0x10000, bool))
    settings = train.Settings(
        size="tiny", cells=5000, curriculum=(train.Stage("line", 0, 0.97), train.Stage("line", 1, 0.03)), height=112,
        width=224, batch_size=4, warmup=200, learning_rate=4e-3,
    )  # fmt: skip
    material = train.Material(texts, [font], texts, [font])
    return lambda **changes: train.Trainer(tmp_path / "run", replace(settings, **changes), material, workers=0)


def test_a_run_learns_and_goes_on_where_it_was_stopped(small_run, tmp_path):
    """A failure means that training does not teach, forgets when it is stopped, or cannot be looked at."""
    from docsearch.finetune.eyes.reader import EyesEncoder
    from docsearch.finetune.eyes.views import curves, read_curves
    from docsearch.types import PageRef, Query, RenderedPage

    first = small_run()
    assert first.run(seconds=0) is False, "it was to stop at once"
    again = small_run()
    assert (again.step, again.cells, again.pages) == (1, first.cells, 4)
    for ours, theirs in zip(again.network.parameters(), first.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    with pytest.raises(ValueError, match="another causal"):
        small_run(causal=True)

    assert again.run() is True

    lines = read_curves(tmp_path / "run")
    begun, ended = lines[0]["held_out"]["seen fonts"], lines[-1]["held_out"]["seen fonts"]
    assert ended["chars"] > begun["chars"] + 0.2
    assert ended["cosine"] > begun["cosine"] + 0.3
    curves([tmp_path / "run"], tmp_path / "curves.svg")
    assert (tmp_path / "curves.svg").read_text().count("<path") > 6

    encoder = EyesEncoder(tmp_path / "run")
    image = np.full((112, 224, 3), 255, np.uint8)
    image[:] = small_run().held_out(again.settings.curriculum[0], 1)["seen fonts"].images[0].numpy()[..., None]
    blank, written = encoder.encode_pages(
        [RenderedPage(ref=PageRef("a", at), image=pixels) for at, pixels in ((1, np.full_like(image, 255)), (2, image))]
    )
    assert len(blank.tokens) < len(written.tokens) == len(written.boxes)
    np.testing.assert_allclose(np.linalg.norm(written.tokens, axis=1), 1, atol=1e-3)
    assert encoder.encode_queries([Query("small vectors")])[0].tokens.shape[1] == written.tokens.shape[1]


def test_a_forecast_follows_a_planted_curve():
    """A failure means that what a longer run is said to give does not follow from its curve."""
    from docsearch.finetune.eyes.views import forecast

    cells = np.geomspace(1e4, 1e6, 40)
    share = 1 / (1 + np.exp(-(0.7 * np.log(cells) - 10)))

    expected = 1 / (1 + np.exp(-(0.7 * np.log(1e8) - 10)))

    assert forecast(cells, share, 100) == pytest.approx((expected, expected), abs=1e-6)
