"""Search spaces: one file each, data only. `raydistill sweep --space NAME` uses one."""
