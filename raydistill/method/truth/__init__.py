"""How tight the bound of `vem.py` is, measured where the truth is known. All numbers are float64 and in nats.

pairs: pairs (t, s) whose mutual information is known.   fit: the energy trained at temperature 1.   bounds: quadrature and annealing.

No training and no evaluation of a generator uses this. For a teacher and a student that are deterministic functions of the same input the
true mutual information can be infinite, and nothing here says anything about them.
"""
