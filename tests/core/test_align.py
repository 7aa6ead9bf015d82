"""Alignment, against pictures that Pillow has turned and shifted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from padim_dist.archive.reading.transform import prepare, prepare_aligned, prepare_mask
from padim_dist.core.align.median import median_reference
from padim_dist.core.align.motion import Motion
from padim_dist.core.align.pictures import in_picture
from padim_dist.core.align.position import Position
from padim_dist.core.align.reference import Reference, grey, grid_of
from padim_dist.core.align.search import Aligner
from padim_dist.core.geometry import InputGeometry

SIZE = (300, 400)
WHOLE = InputGeometry((192, 160), (192, 160))


def scene(seed: int = 0) -> Image.Image:
    """Return a part on a plain ground, larger than `SIZE` on all sides."""
    random = np.random.default_rng(seed)
    picture = Image.new("RGB", (800, 600), (120, 125, 130))
    pen = ImageDraw.Draw(picture)
    pen.rectangle([270, 200, 530, 400], fill=(190, 180, 170))
    for _ in range(14):
        x, y = random.integers((280, 210), (500, 370))
        side = int(random.integers(8, 26))
        colour = tuple(int(v) for v in random.integers(20, 235, 3))
        pen.rectangle([x, y, x + side, y + side], fill=colour)
    return picture


def photo(angle: float = 0, down: float = 0, right: float = 0, seed: int = 0) -> Image.Image:
    """Return the scene, turned about the middle of the photo (counterclockwise), then shifted."""
    turned = scene(seed).rotate(angle, Image.Resampling.BICUBIC, translate=(right, down))
    return turned.crop((200, 150, 600, 450))


def pixels(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def reference_of(image: Image.Image, geometry: InputGeometry = WHOLE) -> Reference:
    levels = grey(prepare(pixels(image), geometry.whole), grid_of(geometry.resize))
    return Reference.of(levels.numpy(), (image.height, image.width))


def test_the_motion_of_a_picture_is_found():
    """In pixels of the resized picture, whose pixels are not square; also turned by itself."""
    aligner = Aligner(reference_of(photo()), 24, 10)
    random = np.random.default_rng(1)
    for _ in range(12):
        angle, (down, right) = random.uniform(-9, 9), random.integers(-30, 31, 2).tolist()
        moved, found = prepare_aligned(pixels(photo(angle, down, right)), WHOLE, aligner)
        assert found.motion
        assert found.quality > 0.95
        assert found.motion.angle == pytest.approx(angle, abs=0.15)
        assert found.motion.shift_y == pytest.approx(down * 192 / 300, abs=0.2)
        assert found.motion.shift_x == pytest.approx(right * 160 / 400, abs=0.2)
        wanted = prepare(pixels(photo()), WHOLE)
        inner = np.s_[:, 40:-40, 40:-40]
        assert (moved[inner].float() - wanted[inner].float()).abs().mean() < 3


def test_parts_in_any_direction():
    aligner = Aligner(reference_of(photo()), 24, 180)
    for angle in (170, -135, 90, 44, -1, 180):
        _, found = prepare_aligned(pixels(photo(angle, 6, -8)), WHOLE, aligner)
        assert found.motion
        assert abs((found.motion.angle - angle + 180) % 360 - 180) < 0.3
        assert found.motion.shift_y == pytest.approx(6 * 192 / 300, abs=0.3)


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (photo(0, 0, 120), "beyond shift"),
        (photo(25), "beyond rotate"),
        (photo(seed=5).transpose(Image.Transpose.TRANSPOSE), "another shape"),
        (Image.new("RGB", (400, 300), (90, 90, 90)), "plain"),
        (
            Image.fromarray(np.random.default_rng(3).integers(0, 255, (300, 400, 3), np.uint8)),
            "noise",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_picture_that_cannot_be_aligned_is_taken_as_it_is(image, why):
    aligner = Aligner(reference_of(photo()), 24, 10)
    taken, found = prepare_aligned(pixels(image), WHOLE, aligner)
    assert found.motion is None, why
    assert found.quality == 0
    assert torch.equal(taken, prepare(pixels(image), WHOLE))


def test_a_plain_reference_aligns_nothing():
    aligner = Aligner(reference_of(Image.new("RGB", (400, 300), (90, 90, 90))), 24, 10)
    assert prepare_aligned(pixels(photo()), WHOLE, aligner)[1].motion is None


def test_places_masks_and_maps_follow_the_motion():
    """A spot of the original is found again in the aligned picture, and back, with a crop too."""
    geometry = InputGeometry((192, 160), (152, 128))
    aligner = Aligner(reference_of(photo(), geometry), 24, 10)
    image = photo(7, 14, -22)
    for y, x in ((90, 130), (210, 280), (150, 200)):
        spotted = image.copy()
        ImageDraw.Draw(spotted).ellipse([x - 4, y - 4, x + 4, y + 4], fill=(255, 0, 255))
        aligned, found = prepare_aligned(pixels(spotted), geometry, aligner)
        assert found.motion
        magenta = aligned[0].int() + aligned[2] - 2 * aligned[1]
        place = np.unravel_index(int(magenta.argmax()), geometry.crop)
        back = geometry.to_original(int(place[0]), int(place[1]), *SIZE, found.motion)
        assert np.abs(np.subtract(back, (y, x))).max() <= 5
        box = geometry.box_to_original(
            (place[0] - 3, place[1] - 3, place[0] + 4, place[1] + 4), *SIZE, found.motion
        )
        assert box[0] <= y < box[2]
        assert box[1] <= x < box[3]
        mask = np.zeros(SIZE, bool)
        mask[y - 4 : y + 5, x - 4 : x + 5] = True
        warped = prepare_mask(torch.from_numpy(mask), geometry, SIZE, found.motion)
        assert warped[place]
        middle = np.argwhere(warped.numpy()).mean(axis=0)
        assert np.abs(middle - place).max() <= 2.5
        drawn = in_picture(warped.numpy().astype(np.float32), geometry, SIZE, SIZE, found.motion)
        seen = np.nan_to_num(drawn) > 0.5
        assert (seen & mask).sum() > 0.75 * (seen | mask).sum()
        assert np.isnan(drawn[0, 0])


def test_the_median_of_moved_pictures_is_sharp():
    """Half of its error against a still picture, compared with the median of unaligned ones."""
    random = np.random.default_rng(2)
    grid = grid_of(WHOLE.resize)
    pictures = []
    for _ in range(15):
        motion = random.uniform(-6, 6), *random.integers(-25, 26, 2).tolist()
        pictures.append((grey(prepare(pixels(photo(*motion)), WHOLE), grid), SIZE))
    pictures.append((torch.zeros(grid), (300, 300)))  # of another shape
    found = median_reference(pictures, WHOLE.resize, 30, 10)
    assert found.size == SIZE
    still = Aligner(found, 30, 10).find(*pictures[0], WHOLE.resize)
    assert still.quality > 0.97
    blurred = Reference.of(np.median([p.numpy() for p, _ in pictures[:-1]], axis=0), SIZE)
    assert still.quality > Aligner(blurred, 30, 10).find(*pictures[0], WHOLE.resize).quality + 0.02


def test_a_camera_has_moved_if_its_pictures_lie_elsewhere_beyond_chance():
    random = np.random.default_rng(4)

    def position(images: int, down: float, spread: float) -> Position:
        shifts = np.add(random.normal(0, spread, (images, 3)), (down, 0, 0))
        return Position.of([Motion(*shift) for shift in shifts.tolist()])

    assert position(40, 0, 6).moved_from(position(200, 0, 6)) is None
    assert position(40, 1, 0.1).moved_from(position(200, 0, 0.1)) is None  # less than 2 pixels
    assert position(40, 3, 0.1).moved_from(position(200, 0, 0.1)) is not None
    moved = position(40, 12, 6).moved_from(position(200, 0, 6))
    assert moved is not None
    assert moved.shift_y == pytest.approx(12, abs=4)
    assert Position.of([None, None]).moved_from(position(9, 0, 1)) is None


@pytest.mark.parametrize("images", [1, 2, 3])
def test_a_few_pictures_that_lie_alike_have_not_moved(images):
    """Parts of a usual night lie up to two deviations off, all of them alike."""
    random = np.random.default_rng(images)
    model = [Motion(*random.normal(0, (4, 4, 3))) for _ in range(200)]
    usual = Position.of(model)
    alike = [Motion(5.5, -4.0, 4.0)] * images
    assert Position.of(alike).spread == 0
    assert Position.of(alike).moved_from(usual) is None
    # Nor do the pictures of the model itself, taken as nights of so many.
    nights = [model[at : at + images] for at in range(0, 200 - images, images)]
    moved = [Position.of(night).moved_from(usual) for night in nights]
    assert sum(map(bool, moved)) <= 2
    far = [Motion(40.0, 0, 0)] * images
    assert Position.of(far).moved_from(usual)


def test_angles_are_those_of_a_circle():
    around = [Motion(0, 0, angle) for angle in (179, -179, 178, -178, 180)]
    position = Position.of(around)
    assert abs(position.angle) == 180
    assert position.turns < 3
    other = Position.of([Motion(0, 0, angle) for angle in (-178, -179, -177, 179)])
    assert other.moved_from(position) is None
    turned = Position.of([Motion(0, 0, angle) for angle in (-150, -149, -151, -150)])
    assert turned.moved_from(position).angle == pytest.approx(30)
    anywhere = Position.of([Motion(0, 0, angle) for angle in range(-180, 180, 7)])
    assert turned.moved_from(anywhere) is None
