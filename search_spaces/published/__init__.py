"""The published experiments, one file each: `--space published/NAME`."""
