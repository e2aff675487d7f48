"""The slow tests, in groups of less than 30 minutes each.

`make slow` runs all groups, `make slow GROUP="sweeps nodes"` runs these two. A group that has passed on
what is checked out is not run again, so `make slow` can be stopped and started again at any time.
`docs/slow-tests.md` says when each group passed last, and on which commit: this script writes it.
"""

import datetime
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
TABLE = Path("docs/slow-tests.md")
FAMILIES = "test_families_real.py::test_a_family_trains_as_teacher_and_as_students_on_real_pictures"

PUBLISHED = "test_published_real.py::test_a_published_experiment_goes_from_its_command_to_its_page"


class Group(NamedTuple):
    what: str
    """What its slow tests show, for the page."""
    places: tuple[str, ...]
    """Its files below tests/, or its tests. Files may have tests that are not slow: these are not run."""


GROUPS: dict[str, Group] = {
    "parts": Group(
        "further cases of tests of every run; a proposal's time and regret; replicates after a kill",
        (
            *("test_budgets.py", "test_cli.py", "test_experiments.py", "test_export.py", "test_families.py"),
            "test_file_scorers.py::test_several_workers_give_the_numbers_of_one",
            *(
                "test_families_train.py",
                "test_limits.py",
                "test_memory.py",
                "test_once.py",
                "test_own_process.py",
                "test_plan.py",
                "test_place.py::test_placing_needs_no_ray",
            ),
            *(
                "test_recipes.py",
                "test_replicates_real.py",
                "test_samplers.py",
                "test_scorer_kits.py",
                "test_search.py",
            ),
            *("test_search_kit.py", "test_terminal.py", "test_terms.py", "test_train.py"),
        ),
    ),
    "truth": Group("the bound against the known truth, one to eight dimensions", ("test_truth.py",)),
    "sweeps": Group(
        "whole sweeps: SIGTERM and SIGKILL, divergence, early stopping, replicates, warm start; from Python",
        (
            *("test_sweep.py", "test_failures.py", "test_public_face.py", "test_teacher_file.py"),
            "test_retrain_front.py",
            "test_ablate.py",
        ),
    ),
    "clusters": Group(
        "submitted jobs, wrong tokens, two nodes, two sweeps on one machine, a killed batch, the cookbook",
        (
            *("test_batch.py", "test_cookbook.py", "test_doctor.py", "test_jobs.py", "test_on_every_node.py"),
            "test_wheel.py",
            "test_place.py::test_a_second_sweep_on_this_machine_is_not_taken_for_the_first",
        ),
    ),
    "cases": Group(
        "the scripts of tests/cases on places and terminals; a kill; advice that is followed in whole sweeps",
        ("test_cases.py",),
    ),
    "folders": Group(
        "ten folders as people have them, each from `data inspect` to the end of a smoke sweep",
        ("test_ten_folders.py",),
    ),
    "data-cases": Group(
        "the scripts of tests/cases on data and teachers",
        ("test_data_cases.py",),
    ),
    "tracking": Group(
        "an MLflow server that stops for three minutes or never answers, a lock for a minute",
        (
            "test_tracking.py",
            "test_tracking_view.py",
            "test_tracking_real.py::test_a_server_that_is_away_for_three_minutes_has_everything_at_the_end",
            "test_tracking_real.py::test_a_file_that_another_program_locks_for_a_minute_holds_nothing_up",
            "test_tracking_real.py"
            "::test_without_a_server_to_the_end_the_command_that_is_said_sends_everything",
        ),
    ),
    "shipped": Group(
        "promoted models where neither raydistill nor torch is; a server with a password and a bucket",
        ("test_shipped.py", "test_team_server.py"),
    ),
    "postgres": Group(
        "an MLflow server on PostgreSQL: 256 reporting trials, a tracked sweep; the rows of an sqlite file",
        ("test_postgres.py",),
    ),
    "first-seconds": Group(
        "twelve kills while a results folder is made, and a sweep after each",
        (
            "test_tracking_real.py"
            "::test_a_kill_in_the_first_seconds_of_a_first_sweep_leaves_a_store_that_works",
        ),
    ),
    "docs": Group("what tutorials and how-to pages print, run from an empty folder", ("test_docs.py",)),
    "stops": Group("stopped trials give everything back; shares of a GPU", ("test_stops.py",)),
    "cards": Group(
        "the benchmarks of GPUs on a CPU: every part; a killed run goes on; Ray Train over gloo",
        ("test_gpu_benchmark.py", "test_gpu_nodes.py"),
    ),
    "nodes": Group(
        "nodes that are lost, and a node that does not see the results",
        (
            "test_nodes.py::test_a_results_folder_that_a_node_does_not_see_is_refused",
            "test_nodes.py::test_a_trial_on_a_lost_node_goes_on_from_its_checkpoint_on_a_spare",
            "test_nodes.py::test_without_a_spare_the_sweep_says_so_and_ends_and_resumes",
        ),
    ),
    "object-store": Group(
        "results on an object store, which is all that driver and nodes share",
        ("test_nodes.py::test_results_on_an_object_store_which_is_all_that_driver_and_nodes_share",),
    ),
    "machines": Group(
        "`ray submit`, `ray job submit` and SLURM on machines, one lost, one joined; needs root",
        ("test_submit.py",),
    ),
    "default-task": Group(
        "the default task tells students apart, three seeds", ("test_it_measures_something.py",)
    ),
    "bases": Group(
        "every base distillation trains a student, three seeds each; further cases of recorded teachers",
        ("test_bases_train.py", "test_record.py"),
    ),
    "scorers": Group(
        "sweeps by SqueezeNet, a segmenter of its own on CamVid, and Inception of other weights",
        ("test_file_scorers_real.py",),
    ),
    "published-pairs": Group(
        "every published experiment on pairs at --scale smoke, from its command to page and MLflow",
        tuple(
            f"{PUBLISHED}[{name}]"
            for name in (
                *("pix2pix_edges2shoes_unet", "pix2pix_edges2shoes_resnet", "pix2pix_cityscapes_unet"),
                "pix2pix_cityscapes_resnet",
            )
        ),
    ),
    "published": Group(
        "the other published experiments at --scale smoke, from their command to page and MLflow",
        tuple(
            f"{PUBLISHED}[{name}]"
            for name in (
                *("cyclegan_horse2zebra", "cyclegan_summer2winter", "sagan_celeba64", "stylegan2_ffhq256"),
                "enhance_x2",
            )
        ),
    ),
    "pix2pix": Group("on CamVid: teacher and three students", (f"{FAMILIES}[pix2pix]",)),
    "enhance": Group("on CamVid: teacher and three students", (f"{FAMILIES}[enhance]",)),
    "sagan": Group("on Fashion-MNIST: teacher and three students", (f"{FAMILIES}[sagan]",)),
    "stylegan2": Group("on emoji: teacher and three students", (f"{FAMILIES}[stylegan2]",)),
    "cyclegan": Group("on CamVid, day to dusk: teacher and three students", (f"{FAMILIES}[cyclegan]",)),
}
"""Each slow test is in one group: `conftest.py` refuses one that is not."""
FURTHER_CASES: dict[str, tuple[str, ...]] = {
    "test_record.py::test_a_student_that_reads_gets_the_bits_of_one_that_trains_its_teachers": (
        *("not-mirrored, three steps a teacher's", "vem", "vid, one teacher", "half precision"),
        "without channels, no average",
    ),
    "test_record.py::test_a_damaged_record_is_said_removed_and_made_again": ("a bit", "gone", "no hashes"),
    "test_record.py::test_a_step_never_waits_whether_teachers_train_or_are_read": (
        *("False-alone", "False-vem", "True-vem"),
    ),
    "test_budgets.py::test_memory_as_a_function_of_widths_is_the_memory_of_the_modules": (
        *("resnet", "mobile_resnet", "unet"),
    ),
    "test_experiments.py::test_a_documented_command_checks_the_real_layout_and_trains_nothing": (
        *("pix2pix, edges2shoes, U-Nets", "pix2pix, edges2shoes, ResNets", "pix2pix, Cityscapes, U-Nets"),
        *("pix2pix, Cityscapes, ResNets", "CycleGAN, horse2zebra", "CycleGAN, summer2winter"),
        "StyleGAN2, FFHQ",
        "Enhancement, any pictures",
    ),
    "test_export.py::test_an_exported_generator_puts_out_what_pytorch_does_at_any_batch_size": (
        *("mobile_resnet-torchscript", "unet-deep-torchscript", "sagan-torchscript", "stylegan2-torchscript"),
    ),
    "test_families.py::test_the_closed_form_counts_what_the_module_counts_on_random_configs": (
        *("mobile_resnet-8", "unet-8"),
    ),
    "test_families_train.py::test_the_error_of_a_family_falls_and_its_scores_are_finite": (
        *("mobile_resnet-teacher", "unet-student", "unet-batch-teacher", "unet-deep-student"),
    ),
    "test_memory.py::test_what_is_predicted_to_live_in_tensors_does_while_it_trains": (
        *("sagan-teacher", "stylegan2-teacher"),
    ),
    "test_recipes.py::test_a_stopped_and_resumed_training_equals_one_that_never_stopped": (
        *("student-enhance", "student-sagan", "student-stylegan2", "student-cyclegan", "teacher-sagan"),
        "teacher-stylegan2",
    ),
    "test_samplers.py::test_two_to_four_objectives_with_none_to_two_known_costs": ("objectives3",),
    "test_search.py::test_the_startup_proposals_of_the_default_space"
    "_lie_one_in_each_stratum_of_the_cost_axis": ("8-0",),
    "test_search_kit.py::TestSampler::test_a_space_is_proposed_to_its_last_configuration_and_then_refused": (
        *("gp-COMPLETE", "tpe-COMPLETE"),
    ),
    "test_search_kit.py::test_what_was_told_and_what_is_running_count_or_do_not": ("gp",),
    "test_search_kit.py::TestSampler::test_where_every_trial_is_alike_proposals_go_on": (
        "gp-measures the same",
    ),
    "test_search_kit.py::test_stopped_trials_count_as_proposed_and_windows_hold": ("known-cost-threshold",),
    "test_terminal.py::test_frontier_on_a_real_terminal_fits_it_and_a_pipe_gets_one_wide_table": ("100",),
    "test_tracking.py::test_what_fails_for_a_while_is_all_there_afterwards_and_nothing_twice": (
        *("send-error0", "_start_trial-error3", "end-error5"),
    ),
    "test_tracking.py::test_a_file_that_is_removed_in_the_middle_is_made_again_from_what_is_known": (
        "0",
        "4",
    ),
    "test_tracking.py::test_what_a_kill_left_of_the_default_file_is_made_again": ("1", "5"),
    "test_terms.py::test_a_stopped_and_resumed_run_equals_one_that_never_stopped_bit_for_bit": (
        *("vem-other", "vem-noise", "vem-no-steps", "critic"),
    ),
    "test_terms.py::test_microbatches_give_what_the_whole_batch_gives": (
        *("vem-other", "vem-noise", "vem-no-steps", "critic"),
    ),
    "test_train.py::test_microbatches_give_what_the_whole_batch_gives": (
        *("1-evaluator", "1-pix2pix", "1-distill"),
    ),
}
"""Tests of many cases, and the cases that are slow: those that take most, and whose code other cases meet."""
LIMIT_SEC = 1800
HEADER = f"""\
# Slow tests

`make slow` runs these groups, `make slow GROUP="sweeps nodes"` runs two of them. Each takes less than
{LIMIT_SEC // 60} minutes on two idle cores. `tests/slow_groups.py` says which tests are in which group; it
writes this page after each group that it runs. The page began with the move into packages: "never" means
not since then.

A group that passed is not run again while the tree is that of the commit where it passed, apart from this
page. A `+` after a commit says that there were changes which were not committed; such a group is run again.
"Failed since" is empty where the last run passed.


"""
COLUMNS = ("group", "what", "last passed", "commit", "seconds", "tests", "failed since")
NEVER = "never"


class Row(NamedTuple):
    """One group in the table; a field for each of `COLUMNS`."""

    group: str
    what: str
    passed: str = NEVER
    commit: str = ""
    seconds: str = ""
    tests: str = ""
    failed: str = ""


class Counts(NamedTuple):
    """Of the tests of one run of a group."""

    passed: int
    failed: int
    skipped: int

    def __str__(self) -> str:
        parts = [f"{number} {name}" for name, number in self._asdict().items() if number]
        return ", ".join(parts) or "no test"


def is_further_case(test: str) -> bool:
    """Whether a test, by its pytest id below tests/, is one of `FURTHER_CASES`."""
    name, _, case = test.partition("[")
    return case.removesuffix("]") in FURTHER_CASES.get(name, ())


def groups_of(test: str) -> list[str]:
    """Names of the groups that a test belongs to; `test` is its pytest id below tests/."""
    return [
        name
        for name, group in GROUPS.items()
        if any(test == place or test.startswith((f"{place}::", f"{place}[")) for place in group.places)
    ]


def read(table: Path) -> dict[str, Row]:
    """The rows of the page by group; a group that the page does not have has never passed."""
    lines = table.read_text().splitlines() if table.exists() else []
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| ")]
    rows = {row[0]: row[2:] for row in cells[1:]}
    return {name: Row(name, group.what, *rows.get(name, ())) for name, group in GROUPS.items()}


def write(table: Path, rows: dict[str, Row]) -> None:
    lines = [f"| {' | '.join(row)} |".replace("  ", " ") for row in (COLUMNS, *rows.values())]
    lines.insert(1, "|" + "---|" * len(COLUMNS))
    table.write_text(HEADER + "\n".join(lines) + "\n")


def git(*arguments: str) -> str:
    """What git prints about this checkout."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def changes(since: str) -> bool:
    """Whether the tree differs from that of a commit, apart from the page."""
    if git("status", "--porcelain", "--", ".", f":!{TABLE}"):
        return True
    known = subprocess.run(["git", "cat-file", "-e", f"{since}^{{commit}}"], cwd=ROOT, capture_output=True)
    return known.returncode != 0 or bool(git("diff", "--name-only", since, "--", ".", f":!{TABLE}"))


def is_done(row: Row) -> bool:
    """Whether the group passed on what is checked out."""
    return row.passed != NEVER and not row.failed and not row.commit.endswith("+") and not changes(row.commit)


def counts(report: Path) -> Counts:
    """Of a report in JUnit's form."""
    suites = [suite.attrib for suite in ElementTree.parse(report).iter("testsuite")]
    number = {
        name: sum(int(suite[name]) for suite in suites) for name in ("tests", "failures", "errors", "skipped")
    }
    failed = number["failures"] + number["errors"]
    return Counts(number["tests"] - failed - number["skipped"], failed, number["skipped"])


def run(name: str, options: Sequence[str] = ()) -> tuple[Counts, float]:
    """Runs a group; its counts and the seconds it took."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-s", "-m", "slow", f"--junitxml={report}", *options]
        began = time.monotonic()
        subprocess.run(
            [*command, *(f"tests/{place}" for place in GROUPS[name].places)], cwd=ROOT, check=False
        )
        seconds = time.monotonic() - began
        return (counts(report) if report.exists() else Counts(0, 1, 0)), seconds


def after(row: Row, result: Counts, seconds: float, commit: str, date: str) -> Row:
    """The row after a run."""
    if result.failed or not result.passed:
        return row._replace(failed=f"{date}, {commit}: {result}")
    return Row(row.group, row.what, date, commit, f"{seconds:.0f}", str(result))


def main(arguments: Sequence[str]) -> int:
    names = [argument for argument in arguments if not argument.startswith("-")] or list(GROUPS)
    if unknown := [name for name in names if name not in GROUPS]:
        print(f"no group {', '.join(unknown)}; there are: {', '.join(GROUPS)}", file=sys.stderr)
        return 2
    options = [argument for argument in arguments if argument.startswith("-")]
    table, failed = ROOT / TABLE, []
    for name in names:
        rows = read(table)
        if is_done(rows[name]):
            print(f"{name}: passed on {rows[name].commit} on {rows[name].passed}; nothing has changed since")
            continue
        commit = git("rev-parse", "--short=12", "HEAD") + ("+" if changes("HEAD") else "")
        result, seconds = run(name, options)
        rows[name] = after(rows[name], result, seconds, commit, datetime.date.today().isoformat())
        write(table, rows)
        failed += [name] if rows[name].failed else []
        print(f"{name}: {result} in {seconds:.0f} s")
        if seconds > LIMIT_SEC:
            print(f"{name} took more than {LIMIT_SEC} s: on idle cores, split it in tests/slow_groups.py")
    if failed:
        print(f"failed: {', '.join(failed)}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
