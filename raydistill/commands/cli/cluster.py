"""The command about the machines: doctor. It returns its exit code."""

from typing import Annotated

from raydistill.commands.cli.options import flag, option


def doctor(
    store: Annotated[
        str, option("FOLDER|URL", "Results folder, or s3:// address, that sweeps will be given.")
    ] = "runs",
    mlflow: Annotated[
        str | None,
        option(
            "URI", "Tracking server or store that sweeps will be given. Default: an sqlite file in --store."
        ),
    ] = None,
    experiment: Annotated[str, option("NAME", "MLflow experiment that sweeps will be given.")] = "raydistill",
    as_json: Annotated[bool, flag("--json", "Print the findings as JSON.")] = False,
) -> int:
    """Look at this machine, or at every node of the cluster that RAY_ADDRESS names, and say what to do.

    Exit code 1 where a check fails. Nothing is left behind.
    """
    from raydistill.commands.doctor import run
    from raydistill.records.mirror import folder_of

    return run(folder_of(store), mlflow, experiment, as_json=as_json)
