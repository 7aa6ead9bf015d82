"""JPEG files that have waited for a GPU, many at a time.

A GPU's decoder takes many files in one call. Its grey levels are libjpeg's where no colour is
subsampled; where it is, libjpeg smooths the colours on their way to full size and nvJPEG does
not. So whether it decodes is a setting that makes another model, and the resize that follows
is the processor's, bit for bit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg

from padim_dist.core.geometry import InputGeometry
from padim_dist.core.resampling import resize_and_crop

_MOST_BYTES = 256 * 2**20
"""Of images of one size that are resized at the same time, as float32."""


def decode_together(
    files: Sequence[bytes], geometry: InputGeometry, device: torch.device
) -> list[Tensor | None]:
    """Decode, resize and crop plain JPEG files.

    Parameters
    ----------
    files : sequence of bytes
        As `decode.is_plain` has let them pass.
    geometry : InputGeometry
        The trunk's input.
    device : torch.device
        Where; on a processor it is libjpeg that decodes.

    Returns
    -------
    list of Tensor or None
        For each file uint8 pixels (3, crop height, crop width) on the device, channels last;
        None for what the decoder refuses.
    """
    pictures = _decode(files, device)
    by_size: dict[torch.Size, list[int]] = defaultdict(list)
    for place, picture in enumerate(pictures):
        if picture is not None:
            by_size[picture.shape].append(place)
    found: list[Tensor | None] = [None] * len(files)
    for size, places in by_size.items():
        step = max(1, _MOST_BYTES // (4 * size.numel()))
        for start in range(0, len(places), step):
            some = places[start : start + step]
            batch = torch.stack([picture for i in some if (picture := pictures[i]) is not None])
            ready = resize_and_crop(batch, geometry).contiguous(memory_format=torch.channels_last)
            for place, image in zip(some, ready, strict=True):
                found[place] = image
    return found


def _decode(files: Sequence[bytes], device: torch.device) -> list[Tensor | None]:
    """Pictures (3, H, W); None for what is refused."""
    if not files:
        return []
    bytes_ = [torch.from_numpy(np.frombuffer(data, np.uint8).copy()) for data in files]
    try:
        pictures: list[Tensor | None] = decode_jpeg(bytes_, mode=ImageReadMode.RGB, device=device)
        return pictures
    except RuntimeError:  # one of them, but not which; what it is with must not matter
        if len(files) == 1:
            return [None]
        return [picture for data in files for picture in _decode([data], device)]
