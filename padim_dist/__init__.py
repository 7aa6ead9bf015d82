"""PaDiM anomaly detection as a distributed batch pipeline over image archives."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from padim_dist.api.audit import audit
    from padim_dist.api.compact import compact
    from padim_dist.api.compare import compare
    from padim_dist.api.demo import demo
    from padim_dist.api.doctor import doctor
    from padim_dist.api.evaluate import evaluate
    from padim_dist.api.export import export
    from padim_dist.api.fit import fit
    from padim_dist.api.history import history
    from padim_dist.api.index import index
    from padim_dist.api.promotions import models, promote, rollback
    from padim_dist.api.query import query
    from padim_dist.api.readers import (
        open_drift,
        open_heatmaps,
        open_model,
        open_regions,
        open_scores,
    )
    from padim_dist.api.report import report
    from padim_dist.api.score import score
    from padim_dist.api.show import show
    from padim_dist.api.top import top
    from padim_dist.api.views import connect
    from padim_dist.config import Config, load_config

__version__ = "0.1.0"

# Loaded when first used, so that `padim-dist --help` does not wait for torch.
_HOMES = {
    "Config": "config",
    "load_config": "config",
    "audit": "api.audit",
    "compact": "api.compact",
    "compare": "api.compare",
    "connect": "api.views",
    "demo": "api.demo",
    "doctor": "api.doctor",
    "evaluate": "api.evaluate",
    "export": "api.export",
    "fit": "api.fit",
    "history": "api.history",
    "index": "api.index",
    "models": "api.promotions",
    "open_drift": "api.readers",
    "open_heatmaps": "api.readers",
    "open_model": "api.readers",
    "open_regions": "api.readers",
    "open_scores": "api.readers",
    "promote": "api.promotions",
    "query": "api.query",
    "report": "api.report",
    "rollback": "api.promotions",
    "score": "api.score",
    "show": "api.show",
    "top": "api.top",
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
