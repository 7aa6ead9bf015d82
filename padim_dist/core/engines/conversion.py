"""Conversion of a trunk to a network of OpenVINO, and its quantisation after training.

The network takes raw pixels and gives the feature maps of all levels. Its bytes are entries of a
state dict, beside the trunk's projections, and are kept as weights are.
"""

from __future__ import annotations

import io
import logging
import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from padim_dist.core.backbones.reduction import split_projections
from padim_dist.core.engines.packages import engine_package
from padim_dist.core.geometry import Grid
from padim_dist.core.spec import TrunkSpec
from padim_dist.core.trunk import folded_graph, normalisation_of
from padim_dist.errors import ConfigError, first_line

GRAPH, NUMBERS = "network.xml", "network.bin"
"""Keys of the two files of a network in a state dict, uint8."""


class _FromPixels(nn.Module):
    """A trunk of pixels (N, H, W, 3), uint8, with maps (N, H_a, W_a, d_a) of each level.

    The mean is subtracted here, and not folded: then the zeros that a convolution pads with are
    right, and nothing has to be padded before.
    """

    def __init__(self, spec: TrunkSpec, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        mean, std = normalisation_of(spec)
        self.network, padding = folded_graph(spec, state, torch.zeros(3), std)
        if any(padding):
            pixels = next(node for node in self.network.graph.nodes if node.op == "placeholder")
            first: Any = self.network.get_submodule(str(next(iter(pixels.users)).target))
            first.padding = padding
        self.network.graph.eliminate_dead_code()
        self.network.recompile()
        self.network.requires_grad_(False)
        self.spec = spec
        self.register_buffer("mean", mean.view(1, 3, 1, 1))
        self.eval()

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Return the maps of a batch, finest level first."""
        maps = self.network(pixels.permute(0, 3, 1, 2).float() - self.get_buffer("mean"))
        found = []
        for layer in self.spec.levels:
            own, drawn = maps[self.spec.layers[layer]], self.spec.drawn[layer]
            if own.shape[1] != len(drawn):
                own = own.index_select(1, torch.tensor(drawn))
            found.append(own.permute(0, 2, 3, 1))
        return tuple(found)


def convert(
    spec: TrunkSpec,
    state: Mapping[str, Tensor],
    size: Grid,
    sample: Tensor | None = None,
    note: Callable[[int], None] | None = None,
) -> dict[str, Tensor]:
    """Return a trunk as a network of OpenVINO, in a state dict.

    The same trunk and sample give the same bytes, on one kind of processor and with one version of
    the packages.

    Parameters
    ----------
    spec, state : TrunkSpec, mapping of str to Tensor
        The trunk, as for `Trunk`.
    size : (int, int)
        Height and width of the images.
    sample : Tensor, optional
        Images, uint8, (N, 3, H, W): the network is quantised to int8 by the ranges of its numbers
        for them. None: it stays in float32.
    note : callable, optional
        Is called with the number of images of the sample that are done, which never falls. What
        it prints is printed.

    Returns
    -------
    dict of str to Tensor
        The two files of the network, uint8, and the projections of the trunk.

    Raises
    ------
    ConfigError
        If a package is missing, or the network cannot be converted or quantised.
    """
    openvino = engine_package("openvino", "openvino")
    own, projections = split_projections(state)
    module = _FromPixels(spec, own)
    # Two images, so that a number of the batch's size is not taken for a constant 1.
    example = torch.zeros(2, *size, 3, dtype=torch.uint8)
    shape = [-1, *size, 3]
    output, most = sys.stdout, 0

    def tell(done: int) -> None:
        nonlocal most  # a quantisation may read the sample more than once
        most = max(most, done)
        if note:
            with redirect_stdout(output):
                note(most)

    try:
        # They print bars, and PyTorch's tracer warns about numbers that become constants.
        with redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network = openvino.convert_model(
                module, example_input=example, input=[(shape, openvino.Type.u8)]
            )
            if sample is not None:
                network = _quantise(network, sample, tell)
    except ConfigError:
        raise
    except Exception as error:  # they do not say which errors they raise
        raise ConfigError(
            f"model.engine 'openvino' cannot be used with {spec.backbone}: it cannot be converted "
            f"({first_line(error)}). Set model.engine to torch"
        ) from error
    graph, numbers = _serialised(openvino, network)
    kept = {key: value for key, value in state.items() if key not in own}
    assert len(kept) == len(projections)
    return {GRAPH: _as_tensor(graph), NUMBERS: _as_tensor(numbers), **kept}


def _quantise(network: Any, sample: Tensor, note: Callable[[int], None]) -> Any:
    """Return a network whose convolutions take and weigh 8-bit integers."""
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # warns of no GPU
    nncf = engine_package("openvino", "nncf")
    nncf.set_log_level(logging.ERROR)
    pixels = sample.permute(0, 2, 3, 1).contiguous().numpy()

    def image(number: int) -> Any:
        note(number)
        return pixels[number : number + 1]

    return nncf.quantize(
        network,
        nncf.Dataset(range(len(pixels)), image),
        subset_size=len(pixels),
        target_device=nncf.TargetDevice.CPU,
        # Weights of 7 bits: sums of two products never overflow the 16 bits that processors without
        # VNNI have for them, so that all processors get the same results.
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            overflow_fix=nncf.OverflowFix.ENABLE
        ),
    )


def _serialised(openvino: Any, network: Any) -> tuple[bytes, bytes]:
    """Return the two files of a network, with names that depend on nothing but the network."""
    plain = openvino.Model(network.get_results(), network.get_parameters(), "trunk")
    for number, node in enumerate(plain.get_ordered_ops()):
        node.set_friendly_name(f"node{number}")  # they count all that this process has made
    for number, port in enumerate([*plain.inputs, *plain.outputs]):
        port.get_tensor().set_names({f"port{number}"})
    with TemporaryDirectory() as folder:  # it writes only files
        graph, numbers = Path(folder, GRAPH), Path(folder, NUMBERS)
        openvino.serialize(plain, graph, numbers)
        return graph.read_bytes(), numbers.read_bytes()


def _as_tensor(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)
