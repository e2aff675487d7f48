"""Optuna's samplers by their dotted path: `--sampler 'optuna.samplers.NSGAIIISampler(population_size=8)'`."""

import pytest

from raydistill import search
from raydistill.errors import ConfigError
from raydistill.testing.samplers import problem, run


@pytest.mark.parametrize(
    "sampler",
    [
        "optuna.samplers.RandomSampler",
        "optuna.samplers.NSGAIIISampler(population_size=4)",
        "optuna.samplers.TPESampler(n_startup_trials=3, multivariate=True, group=True)",
    ],
)
def test_a_sampler_of_optunas_proposes_what_is_new_and_again_the_same(sampler: str) -> None:
    told = run(problem(sampler), 8)
    assert [each.configuration for each in told] == [each.configuration for each in run(problem(sampler), 8)]
    assert len({search.identity(each.configuration) for each in told}) == 8
    other_seed = run(problem(sampler, seed=1), 8)
    assert [each.configuration for each in told] != [each.configuration for each in other_seed]


def test_options_reach_the_sampler(monkeypatch: pytest.MonkeyPatch) -> None:
    start, model = (f"optuna.samplers.TPESampler(n_startup_trials={number})" for number in (10, 2))
    told = {text: run(problem(text), 6) for text in (start, model)}
    assert [each.configuration for each in told[start]] != [each.configuration for each in told[model]]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("best", "known: known-cost, .*Nearest: 'modelled-cost'"),
        ("optuna.samplers.TPE", "optuna.samplers has no sampler TPE: it has .*TPESampler"),
        ("optuna.sampler.TPESampler", "optuna.sampler cannot be imported"),
        ("optuna.study.Study", "optuna.study has no sampler Study"),
        ("optuna.samplers.TPESampler(startup=3)", "startup cannot be given; options are: .*n_startup_trials"),
        ("optuna.samplers.TPESampler(seed=3)", "seed cannot be given: a sweep seeds it by --seed"),
        ("optuna.samplers.TPESampler(3)", "options need names; write package.module.Class"),
        ("optuna.samplers.TPESampler(**{'seed': 3})", "options need names"),
        ("optuna.samplers.TPESampler(n_startup_trials=print())", "write package.module.Class"),
        ("optuna.samplers.TPESampler(n_startup_trials=3", "was never closed; write package.module.Class"),
        ("optuna.samplers.GridSampler", "missing 1 required positional argument"),
        ("optuna.samplers.NSGAIISampler(population_size=1)", "population_size"),
        ("__import__('os').system('true')", "options need names"),
        ("optuna.samplers[0].TPESampler()", "cannot be imported"),
    ],
)
def test_what_is_no_sampler_is_refused_with_what_there_is(given: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"--sampler .*{said}"):
        search.proposals_of(given)
