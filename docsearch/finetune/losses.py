"""What training makes smaller: functions of scores, and scores of unit vectors.

Source, unless a docstring names another: Günther et al. 2025, "jina-embeddings-v4", section 5. Sums over a batch are
means here, so that the learning rate does not depend on the batch size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax, normalize

TEMPERATURE = 0.02  # section 5.2.3; smaller makes the nearest wrong answer count for more


def late_scores(queries: Sequence[Tensor], documents: Sequence[Tensor]) -> Tensor:
    """The mean over a query's tokens of the cosine with the best token of a document.

    Multi-vectors come one by one, as long as they are: there is no padding whose zeros could beat a negative cosine.
    Only the place of each maximum is kept for the backward pass, not the table of all products.

    Args:
        queries: Nq multi-vectors (Tq, D) of unit rows, Tq at least 1.
        documents: Nd multi-vectors (Td, D) of unit rows, Td at least 1.

    Returns:
        (Nq, Nd) in [-1, 1].

    Source: section 5.1 (s'_late); Khattab & Zaharia 2020, "ColBERT", section 3.3, divided by the query's length.
    """
    rows = torch.cat(list(queries))  # (V, D)
    best = torch.stack([(rows @ document.T).max(dim=1).values for document in documents], dim=1)  # (V, Nd)
    return torch.stack([own.mean(dim=0) for own in torch.split(best, [len(query) for query in queries])])


def info_nce(scores: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """L_NCE: the cross-entropy of every query's own document among all.

    Args:
        scores: (N, M), M at least N; the document of query i is column i, every other one counts as wrong.
            A column that is neither right nor wrong for a row is -inf there.
        temperature: scores are divided by it.

    Source: section 5.1, equation (4); van den Oord et al. 2018.
    """
    return cross_entropy(scores / temperature, torch.arange(len(scores), device=scores.device))


def info_nce_with_negatives(
    scores_positive: Tensor, scores_negative: Tensor, temperature: float = TEMPERATURE
) -> Tensor:
    """L_NCE+: as `info_nce`, with all hard negatives of the batch in every denominator. Triplets are its case M = N.

    Args:
        scores_positive: (N, N), the document of query i is column i.
        scores_negative: (N, M), the hard negatives of all queries of the batch; M may be 0.
        temperature: scores are divided by it.

    Source: section 5.1.1; Günther et al. 2023, "Jina Embeddings 2".
    """
    return info_nce(torch.cat([scores_positive, scores_negative], dim=1), temperature)


def kl_dense_late(dense_scores: Tensor, late_scores: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """L_D = D_KL(softmax S_dense ‖ softmax S_late): the mean over queries of Σ p_dense (ln p_dense - ln p_late).

    In this order dense is what late is measured against; gradients flow into both, as nothing in the paper is held.

    Args:
        dense_scores: (N, M) cosines of single vectors.
        late_scores: (N, M), of `late_scores`.
        temperature: both are divided by it.

    Source: section 5.1; Hinton et al. 2015.
    """
    dense, late = (log_softmax(scores / temperature, dim=1) for scores in (dense_scores, late_scores))
    return kl_div(late, dense, log_target=True, reduction="batchmean")


def matryoshka(queries: Tensor, documents: Tensor, dims: Sequence[int], loss: Callable[[Tensor], Tensor]) -> Tensor:
    """The mean of a loss over shortened single vectors, made unit again.

    Args:
        queries: (Nq, E) single vectors.
        documents: (Nd, E) single vectors.
        dims: how many of the first dimensions are kept, for each part of the mean.
        loss: of the (Nq, Nd) cosines.

    Source: section 5, applied to L_NCE in both stages; Kusupati et al. 2022, "Matryoshka Representation Learning".
    """
    parts = [loss(normalize(queries[:, :dim], dim=1) @ normalize(documents[:, :dim], dim=1).T) for dim in dims]
    return torch.stack(parts).mean()


def cosent(scores: Tensor, labels: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """L_co = ln[1 + Σ exp((s_j - s_i) / τ)] over all i, j whose labels say that pair i is more alike than pair j.

    Args:
        scores: (P,) of P pairs.
        labels: (P,) how alike they are; only the order counts, and equal ones are not compared.
        temperature: differences are divided by it.

    Source: Su 2022, "CoSENT"; section 5.2.2, whose formula in print has lost an exponential.
    """
    excess = (scores[None, :] - scores[:, None])[labels[:, None] > labels[None, :]] / temperature
    return torch.logsumexp(torch.cat([excess.new_zeros(1), excess]), dim=0)
