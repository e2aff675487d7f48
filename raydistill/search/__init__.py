"""Proposals of configurations. Stateless: a proposal is a function of (seed, number, told history) alone.

Whatever sampler proposes, what lies outside a cost window or was proposed before never becomes a trial.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from raydistill.search import optuna_samplers
from raydistill.search.known_cost import known_cost_picks
from raydistill.search.problem import (
    Picked,
    Prior,
    Problem,
    Told,
    feasible_picks,
    identity,
    is_feasible,
    new_filter,
    new_picks,
    prove_feasible,
    random_pick,
    stratified_picks,
    uniform_picks,
)
from raydistill.search.replicates import Seeds, next_to_repeat
from raydistill.search.stopping import EarlyStopping

__all__ = [
    "SAMPLERS",
    "EarlyStopping",
    "Picked",
    "Prior",
    "Problem",
    "Seeds",
    "Told",
    "feasible_picks",
    "identity",
    "is_feasible",
    "next_to_repeat",
    "propose",
    "prove_feasible",
    "random_pick",
]

SAMPLERS: dict[str, Callable[[Problem, Sequence[Told], int], Iterator[Picked]]] = {
    "known-cost": known_cost_picks,
    "modelled-cost": partial(known_cost_picks, exact_cost=False),
    "tpe": optuna_samplers.tpe_picks,
    "nsga2": optuna_samplers.nsga2_picks,
    "gp": optuna_samplers.gp_picks,
    "sobol": optuna_samplers.sobol_picks,
    "random": uniform_picks,
    "stratified": stratified_picks,
}
"""Name -> the proposals for a trial, best first; the first that is feasible and new is taken."""


def propose(problem: Problem, history: Sequence[Told], number: int) -> Picked:
    """The candidate number `number` (from 0): feasible and not in the history.

    Raises:
        BudgetError: the space has no further feasible configuration.
    """
    is_new = new_filter(problem, history)
    for picked in SAMPLERS[problem.sampler](problem, history, number):
        if is_new(picked):
            return picked
    return new_picks(problem, history, number)[-1]
