"""What doctor says of the arithmetic of processors."""

from __future__ import annotations

import pytest

from padim_dist.api.arithmetic import arithmetic_findings
from padim_dist.config.model import ModelConfig
from padim_dist.engine.cluster import processors

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
        (
            "openvino",
            "int8",
            [frozenset()],
            "ok",
            "not known of these processors: measure",
        ),
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


@pytest.mark.parametrize(
    ("text", "name", "known"),
    [
        ("processor\t: 0\nmodel name\t: EPYC 9\nflags\t\t: avx2 amx_int8\n", "EPYC 9", {"avx2"}),
        ("processor\t: 0\nFeatures\t: asimd asimddp i8mm bf16\n", None, set()),
        (None, None, set()),
    ],
    ids=["x86", "ARM", "another system"],
)
def test_what_linux_says_of_a_processor(tmp_path, monkeypatch, text, name, known):
    said = tmp_path / "cpuinfo"
    if text:
        said.write_text(text)
    monkeypatch.setattr(processors, "_SAYS", said)
    assert processors.instructions() >= known
    assert bool(processors.instructions()) == bool(known)
    assert name is None or processors.processor_name() == name
    assert isinstance(processors.processor_name(), str)
