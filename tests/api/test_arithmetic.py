"""What doctor says of the arithmetic of processors."""

from __future__ import annotations

import pytest

from padim_dist.api.arithmetic import arithmetic_findings
from padim_dist.config.model import ModelConfig

PLAIN = frozenset({"sse4_2", "avx2", "avx512f"})
VNNI, AMX = PLAIN | {"avx512_vnni", "avx512_bf16"}, PLAIN | {"avx512_vnni", "amx_int8", "amx_bf16"}


@pytest.mark.parametrize(
    ("engine", "precision", "processors", "verdict", "said"),
    [
        ("openvino", "int8", [AMX], "ok", "int8 by AMX"),
        ("openvino", "int8", [AMX, VNNI], "ok", "int8 by AVX512-VNNI"),
        (
            "openvino",
            "int8",
            [VNNI, PLAIN],
            "warning",
            "some of the workers' processors have no AMX",
        ),
        ("openvino", "int8", [PLAIN, PLAIN], "warning", "the workers' processors have no AMX or"),
        ("openvino", "bfloat16", [VNNI], "ok", "bfloat16 by AVX512-BF16"),
        ("openvino", "bfloat16", [PLAIN], "warning", "no AMX or AVX512-BF16 for bfloat16"),
        ("openvino", "int8", [frozenset()], "warning", "do not say how they compute int8"),
    ],
)
def test_the_slowest_processor_counts(engine, precision, processors, verdict, said):
    (finding,) = arithmetic_findings(ModelConfig(engine=engine, precision=precision), processors)
    assert finding.verdict == verdict
    assert said in finding.found
    assert bool(finding.remedy) == (verdict == "warning")


@pytest.mark.parametrize(("engine", "precision"), [("torch", "bfloat16"), ("openvino", "float32")])
def test_other_models_have_no_finding(engine, precision):
    assert not list(arithmetic_findings(ModelConfig(engine=engine, precision=precision), [PLAIN]))
