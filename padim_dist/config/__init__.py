"""The configuration: one frozen pydantic tree, read from YAML, overridden by ``key=value``.

A wrong key or value raises a `ConfigError` that names the key, what was found, and what is valid.
"""

from padim_dist.config.cluster import (
    AdaptiveConfig,
    ClusterConfig,
    KubernetesConfig,
    TlsConfig,
)
from padim_dist.config.sections import (
    SPLITS,
    ArchiveConfig,
    AuditConfig,
    FitConfig,
    ModelConfig,
    ScoreConfig,
    Split,
)
from padim_dist.config.tree import Config, differences, load_config, make_config

__all__ = [
    "SPLITS",
    "AdaptiveConfig",
    "ArchiveConfig",
    "AuditConfig",
    "ClusterConfig",
    "Config",
    "FitConfig",
    "KubernetesConfig",
    "ModelConfig",
    "ScoreConfig",
    "Split",
    "TlsConfig",
    "differences",
    "load_config",
    "make_config",
]
