"""PaDiM anomaly detection as a distributed batch pipeline over image archives."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from padim_dist.api.analysis.compact import compact
    from padim_dist.api.analysis.compare import compare
    from padim_dist.api.analysis.export import export
    from padim_dist.api.analysis.query import query
    from padim_dist.api.analysis.readers import (
        open_drift,
        open_heatmaps,
        open_model,
        open_regions,
        open_scores,
    )
    from padim_dist.api.analysis.show import show
    from padim_dist.api.analysis.top import top
    from padim_dist.api.analysis.views import connect
    from padim_dist.api.demo import demo
    from padim_dist.api.doctor import doctor
    from padim_dist.api.nights.audit import audit
    from padim_dist.api.nights.history import history
    from padim_dist.api.nights.promotions import models, promote, rollback
    from padim_dist.api.pipeline.evaluate import evaluate
    from padim_dist.api.pipeline.fit import fit
    from padim_dist.api.pipeline.index import index
    from padim_dist.api.pipeline.score import score
    from padim_dist.api.report.report import report
    from padim_dist.config import Config, load_config

__version__ = "0.1.0"

# Loaded when first used, so that `padim-dist --help` does not wait for torch.
_HOMES = {
    "Config": "config",
    "load_config": "config",
    "audit": "api.nights.audit",
    "compact": "api.analysis.compact",
    "compare": "api.analysis.compare",
    "connect": "api.analysis.views",
    "demo": "api.demo",
    "doctor": "api.doctor",
    "evaluate": "api.pipeline.evaluate",
    "export": "api.analysis.export",
    "fit": "api.pipeline.fit",
    "history": "api.nights.history",
    "index": "api.pipeline.index",
    "models": "api.nights.promotions",
    "open_drift": "api.analysis.readers",
    "open_heatmaps": "api.analysis.readers",
    "open_model": "api.analysis.readers",
    "open_regions": "api.analysis.readers",
    "open_scores": "api.analysis.readers",
    "promote": "api.nights.promotions",
    "query": "api.analysis.query",
    "report": "api.report.report",
    "rollback": "api.nights.promotions",
    "score": "api.pipeline.score",
    "show": "api.analysis.show",
    "top": "api.analysis.top",
}
__all__ = [
    "Config",
    "audit",
    "compact",
    "compare",
    "connect",
    "demo",
    "doctor",
    "evaluate",
    "export",
    "fit",
    "history",
    "index",
    "load_config",
    "models",
    "open_drift",
    "open_heatmaps",
    "open_model",
    "open_regions",
    "open_scores",
    "promote",
    "query",
    "report",
    "rollback",
    "score",
    "show",
    "top",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
