"""The command about the machines: doctor. It returns its exit code."""

from raydistill.config.command_options import DoctorOptions


def doctor(options: DoctorOptions) -> int:
    """Look at this machine, or at every node of the cluster that RAY_ADDRESS names, and say what to do.

    Exit code 1 where a check fails. Nothing is left behind.
    """
    from raydistill.commands.doctor import run

    return run(options)
