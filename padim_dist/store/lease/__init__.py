"""Leases: one driver at a time works on a fit or a run.

A lease is a numbered file in the folder of the fit or run, ``lease-00001.json``. It is created with
a put that fails if the file exists. Its holder rewrites it every few seconds with a higher count of
heartbeats. A driver that finds a released or dead lease creates the next number, so only one driver
gets it. A lease of this machine is dead when its process is gone. A lease of this very process is
over when no `Lease` object holds it: its release failed. A lease of another machine, or one that
cannot be read, is dead when its file does not change for a while: clocks are never compared.
Leases prevent double work. Results do not depend on them: every driver writes the same.
"""

from padim_dist.store.lease.holder import Holder, user_and_host
from padim_dist.store.lease.lease import Lease, Pace, hold, is_released

__all__ = ["Holder", "Lease", "Pace", "hold", "is_released", "user_and_host"]
