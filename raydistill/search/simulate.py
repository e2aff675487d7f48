"""A sweep without training: recorded results on a virtual clock, asynchronous workers, the proposals of a real sweep.

`outcome_of(picked, number)` says what training a configuration as trial `number` gives; `should_stop(history, number)`, such as a
`search.EarlyStopping`, is asked at every evaluation before the last, in the order of the virtual clock. A stopped trial is PRUNED and frees
its worker at once. To go on with a killed sweep, pass its trials; so equality of a killed and an unkilled sweep can be asserted.
"""

import heapq
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import pandas as pd

from raydistill import search
from raydistill.config.space import Float, SearchSpace, value_in
from raydistill.errors import BudgetError, SpaceError
from raydistill.search import Configuration, Observation, Problem, Seeds, identity


class Outcome(NamedTuple):
    """What training a configuration gives."""

    values: list[float] | None
    """The objectives at full length, in the order of the space; None: the training fails at its end."""
    wall_sec: float
    """Of the whole training; images pass evenly."""
    steps: int = 1
    """Images of the whole training."""
    curve: Sequence[tuple[int, list[float]]] = ()
    """(images seen, objectives there), ascending and below `steps`: the evaluations before the last."""


@dataclass(frozen=True)
class SimulatedTrial:
    number: int
    configuration: Configuration
    outcome: Outcome
    started_sec: float
    status: str = "RUNNING"
    """RUNNING, COMPLETE, PRUNED or FAIL."""
    num_reports: int = 0
    """So many evaluations of the curve were reported."""
    replicate_of: int | None = None
    """The trial that this one repeats with another seed; None: it was searched."""

    @property
    def steps(self) -> int:
        """Images seen."""
        if self.status in ("COMPLETE", "FAIL"):
            return self.outcome.steps
        return self.outcome.curve[self.num_reports - 1][0] if self.num_reports else 0

    @property
    def ends_sec(self) -> float:
        """When it ended; of a running one, when it will if nothing stops it."""
        return self.at_sec(self.steps if self.status == "PRUNED" else self.outcome.steps)

    def at_sec(self, steps: int) -> float:
        """When it has seen so many images."""
        return self.started_sec + self.outcome.wall_sec * steps / self.outcome.steps

    @property
    def observation(self) -> Observation:
        curve = [
            (steps / self.outcome.steps, values) for steps, values in self.outcome.curve[: self.num_reports]
        ]
        return Observation(
            self.configuration, self.status, self.outcome.values if self.status == "COMPLETE" else None, curve
        )


def simulate(
    problem: Problem,
    outcome_of: Callable[[Configuration, int], Outcome],
    *,
    num_trials: int,
    num_workers: int,
    should_stop: Callable[[Sequence[Observation], int], bool] = lambda history, number: False,
    num_replicates: int = 0,
    stability: float | None = None,
    trials: Iterable[SimulatedTrial] = (),
    until_sec: float = math.inf,
) -> list[SimulatedTrial]:
    """All trials by number; those that run at `until_sec`, when the sweep is killed, are RUNNING.

    Args:
        outcome_of: (configuration, number of the trial) -> what training it gives. The number may seed the noise of a measurement.
        should_stop: (what is known of every searched trial, the place there of one that was just evaluated) -> whether to stop it.
        num_replicates: after the search, so many trainings at most go to front members whose place is uncertain.
        stability: they end when the front is as stable as this; None: when every place is certain.
        trials: what a killed sweep left. Its running trials go on from where they were.
    """
    ledger = {trial.number: trial for trial in trials}
    running = [_next_event(trial) for trial in ledger.values() if trial.status == "RUNNING"]
    heapq.heapify(running)
    now_sec = max((trial.ends_sec for trial in ledger.values() if trial.status != "RUNNING"), default=0.0)
    while True:
        while len(running) < num_workers:
            number, searched = len(ledger), _searched(ledger)
            if len(searched) < num_trials:
                try:
                    configuration, replicate_of = (
                        search.propose(problem, [trial.observation for trial in searched], len(searched)),
                        None,
                    )
                except BudgetError:
                    num_trials = len(searched)
                    continue
            elif (replicate_of := _to_repeat(problem, ledger, num_replicates, stability)) is not None:
                configuration = ledger[replicate_of].configuration
            else:
                break
            ledger[number] = SimulatedTrial(
                number, configuration, outcome_of(configuration, number), now_sec, replicate_of=replicate_of
            )
            heapq.heappush(running, _next_event(ledger[number]))
        if not running or running[0][0] > until_sec:
            return [ledger[number] for number in range(len(ledger))]
        now_sec, number = heapq.heappop(running)
        ledger[number] = _advanced(ledger[number])
        if ledger[number].status == "RUNNING" and ledger[number].replicate_of is None:
            searched = _searched(ledger)
            if should_stop([trial.observation for trial in searched], searched.index(ledger[number])):
                ledger[number] = replace(ledger[number], status="PRUNED")
        if ledger[number].status == "RUNNING":
            heapq.heappush(running, _next_event(ledger[number]))


def _searched(ledger: dict[int, SimulatedTrial]) -> list[SimulatedTrial]:
    return [ledger[number] for number in range(len(ledger)) if ledger[number].replicate_of is None]


def _to_repeat(
    problem: Problem, ledger: dict[int, SimulatedTrial], num_replicates: int, stability: float | None
) -> int | None:
    """The number of the trial to train again; None: none, or not before the search has ended."""
    searched = _searched(ledger)
    if len(ledger) - len(searched) >= num_replicates or any(trial.status == "RUNNING" for trial in searched):
        return None
    complete = [trial.number for trial in searched if trial.status == "COMPLETE"]
    measured = [seeds_of(ledger.values(), number) for number in complete]
    index = search.next_to_repeat(
        measured, [objective.direction for objective in problem.space.objectives], stability
    )
    return None if index is None else complete[index]


def seeds_of(trials: Iterable[SimulatedTrial], number: int) -> Seeds:
    """All trainings of the configuration of a trial that is COMPLETE: its own first."""
    of_it = [trial for trial in trials if number in (trial.number, trial.replicate_of)]
    values = [
        trial.outcome.values
        for trial in of_it
        if trial.status == "COMPLETE" and trial.outcome.values is not None
    ]
    return Seeds(values, sum(trial.status == "RUNNING" for trial in of_it))


def _next_event(trial: SimulatedTrial) -> tuple[float, int]:
    """(when, number): its next evaluation, or its end."""
    curve = trial.outcome.curve
    steps = curve[trial.num_reports][0] if trial.num_reports < len(curve) else trial.outcome.steps
    return trial.at_sec(steps), trial.number


def _advanced(trial: SimulatedTrial) -> SimulatedTrial:
    """The trial after its next event."""
    if trial.num_reports == len(trial.outcome.curve):
        return replace(trial, status="FAIL" if trial.outcome.values is None else "COMPLETE")
    return replace(trial, num_reports=trial.num_reports + 1)


def recorded(
    space: SearchSpace, table: pd.DataFrame, wall_sec: str | None = None
) -> Callable[[Configuration, int], Outcome]:
    """Outcomes from a table of results: one column a parameter (choices by key, empty where inactive) and one an objective.

    A configuration with several rows gives them in turn, by the trial's number: measurements by other seeds. Every configuration that
    may be proposed must be there, so such a space is discrete.

    Args:
        wall_sec: the column of training times; None: every training takes 1 s.

    Raises:
        SpaceError: a column is missing, a parameter is a Float, or a value lies outside its range.
    """
    wanted = [
        *space.parameters,
        *(objective.name for objective in space.objectives),
        *([wall_sec] if wall_sec else []),
    ]
    if missing := [name for name in wanted if name not in table.columns]:
        raise SpaceError(f"the table of results has no column {missing[0]!r}; it needs {', '.join(wanted)}")
    if floats := [path for path, distribution in space.parameters.items() if isinstance(distribution, Float)]:
        raise SpaceError(
            f"the table of results: {floats[0]} is a Float, of which no table holds every value; make it an Int or a Choice"
        )
    rows: dict[tuple[tuple[str, object], ...], list[Outcome]] = {}
    for record in table[wanted].to_dict("records"):
        configuration = {
            path: value_in(space, path, record[path])
            for path in space.parameters
            if not pd.isna(record[path])
        }
        values = [float(record[objective.name]) for objective in space.objectives]
        outcome = Outcome(
            None if any(value != value for value in values) else values,
            float(record[wall_sec]) if wall_sec else 1.0,
        )
        rows.setdefault(identity(configuration), []).append(outcome)

    def outcome_of(configuration: Configuration, number: int) -> Outcome:
        found: Sequence[Outcome] = rows.get(identity(configuration), ())
        if not found:
            raise SpaceError(
                f"the table of results has no row for {configuration}; it must hold every configuration of the space"
            )
        return found[number % len(found)]

    return outcome_of
