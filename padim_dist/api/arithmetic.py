"""What an engine needs, and how fast a precision is on the workers' processors, for `doctor`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from padim_dist.api.findings import Finding
from padim_dist.config.model import ModelConfig
from padim_dist.core.engines.packages import check_engine
from padim_dist.errors import ConfigError

_CHECK = "arithmetic"
_NEEDS = {
    "int8": (("amx_int8", "AMX"), ("avx512_vnni", "AVX512-VNNI"), ("avx_vnni", "AVX-VNNI")),
    "bfloat16": (("amx_bf16", "AMX"), ("avx512_bf16", "AVX512-BF16")),
}
"""Instruction sets by precision, the fastest first, as Linux and as people name them."""
_WITHOUT = {
    "int8": "works, with the same results, at about half the speed; use other machines for more",
    "bfloat16": "it is slower than float32, or refused without AVX-512; use other machines, or set "
    "model.precision to float32 or int8",
}
"""What to expect, and to do, without them."""


def conversion_findings(model: ModelConfig) -> Iterator[Finding]:
    """Yield whether a package is missing here that only making a network needs."""
    try:
        check_engine(model.engine, model.precision, converts=True)
    except ConfigError as error:
        advice = "install it, unless the workspace has the network of this archive already"
        yield Finding("engine", "warning", str(error), advice)


def arithmetic_findings(
    model: ModelConfig, processors: Sequence[frozenset[str]]
) -> Iterator[Finding]:
    """Yield whether processors have instructions for the precision of an engine for CPUs.

    Parameters
    ----------
    model : ModelConfig
        Its engine and precision.
    processors : sequence of frozenset of str
        Instruction sets of the processor of each worker; empty: not known, as of ARM's.
    """
    if model.engine == "torch" or model.precision not in _NEEDS:
        return
    known = [one for one in processors if one]
    needs = _NEEDS[model.precision]
    ranks = [
        next((i for i, (flag, _) in enumerate(needs) if flag in one), len(needs)) for one in known
    ]
    if not known:
        found = f"not known of these processors: measure scores in {model.precision} and float32"
        yield Finding(_CHECK, "ok", found)
    elif (slowest := max(ranks)) == len(needs):
        names = " or ".join(name for _, name in needs)
        some = "" if len(set(ranks)) == 1 else "some of "
        found = f"{some}the workers' processors have no {names} for {model.precision}"
        yield Finding(_CHECK, "warning", found, _WITHOUT[model.precision])
    else:
        yield Finding(_CHECK, "ok", f"{model.precision} by {needs[slowest][1]}")
