"""Proposals of configurations. They are functions of (seed, number of the trial, history) without a state.

Whichever sampler proposes, a configuration outside a cost window or in the history never becomes a trial.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from raydistill.config.configurations import Configuration
from raydistill.config.paths import nearest
from raydistill.errors import ConfigError
from raydistill.search import optuna_samplers
from raydistill.search.candidates import (
    feasible_configurations,
    first_new,
    random_configuration,
    stratified_proposals,
    uniform_proposals,
)
from raydistill.search.feasibility import prove_feasible
from raydistill.search.known_cost import known_cost_proposals
from raydistill.search.problem import (
    Observation,
    PriorObservation,
    Problem,
    identity,
    is_feasible,
)
from raydistill.search.replicates import Seeds, next_to_repeat
from raydistill.search.stopping import EarlyStopping
from raydistill.search.study_sampler import KnownCostSampler

__all__ = [
    "SAMPLERS",
    "Configuration",
    "EarlyStopping",
    "KnownCostSampler",
    "Observation",
    "PriorObservation",
    "Problem",
    "Seeds",
    "feasible_configurations",
    "identity",
    "is_feasible",
    "next_to_repeat",
    "proposals_of",
    "propose",
    "prove_feasible",
    "random_configuration",
]

Proposals = Callable[[Problem, Sequence[Observation], int], Iterator[Configuration]]
SAMPLERS: dict[str, Proposals] = {
    "known-cost": known_cost_proposals,
    "modelled-cost": partial(known_cost_proposals, exact_cost=False),
    "tpe": optuna_samplers.tpe_proposals,
    "nsga2": optuna_samplers.nsga2_proposals,
    "gp": optuna_samplers.gp_proposals,
    "sobol": optuna_samplers.sobol_proposals,
    "random": uniform_proposals,
    "stratified": stratified_proposals,
}
"""Name -> the proposals for one trial, best first. The first is taken that is feasible and new, of at most
`candidates.TRIES`; where none is, a random one."""


def proposals_of(sampler: str) -> Proposals:
    """The proposals of a sampler: a name in `SAMPLERS`, or the dotted path of one of Optuna's with options,
    such as `optuna.samplers.CmaEsSampler(n_startup_trials=5)`.

    Raises:
        ConfigError: there is none.
    """
    if sampler in SAMPLERS:
        return SAMPLERS[sampler]
    if "." in sampler:
        return optuna_samplers.proposals_of(sampler)
    raise ConfigError(
        f"--sampler {sampler}: known: {', '.join(SAMPLERS)}. Nearest: {nearest(sampler, list(SAMPLERS))!r}. "
        "One of a plug-in needs --plugin, and one of Optuna's its dotted path: optuna.samplers.CmaEsSampler"
    )


def propose(problem: Problem, history: Sequence[Observation], number: int) -> Configuration:
    """The configuration for trial `number` (from 0): feasible and not in the history.

    Raises:
        BudgetError: the space has no further feasible configuration.
    """
    return first_new(problem, proposals_of(problem.sampler)(problem, history, number), history, number)
