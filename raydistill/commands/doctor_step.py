"""`raydistill doctor --step`: what one training step asks of a GPU, counted without one."""

import json

from raydistill.config.command_options import DoctorOptions
from raydistill.planning.known_steps import named_step
from raydistill.planning.step_counts import StepCounts, count_step
from raydistill.terminal import Terminal

_MOST_COPIES = 1


def run(options: DoctorOptions) -> int:
    """Prints the counts; returns the exit code: 1 where the step waits, draws on the host or copies twice."""
    assert options.step is not None
    step = named_step(options.step, options.set, options.stage, options.resident)
    counts = count_step(step.counted)
    if options.as_json:
        print(json.dumps({"step": options.step, "what": step.words} | counts._asdict(), indent=1))
    else:
        _print(f"{options.step}: {step.words}", counts)
    is_fine = not counts.waits and counts.host_to_device_copies <= _MOST_COPIES and counts.pinned
    return 0 if is_fine else 1


def _print(title: str, counts: StepCounts) -> None:
    terminal = Terminal()
    terminal.console.print(title)
    for name, value in counts._asdict().items():
        if name == "waits":
            continue
        shown = (
            value
            if isinstance(value, bool)
            else f"{value:,.1f}"
            if isinstance(value, float)
            else f"{value:,}"
        )
        terminal.entry(f"{name:24}", str(shown))
    for wait in counts.waits:
        terminal.entry(f"{'waits':24}", wait)
