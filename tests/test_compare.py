"""Sweeps side by side: what is refused, what is said, and the files that show it."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from made_sweeps import made_sweep, without_students
from matplotlib.figure import Figure

from analysis import plots
from analysis.compare import HYPERVOLUME, compare
from analysis.report import write_comparison
from raydistill import load_sweep
from raydistill.commands import batch_compare
from raydistill.commands.cli import main
from raydistill.errors import ConfigError, StoreError
from raydistill.records import pareto
from raydistill.terminal import Terminal

NASTY = "</script><script>alert(1)</script> $x$ <b>&"


def pairs_of_seeds(root: Path, seeds: int, gain: float) -> list[Path]:
    """Sweeps of two samplers, of the same seeds; those of the second are better by `gain`."""
    first = [made_sweep(root, f"one-{seed}", seed=seed) for seed in range(seeds)]
    return first + [
        made_sweep(root, f"two-{seed}", seed=seed, sampler="tpe", gain=gain + 0.001 * seed)
        for seed in range(seeds)
    ]


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["raydistill", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_from_six_seeds_a_side_on_one_beats_the_other_within_a_budget(tmp_path: Path) -> None:
    compared = compare(pairs_of_seeds(tmp_path, 6, 0.02), budgets=[3e8])
    assert [side.label for side in compared.sides] == ["sampler known-cost", "sampler tpe"]
    assert [side.seeds for side in compared.sides] == [[0, 1, 2, 3, 4, 5]] * 2
    _, within = compared.sentences
    assert within.startswith("sampler tpe beats sampler known-cost within 300 M MACs: val/miou +0.02")
    assert within.endswith("p = 0.0312, 6 pairs of seeds")
    assert set(compared.differences["verdict"]) == {"better"}
    loaded = [member.sweep for side in compared.sides for member in side.members]
    fewer = compare([*loaded[:5], *loaded[6:]], budgets=[3e8])
    assert set(fewer.differences["verdict"]) == {"not told apart"}
    assert all("5 pairs of seeds; 6 would do at the earliest" in each for each in fewer.sentences)


def test_hypervolumes_have_one_reference_point_and_intervals_over_the_seeds(tmp_path: Path) -> None:
    folders = pairs_of_seeds(tmp_path, 3, 0.01)
    file = folders[0] / "page.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"reference": [4e9, 0.1]}))
    compared = compare(folders)
    assert compared.reference == (4e9, 0.0)
    volumes = compared.sweeps[HYPERVOLUME].to_numpy()
    points = compared.sides[0].members[1].points
    assert volumes[1] == pareto.hypervolume(points, ["min", "max"], [4e9, 0.0])
    low, high = (compared.summary[name].to_numpy() for name in ("low", "high"))
    assert (low < compared.summary[HYPERVOLUME]).all() and (compared.summary[HYPERVOLUME] < high).all()


def test_a_side_without_a_student_within_a_budget_says_so(tmp_path: Path) -> None:
    compared = compare(pairs_of_seeds(tmp_path, 1, 0.0), budgets=[1e6])
    assert "0 pairs of seeds" in compared.sentences[1]
    assert "sampler tpe has no student there in 1 of its seeds" in compared.sentences[1]
    assert compared.sweeps["val/miou within 1 M MACs"].isna().all()


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"digest.data": "ffff"}, "they differ in data: aa11bb22cc33dd44 and ffff"),
        ({"extractor": "squeezenet"}, r"they differ in scorers \(extractor\): evaluator and squeezenet"),
        ({"num_samples": 7}, r"they differ in counts of scored pictures \(num_samples\): 192 and 7"),
        ({"macs_convention": "cagc"}, "they differ in convention of MACs: true and cagc"),
    ],
)
def test_what_cannot_be_compared_is_refused_and_named(
    tmp_path: Path, columns: dict[str, Any], says: str
) -> None:
    one = made_sweep(tmp_path, "one")
    two = made_sweep(tmp_path, "two", seed=1, change=lambda table: table.assign(**columns))
    with pytest.raises(ConfigError, match=f"one and .*two cannot be compared: {says}"):
        compare([one, two])


def test_bad_sweeps_labels_and_budgets_are_refused(tmp_path: Path) -> None:
    one, again = made_sweep(tmp_path, "one"), made_sweep(tmp_path, "again")
    with pytest.raises(ConfigError, match="the same settings and seed 0: the second repeats the first"):
        compare([one, again])
    other = made_sweep(tmp_path, "other", seed=1)
    file = other / "page.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"objectives": [["cost/macs", "min"], ["val/psnr", "max"]]}))
    with pytest.raises(StoreError, match="no val/psnr in the COMPLETE trials"):
        compare([one, other])
    tpe = made_sweep(tmp_path, "tpe", sampler="tpe")
    with pytest.raises(ConfigError, match="--label: given 1, there are 2 sides: one; tpe"):
        compare([one, tpe], labels=["mine"])
    with pytest.raises(ConfigError, match="--label: the same name twice"):
        compare([one, tpe], labels=["mine", "mine"])
    with pytest.raises(ConfigError, match="--at nan: give a cost/macs above 0"):
        compare([one], budgets=[float("nan")])
    with pytest.raises(ConfigError, match="which sweeps"):
        compare([])
    failed = made_sweep(tmp_path, "failed", change=without_students)
    with pytest.raises(StoreError, match="failed: no student of it was trained to its end"):
        compare([one, failed])
    (one / "evaluations.parquet").unlink()
    with pytest.raises(StoreError, match="half of it was copied"):
        compare([one])
    (tpe / "page.json").unlink()
    with pytest.raises(StoreError, match=r"no page\.json, so its objectives are not known"):
        compare([tpe])


def test_one_sweep_with_one_student_is_a_side_of_its_own(tmp_path: Path) -> None:
    def one_student(table: pd.DataFrame) -> pd.DataFrame:
        return table[(table["role"] == "teacher") | (table["trial_id"] == "0003")]

    compared = compare([made_sweep(tmp_path, "one", change=one_student)])
    assert compared.sentences == [] and repr(compared) == "Comparison of one side: one"
    write_comparison(compared, tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size > 10**6


def test_page_json_and_table_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folders = [str(each) for each in pairs_of_seeds(tmp_path / "runs", 2, 0.01)]
    given = ("--label", NASTY, "--label", "two", "--at", "3e8")
    assert command(monkeypatch, "compare", *folders, *given, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert [side["side"] for side in said["sides"]] == [NASTY, "two"] and said["budgets"] == [3e8]
    assert said["differences"][0]["pairs"] == 2 and said["page"] == "compare.html"
    text = (tmp_path / "compare.html").read_text()
    assert "<script>alert(1)" not in text and text.count("<script") == 3
    assert "src=" not in text.split("<script>")[0] and "default-src 'none'" in text
    assert command(monkeypatch, "compare", *folders) == 0
    out = capsys.readouterr().out
    assert "hypervolume against cost/macs 3e+09" in out and "page: compare.html" in out
    assert command(monkeypatch, "compare", "nowhere") == 2
    assert "there is no such folder" in capsys.readouterr().err


@pytest.mark.parametrize("ending", ["pdf", "svg"])
def test_figures_for_print_are_vectors_of_the_asked_width(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    folders = [str(each) for each in pairs_of_seeds(tmp_path, 2, 0.01)]
    nasty = made_sweep(tmp_path, "nasty", label=NASTY)
    for kind, given in (("front", folders), ("front", [str(nasty)]), ("attainment", folders),
                        ("curves", folders)):  # fmt: skip
        file = tmp_path / f"{kind}.{ending}"
        assert command(monkeypatch, "plot", *given, "--kind", kind, "--out", str(file)) == 0
        content = file.read_bytes()
        assert content.startswith(b"%PDF" if ending == "pdf" else b"<?xml") and b"<image" not in content
        if ending == "svg":
            assert b'width="237.6pt"' in content  # 3.3 inches


def test_a_figure_that_there_is_not_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = str(made_sweep(tmp_path, "one"))
    for given, says in (
        (("--out", "a.jpg"), "the ending says the format"),
        (("--out", "a.pdf", "--kind", "attainment"), "no side has two sweeps"),
        (("--out", "a.pdf", "--kind", "ablation"), "raydistill ablate makes pairs"),
        (("--out", "a.pdf", "--kind", "curves", "--metric", "val/no"), "Metrics: "),
        (("--out", "a.pdf", "--metric", "val/miou"), "is for --kind curves and ablation"),
    ):
        assert command(monkeypatch, "plot", one, *given) == 2
        assert says in capsys.readouterr().err


def test_the_figure_of_a_sweep_has_its_trials_and_its_front(tmp_path: Path) -> None:
    sweep = load_sweep(made_sweep(tmp_path, "one", label=NASTY))
    figure = sweep.plot()
    names = [trace.name for trace in figure.data]
    assert names[0] == "front" and "teacher" in names and "uniform widths" in names
    drawn = sum(len(trace.x) for trace in figure.data[1:])
    assert drawn == (sweep.trials["status"] == "COMPLETE").sum()
    assert "<script>" not in str(figure.to_json())
    assert sweep.hypervolume > 0 and sweep.retrained.empty


def test_the_end_of_a_batch_compares_its_methods(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = pairs_of_seeds(tmp_path, 2, 0.01)
    rows = [(path.name, "made", path.name.split("-")[0], "finished") for path in folders]
    table = pd.DataFrame(rows, columns=["sweep", "space", "method", "state"])
    sweeps: Any = [SimpleNamespace(name=path.name, folder=path) for path in folders]
    batch_compare.report(table, sweeps, tmp_path, Terminal())
    out = capsys.readouterr().out
    assert "two and one are not told apart by hypervolume" in out and "2 pairs of seeds" in out
    assert (tmp_path / "compare-made.html").exists()


@pytest.mark.parametrize("highest, said", [(0.3, "0.20"), (4e6, "2M")])
def test_large_numbers_of_an_axis_are_shortened_and_shares_are_not(highest: float, said: str) -> None:
    axes = Figure().subplots()
    axes.set_xlim(0, highest)
    plots.shorten_numbers(axes, highest)
    axes.figure.canvas.draw()
    assert said in [label.get_text() for label in axes.get_xticklabels()]
