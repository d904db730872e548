"""Write one task of jina-embeddings-v4 as a model that sentence-transformers opens, without code of its own."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from docsearch.encoders.jina_v4.checkpoint import HUB_ID, LICENCE, Checkpoint
from docsearch.encoders.jina_v4.inputs import IMAGE_PROMPT, PAD, PREFIX
from docsearch.encoders.jina_v4.jina import MAX_LENGTH, JinaV4
from docsearch.encoders.jina_v4.model import Task, no_bar

ST = "sentence_transformers"
MODULES = {  # folder → class, in the order they are applied
    "": f"{ST}.base.modules.transformer.Transformer",
    "1_Dense": f"{ST}.base.modules.dense.Dense",
    "2_Normalize": f"{ST}.base.modules.normalize.Normalize",
    "3_MultiVectorMask": f"{ST}.multi_vector_encoder.modules.multi_vector_mask.MultiVectorMask",
}
ROWS = {"module_input_name": "token_embeddings", "module_output_name": "token_embeddings"}
HIDDEN = {"method": "forward", "method_output_name": "last_hidden_state"}

# A text is read as it stands, after its prompt. An image has a prompt of its own, and no other beside it.
CHAT_TEMPLATE = """\
{%- set images = messages | sum('content', []) | selectattr('type', 'equalto', 'image') | list -%}
{%- set asked = messages | rejectattr('role', 'equalto', 'system') | sum('content', []) -%}
{%- if not images -%}
{{- messages | sum('content', []) | map(attribute='text') | join -}}
{%- elif asked | length == 1 -%}
{{- IMAGE_PROMPT -}}
{%- else -%}
{{- raise_exception('one text or one image at a time: this model has not learned to read both together') -}}
{%- endif -%}
"""

CARD = """\
---
library_name: sentence-transformers
base_model: {base}
license: other
license_name: qwen-research-license
tags: [sentence-transformers, multi-vector, late-interaction, visual-document-retrieval]
---
# {base}, {task}, for sentence-transformers

The multi-vectors of {base} with its task `{task}` merged into the weights, stored in {dtype}: {dim} dimensions a token,
unit length, compared by MaxSim. It holds no code.

```python
from PIL import Image
from sentence_transformers import MultiVectorEncoder

model = MultiVectorEncoder("path/to/this/folder")
queries = model.encode_query(["who signed the lease?"])
pages = model.encode_document([Image.open("page.png")], prompt="")
passages = model.encode_document(["Signed on behalf of the Tenant by M. Okafor"])
scores = model.similarity(queries, pages)
```

- Install `sentence-transformers[image]`, 6.2 or later: the library opens models of this kind with torchvision only.
- Texts begin with `{query}` or `{document}`, which `encode_query` and `encode_document` put there. Images take no
  prompt: encode them with `prompt=""`. The chat template leaves a prompt out where there is an image.
- A text and an image are two inputs, not one.
- On a CPU add `model_kwargs={{"dtype": "float32"}}`: faster there, and more exact.
- sentence-transformers opens a text that is the address or path of an image, and refuses one that holds
  `<|image_pad|>`. Look at texts of strangers before you hand them over.

## Licence

{licence}. Improved using Qwen. These weights are derived from the published ones: the same licence holds for them and
for what is made of them, no commercial use among its terms, and its text goes along with every copy.
Qwen is licensed under the Qwen RESEARCH LICENSE AGREEMENT, Copyright (c) Alibaba Cloud. All Rights Reserved.
"""


def export_for_sentence_transformers(
    model: JinaV4, task: Task, folder: Path, *, dtype: torch.dtype | None = None
) -> None:
    """Write a folder that ``MultiVectorEncoder(folder)`` opens, with the multi-vectors of ``model.encode``.

    The task is merged into the model, which can do no other from then on. The folder appears when it is complete.

    Args:
        model: the model, of any device; nothing but this task must be merged into it.
        task: the one task that the folder will do.
        folder: to be made; it may exist when it is empty.
        dtype: what the weights are stored in; None is as in the checkpoint, bfloat16 for the published one (7.5 GB).
            Float32 takes twice the space and keeps the last bits of merging.

    Raises:
        FileExistsError: there is something in the folder.
        ValueError: another task has been merged into the model.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise FileExistsError(f"{folder} is not empty, and nothing is written over: name a new folder, or empty it")
    model.merge(task)
    dtype = dtype or model.checkpoint.dtype
    sides = {"query": "query", "document": "query" if task == "text-matching" else "passage"}
    prompts = {side: f"{PREFIX[name]}: " for side, name in sides.items()}
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    unfinished.mkdir()
    try:
        _write_weights(model, unfinished, dtype)
        _write_reader(model.checkpoint, unfinished)
        _write_modules(unfinished, prompts)
        about = {"base": HUB_ID, "task": task, "licence": LICENCE, "dim": model.token_dim, "dtype": dtype}
        (unfinished / "README.md").write_text(CARD.format(**about, **prompts), encoding="utf-8")
        if folder.is_dir():
            folder.rmdir()
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write_weights(model: JinaV4, folder: Path, dtype: torch.dtype) -> None:
    """The backbone where the library looks for it, and the projector as its `Dense`."""
    core, projector = model.network.model, model.network.multi_vector_projector
    with no_bar():
        core.save_pretrained(folder, state_dict={name: value.to(dtype) for name, value in core.state_dict().items()})
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for part in (config, config["text_config"], config["vision_config"]):
        part["dtype"] = str(dtype).removeprefix("torch.")  # the library wrote what the model runs in
    _write_json(folder / "config.json", config)

    (folder / "1_Dense").mkdir()
    tensors = {f"linear.{name}": value.to(dtype).cpu() for name, value in projector.state_dict().items()}
    save_file(tensors, folder / "1_Dense" / "model.safetensors", metadata={"format": "pt"})
    sizes = {"in_features": model.dense_dim, "out_features": model.token_dim, "bias": True}
    linear = {"activation_function": "torch.nn.modules.linear.Identity"}
    _write_json(folder / "1_Dense" / "config.json", sizes | linear | ROWS)


def _write_reader(checkpoint: Checkpoint, folder: Path) -> None:
    """What makes ids and pixels: the checkpoint's own, under names that the library knows."""
    shutil.copyfile(checkpoint.folder / "tokenizer.json", folder / "tokenizer.json")
    tokenizer = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": PAD, "padding_side": "right"}
    _write_json(folder / "tokenizer_config.json", tokenizer | {"model_max_length": MAX_LENGTH})
    pixels = checkpoint.json("preprocessor_config.json")
    pixels.pop("auto_map", None)  # it names code
    classes = {"image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2_5_VLProcessor"}
    _write_json(folder / "preprocessor_config.json", pixels | classes)
    template = CHAT_TEMPLATE.replace("IMAGE_PROMPT", json.dumps(IMAGE_PROMPT))
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")


def _write_modules(folder: Path, prompts: Mapping[str, str]) -> None:
    """How the library puts it together."""
    order = [{"idx": at, "name": str(at), "path": path, "type": MODULES[path]} for at, path in enumerate(MODULES)]
    _write_json(folder / "modules.json", order)
    # Left to itself the library would offer videos as well.
    kinds = {"text": HIDDEN, "image": HIDDEN, "message": HIDDEN | {"format": "structured"}}
    reads = {"transformer_task": "feature-extraction", "module_output_name": "token_embeddings"}
    _write_json(folder / "sentence_bert_config.json", reads | {"modality_config": kinds})
    for path, settings in (("2_Normalize", ROWS), ("3_MultiVectorMask", {"skiplist_words": []})):
        (folder / path).mkdir()
        _write_json(folder / path / "config.json", settings)
    about = {"model_type": "MultiVectorEncoder", "similarity_fn_name": "maxsim", "default_prompt_name": None}
    _write_json(folder / "config_sentence_transformers.json", about | {"prompts": dict(prompts)})


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
