"""Train the `words` encoder: adapters for its layers, projections 384 -> 128 (token vectors) and -> 256 (dense).

    apt-get download gnome-user-docs evolution-common gnome-devel-docs gimp-help-en gimp-help-it gimp-help-ja
    apt-get download gimp-help-zh-cn gcc-12-locales util-linux-locales coreutils libglib2.0-data git gnupg-l10n
    for deb in *.deb; do dpkg-deb -x $deb help; done
    PYTHONPATH=. python tools/train_words.py --help-pages help/usr
    python tools/export_words.py                       # the adapters become part of the matrices

The teacher is translated text: the help pages of GNOME and GIMP in twenty languages, and the messages of programs in
more, laid together in pages; no document that docsearch is measured on. A title must find its page among others, also
in another language; so must a paragraph, its own words taken off the page. The projections start from a principal
component analysis, the adapters from nothing; after both have learned, the adapters are weakened and the projections
learn on alone. A fifth of the topics is held out, and measured before and after. About 45 minutes on two cores.
"""

from __future__ import annotations

import argparse
import itertools
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from export_words import WEIGHTS
from help_pages import MESSAGES, Text, read_help
from numpy.typing import NDArray
from peft import LoraConfig, get_peft_model
from safetensors.numpy import save_file
from torch.nn.functional import cross_entropy, normalize
from words_model import LAYERS, PLACES, load_bert

from docsearch.encoders.words.tokenizer import WordTokenizer

LONGEST_IDS = 252  # pieces of them: one window of the encoder
QUERIES_PER_PAGE = 3  # the title, section titles, paragraphs
TOKEN_DIM, DENSE_DIM = 128, 256
LANGUAGE_AXES = 14
RANK = 8  # of the adapters
TEXTS_PER_RUN = 8
TOGETHER = {"steps": 250, "rate": 4e-4}  # adapters and projections
ALONE = {"steps": 110, "rate": 1e-3}  # the projections, on the last layers as the adapters left them
SHARE = 0.6  # of the adapters that is kept: between the model as it came and as it learned (Wortsman et al. 2022)
BATCH_TOPICS, QUERIES_PER_TOPIC = 48, 2
SAME_LANGUAGE = 0.4  # of the queries of a batch of two languages: below a half, so that language is no hint
Ids = NDArray[np.int64]
Tensors = dict[str, torch.Tensor]


def main() -> None:
    """Train, measure, and write projection.safetensors and adapters.safetensors."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--help-pages", type=Path, required=True, help="the usr folder of the unpacked packages")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    args = parser.parse_args()
    torch.manual_seed(0)
    data = load(args.help_pages)
    held_out = {topic for i, topic in enumerate(sorted({text.topic for text in data.texts})) if i % 5 == 0}
    model = Model()
    projection = principal_components(data, model)
    reader = Reader(model, data)
    print("before", evaluate(data, reader, projection, held_out), flush=True)
    train(data, reader, projection, held_out, model.parameters, **TOGETHER)
    model.weaken(SHARE)
    remembered = Remembered(model, data)
    shipped = {name: tensor.detach().clone() for name, tensor in projection.items()}
    train(data, remembered, projection, held_out, [], **ALONE)
    print("after", evaluate(data, remembered, projection, held_out), flush=True)
    train(data, remembered, shipped, set(), [], **ALONE)  # what is measured now is learned from, too
    learned = {name: np.ascontiguousarray(tensor.detach().numpy()) for name, tensor in shipped.items()}
    save_file(learned, args.out / "projection.safetensors")
    save_file(model.adapters(), args.out / "adapters.safetensors")


@dataclass(frozen=True)
class Data:
    """Texts as pages, and the queries taken from them, both as piece ids."""

    texts: list[Text]
    pages: list[Ids]  # one a text
    spans: list[list[tuple[int, int]]]  # per page: the rows of each paragraph
    queries: list[Ids]
    asks: list[tuple[int, int | None]]  # per query: the text it was taken from; the paragraph, None for a title


def load(help_pages: Path) -> Data:
    """Read the help pages, choose queries, and cut all into pieces."""
    texts, chance = read_help(help_pages), random.Random(0)
    tokenizer = WordTokenizer(WEIGHTS / "tokenizer.json")
    data = Data(texts, [], [], [], [])
    for i, text in enumerate(texts):
        pieces = tokenizer.encode([word for paragraph in text.paragraphs for word in paragraph.split()])
        ends = np.cumsum([0, *(len(paragraph.split()) for paragraph in text.paragraphs)])
        ends = np.minimum(np.searchsorted(pieces.words, ends), LONGEST_IDS)
        data.pages.append(pieces.ids[:LONGEST_IDS])
        data.spans.append(list(itertools.pairwise(ends.tolist())))
        titles = [(title, None) for title in text.titles]
        paragraphs = [(cut(p, chance), n) for n, p in enumerate(text.paragraphs) if len(p) > 20]
        if text.topic.startswith(MESSAGES):  # what was cut off cannot be found
            paragraphs = [(p, n) for p, n in paragraphs if ends[n] < ends[n + 1]]
        some = titles[:1] + chance.sample(titles[1:], min(1, len(titles[1:])))
        some += chance.sample(paragraphs, min(QUERIES_PER_PAGE - len(some), len(paragraphs)))
        for query, n in some:
            ids = tokenizer.encode(query.split()).ids
            if len(ids):
                data.queries.append(ids)
                data.asks.append((i, n))
    return data


def cut(paragraph: str, chance: random.Random) -> str:
    """A few words of a paragraph, as somebody may ask: two to twelve in a row."""
    words = paragraph.split() if " " in paragraph else list(paragraph)
    n = min(len(words), chance.choice([2, 3, 4, 6, 8, 12]))
    first = chance.randrange(len(words) - n + 1)
    return (" " if " " in paragraph else "").join(words[first : first + n])


class Model:
    """The encoder's model as it comes, with low-rank adapters to train beside every matrix."""

    def __init__(self) -> None:
        tokenizer = WordTokenizer(WEIGHTS / "tokenizer.json")
        self._bos, self._eos = tokenizer.id_of("<s>"), tokenizer.id_of("</s>")
        self._prefixes = {kind: tokenizer.encode([f"{kind}:"]).ids for kind in ("passage", "query")}
        config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=["query", "key", "value", "dense"])
        self._bert = get_peft_model(load_bert(adapted=False), config)  # type: ignore[arg-type]
        self.parameters = [tensor for tensor in self._bert.parameters() if tensor.requires_grad]

    def __call__(self, texts: Sequence[Ids], kind: Literal["passage", "query"]) -> list[torch.Tensor]:
        """The last layer, (T, 384) float32, of every text of T piece ids; computed in bfloat16."""
        prefix = self._prefixes[kind]
        before = 1 + len(prefix)
        out: list[torch.Tensor] = [torch.empty(0)] * len(texts)
        order = np.argsort([len(text) for text in texts])  # texts of like length share a run
        for start in range(0, len(order), TEXTS_PER_RUN):
            rows = order[start : start + TEXTS_PER_RUN]
            lengths = np.array([before + len(texts[row]) + 1 for row in rows])
            ids = np.full((len(rows), lengths.max()), self._eos)
            for at, row in enumerate(rows):
                ids[at, : lengths[at]] = [self._bos, *prefix, *texts[row], self._eos]
            valid = torch.from_numpy((np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64))
            with torch.autocast("cpu", torch.bfloat16):
                hidden = self._bert(input_ids=torch.from_numpy(ids), attention_mask=valid).last_hidden_state.float()
            for at, row in enumerate(rows):
                out[row] = hidden[at, before : lengths[at] - 1]
        return out

    @torch.no_grad()
    def weaken(self, share: float) -> None:
        """Keep a share of what the adapters add."""
        for name, tensor in self._bert.named_parameters():
            if "lora_B" in name:
                tensor.mul_(share)

    def adapters(self) -> dict[str, NDArray[np.float16]]:
        """As tools/export_words.py wants them: per product ``lower`` (rank, n_in) and ``raise`` (n_out, rank)."""
        out = {}
        for layer in range(LAYERS):
            for part, places in PLACES.items():
                modules = [self._bert.get_submodule(f"base_model.model.encoder.layer.{layer}.{one}") for one in places]
                lower = torch.cat([module.lora_A["default"].weight for module in modules])
                raised = torch.block_diag(*(module.lora_B["default"].weight for module in modules))
                for side, tensor in (("lower", lower), ("raise", raised)):
                    out[f"layers.{layer:02d}.{part}.{side}"] = tensor.detach().numpy().astype(np.float16)
        return out


class Reader:
    """Last layers of pages (kind ``passage``) and queries by their number, computed when asked for."""

    def __init__(self, model: Model, data: Data) -> None:
        self._model, self._texts = model, {"passage": data.pages, "query": data.queries}

    def __call__(self, rows: Sequence[int], kind: Literal["passage", "query"]) -> list[torch.Tensor]:
        """(T, 384) float32 of each."""
        return self._model([self._texts[kind][row] for row in rows], kind)


class Remembered(Reader):
    """The same, all computed beforehand: for a model that learns no more."""

    @torch.no_grad()
    def __init__(self, model: Model, data: Data) -> None:
        super().__init__(model, data)
        self._kept: dict[str, list[torch.Tensor]] = {"passage": [], "query": []}
        for kind in ("passage", "query"):
            for start in range(0, len(self._texts[kind]), 512):
                rows = range(start, min(start + 512, len(self._texts[kind])))
                self._kept[kind] += [one.half() for one in super().__call__(rows, kind)]

    def __call__(self, rows: Sequence[int], kind: Literal["passage", "query"]) -> list[torch.Tensor]:
        """(T, 384) float32 of each."""
        return [self._kept[kind][row].float() for row in rows]


def principal_components(data: Data, model: Model, whiten: float = 0.5) -> Tensors:
    """Centred PCA of the last layer: the weights, and what each side adds, which takes its mean away.

    ``whiten`` 0 leaves the variances of the axes as they are, 1 makes them equal; 0.5 finds more across languages.
    """
    pages, sample = sample_last_layers(model, data.pages, "passage")
    queries, _ = sample_last_layers(model, data.queries[::4], "query")
    mean = sample.mean(dim=0)
    tongues = language_axes(pages, [text.language for text in data.texts])
    content = torch.eye(len(mean)) - tongues @ tongues.T
    sample = (sample - mean) @ content
    values, vectors = torch.linalg.eigh(sample.T @ sample / len(sample))
    values, vectors = values.flip(0)[:DENSE_DIM], vectors.flip(1)[:, :DENSE_DIM]
    dense = content @ vectors * (values[:TOKEN_DIM].mean() / values) ** (whiten / 2)
    dense, weight = dense.contiguous(), dense[:, :TOKEN_DIM].contiguous()
    return {
        "tokens.weight": weight,
        "tokens.page": -mean @ weight,
        "tokens.query": -mean @ weight,
        "dense.weight": dense,
        "dense.page": -pages.mean(dim=0) @ dense,
        "dense.query": -queries.mean(dim=0) @ dense,
    }


@torch.no_grad()
def sample_last_layers(
    model: Model, texts: Sequence[Ids], kind: Literal["passage", "query"]
) -> tuple[torch.Tensor, torch.Tensor]:
    """(texts, 384) the mean of each text's last layer, and (rows, 384) every fifth row of all."""
    means, rows = [], []
    for start in range(0, len(texts), 512):
        hidden = model(texts[start : start + 512], kind)
        means += [one.mean(dim=0) for one in hidden]
        rows.append(torch.cat(hidden)[::5])
    return torch.stack(means), torch.cat(rows)


def language_axes(pages: torch.Tensor, languages: Sequence[str]) -> torch.Tensor:
    """(384, LANGUAGE_AXES) orthonormal: the directions in which the mean pages of the languages differ most.

    They say which language a page is in, not what it says: with them, a German question prefers any German page.
    """
    known = [language for language in sorted(set(languages)) if languages.count(language) >= 60]
    of = np.array(languages)
    centres = torch.stack([pages[torch.from_numpy(of == language)].mean(dim=0) for language in known])
    _, _, axes = torch.linalg.svd(centres - centres.mean(dim=0), full_matrices=False)
    return axes[:LANGUAGE_AXES].T


def project(rows: torch.Tensor, projection: Tensors, vectors: str, side: str) -> torch.Tensor:
    """(N, 384) -> (N, D) unit rows: ``vectors`` is tokens or dense, ``side`` page or query."""
    return normalize(rows @ projection[f"{vectors}.weight"] + projection[f"{vectors}.{side}"], dim=-1)


def train(
    data: Data,
    reader: Reader,
    projection: Tensors,
    held_out: set[str],
    further: Sequence[torch.Tensor],
    *,
    steps: int,
    rate: float,
) -> None:
    """Contrastive training, in place, of projection and further parameters: a query must score its page highest."""
    start = {name: tensor.detach().clone() for name, tensor in projection.items()}
    for tensor in projection.values():
        tensor.requires_grad_()
    parameters = [*projection.values(), *further]
    optimiser = torch.optim.Adam(parameters, lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, rate, total_steps=steps, pct_start=0.1, cycle_momentum=False
    )
    started = time.time()
    for step, batch in enumerate(batches(data, held_out, steps, bilingual=bool(further))):
        late, dense = losses(batch, reader, projection)
        drift = sum(
            ((projection[name] - start[name]) ** 2).sum() / (start[name] ** 2).sum()
            for name in ("tokens.weight", "dense.weight")
        )
        optimiser.zero_grad()
        (late + dense / 2 + drift).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        if step % 10 == 0:
            print(f"step {step}: late {late:.3f}, dense {dense:.3f}, {time.time() - started:.0f} s", flush=True)


@dataclass(frozen=True)
class Batch:
    """Pages and queries of one step, by their numbers."""

    pages: list[int]
    queries: list[int]
    answers: list[int]  # per query: the place of its page in ``pages``
    dropped: list[tuple[int, int]]  # per query: rows of its page that it must do without


def batches(data: Data, held_out: set[str], steps: int, *, bilingual: bool) -> Iterator[Batch]:
    """A third of them in one language alone; the others in two, the pages half in each, or in all languages.

    Where there are two, a query's language hardly tells which pages may answer it: `SAME_LANGUAGE` of the queries share
    their page's. Adapters would otherwise learn to prefer pages in the language of the question.
    """
    chance = random.Random(1)
    by_topic: dict[str, dict[str, int]] = {}
    for i, text in enumerate(data.texts):
        if text.topic not in held_out:
            by_topic.setdefault(text.topic, {})[text.language] = i
    asked: dict[int, list[int]] = {}
    for row, (text_row, _) in enumerate(data.asks):
        asked.setdefault(text_row, []).append(row)
    others = sorted({text.language for text in data.texts} - {"C"})
    others = [one for one in others if sum(one in texts for texts in by_topic.values()) >= BATCH_TOPICS]
    for step in range(steps):
        other = chance.choice(others)
        wanted = {chance.choice(["C", other])} if step % 3 == 0 else {"C", other} if bilingual else set()
        topics = [topic for topic, texts in by_topic.items() if wanted <= texts.keys()]
        batch = Batch([], [], [], [])
        for topic in chance.sample(topics, min(BATCH_TOPICS, len(topics))):
            texts = by_topic[topic]
            language = chance.choice(sorted(wanted or texts))
            page = texts[language]
            batch.pages.append(page)
            for _ in range(QUERIES_PER_TOPIC):
                same = len(wanted) == 1 or chance.random() < SAME_LANGUAGE
                source = page if same else texts[chance.choice(sorted((wanted - {language}) or texts))]
                if source in asked:
                    query = chance.choice(asked[source])
                    batch.queries.append(query)
                    batch.answers.append(len(batch.pages) - 1)
                    batch.dropped.append(taken_off(data, page, data.asks[query][1], chance))
        yield batch


def taken_off(data: Data, page: int, paragraph: int | None, chance: random.Random) -> tuple[int, int]:
    """Rows of the paragraph a query was taken from: three times in four they leave the page: then meaning finds it."""
    if paragraph is None or data.texts[page].topic.startswith(MESSAGES) or chance.random() > 0.75:
        return 0, 0
    spans = data.spans[page]
    first, last = spans[paragraph] if paragraph < len(spans) else (0, 0)
    return (first, last) if last - first < len(data.pages[page]) else (0, 0)


def losses(batch: Batch, reader: Reader, projection: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross entropies over the batch's pages: of the mean MaxSim, and of the dense cosine."""
    pages, queries = reader(batch.pages, "passage"), reader(batch.queries, "query")
    answers = torch.tensor(batch.answers)
    dropped = [(page, *rows) for page, rows in zip(batch.answers, batch.dropped, strict=True)]
    late = late_scores(pages, queries, projection, dropped)
    dense = dense_scores(pages, queries, projection)
    return cross_entropy(late / 0.03, answers), cross_entropy(dense / 0.05, answers)


def late_scores(
    pages: Sequence[torch.Tensor],
    queries: Sequence[torch.Tensor],
    projection: Tensors,
    dropped: Sequence[tuple[int, int, int]] = (),
) -> torch.Tensor:
    """(queries, pages) mean over query tokens of the best cosine on the page.

    ``dropped`` names for each query a page, and the first and the end of the rows it must do without there.
    """
    lengths = torch.tensor([len(query) for query in queries])
    asked = project(torch.cat(list(queries)), projection, "tokens", "query")
    rows = project(torch.cat(list(pages)), projection, "tokens", "page")
    query_starts = [0, *torch.cumsum(lengths, 0).tolist()]
    page_starts = np.cumsum([0, *(len(page) for page in pages)]).tolist()
    with torch.no_grad():  # only the best pairs have a gradient, so only they are computed with one
        best = []
        for number, (start, end) in enumerate(itertools.pairwise(page_starts)):
            cosines = asked @ rows[start:end].T
            for query, (page, first, last) in enumerate(dropped):
                if page == number and last > first:
                    cosines[query_starts[query] : query_starts[query + 1], first:last] = -2
            best.append(start + cosines.argmax(dim=1))
    chosen = rows.index_select(0, torch.cat(best)).view(len(best), *asked.shape)  # (pages, query tokens, D)
    found = (chosen * asked).sum(dim=2).T  # (query tokens, pages)
    owner = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    return torch.zeros(len(lengths), len(best)).index_add(0, owner, found) / lengths[:, None]


def dense_scores(pages: Sequence[torch.Tensor], queries: Sequence[torch.Tensor], projection: Tensors) -> torch.Tensor:
    """(queries, pages) cosines of the dense vectors."""
    rows, asked = (torch.stack([one.mean(dim=0) for one in texts]) for texts in (pages, queries))
    return project(asked, projection, "dense", "query") @ project(rows, projection, "dense", "page").T


@torch.no_grad()
def evaluate(data: Data, reader: Reader, projection: Tensors, topics: set[str]) -> dict[str, float]:
    """R@1 of titles among the pages of the topics: in the query's own language, and in all others."""
    rows = [i for i, text in enumerate(data.texts) if text.topic in topics]
    wanted = set(rows)
    asks = [n for n, (row, paragraph) in enumerate(data.asks) if row in wanted and paragraph is None][::4]
    pages, queries = reader(rows, "passage"), reader(asks, "query")
    ways = {"late": late_scores(pages, queries, projection), "dense": dense_scores(pages, queries, projection)}
    languages = np.array([data.texts[row].language for row in rows])
    names = np.array([data.texts[row].topic for row in rows])
    out: dict[str, list[bool]] = {}
    for n, ask in enumerate(asks):
        source = data.texts[data.asks[ask][0]]
        same, answer = languages == source.language, names == source.topic
        for way, scores in ways.items():
            own = np.where(same, scores[n].numpy(), -9).argmax()
            out.setdefault(f"{way} own language", []).append(bool(answer[own]))
            if (answer & ~same).any():
                other = np.where(answer & same, -9, scores[n].numpy()).argmax()  # all pages but the query's own
                out.setdefault(f"{way} across languages", []).append(bool(answer[other]))
    return {name: round(float(np.mean(found)), 3) for name, found in out.items()}


if __name__ == "__main__":
    main()
