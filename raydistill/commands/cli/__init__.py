"""The command line: which commands there are, and how one ends.

Exit codes: 0 done, 1 failed, 2 wrong input, 130 interrupted. The commands are declared in the other files
of this package, their options by the models that they take: the work, and what takes seconds to import, is
in `raydistill.commands`.
"""

import errno
import inspect
import os
import sys
import warnings
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from raydistill import __version__
from raydistill.commands.cli import cluster, looking, networks, output, scoring, search
from raydistill.commands.cli.options import options_from, parameters_of
from raydistill.config.options import CommonOptions, Options
from raydistill.errors import InputError, NoticeWarning, RaydistillError, RenamedWarning, without_passwords

SEARCH, DATA, NETWORKS, CLUSTER = "Search", "Data and evaluator", "Networks", "Cluster"
"""Headings of `raydistill --help`."""


class Command(NamedTuple):
    """A command of the command line."""

    name: str
    """With its group, as it is typed: `sweep`, `data fetch`."""
    run: Callable[[Any], int]
    """Takes the model of its options and returns the exit code."""
    panel: str
    example: str
    """A command line that shows its use."""

    @property
    def options(self) -> type[Options]:
        """The model that declares its options."""
        model = inspect.get_annotations(self.run)["options"]
        assert issubclass(model, Options)
        return model


COMMANDS = (
    Command("sweep", search.sweep, SEARCH, "raydistill sweep --trials 30 --max-macs 8e6 --max-hours 8"),
    Command("plan", search.plan, SEARCH, "raydistill plan --trials 30 --max-macs 8e6 --max-hours 8"),
    Command("batch", search.batch, SEARCH, "raydistill batch docs/how-to/overnight.py --plan"),
    Command(
        "retrain", search.retrain, SEARCH, "raydistill retrain runs/sweeps/default-001 --trial 4 --nimg 50000"
    ),
    Command("config", search.config, SEARCH, "raydistill config --space default --set student.batch_size=32"),
    Command("frontier", search.frontier, SEARCH, "raydistill frontier runs/sweeps/default-001"),
    Command("list", looking.list_sweeps, SEARCH, "raydistill list runs"),
    Command("watch", looking.watch, SEARCH, "raydistill watch runs/sweeps/default-001"),
    Command(
        "compare",
        looking.compare,
        SEARCH,
        "raydistill compare runs/sweeps/known-* runs/sweeps/tpe-* --at 3e6",
    ),
    Command(
        "ablate",
        looking.ablate,
        SEARCH,
        "raydistill ablate runs/sweeps/default-001 --set student.terms.mi.weight=0",
    ),
    Command("plot", looking.plot, SEARCH, "raydistill plot runs/sweeps/default-001 --out front.pdf"),
    Command("track", search.track, SEARCH, "raydistill track runs/sweeps/default-001"),
    Command("promote", search.promote, SEARCH, "raydistill promote runs/sweeps/default-001 --within 2%"),
    Command("data inspect", scoring.inspect_data, DATA, "raydistill data inspect pictures.zip --num 500"),
    Command("data fetch", scoring.fetch_data, DATA, "raydistill data fetch edges2shoes --to data"),
    Command(
        "evaluator train",
        scoring.train_evaluator,
        DATA,
        "raydistill evaluator train --set evaluator.budget_nimg=20000",
    ),
    Command(
        "evaluate",
        scoring.evaluate,
        DATA,
        "raydistill evaluate runs/sweeps/default-001/trials/0004 --split test",
    ),
    Command(
        "teacher import",
        networks.import_teacher,
        NETWORKS,
        "raydistill teacher import latest_net_G.pth --out teacher",
    ),
    Command(
        "generate",
        networks.generate,
        NETWORKS,
        "raydistill generate runs/sweeps/default-001/trials/0004 --data in --out out",
    ),
    Command(
        "export",
        networks.export,
        NETWORKS,
        "raydistill export runs/sweeps/default-001/trials/0004 --out student.onnx",
    ),
    Command(
        "latency",
        networks.latency,
        NETWORKS,
        "raydistill latency runs/sweeps/default-001/trials/0004 --batch-size 16",
    ),
    Command("doctor", cluster.doctor, CLUSTER, "raydistill doctor --store runs"),
)
"""Every command, in the order of the help."""
GROUPS = {
    "data": ("Look at a data set of your own, or bring a public one.", DATA),
    "evaluator": ("Train the network that scores generated pictures and gives no loss.", DATA),
    "teacher": ("Import a generator that was trained elsewhere.", NETWORKS),
}
"""First word of a command of two words -> what its help says, and its heading."""


class _Command(TyperCommand):
    """A command whose help lists --help below the command's own options, and says no type of it."""

    def get_help_option(self, ctx: Any) -> Any:
        return _restyled(super().get_help_option(ctx), panel="Other")


class _Group(TyperGroup):
    """The command line, or a group of commands."""

    def get_help_option(self, ctx: Any) -> Any:
        return _restyled(super().get_help_option(ctx), panel=None)


def _restyled(help_option: Any, panel: str | None) -> Any:
    if help_option is not None:
        help_option.rich_help_panel, help_option.metavar = panel, ""
    return help_option


app = typer.Typer(cls=_Group, add_completion=False, pretty_exceptions_enable=False)


def _say_version(asked: bool) -> None:
    if asked:
        print(f"raydistill {__version__}")
        raise typer.Exit


@app.callback(no_args_is_help=True)
def _about(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            metavar="",
            help="Print the version and exit.",
            callback=_say_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Compress GAN generators by distillation: the Pareto front of students, quality against cost.

    Every command has a --help. Exit codes: 0 done, 1 failed, 2 wrong input, 130 interrupted.
    """


def _callback(command: Command) -> Callable[..., None]:
    """What typer calls for a command: its parameters are the options, and it ends with the exit code.

    Plug-ins are imported before the command runs.
    """

    def call(**typed: Any) -> None:
        try:
            if plugins_typed := options_from(CommonOptions, typed).plugin:
                from raydistill import plugins

                plugins.load(list(plugins_typed))
            code = command.run(options_from(command.options, typed))
        except (SystemExit, GeneratorExit) as error:  # our own code returns its exit code
            raise InputError(
                f"{type(error).__name__} {error}: a plug-in, a search space or a batch file ended the "
                "command; take that out of it"
            ) from None
        raise typer.Exit(code)

    parameters = [*parameters_of(command.options), *parameters_of(CommonOptions)]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {each.name: each.annotation for each in parameters}
    return call


def help_of(run: Callable[..., int]) -> str:
    """The docstring with a line a paragraph: typer itself unfolds the first one only."""
    paragraphs = (inspect.getdoc(run) or "").split("\n\n")
    return "\n\n".join(paragraph.replace("\n", " ") for paragraph in paragraphs)


def _register() -> None:
    """Makes typer's groups and commands of GROUPS and COMMANDS."""
    groups = {}
    for name, (text, panel) in GROUPS.items():
        groups[name] = typer.Typer(cls=_Group, no_args_is_help=True, help=text)
        app.add_typer(groups[name], name=name, rich_help_panel=panel)
    for command in COMMANDS:
        *group, name = command.name.split()
        register = (groups[group[0]] if group else app).command(
            name,
            cls=_Command,
            help=help_of(command.run),
            epilog=f"Example:\n\n{command.example}",
            rich_help_panel=None if group else command.panel,
        )
        register(_callback(command))


_register()


def main() -> None:
    """Runs the command line and ends the process with its exit code; errors of ours end in one message."""
    output.make_safe()
    warnings.filterwarnings("ignore")
    warnings.filterwarnings("default", category=RenamedWarning)
    warnings.filterwarnings("always", category=NoticeWarning)
    warnings.showwarning = lambda message, *place, **more: output.say(f"raydistill: {message}")
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    os.environ.setdefault("PYTHONSAFEPATH", "1")  # no process of ours imports from the working folder
    sys.exit(output.flushed(_exit_code()))


def _exit_code() -> int:
    """Runs the command that was typed; its exit code."""
    try:
        app()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except RaydistillError as error:
        output.say(f"raydistill: {without_passwords(str(error))}")
        return error.exit_code
    except OSError as error:
        if error.errno == errno.EPIPE:
            return output.CLOSED
        if error.errno != errno.ENAMETOOLONG:
            raise
        output.say(f"raydistill: {error.filename}: {error.strerror}; give a shorter one")
        return 2
    return 0
