"""How a sweep came out, in one sentence for people: the page and MLflow show it."""

from collections.abc import Sequence

import pandas as pd

from raydistill.records import tables

_MACS = "cost.macs"


def sentence(table: pd.DataFrame, objectives: Sequence[tables.NamedDirection]) -> str:
    """What the front offers beside the teacher, whether it beats uniform widths, and what has the term.

    Args:
        table: the trials table with the front's columns, means over seeds.
        objectives: (name, "min" or "max") of each. The first that is no cost is the quality.

    Returns:
        one sentence that ends with a full stop; what the table does not say is left out.
    """
    front = table[table["front.member"]]
    if front.empty:
        return "No student has been trained to its end yet."
    qualities = [each for each in objectives if not each[0].startswith("cost/")]
    if not qualities or _MACS not in table:
        return f"{len(front)} {_plural(len(front), 'student is', 'students are')} on the front."
    name, direction = qualities[0]
    parts = [_best(table, front, name, direction), _against_uniform(table, name, direction), _term(front)]
    return "; ".join(part for part in parts if part) + "."


def _best(table: pd.DataFrame, front: pd.DataFrame, name: str, direction: str) -> str:
    """What the front's best costs and is worth, beside the teacher."""
    column = tables.column(name)
    best = front.sort_values([column, _MACS], ascending=[direction == "min", True]).iloc[0]
    teacher = table[(table["role"] == "teacher") & table["status"].eq("COMPLETE")]
    has_teacher = (
        len(teacher) > 0 and column in table and bool(teacher[[column, _MACS]].notna().all(axis=None))
    )
    if not has_teacher or not teacher[_MACS].iloc[0]:
        return f"The best {_words(name)} is {_short(best[column])} at {scaled(best[_MACS])} MACs"
    before, now = float(teacher[column].iloc[0]), float(best[column])
    share = best[_MACS] / teacher[_MACS].iloc[0]
    verb = "falls" if now < before else "rises"
    change = f"{verb} from {_short(before)} to {_short(now)}" if now != before else f"stays {_short(now)}"
    return f"At {100 * share:.3g} % of the teacher's MACs {_words(name)} {change}"


def _against_uniform(table: pd.DataFrame, name: str, direction: str) -> str:
    """From how many MACs on nothing that was searched beats uniform widths."""
    column, sign = tables.column(name), 1 if direction == "max" else -1
    rows = table[tables.competitors(table)]
    uniform = rows[rows["role"] == "uniform"].sort_values(_MACS)
    searched = rows[rows["role"] == "search"]
    if uniform.empty or searched.empty:
        return ""
    beaten = [
        bool((sign * searched[column][searched[_MACS] <= each[_MACS]] > sign * each[column]).any())
        for _, each in uniform.iterrows()
    ]
    if all(beaten):
        return "at no uniform width is the uniform student as good as a searched one of no more MACs"
    if not any(beaten):
        return "nothing searched beats uniform widths at no more MACs"
    last = max(index for index, each in enumerate(beaten) if each)
    if all(beaten[: last + 1]):
        return f"above {scaled(uniform[_MACS].iloc[last])} MACs nothing searched beats uniform widths"
    return f"searched students beat {sum(beaten)} of {len(beaten)} uniform widths at no more MACs"


def _term(front: pd.DataFrame) -> str:
    """How many members have the mutual-information term, which depends on what was searched."""
    weights = [str(name) for name in front if str(name).startswith("param.student.terms.")]
    weights = [name for name in weights if name.endswith(".weight")]
    searched = front[front["role"] == "search"]
    if not weights or searched.empty or not searched[weights].notna().any(axis=None):
        return ""
    has_term = int((searched[weights].astype(float).fillna(0) > 0).any(axis=1).sum())
    return (
        f"the term was on in {has_term} of {len(searched)} searched front members, which proves nothing: "
        "see `raydistill ablate`"
    )


def scaled(value: float) -> str:
    """A number with three digits and a letter: 2400000000 -> "2.4 G"."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:.3g}"


def _words(name: str) -> str:
    """ "val/miou" -> "val mIoU"."""
    return name.replace("/", " ").replace("miou", "mIoU")


def _short(value: float) -> str:
    return f"{value:.3f}" if 0.01 <= abs(value) < 10 else f"{value:.3g}"


def _plural(count: int, one: str, many: str) -> str:
    return one if count == 1 else many
