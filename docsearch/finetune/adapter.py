"""The adapter that is trained: peft's, on the layers of the published one, starting from its weights."""

from __future__ import annotations

import warnings
from typing import Any

from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from torch import nn

from docsearch.encoders.jina_v4 import JinaV4, Task
from docsearch.encoders.jina_v4.model import TaskLinear, adapted_modules
from docsearch.errors import ModelUnavailable


def add_trainable_adapter(model: JinaV4, task: Task) -> dict[str, nn.Parameter]:
    """Exchange the fixed adapters of a model for one of peft's that can be trained, with the weights of a task.

    Returns:
        The parameters to train, projector among them, in their published names.
    """
    network: Any = model.network
    checkpoint = model.checkpoint
    for name, layer in list(network.named_modules()):
        if isinstance(layer, TaskLinear):
            network.set_submodule(name, layer.base)
    settings = checkpoint.json("adapters/adapter_config.json")
    config = LoraConfig(
        r=settings["r"],
        lora_alpha=settings["lora_alpha"],
        lora_dropout=settings["lora_dropout"],
        target_modules=[name for name, _ in adapted_modules(network)],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by an old name
        wrapped = get_peft_model(network, config, adapter_name=task)  # in float32
    enable = getattr(network, "activation_checkpointing_enable", network.gradient_checkpointing_enable)  # the old name
    enable({"use_reentrant": False})
    # What that has switched on would send every backward pass through the frozen vision tower too.
    network.disable_input_require_grads()
    ending = f".{task}.weight"
    headers = {name: header for name, header in checkpoint.adapter_headers.items() if name.endswith(ending)}
    published = {name.replace(ending, ".weight"): tensor for name, tensor in checkpoint.tensors(headers)}
    unknown = set_peft_model_state_dict(wrapped, published, adapter_name=task).unexpected_keys
    parameters = {name: weight for name, weight in wrapped.named_parameters() if weight.requires_grad}
    if unknown or parameters.keys() != headers.keys():  # a change in the library
        raise ModelUnavailable(f"{checkpoint.folder}: peft could not place the adapter of {task}")
    network.train(False)
    return parameters
