"""What is on disk of sweeps and trials, and the numbers made of it: files, tables, Pareto fronts, stores. No framework."""
