"""The sentence-transformers encoder: the library's vectors, whole pages, the planted answer, no foreign code."""

from __future__ import annotations

import functools
import json
import pickle
import shutil
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from planted import page_text, run_python, unique_word, write_pdf
from safetensors.numpy import load_file, save_file
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.multi_vector_encoder.modules import HierarchicalTokenPooling, MultiVectorMask
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, ColQwen2Config, ColQwen2ForRetrieval, ColQwen2Processor
from transformers import PreTrainedTokenizerFast as FastTokenizer
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from docsearch import Index
from docsearch.encoders.sentence_transformers import SentenceTransformersEncoder, _fingerprint, licence_of
from docsearch.errors import ModelUnavailable, UnsupportedInput
from docsearch.options import IndexOptions
from docsearch.protocols import Encoder
from docsearch.types import BOX_UNIT, PageRef, PatchGrid, Query, RenderedPage, Words

NAMES = ("lease", "manual", "notes")
LONGEST = 24  # tokens the text model reads at once, page or query, its prompt and special tokens among them
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]", "[unused1]")
VISION = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>")


@pytest.fixture(scope="module")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_text_model(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def encoder(text_model: Path) -> SentenceTransformersEncoder:
    return SentenceTransformersEncoder(str(text_model), device="cpu")


@pytest.fixture(scope="module")
def page_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ColQwen2 of a few thousand random numbers: one token a byte, 14-pixel patches, four of them a row."""
    folder = tmp_path_factory.mktemp("page")
    tokenizer = Tokenizer(models.BPE({c: n for n, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast = FastTokenizer(tokenizer_object=tokenizer, pad_token=VISION[0], additional_special_tokens=list(VISION))
    ids = dict(zip(VISION, fast.convert_tokens_to_ids(list(VISION)), strict=True))
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
    text = {
        "model_type": "qwen2_vl_text", "vocab_size": len(fast), "hidden_size": 32, "intermediate_size": 48,
        "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "rope_parameters": rope,
        "bos_token_id": 0, "eos_token_id": 0,
    }  # fmt: skip
    vision = {"depth": 1, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2, "patch_size": 14}
    vlm = {
        "model_type": "qwen2_vl", "text_config": text, "vision_config": vision,
        "image_token_id": ids["<|image_pad|>"], "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"], "video_token_id": 1,
    }  # fmt: skip
    torch.manual_seed(0)
    ColQwen2ForRetrieval(ColQwen2Config(embedding_dim=16, vlm_config=vlm)).save_pretrained(folder)
    pixels = Qwen2VLImageProcessorPil(size={"shortest_edge": 28 * 28, "longest_edge": 16 * 28 * 28})
    ColQwen2Processor(pixels, fast).save_pretrained(folder)
    return folder


def make_text_model(folder: Path, *modules: torch.nn.Module, **transformer: Any) -> Path:
    """A ColBERT as sentence-transformers saves one: marked prompts, punctuation skipped, queries filled with masks."""
    alphabet = string.ascii_lowercase + string.digits
    words = ["harbour", "valve", *(unique_word(name, 1) for name in NAMES)]
    pieces = dict.fromkeys([*SPECIALS, *string.punctuation, *alphabet, *(f"##{c}" for c in alphabet), *words])
    tokenizer = Tokenizer(models.WordPiece({piece: n for n, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    fast = FastTokenizer(
        tokenizer_object=tokenizer, model_max_length=64, additional_special_tokens=["[unused0]", "[unused1]"],
        **{f"{token.strip('[]').lower()}_token": token for token in SPECIALS[:5]},
    )  # fmt: skip
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    bert = BertModel(BertConfig(vocab_size=len(pieces), max_position_embeddings=64, **sizes))
    torch.nn.init.normal_(bert.embeddings.word_embeddings.weight)  # what a token is outweighs where it stands
    bert.embeddings.word_embeddings.weight.data[5] = bert.embeddings.word_embeddings.weight.data[6]  # markers match
    bert.save_pretrained(folder / "bert")
    fast.save_pretrained(folder / "bert")
    expansion = {"strategy": "fixed", "attend": False, "length": LONGEST}
    lengths = {"document_length": LONGEST, "query_expansion": expansion, **transformer}
    MultiVectorEncoder(
        modules=[
            Transformer(str(folder / "bert"), **lengths),
            Dense(32, 16, bias=False, activation_function=torch.nn.Identity(), module_input_name="token_embeddings"),
            MultiVectorMask(skiplist_words=list(string.punctuation)),
            Normalize(module_input_name="token_embeddings"),
            *modules,
        ],
        prompts={"query": "[unused0] ", "document": "[unused1] "},
        device="cpu",
    ).save_pretrained(str(folder / "model"))
    return folder / "model"


@pytest.fixture
def copied(text_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(text_model, tmp_path / "copied"))


def page_of(text: str, image: np.ndarray | None = None) -> RenderedPage:
    """Words side by side, each in a box of its own."""
    texts = tuple(text.split())
    left = np.arange(len(texts))
    boxes = np.stack([left * 10, left * 0 + 5, left * 10 + 9, left * 0 + 15], axis=1).astype(np.uint16)
    return RenderedPage(ref=PageRef("d", 1), words=Words(texts, boxes), image=image)


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 255, (height, width, 3), np.uint8)


@functools.cache
def library(folder: Path) -> MultiVectorEncoder:
    return MultiVectorEncoder(str(folder), device="cpu", local_files_only=True)


def change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# -- vectors ----------------------------------------------------------------------------------------------------------


def test_it_is_an_encoder(encoder: SentenceTransformersEncoder, text_model: Path) -> None:
    assert isinstance(encoder, Encoder)
    assert (encoder.name, encoder.reads) == (f"sentence-transformers:{text_model}", "words")
    assert (encoder.token_dim, encoder.dense_dim) == (16, 16)
    assert encoder.modalities == {"text", "image"}
    assert json.loads(json.dumps(encoder.settings)) == encoder.settings


@pytest.mark.parametrize("text", ["harbour valve", "a", "The valve, (closed); harbour!", "ça 漢字 naïve"])
def test_vectors_are_the_librarys_own(encoder: SentenceTransformersEncoder, text_model: Path, text: str) -> None:
    """A failure means: the model is asked differently from how it was trained, so its scores mean less."""
    page = encoder.encode_pages([page_of(text), page_of("harbour")])[0]
    query = encoder.encode_queries([Query(text)])[0]

    np.testing.assert_allclose(page.tokens, library(text_model).encode_document(text), atol=1e-6)
    np.testing.assert_allclose(query.tokens, library(text_model).encode_query(text), atol=1e-6)
    for vectors in (page, query):
        mean = vectors.tokens.mean(axis=0)
        np.testing.assert_allclose(vectors.dense, mean / np.linalg.norm(mean), atol=1e-6)
    assert len(query.labels) == len(query.tokens) == LONGEST
    assert query.labels[:2] == ("[CLS]", "[unused0]")


@pytest.mark.parametrize("version", [{"model_type": "ColBERT"}, {}])
def test_checkpoints_of_pylate_give_the_same_vectors(
    encoder: SentenceTransformersEncoder, copied: Path, version: dict[str, str]
) -> None:
    """A failure means: most published ColBERT models are refused, or read in another way than they were trained."""
    modules = json.loads((copied / "modules.json").read_text())[:2]
    modules[1]["type"] = "pylate.models.Dense.Dense"
    (copied / "modules.json").write_text(json.dumps(modules))
    prefixes = {"query_prefix": "[unused0] ", "document_prefix": "[unused1] "}
    lengths = {"query_length": LONGEST, "document_length": LONGEST}
    (copied / "config_sentence_transformers.json").write_text(json.dumps(version | prefixes | lengths))

    pylate = SentenceTransformersEncoder(str(copied), device="cpu")

    for text in ("harbour, valve", "valve " * 40):
        ours, theirs = (one.encode_pages([page_of(text)])[0] for one in (encoder, pylate))
        np.testing.assert_allclose(theirs.tokens, ours.tokens, atol=1e-6)
        np.testing.assert_array_equal(theirs.boxes, ours.boxes)
        ours, theirs = (one.encode_queries([Query(text)])[0] for one in (encoder, pylate))
        np.testing.assert_allclose(theirs.tokens, ours.tokens, atol=1e-6)


def test_neighbours_never_change_a_page(encoder: SentenceTransformersEncoder) -> None:
    pages = [page_of("valve"), page_of("harbour " * 60), page_of("a b c")]

    together = encoder.encode_pages(pages)

    for page, vectors in zip(pages, together, strict=True):
        np.testing.assert_array_equal(encoder.encode_pages([page])[0].tokens, vectors.tokens)


def test_a_page_without_words_is_empty(encoder: SentenceTransformersEncoder) -> None:
    page = encoder.encode_pages([page_of("")])[0]

    assert page.tokens.shape == (0, 16)
    assert page.boxes.shape == (0, 4)
    np.testing.assert_array_equal(page.dense, np.eye(16)[0])


@pytest.mark.parametrize("text", ["harbour, valve " * 40, "x" * 90, "a " + "valve-" * 60])
def test_a_long_page_loses_nothing(encoder: SentenceTransformersEncoder, text_model: Path, text: str) -> None:
    """A failure means: what stands below the model's longest text cannot be found."""
    page = page_of(text)
    windows = [part for _, part in encoder._windows(page.words.text, "document")]
    vectors = encoder.encode_pages([page])[0]

    assert "".join(windows).replace(" ", "") == page.words.text.replace(" ", "")
    np.testing.assert_allclose(vectors.tokens, np.concatenate(library(text_model).encode_document(windows)), atol=1e-6)
    model = library(text_model)
    longest = max(len(model.preprocess([f"[unused1] {part}"])["input_ids"][0]) for part in windows)
    assert longest <= LONGEST, "the library would cut this window off"
    assert {tuple(box) for box in vectors.boxes} >= {tuple(box) for box in page.words.boxes}


def test_a_long_query_is_read_to_its_end(encoder: SentenceTransformersEncoder, text_model: Path) -> None:
    query = encoder.encode_queries([Query("valve " * 30 + "harbour")])[0]

    end = library(text_model).encode_query("harbour").numpy()[2]
    assert len(query.tokens) > LONGEST
    assert (query.tokens @ end).max() > 0.9


# -- places -----------------------------------------------------------------------------------------------------------


def test_every_row_stands_in_the_box_of_its_word(encoder: SentenceTransformersEncoder) -> None:
    """Rows: [CLS], marker, valve, (the comma is skipped), x, ##y, harbour, [SEP]."""
    page = page_of("valve, xy harbour")

    boxes = encoder.encode_pages([page])[0].boxes

    nowhere = np.zeros(4)
    word = page.words.boxes
    np.testing.assert_array_equal(boxes, [nowhere, nowhere, word[0], word[1], word[1], word[2], nowhere])


@pytest.mark.parametrize("factor", [1, 2])
def test_rows_that_are_no_single_token_stand_nowhere(tmp_path: Path, factor: int) -> None:
    """A failure means: pooled rows are shown at places somebody guessed."""
    pooled = make_text_model(tmp_path, HierarchicalTokenPooling(pool_factor=factor))

    page = SentenceTransformersEncoder(str(pooled), device="cpu").encode_pages([page_of("harbour valve a b c")])[0]

    assert 0 < len(page.tokens) <= 8 / factor + 1
    assert not page.boxes.any()


def test_the_planted_page_is_found_and_the_word_is_shown(tmp_path: Path) -> None:
    encoder = SentenceTransformersEncoder(str(make_text_model(tmp_path, query_expansion=None)), device="cpu")
    for name in NAMES:
        write_pdf(tmp_path / f"{name}.pdf", [f"valve harbour {page_text(name, 1)}"])
    with Index.open(tmp_path / "index", encoder=encoder, create=True) as index:
        index.add(tmp_path, IndexOptions(workers=1, ocr="off"))
        for name in NAMES:
            hit = index.search(unique_word(name, 1), mode="visual", k=3)[0]
            words = index.page(f"{hit.path}#1").words
            planted = words.boxes[words.texts.index(unique_word(name, 1))] / BOX_UNIT
            assert Path(hit.path).stem == name
            np.testing.assert_allclose(hit.regions[0].box, planted, atol=1e-4)


# -- images -----------------------------------------------------------------------------------------------------------


def test_a_page_model_looks_at_the_page(page_model: Path) -> None:
    """A failure means: another image is seen, or a patch is shown at another place."""
    encoder = SentenceTransformersEncoder(str(page_model), device="cpu")
    pixels = noise(200, 300)
    page = encoder.encode_pages([page_of("", pixels)])[0]
    image = Image.fromarray(pixels)
    query = encoder.encode_queries([Query("where?", image)])[0]

    model = library(page_model)
    assert encoder.reads == "image"
    np.testing.assert_allclose(page.tokens, model.encode_document([image])[0], atol=1e-5)
    both = np.concatenate([model.encode_query(["where?"])[0], model.encode_document([image])[0]])
    np.testing.assert_allclose(query.tokens, both, atol=1e-5)
    assert query.labels[0] == "Q"
    assert page.regions == PatchGrid(rows=3, cols=4, start=7)
    ids = model.preprocess([image], task="document")["input_ids"][0]
    assert (ids[7:19] == model.processor.image_token_id).all()
    assert encoder.encode_pages([page_of("")])[0].tokens.shape == (0, 16)


def test_a_grid_that_cannot_be_established_is_no_place(page_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = SentenceTransformersEncoder(str(page_model), device="cpu")
    monkeypatch.setattr("docsearch.encoders.sentence_transformers.get_n_patches", lambda *_: (5, 5))

    page = encoder.encode_pages([page_of("", noise(200, 300))])[0]

    assert not page.boxes.any()
    assert len(page.boxes) == len(page.tokens)


def test_a_text_model_reads_the_words_of_an_image(encoder: SentenceTransformersEncoder) -> None:
    image, words = Image.new("RGB", (8, 8)), page_of("harbour").words
    text, read = encoder.encode_queries([Query("valve"), Query("harbour")])

    joint = encoder.encode_queries([Query("valve", image, words)])[0]

    np.testing.assert_array_equal(joint.tokens, np.concatenate([text.tokens, read.tokens]))
    np.testing.assert_array_equal(encoder.encode_queries([Query(image=image, words=words)])[0].tokens, read.tokens)
    mean = text.dense + read.dense
    np.testing.assert_allclose(joint.dense, mean / np.linalg.norm(mean), atol=1e-6)
    with pytest.raises(UnsupportedInput, match="no words were found"):
        encoder.encode_queries([Query(image=image, words=Words.none())])


# -- what is refused --------------------------------------------------------------------------------------------------


def bring_a_module(folder: Path, marker: Path) -> None:
    (folder / "evil.py").write_text(f"open({str(marker)!r}, 'w')\nclass Module: pass\n")
    modules = json.loads((folder / "modules.json").read_text())
    modules[1]["type"] = "evil.Module"
    (folder / "modules.json").write_text(json.dumps(modules))


def bring_a_model_class(folder: Path, marker: Path) -> None:
    (folder / "evil.py").write_text(f"open({str(marker)!r}, 'w')\nclass Model: pass\n")
    change_json(
        folder / "config.json", model_type="evil", auto_map={"AutoModel": "evil.Model", "AutoConfig": "evil.Model"}
    )


def bring_a_processor_class(folder: Path, marker: Path) -> None:
    (folder / "evil.py").write_text(f"open({str(marker)!r}, 'w')\nclass Tokenizer: pass\n")
    change_json(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": [None, "evil.Tokenizer"]})


def name_a_kernel(folder: Path, marker: Path) -> None:
    change_json(folder / "config.json", attn_implementation="someone/kernel")


@pytest.mark.parametrize("harm", [bring_a_module, bring_a_model_class, bring_a_processor_class, name_a_kernel])
def test_a_checkpoints_own_code_is_refused_and_never_runs(
    copied: Path, tmp_path: Path, harm: Callable[[Path, Path], None]
) -> None:
    """A failure means: opening a downloaded model can do anything its author likes."""
    harm(copied, tmp_path / "marker")

    with pytest.raises(ModelUnavailable, match="own code"):
        SentenceTransformersEncoder(str(copied), device="cpu")
    assert not (tmp_path / "marker").exists()


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("module", [".", "1_Dense"])
def test_pickled_weights_are_refused_and_never_opened(copied: Path, tmp_path: Path, module: str) -> None:
    (copied / module / "model.safetensors").unlink()
    (copied / module / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(tmp_path / "marker")))

    with pytest.raises(ModelUnavailable, match="pickle"):
        SentenceTransformersEncoder(str(copied), device="cpu")
    assert not (tmp_path / "marker").exists()


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def without_a_layer(folder: Path) -> None:
    file = max(folder.glob("**/model.safetensors"), key=lambda path: path.stat().st_size)
    weights = load_file(file)
    save_file({name: value for name, value in weights.items() if "attention.output.dense" not in name}, file)


def broken_json(folder: Path) -> None:
    (folder / "modules.json").write_text("[{")


def plain_bert(folder: Path) -> None:
    (folder / "modules.json").unlink()


def single_vector(folder: Path) -> None:
    change_json(folder / "config_sentence_transformers.json", model_type="SentenceTransformer")


def adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (without_weights, "cannot be loaded"),
        (cut_weights, "cannot be loaded"),
        (without_a_layer, r"lacks \S*attention\.output\.dense\.\w+, which would be random"),
        (broken_json, "is not JSON"),
        (plain_bert, "not a late-interaction"),
        (single_vector, "not a late-interaction"),
        (adapter, "is an adapter"),
    ],
)
def test_what_cannot_be_used_is_said(copied: Path, damage: Callable[[Path], None], says: str) -> None:
    damage(copied)

    with pytest.raises(ModelUnavailable, match=says):
        SentenceTransformersEncoder(str(copied), device="cpu")


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    for call in ("socket.getaddrinfo", "socket.socket.connect"):
        monkeypatch.setattr(call, lambda *_, **__: pytest.fail("a connection was opened"))


@pytest.mark.parametrize("source", ["nobody/nothing-here", "/no/such/folder", ""])
@pytest.mark.usefixtures("no_network")
def test_a_model_that_is_not_here_is_not_fetched(source: str) -> None:
    """A failure means: naming a model opens a connection."""
    with pytest.raises(ModelUnavailable, match="hf download"):
        SentenceTransformersEncoder(source)


@pytest.mark.usefixtures("no_network")
def test_a_model_of_the_local_cache_goes_by_its_name(
    encoder: SentenceTransformersEncoder, text_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure means: what `hf download` fetched has to be looked up by hand, or is fetched again."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    commit = "0123456789" * 4
    repository = tmp_path / "models--someone--colbert"
    shutil.copytree(text_model, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots" / commit / "README.md").write_text("---\nlicense: mit\n---\n")

    cached = SentenceTransformersEncoder("someone/colbert", revision=commit, device="cpu")

    assert cached.name == "sentence-transformers:someone/colbert"
    assert cached.fingerprint == encoder.fingerprint
    assert cached.settings == {"revision": commit}
    assert licence_of("someone/colbert") == "mit"


def test_without_the_library_the_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['sentence_transformers'] = None\n"
        "from docsearch.errors import ModelUnavailable\n"
        "try:\n    import docsearch.encoders.sentence_transformers\n"
        "except ModelUnavailable as error:\n    print(error)"
    )

    assert "docsearch-engine[sentence-transformers]" in run_python(code).stdout


def test_the_registry_alone_imports_nothing_heavy() -> None:
    heavy = {"torch", "transformers", "sentence_transformers"}
    code = f"import sys, docsearch.encoders\nprint(sorted({heavy!r} & {{*sys.modules}}))"

    assert run_python(code).stdout.strip() == "[]"


# -- fingerprint and licence ------------------------------------------------------------------------------------------


def test_the_fingerprint_follows_the_content_and_not_the_place(
    encoder: SentenceTransformersEncoder, copied: Path
) -> None:
    """A failure means: an index is searched with a model that did not build it, or not with the one that did."""
    assert SentenceTransformersEncoder(str(copied), device="cpu").fingerprint == encoder.fingerprint

    (copied / "README.md").write_text("another word about it")
    assert SentenceTransformersEncoder(str(copied), device="cpu").fingerprint == encoder.fingerprint

    weights = bytearray((copied / "1_Dense" / "model.safetensors").read_bytes())
    weights[-2] ^= 1
    (copied / "1_Dense" / "model.safetensors").write_bytes(weights)
    changed = SentenceTransformersEncoder(str(copied), device="cpu").fingerprint
    change_json(copied / "config_sentence_transformers.json", prompts={"query": "", "document": ""})
    assert len({encoder.fingerprint, changed, SentenceTransformersEncoder(str(copied), device="cpu").fingerprint}) == 3


@pytest.mark.parametrize("size", [1000, 250_000])
def test_every_number_of_a_small_file_counts(tmp_path: Path, size: int) -> None:
    """A failure means: the blocks that are looked at leave gaps where there should be none."""
    path = tmp_path / "model.safetensors"
    save_file({"weight": np.zeros(size, np.uint8)}, path)
    content = path.read_bytes()
    seen = {_fingerprint(tmp_path)}
    places = np.linspace(len(content) - size, len(content) - 1, 50).astype(int)
    for at in places:
        path.write_bytes(content[:at] + b"1" + content[at + 1 :])
        seen.add(_fingerprint(tmp_path))

    assert len(seen) == 1 + len(places)


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\ntags:\n- colbert\nlicense: apache-2.0\n---\n# Model", "apache-2.0"),
        ('---\nlicense: other\nlicense_name: "qwen-research"  # see LICENSE\n---\n', "qwen-research"),
        ("# license: mit", None),
        ("---\ntags: []\n---\nlicense: mit", None),
    ],
)
def test_the_licence_is_the_model_cards(tmp_path: Path, card: str, licence: str | None) -> None:
    (tmp_path / "README.md").write_text(card)

    assert licence_of(str(tmp_path)) == licence
    assert licence_of(str(tmp_path / "nowhere")) is None
