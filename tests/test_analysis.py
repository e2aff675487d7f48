import base64
import io
import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image
from test_results import CONTEXT, OBJECTIVES, REFERENCE, scored, synthetic_trials

from analysis import Moment, page, page_data, pictures, plots, summaries, templates, write_report
from raydistill.errors import RunError
from raydistill.records import pareto, tables

NASTY = "</script><script>alert(1)</script> {{data}} <b>&"
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


class Elements(HTMLParser):
    """Collects the scripts and every address that an element would load."""

    def __init__(self, text):
        super().__init__()
        self.scripts, self.addresses, self.heading, self.inside = [], [], "", ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.inside = tag
        self.addresses += [value for name, value in attrs if name in ("src", "href", "action", "data")]
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside == "script":
            self.scripts[-1] += data
        if self.inside == "h1":
            self.heading += data


def make_report(trials, out_dir, **changes):
    arguments = {
        "title": "demo",
        "objectives": OBJECTIVES,
        "reference": REFERENCE,
        "facts": {"preset": "smoke"},
        "moment": Moment("2026-11-29T09:10:00Z", "ended"),
        "ceiling": 0.86,
    } | changes
    table, evaluations = (
        tables.trial_table(trials, sweep_id="demo"),
        tables.evaluation_table(trials, sweep_id="demo"),
    )
    return write_report(table, evaluations, out_dir, **arguments)


def embedded(report):
    return json.loads(Elements(report.html.read_text(encoding="utf-8")).scripts[0])


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return make_report(synthetic_trials(), tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def data(report):
    return embedded(report)


@pytest.fixture
def table():
    return tables.with_front(tables.trial_table(synthetic_trials(), sweep_id="demo"), OBJECTIVES, REFERENCE)


def test_a_report_is_three_files_and_leaves_nothing_else(report):
    assert sorted(path.name for path in report.html.parent.iterdir()) == [
        "frontier.csv",
        "frontier.html",
        "frontier.png",
    ]
    assert all(path.stat().st_size > 0 for path in report)


# ---- the page


def test_the_page_loads_nothing_and_forbids_itself_to(report):
    text = report.html.read_text(encoding="utf-8")
    assert Elements(text).addresses == []
    assert "default-src 'none'" in text
    names = ("page.html", "page.css", *(f"{name}.js" for name in page.SCRIPTS), "report.html", "report.js")
    own = "".join(templates.asset(name) for name in names)
    assert {path.name for path in (Path(page.__file__).parent / "assets").iterdir()} == set(names)
    assert not re.search(r"https?://|url\(|@import|fetch\(|innerHTML", own)


def test_the_embedded_front_of_the_objectives_is_the_front_of_the_table(data, table):
    assert data["start"] == ["cost/macs", "val/miou"]
    assert data["fronts"]["cost/macs|val/miou"] == np.flatnonzero(table["front.member"]).tolist()
    assert [row["member"] for row in data["rows"]] == table["front.member"].tolist()


def test_every_pair_of_sided_axes_has_the_front_that_frontier_finds(data, table):
    sided = {axis["name"]: axis["better"] for axis in data["axes"] if axis["better"]}
    assert set(data["fronts"]) == {f"{x}|{y}" for x, y in itertools.combinations(sided, 2)}
    rows = np.flatnonzero(tables.competitors(table))
    for x, y in itertools.combinations(sided, 2):
        points = table[[tables.column(x), tables.column(y)]].to_numpy(float)[rows]
        assert data["fronts"][f"{x}|{y}"] == rows[pareto.members(points, (sided[x], sided[y]))].tolist()


def test_every_cost_and_metric_and_the_wall_time_can_be_an_axis(data):
    names = [axis["name"] for axis in data["axes"]]
    assert names == [
        *(
            "cost/macs",
            "cost/params",
            "val/miou",
            "val/kd_evaluator",
            "val/fd_evaluator",
            "train/l1",
            "energy/gap",
            "time/wall_sec",
            "param/student.generator.widths.stem",
            "param/student.terms.mi.weight",
            "param/student.generator.norm",
        )
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *[
            ("cost/macs", "min"),
            ("time/wall_sec", "min"),
            ("test/miou", "max"),
            ("val/fd_evaluator", "min"),
            ("val/kid", "min"),
        ],
        *[("energy/gap", None), ("train/l1", None), ("val/psnr", "max")],
    ],
)
def test_the_better_side_is_known_or_said_to_be_none(name, expected):
    assert page_data.better(name, [("val/psnr", "max")]) == expected


def test_an_axis_is_logarithmic_where_its_numbers_are_positive_and_span_more_than_a_factor_of_ten(tmp_path):
    """Of COMPLETE trials: those that are not drawn decide nothing."""

    def is_log(*values):
        trials = synthetic_trials()[2:5]
        for trial, value in zip(trials, values, strict=True):
            trial.result.metrics["train/l1"] = value
        failed = scored(synthetic_trials()[12], metrics={"train/l1": -1e9})
        table = tables.trial_table([*trials, failed], sweep_id="demo")
        (axis,) = (axis for axis in page_data.axes_of(table, OBJECTIVES) if axis["name"] == "train/l1")
        return axis["log"]

    assert is_log(1.0, 3.0, 10.5) and not is_log(1.0, 3.0, 10.0) and not is_log(1.0, 3.0, 9.0)
    assert not is_log(0.0, 3.0, 99.0) and not is_log(-1.0, 3.0, 99.0) and is_log(1e-9, 3.0, 4.0)


def test_curves_are_in_the_order_of_images_and_of_the_trials_of_this_table_alone():
    trials = synthetic_trials()
    table = tables.trial_table(trials[5:8], sweep_id="demo")
    evaluations = tables.evaluation_table(trials, sweep_id="demo")
    other_seed = evaluations.assign(seed=evaluations["seed"] + 1)
    mixed = pd.concat([evaluations, other_seed]).sample(frac=1, random_state=0)
    found = page_data.curves(table, mixed)
    curves, grids = found["metrics"], found["grids"]
    assert set(curves) == set(evaluations["metric"])
    for number, trial in enumerate(trials[5:8]):
        (curve,) = (each for each in curves["val/miou"] if each["row"] == number)
        points = trial.result.evaluations
        assert grids[curve["grid"]] == [point.nimg for point in points] == sorted(grids[curve["grid"]])
        assert curve["y"] == pytest.approx([point.numbers["val/miou"] for point in points], rel=1e-6)


def test_a_pair_of_axes_with_missing_numbers_has_the_front_of_those_that_have_both(tmp_path):
    trials = synthetic_trials()
    trials[2:5] = [
        scored(
            trial,
            test={"test/miou": trial.result.metrics["val/miou"]},
            test_context=CONTEXT | {"split": "test"},
        )
        for trial in trials[2:5]
    ]
    assert embedded(make_report(trials, tmp_path))["fronts"]["cost/macs|test/miou"] == [2, 3, 4]


def test_text_from_outside_cannot_end_the_script_or_become_html(tmp_path):
    trials = synthetic_trials()
    trials[8] = trials[8].model_copy(update={"label": NASTY})
    trials[8].params["student.generator.norm"] = NASTY
    trials[12] = scored(trials[12], reason=NASTY)
    report = make_report(trials, tmp_path, title=NASTY, facts={NASTY: NASTY})
    elements, data = Elements(report.html.read_text(encoding="utf-8")), embedded(report)
    assert len(elements.scripts) == 3 and elements.heading == NASTY
    assert data["rows"][8]["label"] == data["values"]["param/student.generator.norm"][8] == NASTY
    assert data["rows"][12]["reason"] == data["facts"][NASTY] == NASTY


def test_a_failed_trial_stands_with_its_reason_and_is_not_drawn(data):
    row = data["rows"][12]
    assert row["status"] == "FAIL" and row["reason"].startswith("DivergenceError") and row["group"] == ""
    assert data["values"]["val/miou"][12] is None
    assert [data["rows"][number]["group"] for number in (0, 1, 2, 8, 9, 11, 13)] == [
        *("teacher", "no_teacher", "uniform", "mi", "no_mi", "", "")
    ]


def test_a_dominated_trial_names_a_member_that_dominates_it(data):
    assert data["rows"][4]["dominator"] == "0010" and data["rows"][8]["dominator"] == ""


def test_facts_tell_reference_hypervolume_knee_ceiling_convention_and_digests(data, table):
    facts, points = data["facts"], tables.objective_points(table, OBJECTIVES)
    assert facts["hypervolume"] == f"{pareto.hypervolume(points, ('min', 'max'), REFERENCE):.6g}"
    assert (facts["reference point"], facts["evaluator ceiling"], facts["MACs convention"]) == (
        "3e+09, 0",
        "0.86 mIoU",
        "true",
    )
    assert (facts["teacher"], facts["val samples"], facts["knee"]) == ("1234567890123456", "192", "0008")
    assert facts["preset"] == "smoke"


@pytest.mark.parametrize(("width", "biased"), [("192", True), ("191", False)])
def test_sample_counts_not_above_the_feature_width_are_marked_biased(tmp_path, width, biased):
    facts = embedded(make_report(synthetic_trials(), tmp_path, facts={"evaluator features": width}))["facts"]
    assert ("biased" in facts["val samples"]) == biased


def test_curves_follow_each_trial_over_images(data):
    curves, grids = data["curves"]["metrics"]["val/miou"], data["curves"]["grids"]
    curve = next(curve for curve in curves if curve["row"] == 8)
    assert grids[curve["grid"]] == [3072, 6144, 9216, 12288] and len(curve["y"]) == 4
    assert {curve["row"] for curve in curves} == set(range(13))


def test_pictures_of_the_front_and_baselines_are_inside_and_others_are_found_beside_the_page(tmp_path):
    samples = {}
    for trial in ("0000", "0003", "0008", "0009"):
        samples[trial] = tmp_path / "trials" / trial / "samples.png"
        samples[trial].parent.mkdir(parents=True)
        samples[trial].write_bytes(PIXEL)
    samples["0007"] = tmp_path.parent / "elsewhere.png"
    data = embedded(make_report(synthetic_trials(), tmp_path, samples=samples | {"0007": samples["0009"]}))
    assert set(data["samples"]) == {"0000", "0003", "0007", "0008"}
    assert data["beside"] == {"0009": "trials/0009/samples.png"}
    picture = Image.open(io.BytesIO(base64.b64decode(data["samples"]["0008"].partition(",")[2])))
    assert picture.format == "WEBP"
    original = Image.open(samples["0008"]).convert("RGB")
    assert picture.convert("RGB").getpixel((0, 0)) == original.getpixel((0, 0))


@pytest.mark.parametrize("size", [(64, 64), (900, 700)])
def test_a_picture_of_noise_fits_into_64_kib_and_keeps_its_shape(tmp_path, size):
    noise = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    webp = pictures.as_webp(tmp_path / "noise.png")
    picture = Image.open(io.BytesIO(webp))
    shape = picture.height / picture.width
    assert len(webp) <= 64 * 1024 and shape == pytest.approx(size[0] / size[1], rel=0.02)
    if size == (64, 64):
        np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), noise, "a small one loses nothing")


def with_replicates(trials):
    """The sweep with a second seed of trial 0008, whose mIoU is 0.02 higher."""
    original = trials[8]
    changes = {"number": 14, "trial_id": "0014", "role": "replicate", "replicate_of": "0008", "seed": 1}
    higher = original.result.metrics | {"val/miou": original.result.metrics["val/miou"] + 0.02}
    return [*trials, scored(original.model_copy(update=changes).with_result(original.result), metrics=higher)]


def test_intervals_over_seeds_are_around_the_mean_and_attainment_has_three_surfaces(tmp_path):
    data = embedded(make_report(with_replicates(synthetic_trials()), tmp_path))
    of_miou = data["intervals"]["val/miou"]
    mean = data["values"]["val/miou"][8]
    assert mean == pytest.approx(synthetic_trials()[8].result.metrics["val/miou"] + 0.01)
    assert (of_miou["low"][8] + of_miou["high"][8]) / 2 == pytest.approx(mean, rel=1e-5)
    # both trainings' variance is 0.02^2 / 2, pooled and own
    assert of_miou["high"][8] - mean == pytest.approx(1.96 * 0.01, rel=1e-4)
    assert of_miou["low"][0] is None and "cost/macs" not in data["intervals"]
    assert [surface["percentile"] for surface in data["attainment"]["surfaces"]] == [25, 50, 75]


def test_without_seeds_there_is_neither_interval_nor_attainment(data):
    assert data["intervals"] == {} and data["attainment"] is None


def test_the_surface_attained_most_often_lies_behind_that_attained_seldom():
    means, errors = [[1.0, 0.5], [2.0, 0.7]], [[0, 0.1], [0, 0.1]]
    surfaces = pareto.uncertain_attainment(means, errors, ("min", "max"), (0.25, 0.5, 0.75))
    best = [surface[:, 1].max() for surface in surfaces]
    assert best[0] > best[1] > best[2] and best[1] == pytest.approx(0.71, abs=0.02)
    (exact,) = pareto.uncertain_attainment(means, [[0, 0], [0, 0]], ("min", "max"), (0.5,))
    np.testing.assert_array_equal(exact, means)


def test_progress_ends_at_the_hypervolume_and_counts_hours_of_failed_trials(data, table):
    progress, points = data["progress"], tables.objective_points(table, OBJECTIVES)
    assert progress["volume"] == sorted(progress["volume"])
    assert progress["volume"][-1] == pytest.approx(pareto.hypervolume(points, ("min", "max"), REFERENCE))
    counted = table[(table["role"] != "teacher") & (table["status"] != "RUNNING")]
    assert progress["trial"] == counted["trial_id"].tolist() and "0012" in progress["trial"]
    assert progress["hours"][-1] == pytest.approx(counted["wall_sec"].sum() / 3600)


def test_the_parameter_that_decides_has_the_largest_importance_and_few_trials_have_none(table):
    rng = np.random.default_rng(0)
    rows = pd.concat([table[table["trial_id"] == "0008"]] * 60, ignore_index=True)
    rows["param.decides"], rows["param.idle"] = rng.random(60), rng.random(60)
    rows["param.some"] = pd.Series(rng.random(60)).where(rng.random(60) > 0.5)
    rows["metric.val/miou"] = rows["param.decides"] + 0.01 * rng.random(60)
    (found,) = summaries.importance(rows, OBJECTIVES)
    assert found["objective"] == "val/miou" and next(iter(found["shares"])) == "decides"
    assert found["shares"]["decides"] > 0.7 and found["left_out"] == ["some"]
    assert summaries.importance(rows.head(9), OBJECTIVES) == []


def test_an_axis_of_mixed_conditions_has_no_front_and_leaves_the_page_whole(tmp_path):
    trials = synthetic_trials()
    for number, samples in ((2, 100), (3, 500)):
        context = CONTEXT | {"split": "test", "num_samples": samples}
        trials[number] = scored(trials[number], test={"test/miou": 0.5}, test_context=context)
    data = embedded(make_report(trials, tmp_path))
    assert next(axis for axis in data["axes"] if axis["name"] == "test/miou")["mixed"]
    assert not any("test/miou" in pair for pair in data["fronts"]) and data["fronts"]


def test_a_number_that_is_not_finite_is_null_on_the_page(tmp_path):
    trials = synthetic_trials()
    trials[8].result.metrics["train/l1"] = float("inf")
    trials[9].result.metrics["train/l1"] = float("nan")
    values = embedded(make_report(trials, tmp_path))["values"]["train/l1"]
    assert values[8] is values[9] is None and values[7] is not None


@pytest.mark.parametrize("numbers", [[], [13], [0], [12, 13]])
def test_a_sweep_without_a_finished_competitor_still_has_a_report(tmp_path, numbers):
    data = embedded(make_report([synthetic_trials()[number] for number in numbers], tmp_path))
    assert (
        len(data["rows"]) == len(numbers)
        and data["facts"]["hypervolume"] == "0"
        and "knee" not in data["facts"]
    )


def test_mixed_conditions_give_no_report(tmp_path):
    trials = synthetic_trials()
    trials[8] = scored(trials[8], context=CONTEXT | {"num_samples": 10})
    with pytest.raises(RunError, match="mixed digests"):
        make_report(trials, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_three_objectives_keep_the_table_front_and_draw_the_front_of_each_pair(tmp_path):
    objectives = [("val/miou", "max"), ("cost/macs", "min"), ("cost/params", "min")]
    data = embedded(make_report(synthetic_trials(), tmp_path, objectives=objectives, reference=(0, 3e9, 1e7)))
    assert data["start"] == ["cost/macs", "cost/params"]


# ---- the picture and the small table


def test_the_picture_is_a_png(report):
    assert report.png.read_bytes().startswith(b"\x89PNG\r\n")


@pytest.mark.parametrize(
    ("x", "y", "directions"),
    [("val/miou", "val/fd_evaluator", ("max", "min")), ("cost/params", "val/miou", ("min", "max"))],
)
def test_the_picture_can_show_any_two_numbers(tmp_path, table, x, y, directions):
    plots.frontier_png(table, tmp_path / "a.png", x, y, directions)
    assert (tmp_path / "a.png").stat().st_size > 10_000


@pytest.mark.parametrize("side", [1, -1])
def test_names_of_close_trials_lie_beside_each_other(side):
    figure = Figure()
    axes = figure.add_subplot()
    given = [(0.5, 0.5), (0.51, 0.5), (0.52, 0.501), (0.9, 0.5)]
    names = [axes.annotate("0001", at, xytext=(-5, 5 * side), textcoords="offset points") for at in given]
    plots._part(figure, names, side)
    boxes = [name.get_window_extent() for name in names]
    assert not any(first.overlaps(second) for first, second in itertools.combinations(boxes, 2))
    assert [name.get_position() == (-5, 5 * side) for name in names] == [True, False, False, True]
    assert all(side * name.get_position()[1] >= 5 for name in names)


def test_members_of_a_pair_are_found_in_any_direction(table):
    found = plots.pair_members(table, ("val/miou", "val/fd_evaluator"), ("max", "min"))
    assert table["trial_id"][found].tolist() == ["0010"]


def test_the_small_table_lists_the_front_from_cheap_to_dear(report):
    front = pd.read_csv(report.csv, dtype={"trial": "str"})
    assert front["trial"].tolist() == ["0005", "0002", "0006", "0007", "0008", "0010"]
    assert front["MACs"].is_monotonic_increasing and front["val/miou"].is_monotonic_increasing
    assert {"label", "role", "parameters", "hypervolume contribution", "student.terms.mi.weight"} <= set(
        front
    )
