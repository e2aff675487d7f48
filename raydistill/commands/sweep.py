"""`raydistill sweep` and `raydistill plan`: run a sweep, or print what it will take."""

import contextlib
import dataclasses
import sys

from raydistill.commands.printed_json import print_json, rows
from raydistill.config.sweep_options import SweepCommandOptions
from raydistill.sweep.plan_report import PlanReport
from raydistill.sweep.run import plan_sweep, run_sweep
from raydistill.sweep.sweep_result import SweepResult
from raydistill.terminal import Terminal


def run(options: SweepCommandOptions) -> int:
    """Runs, resumes or, with `options.plan`, only plans a sweep, and prints it.

    Returns:
        the exit code: 0; 1 where a training of the plan failed at its first steps.

    Raises:
        InputError, RunError, KeyboardInterrupt: see `run_sweep`.
    """
    if not options.plan:
        with contextlib.redirect_stdout(sys.stderr) if options.as_json else contextlib.nullcontext():
            sweep = run_sweep(options, verbose=True)
        if options.as_json:
            print_json(_of_sweep(sweep))
        return 0
    terminal, report = Terminal(), plan_sweep(options)
    if options.as_json:
        print_json(_of_plan(report))
        return int(report.fails)
    for line in report.lines:
        terminal.say(line)
    return int(report.fails)


def _of_sweep(sweep: SweepResult) -> dict[str, object]:
    """The end of a sweep as JSON data."""
    return {
        "sweep": sweep.name,
        "path": str(sweep.path),
        "ended_by": sweep.ended_by,
        "objectives": [{"name": name, "direction": way} for name, way in sweep.objectives],
        "reference": list(sweep.reference),
        "hypervolume": sweep.hypervolume,
        "front": rows(sweep.front),
        "trials": rows(sweep.trials),
    }


def _of_plan(report: PlanReport) -> dict[str, object]:
    """A plan as JSON data: the fields of `PlanReport`."""
    fields = {each.name: getattr(report, each.name) for each in dataclasses.fields(report)}
    return fields | {"students": rows(report.students)}
