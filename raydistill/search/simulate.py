"""A sweep without training: results come from a table or a formula, and time passes on a virtual clock.

The workers are asynchronous, and the proposals are those of a real sweep. `should_stop`, such as a
`search.EarlyStopping`, is asked at each evaluation but the last, in the order of the virtual clock. A trial
that is stopped becomes PRUNED and frees its worker at once. To go on with a sweep that was killed, pass its
trials; so a test can check that a sweep that was killed equals one that was not.
"""

import heapq
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import pandas as pd

from raydistill import search
from raydistill.config.configurations import value_in
from raydistill.config.space import Float, SearchSpace
from raydistill.errors import BudgetError, SpaceError
from raydistill.search import Configuration, Observation, Problem, Seeds, identity
from raydistill.search.problem import Identity


class Outcome(NamedTuple):
    """What training a configuration gives."""

    values: list[float] | None
    """The objectives at full length, in the order of the space; None: the training fails at its end."""
    wall_sec: float
    """Seconds that the whole training takes, the same for each image."""
    steps: int = 1
    """Number of images of the whole training."""
    curve: Sequence[tuple[int, list[float]]] = ()
    """The evaluations before the last: (images seen, objectives there), ascending and below `steps`."""


@dataclass(frozen=True)
class SimulatedTrial:
    """A trial of a simulated sweep."""

    number: int
    configuration: Configuration
    outcome: Outcome
    started_sec: float
    status: str = "RUNNING"
    """RUNNING, COMPLETE, PRUNED or FAIL."""
    num_reports: int = 0
    """Number of evaluations of the curve that were reported."""
    replicate_of: int | None = None
    """The trial that this one repeats with another seed; None: it was proposed by the search."""

    @property
    def steps(self) -> int:
        """Number of images seen, as of the last evaluation."""
        if self.status in ("COMPLETE", "FAIL"):
            return self.outcome.steps
        return self.outcome.curve[self.num_reports - 1][0] if self.num_reports else 0

    @property
    def ends_sec(self) -> float:
        """When the trial ended; of a running one, when it will end if nothing stops it."""
        return self.at_sec(self.steps if self.status == "PRUNED" else self.outcome.steps)

    def at_sec(self, steps: int) -> float:
        """When the trial has seen so many images."""
        return self.started_sec + self.outcome.wall_sec * steps / self.outcome.steps

    @property
    def observation(self) -> Observation:
        """What the search knows of the trial."""
        reports = self.outcome.curve[: self.num_reports]
        curve = [(steps / self.outcome.steps, values) for steps, values in reports]
        values = self.outcome.values if self.status == "COMPLETE" else None
        return Observation(self.configuration, self.status, values, curve)


ShouldStop = Callable[[Sequence[Observation], int], bool]
"""(what is known of every searched trial, position of one of them) -> whether to stop it."""


def simulate(
    problem: Problem,
    outcome_of: Callable[[Configuration, int], Outcome],
    *,
    num_trials: int,
    num_workers: int,
    should_stop: ShouldStop = lambda history, number: False,
    num_replicates: int = 0,
    stability: float | None = None,
    trials: Iterable[SimulatedTrial] = (),
    until_sec: float = math.inf,
) -> list[SimulatedTrial]:
    """All trials by number. Those that run at `until_sec`, when the sweep is killed, are RUNNING.

    Args:
        outcome_of: (configuration, number of the trial) -> what training it gives. The number may be the seed
            of the noise of a measurement.
        should_stop: (what is known of every searched trial, the position there of one that was just
            evaluated) -> whether to stop it.
        num_replicates: largest number of trainings after the search, of front members whose place is
            uncertain.
        stability: these end when the front is as stable as this; None: when every place on it is certain.
        trials: those of a sweep that was killed. Its running trials go on from where they were.
    """
    ledger = {trial.number: trial for trial in trials}
    history = _History(ledger)
    running = [_next_event(trial) for trial in ledger.values() if trial.status == "RUNNING"]
    heapq.heapify(running)
    now_sec = max((trial.ends_sec for trial in ledger.values() if trial.status != "RUNNING"), default=0.0)
    while True:
        while len(running) < num_workers:
            number, replicate_of = len(ledger), None
            if len(history.told) < num_trials:
                try:
                    configuration = search.propose(problem, history.told, len(history.told))
                except BudgetError:  # the space is exhausted
                    num_trials = len(history.told)
                    continue
            elif (replicate_of := _to_repeat(problem, ledger, num_replicates, stability)) is not None:
                configuration = ledger[replicate_of].configuration
            else:
                break
            outcome = outcome_of(configuration, number)
            ledger[number] = SimulatedTrial(
                number, configuration, outcome, now_sec, replicate_of=replicate_of
            )
            history.take_in(ledger[number])
            heapq.heappush(running, _next_event(ledger[number]))
        if not running or running[0][0] > until_sec:
            return [ledger[number] for number in range(len(ledger))]
        now_sec, number = heapq.heappop(running)
        ledger[number] = _after_event(ledger[number], history, should_stop)
        if ledger[number].status == "RUNNING":
            heapq.heappush(running, _next_event(ledger[number]))


class _History:
    """What is known of every searched trial, in their order; one that changes changes its own entry alone."""

    def __init__(self, ledger: dict[int, SimulatedTrial]):
        self.told: list[Observation] = []
        self.places: dict[int, int] = {}
        """Number of a trial -> its place in `told`."""
        for number in range(len(ledger)):
            self.take_in(ledger[number])

    def take_in(self, trial: SimulatedTrial) -> None:
        """Notes what a trial is now; replicates are no trials of the search."""
        if trial.replicate_of is not None:
            return
        if trial.number in self.places:
            self.told[self.places[trial.number]] = trial.observation
        else:
            self.places[trial.number] = len(self.told)
            self.told.append(trial.observation)


def _searched(ledger: dict[int, SimulatedTrial]) -> list[SimulatedTrial]:
    return [ledger[number] for number in range(len(ledger)) if ledger[number].replicate_of is None]


def _to_repeat(
    problem: Problem, ledger: dict[int, SimulatedTrial], num_replicates: int, stability: float | None
) -> int | None:
    """The number of the trial to train again; None: none, or not yet, because a searched trial still runs."""
    searched = _searched(ledger)
    if len(ledger) - len(searched) >= num_replicates or any(trial.status == "RUNNING" for trial in searched):
        return None
    complete = [trial.number for trial in searched if trial.status == "COMPLETE"]
    measured = [seeds_of(ledger.values(), number) for number in complete]
    directions = [objective.direction for objective in problem.space.objectives]
    index = search.next_to_repeat(measured, directions, stability)
    return None if index is None else complete[index]


def seeds_of(trials: Iterable[SimulatedTrial], number: int) -> Seeds:
    """All trainings of the configuration of trial `number`, which is COMPLETE; its own is the first."""
    trainings = [trial for trial in trials if number in (trial.number, trial.replicate_of)]
    ends = [trial.outcome.values for trial in trainings if trial.status == "COMPLETE"]
    values = [end for end in ends if end is not None]
    return Seeds(values, sum(trial.status == "RUNNING" for trial in trainings))


def _next_event(trial: SimulatedTrial) -> tuple[float, int]:
    """When the trial's next evaluation comes, or its end, and its number."""
    curve = trial.outcome.curve
    steps = curve[trial.num_reports][0] if trial.num_reports < len(curve) else trial.outcome.steps
    return trial.at_sec(steps), trial.number


def _after_event(trial: SimulatedTrial, history: _History, should_stop: ShouldStop) -> SimulatedTrial:
    """A trial after its next event: an evaluation, at which it may be stopped, or its end."""
    if trial.num_reports == len(trial.outcome.curve):
        trial = replace(trial, status="FAIL" if trial.outcome.values is None else "COMPLETE")
        history.take_in(trial)
        return trial
    trial = replace(trial, num_reports=trial.num_reports + 1)
    history.take_in(trial)
    if trial.replicate_of is None and should_stop(history.told, history.places[trial.number]):
        trial = replace(trial, status="PRUNED")
        history.take_in(trial)
    return trial


def outcomes_from_table(
    space: SearchSpace, table: pd.DataFrame, wall_sec: str | None = None
) -> Callable[[Configuration, int], Outcome]:
    """`outcome_of` for `simulate`, from a table of results.

    A configuration with several rows, which are measurements by different seeds, gives them in turn, by the
    number of the trial. The table must have every configuration that may be proposed, so the space must be
    discrete.

    Args:
        table: one column per parameter (choices by key, empty where inactive) and per objective.
        wall_sec: the column of training times in seconds; None: every training takes 1 s.

    Raises:
        SpaceError: a column is missing, a parameter is a Float, or a value lies outside its range.
    """
    names = [objective.name for objective in space.objectives]
    needed = [*space.parameters, *names, *([wall_sec] if wall_sec else [])]
    if missing := [name for name in needed if name not in table.columns]:
        raise SpaceError(f"the table of results has no column {missing[0]!r}; it needs {', '.join(needed)}")
    if floats := [path for path, distribution in space.parameters.items() if isinstance(distribution, Float)]:
        raise SpaceError(
            f"the table of results: {floats[0]} is a Float, of which no table holds every value; "
            "make it an Int or a Choice"
        )
    outcomes: dict[Identity, list[Outcome]] = {}
    for record in table[needed].to_dict("records"):
        active_paths = [path for path in space.parameters if not pd.isna(record[path])]
        configuration = {path: value_in(space, path, record[path]) for path in active_paths}
        values = [float(record[name]) for name in names]
        seconds = float(record[wall_sec]) if wall_sec else 1.0
        outcome = Outcome(None if any(math.isnan(value) for value in values) else values, seconds)
        outcomes.setdefault(identity(configuration), []).append(outcome)

    def outcome_of(configuration: Configuration, number: int) -> Outcome:
        rows = outcomes.get(identity(configuration), [])
        if not rows:
            raise SpaceError(
                f"the table of results has no row for {configuration}; "
                "it must hold every configuration of the space"
            )
        return rows[number % len(rows)]

    return outcome_of
