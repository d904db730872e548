"""The network: stock Qwen2.5-VL without a language-model head, a projector, and adapters chosen row by row."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from torch import nn
from transformers import Qwen2_5_VLModel
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLPreTrainedModel
from transformers.utils import is_flash_attn_2_available, logging

from docsearch.encoders.jina_v4.checkpoint import Census, Checkpoint, Header
from docsearch.encoders.jina_v4.vision import batch_windows
from docsearch.errors import ModelUnavailable

Task = Literal["retrieval", "text-matching", "code"]
TASKS: tuple[Task, ...] = get_args(Task)
Attention = Literal["flash_attention_2", "sdpa", "eager"]

# The published files have the names of the first Qwen2.5-VL release; transformers 5 calls the same modules otherwise.
# Without this mapping it would leave them random and say so in a warning only.
KEY_MAPPING = {r"^visual\.": "model.visual.", r"^model\.(?!language_model\.|visual\.)": "model.language_model."}
ADAPTER_NAME = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.(?P<task>[^.]+)\.weight")
PROJECTOR = "multi_vector_projector"


class JinaV4Network(Qwen2_5_VLPreTrainedModel):  # type: ignore[misc]
    """Ids and pixels to the last hidden state; the projector makes token vectors of it."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.model = Qwen2_5_VLModel(config)
        self.multi_vector_projector = nn.Linear(config.text_config.hidden_size, config.multi_vector_projector_dim)
        self.post_init()


class TaskLinear(nn.Module):
    """A linear layer with a low-rank change per task: y = W x + b + (alpha / r) B A x (Hu et al. 2021, "LoRA").

    ``route`` is shared by all layers of a network and says which task each row of the batch has.
    """

    def __init__(self, base: nn.Linear, route: list[str], scaling: float) -> None:
        super().__init__()
        self.base, self.route, self.scaling = base, route, scaling
        self.lowers, self.raises = nn.ParameterDict(), nn.ParameterDict()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, …, n_in) -> (B, …, n_out)."""
        y: torch.Tensor = self.base(x)
        tasks = set(self.route)
        if len(tasks) == 1:
            return y + self._change(x, self.route[0])
        y = y.clone()
        for task in tasks:
            rows = torch.tensor([at for at, name in enumerate(self.route) if name == task], device=x.device)
            y[rows] += self._change(x[rows], task)
        return y

    def _change(self, x: torch.Tensor, task: str) -> torch.Tensor:
        lowered = nn.functional.linear(x, self.lowers[task])
        return nn.functional.linear(lowered, self.raises[task]) * self.scaling

    @torch.no_grad()
    def merged(self, task: str) -> nn.Linear:
        """The layer with one task's change in its weights, added in float32 and rounded once."""
        change = self.raises[task].float() @ self.lowers[task].float() * self.scaling
        self.base.weight.copy_((self.base.weight.float() + change).to(self.base.weight.dtype))
        return self.base


def load_network(
    checkpoint: Checkpoint, *, device: str, dtype: torch.dtype, attention: Attention | None = None
) -> JinaV4Network:
    """The network with the weights of the checkpoint, without adapters.

    Raises:
        ModelUnavailable: a tensor is missing, unknown, or of another shape or type; the first one is named.
    """
    take_census(checkpoint)
    attention = attention or best_attention(device, dtype)
    checkpoint.config._attn_implementation = attention  # noqa: SLF001 - the library's own name for it
    with no_bar():
        network, info = JinaV4Network.from_pretrained(
            checkpoint.folder,
            config=checkpoint.config,
            dtype=dtype,
            attn_implementation=attention,
            key_mapping=KEY_MAPPING,
            output_loading_info=True,
            use_safetensors=True,
            local_files_only=True,
        )
    wrong = [*info["missing_keys"], *info["unexpected_keys"], *info["mismatched_keys"]]
    if wrong:  # the census has seen them all, so this is a change in the library
        raise ModelUnavailable(f"{checkpoint.folder}: transformers could not place {wrong[0]}")
    batch_windows(network.model.visual)
    return network.to(device).eval().requires_grad_(False)  # type: ignore[no-any-return]


def add_adapters(network: JinaV4Network, checkpoint: Checkpoint) -> list[str]:
    """Put the adapters of every task into the network; returns the route its layers share."""
    settings = checkpoint.json("adapters/adapter_config.json")
    scaling = settings["lora_alpha"] / settings["r"]
    route: list[str] = [TASKS[0]]
    for name, tensor in checkpoint.tensors(checkpoint.adapter_headers):
        module, side, task = parse_adapter_name(name)
        layer = network.get_submodule(module)
        if isinstance(layer, nn.Linear):
            layer = TaskLinear(layer, route, scaling)
            network.set_submodule(module, layer)
        assert isinstance(layer, TaskLinear)
        weight = nn.Parameter(tensor.to(layer.base.weight.device, layer.base.weight.dtype), requires_grad=False)
        (layer.lowers if side == "A" else layer.raises)[task] = weight
    return route


def merge_task(network: JinaV4Network, task: str) -> None:
    """Fold one task into the weights and drop the adapters: a little faster, and the network knows that task only."""
    for name, layer in list(network.named_modules()):
        if isinstance(layer, TaskLinear):
            network.set_submodule(name, layer.merged(task))


@contextmanager
def no_bar() -> Iterator[None]:
    """The library draws a bar of its own while it loads; what a command shows is the command's."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def best_attention(device: str, dtype: torch.dtype) -> Attention:
    """FlashAttention 2 where it is installed and can run, else torch's own."""
    half = dtype in (torch.bfloat16, torch.float16)
    return "flash_attention_2" if device.startswith("cuda") and half and is_flash_attn_2_available() else "sdpa"


def take_census(checkpoint: Checkpoint) -> Census:
    """Compare every tensor's name, shape and type with what the config implies.

    Raises:
        ModelUnavailable: at the first difference. A layer is never left random.
    """
    with torch.device("meta"):
        network = JinaV4Network(checkpoint.config)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    names = {_inner_name(name): name for name in checkpoint.headers}
    _compare(checkpoint, shapes, {inner: checkpoint.headers[name] for inner, name in names.items()}, names)
    adapters = dict(_adapter_shapes(checkpoint, network))
    _compare(checkpoint, adapters, checkpoint.adapter_headers, {})
    counts = [torch.Size(shape).numel() for shape in [*shapes.values(), *adapters.values()]]
    return Census(len(shapes), len(adapters), sum(counts))


def parse_adapter_name(name: str) -> tuple[str, str, str]:
    """Module, side (A or B) and task of an adapter tensor."""
    found = ADAPTER_NAME.fullmatch(name)
    if not found:
        raise ModelUnavailable(f"the adapters hold {name}, which is no name of a task adapter")
    module = found["module"]
    return module if module == PROJECTOR else f"model.{module.removeprefix('model.')}", found["side"], found["task"]


def adapted_modules(network: nn.Module) -> Iterator[tuple[str, tuple[int, int]]]:
    """Name and (n_out, n_in) of every layer that has adapters: all products of the decoder, and the projector."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear) and (name == PROJECTOR or name.startswith("model.language_model.layers.")):
            yield name, (module.out_features, module.in_features)


def _adapter_shapes(checkpoint: Checkpoint, network: nn.Module) -> Iterator[tuple[str, tuple[int, ...]]]:
    rank = checkpoint.json("adapters/adapter_config.json")["r"]
    for module, (n_out, n_in) in adapted_modules(network):
        for task in TASKS:
            yield f"base_model.model.{module}.lora_A.{task}.weight", (rank, n_in)
            yield f"base_model.model.{module}.lora_B.{task}.weight", (n_out, rank)


def _compare(
    checkpoint: Checkpoint,
    expected: Mapping[str, tuple[int, ...]],
    found: Mapping[str, Header],
    published: Mapping[str, str],
) -> None:
    """Raise at the first difference, in the order of names."""
    say = f"{checkpoint.folder} is not what its config.json says"
    again = "fetch it again, or name another folder"
    for name in sorted({*expected, *found}):
        shown = published.get(name, name)
        if name not in found:
            raise ModelUnavailable(f"{say}: {shown} is missing; {again}")
        if name not in expected:
            raise ModelUnavailable(f"{say}: {shown} is no part of the model; {again}")
        header = found[name]
        if header.shape != expected[name]:
            raise ModelUnavailable(f"{say}: {shown} is {header.shape} instead of {expected[name]}; {again}")
        if header.dtype != checkpoint.dtype:
            raise ModelUnavailable(f"{say}: {shown} is {header.dtype} instead of {checkpoint.dtype}; {again}")


def _inner_name(name: str) -> str:
    for pattern, replacement in KEY_MAPPING.items():
        name = re.sub(pattern, replacement, name)
    return name


def route_rows(route: list[str], tasks: Sequence[str]) -> None:
    """Say which task each row of the next batch has."""
    route[:] = tasks
