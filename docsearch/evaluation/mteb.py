"""A task of mteb (https://github.com/embeddings-benchmark/mteb) answered by docsearch: `evaluate_task`.

Two ways, to be shown side by side: ``exact`` is the encoder alone with every page scored, ``pipeline`` the whole
product with a real index. The gap between them is what the index costs. For mteb's own functions, their classes are
`ExactMaxSim` and `WholePipeline` of `docsearch.evaluation.mteb_models`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from docsearch.encoders import load_encoder
from docsearch.errors import DocsearchError, ModelUnavailable
from docsearch.evaluation.trec import in_trec_order, write_qrels, write_run
from docsearch.options import DEFAULT_CODEC, CodecName, IndexOptions, SearchOptions

if TYPE_CHECKING:
    from docsearch.protocols import Encoder

Way = Literal["exact", "pipeline"]
RESULTS, PREDICTIONS = "mteb", "predictions"  # folders: mteb's results by model, and what was found by revision


class DataUnavailable(DocsearchError):
    """A benchmark's data cannot be had here."""

    def __init__(self, task: str, where: str, why: str, *, public: bool) -> None:
        who = "" if public else ", which only those who were given access can read"
        super().__init__(
            f"the data of {task} is not here and cannot be fetched from {where} on the Hugging Face hub{who}: {why}; "
            f"run this where the hub can be reached, or copy a cache that holds the data and set HF_HOME to its folder"
        )
        self.task, self.where = task, where


def evaluate_task(
    name: str | Any,
    *,
    encoder: str | Encoder,
    out: Path,
    way: Way = "pipeline",
    codec: CodecName = DEFAULT_CODEC,
    pooling: int = 1,
    reading: IndexOptions | None = None,
    search: SearchOptions | None = None,
) -> Path:
    """Answer every query of a task, and write what was found and how good it is.

    Stopped, it goes on with the first subset that has no result yet. Done, it only writes ``run.trec`` again.

    Args:
        name: a task of mteb, such as ``Vidore2ESGReportsRetrieval``, or the task itself.
        encoder: a name of `docsearch models`, or an encoder.
        out: a folder for this task and way; made where it is missing.
        way: ``pipeline``: as users get it; ``exact``: the encoder alone, every page scored by its own vectors.
        codec: of the pipeline's index.
        pooling: of the pipeline's index.
        reading: how the pipeline reads page images.
        search: how the pipeline answers.

    Returns:
        The folder: ``run.trec``, ``qrels.trec``, ``queries.jsonl`` (``_id``, ``text``, ``subset``, ``language``),
        ``mteb/results/…/TASK.json`` with mteb's own scores, ``predictions/…/TASK_predictions.json``. In a task with
        several subsets or splits a query is called ``SUBSET:ID``, ``SPLIT:ID`` or ``SUBSET:SPLIT:ID``.

    Raises:
        ModelUnavailable: mteb is not installed, or the encoder cannot be loaded.
        DataUnavailable: the task's data is not here and cannot be fetched.
        ValueError: there is no such task, or no such way.
    """
    if way not in get_args(Way):
        raise ValueError(f"way is {way!r}; choose one of {', '.join(get_args(Way))}")
    mteb = _mteb()
    from docsearch.evaluation.mteb_models import ExactMaxSim, WholePipeline  # noqa: PLC0415 - needs the extra

    task = find_task(name) if isinstance(name, str) else name
    loaded = load_encoder(encoder) if isinstance(encoder, str) else encoder
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "qrels.trec").exists():
        load_data(task)
        write_judgements(task, out)
    pipeline = WholePipeline(loaded, codec=codec, pooling=pooling, reading=reading, search=search)
    model: Any = pipeline if way == "pipeline" else ExactMaxSim(loaded)
    predictions = out / PREDICTIONS / model.mteb_model_meta.revision
    try:
        mteb.evaluate(
            model,
            task,
            cache=mteb.ResultCache(cache_path=out / RESULTS),
            overwrite_strategy="only-missing" if predictions.exists() else "always",
            prediction_folder=predictions,
            co2_tracker=False,
            show_progress_bar=False,
        )
    finally:
        pipeline.close()
    found = json.loads((predictions / task.prediction_file_name).read_text("utf-8"))
    rankings = {
        query_name(task, subset, split, query): in_trec_order(scores)
        for subset, split in parts(task)
        for query, scores in found[subset][split].items()
    }
    write_run(out / "run.trec", rankings)
    return out


def find_task(name: str) -> Any:
    """The task of that name.

    Raises:
        ModelUnavailable: mteb is not installed.
        ValueError: there is no such task; when a benchmark is called so, its tasks are named.
    """
    mteb = _mteb()
    if any(benchmark.name == name for benchmark in mteb.get_benchmarks()):
        tasks = ", ".join(task.metadata.name for task in mteb.get_benchmark(name).tasks)
        raise ValueError(f"{name} is a benchmark of several tasks; choose one: {tasks}")
    try:
        return mteb.get_task(name)
    except KeyError as error:
        raise ValueError(f"mteb has no task {name!r}: {str(error.args[0]).splitlines()[0]}") from None


def load_data(task: Any) -> None:
    """Load a task's data, from the cache of the hub or from the hub.

    Raises:
        DataUnavailable: it is in neither.
    """
    try:
        if not task.data_loaded:  # some tasks would load it again
            task.load_data()
    except OSError as error:  # what cannot be found, reached, or read without leave: all of the hub's errors
        reason = " ".join(str(error).split()) or type(error).__name__
        metadata = task.metadata
        raise DataUnavailable(
            metadata.name, metadata.dataset["path"], reason, public=metadata.is_public is not False
        ) from error
    task.convert_v1_dataset_format_to_v2(num_proc=None)


def write_judgements(task: Any, out: Path) -> None:
    """Write ``queries.jsonl`` and ``qrels.trec`` of a task that is loaded."""
    languages = task.metadata.eval_langs
    qrels = {}
    with (out / "queries.jsonl").open("w", encoding="utf-8") as file:
        for subset, split in parts(task):
            data = task.dataset[subset][split]
            spoken = languages[subset] if isinstance(languages, Mapping) else languages
            about = {"subset": subset, "language": "+".join(spoken)}
            told = [column for column in ("id", "text") if column in data["queries"].column_names]
            for query in data["queries"].select_columns(told):  # an image would be decoded
                if judged := data["relevant_docs"].get(query["id"]):
                    name = query_name(task, subset, split, query["id"])
                    qrels[name] = {page: int(grade) for page, grade in judged.items()}
                    record = {"_id": name, "text": query.get("text", "")} | about
                    print(json.dumps(record, ensure_ascii=False), file=file)
    write_qrels(out / "qrels.trec", qrels)


def parts(task: Any) -> Iterator[tuple[str, str]]:
    """The subsets and splits of a task."""
    return ((subset, split) for subset in task.hf_subsets for split in task.eval_splits)


def query_name(task: Any, subset: str, split: str, query: str) -> str:
    """What a query is called where those of all subsets and splits stand together."""
    names = [*([subset] if len(task.hf_subsets) > 1 else []), *([split] if len(task.eval_splits) > 1 else []), query]
    return ":".join(names)


def _mteb() -> Any:
    try:
        import mteb  # noqa: PLC0415 - the extra may be missing, and it takes seconds to load
    except ImportError as error:
        raise ModelUnavailable(
            f'tasks of mteb need the package {error.name}: pip install "docsearch-engine[mteb]"'
        ) from error
    return mteb
