"""One task of the flagship as a folder for sentence-transformers: the same multi-vectors, and no code in it."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from sentence_transformers import MultiVectorEncoder
from transformers import Qwen2_5_VLProcessor

from docsearch.encoders.jina_v4 import TASKS, JinaV4, export
from docsearch.encoders.jina_v4.export import export_for_sentence_transformers
from docsearch.encoders.sentence_transformers import SentenceTransformersEncoder, licence_of
from docsearch.types import PageRef, RenderedPage

TINY = Path(__file__).parent / "data" / "tiny_jina_v4"
TOLERANCE = 1e-5
TEXTS = [
    "who signed the lease?",
    "Grüße, 東京 42 %",
    "a",
    "<b>{{ x }}</b> <|im_end|>",
    "the fox " * 50,
    "x\ny\tz  ",
    "",
]
WHOLE_PATCHES = [(280, 196), (56, 560), (112, 112)]  # read as they are, without resizing


@pytest.fixture(autouse=True)
def _reader_of_videos(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library reads pages without torchvision, but no videos, and it wants to be ready for both."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if importlib.util.find_spec("torchvision") is None:
        needed = classmethod(lambda cls: ["image_processor", "tokenizer"])
        monkeypatch.setattr(Qwen2_5_VLProcessor, "get_attributes", needed)


@pytest.fixture(scope="module")
def model() -> JinaV4:
    """With all its tasks: nothing is merged into this one."""
    return JinaV4(TINY, device="cpu")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One of each task, in float32: what is compared is the way of computing, not the rounding of weights."""
    made = {task: tmp_path_factory.mktemp("export") / task for task in TASKS}
    for task, folder in made.items():
        export_for_sentence_transformers(JinaV4(TINY, device="cpu"), task, folder, dtype=torch.float32)
    return made


def open_folder(folder: Path, **options: Any) -> MultiVectorEncoder:
    return MultiVectorEncoder(
        str(folder), device="cpu", trust_remote_code=False, local_files_only=True, model_kwargs=options
    )


def worst(ours: list[Any], theirs: list[Any]) -> float:
    assert [one.shape for one in ours] == [one.shape for one in theirs]
    return max(float(abs(one - other).max()) for one, other in zip(ours, theirs, strict=True))


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


# -- the same vectors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_queries_and_passages_have_our_vectors(model: JinaV4, folders: dict[str, Path], task: Any):
    """A failure means that an index of one of the two gives other pages to queries of the other."""
    theirs = open_folder(folders[task])

    for encode, prompt_name in ((theirs.encode_query, "query"), (theirs.encode_document, "passage")):
        ours = model.encode(TEXTS, task=task, prompt_name=prompt_name)
        assert worst([one.tokens for one in ours], encode(TEXTS, convert_to_numpy=True)) <= TOLERANCE


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("prompt", [{"prompt": ""}, {}])
def test_pages_have_our_vectors_with_and_without_a_prompt(
    model: JinaV4, folders: dict[str, Path], task: Any, prompt: dict[str, str]
):
    pages = [noise(*size) for size in WHOLE_PATCHES]
    images = [Image.fromarray(page) for page in pages]

    theirs = open_folder(folders[task]).encode_document(images, convert_to_numpy=True, **prompt)

    assert worst([one.tokens for one in model.encode(pages, task=task)], theirs) <= TOLERANCE


@pytest.mark.parametrize("size", [(300, 200), (1754, 1240), (5, 9), (40, 1000)])
def test_pages_of_any_size_have_our_vectors(model: JinaV4, folders: dict[str, Path], size: tuple[int, int]):
    pytest.importorskip("torchvision", reason="without torchvision the library resizes with Pillow, which differs")
    theirs = open_folder(folders["retrieval"])

    page = noise(*size)
    vectors = theirs.encode_document([Image.fromarray(page)], prompt="", convert_to_numpy=True)

    assert worst([model.encode([page])[0].tokens], vectors) <= TOLERANCE


def test_long_texts_are_cut_on_the_right(model: JinaV4, folders: dict[str, Path]):
    theirs = open_folder(folders["code"])
    assert theirs.max_seq_length == 32_768

    theirs.max_seq_length = 37
    ours = model.encode(TEXTS, task="code", max_length=37)

    assert worst([one.tokens for one in ours], theirs.encode_query(TEXTS, convert_to_numpy=True)) <= TOLERANCE


def test_a_text_beside_an_image_is_refused(folders: dict[str, Path]):
    """A failure means that the text is left out without a word."""
    both = {"image": Image.fromarray(noise(56, 56)), "text": "see the seal"}

    with pytest.raises(Exception, match="one text or one image at a time"):
        open_folder(folders["retrieval"]).encode_document([both])


def test_weights_are_stored_as_in_the_checkpoint(tmp_path: Path):
    """Bfloat16: half the space, and the vectors of the merged weights rounded to it."""
    merged = JinaV4(TINY, device="cpu")
    export_for_sentence_transformers(merged, "retrieval", tmp_path / "half")

    stored = [load_file(file) for file in (tmp_path / "half").rglob("*.safetensors")]
    assert {tensor.dtype for tensors in stored for tensor in tensors.values()} == {torch.bfloat16}
    assert next(open_folder(tmp_path / "half").parameters()).dtype == torch.bfloat16
    for weight in merged.network.parameters():
        weight.copy_(weight.bfloat16())
    rounded = [one.tokens for one in merged.encode(TEXTS)]
    theirs = open_folder(tmp_path / "half", dtype="float32")
    assert worst(rounded, theirs.encode_query(TEXTS, convert_to_numpy=True)) <= TOLERANCE


def test_our_own_encoder_reads_the_folder(model: JinaV4, folders: dict[str, Path]):
    """Pages through sentence-transformers have our rows, and patches to show where a match is."""
    encoder = SentenceTransformersEncoder(str(folders["retrieval"]), device="cpu")
    page = noise(*WHOLE_PATCHES[0])
    (vectors,) = encoder.encode_pages([RenderedPage(ref=PageRef("a", 1), image=page)])
    (ours,) = model.encode([page])

    assert worst([ours.tokens], [vectors.tokens]) <= TOLERANCE
    assert vectors.regions == ours.grid
    assert licence_of(str(folders["retrieval"])) == "qwen-research-license"


# -- the folder ---------------------------------------------------------------------------------------------------


def test_the_folder_holds_no_code_and_names_none(folders: dict[str, Path], tmp_path: Path):
    """Also of a checkpoint whose every setting names code."""
    source = Path(shutil.copytree(TINY, tmp_path / "source"))
    for name in ("preprocessor_config.json", "tokenizer_config.json"):
        settings = json.loads((source / name).read_text()) | {"auto_map": {"AutoProcessor": "theirs.Processor"}}
        (source / name).write_text(json.dumps(settings))
    export_for_sentence_transformers(JinaV4(source, device="cpu"), "code", tmp_path / "made")

    for folder in (*folders.values(), tmp_path / "made"):
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert {path.suffix for path in files} == {".json", ".jinja", ".md", ".safetensors"}
        for path in files:
            content = path.read_bytes()
            assert b"auto_map" not in content
            assert b"JinaEmbeddingsV4" not in content
            assert str(source).encode() not in content


@pytest.mark.parametrize(("task", "document"), [("retrieval", "Passage: "), ("text-matching", "Query: ")])
def test_the_card_tells_how_to_use_it_and_under_which_licence(folders: dict[str, Path], task: str, document: str):
    card = (folders[task] / "README.md").read_text(encoding="utf-8")
    prompts = open_folder(folders[task]).prompts

    for said in (task, "non-commercial", 'prompt=""', "MultiVectorEncoder", "`Query: `", f"`{document}`", "float32"):
        assert said in card
    assert prompts == {"query": "Query: ", "document": document}


def test_nothing_is_written_over(tmp_path: Path):
    kept = tmp_path / "kept" / "notes.txt"
    kept.parent.mkdir()
    kept.write_text("mine")
    model = JinaV4(TINY, device="cpu")

    for place in (kept.parent, kept):
        with pytest.raises(FileExistsError, match="name a new folder"):
            export_for_sentence_transformers(model, "code", place)

    assert (kept.read_text(), model.merged) == ("mine", None)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_an_empty_folder_is_filled_and_another_task_refused(tmp_path: Path):
    model = JinaV4(TINY, device="cpu")
    export_for_sentence_transformers(model, "code", tmp_path)
    assert (tmp_path / "modules.json").is_file()

    with pytest.raises(ValueError, match="merged with 'code'"):
        export_for_sentence_transformers(model, "retrieval", tmp_path.with_name("other"))
    assert not tmp_path.with_name("other").exists()


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A failure means that half a model may be taken for a whole one."""

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "save_file", full)

    with pytest.raises(OSError, match="No space left"):
        export_for_sentence_transformers(JinaV4(TINY, device="cpu"), "code", tmp_path / "made")

    assert list(tmp_path.iterdir()) == []
