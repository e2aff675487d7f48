"""What sweeps and trials leave on disk, and the numbers made from it: tables, fronts, stores."""
