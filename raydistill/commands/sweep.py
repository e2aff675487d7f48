"""`raydistill sweep` and `raydistill plan`: run a sweep, or print what it will take."""

from raydistill.config.sweep_options import SweepOptions
from raydistill.sweep.run import plan_sweep, run_sweep
from raydistill.terminal import Terminal


def run(options: SweepOptions) -> int:
    """Runs, resumes or, with `options.plan`, only plans a sweep, and prints it.

    Returns:
        the exit code: 0; 1 where a training of the plan failed at its first steps.

    Raises:
        InputError, RunError, KeyboardInterrupt: see `run_sweep`.
    """
    if not options.plan:
        run_sweep(options, verbose=True)
        return 0
    terminal, report = Terminal(), plan_sweep(options)
    for line in report.lines:
        terminal.say(line)
    return int(report.fails)
