"""What a batch says of options of `Settings`: intervals, paired differences, published numbers."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from raydistill.commands.batch_settings import (
    by_option,
    check_options,
    shown,
    verdict_of_difference,
    verdict_of_published,
)
from raydistill.config.batch import Batch, Method, Published
from raydistill.config.space import Objective, SearchSpace, Settings
from raydistill.errors import ConfigError
from raydistill.records.paired import Interval, interval

OPTIONS = {"alone": {"student.terms.mi.weight": 0.0}, "term": {"student.terms.mi.weight": 0.1}}
PUBLISHED = Published(metric="val/miou", value=0.5, tolerance=0.01, source="a table")


class Planned:
    """What the tables read of a plan."""

    space = SearchSpace(
        preset="shapes32",
        parameters={"method": Settings(options=OPTIONS)},
        objectives=(
            Objective(name="val/miou", direction="max", reference=0.0),
            Objective(name="cost/macs", direction="min"),
        ),
        uniform=(3,),
        test="all",
    )
    objectives = (("val/miou", "max"), ("cost/macs", "min"))


def batch(**fields: Any) -> Batch:
    return Batch(name="b", spaces=("x",), methods=(Method(name="m"),), seeds=(0, 1, 2), **fields)


def finished(scores: dict[int, dict[str, float]]) -> list[Any]:
    """Seed -> option -> mIoU, as sweeps that have ended; the baseline and a failed trial count nowhere."""
    out = []
    for seed, by_name in scores.items():
        rows: list[dict[str, Any]] = []
        for name, value in by_name.items():
            scored = {"metric.val/miou": value, "metric.test/miou": value - 0.1}
            rows += [{"role": "search", "status": "COMPLETE", "nimg": 64, "param.method": name, **scored}]
        rows += [{"role": "uniform", "status": "COMPLETE", "nimg": 64, "metric.val/miou": 9.0},
                 {"role": "search", "status": "FAIL", "nimg": 8, "param.method": "term"}]  # fmt: skip
        out.append(({"space": "x", "method": "m", "seed": seed}, Planned(), pd.DataFrame(rows)))
    return out


def test_an_interval_is_students() -> None:
    values = np.array([0.4, 0.5, 0.7])
    low, high = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
    assert interval(values) == pytest.approx(Interval(values.mean(), low, high))
    assert interval(np.array([0.4])).mean == 0.4 and np.isnan(interval(np.array([0.4])).low)


def of_val(given: Batch, scores: dict[int, dict[str, float]]) -> pd.DataFrame:
    table = by_option(given, finished(scores))
    return table[table["metric"] == "val/miou"].set_index("option")


def test_seeds_of_an_option_are_averaged_and_compared_seed_by_seed() -> None:
    values = {0: (0.40, 0.45), 1: (0.60, 0.66), 2: (0.50, 0.55)}
    scores = {seed: dict(zip(OPTIONS, each, strict=True)) for seed, each in values.items()}
    given = batch(compare={"term": "alone"})
    both = by_option(given, finished(scores))
    assert list(both["metric"]) == ["val/miou", "test/miou"] * 2
    assert list(both["mean"][::2].to_numpy() - both["mean"][1::2]) == pytest.approx([0.1, 0.1])
    table = of_val(given, scores)
    assert list(table["seeds"]) == [3, 3]
    assert table.loc["term", "mean"] == pytest.approx(np.mean([0.45, 0.66, 0.55]))
    assert table.loc["term", "difference"] == pytest.approx(0.16 / 3)
    assert (table.loc["term", "verdict"], table.loc["term", "pairs"]) == ("better", 3)
    assert pd.isna(table.loc["alone", "verdict"])
    text = shown(both)
    assert list(text["option"]) == ["alone", "term"] and "better" in text.loc[1, "val miou: against its pair"]
    del scores[0]["alone"]
    assert of_val(given, scores).loc["term", "pairs"] == 2


@pytest.mark.parametrize(
    ("difference", "direction", "verdict"),
    [
        (Interval(0.1, 0.05, 0.15), "max", "better"),
        (Interval(0.1, 0.05, 0.15), "min", "worse"),
        (Interval(-0.1, -0.15, -0.05), "min", "better"),
        (Interval(0.1, -0.05, 0.25), "max", "not told apart"),
        (Interval(0.1, np.nan, np.nan), "max", "not told apart"),
    ],
)
def test_a_difference_is_told_where_its_interval_leaves_out_zero(
    difference: Interval, direction: str, verdict: str
) -> None:
    assert verdict_of_difference(difference, direction) == verdict


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.495, 0.505, "reproduced"),
        (0.42, 0.48, "not reproduced"),
        (0.52, 0.55, "not reproduced"),
        (0.45, 0.55, "not told apart"),
        (0.48, 0.495, "not told apart"),
        (np.nan, np.nan, "not told apart"),
    ],
)
def test_a_published_number_is_reproduced_where_the_whole_interval_is_near_it(
    low: float, high: float, verdict: str
) -> None:
    assert verdict_of_published(Interval((low + high) / 2, low, high), PUBLISHED) == verdict


def test_a_published_number_stands_beside_the_option_that_it_is_of() -> None:
    scores = {seed: {"alone": 0.5 + 0.001 * seed, "term": 0.7 + 0.001 * seed} for seed in range(3)}
    given = batch(published={"alone": PUBLISHED, "term": PUBLISHED})
    assert list(of_val(given, scores)["published_verdict"]) == ["reproduced", "not reproduced"]
    assert shown(by_option(given, finished(scores))).loc[0, "published"] == "0.5: reproduced"


def test_an_option_that_no_space_has_is_refused() -> None:
    for fields in ({"compare": {"term": "alnoe"}}, {"published": {"trem": PUBLISHED}}):
        with pytest.raises(ConfigError, match=r"no option .*Options: alone, term"):
            check_options(batch(**fields), [Planned()])  # type: ignore[list-item]
    check_options(batch(compare={"term": "alone"}), [Planned()])  # type: ignore[list-item]
