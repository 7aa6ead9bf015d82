"""Reduction of channels: draws by layer, and random projections."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from padim_dist.core.backbone import plan_trunk
from padim_dist.core.backbones.reduction import (
    draw_channels,
    make_projections,
    share_channels,
    split_projections,
)
from padim_dist.core.geometry import InputGeometry
from padim_dist.core.spec import EmbeddingSpec
from padim_dist.core.trunk import Trunk, random_state
from padim_dist.errors import ConfigError
from tests.core.comparison import largest_error

RESNET = ("layer1", "layer2", "layer3")
COUNTS = (64, 128, 256)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=5), st.data())
def test_shares_add_up_and_are_within_one_of_the_proportion(counts, data):
    total = data.draw(st.integers(1, sum(counts)))
    exact = [total * count / sum(counts) for count in counts]
    try:
        shares = share_channels(counts, total)
    except ConfigError:
        assert min(exact) < 1
        return
    assert sum(shares) == total
    assert all(abs(one - wanted) < 1 for one, wanted in zip(shares, exact, strict=True))
    assert all(one <= count for one, count in zip(shares, counts, strict=True))


def test_projections_have_orthonormal_columns_and_are_seeded():
    made, again = (make_projections(COUNTS, (14, 29, 57), 1024) for _ in range(2))
    for one, same in zip(made.values(), again.values(), strict=True):
        assert torch.equal(one, same)
        torch.testing.assert_close(one.T @ one, torch.eye(one.shape[1]), rtol=0, atol=1e-6)
    other = make_projections(COUNTS, (14, 29, 57), 7)
    assert not torch.equal(made["projection.0"], other["projection.0"])
    own, matrices = split_projections({"conv1.weight": torch.zeros(1), **made})
    assert [*own] == ["conv1.weight"]
    assert [tuple(m.shape) for m in matrices] == [(64, 14), (128, 29), (256, 57)]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_projected_trunk_gives_the_products_of_all_channels(precision):
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    state = random_state("resnet18", RESNET, 1)
    whole, _ = plan_trunk("resnet18", RESNET, None, 1, (64, 96))
    spec, shape = plan_trunk("resnet18", RESNET, 100, 1, (64, 96), reduction="project")
    matrices = make_projections(COUNTS, spec.projected, 1)
    with torch.inference_mode():
        every = Trunk(whole, state, precision)(images)
        found = Trunk(spec, {**state, **matrices}, precision)(images)
    assert shape.channels == spec.projected == (14, 29, 57)
    for maps, own, matrix in zip(every, found, matrices.values(), strict=True):
        wanted = np.einsum("nchw,cd->ndhw", maps.double().numpy(), matrix.double().numpy())
        np.testing.assert_allclose(own.numpy(), wanted, atol=1e-4 * np.abs(wanted).max())


def test_layers_in_another_order_have_their_own_projections():
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    made = make_projections(COUNTS[::-1], (3, 2, 1), 5)
    spec, shape = plan_trunk("resnet18", RESNET[::-1], (3, 2, 1), 1, (64, 64), reduction="project")
    assert shape.channels == (1, 2, 3)
    assert shape.paper_order == (3, 4, 5, 1, 2, 0)
    state = random_state("resnet18", RESNET[::-1], 1)
    with torch.inference_mode():
        found = Trunk(spec, {**state, **made})(images)
    assert [maps.shape[1] for maps in found] == [1, 2, 3]


def test_a_draw_by_layer_takes_so_many_of_each():
    drawn = draw_channels(COUNTS, (5, 7, 9), 3)
    assert [len(one) for one in drawn] == [5, 7, 9]
    assert all(list(one) == sorted(set(one)) for one in drawn)
    assert all(max(one) < count for one, count in zip(drawn, COUNTS, strict=True))
    assert drawn != draw_channels(COUNTS, (5, 7, 9), 4)


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        ((10, 20), "2 numbers for 3 layers"),
        ((65, 1, 1), "at most as many of each"),
        (449, "have 448 in all"),
        (2, "leaves layer 1 of 3 without any dimension"),
    ],
)
def test_sizes_that_do_not_go_with_the_layers_are_refused(channels, message):
    with pytest.raises(ConfigError, match=message):
        share_channels(COUNTS, channels)


def test_distances_of_projections_equal_those_of_the_dense_gaussian():
    """At most 1e-5 relative error, against float64."""
    spec, shape = plan_trunk("resnet18", RESNET, 40, 1, (64, 64), reduction="project")
    state = random_state("resnet18", RESNET, 1) | make_projections(COUNTS, spec.projected, 1)
    with torch.inference_mode():
        maps = Trunk(spec, state)(torch.randint(0, 256, (40, 3, 64, 64), dtype=torch.uint8))
    assert largest_error(shape, maps) <= 1e-5


@pytest.mark.parametrize("reduction", ["draw", "project"])
def test_specifications_are_read_as_they_were_written(reduction):
    trunk, shape = plan_trunk("resnet18", RESNET, 100, 1, (64, 64), reduction=reduction)
    geometry = InputGeometry((64, 64), (64, 64))
    spec = EmbeddingSpec(trunk, shape, geometry, "w", "float32", 8, "libjpeg")
    values = spec.to_dict()
    assert ("projected" in values["trunk"]) == (reduction == "project")  # as version 0.5 wrote
    assert EmbeddingSpec.from_dict(values) == spec
