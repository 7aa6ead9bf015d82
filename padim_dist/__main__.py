"""``python -m padim_dist``."""

from padim_dist.cli import main

main()
