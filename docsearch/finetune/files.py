"""What training leaves on disk: a folder in the published layout, and the state a run goes on from. No pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from docsearch.encoders.jina_v4.checkpoint import ADAPTERS, Checkpoint
from docsearch.errors import UnsupportedInput

STATE = "training.safetensors"
PART = ".part"  # of a file that is being written


def write_model(source: Checkpoint, folder: Path, trained: Mapping[str, Tensor]) -> None:
    """Make a folder that loads as the published one does: new adapters, and links to the rest, which is not copied.

    Args:
        source: the checkpoint that was trained from; it has to stay where it is.
        folder: where to; what is there of an earlier run is replaced.
        trained: adapter tensors in their published names; the others are those of the source.

    Raises:
        OSError: no space is left, or the file system knows no symbolic links.
    """
    (folder / ADAPTERS).parent.mkdir(parents=True, exist_ok=True)
    for file in _base_files(source.folder):
        link = folder / file.name
        link.unlink(missing_ok=True)
        link.symlink_to(file.resolve())
    settings = (source.folder / "adapters" / "adapter_config.json").read_bytes()
    (folder / "adapters" / "adapter_config.json").write_bytes(settings)
    stored = {name: (tensor, tensor.dtype) for name, tensor in source.tensors(source.adapter_headers)}
    tensors = {name: trained.get(name, tensor).detach().to("cpu", dtype) for name, (tensor, dtype) in stored.items()}
    _write(folder / ADAPTERS, tensors, {"format": "pt"})


def _base_files(folder: Path) -> Iterator[Path]:
    for file in sorted(folder.iterdir()):
        if file.is_file() and file.name != STATE and not file.name.startswith("."):
            yield file


def write_state(folder: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Replace the state in one piece: a run that is stopped here finds the old one or the new one."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(
        folder / STATE, {name: tensor.detach().cpu() for name, tensor in tensors.items()}, {"run": json.dumps(facts)}
    )


def read_state(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """What `write_state` wrote, None if it never did.

    Raises:
        UnsupportedInput: the file is damaged, or there are other files where the run was to be.
    """
    path = folder / STATE
    if not path.exists():
        if folder.exists() and any(file.name != STATE + PART for file in folder.iterdir()):
            raise UnsupportedInput(str(folder), "unsupported", "holds other files; choose an empty folder")
        return None
    try:
        with safe_open(path, framework="pt") as opened:
            facts: dict[str, Any] = json.loads(opened.metadata()["run"])
            return {name: opened.get_tensor(name) for name in opened.keys()}, facts  # noqa: SIM118 - no dict
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        way = "delete it to start again from the beginning"
        raise UnsupportedInput(str(path), "corrupt", f"is no state of a run: {error}; {way}") from error


def _write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Written beside, synced, then put in place."""
    part = path.with_name(path.name + PART)
    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part, metadata=metadata)
    except SafetensorError as error:  # so it says that the disk is full
        raise OSError(f"{path} cannot be written: {error}") from error
    with part.open("rb+") as opened:
        os.fsync(opened.fileno())
    part.replace(path)
