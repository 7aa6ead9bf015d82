"""Leave-one-out results of parts, temporary: a NumPy file for each part, its own receipt.

All are removed once the model is calibrated.
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
    """Leave-one-out results of a part's sampled images.

    Attributes
    ----------
    scores : array
        Image scores, float64, shape (n,).
    highest : array
        Highest values of their anomaly maps, float32, unordered: all that can be a threshold.
    pixels, decisive : int
        Values in their anomaly maps, and how many of the highest of all parts can be one.
    squares : array
        Sum of squared distances at each patch, float64, shape (G_0,), in nested order.
    whitened : list of array
        Whitened embeddings z[a] of a few of them, float32, shape (G_a, d_a, m).
    scales : array
        Factors by which their distances grow when they are left out, float32, shape (G_0, m).
    """

    scores: npt.NDArray[np.float64]
    highest: npt.NDArray[np.float32]
    pixels: int
    decisive: int
    squares: npt.NDArray[np.float64]
    whitened: list[npt.NDArray[np.float32]]
    scales: npt.NDArray[np.float32]


def write_left_out(workspace: Workspace, path: str, part: LeftOut) -> None:
    """Write the results of a part, unless a duplicate of the task has already written the same."""
    arrays: dict[str, Any] = dict(vars(part))
    levels = arrays.pop("whitened")
    arrays |= {f"whitened_{a}": level for a, level in enumerate(levels)}
    sink = io.BytesIO()
    np.savez(sink, **arrays)
    workspace.folder.create(path, sink.getvalue())


def read_left_out(workspace: Workspace, path: str) -> LeftOut:
    """Read the results of a part."""
    with np.load(io.BytesIO(workspace.folder.read(path))) as file:
        values: dict[str, Any] = dict(file)
    levels = sum(name.startswith("whitened_") for name in values)
    whitened = [values.pop(f"whitened_{a}") for a in range(levels)]
    values |= {name: int(values[name]) for name in ("pixels", "decisive")}
    return LeftOut(whitened=whitened, **values)
