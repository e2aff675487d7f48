"""One thread for the linear algebra of a proposal."""

from threadpoolctl import threadpool_limits


def one_thread() -> threadpool_limits:
    """A context in which NumPy and SciPy compute by one thread.

    Matrices of a search are small. Beside trainings, which keep all cores busy, the threads of a BLAS wait
    for each other: a proposal after 300 trials took 7 to 17 s of processor time in place of 0.6 s. And on any
    number of cores the same proposal comes out.
    """
    return threadpool_limits(1, "blas")
