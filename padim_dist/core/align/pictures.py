"""Maps of the trunk's input, drawn in the picture that they are about."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from padim_dist.core.align.motion import Motion
from padim_dist.core.geometry import Grid, InputGeometry


def in_picture(
    values: npt.NDArray[np.float32],
    geometry: InputGeometry,
    size: Grid,
    original: Grid,
    motion: Motion | None = None,
) -> npt.NDArray[np.float32]:
    """Return a map of the trunk's input as one of the whole picture, interpolated (bilinear).

    Parameters
    ----------
    values : array
        float32, shape (crop height, crop width).
    geometry : InputGeometry
        Resize and crop of the picture.
    size, original : (int, int)
        Height and width to draw the picture in, and those of the original.
    motion : Motion, optional
        How the picture lies, if it was aligned.

    Returns
    -------
    array
        float32, shape `size`; NaN where the trunk does not see the picture.

    Examples
    --------
    >>> in_picture(np.float32([[1, 3]]), InputGeometry((1, 4), (1, 2)), (1, 8), (1, 8))
    array([[nan, nan, 1. , 1.5, 2.5, 3. , nan, nan]], dtype=float32)
    """
    lies = np.array((motion or Motion(0, 0, 0)).affine(geometry.resize, original))
    back = np.linalg.inv(lies[:, :2])
    step = np.array(geometry.resize) / np.array(size)
    turn = back * step
    # Of the first pixel's centre, in pixels of the map.
    first = back @ (0.5 * step - lies[:, 2]) - np.array(geometry.offset)
    from scipy import ndimage  # as in `core.regions`

    sampled = ndimage.affine_transform(values, turn, first - 0.5, size, order=1, mode="nearest")
    rows, columns = np.arange(size[0])[:, None], np.arange(size[1])
    outside = np.zeros(size, bool)
    for axis, side in enumerate(geometry.crop):
        places = first[axis] + turn[axis, 0] * rows + turn[axis, 1] * columns
        outside |= (places < 0) | (places >= side)
    sampled[outside] = np.nan
    found: npt.NDArray[np.float32] = sampled.astype(np.float32, copy=False)
    return found


def between(
    geometry: InputGeometry, to: tuple[Motion | None, Grid], of: tuple[Motion | None, Grid]
) -> npt.NDArray[np.float64]:
    """Return the map from places in an original to the same place of the scene in another one.

    Parameters
    ----------
    geometry : InputGeometry
        Resize of both pictures.
    to, of : (Motion or None, (int, int))
        How the other one and the first one lie against the reference, and their heights and widths.

    Returns
    -------
    array
        Shape (2, 3): a place (y, x) in pixels of the first one is (y, x, 1) times its rows in the
        other; 0 is the edge of the first pixel.

    Examples
    --------
    >>> geometry = InputGeometry((8, 8), (8, 8))
    >>> between(geometry, (Motion(1, 0, 0), (16, 16)), (None, (8, 8)))
    array([[2., 0., 2.],
           [0., 2., 0.]])
    """
    lies, others = (_from_reference(geometry, motion, size) for motion, size in (to, of))
    return (lies @ np.linalg.inv(others))[:2]


def _from_reference(
    geometry: InputGeometry, motion: Motion | None, size: Grid
) -> npt.NDArray[np.float64]:
    """Return the map (3, 3) from places in the resized reference to places in an original."""
    rows = (motion or Motion(0, 0, 0)).affine(geometry.resize, size)
    scale = np.diag([size[0] / geometry.resize[0], size[1] / geometry.resize[1], 1.0])
    found: npt.NDArray[np.float64] = scale @ np.array([*rows, (0.0, 0.0, 1.0)])
    return found
