"""A run on disk: weights and the optimizer's state in safetensors shards that stay small, and where the run stands."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict
from safetensors.torch import load_file

from docsearch.errors import UnsupportedInput

SHARD = "15MB"
MOMENTS = ("exp_avg", "exp_avg_sq")  # of AdamW


def save_run(
    folder: Path, network: torch.nn.Module, optimizer: torch.optim.Optimizer, facts: Mapping[str, Any]
) -> None:
    """Write the run beside the last one, then put it in its place."""
    names = dict(network.named_parameters())
    tensors = {f"weights/{name}": parameter.detach().cpu().contiguous() for name, parameter in names.items()}
    for name, parameter in names.items():
        for moment in MOMENTS:
            if parameter in optimizer.state:
                tensors[f"{moment}/{name}"] = optimizer.state[parameter][moment].detach().cpu().contiguous()
    new, last, old = folder / "state.new", folder / "state", folder / "state.old"
    for left in (new, old):
        shutil.rmtree(left, ignore_errors=True)
    new.mkdir(parents=True)
    save_torch_state_dict(tensors, new, max_shard_size=SHARD)
    (new / "run.json").write_text(json.dumps(facts, indent=1))
    if last.exists():
        last.rename(old)
    new.rename(last)
    shutil.rmtree(old, ignore_errors=True)


def load_run(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
    """Tensors and facts of the last saved state, None if there is none.

    Raises:
        UnsupportedInput: it is damaged.
    """
    for state in (folder / "state", folder / "state.old"):  # stopped between two renames, the old one is still there
        if (state / "run.json").exists():
            break
    else:
        return None
    try:
        tensors: dict[str, torch.Tensor] = {}
        for shard in sorted(state.glob("*.safetensors")):
            tensors |= load_file(shard)
        return tensors, json.loads((state / "run.json").read_text())
    except (OSError, ValueError) as error:
        raise UnsupportedInput(
            str(state), "corrupt", f"is no state of a run: {error}; delete it to start again"
        ) from error


@torch.no_grad()
def restore(
    network: torch.nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor], steps: int
) -> None:
    """Put the tensors back where `save_run` found them; ``steps`` were taken."""
    state = {}
    for at, (name, parameter) in enumerate(network.named_parameters()):
        parameter.copy_(tensors[f"weights/{name}"])
        if f"exp_avg/{name}" in tensors:
            state[at] = {"step": torch.tensor(float(steps))} | {m: tensors[f"{m}/{name}"] for m in MOMENTS}
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
