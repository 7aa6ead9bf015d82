"""Decoding JPEG files on a GPU, many in one call.

nvJPEG and libjpeg give the same grey levels if colours are not subsampled. If they are, libjpeg
smooths them when it enlarges them and nvJPEG does not. So the decoder is part of a model's
identity. The resize is the same as on the CPU, bit for bit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from math import prod

import numpy as np
import torch
from torch import Tensor

from padim_dist.core.geometry import InputGeometry
from padim_dist.core.resampling import resize_and_crop
from padim_dist.errors import RunError
from padim_dist.vision import ImageReadMode, decode_jpeg

_MOST_PIXELS = 2**24
"""Maximum pixels that are decoded and resized together; a larger file is decoded by itself."""


def decode_together(
    files: Sequence[bytes],
    sizes: Sequence[tuple[int, int]],
    geometry: InputGeometry,
    device: torch.device,
) -> list[Tensor | None]:
    """Decode, resize and crop plain JPEG files.

    Parameters
    ----------
    files, sizes : sequence of bytes, sequence of (int, int)
        Files that `decode.size_if_plain` accepts, and their heights and widths.
    geometry : InputGeometry
        The trunk's input.
    device : torch.device
        Where to decode; on the CPU libjpeg decodes.

    Returns
    -------
    list of Tensor or None
        For each file uint8 pixels (3, crop height, crop width) on the device, channels last;
        None for a file that the decoder refuses.

    Raises
    ------
    RunError
        If the device runs out of memory.
    """
    by_size: dict[tuple[int, int], list[int]] = defaultdict(list)
    for place, size in enumerate(sizes):
        by_size[size].append(place)
    found: list[Tensor | None] = [None] * len(files)
    for size, places in by_size.items():
        step = max(1, _MOST_PIXELS // prod(size))
        for start in range(0, len(places), step):
            some = places[start : start + step]
            decoded = zip(some, _decode([files[i] for i in some], device), strict=True)
            pictures = {i: p for i, p in decoded if p is not None and p.shape[1:] == size}
            if pictures:
                ready = resize_and_crop(torch.stack([*pictures.values()]), geometry)
                ready = ready.contiguous(memory_format=torch.channels_last)
                for place, image in zip(pictures, ready, strict=True):
                    found[place] = image
    return found


def _decode(files: Sequence[bytes], device: torch.device) -> list[Tensor | None]:
    """Return pictures (3, H, W); None for a file that is refused."""
    buffers = [torch.from_numpy(np.frombuffer(data, np.uint8).copy()) for data in files]
    if device.type == "cuda":
        # The decoder's own stream does not wait for ours: without this it may overwrite memory that
        # pending work still reads.
        torch.cuda.current_stream(device).synchronize()
    try:
        pictures: list[Tensor | None] = decode_jpeg(buffers, mode=ImageReadMode.RGB, device=device)
        return pictures
    except RuntimeError as error:
        if "out of memory" in str(error):
            raise RunError(
                "a worker's GPU ran out of memory while decoding JPEG. Let fewer workers share it "
                "or lower model.batch, then run the same command again: it resumes"
            ) from error
        # The error does not name the file, and other files of the call must not affect the outcome.
        if len(files) == 1:
            return [None]
        return [picture for data in files for picture in _decode([data], device)]
