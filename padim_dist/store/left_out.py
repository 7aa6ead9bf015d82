"""What the sampled images of a part say of the others, while a model is being calibrated.

One NumPy file a part, which is its own receipt; all are removed once the model is calibrated.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from padim_dist.store.workspace import Workspace


@dataclass(frozen=True)
class LeftOut:
    """A part's images, each as the model of all others sees it.

    Attributes
    ----------
    scores : array
        Image scores, float64, shape (n,).
    highest : array
        The highest values of their anomaly maps that may decide a threshold, float32, in no order.
    pixels, decisive : int
        Values of the anomaly maps there were, and how many of all parts' may decide.
    squares : array
        Sum of their squared distances at each patch, float64, (G_0,), in nested order.
    whitened : list of array
        Of a few of them the whitened embeddings z[a] (G_a, d_a, m), float32.
    scales : array
        By how much their distances grow when they are left out, float32, (G_0, m).
    """

    scores: npt.NDArray[np.float64]
    highest: npt.NDArray[np.float32]
    pixels: int
    decisive: int
    squares: npt.NDArray[np.float64]
    whitened: list[npt.NDArray[np.float32]]
    scales: npt.NDArray[np.float32]


def write_left_out(workspace: Workspace, path: str, part: LeftOut) -> None:
    """Write it, unless a twin was faster: both have the same."""
    arrays: dict[str, Any] = dict(vars(part))
    levels = arrays.pop("whitened")
    arrays |= {f"whitened_{a}": level for a, level in enumerate(levels)}
    sink = io.BytesIO()
    np.savez(sink, **arrays)
    workspace.folder.create(path, sink.getvalue())


def read_left_out(workspace: Workspace, path: str) -> LeftOut:
    """Read it."""
    with np.load(io.BytesIO(workspace.folder.read(path))) as file:
        values: dict[str, Any] = dict(file)
    levels = sum(name.startswith("whitened_") for name in values)
    whitened = [values.pop(f"whitened_{a}") for a in range(levels)]
    values |= {name: int(values[name]) for name in ("pixels", "decisive")}
    return LeftOut(whitened=whitened, **values)
