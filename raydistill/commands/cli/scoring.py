"""Commands about data and scores: data inspect, data fetch, evaluator train, evaluate.

Each returns its exit code.
"""

from pathlib import Path
from typing import Annotated

from raydistill.commands.cli.options import argument, flag, option
from raydistill.errors import say_renamed

REFERENCE, SCORERS, PICTURES, OUTPUT = (
    "What it is compared with",
    "What scores it",
    "Pictures and intervals",
    "Output",
)


def inspect_data(
    path: Annotated[Path, argument("DATA", "Folder, zip or npz file.")],
    layout: Annotated[
        str, option("NAME", "Layout of the folder, where the one that is found is wrong.")
    ] = "auto",
    num: Annotated[
        int | None, option("N", "Decode at most so many pictures, evenly spread. Default: all.")
    ] = None,
    sheet: Annotated[
        Path, option("FILE", "PNG file that a contact sheet of the pictures is written to.")
    ] = Path("contact-sheet.png"),
    as_json: Annotated[bool, flag("--json", "Print the facts as JSON.")] = False,
) -> int:
    """Say what a data set is before anything is trained on it: layout, counts, sizes, classes, every problem.

    A contact sheet shows what its pictures look like. Exit code 1 where there are problems.
    """
    from raydistill.config.paths import validated
    from raydistill.data.inspect import InspectOptions, run

    options = {"path": path, "layout": layout, "num": num, "sheet": sheet, "as_json": as_json}
    return run(validated(InspectOptions, options, where="command line"))


def fetch_data(
    name: Annotated[str, argument("NAME", "Name of a public data set; an unknown name lists all.")],
    to: Annotated[Path, option("FOLDER", "Where the data set's own folder is made.")] = Path("data"),
    mirror: Annotated[
        str | None,
        option("URL", "Folder with the same files. Default: the publisher's address."),
    ] = None,
    sha256: Annotated[
        str | None,
        option("DIGEST", "Checksum to demand of the file, for a data set whose publisher names none."),
    ] = None,
) -> int:
    """Bring a public data set from its official address: checked, resumed, unpacked.

    No other command downloads anything.
    """
    from raydistill.config.paths import validated
    from raydistill.data.fetch import FetchOptions, run

    options = {"name": name, "to": to, "mirror": mirror, "sha256": sha256}
    return run(validated(FetchOptions, options, where="command line"))


def train_evaluator(
    space: Annotated[
        str,
        option("NAME|FILE", "Search space whose evaluator is trained: a name, or the path of a .py file."),
    ] = "default",
    data: Annotated[
        str | None, option("FOLDER", "Pictures to train on, for spaces that do not draw their own.")
    ] = None,
    store: Annotated[str, option("FOLDER|URL", "Results folder; sweeps in it use this evaluator.")] = "runs",
    set_: Annotated[
        list[str] | None, option("PATH=VALUE", "Set a config path. Repeatable.", name="--set")
    ] = None,
) -> int:
    """Train the evaluator of a search space on data of your own.

    It says its ceiling, too: the score that real pictures get.
    """
    from raydistill.commands.evaluator import EvaluatorOptions, run
    from raydistill.config.paths import validated

    options = {"space": space, "data": data, "store": store, "set": tuple(set_ or ())}
    return run(validated(EvaluatorOptions, options, where="command line"))


# The function is long because it declares every option.
def evaluate(
    given: Annotated[
        list[str],
        argument(
            "GIVEN",
            "What is scored: folders of networks, trials or checkpoints, ONNX files, or pictures in "
            "folders, zip "
            "or npz files.",
        ),
    ],
    data: Annotated[
        str | None,
        option(
            "FOLDER|shapes",
            "Data set, as a folder or as prepared data, or the pictures that raydistill draws. Default: "
            "what the "
            "trials were trained on.",
            panel=REFERENCE,
        ),
    ] = None,
    split: Annotated[str, option("NAME", "Split of --data: train, val or test.", panel=REFERENCE)] = "val",
    set_: Annotated[
        list[str] | None,
        option("PATH=VALUE", "Set a config path of the data. Repeatable.", name="--set", panel=REFERENCE),
    ] = None,
    real: Annotated[
        str | None,
        option(
            "PICTURES",
            "Instead of --data: a folder, zip or npz file of pictures, as they are.",
            panel=REFERENCE,
        ),
    ] = None,
    paired: Annotated[
        bool,
        flag("--paired", "Picture number i of a folder belongs to real picture number i.", panel=REFERENCE),
    ] = False,
    store: Annotated[
        str, option("FOLDER|URL", "Results folder that decoded data are kept in.", panel=REFERENCE)
    ] = "runs",
    extractor: Annotated[
        list[str] | None,
        option(
            "KIND=FILE",
            "Network for Frechet and kernel distances, and its weights: inception, vgg16, squeezenet or "
            "torchscript. Repeatable. torchscript=FILE RUNS the code in the file; the others run nothing.",
            panel=SCORERS,
        ),
    ] = None,
    segmenter: Annotated[
        list[str] | None,
        option(
            "KIND=FILE",
            "Network for mIoU at the size of the label files, and its weights: drn105 or torchscript. "
            "Repeatable. torchscript=FILE RUNS the code in the file; drn105 runs nothing.",
            panel=SCORERS,
        ),
    ] = None,
    evaluator: Annotated[
        str | None,
        option("FOLDER", "Evaluator. Default: the one that the trials were scored by.", panel=SCORERS),
    ] = None,
    judge: Annotated[str | None, option("FOLDER", "", hidden=True)] = None,
    num: Annotated[
        int | None,
        option(
            "N",
            "Score only so many pictures of each set, drawn from a fixed seed. Default: all.",
            panel=PICTURES,
        ),
    ] = None,
    resamples: Annotated[
        int,
        option(
            "N",
            "Bootstrap resamples for the 95 % interval of each score; 0: no intervals.",
            panel=PICTURES,
        ),
    ] = 200,
    against: Annotated[
        str | None,
        option(
            "FILE",
            "What --json printed before; its scores are shown below, where they can be compared.",
            panel=OUTPUT,
        ),
    ] = None,
    as_json: Annotated[bool, flag("--json", "Print the scores as JSON.", panel=OUTPUT)] = False,
) -> int:
    """Score generators, ONNX files and folders of pictures against real pictures.

    Nothing is downloaded: weights of published networks are files that you name.
    """
    from raydistill.commands.evaluate import EvaluateOptions, run
    from raydistill.config.paths import validated

    if judge is not None:
        say_renamed("--judge", "--evaluator")
        evaluator = evaluator or judge
    options = {
        "given": tuple(given),
        "data": data,
        "real": real,
        "split": split,
        "set": tuple(set_ or ()),
        "extractors": tuple(extractor or ()),
        "segmenters": tuple(segmenter or ()),
        "evaluator": evaluator,
        "paired": paired,
        "num": num,
        "resamples": resamples,
        "against": against,
        "store": store,
        "as_json": as_json,
    }
    return run(validated(EvaluateOptions, options, where="command line"))
