"""The losses say what the formulas say: numbers worked out by hand, and slopes by finite differences."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import normalize

from docsearch.finetune.losses import (
    cosent,
    info_nce,
    info_nce_with_negatives,
    kl_dense_late,
    late_scores,
    matryoshka,
)


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    drawn = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return normalize(drawn, dim=-1)


def scores(*shape: int, seed: int = 0) -> torch.Tensor:
    drawn = torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return drawn.mul(2).sub(1).requires_grad_()


def test_late_scores_are_the_means_of_the_best_cosines():
    x, y = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    between = torch.tensor([0.6, 0.8])

    found = late_scores([torch.stack([x, y]), x[None]], [torch.stack([x, between]), y[None]])

    assert torch.allclose(found, torch.tensor([[(1 + 0.8) / 2, (0 + 1) / 2], [1.0, 0.0]]))


def test_a_shorter_document_keeps_its_negative_score():
    """A failure means that padding beats a real vector whose cosine is negative."""
    query = torch.tensor([[1.0, 0.0]])
    against, longer = torch.tensor([[-1.0, 0.0]]), torch.tensor([[0.6, 0.8], [0.0, 1.0], [-0.6, 0.8]])

    alone, beside = late_scores([query], [against]), late_scores([query, longer], [longer, against])

    assert alone[0, 0] == beside[0, 1] == -1.0


def test_info_nce_is_the_cross_entropy_of_the_rows():
    table = torch.tensor([[0.5, 0.1], [0.3, 0.2]], dtype=torch.float64)

    by_hand = (math.log(1 + math.exp((0.1 - 0.5) / 0.1)) + math.log(1 + math.exp((0.3 - 0.2) / 0.1))) / 2

    assert info_nce(table, 0.1).item() == pytest.approx(by_hand, abs=1e-12)


def test_hard_negatives_stand_in_every_denominator():
    positive = torch.tensor([[0.5, 0.1], [0.3, 0.2]], dtype=torch.float64)
    negative = torch.tensor([[0.4, 0.0, 0.2], [0.1, 0.6, -0.2]], dtype=torch.float64)

    by_hand = 0.0
    for row in range(2):
        everything = [*positive[row].tolist(), *negative[row].tolist()]
        by_hand -= math.log(
            math.exp(positive[row, row].item() / 0.1) / sum(math.exp(score / 0.1) for score in everything)
        )

    assert info_nce_with_negatives(positive, negative, 0.1).item() == pytest.approx(by_hand / 2, abs=1e-12)
    assert info_nce_with_negatives(positive, negative[:, :0], 0.1) == info_nce(positive, 0.1)


def test_what_is_no_negative_has_no_part_in_the_loss():
    """A failure means that a document is pushed away from a query that it answers."""
    table = torch.tensor([[0.5, 0.1, 0.9], [0.3, 0.2, 0.4]], dtype=torch.float64, requires_grad=True)
    ignored = torch.tensor([[False, False, True], [False, False, False]])

    loss = info_nce(table.masked_fill(ignored, -torch.inf), 0.1)
    loss.backward()

    without = -math.log(math.exp(5) / (math.exp(5) + math.exp(1)))
    other = -math.log(math.exp(2) / (math.exp(3) + math.exp(2) + math.exp(4)))
    assert loss.item() == pytest.approx((without + other) / 2, abs=1e-12)
    assert table.grad[0, 2] == 0
    assert torch.isfinite(table.grad).all()


def test_divergence_is_of_dense_from_late():
    """The other direction has another value: 0.333 against 0.346 here."""
    dense = torch.tensor([[0.2, 0.1]], dtype=torch.float64)
    late = torch.tensor([[0.1, 0.17]], dtype=torch.float64)
    p = [math.exp(2) / (math.exp(2) + math.exp(1)), math.exp(1) / (math.exp(2) + math.exp(1))]
    q = [math.exp(1) / (math.exp(1) + math.exp(1.7)), math.exp(1.7) / (math.exp(1) + math.exp(1.7))]

    found, back = kl_dense_late(dense, late, 0.1).item(), kl_dense_late(late, dense, 0.1).item()

    assert found == pytest.approx(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)), abs=1e-12)
    assert back == pytest.approx(sum(b * math.log(b / a) for a, b in zip(p, q, strict=True)), abs=1e-12)
    assert abs(found - back) > 1e-3
    assert kl_dense_late(dense, dense, 0.1).item() == 0.0


def test_matryoshka_is_the_mean_over_shortened_unit_vectors():
    query, document = torch.tensor([[0.6, 0.8]]), torch.tensor([[1.0, 0.0]])

    assert matryoshka(query, document, [1, 2], torch.sum).item() == pytest.approx((1.0 + 0.6) / 2)


def test_cosent_compares_pairs_whose_labels_differ():
    found = cosent(torch.tensor([0.9, 0.5, 0.7], dtype=torch.float64), torch.tensor([1.0, 3.0, 1.0]), 0.1)

    assert found.item() == pytest.approx(math.log(1 + math.exp(0.4 / 0.1) + math.exp(0.2 / 0.1)), abs=1e-9)
    assert cosent(torch.tensor([0.9, 0.1]), torch.tensor([2.0, 2.0])) == 0


@pytest.mark.parametrize(
    ("loss", "inputs"),
    [
        (lambda s: info_nce(s, 0.5), [scores(3, 5)]),
        (lambda p, n: info_nce_with_negatives(p, n, 0.5), [scores(3, 3), scores(3, 4, seed=1)]),
        (lambda d, s: kl_dense_late(d, s, 0.5), [scores(3, 4), scores(3, 4, seed=1)]),
        (lambda s: cosent(s, torch.tensor([1.0, 0.0, 2.0, 1.0]), 0.5), [scores(4)]),
        (lambda q, d: matryoshka(q, d, [2, 4, 6], lambda s: info_nce(s, 0.5)), [unit(3, 6), unit(4, 6, seed=1)]),
        (
            lambda q, p, d, e: late_scores([q, p], [d, e]),
            [unit(3, 4), unit(1, 4, seed=1), unit(2, 4, seed=2), unit(5, 4)],
        ),
    ],
    ids=["InfoNCE", "NCE+", "divergence", "CoSENT", "Matryoshka", "MaxSim"],
)
def test_slopes_are_those_of_finite_differences(loss, inputs):
    assert torch.autograd.gradcheck(loss, [given.detach().requires_grad_() for given in inputs])
