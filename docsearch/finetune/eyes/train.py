"""Teach `eyes` to read: pages without end, dense targets, a curriculum, and a run that goes on where it was stopped."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation

from docsearch.errors import DocsearchError, UnsupportedInput
from docsearch.finetune.eyes.network import SIZES, EyesNetwork
from docsearch.finetune.eyes.pages.fonts import Font
from docsearch.finetune.eyes.pages.maker import Style
from docsearch.finetune.eyes.pages.texts import Texts
from docsearch.finetune.eyes.state import load_run, restore, save_run
from docsearch.finetune.eyes.stream import Batch, Source
from docsearch.finetune.eyes.targets import Alphabet, word_table

CANDIDATES = 2500  # cells among which one must find its own target
TEMPERATURE = 0.1
CONTRASTED = 1024  # cells of a batch that are told apart
ALIKE = 0.95  # cosine of centred targets that are the same word: not to be told apart
BLANKS = 0.05  # share of the empty slots that count
TABLE_PASSAGES, PASSAGE = 3000, 150  # words
ALPHABET_SIZE = 600
LOOK_SECONDS, SAVE_SECONDS = 60.0, 120.0


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the curriculum."""

    style: Style
    context: float  # 0: a piece's mean vector, 1: its vector on the page
    share: float  # of the run


CURRICULUM = (Stage("line", 0, 0.1), Stage("fonts", 0, 0.4), Stage("full", 0, 0.2), Stage("full", 1, 0.3))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a run learns; what it was begun with it goes on with."""

    size: str = "S"
    cells: float = 1e9  # cells with a target to learn from; the length of the run
    curriculum: tuple[Stage, ...] = CURRICULUM
    height: int = 448  # px of the pages, multiples of 112
    width: int = 448
    batch_size: int = 16  # pages
    learning_rate: float = 2e-3
    warmup: float = 1e5  # cells
    weight_decay: float = 0.05
    contrast: float = 0.3  # weight of telling cells apart, beside the cosine
    spelling: float = 1.0  # weight of naming characters
    causal: bool = False
    by_heart: int = 0  # learn these few pages only, to see that they can be learned; 0 learns from all
    seed: int = 0

    def stage(self, seen: float) -> Stage:
        """The stage after so many cells."""
        ends = np.cumsum([stage.share for stage in self.curriculum]) / sum(stage.share for stage in self.curriculum)
        at = int(np.searchsorted(ends, seen / self.cells, side="right"))
        return self.curriculum[min(at, len(self.curriculum) - 1)]

    def rate(self, seen: float) -> float:
        """Rises to the learning rate, then falls along a cosine to a twentieth of it."""
        fallen = 0.5 * (1 + math.cos(math.pi * min(1.0, seen / self.cells)))
        return self.learning_rate * min(1.0, (seen + 1) / self.warmup) * (0.05 + 0.95 * fallen)


@dataclass(frozen=True, slots=True)
class Material:
    """Texts and fonts, to learn from and held out."""

    texts: Texts
    fonts: Sequence[Font]
    held_out_texts: Texts
    held_out_fonts: Sequence[Font]


class Trainer:
    """One run in one folder: `curves.jsonl` says how it goes, `state/` is where it goes on from.

    Args:
        folder: of the run.
        settings: of the run; a folder with a run keeps its own and refuses others.
        material: what pages are made of.
        workers: processes that make pages.
        device: `cpu`, `cuda`.
    """

    def __init__(
        self, folder: Path, settings: Settings, material: Material, *, workers: int = 1, device: str = "cpu"
    ) -> None:
        self.folder, self.settings, self._material = folder, settings, material
        self._workers, self._device = workers, device
        self.alphabet = read_alphabet(material.texts)
        self._table = word_table(passages(material.texts), folder / "words.safetensors")
        self._centre = torch.from_numpy(self._table["vectors"].astype(np.float32).mean(0)).to(device)
        torch.manual_seed(settings.seed)
        shape = SIZES[settings.size]
        self.network = EyesNetwork(shape, n_chars=len(self.alphabet), causal=settings.causal).to(device)
        self._optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=settings.learning_rate, betas=(0.9, 0.98), weight_decay=settings.weight_decay,
        )  # fmt: skip
        self.step, self.cells, self.pages, self.seconds = 0, 0, 0, 0.0
        self._facts = json.loads(json.dumps(asdict(settings) | {"alphabet": self.alphabet.characters}))
        if (found := load_run(folder)) is not None:
            self._go_on(*found)
        self._forward = torch.compile(self.network) if device != "cpu" else self.network

    def run(
        self, *, seconds: float = math.inf, on_progress: Callable[[Mapping[str, float]], None] = lambda _: None
    ) -> bool:
        """Learn for so long, save, and say whether the run is at its end.

        Raises:
            DocsearchError: the loss is no finite number any more; what was saved stays.
        """
        started, before = time.monotonic(), self.seconds
        looked, saved = -math.inf, started
        while self.cells < self.settings.cells:
            stage = self.settings.stage(self.cells)
            batches = self.source(stage).batches(self.pages, self.settings.batch_size, self._workers)
            held_out = self.held_out(stage)
            while self.settings.stage(self.cells) is stage:
                losses = self._train_step(next(batches))
                now = time.monotonic()
                self.seconds = before + now - started
                ended = self.cells >= self.settings.cells
                stopped = ended or now - started >= seconds
                if stopped or now - looked > LOOK_SECONDS:
                    looked = now
                    self._note(stage, losses, held_out)
                    on_progress(losses)
                if stopped or now - saved > SAVE_SECONDS:
                    saved = now
                    self.save()
                if stopped:
                    return ended
        return True

    def source(self, stage: Stage) -> Source:
        """The pages of a stage."""
        settings = self.settings
        return Source(
            texts=self._material.texts, fonts=self._material.fonts, table=self._table, alphabet=self.alphabet,
            height=settings.height, width=settings.width, style=stage.style, context=stage.context, seed=settings.seed,
            by_heart=settings.by_heart,
        )  # fmt: skip

    def held_out(self, stage: Stage, n: int = 16) -> dict[str, Batch]:
        """Pages of texts that are never learned from: in the stage's fonts, and in fonts that are held out, too."""
        if self.settings.by_heart:
            return {"learned by heart": self.source(stage).sample(self.settings.by_heart)}
        seen = replace(self.source(stage), texts=self._material.held_out_texts)
        sets = {"seen fonts": seen.sample(n)}
        if stage.style != "line":
            sets["held-out fonts"] = replace(seen, fonts=self._material.held_out_fonts).sample(n)
        return sets

    def losses(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Cosine distance to the target, telling cells apart, naming characters; and their weighted sum."""
        settings = self.settings
        with torch.autocast(self._device, torch.bfloat16):
            tokens, named = self._forward(prepare(batch.images))
        found, wanted = tokens[batch.known], batch.cells[batch.known]
        far = (1 - (found * wanted).sum(1)).mean()
        some = torch.randperm(len(found), device=found.device)[:CONTRASTED]
        ours, theirs = (F.normalize(part[some] - self._centre, dim=-1) for part in (found, wanted))
        own = torch.eye(len(some), dtype=torch.bool, device=found.device)
        scores = (ours @ theirs.T / TEMPERATURE).masked_fill((theirs @ theirs.T > ALIKE) & ~own, -1e4)
        apart = F.cross_entropy(scores, torch.arange(len(some), device=found.device))
        picked = (batch.slots > 0) | (torch.rand(batch.slots.shape, device=found.device) < BLANKS)
        spelt = F.cross_entropy(named[picked].float(), batch.slots[picked])
        loss = far + settings.contrast * apart + settings.spelling * spelt
        return {"loss": loss, "far": far, "apart": apart, "spelt": spelt}

    @torch.no_grad()
    def look(self, batch: Batch) -> dict[str, float]:
        """How well the cells of some pages are known.

        ``cosine``: of cells with their targets; ``centred``: with the mean of the words' vectors taken off both;
        ``r1``: how often a cell's own target, or one equal to it, is the nearest of at most 2,500; ``chars``: of the
        slots with a character, how many are named.
        """
        batch = self._here(batch)
        tokens, right, slots = [], 0, 0
        for at in range(len(batch.images)):  # one by one: little memory beside the workers
            with torch.autocast(self._device, torch.bfloat16):
                found, named = self.network(prepare(batch.images[at : at + 1]))
            tokens.append(found[0][batch.known[at]])
            there = batch.slots[at] > 0
            right += int((named[0].argmax(-1)[there] == batch.slots[at][there]).sum())
            slots += int(there.sum())
        ours = torch.cat(tokens)
        every = torch.randperm(len(ours), generator=torch.Generator().manual_seed(0)).to(ours.device)[:CANDIDATES]
        ours, wanted = ours[every], batch.cells[batch.known][every]
        pair = [F.normalize(part - self._centre, dim=-1) for part in (ours, wanted)]
        nearest = (pair[0] @ pair[1].T).argmax(1)
        return {
            "cosine": float((ours * wanted).sum(1).mean()),
            "centred": float((pair[0] * pair[1]).sum(1).mean()),
            "r1": float(((pair[1][nearest] * pair[1]).sum(1) > 0.999).float().mean()),
            "chars": right / max(1, slots),
        }

    def begin_with(self, folder: Path) -> None:
        """Take the weights of another run that fit; what does not is learned anew."""
        found = load_run(folder)
        if found is None:
            raise UnsupportedInput(str(folder), "empty", "holds no run")
        own = self.network.state_dict()
        weights = {name: found[0].get(f"weights/{name}", value) for name, value in own.items()}
        self.network.load_state_dict(
            {n: value if value.shape == own[n].shape else own[n] for n, value in weights.items()}
        )

    def save(self) -> None:
        """Write down where the run stands."""
        now = {"step": self.step, "cells": self.cells, "pages": self.pages, "seconds": self.seconds}
        save_run(self.folder, self.network, self._optimizer, {"settings": self._facts, "now": now})

    def _train_step(self, batch: Batch) -> dict[str, float]:
        batch = self._here(batch)
        for group in self._optimizer.param_groups:
            group["lr"] = self.settings.rate(self.cells)
        losses = self.losses(batch)
        if not torch.isfinite(losses["loss"]):
            raise DocsearchError(f"the loss of step {self.step + 1} is {losses['loss']}: begin again, learning slower")
        self._optimizer.zero_grad()
        losses["loss"].backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self._optimizer.step()
        self.step, self.pages = self.step + 1, self.pages + len(batch.images)
        self.cells += int(batch.known.sum())
        return {name: loss.item() for name, loss in losses.items()}

    def _note(self, stage: Stage, losses: Mapping[str, float], held_out: Mapping[str, Batch]) -> None:
        line = {
            "step": self.step, "cells": self.cells, "pages": self.pages, "seconds": round(self.seconds),
            "style": stage.style, "context": stage.context, **losses,
            "held_out": {name: self.look(batch) for name, batch in held_out.items()},
        }  # fmt: skip
        with (self.folder / "curves.jsonl").open("a") as curves:
            curves.write(json.dumps(line) + "\n")

    def _here(self, batch: Batch) -> Batch:
        return Batch(*(part.to(self._device) for part in (batch.images, batch.cells, batch.known, batch.slots)))

    def _go_on(self, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> None:
        for name, value in self._facts.items():
            if facts["settings"].get(name) != value:
                raise ValueError(
                    f"{self.folder} holds a run with another {name}: go on with its own, or choose another folder"
                )
        now = facts["now"]
        self.step, self.cells, self.pages, self.seconds = now["step"], now["cells"], now["pages"], now["seconds"]
        restore(self.network, self._optimizer, tensors, self.step)


def prepare(images: torch.Tensor) -> torch.Tensor:
    """(B, H, W) uint8 grey -> float32 in -1..1, ink being 1."""
    return 1 - images.float() / 127.5


def read_alphabet(texts: Texts) -> Alphabet:
    """The characters that matter: the most frequent ones of every language alike."""
    found: dict[str, float] = {}
    for documents in texts.values():
        sample = "".join("".join(document[:3])[:400] for document in documents[:: max(1, len(documents) // 500)])
        for character in set(sample) - set(" \n\t"):
            found[character] = max(found.get(character, 0.0), sample.count(character) / len(sample))
    ordered = sorted(found, key=lambda character: (-found[character], character))
    return Alphabet("".join(sorted(ordered[:ALPHABET_SIZE])))


def passages(texts: Texts) -> Iterator[Sequence[str]]:
    """Stretches of text of all languages in turn, for the mean vectors of pieces."""
    chance = np.random.default_rng(0)
    for at in range(TABLE_PASSAGES):
        documents = texts[sorted(texts)[at % len(texts)]]
        words = " ".join(documents[int(chance.integers(len(documents)))]).split()
        start = int(chance.integers(max(1, len(words) - PASSAGE)))
        if words:
            yield words[start : start + PASSAGE]
