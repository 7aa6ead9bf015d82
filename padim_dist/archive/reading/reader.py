"""Reading images: each image gives one outcome, and a bad image never raises."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby

import torch
from torch import Tensor

from padim_dist.archive.films.names import frame_time
from padim_dist.archive.reading.decode import (
    decode,
    decode_for,
    decode_mask,
    size_if_plain,
)
from padim_dist.archive.reading.film_reader import FilmReader
from padim_dist.archive.reading.formats.captured import captured_at
from padim_dist.archive.reading.loaded import LoadedImage
from padim_dist.archive.reading.nvjpeg import decode_together
from padim_dist.archive.reading.objects import ObjectFetcher
from padim_dist.archive.reading.refusals import check
from padim_dist.archive.reading.requests import (
    FilmRequest,
    Request,
    plan_films,
    plan_requests,
)
from padim_dist.archive.reading.threads import OverdueError, timed_part, within
from padim_dist.archive.reading.transform import prepare_aligned, prepare_mask
from padim_dist.archive.rows import ImageRow, RefusedRow
from padim_dist.core.align.search import Aligner
from padim_dist.core.geometry import InputGeometry
from padim_dist.core.pictures.forms import Form
from padim_dist.core.status import TIMEOUT
from padim_dist.errors import ImageError, RunError
from padim_dist.telemetry.measures import timed

_RANGE = re.compile(r"#bytes=(\d+)-(\d+)$")


@dataclass(frozen=True)
class ImageReader:
    """Reader that fetches, decodes and transforms the images of a manifest.

    Parameters
    ----------
    fetcher : ObjectFetcher
        Fetches the bytes.
    geometry : InputGeometry
        The trunk's input.
    max_pixels : int
        Maximum pixels of an image; larger images are not decoded.
    jpeg_device : str, optional
        Device that decodes plain JPEG files together; None: each thread decodes its own files.
    deadline : float
        Seconds that decoding an image may take: ``archive.decode_deadline``.
    bits : int, optional
        Bits of a sample that the camera delivers in files of 16 bits.
    aligner : Aligner, optional
        Aligns images with a reference; None: they are taken as they are.
    reduces : bool
        Whether JPEG files are decoded at the size that the resize needs.
    """

    fetcher: ObjectFetcher
    geometry: InputGeometry
    max_pixels: int
    jpeg_device: str | None = None
    deadline: float = 60.0
    bits: int | None = None
    aligner: Aligner | None = None
    reduces: bool = False

    @property
    def films(self) -> FilmReader:
        """Reader of the frames of films."""
        return FilmReader(self.fetcher, self.geometry, self.max_pixels, self.deadline, self.aligner)

    def plan(
        self, rows: Iterable[ImageRow | RefusedRow]
    ) -> Iterator[Request | FilmRequest | LoadedImage]:
        """Yield requests for rows, in order, and the outcome of rows that are not read."""
        checked = (
            row if isinstance(row, RefusedRow) else check(row, self.max_pixels) for row in rows
        )
        for how, some in groupby(checked, key=_how):
            if how is RefusedRow:
                for row in some:
                    assert isinstance(row, RefusedRow)
                    yield LoadedImage(row.row, status=row.status, error=row.reason)
            else:
                plan = plan_films if how is FilmRequest else plan_requests
                yield from plan(row for row in some if isinstance(row, ImageRow))

    def fetch(self, request: Request) -> list[bytes | ImageError]:
        """Return the bytes of each row of a request, or the error that each row gets.

        Raises
        ------
        RunError
            If the store keeps failing.
        """
        try:
            with timed("read"):
                return [*self.fetcher.fetch(request)]
        except ImageError as error:
            # A new one: the traceback of that one holds the frames of this thread, and bytes.
            return [ImageError(error.status, error.reason)] * len(request.rows)

    def decode(self, row: ImageRow, data: bytes | ImageError) -> LoadedImage:
        """Decode and transform an image, or leave its file to `finish`.

        Errors of the image are in the outcome.

        Raises
        ------
        RunError
            If memory runs out.
        """
        if isinstance(data, ImageError):
            return _not_usable(row, data)
        try:
            with timed("decode"), timed_part():
                if self.jpeg_device and (size := size_if_plain(data, self.max_pixels)):
                    taken, form = captured_at(data), Form(*size, bits=8, grey=False)
                    return LoadedImage(row, None, *size, encoded=data, captured_at=taken, form=form)
                return self._decode(row, data)
        except ImageError as error:
            return _not_usable(row, error)
        except MemoryError as error:
            raise RunError(
                f"this worker ran out of memory while decoding {row.uri}. Lower cluster.workers, "
                "cluster.readers or archive.max_pixels, then run the same command again: it resumes"
            ) from error

    def _decode(self, row: ImageRow, data: bytes) -> LoadedImage:
        least = self.geometry.resize if self.reduces else None
        found = decode_for(data, self.max_pixels, self.bits, least)
        size = found.height, found.width
        prepared, lies = prepare_aligned(found.pixels, self.geometry, self.aligner, size)
        return LoadedImage(
            row,
            prepared,
            found.width,
            found.height,
            captured_at=found.captured_at,
            alignment=lies,
            form=found.form,
        )

    def finish(self, images: Sequence[LoadedImage]) -> list[LoadedImage]:
        """Decode all encoded images together on `jpeg_device`, and move all pixels to it.

        Raises
        ------
        RunError
            If there is no such device, or it runs out of memory.
        """
        if self.jpeg_device is None:
            return [*images]
        device = torch.device(self.jpeg_device)
        if device.type == "cuda" and not torch.cuda.is_available():
            raise RunError(
                "model.jpeg is 'nvjpeg', but a worker has no GPU that PyTorch sees. Give every "
                "worker a GPU, or set model.jpeg to 'libjpeg' and fit another model"
            )
        waiting = [image for image in images if image.encoded is not None]
        files = [image.encoded or b"" for image in waiting]
        sizes = [(image.height or 0, image.width or 0) for image in waiting]
        with timed("decode"):
            decoded = iter(decode_together(files, sizes, self.geometry, device))
            return [self._finish(image, decoded, device) for image in images]

    def _finish(
        self, image: LoadedImage, decoded: Iterator[Tensor | None], device: torch.device
    ) -> LoadedImage:
        if image.encoded is None:
            finished = image
        elif (pixels := next(decoded)) is not None:
            finished = replace(image, pixels=pixels, encoded=None)
        else:  # libjpeg tries, and gives the reason
            finished = replace(self, jpeg_device=None)._decode_in_time(image.row, image.encoded)
        if finished.pixels is None:
            return finished
        return replace(finished, pixels=finished.pixels.to(device))

    def load(self, row: ImageRow) -> LoadedImage:
        """Load the image of one row; see `decode` and `finish` for the errors."""
        (step,) = self.plan([row])
        if isinstance(step, LoadedImage):
            return step
        if isinstance(step, FilmRequest):
            (image,) = self.finish([self.films.load(step)])
            return image
        (image,) = self.finish([self._decode_in_time(row, self._fetch_one(step))])
        return image

    def _decode_in_time(self, row: ImageRow, data: bytes | ImageError) -> LoadedImage:
        try:
            return within(self.deadline, lambda: self.decode(row, data))
        except OverdueError:
            return self.too_slow(row)

    def too_slow(self, row: ImageRow) -> LoadedImage:
        """Return the outcome of an image whose decoding exceeded the deadline."""
        return _not_usable(row, self._overdue())

    def _overdue(self) -> ImageError:
        return ImageError(
            TIMEOUT, f"decoding it took longer than archive.decode_deadline = {self.deadline:g} s"
        )

    def _fetch_one(self, request: Request) -> bytes | ImageError:
        """Fetch the only row of a request, within the deadline."""
        try:
            (data,) = within(self.fetcher.deadline, lambda: self.fetch(request))
        except OverdueError:
            return self.fetcher.give_up(request)
        return data

    def load_original(self, row: ImageRow) -> Tensor:
        """Load the image of one row at its original size: uint8, shape (3, height, width).

        Raises
        ------
        ImageError, RunError
            If it cannot be read or decoded.
        """
        (step,) = self.plan([row])
        if isinstance(step, LoadedImage):
            raise ImageError(step.status, str(step.error))
        if isinstance(step, FilmRequest):
            return self.films.load_original(step)
        if isinstance(data := self._fetch_one(step), ImageError):
            raise data
        return self._decode_within(data, partial(decode, bits=self.bits))

    def _decode_within(self, data: bytes, decoder: Callable[[bytes, int], Tensor]) -> Tensor:
        def timed_decode() -> Tensor:
            with timed_part():
                return decoder(data, self.max_pixels)

        try:
            return within(self.deadline, timed_decode)
        except OverdueError:
            raise self._overdue() from None

    def load_mask(self, mask_uri: str) -> Tensor:
        """Load a ground-truth mask at the size of the crop: bool, (height, width).

        Raises
        ------
        ImageError, RunError
            If it cannot be read or decoded.
        """
        return prepare_mask(self.read_mask(mask_uri)[1], self.geometry)

    def read_mask(self, mask_uri: str) -> tuple[bytes, Tensor]:
        """Return the file of a mask, and the mask: bool, (height, width), at its own size.

        It is a file, or a member of a tar file as ``<uri>#bytes=<start>-<stop>``.
        """
        match = _RANGE.search(mask_uri)
        start, stop = map(int, match.groups()) if match else (0, 0)
        uri = mask_uri[: match.start()] if match else mask_uri
        row = ImageRow("", uri, None, start, stop - start, 0, None, None, "test")
        request = Request(uri, (row,), start, stop) if match else Request(uri, (row,))
        if isinstance(data := self._fetch_one(request), ImageError):
            raise data
        return data, self._decode_within(data, decode_mask)

    def fetch_head(self, row: ImageRow, most: int) -> bytes:
        """Fetch at most so many first bytes of an image."""
        head = replace(row, length=min(row.length, most))
        request = Request(row.uri, (head,), row.offset, row.offset + head.length)
        if isinstance(data := self._fetch_one(request), ImageError):
            raise data
        return data


def _not_usable(row: ImageRow, error: ImageError) -> LoadedImage:
    return LoadedImage(row, status=error.status, error=error.reason)


def _how(row: ImageRow | RefusedRow) -> type:
    """Return what a row becomes: the kind of its request, or `RefusedRow`."""
    if isinstance(row, RefusedRow):
        return RefusedRow
    return Request if frame_time(row) is None else FilmRequest
