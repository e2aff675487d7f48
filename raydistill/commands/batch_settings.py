"""What a batch says of the options of `Settings`: means over seeds, paired differences, published numbers.

A sweep of a batch has each option at most once as a searched trial, so its seeds are those of the batch. All
intervals are Student's at 95 %, for the mean over seeds; none is corrected for how many there are.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from raydistill.config.batch import Batch, Published
from raydistill.config.space import settings_in
from raydistill.errors import ConfigError
from raydistill.planning.plan import Plan
from raydistill.records import tables
from raydistill.records.paired import NOT_TOLD_APART, Interval, interval

REPRODUCED, NOT_REPRODUCED = "reproduced", "not reproduced"
COLUMNS = ("space", "method", "parameter", "option", "metric", "seeds", "nimg", "mean", "low", "high")
COMPARED = ("compared_with", "pairs", "difference", "difference_low", "difference_high", "verdict")
OF_PUBLISHED = ("published", "published_verdict", "published_source")


def verdict_of_difference(difference: Interval, direction: str) -> str:
    """Better, worse or not told apart: whether the interval of a paired difference leaves out 0."""
    if np.isnan(difference.low) or difference.low <= 0 <= difference.high:
        return NOT_TOLD_APART
    return "better" if (difference.mean > 0) == (direction == "max") else "worse"


def verdict_of_published(found: Interval, published: Published) -> str:
    """Whether a published number is reproduced.

    It is where the whole interval lies within the tolerance, it is not where none of it does, and it is not
    told apart otherwise, or with one seed.
    """
    low, high = published.value - published.tolerance, published.value + published.tolerance
    if np.isnan(found.low) or not (low <= found.low and found.high <= high):
        is_apart = found.high < low or found.low > high  # False where there is no interval
        return NOT_REPRODUCED if is_apart else NOT_TOLD_APART
    return REPRODUCED


def check_options(batch: Batch, plans: Sequence[Plan]) -> None:
    """Raises ConfigError where the batch compares options, or knows published numbers, that no space has."""
    known = {key for plan in plans for each in settings_in(plan.space).values() for key in each.options}
    given = {"compare": [*batch.compare, *batch.compare.values()], "published": [*batch.published]}
    for field, options in given.items():
        if unknown := [option for option in options if option not in known]:
            names = ", ".join(sorted(known)) or "none"
            raise ConfigError(f"batch {batch.name}: {field}: no option {unknown[0]!r}. Options: {names}")


def by_option(batch: Batch, finished: Sequence[tuple[Mapping[str, Any], Plan, pd.DataFrame]]) -> pd.DataFrame:
    """One row for each space, method, option of `Settings` and quality that is an objective, on val and,
    where all students are scored there, on test.

    Args:
        finished: of each finished sweep its space, method and seed by name, its plan, and its trials.
    """
    found: dict[tuple[str, ...], dict[int, float]] = {}
    images: dict[tuple[str, ...], int] = {}
    directions: dict[str, str] = {}
    for origin, plan, table in finished:
        rows = table[(table["role"] == "search") & (table["status"] == "COMPLETE")]
        qualities = {name: way for name, way in plan.objectives if not name.startswith("cost/")}
        if plan.space.test == "all":
            qualities |= {name.replace("val/", "test/", 1): way for name, way in qualities.items()}
        directions |= qualities
        for parameter, settings in settings_in(plan.space).items():
            column = f"param.{parameter}"
            for option in settings.options if column in rows else ():
                for row in rows[rows[column] == option].to_dict("records"):
                    for name in qualities:
                        place = (origin["space"], origin["method"], parameter, option, name)
                        found.setdefault(place, {})[origin["seed"]] = float(row[tables.column(name)])
                        images[place] = int(row["nimg"])
    out = []
    for key, values in found.items():
        *_, option, metric = key
        mean = interval(np.array([*values.values()]))
        row = dict(zip(COLUMNS, (*key, len(values), images[key], *mean), strict=True))
        other = batch.compare.get(option)
        others = found.get((*key[:3], other, metric), {}) if other is not None else {}
        if pairs := sorted(set(values) & set(others)):
            gain = interval(np.array([values[seed] - others[seed] for seed in pairs]))
            verdict = verdict_of_difference(gain, directions[metric])
            row |= dict(zip(COMPARED, (other, len(pairs), *gain, verdict), strict=True))
        if (published := batch.published.get(option)) is not None and published.metric == metric:
            given = (published.value, verdict_of_published(mean, published), published.source)
            row |= dict(zip(OF_PUBLISHED, given, strict=True))
        out.append(row)
    return pd.DataFrame(out, columns=[*COLUMNS, *COMPARED, *OF_PUBLISHED]).dropna(axis="columns", how="all")


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The table as it is printed: one row for each option, numbers with their intervals as text."""

    def spread(row: Mapping[Any, Any], name: str, low: str, high: str) -> str:
        text = f"{row[name]:.4g}"
        return text if pd.isna(row[low]) else f"{text} ({row[low]:.4g} to {row[high]:.4g})"

    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for each in table.to_dict("records"):
        key = (each["space"], each["method"], each["option"])
        row = rows.setdefault(key, dict(zip(("space", "method", "option"), key, strict=True)))
        metric = each["metric"].replace("/", " ")
        row |= {"seeds": each["seeds"], "images": each["nimg"]}
        row[metric] = spread(each, "mean", "low", "high")
        if not pd.isna(each.get("difference", np.nan)):
            difference = spread(each, "difference", "difference_low", "difference_high")
            row[f"{metric}: against its pair"] = f"{difference}: {each['verdict']}"
        if not pd.isna(each.get("published", np.nan)):
            row["published"] = f"{each['published']:g}: {each['published_verdict']}"
    out = pd.DataFrame([*rows.values()]).fillna("")
    same = [name for name in ("space", "method") if out[name].nunique() == 1]
    return out.drop(columns=same)
