"""A trunk that OpenVINO runs, from its converted network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from padim_dist.core.backbones.reduction import split_projections
from padim_dist.core.choices import Precision
from padim_dist.core.engines.conversion import GRAPH, NUMBERS
from padim_dist.core.engines.packages import engine_package
from padim_dist.core.spec import TrunkSpec
from padim_dist.errors import ConfigError


class ConvertedTrunk:
    """A trunk of a converted network, on the processor.

    It uses as many threads as PyTorch does when it is called.

    Parameters
    ----------
    spec : TrunkSpec
        Layers and drawn channels.
    state : mapping of str to Tensor
        What `convert` returned.
    precision : str
        ``float32``, ``bfloat16`` or ``int8``, if it was converted for that.

    Raises
    ------
    ConfigError
        If OpenVINO is not installed, or the processor cannot compute bfloat16.
    """

    def __init__(self, spec: TrunkSpec, state: Mapping[str, Tensor], precision: Precision) -> None:
        self._openvino = engine_package("openvino", "openvino")
        if precision == "bfloat16":
            self._check_processor()
        own, self._projections = split_projections(state)
        self.spec, self._precision = spec, precision
        # The network refers to this memory.
        self._graph, self._numbers = own[GRAPH].numpy().tobytes(), own[NUMBERS].numpy()
        self._threads, self._compiled = 0, None

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Return the feature maps of a batch.

        Parameters
        ----------
        images : Tensor
            uint8, shape (N, 3, H, W), RGB; channels_last avoids a transposition.

        Returns
        -------
        list of Tensor
            float32 maps (N, d_a, H_a, W_a), finest level first, drawn or projected channels only.
        """
        pixels = images.permute(0, 2, 3, 1).contiguous()
        compiled = self._for_threads(torch.get_num_threads())
        request, found = compiled.create_infer_request(), []
        request.set_input_tensor(self._shared(pixels))
        for i, output in enumerate(compiled.outputs):
            shape = [len(pixels), *(d.get_length() for d in list(output.partial_shape)[1:])]
            found.append(torch.empty(shape))  # it writes here, without a copy
            request.set_output_tensor(i, self._shared(found[i]))
        request.infer()
        if self._projections:
            found = [
                maps @ self._projections[layer]
                for layer, maps in zip(self.spec.levels, found, strict=True)
            ]
        return [maps.permute(0, 3, 1, 2) for maps in found]

    def _shared(self, tensor: Tensor) -> Any:
        return self._openvino.Tensor(tensor.numpy(), shared_memory=True)

    def _for_threads(self, threads: int) -> Any:
        """Return the network compiled for a number of threads."""
        if threads != self._threads:
            numbers = self._openvino.Tensor(self._numbers, shared_memory=True)
            core = self._openvino.Core()
            network = core.read_model(self._graph.decode(), numbers)
            self._compiled = core.compile_model(network, "CPU", self._options(threads))
            self._threads = threads
        return self._compiled

    def _check_processor(self) -> None:
        """Raise ConfigError if the processor cannot compute bfloat16: it could crash."""
        core = self._openvino.Core()
        if "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise ConfigError(
                "model.precision 'bfloat16' of engine 'openvino' cannot be used on this processor, "
                f"{core.get_property('CPU', 'FULL_DEVICE_NAME')}, which has no AVX-512. Use other "
                "machines, or a model with precision float32 or int8"
            )

    def _options(self, threads: int) -> dict[str, Any]:
        """Return what the results and the speed depend on; nothing is left to the machine."""
        return {
            "INFERENCE_PRECISION_HINT": "bf16" if self._precision == "bfloat16" else "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": str(threads),
            # Two threads of a core are two of the threads asked for.
            "ENABLE_HYPER_THREADING": True,
            # Several workers would pin theirs to the same cores.
            "ENABLE_CPU_PINNING": False,
        }
