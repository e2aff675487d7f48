"""Problems whose front is known, for the benchmarks of the search.

Everything is scaled to [0, 1] by an ideal and a nadir: the cheapest and the most expensive configuration, the
best quality there is and the median one. The reference is 1.1 in each objective.

* the two FCNet tables where their folder is given: log10 of the validation error of really trained networks,
  one of four seeds for a trial, against log10 of the parameters;
* ZDT1-3 with 10 numbers and DTLZ2 with 7, whose f1 is the known cost;
* `widths`, a formula of five widths, a learning rate and a choice, with little noise;
* `categories`, `misleading`, `plateau`, `idle` and `three`: three widths and what a search may be caught by,
  with noise of the size of the front's spacing. It is caught where it stays with a choice that is not best.
"""

import itertools
import json
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from raydistill.config.space import Choice, Distribution, Float, Int, Objective, SearchSpace
from raydistill.records.pareto import hypervolume, members
from raydistill.search import Configuration, Problem, random_configuration
from raydistill.seeds import numpy_stream

REFERENCE = 1.1
Point = NDArray[np.float64]


class KnownProblem(NamedTuple):
    """A problem whose front is known. Every objective is minimised; the cost comes first and has no noise."""

    name: str
    parameters: dict[str, Distribution]
    true: Callable[[Configuration], Point]
    """The objectives (m,) without noise, scaled."""
    measured: Callable[[Configuration, np.random.Generator], Point]
    best: float
    """Hypervolume of the true front."""

    def problem(self, sampler: str, seed: int, num_startup: int, num_trials: int) -> Problem:
        """The problem as a sampler gets it. `num_startup`: proposals of the stratified start."""
        count = len(self.true(random_configuration(self.space(1), np.random.default_rng(0))))
        return Problem(self.space(count), self.costs_of, seed, num_startup, sampler, num_trials)

    def space(self, count: int) -> SearchSpace:
        """The search space. `count`: objectives."""
        names = ["cost/known", *(f"val/{index}" for index in range(1, count))]
        objectives = tuple(Objective(name=name, direction="min", reference=REFERENCE) for name in names)
        return SearchSpace(preset="none", parameters=self.parameters, objectives=objectives, uniform=(1,))

    def costs_of(self, configuration: Configuration) -> dict[str, float]:
        """What the search knows of a configuration before its training."""
        return {"cost/known": float(self.true(configuration)[0])}


def volume(points: Point) -> float:
    """Hypervolume of points (n, m) against the reference."""
    return hypervolume(points, ["min"] * points.shape[1], [REFERENCE] * points.shape[1])


def fcnet(name: str, folder: Path) -> KnownProblem:
    """A problem out of a table of trained networks. `folder`: has fcnet_space.json and fcnet_NAME.npz."""
    axes: dict[str, list[Any]] = json.loads((folder / "fcnet_space.json").read_text())
    with np.load(folder / f"fcnet_{name}.npz") as stored:
        errors = np.log10(stored["valid_mse"].astype(np.float64))
        params = np.log10(stored["params"].astype(np.float64))
        means = np.log10(stored["valid_mse"].astype(np.float64).mean(axis=-1))
    low, high = np.array([params.min(), means.min()]), np.array([params.max(), np.median(means)])
    widths = [list(axes).index(f"n_units_{layer}") for layer in (1, 2)]
    parameters: dict[str, Distribution] = {
        path: Choice(options={str(value): value for value in values})
        if isinstance(values[0], str)
        else Int(low=0, high=len(values) - 1)
        for path, values in axes.items()
    }

    def at(configuration: Configuration) -> tuple[int, ...]:
        values = [(path, configuration[path]) for path in axes]
        return tuple(axes[path].index(value) if isinstance(value, str) else value for path, value in values)

    def point(configuration: Configuration, error: float) -> Point:
        index = at(configuration)
        return (np.array([params[index[widths[0]], index[widths[1]]], error]) - low) / (high - low)

    cost = params.reshape(
        [params.shape[widths.index(axis)] if axis in widths else 1 for axis in range(means.ndim)]
    )
    table = np.stack([np.broadcast_to(cost, means.shape).ravel(), means.ravel()], axis=1)
    return KnownProblem(
        name,
        parameters,
        lambda configuration: point(configuration, means[at(configuration)]),
        lambda configuration, rng: point(
            configuration, errors[at(configuration)][rng.integers(errors.shape[-1])]
        ),
        volume((table - low) / (high - low)),
    )


def formula(
    name: str,
    parameters: dict[str, Distribution],
    raw: Callable[[Configuration], Point],
    front: Point,
    noise: float = 0.0,
    scaled_noise: float = 0.0,
) -> KnownProblem:
    """A problem by formula, with the medians of 5,000 random configurations as the nadir's qualities.

    Args:
        raw: the objectives (m,) of a configuration, not scaled.
        front: points (n, m) of the true front.
        noise: standard deviation of the logarithm of a measured quality.
        scaled_noise: standard deviation of a measured quality once it is scaled.
    """
    any_space = SearchSpace(preset="none", parameters=parameters, objectives=(), uniform=(1,))
    rng = numpy_stream(0, f"benchmark/{name}")
    sample = np.array([raw(random_configuration(any_space, rng)) for _ in range(5_000)])
    low = front.min(axis=0)
    high = np.concatenate([[max(front[:, 0].max(), sample[:, 0].max())], np.median(sample[:, 1:], axis=0)])

    def true(configuration: Configuration) -> Point:
        return (raw(configuration) - low) / (high - low)

    def measured(configuration: Configuration, rng: np.random.Generator) -> Point:
        values = raw(configuration)
        values[1:] *= np.exp(noise * rng.normal(size=len(values) - 1))
        scaled = (values - low) / (high - low)
        scaled[1:] += scaled_noise * rng.normal(size=len(scaled) - 1)
        return scaled

    return KnownProblem(name, parameters, true, measured, volume((front - low) / (high - low)))


def zdt(number: int, dimension: int = 10) -> KnownProblem:
    """ZDT1, 2 or 3 (Zitzler, Deb and Thiele 2000, "Comparison of Multiobjective Evolutionary Algorithms")."""
    parameters: dict[str, Distribution] = {f"x{index}": Float(low=0, high=1) for index in range(dimension)}

    def second(first: Any, g: Any) -> Any:
        share = first / g
        if number == 2:
            return g * (1 - share**2)
        return g * (1 - np.sqrt(share) - (share * np.sin(10 * np.pi * first) if number == 3 else 0.0))

    def raw(configuration: Configuration) -> Point:
        x = list(configuration.values())
        return np.array([x[0], second(x[0], 1 + 9 * sum(x[1:]) / (dimension - 1))])

    first = np.linspace(0, 1, 20_001)
    return formula(f"zdt{number}", parameters, raw, np.stack([first, second(first, 1.0)], axis=1))


def dtlz2(dimension: int = 7) -> KnownProblem:
    """DTLZ2 with three objectives.

    Deb, Thiele, Laumanns and Zitzler, "Scalable Multi-Objective Optimization Test Problems", 2002.
    """
    parameters: dict[str, Distribution] = {f"x{index}": Float(low=0, high=1) for index in range(dimension)}

    def raw(configuration: Configuration) -> Point:
        x = list(configuration.values())
        a, b = 0.5 * math.pi * x[0], 0.5 * math.pi * x[1]
        radius = 1 + sum((value - 0.5) ** 2 for value in x[2:])
        return radius * np.array([math.cos(a) * math.cos(b), math.cos(a) * math.sin(b), math.sin(a)])

    angles = np.linspace(0, 0.5 * math.pi, 61)
    a, b = (grid.ravel() for grid in np.meshgrid(angles, angles))
    return formula(
        "dtlz2", parameters, raw, np.stack([np.cos(a) * np.cos(b), np.cos(a) * np.sin(b), np.sin(a)], axis=1)
    )


def width_space() -> KnownProblem:
    """A formula that looks like a search over widths: the cheap parts are not those that matter most."""
    options = np.arange(4, 49, 4)
    positions, needs = np.array([16.0, 4.0, 1.0, 4.0]), np.array([0.15, 0.35, 0.8, 0.5, 0.2])
    parameters: dict[str, Distribution] = {f"width{index}": Int(low=4, high=48, step=4) for index in range(5)}
    parameters |= {
        "rate": Float(low=1e-4, high=1e-1, log=True),
        "kind": Choice(options={"a": "a", "b": "b", "c": "c"}),
    }

    def cost(widths: Any) -> Any:
        return np.log10((positions * widths[..., :-1] * widths[..., 1:]).sum(axis=-1))

    def error(widths: Any) -> Any:
        return 0.05 + (needs / widths).sum(axis=-1) + 0.5 / widths.min(axis=-1) ** 1.5

    def raw(configuration: Configuration) -> Point:
        widths = np.array([float(configuration[f"width{index}"]) for index in range(5)])
        penalty = (
            1
            + 0.15 * (math.log10(configuration["rate"]) + 2.5 - 0.3 * math.log10(widths.mean())) ** 2
            + {"a": 0.0, "b": 0.08, "c": 0.2}[configuration["kind"]]
        )
        return np.array([cost(widths), math.log10(error(widths) * penalty)])

    grid = np.array(list(itertools.product(options, repeat=5)), dtype=np.float64)
    every = np.stack([cost(grid), np.log10(error(grid))], axis=1)
    return formula("widths", parameters, raw, every[members(every, ["min", "min"])], noise=0.02)


# ---- what a search may be caught by ------------------------------------------------------------------------

NOISE = 0.05
"""Standard deviation of a scaled quality between two seeds: that of the FCNet tables, about the distance of
neighbours on their fronts."""
WIDTHS = range(4, 49, 4)
Effect = Callable[[Configuration], list[float]]
"""What a configuration's other parameters add to log10 of each error."""


def caught(
    name: str, others: dict[str, Distribution], effect: Effect, best: list[Configuration]
) -> KnownProblem:
    """Three widths whose error is a sum of needs, and other parameters that multiply it.

    Args:
        effect: one number for each error; the errors have the same needs of widths.
        best: configurations of the other parameters, among which is the best for every point of the front.
    """
    paths = [f"width{index}" for index in range(3)]
    parameters: dict[str, Distribution] = {path: Int(low=4, high=48, step=4) for path in paths}

    def raw(configuration: Configuration) -> Point:
        a, b, c = (float(configuration[path]) for path in paths)
        cost = math.log10(9 * a * b + 3 * b * c + c)
        error = math.log10(0.03 + 0.2 / a + 0.5 / b + 0.9 / c)
        return np.array([cost, *(error + added for added in effect(configuration))])

    every = [
        dict(zip(paths, widths)) | other for widths in itertools.product(WIDTHS, repeat=3) for other in best
    ]
    points = np.array([raw(configuration) for configuration in every])
    front = points[members(points, ["min"] * points.shape[1])]
    return formula(name, parameters | others, raw, front, scaled_noise=NOISE)


def choices(*keys: str) -> Choice:
    return Choice(options={key: key for key in keys})


def categories() -> KnownProblem:
    """Three choices that act together, and a rate whose optimum moves with one of them."""
    others: dict[str, Distribution] = {
        "kind": choices("a", "b", "c"),
        "norm": choices("x", "y", "z"),
        "schedule": choices("s", "t"),
        "rate": Int(low=0, high=5),
        "batch": Int(low=0, high=3),
    }
    table = {
        "ax": 0.0,
        "ay": 0.2,
        "az": 0.1,
        "bx": 0.15,
        "by": 0.05,
        "bz": 0.25,
        "cx": 0.3,
        "cy": 0.1,
        "cz": 0.2,
    }

    def effect(configuration: Configuration) -> list[float]:
        optimum = 2 if configuration["schedule"] == "s" else 4
        rate = 0.03 * (configuration["rate"] - optimum) ** 2 + (
            0.04 if configuration["schedule"] == "t" else 0.0
        )
        return [
            table[f"{configuration['kind']}{configuration['norm']}"] + rate + 0.02 * configuration["batch"]
        ]

    return caught(
        "categories", others, effect, [{"kind": "a", "norm": "x", "schedule": "s", "rate": 2, "batch": 0}]
    )


def misleading() -> KnownProblem:
    """Of two choices one is good wherever it is tried, the other is better at one rate and momentum alone."""
    others: dict[str, Distribution] = {
        "kind": choices("easy", "hard"),
        "schedule": choices("s", "t"),
        "rate": Int(low=0, high=7),
        "momentum": Int(low=0, high=3),
    }

    def effect(configuration: Configuration) -> list[float]:
        away = abs(configuration["rate"] - 5) + abs(configuration["momentum"] - 1)
        schedule = 0.02 if configuration["schedule"] == "t" else 0.0
        return [schedule + (0.1 + 0.01 * away if configuration["kind"] == "easy" else 0.04 * away)]

    return caught("misleading", others, effect, [{"kind": "hard", "schedule": "s", "rate": 5, "momentum": 1}])


def plateau() -> KnownProblem:
    """Two of five configurations diverge to one error, whose border moves with a choice."""
    others: dict[str, Distribution] = {
        "kind": choices("a", "b", "c"),
        "rate": Float(low=1e-4, high=1e-1, log=True),
        "decay": Int(low=0, high=4),
    }
    shift = {"a": 0.0, "b": 0.06, "c": 0.1}
    border = {"a": -2.2, "b": -1.6, "c": -1.2}

    def effect(configuration: Configuration) -> list[float]:
        kind, rate = configuration["kind"], math.log10(configuration["rate"])
        diverges = 2.0 if rate > border[kind] else 0.0
        return [shift[kind] + 0.12 * (rate + 2.4) ** 2 + 0.03 * abs(configuration["decay"] - 1) + diverges]

    return caught("plateau", others, effect, [{"kind": "a", "rate": 10**-2.4, "decay": 1}])


def idle() -> KnownProblem:
    """Five parameters that cost nothing, four of them without any effect, and a choice."""
    others: dict[str, Distribution] = {
        "kind": choices("a", "b", "c", "d"),
        "weight": Float(low=0, high=1),
        **{f"idle{index}": Float(low=0, high=1) for index in range(3)},
        "idle": choices("p", "q"),
    }
    shift = {"a": 0.12, "b": 0.0, "c": 0.08, "d": 0.2}
    return caught(
        "idle",
        others,
        lambda each: [shift[each["kind"]] + 0.4 * (each["weight"] - 0.7) ** 2],
        [{"kind": "b", "weight": 0.7}],
    )


def three() -> KnownProblem:
    """Two errors beside the cost; each has its best choice, and a weight trades one for the other."""
    others: dict[str, Distribution] = {
        "kind": choices("a", "b", "c"),
        "weight": Int(low=0, high=8),
        "rate": Int(low=0, high=5),
    }
    shift = {"a": (0.0, 0.12), "b": (0.12, 0.0), "c": (0.05, 0.05)}

    def effect(configuration: Configuration) -> list[float]:
        first, second = shift[configuration["kind"]]
        share, rate = configuration["weight"] / 8, 0.03 * (configuration["rate"] - 3) ** 2
        return [first + rate + 0.3 * share**2, second + rate + 0.3 * (1 - share) ** 2]

    best = [{"kind": kind, "weight": weight, "rate": 3} for kind in "abc" for weight in range(9)]
    return caught("three", others, effect, best)


@cache
def problems(tables: Path | None) -> dict[str, KnownProblem]:
    """Every problem by name. `tables`: folder of the FCNet tables; None: without these two."""
    trained = [fcnet(name, tables) for name in ("protein_structure", "slice_localization")] if tables else []
    formulas = [zdt(1), zdt(2), zdt(3), dtlz2(), width_space()]
    return {
        each.name: each
        for each in (*trained, *formulas, categories(), misleading(), plateau(), idle(), three())
    }
