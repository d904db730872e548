"""Pictures to search with: what someone who half remembers a page would crop or photograph."""

from __future__ import annotations

import io

from PIL import Image

from . import camera


def _png(image: Image.Image) -> bytes:
    target = io.BytesIO()
    image.quantize(64, dither=Image.Dither.NONE).save(target, "PNG", optimize=True)
    return target.getvalue()


def segment_chart(report: bytes) -> bytes:
    """The bar chart of the segments with its title and legend, as a screenshot."""
    return _png(camera.rendered(report, 4, dpi=110, clip=(44, 276, 348, 500)))


def unlock_diagram(review: bytes) -> bytes:
    """The right part of the diagram of a ride, as a screenshot that cuts through a box."""
    return _png(camera.rendered(review, 6, dpi=90, clip=(236, 92, 860, 420)))


def claim_form(claim: bytes) -> bytes:
    """The middle of the first page of the insurance claim, photographed at an angle on a table."""
    sheet = camera.rendered(claim, 0, dpi=120, clip=(36, 222, 560, 508))
    corners = [(52.0, 70.0), (862.0, 26.0), (884.0, 500.0), (26.0, 540.0)]
    picture = camera.photographed(sheet, corners, (900, 570), seed=21, shadow=(0.5, 0.2, 0.35))
    return camera.as_jpeg(picture, quality=72)
