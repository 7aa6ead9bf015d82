"""PaDiM anomaly detection as a distributed batch pipeline over image archives.

``import padim_dist as padim``; ``dir(padim)`` lists the public functions, which the
command line calls too. They take a `Config` or the path of its YAML file.
"""

from __future__ import annotations

import gc
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from padim_dist.api.analysis.compact import compact as compact
    from padim_dist.api.analysis.compare import compare as compare
    from padim_dist.api.analysis.export import export as export
    from padim_dist.api.analysis.query import query as query
    from padim_dist.api.analysis.readers import open_drift as open_drift
    from padim_dist.api.analysis.readers import open_heatmaps as open_heatmaps
    from padim_dist.api.analysis.readers import open_model as open_model
    from padim_dist.api.analysis.readers import open_regions as open_regions
    from padim_dist.api.analysis.readers import open_scores as open_scores
    from padim_dist.api.analysis.show import show as show
    from padim_dist.api.analysis.suspects import suspects as suspects
    from padim_dist.api.analysis.top import top as top
    from padim_dist.api.demo import demo as demo
    from padim_dist.api.doctor import doctor as doctor
    from padim_dist.api.integrity.verify import verify as verify
    from padim_dist.api.labels.evaluate import evaluate as evaluate
    from padim_dist.api.labels.label import label as label
    from padim_dist.api.nights.audit import audit as audit
    from padim_dist.api.nights.history import history as history
    from padim_dist.api.nights.nights import groups as groups
    from padim_dist.api.nights.nights import nights as nights
    from padim_dist.api.nights.promotions import models as models
    from padim_dist.api.nights.promotions import promote as promote
    from padim_dist.api.nights.promotions import rollback as rollback
    from padim_dist.api.pipeline.fit import fit as fit
    from padim_dist.api.pipeline.forget import forget as forget
    from padim_dist.api.pipeline.index import index as index
    from padim_dist.api.pipeline.judge import judge as judge
    from padim_dist.api.pipeline.score import score as score
    from padim_dist.api.publish.publish import publish as publish
    from padim_dist.api.report.report import report as report
    from padim_dist.api.retention.prune import prune as prune
    from padim_dist.api.sql.views import connect as connect
    from padim_dist.config import Config as Config
    from padim_dist.config import load_config as load_config

__version__ = "0.6.0"

# Loaded when first used, so that `padim-dist --help` does not wait for torch.
_HOMES = {
    "Config": "config",
    "load_config": "config",
    "audit": "api.nights.audit",
    "compact": "api.analysis.compact",
    "compare": "api.analysis.compare",
    "connect": "api.sql.views",
    "demo": "api.demo",
    "doctor": "api.doctor",
    "evaluate": "api.labels.evaluate",
    "export": "api.analysis.export",
    "fit": "api.pipeline.fit",
    "groups": "api.nights.nights",
    "forget": "api.pipeline.forget",
    "history": "api.nights.history",
    "index": "api.pipeline.index",
    "judge": "api.pipeline.judge",
    "label": "api.labels.label",
    "models": "api.nights.promotions",
    "nights": "api.nights.nights",
    "open_drift": "api.analysis.readers",
    "open_heatmaps": "api.analysis.readers",
    "open_model": "api.analysis.readers",
    "open_regions": "api.analysis.readers",
    "open_scores": "api.analysis.readers",
    "promote": "api.nights.promotions",
    "prune": "api.retention.prune",
    "publish": "api.publish.publish",
    "query": "api.analysis.query",
    "report": "api.report.report",
    "rollback": "api.nights.promotions",
    "score": "api.pipeline.score",
    "show": "api.analysis.show",
    "suspects": "api.analysis.suspects",
    "top": "api.analysis.top",
    "verify": "api.integrity.verify",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    is_on = gc.isenabled()
    gc.disable()  # imports leave few cycles, and looking for them takes a fifth of their time
    try:
        found = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    finally:
        if is_on:
            gc.enable()
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
