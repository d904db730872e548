"""Fine-tuning on the tiny checkpoint: what is planted is learned, and nothing else changes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from docsearch.encoders.jina_v4 import TASKS, JinaV4
from docsearch.encoders.jina_v4.checkpoint import ADAPTERS, Checkpoint
from docsearch.errors import DocsearchError, UnsupportedInput
from docsearch.finetune import Progress, Settings, Trainer, TrainingData, read_data
from docsearch.finetune.data import Examples, Sampler
from docsearch.finetune.files import STATE
from docsearch.finetune.train import Stage

TINY = Path(__file__).parent / "data" / "tiny_jina_v4"
MEANINGS = {
    "zorbel": "the rent is due on the first day",
    "quimp": "a fox runs in the snow",
    "flanter": "an engine needs oil",
    "drusk": "tea grows on hills",
    "ovelane": "seven ships left the port",
    "mithrap": "judges sit in May",
    "skelborn": "violins have strings",
    "twindle": "bread baked at night",
}
COLOURS = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 220), "white": (250, 250, 250)}


def write_folder(
    folder: Path,
    documents: Mapping[str, Mapping[str, str]],
    queries: Mapping[str, str],
    train: Sequence[tuple[str, str, int]],
    dev: Sequence[tuple[str, str, int]] = (),
) -> Path:
    (folder / "qrels").mkdir(parents=True)
    write_lines(folder / "corpus.jsonl", [{"_id": name, **document} for name, document in documents.items()])
    write_lines(folder / "queries.jsonl", [{"_id": name, "text": text} for name, text in queries.items()])
    for name, judged in (("train", train), ("dev", dev)):
        lines = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, judgement)) for judgement in judged)]
        (folder / "qrels" / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    return folder


def write_lines(path: Path, records: Sequence[object]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def planted(folder: Path, documents: Mapping[str, Mapping[str, str]]) -> Path:
    """A word for every document; held out are the words in a sentence that was not trained on."""
    queries, train, dev = {}, [], []
    for word in documents:
        for end in ("", " please", " now", " today"):
            queries[word + end] = word + end
            (dev if end == " today" else train).append((word + end, word, 1))
    return write_folder(folder, documents, queries, train, dev)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Products this small are faster on one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planted") / "words"
    return planted(folder, {word: {"text": meaning} for word, meaning in MEANINGS.items()})


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planted") / "pages"
    planted(folder, {word: {"image": f"pages/{word}.png"} for word in COLOURS})
    (folder / "pages").mkdir()
    for word, colour in COLOURS.items():
        Image.new("RGB", (56, 84), colour).save(folder / "pages" / f"{word}.png")
    return folder


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Without dropout: a tenth of this fixture's large random adapters is more noise than a few steps can bear."""
    folder = tmp_path_factory.mktemp("model") / "steady"
    shutil.copytree(TINY, folder)
    path = folder / "adapters" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"lora_dropout": 0.0}))
    return Checkpoint(folder)


@pytest.fixture(scope="module")
def trained(
    words: Path, steady: Checkpoint, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Trainer, list[Progress]]:
    """A run to the end."""
    settings = Settings(steps=30, batch_size=24, learning_rate=1e-2, every=10)
    trainer = Trainer(steady, read_data(words), tmp_path_factory.mktemp("out") / "words", settings, device="cpu")
    told: list[Progress] = []
    trainer.run(told.append)
    return trainer, told


def test_a_word_is_learned(trained: tuple[Trainer, list[Progress]]):
    """A failure means that training does not train."""
    trainer, told = trained

    assert [progress.step for progress in told] == list(range(1, 31))
    assert told[-1].loss < 0.1 * told[0].loss
    assert trainer.ndcg_before < 0.7
    assert told[-1].ndcg > 0.95


def test_the_look_of_a_page_is_learned(pages: Path, steady: Checkpoint, tmp_path: Path):
    settings = Settings(steps=25, batch_size=12, learning_rate=1e-2, every=25)
    trainer = Trainer(steady, read_data(pages), tmp_path / "out", settings, device="cpu")

    report = trainer.run()

    assert report.ndcg_before < 0.8
    assert report.ndcg > 0.95


def test_only_the_tasks_adapter_changes(trained: tuple[Trainer, list[Progress]]):
    """A failure means that fine-tuning for one task spoils what it was not asked to touch."""
    trainer, _ = trained
    before, after = load_file(trainer.model.checkpoint.folder / ADAPTERS), load_file(trainer.folder / ADAPTERS)

    assert before.keys() == after.keys()
    assert {tensor.dtype for tensor in after.values()} == {torch.bfloat16}
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if ".retrieval." in name}
    for name, file in ((file.name, file) for file in trainer.model.checkpoint.folder.iterdir() if file.is_file()):
        assert (trainer.folder / name).resolve() == file.resolve()
    fresh = JinaV4(trainer.model.checkpoint, device="cpu").network.state_dict()
    held = {name.replace(".base_layer", ".base"): tensor for name, tensor in trainer.model.network.state_dict().items()}
    assert all(torch.equal(tensor, held[name]) for name, tensor in fresh.items() if name in held)
    assert len(fresh.keys() & held.keys()) == len(trainer.model.checkpoint.headers)


def test_the_folder_loads_as_the_model_that_was_trained(trained: tuple[Trainer, list[Progress]], pages: Path):
    """A failure means that what is used is not what was trained. peft is the other opinion."""
    trainer, _ = trained
    loaded = JinaV4(trainer.folder, device="cpu")
    images = [np.asarray(Image.open(page).convert("RGB")) for page in sorted((pages / "pages").iterdir())]
    kept = {name: parameter.detach().clone() for name, parameter in trainer.parameters.items()}
    with torch.no_grad():
        for parameter in trainer.parameters.values():  # the file is in bfloat16
            parameter.copy_(parameter.bfloat16())
    trainer.model.network.eval()
    try:
        for inputs in (list(MEANINGS), images):
            for ours, theirs in zip(loaded.encode(inputs), trainer.model.encode(inputs), strict=True):
                assert abs(ours.dense - theirs.dense).max() <= 1e-6
                assert abs(ours.tokens - theirs.tokens).max() <= 1e-6
    finally:
        with torch.no_grad():
            for name, parameter in trainer.parameters.items():
                parameter.copy_(kept[name])


def test_training_starts_from_the_published_adapter(words: Path, pages: Path, tmp_path: Path):
    trainer = Trainer(Checkpoint(TINY), read_data(words), tmp_path, Settings(task="code"), device="cpu")
    page = next((pages / "pages").iterdir())
    published = JinaV4(TINY, device="cpu").encode(
        ["zorbel", np.asarray(Image.open(page).convert("RGB"))], task="code", prompt_name="passage"
    )

    with torch.no_grad():
        dense, late = trainer.vectors(["zorbel", page], "passage")

    for row, theirs in enumerate(published):
        assert abs(dense[row].numpy() - theirs.dense).max() <= 1e-6
        assert abs(late[row].numpy() - theirs.tokens).max() <= 1e-6


def test_a_stopped_run_ends_where_an_uninterrupted_one_does(words: Path, tmp_path: Path):
    """With dropout, hard negatives and a stop between two saves: the same numbers, not nearly the same."""
    data, settings = read_data(words), Settings(steps=6, batch_size=5, every=2, seed=3)

    class Stopped(Exception):
        pass

    def stop(progress: Progress) -> None:
        if progress.step == 5:
            raise Stopped

    whole = Trainer(Checkpoint(TINY), data, tmp_path / "whole", settings, device="cpu").run()
    with pytest.raises(Stopped):
        Trainer(Checkpoint(TINY), data, tmp_path / "stopped", settings, device="cpu").run(stop)
    torch.rand(7)  # what else the process did must not matter
    again = Trainer(Checkpoint(TINY), data, tmp_path / "stopped", settings, device="cpu").run()
    once_more = Trainer(Checkpoint(TINY), data, tmp_path / "stopped", settings, device="cpu").run()

    assert (whole.resumed_at, again.resumed_at, once_more.resumed_at) == (0, 4, 6)
    assert whole.loss == again.loss
    assert whole.ndcg_before == again.ndcg_before
    for name in (STATE, ADAPTERS):
        one, other = load_file(tmp_path / "whole" / name), load_file(tmp_path / "stopped" / name)
        assert one.keys() == other.keys()
        assert all(torch.equal(tensor, other[key]) for key, tensor in one.items())


def test_pair_training_gives_all_tasks_one_adapter(words: Path, tmp_path: Path):
    settings = Settings(stage="pair", task="text-matching", steps=2, batch_size=4)
    Trainer(Checkpoint(TINY), read_data(words), tmp_path / "pair", settings, device="cpu").run()
    tensors = load_file(tmp_path / "pair" / ADAPTERS)

    for name, tensor in tensors.items():
        assert all(torch.equal(tensor, tensors[name.replace(".code.", f".{task}.")]) for task in TASKS)

    settings = Settings(steps=1, batch_size=4)
    Trainer(Checkpoint(tmp_path / "pair"), read_data(words), tmp_path / "task", settings, device="cpu").run()
    assert (tmp_path / "task" / "config.json").readlink() == (TINY / "config.json").resolve()
    JinaV4(tmp_path / "task", device="cpu")


def test_scored_pairs_are_put_in_order(steady: Checkpoint, tmp_path: Path):
    """CoSENT: texts that are alike end up closer than texts that are not."""
    (tmp_path / "data").mkdir()
    texts = list(MEANINGS)
    alike = [{"a": word, "b": f"{word} {word}", "score": 1} for word in texts]
    other = [{"a": word, "b": texts[at - 1], "score": 0.1} for at, word in enumerate(texts)]
    write_lines(tmp_path / "data" / "pairs.jsonl", [*alike, *other])
    settings = Settings(task="text-matching", steps=15, learning_rate=1e-2, weights=(1, 1, 0, 0, 0, 0))
    trainer = Trainer(steady, read_data(tmp_path / "data"), tmp_path / "out", settings, device="cpu")
    losses: list[float] = []

    report = trainer.run(lambda progress: losses.append(progress.loss))

    assert losses[-1] < 0.3 * losses[0]
    assert report.ndcg is None


def test_both_sides_of_text_matching_are_queries(words: Path, tmp_path: Path):
    trainer = Trainer(Checkpoint(TINY), read_data(words), tmp_path, Settings(task="text-matching"), device="cpu")

    with torch.no_grad():
        one, other = trainer.vectors(["quimp"], "query")[0], trainer.vectors(["quimp"], "passage")[0]

    assert torch.equal(one, other)


def test_half_precision_trains_a_float32_adapter(pages: Path, tmp_path: Path):
    """What a GPU does, on a CPU: bfloat16 weights under autocast."""
    trainer = Trainer(
        Checkpoint(TINY),
        read_data(pages),
        tmp_path,
        Settings(steps=1, batch_size=2),
        device="cpu",
        dtype=torch.bfloat16,
    )
    before = {name: parameter.detach().clone() for name, parameter in trainer.parameters.items()}

    trainer.run()

    assert {parameter.dtype for parameter in trainer.parameters.values()} == {torch.float32}
    assert all(not torch.equal(parameter, before[name]) for name, parameter in trainer.parameters.items())
    assert {weight.dtype for name, weight in trainer.model.network.named_parameters() if "lora" not in name} == {
        torch.bfloat16
    }


def test_the_backward_pass_stops_before_the_vision_tower(pages: Path, tmp_path: Path):
    """A failure means that a frozen tower of 0.7 billion parameters is gone through for nothing."""
    trainer = Trainer(Checkpoint(TINY), read_data(pages), tmp_path, Settings(batch_size=2), device="cpu")
    seen = []
    network = trainer.model.network.train()
    network.model.visual.merger.register_forward_hook(lambda _, __, out: seen.append(out.requires_grad))
    layer = network.model.language_model.layers[0]
    passes = []
    layer.self_attn.register_forward_hook(lambda *_: passes.append(1))

    trainer.loss_of(trainer._samplers[0].draw(0)).backward()

    assert seen == [False] * len(seen) != []
    assert layer.gradient_checkpointing
    assert len(passes) == 4  # queries and pages, each forward and again in the backward pass


def answers_and_traps(seed: int = 0) -> TrainingData:
    """Queries with several answers, some of them in common, and negatives that are answers to others."""
    rng = np.random.default_rng(seed)
    documents = {f"d{at}": f"text {at}" for at in range(12)}
    train = {f"q{at}": {f"d{one}": 1 for one in rng.choice(12, 3, replace=False)} for at in range(9)}
    return TrainingData(
        documents=documents,
        queries={query: f"question {query}" for query in train},
        train=train,
        held_out={"q0": {"d0": 1}},
        negatives={query: [f"d{one}" for one in rng.choice(12, 6, replace=False)] for query in train},
    )


def test_an_answer_is_never_a_negative():
    """A failure means that a page is pushed away from a question that it answers."""
    data = answers_and_traps()
    sampler = Sampler(data, "text", batch_size=4, hard_negatives=3)
    ids = {text: name for name, text in data.documents.items()}

    seen = 0
    for step in range(50):
        examples = sampler.draw(step)
        for row, question in enumerate(examples.queries):
            query = question.removeprefix("question ")
            names = [ids[text] for text in examples.documents]
            assert names[row] in data.train[query]
            assert not examples.ignored[row, row]
            for column in set(range(len(names))) - {row}:
                assert bool(examples.ignored[row, column]) == (names[column] in data.relevant(query))
                seen += bool(examples.ignored[row, column])
    assert seen > 50


def test_an_ignored_document_leaves_the_loss_alone(words: Path, tmp_path: Path):
    settings = Settings(weights=(1, 1, 0, 1, 1, 0))
    trainer = Trainer(Checkpoint(TINY), read_data(words), tmp_path, settings, device="cpu")

    def loss(third: str, *, ignored: bool) -> float:
        mask = torch.tensor([[False, False, ignored], [False, False, ignored]])
        with torch.no_grad():
            return trainer.loss_of(Examples("text", ("one", "two"), ("first", "second", third), mask)).item()

    assert loss("zorbel", ignored=True) == pytest.approx(loss("twindle", ignored=True), abs=1e-4)
    assert abs(loss("zorbel", ignored=False) - loss("twindle", ignored=False)) > 0.1


def test_hard_negatives_belong_to_the_second_stage(tmp_path: Path):
    def drawn(stage: Stage) -> int:
        settings = Settings(stage=stage, batch_size=4, hard_negatives=2)
        trainer = Trainer(Checkpoint(TINY), answers_and_traps(), tmp_path, settings, device="cpu")
        return len(trainer._samplers[0].draw(0).documents)

    assert drawn("pair") == 4
    assert 4 < drawn("task") <= 12


def test_a_step_has_the_same_examples_every_time():
    data = answers_and_traps()

    def draw(step: int, seed: int) -> tuple[object, ...]:
        examples = Sampler(data, "text", batch_size=4, hard_negatives=2, seed=seed).draw(step)
        return examples.queries, examples.documents

    assert draw(7, seed=1) == draw(7, seed=1)
    assert len({draw(step, seed) for step in range(5) for seed in range(2)}) == 10
    sampler = Sampler(data, "text", batch_size=3)
    epoch = [query for step in range(3, 6) for query in sampler.draw(step).queries]
    assert len(set(epoch)) == 9  # every query once


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("corpus.jsonl", None, "corpus.jsonl: cannot be read: No such file"),
        (
            "corpus.jsonl",
            '{"_id": "d", "text": "t"}\nnonsense\n',
            "corpus.jsonl: line 2: not JSON: Expecting value (corrupt)",
        ),
        ("corpus.jsonl", '{"_id": "d", "text": "t"}\n[]\n', "corpus.jsonl: line 2: not a JSON object"),
        ("corpus.jsonl", '{"_id": "d", "text": " "}\n', "corpus.jsonl: line 1: text must be a text that is not empty"),
        ("corpus.jsonl", '{"_id": 7, "text": "t"}\n', "corpus.jsonl: line 1: _id must be a text"),
        (
            "corpus.jsonl",
            '{"_id": "d", "text": "t"}\n\n{"_id": "d", "text": "u"}\n',
            "line 3: the _id d is there already",
        ),
        ("corpus.jsonl", '{"_id": "d", "image": "../secret.png"}\n', "line 1: the image ../secret.png is not in this"),
        ("corpus.jsonl", '{"_id": "d", "image": "/etc/passwd"}\n', "line 1: the image /etc/passwd is not in this"),
        ("corpus.jsonl", '{"_id": "d", "image": "link.png"}\n', "line 1: the image link.png is not in this"),
        ("corpus.jsonl", '{"_id": "d", "image": "none.png"}\n', "line 1: there is no image none.png"),
        ("corpus.jsonl", b'{"_id": "d", "text": "\xff"}\n', "corpus.jsonl: line 1: not UTF-8"),
        ("queries.jsonl", '{"_id": "q"}\n', "queries.jsonl: line 1: text must be a text"),
        ("qrels/train.tsv", "q\td\t1\n", "train.tsv: line 1: the first line must be query-id"),
        ("qrels/train.tsv", "", "train.tsv: line 1: the first line must be query-id"),
        ("qrels/train.tsv", "query-id\tcorpus-id\tscore\nq d 1\n", "train.tsv: line 2: a judgement is"),
        ("qrels/train.tsv", "query-id\tcorpus-id\tscore\nq\td\tyes\n", "train.tsv: line 2: a judgement is"),
        ("qrels/train.tsv", "query-id\tcorpus-id\tscore\nq\tx\t1\n", "train.tsv: line 2: there is no document 'x'"),
        ("qrels/dev.tsv", "query-id\tcorpus-id\tscore\nx\td\t1\n", "dev.tsv: line 2: there is no query 'x'"),
        (
            "negatives.jsonl",
            '{"query-id": "q", "corpus-ids": "d"}\n',
            "negatives.jsonl: line 1: corpus-ids must be a list",
        ),
        (
            "negatives.jsonl",
            '{"query-id": "q", "corpus-ids": [1]}\n',
            "negatives.jsonl: line 1: there is no document 1",
        ),
        ("pairs.jsonl", '{"a": "x", "b": "y", "score": "high"}\n', "pairs.jsonl: line 1: score must be a number"),
    ],
)
def test_bad_data_is_named_by_file_and_line(file: str, content: str | bytes | None, says: str, tmp_path: Path):
    folder = write_folder(tmp_path / "data", {"d": {"text": "t"}}, {"q": "question"}, [("q", "d", 1)])
    (tmp_path / "secret.png").write_bytes(b"")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    read_data(folder)
    (folder / file).unlink(missing_ok=True)
    if content is not None:
        (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())

    with pytest.raises(UnsupportedInput) as caught:
        read_data(folder)

    assert says in str(caught.value)


def test_an_image_that_is_none_is_named(tmp_path: Path):
    folder = write_folder(tmp_path / "data", {"d": {"image": "d.png"}}, {"q": "question"}, [("q", "d", 1)])
    (folder / "d.png").write_bytes(b"no picture")
    trainer = Trainer(Checkpoint(TINY), read_data(folder), tmp_path / "out", Settings(steps=1), device="cpu")

    with pytest.raises(UnsupportedInput, match=r"d\.png: cannot be read as an image"):
        trainer.run()


def test_a_run_is_not_gone_on_with_as_another(words: Path, pages: Path, tmp_path: Path):
    out, source = tmp_path / "out", Checkpoint(TINY)
    Trainer(source, read_data(words), out, Settings(steps=1, batch_size=2), device="cpu").run()

    with pytest.raises(ValueError, match="holds a run with seed 0, not 1"):
        Trainer(source, read_data(words), out, Settings(steps=1, batch_size=2, seed=1))
    with pytest.raises(ValueError, match="holds a run with data"):
        Trainer(source, read_data(pages), out, Settings(steps=1, batch_size=2))
    (out / STATE).write_bytes(b"damaged")
    with pytest.raises(UnsupportedInput, match="is no state of a run"):
        Trainer(source, read_data(words), out, Settings(steps=1, batch_size=2))
    with pytest.raises(UnsupportedInput, match="holds other files"):
        Trainer(source, read_data(words), TINY, Settings())


def test_a_loss_that_is_no_number_ends_the_run(words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    trainer = Trainer(Checkpoint(TINY), read_data(words), tmp_path, Settings(batch_size=2), device="cpu")
    nan = torch.tensor(torch.nan, requires_grad=True)
    monkeypatch.setattr(trainer, "loss_of", lambda _: nan)
    before = {name: parameter.detach().clone() for name, parameter in trainer.parameters.items()}

    with pytest.raises(DocsearchError, match="the loss of step 1 is nan"):
        trainer.run()

    assert all(torch.equal(parameter, before[name]) for name, parameter in trainer.parameters.items())


def test_code_is_learned_from_texts(pages: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="nothing that the code adapter could learn"):
        Trainer(Checkpoint(TINY), read_data(pages), tmp_path, Settings(task="code"))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [({"task": "chess"}, "task is 'chess'"), ({"steps": 0}, "steps is 0"), ({"weights": (1.0,)}, "6 parts")],
)
def test_settings_are_checked(wrong: Mapping[str, object], says: str):
    with pytest.raises(ValueError, match=says):
        Settings(**wrong)


def test_the_rate_rises_and_falls():
    rates = [Settings(steps=100, learning_rate=1.0).rate(step) for step in range(100)]

    assert rates[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 1e-3


def test_the_command(words: Path, tmp_path: Path):
    """Results on stdout; the same command again has nothing left to do."""
    import typer
    from typer.testing import CliRunner

    from docsearch.cli.finetune import register

    app = typer.Typer()
    register(app)
    command = [str(words), "--model", str(TINY), "--out", str(tmp_path / "out"), "--steps", "2", "--batch-size", "4"]

    first, again = (CliRunner().invoke(app, [*command, "--device", "cpu"]) for _ in range(2))

    assert first.exit_code == again.exit_code == 0, first.output
    assert "Trained the retrieval adapter for 2 steps in" in first.stdout
    assert "Held-out nDCG@5 0." in first.stdout
    assert f"Use it with --encoder jina-v4:{tmp_path / 'out'}" in first.stdout
    assert "Trained the retrieval adapter for 0 steps" in again.stdout
    assert "Going on after step 2" in again.stderr
    JinaV4(tmp_path / "out", device="cpu")
