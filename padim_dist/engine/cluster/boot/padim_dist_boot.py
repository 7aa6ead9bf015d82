"""First import of the forkserver: its module search path is that of the driver from here on.

Python gives a forkserver no search path before version 3.14. This folder is in PYTHONPATH while the
forkserver starts, and it has no other module: nothing here replaces a module of Python.
"""

import json
import os
import signal
import sys


def boot(handed: str) -> None:
    """Take over the search path of the driver, import the engine, and take over its environment."""
    # Ctrl-C is for the driver, which ends its workers. The forkserver itself ignores it, too.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    found = json.loads(handed)
    sys.path[:] = found["path"]
    try:
        from padim_dist.engine.cluster import preload

        preload.run()
    except Exception:
        pass  # each worker meets the same error, and the driver says it
    finally:
        for name, value in found["environment"].items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        signal.signal(signal.SIGINT, before)


if "PADIM_DIST_BOOT" in os.environ:
    boot(os.environ.pop("PADIM_DIST_BOOT"))
