"""BoTorch's noisy expected hypervolume improvement as an Optuna sampler: a peer of `search.py`.

    pip install botorch
    python benchmarks/search.py --samplers botorch --tables FOLDER --out cells.jsonl

As BoTorch's own documentation puts it together: a Gaussian process for each objective, costs too, as a user
of BoTorch has them, with its kernel for mixed parameters where there are categories; the logarithm of noisy
EHVI over the trials so far, running ones pending; its optimiser for mixed parameters. The reference is given.
"""

from collections.abc import Sequence
from typing import Any

import torch
from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
from botorch.fit import fit_gpytorch_mll
from botorch.models import MixedSingleTaskGP, ModelListGP, SingleTaskGP
from botorch.models.transforms.outcome import Standardize
from botorch.optim import optimize_acqf_discrete, optimize_acqf_mixed_alternating
from botorch.sampling import SobolQMCNormalSampler
from gpytorch.mlls import ExactMarginalLogLikelihood
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

NUM_STARTUP = 10
NUM_SAMPLES, NUM_RESTARTS, RAW_SAMPLES = 128, 4, 256
NUM_NEIGHBOURS = 512
"""Random configurations to choose from where the best one is known already."""


class QLogNEHVISampler(BaseSampler):
    """Random until ten trials have ended.

    Args:
        seed: of the random start, the samples and the optimiser.
        reference: of each objective, which all are minimised.
    """

    def __init__(self, seed: int, reference: float):
        self._seed, self._reference = seed, reference
        self._random = RandomSampler(seed=seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """What all trials have in common."""
        return IntersectionSearchSpace().calculate(study)

    def sample_independent(self, study: Study, trial: FrozenTrial, name: str, of: BaseDistribution) -> Any:
        """A random value."""
        return self._random.sample_independent(study, trial, name, of)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The configuration of the largest improvement that no trial has had."""
        assert set(study.directions) == {StudyDirection.MINIMIZE}
        trials = study.get_trials(deepcopy=False)
        ended = [each for each in trials if each.state == TrialState.COMPLETE]
        if len(ended) < NUM_STARTUP or not search_space:
            return {}
        axes = _Axes(search_space)
        inputs = axes.encode([each.params for each in ended])
        pending = [each.params for each in trials if each.state == TrialState.RUNNING and each.params]
        with torch.random.fork_rng():
            torch.manual_seed(self._seed)
            improvement = qLogNoisyExpectedHypervolumeImprovement(
                model=_model(inputs, -torch.tensor([each.values for each in ended]).double(), axes),
                ref_point=[-self._reference] * len(study.directions),
                X_baseline=inputs,
                X_pending=axes.encode(pending) if pending else None,
                sampler=SobolQMCNormalSampler(torch.Size([NUM_SAMPLES]), seed=self._seed),
                prune_baseline=True,
            )
            best, _ = optimize_acqf_mixed_alternating(
                improvement,
                bounds=axes.bounds,
                discrete_dims=axes.discrete,
                cat_dims=axes.categorical,
                num_restarts=NUM_RESTARTS,
                raw_samples=RAW_SAMPLES,
            )
            known = axes.encode([each.params for each in trials if set(each.params) >= set(search_space)])
            best = axes.rounded(best)
            if (known == best).all(dim=1).any():
                others = axes.rounded(torch.cat([axes.neighbours(best), axes.draw(NUM_NEIGHBOURS)]))
                best, _ = optimize_acqf_discrete(improvement, q=1, choices=others, X_avoid=known)
        return axes.decode(best[0])


class _Axes:
    """Parameters as numbers: in [0, 1] along their scale, categories by index."""

    def __init__(self, space: dict[str, BaseDistribution]):
        self.space = space
        self.discrete: dict[int, list[float]] = {}
        self.categorical: dict[int, list[float]] = {}
        highest = []
        for index, of in enumerate(space.values()):
            highest.append(1.0)
            if isinstance(of, CategoricalDistribution):
                self.categorical[index] = [float(each) for each in range(len(of.choices))]
                highest[-1] = len(of.choices) - 1.0
            elif isinstance(of, IntDistribution):
                self.discrete[index] = [_unit(of, each) for each in range(of.low, of.high + 1, of.step)]
        self.bounds = torch.tensor([[0.0] * len(highest), highest]).double()

    def encode(self, configurations: Sequence[dict[str, Any]]) -> torch.Tensor:
        """(n, d)"""
        rows = [[_unit(of, each[name]) for name, of in self.space.items()] for each in configurations]
        return torch.tensor(rows).double()

    def decode(self, row: torch.Tensor) -> dict[str, Any]:
        """The configuration of one row (d,)."""
        return {name: _value(of, float(unit)) for (name, of), unit in zip(self.space.items(), row)}

    def rounded(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows (n, d) of configurations that there are."""
        return self.encode([self.decode(row) for row in rows])

    def draw(self, count: int) -> torch.Tensor:
        """Random rows (count, d), as good as uniform once they are rounded."""
        low, high = self.bounds
        return low + (high - low) * torch.rand(count, len(low)).double()

    def neighbours(self, row: torch.Tensor) -> torch.Tensor:
        """Rows that differ from a row (1, d) in one parameter."""
        out = []
        for index, values in (self.discrete | self.categorical).items():
            others = row.repeat(len(values), 1)
            others[:, index] = torch.tensor(values).double()
            out.append(others)
        return torch.cat(out) if out else row


def _unit(of: BaseDistribution, value: Any) -> float:
    if isinstance(of, CategoricalDistribution):
        return float(of.choices.index(value))
    assert isinstance(of, (FloatDistribution, IntDistribution))
    low, high, at = torch.tensor([of.low, of.high, value]).double()
    if of.log:
        low, high, at = low.log(), high.log(), at.log()
    return float((at - low) / (high - low)) if high > low else 0.0


def _value(of: BaseDistribution, unit: float) -> Any:
    if isinstance(of, CategoricalDistribution):
        return of.choices[round(unit)]
    assert isinstance(of, (FloatDistribution, IntDistribution))
    low, high = torch.tensor([of.low, of.high]).double()
    at = torch.exp(low.log() + unit * (high.log() - low.log())) if of.log else low + unit * (high - low)
    number = min(max(float(at), of.low), of.high)
    if isinstance(of, IntDistribution):
        return of.low + of.step * round((number - of.low) / of.step)
    return number


def _model(inputs: torch.Tensor, values: torch.Tensor, axes: _Axes) -> ModelListGP:
    """A Gaussian process for each column of the values (n, m), fitted."""
    models = []
    for column in values.split(1, dim=1):
        scale = Standardize(m=1)
        model = (
            MixedSingleTaskGP(inputs, column, list(axes.categorical), outcome_transform=scale)
            if axes.categorical
            else SingleTaskGP(inputs, column, outcome_transform=scale)
        )
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        models.append(model)
    return ModelListGP(*models)
