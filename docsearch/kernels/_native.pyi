from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

def score(
    levels: NDArray[np.int8],
    query_scales: NDArray[np.float32],
    bits: int,
    has_token_scales: bool,
    row_bytes: int,
    buffers: Sequence[NDArray[np.uint8]],
    which: NDArray[np.int64],
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
    page_scales: NDArray[np.float32],
    out: NDArray[np.float32],
    begin: int,
    end: int,
    isa: str | None = None,
    /,
) -> None: ...
def isas() -> tuple[str, ...]: ...
