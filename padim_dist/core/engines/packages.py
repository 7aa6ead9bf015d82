"""The packages of an engine, which are an extra: they are imported when a model asks for them."""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec
from types import ModuleType

from padim_dist.core.choices import Engine, Precision
from padim_dist.errors import ConfigError

_TELEMETRY = "openvino_telemetry"


def check_engine(engine: Engine, precision: Precision = "float32", converts: bool = False) -> None:
    """Check that the packages of an engine are installed, without importing them.

    Parameters
    ----------
    engine, precision : str
        As in ``model``.
    converts : bool
        Whether a trunk is converted, for which int8 needs one more package.

    Raises
    ------
    ConfigError
        If one is not.
    """
    if engine == "torch":
        return
    needed = [engine, "nncf"] if converts and precision == "int8" else [engine]
    for name in needed:
        if find_spec(name) is None:
            raise _missing(engine, name, "it is not installed")


def engine_package(engine: Engine, name: str) -> ModuleType:
    """Return a package of an engine.

    Raises
    ------
    ConfigError
        If it cannot be imported.
    """
    # OpenVINO and NNCF send usage data to Intel unless this package is missing. Who has imported it
    # before has decided otherwise.
    sys.modules.setdefault(_TELEMETRY, None)  # type: ignore[arg-type]
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise _missing(engine, name, str(error)) from error


def _missing(engine: Engine, name: str, reason: str) -> ConfigError:
    return ConfigError(
        f"model.engine {engine!r} needs the package {name}, which cannot be imported ({reason}); "
        f"install it where the command and its workers run: pip install 'padim-dist[{engine}]'"
    )
