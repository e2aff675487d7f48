"""A sweep that runs, was interrupted, or is a copy: its page and `raydistill frontier`."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_measured import embedded, run, sweep  # noqa: F401

from raydistill.errors import NoticeWarning, StoreError
from raydistill.records import locks
from raydistill.sweep import page, unfinished


@pytest.fixture
def begun(sweep: Path) -> Iterator[Path]:  # noqa: F811
    """A sweep of which one student has no result yet."""
    for path in (*sweep.glob("trials.*"), *sweep.glob("evaluations.*")):
        path.unlink()
    (sweep / "trials" / "0006" / "result.json").unlink()
    yield sweep


def test_frontier_prints_what_there_is_and_draws_the_page(
    begun: Path,
    run: Callable[..., int],  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("frontier", begun) == 0
    out = capsys.readouterr().out
    assert "Pareto front of old" in out and "partial: the sweep has not ended, nothing trains it here" in out
    data = embedded(begun)
    assert data["moment"]["state"] == "unfinished" and data["moment"]["drawn"].startswith("20")
    assert [row["status"] for row in data["rows"] if row["trial_id"] == "0006"] == ["RUNNING"]


def test_while_another_process_holds_the_sweep_the_page_says_that_it_runs(begun: Path) -> None:
    with locks.locked(begun / "lock", what="sweep old", wait=False):
        unfinished.draw(begun, unfinished.read(begun))
        assert embedded(begun)["moment"]["state"] == "running"
    assert not unfinished.read(begun).is_running


def test_frontier_prints_json_that_names_the_front_and_has_all_columns(
    sweep: Path,  # noqa: F811
    run: Callable[..., int],  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("frontier", sweep, "--json") == 0
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert said["sweep"] == "old" and said["state"] == "ended" and said["outcome"].endswith(".")
    members = [row["trial_id"] for row in said["trials"] if row["front.member"]]
    assert sorted(said["front"]) == sorted(members) and members
    assert {"cost.macs", "metric.val/miou", "status"} <= set(said["trials"][0])


def test_a_resumed_sweep_whose_ledger_is_newer_than_its_tables_is_unfinished(sweep: Path) -> None:  # noqa: F811
    assert not unfinished.is_unfinished(sweep)
    added = sweep / "trials" / "9999"
    added.mkdir()
    (added / "result.json").write_text("{}")
    assert unfinished.is_unfinished(sweep)


def test_without_a_page_record_the_references_are_the_worst_numbers_so_far(begun: Path) -> None:
    (begun / page.FILE).unlink()
    record = unfinished.read(begun).record
    assert dict(record.objectives).keys() == {"val/kd_evaluator", "cost/macs"}, "by their present names"
    macs = unfinished.read(begun).trials.query("role in ('search', 'uniform', 'no_teacher')")["cost.macs"]
    reference = dict(zip(dict(record.objectives), record.reference, strict=True))
    assert 0 < reference["cost/macs"] <= macs.max()


def test_a_sweep_without_a_trial_has_a_page_without_a_front(begun: Path) -> None:
    shutil.rmtree(begun / "trials")
    (begun / page.FILE).unlink()
    unfinished.draw(begun, unfinished.read(begun))
    data = embedded(begun)
    assert data["rows"] == [] and data["outcome"] == "No student has been trained to its end yet."


def test_a_half_copied_sweep_and_a_folder_without_one_are_refused_in_a_line(
    begun: Path,
    run: Callable[..., int],  # noqa: F811
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    (begun / "trials" / "0005" / "trial.json").unlink()
    assert run("frontier", begun) == 2
    assert "a result.json without the trial.json of its trial" in capsys.readouterr().err
    with pytest.raises(StoreError, match=r"no sweep here \(no sweep\.json\)"):
        unfinished.is_unfinished(tmp_path)


def test_a_folder_that_cannot_be_written_is_printed_and_the_page_said_to_be_missing(
    begun: Path,
    run: Callable[..., int],  # noqa: F811
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuses(*arguments: Any, **named: Any) -> None:
        raise StoreError("frontier.html: Read-only file system")

    monkeypatch.setattr(unfinished.page, "draw", refuses)
    assert run("frontier", begun) == 0
    out, err = capsys.readouterr()
    assert "the page was not drawn: frontier.html: Read-only file system" in err and "Pareto front" in out


def test_a_live_page_is_drawn_when_it_is_due_and_stops_no_sweep(
    begun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = unfinished.LivePage(begun)
    live.trial_ended()
    assert not (begun / "frontier.html").exists(), "too early"
    monkeypatch.setattr(unfinished, "_LEAST_SEC", 0.0)
    live = unfinished.LivePage(begun)
    live.trial_ended()
    drawn = os.stat(begun / "frontier.html").st_mtime_ns
    live.trial_ended()
    assert os.stat(begun / "frontier.html").st_mtime_ns == drawn, "drawing takes a small share of the time"
    (begun / "trials" / "0005" / "trial.json").unlink()
    with pytest.warns(NoticeWarning, match="the page was not drawn while the sweep runs"):
        unfinished.LivePage(begun).trial_ended()
