"""Train one task's adapter and nothing else, in two stages as the paper does; stopped, it goes on where it was."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import ir_measures
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor, nn

from docsearch.encoders.jina_v4 import TASKS, JinaV4, Task
from docsearch.encoders.jina_v4.checkpoint import Checkpoint
from docsearch.encoders.jina_v4.inputs import Item, make_batches
from docsearch.errors import DocsearchError, UnsupportedInput
from docsearch.finetune.adapter import add_trainable_adapter
from docsearch.finetune.data import KINDS, Document, Examples, Kind, Sampler, TrainingData
from docsearch.finetune.files import read_state, write_model, write_state
from docsearch.finetune.losses import cosent, info_nce_with_negatives, kl_dense_late, late_scores, matryoshka

Stage = Literal["pair", "task"]
WARM_UP = 0.1  # of all steps, until the learning rate is reached
LONGEST_STEP = 1.0  # the norm that a longer gradient is cut to
TOKENS = 16_384  # in one pass; what the backward pass needs is kept for all passes of a batch
POOL = 1000  # documents that held-out queries are tried on, more where more are judged
POOL_PASS = 32  # of them read at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to train. The paper keeps its batch sizes, steps, rates and weights to itself: these defaults are ours.

    Attributes:
        task: whose adapter is trained.
        stage: `pair` trains without hard negatives or scores, and gives all three tasks the result; `task` is the
            second stage, and the one for data of one's own.
        steps: of the optimizer; each sees one batch of texts, one of page images and one of scored pairs, of those
            that the data has.
        batch_size: queries in a batch, each with a document. Larger is better, and takes memory in proportion.
        hard_negatives: of each query in a batch, at most. As many documents more to read.
        learning_rate: the highest, reached after a tenth of the steps; it falls to 0 along a cosine.
        max_length: tokens of a text.
        max_pixels: of a page; None is the checkpoint's own.
        weights: w1 … w6: dense, late and divergence for texts, then for page images.
        every: steps from one look at the held-out queries, and one save, to the next.
        seed: of the order of the data and of dropout.
    """

    task: Task = "retrieval"
    stage: Stage = "task"
    steps: int = 1000
    batch_size: int = 16
    hard_negatives: int = 1
    learning_rate: float = 1e-4
    max_length: int = 512
    max_pixels: int | None = None
    weights: tuple[float, ...] = (1.0,) * 6
    every: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, choices in (("task", self.task, TASKS), ("stage", self.stage, get_args(Stage))):
            if value not in choices:
                raise ValueError(f"{name} is {value!r}; choose one of {', '.join(choices)}")
        for name in ("steps", "batch_size", "learning_rate", "max_length", "every"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be more than 0")
        if len(self.weights) != 6:
            raise ValueError(f"there are {len(self.weights)} weights; the loss has 6 parts")

    def rate(self, step: int) -> float:
        """The learning rate of a step, from 0: a line up, then half a cosine down."""
        warm = max(1, round(WARM_UP * self.steps))
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        return self.learning_rate * (1 + math.cos(math.pi * (step - warm) / max(1, self.steps - warm))) / 2


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is; ``ndcg`` is the held-out nDCG@5 when it was last looked at, None without held-out queries."""

    step: int
    steps: int
    loss: float
    rate: float
    ndcg: float | None


@dataclass(frozen=True, slots=True)
class Report:
    """What a run did; the folder loads as a model."""

    folder: Path
    steps: int
    resumed_at: int
    loss: float
    ndcg_before: float | None
    ndcg: float | None


class Trainer:
    """One run: a checkpoint, data, and the folder the result goes to.

    The weights are bfloat16 under autocast on a GPU and float32 on a CPU; the adapter is float32 in either case.

    Args:
        checkpoint: to start from. Of the three adapters, the task's is where training begins.
        data: what to learn.
        folder: new or empty, or the one of an earlier run with the same arguments, which is then gone on with.
        settings: how.
        device: as for `JinaV4`.
        dtype: as for `JinaV4`.

    Raises:
        ValueError: the data has nothing for the task, or the folder holds a run with other settings.
        UnsupportedInput: the folder holds something else.
        ModelUnavailable: the checkpoint cannot be loaded.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        data: TrainingData,
        folder: Path,
        settings: Settings,
        *,
        device: str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.folder, self.settings, self._data = folder, settings, data
        self._samplers = [
            Sampler(
                data,
                kind,
                batch_size=settings.batch_size,
                hard_negatives=settings.hard_negatives if settings.stage == "task" else 0,
                seed=settings.seed,
            )
            for kind in _kinds(data, settings)
        ]
        self._facts: dict[str, Any] = json.loads(
            json.dumps(asdict(settings) | {"data": data.fingerprint, "model": checkpoint.fingerprint})
        )
        state = read_state(folder)  # before the model, which takes long
        if state is not None:
            self._compare(state[1])
        self.model = JinaV4(checkpoint, device=device, dtype=dtype)
        self.parameters = add_trainable_adapter(self.model, settings.task)
        self._optimizer = torch.optim.AdamW(self.parameters.values(), lr=settings.learning_rate)
        self.step, self.loss = 0, math.nan
        self.ndcg_before: float | None = None
        self.ndcg: float | None = None
        if state is not None:
            self._restore(*state)
        self._resumed_at = self.step

    def run(self, on_progress: Callable[[Progress], None] = lambda _: None) -> Report:
        """Train to the end and write the folder.

        Raises:
            UnsupportedInput: a page image cannot be read.
            DocsearchError: the loss is no finite number any more; what was saved stays.
        """
        settings = self.settings
        if self.step == 0:
            self.ndcg_before = self.ndcg = self.held_out_ndcg()
            self._save()
        while self.step < settings.steps:
            rate = settings.rate(self.step)
            self._train_step(rate)
            if self.step % settings.every == 0 or self.step == settings.steps:
                self.ndcg = self.held_out_ndcg()
                self._save()
            on_progress(Progress(self.step, settings.steps, self.loss, rate, self.ndcg))
        tasks = TASKS if settings.stage == "pair" else (settings.task,)
        of_tasks = {
            name.replace(f".{settings.task}.weight", f".{task}.weight"): parameter
            for name, parameter in self.parameters.items()
            for task in tasks
        }
        write_model(self.model.checkpoint, self.folder, of_tasks)
        return Report(self.folder, self.step, self._resumed_at, self.loss, self.ndcg_before, self.ndcg)

    def _train_step(self, rate: float) -> None:
        self.model.network.train()
        torch.manual_seed(self.settings.seed * self.settings.steps + self.step)  # dropout, the same after a restart
        loss = 0.0
        for sampler in self._samplers:
            part = self.loss_of(sampler.draw(self.step))
            part.backward()  # type: ignore[no-untyped-call]
            loss += part.item()
        if not math.isfinite(loss):
            raise DocsearchError(f"the loss of step {self.step + 1} is {loss}: start again with a smaller --lr")
        nn.utils.clip_grad_norm_(self.parameters.values(), LONGEST_STEP)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.step, self.loss = self.step + 1, loss

    def loss_of(self, examples: Examples) -> Tensor:
        """w1 dense + w2 late + w3 divergence, or w4 … w6 for page images (Günther et al. 2025, equation (7)).

        Hard negatives stand in the denominators of the first two, and so do triplets of code. The divergence is over
        the batch's own documents. Pairs with scores have CoSENT in place of InfoNCE.
        """
        n = len(examples.queries)
        q_dense, q_late = self.vectors(examples.queries, "query")
        d_dense, d_late = self.vectors(examples.documents, "passage")
        ignored, labels = examples.ignored.to(q_dense.device), torch.tensor(examples.labels, device=q_dense.device)

        def contrast(scores: Tensor) -> Tensor:
            if examples.labels:
                return cosent(scores.diagonal(), labels)
            scores = scores.masked_fill(ignored, -torch.inf)
            return info_nce_with_negatives(scores[:, :n], scores[:, n:])

        late = late_scores(q_late, d_late)  # (N, M)
        parts = (
            matryoshka(q_dense, d_dense, self.model.matryoshka_dims, contrast),
            contrast(late),
            kl_dense_late(q_dense @ d_dense[:n].T, late[:, :n]),
        )
        weights = self.settings.weights[3:] if examples.kind == "image" else self.settings.weights[:3]
        return torch.stack([weight * part for weight, part in zip(weights, parts, strict=True)]).sum()

    def vectors(self, inputs: Sequence[Document], prompt_name: str) -> tuple[Tensor, list[Tensor]]:
        """(N, E) single vectors and N multi-vectors (T, D), as `JinaV4` gives them, float32, with gradients."""
        items = [self._item(one, prompt_name) for one in inputs]
        found: dict[int, tuple[Tensor, Tensor]] = {}
        for batch in make_batches(items, token_budget=TOKENS, batch_size=None):
            found |= zip(batch.places, self.model.vectors(batch), strict=True)
        rows = [found[at] for at in range(len(items))]
        return torch.stack([dense for dense, _ in rows]), [late for _, late in rows]

    def _item(self, one: Document, prompt_name: str) -> Item:
        task, settings = self.settings.task, self.settings
        reader = self.model.reader
        if isinstance(one, str):
            name = "query" if task == "text-matching" else prompt_name
            return reader.text(one, task=task, prompt_name=name, max_length=settings.max_length)
        pixels = reader.pixel_settings
        if settings.max_pixels is not None:
            pixels = replace(pixels, max_pixels=settings.max_pixels)
        try:
            with Image.open(one) as image:
                return reader.image(image, task=task, settings=pixels)
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
            raise UnsupportedInput(str(one), "corrupt", f"cannot be read as an image: {error}") from error

    @torch.no_grad()
    def held_out_ndcg(self) -> float | None:
        """nDCG@5 of late interaction on the held-out queries, None if there are none.

        It is for comparing steps of a run: on a corpus of more than a thousand documents a sample stands for the rest.
        """
        data = self._data
        if not data.held_out:
            return None
        self.model.network.train(False)
        names = data.pool(POOL, seed=self.settings.seed)
        queries = self.vectors([data.queries[query] for query in data.held_out], "query")[1]
        scores = []
        for at in range(0, len(names), POOL_PASS):
            documents = self.vectors([data.documents[name] for name in names[at : at + POOL_PASS]], "passage")[1]
            scores.append(late_scores(queries, documents))
        rows = torch.cat(scores, dim=1).tolist()
        run = {query: dict(zip(names, row, strict=True)) for query, row in zip(data.held_out, rows, strict=True)}
        ndcg = ir_measures.nDCG @ 5
        return float(ir_measures.calc_aggregate([ndcg], data.held_out, run)[ndcg])

    def _save(self) -> None:
        tensors = {f"weights/{name}": parameter.detach() for name, parameter in self.parameters.items()}
        for name, parameter in self.parameters.items():
            for moment in ("exp_avg", "exp_avg_sq"):
                if parameter in self._optimizer.state:
                    tensors[f"{moment}/{name}"] = self._optimizer.state[parameter][moment]
        now = {"step": self.step, "loss": self.loss, "ndcg_before": self.ndcg_before, "ndcg": self.ndcg}
        write_state(self.folder, tensors, {"settings": self._facts, "now": now})

    def _compare(self, saved: Mapping[str, Any]) -> None:
        for name, value in self._facts.items():
            if saved["settings"].get(name) != value:
                raise ValueError(
                    f"{self.folder} holds a run with {name} {saved['settings'].get(name)}, not {value}: "
                    f"go on with what it was begun with, or choose another folder"
                )

    @torch.no_grad()
    def _restore(self, tensors: Mapping[str, Tensor], saved: Mapping[str, Any]) -> None:
        now = saved["now"]
        self.step, self.loss = now["step"], now["loss"]
        self.ndcg_before, self.ndcg = now["ndcg_before"], now["ndcg"]
        for name, parameter in self.parameters.items():
            parameter.copy_(tensors[f"weights/{name}"])
        if self.step:
            state = {
                at: {"step": torch.tensor(float(self.step))}
                | {moment: tensors[f"{moment}/{name}"] for moment in ("exp_avg", "exp_avg_sq")}
                for at, name in enumerate(self.parameters)
            }
            self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": state})


def _kinds(data: TrainingData, settings: Settings) -> list[Kind]:
    """What this run learns from.

    Raises:
        ValueError: there is nothing.
    """
    named = {name for answers in data.train.values() for name in answers}
    there = {"image" if isinstance(data.documents[name], Path) else "text" for name in named}
    if data.pairs and settings.task == "text-matching" and settings.stage == "task":
        there.add("pairs")
    if settings.task == "code":
        there.discard("image")
    kinds = [kind for kind in KINDS if kind in there]
    if not kinds:
        raise ValueError(
            f"the data has nothing that the {settings.task} adapter could learn in the {settings.stage} stage"
        )
    return kinds
