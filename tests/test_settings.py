"""Settings: one parameter of a space that sets several config paths by name."""

from typing import Any

import numpy as np
import pytest

from raydistill.config.configurations import (
    base_settings,
    extreme_configuration,
    recorded_values,
    settings_label,
    value_in,
    values_of,
)
from raydistill.config.paths import with_values
from raydistill.config.presets import shapes32
from raydistill.config.space import Choice, Objective, SearchSpace, Settings, searched_paths
from raydistill.config.space_checks import check_space
from raydistill.config.sweep_options import SweepOptions
from raydistill.config.terms import MutualInformation
from raydistill.config.training import DistillTraining
from raydistill.errors import ConfigError, SpaceError
from raydistill.planning.checks import check
from raydistill.search import Observation, Problem, propose

WEIGHT, HEAD = "student.terms.mi.weight", "student.generator.widths.head"
METHODS: dict[str, dict[str, Any]] = {
    "plain": {WEIGHT: 0.0, HEAD: 4},
    "gan": {"student.base.kind": "gan", WEIGHT: 0.0, HEAD: 8, "student.budget_nimg": 3_000},
    "published": {"student.terms.mi": "published_cyclegan", "student.terms.mi.step_size": 5.0, HEAD: 2},
}


def space(options: dict[str, dict[str, Any]] = METHODS, **others: Any) -> SearchSpace:
    return SearchSpace(
        preset="shapes32",
        parameters={"method": Settings(options=options), **others},
        objectives=(
            Objective(name="val/miou", direction="max", reference=0.0),
            Objective(name="cost/macs", direction="min"),
        ),
        uniform=(3,),
    )


def student(key: str) -> DistillTraining:
    values = values_of(space(), {"method": key})
    return with_values(shapes32(), values, where="test").student


def test_a_key_sets_all_its_paths_and_a_named_term_is_whole() -> None:
    check_space(space(), shapes32(), "test")
    gan, published = student("gan"), student("published")
    assert (gan.base.kind, gan.budget_nimg) == ("gan", 3_000) and not gan.active_terms
    term = published.terms["mi"]
    assert isinstance(term, MutualInformation)
    assert (term.step_size, term.energy.channels, term.start) == (5.0, 8, "student")
    assert (published.base.kind, published.budget_nimg) == ("plain", shapes32().student.budget_nimg)


def test_tables_have_the_key_beside_the_values_and_a_warm_start_reads_the_key() -> None:
    recorded = recorded_values(space(), {"method": "gan"})
    assert recorded == METHODS["gan"] | {"method": "gan"}
    named = recorded_values(space(), {"method": "published"})
    assert named == METHODS["published"] | {"method": "published"}
    listed = space({"tapped": {"student.base.kind": "gan", "student.base.taps": ["down"]}})
    assert recorded_values(listed, {"method": "tapped"}) == {"method": "tapped", "student.base.kind": "gan"}
    assert settings_label(space(), {"method": "gan"}) == "gan"
    assert value_in(space(), "method", "gan", by_option=True) == "gan"
    with pytest.raises(SpaceError, match="'gann' is no option"):
        value_in(space(), "method", "gann", by_option=True)


def test_what_is_searched_which_bases_and_which_is_the_widest() -> None:
    given = space()
    assert {WEIGHT, HEAD, "student.base.kind", "student.budget_nimg"} < searched_paths(given)
    assert base_settings(given) == [{"base.kind": "gan"}]
    assert extreme_configuration(given, highest=True) == {"method": "gan"}
    assert extreme_configuration(given, highest=False) == {"method": "published"}


@pytest.mark.parametrize("sampler", ["known-cost", "tpe", "nsga2", "random"])
def test_as_many_trials_as_keys_try_each_once(sampler: str) -> None:
    def costs(configuration: dict[str, Any]) -> dict[str, float]:
        return {"cost/macs": float(METHODS[configuration["method"]][HEAD])}

    problem, history, rng = Problem(space(), costs, 0, 2, sampler, 3), [], np.random.default_rng(0)
    for number in range(3):
        proposed = propose(problem, history, number)
        values = [rng.random(), costs(proposed)["cost/macs"]]
        history.append(Observation(proposed, "COMPLETE", values, []))
    assert sorted(each.configuration["method"] for each in history) == sorted(METHODS)


def refused(match: str, options: dict[str, dict[str, Any]], **others: Any) -> None:
    with pytest.raises((SpaceError, ConfigError), match=match):
        check_space(space(options, **others), shapes32(), "mine")


def test_settings_that_cannot_be_are_refused() -> None:
    refused("nearest valid path is", {"a": {"student.terms.mi.wieght": 0.0}})
    refused("'a': 'teacher.budget_nimg' cannot be searched", {"a": {"teacher.budget_nimg": 8}})
    refused("there is no term 'publisht'", {"a": {"student.terms.mi": "publisht"}})
    refused(f"'a': '{WEIGHT}' cannot be searched: it is searched elsewhere", {"a": {WEIGHT: 0.0}},
            other=Settings(options={"b": {WEIGHT: 0.1}}))  # fmt: skip
    own = {"student.generator.widths.up": 4}
    refused("a name of their own", METHODS, **{WEIGHT: Settings(options={"b": own})})
    refused("without options", {})


def test_all_students_are_scored_on_test_only_where_nothing_is_searched() -> None:
    settled = space().model_copy(update={"test": "all"})
    check_space(settled, shapes32(), "mine")
    own = settled.parameters | {"student.generator.widths.up": Choice(options={"4": 4, "8": 8})}
    searched = settled.model_copy(update={"parameters": own})
    with pytest.raises(SpaceError, match=r"test: 'all', but student\.generator\.widths\.up is searched"):
        check_space(searched, shapes32(), "mine")


def test_what_settings_give_cannot_be_set_as_well(tmp_path: Any) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        f"from raydistill.config.space import *\nSPACE = SearchSpace(**{space().model_dump()!r})\n"
    )
    for assignment, why in (
        (f"{WEIGHT}=0.1", "it is searched"),
        ("student.mi.weight=0.1", "it is searched"),
        ("student.terms.mi=recommended", "settings of the space give"),
    ):
        with pytest.raises(ConfigError, match=why):
            check(SweepOptions(space=str(file), set=(assignment,), store=str(tmp_path / "runs")))
