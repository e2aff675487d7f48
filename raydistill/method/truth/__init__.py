"""How tight the bound of `vem.py` is, measured where the truth is known. All numbers are float64 and in nats.

`pairs` draws pairs (t, s) whose mutual information is known, `fit` trains an energy on them at
temperature 1, `bounds` evaluates the bound by quadrature or annealing, and `temperature`
measures the temperature of a sampler.

No training and no evaluation of a generator uses this. For a teacher and a student that are
deterministic functions of the same input the true mutual information can be infinite, and nothing
here says anything about them.
"""
