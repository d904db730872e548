"""Find damaged files of an index, and forget what they held so that indexing makes it anew."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, suppress

from docsearch.errors import IndexDamaged, IndexLocked
from docsearch.retriever.prefilter import check_prefilter_file
from docsearch.store.catalog import Catalog
from docsearch.store.codec import get_codec
from docsearch.store.layout import IndexPaths, Layout
from docsearch.store.lock import WriteLock
from docsearch.store.segment import Segment
from docsearch.store.writer import IndexWriter

_REMEDY = "run `docsearch verify --repair`, then index the same files again"


def verify_index(paths: IndexPaths, layout: Layout, lock: WriteLock | None = None) -> list[IndexDamaged]:
    """Read everything; returns one error per damaged file, in the order catalog, segments, prefilter.

    May run while others write; the full-text index is then left out, for checking it takes the writer's lock.
    """
    damage: list[IndexDamaged] = []
    try:
        with closing(Catalog(paths.catalog)) as catalog:
            catalog.check()
            damage += [error for _, error in damaged_segments(catalog, paths, layout)]
            with suppress(IndexLocked, OSError), lock or WriteLock(paths):
                catalog.check_text_index()
    except IndexDamaged as error:
        damage.insert(0, error)
    for path in sorted(paths.prefilter.glob("*.faiss")):
        try:
            check_prefilter_file(path)
        except FileNotFoundError:  # a writer replaced it
            continue
        except IndexDamaged as error:
            damage.append(error)
    return damage


def damaged_segments(catalog: Catalog, paths: IndexPaths, layout: Layout) -> Iterator[tuple[int, IndexDamaged]]:
    """Yield the segments the catalog names that are not what was written.

    Raises:
        IndexDamaged: a sound segment holds other pages than the catalog says, so that is the catalog's damage.
    """
    codec = get_codec(layout.codec)
    checked: set[int] = set()
    while new := set(catalog.segment_ids()) - checked:  # a compaction may replace segments meanwhile
        for number in sorted(new):
            path = paths.segment(number)
            try:
                segment = Segment(path, number, codec, token_dim=layout.token_dim, dense_dim=layout.dense_dim)
                segment.verify()
            except FileNotFoundError:
                if number in catalog.segment_ids():
                    yield number, IndexDamaged(path, "the file is missing", _REMEDY)
            except IndexDamaged as error:
                yield number, error
            else:
                catalog.check_places(number, segment.page_ids)
        checked |= new


def repair_index(paths: IndexPaths, layout: Layout, *, lock_timeout: float = 0.0) -> list[IndexDamaged]:
    """Forget what is damaged; returns what it was.

    A damaged prefilter is deleted. The pages of a damaged segment are forgotten, and their documents incomplete: the
    next indexing run encodes just those pages. A damaged catalog is set aside and an empty one takes its place.

    Raises:
        IndexLocked: another process goes on writing after the time to wait.
    """
    with WriteLock(paths, timeout=lock_timeout) as lock:
        damage = verify_index(paths, layout, lock)
        for error in damage:
            if error.path == paths.catalog:
                _set_aside(paths)
            elif error.path.parent == paths.prefilter:
                error.path.unlink(missing_ok=True)
        with IndexWriter(paths, layout, lock=lock) as writer:
            for number, _ in list(damaged_segments(writer.catalog, paths, layout)):
                writer.change(Catalog.drop_segment, segment_id=number)
                writer.commit()
                paths.segment(number).unlink(missing_ok=True)
    return damage


def _set_aside(paths: IndexPaths) -> None:
    for suffix in ("", "-wal", "-shm"):
        path = paths.catalog.with_name(paths.catalog.name + suffix)
        if path.exists():
            path.replace(path.with_name(path.name + ".damaged"))
    for path in paths.prefilter.glob("*.faiss"):  # the new catalog counts commits and segments from the beginning
        path.unlink()
    Catalog.create(paths.catalog)
