"""Make the sample documents and the query images again, or check that the committed ones are what this makes.

    python sample_docs/make.py           # write them
    python sample_docs/make.py --check   # compare with the files on disk; exit status 1 on a difference

Needs the font packages and the libraries that README.md lists.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import pymupdf
from source import (
    annual_report,
    anzen,
    business_forms,
    mietvertrag,
    paper,
    paper_only,
    quarterly_review,
    query_images,
    water_notice,
)

HERE = Path(__file__).parent


def files() -> Iterator[tuple[str, bytes]]:
    """Every file that is made, by its path below sample_docs."""
    report, review, claim = annual_report.make(), quarterly_review.make(), business_forms.claim()
    yield "annual-report.pdf", report
    yield "quarterly-review.pdf", review
    yield "bee-paper.pdf", paper.make()
    yield "invoice.pdf", business_forms.invoice()
    yield "insurance-claim.pdf", claim
    yield "scanned-memo.pdf", paper_only.memo()
    yield "mietvertrag.pdf", mietvertrag.make()
    yield "anzen-dayori.pdf", anzen.make()
    yield "water-notice-ar.pdf", water_notice.make()
    yield "ferry-notice.jpg", paper_only.notice()
    yield "queries/segment-chart.png", query_images.segment_chart(report)
    yield "queries/claim-form.jpg", query_images.claim_form(claim)
    yield "queries/unlock-diagram.png", query_images.unlock_diagram(review)


def difference(made: bytes, kept: bytes) -> str | None:
    """What a reader would see differ between two files, or None: their pixels and their text."""
    if made == kept:
        return None
    ours, theirs = pymupdf.open(stream=made), pymupdf.open(stream=kept)
    if ours.page_count != theirs.page_count:
        return f"{theirs.page_count} pages on disk, {ours.page_count} made"
    for number, (one, other) in enumerate(zip(ours, theirs, strict=True), start=1):
        if one.get_text() != other.get_text():
            return f"the text of page {number} differs"
        if one.get_pixmap(dpi=72).samples != other.get_pixmap(dpi=72).samples:
            return f"the pixels of page {number} differ"
    return None


def main() -> int:
    """Write the files, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the files on disk, write nothing")
    options = parser.parse_args()
    differing = 0
    for name, made in files():
        path = HERE / name
        if not options.check:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(made)
            print(f"{name}: {len(made) / 1024:.0f} KiB")
        elif problem := difference(made, path.read_bytes()) if path.exists() else "not on disk":
            print(f"{name}: {problem}", file=sys.stderr)
            differing += 1
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
