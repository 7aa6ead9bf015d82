"""Entry point of ``python -m padim_dist``."""

from padim_dist.cli.app import main

main()
