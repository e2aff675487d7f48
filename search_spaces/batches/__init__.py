"""Batches: one file each, data only. `raydistill batch NAME` runs one."""
