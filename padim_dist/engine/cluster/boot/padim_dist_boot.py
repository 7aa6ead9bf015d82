"""First import of the forkserver: its module search path is that of the driver from here on.

This folder is in its path while the forkserver starts (`server.py`), and it has no other module:
nothing here replaces a module of Python.
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
        with open("/proc/self/comm", "w") as file:  # the driver sees that all was imported
            file.write(found["title"])
    except Exception as error:  # each worker meets it, too, and the driver says it
        print(f"padim-dist: the forkserver has not imported the engine: {error!r}", file=sys.stderr)
    finally:
        for name, value in found["environment"].items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        signal.signal(signal.SIGINT, before)


if "PADIM_DIST_BOOT" in os.environ:
    boot(os.environ.pop("PADIM_DIST_BOOT"))
