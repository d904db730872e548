"""The published folder: where it is, what must be in it, and whether it is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open
from transformers import Qwen2_5_VLConfig

from docsearch.errors import ModelUnavailable

HUB_ID = "jinaai/jina-embeddings-v4"
REVISION = "4a58ca57710c49f51896e4bc820e202fbf64904b"
LICENCE = "Qwen Research License (non-commercial)"
FILES = ["*.json", "tokenizer.json", "*.safetensors", "adapters/*"]  # of the repository: no code, no pictures
ADAPTERS = Path("adapters") / "adapter_model.safetensors"
DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
SAMPLES, SAMPLE_BYTES = 64, 4096  # of every large file, for the fingerprint


@dataclass(frozen=True, slots=True)
class Header:
    """What a safetensors file says of one of its tensors."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    file: Path


@dataclass(frozen=True, slots=True)
class Census:
    """What was counted: tensors of the model, tensors of its adapters, and the numbers in all of them."""

    base: int
    adapters: int
    parameters: int


class Checkpoint:
    """A local folder in the layout of jina-embeddings-v4. Nothing in it is executed, and no pickle is read.

    Raises:
        ModelUnavailable: a file is missing or cannot be read; the message names it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("config.json", "tokenizer.json", "preprocessor_config.json", "adapters/adapter_config.json"):
            if not (folder / name).is_file():
                raise ModelUnavailable(f"{folder} is no jina-embeddings-v4: {name} is not in it")

    def json(self, name: str) -> dict[str, Any]:
        """One of the folder's JSON files."""
        try:
            read: dict[str, Any] = json.loads((self.folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ModelUnavailable(f"{self.folder / name} cannot be read: {error}") from error
        return read

    @cached_property
    def config(self) -> Qwen2_5_VLConfig:
        """The model's configuration. Its ``auto_map`` (remote code) and its attention setting are left behind."""
        keys = self.json("config.json")
        dropped = ("auto_map", "_attn_implementation", "architectures", "model_type")
        config = Qwen2_5_VLConfig(**{key: value for key, value in keys.items() if key not in dropped})
        config.multi_vector_projector_dim = keys["multi_vector_projector_dim"]
        return config

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are stored in."""
        keys = self.json("config.json")
        return getattr(torch, str(keys.get("dtype") or keys.get("torch_dtype") or "bfloat16"))  # type: ignore[no-any-return]

    @cached_property
    def headers(self) -> dict[str, Header]:
        """Name → header of every tensor of the model, in the published names."""
        index = self.folder / "model.safetensors.index.json"
        files = sorted(set(self.json(index.name)["weight_map"].values())) if index.is_file() else ["model.safetensors"]
        headers: dict[str, Header] = {}
        for file in files:
            headers |= dict(_headers(self.folder / Path(file).name))
        return headers

    @cached_property
    def adapter_headers(self) -> dict[str, Header]:
        """Name → header of every tensor of the adapters."""
        return dict(_headers(self.folder / ADAPTERS))

    def tensors(self, headers: Mapping[str, Header]) -> Iterator[tuple[str, torch.Tensor]]:
        """Load tensors, file by file."""
        for file in sorted({header.file for header in headers.values()}):
            with safe_open(file, framework="pt") as opened:
                for name in opened.keys():  # noqa: SIM118 - no dict
                    if name in headers:
                        yield name, opened.get_tensor(name)

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits of the content: small files and adapters whole, of the shards a sample.

        The sample is the first bytes (names, shapes) and 64 evenly spaced blocks of 4 KiB: gigabytes are not read to
        find out that they are the same, and any training changes every block.
        """
        digest = hashlib.sha256()
        for file in sorted({header.file for header in self.headers.values()}):
            _sample(file, digest)
        digest.update((self.folder / ADAPTERS).read_bytes())
        for name in ("config.json", "tokenizer.json", "preprocessor_config.json"):
            digest.update((self.folder / name).read_bytes())
        return digest.hexdigest()[:16]


def find_checkpoint(source: str = "", *, revision: str | None = None, download: bool = False) -> Checkpoint:
    """The checkpoint in a folder, or of a hub repository.

    Args:
        source: a folder, or the name of a repository (``owner/name``); empty is the published one.
        revision: a commit, branch or tag; None is the pinned commit of the published one, or ``main`` of another.
        download: fetch what is not here yet, 7.9 GB for the published one. Otherwise nothing is ever fetched.

    Raises:
        ModelUnavailable: there is no such folder, or the weights are not on this machine and may not be fetched.
    """
    source = source or HUB_ID
    folder = Path(source).expanduser()
    if folder.is_dir():
        return Checkpoint(folder)
    pinned = revision or (REVISION if source == HUB_ID else "main")
    try:
        found = snapshot_download(source, revision=pinned, allow_patterns=FILES, local_files_only=not download)
    except HFValidationError as error:
        raise ModelUnavailable(f"{source} is neither a folder nor the name of a model repository") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        way = "look at the connection and try again" if download else _how_to_get(source)
        raise ModelUnavailable(f"the weights of {source} are not on this machine: {way}") from error
    return Checkpoint(Path(found))


def _how_to_get(source: str) -> str:
    name = "" if source == HUB_ID else f" --model {source}"
    return (
        f"`docsearch models download jina-v4{name}` fetches them (7.9 GB; {LICENCE}), "
        "or name a folder that holds them: --encoder jina-v4:FOLDER"
    )


def _headers(file: Path) -> Iterator[tuple[str, Header]]:
    try:
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - no dict
                part = opened.get_slice(name)
                yield name, Header(tuple(part.get_shape()), DTYPES.get(part.get_dtype(), torch.uint8), file)
    except (OSError, SafetensorError) as error:
        raise ModelUnavailable(f"{file} cannot be read: {error}") from error


def _sample(file: Path, digest: Any) -> None:
    size = file.stat().st_size
    digest.update(str(size).encode())
    with file.open("rb") as opened:
        digest.update(opened.read(1 << 20))
        for at in range(SAMPLES):
            opened.seek(size * at // SAMPLES)
            digest.update(opened.read(SAMPLE_BYTES))
