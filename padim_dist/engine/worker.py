"""State of a worker process: embedder, Gaussian, calibration, members, loaded when first needed.

Nothing here is a result: all of it can be loaded again.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from typing import Any, TypeVar

import torch
from torch import Tensor

from padim_dist.archive.reading.ahead import Reading, read_ahead
from padim_dist.archive.reading.loaded import LoadedImage
from padim_dist.archive.reading.reader import ImageReader
from padim_dist.archive.reading.transform import together
from padim_dist.archive.rows import ImageRow, RefusedRow
from padim_dist.core.embedding import Embedder
from padim_dist.core.gaussian import Gaussian
from padim_dist.core.spec import EmbeddingSpec
from padim_dist.engine.cluster.processors import processor_name
from padim_dist.store.calibrations import KeptCalibration, read_calibration
from padim_dist.store.gaussians import read_gaussian
from padim_dist.store.normals import Members, read_members
from padim_dist.store.weights import kept_weights
from padim_dist.store.workspace import Workspace

T = TypeVar("T")
_PACKAGES = ("torch", "torchvision", "numpy", "padim-dist")
_lock = threading.RLock()
_held: dict[str, tuple[Hashable, Any]] = {}


def device() -> torch.device:
    """Return the device of this process: CUDA if available."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@cache
def machine(others: tuple[str, ...] = ()) -> str:
    """Return what the last bits of results depend on: processor and software of this process.

    `others` are packages that are used only by some models and archives.
    """
    if torch.cuda.is_available():
        processor = torch.cuda.get_device_name()
        libraries = [f"CUDA {torch.version.cuda}", f"cuDNN {torch.backends.cudnn.version()}"]
    else:
        processor = f"{processor_name()} ({torch.backends.cpu.get_cpu_capability()})"
        libraries = []
    libraries += [f"{name} {version(name)}" for name in _PACKAGES + others]
    return ", ".join([processor, *libraries])


def set_up(threads: int) -> None:
    """Set the number of threads and exact float32 products; every task does it."""
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = False


def get_embedder(workspace: Workspace, spec: EmbeddingSpec) -> Embedder:
    """Return the embedder of this process; groups share its trunk, whatever is their own.

    So do workspaces: weights are named by their content.
    """
    whole, is_other = replace(spec.within(None), align=None), "embedder" in _held

    def load() -> Embedder:
        if is_other:
            gc.collect()  # a traced network has reference cycles: free the old one
        return Embedder(whole, kept_weights(workspace, spec.weights), device())

    return _hold("embedder", whole, load).within(spec)


def get_gaussian(
    workspace: Workspace, model_id: str, made: str, group: str, spec: EmbeddingSpec
) -> Gaussian:
    """Return the Gaussian of a group; the last one used is held.

    `made` says which making of the model is meant: after a model was removed, a fit with its
    settings makes another one of the same id.
    """

    def load() -> Gaussian:
        return read_gaussian(workspace, model_id, group, spec.shape).to(device())

    return _hold("gaussian", (workspace.folder.url, model_id, made, group), load)


def get_calibration(
    workspace: Workspace, model_id: str, made: str, group: str
) -> KeptCalibration | None:
    """Return the calibration of a group or None; the last one used is held, as the Gaussian is."""
    key = (workspace.folder.url, model_id, made, group)
    return _hold("calibration", key, lambda: read_calibration(workspace, model_id, group))


def get_members(workspace: Workspace, model_id: str, made: str, group: str) -> Members:
    """Return the images that a group was fitted on; the last ones used are held."""
    key = (workspace.folder.url, model_id, made, group)
    return _hold("members", key, lambda: read_members(workspace, model_id, group))


def forget_model() -> None:
    """Drop what is held of the model: it is damaged, and may be mended in storage."""
    with _lock:
        for kind in ("gaussian", "calibration", "members"):
            _held.pop(kind, None)


def batches(
    rows: Iterable[ImageRow | RefusedRow], reading: Reading, size: int, fill: bool
) -> Iterator[tuple[list[LoadedImage], Tensor | None]]:
    """Load images ahead and yield them in batches, in order.

    Parameters
    ----------
    rows, reading : iterable of ImageRow or RefusedRow, Reading
        Rows of the manifest, and how they are loaded.
    size : int
        Usable images in a batch.
    fill : bool
        Whether black images fill up the last batch. With a constant batch size an image's
        scores do not depend on the other images of its batch.

    Yields
    ------
    images : list of LoadedImage
        Up to `size` usable images, and the unusable ones between them.
    pixels : Tensor or None
        uint8 (N, 3, H, W), the usable ones first; None if there is none.
    """
    images: list[LoadedImage] = []
    usable = 0
    for image in read_ahead(rows, reading, max(2 * size, reading.requests)):
        images.append(image)
        usable += image.is_usable
        if usable == size:
            yield _batch(images, reading.reader, size if fill else 0)
            images, usable = [], 0
    if images:
        yield _batch(images, reading.reader, size if fill else 0)


def _batch(
    images: list[LoadedImage], reader: ImageReader, least: int
) -> tuple[list[LoadedImage], Tensor | None]:
    images = reader.finish(images)
    pixels = [image.pixels for image in images if image.pixels is not None]
    if pixels:
        pixels += [torch.zeros_like(pixels[0])] * (least - len(pixels))
    return images, together(pixels) if pixels else None


def _hold(kind: str, key: Hashable, load: Callable[[], T]) -> T:
    with _lock:
        if kind not in _held or _held[kind][0] != key:
            _held.pop(kind, None)  # free the old one before the new one is loaded
            _held[kind] = (key, load())
        value: T = _held[kind][1]
        return value
