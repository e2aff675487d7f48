"""Ray: where work runs, and Ray Train and Ray Tune around it. No other package imports Ray."""
