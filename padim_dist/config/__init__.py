"""The configuration: one frozen pydantic tree, read from YAML, overridden by ``key=value``.

A wrong key or value raises a `ConfigError` that names the key, what was found, and what is valid.
"""

from padim_dist.config.align import AlignConfig
from padim_dist.config.cluster import ClusterConfig, KubernetesConfig, TlsConfig
from padim_dist.config.nights import AuditConfig
from padim_dist.config.retention import RetentionConfig
from padim_dist.config.sections import SPLITS
from padim_dist.config.tree import Config, differences, load_config, make_config

__all__ = [
    "SPLITS",
    "AlignConfig",
    "AuditConfig",
    "ClusterConfig",
    "Config",
    "KubernetesConfig",
    "RetentionConfig",
    "TlsConfig",
    "differences",
    "load_config",
    "make_config",
]
