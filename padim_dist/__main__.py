"""Entry point of ``python -m padim_dist``, which ends as any program, e.g. for a profiler."""

from padim_dist.cli.app import app

app(prog_name="padim-dist")
